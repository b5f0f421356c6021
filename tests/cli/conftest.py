"""Every test here drives build/godwit as a person would, against one broker for the whole run."""
import os
import subprocess

import pytest

from support.broker import Godwit, godwit_binary


@pytest.fixture(scope="session")
def broker(request):
    with Godwit(reactors=request.config.getoption("--reactors")) as instance:
        yield instance
        assert instance.stop() == 0, instance.log_text()[-3000:]


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


def run(*arguments, uri=None, stdin=b"", timeout_s=20, environment=None):
    """Runs godwit with what it is given; answers its exit code and what it said."""
    variables = {**os.environ, **(environment or {})}
    if uri:
        variables["GODWIT_URI"] = uri
    done = subprocess.run([godwit_binary(), *arguments], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=timeout_s, env=variables)
    return Result(done.returncode, done.stdout, done.stderr.decode())


@pytest.fixture
def godwit(broker):
    """godwit('publish', 'hello', 'Hello World!') against this run's broker."""
    uri = f"amqp://guest:guest@127.0.0.1:{broker.port}/"

    def call(*arguments, **more):
        return run(*arguments, uri=uri, **more)
    call.uri = uri
    return call


@pytest.fixture
def bare():
    """godwit without a broker."""
    return run


@pytest.fixture
def queue(request, godwit):
    name = f"{request.node.name.split('[')[0]}-{os.getpid()}"
    yield name
    godwit("consume", "--timeout", "100ms", "--no-ack", name)
