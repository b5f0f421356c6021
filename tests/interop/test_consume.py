"""Getting messages: consumers, prefetch, acknowledging, giving back, and in which order."""
import time

import pika
import pika.spec as spec
import pytest


class Inbox:
    """Consumes and keeps what came."""

    def __init__(self, channel, queue, **more):
        self.channel, self.messages, self.cancelled = channel, [], []
        channel.add_on_cancel_callback(self.cancelled.append)
        self.tag = channel.basic_consume(queue, self.on_message, **more)

    def on_message(self, channel, method, properties, body):
        self.messages.append((method, properties, body))

    def wait(self, count, timeout_s=10, settle_s=0.15):
        """Bodies once `count` have come, after a moment in which more could have."""
        deadline = time.monotonic() + timeout_s
        while len(self.messages) < count and time.monotonic() < deadline:
            self.channel.connection.process_data_events(0.05)
        self.channel.connection.process_data_events(settle_s)
        return self.bodies()

    def bodies(self):
        return [body for _, _, body in self.messages]

    def tags(self):
        return [method.delivery_tag for method, _, _ in self.messages]


def fill(connection, queue, count, first=0):
    """Numbers as bodies, all in the queue when this returns."""
    channel = connection.channel()
    channel.confirm_delivery()
    for index in range(first, first + count):
        channel.basic_publish("", queue, b"%d" % index)
    channel.close()


def numbers(first, last):
    return [b"%d" % index for index in range(first, last)]


def drain(connection, queue):
    channel = connection.channel()
    got = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            channel.close()
            return got
        got.append((body, method.redelivered))


# Get.

def test_get_counts_down(connection, channel, queue):
    assert channel.basic_get(queue) == (None, None, None)
    fill(connection, queue, 3)
    for left in (2, 1, 0):
        method, _, _ = channel.basic_get(queue)
        assert (method.message_count, method.redelivered, method.exchange, method.routing_key) == (left, False, "", queue)
    assert channel.basic_get(queue) == (None, None, None)


def test_got_and_not_acknowledged_comes_back(connect, name):
    first, queue = connect(), name()
    channel = first.channel()
    channel.queue_declare(queue)
    fill(first, queue, 2)
    assert channel.basic_get(queue)[2] == b"0"
    first.close()
    second = connect()
    assert drain(second, queue) == [(b"0", True), (b"1", False)]
    second.channel().queue_delete(queue)


# Consuming.

def test_messages_come_in_order(connection, channel, queue):
    inbox = Inbox(channel, queue, auto_ack=True)
    fill(connection, queue, 500)
    assert inbox.wait(500) == numbers(0, 500)
    assert inbox.tags() == list(range(1, 501))
    assert all(method.consumer_tag == inbox.tag and not method.redelivered for method, _, _ in inbox.messages)


def test_server_names_consumers(channel, queue, wire):
    w = wire()
    w.send(1, spec.Queue.Declare(queue=queue + "-other", exclusive=True))
    w.expect(spec.Queue.DeclareOk)
    tags = set()
    for _ in range(5):
        w.send(1, spec.Basic.Consume(queue=queue + "-other"))
        tags.add(w.expect(spec.Basic.ConsumeOk).consumer_tag)
    assert len(tags) == 5
    assert all(tag.startswith("amq.ctag-") for tag in tags)


def test_two_consumers_share(connection, queue):
    first, second = Inbox(connection.channel(), queue, auto_ack=True), Inbox(connection.channel(), queue, auto_ack=True)
    fill(connection, queue, 100)
    first.wait(50)
    assert sorted(first.bodies() + second.bodies(), key=int) == numbers(0, 100)
    assert 25 <= len(first.bodies()) <= 75


def test_tag_used_twice_closes_the_connection(connect, name):
    channel = connect().channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    w_channel = channel
    w_channel.basic_consume(queue, lambda *_: None, consumer_tag="same")
    # pika itself refuses a tag used twice, so a second one is sent behind its back.
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as caught:
        channel._impl._send_method(spec.Basic.Consume(queue=queue, consumer_tag="same"))
        channel.connection.process_data_events(2)
    assert caught.value.reply_code == 530
    assert caught.value.reply_text == "NOT_ALLOWED - attempt to reuse consumer tag 'same'"


