// RabbitMQ's own client for Java.
import com.rabbitmq.client.*;
import java.util.*;
import java.util.concurrent.*;

public class Scenario {
    static void check(boolean condition, String what) {
        if (!condition) throw new AssertionError(what);
    }

    public static void main(String[] arguments) throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(System.getenv("AMQP_URL"));
        factory.setAutomaticRecoveryEnabled(false);
        try (Connection connection = factory.newConnection()) {
            Channel channel = connection.createChannel();
            channel.confirmSelect();
            String queue = channel.queueDeclare("", false, true, true, Map.of("x-note", "java")).getQueue();
            channel.exchangeDeclare("java-direct", "direct", false, true, null);
            channel.queueBind(queue, "java-direct", "key");
            AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().deliveryMode(2).contentType("text/plain")
                .timestamp(new Date(1700000000000L)).headers(Map.of("long", 1L << 40, "bool", true, "list", List.of("a", 2, 1.5))).build();
            for (int i = 0; i < 200; i++)
                channel.basicPublish("java-direct", "key", properties, ("m" + i).getBytes());
            channel.waitForConfirmsOrDie(10000);
            channel.basicQos(20);
            BlockingQueue<Delivery> inbox = new LinkedBlockingQueue<>();
            channel.basicConsume(queue, false, (tag, delivery) -> inbox.add(delivery), tag -> { });
            for (int i = 0; i < 200; i++) {
                Delivery delivery = inbox.poll(10, TimeUnit.SECONDS);
                check(new String(delivery.getBody()).equals("m" + i), "order");
                check(delivery.getProperties().getHeaders().get("long").equals(1L << 40), "header");
                check(delivery.getProperties().getTimestamp().getTime() == 1700000000000L, "timestamp");
                channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
            }
            Channel broken = connection.createChannel();
            try {
                broken.queueDeclarePassive("no such queue");
                check(false, "404");
            } catch (java.io.IOException error) {
                check(((ShutdownSignalException) error.getCause()).getReason().toString().contains("404"), "404");
            }
            check(connection.createChannel().isOpen(), "another channel");
        }
        System.out.println("ok");
    }
}
