"""The exchange amq.rabbitmq.event: what happens to the broker, as messages. RabbitMQ has it as a plug-in."""
import time

import pika
import pytest


@pytest.fixture
def channel(plugged, connect_to):
    return connect_to(plugged).channel()


@pytest.fixture
def events(channel, eventually):
    """events(key, **headers) waits for an event with these headers and answers all of its headers."""
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "amq.rabbitmq.event", "#")
    seen = []

    def wait(key, timeout_s=10, **wanted):
        def look():
            while True:
                method, properties, body = channel.basic_get(queue, auto_ack=True)
                if not method:
                    break
                seen.append((method.routing_key, properties, body))
            return [event for event in seen if event[0] == key and all(event[1].headers.get(name) == value for name, value in wanted.items())]

        found = eventually(look, timeout_s, missing=lambda: f"no {key} {wanted} in {[(event[0], event[1].headers) for event in seen]}")
        assert len(found) == 1, found
        _, properties, body = found[0]
        assert body == b"" and properties.delivery_mode == 2
        assert abs(properties.timestamp - time.time()) < 60
        assert abs(properties.headers.get("timestamp_in_ms") / 1000 - time.time()) < 60
        return {name: value for name, value in properties.headers.items() if name != "timestamp_in_ms"}

    return wait


def test_exchanges(channel, events, name):
    exchange = name()
    channel.exchange_declare(exchange, "topic", durable=True, internal=True, arguments={"a": 1, "b": "x"})
    assert events("exchange.created", name=exchange) == {
        "name": exchange, "vhost": "/", "type": "topic", "durable": True, "auto_delete": False, "internal": True, "policy": "",
        "arguments": ['{<<"a">>,signedint,1}', '{<<"b">>,longstr,<<"x">>}'], "user_who_performed_action": "guest"}
    channel.exchange_declare(exchange, "topic", durable=True, internal=True)
    channel.exchange_delete(exchange)
    assert events("exchange.deleted", name=exchange) == {"name": exchange, "vhost": "/", "user_who_performed_action": "guest"}


def test_queues(channel, events, name):
    queue = name()
    channel.queue_declare(queue, durable=True, arguments={"x-max-length": 5})
    created = events("queue.created", name=queue)
    assert created == {"name": queue, "vhost": "/", "durable": True, "auto_delete": False, "exclusive": False, "owner_pid": "",
                       "arguments": ['{<<"x-max-length">>,signedint,5}'], "user_who_performed_action": "guest"}
    channel.queue_delete(queue)
    assert events("queue.deleted", name=queue) == {"name": queue, "vhost": "/", "user_who_performed_action": "guest"}


def test_an_exclusive_queue_says_whose_it_is(plugged, connect_to, events):
    connection = connect_to(plugged)
    queue = connection.channel().queue_declare("", exclusive=True).method.queue
    created = events("queue.created", name=queue)
    assert created["exclusive"] is True and created["owner_pid"].startswith("<")
    connection.close()
    events("queue.deleted", name=queue)


def test_bindings(channel, events, name):
    exchange, queue = name("exchange"), name("queue")
    channel.exchange_declare(exchange, "direct")
    channel.queue_declare(queue)
    channel.queue_bind(queue, exchange, "k", arguments={"n": 2})
    binding = {"source_name": exchange, "source_kind": "exchange", "destination_name": queue, "destination_kind": "queue", "routing_key": "k",
               "arguments": ['{<<"n">>,signedint,2}'], "vhost": "/", "user_who_performed_action": "guest"}
    assert events("binding.created", source_name=exchange) == binding
    channel.queue_unbind(queue, exchange, "k", arguments={"n": 2})
    assert events("binding.deleted", source_name=exchange) == binding
    channel.exchange_delete(exchange)
    channel.queue_delete(queue)


def test_what_goes_with_an_exchange(channel, events, name):
    source, target, queue = name("source"), name("target"), name("queue")
    for exchange in (source, target):
        channel.exchange_declare(exchange, "fanout")
    channel.queue_declare(queue)
    channel.queue_bind(queue, source, "to queue")
    channel.exchange_bind(target, source, "to exchange")
    channel.exchange_delete(source)
    assert events("binding.deleted", source_name=source, routing_key="to queue")["destination_name"] == queue
    assert events("binding.deleted", source_name=source, routing_key="to exchange")["destination_kind"] == "exchange"
    events("exchange.deleted", name=source)
    channel.exchange_delete(target)
    channel.queue_delete(queue)


def test_bindings_go_with_their_queue(channel, events, name):
    queue = name()
    channel.queue_declare(queue)
    channel.queue_bind(queue, "amq.direct", queue)
    channel.queue_delete(queue)
    assert events("binding.deleted", destination_name=queue)["source_name"] == "amq.direct"


def test_auto_deletion_is_an_event_too(channel, events, name):
    exchange, queue = name("exchange"), name("queue")
    channel.exchange_declare(exchange, "fanout", auto_delete=True)
    channel.queue_declare(queue, auto_delete=True)
    channel.queue_bind(queue, exchange)
    tag = channel.basic_consume(queue, lambda *_: None)
    channel.basic_cancel(tag)
    events("queue.deleted", name=queue)
    events("exchange.deleted", name=exchange)


