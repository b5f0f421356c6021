#include "broker/test_broker.h"

#include "broker/worker_internal.h"
#include "protocol/amqp/properties.h"
#include "store/test_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)

/* ---- a broker to play with ------------------------------------------------------------------------------------------ */

struct stage_play {
    struct test_broker test;
    struct test_disk *disk;          /* NULL: in memory */
    struct test_client *client;
    uint64_t memory;                 /* bytes; 0: the default */
};

static void open_play(struct stage_play *play, unsigned workers, unsigned shards)
{
    test_broker_open(&play->test, workers, shards, play->disk ? test_disk_face(play->disk) : NULL, play->memory);
    play->client = test_client_new(&play->test, workers - 1);
}

/* Everybody does what there is to do, the disk too, one operation at a time. A broken disk is asked for ever. */
static void go_on(struct stage_play *play)
{
    unsigned broken = 0;
    do
        test_settle_down(&play->test);
    while (play->disk && test_disk_step(play->disk) && (broken += test_disk_crashed(play->disk)) < 20);
}

static void close_play(struct stage_play *play)
{
    go_on(play);
    test_client_free(play->client);
    test_broker_close(&play->test);
}

/* The machine goes down and comes up again. */
static void crash(struct stage_play *play, unsigned workers, unsigned shards, enum test_disk_loss loss)
{
    test_disk_run(play->disk);
    if (!test_disk_crashed(play->disk))
        test_disk_crash_at(play->disk, test_disk_operations(play->disk) + 1);
    test_client_free(play->client);
    broker_close(play->test.broker);
    broker_free(play->test.broker);
    test_disk_run(play->disk);
    test_disk_restart(play->disk, loss);
    open_play(play, workers, shards);
}

static const struct reply *ask(struct stage_play *play, struct request request)
{
    unsigned before = play->client->count;
    client_request(&play->client->client, &request);
    go_on(play);
    for (unsigned i = before; i < play->client->count; i++)
        if (play->client->events[i].kind == EVENT_REPLY)
            return &play->client->events[i].reply;
    return NULL;
}

/* A queue that dead-letters to `exchange` (NULL: it does not), with `key` (NULL: the message's). */
static void declare(struct stage_play *play, const char *name, const char *exchange, const char *key, unsigned flags)
{
    uint8_t room[512];
    struct amqp_table_writer writer;
    struct bytes arguments;
    amqp_table_begin(&writer, room, sizeof(room));
    if (exchange)
        amqp_table_put_text(&writer, "x-dead-letter-exchange", TEXT(exchange));
    if (key)
        amqp_table_put_text(&writer, "x-dead-letter-routing-key", TEXT(key));
    assert_true(amqp_table_finish(&writer, &arguments));
    const struct reply *reply = ask(play, (struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = flags, .name = TEXT(name), .arguments = arguments});
    assert_non_null(reply);
    assert_int_equal(reply->code, 0);
}

static void bind(struct stage_play *play, const char *queue, const char *exchange, const char *key)
{
    assert_int_equal(ask(play, (struct request){.kind = REQUEST_QUEUE_BIND, .name = TEXT(queue), .source = TEXT(exchange), .routing_key = TEXT(key)})->code, 0);
}

static uint64_t queue_id(struct stage_play *play, const char *name)
{
    const struct topology *topology = &play->test.workers[0]->topology;
    const struct queue_entry *queue = topology_queue(topology_vhost_by_id(topology, VHOST_DEFAULT), TEXT(name));
    assert_non_null(queue);
    return queue->id;
}

static struct shard *shard_at(struct stage_play *play, unsigned shard)
{
    return play->test.broker->workers[shard % play->test.worker_count]->shards[shard];
}

/* A name with `prefix` whose queue lies in that shard; the queue is declared. */
static const char *declare_in(struct stage_play *play, char *name, const char *prefix, unsigned shard, const char *exchange, const char *key)
{
    for (unsigned i = 0;; i++) {
        snprintf(name, 32, "%s%u", prefix, i);
        if (bytes_hash(TEXT(name), 0) % play->test.broker->shards != shard)
            continue;
        declare(play, name, exchange, key, REQUEST_DURABLE);
        assert_int_equal(queue_id_shard(queue_id(play, name)), shard);
        return name;
    }
}

