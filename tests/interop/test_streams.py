"""Streams over AMQP 0-9-1: queues that keep what they were given, read from any offset, by many."""
import datetime
import os
import time

import pika
import pika.spec as spec
import pytest

STREAM = {"x-queue-type": "stream"}


@pytest.fixture(scope="module", autouse=True)
def feature_flags(broker, against):
    """RabbitMQ has streams behind a feature flag until all of them are on."""
    if against == "rabbitmq" and hasattr(broker, "control"):
        broker.control("enable_feature_flag", "all")


@pytest.fixture
def stream(connection, name):
    """A stream of this test."""
    channel = connection.channel()
    queue = channel.queue_declare(name("s"), durable=True, arguments=STREAM).method.queue
    yield queue
    connection.channel().queue_delete(queue)


def fill(connection, queue, count, first=0, exchange="", key=None, **properties):
    """Numbers as bodies, each confirmed, so that the next one comes later."""
    channel = connection.channel()
    channel.confirm_delivery()
    for index in range(first, first + count):
        channel.basic_publish(exchange, queue if key is None else key, b"%d" % index, spec.BasicProperties(**properties))
    channel.close()


class Reader:
    """Consumes from an offset on a channel of its own and acknowledges what came."""

    def __init__(self, connection, queue, offset=None, prefetch=100, ack=True, **arguments):
        self.connection, self.messages, self.ack = connection, [], ack
        self.channel = connection.channel()
        self.channel.basic_qos(prefetch_count=prefetch)
        if offset is not None:
            arguments["x-stream-offset"] = offset
        self.tag = self.channel.basic_consume(queue, self.on_message, arguments={key.replace("_", "-"): value for key, value in arguments.items()})

    def on_message(self, channel, method, properties, body):
        self.messages.append((method, properties, body))
        if self.ack:
            channel.basic_ack(method.delivery_tag)

    def wait(self, count, timeout_s=10, settle_s=0.2):
        deadline = time.monotonic() + timeout_s
        while len(self.messages) < count and time.monotonic() < deadline:
            self.connection.process_data_events(0.02)
        self.connection.process_data_events(settle_s)
        return self.bodies()

    def bodies(self):
        return [body for _, _, body in self.messages]

    def offsets(self):
        return [properties.headers["x-stream-offset"] for _, properties, _ in self.messages]


def numbers(first, last):
    return [b"%d" % index for index in range(first, last)]


# Declaring and deleting.

@pytest.mark.parametrize("more, text", [
    ({"durable": False}, "invalid property 'non-durable' for queue"),
    ({"durable": True, "exclusive": True}, "invalid property 'exclusive-owner' for queue"),
    ({"durable": True, "auto_delete": True}, "invalid property 'auto-delete' for queue"),
])
def test_a_stream_is_for_good_and_for_all(channel, name, expect_close, more, text):
    expect_close(406, text)(channel.queue_declare, name(), arguments=STREAM, **more)


def test_a_stream_has_a_name(channel, expect_close):
    expect_close(406, "Cannot declare a server-named queue for type rabbit_stream_queue")(channel.queue_declare, "", durable=True, arguments=STREAM)


def test_deleting_asks_for_no_conditions(connection, name):
    channel = connection.channel()
    queue = channel.queue_declare(name("s"), durable=True, arguments=STREAM).method.queue
    fill(connection, queue, 3)
    reader = Reader(connection, queue, "first")
    assert len(reader.wait(3)) == 3
    assert channel.queue_delete(queue, if_unused=True, if_empty=True).method.message_count == 0
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
        channel.queue_declare(queue, passive=True)
    assert caught.value.reply_code == 404


def test_the_count_is_that_of_the_messages_kept(connection, stream, eventually):
    channel = connection.channel()
    fill(connection, stream, 7)
    reader = Reader(connection, stream, "first")
    reader.wait(7)
    count = eventually(lambda: channel.queue_declare(stream, passive=True).method.message_count, timeout_s=20, every_s=0.5)
    assert count == 7


# What streams refuse.

def closed(connect, act):
    """What the broker says when `act` makes it close the connection."""
    connection = connect()
    channel = connection.channel()
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as caught:
        act(connection, channel)
        for _ in range(50):
            connection.process_data_events(0.05)
    return caught.value.reply_code, caught.value.reply_text


def test_a_consumer_needs_a_prefetch(channel, stream, expect_close):
    expect_close(406, f"consumer prefetch count is not set for 'queue '{stream}' in vhost '/''")(channel.basic_consume, stream, lambda *_: None)


def test_a_consumer_must_acknowledge(connect, stream):
    def act(_, channel):
        channel.basic_qos(prefetch_count=10)
        channel.basic_consume(stream, lambda *_: None, auto_ack=True)
    assert closed(connect, act) == (540, f"NOT_IMPLEMENTED - automatic acknowledgement not supported by stream queues queue '{stream}' in vhost '/'")


