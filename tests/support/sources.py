"""A broker's sources over HTTP, and what they publish."""
import pika
import requests


class Sources:
    def __init__(self, broker):
        self.broker = broker

    @property
    def url(self):
        return f"http://127.0.0.1:{self.broker.http_port}/sources"

    def make(self, code=201, auth=None, said=None, **members):
        answer = requests.post(self.url, json=members, auth=auth, headers=said)
        assert answer.status_code == code, answer.text
        return answer.json()

    def get(self, id_, code=200):
        answer = requests.get(f"{self.url}/{id_}")
        assert answer.status_code == code, answer.text
        return answer.json()

    def status(self, id_):
        return self.get(id_)["status"] or {}

    def patch(self, id_, code=200, **members):
        answer = requests.patch(f"{self.url}/{id_}", json=members)
        assert answer.status_code == code, answer.text
        return answer.json()

    def delete(self, id_, code=204):
        answer = requests.delete(f"{self.url}/{id_}")
        assert answer.status_code == code, answer.text


class Queue:
    """What comes to the exchange `events`."""

    def __init__(self, broker, pattern, name):
        self.broker, self.name, self.got = broker, name, []
        with self.connect() as connection:
            channel = connection.channel()
            channel.exchange_declare("events", "topic", durable=True)
            channel.queue_declare(name, durable=True)
            channel.queue_bind(name, "events", pattern)

    def connect(self):
        return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", self.broker.port))

    def take(self):
        with self.connect() as connection:
            channel = connection.channel()
            while True:
                method, properties, body = channel.basic_get(self.name, auto_ack=True)
                if method is None:
                    return self.got
                self.got.append((method.routing_key, properties, body.decode()))

    def bodies(self):
        return [body for _, _, body in self.take()]


def put(broker, queue, numbers):
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port)) as connection:
        channel = connection.channel()
        channel.tx_select()          # all on disk at once: thousands of confirms take a busy disk minutes
        for number in numbers:
            channel.basic_publish("", queue, str(number), pika.BasicProperties(message_id=f"m{number}", delivery_mode=2))
        channel.tx_commit()


def left(broker, queue):
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port)) as connection:
        return connection.channel().queue_declare(queue, passive=True).method.message_count
