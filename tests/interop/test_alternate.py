"""Alternate exchanges, from arguments: what an exchange matches nothing for goes there."""
import pika
import pytest


@pytest.fixture
def exchange(channel, name):
    """exchange('fanout', alternate=...) declares one and deletes it afterwards."""
    made = []

    def declare(kind, alternate=None, called=None, **more):
        made.append(called or name(kind))
        arguments = {"alternate-exchange": alternate} if alternate is not None else None
        channel.exchange_declare(made[-1], kind, arguments=arguments, **more)
        return made[-1]

    yield declare
    for one in made:
        if channel.is_open:
            channel.exchange_delete(one)


@pytest.fixture
def count(channel):
    """How many messages each of some queues holds: it takes them."""
    return lambda *queues: tuple(channel.queue_purge(queue).method.message_count for queue in queues)


@pytest.fixture
def queues(channel, name):
    return lambda number: [channel.queue_declare(name(), exclusive=True).method.queue for _ in range(number)]


def test_only_what_matches_nothing(channel, exchange, queues, count):
    known, rest = queues(2)
    alternate = exchange("fanout")
    main = exchange("direct", alternate)
    channel.queue_bind(known, main, "k")
    channel.queue_bind(rest, alternate)
    channel.basic_publish(main, "k", b"x")
    assert count(known, rest) == (1, 0)
    channel.basic_publish(main, "other", b"x")
    assert count(known, rest) == (0, 1)


@pytest.mark.parametrize("kind", ["direct", "fanout", "topic", "headers"])
def test_of_every_type(channel, exchange, queues, count, kind):
    rest, = queues(1)
    alternate = exchange("fanout")
    main = exchange(kind, alternate)
    channel.queue_bind(rest, alternate)
    channel.basic_publish(main, "k", b"x")
    assert count(rest) == (1,)


def test_the_alternate_matches_by_the_same_key_and_headers(channel, exchange, queues, count):
    by_key, by_header = queues(2)
    second = exchange("headers")
    first = exchange("topic", second)
    main = exchange("direct", first)
    channel.queue_bind(by_key, first, "a.*")
    channel.queue_bind(by_header, second, "", {"h": 1})
    channel.basic_publish(main, "a.b", b"x", pika.BasicProperties(headers={"h": 1}))
    assert count(by_key, by_header) == (1, 0)
    channel.basic_publish(main, "b", b"x", pika.BasicProperties(headers={"h": 1}))
    assert count(by_key, by_header) == (0, 1)


def test_circles_end_and_mandatory_says_so(connection, channel, exchange, name, queues, count):
    first, second = name("first"), name("second")
    exchange("direct", second, called=first)
    exchange("direct", first, called=second)
    returned = []
    channel.add_on_return_callback(lambda _, method, properties, body: returned.append((method.exchange, method.routing_key, body)))
    channel.basic_publish(first, "k", b"nobody", mandatory=True)
    queue, = queues(1)
    channel.queue_bind(queue, second, "k")
    channel.basic_publish(first, "k", b"somebody", mandatory=True)
    assert count(queue) == (1,)
    connection.process_data_events(0.1)
    assert returned == [(first, "k", b"nobody")]


def test_one_that_does_not_exist_is_none_until_it_does(connection, channel, exchange, name, queues, count):
    later = name("later")
    main = exchange("direct", later)
    queue, = queues(1)
    channel.basic_publish(main, "k", b"lost")
    exchange("fanout", called=later)
    channel.queue_bind(queue, later)
    channel.basic_publish(main, "k", b"found")
    assert count(queue) == (1,)
    channel.exchange_delete(later)
    channel.basic_publish(main, "k", b"lost again")
    assert count(queue) == (0,)


def test_a_bound_exchange_counts_as_a_match(channel, exchange, queues, count):
    rest, = queues(1)
    alternate = exchange("fanout")
    main = exchange("fanout", alternate)
    behind = exchange("direct")
    channel.queue_bind(rest, alternate)
    channel.exchange_bind(behind, main)
    channel.basic_publish(main, "k", b"x")
    assert count(rest) == (0,)


