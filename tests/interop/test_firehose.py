"""The firehose: while tracing is on, copies of what is published and delivered go to amq.rabbitmq.trace."""
import pika
import pytest


@pytest.fixture(scope="module")
def traced(request, against):
    """A broker whose vhost "/" is traced, of these tests alone."""
    from support.broker import make_broker
    with make_broker(against) as broker:
        broker.control("trace_on")
        yield broker


@pytest.fixture
def channel(traced, connect_to):
    return connect_to(traced).channel()


@pytest.fixture
def taps(channel, eventually):
    """taps(key) waits for a copy with that routing key: its headers and its body."""
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "amq.rabbitmq.trace", "#")
    seen = []

    def wait(key, timeout_s=10):
        def look():
            while True:
                method, properties, body = channel.basic_get(queue, auto_ack=True)
                if not method:
                    break
                seen.append((method.routing_key, properties, body))
            return [copy for copy in seen if copy[0] == key]

        found = eventually(look, timeout_s, missing=lambda: f"no {key} in {[copy[0] for copy in seen]}")
        seen.remove(found[0])
        return found[0][1].headers, found[0][2]

    wait.seen = lambda: [copy[0] for copy in seen]
    return wait


@pytest.fixture
def other(traced, connect_to):
    return connect_to(traced).channel()


def test_a_publish(taps, other, name):
    queue = other.queue_declare(name(), exclusive=True).method.queue
    other.queue_bind(queue, "amq.topic", "a.*")
    other.basic_publish("amq.topic", "a.b", b"body", pika.BasicProperties(
        content_type="text/plain", headers={"h": 1, "CC": ["a.c"]}, delivery_mode=1, priority=3, message_id="m", timestamp=1700000000))
    headers, body = taps("publish.amq.topic")
    assert body == b"body"
    assert headers.pop("node") and headers.pop("connection")
    assert headers == {
        "exchange_name": "amq.topic", "routing_keys": ["a.b", "a.c"], "vhost": "/", "channel": 1, "user": "guest", "routed_queues": [queue],
        "properties": {"content_type": "text/plain", "headers": {"h": 1, "CC": ["a.c"]}, "delivery_mode": 1, "priority": 3, "message_id": "m",
                       "timestamp": 1700000000}}


def test_a_delivery(taps, other, name):
    queue = other.queue_declare(name(), exclusive=True).method.queue
    other.basic_publish("", queue, b"body", pika.BasicProperties(message_id="m"))
    assert other.basic_get(queue, auto_ack=False)[2] == b"body"
    headers, body = taps(f"deliver.{queue}")
    assert body == b"body"
    assert headers.pop("node") and headers.pop("connection")
    assert headers == {"exchange_name": "", "routing_keys": [queue], "properties": {"message_id": "m"}, "vhost": "/", "channel": 1, "user": "guest",
                       "redelivered": 0}
    other.basic_nack(1, requeue=True)
    assert other.basic_get(queue, auto_ack=True)[2] == b"body"
    assert taps(f"deliver.{queue}")[0]["redelivered"] == 1


def test_to_a_consumer(taps, other, name):
    queue = other.queue_declare(name(), exclusive=True).method.queue
    for number in range(5):
        other.basic_publish("", queue, b"%d" % number)
    got = [body for (_, _, body), _ in zip(other.consume(queue, auto_ack=True, inactivity_timeout=5), range(5))]
    assert got == [b"0", b"1", b"2", b"3", b"4"]
    assert [taps(f"deliver.{queue}")[1] for _ in range(5)] == got
    assert [taps("publish.")[0]["routed_queues"] for _ in range(5)] == [[queue]] * 5


