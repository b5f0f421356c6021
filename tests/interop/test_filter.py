"""x-filter: consumers that want only some of a queue's messages. RabbitMQ has nothing like it for AMQP 0-9-1, so these run against Godwit alone."""
import time

import pika
import pytest

pytestmark = pytest.mark.godwit_only("RabbitMQ's consumers cannot filter")

SMALL_MEMORY = ["--memory-limit", "32Mi", "--reactors", "1"]


def put(channel, queue, *messages, persistent=False, **properties):
    """Publishes bodies with their headers: (b"body", {"region": "eu"})."""
    for body, headers in messages:
        channel.basic_publish("", queue, body, pika.BasicProperties(headers=headers, delivery_mode=2 if persistent else 1, **properties))


class Taker:
    """A consumer that keeps what it gets."""

    def __init__(self, channel, queue, wanted, **more):
        self.channel, self.got = channel, []
        arguments = {**({"x-filter": wanted} if wanted is not None else {}), **more.pop("arguments", {})}
        self.tag = channel.basic_consume(queue, self.take, arguments=arguments, **more)

    def take(self, _, method, properties, body):
        self.got.append((method, properties, body))

    def bodies(self, count, limit_s=10):
        """When that many have come, and no more for a moment."""
        end = time.time() + limit_s
        while len(self.got) < count and time.time() < end:
            self.channel.connection.process_data_events(0.01)
        self.channel.connection.process_data_events(0.05)
        return [body for _, _, body in self.got]


@pytest.fixture
def regions(channel, name):
    """A queue with ten messages of two regions, and a weight each."""
    queue = name()
    channel.queue_declare(queue, exclusive=True)
    channel.confirm_delivery()
    put(channel, queue, *((b"%d" % i, {"region": "eu" if i % 2 else "us", "weight": i}) for i in range(10)))
    return queue


@pytest.mark.parametrize("wanted, expected", [
    ("region = 'eu'", [1, 3, 5, 7, 9]), ({"region": "us"}, [0, 2, 4, 6, 8]), ({"region": "eu", "weight": 7}, [7]), ("weight BETWEEN 3 AND 5", [3, 4, 5]),
    ("region IN ('eu', 'uk') AND NOT weight > 4", [1, 3]), ("properties.body_size = 1 AND region LIKE 'u%'", [0, 2, 4, 6, 8]), ("missing IS NOT NULL", []), ("TRUE", list(range(10))),
    ({}, list(range(10)))])
def test_a_consumer_gets_what_it_wants_and_the_rest_stays(channel, regions, wanted, expected):
    taker = Taker(channel, regions, wanted)
    assert taker.bodies(len(expected)) == [b"%d" % i for i in expected]
    assert not any(method.redelivered for method, _, _ in taker.got)
    if taker.got:
        channel.basic_ack(taker.got[-1][0].delivery_tag, multiple=True)
    assert channel.queue_declare(regions, passive=True).method.message_count == 10 - len(expected)
    channel.basic_cancel(taker.tag)
    everything = Taker(channel, regions, None, auto_ack=True)
    assert everything.bodies(10 - len(expected)) == [b"%d" % i for i in range(10) if i not in expected]


def test_what_nobody_wants_holds_nobody_up(channel, name):
    queue = name()
    channel.queue_declare(queue, exclusive=True)
    channel.basic_qos(prefetch_count=2)
    taker = Taker(channel, queue, "kind = 'b'")
    put(channel, queue, *((b"%d" % i, {"kind": "ab"[i % 2]}) for i in range(2000)))
    for i in range(1000):
        body = taker.bodies(i + 1)[i] if len(taker.got) <= i else taker.got[i][2]
        assert body == b"%d" % (2 * i + 1)
        channel.basic_ack(taker.got[i][0].delivery_tag)
    assert channel.queue_declare(queue, passive=True).method.message_count == 1000


