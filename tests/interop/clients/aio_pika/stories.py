"""aio-pika (Debian's python3-aio-pika): asyncio, on a codec of its own (aiormq and pamqp)."""
import asyncio
import json
import time

import aio_pika
import aiormq.exceptions
from aio_pika import ExchangeType, Message

from story import URL, restart_the_broker, same, story, tell


def with_channel(tell_it):
    """Gives a story a channel of a connection of its own, which is closed when the story ends."""
    def wrapped():
        async def run():
            connection = await aio_pika.connect(URL)
            async with connection:
                await tell_it(await connection.channel(publisher_confirms=True))
        asyncio.run(asyncio.wait_for(run(), 30))
    wrapped.__name__ = tell_it.__name__
    return story(wrapped)


async def declare(channel, name=None, **arguments):
    """An exclusive queue; x_message_ttl=5 stands for the argument x-message-ttl."""
    return await channel.declare_queue(name, exclusive=True, arguments={key.replace("_", "-"): value for key, value in arguments.items()})


async def send(channel, queue, body, **properties):
    return await channel.default_exchange.publish(Message(body.encode(), **properties), routing_key=queue.name)


async def get(queue):
    """The next message, waiting a little for it, unacknowledged."""
    for _ in range(200):
        message = await queue.get(fail=False)
        if message:
            return message
        await asyncio.sleep(0.02)
    raise AssertionError(f"{queue.name} stays empty")


async def bodies(queue, count):
    found = []
    for _ in range(count):
        message = await get(queue)
        await message.ack()
        found.append(message.body.decode())
    return found


async def closes(error, coroutine):
    """It ends with this error of aiormq.exceptions; answers its text."""
    try:
        await coroutine
    except error as caught:
        return str(caught)
    raise AssertionError(f"{error.__name__} was expected")


@with_channel
async def topology(channel):
    topic = await channel.declare_exchange("aio.topic", ExchangeType.TOPIC, durable=True)
    fanout = await channel.declare_exchange("aio.fanout", ExchangeType.FANOUT, durable=True)
    queue = await declare(channel)
    await queue.bind(topic, "#.rain")
    await topic.bind(fanout)
    await fanout.publish(Message(b"wet"), "paris.rain")
    await topic.unbind(fanout)
    same(await bodies(queue, 1), ["wet"])
    await queue.unbind(topic, "#.rain")
    await topic.delete(if_unused=True)
    await fanout.delete(if_unused=True)
    same((await channel.declare_queue(queue.name, passive=True)).declaration_result.message_count, 0)


@with_channel
async def confirms(channel):
    queue = await declare(channel)
    answers = await asyncio.gather(*(send(channel, queue, str(number), delivery_mode=2) for number in range(50)))
    same([type(answer).__name__ for answer in answers], ["Ack"] * 50)
    same(await bodies(queue, 50), [str(number) for number in range(50)])


@with_channel
async def returns(channel):
    try:
        answer = await channel.default_exchange.publish(Message(b"back to me"), "aio.nowhere", mandatory=True)
        same((answer.delivery.reply_code, answer.body), (312, b"back to me"))
    except aio_pika.exceptions.DeliveryError as error:
        same(error.message.delivery.reply_code, 312)


@with_channel
async def acknowledgements(channel):
    queue = await declare(channel)
    for body in "abcd":
        await send(channel, queue, body)
    first, second, third, fourth = [await get(queue) for _ in range(4)]
    await first.ack()
    await second.nack(requeue=True)
    await third.reject(requeue=False)
    await fourth.reject(requeue=True)
    again = [await get(queue), await get(queue)]
    same([(message.body, message.redelivered) for message in again], [(b"b", True), (b"d", True)])
    await again[1].ack(multiple=True)
    same(await queue.get(fail=False), None)


