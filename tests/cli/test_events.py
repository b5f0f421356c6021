"""godwit events and godwit subscriptions: the bus from a command line."""
import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from support.broker import Godwit, free_port, godwit_binary


@pytest.fixture
def web(broker, bare):
    """godwit against the HTTP of this run's broker."""
    environment = {"GODWIT_URL": f"http://127.0.0.1:{broker.http_port}"}

    def call(*arguments, code=0, **more):
        result = bare(*arguments, environment=environment, **more)
        assert result.code == code, (result.out, result.err)
        return result
    call.environment = environment
    return call


@pytest.fixture
def type_(request):
    return f"{request.node.name.split('[')[0]}.{os.getpid()}"


def lines(result):
    return [json.loads(line) for line in result.out.splitlines()]


def test_what_is_published_is_heard(web, type_):
    ids = [one["id"] for one in lines(web("events", "publish", type_, '{"id": 7}', "words", "--json", "--subject", "süß \"%", "-a", "tenant=a b", "--source", "/shop"))]
    assert len(set(ids)) == 2
    web("events", "publish", type_, stdin=b"1\n\xff\n")
    web("events", "publish", type_, "--whole", "--content-type", "text/csv", "--id", "csv", stdin=b"1\n2\n")
    events = lines(web("events", "listen", type_, "--from", "first", "--count", "5", "--json"))
    assert [event["id"] for event in events[:2]] == ids and events[4]["id"] == "csv"
    assert events[0] == {"specversion": "1.0", "id": ids[0], "source": "/shop", "type": type_, "subject": "süß \"%", "tenant": "a b", "datacontenttype": "application/json", "data": {"id": 7}}
    assert [(event["datacontenttype"], event.get("data", event.get("data_base64"))) for event in events[1:]] == [
        ("text/plain; charset=utf-8", "words"), ("application/json", 1), ("application/octet-stream", "/w=="), ("text/csv", "1\n2\n")]
    assert [event["id"] for event in lines(web("events", "listen", type_, "--from", "first", "-n", "2", "--json", "--filter", "cloudEvents_tenant = 'a b'"))] == ids
    shown = web("events", "listen", type_, "--from", "first", "-n", "1").out.decode().splitlines()
    assert shown[0].endswith(f"{type_}  id {ids[0]}  subject süß \"%") and shown[1] == '  {"id":7}'
    offset = int(shown[0].split()[0])
    assert lines(web("events", "listen", type_, "--last-event-id", str(offset), "-n", "1", "--json"))[0]["id"] == ids[1]
    # Whole events go from one broker to another.
    again = "\n".join(json.dumps({**event, "type": type_ + ".again"}) for event in events[:2]).encode()
    assert [one["id"] for one in lines(web("events", "publish", "--cloudevents", "--json", stdin=again))] == ids
    assert [event["id"] for event in lines(web("events", "listen", type_ + ".again", "--from", "first", "-n", "2", "--json"))] == ids


def test_when_listening_ends(web, type_):
    assert web("events", "listen", type_, "--timeout", "150ms").out == b""
    web("events", "listen", type_, "--timeout", "150ms", "--count", "1", code=4)
    process = subprocess.Popen([godwit_binary(), "events", "listen", type_, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **web.environment})
    try:
        until = time.monotonic() + 20
        heard = []
        threading.Thread(target=lambda: heard.append(process.stdout.readline()), daemon=True).start()
        while not heard and time.monotonic() < until:      # it hears what comes after its beginning
            web("events", "publish", type_, "1")
            time.sleep(0.05)
        assert json.loads(heard[0])["data"] == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()


