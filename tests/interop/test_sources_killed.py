"""Sources of a broker that is killed at any instant: what happens elsewhere meanwhile is not lost, and comes twice no more than at-least-once must."""
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time

import pika
import pytest
import requests

from support.broker import free_port
from support.events import Events
from support.sources import Queue, Sources, left, put

pytestmark = [pytest.mark.godwit_only("RabbitMQ has no sources"), pytest.mark.limit(300)]

KILLS = 6


@pytest.fixture
def chance():
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print(f"SEED={seed}")   # which pytest shows when the test fails
    return random.Random(seed)


def killed_and_started(broker, chance):
    """Killed while it works, and now and then once more while it starts."""
    broker.kill()
    if chance.random() < 0.5:
        with subprocess.Popen(broker.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) as process:
            time.sleep(chance.uniform(0, 0.1))
            os.killpg(process.pid, signal.SIGKILL)
    broker.start()


class Meanwhile:
    """Calls act(0), act(1), … at some pace until it is left, whatever becomes of the broker."""

    def __init__(self, act, every_s):
        self.act, self.every_s, self.count, self.over, self.error = act, every_s, 0, threading.Event(), None
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        try:
            while not self.over.wait(self.every_s):
                self.act(self.count)
                self.count += 1
        except BaseException as error:
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.over.set()
        self.thread.join()
        assert self.error is None, self.error


def told(queue, kind):
    """What came of one kind, in its order: (id, body) each."""
    return [(properties.message_id, body) for key, properties, body in queue.got if key.split(".")[0] == kind]


def again(events):
    """How many came more than once; whoever comes again is the same as before."""
    bodies = dict(events)
    assert all(bodies[id_] == body for id_, body in events)
    return len(events) - len(bodies)


def is_running(process):
    try:
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def in_order(numbers):
    """At least once and in order: every first time is in its place."""
    return list(dict.fromkeys(numbers)) == list(range(len(set(numbers))))


@pytest.fixture
def events():
    server = Events()
    yield server
    server.stop()


