/* Every allocation of a connection's and of its hall's fails in turn: nothing may crash or leak. */
#include "base/err.h"
#include "base/test_malloc.h"
#include "protocol/amqp/fake_broker.h"
#include "protocol/gateway/gateway.h"

#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* The linker sends every allocation of this program here (those of libraries go by themselves). Process-wide, because malloc is. */
static struct {
    unsigned until;     /* allocations left until one fails; 0: none fails */
    bool failed;
    bool armed;         /* the gateway is at work, or the broker for it; not the test */
} plan;

static bool fails(void)
{
    if (!plan.armed || plan.until == 0 || --plan.until > 0)
        return false;
    plan.failed = true;
    return true;
}

static struct worker fake;

static void on_dirty(struct http_host *host, void *owner) { (void)host, (void)owner; }

static void take_output(struct gateway *gateway)
{
    struct iovec iov[16];
    unsigned count;
    while ((count = gateway_output(gateway, iov, 16)) > 0) {
        size_t size = 0;
        for (unsigned i = 0; i < count; i++)
            size += iov[i].iov_len;
        gateway_sent(gateway, size, fake.now_us);
    }
}

/* Everything that is asked is granted, everything published is confirmed, and who consumes or gets is delivered something. */
static void grant(void)
{
    static const uint8_t body[20];
    for (unsigned i = 0; fake.request_count && i < 20; i++) {
        struct fake_request request = fake.requests[fake.first_request % FAKE_REQUESTS_MAX];
        bool gets = request.kind == REQUEST_GET || request.kind == REQUEST_CONSUME;
        plan.armed = true;
        fake_answer(&fake, (struct reply){.name = bytes_of_text("q"), .queue = 7, .handle = 9, .empty = true});
        plan.armed = false;
        if (!gets || !fake.client)
            continue;
        struct chunk *chunk;
        struct delivery delivery = fake_delivery(&fake, "events", "k", bytes_of(body, sizeof(body)), &chunk);
        delivery.consumer = request.tag;
        delivery.is_get = request.kind == REQUEST_GET;
        plan.armed = true;
        fake.ops->deliver(fake.client, &delivery);
        plan.armed = false;
        chunk_release(chunk, fake.chunks);
    }
    plan.armed = true;
    if (fake.client && fake.last_confirm_tag)
        fake.ops->confirmed(fake.client, 1, 1, fake.last_confirm_tag, true);
    plan.armed = false;
}

static void one_connection(struct gateway_hall *hall, const char *text)
{
    const struct gateway_addresses addresses = {.peer = "127.0.0.1", .local = "127.0.0.1", .from_loopback = true};
    struct gateway *gateway;
    plan.armed = true;
    enum gw_err err = gateway_new(hall, NULL, &addresses, fake.now_us, &gateway);
    plan.armed = false;
    if (err)
        return;
    fake.last_confirm_tag = 0;
    for (size_t at = 0, size = strlen(text); at < size;) {
        plan.armed = true;
        size_t taken = gateway_wants_input(gateway) ? gateway_feed(gateway, bytes_of(text + at, size - at), fake.now_us) : 0;
        plan.armed = false;
        grant();
        plan.armed = true;
        take_output(gateway);
        plan.armed = false;
        if (!taken)
            break;
        at += taken;
    }
    plan.armed = true;
    gateway_tick(gateway, fake.now_us + 20000000u);
    take_output(gateway);
    gateway_free(gateway);
    plan.armed = false;
    fake.client = NULL;
    fake.request_count = 0;
}

#define HOST "Host: localhost\r\n"

static void live(struct gateway_hall *hall)
{
    static const char *const connections[] = {
        "POST /queues/q/messages?priority=3&message_id=m HTTP/1.1\r\n" HOST "Message-A: 1\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
        "POST /queues/q/messages HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\na"
            "POST /events?type=t HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n0123456789POST /queues/q/messages HTTP/1.1\r\n" HOST "Content-Length: 30\r\n\r\nhalf",
        "POST /exchanges/x/messages HTTP/1.1\r\n" HOST "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "POST /event/publish HTTP/1.1\r\n" HOST "Content-Length: 29\r\n\r\n{\"event_type\":\"a\",\"data\":[1]}",
        "POST /events HTTP/1.1\r\n" HOST "ce-id: 1\r\nce-type: t\r\nce-source: s\r\nce-specversion: 1.0\r\nContent-Length: 1\r\n\r\nx",
        "POST /events HTTP/1.1\r\n" HOST "Content-Type: application/cloudevents+json\r\nContent-Length: 81\r\n\r\n"
            "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"data_base64\":\"AAECAwQFBg==\"}",
        "GET /events?type=k,a.*&filter=properties.priority%20IS%20NULL HTTP/1.1\r\n" HOST "\r\n",
        "GET /events?ack=manual HTTP/1.1\r\n" HOST "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        "GET /openapi.json HTTP/1.1\r\n" HOST "\r\nGET /nothing HTTP/1.1\r\n" HOST "\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /queues/q/messages HTTP/1.1\r\n" HOST "\r\n",
        "POST /queues/q/messages HTTP/1.1\r\n" HOST "Idempotency-Key: \"k\"\r\nContent-Length: 5\r\n\r\nhello",
    };
    for (unsigned i = 0; i < sizeof(connections) / sizeof(connections[0]); i++)
        one_connection(hall, connections[i]);
}

static void each_allocation_fails_in_turn(void **state)
{
    (void)state;
    struct gateway_config config = gateway_config_default;
    unsigned number = 1;
    config.upload_min = 10;
    bool done = false;
    for (; !done; number++) {
        struct http_host host = {.dirty = on_dirty};
        struct gateway_hall hall = {.config = &config, .worker = &fake, .host = &host, .workers = 1};
        fake_open(&fake);
        plan.until = number;
        plan.failed = false;
        live(&hall);
        done = !plan.failed;
        plan.until = 0;
        hall_stop(&hall, fake.now_us);
        hall_free(&hall);
        assert_int_equal(hall.gathered, 0);
        fake_close(&fake);
    }
    assert_in_range(number, 60, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_allocation_fails_in_turn)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
