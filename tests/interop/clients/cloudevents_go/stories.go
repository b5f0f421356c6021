// cloudevents/sdk-go and the Standard Webhooks library for Go at both ends of the event bus.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"runtime/debug"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const vectorSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

var url = os.Getenv("HTTP_URL")

func done(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](value T, err error) T {
	done(err)
	return value
}

func same(found, expected any) {
	if !reflect.DeepEqual(found, expected) {
		panic(fmt.Sprintf("%v, expected %v", found, expected))
	}
}

func event(kind, id string, contentType string, data any) cloudevents.Event {
	made := cloudevents.NewEvent()
	made.SetID(id)
	made.SetType(kind)
	made.SetSource("/sdk/go")
	made.SetSubject("grüße \"100%\"")
	made.SetTime(time.Date(2018, 4, 5, 17, 31, 0, 250000000, time.UTC))
	made.SetExtension("tenant", "a")
	if data != nil {
		done(made.SetData(contentType, data))
	}
	return made
}

func samples(kind string) []cloudevents.Event {
	return []cloudevents.Event{
		event(kind, "1", cloudevents.ApplicationJSON, map[string]any{"id": 7, "text": "grüße"}),
		event(kind, "2", cloudevents.TextPlain, "text, no JSON: ä"),
		event(kind, "3", "application/octet-stream", []byte{0, 1, 255}),
		event(kind, "4", "", nil),
	}
}

func alike(found, sent cloudevents.Event) {
	done(found.Validate())
	same(found.Context.AsV1().String(), sent.Context.AsV1().String())
	same(string(found.Data()), string(sent.Data()))
}

func ask(method, path string, body any) map[string]any {
	var text io.Reader
	if body != nil {
		text = bytes.NewReader(must(json.Marshal(body)))
	}
	request := must(http.NewRequest(method, url+path, text))
	request.Header.Set("content-type", "application/json")
	answer := must(http.DefaultClient.Do(request))
	defer answer.Body.Close()
	if answer.StatusCode > 299 {
		panic(answer.Status + ": " + string(must(io.ReadAll(answer.Body))))
	}
	var found map[string]any
	json.NewDecoder(answer.Body).Decode(&found)
	return found
}

// heard answers the first events of a type, as the stream of events has them.
func heard(kind string, count int) []cloudevents.Event {
	answer := must(http.Get(url + "/events?from=first&type=" + kind))
	defer answer.Body.Close()
	decoder := []cloudevents.Event{}
	rest := ""
	for piece := make([]byte, 4096); len(decoder) < count; {
		size, err := answer.Body.Read(piece)
		done(err)
		rest += string(piece[:size])
		for line, after, found := strings.Cut(rest, "\n"); found; line, after, found = strings.Cut(rest, "\n") {
			rest = after
			if data, is := strings.CutPrefix(line, "data: "); is {
				var one cloudevents.Event
				done(json.Unmarshal([]byte(data), &one))
				decoder = append(decoder, one)
			}
		}
	}
	return decoder
}

func send(client cloudevents.Client, ctx context.Context, one cloudevents.Event) {
	result := client.Send(cloudevents.ContextWithTarget(ctx, url+"/events"), one)
	if !cloudevents.IsACK(result) {
		panic(result)
	}
}

func structured() {
	client := must(cloudevents.NewClientHTTP())
	for i, sent := range samples("go.structured") {
		send(client, cloudevents.WithEncodingStructured(context.Background()), sent)
		alike(heard("go.structured", i+1)[i], sent)
	}
}

func binary() {
	client := must(cloudevents.NewClientHTTP())
	for i, sent := range samples("go.binary") {
		send(client, cloudevents.WithEncodingBinary(context.Background()), sent)
		alike(heard("go.binary", i+1)[i], sent)
	}
}

