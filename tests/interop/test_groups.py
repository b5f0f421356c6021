"""x-group-key: messages of one key come one after the other, those of different keys side by side. RabbitMQ has nothing like it, so these run against Godwit alone."""
import collections
import json
import random
import threading
import time

import pika
import pytest

pytestmark = pytest.mark.godwit_only("RabbitMQ has no message groups")


def of(key, **more):
    return pika.BasicProperties(headers={"customer": key}, delivery_mode=2, **more)


@pytest.fixture
def grouped(channel, name):
    """grouped(arguments) declares a queue whose groups are customers, and publishes what is given: pairs of key and body."""

    def make(messages=(), **arguments):
        queue = name("q")
        channel.queue_declare(queue, exclusive=True, arguments={"x-group-key": "customer"} | {"x-" + a.replace("_", "-"): v for a, v in arguments.items()})
        channel.confirm_delivery()
        for key, body in messages:
            channel.basic_publish("", queue, body, pika.BasicProperties() if key is None else of(key))
        return queue

    return make


class Reader:
    """A consumer on a channel of its own, which settles nothing by itself."""

    def __init__(self, connection, queue, prefetch=1, **more):
        self.channel, self.got = connection.channel(), []
        self.channel.basic_qos(prefetch_count=prefetch)
        self.tag = self.channel.basic_consume(queue, lambda channel, method, properties, body: self.got.append((method, body)), **more)
        self.connection = connection

    def wait(self, count=1, limit_s=5):
        """The bodies that are held once there are that many."""
        end = time.time() + limit_s
        while len(self.got) < count and time.time() < end:
            self.connection.process_data_events(0.01)
        assert len(self.got) >= count, self.got
        return [body for _, body in self.got]

    def quiet(self, limit_s=0.15):
        self.connection.process_data_events(limit_s)
        return [body for _, body in self.got]

    def ack(self, index=0):
        self.channel.basic_ack(self.got.pop(index)[0].delivery_tag)

    def reject(self, index=0, requeue=True):
        self.channel.basic_reject(self.got.pop(index)[0].delivery_tag, requeue=requeue)


def test_a_key_is_at_one_consumer_at_a_time(connection, grouped):
    queue = grouped([("a", b"a1"), ("a", b"a2"), ("b", b"b1"), ("a", b"a3"), ("c", b"c1")])
    one, two, three = (Reader(connection, queue) for _ in range(3))
    assert (one.wait(), two.wait(), three.wait()) == ([b"a1"], [b"b1"], [b"c1"])
    two.ack()
    assert two.quiet() == []          # a is the first consumer's
    one.ack()
    assert one.quiet() + two.quiet() == [b"a2"]


def test_it_sticks_up_to_the_prefetch(connection, grouped):
    queue = grouped([("a", b"a%d" % i) for i in range(6)])
    one, two = Reader(connection, queue, prefetch=3), Reader(connection, queue, prefetch=3)
    assert one.wait(3) == [b"a0", b"a1", b"a2"]
    one.ack()
    assert one.wait(3) == [b"a1", b"a2", b"a3"]
    assert two.quiet() == []
    one.channel.basic_cancel(one.tag)
    for _ in range(3):
        assert two.quiet() == []
        one.ack()
    assert two.wait(2) == [b"a4", b"a5"]


def test_what_came_back_comes_before_later_ones(connection, grouped):
    queue = grouped([("a", b"a%d" % i) for i in range(5)] + [("b", b"b0")])
    one, two = Reader(connection, queue, prefetch=3), Reader(connection, queue, prefetch=5)
    assert one.wait(3) == [b"a0", b"a1", b"a2"]
    assert two.wait() == [b"b0"]
    one.reject(1)
    assert (one.quiet(), two.quiet()) == ([b"a0", b"a2"], [b"b0"])   # until nothing of it is in flight
    one.ack()
    assert (one.quiet(), two.quiet()) == ([b"a2"], [b"b0"])
    one.channel.basic_cancel(one.tag)
    one.ack()
    assert two.wait(4) == [b"b0", b"a1", b"a3", b"a4"]
    assert [method.redelivered for method, _ in two.got] == [False, True, False, False]


