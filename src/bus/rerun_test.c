/* Replays over a broker in memory: each event once, whatever is refused, stopped or begun anew meanwhile. */
#include "bus/rerun.h"

#include "base/test_malloc.h"
#include "broker/test_broker.h"
#include "broker/topology_change.h"
#include "io/outgoing.h"
#include "protocol/amqp/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define SECOND 1000000u
#define SUBSCRIPTION "{\"id\":\"%s\",\"owner\":\"guest\",\"types\":[\"order.*\"],\"sink\":\"http://sink/\",\"paused\":true,\"config\":{\"concurrency\":1}}"

static unsigned countdown;           /* allocations until one fails; 0: none does */
static bool fails(void) { return countdown && --countdown == 0; }

struct world {
    struct test_broker test;
    struct test_client *client;
    struct outgoing_sender sender;
    struct bus *bus;
};

static bool begin(struct outgoing_sender *sender, struct outgoing *outgoing, const struct outgoing_request *request)
{
    (void)sender, (void)outgoing, (void)request;
    return false;
}

static void pass(struct world *w, uint64_t us)
{
    w->test.now_us += us;
    for (unsigned i = 0; i < 6; i++) {
        bus_tick(w->bus, w->test.now_us);
        test_settle_down(&w->test);
    }
}

static uint16_t put(struct world *w, const char *component, const char *name, const char *value)
{
    const struct topology_change change = {.kind = value ? CHANGE_PARAMETER_PUT : CHANGE_PARAMETER_DELETE, .name = bytes_of_text(name), .source = bytes_of_text(component),
                                           .arguments = bytes_of_text(value ? value : "")};
    uint16_t code = test_request(&w->test, w->client, (struct request){.kind = REQUEST_CHANGE, .channel = 1, .change = &change})->reply.code;
    pass(w, 0);
    return code;
}

static void ask(struct world *w, const char *id, const char *wish)
{
    char text[512];
    snprintf(text, sizeof(text), "{\"id\":\"r%u\",\"state\":\"asked\"%s%s}", w->client->count, wish[0] ? "," : "", wish);
    assert_int_equal(put(w, "subscription-replay", id, text), 0);
}

static void declare(struct world *w, const char *queue, unsigned limit)
{
    uint8_t room[128];
    struct amqp_table_writer writer;
    struct bytes arguments;
    amqp_table_begin(&writer, room, sizeof(room));
    if (limit) {
        amqp_table_put_int(&writer, "x-max-length", (int32_t)limit);
        amqp_table_put_text(&writer, "x-overflow", bytes_of_text("reject-publish"));
    }
    assert_true(amqp_table_finish(&writer, &arguments));
    assert_int_equal(test_request(&w->test, w->client, (struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_DURABLE, .channel = 1, .name = bytes_of_text(queue),
                                                                        .arguments = arguments})->reply.code, 0);
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    uint8_t room[64];
    struct amqp_table_writer writer;
    struct bytes arguments;
    test_broker_open(&w->test, 1, 1, NULL, 0);
    w->client = test_client_new(&w->test, 0);
    w->sender = (struct outgoing_sender){.begin = begin};
    w->bus = bus_new(w->test.workers[0], 1, &(struct bus_senders){{&w->sender, &w->sender}, {&w->sender, &w->sender}});
    assert_non_null(w->bus);
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "x-queue-type", bytes_of_text("stream"));
    assert_true(amqp_table_finish(&writer, &arguments));
    assert_int_equal(test_request(&w->test, w->client, (struct request){.kind = REQUEST_EXCHANGE_DECLARE, .flags = REQUEST_DURABLE, .channel = 1, .name = bytes_of_text("events"),
                                                                        .type = bytes_of_text("topic")})->reply.code, 0);
    assert_int_equal(test_request(&w->test, w->client, (struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_DURABLE, .channel = 1, .name = bytes_of_text("events"),
                                                                        .arguments = arguments})->reply.code, 0);
    assert_int_equal(test_request(&w->test, w->client, (struct request){.kind = REQUEST_QUEUE_BIND, .channel = 1, .name = bytes_of_text("events"), .source = bytes_of_text("events"),
                                                                        .routing_key = bytes_of_text("#")})->reply.code, 0);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    bus_free(w->bus);
    test_client_free(w->client);
    test_broker_close(&w->test);
    free(w);
    return 0;
}

static void subscribe(struct world *w, const char *id, unsigned limit)
{
    char text[256], queue[SUBSCRIPTION_QUEUE_MAX];
    subscription_queue(id, false, queue);
    declare(w, queue, limit);
    snprintf(text, sizeof(text), SUBSCRIPTION, id);
    assert_int_equal(put(w, "subscription", id, text), 0);
}

