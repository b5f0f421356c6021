/* The bus over a broker in memory, with a sender that the test answers for, in time that the test makes pass. */
#include "bus/bus.h"

#include "base/err.h"
#include "broker/test_broker.h"
#include "broker/topology_change.h"
#include "bus/hook_request.h"
#include "io/outgoing.h"
#include "protocol/amqp/properties.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define SECOND 1000000u
#define POSTS_MAX 64u

struct post {
    struct outgoing *outgoing;
    char url[64], method[16], attempt[32], body[64];
    char header[64];                 /* the first */
};

struct world {
    struct test_broker test;
    struct test_client *client;
    struct outgoing_sender sender;
    struct post posts[POSTS_MAX];    /* under way */
    unsigned count, begun, cancelled;
    bool is_poor;                    /* there is no memory for another one */
    struct bus *bus;
};

static struct world *world_of(struct outgoing_sender *sender) { return (struct world *)(void *)((char *)sender - offsetof(struct world, sender)); }

static bool begin(struct outgoing_sender *sender, struct outgoing *outgoing, const struct outgoing_request *request)
{
    struct world *w = world_of(sender);
    if (w->is_poor)
        return false;
    assert_true(w->count < POSTS_MAX);
    struct post *post = &w->posts[w->count++];
    *post = (struct post){.outgoing = outgoing};
    snprintf(post->url, sizeof(post->url), "%s", request->url);
    snprintf(post->method, sizeof(post->method), "%s", request->method ? request->method : "POST");
    if (request->message)
        snprintf(post->header, sizeof(post->header), "%s %.*s %.*s", request->message->name, (int)request->message->exchange.size, (const char *)request->message->exchange.data,
                 (int)request->message->routing_key.size, (const char *)request->message->routing_key.data);
    else
        snprintf(post->header, sizeof(post->header), "%s", request->headers[0]);
    snprintf(post->body, sizeof(post->body), "%.*s", (int)request->body.size, (const char *)request->body.data);
    for (unsigned i = 0; i < request->header_count; i++)
        if (strncmp(request->headers[i], "webhook-attempt: ", 17) == 0)
            snprintf(post->attempt, sizeof(post->attempt), "%s", request->headers[i] + 17);
    w->begun++;
    return true;
}

static struct post take(struct world *w, unsigned index)
{
    struct post post = w->posts[index];
    assert_true(index < w->count);
    memmove(&w->posts[index], &w->posts[index + 1], (w->count - index - 1) * sizeof(post));
    w->count--;
    return post;
}

static void cancel(struct outgoing_sender *sender, struct outgoing *outgoing)
{
    struct world *w = world_of(sender);
    for (unsigned i = 0; i < w->count; i++)
        if (w->posts[i].outgoing == outgoing) {
            take(w, i);
            w->cancelled++;
            return;
        }
    fail();
}

static void pass(struct world *w, uint64_t us)
{
    w->test.now_us += us;
    for (unsigned i = 0; i < 4; i++) {
        bus_tick(w->bus, w->test.now_us);
        test_settle_down(&w->test);
    }
}

/* The first one under way is answered. */
static void answer(struct world *w, unsigned status, uint64_t retry_after_s)
{
    struct post post = take(w, 0);
    struct outgoing_result result = {.outcome = status ? OUTGOING_ANSWERED : OUTGOING_UNREACHABLE, .status = status, .retry_after_s = retry_after_s, .duration_us = 7,
                                     .now_us = w->test.now_us};
    post.outgoing->done(post.outgoing, &result);
    pass(w, 0);
}

/* The question whether the origin may post is. */
static void allow(struct world *w, unsigned status, const char *origin, const char *rate)
{
    struct post post = take(w, 0);
    struct outgoing_result result = {.outcome = OUTGOING_ANSWERED, .status = status, .retry_after_s = OUTGOING_NO_TIME, .now_us = w->test.now_us, .found = {origin, rate}};
    assert_string_equal(post.method, "OPTIONS");
    assert_string_equal(post.header, "webhook-request-origin: shop.example");
    post.outgoing->done(post.outgoing, &result);
    pass(w, 0);
}

