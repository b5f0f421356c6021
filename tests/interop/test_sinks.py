"""Sinks that are hard to reach: certificates of every kind, HTTP/2, IPv6, names that resolve slowly, to nothing or to somewhere else, clocks that jump. What is wrong is said where one looks for it, and no event is lost."""
import os
import re
import socket
import ssl
import subprocess
import threading
import time

import pytest
import requests

from support.authority import Authority
from support.broker import ROOT, free_port, make_broker
from support.webhooks import Bus, Receiver, receiver   # noqa: F401
from support.world import world   # noqa: F401

pytestmark = pytest.mark.godwit_only("RabbitMQ has no webhooks")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    made = Authority(tmp_path_factory.mktemp("certificates"))
    made.certify("good")
    made.certify("expired", days=-1)
    made.certify("elsewhere", subject="elsewhere.example", names="subjectAltName=DNS:elsewhere.example")
    made.self_signed("alone")
    return made


@pytest.fixture(scope="module")
def sending(request, authority, world):
    """A broker that trusts the authority, and has the clock and the resolver of its own."""
    if os.environ.get("GODWIT"):
        pytest.skip("what is loaded in front of a sanitizer confuses it")
    with make_broker("godwit", reactors=request.config.getoption("--reactors"), options=["--webhook-ca", authority.file("ca.pem")], environment=world.environment) as broker:
        yield broker


@pytest.fixture
def bus(sending, name):
    made = Bus(sending, name())
    yield made
    for id_ in made.made:
        requests.delete(f"{made.url}/subscriptions/{id_}")


def sealed(there, authority, certificate):
    """What listens in the open so far wants TLS."""
    there.server.socket = authority.server_context(certificate).wrap_socket(there.server.socket, server_side=True)
    there.url = f"https://localhost:{there.port}/hook"
    return there


RETRY = {"retry": "20ms", "attempts": 1000, "timeout": 1}


@pytest.mark.parametrize("certificate, why", [("expired", "expired"), ("elsewhere", "match"), ("alone", "self-signed|self signed")])
def test_certificates_that_are_no_good(bus, authority, receiver, eventually, certificate, why):
    there, other = sealed(receiver(), authority, certificate), sealed(receiver(), authority, "good")
    id_ = bus.subscribe(there.url, config=RETRY)["id"]
    bus.publish("1")
    assert eventually(lambda: bus.attempts(id_))
    attempt = bus.attempts(id_)[0]
    assert attempt["outcome"] == "untrusted" and re.search(why, attempt["why"]) and bus.status(id_)["state"] in ("failing", "unreachable")
    bus.change(id_, sink=other.url)
    assert eventually(lambda: other.ids() == ["1"])
    assert eventually(lambda: bus.status(id_)["state"] == "active")
    assert not there.received


def test_an_authority_that_nobody_named(broker, name, authority, receiver, eventually):
    """The broker of the other tests trusts the system's authorities alone."""
    bus, there = Bus(broker, name()), sealed(receiver(), authority, "good")
    id_ = bus.subscribe(there.url, config=RETRY)["id"]
    bus.publish("1")
    assert eventually(lambda: bus.attempts(id_) and bus.attempts(id_)[0]["outcome"] == "untrusted")
    assert "certificate" in bus.attempts(id_)[0]["why"] and not there.received
    requests.delete(f"{bus.url}/subscriptions/{id_}")


