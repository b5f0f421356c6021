"""PATCH: what may change does, while events wait; and nobody's change is lost."""
import threading
import time

import pytest
import requests

from support.webhooks import Bus, bus, receiver  # noqa: F401

pytestmark = pytest.mark.godwit_only("RabbitMQ has no webhooks")


def test_the_schedule_may_change(bus, receiver, eventually):
    there = receiver(answers=[500] * 3)
    id_ = bus.subscribe(there.url, config={"retry": "1h", "attempts": 2})["id"]
    bus.change(id_, config={"retry": "50ms", "attempts": 4, "concurrency": 1})
    time.sleep(0.2)                                          # the queue is told soon
    began = time.monotonic()
    bus.publish("1")
    assert eventually(lambda: len(there.received) == 4)
    assert time.monotonic() - began < 5 and [headers["webhook-attempt"] for headers, _ in there.received] == ["1", "2", "3", "4"]
    there.answers.extend([500] * 2)
    bus.change(id_, config={"attempts": 2})
    time.sleep(0.2)
    bus.publish("2")
    assert eventually(lambda: requests.get(f"{bus.url}/queues/subscription.{id_}.dead/messages?ack=auto&wait=5s").status_code == 200)
    assert len(there.received) == 6
    # null is what a subscription has that says nothing.
    assert "retry" not in bus.change(id_, config={"retry": None, "attempts": None})["config"]


def test_order_may_come_and_go(bus, receiver, eventually):
    there = receiver()
    id_ = bus.subscribe(there.url, paused=True, config={"concurrency": 8})["id"]
    for i in range(6):
        bus.publish(str(i), subject="s")
    bus.change(id_, config={"order": "subject"})
    bus.change(id_, paused=False)
    assert eventually(lambda: len(there.received) == 6)
    assert there.ids() == [str(i) for i in range(6)]
    # In order over a failure, too: the queue knows of the groups.
    bus.change(id_, config={"retry": "100ms"})
    time.sleep(0.2)
    there.answers.append(500)
    for i in range(6, 10):
        bus.publish(str(i), subject="s")
    assert eventually(lambda: len(there.received) == 11)
    assert there.ids()[6:] == ["6"] + [str(i) for i in range(6, 10)]
    assert eventually(lambda: bus.status(id_)["under_way"] == 0)      # what is under way when that changes is posted again
    assert "order" not in bus.change(id_, config={"order": None})["config"]
    there.answers.append(500)
    bus.publish("10", subject="s")
    bus.publish("11", subject="s")
    assert eventually(lambda: sorted(there.ids()[11:]) == ["10", "10", "11"])


def test_changes_outlive_a_restart(own_broker, receiver, eventually, name):
    broker, there = own_broker(), receiver(answers=[500, 500])
    bus = Bus(broker, name())
    bus.publish("0")
    id_ = bus.subscribe(there.url, config={"retry": "1h"})["id"]
    bus.change(id_, config={"retry": "20ms", "order": "*"})
    time.sleep(0.2)
    broker.kill()
    broker.start()
    assert bus.get(id_)["config"]["retry"] == "20ms"
    bus.publish("1")
    assert eventually(lambda: len(there.received) == 3)


def test_versions(bus):
    id_ = bus.subscribe("http://127.0.0.1:9/", paused=True)["id"]
    where = f"{bus.url}/subscriptions/{id_}"
    seen = requests.get(where).headers["etag"]
    assert seen == requests.get(where).headers["etag"] and seen[0] == seen[-1] == '"'
    for wrong in ('"x"', f"W/{seen}", f'"x", W/{seen}'):
        answer = requests.patch(where, json={"paused": False}, headers={"if-match": wrong})
        assert answer.status_code == 412 and answer.headers["content-type"] == "application/problem+json"
    assert requests.delete(where, headers={"if-match": '"x"'}).status_code == 412
    changed = requests.patch(where, json={"source": "/a"}, headers={"if-match": f'"x" ,{seen}'})
    assert changed.status_code == 200 and changed.headers["etag"] not in (seen, None)
    assert changed.headers["etag"] == requests.get(where).headers["etag"]
    assert requests.patch(where, json={"source": "/b"}, headers={"if-match": seen}).status_code == 412
    assert requests.patch(where, json={"source": "/c"}, headers={"if-match": "*"}).status_code == 200
    assert bus.get(id_)["source"] == "/c"
    assert requests.delete(where, headers={"if-match": requests.get(where).headers["etag"]}).status_code == 204


def test_changes_that_come_at_once(bus):
    id_ = bus.subscribe("http://127.0.0.1:9/", paused=True)["id"]
    where = f"{bus.url}/subscriptions/{id_}"
    members = [{"source": "/s"}, {"filters": [{"exact": {"a": "b"}}]}, {"types": ["x.y"]}, {"config": {"concurrency": 7}}, {"config": {"timeout": 9}}, {"config": {"retry": "7s"}},
               {"config": {"origin": "a.example"}}, {"config": {"order": "*"}}]
    seen, answers = requests.get(where).headers["etag"], []

    def at_once(*asks):
        threads = [threading.Thread(target=ask) for ask in asks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    at_once(*[lambda m=m: answers.append(requests.patch(where, json=m).status_code) for m in members])
    assert answers == [200] * 8
    now = bus.get(id_)
    assert (now["source"], now["types"], now["filters"]) == ("/s", ["x.y"], [{"exact": {"a": "b"}}])
    config = {name: value for member in members for name, value in member.get("config", {}).items()}
    assert {name: now["config"][name] for name in config} == config
    # Of those that mean one version, one is made.
    seen, answers = requests.get(where).headers["etag"], []
    at_once(*[lambda i=i: answers.append(requests.patch(where, json={"source": f"/{i}"}, headers={"if-match": seen}).status_code) for i in range(8)])
    assert sorted(answers) == [200] + [412] * 7