static void set_one(struct world *w, const char *id, const char *value)
{
    const struct topology_change change = {.kind = value ? CHANGE_PARAMETER_PUT : CHANGE_PARAMETER_DELETE, .name = bytes_of_text(id), .source = bytes_of_text("subscription"),
                                           .arguments = bytes_of_text(value ? value : "")};
    assert_int_equal(test_request(&w->test, w->client, (struct request){.kind = REQUEST_CHANGE, .channel = 1, .change = &change})->reply.code, 0);
    pass(w, 0);
}

static void set(struct world *w, const char *value) { set_one(w, "s1", value); }

static void declare(struct world *w, const char *queue, bool retries)
{
    uint8_t room[256];
    struct amqp_table_writer writer;
    struct bytes arguments = {0};
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "x-retry-backoff", bytes_of_text("initial=2s multiplier=1 jitter=0"));
    amqp_table_put_long(&writer, "x-delivery-limit", 2);
    amqp_table_put_text(&writer, "x-dead-letter-exchange", bytes_of_text(""));
    amqp_table_put_text(&writer, "x-dead-letter-routing-key", bytes_of_text("subscription.s1.dead"));
    assert_true(amqp_table_finish(&writer, &arguments));
    assert_int_equal(test_request(&w->test, w->client, (struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_DURABLE, .channel = 1, .name = bytes_of_text(queue),
                                                                        .arguments = retries ? arguments : (struct bytes){0}})->reply.code, 0);
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    test_broker_open(&w->test, 1, 1, NULL, 0);
    w->client = test_client_new(&w->test, 0);
    w->sender = (struct outgoing_sender){.begin = begin, .cancel = cancel};
    w->bus = bus_new(w->test.workers[0], 1, &(struct bus_senders){{&w->sender, &w->sender}, {&w->sender, &w->sender}});
    assert_non_null(w->bus);
    declare(w, "subscription.s1.dead", false);
    declare(w, "subscription.s1", true);
    assert_int_equal(test_request(&w->test, w->client, (struct request){.kind = REQUEST_EXCHANGE_DECLARE, .flags = REQUEST_DURABLE, .channel = 1, .name = bytes_of_text("events"),
                                                                        .type = bytes_of_text("topic")})->reply.code, 0);
    set(w, "{\"id\":\"s1\",\"owner\":\"guest\",\"types\":[\"#\"],\"sink\":\"http://sink/\",\"config\":{\"concurrency\":6}}");
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    bus_free(w->bus);
    assert_int_equal(w->count, 0);
    test_client_free(w->client);
    test_broker_close(&w->test);
    free(w);
    return 0;
}

static void publish(struct world *w, const char *body)
{
    assert_int_equal(test_publish(w->client, "", "subscription.s1", body, 1, true, NULL), PUBLISH_ROUTED);
    test_settle_down(&w->test);
    pass(w, 0);
}

static unsigned ready(struct world *w, const char *queue)
{
    struct test_event *event = test_request(&w->test, w->client, (struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_PASSIVE, .channel = 1, .name = bytes_of_text(queue)});
    assert_int_equal(event->reply.code, 0);
    return event->reply.messages;
}

static void assert_status(struct world *w, const char *name, const char *value)
{
    char *text = bus_describe(w->bus, bytes_of_text("/"), bytes_of_text("s1"), true), wanted[128];
    snprintf(wanted, sizeof(wanted), "\"%s\":%s", name, value);
    assert_non_null(text);
    if (!strstr(text, wanted))
        fail_msg("no %s in %s", wanted, text);
    free(text);
}

static void what_is_taken_is_gone(void **state)
{
    struct world *w = *state;
    publish(w, "one");
    assert_int_equal(w->count, 1);
    assert_string_equal(w->posts[0].url, "http://sink/");
    assert_string_equal(w->posts[0].body, "one");
    assert_string_equal(w->posts[0].attempt, "1");
    assert_status(w, "under_way", "1");
    answer(w, 204, OUTGOING_NO_TIME);
    assert_status(w, "delivered", "1");
    assert_status(w, "state", "\"active\"");
    set(w, NULL);
    assert_null(bus_describe(w->bus, bytes_of_text("/"), bytes_of_text("s1"), false));
    assert_int_equal(ready(w, "subscription.s1"), 0);
}