func batch() {
	sent := samples("go.batch")
	request := must(cehttp.NewHTTPRequestFromEvents(context.Background(), url+"/events", sent))
	answer := must(http.DefaultClient.Do(request))
	answer.Body.Close()
	same(answer.StatusCode, 201)
	for i, found := range heard("go.batch", len(sent)) {
		alike(found, sent[i])
	}
}

func refused() {
	client := must(cloudevents.NewClientHTTP())
	one := event("go.refused", "1", cloudevents.ApplicationJSON, 1)
	one.SetExtension("bad", "x")
	request := must(cehttp.NewHTTPRequestFromEvent(context.Background(), url+"/events", one))
	request.Header.Set("ce-specversion", "7.0")
	answer := must(http.DefaultClient.Do(request))
	same(answer.StatusCode, 400)
	answer.Body.Close()
	result := client.Send(cloudevents.ContextWithTarget(context.Background(), url+"/nothing"), one)
	var status *cehttp.Result
	same(cloudevents.ResultAs(result, &status) && status.StatusCode == 404, true)
}

// The package answers CloudEvents' handshake for whoever receives with it.
func webhook() {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	protocol := must(cloudevents.NewHTTP(cloudevents.WithListener(listener), cehttp.WithDefaultOptionsHandlerFunc([]string{"POST"}, 60000, []string{"shop.example"}, true)))
	client := must(cloudevents.NewClient(protocol))
	came := make(chan cloudevents.Event, 10)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go client.StartReceiver(ctx, func(one cloudevents.Event) { came <- one })
	made := ask("POST", "/subscriptions", map[string]any{"types": []string{"go.webhook"}, "sink": "http://" + listener.Addr().String() + "/",
		"config": map[string]any{"origin": "shop.example", "order": "*"}})
	sender := must(cloudevents.NewClientHTTP())
	for _, sent := range samples("go.webhook") {
		sent.SetSubject("orders/7") // The package does not decode what other bytes must be encoded as.
		send(sender, cloudevents.WithEncodingStructured(context.Background()), sent)
		select {
		case found := <-came:
			alike(found, sent)
		case <-time.After(15 * time.Second):
			panic(fmt.Sprint("nothing came: ", ask("GET", "/subscriptions/"+made["id"].(string), nil)))
		}
	}
	ask("DELETE", "/subscriptions/"+made["id"].(string), nil)
}

func signatures() {
	type post struct {
		headers http.Header
		body    []byte
	}
	came := make(chan post, 10)
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	go http.Serve(listener, http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		came <- post{request.Header, body}
	}))
	made := ask("POST", "/subscriptions", map[string]any{"types": []string{"go.signed"}, "sink": "http://" + listener.Addr().String() + "/",
		"config": map[string]any{"secrets": []string{vectorSecret, "whsec_" + strings.Repeat("AAAA", 8)}}})
	send(must(cloudevents.NewClientHTTP()), context.Background(), event("go.signed", "1", cloudevents.ApplicationJSON, map[string]any{"test": 1}))
	one := <-came
	for _, secret := range []string{vectorSecret, "whsec_" + strings.Repeat("AAAA", 8)} {
		judge := must(webhooks.NewWebhook(secret))
		done(judge.Verify(one.body, one.headers))
		same(judge.Verify(append(one.body, ' '), one.headers) != nil, true)
	}
	same(must(webhooks.NewWebhook("whsec_"+strings.Repeat("BBBB", 8))).Verify(one.body, one.headers) != nil, true)
	signed := must(must(webhooks.NewWebhook(vectorSecret)).Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`)))
	same(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	ask("DELETE", "/subscriptions/"+made["id"].(string), nil)
}

type story struct {
	name string
	tell func()
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
	for _, told := range []story{{"structured", structured}, {"binary", binary}, {"batch", batch}, {"what-is-refused", refused}, {"webhook", webhook}, {"signatures", signatures}} {
		if len(os.Args) == 1 || strings.Contains(" "+strings.Join(os.Args[1:], " ")+" ", " "+told.name+" ") {
			outcome(told)
		}
	}
}
