"""Replays: what a subscription would have got comes to it once more, each event once."""
import json
import time
from datetime import datetime, timedelta, timezone

import pytest
import requests

from support.webhooks import Bus, bus, receiver  # noqa: F401

pytestmark = pytest.mark.godwit_only("RabbitMQ has no webhooks")


def replay(bus, id_, status=202, auth=None, **wish):
    answer = requests.post(f"{bus.url}/subscriptions/{id_}/replay", json=wish, auth=auth)
    assert answer.status_code == status, answer.text
    return answer.json()


def progress(bus, id_, status=200):
    answer = requests.get(f"{bus.url}/subscriptions/{id_}/replay")
    assert answer.status_code == status, answer.text
    return answer.json()


def done(bus, id_, eventually, state="done"):
    assert eventually(lambda: progress(bus, id_)["state"] == state)
    return progress(bus, id_)


def ended_up(bus, id_, eventually, **wish):
    made = replay(bus, id_, **wish)
    record = done(bus, id_, eventually)
    assert record["id"] == made["id"]
    return record


def end_of(bus, eventually):
    """The offset of the last event, as a replay that wants nothing finds it."""
    id_ = bus.subscribe("http://127.0.0.1:9/", paused=True)["id"]
    return ended_up(bus, id_, eventually, ids=["none"])["end"]


def test_events_of_before_come_once_more(bus, receiver, eventually):
    there = receiver()
    for i in range(5):
        bus.publish(f"old{i}", data=i)
    bus.publish("other", type_="x.y")
    id_ = bus.subscribe(there.url, type_=f"{bus.name}.*", config={"order": "*"})["id"]
    assert progress(bus, id_, status=404)["detail"] == "The subscription has had no replay."
    record = ended_up(bus, id_, eventually, **{"from": "first"})
    assert record["replayed"] == 5 and record["read"] == record["replayed"] + record["passed_over"]
    assert eventually(lambda: len(there.received) == 5)
    assert there.ids() == [f"old{i}" for i in range(5)]
    headers, body = there.received[3]
    assert headers["ce-type"] == f"{bus.name}.made" and headers["ce-source"] == "/test" and body == b"3" and headers["webhook-attempt"] == "1"
    # Once more: as often as one asks.
    ended_up(bus, id_, eventually, **{"from": "1h"})
    assert eventually(lambda: len(there.received) == 10)
    bus.publish("new")
    assert eventually(lambda: there.ids()[10:] == ["new"])


def test_offsets_times_and_ids(bus, receiver, eventually):
    there = receiver()
    bus.publish("first")
    begin = end_of(bus, eventually)
    for i in range(10):
        bus.publish(f"e{i}")
    bus.publish("e3")                                        # as by a publisher that got no answer
    bus.publish("e4", source="/elsewhere")
    id_ = bus.subscribe(there.url, config={"order": "*"})["id"]

    def replayed(**wish):
        del there.received[:]
        record = ended_up(bus, id_, eventually, **wish)
        assert eventually(lambda: len(there.received) == record["replayed"])
        return record, there.ids()

    record, ids = replayed(**{"from": begin + 3, "to": begin + 5})
    assert ids == ["e2", "e3", "e4"] and record["next"] == begin + 6 and record["read"] == 3
    assert replayed(**{"from": begin + 9})[1] == ["e8", "e9", "e3", "e4"]
    record, ids = replayed(ids=["e4", "e3", "nothing"], **{"from": begin})
    assert ids == ["e3", "e4", "e4"] and record["missing"] == ["nothing"]
    assert replayed(**{"from": begin + 1000})[1] == []

    def at(seconds):
        return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")

    assert replayed(**{"from": at(-3600), "to": at(-1800)})[1] == []
    assert replayed(**{"from": at(3600)})[1] == []
    assert len(replayed(**{"from": at(-3600), "to": at(3600)})[1]) == 13
    time.sleep(max(0.0, 1.05 - time.time() % 1))             # a time is a whole second
    middle = at(0)
    time.sleep(0.02)
    bus.publish("late")
    assert eventually(lambda: "late" in there.ids())
    assert replayed(**{"from": middle})[1] == ["late"]


