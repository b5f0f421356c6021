/* A feed of a queue at another broker, over a real socket on a loop, with a broker on the same loop that says what it is to say. And without memory: every allocation fails in its turn. */
#include "host/feed_amqp.h"

#include "base/test_malloc.h"
#include "client/talk_story.h"

#include <setjmp.h>
#include <stddef.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdlib.h>

#define WAIT_MS 10000u
#define MESSAGES 3u

static long left = -1;               /* allocations until one fails; -1: none does */

static bool fails(void) { return left >= 0 && __atomic_fetch_sub(&left, 1, __ATOMIC_RELAXED) == 0; }

/* One connection at a time. */
static struct other {
    uv_tcp_t listener, *connection;  /* connection: NULL: none */
    bool was_hung_up;
    struct story story;              /* said: what is to be written; told: what was heard */
    uint8_t in[1 << 16];
    size_t in_size;
    bool is_acked[MESSAGES + 1], is_mute_at_goodbye, refuses_log_in, is_exclusive, is_deaf;
    unsigned by_tag[64], tags;
    uint16_t channel;
} other;

static struct ear {
    struct feed feed;                /* first */
    struct feeder_set *set;
    uv_loop_t loop;
    uv_timer_t timer;
    bool is_late, is_opened, is_ended;
    struct feed_end end;
    unsigned came;
    uint64_t numbers[64];
    const char *refusal;
} ear;

/* ---- the other broker ---------------------------------------------------------------------------------------------------------- */

static void deliver(uint16_t channel, unsigned which)
{
    other.by_tag[++other.tags] = which;
    say_delivery(&other.story, channel, "godwit-0", other.tags, 5000 * which);
}

static void on_ack(const struct amqp_method *ack)
{
    uint64_t last = ack->values[0].number;
    for (uint64_t tag = ack->values[1].number ? 1 : last; tag <= last; tag++)
        other.is_acked[other.by_tag[tag]] = true;
}

static void answer(uint16_t channel, const struct amqp_method *method)
{
    struct amqp_value nothing[AMQP_ARGUMENTS_MAX] = {{{0}}};
    struct story *story = &other.story;
    switch (method->row->id) {
    case AMQP_CONNECTION_START_OK:
        if (other.refuses_log_in)
            say_close(story, 0, AMQP_CONNECTION_CLOSE, 403, "ACCESS_REFUSED - who are you?");
        else
            say_tune(story, 10);
        break;
    case AMQP_CONNECTION_OPEN: say(story, 0, AMQP_CONNECTION_OPEN_OK, nothing); break;
    case AMQP_CHANNEL_OPEN: say(story, channel, AMQP_CHANNEL_OPEN_OK, nothing); break;
    case AMQP_QUEUE_DECLARE:
        if (other.is_exclusive)
            say_close(story, channel, AMQP_CHANNEL_CLOSE, 405, "RESOURCE_LOCKED - it is somebody else's");
        else
            say(story, channel, AMQP_QUEUE_DECLARE_OK, nothing);
        break;
    case AMQP_BASIC_QOS: say(story, channel, AMQP_BASIC_QOS_OK, NULL); break;
    case AMQP_BASIC_CONSUME:
        other.channel = channel;
        say(story, channel, AMQP_BASIC_CONSUME_OK, nothing);
        other.tags = 0;
        for (unsigned i = 1; i <= MESSAGES; i++)
            if (!other.is_acked[i])
                deliver(channel, i);
        break;
    case AMQP_BASIC_ACK: on_ack(method); break;
    case AMQP_BASIC_NACK: deliver(channel, other.by_tag[method->values[0].number]); break;
    case AMQP_CONNECTION_CLOSE:
        if (!other.is_mute_at_goodbye)
            say(story, 0, AMQP_CONNECTION_CLOSE_OK, NULL);
        break;
    default: break;
    }
}

