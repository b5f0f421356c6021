"""When memory or disk runs short publishers are told and stopped, consumers go on."""
import os
import tempfile
import time

import pika
import pytest

MARGIN = 400 << 20   # bytes: more than other programs are likely to write meanwhile


@pytest.fixture
def shortage(own_broker, against, tmp_path):
    """(broker, begin, end): a broker, and how to make something run short for it: RabbitMQ's memory, Godwit's disk."""
    if against == "rabbitmq":
        broker = own_broker()
        yield (broker, lambda: broker.control("set_vm_memory_high_watermark", "0.000001"),
               lambda: broker.control("set_vm_memory_high_watermark", "0.4"))
        return
    # The same file system that brokers of tests keep their data on, so the limit is below what is free there now.
    def free():
        space = os.statvfs(ballast.name)
        return space.f_bavail * space.f_frsize

    ballast = tempfile.NamedTemporaryFile(prefix="ballast-")
    limit = max(free() - MARGIN, 1)
    broker = own_broker(godwit=["--disk-free-limit", str(limit)])
    yield (broker, lambda: os.posix_fallocate(ballast.fileno(), 0, max(free() - limit, 0) + MARGIN),
           lambda: os.ftruncate(ballast.fileno(), 0))
    ballast.close()


@pytest.mark.limit(120)
def test_blocked_publisher_is_told_and_consumers_go_on(shortage, connect_to):
    broker, begin_shortage, end_shortage = shortage
    publisher, consumer = connect_to(broker), connect_to(broker)
    told = []
    publisher.add_on_connection_blocked_callback(lambda _, frame: told.append(("blocked", frame.method.reason)))
    publisher.add_on_connection_unblocked_callback(lambda _, frame: told.append(("unblocked", None)))
    channel, other = publisher.channel(), consumer.channel()
    channel.queue_declare("q")
    begin_shortage()
    deadline = time.monotonic() + 30
    while not told and time.monotonic() < deadline:
        # RabbitMQ says it at a connection's first publish after the shortage began.
        channel.basic_publish("", "q", b"x" * 1000)
        publisher.process_data_events(0.01)
    assert told and told[0][0] == "blocked", told
    assert told[0][1]

    assert other.basic_get("q", auto_ack=True)[0] is not None, "consumers go on"
    end_shortage()
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
