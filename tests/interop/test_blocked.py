"""When memory or disk runs short publishers are told and stopped, consumers go on."""
import time

import pika
import pytest

# A broker that has run short before it began. RabbitMQ is told so once it runs, Godwit by its configuration.
SHORT = {"rabbitmq": lambda broker: broker.control("set_vm_memory_high_watermark", "0.000001"), "godwit": lambda broker: None}
LONG = {"rabbitmq": lambda broker: broker.control("set_vm_memory_high_watermark", "0.4"), "godwit": lambda broker: None}


@pytest.mark.limit(120)
def test_blocked_publisher_is_told_and_consumers_go_on(own_broker, connect_to, against):
    broker = own_broker(godwit=["--memory-limit", "8MiB"])
    publisher, consumer = connect_to(broker), connect_to(broker)
    told = []
    publisher.add_on_connection_blocked_callback(lambda _, frame: told.append(("blocked", frame.method.reason)))
    publisher.add_on_connection_unblocked_callback(lambda _, frame: told.append(("unblocked", None)))
    channel, other = publisher.channel(), consumer.channel()
    channel.queue_declare("q")
    SHORT[against](broker)
    deadline = time.monotonic() + 30
    while not told and time.monotonic() < deadline:
        # RabbitMQ says it at the first publish, Godwit when transient messages have filled its memory.
        channel.basic_publish("", "q", b"x" * 100_000)
        publisher.process_data_events(0.005)
    assert told and told[0][0] == "blocked", told
    assert told[0][1]

    LONG[against](broker)
    got, quiet = 0, 0
    while quiet < 40:
        method, _, _ = other.basic_get("q", auto_ack=True)
        got, quiet = (got + 1, 0) if method else (got, quiet + 1)
        publisher.process_data_events(0.005)
    assert got > 0
    deadline = time.monotonic() + 15
    while told[-1][0] != "unblocked" and time.monotonic() < deadline:
        publisher.process_data_events(0.05)
    assert told[-1][0] == "unblocked", told
    channel.confirm_delivery()
    channel.basic_publish("", "q", b"goes through again")