static void listen_to_all(void)
{
    size_t at = 0;
    while (at < other.in_size) {
        struct amqp_frame frame;
        struct amqp_method method = {0};
        struct bytes rest = bytes_of(other.in + at, other.in_size - at);
        if (at == 0 && amqp_protocol_header_read(rest) == WIRE_OK) {
            at += AMQP_PROTOCOL_HEADER_SIZE;
            say_start(&other.story);
            continue;
        }
        if (amqp_frame_read(rest, 0, &frame) != WIRE_OK)
            break;
        at += frame.size;
        if (frame.type != AMQP_FRAME_METHOD)
            continue;
        CHECK(amqp_method_decode(frame.payload, &method) == AMQP_DECODED);
        tell(&other.story, "%s\n", method.row->name);
        answer(frame.channel, &method);
    }
    memmove(other.in, other.in + at, other.in_size - at);
    other.in_size -= at;
}

static void on_hung_up(uv_handle_t *handle) { free(handle); }

static void hang_up(void)
{
    if (other.connection)
        uv_close((uv_handle_t *)other.connection, on_hung_up);
    other.connection = NULL;
    other.in_size = other.story.said_size = 0;
}

/* All that is to be said fits into the socket's buffer. */
static void say_all(void)
{
    uv_buf_t buffer = uv_buf_init((char *)other.story.said, (unsigned)other.story.said_size);
    if (other.story.said_size)
        assert_int_equal(uv_try_write((uv_stream_t *)other.connection, &buffer, 1), other.story.said_size);
    other.story.said_size = 0;
}

static void on_room(uv_handle_t *handle, size_t size, uv_buf_t *buffer)
{
    (void)handle, (void)size;
    *buffer = uv_buf_init((char *)other.in + other.in_size, (unsigned)(sizeof(other.in) - other.in_size));
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    (void)stream, (void)buffer;
    if (size < 0) {
        other.was_hung_up = true;
        hang_up();
        return;
    }
    other.in_size += (size_t)size;
    if (other.is_deaf)
        return;
    listen_to_all();
    say_all();
}

static void on_connection(uv_stream_t *listener, int status)
{
    assert_int_equal(status, 0);
    assert_null(other.connection);
    other.connection = __real_malloc(sizeof(*other.connection));
    assert_non_null(other.connection);
    assert_int_equal(uv_tcp_init(listener->loop, other.connection), 0);
    assert_int_equal(uv_accept(listener, (uv_stream_t *)other.connection), 0);
    other.was_hung_up = false;
    uv_read_start((uv_stream_t *)other.connection, on_room, on_read);
}

/* ---- the feed's user ------------------------------------------------------------------------------------------------------------- */

static void on_feed_opened(struct feed *feed, struct feed_opening *opening)
{
    (void)feed, (void)opening;
    ear.is_opened = true;
}

static void on_message(struct feed *feed, const struct feed_message *message)
{
    (void)feed;
    ear.numbers[ear.came++] = message->number;
    assert_string_equal(bytes_equal(message->routing_key, bytes_of_text("order.created")) ? "order.created" : "", "order.created");
    assert_int_equal(message->body.size % 5000, 0);
}

static void on_ended(struct feed *feed, const struct feed_end *end)
{
    (void)feed;
    ear.is_ended = true;
    ear.end = *end;
}

static const struct feed_events events = {.opened = on_feed_opened, .delivered = on_message, .ended = on_ended};
static void told(void *owner) { (void)owner; }

static void settle(unsigned which)
{
    feeder_set_io(ear.set)->settle(feeder_set_io(ear.set), &ear.feed, ear.numbers[which - 1]);
}

static bool begin_feed(void)
{
    char address[64];
    struct sockaddr_in at;
    int size = sizeof(at);
    assert_int_equal(uv_tcp_getsockname(&other.listener, (struct sockaddr *)&at, &size), 0);
    snprintf(address, sizeof(address), "amqp://127.0.0.1:%u", ntohs(at.sin_port));
    ear.is_opened = ear.is_ended = false;
    ear.came = 0;
    ear.feed.events = &events;
    return feeder_set_io(ear.set)->begin(feeder_set_io(ear.set), &ear.feed, &(struct feed_request){.kind = FEED_AMQP, .address = address, .name = "a test", .queue = "jobs", .prefetch = 10});
}

