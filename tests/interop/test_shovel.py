"""Subscriptions whose sink is another broker: events are published there, whoever dies meanwhile."""
import json
import os
import re
import signal
import subprocess
import time

import pika
import pytest
import requests

from support.authority import Authority
from support.broker import godwit_binary, make_broker
from support.webhooks import Bus, bus  # noqa: F401

pytestmark = pytest.mark.godwit_only("RabbitMQ has no subscriptions")


@pytest.fixture(scope="module", params=["godwit", "rabbitmq"])
def there(request):
    """Another broker, which takes no message of more than 1,000 bytes."""
    with make_broker(request.param, options=["--max-message-size", "1000"] if request.param == "godwit" else ["max_message_size = 1000"]) as instance:
        instance.kind = request.param
        yield instance


@pytest.fixture
def far(there, connect_to):
    return connect_to(there).channel()


def uri(broker, exchange="", key=None, user="guest:guest", vhost="", **more):
    parameters = {"exchange": exchange, **({"routing_key": key} if key is not None else {}), **more}
    return f"amqp://{user}@127.0.0.1:{broker.port}/{vhost}?" + "&".join(f"{name}={value}" for name, value in parameters.items())


def take(channel, queue):
    got = []
    while True:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return got
        got.append((method, properties, body))


def test_events_are_messages_at_another_broker(bus, there, far, eventually, name):
    exchange, queue = name(), name()
    far.exchange_declare(exchange, "topic", durable=True)
    far.queue_declare(queue, durable=True)
    far.queue_bind(queue, exchange, "#")
    made = bus.subscribe(uri(there, exchange))
    id_ = made["id"]
    assert made["sink"] == uri(there, exchange, user="guest:(hidden)") == bus.get(id_)["sink"]
    assert "secrets" not in made.get("config", {})
    for i in range(20):
        bus.publish(str(i), data={"n": i}, subject="grüße")
    assert eventually(lambda: bus.status(id_)["delivered"] == 20)
    got = take(far, queue)
    assert [json.loads(body) for _, _, body in got] == [{"n": i} for i in range(20)]
    method, properties, _ = got[7]
    assert method.routing_key == f"{bus.name}.made" and method.exchange == exchange
    assert properties.message_id == "7" and properties.delivery_mode == 2 and properties.content_type == "application/json"
    assert properties.headers["cloudEvents_subject"] == "grüße" and properties.headers["cloudEvents_id"] == "7" and properties.headers["cloudEvents_type"] == f"{bus.name}.made"
    status = bus.get(id_)["status"]
    assert status["state"] == "active" and status["last"]["status"] == 200 and status["last"]["outcome"] == "answered"
    assert status["endpoint"]["url"] == f"amqp://127.0.0.1:{there.port}"


@pytest.mark.limit(240)
@pytest.mark.parametrize("kind", ["godwit", "rabbitmq"])
def test_nothing_is_lost_whoever_is_killed(own_broker, kind, connect_to, eventually, name):
    here, bus_name, queue, count = own_broker(), name(), name(), 12000 if kind == "godwit" else 4000
    with make_broker(kind) as there:
        connect_to(there).channel().queue_declare(queue, durable=True)
        bus = Bus(here, bus_name)
        id_ = bus.subscribe(uri(there, key=queue), paused=True, config={"retry": "100ms", "attempts": 1000, "timeout": 5, "concurrency": 20})["id"]
        near = connect_to(here).channel()
        for i in range(count):
            if i == count - 1:
                near.confirm_delivery()   # that one waits for all
            near.basic_publish("events", f"{bus_name}.made", str(i).encode(), pika.BasicProperties(delivery_mode=2, message_id=str(i)))

        def left():
            try:
                with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", here.port)) as connection:
                    messages = connection.channel().queue_declare(f"subscription.{id_}", passive=True).method.message_count
            except pika.exceptions.AMQPError:
                return count   # it has just been started
            return messages + (bus.status(id_) or {}).get("waiting", 0) + (bus.status(id_) or {}).get("under_way", 0)

        bus.change(id_, paused=False)
        for turn, much in enumerate((11, 9.5, 8, 6.5) if kind == "godwit" else (11, 8)):   # which starts in seconds
            eventually(lambda: left() < count * much / 12, every_s=0.001, timeout_s=60, missing=lambda: bus.get(id_))
            if turn % 2:
                here.kill()
            else:
                there.kill()
            (here if turn % 2 else there).start()
            assert left() > 0, "it was in the middle of it"
        eventually(lambda: left() == 0, timeout_s=120, missing=lambda: bus.get(id_))
        got = [int(properties.message_id) for _, properties, _ in take(connect_to(there).channel(), queue)]
        assert set(got) == set(range(count))
        assert len(got) < count * 1.5, "as many as were not confirmed come twice"
        assert connect_to(here).channel().queue_declare(f"subscription.{id_}.dead", passive=True).method.message_count == 0


