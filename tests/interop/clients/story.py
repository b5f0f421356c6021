"""What the programs in Python share. A story is a function whose name says what is shown; `tell()` runs those asked for by name (all of
them, when none is) and prints how each ended, in the words that run-clients reads.
"""
import json
import os
import sys
import time
import traceback

URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
PORT = int(os.environ.get("AMQP_PORT", "5672"))
STORIES = {}


def story(function):
    STORIES[function.__name__.replace("_", "-")] = function
    return function


def restart_the_broker():
    """Returns when the broker has been stopped and started again."""
    print("restart", flush=True)
    sys.stdin.readline()


def administer(*arguments):
    """What an administrator does with rabbitmqctl or `godwit ctl`; answers what the program printed."""
    print("ctl " + json.dumps(arguments), flush=True)
    answer = json.loads(sys.stdin.readline())
    assert "printed" in answer, answer
    return answer["printed"]


def eventually(question, timeout_s=10, missing="no answer"):
    """Asks until the answer is true, and answers it; the story has failed when time is up. `missing` says what did not come."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = question()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{missing} in {timeout_s} s"
        time.sleep(0.02)


def same(found, expected, what=""):
    assert found == expected, f"{what}: {found!r}, expected {expected!r}" if what else f"{found!r}, expected {expected!r}"


def outcome(name, tell_it):
    """Runs one story and prints its line."""
    try:
        tell_it()
        print(f"ok {name}", flush=True)
    except BaseException as error:   # Whatever ends a story, the next one is told.
        where = traceback.extract_tb(error.__traceback__)
        mine = [frame for frame in where if os.path.basename(frame.filename) == "stories.py"]
        lines = " > ".join(str(frame.lineno) for frame in mine or where[-1:])
        print(f"FAILED {name}: line {lines}: {type(error).__name__}: {' '.join(str(error).split())}", flush=True)


def tell():
    for name in STORIES:
        if name in (sys.argv[1:] or STORIES):
            outcome(name, STORIES[name])