@with_channel
async def prefetch(channel):
    queue, inbox = await declare(channel), []
    for number in range(10):
        await send(channel, queue, str(number))
    await channel.set_qos(prefetch_count=3)
    await queue.consume(inbox.append)
    await asyncio.sleep(0.3)
    same(len(inbox), 3)
    await inbox[1].ack(multiple=True)
    await asyncio.sleep(0.3)
    same(len(inbox), 5)


@with_channel
async def retry_ladder(channel):
    work = await declare(channel, "aio.work", x_dead_letter_exchange="", x_dead_letter_routing_key="aio.wait")
    await declare(channel, "aio.wait", x_message_ttl=100, x_dead_letter_exchange="", x_dead_letter_routing_key="aio.work")
    await send(channel, work, "fails twice", delivery_mode=2, headers={"mine": [1, "two"]})
    for _ in range(2):
        await (await get(work)).reject(requeue=False)
    message = await get(work)
    same([(death["queue"], death["reason"], death["count"]) for death in message.headers["x-death"]],
         [("aio.wait", "expired", 2), ("aio.work", "rejected", 2)])
    same((message.headers["mine"], message.headers["x-first-death-queue"]), ([1, "two"], "aio.work"))


@with_channel
async def priorities(channel):
    queue = await declare(channel, x_max_priority=10)
    for priority in (1, 10, 5):
        await send(channel, queue, str(priority), priority=priority)
    same(await bodies(queue, 3), ["10", "5", "1"])


@with_channel
async def alternate_exchange(channel):
    unrouted = await channel.declare_exchange("aio.unrouted", ExchangeType.FANOUT, auto_delete=True)
    queue = await declare(channel)
    await queue.bind(unrouted)
    routed = await channel.declare_exchange("aio.routed", ExchangeType.DIRECT, arguments={"alternate-exchange": "aio.unrouted"})
    await routed.publish(Message(b"caught"), "no such key")
    same(await bodies(queue, 1), ["caught"])
    await routed.delete()


@with_channel
async def carbon_copies(channel):
    first, second, third = [await declare(channel) for _ in range(3)]
    await send(channel, first, "to three", headers={"CC": [second.name], "BCC": [third.name]})
    for queue in (first, second, third):
        message = await get(queue)
        same((message.body, message.headers), (b"to three", {"CC": [second.name]}))


@with_channel
async def headers_exchange(channel):
    exchange = await channel.declare_exchange("aio.by-headers", ExchangeType.HEADERS, auto_delete=True)
    queue = await declare(channel)
    await queue.bind(exchange, arguments={"x-match": "any", "kind": "a", "size": 2})
    for body, headers in ((b"both", {"kind": "a", "size": 2}), (b"one", {"size": 2}), (b"none", {"kind": "b"})):
        await exchange.publish(Message(body, headers=headers), "", mandatory=False)
    same(await bodies(queue, 2), ["both", "one"])
    same(await queue.get(fail=False), None)


@with_channel
async def expiry(channel):
    dead = await declare(channel)
    queue = await declare(channel, x_dead_letter_exchange="", x_dead_letter_routing_key=dead.name)
    await send(channel, queue, "short-lived", expiration=0.06)   # aio-pika counts in seconds.
    message = await get(dead)
    same((message.headers["x-death"][0]["original-expiration"], message.expiration), ("60", None))
    await channel.declare_queue("aio.expires", arguments={"x-expires": 150})
    await asyncio.sleep(0.6)
    await closes(aiormq.exceptions.ChannelNotFoundEntity, channel.declare_queue("aio.expires", passive=True))


@with_channel
async def length_limits(channel):
    newest = await declare(channel, x_max_length=2)
    for body in "abcd":
        await send(channel, newest, body)
    same(await bodies(newest, 2), ["c", "d"])
    full = await declare(channel, x_max_length=1, x_overflow="reject-publish")
    await send(channel, full, "fits")
    await closes(aiormq.exceptions.DeliveryError, send(channel, full, "does not"))
    same(await bodies(full, 1), ["fits"])


