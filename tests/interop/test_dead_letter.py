"""Dead-lettering: what a queue gives up goes to its dead-letter exchange, with headers that say where, why and how often it died."""
import datetime
import itertools
import time

import pika
import pytest

NUMBERS = itertools.count()


@pytest.fixture
def unique():
    return lambda prefix: f"dead-{prefix}-{next(NUMBERS)}"


def declare(channel, name, exchange=None, key=None, durable=True, **arguments):
    arguments = {"x-" + name.replace("_", "-"): value for name, value in arguments.items()}
    if exchange is not None:
        arguments["x-dead-letter-exchange"] = exchange
    if key is not None:
        arguments["x-dead-letter-routing-key"] = key
    channel.queue_declare(name, durable=durable, arguments=arguments)
    return name


def wait(channel, queue, limit_s=10, auto_ack=True):
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        method, properties, body = channel.basic_get(queue, auto_ack=auto_ack)
        if method:
            return method, properties, body
        time.sleep(0.005)
    pytest.fail(f"nothing came to {queue}")


def nothing(channel, queue, after_s=0.3):
    time.sleep(after_s)
    assert channel.basic_get(queue)[0] is None


def reject(channel, queue):
    method, _, body = wait(channel, queue, auto_ack=False)
    channel.basic_reject(method.delivery_tag, requeue=False)
    return body


def deaths(properties):
    """x-death without its times, which must be of just now."""
    found = []
    for death in properties.headers["x-death"]:
        death = dict(death)
        now = datetime.datetime.utcnow()
        assert abs((now - death.pop("time")).total_seconds()) < 60
        found.append(death)
    return found


def death(queue, reason, keys, exchange="", count=1, **more):
    return {"queue": queue, "reason": reason, "exchange": exchange, "routing-keys": keys, "count": count, **more}


def first(properties):
    return [properties.headers["x-first-death-" + what] for what in ("queue", "reason", "exchange")]


# ---- the reasons ----------------------------------------------------------------------------------------------------


def test_rejected(channel, unique):
    target = declare(channel, unique("target"))
    source = declare(channel, unique("source"), "", target)
    channel.basic_publish("", source, b"m", pika.BasicProperties(message_id="id", headers={"mine": 1}, delivery_mode=2, priority=3))
    reject(channel, source)
    method, properties, body = wait(channel, target)
    assert (body, method.exchange, method.routing_key, method.redelivered) == (b"m", "", target, False)
    assert (properties.message_id, properties.delivery_mode, properties.priority, properties.headers["mine"]) == ("id", 2, 3, 1)
    assert deaths(properties) == [death(source, "rejected", [source])]
    assert first(properties) == [source, "rejected", ""]
    nothing(channel, source, 0)


@pytest.mark.parametrize("how", ["nack", "nack multiple", "nack all"])
def test_nacked(channel, unique, how):
    target = declare(channel, unique("target"))
    source = declare(channel, unique("source"), "", target)
    for i in range(3):
        channel.basic_publish("", source, str(i).encode())
    tags = [wait(channel, source, auto_ack=False)[0].delivery_tag for _ in range(3)]
    if how == "nack":
        for tag in tags:
            channel.basic_nack(tag, requeue=False)
    else:
        channel.basic_nack(0 if how == "nack all" else tags[-1], multiple=True, requeue=False)
    assert [wait(channel, target)[2] for _ in range(3)] == [b"0", b"1", b"2"]


def test_expired_by_the_queue(channel, unique):
    target = declare(channel, unique("target"))
    source = declare(channel, unique("source"), "", target, message_ttl=30)
    channel.basic_publish("", source, b"m")
    properties = wait(channel, target)[1]
    assert deaths(properties) == [death(source, "expired", [source])]
    assert first(properties) == [source, "expired", ""]


def test_expired_by_itself_and_not_again(channel, unique):
    target = declare(channel, unique("target"))
    source = declare(channel, unique("source"), "", target)
    channel.basic_publish("", source, b"m", pika.BasicProperties(expiration="30"))
    time.sleep(0.3)   # it would have expired in the next queue too
    properties = wait(channel, target)[1]
    assert properties.expiration is None
    assert deaths(properties) == [death(source, "expired", [source], **{"original-expiration": "30"})]


def test_too_many(channel, unique):
    target = declare(channel, unique("target"))
    source = declare(channel, unique("source"), "", target, max_length=2)
    for i in range(5):
        channel.basic_publish("", source, str(i).encode())
    got = [wait(channel, target) for _ in range(3)]
    assert [body for _, _, body in got] == [b"0", b"1", b"2"]
    assert all(deaths(properties) == [death(source, "maxlen", [source])] for _, properties, _ in got)


def test_refused_by_a_full_queue(channel, unique):
    target = declare(channel, unique("target"))
    source = declare(channel, unique("source"), "", target, max_length=1, overflow="reject-publish-dlx")
    channel.confirm_delivery()
    channel.basic_publish("", source, b"first")
    with pytest.raises(pika.exceptions.NackError):
        channel.basic_publish("", source, b"second")
    _, properties, body = wait(channel, target)
    assert body == b"second" and deaths(properties) == [death(source, "maxlen", [source])]
    assert wait(channel, source)[2] == b"first"