static void what_is_refused_comes_again_and_is_given_up(void **state)
{
    struct world *w = *state;
    publish(w, "one");
    answer(w, 500, OUTGOING_NO_TIME);
    assert_status(w, "state", "\"failing\"");
    pass(w, SECOND);
    assert_int_equal(w->count, 0);
    pass(w, 2 * SECOND);
    assert_string_equal(w->posts[0].attempt, "2");
    answer(w, 0, OUTGOING_NO_TIME);
    pass(w, 3 * SECOND);
    assert_string_equal(w->posts[0].attempt, "3");
    answer(w, 400, OUTGOING_NO_TIME);
    pass(w, 3 * SECOND);
    assert_int_equal(w->begun, 3);
    assert_int_equal(ready(w, "subscription.s1.dead"), 1);
    assert_status(w, "refused", "3");
}

static void end_with(struct world *w, enum outgoing_outcome outcome, unsigned status)
{
    struct post post = take(w, 0);
    struct outgoing_result result = {.outcome = outcome, .status = status, .retry_after_s = OUTGOING_NO_TIME, .now_us = w->test.now_us};
    post.outgoing->done(post.outgoing, &result);
    pass(w, 0);
}

static void another_broker_is_a_sink(void **state)
{
    struct world *w = *state;
    set(w, "{\"id\":\"s1\",\"owner\":\"guest\",\"types\":[\"#\"],\"sink\":\"amqp://ann:sesame@there/?exchange=x&routing_key=y\"}");
    publish(w, "one");
    assert_int_equal(w->count, 1);
    assert_string_equal(w->posts[0].url, "amqp://ann:sesame@there/?exchange=x&routing_key=y");
    assert_string_equal(w->posts[0].header, "shovel s1 x y");
    assert_string_equal(w->posts[0].body, "one");
    assert_status(w, "endpoint", "{\"url\":\"amqp://there:5672\",\"under_way\":1,\"failures\":0}");
    end_with(w, OUTGOING_BUSY, 0);           /* which costs it no attempt */
    assert_status(w, "state", "\"slowed\"");
    assert_int_equal(w->count, 0);
    pass(w, SECOND);
    assert_int_equal(w->count, 1);
    assert_status(w, "refused", "0");
    end_with(w, OUTGOING_ANSWERED, 312);
    assert_status(w, "state", "\"failing\"");
    pass(w, 3 * SECOND);
    end_with(w, OUTGOING_REFUSED, 0);
    assert_status(w, "outcome", "\"refused\"");
    pass(w, 3 * SECOND);
    end_with(w, OUTGOING_ANSWERED, 200);
    assert_status(w, "delivered", "1");
    assert_status(w, "refused", "2");
    assert_int_equal(ready(w, "subscription.s1") + ready(w, "subscription.s1.dead"), 0);
    /* What is under way when it becomes a webhook is given back by the sender that has it. */
    publish(w, "two");
    set(w, "{\"id\":\"s1\",\"owner\":\"guest\",\"types\":[\"#\"],\"sink\":\"http://there/\",\"config\":{\"concurrency\":100}}");
    assert_int_equal(w->cancelled, 1);
    assert_string_equal(w->posts[0].url, "http://there/");
    answer(w, 204, OUTGOING_NO_TIME);
    set(w, "{\"id\":\"s1\",\"owner\":\"guest\",\"types\":[\"#\"],\"sink\":\"amqp://127.1/\"}");
    assert_status(w, "state", "\"invalid\"");
}

static void as_many_are_under_way_as_it_says(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 10; i++)
        publish(w, "x");
    assert_int_equal(w->count, 6);
    answer(w, 200, OUTGOING_NO_TIME);
    assert_int_equal(w->count, 6);
    while (w->count)
        answer(w, 200, OUTGOING_NO_TIME);
    assert_int_equal(w->begun, 10);
}

static void the_breaker_opens_and_closes(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 12; i++)
        publish(w, "x");
    for (unsigned i = 0; i < 6; i++)
        answer(w, 0, OUTGOING_NO_TIME);
    /* The sixth was under way when the fifth failed, and so was what took the places of the first four. */
    while (w->count)
        answer(w, 0, OUTGOING_NO_TIME);
    unsigned begun = w->begun;
    assert_status(w, "state", "\"unreachable\"");
    pass(w, SECOND / 8);
    assert_int_equal(w->begun, begun);
    pass(w, SECOND);
    assert_int_equal(w->begun, begun + 1);   /* one, to see how it goes */
    answer(w, 0, OUTGOING_NO_TIME);
    pass(w, SECOND);
    assert_int_equal(w->count, 0);
    pass(w, SECOND);
    assert_int_equal(w->count, 1);
    answer(w, 200, OUTGOING_NO_TIME);
    assert_int_equal(w->count, 6);
    assert_status(w, "state", "\"active\"");
    while (w->count)
        answer(w, 200, OUTGOING_NO_TIME);
}

