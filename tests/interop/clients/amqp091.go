// github.com/rabbitmq/amqp091-go, RabbitMQ's own client for Go.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func check(condition bool, what string) {
	if !condition {
		fmt.Println("wrong:", what)
		os.Exit(1)
	}
}

func main() {
	connection, err := amqp.Dial(os.Getenv("AMQP_URL"))
	must(err)
	channel, err := connection.Channel()
	must(err)
	must(channel.Confirm(false))
	queue, err := channel.QueueDeclare("", false, false, true, false, nil)
	must(err)
	must(channel.ExchangeDeclare("go-headers", "headers", false, true, false, false, nil))
	must(channel.QueueBind(queue.Name, "", "go-headers", false, amqp.Table{"x-match": "any", "kind": "a"}))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	big := bytes.Repeat([]byte("x"), 500000)
	for i := 0; i < 100; i++ {
		confirm, err := channel.PublishWithDeferredConfirmWithContext(ctx, "go-headers", "", true, false, amqp.Publishing{
			DeliveryMode: amqp.Persistent, Body: big[:i*5000], Headers: amqp.Table{"kind": "a", "n": int64(i), "f": 1.5, "t": time.Unix(1700000000, 0)}})
		must(err)
		if i == 99 {
			acked, err := confirm.WaitContext(ctx)
			must(err)
			check(acked, "a nack")
		}
	}
	must(channel.Qos(7, 0, false))
	deliveries, err := channel.Consume(queue.Name, "", false, false, false, false, nil)
	must(err)
	for i := 0; i < 100; i++ {
		delivery := <-deliveries
		check(len(delivery.Body) == i*5000, "size")
		check(delivery.Headers["n"] == int64(i), "header")
		must(delivery.Ack(i%10 == 9))
		if i%10 != 9 && i == 0 {
			continue
		}
	}
	other, err := connection.Channel()
	must(err)
	_, err = other.QueueDeclarePassive("no such queue", false, false, false, false, nil)
	check(err != nil && err.(*amqp.Error).Code == 404, "404")
	third, err := connection.Channel()
	must(err)
	must(third.Tx())
	must(third.PublishWithContext(ctx, "", "nowhere", false, false, amqp.Publishing{}))
	must(third.TxCommit())
	must(connection.Close())
	fmt.Println("ok")
}
