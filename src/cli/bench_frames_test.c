/* What the publishers of a load write and its consumers read: blocks of publishes, and deliveries scanned in place. */
#include "cli/bench_block.h"
#include "cli/bench_consumer.h"
#include "cli/bench_publisher.h"
#include "protocol/amqp/properties.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define FRAME_MAX 4096u
#define ROOM (1u << 20)

static uint8_t *make_pattern(void)
{
    uint8_t *pattern = malloc(BENCH_PATTERN_SIZE);
    assert_non_null(pattern);
    bench_pattern_fill(pattern);
    return pattern;
}

/* A block is well-formed, and says what it should, for one queue and for several, for small bodies and those of many frames. */
static void blocks_are_what_the_codec_reads(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {0, 1, 8, 16, 100, FRAME_MAX - AMQP_FRAME_OVERHEAD, FRAME_MAX, 20000};
    uint8_t *pattern = make_pattern();
    for (size_t s = 0; s < 2 * sizeof sizes / sizeof sizes[0]; s++) {
        struct bench_plan plan = {.prefix = "t", .exchange_type = s % 2 ? "direct" : "default", .publishers = 2, .queues = s % 2 ? 5 : 1,
                                  .size = sizes[s / 2], .persistent = true, .pattern = pattern};
        struct bench_block block;
        assert_int_equal(bench_block_init(&block, &plan, 1, FRAME_MAX), GW_OK);
        size_t count = block.count < 7 ? block.count : 7;
        uint64_t sequences[5] = {0};
        for (uint64_t round = 0; round < 3; round++) {
            bench_block_patch(&block, count, 1000 + round);
            struct bytes rest = bytes_of(block.data, count * block.stride);
            for (size_t m = 0; m < count; m++) {
                struct amqp_frame frame;
                struct amqp_method method;
                struct amqp_content_header header;
                struct amqp_properties properties;
                char name[256];
                assert_int_equal(amqp_frame_read(rest, FRAME_MAX, &frame), WIRE_OK);
                rest = bytes_of(rest.data + frame.size, rest.size - frame.size);
                assert_int_equal(amqp_method_decode(frame.payload, &method), AMQP_DECODED);
                assert_int_equal(method.row->id, AMQP_BASIC_PUBLISH);
                uint32_t queue = plan.queues == 1 ? 0 : 1 + 2 * (uint32_t)((round * count + m) % 2);
                bench_queue_name(&plan, queue, name);
                assert_true(bytes_equal(method.values[AMQP_BASIC_PUBLISH_ROUTING_KEY].bytes, bytes_of_text(name)));
                assert_int_equal(amqp_frame_read(rest, FRAME_MAX, &frame), WIRE_OK);
                rest = bytes_of(rest.data + frame.size, rest.size - frame.size);
                assert_true(amqp_content_header_decode(frame.payload, &header));
                assert_int_equal(header.body_size, plan.size);
                assert_true(amqp_properties_decode(header.properties, &properties));
                assert_int_equal(properties.delivery_mode, 2);
                for (uint64_t offset = 0; offset < plan.size; offset += frame.payload.size) {
                    assert_int_equal(amqp_frame_read(rest, FRAME_MAX, &frame), WIRE_OK);
                    assert_int_equal(frame.type, AMQP_FRAME_BODY);
                    rest = bytes_of(rest.data + frame.size, rest.size - frame.size);
                    if (offset == 0 && plan.size >= 8)
                        assert_true(load_le64(frame.payload.data) == (1ull << BENCH_SEQUENCE_BITS | sequences[queue]));
                    if (offset == 0 && plan.size >= 16)
                        assert_true(load_le64(frame.payload.data + 8) == 1000 + round);
                }
                sequences[queue]++;
            }
            assert_int_equal(rest.size, 0);
        }
        bench_block_deinit(&block);
    }
    free(pattern);
}

/* A consumer without a broker: what a test puts into its buffer is what it reads. */
struct bench_scene {
    struct bench_plan plan;
    struct bench_load load;
    struct bench_consumer consumer;
};