def test_returned_too_often(channel, unique):
    target = declare(channel, unique("target"))
    source = declare(channel, unique("source"), "", target, queue_type="quorum", delivery_limit=2)
    channel.basic_publish("", source, b"m", pika.BasicProperties(delivery_mode=2))
    for _ in range(3):
        method, _, _ = wait(channel, source, auto_ack=False)
        channel.basic_reject(method.delivery_tag, requeue=True)
    properties = wait(channel, target)[1]
    assert deaths(properties) == [death(source, "delivery_limit", [source])]


# ---- where to -------------------------------------------------------------------------------------------------------


def test_without_a_key_of_its_own_it_keeps_its_routing_key(channel, unique):
    exchange, target, source = unique("exchange"), declare(channel, unique("target")), unique("source")
    channel.exchange_declare(exchange, "direct")
    channel.queue_bind(target, exchange, source)
    declare(channel, source, exchange)
    channel.basic_publish("", source, b"m")
    reject(channel, source)
    method, properties, _ = wait(channel, target)
    assert (method.exchange, method.routing_key) == (exchange, source)
    assert first(properties) == [source, "rejected", ""]


def test_a_fanout_of_dead_letters(channel, unique):
    exchange = unique("exchange")
    channel.exchange_declare(exchange, "fanout")
    targets = [declare(channel, unique("target")) for _ in range(8)]
    for target in targets:
        channel.queue_bind(target, exchange, "")
    source = declare(channel, unique("source"), exchange)
    channel.basic_publish("", source, b"m", pika.BasicProperties(delivery_mode=2))
    reject(channel, source)
    for target in targets:
        assert deaths(wait(channel, target)[1]) == [death(source, "rejected", [source])]
    for target in targets:
        nothing(channel, target, 0)


def test_no_exchange_and_no_queue(channel, unique):
    sources = [declare(channel, unique("source"), unique("missing")), declare(channel, unique("source"), "", unique("missing"))]
    for source in sources:
        channel.basic_publish("", source, b"m")
        reject(channel, source)
        nothing(channel, source)
        assert channel.queue_declare(source, passive=True).method.message_count == 0


def test_an_exchange_that_comes_later(channel, unique):
    exchange, target = unique("exchange"), declare(channel, unique("target"))
    source = declare(channel, unique("source"), exchange, "k")
    channel.exchange_declare(exchange, "direct")
    channel.queue_bind(target, exchange, "k")
    channel.basic_publish("", source, b"m")
    reject(channel, source)
    assert wait(channel, target)[0].routing_key == "k"


def test_an_alternate_exchange(channel, unique):
    main, other, target = unique("main"), unique("other"), declare(channel, unique("target"))
    channel.exchange_declare(other, "fanout")
    channel.exchange_declare(main, "direct", arguments={"alternate-exchange": other})
    channel.queue_bind(target, other, "")
    source = declare(channel, unique("source"), main)
    channel.basic_publish("", source, b"m")
    reject(channel, source)
    assert wait(channel, target)[0].exchange == main


def test_copies_go_on_with_their_keys(channel, unique):
    exchange, copy = unique("exchange"), unique("copy")
    targets = [declare(channel, unique("target")) for _ in range(2)]
    channel.exchange_declare(exchange, "direct")
    source = declare(channel, unique("source"), exchange)
    channel.queue_bind(targets[0], exchange, source)
    channel.queue_bind(targets[1], exchange, copy)
    channel.basic_publish("", source, b"m", pika.BasicProperties(headers={"CC": [copy], "BCC": [unique("hidden")]}))
    reject(channel, source)
    for target in targets:
        _, properties, _ = wait(channel, target)
        assert properties.headers["CC"] == [copy] and "BCC" not in properties.headers
        assert deaths(properties) == [death(source, "rejected", [source, copy])]


def test_another_key_ends_the_copies(channel, unique):
    target = declare(channel, unique("target"))
    source = declare(channel, unique("source"), "", target)
    channel.basic_publish("", source, b"m", pika.BasicProperties(headers={"CC": ["a", "b"]}))
    reject(channel, source)
    _, properties, _ = wait(channel, target)
    assert "CC" not in properties.headers
    assert deaths(properties) == [death(source, "rejected", [source, "a", "b"])]


# ---- more than one death --------------------------------------------------------------------------------------------


def test_five_queues_in_a_row(channel, unique):
    last = declare(channel, unique("last"))
    names = [unique("hop") for _ in range(5)]
    for name, following in zip(reversed(names), [last, *reversed(names)]):
        declare(channel, name, "", following, message_ttl=20)
    channel.basic_publish("", names[0], b"m")
    properties = wait(channel, last)[1]
    assert sorted(found["queue"] for found in deaths(properties)) == sorted(names)
    assert deaths(properties)[0]["queue"] == names[4]
    assert all(found["count"] == 1 and found["reason"] == "expired" for found in deaths(properties))
    assert first(properties) == [names[0], "expired", ""]


