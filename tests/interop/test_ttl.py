"""Time to live: of a queue's messages, of one message, and of a queue itself."""
import time

import pika
import pytest

LASTING = pika.BasicProperties(delivery_mode=2)


def count(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def expiring(text, **more):
    return pika.BasicProperties(expiration=text, **more)


def test_messages_expire_while_nobody_consumes(channel, name, eventually):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-message-ttl": 300})
    channel.confirm_delivery()
    begin = time.monotonic()
    for _ in range(10):
        channel.basic_publish("", queue, b"x")
    assert count(channel, queue) == 10
    assert eventually(lambda: count(channel, queue) == 0)
    assert time.monotonic() - begin >= 0.3


def test_many_at_once(channel, name, eventually):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-message-ttl": 2500})
    for i in range(20000):
        channel.basic_publish("", queue, b"x")
    assert eventually(lambda: count(channel, queue) == 0, timeout_s=20)
    channel.basic_publish("", queue, b"later")
    assert channel.basic_get(queue, auto_ack=True)[2] == b"later"


def test_never_early(channel, name):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-message-ttl": 400})
    channel.confirm_delivery()
    begin = time.monotonic()
    channel.basic_publish("", queue, b"x")
    while True:
        now = time.monotonic()
        if count(channel, queue) == 0:
            break
        assert now - begin < 5
    assert time.monotonic() - begin >= 0.4


def test_never_early_after_a_pause(channel, name):
    """A broker that had nothing to do for a while knows what time it is all the same."""
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-message-ttl": 400})
    channel.confirm_delivery()
    for pause_s in (0.2, 0.45, 0.7):
        time.sleep(pause_s)
        begin = time.monotonic()
        channel.basic_publish("", queue, b"x")
        time.sleep(0.1)
        there = channel.basic_get(queue, auto_ack=True)[2]
        assert there == b"x" or time.monotonic() - begin >= 0.4


def test_a_message_of_its_own_time(channel, queue, eventually):
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"short", expiring("300"))
    channel.basic_publish("", queue, b"long", expiring("60000"))
    assert count(channel, queue) == 2
    assert eventually(lambda: count(channel, queue) == 1)
    assert channel.basic_get(queue)[2] == b"long"


def test_the_shorter_of_the_two_counts(channel, name, eventually):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-message-ttl": 200})
    channel.basic_publish("", queue, b"x", expiring("60000"))
    assert eventually(lambda: count(channel, queue) == 0, timeout_s=3)
    channel.queue_declare(queue + "-2", exclusive=True, arguments={"x-message-ttl": 60000})
    channel.basic_publish("", queue + "-2", b"x", expiring("100"))
    assert eventually(lambda: count(channel, queue + "-2") == 0, timeout_s=3)


def test_only_the_head_is_judged(channel, queue, eventually):
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"long", expiring("1000"))
    channel.basic_publish("", queue, b"short", expiring("1"))
    time.sleep(0.15)
    assert count(channel, queue) == 2
    assert eventually(lambda: count(channel, queue) == 0)


def test_what_has_expired_is_not_got(channel, queue):
    channel.basic_publish("", queue, b"short", expiring("1"))
    channel.basic_publish("", queue, b"next")
    time.sleep(0.1)
    assert channel.basic_get(queue, auto_ack=True)[2] == b"next"


def test_zero_without_a_consumer(channel, queue, eventually):
    channel.basic_publish("", queue, b"x", expiring("0"))
    assert channel.basic_get(queue) == (None, None, None)
    assert count(channel, queue) == 0


@pytest.mark.parametrize("arguments, properties", [({"x-message-ttl": 0}, None), ({}, expiring("0"))])
def test_zero_with_a_consumer(connection, channel, name, arguments, properties):
    queue, got = name(), []
    channel.queue_declare(queue, exclusive=True, arguments=arguments)
    channel.basic_consume(queue, lambda ch, method, props, body: got.append(body), auto_ack=True)
    connection.process_data_events(0.1)
    for i in range(50):
        channel.basic_publish("", queue, b"%d" % i, properties)
    deadline = time.monotonic() + 5
    while len(got) < 50 and time.monotonic() < deadline:
        connection.process_data_events(0.05)
    assert got == [b"%d" % i for i in range(50)]


def test_requeued_messages_expire(channel, name, eventually):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-message-ttl": 300})
    channel.basic_publish("", queue, b"x")
    tag = channel.basic_get(queue)[0].delivery_tag
    time.sleep(0.5)
    channel.basic_nack(tag, requeue=True)
    assert eventually(lambda: count(channel, queue) == 0, timeout_s=2)


def test_unacknowledged_messages_do_not_expire(channel, name):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-message-ttl": 100})
    channel.basic_publish("", queue, b"x")
    method, _, body = channel.basic_get(queue)
    time.sleep(0.3)
    channel.basic_ack(method.delivery_tag)
    assert body == b"x"
    assert channel.is_open


@pytest.mark.parametrize("text, why", [
    ("abc", "no_integer"),
    ("", "no_integer"),
    ("5x", '{leftover_string,"x"}'),
    ("1.5", '{leftover_string,".5"}'),
    ("-1", "{value_negative,-1}"),
    ("315360000001", "{value_too_large,315360000001}"),
])
def test_invalid_expiration(channel, queue, expect_close, text, why):
    channel.basic_publish("", queue, b"x", expiring(text))
    assert expect_close(406)(channel.queue_declare, queue, passive=True) == f"PRECONDITION_FAILED - invalid expiration '{text}': {why}"


