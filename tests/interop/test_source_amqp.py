"""A queue at another broker as a source: the other one is Godwit, and RabbitMQ."""
import json
import time

import pika
import pytest

from support.authority import Authority
from support.broker import Godwit, RabbitMQ, free_port
from support.sources import Queue, Sources

pytestmark = [pytest.mark.godwit_only("RabbitMQ has no sources"), pytest.mark.limit(180)]   # a busy machine takes its time to start RabbitMQ

ALL, NOTHING = {"configure": ".*", "write": ".*", "read": ".*"}, {"configure": "^$", "write": "^$", "read": "^$"}
DEFINITIONS = {
    "users": [{"name": "guest", "password": "guest", "tags": "administrator"}, {"name": "reader", "password": "r", "tags": ""}, {"name": "a@b", "password": "p:/%", "tags": ""},
              {"name": "stranger", "password": "s", "tags": ""}],
    "vhosts": [{"name": "/"}, {"name": "a/b"}],
    "permissions": [{"user": "guest", "vhost": "/", **ALL}, {"user": "a@b", "vhost": "a/b", **ALL}, {"user": "a@b", "vhost": "/", **ALL, "read": "^$"},
                    {"user": "reader", "vhost": "/", **NOTHING, "read": ".*"}],
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    made = Authority(tmp_path_factory.mktemp("certificates"))
    made.certify("server")
    return made


@pytest.fixture(scope="module")
def here():
    """Its administrators may say which authorities to trust."""
    with Godwit(options=["--sources-local", "on"]) as broker:
        yield broker
        assert broker.stop() == 0


@pytest.fixture(scope="module", params=["godwit", "rabbitmq"])
def there(request, authority, tmp_path_factory):
    definitions = tmp_path_factory.mktemp("definitions") / "there.json"
    definitions.write_text(json.dumps(DEFINITIONS))
    port, files = free_port(), [authority.file(name) for name in ("server.pem", "server.key", "ca.pem")]
    if request.param == "godwit":
        made = Godwit(options=["--amqps-port", str(port), "--tls-certificate", files[0], "--tls-key", files[1], "--load-definitions", str(definitions)])
    else:
        made = RabbitMQ(options=[f"listeners.ssl.default = {port}", f"ssl_options.certfile = {files[0]}", f"ssl_options.keyfile = {files[1]}", f"ssl_options.cacertfile = {files[2]}",
                                 "ssl_options.verify = verify_none", "ssl_options.fail_if_no_peer_cert = false", f"load_definitions = {definitions}"])
    with made as broker:
        broker.tls_port = port
        yield broker


@pytest.fixture
def sources(here):
    made, ids = Sources(here), []

    def make(**members):
        ids.append(members["id"])
        return made.__class__.make(made, kind="amqp", retry="50ms", **members)

    made.begin = make
    yield made
    for id_ in dict.fromkeys(ids):
        made.delete(id_)


def channel_of(broker, user="guest", password="guest", vhost="/"):
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port, vhost, pika.PlainCredentials(user, password))).channel()


def test_all_that_is_said_of_a_message_is_kept(here, there, sources, eventually, name):
    jobs, heard = name(), Queue(here, "#", name())
    channel = channel_of(there)
    channel.queue_declare(jobs, durable=True)
    sources.begin(id=name(), uri=f"amqp://127.0.0.1:{there.port}", queue=jobs)
    said = dict(content_type="application/xml", content_encoding="gzip", priority=7, correlation_id="c1", reply_to="answers", expiration="600000", message_id="m1", timestamp=1774742400,
                type="order.paid", app_id="shop", delivery_mode=2)
    channel.basic_publish("", jobs, b"\x1f\x8b", pika.BasicProperties(**said, user_id="guest", headers={"trace": "t1", "list": [1, "a"], "x-delay": 100, "CC": [name()]}))
    event = {"cloudEvents:specversion": "1.0", "cloudEvents:id": "e1", "cloudEvents:source": "/shop", "cloudEvents:type": "order.sent", "cloudEvents:tenant": "a",
             "cloudEvents:time": "2026-03-29T02:00:00.123456+02:00"}
    channel.basic_publish("", jobs, b"{}", pika.BasicProperties(headers=event))
    got = []
    with heard.connect() as connection:
        hearing = connection.channel()

        def both():
            method, properties, body = hearing.basic_get(heard.name, auto_ack=True)
            got.extend([(method.routing_key, properties, body)] if method and method.routing_key in ("order.paid", "order.sent") else [])
            return len(got) == 2

        eventually(both)
    (key, properties, body), (second_key, second, second_body) = sorted(got, key=lambda one: one[0])
    assert (key, body) == ("order.paid", b"\x1f\x8b") and {field: getattr(properties, field) for field in said} == said
    assert properties.user_id is None and properties.headers["trace"] == "t1" and properties.headers["list"] == [1, "a"]
    assert not {"x-delay", "CC"} & set(properties.headers) and properties.headers["cloudEvents_id"] == "m1"
    assert (second_key, second_body, second.message_id, second.type) == ("order.sent", b"{}", "e1", "order.sent")
    assert second.headers == {**{field.replace(":", "_"): value for field, value in event.items()}}
    channel.connection.close()