def test_a_file_that_holds_no_authority(own_broker, tmp_path):
    from support.broker import StartFailure
    (tmp_path / "empty").write_text("nothing\n")
    for path in (tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises(StartFailure, match="--webhook-ca"):
            own_broker(godwit=["--webhook-ca", str(path)])


def test_no_tls_at_all(bus, receiver, eventually, authority):
    """TLS is said to a port that does not speak it, and the other way round."""
    plain, tls = receiver(), sealed(receiver(), authority, "good")
    for url in (f"https://localhost:{plain.port}/hook", f"http://localhost:{tls.port}/hook"):
        id_ = bus.subscribe(url, config=RETRY)["id"]
        bus.publish("1")
        assert eventually(lambda: bus.attempts(id_))
        assert bus.attempts(id_)[0]["outcome"] == "broken" and bus.attempts(id_)[0]["why"]
        requests.delete(f"{bus.url}/subscriptions/{id_}")


def test_a_handshake_that_never_ends(bus, eventually):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        id_ = bus.subscribe(f"https://localhost:{silent.getsockname()[1]}/", config=RETRY)["id"]
        bus.publish("1")
        assert eventually(lambda: bus.attempts(id_))
        assert bus.attempts(id_)[0]["outcome"] == "timed out" and 900 < bus.attempts(id_)[0]["duration_us"] / 1000 < 3000


def test_a_sink_that_speaks_http_2(bus, authority, eventually, tmp_path):
    (tmp_path / "hook").write_text("taken")
    port = free_port()
    with open(tmp_path / "log", "w") as log:
        sink = subprocess.Popen(["nghttpd", "-v", "-a", "127.0.0.1", "-d", str(tmp_path), str(port), authority.file("good.key"), authority.file("good.pem")], stdout=log, stderr=log)
    try:
        id_ = bus.subscribe(f"https://localhost:{port}/hook", config={"concurrency": 50, **RETRY})["id"]
        for i in range(50):
            bus.publish(str(i))
        assert eventually(lambda: bus.status(id_)["delivered"] == 50)
        text = re.sub(r"\x1b\[[0-9;]*m", "", (tmp_path / "log").read_text())
        assert {one["status"] for one in bus.attempts(id_)} == {200}
        assert "ce-id: 49" in text and "webhook-signature: v1," in text and ":scheme: https" in text
        connections = set(re.findall(r"^\[id=(\d+)\]", text, re.M))
        assert len(connections) < 10, connections                             # streams, not connections
    finally:
        sink.kill()
        sink.wait()


class OverSix(Receiver):
    """On ::1 alone."""

    def __init__(self):
        super().__init__()
        self.server.socket.close()
        self.server.address_family = socket.AF_INET6
        self.server.socket = socket.create_server(("::1", 0), family=socket.AF_INET6)
        self.port = self.server.socket.getsockname()[1]
        self.url = f"http://[::1]:{self.port}/hook"
        self.again = threading.Thread(target=self.accept, daemon=True)
        self.again.start()

    def accept(self):
        while True:
            try:
                self.server.process_request(*self.server.socket.accept())
            except OSError:
                return

    def close(self):
        self.server.socket.close()


def test_ipv6(bus, eventually):
    there = OverSix()
    for number, url in enumerate((there.url, f"http://[0:0::0.0.0.1]:{there.port}/hook", f"http://localhost:{there.port}/hook")):
        id_ = bus.subscribe(url, config=RETRY)["id"]
        bus.publish(str(number))
        assert eventually(lambda: str(number) in there.ids())
        assert bus.attempts(id_)[0]["outcome"] == "answered", bus.attempts(id_)
        requests.delete(f"{bus.url}/subscriptions/{id_}")
    there.close()


def test_names_that_resolve_slowly_or_to_nothing(bus, world, receiver, eventually):
    """Nobody else waits for them."""
    there = receiver()
    world("host slow.example 800 127.0.0.1", "host slower.example 3000 127.0.0.1", "host nobody.example 0", "host fast.example 0 127.0.0.1")
    slow, slower, nobody, fast = (bus.subscribe(f"http://{host}.example:{there.port}/{host}", config={**RETRY, "timeout": timeout})["id"]
                                  for host, timeout in (("slow", 10), ("slower", 1), ("nobody", 10), ("fast", 10)))
    begin = time.monotonic()
    for i in range(5):
        bus.publish(str(i))
    assert eventually(lambda: bus.status(fast)["delivered"] == 5)
    assert time.monotonic() - begin < 0.7
    waited = []
    while time.monotonic() - begin < 2.5:                                    # "slower" has been given up at 1 s, while its name is still being looked up
        before = time.monotonic()
        assert requests.get(f"{bus.url}/health").status_code == 200
        waited.append(time.monotonic() - before)
    assert max(waited) < 0.5
    assert eventually(lambda: bus.attempts(nobody) and bus.attempts(slower))
    assert bus.attempts(nobody)[0]["outcome"] == "unresolved" and "nobody.example" in bus.attempts(nobody)[0]["why"]
    assert bus.attempts(slower)[0]["outcome"] == "timed out"
    assert eventually(lambda: bus.status(slow)["delivered"] == 5)
    world("host nobody.example 0 127.0.0.1", "host slower.example 0 127.0.0.1")
    assert eventually(lambda: bus.status(nobody)["delivered"] == bus.status(slower)["delivered"] == 5, timeout_s=20)
    world()


def test_names_that_lead_elsewhere(bus, world, receiver, eventually):
    """Each address is judged when it is connected to: those that may be are tried, and no others."""
    there = receiver()
    world("host inside.example 0 10.0.0.1 192.168.1.1 169.254.169.254", "host mapped.example 0 ::ffff:10.0.0.1 64:ff9b::a00:1 fe80::1 0.0.0.0", "host both.example 0 10.0.0.1 127.0.0.1")
    for host in ("inside", "mapped"):
        id_ = bus.subscribe(f"http://{host}.example:{there.port}/", config=RETRY)["id"]
        bus.publish("1")
        assert eventually(lambda: bus.attempts(id_))
        assert bus.attempts(id_)[0]["outcome"] == "forbidden" and "may not be connected to" in bus.attempts(id_)[0]["why"]
        requests.delete(f"{bus.url}/subscriptions/{id_}")
    id_ = bus.subscribe(f"http://both.example:{there.port}/hook", config=RETRY)["id"]
    bus.publish("2")
    assert eventually(lambda: there.ids() == ["2"])
    world("host both.example 0 10.0.0.1")                                    # it has moved, after it was looked at
    there.close()
    bus.publish("3")
    assert eventually(lambda: bus.attempts(id_)[0]["outcome"] == "forbidden")
    world()


def test_many_that_hang_keep_nobody_waiting(bus, sending, receiver, eventually):
    before = sending.memory_kib()["VmRSS"]
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        hanging = [bus.subscribe(url, config={"timeout": 30, "concurrency": 5})["id"] for _ in range(40)]
        there = receiver()
        id_ = bus.subscribe(there.url)["id"]
        begin = time.monotonic()
        for i in range(10):
            bus.publish(str(i), data="x" * 10_000)
        assert eventually(lambda: bus.status(id_)["delivered"] == 10)
        assert time.monotonic() - begin < 3
        assert sending.memory_kib()["VmRSS"] - before < 64 << 10
        assert bus.status(hanging[0])["state"] == "active" and bus.status(hanging[0])["delivered"] == 0
        for one in hanging:
            assert requests.delete(f"{bus.url}/subscriptions/{one}").status_code == 204     # what hangs is let go


@pytest.mark.parametrize("jump", [-86400, 86400])
def test_a_clock_that_jumps(bus, world, receiver, eventually, jump):
    there = receiver(answers=[500, 500, 500])
    id_ = bus.subscribe(there.url, config={"retry": "300ms", "attempts": 1000})["id"]
    bus.publish("1")
    assert eventually(lambda: there.ids() == ["1"])
    world(f"clock {jump}")
    begin = time.monotonic()
    assert eventually(lambda: bus.status(id_)["delivered"] == 1)
    assert there.ids() == ["1"] * 4 and time.monotonic() - begin < 5
    bus.publish("2")
    assert eventually(lambda: there.ids()[4:] == ["2"])
    assert abs(int(there.received[-1][0]["webhook-timestamp"]) - (time.time() + jump)) < 10
    world()