def test_same_tag_on_two_channels(connection, queue):
    for _ in range(2):
        connection.channel().basic_consume(queue, lambda *_: None, consumer_tag="same")


def test_exclusive_consumer(connection, queue, expect_close):
    owner = connection.channel()
    owner.basic_consume(queue, lambda *_: None, exclusive=True, consumer_tag="only")
    text = f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"
    expect_close(403, text)(connection.channel().basic_consume, queue, lambda *_: None)
    expect_close(403, text)(connection.channel().basic_consume, queue, lambda *_: None, exclusive=True)
    owner.basic_cancel("only")
    Inbox(owner, queue)
    expect_close(403, text)(connection.channel().basic_consume, queue, lambda *_: None, exclusive=True)


def test_cancel_stops_deliveries_and_keeps_what_is_out(connection, channel, queue):
    inbox = Inbox(channel, queue)
    fill(connection, queue, 3)
    assert inbox.wait(3) == numbers(0, 3)
    channel.basic_cancel(inbox.tag)
    fill(connection, queue, 1, first=3)
    connection.process_data_events(0.2)
    assert inbox.bodies() == numbers(0, 3)
    channel.basic_ack(inbox.tags()[1])
    channel.close()
    assert drain(connection, queue) == [(b"0", True), (b"2", True), (b"3", False)]


def test_cancelling_an_unknown_tag(wire):
    w = wire()
    w.send(1, spec.Basic.Cancel(consumer_tag="never"))
    assert w.expect(spec.Basic.CancelOk).consumer_tag == "never"


def test_consumer_is_told_when_its_queue_goes(connection, channel, name):
    queue = name()
    channel.queue_declare(queue)
    inbox = Inbox(channel, queue, consumer_tag="told")
    connection.channel().queue_delete(queue)
    connection.process_data_events(0.3)
    cancel, = inbox.cancelled
    assert cancel.method.consumer_tag == "told"
    assert channel.is_open


def test_consumer_without_the_capability_is_not_told(broker, wire, connection, name):
    from support.wire import Wire, PROTOCOL_HEADER
    queue = name()
    connection.channel().queue_declare(queue)
    w = wire(handshake=False)
    w.send_bytes(PROTOCOL_HEADER)
    w.expect(spec.Connection.Start)
    w.send(0, spec.Connection.StartOk(client_properties={}, mechanism="PLAIN", response="\0guest\0guest", locale="en_US"))
    w.expect(spec.Connection.Tune)
    w.send(0, spec.Connection.TuneOk(channel_max=10, frame_max=131072, heartbeat=0))
    w.send(0, spec.Connection.Open(virtual_host="/"))
    w.expect(spec.Connection.OpenOk)
    w.open_channel(1)
    w.send(1, spec.Basic.Consume(queue=queue))
    w.expect(spec.Basic.ConsumeOk)
    connection.channel().queue_delete(queue)
    w.send(1, spec.Queue.Declare(queue=queue, exclusive=True))
    w.expect(spec.Queue.DeclareOk)


# Prefetch.

def test_prefetch_per_consumer(connection, channel, queue):
    fill(connection, queue, 10)
    channel.basic_qos(prefetch_count=3)
    inbox = Inbox(channel, queue)
    assert inbox.wait(3) == numbers(0, 3)
    channel.basic_ack(inbox.tags()[0])
    assert inbox.wait(4) == numbers(0, 4)
    channel.basic_ack(inbox.tags()[3], multiple=True)
    assert inbox.wait(7) == numbers(0, 7)
    channel.basic_nack(inbox.tags()[6], multiple=True, requeue=False)
    assert inbox.wait(10) == numbers(0, 10)


