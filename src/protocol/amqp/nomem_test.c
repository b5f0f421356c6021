/* Every allocation of a session's fails in turn: nothing may crash or leak, and the broker must get back what it handed out. */
#include "base/test_malloc.h"
#include "protocol/amqp/story.h"

#include <sys/mman.h>

/* The linker sends every allocation of this program here. Process-wide, because malloc is. */
static struct {
    unsigned until;     /* allocations left until one fails; 0: none fails */
    bool failed;
    bool armed;         /* the session is at work, or the broker for it; not the test */
} plan;

static bool fails(void)
{
    if (!plan.armed || plan.until == 0 || --plan.until > 0)
        return false;
    plan.failed = true;
    return true;
}

void *__real_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset);

void *__wrap_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset)
{
    return fails() ? MAP_FAILED : __real_mmap(address, size, protection, flags, file, offset);
}

/* What the client says is gathered first, so that only the session allocates while it is fed. */
static uint8_t said_bytes[65536];
static size_t said_size;

static void say(uint16_t channel, enum amqp_method_id id, const struct amqp_value *values)
{
    said_size += amqp_method_frame(said_bytes + said_size, sizeof(said_bytes) - said_size, channel, id, values);
}

static void say_publish(const char *key, size_t body_size, struct bytes properties, bool mandatory)
{
    said_size += amqp_publish_frame(said_bytes + said_size, sizeof(said_bytes) - said_size, 1, bytes_of_text(strncmp(key, "amq.", 4) == 0 ? "" : "x"), bytes_of_text(key), mandatory);
    uint8_t *at = amqp_content_header_write(said_bytes + said_size, 1, body_size, properties);
    at = amqp_frame_begin(at, AMQP_FRAME_BODY, 1, (uint32_t)body_size);
    memset(at, 'b', body_size);
    at[body_size] = AMQP_FRAME_END;
    said_size = (size_t)(at + body_size + 1 - said_bytes);
}

/* In two halves, so that a frame is cut. */
static void feed(void)
{
    plan.armed = true;
    session_feed(peer->session, bytes_of(said_bytes, said_size / 2), peer->now_us);
    session_feed(peer->session, bytes_of(said_bytes + said_size / 2, said_size - said_size / 2), peer->now_us);
    fake_lets_in(&peer->fake);
    plan.armed = false;
    said_size = 0;
}

static void answer(struct reply reply)
{
    if (!peer->fake.request_count)
        return;
    plan.armed = true;
    fake_answer(&peer->fake, reply);
    plan.armed = false;
}

static void deliver_some(uint32_t consumer, unsigned count, size_t body_size)
{
    static uint8_t body[200000];
    for (unsigned i = 0; i < count; i++) {
        struct chunk *chunk;
        struct delivery delivery = fake_delivery(&peer->fake, "x", "k", bytes_of(body, body_size), &chunk);
        delivery.seq = i + 1;
        delivery.consumer = consumer;
        plan.armed = true;
        peer->fake.ops->deliver(peer->fake.client, &delivery);
        plan.armed = false;
        chunk_release(chunk, peer->fake.chunks);
    }
}

static void take_output(void)
{
    struct iovec iov[64];
    unsigned count;
    while ((count = session_output(peer->session, iov, 64)) > 0) {
        size_t size = 0;
        for (unsigned i = 0; i < count; i++)
            size += iov[i].iov_len;
        plan.armed = true;
        session_sent(peer->session, size, peer->now_us);
        plan.armed = false;
    }
}

/* Some of everything that takes memory. */
static void live(void)
{
    struct amqp_value start[] = {amqp_bytes(bytes_of(NULL, 0)), amqp_text("PLAIN"), amqp_bytes(bytes_of("\0guest\0guest", 12)), amqp_text("en_US")};
    struct amqp_value tune[] = {amqp_number(2047), amqp_number(131072), amqp_number(60)}, open[] = {amqp_text("/"), amqp_text(""), amqp_number(0)};
    struct amqp_value one[] = {amqp_text("")}, nothing[AMQP_ARGUMENTS_MAX] = {{.number = 0}};
    struct amqp_value declare_values[AMQP_QUEUE_DECLARE_COUNT] = {[AMQP_QUEUE_DECLARE_QUEUE] = amqp_text("q"), [AMQP_QUEUE_DECLARE_EXCLUSIVE] = amqp_number(1)};
    struct amqp_value consume_values[AMQP_BASIC_CONSUME_COUNT] = {[AMQP_BASIC_CONSUME_QUEUE] = amqp_text("q")};
    struct amqp_value reply_to[AMQP_BASIC_CONSUME_COUNT] = {[AMQP_BASIC_CONSUME_QUEUE] = amqp_text("amq.rabbitmq.reply-to"), [AMQP_BASIC_CONSUME_NO_ACK] = amqp_number(1)};
    struct amqp_value ack[] = {amqp_number(0), amqp_number(1)}, bye[] = {amqp_number(200), amqp_text("bye"), amqp_number(0), amqp_number(0)};
    struct bytes none = bytes_of("\0\0", 2);

    memcpy(said_bytes, amqp_protocol_header, 8);
    said_size = 8;
    feed();
    say(0, AMQP_CONNECTION_START_OK, start);
    say(0, AMQP_CONNECTION_TUNE_OK, tune);
    say(0, AMQP_CONNECTION_OPEN, open);
    for (uint16_t channel = 1; channel <= 5; channel++)
        say(channel, AMQP_CHANNEL_OPEN, one);
    feed();
    say(1, AMQP_QUEUE_DECLARE, declare_values);
    say(1, AMQP_BASIC_CONSUME, consume_values);
    feed();
    answer((struct reply){.name = bytes_of_text("q")});
    answer((struct reply){.queue = 7, .handle = 9});
    say(1, AMQP_BASIC_CONSUME, reply_to);
    feed();
    answer((struct reply){.name = bytes_of_text("amq.gen-1")});
    answer((struct reply){.queue = 8, .handle = 10});
    deliver_some(0, 300, 10);
    deliver_some(0, 3, sizeof(said_bytes) * 2);
    say_publish("k", 20, none, false);
    say_publish("k", 20, bytes_of("\x02\0\x15" "amq.rabbitmq.reply-to", 24), false);
    say_publish("nowhere", 20, none, true);
    say(2, AMQP_CONFIRM_SELECT, nothing);
    say(1, AMQP_TX_SELECT, nothing);
    say_publish("nowhere", 20, none, true);
    say(1, AMQP_BASIC_ACK, ack);
    say(1, AMQP_TX_ROLLBACK, nothing);
    say_publish("k", 20, none, true);
    say(1, AMQP_TX_COMMIT, nothing);
    say_publish("amq.godwit.control", 20, bytes_of("\x02\0\x01" "k", 4), false);
    feed();
    answer((struct reply){0});
    answer((struct reply){.text = bytes_of_text("[]")});
    take_output();
    say(0, AMQP_CONNECTION_CLOSE, bye);
    feed();
    while (peer->fake.request_count)
        answer((struct reply){0});
    take_output();
}

static void each_allocation_fails_in_turn(void **state)
{
    (void)state;
    unsigned number = 1;
    bool done = false;
    for (; !done; number++) {
        peer_open(peer, false);
        plan.until = number;
        plan.failed = false;
        live();
        done = !plan.failed;
        plan.until = 0;
        peer_close(peer);
    }
    assert_in_range(number, 30, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_allocation_fails_in_turn)};
    return cmocka_run_group_tests(tests, open_peer, close_peer);
}
