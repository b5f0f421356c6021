"""Events as they happen, by HTTP: server-sent events as browsers' EventSource reads them (the HTML standard, section 9.2)."""
import http.client
import json
import queue as queues
import re
import socket
import subprocess
import threading
import time
import urllib.parse

import httpx
import pika
import pytest
import requests

pytestmark = pytest.mark.godwit_only("RabbitMQ has no event bus")


class Listener:
    """Reads a stream on a thread of its own; its items are (event, id, data)."""

    def __init__(self, url, headers=None, **parameters):
        self.items, self.comments = queues.Queue(), 0
        self.connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
        self.connection.request("GET", "/events?" + urllib.parse.urlencode(parameters), headers=headers or {})
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.read()
        assert self.answer.readline() == b"retry: 3000\n"
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        fields = {}
        try:
            while line := self.answer.readline():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                self.comments += line == b":\n"
                if value:
                    fields[name] = value
                elif fields and line == b"\n":
                    self.items.put((fields.get("event"), int(fields["id"]), json.loads(fields["data"])))
                    fields = {}
        except (OSError, http.client.HTTPException):
            pass
        self.items.put(None)

    def next(self, timeout_s=15):
        return self.items.get(timeout=timeout_s)

    def quiet(self, seconds=0.3):
        with pytest.raises(queues.Empty):
            self.items.get(timeout=seconds)

    def close(self):
        self.connection.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(10)
        self.connection.close()


@pytest.fixture
def url(broker):
    return f"http://127.0.0.1:{broker.http_port}"


@pytest.fixture
def listen(url):
    opened = []

    def open_listener(where=url, **more):
        opened.append(Listener(where, **more))
        return opened[-1]

    yield open_listener
    for listener in opened:
        if listener.thread.is_alive():
            listener.close()


