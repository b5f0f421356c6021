"""Where messages go: every exchange type, bindings between exchanges, the default exchange, mandatory returns."""
import datetime

import pika
import pytest


@pytest.fixture
def routed(channel, name):
    """routed(kind, {key-or-arguments: ...}) declares an exchange with one queue a binding; its `to` answers who got a message."""
    made = []

    class Routed:
        def __init__(self, kind, bindings):
            self.exchange = name(kind)
            channel.exchange_declare(self.exchange, kind)
            made.append(self.exchange)
            self.queues = {}
            for label, binding in bindings.items():
                queue = channel.queue_declare("", exclusive=True).method.queue
                for one in binding if isinstance(binding, list) else [binding]:
                    if isinstance(one, dict):
                        channel.queue_bind(queue, self.exchange, "", arguments=one)
                    else:
                        channel.queue_bind(queue, self.exchange, one)
                self.queues[label] = queue

        def to(self, key="", headers=None):
            channel.basic_publish(self.exchange, key, b"x", pika.BasicProperties(headers=headers))
            got = {label: channel.queue_purge(queue).method.message_count for label, queue in self.queues.items()}
            assert max(got.values(), default=0) <= 1, f"a queue got the message twice: {got}"
            return {label for label, count in got.items() if count}

    yield Routed
    for exchange in made:
        if channel.is_open:
            channel.exchange_delete(exchange)


def test_direct(routed):
    exchange = routed("direct", {"red": "red", "blue": "blue", "both": ["red", "blue"], "empty": ""})
    assert exchange.to("red") == {"red", "both"}
    assert exchange.to("blue") == {"blue", "both"}
    assert exchange.to("") == {"empty"}
    assert exchange.to("re") == exchange.to("redd") == exchange.to("RED") == set()


def test_fanout(routed):
    exchange = routed("fanout", {"a": "x", "b": "y", "c": ["", "z", "zz"]})
    assert exchange.to("whatever") == exchange.to("") == {"a", "b", "c"}


@pytest.mark.parametrize("key, expected", [
    ("a", {"#", "*", "a", "a.#", "#.a", "#.#", "a.#.#"}),
    ("a.b", {"#", "*.*", "a.*", "*.b", "a.#", "a.b", "#.b", "#.#", "a.#.b", "a.#.#"}),
    ("a.b.c", {"#", "a.#", "#.#", "a.*.c", "#.c", "a.#.#", "a.#.c"}),
    ("a.x.y.b", {"#", "a.#", "#.b", "#.#", "a.#.b", "a.#.#"}),
    ("b", {"#", "*", "#.b", "#.#"}),
    ("", {"#", "", "#.#"}),
    (".", {"#", "*.*", "#.#"}),
    ("a.", {"#", "*.*", "a.*", "a.#", "#.#", "a.#.#"}),
    ("a..c", {"#", "a.#", "#.#", "a.*.c", "#.c", "a.#.#", "a.#.c"}),
    ("*", {"#", "*", "#.#"}),
    ("#", {"#", "*", "#.#"}),
])
def test_topic(routed, key, expected):
    patterns = ["#", "*", "a", "a.#", "#.a", "*.*", "a.*", "*.b", "a.b", "a.*.c", "a.#.b", "#.b", "#.c", "#.#", "a.#.#", "a.#.c", ""]
    assert routed("topic", {pattern: pattern for pattern in patterns}).to(key) == expected


def test_topic_with_many_words(routed):
    exchange = routed("topic", {"deep": "#.end", "stars": ".".join("*" * 60), "prefix": "w.#"})
    assert exchange.to(".".join(["w"] * 60)) == {"stars", "prefix"}
    assert exchange.to(".".join(["w"] * 60) + ".end") == {"deep", "prefix"}


@pytest.mark.godwit_only("RabbitMQ 3.10 tries every split of every # and does not answer within the age of the world")
def test_topic_pattern_that_could_explode(routed):
    exchange = routed("topic", {"never": ".".join(["#.a"] * 20) + ".b", "always": "#"})
    assert exchange.to(".".join("a" * 60)) == {"always"}


def test_topic_unbinding_one_of_two(channel, routed):
    exchange = routed("topic", {"q": ["a.*", "*.b"]})
    assert exchange.to("a.b") == {"q"}
    channel.queue_unbind(exchange.queues["q"], exchange.exchange, "a.*")
    assert exchange.to("a.c") == set()
    assert exchange.to("a.b") == {"q"}


