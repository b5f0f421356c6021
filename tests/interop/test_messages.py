"""Bodies, properties and header fields arrive as they were sent."""
import datetime
import decimal
import hashlib
import os
import struct

import pika
import pika.spec as spec
import pytest

from support.wire import BODY, HEADER, Wire, frame, header_payload, method_frame


def through(channel, queue, body, properties=None):
    channel.basic_publish("", queue, body, properties)
    method, got_properties, got = channel.basic_get(queue, auto_ack=True)
    assert method is not None
    assert (method.exchange, method.routing_key, method.redelivered) == ("", queue, False)
    return got_properties, got


@pytest.mark.parametrize("frame_max", [4096, 8192, 131072])
@pytest.mark.parametrize("offset", [-9, -8, -7, -1, 0, 1])
def test_body_sizes_around_the_frame(connect, name, frame_max, offset):
    channel = connect(frame_max=frame_max).channel()
    queue = channel.queue_declare(name(), exclusive=True).method.queue
    for frames in (1, 2, 3):
        body = os.urandom(frame_max * frames + offset)
        assert through(channel, queue, body)[1] == body


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 4095, 4096, 4097, 65535, 65536, 1 << 20, 10_000_000])
def test_body_sizes(channel, queue, size):
    body = os.urandom(size)
    got = through(channel, queue, body)[1]
    assert len(got) == size
    assert hashlib.sha256(got).digest() == hashlib.sha256(body).digest()


def test_many_sizes_in_order(channel, queue):
    bodies = [bytes([index % 251]) * (index * 37 % 5000) for index in range(500)]
    for body in bodies:
        channel.basic_publish("", queue, body)
    assert [channel.basic_get(queue, auto_ack=True)[2] for _ in bodies] == bodies


def test_frame_max_of_the_consumer_is_kept(connect, name):
    """A big body goes out in frames no larger than what that consumer's connection agreed to."""
    sender = connect(frame_max=131072).channel()
    receiver = connect(frame_max=4096)
    queue = name()
    sender.queue_declare(queue)
    body = os.urandom(300_000)
    sender.basic_publish("", queue, body)
    channel = receiver.channel()
    got = []
    channel.basic_consume(queue, lambda c, m, p, b: got.append(b), auto_ack=True)
    receiver.process_data_events(2)
    assert got == [body]
    sender.queue_delete(queue)


def test_body_in_frames_of_any_size(wire, name):
    w, queue = wire(), name()
    w.send(1, spec.Queue.Declare(queue=queue, exclusive=True))
    w.expect(spec.Queue.DeclareOk)
    body = os.urandom(1000)
    data = method_frame(1, spec.Basic.Publish(exchange="", routing_key=queue)) + frame(HEADER, 1, header_payload(1000))
    position = 0
    for size in (1, 0, 2, 500, 0, 497):
        data += frame(BODY, 1, body[position:position + size])
        position += size
    w.send_bytes(data)
    w.send(1, spec.Basic.Get(queue=queue, no_ack=True))
    w.expect(spec.Basic.GetOk)
    assert w.receive_frame()[0] == HEADER
    assert w.receive_frame() == (BODY, 1, body)


def test_frames_of_several_channels_mix(wire, name):
    """Content frames of one channel may stand between those of another."""
    w, queue = wire(), name()
    w.open_channel(2)
    w.send(1, spec.Queue.Declare(queue=queue, exclusive=True))
    w.expect(spec.Queue.DeclareOk)
    publish = spec.Basic.Publish(exchange="", routing_key=queue)
    w.send_bytes(method_frame(1, publish) + method_frame(2, publish) + frame(HEADER, 2, header_payload(4)) +
                 frame(HEADER, 1, header_payload(6)) + frame(BODY, 1, b"one") + frame(BODY, 2, b"t") +
                 frame(BODY, 2, b"wo!") + frame(BODY, 1, b"one"))
    got = []
    for _ in range(2):
        w.send(1, spec.Basic.Get(queue=queue, no_ack=True))
        w.expect(spec.Basic.GetOk)
        w.receive_frame()
        got.append(w.receive_frame()[2])
    assert sorted(got) == [b"oneone", b"two!"]   # Nothing orders two channels.


