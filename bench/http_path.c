/* Requests through a gateway, a shard and back, without a socket, a disk or a clock: for counting what a request costs. Prints nothing; count it with bench/instructions.
 *
 *   http_path REQUESTS event|queue|listener
 *
 * event: POST /events in binary mode, 1 KiB, on 20 connections.  queue: POST /queues/hot/messages, the same.  listener: each event that one of a thousand listeners is told
 * counts as a request.
 */
#include "broker/broker.h"
#include "broker/client.h"
#include "broker/worker.h"
#include "protocol/gateway/gateway.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LISTENERS 1000u
#define PUBLISHERS 20u

struct fixture {
    struct broker *broker;
    struct worker *worker;
    struct http_host host;
    struct gateway_hall hall;
    struct worker_port port;
    uint64_t now_us;
    char answer[4096];
    size_t answer_size;
};

static void dirty(struct http_host *host, void *owner) { (void)host, (void)owner; }

static bool post(struct worker_port *port, unsigned to, struct batch *batch)
{
    (void)port, (void)to, (void)batch;
    return false;
}

static void open_broker(struct fixture *f)
{
    static const uint8_t chance[32] = {1, 2, 3};
    const struct broker_config config = {.workers = 1, .shards = 1, .log_body = LOG_MEMORY, .observes = true, .random = chance};
    char why[256];
    *f = (struct fixture){.host = {.dirty = dirty}, .port = {post}, .now_us = 1000000};
    f->broker = broker_new(&config);
    CHECK(f->broker);
    f->worker = worker_new(f->broker, 0, NULL, &f->port);
    CHECK(f->worker && !broker_open(f->broker, why, sizeof(why)));
    f->hall = (struct gateway_hall){.config = &gateway_config_default, .worker = f->worker, .host = &f->host, .workers = 1, .seed = 1};
}

/* What a gateway has to say is thrown away, but for its beginning. */
static void hear(struct fixture *f, struct gateway *gateway)
{
    struct iovec iov[64];
    f->answer_size = 0;
    for (unsigned count; (count = gateway_output(gateway, iov, 64)) > 0;) {
        size_t size = 0;
        for (unsigned i = 0; i < count; i++) {
            size_t room = sizeof(f->answer) - 1 - f->answer_size, taken = iov[i].iov_len < room ? iov[i].iov_len : room;
            memcpy(f->answer + f->answer_size, iov[i].iov_base, taken);
            f->answer_size += taken;
            size += iov[i].iov_len;
        }
        gateway_sent(gateway, size, f->now_us);
    }
    f->answer[f->answer_size] = 0;
}

static void turn(struct fixture *f)
{
    f->now_us += 50;
    worker_turn(f->worker, f->now_us);
}

static struct gateway *connect(struct fixture *f)
{
    struct gateway *gateway;
    CHECK(!gateway_new(&f->hall, NULL, &(struct gateway_addresses){.peer = "127.0.0.1", .local = "127.0.0.1", .peer_port = 1, .local_port = 2, .from_loopback = true}, f->now_us,
                       &gateway));
    return gateway;
}

static void ask_slowly(struct fixture *f, struct gateway *gateway, struct bytes request)
{
    CHECK(gateway_feed(gateway, request, f->now_us) == request.size);
    for (unsigned i = 0; i < 6; i++)
        turn(f);
    hear(f, gateway);
    if (f->answer[9] != '2') {
        fprintf(stderr, "%s\n", f->answer);
        exit(1);
    }
}

static struct bytes event_request(char *room, size_t size, size_t body)
{
    size_t head = (size_t)snprintf(room, size, "POST /events HTTP/1.1\r\nHost: 127.0.0.1:15672\r\nContent-Length: %zu\r\nce-specversion: 1.0\r\nce-id: 0123456789abcdef\r\nce-source: /bench\r\n"
                                   "ce-type: bench.told\r\nContent-Type: application/octet-stream\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n", body);
    memset(room + head, 'x', body);
    return bytes_of(room, head + body);
}

