// spring-amqp (spring-rabbit): templates, listener containers, declarations as beans, retries. Each story is a method whose name says what is shown.
import java.io.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import org.springframework.amqp.*;
import org.springframework.amqp.core.*;
import org.springframework.amqp.core.Exchange;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.rabbit.annotation.*;
import org.springframework.amqp.rabbit.config.*;
import org.springframework.amqp.rabbit.connection.*;
import org.springframework.amqp.rabbit.core.*;
import org.springframework.amqp.rabbit.listener.*;
import org.springframework.amqp.rabbit.retry.*;
import org.springframework.amqp.support.converter.*;
import org.springframework.context.annotation.*;
import org.springframework.messaging.handler.annotation.*;
import org.springframework.retry.interceptor.RetryOperationsInterceptor;

public class Stories {
    static final Map<String, Story> STORIES = new LinkedHashMap<>();
    static CachingConnectionFactory factory;
    static RabbitAdmin admin;
    static RabbitTemplate template;

    interface Story { void tell() throws Exception; }

    static void same(Object found, Object expected) {
        if (!Objects.equals(found, expected)) throw new AssertionError(found + ", expected " + expected);
    }

    static <T> T next(BlockingQueue<T> inbox) throws InterruptedException {
        T found = inbox.poll(10, TimeUnit.SECONDS);
        if (found == null) throw new AssertionError("nothing came");
        return found;
    }

    static CachingConnectionFactory connect() {
        CachingConnectionFactory made = new CachingConnectionFactory();
        made.setUri(System.getenv("AMQP_URL"));
        made.setPublisherConfirmType(CachingConnectionFactory.ConfirmType.CORRELATED);
        made.setPublisherReturns(true);
        return made;
    }

    static Queue temporary(String name, Map<String, Object> arguments) {
        Queue queue = new Queue(name, false, false, false, arguments);
        admin.declareQueue(queue);
        return queue;
    }

    // A container whose listener gets every message of a queue, running when it is answered.
    static SimpleMessageListenerContainer listen(String queue, MessageListener listener) {
        SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(factory);
        container.setQueueNames(queue);
        container.setMessageListener(listener);
        container.setReceiveTimeout(100);
        container.afterPropertiesSet();
        container.start();
        return container;
    }

    // Declares what an application declares when it starts, and takes it away again.
    static void declarations() throws Exception {
        TopicExchange events = ExchangeBuilder.topicExchange("spring.events").alternate("spring.unrouted").build();
        FanoutExchange unrouted = ExchangeBuilder.fanoutExchange("spring.unrouted").build();
        Queue orders = QueueBuilder.durable("spring.orders").ttl(60_000).maxLength(1000).overflow(QueueBuilder.Overflow.rejectPublish)
            .deadLetterExchange("").deadLetterRoutingKey("spring.lost").maxPriority(10).lazy().build();
        Queue lost = QueueBuilder.durable("spring.lost").singleActiveConsumer().build();
        List.of(unrouted, events).forEach(admin::declareExchange);
        List.of(orders, lost).forEach(admin::declareQueue);
        admin.declareBinding(BindingBuilder.bind(orders).to(events).with("order.#"));
        admin.declareBinding(BindingBuilder.bind(lost).to(unrouted));
        template.convertAndSend("spring.events", "order.new", "an order");
        template.convertAndSend("spring.events", "parcel.new", "a parcel");
        same(template.receiveAndConvert("spring.orders", 5000), "an order");
        same(template.receiveAndConvert("spring.lost", 5000), "a parcel");
        Properties properties = admin.getQueueProperties("spring.orders");
        same(properties.get(RabbitAdmin.QUEUE_MESSAGE_COUNT), 0);
        same(admin.getQueueProperties("spring.none"), null);
        for (Queue queue : List.of(orders, lost)) admin.deleteQueue(queue.getName());
        for (Exchange exchange : List.of(events, unrouted)) same(admin.deleteExchange(exchange.getName()), true);
    }

