#include "broker/retry.h"

#include "base/test_malloc.h"
#include "broker/test_broker.h"
#include "broker/worker_internal.h"
#include "store/test_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)

/* ---- memory that runs out ---------------------------------------------------------------------------------------------- */

static int allocations_left = -1;   /* -1: as many as one likes */

static bool fails(void) { return allocations_left >= 0 && allocations_left-- == 0; }

/* ---- a broker to play with ------------------------------------------------------------------------------------------ */

struct play {
    struct test_broker test;
    struct test_disk *disk;
    struct test_client *client;
};

static void open_play(struct play *play)
{
    uint64_t now_us = play->test.now_us;
    test_broker_open(&play->test, 1, 1, test_disk_face(play->disk), 0);
    play->test.now_us += now_us;   /* the clock goes on over a restart */
    play->client = test_client_new(&play->test, 0);
}

static struct play *begin(void)
{
    struct play *play = calloc(1, sizeof(*play));
    assert_non_null(play);
    play->disk = test_disk_new(7);
    open_play(play);
    return play;
}

static void go_on(struct play *play)
{
    do
        test_settle_down(&play->test);
    while (test_disk_step(play->disk));
}

/* Time goes on a little with everything that is done, so that what waits is counted in hours here. */
static void wait_hours(struct play *play, double hours)
{
    play->test.now_us += (uint64_t)(hours * 3600e6);
    go_on(play);
}

static void end(struct play *play)
{
    go_on(play);
    test_client_free(play->client);
    test_broker_close(&play->test);
    test_disk_free(play->disk);
    free(play);
}

/* An orderly end, or the machine goes down; and up again. */
static void restart(struct play *play, bool orderly)
{
    go_on(play);
    if (!orderly)
        test_disk_crash_at(play->disk, test_disk_operations(play->disk) + 1);
    test_client_free(play->client);
    broker_close(play->test.broker);
    broker_free(play->test.broker);
    test_disk_run(play->disk);
    test_disk_restart(play->disk, LOSE_ALL);
    open_play(play);
    go_on(play);
}

static void declare(struct play *play, const char *backoff, int64_t limit)
{
    uint8_t room[256];
    struct amqp_table_writer writer;
    struct bytes arguments;
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "x-retry-backoff", TEXT(backoff));
    if (limit >= 0)
        amqp_table_put_long(&writer, "x-delivery-limit", limit);
    assert_true(amqp_table_finish(&writer, &arguments));
    struct test_event *reply = test_request(&play->test, play->client, (struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_DURABLE, .name = TEXT("q"), .arguments = arguments});
    go_on(play);
    assert_true(!reply || reply->reply.code == 0);
}

static void publish(struct play *play, const char *body, bool persistent)
{
    assert_int_equal(test_publish(play->client, "", "q", body, 0, persistent, NULL), PUBLISH_ROUTED);
    go_on(play);
}

/* The next message, which the client then holds; NULL: there is none. */
static const struct test_event *get(struct play *play)
{
    play->client->count = play->client->seen = 0;
    const struct request request = {.kind = REQUEST_GET, .name = TEXT("q")};
    client_request(&play->client->client, &request);
    go_on(play);
    for (unsigned i = 0; i < play->client->count; i++)
        if (play->client->events[i].kind == EVENT_DELIVERY)
            return &play->client->events[i];
    return NULL;
}

static void settle(struct play *play, const struct test_event *event, enum settle_kind kind)
{
    assert_non_null(event);
    client_settle(&play->client->client, event->delivery.queue, kind, event->delivery.seq, 1, NULL);
    go_on(play);
}

static struct queue *queue_of(struct play *play)
{
    const struct topology *topology = &play->test.workers[0]->topology;
    const struct queue_entry *entry = topology_queue(topology_vhost_by_id(topology, VHOST_DEFAULT), TEXT("q"));
    assert_non_null(entry);
    return shard_queue_find(play->test.workers[0]->shards[0], entry->id);
}

static void assert_counts(struct play *play, uint64_t ready, uint64_t held, uint64_t waiting)
{
    struct queue *queue = queue_of(play);
    const struct queue_totals totals = queue_totals(queue);
    assert_int_equal(totals.ready - retry_loose(queue), ready);
    assert_int_equal(totals.unacked - retry_held(queue), held);
    assert_int_equal(retry_loose(queue) + retry_held(queue), waiting);
}

