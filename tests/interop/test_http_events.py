"""The event bus by HTTP: CloudEvents in each of their modes, plain data, and what an AMQP client sees of them."""
import json

import pika
import pytest
import requests

pytestmark = pytest.mark.godwit_only("RabbitMQ has no event bus")

EVENT = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "order.created", "time": "2018-04-05T17:31:00Z", "tenant": "a", "attempt": 2, "test": True}


@pytest.fixture
def url(broker):
    return f"http://127.0.0.1:{broker.http_port}"


@pytest.fixture
def listen(channel, url):
    """listen(pattern) gives a function that takes the next event: (properties, body)."""
    def bind(pattern):
        requests.post(f"{url}/event/publish", json={"event_type": "nobody.wants.it"})   # whoever publishes first declares the exchange
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, "events", pattern)

        def take():
            method, properties, body = channel.basic_get(queue, auto_ack=True)
            return method and (method.routing_key, properties, body)
        return take
    return bind


def headers_of(properties):
    return {name.removeprefix("cloudEvents_"): value for name, value in properties.headers.items()}


def test_the_first_minute(url, listen):
    take = listen("order.*")
    answer = requests.post(f"{url}/event/publish", json={"event_type": "order.created", "data": {"id": 7}})
    assert answer.status_code == 200 and answer.json()["success"] is True
    key, properties, body = take()
    assert (key, json.loads(body), properties.content_type) == ("order.created", {"id": 7}, "application/json")
    assert headers_of(properties) == {"specversion": "1.0", "id": answer.json()["id"], "source": "/http", "type": "order.created"}
    assert properties.message_id == answer.json()["id"] and properties.delivery_mode == 2
    again = requests.post(f"{url}/event/publish", json={"event_type": "order.created", "source": "/me", "id": "mine", "subject": "s"})
    assert again.json() == {"success": True, "id": "mine"}
    key, properties, body = take()
    assert body == b"null" and headers_of(properties)["subject"] == "s"


def test_structured(url, listen):
    take = listen("#")
    text = json.dumps({**EVENT, "data": {"price": 0}}).replace('"price": 0', '"price":  1.10')
    answer = requests.post(f"{url}/events", data=text, headers={"content-type": "application/cloudevents+json; charset=utf-8"})
    assert (answer.status_code, answer.json()) == (201, {"id": "7"})
    key, properties, body = take()
    assert (key, body) == ("order.created", b'{"price":  1.10}')         # as it came
    assert headers_of(properties) == EVENT
    assert (properties.content_type, properties.type, properties.timestamp) == ("application/json", "order.created", 1522949460)
    requests.post(f"{url}/events", json={**EVENT, "datacontenttype": "image/png", "data_base64": "AAEC"}, headers={"content-type": "application/cloudevents+json"})
    key, properties, body = take()
    assert (properties.content_type, body) == ("image/png", b"\0\1\2")


def test_binary(url, listen):
    take = listen("order.#")
    answer = requests.post(f"{url}/events", data=b"\0\1binary", headers={
        "ce-specversion": "1.0", "ce-id": "1", "CE-Source": "/s%C3%A4", "ce-type": "order.paid.late", "ce-tenant": "b", "content-type": "application/octet-stream"})
    assert (answer.status_code, answer.json()) == (201, {"id": "1"})
    key, properties, body = take()
    assert (key, body, properties.content_type) == ("order.paid.late", b"\0\1binary", "application/octet-stream")
    assert headers_of(properties) == {"specversion": "1.0", "id": "1", "source": "/sä", "type": "order.paid.late", "tenant": "b"}