QUICK = {"retry": "50ms", "attempts": 1000}


def last(bus, id_):
    return (bus.status(id_) or {}).get("last") or {}


def test_what_the_other_broker_refuses_is_said(bus, there, far, eventually, name):
    queue, full = name(), name()
    far.queue_declare(queue)
    far.queue_declare(full, arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    cases = (({"exchange": "nowhere-to-be-found"}, "answered", 404, "no exchange 'nowhere-to-be-found'"),
             ({"exchange": "amq.topic"}, "answered", 312, "No queue"),
             ({"key": full}, "refused", None, "refused a publish"),
             ({"key": queue, "user": "guest:sesame"}, "refused", None, "guest|password|ACCESS_REFUSED|not let in"),
             ({"key": queue, "vhost": "nowhere"}, "refused", None, "nowhere"))
    made = [bus.subscribe(uri(there, **members), config=QUICK)["id"] for members, *_ in cases]
    bus.publish("1")
    for id_, (_, outcome, status, why) in zip(made, cases):
        eventually(lambda: last(bus, id_), missing=lambda: bus.get(id_))
        said = last(bus, id_)
        assert said["outcome"] == outcome and said.get("status") == status and re.search(why, said["why"]), said
        assert bus.status(id_)["delivered"] == 0 and "sesame" not in json.dumps(bus.get(id_)) + json.dumps(bus.attempts(id_))
    # Each of them is changed into one that is taken.
    for id_ in made:
        bus.change(id_, sink=uri(there, key=queue))
    eventually(lambda: [bus.status(id_)["delivered"] for id_ in made] == [1] * len(made))
    assert [properties.message_id for _, properties, _ in take(far, queue)] == ["1"] * len(made)


def test_one_that_closes_the_channel_costs_no_other_an_attempt(broker, bus, there, far, connect_to, eventually, name):
    """One that is too large there: brokers close the channel for it."""
    queue = name()
    far.queue_declare(queue)
    id_ = bus.subscribe(uri(there, key=queue), paused=True, config={"retry": "50ms", "attempts": 3})["id"]
    near = connect_to(broker).channel()
    for i in range(50):
        near.basic_publish("events", f"{bus.name}.made", b"x" * (2000 if i == 25 else 10), pika.BasicProperties(message_id=str(i)))
    bus.change(id_, paused=False)
    eventually(lambda: bus.status(id_)["delivered"] == 49 and bus.status(id_)["refused"] == 3, missing=lambda: bus.get(id_))
    refused = [attempt for attempt in bus.attempts(id_) if attempt.get("status") != 200]
    assert {(attempt["event"], attempt["outcome"]) for attempt in refused} == {("25", "answered")} and "1000" in refused[0]["why"], refused
    assert refused[0]["status"] in (311, 406)
    assert sorted({int(properties.message_id) for _, properties, _ in take(far, queue)}) == [i for i in range(50) if i != 25]
    eventually(lambda: near.queue_declare(f"subscription.{id_}.dead", passive=True).method.message_count == 1)


def test_a_broker_that_hangs_or_is_not_there(bus, own_broker, connect_to, eventually, name):
    there, queue = own_broker(), name()
    connect_to(there).channel().queue_declare(queue, durable=True)
    id_ = bus.subscribe(uri(there, key=queue), config={**QUICK, "timeout": 1})["id"]
    bus.publish("1")
    eventually(lambda: bus.status(id_)["delivered"] == 1)
    os.kill(there.broker_pid(), signal.SIGSTOP)
    bus.publish("2")
    eventually(lambda: last(bus, id_)["outcome"] == "timed out", missing=lambda: bus.get(id_))
    os.kill(there.broker_pid(), signal.SIGCONT)
    eventually(lambda: bus.status(id_)["delivered"] == 2, missing=lambda: bus.get(id_))
    there.kill()
    bus.publish("3")
    eventually(lambda: last(bus, id_)["outcome"] == "unreachable" and bus.status(id_)["state"] == "unreachable", missing=lambda: bus.get(id_))
    assert "refused" in last(bus, id_)["why"]
    there.start()
    eventually(lambda: bus.status(id_)["delivered"] == 3, missing=lambda: bus.get(id_))
    assert {properties.message_id for _, properties, _ in take(connect_to(there).channel(), queue)} == {"1", "2", "3"}
    id_ = bus.subscribe("amqp://169.254.169.254/?exchange=x", status=422)
    id_ = bus.subscribe("amqp://localhost.localdomain.nowhere.invalid/?exchange=x", config=QUICK)["id"]
    bus.publish("4")
    eventually(lambda: last(bus, id_).get("outcome") == "unreachable")
    assert "not found" in last(bus, id_)["why"]


def test_a_broker_that_takes_nothing_for_now_costs_no_attempt(bus, there, far, eventually, name):
    if there.kind == "godwit":
        pytest.skip("it blocks its publishers when the disk is nearly full, which is everybody's")
    queue = name()
    far.queue_declare(queue, durable=True)
    there.control("set_vm_memory_high_watermark", "0.000001")
    id_ = bus.subscribe(uri(there, key=queue), config={"retry": "50ms", "attempts": 1, "timeout": 1})["id"]
    for i in range(10):
        bus.publish(str(i))
    eventually(lambda: last(bus, id_).get("outcome") == "busy", missing=lambda: bus.get(id_))
    time.sleep(2)
    assert bus.status(id_)["refused"] == 0
    there.control("set_vm_memory_high_watermark", "0.4")
    eventually(lambda: bus.status(id_)["delivered"] == 10, missing=lambda: bus.get(id_))
    assert {properties.message_id for _, properties, _ in take(far, queue)} == {str(i) for i in range(10)}


def test_pauses_changes_replays_and_tests(bus, there, far, eventually, name):
    queue, other = name(), name()
    far.queue_declare(queue)
    far.queue_declare(other)
    made = bus.subscribe(uri(there, key=queue), paused=True, protocol="AMQP")
    id_ = made["id"]
    bus.publish("1")
    time.sleep(0.3)
    assert bus.status(id_)["state"] == "paused" and not take(far, queue)
    # What was shown is said again, as somebody does who edits the whole of it.
    shown = bus.get(id_)
    bus.change(id_, sink=shown["sink"], paused=False)
    eventually(lambda: bus.status(id_)["delivered"] == 1)
    tag = requests.get(f"{bus.url}/subscriptions/{id_}").headers["etag"]
    bus.change(id_, sink=uri(there, key=other))
    stale = requests.patch(f"{bus.url}/subscriptions/{id_}", json={"paused": True}, headers={"if-match": tag})
    assert stale.status_code == 412
    bus.publish("2")
    eventually(lambda: bus.status(id_)["delivered"] == 2)
    assert requests.post(f"{bus.url}/subscriptions/{id_}/replay", json={"ids": ["1"]}).status_code == 202
    eventually(lambda: bus.status(id_)["delivered"] == 3)
    bus.change(id_, sink=uri(there, exchange="amq.topic"))
    far.queue_bind(queue, "amq.topic", "godwit.test")
    assert requests.post(f"{bus.url}/subscriptions/{id_}/test").status_code == 200
    eventually(lambda: bus.status(id_)["delivered"] == 4, missing=lambda: bus.get(id_))
    assert [properties.message_id for _, properties, _ in take(far, other)] == ["2", "1"]
    got = take(far, queue)
    assert got[0][1].message_id == "1" and json.loads(got[1][2]) == {"test": True} and got[1][0].routing_key == "godwit.test"
    for wrong, why in (({"sink": "amqp:///x"}, "no host"), ({"config": {"origin": "a.example"}}, "origin"), ({"config": {"mode": "structured"}}, "mode"),
                       ({"sink": "amqps://x?cacertfile=/etc/passwd"}, "webhook_ca"), ({"sink": "amqp://0x7f.1/"}, "address")):
        assert why in bus.change(id_, status=422, **wrong)["detail"]
    assert "protocol" in bus.subscribe("http://127.0.0.1:1/", status=422, protocol="AMQP")["detail"]
    # It becomes a webhook, and goes on from there.
    bus.change(id_, sink="http://127.0.0.1:1/", config={"retry": "1s"})
    bus.publish("3")
    eventually(lambda: last(bus, id_)["outcome"] == "unreachable" and bus.status(id_)["endpoint"]["url"] == "http://127.0.0.1:1")
    bus.change(id_, sink=uri(there, key=other))
    eventually(lambda: bus.status(id_)["delivered"] == 5 or "3" in [properties.message_id for _, properties, _ in take(far, other)])


def test_events_come_in_order_over_failures(bus, own_broker, connect_to, eventually, name):
    there, queue = own_broker(), name()
    connect_to(there).channel().queue_declare(queue, durable=True)
    id_ = bus.subscribe(uri(there, key=queue), config={**QUICK, "order": "*", "timeout": 2})["id"]
    for i in range(300):
        bus.publish(str(i))
        if i in (50, 170):
            there.kill()
        if i in (100, 220):
            there.start()
    eventually(lambda: bus.status(id_)["delivered"] == 300, timeout_s=60, missing=lambda: bus.get(id_))
    got = [int(properties.message_id) for _, properties, _ in take(connect_to(there).channel(), queue)]
    first = list(dict.fromkeys(got))
    assert first == list(range(300)) and got == sorted(got)


def test_one_broker_s_events_become_another_s(bus, own_broker, connect_to, eventually, name):
    """From events to events, and by the command line."""
    there, listener = own_broker(), name()
    sink = f"amqp://guest:guest@127.0.0.1:{there.port}"
    here = ["--url", bus.url]
    Bus(there, "any").publish("0")   # from then on events stay there
    made = subprocess.run([godwit_binary(), "subscriptions", *here, "create", sink, "--id", bus.name, "--type", f"{bus.name}.#", "--json"], stdout=subprocess.PIPE, check=True)
    assert json.loads(made.stdout)["sink"] == sink.replace("guest@", "(hidden)@")
    bus.made.append(bus.name)
    bus.publish("1", data={"n": 1}, subject="s")
    eventually(lambda: bus.status(bus.name)["delivered"] == 1, missing=lambda: bus.get(bus.name))
    got = requests.get(f"http://127.0.0.1:{there.http_port}/events?from=first", stream=True, headers={"accept": "text/event-stream"})
    for line in got.iter_lines():
        if line.startswith(b"data:"):
            event = json.loads(line[5:])
            if event["id"] == "1":
                break
    assert (event["id"], event["source"], event["type"], event["subject"], event["data"]) == ("1", "/test", f"{bus.name}.made", "s", {"n": 1})
    shown = subprocess.run([godwit_binary(), "subscriptions", *here, "show", bus.name], stdout=subprocess.PIPE, check=True, text=True).stdout
    assert "guest:(hidden)@" in shown and re.search(r"status.state +active", shown)


def test_with_tls(own_broker, tmp_path, connect_to, eventually, name):
    authority = Authority(tmp_path)
    authority.certify("server", "localhost")
    ca, queue = authority.file("ca.pem"), name()
    here = own_broker(godwit=["--webhook-ca", ca])
    there = own_broker(godwit=["--amqps-port", "0", "--tls-certificate", authority.file("server.pem"), "--tls-key", authority.file("server.key")])
    port = re.search(r"amqps://127\.0\.0\.1:(\d+)", there.log_text())[1]
    connect_to(there).channel().queue_declare(queue, durable=True)
    bus = Bus(here, name())
    good, other, trusting = (bus.subscribe(f"amqps://guest:guest@{host}:{port}/?exchange=&routing_key={queue}{more}", config=QUICK)["id"]
                             for host, more in (("localhost", ""), ("localhost.localdomain", ""), ("127.0.0.1", "&verify=verify_none")))
    bus.publish("1")
    eventually(lambda: bus.status(good)["delivered"] == 1 and bus.status(trusting)["delivered"] == 1, missing=lambda: bus.attempts(good) + bus.attempts(trusting))
    assert bus.status(good)["endpoint"]["url"] == f"amqps://localhost:{port}"
    eventually(lambda: last(bus, other).get("outcome") == "unreachable")
    # The broker of the system's authorities alone does not trust that one.
    stranger = Bus(own_broker(), name())
    id_ = stranger.subscribe(f"amqps://guest:guest@localhost:{port}/?exchange=&routing_key={queue}", config=QUICK)["id"]
    stranger.publish("2")
    eventually(lambda: "certificate" in last(stranger, id_).get("why", ""), missing=lambda: stranger.get(id_))
    assert [properties.message_id for _, properties, _ in take(connect_to(there).channel(), queue)] == ["1", "1"]
