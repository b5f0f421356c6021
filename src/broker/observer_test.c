#include "broker/observer.h"
#include "broker/test_broker.h"
#include "broker/worker_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HANDLERS 3u
#define TEXT(x) bytes_of_text(x)

/* A broker in virtual time, one message after the other for each of its consumers. */
struct play {
    struct test_broker test;
    struct test_client *publisher, *handlers[HANDLERS];
    uint64_t done_us[HANDLERS], tags[HANDLERS], queue, random;
    uint64_t service_us;
};

static uint64_t chance(struct play *play)
{
    play->random = play->random * 6364136223846793005u + 1442695040888963407u;
    return play->random >> 33;
}

static struct queue *queue_of(struct play *play)
{
    return shard_queue(play->test.workers[0]->shards[0], play->queue);
}

static void open_play(struct play *play, uint64_t service_us, unsigned handlers)
{
    *play = (struct play){.random = 17, .service_us = service_us};
    test_broker_open(&play->test, 1, 1, NULL, 0);
    play->test.workers[0]->shards[0]->observer.next_us = 0;
    play->publisher = test_client_new(&play->test, 0);
    test_declare(&play->test, play->publisher, "q", 0);
    for (unsigned i = 0; i < handlers; i++) {
        play->handlers[i] = test_client_new(&play->test, 0);
        struct request consume = {.kind = REQUEST_CONSUME, .name = TEXT("q"), .tag = i, .prefetch = 1};
        assert_int_equal(test_request(&play->test, play->handlers[i], consume)->reply.code, 0);
    }
    uint32_t cursor = 0;
    play->queue = ((struct queue *)map_next(&play->test.workers[0]->shards[0]->queues, &cursor))->id;
}

static void close_play(struct play *play)
{
    for (unsigned i = 0; i < HANDLERS; i++)
        if (play->handlers[i])
            test_client_free(play->handlers[i]);
    test_client_free(play->publisher);
    test_broker_close(&play->test);
}

static void publish(struct play *play)
{
    assert_int_equal(test_publish(play->publisher, "", "q", "work", 0, false, NULL), PUBLISH_ROUTED);
}

/* Takes what came, and settles what has had its time. True: something was done. */
static bool handle(struct play *play, unsigned i)
{
    struct test_client *client = play->handlers[i];
    bool happened = false;
    for (struct test_event *event; (event = test_next(client));)
        if (event->kind == EVENT_DELIVERY) {
            play->done_us[i] = play->test.now_us + play->service_us;
            play->tags[i] = event->delivery.seq;
            client->count = client->seen = 0;
            happened = true;
            break;
        }
    if (play->done_us[i] && play->done_us[i] <= play->test.now_us) {
        client_settle(&client->client, play->queue, SETTLE_ACK, play->tags[i], 1, NULL);
        play->done_us[i] = 0;
        happened = true;
    }
    return happened;
}

/* `rate` messages a second come by chance. Turns are made only when something happens. Answers what the rate became. */
static double pass(struct play *play, double seconds, double rate)
{
    uint64_t begin_us = play->test.now_us, count = 0;
    for (uint64_t end_us = play->test.now_us + (uint64_t)(seconds * 1e6); play->test.now_us < end_us; play->test.now_us += 1000) {
        bool happened = false;
        if ((double)(chance(play) % 1000000) < rate * 1000) {
            publish(play);
            happened = true;
            count++;
        }
        for (unsigned i = 0; i < HANDLERS && play->handlers[i]; i++)
            happened |= handle(play, i);
        while (happened && worker_turn(play->test.workers[0], play->test.now_us))
            ;
    }
    return (double)count * 1e6 / (double)(play->test.now_us - begin_us);
}

static struct observation look(struct play *play)
{
    return observer_tell(play->test.workers[0]->shards[0], queue_of(play), 60, 0.8);
}

static void assert_near(double value, double expected, double share)
{
    if (!(fabs(value - expected) <= share * expected))
        fail_msg("%g, and %g was expected", value, expected);
}

static void handlers_at_work_are_seen_though_turns_are_rare(void **state)
{
    (void)state;
    static const struct { uint64_t service_us; double rate; } cases[] = {{300000, 2}, {30000, 5}, {20000, 60}};
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct play play;
        open_play(&play, cases[i].service_us, HANDLERS);
        double rate = pass(&play, 250, cases[i].rate);
        struct observation seen = look(&play);
        assert_int_equal(seen.consumers, HANDLERS);
        assert_near(seen.numbers.arrival_rate, rate, 0.2);
        assert_near(seen.numbers.service_seconds, (double)cases[i].service_us / 1e6, 0.3);
        assert_true(seen.numbers.consumers_needed >= 1 && seen.numbers.consumers_needed <= 3);
        close_play(&play);
    }
}

static void a_backlog_ends_when_it_is_said_to(void **state)
{
    (void)state;
    struct play play;
    open_play(&play, 10000, HANDLERS);   /* 3 handlers: some 270 a second */
    for (unsigned i = 0; i < 20000; i++)
        publish(&play);
    test_settle_down(&play.test);
    pass(&play, 20, 50);
    struct observation seen = look(&play);
    uint64_t begin_us = play.test.now_us;
    while (look(&play).ready)
        pass(&play, 0.1, 50);
    assert_near(seen.numbers.backlog_end_seconds, (double)(play.test.now_us - begin_us) / 1e6, 0.1);
    assert_near(seen.oldest_ready_seconds, 20, 0.1);
    close_play(&play);
}

static void what_is_purged_is_not_done(void **state)
{
    (void)state;
    struct play play;
    open_play(&play, 1000, 0);
    pass(&play, 20, 40);
    struct request purge = {.kind = REQUEST_QUEUE_PURGE, .name = TEXT("q")};
    assert_int_equal(test_request(&play.test, play.publisher, purge)->reply.code, 0);
    double rate = pass(&play, 20, 40);
    struct observation seen = look(&play);
    assert_true(seen.numbers.settle_rate == 0 && isnan(seen.numbers.service_seconds));
    assert_near(seen.numbers.arrival_rate, rate, 0.2);
    close_play(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handlers_at_work_are_seen_though_turns_are_rare),
        cmocka_unit_test(a_backlog_ends_when_it_is_said_to),
        cmocka_unit_test(what_is_purged_is_not_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