/* Gets a message that the client then holds; NULL: the queue is empty. */
static const struct test_event *get(struct stage_play *play, const char *queue, unsigned flags)
{
    unsigned before = play->client->count;
    ask(play, (struct request){.kind = REQUEST_GET, .name = TEXT(queue), .flags = flags});
    for (unsigned i = before; i < play->client->count; i++)
        if (play->client->events[i].kind == EVENT_DELIVERY)
            return &play->client->events[i];
    return NULL;
}

static void reject(struct stage_play *play, const struct test_event *event)
{
    client_settle(&play->client->client, event->delivery.queue, SETTLE_DISCARD, event->delivery.seq, 1, NULL);
}

/* Publishes, gets and rejects one. */
static void kill_one(struct stage_play *play, const char *queue, const char *body, bool persistent)
{
    assert_int_equal(test_publish(play->client, "", queue, body, 0, persistent, NULL), PUBLISH_ROUTED);
    const struct test_event *event = get(play, queue, 0);
    assert_non_null(event);
    assert_string_equal(event->body, body);
    reject(play, event);
    go_on(play);
}

static void expect_one(struct stage_play *play, const char *queue, const char *body)
{
    const struct test_event *event = get(play, queue, REQUEST_NO_ACK);
    assert_non_null(event);
    assert_string_equal(event->body, body);
    assert_false(event->delivery.redelivered);
    assert_null(get(play, queue, REQUEST_NO_ACK));
}

/* Nothing is held by a relay, and no shard remembers an origin. */
static void expect_quiet(struct stage_play *play)
{
    for (unsigned i = 0; i < play->test.broker->shards; i++) {
        struct shard *shard = shard_at(play, i);
        assert_int_equal(shard->origins.count, 0);
        uint32_t cursor = 0;
        for (struct queue *queue; (queue = map_next(&shard->queues, &cursor));) {
            assert_int_equal(queue->relayed, 0);
            assert_int_equal(queue_totals(queue).unacked, 0);
        }
    }
}

/* ---- where dead letters go ------------------------------------------------------------------------------------------ */

static void a_rejected_message_comes_to_the_dead_letter_queue(void **state)
{
    (void)state;
    for (unsigned shards = 1; shards <= 3; shards++)
        for (unsigned persistent = 0; persistent < 2; persistent++) {
            struct stage_play play = {0};
            char source[32], target[32];
            open_play(&play, shards, shards);
            declare_in(&play, target, "d", shards - 1, NULL, NULL);
            declare_in(&play, source, "s", 0, "", target);
            kill_one(&play, source, "x", persistent);
            expect_one(&play, target, "x");
            assert_null(get(&play, source, REQUEST_NO_ACK));
            expect_quiet(&play);
            close_play(&play);
        }
}

static void a_fanout_gets_it_once_in_every_queue(void **state)
{
    (void)state;
    struct stage_play play = {0};
    char source[32], targets[9][32];
    open_play(&play, 2, 3);
    declare_in(&play, source, "s", 1, "amq.fanout", NULL);
    for (unsigned i = 0; i < 9; i++) {
        char prefix[8];
        snprintf(prefix, sizeof(prefix), "t%u-", i);
        bind(&play, declare_in(&play, targets[i], prefix, i % 3, NULL, NULL), "amq.fanout", "");
    }
    kill_one(&play, source, "x", true);
    for (unsigned i = 0; i < 9; i++)
        expect_one(&play, targets[i], "x");
    expect_quiet(&play);
    close_play(&play);
}

static void with_nowhere_to_go_it_is_dropped(void **state)
{
    (void)state;
    struct stage_play play = {0};
    open_play(&play, 1, 2);
    declare(&play, "no-exchange", "missing", NULL, REQUEST_DURABLE);
    declare(&play, "no-route", "amq.direct", "nowhere", REQUEST_DURABLE);
    kill_one(&play, "no-exchange", "x", true);
    kill_one(&play, "no-route", "x", true);
    assert_null(get(&play, "no-exchange", REQUEST_NO_ACK));
    assert_null(get(&play, "no-route", REQUEST_NO_ACK));
    expect_quiet(&play);
    close_play(&play);
}

