"""The broker's own sources: what happens elsewhere becomes events, whoever dies meanwhile."""
import json
import os
import signal
import socket
import subprocess
import time

import pika
import pytest
import requests

from support.broker import free_port, godwit_binary
from support.events import Events
from support.sources import Queue, Sources, left, put

pytestmark = pytest.mark.godwit_only("RabbitMQ has no sources")


@pytest.fixture
def events():
    server = Events()
    yield server
    server.stop()


def test_nothing_of_a_stream_is_lost_whoever_dies(own_broker, events, eventually, name):
    broker, id_ = own_broker(), "prices"
    queue, sources, port = Queue(broker, "sse.#", name()), Sources(broker), events.server_port
    assert sources.make(id=id_, kind="sse", url=events.url, headers={"Authorization": "Bearer 7"})["headers"] == {"Authorization": "(hidden)"}
    events.count = 3
    eventually(lambda: len(queue.bodies()) == 3)
    assert events.seen[0]["Authorization"] == "Bearer 7" and events.seen[0]["Accept"] == "text/event-stream"
    eventually(lambda: sources.status(id_).get("position", {}).get("id") == "3")
    time.sleep(0.3)                                                        # it is written soon, and nobody is told
    broker.kill()
    events.count = 5
    broker.start()
    eventually(lambda: len(set(queue.bodies())) == 5)
    assert "3" in [headers.get("Last-Event-ID") for headers in events.seen]
    # The server ends connections, and then is away for a while.
    events.closes = True
    events.count = 8
    eventually(lambda: len(set(queue.bodies())) == 8)
    events.stop()
    eventually(lambda: sources.status(id_)["state"] == "failing")
    again = Events(port)
    again.count = 9
    eventually(lambda: len(set(queue.bodies())) == 9)
    assert [json.loads(body)["n"] for body in dict.fromkeys(queue.got[i][2] for i in range(len(queue.got)))] == list(range(1, 10))
    properties = queue.got[0][1]
    assert properties.message_id == "prices/1" and properties.headers["cloudEvents_source"] == "/sources/prices" and properties.content_type == "application/json"
    again.stop()


def test_kills_at_any_instant_lose_nothing(own_broker, events, eventually, name):
    broker = own_broker()
    queue, sources = Queue(broker, "sse.#", name()), Sources(broker)
    sources.make(id="s", kind="sse", url=events.url)
    for round_ in range(6):
        events.count += 40
        time.sleep(0.013 * round_ * round_ % 0.11)
        broker.kill()
        broker.start()
    eventually(lambda: len({body for body in queue.bodies()}) == events.count)
    numbers = [json.loads(body)["n"] for _, _, body in queue.got]
    assert sorted(set(numbers)) == list(range(1, events.count + 1))
    assert all(properties.message_id == f"s/{number}" for (_, properties, _), number in zip(queue.got, numbers))


def test_204_ends_it_and_redirects_are_followed(broker, events, eventually, name):
    sources, id_ = Sources(broker), name()
    events.count = 2
    queue = Queue(broker, f"{id_}.*", name())
    sources.make(id=id_, kind="sse", url=f"{events.url}/to?{events.url}/events", type=f"{id_}.{{{{json:/n}}}}")
    eventually(lambda: [key for key, _, _ in queue.take()] == [f"{id_}.1", f"{id_}.2"])
    events.status = 204
    eventually(lambda: sources.status(id_)["state"] == "ended")
    before = len(events.seen)
    time.sleep(0.3)
    assert len(events.seen) == before
    events.status = 200
    sources.patch(id_, paused=True)
    sources.patch(id_, paused=False)
    events.count = 3
    eventually(lambda: [key for key, _, _ in queue.take()][2:] == [f"{id_}.3"])
    sources.delete(id_)
    sources.get(id_, 404)


