"""What servers do to the broker's sources: slowly, compressed, in other codings, against the rules."""
import gzip
import os
import signal
import subprocess
import time
from email.utils import formatdate

import pytest
import requests

from support.broker import free_port, godwit_binary
from support.scripted import Scripted
from support.sources import Queue, Sources

pytestmark = pytest.mark.godwit_only("RabbitMQ has no sources")

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


@pytest.fixture
def served():
    servers = []

    def serve(script):
        servers.append(Scripted(script))
        return servers[-1]

    yield serve
    for server in servers:
        server.stop()


def test_a_server_that_says_hardly_anything_is_there(broker, served, eventually, name):
    sources, id_, falls_silent = Sources(broker), name(), []

    def script(connection, request, number):
        connection.sendall(STREAM + b"\r\n")
        while not falls_silent:
            for byte in (b":", b"\n"):
                connection.sendall(byte)
                time.sleep(1.2)
        time.sleep(10)

    server = served(script)
    sources.make(id=id_, kind="sse", url=server.url, idle="2s")
    eventually(lambda: sources.status(id_)["state"] == "running")
    time.sleep(7)
    assert len(server.requests) == 1 and "error" not in sources.status(id_)
    falls_silent.append(True)
    eventually(lambda: sources.status(id_).get("error") == "Nothing came for 2 s.", 15)
    sources.delete(id_)


def test_what_comes_compressed_is_read(broker, served, eventually, name):
    sources, id_ = Sources(broker), name()
    queue = Queue(broker, f"{id_}.#", name())

    def script(connection, request, number):
        is_stream = b"text/event-stream" in request
        body = gzip.compress(b"data: streamed\n\n" if is_stream else b"polled")
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: text/%s\r\nContent-Length: %d\r\n\r\n" % (b"event-stream" if is_stream else b"plain", len(body)) + body)
        time.sleep(0.5)

    server = served(script)
    sources.make(id=id_, kind="sse", url=server.url, type=f"{id_}.s")
    eventually(lambda: set(queue.bodies()) == {"streamed"})
    assert "Accept-Encoding: identity" in server.requests[0]
    sources.delete(id_)
    sources.make(id=id_, kind="poll", url=server.url, type=f"{id_}.p")
    eventually(lambda: "polled" in queue.bodies())
    assert "Accept-Encoding: gzip, deflate" in server.requests[-1]
    sources.delete(id_)


def test_a_server_says_when_to_come_again(broker, served, eventually, name):
    sources, id_ = Sources(broker), name()
    server = served(lambda connection, request, number: connection.sendall(
        f"HTTP/1.1 503 Not now\r\nRetry-After: {formatdate(time.time() + 3, usegmt=True)}\r\nContent-Length: 0\r\n\r\n".encode()))
    sources.make(id=id_, kind="sse", url=server.url, retry="10ms")
    eventually(lambda: sources.status(id_).get("error") == "The server answered 503.")
    eventually(lambda: len(server.times) > 1)
    assert server.times[1] - server.times[0] > 1.8          # a date has whole seconds
    sources.delete(id_)


def test_headers_are_sent_as_they_are_declared(broker, served, eventually, name):
    sources, id_ = Sources(broker), name()
    server = served(lambda connection, request, number: connection.sendall(STREAM + b"\r\n"))
    sources.make(id=id_, kind="sse", url=server.url, headers={"Accept": "text/event-stream, */*", "X-Empty": "", "User-Agent": "somebody"})
    eventually(lambda: server.requests)
    sent = server.requests[0]
    assert [line for line in sent if line.startswith("Accept:")] == ["Accept: text/event-stream, */*"]
    assert "X-Empty:" in [line.strip() for line in sent] and [line for line in sent if line.startswith("User-Agent:")] == ["User-Agent: somebody"]
    sources.delete(id_)


def test_what_is_no_text_stands_in_no_position(own_broker, served, eventually, name):
    broker, id_ = own_broker(), name()
    sources, queue = Sources(broker), Queue(broker, f"{id_}.#", name())
    server = served(lambda connection, request, number: connection.sendall(
        b'HTTP/1.1 200 OK\r\nETag: "caf\xe9"\r\nContent-Type: text/pl\xe9in\r\nContent-Length: 3\r\n\r\none'))
    sources.make(id=id_, kind="poll", url=server.url, interval="100ms", type=f"{id_}.x")
    eventually(lambda: sources.status(id_).get("position", {}).get("count") == 1)
    time.sleep(0.3)
    broker.kill()
    broker.start()
    asked = len(server.requests)
    eventually(lambda: len(server.requests) > asked + 1)
    assert queue.bodies() == ["one"]
    sources.delete(id_)


def test_an_answer_that_leads_nowhere_is_none(broker, served, eventually, name):
    sources, id_, leads_nowhere = Sources(broker), name(), []
    queue = Queue(broker, f"{id_}.#", name())
    server = served(lambda connection, request, number: connection.sendall(
        b"HTTP/1.1 302 Found\r\nLocation: \r\nContent-Length: 0\r\n\r\n" if leads_nowhere else b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none"))
    sources.make(id=id_, kind="poll", url=server.url, interval="100ms", type=f"{id_}.x")
    eventually(lambda: queue.bodies() == ["one"])
    leads_nowhere.append(True)
    eventually(lambda: sources.status(id_).get("error") == "The server answered 302, and nothing that could be read.")
    assert queue.bodies() == ["one"]
    sources.delete(id_)


def test_what_is_wrong_with_a_source_stands_in_the_log(own_broker, served, eventually, tmp_path):
    server, config = served(lambda connection, request, number: connection.sendall(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")), tmp_path / "godwit.conf"
    config.write_text(f"[source lost]\nkind = timer\nevery = 10\nvhost = nowhere\n[source away]\nkind = poll\nurl = {server.url}\ninterval = 100ms\n")
    broker = own_broker(godwit=["--config", str(config)])
    eventually(lambda: len(server.requests) > 3)
    eventually(lambda: "source lost of nowhere: " in broker.log_text())
    assert [line.split("warning: ")[1] for line in broker.log_text().splitlines() if "source away" in line] == ["source away of /: The server answered 503."]


def test_a_broker_without_standard_files(eventually, tmp_path):
    """Whoever starts it may have closed them: nothing else is taken for them."""
    config, port = tmp_path / "godwit.conf", free_port()
    config.write_text("[source input]\nkind = stdin\n")
    broker = subprocess.Popen(["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', godwit_binary(), "serve", "--config", str(config), "--data-dir", str(tmp_path / "data"), "--amqp-port", "0",
                               "--http-port", str(port)])

    def answer():
        try:
            return requests.get(f"http://127.0.0.1:{port}/sources/input").json()["status"]["state"]
        except requests.ConnectionError:
            return None

    eventually(lambda: answer() == "ended")
    assert [os.readlink(f"/proc/{broker.pid}/fd/{number}") for number in range(3)] == ["/dev/null"] * 3
    broker.send_signal(signal.SIGTERM)
    assert broker.wait(20) == 0
