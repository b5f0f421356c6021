"""What survives a restart: after SIGTERM everything durable, after SIGKILL everything confirmed."""
import os

import pika
import pytest


PERSISTENT = pika.BasicProperties(delivery_mode=2)


@pytest.fixture(params=["stop", "kill"])
def again(request):
    """Ends a broker one way or the other and starts it on the same data."""

    def restart(broker):
        getattr(broker, request.param)()
        return broker.start()
    return restart


def publish(connection, queue, bodies, properties=PERSISTENT, exchange=""):
    channel = connection.channel()
    channel.confirm_delivery()
    for body in bodies:
        channel.basic_publish(exchange, queue, body, properties, mandatory=True)
    channel.close()


def drain(connection, queue):
    channel, got = connection.channel(), []
    while True:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return got
        got.append((body, method.redelivered, properties))


def bodies(connection, queue):
    return [body for body, _, _ in drain(connection, queue)]


def exists(connection, what, name):
    try:
        getattr(connection.channel(), f"{what}_declare")(name, passive=True)
        return True
    except pika.exceptions.ChannelClosedByBroker as error:
        assert error.reply_code == 404
        return False


@pytest.mark.limit(120)
def test_what_stays_and_what_goes(own_broker, connect_to, again):
    broker = own_broker()
    connection = connect_to(broker)
    channel = connection.channel()
    channel.queue_declare("durable", durable=True)
    channel.queue_declare("transient")
    channel.queue_declare("arguments", durable=True, arguments={"x-note": "kept", "x-number": 7})
    channel.exchange_declare("durable-x", "topic", durable=True)
    channel.exchange_declare("transient-x", "fanout")
    channel.exchange_declare("lower-x", "fanout", durable=True)
    channel.exchange_bind("lower-x", "durable-x", "down.#")
    channel.queue_bind("durable", "durable-x", "to.*")
    channel.queue_bind("durable", "transient-x")
    channel.queue_bind("transient", "durable-x", "#")
    channel.queue_bind("durable", "lower-x")
    channel.queue_declare("unbound", durable=True)
    channel.queue_bind("unbound", "durable-x", "to.*")
    channel.queue_unbind("unbound", "durable-x", "to.*")
    channel.queue_declare("deleted", durable=True)
    channel.queue_delete("deleted")
    publish(connection, "durable", [b"persistent %d" % index for index in range(20)])
    publish(connection, "durable", [b"transient"], pika.BasicProperties(delivery_mode=1))
    publish(connection, "transient", [b"x"])

    connection = connect_to(again(broker))
    assert exists(connection, "queue", "durable") and exists(connection, "exchange", "durable-x")
    assert not exists(connection, "queue", "transient") and not exists(connection, "exchange", "transient-x")
    assert not exists(connection, "queue", "deleted")
    connection.channel().queue_declare("arguments", durable=True, arguments={"x-note": "kept", "x-number": 7})
    assert bodies(connection, "durable") == [b"persistent %d" % index for index in range(20)]
    publish(connection, "to.here", [b"by topic"], exchange="durable-x")
    publish(connection, "down.there", [b"by both"], exchange="durable-x")
    assert bodies(connection, "durable") == [b"by topic", b"by both"]
    assert bodies(connection, "unbound") == []


@pytest.mark.limit(120)
def test_bodies_and_properties_survive(own_broker, connect_to, again):
    broker = own_broker()
    connection = connect_to(broker)
    connection.channel().queue_declare("q", durable=True)
    sizes = [0, 1, 100, 4095, 4096, 65536, 131072, 1_000_000, 5_000_000]
    sent = [os.urandom(size) for size in sizes]
    properties = pika.BasicProperties(delivery_mode=2, headers={"k": ["v", {"n": 1}]}, message_id="m", content_type="x/y",
                                      timestamp=1700000000, priority=3, correlation_id="c", reply_to="r", app_id="a")
    publish(connection, "q", sent, properties)
    connection = connect_to(again(broker))
    got = drain(connection, "q")
    assert [body for body, _, _ in got] == sent
    for _, _, kept in got:
        assert (kept.headers, kept.message_id, kept.content_type, kept.timestamp, kept.priority, kept.correlation_id,
                kept.reply_to, kept.app_id, kept.delivery_mode) == \
            ({"k": ["v", {"n": 1}]}, "m", "x/y", 1700000000, 3, "c", "r", "a", 2)