def test_what_reaches_nobody(taps, other, name):
    exchange = name()
    other.exchange_declare(exchange, "direct", auto_delete=True)
    returned = []
    other.add_on_return_callback(lambda *seen: returned.append(seen[3]))
    other.basic_publish(exchange, "nobody", b"dropped")
    assert taps(f"publish.{exchange}") [1] == b"dropped"
    other.basic_publish(exchange, "nobody", b"returned", mandatory=True)
    headers, body = taps(f"publish.{exchange}")
    assert (headers["routed_queues"], body) == ([], b"returned")
    other.connection.process_data_events(0.1)
    assert returned == [b"returned"]
    other.exchange_delete(exchange)


def test_confirms_and_transactions_go_on(taps, other, traced, connect_to, name):
    queue = other.queue_declare(name(), exclusive=True).method.queue
    other.confirm_delivery()
    for size in (0, 10, 200_000):
        other.basic_publish("", queue, b"x" * size, mandatory=True)
        assert taps("publish.")[1] == b"x" * size
    with pytest.raises(pika.exceptions.UnroutableError):
        other.basic_publish("", "nobody at all", b"x", mandatory=True)
    other.basic_publish("", "nobody at all", b"confirmed all the same")
    assert other.queue_purge(queue).method.message_count == 3
    transactional = other.connection.channel()
    transactional.tx_select()
    transactional.basic_publish("", queue, b"in a transaction")
    transactional.tx_commit()
    assert transactional.queue_purge(queue).method.message_count == 1


def test_fanout_names_all_queues(taps, other, name):
    queues = sorted(other.queue_declare(name(), exclusive=True).method.queue for _ in range(3))
    for queue in queues:
        other.queue_bind(queue, "amq.fanout")
    other.basic_publish("amq.fanout", "", b"x")
    headers, _ = taps("publish.amq.fanout")
    assert sorted(headers["routed_queues"]) == queues
    assert [other.queue_purge(queue).method.message_count for queue in queues] == [1, 1, 1]


def test_copies_are_not_copied(taps, other, name):
    other.basic_publish("", "nobody", b"x")
    taps("publish.")
    taps.seen()
    assert not [key for key in taps.seen() if "trace" in key or key.startswith("deliver.amq.gen")]


def test_only_what_is_asked_for(channel, other, name, eventually):
    queue, only = (other.queue_declare(name(), exclusive=True).method.queue for _ in range(2))
    channel.queue_declare(name("x"), exclusive=True)
    other.queue_bind(only, "amq.rabbitmq.trace", f"deliver.{queue}")
    other.basic_publish("", queue, b"x")
    assert eventually(lambda: other.basic_get(queue, auto_ack=True)[0])
    assert eventually(lambda: other.basic_get(only, auto_ack=True)[0]).routing_key == f"deliver.{queue}"


def test_off_again(taps, other, traced, name):
    queue = other.queue_declare(name(), exclusive=True).method.queue
    other.queue_bind(queue, "amq.fanout")
    traced.control("trace_off")
    try:
        other.basic_publish("amq.fanout", "", b"not seen")
        assert other.basic_get(queue, auto_ack=True)[2] == b"not seen"
    finally:
        traced.control("trace_on")
    other.basic_publish("amq.fanout", "", b"seen")
    assert taps("publish.amq.fanout")[1] == b"seen"
    assert f"deliver.{queue}" not in taps.seen()


def test_switching_it_is_no_event(own_broker, connect_to):
    broker = own_broker()
    channel = connect_to(broker).channel()
    channel.confirm_delivery()
    copies, queue = (channel.queue_declare("", exclusive=True).method.queue for _ in range(2))
    channel.queue_bind(copies, "amq.rabbitmq.trace", "#")
    for command in ("trace_on", "list_vhosts"):
        broker.control(command)
    channel.basic_publish("", queue, b"x")
    broker.control("trace_off")
    channel.basic_publish("", queue, b"y")
    seen = []
    while (got := channel.basic_get(copies, auto_ack=True))[0]:
        seen.append((got[0].routing_key, got[2]))
    assert seen == [("publish.", b"x")]