def test_an_exchange_behind_asks_its_own_alternate(channel, exchange, queues, count):
    rest, = queues(1)
    alternate = exchange("fanout")
    behind = exchange("direct", alternate)
    channel.queue_bind(rest, alternate)
    channel.exchange_bind(behind, "amq.fanout")
    channel.basic_publish("amq.fanout", "k", b"x")
    assert count(rest) == (1,)


def test_an_internal_exchange_may_be_the_alternate(channel, exchange, queues, count):
    rest, = queues(1)
    alternate = exchange("fanout", internal=True)
    main = exchange("direct", alternate)
    channel.queue_bind(rest, alternate)
    channel.basic_publish(main, "k", b"x")
    assert count(rest) == (1,)


def test_queue_reached_both_ways_gets_one_copy(channel, exchange, queues, count):
    queue, = queues(1)
    alternate = exchange("fanout")
    left, right = exchange("direct", alternate), exchange("direct", alternate)
    both = exchange("fanout")
    for side in (left, right):
        channel.exchange_bind(side, both)
    channel.queue_bind(queue, alternate)
    channel.basic_publish(both, "k", b"x")
    assert count(queue) == (1,)


def test_with_transactions_and_confirms(connect, channel, exchange, queues, count):
    queue, = queues(1)
    alternate = exchange("fanout")
    main = exchange("direct", alternate)
    channel.queue_bind(queue, alternate)
    other = connect().channel()
    other.confirm_delivery()
    other.basic_publish(main, "k", b"x", mandatory=True)
    transactional = connect().channel()
    transactional.tx_select()
    transactional.basic_publish(main, "k", b"y")
    transactional.tx_commit()
    assert count(queue) == (2,)


# Declaring.

def declare_again(channel, name, first, second, expected, expect_close):
    one = name("one")
    channel.exchange_declare(one, "direct", arguments=first, auto_delete=True)
    expect_close(406, f"PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange '{one}' in vhost '/': {expected}")(
        channel.exchange_declare, one, "direct", arguments=second, auto_delete=True)


@pytest.mark.parametrize("first, second, expected", [
    ({"alternate-exchange": "a"}, {"alternate-exchange": "b"}, "received 'b' but current is 'a'"),
    ({"alternate-exchange": "a"}, None, "received none but current is the value 'a' of type 'longstr'"),
    (None, {"alternate-exchange": "b"}, "received the value 'b' of type 'longstr' but current is none"),
])
def test_inequivalent(channel, connect, name, expect_close, first, second, expected):
    declare_again(channel, name, first, second, expected, expect_close)


def test_other_arguments_may_differ(channel, exchange, name):
    one = exchange("direct", "a")
    channel.exchange_declare(one, "direct", arguments={"alternate-exchange": "a", "more": 1})


@pytest.mark.parametrize("value, kind", [(5, "signedint"), (True, "bool"), (["a"], "array"), ({"a": 1}, "table"), (None, "void")])
def test_of_another_type(channel, name, expect_close, value, kind):
    one = name()
    text = f"PRECONDITION_FAILED - invalid type '{kind}' for arg 'alternate-exchange' in exchange '{one}' in vhost '/'"
    assert expect_close(406, text)(channel.exchange_declare, one, "direct", arguments={"alternate-exchange": value}) == text


# By policy.

def test_a_policy_names_it(broker, channel, exchange, queues, count, name):
    rest, = queues(1)
    alternate = exchange("fanout")
    main, other = exchange("direct"), exchange("direct", "nowhere")
    channel.queue_bind(rest, alternate)
    channel.basic_publish(main, "k", b"before")
    broker.control("set_policy", "alternate-policy", f"^({main}|{other})$", f'{{"alternate-exchange": "{alternate}"}}', "--apply-to", "exchanges")
    try:
        channel.basic_publish(main, "k", b"during")
        channel.basic_publish(other, "k", b"its argument counts more")
        assert count(rest) == (1,)
        later = exchange("direct", called=main + "-later")
        channel.basic_publish(later, "k", b"no match")
        assert count(rest) == (0,)
    finally:
        broker.control("clear_policy", "alternate-policy")
    channel.basic_publish(main, "k", b"after")
    assert count(rest) == (0,)