    static void confirmsAndReturns() throws Exception {
        temporary("spring.confirmed", Map.of());
        BlockingQueue<ReturnedMessage> returned = new LinkedBlockingQueue<>();
        RabbitTemplate careful = new RabbitTemplate(factory);
        careful.setMandatory(true);
        careful.setReturnsCallback(returned::add);
        CorrelationData arrives = new CorrelationData("1"), comesBack = new CorrelationData("2");
        careful.convertAndSend("", "spring.confirmed", "kept", arrives);
        careful.convertAndSend("", "spring.nowhere", "lost", comesBack);
        same(arrives.getFuture().get(10, TimeUnit.SECONDS).isAck(), true);
        same(comesBack.getFuture().get(10, TimeUnit.SECONDS).isAck(), true);
        same(next(returned).getReplyCode(), 312);
        same(comesBack.getReturned().getReplyText(), "NO_ROUTE");
        CorrelationData toNobody = new CorrelationData("3");
        careful.convertAndSend("spring.no-exchange", "x", "lost", toNobody);
        same(toNobody.getFuture().get(10, TimeUnit.SECONDS).isAck(), false);
        admin.deleteQueue("spring.confirmed");
    }

    static void converters() throws Exception {
        temporary("spring.json", Map.of());
        RabbitTemplate json = new RabbitTemplate(factory);
        json.setMessageConverter(new Jackson2JsonMessageConverter());
        json.convertAndSend("spring.json", Map.of("number", 1, "list", List.of("a", "b")));
        Message message = json.receive("spring.json", 5000);
        same(message.getMessageProperties().getContentType(), "application/json");
        same(json.getMessageConverter().fromMessage(message), Map.of("number", 1, "list", List.of("a", "b")));
        template.convertAndSend("spring.json", new Date(1700000000000L));   // Serialized by Java itself.
        same(((SimpleMessageConverter) template.getMessageConverter()).toMessage("x", new MessageProperties()).getBody().length, 1);
        same(template.receive("spring.json", 5000).getMessageProperties().getContentType(), "application/x-java-serialized-object");
        admin.deleteQueue("spring.json");
    }

    static void rpc() throws Exception {
        temporary("spring.questions", Map.of());
        SimpleMessageListenerContainer server = listen("spring.questions", message -> {
            MessageProperties asked = message.getMessageProperties();
            MessageProperties answer = new MessageProperties();
            answer.setCorrelationId(asked.getCorrelationId());
            template.send("", asked.getReplyTo(), new Message(("re: " + new String(message.getBody())).getBytes(), answer));
        });
        RabbitTemplate direct = new RabbitTemplate(factory);   // Over amq.rabbitmq.reply-to.
        for (int i = 0; i < 5; i++)
            same(new String((byte[]) direct.convertSendAndReceive("", "spring.questions", "question " + i)), "re: question " + i);
        RabbitTemplate temporary = new RabbitTemplate(factory);
        temporary.setUseTemporaryReplyQueues(true);
        same(new String((byte[]) temporary.convertSendAndReceive("", "spring.questions", "another")), "re: another");
        server.stop();
        admin.deleteQueue("spring.questions");
    }