static void publish(struct world *w, const char *type, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(test_publish(w->client, "events", type, type, 1, true, NULL), PUBLISH_ROUTED);
        if (i % 200 == 199)
            test_settle_down(&w->test);
    }
    test_settle_down(&w->test);
    w->client->count = w->client->seen = 0;
}

static void assert_record(struct world *w, const char *id, const char *name, const char *value)
{
    struct bytes kept;
    char wanted[128];
    char *live = bus_describe_replay(w->bus, bytes_of_text("/"), bytes_of_text(id));
    snprintf(wanted, sizeof(wanted), "\"%s\":%s", name, value);
    assert_true(worker_parameter(w->test.workers[0], bytes_of_text("/"), bytes_of_text("subscription-replay"), bytes_of_text(id), &kept));
    struct bytes text = live ? bytes_of_text(live) : kept;
    if (!memmem(text.data, text.size, wanted, strlen(wanted)))
        fail_msg("no %s in %.*s", wanted, (int)text.size, (const char *)text.data);
    free(live);
}

static unsigned purge(struct world *w, const char *queue)
{
    struct test_event *event = test_request(&w->test, w->client, (struct request){.kind = REQUEST_QUEUE_PURGE, .channel = 1, .name = bytes_of_text(queue)});
    assert_int_equal(event->reply.code, 0);
    return event->reply.messages;
}

static void it_reads_to_the_end_and_no_further(void **state)
{
    struct world *w = *state;
    publish(w, "order.a", 150);
    publish(w, "parcel.a", 50);
    subscribe(w, "s1", 0);
    ask(w, "s1", "");
    assert_record(w, "s1", "state", "\"done\"");
    assert_record(w, "s1", "replayed", "150");
    assert_record(w, "s1", "passed_over", "50");
    assert_record(w, "s1", "next", "200");
    assert_null(bus_describe_replay(w->bus, bytes_of_text("/"), bytes_of_text("s1")));
    publish(w, "order.b", 3);                /* these come through the queue's binding, which this one has since it was drained */
    ask(w, "s1", "\"from\":199,\"to\":200");
    assert_record(w, "s1", "replayed", "1");
    ask(w, "s1", "\"from\":500");
    assert_record(w, "s1", "read", "0");
    assert_int_equal(purge(w, "subscription.s1") + 1, 150 + 3 + 1);   /* one is in the drain's hand */
}

static void what_is_refused_is_published_again(void **state)
{
    struct world *w = *state;
    unsigned purged = 0;
    publish(w, "order.a", 100);
    subscribe(w, "s1", 30);
    ask(w, "s1", "\"from\":0");
    assert_record(w, "s1", "state", "\"running\"");
    for (unsigned i = 0; i < 4; i++) {
        purged += purge(w, "subscription.s1");
        pass(w, SECOND + 1);
    }
    assert_record(w, "s1", "state", "\"done\"");
    assert_record(w, "s1", "replayed", "100");
    assert_int_equal(purged + purge(w, "subscription.s1") + 1, 100);
}

static void whoever_takes_the_record_away_stops_it(void **state)
{
    struct world *w = *state;
    publish(w, "order.a", 100);
    subscribe(w, "s1", 10);
    ask(w, "s1", "\"from\":0");
    assert_record(w, "s1", "state", "\"running\"");
    assert_int_equal(put(w, "subscription-replay", "s1", NULL), 0);
    assert_null(bus_describe_replay(w->bus, bytes_of_text("/"), bytes_of_text("s1")));
    purge(w, "subscription.s1");
    pass(w, 20 * SECOND);
    assert_int_equal(purge(w, "subscription.s1"), 0);
    /* One that is there in the place of another one begins. */
    ask(w, "s1", "\"from\":0");
    ask(w, "s1", "\"from\":98");
    purge(w, "subscription.s1");
    pass(w, 2 * SECOND);
    assert_record(w, "s1", "state", "\"done\"");
    assert_record(w, "s1", "read", "2");
}

