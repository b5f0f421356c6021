"""TLS with clients nobody here wrote: pika, bunny, curl, nghttp, httpx, requests, openssl."""
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time

import httpx
import pika
import pytest
import requests

from support.authority import Authority
from support.broker import Godwit

pytestmark = pytest.mark.godwit_only("RabbitMQ's certificates are configured otherwise")

@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    made = Authority(tmp_path_factory.mktemp("certificates"))
    for name, subject in (("server", "localhost"), ("alice", "alice"), ("nobody", "nobody"), ("next", "localhost")):
        made.certify(name, subject)
    return made


class Sealed(Godwit):
    """A broker with TLS ports, which it chose itself."""

    def __init__(self, authority, verify="none", certificate="server", **more):
        tls = ["--amqps-port", "0", "--https-port", "0", "--tls-certificate", authority.file(f"{certificate}.pem"), "--tls-key", authority.file(f"{certificate}.key"),
               "--tls-ca", authority.file("ca.pem"), "--tls-verify", verify, *more.pop("options", ())]
        super().__init__(options=tls, **more)
        self.authority = authority

    def start(self, timeout_s=60):
        super().start(timeout_s)
        said = re.findall(r"^ready.*$", self.log_text(), re.M)[-1]
        self.amqps_port, self.https_port = (int(re.search(rf"{scheme}://127\.0\.0\.1:(\d+)", said)[1]) for scheme in ("amqps", "https"))
        return self

    @property
    def url(self):
        return f"https://localhost:{self.https_port}"

    def parameters(self, client=None, **more):
        options = pika.SSLOptions(self.authority.context(client), "localhost")
        return pika.ConnectionParameters("localhost", self.amqps_port, ssl_options=options, socket_timeout=20, stack_timeout=30, **more)


@pytest.fixture(scope="module")
def sealed(authority):
    with Sealed(authority, "optional") as broker:
        yield broker
        assert broker.stop() == 0


def test_pika_publishes_and_consumes(sealed, name):
    connection = pika.BlockingConnection(sealed.parameters())
    channel = connection.channel()
    queue = channel.queue_declare(name(), exclusive=True).method.queue
    channel.confirm_delivery()
    bodies = [bytes([i % 251]) * (i * i * 40) for i in range(200)] + [os.urandom(9_000_000)]
    for body in bodies:
        channel.basic_publish("", queue, body)
    got = []
    for _, _, body in channel.consume(queue, auto_ack=True, inactivity_timeout=20):
        got.append(body)
        if len(got) == len(bodies):
            break
    assert got == bodies
    connection.close()