static void publish_to(struct world *w, const char *queue)
{
    assert_int_equal(test_publish(w->client, "", queue, queue, 1, true, NULL), PUBLISH_ROUTED);
    test_settle_down(&w->test);
    pass(w, 0);
}

static void what_is_at_one_place_is_well_or_unwell_together(void **state)
{
    struct world *w = *state;
    declare(w, "subscription.s2", true);
    declare(w, "subscription.s3", true);
    set_one(w, "s2", "{\"id\":\"s2\",\"owner\":\"guest\",\"types\":[\"#\"],\"sink\":\"http://sink/other\",\"config\":{\"concurrency\":2}}");
    set_one(w, "s3", "{\"id\":\"s3\",\"owner\":\"guest\",\"types\":[\"#\"],\"sink\":\"http://elsewhere/\",\"config\":{\"concurrency\":2}}");
    for (unsigned i = 0; i < 3; i++) {   /* three failures of the one and two of the other are five of the place */
        publish_to(w, "subscription.s1");
        answer(w, 0, OUTGOING_NO_TIME);
    }
    for (unsigned i = 0; i < 2; i++) {
        publish_to(w, "subscription.s2");
        answer(w, 0, OUTGOING_NO_TIME);
    }
    assert_status(w, "state", "\"unreachable\"");
    assert_status(w, "endpoint", "{\"url\":\"http://sink:80\",\"under_way\":0,\"failures\":5,\"again_in_ms\":");
    publish_to(w, "subscription.s1");
    publish_to(w, "subscription.s2");
    publish_to(w, "subscription.s3");
    assert_int_equal(w->count, 1);           /* the one that is elsewhere goes on */
    assert_string_equal(w->posts[0].url, "http://elsewhere/");
    answer(w, 204, OUTGOING_NO_TIME);
    pass(w, SECOND);
    assert_int_equal(w->count, 1);           /* one of both, to see how it goes */
    answer(w, 500, OUTGOING_NO_TIME);        /* which is somebody's answer */
    assert_true(w->count >= 1);
    while (w->count)
        answer(w, 204, OUTGOING_NO_TIME);
    pass(w, 3 * SECOND);
    while (w->count)
        answer(w, 204, OUTGOING_NO_TIME);
    assert_status(w, "state", "\"active\"");
    assert_int_equal(ready(w, "subscription.s1") + ready(w, "subscription.s2") + ready(w, "subscription.s3"), 0);
    set_one(w, "s2", NULL);
    set_one(w, "s3", NULL);
}

static void it_slows_down_when_it_is_told_to(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 6; i++)
        publish(w, "x");
    answer(w, 429, 7);
    assert_status(w, "state", "\"slowed\"");
    while (w->count)
        answer(w, 200, OUTGOING_NO_TIME);
    pass(w, 6 * SECOND);
    assert_int_equal(w->count, 0);
    pass(w, SECOND);
    assert_int_equal(w->count, 1);
    assert_string_equal(w->posts[0].attempt, "1");
    answer(w, 503, 3);
    assert_status(w, "state", "\"slowed\"");
    pass(w, 3 * SECOND);
    answer(w, 503, OUTGOING_NO_TIME);        /* without a time it is a failure like any other */
    assert_status(w, "refused", "1");
    pass(w, 3 * SECOND);
    assert_string_equal(w->posts[0].attempt, "2");
    answer(w, 200, OUTGOING_NO_TIME);
    assert_int_equal(ready(w, "subscription.s1.dead"), 0);
}