static void a_rejected_message_may_come_back_to_its_queue(void **state)
{
    (void)state;
    struct stage_play play = {0};
    open_play(&play, 1, 1);
    declare(&play, "self", "", NULL, REQUEST_DURABLE);
    kill_one(&play, "self", "x", true);
    const struct test_event *event = get(&play, "self", 0);
    assert_non_null(event);
    assert_false(event->delivery.redelivered);
    reject(&play, event);
    go_on(&play);
    expect_one(&play, "self", "x");
    close_play(&play);
}

static void a_deleted_source_takes_what_it_gave_up_with_it(void **state)
{
    (void)state;
    struct stage_play play = {.disk = test_disk_new(3)};
    char source[32], target[32];
    open_play(&play, 2, 2);
    declare_in(&play, target, "d", 1, NULL, NULL);
    declare_in(&play, source, "s", 0, "", target);
    test_publish(play.client, "", source, "x", 0, true, NULL);
    reject(&play, get(&play, source, 0));
    test_settle_down(&play.test);   /* it is on its way, and no disk has answered */
    ask(&play, (struct request){.kind = REQUEST_QUEUE_DELETE, .name = TEXT(source)});
    go_on(&play);
    expect_one(&play, target, "x");
    expect_quiet(&play);
    close_play(&play);
    test_disk_free(play.disk);
}

static void a_rejection_in_a_transaction_is_one(void **state)
{
    (void)state;
    struct stage_play play = {0};
    open_play(&play, 2, 2);
    declare(&play, "d", NULL, NULL, REQUEST_DURABLE);
    declare(&play, "s", "", "d", REQUEST_DURABLE);
    test_publish(play.client, "", "s", "x", 0, true, NULL);
    const struct test_event *event = get(&play, "s", 0);
    struct transaction *transaction = client_transaction_new(&play.client->client);
    client_settle(&play.client->client, event->delivery.queue, SETTLE_DISCARD, event->delivery.seq, 1, transaction);
    go_on(&play);
    assert_null(get(&play, "d", REQUEST_NO_ACK));
    client_transaction_commit(&play.client->client, transaction, 1);
    go_on(&play);
    expect_one(&play, "d", "x");
    expect_quiet(&play);
    close_play(&play);
}

static void more_than_a_window_goes_through(void **state)
{
    (void)state;
    struct stage_play play = {0};
    char source[32], target[32];
    open_play(&play, 2, 2);
    declare_in(&play, target, "d", 1, NULL, NULL);
    declare_in(&play, source, "s", 0, "", target);
    ask(&play, (struct request){.kind = REQUEST_CONSUME, .name = TEXT(source), .tag = 1});
    for (unsigned i = 0; i < 3000; i++)
        test_publish(play.client, "", source, "x", 0, true, NULL);
    go_on(&play);
    client_settle(&play.client->client, queue_id(&play, source), SETTLE_DISCARD, BLOCK_SIZE, 3000, NULL);
    go_on(&play);
    assert_int_equal(ask(&play, (struct request){.kind = REQUEST_QUEUE_PURGE, .name = TEXT(target)})->messages, 3000);
    expect_quiet(&play);
    close_play(&play);
}

static void they_keep_their_order_though_their_contents_are_on_disk(void **state)
{
    (void)state;
    struct stage_play play = {.disk = test_disk_new(5), .memory = 1};
    char source[32], target[32];
    open_play(&play, 2, 2);
    declare_in(&play, target, "d", 1, NULL, NULL);
    declare_in(&play, source, "s", 0, "", target);
    ask(&play, (struct request){.kind = REQUEST_CONSUME, .name = TEXT(source), .tag = 1});
    for (unsigned i = 0; i < 1200; i++) {
        char body[16];
        snprintf(body, sizeof(body), "%u", i);
        test_publish(play.client, "", source, body, 0, true, NULL);
        if (i % 100 == 0)
            go_on(&play);
    }
    go_on(&play);
    client_settle(&play.client->client, queue_id(&play, source), SETTLE_DISCARD, BLOCK_SIZE, 1u << 20, NULL);
    go_on(&play);
    unsigned before = play.client->count, expected = 0;
    ask(&play, (struct request){.kind = REQUEST_CONSUME, .name = TEXT(target), .tag = 2, .flags = REQUEST_NO_ACK});
    for (unsigned i = before; i < play.client->count; i++)
        if (play.client->events[i].kind == EVENT_DELIVERY)
            assert_int_equal(atoi(play.client->events[i].body), expected++);
    assert_int_equal(expected, 1200);
    expect_quiet(&play);
    close_play(&play);
    test_disk_free(play.disk);
}