static struct bytes queue_request(char *room, size_t size, size_t body)
{
    size_t head = (size_t)snprintf(room, size, "POST /queues/hot/messages HTTP/1.1\r\nHost: 127.0.0.1:15672\r\nContent-Length: %zu\r\nContent-Type: application/octet-stream\r\n"
                                   "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n", body);
    memset(room + head, 'x', body);
    return bytes_of(room, head + body);
}

static void on_replied(struct client *client, const struct reply *reply)
{
    (void)client;
    CHECK(!reply->code);
}

static void on_turned(struct client *client) { (void)client; }

/* The queue `hot`, durable. */
static void declare(struct fixture *f)
{
    static const struct client_ops ops = {.replied = on_replied, .turned = on_turned};
    static struct client client;
    CHECK(!client_attach(f->worker, &client, &ops));
    client.user = client.name = bytes_of_text("guest");
    client_request(&client, &(struct request){.kind = REQUEST_OPEN, .name = bytes_of_text("/"), .source = client.user});
    for (unsigned i = 0; i < 4; i++)
        turn(f);
    client_request(&client, &(struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_DURABLE, .name = bytes_of_text("hot")});
    for (unsigned i = 0; i < 4; i++)
        turn(f);
    client_detach(&client);
}

static void publish(struct fixture *f, long requests, struct bytes request)
{
    struct gateway *publishers[PUBLISHERS];
    for (unsigned i = 0; i < PUBLISHERS; i++) {
        publishers[i] = connect(f);
        ask_slowly(f, publishers[i], request);
    }
    for (long left = requests; left > 0; left -= PUBLISHERS) {
        for (unsigned i = 0; i < PUBLISHERS; i++)
            CHECK(gateway_feed(publishers[i], request, f->now_us) == request.size);
        turn(f);
        turn(f);
        for (unsigned i = 0; i < PUBLISHERS; i++) {
            hear(f, publishers[i]);
            CHECK(f->answer_size > 12 && f->answer[9] == '2');
        }
    }
    for (unsigned i = 0; i < PUBLISHERS; i++)
        gateway_free(publishers[i]);
}

static void listen(struct fixture *f, long requests, struct bytes request)
{
    static const char wish[] = "GET /events?type=bench.%23 HTTP/1.1\r\nHost: 127.0.0.1:15672\r\nAccept: text/event-stream\r\n\r\n";
    struct gateway *publisher = connect(f), *listeners[LISTENERS];
    ask_slowly(f, publisher, request);
    for (unsigned i = 0; i < LISTENERS; i++) {
        listeners[i] = connect(f);
        ask_slowly(f, listeners[i], bytes_of(wish, sizeof(wish) - 1));
    }
    for (long left = requests; left > 0; left -= LISTENERS) {
        ask_slowly(f, publisher, request);
        for (unsigned i = 0; i < LISTENERS; i++) {
            hear(f, listeners[i]);
            CHECK(f->answer_size);
        }
    }
    for (unsigned i = 0; i < LISTENERS; i++)
        gateway_free(listeners[i]);
    gateway_free(publisher);
}

int main(int argc, char **argv)
{
    static char room[8192];
    struct fixture f;
    if (argc != 3) {
        fprintf(stderr, "usage: http_path REQUESTS event|queue|listener\n");
        return 2;
    }
    long requests = atol(argv[1]);
    open_broker(&f);
    if (strcmp(argv[2], "event") == 0) {
        publish(&f, requests, event_request(room, sizeof(room), 1024));
    } else if (strcmp(argv[2], "queue") == 0) {
        declare(&f);
        publish(&f, requests, queue_request(room, sizeof(room), 1024));
    } else {
        listen(&f, requests, event_request(room, sizeof(room), 100));
    }
    worker_turn(f.worker, f.now_us);
    CHECK(!broker_close(f.broker));
    hall_free(&f.hall);
    broker_free(f.broker);
    return 0;
}