static void assert_past(const struct test_event *event, uint64_t count, enum retry_reason reason)
{
    assert_non_null(event);
    assert_true(event->delivery.redelivered);
    assert_int_equal(event->delivery.added, DELIVERY_ADDS_RETRY);
    assert_int_equal(event->delivery.added_value, (uint64_t)reason << DELIVERY_REASON_SHIFT | count);
}

/* ---- tests ------------------------------------------------------------------------------------------------------------ */

static void it_waits_and_is_in_its_old_place(void **state)
{
    (void)state;
    struct play *play = begin();
    declare(play, "1h,10h", -1);
    publish(play, "one", true);
    publish(play, "two", true);
    settle(play, get(play), SETTLE_REQUEUE);
    assert_counts(play, 1, 0, 1);
    wait_hours(play, 0.9);
    assert_counts(play, 1, 0, 1);
    wait_hours(play, 0.1);
    assert_counts(play, 2, 0, 0);
    const struct test_event *event = get(play);
    assert_string_equal(event->body, "one");
    assert_past(event, 1, RETRY_REJECTED);
    settle(play, event, SETTLE_TIMED_OUT);
    wait_hours(play, 5);
    event = get(play);
    assert_string_equal(event->body, "two");
    settle(play, event, SETTLE_ACK);
    assert_null(get(play));
    wait_hours(play, 5);
    assert_past(get(play), 2, RETRY_TIMEOUT);
    end(play);
}

static void settle_after(struct play *play, const struct test_event *event, uint64_t hours)
{
    assert_non_null(event);
    client_settle_after(&play->client->client, event->delivery.queue, event->delivery.seq, 1, hours * 3600000);
    go_on(play);
}

/* Longer or shorter than the queue would have it, over a restart, and counted like any other. */
static void a_consumer_may_say_itself_for_how_long(void **state)
{
    (void)state;
    struct play *play = begin();
    declare(play, "5h", 2);
    publish(play, "one", true);
    publish(play, "two", true);
    settle_after(play, get(play), 20);
    const struct test_event *event = get(play);
    assert_string_equal(event->body, "two");
    settle_after(play, event, 0);
    assert_past(event = get(play), 1, RETRY_REJECTED);
    settle_after(play, event, 1);
    assert_null(get(play));
    wait_hours(play, 1.1);
    assert_past(event = get(play), 2, RETRY_REJECTED);
    assert_string_equal(event->body, "two");
    settle_after(play, event, 1);
    assert_counts(play, 0, 0, 1);   /* once too often */
    for (unsigned i = 0; i < 2; i++) {
        wait_hours(play, 9);
        restart(play, i);
        assert_null(get(play));
    }
    wait_hours(play, 1);
    assert_past(event = get(play), 1, RETRY_REJECTED);
    settle(play, event, SETTLE_REQUEUE);
    wait_hours(play, 5.1);
    assert_past(get(play), 2, RETRY_REJECTED);
    end(play);
}

/* What a consumer asked for is the longest that a clock which is set back makes it wait; a restart does not forget that. */
static void its_own_wait_outlasts_a_clock_that_is_set_back(void **state)
{
    (void)state;
    for (unsigned way = 0; way < 3; way++) {
        struct play *play = begin();
        uint64_t hour_us = 3600000000u;
        worker_set_clock(play->test.workers[0], 1000 * hour_us, play->test.now_us);
        declare(play, "1h", -1);
        publish(play, "m", true);
        settle_after(play, get(play), 6);
        if (way) {
            restart(play, way == 1);
            worker_set_clock(play->test.workers[0], 1000 * hour_us, play->test.now_us);
            assert_null(get(play));
        }
        worker_set_clock(play->test.workers[0], 900 * hour_us, play->test.now_us);
        assert_null(get(play));
        wait_hours(play, 5.8);
        assert_null(get(play));
        wait_hours(play, 0.4);
        assert_past(get(play), 1, RETRY_REJECTED);
        end(play);
    }
}