def test_headers(routed):
    exchange = routed("headers", {
        "all": {"x-match": "all", "a": "1", "b": 2},
        "default": {"a": "1", "b": 2},
        "any": {"x-match": "any", "a": "1", "b": 2},
        "present": {"x-match": "all", "a": None},
        "none": {"x-match": "all"},
        "none-any": {"x-match": "any"},
    })
    assert exchange.to(headers={"a": "1", "b": 2}) == {"all", "default", "any", "present", "none"}
    assert exchange.to(headers={"a": "1", "b": 2, "c": 3}) == {"all", "default", "any", "present", "none"}
    assert exchange.to(headers={"a": "1"}) == {"any", "present", "none"}
    assert exchange.to(headers={"b": 2}) == {"any", "none"}
    assert exchange.to(headers={"a": "other", "b": 3}) == {"present", "none"}
    assert exchange.to(headers={}) == exchange.to(headers=None) == {"none"}


def test_headers_compare_values_and_types(routed):
    exchange = routed("headers", {"text": {"k": "1"}, "number": {"k": 1}, "truth": {"k": True}, "list": {"k": [1, "a"]},
                                  "table": {"k": {"x": 1}}})
    assert exchange.to(headers={"k": "1"}) == {"text"}
    assert exchange.to(headers={"k": 1}) == {"number"}
    assert exchange.to(headers={"k": True}) == {"truth"}
    assert exchange.to(headers={"k": [1, "a"]}) == {"list"}
    assert exchange.to(headers={"k": {"x": 1}}) == {"table"}
    assert exchange.to(headers={"k": False}) == set()


def test_headers_ignores_x_headers_in_bindings(routed):
    exchange = routed("headers", {"q": {"x-match": "all", "x-ignored": "1", "a": "1"}})
    assert exchange.to(headers={"a": "1"}) == {"q"}


def test_headers_modes_that_take_x_headers(routed):
    exchange = routed("headers", {
        "all": {"x-match": "all-with-x", "x-a": "1", "b": 2}, "any": {"x-match": "any-with-x", "x-a": "1", "b": 2},
        "only x": {"x-match": "all-with-x", "x-a": "1"}, "plain": {"x-match": "all", "x-a": "1", "b": 2},
        "nothing": {"x-match": "all-with-x"}, "any of nothing": {"x-match": "any-with-x"}, "present": {"x-match": "all-with-x", "x-a": None},
    })
    assert exchange.to(headers={"x-a": "1", "b": 2}) == {"all", "any", "only x", "plain", "nothing", "present"}
    assert exchange.to(headers={"x-a": "1"}) == {"any", "only x", "nothing", "present"}
    assert exchange.to(headers={"b": 2}) == {"any", "plain", "nothing"}
    assert exchange.to(headers={"x-a": "2"}) == {"nothing", "present"}
    assert exchange.to(headers={"x-match": "all-with-x"}) == {"nothing"}


def test_headers_are_equal_by_value(routed):
    moment = datetime.datetime(2020, 1, 1)
    exchange = routed("headers", {"text": {"k": "1"}, "small": {"k": 1}, "large": {"k": 2 ** 40}, "time": {"k": moment}, "truth": {"k": True},
                                  "none": {"k": None}})
    assert exchange.to(headers={"k": b"1"}) == {"text", "none"}
    assert exchange.to(headers={"k": 2 ** 40}) == {"large", "none"}
    assert exchange.to(headers={"k": 1577836800}) == exchange.to(headers={"k": moment}) == {"time", "none"}
    assert exchange.to(headers={"k": None}) == {"none"}
    assert exchange.to(headers={"k": 1}) == {"small", "none"}
    assert exchange.to(headers={"K": 1}) == set()


def test_headers_does_not_look_at_keys(routed, channel):
    exchange = routed("headers", {"q": {"a": 1}})
    channel.queue_bind(exchange.queues["q"], exchange.exchange, "some key", arguments={"b": 1})
    assert exchange.to("other key", headers={"a": 1}) == exchange.to("", headers={"b": 1}) == exchange.to("x", headers={"a": 1, "b": 1}) == {"q"}
    channel.queue_unbind(exchange.queues["q"], exchange.exchange, "some key", arguments={"b": 1})
    assert exchange.to("some key", headers={"b": 1}) == set()


def test_headers_with_many_bindings(routed):
    bindings = {f"all-{number}": {"x-match": "all", "kind": "k", "number": number} for number in range(60)}
    bindings.update({f"any-{number}": {"x-match": "any", "number": number, "other": number} for number in range(60)})
    exchange = routed("headers", bindings)
    assert exchange.to(headers={"kind": "k", "number": 7}) == {"all-7", "any-7"}
    assert exchange.to(headers={"kind": "z", "number": 7, "other": 8}) == {"any-7", "any-8"}
    assert exchange.to(headers={"kind": "k"}) == set()


