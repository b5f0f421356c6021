import pika
def on_message(channel, method, properties, body):
    print(f"message: {body}")
def main():
    connection = pika.BlockingConnection(pika.ConnectionParameters("localhost"))
    channel = connection.channel()
    channel.queue_declare(queue="hello")
    channel.basic_consume(queue="hello", on_message_callback=on_message)
    print(" [*] waiting")
    channel.start_consuming()
if __name__ == "__main__":
    main()
