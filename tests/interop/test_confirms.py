"""Publisher confirms and transactions."""
import pika
import pika.spec as spec
import pytest


def acks(w, until):
    """Delivery tags that basic.ack covers, up to a tag."""
    covered, highest = [], 0
    while highest < until:
        ack = w.expect(spec.Basic.Ack)
        covered.append((ack.delivery_tag, ack.multiple))
        highest = max(highest, ack.delivery_tag)
    return covered


def settled(covered, count):
    done, low = set(), 1
    for tag, multiple in covered:
        assert 1 <= tag <= count
        done |= set(range(low, tag + 1)) if multiple else {tag}
        if multiple:
            low = tag + 1
    return done == set(range(1, count + 1))


@pytest.mark.parametrize("durable, mode", [(False, 1), (True, 1), (True, 2)])
@pytest.mark.parametrize("count", [1, 1000])
def test_each_publish_is_confirmed(wire, name, durable, mode, count):
    w, queue = wire(), name()
    w.send(1, spec.Queue.Declare(queue=queue, durable=durable))
    w.expect(spec.Queue.DeclareOk)
    w.send(1, spec.Confirm.Select())
    w.expect(spec.Confirm.SelectOk)
    for index in range(count):
        w.publish(1, queue, b"body %d" % index, properties=spec.BasicProperties(delivery_mode=mode))
    covered = []
    while not settled(covered, count):
        ack = w.expect(spec.Basic.Ack)
        covered.append((ack.delivery_tag, ack.multiple))
    w.send(1, spec.Queue.Delete(queue=queue))
    assert w.expect(spec.Queue.DeleteOk).message_count == count


def test_confirms_start_at_one_after_select(wire, name):
    w, queue = wire(), name()
    w.send(1, spec.Queue.Declare(queue=queue, exclusive=True))
    w.expect(spec.Queue.DeclareOk)
    w.publish(1, queue, b"before")
    w.send(1, spec.Confirm.Select())
    w.expect(spec.Confirm.SelectOk)
    w.send(1, spec.Confirm.Select())
    w.expect(spec.Confirm.SelectOk)
    w.publish(1, queue, b"after")
    assert w.expect(spec.Basic.Ack).delivery_tag == 1


def test_unroutable_is_confirmed_and_mandatory_returned_first(wire):
    w = wire()
    w.send(1, spec.Confirm.Select())
    w.expect(spec.Confirm.SelectOk)
    w.publish(1, "nobody here", b"x")
    assert w.expect(spec.Basic.Ack).delivery_tag == 1
    w.publish(1, "nobody here", b"x", mandatory=True)
    back = w.expect(spec.Basic.Return)
    assert (back.reply_code, back.reply_text) == (312, "NO_ROUTE")
    w.receive_frame(), w.receive_frame()
    assert w.expect(spec.Basic.Ack).delivery_tag == 2


def test_fanout_is_confirmed_once(wire, name):
    w, exchange = wire(), name()
    w.send(1, spec.Exchange.Declare(exchange=exchange, type="fanout", auto_delete=True))
    w.expect(spec.Exchange.DeclareOk)
    for index in range(10):
        w.send(1, spec.Queue.Declare(queue=f"{exchange}-{index}", exclusive=True, durable=index % 2 == 0))
        w.expect(spec.Queue.DeclareOk)
        w.send(1, spec.Queue.Bind(queue=f"{exchange}-{index}", exchange=exchange))
        w.expect(spec.Queue.BindOk)
    w.send(1, spec.Confirm.Select())
    w.expect(spec.Confirm.SelectOk)
    w.publish(1, "", b"x", exchange=exchange, properties=spec.BasicProperties(delivery_mode=2))
    assert w.expect(spec.Basic.Ack).delivery_tag == 1
    w.send(1, spec.Queue.Declare(queue=f"{exchange}-9", passive=True))
    assert w.expect(spec.Queue.DeclareOk).message_count == 1


