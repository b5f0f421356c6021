"""Queues and exchanges: declaring them, declaring them again, deleting them, and every way that can be refused."""
import pika
import pytest


# Queues.

def test_declare_answers_name_and_counts(channel, name):
    channel.confirm_delivery()   # RabbitMQ counts ahead of messages that are still on their way.
    queue = name()
    ok = channel.queue_declare(queue=queue).method
    assert (ok.queue, ok.message_count, ok.consumer_count) == (queue, 0, 0)
    channel.basic_publish("", queue, b"1")
    channel.basic_publish("", queue, b"2")
    assert channel.queue_declare(queue=queue).method.message_count == 2
    channel.basic_consume(queue, lambda *_: None)
    ok = channel.queue_declare(queue=queue).method
    assert (ok.message_count, ok.consumer_count) == (0, 1)
    channel.queue_delete(queue)


def test_server_names_queues(channel):
    names = {channel.queue_declare(queue="", exclusive=True).method.queue for _ in range(20)}
    assert len(names) == 20
    assert all(queue.startswith("amq.gen-") and len(queue) == len("amq.gen-") + 22 for queue in names)


def test_last_declared_queue_is_meant_by_an_empty_name(channel):
    queue = channel.queue_declare(queue="", exclusive=True).method.queue
    channel.queue_bind(queue="", exchange="amq.direct", routing_key=queue)
    channel.basic_publish("amq.direct", queue, b"by short cut")
    channel.basic_publish("", queue, b"by name")
    assert channel.basic_get("")[2] == b"by short cut"
    assert channel.queue_purge("").method.message_count == 1
    channel.queue_delete("")
    assert channel.connection.channel().queue_declare(queue="", exclusive=True).method.queue != queue


def test_empty_name_without_a_declared_queue(channel, expect_close):
    expect_close(404, "NOT_FOUND - no previously declared queue")(channel.queue_bind, "", "amq.direct", "x")


def test_passive_declare(channel, name, expect_close):
    queue = channel.queue_declare(queue=name(), exclusive=True).method.queue
    assert channel.queue_declare(queue=queue, passive=True).method.queue == queue
    missing = name("missing")
    expect_close(404, f"NOT_FOUND - no queue '{missing}' in vhost '/'")(channel.queue_declare, missing, passive=True)


def test_passive_declare_compares_nothing(channel, name):
    queue = name()
    channel.queue_declare(queue=queue, durable=True)
    assert channel.queue_declare(queue=queue, passive=True, durable=False, auto_delete=True).method.queue == queue
    channel.queue_delete(queue)


@pytest.mark.parametrize("first, second, text", [
    ({"durable": False}, {"durable": True}, "inequivalent arg 'durable' for queue '{}' in vhost '/': received 'true' but current is 'false'"),
    ({"durable": True}, {"durable": False}, "inequivalent arg 'durable' for queue '{}' in vhost '/': received 'false' but current is 'true'"),
    ({"auto_delete": False}, {"auto_delete": True}, "inequivalent arg 'auto_delete' for queue '{}' in vhost '/': received 'true' but current is 'false'"),
])
def test_inequivalent_queue(connection, name, expect_close, first, second, text):
    channel, queue = connection.channel(), name()
    channel.queue_declare(queue=queue, **first)
    expect_close(406, "PRECONDITION_FAILED - " + text.format(queue))(channel.queue_declare, queue, **second)
    connection.channel().queue_delete(queue)


def test_equivalent_queue_again(channel, name):
    queue = name()
    for _ in range(3):
        channel.queue_declare(queue=queue, durable=True, arguments={"x-custom": "anything"})
    channel.queue_delete(queue)


def test_exclusive_queue_is_locked_for_others(connect, name):
    owner, other, queue = connect(), connect(), name()
    owner.channel().queue_declare(queue=queue, exclusive=True)
    text = f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'"
    attempts = [
        lambda channel: channel.queue_declare(queue=queue, exclusive=True),
        lambda channel: channel.queue_declare(queue=queue, passive=True),
        lambda channel: channel.basic_consume(queue, lambda *_: None),
        lambda channel: channel.basic_get(queue),
        lambda channel: channel.queue_purge(queue),
        lambda channel: channel.queue_delete(queue),
        lambda channel: channel.queue_bind(queue, "amq.direct", "x"),
    ]
    # RabbitMQ 3.10 lets others unbind: there is nothing to unbind.
    for attempt in attempts:
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
            attempt(other.channel())
        assert caught.value.reply_code == 405
        assert text in caught.value.reply_text
    # Publishing into somebody's exclusive queue is allowed.
    other.channel().basic_publish("", queue, b"x")