def test_the_ways_to_another_broker(here, there, sources, authority, eventually, name):
    ca, tls, ways = f"cacertfile={authority.file('ca.pem').replace('/', '%2F')}", there.tls_port, {}
    for uri in (f"amqp://[::1]:{there.port}", f"amqp://reader:r@localhost:{there.port}/%2F", f"amqp://a%40b:p%3A%2F%25@127.0.0.1:{there.port}/a%2Fb", f"amqps://localhost:{tls}?{ca}",
                f"amqps://[::1]:{tls}/%2f?{ca}", f"amqps://a%40b:p%3A%2F%25@127.0.0.1:{tls}/a%2Fb?{ca}&heartbeat=5", f"amqps://localhost:{tls}?verify=verify_none"):
        ways[name()] = uri
    heard = Queue(here, "#", name())
    for jobs, uri in ways.items():
        channel = channel_of(there, *(("a@b", "p:/%", "a/b") if "a%40b" in uri else ()))
        channel.queue_declare(jobs, durable=True)
        channel.basic_publish("", jobs, jobs.encode())
        channel.connection.close()
        sources.begin(id=jobs, uri=uri, queue=jobs)
    eventually(lambda: set(ways) <= set(heard.bodies()), missing=lambda: {jobs: sources.status(jobs) for jobs in set(ways) - set(heard.bodies())})
    assert all(sources.status(jobs)["state"] == "running" for jobs in ways)
    assert all("p:/%" not in json.dumps(sources.get(jobs)) and "p%3A" not in json.dumps(sources.get(jobs)) for jobs in ways)


def test_the_broker_s_own_authorities_are_trusted(own_broker, there, authority, eventually, name):
    mine, jobs = own_broker(godwit=["--webhook-ca", authority.file("ca.pem")]), name()
    sources, heard, channel = Sources(mine), Queue(mine, "#", name()), channel_of(there)
    channel.queue_declare(jobs, durable=True)
    channel.basic_publish("", jobs, b"sealed")
    sources.make(id="sealed", kind="amqp", uri=f"amqps://localhost:{there.tls_port}", queue=jobs)
    eventually(lambda: heard.bodies() == ["sealed"], missing=lambda: sources.status("sealed"))
    channel.connection.close()


