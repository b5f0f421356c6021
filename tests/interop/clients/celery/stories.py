"""A Celery application (Debian's python3-celery): a worker process, and this one, which gives it work."""
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

FILES = os.environ["RESULTS_DIRECTORY"] = tempfile.mkdtemp(prefix="celery-")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import celery   # noqa: E402
import kombu   # noqa: E402

import shop as application   # noqa: E402
from shop import courier, shop, warehouse   # noqa: E402
from story import URL, administer, eventually, restart_the_broker, same, story, tell   # noqa: E402


class Worker:
    """`celery worker` as a process of its own, started when a story first needs it."""

    def __init__(self, name):
        self.name, self.process = name, None
        self.log_path = os.path.join(FILES, name + ".log")

    def start(self):
        if self.process is None:
            with open(self.log_path, "ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-B", "-m", "celery", "-A", f"shop:{self.name}", "worker", "--pool", "solo", "--task-events",
                     "--hostname", f"{self.name}@here", "--loglevel", "info"],
                    stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=os.path.dirname(os.path.abspath(__file__)))
            self.wait_until_ready()
        return self

    def log_text(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def wait_until_ready(self):
        assert eventually(lambda: " ready." in self.log_text() or self.process.poll() is not None, 20), self.log_text()[-1500:]
        assert self.process.poll() is None, self.log_text()[-1500:]

    def kill(self):
        """As if the machine had lost its power."""
        self.process.kill()
        self.process.wait()
        self.process = None
        os.unlink(self.log_path)

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            self.kill()


SHOP, WAREHOUSE, COURIER = Worker("shop"), Worker("warehouse"), Worker("courier")


def with_worker(tell_it):
    def wrapped():
        SHOP.start()
        tell_it()
    wrapped.__name__ = tell_it.__name__
    return story(wrapped)


def notes():
    try:
        with open(os.path.join(FILES, "notes")) as lines:
            return lines.read().split("\n")[:-1]
    except FileNotFoundError:
        return []


@contextlib.contextmanager
def fresh_notes():
    yield
    os.unlink(os.path.join(FILES, "notes"))


@with_worker
def tasks_and_results():
    same(application.add.delay(2, 3).get(timeout=10), 5)
    results = [application.add.delay(number, number) for number in range(20)]
    same([result.get(timeout=10) for result in results], [2 * number for number in range(20)])


@with_worker
def groups():
    group = celery.group(application.add.s(number, 1) for number in range(10))
    same(group.apply_async().get(timeout=10), list(range(1, 11)))


@with_worker
def chains():
    same((application.add.s(1, 2) | application.add.s(4) | application.add.s(8)).apply_async().get(timeout=10), 15)


@story
def chords():
    WAREHOUSE.start()
    try:
        same(celery.chord([application.weigh.s(number) for number in range(5)], app=warehouse)(application.total.s()).get(timeout=20), 10)
    finally:
        WAREHOUSE.stop()


@with_worker
def retries():
    same(application.flaky.delay(3).get(timeout=10), 3)
    try:
        application.hopeless.delay().get(timeout=10)
        raise AssertionError("it succeeded")
    except KeyError:
        pass


@with_worker
def retry_backoff():
    """The broker keeps back what a task gives back, longer each time; RabbitMQ has no such thing."""
    with shop.connection_for_read() as connection:
        if "Godwit" not in str(connection.connection.server_properties.get("copyright")):
            return
    administer("set_policy", "--apply-to", "queues", "patience", "^shop.tasks$", '{"retry-backoff": ["200ms", "500ms"], "delivery-limit": 5}')
    with fresh_notes():
        same(application.stubborn.delay(2).get(timeout=10), True)
        at = [float(line.split()[1]) for line in notes()]
        assert len(at) == 3 and at[1] - at[0] >= 0.2 and at[2] - at[1] >= 0.5, at
    administer("clear_policy", "patience")


@with_worker
def countdown_and_eta():
    begin = time.time()
    ran = application.when.apply_async(countdown=1).get(timeout=10)
    assert 0.9 <= ran - begin < 4, f"asked for 1 s, ran after {ran - begin:.2f} s"


def native_delayed_delivery():
    """The broker keeps what is not due yet: a task of 5 s goes over the queues of 4 s and of 1 s, from one dead-letter exchange to the next."""
    COURIER.start()
    try:
        begin = time.time()
        late, soon = application.deliver.apply_async(countdown=5), application.deliver.apply_async(countdown=1)
        with courier.connection_for_read() as connection:
            same(connection.default_channel.queue_declare("courier.tasks", passive=True).message_count, 0)
        ran = [result.get(timeout=20) - begin for result in (soon, late)]
        assert 0.9 <= ran[0] < 4 and 4.9 <= ran[1] < 9, ran
    finally:
        COURIER.stop()


if celery.VERSION >= (5, 5):
    story(native_delayed_delivery)


@with_worker
def expiry():
    with fresh_notes():
        application.note.delay("first", 0.6)
        application.note.apply_async(["too late"], expires=0.2)   # Celery's own expiry, which is also the message's.
        application.note.delay("last")
        assert eventually(lambda: "last" in notes())
        same(notes(), ["first", "last"])


@with_worker
def priorities():
    """They are sent while no worker runs: how many a worker fetches ahead changes with what it ran before."""
    SHOP.stop()
    with fresh_notes():
        for priority in (1, 9, 5, 9):
            application.note.apply_async([str(priority)], priority=priority)
        with kombu.Connection(URL) as connection:
            waiting = lambda: connection.default_channel.queue_declare("shop.tasks", passive=True).message_count   # noqa: E731
            assert eventually(lambda: waiting() == 4), f"{waiting()} wait in the queue"
        SHOP.start()
        assert eventually(lambda: len(notes()) == 4)
        same(notes(), ["9", "9", "5", "1"])


@with_worker
def acks_late():
    """A worker that dies while it works takes nothing with it: the task is delivered again."""
    with fresh_notes():
        result = application.interrupted.delay(60)
        assert eventually(notes)
        SHOP.kill()
        SHOP.start()
        same(result.get(timeout=20), True)


@with_worker
def rejected_is_dead_lettered():
    with kombu.Connection(URL) as connection:
        dead = kombu.Queue("shop.dead", kombu.Exchange(""), routing_key="shop.dead", durable=True)(connection.default_channel)
        dead.declare()
        sent = application.refused.delay()
        message = eventually(dead.get, missing="nothing was dead-lettered")
        message.ack()
        same((message.headers["id"], message.headers["task"]), (sent.id, "shop.refused"))
        same([(death["queue"], death["reason"], death["count"]) for death in message.headers["x-death"]], [("shop.tasks", "rejected", 1)])
        dead.delete()


@with_worker
def remote_control():
    same([list(answer) for answer in shop.control.ping(timeout=1)], [["shop@here"]])
    assert shop.control.inspect(timeout=1).stats()["shop@here"]["broker"]["transport"] == "amqp"


@with_worker
def events():
    """What workers say of themselves goes over a topic exchange, to queues that expire."""
    seen = []
    with shop.connection() as connection:
        receiver = shop.events.Receiver(connection, handlers={"task-succeeded": lambda event: seen.append(event["result"])})
        with receiver.consumer_context(wakeup=False):
            application.add.delay(20, 1).get(timeout=10)
            with contextlib.suppress(TimeoutError):
                while not seen:
                    connection.drain_events(timeout=5)
    same(seen, ["21"])


@with_worker
def recovery():
    """The broker goes away and comes back; the worker stays, and finds what was sent in between."""
    with fresh_notes():
        application.note.delay("before")
        assert eventually(notes)
        restart_the_broker()
        application.note.delay("after")
        assert eventually(lambda: "after" in notes(), 40), SHOP.log_text()[-1500:]
        same(set(notes()), {"before", "after"}, "an acknowledgement may have been lost on its way, so the first may have run twice")
        assert SHOP.process.poll() is None


def leave_nothing():
    """What was sent twice over a lost connection may still lie there, and another version of Celery may come next."""
    for worker in (SHOP, WAREHOUSE, COURIER):
        worker.stop()
    with kombu.Connection(URL) as connection:
        for queue in ("shop.tasks", "shop.dead", "warehouse.tasks", "courier.tasks"):
            connection.default_channel.queue_delete(queue)
    shutil.rmtree(FILES, ignore_errors=True)


try:
    tell()
finally:
    leave_nothing()
