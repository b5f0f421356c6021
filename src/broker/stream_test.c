/* Streams through the whole of a broker, on a disk that crashes at every one of its operations. Message n has the body "n", and lies at offset n. */
#include "broker/stream.h"
#include "broker/test_broker.h"

#include "broker/worker_internal.h"
#include "protocol/amqp/properties.h"
#include "store/test_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)
#define PADDING "------------------------------------------------------------------------"

struct story {
    struct test_broker test;
    struct test_disk *disk;          /* NULL: in memory */
    struct test_client *client;
    uint64_t published;
};

static void open_story(struct story *story)
{
    test_broker_open(&story->test, 1, 1, story->disk ? test_disk_face(story->disk) : NULL, 0);
    story->client = test_client_new(&story->test, 0);
}

static void go_on(struct story *story)
{
    unsigned broken = 0;
    do
        test_settle_down(&story->test);
    while (story->disk && test_disk_step(story->disk) && (broken += test_disk_crashed(story->disk)) < 20);
}

static void end_broker(struct story *story)
{
    if (story->disk && !test_disk_crashed(story->disk))
        go_on(story);
    test_client_free(story->client);
    broker_close(story->test.broker);
    broker_free(story->test.broker);
}

static void reopen(struct story *story)
{
    end_broker(story);
    open_story(story);
}

static struct story *begin(bool on_disk)
{
    struct story *story = calloc(1, sizeof(*story));
    story->disk = on_disk ? test_disk_new(7) : NULL;
    open_story(story);
    return story;
}

static void end(struct story *story)
{
    end_broker(story);
    if (story->disk)
        test_disk_free(story->disk);
    free(story);
}

static uint16_t ask(struct story *story, struct request request)
{
    unsigned before = story->client->count;
    client_request(&story->client->client, &request);
    go_on(story);
    for (unsigned i = before; i < story->client->count; i++)
        if (story->client->events[i].kind == EVENT_REPLY)
            return story->client->events[i].reply.code;
    return UINT16_MAX;
}

static uint16_t declare(struct story *story, uint64_t segment_bytes, uint64_t max_bytes)
{
    uint8_t room[256];
    struct amqp_table_writer writer;
    struct bytes arguments;
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "x-queue-type", TEXT("stream"));
    if (segment_bytes)
        amqp_table_put_long(&writer, "x-stream-max-segment-size-bytes", (int64_t)segment_bytes);
    if (max_bytes)
        amqp_table_put_long(&writer, "x-max-length-bytes", (int64_t)max_bytes);
    assert_true(amqp_table_finish(&writer, &arguments));
    return ask(story, (struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_DURABLE, .name = TEXT("s"), .arguments = arguments});
}

static struct stream *stream_of(struct story *story)
{
    struct shard *shard = story->test.broker->workers[0]->shards[0];
    uint32_t cursor = 0;
    for (struct queue *queue; (queue = map_next(&shard->queues, &cursor));)
        if (queue->stream)
            return queue->stream;
    return NULL;
}

/* What the log holds of the stream so far goes to its segments. */
static void checkpoint(struct story *story)
{
    struct shard *shard = story->test.broker->workers[0]->shards[0];
    shard->checkpoint_cutoff = log_committed(shard->log).offset;
    go_on(story);
}

static void publish(struct story *story, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char body[100];
        snprintf(body, sizeof(body), "%u" PADDING, (unsigned)story->published++);
        test_publish(story->client, "", "s", body, story->published, i % 2, NULL);
        if (i % 7 == 6)
            go_on(story);
    }
    go_on(story);
}

static uint64_t confirmed(const struct story *story)
{
    uint64_t below = 0;
    for (unsigned i = 0; i < story->client->count; i++)
        if (story->client->events[i].kind == EVENT_CONFIRM && story->client->events[i].accepted)
            below = story->client->events[i].first + story->client->events[i].count - 1;
    return below;
}

struct reading {
    struct story *story;
    struct test_client *client;
    uint64_t next, count;        /* the offset after the last one that came; messages */
    uint64_t queue;
    bool gaps;                   /* are allowed */
};

static void consume(struct story *story, struct reading *reading, struct bytes arguments, uint32_t prefetch)
{
    reading->story = story;
    reading->client = test_client_new(&story->test, 0);
    client_request(&reading->client->client, &(struct request){.kind = REQUEST_CONSUME, .name = TEXT("s"), .tag = 1, .channel = 1, .prefetch = prefetch, .arguments = arguments});
}

static void consume_from(struct story *story, struct reading *reading, int64_t offset, uint32_t prefetch)
{
    uint8_t room[64];
    struct amqp_table_writer writer;
    struct bytes arguments;
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_long(&writer, "x-stream-offset", offset);
    assert_true(amqp_table_finish(&writer, &arguments));
    consume(story, reading, arguments, prefetch);
    reading->next = (uint64_t)offset;
}

