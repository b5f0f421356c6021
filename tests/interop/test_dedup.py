"""x-dedup-window: a queue takes in what has the same id once. RabbitMQ has nothing of the kind without a plugin, so these run against Godwit alone."""
import subprocess
import time

import pika
import pytest

from support.broker import godwit_binary

pytestmark = pytest.mark.godwit_only("RabbitMQ deduplicates nothing")

WINDOW = {"x-dedup-window": 60000}


def with_id(message_id, **more):
    return pika.BasicProperties(message_id=message_id, **more)


def everything(channel, queue):
    """The bodies of all that is ready, taken out."""
    bodies = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if not method:
            return bodies
        bodies.append(body)


def column(broker, queue, name):
    rows = [line.split("\t") for line in broker.control("list_queues", "name", name).splitlines()]
    return int(dict(rows)[queue])


@pytest.mark.parametrize("arguments", [{}, {"x-queue-type": "quorum"}, {"x-max-priority": 5}])
def test_the_same_id_comes_once_and_every_publish_is_confirmed(channel, name, arguments):
    queue = name("q")
    channel.queue_declare(queue, durable=True, arguments={**WINDOW, **arguments})
    channel.confirm_delivery()
    for i in range(3):
        for message_id in ("a", "b", "c"):
            channel.basic_publish("", queue, b"%s %d" % (message_id.encode(), i), with_id(message_id, priority=i), mandatory=True)
    assert everything(channel, queue) == [b"a 0", b"b 0", b"c 0"]
    channel.basic_publish("", queue, b"again", with_id("a"))
    assert everything(channel, queue) == []   # that it was consumed changes nothing
    channel.queue_delete(queue)


def test_messages_without_an_id_pass(channel, name):
    queue = name("q")
    channel.queue_declare(queue, exclusive=True, arguments=WINDOW)
    for _ in range(2):
        channel.basic_publish("", queue, b"none")
        channel.basic_publish("", queue, b"empty", with_id(""))
        channel.basic_publish("", queue, b"header", pika.BasicProperties(headers={"id": "a"}))
    assert len(everything(channel, queue)) == 6


@pytest.mark.parametrize("value", ["a text", 7, 1 << 40, b"\xff\x00"])
def test_a_header_may_hold_the_id(channel, name, value):
    queue = name("q")
    channel.queue_declare(queue, exclusive=True, arguments={**WINDOW, "x-dedup-header": "order"})
    for body in (b"first", b"second"):
        channel.basic_publish("", queue, body, pika.BasicProperties(headers={"other": 1, "order": value}, message_id=body.decode()))
    assert everything(channel, queue) == [b"first"]


def test_a_number_is_the_same_id_as_its_text(channel, name):
    queue = name("q")
    channel.queue_declare(queue, exclusive=True, arguments={**WINDOW, "x-dedup-header": "order"})
    for value in (17, "17"):
        channel.basic_publish("", queue, b"x", pika.BasicProperties(headers={"order": value}))
    assert len(everything(channel, queue)) == 1


def test_after_its_window_an_id_is_new(channel, name):
    queue = name("q")
    channel.queue_declare(queue, exclusive=True, arguments={"x-dedup-window": 300})
    channel.basic_publish("", queue, b"first", with_id("a"))
    channel.basic_publish("", queue, b"within", with_id("a"))
    time.sleep(0.35)
    channel.basic_publish("", queue, b"after", with_id("a"))
    channel.basic_publish("", queue, b"again", with_id("a"))
    assert everything(channel, queue) == [b"first", b"after"]


def test_the_oldest_ids_are_forgotten_first(channel, name):
    queue = name("q")
    channel.queue_declare(queue, exclusive=True, arguments={**WINDOW, "x-dedup-max": 3})
    for message_id in "abcd":
        channel.basic_publish("", queue, message_id.encode(), with_id(message_id))
    for message_id in "bcda":
        channel.basic_publish("", queue, message_id.encode() + b" again", with_id(message_id))
    assert everything(channel, queue) == [b"a", b"b", b"c", b"d", b"a again"]


def test_every_queue_of_an_exchange_judges_for_itself(channel, name):
    once, often, exchange = name("once"), name("often"), name("x")
    channel.exchange_declare(exchange, "fanout", auto_delete=True)
    channel.queue_declare(once, exclusive=True, arguments=WINDOW)
    channel.queue_declare(often, exclusive=True)
    for queue in (once, often):
        channel.queue_bind(queue, exchange)
    for body in (b"first", b"second"):
        channel.basic_publish(exchange, "", body, with_id("a"))
    assert everything(channel, often) == [b"first", b"second"]
    assert everything(channel, once) == [b"first"]


def test_what_a_full_queue_refuses_may_be_sent_again(channel, name):
    queue = name("q")
    channel.queue_declare(queue, exclusive=True, arguments={**WINDOW, "x-max-length": 1, "x-overflow": "reject-publish"})
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"a", with_id("a"))
    with pytest.raises(pika.exceptions.NackError):
        channel.basic_publish("", queue, b"b", with_id("b"))
    channel.basic_publish("", queue, b"a again", with_id("a"))   # of which the queue has one: that it is full does not matter
    assert everything(channel, queue) == [b"a"]
    channel.basic_publish("", queue, b"b", with_id("b"))
    assert everything(channel, queue) == [b"b"]


