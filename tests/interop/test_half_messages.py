"""Transactions in two steps: x-transaction on whatever is published, then commit or rollback to amq.godwit.transactions. No other broker of AMQP 0-9-1 has them."""
import threading
import time

import pika
import pytest
import requests

pytestmark = pytest.mark.godwit_only("RabbitMQ has no half messages")

DECISIONS = "amq.godwit.transactions"


def half(transaction, **more):
    headers = {name.replace("_", "-"): value for name, value in more.items()}
    return pika.BasicProperties(headers={"x-transaction": transaction, **headers})


def decide(channel, decision, transaction):
    """False: the broker knows nothing of it."""
    try:
        channel.basic_publish(DECISIONS, decision, b"", pika.BasicProperties(headers={"x-transaction": transaction}))
        return True
    except pika.exceptions.NackError:
        return False


def come(channel, queue, count, limit_s=10):
    end, came = time.time() + limit_s, []
    while len(came) < count and time.time() < end:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method:
            came.append((body, properties, method))
        else:
            time.sleep(0.002)
    assert len(came) == count, came
    return came


def is_empty(channel, queue):
    return channel.basic_get(queue)[0] is None


@pytest.fixture
def confirming(channel):
    channel.confirm_delivery()
    return channel


def test_nobody_sees_it_before_it_is_committed(confirming, name):
    queue = name("q")
    confirming.queue_declare(queue, exclusive=True)
    transaction = name("t")
    for i in range(5):
        confirming.basic_publish("", queue, b"%d" % i, half(transaction, kept="yes"), mandatory=True)
    confirming.basic_publish("", queue, b"plain")
    assert come(confirming, queue, 1)[0][0] == b"plain"
    time.sleep(0.1)
    assert is_empty(confirming, queue)
    assert decide(confirming, "commit", transaction)
    came = come(confirming, queue, 5)
    assert [body for body, _, _ in came] == [b"0", b"1", b"2", b"3", b"4"]
    assert came[0][1].headers == {"x-transaction-committed": transaction, "kept": "yes"}
    assert is_empty(confirming, queue)


def test_what_is_rolled_back_never_comes(confirming, name):
    queue, transaction = name("q"), name("t")
    confirming.queue_declare(queue, exclusive=True)
    confirming.basic_publish("", queue, b"never", half(transaction))
    assert decide(confirming, "rollback", transaction)
    assert decide(confirming, "rollback", transaction)   # as often as one likes
    assert not decide(confirming, "commit", transaction)
    time.sleep(0.1)
    assert is_empty(confirming, queue)


def test_a_decision_may_be_repeated_and_an_unknown_one_is_refused(confirming, name):
    queue, transaction = name("q"), name("t")
    confirming.queue_declare(queue, exclusive=True)
    assert not decide(confirming, "commit", transaction)
    confirming.basic_publish("", queue, b"once", half(transaction))
    assert decide(confirming, "commit", transaction)
    assert decide(confirming, "commit", transaction)
    assert not decide(confirming, "rollback", transaction)
    with pytest.raises(pika.exceptions.NackError):
        confirming.basic_publish("", queue, b"too late", half(transaction))
    assert come(confirming, queue, 1)[0][0] == b"once"
    time.sleep(0.1)
    assert is_empty(confirming, queue)


def test_it_is_routed_as_its_exchange_does_when_it_is_committed(confirming, name):
    one, two, exchange, transaction = name("one"), name("two"), name("x"), name("t")
    for queue in (one, two):
        confirming.queue_declare(queue, exclusive=True)
    confirming.exchange_declare(exchange, "topic", auto_delete=True)
    confirming.queue_bind(one, exchange, "orders.#")
    confirming.basic_publish(exchange, "orders.new", b"order", half(transaction), mandatory=True)
    confirming.queue_bind(two, exchange, "orders.#")
    confirming.queue_unbind(one, exchange, "orders.#")
    confirming.basic_publish(DECISIONS, "commit", b"", pika.BasicProperties(correlation_id=transaction))
    body, properties, method = come(confirming, two, 1)[0]
    assert (body, method.exchange, method.routing_key) == (b"order", exchange, "orders.new")
    assert is_empty(confirming, one)