/* Acknowledges what has come; each message must be the next one. */
static bool take(struct reading *reading)
{
    bool any = false;
    for (struct test_event *event; (event = test_next(reading->client));) {
        if (event->kind != EVENT_DELIVERY)
            continue;
        uint64_t offset = event->delivery.added_value;
        assert_int_equal(event->delivery.added, DELIVERY_ADDS_OFFSET);
        assert_int_equal(strtoull(event->body, NULL, 10), offset);
        assert_true(reading->gaps ? offset >= reading->next : offset == reading->next);
        reading->next = offset + 1;
        reading->count++;
        client_settle(&reading->client->client, event->delivery.queue, SETTLE_ACK, event->delivery.seq, 1, NULL);
        any = true;
    }
    reading->client->count = reading->client->seen = 0;
    return any;
}

static void read_out(struct reading *reading)
{
    do
        go_on(reading->story);
    while (take(reading));
}

static void stop(struct reading *reading) { test_client_free(reading->client); }

static void expect_all_from(struct story *story, uint64_t first)
{
    struct reading reading = {0};
    consume_from(story, &reading, (int64_t)first, 50);
    read_out(&reading);
    assert_int_equal(reading.next, story->published);
    assert_int_equal(reading.count, story->published - first);
    stop(&reading);
}

/* ---- stories -------------------------------------------------------------------------------------------------------- */

static void everybody_reads_everything(void **state)
{
    (void)state;
    for (unsigned on_disk = 0; on_disk < 2; on_disk++) {
        struct story *story = begin(on_disk);
        struct reading early = {0}, slow = {0};
        assert_int_equal(declare(story, 3000, 0), 0);
        consume_from(story, &early, 0, 50);
        consume_from(story, &slow, 0, 1);
        for (unsigned i = 0; i < 10; i++) {
            publish(story, 30);
            read_out(&early);
            go_on(story);
            take(&slow);
        }
        assert_int_equal(early.count, 300);
        read_out(&slow);
        assert_int_equal(slow.count, 300);
        stop(&early);
        stop(&slow);
        for (unsigned first = 0; first <= 300; first += 60)
            expect_all_from(story, first);
        assert_int_equal(stream_of(story)->queue->lane.ready, 300);
        if (on_disk) {
            assert_true(stream_store_end(stream_of(story)->store) > 250);
            reopen(story);
            unsigned reads = test_disk_count(story->disk, DISK_READ), files = 0;
            while (test_disk_name(story->disk, "shard-0/stream-", files))
                files++;
            expect_all_from(story, 0);
            assert_true(test_disk_count(story->disk, DISK_READ) - reads <= files);   /* nothing is read twice; half of the files are indexes */
            expect_all_from(story, 299);
            story->published = 300;
            publish(story, 10);
            expect_all_from(story, 0);
        }
        end(story);
    }
}

static void many_readers_share_the_extents(void **state)
{
    (void)state;
    struct story *story = begin(true);
    struct reading readings[60] = {{0}};
    assert_int_equal(declare(story, 2000, 0), 0);
    publish(story, 900);
    reopen(story);
    for (unsigned i = 0; i < 60; i++)
        consume_from(story, &readings[i], 15 * i, 3);
    for (bool any = true; any;) {
        any = false;
        go_on(story);
        for (unsigned i = 0; i < 60; i++)
            any |= take(&readings[i]);
    }
    for (unsigned i = 0; i < 60; i++) {
        assert_int_equal(readings[i].count, 900 - 15 * i);
        stop(&readings[i]);
    }
    end(story);
}

static void retention_moves_the_beginning(void **state)
{
    (void)state;
    for (unsigned on_disk = 0; on_disk < 2; on_disk++) {
        struct story *story = begin(on_disk);
        struct reading reading = {.gaps = true}, idle = {.gaps = true};
        assert_int_equal(declare(story, 2000, 6000), 0);
        consume_from(story, &idle, 0, 1);
        go_on(story);
        publish(story, 400);
        assert_true(stream_of(story)->first > 200);
        consume_from(story, &reading, 0, 100);
        read_out(&reading);
        assert_int_equal(reading.next, 400);
        assert_true(reading.count < 200 && reading.count > 10);
        assert_int_equal(reading.count, stream_of(story)->queue->lane.ready);
        read_out(&idle);
        assert_int_equal(idle.next, 400);
        stop(&reading);
        stop(&idle);
        end(story);
    }
}

