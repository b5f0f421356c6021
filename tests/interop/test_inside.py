"""godwit queue: single messages are looked at, counted off and deleted while consumers go on."""
import json
import subprocess
import time

import pika
import pytest

from support.broker import godwit_binary

pytestmark = pytest.mark.godwit_only("RabbitMQ does not let anybody look without taking")


def queue_command(broker, *arguments, fails=False):
    result = subprocess.run([godwit_binary(), "queue", "--uri", f"amqp://guest:guest@127.0.0.1:{broker.port}/", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            timeout=60)
    assert bool(result.returncode) == fails, (result.returncode, result.stdout, result.stderr)
    return result.stderr if fails else result.stdout


def rows(broker, *arguments):
    return [json.loads(line) for line in queue_command(broker, *arguments, "--json").splitlines()]


def fill(channel, queue, count, **more):
    channel.queue_declare(queue, durable=True, **more)
    channel.confirm_delivery()
    for i in range(count):
        channel.basic_publish("", queue, b"body %d" % i, pika.BasicProperties(message_id=f"m{i}", delivery_mode=2, headers={"n": i, "half": i % 2 == 1, "kind": "odd" if i % 2 else "even"},
                                                                              priority=i % 3 if more else None))


def ids(found):
    return [row["properties"]["message_id"] for row in found]


def test_looking_changes_nothing(broker, channel, name):
    queue = name("q")
    fill(channel, queue, 10)
    assert ids(rows(broker, "browse", queue)) == [f"m{i}" for i in range(10)]
    assert ids(rows(broker, "browse", queue, "--header", "kind=odd", "--header", "half=true")) == ["m1", "m3", "m5", "m7", "m9"]
    assert ids(rows(broker, "browse", queue, "--filter", "n BETWEEN 3 AND 5", "--header", "n=4")) == ["m4"]
    assert rows(broker, "browse", queue, "--id", "m7", "--body", "4")[0]["body"] == "body"
    assert ids(rows(broker, "browse", queue, "--limit", "3")) == ["m0", "m1", "m2"]
    for i in range(10):
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        assert (method.redelivered, properties.message_id, body) == (False, f"m{i}", b"body %d" % i)
    channel.queue_delete(queue)


def test_priorities_come_in_their_order(broker, channel, name):
    queue = name("q")
    fill(channel, queue, 6, arguments={"x-max-priority": 5})
    found = rows(broker, "browse", queue)
    assert ids(found) == ["m2", "m5", "m1", "m4", "m0", "m3"]
    assert [row["position"].split("/")[0] for row in found[:4]] == ["2", "2", "1", "1"]
    assert ids(rows(broker, "browse", queue, "--from", found[3]["position"])) == ["m4", "m0", "m3"]
    assert queue_command(broker, "delete", queue, found[0]["position"], found[4]["position"]) == "2 messages deleted\n"
    assert [channel.basic_get(queue, auto_ack=True)[1].message_id for _ in range(4)] == ["m5", "m1", "m4", "m3"]
    channel.queue_delete(queue)


def test_a_backlog_on_disk_is_read_through(own_broker, connect_to, name):
    broker, queue = own_broker(godwit=["--memory-limit", "1M"]), name("q")
    channel = connect_to(broker).channel()
    channel.queue_declare(queue, durable=True)
    for i in range(20000):
        channel.basic_publish("", queue, b"x" * 500, pika.BasicProperties(message_id=f"m{i}", delivery_mode=2, headers={"n": i}))
    channel.queue_declare(queue, passive=True)
    assert ids(rows(broker, "browse", queue, "--filter", "n IN (5, 9999, 19999)")) == ["m5", "m9999", "m19999"]
    assert len(rows(broker, "browse", queue, "--limit", "20000")) == 20000
    assert queue_command(broker, "delete", queue, "--filter", "n >= 10") == "19990 messages deleted\n"
    assert channel.queue_declare(queue, passive=True).method.message_count == 10


def test_holders(broker, connect_to, channel, name, eventually):
    queue = name("q")
    fill(channel, queue, 5)
    other = connect_to(broker)
    holding = other.channel()
    holding.basic_qos(prefetch_count=2)
    holding.basic_consume(queue, lambda *_: None, consumer_tag="worker")
    other.process_data_events(0.1)
    channel.basic_get(queue)
    assert eventually(lambda: len(rows(broker, "holders", queue)) == 3)
    found = rows(broker, "holders", queue)
    assert [row["consumer_tag"] for row in found] == ["worker", "worker", None]
    assert found[0]["connection"] == found[1]["connection"] != found[2]["connection"] and found[0]["delivery_tag"] == 1 and found[0]["user"] == "guest"
    states = rows(broker, "browse", queue)
    assert [row["state"] for row in states] == ["unacked"] * 3 + ["ready"] * 2
    assert queue_command(broker, "delete", queue, "--all") == "2 messages deleted\n"
    other.close()
    assert eventually(lambda: channel.queue_declare(queue, passive=True).method.message_count == 2)
    channel.queue_delete(queue)


def test_what_was_deleted_or_cancelled_is_gone_after_a_kill(own_broker, connect_to, name):
    broker, queue = own_broker(), name("q")
    channel = connect_to(broker).channel()
    fill(channel, queue, 20)
    for i in range(4):
        channel.basic_publish("", queue, b"later", pika.BasicProperties(message_id=f"late{i}", headers={"x-delay": 1500 + i}))
    late = rows(broker, "scheduled", queue)
    assert ids(late) == ["late0", "late1", "late2", "late3"] and all(row["state"] == "scheduled" for row in late)
    assert abs(late[0]["due"] / 1000 - time.time() - 1.5) < 1.4
    assert broker.control("list_queues", "name", "messages_scheduled").split()[-1] == "4"
    assert queue_command(broker, "cancel", queue, late[1]["position"], "256") == "1 messages cancelled\n"
    assert queue_command(broker, "cancel", queue, "--id", "late3") == "1 messages cancelled\n"
    assert queue_command(broker, "delete", queue, "--filter", "n < 15") == "15 messages deleted\n"
    broker.kill()
    broker.start()
    channel = connect_to(broker).channel()
    time.sleep(1.8)
    left = []
    while (message := channel.basic_get(queue, auto_ack=True))[0]:
        left.append(message[1].message_id)
    assert left == ["m15", "m16", "m17", "m18", "m19", "late0", "late2"]


def test_delayed_exchanges_show_what_they_hold(broker, channel, name):
    exchange, queue = name("x"), name("q")
    channel.exchange_declare(exchange, "x-delayed-message", arguments={"x-delayed-type": "direct"})
    channel.queue_declare(queue, exclusive=True)
    channel.queue_bind(queue, exchange, "k")
    channel.confirm_delivery()
    channel.basic_publish(exchange, "k", b"later", pika.BasicProperties(message_id="later", headers={"x-delay": 60000}))
    assert ids(rows(broker, "scheduled", exchange, "--exchange")) == ["later"]
    assert queue_command(broker, "cancel", exchange, "--exchange", "--all") == "1 messages cancelled\n"
    assert rows(broker, "scheduled", exchange, "--exchange") == []
    channel.exchange_delete(exchange)


def test_refusals(broker, channel, name):
    queue = name("q")
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "stream"})
    assert "a stream is not inspected" in queue_command(broker, "browse", queue, fails=True)
    channel.queue_delete(queue)
    assert "no queue" in queue_command(broker, "browse", queue, fails=True)
    assert "say which messages" in queue_command(broker, "delete", queue, fails=True)
    assert "is nothing that can be done" in queue_command(broker, "fold", queue, fails=True)
    assert "is not of the form" in queue_command(broker, "browse", queue, "--header", "x", fails=True)