def publish(url, kind, data=None, **more):
    answer = requests.post(f"{url}/event/publish", json={"event_type": kind, "data": data, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def test_what_happens_is_heard(url, listen):
    everything, orders, deep = listen(), listen(type="order.*"), listen(type="order.#,invoice")
    assert everything.answer.headers["content-type"] == "text/event-stream" and everything.answer.headers["cache-control"] == "no-cache"
    identity = publish(url, "order.created", {"id": 7}, subject="s")
    event, number, data = orders.next()
    assert event is None
    assert data == {"specversion": "1.0", "id": identity, "source": "/http", "type": "order.created", "subject": "s", "datacontenttype": "application/json", "data": {"id": 7}}
    assert everything.next() == deep.next() == (None, number, data)
    publish(url, "order.created.late")
    publish(url, "invoice")
    publish(url, "user.created")
    assert [everything.next()[2]["type"] for _ in range(3)] == ["order.created.late", "invoice", "user.created"]
    assert [deep.next()[2]["type"] for _ in range(2)] == ["order.created.late", "invoice"]
    orders.quiet()
    deep.quiet()


def test_data_of_every_kind(url, channel, listen):
    listener = listen()
    post = lambda kind, body: requests.post(f"{url}/events", params={"type": "t"}, data=body, headers={"content-type": kind})
    assert post("text/plain; charset=utf-8", "line 1\nline 2 é".encode()).status_code == 201
    assert listener.next()[2]["data"] == "line 1\nline 2 é"
    assert post("image/png", b"\0\1\2\3").status_code == 201
    assert listener.next()[2]["data_base64"] == "AAECAw=="
    assert post("application/json", b'{\n "a": [1]\n}').status_code == 201
    assert listener.next()[2]["data"] == {"a": [1]}
    channel.basic_publish("events", "from.amqp", b"not json", pika.BasicProperties(content_type="application/json", message_id="m"))
    event, number, data = listener.next()
    assert data == {"specversion": "1.0", "id": "m", "source": "/amqp", "type": "from.amqp", "datacontenttype": "application/json", "data_base64": "bm90IGpzb24="}
    channel.basic_publish("events", "from.amqp", b"")
    event, number, data = listener.next()
    assert data == {"specversion": "1.0", "id": str(number), "source": "/amqp", "type": "from.amqp"}


def test_a_filter(url, listen):
    listener = listen(filter="cloudEvents_subject LIKE 'a%' AND properties.type <> 'no'")
    publish(url, "no", 1, subject="abc")
    publish(url, "yes", 2, subject="bcd")
    publish(url, "yes", 3, subject="abc")
    assert listener.next()[2]["data"] == 3
    refused = requests.get(f"{url}/events", params={"filter": "a = "})
    assert refused.status_code == 400 and refused.json()["detail"].startswith("The filter is none: ")


def test_going_on_where_one_stopped(url, listen):
    first = listen(type="resume.*")
    for i in range(5):
        publish(url, f"resume.{i}", i)
    heard = [first.next() for _ in range(3)]
    first.close()
    again = listen(type="resume.*", headers={"Last-Event-ID": str(heard[-1][1])})
    assert [again.next()[2]["data"] for _ in range(2)] == [3, 4]
    other = listen(type="resume.*", last_event_id=heard[0][1])
    assert [other.next()[2]["data"] for _ in range(4)] == [1, 2, 3, 4]
    old = listen(type="resume.*", **{"from": "first"})
    assert [old.next()[2]["data"] for _ in range(5)] == [0, 1, 2, 3, 4]
    recent = listen(type="resume.*", **{"from": "1h"})
    assert recent.next()[2]["data"] == 0


def test_history_that_is_gone_is_said(own_broker, connect_to, listen):
    broker = own_broker()
    url = f"http://127.0.0.1:{broker.http_port}"
    channel = connect_to(broker).channel()
    channel.exchange_declare("events", "topic", durable=True)
    channel.queue_declare("events", durable=True, arguments={"x-queue-type": "stream", "x-max-length-bytes": 200_000, "x-stream-max-segment-size-bytes": 50_000})
    channel.queue_bind("events", "events", "#")
    for i in range(100):
        publish(url, "big", "x" * 10_000)
    listener = listen(url, headers={"Last-Event-ID": "0"})
    event, number, data = listener.next()
    assert event == "gap" and data["from"] == 1 and data["to"] == number > 10
    event, after, data = listener.next()
    assert (event, after) == (None, number + 1)


@pytest.mark.parametrize("arguments", [[], ["--http2-prior-knowledge"]])
def test_curl_listens(url, arguments):
    publish(url, "warm.up")
    with subprocess.Popen(["curl", "-sN", "-m", "20", *arguments, f"{url}/events?type=curl.*"], stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout.readline() == "retry: 3000\n"
        publish(url, "curl.heard", 5)
        lines = [curl.stdout.readline() for _ in range(3)]
        curl.kill()
    assert lines[0] == "\n" and lines[1].startswith("id: ") and json.loads(lines[2].removeprefix("data: "))["data"] == 5


def test_streams_of_one_connection(url):
    """HTTP/2: two listeners, one of which goes, and requests beside them."""
    with httpx.Client(http1=False, http2=True, timeout=20) as client:
        with client.stream("GET", f"{url}/events?type=h2.a") as first:
            lines = first.iter_lines()
            assert next(lines).startswith("retry")
            with client.stream("GET", f"{url}/events?type=h2.b") as second:
                assert next(second.iter_lines()).startswith("retry")
            for kind in ("h2.b", "h2.a"):
                assert client.post(f"{url}/event/publish", json={"event_type": kind}).status_code == 200
            assert next(line for line in lines if "data: " in line)


def test_listeners_go(url, broker, listen, eventually):
    publish(url, "x")
    count = lambda: int(re.search(r"^events\t(\d+)$", broker.control("list_queues", "name", "consumers"), re.M)[1])
    assert eventually(lambda: count() == 0)   # those of other tests are gone
    listeners = [listen() for _ in range(20)]
    assert eventually(lambda: count() == 20)
    for listener in listeners:
        listener.close()
    assert eventually(lambda: count() == 0)


def test_one_that_does_not_read_keeps_nobody_waiting(url, broker, listen):
    """It is given no more than a little, and the others hear everything."""
    listener = listen(type="flood")
    with socket.create_connection(("127.0.0.1", broker.http_port)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(b"GET /events?type=flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert deaf.recv(10)
        for i in range(300):
            publish(url, "flood", ["x" * 30_000, i])
        assert [listener.next()[2]["data"][1] for _ in range(300)] == list(range(300))


def test_who_may_listen(url, broker, name):
    publish(url, "x")
    user = name("user")
    broker.control("add_user", user, "secret")
    broker.control("set_permissions", user, "", "", "^other$")
    refused = requests.get(f"{url}/events", auth=(user, "secret"))
    assert refused.status_code == 403 and refused.json()["detail"] == f"ACCESS_REFUSED - access to queue 'events' in vhost '/' refused for user '{user}'"
    for parameters in ({"last_event_id": "x"}, {"type": "x" * 600}):
        assert requests.get(f"{url}/events", params=parameters).status_code == 400
    assert requests.get(f"{url}/events", params={"from": "nowhere"}).status_code == 422


def test_the_first_who_listens_declares_the_bus_and_a_stop_ends_the_stream(own_broker, listen):
    broker = own_broker()
    url = f"http://127.0.0.1:{broker.http_port}"
    listener = listen(url, type="#")
    publish(url, "a", 1)
    event, number, data = listener.next()
    assert (number, data["data"]) == (0, 1)
    begin = time.monotonic()
    assert broker.stop() == 0 and time.monotonic() - begin < 5
    assert listener.next() is None
    broker.start()
    again = listen(url, headers={"Last-Event-ID": "0"})
    publish(url, "b", 2)
    assert again.next()[2]["data"] == 2


def test_a_vhost_that_goes_ends_the_stream(url, broker, listen, name):
    vhost = name("vhost")
    broker.control("add_vhost", vhost)
    broker.control("set_permissions", "-p", vhost, "guest", ".*", ".*", ".*")
    listener = listen(vhost=vhost)
    publish(url, "elsewhere")
    listener.quiet()
    broker.control("delete_vhost", vhost)
    assert listener.next() is None
