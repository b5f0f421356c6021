"""pika's blocking connection (Debian's python3-pika)."""
import json
import re
import time

import pika
from pika.exceptions import (AMQPConnectionError, ChannelClosedByBroker, ConnectionClosedByBroker, NackError, ProbableAccessDeniedError,
                             ProbableAuthenticationError, UnroutableError)

from story import URL, administer, eventually, restart_the_broker, same, story, tell


def connect(**more):
    parameters = pika.URLParameters(URL)
    parameters.blocked_connection_timeout = 30
    for key, value in more.items():
        setattr(parameters, key, value)
    return pika.BlockingConnection(parameters)


def with_channel(tell_it):
    """Gives a story a channel of a connection of its own, which is closed when the story ends."""
    def wrapped():
        connection = connect()
        try:
            tell_it(connection.channel())
        finally:
            if connection.is_open:
                connection.close()
    wrapped.__name__ = tell_it.__name__
    return story(wrapped)


def unacknowledged(channel, queue):
    """The next message as (method, properties, body), waiting a little for it."""
    def one():
        method, properties, body = channel.basic_get(queue)
        return (method, properties, body) if method else None
    return eventually(one, missing=f"nothing from {queue}")


def get(channel, queue):
    """The next message, acknowledged."""
    found = unacknowledged(channel, queue)
    channel.basic_ack(found[0].delivery_tag)
    return found


def bodies(channel, queue, count):
    return [get(channel, queue)[2].decode() for _ in range(count)]