def test_a_page_is_polled(broker, events, eventually, name):
    sources, id_ = Sources(broker), name()
    queue = Queue(broker, f"{id_}.#", name())
    sources.make(id=id_, kind="poll", url=f"{events.url}/page", interval="100ms", type=f"{id_}.changed")
    eventually(lambda: queue.bodies() == ["page 0"])
    eventually(lambda: len(events.seen) > 3)
    assert events.seen[-1]["If-None-Match"] == '"0"' and queue.bodies() == ["page 0"]
    events.count = 1
    eventually(lambda: queue.bodies() == ["page 0", "page 1"])
    sources.delete(id_)


def test_what_is_not_on_this_machine_does_not_reach_it(broker, events, eventually, name):
    sources, id_ = Sources(broker), name()
    elsewhere = {"X-Forwarded-For": "192.0.2.7"}
    assert "may not be connected to" in sources.make(422, ("guest", "guest"), elsewhere, kind="sse", url=events.url)["detail"]
    sources.make(201, ("guest", "guest"), elsewhere, id=id_, kind="sse", url=f"http://localhost:{events.server_port}/")
    eventually(lambda: "may not be connected to" in sources.status(id_).get("error", ""))
    assert not events.seen
    sources.delete(id_)


def test_who_may_and_what(broker, name):
    sources, id_ = Sources(broker), name()
    ctl = [godwit_binary(), "ctl", "-q", "--uri", f"amqp://127.0.0.1:{broker.port}"]
    user = name()
    subprocess.run([*ctl, "add_user", user, "x"], check=True)
    subprocess.run([*ctl, "set_user_tags", user, "monitoring"], check=True)
    subprocess.run([*ctl, "set_permissions", user, ".*", ".*", ".*"], check=True)
    sources.make(403, (user, "x"), kind="timer", every=1)
    for kind in ({"kind": "file", "path": "/etc/passwd"}, {"kind": "process", "command": ["id"]}, {"kind": "tcp", "address": ":1"}, {"kind": "stdin"}):
        assert "in the broker's configuration alone" in sources.make(422, id=id_, **kind)["detail"]
    # Nor by a parameter.
    subprocess.run([*ctl, "set_parameter", "source", id_, json.dumps({"id": id_, "kind": "process", "command": ["touch", f"/tmp/{id_}"]})], check=True)
    time.sleep(0.3)
    assert sources.status(id_)["state"] == "invalid" and not os.path.exists(f"/tmp/{id_}")
    sources.delete(id_)
    sources.make(422, kind="sse", url="http://x/", type="{{nothing}}")
    sources.make(422, kind="cron", expression="* * *")
    sources.make(422, kind="cron", expression="* * * * *", zone="Europe/Nowhere")
    assert sources.make(201, id=id_, kind="timer", every=1000)["owner"] == "guest"
    sources.make(409, id=id_, kind="timer", every=1000)
    assert sources.patch(id_, every="2000s")["every"] == "2000s"
    sources.patch(id_, 422, kind="cron")
    sources.patch(id_, 422, every="never")
    assert id_ in [one["id"] for one in requests.get(sources.url).json()]
    sources.delete(id_)
    sources.delete(id_, 404)


def test_a_request_that_is_repeated_makes_one(broker, name):
    sources, key = Sources(broker), {"Idempotency-Key": name()}
    first, second = (requests.post(sources.url, json={"kind": "timer", "every": 1000}, headers=key) for _ in range(2))
    assert first.status_code == second.status_code == 201 and first.json()["id"] == second.json()["id"]
    sources.delete(first.json()["id"])


