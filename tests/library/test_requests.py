"""Requests between programs with the library and clients that know nothing of it."""
import threading

import pika
import pytest

from conftest import uri


def ask(broker, numbers, exchange="events", key="square", **properties):
    """As pika's users do it: the pseudo-queue for direct replies, or a queue of one's own. Answers the replies, by correlation id."""
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port))
    channel = connection.channel()
    replies = {}
    reply_to = properties.get("reply_to") or "amq.rabbitmq.reply-to"
    if reply_to != "amq.rabbitmq.reply-to":
        channel.queue_declare(reply_to, exclusive=True)

    def on_reply(channel, method, reply, body):
        replies[reply.correlation_id] = body.decode()

    channel.basic_consume(reply_to, on_reply, auto_ack=True)
    for number in numbers:
        channel.basic_publish(exchange, key, str(number), pika.BasicProperties(reply_to=reply_to, correlation_id=f"c{number}"))
    for _ in range(100):
        if len(replies) == len(numbers):
            break
        connection.process_data_events(time_limit=0.1)
    connection.close()
    return replies


@pytest.mark.parametrize("reply_to", ["amq.rabbitmq.reply-to", "my-replies"])
def test_clients_are_replied_to(build, start, broker, reply_to):
    server = start(build("tests/library/requests.c"), uri(broker), "serve")
    server.wait_for(lambda lines: any("connected to" in line for line in lines))
    assert ask(broker, range(1, 21), reply_to=reply_to) == {f"c{number}": str(number * number) for number in range(1, 21)}
    # One whose client has gone is none that a handler could do anything about.
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port))
    channel = connection.channel()
    channel.basic_publish("events", "square", "3", pika.BasicProperties(reply_to="nobody-is-there", correlation_id="c"))
    channel.basic_publish("events", "square", "4", pika.BasicProperties(content_type="text/plain"))
    connection.close()
    server.wait_for(lambda lines: "nobody waits for a reply to this event" in lines)
    assert ask(broker, [5], reply_to=reply_to) == {"c5": "25"}
    assert server.stop() == 0


def test_clients_reply(build, run, broker):
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port))
    channel = connection.channel()
    channel.exchange_declare("events", "topic", durable=True)
    channel.queue_declare("cubes", durable=True)
    channel.queue_bind("cubes", "events", "cube")

    def on_cube(channel, method, asked, body):
        channel.basic_publish("", asked.reply_to, str(int(body) ** 3), pika.BasicProperties(correlation_id=asked.correlation_id))
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume("cubes", on_cube)
    over = threading.Event()

    def serve():
        while not over.is_set():
            connection.process_data_events(time_limit=0.05)
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        said = run(build("tests/library/requests.c"), uri(broker), "ask", "cube", "7")
        assert [line for line in said if not line.startswith("notice")] == ["343"]
        said = run(build("tests/library/requests.c"), uri(broker), "ask", "root", "7")
        assert [line for line in said if not line.startswith("notice")] == ["refused"]
    finally:
        over.set()
        thread.join()
