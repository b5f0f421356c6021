#include "broker/dedup.h"

#include "broker/test_broker.h"
#include "broker/worker_internal.h"
#include "protocol/amqp/properties.h"
#include "store/message.h"
#include "store/record.h"
#include "store/test_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)
#define WINDOW_MS 3600000

/* ---- a broker to play with ------------------------------------------------------------------------------------------ */

struct play {
    struct test_broker test;
    struct test_disk *disk;
    struct test_client *client;
};

static void open_play(struct play *play)
{
    test_broker_open(&play->test, 1, 1, test_disk_face(play->disk), 0);
    play->client = test_client_new(&play->test, 0);
}

static void go_on(struct play *play)
{
    do
        test_settle_down(&play->test);
    while (test_disk_step(play->disk));
}

static void crash(struct play *play, enum test_disk_loss loss)
{
    test_disk_run(play->disk);
    if (!test_disk_crashed(play->disk))
        test_disk_crash_at(play->disk, test_disk_operations(play->disk) + 1);
    test_client_free(play->client);
    broker_close(play->test.broker);
    broker_free(play->test.broker);
    test_disk_run(play->disk);
    test_disk_restart(play->disk, loss);
    open_play(play);
}

static void stop(struct play *play)
{
    go_on(play);
    test_client_free(play->client);
    test_broker_close(&play->test);
}

static const struct reply *ask(struct play *play, struct request request)
{
    unsigned before = play->client->count;
    client_request(&play->client->client, &request);
    go_on(play);
    for (unsigned i = before; i < play->client->count; i++)
        if (play->client->events[i].kind == EVENT_REPLY)
            return &play->client->events[i].reply;
    return NULL;
}

/* "once", with what a writer puts besides the window. */
static void declare(struct play *play, int most, int length, const char *overflow, const char *dead)
{
    uint8_t room[512];
    struct amqp_table_writer writer;
    struct bytes arguments;
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_int(&writer, "x-dedup-window", WINDOW_MS);
    if (most)
        amqp_table_put_int(&writer, "x-dedup-max", most);
    if (length)
        amqp_table_put_int(&writer, "x-max-length", length);
    if (overflow)
        amqp_table_put_text(&writer, "x-overflow", TEXT(overflow));
    if (dead) {
        amqp_table_put_text(&writer, "x-dead-letter-exchange", TEXT(""));
        amqp_table_put_text(&writer, "x-dead-letter-routing-key", TEXT(dead));
    }
    assert_true(amqp_table_finish(&writer, &arguments));
    assert_int_equal(ask(play, (struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_DURABLE, .name = TEXT("once"), .arguments = arguments})->code, 0);
    if (dead)
        assert_int_equal(ask(play, (struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_DURABLE, .name = TEXT(dead)})->code, 0);
}

static void publish(struct play *play, unsigned id, size_t body_size)
{
    uint8_t properties[64];
    char text[32];
    snprintf(text, sizeof(text), "id-%u", id);
    const struct amqp_properties values = {.flags = AMQP_MESSAGE_ID, .message_id = TEXT(text)};
    struct publish publish = {.channel = 1, .whole = true, .confirm_tag = id + 1, .exchange = TEXT(""), .routing_key = TEXT("once"),
                              .properties = bytes_of(properties, amqp_properties_encode(&values, properties, sizeof(properties))), .body_size = body_size};
    assert_int_equal(client_publish_begin(&play->client->client, &publish), PUBLISH_ROUTED);
    memset(publish.body, 'x', body_size);
    client_publish_end(&play->client->client, &publish);
}

/* With their confirms; events of which nothing is asked any more are forgotten. */
static void publish_all(struct play *play, unsigned first, unsigned end, size_t body_size)
{
    for (unsigned i = first; i < end; i++) {
        publish(play, i, body_size);
        if (i % 500 == 499) {
            go_on(play);
            play->client->count = play->client->seen = 0;
        }
    }
    go_on(play);
    play->client->count = play->client->seen = 0;
}

static struct queue *queue_of(struct play *play)
{
    const struct topology *topology = &play->test.workers[0]->topology;
    return shard_queue(play->test.workers[0]->shards[0], topology_queue(topology_vhost_by_id(topology, VHOST_DEFAULT), TEXT("once"))->id);
}

static uint64_t ready(struct play *play) { return queue_totals(queue_of(play)).ready; }

/* ---- stories --------------------------------------------------------------------------------------------------------- */

static void ids_are_known_after_every_end(void **state)
{
    (void)state;
    struct play play = {.disk = test_disk_new(1)};
    open_play(&play);
    declare(&play, 0, 0, NULL, NULL);
    unsigned count = 0;
    /* Some megabytes: the log is shortened on the way, so that ids are in the snapshot, in the log, or in both. */
    for (unsigned round = 0; round < 6; round++) {
        publish_all(&play, count, count + 4000, 200 + 50 * round);
        count += 4000;
        if (round % 3 == 2) {
            stop(&play);
            open_play(&play);
        } else {
            crash(&play, round % 3 ? LOSE_ALL : LOSE_SOME);
        }
        assert_int_equal(ready(&play), count);
        publish_all(&play, 0, count, 10);
        assert_int_equal(ready(&play), count);
        assert_int_equal(queue_of(&play)->dedup->dropped, count);
    }
    assert_true(play.test.workers[0]->shards[0]->dedup.known_below > 0);
    stop(&play);
    test_disk_free(play.disk);
}