    // A listener fails; it is tried three times in place, then its message goes to the dead letters.
    static void retriesThenDeadLetter() throws Exception {
        temporary("spring.dead", Map.of());
        temporary("spring.work", Map.of("x-dead-letter-exchange", "", "x-dead-letter-routing-key", "spring.dead"));
        AtomicInteger tries = new AtomicInteger();
        SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(factory);
        container.setQueueNames("spring.work");
        container.setAdviceChain((RetryOperationsInterceptor) RetryInterceptorBuilder.stateless().maxAttempts(3).backOffOptions(20, 2.0, 100)
            .recoverer(new RejectAndDontRequeueRecoverer()).build());
        container.setMessageListener(message -> {
            tries.incrementAndGet();
            throw new IllegalStateException("no");
        });
        container.setErrorHandler(error -> new ConditionalRejectingErrorHandler().handleError(error));
        container.afterPropertiesSet();
        container.start();
        template.convertAndSend("spring.work", "poison");
        Message dead = template.receive("spring.dead", 10_000);
        container.stop();
        Map<String, ?> death = dead.getMessageProperties().getXDeathHeader().get(0);
        same(List.of(tries.get(), death.get("queue"), death.get("reason"), death.get("count")), List.of(3, "spring.work", "rejected", 1L));
        for (String queue : List.of("spring.work", "spring.dead")) admin.deleteQueue(queue);
    }

    // The same in the broker: each failure goes to a waiting queue that gives it back after 100 ms.
    static void retryLadder() throws Exception {
        temporary("spring.wait", Map.of("x-message-ttl", 100, "x-dead-letter-exchange", "", "x-dead-letter-routing-key", "spring.task"));
        temporary("spring.task", Map.of("x-dead-letter-exchange", "", "x-dead-letter-routing-key", "spring.wait"));
        BlockingQueue<Long> counts = new LinkedBlockingQueue<>();
        SimpleMessageListenerContainer container = listen("spring.task", message -> {
            List<Map<String, ?>> deaths = message.getMessageProperties().getXDeathHeader();
            long count = deaths == null ? 0 : (Long) deaths.get(0).get("count");
            counts.add(count);
            if (count < 3) throw new AmqpRejectAndDontRequeueException("try " + count);
        });
        template.convertAndSend("spring.task", "fails three times");
        same(List.of(next(counts), next(counts), next(counts), next(counts)), List.of(0L, 1L, 2L, 3L));
        container.stop();
        for (String queue : List.of("spring.task", "spring.wait")) admin.deleteQueue(queue);
    }

    static void expiryAndPriorities() throws Exception {
        temporary("spring.ranked", Map.of("x-max-priority", 10));
        for (int priority : new int[] {1, 10, 5})
            template.convertAndSend("spring.ranked", "" + priority, message -> {
                message.getMessageProperties().setPriority(priority);
                return message;
            });
        template.convertAndSend("spring.ranked", "too late", message -> {
            message.getMessageProperties().setPriority(10);
            message.getMessageProperties().setExpiration("30");
            return message;
        });
        Thread.sleep(200);
        List<Object> found = new ArrayList<>();
        for (int i = 0; i < 3; i++) found.add(template.receiveAndConvert("spring.ranked", 5000));
        same(found, List.of("10", "5", "1"));
        same(template.receive("spring.ranked"), null);
        admin.deleteQueue("spring.ranked");
    }

    static void directContainer() throws Exception {
        temporary("spring.direct", Map.of());
        BlockingQueue<String> inbox = new LinkedBlockingQueue<>();
        DirectMessageListenerContainer container = new DirectMessageListenerContainer(factory);
        container.setQueueNames("spring.direct");
        container.setConsumersPerQueue(3);
        container.setPrefetchCount(2);
        container.setAcknowledgeMode(AcknowledgeMode.MANUAL);
        container.setMessageListener((ChannelListener) (message, channel) -> {
            channel.basicAck(message.getMessageProperties().getDeliveryTag(), false);
            inbox.add(new String(message.getBody()));
        });
        container.afterPropertiesSet();
        container.start();
        Set<String> expected = new TreeSet<>(), seen = new TreeSet<>();
        for (int i = 0; i < 50; i++) {
            expected.add("m" + i);
            template.convertAndSend("spring.direct", "m" + i);
        }
        for (int i = 0; i < 50; i++) seen.add(next(inbox));
        same(seen, expected);
        container.stop();
        same(admin.getQueueInfo("spring.direct").getMessageCount(), 0);
        admin.deleteQueue("spring.direct");
    }

