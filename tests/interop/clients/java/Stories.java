// com.rabbitmq:amqp-client, RabbitMQ's own client for Java. Each story is a method whose name says what is shown.
import com.rabbitmq.client.*;
import java.io.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;

public class Stories {
    static final String URL = System.getenv("AMQP_URL");
    static final Map<String, Story> STORIES = new LinkedHashMap<>();

    interface Story { void tell() throws Exception; }
    interface ChannelStory { void tell(Connection connection, Channel channel) throws Exception; }
    interface Call { void on(Channel channel) throws Exception; }

    static ConnectionFactory factory() throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(URL);
        factory.setAutomaticRecoveryEnabled(false);
        return factory;
    }

    // A story with a channel in confirm mode, of a connection of its own, which is closed when the story ends.
    static void withChannel(String name, ChannelStory story) {
        STORIES.put(name, () -> {
            try (Connection connection = factory().newConnection()) {
                Channel channel = connection.createChannel();
                channel.confirmSelect();
                story.tell(connection, channel);
            }
        });
    }

    static void same(Object found, Object expected) {
        if (!Objects.equals(found, expected)) throw new AssertionError(found + ", expected " + expected);
    }

    static AMQP.BasicProperties.Builder properties() {
        return new AMQP.BasicProperties.Builder();
    }

    static String mine(Channel channel, String name, Map<String, Object> arguments) throws IOException {
        return channel.queueDeclare(name, false, true, false, arguments).getQueue();
    }

    static String mine(Channel channel) throws IOException {
        return mine(channel, "", Map.of());
    }

    // Publishes and waits: true when it was confirmed.
    static boolean send(Channel channel, String exchange, String key, String body, AMQP.BasicProperties properties) throws Exception {
        channel.basicPublish(exchange, key, properties, body.getBytes());
        return channel.waitForConfirms(10_000);
    }

    static boolean send(Channel channel, String queue, String body) throws Exception {
        return send(channel, "", queue, body, null);
    }

    // The next message, waiting a little for it, unacknowledged.
    static GetResponse get(Channel channel, String queue) throws Exception {
        for (int tries = 0; tries < 250; tries++, Thread.sleep(20)) {
            GetResponse response = channel.basicGet(queue, false);
            if (response != null) return response;
        }
        throw new AssertionError(queue + " stays empty");
    }

    static String body(GetResponse response) {
        return new String(response.getBody());
    }

    static List<String> bodies(Channel channel, String queue, int count) throws Exception {
        List<String> found = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            GetResponse response = get(channel, queue);
            channel.basicAck(response.getEnvelope().getDeliveryTag(), false);
            found.add(body(response));
        }
        return found;
    }

    static Object header(GetResponse response, String name) {
        Map<String, Object> headers = response.getProps().getHeaders();
        Object value = headers == null ? null : headers.get(name);
        return value instanceof LongString ? value.toString() : value;
    }

    @SuppressWarnings("unchecked")
    static List<String> deaths(GetResponse response) {
        return ((List<Map<String, Object>>) header(response, "x-death")).stream()
            .map(death -> death.get("queue") + " " + death.get("reason") + " " + death.get("count")).collect(Collectors.toList());
    }

    // On a channel of its own, the call must fail with this code; answers the broker's words.
    static String closes(Connection connection, int code, Call call) throws Exception {
        Channel channel = connection.createChannel();
        try {
            call.on(channel);
        } catch (IOException | AlreadyClosedException error) {
            Throwable cause = error instanceof AlreadyClosedException ? error : error.getCause();
            AMQP.Channel.Close close = (AMQP.Channel.Close) ((ShutdownSignalException) cause).getReason();
            same(close.getReplyCode(), code);
            return close.getReplyText();
        }
        throw new AssertionError(code + " was expected");
    }

    static BlockingQueue<Delivery> listen(Channel channel, String queue, boolean autoAck, Map<String, Object> arguments) throws IOException {
        BlockingQueue<Delivery> inbox = new LinkedBlockingQueue<>();
        channel.basicConsume(queue, autoAck, arguments, (tag, delivery) -> inbox.add(delivery), tag -> { });
        return inbox;
    }

    static <T> T next(BlockingQueue<T> inbox) throws InterruptedException {
        T found = inbox.poll(5, TimeUnit.SECONDS);
        if (found == null) throw new AssertionError("nothing came");
        return found;
    }

    static void topology(Connection connection, Channel channel) throws Exception {
        channel.exchangeDeclare("java.topic", BuiltinExchangeType.TOPIC, true);
        channel.exchangeDeclare("java.fanout", BuiltinExchangeType.FANOUT, true);
        String queue = mine(channel);
        channel.queueBind(queue, "java.topic", "*.rain");
        channel.exchangeBind("java.topic", "java.fanout", "");
        send(channel, "java.fanout", "paris.rain", "wet", null);
        send(channel, "java.fanout", "paris.sun", "dry", null);
        same(bodies(channel, queue, 1), List.of("wet"));
        closes(connection, 406, broken -> broken.exchangeDelete("java.topic", true));
        channel.exchangeUnbind("java.topic", "java.fanout", "");
        channel.queueUnbind(queue, "java.topic", "*.rain");
        channel.exchangeDelete("java.topic", true);
        channel.exchangeDelete("java.fanout", true);
        same(channel.messageCount(queue), 0L);
        same(channel.queueDelete(queue, true, true).getMessageCount(), 0);
    }

    static void confirms(Connection connection, Channel channel) throws Exception {
        String queue = mine(channel);
        Map<String, Object> headers = new HashMap<>(Map.of("long", 1L << 40, "bool", true, "list", List.of("a", 2, 1.5), "map", Map.of("k", 1)));
        headers.put("nothing", null);
        AMQP.BasicProperties properties = properties().deliveryMode(2).timestamp(new Date(1700000000000L)).headers(headers).build();
        for (int i = 0; i < 200; i++) channel.basicPublish("", queue, properties, ("m" + i).getBytes());
        channel.waitForConfirmsOrDie(10_000);
        GetResponse first = get(channel, queue);
        same(body(first), "m0");
        same(header(first, "long"), 1L << 40);
        same(((List<?>) header(first, "list")).size(), 3);
        same(first.getProps().getTimestamp(), new Date(1700000000000L));
        same(channel.messageCount(queue), 199L);
    }

    static void returns(Connection connection, Channel channel) throws Exception {
        BlockingQueue<Return> back = new LinkedBlockingQueue<>();
        channel.addReturnListener((ReturnCallback) back::add);
        channel.basicPublish("", "java.nowhere", true, null, "back to me".getBytes());
        same(channel.waitForConfirms(5000), true);
        Return returned = next(back);
        same(List.of(returned.getReplyCode(), returned.getReplyText(), new String(returned.getBody())), List.of(312, "NO_ROUTE", "back to me"));
    }

    static void acknowledgements(Connection connection, Channel channel) throws Exception {
        String queue = mine(channel);
        for (String body : List.of("a", "b", "c", "d")) send(channel, queue, body);
        long[] tags = new long[4];
        for (int i = 0; i < 4; i++) tags[i] = get(channel, queue).getEnvelope().getDeliveryTag();
        channel.basicAck(tags[0], false);
        channel.basicNack(tags[1], false, true);
        channel.basicReject(tags[2], false);
        channel.basicReject(tags[3], true);
        GetResponse b = get(channel, queue), d = get(channel, queue);
        same(body(b) + b.getEnvelope().isRedeliver() + body(d) + d.getEnvelope().isRedeliver(), "btruedtrue");
        channel.basicRecover(true);
        same(bodies(channel, queue, 2), List.of("b", "d"));
    }

    static void prefetch(Connection connection, Channel channel) throws Exception {
        String queue = mine(channel);
        for (int i = 0; i < 10; i++) send(channel, queue, "m" + i);
        channel.basicQos(3);
        BlockingQueue<Delivery> inbox = listen(channel, queue, false, Map.of());
        next(inbox);
        Delivery second = next(inbox);
        next(inbox);
        same(inbox.poll(200, TimeUnit.MILLISECONDS), null);
        channel.basicAck(second.getEnvelope().getDeliveryTag(), true);
        next(inbox);
        next(inbox);
        same(inbox.poll(200, TimeUnit.MILLISECONDS), null);
    }

    static void retryLadder(Connection connection, Channel channel) throws Exception {
        String work = mine(channel, "java.work", Map.of("x-dead-letter-exchange", "", "x-dead-letter-routing-key", "java.wait"));
        mine(channel, "java.wait", Map.of("x-message-ttl", 100, "x-dead-letter-exchange", "", "x-dead-letter-routing-key", work));
        send(channel, "", work, "fails twice", properties().deliveryMode(2).headers(Map.of("mine", "1")).build());
        for (int i = 0; i < 2; i++) channel.basicNack(get(channel, work).getEnvelope().getDeliveryTag(), false, false);
        GetResponse response = get(channel, work);
        same(deaths(response), List.of("java.wait expired 2", "java.work rejected 2"));
        same(List.of(header(response, "mine"), header(response, "x-first-death-queue"), header(response, "x-first-death-reason")),
            List.of("1", "java.work", "rejected"));
    }

    static void priorities(Connection connection, Channel channel) throws Exception {
        String queue = mine(channel, "", Map.of("x-max-priority", 10));
        for (int priority : new int[] {1, 10, 5, 10}) send(channel, "", queue, "" + priority, properties().priority(priority).build());
        same(bodies(channel, queue, 4), List.of("10", "10", "5", "1"));
    }

    static void alternateExchange(Connection connection, Channel channel) throws Exception {
        String queue = mine(channel);
        channel.exchangeDeclare("java.unrouted", "fanout", false, true, null);
        channel.queueBind(queue, "java.unrouted", "");
        channel.exchangeDeclare("java.routed", "direct", false, false, Map.of("alternate-exchange", "java.unrouted"));
        send(channel, "java.routed", "no such key", "caught", null);
        same(bodies(channel, queue, 1), List.of("caught"));
        channel.exchangeDelete("java.routed");
    }

    static void carbonCopies(Connection connection, Channel channel) throws Exception {
        String first = mine(channel), second = mine(channel), third = mine(channel);
        send(channel, "", first, "to three", properties().headers(Map.of("CC", List.of(second), "BCC", List.of(third))).build());
        for (String queue : List.of(first, second, third))
            same(get(channel, queue).getProps().getHeaders().toString(), "{CC=[" + second + "]}");
    }

    static void headersExchange(Connection connection, Channel channel) throws Exception {
        String queue = mine(channel);
        channel.exchangeDeclare("java.by-headers", "headers", false, true, null);
        channel.queueBind(queue, "java.by-headers", "", Map.of("x-match", "all", "kind", "a", "size", 2));
        send(channel, "java.by-headers", "", "one", properties().headers(Map.of("kind", "a", "size", 3)).build());
        send(channel, "java.by-headers", "", "both", properties().headers(Map.of("kind", "a", "size", 2)).build());
        same(bodies(channel, queue, 1), List.of("both"));
        same(channel.basicGet(queue, true), null);
    }

    static void expiry(Connection connection, Channel channel) throws Exception {
        String dead = mine(channel);
        String queue = mine(channel, "", Map.of("x-dead-letter-exchange", "", "x-dead-letter-routing-key", dead));
        send(channel, "", queue, "short-lived", properties().expiration("60").build());
        GetResponse response = get(channel, dead);
        same(((Map<?, ?>) ((List<?>) header(response, "x-death")).get(0)).get("original-expiration").toString(), "60");
        same(response.getProps().getExpiration(), null);
        channel.queueDeclare("java.expires", false, false, false, Map.of("x-expires", 150));
        Thread.sleep(600);
        closes(connection, 404, broken -> broken.queueDeclarePassive("java.expires"));
    }

    static void lengthLimits(Connection connection, Channel channel) throws Exception {
        String newest = mine(channel, "", Map.of("x-max-length", 2));
        for (String body : List.of("a", "b", "c", "d")) send(channel, newest, body);
        same(bodies(channel, newest, 2), List.of("c", "d"));
        String full = mine(channel, "", Map.of("x-max-length", 1, "x-overflow", "reject-publish"));
        same(send(channel, full, "fits"), true);
        same(send(channel, full, "does not"), false);
    }

    static void deliveryLimit(Connection connection, Channel channel) throws Exception {
        String dead = mine(channel);
        channel.queueDeclare("java.quorum", true, false, false, Map.of(
            "x-queue-type", "quorum", "x-delivery-limit", 2, "x-dead-letter-exchange", "", "x-dead-letter-routing-key", dead));
        send(channel, "", "java.quorum", "poison", properties().deliveryMode(2).build());
        Channel consumer = connection.createChannel();
        BlockingQueue<Delivery> inbox = listen(consumer, "java.quorum", false, Map.of());
        List<Object> counts = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            Delivery delivery = next(inbox);
            Map<String, Object> headers = delivery.getProperties().getHeaders();
            counts.add(headers == null ? null : headers.get("x-delivery-count"));
            consumer.basicNack(delivery.getEnvelope().getDeliveryTag(), false, true);
        }
        same(counts, Arrays.asList(null, 1L, 2L));
        same(deaths(get(channel, dead)), List.of("java.quorum delivery_limit 1"));
        consumer.close();
        channel.queueDelete("java.quorum");
    }

    static void singleActiveConsumer(Connection connection, Channel channel) throws Exception {
        String queue = mine(channel, "", Map.of("x-single-active-consumer", true));
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        String first = channel.basicConsume(queue, true, (tag, delivery) -> seen.add("first " + new String(delivery.getBody())), tag -> { });
        channel.basicConsume(queue, true, (tag, delivery) -> seen.add("second " + new String(delivery.getBody())), tag -> { });
        send(channel, queue, "a");
        send(channel, queue, "b");
        same(next(seen) + ", " + next(seen), "first a, first b");
        channel.basicCancel(first);
        send(channel, queue, "c");
        same(next(seen), "second c");
    }

    static void stream(Connection connection, Channel channel) throws Exception {
        channel.queueDeclare("java.stream", true, false, false, Map.of("x-queue-type", "stream"));
        for (int i = 0; i < 20; i++) send(channel, "", "java.stream", "" + i, properties().deliveryMode(2).build());
        for (Object offset : List.<Object>of("first", 15)) {
            Channel reader = connection.createChannel();
            reader.basicQos(5);
            BlockingQueue<Delivery> inbox = listen(reader, "java.stream", false, Map.of("x-stream-offset", offset));
            for (long number = offset.equals(15) ? 15 : 0; number < 20; number++) {
                Delivery delivery = next(inbox);
                same(new String(delivery.getBody()), "" + number);
                same(delivery.getProperties().getHeaders().get("x-stream-offset"), number);
                reader.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
            }
            reader.close();
        }
        channel.queueDelete("java.stream");
    }

    static void directReplyTo(Connection connection, Channel channel) throws Exception {
        String questions = mine(channel);
        Channel server = connection.createChannel();
        RpcServer answering = new StringRpcServer(server, questions) {
            @Override public String handleStringCall(String question, AMQP.BasicProperties properties) {
                return question + " = 21";
            }
        };
        Thread thread = new Thread(() -> {
            try {
                answering.mainloop();
            } catch (IOException | ShutdownSignalException closed) { }
        });
        thread.start();
        RpcClient client = new RpcClient(new RpcClientParams().channel(channel).exchange("").routingKey(questions).replyTo("amq.rabbitmq.reply-to").timeout(5000));
        same(client.stringCall("20 + 1"), "20 + 1 = 21");
        client.close();
        answering.terminateMainloop();
    }

    static void cancellation(Connection connection, Channel channel) throws Exception {
        channel.queueDeclare("java.going", false, false, false, null);
        BlockingQueue<String> cancelled = new LinkedBlockingQueue<>();
        String tag = channel.basicConsume("java.going", (consumer, delivery) -> { }, cancelled::add);
        connection.createChannel().queueDelete("java.going");
        same(next(cancelled), tag);
    }

    static void errors(Connection connection, Channel channel) throws Exception {
        same(closes(connection, 404, broken -> broken.queueDeclarePassive("java.none")), "NOT_FOUND - no queue 'java.none' in vhost '/'");
        closes(connection, 404, broken -> broken.exchangeDeclarePassive("java.none"));
        closes(connection, 404, broken -> broken.basicConsume("java.none", (tag, delivery) -> { }, tag -> { }));
        closes(connection, 403, broken -> broken.queueDeclare("amq.mine", false, false, false, null));
        closes(connection, 403, broken -> broken.exchangeDeclare("amq.mine", "direct"));
        mine(channel, "java.locked", Map.of());
        try (Connection other = factory().newConnection()) {
            closes(other, 405, broken -> broken.queueDeclarePassive("java.locked"));
            closes(other, 405, broken -> broken.queueBind("java.locked", "amq.direct", "x"));
            closes(other, 405, broken -> broken.queuePurge("java.locked"));
        }
        mine(channel, "java.locked", Map.of());   // Declaring it again as it is does no harm.
        closes(connection, 406, broken -> broken.queueDeclare("java.wrong", false, false, false, Map.of("x-message-ttl", -1)));
        closes(connection, 406, broken -> broken.queueDeclare("java.wrong", false, false, false, Map.of("x-max-priority", 999)));
        closes(connection, 406, broken -> broken.queueDeclare("java.wrong", false, true, false, Map.of("x-queue-type", "quorum")));
        closes(connection, 406, broken -> { broken.basicAck(99, false); broken.queueDeclarePassive("java.locked"); });
        Map<String, Integer> wrongs = Map.of("%2f", 530, "guest:guest", 403);
        for (String part : wrongs.keySet()) {
            ConnectionFactory wrong = factory();
            wrong.setUri(URL.replace(part, part.equals("%2f") ? "no-such-vhost" : "guest:wrong"));
            try {
                wrong.newConnection();
                throw new AssertionError("it let us in");
            } catch (AuthenticationFailureException error) {
                same(403, wrongs.get(part));
            } catch (IOException error) {
                same(((AMQP.Connection.Close) ((ShutdownSignalException) error.getCause()).getReason()).getReplyCode(), wrongs.get(part));
            }
        }
    }

    static void consumerPriorities(Connection connection, Channel channel) throws Exception {
        String queue = mine(channel);
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        for (Map.Entry<String, Integer> consumer : Map.of("low", 1, "high", 10).entrySet()) {
            Channel own = connection.createChannel();
            own.basicQos(2);
            own.basicConsume(queue, false, Map.of("x-priority", consumer.getValue()), (tag, delivery) -> seen.add(consumer.getKey()), tag -> { });
        }
        for (int i = 0; i < 3; i++) send(channel, queue, "m" + i);
        List<String> order = List.of(next(seen), next(seen), next(seen));
        same(Collections.frequency(order, "high"), 2);   // The other comes in when the first has its hands full.
    }

    static void transactions() throws Exception {
        try (Connection connection = factory().newConnection()) {
            Channel channel = connection.createChannel();
            String queue = mine(channel);
            channel.txSelect();
            channel.basicPublish("", queue, null, "undone".getBytes());
            channel.txRollback();
            channel.basicPublish("", queue, null, "done".getBytes());
            channel.txCommit();
            same(bodies(channel, queue, 1), List.of("done"));
        }
    }

    // The client comes back by itself, with its exchanges, queues, bindings and consumers.
    static void recovery() throws Exception {
        ConnectionFactory factory = factory();
        factory.setAutomaticRecoveryEnabled(true);
        factory.setNetworkRecoveryInterval(200);
        try (Connection connection = factory.newConnection()) {
            Channel channel = connection.createChannel();
            channel.confirmSelect();
            channel.exchangeDeclare("java.recovered", "direct", false, true, null);
            String queue = mine(channel);
            channel.queueBind(queue, "java.recovered", "key");
            BlockingQueue<Delivery> inbox = listen(channel, queue, true, Map.of());
            channel.queueDeclare("java.durable", true, false, false, null);
            send(channel, "", "java.durable", "kept", properties().deliveryMode(2).build());
            CountDownLatch back = new CountDownLatch(1);
            ((Recoverable) connection).addRecoveryListener(new RecoveryListener() {
                @Override public void handleRecovery(Recoverable recovered) { back.countDown(); }
                @Override public void handleRecoveryStarted(Recoverable recovering) { }
            });
            System.out.println("restart");
            new BufferedReader(new InputStreamReader(System.in)).readLine();
            same(back.await(20, TimeUnit.SECONDS), true);
            send(channel, "java.recovered", "key", "after", null);
            same(new String(next(inbox).getBody()), "after");
            same(bodies(channel, "java.durable", 1), List.of("kept"));
            channel.queueDelete("java.durable");
        }
    }

    public static void main(String[] names) {
        withChannel("topology", Stories::topology);
        withChannel("confirms", Stories::confirms);
        withChannel("returns", Stories::returns);
        withChannel("acknowledgements", Stories::acknowledgements);
        withChannel("prefetch", Stories::prefetch);
        withChannel("retry-ladder", Stories::retryLadder);
        withChannel("priorities", Stories::priorities);
        withChannel("alternate-exchange", Stories::alternateExchange);
        withChannel("carbon-copies", Stories::carbonCopies);
        withChannel("headers-exchange", Stories::headersExchange);
        withChannel("expiry", Stories::expiry);
        withChannel("length-limits", Stories::lengthLimits);
        withChannel("delivery-limit", Stories::deliveryLimit);
        withChannel("single-active-consumer", Stories::singleActiveConsumer);
        withChannel("stream", Stories::stream);
        withChannel("direct-reply-to", Stories::directReplyTo);
        withChannel("cancellation", Stories::cancellation);
        withChannel("errors", Stories::errors);
        withChannel("consumer-priorities", Stories::consumerPriorities);
        STORIES.put("transactions", Stories::transactions);
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
            Throwable cause = trouble.getCause() == null ? trouble : trouble.getCause();
            System.out.println("FAILED " + name + ": line " + String.join(" > ", lines) + ": " + (trouble + " / " + cause).replaceAll("\\s+", " "));
        }
    }
}
