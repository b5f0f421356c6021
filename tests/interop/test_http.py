"""HTTP with clients nobody here wrote: curl (1.1 and 2), requests, httpx; and raw sockets for what no client would send."""
import base64
import http.client
import json
import re
import socket
import subprocess
import threading

import httpx
import pika
import pytest
import requests

pytestmark = pytest.mark.godwit_only("RabbitMQ's HTTP is another one")


@pytest.fixture
def url(broker):
    return f"http://127.0.0.1:{broker.http_port}"


def curl(*arguments):
    """(status, body) of what curl answers."""
    done = subprocess.run(["curl", "-s", "-m", "10", "-w", "\n%{http_code} %{http_version}", *arguments], stdout=subprocess.PIPE, text=True, timeout=20)
    body, last = done.stdout.rsplit("\n", 1)
    return int(last.split()[0]), body, last.split()[1]


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_curl_publishes(url, channel, queue, version):
    status, body, spoken = curl(version, "-u", "guest:guest", "-H", "content-type: text/plain", "-H", "Message-X-Kind: new", "-H", "Message-Count: -7",
                                "-d", "hello", f"{url}/queues/{queue}/messages?priority=3&message_id=a%20b&correlation_id=c+d&type=t&app_id=app&timestamp=86400")
    assert (status, json.loads(body)) == (201, {"routed": True})
    assert spoken == ("1.1" if version == "--http1.1" else "2")
    method, properties, body = channel.basic_get(queue, auto_ack=True)
    assert body == b"hello" and method.routing_key == queue and method.exchange == ""
    assert (properties.content_type, properties.priority, properties.message_id, properties.correlation_id) == ("text/plain", 3, "a b", "c d")
    assert (properties.type, properties.app_id, properties.timestamp, properties.delivery_mode) == ("t", "app", 86400, 2)
    assert properties.headers == {"x-kind": "new", "count": -7}


def test_an_exchange_routes(url, channel, queue):
    channel.queue_bind(queue, "amq.topic", "a.*")
    with requests.Session() as session:
        session.auth = ("guest", "guest")
        where = f"{url}/exchanges/amq.topic/messages"
        assert (session.post(where, params={"routing_key": "a.b"}, data=b"1").status_code) == 201
        unrouted = session.post(where, params={"routing_key": "b"}, data=b"2")
        assert (unrouted.status_code, unrouted.json()) == (200, {"routed": False})
        refused = session.post(where, params={"routing_key": "b", "mandatory": "true"}, data=b"3")
        assert refused.status_code == 422 and refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["detail"] == "NO_ROUTE - no queue is bound to exchange 'amq.topic' with routing key 'b'"
        assert session.post(f"{url}/exchanges/amq.default/messages", params={"routing_key": queue}, data=b"4").status_code == 201
    bodies = [channel.basic_get(queue, auto_ack=True)[2] for _ in range(3)]
    assert bodies == [b"1", b"4", None]


@pytest.mark.parametrize("size", [0, 1, 1000, 70_000, 300_000, 5_000_000])
def test_bodies_of_every_size(url, channel, queue, size):
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    assert requests.post(f"{url}/queues/{queue}/messages", data=data).status_code == 201
    assert requests.post(f"{url}/queues/{queue}/messages", data=iter([data[:100], data[100:]] if size > 100 else [data or b"x"])).status_code == 201
    with httpx.Client(http1=False, http2=True) as client:
        assert client.post(f"{url}/queues/{queue}/messages", content=data).status_code == 201
    for expected in (data, data or b"x", data):
        assert channel.basic_get(queue, auto_ack=True)[2] == expected