def test_what_is_wrong_with_another_broker_is_said_precisely(here, there, sources, eventually, name):
    channel, locked, jobs, nobody = channel_of(there), name(), name(), free_port()
    channel.queue_declare(locked, exclusive=True)
    channel.queue_declare(jobs)
    wrong = {}
    for uri, queue, parts in (
            (f"amqp://guest:wrong@127.0.0.1:{there.port}", jobs, ("At the other broker: the broker does not let us in: 403 ACCESS_REFUSED",)),
            (f"amqp://127.0.0.1:{there.port}/nowhere", jobs, ("At the other broker: the broker does not let us in: 530 NOT_ALLOWED", "vhost nowhere not found")),
            (f"amqp://stranger:s@127.0.0.1:{there.port}", jobs, ("At the other broker: the broker does not let us in: 530 NOT_ALLOWED", "stranger")),
            (f"amqp://a%40b:p%3A%2F%25@127.0.0.1:{there.port}", jobs, ("The other broker: the queue", "cannot be had: 403 ACCESS_REFUSED", jobs)),
            (f"amqp://reader:r@127.0.0.1:{there.port}", name(), ("The other broker: the queue", "cannot be had: 403 ACCESS_REFUSED", "reader")),
            (f"amqp://127.0.0.1:{there.port}", locked, ("cannot be had: 405 RESOURCE_LOCKED", locked)),
            (f"amqps://localhost:{there.tls_port}", jobs, ("The other broker cannot be reached: no TLS could be agreed on: ", "certificate verify failed")),
            (f"amqps://localhost:{there.port}", jobs, ("The other broker cannot be reached: no TLS could be agreed on",)),
            (f"amqps://localhost:{there.tls_port}?cacertfile=%2Fnowhere.pem", jobs, ("The other broker cannot be reached: the authorities in /nowhere.pem cannot be read: No such file",)),
            (f"amqp://127.0.0.1:{there.tls_port}", jobs, ("The connection to the other broker broke: ",)),
            (f"amqp://127.0.0.1:{nobody}", jobs, ("The other broker cannot be reached: Connection refused.",)),
            (f"amqp://nobody.invalid:{nobody}", jobs, ("The other broker cannot be reached: the host is not found: ",))):
        id_ = f"wrong-{len(wrong)}"
        sources.begin(id=id_, uri=uri, queue=queue)
        wrong[id_] = uri, parts

    def unsaid():
        status = {id_: sources.status(id_) for id_ in wrong}
        return {uri: status[id_] for id_, (uri, parts) in wrong.items() if not all(part in status[id_].get("error", "") for part in parts) or status[id_]["state"] != "failing"}

    eventually(lambda: not unsaid(), missing=unsaid)
    # What was wrong is mended, and nobody has to say so here.
    there.control("set_permissions", "-p", "/", "a@b", ".*", ".*", ".*")
    mended = next(id_ for id_, (uri, _) in wrong.items() if "a%40b" in uri)
    eventually(lambda: sources.status(mended)["state"] == "running", missing=lambda: sources.status(mended))
    channel.connection.close()


def test_a_queue_that_is_deleted_is_made_again(here, there, sources, eventually, name):
    jobs, heard = name(), Queue(here, "#", name())
    channel = channel_of(there)
    channel.confirm_delivery()
    sources.begin(id=jobs, uri=f"amqp://127.0.0.1:{there.port}", queue=jobs)

    def put(body):
        try:
            channel.basic_publish("", jobs, body.encode(), mandatory=True)
            return True
        except pika.exceptions.UnroutableError:
            return False

    eventually(lambda: put(f"{jobs} first"))
    eventually(lambda: f"{jobs} first" in heard.bodies())
    channel.queue_delete(jobs)
    eventually(lambda: put(f"{jobs} second"))
    eventually(lambda: f"{jobs} second" in heard.bodies())
    assert sources.status(jobs)["state"] == "running"
    channel.connection.close()


def test_a_pause_has_nothing_come_twice(here, there, sources, eventually, name):
    jobs, heard = name(), Queue(here, "#", name())
    channel = channel_of(there)
    channel.queue_declare(jobs, durable=True)
    for number in range(6000):
        channel.basic_publish("", jobs, f"{jobs} {number}".encode(), pika.BasicProperties(delivery_mode=2))
    sources.begin(id=jobs, uri=f"amqp://127.0.0.1:{there.port}", queue=jobs, window=50)
    some, left = 0, 6000
    while left:
        eventually(lambda: sources.status(jobs)["published"] > some or sources.status(jobs)["published"] == 6000, every_s=0)
        sources.patch(jobs, paused=True)
        eventually(lambda: there_is_no_consumer(channel, jobs))
        some = sources.status(jobs)["published"]
        left = channel.queue_declare(jobs, passive=True).method.message_count
        assert some + left == 6000
        sources.patch(jobs, paused=False)
        time.sleep(0.02)
    got = [body for body in heard.bodies() if body.startswith(f"{jobs} ")]
    assert len(got) == len(set(got)) == 6000
    channel.connection.close()