def test_a_limit_of_the_channel_is_refused(connect, stream):
    def act(_, channel):
        channel.basic_qos(prefetch_count=10)
        channel.basic_qos(prefetch_count=10, global_qos=True)
        channel.basic_consume(stream, lambda *_: None)
    assert closed(connect, act) == (540, f"NOT_IMPLEMENTED - queue '{stream}' in vhost '/' does not support global qos")


def test_get_and_purge_are_refused(connect, stream):
    assert closed(connect, lambda _, channel: channel.basic_get(stream)) == (
        540, f"NOT_IMPLEMENTED - basic.get not supported by stream queues queue '{stream}' in vhost '/'")
    assert closed(connect, lambda _, channel: channel.queue_purge(stream)) == (
        540, f"NOT_IMPLEMENTED - queue.purge not supported by stream queues queue '{stream}' in vhost '/'")


@pytest.mark.godwit_only("RabbitMQ 3.10 refuses to; since 3.13 it is as here")
@pytest.mark.parametrize("verb", ["basic_nack", "basic_reject"])
def test_giving_back_gives_credit_alone(connection, stream, verb):
    fill(connection, stream, 20)
    reader = Reader(connection, stream, "first", prefetch=5, ack=False)
    assert len(reader.wait(5, settle_s=0.2)) == 5
    for index, (method, _, _) in enumerate(list(reader.messages)):
        getattr(reader.channel, verb)(method.delivery_tag, requeue=bool(index % 2))
    assert reader.wait(10) == numbers(0, 10)
    assert not any(method.redelivered for method, _, _ in reader.messages)
    reader.channel.basic_recover(requeue=True)
    assert reader.wait(15) == numbers(0, 15)


def test_an_interval_of_no_known_unit_is_refused(channel, stream, expect_close):
    channel.basic_qos(prefetch_count=1)
    expect_close(406, f"invalid arg 'x-stream-offset' for queue '{stream}' in vhost '/': {{invalid_stream_offset_arg,{{longstr,<<\"5x\">>}}}}")(
        channel.basic_consume, stream, lambda *_: None, arguments={"x-stream-offset": "5x"})


# Reading.

def test_nothing_is_removed_by_reading(connection, stream):
    fill(connection, stream, 20)
    for _ in range(2):
        reader = Reader(connection, stream, "first")
        assert reader.wait(20) == numbers(0, 20)
        assert reader.offsets() == list(range(20))
        assert not any(method.redelivered for method, _, _ in reader.messages)
        reader.channel.close()


def test_without_an_offset_only_what_comes_is_read(connection, stream):
    fill(connection, stream, 3)
    reader = Reader(connection, stream)
    assert reader.wait(1, timeout_s=0.3) == []
    fill(connection, stream, 2, first=3)
    assert reader.wait(2) == numbers(3, 5)
    assert reader.offsets() == [3, 4]


@pytest.mark.parametrize("offset, first", [("first", 0), ("last", 9), ("next", 10), (0, 0), (6, 6), (12, 12)])
def test_a_consumer_begins_where_it_says(connection, stream, offset, first):
    fill(connection, stream, 10)
    reader = Reader(connection, stream, offset)
    time.sleep(0.2)
    fill(connection, stream, 5, first=10)
    assert reader.wait(15 - first) == numbers(first, 15)


def test_a_consumer_begins_at_a_time(connection, stream):
    fill(connection, stream, 5)
    time.sleep(2.1)
    between = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    fill(connection, stream, 5, first=5)
    assert Reader(connection, stream, between).wait(5) == numbers(5, 10)
    assert Reader(connection, stream, datetime.datetime(2020, 1, 1)).wait(10) == numbers(0, 10)
    assert Reader(connection, stream, "1h").wait(10) == numbers(0, 10)
    assert Reader(connection, stream, datetime.datetime(2100, 1, 1)).wait(1, timeout_s=0.3) == []


def test_prefetch_is_credit_that_acknowledging_gives_back(connection, stream):
    fill(connection, stream, 30)
    reader = Reader(connection, stream, "first", prefetch=5, ack=False)
    assert len(reader.wait(6, timeout_s=0.5)) == 5
    reader.channel.basic_ack(reader.messages[2][0].delivery_tag, multiple=True)
    assert len(reader.wait(9, timeout_s=0.5)) == 8
    reader.channel.basic_ack(0, multiple=True)
    assert len(reader.wait(14, timeout_s=0.5)) == 13
    assert reader.bodies() == numbers(0, 13)