def test_a_consumer_that_vanishes_gives_back_in_order(connect, connection, grouped, channel, name):
    queue = name("q")
    channel.queue_declare(queue, arguments={"x-group-key": "customer"})
    for i in range(6):
        channel.basic_publish("", queue, b"a%d" % i, of("a"))
    other = connect()
    one, two = Reader(other, queue, prefetch=4), Reader(connection, queue, prefetch=10)
    if not two.quiet():
        assert one.wait(4) == [b"a0", b"a1", b"a2", b"a3"]
        other.close()
    assert two.wait(6) == [b"a%d" % i for i in range(6)]
    channel.queue_delete(queue)


def test_messages_without_a_key_are_anybodys(connection, grouped):
    queue = grouped([(None, b"1"), (None, b"2"), ("", b"3"), ([1], b"4")])
    readers = [Reader(connection, queue) for _ in range(4)]
    assert [reader.wait() for reader in readers] == [[b"1"], [b"2"], [b"3"], [b"4"]]
    readers[1].reject()
    assert sum((reader.wait() for reader in readers), []) and sorted(b for r in readers for b in r.quiet()) == [b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("same", [[5, "5", 5, "5"], [-7, "-7"], [2**40, str(2**40)], [True, "true"]])
def test_numbers_and_their_texts_are_one_key(connection, grouped, same):
    queue = grouped([(key, b"x") for key in same])
    one, two = Reader(connection, queue, prefetch=1), Reader(connection, queue, prefetch=1)
    assert (one.wait(), two.quiet()) == ([b"x"], [])


@pytest.mark.parametrize("which", ["routing-key", "correlation-id", "user-id", "message-id", "reply-to", "type", "app-id"])
def test_properties_may_be_the_key(connection, channel, name, which):
    queue, fanout = name("q"), name("x")
    channel.queue_declare(queue, exclusive=True, arguments={"x-group-key": "property:" + which})
    channel.exchange_declare(fanout, "fanout", auto_delete=True)
    channel.queue_bind(queue, fanout)
    for i, key in enumerate(["guest", "guest"] if which == "user-id" else ["guest", "guest", "other"]):
        properties = {} if which == "routing-key" else {which.replace("-", "_"): key}
        channel.basic_publish(fanout, key, b"%d" % i, pika.BasicProperties(**properties))
    one, two = Reader(connection, queue), Reader(connection, queue)
    assert (one.wait(), two.quiet()) == ([b"0"], [] if which == "user-id" else [b"2"])


def test_a_get_takes_the_next_that_may_be_had(connection, channel, grouped):
    queue = grouped([("a", b"a1"), ("a", b"a2"), ("b", b"b1")])
    method, _, body = channel.basic_get(queue)
    assert body == b"a1"
    assert channel.basic_get(queue)[2] == b"b1"
    assert channel.basic_get(queue)[0] is None
    channel.basic_ack(method.delivery_tag)
    assert channel.basic_get(queue, auto_ack=True)[2] == b"a2"


def test_without_acknowledgement_nothing_is_in_flight(connection, channel, grouped):
    queue = grouped([("a", b"%d" % i) for i in range(50)])
    assert [channel.basic_get(queue, auto_ack=True)[2] for _ in range(10)] == [b"%d" % i for i in range(10)]
    reader = Reader(connection, queue, auto_ack=True)
    assert reader.wait(40) == [b"%d" % i for i in range(10, 50)]


def test_fair_keys_take_turns(connection, grouped):
    flood = [("flood", b"f%d" % i) for i in range(200)]
    few = [("b", b"b0"), ("b", b"b1"), ("c", b"c0")]
    reader = Reader(connection, grouped(flood + few, group_fair=True), prefetch=300)
    assert reader.wait(203)[:7] == [b"f0", b"b0", b"c0", b"f1", b"b1", b"f2", b"f3"]
    reader = Reader(connection, grouped(flood + few), prefetch=300)
    assert reader.wait(203)[-3:] == [b"b0", b"b1", b"c0"]


def test_dead_letters_leave_their_key(connection, channel, grouped, name):
    dead = name("dead")
    channel.queue_declare(dead, exclusive=True)
    queue = grouped([("a", b"a1"), ("a", b"a2"), ("a", b"a3")], dead_letter_exchange="", dead_letter_routing_key=dead)
    reader = Reader(connection, queue)
    assert reader.wait() == [b"a1"]
    reader.reject(requeue=False)
    assert reader.wait() == [b"a2"]
    reader.ack()
    assert reader.wait() == [b"a3"]
    assert channel.basic_get(dead, auto_ack=True)[2] == b"a1"


def test_what_expires_is_passed_over(connection, channel, grouped):
    queue = grouped()
    for key, body, ms in [("a", b"a1", None), ("a", b"a2", "100"), ("a", b"a3", None), ("b", b"b1", "100")]:
        channel.basic_publish("", queue, body, of(key, expiration=ms))
    one = Reader(connection, queue)
    assert one.wait() == [b"a1"]
    time.sleep(0.2)
    one.ack()
    assert one.wait() == [b"a3"]
    one.ack()
    assert one.quiet() == []


def test_the_longest_first_go_when_the_queue_is_full(connection, grouped):
    queue = grouped([("a", b"a%d" % i) for i in range(10)] + [("b", b"b0")], max_length=3)
    assert Reader(connection, queue, prefetch=9).wait(3) == [b"a8", b"a9", b"b0"]


def test_scheduled_ones_are_in_order_of_their_times(connection, channel, grouped):
    queue = grouped()
    for body, ms in [(b"late", 300), (b"soon", 100)]:
        channel.basic_publish("", queue, body, pika.BasicProperties(headers={"customer": "a", "x-delay": ms}))
    channel.basic_publish("", queue, b"now", of("a"))
    reader = Reader(connection, queue, prefetch=5)
    assert reader.wait(3) == [b"now", b"soon", b"late"]


def test_a_purge_leaves_what_is_in_flight(connection, channel, grouped):
    queue = grouped([("a", b"a1"), ("a", b"a2"), ("b", b"b1")])
    one = Reader(connection, queue)
    assert one.wait() == [b"a1"]
    channel.queue_purge(queue)
    two = Reader(connection, queue)
    channel.basic_publish("", queue, b"a3", of("a"))
    channel.basic_publish("", queue, b"b2", of("b"))
    assert (two.wait(), one.quiet()) == ([b"b2"], [b"a1"])
    two.ack()
    assert two.quiet() == []
    one.ack()
    assert [body for body in one.quiet() + two.quiet()] == [b"a3"]


def test_a_quorum_queue_counts_what_comes_back(connection, channel, name):
    queue = name("q")
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum", "x-group-key": "customer", "x-delivery-limit": 2})
    for i in range(3):
        channel.basic_publish("", queue, b"a%d" % i, of("a"))
    reader = Reader(connection, queue)
    for _ in range(3):
        assert reader.wait() == [b"a0"]
        reader.reject()
    assert reader.wait() == [b"a1"]
    channel.queue_delete(queue)


def test_what_waits_for_its_time_holds_up_its_key_alone(connection, grouped):
    queue = grouped([("a", b"a1"), ("a", b"a2"), ("b", b"b1")], retry_backoff="500ms")
    one, two = Reader(connection, queue), Reader(connection, queue)
    assert (one.wait(), two.wait()) == ([b"a1"], [b"b1"])
    begin = time.time()
    one.reject()
    two.ack()
    assert one.quiet() + two.quiet() == []
    while not one.got and not two.got:
        connection.process_data_events(0.01)
    assert 0.5 <= time.time() - begin < 3
    assert one.quiet() + two.quiet() == [b"a1"]
    (one if one.got else two).ack()
    assert one.quiet() + two.quiet() == [b"a2"]


def test_it_does_so_over_a_kill(own_broker, connect_to, name):
    broker, queue = own_broker(), name("q")
    channel = connect_to(broker).channel()
    channel.queue_declare(queue, durable=True, arguments={"x-group-key": "customer", "x-retry-backoff": "3s"})
    channel.confirm_delivery()
    for key, body in [("a", b"a1"), ("a", b"a2"), ("b", b"b1")]:
        channel.basic_publish("", queue, body, of(key))
    channel.basic_reject(channel.basic_get(queue)[0].delivery_tag)
    begin = time.time()
    channel.basic_publish("", queue, b"a3", of("a"))   # by when this is confirmed the log has the rejection
    broker.kill()
    broker.start()
    channel = connect_to(broker).channel()
    assert channel.basic_get(queue, auto_ack=True)[2] == b"b1"
    assert channel.basic_get(queue)[0] is None
    bodies = []
    while len(bodies) < 3:
        method, _, body = channel.basic_get(queue)
        if method:
            assert time.time() - begin >= 3
            bodies.append(body)
            channel.basic_ack(method.delivery_tag)
        time.sleep(0.02)
    assert bodies == [b"a1", b"a2", b"a3"]


def test_one_active_consumer_keeps_keys_in_order_when_it_goes(connection, grouped):
    queue = grouped([("a", b"a1"), ("a", b"a2"), ("b", b"b1")], single_active_consumer=True)
    one, two = Reader(connection, queue), Reader(connection, queue, prefetch=5)
    assert (one.wait(), two.quiet()) == ([b"a1"], [])
    one.channel.basic_cancel(one.tag)
    assert two.wait() == [b"b1"]
    one.ack()
    assert two.wait(2) == [b"b1", b"a2"]


def test_a_policy_makes_groups_of_what_is_there(broker, connection, channel, name):
    queue = name("q")
    channel.queue_declare(queue, exclusive=True)
    for key, body in [("a", b"a1"), ("a", b"a2"), ("b", b"b1"), ("a", b"a3")]:
        channel.basic_publish("", queue, body, of(key))
    one = Reader(connection, queue)
    assert one.wait() == [b"a1"]
    broker.control("set_policy", "--apply-to", "queues", "groups", f"^{queue}$", json.dumps({"group-key": "customer"}))
    two = Reader(connection, queue, prefetch=3)
    assert two.wait() == [b"b1"]
    assert two.quiet() == [b"b1"]
    broker.control("clear_policy", "groups")
    assert two.wait(3) == [b"b1", b"a2", b"a3"]
    assert one.got[0][1] == b"a1"


def test_the_list_of_queues_tells_of_keys(broker, connection, grouped):
    queue = grouped([("a", b"a1"), ("a", b"a2"), ("b", b"b1"), ("c", b"c1"), (None, b"none")])
    reader = Reader(connection, queue, prefetch=2)
    assert reader.wait(2) == [b"a1", b"a2"]
    reader.ack()
    assert reader.wait(2) == [b"a2", b"b1"]
    rows = [line.split("\t") for line in broker.control("list_queues", "name", "group_keys", "group_keys_held").splitlines()]
    assert [queue, "3", "2"] in rows


def test_filters_and_groups_exclude_each_other(broker, connection, channel, name, expect_close, eventually):
    queue, cancelled = name("q"), []
    channel.queue_declare(queue, exclusive=True)
    for body in (b"a1", b"a2"):
        channel.basic_publish("", queue, body, of("a"))
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    channel.basic_qos(prefetch_count=1)
    tag = channel.basic_consume(queue, lambda *got: None, arguments={"x-filter": "customer = 'a'"})
    broker.control("set_policy", "--apply-to", "queues", "groups", f"^{queue}$", json.dumps({"group-key": "customer"}))
    assert eventually(lambda: connection.process_data_events(0.05) or cancelled == [tag])
    reader = Reader(connection, queue)
    assert reader.quiet() == []          # a1 is in flight still
    channel.basic_ack(1)
    assert reader.wait() == [b"a2"]
    broker.control("clear_policy", "groups")
    queue = name("q2")
    channel.queue_declare(queue, exclusive=True, arguments={"x-group-key": "customer"})
    expect_close(406, f"invalid arg 'x-filter' for queue '{queue}' in vhost '/': filter_but_group_key_defined")(
        channel.basic_consume, queue, lambda *got: None, arguments={"x-filter": "customer = 'a'"})


@pytest.mark.parametrize("arguments, text", [
    ({"x-group-key": 5}, "invalid arg 'x-group-key' for queue '{q}' in vhost '/': {{unacceptable_type,"),
    ({"x-group-key": ""}, "invalid arg 'x-group-key' for queue '{q}' in vhost '/': \"unsupported group key ''\""),
    ({"x-group-key": "property:priority"}, "invalid arg 'x-group-key' for queue '{q}' in vhost '/': \"unsupported group key 'property:priority'\""),
    ({"x-group-key": "a", "x-max-priority": 5}, "invalid arg 'x-group-key' for queue '{q}' in vhost '/': \"a queue has groups or priorities, not both\""),
    ({"x-group-fair": True}, "invalid arg 'x-group-fair' for queue '{q}' in vhost '/': group_fair_but_no_group_key_defined"),
    ({"x-group-key": "a", "x-group-fair": "yes"}, "invalid arg 'x-group-fair' for queue '{q}' in vhost '/': {{unacceptable_type,longstr}}"),
    ({"x-group-key": "a", "x-queue-type": "stream"}, "invalid arg 'x-group-key' for queue '{q}' in vhost '/' of queue type rabbit_stream_queue"),
])
def test_what_makes_no_sense_is_refused(channel, name, expect_close, arguments, text):
    queue = name("q")
    expect_close(406, "PRECONDITION_FAILED - " + text.format(q=queue))(channel.queue_declare, queue, durable=True, arguments=arguments)


def test_it_is_part_of_the_declaration(channel, name, expect_close):
    queue = name("q")
    channel.queue_declare(queue, exclusive=True, arguments={"x-group-key": "customer"})
    channel.queue_declare(queue, exclusive=True, arguments={"x-group-key": "customer"})
    expect_close(406, f"inequivalent arg 'x-group-key' for queue '{queue}' in vhost '/': received none but current is the value 'customer' of type 'longstr'")(
        channel.queue_declare, queue, exclusive=True)


def work(broker, connect_to, queue, seed, log, lock, stop):
    """A worker that acknowledges, gives back, and vanishes now and then."""
    draw = random.Random(seed)
    while not stop.is_set():
        try:
            connection = connect_to(broker)
            channel = connection.channel()
            prefetch = draw.choice([1, 3, 10])
            channel.basic_qos(prefetch_count=prefetch)
            for method, properties, body in channel.consume(queue, inactivity_timeout=0.05):
                if method:
                    key, number = properties.headers["customer"], int(body)
                    with lock:
                        log.append(("got", seed, key, number))
                    if prefetch == 1 and draw.random() < 0.1:   # otherwise later ones of the key may be here already
                        channel.basic_reject(method.delivery_tag)
                    else:
                        with lock:
                            log.append(("done", seed, key, number))
                        channel.basic_ack(method.delivery_tag)
                if stop.is_set() or draw.random() < 0.003:
                    break
            connection.close()
        except pika.exceptions.AMQPError:
            time.sleep(0.05)


def test_every_key_is_in_order_over_kills_and_vanishing_consumers(own_broker, connect_to, name):
    broker, queue = own_broker(), name("q")
    keys, each = 20, 60
    channel = connect_to(broker).channel()
    channel.queue_declare(queue, durable=True, arguments={"x-group-key": "customer"})
    channel.confirm_delivery()
    for number in range(each):
        for key in range(keys):
            channel.basic_publish("", queue, b"%d" % number, of(key))
    log, lock, stop = [], threading.Lock(), threading.Event()
    threads = [threading.Thread(target=work, args=(broker, connect_to, queue, seed, log, lock, stop)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        time.sleep(1)
        broker.kill()
        broker.start()
    end = time.time() + 60
    while time.time() < end and len({(e[2], e[3]) for e in list(log) if e[0] == "done"}) < keys * each:
        time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    done = collections.defaultdict(set)
    for event in log:
        if event[0] == "got":
            assert all(number in done[event[2]] for number in range(event[3])), event   # whatever came before it was done before
        elif event[0] == "done":
            done[event[2]].add(event[3])
    assert all(done[key] == set(range(each)) for key in range(keys))
