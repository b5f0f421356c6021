"""HTTP/2 as no client would speak it, frame by frame: what is wrong with a stream ends the stream, what is wrong with the connection ends that, and neither costs the broker much."""
import os
import struct

import pytest
import requests
from hpack import Decoder, Encoder

from support.raw_http import Raw

pytestmark = pytest.mark.godwit_only("RabbitMQ's HTTP is another one")

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, CALM = range(12)


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


def fields(*more, method="GET", path="/health", without=()):
    head = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost")]
    return [field for field in head if field[0] not in without] + list(more)


def block(*more, **head):
    return Encoder().encode(fields(*more, **head), huffman=False)


def literal(name, value):
    """A field without a table, its bytes as they are."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


GET = block()
POST = block(("content-type", "text/plain"), method="POST", path="/events?type=abuse.h2")


class Peer(Raw):
    def __init__(self, broker, settings=b"", preface=True):
        super().__init__(broker.http_port)
        self.decoder = Decoder()
        self.say(PREFACE + frame(SETTINGS, payload=settings) if preface else b"")

    def frames(self):
        """Until the peer closes."""
        while True:
            try:
                head = self.take(9)
            except (AssertionError, ConnectionResetError):
                return
            size = int.from_bytes(head[:3], "big")
            yield head[3], head[4], struct.unpack("!I", head[5:])[0], self.take(size)

    def status(self, stream):
        """Of the next answer that begins."""
        kind, _, found, payload = self.next(HEADERS, RST_STREAM, GOAWAY)
        assert (kind, found) == (HEADERS, stream), (kind, found, payload)
        return dict(self.decoder.decode(payload))[":status"]

    def next(self, *kinds):
        """The next frame of these kinds."""
        return next((one for one in self.frames() if one[0] in kinds), None)

    def ends_with(self):
        """The code of the GOAWAY after which the connection is closed."""
        code = None
        for kind, _, _, payload in self.frames():
            if kind == GOAWAY:
                code = struct.unpack("!II", payload[:8])[1]
        return code

    def lives(self, stream):
        """It still answers."""
        self.say(frame(HEADERS, END_HEADERS | END_STREAM, stream, GET))
        return any(one[0] == HEADERS and one[2] == stream for one in iter(lambda: self.next(HEADERS, GOAWAY), None) if one[2] == stream or one[0] == GOAWAY)


# What ends the connection, and the code that says why.
FATAL = {
    "HEADERS on stream 0": (frame(HEADERS, END_HEADERS | END_STREAM, 0, GET), PROTOCOL_ERROR),
    "DATA on stream 0": (frame(DATA, END_STREAM, 0, b"x"), PROTOCOL_ERROR),
    "DATA on an idle stream": (frame(DATA, END_STREAM, 1, b"x"), PROTOCOL_ERROR),
    "RST_STREAM on an idle stream": (frame(RST_STREAM, 0, 1, b"\0\0\0\x08"), PROTOCOL_ERROR),
    "WINDOW_UPDATE on an idle stream": (frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\x08"), PROTOCOL_ERROR),
    "SETTINGS on a stream": (frame(SETTINGS, 0, 1), PROTOCOL_ERROR),
    "PING on a stream": (frame(PING, 0, 1, b"12345678"), PROTOCOL_ERROR),
    "GOAWAY on a stream": (frame(GOAWAY, 0, 1, b"\0" * 8), PROTOCOL_ERROR),
    "an even stream": (frame(HEADERS, END_HEADERS | END_STREAM, 2, GET), PROTOCOL_ERROR),
    "a stream before another": (frame(HEADERS, END_HEADERS | END_STREAM, 5, GET) + frame(HEADERS, END_HEADERS | END_STREAM, 3, GET), PROTOCOL_ERROR),
    "a stream again": (2 * frame(HEADERS, END_HEADERS | END_STREAM, 1, GET), STREAM_CLOSED),
    "CONTINUATION of nothing": (frame(CONTINUATION, END_HEADERS, 1, GET), PROTOCOL_ERROR),
    "another frame between HEADERS and CONTINUATION": (frame(HEADERS, END_STREAM, 1, GET) + frame(PING, payload=b"12345678"), PROTOCOL_ERROR),
    "CONTINUATION of another stream": (frame(HEADERS, END_STREAM, 1, GET[:4]) + frame(CONTINUATION, END_HEADERS, 3, GET[4:]), PROTOCOL_ERROR),
    "PUSH_PROMISE": (frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02" + GET), PROTOCOL_ERROR),
    "too much padding": (frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, b"\xff" + GET), PROTOCOL_ERROR),
    "a frame longer than was agreed": (frame(HEADERS, END_HEADERS | END_STREAM, 1, GET + b"\0" * 16384), FRAME_SIZE_ERROR),
    "SETTINGS of five bytes": (frame(SETTINGS, payload=b"12345"), FRAME_SIZE_ERROR),
    "an acknowledgement with something in it": (frame(SETTINGS, ACK, payload=b"\0\1\0\0\0\0"), FRAME_SIZE_ERROR),
    "a window of 2 GiB in SETTINGS": (frame(SETTINGS, payload=b"\0\4\x80\0\0\0"), FLOW_CONTROL_ERROR),
    "frames of 1 KiB in SETTINGS": (frame(SETTINGS, payload=b"\0\5\0\0\4\0"), PROTOCOL_ERROR),
    "PING of seven bytes": (frame(PING, payload=b"1234567"), FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of nothing": (frame(WINDOW_UPDATE, payload=b"\0\0\0\0"), PROTOCOL_ERROR),
    "a window beyond 2 GiB": (2 * frame(WINDOW_UPDATE, payload=b"\x7f\xff\xff\xff"), FLOW_CONTROL_ERROR),
    "headers that cannot be read": (frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff\xff\xff\xff\xff\xff"), COMPRESSION_ERROR),
    "an index of no table": (frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xbe"), COMPRESSION_ERROR),
    "a table larger than was agreed": (frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x3f\xe1\xff\x7f" + GET), COMPRESSION_ERROR),
}


@pytest.mark.parametrize("case", FATAL)
def test_the_connection_ends(broker, case):
    said, code = FATAL[case]
    for step in (None, 7) if len(said) < 1000 else (None,):
        with Peer(broker) as peer:
            peer.say(said, step)
            assert peer.ends_with() == code


def test_frames_for_another_protocol(broker):
    with Peer(broker, preface=False) as peer:
        peer.say(PREFACE + b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/1.1" not in peer.rest()
    with Peer(broker, preface=False) as peer:
        peer.say(PREFACE + frame(PING, payload=b"12345678"))                       # SETTINGS must come first
        assert peer.ends_with() == PROTOCOL_ERROR


# What ends a stream, and lets the connection go on.
MALFORMED = {
    "a name in upper case": block() + literal(b"X-Upper", b"y"),
    "no name": block() + literal(b"", b"y"),
    "a name with a space": block() + literal(b"x y", b"z"),
    "a value with a line in it": block() + literal(b"x", b"a\r\nb: c"),
    "NUL in a value": block() + literal(b"x", b"a\0b"),
    "Connection": block(("connection", "close")),
    "Keep-Alive": block(("keep-alive", "timeout=5")),
    "Proxy-Connection": block(("proxy-connection", "close")),
    "Transfer-Encoding": block(("transfer-encoding", "chunked")),
    "Upgrade": block(("upgrade", "h2c")),
    "TE of something else": block(("te", "gzip")),
    "no :method": block(without=[":method"]),
    "no :path": block(without=[":path"]),
    "no :scheme": block(without=[":scheme"]),
    "no host at all": block(without=[":authority"]),
    "an empty :path": block(path=""),
    "a :path that is none": block(path="health"),
    "two :paths": block((":path", "/other")),
    ":status": block((":status", "200")),
    ":unknown": block((":unknown", "x")),
    "a pseudo-header behind others": Encoder().encode(fields(without=[":path"]) + [("x", "y"), (":path", "/health")], huffman=False),
    "a length that is none": block(("content-length", "x"), method="POST", path="/events?type=x"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_the_stream_ends(broker, case):
    with Peer(broker) as peer:
        peer.say(frame(HEADERS, END_HEADERS | END_STREAM, 1, MALFORMED[case]))
        kind, _, stream, payload = peer.next(HEADERS, RST_STREAM, GOAWAY)
        if kind == HEADERS:
            assert (stream, dict(peer.decoder.decode(payload))[":status"]) == (1, "400")
        else:
            assert (kind, stream, payload) == (RST_STREAM, 1, struct.pack("!I", PROTOCOL_ERROR))
        assert peer.lives(3)


@pytest.mark.parametrize("length, said", [("3", b"xxxx"), ("5", b"xxxx"), ("0", b"x")])
def test_a_body_of_another_length(broker, length, said):
    with Peer(broker) as peer:
        head = block(("content-length", length), ("content-type", "text/plain"), method="POST", path="/events?type=abuse.length")
        peer.say(frame(HEADERS, END_HEADERS, 1, head) + frame(DATA, END_STREAM, 1, said))
        assert peer.next(HEADERS, RST_STREAM)[:3] == (RST_STREAM, 0, 1)
        assert peer.lives(3)


def test_bodies_with_trailers_and_padding_and_empty_pieces(broker):
    with Peer(broker) as peer:
        peer.say(frame(HEADERS, PADDED, 1, b"\x04" + POST[:7] + b"\0" * 4) + frame(CONTINUATION, END_HEADERS, 1, POST[7:]))
        peer.say(frame(DATA, 0, 1) + frame(DATA, PADDED, 1, b"\x02hello\0\0") + frame(0x2a, 0xff, 1, b"what is not known is passed over"))
        peer.say(frame(HEADERS, END_HEADERS | END_STREAM, 1, Encoder().encode([("x-checksum", "1")])), 1)
        assert peer.status(1) == "201"
        peer.say(frame(HEADERS, END_HEADERS, 3, POST) + frame(HEADERS, END_HEADERS | END_STREAM, 3, Encoder().encode([(":path", "/other")])))
        assert peer.next(HEADERS, RST_STREAM)[0] == RST_STREAM                      # pseudo-headers are no trailers
        assert peer.lives(5)


@pytest.mark.parametrize("acknowledged", [True, False])
def test_more_streams_than_were_agreed(broker, acknowledged):
    """Who has not heard yet how many there may be is refused the one too many; who has, should have known better."""
    with Peer(broker) as peer:
        peer.say((frame(SETTINGS, ACK) if acknowledged else b"") + b"".join(frame(HEADERS, END_HEADERS, 2 * i + 1, POST) for i in range(129)))
        kind, _, stream, payload = peer.next(RST_STREAM, GOAWAY)
        assert (kind, stream, payload[-4:]) == (RST_STREAM, 257, struct.pack("!I", REFUSED_STREAM)) if not acknowledged else kind == GOAWAY


def test_a_body_without_regard_for_the_window(broker):
    with Peer(broker) as peer:
        peer.say(frame(HEADERS, END_HEADERS, 1, block(method="POST", path="/nothing")))
        try:
            for _ in range(200):
                peer.say(frame(DATA, 0, 1, b"x" * 16384))
        except OSError:
            pass
    assert requests.get(f"http://127.0.0.1:{broker.http_port}/health").status_code == 200


def test_headers_beyond_64_kib(broker):
    """A table of 4 KiB makes one byte of each that follows: that is counted as it is meant, not as it was sent."""
    encoder = Encoder()
    with Peer(broker) as peer:
        peer.say(frame(HEADERS, END_HEADERS | END_STREAM, 1, encoder.encode(fields(*[("x", "y" * 3900)] * 100), huffman=False)))
        assert peer.status(1) == "431"
        peer.say(frame(HEADERS, END_HEADERS | END_STREAM, 3, encoder.encode(fields(), huffman=False)))
        assert peer.status(3) == "200"


# Work for nothing. All of it ends the connection.
FLOODS = {
    "resets": b"".join(frame(HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, GET) + frame(RST_STREAM, 0, 2 * i + 1, struct.pack("!I", CANCEL)) for i in range(500)),
    "requests that make us reset": b"".join(frame(HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, MALFORMED["Connection"]) for i in range(5000)),
    "SETTINGS": 5000 * frame(SETTINGS, payload=b"\0\4\0\0\xff\xff"),
    "SETTINGS of many": 100 * frame(SETTINGS, payload=1000 * b"\0\4\0\0\xff\xff"),
    "PING": 5000 * frame(PING, payload=b"12345678"),
    "CONTINUATION": frame(HEADERS, END_STREAM, 1, GET) + 5000 * frame(CONTINUATION, 0, 1, b"\x82"),
    "CONTINUATION of nothing": frame(HEADERS, END_STREAM, 1, GET) + 5000 * frame(CONTINUATION, 0, 1),
    "DATA of nothing": frame(HEADERS, END_HEADERS, 1, POST) + 20000 * frame(DATA, 0, 1),
}


@pytest.mark.parametrize("case", FLOODS)
def test_floods(broker, case):
    with Peer(broker) as peer:
        try:
            peer.say(FLOODS[case])
        except OSError:
            return
        peer.ends_with()
    assert requests.get(f"http://127.0.0.1:{broker.http_port}/health").status_code == 200


@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="a sanitizer keeps what was freed")
def test_floods_cost_no_memory(own_broker):
    broker = own_broker()
    requests.get(f"http://127.0.0.1:{broker.http_port}/health")
    before = broker.memory_kib()["VmRSS"]
    for case in list(FLOODS) + list(FLOODS):
        test_floods(broker, case)
    assert broker.memory_kib()["VmRSS"] - before < 16 << 10


def test_who_says_goodbye_is_answered_first(broker):
    with Peer(broker) as peer:
        peer.say(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(path="/")) + frame(GOAWAY, payload=b"\0" * 8))
        found = list(peer.frames())
        assert [one for one in found if one[0] == DATA and one[1] & END_STREAM]


def test_a_broker_that_stops_says_so(own_broker):
    broker = own_broker()
    with Peer(broker) as peer:
        assert peer.lives(1)
        assert broker.stop() == 0
        assert peer.ends_with() == NO_ERROR
