"""Subscriptions whose sink is another broker: events are published there, whoever dies meanwhile."""
import json
import random
import time

import pika
import pytest
import requests

from support.broker import make_broker
from support.webhooks import Bus, bus  # noqa: F401

pytestmark = pytest.mark.godwit_only("RabbitMQ has no subscriptions")


@pytest.fixture(scope="module", params=["godwit", "rabbitmq"])
def there(request):
    """Another broker."""
    with make_broker(request.param) as instance:
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


@pytest.mark.parametrize("kind", ["godwit", "rabbitmq"])
def test_nothing_is_lost_whoever_is_killed(own_broker, kind, connect_to, eventually, name):
    here, bus_name, queue = own_broker(), name(), name()
    with make_broker(kind) as there:
        channel = connect_to(there).channel()
        channel.queue_declare(queue, durable=True)
        bus = Bus(here, bus_name)
        id_ = bus.subscribe(uri(there, key=queue), paused=True, config={"retry": "100ms", "attempts": 1000, "timeout": 5})["id"]
        count = 8000
        near = connect_to(here).channel()
        near.confirm_delivery()
        for i in range(count):
            near.basic_publish("events", f"{bus_name}.made", str(i).encode(), pika.BasicProperties(delivery_mode=2, message_id=str(i)))
        bus.change(id_, paused=False)
        for turn in range(4):
            assert eventually(lambda: (bus.status(id_) or {}).get("delivered", 0) > 0, timeout_s=60)
            if turn % 2:
                here.kill()
                here.start()
            else:
                there.kill()
                there.start()
        assert eventually(lambda: bus.status(id_)["waiting"] + bus.status(id_)["under_way"] == 0 and connect_to(here).channel().queue_declare(f"subscription.{id_}", passive=True).method.message_count == 0, timeout_s=120)
        got = [int(properties.message_id) for _, properties, _ in take(connect_to(there).channel(), queue)]
        assert set(got) == set(range(count)), len(set(got))
        print(len(got) - count, "came twice")
