"""x-delay and x-deliver-at on whatever is published: the message waits in its queue. RabbitMQ knows neither without a plugin, so these run against Godwit alone."""
import datetime
import time

import pika
import pytest

pytestmark = pytest.mark.godwit_only("RabbitMQ has no schedule")


def headers(**fields):
    return pika.BasicProperties(headers={name.replace("_", "-"): value for name, value in fields.items()}, delivery_mode=1)


def come(channel, queue, count, limit_s=10):
    """That many messages of the queue, each with the time of day when it was there."""
    end, came = time.time() + limit_s, []
    while len(came) < count and time.time() < end:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method:
            came.append((body, properties.headers, time.time()))
        else:
            time.sleep(0.002)
    assert len(came) == count, came
    return came


@pytest.mark.parametrize("exchange", ["", "amq.direct", "amq.fanout"])
def test_any_exchange_may_be_used(channel, name, exchange):
    queue = name("q")
    channel.queue_declare(queue, exclusive=True)
    if exchange:
        channel.queue_bind(queue, exchange, queue)
    channel.confirm_delivery()
    begin = time.time()
    channel.basic_publish(exchange, queue, b"later", headers(x_delay=300), mandatory=True)
    channel.basic_publish(exchange, queue, b"now")
    (first, _, _), (second, more, at) = come(channel, queue, 2)
    assert (first, second, more) == (b"now", b"later", {"x-delay": -300})
    assert 0.3 <= at - begin < 2


def test_the_shortest_comes_first_and_what_waits_is_not_ready(channel, name):
    queue = name("q")
    channel.queue_declare(queue, exclusive=True)
    due = {}
    for delay in (1500, 500, 1000):   # far enough apart for a machine that is busy
        due[b"%d" % delay] = time.time() + delay / 1000
        channel.basic_publish("", queue, b"%d" % delay, headers(x_delay=delay))
    assert channel.queue_declare(queue, passive=True).method.message_count == 0
    came = come(channel, queue, 3)
    assert [body for body, _, _ in came] == [b"500", b"1000", b"1500"]
    assert all(0 <= at - due[body] < 1 for body, _, at in came)


def test_the_later_of_delay_and_time_counts(channel, name):
    queue = name("q")
    channel.queue_declare(queue, exclusive=True)
    at = int(time.time() * 1000) + 400
    channel.basic_publish("", queue, b"time", headers(x_deliver_at=at, x_delay=10))
    channel.basic_publish("", queue, b"delay", headers(x_deliver_at=at - 10**6, x_delay=200))
    channel.basic_publish("", queue, b"past", headers(x_deliver_at=1))
    came = come(channel, queue, 3)
    assert [body for body, _, _ in came] == [b"past", b"delay", b"time"]
    assert came[2][2] * 1000 >= at


def test_years_ahead_wait_and_more_than_a_century_is_refused(channel, name, expect_close):
    queue = name("q")
    channel.queue_declare(queue, exclusive=True)
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"years", headers(x_delay=20 * 365 * 86400 * 1000))
    channel.basic_publish("", queue, b"date", headers(x_deliver_at=datetime.datetime(2090, 1, 1, tzinfo=datetime.timezone.utc)))
    assert channel.basic_get(queue)[0] is None
    expect_close(406, "x-delay and x-deliver-at reach at most 100 years ahead")(
        channel.basic_publish, "", queue, b"never", headers(x_delay=101 * 366 * 86400 * 1000))


def test_it_survives_a_kill_whatever_its_delivery_mode(own_broker, connect_to, name):
    broker, queue = own_broker(), name("q")
    channel = connect_to(broker).channel()
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    begin = time.time()
    for delay in (2500, 1500, 2000):
        channel.basic_publish("", queue, b"%d" % delay, headers(x_delay=delay))
    broker.kill()
    broker.start()
    came = come(connect_to(broker).channel(), queue, 3)
    assert [body for body, _, _ in came] == [b"1500", b"2000", b"2500"]
    assert all(at - begin >= int(body) / 1000 for body, _, at in came)


def test_a_transaction_schedules_when_it_is_committed(channel, name):
    queue = name("q")
    channel.queue_declare(queue, exclusive=True)
    channel.tx_select()
    channel.basic_publish("", queue, b"kept", headers(x_delay=200))
    channel.tx_commit()
    channel.basic_publish("", queue, b"dropped", headers(x_delay=1))
    channel.tx_rollback()
    assert come(channel, queue, 1)[0][0] == b"kept"
    time.sleep(0.1)
    assert channel.basic_get(queue)[0] is None


def test_priority_counts_once_it_is_due(channel, name):
    queue = name("q")
    channel.queue_declare(queue, exclusive=True, arguments={"x-max-priority": 5})
    for priority in (1, 4, 2):
        channel.basic_publish("", queue, b"%d" % priority, pika.BasicProperties(priority=priority, headers={"x-delay": 100}))
    time.sleep(0.4)
    assert [body for body, _, _ in come(channel, queue, 3)] == [b"4", b"2", b"1"]


def test_a_purge_takes_what_waits_too(channel, name):
    queue = name("q")
    channel.queue_declare(queue, exclusive=True)
    channel.basic_publish("", queue, b"waits", headers(x_delay=300))
    channel.queue_purge(queue)
    time.sleep(0.5)
    assert channel.basic_get(queue)[0] is None
