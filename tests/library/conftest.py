"""libgodwit from the outside: programs in C, built against build/libgodwit.so, over a bus in their own process or at a broker.

    /usr/bin/python3 -m pytest tests/library                       # brokers are build/godwit
    /usr/bin/python3 -m pytest tests/library --against rabbitmq    # the remote ones against Debian's RabbitMQ
"""
import os
import shutil
import signal
import subprocess
import threading
import time

import pytest

from support.broker import ROOT, godwit_binary, make_broker

BUILD = os.path.dirname(os.path.abspath(godwit_binary()))
HERE = os.path.dirname(os.path.abspath(__file__))
VALGRIND = ["valgrind", "--quiet", "--leak-check=full", "--error-exitcode=99"]


def pytest_configure(config):
    config.addinivalue_line("markers", "godwit_only(why): not run against other brokers")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--against") == "godwit":
        return
    for item in items:
        mark = item.get_closest_marker("godwit_only")
        if mark or "embedded" in item.name:
            item.add_marker(pytest.mark.skip(reason=mark.args[0] if mark else "no broker has a part in it"))


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """build("examples/pub_sub.c", "-luv") answers the path of the program; each is built once."""
    directory = tmp_path_factory.mktemp("programs")
    built = {}

    def make(source, *libraries):
        if source not in built:
            program = str(directory / os.path.basename(source).removesuffix(".c"))
            sanitize = os.environ.get("GODWIT_SANITIZE", "").split()
            subprocess.run(["cc", "-std=gnu11", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Werror", *sanitize, f"-I{ROOT}/include", os.path.join(ROOT, source),
                            "-o", program, f"-L{BUILD}", "-lgodwit", *libraries, f"-Wl,-rpath,{BUILD}"], check=True)
            built[source] = program
        return built[source]

    return make


class Program:
    """A running program whose lines are read as they come."""

    def __init__(self, command, cwd):
        self.process = subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines = []
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.lines.append(None)
            self.changed.notify_all()

    def wait_for(self, condition, timeout_s=20, missing=None):
        """Until condition(lines) holds; fails when the program ends before, or the time does."""
        deadline = time.monotonic() + timeout_s
        with self.changed:
            while not condition(self.said()):
                assert None not in self.lines, "\n".join(["it ended:", *self.said()])
                if not self.changed.wait(deadline - time.monotonic()):
                    raise AssertionError("\n".join([f"too late: {missing(self.said()) if missing else ''}", *self.said()[-50:]]))

    def said(self):
        return [line for line in self.lines if line is not None]

    def wait(self, timeout_s=30):
        code = self.process.wait(timeout_s)
        self.reader.join(5)
        return code

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.wait()


@pytest.fixture
def start(tmp_path):
    """start(program, arguments …) in a directory of the test's own; killed at its end."""
    started = []

    def begin(*command):
        program = Program([str(part) for part in command], tmp_path)
        started.append(program)
        return program

    yield begin
    for program in started:
        program.process.kill()
        program.wait()


@pytest.fixture
def run(start):
    """run(program, arguments …) answers the lines of a program that ends well."""

    def complete(*command, timeout_s=30):
        program = start(*command)
        code = program.wait(timeout_s)
        assert code == 0, "\n".join([f"exit code {code}", *program.said()])
        return program.said()

    return complete


@pytest.fixture
def broker(request):
    """A broker of this test's own, which may be killed and started again on its port."""
    against = request.config.getoption("--against")
    with make_broker(against) as instance:
        yield instance


def uri(broker, user="guest", password="guest", vhost=""):
    return f"amqp://{user}:{password}@127.0.0.1:{broker.port}/{vhost}"


@pytest.fixture(params=["embedded", "remote"])
def bus(request, tmp_path):
    """What a program is told to use: a directory, or a broker's URI."""
    if request.param == "embedded":
        return str(tmp_path / "bus.gw")
    return uri(request.getfixturevalue("broker"))


@pytest.fixture
def valgrind():
    if not shutil.which("valgrind"):
        pytest.skip("valgrind is not installed")
    return VALGRIND