def taken(channel, queue):
    found = []
    while (message := channel.basic_get(queue, auto_ack=True))[0]:
        found.append(message)
    return found


def test_messages_are_moved_and_copied_as_they_were(broker, channel, name):
    # Queues lie in different shards, most of them.
    queue, targets = name("q"), [name(f"t{i}") for i in range(6)]
    fill(channel, queue, 300)
    for i, target in enumerate(targets):
        channel.queue_declare(target, durable=True)
        assert queue_command(broker, "copy", queue, target, "--filter", "kind = 'odd'", "--limit", "10") == "10 messages copied\n"
        assert queue_command(broker, "move", queue, target, "--filter", f"n BETWEEN {i * 50} AND {i * 50 + 49}") == "50 messages moved\n"
        came = taken(channel, target)
        assert [message[1].message_id for message in came[10:]] == [f"m{n}" for n in range(i * 50, i * 50 + 50)]
        method, properties, body = came[10]
        assert (method.redelivered, method.exchange, method.routing_key, properties.headers["n"], body) == (False, "", queue, i * 50, b"body %d" % (i * 50))
        channel.queue_delete(target)
    assert channel.queue_declare(queue, passive=True).method.message_count == 0
    channel.queue_delete(queue)


def test_what_is_copied_stays_in_its_order(broker, channel, name):
    queue, target = name("q"), name("t")
    fill(channel, queue, 50)
    channel.queue_declare(target, durable=True)
    for _ in range(2):
        assert queue_command(broker, "copy", queue, target) == "50 messages copied\n"
    assert [message[1].message_id for message in taken(channel, target)] == [f"m{n}" for n in range(50)] * 2
    came = taken(channel, queue)
    assert [message[1].message_id for message in came] == [f"m{n}" for n in range(50)] and not any(message[0].redelivered for message in came)
    channel.queue_delete(queue)
    channel.queue_delete(target)