def there_is_no_consumer(channel, queue):
    return channel.queue_declare(queue, passive=True).method.consumer_count == 0


def test_what_its_owner_may_not_publish_stays_there(here, there, eventually, name):
    jobs, owner, heard, sources = name(), name(), Queue(here, "#", name()), Sources(here)
    here.control("add_user", owner, "x")
    here.control("set_user_tags", owner, "administrator")
    here.control("set_permissions", owner, ".*", "^source", ".*")
    channel = channel_of(there)
    channel.queue_declare(jobs, durable=True)
    for number in range(20):
        channel.basic_publish("", jobs, f"{jobs} {number}".encode())
    sources.make(id="owned", kind="amqp", uri=f"amqp://127.0.0.1:{there.port}", queue=jobs, retry="50ms", auth=(owner, "x"))
    eventually(lambda: "may not publish to the exchange events" in sources.status("owned").get("error", ""), missing=lambda: sources.status("owned"))
    sources.patch("owned", paused=True)
    eventually(lambda: channel.queue_declare(jobs, passive=True).method.message_count == 20)
    sources.patch("owned", paused=False)
    here.control("set_permissions", owner, ".*", "^(source|events)", ".*")
    eventually(lambda: [body for body in heard.bodies() if body.startswith(f"{jobs} ")] == [f"{jobs} {number}" for number in range(20)])
    eventually(lambda: channel.queue_declare(jobs, passive=True).method.message_count == 0)
    sources.delete("owned")
    channel.connection.close()


def test_large_messages_wait_where_they_are(own_broker, there, eventually, name):
    mine, jobs, owner = own_broker(), name(), name()
    sources, before = Sources(mine), None
    mine.control("add_user", owner, "x")
    mine.control("set_user_tags", owner, "administrator")
    mine.control("set_permissions", owner, ".*", "^source", ".*")
    channel = channel_of(there)
    channel.queue_declare(jobs, durable=True)
    for _ in range(120):
        channel.basic_publish("", jobs, bytes(1 << 20))
    before = mine.memory_kib()["RssAnon"]
    sources.make(id="large", kind="amqp", uri=f"amqp://127.0.0.1:{there.port}", queue=jobs, auth=(owner, "x"))
    eventually(lambda: sources.status("large").get("state") == "held" or sources.status("large").get("read", 0) >= 4, missing=lambda: sources.status("large"))
    time.sleep(1)
    assert sources.status("large")["read"] < 10 and mine.memory_kib()["RssAnon"] - before < 30 << 10
    mine.control("set_permissions", owner, ".*", ".*", ".*")
    eventually(lambda: channel.queue_declare(jobs, passive=True).method.message_count == 0 and sources.status("large")["published"] >= 120, 60, missing=lambda: sources.status("large"))
    sources.delete("large")
    channel.connection.close()


def test_a_stream_is_read_on_from_where_it_was(own_broker, there, eventually, name):
    jobs, mine = name(), own_broker()
    sources, heard = Sources(mine), Queue(mine, "#", name())
    channel = channel_of(there)
    channel.queue_declare(jobs, durable=True, arguments={"x-queue-type": "stream"})
    channel.confirm_delivery()

    def put(numbers):
        for number in numbers:
            channel.basic_publish("", jobs, str(number).encode())

    put(range(1000))
    sources.make(id="s", kind="amqp", uri=f"amqp://127.0.0.1:{there.port}", queue=jobs, retry="50ms", prefetch=20, window=10, **{"from": "start"})
    eventually(lambda: sources.status("s").get("position", {}).get("offset", 0) > 100, every_s=0)
    mine.kill()
    put(range(1000, 1500))
    mine.start()
    eventually(lambda: sources.status("s").get("position", {}).get("offset") == 1500)
    sources.patch("s", paused=True)
    put(range(1500, 2000))
    sources.patch("s", paused=False)
    eventually(lambda: sources.status("s").get("position", {}).get("offset") == 2000)
    # What comes again has its old id.
    assert {(body, properties.message_id) for _, properties, body in heard.take()} == {(str(number), f"s/{number}") for number in range(2000)}
    assert len(heard.got) < 2000 + 40
    sources.delete("s")
    channel.queue_delete(jobs)
    channel.connection.close()