def test_one_byte_at_a_time(wire, name):
    w, queue = wire(), name()
    w.send(1, spec.Queue.Declare(queue=queue, exclusive=True))
    w.expect(spec.Queue.DeclareOk)
    data = method_frame(1, spec.Basic.Publish(exchange="", routing_key=queue)) + \
        frame(HEADER, 1, header_payload(5, spec.BasicProperties(headers={"k": "v"}))) + frame(BODY, 1, b"hello")
    for byte in data:
        w.send_bytes(bytes([byte]))
    w.send(1, spec.Basic.Get(queue=queue, no_ack=True))
    w.expect(spec.Basic.GetOk)
    assert w.receive_frame()[2] == header_payload(5, spec.BasicProperties(headers={"k": "v"}))
    assert w.receive_frame()[2] == b"hello"


ALL_PROPERTIES = {
    "content_type": "text/plain; charset=utf-8", "content_encoding": "gzip", "headers": {"key": "value"}, "delivery_mode": 2,
    "priority": 200, "correlation_id": "correlation ä", "reply_to": "reply", "expiration": "60000", "message_id": "id",
    "timestamp": 1700000000, "type": "kind", "user_id": "guest", "app_id": "app", "cluster_id": "cluster",
}


def test_all_properties(channel, queue):
    got, _ = through(channel, queue, b"x", pika.BasicProperties(**ALL_PROPERTIES))
    assert {key: getattr(got, key) for key in ALL_PROPERTIES} == ALL_PROPERTIES


@pytest.mark.parametrize("key", list(ALL_PROPERTIES))
def test_each_property_alone(channel, queue, key):
    got, _ = through(channel, queue, b"x", pika.BasicProperties(**{key: ALL_PROPERTIES[key]}))
    assert {name: getattr(got, name) for name in ALL_PROPERTIES if getattr(got, name) is not None} == \
        {key: ALL_PROPERTIES[key]}


def test_no_properties(channel, queue):
    got, _ = through(channel, queue, b"x")
    assert all(getattr(got, key) is None for key in ALL_PROPERTIES)


@pytest.mark.parametrize("key", ["content_type", "correlation_id", "message_id", "reply_to", "type", "app_id"])
def test_empty_and_longest_short_strings(channel, queue, key):
    for value in ("", "x" * 255):
        assert getattr(through(channel, queue, b"x", pika.BasicProperties(**{key: value}))[0], key) == value


def test_wrong_user_id(channel, queue):
    channel.basic_publish("", queue, b"x", pika.BasicProperties(user_id="somebody else"))
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
        channel.queue_declare(queue, passive=True)
    assert caught.value.reply_code == 406
    assert caught.value.reply_text == "PRECONDITION_FAILED - user_id property set to 'somebody else' but " \
        "authenticated user was 'guest'"


# What pika 1.2 can encode and decode; the other types follow below as bytes.
HEADERS = {
    "text": "ümläut", "empty": "", "long": "x" * 10000, "int": 1, "negative": -1, "big": 1 << 40,
    "true": True, "false": False, "none": None, "decimal": decimal.Decimal("3.14"), "bytes": b"\x00\xff\x01",
    "time": datetime.datetime(2023, 11, 14, 22, 13, 20), "list": [1, "two", [3, None], {"four": 5}],
    "table": {"inner": {"deep": [True, {"deeper": "x"}]}}, "empty list": [], "empty table": {},
}


@pytest.mark.parametrize("key", list(HEADERS))
def test_header_types(channel, queue, key):
    got, _ = through(channel, queue, b"x", pika.BasicProperties(headers={key: HEADERS[key]}))
    assert got.headers == {key: HEADERS[key]}
    assert isinstance(got.headers[key], type(HEADERS[key]))