def test_a_transaction_is_judged_when_it_is_committed(channel, connect, name):
    queue = name("q")
    channel.queue_declare(queue, durable=True, arguments=WINDOW)
    channel.confirm_delivery()
    transactional = connect().channel()
    transactional.tx_select()
    for message_id in "aab":
        transactional.basic_publish("", queue, b"tx " + message_id.encode(), with_id(message_id))
    channel.basic_publish("", queue, b"b", with_id("b"))
    transactional.tx_commit()
    transactional.basic_publish("", queue, b"tx c", with_id("c"))
    transactional.tx_rollback()
    channel.basic_publish("", queue, b"c", with_id("c"))
    assert everything(channel, queue) == [b"b", b"tx a", b"c"]
    channel.queue_delete(queue)


@pytest.mark.parametrize("strategy", ["at-most-once", "at-least-once"])
def test_dead_letters_are_judged_too_and_leave_their_queue(channel, name, strategy):
    queue, dead = name("q"), name("dead")
    channel.queue_declare(dead, durable=True, arguments=WINDOW)
    channel.queue_declare(queue, durable=True, arguments={
        "x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead, "x-overflow": "reject-publish",
        "x-dead-letter-strategy": strategy})
    channel.confirm_delivery()
    for body in (b"first", b"second"):
        channel.basic_publish("", queue, body, with_id("a"))
        method, _, _ = channel.basic_get(queue)
        channel.basic_reject(method.delivery_tag, requeue=False)
        end = time.time() + 5
        while channel.queue_declare(dead, passive=True).method.message_count < 1 and time.time() < end:
            time.sleep(0.01)
    time.sleep(0.1)
    assert everything(channel, dead) == [b"first"]
    assert channel.queue_delete(queue).method.message_count == 0
    channel.queue_delete(dead)