/* As a broker that was killed left it: it goes on where that had come, to what was the end then. */
static void one_that_was_running_goes_on(void **state)
{
    struct world *w = *state;
    publish(w, "order.a", 90);
    publish(w, "parcel.a", 10);
    subscribe(w, "s1", 0);
    assert_int_equal(put(w, "subscription-replay", "s1", "{\"id\":\"r\",\"state\":\"running\",\"from\":0,\"next\":80,\"end\":94,\"read\":80,\"replayed\":70,\"lost\":3}"), 0);
    pass(w, 2 * SECOND);
    assert_record(w, "s1", "state", "\"done\"");
    assert_record(w, "s1", "replayed", "80");
    assert_record(w, "s1", "passed_over", "15");
    assert_record(w, "s1", "read", "95");
    assert_record(w, "s1", "lost", "3");
    assert_int_equal(purge(w, "subscription.s1") + 1, 10);   /* one is in the drain's hand */
    /* What the stream had at the end was not on disk everywhere, and is gone with the crash. */
    assert_int_equal(put(w, "subscription-replay", "s1", "{\"id\":\"r2\",\"state\":\"running\",\"from\":0,\"next\":99,\"end\":500,\"read\":99,\"replayed\":0}"), 0);
    pass(w, 2 * SECOND);
    assert_record(w, "s1", "state", "\"done\"");
    assert_record(w, "s1", "end", "99");
    /* Ids that were found before are not missing, nor looked for again; one that was found behind `next` is. */
    assert_int_equal(put(w, "subscription-replay", "s1", "{\"id\":\"r3\",\"state\":\"running\",\"from\":0,\"ids\":[\"7\",\"70\",\"500\"],\"next\":60,\"end\":99,"
                                                         "\"read\":60,\"replayed\":1,\"found\":{\"7\":1}}"), 0);
    pass(w, 2 * SECOND);
    assert_record(w, "s1", "state", "\"done\"");
    assert_record(w, "s1", "replayed", "2");
    assert_record(w, "s1", "missing", "[\"500\"]");
    assert_int_equal(purge(w, "subscription.s1"), 1);
}

static void a_stop_in_good_order_loses_and_repeats_nothing(void **state)
{
    struct world *w = *state;
    unsigned purged = 0;
    publish(w, "order.a", 100);
    subscribe(w, "s1", 10);
    ask(w, "s1", "\"from\":0");
    for (unsigned stops = 0; stops < 3; stops++) {
        purged += purge(w, "subscription.s1");
        pass(w, SECOND + 1);
        bus_stop(w->bus);
        test_settle_down(&w->test);
        bus_free(w->bus);
        w->bus = bus_new(w->test.workers[0], 1, &(struct bus_senders){{&w->sender, &w->sender}, {&w->sender, &w->sender}});
        assert_non_null(w->bus);
        pass(w, SECOND);
        assert_record(w, "s1", "state", "\"running\"");
    }
    for (unsigned i = 0; i < 12; i++) {
        purged += purge(w, "subscription.s1");
        pass(w, SECOND + 1);
    }
    assert_record(w, "s1", "state", "\"done\"");
    assert_record(w, "s1", "replayed", "100");
    assert_record(w, "s1", "read", "100");
    assert_int_equal(purged + purge(w, "subscription.s1") + 1, 100);
}

static void how_far_it_is_is_written_down(void **state)
{
    struct world *w = *state;
    struct bytes kept;
    publish(w, "order.a", 100);
    subscribe(w, "s1", 10);
    ask(w, "s1", "\"from\":0");
    for (unsigned i = 0; i < 3; i++) {
        purge(w, "subscription.s1");
        pass(w, 6 * SECOND);
    }
    assert_true(worker_parameter(w->test.workers[0], bytes_of_text("/"), bytes_of_text("subscription-replay"), bytes_of_text("s1"), &kept));
    assert_non_null(memmem(kept.data, kept.size, "\"state\":\"running\"", 17));
    assert_non_null(memmem(kept.data, kept.size, "\"replayed\":", 11));
    assert_null(memmem(kept.data, kept.size, "\"replayed\":0", 12));
    assert_int_equal(test_request(&w->test, w->client, (struct request){.kind = REQUEST_QUEUE_DELETE, .channel = 1, .name = bytes_of_text("subscription.s1")})->reply.code, 0);
    pass(w, 2 * SECOND);
    assert_record(w, "s1", "state", "\"failed\"");
    assert_record(w, "s1", "why", "\"The subscription's queue is gone.\"");
}

