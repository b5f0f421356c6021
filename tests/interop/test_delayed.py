"""Exchanges of type x-delayed-message, as RabbitMQ's popular plugin defines them. Debian does not package that plugin, so these run against Godwit alone."""
import itertools
import struct
import time

import pika
import pytest

pytestmark = pytest.mark.godwit_only("RabbitMQ needs a plugin that Debian does not have")

NUMBERS = itertools.count()
DURABLE = pika.BasicProperties(delivery_mode=2)


@pytest.fixture
def unique():
    return lambda prefix: f"delayed-{prefix}-{next(NUMBERS)}"


def declare(channel, name, kind="direct", **more):
    channel.exchange_declare(name, "x-delayed-message", arguments={"x-delayed-type": kind}, **more)


def bound(channel, exchange, key, **more):
    queue = channel.queue_declare("", exclusive=True).method.queue if not more else channel.queue_declare(**more).method.queue
    channel.queue_bind(queue, exchange, key)
    return queue


def later(delay, **more):
    return pika.BasicProperties(headers={"x-delay": delay}, **more)


def wait(channel, queue, limit_s=10):
    """The next message of the queue, and when it was there."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method:
            return method, properties, body, time.monotonic()
        time.sleep(0.002)
    pytest.fail("nothing came")


def nothing(channel, queue):
    assert channel.basic_get(queue)[0] is None


def test_a_message_comes_when_it_is_due_and_says_how_long_it_waited(channel, unique):
    name = unique("x")
    declare(channel, name)
    queue = bound(channel, name, "k")
    begin = time.monotonic()
    channel.basic_publish(name, "k", b"late", later(400, message_id="m", delivery_mode=2))
    method, properties, body, came = wait(channel, queue)
    assert 0.4 <= came - begin < 0.55
    assert (body, method.exchange, method.routing_key, method.redelivered) == (b"late", name, "k", False)
    assert properties.headers == {"x-delay": -400}
    assert (properties.message_id, properties.delivery_mode) == ("m", 2)


def test_the_shortest_delay_comes_first(channel, unique):
    name = unique("x")
    declare(channel, name)
    queue = bound(channel, name, "k")
    for delay in (300, 100, 200, 100):
        channel.basic_publish(name, "k", str(delay).encode(), later(delay))
    assert [wait(channel, queue)[2] for _ in range(4)] == [b"100", b"100", b"200", b"300"]


def test_those_of_one_time_keep_their_order(channel, unique):
    name = unique("x")
    declare(channel, name)
    queue = bound(channel, name, "k")
    for i in range(100):
        channel.basic_publish(name, "k", str(i).encode(), later(200))
    got = [int(wait(channel, queue)[2]) for _ in range(100)]
    assert got == sorted(got)


@pytest.mark.parametrize("headers", [{}, {"x-delay": 0}, {"x-delay": -100}, {"x-delay": "soon"}, {"x-delay": True}])
def test_without_a_delay_it_goes_at_once(channel, unique, headers):
    name = unique("x")
    declare(channel, name)
    queue = bound(channel, name, "k")
    channel.basic_publish(name, "k", b"now", pika.BasicProperties(headers=headers))
    assert wait(channel, queue, 0.5)[1].headers == (headers or {})


@pytest.mark.parametrize("kind,key,matches", [("fanout", "", "any"), ("topic", "a.*", "a.b"), ("direct", "k", "k")])
def test_it_is_routed_as_the_delayed_type_says(channel, unique, kind, key, matches):
    name = unique("x")
    declare(channel, name, kind)
    queue, other = bound(channel, name, key), bound(channel, name, "other.key") if kind != "fanout" else None
    channel.basic_publish(name, matches, b"m", later(50))
    assert wait(channel, queue)[0].routing_key == matches
    if other:
        nothing(channel, other)


def test_bindings_count_when_it_is_due(channel, unique):
    name = unique("x")
    declare(channel, name)
    before = bound(channel, name, "k")
    channel.basic_publish(name, "k", b"m", later(300))
    channel.queue_unbind(before, name, "k")
    after = bound(channel, name, "k")
    assert wait(channel, after)[2] == b"m"
    nothing(channel, before)


def test_one_that_is_bound_to_another_exchange_delays_too(channel, unique):
    first, name = unique("first"), unique("x")
    channel.exchange_declare(first, "fanout")
    declare(channel, name)
    channel.exchange_bind(name, first)
    queue = bound(channel, name, "k")
    begin = time.monotonic()
    channel.basic_publish(first, "k", b"m", later(300))
    method, _, _, came = wait(channel, queue)
    assert came - begin >= 0.3 and method.exchange == first


def test_confirms_come_before_the_message_is_due_and_mandatory_ones_do_not_come_back(channel, unique):
    name = unique("x")
    declare(channel, name)
    channel.confirm_delivery()
    begin = time.monotonic()
    channel.basic_publish(name, "nowhere", b"m", later(5000, delivery_mode=2), mandatory=True)   # pika raises when it is returned or refused
    assert time.monotonic() - begin < 2
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish(name, "nowhere", b"m", DURABLE, mandatory=True)


def test_the_exchange_takes_what_waits_with_it(channel, unique):
    name = unique("x")
    declare(channel, name)
    queue = bound(channel, name, "k")
    channel.basic_publish(name, "k", b"m", later(300))
    channel.exchange_delete(name)
    declare(channel, name)
    channel.queue_bind(queue, name, "k")
    time.sleep(0.6)
    nothing(channel, queue)


@pytest.mark.parametrize("arguments,code,text", [
    ({}, 406, "PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange type"),
    ({"x-delayed-type": 1}, 406, "PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange type"),
    ({"x-delayed-type": "x-delayed-message"}, 406,
     "PRECONDITION_FAILED - Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'"),
])
def test_what_it_cannot_be(channel, unique, arguments, code, text):
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.exchange_declare(unique("x"), "x-delayed-message", arguments=arguments)
    assert (closed.value.reply_code, closed.value.reply_text) == (code, text)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_waits_survives_a_restart(own_broker, connect_to, end):
    broker = own_broker()
    connection = connect_to(broker)
    channel = connection.channel()
    channel.confirm_delivery()
    declare(channel, "x", durable=True)
    bound(channel, "x", "k", queue="q", durable=True)
    begin = time.monotonic()
    for i in range(100):
        channel.basic_publish("x", "k", str(i).encode(), later(5000 + i, delivery_mode=2))
    channel.basic_publish("x", "k", b"transient", later(5200))   # kept over a restart all the same, as the plugin keeps it
    channel.basic_publish("x", "k", b"never", later(4000000, delivery_mode=2))
    if end == "stop":
        connection.close()   # a broker that stops waits some seconds for its clients
    getattr(broker, end)()
    broker.start()
    channel = connect_to(broker).channel()
    assert channel.queue_declare("q", passive=True).method.message_count == 0
    got = [wait(channel, "q") for _ in range(101)]
    assert [body for _, _, body, _ in got] == [str(i).encode() for i in range(100)] + [b"transient"]
    assert all(came - begin >= 5 + i / 1000 for i, (_, _, _, came) in enumerate(got[:100]))
    assert not any(method.redelivered for method, _, _, _ in got)
    nothing(channel, "q")
    broker.restart()
    channel = connect_to(broker).channel()
    nothing(channel, "q")


def test_many_come_in_time_and_never_early(channel, unique):
    name, count = unique("x"), 4000
    declare(channel, name)
    queue = bound(channel, name, "k")
    begin, late = time.time() + 4, []

    def on_message(_channel, _method, _properties, body):
        late.append(time.time() - struct.unpack("d", body)[0])
        if len(late) == count:
            channel.stop_consuming()

    for i in range(count):
        delay = int((begin + i * 7919 % 2000 / 1000 - time.time()) * 1000)   # within two seconds, in no order
        due = time.time() + delay / 1000
        channel.basic_publish(name, "k", struct.pack("d", due), later(delay))
    assert time.time() < begin, "this machine is too slow to tell"
    channel.basic_consume(queue, on_message, auto_ack=True)
    channel.start_consuming()
    late.sort()
    assert late[0] >= 0
    assert late[count // 2] < 0.05
