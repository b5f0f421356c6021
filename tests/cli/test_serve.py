"""The broker's start and stop as an operator meets them: one clear line, the right exit code, nothing touched."""
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pika
import pytest

from support.broker import Godwit, free_port, godwit_binary


@pytest.fixture
def serve():
    """Runs godwit serve to its end and answers (exit code, stderr); for starts that fail."""

    def run(*arguments, environment=None, cwd=None, timeout_s=20):
        done = subprocess.run([godwit_binary(), "serve", "--http-port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env={**os.environ, **(environment or {})}, cwd=cwd, timeout=timeout_s, stdin=subprocess.DEVNULL)
        return done.returncode, done.stderr.decode()
    return run


@pytest.fixture
def make(tmp_path):
    """make(**Godwit's arguments): brokers that end with the test."""
    made = []

    def new(**more):
        instance = Godwit(**{"data_dir": str(tmp_path / "data"), **more})
        made.append(instance)
        return instance
    yield new
    for instance in made:
        instance.discard()


def snapshot(directory):
    """Names, sizes and times of everything in a directory but its lock."""
    found = {}
    for folder, _, names in os.walk(directory):
        for name in set(names) - {"lock"}:
            state = os.stat(os.path.join(folder, name))
            found[os.path.join(folder, name)] = (state.st_size, state.st_mtime_ns)
    return found


def one_line(text):
    lines = [line for line in text.splitlines() if " info: " not in line]
    assert len(lines) == 1, text
    return lines[0]


def test_ready_says_where(make):
    broker = make().start()
    line, = [line for line in broker.log_text().splitlines() if line.startswith("ready")]
    assert f"amqp://127.0.0.1:{broker.port}" in line
    assert broker.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_when_asked(make, number):
    broker = make().start()
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port))
    connection.channel()
    broker.process.send_signal(number)
    assert broker.process.wait(10) == 0
    with pytest.raises(pika.exceptions.AMQPError):
        connection.process_data_events(5)
        connection.channel()


def test_directory_in_use(make, serve):
    broker = make().start()
    time.sleep(0.5)   # It prepares files when it has said that it is ready.
    before = snapshot(broker.data_dir)
    code, text = serve("--data-dir", broker.data_dir, "--amqp-port", str(free_port()))
    assert code == 1
    assert broker.data_dir in one_line(text) and "in use" in text and str(broker.process.pid) in text
    assert snapshot(broker.data_dir) == before


def test_directory_free_again_after_a_kill(make):
    broker = make().start()
    broker.kill()
    broker.start()
    assert broker.stop() == 0


def test_directory_of_another_version(make, serve):
    broker = make().start()
    broker.stop()
    path = os.path.join(broker.data_dir, "godwit")
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(re.sub(r"\d+", "999", text, count=1))
    before = snapshot(broker.data_dir)
    code, text = serve("--data-dir", broker.data_dir, "--amqp-port", str(free_port()))
    assert code == 1
    assert broker.data_dir in one_line(text) and "version" in text
    assert snapshot(broker.data_dir) == before


def test_directory_is_a_file(serve, tmp_path):
    (tmp_path / "file").write_text("mine")
    code, text = serve("--data-dir", str(tmp_path / "file"), "--amqp-port", str(free_port()))
    assert code == 1
    assert str(tmp_path / "file") in one_line(text)
    assert (tmp_path / "file").read_text() == "mine"


def test_directory_that_cannot_be_made(serve):
    code, text = serve("--data-dir", "/proc/godwit/data", "--amqp-port", str(free_port()))
    assert code == 1
    assert "/proc/godwit/data" in one_line(text)