static void every_reason_is_told_and_what_nobody_saw_is_none(void **state)
{
    (void)state;
    static const struct { enum settle_kind kind; enum retry_reason reason; } ways[] = {
        {SETTLE_REQUEUE, RETRY_REJECTED}, {SETTLE_TIMED_OUT, RETRY_TIMEOUT}, {SETTLE_LOST, RETRY_CONNECTION_LOST}, {SETTLE_CLOSED, RETRY_CLOSED}};
    struct play *play = begin();
    declare(play, "1h", -1);
    publish(play, "m", false);
    const struct test_event *event = get(play);
    for (unsigned i = 0; i < 4; i++) {
        settle(play, event, ways[i].kind);
        wait_hours(play, 1);
        event = get(play);
        assert_past(event, i + 1, ways[i].reason);
    }
    settle(play, event, SETTLE_FORCED);
    assert_counts(play, 1, 0, 0);
    event = get(play);
    assert_past(event, 4, RETRY_CLOSED);
    settle(play, event, SETTLE_UNDELIVERED);
    assert_counts(play, 1, 0, 0);
    assert_past(get(play), 4, RETRY_CLOSED);
    end(play);
}

/* What waits does so for twice its time at most, and nothing comes early. */
static void a_clock_that_is_set_back_keeps_nobody_waiting_for_long(void **state)
{
    (void)state;
    struct play *play = begin();
    struct worker *worker = play->test.workers[0];
    uint64_t hour_us = 3600000000u;
    worker_set_clock(worker, 1000 * hour_us, play->test.now_us);
    declare(play, "1h,5h", -1);
    for (unsigned i = 0; i < 3; i++) {
        publish(play, "m", false);
        settle(play, get(play), SETTLE_REQUEUE);
    }
    worker_set_clock(worker, 900 * hour_us, play->test.now_us);
    wait_hours(play, 0.9);
    assert_null(get(play));
    wait_hours(play, 0.2);
    wait_hours(play, 1.1);
    for (unsigned i = 0; i < 3; i++)
        assert_past(get(play), 1, RETRY_REJECTED);
    end(play);
}

static void once_too_often_is_the_end(void **state)
{
    (void)state;
    struct play *play = begin();
    declare(play, "0", 1);
    publish(play, "m", true);
    settle(play, get(play), SETTLE_REQUEUE);
    settle(play, get(play), SETTLE_REQUEUE);
    assert_counts(play, 0, 0, 0);
    assert_int_equal(queue_of(play)->rules->returns.count, 0);
    end(play);
}

/* In memory, and in blocks of which nothing but their bits or their size is known. */
static void a_restart_shortens_nothing(void **state)
{
    (void)state;
    for (unsigned way = 0; way < 4; way++) {
        bool orderly = way & 1;
        unsigned count = way & 2 ? 600 : 3;
        struct play *play = begin();
        char body[16];
        declare(play, "5h", -1);
        for (unsigned i = 0; i < count; i++) {
            snprintf(body, sizeof(body), "%u", i);
            publish(play, body, true);
        }
        for (unsigned i = 0; i < count; i++)
            settle(play, get(play), i % 3 == 1 ? SETTLE_ACK : SETTLE_LOST);
        wait_hours(play, 1);
        restart(play, orderly);
        unsigned left = count - (count + 1) / 3;
        assert_counts(play, 0, 0, left);
        assert_null(get(play));
        wait_hours(play, 3);
        restart(play, !orderly);   /* once more, with nothing done meanwhile */
        assert_null(get(play));
        wait_hours(play, 0.8);
        assert_null(get(play));
        wait_hours(play, 0.3);
        for (unsigned i = 0; i < count; i++) {
            if (i % 3 == 1)
                continue;
            const struct test_event *event = get(play);
            assert_past(event, 1, RETRY_CONNECTION_LOST);
            snprintf(body, sizeof(body), "%u", i);
            assert_string_equal(event->body, body);
            settle(play, event, SETTLE_ACK);
        }
        assert_counts(play, 0, 0, 0);
        assert_int_equal(queue_of(play)->rules->returns.count, 0);
        end(play);
    }
}