def test_dead_letters_are_replayed(broker, channel, name):
    dead, works = name("dead"), [name(f"work{i}") for i in range(3)]
    exchange = name("x")
    channel.exchange_declare(exchange, "topic")
    channel.queue_declare(dead, durable=True)
    channel.confirm_delivery()
    for i, work in enumerate(works):
        channel.queue_declare(work, durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead, "x-dedup-window": 600000})
        channel.queue_bind(work, exchange, f"order.{i}")
        for n in range(5):
            channel.basic_publish(exchange, f"order.{i}", b"body", pika.BasicProperties(message_id=f"{i}.{n}", delivery_mode=2))
        for _ in range(5):
            channel.basic_reject(channel.basic_get(work)[0].delivery_tag, requeue=False)
    channel.basic_publish("", dead, b"alive", pika.BasicProperties(message_id="alive"))
    for again in (1, 2):
        while channel.queue_declare(dead, passive=True).method.message_count < 16:
            time.sleep(0.01)
        begin = time.time()
        assert queue_command(broker, "replay", dead, "--rate", "50") == "15 messages replayed\n"
        assert time.time() - begin > 0.25
        for i, work in enumerate(works):
            for n in range(5):
                method, properties, _ = channel.basic_get(work)
                assert (properties.message_id, method.exchange, method.routing_key) == (f"{i}.{n}", exchange, f"order.{i}")
                assert properties.headers["x-replayed"] == again and properties.headers["x-death"][0]["count"] == again
                channel.basic_reject(method.delivery_tag, requeue=False)
    for queue in (dead, *works):
        channel.queue_delete(queue)
    channel.exchange_delete(exchange)


def test_a_full_queue_takes_nothing(broker, channel, name):
    queue, target = name("q"), name("t")
    fill(channel, queue, 20)
    fill(channel, target, 5, arguments={"x-max-length": 5, "x-overflow": "reject-publish"})
    assert "does not take them" in queue_command(broker, "move", queue, target, fails=True)
    assert channel.queue_declare(target, passive=True).method.message_count == 5
    came = taken(channel, queue)
    assert [message[1].message_id for message in came] == [f"m{n}" for n in range(20)] and not any(message[0].redelivered for message in came)
    assert "already" in queue_command(broker, "move", queue, queue, fails=True)
    assert "there is no queue" in queue_command(broker, "move", queue, "nowhere", fails=True)
    channel.queue_delete(queue)
    channel.queue_delete(target)


def test_a_kill_in_the_middle_leaves_each_message_in_one_place(own_broker, connect_to, name):
    broker, queue, targets = own_broker(), name("q"), [name(f"t{i}") for i in range(3)]
    channel = connect_to(broker).channel()
    fill(channel, queue, 3000)
    for target in targets:
        channel.queue_declare(target, durable=True)
    moving = [subprocess.Popen([godwit_binary(), "queue", "--uri", f"amqp://guest:guest@127.0.0.1:{broker.port}/", "move", queue, target, "--filter", f"n >= {i * 1000} AND n < {i * 1000 + 1000}"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for i, target in enumerate(targets)]
    time.sleep(0.05)
    broker.kill()
    for process in moving:
        process.wait(60)
    broker.start()
    channel = connect_to(broker).channel()
    found = []
    end = time.time() + 10
    while len(found) < 3000 and time.time() < end:
        for each in (queue, *targets):
            found += [message[1].message_id for message in taken(channel, each)]
    assert sorted(found) == sorted(f"m{n}" for n in range(3000))


def test_the_life_of_a_message(broker, connect_to, channel, name):
    queue = name("q")
    channel.queue_declare(queue, durable=True)
    assert "not traced" in queue_command(broker, "life", queue, "--id", "m1", fails=True)
    channel.basic_publish("", queue, b"before", pika.BasicProperties(message_id="before"))
    queue_command(broker, "trace", queue, "on")
    fill(channel, queue, 4)
    assert channel.basic_get(queue, auto_ack=True)[1].message_id == "before"
    consumer = connect_to(broker).channel()
    consumer.basic_qos(prefetch_count=1)
    seen = []
    for method, properties, _ in consumer.consume(queue):
        seen.append(properties.message_id)
        if properties.message_id == "m1" and len(seen) == 2:
            consumer.basic_reject(method.delivery_tag, requeue=True)
        elif properties.message_id == "m2":
            consumer.basic_reject(method.delivery_tag, requeue=False)
        else:
            consumer.basic_ack(method.delivery_tag)
        if len(seen) == 4:
            break
    consumer.cancel()
    queue_command(broker, "delete", queue, "--id", "m3")

    def life(message_id):
        return [row["event"] for row in rows(broker, "life", queue, "--id", message_id)]

    assert seen == ["m0", "m1", "m1", "m2"]
    assert life("m0") == ["accepted", "delivered", "acknowledged"]
    assert life("m1") == ["accepted", "delivered", "returned", "delivered", "acknowledged"]
    assert life("m2") == ["accepted", "delivered", "rejected"]
    assert life("m3")[0] == "accepted" and life("m3")[-1] == "deleted" and life("none") == []
    events = rows(broker, "life", queue, "--id", "m0")
    assert events[1]["channel"].startswith("<godwit.channel.") and abs(events[1]["time"] / 1000 - time.time()) < 30
    assert rows(broker, "life", queue, events[0]["position"]) == events
    queue_command(broker, "trace", queue, "off")
    assert "not traced" in queue_command(broker, "life", queue, "--id", "m0", fails=True)
    channel.queue_delete(queue)