def test_redeclaring_an_exclusive_queue_as_another(connection, name, expect_close):
    queue = name()
    connection.channel().queue_declare(queue=queue, exclusive=True)
    expect_close(405, "RESOURCE_LOCKED")(connection.channel().queue_declare, queue, exclusive=False)
    queue = name("shared")
    connection.channel().queue_declare(queue=queue)
    expect_close(405, "RESOURCE_LOCKED")(connection.channel().queue_declare, queue, exclusive=True)
    connection.channel().queue_delete(queue)


def test_exclusive_queue_goes_with_its_connection(connect, name, eventually):
    queue = name()
    owner = connect()
    owner.channel().queue_declare(queue=queue, exclusive=True)
    owner.close()

    def gone():
        try:
            connect().channel().queue_declare(queue=queue, passive=True)
        except pika.exceptions.ChannelClosedByBroker as error:
            return error.reply_code == 404
    assert eventually(gone)


def test_auto_delete_queue_goes_with_its_last_consumer(connection, name, expect_close):
    channel, queue = connection.channel(), name()
    channel.queue_declare(queue=queue, auto_delete=True)
    channel.basic_consume(queue, lambda *_: None, consumer_tag="one")
    channel.basic_consume(queue, lambda *_: None, consumer_tag="two")
    channel.basic_cancel("one")
    channel.queue_declare(queue=queue, passive=True)
    channel.basic_cancel("two")
    expect_close(404)(channel.queue_declare, queue, passive=True)


def test_auto_delete_queue_without_consumers_stays(channel, name):
    queue = name()
    channel.queue_declare(queue=queue, auto_delete=True)
    channel.basic_publish("", queue, b"x")
    assert channel.basic_get(queue, auto_ack=True)[2] == b"x"
    channel.queue_declare(queue=queue, passive=True)
    channel.queue_delete(queue)


def test_auto_delete_queue_goes_when_the_consuming_channel_closes(connection, name, eventually):
    channel, queue = connection.channel(), name()
    channel.queue_declare(queue=queue, auto_delete=True)
    channel.basic_consume(queue, lambda *_: None)
    channel.close()

    def gone():
        try:
            connection.channel().queue_declare(queue=queue, passive=True)
        except pika.exceptions.ChannelClosedByBroker as error:
            return error.reply_code == 404
    assert eventually(gone)


@pytest.mark.parametrize("prefix", ["amq.", "amq.gen-mine"])
def test_reserved_queue_names(channel, expect_close, prefix):
    expect_close(403, f"ACCESS_REFUSED - queue name '{prefix}x' contains reserved prefix 'amq.*'")(
        channel.queue_declare, prefix + "x")


def test_longest_queue_name(channel, expect_close):
    queue = "ä" * 127 + "x"
    assert channel.queue_declare(queue=queue, exclusive=True).method.queue == queue
    channel.basic_publish("", queue, b"long")
    assert channel.basic_get(queue, auto_ack=True)[2] == b"long"


def test_delete_answers_message_count(channel, name):
    queue = name()
    channel.queue_declare(queue=queue)
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", queue, body)
    assert channel.queue_delete(queue).method.message_count == 3
    # Deleting what is not there is no error.
    assert channel.queue_delete(queue).method.message_count == 0


def test_delete_if_empty(connection, name, expect_close):
    channel, queue = connection.channel(), name()
    channel.queue_declare(queue=queue)
    channel.basic_publish("", queue, b"x")
    expect_close(406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty")(
        channel.queue_delete, queue, if_empty=True)
    channel = connection.channel()
    channel.queue_purge(queue)
    channel.queue_delete(queue, if_empty=True)


def test_delete_if_unused(connection, name, expect_close):
    channel, queue = connection.channel(), name()
    channel.queue_declare(queue=queue)
    channel.basic_consume(queue, lambda *_: None, consumer_tag="c")
    expect_close(406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use")(
        connection.channel().queue_delete, queue, if_unused=True)
    channel.basic_cancel("c")
    channel.queue_delete(queue, if_unused=True)


def test_purge_answers_count_and_leaves_unacknowledged(channel, queue):
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", queue, body)
    method, _, body = channel.basic_get(queue)
    assert body == b"1"
    assert channel.queue_purge(queue).method.message_count == 2
    assert channel.basic_get(queue) == (None, None, None)
    channel.basic_reject(method.delivery_tag, requeue=True)
    assert channel.basic_get(queue, auto_ack=True)[2] == b"1"


@pytest.mark.parametrize("action", ["purge", "get", "consume", "bind", "unbind"])
def test_missing_queue(channel, name, expect_close, action):
    queue = name("missing")
    call = {"purge": lambda: channel.queue_purge(queue), "get": lambda: channel.basic_get(queue),
            "consume": lambda: channel.basic_consume(queue, lambda *_: None),
            "bind": lambda: channel.queue_bind(queue, "amq.direct", "x"),
            "unbind": lambda: channel.queue_unbind(queue, "amq.direct", "x")}[action]
    if action == "unbind":
        call()   # RabbitMQ made unbinding idempotent: what is not there is not bound.
    else:
        expect_close(404, f"NOT_FOUND - no queue '{queue}' in vhost '/'")(call)


