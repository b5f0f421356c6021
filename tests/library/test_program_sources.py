"""Sources in programs: what the outside world does becomes events, embedded and at a broker, and goes on where it was."""
import os
import signal
import socket
import time

import pika
import pytest

from support.broker import free_port
from support.events import Events


@pytest.fixture
def events():
    server = Events()
    yield server
    server.stop()


def numbers(lines):
    return [int(line.split('"n": ')[1].rstrip("}")) for line in lines if '"n": ' in line]


def test_a_program_that_is_killed_at_any_instant_loses_nothing(build, start, bus, events):
    program, seen = build("examples/sse_to_queue.c"), []
    for round_ in range(8):
        events.count += 25
        running = start(program, bus, events.url)
        running.wait_for(lambda lines: len(numbers(lines)) > round_)
        time.sleep(0.003 * round_ * round_)
        running.stop(signal.SIGKILL)
        seen += numbers(running.said())
    events.count += 1
    running = start(program, bus, events.url)
    everything = set(range(1, events.count + 1))
    running.wait_for(lambda lines: lines and set(seen + numbers(lines)) >= everything, missing=lambda lines: everything - set(seen + numbers(lines)))
    assert running.stop() == 0
    seen += numbers(running.said())
    # At a broker, what a program had that was killed may come behind what the next one has got meanwhile.
    assert bus.startswith("amqp") or list(dict.fromkeys(seen)) == sorted(everything)
    assert any("Last-Event-ID" in headers for headers in events.seen)


def test_files_are_followed_over_restarts(build, start, bus, tmp_path):
    program, log = build("tests/library/sources.c"), tmp_path / "app.log"
    log.write_text("one\n")

    def run():
        return start(program, bus, "file", log, "from=start", "name=log", "data={{line}}")

    def said(lines):
        return [line.split(" ", 2)[2] for line in lines if line.startswith("file.line")]

    first = run()
    first.wait_for(lambda lines: said(lines) == ["one"])
    time.sleep(0.1)
    first.stop(signal.SIGKILL)
    with log.open("a") as file:
        file.write("two\n")
    log.rename(tmp_path / "app.log.1")
    log.write_text("three\n")
    second = run()
    second.wait_for(lambda lines: said(lines)[-1:] == ["three"])
    assert said(second.said()) in (["two", "three"], ["one", "two", "three"])
    assert second.stop() == 0 and second.said()[-1] == "end"


def test_all_kinds(build, start, bus, events, tmp_path):
    port, path, folder = free_port(), tmp_path / "socket", tmp_path / "in"
    folder.mkdir()
    program = start(build("tests/library/sources.c"), bus, "poll", f"{events.url}/page", "interval=100", "--", "timer", "100", "--", "cron", "* * * * * *", "zone=Asia/Tokyo", "--",
                    "directory", folder, "data={{name}}", "--", "tcp", f"127.0.0.1:{port}", "--", "unix", path, "--", "process", "sh", "-c", "echo hello; sleep 1", "--",
                    "signal", str(int(signal.SIGUSR1)), "--", "stdin")
    kinds = ("poll.changed", "timer.due", "cron.due", "process.line")
    program.wait_for(lambda lines: all(any(line.startswith(kind) for line in lines) for kind in kinds), missing=lambda lines: kinds)
    (folder / "x").write_text("1")
    with socket.create_connection(("127.0.0.1", port)) as tcp, socket.socket(socket.AF_UNIX) as local:
        tcp.sendall(b"by tcp\n")
        local.connect(str(path))
        local.sendall(b"by a path\n")
        os.kill(program.process.pid, signal.SIGUSR1)
        wanted = ("directory.new", "tcp.line", "unix.line", "signal.USR1")
        program.wait_for(lambda lines: all(any(line.startswith(kind) for line in lines) for kind in wanted), missing=lambda lines: wanted)
    assert program.stop() == 0
    said = program.said()
    assert said[-1] == "end" and not [line for line in said if line.startswith("error")]
    assert [line for line in said if line.endswith(" by tcp")] and [line for line in said if line.startswith("directory.new") and line.endswith(" x")]


def test_what_cannot_be_is_said(build, start, bus):
    program = start(build("tests/library/sources.c"), bus, "sse", "nowhere", "--", "cron", "* * *", "--", "cron", "* * * * *", "zone=Europe/Nowhere", "--", "timer", "0", "--",
                    "signal", "9", "--", "process", "--", "timer", "1000", "name=a b", "--", "timer", "1000", "name=a", "--", "timer", "2000", "name=a", "--", "file", "/x", "type={{nothing}}", "--",
                    "tcp", "nowhere")
    wanted = ("The URL", "five fields", "no time zone", "\"every\" must be a time", "\"signal\" must be", "\"command\" must be", "no name of a source", "running already", "nothing called {{nothing}}",
              "\"address\" must be")
    program.wait_for(lambda lines: len([line for line in lines if line.startswith("error")]) == len(wanted))
    errors = [line for line in program.said() if line.startswith("error")]
    assert all(part in line for part, line in zip(wanted, errors)), errors
    assert program.stop() == 0


def test_what_fails_is_told(build, start, bus, events):
    events.status = 503
    program = start(build("tests/library/sources.c"), bus, "sse", events.url, "name=prices", "--", "file", "/nowhere/x", "name=log", "--", "unix", "/nowhere/x", "name=lines")
    wanted = ("source 'prices': The server answered 503.", "source 'log': /nowhere/x cannot be opened", "source 'lines': /nowhere/x cannot be listened at")
    program.wait_for(lambda lines: all(any(part in line for line in lines) for part in wanted), missing=lambda lines: wanted)
    assert program.stop() == 0