static void others_wait_for_those_that_began_before(void **state)
{
    struct world *w = *state;
    char id[8], queue[SUBSCRIPTION_QUEUE_MAX];
    publish(w, "order.a", 20);
    for (unsigned i = 0; i < 10; i++) {
        snprintf(id, sizeof(id), "s%u", i);
        subscribe(w, id, 5);
        ask(w, id, "");
    }
    assert_record(w, "s7", "state", "\"running\"");
    assert_record(w, "s8", "state", "\"asked\"");
    assert_record(w, "s9", "state", "\"asked\"");
    for (unsigned round = 0; round < 8; round++)
        for (unsigned i = 0; i < 10; i++) {
            snprintf(id, sizeof(id), "s%u", i);
            subscription_queue(id, false, queue);
            purge(w, queue);
            pass(w, SECOND);
        }
    for (unsigned i = 0; i < 10; i++) {
        snprintf(id, sizeof(id), "s%u", i);
        assert_record(w, id, "state", "\"done\"");
        assert_record(w, id, "replayed", "20");
    }
}

static void a_stream_that_goes_away_ends_it(void **state)
{
    struct world *w = *state;
    publish(w, "order.a", 100);
    subscribe(w, "s1", 10);
    ask(w, "s1", "");
    assert_int_equal(test_request(&w->test, w->client, (struct request){.kind = REQUEST_QUEUE_DELETE, .channel = 1, .name = bytes_of_text("events")})->reply.code, 0);
    pass(w, SECOND);
    assert_record(w, "s1", "state", "\"failed\"");
    ask(w, "s1", "");
    assert_record(w, "s1", "state", "\"done\"");   /* there is nothing */
    declare(w, "events", 0);
    assert_int_equal(test_publish(w->client, "", "events", "x", 1, true, NULL), PUBLISH_ROUTED);
    test_settle_down(&w->test);
    ask(w, "s1", "");
    assert_record(w, "s1", "state", "\"failed\"");   /* that is no stream, and loses nothing */
    pass(w, SECOND);
    assert_int_equal(purge(w, "events"), 1);
}

static void what_is_no_record_and_memory_that_runs_out(void **state)
{
    struct world *w = *state;
    static const char *const bad[] = {"{\"id\":\"r\",\"state\":\"asked\",\"from\":-1}", "{\"id\":\"r\",\"state\":\"asked\",\"ids\":[7]}", "{\"id\":\"r\",\"state\":\"asked\",\"ids\":[]}",
                                      "{\"id\":7,\"state\":\"asked\"}", "{\"state\":\"asked\"}", "[\"asked\"]", "{\"id\":\"r\",\"state\":\"done\"}", "\"asked\"",
                                      "{\"id\":\"r\",\"state\":\"asked\",\"to_ms\":\"x\"}", "{\"id\":\"r\",\"state\":\"asked\",\"ids\":[\"\"]}",
                                      "{\"id\":\"r\",\"state\":\"running\",\"next\":-1}", "{\"id\":\"r\",\"state\":\"running\",\"read\":1,\"replayed\":2}",
                                      "{\"id\":\"r\",\"state\":\"running\",\"ids\":[\"a\"],\"found\":{\"b\":1}}",
                                      "{\"id\":\"r\",\"state\":\"running\",\"ids\":[\"a\"],\"found\":{\"a\":\"x\"}}"};
    const struct bytes vhost = bytes_of_text("/"), id = bytes_of_text("s1"), good = bytes_of_text("{\"id\":\"r\",\"state\":\"asked\",\"ids\":[\"a\",\"b\",\"a\"]}");
    subscribe(w, "s1", 0);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_null(rerun_new(w->bus, vhost, id, bytes_of_text(bad[i])));
    assert_null(rerun_new(w->bus, vhost, bytes_of_text("s2"), good));
    struct rerun *rerun = NULL;
    unsigned failed = 0;
    for (unsigned i = 1; !rerun && i < 100; i++) {
        countdown = i;
        rerun = rerun_new(w->bus, vhost, id, good);
        failed += !rerun;
        countdown = 0;
    }
    assert_non_null(rerun);
    assert_true(failed >= 4);
    assert_int_equal(rerun->id_count, 2);
    assert_true(rerun_is(rerun, good) && rerun_is(rerun, bytes_of_text("{\"id\":\"r\",\"state\":\"running\"}")) && !rerun_is(rerun, bytes_of_text("{\"id\":\"q\"}")));
    rerun_free(rerun);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD(it_reads_to_the_end_and_no_further), WORLD(what_is_refused_is_published_again), WORLD(whoever_takes_the_record_away_stops_it), WORLD(one_that_was_running_goes_on),
        WORLD(a_stop_in_good_order_loses_and_repeats_nothing),
        WORLD(how_far_it_is_is_written_down), WORLD(others_wait_for_those_that_began_before), WORLD(a_stream_that_goes_away_ends_it),
        WORLD(what_is_no_record_and_memory_that_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