def test_sources_of_the_configuration(own_broker, eventually, name, tmp_path):
    log, folder, port, path = tmp_path / "app.log", tmp_path / "in", free_port(), str(tmp_path / "socket")
    folder.mkdir()
    log.write_text("before\n")
    config = tmp_path / "godwit.conf"
    config.write_text(f"""log_level = info
[source log]
kind = file
path = {log}
type = log.{{{{json:/level|line}}}}
retry = 50ms
[source folder]
kind = directory
path = {folder}
data = {{{{name}}}}
[source lines]
kind = tcp
address = 127.0.0.1:{port}
[source local]
kind = unix
path = {path}
[source program]
kind = process
command = ["sh", "-c", "echo hello from $0; exit 3", "sh"]
retry = 10s
[source usr]
kind = signal
signal = USR2
[source pulse]
kind = timer
every = 50ms
missed = skip
data = x
""")
    broker = own_broker(godwit=["--config", str(config)])
    sources, queue = Sources(broker), Queue(broker, "#", name())

    def got(type_):
        return [body for key, _, body in queue.take() if key == type_]

    eventually(lambda: sources.status("log").get("state") == "running" and sources.status("folder").get("state") == "running")
    with log.open("a") as file:
        file.write('one\n{"level": "error", "text": "bad"}\nhalf')
    eventually(lambda: got("log.line") == ["one"] and got("log.error") == ['{"level": "error", "text": "bad"}'])
    # Rotated as logrotate does it by default.
    log.rename(tmp_path / "app.log.1")
    with (tmp_path / "app.log.1").open("a") as file:
        file.write(" a line\n")
    log.write_text("new\n")
    eventually(lambda: got("log.line") == ["one", "half a line", "new"])
    # … as copytruncate does it, and while nothing runs.
    eventually(lambda: sources.status("log")["position"]["offset"] == 4)
    broker.kill()
    with log.open("a") as file:
        file.write("missed\n")
    log.rename(tmp_path / "app.log.2")
    log.write_text("newer\n")
    broker.start()
    eventually(lambda: list(dict.fromkeys(got("log.line"))) == ["one", "half a line", "new", "missed", "newer"])
    log.write_text("cut\n")
    eventually(lambda: got("log.line")[-1] == "cut")

    (folder / "a.csv").write_text("1,2")
    eventually(lambda: got("directory.new") == ["a.csv"])
    (folder / "a.csv").unlink()
    eventually(lambda: got("directory.removed") == ["a.csv"])

    with socket.create_connection(("127.0.0.1", port)) as tcp, socket.socket(socket.AF_UNIX) as local:
        tcp.sendall(b"by tcp\r\n")
        local.connect(path)
        local.sendall(b"by a path")
    eventually(lambda: got("tcp.line") == ["by tcp"] and got("unix.line") == ["by a path"])
    eventually(lambda: "hello from sh" in got("process.line") and '{"status":3,"signal":0}' in got("process.exited"))
    os.kill(broker.broker_pid(), signal.SIGUSR2)
    eventually(lambda: got("signal.USR2"))
    eventually(lambda: len(got("timer.due")) > 3)
    assert all(one["configured"] for one in requests.get(sources.url).json())
    sources.patch("pulse", 409, paused=True)
    sources.delete("pulse", 409)
    sources.make(409, id="pulse", kind="timer", every=1)


def test_a_section_that_makes_no_sense_keeps_the_broker_from_starting(tmp_path):
    config = tmp_path / "godwit.conf"
    for text, complaint in (("[source x]\nkind = sse\n", ":1: [source x]: A source of the kind \"sse\" needs \"url\"."), ("[source a b]\nkind = timer\n", "is no name of a source"),
                            ("[source x]\nkind = timer\nevery = 1s\nevery = 2s\n", "given twice"), ("[else]\nx = y\n", "no sections but")):
        config.write_text(text)
        done = subprocess.run([godwit_binary(), "serve", "--config", str(config), "--data-dir", str(tmp_path / "data")], capture_output=True, text=True, timeout=20)
        assert done.returncode == 2 and complaint in done.stderr, done.stderr


def test_hundreds_of_sources(own_broker, eventually, name):
    broker = own_broker()
    sources, queue = Sources(broker), Queue(broker, "many.*", name())
    session = requests.Session()
    for i in range(200):
        assert session.post(sources.url, json={"id": f"t{i}", "kind": "timer", "every": "1s", "type": f"many.{i}"}).status_code == 201
    eventually(lambda: len({key for key, _, _ in queue.take()}) == 200, 30)