@pytest.mark.parametrize("value, text", [
    ("sometimes", 'Invalid x-match field value <<"sometimes">>; expected all, any, all-with-x, or any-with-x'),
    (5, "Invalid x-match field type signedint (value 5); expected longstr"),
    (True, "Invalid x-match field type bool (value true); expected longstr"),
])
def test_headers_bad_x_match_texts(channel, queue, expect_close, value, text):
    assert expect_close(406)(channel.queue_bind, queue, "amq.headers", "", arguments={"x-match": value}) == f"PRECONDITION_FAILED - {text}"


def test_headers_bad_x_match(channel, queue, expect_close):
    expect_close(406, "PRECONDITION_FAILED - Invalid x-match field value")(
        channel.queue_bind, queue, "amq.headers", "", arguments={"x-match": "sometimes"})


def test_default_exchange_is_the_queue_name(channel, queue):
    channel.basic_publish("", queue, b"here")
    channel.basic_publish("", queue + "x", b"nowhere")
    assert channel.queue_purge(queue).method.message_count == 1


def test_binding_twice_is_one_binding(channel, queue):
    for _ in range(2):
        channel.queue_bind(queue, "amq.direct", queue)
    channel.basic_publish("amq.direct", queue, b"once")
    assert channel.queue_purge(queue).method.message_count == 1
    channel.queue_unbind(queue, "amq.direct", queue)
    channel.basic_publish("amq.direct", queue, b"no more")
    assert channel.queue_purge(queue).method.message_count == 0


def test_bindings_with_other_arguments_are_others(channel, queue):
    channel.queue_bind(queue, "amq.direct", queue, arguments={"n": 1})
    channel.queue_bind(queue, "amq.direct", queue, arguments={"n": 2})
    channel.basic_publish("amq.direct", queue, b"x")
    assert channel.queue_purge(queue).method.message_count == 1
    channel.queue_unbind(queue, "amq.direct", queue, arguments={"n": 1})
    channel.basic_publish("amq.direct", queue, b"x")
    assert channel.queue_purge(queue).method.message_count == 1
    channel.queue_unbind(queue, "amq.direct", queue, arguments={"n": 2})
    channel.basic_publish("amq.direct", queue, b"x")
    assert channel.queue_purge(queue).method.message_count == 0


def test_unbinding_what_is_not_bound(channel, queue):
    channel.queue_unbind(queue, "amq.direct", "never bound")


def test_exchange_to_exchange(channel, queue, name):
    source, target = name("source"), name("target")
    channel.exchange_declare(source, "topic")
    channel.exchange_declare(target, "direct")
    channel.exchange_bind(target, source, "eu.#")
    channel.exchange_bind(target, source, "eu.#")
    channel.queue_bind(queue, target, "eu.de")
    for key, count in (("eu.de", 1), ("eu.fr", 0), ("us", 0)):
        channel.basic_publish(source, key, b"x")
        assert channel.queue_purge(queue).method.message_count == count, key
    channel.exchange_unbind(target, source, "eu.#")
    channel.basic_publish(source, "eu.de", b"x")
    assert channel.queue_purge(queue).method.message_count == 0
    channel.exchange_delete(source)
    channel.exchange_delete(target)


def test_exchange_cycle_delivers_once(channel, queue, name):
    ring = [name(f"ring{i}") for i in range(3)]
    for exchange in ring:
        channel.exchange_declare(exchange, "fanout")
    for source, target in zip(ring, ring[1:] + ring[:1]):
        channel.exchange_bind(target, source)
    channel.exchange_bind(ring[0], ring[0])
    for exchange in ring:
        channel.queue_bind(queue, exchange)
    for exchange in ring:
        channel.basic_publish(exchange, "", b"x")
        assert channel.queue_purge(queue).method.message_count == 1
    for exchange in ring:
        channel.exchange_delete(exchange)


def test_queue_reached_two_ways_gets_one_copy(channel, queue, name):
    source, left, right = name("source"), name("left"), name("right")
    for exchange in (source, left, right):
        channel.exchange_declare(exchange, "fanout")
    channel.exchange_bind(left, source)
    channel.exchange_bind(right, source)
    for exchange in (source, left, right):
        channel.queue_bind(queue, exchange)
    channel.basic_publish(source, "", b"x")
    assert channel.queue_purge(queue).method.message_count == 1
    for exchange in (source, left, right):
        channel.exchange_delete(exchange)


# Mandatory.

