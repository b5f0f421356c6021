"""The project's oldest acceptance test: two programs written for RabbitMQ, as they are."""
import os
import socket
import subprocess
import sys
import time

import pytest

from support.broker import StartFailure, port_is_free

HERE = os.path.dirname(os.path.abspath(__file__))
# When something else listens on 5672 the programs still run as they are, but pika's default port is another one; and where nobody
# knows the name localhost (a bare root without /etc/hosts) it is what it is everywhere else.
WITH_HELP = """
import runpy, socket, sys, pika
pika.connection.Parameters.DEFAULT_PORT = int(sys.argv[1])
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *more, **named: resolve("127.0.0.1" if host == "localhost" else host, *more, **named)
runpy.run_path(sys.argv[2], run_name="__main__")
"""


def localhost_is_known():
    try:
        return bool(socket.getaddrinfo("localhost", 5672))
    except OSError:
        return False


@pytest.fixture
def programs(own_broker):
    """run(program) starts one of the two programs against a broker of its own, on the standard port if that is free."""
    port, started = 5672 if port_is_free(5672) else None, []
    try:
        broker = own_broker(port=port)
    except StartFailure:             # somebody was faster
        port, broker = None, own_broker()

    def run(program):
        path = os.path.join(HERE, program)
        alone = port and localhost_is_known()
        command = [sys.executable, "-u", path] if alone else [sys.executable, "-u", "-c", WITH_HELP, str(broker.port), path]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def test_sent_message_is_received(programs):
    sender = programs("send.py")
    output, _ = sender.communicate(timeout=20)
    assert (sender.returncode, output) == (0, " [x] Sent 'Hello World!'\n")
    receiver = programs("receive.py")
    assert receiver.stdout.readline() == " [*] waiting\n"
    assert receiver.stdout.readline() == "message: b'Hello World!'\n"


def test_receiver_that_waits_is_told(programs):
    receiver = programs("receive.py")
    assert receiver.stdout.readline() == " [*] waiting\n"
    time.sleep(0.3)
    for _ in range(3):
        assert programs("send.py").wait(20) == 0
        assert receiver.stdout.readline() == "message: b'Hello World!'\n"


def test_unacknowledged_message_comes_to_the_next_receiver(programs):
    assert programs("send.py").wait(20) == 0
    for _ in range(2):
        receiver = programs("receive.py")
        assert receiver.stdout.readline() == " [*] waiting\n"
        assert receiver.stdout.readline() == "message: b'Hello World!'\n"
        receiver.kill()
        receiver.wait()