static void scene_open(struct bench_scene *scene, uint64_t size, bool manual_ack)
{
    memset(scene, 0, sizeof *scene);
    scene->plan = (struct bench_plan){.prefix = "t", .exchange_type = "default", .publishers = 1, .consumers = 1, .queues = 3, .size = size,
                                      .verify = true, .manual_ack = manual_ack, .ack_every = 4, .pattern = make_pattern()};
    scene->load.plan = &scene->plan;
    scene->load.ledgers = calloc(3, sizeof *scene->load.ledgers);
    scene->load.publishers = calloc(1, sizeof *scene->load.publishers);
    assert_non_null(scene->load.ledgers);
    assert_non_null(scene->load.publishers);
    for (int i = 0; i < 3; i++)
        assert_int_equal(bench_ledger_init(&scene->load.ledgers[i], 1, false), GW_OK);
    atomic_store(&scene->load.publishers[0].issued, 1000000);
    scene->consumer.load = &scene->load;
    scene->consumer.share = bench_share(0, 1, 3);
    scene->consumer.now_ns = 5000;
    scene->consumer.link = (struct bench_link){.fd = -1, .in = malloc(ROOM), .capacity = ROOM, .frame_max = FRAME_MAX};
    scene->consumer.acks = malloc(65536);
    assert_non_null(scene->consumer.link.in);
    assert_non_null(scene->consumer.acks);
    histogram_init(&scene->consumer.ages);
}

static void scene_close(struct bench_scene *scene)
{
    for (int i = 0; i < 3; i++)
        bench_ledger_deinit(&scene->load.ledgers[i]);
    free(scene->load.ledgers);
    free(scene->load.publishers);
    free(scene->consumer.link.in);
    free(scene->consumer.acks);
    free((void *)(uintptr_t)scene->plan.pattern);
}

/* Writes a delivery as a broker would. */
static uint8_t *write_delivery(const struct bench_plan *plan, uint8_t *at, const char *tag, uint64_t number, uint64_t sequence)
{
    at = amqp_deliver_write(at, BENCH_CHANNEL, bytes_of_text(tag), number, false, bytes_of_text(""), bytes_of_text("t-00000"));
    at = amqp_content_header_write(at, BENCH_CHANNEL, plan->size, bytes_of("\x10\x00\x02", 3));
    for (uint64_t offset = 0; offset < plan->size;) {
        uint64_t size = FRAME_MAX - AMQP_FRAME_OVERHEAD;
        if (size > plan->size - offset)
            size = plan->size - offset;
        at = amqp_frame_begin(at, AMQP_FRAME_BODY, BENCH_CHANNEL, (uint32_t)size);
        memcpy(at, bench_pattern(plan, offset), size);
        if (offset == 0 && plan->size >= 16) {
            store_le64(at, sequence);
            store_le64(at + 8, 4000 + sequence % 2);
        }
        at[size] = AMQP_FRAME_END;
        at += size + 1;
        offset += size;
    }
    return at;
}