@pytest.mark.limit(120)
def test_acknowledged_stays_gone_and_unacknowledged_comes_back(own_broker, connect_to, again):
    broker = own_broker()
    connection = connect_to(broker)
    channel = connection.channel()
    channel.queue_declare("q", durable=True)
    publish(connection, "q", [b"%d" % index for index in range(10)])
    tags = [channel.basic_get("q")[0].delivery_tag for _ in range(6)]
    for index in (0, 2, 3):
        channel.basic_ack(tags[index])
    channel.basic_reject(tags[5], requeue=False)
    # A confirmed publish after the acks on the same queue is the barrier: what came before it is on disk too.
    channel.confirm_delivery()
    channel.basic_publish("", "q", b"barrier", PERSISTENT)
    connection = connect_to(again(broker))
    got = drain(connection, "q")
    assert [body for body, _, _ in got] == [b"1", b"4", b"6", b"7", b"8", b"9", b"barrier"]
    assert [redelivered for _, redelivered, _ in got[:2]] == [True, True]


@pytest.mark.limit(180)
def test_again_and_again(own_broker, connect_to, again):
    broker = own_broker()
    expected = []
    for turn in range(4):
        connection = connect_to(broker)
        channel = connection.channel()
        channel.queue_declare("q", durable=True)
        more = [b"%d-%d" % (turn, index) for index in range(50)]
        publish(connection, "q", more)
        expected += more
        for body in expected[:20]:
            method, _, got = channel.basic_get("q")
            assert got == body
            channel.basic_ack(method.delivery_tag)
        expected = expected[20:]
        publish(connection, "q", [b"barrier"])
        expected.append(b"barrier")
        again(broker)
    assert bodies(connect_to(broker), "q") == expected


@pytest.mark.limit(120)
def test_purged_and_transactions(own_broker, connect_to, again):
    broker = own_broker()
    connection = connect_to(broker)
    channel = connection.channel()
    channel.queue_declare("purged", durable=True)
    channel.queue_declare("tx", durable=True)
    publish(connection, "purged", [b"1", b"2"])
    channel.queue_purge("purged")
    publish(connection, "purged", [b"3"])
    channel.tx_select()
    channel.basic_publish("", "tx", b"committed 1", PERSISTENT)
    channel.basic_publish("", "tx", b"committed 2", PERSISTENT)
    channel.tx_commit()
    channel.basic_publish("", "tx", b"never committed", PERSISTENT)
    connection = connect_to(again(broker))
    assert bodies(connection, "purged") == [b"3"]
    assert bodies(connection, "tx") == [b"committed 1", b"committed 2"]


@pytest.mark.limit(180)
def test_backlog(own_broker, connect_to, again):
    """More than fits a few log files, half of it consumed, in order after a restart."""
    broker = own_broker()
    connection = connect_to(broker)
    channel = connection.channel()
    channel.queue_declare("q", durable=True)
    channel.tx_select()
    count = 6000
    for index in range(count):
        channel.basic_publish("", "q", b"%06d" % index + b"x" * 10_000, PERSISTENT)
        if index % 500 == 499:
            channel.tx_commit()
    consumer = connection.channel()
    seen = []

    def on_message(_, method, properties, body):
        seen.append(int(body[:6]))
        if len(seen) == count // 2:
            consumer.basic_ack(method.delivery_tag, multiple=True)
            consumer.stop_consuming()

    consumer.basic_qos(prefetch_count=count // 2)
    consumer.basic_consume("q", on_message)
    consumer.start_consuming()
    assert seen == list(range(count // 2))
    publish(connection, "q", [b"000000barrier"])
    connection = connect_to(again(broker))
    got = [body[:6] for body in bodies(connection, "q")]
    assert got == [b"%06d" % index for index in range(count // 2, count)] + [b"000000"]


def test_exclusive_durable_queue_does_not_survive(own_broker, connect_to, again):
    broker = own_broker()
    connection = connect_to(broker)
    connection.channel().queue_declare("mine", durable=True, exclusive=True)
    publish(connection, "mine", [b"x"])
    assert not exists(connect_to(again(broker)), "queue", "mine")
