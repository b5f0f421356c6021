"""definitions.json between RabbitMQ and Godwit: what one exports, the other imports, and the first again has the same topology."""
import json
import os
import subprocess

import pytest

from support.broker import RABBITMQ_HOME, Godwit, RabbitMQ, StartFailure, godwit_binary

pytestmark = [
    pytest.mark.limit(180),
    pytest.mark.godwit_only("it starts both"),
    pytest.mark.skipif(not os.path.isdir(RABBITMQ_HOME), reason="RabbitMQ is not installed"),
]


class GodwitControl(Godwit):
    """A Godwit with the verbs of RabbitMQ.control."""

    def control(self, *arguments, user="guest:guest"):
        result = subprocess.run([godwit_binary(), "ctl", "-q", "--uri", f"amqp://{user}@127.0.0.1:{self.port}/", *arguments],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        if result.returncode != 0:
            raise StartFailure(f"godwit ctl {' '.join(arguments)}: {result.stdout}")
        return result.stdout


@pytest.fixture
def start(request):
    running = []

    def make(kind, **more):
        broker = kind(**({"reactors": request.config.getoption("--reactors"), **more} if kind is GodwitControl else more))
        running.append(broker)
        return broker.start()
    yield make
    for broker in running:
        broker.discard()


SEED = {
    "vhosts": [{"name": "/"}, {"name": "orders"},
               {"name": "described", "metadata": {"description": "with metadata", "tags": ["a", "b"], "default_queue_type": "quorum"}}],
    "users": [{"name": "guest", "password": "guest", "tags": "administrator"}, {"name": "bob", "password": "secret", "tags": "monitoring,policymaker"},
              {"name": "eve", "password": "pässword", "tags": [], "limits": {"max-connections": 5, "max-channels": 7}}],
    "permissions": [{"user": "bob", "vhost": "orders", "configure": "^conf", "write": ".*", "read": ""},
                    {"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
                    {"user": "guest", "vhost": "orders", "configure": ".*", "write": ".*", "read": ".*"}],
    "topic_permissions": [{"user": "bob", "vhost": "orders", "exchange": "amq.topic", "write": "^{username}-.*", "read": "^y"}],
    "policies": [{"vhost": "/", "name": "lengths", "pattern": "^q", "apply-to": "queues", "priority": 3, "definition": {"max-length": 10, "overflow": "reject-publish"}},
                 {"vhost": "orders", "name": "alternate", "pattern": "^e", "apply-to": "exchanges", "priority": 0, "definition": {"alternate-exchange": "amq.fanout"}}],
    "parameters": [{"vhost": "orders", "component": "vhost-limits", "name": "limits", "value": {"max-connections": 50, "max-queues": 70}},
                   {"vhost": "orders", "component": "operator_policy", "name": "limit",
                    "value": {"pattern": ".*", "apply-to": "queues", "priority": 1, "definition": {"max-length": 1000, "expires": 3600000}}}],
    "global_parameters": [{"name": "mqtt_default_vhosts", "value": {"O=client": "/"}}, {"name": "number", "value": 42}],
}


def declare_some_of_everything(broker, connect_to, tmp_path):
    import_into(broker, json.dumps(SEED), tmp_path)
    for vhost in ("/", "orders"):
        connection = connect_to(broker, virtual_host=vhost)
        channel = connection.channel()
        channel.exchange_declare("events", "topic", durable=True, arguments={"alternate-exchange": "amq.fanout"})
        channel.exchange_declare("auto", "headers", auto_delete=True)
        channel.queue_declare("plain", durable=True)
        channel.queue_declare("transient")
        channel.queue_declare("q.all", durable=True, arguments={
            "x-message-ttl": 60000, "x-expires": 7200000, "x-max-length": 10, "x-max-length-bytes": 1 << 33, "x-max-priority": 5, "x-overflow": "drop-head",
            "x-dead-letter-exchange": "events", "x-dead-letter-routing-key": "dead", "x-single-active-consumer": True})
        channel.queue_declare("quorum", durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 4})
        channel.queue_declare("named ü ☃", durable=True)
        channel.queue_bind("plain", "events", "a.*.#")
        channel.queue_bind("plain", "amq.headers", "", arguments={"x-match": "any", "n": 5, "t": "text", "yes": True})
        channel.queue_bind("q.all", "auto", "k", arguments={"nested": {"list": [1, "two", {"three": 3}], "long": 1 << 40}})
        channel.exchange_bind("amq.topic", "events", "to.exchange")
        connection.close()


def pairs(value):
    """RabbitMQ 3.10 writes some objects as lists of pairs."""
    if isinstance(value, list) and value and all(isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) for item in value):
        return {key: pairs(item) for key, item in value}
    if isinstance(value, list):
        return [pairs(item) for item in value]
    if isinstance(value, dict):
        return {key: pairs(item) for key, item in value.items()}
    return value


def normal(text):
    """Definitions without what says who wrote them, and in an order."""
    definitions = {key: value for key, value in json.loads(text).items() if not key.endswith("_version") and key != "product_name"}
    for vhost in definitions["vhosts"]:
        vhost["limits"] = pairs(vhost["limits"]) or {}
        vhost["metadata"]["tags"] = vhost["metadata"].get("tags") or []
    for exchange in definitions["exchanges"]:
        exchange.setdefault("internal", False)
    for key in ("parameters", "global_parameters"):
        definitions[key] = pairs(definitions[key])
    return {key: sorted(value, key=lambda item: json.dumps(item, sort_keys=True)) for key, value in definitions.items()}


def assert_same(first, second):
    for key in first:
        assert first[key] == second[key], key
    assert first == second


def import_into(broker, text, tmp_path):
    path = tmp_path / "definitions.json"
    path.write_text(text)
    return broker.control("import_definitions", str(path))


