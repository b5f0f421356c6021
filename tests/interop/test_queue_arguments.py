"""Optional arguments of queues and consumers: which are refused, with what words, and which must be the same the second time."""
import pika
import pytest

QUORUM = {"x-queue-type": "quorum"}
STREAM = {"x-queue-type": "stream"}


def refused(queue, text):
    return f"PRECONDITION_FAILED - {text.format(what=f'''queue '{queue}' in vhost '/' '''.strip())}"


@pytest.mark.parametrize("argument", ["x-expires", "x-message-ttl", "x-max-length", "x-max-length-bytes", "x-max-priority", "x-queue-version"])
@pytest.mark.parametrize("value, why", [
    (-1, "{{value_negative,-1}}"),
    ("1", '"expected integer, got longstr"'),
    (True, '"expected integer, got bool"'),
    ([1], '"expected integer, got array"'),
    ({"a": 1}, '"expected integer, got table"'),
    (None, '"expected integer, got void"'),
])
def test_numbers(channel, name, expect_close, argument, value, why):
    queue = name()
    text = expect_close(406)(channel.queue_declare, queue, arguments={argument: value})
    assert text == refused(queue, f"invalid arg '{argument}' for {{what}}: {why}")


@pytest.mark.parametrize("arguments, why", [
    ({"x-expires": 0}, "invalid arg 'x-expires' for {what}: {{value_zero,0}}"),
    ({"x-expires": 315360000001}, "invalid arg 'x-expires' for {what}: {{value_too_large,315360000001}}"),
    ({"x-message-ttl": 315360000001}, "invalid arg 'x-message-ttl' for {what}: {{value_too_large,315360000001}}"),
    ({"x-max-priority": 256}, "invalid arg 'x-max-priority' for {what}: {{max_value_exceeded,256}}"),
    ({"x-queue-version": 3}, "invalid arg 'x-queue-version' for {what}: \"unsupported queue version '3'\""),
    ({"x-overflow": "drop-tail"}, "invalid arg 'x-overflow' for {what}: invalid_overflow"),
    ({"x-overflow": 1}, "invalid arg 'x-overflow' for {what}: {{unacceptable_type,signedint}}"),
    ({"x-queue-mode": "fast"}, "invalid arg 'x-queue-mode' for {what}: \"unsupported queue mode 'fast'\""),
    ({"x-single-active-consumer": 1}, "invalid arg 'x-single-active-consumer' for {what}: {{unacceptable_type,signedint}}"),
    ({"x-dead-letter-exchange": 1}, "invalid type 'signedint' for arg 'x-dead-letter-exchange' in {what}"),
    ({"x-dead-letter-routing-key": "k"}, "invalid arg 'x-dead-letter-routing-key' for {what}: routing_key_but_no_dlx_defined"),
    ({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": 5}, "invalid arg 'x-dead-letter-routing-key' for {what}: {{unacceptable_type,signedint}}"),
    ({"x-queue-type": "heap"}, "invalid arg 'x-queue-type' for {what}: \"unsupported queue type 'heap'\""),
    ({"x-queue-type": 1}, "invalid arg 'x-queue-type' for {what}: {{unacceptable_type,signedint}}"),
    # What only other types of queues have.
    ({"x-max-age": "1h"}, "invalid arg 'x-max-age' for {what} of queue type rabbit_classic_queue"),
    ({"x-delivery-limit": 1}, "invalid arg 'x-delivery-limit' for {what} of queue type rabbit_classic_queue"),
    ({"x-dead-letter-strategy": "at-least-once"}, "invalid arg 'x-dead-letter-strategy' for {what} of queue type rabbit_classic_queue"),
    # Of several mistakes, the same one is named.
    ({"x-max-length": -1, "x-expires": "a"}, "invalid arg 'x-expires' for {what}: \"expected integer, got longstr\""),
])
def test_classic_queues(channel, name, expect_close, arguments, why):
    queue = name()
    assert expect_close(406)(channel.queue_declare, queue, arguments=arguments) == refused(queue, why)


@pytest.mark.parametrize("arguments", [
    {"x-expires": 600000, "x-message-ttl": 0, "x-max-length": 0, "x-max-length-bytes": 0, "x-max-priority": 255},
    {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "k", "x-overflow": "reject-publish-dlx"},
    {"x-queue-mode": "lazy", "x-queue-version": 2, "x-queue-type": "classic", "x-single-active-consumer": True},
    {"x-nobody-knows": 1},
])
def test_classic_queues_accept(channel, name, arguments):
    assert channel.queue_declare(name(), exclusive=True, arguments=arguments).method.message_count == 0


@pytest.mark.parametrize("kind", [QUORUM, STREAM])
@pytest.mark.parametrize("properties, which", [
    ({}, "non-durable"),
    ({"durable": True, "auto_delete": True}, "auto-delete"),
    ({"durable": True, "exclusive": True}, "exclusive-owner"),
    ({"exclusive": True, "auto_delete": True}, "auto-delete"),
])
def test_lasting_types_are_for_good_and_for_all(channel, name, expect_close, kind, properties, which):
    queue = name()
    assert expect_close(406)(channel.queue_declare, queue, arguments=kind, **properties) == refused(queue, f"invalid property '{which}' for {{what}}")


@pytest.mark.parametrize("kind", [QUORUM, STREAM])
def test_lasting_types_need_a_name(channel, expect_close, kind):
    expected = f"PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_{kind['x-queue-type']}_queue"
    assert expect_close(406)(channel.queue_declare, "", durable=True, arguments=kind) == expected


@pytest.mark.parametrize("arguments, why", [
    ({**QUORUM, "x-max-priority": 1}, "invalid arg 'x-max-priority' for {what} of queue type rabbit_quorum_queue"),
    ({**QUORUM, "x-queue-mode": "lazy"}, "invalid arg 'x-queue-mode' for {what} of queue type rabbit_quorum_queue"),
    ({**QUORUM, "x-max-age": "1h"}, "invalid arg 'x-max-age' for {what} of queue type rabbit_quorum_queue"),
    ({**QUORUM, "x-quorum-initial-group-size": 0}, "invalid arg 'x-quorum-initial-group-size' for {what}: {{value_zero,0}}"),
    ({**QUORUM, "x-max-in-memory-length": -1}, "invalid arg 'x-max-in-memory-length' for {what}: {{value_negative,-1}}"),
    ({**QUORUM, "x-dead-letter-strategy": "always"}, "invalid arg 'x-dead-letter-strategy' for {what}: invalid_dlx_strategy"),
    ({**QUORUM, "x-queue-leader-locator": "here"}, "invalid arg 'x-queue-leader-locator' for {what}: invalid_queue_locator_arg"),
    ({**STREAM, "x-max-length": 1}, "invalid arg 'x-max-length' for {what} of queue type rabbit_stream_queue"),
    ({**STREAM, "x-expires": 1000}, "invalid arg 'x-expires' for {what} of queue type rabbit_stream_queue"),
    ({**STREAM, "x-message-ttl": 1}, "invalid arg 'x-message-ttl' for {what} of queue type rabbit_stream_queue"),
    ({**STREAM, "x-overflow": "drop-head"}, "invalid arg 'x-overflow' for {what} of queue type rabbit_stream_queue"),
    ({**STREAM, "x-dead-letter-exchange": ""}, "invalid arg 'x-dead-letter-exchange' for {what} of queue type rabbit_stream_queue"),
    ({**STREAM, "x-single-active-consumer": True}, "invalid arg 'x-single-active-consumer' for {what} of queue type rabbit_stream_queue"),
    ({**STREAM, "x-max-age": "1x"}, "invalid arg 'x-max-age' for {what}: invalid_max_age"),
    ({**STREAM, "x-max-age": "0s"}, "invalid arg 'x-max-age' for {what}: invalid_max_age"),
    ({**STREAM, "x-max-age": 5}, "invalid arg 'x-max-age' for {what}: {{unacceptable_type,signedint}}"),
    ({**STREAM, "x-initial-cluster-size": 0}, "invalid arg 'x-initial-cluster-size' for {what}: {{value_zero,0}}"),
    ({**STREAM, "x-stream-max-segment-size-bytes": -1}, "invalid arg 'x-stream-max-segment-size-bytes' for {what}: {{value_negative,-1}}"),
    ({**STREAM, "x-stream-max-segment-size-bytes": 3000000001}, "Exceeded max value for x-stream-max-segment-size-bytes"),
])
def test_other_types(channel, name, expect_close, arguments, why):
    queue = name()
    assert expect_close(406)(channel.queue_declare, queue, durable=True, arguments=arguments) == refused(queue, why)


@pytest.mark.parametrize("arguments", [
    {**QUORUM, "x-delivery-limit": 3, "x-overflow": "reject-publish", "x-dead-letter-exchange": "", "x-dead-letter-strategy": "at-least-once"},
    {**QUORUM, "x-quorum-initial-group-size": 3, "x-queue-leader-locator": "client-local", "x-max-in-memory-length": 5, "x-single-active-consumer": True},
    {**STREAM, "x-max-age": "7D", "x-max-length-bytes": 1000000, "x-stream-max-segment-size-bytes": 500000, "x-queue-leader-locator": "random"},
])
def test_other_types_accept(channel, name, arguments):
    queue = name()
    for _ in range(2):
        assert channel.queue_declare(queue, durable=True, arguments=arguments).method.queue == queue
    channel.queue_delete(queue)


@pytest.mark.parametrize("first, second, text", [
    ({"x-max-length": 5}, {"x-max-length": 6}, "'x-max-length' for {what}: received '6' but current is '5'"),
    ({"x-max-length": 5}, {}, "'x-max-length' for {what}: received none but current is the value '5' of type 'signedint'"),
    ({}, {"x-message-ttl": 5}, "'x-message-ttl' for {what}: received the value '5' of type 'signedint' but current is none"),
    ({"x-overflow": "drop-head"}, {"x-overflow": "reject-publish"}, "'x-overflow' for {what}: received 'reject-publish' but current is 'drop-head'"),
    ({"x-dead-letter-exchange": "a"}, {"x-dead-letter-exchange": "b"}, "'x-dead-letter-exchange' for {what}: received 'b' but current is 'a'"),
    ({"x-single-active-consumer": True}, {}, "'x-single-active-consumer' for {what}: received none but current is the value 'true' of type 'bool'"),
    ({"x-single-active-consumer": True}, {"x-single-active-consumer": False},
     "'x-single-active-consumer' for {what}: received 'false' but current is 'true'"),
    ({"x-max-length": 5}, {"x-max-length": "five"}, "'x-max-length' for {what}: received 'five' but current is '5'"),
    ({}, {"x-queue-type": "quorum"}, "'x-queue-type' for {what}: received the value 'quorum' of type 'longstr' but current is none"),
    ({"x-queue-version": 2}, {"x-expires": 5000, "x-queue-version": 1}, "'x-expires' for {what}: received the value '5000' of type 'signedint' but current is none"),
])
def test_inequivalent(channel, name, expect_close, first, second, text):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments=first)
    assert expect_close(406)(channel.queue_declare, queue, exclusive=True, arguments=second) == refused(queue, "inequivalent arg " + text)


@pytest.mark.parametrize("first, second", [
    ({}, {"x-queue-type": "classic"}),
    ({"x-queue-type": "classic"}, {}),
    ({"x-max-length": 5}, {"x-max-length": 5, "x-max-age": "1h"}),   # nothing that this type of queue has
    ({"x-max-length": 5}, {"x-max-length": 5, "x-nobody-knows": 5}),
])
def test_equivalent(channel, name, first, second):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments=first)
    assert channel.queue_declare(queue, exclusive=True, arguments=second).method.queue == queue


def test_integers_of_other_widths_are_the_same(channel, name):
    queue = name()
    channel.queue_declare(queue, exclusive=True, arguments={"x-message-ttl": 60000})
    assert channel.queue_declare(queue, exclusive=True, arguments={"x-message-ttl": pika.compat.long(60000)}).method.queue == queue


@pytest.mark.parametrize("arguments, why", [
    ({"x-priority": "high"}, "invalid arg 'x-priority' for {what}: \"expected integer, got longstr\""),
    ({"x-cancel-on-ha-failover": 1}, "invalid arg 'x-cancel-on-ha-failover' for {what}: {{unacceptable_type,signedint}}"),
    ({"x-stream-offset": "first"}, "invalid arg 'x-stream-offset' for {what} of queue type rabbit_classic_queue"),
])
def test_consumers(channel, queue, expect_close, arguments, why):
    assert expect_close(406)(channel.basic_consume, queue, lambda *_: None, arguments=arguments) == refused(queue, why)


def test_consumers_accept(channel, queue):
    for arguments in ({"x-priority": -5}, {"x-cancel-on-ha-failover": True}, {"x-nobody-knows": "x"}):
        assert channel.basic_consume(queue, lambda *_: None, arguments=arguments)