def test_clients_of_nghttp2(url, tmp_path):
    """Many streams of few connections, trailers, leave to send, and the offer to change versions, which is passed over."""
    body = tmp_path / "body"
    body.write_bytes(b"x" * 3000)
    where = f"{url}/events?type=nghttp"
    loaded = subprocess.run(["h2load", "-n", "1000", "-c", "5", "-m", "50", "-d", str(body), "-H", "content-type: text/plain", where], stdout=subprocess.PIPE, text=True, timeout=20).stdout
    assert "1000 succeeded, 0 failed, 0 errored, 0 timeout" in loaded and "1000 2xx" in loaded, loaded
    said = subprocess.run(["nghttp", "-v", "-m", "3", "-d", str(body), "--trailer", "x-sum: 1", "--expect-continue", where], stdout=subprocess.PIPE, text=True, timeout=20).stdout
    assert said.count(":status: 100") == 3 and said.count(":status: 201") == 3
    status, text, spoken = curl("--http2", "-d", "x", where)
    assert (status, spoken) == (201, "1.1")


def test_many_requests_at_once_on_one_connection(url, channel, queue):
    """HTTP/2's streams."""
    import asyncio

    async def publish():
        async with httpx.AsyncClient(http1=False, http2=True) as client:
            answers = await asyncio.gather(*(client.post(f"{url}/queues/{queue}/messages", content=b"%d" % i) for i in range(100)))
        return {answer.status_code for answer in answers}

    assert asyncio.run(publish()) == {201}
    assert sorted(int(channel.basic_get(queue, auto_ack=True)[2]) for _ in range(100)) == list(range(100))


def test_who_asks(url, broker, queue, name):
    user = name("user")
    broker.control("add_user", user, "secret")
    where = f"{url}/queues/{queue}/messages"
    assert requests.post(where, data=b"x").status_code == 201                       # guest, from this machine
    assert requests.post(where, data=b"x", auth=("guest", "wrong")).status_code == 401
    assert requests.post(where, data=b"x", auth=("nobody", "guest")).status_code == 401
    assert requests.post(where, data=b"x", headers={"Authorization": "Bearer x"}).status_code == 401
    assert requests.post(where, data=b"x", headers={"Authorization": "Basic ***"}).status_code == 401
    refused = requests.post(where, data=b"x", auth=(user, "secret"))
    assert refused.status_code == 403, refused.text                                  # he may not enter the vhost
    broker.control("set_permissions", user, "", "^only$", "")
    refused = requests.post(where, data=b"x", auth=(user, "secret"))
    assert refused.status_code == 403
    assert refused.json()["detail"] == f"ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user '{user}'"
    broker.control("set_permissions", user, "", ".*", "")
    assert requests.post(where, data=b"x", auth=(user, "secret")).status_code == 201
    assert "Basic" in requests.post(where, headers={"Host": "example.com"}, data=b"x").headers["www-authenticate"]


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Host": "rebound.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}])
def test_a_page_of_somebody_elses_is_not_guest(url, queue, headers):
    assert requests.post(f"{url}/queues/{queue}/messages", data=b"x", headers=headers).status_code == 401
    assert requests.post(f"{url}/queues/{queue}/messages", data=b"x", headers=headers, auth=("guest", "guest")).status_code == 201


def test_several_users_on_one_connection(broker, queue, name):
    users = [name("user") for _ in range(12)]
    for user in users:
        broker.control("add_user", user, "secret")
        broker.control("set_permissions", user, "", ".*", "")
    connection = http.client.HTTPConnection("127.0.0.1", broker.http_port, timeout=10)
    for user in users + users:
        token = base64.b64encode(f"{user}:secret".encode()).decode()
        connection.request("POST", f"/queues/{queue}/messages", b"x", {"Authorization": f"Basic {token}"})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (201, b'{"routed":true}')
    listed = broker.control("list_connections", "user", "protocol")
    assert f"{users[-1]}\tHTTP" in listed and f"{users[0]}\tHTTP" not in listed
    connection.close()