def test_each_message_goes_to_one_of_those_who_want_it(connect, name):
    channels = [connect().channel() for _ in range(3)]
    takers, queue = [], name()
    channels[0].queue_declare(queue)
    for channel, wanted in zip(channels, ("weight < 60", "weight < 60", "weight >= 40")):
        takers.append(Taker(channel, queue, wanted))
    put(channels[0], queue, *((b"%d" % i, {"weight": i}) for i in range(100)))
    end = time.time() + 10
    while sum(len(taker.got) for taker in takers) < 100 and time.time() < end:
        for channel in channels:
            channel.connection.process_data_events(0.01)
    assert sorted(int(body) for taker in takers for _, _, body in taker.got) == list(range(100))
    for taker in takers:
        numbers = [int(body) for _, _, body in taker.got]
        assert numbers == sorted(numbers)
    assert all(int(body) < 60 for taker in takers[:2] for _, _, body in taker.got) and all(int(body) >= 40 for _, _, body in takers[2].got)
    assert all(len(taker.got) >= 20 for taker in takers)
    channels[0].queue_delete(queue)


def test_what_comes_back_is_found_again_in_its_place(channel, regions):
    channel.basic_qos(prefetch_count=3)
    taker = Taker(channel, regions, "region = 'eu'")
    assert taker.bodies(3) == [b"1", b"3", b"5"]
    channel.basic_nack(taker.got[0][0].delivery_tag, multiple=False, requeue=True)
    assert taker.bodies(4) == [b"1", b"3", b"5", b"1"] and taker.got[3][0].redelivered
    channel.basic_ack(0, multiple=True)
    assert taker.bodies(6)[4:] == [b"7", b"9"]


def test_what_a_lost_consumer_held_goes_to_the_next(connect, name):
    first, second = connect().channel(), connect().channel()
    queue = name()
    second.queue_declare(queue)
    put(second, queue, *((b"%d" % i, {"kind": "ab"[i % 2]}) for i in range(100)))
    lost = Taker(first, queue, "kind = 'b'")
    assert len(lost.bodies(50)) == 50
    waits = Taker(second, queue, "kind = 'b'")
    assert waits.bodies(0) == []
    first.connection.close()
    assert waits.bodies(50) == [b"%d" % i for i in range(1, 100, 2)] and all(method.redelivered for method, _, _ in waits.got)
    second.queue_delete(queue)


def test_gets_and_consumers_without_a_filter_take_anything(channel, regions):
    filtered = Taker(channel, regions, "weight >= 5", auto_ack=True)
    assert len(filtered.bodies(5)) == 5
    assert channel.basic_get(regions, auto_ack=True)[2] == b"0"
    anything = Taker(channel, regions, None, auto_ack=True)
    assert anything.bodies(4) == [b"1", b"2", b"3", b"4"]
    put(channel, regions, (b"light", {"weight": 1}))
    assert anything.bodies(5)[-1] == b"light"


@pytest.mark.parametrize("wanted, why", [
    ("weight >", "invalid arg 'x-filter' for queue '{}' in vhost '/': at character 9: something is missing at the end"),
    ("properties.colour = 1", "at character 1: messages have no such property"), ("region = 'eu", "the text has no end"), ("a AND " * 1000 + "a", "x-filter"), (7, "{{unacceptable_type,signedint}}"),
    ({"list": [1]}, "the header 'list' is neither a text nor a number nor a boolean"), ("", "x-filter")])
def test_what_is_no_filter_is_refused(channel, regions, expect_close, wanted, why):
    expect_close(406, why.format(regions))(channel.basic_consume, regions, lambda *_: None, arguments={"x-filter": wanted})


def test_priorities_count_among_what_matches(channel, name):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-max-priority": 10})
    for i in range(12):
        put(channel, queue, (b"%d" % i, {"even": i % 2 == 0}), priority=i % 6)
    taker = Taker(channel, queue, "even", auto_ack=True)
    assert taker.bodies(6) == [b"4", b"10", b"2", b"8", b"0", b"6"]
    assert channel.basic_get(queue)[2] == b"5"


def test_the_higher_consumer_comes_first(channel, regions):
    high = Taker(channel, regions, "weight < 5", arguments={"x-priority": 5})
    low = Taker(channel, regions, "weight < 8")
    assert high.bodies(5) == [b"%d" % i for i in range(5)] and low.bodies(3) == [b"5", b"6", b"7"]
    put(channel, regions, *((b"new", {"weight": 1}) for _ in range(4)))
    assert high.bodies(9)[5:] == [b"new"] * 4 and len(low.bodies(3)) == 3