static void gone_ends_it(void **state)
{
    struct world *w = *state;
    struct bytes value;
    publish(w, "one");
    answer(w, 410, OUTGOING_NO_TIME);
    assert_status(w, "state", "\"ended\"");
    assert_true(worker_parameter(w->test.workers[0], bytes_of_text("/"), bytes_of_text("subscription"), bytes_of_text("s1"), &value));
    assert_non_null(memmem(value.data, value.size, "410 Gone", 8));
    publish(w, "two");
    pass(w, 100 * SECOND);
    assert_int_equal(w->count, 0);
    set(w, "{\"id\":\"s1\",\"owner\":\"guest\",\"types\":[\"#\"],\"sink\":\"http://other/\",\"config\":{\"concurrency\":6}}");
    assert_int_equal(w->count, 2);           /* nothing was lost */
    assert_string_equal(w->posts[0].url, "http://other/");
}

static const char sink_alone[] = "{\"id\":\"s1\",\"owner\":\"guest\",\"types\":[\"#\"],\"sink\":\"http://sink/\",\"config\":{\"concurrency\":6}}";

/* Without a turn of the broker's: what it was asked is not done yet. */
static void answer_at_once(struct world *w, unsigned status)
{
    struct post post = take(w, 0);
    struct outgoing_result result = {.outcome = OUTGOING_ANSWERED, .status = status, .retry_after_s = OUTGOING_NO_TIME, .now_us = w->test.now_us};
    post.outgoing->done(post.outgoing, &result);
}

static void after_gone_nothing_is_posted(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 12; i++)
        publish(w, "x");
    unsigned begun = w->begun;
    answer_at_once(w, 410);
    answer_at_once(w, 200);
    test_settle_down(&w->test);              /* it is kept, and the bus has not looked yet */
    answer_at_once(w, 200);
    pass(w, 0);
    answer_at_once(w, 200);
    pass(w, 100 * SECOND);
    assert_int_equal(w->begun, begun);
    assert_status(w, "state", "\"ended\"");
    while (w->count)
        answer(w, 200, OUTGOING_NO_TIME);
}

static void gone_and_begun_anew_in_one_go(void **state)
{
    struct world *w = *state;
    publish(w, "one");
    answer_at_once(w, 410);
    test_settle_down(&w->test);
    const struct topology_change change = {.kind = CHANGE_PARAMETER_PUT, .name = bytes_of_text("s1"), .source = bytes_of_text("subscription"), .arguments = bytes_of_text(sink_alone)};
    assert_int_equal(test_request(&w->test, w->client, (struct request){.kind = REQUEST_CHANGE, .channel = 1, .change = &change})->reply.code, 0);
    pass(w, 0);
    assert_int_equal(w->count, 1);
    answer(w, 200, OUTGOING_NO_TIME);
    assert_status(w, "state", "\"active\"");
}

static void what_was_changed_meanwhile_is_not_undone_by_gone(void **state)
{
    struct world *w = *state;
    struct bytes value;
    publish(w, "one");
    const struct topology_change change = {.kind = CHANGE_PARAMETER_PUT, .name = bytes_of_text("s1"), .source = bytes_of_text("subscription"),
                                           .arguments = bytes_of_text("{\"id\":\"s1\",\"owner\":\"guest\",\"types\":[\"#\"],\"sink\":\"http://other/\",\"config\":{\"concurrency\":6}}")};
    client_request(&w->client->client, &(struct request){.kind = REQUEST_CHANGE, .channel = 1, .change = &change});
    answer_at_once(w, 410);
    pass(w, 0);
    assert_true(worker_parameter(w->test.workers[0], bytes_of_text("/"), bytes_of_text("subscription"), bytes_of_text("s1"), &value));
    assert_non_null(memmem(value.data, value.size, "http://other/", 13));
    assert_string_equal(w->posts[0].url, "http://other/");
    set(w, sink_alone);
    answer(w, 410, OUTGOING_NO_TIME);        /* by the one that was there before */
    assert_string_equal(w->posts[0].url, "http://sink/");
    answer(w, 200, OUTGOING_NO_TIME);
}

static void times_are_counted_from_the_answer(void **state)
{
    struct world *w = *state;
    publish(w, "one");
    w->test.now_us += 10 * SECOND;           /* in which nobody looked */
    answer(w, 429, 7);
    pass(w, 6 * SECOND);
    assert_int_equal(w->count, 0);
    pass(w, SECOND);
    assert_int_equal(w->count, 1);
    answer(w, 200, OUTGOING_NO_TIME);
}