def test_listening_goes_on_after_a_restart(bare, type_):
    with Godwit() as broker:
        environment = {"GODWIT_URL": f"http://127.0.0.1:{broker.http_port}"}
        bare("events", "publish", type_, "1", environment=environment)
        process = subprocess.Popen([godwit_binary(), "events", "listen", type_, "--from", "first", "-n", "3", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env={**os.environ, **environment})
        try:
            assert json.loads(process.stdout.readline())["data"] == 1
            broker.kill()
            broker.start()
            assert bare("events", "publish", type_, "2", "3", environment=environment).code == 0
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
        assert [json.loads(line)["data"] for line in out.splitlines()] == [2, 3] and process.returncode == 0
        assert err.count(b"trying again") == 1


def test_a_request_whose_answer_is_lost_is_repeated(bare):
    """With the same Idempotency-Key, so that the broker does it once."""
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve():
            for answer in (b"", b"HTTP/1.1 201 Created\r\ncontent-length: 10\r\n\r\n{\"id\":\"1\"}"):
                with listener.accept()[0] as peer:
                    heard.append(peer.recv(65536))
                    peer.sendall(answer)
        threading.Thread(target=serve, daemon=True).start()
        done = bare("events", "publish", "t", "1", "--json", "--url", f"http://user:secret@127.0.0.1:{listener.getsockname()[1]}/", "--vhost", "a/b")
    assert (done.code, done.out) == (0, b'{"id":"1"}\n'), done.err
    assert heard[0] == heard[1] and b"idempotency-key: " in heard[0] and heard[0].startswith(b"POST /events?vhost=a%2Fb HTTP/1.1\r\n")
    assert b"Authorization: Basic dXNlcjpzZWNyZXQ=\r\n" in heard[0]


def test_a_subscription_from_its_beginning_to_its_end(web, type_, eventually):
    port, id_ = free_port(), type_.replace(".", "-")
    sink = subprocess.Popen([godwit_binary(), "sink", "--port", str(port), "--json", "--count", "4"], stdout=subprocess.PIPE, text=True)
    try:
        assert sink.stdout.readline().startswith("ready")
        made = web("subscriptions", "create", f"http://127.0.0.1:{port}/hook", "--type", f"{type_}.*", "--type", type_, "--id", id_, "--exact", "tenant=a", "--sql", "cloudEvents_number < 3",
                   "--retry", "1s,2s", "--attempts", "3", "--concurrency", "2", "--timeout", "7", "--order", "*", "--mode", "binary", "--paused", "--json")
        made = lines(made)[0]
        assert made["filters"] == [{"exact": {"tenant": "a"}}, {"sql": "cloudEvents_number < 3"}] and made["types"] == [f"{type_}.*", type_]
        secrets = made["config"].pop("secrets")
        assert made["config"] == {"retry": "1s,2s", "attempts": 3, "concurrency": 2, "timeout": 7, "order": "*", "mode": "binary"} and secrets[0].startswith("whsec_")
        assert id_ in web("subscriptions", "list").out.decode() and id_ in [one["id"] for one in lines(web("subscriptions", "list", "--json"))[0]]
        web("subscriptions", "change", id_, "--exact", "tenant=b", "--concurrency", "3", "--secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        assert '[{"exact":{"tenant":"b"}}]' in web("subscriptions", "show", id_).out.decode()
        eventually(lambda: "status.state           paused" in web("subscriptions", "show", id_).out.decode())   # it is starting for a moment
        web("events", "publish", type_, "1", "2", "-a", "tenant=b")
        web("events", "publish", type_, "3", "-a", "tenant=c")
        web("subscriptions", "resume", id_)
        assert [json.loads(sink.stdout.readline())["body"] for _ in range(2)] == ["1", "2"]
        assert web("subscriptions", "test", id_).out.startswith(b"id ")
        assert json.loads(sink.stdout.readline())["headers"]["ce-type"] == "godwit.test"
        web("subscriptions", "pause", id_)
        event = lines(web("events", "listen", type_, "--from", "first", "-n", "1", "--json"))[0]["id"]
        assert b"replayed     1\n" in web("events", "replay", id_, "--event", event).out
        assert b"replayed     2\n" in web("subscriptions", "replay", id_, "--from", "first").out
        record = lines(web("subscriptions", "replay", id_, "--json"))[0]
        assert record["state"] == "done" and record["replayed"] == 2
        web("subscriptions", "replay", id_, "--stop")
        web("subscriptions", "replay", id_, code=1)
        web("subscriptions", "resume", id_)
        assert json.loads(sink.stdout.readline())["body"] == "1"
        attempts = web("subscriptions", "attempts", id_).out.decode().splitlines()
        assert attempts[0].split() == ["TIME", "EVENT", "ATTEMPT", "OUTCOME", "STATUS", "MS", "WHY"] and any(event in line and " 204 " in line for line in attempts[1:])
        web("subscriptions", "delete", id_)
        assert "no such subscription" in web("subscriptions", "show", id_, code=1).err
    finally:
        sink.kill()
        sink.communicate()


@pytest.mark.parametrize("arguments, code, words", [
    (("events", "publsh"), 2, "nothing that can be done with events"), (("events", "publish"), 2, "of which type?"), (("events", "publish", "t", "1", "2", "--id", "x"), 2, "of a single event"),
    (("events", "publish", "t", "1", "--file", "x"), 2, "from words, from --file"), (("events", "publish", "t", "--file", "/nowhere"), 1, "No such file"),
    (("events", "publish", "t", "1", "-a", "No=1"), 2, "NAME=VALUE"), (("events", "listen", "--filter", "(", "-n", "1"), 1, "The filter is none"), (("events", "replay"), 2, "which subscription?"),
    (("events", "replay", "nobody", "--from", "first"), 1, "no such subscription"), (("events", "replay", "nobody", "--to", "7"), 2, "from where?"),
    (("events", "publish", "--cloudevents", "{}"), 1, "specversion"), (("events", "listen", "--url", "ftp://x"), 1, "rotocol"),
    (("subscriptions", "make"), 2, "nothing that can be done"), (("subscriptions", "show"), 2, "its id"), (("subscriptions", "list", "more"), 2, "one word too many"),
    (("subscriptions", "create", "nowhere"), 1, "cannot be posted to"), (("subscriptions", "create", "http://127.0.0.1:9/", "-x", "="), 2, "NAME=VALUE"),
    (("subscriptions", "create", "http://127.0.0.1:9/", "--secret", "whsec_", "--no-secret"), 2, "contradict"), (("subscriptions", "list", "--user", "guest:wrong"), 1, "(401)"),
    (("subscriptions", "list", "--vhost", "nowhere"), 1, "not found"), (("subscriptions", "replay", "nobody"), 1, "(404)")])
def test_what_is_wrong(web, arguments, code, words):
    result = web(*arguments, code=code)
    assert words in result.err and result.out == b""


def test_a_token_says_who_asks(web, broker, godwit, type_):
    broker.control("add_user", "teller", "secret")
    broker.control("set_permissions", "teller", ".*", ".*", ".*")
    try:
        token = godwit("tokens", "create", "--user", "teller", "--write", "^events$").out.decode().strip()
        assert web("events", "publish", type_, "1", "--token", token, "--json").out
        assert web("events", "listen", type_, "--token", token, "-n", "1", code=1).err.startswith("godwit events: ACCESS_REFUSED")
        assert "(401)" in web("events", "publish", type_, "1", "--token", "gwt_guess", code=1).err
    finally:
        broker.control("delete_user", "teller")
