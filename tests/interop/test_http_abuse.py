"""Requests that no client would send, and that proxies and servers have read differently: each has one answer, and the connection's fate with it."""
import glob
import json
import os
import re
import socket
import time

import pytest
import requests

from support.broker import ROOT
from support.raw_http import Raw

pytestmark = pytest.mark.godwit_only("RabbitMQ's HTTP is another one")

HOST = b"Host: localhost\r\n"
GET = b"GET /health HTTP/1.1\r\n" + HOST
POST = b"POST /events?type=abuse HTTP/1.1\r\n" + HOST
LAST = GET + b"Connection: close\r\n\r\n"


def chunked(text):
    return POST + b"Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n" + text


# What was said, what must be answered, and whether the connection goes on: what follows on one that does not is never looked at.
GOES_ON = {
    "a line before it": (b"\r\n" + GET + b"\r\n", [200]),
    "pipelined": (3 * (GET + b"\r\n"), [200, 200, 200]),
    "other methods": (b"".join(method + b" /health HTTP/1.1\r\n" + HOST + b"\r\n" for method in (b"TRACE", b"PROPFIND", b"CONNECT", b"PUT")), [405] * 4),
    "all of the server": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\nGET * HTTP/1.1\r\n" + HOST + b"\r\n", [204, 400]),
    "absolute form": (b"GET http://localhost/health HTTP/1.1\r\n" + HOST + b"\r\nGET HTTP://other.example:80/health?x HTTP/1.1\r\n" + HOST + b"\r\n", [200, 200]),
    "odd paths": (b"".join(b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n" for path in (b"/../health", b"//health", b"/health/", b"/%2fhealth", "/heälth".encode(), b"/queues/%00/messages")),
                  [404] * 5 + [400]),
    "hosts": (b"".join(b"GET /health HTTP/1.1\r\nHost:" + host + b"\r\n\r\n" for host in (b"", b" [::1]:15672", b" a_b.example.:80", b"\tlocalhost\t")), [200] * 4),
    "upgrades to what there is not": (GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
                                      + POST + b"Content-Length: 1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nx"
                                      + POST + b"Transfer-Encoding: chunked\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n1\r\nx\r\n0\r\n\r\n"
                                      + GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", [200, 201, 201, 200]),
    "a body of no chunks": (chunked(b"0\r\n\r\n"), [201]),
    "extensions and trailers": (chunked(b"5;a=b;c=\"d;e\"\r\nhello\r\n0;x\r\nX: y\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n"), [201]),
    "encodings' cases": (POST + b"TRANSFER-ENCODING:\tCHUNKED\r\n\r\n1\r\nx\r\n0\r\n\r\n" + POST + b"content-LENGTH: 0001 \r\n\r\nx", [201, 201]),
    "no length is no body": (POST + b"\r\n" + POST + b"Expect: 100-continue\r\n\r\n", [201, 201]),
    "a body where none belongs": (GET + b"Content-Length: 5\r\n\r\nhello", [413]),
    "128 headers": (GET + b"".join(b"X%d: y\r\n" % i for i in range(127)) + b"\r\n", [200]),
    "bytes above ASCII in a value": (GET + b"X: \xff\xe4\r\n\r\n", [200]),
}

ENDS = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "another protocol": (b"AMQP\0\0\x09\x01\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /health\r\n\r\n", 400),
    "HTTP/1.2": (b"GET /health HTTP/1.2\r\n" + HOST + b"\r\n", 505),
    "HTTP/2 said as HTTP/1": (b"GET /health HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    "a broken preface": (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 505),
    "lines everywhere": (5 * b"\r\n" + GET, 400),
    "an unknown method": (b"BREW /health HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    "a method in lower case": (b"get /health HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    "a tunnel": (b"CONNECT example.com:80 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    "two spaces": (b"GET  /health HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a tab": (b"GET\t/health HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a space behind": (b"GET /health HTTP/1.1 \r\n" + HOST + b"\r\n", 400),
    "a space in the target": (b"GET /hea lth HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "NUL in the target": (b"GET /hea\0lth HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a fragment": (b"GET /health#x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a user": (b"GET http://guest:guest@localhost/health HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "another scheme": (b"GET ftp://localhost/health HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", 400),
    "two hosts": (GET + HOST + b"\r\n", 400),
    **{f"a host that is none: {host.decode()}": (b"GET /health HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", 400)
       for host in (b"a b", b"a/b", b"http://a", b"a,b", b"u@a", b"a:b", b"a:99999", b"[::1", b"::1", b"a\\b")},
    "LF alone": ((GET + b"\r\n").replace(b"\r\n", b"\n"), 400),
    "LF alone in the middle": (GET.replace(b"1.1\r\n", b"1.1\n") + b"\r\n", 400),
    "a bare CR": (GET + b"X: a\rb\r\n\r\n", 400),
    "a space before the colon": (GET + b"X : y\r\n\r\n", 400),
    "no name": (GET + b": y\r\n\r\n", 400),
    "no colon": (GET + b"xyz\r\n\r\n", 400),
    "a name that is no token": (GET + b"a(b: y\r\n\r\n", 400),
    "a folded line": (GET + b"X: y\r\n z\r\n\r\n", 400),
    "a folded first line": (b"GET /health HTTP/1.1\r\n X: y\r\n" + HOST + b"\r\n", 400),
    "NUL in a value": (GET + b"X: a\0b\r\n\r\n", 400),
    "CL.TE": (POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", 400),
    "TE.CL": (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n", 400),
    "TE.TE": (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 501),
    "chunked in HTTP/1.0": (b"POST /events?type=abuse HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    **{f"Transfer-Encoding: {value.decode()}": (POST + b"Transfer-Encoding: " + value + b"\r\n\r\n0\r\n\r\n", status)
       for value, status in ((b"gzip, chunked", 501), (b"chunked, chunked", 501), (b'"chunked"', 501), (b"chunked;q=1", 501), (b"xchunked", 501), (b"", 501), (b"\x0bchunked", 400))},
    **{f"Content-Length: {value.decode()}": (POST + b"Content-Length: " + value + b"\r\n\r\nx", 400)
       for value in (b"1, 1", b"+1", b"-1", b"0x1", b"", b"1 1", b"1.0", b"99999999999999999999", b"1;a")},
    "two lengths": (POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
    "a length beyond all limits": (POST + b"Content-Length: 9999999999999999999\r\n\r\nx", 413),
    **{f"chunks: {text!r}": (chunked(text + (b"" if b"\r\n\r\n" in text else b"\r\nhello\r\n0\r\n\r\n")), 400)
       for text in (b"", b"+5", b"-5", b"0x5", b"5_", b" 5", b"5 ", b"g", b"fffffffffffffffff", b"ffffffffffffffff", b"5\r", b"5;a\x01", b"5\rhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n\r\n\r\n",
                    b"5;a\nhello\r\n0\r\n\r\n", b"5;a\rb\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello\r\n0\n\r\n\r\n", b"5\r\nhelloXX\r\n0\r\n\r\n", b"6\r\nhello\r\n0\r\n\r\n")},
    "an empty line of LF alone": (chunked(b"5\r\nhello\r\n0\r\n\n") + GET, 400),
    **{f"a trailer: {text!r}": (chunked(b"0\r\n" + text + b"\r\n\r\n"), 400)
       for text in (b"X: y\r\n z", b"X : y", b"X: y\n", b"Xy", b": y", b"X: \0", b"X: a\rb", b"GET /health HTTP/1.1")},
    "a body nobody reads, in chunks": (GET + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 413),
    "129 headers": (GET + b"".join(b"X%d: y\r\n" % i for i in range(128)) + b"\r\n", 431),
    "a header of 100 KB": (GET + b"X: " + b"y" * 100_000 + b"\r\n\r\n", 431),
    "a name of 100 KB": (GET + b"x" * 100_000 + b": y\r\n\r\n", 431),
    "a target of 100 KB": (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
    "goodbye": (LAST, 200),
    "goodbye among others": (GET + b"Connection: x, CLOSE\r\n\r\n", 200),
    "HTTP/1.0": (b"GET /health HTTP/1.0\r\n\r\n", 200),
}


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize("case", GOES_ON)
def test_the_connection_goes_on(broker, case, step):
    said, statuses = GOES_ON[case]
    with Raw(broker.http_port) as peer:
        peer.say(said, step)
        assert [peer.answer()[0] for _ in statuses] == statuses
        peer.say(LAST, step)
        assert peer.answer()[0] == 200 and peer.rest() == b""


@pytest.mark.parametrize("case", ENDS)
def test_the_connection_ends(broker, case):
    """What comes behind is not taken for a request, and the answer arrives although there was more to be read."""
    said, status = ENDS[case]
    for step in (None, 1) if len(said) < 1000 else (None, 7000):
        with Raw(broker.http_port) as peer:
            hidden = b"POST /events?type=smuggled HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\nx"
            peer.say(said + (b"" if case == "no HTTP" else hidden), step)
            found, headers, body = peer.answer()
            assert found == status, body
            if status >= 400:
                assert headers["content-type"] == "application/problem+json" and json.loads(body)["status"] == status and json.loads(body)["detail"]
            assert headers["connection"] == "close" and peer.rest() == b""


def test_nothing_was_smuggled(broker):
    url = f"http://127.0.0.1:{broker.http_port}"
    assert requests.post(f"{url}/events?type=smuggled.end", data=b"x").status_code == 201
    with requests.get(f"{url}/events?type=smuggled,smuggled.end&from=first", stream=True, timeout=10) as stream:
        first = next(line for line in stream.iter_lines() if line.startswith(b"data: "))
    assert json.loads(first.removeprefix(b"data: "))["type"] == "smuggled.end"


def test_heads(broker):
    with Raw(broker.http_port) as peer:
        for path, status in (("/health", 200), ("/nothing", 404), ("/events", 200), ("/openapi.json", 200)):
            peer.say(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert peer.answer("HEAD")[0] == status
        peer.say(LAST)
        assert peer.answer()[2] == b'{"status":"ok"}' and peer.rest() == b""


def test_who_waits_for_leave_to_send(broker):
    with Raw(broker.http_port) as peer:
        peer.say(POST + b"Content-Length: 5\r\nExpect: 100-Continue\r\n\r\n")
        assert peer.answer()[0] == 100
        peer.say(b"hello")
        assert peer.answer()[0] == 201
        peer.say(POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhello")          # who does not wait is answered all the same
        assert [peer.answer()[0] for _ in range(2)] == [100, 201]
        peer.say(b"POST /nothing HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        status, headers, _ = peer.answer()                                                   # the body may come or not: nobody can know, so it ends
        assert (status, headers["connection"]) == (404, "close") and peer.rest() == b""


def test_http_1_0(broker):
    with Raw(broker.http_port) as peer:
        peer.say(b"GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
        status, headers, _ = peer.answer()
        assert (status, headers["connection"]) == (200, "keep-alive")
        peer.say(b"GET /events HTTP/1.0\r\nHost: localhost\r\n\r\n")
        status, headers = peer.line(), {}
        while line := peer.line():
            headers[line.split(": ")[0]] = line.split(": ")[1]
        assert status.split()[1] == "200" and "transfer-encoding" not in headers and headers["connection"] == "close"
        assert peer.take(13) == b"retry: 3000\n\n"


def test_half_a_request_and_then_no_more(broker):
    for said in (b"", GET, GET + b"\r", POST + b"Content-Length: 10\r\n\r\nhello", chunked(b"5\r\nhel")):
        with Raw(broker.http_port) as peer:
            peer.say(said)
            peer.socket.shutdown(socket.SHUT_WR)
            assert peer.rest() == b""
    with Raw(broker.http_port) as peer:
        peer.say(GET + b"\r\n")
        peer.socket.shutdown(socket.SHUT_WR)
        assert peer.answer()[0] == 200 and peer.rest() == b""


@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="a sanitizer keeps what was freed")
def test_one_that_says_everything_and_reads_later(broker, own_broker):
    """Answers wait for a while, and then the broker reads no more: it keeps neither unbounded questions nor answers."""
    broker = own_broker()
    with Raw(broker.http_port, limit_s=0.5, receive_buffer=4096) as peer:
        before, sent, busy, idle = broker.memory_kib()["VmRSS"], 0, 0, -1
        while busy != idle:      # it takes no more, and is not just slow: it has nothing to do
            try:
                sent += peer.socket.send(200 * (b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n"))
                assert sent < 16 << 20
            except socket.timeout:
                busy, idle = broker.cpu_seconds(), busy
        assert broker.memory_kib()["VmRSS"] - before < 16 << 10
        peer.socket.settimeout(30)
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        for _ in range(50):
            assert peer.answer()[0] == 200


@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="a sanitizer keeps what was freed")
def test_many_heads_that_never_end_cost_little(own_broker):
    broker = own_broker()
    requests.get(f"http://127.0.0.1:{broker.http_port}/health")
    before = broker.memory_kib()["VmRSS"]
    peers = [Raw(broker.http_port) for _ in range(300)]
    for peer in peers:
        peer.say(GET + b"X: " + b"y" * 8000)
    time.sleep(0.2)
    assert broker.memory_kib()["VmRSS"] - before < 300 * 40
    assert requests.get(f"http://127.0.0.1:{broker.http_port}/health").status_code == 200
    for peer in peers:
        peer.socket.close()


def test_what_the_pages_name_is_described(broker):
    described = requests.get(f"http://127.0.0.1:{broker.http_port}/openapi.json").json()
    known = {(method.upper(), re.sub(r"\{\w+\}", "{}", path)) for path, operations in described["paths"].items() for method in operations}
    named = set()
    for page in set(glob.glob(os.path.join(ROOT, "docs", "*.md"))) - {os.path.join(ROOT, "docs", "benchmarks.md")}:
        with open(page) as text:
            named |= set(re.findall(r"^\| `(GET|POST|PUT|PATCH|DELETE) (/[^ `?]*)", text.read(), re.M))
    assert len(named) > 10
    assert not {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path in named} - known
