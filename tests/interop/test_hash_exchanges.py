"""Exchanges that choose one of their bindings: x-consistent-hash, x-random, x-modulus-hash. RabbitMQ has them as plug-ins."""
import collections
import datetime
import decimal

import pika
import pytest


@pytest.fixture
def channel(plugged, connect_to):
    return connect_to(plugged).channel()


@pytest.fixture
def spread(channel, name):
    """spread(kind, [binding keys]) declares an exchange with a queue for each key; `to` answers the place of the queue that got a message."""
    made = []

    class Spread:
        def __init__(self, kind, keys, **arguments):
            self.exchange = name(kind)
            channel.exchange_declare(self.exchange, kind, arguments={key.replace("_", "-", 1): value for key, value in arguments.items()})
            made.append(self.exchange)
            self.queues = []
            for number, key in enumerate(keys):
                self.queues.append(channel.queue_declare(f"{self.exchange}-{number}", exclusive=True).method.queue)
                channel.queue_bind(self.queues[-1], self.exchange, key)

        def to(self, key="", **properties):
            channel.basic_publish(self.exchange, key, b"x", pika.BasicProperties(**properties))
            counts = [channel.queue_purge(queue).method.message_count for queue in self.queues]
            assert sum(counts) == (1 if self.queues else 0), counts
            return counts.index(1) if self.queues else None

        def many(self, number):
            for key in range(number):
                channel.basic_publish(self.exchange, str(key), b"x")
            return [channel.queue_purge(queue).method.message_count for queue in self.queues]

    yield Spread
    for exchange in made:
        if channel.is_open:
            channel.exchange_delete(exchange)


# x-consistent-hash. The places are those that RabbitMQ's plug-in chooses.

NOTHING_PLACE = 1


def test_every_key_has_its_queue(spread):
    exchange = spread("x-consistent-hash", ["1"] * 7)
    assert [exchange.to(f"key-{number}") for number in range(10)] == [6, 1, 5, 6, 6, 6, 3, 5, 3, 0]
    assert [exchange.to(f"key-{number}") for number in range(10)] == [6, 1, 5, 6, 6, 6, 3, 5, 3, 0]


def test_weights(spread):
    counts = spread("x-consistent-hash", ["1", "3"]).many(1000)
    assert sum(counts) == 1000
    assert 690 < counts[1] < 810


def test_a_header_is_hashed(spread):
    exchange = spread("x-consistent-hash", ["1"] * 7, hash_header="user")
    assert [exchange.to("ignored", headers={"user": f"u{number}"}) for number in range(8)] == [1, 6, 0, 2, 5, 0, 0, 2]
    values = [17, -17, True, False, None, 2 ** 40, decimal.Decimal("1.5"), datetime.datetime(2020, 1, 1)]
    assert [exchange.to("ignored", headers={"user": value}) for value in values] == [0, 3, 4, 2, 0, 3, 6, 6]
    assert exchange.to("a") == exchange.to("b", headers={"other": 1}) == NOTHING_PLACE


@pytest.mark.parametrize("name_of, values", [
    ("message_id", ["m1", "m2", "m3", "m4"]), ("correlation_id", ["m1", "m2", "m3", "m4"]), ("timestamp", [1, 2, 3, 1700000000])])
def test_a_property_is_hashed(spread, name_of, values):
    exchange = spread("x-consistent-hash", ["1"] * 7, hash_property=name_of)
    by_key = spread("x-consistent-hash", ["1"] * 7)
    assert [exchange.to("ignored", **{name_of: value}) for value in values] == [by_key.to(str(value)) for value in values]
    assert exchange.to("a") == exchange.to("b") == NOTHING_PLACE


@pytest.mark.parametrize("kind", ["x-consistent-hash", "x-random", "x-modulus-hash"])
def test_without_bindings(channel, name, kind):
    exchange, returned = name(kind), []
    channel.exchange_declare(exchange, kind, auto_delete=True)
    channel.add_on_return_callback(lambda *seen: returned.append(seen))
    channel.basic_publish(exchange, "k", b"x", mandatory=True)
    channel.connection.process_data_events(0.2)
    assert len(returned) == 1
    channel.exchange_delete(exchange)


def test_unbinding_moves_only_what_was_there(channel, spread):
    exchange = spread("x-consistent-hash", ["1"] * 5)
    before = [exchange.to(str(number)) for number in range(60)]
    channel.queue_unbind(exchange.queues[4], exchange.exchange, "1")
    after = [exchange.to(str(number)) for number in range(60)]
    assert 4 in before and 4 not in after
    assert all(now == then for now, then in zip(after, before) if then != 4)


def test_copies_do_not_spread(channel, spread):
    exchange = spread("x-consistent-hash", ["1"] * 7)
    assert exchange.to("key-0", headers={"CC": ["key-1", "key-2"]}) == 6


