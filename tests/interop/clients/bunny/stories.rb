# bunny (Debian's ruby-bunny). Each story is a block whose name says what is shown.
require "bunny"
require "timeout"

URL = ENV.fetch("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
STORIES = {}

def story(name, &tell)
  STORIES[name] = tell
end

def connect(**more)
  Bunny.new(URL, { automatically_recover: false, logger: Logger.new(IO::NULL), continuation_timeout: 10_000, **more }).start
end

# A story with a channel of a connection of its own, which is closed when the story ends.
def with_channel(name)
  story(name) do
    connection = connect
    begin
      yield connection.create_channel
    ensure
      connection.close if connection.open?
    end
  end
end

def same(found, expected)
  raise "#{found.inspect}, expected #{expected.inspect}" unless found == expected
end

# Asks until the answer is true or time is up; answers the last answer.
def eventually(seconds = 10)
  deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + seconds
  loop do
    answer = yield
    return answer if answer || Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline
    sleep 0.02
  end
end

def get(queue, manual_ack: false)
  delivery, properties, body = eventually { (got = queue.pop(manual_ack: manual_ack))[0] && got }
  raise "#{queue.name} stays empty" unless delivery
  [delivery, properties, body]
end

def bodies(queue, count)
  (1..count).map { get(queue)[2] }
end

def mine(channel, **arguments)
  channel.queue("", exclusive: true, arguments: arguments.transform_keys { |key| key.to_s.tr("_", "-") })
end

# The block must end with this error of Bunny's; answers what the broker said.
def closes(error)
  yield
rescue error => caught
  caught.channel_close.reply_text
else
  raise "#{error} was expected"
end

with_channel("topology") do |channel|
  topic = channel.topic("bunny.topic", durable: true)
  fanout = channel.fanout("bunny.fanout", durable: true)
  queue = channel.queue("bunny.topology", durable: true).bind(topic, routing_key: "#.rain")
  topic.bind(fanout)
  fanout.publish("wet", routing_key: "paris.rain")
  fanout.publish("dry", routing_key: "paris.sun")
  same bodies(queue, 1), ["wet"]
  topic.unbind(fanout)
  queue.unbind(topic, routing_key: "#.rain")
  same queue.message_count, 0
  topic.delete(if_unused: true)
  fanout.delete(if_unused: true)
  queue.delete(if_empty: true)
end

with_channel("confirms") do |channel|
  channel.confirm_select
  queue = mine(channel)
  50.times { |number| channel.default_exchange.publish(number.to_s, routing_key: queue.name, persistent: true) }
  same channel.wait_for_confirms, true
  same [queue.message_count, channel.nacked_set.size], [50, 0]
end

with_channel("returns") do |channel|
  back = Queue.new
  exchange = channel.default_exchange
  exchange.on_return { |info, _, body| back << [info.reply_code, info.reply_text, body] }
  exchange.publish("back to me", routing_key: "bunny.nowhere", mandatory: true)
  same Timeout.timeout(5) { back.pop }, [312, "NO_ROUTE", "back to me"]
end

with_channel("acknowledgements") do |channel|
  queue = mine(channel)
  %w[a b c d].each { |body| queue.publish(body) }
  tags = (1..4).map { get(queue, manual_ack: true)[0].delivery_tag }
  channel.ack(tags[0])
  channel.nack(tags[1], false, true)
  channel.reject(tags[2], false)
  channel.reject(tags[3], true)
  again = (1..2).map { get(queue, manual_ack: true) }
  same again.map { |delivery, _, body| [body, delivery.redelivered?] }, [["b", true], ["d", true]]
  channel.ack(again[1][0].delivery_tag, true)
  same queue.message_count, 0
end

with_channel("prefetch") do |channel|
  queue, inbox = mine(channel), []
  10.times { |number| queue.publish(number.to_s) }
  channel.prefetch(3)
  queue.subscribe(manual_ack: true) { |delivery, _, _| inbox << delivery.delivery_tag }
  sleep 0.3
  same inbox.size, 3
  channel.ack(inbox[1], true)
  sleep 0.3
  same inbox.size, 5
end

# Each worker gets what it can do, the rest waits; RabbitMQ has no filters.
with_channel("filters") do |channel|
  next unless channel.connection.server_properties["copyright"].to_s.include?("Godwit")
  queue, heavy, light = mine(channel), [], []
  20.times { |number| queue.publish(number.to_s, headers: { "region" => %w[eu us][number % 2], "weight" => number }) }
  channel.prefetch(2)
  take = lambda do |inbox|
    ->(delivery, _, body) { inbox << body.to_i; channel.ack(delivery.delivery_tag) }
  end
  queue.subscribe(manual_ack: true, arguments: { "x-filter" => "region = 'eu' AND weight >= 10" }, &take.call(heavy))
  queue.subscribe(manual_ack: true, arguments: { "x-filter" => { "region" => "us", "weight" => 3 } }, &take.call(light))
  eventually { heavy.size == 5 && light.size == 1 }
  same [heavy, light], [[10, 12, 14, 16, 18], [3]]
  same eventually { queue.message_count == 14 }, true
  queue.publish("21", headers: { "region" => "eu", "weight" => 21 })
  eventually { heavy.size == 6 }
  same [heavy.last, bodies(queue, 14).first], [21, "0"]
  same closes(Bunny::PreconditionFailed) { channel.queue(queue.name, passive: true).subscribe(arguments: { "x-filter" => "weight >" }) {} },
       "PRECONDITION_FAILED - invalid arg 'x-filter' for queue '#{queue.name}' in vhost '/': at character 9: something is missing at the end"
end

with_channel("retry-ladder") do |channel|
  work = channel.queue("bunny.work", exclusive: true, arguments: {
    "x-dead-letter-exchange" => "", "x-dead-letter-routing-key" => "bunny.wait" })
  channel.queue("bunny.wait", exclusive: true, arguments: {
    "x-message-ttl" => 100, "x-dead-letter-exchange" => "", "x-dead-letter-routing-key" => "bunny.work" })
  work.publish("fails twice", persistent: true, headers: { "mine" => [1, { "two" => 2.5 }] })
  2.times { channel.nack(get(work, manual_ack: true)[0].delivery_tag, false, false) }
  headers = get(work)[1].headers
  same headers["x-death"].map { |death| death.values_at("queue", "reason", "count") },
       [["bunny.wait", "expired", 2], ["bunny.work", "rejected", 2]]
  same headers.values_at("mine", "x-first-death-queue", "x-first-death-reason"), [[1, { "two" => 2.5 }], "bunny.work", "rejected"]
end

with_channel("priorities") do |channel|
  queue = mine(channel, x_max_priority: 10)
  [1, 10, 5, 10].each { |priority| queue.publish(priority.to_s, priority: priority) }
  same bodies(queue, 4), %w[10 10 5 1]
end

with_channel("alternate-exchange") do |channel|
  queue = mine(channel).bind(channel.fanout("bunny.unrouted", auto_delete: true))
  routed = channel.direct("bunny.routed", arguments: { "alternate-exchange" => "bunny.unrouted" })
  routed.publish("caught", routing_key: "no such key")
  same bodies(queue, 1), ["caught"]
  routed.delete
end

with_channel("carbon-copies") do |channel|
  first, second, third = mine(channel), mine(channel), mine(channel)
  first.publish("to three", headers: { "CC" => [second.name], "BCC" => [third.name] })
  [first, second, third].each { |queue| same get(queue)[1].headers, { "CC" => [second.name] } }
end

with_channel("headers-exchange") do |channel|
  exchange = channel.headers("bunny.by-headers", auto_delete: true)
  queue = mine(channel).bind(exchange, arguments: { "x-match" => "all", "kind" => "a", "size" => 2 })
  exchange.publish("one", headers: { "kind" => "a", "size" => 3 })
  exchange.publish("both", headers: { "kind" => "a", "size" => 2 })
  same bodies(queue, 1), ["both"]
  same queue.message_count, 0
end

with_channel("expiry") do |channel|
  dead = mine(channel)
  queue = mine(channel, x_dead_letter_exchange: "", x_dead_letter_routing_key: dead.name)
  queue.publish("short-lived", expiration: 60)
  properties = get(dead)[1]
  same [properties.headers["x-death"][0]["original-expiration"], properties.expiration], ["60", nil]
  channel.queue("bunny.expires", arguments: { "x-expires" => 150 })
  sleep 0.6
  same channel.connection.queue_exists?("bunny.expires"), false
end

with_channel("length-limits") do |channel|
  newest = mine(channel, x_max_length: 2)
  %w[a b c d].each { |body| newest.publish(body) }
  same bodies(newest, 2), %w[c d]
  channel.confirm_select
  full = mine(channel, x_max_length: 2, x_overflow: "reject-publish")
  %w[a b c].each { |body| full.publish(body) }
  same channel.wait_for_confirms, false
  same channel.nacked_set.size, 1
  same bodies(full, 2), %w[a b]
end

with_channel("delivery-limit") do |channel|
  dead, counts = mine(channel), []
  queue = channel.queue("bunny.quorum", durable: true, arguments: { "x-queue-type" => "quorum",
    "x-delivery-limit" => 2, "x-dead-letter-exchange" => "", "x-dead-letter-routing-key" => dead.name })
  consumer = queue.subscribe(manual_ack: true) do |delivery, properties, _|
    counts << (properties.headers || {})["x-delivery-count"]
    channel.nack(delivery.delivery_tag, false, true)
  end
  queue.publish("poison", persistent: true)
  same get(dead)[1].headers["x-death"][0]["reason"], "delivery_limit"
  same counts, [nil, 1, 2]
  consumer.cancel
  queue.delete
end

with_channel("single-active-consumer") do |channel|
  queue, seen = mine(channel, x_single_active_consumer: true), []
  first = queue.subscribe { |_, _, body| seen << "first #{body}" }
  queue.subscribe { |_, _, body| seen << "second #{body}" }
  %w[a b].each { |body| queue.publish(body) }
  sleep 0.2
  first.cancel
  queue.publish("c")
  sleep 0.2
  same seen, ["first a", "first b", "second c"]
end

with_channel("stream") do |channel|
  stream = channel.queue("bunny.stream", durable: true, arguments: { "x-queue-type" => "stream" })
  channel.confirm_select
  20.times { |number| stream.publish(number.to_s, persistent: true) }
  channel.wait_for_confirms
  { "first" => 0..19, 15 => 15..19 }.each do |offset, expected|
    reader, seen = channel.connection.create_channel, []
    reader.prefetch(5)
    reader.queue("bunny.stream", passive: true).subscribe(manual_ack: true, arguments: { "x-stream-offset" => offset }) do |delivery, properties, body|
      seen << [body.to_i, properties.headers["x-stream-offset"]]
      reader.ack(delivery.delivery_tag)
    end
    eventually(3) { seen.size == expected.size }
    reader.close
    same seen, expected.map { |number| [number, number] }
  end
  stream.delete
end

with_channel("direct-reply-to") do |channel|
  questions, answers = mine(channel), Queue.new
  server = channel.connection.create_channel
  channel.queue("amq.rabbitmq.reply-to", no_declare: true).subscribe { |_, properties, body| answers << [properties.correlation_id, body] }
  questions.publish("20 + 1", reply_to: "amq.rabbitmq.reply-to", correlation_id: "7")
  question = get(questions)[1]
  server.default_exchange.publish("21", routing_key: question.reply_to, correlation_id: question.correlation_id)
  same Timeout.timeout(5) { answers.pop }, %w[7 21]
end

with_channel("cancellation") do |channel|
  cancelled = Queue.new
  queue = channel.queue("bunny.going")
  consumer = Bunny::Consumer.new(channel, queue)
  consumer.on_cancellation { cancelled << consumer.consumer_tag }
  queue.subscribe_with(consumer)
  channel.connection.create_channel.queue_delete("bunny.going")
  same Timeout.timeout(5) { cancelled.pop }, consumer.consumer_tag
end

story("errors") do
  connection, other = connect, connect
  channel = -> { connection.create_channel }
  same closes(Bunny::NotFound) { channel.().queue("bunny.none", passive: true) }, "NOT_FOUND - no queue 'bunny.none' in vhost '/'"
  closes(Bunny::AccessRefused) { channel.().queue("amq.mine") }
  locked = channel.().queue("bunny.locked", exclusive: true)
  closes(Bunny::ResourceLocked) { other.create_channel.queue("bunny.locked", passive: true) }
  closes(Bunny::PreconditionFailed) { channel.().queue(locked.name, exclusive: true, arguments: { "x-max-length" => 5 }) }
  closes(Bunny::PreconditionFailed) { channel.().queue("bunny.wrong", arguments: { "x-expires" => 0 }) }
  begin
    connect(vhost: "no such vhost")
    raise "it let us in"
  rescue Bunny::NotAllowedError, Bunny::ChannelError, Bunny::TCPConnectionFailed => error
    same error.class, Bunny::NotAllowedError
  end
  begin
    Bunny.new(URL.sub("guest:guest", "guest:wrong"), logger: Logger.new(IO::NULL), automatically_recover: false).start
    raise "it let us in"
  rescue Bunny::AuthenticationFailureError
    connection.close
    other.close
  end
end

with_channel("transactions") do |channel|
  queue = mine(channel)
  channel.tx_select
  queue.publish("undone")
  channel.tx_rollback
  queue.publish("done")
  channel.tx_commit
  same bodies(queue, 1), ["done"]
end

# bunny comes back by itself, with its exchanges, queues, bindings and consumers.
story("recovery") do
  connection = connect(automatically_recover: true, network_recovery_interval: 0.3, recover_from_connection_close: true)
  channel, inbox = connection.create_channel, Queue.new
  exchange = channel.direct("bunny.recovered", auto_delete: true)
  channel.queue("bunny.recovered", auto_delete: true).bind(exchange, routing_key: "key").subscribe { |_, _, body| inbox << body }
  exchange.publish("before", routing_key: "key")
  same Timeout.timeout(5) { inbox.pop }, "before"
  puts "restart"
  $stdin.gets
  found = eventually(20) do
    begin
      exchange.publish("after", routing_key: "key") if connection.open?
      Timeout.timeout(0.5) { inbox.pop }
    rescue Bunny::Exception, Timeout::Error, IOError, SystemCallError
      nil
    end
  end
  same found, "after"
  connection.close
end

$stdout.sync = true
(ARGV.empty? ? STORIES.keys : STORIES.keys & ARGV).each do |name|
  STORIES[name].call
  puts "ok #{name}"
rescue StandardError, Timeout::Error => error
  line = error.backtrace.map { |place| place[/stories\.rb:(\d+)/, 1] }.compact.reverse.join(" > ")
  puts "FAILED #{name}: line #{line}: #{error.class}: #{error.message.split.join(' ')}"
end
