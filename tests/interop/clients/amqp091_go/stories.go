// github.com/rabbitmq/amqp091-go, RabbitMQ's own client for Go. Each story is a function whose name says what is shown.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

type story struct {
	name string
	tell func()
}

var ctx, url = context.Background(), os.Getenv("AMQP_URL")

func must[T any](value T, err error) T {
	done(err)
	return value
}

func done(err error) {
	if err != nil {
		panic(err)
	}
}

func same(found, expected any) {
	if !reflect.DeepEqual(found, expected) {
		panic(fmt.Sprintf("%v, expected %v", found, expected))
	}
}

func connect() *amqp.Connection { return must(amqp.Dial(url)) }

// withChannel gives a story a channel in confirm mode, of a connection of its own, which is closed when the story ends.
func withChannel(name string, tell func(*amqp.Connection, *amqp.Channel)) story {
	return story{name, func() {
		connection := connect()
		defer connection.Close()
		channel := must(connection.Channel())
		done(channel.Confirm(false))
		tell(connection, channel)
	}}
}

func mine(channel *amqp.Channel, name string, arguments amqp.Table) string {
	return must(channel.QueueDeclare(name, false, false, true, false, arguments)).Name
}

// send publishes and waits: true when it was confirmed.
func send(channel *amqp.Channel, exchange, key, body string, message amqp.Publishing) bool {
	message.Body = []byte(body)
	confirmation := must(channel.PublishWithDeferredConfirmWithContext(ctx, exchange, key, false, false, message))
	limit, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return must(confirmation.WaitContext(limit))
}

// get answers the next message, waiting a little for it, unacknowledged.
func get(channel *amqp.Channel, queue string) amqp.Delivery {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if delivery, found, err := channel.Get(queue, false); err != nil || found {
			return must(delivery, err)
		}
	}
	panic(queue + " stays empty")
}

func bodies(channel *amqp.Channel, queue string, count int) (found []string) {
	for range count {
		delivery := get(channel, queue)
		done(delivery.Ack(false))
		found = append(found, string(delivery.Body))
	}
	return found
}

func isEmpty(channel *amqp.Channel, queue string) bool {
	_, found, err := channel.Get(queue, true)
	return !must(found, err)
}

// closes runs something on a channel of its own, which must fail with this code; answers the broker's words.
func closes(connection *amqp.Connection, code int, call func(*amqp.Channel) error) string {
	var refusal *amqp.Error
	if err := call(must(connection.Channel())); !errors.As(err, &refusal) || refusal.Code != code {
		panic(fmt.Sprintf("%v, expected %d", err, code))
	}
	return refusal.Reason
}

func receive[T any](from <-chan T) T {
	select {
	case value := <-from:
		return value
	case <-time.After(5 * time.Second):
		panic("nothing came")
	}
}

func topology(_ *amqp.Connection, channel *amqp.Channel) {
	done(channel.ExchangeDeclare("go.topic", "topic", true, false, false, false, nil))
	done(channel.ExchangeDeclare("go.fanout", "fanout", true, false, false, false, nil))
	queue := mine(channel, "", nil)
	done(channel.QueueBind(queue, "*.rain", "go.topic", false, nil))
	done(channel.ExchangeBind("go.topic", "", "go.fanout", false, nil))
	send(channel, "go.fanout", "paris.rain", "wet", amqp.Publishing{})
	send(channel, "go.fanout", "paris.sun", "dry", amqp.Publishing{})
	same(bodies(channel, queue, 1), []string{"wet"})
	done(channel.ExchangeUnbind("go.topic", "", "go.fanout", false, nil))
	done(channel.QueueUnbind(queue, "*.rain", "go.topic", nil))
	done(channel.ExchangeDelete("go.topic", true, false))
	done(channel.ExchangeDelete("go.fanout", true, false))
	same(must(channel.QueueDelete(queue, true, true, false)), 0)
}