def test_retries_are_counted(channel, unique):
    """The work queue's rejected messages wait in another one and come back: the commonest way to retry."""
    work, pause = unique("work"), unique("pause")
    declare(channel, work, "", pause)
    declare(channel, pause, "", work, message_ttl=20)
    channel.basic_publish("", work, b"m")
    for _ in range(4):
        reject(channel, work)
    properties = wait(channel, work)[1]
    assert deaths(properties) == [death(pause, "expired", [pause], count=4), death(work, "rejected", [work], count=4)]
    assert first(properties) == [work, "rejected", ""]


@pytest.mark.parametrize("reason", ["expired", "maxlen"])
def test_a_circle_without_a_rejection_ends(channel, unique, reason):
    one, two = unique("one"), unique("two")
    limits = {"message_ttl": 20} if reason == "expired" else {"max_length": 0}
    declare(channel, one, "", two, **limits)
    declare(channel, two, "", one, **limits)
    channel.basic_publish("", one, b"m")
    time.sleep(0.3)
    for queue in (one, two):
        assert channel.queue_declare(queue, passive=True).method.message_count == 0
        assert channel.basic_get(queue)[0] is None


def test_a_rejection_leads_back_to_the_same_queue(channel, unique):
    source = unique("self")
    declare(channel, source, "", source)
    channel.basic_publish("", source, b"m")
    for _ in range(3):
        reject(channel, source)
    assert deaths(wait(channel, source)[1]) == [death(source, "rejected", [source], count=3)]


def test_headers_that_a_client_made_up(channel, unique):
    target = declare(channel, unique("target"))
    source = declare(channel, unique("source"), "", target)
    channel.basic_publish("", source, b"m", pika.BasicProperties(headers={"x-death": "text"}))
    reject(channel, source)
    assert deaths(wait(channel, target)[1]) == [death(source, "rejected", [source])]
    channel.basic_publish("", source, b"m", pika.BasicProperties(headers={"x-death": [{"queue": source, "reason": "rejected", "count": 5}]}))
    reject(channel, source)
    assert wait(channel, target)[1].headers["x-death"] == [{"queue": source, "reason": "rejected", "count": 6}]


# ---- transactions, deletions, order ---------------------------------------------------------------------------------


def test_a_rejection_in_a_transaction(connection, channel, unique):
    target = declare(channel, unique("target"))
    source = declare(channel, unique("source"), "", target)
    channel.basic_publish("", source, b"m")
    other = connection.channel()
    other.tx_select()
    method = wait(other, source, auto_ack=False)[0]
    other.basic_reject(method.delivery_tag, requeue=False)
    nothing(channel, target)
    other.tx_commit()
    assert wait(channel, target)[2] == b"m"


def test_purging_and_deleting_kill_nobody(channel, unique):
    target = declare(channel, unique("target"))
    source = declare(channel, unique("source"), "", target)
    for _ in range(3):
        channel.basic_publish("", source, b"m")
    channel.queue_purge(source)
    channel.basic_publish("", source, b"m")
    channel.queue_delete(source)
    nothing(channel, target)


def test_many_keep_their_order(channel, unique):
    target = declare(channel, unique("target"))
    source = declare(channel, unique("source"), "", target, message_ttl=1)
    for i in range(3000):
        channel.basic_publish("", source, str(i).encode(), pika.BasicProperties(delivery_mode=2 if i % 2 else 1))
    end = time.monotonic() + 20
    while channel.queue_declare(target, passive=True).method.message_count < 3000 and time.monotonic() < end:
        time.sleep(0.05)
    got = [int(wait(channel, target)[2]) for _ in range(3000)]
    persistent = [i for i in got if i % 2]
    assert sorted(got) == list(range(3000)) and persistent == sorted(persistent)


# ---- ends of the program --------------------------------------------------------------------------------------------


@pytest.mark.limit(150)
@pytest.mark.godwit_only("RabbitMQ promises less")
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_nothing_is_lost_or_doubled_when_the_broker_ends_in_between(own_broker, connect_to, end):
    broker, count = own_broker(), 400
    channel = connect_to(broker).channel()
    targets = [declare(channel, f"target-{i}") for i in range(3)]
    channel.exchange_declare("dead", "fanout", durable=True)
    for target in targets:
        channel.queue_bind(target, "dead", "")
    declare(channel, "source", "dead", message_ttl=1500)
    channel.confirm_delivery()
    begin = time.monotonic()
    for i in range(count):
        channel.basic_publish("", "source", str(i).encode(), pika.BasicProperties(delivery_mode=2))
    time.sleep(max(0, begin + 1.55 - time.monotonic()))   # about now they die
    getattr(broker, end)()
    broker.start()
    channel = connect_to(broker).channel()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(channel.queue_declare(t, passive=True).method.message_count < count for t in targets):
        time.sleep(0.1)
    for target in targets:
        got = sorted(int(wait(channel, target)[2]) for _ in range(count))
        assert got == list(range(count))
        nothing(channel, target, 0)
    assert channel.queue_declare("source", passive=True).method.message_count == 0