@with_channel
async def delivery_limit(channel):
    dead, counts = await declare(channel), []
    queue = await channel.declare_queue("aio.quorum", durable=True, arguments={
        "x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name})

    async def fail(message):
        counts.append(message.headers.get("x-delivery-count"))
        await message.reject(requeue=True)

    await queue.consume(fail)
    await send(channel, queue, "poison", delivery_mode=2)
    message = await get(dead)
    same((counts, message.headers["x-death"][0]["reason"]), ([None, 1, 2], "delivery_limit"))
    await queue.delete(if_unused=False, if_empty=False)


@with_channel
async def stream(channel):
    queue = await channel.declare_queue("aio.stream", durable=True, arguments={"x-queue-type": "stream"})
    for number in range(20):
        await send(channel, queue, str(number), delivery_mode=2)
    await channel.set_qos(prefetch_count=5)
    for offset, expected in (("first", range(20)), (15, range(15, 20))):
        seen = []

        async def take(message):
            seen.append((int(message.body), message.headers["x-stream-offset"]))
            await message.ack()

        tag = await queue.consume(take, arguments={"x-stream-offset": offset})
        await asyncio.sleep(0.5)
        await queue.cancel(tag)
        same(seen, [(number, number) for number in expected])
    await queue.delete(if_unused=False, if_empty=False)


@with_channel
async def direct_reply_to(channel):
    questions, answer = await declare(channel), asyncio.get_running_loop().create_future()
    replies = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
    await replies.consume(answer.set_result, no_ack=True)
    await send(channel, questions, "20 + 1", reply_to="amq.rabbitmq.reply-to", correlation_id="7")
    question = await get(questions)
    await channel.default_exchange.publish(Message(b"21", correlation_id=question.correlation_id), question.reply_to)
    reply = await asyncio.wait_for(answer, 5)
    same((reply.body, reply.correlation_id), (b"21", "7"))


@with_channel
async def errors(channel):
    connection = await aio_pika.connect(URL)
    async with connection:
        failing = aiormq.exceptions
        same(await closes(failing.ChannelNotFoundEntity, (await connection.channel()).declare_queue("aio.none", passive=True)),
             "NOT_FOUND - no queue 'aio.none' in vhost '/'")
        await closes(failing.ChannelAccessRefused, (await connection.channel()).declare_queue("amq.mine"))
        await closes(failing.ChannelPreconditionFailed, (await connection.channel()).declare_exchange("amq.topic", ExchangeType.FANOUT))
        await declare(channel, "aio.locked")
        await closes(failing.ChannelLockedResource, (await connection.channel()).declare_queue("aio.locked", passive=True))
        await closes(failing.ChannelPreconditionFailed, (await connection.channel()).declare_queue(
            "aio.wrong", arguments={"x-dead-letter-routing-key": "without an exchange"}))
    await closes(failing.ProbableAuthenticationError, aio_pika.connect(URL.replace("guest:guest", "guest:wrong")))


@with_channel
async def transactions(channel):
    connection = await aio_pika.connect(URL)
    async with connection:
        other = await connection.channel(publisher_confirms=False)
        queue = await declare(other)
        async with other.transaction():
            await other.default_exchange.publish(Message(b"done"), queue.name)
        same(await bodies(queue, 1), ["done"])
        transaction = other.transaction()
        await transaction.select()
        await other.default_exchange.publish(Message(b"undone"), queue.name)
        await transaction.rollback()
        same(await queue.get(fail=False), None)


@story
def message_groups():
    """What one customer ordered is worked on in that order, by whomever; RabbitMQ has no groups."""
    async def run():
        connection = await aio_pika.connect(URL)
        async with connection:
            if "Godwit" not in str(connection.transport.connection.server_properties.get("copyright")):
                return
            channel = await connection.channel(publisher_confirms=True)
            queue = await declare(channel, x_group_key="customer")
            for number in range(60):
                await send(channel, queue, str(number), headers={"customer": number % 6}, delivery_mode=2)
            done, at_work, all_done = {customer: [] for customer in range(6)}, set(), asyncio.Event()

            async def work(message):
                customer = message.headers["customer"]
                assert customer not in at_work, f"two work for customer {customer}"
                at_work.add(customer)
                await asyncio.sleep(0.005)
                at_work.remove(customer)
                if int(message.body) % 7 == 0 and not message.redelivered:
                    await message.reject(requeue=True)
                    return
                done[customer].append(int(message.body))
                await message.ack()
                if sum(map(len, done.values())) == 60:
                    all_done.set()

            for _ in range(4):
                worker = await connection.channel()
                await worker.set_qos(prefetch_count=1)
                await (await worker.get_queue(queue.name)).consume(work)
            await asyncio.wait_for(all_done.wait(), 10)
            same(done, {customer: list(range(customer, 60, 6)) for customer in range(6)})
    asyncio.run(asyncio.wait_for(run(), 30))


@story
def deduplication():
    """What a robust publisher sends again comes once: the id decides."""
    async def run():
        async with await aio_pika.connect_robust(URL) as connection:
            if "Godwit" not in str(connection.transport.connection.server_properties.get("copyright")):
                return
            channel = await connection.channel(publisher_confirms=True)
            queue = await declare(channel, x_dedup_window=60000)
            for body in ("first", "second"):
                await asyncio.gather(*(send(channel, queue, f"{body} {number}", message_id=f"order-{number}", delivery_mode=2) for number in range(50)))
            bodies = []
            while (message := await queue.get(no_ack=True, fail=False)) is not None:
                bodies.append(message.body.decode())
            same(bodies, [f"first {number}" for number in range(50)])
    asyncio.run(asyncio.wait_for(run(), 30))


@story
def looking_into_queues():
    """Control requests from any client: what waits is looked at without being taken, scheduled messages are cancelled, dead letters go back to where they died."""
    async def run():
        async with await aio_pika.connect_robust(URL) as connection:
            if "Godwit" not in str(connection.transport.connection.server_properties.get("copyright")):
                return
            channel = await connection.channel(publisher_confirms=True)
            answers = await declare(channel)
            dead = await declare(channel)
            work = await declare(channel, x_dead_letter_exchange="", x_dead_letter_routing_key=dead.name)

            async def ask(command, **fields):
                request = Message(json.dumps({"command": command, **fields}).encode(), reply_to=answers.name, content_type="application/json")
                await channel.default_exchange.publish(request, routing_key="amq.godwit.control")
                async with (await get(answers)).process() as answer:
                    return json.loads(answer.body)["ok"]

            for number in range(6):
                await send(channel, work, f"body {number}", message_id=f"m{number}", headers={"number": number, "x-delay": 3600000 if number == 5 else 0})
            found = await ask("queue_browse", name=work.name, body=100, filter="number > 1")
            same([(row["state"], row["body"]) for row in found["messages"]], [("ready", f"body {number}") for number in (2, 3, 4)] + [("scheduled", "body 5")])
            same((await ask("queue_cancel", name=work.name, positions=[found["messages"][3]["position"]]))["cancelled"], 1)
            for _ in range(5):
                await (await get(work)).reject()
            while (await ask("queue_replay", name=dead.name, id="m3"))["replayed"] == 0:
                await asyncio.sleep(0.02)
            message = await get(work)
            same((message.message_id, message.headers["x-replayed"], message.headers["x-death"][0]["reason"]), ("m3", 1, "rejected"))
            holders = await ask("queue_holders", name=work.name)
            same([(row["user"], row["consumer_tag"]) for row in holders], [("guest", None)])
            await message.ack()
    asyncio.run(asyncio.wait_for(run(), 30))


@story
def half_messages():
    """Two services that fail in turn: what one commits comes whole, and the other one's messages wait for the answer to a question."""
    async def run():
        async with await aio_pika.connect_robust(URL) as connection:
            if "Godwit" not in str(connection.transport.connection.server_properties.get("copyright")):
                return
            channel = await connection.channel(publisher_confirms=True)
            queue, questions = await declare(channel), await declare(channel)
            decisions = await channel.get_exchange("amq.godwit.transactions", ensure=False)
            for number in range(20):
                for transaction in ("first", "second"):
                    headers = {"x-transaction": f"{queue.name}-{transaction}", "x-check-queue": questions.name, "x-check-after": 300}
                    await send(channel, queue, f"{transaction} {number}", headers=headers)
            same(await queue.get(fail=False), None)
            await decisions.publish(aio_pika.Message(b"", headers={"x-transaction": f"{queue.name}-first"}), "commit")
            while (question := await questions.get(no_ack=True, fail=False)) is None:
                await asyncio.sleep(0.05)
            same(question.correlation_id, f"{queue.name}-second")
            await decisions.publish(aio_pika.Message(b"", correlation_id=question.correlation_id), "commit")
            bodies = []
            while len(bodies) < 40:
                if (message := await queue.get(no_ack=True, fail=False)) is not None:
                    bodies.append(message.body.decode())
            same(bodies, [f"{transaction} {number}" for transaction in ("first", "second") for number in range(20)])
    asyncio.run(asyncio.wait_for(run(), 30))


@story
def scheduled_messages():
    """What says x-delay or x-deliver-at comes when it is due, in the order of its time, and never before."""
    async def run():
        async with await aio_pika.connect_robust(URL) as connection:
            if "Godwit" not in str(connection.transport.connection.server_properties.get("copyright")):
                return
            channel = await connection.channel(publisher_confirms=True)
            queue, inbox = await declare(channel), asyncio.Queue()
            await queue.consume(inbox.put, no_ack=True)
            due = {"at once": time.time(), "soon": time.time() + 0.3, "later": time.time() + 0.9}
            await send(channel, queue, "later", headers={"x-deliver-at": int(due["later"] * 1000) + 1})
            await send(channel, queue, "soon", headers={"x-delay": 301})
            await send(channel, queue, "at once")
            for expected in ("at once", "soon", "later"):
                message = await inbox.get()
                same(message.body.decode(), expected)
                assert time.time() >= due[expected], f"{expected} came {due[expected] - time.time():.3f} s too early"
    asyncio.run(asyncio.wait_for(run(), 30))


@story
def recovery():
    """A robust connection comes back with its channels, queues, bindings and consumers."""
    async def run():
        connection = await aio_pika.connect_robust(URL, reconnect_interval=0.2)
        async with connection:
            channel = await connection.channel()
            exchange = await channel.declare_exchange("aio.robust", ExchangeType.DIRECT)
            queue, inbox = await channel.declare_queue("aio.robust", auto_delete=True), asyncio.Queue()
            await queue.bind(exchange, "key")
            await queue.consume(inbox.put, no_ack=True)
            await exchange.publish(Message(b"before"), "key")
            same((await asyncio.wait_for(inbox.get(), 5)).body, b"before")
            await asyncio.get_running_loop().run_in_executor(None, restart_the_broker)
            await connection.connected.wait()
            for _ in range(50):   # Transient, the queue is declared anew; publishing waits for that.
                try:
                    await exchange.publish(Message(b"after"), "key")
                    same((await asyncio.wait_for(inbox.get(), 5)).body, b"after")
                    break
                except (aiormq.exceptions.AMQPError, ConnectionError, RuntimeError):
                    await asyncio.sleep(0.2)
            else:
                raise AssertionError("it never came back")
            await exchange.delete()
    asyncio.run(asyncio.wait_for(run(), 60))


tell()
