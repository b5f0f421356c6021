"""gw_connect: what becomes of a program when its broker is away, refuses it, or is another one than it thought."""
import contextlib
import re
import socket
import threading
import time

import pika
import pytest

from conftest import uri
from support.authority import Authority
from support.broker import Godwit, free_port


@contextlib.contextmanager
def broker_channel(broker):
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port))
    yield connection.channel()
    connection.close()


def notices(lines):
    return [line for line in lines if line.startswith("notice")]


def events(lines):
    return [line for line in lines if not line.startswith("notice")]


def test_a_broker_that_is_away_is_waited_for(build, start, broker):
    """What is published meanwhile waits; handlers that were declared when nobody listened get it."""
    broker.stop()
    publisher = start(build("tests/library/publish.c"), uri(broker), "order.created", 1, 100)
    handler = start(build("tests/library/handle.c"), uri(broker), "order.*")
    for program in (publisher, handler):
        program.wait_for(lambda lines: any("Connection refused; trying again" in line for line in lines))
    time.sleep(1.5)
    # It is told of once, not with every attempt.
    assert len(notices(handler.said())) == 1 and len(notices(publisher.said())) == 1
    publisher.process.kill()
    broker.start()
    handler.wait_for(lambda lines: any("connected to" in line for line in lines))
    again = start(build("tests/library/publish.c"), uri(broker), "order.created", 1, 100)
    assert again.wait() == 0
    handler.wait_for(lambda lines: len(events(lines)) >= 100)
    assert [line.split()[1] for line in events(handler.said())][:100] == [str(number) for number in range(1, 101)]


def test_what_was_published_before_there_was_a_connection_arrives(build, start, broker):
    handler = start(build("tests/library/handle.c"), uri(broker), "order.*")
    handler.wait_for(lambda lines: any("connected to" in line for line in lines))
    broker.stop()
    publisher = start(build("tests/library/publish.c"), uri(broker), "order.created", 1, 1000)
    publisher.wait_for(lambda lines: len(lines) > 0)
    time.sleep(0.5)
    broker.start()
    assert publisher.wait() == 0
    handler.wait_for(lambda lines: len(events(lines)) >= 1000)
    assert {line.split()[1] for line in events(handler.said())} == {str(number) for number in range(1, 1001)}


def test_what_was_in_hand_when_the_connection_broke_comes_again(build, start, run, broker):
    handler = start(build("tests/library/handle.c"), uri(broker), "order.*", 1500)
    handler.wait_for(lambda lines: any("connected to" in line for line in lines))
    run(build("tests/library/publish.c"), uri(broker), "order.created", 1, 5)
    handler.wait_for(lambda lines: len(events(lines)) == 5)
    broker.kill()
    broker.start()
    handler.wait_for(lambda lines: len(events(lines)) >= 10)
    assert sorted(line.split()[1] for line in events(handler.said())[5:]) == ["1", "2", "3", "4", "5"]
    assert all(line.endswith("again") for line in events(handler.said())[5:])
    time.sleep(1.6)
    assert handler.stop() == 0
    assert len(events(handler.said())) == 10


class Listener:
    """Counts connections, and answers nothing: or what it is given."""

    def __init__(self, says=b""):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.says, self.count = says, 0
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            self.count += 1
            peer.sendall(self.says)
            peer.close()


def test_a_wrong_password_is_told_and_tried_seldom(build, start, broker):
    handler = start(build("tests/library/handle.c"), uri(broker, password="wrong"), "order.*")
    handler.wait_for(lambda lines: any("does not let us in: 403 ACCESS_REFUSED" in line for line in lines))
    time.sleep(1.2)
    assert len(notices(handler.said())) == 1
    if broker.name == "godwit":
        assert len(re.findall("refused|ACCESS_REFUSED", broker.log_text())) <= 5   # every 0.4 to 0.6 s here, every 24 to 36 s by default
    assert handler.stop() == 0


@pytest.mark.parametrize("user, password, vhost", [("guest", "wrong", ""), ("guest", "guest", "nowhere")])
def test_one_that_may_give_up_does(build, run, broker, user, password, vhost, valgrind):
    said = run(*valgrind, build("tests/library/refused.c"), uri(broker, user, password, vhost), 2, timeout_s=60)
    assert said == [
        "notice 1: trying again", "notice 2: giving up", "published: permission denied", "requested: permission denied", "run: permission denied", "it says why: yes",
        "publish: permission denied", "wait: permission denied", "on: refused", "forget: permission denied", "run: permission denied",
        "close: done", "closed: permission denied", "run: permission denied", "wait: permission denied"]


