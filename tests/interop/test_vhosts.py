"""Virtual hosts: worlds of names of their own, and what becomes of those who are in one that is deleted."""
import contextlib

import pika
import pytest

# Every change by rabbitmqctl takes its time.
pytestmark = pytest.mark.limit(180)


@pytest.fixture
def vhost(broker, name):
    """vhost() makes one that guest may use, and deletes it when the test ends."""
    made = []

    def make():
        made.append(name("vhost"))
        broker.control("add_vhost", made[-1])
        broker.control("set_permissions", "-p", made[-1], "guest", ".*", ".*", ".*")
        return made[-1]

    yield make
    for one in made:
        with contextlib.suppress(Exception):
            broker.control("delete_vhost", one)


def refusal(connect, **more):
    with pytest.raises(pika.exceptions.AMQPConnectionError) as caught:
        connect(**more)
    error = caught.value
    while not hasattr(error, "reply_text") and error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    return str(getattr(error, "reply_code", "")), str(getattr(error, "reply_text", error))


def test_a_vhost_that_is_not_there(connect):
    code, text = refusal(connect, virtual_host="nowhere")
    assert "530" in code + text and "NOT_ALLOWED - vhost nowhere not found" in text


def test_a_vhost_without_permission(broker, connect, name):
    one = name("vhost")
    broker.control("add_vhost", one)
    code, text = refusal(connect, virtual_host=one)
    broker.control("delete_vhost", one)
    assert "530" in code + text and f"NOT_ALLOWED - access to vhost '{one}' refused for user 'guest'" in text


def test_names_of_two_vhosts_have_nothing_to_do_with_each_other(vhost, connect):
    a, b = (connect(virtual_host=vhost()).channel() for _ in range(2))
    for channel, body in ((a, b"a"), (b, b"b")):
        channel.queue_declare("q")
        channel.exchange_declare("x", "fanout")
        channel.queue_bind("q", "x")
        channel.basic_publish("x", "", body)
        channel.basic_publish("", "q", body)
    for channel, body in ((a, b"a"), (b, b"b")):
        for _ in range(2):
            assert channel.basic_get("q", auto_ack=True)[2] == body
        assert channel.basic_get("q", auto_ack=True)[2] is None


def test_each_has_the_predeclared_exchanges(vhost, connect):
    channel = connect(virtual_host=vhost()).channel()
    for exchange, kind in (("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic"), ("amq.headers", "headers"),
                           ("amq.match", "headers"), ("amq.rabbitmq.trace", "topic")):
        channel.exchange_declare(exchange, kind, passive=True)


def test_errors_name_the_vhost(vhost, connect, expect_close):
    one = vhost()
    expect_close(404, f"NOT_FOUND - no queue 'q' in vhost '{one}'")(connect(virtual_host=one).channel().queue_declare, "q", passive=True)
    expect_close(404, f"NOT_FOUND - no exchange 'x' in vhost '{one}'")(connect(virtual_host=one).channel().exchange_declare, "x", passive=True)
    channel = connect(virtual_host=one).channel()
    channel.queue_declare("q", durable=True)
    expect_close(406, f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '{one}': received 'false' but current is 'true'")(
        channel.queue_declare, "q")
    channel = connect(virtual_host=one).channel()
    channel.queue_declare("mine", exclusive=True)
    expect_close(405, f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in vhost '{one}'.")(
        connect(virtual_host=one).channel().queue_declare, "mine", passive=True)


def test_deleting_a_vhost_closes_its_connections(broker, vhost, connect):
    one = vhost()
    connection = connect(virtual_host=one)
    channel = connection.channel()
    channel.queue_declare("q", durable=True)
    channel.basic_publish("", "q", b"gone soon")
    channel.basic_consume("q", lambda *_: None)
    broker.control("delete_vhost", one)
    with pytest.raises(pika.exceptions.AMQPError) as caught:
        for _ in range(100):
            connection.process_data_events(0.1)
    assert caught.value.reply_code == 320
    assert caught.value.reply_text == f"CONNECTION_FORCED - vhost '{one}' is deleted"


def test_a_vhost_made_again_is_empty(broker, vhost, connect, expect_close, eventually):
    one = vhost()
    channel = connect(virtual_host=one).channel()
    channel.queue_declare("q", durable=True)
    channel.exchange_declare("x", "direct", durable=True)
    broker.control("delete_vhost", one)
    broker.control("add_vhost", one)
    broker.control("set_permissions", "-p", one, "guest", ".*", ".*", ".*")
    expect_close(404)(connect(virtual_host=one).channel().queue_declare, "q", passive=True)
    expect_close(404)(connect(virtual_host=one).channel().exchange_declare, "x", passive=True)


def test_what_is_in_a_vhost_is_there_after_a_restart(own_broker, connect_to):
    broker = own_broker()
    for one in ("kept", "gone"):
        broker.control("add_vhost", one)
        broker.control("set_permissions", "-p", one, "guest", ".*", ".*", ".*")
        channel = connect_to(broker, virtual_host=one).channel()
        channel.confirm_delivery()
        channel.queue_declare("q", durable=True)
        channel.queue_bind("q", "amq.topic", "a.#")
        channel.basic_publish("amq.topic", "a.b", one.encode(), pika.BasicProperties(delivery_mode=2))
    broker.control("delete_vhost", "gone")
    broker.restart()
    channel = connect_to(broker, virtual_host="kept").channel()
    assert channel.basic_get("q", auto_ack=True)[2] == b"kept"
    channel.basic_publish("amq.topic", "a.b", b"bound still")
    assert channel.basic_get("q", auto_ack=True)[2] == b"bound still"
    code, text = refusal(lambda **more: connect_to(broker, **more), virtual_host="gone")
    assert "vhost gone not found" in text