# Exchanges.

@pytest.mark.parametrize("kind", ["direct", "fanout", "topic", "headers"])
def test_exchange_types(channel, name, kind):
    exchange = name(kind)
    channel.exchange_declare(exchange, kind)
    channel.exchange_declare(exchange, kind)
    channel.exchange_declare(exchange, passive=True)
    channel.exchange_delete(exchange)


@pytest.mark.parametrize("exchange, kind", [("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic"),
                                            ("amq.headers", "headers"), ("amq.match", "headers")])
def test_predeclared_exchanges(channel, exchange, kind):
    channel.exchange_declare(exchange, passive=True)
    channel.exchange_declare(exchange, kind, durable=True)


def test_unknown_exchange_type(connect, name):
    connection = connect()
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as caught:
        connection.channel().exchange_declare(name(), "nonsense")
    assert caught.value.reply_code == 503
    assert caught.value.reply_text == "COMMAND_INVALID - unknown exchange type 'nonsense'"


@pytest.mark.parametrize("first, second, text", [
    ({"exchange_type": "direct"}, {"exchange_type": "fanout"}, "inequivalent arg 'type' for exchange '{}' in vhost '/': received 'fanout' but current is 'direct'"),
    ({"durable": False}, {"durable": True}, "inequivalent arg 'durable' for exchange '{}' in vhost '/': received 'true' but current is 'false'"),
    ({"auto_delete": True}, {"auto_delete": False}, "inequivalent arg 'auto_delete' for exchange '{}' in vhost '/': received 'false' but current is 'true'"),
    ({"internal": False}, {"internal": True}, "inequivalent arg 'internal' for exchange '{}' in vhost '/': received 'true' but current is 'false'"),
])
def test_inequivalent_exchange(connection, name, expect_close, first, second, text):
    exchange = name()
    connection.channel().exchange_declare(exchange, **first)
    expect_close(406, "PRECONDITION_FAILED - " + text.format(exchange))(
        connection.channel().exchange_declare, exchange, **second)
    connection.channel().exchange_delete(exchange)


@pytest.mark.parametrize("action", ["passive", "bind", "bind_source", "bind_destination"])
def test_missing_exchange(channel, queue, name, expect_close, action):
    missing = name("missing")
    call = {"passive": lambda: channel.exchange_declare(missing, passive=True),
            "bind": lambda: channel.queue_bind(queue, missing, "x"),
            "bind_source": lambda: channel.exchange_bind("amq.fanout", missing),
            "bind_destination": lambda: channel.exchange_bind(missing, "amq.fanout")}[action]
    expect_close(404, f"NOT_FOUND - no exchange '{missing}' in vhost '/'")(call)


def test_publishing_to_a_missing_exchange_closes_the_channel(connection, name):
    channel, missing = connection.channel(), name("missing")
    channel.basic_publish(missing, "x", b"x")
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
        channel.queue_declare("", exclusive=True)
    assert caught.value.reply_code == 404
    assert caught.value.reply_text == f"NOT_FOUND - no exchange '{missing}' in vhost '/'"
    assert connection.channel().is_open


def test_deleting_a_missing_exchange_is_no_error(channel, name):
    channel.exchange_delete(name("missing"))


def test_delete_exchange_if_unused(connection, queue, name, expect_close):
    exchange = name()
    channel = connection.channel()
    channel.exchange_declare(exchange, "direct")
    channel.queue_bind(queue, exchange, "x")
    expect_close(406, f"PRECONDITION_FAILED - exchange '{exchange}' in vhost '/' in use")(
        connection.channel().exchange_delete, exchange, if_unused=True)
    channel.queue_unbind(queue, exchange, "x")
    channel.exchange_delete(exchange, if_unused=True)


def test_auto_delete_exchange_goes_with_its_last_binding(channel, queue, name, expect_close):
    exchange = name()
    channel.exchange_declare(exchange, "direct", auto_delete=True)
    channel.queue_bind(queue, exchange, "a")
    channel.queue_bind(queue, exchange, "b")
    channel.queue_unbind(queue, exchange, "a")
    channel.exchange_declare(exchange, passive=True)
    channel.queue_unbind(queue, exchange, "b")
    expect_close(404)(channel.exchange_declare, exchange, passive=True)