@pytest.mark.parametrize("wish, words", [
    ({}, "needs ids, or from"), ({"to": 7}, "needs ids"), ({"from": -1}, "must be an offset"), ({"from": "yesterday"}, "must be an offset"), ({"from": 7, "to": 6}, "end before it begins"),
    ({"from": 1, "to": "first"}, "must be an offset"), ({"ids": []}, "1 to 1000"), ({"ids": [7]}, "1 to 1000"), ({"ids": ["x"] * 1001}, "1 to 1000"), ({"form": 1}, "has no 'form'"),
    ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "end before it begins")])
def test_what_is_no_replay(bus, wish, words):
    id_ = bus.subscribe("http://127.0.0.1:9/")["id"]
    assert words in replay(bus, id_, status=422, **wish)["detail"]


def test_filters_and_the_way_it_is_now(bus, receiver, eventually):
    there = receiver()
    for i in range(4):
        bus.publish(f"e{i}", tenant="a" if i % 2 else "b")
    id_ = bus.subscribe(there.url, filters=[{"exact": {"tenant": "a"}}], paused=True, config={"order": "*"})["id"]
    record = ended_up(bus, id_, eventually, **{"from": "first"})
    assert record["replayed"] == 2
    time.sleep(0.1)
    assert there.received == []                              # a pause is a pause
    bus.change(id_, paused=False)
    assert eventually(lambda: there.ids() == ["e1", "e3"])


def test_messages_of_amqp_are_replayed_as_what_they_were(bus, channel, receiver, eventually):
    import pika
    there = receiver()
    bus.publish("one")
    channel.basic_publish("events", f"{bus.name}.sent", b"body", pika.BasicProperties(message_id="m1", content_type="text/plain", headers={"x-delay": 60000, "color": "red"}))
    id_ = bus.subscribe(there.url)["id"]
    assert eventually(lambda: ended_up(bus, id_, eventually, **{"from": "first"})["replayed"] >= 2)
    assert eventually(lambda: "m1" in there.ids())
    headers, body = there.received[there.ids().index("m1")]
    assert headers["ce-type"] == f"{bus.name}.sent" and headers["ce-source"] == "/amqp" and headers["content-type"] == "text/plain" and body == b"body"


def batch(bus, count, size=10):
    events = [{"specversion": "1.0", "id": str(i), "source": "/test", "type": f"{bus.name}.made", "data": "x" * size} for i in range(count)]
    assert requests.post(f"{bus.url}/events", json=events, headers={"content-type": "application/cloudevents-batch+json"}).status_code == 201


def test_many_are_each_replayed_once(bus, receiver, eventually):
    batch(bus, 3000, size=300)
    id_ = bus.subscribe("http://127.0.0.1:9/", paused=True)["id"]
    replay(bus, id_, **{"from": "first"})
    record = done(bus, id_, eventually)
    assert record["replayed"] == 3000
    there = receiver()
    bus.change(id_, sink=there.url, paused=False, config={"concurrency": 64})
    assert eventually(lambda: len(there.received) >= 3000, timeout_s=20), bus.status(id_)
    assert sorted(there.ids(), key=int) == [str(i) for i in range(3000)]


def test_it_can_be_stopped(bus, broker, channel, eventually):
    batch(bus, 2000)
    id_ = bus.subscribe("http://127.0.0.1:9/", paused=True)["id"]
    # The queue takes so many, and no more for now.
    broker.control("set_policy", "--apply-to", "queues", f"full-{id_}", f"^subscription\\.{id_}$", json.dumps({"max-length": 500, "overflow": "reject-publish"}))
    try:
        replay(bus, id_, **{"from": "first"})
        assert eventually(lambda: progress(bus, id_)["replayed"] >= 500)
        assert progress(bus, id_)["state"] == "running"
        assert "under way" in replay(bus, id_, status=409, **{"from": "first"})["detail"]
        assert requests.delete(f"{bus.url}/subscriptions/{id_}/replay").status_code == 204
        assert requests.delete(f"{bus.url}/subscriptions/{id_}/replay").status_code == 404
        progress(bus, id_, status=404)
        assert channel.queue_declare(f"subscription.{id_}", passive=True).method.message_count == 500        # and some in hand
        # The next one waits until there is room, and is whole then.
        replay(bus, id_, **{"from": "first"})
        time.sleep(0.2)
        channel.queue_purge(f"subscription.{id_}")
    finally:
        broker.control("clear_policy", f"full-{id_}")
    assert done(bus, id_, eventually)["replayed"] == 2000