def test_a_thousand_sources_in_an_embedded_bus(build, start, tmp_path):
    program = start(build("tests/library/sources.c"), tmp_path / "bus.gw", "many", 1000)
    program.wait_for(lambda lines: len({line.split(" ", 1)[0] for line in lines}) == 1000, timeout_s=30)
    assert program.stop() == 0 and program.said()[-1] == "end"


def test_a_queue_elsewhere_is_a_source(build, start, bus, broker):
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port))
    channel = connection.channel()
    channel.queue_declare("jobs", durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 1000})   # it is taken as it is

    def put(*numbers_):
        for number in numbers_:
            channel.basic_publish("", "jobs", f'{{"n": {number}}}'.encode(), pika.BasicProperties(message_id=f"m{number}", type="job.new", delivery_mode=2))

    program, seen = build("tests/library/sources.c"), []
    put(*range(1, 201))
    for kill in (1, 40, 120):
        running = start(program, bus, "amqp", f"amqp://127.0.0.1:{broker.port}", "jobs", "name=far")
        running.wait_for(lambda lines: len(numbers(lines)) > min(kill, 200 - len(set(seen))) - 1)
        running.stop(signal.SIGKILL)
        seen += numbers(running.said())
    running = start(program, bus, "amqp", f"amqp://127.0.0.1:{broker.port}", "jobs", "name=far")
    put(201)
    running.wait_for(lambda lines: set(seen + numbers(lines)) == set(range(1, 202)), missing=lambda lines: set(range(1, 202)) - set(seen + numbers(lines)))
    assert all(line.startswith("job.new m") for line in running.said() if '"n"' in line)
    deadline = time.monotonic() + 10
    while channel.queue_declare("jobs", passive=True).method.message_count and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running.stop() == 0
    assert channel.queue_declare("jobs", passive=True).method.message_count == 0
    connection.close()


def test_nothing_leaks_of_an_embedded_bus(build, start, events, valgrind, tmp_path):
    (tmp_path / "log").write_text("one\ntwo\n")
    events.count = 5
    program = start(*valgrind, build("tests/library/sources.c"), tmp_path / "bus.gw", "sse", events.url, "--", "file", tmp_path / "log", "from=start", "--", "timer", "100", "--", "process", "echo", "x")
    program.wait_for(lambda lines: len(numbers(lines)) == 5 and any("process.exited" in line for line in lines), timeout_s=60)
    assert program.stop() == 0, program.said()


def test_events_go_elsewhere_whoever_dies(build, start, broker, tmp_path):
    """A timer and a log in one program's bus; the shovel takes it over when that has ended, and moves all to a broker."""
    bus, log, program = tmp_path / "bus.gw", tmp_path / "log", build("examples/shovel.c")
    log.write_text("".join(f'{{"n": {i}}}\n' for i in range(1, 301)))
    putter = start(build("tests/library/sources.c"), bus, "file", log, "from=start", "name=log")
    putter.wait_for(lambda lines: len(numbers(lines)) >= 300)
    assert putter.stop() == 0
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port))
    channel = connection.channel()
    channel.exchange_declare("events", "topic", durable=True)
    channel.queue_declare("here", durable=True)
    channel.queue_bind("here", "events", "file.#")
    connection.close()
    # The handler's queue of the first program has been emptied by it: the shovel's is made first, then filled.
    shovel = start(program, bus, "file.#", f"amqp://127.0.0.1:{broker.port}")
    time.sleep(0.3)
    shovel.stop(signal.SIGKILL)
    with log.open("a") as file:
        file.write("".join(f'{{"n": {i}}}\n' for i in range(301, 701)))
    putter = start(build("tests/library/sources.c"), bus, "file", log, "name=log")
    putter.wait_for(lambda lines: len(numbers(lines)) >= 400)
    assert putter.stop() == 0
    for kill in range(3):
        shovel = start(program, bus, "file.#", f"amqp://127.0.0.1:{broker.port}")
        time.sleep(0.05 + 0.03 * kill)
        shovel.stop(signal.SIGKILL)
    broker.kill()
    shovel = start(program, bus, "file.#", f"amqp://127.0.0.1:{broker.port}")
    broker.start()
    got, deadline = {}, time.monotonic() + 15
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port))
    channel = connection.channel()
    while set(got) != set(range(301, 701)) and time.monotonic() < deadline:
        method, properties, body = channel.basic_get("here", auto_ack=True)
        if method:
            number = int(body.split(b'"n": ')[1].rstrip(b"}"))
            assert got.setdefault(number, properties.message_id) == properties.message_id and properties.message_id.startswith("log/")
        else:
            time.sleep(0.02)
    assert set(got) == set(range(301, 701))
    connection.close()
    assert shovel.stop() == 0


def test_a_program_without_standard_input(build, start, bus):
    """Its lowest descriptor is not taken for something else, by the source or by libuv, which would end it."""
    program = start("sh", "-c", 'exec "$0" "$@" <&-', build("tests/library/sources.c"), bus, "stdin", "--", "timer", "50", "name=pulse")
    program.wait_for(lambda lines: len([line for line in lines if line.startswith("timer.due")]) > 1)
    assert program.stop() == 0 and not [line for line in program.said() if "source 'stdin" in line]
