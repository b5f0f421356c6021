"""What every suite shares: where the helpers are, and `--against`."""
import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

from support.eventually import Eventually   # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--against", choices=["godwit", "rabbitmq"], default="godwit",
                     help="the broker that the interop suites run against")
    parser.addoption("--port", type=int, help="use the broker that already listens on this port of 127.0.0.1")
    parser.addoption("--limit", type=int, default=60, help="seconds after which a test has failed")
    parser.addoption("--reactors", type=int, default=2, help="how many reactors Godwit gets")


class TestTookTooLong(Exception):
    pass


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """A broker that never answers fails the test instead of hanging the run; `limit(seconds)` allows more."""
    mark = item.get_closest_marker("limit")
    seconds = mark.args[0] if mark else item.config.getoption("--limit")

    def too_long(number, where):
        raise TestTookTooLong(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds, 5)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def eventually():
    """eventually(question) fails the test when there is no true answer in 20 s."""
    return Eventually()


def pytest_configure(config):
    config.addinivalue_line("markers", "limit(seconds): how long a test may take before it has failed")