@pytest.mark.parametrize("wish", ["from", "ids"])
def test_it_goes_on_after_a_restart(own_broker, receiver, eventually, name, wish):
    broker, there = own_broker(), receiver()
    bus = Bus(broker, name())
    batch(bus, 2000)
    id_ = bus.subscribe(there.url, paused=True)["id"]
    wanted = [f"{i}" for i in range(0, 2000, 2)] if wish == "ids" else [f"{i}" for i in range(2000)]
    broker.control("set_policy", "--apply-to", "queues", "full", f"^subscription\\.{id_}$", json.dumps({"max-length": 300, "overflow": "reject-publish"}))
    record = replay(bus, id_, **({"ids": wanted} if wish == "ids" else {"from": 0}))
    assert eventually(lambda: progress(bus, id_)["replayed"] >= 300)
    # In good order: how far it is is written down.
    assert broker.stop() == 0
    broker.start()
    seen = progress(bus, id_)
    assert seen["state"] == "running" and seen["id"] == record["id"] and seen["replayed"] >= 300 and "found" not in seen
    # And killed: what had come since then comes again.
    bus.change(id_, paused=False)
    assert eventually(lambda: len(there.received) >= 100)
    broker.kill()
    broker.start()
    broker.control("clear_policy", "full")
    ended = done(bus, id_, eventually)
    assert (ended["id"], ended["replayed"], ended.get("missing")) == (record["id"], len(wanted), [] if wish == "ids" else None)
    assert eventually(lambda: set(there.ids()) == set(wanted))
    broker.restart()
    record = progress(bus, id_)
    assert record["state"] == "done" and record["replayed"] == len(wanted)


def test_whose_replays_they_are(bus, broker, eventually):
    broker.control("add_user", "player", "secret")
    broker.control("set_permissions", "player", r"^subscription\.play.*", r"^(subscription\.play.*|amq\.default)$", r"^(subscription\.play.*|events)$")
    try:
        bus.publish("0")
        body = {"id": "play1", "types": [f"{bus.name}.#"], "sink": "http://127.0.0.1:9/", "paused": True}
        assert requests.post(f"{bus.url}/subscriptions", json=body, auth=("player", "secret")).status_code == 201
        bus.made.append("play1")
        other = bus.subscribe("http://127.0.0.1:9/")["id"]
        replay(bus, other, status=404, auth=("player", "secret"), **{"from": "first"})
        replay(bus, "play1", auth=("player", "secret"), **{"from": "first"})
        assert done(bus, "play1", eventually)["replayed"] == 1
        # Its owner reads the events: whoever may not is told so.
        broker.control("set_permissions", "player", r"^subscription\.play.*", r"^(subscription\.play.*|amq\.default)$", r"^(subscription\.play.*)$")
        replay(bus, "play1", **{"from": "first"})
        assert "ACCESS_REFUSED" in done(bus, "play1", eventually, state="failed")["why"]
        broker.control("set_permissions", "player", r"^subscription\.play.*", r"^(subscription\.play.*)$", r"^(subscription\.play.*|events)$")
        replay(bus, "play1", **{"from": "first"})
        assert "default exchange" in done(bus, "play1", eventually, state="failed")["why"]
    finally:
        broker.control("delete_user", "player")


def test_there_need_be_no_events(own_broker, eventually, name):
    bus = Bus(own_broker(), name())
    id_ = bus.subscribe("http://127.0.0.1:9/")["id"]
    assert ended_up(bus, id_, eventually, **{"from": "first"})["read"] == 0
    replay(bus, "nobody", status=404, **{"from": "first"})
    assert requests.delete(f"{bus.url}/subscriptions/{id_}").status_code == 204
    bus.subscribe("http://127.0.0.1:9/", id=id_)
    progress(bus, id_, status=404)                           # nothing is left of the old one's
