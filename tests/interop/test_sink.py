"""godwit sink, at the other end of webhooks and of curl."""
import json
import subprocess
import time

import pytest
import requests

from support.broker import free_port, godwit_binary

pytestmark = pytest.mark.godwit_only("RabbitMQ has no webhooks")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def sink():
    made = []

    def start(*options):
        port = free_port()
        process = subprocess.Popen([godwit_binary(), "sink", "--port", str(port), *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        made.append(process)
        assert process.stdout.readline() == f"ready http://127.0.0.1:{port}\n"
        process.url = f"http://127.0.0.1:{port}/hook"
        return process
    yield start
    for process in made:
        process.kill()
        process.communicate()


def test_what_the_broker_signs_is_genuine(broker, sink, name, eventually):
    process = sink("--secret", SECRET, "--json", "--count", "1")
    url, type_ = f"http://127.0.0.1:{broker.http_port}", name()
    made = requests.post(f"{url}/subscriptions", json={"types": [type_], "sink": process.url, "config": {"secrets": [SECRET]}})
    assert made.status_code == 201
    requests.post(f"{url}/event/publish", json={"event_type": type_, "data": {"grüße": 7}})
    line = json.loads(process.communicate(timeout=20)[0])
    assert process.returncode == 0
    assert (line["method"], line["path"], json.loads(line["body"]), line["signature"]) == ("POST", "/hook", {"grüße": 7}, "genuine")
    assert line["headers"]["ce-type"] == type_ and line["headers"]["webhook-attempt"] == "1"
    assert requests.delete(f"{url}/subscriptions/{made.json()['id']}").status_code == 204


@pytest.mark.parametrize("mode, outcome", [("hang", "timed out"), ("close", "broken"), ("half", "broken"), ("garbage", "broken"), ("redirect", "answered"), ("endless", None)])
def test_every_way_to_fail(broker, sink, name, eventually, mode, outcome):
    process = sink("--mode", mode, "--first", "1")
    url, type_ = f"http://127.0.0.1:{broker.http_port}", name()
    id_ = requests.post(f"{url}/subscriptions", json={"types": [type_], "sink": process.url, "config": {"retry": "10ms", "timeout": 1}}).json()["id"]
    requests.post(f"{url}/event/publish", json={"event_type": type_})
    assert eventually(lambda: requests.get(f"{url}/subscriptions/{id_}").json()["status"]["delivered"] == 1)
    attempts = requests.get(f"{url}/subscriptions/{id_}/attempts").json()
    assert len(attempts) == (2 if outcome else 1) and attempts[-1]["outcome"] == (outcome or "answered")
    assert requests.delete(f"{url}/subscriptions/{id_}").status_code == 204


def test_what_is_not_signed_is_refused(sink):
    process = sink("--secret", SECRET)
    assert requests.post(process.url, data=b"x").status_code == 401
    assert requests.post(process.url, data=b"x", headers={"webhook-id": "1", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,AAAA"}).status_code == 401
    assert requests.post(process.url, data=b"x", headers={"webhook-id": "1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}).status_code == 401
    process.terminate()
    lines = process.communicate(timeout=10)[0].splitlines()
    assert [line.rsplit("  ", 1)[-1] for line in lines if line.startswith("POST")] == ["signature missing", "signature forged", "signature stale"]
    assert process.returncode == 0


def test_answers(sink):
    process = sink("--status", "503", "--retry-after", "7", "--first", "2", "--delay", "100ms", "--count", "4")
    begin = time.monotonic()
    with requests.Session() as session:
        answers = [session.post(process.url, data=b"\x1b[31m\x00") for _ in range(3)]
    assert time.monotonic() - begin > 0.3
    assert [(answer.status_code, answer.headers.get("retry-after")) for answer in answers] == [(503, "7"), (503, "7"), (204, None)]
    assert subprocess.run(["curl", "-s", "--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_code}", "-d", "x", process.url], stdout=subprocess.PIPE).stdout == b"204"
    text = process.communicate(timeout=10)[0]
    assert process.returncode == 0 and "\\x1b[31m\\x00" in text and "\x1b" not in text


def test_a_wrong_command_line():
    for options in (["--mode", "what"], ["--secret", "short"], ["word"], ["--listen", "nowhere"]):
        assert subprocess.run([godwit_binary(), "sink", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=10).returncode == 2, options
