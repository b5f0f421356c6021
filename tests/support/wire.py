"""A connection made of plain frames, for what no well-behaved client sends. Methods are pika's codec objects."""
import socket
import struct

import pika.frame
import pika.spec

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"


def frame(kind, channel, payload, end=b"\xce"):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end


def method_payload(method):
    return struct.pack(">I", method.INDEX) + b"".join(method.encode())


def method_frame(channel, method):
    return frame(METHOD, channel, method_payload(method))


def header_payload(size, properties=None, class_id=60, weight=0):
    encoded = b"".join((properties or pika.spec.BasicProperties()).encode())
    return struct.pack(">HHQ", class_id, weight, size) + encoded


class Closed(Exception):
    """The broker closed the socket."""


class Wire:
    def __init__(self, port, handshake=True, frame_max=131072, channel_max=2047, heartbeat=0, timeout_s=15,
                 host="127.0.0.1", vhost="/", user="guest", password="guest", open_channel=True):
        self.socket = socket.create_connection((host, port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = b""
        if handshake:
            self.send_bytes(PROTOCOL_HEADER)
            self.expect(pika.spec.Connection.Start)
            self.send(0, pika.spec.Connection.StartOk(client_properties={"capabilities": {
                "authentication_failure_close": True, "basic.nack": True, "consumer_cancel_notify": True,
                "connection.blocked": True}}, mechanism="PLAIN", response=f"\0{user}\0{password}", locale="en_US"))
            self.tune = self.expect(pika.spec.Connection.Tune)
            self.send(0, pika.spec.Connection.TuneOk(channel_max=channel_max, frame_max=frame_max, heartbeat=heartbeat))
            self.send(0, pika.spec.Connection.Open(virtual_host=vhost))
            self.expect(pika.spec.Connection.OpenOk)
            if open_channel:
                self.open_channel(1)

    def open_channel(self, number):
        self.send(number, pika.spec.Channel.Open())
        self.expect(pika.spec.Channel.OpenOk)

    def send_bytes(self, data):
        self.socket.sendall(data)

    def send(self, channel, method):
        self.send_bytes(method_frame(channel, method))

    def send_frame(self, kind, channel, payload, end=b"\xce"):
        self.send_bytes(frame(kind, channel, payload, end))

    def publish(self, channel, routing_key, body=b"", exchange="", properties=None, **more):
        data = method_frame(channel, pika.spec.Basic.Publish(exchange=exchange, routing_key=routing_key, **more))
        data += frame(HEADER, channel, header_payload(len(body), properties))
        if body:
            data += frame(BODY, channel, body)
        self.send_bytes(data)

    def receive_frame(self):
        """(kind, channel, payload) of the next frame; raises Closed at the end."""
        while len(self.input) < 7 or len(self.input) < 8 + struct.unpack(">I", self.input[3:7])[0]:
            if self.input[:4] == b"AMQP" and len(self.input) >= 8:
                raise Closed("protocol header")
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                more = b""
            if not more:
                raise Closed(repr(self.input[:64]))
            self.input += more
        kind, channel, size = struct.unpack(">BHI", self.input[:7])
        payload, end = self.input[7:7 + size], self.input[7 + size:8 + size]
        assert end == b"\xce", "the broker sent a frame without its end octet"
        self.input = self.input[8 + size:]
        return kind, channel, payload

    def receive(self):
        """The next method, heartbeats skipped."""
        while True:
            kind, channel, payload = self.receive_frame()
            if kind == METHOD:
                method = pika.spec.methods[struct.unpack(">I", payload[:4])[0]]()
                method.decode(payload, 4)
                method.channel = channel
                return method
            assert kind == HEARTBEAT, f"frame type {kind}"

    def expect(self, kind):
        method = self.receive()
        assert isinstance(method, kind), f"{method} instead of {kind.__name__}"
        return method

    def expect_connection_close(self, code):
        """The broker closes the connection with this code; answers the method, having said close-ok."""
        close = self.expect(pika.spec.Connection.Close)
        assert close.reply_code == code, f"{close.reply_code} {close.reply_text}"
        self.send(0, pika.spec.Connection.CloseOk())
        self.expect_end()
        return close

    def expect_refusal(self, codes, silence=False):
        """The connection ends: with one of these codes or, where `silence` is allowed, without a word."""
        try:
            close = self.expect(pika.spec.Connection.Close)
        except (Closed, ConnectionError):
            if silence:
                return None
            raise
        assert close.reply_code in codes, f"{close.reply_code} {close.reply_text}"
        self.send(0, pika.spec.Connection.CloseOk())
        self.expect_end()
        return close

    def expect_channel_close(self, code, channel=1):
        close = self.expect(pika.spec.Channel.Close)
        assert close.reply_code == code, f"{close.reply_code} {close.reply_text}"
        assert close.channel == channel
        self.send(channel, pika.spec.Channel.CloseOk())
        return close

    def expect_end(self):
        try:
            kind, channel, payload = self.receive_frame()
        except Closed:
            return
        raise AssertionError(f"another frame: {kind} {channel} {payload[:64]!r}")

    def everything(self):
        """All that comes until the broker closes the socket."""
        data = self.input
        try:
            while more := self.socket.recv(65536):
                data += more
        except ConnectionResetError:
            pass
        return data

    def close(self):
        self.socket.close()