def test_consumers_are_independent(connect, connection, stream):
    fill(connection, stream, 50)
    readers = [Reader(connection, stream, "first"), Reader(connection, stream, 10, prefetch=3), Reader(connect(), stream, "first", prefetch=1)]
    assert [reader.wait(count) for reader, count in zip(readers, (50, 40, 50))] == [numbers(0, 50), numbers(10, 50), numbers(0, 50)]
    readers[0].channel.basic_cancel(readers[0].tag)
    fill(connection, stream, 5, first=50)
    assert readers[1].wait(45) == numbers(10, 55)
    assert readers[2].wait(55) == numbers(0, 55)
    assert len(readers[0].messages) == 50


def test_what_was_published_comes_back_as_it_was(connection, channel, stream, name, against):
    exchange = name("x")
    channel.exchange_declare(exchange, "topic", auto_delete=True)
    channel.queue_bind(stream, exchange, "a.#")
    properties = dict(content_type="text/plain", content_encoding="utf-8", headers={"n": 1, "t": True}, delivery_mode=2,
                      priority=3, correlation_id="c", reply_to="r", message_id="m", timestamp=1700000000, type="t", app_id="app")
    if against == "godwit":   # RabbitMQ keeps messages of streams in another form, in which tables in tables have no place
        properties["headers"]["nested"] = {"a": [1, "b", None]}
    channel.confirm_delivery()
    body = os.urandom(300000)
    channel.basic_publish(exchange, "a.b.c", body, spec.BasicProperties(**properties), mandatory=True)
    channel.basic_publish(exchange, "a.d", b"")
    reader = Reader(connection, stream, "first")
    assert reader.wait(2) == [body, b""]
    method, got, _ = reader.messages[0]
    assert (method.exchange, method.routing_key) == (exchange, "a.b.c")
    assert got.headers.pop("x-stream-offset") == 0
    assert {key: getattr(got, key) for key in properties} == properties
    method, got, _ = reader.messages[1]
    assert (method.routing_key, got.headers) == ("a.d", {"x-stream-offset": 1})


def test_messages_that_are_not_persistent_are_kept_too(against, own_broker, connect_to, name):
    broker, queue = own_broker(), name("s")
    if against == "rabbitmq":
        broker.control("enable_feature_flag", "all")
    connection = connect_to(broker)
    connection.channel().queue_declare(queue, durable=True, arguments=STREAM)
    fill(connection, queue, 10, delivery_mode=1)
    connection.close()
    broker.restart()
    connection = connect_to(broker)
    assert Reader(connection, queue, "first").wait(10) == numbers(0, 10)
    fill(connection, queue, 5, first=10)
    assert Reader(connection, queue, 7).wait(8) == numbers(7, 15)


def test_a_transaction_reaches_a_stream_as_a_whole(connection, stream):
    channel = connection.channel()
    channel.tx_select()
    channel.basic_publish("", stream, b"0")
    channel.basic_publish("", stream, b"1")
    channel.tx_rollback()
    channel.basic_publish("", stream, b"2")
    channel.basic_publish("", stream, b"3")
    channel.tx_commit()
    assert Reader(connection, stream, "first").wait(2) == [b"2", b"3"]


def test_size_is_limited_in_whole_segments(connection, name, eventually):
    channel = connection.channel()
    queue = channel.queue_declare(name("s"), durable=True, arguments={
        **STREAM, "x-max-length-bytes": 20000, "x-stream-max-segment-size-bytes": 5000}).method.queue
    channel.confirm_delivery()
    for index in range(200):
        channel.basic_publish("", queue, b"%d" % index + b"." * 1000)

    def first_kept():
        reader = Reader(connection, queue, "first", prefetch=1, ack=False)
        reader.wait(1, settle_s=0)
        reader.channel.close()
        return int(reader.bodies()[0].split(b".")[0])
    assert eventually(lambda: 100 < first_kept() < 200, every_s=0.5)
    channel.queue_delete(queue)


def test_age_is_limited_in_whole_segments(connection, name, eventually):
    channel = connection.channel()
    queue = channel.queue_declare(name("s"), durable=True, arguments={**STREAM, "x-max-age": "1s", "x-stream-max-segment-size-bytes": 2000}).method.queue
    channel.confirm_delivery()
    for index in range(20):
        channel.basic_publish("", queue, b"%d" % index + b"." * 500)
    time.sleep(1.5)
    for index in range(20, 30):
        channel.basic_publish("", queue, b"%d" % index + b"." * 500)
    reader = Reader(connection, queue, "first")
    assert int(reader.wait(5, timeout_s=3)[0].split(b".")[0]) > 10
    channel.queue_delete(queue)


# Filters: RabbitMQ has them since 3.13, and only as a hint; here they are exact.

