"""A small AMQP client that is quick enough to keep a broker busy from Python: raw frames, windows, one thread a connection."""
import os
import socket
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import pika.spec as spec

from support.wire import Closed, Wire, frame, header_payload, method_frame

METHOD, HEADER, BODY = 1, 2, 3
ACK, NACK, DELIVER, CLOSE, CHANNEL_CLOSE = (60, 80), (60, 120), (60, 60), (10, 50), (20, 40)
PERSISTENT = b"".join(spec.BasicProperties(delivery_mode=2).encode())


class Link(Wire):
    """A connection with channel 1 open, in confirm mode, whose frames are read in bulk."""

    def __init__(self, port):
        super().__init__(port, timeout_s=30)
        self.call(spec.Confirm.Select(), spec.Confirm.SelectOk)
        self.published = 0

    def call(self, method, answer):
        self.send(1, method)
        return self.expect(answer)

    def publish_persistent(self, queue, body):
        """Answers the delivery tag that its confirm will carry."""
        name = queue.encode()
        arguments = struct.pack(">HHHB", 60, 40, 0, 0) + bytes([len(name)]) + name + b"\x00"
        data = frame(METHOD, 1, arguments) + frame(HEADER, 1, struct.pack(">HHQ", 60, 0, len(body)) + PERSISTENT)
        for begin in range(0, len(body), 131064):
            data += frame(BODY, 1, body[begin:begin + 131064])
        self.send_bytes(data)
        self.published += 1
        return self.published

    def wait_frames(self, timeout_s=None):
        """All whole frames that are there, after waiting for some; Closed at the end of the connection."""
        self.socket.settimeout(timeout_s)
        try:
            more = self.socket.recv(1 << 18)
        except (TimeoutError, BlockingIOError):
            more = None
        except ConnectionError as error:
            raise Closed(str(error)) from error
        finally:
            self.socket.settimeout(30)
        if more == b"":
            raise Closed("end")
        data = self.input + (more or b"")
        frames, position = [], 0
        while len(data) - position >= 8:
            kind, channel, size = struct.unpack_from(">BHI", data, position)
            if len(data) - position < size + 8:
                break
            frames.append((kind, data[position + 7:position + 7 + size]))
            position += size + 8
        self.input = data[position:]
        return frames

    def abort(self):
        """Closes without a word."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.close()


def method_of(payload):
    return struct.unpack_from(">HH", payload)


def tag_of(payload):
    """(delivery tag, multiple) of basic.ack and basic.nack."""
    tag, bits = struct.unpack_from(">QB", payload, 4)
    return tag, bool(bits & 1)


def read_deliver(payload):
    """(delivery tag, redelivered) of basic.deliver."""
    skip = 5 + payload[4]
    tag, redelivered = struct.unpack_from(">QB", payload, skip)
    return tag, bool(redelivered)


__all__ = ["Link", "Closed", "spec", "method_of", "tag_of", "read_deliver", "method_frame", "header_payload"]