def test_batch(url, listen):
    take = listen("b.*")
    events = [{**EVENT, "id": str(i), "type": f"b.{i}", "data": [i, [i]]} for i in range(500)]
    answer = requests.post(f"{url}/events", json=events, headers={"content-type": "application/cloudevents-batch+json"})
    assert (answer.status_code, answer.json()) == (201, {"count": 500})
    for i in range(500):
        key, properties, body = take()
        assert (key, json.loads(body), properties.message_id) == (f"b.{i}", [i, [i]], str(i))
    del events[300]["source"]
    answer = requests.post(f"{url}/events", json=events, headers={"content-type": "application/cloudevents-batch+json"})
    assert answer.status_code == 400 and answer.json()["detail"] == "Event 300 of the batch: The event has no source."
    assert take() is None                                                # all or nothing
    assert requests.post(f"{url}/events", data="[]", headers={"content-type": "application/cloudevents-batch+json"}).json() == {"count": 0}


def test_any_data(url, listen):
    take = listen("#")
    answer = requests.post(f"{url}/events", params={"type": "temperature", "source": "/kitchen", "subject": "oven"}, data="21.5",
                           headers={"content-type": "text/plain"})
    assert answer.status_code == 201
    key, properties, body = take()
    assert (key, body, properties.content_type) == ("temperature", b"21.5", "text/plain")
    assert headers_of(properties) == {"specversion": "1.0", "id": answer.json()["id"], "source": "/kitchen", "type": "temperature", "subject": "oven"}


@pytest.mark.parametrize("kind, body, status, detail", [
    ("application/cloudevents+json", "{", 400, "The body is no JSON that is understood: line 1, column 1: string or '}' expected near end of file"),
    ("application/cloudevents+json", "", 400, "The body is no JSON"),
    ("application/cloudevents+json", "[]", 400, "An event must be a JSON object."),
    ("application/cloudevents+json", '{"a":1,"a":2}', 400, "duplicate object key"),
    ("application/cloudevents+json", json.dumps({**EVENT, "id": None}), 400, "The event has no id."),
    ("application/cloudevents+json", json.dumps({**EVENT, "type": "x" * 256}), 400, "255 bytes"),
    ("application/cloudevents-batch+json", json.dumps(EVENT), 400, "A batch must be a JSON array"),
    ("application/cloudevents+avro", "x", 400, "JSON is understood"),
    ("application/json", "{", 400, "The body is no CloudEvent"),
    ("text/plain", "x", 400, "the parameter type must say"),
])
def test_what_is_no_event_is_refused(url, kind, body, status, detail):
    answer = requests.post(f"{url}/events", data=body, headers={"content-type": kind})
    assert answer.status_code == status and detail in answer.json()["detail"], answer.text


def test_plain_mistakes(url):
    for body in ("[]", "{}", '{"event_type":7}', '{"event_type":""}', '{"event_type":"x","id":7}', "nothing", ""):
        assert requests.post(f"{url}/event/publish", data=body).status_code == 400
    assert requests.post(f"{url}/events", params={"type": "t"}, data="{", headers={"content-type": "application/json"}).status_code == 400


def test_who_may(url, broker, name):
    requests.post(f"{url}/event/publish", json={"event_type": "x"})
    user = name("user")
    broker.control("add_user", user, "secret")
    broker.control("set_permissions", user, "", "^events$", "")
    broker.control("set_topic_permissions", user, "events", r"^mine\.", "")
    publish = lambda kind: requests.post(f"{url}/event/publish", json={"event_type": kind}, auth=(user, "secret"))
    assert publish("mine.a").status_code == 200
    refused = publish("yours.a")
    assert refused.status_code == 403 and "access to topic 'yours.a' in exchange 'events'" in refused.json()["detail"]


def test_what_was_published_is_kept_in_a_stream_over_a_kill(own_broker):
    broker = own_broker()
    url = f"http://127.0.0.1:{broker.http_port}"
    for i in range(50):
        assert requests.post(f"{url}/event/publish", json={"event_type": f"kept.{i}", "data": i}).status_code == 200
    broker.kill()
    broker.start()
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=100)
    found = []
    for method, properties, body in channel.consume("events", arguments={"x-stream-offset": "first"}, inactivity_timeout=10):
        assert method, found
        found.append((method.routing_key, json.loads(body), properties.headers["x-stream-offset"]))
        if len(found) == 50:
            break
    assert found == [(f"kept.{i}", i, i) for i in range(50)]
    connection.close()