def test_auto_delete_exchange_goes_with_the_last_bound_queue(channel, name, expect_close):
    exchange, queue = name("x"), name()
    channel.exchange_declare(exchange, "fanout", auto_delete=True)
    channel.queue_declare(queue)
    channel.queue_bind(queue, exchange)
    channel.queue_delete(queue)
    expect_close(404)(channel.exchange_declare, exchange, passive=True)


def test_auto_delete_exchange_chain(channel, queue, name, expect_close):
    upper, lower = name("upper"), name("lower")
    channel.exchange_declare(upper, "fanout", auto_delete=True)
    channel.exchange_declare(lower, "fanout", auto_delete=True)
    channel.exchange_bind(lower, upper)
    channel.queue_bind(queue, lower)
    channel.queue_unbind(queue, lower)
    expect_close(404)(channel.exchange_declare, upper, passive=True)


def test_internal_exchange_takes_no_publish(connection, name):
    channel, exchange = connection.channel(), name()
    channel.exchange_declare(exchange, "fanout", internal=True)
    channel.basic_publish(exchange, "", b"x")
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
        channel.queue_declare("", exclusive=True)
    assert caught.value.reply_code == 403
    assert caught.value.reply_text == \
        f"ACCESS_REFUSED - cannot publish to internal exchange '{exchange}' in vhost '/'"
    connection.channel().exchange_delete(exchange)


def test_internal_exchange_passes_on(channel, queue, name):
    outer, inner = name("outer"), name("inner")
    channel.exchange_declare(outer, "fanout")
    channel.exchange_declare(inner, "fanout", internal=True)
    channel.exchange_bind(inner, outer)
    channel.queue_bind(queue, inner)
    channel.basic_publish(outer, "", b"through")
    assert channel.basic_get(queue, auto_ack=True)[2] == b"through"
    channel.exchange_delete(outer)
    channel.exchange_delete(inner)


@pytest.mark.parametrize("call, code, text", [
    (lambda channel: channel.exchange_declare("amq.mine", "direct"), 403,
     "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'"),
    (lambda channel: channel.exchange_delete("amq.direct"), 403,
     "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed"),
    (lambda channel: channel.exchange_declare("amq.direct", "topic", durable=True), 406,
     "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'amq.direct' in vhost '/': received 'topic' but current is 'direct'"),
    (lambda channel: channel.exchange_bind("amq.direct", "", routing_key="x"), 403,
     "ACCESS_REFUSED - operation not permitted on the default exchange"),
    (lambda channel: channel.exchange_bind("", "amq.direct", routing_key="x"), 403,
     "ACCESS_REFUSED - operation not permitted on the default exchange"),
])
def test_reserved_exchanges(channel, expect_close, call, code, text):
    expect_close(code, text)(call, channel)


def test_default_exchange_cannot_be_changed(connect, queue, expect_close):
    text = "ACCESS_REFUSED - operation not permitted on the default exchange"
    expect_close(403, text)(connect().channel().exchange_delete, "")
    expect_close(403, text)(connect().channel().queue_bind, "missing", "", "x")


def test_deleting_a_queue_removes_its_bindings(channel, name):
    queue = name()
    channel.queue_declare(queue)
    channel.queue_bind(queue, "amq.fanout")
    channel.queue_delete(queue)
    channel.queue_declare(queue, exclusive=True)
    channel.basic_publish("amq.fanout", "", b"x")
    assert channel.basic_get(queue) == (None, None, None)


def test_deleting_an_exchange_removes_its_bindings(channel, queue, name):
    exchange = name()
    channel.exchange_declare(exchange, "fanout")
    channel.queue_bind(queue, exchange)
    channel.exchange_delete(exchange)
    channel.exchange_declare(exchange, "fanout")
    channel.basic_publish(exchange, "", b"x")
    assert channel.basic_get(queue) == (None, None, None)
    channel.exchange_delete(exchange)


def test_no_wait(wire, name):
    """Declares with no-wait are not answered, and errors still are."""
    import pika.spec as spec
    w, queue, exchange = wire(), name(), name("x")
    w.send(1, spec.Queue.Declare(queue=queue, exclusive=True, nowait=True))
    w.send(1, spec.Exchange.Declare(exchange=exchange, type="fanout", nowait=True))
    w.send(1, spec.Queue.Bind(queue=queue, exchange=exchange, nowait=True))
    w.publish(1, "", b"x", exchange=exchange)
    w.send(1, spec.Basic.Get(queue=queue))
    assert w.expect(spec.Basic.GetOk).exchange == exchange
    w.receive_frame(), w.receive_frame()
    w.send(1, spec.Queue.Purge(queue=queue, nowait=True))
    w.send(1, spec.Exchange.Delete(exchange=exchange, nowait=True))
    w.send(1, spec.Queue.Delete(queue=queue, nowait=True))
    w.send(1, spec.Queue.Declare(queue=queue, passive=True, nowait=True))
    w.expect_channel_close(404)