static unsigned publish_event(struct world *w, const char *type)
{
    unsigned begun = w->begun;
    enum publish_result result = test_publish(w->client, "events", type, type, 1, true, NULL);
    test_settle_down(&w->test);
    pass(w, 0);
    return result == PUBLISH_ROUTED ? w->begun - begun : 100;
}

static void it_is_bound_as_the_subscription_says(void **state)
{
    struct world *w = *state;
    assert_int_equal(publish_event(w, "a.b"), 1);
    answer(w, 200, OUTGOING_NO_TIME);
    set(w, "{\"id\":\"s1\",\"owner\":\"guest\",\"types\":[\"a.*\",\"c.#.d\"],\"sink\":\"http://sink/\",\"paused\":true}");
    assert_int_equal(publish_event(w, "a.b"), 0);
    assert_int_equal(publish_event(w, "a.c"), 0);
    assert_int_equal(publish_event(w, "a.b.c"), 0);
    assert_int_equal(publish_event(w, "c.d"), 0);
    assert_int_equal(publish_event(w, "c.d.e.d.d"), 0);
    assert_int_equal(publish_event(w, "c.d.e"), 0);
    set(w, "{\"id\":\"s1\",\"owner\":\"guest\",\"types\":[\"a.b\",\"c.#.d\"],\"sink\":\"http://sink/\"}");
    assert_int_equal(w->count, 3);           /* those that it wants now */
    assert_string_equal(w->posts[0].body, "a.b");
    assert_string_equal(w->posts[1].body, "c.d");
    assert_string_equal(w->posts[2].body, "c.d.e.d.d");
    assert_status(w, "passed_over", "3");
    while (w->count)
        answer(w, 200, OUTGOING_NO_TIME);
}

static void events_go_one_after_the_other(void **state)
{
    struct world *w = *state;
    set(w, "{\"id\":\"s1\",\"owner\":\"guest\",\"types\":[\"#\"],\"sink\":\"http://sink/\",\"config\":{\"concurrency\":6,\"order\":\"*\"}}");
    publish(w, "one");
    publish(w, "two");
    publish(w, "three");
    assert_int_equal(w->count, 1);
    answer(w, 200, OUTGOING_NO_TIME);
    assert_int_equal(w->count, 1);
    assert_string_equal(w->posts[0].body, "two");
    answer(w, 429, 1);
    pass(w, 2 * SECOND);
    assert_int_equal(w->count, 1);
    assert_string_equal(w->posts[0].body, "two");
}

static void the_sink_is_asked_whether_it_wants_that(void **state)
{
    struct world *w = *state;
    static const char origin[] = "{\"id\":\"s1\",\"owner\":\"guest\",\"types\":[\"#\"],\"sink\":\"http://%s/\",\"config\":{\"concurrency\":6,\"origin\":\"shop.example\"}}";
    char text[200];
    snprintf(text, sizeof(text), origin, "sink");
    set(w, text);
    publish(w, "one");
    publish(w, "two");
    assert_int_equal(w->count, 1);
    allow(w, 200, "elsewhere.example", NULL);
    assert_status(w, "state", "\"not allowed\"");
    pass(w, 50 * SECOND);
    assert_int_equal(w->count, 0);
    pass(w, 11 * SECOND);                    /* it is asked again */
    allow(w, 405, "*", NULL);
    pass(w, 61 * SECOND);
    allow(w, 200, "shop.example", "12");     /* a minute: one in 5 s */
    assert_int_equal(w->count, 1);
    answer(w, 200, OUTGOING_NO_TIME);
    assert_int_equal(w->count, 0);
    pass(w, 3 * SECOND);
    assert_int_equal(w->count, 0);
    pass(w, 2 * SECOND);
    answer(w, 200, OUTGOING_NO_TIME);
    assert_status(w, "delivered", "2");
    snprintf(text, sizeof(text), origin, "other");
    set(w, text);                            /* another sink is asked anew; what is asked is forgotten with the subscription */
    assert_int_equal(w->count, 1);
    assert_string_equal(w->posts[0].url, "http://other/");
    set(w, NULL);
    assert_int_equal(w->cancelled, 1);
}

static void what_is_under_way_goes_back_when_it_is_removed(void **state)
{
    struct world *w = *state;
    publish(w, "one");
    publish(w, "two");
    answer(w, 429, 100);
    set(w, NULL);
    assert_int_equal(w->cancelled, 1);
    assert_int_equal(ready(w, "subscription.s1"), 2);
}