def test_prefetch_counts_each_consumer_for_itself(connection, channel, queue):
    fill(connection, queue, 10)
    channel.basic_qos(prefetch_count=2)
    first, second = Inbox(channel, queue), Inbox(channel, queue)
    first.wait(2)
    assert len(first.bodies()) == len(second.bodies()) == 2


def test_prefetch_for_later_consumers_only(connection, channel, queue):
    first = Inbox(channel, queue)
    channel.basic_qos(prefetch_count=1)
    fill(connection, queue, 5)
    assert first.wait(5) == numbers(0, 5)


def test_prefetch_of_the_whole_channel(connection, channel, queue):
    fill(connection, queue, 10)
    channel.basic_qos(prefetch_count=3, global_qos=True)
    first, second = Inbox(channel, queue), Inbox(channel, queue)
    first.wait(3)
    assert len(first.bodies()) + len(second.bodies()) == 3
    everything = sorted(first.tags() + second.tags())
    channel.basic_ack(everything[-1], multiple=True)
    deadline = time.monotonic() + 5
    while len(first.bodies()) + len(second.bodies()) < 6 and time.monotonic() < deadline:
        connection.process_data_events(0.05)
    connection.process_data_events(0.15)
    assert len(first.bodies()) + len(second.bodies()) == 6


def test_both_prefetches_at_once(connection, channel, queue):
    fill(connection, queue, 20)
    channel.basic_qos(prefetch_count=3)
    channel.basic_qos(prefetch_count=5, global_qos=True)
    first, second = Inbox(channel, queue), Inbox(channel, queue)
    first.wait(3)
    assert len(first.bodies()) + len(second.bodies()) == 5
    assert max(len(first.bodies()), len(second.bodies())) <= 3


def test_raising_the_channels_prefetch(connection, channel, queue):
    fill(connection, queue, 10)
    channel.basic_qos(prefetch_count=1, global_qos=True)
    inbox = Inbox(channel, queue)
    assert inbox.wait(1) == numbers(0, 1)
    channel.basic_qos(prefetch_count=4, global_qos=True)
    assert inbox.wait(4) == numbers(0, 4)
    channel.basic_qos(prefetch_count=0, global_qos=True)
    assert inbox.wait(10) == numbers(0, 10)


def test_prefetch_does_not_bound_get_or_auto_ack(connection, channel, queue):
    fill(connection, queue, 4)
    channel.basic_qos(prefetch_count=1)
    assert [channel.basic_get(queue)[2] for _ in range(2)] == numbers(0, 2)
    assert Inbox(channel, queue, auto_ack=True).wait(2) == numbers(2, 4)


def test_prefetch_size_is_not_implemented(connect):
    channel = connect().channel()
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as caught:
        channel.basic_qos(prefetch_size=100)
    assert caught.value.reply_code == 540
    assert caught.value.reply_text == "NOT_IMPLEMENTED - prefetch_size!=0 (100)"


# Settling.

def test_acknowledged_is_gone(connect, name):
    first, queue = connect(), name()
    channel = first.channel()
    channel.queue_declare(queue)
    fill(first, queue, 5)
    inbox = Inbox(channel, queue)
    inbox.wait(5)
    channel.basic_ack(inbox.tags()[1])
    channel.basic_ack(inbox.tags()[3])
    first.close()
    second = connect()
    assert drain(second, queue) == [(b"0", True), (b"2", True), (b"4", True)]
    second.channel().queue_delete(queue)


def test_acknowledging_multiple(connection, queue):
    fill(connection, queue, 5)
    channel = connection.channel()
    inbox = Inbox(channel, queue)
    inbox.wait(5)
    channel.basic_ack(inbox.tags()[2], multiple=True)
    channel.close()
    assert drain(connection, queue) == [(b"3", True), (b"4", True)]


def test_acknowledging_all(connection, queue):
    """Tag 0 with multiple means all so far, also when there is none."""
    fill(connection, queue, 5)
    channel = connection.channel()
    channel.basic_ack(0, multiple=True)
    Inbox(channel, queue).wait(5)
    channel.basic_ack(0, multiple=True)
    channel.close()
    assert drain(connection, queue) == []


