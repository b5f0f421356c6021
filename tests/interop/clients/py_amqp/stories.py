"""py-amqp (Debian's python3-amqp), the client underneath kombu and Celery, used by itself."""
import socket
import time

import amqp

from story import PORT, eventually, restart_the_broker, same, story, tell


def connect(**more):
    connection = amqp.Connection(f"127.0.0.1:{PORT}", **{"userid": "guest", "password": "guest", "virtual_host": "/", "confirm_publish": True, **more})
    connection.connect()
    return connection


def with_channel(tell_it):
    """Gives a story a channel of a connection of its own, which is closed when the story ends."""
    def wrapped():
        connection = connect()
        try:
            tell_it(connection.channel())
        finally:
            connection.close()
    wrapped.__name__ = tell_it.__name__
    return story(wrapped)


def publish(channel, queue, body, exchange="", **properties):
    channel.basic_publish(amqp.Message(body, **properties), exchange, queue)


def declare(channel, name="", **arguments):
    """An exclusive queue; x_message_ttl=5 stands for the argument x-message-ttl."""
    return channel.queue_declare(name, exclusive=True, arguments={key.replace("_", "-"): value for key, value in arguments.items()}).queue


def unacknowledged(channel, queue):
    return eventually(lambda: channel.basic_get(queue), missing=f"nothing from {queue}")


def get(channel, queue):
    message = unacknowledged(channel, queue)
    channel.basic_ack(message.delivery_tag)
    return message


def bodies(channel, queue, count):
    return [get(channel, queue).body for _ in range(count)]


def depth(channel, queue):
    return channel.queue_declare(queue, passive=True).message_count