def test_what_was_there_already_is_no_event(channel, events, queue):
    channel.queue_bind(queue, "amq.direct", queue)
    events("binding.created", routing_key=queue)
    channel.queue_bind(queue, "amq.direct", queue)
    channel.queue_declare(queue, passive=True)
    events("binding.created", routing_key=queue)   # still one


def test_patterns_choose(channel, name):
    only = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(only, "amq.rabbitmq.event", "exchange.*")
    exchange = name()
    channel.exchange_declare(exchange, "fanout")
    channel.queue_bind(only, exchange)
    channel.exchange_delete(exchange)
    time.sleep(0.2)
    keys = []
    while True:
        method, properties, _ = channel.basic_get(only, auto_ack=True)
        if not method:
            break
        if properties.headers["name"] == exchange:
            keys.append(method.routing_key)
    assert keys == ["exchange.created", "exchange.deleted"]


def test_nobody_publishes_to_it_and_nobody_deletes_it(channel, connect_to, plugged, expect_close):
    channel.confirm_delivery()
    expect_close(403, "ACCESS_REFUSED - cannot publish to internal exchange 'amq.rabbitmq.event' in vhost '/'")(
        channel.basic_publish, "amq.rabbitmq.event", "k", b"x")
    other = connect_to(plugged).channel()
    expect_close(403, "ACCESS_REFUSED - deletion of system exchange 'amq.rabbitmq.event' in vhost '/' not allowed")(
        other.exchange_delete, "amq.rabbitmq.event")


# What administrators do.

def test_users(plugged, events):
    plugged.control("add_user", "events-user", "secret")
    assert set(events("user.created", name="events-user")) == {"name", "user_who_performed_action"}
    plugged.control("set_user_tags", "events-user", "monitoring", "impersonator")
    assert events("user.tags.set", name="events-user")["tags"] == ["monitoring", "impersonator"]
    plugged.control("set_permissions", "events-user", "^a", "^b", "^c")
    granted = events("permission.created", user="events-user")
    assert (granted["vhost"], granted["configure"], granted["write"], granted["read"]) == ("/", "^a", "^b", "^c")
    plugged.control("delete_user", "events-user")
    events("user.deleted", name="events-user")


def test_policies(plugged, events):
    plugged.control("set_policy", "events-policy", "^nothing$", '{"max-length": 5}', "--priority", "3", "--apply-to", "queues")
    policy = events("policy.set", name="events-policy")
    policy.pop("user_who_performed_action")
    assert policy == {"name": "events-policy", "vhost": "/", "pattern": "^nothing$", "definition": {"max-length": 5}, "apply-to": "queues", "priority": 3}
    plugged.control("clear_policy", "events-policy")
    events("policy.cleared", name="events-policy")


def test_vhosts(plugged, events):
    plugged.control("add_vhost", "events-vhost")
    assert events("vhost.created", name="events-vhost")["tracing"] is False
    plugged.control("delete_vhost", "events-vhost")
    events("vhost.deleted", name="events-vhost")


# Connections.

def test_connections_and_channels(plugged, connect_to, events):
    connection = connect_to(plugged, client_properties={"connection_name": "events-connection"})
    created = events("connection.created", user_provided_name="events-connection")
    assert (created["user"], created["vhost"], created["type"], created["protocol"], created["ssl"]) == ("guest", "/", "network", "{0,9,1}", False)
    assert created["name"].startswith("127.0.0.1:") and created["port"] == plugged.port and created["pid"].startswith("<")
    login = events("user.authentication.success", connection_name=created["name"])
    assert (login["name"], login["connection_type"]) == ("guest", "network")
    channel = connection.channel()
    opened = events("channel.created", connection=created["pid"])
    assert (opened["number"], opened["user"], opened["vhost"], opened["name"]) == (1, "guest", "/", f"{created['name']} (1)")
    channel.close()
    events("channel.closed", pid=opened["pid"])
    connection.close()
    assert events("connection.closed", pid=created["pid"])["name"] == created["name"]


def test_a_wrong_password(plugged, connect_to, events):
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        connect_to(plugged, credentials=pika.PlainCredentials("nobody-known", "wrong"))
    events("user.authentication.failure", name="nobody-known")


def test_consumers(plugged, connect_to, events, name):
    connection = connect_to(plugged)
    channel = connection.channel()
    queue = channel.queue_declare(name(), exclusive=True).method.queue
    channel.basic_qos(prefetch_count=7)
    tag = channel.basic_consume(queue, lambda *_: None, exclusive=True)
    created = events("consumer.created", consumer_tag=tag)
    assert (created["queue"], created["vhost"], created["ack_required"], created["exclusive"], created["prefetch_count"]) == (queue, "/", True, True, 7)
    channel.basic_cancel(tag)
    assert events("consumer.deleted", consumer_tag=tag)["queue"] == queue
    other = channel.basic_consume(queue, lambda *_: None, auto_ack=True)
    assert events("consumer.created", consumer_tag=other)["ack_required"] is False
    connection.close()
    events("consumer.deleted", consumer_tag=other)
