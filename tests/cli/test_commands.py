"""publish, consume, get, purge and the lists."""
import base64
import json
import os
import signal
import subprocess
import time

import pytest

from support.broker import godwit_binary


def test_first_minute(godwit, queue):
    published = godwit("publish", queue, "Hello World!")
    assert (published.code, published.out, published.err) == (0, b"", "")
    consumed = godwit("consume", queue, "--count", "1")
    assert (consumed.code, consumed.out) == (0, b"Hello World!\n")
    assert godwit("get", queue).code == 4


def test_several_bodies_in_order(godwit, queue):
    assert godwit("publish", queue, "one", "two", "three").code == 0
    assert godwit("consume", queue, "--count", "3").out == b"one\ntwo\nthree\n"


def test_lines_of_standard_input(godwit, queue):
    lines = b"".join(b"line %d\n" % index for index in range(5000))
    assert godwit("publish", queue, stdin=lines).code == 0
    assert godwit("consume", queue, "--count", "5000").out == lines


def test_last_line_without_an_end(godwit, queue):
    assert godwit("publish", queue, stdin=b"a\n\nb").code == 0
    assert godwit("consume", queue, "--count", "3").out == b"a\n\nb\n"


def test_whole_of_standard_input_and_files(godwit, queue, tmp_path):
    assert godwit("publish", queue, "--whole", stdin=b"first\nsecond\n").code == 0
    body = os.urandom(300_000)
    (tmp_path / "picture").write_bytes(body)
    assert godwit("publish", queue, "--file", str(tmp_path / "picture"), "--file", "-", stdin=b"from stdin").code == 0
    out = tmp_path / "out"
    out.mkdir()
    assert godwit("consume", queue, "--count", "3", "--directory", str(out)).code == 0
    assert [path.read_bytes() for path in sorted(out.iterdir())] == [b"first\nsecond\n", body, b"from stdin"]


def test_missing_file(godwit, queue):
    result = godwit("publish", queue, "--file", "/nowhere/at/all")
    assert result.code == 1
    assert "/nowhere/at/all" in result.err and "No such file" in result.err


def test_json_shows_everything(godwit, queue):
    assert godwit("publish", queue, "body", "--header", "text=a", "--header", "n:int=5", "--header", "b:bool=true",
                  "--content-type", "text/plain", "--message-id", "m1", "--priority", "7", "--timestamp", "1700000000").code == 0
    result = godwit("get", queue, "--json")
    assert result.code == 0
    message = json.loads(result.out)
    assert (message["body"], message["exchange"], message["routing_key"], message["redelivered"]) == ("body", "", queue, False)
    properties = message["properties"]
    assert properties["headers"] == {"text": "a", "n": 5, "b": True}
    assert (properties["content_type"], properties["message_id"], properties["priority"], properties["timestamp"]) == \
        ("text/plain", "m1", 7, 1700000000)
    assert properties["delivery_mode"] == 2


def test_json_of_bytes_that_are_no_text(godwit, queue):
    assert godwit("publish", queue, "--whole", stdin=b"\xff\x00\xfe").code == 0
    message = json.loads(godwit("consume", queue, "--count", "1", "--json").out)
    assert base64.b64decode(message["body_base64"]) == b"\xff\x00\xfe"


def test_consume_takes_what_a_filter_wants(godwit, queue):
    for region, body in (("eu", "1"), ("us", "2"), ("eu", "3")):
        assert godwit("publish", queue, "--header", f"region={region}", body).code == 0
    assert godwit("consume", queue, "--filter", "region = 'eu'", "--count", "2").out == b"1\n3\n"
    assert godwit("consume", queue, "--filter", "region = 'eu'", "--count", "1", "--timeout", "200ms").code == 4
    refused = godwit("consume", queue, "--filter", "region =")
    assert refused.code == 1 and "at character 9: something is missing at the end" in refused.err
    assert godwit("consume", queue, "--count", "1").out == b"2\n"


def test_consume_ends_when_nothing_comes(godwit, queue):
    godwit("publish", queue, "one")
    begin = time.monotonic()
    result = godwit("consume", queue, "--timeout", "300ms")
    assert result.out == b"one\n"
    assert 0.2 < time.monotonic() - begin < 5
    assert godwit("consume", queue, "--timeout", "100ms", "--count", "1").code == 4


def test_what_is_not_written_is_not_acknowledged(godwit, queue):
    godwit("publish", queue, "1", "2", "3", "4")
    assert godwit("consume", queue, "--count", "2").out == b"1\n2\n"
    assert godwit("consume", queue, "--count", "2").out == b"3\n4\n"


def test_full_output_does_not_lose_messages(godwit, queue):
    godwit("publish", queue, "kept")
    with open("/dev/full", "wb") as full:
        code = subprocess.run([godwit_binary(), "consume", queue, "--count", "1"], stdout=full, stderr=subprocess.PIPE,
                              env={**os.environ, "GODWIT_URI": godwit.uri}, timeout=20).returncode
    assert code == 1
    assert godwit("consume", queue, "--count", "1").out == b"kept\n"


def test_get_does_not_wait(godwit, queue):
    godwit("publish", queue, "one")
    assert godwit("get", queue).out == b"one\n"
    result = godwit("get", queue)
    assert (result.code, result.out) == (4, b"")