    interface ChannelListener extends org.springframework.amqp.rabbit.listener.api.ChannelAwareMessageListener { }

    static void channelTransactions() throws Exception {
        temporary("spring.transacted", Map.of());
        CachingConnectionFactory plain = new CachingConnectionFactory();
        plain.setUri(System.getenv("AMQP_URL"));
        RabbitTemplate transacted = new RabbitTemplate(plain);
        transacted.setChannelTransacted(true);
        transacted.execute(channel -> {
            channel.basicPublish("", "spring.transacted", null, "undone".getBytes());
            channel.txRollback();
            channel.basicPublish("", "spring.transacted", null, "done".getBytes());
            channel.txCommit();
            return null;
        });
        same(new String(template.receive("spring.transacted", 5000).getBody()), "done");
        same(template.receive("spring.transacted"), null);
        plain.destroy();
        admin.deleteQueue("spring.transacted");
    }

    static void streamQueue() throws Exception {
        admin.declareQueue(QueueBuilder.durable("spring.stream").stream().build());
        template.invoke(sender -> {   // On one channel, so in order.
            for (int i = 0; i < 10; i++) sender.convertAndSend("spring.stream", "m" + i);
            return null;
        });
        BlockingQueue<String> inbox = new LinkedBlockingQueue<>();
        SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(factory);
        container.setQueueNames("spring.stream");
        container.setPrefetchCount(5);
        container.setConsumerArguments(Map.of("x-stream-offset", "first"));
        container.setMessageListener(message -> inbox.add(message.getMessageProperties().getHeader("x-stream-offset") + " " + new String(message.getBody())));
        container.afterPropertiesSet();
        container.start();
        for (int i = 0; i < 10; i++) same(next(inbox), i + " m" + i);
        container.stop();
        admin.deleteQueue("spring.stream");
    }

    // Listeners as annotated methods, declarations as beans: what most applications look like.
    @Configuration(proxyBeanMethods = false)
    @EnableRabbit
    static class Application {
        static final BlockingQueue<String> SEEN = new LinkedBlockingQueue<>();

        @Bean CachingConnectionFactory connectionFactory() { return connect(); }
        @Bean RabbitTemplate rabbitTemplate(CachingConnectionFactory factory) { return new RabbitTemplate(factory); }
        @Bean RabbitAdmin rabbitAdmin(CachingConnectionFactory factory) { return new RabbitAdmin(factory); }

        @Bean Declarables declarables() {
            Queue queue = new Queue("spring.annotated", false, true, true);
            HeadersExchange exchange = new HeadersExchange("spring.by-headers", false, true);
            return new Declarables(queue, exchange, BindingBuilder.bind(queue).to(exchange).whereAny(Map.of("kind", "a", "colour", "red")).match());
        }

        @Bean SimpleRabbitListenerContainerFactory rabbitListenerContainerFactory(CachingConnectionFactory factory) {
            SimpleRabbitListenerContainerFactory made = new SimpleRabbitListenerContainerFactory();
            made.setConnectionFactory(factory);
            made.setPrefetchCount(10);
            return made;
        }

        @RabbitListener(queues = "spring.annotated")
        void red(String body, @Header("colour") String colour) {
            SEEN.add(body + " is " + colour);
        }

        @RabbitListener(bindings = @QueueBinding(value = @org.springframework.amqp.rabbit.annotation.Queue(exclusive = "true", autoDelete = "true"),
            exchange = @org.springframework.amqp.rabbit.annotation.Exchange(value = "spring.greetings", autoDelete = "true"), key = "hello"))
        String answer(String name) {
            return "Hello, " + name;
        }
    }

