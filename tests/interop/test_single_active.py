"""One consumer at a time: x-single-active-consumer, and exclusive consumers."""
import pytest

ONE = {"x-single-active-consumer": True}


class Consumer:
    def __init__(self, connection, queue, prefetch=0, **more):
        self.connection, self.queue, self.got = connection, queue, []
        self.channel = connection.channel()
        if prefetch:
            self.channel.basic_qos(prefetch_count=prefetch)
        self.tag = self.channel.basic_consume(queue, lambda ch, method, properties, body: self.got.append((method.delivery_tag, body)), **more)

    def bodies(self):
        self.connection.process_data_events(0.1)
        return [body for _, body in self.got]


def publish(channel, queue, *bodies):
    for body in bodies:
        channel.basic_publish("", queue, body)


@pytest.fixture(params=["classic", "quorum"])
def queue(request, channel, name):
    made = name()
    arguments = dict(ONE) if request.param == "classic" else {**ONE, "x-queue-type": "quorum"}
    channel.queue_declare(made, durable=True, arguments=arguments)
    yield made
    if channel.is_open:
        channel.queue_delete(made)


def test_the_first_gets_everything(connect, channel, queue, eventually):
    first, second = (Consumer(connect(), queue, auto_ack=True) for _ in range(2))
    publish(channel, queue, b"1", b"2", b"3")
    assert eventually(lambda: first.bodies() == [b"1", b"2", b"3"])
    assert second.bodies() == []


def test_the_next_follows_when_it_is_cancelled(connect, channel, queue, eventually):
    consumers = [Consumer(connect(), queue, auto_ack=True) for _ in range(3)]
    for i, consumer in enumerate(consumers):
        body = b"%d" % i
        publish(channel, queue, body)
        assert eventually(lambda: consumer.bodies() == [body])
        consumer.channel.basic_cancel(consumer.tag)


@pytest.mark.parametrize("end", ["channel", "connection"])
def test_the_next_follows_when_it_is_gone(connect, channel, queue, eventually, end):
    first, second = (Consumer(connect(), queue) for _ in range(2))
    publish(channel, queue, b"1")
    assert eventually(lambda: first.bodies() == [b"1"])
    getattr(first, end).close()
    assert eventually(lambda: second.bodies() == [b"1"])
    publish(channel, queue, b"2")
    assert eventually(lambda: second.bodies() == [b"1", b"2"])


def test_the_others_wait_even_when_it_is_full(connect, channel, queue, eventually):
    first, second = Consumer(connect(), queue, prefetch=1), Consumer(connect(), queue, prefetch=1)
    publish(channel, queue, b"1", b"2")
    assert eventually(lambda: first.bodies() == [b"1"])
    assert second.bodies() == []
    first.channel.basic_ack(first.got[0][0])
    assert eventually(lambda: first.bodies() == [b"1", b"2"])
    assert second.bodies() == []


def test_its_cancelled_messages_stay_its_own(connect, channel, queue, eventually):
    first, second = Consumer(connect(), queue), Consumer(connect(), queue)
    publish(channel, queue, b"1")
    assert eventually(lambda: first.bodies() == [b"1"])
    first.channel.basic_cancel(first.tag)
    publish(channel, queue, b"2")
    assert eventually(lambda: second.bodies() == [b"2"])
    first.channel.basic_nack(first.got[0][0])
    assert eventually(lambda: second.bodies() == [b"2", b"1"])


def test_none_may_be_exclusive(connection, channel, name, expect_close):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments=ONE)
    text = expect_close(403)(connection.channel().basic_consume, queue, lambda *_: None, exclusive=True)
    assert text == f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"


def test_gets(connect, channel, queue, expect_close, request):
    Consumer(connect(), queue, prefetch=1)
    publish(channel, queue, b"1", b"2")
    if "quorum" in request.node.name:
        text = expect_close(405)(channel.basic_get, queue)
        assert text == (f"RESOURCE_LOCKED - cannot obtain access to locked queue '{queue}' in vhost '/'. basic.get operations "
                        "are not supported by quorum queues with single active consumer")
        return
    channel.basic_get(queue, auto_ack=True)
    assert channel.is_open


# ---- exclusive consumers -----------------------------------------------------------------------------------------------


def test_an_exclusive_consumer_keeps_others_out(connect, channel, name, expect_close, eventually):
    queue = name()
    channel.queue_declare(queue, auto_delete=False)
    first = Consumer(connect(), queue, exclusive=True)
    for exclusive in (False, True):
        text = expect_close(403)(connect().channel().basic_consume, queue, lambda *_: None, exclusive=exclusive)
        assert text == f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"
    first.channel.basic_cancel(first.tag)
    second = Consumer(connect(), queue, auto_ack=True)
    publish(channel, queue, b"1")
    assert eventually(lambda: second.bodies() == [b"1"])
    channel.queue_delete(queue)


def test_an_exclusive_consumer_comes_alone(connect, channel, name, expect_close):
    queue = name()
    channel.queue_declare(queue)
    Consumer(connect(), queue)
    text = expect_close(403)(connect().channel().basic_consume, queue, lambda *_: None, exclusive=True)
    assert text == f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"
    channel.queue_delete(queue)