def test_mandatory_and_missing_exchanges_are_looked_at_at_once(connect, name, expect_close):
    channel = connect().channel()
    channel.confirm_delivery()
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish("", name("nowhere"), b"", half(name("t")), mandatory=True)
    expect_close(404, "no exchange")(channel.basic_publish, name("missing"), "", b"", half(name("t")))


@pytest.mark.parametrize("headers, text", [
    ({"x-transaction": 7}, "PRECONDITION_FAILED - invalid header 'x-transaction': a text of 1 to 255 bytes is needed"),
    ({"x-transaction": ""}, "invalid header 'x-transaction'"),
    ({"x-transaction": "t" * 256}, "invalid header 'x-transaction'"),
    ({"x-transaction": "t", "x-check-after": 0}, "invalid header 'x-check-after': a number of milliseconds from 1 to 2592000000 is needed"),
    ({"x-transaction": "t", "x-check-limit": -1}, "invalid header 'x-check-limit': a number from 0 to 1000 is needed"),
    ({"x-transaction": "t", "x-check-queue": 1}, "invalid header 'x-check-queue': the name of a queue is needed"),
    ({"x-transaction": "t", "x-delay": 100}, "invalid header 'x-delay': a message of a transaction is routed when that is committed"),
    ({"x-transaction": "t", "BCC": ["other"]}, "a message of a transaction has no BCC"),
])
def test_what_makes_no_sense_is_refused(connect, expect_close, headers, text):
    channel = connect().channel()
    channel.confirm_delivery()
    expect_close(406, text)(channel.basic_publish, "", "q", b"", pika.BasicProperties(headers=headers))


@pytest.mark.parametrize("key, properties, text", [
    ("maybe", pika.BasicProperties(correlation_id="t"), "invalid routing key 'maybe' for exchange 'amq.godwit.transactions': it is 'commit' or 'rollback'"),
    ("check", pika.BasicProperties(correlation_id="t"), "invalid routing key 'check'"),
    ("commit", pika.BasicProperties(), "no transaction is named: the header 'x-transaction' or the property correlation-id is needed"),
])
def test_a_decision_that_makes_no_sense_is_refused(connect, expect_close, key, properties, text):
    channel = connect().channel()
    channel.confirm_delivery()
    expect_close(406, text)(channel.basic_publish, DECISIONS, key, b"", properties)


def test_a_silent_producer_is_asked_and_then_it_is_rolled_back(confirming, name):
    queue, asks, transaction = name("q"), name("asks"), name("t")
    for each in (queue, asks):
        confirming.queue_declare(each, exclusive=True)
    begin = time.time()
    confirming.basic_publish("", queue, b"silent", half(transaction, x_check_after=200, x_check_limit=3, x_check_queue=asks))
    came = come(confirming, asks, 3)
    assert 0.6 <= time.time() - begin < 5
    assert [properties.headers["x-check-count"] for _, properties, _ in came] == [1, 2, 3]
    assert {properties.correlation_id for _, properties, _ in came} == {properties.headers["x-transaction"] for _, properties, _ in came} == {transaction}
    assert came[0][1].headers["x-transaction-messages"] == 1
    time.sleep(1)
    assert not decide(confirming, "commit", transaction)
    assert is_empty(confirming, queue) and is_empty(confirming, asks)


def test_the_answer_to_a_check_back_ends_it(confirming, name):
    queue, asks, transaction = name("q"), name("asks"), name("t")
    for each in (queue, asks):
        confirming.queue_declare(each, exclusive=True)
    confirming.basic_publish("", queue, b"asked for", pika.BasicProperties(headers={"x-transaction": transaction, "x-check-after": 100}, reply_to=asks))
    _, question, _ = come(confirming, asks, 1)[0]
    confirming.basic_publish(DECISIONS, "commit", b"", question)
    confirming.queue_purge(asks)     # a busy machine may have asked once more before the answer came
    assert come(confirming, queue, 1)[0][0] == b"asked for"
    time.sleep(0.5)
    assert is_empty(confirming, asks)