def test_all_headers_together(channel, queue):
    assert through(channel, queue, b"x", pika.BasicProperties(headers=HEADERS))[0].headers == HEADERS


def short(text):
    return bytes([len(text)]) + text


# Every type of RabbitMQ's errata, as bytes: name, type octet, value.
FIELDS = [
    (b"t", b"\x01"), (b"b", b"\x80"), (b"B", b"\xff"), (b"s", b"\x80\x01"), (b"u", b"\xff\xfe"),
    (b"I", b"\x80\x00\x00\x01"), (b"i", b"\xff\xff\xff\xfe"), (b"l", b"\x80" + bytes(7)),
    (b"f", struct.pack(">f", 1.25)), (b"d", struct.pack(">d", -2.5e300)), (b"D", b"\x02\x00\x00\x01\x3a"),
    (b"S", struct.pack(">I", 3) + b"abc"), (b"A", struct.pack(">I", 4) + b"t\x00b\x01"), (b"T", struct.pack(">Q", 1 << 33)),
    (b"F", struct.pack(">I", 4) + short(b"k") + b"b\x07"), (b"V", b""), (b"x", struct.pack(">I", 4) + b"\x00\x01\xfe\xff"),
]


@pytest.mark.parametrize("kind, value", FIELDS, ids=[kind.decode() for kind, _ in FIELDS])
def test_field_bytes_are_kept(wire, name, kind, value):
    w, queue = wire(), name()
    w.send(1, spec.Queue.Declare(queue=queue, exclusive=True))
    w.expect(spec.Queue.DeclareOk)
    table = short(b"key") + kind + value
    payload = struct.pack(">HHQH", 60, 0, 0, 1 << 13) + struct.pack(">I", len(table)) + table
    w.send_bytes(method_frame(1, spec.Basic.Publish(exchange="", routing_key=queue)) + frame(HEADER, 1, payload))
    w.send(1, spec.Basic.Get(queue=queue, no_ack=True))
    w.expect(spec.Basic.GetOk)
    assert w.receive_frame()[2] == payload


def test_largest_headers_that_fit_a_frame(connect, name):
    channel = connect(frame_max=131072).channel()
    queue = channel.queue_declare(name(), exclusive=True).method.queue
    headers = {"blob": "x" * (131072 - 8 - 14 - 4 - 5 - 5)}
    assert through(channel, queue, b"x", pika.BasicProperties(headers=headers))[0].headers == headers


def test_arguments_of_every_type_compare(channel, name):
    arguments = {"x-text": "a", "x-number": 5, "x-list": [1, "b"], "x-table": {"c": True}}
    queue = name()
    channel.queue_declare(queue, arguments=arguments)
    channel.queue_declare(queue, arguments=arguments)
    channel.queue_delete(queue)


@pytest.fixture
def modest(own_broker):
    """A broker whose messages have at most a thousand bytes."""
    return own_broker(godwit=["--max-message-size", "1000"], rabbitmq=["max_message_size = 1000"])


@pytest.mark.parametrize("confirms", [False, True])
def test_message_larger_than_configured(modest, connect_to, name, confirms):
    connection = connect_to(modest)
    channel = connection.channel()
    queue = channel.queue_declare(name(), exclusive=True).method.queue
    assert through(channel, queue, b"x" * 1000)[1] == b"x" * 1000
    if confirms:
        channel.confirm_delivery()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
        channel.basic_publish("", queue, b"x" * 1001)
        channel.queue_declare(queue, passive=True)
    assert caught.value.reply_code == 406
    assert caught.value.reply_text == "PRECONDITION_FAILED - message size 1001 is larger than configured max size 1000"
    assert connection.channel().queue_declare(queue, passive=True).method.message_count == 0


def test_the_broker_stops_and_says_so(own_broker):
    broker = own_broker()
    w = Wire(broker.port)
    broker.process.terminate()
    close = w.expect(spec.Connection.Close)
    assert (close.reply_code, close.class_id, close.method_id) == (320, 0, 0)
    assert close.reply_text == "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
    w.close()