def test_to_an_exchange(channel, spread, name):
    exchange = spread("x-consistent-hash", [])
    target, queue = name("target"), channel.queue_declare("", exclusive=True).method.queue
    channel.exchange_declare(target, "fanout", auto_delete=True)
    channel.queue_bind(queue, target)
    channel.exchange_bind(target, exchange.exchange, "10")
    channel.basic_publish(exchange.exchange, "k", b"x")
    assert channel.queue_purge(queue).method.message_count == 1


@pytest.mark.parametrize("key, text", [
    ("0", "The binding key must be greater than 0"), ("-1", "The binding key must be greater than 0"),
    ("a", 'The binding key must be an integer: <<"a">>'), ("", "The binding key must be an integer: <<>>"),
    ("1.5", 'The binding key must be an integer: <<"1.5">>'), ("1 ", 'The binding key must be an integer: <<"1 ">>'),
])
def test_bad_weights(channel, name, expect_close, key, text):
    exchange = name()
    channel.exchange_declare(exchange, "x-consistent-hash", auto_delete=True)
    queue = channel.queue_declare("", exclusive=True).method.queue
    assert expect_close(406)(channel.queue_bind, queue, exchange, key) == f"PRECONDITION_FAILED - {text}"


@pytest.mark.parametrize("arguments, text", [
    ({"hash-property": "type"}, "Unsupported property: type"),
    ({"hash-property": "message_id", "hash-header": "h"}, "hash-header and hash-property are mutually exclusive"),
])
def test_bad_arguments(channel, name, expect_close, arguments, text):
    assert expect_close(406)(channel.exchange_declare, name(), "x-consistent-hash", arguments=arguments) == f"PRECONDITION_FAILED - {text}"


@pytest.mark.godwit_only("RabbitMQ 3.10 makes the ring anew in another order, so that keys move")
def test_the_ring_is_the_same_after_a_restart(own_broker, connect_to, name):
    broker = own_broker()
    exchange, queues = name(), [name() for _ in range(6)]

    def places(channel):
        found = []
        for key in range(40):
            channel.basic_publish(exchange, str(key), b"x", mandatory=True)
            found.append([channel.queue_purge(queue).method.message_count for queue in queues].index(1))
        return found

    channel = connect_to(broker).channel()
    channel.exchange_declare(exchange, "x-consistent-hash", durable=True)
    for queue in queues:
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, exchange, "2")
    before = places(channel)
    channel.connection.close()
    for _ in range(2):
        broker.restart()
        channel = connect_to(broker).channel()
        assert places(channel) == before
        channel.connection.close()


# x-random.

def test_random_spreads(spread):
    counts = spread("x-random", ["", "a", "b", "c"]).many(400)
    assert sum(counts) == 400
    assert all(50 < count < 160 for count in counts), counts


def test_random_with_one_key(spread):
    exchange = spread("x-random", ["a", "a"])
    seen = collections.Counter(exchange.to("same") for _ in range(60))
    assert set(seen) == {0, 1}


# x-local-random: of RabbitMQ 4, which Debian does not have yet.

@pytest.mark.godwit_only("RabbitMQ has x-local-random since 4.0")
def test_local_random(spread):
    counts = spread("x-local-random", ["", "", ""]).many(300)
    assert sum(counts) == 300
    assert all(50 < count < 160 for count in counts), counts


@pytest.mark.godwit_only("RabbitMQ has x-local-random since 4.0")
@pytest.mark.parametrize("key, arguments, text", [
    ("k", {}, "Non empty binding 'k' key not permitted"),
    ("", {"x-queue-type": "quorum"}, "Queue type rabbit_quorum_queue not valid for this exchange type"),
])
def test_local_random_refuses(channel, name, expect_close, key, arguments, text):
    exchange, queue = name("exchange"), name("queue")
    channel.exchange_declare(exchange, "x-local-random", auto_delete=True)
    channel.queue_declare(queue, durable=True, arguments=arguments)
    assert expect_close(406)(channel.queue_bind, queue, exchange, key) == f"PRECONDITION_FAILED - {text}"


# x-modulus-hash. Binding keys order the queues, as RabbitMQ orders them.

def test_modulus(spread):
    exchange = spread("x-modulus-hash", ["a", "b", "c", "d", "e"])
    assert [exchange.to(f"key-{number}") for number in range(10)] == [1, 0, 4, 4, 4, 2, 1, 0, 2, 1]


def test_modulus_in_the_order_of_keys_then_names(spread):
    exchange = spread("x-modulus-hash", ["e", "d", "c", "b", "a"])
    assert [exchange.to(f"key-{number}") for number in range(10)] == [3, 4, 0, 0, 0, 2, 3, 4, 2, 3]
    exchange = spread("x-modulus-hash", [""] * 5)
    assert [exchange.to(f"key-{number}") for number in range(10)] == [1, 0, 4, 4, 4, 2, 1, 0, 2, 1]


def test_modulus_hashes_all_keys_of_a_message(spread):
    exchange = spread("x-modulus-hash", ["a", "b", "c", "d", "e"])
    assert exchange.to("a", headers={"CC": ["b"], "BCC": ["c"]}) == 109904979 % 5
