"""Queues that are full: x-max-length, x-max-length-bytes, and what happens to what is too much."""
import pika
import pytest

LASTING = pika.BasicProperties(delivery_mode=2)


def drain(channel, queue):
    bodies = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return bodies
        bodies.append(body)


def count(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def numbers(first, end):
    return [b"%03d" % i for i in range(first, end)]


def publish(channel, queue, bodies, properties=None):
    """Answers which were refused."""
    refused = []
    for body in bodies:
        try:
            channel.basic_publish("", queue, body, properties)
        except pika.exceptions.NackError:
            refused.append(body)
    return refused


def test_drops_its_head(channel, name):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-max-length": 10})
    channel.confirm_delivery()
    publish(channel, queue, numbers(0, 25))
    assert count(channel, queue) == 10
    assert drain(channel, queue) == numbers(15, 25)


def test_drops_its_head_and_confirms(channel, name):
    queue = name()
    channel.queue_declare(queue, durable=True, arguments={"x-max-length": 3, "x-overflow": "drop-head"})
    channel.confirm_delivery()
    assert publish(channel, queue, numbers(0, 8), LASTING) == []
    assert drain(channel, queue) == numbers(5, 8)
    channel.queue_delete(queue)


def test_bytes_of_bodies_are_counted(channel, name):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-max-length-bytes": 30})
    properties = pika.BasicProperties(headers={"long": "x" * 1000})   # which does not count
    publish(channel, queue, numbers(0, 12), properties)
    assert drain(channel, queue) == numbers(2, 12)
    publish(channel, queue, [b"a", b"x" * 30])
    assert drain(channel, queue) == [b"x" * 30]
    publish(channel, queue, [b"x" * 31])
    assert drain(channel, queue) == []


def test_both_limits(channel, name):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-max-length-bytes": 30, "x-max-length": 4})
    channel.confirm_delivery()
    publish(channel, queue, numbers(0, 6))
    assert count(channel, queue) == 4
    publish(channel, queue, [b"x" * 25])
    assert drain(channel, queue) == [b"005", b"x" * 25]


def test_length_zero(channel, name):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-max-length": 0})
    channel.confirm_delivery()
    publish(channel, queue, numbers(0, 3))
    assert count(channel, queue) == 0


@pytest.mark.parametrize("overflow", ["reject-publish", "reject-publish-dlx"])
@pytest.mark.parametrize("durable", [False, True])
def test_refuses(channel, name, overflow, durable):
    queue = name()
    channel.queue_declare(queue, durable=durable, arguments={"x-max-length": 3, "x-overflow": overflow})
    channel.confirm_delivery()
    properties = LASTING if durable else None
    assert publish(channel, queue, numbers(0, 5), properties) == numbers(3, 5)
    assert channel.basic_get(queue, auto_ack=True)[2] == b"000"
    assert publish(channel, queue, numbers(5, 7), properties) == numbers(6, 7)
    assert drain(channel, queue) == numbers(1, 3) + numbers(5, 6)
    channel.queue_delete(queue)


def test_refuses_bytes(channel, name):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-max-length-bytes": 10, "x-overflow": "reject-publish"})
    channel.confirm_delivery()
    assert publish(channel, queue, [b"x" * 8, b"yyy", b"zz", b"a"]) == [b"yyy", b"a"]
    assert drain(channel, queue) == [b"x" * 8, b"zz"]


def test_refuses_without_confirms(channel, name):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    publish(channel, queue, numbers(0, 5))
    assert drain(channel, queue) == numbers(0, 1)


def test_a_run_is_confirmed_piece_by_piece(connect, name):
    """Many publishes at once to a queue that is full, and to one that is not, in turn."""
    connection = connect()
    channel = connection.channel()
    full, free = name("full"), name("free")
    channel.queue_declare(full, exclusive=True, arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    channel.queue_declare(free, exclusive=True)
    told = {}

    def settled(frame):
        method = frame.method
        tags = [tag for tag in range(1, method.delivery_tag + 1) if tag not in told] if method.multiple else [method.delivery_tag]
        for tag in tags:
            told[tag] = isinstance(method, pika.spec.Basic.Ack)

    channel._impl.confirm_delivery(settled)
    connection.process_data_events(0.2)
    for i in range(60):
        channel._impl.basic_publish("", full if i % 3 == 0 else free, b"%d" % i)
    for _ in range(100):
        if len(told) == 60:
            break
        connection.process_data_events(0.05)
    assert told == {i + 1: i % 3 != 0 or i < 6 for i in range(60)}


def test_refused_by_one_of_several(channel, name):
    exchange, full, free = name("x"), name("full"), name("free")
    channel.exchange_declare(exchange, "fanout", auto_delete=True)
    channel.queue_declare(full, exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    channel.queue_declare(free, exclusive=True)
    for queue in (full, free):
        channel.queue_bind(queue, exchange)
    channel.confirm_delivery()
    channel.basic_publish(exchange, "", b"1")
    with pytest.raises(pika.exceptions.NackError):
        channel.basic_publish(exchange, "", b"2")
    assert drain(channel, full) == [b"1"]
    assert drain(channel, free) == [b"1", b"2"]


def test_a_transaction_that_is_refused_in_part(channel, name, expect_close, connection):
    full, free = name("full"), name("free")
    channel.queue_declare(full, exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    channel.queue_declare(free, exclusive=True)
    channel.tx_select()
    for queue in (full, full, free):
        channel.basic_publish("", queue, b"x")
    assert expect_close(406)(channel.tx_commit) == "PRECONDITION_FAILED - partial tx completion"
    channel = connection.channel()
    assert count(channel, full) == 1
    assert count(channel, free) == 1


def test_consumers_are_served_before_anything_is_dropped(connect, name):
    connection = connect()
    channel = connection.channel()
    queue, got = name(), []
    channel.queue_declare(queue, exclusive=True, arguments={"x-max-length": 1})
    channel.basic_consume(queue, lambda ch, method, properties, body: got.append(body), auto_ack=True)
    publish(channel, queue, numbers(0, 100))
    for _ in range(100):
        if len(got) == 100:
            break
        connection.process_data_events(0.05)
    assert got == numbers(0, 100)


def test_consumers_are_served_before_anything_is_refused(connect, name):
    connection = connect()
    channel, other = connection.channel(), connection.channel()
    queue, got = name(), []
    channel.queue_declare(queue, exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    channel.basic_consume(queue, lambda ch, method, properties, body: got.append(body), auto_ack=True)
    other.confirm_delivery()
    assert publish(other, queue, numbers(0, 50)) == []


def test_what_comes_back_to_a_full_queue(channel, name):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-max-length": 2})
    publish(channel, queue, numbers(0, 2))
    tag = channel.basic_get(queue)[0].delivery_tag
    publish(channel, queue, numbers(2, 3))
    channel.basic_nack(tag, requeue=True)
    assert drain(channel, queue) == numbers(1, 3)


def test_over_a_restart(own_broker, connect_to, name):
    broker = own_broker()
    channel = connect_to(broker).channel()
    short, small, refusing = name("short"), name("small"), name("refusing")
    channel.queue_declare(short, durable=True, arguments={"x-max-length": 3})
    channel.queue_declare(small, durable=True, arguments={"x-max-length-bytes": 9})
    channel.queue_declare(refusing, durable=True, arguments={"x-max-length-bytes": 9, "x-overflow": "reject-publish"})
    channel.confirm_delivery()
    for queue in (short, small, refusing):
        publish(channel, queue, numbers(0, 4), LASTING)
    broker.restart()
    channel = connect_to(broker).channel()
    channel.confirm_delivery()
    assert publish(channel, short, numbers(4, 5), LASTING) == []
    assert publish(channel, small, numbers(4, 5), LASTING) == []
    assert publish(channel, refusing, numbers(4, 5), LASTING) == numbers(4, 5)
    assert drain(channel, short) == numbers(2, 5)
    assert drain(channel, small) == numbers(2, 5)
    assert drain(channel, refusing) == numbers(0, 3)
