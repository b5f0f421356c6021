"""Workers that speak nothing but HTTP: take a message, or wait for one, and settle it by its token."""
import subprocess
import threading
import time

import pika
import pytest
import requests

pytestmark = pytest.mark.godwit_only("RabbitMQ's HTTP is another one")


@pytest.fixture
def url(broker):
    return f"http://127.0.0.1:{broker.http_port}"


@pytest.fixture
def channel(connection):
    """What is published on it is in its queue when the call returns, so that other connections find it there."""
    channel = connection.channel()
    channel.confirm_delivery()
    return channel


@pytest.fixture
def queue(channel, name):
    """Durable, and other connections may use it."""
    made = channel.queue_declare(name(), durable=True).method.queue
    yield made
    channel.queue_delete(made)


def ready(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def test_a_message_is_taken_and_settled(url, channel, queue):
    channel.basic_publish("", queue, b"\0body", pika.BasicProperties(content_type="image/png", message_id="é 1%", correlation_id="c", priority=3, timestamp=5,
                                                                     headers={"X-Text": "a b", "n": -7, "yes": True, "nested": {"a": 1}}))
    where = f"{url}/queues/{queue}/messages"
    answer = requests.get(where)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"\0body", "image/png")
    said = {name[7:]: value for name, value in answer.headers.items() if name.startswith("godwit-")}
    token = said.pop("token")
    assert said == {"redelivered": "false", "exchange": "", "routing-key": queue, "message-id": "%C3%A9 1%25", "correlation-id": "c", "priority": "3", "timestamp": "5"}
    assert {name: value for name, value in answer.headers.items() if name.startswith("message-")} == {
        "message-x-text": "a b", "message-n": "-7", "message-yes": "true"}
    assert requests.get(where).status_code == 204                         # it is held
    assert requests.delete(f"{where}/{token}").status_code == 204
    again = requests.delete(f"{where}/{token}")
    assert again.status_code == 404 and "held by that token" in again.json()["detail"]
    assert requests.get(where).status_code == 204


def test_outcomes(url, channel, name, eventually):
    dead = channel.queue_declare(name("dead"), exclusive=True).method.queue
    source = channel.queue_declare(name("source"), arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}).method.queue
    where = f"{url}/queues/{source}/messages"
    channel.basic_publish("", source, "1")
    first = requests.get(where)
    assert requests.delete(f"{where}/{first.headers['godwit-token']}", params={"outcome": "requeue"}).status_code == 204
    second = requests.get(where, params={"wait": "20s"})
    assert (second.content, second.headers["godwit-redelivered"]) == (b"1", "true")
    assert second.headers["godwit-token"] != first.headers["godwit-token"]
    assert requests.delete(f"{where}/{first.headers['godwit-token']}").status_code == 404
    assert requests.delete(f"{where}/{second.headers['godwit-token']}", params={"outcome": "reject"}).status_code == 204
    _, properties, body = eventually(lambda: (lambda got: got if got[0] else None)(channel.basic_get(dead, auto_ack=True)))
    assert body == b"1" and properties.headers["x-death"][0]["reason"] == "rejected"
    channel.queue_delete(source)


def test_waiting(url, channel, queue):
    where = f"{url}/queues/{queue}/messages"
    begin = time.monotonic()
    assert requests.get(where, params={"wait": "300ms"}).status_code == 204
    assert 0.3 <= time.monotonic() - begin < 3
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(requests.get(where, params={"wait": "20s"}))) for _ in range(5)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    for i in range(5):
        channel.basic_publish("", queue, str(i))
    for thread in threads:
        thread.join(10)
    assert sorted(answer.content for answer in answers) == [b"0", b"1", b"2", b"3", b"4"]
    assert {requests.delete(f"{where}/{answer.headers['godwit-token']}").status_code for answer in answers} == {204}
    assert ready(channel, queue) == 0


def test_a_lease_ends(url, channel, queue):
    where = f"{url}/queues/{queue}/messages"
    channel.basic_publish("", queue, "x")
    answer = requests.get(where, params={"lease": "2s"})
    assert requests.get(where).status_code == 204
    begin = time.monotonic()
    again = requests.get(where, params={"wait": "20s"})
    assert (again.content, again.headers["godwit-redelivered"]) == (b"x", "true") and time.monotonic() - begin < 10
    assert requests.delete(f"{where}/{answer.headers['godwit-token']}").status_code == 404
    assert requests.delete(f"{where}/{again.headers['godwit-token']}").status_code == 204


def test_auto(url, channel, queue, eventually):
    channel.basic_publish("", queue, "x")
    answer = requests.get(f"{url}/queues/{queue}/messages", params={"ack": "auto"})
    assert answer.content == b"x" and "godwit-token" not in answer.headers
    assert requests.get(f"{url}/queues/{queue}/messages", params={"wait": "200ms"}).status_code == 204


def test_curl_alone_is_a_worker(url, channel, queue):
    for i in range(20):
        channel.basic_publish("", queue, f"job {i}")
    script = """
        while curl -sf -m 10 -D head -o body "$1?wait=1s" && [ -s body ]; do
            cat body; echo; token=$(tr -d '\\r' <head | sed -n 's/^godwit-token: //p'); : >body
            curl -sf -m 10 -X DELETE "$1/$token"
        done"""
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["bash", "-c", script, "worker", f"{url}/queues/{queue}/messages"], cwd=folder, stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.stdout.splitlines() == [f"job {i}" for i in range(20)]
    assert ready(channel, queue) == 0