static void the_same_ids_are_forgotten_after_a_restart_as_before(void **state)
{
    (void)state;
    struct play play = {.disk = test_disk_new(2)};
    open_play(&play);
    declare(&play, 1000, 0, NULL, NULL);
    publish_all(&play, 0, 7000, 1000);
    assert_int_equal(queue_of(&play)->dedup->forgotten, 6000);
    crash(&play, LOSE_ALL);
    publish_all(&play, 6000, 7000, 10);
    assert_int_equal(ready(&play), 7000);
    publish_all(&play, 5999, 6000, 10);
    assert_int_equal(ready(&play), 7001);
    stop(&play);
    test_disk_free(play.disk);
}

static void what_is_refused_for_a_dead_letter_may_come_again(void **state)
{
    (void)state;
    struct play play = {.disk = test_disk_new(3)};
    open_play(&play);
    declare(&play, 0, 2, "reject-publish-dlx", "dead");
    publish_all(&play, 0, 4, 10);
    assert_int_equal(ready(&play), 2);
    crash(&play, LOSE_ALL);
    assert_int_equal(ready(&play), 2);
    assert_int_equal(ask(&play, (struct request){.kind = REQUEST_QUEUE_PURGE, .name = TEXT("once")})->code, 0);
    publish_all(&play, 0, 4, 10);
    assert_int_equal(ready(&play), 2);   /* those that were refused before */
    assert_int_equal(queue_of(&play)->dedup->dropped, 2);
    stop(&play);
    test_disk_free(play.disk);
}

/* The record of a publish as its shard has sealed it. */
static uint32_t lay_out(struct play *play, uint8_t *record, unsigned id, uint64_t seq, uint64_t stamp_ms)
{
    uint8_t properties[64];
    char text[32];
    snprintf(text, sizeof(text), "id-%u", id);
    const struct amqp_properties values = {.flags = AMQP_MESSAGE_ID, .message_id = TEXT(text)};
    struct bytes encoded = bytes_of(properties, amqp_properties_encode(&values, properties, sizeof(properties)));
    uint8_t *content = record + RECORD_HEADER_SIZE + PUBLISH_TARGET_SIZE, *end = message_begin(content, TEXT(""), TEXT("once"), encoded, stamp_ms);
    store_le64(record + RECORD_HEADER_SIZE, queue_of(play)->id);
    store_le64(record + RECORD_HEADER_SIZE + 8, seq);
    record_begin(record, (uint32_t)(end - record), RECORD_PUBLISH, 1, 0);
    return (uint32_t)(end - record);
}

static void what_the_log_did_not_take_may_come_again(void **state)
{
    (void)state;
    struct play play = {.disk = test_disk_new(4)};
    open_play(&play);
    declare(&play, 0, 0, NULL, NULL);
    uint64_t stamp_ms = play.test.workers[0]->wall_us / 1000;
    publish_all(&play, 0, 3, 10);
    struct shard *shard = play.test.workers[0]->shards[0];
    struct chunk *chunk = chunk_new(shard->worker->chunks, 4096);
    assert_non_null(chunk);
    /* A slice with the first one, which was let in, and a duplicate of the second. */
    uint8_t *at = chunk->data + BATCH_HEADER_SIZE;
    at += lay_out(&play, at, 0, 256, stamp_ms);
    at += lay_out(&play, at, 1, 0, stamp_ms);
    at += lay_out(&play, at, 2, 300, stamp_ms + 5);   /* one that came back, say: the id is another's */
    const struct command_slice slice = {.chunk = chunk, .size = (uint32_t)(at - chunk->data), .count = 3};
    dedup_take_back_slice(shard, &slice);
    publish_all(&play, 0, 3, 10);
    assert_int_equal(ready(&play), 4);
    /* The same in a transaction. */
    at = chunk->data;
    uint32_t size = RECORD_HEADER_SIZE + lay_out(&play, at + RECORD_HEADER_SIZE, 2, 258, stamp_ms);
    record_begin(at, size, RECORD_TRANSACTION, 0, 0);
    dedup_take_back_record(shard, at);
    publish_all(&play, 0, 3, 10);
    assert_int_equal(ready(&play), 5);
    chunk_release(chunk, shard->worker->chunks);
    stop(&play);
    test_disk_free(play.disk);
}

static void ids_go_when_their_window_is_over_though_nothing_comes(void **state)
{
    (void)state;
    struct play play = {.disk = test_disk_new(5)};
    open_play(&play);
    declare(&play, 0, 0, NULL, NULL);
    publish_all(&play, 0, 3000, 10);
    struct shard *shard = play.test.workers[0]->shards[0];
    dedup_tidy(shard, queue_of(&play));
    assert_int_equal(id_window_count(&queue_of(&play)->dedup->ids), 3000);
    shard->worker->wall_us += (WINDOW_MS + 61000) * 1000ull;
    dedup_tidy(shard, queue_of(&play));
    assert_int_equal(id_window_count(&queue_of(&play)->dedup->ids), 0);
    assert_int_equal(queue_of(&play)->dedup->forgotten, 0);
    stop(&play);
    test_disk_free(play.disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_known_after_every_end),
        cmocka_unit_test(the_same_ids_are_forgotten_after_a_restart_as_before),
        cmocka_unit_test(what_is_refused_for_a_dead_letter_may_come_again),
        cmocka_unit_test(what_the_log_did_not_take_may_come_again),
        cmocka_unit_test(ids_go_when_their_window_is_over_though_nothing_comes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