def test_expired_messages_are_for_nobody(channel, name):
    queue, dead = name(), name("dead")
    channel.queue_declare(dead, exclusive=True)
    channel.queue_declare(queue, exclusive=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    put(channel, queue, (b"stays", {"kind": "a"}))
    put(channel, queue, (b"dies", {"kind": "b"}), expiration="100")
    put(channel, queue, (b"lives", {"kind": "b"}))
    time.sleep(0.2)
    taker = Taker(channel, queue, "kind = 'b'")
    assert taker.bodies(1) == [b"lives"]
    assert channel.basic_get(dead, auto_ack=True)[2] == b"dies"


def test_a_quorum_queue_counts_what_comes_back(channel, name):
    queue = name()
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 2})
    put(channel, queue, (b"a", {"kind": "a"}), (b"b", {"kind": "b"}), persistent=True)
    taker = Taker(channel, queue, {"kind": "b"})
    for times in range(3):
        taker.bodies(times + 1)
        assert (taker.got[times][1].headers.get("x-delivery-count", 0), taker.got[times][2]) == (times, b"b")
        channel.basic_nack(taker.got[times][0].delivery_tag, requeue=True)
    assert len(taker.bodies(3)) == 3
    channel.basic_cancel(taker.tag)
    assert channel.queue_delete(queue).method.message_count == 1


def test_a_single_active_consumer_may_have_one(channel, name):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-single-active-consumer": True})
    first, second = Taker(channel, queue, "kind = 'a'", auto_ack=True), Taker(channel, queue, "kind = 'b'", auto_ack=True)
    put(channel, queue, *((b"%d" % i, {"kind": "ab"[i % 2]}) for i in range(10)))
    assert first.bodies(5) == [b"0", b"2", b"4", b"6", b"8"] and second.bodies(0) == []
    channel.basic_cancel(first.tag)
    assert second.bodies(5) == [b"1", b"3", b"5", b"7", b"9"]