def test_the_command(broker, events, eventually, name):
    id_, events.count = name(), 1

    def run(*words, code=0):
        done = subprocess.run([godwit_binary(), "sources", *words, "--url", f"http://127.0.0.1:{broker.http_port}"], capture_output=True, text=True, timeout=20)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    queue = Queue(broker, f"{id_}.*", name())
    assert run("create", "sse", f"url={events.url}", f"type={id_}.{{{{event}}}}", "window=7", "--id", id_, "--header", "X-Test: a: b").split() == ["id", id_]
    eventually(lambda: queue.bodies() == ['{"n": 1}'])
    assert events.seen[0]["X-Test"] == "a: b"
    assert events.url in run("list") and '"window":7' in run("list", "--json")
    run("pause", id_)
    assert "status.state           paused" in run("show", id_)
    run("resume", id_)
    run("change", id_, "window=null", "--header", "X-Test: c")
    eventually(lambda: any(headers.get("X-Test") == "c" for headers in events.seen))
    assert "window" not in run("show", id_)
    run("delete", id_)
    assert "no such source" in run("show", id_, code=1)
    assert "nothing that can be done" in run("make", code=2) and "NAME=VALUE" in run("create", "sse", "url", code=2) and "its kind" in run("create", code=2)


@pytest.mark.limit(150)
def test_messages_of_a_queue_at_another_broker_are_events(own_broker, eventually, name):
    here, there, jobs = own_broker(), own_broker(), name()
    sources, queue = Sources(here), Queue(here, jobs, name())
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", there.port)) as connection:
        connection.channel().queue_declare(jobs, durable=True, arguments={"x-queue-type": "quorum", "x-max-length": 100000})   # it is taken as it is
    put(there, jobs, range(500))
    made = sources.make(id="shovel", kind="amqp", uri=f"amqp://guest:guest@127.0.0.1:{there.port}", queue=jobs, prefetch=50, retry="100ms")
    assert made["uri"] == f"amqp://guest:(hidden)@127.0.0.1:{there.port}" == sources.get("shovel")["uri"]
    sources.patch("shovel", uri=made["uri"], window=100)   # what was shown hidden stays what it is
    assert eventually(lambda: sources.status("shovel").get("published", 0) > 0)
    here.kill()
    put(there, jobs, range(500, 1000))
    here.start()
    assert eventually(lambda: sources.status("shovel").get("published", 0) > 0, 30)
    there.kill()
    assert eventually(lambda: sources.status("shovel").get("error"))
    there.start()
    put(there, jobs, range(1000, 1200))
    assert eventually(lambda: {int(body) for _, _, body in queue.take()} == set(range(1200)), 60)
    assert eventually(lambda: left(there, jobs) == 0)
    assert {key for key, _, _ in queue.got} == {jobs}
    sources.delete("shovel")


def test_what_is_wrong_with_another_broker_is_said(broker, eventually, name):
    sources, id_ = Sources(broker), name()
    uri = f"amqp://guest:sesame@127.0.0.1:{broker.port}"
    for members, part in (({"uri": "http://x", "queue": "q"}, '"uri"'), ({"uri": uri}, 'needs "queue"'), ({"uri": uri, "queue": "q", "prefetch": 0}, '"prefetch"'),
                          ({"uri": "amqps://x?cacertfile=/etc/passwd", "queue": "q"}, "sources_local")):
        assert part in sources.make(422, id=id_, kind="amqp", **members)["detail"]
    sources.make(id=id_, kind="amqp", uri=uri, queue="q", retry="50ms")
    assert eventually(lambda: "403" in sources.status(id_).get("error", "") or "refused" in sources.status(id_).get("error", ""))
    assert sources.status(id_)["state"] == "failing" and "sesame" not in json.dumps(sources.get(id_))
    sources.delete(id_)
    sources.make(id=id_, kind="amqp", uri="amqp://169.254.1.1", queue="q", retry="50ms")
    assert eventually(lambda: "link-local" in sources.status(id_).get("error", ""))
    sources.delete(id_)