def export(broker, tmp_path, **more):
    path = tmp_path / "exported.json"
    broker.control("export_definitions", str(path), **more)
    return path.read_text()


def test_from_rabbitmq_and_back(start, connect_to, tmp_path):
    source = start(RabbitMQ)
    declare_some_of_everything(source, connect_to, tmp_path)
    original = export(source, tmp_path)
    source.stop()
    godwit = start(GodwitControl)
    import_into(godwit, original, tmp_path)
    between = export(godwit, tmp_path)
    assert_same(normal(original), normal(between))
    # What is durable lasts; a second time the rest is all there is to do.
    godwit.restart()
    kept = normal(export(godwit, tmp_path))
    assert all(item["durable"] for key in ("queues", "exchanges") for item in kept[key])
    assert [kept[key] for key in ("users", "vhosts", "permissions", "parameters", "policies")] == \
        [normal(original)[key] for key in ("users", "vhosts", "permissions", "parameters", "policies")]
    import_into(godwit, original, tmp_path)
    assert_same(normal(original), normal(export(godwit, tmp_path)))
    # Users log in with the passwords that RabbitMQ hashed.
    assert godwit.control("authenticate_user", "eve", "pässword") == ""
    target = start(RabbitMQ)
    import_into(target, between, tmp_path)
    assert_same(normal(original), normal(export(target, tmp_path)))


def test_from_godwit_and_back(start, connect_to, tmp_path):
    source = start(GodwitControl)
    declare_some_of_everything(source, connect_to, tmp_path)
    original = export(source, tmp_path)
    between = start(RabbitMQ)
    import_into(between, original, tmp_path)
    second = export(between, tmp_path)
    assert_same(normal(original), normal(second))
    target = start(GodwitControl)
    import_into(target, second, tmp_path)
    assert_same(normal(original), normal(export(target, tmp_path)))


def test_loaded_at_every_start(start, connect_to, tmp_path):
    definitions = {
        "users": [{"name": "boss", "password": "secret", "tags": "administrator"}],
        "vhosts": [{"name": "/"}, {"name": "v"}],
        "permissions": [{"user": "boss", "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"} for vhost in ("/", "v")],
        "queues": [{"name": "kept", "vhost": "v", "durable": True, "auto_delete": False, "arguments": {"x-max-length": 3}},
                   {"name": "transient", "vhost": "v", "durable": False, "auto_delete": False, "arguments": {}}],
        "bindings": [{"source": "amq.topic", "vhost": "v", "destination": "kept", "destination_type": "queue", "routing_key": "a.#", "arguments": {}}],
    }
    path = tmp_path / "load.json"
    path.write_text(json.dumps(definitions))
    godwit = start(GodwitControl, options=["--load-definitions", str(path)])
    boss = "boss:secret"
    # There are users, so guest, whose password everybody knows, is none of them.
    assert godwit.control("list_users", user=boss) == "user\ttags\nboss\t[administrator]\n"
    import pika
    credentials = pika.PlainCredentials("boss", "secret")
    channel = connect_to(godwit, virtual_host="v", credentials=credentials).channel()
    channel.confirm_delivery()
    channel.basic_publish("amq.topic", "a.b", b"stays", pika.BasicProperties(delivery_mode=2), mandatory=True)
    godwit.restart()
    assert godwit.control("-p", "v", "list_queues", "name", "messages", user=boss) == "name\tmessages\nkept\t1\ntransient\t0\n"
    # A file that makes no sense keeps it from starting, and says why.
    godwit.stop()
    for bad, words in (("{", "not JSON"), ('{"queues": [{"name": "x", "vhost": "nowhere"}]}', "nowhere"),
                       ('{"policies": [{"vhost": "/", "name": "p", "pattern": "(", "definition": {"max-length": 1}}]}', "regular expression")):
        path.write_text(bad)
        with pytest.raises(StartFailure) as caught:
            godwit.start()
        assert words in str(caught.value), str(caught.value)


def test_what_cannot_be_imported_is_named(start, tmp_path):
    godwit = start(GodwitControl)
    for definitions, words in (
            ({"queues": [{"name": "q", "vhost": "nowhere", "durable": True, "arguments": {}}]}, "nowhere"),
            ({"queues": [{"name": "q", "vhost": "/", "durable": True, "arguments": {"x-max-length": -1}}]}, "x-max-length"),
            ({"exchanges": [{"name": "e", "vhost": "/", "type": "strange", "durable": True}]}, "strange"),
            ({"policies": [{"vhost": "/", "name": "p", "pattern": "(", "definition": {"max-length": 1}}]}, "regular expression"),
            ({"permissions": [{"user": "nobody", "vhost": "/", "configure": "", "write": "", "read": ""}]}, "nobody"),
            ({"users": [{"name": "u", "password_hash": "***"}]}, "base64"), ({"users": {}}, "users")):
        with pytest.raises(StartFailure) as caught:
            import_into(godwit, json.dumps(definitions), tmp_path)
        assert words in str(caught.value), str(caught.value)
    # Those that are there stay as they are, and reserved names are passed over.
    import_into(godwit, json.dumps({"queues": [{"name": "q", "vhost": "/", "durable": True, "arguments": {"x-max-length": 1}},
                                               {"name": "amq.own", "vhost": "/", "durable": True, "arguments": {}}]}), tmp_path)
    import_into(godwit, json.dumps({"queues": [{"name": "q", "vhost": "/", "durable": False, "arguments": {"x-max-length": 2}}]}), tmp_path)
    assert godwit.control("list_queues", "name", "durable", "arguments") == 'name\tdurable\targuments\nq\ttrue\t[{"x-max-length",1}]\n'