static void a_message_that_does_not_last_leaves_nothing(void **state)
{
    (void)state;
    struct play *play = begin();
    declare(play, "9h", -1);
    publish(play, "m", false);
    settle(play, get(play), SETTLE_REQUEUE);
    assert_counts(play, 0, 0, 1);
    restart(play, true);
    assert_counts(play, 0, 0, 0);
    assert_true(!queue_of(play)->rules || !queue_of(play)->rules->returns.count);
    end(play);
}

static void a_purge_takes_what_waits(void **state)
{
    (void)state;
    struct play *play = begin();
    declare(play, "1h", -1);
    for (unsigned i = 0; i < 3; i++)
        publish(play, "m", true);
    settle(play, get(play), SETTLE_REQUEUE);
    const struct test_event held = *get(play);
    settle(play, get(play), SETTLE_REQUEUE);
    assert_counts(play, 0, 1, 2);
    test_request(&play->test, play->client, (struct request){.kind = REQUEST_QUEUE_PURGE, .name = TEXT("q")});
    go_on(play);
    assert_counts(play, 0, 1, 0);
    settle(play, &held, SETTLE_REQUEUE);
    assert_counts(play, 0, 0, 1);
    restart(play, false);
    assert_counts(play, 0, 0, 1);
    end(play);
}

static void without_a_backoff_nothing_waits_any_more(void **state)
{
    (void)state;
    struct play *play = begin();
    declare(play, "1h", -1);
    publish(play, "m", true);
    settle(play, get(play), SETTLE_REQUEUE);
    assert_counts(play, 0, 0, 1);
    struct queue *queue = queue_of(play);
    const struct queue_settings *settings = queue->settings;
    rules_set(play->test.workers[0]->shards[0], queue, NULL);
    go_on(play);
    assert_counts(play, 1, 0, 0);
    assert_int_equal(queue->rules->returns.count, 0);
    const struct test_event *event = get(play);
    assert_true(event->delivery.redelivered);
    assert_int_equal(event->delivery.added, DELIVERY_ADDS_NOTHING);
    rules_set(play->test.workers[0]->shards[0], queue, settings);
    end(play);
}

/* A return that there is no memory for is not counted, or does not wait; the message is there in any case. */
static void without_memory_it_comes_back_at_once(void **state)
{
    (void)state;
    bool waits = false;
    for (int left = 0; !waits; left++) {
        struct play *play = begin();
        declare(play, "1h", -1);
        publish(play, "m", true);
        assert_non_null(get(play));
        struct queue *queue = queue_of(play);
        struct lane *lane = queue_head_lane(queue);
        uint64_t seq = lane->next_seq - 1;
        struct block_slot *slot;
        bool unacked = false;
        struct entry *entry = lane_entry_at(lane, seq, &slot, &unacked);
        assert_true(entry && unacked);
        allocations_left = left;
        enum return_verdict verdict = returns_count(play->test.workers[0]->shards[0], queue, entry, seq, SETTLE_REQUEUE, NULL);
        waits = allocations_left >= 0;   /* there was enough for everything */
        allocations_left = -1;
        assert_true(left > 0 || verdict == RETURN_READY);
        assert_int_equal(verdict == RETURN_WAITS, retry_held(queue));
        if (verdict == RETURN_READY)
            lane_requeue(lane, seq, slot, entry, true);
        wait_hours(play, 1.1);
        const struct test_event *event = get(play);
        assert_non_null(event);
        assert_string_equal(event->body, "m");
        end(play);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_waits_and_is_in_its_old_place), cmocka_unit_test(every_reason_is_told_and_what_nobody_saw_is_none),
        cmocka_unit_test(a_consumer_may_say_itself_for_how_long), cmocka_unit_test(its_own_wait_outlasts_a_clock_that_is_set_back),
        cmocka_unit_test(once_too_often_is_the_end), cmocka_unit_test(a_clock_that_is_set_back_keeps_nobody_waiting_for_long), cmocka_unit_test(a_restart_shortens_nothing),
        cmocka_unit_test(a_message_that_does_not_last_leaves_nothing), cmocka_unit_test(a_purge_takes_what_waits),
        cmocka_unit_test(without_a_backoff_nothing_waits_any_more), cmocka_unit_test(without_memory_it_comes_back_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