def test_exchange_without_a_route(godwit):
    assert godwit("publish", "--exchange", "amq.direct", "--routing-key", "nobody", "x").code == 0
    result = godwit("publish", "--exchange", "amq.direct", "--routing-key", "nobody", "--mandatory", "x")
    assert result.code == 3
    assert "312" in result.err and "NO_ROUTE" in result.err


def test_missing_exchange(godwit):
    result = godwit("publish", "--exchange", "nowhere", "x")
    assert result.code == 1
    assert "404" in result.err and "nowhere" in result.err


def test_missing_queue(godwit):
    for command in ("get", "purge"):
        result = godwit(command, "no-such-queue")
        assert result.code == 1, command
        assert "no queue 'no-such-queue'" in result.err


def test_purge(godwit, queue):
    godwit("publish", queue, "1", "2", "3")
    result = godwit("purge", queue)
    assert result.code == 0
    assert b"3" in result.out
    assert godwit("get", queue).code == 4


def test_queues(godwit, queue):
    godwit("publish", queue, "1", "2")
    text = godwit("queues")
    assert text.code == 0
    row, = [line for line in text.out.decode().splitlines() if queue in line]
    assert row.split()[1] == "2"
    listed, = [entry for entry in json.loads(godwit("queues", "--json").out) if entry["name"] == queue]
    assert (listed["messages"], listed["messages_ready"], listed["messages_unacknowledged"], listed["consumers"]) == (2, 2, 0, 0)
    assert (listed["durable"], listed["auto_delete"], listed["exclusive"], listed["vhost"]) == (True, False, False, "/")


def test_exchanges_and_bindings(godwit, queue):
    godwit("publish", queue, "1")
    exchanges = {entry["name"]: entry for entry in json.loads(godwit("exchanges", "--json").out)}
    assert {"amq.direct": "direct", "amq.fanout": "fanout", "amq.topic": "topic", "amq.headers": "headers", "amq.match": "headers"}.items() \
        <= {name: entry["type"] for name, entry in exchanges.items()}.items()
    assert exchanges["amq.topic"]["durable"] is True
    assert b"amq.topic" in godwit("exchanges").out
    assert godwit("bindings").code == 0
    assert isinstance(json.loads(godwit("bindings", "--json").out), list)


def test_no_colour_into_a_pipe(godwit, queue):
    for command in (("queues",), ("exchanges",), ("help",), ("help", "publish"), ("publish", "--nonsense")):
        result = godwit(*command)
        assert b"\033" not in result.out and "\033" not in result.err


def test_interrupted_consumer(godwit, queue):
    consumer = subprocess.Popen([godwit_binary(), "consume", queue], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env={**os.environ, "GODWIT_URI": godwit.uri})
    try:
        godwit("publish", queue, "before")
        assert consumer.stdout.readline() == b"before\n"
        consumer.send_signal(signal.SIGINT)
        consumer.communicate(timeout=10)
        assert consumer.returncode in (0, 1, 130)
    finally:
        consumer.kill()
        consumer.wait()
    assert godwit("get", queue).code == 4


def test_bench_verifies(godwit):
    result = godwit("bench", "--messages", "20000", "--persistent", "--confirms", "500", "--manual-ack", "--verify", "--json",
                    "--prefix", f"bench-{os.getpid()}", timeout_s=60)
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["published"] == report["consumed"] == report["confirmed"] == 20000
    assert report["verify"]["good"] is True


@pytest.mark.parametrize("uri, words", [
    ("amqp://guest:wrong@127.0.0.1:{port}/", ["403"]),
    ("amqp://guest:guest@127.0.0.1:{port}/nowhere", ["nowhere"]),
    ("amqp://guest:guest@127.0.0.1:1/", ["127.0.0.1", "refused"]),
])
def test_unreachable_or_refused(broker, bare, uri, words):
    result = bare("get", "q", uri=uri.format(port=broker.port))
    assert result.code == 1
    assert all(word in result.err for word in words), result.err
    assert result.err.count("\n") == 1


def test_transactions(godwit, queue):
    godwit("publish", queue, "plain")
    assert godwit("get", queue).code == 0
    for i in "12":
        assert godwit("publish", "-e", "", "-k", queue, "-H", f"x-transaction={queue} {i}", i).code == 0
    listed = {row["id"]: row for row in json.loads(godwit("transactions", "list", "--json").out)}
    assert {listed[f"{queue} {i}"]["state"] for i in "12"} == {"open"} and listed[f"{queue} 1"]["messages"] == 1
    table = godwit("transactions", "list").out.decode()
    assert table.split()[:3] == ["ID", "STATE", "MESSAGES"] and f"{queue} 1" in table
    assert godwit("transactions", "commit", f"{queue} 1", f"{queue} 1").out.decode() == f"{queue} 1: committed\n" * 2
    assert godwit("transactions", "rollback", f"{queue} 2").code == 0
    refused = godwit("transactions", "commit", f"{queue} 2")
    assert refused.code == 1 and "is not known, or was decided otherwise" in refused.err
    assert godwit("consume", queue, "--count", "1").out == b"1\n"
    assert godwit("get", queue).code == 4
    for wrong in ((), ("lsit",), ("commit",), ("list", "x")):
        assert godwit("transactions", *wrong).code == 2
