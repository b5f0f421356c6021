"""Quorum queues count how often a message came back, and give it up when that is too often. A get is told of 0 too, a consumer is not."""
import pika
import pytest

LASTING = pika.BasicProperties(delivery_mode=2)


def declare(channel, queue, **arguments):
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum", **{key.replace("_", "-"): value for key, value in arguments.items()}})
    channel.confirm_delivery()


def get(channel, queue, eventually):
    """A message, which a quorum queue may take a moment to give back: (tag, redelivered, count, body)."""
    method, properties, body = eventually(lambda: (lambda got: got if got[0] else None)(channel.basic_get(queue)), missing=lambda: f"{queue} stays empty")
    return method.delivery_tag, method.redelivered, (properties.headers or {}).get("x-delivery-count"), body


def count(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def test_counts_what_comes_back(channel, name, eventually):
    queue = name()
    declare(channel, queue)
    channel.basic_publish("", queue, b"x", pika.BasicProperties(delivery_mode=2, headers={"mine": 1}))
    for expected in (0, 1, 2, 3):
        tag, redelivered, times, _ = get(channel, queue, eventually)
        assert (redelivered, times) == (expected > 0, expected)
        channel.basic_nack(tag, requeue=True)
    method, properties, _ = eventually(lambda: (lambda got: got if got[0] else None)(channel.basic_get(queue)))
    assert properties.headers == {"mine": 1, "x-delivery-count": 4}
    channel.queue_delete(queue)


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_gives_up(channel, name, eventually, limit):
    queue = name()
    declare(channel, queue, x_delivery_limit=limit)
    channel.basic_publish("", queue, b"poison", LASTING)
    channel.basic_publish("", queue, b"good", LASTING)
    for expected in range(limit + 1):
        tag, _, times, body = get(channel, queue, eventually)
        assert (times, body) == (expected, b"poison")
        channel.basic_reject(tag, requeue=True)
    assert get(channel, queue, eventually)[3] == b"good"
    assert count(channel, queue) == 0
    channel.queue_delete(queue)


def test_a_channel_that_ends_counts_too(connection, channel, name, eventually):
    queue = name()
    declare(channel, queue, x_delivery_limit=1)
    channel.basic_publish("", queue, b"x", LASTING)
    for expected in (0, 1):
        other = connection.channel()
        assert get(other, queue, eventually)[2] == expected
        other.close()
    assert eventually(lambda: count(channel, queue) == 0)
    assert channel.basic_get(queue) == (None, None, None)
    channel.queue_delete(queue)


def test_counts_for_consumers(connection, channel, name):
    queue, got = name(), []

    def refuse(ch, method, properties, body):
        got.append((properties.headers or {}).get("x-delivery-count"))
        ch.basic_nack(method.delivery_tag, requeue=True)

    declare(channel, queue, x_delivery_limit=4)
    channel.basic_consume(queue, refuse)
    channel.basic_publish("", queue, b"x", LASTING)
    for _ in range(50):
        connection.process_data_events(0.05)
        if len(got) == 5:
            break
    connection.process_data_events(0.2)
    assert got == [None, 1, 2, 3, 4]
    channel.queue_delete(queue)


def test_without_a_limit(channel, name, eventually):
    queue = name()
    declare(channel, queue)
    channel.basic_publish("", queue, b"x", LASTING)
    for _ in range(30):
        channel.basic_nack(get(channel, queue, eventually)[0], requeue=True)
    assert get(channel, queue, eventually)[2] == 30
    channel.queue_delete(queue)


def test_classic_queues_do_not_count(channel, queue):
    channel.basic_publish("", queue, b"x")
    channel.basic_nack(channel.basic_get(queue)[0].delivery_tag, requeue=True)
    method, properties, _ = channel.basic_get(queue)
    assert method.redelivered and not properties.headers


def test_quorum_queues_keep_every_message(own_broker, connect_to, name, eventually):
    """Over a restart, whatever its delivery mode says."""
    broker = own_broker()
    channel = connect_to(broker).channel()
    queue = name()
    declare(channel, queue)
    channel.basic_publish("", queue, b"transient")
    channel.basic_publish("", queue, b"too", pika.BasicProperties(delivery_mode=1))
    broker.restart()
    channel = connect_to(broker).channel()
    for expected in (b"transient", b"too"):
        assert get(channel, queue, eventually)[3] == expected


def test_over_a_restart(own_broker, connect_to, name, eventually):
    broker = own_broker()
    channel = connect_to(broker).channel()
    queue = name()
    declare(channel, queue, x_delivery_limit=3)
    channel.basic_publish("", queue, b"poison", LASTING)
    channel.basic_publish("", queue, b"good", LASTING)
    for _ in range(2):
        tag, _, _, body = get(channel, queue, eventually)
        assert body == b"poison"
        channel.basic_nack(tag, requeue=True)
    for expected in (2, 3):
        broker.restart()
        channel = connect_to(broker).channel()
        tag, redelivered, times, body = get(channel, queue, eventually)
        assert (redelivered, times, body) == (True, expected, b"poison")
        channel.basic_nack(tag, requeue=True)
    assert get(channel, queue, eventually)[3] == b"good"