@pytest.mark.parametrize("verb", ["ack", "reject", "nack"])
def test_unknown_tag(channel, queue, verb):
    getattr(channel, f"basic_{verb}")(99)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
        channel.queue_declare(queue, passive=True)
    assert (caught.value.reply_code, caught.value.reply_text) == (406, "PRECONDITION_FAILED - unknown delivery tag 99")


@pytest.mark.parametrize("second", ["ack", "reject", "nack"])
@pytest.mark.parametrize("first", ["ack", "reject", "nack"])
def test_settling_twice(connection, channel, queue, first, second):
    fill(connection, queue, 1)
    tag = channel.basic_get(queue)[0].delivery_tag
    getattr(channel, f"basic_{first}")(tag)
    getattr(channel, f"basic_{second}")(tag)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
        channel.queue_declare(queue, passive=True)
    assert (caught.value.reply_code, caught.value.reply_text) == (406, f"PRECONDITION_FAILED - unknown delivery tag {tag}")


def test_acknowledging_what_needs_none(connection, channel, queue):
    fill(connection, queue, 1)
    channel.basic_ack(channel.basic_get(queue, auto_ack=True)[0].delivery_tag)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
        channel.queue_declare(queue, passive=True)
    assert caught.value.reply_code == 406


def test_tags_belong_to_their_channel(connection, queue):
    fill(connection, queue, 1)
    first, second = connection.channel(), connection.channel()
    tag = first.basic_get(queue)[0].delivery_tag
    second.basic_ack(tag)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
        second.queue_declare(queue, passive=True)
    assert caught.value.reply_code == 406
    first.basic_ack(tag)
    assert first.basic_get(queue) == (None, None, None)


@pytest.mark.parametrize("verb", ["reject", "nack"])
def test_requeued_goes_back_to_its_place(connection, channel, queue, verb):
    fill(connection, queue, 5)
    tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(3)]
    for tag in (tags[2], tags[0], tags[1]):
        getattr(channel, f"basic_{verb}")(tag, requeue=True)
    assert drain(connection, queue) == [(b"0", True), (b"1", True), (b"2", True), (b"3", False), (b"4", False)]


def test_nack_multiple_requeues_in_order(connection, channel, queue):
    fill(connection, queue, 5)
    tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(4)]
    channel.basic_nack(tags[2], multiple=True, requeue=True)
    channel.basic_ack(tags[3])
    assert drain(connection, queue) == [(b"0", True), (b"1", True), (b"2", True), (b"4", False)]


@pytest.mark.parametrize("verb", ["reject", "nack"])
def test_dropped_is_gone(connection, channel, queue, verb):
    fill(connection, queue, 2)
    getattr(channel, f"basic_{verb}")(channel.basic_get(queue)[0].delivery_tag, requeue=False)
    assert drain(connection, queue) == [(b"1", False)]


def test_requeued_is_delivered_again_to_the_same_consumer(connection, channel, queue):
    fill(connection, queue, 1)
    inbox = Inbox(channel, queue)
    inbox.wait(1)
    channel.basic_nack(inbox.tags()[0], requeue=True)
    assert inbox.wait(2) == [b"0", b"0"]
    assert [method.redelivered for method, _, _ in inbox.messages] == [False, True]
    assert inbox.tags() == [1, 2]


def test_closing_a_channel_gives_back_in_order(connection, queue):
    fill(connection, queue, 300)
    channel = connection.channel()
    channel.basic_qos(prefetch_count=200)
    inbox = Inbox(channel, queue)
    inbox.wait(200)
    for tag in inbox.tags()[::2]:
        channel.basic_ack(tag)
    channel.close()
    got = drain(connection, queue)
    # RabbitMQ marks what it had already read for a consumer; the order is what counts.
    assert [body for body, _ in got] == [b"%d" % index for index in range(300) if index >= 200 or index % 2]
    assert all(redelivered for body, redelivered in got if int(body) < 200)