    static void annotatedListeners() throws Exception {
        try (AnnotationConfigApplicationContext application = new AnnotationConfigApplicationContext(Application.class)) {
            RabbitTemplate sender = application.getBean(RabbitTemplate.class);
            sender.convertAndSend("spring.by-headers", "", "the rose", message -> {
                message.getMessageProperties().setHeader("colour", "red");
                return message;
            });
            same(next(Application.SEEN), "the rose is red");
            same(sender.convertSendAndReceive("spring.greetings", "hello", "Ada"), "Hello, Ada");
        }
    }

    static void errors() throws Exception {
        temporary("spring.plain", Map.of());
        try {
            admin.declareQueue(new Queue("spring.plain", false, false, false, Map.of("x-message-ttl", 1)));
            throw new AssertionError("406 was expected");
        } catch (AmqpIOException error) {
            same(error.getCause().getCause().getMessage().contains("reply-code=406"), true);
        }
        CachingConnectionFactory wrong = connect();
        wrong.setUri(System.getenv("AMQP_URL").replace("guest:guest", "guest:wrong"));
        try {
            wrong.createConnection();
            throw new AssertionError("it let us in");
        } catch (AmqpAuthenticationException expected) { }
        wrong.destroy();
        admin.deleteQueue("spring.plain");
    }

    // The container comes back with its broker, and what it listens to is declared again.
    static void recovery() throws Exception {
        admin.declareQueue(new Queue("spring.durable"));
        BlockingQueue<String> inbox = new LinkedBlockingQueue<>();
        SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(factory);
        container.setQueueNames("spring.durable");
        container.setRecoveryInterval(200);
        container.setMessageListener(message -> inbox.add(new String(message.getBody())));
        container.afterPropertiesSet();
        container.start();
        template.convertAndSend("spring.durable", "before");
        same(next(inbox), "before");
        System.out.println("restart");
        new BufferedReader(new InputStreamReader(System.in)).readLine();
        for (int tries = 0; ; tries++) {
            try {
                template.convertAndSend("spring.durable", "after");
                break;
            } catch (AmqpException stillAway) {
                if (tries == 50) throw stillAway;
                Thread.sleep(200);
            }
        }
        same(next(inbox), "after");
        container.stop();
        admin.deleteQueue("spring.durable");
    }

    public static void main(String[] names) throws Exception {
        java.util.logging.LogManager.getLogManager().reset();   // Spring writes what it recovers from.
        factory = connect();
        admin = new RabbitAdmin(factory);
        template = new RabbitTemplate(factory);
        STORIES.put("declarations", Stories::declarations);
        STORIES.put("confirms-and-returns", Stories::confirmsAndReturns);
        STORIES.put("converters", Stories::converters);
        STORIES.put("direct-reply-to", Stories::rpc);
        STORIES.put("retries-then-dead-letter", Stories::retriesThenDeadLetter);
        STORIES.put("retry-ladder", Stories::retryLadder);
        STORIES.put("expiry-and-priorities", Stories::expiryAndPriorities);
        STORIES.put("direct-container", Stories::directContainer);
        STORIES.put("transactions", Stories::channelTransactions);
        STORIES.put("stream", Stories::streamQueue);
        STORIES.put("annotated-listeners", Stories::annotatedListeners);
        STORIES.put("errors", Stories::errors);
        STORIES.put("recovery", Stories::recovery);
        for (String name : STORIES.keySet())
            if (names.length == 0 || List.of(names).contains(name)) outcome(name);
        System.exit(0);
    }

    static void outcome(String name) {
        try {
            STORIES.get(name).tell();
            System.out.println("ok " + name);
        } catch (Throwable trouble) {
            List<String> lines = new ArrayList<>();
            for (StackTraceElement frame : trouble.getStackTrace())
                if ("Stories.java".equals(frame.getFileName())) lines.add(0, "" + frame.getLineNumber());
            Throwable cause = trouble;
            while (cause.getCause() != null) cause = cause.getCause();
            System.out.println("FAILED " + name + ": line " + String.join(" > ", lines) + ": " + (trouble + " / " + cause).replaceAll("\\s+", " "));
        }
    }
}