/* ---- refusals and crashes ------------------------------------------------------------------------------------------- */

#define STORY_MESSAGES 4u

/* Publishes some and rejects them all. Answers whether all was confirmed. */
static void tell_story(struct stage_play *play, const char *source)
{
    for (unsigned i = 0; i < STORY_MESSAGES; i++) {
        char body[8];
        snprintf(body, sizeof(body), "m%u", i);
        test_publish(play->client, "", source, body, 0, true, NULL);
        test_settle_down(&play->test);
    }
    go_on(play);
    unsigned got = 0;
    for (const struct test_event *event; got < STORY_MESSAGES && (event = get(play, source, 0)); got++) {
        reject(play, event);
        test_settle_down(&play->test);
    }
    go_on(play);
}

/* How often each message of the story lies in the queue. */
static void count_bodies(struct stage_play *play, const char *queue, unsigned *counts)
{
    memset(counts, 0, STORY_MESSAGES * sizeof(*counts));
    for (const struct test_event *event; (event = get(play, queue, REQUEST_NO_ACK));)
        counts[event->body[1] - '0']++;
}

/* Each message is in its source, or once in every target. */
static void expect_once_somewhere(struct stage_play *play, const char *source, const char *const *targets, unsigned target_count, bool all)
{
    unsigned at_source[STORY_MESSAGES], at_target[STORY_MESSAGES];
    count_bodies(play, source, at_source);
    for (unsigned i = 0; i < target_count; i++) {
        count_bodies(play, targets[i], at_target);
        for (unsigned k = 0; k < STORY_MESSAGES; k++) {
            assert_true(at_source[k] + at_target[k] <= 1);
            if (all)
                assert_int_equal(at_source[k] + at_target[k], 1);
        }
    }
}

struct scene {
    char source[32], targets[3][32];
    const char *names[3];
    unsigned target_count;
};

/* The source lies in shard 0; bit i of `shards`: a target in shard i. */
static void set_scene(struct stage_play *play, struct scene *scene, unsigned shards)
{
    scene->target_count = 0;
    declare_in(play, scene->source, "s", 0, "amq.fanout", NULL);
    for (unsigned i = 0; i < 3; i++)
        if (shards >> i & 1) {
            char *name = scene->targets[scene->target_count];
            scene->names[scene->target_count++] = name;
            bind(play, declare_in(play, name, "d", i, NULL, NULL), "amq.fanout", "");
        }
}

static uint64_t crash_in_story(unsigned shards, uint64_t operation, enum test_disk_loss loss)
{
    struct stage_play play = {.disk = test_disk_new(operation * 7 + shards)};
    struct scene scene;
    open_play(&play, 2, 3);
    set_scene(&play, &scene, shards);
    uint64_t before = test_disk_operations(play.disk);
    if (operation)
        test_disk_crash_at(play.disk, before + operation);
    tell_story(&play, scene.source);
    uint64_t operations = test_disk_operations(play.disk) - before;
    bool crashed = test_disk_crashed(play.disk);
    crash(&play, 2, 3, loss);
    go_on(&play);
    play.test.now_us += 10000000;
    go_on(&play);
    expect_quiet(&play);
    crash(&play, 2, 3, LOSE_ALL);   /* and it stays so */
    go_on(&play);
    expect_quiet(&play);
    expect_once_somewhere(&play, scene.source, scene.names, scene.target_count, !crashed);
    close_play(&play);
    test_disk_free(play.disk);
    return operations;
}

