import pika
connection = pika.BlockingConnection(pika.ConnectionParameters('localhost'))
channel = connection.channel()
channel.queue_declare(queue='hello')
properties = pika.BasicProperties(delivery_mode=2)
channel.basic_publish(exchange='', routing_key='hello', body='Hello World!', properties=properties)
print(" [x] Sent 'Hello World!'")
connection.close()
