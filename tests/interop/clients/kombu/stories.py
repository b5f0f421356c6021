"""kombu (Debian's python3-kombu): declarations as objects, serializers, retries of its own."""
import socket
import time

import kombu
import kombu.exceptions
from kombu.mixins import ConsumerMixin

from story import URL, eventually, restart_the_broker, same, story, tell


def connect(**more):
    return kombu.Connection(URL, transport_options={"confirm_publish": True}, **more)


def with_connection(tell_it):
    """Gives a story a connection, which is closed when the story ends."""
    def wrapped():
        with connect() as connection:
            tell_it(connection)
    wrapped.__name__ = tell_it.__name__
    return story(wrapped)


def declared(queue, connection):
    bound = queue(connection.default_channel)
    bound.declare()
    return bound


def mine(connection, name, exchange=None, key="", **more):
    """A queue that goes with its connection."""
    return declared(kombu.Queue(name, exchange or kombu.Exchange(""), routing_key=key, exclusive=True, durable=False, **more), connection)


def bodies(queue, count):
    found = []
    for _ in range(count):
        found.append(eventually(lambda: queue.get(no_ack=True), missing=f"nothing from {queue.name} after {found}").payload)
    return found


def listen(connection, seconds=0.3):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            connection.drain_events(timeout=0.05)
        except socket.timeout:
            pass


@with_connection
def topology(connection):
    events = kombu.Exchange("kombu.events", "topic", durable=True)
    copies = declared(kombu.Exchange("kombu.copies", "fanout", durable=True), connection)
    queue = kombu.Queue("kombu.topology", [kombu.binding(events, routing_key="a.*"), kombu.binding(copies, routing_key="")], durable=True)
    with connection.Producer(serializer="json") as producer:
        producer.publish({"n": 1}, exchange=events, routing_key="a.b", declare=[queue])
        producer.publish({"n": 2}, exchange=copies, routing_key="")
        producer.publish({"n": 3}, exchange=events, routing_key="c")
    queue = queue(connection.default_channel)
    same(bodies(queue, 2), [{"n": 1}, {"n": 2}])
    same(queue.get(), None)
    queue.delete(if_empty=True)
    for exchange in (events, copies):
        exchange(connection.default_channel).delete(if_unused=True)


@with_connection
def confirms(connection):
    queue = mine(connection, "kombu.confirms")
    for compression in (None, "zlib"):
        with connection.Producer(serializer="pickle", compression=compression) as producer:
            for number in range(20):
                producer.publish({"n": number}, routing_key=queue.name, retry=True)
    same(queue.queue_declare(passive=True).message_count, 40)
    queue.purge()


@with_connection
def returns(connection):
    back = []
    with connection.Producer(on_return=lambda error, exchange, key, message: back.append((error.reply_code, key))) as producer:
        producer.publish("back to me", routing_key="kombu.nowhere", mandatory=True)
        eventually(lambda: back or listen(connection, 0.1), missing="nothing came back")
    same(back, [(312, "kombu.nowhere")])


@with_connection
def acknowledgements(connection):
    queue = mine(connection, "kombu.acks")
    with connection.Producer() as producer:
        for body in "abc":
            producer.publish(body, routing_key=queue.name)
    first, second, third = (queue.get() for _ in range(3))
    first.ack()
    second.requeue()
    third.reject()
    again = queue.get()
    same((again.payload, again.delivery_info["redelivered"]), ("b", True))
    again.ack()
    same(queue.get(), None)


@with_connection
def prefetch(connection):
    queue, inbox = mine(connection, "kombu.prefetch"), []
    with connection.Producer() as producer:
        for number in range(10):
            producer.publish(str(number), routing_key=queue.name)
    with connection.Consumer(queue, callbacks=[lambda body, message: inbox.append(message)], prefetch_count=3):
        listen(connection)
        same(len(inbox), 3)
        inbox[2].ack(multiple=True)
        listen(connection)
        same(len(inbox), 6)


@with_connection
def retry_ladder(connection):
    work = mine(connection, "kombu.work", queue_arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "kombu.wait"})
    mine(connection, "kombu.wait", message_ttl=0.1, queue_arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "kombu.work"})
    with connection.Producer() as producer:
        producer.publish("fails twice", routing_key="kombu.work")
    for _ in range(2):
        eventually(work.get).reject()
    message = eventually(work.get)
    message.ack()
    same([(death["queue"], death["reason"], death["count"]) for death in message.headers["x-death"]],
         [("kombu.wait", "expired", 2), ("kombu.work", "rejected", 2)])


@with_connection
def priorities(connection):
    queue = mine(connection, "kombu.priorities", max_priority=10)
    with connection.Producer() as producer:
        for priority in (1, 10, 5):
            producer.publish(priority, routing_key=queue.name, priority=priority)
    same(bodies(queue, 3), [10, 5, 1])


@with_connection
def alternate_exchange(connection):
    unrouted = kombu.Exchange("kombu.unrouted", "fanout", durable=False, auto_delete=True)
    queue = mine(connection, "kombu.caught", unrouted)
    routed = kombu.Exchange("kombu.routed", "direct", durable=False, arguments={"alternate-exchange": "kombu.unrouted"})
    with connection.Producer() as producer:
        producer.publish("caught", exchange=routed, routing_key="no such key", declare=[routed])
    same(bodies(queue, 1), ["caught"])
    routed(connection.default_channel).delete()