func confirms(_ *amqp.Connection, channel *amqp.Channel) {
	queue, notes := mine(channel, "", nil), channel.NotifyPublish(make(chan amqp.Confirmation, 100))
	headers := amqp.Table{"n": int64(1) << 40, "f": 1.5, "t": time.Unix(1700000000, 0), "list": []any{"x", nil, true}, "deep": amqp.Table{"b": []byte("x")}}
	for range 100 {
		must(channel.PublishWithDeferredConfirmWithContext(ctx, "", queue, false, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Headers: headers}))
	}
	for number := range 100 {
		same(receive(notes), amqp.Confirmation{DeliveryTag: uint64(number + 1), Ack: true})
	}
	same(get(channel, queue).Headers, headers)
}

func returns(_ *amqp.Connection, channel *amqp.Channel) {
	back := channel.NotifyReturn(make(chan amqp.Return, 1))
	done(channel.PublishWithContext(ctx, "", "go.nowhere", true, false, amqp.Publishing{Body: []byte("back to me")}))
	returned := receive(back)
	same([]any{returned.ReplyCode, returned.ReplyText, string(returned.Body)}, []any{uint16(312), "NO_ROUTE", "back to me"})
}

func acknowledgements(_ *amqp.Connection, channel *amqp.Channel) {
	queue := mine(channel, "", nil)
	for _, body := range []string{"a", "b", "c", "d"} {
		send(channel, "", queue, body, amqp.Publishing{})
	}
	first, second, third, fourth := get(channel, queue), get(channel, queue), get(channel, queue), get(channel, queue)
	done(first.Ack(false))
	done(second.Nack(false, true))
	done(third.Reject(false))
	done(fourth.Reject(true))
	b, d := get(channel, queue), get(channel, queue)
	same([]any{string(b.Body), b.Redelivered, string(d.Body), d.Redelivered}, []any{"b", true, "d", true})
	done(d.Ack(true))
	same(isEmpty(channel, queue), true)
}

func prefetch(_ *amqp.Connection, channel *amqp.Channel) {
	queue := mine(channel, "", nil)
	for range 10 {
		send(channel, "", queue, "x", amqp.Publishing{})
	}
	done(channel.Qos(3, 0, false))
	deliveries := must(channel.Consume(queue, "", false, false, false, false, nil))
	receive(deliveries)
	second := receive(deliveries)
	receive(deliveries)
	select {
	case <-deliveries:
		panic("a fourth")
	case <-time.After(200 * time.Millisecond):
	}
	done(second.Ack(true))
	receive(deliveries)
	receive(deliveries)
}

func deaths(delivery amqp.Delivery) (found []string) {
	for _, death := range delivery.Headers["x-death"].([]any) {
		death := death.(amqp.Table)
		found = append(found, fmt.Sprint(death["queue"], " ", death["reason"], " ", death["count"]))
	}
	return found
}

func retryLadder(_ *amqp.Connection, channel *amqp.Channel) {
	work := mine(channel, "go.work", amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "go.wait"})
	mine(channel, "go.wait", amqp.Table{"x-message-ttl": 100, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work})
	send(channel, "", work, "fails twice", amqp.Publishing{DeliveryMode: amqp.Persistent, Headers: amqp.Table{"mine": "1"}})
	for range 2 {
		done(get(channel, work).Nack(false, false))
	}
	delivery := get(channel, work)
	same(deaths(delivery), []string{"go.wait expired 2", "go.work rejected 2"})
	same([]any{delivery.Headers["mine"], delivery.Headers["x-first-death-queue"], delivery.Headers["x-first-death-reason"]},
		[]any{"1", "go.work", "rejected"})
}

func priorities(_ *amqp.Connection, channel *amqp.Channel) {
	queue := mine(channel, "", amqp.Table{"x-max-priority": 10})
	for _, priority := range []uint8{1, 10, 5, 10} {
		send(channel, "", queue, fmt.Sprint(priority), amqp.Publishing{Priority: priority})
	}
	same(bodies(channel, queue, 4), []string{"10", "10", "5", "1"})
}

func alternateExchange(_ *amqp.Connection, channel *amqp.Channel) {
	queue := mine(channel, "", nil)
	done(channel.ExchangeDeclare("go.unrouted", "fanout", false, true, false, false, nil))
	done(channel.QueueBind(queue, "", "go.unrouted", false, nil))
	done(channel.ExchangeDeclare("go.routed", "direct", false, false, false, false, amqp.Table{"alternate-exchange": "go.unrouted"}))
	send(channel, "go.routed", "no such key", "caught", amqp.Publishing{})
	same(bodies(channel, queue, 1), []string{"caught"})
	done(channel.ExchangeDelete("go.routed", false, false))
}

