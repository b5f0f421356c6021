"""What handlers may rely on, embedded and at a broker, by the same text."""
import signal
import time

from conftest import uri


def left(broker, queue):
    """How many messages are in it, those that wait for their time or are in somebody's hands, too; None: it is not there."""
    wait = "messages_retrying" if broker.name == "godwit" else "messages"
    rows = [line.split("\t") for line in broker.control("-q", "list_queues", "name", "messages", wait).splitlines()]
    return next((int(row[1]) + int(row[2]) for row in rows if row[0] == queue), None)


def wait_until(condition, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "too late"
        time.sleep(0.05)


def test_an_event_that_comes_later_keeps_the_order_of_its_key(build, run, bus, request):
    """Its key waits for it, the other does not; where a broker has no such order, its time is kept all the same."""
    lines = run(build("tests/library/later.c"), bus)
    assert len(lines) == 5 and lines[0] == "a1 attempt 1" and "a1 attempt 2 later" in lines and {"b1 attempt 1", "b2 attempt 1"} <= set(lines)
    if request.config.getoption("--against") == "godwit":
        assert lines[-2:] == ["a1 attempt 2 later", "a2 attempt 1 later"]


def test_events_of_a_broker_come_home_whoever_dies(build, start, broker, tmp_path):
    """gw_forward from a broker into a directory, while both the program and the broker are killed."""
    shovel, handle, where, home = build("examples/shovel.c"), build("tests/library/handle.c"), uri(broker), tmp_path / "home.gw"
    first = start(handle, home, "order.*")   # its queue is there from now on
    wait_until(lambda: home.exists() and any(home.iterdir()))
    time.sleep(0.3)
    assert first.stop() == 0
    moving = start(shovel, where, "order.*", home)
    wait_until(lambda: left(broker, "shovel") is not None)
    publisher = start(build("tests/library/publish.c"), where, "order.created", 1, 20000)
    for kill in range(3):
        time.sleep(0.1 + 0.05 * kill)
        moving.stop(signal.SIGKILL)
        moving = start(shovel, where, "order.*", home)
    broker.kill()
    broker.start()
    assert publisher.wait() == 0
    wait_until(lambda: left(broker, "shovel") == 0)
    assert moving.stop() == 0
    assert left(broker, "shovel") == 0, "what was under way was acknowledged before the end"
    last = start(handle, home, "order.*")
    last.wait_for(lambda lines: len(lines) >= 20000 and len({line.split()[1] for line in lines}) == 20000, missing=len)
    assert last.stop() == 0


def test_what_makes_no_sense_is_refused_at_once(build, run, bus):
    """At a broker such a text would have the connection closed, and once more for each repetition: nothing else would get through."""
    assert run(build("tests/library/refusals.c"), bus) == ["fine"]
