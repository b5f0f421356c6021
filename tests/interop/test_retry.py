"""x-retry-backoff: what comes back waits before it is delivered again, and what comes back too often dies. RabbitMQ knows none of it, so these run against Godwit alone."""
import json
import time

import pika
import pika.spec as spec
import pytest

pytestmark = pytest.mark.godwit_only("RabbitMQ delivers again at once")
LASTING = pika.BasicProperties(delivery_mode=2)


def declare(channel, queue, durable=True, **arguments):
    channel.queue_declare(queue, durable=durable, exclusive=not durable, arguments={key.replace("_", "-"): value for key, value in arguments.items()})


def get(channel, queue, limit_s=10):
    """The next message of the queue, and when it was there."""
    end = time.time() + limit_s
    while time.time() < end:
        method, properties, body = channel.basic_get(queue)
        if method:
            return method, properties.headers or {}, body, time.time()
        time.sleep(0.002)
    raise AssertionError(f"nothing comes from {queue}")


def columns(broker, queue, *names):
    rows = json.loads(broker.control("list_queues", "--formatter", "json", "name", *names))
    return next(tuple(row[name] for name in names) for row in rows if row["name"] == queue)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_each_return_waits_longer(channel, name, kind):
    queue = name("q")
    declare(channel, queue, x_queue_type=kind, x_retry_backoff=[100, "300ms"])
    channel.basic_publish("", queue, b"work", LASTING)
    method, headers, body, at = get(channel, queue)
    assert (method.redelivered, headers) == (False, {"x-delivery-count": 0} if kind == "quorum" else {})
    for count, wait in enumerate((0.1, 0.3, 0.3), 1):
        channel.basic_nack(method.delivery_tag, requeue=True)
        before = time.time()
        method, headers, body, at = get(channel, queue)
        assert wait <= at - before < wait + 0.15
        assert (method.redelivered, headers, body) == (True, {"x-delivery-count": count, "x-retry-reason": "rejected"}, b"work")
    channel.basic_ack(method.delivery_tag)
    channel.queue_delete(queue)


@pytest.mark.parametrize("backoff, first", [
    ({"initial": 100, "multiplier": 3, "max": 200, "jitter": 0}, (0.1, 0.2)),
    ("initial=100ms multiplier=3 max=0.2s jitter=0", (0.1, 0.2)),
    ("0.1s, 200", (0.1, 0.2)),
    ([0, 150], (0, 0.15)),
])
def test_ways_to_say_it(channel, name, backoff, first):
    queue = name("q")
    declare(channel, queue, durable=False, x_retry_backoff=backoff)
    channel.basic_publish("", queue, b"work")
    method = get(channel, queue)[0]
    for wait in first:
        channel.basic_reject(method.delivery_tag, requeue=True)
        before = time.time()
        method, _, _, at = get(channel, queue)
        assert wait <= at - before < wait + 0.1


@pytest.mark.parametrize("backoff, text", [
    ([], "no times"),
    ([100, "soon"], "time 2 'soon' is no time"),
    ([-1], "time 1 is not between 0 and ten years"),
    (True, "{unacceptable_type,bool}"),
    ({"initial": 100, "factor": 2}, "unknown key 'factor'"),
    ({"multiplier": 2}, "initial is missing"),
    ({"initial": 100, "jitter": 2}, "jitter is no number between 0 and 1"),
    ("initial=2s max=1s", "max is less than initial"),
])
def test_what_makes_no_sense(channel, name, expect_close, backoff, text):
    queue = name("q")
    expect_close(406, f"PRECONDITION_FAILED - invalid arg 'x-retry-backoff' for queue '{queue}' in vhost '/': {text}")(
        channel.queue_declare, queue, arguments={"x-retry-backoff": backoff})


def test_it_is_declared_again_in_other_words(connection, name, expect_close):
    queue, channel = name("q"), connection.channel()
    declare(channel, queue, durable=False, x_retry_backoff=[1000, 60000])
    declare(channel, queue, durable=False, x_retry_backoff="1s 1m")
    expect_close(406, "inequivalent arg 'x-retry-backoff'")(declare, channel, queue, durable=False, x_retry_backoff=[1000])


