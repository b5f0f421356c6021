"""Access tokens: made, used, restricted, expired, taken back; over restarts too."""
import json
import re
import subprocess
import threading
import time

import pytest
import requests

from support.broker import godwit_binary

pytestmark = pytest.mark.godwit_only("RabbitMQ's HTTP is another one")

GUEST = ("guest", "guest")


class Door:
    """HTTP with one way to say who asks."""

    def __init__(self, broker, token=None, auth=None):
        self.url = f"http://127.0.0.1:{broker.http_port}"
        self.session = requests.Session()
        self.session.auth = auth
        if token:
            self.session.headers["authorization"] = f"Bearer {token}"

    def __getattr__(self, method):
        return lambda path, **more: self.session.request(method.upper(), self.url + path, timeout=20, **more)


@pytest.fixture
def user(broker, name):
    made = name("user")
    broker.control("add_user", made, "secret")
    broker.control("set_permissions", made, ".*", ".*", ".*")
    yield made
    subprocess.run([godwit_binary(), "ctl", "-q", "--uri", f"amqp://guest:guest@127.0.0.1:{broker.port}/", "delete_user", made], stderr=subprocess.DEVNULL)


@pytest.fixture
def admin(broker):
    return Door(broker, auth=GUEST)


def make(door, **wish):
    answer = door.post("/tokens", json=wish)
    assert answer.status_code == 201, answer.text
    return answer.json()


def error_of(answer):
    found = re.search(r'Bearer realm="Godwit", error="(\w+)"', answer.headers.get("www-authenticate", ""))
    return found and found[1]


def test_a_token_is_its_user(broker, admin, user, channel, queue):
    made = make(admin, user=user, description="for the till")
    assert re.fullmatch(r"gwt_[0-9a-f]{16}_[0-9a-f]{64}", made["token"]) and made["token"][4:20] == made["id"] and "expires" not in made
    door = Door(broker, made["token"])
    assert door.post(f"/queues/{queue}/messages", data=b"hello").status_code == 201
    assert channel.basic_get(queue, auto_ack=True)[2] == b"hello"
    rows = broker.control("list_connections", "user", "auth_mechanism", "protocol").splitlines()
    assert f"{user}\tBearer\tHTTP" in rows
    listed = {row["id"]: row for row in admin.get("/tokens").json()["tokens"]}
    assert listed[made["id"]] == {"id": made["id"], "user": user, "description": "for the till"}
    assert made["token"] not in broker.control("list_parameters") and made["token"] not in broker.control("export_definitions", "-")


def test_who_is_not_known_is_told_how_to_be(broker):
    answer = requests.get(f"http://127.0.0.1:{broker.http_port}/subscriptions", headers={"Host": "example.com"}, timeout=10)
    assert answer.status_code == 401 and 'Basic realm="Godwit"' in answer.headers["www-authenticate"]
    assert 'Bearer realm="Godwit"' in answer.headers["www-authenticate"] and not error_of(answer)
    good = "gwt_" + "0" * 16 + "_" + "0" * 64
    for token in ("x", "", good, good[:-1], good.upper(), "gwt_" + "0" * 3000):
        answer = Door(broker, token or "\t").get("/subscriptions")
        assert (answer.status_code, error_of(answer)) == (401, "invalid_token"), token[:100]
        assert answer.headers["content-type"] == "application/problem+json"
    # A token that is nearly right.
    made = make(Door(broker, auth=GUEST))["token"]
    assert Door(broker, made).get("/subscriptions").status_code == 200
    assert Door(broker, made[:-1] + ("1" if made[-1] == "0" else "0")).get("/subscriptions").status_code == 401
    assert Door(broker, made).get("/subscriptions?vhost=nowhere").status_code == 401