/* The stream is cut into pieces of every length, so that messages are met whole and in parts; the outcome is the same. */
static void deliveries_are_read_however_they_are_cut(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {0, 16, 40, 5000, 20000};
    uint8_t *stream = malloc(ROOM);
    assert_non_null(stream);
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (size_t cut = 1; cut < 9000; cut = cut * 3 / 2 + 1) {
            struct bench_scene scene;
            scene_open(&scene, sizes[s], true);
            struct bench_consumer *consumer = &scene.consumer;
            struct bench_link *link = &consumer->link;
            uint8_t *end = stream;
            for (uint64_t i = 0; i < 30; i++) {
                static const char *const tags[] = {"0", "1", "2"};
                end = write_delivery(&scene.plan, end, tags[i % 3], i + 1, i / 3);
                if (i % 7 == 0)
                    end = amqp_heartbeat_write(end);
            }
            for (uint8_t *at = stream; at < end; at += cut) {
                size_t size = (size_t)(end - at) < cut ? (size_t)(end - at) : cut;
                memmove(link->in, link->in + link->begin, link->end - link->begin);
                link->end -= link->begin;
                link->begin = 0;
                memcpy(link->in + link->end, at, size);
                link->end += size;
                assert_int_equal(bench_consumer_scan(consumer), BENCH_SOME);
            }
            assert_int_equal(consumer->count, 30);
            assert_int_equal(consumer->damaged, 0);
            assert_int_equal(consumer->last_tag, 30);
            assert_int_equal(consumer->acks_size, 7 * AMQP_ACK_FRAME_SIZE);
            assert_int_equal(consumer->unacked, 2);
            if (sizes[s] >= 16) {
                assert_int_equal(consumer->ages.count, 30);
                assert_int_equal(consumer->ages.minimum, 999);
                assert_int_equal(consumer->ages.maximum, 1000);
                for (int q = 0; q < 3; q++) {
                    assert_int_equal(scene.load.ledgers[q].streams[0].distinct, 10);
                    assert_int_equal(scene.load.ledgers[q].streams[0].reordered, 0);
                }
            }
            scene_close(&scene);
        }
    }
    free(stream);
}

static void damage_is_seen(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {300, 5000};   /* one frame, and two */
    for (int i = 0; i < 2; i++) {
        struct bench_scene scene;
        scene_open(&scene, sizes[i], false);
        struct bench_link *link = &scene.consumer.link;
        uint8_t *end = write_delivery(&scene.plan, link->in, "0", 1, 0);
        end[-100] ^= 1;
        end = write_delivery(&scene.plan, end, "0", 2, 1);
        link->end = (size_t)(end - link->in);
        assert_int_equal(bench_consumer_scan(&scene.consumer), BENCH_SOME);
        assert_int_equal(scene.consumer.count, 2);
        assert_int_equal(scene.consumer.damaged, 1);
        scene_close(&scene);
    }
}

static void refusals_and_rubbish_end_it(void **state)
{
    (void)state;
    struct bench_scene scene;
    scene_open(&scene, 16, false);
    struct bench_link *link = &scene.consumer.link;
    struct amqp_value values[AMQP_CHANNEL_CLOSE_COUNT] = {
        [AMQP_CHANNEL_CLOSE_REPLY_CODE] = amqp_number(404),
        [AMQP_CHANNEL_CLOSE_REPLY_TEXT] = amqp_text("NOT_FOUND - no queue"),
    };
    link->end = amqp_method_frame(link->in, ROOM, BENCH_CHANNEL, AMQP_CHANNEL_CLOSE, values);
    assert_int_equal(bench_consumer_scan(&scene.consumer), BENCH_BROKEN);
    assert_string_equal(link->error, "the broker closed the channel: 404 NOT_FOUND - no queue");
    link->begin = 0;
    link->end = (size_t)(write_delivery(&scene.plan, link->in, "0", 1, 0) - link->in);
    link->in[link->end - 1] = 0;
    assert_int_equal(bench_consumer_scan(&scene.consumer), BENCH_BROKEN);
    scene_close(&scene);
}

static void shares_cover_every_queue(void **state)
{
    (void)state;
    for (uint32_t workers = 1; workers < 9; workers++) {
        for (uint32_t queues = 1; queues < 30; queues++) {
            uint32_t met[30] = {0};
            for (uint32_t w = 0; w < workers; w++) {
                struct bench_share share = bench_share(w, workers, queues);
                for (uint32_t i = 0; i < share.count; i++) {
                    assert_true(share.first + i * share.step < queues);
                    met[share.first + i * share.step]++;
                }
            }
            for (uint32_t q = 0; q < queues; q++)
                assert_true(queues >= workers ? met[q] == 1 : met[q] >= 1);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_what_the_codec_reads),
        cmocka_unit_test(deliveries_are_read_however_they_are_cut),
        cmocka_unit_test(damage_is_seen),
        cmocka_unit_test(refusals_and_rubbish_end_it),
        cmocka_unit_test(shares_cover_every_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
