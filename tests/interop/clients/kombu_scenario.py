"""kombu on py-amqp, what Celery uses."""
import os

import kombu

with kombu.Connection(os.environ["AMQP_URL"], transport_options={"confirm_publish": True}, heartbeat=10) as connection:
    exchange = kombu.Exchange("kombu-topic", "topic", durable=False, auto_delete=True)
    queue = kombu.Queue("kombu-queue", exchange, routing_key="a.*", durable=False, auto_delete=True)
    with connection.Producer(serializer="json") as producer:
        for index in range(100):
            producer.publish({"n": index, "list": [1, "x", None]}, exchange=exchange, routing_key=f"a.{index}", declare=[queue], retry=True)
    seen = []

    def on_message(body, message):
        assert body == {"n": len(seen), "list": [1, "x", None]}
        seen.append(body)
        message.ack()

    with connection.Consumer(queue, callbacks=[on_message], prefetch_count=10):
        while len(seen) < 100:
            connection.drain_events(timeout=10)
    simple = connection.SimpleQueue("kombu-simple")
    simple.put("hello")
    message = simple.get(timeout=5)
    assert message.payload == "hello"
    message.ack()
    simple.close()
    connection.default_channel.queue_delete("kombu-simple")
print("ok")