static int begin(void **state)
{
    struct sockaddr_in at;
    (void)state;
    memset(&other, 0, sizeof(other));
    memset(&ear, 0, sizeof(ear));
    uv_loop_init(&ear.loop);
    uv_timer_init(&ear.loop, &ear.timer);
    uv_tcp_init(&ear.loop, &other.listener);
    uv_ip4_addr("127.0.0.1", 0, &at);
    uv_tcp_bind(&other.listener, (const struct sockaddr *)&at, 0);
    if (uv_listen((uv_stream_t *)&other.listener, 5, on_connection) != 0)
        return 1;
    ear.set = feeder_set_new(&(struct feeder_config){.loop = &ear.loop, .told = told, .amqp = &feeding_amqp});
    return ear.set ? 0 : 1;
}

static void on_late(uv_timer_t *timer) { (void)timer, ear.is_late = true; }

static bool lasts(bool (*until)(void), uint64_t wait_ms)
{
    ear.is_late = false;
    uv_timer_start(&ear.timer, on_late, wait_ms, 0);
    while (!until() && !ear.is_late)
        uv_run(&ear.loop, UV_RUN_ONCE);
    uv_timer_stop(&ear.timer);
    return until();
}

#define WAIT(until) assert_true(lasts(until, WAIT_MS))

static void cancel(void)
{
    if (ear.feed.transport)
        feeder_set_io(ear.set)->cancel(feeder_set_io(ear.set), &ear.feed);
}

/* Nothing of it is left on the loop, however the feed ended. */
static int end(void **state)
{
    (void)state;
    cancel();
    feeder_set_free(ear.set);
    hang_up();
    uv_close((uv_handle_t *)&other.listener, NULL);
    uv_close((uv_handle_t *)&ear.timer, NULL);
    uint64_t begin_ms = uv_now(&ear.loop);
    uv_run(&ear.loop, UV_RUN_DEFAULT);
    assert_in_range(uv_now(&ear.loop) - begin_ms, 0, 1000);
    return uv_loop_close(&ear.loop);
}

static bool all_came(void) { return ear.came == MESSAGES; }
static bool has_more(void) { return ear.came > MESSAGES; }
static bool has_ended(void) { return ear.is_ended; }
static bool second_is_acked(void) { return other.is_acked[2]; }
static bool was_hung_up(void) { return other.was_hung_up; }
static bool is_heard(void) { return other.in_size > 0; }

static void ended_with(enum feed_outcome outcome, const char *why)
{
    WAIT(has_ended);
    assert_string_equal(ear.end.why, why);
    assert_int_equal(ear.end.outcome, outcome);
    assert_null(ear.feed.transport);
}

/* ---- stories ---------------------------------------------------------------------------------------------------------------------- */

static void messages_come_and_are_settled(void **state)
{
    (void)state;
    assert_true(begin_feed());
    WAIT(all_came);
    assert_true(ear.is_opened);
    settle(2);
    WAIT(second_is_acked);
    assert_false(other.is_acked[1] || other.is_acked[3]);
    settle(2);                       /* it is not known any more */
}

/* What is large has to wait at the other broker. */
static void a_pause_reads_nothing_more(void **state)
{
    (void)state;
    assert_true(begin_feed());
    WAIT(all_came);
    feeder_set_io(ear.set)->pause(feeder_set_io(ear.set), &ear.feed, true);
    deliver(other.channel, 1);
    say_all();
    assert_false(lasts(has_more, 100));
    settle(2);                       /* what is to be written is written all the same */
    WAIT(second_is_acked);
    feeder_set_io(ear.set)->pause(feeder_set_io(ear.set), &ear.feed, false);
    WAIT(has_more);
    /* One that is paused hears the goodbye. */
    feeder_set_io(ear.set)->pause(feeder_set_io(ear.set), &ear.feed, true);
    cancel();
    assert_true(lasts(was_hung_up, 1000));
}

/* What was settled right before is heard; the other broker's goodbye is waited for. */
static void it_says_goodbye(void **state)
{
    (void)state;
    assert_true(begin_feed());
    WAIT(all_came);
    settle(1);
    settle(2);
    cancel();
    WAIT(was_hung_up);
    assert_true(other.is_acked[1] && other.is_acked[2] && !other.is_acked[3]);
    assert_non_null(strstr(other.story.told, "basic.ack\nconnection.close\n"));
}

