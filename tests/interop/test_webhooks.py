"""Subscriptions: events are posted to a program, whatever it answers, and whether it is there or not."""
import base64
import hashlib
import hmac
import json
import random
import socket
import subprocess
import threading
import time

import pika
import pytest
import requests

from support.broker import godwit_binary
from support.webhooks import Bus, Receiver, bus, receiver  # noqa: F401

pytestmark = pytest.mark.godwit_only("RabbitMQ has no webhooks")


def test_the_first_minute_with_flask(broker, eventually, name):
    flask, name = pytest.importorskip("flask"), name()
    from werkzeug.serving import make_server
    app, got = flask.Flask("hook"), []

    @app.post("/hook")
    def hook():
        got.append((flask.request.headers["ce-type"], flask.request.json))
        return "", 204

    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{broker.http_port}"
    answer = requests.post(f"{url}/event/subscribe", json={"event_type": f"{name}.created", "callback": f"http://127.0.0.1:{server.server_port}/hook",
                                                           "config": {"retry": "200ms"}}).json()
    assert answer["success"] is True and answer["id"] and answer["secret"].startswith("whsec_")
    assert requests.post(f"{url}/event/publish", json={"event_type": f"{name}.created", "data": {"id": 7}}).json()["success"]
    assert eventually(lambda: got == [(f"{name}.created", {"id": 7})])
    server.shutdown()
    server.server_close()
    requests.post(f"{url}/event/publish", json={"event_type": f"{name}.created", "data": {"id": 8}})
    time.sleep(0.3)
    server = make_server("127.0.0.1", server.server_port, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert eventually(lambda: got[1:] == [(f"{name}.created", {"id": 8})])
    server.shutdown()
    assert requests.delete(f"{url}/subscriptions/{answer['id']}").status_code == 204


def test_nothing_is_lost_when_broker_and_receiver_die(own_broker, receiver, eventually, name):
    broker = own_broker()
    there = receiver()
    bus = Bus(broker, name())
    subscription = bus.subscribe(there.url, config={"retry": "100ms", "attempts": 1000})
    bus.publish("1")
    assert eventually(lambda: there.ids() == ["1"])
    there.close()
    for i in range(2, 6):
        bus.publish(str(i))
    broker.kill()
    broker.start()
    bus.publish("6")
    again = receiver(port=there.port)
    assert eventually(lambda: sorted(set(again.ids())) == ["2", "3", "4", "5", "6"])
    assert bus.get(subscription["id"])["sink"] == there.url
    assert eventually(lambda: bus.status(subscription["id"])["delivered"] == 5)
    time.sleep(0.3)                                                        # acknowledgements are written soon, and nobody waits for them
    broker.kill()
    broker.start()
    time.sleep(0.5)
    assert bus.status(subscription["id"])["delivered"] == 0                # what was acknowledged does not come again


def test_signatures(bus, receiver, eventually):
    there = receiver()
    secrets = ["whsec_" + base64.b64encode(bytes([i] * 32)).decode() for i in (1, 2)]
    subscription = bus.subscribe(there.url, config={"secrets": secrets})
    assert subscription["config"]["secrets"] == secrets and "secrets" not in bus.get(subscription["id"])["config"]
    bus.publish("7", data={"text": "grüße"}, time="2018-04-05T17:31:00Z", subject='a "b" 100%', count=3, good=True)
    assert eventually(lambda: there.received)
    headers, body = there.received[0]
    wanted = [base64.b64encode(hmac.new(bytes([i] * 32), f"7.{headers['webhook-timestamp']}.".encode() + body, hashlib.sha256).digest()).decode() for i in (1, 2)]
    assert headers["webhook-signature"] == f"v1,{wanted[0]} v1,{wanted[1]}" and headers["webhook-id"] == "7"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    assert json.loads(body) == {"text": "grüße"} and headers["content-type"] == "application/json"
    assert {name: value for name, value in headers.items() if name.startswith("ce-")} == {
        "ce-specversion": "1.0", "ce-id": "7", "ce-source": "/test", "ce-type": f"{bus.name}.made", "ce-time": "2018-04-05T17:31:00Z",
        "ce-subject": "a%20%22b%22%20100%25", "ce-count": "3", "ce-good": "true"}
    bus.change(subscription["id"], config={"secrets": []})
    bus.publish("8")
    assert eventually(lambda: len(there.received) == 2)
    assert "webhook-signature" not in there.received[1][0]


def test_structured_mode(bus, receiver, eventually, channel):
    there = receiver()
    secret = "whsec_" + base64.b64encode(b"s" * 32).decode()
    subscription = bus.subscribe(there.url, config={"secrets": [secret], "mode": "structured"})["id"]
    assert bus.get(subscription)["config"]["mode"] == "structured"
    bus.publish("7", data={"text": "grüße", "number": 1.1}, time="2018-04-05T17:31:00Z", subject='a "b" 100%', count=3, good=True)
    assert eventually(lambda: there.received)
    headers, body = there.received[0]
    assert headers["content-type"] == "application/cloudevents+json" and not [name for name in headers if name.startswith("ce-")]
    assert json.loads(body) == {"specversion": "1.0", "id": "7", "source": "/test", "type": f"{bus.name}.made", "time": "2018-04-05T17:31:00Z", "subject": 'a "b" 100%',
                                "count": 3, "good": True, "datacontenttype": "application/json", "data": {"text": "grüße", "number": 1.1}}
    signed = base64.b64encode(hmac.new(b"s" * 32, f"7.{headers['webhook-timestamp']}.".encode() + body, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{signed}" and headers["webhook-id"] == "7"
    # Of any message that comes by AMQP an event is made.
    channel.basic_publish("events", f"{bus.name}.made", b"\xff\x00", pika.BasicProperties(message_id="m", content_type="image/png"))
    assert eventually(lambda: len(there.received) == 2)
    assert json.loads(there.received[1][1]) == {"specversion": "1.0", "id": "m", "source": "/amqp", "type": f"{bus.name}.made", "datacontenttype": "image/png", "data_base64": "/wA="}
    # What is posted in JSON can be published as it is.
    answer = requests.post(f"{bus.url}/events", body, headers={"content-type": headers["content-type"]}, timeout=10)
    assert answer.status_code in (200, 201, 202, 204), answer.text
    assert eventually(lambda: len(there.received) == 3)
    assert json.loads(there.received[2][1]) == json.loads(body)
    bus.change(subscription, config={"mode": "binary"})
    bus.publish("8")
    assert eventually(lambda: len(there.received) == 4)
    assert there.received[3][0]["ce-id"] == "8"
    assert "mode" in bus.change(subscription, status=422, config={"mode": "batched"})["detail"]


def test_what_is_given_up_becomes_a_dead_letter(bus, receiver, eventually, channel):
    there = receiver(answers=[500, (302, {"location": "/elsewhere"}), 404])
    subscription = bus.subscribe(there.url, config={"retry": "50ms,100ms", "attempts": 3})
    bus.publish("1")
    dead = f"subscription.{subscription['id']}.dead"
    assert eventually(lambda: channel.queue_declare(dead, passive=True).method.message_count == 1)
    assert [headers["webhook-attempt"] for headers, _ in there.received] == ["1", "2", "3"] and there.ids() == ["1"] * 3
    assert 0.04 < there.times[1] - there.times[0] and 0.08 < there.times[2] - there.times[1]
    method, properties, body = channel.basic_get(dead, auto_ack=True)
    assert properties.headers["x-death"][0]["reason"] == "delivery_limit" and properties.headers["cloudEvents_id"] == "1"
    assert [(one["status"], one["attempt"]) for one in bus.attempts(subscription["id"])] == [(404, 3), (302, 2), (500, 1)]
    assert bus.status(subscription["id"])["state"] == "failing"
    bus.publish("2")
    assert eventually(lambda: bus.status(subscription["id"])["state"] == "active")


def test_gone_ends_it_until_somebody_begins_it_anew(bus, receiver, eventually):
    there = receiver(answers=[410])
    subscription = bus.subscribe(there.url)["id"]
    bus.publish("1")
    assert eventually(lambda: bus.status(subscription)["state"] == "ended")
    assert "410" in bus.get(subscription)["ended"]
    bus.publish("2")                                                       # it gets no more
    time.sleep(0.2)
    assert there.ids() == ["1"]
    assert "ended" not in bus.change(subscription, paused=False)
    assert eventually(lambda: there.ids() == ["1", "1"])
    bus.publish("3")
    assert eventually(lambda: there.ids() == ["1", "1", "3"])


def test_too_many_requests_slow_it_down(bus, receiver, eventually):
    there = receiver(answers=[(429, {"retry-after": "1"}), (503, {"retry-after": "1"})])
    subscription = bus.subscribe(there.url, config={"attempts": 1})["id"]  # which costs no attempt
    bus.publish("1")
    assert eventually(lambda: len(there.received) == 1)
    assert eventually(lambda: bus.status(subscription)["state"] == "slowed")
    bus.publish("2")
    assert eventually(lambda: len(there.ids()) == 4)
    assert sorted(there.ids()[1:]) in (["1", "1", "2"], ["1", "2", "2"])   # one of the two was told to come again
    assert there.times[1] - there.times[0] > 0.9 and there.times[3] - there.times[1] > 0.9


def test_a_sink_that_is_not_there_is_left_alone_for_a_while(bus, eventually):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        subscription = bus.subscribe(f"http://127.0.0.1:{nobody.getsockname()[1]}/", config={"retry": "10ms", "attempts": 1000})["id"]
        bus.publish("1")
        assert eventually(lambda: bus.status(subscription)["state"] == "unreachable")
        time.sleep(0.5)
        attempts = bus.attempts(subscription)
        assert len(attempts) == 5 and {one["outcome"] for one in attempts} == {"unreachable"} and "connect" in attempts[0]["why"]


def test_sinks_that_answer_badly(bus, receiver, eventually):
    def hang(handler):
        time.sleep(1.5)

    def garbage(handler):
        handler.wfile.write(b"\0\1\2 what?\r\n\r\n")
        handler.close_connection = True

    def half(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        handler.close_connection = True

    def endless(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                handler.wfile.write(b"x" * 65536)
        except OSError:
            handler.close_connection = True

    def long_head(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 100 + b"\r\n")
        try:
            while True:
                handler.wfile.write((b"x: " + b"y" * 1000 + b"\r\n") * 20)
        except OSError:
            handler.close_connection = True

    there = receiver(answers=[hang, garbage, half, long_head, endless])
    subscription = bus.subscribe(there.url, config={"retry": "10ms", "attempts": 10, "timeout": 1})["id"]
    bus.publish("1")
    assert eventually(lambda: bus.status(subscription)["delivered"] == 1)         # who answers 200 and then does not stop has it
    assert [one["outcome"] for one in reversed(bus.attempts(subscription))] == ["timed out", "broken", "broken", "broken", "answered"]


def test_filters(bus, receiver, eventually):
    there = receiver()
    subscription = bus.subscribe(there.url, source="/test", filters=[
        {"any": [{"exact": {"subject": "it's"}}, {"prefix": {"subject": "10%_"}}, {"all": [{"suffix": {"subject": "end"}}, {"not": {"exact": {"tenant": "b"}}}]},
                 {"sql": "cloudEvents_amount > 100"}]}])["id"]
    for id_, more in {"1": {"subject": "it's"}, "2": {"subject": "10%_off"}, "3": {"subject": "10xxoff"}, "4": {"subject": "the end"}, "5": {"subject": "the end", "tenant": "b"},
                      "6": {"amount": 101}, "7": {"amount": 100}, "8": {}}.items():
        bus.publish(id_, **more)
    bus.publish("9", subject="it's", source="/elsewhere")
    assert eventually(lambda: bus.status(subscription)["delivered"] + bus.status(subscription)["passed_over"] == 9)
    assert sorted(there.ids()) == ["1", "2", "4", "6"]


def test_pausing_changing_removing(bus, receiver, eventually, channel):
    there, other = receiver(), receiver()
    subscription = bus.subscribe(there.url, type_=f"{bus.name}.a")["id"]
    assert bus.change(subscription, paused=True)["paused"] is True
    bus.publish("1", type_="a")
    time.sleep(0.2)
    assert not there.received and bus.status(subscription)["state"] == "paused"
    bus.change(subscription, paused=False)
    assert eventually(lambda: there.ids() == ["1"])
    bus.change(subscription, types=[f"{bus.name}.b", f"{bus.name}.c"], sink=other.url, config={"concurrency": 1})
    bus.publish("2", type_="a")
    bus.publish("3", type_="b")
    bus.publish("4", type_="c")
    assert eventually(lambda: other.ids() == ["3", "4"])
    bus.change(subscription, types=[f"{bus.name}.a", f"{bus.name}.b"])
    bus.publish("5", type_="c")
    bus.publish("6", type_="a")
    assert eventually(lambda: other.ids() == ["3", "4", "6"])
    assert [one["id"] for one in requests.get(f"{bus.url}/subscriptions").json() if one["id"] == subscription] == [subscription]
    assert requests.delete(f"{bus.url}/subscriptions/{subscription}").status_code == 204
    assert requests.get(f"{bus.url}/subscriptions/{subscription}").status_code == 404
    bus.publish("7", type_="a")
    time.sleep(0.2)
    assert other.ids() == ["3", "4", "6"] and there.ids() == ["1"]
    answer = requests.post(f"{bus.url}/queues/subscription.{subscription}/messages", data=b"x")
    assert answer.status_code == 404


def test_order_by_an_attribute(bus, receiver, eventually):
    there = receiver(answers=[500, 500])
    subscription = bus.subscribe(there.url, config={"retry": "300ms", "order": "subject"})["id"]
    bus.publish("a1", subject="a")
    assert eventually(lambda: len(there.received) == 1)
    for id_ in ("a2", "b1", "a3", "b2"):
        bus.publish(id_, subject=id_[0])
    assert eventually(lambda: bus.status(subscription)["delivered"] == 5)
    assert [id_ for id_ in there.ids() if id_[0] == "a"][-3:] == ["a1", "a2", "a3"] and there.ids().index("a2") > 1
    assert [id_ for id_ in dict.fromkeys(there.ids()) if id_[0] == "b"] == ["b1", "b2"]


@pytest.mark.parametrize("order, seed", [("subject", 1), ("subject", 2), ("*", 3), ("*", 4)])
def test_order_over_many_failures(bus, receiver, eventually, order, seed):
    answers = random.Random(seed)
    taken = []

    def perhaps(handler):
        good = answers.random() < 0.7
        if good:
            taken.append(handler.headers["ce-id"])
        handler.send_response(204 if good else 500)
        handler.send_header("content-length", "0")
        handler.end_headers()

    there = receiver(answers=[perhaps] * 1000)
    subscription = bus.subscribe(there.url, config={"retry": "10ms", "attempts": 1000, "order": order, "concurrency": 50})["id"]
    for part in (range(20), range(20, 150)):
        events = [{"specversion": "1.0", "id": str(i), "source": "/test", "type": f"{bus.name}.made", "subject": "abc"[i % 3]} for i in part]
        assert requests.post(f"{bus.url}/events", json=events, headers={"content-type": "application/cloudevents-batch+json"}).status_code == 201
    assert eventually(lambda: bus.status(subscription)["delivered"] == 150)
    groups = [taken] if order == "*" else [[id_ for id_ in taken if int(id_) % 3 == rest] for rest in range(3)]
    for group in groups:
        assert group == sorted(group, key=int)
    assert len(taken) == 150 and len(there.received) > 150


def test_the_sink_is_asked_first(bus, receiver, eventually):
    there = receiver()
    subscription = bus.subscribe(there.url, config={"origin": "shop.example"})["id"]
    for id_ in "123":
        bus.publish(id_)
    assert eventually(lambda: bus.status(subscription)["state"] == "not allowed")
    assert there.asked == ["shop.example"] and not there.received and "WebHook-Allowed-Origin" in bus.status(subscription)["why"]
    there.allows = "eu.shop.example"
    bus.change(subscription, config={"origin": "eu.shop.example"})
    assert eventually(lambda: sorted(there.ids()) == ["1", "2", "3"])
    assert there.asked == ["shop.example", "eu.shop.example"]
    assert there.times[1] - there.times[0] > 0.2 and there.times[2] - there.times[1] > 0.2      # 240 a minute
    bus.change(subscription, config={"origin": None})
    bus.publish("4")
    assert eventually(lambda: there.ids()[3:] == ["4"])
    bus.change(subscription, status=422, config={"origin": "a b"})


def test_trying_it_out(bus, receiver, eventually):
    there = receiver()
    subscription = bus.subscribe(there.url, filters=[{"exact": {"subject": "never"}}])["id"]
    answer = requests.post(f"{bus.url}/subscriptions/{subscription}/test")
    assert answer.status_code == 200
    assert eventually(lambda: there.ids() == [answer.json()["id"]])
    headers, body = there.received[0]
    assert headers["ce-type"] == "godwit.test" and headers["ce-subject"] == subscription and json.loads(body) == {"test": True}
    assert requests.post(f"{bus.url}/subscriptions/nobody/test").status_code == 404


def test_what_was_given_up_is_posted_again(bus, broker, receiver, eventually, channel):
    there = receiver(answers=[500, 500])
    subscription = bus.subscribe(there.url, config={"attempts": 1}, source="/test")["id"]
    bus.publish("1")
    bus.publish("2")
    dead = f"subscription.{subscription}.dead"
    assert eventually(lambda: channel.queue_declare(dead, passive=True).method.message_count == 2)
    replay = subprocess.run([godwit_binary(), "queue", "replay", dead, "--uri", f"amqp://127.0.0.1:{broker.port}/"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert replay.returncode == 0, replay.stdout
    assert eventually(lambda: sorted(there.ids()) == ["1", "1", "2", "2"])
    assert eventually(lambda: bus.status(subscription)["delivered"] == 2)


def test_several_go_at_once(bus, receiver, eventually):
    def slowly(handler):
        time.sleep(0.3)
        handler.send_response(204)
        handler.end_headers()
    there = receiver(answers=[slowly] * 20)
    bus.subscribe(there.url, config={"concurrency": 20})
    begin = time.monotonic()
    for i in range(20):
        bus.publish(str(i))
    assert eventually(lambda: len(there.received) == 20)
    assert time.monotonic() - begin < 3 and sorted(there.ids(), key=int) == [str(i) for i in range(20)]


def test_what_the_broker_may_not_be_sent_to(bus, broker, receiver, eventually, monkeypatch):
    there = receiver()
    for address in ("10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "[fe80::1]", "[::ffff:10.0.0.1]", "[64:ff9b::a00:1]", "0.0.0.0", "224.0.0.1"):
        assert "may not be connected to" in bus.subscribe(f"http://{address}/", status=422)["detail"]
    # Who is not on this machine may not name it. An administrator's parameter, which nobody has judged, is judged when it is connected to.
    sink = f"http://localhost:{there.port}/hook"
    id_ = bus.subscribe(sink)["id"]
    broker.control("set_parameter", "subscription", id_, json.dumps({"id": id_, "owner": "guest", "types": ["#"], "sink": sink, "config": {"retry": "10ms"}}))
    bus.publish("1")
    assert eventually(lambda: bus.attempts(id_) and bus.attempts(id_)[0]["outcome"] == "forbidden")
    assert "loopback" in bus.attempts(id_)[0]["why"] and not there.received


def test_own_networks_may_be_allowed(own_broker, receiver, eventually, name):
    there = receiver()
    broker = own_broker(godwit=["--webhook-networks", "127.0.0.0/8, 10.0.0.0/8"])
    bus = Bus(broker, name())
    bus.subscribe("http://10.1.2.3/")
    bus.subscribe("http://192.168.1.1/", status=422)
    id_ = bus.subscribe(there.url)["id"]
    broker.control("set_parameter", "subscription", id_, json.dumps({"id": id_, "owner": "guest", "types": ["#"], "sink": there.url}))
    bus.publish("1")
    assert eventually(lambda: there.ids() == ["1"])


def test_whose_they_are(bus, broker, receiver, eventually):
    there = receiver()
    broker.control("add_user", "shop", "secret")
    broker.control("set_permissions", "shop", r"^subscription\.shop.*", r"^(subscription\.shop.*|amq\.default)$", r"^(subscription\.shop.*|events)$")
    broker.control("add_user", "nobody", "secret")
    broker.control("set_permissions", "nobody", "", "", "")
    try:
        body = {"id": "shop1", "types": [f"{bus.name}.#"], "sink": there.url}
        bus.publish("0")
        assert requests.post(f"{bus.url}/subscriptions", json=body, auth=("nobody", "secret")).status_code == 403
        assert requests.post(f"{bus.url}/subscriptions", json={**body, "id": "other"}, auth=("shop", "secret")).status_code == 403
        made = requests.post(f"{bus.url}/subscriptions", json=body, auth=("shop", "secret"))
        assert made.status_code == 201 and made.json()["owner"] == "shop"
        assert requests.post(f"{bus.url}/subscriptions", json=body, auth=("shop", "secret")).status_code == 409
        assert requests.get(f"{bus.url}/subscriptions/shop1", auth=("nobody", "secret")).status_code == 404
        assert requests.get(f"{bus.url}/subscriptions", auth=("nobody", "secret")).json() == []
        assert requests.get(f"{bus.url}/subscriptions/shop1").status_code == 200          # guest is an administrator
        bus.publish("1")
        assert eventually(lambda: there.ids() == ["1"])
        broker.control("clear_permissions", "shop")
        assert requests.delete(f"{bus.url}/subscriptions/shop1").status_code == 204
    finally:
        broker.control("delete_user", "shop")
        broker.control("delete_user", "nobody")


@pytest.mark.parametrize("body, status", [
    ("{", 400), ("[]", 400), ('{"event_type": "x"}', 400), ('{"event_type": 1, "callback": "http://127.0.0.1/"}', 400),
    ('{"event_type": "x", "callback": "ftp://127.0.0.1/"}', 422), ('{"event_type": "x", "callback": "http://2130706433/"}', 422),
    ('{"event_type": "x", "callback": "http://user@127.0.0.1/"}', 422), ('{"event_type": "x", "callback": "http://127.0.0.1/", "id": "a b"}', 422),
    ('{"event_type": "x", "callback": "http://127.0.0.1/", "config": {"retry": "soon"}}', 422), ('{"event_type": "x", "callback": "http://127.0.0.1/", "config": 1}', 422),
    ('{"event_type": "x", "callback": "http://127.0.0.1/", "config": {"secrets": ["short"]}}', 422),
    ('{"event_type": "x", "callback": "http://127.0.0.1/", "config": {"concurrency": 0}}', 422), ('{"event_type": "x", "callback": "http://127.0.0.1/", "config": {"what": 0}}', 422),
    ('{"event_type": "", "callback": "http://127.0.0.1/"}', 422),
])
def test_what_is_no_subscription(broker, body, status):
    url = f"http://127.0.0.1:{broker.http_port}"
    answer = requests.post(f"{url}/event/subscribe", data=body, headers={"content-type": "application/json"})
    assert answer.status_code == status and answer.headers["content-type"] == "application/problem+json" and answer.json()["detail"]


def test_filters_that_are_none_are_refused(bus):
    for filters in ({}, [1], [{}], [{"exact": {}}], [{"exact": {"A": "x"}}], [{"like": {"type": "x"}}], [{"exact": {"type": "x"}, "prefix": {"type": "x"}}], [{"all": []}],
                    [{"sql": "type ="}], [{"sql": "1 = 1) OR (1 = 1"}], [{"not": [{"exact": {"type": "x"}}]}]):
        assert bus.subscribe("http://127.0.0.1/", status=422, filters=filters)["detail"], filters
    id_ = bus.subscribe("http://127.0.0.1:1/")["id"]
    assert "order" in bus.change(id_, status=422, config={"order": "Sub ject"})["detail"]
    assert "owner" in bus.change(id_, status=422, owner="me")["detail"]