def test_a_restricted_one_may_do_less(broker, admin, channel, name):
    mine, other = (channel.queue_declare(name(suffix), arguments={"x-expires": 60000}).method.queue for suffix in ("mine", "other"))
    made = make(admin, permissions={"read": f"^{mine}$", "write": r"^amq\.topic$"})
    assert made["permissions"] == {"configure": "", "write": r"^amq\.topic$", "read": f"^{mine}$"}
    door = Door(broker, made["token"])
    channel.queue_bind(mine, "amq.topic", "a.#")
    assert door.post("/exchanges/amq.topic/messages?routing_key=a.b", data=b"1").status_code == 201
    for path in ("/exchanges/amq.direct/messages", f"/queues/{mine}/messages", "/events?type=x"):
        answer = door.post(path, data=b"x")
        assert (answer.status_code, error_of(answer)) == (403, "insufficient_scope"), path
    # The same route was cached for others, who may use it.
    assert Door(broker, auth=GUEST).post("/exchanges/amq.direct/messages?routing_key=a", data=b"x").status_code == 200
    assert door.post("/exchanges/amq.direct/messages?routing_key=a", data=b"x").status_code == 403
    assert door.post("/exchanges/amq.direct/messages?routing_key=a", data=b"x" * 100_000).status_code == 403
    assert door.get(f"/queues/{mine}/messages?ack=auto").content == b"1"
    assert door.get(f"/queues/{other}/messages?ack=auto").status_code == 403
    assert door.get("/events?type=x").status_code == 403
    # It is no administrator, and makes and removes no tokens.
    assert door.post("/subscriptions", json={"types": ["x"], "sink": "http://127.0.0.1:1/"}).status_code == 403
    assert door.post("/tokens", json={}).status_code == 403
    assert door.delete(f"/tokens/{make(admin)['id']}").status_code == 403
    assert door.delete(f"/tokens/{made['id']}").status_code == 204
    assert door.get(f"/queues/{mine}/messages").status_code == 401


def test_a_restricted_one_leaves_subscriptions_alone(admin, broker):
    made = admin.post("/subscriptions", json={"types": ["restricted.x"], "sink": "http://127.0.0.1:1/", "config": {}}).json()
    door = Door(broker, make(admin, permissions={"write": "^events$"})["token"])
    assert door.get(f"/subscriptions/{made['id']}").status_code == 200
    for method, path in (("delete", ""), ("post", "/test")):
        assert getattr(door, method)(f"/subscriptions/{made['id']}{path}").status_code == 403
    assert door.patch(f"/subscriptions/{made['id']}", json={"paused": True}, headers={"content-type": "application/merge-patch+json"}).status_code == 403
    assert admin.delete(f"/subscriptions/{made['id']}").status_code == 204


def test_answers_of_others_are_not_repeated(broker, admin):
    """With the same Idempotency-Key the same answer comes, but not to who may do less, and never a token."""
    key = {"idempotency-key": "one-token"}
    first, second = (admin.post("/tokens", json={}, headers=key).json() for _ in range(2))
    assert first["token"] != second["token"]
    door = Door(broker, make(admin, permissions={"write": "^events$"})["token"])
    assert door.post("/tokens", json={}, headers=key).status_code == 403
    wish, key = {"id": "kept-answer", "types": ["kept.x"], "sink": "http://127.0.0.1:1/"}, {"idempotency-key": "one-subscription"}
    made = admin.post("/subscriptions", json=wish, headers=key)
    assert made.status_code == 201 and admin.post("/subscriptions", json=wish, headers=key).json() == made.json()
    refused = door.post("/subscriptions", json=wish, headers=key)
    assert refused.status_code in (403, 409) and "secrets" not in refused.text
    assert admin.delete("/subscriptions/kept-answer").status_code == 204


