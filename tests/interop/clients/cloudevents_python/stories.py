"""PyPI's cloudevents and standardwebhooks at both ends of the event bus: what they write is published, what the bus posts and streams is read by them."""
import base64
import json
import os
import queue
import subprocess
import threading
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cloudevents.core.bindings.http import HTTPMessage, from_binary, from_structured, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.http import CloudEvent as OldCloudEvent, from_http, to_binary as old_to_binary, to_structured as old_to_structured
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from story import same, story, tell

URL, GODWIT = os.environ["HTTP_URL"], os.environ["GODWIT"]
FORMAT = JSONFormat()
TIME = datetime(2018, 4, 5, 17, 31, 0, 250000, tzinfo=timezone.utc)
VECTOR_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def event(kind, data=None, **attributes):
    return CloudEvent({"id": f"{kind}-1", "source": "/sdk/python", "type": kind, "specversion": "1.0", **attributes}, data)


def ask(method, path, body=None, headers=None):
    """(status, answer)"""
    request = urllib.request.Request(URL + path, body, headers or {}, method=method)
    # urllib says that every body is a form, unless it is told something else; an event without a content type has none.
    if body is not None and not any(name.lower() == "content-type" for name in headers or {}):
        import http.client
        host = URL.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        found = (answer.status, json.loads(answer.read() or b"null"))
        connection.close()
        return found
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


def post(message):
    return ask("POST", "/events", message.body, dict(message.headers))


def heard(kind, count=1):
    """The first events of a type, in JSON, as the stream of events has them."""
    with urllib.request.urlopen(f"{URL}/events?from=first&type={kind}", timeout=20) as stream:
        lines = (line for line in stream if line.startswith(b"data: "))
        return [next(lines).removeprefix(b"data: ").strip() for _ in range(count)]


def alike(found, sent):
    wanted = {name: value for name, value in sent.get_attributes().items() if value is not None}
    same(dict(found.get_attributes()), wanted, "attributes")
    same(found.get_data(), sent.get_data(), "data")