def listen(channel, seconds=0.3):
    """Lets deliveries come in for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            channel.connection.drain_events(timeout=0.05)
        except socket.timeout:
            pass


def closes(error, call, *arguments, **keywords):
    """The call ends with this error of amqp.exceptions; answers its text."""
    try:
        call(*arguments, **keywords)
    except error as caught:
        same(caught.reply_code, error.code)
        return caught.reply_text
    raise AssertionError(f"{error.code} was expected")


@with_channel
def topology(channel):
    channel.exchange_declare("amqp.topic", "topic", durable=True, auto_delete=False)
    channel.exchange_declare("amqp.fanout", "fanout", durable=True, auto_delete=False)
    queue = declare(channel)
    channel.queue_bind(queue, "amqp.topic", "*.rain")
    channel.exchange_bind("amqp.topic", "amqp.fanout", "")
    publish(channel, "paris.rain", "wet", "amqp.fanout")
    publish(channel, "paris.sun", "dry", "amqp.fanout")
    same(bodies(channel, queue, 1), ["wet"])
    channel.exchange_unbind("amqp.topic", "amqp.fanout", "")
    closes(amqp.PreconditionFailed, channel.connection.channel().exchange_delete, "amqp.topic", if_unused=True)
    channel.queue_unbind(queue, "amqp.topic", "*.rain")
    same(depth(channel, queue), 0)
    channel.exchange_delete("amqp.topic", if_unused=True)
    channel.exchange_delete("amqp.fanout", if_unused=True)
    publish(channel, queue, "left")
    closes(amqp.PreconditionFailed, channel.connection.channel().queue_delete, queue, if_empty=True)
    same(channel.queue_purge(queue), 1)
    same(channel.queue_delete(queue, if_empty=True), 0)


@with_channel
def confirms(channel):
    queue, acked = declare(channel), []
    channel.events["basic_ack"].add(lambda tag, multiple: acked.append(tag))
    for number in range(20):
        publish(channel, queue, str(number), delivery_mode=2)   # Waits for the confirmation.
    same((depth(channel, queue), acked[-1]), (20, 20))


@with_channel
def returns(channel):
    back = []
    channel.events["basic_return"].add(lambda error, exchange, key, message: back.append((error.reply_code, key, message.body)))
    channel.basic_publish(amqp.Message("back to me"), "", "amqp.nowhere", mandatory=True)
    same(back, [(312, "amqp.nowhere", "back to me")])


@with_channel
def acknowledgements(channel):
    queue = declare(channel)
    for body in "abcd":
        publish(channel, queue, body)
    first, second, third, fourth = (channel.basic_get(queue) for _ in range(4))
    channel.basic_ack(first.delivery_tag)
    channel.basic_reject(second.delivery_tag, requeue=True)
    channel.basic_reject(third.delivery_tag, requeue=False)
    channel.basic_recover(requeue=True)
    again = [get(channel, queue) for _ in range(2)]
    same([(message.body, message.delivery_info["redelivered"]) for message in again], [("b", True), ("d", True)])
    same((depth(channel, queue), fourth.body), (0, "d"))


@with_channel
def prefetch(channel):
    queue, inbox = declare(channel), []
    for number in range(10):
        publish(channel, queue, str(number))
    channel.basic_qos(0, 3, False)
    channel.basic_consume(queue, callback=inbox.append)
    listen(channel)
    same(len(inbox), 3)
    channel.basic_ack(inbox[1].delivery_tag, multiple=True)
    listen(channel)
    same([message.body for message in inbox], list("01234"))


@with_channel
def retry_ladder(channel):
    channel.queue_declare("amqp.wait", auto_delete=False, arguments={
        "x-message-ttl": 100, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "amqp.work"})
    channel.queue_declare("amqp.work", auto_delete=False, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "amqp.wait"})
    publish(channel, "amqp.work", "fails twice", delivery_mode=2)
    for _ in range(2):
        channel.basic_reject(unacknowledged(channel, "amqp.work").delivery_tag, requeue=False)
    headers = get(channel, "amqp.work").headers
    same([(death["queue"], death["reason"], death["count"]) for death in headers["x-death"]],
         [("amqp.wait", "expired", 2), ("amqp.work", "rejected", 2)])
    same((headers["x-first-death-queue"], headers["x-first-death-reason"]), ("amqp.work", "rejected"))
    channel.queue_delete("amqp.work")
    channel.queue_delete("amqp.wait")


@with_channel
def priorities(channel):
    queue = declare(channel, x_max_priority=10)
    for priority in (1, 10, 5, 0, 5):
        publish(channel, queue, str(priority), priority=priority)
    same(bodies(channel, queue, 5), ["10", "5", "5", "1", "0"])


@with_channel
def alternate_exchange(channel):
    queue = declare(channel)
    channel.exchange_declare("amqp.unrouted", "fanout")
    channel.queue_bind(queue, "amqp.unrouted")
    channel.exchange_declare("amqp.routed", "direct", arguments={"alternate-exchange": "amqp.unrouted"})
    publish(channel, "no such key", "caught", "amqp.routed")
    same(bodies(channel, queue, 1), ["caught"])


@with_channel
def carbon_copies(channel):
    first, second, third = declare(channel), declare(channel), declare(channel)
    publish(channel, first, "to three", application_headers={"CC": [second], "BCC": [third]})
    for queue in (first, second, third):
        message = get(channel, queue)
        same((message.body, message.headers), ("to three", {"CC": [second]}))
    closes(amqp.PreconditionFailed, publish, channel.connection.channel(), first, "x", application_headers={"CC": "not a list"})


@with_channel
def headers_exchange(channel):
    channel.exchange_declare("amqp.by-headers", "headers")
    every, some = declare(channel), declare(channel)
    channel.queue_bind(every, "amqp.by-headers", arguments={"x-match": "all", "kind": "a", "size": 2})
    channel.queue_bind(some, "amqp.by-headers", arguments={"x-match": "any", "kind": "a", "size": 2})
    publish(channel, "", "both", "amqp.by-headers", application_headers={"kind": "a", "size": 2})
    publish(channel, "", "one", "amqp.by-headers", application_headers={"kind": "b", "size": 2})
    publish(channel, "", "none", "amqp.by-headers", application_headers={"kind": "b"})
    same(bodies(channel, some, 2), ["both", "one"])
    same(bodies(channel, every, 1), ["both"])
    same((depth(channel, every), depth(channel, some)), (0, 0))


@with_channel
def expiry(channel):
    dead = declare(channel)
    queue = declare(channel, x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
    publish(channel, queue, "short-lived", expiration="60")
    message = get(channel, dead)
    same((message.headers["x-death"][0]["original-expiration"], message.properties.get("expiration")), ("60", None))
    channel.queue_declare("amqp.expires", auto_delete=False, arguments={"x-expires": 150})
    time.sleep(0.6)
    closes(amqp.NotFound, channel.connection.channel().queue_declare, "amqp.expires", passive=True)


@with_channel
def length_limits(channel):
    newest = declare(channel, x_max_length=2)
    for body in "abcd":
        publish(channel, newest, body)
    same(bodies(channel, newest, 2), ["c", "d"])
    full, nacked = declare(channel, x_max_length=2, x_overflow="reject-publish"), []
    channel.events["basic_nack"].add(lambda tag, *_: nacked.append(tag))
    refused = 0
    for body in "abc":
        try:
            publish(channel, full, body)
        except amqp.exceptions.MessageNacked:
            refused += 1
    same((refused, bodies(channel, full, 2)), (1, ["a", "b"]))


@with_channel
def delivery_limit(channel):
    dead, counts = declare(channel), []
    channel.queue_declare("amqp.quorum", durable=True, auto_delete=False, arguments={
        "x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    publish(channel, "amqp.quorum", "poison", delivery_mode=2)

    def fail(message):
        counts.append((message.headers or {}).get("x-delivery-count"))
        channel.basic_reject(message.delivery_tag, requeue=True)

    tag = channel.basic_consume("amqp.quorum", callback=fail)
    listen(channel)
    channel.basic_cancel(tag)
    same(counts, [None, 1, 2])
    message = get(channel, dead)
    same((message.body, message.headers["x-death"][0]["reason"]), ("poison", "delivery_limit"))
    channel.queue_delete("amqp.quorum")


@with_channel
def single_active_consumer(channel):
    queue, seen = declare(channel, x_single_active_consumer=True), []
    first = channel.basic_consume(queue, callback=lambda message: seen.append("first " + message.body), no_ack=True)
    channel.basic_consume(queue, callback=lambda message: seen.append("second " + message.body), no_ack=True)
    publish(channel, queue, "a")
    publish(channel, queue, "b")
    listen(channel)
    channel.basic_cancel(first)
    publish(channel, queue, "c")
    listen(channel)
    same(seen, ["first a", "first b", "second c"])


@with_channel
def stream(channel):
    channel.queue_declare("amqp.stream", durable=True, auto_delete=False, arguments={"x-queue-type": "stream"})
    for number in range(20):
        publish(channel, "amqp.stream", str(number), delivery_mode=2)
    for offset, expected in (("first", range(20)), (15, range(15, 20))):
        reader, seen = channel.connection.channel(), []
        reader.basic_qos(0, 5, False)

        def take(message):
            seen.append((int(message.body), message.headers["x-stream-offset"]))
            reader.basic_ack(message.delivery_tag)

        reader.basic_consume("amqp.stream", callback=take, arguments={"x-stream-offset": offset})
        listen(reader)
        reader.close()
        same(seen, [(number, number) for number in expected])
    channel.queue_delete("amqp.stream")


@with_channel
def direct_reply_to(channel):
    questions, answers, server = declare(channel), [], channel.connection.channel()
    channel.basic_consume("amq.rabbitmq.reply-to", callback=answers.append, no_ack=True)
    publish(channel, questions, "20 + 1", reply_to="amq.rabbitmq.reply-to", correlation_id="7")
    question = get(server, questions)
    publish(server, question.properties["reply_to"], "21", correlation_id=question.properties["correlation_id"])
    listen(channel)
    same([(answer.body, answer.properties["correlation_id"]) for answer in answers], [("21", "7")])


@with_channel
def cancellation(channel):
    cancelled = []
    channel.queue_declare("amqp.going", auto_delete=False)
    tag = channel.basic_consume("amqp.going", callback=lambda message: None, on_cancel=cancelled.append)
    channel.connection.channel().queue_delete("amqp.going")
    listen(channel)
    same(cancelled, [tag])


@story
def errors():
    connection, other = connect(), connect()
    channel = connection.channel
    same(closes(amqp.NotFound, channel().queue_declare, "amqp.none", passive=True), "NOT_FOUND - no queue 'amqp.none' in vhost '/'")
    closes(amqp.NotFound, channel().queue_bind, "amqp.none", "amq.direct", "x")
    closes(amqp.NotFound, publish, channel(), "x", "x", "amqp.none")
    closes(amqp.AccessRefused, channel().queue_declare, "amq.mine")
    closes(amqp.AccessRefused, channel().queue_bind, declare(channel()), "")
    mine = declare(channel(), "amqp.mine")
    closes(amqp.ResourceLocked, other.channel().queue_declare, mine, passive=True)
    closes(amqp.ResourceLocked, other.channel().queue_delete, mine)
    closes(amqp.PreconditionFailed, channel().queue_declare, mine, exclusive=True, auto_delete=False, durable=True)
    closes(amqp.PreconditionFailed, channel().queue_declare, "amqp.wrong", arguments={"x-message-ttl": "soon"})
    closes(amqp.PreconditionFailed, channel().queue_declare, "amqp.wrong", arguments={"x-queue-type": "heap"})
    closes(amqp.PreconditionFailed, channel().queue_declare, "amqp.wrong", arguments={"x-overflow": "explode"})
    unknown = channel()
    unknown.basic_ack(99)
    closes(amqp.PreconditionFailed, unknown.queue_declare, mine, passive=True)
    closes(amqp.NotAllowed, connect, virtual_host="no such vhost")
    closes(amqp.AccessRefused, connect, password="wrong")
    closes(amqp.exceptions.InvalidCommand, connect().channel().exchange_declare, "amqp.strange", "no-such-type")
    connection.close()
    other.close()


@story
def transactions():
    connection = connect(confirm_publish=False)
    channel = connection.channel()
    queue = declare(channel)
    channel.tx_select()
    publish(channel, queue, "undone")
    channel.tx_rollback()
    publish(channel, queue, "done")
    same(depth(channel, queue), 0)
    channel.tx_commit()
    same(depth(channel, queue), 1)
    connection.close()


@story
def recovery():
    connection = connect()
    channel = connection.channel()
    channel.queue_declare("amqp.durable", durable=True, auto_delete=False)
    publish(channel, "amqp.durable", "kept", delivery_mode=2)
    publish(channel, "amqp.durable", "lost", delivery_mode=1)
    restart_the_broker()
    try:
        connection.drain_events(timeout=2)
        raise AssertionError("the connection is still open")
    except (amqp.exceptions.ConnectionForced, OSError) as error:
        assert getattr(error, "reply_code", 320) == 320, error
    connection = connect()
    channel = connection.channel()
    same(bodies(channel, "amqp.durable", 1), ["kept"])
    same(depth(channel, "amqp.durable"), 0)
    channel.queue_delete("amqp.durable")
    connection.close()


tell()