static void pauses_memory_and_mistakes(void **state)
{
    struct world *w = *state;
    set(w, "{\"id\":\"s1\",\"owner\":\"guest\",\"types\":[\"#\"],\"sink\":\"http://sink/\",\"config\":{\"concurrency\":6},\"paused\":true}");
    assert_int_equal(test_request(&w->test, w->client, (struct request){.kind = REQUEST_QUEUE_BIND, .channel = 1, .name = bytes_of_text("subscription.s1"),
                                                                        .source = bytes_of_text("amq.fanout")})->reply.code, 0);
    assert_int_equal(test_publish(w->client, "amq.fanout", "key", "one", 1, true, NULL), PUBLISH_ROUTED);
    pass(w, 0);
    assert_int_equal(w->count, 0);
    assert_status(w, "state", "\"paused\"");
    w->is_poor = true;
    set(w, "{\"id\":\"s1\",\"owner\":\"guest\",\"types\":[\"#\"],\"sink\":\"http://sink/\",\"config\":{\"concurrency\":6},\"paused\":false}");
    assert_int_equal(w->count, 0);
    w->is_poor = false;
    pass(w, SECOND);
    assert_int_equal(w->count, 1);
    set(w, "{\"id\":\"s2\",\"owner\":\"guest\",\"types\":[\"#\"],\"sink\":\"http://sink/\"}");
    assert_status(w, "state", "\"invalid\"");
    set(w, "7");
    assert_status(w, "state", "\"invalid\"");
    set(w, "{\"id\":\"s1\",\"owner\":\"stranger\",\"types\":[\"#\"],\"sink\":\"http://sink/\"}");
    assert_status(w, "state", "\"failed\"");
    set(w, "{\"id\":\"s1\",\"owner\":\"guest\",\"types\":[\"#\"],\"sink\":\"http://sink/\",\"filters\":[{\"exact\":{\"tenant\":\"a\"}}]}");
    pass(w, 10 * SECOND);
    assert_int_equal(w->count, 0);           /* what is not wanted is passed over */
    assert_status(w, "passed_over", "1");
    assert_int_equal(ready(w, "subscription.s1"), 0);
    publish(w, "to the queue itself");
    assert_int_equal(w->count, 1);
}

static void its_queue_may_come_later(void **state)
{
    struct world *w = *state;
    assert_int_equal(test_request(&w->test, w->client, (struct request){.kind = REQUEST_QUEUE_DELETE, .channel = 1, .name = bytes_of_text("subscription.s1")})->reply.code, 0);
    pass(w, 0);
    assert_status(w, "state", "\"failed\"");
    pass(w, 6 * SECOND);
    declare(w, "subscription.s1", true);
    pass(w, 6 * SECOND);
    publish(w, "one");
    answer(w, 200, OUTGOING_NO_TIME);
    assert_status(w, "state", "\"active\"");
}

/* ---- headers ------------------------------------------------------------------------------------------------------------ */

static bool has(const struct hook_request *request, const char *header)
{
    for (unsigned i = 0; i < request->count; i++)
        if (strcmp(request->headers[i], header) == 0)
            return true;
    return false;
}

