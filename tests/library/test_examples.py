"""Every program in examples/ does what it says, with the same text embedded and at a broker."""
import http.server
import re
import signal
import threading

import pytest


def test_each_handler_gets_what_its_pattern_matches(build, run, bus):
    lines = run(build("examples/pub_sub.c"), bus)
    assert sorted(lines) == ["audit: customer.created ada", "audit: order.created 7", "audit: order.paid 7", "orders: order.created 7", "orders: order.paid 7"]
    assert lines.index("orders: order.created 7") < lines.index("orders: order.paid 7")


def test_requests_are_replied_to(build, run, bus):
    lines = run(build("examples/request_reply.c"), bus)
    assert sorted(lines) == ["the cube of 3: refused", "the square of 12: 144", "the square of 7: 49"]


def test_one_loop_for_timers_and_handlers(build, run, bus):
    assert run(build("examples/event_loop.c"), bus) == ["tick 1", "tick 2", "tick 3", "bell: ding", "closed: done"]


def test_nothing_leaks_and_nothing_is_touched_that_is_gone(build, run, bus, valgrind):
    assert len(run(*valgrind, build("examples/request_reply.c"), bus, timeout_s=60)) == 3


def numbers(lines):
    return [int(match[1]) for line in lines if (match := re.fullmatch(r"done (\d+)", line))]


def expected(count):
    return {number for number in range(1, count + 1) if number % 100 != 42}


def test_jobs_outlive_workers_that_are_killed(build, start, run, bus):
    program = build("examples/job_queue.c")
    assert run(program, bus, "put", 500) == ["put 500"]
    done = []
    for kill in (20, 60, 100):
        worker = start(program, bus, "work")
        worker.wait_for(lambda lines: len(lines) >= kill or set(done + numbers(lines)) >= expected(500))
        worker.stop(signal.SIGKILL)
        done += numbers(worker.said())
    worker = start(program, bus, "work")
    worker.wait_for(lambda lines: lines and set(done + numbers(lines)) >= expected(500), missing=lambda lines: expected(500) - set(done + numbers(lines)))
    assert worker.stop() == 0
    done += numbers(worker.said())
    assert set(done) == expected(500)


def test_jobs_outlive_brokers_that_are_killed(build, start, broker):
    if broker.name == "rabbitmq":
        pytest.skip("a start takes RabbitMQ too long")
    bus = f"amqp://127.0.0.1:{broker.port}"
    program = build("examples/job_queue.c")
    putter = start(program, bus, "put", 2000)
    worker = start(program, bus, "work")
    for kill in (100, 400, 900):
        worker.wait_for(lambda lines: len(numbers(lines)) >= kill)
        broker.kill()
        broker.start()
    assert putter.wait() == 0
    assert putter.said() == ["put 2000"]
    worker.wait_for(lambda lines: set(numbers(lines)) >= expected(2000))
    assert worker.stop() == 0


class Sink(http.server.BaseHTTPRequestHandler):
    """Refuses each event twice."""

    def do_POST(self):
        event = (self.headers["ce-type"], self.rfile.read(int(self.headers["content-length"])).decode())
        self.server.got.append(event)
        self.send_response(503 if self.server.got.count(event) <= 2 else 204)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def sink():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    server.got = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_events_are_posted_until_they_are_taken(build, start, run, broker, sink):
    worker = start(build("examples/webhook_worker.c", "-luv"), f"amqp://127.0.0.1:{broker.port}", f"http://127.0.0.1:{sink.server_port}/")
    program = build("tests/library/publish.c")
    run(program, f"amqp://127.0.0.1:{broker.port}", "order.created", 1, 3)
    worker.wait_for(lambda lines: sum(line.endswith("taken") for line in lines) == 3)
    assert sorted(set(sink.got)) == [("order.created", str(number)) for number in (1, 2, 3)]
    assert all(sink.got.count(event) == 3 for event in set(sink.got))
    assert worker.stop() == 0
