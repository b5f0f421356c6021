"""How often somebody may ask by HTTP, how many wrong passwords and how many connections an address may have."""
import re
import socket
import time

import httpx
import pika
import pytest
import requests

pytestmark = pytest.mark.godwit_only("RabbitMQ's HTTP is another one")


def url_of(broker):
    return f"http://127.0.0.1:{broker.http_port}"


def check_refusal(answer, name, count, window):
    assert answer.status_code == 429 and answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["ratelimit-policy"] == f'"{name}";q={count};w={window}'
    assert re.fullmatch(rf'"{name}";r=0;t=\d+', answer.headers["ratelimit"])
    assert 1 <= int(answer.headers["retry-after"]) <= window
    assert answer.json()["title"] == "Too Many Requests"


def test_nothing_is_limited_unless_it_is_said(broker):
    with httpx.Client() as client:
        assert {client.get(f"{url_of(broker)}/health").status_code for _ in range(300)} == {200}


def test_an_address_asks_so_often(own_broker):
    broker = own_broker(godwit=["--http-rate-per-address", "5"])   # slower than any machine asks
    begin = time.monotonic()
    with httpx.Client() as one, httpx.Client(http1=False, http2=True) as two:
        answers = [client.get(f"{url_of(broker)}{path}") for _ in range(30) for client, path in ((one, "/health"), (two, "/nothing"))]
        took = time.monotonic() - begin
        good, refused = ([answer for answer in answers if (answer.status_code == 429) == bad] for bad in (False, True))
        # Two connections, two versions, one address: a second's worth at once, and what has come back since.
        assert 5 <= len(good) <= 5 + 5 * took + 1
        check_refusal(refused[-1], "address", 5, 1)
        time.sleep(int(refused[-1].headers["retry-after"]))
        assert one.get(f"{url_of(broker)}/health").status_code == 200
    assert broker.stop() == 0


def test_a_user_asks_so_often_whatever_connection_he_has(own_broker):
    broker = own_broker(godwit=["--http-rate-per-user", "3"])
    broker.control("add_user", "alice", "secret")
    broker.control("set_permissions", "alice", ".*", ".*", ".*")
    statuses = {"guest": [], "alice": []}
    begin = time.monotonic()
    for _ in range(20):   # each on a connection of its own
        for user, password in (("guest", "guest"), ("alice", "secret")):
            answer = requests.get(f"{url_of(broker)}/tokens", auth=(user, password), timeout=10)
            statuses[user].append(answer.status_code)
    took = time.monotonic() - begin
    for user in statuses:
        assert 3 <= statuses[user].count(200) <= 4 + 3 * took and statuses[user][:3] == [200] * 3
    assert 429 in statuses["alice"]
    check_refusal(next(answer for answer in (requests.get(f"{url_of(broker)}/tokens", auth=("alice", "secret"), timeout=10) for _ in range(20)) if answer.status_code == 429),
                  "user", 3, 1)
    assert requests.get(f"{url_of(broker)}/health", timeout=10).status_code == 200
    # A long body is not waited for.
    answer = requests.post(f"{url_of(broker)}/events?type=x", data=b"x" * 1_000_000, auth=("alice", "secret"), timeout=10)
    assert answer.status_code in (201, 429)
    assert broker.stop() == 0


def test_guessing_is_slowed_down(own_broker):
    broker = own_broker(godwit=["--http-failures-per-address", "6"])
    where = f"{url_of(broker)}/tokens"
    with requests.Session() as known:
        assert known.get(where, auth=("guest", "guest"), timeout=10).status_code == 200
        statuses = [requests.get(where, auth=("guest", f"guess {i}"), timeout=10).status_code for i in range(5)]
        statuses += [requests.get(where, headers={"authorization": "Bearer gwt_guess"}, timeout=10).status_code for _ in range(3)]
        assert statuses == [401] * 6 + [429] * 2
        refused = requests.get(where, auth=("guest", "guest"), timeout=10)   # not even the right one is looked at
        check_refusal(refused, "failures", 6, 60)
        assert known.get(where, auth=("guest", "guest"), timeout=10).status_code == 200
        assert requests.get(f"{url_of(broker)}/health", timeout=10).status_code == 200
    assert broker.stop() == 0


def login(broker, password):
    """The code that the broker closes with; 0: it does not."""
    try:
        pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port, credentials=pika.PlainCredentials("guest", password))).close()
    except pika.exceptions.ProbableAuthenticationError as error:
        return int(re.search(r"\((\d+)\)", str(error))[1])
    except pika.exceptions.ConnectionClosedByBroker as error:
        assert "too many passwords from your address were wrong: log in again in" in error.reply_text
        return error.reply_code
    return 0


def test_guessing_by_amqp_is_slowed_down(own_broker):
    broker = own_broker(godwit=["--http-failures-per-address", "6"])
    where = f"{url_of(broker)}/tokens"
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port)) as inside:
        begin = time.monotonic()
        codes = [login(broker, password) for guess in range(5) for password in (f"guess {guess}", "guest")]
        assert codes == [403, 0] * 5   # who is right takes nothing
        assert requests.get(where, auth=("guest", "wrong"), timeout=10).status_code == 401   # the sixth, by HTTP: they count together
        codes = [login(broker, password) for password in ("guess", "guest", "guess", "guest")]
        if time.monotonic() - begin < 8:   # otherwise one has come back already
            assert codes == [320] * 4      # not even the right one is looked at
            assert requests.get(where, auth=("guest", "guest"), timeout=10).status_code == 429
        assert inside.channel().queue_declare("", exclusive=True).method.queue   # who is inside stays
        time.sleep(max(0.0, 12 - (time.monotonic() - begin)))
        assert login(broker, "guest") == 0
    assert broker.stop() == 0


def test_an_address_has_so_many_connections(own_broker, eventually):
    broker = own_broker(godwit=["--max-connections-per-address", "5"])
    held = [socket.create_connection(("127.0.0.1", broker.http_port), 10) for _ in range(3)]
    amqp = [pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port)) for _ in range(2)]
    for port in (broker.http_port, broker.port):
        with socket.create_connection(("127.0.0.1", port), 10) as more:
            assert more.recv(10) == b""
    assert "connections from 127.0.0.1 are closed at once: it has 5" in broker.log_text()
    held.pop().close()
    amqp.pop().close()
    assert eventually(lambda: pika_gets_in(broker))
    for one in held:
        one.close()
    amqp.pop().close()
    assert broker.stop() == 0


def pika_gets_in(broker):
    try:
        pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port, connection_attempts=1)).close()
        return True
    except pika.exceptions.AMQPConnectionError:
        return False
