"""What no client should send: each time the right close code, and nobody else disturbed."""
import os
import random
import struct
import time

import pika
import pika.spec as spec
import pytest

from support.wire import BODY, HEADER, METHOD, PROTOCOL_HEADER, Closed, frame, header_payload, method_frame, method_payload


@pytest.fixture(autouse=True)
def others_go_on(connection, queue):
    """A connection that was there before and must be there after."""
    yield
    channel = connection.channel()
    channel.basic_publish("", queue, b"undisturbed")
    assert channel.basic_get(queue, auto_ack=True)[2] == b"undisturbed"


def publish(queue="x"):
    return spec.Basic.Publish(exchange="", routing_key=queue)


FRAMING = {
    "unknown frame type": (501, lambda: frame(17, 1, b"abc")),
    "wrong frame end": (501, lambda: frame(METHOD, 1, method_payload(spec.Basic.Qos()), end=b"\x00")),
    "frame larger than frame_max": (501, lambda: frame(METHOD, 1, b"\0" * 140000)),
    "frame of 4 GiB": (501, lambda: struct.pack(">BHI", METHOD, 1, 0xffffffff)),
    "heartbeat on a channel": (501, lambda: frame(8, 1, b"")),
    "content header without a method": (505, lambda: frame(HEADER, 1, header_payload(0))),
    "body without a method": (505, lambda: frame(BODY, 1, b"x")),
    "method instead of a content header": (505, lambda: method_frame(1, publish()) + method_frame(1, publish())),
    "body instead of a content header": (505, lambda: method_frame(1, publish()) + frame(BODY, 1, b"x")),
    "header instead of a body": (505, lambda: method_frame(1, publish()) + 2 * frame(HEADER, 1, header_payload(9))),
    "method instead of a body": (505, lambda: method_frame(1, publish()) + frame(HEADER, 1, header_payload(9)) +
                                 method_frame(1, spec.Basic.Qos())),
    "body longer than said": (501, lambda: method_frame(1, publish()) + frame(HEADER, 1, header_payload(2)) +
                              frame(BODY, 1, b"three")),
    "content of another class": (505, lambda: method_frame(1, publish()) + frame(HEADER, 1, header_payload(1, class_id=50))),
    "unknown class": (503, lambda: frame(METHOD, 1, struct.pack(">HH", 999, 10))),
    "unknown method": (503, lambda: frame(METHOD, 1, struct.pack(">HH", 60, 999))),
    "method without an id": (501, lambda: frame(METHOD, 1, b"\x00")),
    "method cut short": (501, lambda: frame(METHOD, 1, method_payload(spec.Queue.Declare(queue="abcdef"))[:-8])),
    "connection method on a channel": (503, lambda: method_frame(1, spec.Connection.Open())),
    "channel method on channel 0": (503, lambda: method_frame(0, spec.Queue.Declare(queue="x"))),
    "channel open on channel 0": (503, lambda: method_frame(0, spec.Channel.Open())),
    "server's method": (503, lambda: method_frame(1, spec.Queue.DeclareOk(queue="x", message_count=0, consumer_count=0))),
    "start-ok again": (503, lambda: method_frame(0, spec.Connection.StartOk(client_properties={}, mechanism="PLAIN",
                                                                            response="", locale="en_US"))),
}
# Where RabbitMQ 3.10 answers otherwise, what it says. Godwit follows the specification, and any of these codes is one a
# client understands.
ALSO = {
    "unknown class": {540, 541}, "unknown method": {540, 541}, "method without an id": {502, 541}, "method cut short": {502, 541},
    "connection method on a channel": {504, 540, 541}, "server's method": {504, 540, 541}, "channel method on channel 0": {504, 540},
    "channel open on channel 0": {504, 540}, "start-ok again": {504, 540}, "body longer than said": {505, 502},
    "content header without a method": {503, 504}, "body without a method": {503, 504}, "heartbeat on a channel": {503, 504, 505},
    "content of another class": {501, 502},
}


# RabbitMQ ends these connections without a word.
SILENT = {"unknown class", "unknown method", "frame larger than frame_max"}


@pytest.mark.parametrize("case", list(FRAMING))
def test_framing(wire, against, case):
    if against == "rabbitmq" and case == "body longer than said":
        pytest.skip("RabbitMQ 3.10 waits for the end of a body that is already past it")
    code, data = FRAMING[case]
    w = wire()
    w.send_bytes(data())
    w.expect_refusal({code} | ALSO.get(case, set()), silence=against == "rabbitmq" and case in SILENT)


def nested(depth):
    value = b"\x00\x00\x00\x00"
    for _ in range(depth):
        inner = b"\x01kF" + value
        value = struct.pack(">I", len(inner)) + inner
    return value


