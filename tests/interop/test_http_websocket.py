"""Events on a WebSocket, with a client nobody here wrote (websocket-client), and raw frames for what none would send."""
import base64
import hashlib
import json
import os
import socket
import struct

import pytest
import requests
import websocket

pytestmark = pytest.mark.godwit_only("RabbitMQ has no event bus")


@pytest.fixture
def url(broker):
    return f"http://127.0.0.1:{broker.http_port}"


@pytest.fixture
def connect_ws(url):
    opened = []

    def connect(where=url, query="", **more):
        opened.append(websocket.create_connection(f"ws{where[4:]}/events{query}", timeout=15, suppress_origin=True, **more))
        return opened[-1]

    yield connect
    for one in opened:
        one.close(timeout=2)


def publish(url, kind, data=None, **more):
    answer = requests.post(f"{url}/event/publish", json={"event_type": kind, "data": data, **more})
    assert answer.status_code == 200, answer.text


def test_what_happens_is_heard(url, connect_ws):
    everything, orders = connect_ws(), connect_ws(query="?type=order.*&filter=cloudEvents_subject%3D'a'")
    publish(url, "order.created", {"n": 1}, subject="a")
    publish(url, "order.created", {"n": 2}, subject="b")
    publish(url, "user.created", {"n": 3}, subject="a")
    publish(url, "order.paid", {"n": 4}, subject="a")
    heard = [json.loads(everything.recv()) for _ in range(4)]
    assert [message["event"]["data"]["n"] for message in heard] == [1, 2, 3, 4]
    assert [message["id"] for message in heard] == list(range(heard[0]["id"], heard[0]["id"] + 4))
    assert [json.loads(orders.recv()) for _ in range(2)] == [heard[0], heard[3]]
    again = connect_ws(query=f"?last_event_id={heard[1]['id']}")
    assert [json.loads(again.recv()) for _ in range(2)] == heard[2:]
    everything.ping("x")
    publish(url, "last", 5)
    opcode, frame = everything.recv_data_frame(control_frame=True)
    assert opcode == websocket.ABNF.OPCODE_PONG and frame.data == b"x"
    everything.close(1000, b"bye", timeout=5)


def test_acknowledgements(url, connect_ws):
    one = connect_ws(query="?ack=manual&type=acked.%23")
    for i in range(100):
        publish(url, f"acked.{i}", i)
        publish(url, "other", i)             # of a type that it does not want: it need not say so
    heard = []

    def drain():
        one.settimeout(1)
        try:
            while True:
                heard.append(json.loads(one.recv()))
        except websocket.WebSocketTimeoutException:
            return len(heard)

    first = drain()
    assert 1 <= first <= 32
    one.send(json.dumps({"ack": heard[-1]["id"]}))
    second = drain()
    assert first < second <= first + 32
    while len(heard) < 100:
        one.send(json.dumps({"ack": heard[-1]["id"]}))
        assert drain() > second
        second = len(heard)
    assert [message["event"]["data"] for message in heard] == list(range(100))


def test_mistakes(url, broker, connect_ws):
    for query, status in (("?ack=maybe", 400), ("?filter=a%3D", 400), ("?last_event_id=x", 400), ("?from=nowhere", 422), ("?vhost=none", 404)):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            connect_ws(query=query)
        assert refused.value.status_code == status, query
    assert requests.get(f"{url}/events", params={"ack": "manual"}).status_code == 400
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        websocket.create_connection(f"ws{url[4:]}/events", origin="http://evil.example", header={"Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="})
    assert refused.value.status_code == 403
    for text in ("nonsense", "[]", '{"ack":"1"}', '{"ack":-1}'):
        one = connect_ws()
        one.send(text)
        opcode, data = one.recv_data()
        assert opcode == websocket.ABNF.OPCODE_CLOSE and struct.unpack("!H", data[:2]) == (1008,), text


def handshake(broker, headers):
    peer = socket.create_connection(("127.0.0.1", broker.http_port), 10)
    peer.settimeout(10)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    peer.sendall(f"GET /events HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
    heard = b""
    while b"\r\n\r\n" not in heard:
        heard += peer.recv(1)
    return peer, heard.decode().lower().split("\r\n")


def wanted(**more):
    return {"Upgrade": "websocket", "Connection": "keep-alive, Upgrade", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(), **more}


def test_the_handshake(broker, url):
    publish(url, "x")
    key = "dGhlIHNhbXBsZSBub25jZQ=="          # RFC 6455 section 1.3
    peer, heard = handshake(broker, wanted(**{"Sec-WebSocket-Key": key}))
    assert heard[0] == "http/1.1 101 switching protocols" and "upgrade: websocket" in heard and "connection: upgrade" in heard
    accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode().lower()
    assert f"sec-websocket-accept: {accept}" in heard
    peer.close()
    for headers, status in ((wanted(**{"Sec-WebSocket-Version": "8"}), "426"), (wanted(**{"Sec-WebSocket-Key": "short"}), "400")):
        peer, heard = handshake(broker, headers)
        assert heard[0].split()[1] == status
        assert status != "426" or "sec-websocket-version: 13" in heard
        peer.close()


@pytest.mark.parametrize("frame, code", [
    (b"\x81\x02hi", 1002),                                             # not masked
    (b"\xc1\x80\0\0\0\0", 1002),                                      # a reserved bit
    (b"\x83\x80\0\0\0\0", 1002),                                      # a reserved opcode
    (b"\x81\xfe\x20\x00\0\0\0\0" + b"x" * 8192, 1009),                # longer than any acknowledgement
    (b"\x81\x82\0\0\0\0\xff\xff", 1007),                              # no UTF-8
    (b"\x88\x82\0\0\0\0\x03\xe8", 1000)])                             # goodbye
def test_frames_that_end_it(broker, url, frame, code):
    publish(url, "x")
    for step in (len(frame), 1):
        peer, _ = handshake(broker, wanted())
        for at in range(0, min(len(frame), 64), step):
            peer.sendall(frame[at:at + step] if step == 1 else frame)
        if step == 1 and len(frame) > 64:
            peer.sendall(frame[64:])
        heard = b""
        while piece := peer.recv(4096):
            heard += piece
        assert heard[0] == 0x88 and struct.unpack("!H", heard[2:4]) == (code,), heard
        peer.close()


def test_a_broker_that_stops_says_goodbye(own_broker, connect_ws):
    broker = own_broker()
    one = connect_ws(f"http://127.0.0.1:{broker.http_port}")
    assert broker.stop() == 0
    opcode, data = one.recv_data()
    assert opcode == websocket.ABNF.OPCODE_CLOSE and struct.unpack("!H", data[:2]) == (1001,)