def test_what_other_shards_dead_letter_is_found(channel, name):
    """Dead letters come late to their queue: a cursor may have gone ahead of their places."""
    dead = name("dead")
    channel.queue_declare(dead, exclusive=True)
    sources = [name(f"source{i}") for i in range(8)]
    taker = Taker(channel, dead, "kind = 'b'", auto_ack=True)
    for source in sources:
        channel.queue_declare(source, exclusive=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead, "x-message-ttl": 1})
    for i in range(400):
        put(channel, sources[i % 8], (b"%d" % i, {"kind": "ab"[i // 8 % 2]}))
    assert sorted(int(body) for body in taker.bodies(200)) == [i for i in range(400) if i // 8 % 2]
    assert not any(method.redelivered for method, _, _ in taker.got)


def test_a_stream_is_filtered_by_the_broker(channel, name):
    queue = name()
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "stream"})
    channel.confirm_delivery()
    put(channel, queue, *((b"%d" % i, {"region": "eu" if i % 100 == 0 else "us", "weight": i}) for i in range(3000)), persistent=True)
    channel.basic_qos(prefetch_count=50)
    taker = Taker(channel, queue, "region = 'eu' AND weight >= 500", arguments={"x-stream-offset": "first"})
    assert taker.bodies(25) == [b"%d" % i for i in range(500, 3000, 100)]
    assert [properties.headers["x-stream-offset"] for _, properties, _ in taker.got] == list(range(500, 3000, 100))
    put(channel, queue, (b"later", {"region": "eu", "weight": 9999}), persistent=True)
    assert taker.bodies(26)[-1] == b"later"
    channel.queue_delete(queue)


def test_a_stream_may_use_both_kinds_of_filter(channel, name):
    queue = name()
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "stream"})
    put(channel, queue, *((b"%d" % i, {"x-stream-filter-value": "ab"[i % 2], "weight": i}) for i in range(100)), persistent=True)
    channel.basic_qos(prefetch_count=100)
    taker = Taker(channel, queue, "weight >= 90", arguments={"x-stream-offset": "first", "x-stream-filter": "b"})
    assert taker.bodies(5) == [b"91", b"93", b"95", b"97", b"99"]
    channel.queue_delete(queue)


def test_a_backlog_on_disk_is_looked_through_more_than_once(own_broker, connect_to, name):
    broker, queue, count = own_broker(godwit=SMALL_MEMORY), name(), 200_000
    channel = connect_to(broker).channel()
    channel.queue_declare(queue, durable=True)
    for i in range(count):
        channel.basic_publish("", queue, b"%07d" % i + b"." * 500, pika.BasicProperties(headers={"kind": f"k{i % 1000}", "number": i}, delivery_mode=2))
    channel.basic_qos(prefetch_count=100)
    expected = [b"%07d" % i for i in range(7, count, 1000)]
    for turn in range(3):
        taker = Taker(channel, queue, {"kind": "k7"} if turn else "kind = 'k7'")
        for i, number in enumerate(expected):
            if len(taker.got) <= i:
                taker.bodies(i + 1)
            assert taker.got[i][2][:7] == number
            if turn == 2:
                channel.basic_ack(taker.got[i][0].delivery_tag)
            elif i >= 99:
                break
        assert len(taker.got) >= min(100, len(expected))
        channel.basic_cancel(taker.tag)
        channel.basic_recover(requeue=True) if turn < 2 else None
    assert channel.queue_declare(queue, passive=True).method.message_count == count - len(expected)
    few = Taker(channel, queue, "number >= 199990", auto_ack=True)
    assert [int(body[:7]) for body in few.bodies(10)] == list(range(199990, 200000))


def test_after_a_kill_what_was_acknowledged_is_gone_and_the_rest_is_found(own_broker, connect_to, name):
    broker, queue = own_broker(), name()
    channel = connect_to(broker).channel()
    channel.queue_declare(queue, durable=True)
    channel.tx_select()
    put(channel, queue, *((b"%d" % i, {"kind": "ab"[i % 2]}) for i in range(1000)), persistent=True)
    channel.tx_commit()
    channel.basic_qos(prefetch_count=10)
    taker = Taker(channel, queue, "kind = 'b'")
    assert len(taker.bodies(10)) == 10
    channel.basic_ack(taker.got[4][0].delivery_tag, multiple=True)
    channel.tx_commit()
    broker.kill()
    broker.start()
    channel = connect_to(broker).channel()
    again = Taker(channel, queue, "kind = 'b'")
    assert again.bodies(495) == [b"%d" % i for i in range(11, 1000, 2)] and again.got[0][0].redelivered
    assert channel.queue_declare(queue, passive=True).method.message_count == 500


def test_what_was_scheduled_is_found_when_it_is_due_and_what_comes_at_once_too(channel, name):
    queue = name()
    channel.queue_declare(queue, exclusive=True)
    taker = Taker(channel, queue, "kind = 'b'", auto_ack=True)
    put(channel, queue, (b"later", {"kind": "b", "x-delay": 300}), (b"never", {"kind": "a", "x-delay": 100}), (b"now", {"kind": "b"}))
    assert taker.bodies(1) == [b"now"]
    assert taker.bodies(2) == [b"now", b"later"]
    put(channel, queue, (b"again", {"kind": "b"}))
    assert taker.bodies(3)[2] == b"again"
    assert channel.basic_get(queue)[2] == b"never"


def test_what_is_tried_again_later_is_found_then(channel, name):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-retry-backoff": "300ms"})
    taker = Taker(channel, queue, "kind = 'b'")
    put(channel, queue, *((b"%d" % i, {"kind": "ab"[i % 2]}) for i in range(6)))
    assert taker.bodies(3) == [b"1", b"3", b"5"]
    begin = time.time()
    channel.basic_reject(taker.got[0][0].delivery_tag, requeue=True)
    assert taker.bodies(4)[3] == b"1" and time.time() - begin >= 0.3 and taker.got[3][0].redelivered


def test_a_policy_that_gives_groups_ends_consumers_with_filters(channel, name, broker):
    queue, ended = name(), []
    channel.queue_declare(queue, exclusive=True)
    channel.add_on_cancel_callback(ended.append)
    Taker(channel, queue, "kind = 'b'")
    anything = Taker(channel, queue, None, auto_ack=True)
    broker.control("set_policy", "grouped", f"^{queue}$", '{"group-key": "kind"}')
    end = time.time() + 10
    while not ended and time.time() < end:
        channel.connection.process_data_events(0.01)
    broker.control("clear_policy", "grouped")
    put(channel, queue, (b"a", {"kind": "a"}), (b"b", {"kind": "b"}))
    assert len(ended) == 1 and anything.bodies(2) == [b"a", b"b"]


def test_a_queue_with_groups_takes_no_filters(channel, name, expect_close):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-group-key": "kind"})
    expect_close(406, f"invalid arg 'x-filter' for queue '{queue}' in vhost '/': filter_but_group_key_defined")(
        channel.basic_consume, queue, lambda *_: None, arguments={"x-filter": "kind = 'a'"})