def depth(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def listen(channel, seconds=0.3):
    """Lets deliveries come in for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        channel.connection.process_data_events(0.05)


def closes(code, call, *arguments, **keywords):
    try:
        call(*arguments, **keywords)
    except ChannelClosedByBroker as error:
        same(error.reply_code, code)
        return error.reply_text
    raise AssertionError(f"{code} was expected")


def shut_out(**how):
    """No connection is to be had like that; answers the broker's code and words."""
    try:
        connect(**how)
    except (ConnectionClosedByBroker, ProbableAccessDeniedError, ProbableAuthenticationError) as error:
        code, text = re.search(r"""\((\d+)\) ['"](.*)['"]""", str(error)).groups()   # pika wraps what it takes for a reason.
        return int(code), text
    raise AssertionError("it let us in")


@with_channel
def topology(channel):
    for kind in ("direct", "fanout", "topic", "headers"):
        channel.exchange_declare(f"pika.{kind}", kind, durable=True)
        channel.exchange_declare(f"pika.{kind}", passive=True)
    queue = channel.queue_declare("pika.topology", durable=True).method.queue
    channel.queue_bind(queue, "pika.topic", "weather.#")
    channel.exchange_bind("pika.topic", "pika.fanout", "")
    channel.basic_publish("pika.fanout", "weather.paris.rain", b"through two exchanges")
    channel.basic_publish("pika.fanout", "sports", b"to nobody")
    same(bodies(channel, queue, 1), ["through two exchanges"])
    channel.exchange_unbind("pika.topic", "pika.fanout", "")
    channel.queue_unbind(queue, "pika.topic", "weather.#")
    same(depth(channel, queue), 0)
    for kind in ("direct", "fanout", "topic", "headers"):
        channel.exchange_delete(f"pika.{kind}", if_unused=True)
    channel.queue_delete(queue, if_unused=True, if_empty=True)


@with_channel
def confirms(channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.confirm_delivery()
    for number in range(20):
        channel.basic_publish("", queue, str(number), pika.BasicProperties(delivery_mode=2))
    same(depth(channel, queue), 20)


@with_channel
def returns(channel):
    channel.confirm_delivery()
    try:
        channel.basic_publish("", "pika.nowhere", b"back to me", mandatory=True)
        raise AssertionError("it was not returned")
    except UnroutableError as error:
        returned, = error.messages
        same((returned.method.reply_code, returned.method.reply_text, returned.body), (312, "NO_ROUTE", b"back to me"))


@with_channel
def acknowledgements(channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    for body in "abcd":
        channel.basic_publish("", queue, body)
    assert eventually(lambda: depth(channel, queue) == 4)
    tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(4)]
    channel.basic_ack(tags[0])
    channel.basic_nack(tags[1], requeue=True)
    channel.basic_reject(tags[2], requeue=False)
    channel.basic_reject(tags[3], requeue=True)
    again = [channel.basic_get(queue) for _ in range(2)]
    same([(body, method.redelivered) for method, _, body in again], [(b"b", True), (b"d", True)])
    channel.basic_nack(again[1][0].delivery_tag, multiple=True, requeue=True)
    same(bodies(channel, queue, 2), ["b", "d"])


@with_channel
def prefetch(channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    for number in range(10):
        channel.basic_publish("", queue, str(number))
    channel.basic_qos(prefetch_count=3)
    inbox = []
    channel.basic_consume(queue, lambda _, method, properties, body: inbox.append(method.delivery_tag))
    listen(channel)
    same(len(inbox), 3)
    channel.basic_ack(inbox[1], multiple=True)
    listen(channel)
    same(len(inbox), 5)


@with_channel
def retry_ladder(channel):
    channel.exchange_declare("pika.work", "direct")
    channel.exchange_declare("pika.retry", "direct")
    channel.queue_declare("pika.work", arguments={"x-dead-letter-exchange": "pika.retry"})
    channel.queue_declare("pika.retry", arguments={"x-message-ttl": 100, "x-dead-letter-exchange": "pika.work"})
    channel.queue_bind("pika.work", "pika.work", "job")
    channel.queue_bind("pika.retry", "pika.retry", "job")
    channel.basic_publish("pika.work", "job", b"fails", pika.BasicProperties(delivery_mode=2, headers={"mine": 1}))
    begin = time.monotonic()
    for attempt in range(4):
        method, properties, body = unacknowledged(channel, "pika.work")
        if attempt < 3:
            channel.basic_nack(method.delivery_tag, requeue=False)
    channel.basic_ack(method.delivery_tag)
    assert 0.3 <= time.monotonic() - begin < 5, "three waits of 100 ms"
    deaths = properties.headers["x-death"]
    same([(death["queue"], death["reason"], death["count"], death["exchange"], death["routing-keys"]) for death in deaths],
         [("pika.retry", "expired", 3, "pika.retry", ["job"]), ("pika.work", "rejected", 3, "pika.work", ["job"])])
    same([properties.headers["x-first-death-" + key] for key in ("queue", "reason", "exchange")], ["pika.work", "rejected", "pika.work"])
    same((properties.headers["mine"], method.exchange, method.routing_key, method.redelivered), (1, "pika.work", "job", False))
    for name in ("pika.work", "pika.retry"):
        channel.queue_delete(name)
        channel.exchange_delete(name)


@with_channel
def priorities(channel):
    queue = channel.queue_declare("", exclusive=True, arguments={"x-max-priority": 5}).method.queue
    for priority in (1, 5, 3, None, 9, 3):
        channel.basic_publish("", queue, str(priority), pika.BasicProperties(priority=priority))
    assert eventually(lambda: depth(channel, queue) == 6)
    same(bodies(channel, queue, 6), ["5", "9", "3", "3", "1", "None"])


@with_channel
def alternate_exchange(channel):
    channel.exchange_declare("pika.unrouted", "fanout", auto_delete=True)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "pika.unrouted")
    channel.exchange_declare("pika.routed", "direct", arguments={"alternate-exchange": "pika.unrouted"})
    channel.confirm_delivery()
    channel.basic_publish("pika.routed", "no such key", b"caught", mandatory=True)
    method, _, body = get(channel, queue)
    same((method.exchange, method.routing_key, body), ("pika.routed", "no such key", b"caught"))
    channel.exchange_delete("pika.routed")


@with_channel
def carbon_copies(channel):
    first, second, third = (channel.queue_declare("", exclusive=True).method.queue for _ in range(3))
    channel.basic_publish("", first, b"to three", pika.BasicProperties(headers={"CC": [second], "BCC": [third]}))
    for queue in (first, second, third):
        method, properties, body = get(channel, queue)
        same((body, method.routing_key, properties.headers), (b"to three", first, {"CC": [second]}))


@with_channel
def headers_exchange(channel):
    channel.exchange_declare("pika.by-headers", "headers")
    every, some = (channel.queue_declare("", exclusive=True).method.queue for _ in range(2))
    channel.queue_bind(every, "pika.by-headers", arguments={"x-match": "all", "format": "pdf", "pages": 2})
    channel.queue_bind(some, "pika.by-headers", arguments={"x-match": "any", "format": "pdf", "pages": 2})
    for body, headers in (("both", {"format": "pdf", "pages": 2}), ("one", {"format": "pdf", "pages": 3}), ("none", {"format": "png"})):
        channel.basic_publish("pika.by-headers", "", body, pika.BasicProperties(headers=headers))
    same(bodies(channel, some, 2), ["both", "one"])
    same(bodies(channel, every, 1), ["both"])
    same((depth(channel, every), depth(channel, some)), (0, 0))
    channel.exchange_delete("pika.by-headers")


@with_channel
def expiry(channel):
    dead = channel.queue_declare("", exclusive=True).method.queue
    queue = channel.queue_declare("", exclusive=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}).method.queue
    channel.basic_publish("", queue, b"short-lived", pika.BasicProperties(expiration="60"))
    _, properties, body = get(channel, dead)
    death, = properties.headers["x-death"]
    same((body, properties.expiration, death["original-expiration"], death["reason"]), (b"short-lived", None, "60", "expired"))
    same(depth(channel, queue), 0)
    channel.queue_declare("pika.expires", arguments={"x-expires": 150})
    time.sleep(0.6)
    closes(404, channel.queue_declare, "pika.expires", passive=True)


@with_channel
def length_limits(channel):
    dead = channel.queue_declare("", exclusive=True).method.queue
    oldest_goes = channel.queue_declare("", exclusive=True, arguments={
        "x-max-length": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}).method.queue
    for body in "abcd":
        channel.basic_publish("", oldest_goes, body)
    same(bodies(channel, dead, 2), ["a", "b"])
    same(bodies(channel, oldest_goes, 2), ["c", "d"])
    full = channel.queue_declare("", exclusive=True, arguments={"x-max-length-bytes": 10, "x-overflow": "reject-publish"}).method.queue
    channel.confirm_delivery()
    channel.basic_publish("", full, b"0123456789")
    try:
        channel.basic_publish("", full, b"refused")
        raise AssertionError("it was confirmed")
    except NackError:
        pass


@with_channel
def delivery_limit(channel):
    dead = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_declare("pika.quorum", durable=True, arguments={
        "x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    channel.basic_publish("", "pika.quorum", b"poison", pika.BasicProperties(delivery_mode=2))
    counts = []
    for _ in range(3):
        method, properties, _ = unacknowledged(channel, "pika.quorum")
        counts.append(properties.headers["x-delivery-count"])
        channel.basic_nack(method.delivery_tag, requeue=True)
    same(counts, [0, 1, 2])
    _, properties, body = get(channel, dead)
    same((body, properties.headers["x-death"][0]["reason"]), (b"poison", "delivery_limit"))
    channel.queue_delete("pika.quorum")


@with_channel
def single_active_consumer(channel):
    queue = channel.queue_declare("", exclusive=True, arguments={"x-single-active-consumer": True}).method.queue
    seen = []
    first = channel.basic_consume(queue, lambda *delivery: seen.append(("first", delivery[3])), auto_ack=True)
    channel.basic_consume(queue, lambda *delivery: seen.append(("second", delivery[3])), auto_ack=True)
    for body in (b"a", b"b"):
        channel.basic_publish("", queue, body)
    listen(channel)
    channel.basic_cancel(first)
    channel.basic_publish("", queue, b"c")
    listen(channel)
    same(seen, [("first", b"a"), ("first", b"b"), ("second", b"c")])


@with_channel
def stream(channel):
    channel.queue_declare("pika.stream", durable=True, arguments={"x-queue-type": "stream", "x-max-length-bytes": 10_000_000})
    channel.confirm_delivery()
    for number in range(20):
        channel.basic_publish("", "pika.stream", str(number), pika.BasicProperties(delivery_mode=2))
    channel.basic_qos(prefetch_count=10)
    for offset, expected in (("first", range(20)), (15, range(15, 20))):
        seen = []

        def take(_, method, properties, body):
            seen.append((int(body), properties.headers["x-stream-offset"]))
            channel.basic_ack(method.delivery_tag)

        tag = channel.basic_consume("pika.stream", take, arguments={"x-stream-offset": offset})
        deadline = time.monotonic() + 5
        while len(seen) < len(expected) and time.monotonic() < deadline:
            channel.connection.process_data_events(0.1)
        channel.basic_cancel(tag)
        same(seen, [(number, number) for number in expected])
    channel.queue_delete("pika.stream")


@with_channel
def direct_reply_to(channel):
    questions = channel.queue_declare("", exclusive=True).method.queue
    server = connect()
    answering = server.channel()
    answers = []
    channel.basic_consume("amq.rabbitmq.reply-to", lambda _, method, properties, body: answers.append((properties.correlation_id, body)),
                          auto_ack=True)
    channel.basic_publish("", questions, b"20 + 1", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id="7"))
    _, properties, _ = get(channel, questions)
    assert properties.reply_to.startswith("amq.rabbitmq.reply-to."), properties.reply_to
    answering.basic_publish("", properties.reply_to, b"21", pika.BasicProperties(correlation_id=properties.correlation_id))
    server.close()
    listen(channel)
    same(answers, [("7", b"21")])


@with_channel
def cancellation(channel):
    channel.queue_declare("pika.going")
    cancelled = []
    channel.add_on_cancel_callback(lambda method: cancelled.append(method.method.consumer_tag))
    tag = channel.basic_consume("pika.going", lambda *delivery: None)
    other = connect()
    other.channel().queue_delete("pika.going")
    other.close()
    listen(channel)
    same(cancelled, [tag])


@story
def errors():
    connection, other = connect(), connect()

    def channel():
        return connection.channel()

    same(closes(404, channel().queue_declare, "pika.none", passive=True), "NOT_FOUND - no queue 'pika.none' in vhost '/'")
    same(closes(404, channel().exchange_declare, "pika.none", passive=True), "NOT_FOUND - no exchange 'pika.none' in vhost '/'")
    closes(404, channel().basic_consume, "pika.none", lambda *delivery: None)
    closes(403, channel().queue_declare, "amq.mine")
    closes(403, channel().exchange_declare, "amq.mine", "direct")
    closes(403, channel().exchange_delete, "amq.direct")
    generated = channel().queue_declare("", exclusive=True).method.queue
    closes(403, channel().queue_declare, generated, exclusive=True)
    mine = channel().queue_declare("pika.mine", exclusive=True).method.queue
    closes(405, other.channel().basic_get, mine)
    same(closes(406, channel().queue_declare, mine, exclusive=True, arguments={"x-message-ttl": 5}),
         f"PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue '{mine}' in vhost '/': received the value '5' of type "
         "'signedint' but current is none")
    closes(406, channel().queue_declare, "pika.wrong", arguments={"x-message-ttl": -1})
    closes(406, channel().queue_declare, "pika.wrong", arguments={"x-max-priority": 256})
    closes(406, channel().exchange_declare, "amq.direct", "topic", durable=True)
    third = channel()
    third.basic_ack(99)
    same(closes(406, third.queue_declare, mine, passive=True), "PRECONDITION_FAILED - unknown delivery tag 99")
    fourth = channel()
    fourth.queue_declare("pika.alone")
    fourth.basic_consume("pika.alone", lambda *delivery: None)
    closes(403, other.channel().basic_consume, "pika.alone", lambda *delivery: None, exclusive=True)
    fourth.queue_delete("pika.alone")
    same(shut_out(virtual_host="no such vhost"), (530, "NOT_ALLOWED - vhost no such vhost not found"))
    same(shut_out(credentials=pika.PlainCredentials("guest", "wrong"))[0], 403)
    connection.close()
    other.close()


@story
def rules_of_queue_types():
    """What quorum queues and streams refuse, some of it with the whole connection."""
    def declare(kind, **more):
        return connect().channel().queue_declare(**{"queue": f"pika.some-{kind}", "durable": True, "arguments": {"x-queue-type": kind}, **more})

    for kind in ("quorum", "stream"):
        for wrong, why in (({"exclusive": True}, "exclusive-owner"), ({"durable": False}, "non-durable"), ({"auto_delete": True}, "auto-delete")):
            same(closes(406, declare, kind, **wrong), f"PRECONDITION_FAILED - invalid property '{why}' for queue 'pika.some-{kind}' in vhost '/'")
        declare(kind)

    def ends_connection(code, call):
        channel = connect().channel()
        try:
            call(channel)
        except ConnectionClosedByBroker as error:
            same(error.reply_code, code)
            return error.reply_text
        raise AssertionError(f"{code} was expected")

    same(ends_connection(540, lambda channel: channel.queue_delete("pika.some-quorum", if_empty=True)),
         "NOT_IMPLEMENTED - cannot delete queue 'pika.some-quorum' in vhost '/'. queue.delete operations with if-empty flag set are not "
         "supported by quorum queues")
    ends_connection(540, lambda channel: channel.queue_delete("pika.some-quorum", if_unused=True))
    same(ends_connection(540, lambda channel: (channel.basic_qos(prefetch_count=5, global_qos=True),
                                               channel.basic_consume("pika.some-quorum", lambda *delivery: None))),
         "NOT_IMPLEMENTED - queue 'pika.some-quorum' in vhost '/' does not support global qos")
    same(ends_connection(540, lambda channel: channel.basic_get("pika.some-stream")),
         "NOT_IMPLEMENTED - basic.get not supported by stream queues queue 'pika.some-stream' in vhost '/'")
    ends_connection(540, lambda channel: channel.queue_purge("pika.some-stream"))
    same(closes(406, connect().channel().basic_consume, "pika.some-stream", lambda *delivery: None),
         "PRECONDITION_FAILED - consumer prefetch count is not set for 'queue 'pika.some-stream' in vhost '/''")
    channel = connect().channel()
    channel.queue_delete("pika.some-quorum")
    channel.queue_delete("pika.some-stream")


@with_channel
def transactions(channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.tx_select()
    channel.basic_publish("", queue, b"undone")
    channel.tx_rollback()
    channel.basic_publish("", queue, b"done")
    same(depth(channel, queue), 0)
    channel.tx_commit()
    same(depth(channel, queue), 1)


@story
def permissions():
    administer("add_user", "ada", "secret")
    administer("set_permissions", "-p", "/", "ada", "^ada\\.", "^(ada\\..*|amq\\.default)$", "^(ada\\..*|pika\\.open)$")
    theirs, connection = connect(), connect(credentials=pika.PlainCredentials("ada", "secret"))
    channel, others = connection.channel, theirs.channel()
    others.queue_declare("pika.open")
    others.queue_declare("pika.shut")
    channel().queue_declare("ada.queue", auto_delete=True)
    same(closes(403, channel().queue_declare, "pika.mine"), "ACCESS_REFUSED - access to queue 'pika.mine' in vhost '/' refused for user 'ada'")
    closes(403, channel().exchange_declare, "pika.exchange")
    channel().basic_get("pika.open")
    closes(403, channel().basic_get, "pika.shut")
    closes(403, channel().basic_consume, "pika.shut", lambda *delivery: None)
    closes(403, channel().queue_bind, "ada.queue", "amq.direct", "x")
    closes(403, channel().queue_purge, "pika.shut")
    closes(403, channel().queue_delete, "pika.open")
    confirmed = channel()
    confirmed.confirm_delivery()
    confirmed.basic_publish("", "ada.queue", b"allowed")
    same(closes(403, confirmed.basic_publish, "amq.direct", "x", b"refused"),
         "ACCESS_REFUSED - access to exchange 'amq.direct' in vhost '/' refused for user 'ada'")
    dead_lettering = {"x-dead-letter-exchange": "amq.direct"}
    closes(403, channel().queue_declare, "ada.dead-lettering", arguments=dead_lettering)
    others.queue_delete("pika.open")
    others.queue_delete("pika.shut")
    connection.close()
    theirs.close()
    administer("delete_user", "ada")


@story
def virtual_hosts():
    administer("add_vhost", "elsewhere")
    administer("add_user", "grace", "secret")
    administer("set_permissions", "-p", "elsewhere", "grace", ".*", ".*", ".*")
    credentials = pika.PlainCredentials("grace", "secret")
    here, there = connect(), connect(credentials=credentials, virtual_host="elsewhere")
    channels = here.channel(), there.channel()
    for channel, body in zip(channels, (b"here", b"there")):
        channel.queue_declare("pika.same-name", auto_delete=True)
        channel.basic_publish("", "pika.same-name", body)
    same([get(channel, "pika.same-name")[2] for channel in channels], [b"here", b"there"])
    same(closes(404, there.channel().queue_declare, "pika.none", passive=True), "NOT_FOUND - no queue 'pika.none' in vhost 'elsewhere'")
    same(shut_out(credentials=credentials), (530, "NOT_ALLOWED - access to vhost '/' refused for user 'grace'"))
    administer("delete_vhost", "elsewhere")
    try:
        listen(channels[1], 10)
        raise AssertionError("the virtual host's connection is still open")
    except ConnectionClosedByBroker as error:
        same(error.reply_code, 320)   # RabbitMQ says that it is deleted, or that it is down, whichever it notices first.
    channels[0].queue_delete("pika.same-name")
    here.close()
    administer("delete_user", "grace")


@with_channel
def policies(channel):
    """They apply to queues that are there already, and stop when they are cleared."""
    dead = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_declare("pika.policed")
    channel.basic_publish("", "pika.policed", b"old")
    rules = {"message-ttl": 100, "max-length": 1, "dead-letter-exchange": "", "dead-letter-routing-key": dead}
    administer("set_policy", "short", "^pika\\.policed$", json.dumps(rules), "--apply-to", "queues")
    channel.basic_publish("", "pika.policed", b"new")
    same([(body, properties.headers["x-first-death-reason"]) for _, properties, body in (get(channel, dead) for _ in range(2))],
         [(b"old", "maxlen"), (b"new", "expired")])
    administer("set_policy", "higher", "^pika\\.policed$", json.dumps({"max-length": 2}), "--apply-to", "queues", "--priority", "5")
    for body in "abc":
        channel.basic_publish("", "pika.policed", body)
    same(bodies(channel, "pika.policed", 2), ["b", "c"])
    administer("clear_policy", "higher")
    administer("clear_policy", "short")
    administer("set_operator_policy", "most", "^pika\\.policed$", json.dumps({"max-length": 1}), "--apply-to", "queues")
    for body in "abc":
        channel.basic_publish("", "pika.policed", body)
    time.sleep(0.3)
    same(bodies(channel, "pika.policed", 1), ["c"])
    administer("clear_operator_policy", "most")
    same(depth(channel, dead), 0)
    channel.queue_delete("pika.policed")


@story
def limits():
    administer("add_vhost", "small")
    administer("set_permissions", "-p", "small", "guest", ".*", ".*", ".*")
    administer("set_vhost_limits", "-p", "small", json.dumps({"max-queues": 1, "max-connections": 1}))
    connection = connect(virtual_host="small")
    connection.channel().queue_declare("one")
    same(closes(406, connection.channel().queue_declare, "two"),
         "PRECONDITION_FAILED - cannot declare queue 'two': queue limit in vhost 'small' (1) is reached")
    same(shut_out(virtual_host="small"), (530, "NOT_ALLOWED - access to vhost 'small' refused for user 'guest': connection limit (1) is reached"))
    connection.close()
    administer("delete_vhost", "small")


@story
def recovery():
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("pika.durable", durable=True)
    channel.queue_declare("pika.transient")
    for mode in (1, 2):
        channel.basic_publish("", "pika.durable", f"mode {mode}", pika.BasicProperties(delivery_mode=mode))
    restart_the_broker()
    try:
        connection.process_data_events(1)
        raise AssertionError("the connection is still open")
    except AMQPConnectionError:
        pass
    connection = connect()
    channel = connection.channel()
    same(bodies(channel, "pika.durable", 1), ["mode 2"])
    same(depth(channel, "pika.durable"), 0)
    channel.queue_delete("pika.durable")
    closes(404, channel.queue_declare, "pika.transient", passive=True)
    connection.close()


tell()
