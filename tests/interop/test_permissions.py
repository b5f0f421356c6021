"""Users and what they may do: which permission is asked for where, in RabbitMQ's words."""
import contextlib

import pika
import pytest

# Every change by rabbitmqctl takes its time.
pytestmark = pytest.mark.limit(180)


@pytest.fixture
def user(broker, name):
    """user(configure, write, read) makes a user with these permissions in the vhost "/", and deletes it when the test ends."""
    made = []

    def make(*permissions, tags=None):
        made.append(name("user"))
        broker.control("add_user", made[-1], "secret")
        if permissions:
            broker.control("set_permissions", made[-1], *permissions)
        if tags:
            broker.control("set_user_tags", made[-1], *tags)
        return made[-1]

    yield make
    for one in made:
        with contextlib.suppress(Exception):
            broker.control("delete_user", one)


@pytest.fixture
def channel_of(connect):
    return lambda user: connect(credentials=pika.PlainCredentials(user, "secret")).channel()


@pytest.fixture
def refuses(expect_close, channel_of):
    """refuses(user, what, method, ...) proves that the method closes a channel of the user's for want of access to `what`."""

    def check(user, what, method, *arguments, **keywords):
        text = f"ACCESS_REFUSED - access to {what} in vhost '/' refused for user '{user}'"
        heard = expect_close(403, text)(getattr(channel_of(user), method), *arguments, **keywords)
        assert heard == text

    return check


def test_declaring_and_deleting_need_configure(user, channel, channel_of, refuses, name):
    queue, exchange = name("mine"), name("mine-x")
    alice = user("mine-|^amq.gen", "", "")
    other = name("other")
    channel.queue_declare(other)
    own = channel_of(alice)
    own.queue_declare(queue)
    own.queue_declare("", exclusive=True)
    own.exchange_declare(exchange, "topic")
    own.queue_declare(other, passive=True)
    own.exchange_declare("amq.topic", passive=True)
    refuses(alice, f"queue '{other}'", "queue_declare", other)
    refuses(alice, f"queue '{other}'", "queue_delete", other)
    refuses(alice, "queue 'none'", "queue_delete", "none")
    refuses(alice, f"exchange '{other}'", "exchange_declare", other, "direct")
    refuses(alice, f"exchange '{other}'", "exchange_delete", other)
    own.queue_delete(queue)
    own.exchange_delete(exchange)
    channel.queue_delete(other)


def test_a_server_named_queue_needs_its_name_allowed(user, channel_of, expect_close):
    alice = user("^mine", "", "")
    text = expect_close(403, "ACCESS_REFUSED - access to queue 'amq.gen-")(channel_of(alice).queue_declare, "", exclusive=True)
    assert text.endswith(f"in vhost '/' refused for user '{alice}'")