def test_a_dead_letter_that_comes_back_is_no_duplicate_of_itself(own_broker, connect_to, name, eventually):
    broker, queue, waits = own_broker(), name("q"), name("waits")
    channel = connect_to(broker).channel()
    channel.queue_declare(queue, durable=True, arguments={**WINDOW, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": waits})
    channel.queue_declare(waits, durable=True, arguments={"x-message-ttl": 100, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue})
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"first", with_id("a"))
    for attempt in range(3):
        assert eventually(lambda: channel.queue_declare(queue, passive=True).method.message_count == 1)
        method, properties, body = channel.basic_get(queue)
        assert (body, len((properties.headers or {}).get("x-death", []))) == (b"first", 2 if attempt else 0)
        channel.basic_reject(method.delivery_tag, requeue=False)
        channel.basic_publish("", queue, b"second", with_id("a"))
        if attempt == 1:
            time.sleep(0.5)
            broker.kill()
            broker.start()
            channel = connect_to(broker).channel()
            channel.confirm_delivery()
    assert eventually(lambda: channel.queue_declare(queue, passive=True).method.message_count == 1)
    channel.basic_publish("", queue, b"third", with_id("a"))
    assert everything(channel, queue) == [b"first"]


def test_what_somebody_moves_or_replays_is_no_duplicate(broker, channel, name):
    queue, other, dead = name("q"), name("other"), name("dead")
    channel.queue_declare(queue, durable=True, arguments={**WINDOW, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    for plain in (other, dead):
        channel.queue_declare(plain, durable=True)
    channel.confirm_delivery()

    def move(*arguments):
        subprocess.run([godwit_binary(), "queue", "--uri", f"amqp://guest:guest@127.0.0.1:{broker.port}/", *arguments, "--all"], check=True, timeout=30,
                       stdout=subprocess.DEVNULL)
    channel.basic_publish("", queue, b"first", with_id("a"))
    move("move", queue, other)
    move("move", other, queue)
    method, _, body = channel.basic_get(queue)
    assert body == b"first"
    channel.basic_reject(method.delivery_tag, requeue=False)
    time.sleep(0.3)
    move("replay", dead)
    channel.basic_publish("", queue, b"second", with_id("a"))
    assert everything(channel, queue) == [b"first"]
    for each in (queue, other, dead):
        assert channel.queue_delete(each).method.message_count == 0


def test_scheduled_messages_are_known_from_when_they_come(channel, name):
    queue = name("q")
    channel.queue_declare(queue, durable=True, arguments={"x-dedup-window": 2000})
    channel.basic_publish("", queue, b"later", with_id("a", headers={"x-delay": 300}))
    channel.basic_publish("", queue, b"now", with_id("a"))
    channel.basic_publish("", queue, b"later too", with_id("a", headers={"x-delay": 200}))
    assert everything(channel, queue) == []
    time.sleep(0.5)
    channel.basic_publish("", queue, b"after", with_id("a"))
    assert everything(channel, queue) == [b"later"]
    channel.queue_delete(queue)


def test_transactions_in_two_steps_are_judged_when_they_are_committed(channel, name, eventually):
    queue, transactions = name("q"), [name("t") for _ in range(3)]
    channel.queue_declare(queue, durable=True, arguments=WINDOW)
    channel.confirm_delivery()
    for transaction in transactions:
        for message_id in ("a", transaction):
            channel.basic_publish("", queue, transaction.encode(), with_id(message_id, headers={"x-transaction": transaction}))
    for transaction, decision in zip(transactions, ("rollback", "commit", "commit")):
        channel.basic_publish("amq.godwit.transactions", decision, b"", pika.BasicProperties(headers={"x-transaction": transaction}))
    assert eventually(lambda: channel.queue_declare(queue, passive=True).method.message_count == 3)
    time.sleep(0.2)
    first, second = (transaction.encode() for transaction in transactions[1:])
    assert everything(channel, queue) == [first, first, second]   # of the last one, only what has an id of its own
    channel.queue_delete(queue)


def test_what_waits_for_its_retry_is_known(channel, name):
    queue = name("q")
    channel.queue_declare(queue, durable=True, arguments={**WINDOW, "x-retry-backoff": "300ms", "x-group-key": "customer"})
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"first", with_id("a", headers={"customer": 1}))
    method, _, _ = channel.basic_get(queue)
    channel.basic_reject(method.delivery_tag, requeue=True)
    channel.basic_publish("", queue, b"second", with_id("a", headers={"customer": 1}))
    assert everything(channel, queue) == []
    time.sleep(0.4)
    assert everything(channel, queue) == [b"first"]
    channel.queue_delete(queue)


@pytest.mark.parametrize("arguments, text", [
    ({"x-dedup-window": 0}, "invalid arg 'x-dedup-window' for queue '{q}' in vhost '/': {value_zero,0}"),
    ({"x-dedup-window": -1}, "{value_negative,-1}"),
    ({"x-dedup-window": "1m"}, "expected integer, got longstr"),
    ({"x-dedup-window": 1000, "x-dedup-max": 10000001}, "{max_value_exceeded,10000001}"),
    ({"x-dedup-window": 1000, "x-dedup-max": 0}, "{value_zero,0}"),
    ({"x-dedup-window": 1000, "x-dedup-header": 5}, "{unacceptable_type,"),
    ({"x-dedup-window": 1000, "x-queue-type": "stream"}, "invalid arg 'x-dedup-window' for queue '{q}' in vhost '/' of queue type rabbit_stream_queue"),
])
def test_wrong_arguments_are_refused(channel, name, expect_close, arguments, text):
    queue = name("q")
    expect_close(406, text.replace("{q}", queue))(channel.queue_declare, queue, durable=True, arguments=arguments)


def test_a_queue_is_not_declared_anew_with_another_window(channel, name, expect_close):
    queue = name("q")
    channel.queue_declare(queue, exclusive=True, arguments=WINDOW)
    expect_close(406, "inequivalent arg 'x-dedup-window' for queue '%s' in vhost '/': received '1' but current is '60000'" % queue)(
        channel.queue_declare, queue, exclusive=True, arguments={"x-dedup-window": 1})


@pytest.mark.parametrize("arguments", [{}, {"x-queue-type": "quorum"}])
def test_ids_survive_a_kill_whatever_the_delivery_mode(own_broker, connect_to, name, arguments):
    broker, queue = own_broker(), name("q")
    channel = connect_to(broker).channel()
    channel.queue_declare(queue, durable=True, arguments={**WINDOW, **arguments})
    channel.confirm_delivery()
    for i in range(500):
        channel.basic_publish("", queue, b"%d" % i, with_id("id %d" % i, delivery_mode=1 + i % 2))
    taken = [channel.basic_get(queue, auto_ack=True)[2] for _ in range(100)]
    time.sleep(0.3)   # nobody is told when what was taken is on disk
    for restart in (broker.kill, broker.stop, broker.kill):
        restart()
        broker.start()
        channel = connect_to(broker).channel()
        channel.confirm_delivery()
        for i in range(500):
            channel.basic_publish("", queue, b"again", with_id("id %d" % i))
        assert channel.queue_declare(queue, passive=True).method.message_count == 400
    assert taken + everything(channel, queue) == [b"%d" % i for i in range(500)]


def test_a_policy_may_say_it(own_broker, connect_to, name):
    broker, queue = own_broker(), name("q")
    channel = connect_to(broker).channel()
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"before", with_id("a"))
    broker.control("set_policy", "once", queue, '{"dedup-window": 60000, "dedup-max": 2}', "--apply-to", "queues")
    for message_id in "aabbc":
        channel.basic_publish("", queue, message_id.encode(), with_id(message_id))
    assert everything(channel, queue) == [b"before", b"a", b"b", b"c"]
    assert [column(broker, queue, what) for what in ("messages_deduplicated", "dedup_ids", "dedup_forgotten")] == [2, 2, 1]
    broker.control("clear_policy", "once")
    channel.basic_publish("", queue, b"c", with_id("c"))
    assert everything(channel, queue) == [b"c"]