@pytest.mark.parametrize("text", ["0", "+5000", "05000", "315360000000"])
def test_valid_expiration(channel, queue, text):
    channel.basic_publish("", queue, b"x", expiring(text))
    assert channel.queue_declare(queue, passive=True).method.queue == queue


def test_expiration_is_delivered(channel, queue):
    channel.basic_publish("", queue, b"x", expiring("60000"))
    assert channel.basic_get(queue, auto_ack=True)[1].expiration == "60000"


def test_over_a_restart(own_broker, connect_to, name, eventually):
    broker = own_broker()
    channel = connect_to(broker).channel()
    channel.queue_declare(name("t"), durable=True, arguments={"x-message-ttl": 2500})
    own, ttl = name("own"), name("ttl")
    channel.queue_declare(own, durable=True)
    channel.queue_declare(ttl, durable=True, arguments={"x-message-ttl": 2500})
    channel.confirm_delivery()
    begin = time.monotonic()
    channel.basic_publish("", ttl, b"x", LASTING)
    channel.basic_publish("", own, b"short", expiring("2500", delivery_mode=2))
    channel.basic_publish("", own, b"long", expiring("600000", delivery_mode=2))
    broker.restart()
    channel = connect_to(broker).channel()
    assert eventually(lambda: count(channel, ttl) == 0 and count(channel, own) == 1, timeout_s=8)
    assert time.monotonic() - begin >= 2.5
    assert channel.basic_get(own, auto_ack=True)[2] == b"long"


# ---- queues ------------------------------------------------------------------------------------------------------------


def exists(connection, queue):
    channel = connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
        channel.close()
        return True
    except pika.exceptions.ChannelClosedByBroker as error:
        assert error.reply_code == 404
        return False


def test_unused_queue_goes(connection, channel, name):
    queue = name()
    channel.queue_declare(queue, arguments={"x-expires": 300})
    channel.basic_publish("", queue, b"x")
    time.sleep(0.1)
    assert exists(connection, queue)   # which uses it
    time.sleep(0.6)
    assert not exists(connection, queue)


def test_a_consumer_uses_it(connection, channel, name):
    queue = name()
    channel.queue_declare(queue, arguments={"x-expires": 300})
    tag = channel.basic_consume(queue, lambda *_: None)
    time.sleep(0.7)
    connection.process_data_events(0)
    assert channel.queue_declare(queue, passive=True)
    channel.basic_cancel(tag)
    time.sleep(0.7)
    assert not exists(connection, queue)


@pytest.mark.parametrize("use", ["get", "declare", "passive"])
def test_gets_and_declarations_use_it(connection, channel, name, use):
    queue, arguments = name(), {"x-expires": 500}
    channel.queue_declare(queue, arguments=arguments)
    for _ in range(5):
        time.sleep(0.2)
        if use == "get":
            channel.basic_get(queue)
        else:
            channel.queue_declare(queue, passive=use == "passive", arguments=arguments)
    time.sleep(0.9)
    assert not exists(connection, queue)


def test_publishing_does_not(connection, channel, name):
    queue = name()
    channel.queue_declare(queue, arguments={"x-expires": 400})
    for _ in range(8):
        channel.basic_publish("", queue, b"x")
        time.sleep(0.1)
    assert not exists(connection, queue)


def test_unused_queue_goes_after_a_restart(own_broker, connect_to, name, eventually):
    broker = own_broker()
    channel = connect_to(broker).channel()
    queue = name()
    channel.queue_declare(queue, durable=True, arguments={"x-expires": 3000})
    broker.restart()
    connection = connect_to(broker)
    time.sleep(4.5)
    assert not exists(connection, queue)


def test_the_next_is_judged_when_the_first_has_been_taken(channel, queue, eventually):
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"for ever")
    channel.basic_publish("", queue, b"short", expiring("200"))
    time.sleep(0.3)
    assert count(channel, queue) == 2
    assert channel.basic_get(queue, auto_ack=True)[2] == b"for ever"
    assert eventually(lambda: count(channel, queue) == 0, timeout_s=3)


def test_the_next_is_judged_when_the_first_was_too_much(channel, name, eventually):
    dead, queue = name("dead"), name()
    channel.queue_declare(dead, exclusive=True)
    channel.queue_declare(queue, exclusive=True, arguments={"x-max-length": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    channel.basic_publish("", queue, b"for ever")
    channel.basic_publish("", queue, b"short", expiring("200"))
    assert eventually(lambda: count(channel, dead) == 2, timeout_s=3)
    assert [channel.basic_get(dead, auto_ack=True)[1].headers["x-death"][0]["reason"] for _ in range(2)] == ["maxlen", "expired"]


def test_in_a_transaction_time_begins_with_the_commit(channel, name):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-message-ttl": 800})
    channel.tx_select()
    channel.basic_publish("", queue, b"one")
    time.sleep(1)
    channel.basic_publish("", queue, b"two")
    channel.tx_commit()
    assert [channel.basic_get(queue)[2] for _ in range(2)] == [b"one", b"two"]