def test_names_that_are_reserved_come_first(user, channel_of, expect_close):
    alice = user("", "", "")
    expect_close(403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'")(channel_of(alice).queue_declare, "amq.mine")
    expect_close(403, f"ACCESS_REFUSED - access to exchange 'amq.mine' in vhost '/' refused for user '{alice}'")(
        channel_of(alice).exchange_declare, "amq.mine", "direct")


def test_a_dead_letter_exchange_is_written_to(user, channel_of, refuses):
    alice = user(".*", "^dead", "^read")
    refuses(alice, "exchange 'elsewhere'", "queue_declare", "read-1", arguments={"x-dead-letter-exchange": "elsewhere"})
    refuses(alice, "queue 'not-1'", "queue_declare", "not-1", arguments={"x-dead-letter-exchange": "dead"})
    refuses(alice, "exchange 'amq.default'", "queue_declare", "read-1", arguments={"x-dead-letter-exchange": ""})
    own = channel_of(alice)
    own.queue_declare("read-1", arguments={"x-dead-letter-exchange": "dead"})
    own.queue_delete("read-1")


def test_an_alternate_exchange_is_written_to(user, channel_of, refuses):
    alice = user(".*", "^dead", "^read")
    refuses(alice, "exchange 'elsewhere'", "exchange_declare", "read-x", "fanout", arguments={"alternate-exchange": "elsewhere"})
    refuses(alice, "exchange 'not-x'", "exchange_declare", "not-x", "fanout", arguments={"alternate-exchange": "dead"})
    own = channel_of(alice)
    own.exchange_declare("read-x", "fanout", arguments={"alternate-exchange": "dead"})
    own.exchange_delete("read-x")


def test_binding_writes_to_the_destination_and_reads_the_source(user, channel, channel_of, refuses, name):
    queue, exchange = name(), name("x")
    channel.queue_declare(queue)
    channel.exchange_declare(exchange, "fanout")
    alice = user("", f"^{queue}$|^{exchange}$", "^amq.direct")
    own = channel_of(alice)
    own.queue_bind(queue, "amq.direct", "k")
    own.exchange_bind(exchange, "amq.direct", "k")
    own.queue_unbind(queue, "amq.direct", "k")
    refuses(alice, "exchange 'amq.fanout'", "queue_bind", queue, "amq.fanout")
    refuses(alice, "exchange 'amq.fanout'", "queue_unbind", queue, "amq.fanout")
    refuses(alice, "queue 'other'", "queue_bind", "other", "amq.direct", "k")
    refuses(alice, "exchange 'other'", "exchange_bind", "other", "amq.direct", "k")
    refuses(alice, "exchange 'other'", "exchange_unbind", "other", "amq.direct", "k")
    channel.queue_delete(queue)
    channel.exchange_delete(exchange)


def test_getting_consuming_and_purging_need_read(user, channel, channel_of, refuses, name):
    queue = name()
    channel.queue_declare(queue)
    alice = user("", "", "^x")
    refuses(alice, f"queue '{queue}'", "basic_get", queue)
    refuses(alice, f"queue '{queue}'", "basic_consume", queue, lambda *_: None)
    refuses(alice, f"queue '{queue}'", "queue_purge", queue)
    refuses(alice, "queue 'none'", "queue_purge", "none")
    bob = user("", "", f"^{queue}$")
    own = channel_of(bob)
    own.basic_get(queue)
    own.queue_purge(queue)
    own.basic_consume(queue, lambda *_: None)
    channel.queue_delete(queue)


def published(channel, *arguments):
    """Answers once the broker has seen it."""
    channel.basic_publish(*arguments)
    channel.exchange_declare("amq.direct", passive=True)


def test_publishing_needs_write(user, queue, channel_of, expect_close):
    alice = user("", "^amq.direct$", "")
    published(channel_of(alice), "amq.direct", "k", b"x")
    for exchange, shown in (("", "amq.default"), ("amq.fanout", "amq.fanout"), ("none", "none")):
        expect_close(403, f"ACCESS_REFUSED - access to exchange '{shown}' in vhost '/' refused for user '{alice}'")(
            published, channel_of(alice), exchange, queue, b"x")
    bob = user("", "^amq.default$", "")
    published(channel_of(bob), "", queue, b"x")
    expect_close(404, "NOT_FOUND - no exchange 'amq.default' in vhost '/'")(published, channel_of(bob), "amq.default", queue, b"x")


def test_a_change_of_permissions_takes_effect(broker, user, queue, channel_of, expect_close, eventually):
    alice = user("", ".*", "")
    own = channel_of(alice)
    published(own, "", queue, b"x")
    broker.control("set_permissions", alice, "", "^other", "")
    own = channel_of(alice)
    expect_close(403, "ACCESS_REFUSED - access to exchange 'amq.default'")(published, own, "", queue, b"x")


def test_topic_permissions(broker, user, channel_of, expect_close):
    alice = user("", ".*", ".*")
    broker.control("set_topic_permissions", alice, "amq.topic", "^{username}\\.w", "^{username}\\.r|^{vhost}$")
    own = channel_of(alice)
    published(own, "amq.topic", f"{alice}.w", b"x")
    refused = f"in exchange 'amq.topic' in vhost '/' refused for user '{alice}'"
    expect_close(403, f"ACCESS_REFUSED - access to topic 'k.w' {refused}")(published, own, "amq.topic", "k.w", b"x")
    published(channel_of(alice), "amq.direct", "k.w", b"x")
    expect_close(403, f"ACCESS_REFUSED - access to topic '{alice}.w' {refused}")(channel_of(alice).exchange_bind, "amq.fanout", "amq.topic", f"{alice}.w")
    own = channel_of(alice)
    for key in (f"{alice}.r", "/"):
        own.exchange_bind("amq.fanout", "amq.topic", key)
        own.exchange_unbind("amq.fanout", "amq.topic", key)
    broker.control("clear_topic_permissions", alice)
    published(channel_of(alice), "amq.topic", "k.w", b"x")


def test_direct_reply_to_needs_no_permission_of_its_own(user, channel_of):
    alice = user("", "^amq.default$", "")
    own = channel_of(alice)
    heard = []
    own.basic_consume("amq.rabbitmq.reply-to", lambda *message: heard.append(message[3]), auto_ack=True)
    own.basic_publish("", "none", b"x", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))


def test_the_password_is_the_one_that_was_set_last(broker, user, connect):
    alice = user(".*", ".*", ".*")
    connect(credentials=pika.PlainCredentials(alice, "secret"))
    broker.control("change_password", alice, "other")
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        connect(credentials=pika.PlainCredentials(alice, "secret"))
    connect(credentials=pika.PlainCredentials(alice, "other"))
    broker.control("clear_password", alice)
    for password in ("other", ""):
        with pytest.raises(pika.exceptions.AMQPConnectionError):
            connect(credentials=pika.PlainCredentials(alice, password))


def test_an_impersonator_may_name_others(user, queue, channel_of, expect_close):
    alice = user("", ".*", "")
    bob = user("", ".*", "", tags=["impersonator"])
    properties = pika.BasicProperties(user_id="somebody")
    published(channel_of(bob), "", queue, b"x", properties)
    expect_close(406, f"PRECONDITION_FAILED - user_id property set to 'somebody' but authenticated user was '{alice}'")(
        published, channel_of(alice), "", queue, b"x", properties)


def test_deleting_a_user_closes_its_connections(broker, user, connect):
    alice = user(".*", ".*", ".*")
    connection = connect(credentials=pika.PlainCredentials(alice, "secret"))
    connection.channel()
    broker.control("delete_user", alice)
    with pytest.raises(pika.exceptions.AMQPError) as caught:
        for _ in range(100):
            connection.process_data_events(0.1)
    assert caught.value.reply_code == 320
    assert caught.value.reply_text == f"CONNECTION_FORCED - user '{alice}' is deleted"