def test_all_that_can_be_asked_for_again(own_broker, events, eventually, name, tmp_path, chance):
    log, folder = tmp_path / "app.log", tmp_path / "in"
    log.touch()
    folder.mkdir()
    config = tmp_path / "godwit.conf"
    config.write_text(f"""
[source sse]
kind = sse
url = {events.url}
window = 16
retry = 50ms
[source file]
kind = file
path = {log}
window = 16
[source directory]
kind = directory
path = {folder}
data = {{{{name}}}}
[source timer]
kind = timer
every = 40ms
missed = all
data = {{{{time_ms}}}}
[source cron]
kind = cron
expression = * * * * * *
missed = all
data = {{{{time_ms}}}}
""")
    broker = own_broker(godwit=["--config", str(config)])
    sources, queue = Sources(broker), Queue(broker, "#", name())
    eventually(lambda: all(sources.status(id_).get("state") == "running" for id_ in ("sse", "file", "directory")), missing=lambda: [sources.status(id_) for id_ in ("sse", "file", "directory")])

    def line(number):
        """Lines of a log that is rotated now and then, some of them written in two pieces."""
        if number % 50 == 49:
            for i in range(number // 50, 0, -1):
                if (tmp_path / f"app.log.{i}").exists():
                    (tmp_path / f"app.log.{i}").rename(tmp_path / f"app.log.{i + 1}")
            log.rename(tmp_path / "app.log.1")
        with log.open("a", buffering=1) as file:
            for piece in (f"{number}\n",) if number % 3 else (f"{number // 10 or ''}", f"{number % 10}\n"):
                file.write(piece)
                file.flush()

    def more(number):
        events.count += 1 + number % 7

    def file(number):
        (folder / f"{number}").write_text("x")

    with Meanwhile(line, 0.004) as lines, Meanwhile(more, 0.003) as _, Meanwhile(file, 0.05) as files:
        for _ in range(KILLS):
            time.sleep(chance.uniform(0, 0.6))
            killed_and_started(broker, chance)
    begin = time.time()
    eventually(lambda: queue.take() and len(dict(told(queue, "sse"))) == events.count, 60, missing=lambda: f"{len(dict(told(queue, 'sse')))} of {events.count}")
    eventually(lambda: queue.take() and len({body for _, body in told(queue, "file")}) == lines.count, 60,   # a file that was rotated is left when it was still for 1 s
               missing=lambda: f"lines {sorted(set(range(lines.count)) - {int(body) for _, body in told(queue, 'file')})} and {sources.get('file')}")
    eventually(lambda: queue.take() and len({body for key, _, body in queue.got if key == "directory.new"}) == files.count, 60,
               missing=lambda: f"files {set(map(str, range(files.count))) - {body for key, _, body in queue.got if key == 'directory.new'}}")
    eventually(lambda: queue.take() and all(int(told(queue, kind)[-1][1]) > begin * 1000 for kind in ("timer", "cron")), 60,
               missing=lambda: [(told(queue, kind)[-1], begin, sources.get(kind)) for kind in ("timer", "cron")])
    assert in_order([json.loads(body)["n"] - 1 for _, body in told(queue, "sse")])
    assert in_order([int(body) for _, body in told(queue, "file")])
    assert {key for key, _, _ in queue.got if key.startswith("directory")} == {"directory.new"}
    for kind, step_ms in (("timer", 40), ("cron", 1000)):
        times = sorted({int(body) for _, body in told(queue, kind)})
        assert {after - before for before, after in zip(times, times[1:])} == {step_ms}, kind
    # What is sent twice was under way, or its position was not yet on disk.
    twice = {kind: again(told(queue, kind)) for kind in ("sse", "file", "timer", "cron", "directory")}
    assert all(count <= most for count, most in zip(twice.values(), (32 * KILLS, 32 * KILLS, 20 * KILLS, 4 * KILLS, files.count))), twice


def test_a_page_that_changes(own_broker, events, eventually, name, chance):
    """Each page is read, as it stays until it is; what is read twice is the same event."""
    broker = own_broker()
    sources, queue = Sources(broker), Queue(broker, "poll.#", name())
    sources.make(id="page", kind="poll", url=f"{events.url}/page", interval="100ms")
    for page in range(KILLS):
        eventually(lambda: f"page {page}" in queue.bodies(), missing=lambda: (page, queue.bodies(), sources.get("page")))
        time.sleep(chance.uniform(0, 0.1))
        if chance.random() < 0.5:
            events.count += 1
            time.sleep(chance.uniform(0, 0.05))
            killed_and_started(broker, chance)
        else:
            killed_and_started(broker, chance)
            events.count += 1
    told_ = [int(body.split()[1]) for body in queue.bodies()]
    assert in_order(told_) and len(told_) <= 2 * KILLS, told_


def test_messages_of_a_queue_elsewhere(own_broker, eventually, name, chance, tmp_path):
    """8,000 messages move, and now the one broker is killed, now the other, with some of them still to come."""
    count, prefetch, jobs, there = 8000, 2, name(), own_broker()
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", there.port)) as connection:
        connection.channel().queue_declare(jobs, durable=True, arguments={"x-queue-type": "quorum", "x-max-length": 100000})   # it is taken as it is
    put(there, jobs, range(count))
    assert left(there, jobs) == count
    config = tmp_path / "godwit.conf"
    config.write_text("")
    here = own_broker(godwit=["--config", str(config)])
    queue = Queue(here, jobs, name())
    here.stop()
    config.write_text(f"[source shovel]\nkind = amqp\nuri = amqp://guest:guest@127.0.0.1:{there.port}\nqueue = {jobs}\nprefetch = {prefetch}\nretry = 20ms\n")
    here.start()
    sources, dead = Sources(here), []
    for round_ in range(KILLS):
        before, more = sources.status("shovel").get("published", 0), chance.randrange(1, count // KILLS // 2)
        eventually(lambda: sources.status("shovel").get("published", 0) >= before + more, every_s=0, missing=lambda: (before, more, sources.get("shovel")))
        one = (here, there)[round_ % 2]
        one.kill()
        dead.append(left(there, jobs) if one is here else count - len(set(queue.bodies())))
        killed_and_started(one, chance)
    assert all(rest > 0 for rest in dead), dead   # each of them died with some of it still to come
    here.stop()
    config.write_text(config.read_text().replace(f"prefetch = {prefetch}\n", "prefetch = 200\n"))   # the rest goes faster
    here.start()
    eventually(lambda: len(set(queue.bodies())) == count, 60, missing=lambda: (len(set(queue.bodies())), sources.get("shovel")))
    eventually(lambda: left(there, jobs) == 0)
    assert {(key, properties.message_id, body) for key, properties, body in queue.got} == {(jobs, f"m{number}", str(number)) for number in range(count)}
    assert in_order([int(body) for _, _, body in queue.got])
    # What was held by this one when it died comes again; what the other had not yet written down as acknowledged does, too.
    assert len(queue.got) - count <= KILLS // 2 * prefetch + KILLS // 2 * 200, len(queue.got)


def test_what_cannot_be_asked_for_again(own_broker, eventually, name, chance, tmp_path):
    """Lines and processes: what was published stays, whoever comes again is heard again, and a process ends with the broker that started it."""
    config, path, port = tmp_path / "godwit.conf", str(tmp_path / "socket"), free_port()
    config.write_text("")
    broker = own_broker(godwit=["--config", str(config)])
    sources, queue, rounds = Sources(broker), Queue(broker, "#", name()), 4
    broker.stop()
    config.write_text(f"""
[source tcp]
kind = tcp
address = 127.0.0.1:{port}
[source unix]
kind = unix
path = {path}
[source process]
kind = process
command = ["sh", "-c", "echo $$; exec sleep 300"]
[source usr]
kind = signal
signal = USR1
""")
    broker.start()

    def published(id_):
        return sources.status(id_).get("published", 0)

    for round_ in range(rounds):
        eventually(lambda: all(sources.status(id_).get("state") == "running" for id_ in ("tcp", "unix", "usr")) and published("process") == 1)
        with socket.create_connection(("127.0.0.1", port)) as tcp, socket.socket(socket.AF_UNIX) as local:
            local.connect(path)
            for peer in (tcp, local):
                peer.sendall(f"{round_}\nand half a".encode())
            os.kill(broker.broker_pid(), signal.SIGUSR1)
            eventually(lambda: all(published(id_) == 1 for id_ in ("tcp", "unix", "usr")))
            killed_and_started(broker, chance)
    lines = [str(round_) for round_ in range(rounds)]
    eventually(lambda: len([body for key, _, body in queue.take() if key == "process.line"]) > rounds and published("process") == 1)
    assert [body for key, _, body in queue.got if key == "tcp.line"] == [body for key, _, body in queue.got if key == "unix.line"] == lines
    assert len([key for key, _, _ in queue.got if key == "signal.USR1"]) == rounds
    *ended, lives = [int(body) for key, _, body in queue.got if key == "process.line"]
    assert is_running(lives)
    eventually(lambda: not any(is_running(process) for process in ended), missing=lambda: [process for process in ended if is_running(process)])
    assert broker.stop() == 0
    eventually(lambda: not is_running(lives))