TABLES = {
    "longer than the frame": b"\x00\x00\xff\xff\x01kt\x01",
    "key longer than the table": b"\x00\x00\x00\x03\xffkt",
    "unknown type": b"\x00\x00\x00\x04\x01k?\x01",
    "string longer than the table": b"\x00\x00\x00\x07\x01kS\x00\x00\xff\xff",
    "array longer than the table": b"\x00\x00\x00\x07\x01kA\x00\x00\xff\xff",
    "number cut short": b"\x00\x00\x00\x04\x01kI\x01",
}


@pytest.mark.parametrize("case", list(TABLES))
def test_bad_table_in_a_method(wire, against, case):
    w = wire()
    payload = struct.pack(">HHH", 50, 10, 0) + b"\x01q\x00" + TABLES[case]
    w.send_frame(METHOD, 1, payload)
    w.expect_refusal({501, 502, 541}, silence=against == "rabbitmq")


@pytest.mark.parametrize("case", list(TABLES))
def test_bad_table_in_a_content_header(wire, queue, case):
    w = wire()
    w.send(1, publish(queue))
    w.send_frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 0, 1 << 13) + TABLES[case])
    assert w.expect(spec.Connection.Close).reply_code == 541


@pytest.mark.godwit_only("RabbitMQ has no limit of depth")
def test_table_nested_too_deep(wire):
    w = wire()
    w.send_frame(METHOD, 1, struct.pack(">HHH", 50, 10, 0) + b"\x01q\x00" + nested(5000))
    assert w.expect(spec.Connection.Close).reply_code in (501, 502)


def test_table_nested_a_little(wire):
    w = wire()
    w.send_frame(METHOD, 1, struct.pack(">HHH", 50, 10, 0) + b"\x00\x0c" + nested(12))
    w.expect(spec.Queue.DeclareOk)


def test_nothing_is_said_before_start_ok(wire):
    """Methods before authentication never reach the broker."""
    w = wire(handshake=False)
    w.send_bytes(PROTOCOL_HEADER)
    w.expect(spec.Connection.Start)
    w.send(0, spec.Connection.Open(virtual_host="/"))
    try:
        assert isinstance(w.receive(), spec.Connection.Close)
    except Closed:
        pass


@pytest.mark.godwit_only("RabbitMQ bounds a frame before authentication, and not all of them together")
def test_no_more_than_64_kib_before_authentication(wire):
    w = wire(handshake=False)
    w.send_bytes(PROTOCOL_HEADER)
    w.expect(spec.Connection.Start)
    begin = time.monotonic()
    try:
        for _ in range(64):
            w.send_bytes(frame(8, 0, b"") * 1024)
        w.everything()
    except OSError:
        pass   # Closed while this end was still talking.
    assert time.monotonic() - begin < 5, "half a megabyte before authentication, and nobody minds"


@pytest.mark.limit(40)
def test_silence_before_authentication_ends(wire):
    """Ten seconds, then the connection is closed."""
    w = wire(handshake=False, timeout_s=25)
    w.send_bytes(PROTOCOL_HEADER)
    w.expect(spec.Connection.Start)
    try:
        assert w.everything() is not None
    except TimeoutError:
        pytest.fail("a connection that never authenticates is kept")


@pytest.mark.godwit_only("RabbitMQ 3.10 looks at the size once the whole body has come")
@pytest.mark.parametrize("size", [1 << 63, (1 << 64) - 1, 1 << 40])
def test_body_of_absurd_size(wire, queue, size):
    w = wire()
    w.send(1, publish(queue))
    w.send_frame(HEADER, 1, header_payload(size))
    close = w.receive()
    assert isinstance(close, (spec.Channel.Close, spec.Connection.Close))
    assert close.reply_code in (406, 311, 501, 502, 541)


def test_announced_but_never_sent_bodies_cost_nothing(wire, queue):
    """The space for a body comes with its bytes, not with its announcement."""
    wires = [wire() for _ in range(20)]
    for w in wires:
        w.send(1, publish(queue))
        w.send_frame(HEADER, 1, header_payload(100 << 20))
    assert wire().tune.frame_max == 131072


@pytest.mark.parametrize("seed", range(40))
def test_noise(wire, seed):
    """Bytes of a conversation with some of them changed: the broker may close, it may not hang or fall."""
    noise = random.Random(seed)
    conversation = bytearray(
        method_frame(1, spec.Queue.Declare(queue="noise-%d" % os.getpid(), exclusive=True, arguments={"a": [1, {"b": "c"}]})) +
        method_frame(1, publish("noise-%d" % os.getpid())) + frame(HEADER, 1, header_payload(5, spec.BasicProperties(
            headers={"k": [1, 2]}, content_type="t"))) + frame(BODY, 1, b"hello") +
        method_frame(1, spec.Basic.Consume(queue="noise-%d" % os.getpid(), no_ack=True)) +
        method_frame(1, spec.Basic.Ack(delivery_tag=7)))
    for _ in range(noise.randint(1, 4)):
        conversation[noise.randrange(len(conversation))] = noise.randrange(256)
    w = wire()
    try:
        w.send_bytes(bytes(conversation))
        w.socket.shutdown(1)
    except OSError:
        pass   # Closed already.
    w.everything()
