"""CC and BCC: further routing keys in a message's headers."""
import pika
import pytest


@pytest.fixture
def queues(channel, name):
    return lambda number: [channel.queue_declare(name(), exclusive=True).method.queue for _ in range(number)]


def got(channel, queue):
    """The headers of the messages in a queue."""
    found = []
    while True:
        method, properties, _ = channel.basic_get(queue, auto_ack=True)
        if not method:
            return found
        found.append(properties.headers)


def publish(channel, exchange, key, headers, body=b"x", **more):
    channel.basic_publish(exchange, key, body, pika.BasicProperties(headers=headers, **more))


@pytest.mark.parametrize("size", [1, 100_000, 1_000_000])
def test_copies_by_the_default_exchange(channel, queues, size):
    to, cc, second, bcc = queues(4)
    publish(channel, "", to, {"CC": [cc, second, to], "BCC": [bcc, "nobody"], "z": 1}, b"x" * size)
    seen = {"CC": [cc, second, to], "z": 1}
    assert [got(channel, queue) for queue in (to, cc, second, bcc)] == [[seen]] * 4


def test_alone(channel, queues):
    cc, bcc = queues(2)
    publish(channel, "", "nobody", {"CC": [cc]})
    publish(channel, "", "nobody", {"BCC": [bcc]})
    assert got(channel, cc) == [{"CC": [cc]}]
    assert got(channel, bcc) == [{}]


def test_in_frames(connect, channel, name):
    """A body that comes frame by frame, and is gathered first."""
    to, cc = name("to"), name("cc")
    for queue in (to, cc):
        channel.queue_declare(queue, auto_delete=True)
    connection = connect(frame_max=4096)
    publish(connection.channel(), "", to, {"BCC": [cc]}, b"y" * 20_000, message_id="m", delivery_mode=2)
    connection.close()
    for queue in (to, cc):
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        assert (properties.headers, properties.message_id, properties.delivery_mode, body) == ({}, "m", 2, b"y" * 20_000)
        channel.queue_delete(queue)


def test_by_direct_and_topic_exchanges(channel, queues):
    one, two, both = queues(3)
    for exchange in ("amq.direct", "amq.topic"):
        channel.queue_bind(one, exchange, f"{one}.1")
        channel.queue_bind(two, exchange, f"{one}.2")
        channel.queue_bind(both, exchange, f"{one}.1")
        channel.queue_bind(both, exchange, f"{one}.2")
        publish(channel, exchange, "nobody", {"CC": [f"{one}.1"], "BCC": [f"{one}.2"]})
        assert [len(got(channel, queue)) for queue in (one, two, both)] == [1, 1, 1]
        publish(channel, exchange, f"{one}.1", {"CC": []})
        assert [len(got(channel, queue)) for queue in (one, two, both)] == [1, 0, 1]


def test_the_next_message_without_copies_goes_its_own_way(channel, queues):
    to, cc = queues(2)
    for headers in (None, {"CC": [cc]}, None, {"h": 1}):
        publish(channel, "", to, headers)
    assert [len(got(channel, queue)) for queue in (to, cc)] == [4, 1]


def test_the_delivery_says_the_routing_key_only(channel, queues):
    cc, = queues(1)
    publish(channel, "", "nobody", {"CC": [cc]})
    method, _, _ = channel.basic_get(cc, auto_ack=True)
    assert (method.exchange, method.routing_key) == ("", "nobody")


def test_elements_that_are_no_strings_mean_nothing(channel, queues):
    cc, = queues(1)
    publish(channel, "", "nobody", {"CC": [5, True, cc]})
    assert len(got(channel, cc)) == 1


def test_in_a_transaction(channel, queues):
    to, cc = queues(2)
    channel.tx_select()
    publish(channel, "", to, {"BCC": [cc]})
    channel.tx_commit()
    assert [got(channel, queue) for queue in (to, cc)] == [[{}], [{}]]


def test_mandatory_is_returned_without_bcc(connection, channel):
    returned = []
    channel.add_on_return_callback(lambda _, method, properties, body: returned.append((method.routing_key, properties.headers)))
    channel.basic_publish("", "nobody", b"x", pika.BasicProperties(headers={"CC": ["nobody either"], "BCC": ["nor they"], "h": 1}), mandatory=True)
    connection.process_data_events(0.2)
    assert returned == [("nobody", {"CC": ["nobody either"], "h": 1})]


def test_durable_over_a_restart(own_broker, connect_to, name):
    broker = own_broker()
    channel = connect_to(broker).channel()
    to, cc = name("to"), name("cc")
    for queue in (to, cc):
        channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    publish(channel, "", to, {"BCC": [cc]}, delivery_mode=2)
    channel.connection.close()
    broker.restart()
    channel = connect_to(broker).channel()
    assert [got(channel, queue) for queue in (to, cc)] == [[{}], [{}]]


@pytest.mark.parametrize("header", ["CC", "BCC"])
@pytest.mark.parametrize("value, kind", [("x", "longstr"), (5, "signedint"), (True, "bool"), ({"a": 1}, "table"), (None, "void")])
def test_of_another_type(channel, queue, expect_close, header, value, kind):
    channel.confirm_delivery()
    text = f'PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,"{header}",{kind}}}'
    assert expect_close(406, text)(publish, channel, "", queue, {header: value}) == text
