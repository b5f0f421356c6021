"""Idempotency-Key: a POST that is repeated is done once and answered as the first time."""
import socket
import threading
import time

import pika
import pytest
import requests

from support.webhooks import Bus, bus, receiver  # noqa: F401

pytestmark = pytest.mark.godwit_only("RabbitMQ has no such HTTP")


@pytest.fixture
def url(broker):
    return f"http://127.0.0.1:{broker.http_port}"


def post(url, key, status=None, **more):
    answer = requests.post(url, headers={"Idempotency-Key": key, **more.pop("headers", {})}, **more)
    assert status is None or answer.status_code == status, answer.text
    return answer


def test_a_message_is_published_once(url, channel, name):
    queue, key = channel.queue_declare(name(), exclusive=True).method.queue, name("k")
    where = f"{url}/queues/{queue}/messages"
    for said in (key, f'"{key}"', key, key + "2"):
        assert post(where, said, 201, data="body").json() == {"routed": True}
    assert [channel.basic_get(queue, auto_ack=True)[2] for _ in range(3)] == [b"body", b"body", None]
    # Another body, resource, parameter or header is another request.
    for other in ({"data": "other"}, {"data": "body", "params": {"priority": 1}}, {"data": "body", "headers": {"message-a": "b"}}, {"data": "body", "headers": {"content-type": "text/x"}}):
        assert "was used for another request" in post(where, key, 422, **other).json()["detail"]
    assert post(f"{url}/exchanges/amq.default/messages", key, 422, data="body").headers["content-type"] == "application/problem+json"
    for bad in ("", "x" * 256, "\u00e4".encode(), 'a"b'):
        post(where, bad, 400, data="body")
    assert channel.basic_get(queue, auto_ack=True)[2] is None


def test_the_key_is_the_id(url, channel, name):
    """It outlives the answers that the broker remembers: a queue with a window takes the message in once."""
    queue = channel.queue_declare(name(), exclusive=True, arguments={"x-dedup-window": 600_000}).method.queue
    key, type_ = name("k"), name("t")
    post(f"{url}/queues/{queue}/messages", key, 201, data="x")
    assert requests.post(f"{url}/queues/{queue}/messages", data="y", params={"message_id": key}).status_code == 201
    assert [channel.basic_get(queue, auto_ack=True)[2] for _ in range(2)] == [b"x", None]
    channel.exchange_declare("events", "topic", durable=True)
    channel.queue_bind(queue, "events", type_)
    assert post(f"{url}/event/publish", key + "e", 200, json={"event_type": type_}).json() == {"success": True, "id": key + "e"}
    for _ in range(2):
        assert post(f"{url}/events", key + "f", 201, params={"type": type_}, data="x").json() == {"id": key + "f"}
    event = {"headers": {"ce-id": "1", "ce-source": "/s", "ce-type": type_, "ce-specversion": "1.0"}, "data": "y"}
    for _ in range(2):
        assert post(f"{url}/events", key + "g", 201, **event).json() == {"id": "1"}
    event["headers"]["ce-id"] = "2"
    post(f"{url}/events", key + "g", 422, **event)
    assert [channel.basic_get(queue, auto_ack=True)[2] for _ in range(4)] == [b"null", b"x", b"y", None]


def test_what_was_refused_may_be_tried_again(url, channel, name):
    queue, key = name(), name("k")
    post(f"{url}/queues/{queue}/messages", key, 404, data="x")
    post(f"{url}/subscriptions", key, 422, json={"types": ["x"], "sink": "nowhere"})
    channel.queue_declare(queue, exclusive=True)
    post(f"{url}/queues/{queue}/messages", key, 201, data="x")


def test_keys_are_their_users(url, broker, channel, name):
    queue, key = channel.queue_declare(name(), exclusive=True).method.queue, name("k")
    broker.control("add_user", "other", "secret")
    broker.control("set_permissions", "other", ".*", ".*", ".*")
    try:
        post(f"{url}/queues/{queue}/messages", key, 201, data="1")
        post(f"{url}/exchanges/amq.default/messages", key, 201, params={"routing_key": queue}, data="2", auth=("other", "secret"))
        post(f"{url}/queues/{queue}/messages", key, 422, data="2")
    finally:
        broker.control("delete_user", "other")