def test_what_does_not_speak_amqp_is_told(build, start):
    listener = Listener(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    handler = start(build("tests/library/handle.c"), f"amqp://127.0.0.1:{listener.port}", "order.*")
    handler.wait_for(lambda lines: any("what answers there does not speak AMQP" in line for line in lines))


def test_the_first_broker_that_answers_is_taken(build, start, run, broker):
    nobody = free_port()
    both = f"amqp://127.0.0.1:{nobody},{uri(broker)}"
    handler = start(build("tests/library/handle.c"), both, "order.*")
    handler.wait_for(lambda lines: any(f"connected to" in line and f":{broker.port}" in line for line in lines))
    assert run(build("tests/library/publish.c"), uri(broker), "order.created", 1, 1)[-1].startswith("notice 0: connected")
    handler.wait_for(lambda lines: "order.created 1 attempt 1" in lines)


def test_a_host_that_is_none_is_told(build, start):
    handler = start(build("tests/library/handle.c"), "amqp://nobody.invalid", "order.*")
    handler.wait_for(lambda lines: any("the host is not found" in line for line in lines))


@pytest.mark.parametrize("wrong, sentence", [
    ("amqp://a?color=red", "the broker's URI: only the parameters heartbeat, connection_timeout, cacertfile and verify are known"),
    ("amqp://a,amqp://b:0", "the broker's URI: the port is not a number from 1 to 65535"),
    ("amqps://a?cacertfile=/nowhere/at/all.pem", "the authorities in /nowhere/at/all.pem cannot be read: No such file or directory"),
    (",".join(["amqp://a"] * 17), "at most 16 URIs, of less than 4096 bytes each"),
])
def test_a_uri_that_is_none_is_refused_at_once(build, start, wrong, sentence):
    program = start(build("tests/library/publish.c"), wrong, "order.created", 1, 1)
    assert program.wait() == 1
    assert program.said() == [sentence]


@pytest.mark.godwit_only("its TLS is configured otherwise")
def test_over_tls(build, start, run, tmp_path, monkeypatch):
    authority = Authority(tmp_path)
    authority.certify("server")
    port = free_port()
    with Godwit(options=["--amqps-port", str(port), "--tls-certificate", authority.file("server.pem"), "--tls-key", authority.file("server.key")]):
        monkeypatch.setenv("CA_FILE", authority.file("ca.pem"))
        handler = start(build("tests/library/handle.c"), f"amqps://localhost:{port}", "order.*")
        handler.wait_for(lambda lines: any("connected to Godwit" in line for line in lines))
        run(build("tests/library/publish.c"), f"amqps://127.0.0.1:{port}", "order.created", 1, 2000)
        handler.wait_for(lambda lines: len(events(lines)) == 2000)
        run(build("tests/library/publish.c"), f"amqps://localhost:{port}?verify=verify_none", "order.created", 1, 1)
        monkeypatch.delenv("CA_FILE")
        run(build("tests/library/publish.c"), f"amqps://localhost:{port}?cacertfile={authority.file('ca.pem')}", "order.created", 1, 1)
        stranger = start(build("tests/library/handle.c"), f"amqps://localhost:{port}", "order.*")
        stranger.wait_for(lambda lines: any("no TLS could be agreed on: certificate verify failed" in line for line in lines))


@pytest.mark.godwit_only("topic permissions are Godwit's in the same words, the test's set-up is not")
def test_a_publish_that_is_not_allowed_does_not_take_others_with_it(build, start, broker):
    broker.control("add_user", "ada", "secret")
    broker.control("set_permissions", "ada", ".*", ".*", ".*")
    broker.control("set_topic_permissions", "ada", "events", "^order", "")
    handler = start(build("tests/library/handle.c"), uri(broker), "#")
    handler.wait_for(lambda lines: any("connected to" in line for line in lines))
    refused = start(build("tests/library/publish.c"), uri(broker, "ada", "secret"), "secret.plan", 1, 3)
    assert refused.wait() == 3
    assert sorted(line for line in refused.said() if line.endswith("refused")) == ["1: refused", "2: refused", "3: refused"]
    taken = start(build("tests/library/publish.c"), uri(broker, "ada", "secret"), "order.created", 1, 3)
    assert taken.wait() == 0


def test_every_call_has_its_answer(build, run, broker):
    with broker_channel(broker) as channel:
        channel.exchange_declare("events", "topic", durable=True)
        channel.queue_declare("counted", durable=True)
        channel.queue_bind("counted", "events", "count")
        assert run(build("tests/library/remote_cases.c"), uri(broker), f"amqp://127.0.0.1:{free_port()}") == [
            "publish: done",
            "publish more: too much is under way",
            "it says why: yes",
            "wait: no answer in time",
            "forget: unreachable",
            "it says why: yes",
            "request: done",
            "publish after close: closed",
            "reply after close: closed",
            "close: no answer in time",
            "run: done",
            "wait: done",
            "forget a queue in use: refused",
            "forget: done",
            "wait: done",
            "run: done",
            "close: done",
            "run: done",
        ]
        assert channel.queue_declare("counted", passive=True).method.message_count == 10000
