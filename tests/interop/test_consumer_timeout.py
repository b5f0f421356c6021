"""consumer_timeout: a delivery that waits too long for its acknowledgement closes its channel, and goes back."""
import time

import pika.spec as spec
import pytest

from support.wire import Wire

TEXT = ("PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1500 ms. "
        "This timeout value can be configured, see consumers doc guide to learn more")


@pytest.fixture
def impatient(own_broker):
    return own_broker(godwit=["--consumer-timeout", "1500"], rabbitmq=["consumer_timeout = 1500"])


def wait_for_the_end(connection, channel, seconds):
    end = time.monotonic() + seconds
    while channel.is_open and time.monotonic() < end:
        connection.process_data_events(0.1)


@pytest.mark.limit(200)   # RabbitMQ looks once a minute.
@pytest.mark.parametrize("how", ["consume", "get"])
def test_a_delivery_that_is_never_acknowledged(impatient, connect_to, against, name, how):
    connection = connect_to(impatient)
    channel, queue = connection.channel(), name()
    channel.queue_declare(queue)
    channel.basic_publish("", queue, b"slow")
    if how == "consume":
        channel.basic_consume(queue, lambda *message: None)
    else:
        channel.basic_get(queue)
    begin = time.monotonic()
    wait_for_the_end(connection, channel, 10 if against == "godwit" else 130)
    assert not channel.is_open, "an unacknowledged delivery is kept for ever"
    assert time.monotonic() - begin > 1.4, "closed early"
    other = connection.channel()
    method, _, body = other.basic_get(queue, auto_ack=True)
    assert (method.redelivered, body) == (True, b"slow")


def test_what_the_client_is_told(impatient, against, name):
    if against == "rabbitmq":
        pytest.skip("takes a minute there; the text is the same")
    w, queue = Wire(impatient.port), name()
    w.send(1, spec.Queue.Declare(queue=queue))
    w.expect(spec.Queue.DeclareOk)
    w.publish(1, queue)
    w.send(1, spec.Basic.Get(queue=queue))
    w.expect(spec.Basic.GetOk)
    w.receive_frame()   # Its header.
    close = w.expect_channel_close(406)
    assert (close.reply_text, close.class_id, close.method_id) == (TEXT, 0, 0)
    w.close()


@pytest.mark.godwit_only("takes a minute on RabbitMQ")
def test_who_acknowledges_in_time_goes_on(impatient, connect_to, name):
    connection = connect_to(impatient)
    channel, queue, seen = connection.channel(), name(), []
    channel.queue_declare(queue)
    channel.basic_consume(queue, lambda ch, method, properties, body: (seen.append(body), ch.basic_ack(method.delivery_tag)))
    for i in range(8):
        channel.basic_publish("", queue, str(i).encode())
        connection.process_data_events(0.5)
    assert channel.is_open and len(seen) == 8


@pytest.mark.godwit_only("RabbitMQ 3.10 has no x-consumer-timeout")
def test_a_queue_with_a_time_of_its_own(broker, connect_to, name):
    connection = connect_to(broker)
    channel, queue = connection.channel(), name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-consumer-timeout": 1000})
    channel.basic_publish("", queue, b"slow")
    channel.basic_consume(queue, lambda *message: None)
    begin = time.monotonic()
    wait_for_the_end(connection, channel, 10)
    assert not channel.is_open and 0.9 < time.monotonic() - begin < 5
