"""Programs with hooks, and subscriptions to them."""
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class Receiver:
    """A program with a hook. `answers` says what it answers, one after the other and then 204: a status, (status, headers), or a function of the handler."""

    def __init__(self, port=0, answers=()):
        self.received, self.answers, self.times, self.connections = [], list(answers), [], []
        self.asked, self.allows = [], None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                outer.connections.append(self.request)
                super().setup()

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.times.append(time.monotonic())
                outer.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
                answer = outer.answers.pop(0) if outer.answers else 204
                if callable(answer):
                    answer(self)
                    return
                status, headers = answer if isinstance(answer, tuple) else (answer, {})
                self.send_response(status)
                for name, value in {"content-length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def do_OPTIONS(self):
                outer.asked.append(self.headers["webhook-request-origin"])
                self.send_response(200)
                for name, value in {"content-length": "0", "WebHook-Allowed-Rate": "240", **({"WebHook-Allowed-Origin": outer.allows} if outer.allows else {})}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def ids(self):
        return [headers["ce-id"] for headers, _ in self.received]


@pytest.fixture
def receiver():
    made = []

    def make(**more):
        made.append(Receiver(**more))
        return made[-1]
    yield make
    for one in made:
        one.close()


class Bus:
    def __init__(self, broker, name):
        self.url, self.name = f"http://127.0.0.1:{broker.http_port}", name
        self.made = []

    def subscribe(self, sink, type_=None, status=201, **more):
        answer = requests.post(f"{self.url}/subscriptions", json={"types": [type_ or f"{self.name}.#"], "sink": sink, **more})
        assert answer.status_code == status, answer.text
        if status == 201:
            self.made.append(answer.json()["id"])
        return answer.json()

    def publish(self, id_, type_="made", data=None, **more):
        event = {"specversion": "1.0", "id": id_, "source": "/test", "type": f"{self.name}.{type_}", "data": data, **more}
        assert requests.post(f"{self.url}/events", json=event, headers={"content-type": "application/cloudevents+json"}).status_code == 201

    def get(self, id_):
        answer = requests.get(f"{self.url}/subscriptions/{id_}")
        assert answer.status_code == 200
        return answer.json()

    def status(self, id_):
        return self.get(id_)["status"]

    def attempts(self, id_):
        return requests.get(f"{self.url}/subscriptions/{id_}/attempts").json()

    def change(self, id_, status=200, **more):
        answer = requests.patch(f"{self.url}/subscriptions/{id_}", json=more)
        assert answer.status_code == status, answer.text
        return answer.json()


@pytest.fixture
def bus(broker, name):
    made = Bus(broker, name())
    yield made
    for id_ in made.made:
        requests.delete(f"{made.url}/subscriptions/{id_}")