static void a_crash_between_any_two_writes_neither_loses_nor_doubles(void **state)
{
    (void)state;
    for (unsigned shards = 1; shards < 8; shards++) {
        uint64_t operations = crash_in_story(shards, 0, LOSE_ALL);
        assert_true(operations > 5);
        for (uint64_t at = 1; at <= operations; at++)
            crash_in_story(shards, at, at % 3 == 0 ? LOSE_ALL : at % 3 == 1 ? LOSE_SOME : LOSE_NOTHING);
    }
}

/* ---- insisting ------------------------------------------------------------------------------------------------------ */

static struct bytes insisting(uint8_t *room, size_t size, const char *key)
{
    struct amqp_table_writer writer;
    struct bytes arguments;
    amqp_table_begin(&writer, room, size);
    amqp_table_put_text(&writer, "x-queue-type", TEXT("quorum"));
    amqp_table_put_text(&writer, "x-overflow", TEXT("reject-publish"));
    amqp_table_put_text(&writer, "x-dead-letter-strategy", TEXT("at-least-once"));
    amqp_table_put_text(&writer, "x-dead-letter-exchange", TEXT(""));
    amqp_table_put_text(&writer, "x-dead-letter-routing-key", TEXT(key));
    assert_true(amqp_table_finish(&writer, &arguments));
    return arguments;
}

static void of_a_queue_that_insists_it_waits_for_somewhere_to_go(void **state)
{
    (void)state;
    struct stage_play play = {0};
    uint8_t room[512];
    open_play(&play, 2, 3);
    assert_int_equal(ask(&play, (struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_DURABLE, .name = TEXT("s"),
                                                 .arguments = insisting(room, sizeof(room), "d")})->code, 0);
    for (unsigned i = 0; i < 10; i++)
        kill_one(&play, "s", "x", true);
    play.test.now_us += 5000000;
    go_on(&play);
    assert_null(get(&play, "s", REQUEST_NO_ACK));
    declare(&play, "d", NULL, NULL, REQUEST_DURABLE);
    play.test.now_us += 200000;
    go_on(&play);
    assert_int_equal(ask(&play, (struct request){.kind = REQUEST_QUEUE_PURGE, .name = TEXT("d")})->messages, 10);
    expect_quiet(&play);
    close_play(&play);
}

/* ---- delays --------------------------------------------------------------------------------------------------------- */

#define DELAY_MS 5000u

static void declare_delayed(struct stage_play *play, const char *name)
{
    uint8_t room[128];
    struct amqp_table_writer writer;
    struct bytes arguments;
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "x-delayed-type", TEXT("fanout"));
    assert_true(amqp_table_finish(&writer, &arguments));
    assert_int_equal(ask(play, (struct request){.kind = REQUEST_EXCHANGE_DECLARE, .flags = REQUEST_DURABLE, .name = TEXT(name), .type = TEXT("x-delayed-message"),
                                                .arguments = arguments})->code, 0);
}

static void publish_late(struct stage_play *play, const char *exchange, const char *body, uint64_t tag)
{
    uint8_t room[128], bytes[256];
    struct amqp_table_writer writer;
    struct amqp_properties properties = {.flags = AMQP_HEADERS | AMQP_DELIVERY_MODE, .delivery_mode = 2};
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_int(&writer, "x-delay", DELAY_MS);
    assert_true(amqp_table_finish(&writer, &properties.headers));
    struct publish publish = {.channel = 1, .persistent = true, .whole = true, .confirm_tag = tag, .exchange = TEXT(exchange), .body_size = strlen(body),
                              .properties = bytes_of(bytes, amqp_properties_encode(&properties, bytes, sizeof(bytes)))};
    client_time(&play->client->client, play->test.now_us);
    if (client_publish_begin(&play->client->client, &publish) != PUBLISH_ROUTED)
        return;
    memcpy(publish.body, body, strlen(body));
    client_publish_end(&play->client->client, &publish);
}

static unsigned confirmed(const struct stage_play *play)
{
    unsigned bits = 0;
    for (unsigned i = 0; i < play->client->count; i++)
        for (uint64_t k = 0; play->client->events[i].kind == EVENT_CONFIRM && play->client->events[i].accepted && k < play->client->events[i].count; k++)
            bits |= 1u << (play->client->events[i].first + k - 1);
    return bits;
}

