/* A queue at another broker as a source, over a sink and a feeder that the test answers for. */
#include "sources/test_source.h"

#include "base/test_malloc.h"
#include "protocol/amqp/properties.h"
#include "sources/event_message.h"
#include "sources/source_state.h"

static long left = -1;               /* allocations until one fails; -1: none does */

static bool fails(void) { return left >= 0 && left-- == 0; }

#define SHOVEL "{\"id\": \"s\", \"kind\": \"amqp\", \"uri\": \"amqp://elsewhere\", \"queue\": \"jobs\", \"window\": 2, \"prefetch\": 8}"

/* The queue there: messages 1 … count, of which those that were settled are gone. */
static struct queue {
    unsigned count;
    bool settled[64];
    unsigned by_number[256];         /* which message a delivery was */
    uint64_t number;
} queue;

static void test_settle(struct feeder *feeder, struct feed *feed, uint64_t number)
{
    assert_ptr_equal(world_of_feeder(feeder)->feed, feed);
    assert_true(number <= queue.number);
    queue.settled[queue.by_number[number]] = true;
}

static void begin_shovel(struct world *w, const char *text)
{
    struct declaration declaration;
    declare(&declaration, text);
    w->sink = (struct source_sink){.publish = test_publish, .save = test_save, .due = test_due, .clock = test_clock};
    w->feeder = (struct feeder){.begin = test_begin, .pause = test_pause, .settle = test_settle, .cancel = test_cancel};
    w->now_us = 1000 * SECOND;
    w->wall_us = BIRTH;
    w->source = source_new(&declaration, &w->sink, &w->feeder, NULL, 7);
    assert_non_null(w->source);
    source_start(w->source, bytes_of_text(w->saved));
    turn(w);
    assert_non_null(w->feed);
    w->feed->events->opened(w->feed, &(struct feed_opening){0});
}

static void deliver(struct world *w, unsigned which, struct bytes properties, const char *key, const char *body)
{
    assert_non_null(w->feed);
    queue.by_number[++queue.number] = which;
    const struct feed_message message = {.number = queue.number, .routing_key = bytes_of_text(key), .properties = properties, .body = bytes_of_text(body)};
    w->feed->events->delivered(w->feed, &message);
}

/* A connection's beginning: all that is there. */
static void deliver_all(struct world *w)
{
    for (unsigned i = 1; i <= queue.count && w->feed; i++)
        if (!queue.settled[i]) {
            struct amqp_properties properties = {.flags = AMQP_MESSAGE_ID};
            char id[16], body[16];
            uint8_t room[32];
            properties.message_id = bytes_of(id, (size_t)snprintf(id, sizeof(id), "m%u", i));
            snprintf(body, sizeof(body), "%u", i);
            deliver(w, i, bytes_of(room, amqp_properties_encode(&properties, room, sizeof(room))), "job.new", body);
        }
}

static unsigned settled(void)
{
    unsigned count = 0;
    for (unsigned i = 1; i <= queue.count; i++)
        count += queue.settled[i];
    return count;
}

static void begin_queue(unsigned count)
{
    queue = (struct queue){.count = count};
}

/* ---- at least once ---- */

static void a_message_is_settled_when_its_event_is_on_disk(void **state)
{
    (void)state;
    struct world w = {0};
    begin_queue(3);
    begin_shovel(&w, SHOVEL);
    assert_string_equal(w.address, "amqp://elsewhere");
    assert_string_equal(w.request.queue, "jobs");
    assert_int_equal(w.request.prefetch, 8);
    deliver_all(&w);
    turn(&w);
    heard(&w, "job.new m1 1\njob.new m2 2\n");
    assert_int_equal(settled(), 0);
    source_confirmed(w.source, w.tickets[1], true);
    turn(&w);
    heard(&w, "job.new m3 3\n");
    assert_int_equal(settled(), 0);
    source_confirmed(w.source, w.tickets[0], true);
    turn(&w);
    assert_true(queue.settled[1] && queue.settled[2] && !queue.settled[3]);
    assert_int_equal(w.saves, 0);
    source_free(w.source);
}