def test_recover_with_requeue(connection, channel, queue):
    fill(connection, queue, 3)
    for _ in range(2):
        channel.basic_get(queue)
    channel.basic_recover(requeue=True)
    assert drain(connection, queue) == [(b"0", True), (b"1", True), (b"2", False)]


def test_recover_to_a_consumer(connection, channel, queue):
    fill(connection, queue, 2)
    inbox = Inbox(channel, queue)
    inbox.wait(2)
    channel.basic_recover(requeue=True)
    assert inbox.wait(4) == [b"0", b"1", b"0", b"1"]
    assert [method.redelivered for method, _, _ in inbox.messages] == [False, False, True, True]


def test_recover_without_requeue_is_not_implemented(connect):
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as caught:
        connect().channel().basic_recover(requeue=False)
    assert caught.value.reply_code == 540


def test_recover_async(wire, name):
    w, queue = wire(), name()
    w.send(1, spec.Queue.Declare(queue=queue, exclusive=True))
    w.expect(spec.Queue.DeclareOk)
    w.publish(1, queue, b"x")
    for redelivered in (False, True):
        w.send(1, spec.Basic.Get(queue=queue))
        assert w.expect(spec.Basic.GetOk).redelivered == redelivered
        w.receive_frame(), w.receive_frame()
        w.send_frame(1, 1, b"\x00\x3c\x00\x64\x01")   # basic.recover-async(requeue=true), which is not answered


def test_flow_of_the_client_is_answered(wire):
    """RabbitMQ answers channel.flow active=true and refuses active=false."""
    w = wire()
    w.send(1, spec.Channel.Flow(active=True))
    assert w.expect(spec.Channel.FlowOk).active is True
    w.send(1, spec.Channel.Flow(active=False))
    close = w.expect_connection_close(540)
    assert close.reply_text == "NOT_IMPLEMENTED - active=false"


def test_delivery_between_connections(connect, name):
    sender, receiver, queue = connect(), connect(), name()
    receiver.channel().queue_declare(queue)
    inbox = Inbox(receiver.channel(), queue)
    channel = sender.channel()
    for index in range(200):
        channel.basic_publish("", queue, b"%d" % index)
    assert inbox.wait(200) == numbers(0, 200)
    for tag in inbox.tags():
        inbox.channel.basic_ack(tag)
    receiver.close()
    assert drain(sender, queue) == []
    sender.channel().queue_delete(queue)


def test_consumer_priority_of_rabbitmq_is_accepted(connection, channel, queue):
    """x-priority is an extension; accepting it is enough here."""
    channel.basic_consume(queue, lambda *_: None, arguments={"x-priority": 5})


def test_consume_with_no_local_is_accepted(wire, name):
    """RabbitMQ does not implement no-local and takes it."""
    w, queue = wire(), name()
    w.send(1, spec.Queue.Declare(queue=queue, exclusive=True))
    w.expect(spec.Queue.DeclareOk)
    w.send(1, spec.Basic.Consume(queue=queue, no_local=True, no_ack=True))
    w.expect(spec.Basic.ConsumeOk)
    w.publish(1, queue, b"own")
    w.expect(spec.Basic.Deliver)


def test_thousand_messages_ten_consumers_all_acknowledged(connect, name):
    connection, queue = connect(), name()
    connection.channel().queue_declare(queue, durable=True)
    seen = []

    def on_message(channel, method, properties, body):
        seen.append(int(body))
        channel.basic_ack(method.delivery_tag)

    consumers = [connect() for _ in range(5)]
    for other in consumers:
        for _ in range(2):
            channel = other.channel()
            channel.basic_qos(prefetch_count=7)
            channel.basic_consume(queue, on_message)
    fill(connection, queue, 1000)
    deadline = time.monotonic() + 20
    while len(seen) < 1000 and time.monotonic() < deadline:
        for other in consumers:
            other.process_data_events(0)
    assert sorted(seen) == list(range(1000))
    for other in consumers:
        other.close()
    assert drain(connection, queue) == []
    connection.channel().queue_delete(queue)