def test_everything_survives_kills(own_broker, connect_to, name):
    broker = own_broker()
    queue, asks = name("q"), name("asks")
    channel = connect_to(broker).channel()
    channel.confirm_delivery()
    channel.queue_declare(queue, durable=True)
    channel.queue_declare(asks, durable=True)
    for transaction in ("committed", "rolled back", "open", "later"):
        for i in range(300):
            channel.basic_publish("", queue, b"%s %d" % (transaction.encode(), i),
                                  half(transaction, x_check_after=1500 if transaction == "open" else 60000, x_check_queue=asks))
    assert decide(channel, "commit", "committed") and decide(channel, "rollback", "rolled back")
    broker.kill()
    broker.start()
    channel = connect_to(broker).channel()
    channel.confirm_delivery()
    assert [body for body, _, _ in come(channel, queue, 300)] == [b"committed %d" % i for i in range(300)]
    assert is_empty(channel, queue)
    assert decide(channel, "commit", "committed") and not decide(channel, "commit", "rolled back")   # it remembers
    assert come(channel, asks, 1)[0][1].correlation_id == "open"
    broker.kill()
    broker.start()
    channel = connect_to(broker).channel()
    channel.confirm_delivery()
    counts = {come(channel, asks, 1)[0][1].headers["x-check-count"]}
    while 2 not in counts:   # the first may come again: an acknowledgement takes a moment to be kept
        counts.add(come(channel, asks, 1)[0][1].headers["x-check-count"])
    assert counts <= {1, 2}
    assert decide(channel, "commit", "later")
    assert [body for body, _, _ in come(channel, queue, 300)] == [b"later %d" % i for i in range(300)]
    time.sleep(0.2)
    assert is_empty(channel, queue)


def test_a_backlog_on_disk_is_committed_in_order(own_broker, connect_to, name):
    broker, queue = own_broker(godwit=["--memory-limit", "16000000"]), name("q")
    connection = connect_to(broker)
    quiet, channel = connection.channel(), connection.channel()
    quiet.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    body = b"x" * 4000
    for i in range(7999):
        quiet.basic_publish("", queue, b"%06d" % i + body, half("big"))
    channel.basic_publish("", queue, b"%06d" % 7999 + body, half("big"))
    broker.kill()
    broker.start()
    channel = connect_to(broker).channel()
    channel.confirm_delivery()
    assert decide(channel, "commit", "big")
    assert [int(body[:6]) for body, _, _ in come(channel, queue, 8000, limit_s=60)] == list(range(8000))


def test_amqp_transactions_hold_both_steps(channel, name):
    queue, transaction = name("q"), name("t")
    channel.queue_declare(queue, exclusive=True)
    channel.tx_select()
    channel.basic_publish("", queue, b"dropped", half(transaction))
    channel.tx_rollback()
    channel.basic_publish("", queue, b"kept", half(transaction))
    channel.tx_commit()
    assert is_empty(channel, queue)
    channel.basic_publish(DECISIONS, "commit", b"", pika.BasicProperties(headers={"x-transaction": transaction}))
    channel.tx_commit()
    assert come(channel, queue, 1)[0][0] == b"kept"


def test_expiration_begins_with_the_commit(confirming, name):
    queue, transaction = name("q"), name("t")
    confirming.queue_declare(queue, exclusive=True)
    confirming.basic_publish("", queue, b"short", pika.BasicProperties(expiration="300", headers={"x-transaction": transaction}))
    time.sleep(0.5)
    assert decide(confirming, "commit", transaction)
    assert come(confirming, queue, 1)[0][0] == b"short"