@with_connection
def headers_exchange(connection):
    exchange = kombu.Exchange("kombu.by-headers", "headers", durable=False, auto_delete=True)
    queue = mine(connection, "kombu.pdfs", exchange, binding_arguments={"x-match": "all", "format": "pdf", "colour": True})
    with connection.Producer(exchange=exchange) as producer:
        producer.publish("grey", headers={"format": "pdf", "colour": False})
        producer.publish("coloured", headers={"format": "pdf", "colour": True})
    same(bodies(queue, 1), ["coloured"])
    same(queue.get(), None)


@with_connection
def expiry(connection):
    queue = mine(connection, "kombu.expiry")
    with connection.Producer() as producer:
        producer.publish("short-lived", routing_key=queue.name, expiration=0.1)   # kombu counts in seconds.
    time.sleep(0.4)
    same(queue.get(), None)
    gone = declared(kombu.Queue("kombu.gone", durable=False, expires=0.15), connection)
    time.sleep(0.6)
    try:
        gone.queue_declare(passive=True)
        raise AssertionError("the queue is still there")
    except connection.channel_errors as error:
        same(error.reply_code, 404)


@with_connection
def length_limits(connection):
    by_count, by_bytes = mine(connection, "kombu.two", max_length=2), mine(connection, "kombu.bytes", max_length_bytes=6)
    with connection.Producer() as producer:
        for body in ("one", "two", "three"):
            producer.publish(body, routing_key=by_count.name)
        for body in ("aaa", "bbb", "ccc"):
            producer.publish(body, routing_key=by_bytes.name)
    same((bodies(by_count, 2), bodies(by_bytes, 2)), (["two", "three"], ["bbb", "ccc"]))


@with_connection
def stream(connection):
    queue = declared(kombu.Queue("kombu.stream", durable=True, queue_arguments={"x-queue-type": "stream"},
                                 consumer_arguments={"x-stream-offset": "first"}), connection)
    with connection.Producer() as producer:
        for number in range(10):
            producer.publish(number, routing_key=queue.name)
    for _ in range(2):   # Reading takes nothing away.
        seen = []

        def take(body, message):
            seen.append((body, message.headers["x-stream-offset"]))
            message.ack()

        with connection.channel() as channel, connection.Consumer(queue, channel=channel, callbacks=[take], prefetch_count=5):
            listen(connection)
        same(seen, [(number, number) for number in range(10)])
    queue.delete()


@with_connection
def cancellation(connection):
    queue, cancelled = declared(kombu.Queue("kombu.going", durable=False), connection), []
    with connection.Consumer(queue, callbacks=[lambda body, message: None]):
        other = connect()
        queue(other.default_channel).delete()
        other.close()
        try:
            listen(connection)
        except Exception as error:   # kombu tells of a cancelled consumer with an exception.
            cancelled.append(type(error).__name__)
    same(cancelled, ["ConsumerCancelled"])


@with_connection
def simple_queue(connection):
    with connection.SimpleQueue("kombu.simple") as queue:
        queue.put({"hello": ["world", None, 1.5]})
        message = queue.get(timeout=5)
        same((message.payload, queue.qsize()), ({"hello": ["world", None, 1.5]}, 0))
        message.ack()
    connection.default_channel.queue_delete("kombu.simple")


@with_connection
def errors(connection):
    for wrong, code in ((kombu.Queue("kombu.unbound", kombu.Exchange("kombu.none", passive=True)), 404), (kombu.Queue("amq.mine"), 403),
                        (kombu.Queue("kombu.wrong", max_priority=-1), 406),
                        (kombu.Exchange("kombu.wrong", "direct", arguments={"alternate-exchange": 5}), 406)):
        try:
            wrong(connection.channel()).declare()
            raise AssertionError(f"{code} was expected")
        except connection.channel_errors as error:
            same(error.reply_code, code)
    queue = mine(connection, "kombu.locked")
    other = connect()
    try:
        queue(other.default_channel).get()
        raise AssertionError("405 was expected")
    except other.channel_errors as error:
        same(error.reply_code, 405)
    other.close()


class Worker(ConsumerMixin):
    """Loses its broker once it listens, is back by itself, and then gets its message."""

    def __init__(self, connection, queue):
        self.connection, self.queue, self.seen, self.times_ready = connection, queue, [], 0

    def get_consumers(self, Consumer, channel):
        return [Consumer(self.queue, callbacks=[self.take])]

    def on_consume_ready(self, connection, channel, consumers, **more):
        self.times_ready += 1
        if self.times_ready == 1:
            restart_the_broker()
        else:
            with connect() as publishing:
                publishing.Producer().publish("after", routing_key=self.queue.name)

    def take(self, body, message):
        self.seen.append(body)
        message.ack()
        self.should_stop = True


@story
def recovery():
    queue = kombu.Queue("kombu.durable", durable=True)
    with connect() as connection:
        worker = Worker(connection, queue)
        worker.run()
        same((worker.times_ready, worker.seen), (2, ["after"]))
    with connect() as connection:
        queue(connection.default_channel).delete()


tell()