@pytest.mark.godwit_only("RabbitMQ 3.10 has no filters")
def test_only_the_values_that_were_asked_for_come(connection, stream):
    for index in range(40):
        fill(connection, stream, 1, first=index, headers={"x-stream-filter-value": "abcd"[index % 4]} if index % 5 else None)
    values = [None if index % 5 == 0 else "abcd"[index % 4] for index in range(40)]

    def expected(*wanted):
        return [b"%d" % index for index, value in enumerate(values) if value in wanted]
    assert Reader(connection, stream, "first", x_stream_filter="a").wait(7) == expected("a")
    assert Reader(connection, stream, "first", x_stream_filter=["a", "c"]).wait(14) == expected("a", "c")
    assert Reader(connection, stream, "first", x_stream_filter="b", x_stream_match_unfiltered=True).wait(16) == expected("b", None)
    assert Reader(connection, stream, "first", x_stream_filter="none").wait(1, timeout_s=0.3) == []


# The files.

@pytest.mark.godwit_only("the format of files")
def test_segments_are_read_by_a_kafka_client(own_broker, connect_to, name):
    records = pytest.importorskip("kafka.record", reason="kafka-python is not installed")
    broker, queue = own_broker(), name("s")
    connection = connect_to(broker)
    connection.channel().queue_declare(queue, durable=True, arguments=STREAM)
    before = time.time()
    fill(connection, queue, 1000, headers={"n": 1})
    connection.close()
    assert broker.stop() == 0
    found = []
    for directory, _, files in os.walk(broker.data_dir):
        for file in sorted(files):
            if file.startswith("stream-") and file.endswith(".log"):
                with open(os.path.join(directory, file), "rb") as log:
                    batches = records.MemoryRecords(log.read())
                while batches.has_next():
                    batch = batches.next_batch()
                    assert batch.validate_crc()
                    found += list(batch)
    assert [record.offset for record in found] == list(range(1000))
    assert [bytes(record.value) for record in found] == numbers(0, 1000)
    assert all(bytes(record.key) == queue.encode() for record in found)
    assert all(before - 1 < record.timestamp / 1000 < time.time() + 1 for record in found)


@pytest.mark.godwit_only("the format of files")
def test_deleting_removes_the_files(own_broker, connect_to, name, eventually):
    broker, queue = own_broker(), name("s")
    connection = connect_to(broker)
    channel = connection.channel()
    channel.queue_declare(queue, durable=True, arguments={**STREAM, "x-stream-max-segment-size-bytes": 100000})

    def files():
        return [file for _, _, files in os.walk(broker.data_dir) for file in files if file.startswith("stream-")]
    channel.confirm_delivery()
    for _ in range(20):
        channel.basic_publish("", queue, os.urandom(50000))
    assert eventually(lambda: len(files()) > 5)
    channel.queue_delete(queue)
    assert eventually(lambda: not files())


# Beside other queues.

@pytest.mark.godwit_only("RabbitMQ 3.10 loses dead letters whose target is a stream")
def test_dead_letters_and_fanouts_reach_a_stream(connection, channel, stream, name, eventually):
    exchange, source, plain = name("x"), name("source"), name("plain")
    channel.exchange_declare(exchange, "fanout", auto_delete=True)
    for queue, arguments in ((source, {"x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": "dead"}), (plain, {})):
        channel.queue_declare(queue, exclusive=True, arguments=arguments)
    channel.queue_bind(stream, exchange)
    channel.queue_bind(plain, exchange)
    fill(connection, source, 3)
    for _ in range(3):
        channel.basic_reject(channel.basic_get(source)[0].delivery_tag, requeue=False)
    reader = Reader(connection, stream, "first")
    assert sorted(reader.wait(3)) == numbers(0, 3)
    assert {method.routing_key for method, _, _ in reader.messages} == {"dead"}
    assert all(properties.headers["x-first-death-reason"] == "rejected" for _, properties, _ in reader.messages)
    eventually(lambda: channel.queue_declare(plain, passive=True).method.message_count == 3)


def test_a_policy_that_changes_is_obeyed(against, own_broker, connect_to, name, eventually):
    broker, queue = own_broker(), name("s")
    if against == "rabbitmq":
        broker.control("enable_feature_flag", "all")
    connection = connect_to(broker)
    channel = connection.channel()
    channel.queue_declare(queue, durable=True, arguments={**STREAM, "x-stream-max-segment-size-bytes": 5000})
    channel.confirm_delivery()
    for index in range(100):
        channel.basic_publish("", queue, b"%d" % index + b"." * 1000)
    broker.control("set_policy", "short", ".*", '{"max-length-bytes": 10000}', "--apply-to", "queues")
    for index in range(100, 110):   # RabbitMQ looks when the next segment begins
        channel.basic_publish("", queue, b"%d" % index + b"." * 1000)

    def first_kept():
        reader = Reader(connection, queue, "first", prefetch=1, ack=False)
        reader.wait(1, settle_s=0)
        reader.channel.close()
        return int(reader.bodies()[0].split(b".")[0])
    assert eventually(lambda: first_kept() > 80, every_s=0.5)