static void messages_become_requests(void **state)
{
    uint8_t table[512], properties[1024];
    struct amqp_table_writer writer;
    struct hook_request request;
    const struct subscription subscription = {.secret_count = 1, .secrets = {{.size = 24}}};
    struct amqp_properties given = {.flags = AMQP_HEADERS | AMQP_CONTENT_TYPE, .content_type = bytes_of_text("text/plain\r\nx: y")};
    (void)state;
    amqp_table_begin(&writer, table, sizeof(table));
    amqp_table_put_text(&writer, "cloudEvents_id", bytes_of_text("a b"));
    amqp_table_put_text(&writer, "cloudEvents_subject", bytes_of_text("\xc3\xa4\r\nx: \"y\""));
    amqp_table_put_text(&writer, "cloudEvents_Bad", bytes_of_text("1"));
    amqp_table_put_text(&writer, "x-other", bytes_of_text("1"));
    amqp_table_put_bool(&writer, "cloudEvents_good", true);
    amqp_table_put_int(&writer, "cloudEvents_count", -7);
    assert_true(amqp_table_finish(&writer, &given.headers));
    struct message message = {.routing_key = bytes_of_text("a.b"), .body = bytes_of_text("body"),
                              .properties = bytes_of(properties, amqp_properties_encode(&given, properties, sizeof(properties)))};
    assert_true(hook_request_init(&request, &message, &subscription, "5-7", 3, 1000));
    assert_string_equal(request.id, "5-7");
    const char *const wanted[] = {"content-type: application/octet-stream", "webhook-id: 5-7", "webhook-timestamp: 1000", "webhook-attempt: 3", "ce-id: a%20b",
                                  "ce-subject: %C3%A4%0D%0Ax:%20%22y%22", "ce-good: true", "ce-count: -7", "ce-type: a.b", "ce-source: /amqp", "ce-specversion: 1.0"};
    for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        if (!has(&request, wanted[i]))
            fail_msg("no %s", wanted[i]);
    assert_int_equal(request.count, sizeof(wanted) / sizeof(wanted[0]) + 2);   /* user-agent and signature, too */
    hook_request_deinit(&request);
    message.properties = bytes_of("\0", 1);
    assert_true(hook_request_init(&request, &message, &(struct subscription){.secret_count = 0}, "5-7", 1, 1000));
    assert_true(has(&request, "ce-id: 5-7"));
    hook_request_deinit(&request);
}

static void messages_become_requests_in_structured_mode(void **state)
{
    uint8_t properties[256];
    char signature[SIGNATURE_MAX], header[SIGNATURE_MAX + 32];
    struct hook_request request;
    const struct subscription subscription = {.secret_count = 1, .secrets = {{.size = 24}}, .is_structured = true};
    const struct amqp_properties given = {.flags = AMQP_CONTENT_TYPE | AMQP_MESSAGE_ID, .content_type = bytes_of_text("application/json"), .message_id = bytes_of_text("m1")};
    const char *body = "{\"specversion\":\"1.0\",\"id\":\"m1\",\"source\":\"/amqp\",\"type\":\"a.b\",\"datacontenttype\":\"application/json\",\"data\":[7]}";
    const struct message message = {.routing_key = bytes_of_text("a.b"), .body = bytes_of_text("[7]"),
                                    .properties = bytes_of(properties, amqp_properties_encode(&given, properties, sizeof(properties)))};
    (void)state;
    assert_true(hook_request_init(&request, &message, &subscription, "5-7", 3, 1000));
    assert_true(bytes_equal(request.body, bytes_of_text(body)));
    /* What is signed is what is posted. */
    assert_true(webhook_sign(subscription.secrets, 1, bytes_of_text("m1"), 1000, bytes_of_text(body), signature));
    snprintf(header, sizeof(header), "webhook-signature: %s", signature);
    const char *const wanted[] = {"content-type: application/cloudevents+json", "webhook-id: m1", "webhook-timestamp: 1000", "webhook-attempt: 3", header};
    for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        if (!has(&request, wanted[i]))
            fail_msg("no %s", wanted[i]);
    assert_int_equal(request.count, sizeof(wanted) / sizeof(wanted[0]) + 1);   /* user-agent, too, and no attribute */
    hook_request_deinit(&request);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD(what_is_taken_is_gone), WORLD(what_is_refused_comes_again_and_is_given_up), WORLD(another_broker_is_a_sink), WORLD(as_many_are_under_way_as_it_says), WORLD(the_breaker_opens_and_closes),
        WORLD(what_is_at_one_place_is_well_or_unwell_together),
        WORLD(it_slows_down_when_it_is_told_to), WORLD(gone_ends_it), WORLD(after_gone_nothing_is_posted), WORLD(gone_and_begun_anew_in_one_go),
        WORLD(what_was_changed_meanwhile_is_not_undone_by_gone),
        WORLD(times_are_counted_from_the_answer), WORLD(it_is_bound_as_the_subscription_says), WORLD(events_go_one_after_the_other), WORLD(the_sink_is_asked_whether_it_wants_that),
        WORLD(what_is_under_way_goes_back_when_it_is_removed), WORLD(pauses_memory_and_mistakes), WORLD(its_queue_may_come_later),
        cmocka_unit_test(messages_become_requests), cmocka_unit_test(messages_become_requests_in_structured_mode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