def test_who_hangs_up_gets_nothing(broker, url, channel, queue, eventually):
    import socket
    with socket.create_connection(("127.0.0.1", broker.http_port)) as peer:
        peer.sendall(f"GET /queues/{queue}/messages?wait=60s HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert eventually(lambda: channel.queue_declare(queue, passive=True).method.consumer_count == 1)
    assert eventually(lambda: channel.queue_declare(queue, passive=True).method.consumer_count == 0)
    channel.basic_publish("", queue, "x")
    answer = requests.get(f"{url}/queues/{queue}/messages", params={"wait": "2s", "ack": "auto"})
    assert (answer.content, answer.headers["godwit-redelivered"]) == (b"x", "false")


def test_refusals(url, broker, channel, queue, name):
    where = f"{url}/queues/{queue}/messages"
    assert requests.get(f"{url}/queues/none/messages").status_code == 404
    assert requests.get(f"{url}/queues/none/messages", params={"wait": "1s"}).status_code == 404
    for parameters in ({"wait": "x"}, {"wait": "301s"}, {"wait": "-1"}, {"lease": "13h"}, {"ack": "maybe"}):
        assert requests.get(where, params=parameters).status_code == 400, parameters
    for token in ("x", "0-", "0-0000000000000000", "99-0000000000000000", "0-000000000000000G", "-0000000000000000"):
        assert requests.delete(f"{where}/{token}").status_code == 404, token
    assert requests.delete(f"{where}/0-0000000000000000", params={"outcome": "maybe"}).status_code == 400
    assert requests.head(where).status_code == 405
    user, other = name("user"), name("other")
    for someone in (user, other):
        broker.control("add_user", someone, "secret")
        broker.control("set_permissions", someone, "", "", ".*")
    channel.basic_publish("", queue, "x")
    token = requests.get(where, auth=(user, "secret")).headers["godwit-token"]
    assert requests.delete(f"{where}/{token}", auth=(other, "secret")).status_code == 404      # another's
    assert requests.delete(f"{url}/queues/another/messages/{token}", auth=(user, "secret")).status_code == 404
    assert requests.delete(f"{where}/{token}", auth=(user, "secret")).status_code == 204
    broker.control("set_permissions", user, "", "", "")
    refused = requests.get(where, auth=(user, "secret"))
    assert refused.status_code == 403 and f"access to queue '{queue}'" in refused.json()["detail"]


def test_a_queue_that_goes_tells_who_waits(url, channel, name):
    queue = channel.queue_declare(name()).method.queue
    answers = []
    thread = threading.Thread(target=lambda: answers.append(requests.get(f"{url}/queues/{queue}/messages", params={"wait": "20s"})))
    thread.start()
    time.sleep(0.3)
    channel.queue_delete(queue)
    thread.join(10)
    assert answers[0].status_code == 404


def test_tokens_of_every_reactor(own_broker, connect_to):
    """Each request is a connection of its own, on whichever reactor takes it."""
    broker = own_broker()
    channel = connect_to(broker).channel()
    channel.queue_declare("q", durable=True)
    for i in range(60):
        channel.basic_publish("", "q", str(i))
    where, tokens = f"http://127.0.0.1:{broker.http_port}/queues/q/messages", []
    for _ in range(60):
        tokens.append(requests.get(where, params={"wait": "2s"}).headers["godwit-token"])
    assert {token.split("-")[0] for token in tokens} == {"0", "1"}
    for token in tokens:
        assert requests.delete(f"{where}/{token}").status_code == 204
    assert requests.get(where).status_code == 204


def test_what_was_settled_stays_settled_and_what_was_held_comes_back(own_broker, connect_to):
    broker = own_broker()
    channel = connect_to(broker).channel()
    channel.queue_declare("q", durable=True)
    channel.confirm_delivery()
    for i in range(10):
        channel.basic_publish("", "q", str(i), pika.BasicProperties(delivery_mode=2))
    where = f"http://127.0.0.1:{broker.http_port}/queues/q/messages"
    tokens = [requests.get(where, params={"wait": "2s"}).headers["godwit-token"] for _ in range(8)]
    for token in tokens[:5]:
        assert requests.delete(f"{where}/{token}").status_code == 204
    broker.kill()
    broker.start()
    assert requests.delete(f"{where}/{tokens[5]}").status_code == 404
    bodies = [requests.get(where, params={"wait": "2s", "ack": "auto"}).content for _ in range(5)]
    assert bodies == [b"5", b"6", b"7", b"8", b"9"]
    assert requests.get(where).status_code == 204


def test_a_broker_that_stops_gives_back(own_broker, connect_to):
    broker = own_broker()
    channel = connect_to(broker).channel()
    channel.queue_declare("q", durable=True)
    channel.confirm_delivery()
    channel.basic_publish("", "q", "held", pika.BasicProperties(delivery_mode=2))
    where = f"http://127.0.0.1:{broker.http_port}/queues/q/messages"
    assert requests.get(where).content == b"held"
    answers = []
    thread = threading.Thread(target=lambda: answers.append(requests.get(where, params={"wait": "60s"}).status_code))
    thread.start()
    time.sleep(0.5)
    begin = time.monotonic()
    assert broker.stop() == 0 and time.monotonic() - begin < 10
    thread.join(10)
    assert answers == [503]
    broker.start()
    assert requests.get(where).content == b"held"
