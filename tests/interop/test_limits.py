"""Limits of vhosts and of users: how many connections, channels and queues."""
import contextlib

import pika
import pytest

# Every change by rabbitmqctl takes its time.
pytestmark = pytest.mark.limit(180)


@pytest.fixture
def vhost(broker, name):
    one = name("vhost")
    broker.control("add_vhost", one)
    broker.control("set_permissions", "-p", one, "guest", ".*", ".*", ".*")
    yield one
    broker.control("delete_vhost", one)


@pytest.fixture
def user(broker, name):
    one = name("user")
    broker.control("add_user", one, "secret")
    broker.control("set_permissions", one, ".*", ".*", ".*")
    yield one
    with contextlib.suppress(Exception):
        broker.control("delete_user", one)


def refusal(connect, **more):
    with pytest.raises(pika.exceptions.AMQPConnectionError) as caught:
        connect(**more)
    return repr(caught.value).replace("\\", "")


def test_connections_of_a_vhost(broker, vhost, connect, eventually):
    broker.control("set_vhost_limits", "-p", vhost, '{"max-connections": 1}')
    first = connect(virtual_host=vhost)
    text = f"NOT_ALLOWED - access to vhost '{vhost}' refused for user 'guest': connection limit (1) is reached"
    assert text in refusal(connect, virtual_host=vhost)
    first.close()

    def again():
        with contextlib.suppress(pika.exceptions.AMQPConnectionError):
            return connect(virtual_host=vhost)

    assert eventually(again)


def test_no_connection_at_all(broker, vhost, connect):
    broker.control("set_vhost_limits", "-p", vhost, '{"max-connections": 0}')
    assert "connection limit (0) is reached" in refusal(connect, virtual_host=vhost)
    broker.control("set_vhost_limits", "-p", vhost, '{"max-connections": -1}')
    connect(virtual_host=vhost)


def test_queues_of_a_vhost(broker, vhost, connect, expect_close):
    broker.control("set_vhost_limits", "-p", vhost, '{"max-queues": 1}')
    channel = connect(virtual_host=vhost).channel()
    channel.queue_declare("one")
    channel.queue_declare("one")
    text = f"PRECONDITION_FAILED - cannot declare queue 'two': queue limit in vhost '{vhost}' (1) is reached"
    assert expect_close(406, text)(channel.queue_declare, "two") == text
    channel = connect(virtual_host=vhost).channel()
    channel.queue_delete("one")
    channel.queue_declare("two")


def test_connections_of_a_user(broker, user, connect, eventually):
    credentials = pika.PlainCredentials(user, "secret")
    broker.control("set_user_limits", user, '{"max-connections": 1}')
    first = connect(credentials=credentials)
    text = f"NOT_ALLOWED - connection refused for user '{user}': user connection limit (1) is reached"
    assert text in refusal(connect, credentials=credentials)
    first.close()

    def again():
        with contextlib.suppress(pika.exceptions.AMQPConnectionError):
            return connect(credentials=credentials)

    assert eventually(again)


def test_channels_of_a_user(broker, user, connect):
    credentials = pika.PlainCredentials(user, "secret")
    first, second = connect(credentials=credentials), connect(credentials=credentials)
    broker.control("set_user_limits", user, '{"max-channels": 2}')
    channel = first.channel()
    second.channel()
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as caught:
        second.channel()
    assert caught.value.reply_code == 530
    assert caught.value.reply_text == (f"NOT_ALLOWED - number of channels opened for user '{user}' has reached the maximum allowed user limit of (2)")
    assert channel.is_open
    channel.exchange_declare("amq.direct", passive=True)
