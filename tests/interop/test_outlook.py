"""What the broker says of a queue's future: rates, service times, the end of a backlog, the consumers that it needs. RabbitMQ says nothing of the kind."""
import json
import subprocess
import threading
import time

import pika
import pytest

from support.broker import godwit_binary

pytestmark = pytest.mark.godwit_only("RabbitMQ has no outlook")


def outlook(broker, queue, *arguments):
    done = subprocess.run([godwit_binary(), "outlook", "--uri", f"amqp://guest:guest@127.0.0.1:{broker.port}/", "--json", *arguments, queue],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Workers:
    """Consumers, each on a connection of its own, that take the same time for every message."""

    def __init__(self, connect, queue, count, seconds):
        self.queue, self.seconds, self.ended, self.done = queue, seconds, False, 0
        self.threads = [threading.Thread(target=self.work, args=(connect(),)) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def work(self, connection):
        channel = connection.channel()
        channel.basic_qos(prefetch_count=2)
        for method, _, _ in channel.consume(self.queue, inactivity_timeout=0.1):
            if self.ended:
                break
            if method:
                connection.sleep(self.seconds)
                channel.basic_ack(method.delivery_tag)
                self.done += 1
        connection.close()

    def end(self):
        self.ended = True
        for thread in self.threads:
            thread.join()


def test_a_backlog_of_known_workers(broker, connect, channel, name):
    queue = name("q")
    channel.queue_declare(queue, durable=True)
    for _ in range(3000):
        channel.basic_publish("", queue, b"work")
    workers = Workers(connect, queue, 4, 0.02)
    try:
        time.sleep(1)
        begin, before = time.time(), workers.done
        time.sleep(8)
        takes = 4 * (time.time() - begin) / (workers.done - before)   # with what pika and the machine do besides
        seen = outlook(broker, queue, "--target", "10s", "--utilisation", "0.5")
    finally:
        workers.end()
    assert seen["consumers"] == 4 and seen["messages_unacknowledged"] == 8
    assert seen["service_seconds"] == pytest.approx(takes, rel=0.1)
    assert seen["utilisation"] == pytest.approx(1, abs=0.01)
    assert seen["settle_rate"] == pytest.approx(4 / seen["service_seconds"], rel=0.15)
    left = seen["messages_ready"] + seen["messages_unacknowledged"]
    assert seen["backlog_end_seconds"] == pytest.approx(left / seen["settle_rate"], rel=0.15)
    if seen["arrival_rate"] is None:   # nothing arrives any more: there may be no rate, and then nobody knows how many are needed
        assert seen["consumers_needed"] is None
    else:
        assert seen["consumers_needed"] == pytest.approx(seen["service_seconds"] * left / 10 / 0.5, abs=1 + seen["arrival_rate"] * 0.05)
    assert 7.9 <= seen["oldest_ready_seconds"] < 13
    channel.queue_delete(queue)


def test_a_steady_flow(broker, connect, channel, name):
    queue = name("q")
    channel.queue_declare(queue, exclusive=False)
    workers = Workers(connect, queue, 2, 0.01)
    try:
        begin = time.time()
        for i in range(600):
            channel.basic_publish("", queue, b"work")
            channel.connection.sleep(max(0, begin + i / 60 - time.time()))
        seen = outlook(broker, queue)
        listed = broker.control("list_queues", "name", "arrival_rate", "utilisation")
    finally:
        workers.end()
    assert seen["arrival_rate"] == pytest.approx(60, rel=0.1)
    assert seen["settle_rate"] == pytest.approx(60, rel=0.1)
    assert 0.2 < seen["utilisation"] < 0.9
    assert seen["consumers_needed"] in (1, 2, 3)   # a busy machine takes longer
    assert float([line.split("\t") for line in listed.splitlines() if line.startswith(queue)][0][1]) == pytest.approx(60, rel=0.1)
    channel.queue_delete(queue)


def test_what_is_not_known_is_null(broker, channel, name):
    queue = name("q")
    channel.queue_declare(queue, exclusive=True)
    seen = outlook(broker, queue)
    assert [seen[field] for field in ("arrival_rate", "settle_rate", "service_seconds", "utilisation", "consumers_needed")] == [None] * 5
    assert seen["messages_ready"] == seen["consumers"] == 0


def test_refusals(broker, channel, name):
    queue = name("q")
    channel.queue_declare(queue, exclusive=True)

    def refused(*arguments):
        done = subprocess.run([godwit_binary(), "outlook", "--uri", f"amqp://guest:guest@127.0.0.1:{broker.port}/", *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=30)
        return done.returncode, done.stdout
    assert refused("nowhere") == (1, "godwit outlook: no queue 'nowhere' in vhost '/'\n")
    assert refused("--utilisation", "2", queue)[0] == 2
    assert refused("--utilisation", "x", queue)[1] == "godwit outlook: --utilisation: 'x' is no number above 0 and up to 1\n"
    assert refused("--target", "0", queue)[0] == 2
    code, text = refused(queue)
    assert code == 0 and "arrivals               not known yet" in text and "backlog's end          there is none" in text