def returned(channel):
    seen = []
    channel.add_on_return_callback(lambda _, method, properties, body: seen.append((method, properties, body)))
    return seen


def test_mandatory_without_a_route_is_returned(connection, channel, queue):
    seen = returned(channel)
    channel.basic_publish("amq.direct", "nobody", b"come back", pika.BasicProperties(message_id="m", headers={"h": 1}),
                          mandatory=True)
    channel.basic_publish("", queue, b"arrives", mandatory=True)
    channel.basic_publish("amq.direct", "nobody", b"is dropped")
    assert channel.queue_purge(queue).method.message_count == 1
    connection.process_data_events(0.1)
    (method, properties, body), = seen
    assert (method.reply_code, method.reply_text, method.exchange, method.routing_key) == \
        (312, "NO_ROUTE", "amq.direct", "nobody")
    assert (properties.message_id, properties.headers, body) == ("m", {"h": 1}, b"come back")


def test_mandatory_with_confirms_returns_before_the_ack(channel):
    channel.confirm_delivery()
    with pytest.raises(pika.exceptions.UnroutableError) as caught:
        channel.basic_publish("amq.direct", "nobody", b"x" * 300000, mandatory=True)
    assert caught.value.messages[0].body == b"x" * 300000
    channel.basic_publish("amq.direct", "nobody", b"unroutable is confirmed")


def test_immediate_is_not_implemented(wire, queue):
    import pika.spec as spec
    w = wire()
    w.publish(1, queue, b"x", immediate=True)
    close = w.expect_connection_close(540)
    assert "immediate=true" in close.reply_text
    assert (close.class_id, close.method_id) == (60, 40)


# Declaring and deleting.

@pytest.mark.parametrize("more, field, received, current", [
    ({"durable": True}, "durable", "true", "false"), ({"auto_delete": True}, "auto_delete", "true", "false"), ({"internal": True}, "internal", "true", "false"),
    ({"exchange_type": "fanout"}, "type", "fanout", "direct"),
])
def test_declaring_otherwise(channel, name, expect_close, more, field, received, current):
    exchange = name()
    channel.exchange_declare(exchange, "direct")
    again = {"exchange_type": "direct", **more}
    assert expect_close(406)(channel.exchange_declare, exchange, **again) == \
        f"PRECONDITION_FAILED - inequivalent arg '{field}' for exchange '{exchange}' in vhost '/': received '{received}' but current is '{current}'"


@pytest.mark.parametrize("kind, text", [("bogus", "unknown exchange type 'bogus'"), ("", "invalid exchange type ''")])
def test_unknown_types(connection, name, kind, text):
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as caught:
        connection.channel().exchange_declare(name(), kind)
    assert (caught.value.reply_code, caught.value.reply_text) == (503, f"COMMAND_INVALID - {text}")


def test_reserved_names(connect, name, expect_close):
    expect_close(403, "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'")(
        connect().channel().exchange_declare, "amq.mine", "direct")
    expect_close(403, "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed")(
        connect().channel().exchange_delete, "amq.direct")
    expect_close(404, "NOT_FOUND - no exchange 'amq.mine' in vhost '/'")(
        connect().channel().exchange_declare, "amq.mine", "direct", passive=True)
    channel = connect().channel()
    channel.exchange_declare("amq.direct", "direct", durable=True)
    channel.exchange_declare("amq.rabbitmq.trace", "topic", durable=True, internal=True)


def test_internal_exchanges_take_nothing_from_clients(channel, name, queue, expect_close):
    internal, source = name("internal"), name("source")
    channel.exchange_declare(internal, "fanout", internal=True, auto_delete=True)
    channel.exchange_declare(source, "fanout", auto_delete=True)
    channel.queue_bind(queue, internal)
    channel.exchange_bind(internal, source)
    channel.basic_publish(source, "", b"through another")
    assert channel.queue_purge(queue).method.message_count == 1
    channel.confirm_delivery()
    expect_close(403, f"ACCESS_REFUSED - cannot publish to internal exchange '{internal}' in vhost '/'")(channel.basic_publish, internal, "", b"x")


def test_deleting_takes_bindings_both_ways(channel, name, queue):
    before, middle, behind = name("before"), name("middle"), name("behind")
    for exchange in (before, middle, behind):
        channel.exchange_declare(exchange, "fanout")
    channel.exchange_bind(middle, before)
    channel.exchange_bind(behind, middle)
    channel.queue_bind(queue, behind)
    channel.basic_publish(before, "", b"x")
    assert channel.queue_purge(queue).method.message_count == 1
    channel.exchange_delete(middle)
    channel.exchange_declare(middle, "fanout")
    for exchange in (before, middle):
        channel.basic_publish(exchange, "", b"x")
    assert channel.queue_purge(queue).method.message_count == 0
    for exchange in (before, middle, behind):
        channel.exchange_delete(exchange)