def test_many_transactions_side_by_side(connect, name):
    queue = name("q")
    channel = connect().channel()
    channel.queue_declare(queue, durable=True)
    failures = []

    def produce(number):
        try:
            mine = connect().channel()
            mine.confirm_delivery()
            for i in range(50):
                transaction = f"{queue}-{number}-{i}"
                mine.basic_publish("", queue, b"%d %d" % (number, i), half(transaction))
                assert decide(mine, "commit" if i % 2 else "rollback", transaction)
        except Exception as failure:   # noqa: BLE001
            failures.append(failure)

    threads = [threading.Thread(target=produce, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    came = [tuple(map(int, body.split())) for body, _, _ in come(channel, queue, 100)]
    for number in range(4):
        assert [i for which, i in came if which == number] == list(range(1, 50, 2))
    channel.queue_delete(queue)


def test_permissions_are_asked_for_when_it_is_published(broker, connect, name, expect_close):
    user, queue = name("user"), name("q")
    broker.control("add_user", user, "secret")
    broker.control("set_permissions", user, "^$", "^amq.direct$", "^$")
    admin = connect().channel()
    admin.queue_declare(queue, exclusive=True)
    admin.queue_bind(queue, "amq.direct", queue)

    def channel():
        mine = connect(credentials=pika.PlainCredentials(user, "secret")).channel()
        mine.confirm_delivery()
        return mine

    channel().basic_publish("amq.direct", queue, b"", half(name("t")))
    expect_close(403, "access to exchange 'amq.fanout' in vhost '/' refused")(channel().basic_publish, "amq.fanout", queue, b"", half(name("t")))
    expect_close(403, "access to exchange 'amq.default' in vhost '/' refused")(channel().basic_publish, "amq.direct", queue, b"", half(name("t"), x_check_queue="asks"))
    expect_close(403, "access to exchange 'amq.godwit.transactions' in vhost '/' refused")(channel().basic_publish, DECISIONS, "commit", b"", half(name("t")))
    broker.control("delete_user", user)


def test_a_vhost_of_its_own(own_broker, connect_to, name):
    broker = own_broker()
    broker.control("add_vhost", "shop")
    broker.control("set_permissions", "-p", "shop", "guest", ".*", ".*", ".*")

    def channel():
        mine = connect_to(broker, virtual_host="shop").channel()
        mine.confirm_delivery()
        return mine

    channel().queue_declare("q", durable=True)
    channel().basic_publish("", "q", b"here", half("t"))
    other = connect_to(broker).channel()
    other.confirm_delivery()
    assert not decide(other, "commit", "t")   # ids are those of a virtual host
    broker.kill()
    broker.start()
    assert decide(channel(), "commit", "t")
    assert come(channel(), "q", 1)[0][0] == b"here"
    broker.control("delete_vhost", "shop")
    broker.control("add_vhost", "shop")
    broker.control("set_permissions", "-p", "shop", "guest", ".*", ".*", ".*")
    assert not decide(channel(), "commit", "t")
    broker.kill()
    broker.start()
    assert not decide(channel(), "rollback", "t")


def test_a_full_queue_gets_it_when_there_is_room(confirming, name):
    queue, transaction = name("q"), name("t")
    confirming.queue_declare(queue, durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    for i in range(3):
        confirming.basic_publish("", queue, b"%d" % i, half(transaction))
    assert decide(confirming, "commit", transaction)
    assert sorted(body for body, _, _ in come(confirming, queue, 3, limit_s=20)) == [b"0", b"1", b"2"]
    confirming.queue_delete(queue)


def test_http_publishes_and_decides(broker, channel, name):
    queue, transaction = name("q"), name("t")
    channel.queue_declare(queue, exclusive=True)
    url = f"http://127.0.0.1:{broker.http_port}"
    mine = {"Message-x-transaction": transaction}

    def tell(decision):
        return requests.post(f"{url}/exchanges/{DECISIONS}/messages", params={"routing_key": decision}, data=b"", headers=mine).status_code

    assert requests.post(f"{url}/queues/{queue}/messages", data=b"by HTTP", headers=mine).status_code == 201
    assert is_empty(channel, queue)
    assert tell("commit") == 201 and tell("commit") == 201
    assert tell("rollback") == 503
    assert come(channel, queue, 1)[0][0] == b"by HTTP"
    wrong = requests.post(f"{url}/queues/{queue}/messages", data=b"", headers={"Message-x-transaction": ""})
    assert (wrong.status_code, wrong.json()["detail"]) == (422, "PRECONDITION_FAILED - invalid header 'x-transaction': a text of 1 to 255 bytes is needed")