/* What the broken connection had brought comes by the next one; what the broker says of the old ones settles nothing of the new. */
static void what_a_connection_takes_with_it_comes_again(void **state)
{
    (void)state;
    struct world w = {0};
    begin_queue(6);
    begin_shovel(&w, SHOVEL);
    deliver_all(&w);
    turn(&w);
    heard(&w, "job.new m1 1\njob.new m2 2\n");
    end(&w, FEED_BROKEN, "The connection to the other broker broke: reset.");
    error_is(&w, "The connection to the other broker broke: reset.");
    state_is(&w, "failing");
    source_confirmed(w.source, w.tickets[0], true);
    live(&w, 2 * SECOND);
    assert_int_equal(w.begun, 2);
    heard(&w, "");
    assert_int_equal(settled(), 0);
    deliver_all(&w);
    turn(&w);
    heard(&w, "job.new m1 1\n");
    source_confirmed(w.source, w.tickets[1], true);
    turn(&w);
    heard(&w, "job.new m2 2\n");
    assert_int_equal(settled(), 0);
    w.confirms_at_once = true;
    w.answered = 2;
    turn(&w);
    heard(&w, "job.new m3 3\njob.new m4 4\njob.new m5 5\njob.new m6 6\n");
    assert_int_equal(settled(), 6);
    source_free(w.source);
}

static void a_pause_waits_for_what_is_under_way(void **state)
{
    (void)state;
    struct world w = {0};
    begin_queue(4);
    begin_shovel(&w, SHOVEL);
    deliver_all(&w);
    turn(&w);
    source_pause(w.source, true);
    turn(&w);
    assert_int_equal(w.cancelled, 0);
    deliver(&w, 4, bytes_of("\0\0", 2), "job.new", "late");
    source_confirmed(w.source, w.tickets[0], true);
    source_confirmed(w.source, w.tickets[1], true);
    turn(&w);
    assert_int_equal(w.cancelled, 1);
    assert_true(queue.settled[1] && queue.settled[2] && !queue.settled[3]);
    heard(&w, "job.new m1 1\njob.new m2 2\n");
    state_is(&w, "paused");
    source_pause(w.source, false);
    turn(&w);
    w.confirms_at_once = true;
    w.answered = w.count;
    deliver_all(&w);
    turn(&w);
    heard(&w, "job.new m3 3\njob.new m4 4\n");
    assert_int_equal(settled(), 4);

    /* Resumed, or broken, while it waits. */
    queue.count = 6;
    w.confirms_at_once = false;
    deliver_all(&w);
    turn(&w);
    source_pause(w.source, true);
    source_pause(w.source, false);
    assert_int_equal(w.cancelled, 2);
    turn(&w);
    assert_int_equal(w.begun, 3);
    source_pause(w.source, true);
    end(&w, FEED_BROKEN, "");
    state_is(&w, "paused");
    source_pause(w.source, false);
    turn(&w);
    assert_int_equal(w.begun, 4);
    source_free(w.source);
}

static void one_that_finishes_takes_nothing_more(void **state)
{
    (void)state;
    struct world w = {0};
    begin_queue(4);
    begin_shovel(&w, SHOVEL);
    deliver_all(&w);
    turn(&w);
    source_finish(w.source);
    turn(&w);
    assert_false(source_is_idle(w.source));
    source_confirmed(w.source, w.tickets[0], false);
    source_confirmed(w.source, w.tickets[1], true);
    live(&w, 2 * SECOND);
    heard(&w, "job.new m1 1\njob.new m2 2\njob.new m1 1\n");
    assert_false(source_is_idle(w.source));
    source_confirmed(w.source, w.tickets[2], true);
    turn(&w);
    assert_true(source_is_idle(w.source));
    assert_int_equal(w.cancelled, 1);
    assert_int_equal(settled(), 2);
    source_free(w.source);
}

/* ---- what it becomes ---- */

static struct bytes properties_of(uint8_t room[1024], const struct amqp_properties *properties) { return bytes_of(room, amqp_properties_encode(properties, room, 1024)); }

/* The one event that waits, as the message that it is. */
static struct amqp_properties message_of(struct world *w, uint8_t *room, size_t size)
{
    struct amqp_properties properties;
    const struct window *window = &w->source->window;
    assert_true(window->end > window->first);
    const struct source_event *event = &window->ring[(window->end - 1) & (window->capacity - 1)]->event;
    assert_true(event_message_room(event) <= size);
    assert_true(amqp_properties_decode(event_message_properties(event, true, room, size), &properties));
    return properties;
}

static void sent_header_is(struct bytes headers, const char *name, const char *expected)
{
    struct amqp_field field;
    bool found = amqp_table_find(headers, name, &field);
    if (!expected) {
        assert_false(found);
        return;
    }
    assert_true(found && field.type == 'S');
    assert_true(bytes_equal(field.bytes, bytes_of_text(expected)));
}

#define TEXT_IS(bytes, text) assert_true(bytes_equal(bytes, bytes_of_text(text)))