def test_deleting_if_unused_looks_at_what_it_is_the_source_of(connect, name):
    channel = connect().channel()
    source, target = name("source"), name("target")
    for exchange in (source, target):
        channel.exchange_declare(exchange, "fanout")
    channel.exchange_bind(target, source)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
        channel.exchange_delete(source, if_unused=True)
    assert (caught.value.reply_code, caught.value.reply_text) == (406, f"PRECONDITION_FAILED - exchange '{source}' in vhost '/' in use")
    channel = connect().channel()
    channel.exchange_delete(target, if_unused=True)
    channel.exchange_delete(source, if_unused=True)


def exists(connect, exchange):
    channel = connect().channel()
    try:
        channel.exchange_declare(exchange, passive=True)
        return True
    except pika.exceptions.ChannelClosedByBroker:
        return False


def test_auto_deletion_goes_along_chains(connect, channel, name, queue):
    first, second = name("first"), name("second")
    for exchange in (first, second):
        channel.exchange_declare(exchange, "fanout", auto_delete=True)
    channel.exchange_bind(second, first)
    channel.queue_bind(queue, second)
    assert exists(connect, first) and exists(connect, second)
    channel.queue_unbind(queue, second)
    assert not exists(connect, second) and not exists(connect, first)


def test_auto_deletion_when_the_destination_is_deleted(connect, channel, name):
    source, target = name("source"), name("target")
    channel.exchange_declare(source, "fanout", auto_delete=True)
    channel.exchange_declare(target, "fanout")
    channel.exchange_bind(target, source)
    channel.exchange_delete(target)
    assert not exists(connect, source)


def test_an_auto_delete_exchange_that_was_never_bound_stays(connect, channel, name, queue):
    unbound, target = name("unbound"), name("target")
    channel.exchange_declare(unbound, "fanout", auto_delete=True)
    channel.exchange_declare(target, "fanout", auto_delete=True)
    channel.exchange_bind(target, "amq.fanout")   # as a destination it does not count
    channel.exchange_unbind(target, "amq.fanout")
    assert exists(connect, unbound) and exists(connect, target)
    for exchange in (unbound, target):
        channel.exchange_delete(exchange)


def test_what_is_missing_is_named(connect, queue, expect_close):
    expect_close(404, "NOT_FOUND - no exchange 'no exchange' in vhost '/'")(connect().channel().queue_bind, "no queue", "no exchange", "k")
    expect_close(404, "NOT_FOUND - no queue 'no queue' in vhost '/'")(connect().channel().queue_bind, "no queue", "amq.direct", "k")
    expect_close(404, "NOT_FOUND - no exchange 'source' in vhost '/'")(connect().channel().exchange_bind, "target", "source", "k")
    expect_close(404, "NOT_FOUND - no exchange 'target' in vhost '/'")(connect().channel().exchange_bind, "target", "amq.direct", "k")


def test_the_order_of_arguments_makes_no_other_binding(channel, queue):
    channel.queue_bind(queue, "amq.direct", queue, arguments={"b": 1, "a": 2})
    channel.queue_unbind(queue, "amq.direct", queue, arguments={"a": 2, "b": 1})
    channel.basic_publish("amq.direct", queue, b"x")
    assert channel.queue_purge(queue).method.message_count == 0


def test_a_queue_takes_many_auto_delete_exchanges_with_it(connect, channel, name):
    queue = channel.queue_declare(name()).method.queue
    exchanges = [name("fan") for _ in range(300)]
    for exchange in exchanges:
        channel.exchange_declare(exchange, "fanout", auto_delete=True)
        channel.queue_bind(queue, exchange)
    channel.queue_delete(queue)
    assert not any(exists(connect, exchange) for exchange in exchanges[::30] + exchanges[-1:])


def test_a_long_chain_goes_as_one(connect, channel, name, queue):
    chain = [name("chain") for _ in range(150)]
    for exchange in chain:
        channel.exchange_declare(exchange, "fanout", auto_delete=True)
    for source, target in zip(chain, chain[1:]):
        channel.exchange_bind(target, source)
    channel.queue_bind(queue, chain[-1])
    channel.basic_publish(chain[0], "", b"x")
    assert channel.queue_purge(queue).method.message_count == 1
    channel.queue_unbind(queue, chain[-1])
    assert not any(exists(connect, exchange) for exchange in chain[::30])
