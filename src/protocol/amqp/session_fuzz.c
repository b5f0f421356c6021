/* A libFuzzer target: a session under arbitrary input, over a broker that answers as the input says.
 *
 * The first octet says whether the peer is logged in already. Then come steps: an octet below 200 is the number of bytes that follow to be fed; the others make
 * the broker do something. Nothing may crash, leak, or say what is no frame. */
#include "protocol/amqp/fake_broker.h"
#include "protocol/amqp/session.h"
#include "protocol/amqp/wire.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A client's half of the handshake, up to an open channel 1 with confirms off. */
static const uint8_t handshake[] =
    "AMQP\0\0\x09\x01"
    "\x01\0\0\0\0\0\x24\0\x0A\0\x0B\0\0\0\0\x05" "PLAIN\0\0\0\x0C\0guest\0guest\x05" "en_US\xCE"
    "\x01\0\0\0\0\0\x0C\0\x0A\0\x1F\x07\xFF\0\x02\0\0\0\x3C\xCE"
    "\x01\0\0\0\0\0\x08\0\x0A\0\x28\x01/\0\0\xCE"
    "\x01\0\x01\0\0\0\x05\0\x14\0\x0A\0\xCE";

/* Everything that a session says is frames (but for the protocol header that a stranger is answered). */
static void listen(struct session *session, uint8_t **heard, size_t *heard_size, uint64_t now_us)
{
    struct iovec iov[4];
    unsigned count;
    while ((count = session_output(session, iov, 4)) > 0) {
        size_t size = 0;
        for (unsigned i = 0; i < count; i++) {
            *heard = realloc(*heard, *heard_size + iov[i].iov_len);
            CHECK(*heard);
            memcpy(*heard + *heard_size, iov[i].iov_base, iov[i].iov_len);
            *heard_size += iov[i].iov_len;
            size += iov[i].iov_len;
        }
        session_sent(session, size, now_us);
    }
    size_t at = 0;
    while (at < *heard_size) {
        struct amqp_frame frame;
        struct bytes rest = bytes_of(*heard + at, *heard_size - at);
        if (amqp_protocol_header_read(rest) == WIRE_OK) {
            at += AMQP_PROTOCOL_HEADER_SIZE;
            continue;
        }
        CHECK(amqp_frame_read(rest, 0, &frame) == WIRE_OK);
        at += frame.size;
    }
    *heard_size = 0;
}

/* A message for consumer 0 or 1, or for the get that waits. */
static void deliver(struct worker *fake, uint8_t kind, uint64_t seq)
{
    struct chunk *chunk;
    static uint8_t body[6000];
    struct delivery delivery = fake_delivery(fake, "x", "key", bytes_of(body, kind & 4 ? sizeof(body) : 5), &chunk);
    delivery.seq = seq;
    delivery.consumer = kind & 1;
    delivery.no_ack = kind & 2;
    fake->ops->deliver(fake->client, &delivery);
    chunk_release(chunk, fake->chunks);
}

/* Answers the oldest request, well or with an error. A get with a message is answered by its delivery. */
static void answer(struct worker *fake, bool good, uint64_t seq)
{
    if (!fake->request_count)
        return;
    struct fake_request *request = &fake->requests[fake->first_request];
    if (request->kind == REQUEST_GET && good) {
        struct chunk *chunk;
        struct delivery delivery = fake_delivery(fake, "", "q", bytes_of_text("got"), &chunk);
        delivery.is_get = true;
        delivery.seq = seq;
        delivery.consumer = request->tag;
        delivery.channel = request->channel;
        fake->first_request = (fake->first_request + 1) % FAKE_REQUESTS_MAX;
        fake->request_count--;
        fake->ops->deliver(fake->client, &delivery);
        chunk_release(chunk, fake->chunks);
        return;
    }
    struct reply reply = {.name = bytes_of_text("amq.gen-name"), .queue = 7, .handle = 9, .text = bytes_of_text("[]")};
    if (request->kind == REQUEST_GET)
        reply.empty = true;
    else if (!good && request->kind != REQUEST_CANCEL)
        reply = (struct reply){.code = 404, .text = bytes_of_text("NOT_FOUND - no queue 'q' in vhost '/'")};
    fake_answer(fake, reply);
}

static void step(struct worker *fake, uint8_t what, uint64_t seq)
{
    switch (what % 14) {
    case 0: case 1: case 2: case 3: case 4: case 5: deliver(fake, what, seq); break;
    case 6: case 7: answer(fake, true, seq); break;
    case 8: answer(fake, false, seq); break;
    case 9: fake->ops->confirmed(fake->client, 1, fake->last_confirm_tag, 1, what & 1); break;
    case 10: fake->may_not_publish = true; fake->ops->blocked(fake->client, "low on disk"); break;
    case 11:
        fake->may_not_publish = false;
        fake->ops->blocked(fake->client, NULL);
        fake->ops->resumed(fake->client);
        break;
    case 12: fake->refuses = !fake->refuses; break;
    default: fake_turn(fake); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct worker fake;
    struct session *session;
    struct session_config config = session_config_default;
    uint8_t *heard = NULL;
    size_t heard_size = 0;
    uint64_t seq = 1;
    if (size == 0)
        return 0;
    fake_open(&fake);
    config.max_message_size = 65536;
    CHECK(session_new(&fake, &config, NULL, NULL, true, fake.now_us, &session) == GW_OK);
    if (data[0] & 1)
        session_feed(session, bytes_of(handshake, sizeof(handshake) - 1), fake.now_us);
    fake_lets_in(&fake);
    for (size_t at = 1; at < size && !session_finished(session); seq++) {
        uint8_t what = data[at++];
        if (what < 200) {
            size_t part = what < size - at ? what : size - at;
            /* Memory of its own size, so that a sanitizer sees who reads too far. */
            uint8_t *copy = malloc(part ? part : 1);
            CHECK(copy);
            memcpy(copy, data + at, part);
            session_feed(session, bytes_of(copy, part), fake.now_us);
            free(copy);
            at += part;
        } else {
            step(&fake, what, seq);
        }
        if (session_deadline(session) <= fake.now_us + what * 10000)
            session_tick(session, fake.now_us + what * 10000);
        listen(session, &heard, &heard_size, fake.now_us);
        if (fake.request_count > FAKE_REQUESTS_MAX / 2)
            break;
    }
    session_free(session);
    fake_close(&fake);
    free(heard);
    return 0;
}