static void a_broker_that_says_no_goodbye_is_hung_up_on(void **state)
{
    (void)state;
    other.is_mute_at_goodbye = true;
    assert_true(begin_feed());
    WAIT(all_came);
    cancel();
    assert_false(lasts(was_hung_up, 1000));
    WAIT(was_hung_up);
    /* Another one is still at it when the set goes: it does not wait. */
    assert_true(begin_feed());
    WAIT(all_came);
    cancel();
    assert_false(lasts(was_hung_up, 50));
}

static void what_goes_wrong_is_said(void **state)
{
    (void)state;
    assert_true(begin_feed());
    WAIT(all_came);
    hang_up();
    ended_with(FEED_BROKEN, "The connection to the other broker broke: the broker hung up.");

    other.refuses_log_in = true;
    assert_true(begin_feed());
    ended_with(FEED_BROKEN, "At the other broker: the broker does not let us in: 403 ACCESS_REFUSED - who are you?.");
    other.refuses_log_in = false;

    other.is_exclusive = true;
    assert_true(begin_feed());
    ended_with(FEED_BROKEN, "The other broker: the queue jobs cannot be had: 405 RESOURCE_LOCKED - it is somebody else's.");
    other.is_exclusive = false;
    WAIT(was_hung_up);

    struct amqp_value cancelled[AMQP_BASIC_CANCEL_COUNT] = {[AMQP_BASIC_CANCEL_CONSUMER_TAG] = amqp_text("godwit-0"), [AMQP_BASIC_CANCEL_NO_WAIT] = amqp_number(1)};
    assert_true(begin_feed());
    WAIT(all_came);
    say(&other.story, other.channel, AMQP_BASIC_CANCEL, cancelled);
    say_all();
    ended_with(FEED_BROKEN, "The other broker: the queue jobs was deleted; it is made again.");
    settle(1);                       /* nobody has it any more */
}

static void it_can_be_cancelled_at_any_time(void **state)
{
    (void)state;
    for (unsigned turns = 0; turns < 40; turns++) {
        assert_true(begin_feed());
        for (unsigned i = 0; i < turns; i++)
            uv_run(&ear.loop, UV_RUN_NOWAIT);
        cancel();
        for (unsigned i = 0; i < 1000 && (other.connection || i < 10); i++)
            uv_run(&ear.loop, UV_RUN_NOWAIT);
        hang_up();
    }
    /* … and while the other one is silent. */
    other.is_deaf = true;
    assert_true(begin_feed());
    WAIT(is_heard);
    cancel();
    assert_false(ear.is_ended);
}

static bool came_or_ended(void) { return all_came() || has_ended(); }

static void each_allocation_fails_once(void **state)
{
    unsigned ended = 0;
    long n = 0;
    for (bool failed = true; failed; n++) {
        assert_int_equal(begin(state), 0);
        left = n;
        bool begun = begin_feed();
        if (begun)
            WAIT(came_or_ended);
        for (unsigned i = 1; begun && !has_ended() && i <= MESSAGES; i++)
            settle(i);
        for (unsigned i = 0; i < 20; i++)
            uv_run(&ear.loop, UV_RUN_NOWAIT);
        failed = left < 0;
        left = -1;
        ended += has_ended() || !begun;
        /* With memory again all is as it should be. */
        cancel();
        hang_up();
        memset(other.is_acked, 0, sizeof(other.is_acked));
        for (unsigned i = 0; i < 10; i++)
            uv_run(&ear.loop, UV_RUN_NOWAIT);
        assert_true(begin_feed());
        WAIT(all_came);
        settle(2);
        WAIT(second_is_acked);
        assert_int_equal(end(state), 0);
    }
    assert_in_range(ended, 5, n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_come_and_are_settled, begin, end), cmocka_unit_test_setup_teardown(a_pause_reads_nothing_more, begin, end),
        cmocka_unit_test_setup_teardown(it_says_goodbye, begin, end),
        cmocka_unit_test_setup_teardown(a_broker_that_says_no_goodbye_is_hung_up_on, begin, end), cmocka_unit_test_setup_teardown(what_goes_wrong_is_said, begin, end),
        cmocka_unit_test_setup_teardown(it_can_be_cancelled_at_any_time, begin, end), cmocka_unit_test(each_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