class Receiver:
    """A program with a hook: what comes is (headers, body)."""

    def __init__(self):
        self.came = came = queue.Queue()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                came.put((dict(self.headers.items()), self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def subscribe(self, kind, **config):
        body = {"types": [kind], "sink": f"http://127.0.0.1:{self.server.server_port}/hook", "config": config}
        status, made = ask("POST", "/subscriptions", json.dumps(body).encode(), {"content-type": "application/json"})
        same(status, 201, made)
        self.id = made["id"]
        return made

    def next(self):
        return self.came.get(timeout=15)

    def close(self):
        self.server.shutdown()
        ask("DELETE", f"/subscriptions/{self.id}")


# What every mode must carry unchanged. Binary mode knows texts only.
def samples(kind):
    yield event(kind, {"id": 7, "text": "grüße \"%\""}, datacontenttype="application/json", subject="ein \"Gruß\" 100%", time=TIME, dataschema="http://example.com/schema")
    yield event(kind, "text, no JSON: ä", datacontenttype="text/plain; charset=utf-8", tenant="a")
    yield event(kind, b"\x00\x01\xff", datacontenttype="application/octet-stream")
    yield event(kind, {"xml": False})                                       # JSON, as nobody says
    yield event(kind)


@story
def structured():
    for i, sent in enumerate([*samples("py.structured"), event("py.structured", {"n": 1}, count=-3, good=True, datacontenttype="application/vnd.shop+json")]):
        sent.get_attributes()["id"] = f"s-{i}"
        same(post(to_structured(sent, FORMAT)), (201, {"id": f"s-{i}"}))
        got = from_structured(HTTPMessage({}, heard("py.structured", i + 1)[i]), FORMAT, CloudEvent)
        if sent.get_data() is not None and "datacontenttype" not in sent.get_attributes():
            sent.get_attributes()["datacontenttype"] = "application/json"    # which is what it meant
        alike(got, sent)


@story
def binary():
    for i, sent in enumerate(samples("py.binary")):
        sent.get_attributes()["id"] = f"b-{i}"
        same(post(to_binary(sent, FORMAT)), (201, {"id": f"b-{i}"}))
        alike(from_structured(HTTPMessage({}, heard("py.binary", i + 1)[i]), FORMAT, CloudEvent), sent)


@story
def batch():
    events = list(samples("py.batch")) * 20
    body = b"[" + b", ".join(FORMAT.write(one) for one in events) + b"]"
    same(ask("POST", "/events", body, {"content-type": "application/cloudevents-batch+json; charset=utf-8"}), (201, {"count": 100}))
    found = [from_structured(HTTPMessage({}, one), FORMAT, CloudEvent) for one in heard("py.batch", 100)]
    same([one.get_data() for one in found], [one.get_data() for one in events])
    same(ask("POST", "/events", b"[]", {"content-type": "application/cloudevents-batch+json"}), (201, {"count": 0}))
    bad = b"[" + FORMAT.write(events[0]) + b', {"specversion": "1.0"}]'
    status, problem = ask("POST", "/events", bad, {"content-type": "application/cloudevents-batch+json"})
    same((status, "Event 1 of the batch" in problem["detail"]), (400, True), problem)


@story
def the_old_interface():
    """What version 1 of the package writes and reads."""
    receiver = Receiver()
    receiver.subscribe("py.old.*")
    for number, write in enumerate([old_to_structured, old_to_binary]):
        sent = OldCloudEvent({"type": f"py.old.{number}", "source": "/sdk/old", "id": f"o{number}", "subject": "a"}, {"n": number})
        headers, body = write(sent)
        same(ask("POST", "/events", body, {"content-type": "application/json", **headers} if number else headers), (201, {"id": f"o{number}"}))
        headers, body = receiver.next()
        got = from_http(headers, body)
        same((got["type"], got["id"], got["subject"], got.data), (f"py.old.{number}", f"o{number}", "a", {"n": number}))
        same(got["time"][:19], sent["time"][:19])
    receiver.close()


@story
def webhook():
    receiver = Receiver()
    receiver.subscribe("py.webhook")
    for i, sent in enumerate(samples("py.webhook")):
        sent.get_attributes()["id"] = f"w-{i}"
        for write in (to_structured, to_binary):
            same(post(write(sent, FORMAT))[0], 201)
            headers, body = receiver.next()
            got = from_binary(HTTPMessage(headers, body), FORMAT, CloudEvent)
            wanted = dict(sent.get_attributes())
            if write is to_structured and sent.get_data() is not None:
                wanted.setdefault("datacontenttype", "application/json")
            # The package reads bytes that are text as text.
            same(dict(got.get_attributes()), {name: value for name, value in wanted.items() if value is not None}, "attributes")
            same(got.get_data(), sent.get_data(), "data")
    receiver.close()


def verifies(secret, headers, body):
    try:
        Webhook(secret).verify(body, headers, json_parse=False)
        return True
    except WebhookVerificationError:
        return False


@story
def signatures():
    receiver, old, new = Receiver(), VECTOR_SECRET, "whsec_" + base64.b64encode(os.urandom(32)).decode()
    made = receiver.subscribe("py.signed", secrets=[old])
    for secrets, good in (([old], [True, False]), ([old, new], [True, True]), ([new], [False, True])):
        change = json.dumps({"config": {"secrets": secrets}}).encode()
        same(ask("PATCH", f"/subscriptions/{made['id']}", change, {"content-type": "application/merge-patch+json"})[0], 200)
        same(post(to_structured(event("py.signed", {"test": 2432232314, "text": "ü"}), FORMAT))[0], 201)
        headers, body = receiver.next()
        same([verifies(secret, headers, body) for secret in (old, new)], good)
        same(Webhook(secrets[-1]).verify(body, headers), {"test": 2432232314, "text": "ü"})
        same(verifies(secrets[0], headers, body + b" "), False)
        forged = {**headers, **{name: "other" for name in headers if name.lower() == "webhook-id"}}
        same(verifies(secrets[0], forged, body), False)
    receiver.close()


@story
def a_receiver_that_verifies():
    """`godwit sink` judges what the package signs, and the published vector is what it should be."""
    signed = Webhook(VECTOR_SECRET).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", datetime.fromtimestamp(1614265330, timezone.utc), '{"test": 2432232314}')
    same(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
    sink = subprocess.Popen([GODWIT, "sink", "--port", "0", "--secret", VECTOR_SECRET, "--json", "--count", "2"], stdout=subprocess.PIPE, text=True)
    url = sink.stdout.readline().split()[1]
    now, body = datetime.now(timezone.utc), b'{"test": 2432232314}'
    good = Webhook(VECTOR_SECRET).sign("m1", now, body.decode())
    for signature in (good, "v1,AAAA v2,x " + good):
        headers = {"webhook-id": "m1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as answer:
            same(answer.status // 100, 2)
    lines = [json.loads(line) for line in sink.communicate(timeout=10)[0].splitlines()]
    same([line["signature"] for line in lines], ["genuine", "genuine"])


@story
def what_is_refused():
    good = {"id": "1", "source": "/s", "type": "py.refused", "specversion": "1.0"}
    for change in ({"specversion": "0.3"}, {"id": ""}, {"source": None}, {"Type": "x"}, {"my_name": "x"}, {"count": 1.5}, {"list": []}, {"time": "yesterday"}, {"data": 1, "data_base64": "AA=="},
                   {"data_base64": "?"}, {"type": 7}):
        status, problem = ask("POST", "/events", json.dumps({**good, **change}).encode(), {"content-type": "application/cloudevents+json"})
        same((status, bool(problem["detail"])), (400, True), change)
    for headers in ({"ce-id": "1"}, {"ce-id": "1", "ce-type": "x", "ce-source": "/s", "ce-specversion": "2.0"}, {"ce-id": "%ff", "ce-type": "x", "ce-source": "/s", "ce-specversion": "1.0"},
                    {"ce-id": "1", "ce-type": "x", "ce-source": "/s", "ce-specversion": "1.0", "ce-time": "5"}):
        same(ask("POST", "/events", b"{}", {"content-type": "application/json", **headers})[0], 400, headers)
    same(ask("POST", "/events", b"<event/>", {"content-type": "application/cloudevents+xml"})[0], 400)
    same(ask("POST", "/events", b"{", {"content-type": "application/cloudevents+json"})[0], 400)


tell()