def test_users_make_their_own(broker, admin, user):
    his = Door(broker, auth=(user, "secret"))
    mine, others = make(his), make(admin)
    assert mine["user"] == user
    assert his.post("/tokens", json={"user": "guest"}).status_code == 403
    assert {row["id"] for row in his.get("/tokens").json()["tokens"]} == {mine["id"]}
    assert his.delete(f"/tokens/{others['id']}").status_code == 404
    assert his.delete(f"/tokens/{mine['id']}").status_code == 204
    for wish, status in (({"user": "nobody"}, 404), ({"users": "x"}, 400), ({"expires_in": 0}, 400), ({"expires_in": "1h"}, 400), ({"permissions": "all"}, 400),
                         ({"permissions": {"reads": "x"}}, 400), ({"permissions": {"read": 1}}, 400), ({"permissions": {"read": "("}}, 422), ([], 400),
                         ({"description": "x" * 256}, 400)):
        assert admin.post("/tokens", json=wish).status_code == status, wish


def test_what_is_taken_back_is_refused_at_once(broker, admin, user, eventually):
    made = make(admin, user=user)
    door, listener = Door(broker, made["token"]), Door(broker, made["token"])
    assert door.get("/tokens").status_code == 200
    assert admin.delete(f"/tokens/{made['id']}").status_code == 204
    answer = door.get("/tokens")   # on the connection that was good a moment ago
    assert (answer.status_code, error_of(answer)) == (401, "invalid_token")
    assert listener.get("/tokens").status_code == 401
    # A user who comes back under the same name is somebody else.
    made = make(admin, user=user)
    broker.control("delete_user", user)
    broker.control("add_user", user, "other")
    broker.control("set_permissions", user, ".*", ".*", ".*")
    assert Door(broker, made["token"]).get("/tokens").status_code == 401
    assert made["id"] not in {row["id"] for row in admin.get("/tokens").json()["tokens"]}


def test_they_expire(broker, admin):
    made = make(admin, expires_in=1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["expires"])
    door = Door(broker, made["token"])
    assert door.get("/tokens").status_code == 200
    time.sleep(1.1)
    answer = door.get("/tokens")
    assert (answer.status_code, error_of(answer), "expired" in answer.json()["detail"]) == (401, "invalid_token", True)
    assert "expired" in Door(broker, made["token"]).get("/tokens").json()["detail"]


def test_who_listens_by_one_that_is_taken_back_hears_no_more(broker, admin, eventually):
    made = make(admin)
    stream = Door(broker, made["token"]).get("/events?type=token.listen", stream=True)
    heard = []
    reader = threading.Thread(target=lambda: heard.extend(line for line in stream.iter_lines() if line.startswith(b"data:")))
    reader.start()
    assert admin.post("/events?type=token.listen", data=b"one").status_code == 201
    assert eventually(lambda: len(heard) == 1)
    assert admin.delete(f"/tokens/{made['id']}").status_code == 204
    assert admin.post("/events?type=token.listen", data=b"two").status_code == 201
    reader.join(20)
    assert not reader.is_alive() and len(heard) == 1


def godwit(broker, *words):
    done = subprocess.run([godwit_binary(), "tokens", "--uri", f"amqp://guest:guest@127.0.0.1:{broker.port}/", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=20)
    return done.returncode, done.stdout, done.stderr


def test_the_command(own_broker, name):
    broker = own_broker()
    code, text, said = godwit(broker, "create", "--write", "^events$", "--expires", "2h", "--description", "a till")
    token = text.strip()
    assert (code, said) == (0, "")
    assert Door(broker, token).post("/events?type=x", data=b"x").status_code == 201
    assert Door(broker, token).get("/events").status_code == 403
    broker.restart()
    assert Door(broker, token).post("/events?type=x", data=b"x").status_code == 201
    row, = json.loads(godwit(broker, "list", "--json")[1])
    assert row["user"] == "guest" and row["description"] == "a till" and "hash" not in row
    assert "restricted" in godwit(broker, "list")[1]
    assert godwit(broker, "delete", row["id"])[0] == 0 and godwit(broker, "delete", row["id"])[0] == 1
    assert Door(broker, token).post("/events?type=x", data=b"x").status_code == 401
    assert godwit(broker, "create", "--user", "nobody")[0] == 1 and godwit(broker, "create", "--read", "(")[0] == 1
    assert godwit(broker, "create", "more")[0] == 2 and godwit(broker, "delete")[0] == 2
    assert broker.stop() == 0
