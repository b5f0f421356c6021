"""Policies: what they say of queues, together with arguments and operators, and that it counts at once."""
import json
import time

import pika
import pytest

LASTING = pika.BasicProperties(delivery_mode=2)


@pytest.fixture
def policy(broker, name):
    """policy(queue, definition) applies to that queue alone; policy(queue, None) goes. More: operator=True, priority=1, number=2 for a second one."""
    made = set()

    def put(queue, definition, operator=False, priority=0, number=1):
        one, kind = f"p{number}-{queue}", "operator_policy" if operator else "policy"
        if definition is None:
            made.discard((kind, one))
            broker.control(f"clear_{kind}", one)
            return
        made.add((kind, one))
        broker.control(f"set_{kind}", "--priority", str(priority), "--apply-to", "queues", one, f"^{queue}$", json.dumps(definition))

    yield put
    for kind, one in made:
        broker.control(f"clear_{kind}", one)


def count(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def fill(channel, queue, first, end):
    for i in range(first, end):
        channel.basic_publish("", queue, b"%02d" % i, LASTING)


def drain(channel, queue):
    bodies = []
    while (got := channel.basic_get(queue, auto_ack=True))[0]:
        bodies.append(int(got[2]))
    return bodies


@pytest.fixture
def queue(channel, name):
    made = name()
    channel.queue_declare(made, exclusive=True)
    channel.confirm_delivery()
    return made


def test_a_full_queue_becomes_shorter_at_once(channel, queue, policy, eventually):
    fill(channel, queue, 0, 10)
    policy(queue, {"max-length": 4})
    assert eventually(lambda: count(channel, queue) == 4)
    fill(channel, queue, 10, 12)
    policy(queue, None)
    time.sleep(0.2)
    fill(channel, queue, 12, 20)
    assert drain(channel, queue) == [8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]


def test_a_long_queue_becomes_short(channel, name, policy, eventually):
    queue = name()
    channel.queue_declare(queue, exclusive=True)
    for i in range(20000):
        channel.basic_publish("", queue, b"%05d" % i)
    assert eventually(lambda: count(channel, queue) == 20000)
    policy(queue, {"max-length": 2})
    assert eventually(lambda: count(channel, queue) == 2, timeout_s=20)
    assert drain(channel, queue) == [19998, 19999]


def test_bytes_are_counted_of_what_is_there_already(channel, queue, policy, eventually):
    fill(channel, queue, 0, 10)
    policy(queue, {"max-length-bytes": 8})
    assert eventually(lambda: count(channel, queue) == 4)
    fill(channel, queue, 10, 11)
    assert drain(channel, queue) == [7, 8, 9, 10]


def test_it_is_there_before_the_queue(channel, name, policy):
    queue = name()
    policy(queue, {"max-length": 2})
    channel.queue_declare(queue, exclusive=True)
    channel.confirm_delivery()
    fill(channel, queue, 0, 5)
    assert drain(channel, queue) == [3, 4]


def test_refusing(channel, queue, policy):
    policy(queue, {"max-length": 2, "overflow": "reject-publish"})
    fill(channel, queue, 0, 2)
    with pytest.raises(pika.exceptions.NackError):
        fill(channel, queue, 2, 3)
    policy(queue, {"max-length": 3, "overflow": "reject-publish"})
    fill(channel, queue, 3, 4)
    policy(queue, {"max-length": 1, "overflow": "reject-publish"})   # what is there stays
    assert drain(channel, queue) == [0, 1, 3]


def test_expiry(channel, queue, policy, eventually):
    policy(queue, {"message-ttl": 200})
    fill(channel, queue, 0, 3)
    assert eventually(lambda: count(channel, queue) == 0)
    policy(queue, None)
    fill(channel, queue, 0, 3)
    time.sleep(0.5)
    assert count(channel, queue) == 3


def test_an_unused_queue_goes(connection, channel, name, policy, eventually):
    queue = name()
    channel.queue_declare(queue)
    policy(queue, {"expires": 300})
    time.sleep(1)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        channel.queue_declare(queue, passive=True)


def test_the_operators_lower_limit_counts(channel, queue, policy):
    policy(queue, {"max-length": 5})
    policy(queue, {"max-length": 3}, operator=True)
    fill(channel, queue, 0, 8)
    assert count(channel, queue) == 3
    policy(queue, {"max-length": 7}, operator=True)
    fill(channel, queue, 8, 20)
    assert count(channel, queue) == 5
    policy(queue, None)
    fill(channel, queue, 20, 30)
    assert count(channel, queue) == 7


def test_the_arguments_lower_limit_counts(channel, name, policy):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-max-length": 4})
    channel.confirm_delivery()
    policy(queue, {"max-length": 6})
    fill(channel, queue, 0, 9)
    assert count(channel, queue) == 4
    policy(queue, {"max-length": 2})
    fill(channel, queue, 9, 12)
    assert drain(channel, queue) == [10, 11]


def test_the_argument_counts_where_it_is_no_limit(channel, name, policy):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-max-length": 1, "x-overflow": "drop-head"})
    channel.confirm_delivery()
    policy(queue, {"overflow": "reject-publish"})
    fill(channel, queue, 0, 3)
    assert drain(channel, queue) == [2]


def test_the_highest_priority_counts(channel, queue, policy):
    policy(queue, {"max-length": 2}, priority=1, number=1)
    policy(queue, {"message-ttl": 60000}, priority=5, number=2)
    fill(channel, queue, 0, 6)
    assert count(channel, queue) == 6   # one policy at a time: the other says nothing
    policy(queue, None, number=2)
    fill(channel, queue, 6, 7)
    assert drain(channel, queue) == [5, 6]


def test_one_with_another_types_key_is_passed_over(channel, queue, policy):
    policy(queue, {"max-length": 2, "delivery-limit": 3})
    fill(channel, queue, 0, 5)
    assert count(channel, queue) == 5


def test_delivery_limit(channel, name, policy, eventually):
    queue = name()
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 5})
    channel.confirm_delivery()
    policy(queue, {"delivery-limit": 1})
    fill(channel, queue, 0, 1)
    for _ in range(2):
        method, _, _ = eventually(lambda: (lambda got: got if got[0] else None)(channel.basic_get(queue)))
        channel.basic_nack(method.delivery_tag, requeue=True)
    time.sleep(0.3)
    assert channel.basic_get(queue) == (None, None, None)
    channel.queue_delete(queue)


def test_over_a_restart(own_broker, connect_to, name):
    broker = own_broker()
    queue = name()
    broker.control("set_policy", "--apply-to", "queues", "short", f"^{queue}$", '{"max-length": 3}')
    channel = connect_to(broker).channel()
    channel.queue_declare(queue, durable=True)
    broker.restart()
    channel = connect_to(broker).channel()
    channel.confirm_delivery()
    fill(channel, queue, 0, 6)
    assert drain(channel, queue) == [3, 4, 5]
