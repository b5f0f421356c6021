"""The property user_id is checked: it may name nobody else, but for users with the tag impersonator."""
import pika
import pytest


def publish(channel, queue, user, size=1):
    channel.basic_publish("", queue, b"x" * size, pika.BasicProperties(user_id=user))


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_ones_own_name(channel, queue, size):
    channel.confirm_delivery()
    publish(channel, queue, "guest", size)
    method, properties, _ = channel.basic_get(queue, auto_ack=True)
    assert properties.user_id == "guest"


@pytest.mark.parametrize("user", ["somebody", "", "Guest", "guest "])
def test_another_name(channel, queue, expect_close, user):
    channel.confirm_delivery()
    text = f"PRECONDITION_FAILED - user_id property set to '{user}' but authenticated user was 'guest'"
    assert expect_close(406, text)(publish, channel, queue, user) == text


def test_the_message_is_not_there(connect, queue, channel, expect_close):
    other = connect().channel()
    other.confirm_delivery()
    queue = channel.queue_declare("user-id-nothing", auto_delete=True).method.queue
    expect_close(406)(publish, other, queue, "x")
    assert channel.queue_delete(queue).method.message_count == 0


def test_an_impersonator(broker, connect, channel, name, expect_close):
    queue = channel.queue_declare(name()).method.queue
    broker.control("add_user", "impersonating", "secret")
    try:
        broker.control("set_permissions", "impersonating", ".*", ".*", ".*")
        credentials = pika.PlainCredentials("impersonating", "secret")
        other = connect(credentials=credentials).channel()
        other.confirm_delivery()
        expect_close(406, "user_id property set to 'somebody' but authenticated user was 'impersonating'")(publish, other, queue, "somebody")
        broker.control("set_user_tags", "impersonating", "impersonator")
        other = connect(credentials=credentials).channel()
        other.confirm_delivery()
        publish(other, queue, "somebody")
        assert channel.basic_get(queue, auto_ack=True)[1].user_id == "somebody"
    finally:
        broker.control("delete_user", "impersonating")
        channel.queue_delete(queue)