static void only_wanted_values_come(void **state)
{
    (void)state;
    struct story *story = begin(true);
    uint8_t room[256], list[256];
    struct amqp_table_writer writer;
    struct bytes table;
    assert_int_equal(declare(story, 3000, 0), 0);
    for (unsigned i = 0; i < 300; i++) {
        char body[16];
        amqp_table_begin(&writer, room, sizeof(room));
        amqp_table_put_text(&writer, "x-stream-filter-value", i == 40 || i == 260 ? TEXT("rare") : TEXT("common"));
        assert_true(amqp_table_finish(&writer, &table));
        struct amqp_properties properties = {.flags = AMQP_HEADERS, .headers = table};
        struct publish message = {.channel = 1, .persistent = true, .whole = true, .exchange = TEXT(""), .routing_key = TEXT("s"),
                                  .properties = bytes_of(list, amqp_properties_encode(&properties, list, sizeof(list)))};
        message.body_size = (uint64_t)snprintf(body, sizeof(body), "%u", i);
        assert_int_equal(client_publish_begin(&story->client->client, &message), PUBLISH_ROUTED);
        memcpy(message.body, body, message.body_size);
        client_publish_end(&story->client->client, &message);
        go_on(story);
    }
    reopen(story);
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "x-stream-offset", TEXT("first"));
    amqp_table_put_text(&writer, "x-stream-filter", TEXT("rare"));
    assert_true(amqp_table_finish(&writer, &table));
    struct reading reading = {.gaps = true};
    unsigned before = test_disk_count(story->disk, DISK_READ);
    consume(story, &reading, table, 10);
    read_out(&reading);
    assert_int_equal(reading.count, 2);
    assert_int_equal(reading.next, 261);
    assert_true(test_disk_count(story->disk, DISK_READ) - before < 20);
    stop(&reading);
    end(story);
}

static void a_deleted_stream_leaves_nothing(void **state)
{
    (void)state;
    struct story *story = begin(true);
    struct reading reading = {0};
    assert_int_equal(declare(story, 2000, 0), 0);
    publish(story, 200);
    consume_from(story, &reading, 0, 10);
    test_settle_down(&story->test);   /* its first read is under way */
    assert_non_null(test_disk_name(story->disk, "shard-0/stream-", 0));
    assert_int_equal(ask(story, (struct request){.kind = REQUEST_QUEUE_DELETE, .name = TEXT("s")}), 0);
    assert_null(test_disk_name(story->disk, "shard-0/stream-", 0));
    assert_int_equal(declare(story, 2000, 0), 0);
    story->published = 0;
    publish(story, 20);
    expect_all_from(story, 0);
    stop(&reading);
    end(story);
}

/* ---- crashes --------------------------------------------------------------------------------------------------------- */

static void live(struct story *story)
{
    if (declare(story, 1500, 0))
        return;
    for (unsigned i = 0; i < 4 && !test_disk_crashed(story->disk); i++) {
        publish(story, 25);
        if (i % 2)
            checkpoint(story);
    }
}

static void a_crash_at_any_operation_loses_nothing_confirmed(void **state)
{
    (void)state;
    struct story *story = begin(true);
    live(story);
    assert_int_equal(confirmed(story), 100);
    uint64_t operations = test_disk_operations(story->disk);
    end(story);
    for (uint64_t at = 20; at <= operations; at++)
        for (enum test_disk_loss loss = LOSE_NOTHING; loss <= LOSE_SOME; loss++) {
            story = calloc(1, sizeof(*story));
            story->disk = test_disk_new(at * 3 + loss);
            open_story(story);
            test_disk_crash_at(story->disk, at);
            live(story);
            uint64_t sure = confirmed(story);
            end_broker(story);
            test_disk_run(story->disk);
            test_disk_restart(story->disk, loss);
            open_story(story);
            struct stream *stream = stream_of(story);
            if (!stream) {
                assert_int_equal(sure, 0);
                assert_int_equal(declare(story, 1500, 0), 0);
                stream = stream_of(story);
            }
            assert_true(stream->next >= sure);
            assert_int_equal(stream->first, 0);
            story->published = stream->next;
            expect_all_from(story, 0);
            publish(story, 10);
            checkpoint(story);
            publish(story, 10);
            expect_all_from(story, 0);
            reopen(story);
            expect_all_from(story, 0);
            end(story);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everybody_reads_everything),
        cmocka_unit_test(many_readers_share_the_extents),
        cmocka_unit_test(retention_moves_the_beginning),
        cmocka_unit_test(only_wanted_values_come),
        cmocka_unit_test(a_deleted_stream_leaves_nothing),
        cmocka_unit_test(a_crash_at_any_operation_loses_nothing_confirmed),
    };
    return cmocka_run_group_tests_name("streams", tests, NULL, NULL);
}
