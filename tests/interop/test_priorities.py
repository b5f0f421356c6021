"""x-max-priority: the highest first, and those of one level in the order in which they came."""
import pika
import pytest


@pytest.fixture
def levels(channel, name):
    def make(most=10, **more):
        queue = name()
        channel.queue_declare(queue, arguments={"x-max-priority": most}, **{"exclusive": True, **more})
        return queue
    return make


def publish(channel, queue, priority, body, **more):
    channel.basic_publish("", queue, body.encode(), pika.BasicProperties(priority=priority, **more))


def all_of(channel, queue):
    found = []
    while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
        found.append(got[2].decode())
    return found


def test_highest_first(channel, levels):
    queue = levels()
    for priority in (1, 5, 3, 10, 0, 5):
        publish(channel, queue, priority, str(priority))
    assert all_of(channel, queue) == ["10", "5", "5", "3", "1", "0"]


def test_order_within_a_level(channel, levels):
    queue = levels()
    for i in range(60):
        publish(channel, queue, i % 3, f"{i % 3}-{i:02d}")
    found = all_of(channel, queue)
    assert [body[0] for body in found] == ["2"] * 20 + ["1"] * 20 + ["0"] * 20
    assert all(found[i:i + 20] == sorted(found[i:i + 20]) for i in (0, 20, 40))


def test_none_is_the_lowest(channel, levels):
    queue = levels()
    channel.basic_publish("", queue, b"none")
    publish(channel, queue, 0, "zero")
    publish(channel, queue, 1, "one")
    assert all_of(channel, queue) == ["one", "none", "zero"]


def test_above_the_highest_is_the_highest(channel, levels):
    queue = levels(most=5)
    publish(channel, queue, 5, "first of the highest")
    publish(channel, queue, 9, "second")
    publish(channel, queue, 255, "third")
    publish(channel, queue, 4, "lower")
    assert all_of(channel, queue) == ["first of the highest", "second", "third", "lower"]
    publish(channel, queue, 200, "kept")
    assert channel.basic_get(queue, auto_ack=True)[1].priority == 200, "the property is delivered as it was"


def test_a_requeued_message_goes_back_to_its_level(channel, levels):
    queue = levels()
    publish(channel, queue, 5, "a")
    publish(channel, queue, 5, "b")
    method = channel.basic_get(queue)[0]
    publish(channel, queue, 7, "higher")
    channel.basic_reject(method.delivery_tag, requeue=True)
    assert all_of(channel, queue) == ["higher", "a", "b"]


def test_consumers_get_the_highest_that_is_there(connection, channel, levels):
    queue, seen = levels(), []
    for priority in (1, 2, 3):
        publish(channel, queue, priority, str(priority))
    channel.basic_qos(prefetch_count=1)

    def on_message(ch, method, properties, body):
        seen.append(body.decode())
        if len(seen) == 1:
            publish(ch, queue, 9, "9")
            ch.queue_declare(queue, passive=True)
        ch.basic_ack(method.delivery_tag)
    channel.basic_consume(queue, on_message)
    for _ in range(50):
        connection.process_data_events(0.1)
        if len(seen) == 4:
            break
    assert seen == ["3", "9", "2", "1"]


def test_counts_and_purge(channel, levels):
    queue = levels()
    channel.confirm_delivery()
    for i in range(30):
        publish(channel, queue, i % 11, "x")
    assert channel.queue_declare(queue, passive=True).method.message_count == 30
    assert channel.queue_purge(queue).method.message_count == 30
    publish(channel, queue, 3, "after")
    assert all_of(channel, queue) == ["after"]


def test_in_a_transaction(channel, levels):
    queue = levels()
    channel.tx_select()
    for priority in (1, 9, 4):
        publish(channel, queue, priority, str(priority))
    channel.tx_commit()
    assert all_of(channel, queue) == ["9", "4", "1"]


def test_a_queue_that_is_full_drops_its_head_which_is_the_highest(channel, name):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-max-priority": 5, "x-max-length": 2})
    for priority in (5, 1, 3):
        publish(channel, queue, priority, str(priority))
    assert all_of(channel, queue) == ["3", "1"]


def test_over_a_restart(own_broker, connect_to, name):
    broker, queue = own_broker(), name()
    channel = connect_to(broker).channel()
    channel.queue_declare(queue, durable=True, arguments={"x-max-priority": 5})
    channel.confirm_delivery()
    for priority in (1, 5, 3, 5):
        publish(channel, queue, priority, str(priority), delivery_mode=2)
    broker.restart()
    assert all_of(connect_to(broker).channel(), queue) == ["5", "5", "3", "1"]


@pytest.mark.godwit_only("RabbitMQ has one queue a level: 255 of them take it seconds")
def test_as_many_levels_as_there_are(channel, levels):
    queue = levels(most=255)
    for priority in range(256):
        publish(channel, queue, (priority * 37) % 256, str((priority * 37) % 256))
    assert all_of(channel, queue) == [str(priority) for priority in reversed(range(256))]