func carbonCopies(_ *amqp.Connection, channel *amqp.Channel) {
	first, second, third := mine(channel, "", nil), mine(channel, "", nil), mine(channel, "", nil)
	send(channel, "", first, "to three", amqp.Publishing{Headers: amqp.Table{"CC": []any{second}, "BCC": []any{third}}})
	for _, queue := range []string{first, second, third} {
		same(get(channel, queue).Headers, amqp.Table{"CC": []any{second}})
	}
}

func headersExchange(_ *amqp.Connection, channel *amqp.Channel) {
	queue := mine(channel, "", nil)
	done(channel.ExchangeDeclare("go.by-headers", "headers", false, true, false, false, nil))
	done(channel.QueueBind(queue, "", "go.by-headers", false, amqp.Table{"x-match": "all", "kind": "a", "size": 2}))
	send(channel, "go.by-headers", "", "one", amqp.Publishing{Headers: amqp.Table{"kind": "a", "size": 3}})
	send(channel, "go.by-headers", "", "both", amqp.Publishing{Headers: amqp.Table{"kind": "a", "size": 2}})
	same(bodies(channel, queue, 1), []string{"both"})
	same(isEmpty(channel, queue), true)
}

func expiry(connection *amqp.Connection, channel *amqp.Channel) {
	dead := mine(channel, "", nil)
	queue := mine(channel, "", amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
	send(channel, "", queue, "short-lived", amqp.Publishing{Expiration: "60"})
	delivery := get(channel, dead)
	same([]any{delivery.Headers["x-death"].([]any)[0].(amqp.Table)["original-expiration"], delivery.Expiration}, []any{"60", ""})
	must(channel.QueueDeclare("go.expires", false, false, false, false, amqp.Table{"x-expires": 150}))
	time.Sleep(600 * time.Millisecond)
	closes(connection, 404, func(channel *amqp.Channel) error {
		_, err := channel.QueueDeclarePassive("go.expires", false, false, false, false, nil)
		return err
	})
}

func lengthLimits(_ *amqp.Connection, channel *amqp.Channel) {
	newest := mine(channel, "", amqp.Table{"x-max-length": 2})
	for _, body := range []string{"a", "b", "c", "d"} {
		send(channel, "", newest, body, amqp.Publishing{})
	}
	same(bodies(channel, newest, 2), []string{"c", "d"})
	full := mine(channel, "", amqp.Table{"x-max-length": 1, "x-overflow": "reject-publish"})
	same(send(channel, "", full, "fits", amqp.Publishing{}), true)
	same(send(channel, "", full, "does not", amqp.Publishing{}), false)
}

func deliveryLimit(connection *amqp.Connection, channel *amqp.Channel) {
	dead := mine(channel, "", nil)
	must(channel.QueueDeclare("go.quorum", true, false, false, false, amqp.Table{
		"x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}))
	send(channel, "", "go.quorum", "poison", amqp.Publishing{DeliveryMode: amqp.Persistent})
	var counts []any
	consumer := must(connection.Channel())
	deliveries := must(consumer.Consume("go.quorum", "", false, false, false, false, nil))
	for range 3 {
		delivery := receive(deliveries)
		counts = append(counts, delivery.Headers["x-delivery-count"])
		done(delivery.Nack(false, true))
	}
	same(counts, []any{nil, int64(1), int64(2)})
	same(get(channel, dead).Headers["x-death"].([]any)[0].(amqp.Table)["reason"], "delivery_limit")
	done(consumer.Close())
	must(channel.QueueDelete("go.quorum", false, false, false))
}

func singleActiveConsumer(_ *amqp.Connection, channel *amqp.Channel) {
	queue := mine(channel, "", amqp.Table{"x-single-active-consumer": true})
	first := must(channel.Consume(queue, "first", true, false, false, false, nil))
	second := must(channel.Consume(queue, "second", true, false, false, false, nil))
	send(channel, "", queue, "a", amqp.Publishing{})
	send(channel, "", queue, "b", amqp.Publishing{})
	same(string(receive(first).Body)+string(receive(first).Body), "ab")
	done(channel.Cancel("first", false))
	send(channel, "", queue, "c", amqp.Publishing{})
	same(string(receive(second).Body), "c")
}

func stream(connection *amqp.Connection, channel *amqp.Channel) {
	must(channel.QueueDeclare("go.stream", true, false, false, false, amqp.Table{"x-queue-type": "stream"}))
	for number := range 20 {
		send(channel, "", "go.stream", fmt.Sprint(number), amqp.Publishing{DeliveryMode: amqp.Persistent})
	}
	for offset, begin := range map[any]int{"first": 0, 15: 15} {
		reader := must(connection.Channel())
		done(reader.Qos(5, 0, false))
		deliveries := must(reader.Consume("go.stream", "", false, false, false, false, amqp.Table{"x-stream-offset": offset}))
		for number := begin; number < 20; number++ {
			delivery := receive(deliveries)
			same([]any{string(delivery.Body), delivery.Headers["x-stream-offset"]}, []any{fmt.Sprint(number), int64(number)})
			done(delivery.Ack(false))
		}
		done(reader.Close())
	}
	must(channel.QueueDelete("go.stream", false, false, false))
}

func directReplyTo(connection *amqp.Connection, channel *amqp.Channel) {
	questions, server := mine(channel, "", nil), must(connection.Channel())
	answers := must(channel.Consume("amq.rabbitmq.reply-to", "", true, false, false, false, nil))
	send(channel, "", questions, "20 + 1", amqp.Publishing{ReplyTo: "amq.rabbitmq.reply-to", CorrelationId: "7"})
	question := get(server, questions)
	done(server.PublishWithContext(ctx, "", question.ReplyTo, false, false, amqp.Publishing{CorrelationId: question.CorrelationId, Body: []byte("21")}))
	answer := receive(answers)
	same([]string{string(answer.Body), answer.CorrelationId}, []string{"21", "7"})
}

func cancellation(connection *amqp.Connection, channel *amqp.Channel) {
	must(channel.QueueDeclare("go.going", false, false, false, false, nil))
	cancelled := channel.NotifyCancel(make(chan string, 1))
	deliveries := must(channel.Consume("go.going", "listener", false, false, false, false, nil))
	must(must(connection.Channel()).QueueDelete("go.going", false, false, false))
	same(receive(cancelled), "listener")
	_, open := <-deliveries
	same(open, false)
}

func refusals(connection *amqp.Connection, channel *amqp.Channel) {
	declare := func(name string, durable bool, arguments amqp.Table) func(*amqp.Channel) error {
		return func(channel *amqp.Channel) error {
			_, err := channel.QueueDeclare(name, durable, false, false, false, arguments)
			return err
		}
	}
	same(closes(connection, 404, func(channel *amqp.Channel) error {
		_, err := channel.QueueDeclarePassive("go.none", false, false, false, false, nil)
		return err
	}), "NOT_FOUND - no queue 'go.none' in vhost '/'")
	closes(connection, 403, declare("amq.mine", false, nil))
	mine(channel, "go.locked", nil)
	other := connect()
	closes(other, 405, declare("go.locked", false, nil))
	closes(connection, 406, declare("go.wrong", false, amqp.Table{"x-message-ttl": "soon"}))
	closes(connection, 406, declare("go.wrong", false, amqp.Table{"x-dead-letter-exchange": 5}))
	closes(connection, 406, func(channel *amqp.Channel) error {
		return channel.ExchangeDeclare("amq.headers", "direct", true, false, false, false, nil)
	})
	unknown := must(connection.Channel())
	closed := unknown.NotifyClose(make(chan *amqp.Error, 1))
	done(unknown.Ack(99, false))
	same(receive(closed).Code, 406)
	closes(other, 404, func(channel *amqp.Channel) error {
		done(channel.PublishWithContext(ctx, "go.none", "x", false, false, amqp.Publishing{}))
		return channel.Qos(1, 0, false)
	})
	done(other.Close())
	_, err := amqp.Dial(strings.Replace(url, "%2f", "no-such-vhost", 1))
	same(err, amqp.ErrVhost)
	_, err = amqp.Dial(strings.Replace(url, "guest:guest", "guest:wrong", 1))
	var refusal *amqp.Error
	same(errors.As(err, &refusal) && refusal.Code == 403, true)
}

// What the client says of itself must be true; what it may say anew, it may say while it is connected.
func identity(connection *amqp.Connection, channel *amqp.Channel) {
	queue := mine(channel, "", nil)
	send(channel, "", queue, "from guest", amqp.Publishing{UserId: "guest"})
	same(get(channel, queue).UserId, "guest")
	same(closes(connection, 406, func(channel *amqp.Channel) error {
		done(channel.PublishWithContext(ctx, "", queue, false, false, amqp.Publishing{UserId: "ada"}))
		return channel.Qos(1, 0, false)
	}), "PRECONDITION_FAILED - user_id property set to 'ada' but authenticated user was 'guest'")
	done(connection.UpdateSecret("guest", "a new one was due"))
	same(send(channel, "", queue, "after", amqp.Publishing{}), true)
}

func transactions() {
	connection := connect()
	defer connection.Close()
	channel := must(connection.Channel())
	queue := mine(channel, "", nil)
	done(channel.Tx())
	done(channel.PublishWithContext(ctx, "", queue, false, false, amqp.Publishing{Body: []byte("undone")}))
	done(channel.TxRollback())
	done(channel.PublishWithContext(ctx, "", queue, false, false, amqp.Publishing{Body: []byte("done")}))
	done(channel.TxCommit())
	same(bodies(channel, queue, 1), []string{"done"})
}

func recovery() {
	connection := connect()
	channel := must(connection.Channel())
	done(channel.Confirm(false))
	must(channel.QueueDeclare("go.durable", true, false, false, false, nil))
	send(channel, "", "go.durable", "kept", amqp.Publishing{DeliveryMode: amqp.Persistent})
	send(channel, "", "go.durable", "lost", amqp.Publishing{DeliveryMode: amqp.Transient})
	closed := connection.NotifyClose(make(chan *amqp.Error, 1))
	fmt.Println("restart")
	bufio.NewReader(os.Stdin).ReadString('\n')
	same(receive(closed).Code, 320)
	connection = connect()
	defer connection.Close()
	channel = must(connection.Channel())
	same(bodies(channel, "go.durable", 1), []string{"kept"})
	same(isEmpty(channel, "go.durable"), true)
	must(channel.QueueDelete("go.durable", false, false, false))
}

// outcome tells one story and prints how it ended.
func outcome(told story) {
	defer func() {
		if trouble := recover(); trouble != nil {
			var lines []string
			for _, line := range strings.Split(string(debug.Stack()), "\n") {
				if _, place, found := strings.Cut(line, "stories.go:"); found {
					lines = append([]string{strings.Fields(place)[0]}, lines...)
				}
			}
			fmt.Printf("FAILED %s: line %s: %s\n", told.name, strings.Join(lines, " > "), strings.Join(strings.Fields(fmt.Sprint(trouble)), " "))
		}
	}()
	told.tell()
	fmt.Println("ok", told.name)
}

func main() {
	stories := []story{
		withChannel("topology", topology), withChannel("confirms", confirms), withChannel("returns", returns),
		withChannel("acknowledgements", acknowledgements), withChannel("prefetch", prefetch), withChannel("retry-ladder", retryLadder),
		withChannel("priorities", priorities), withChannel("alternate-exchange", alternateExchange),
		withChannel("carbon-copies", carbonCopies), withChannel("headers-exchange", headersExchange), withChannel("expiry", expiry),
		withChannel("length-limits", lengthLimits), withChannel("delivery-limit", deliveryLimit),
		withChannel("single-active-consumer", singleActiveConsumer), withChannel("stream", stream),
		withChannel("direct-reply-to", directReplyTo), withChannel("cancellation", cancellation), withChannel("errors", refusals),
		withChannel("identity", identity), {"transactions", transactions}, {"recovery", recovery},
	}
	for _, told := range stories {
		if len(os.Args) == 1 || strings.Contains(" "+strings.Join(os.Args[1:], " ")+" ", " "+told.name+" ") {
			outcome(told)
		}
	}
}
