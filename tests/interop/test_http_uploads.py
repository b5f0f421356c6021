"""Long bodies by HTTP: they go to their place as they come, whole or not at all, and cost no more memory than has come."""
import os
import socket
import time

import h2.config
import h2.connection
import httpx
import pika
import pytest
import requests

pytestmark = pytest.mark.godwit_only("RabbitMQ's HTTP is another one")

SIZE = 3_000_000


@pytest.fixture
def url(broker):
    return f"http://127.0.0.1:{broker.http_port}"


def begin(broker, path, size, *headers, host="localhost"):
    """A socket that has said so much of a request."""
    talk = socket.create_connection(("127.0.0.1", broker.http_port), 20)
    talk.sendall(("\r\n".join([f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {size}", *headers]) + "\r\n\r\n").encode())
    return talk


def answer(talk):
    talk.settimeout(20)
    heard = b""
    while b"\r\n\r\n" not in heard:
        some = talk.recv(65536)
        if not some:
            break
        heard += some
    return int(heard.split(b" ", 2)[1]) if heard else 0


def pieces(data, *sizes):
    at = 0
    for size in sizes:
        yield data[at:at + size]
        at += size
    yield data[at:]


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_they_arrive_whole(url, broker, channel, queue, version):
    bodies = [os.urandom(size) for size in (65_535, 65_536, 65_537, 200_000, 1_048_576, SIZE)]
    with httpx.Client(http1=version == "1.1", http2=version == "2", timeout=20) as client:
        for body in bodies:
            assert client.post(f"{url}/queues/{queue}/messages?priority=3", content=body, headers={"message-n": "1", "content-type": "image/png"}).status_code == 201
    for body in bodies:
        _, properties, got = channel.basic_get(queue, auto_ack=True)
        assert got == body and (properties.priority, properties.headers, properties.content_type) == (3, {"n": 1}, "image/png")


def test_slowly_and_side_by_side(broker, channel, queue):
    body = os.urandom(SIZE)
    talks = [begin(broker, f"/queues/{queue}/messages", SIZE) for _ in range(8)]
    for piece in pieces(body, 1, 70_000, 1, 500_000, 333):
        for talk in talks:
            talk.sendall(piece)
        time.sleep(0.02)
        if piece is not body:
            assert channel.queue_declare(queue, passive=True).method.message_count == 0 or piece == body[-len(piece):]
    assert [answer(talk) for talk in talks] == [201] * 8
    for _ in talks:
        assert channel.basic_get(queue, auto_ack=True)[2] == body


def test_streams_of_one_connection_take_turns(broker, channel, queue):
    """HTTP/2: two uploads whose frames alternate, a third one that is taken back."""
    talk = socket.create_connection(("127.0.0.1", broker.http_port), 20)
    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    client.initiate_connection()
    bodies = {1: os.urandom(300_000), 3: os.urandom(300_000), 5: os.urandom(300_000)}
    for number, body in bodies.items():
        client.send_headers(number, [(":method", "POST"), (":path", f"/queues/{queue}/messages"), (":scheme", "http"), (":authority", "localhost"),
                                     ("content-length", str(len(body)))])
    talk.sendall(client.data_to_send())
    sent, statuses = dict.fromkeys(bodies, 0), {}
    while len(statuses) < 2:
        for number, body in bodies.items():
            size = min(10_000, len(body) - sent[number], client.local_flow_control_window(number) if number in client.streams else 0)
            if number == 5 and sent[5] > 200_000:
                size = 0
                if 5 not in statuses and client.streams[5].open:
                    client.reset_stream(5)
            if size > 0 and client.streams[number].open:
                client.send_data(number, body[sent[number]:sent[number] + size], end_stream=sent[number] + size == len(body))
                sent[number] += size
        talk.sendall(client.data_to_send())
        talk.settimeout(0.05)
        try:
            for event in client.receive_data(talk.recv(65536)):
                if isinstance(event, h2.events.ResponseReceived):
                    statuses[event.stream_id] = dict(event.headers)[":status"]
        except TimeoutError:
            pass
    assert statuses == {1: "201", 3: "201"}
    assert sorted([channel.basic_get(queue, auto_ack=True)[2] for _ in range(2)]) == sorted([bodies[1], bodies[3]])
    assert channel.basic_get(queue, auto_ack=True)[0] is None


def test_half_of_one_is_nothing(broker, channel, queue, eventually):
    for end in ("close", "reset", "shutdown"):
        talk = begin(broker, f"/queues/{queue}/messages", SIZE)
        talk.sendall(os.urandom(SIZE // 2))
        if end == "reset":
            talk.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        if end == "shutdown":
            talk.shutdown(socket.SHUT_WR)
            answer(talk)
        talk.close()
    requests.post(f"http://127.0.0.1:{broker.http_port}/queues/{queue}/messages", data=b"after them")
    assert channel.basic_get(queue, auto_ack=True)[2] == b"after them"


def test_what_is_wrong_is_said_before_the_body_comes(broker, channel, queue, name):
    for path, headers, status in (("/queues/nobody/messages", (), 404), ("/exchanges/nothing/messages", (), 404), (f"/queues/{queue}/messages?priority=x", (), 400),
                                  ("/exchanges/amq.direct/messages?routing_key=x&mandatory=true", (), 422),
                                  ("/events", ("ce-id: 1", "ce-type: t", "ce-specversion: 1.0"), 400), ("/events", (), 400),
                                  (f"/queues/{queue}/messages", ("message-x-delay: 99999999999999",), 422)):
        # Who asks is known once something was asked.
        with begin(broker, f"/queues/{queue}/messages", 1) as talk:
            talk.sendall(b"x")
            assert answer(talk) == 201
            talk.sendall("\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {SIZE}", "Expect: 100-continue", *headers, "", ""]).encode())
            assert answer(talk) == status, path
            assert channel.basic_get(queue, auto_ack=True)[2] == b"x"


def test_nobody_wants_it(url, channel):
    assert requests.post(f"{url}/exchanges/amq.direct/messages?routing_key=nowhere", data=b"x" * SIZE, timeout=20).json() == {"routed": False}


def test_events(broker, url, channel, name, own_broker):
    """Binary ones and any data; the first one of a broker declares the bus."""
    fresh = own_broker()
    for where in (f"http://127.0.0.1:{fresh.http_port}", url):
        body = os.urandom(SIZE)
        binary = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "big.binary", "content-type": "application/json"}
        assert requests.post(f"{where}/events", data=body, headers=binary, timeout=20).status_code == 201
        assert requests.post(f"{where}/events?type=big.data", data=body, headers={"content-type": "image/png"}, timeout=20).status_code == 201
        # What says that it is JSON is looked at, so it is gathered.
        assert requests.post(f"{where}/events?type=big.json", data=body, headers={"content-type": "application/json"}, timeout=20).status_code == 400
        assert requests.post(f"{where}/events?type=big.json", data=b'"' + b"j" * SIZE + b'"', headers={"content-type": "application/json"}, timeout=20).status_code == 201
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "events", "big.*")
    assert requests.post(f"{url}/events", data=body, headers=binary, timeout=20).status_code == 201
    _, properties, got = channel.basic_get(queue, auto_ack=True)
    assert got == body and properties.headers["cloudEvents_id"] == "1"


def test_a_queue_of_two_shards_and_a_full_one(url, channel, name):
    """A message for several queues is copied where it has to be; one that rejects says so."""
    queues = [channel.queue_declare(name(), exclusive=True).method.queue for _ in range(6)]
    full = channel.queue_declare(name(), exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}).method.queue
    exchange = name("x")
    channel.exchange_declare(exchange, "fanout", auto_delete=True)
    for queue in queues:
        channel.queue_bind(queue, exchange)
    body = os.urandom(SIZE)
    assert requests.post(f"{url}/exchanges/{exchange}/messages", data=body, timeout=20).status_code == 201
    assert all(channel.basic_get(queue, auto_ack=True)[2] == body for queue in queues)
    assert [requests.post(f"{url}/queues/{full}/messages", data=body, timeout=20).status_code for _ in range(2)] == [201, 503]


def test_an_idempotency_key_is_looked_at_first(url, channel, name):
    queue = channel.queue_declare(name(), exclusive=True, arguments={"x-dedup-window": 60000}).method.queue
    for _ in range(2):
        assert requests.post(f"{url}/queues/{queue}/messages", data=b"k" * SIZE, headers={"idempotency-key": "one"}, timeout=20).status_code == 201
    assert channel.queue_declare(queue, passive=True).method.message_count == 1


def test_many_slow_ones_cost_what_has_come(own_broker, eventually):
    broker = own_broker()
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port))
    connection.channel().queue_declare("slow")
    assert requests.post(f"http://127.0.0.1:{broker.http_port}/queues/slow/messages", data=b"x" * 200_000).status_code == 201
    before = broker.memory_kib()["RssAnon"]
    talks = [begin(broker, "/queues/slow/messages", 100_000_000) for _ in range(150)]
    for talk in talks:
        talk.sendall(b"x" * 70_000)
    time.sleep(0.3)
    # 15 GB were announced, 10.5 MB have come.
    assert broker.memory_kib()["RssAnon"] - before < 40_000
    for talk in talks:
        talk.close()
    assert eventually(lambda: broker.memory_kib()["RssAnon"] - before < 12_000)
    connection.close()
    assert broker.stop() == 0