def test_confirm_comes_without_waiting_for_the_consumer(channel, queue):
    channel.basic_consume(queue, lambda *_: None)
    channel.confirm_delivery()
    for _ in range(10):
        channel.basic_publish("", queue, b"x", mandatory=True)


def test_confirm_after_transaction_is_refused(channel, expect_close):
    channel.tx_select()
    expect_close(406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode")(channel.confirm_delivery)


def test_transaction_after_confirm_is_refused(channel, expect_close):
    channel.confirm_delivery()
    expect_close(406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode")(channel.tx_select)


@pytest.mark.parametrize("verb", ["tx_commit", "tx_rollback"])
def test_transaction_verbs_need_select(channel, expect_close, verb):
    expect_close(406, "PRECONDITION_FAILED - channel is not transactional")(getattr(channel, verb))


def test_transaction_publishes_on_commit(connection, channel, queue):
    other = connection.channel()
    channel.tx_select()
    channel.tx_select()
    for body in (b"1", b"2"):
        channel.basic_publish("", queue, body)
    channel.tx_rollback()
    for body in (b"3", b"4"):
        channel.basic_publish("", queue, body)
    assert other.basic_get(queue) == (None, None, None)
    channel.tx_commit()
    assert [other.basic_get(queue, auto_ack=True)[2] for _ in range(3)] == [b"3", b"4", None]


def test_transaction_publishes_persistently(connection, channel, name):
    queue = name()
    channel.queue_declare(queue, durable=True)
    channel.tx_select()
    for index in range(100):
        channel.basic_publish("", queue, b"%d" % index, pika.BasicProperties(delivery_mode=2))
    channel.tx_commit()
    other = connection.channel()
    assert [other.basic_get(queue, auto_ack=True)[2] for _ in range(100)] == [b"%d" % index for index in range(100)]
    other.queue_delete(queue)


def test_transaction_acks_on_commit(connect, name):
    first, queue = connect(), name()
    channel = first.channel()
    channel.queue_declare(queue)
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", queue, body)
    channel.tx_select()
    tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(3)]
    channel.basic_ack(tags[0])
    channel.tx_commit()
    channel.basic_ack(tags[1])
    channel.tx_rollback()
    # What a rollback gave back may be acknowledged again.
    channel.basic_ack(tags[1])
    channel.tx_commit()
    channel.basic_ack(tags[2])
    first.close()
    channel = connect().channel()
    method, _, body = channel.basic_get(queue, auto_ack=True)
    assert (body, method.redelivered) == (b"3", True)
    assert channel.basic_get(queue) == (None, None, None)
    channel.queue_delete(queue)


def test_transaction_is_forgotten_with_its_channel(connection, queue):
    channel = connection.channel()
    channel.tx_select()
    channel.basic_publish("", queue, b"never")
    channel.close()
    assert connection.channel().basic_get(queue) == (None, None, None)


def test_transaction_reject_with_requeue_on_commit(connection, channel, queue):
    other = connection.channel()
    other.confirm_delivery()
    other.basic_publish("", queue, b"x")
    channel.tx_select()
    method = channel.basic_get(queue)[0]
    channel.basic_nack(method.delivery_tag, requeue=True)
    assert other.basic_get(queue) == (None, None, None)
    channel.tx_commit()
    method, _, body = other.basic_get(queue, auto_ack=True)
    assert (body, method.redelivered) == (b"x", True)


def test_mandatory_in_a_transaction_is_returned_on_commit(connection, channel):
    seen = []
    channel.add_on_return_callback(lambda *arguments: seen.append(arguments))
    channel.tx_select()
    channel.basic_publish("", "nobody here", b"x", mandatory=True)
    connection.process_data_events(0.1)
    assert not seen
    channel.tx_commit()
    connection.process_data_events(0.1)
    assert len(seen) == 1


def test_publish_to_missing_exchange_in_a_transaction(channel, expect_close):
    channel.tx_select()
    channel.basic_publish("no such exchange", "", b"x")
    expect_close(404)(channel.tx_commit)