static void an_event_stays_what_it_is(void **state)
{
    (void)state;
    struct world w = {0};
    struct amqp_table_writer writer;
    uint8_t headers[512], room[1024], made[4096];
    struct amqp_properties sent = {.flags = AMQP_HEADERS | AMQP_CONTENT_TYPE | AMQP_CONTENT_ENCODING | AMQP_PRIORITY | AMQP_CORRELATION_ID | AMQP_REPLY_TO | AMQP_EXPIRATION | AMQP_MESSAGE_ID |
                                            AMQP_MESSAGE_TIMESTAMP | AMQP_TYPE | AMQP_USER_ID | AMQP_APP_ID | AMQP_CLUSTER_ID | AMQP_DELIVERY_MODE,
                                   .delivery_mode = 1, .priority = 7, .timestamp = 1774742400, .content_type = bytes_of_text("application/xml"), .content_encoding = bytes_of_text("gzip"),
                                   .correlation_id = bytes_of_text("c1"), .reply_to = bytes_of_text("answers"), .expiration = bytes_of_text("60000"), .message_id = bytes_of_text("other"),
                                   .type = bytes_of_text("other"), .user_id = bytes_of_text("guest"), .app_id = bytes_of_text("shop"), .cluster_id = bytes_of_text("c")};
    amqp_table_begin(&writer, headers, sizeof(headers));
    amqp_table_put_text(&writer, "cloudEvents:specversion", bytes_of_text("1.0"));
    amqp_table_put_text(&writer, "cloudEvents:id", bytes_of_text("e1"));
    amqp_table_put_text(&writer, "cloudEvents:source", bytes_of_text("/shop"));
    amqp_table_put_text(&writer, "cloudEvents:type", bytes_of_text("order.paid"));
    amqp_table_put_text(&writer, "cloudEvents:subject", bytes_of_text("7"));
    amqp_table_put_text(&writer, "cloudEvents_partitionkey", bytes_of_text("k"));
    amqp_table_put_text(&writer, "cloudEvents:time", bytes_of_text("2026-03-29T02:00:00.123456+02:00"));
    amqp_table_put_text(&writer, "cloudEvents:tenant", bytes_of_text("a"));
    amqp_table_put_text(&writer, "trace", bytes_of_text("t1"));
    amqp_table_put_long(&writer, "x-delivery-count", 3);
    amqp_table_put_long(&writer, "x-delay", 3000);
    amqp_table_put_text(&writer, "x-first-death-queue", bytes_of_text("q"));
    amqp_table_put_text(&writer, "CC", bytes_of_text("q"));
    assert_true(amqp_table_finish(&writer, &sent.headers));
    begin_queue(1);
    begin_shovel(&w, SHOVEL);
    deliver(&w, 1, properties_of(room, &sent), "jobs", "x");
    struct amqp_properties got = message_of(&w, made, sizeof(made));
    assert_int_equal(got.flags, sent.flags & ~(AMQP_USER_ID | AMQP_CLUSTER_ID));
    assert_int_equal(got.delivery_mode, 2);
    assert_int_equal(got.priority, 7);
    assert_int_equal(got.timestamp, sent.timestamp);
    TEXT_IS(got.content_type, "application/xml");
    TEXT_IS(got.content_encoding, "gzip");
    TEXT_IS(got.correlation_id, "c1");
    TEXT_IS(got.reply_to, "answers");
    TEXT_IS(got.expiration, "60000");
    TEXT_IS(got.message_id, "e1");
    TEXT_IS(got.type, "order.paid");
    TEXT_IS(got.app_id, "shop");
    const struct { const char *name, *value; } rows[] = {
        {"cloudEvents_specversion", "1.0"}, {"cloudEvents_id", "e1"}, {"cloudEvents_source", "/shop"}, {"cloudEvents_type", "order.paid"}, {"cloudEvents_subject", "7"},
        {"cloudEvents_partitionkey", "k"}, {"cloudEvents_time", "2026-03-29T02:00:00.123456+02:00"}, {"cloudEvents_tenant", "a"}, {"trace", "t1"}, {"cloudEvents:id", NULL},
        {"cloudEvents:tenant", NULL}, {"x-delivery-count", NULL}, {"x-delay", NULL}, {"x-first-death-queue", NULL}, {"CC", NULL}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        sent_header_is(got.headers, rows[i].name, rows[i].value);
    source_free(w.source);
}

static void a_message_becomes_an_event(void **state)
{
    (void)state;
    struct world w = {0};
    struct amqp_table_writer writer;
    struct amqp_properties sent = {.flags = AMQP_MESSAGE_ID | AMQP_EXPIRATION, .message_id = bytes_of_text("m1"), .expiration = bytes_of_text("soon")}, got;
    uint8_t headers[64], room[1024], made[4096];
    begin_queue(9);
    begin_shovel(&w, "{\"id\": \"s\", \"kind\": \"amqp\", \"uri\": \"amqp://elsewhere\", \"queue\": \"jobs\", \"subject\": \"{{header:trace}}\", \"key\": \"{{routing_key}}\"}");
    deliver(&w, 1, properties_of(room, &sent), "job.new", "{}");
    got = message_of(&w, made, sizeof(made));
    assert_int_equal(got.flags, AMQP_HEADERS | AMQP_CONTENT_TYPE | AMQP_DELIVERY_MODE | AMQP_MESSAGE_ID | AMQP_MESSAGE_TIMESTAMP | AMQP_TYPE);
    TEXT_IS(got.type, "job.new");
    TEXT_IS(got.message_id, "m1");
    TEXT_IS(got.content_type, "application/json");
    assert_int_equal(got.timestamp, BIRTH / SECOND);
    sent_header_is(got.headers, "cloudEvents_source", "/sources/s");
    sent_header_is(got.headers, "cloudEvents_partitionkey", "job.new");
    sent_header_is(got.headers, "cloudEvents_time", "2026-03-29T00:00:00Z");
    sent_header_is(got.headers, "cloudEvents_subject", NULL);

    /* Its type, where it has one, says more than its routing key, which may be but the queue's name. */
    amqp_table_begin(&writer, headers, sizeof(headers));
    amqp_table_put_text(&writer, "trace", bytes_of_text("t1"));
    sent = (struct amqp_properties){.flags = AMQP_TYPE | AMQP_HEADERS, .type = bytes_of_text("job.old")};
    assert_true(amqp_table_finish(&writer, &sent.headers));
    deliver(&w, 2, properties_of(room, &sent), "jobs", "");
    got = message_of(&w, made, sizeof(made));
    TEXT_IS(got.type, "job.old");
    sent_header_is(got.headers, "cloudEvents_subject", "t1");

    /* One without an id gets another one each time; of a stream, its offset's. */
    uint8_t earlier[UINT8_MAX];
    struct bytes id = bytes_of(earlier, got.message_id.size);
    memcpy(earlier, got.message_id.data, got.message_id.size);
    deliver(&w, 2, properties_of(room, &sent), "jobs", "");
    assert_false(bytes_equal(message_of(&w, made, sizeof(made)).message_id, id));
    amqp_table_begin(&writer, headers, sizeof(headers));
    amqp_table_put_long(&writer, "x-stream-offset", 4711);
    assert_true(amqp_table_finish(&writer, &sent.headers));
    deliver(&w, 3, properties_of(room, &sent), "jobs", "");
    got = message_of(&w, made, sizeof(made));
    TEXT_IS(got.message_id, "s/4711");
    sent_header_is(got.headers, "x-stream-offset", NULL);

    /* What is nothing that could be an attribute, and what is nothing at all. */
    sent = (struct amqp_properties){.flags = AMQP_MESSAGE_ID | AMQP_TYPE, .message_id = bytes_of_text("a\nb"), .type = bytes_of_text("\xff")};
    deliver(&w, 4, properties_of(room, &sent), "", "");
    got = message_of(&w, made, sizeof(made));
    TEXT_IS(got.type, "amqp.message");
    assert_true(got.message_id.size == 18 && memcmp(got.message_id.data, "s/", 2) == 0);
    deliver(&w, 5, bytes_of("\xff", 1), "", "");
    TEXT_IS(message_of(&w, made, sizeof(made)).type, "amqp.message");
    source_free(w.source);
}

/* ---- streams ---- */

static void deliver_offset(struct world *w, uint64_t offset)
{
    struct amqp_table_writer writer;
    struct amqp_properties sent = {.flags = AMQP_HEADERS};
    uint8_t headers[64], room[128];
    amqp_table_begin(&writer, headers, sizeof(headers));
    amqp_table_put_long(&writer, "x-stream-offset", (int64_t)offset);
    assert_true(amqp_table_finish(&writer, &sent.headers));
    deliver(w, 1, bytes_of(room, amqp_properties_encode(&sent, room, sizeof(room))), "a", "");
}

#define STREAM "{\"id\": \"s\", \"kind\": \"amqp\", \"uri\": \"amqp://elsewhere\", \"queue\": \"jobs\", \"window\": 2, \"from\": \"start\"}"

/* The request lies where the source's own memory is. */
static void begins_at(const struct world *w, uint64_t offset)
{
    assert_non_null(w->request.offset);
    assert_int_equal(*w->request.offset, offset);
}

static void a_stream_is_read_on_from_where_it_was(void **state)
{
    (void)state;
    struct world w = {0};
    begin_queue(1);
    begin_shovel(&w, STREAM);
    assert_true(w.request.from_start && !w.request.offset);
    for (uint64_t offset = 5; offset < 9; offset++)
        deliver_offset(&w, offset);
    turn(&w);
    heard(&w, "a s/5 \na s/6 \n");
    source_confirmed(w.source, w.tickets[0], true);
    turn(&w);
    assert_string_equal(w.saving, "{\"offset\":6,\"queue\":\"jobs\",\"kind\":\"amqp\"}");
    heard(&w, "a s/7 \n");
    /* The connection breaks: what waited comes again. */
    end(&w, FEED_BROKEN, "");
    live(&w, 2 * SECOND);
    assert_int_equal(w.begun, 2);
    begins_at(&w, 6);
    source_confirmed(w.source, w.tickets[1], true);
    source_confirmed(w.source, w.tickets[2], true);
    deliver_offset(&w, 6);
    turn(&w);
    heard(&w, "a s/6 \n");
    source_free(w.source);

    /* After a restart, from the position. */
    struct world again = {0};
    snprintf(again.saved, sizeof(again.saved), "{\"offset\":6,\"queue\":\"jobs\",\"kind\":\"amqp\"}");
    begin_queue(1);
    begin_shovel(&again, STREAM);
    begins_at(&again, 6);
    /* What does not go up is no stream's. */
    deliver_offset(&again, 6);
    deliver_offset(&again, 6);
    again.confirms_at_once = true;
    turn(&again);
    assert_non_null(strstr(again.heard, "a s/6 \na s/"));
    assert_null(strstr(again.heard, "a s/6 \na s/6 \n"));
    source_free(again.source);

    struct world other = {0};
    snprintf(other.saved, sizeof(other.saved), "{\"offset\":6,\"queue\":\"others\",\"kind\":\"amqp\"}");
    begin_shovel(&other, STREAM);
    assert_true(other.request.from_start && !other.request.offset);
    source_free(other.source);
}

static void headers_that_would_not_fit_are_left_out(void **state)
{
    (void)state;
    struct world w = {0};
    struct amqp_table_writer writer;
    static uint8_t headers[200000], room[200000], made[500000], value[97 << 10];
    struct amqp_properties sent = {.flags = AMQP_HEADERS | AMQP_PRIORITY, .priority = 3};
    begin_queue(2);
    begin_shovel(&w, SHOVEL);
    memset(value, 'x', sizeof(value));
    for (unsigned i = 0; i < 2; i++) {
        amqp_table_begin(&writer, headers, sizeof(headers));
        amqp_table_put_text(&writer, "large", bytes_of(value, i ? sizeof(value) : 90000));
        assert_true(amqp_table_finish(&writer, &sent.headers));
        deliver(&w, i + 1, bytes_of(room, amqp_properties_encode(&sent, room, sizeof(room))), "a", "");
        struct amqp_properties got = message_of(&w, made, sizeof(made));
        struct amqp_field field;
        assert_int_equal(amqp_table_find(got.headers, "large", &field), i == 0);
        assert_int_equal(got.priority, 3);
    }
    source_free(w.source);
}

/* ---- without memory ---- */

static void nothing_is_lost_when_memory_runs_out(void **state)
{
    (void)state;
    for (long n = 0; n < 60; n++) {
        struct world w = {0};
        begin_queue(20);
        begin_shovel(&w, SHOVEL);
        w.confirms_at_once = true;
        left = n;
        deliver_all(&w);
        turn(&w);
        left = -1;
        for (unsigned i = 0; i < 20 && settled() < 20; i++) {
            unsigned begun = w.begun;
            live(&w, 10 * SECOND);
            if (w.begun > begun) {
                w.feed->events->opened(w.feed, &(struct feed_opening){0});
                deliver_all(&w);
            }
            turn(&w);
        }
        if (settled() < 20)
            fail_msg("allocation %ld: %u of 20\n%s", n, settled(), w.heard);
        source_free(w.source);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_settled_when_its_event_is_on_disk), cmocka_unit_test(what_a_connection_takes_with_it_comes_again), cmocka_unit_test(a_pause_waits_for_what_is_under_way),
        cmocka_unit_test(one_that_finishes_takes_nothing_more), cmocka_unit_test(an_event_stays_what_it_is), cmocka_unit_test(a_message_becomes_an_event),
        cmocka_unit_test(a_stream_is_read_on_from_where_it_was), cmocka_unit_test(headers_that_would_not_fit_are_left_out), cmocka_unit_test(nothing_is_lost_when_memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