def test_vhosts(url, broker, name):
    vhost = name("vhost")
    broker.control("add_vhost", vhost)
    broker.control("set_permissions", "-p", vhost, "guest", ".*", ".*", ".*")
    where = f"{url}/exchanges/amq.fanout/messages"
    assert requests.post(where, params={"vhost": vhost}, data=b"x").status_code == 200
    with requests.Session() as session:
        assert session.post(where, params={"vhost": vhost}, data=b"x").status_code == 200
        broker.control("delete_vhost", vhost)
        gone = session.post(where, params={"vhost": vhost}, data=b"x")
        assert gone.status_code == 404, gone.text
        assert session.post(where, data=b"x").status_code in (200, 201)
    assert requests.post(where, params={"vhost": "none"}, data=b"x").status_code == 404


@pytest.mark.parametrize("path, status", [
    ("/queues/{queue}/messages?priority=256", 400), ("/queues/{queue}/messages?priority=x", 400), ("/queues/{queue}/messages?persistent=maybe", 400),
    ("/queues/{queue}/messages?expiration=-1", 400), ("/queues/{queue}/messages?message_id=%ff", 400), ("/queues/{queue}/messages?type=" + "x" * 256, 400),
    ("/queues/%ff/messages", 400), ("/queues/" + "x" * 256 + "/messages", 400), ("/queues//messages", 404), ("/queues/none/messages", 404),
    ("/exchanges/none/messages", 404), ("/nothing", 404), ("/queues/{queue}/messages/", 404), ("/queues/{queue}", 404),
    ("/queues/{queue}/messages?reply_to=amq.rabbitmq.reply-to", 422)])
def test_what_is_wrong_is_said(url, queue, path, status):
    answer = requests.post(url + path.format(queue=queue), data=b"x")
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status and problem["title"] and problem["detail"]


