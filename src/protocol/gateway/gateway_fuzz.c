/* A libFuzzer target: requests over a broker that answers as the input says. The first octet: 1 it refuses, 2 it is full, 4 the connection is not local; the second: bytes
 * of a piece. What follows is what the peer sends. */
#include "protocol/amqp/fake_broker.h"
#include "protocol/gateway/gateway.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_dirty(struct http_host *host, void *owner) { (void)host, (void)owner; }

static void answer_all(struct worker *fake, bool refuses)
{
    while (fake->request_count)
        fake_answer(fake, (struct reply){.code = refuses ? 404 : 0, .text = bytes_of_text("NOT_FOUND - no"), .name = bytes_of_text("q"), .queue = 7, .handle = 9});
    if (fake->client && fake->last_confirm_tag)
        fake->ops->confirmed(fake->client, 1, 1, fake->last_confirm_tag, !refuses);
}

static void take(struct gateway *gateway, uint64_t now_us)
{
    struct iovec iov[4];
    unsigned count;
    while ((count = gateway_output(gateway, iov, 4)) > 0) {
        size_t size = 0;
        for (unsigned i = 0; i < count; i++)
            size += iov[i].iov_len;
        gateway_sent(gateway, size, now_us);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct worker fake;
    struct http_host host = {.dirty = on_dirty};
    struct gateway_config config = gateway_config_default;
    struct gateway *gateway;
    const struct gateway_addresses addresses = {.peer = "127.0.0.1", .local = "127.0.0.1", .from_loopback = size && !(data[0] & 4)};
    if (size < 2)
        return 0;
    fake_open(&fake);
    fake.refuses = data[0] & 2;
    config.max_message_size = 10000;
    config.upload_min = 12;
    struct gateway_hall hall = {.config = &config, .worker = &fake, .host = &host, .workers = 2};
    CHECK(gateway_new(&hall, NULL, &addresses, fake.now_us, &gateway) == GW_OK);
    size_t step = data[1] ? data[1] : size, tail_size = 0;
    uint8_t *tail = malloc(size);
    CHECK(tail);
    for (size_t at = 2; at < size; at += step) {
        size_t piece = size - at < step ? size - at : step, taken = 1;
        memcpy(tail + tail_size, data + at, piece);
        tail_size += piece;
        while (tail_size && taken && gateway_wants_input(gateway)) {
            taken = gateway_feed(gateway, bytes_of(tail, tail_size), fake.now_us);
            CHECK(taken <= tail_size);
            memmove(tail, tail + taken, tail_size - taken);
            tail_size -= taken;
            answer_all(&fake, data[0] & 1);
            take(gateway, fake.now_us);
        }
    }
    gateway_tick(gateway, fake.now_us + 1000000000u);
    take(gateway, fake.now_us + 1000000000u);
    gateway_free(gateway);
    CHECK(hall.gathered == 0);
    hall_stop(&hall, fake.now_us);
    hall_free(&hall);
    free(tail);
    fake_close(&fake);
    return 0;
}