static uint64_t crash_in_delay(uint64_t operation, enum test_disk_loss loss)
{
    struct stage_play play = {.disk = test_disk_new(operation + 1)};
    char targets[2][32];
    unsigned counts[STORY_MESSAGES];
    open_play(&play, 2, 3);
    declare_delayed(&play, "late");
    for (unsigned i = 0; i < 2; i++)
        bind(&play, declare_in(&play, targets[i], i ? "u" : "t", i, NULL, NULL), "late", "");
    uint64_t before = test_disk_operations(play.disk);
    if (operation)
        test_disk_crash_at(play.disk, before + operation);
    for (unsigned i = 0; i < STORY_MESSAGES; i++) {
        char body[8];
        snprintf(body, sizeof(body), "m%u", i);
        publish_late(&play, "late", body, i + 1);
        test_settle_down(&play.test);
    }
    uint64_t published_us = play.test.now_us;
    go_on(&play);
    if (!test_disk_crashed(play.disk) && play.test.now_us < published_us + DELAY_MS * 1000u - 1000000u)
        assert_null(get(&play, targets[0], REQUEST_NO_ACK));
    play.test.now_us += DELAY_MS * 1000u;
    go_on(&play);
    unsigned sure = confirmed(&play);
    uint64_t operations = test_disk_operations(play.disk) - before, now_us = play.test.now_us;
    crash(&play, 2, 3, loss);
    play.test.now_us = now_us + DELAY_MS * 1000u;   /* the machine's clock goes on */
    go_on(&play);
    play.test.now_us += 2000000;
    go_on(&play);
    expect_quiet(&play);
    for (unsigned i = 0; i < 2; i++) {
        count_bodies(&play, targets[i], counts);
        for (unsigned k = 0; k < STORY_MESSAGES; k++) {
            assert_true(counts[k] <= 1);
            assert_true(counts[k] == 1 || !(sure >> k & 1));
        }
    }
    close_play(&play);
    test_disk_free(play.disk);
    return operations;
}

static void delayed_messages_come_once_whatever_crashes(void **state)
{
    (void)state;
    uint64_t operations = crash_in_delay(0, LOSE_ALL);
    assert_true(operations > 5);
    for (uint64_t at = 1; at <= operations; at++)
        crash_in_delay(at, at % 3 == 0 ? LOSE_ALL : at % 3 == 1 ? LOSE_SOME : LOSE_NOTHING);
}

static void a_deleted_delayed_exchange_takes_what_waits_with_it(void **state)
{
    (void)state;
    struct stage_play play = {0};
    open_play(&play, 2, 3);
    for (unsigned i = 0; i < 2; i++) {
        declare_delayed(&play, "late");
        declare(&play, "t", NULL, NULL, REQUEST_DURABLE);
        bind(&play, "t", "late", "");
        publish_late(&play, "late", "x", 0);
        go_on(&play);
        assert_int_equal(ask(&play, (struct request){.kind = REQUEST_EXCHANGE_DELETE, .name = TEXT("late")})->code, 0);
        play.test.now_us += 2 * DELAY_MS * 1000u;
        go_on(&play);
        assert_null(get(&play, "t", REQUEST_NO_ACK));
    }
    expect_quiet(&play);
    close_play(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rejected_message_comes_to_the_dead_letter_queue),
        cmocka_unit_test(a_fanout_gets_it_once_in_every_queue),
        cmocka_unit_test(with_nowhere_to_go_it_is_dropped),
        cmocka_unit_test(a_rejected_message_may_come_back_to_its_queue),
        cmocka_unit_test(a_deleted_source_takes_what_it_gave_up_with_it),
        cmocka_unit_test(a_rejection_in_a_transaction_is_one),
        cmocka_unit_test(more_than_a_window_goes_through),
        cmocka_unit_test(they_keep_their_order_though_their_contents_are_on_disk),
        cmocka_unit_test(a_crash_between_any_two_writes_neither_loses_nor_doubles),
        cmocka_unit_test(of_a_queue_that_insists_it_waits_for_somewhere_to_go),
        cmocka_unit_test(delayed_messages_come_once_whatever_crashes),
        cmocka_unit_test(a_deleted_delayed_exchange_takes_what_waits_with_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