def test_only_with_a_backoff_may_a_classic_queue_limit_deliveries(connection, name, expect_close):
    expect_close(406, "invalid arg 'x-delivery-limit' for queue")(connection.channel().queue_declare, name(), arguments={"x-delivery-limit": 2})
    expect_close(406, "expected integer")(connection.channel().queue_declare, name(), arguments={"x-delivery-limit": "2", "x-retry-backoff": "1s"})
    connection.channel().queue_declare(name(), exclusive=True, arguments={"x-delivery-limit": 2, "x-retry-backoff": "1s"})


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_too_often_is_a_dead_letter_with_its_past(channel, name, kind):
    queue, dead = name("q"), name("dead")
    channel.queue_declare(dead, exclusive=True)
    declare(channel, queue, x_queue_type=kind, x_retry_backoff=[20], x_delivery_limit=2, x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
    channel.basic_publish("", queue, b"work", LASTING)
    for count in range(3):
        method, headers, _, _ = get(channel, queue)
        assert headers.get("x-delivery-count", 0) == count
        channel.basic_nack(method.delivery_tag, requeue=True)
    _, headers, body, _ = get(channel, dead)
    assert body == b"work" and headers["x-death"][0]["reason"] == "delivery_limit"
    assert (headers["x-delivery-count"], headers["x-retry-reason"]) == (3, "rejected")
    assert channel.queue_delete(queue).method.message_count == 0


def test_a_rejection_without_requeue_does_not_wait(channel, name):
    queue, dead = name("q"), name("dead")
    channel.queue_declare(dead, exclusive=True)
    declare(channel, queue, durable=False, x_retry_backoff="1m", x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
    channel.basic_publish("", queue, b"hopeless")
    channel.basic_reject(get(channel, queue)[0].delivery_tag, requeue=False)
    _, headers, _, _ = get(channel, dead, 2)
    assert headers["x-death"][0]["reason"] == "rejected" and "x-delivery-count" not in headers


@pytest.mark.parametrize("how", ["rejected", "expired"])
def test_however_it_dies_its_past_is_told(channel, name, how):
    queue, dead = name("q"), name("dead")
    channel.queue_declare(dead, exclusive=True)
    more = {"x_message_ttl": 150} if how == "expired" else {}
    declare(channel, queue, durable=False, x_retry_backoff=[10, "300ms"], x_dead_letter_exchange="", x_dead_letter_routing_key=dead, **more)
    channel.basic_publish("", queue, b"work")
    channel.basic_reject(get(channel, queue)[0].delivery_tag, requeue=True)
    method = get(channel, queue)[0]
    channel.basic_reject(method.delivery_tag, requeue=how == "expired")   # it waits for longer than it lives
    _, headers, _, _ = get(channel, dead)
    assert headers["x-death"][0]["reason"] == how
    assert (headers["x-delivery-count"], headers["x-retry-reason"]) == (1 + (how == "expired"), "rejected")


def test_others_go_ahead_and_it_comes_before_what_is_behind_it(channel, name):
    queue = name("q")
    declare(channel, queue, durable=False, x_retry_backoff=[200])
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", queue, body)
    channel.basic_reject(get(channel, queue)[0].delivery_tag, requeue=True)
    assert get(channel, queue)[2] == b"2"
    time.sleep(0.3)
    assert [get(channel, queue)[2] for _ in range(2)] == [b"1", b"3"]


def test_priority_is_kept(channel, name):
    queue = name("q")
    declare(channel, queue, durable=False, x_retry_backoff=[100], x_max_priority=5)
    channel.basic_publish("", queue, b"high", pika.BasicProperties(priority=5))
    channel.basic_publish("", queue, b"low", pika.BasicProperties(priority=1))
    channel.basic_reject(get(channel, queue)[0].delivery_tag, requeue=True)
    time.sleep(0.2)
    assert [get(channel, queue)[2] for _ in range(2)] == [b"high", b"low"]


@pytest.mark.parametrize("how, reason", [("channel", "closed"), ("connection", "closed"), ("lost", "connection-lost")])
def test_who_leaves_gives_back(broker, connect_to, wire, channel, name, how, reason):
    queue = name("q")
    declare(channel, queue, x_retry_backoff=[150])
    channel.basic_publish("", queue, b"work", LASTING)
    if how == "lost":
        rude = wire()
        rude.send(1, spec.Basic.Get(queue=queue))
        rude.expect(spec.Basic.GetOk)
        before = time.time()
        rude.close()
    else:
        leaving = connect_to(broker)
        other = leaving.channel()
        assert get(other, queue)[2] == b"work"
        before = time.time()
        (other if how == "channel" else leaving).close()
    _, headers, _, at = get(channel, queue)
    assert at - before >= 0.15 and headers == {"x-delivery-count": 1, "x-retry-reason": reason}
    channel.queue_delete(queue)


def test_a_consumer_that_is_late(broker, connect_to, channel, name):
    queue = name("q")
    declare(channel, queue, x_retry_backoff=[100], x_consumer_timeout=300)
    channel.basic_publish("", queue, b"work", LASTING)
    other = connect_to(broker)
    late = other.channel()
    get(late, queue)
    while late.is_open:
        other.process_data_events(0.05)
    assert get(channel, queue)[1] == {"x-delivery-count": 1, "x-retry-reason": "timeout"}
    channel.queue_delete(queue)


def test_what_waits_is_listed_and_purged(broker, channel, name, eventually):
    queue = name("q")
    declare(channel, queue, durable=False, x_retry_backoff="1m")
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", queue, body)
    channel.basic_reject(get(channel, queue)[0].delivery_tag, requeue=True)
    get(channel, queue)
    names = "messages", "messages_ready", "messages_unacknowledged", "messages_retrying"
    assert eventually(lambda: columns(broker, queue, *names) == (3, 1, 1, 1)), columns(broker, queue, *names)
    assert channel.queue_purge(queue).method.message_count == 2
    assert columns(broker, queue, *names) == (1, 0, 1, 0)


def test_a_policy_says_it_and_says_it_no_more(broker, channel, name):
    queue = name("q")
    channel.queue_declare(queue, exclusive=True)
    broker.control("set_policy", "--apply-to", "queues", queue, f"^{queue}$", '{"retry-backoff": {"initial": "1h"}, "delivery-limit": 1}')
    channel.basic_publish("", queue, b"work")
    channel.basic_reject(get(channel, queue)[0].delivery_tag, requeue=True)
    time.sleep(0.2)
    assert channel.basic_get(queue)[0] is None
    broker.control("clear_policy", queue)
    method, headers, _, _ = get(channel, queue)
    assert method.redelivered and "x-delivery-count" not in headers


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_it_survives_a_kill(own_broker, connect_to, name, kind):
    broker, queue = own_broker(), name("q")
    channel = connect_to(broker).channel()
    channel.confirm_delivery()
    declare(channel, queue, x_queue_type=kind, x_retry_backoff=["100ms", "3s"])
    channel.basic_publish("", queue, b"work", LASTING)
    channel.basic_nack(get(channel, queue)[0].delivery_tag, requeue=True)
    channel.basic_nack(get(channel, queue)[0].delivery_tag, requeue=True)
    before = time.time()
    channel.basic_publish("", queue, b"behind", LASTING)   # confirmed: what was said before is on disk, too
    broker.kill()
    broker.start()
    channel = connect_to(broker).channel()
    assert columns(broker, queue, "messages_ready", "messages_retrying") == (1, 1)
    assert get(channel, queue)[2] == b"behind"
    method, headers, body, at = get(channel, queue)
    assert (method.redelivered, headers, body) == (True, {"x-delivery-count": 2, "x-retry-reason": "rejected"}, b"work")
    assert 2.9 <= at - before < 4


def test_it_survives_an_orderly_end(own_broker, connect_to, name):
    broker, queue = own_broker(), name("q")
    connection = connect_to(broker)
    channel = connection.channel()
    declare(channel, queue, x_retry_backoff=["3s"])
    for i in range(300):
        channel.basic_publish("", queue, b"%d" % i, LASTING)
    before = time.time()
    for i in range(300):
        channel.basic_nack(get(channel, queue)[0].delivery_tag, requeue=True)
    connection.close()   # otherwise the broker waits for it to say goodbye
    broker.restart()
    channel = connect_to(broker).channel()
    assert columns(broker, queue, "messages", "messages_retrying") == (300, 300)
    for i in range(300):
        method, headers, body, at = get(channel, queue)
        assert body == b"%d" % i and headers["x-delivery-count"] == 1 and at - before >= 3


def test_an_orderly_end_is_nobodys_fault(own_broker, connect_to, name):
    broker, queue = own_broker(), name("q")
    channel = connect_to(broker).channel()
    declare(channel, queue, x_retry_backoff=["1h"])
    channel.basic_publish("", queue, b"work", LASTING)
    get(channel, queue)
    broker.restart()
    method, headers, _, _ = get(connect_to(broker).channel(), queue)
    assert method.redelivered and "x-delivery-count" not in headers


def test_what_waits_holds_up_its_group_alone(channel, name):
    queue = name("q")
    declare(channel, queue, durable=False, x_retry_backoff=[300], x_group_key="k")
    for body, key in ((b"a1", "a"), (b"a2", "a"), (b"b1", "b")):
        channel.basic_publish("", queue, body, pika.BasicProperties(headers={"k": key}))
    method, _, body, _ = get(channel, queue)
    channel.basic_reject(method.delivery_tag, requeue=True)
    before = time.time()
    assert (body, get(channel, queue)[2]) == (b"a1", b"b1")
    method, headers, body, at = get(channel, queue)
    assert (body, headers["x-delivery-count"]) == (b"a1", 1) and at - before >= 0.3
    assert channel.basic_get(queue)[0] is None
    channel.basic_ack(method.delivery_tag)
    assert get(channel, queue)[2] == b"a2"


def test_it_comes_back_to_whom_it_is_for(connection, channel, name):
    queue, came = name("q"), []
    declare(channel, queue, durable=False, x_retry_backoff=[200])
    for body, region in ((b"eu", "eu"), (b"uk", "uk"), (b"eu", "eu")):
        channel.basic_publish("", queue, body, pika.BasicProperties(headers={"region": region}))

    def take(channel, method, properties, body):
        came.append((time.time(), body, method.redelivered))
        if len(came) == 1:
            channel.basic_reject(method.delivery_tag, requeue=True)
        else:
            channel.basic_ack(method.delivery_tag)

    channel.basic_consume(queue, take, arguments={"x-filter": "region = 'eu'"})
    end = time.time() + 5
    while len(came) < 3 and time.time() < end:
        connection.process_data_events(0.05)
    assert [(body, again) for _, body, again in came] == [(b"eu", False), (b"eu", False), (b"eu", True)]
    assert came[2][0] - came[0][0] >= 0.2


@pytest.mark.parametrize("x_filter", [None, "region = 'eu'"])
@pytest.mark.parametrize("groups", [False, True])
def test_what_waited_on_disk_waits_on(own_broker, connect_to, name, groups, x_filter):
    if groups and x_filter:
        pytest.skip("groups take no filters")
    broker, queue, came = own_broker(), name("q"), []
    connection = connect_to(broker)
    channel = connection.channel()
    declare(channel, queue, x_retry_backoff=["3s"], **({"x_group_key": "region"} if groups else {}))
    for i in range(600):
        channel.basic_publish("", queue, b"%d" % i, pika.BasicProperties(headers={"region": "eu"}, delivery_mode=2))
    channel.basic_qos(prefetch_count=0)
    tags = [get(channel, queue)[0].delivery_tag for _ in range(600 if not groups else 1)]
    before = time.time()
    channel.basic_nack(tags[-1], multiple=True, requeue=True)
    connection.close()
    broker.restart()
    connection = connect_to(broker)
    channel = connection.channel()
    assert columns(broker, queue, "messages", "messages_retrying") == (600, len(tags))
    channel.basic_consume(queue, lambda channel, method, properties, body: (came.append((time.time(), int(body))), channel.basic_ack(method.delivery_tag)),
                          arguments={"x-filter": x_filter} if x_filter else None)
    end = time.time() + 15
    while len(came) < 600 and time.time() < end:
        connection.process_data_events(0.05)
    assert [body for _, body in came] == list(range(600))
    assert came[0][0] - before >= 3