def test_other_files_in_the_directory_stay(make, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    broker = make(data_dir=str(tmp_path)).start()
    assert broker.stop() == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_unreadable_directory(serve):
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root can read everything, and setpriv is missing")
    directory = tempfile.mkdtemp(prefix="unreadable-")
    try:
        os.chmod(directory, 0)
        command = [godwit_binary(), "serve", "--data-dir", directory, "--http-port", "0", "--amqp-port", str(free_port())]
        if os.geteuid() == 0:
            program = shutil.copy(godwit_binary(), "/tmp/godwit-as-nobody")
            os.chmod(program, 0o755)
            command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", program, *command[1:]]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20, text=True, cwd="/")
        assert done.returncode == 1
        assert directory in one_line(done.stderr) and "ermission denied" in done.stderr
    finally:
        os.chmod(directory, 0o700)
        os.rmdir(directory)
        if os.path.exists("/tmp/godwit-as-nobody"):
            os.unlink("/tmp/godwit-as-nobody")


@pytest.fixture
def small_disk():
    """A file system of 6 MiB, or a skip where only root could make one."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    directory = tempfile.mkdtemp(prefix="small-disk-")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", directory], stderr=subprocess.PIPE)
    if mounted.returncode != 0:
        os.rmdir(directory)
        pytest.skip("this root may not mount: " + mounted.stderr.decode().strip())
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)
    os.rmdir(directory)


def test_full_disk_at_the_start(serve, small_disk):
    with open(os.path.join(small_disk, "ballast"), "wb") as ballast:
        try:
            while True:
                ballast.write(b"x" * 65536)
                ballast.flush()
        except OSError:
            pass
    code, text = serve("--data-dir", os.path.join(small_disk, "data"), "--amqp-port", str(free_port()))
    assert code == 1
    assert small_disk in one_line(text)
    assert "space" in text or "room" in text


def test_disk_that_fills_up(make, small_disk):
    """What was confirmed is kept; what does not fit is refused or waits; what is there can be consumed."""
    broker = make(data_dir=os.path.join(small_disk, "data"), options=["--disk-free-limit", "0", "--log-file-size", "1Mi"]).start()
    parameters = pika.ConnectionParameters("127.0.0.1", broker.port, blocked_connection_timeout=5, heartbeat=0)   # a busy disk blocks for a moment, too
    channel = pika.BlockingConnection(parameters).channel()
    channel.queue_declare("q", durable=True)
    channel.confirm_delivery()
    confirmed, refused = 0, False
    deadline = time.monotonic() + 40
    while not refused and confirmed < 200 and time.monotonic() < deadline:
        try:
            channel.basic_publish("", "q", b"%06d" % confirmed + b"x" * 100_000, pika.BasicProperties(delivery_mode=2))
            confirmed += 1
        except (pika.exceptions.NackError, pika.exceptions.AMQPError):
            refused = True
    assert refused and confirmed > 5
    reader = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port, heartbeat=0)).channel()
    for index in range(confirmed):
        method, _, body = reader.basic_get("q", auto_ack=True)
        assert method is not None and body[:6] == b"%06d" % index
    assert broker.process.poll() is None


def test_port_in_use(serve, tmp_path):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, text = serve("--data-dir", str(tmp_path / "data"), "--amqp-port", str(port))
    assert code == 1
    assert str(port) in one_line(text)
    assert not os.path.exists(tmp_path / "data" / "shard-0")


def test_configuration_file(make, tmp_path):
    port = free_port()
    (tmp_path / "godwit.conf").write_text(f"# a comment\namqp_port = {port}\nheartbeat = 7\nchannel-max = 33\n")
    log = tmp_path / "out"
    with open(log, "w") as out:
        process = subprocess.Popen([godwit_binary(), "serve", "--config", str(tmp_path / "godwit.conf"), "--data-dir",
                                    str(tmp_path / "data")], stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 10
        while "ready" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port))
        assert connection._impl.params.channel_max == 33
        connection.close()
    finally:
        process.terminate()
        assert process.wait(10) == 0


@pytest.mark.parametrize("text, words", [
    ("data_dri = x\n", ["data_dri", "data_dir", ":1"]),
    ("# fine\namqp_port = many\n", ["amqp_port", "many", ":2"]),
    ("amqp_port = 99999\n", ["amqp_port", "99999"]),
    ("amqp_port\n", [":1"]),
    ("log = flie\n", ["log", "file"]),
    ("heartbeat = 5\nheartbeat = 6\n", ["heartbeat", ":2"]),
    ("[section]\nheartbeat = 5\n", ["section"]),
])
def test_wrong_configuration(serve, tmp_path, text, words):
    (tmp_path / "godwit.conf").write_text(text)
    code, said = serve("--config", str(tmp_path / "godwit.conf"), "--data-dir", str(tmp_path / "data"))
    assert code == 2
    assert all(word in one_line(said) for word in words), said
    assert "godwit.conf" in said
    assert not os.path.exists(tmp_path / "data")


def test_missing_configuration_file(serve, tmp_path):
    code, text = serve("--config", str(tmp_path / "none"), "--data-dir", str(tmp_path / "data"))
    assert code in (1, 2)
    assert str(tmp_path / "none") in one_line(text)


def test_environment(make, serve, tmp_path):
    code, text = serve("--data-dir", str(tmp_path / "data"), environment={"GODWIT_AMQP_PORT": "many"})
    assert code == 2
    assert "GODWIT_AMQP_PORT" in one_line(text)


def test_command_line_beats_the_environment(make):
    broker = make(environment={"GODWIT_AMQP_PORT": "1", "GODWIT_DATA_DIR": "/nowhere"}).start()
    assert broker.stop() == 0


def test_moved_directory(make, tmp_path):
    """One directory is one broker: it can be copied elsewhere and opened there."""
    broker = make().start()
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port))
    channel = connection.channel()
    channel.queue_declare("q", durable=True)
    channel.confirm_delivery()
    channel.basic_publish("", "q", b"moved", pika.BasicProperties(delivery_mode=2))
    connection.close()
    broker.stop()
    shutil.copytree(broker.data_dir, tmp_path / "copy")
    copy = make(data_dir=str(tmp_path / "copy")).start()
    channel = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", copy.port)).channel()
    assert channel.basic_get("q", auto_ack=True)[2] == b"moved"


def test_out_of_descriptors(make):
    """New connections wait, old ones go on."""
    broker = make(options=["--max-connections", "5"]).start()
    connections = [pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port)) for _ in range(5)]
    waiting = socket.create_connection(("127.0.0.1", broker.port), 5)
    waiting.sendall(b"AMQP\x00\x00\x09\x01")
    waiting.settimeout(0.5)
    with pytest.raises(TimeoutError):
        waiting.recv(1)
    assert connections[0].channel().is_open
    connections[1].close()
    waiting.settimeout(5)
    assert waiting.recv(1) == b"\x01"
    waiting.close()


def test_broker_that_keeps_nothing(make):
    """--log memory: everything works, also durable things, and nothing is there after a restart."""
    broker = make(options=["--log", "memory"]).start()
    channel = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port, heartbeat=0)).channel()
    channel.queue_declare("q", durable=True)
    channel.confirm_delivery()
    for index in range(100):
        channel.basic_publish("", "q", b"%d" % index, pika.BasicProperties(delivery_mode=2))
    for index in range(50):
        method, _, body = channel.basic_get("q")
        assert body == b"%d" % index
        channel.basic_ack(method.delivery_tag)
    assert channel.queue_declare("q", passive=True).method.message_count == 50
    broker.kill()
    broker.start()
    channel = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port, heartbeat=0)).channel()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        channel.queue_declare("q", passive=True)