def test_bunny_publishes_and_consumes(sealed, authority):
    program = f"""
        require "bunny"
        connection = Bunny.new(host: "localhost", port: {sealed.amqps_port}, tls: true, verify_peer: true, tls_ca_certificates: ["{authority.file('ca.pem')}"], logger: Logger.new(IO::NULL))
        connection.start
        channel = connection.create_channel
        channel.confirm_select
        queue = channel.queue("", exclusive: true)
        queue.publish("x" * 300_000)
        raise "not confirmed" unless channel.wait_for_confirms
        _, _, body = queue.pop
        puts body.size
        connection.close"""
    done = subprocess.run(["ruby", "-e", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=40)
    assert done.stdout.strip().endswith("300000"), done.stdout


@pytest.mark.parametrize("options, version", [(["--http1.1"], "1.1"), (["--http2"], "2"), (["--http1.1", "--tls-max", "1.2"], "1.1"), (["--tls-max", "1.2"], "2")])
def test_curl(sealed, authority, options, version):
    words = ["curl", "-s", "-m", "10", "--cacert", authority.file("ca.pem"), "-w", "\n%{http_code} %{http_version}", *options, "-u", "guest:guest",
             "--data-binary", "@-", "-H", "content-type: text/plain", f"{sealed.url}/events?type=tls.curl"]
    done = subprocess.run(words, input="x" * 200_000, stdout=subprocess.PIPE, text=True, timeout=20)
    body, last = done.stdout.rsplit("\n", 1)
    assert last == f"201 {version}" and json.loads(body)["id"]


def test_other_clients_of_http(sealed, authority):
    with httpx.Client(http2=True, verify=authority.context()) as client:
        answers = [client.get(f"{sealed.url}/health") for _ in range(3)]
        assert {(answer.status_code, answer.http_version) for answer in answers} == {(200, "HTTP/2")}
    assert requests.get(f"{sealed.url}/health", verify=authority.file("ca.pem"), timeout=10).json() == {"status": "ok"}
    done = subprocess.run(["nghttp", "-ns", "-m", "50", f"{sealed.url}/health"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20)
    assert len(re.findall(r"200 +\d+ /health", done.stdout)) == 50, done.stdout


def test_events_arrive_at_a_listener(sealed, authority):
    with httpx.Client(verify=authority.context(), timeout=10) as client, client.stream("GET", f"{sealed.url}/events?type=tls.listen") as stream:
        lines = stream.iter_lines()
        client.post(f"{sealed.url}/events?type=tls.listen", json={"n": 1})
        assert '"n":1' in next(line for line in lines if line.startswith("data:")).replace(" ", "")


def test_who_only_listens_costs_little(authority):
    with Sealed(authority) as broker:
        context, held = authority.context(), []

        def listen(count):
            for _ in range(count):
                held.append(context.wrap_socket(socket.create_connection(("127.0.0.1", broker.https_port)), server_hostname="localhost"))
                held[-1].sendall(b"GET /events?type=x HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert held[-1].recv(4096).startswith(b"HTTP/1.1 200")

        listen(20)
        before = broker.memory_kib()["RssAnon"]
        listen(150)
        assert (broker.memory_kib()["RssAnon"] - before) / 150 < 24
        for one in held:
            one.close()


def test_a_certificate_is_a_user(sealed):
    sealed.control("add_user", "alice", "unused")
    sealed.control("set_permissions", "alice", ".*", ".*", ".*")
    external = {"credentials": pika.credentials.ExternalCredentials()}
    connection = pika.BlockingConnection(sealed.parameters("alice", **external))
    connection.channel().queue_declare("alice's", exclusive=True)
    rows = sealed.control("list_connections", "user", "ssl", "ssl_protocol", "auth_mechanism", "peer_cert_subject").splitlines()
    assert any(re.fullmatch(r"alice\ttrue\tTLSv1\.3\tEXTERNAL\tCN=alice", row) for row in rows), rows
    connection.close()
    for client, text in (("nobody", "ACCESS_REFUSED"), (None, "")):
        with pytest.raises(pika.exceptions.AMQPConnectionError) as caught:
            pika.BlockingConnection(sealed.parameters(client, **external))
        assert text in str(caught.value) or text in repr(caught.value)
    # Who has a certificate may still use a password.
    pika.BlockingConnection(sealed.parameters("nobody")).close()


def test_certificates_may_be_required(authority):
    with Sealed(authority, "required") as broker:
        with pytest.raises((ssl.SSLError, OSError, httpx.TransportError)):
            httpx.get(f"{broker.url}/health", verify=authority.context(), timeout=10)
        with httpx.Client(verify=authority.context("alice"), timeout=10) as client:
            assert client.get(f"{broker.url}/health").status_code == 200
        assert "TLS could not be agreed on with 127.0.0.1: peer did not return a certificate" in broker.log_text()


def test_godwits_own_commands(sealed, authority, name):
    from support.broker import godwit_binary
    queue, where = name(), f"amqps://guest:guest@localhost:{sealed.amqps_port}/"

    def run(*words, uri, data=b""):
        done = subprocess.run([godwit_binary(), *words[:1], "--uri", uri, *words[1:]], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
        return done.returncode, done.stdout, done.stderr.decode()

    good = f"{where}?cacertfile={authority.file('ca.pem')}"
    connection = pika.BlockingConnection(sealed.parameters())
    connection.channel().queue_declare(queue, arguments={"x-expires": 60000})
    body = os.urandom(1_000_000).hex().encode()
    assert run("publish", queue, uri=good, data=body)[0] == 0
    code, out, said = run("get", queue, uri=good)
    assert code == 0 and out.strip() == body, said
    assert run("queues", uri=good)[0] == 0
    assert run("get", queue, uri=f"{where}?verify=verify_none")[0] == 4
    for uri, complaint in ((where, "certificate is not good"), (good.replace("localhost", "127.0.0.2"), "certificate is not good"),
                           (f"{where}?cacertfile=/no/such", "/no/such"), (good.replace(str(sealed.amqps_port), str(sealed.port)), "TLS could not be agreed on")):
        code, _, said = run("get", queue, uri=uri)
        assert code == 1 and complaint in said, said
    assert run("bench", uri=good)[0] == 2
    connection.close()


def serial(broker):
    with broker.authority.context().wrap_socket(socket.create_connection(("127.0.0.1", broker.https_port)), server_hostname="localhost") as sealed_socket:
        return sealed_socket.getpeercert()["serialNumber"]


def test_sighup_reads_certificates_again(authority, eventually):
    for kind in ("pem", "key"):
        os.replace(authority.file(f"next.{kind}"), authority.file(f"next.{kind}.kept"))
        with open(authority.file(f"server.{kind}")) as old, open(authority.file(f"live.{kind}"), "w") as live:
            live.write(old.read())
    os.chmod(authority.file("live.key"), 0o600)
    with Sealed(authority, certificate="live") as broker:
        before = serial(broker)
        connection = pika.BlockingConnection(broker.parameters())
        os.unlink(authority.file("live.pem"))
        broker.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: "the old certificate stays in use: the certificate" in broker.log_text())
        assert serial(broker) == before
        for kind in ("pem", "key"):
            os.replace(authority.file(f"next.{kind}.kept"), authority.file(f"live.{kind}"))
        broker.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: "read again" in broker.log_text())
        assert serial(broker) != before
        connection.channel().queue_declare("still-here", exclusive=True)
        connection.close()
        assert broker.stop() == 0


def test_the_wrong_language(sealed):
    """Plain words on a sealed port, TLS on an open one."""
    assert requests.get(f"http://127.0.0.1:{sealed.https_port}/health", timeout=10).text == "This port speaks TLS: ask with https.\n"
    for port, words in ((sealed.https_port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), (sealed.amqps_port, b"AMQP\x00\x00\x09\x01")):
        with socket.create_connection(("127.0.0.1", port), 10) as plain:
            plain.sendall(words)
            assert plain.recv(1000) == b""
    for port in (sealed.port, sealed.http_port):
        with pytest.raises((ssl.SSLError, ConnectionError)), socket.create_connection(("127.0.0.1", port), 10) as plain:
            sealed.authority.context().wrap_socket(plain, server_hostname="localhost")


def test_a_client_that_renegotiates_is_refused(sealed, authority):
    talk = subprocess.Popen(["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{sealed.https_port}", "-CAfile", authority.file("ca.pem")],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    time.sleep(0.3)
    try:
        said, _ = talk.communicate("R\n", timeout=10)
    finally:
        talk.kill()
    assert "RENEGOTIATING" in said and "no renegotiation" in said.lower(), said[-800:]
    assert serial(sealed)


@pytest.mark.parametrize("options, complaint", [
    ([], "needs tls_certificate and tls_key"), (["--tls-certificate", "server.pem", "--tls-key", "missing.key"], "No such file"),
    (["--tls-certificate", "server.pem", "--tls-key", "alice.key"], "is not that of the certificate"),
    (["--tls-certificate", "server.pem", "--tls-key", "server.key", "--tls-verify", "required"], "needs tls_ca")])
def test_what_cannot_be_sealed_does_not_start(authority, tmp_path, options, complaint):
    from support.broker import godwit_binary
    command = [godwit_binary(), "serve", "--data-dir", str(tmp_path / "data"), "--amqp-port", "0", "--http", "off", "--amqps-port", "0", *options]
    done = subprocess.run(command, cwd=authority.directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=20)
    assert done.returncode == 2 and complaint in done.stderr and not (tmp_path / "data").exists(), done.stderr


def test_who_has_agreed_on_http_2_must_speak_it(sealed):
    """RFC 9113 section 3.4: an invalid preface is a connection error of type PROTOCOL_ERROR, also when it is a request of HTTP/1.1."""
    context = sealed.authority.context()
    context.set_alpn_protocols(["h2"])
    with context.wrap_socket(socket.create_connection(("127.0.0.1", sealed.https_port), 10), server_hostname="localhost") as peer:
        assert peer.selected_alpn_protocol() == "h2"
        peer.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        heard = b"".join(iter(lambda: peer.recv(4096), b""))
    assert b"HTTP/1.1" not in heard
    assert heard[3] == 4, "SETTINGS come first"
    assert heard[-17:] == b"\0\0\x08\7\0\0\0\0\0" + b"\0\0\0\0" + b"\0\0\0\1", heard
