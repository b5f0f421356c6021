"""Connections: negotiation, who may come in, heartbeats, blocked publishers, channels that fail and open again."""
import socket
import struct
import time

import pika
import pika.spec as spec
import pytest

from support.wire import PROTOCOL_HEADER, HEARTBEAT, Closed, Wire, frame, method_frame

START_OK = {"client_properties": {"capabilities": {"authentication_failure_close": True}}, "locale": "en_US"}


def other_address():
    """An address of this machine that is not loopback, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return probe.getsockname()[0]


# Negotiation.

def test_start_says_who_it_is(wire, against):
    w = wire(handshake=False)
    w.send_bytes(PROTOCOL_HEADER)
    start = w.expect(spec.Connection.Start)
    assert (start.version_major, start.version_minor) == (0, 9)
    assert {"PLAIN", "AMQPLAIN"} <= set(start.mechanisms.decode().split(" "))
    assert "en_US" in start.locales.decode().split(" ")
    properties = start.server_properties
    assert properties["product"] == "RabbitMQ", "kombu decides by this how prefetch is meant"
    assert properties["platform"].startswith("Godwit " if against == "godwit" else "Erlang")
    assert {"version", "platform", "capabilities"} <= set(properties)
    expected = {"publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
                "connection.blocked", "authentication_failure_close", "per_consumer_qos"}
    assert expected <= {key for key, value in properties["capabilities"].items() if value is True}


def test_tune_proposes_limits(wire):
    tune = wire().tune
    assert tune.frame_max == 131072
    assert tune.channel_max == 2047
    assert tune.heartbeat == 60


def test_smallest_frame_max(connect):
    assert connect(frame_max=4096).channel().is_open


@pytest.mark.parametrize("header", [b"AMQP\x00\x00\x08\x00", b"AMQP\x00\x01\x00\x00",
                                    b"GET / HTTP/1.1\r\n", b"\x00" * 8, b"AMQP\x03\x01\x00\x00"])
def test_wrong_protocol_header(wire, header):
    """The answer is the header that would have been right, and the end."""
    w = wire(handshake=False)
    w.send_bytes(header)
    assert w.everything() == PROTOCOL_HEADER


def start(wire):
    w = wire(handshake=False)
    w.send_bytes(PROTOCOL_HEADER)
    w.expect(spec.Connection.Start)
    return w


def to_tune(wire):
    w = start(wire)
    w.send(0, spec.Connection.StartOk(mechanism="PLAIN", response="\0guest\0guest", **START_OK))
    w.expect(spec.Connection.Tune)
    return w


@pytest.mark.parametrize("tune, text", [
    ({"frame_max": 1000, "channel_max": 10}, "negotiated frame_max = 1000 is lower than the minimum allowed value (4096)"),
    ({"frame_max": 131073, "channel_max": 10}, "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)"),
    ({"frame_max": 131072, "channel_max": 65535}, "negotiated channel_max = 65535 is higher than the maximum allowed value (2047)"),
    ({"frame_max": 0, "channel_max": 10}, "negotiated frame_max = 0 (no limit) is higher than the maximum allowed value (131072)"),
    ({"frame_max": 131072, "channel_max": 0}, "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)"),
])
def test_tune_beyond_limits(wire, against, tune, text):
    """RabbitMQ closes the socket without a word until the connection is open."""
    w = to_tune(wire)
    w.send(0, spec.Connection.TuneOk(heartbeat=0, **tune))
    close = w.expect_refusal({530}, silence=against == "rabbitmq")
    assert close is None or text in close.reply_text


def test_channel_beyond_channel_max(wire):
    """RabbitMQ counts open channels instead of looking at their numbers, so all five are opened first."""
    w = to_tune(wire)
    w.send(0, spec.Connection.TuneOk(channel_max=5, frame_max=131072, heartbeat=0))
    w.send(0, spec.Connection.Open(virtual_host="/"))
    w.expect(spec.Connection.OpenOk)
    for number in range(1, 6):
        w.open_channel(number)
    w.send(6, spec.Channel.Open())
    assert "channel_max (5)" in w.expect_connection_close(530).reply_text


# Who may come in.

@pytest.mark.parametrize("user, password", [("guest", "wrong"), ("nobody", "guest"), ("", ""), ("guest", "")])
def test_wrong_password(connect, user, password):
    with pytest.raises(pika.exceptions.ProbableAuthenticationError) as caught:
        connect(credentials=pika.PlainCredentials(user, password))
    assert "403" in str(caught.value)
    assert "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile." \
        in str(caught.value)


def test_client_without_the_capability_is_just_dropped(wire):
    w = start(wire)
    w.send(0, spec.Connection.StartOk(client_properties={}, mechanism="PLAIN", response="\0guest\0wrong", locale="en_US"))
    assert w.everything() == b""


@pytest.mark.parametrize("response", ["", "guest", "\0guest", "\0", "guest\0guest"])
def test_malformed_plain_response(wire, against, response):
    w = start(wire)
    w.send(0, spec.Connection.StartOk(mechanism="PLAIN", response=response, **START_OK))
    w.expect_refusal({403, 501, 503, 530, 541}, silence=against == "rabbitmq")


def amqplain(login, password):
    table = b"\x05LOGIN" + b"S" + struct.pack(">I", len(login)) + login + \
            b"\x08PASSWORD" + b"S" + struct.pack(">I", len(password)) + password
    return table.decode("latin-1")


def test_amqplain(wire):
    w = start(wire)
    w.send(0, spec.Connection.StartOk(mechanism="AMQPLAIN", response=amqplain(b"guest", b"guest"), **START_OK))
    w.expect(spec.Connection.Tune)


def test_amqplain_wrong_password(wire):
    w = start(wire)
    w.send(0, spec.Connection.StartOk(mechanism="AMQPLAIN", response=amqplain(b"guest", b"wrong"), **START_OK))
    close = w.expect(spec.Connection.Close)
    assert close.reply_code == 403
    assert "AMQPLAIN" in close.reply_text


def test_unknown_mechanism(wire):
    w = start(wire)
    w.send(0, spec.Connection.StartOk(mechanism="NONSENSE", response="", **START_OK))
    close = w.expect_refusal({504}, silence=True)   # Nobody has authenticated, so nobody need be told.
    assert close is None or "unsupported authentication mechanism 'NONSENSE'" in close.reply_text


def test_unknown_vhost(connect):
    with pytest.raises((pika.exceptions.ProbableAccessDeniedError, pika.exceptions.ConnectionClosedByBroker)) as caught:
        connect(virtual_host="/nowhere")
    assert "530" in str(caught.value)
    assert "NOT_ALLOWED - vhost /nowhere not found" in str(caught.value)


def test_guest_comes_from_loopback_only(broker, connect):
    address = other_address()
    if address is None:
        pytest.skip("this machine has no other address than loopback")
    with pytest.raises(pika.exceptions.ProbableAuthenticationError) as caught:
        connect(host=address)
    assert "403" in str(caught.value)


def test_guest_over_ipv6_loopback(broker, connect):
    try:
        socket.create_connection(("::1", broker.port), 5).close()
    except OSError as error:
        if isinstance(error, ConnectionRefusedError):
            raise
        pytest.skip("this machine has no IPv6")
    assert connect(host="::1").channel().is_open


# Heartbeats.

@pytest.mark.limit(90)
def test_heartbeats_are_sent(wire):
    w = wire(heartbeat=1)
    begin = time.monotonic()
    kind, channel, payload = w.receive_frame()
    assert (kind, channel, payload) == (HEARTBEAT, 0, b"")
    assert time.monotonic() - begin < 3


@pytest.mark.limit(90)
def test_silent_client_is_dropped(wire):
    """Two intervals without anything, and the connection is closed; RabbitMQ looks every half interval."""
    w = wire(heartbeat=1)
    begin = time.monotonic()
    with pytest.raises((Closed, ConnectionError)):
        while True:
            assert w.receive_frame()[0] == HEARTBEAT
    assert 1.5 < time.monotonic() - begin < 8


def test_client_that_beats_stays(wire):
    w = wire(heartbeat=1)
    for _ in range(9):
        time.sleep(0.5)
        w.send_bytes(frame(HEARTBEAT, 0, b""))
    w.open_channel(2)


def test_pika_stays_with_heartbeats(connect):
    connection = connect(heartbeat=1)
    connection.process_data_events(4)
    assert connection.channel().is_open


# Channels.

def test_channel_error_leaves_the_rest_alone(connection, queue, expect_close):
    other = connection.channel()
    broken = connection.channel()
    expect_close(404)(broken.queue_declare, "no such queue", passive=True)
    other.basic_publish("", queue, b"still here")
    assert other.basic_get(queue, auto_ack=True)[2] == b"still here"


def test_number_of_a_failed_channel_opens_again(wire):
    w = wire()
    for _ in range(50):
        w.send(1, spec.Queue.Declare(queue="no such queue", passive=True))
        close = w.expect_channel_close(404)
        assert (close.class_id, close.method_id) == (50, 10)
        w.open_channel(1)
    w.send(1, spec.Channel.Close(reply_code=200, reply_text="", class_id=0, method_id=0))
    w.expect(spec.Channel.CloseOk)
    w.open_channel(1)


def test_what_follows_a_channel_error_is_ignored_until_close_ok(wire, queue):
    w = wire()
    w.send(1, spec.Queue.Declare(queue="no such queue", passive=True))
    w.publish(1, queue, b"into the void")
    w.send(1, spec.Queue.Declare(queue=queue, passive=True))
    w.expect_channel_close(404)
    w.open_channel(1)
    w.send(1, spec.Basic.Get(queue="no such queue"))
    w.expect_channel_close(404)


def test_opening_an_open_channel(wire):
    w = wire()
    w.send(1, spec.Channel.Open())
    close = w.expect_connection_close(504)
    assert close.reply_text.startswith("CHANNEL_ERROR - second 'channel.open' seen")
    assert (close.class_id, close.method_id) == (20, 10)


def test_using_a_closed_channel(wire):
    w = wire()
    w.send(9, spec.Queue.Declare(queue="x"))
    assert w.expect_connection_close(504).reply_text.startswith("CHANNEL_ERROR - expected 'channel.open'")


def test_many_channels(connection):
    channels = [connection.channel() for _ in range(500)]
    assert len({channel.channel_number for channel in channels}) == 500
    for channel in channels[::2]:
        channel.close()
    assert connection.channel().is_open


def test_many_connections(connect):
    connections = [connect() for _ in range(100)]
    assert all(connection.channel().is_open for connection in connections)


def test_connection_close_is_answered(wire):
    w = wire()
    w.send(0, spec.Connection.Close(reply_code=200, reply_text="bye", class_id=0, method_id=0))
    w.expect(spec.Connection.CloseOk)


def test_abrupt_end_requeues(wire, connection, name, eventually):
    queue = name()
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare(queue)
    for body in (b"1", b"2"):
        channel.basic_publish("", queue, body)
    w = wire()
    w.send(1, spec.Basic.Get(queue=queue))
    w.expect(spec.Basic.GetOk)
    w.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    w.close()
    assert eventually(lambda: channel.queue_declare(queue, passive=True).method.message_count == 2)
    method, _, body = channel.basic_get(queue, auto_ack=True)
    assert (body, method.redelivered) == (b"1", True)
    channel.queue_delete(queue)


@pytest.mark.godwit_only("RabbitMQ does not implement connection.update-secret for PLAIN in the same way")
def test_update_secret_is_answered(wire):
    w = wire()
    payload = b"\x00\x0a\x00\x46" + struct.pack(">I", 5) + b"guest" + b"\x00"
    w.send_frame(1, 0, payload)
    kind, channel, payload = w.receive_frame()
    assert payload[:4] in (b"\x00\x0a\x00\x47", b"\x00\x0a\x00\x32")