def test_the_description_is_true(url):
    """Everything that it says is there is, with its methods and no others; what is answered is among what it says."""
    described = requests.get(f"{url}/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    for template, operations in described["paths"].items():
        path = re.sub(r"\{\w+\}", "nothing-there", template)
        for method in ("get", "post", "put", "delete", "patch"):
            answer = requests.request(method, url + path, data=b"{}" if method == "post" else None, timeout=10, stream=True)
            if method in operations:
                assert str(answer.status_code) in operations[method]["responses"], (method, template, answer.status_code)
                kinds = operations[method]["responses"][str(answer.status_code)].get("content", {})
                assert not kinds or answer.headers["content-type"] in kinds
                answer.close()
                assert (requests.request(method, url + path, headers={"Authorization": "x"}).status_code == 401) == ("security" not in operations[method])
            else:
                assert answer.status_code == 405 and method.upper() not in answer.headers["allow"], (method, template)
        for method, operation in operations.items():
            assert ("Idempotency-Key" in [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "header"]) == (method == "post")
            names = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"]
            assert names == re.findall(r"\{(\w+)\}", template)
    allowed = requests.options(f"{url}/health")
    assert (allowed.status_code, allowed.headers["allow"]) == (204, "GET, HEAD")


def talk(broker, data, pieces=1):
    with socket.create_connection(("127.0.0.1", broker.http_port), 10) as peer:
        peer.settimeout(10)
        step = max(1, len(data) // pieces)
        for at in range(0, len(data), step):
            peer.sendall(data[at:at + step])
        heard = b""
        while piece := peer.recv(65536):
            heard += piece
    return heard


@pytest.mark.parametrize("pieces", [1, 10_000])
def test_pipelined_requests_are_answered_in_order(broker, channel, queue, pieces):
    one = "POST /queues/%s/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n%02d"
    data = "".join(one % (queue, i) for i in range(50)) + "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    heard = talk(broker, data.encode(), pieces)
    assert heard.count(b"HTTP/1.1 201 Created\r\n") == 50 and heard.endswith(b'{"status":"ok"}')
    assert [channel.basic_get(queue, auto_ack=True)[2] for _ in range(50)] == [b"%02d" % i for i in range(50)]


@pytest.mark.parametrize("head", [
    "Content-Length: 3\r\nTransfer-Encoding: chunked", "Content-Length: 3\r\nContent-Length: 4", "Content-Length: 3, 3", "Transfer-Encoding : chunked",
    "X: \rxTransfer-Encoding: chunked", "Transfer-Encoding: xchunked", "X: a\r\n b", "Host: other"])
def test_nothing_is_smuggled(broker, channel, queue, head):
    hidden = f"POST /queues/{queue}/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"
    heard = talk(broker, f"POST /queues/{queue}/messages HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n0\r\n\r\n{hidden}".encode())
    assert re.match(rb"HTTP/1.1 (400|501) ", heard) and heard.count(b"server: ") == 1, heard
    assert channel.basic_get(queue)[0] is None


def test_a_body_too_long_is_refused_before_it_comes(own_broker):
    broker = own_broker(godwit=["--max-message-size", "1000"])
    head = "POST /exchanges/amq.fanout/messages HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n"
    assert b" 413 " in talk(broker, (head % "Content-Length: 1001\r\nExpect: 100-continue").encode())
    chunks = b"".join(b"64\r\n" + b"x" * 100 + b"\r\n" for _ in range(11)) + b"0\r\n\r\n"
    assert b" 413 " in talk(broker, (head % "Transfer-Encoding: chunked\r\nConnection: close").encode() + chunks)
    answer = requests.post(f"http://127.0.0.1:{broker.http_port}/exchanges/amq.fanout/messages", data=b"x" * 1000)
    assert answer.status_code == 200


def test_with_the_firehose_on(url, broker, connect, channel, name, eventually):
    """Sessions of both protocols are tapped side by side."""
    queue = channel.queue_declare(name(), auto_delete=True).method.queue
    broker.control("trace_on")
    try:
        traced = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(traced, "amq.rabbitmq.trace", "publish.#")
        with requests.Session() as session:
            for i in range(3):
                other = connect().channel()
                assert session.post(f"{url}/queues/{queue}/messages", data=b"%d" % i, auth=("guest", "guest")).status_code == 201
                assert other.basic_get(queue, auto_ack=True)[2] == b"%d" % i
                other.basic_publish("", queue, "amqp")
                assert eventually(lambda: channel.basic_get(queue, auto_ack=True)[2]) == b"amqp"
    finally:
        broker.control("trace_off")
    found = []
    while (message := channel.basic_get(traced, auto_ack=True))[0]:
        found.append((message[2], message[1].headers["user"]))
    assert found.count((b"amqp", "guest")) == 3 and (b"1", "guest") in found
    assert requests.post(f"{url}/queues/{queue}/messages", data=b"x").status_code == 201


def test_a_full_queue_refuses(url, channel, name):
    queue = channel.queue_declare(name(), exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}).method.queue
    assert requests.post(f"{url}/queues/{queue}/messages", data=b"x").status_code == 201
    assert requests.post(f"{url}/queues/{queue}/messages", data=b"x").status_code == 503


def test_what_was_answered_survives_a_kill(own_broker):
    broker = own_broker()
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port))
    connection.channel().queue_declare("q", durable=True)
    connection.close()
    answered, where = [], f"http://127.0.0.1:{broker.http_port}/queues/q/messages"

    def publish(number):
        with requests.Session() as session:
            for i in range(10_000):
                try:
                    if session.post(where, data=b"%d-%d" % (number, i)).status_code == 201:
                        answered.append(b"%d-%d" % (number, i))
                except requests.ConnectionError:
                    return

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while len(answered) < 500:
        threads[0].join(0.01)
    broker.kill()
    for thread in threads:
        thread.join()
    broker.start()
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port))
    channel, found = connection.channel(), set()
    while (message := channel.basic_get("q", auto_ack=True))[0]:
        found.add(message[2])
    assert set(answered) <= found
    connection.close()


