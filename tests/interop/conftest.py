"""One broker for a whole run, fresh connections for every test.

    /usr/bin/python3 -m pytest tests/interop                       # against build/godwit
    /usr/bin/python3 -m pytest tests/interop --against rabbitmq    # the same tests against Debian's RabbitMQ

A test that must change the broker itself (restart it, fill its memory) starts one of its own with `own_broker`.
"""
import itertools
import os

import pika
import pytest

from support.broker import make_broker
from support.wire import Wire

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture(scope="session")
def against(request):
    return request.config.getoption("--against")


def pytest_configure(config):
    config.addinivalue_line("markers", "godwit_only(why): not run against other brokers")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--against") == "godwit":
        return
    for item in items:
        mark = item.get_closest_marker("godwit_only")
        if mark:
            item.add_marker(pytest.mark.skip(reason=mark.args[0]))


def arguments_for(request, against, **more):
    return {"reactors": request.config.getoption("--reactors"), **more} if against == "godwit" else more


class Running:
    """A broker that somebody else started."""

    def __init__(self, port):
        self.port = port


@pytest.fixture(scope="session")
def broker(request, against):
    if request.config.getoption("--port"):
        yield Running(request.config.getoption("--port"))
        return
    instance = make_broker(against, **arguments_for(request, against))
    with instance:
        yield instance
        code = instance.stop()
        assert code == 0 or against == "rabbitmq", f"exit code {code} after SIGTERM:\n{instance.log_text()[-3000:]}"


# What RabbitMQ has as plug-ins, Godwit has built in.
PLUGINS = ["rabbitmq_consistent_hash_exchange", "rabbitmq_random_exchange", "rabbitmq_sharding", "rabbitmq_event_exchange"]


@pytest.fixture(scope="session")
def plugged(request, against):
    """The broker of the run; of RabbitMQ another one that has its plug-ins."""
    if against == "godwit" or request.config.getoption("--port"):
        yield request.getfixturevalue("broker")
        return
    with make_broker(against, plugins=PLUGINS) as instance:
        yield instance


@pytest.fixture
def own_broker(request, against):
    """Makes brokers that only this test uses: own_broker(options=[...]) per kind, or own_broker(godwit=[...], rabbitmq=[...])."""
    made = []

    def make(godwit=(), rabbitmq=(), **more):
        options = godwit if against == "godwit" else rabbitmq
        instance = make_broker(against, **arguments_for(request, against, options=options, **more))
        made.append(instance)
        return instance.start()

    yield make
    for instance in made:
        instance.discard()


def parameters(broker, **more):
    settings = {"host": "127.0.0.1", "port": broker.port, "heartbeat": 0, "socket_timeout": 20, "stack_timeout": 30,
                "blocked_connection_timeout": 60, **more}
    return pika.ConnectionParameters(**settings)


@pytest.fixture
def connect_to():
    """connect_to(broker, **ConnectionParameters) opens connections and closes them when the test ends."""
    opened = []

    def open_connection(broker, **more):
        connection = pika.BlockingConnection(parameters(broker, **more))
        opened.append(connection)
        return connection

    yield open_connection
    for connection in opened:
        try:
            if connection.is_open:
                connection.close()
        except pika.exceptions.AMQPError:
            pass


@pytest.fixture
def connect(broker, connect_to):
    return lambda **more: connect_to(broker, **more)


@pytest.fixture
def connection(connect):
    return connect()


@pytest.fixture
def channel(connection):
    return connection.channel()


@pytest.fixture
def wire(broker):
    """Raw sockets that speak frames: wire() is greeted and opened, wire(handshake=False) has sent nothing."""
    opened = []

    def open_wire(**more):
        instance = Wire(broker.port, **more)
        opened.append(instance)
        return instance

    yield open_wire
    for instance in opened:
        instance.close()


counter = itertools.count()


@pytest.fixture
def name(request):
    """Names that no other test uses: name() or name('suffix')."""
    prefix = f"{request.node.name.split('[')[0]}-{os.getpid()}"
    return lambda suffix="q": f"{prefix}-{suffix}-{next(counter)}"


@pytest.fixture
def queue(channel, name):
    """A transient queue of this test, deleted with its connection."""
    return channel.queue_declare(queue=name(), exclusive=True).method.queue


@pytest.fixture
def expect_close():
    """expect_close(code, text)(function, ...) proves that a call closes the channel with this code, and (part of) this text."""

    def prepare(code, text=""):
        def call(function, *arguments, **keywords):
            with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
                function(*arguments, **keywords)
            assert caught.value.reply_code == code, caught.value.reply_text
            assert text in caught.value.reply_text, caught.value.reply_text
            return caught.value.reply_text
        return call

    return prepare