def test_subscriptions(bus, receiver, name, eventually):
    there, key = receiver(), name("k")
    body = {"types": [f"{bus.name}.#"], "sink": there.url}
    first = post(f"{bus.url}/subscriptions", key, 201, json=body).json()
    bus.made.append(first["id"])
    assert "made" not in first and first["config"]["secrets"]
    assert [post(f"{bus.url}/subscriptions", key, 201, json=body).json() for _ in range(4)] == [first] * 4
    post(f"{bus.url}/subscriptions", key, 422, json={**body, "paused": True})
    assert len([one for one in requests.get(f"{bus.url}/subscriptions").json() if one["sink"] == there.url]) == 1
    assert "made" not in bus.get(first["id"]) and bus.change(first["id"], paused=True).get("made") is None
    plain = post(f"{bus.url}/event/subscribe", key + "p", 200, json={"event_type": bus.name, "callback": there.url}).json()
    bus.made.append(plain["id"])
    assert post(f"{bus.url}/event/subscribe", key + "p", 200, json={"event_type": bus.name, "callback": there.url}).json() == plain
    # Trying out and replaying.
    tried = [post(f"{bus.url}/subscriptions/{plain['id']}/test", key + "t", 200).json() for _ in range(3)]
    assert tried[0] == tried[1] == tried[2]
    bus.publish("e")
    replays = [post(f"{bus.url}/subscriptions/{first['id']}/replay", key + "r", 202, json={"from": "first"}).json() for _ in range(3)]
    assert replays[0] == replays[1] == replays[2] and "made" not in replays[0]
    post(f"{bus.url}/subscriptions/{first['id']}/replay", key + "r", 422, json={"from": 0})
    assert eventually(lambda: requests.get(f"{bus.url}/subscriptions/{first['id']}/replay").json()["state"] == "done")
    assert eventually(lambda: there.received)
    time.sleep(0.1)
    assert len(there.received) == 1                          # the test; the first one is paused


def test_what_was_made_before_a_restart_is_found_again(own_broker, name, eventually):
    broker = own_broker()
    bus = Bus(broker, name())
    body = {"types": ["a.#"], "sink": "http://127.0.0.1:9/"}
    first = post(f"{bus.url}/subscriptions", "k1", 201, json={**body, "id": "s1"}).json()
    second = post(f"{bus.url}/subscriptions", "k2", 201, json=body).json()
    replay = post(f"{bus.url}/subscriptions/s1/replay", "k3", 202, json={"from": "first"}).json()
    assert eventually(lambda: requests.get(f"{bus.url}/subscriptions/s1/replay").json()["state"] == "done")
    broker.restart()
    assert post(f"{bus.url}/subscriptions", "k2", 201, json=body).json() == second
    post(f"{bus.url}/subscriptions", "k1", 201, json={**body, "id": "s1"})
    post(f"{bus.url}/subscriptions", "k1", 422, json={**body, "id": "s1", "paused": True})
    post(f"{bus.url}/subscriptions", "k9", 409, json={**body, "id": "s1"})
    assert post(f"{bus.url}/subscriptions/s1/replay", "k3", 202, json={"from": "first"}).json()["id"] == replay["id"]
    assert first["id"] == "s1" and len(requests.get(f"{bus.url}/subscriptions").json()) == 2


@pytest.mark.parametrize("killed", [True, False])
def test_what_was_published_before_a_restart_is_the_same_message(own_broker, name, killed):
    """The broker has forgotten its answer; the id has not changed, and a queue with a window knows it."""
    broker, key, type_ = own_broker(), name("k"), name("t")
    url = f"http://127.0.0.1:{broker.http_port}"
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port)) as connection:
        channel = connection.channel()
        channel.exchange_declare("events", "topic", durable=True)
        for queue, arguments in (("once", {"x-dedup-window": 600_000}), ("each", {})):
            channel.queue_declare(queue, durable=True, arguments=arguments)
            channel.queue_bind(queue, "events", type_)
            channel.queue_bind(queue, "amq.fanout")
    for attempt in (1, 2):
        assert post(f"{url}/events?type={type_}", key, 201, data="event").json() == {"id": key}
        assert post(f"{url}/exchanges/amq.fanout/messages", key + "m", 201, data="message").json() == {"routed": True}
        if attempt == 1:
            broker.kill() if killed else broker.stop()
            broker.start()
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port)) as connection:
        channel = connection.channel()
        found = {queue: sorted((properties.message_id, body) for _, properties, body in iter(lambda: channel.basic_get(queue, auto_ack=True), (None, None, None)))
                 for queue in ("once", "each")}
    both = sorted([(key, b"event"), (key + "m", b"message")])
    assert found == {"once": both, "each": sorted(2 * both)}


def test_while_it_is_being_done(own_broker, name):
    """A connection that is lost half-way leaves the key to the next one."""
    broker = own_broker()
    url = f"http://127.0.0.1:{broker.http_port}"
    requests.post(f"{url}/events", params={"type": "x"}, data="x")
    answers = []

    def ask():
        answers.append(post(f"{url}/subscriptions", "k", json={"types": ["x"], "sink": "http://127.0.0.1:9/"}))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = {answer.status_code for answer in answers}
    assert 201 in statuses and statuses <= {201, 409}
    assert len({answer.text for answer in answers if answer.status_code == 201}) == 1 and len(requests.get(f"{url}/subscriptions").json()) == 1
    body = b'{"types": ["x"], "sink": "http://127.0.0.1:9/", "id": "%s"}' % (b"y" * 20)
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", broker.http_port)) as lost:
            lost.sendall(b"POST /subscriptions HTTP/1.1\r\nhost: localhost\r\nidempotency-key: lost\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    until = time.monotonic() + 10
    while (answer := post(f"{url}/subscriptions", "lost", data=body)).status_code == 409 and time.monotonic() < until:
        time.sleep(0.05)
    assert answer.status_code == 201 and answer.json()["id"] == "y" * 20