def test_a_broker_that_stops_ends_its_answers(own_broker):
    broker = own_broker()
    connection = http.client.HTTPConnection("127.0.0.1", broker.http_port, timeout=10)
    connection.request("GET", "/health")
    assert connection.getresponse().read()
    assert broker.stop() == 0


def test_off_means_off_and_a_port_nobody_asked_for_may_be_taken(own_broker):
    broker = own_broker(godwit=["--http", "off"])
    assert "http://" not in broker.log_text()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", broker.http_port), 2).close()


def test_pages_of_other_origins(url, own_broker):
    """What a browser sends for a page, and what it has to see in the answer to let the page read it."""
    foreign = requests.get(f"{url}/health", headers={"Origin": "https://app.example"})
    assert foreign.status_code == 200 and not [name for name in foreign.headers if name.lower().startswith("access-control")]
    broker = own_broker(godwit=["--http-origins", "https://app.example, http://localhost:3000"])
    here = f"http://127.0.0.1:{broker.http_port}"
    for origin, trusted in (("https://app.example", True), ("http://localhost:3000", True), ("https://evil.example", False), ("https://app.example.evil", False)):
        headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
        answer = requests.post(f"{here}/event/publish", json={"event_type": "x"}, headers=headers)
        assert answer.status_code == (200 if trusted else 401)
        assert answer.headers.get("access-control-allow-origin") == (origin if trusted else None)
        asked = requests.options(f"{here}/event/publish", headers={**headers, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"})
        assert asked.status_code == 204 and asked.headers["allow"] == "POST"
        assert asked.headers.get("access-control-allow-methods") == ("POST" if trusted else None)
        assert asked.headers.get("access-control-allow-headers") == ("authorization,content-type" if trusted else None)
    broker = own_broker(godwit=["--http-origins", "*"])
    here = f"http://127.0.0.1:{broker.http_port}"
    anybody = {"Origin": "https://evil.example"}
    assert requests.get(f"{here}/health", headers=anybody).headers["access-control-allow-origin"] == "*"
    assert requests.post(f"{here}/event/publish", json={"event_type": "x"}, headers=anybody).status_code == 401
    assert requests.post(f"{here}/event/publish", json={"event_type": "x"}, headers=anybody, auth=("guest", "guest")).status_code == 200
    with httpx.Client(http1=False, http2=True) as client:
        assert client.get(f"{here}/nothing", headers=anybody).headers["access-control-allow-origin"] == "*"


def test_half_messages(url, channel, queue):
    """What a message says of its transaction is judged as it is of AMQP's."""
    where = f"{url}/queues/{queue}/messages"
    assert requests.post(where, data="half", headers={"Message-X-Transaction": "http-1"}).json() == {"routed": True}
    assert channel.basic_get(queue)[0] is None
    commit = requests.post(f"{url}/exchanges/amq.godwit.transactions/messages", params={"routing_key": "commit"}, headers={"Message-X-Transaction": "http-1"})
    assert commit.status_code in (200, 201), commit.text
    wrong = requests.post(where, data="x", headers={"Message-X-Transaction": "http-2", "Message-X-Check-After": "soon"})
    assert wrong.status_code == 422 and wrong.json()["detail"].startswith("PRECONDITION_FAILED - "), wrong.text


def test_behind_a_proxy_nobody_is_guest(url, own_broker):
    """What comes by a proxy on this machine comes from this machine."""
    publish = lambda where, headers: requests.post(f"{where}/event/publish", json={"event_type": "x"}, headers=headers).status_code
    assert publish(url, {}) == 200
    for name in ("Forwarded", "Via", "X-Forwarded-For", "X-Real-IP"):
        assert publish(url, {name: "for=192.0.2.1"}) == 401
    broker = own_broker(godwit=["--http-guest", "off"])
    here = f"http://127.0.0.1:{broker.http_port}"
    assert publish(here, {}) == 401
    assert requests.post(f"{here}/event/publish", json={"event_type": "x"}, auth=("guest", "guest")).status_code == 200
