/* Every allocation of the library's own fails in turn, on an engine that only writes down what it is asked: nothing may crash, leak, or be told that is not so. */
#include "base/test_malloc.h"
#include "lib/bus.h"
#include "lib/direct.h"
#include "lib/handler.h"
#include "lib/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static struct {
    unsigned until;                  /* allocations left until one fails; 0: none fails */
    bool failed, armed;              /* armed: the library is at work, and not the test */
} plan;

static bool fails(void)
{
    if (!plan.armed || plan.until == 0 || --plan.until > 0)
        return false;
    plan.failed = true;
    return true;
}

/* ---- an engine that takes everything -------------------------------------------------------------------------------------------------------- */

static struct {
    unsigned published, settled, released, handlers, replaced;
    struct gw_handler *handler;
    bool direct;
} engine;

static int fake_publish(struct gw_bus *bus, const struct engine_message *message, uint64_t ticket)
{
    assert_true(message->properties.size > 2 && message->routing_key.size > 0);
    engine.published++;
    if (ticket)
        tickets_told(&bus->tickets, ticket, 1, GW_DONE);
    return GW_DONE;
}

static int fake_subscribe(struct gw_bus *bus, struct gw_handler *handler)
{
    (void)bus;
    engine.handlers++;
    handler->queue = engine.handlers;
    engine.handler = handler;
    return GW_DONE;
}

static void fake_unsubscribe(struct gw_bus *bus, struct gw_handler *handler) { (void)bus, (void)handler; }
static void fake_settle(struct gw_bus *bus, struct gw_event *event, enum settlement settlement) { (void)bus, (void)event, (void)settlement, engine.settled++; }
static void fake_release(struct gw_bus *bus, struct gw_event *event) { (void)bus, (void)event, engine.released++; }
static void fake_replace(struct gw_bus *bus, struct gw_event *event, const struct engine_message *message) { (void)bus, (void)event, (void)message, engine.replaced++; }
static bool fake_turn(struct gw_bus *bus, uint64_t now_us, uint64_t *due_us) { return (void)bus, (void)now_us, (void)due_us, false; }
static void fake_close(struct gw_bus *bus) { bus_closed(bus, GW_DONE); }

static bool fake_routes(struct gw_bus *bus, struct bytes type, const uint64_t **queues, uint32_t *count)
{
    static const uint64_t one = 1;
    (void)bus, (void)type;
    *queues = &one;
    *count = engine.direct;
    return engine.direct;
}

static uint64_t fake_version(struct gw_bus *bus) { return (void)bus, 1; }

static void fake_settle_after(struct gw_bus *bus, struct gw_event *event, uint64_t delay_ms) { (void)bus, (void)event, (void)delay_ms, engine.settled++; }
static const struct engine_ops fake_ops = {.settle_after = fake_settle_after,
                                           .publish = fake_publish, .subscribe = fake_subscribe, .unsubscribe = fake_unsubscribe, .settle = fake_settle, .release = fake_release,
                                           .replace = fake_replace, .turn = fake_turn, .close = fake_close, .routes = fake_routes, .routes_version = fake_version};

static struct gw_bus *open_fake(struct gw_loop *loop)
{
    struct gw_bus *bus = bus_begin(loop, NULL, NULL);
    if (!bus)
        return NULL;
    bus->ops = &fake_ops;
    bus->engine = &engine;
    bus->direct = direct_new(1 << 20);
    if (bus->direct)
        return bus;
    bus_abandon(bus, GW_E_MEMORY);
    return NULL;
}

/* ---- the story ------------------------------------------------------------------------------------------------------------------------------- */

struct tally {
    unsigned told, handled, timers, posts, closed;
};

static void on_told(void *context, int result)
{
    assert_int_equal(result, GW_DONE);
    ((struct tally *)context)->told++;
}

static void on_event(gw_event *event, void *context)
{
    struct tally *tally = context;
    unsigned turn = tally->handled++;
    const char *type = gw_event_type(event), *key = gw_event_key(event);
    assert_true(!type || type[0]);
    assert_true(!key || strcmp(key, "k") == 0);
    gw_event_header(event, "tenant");
    gw_event_id(event);
    if (turn % 3 == 0)
        gw_event_ack(event);
    else if (turn % 3 == 1)
        gw_event_retry_after(event, 1);
    else
        gw_event_retry(event);
}

static void on_timer(gw_timer *timer, void *context) { (void)timer, ((struct tally *)context)->timers++; }
static void on_post(void *context) { ((struct tally *)context)->posts++; }
static void on_closed(void *context, int result) { (void)result, ((struct tally *)context)->closed++; }

static bool is_good(int result)
{
    assert_true(result == GW_DONE || result == GW_E_MEMORY || result == GW_E_AGAIN);
    return result == GW_DONE;
}

static void publish(struct gw_bus *bus, struct tally *tally, unsigned *expected)
{
    static char long_value[2000];
    const gw_header headers[] = {{"tenant", long_value}, {"other", "b"}};
    memset(long_value, 'x', sizeof(long_value) - 1);
    for (unsigned i = 0; i < 70; i++)   /* more than the first ring of tickets has room for */
        *expected += is_good(gw_publish(bus, "a.b", "data", 4, NULL, on_told, tally));
    *expected += is_good(gw_publish(bus, "a.b", "data", 4, &(gw_publish_options){.key = "k", .headers = headers, .header_count = 2, .time_ms = 1}, on_told, tally));
    engine.direct = true;
    for (unsigned i = 0; i < 3; i++)
        *expected += is_good(gw_publish(bus, "a.c", "data", 4, &(gw_publish_options){.transient = 1, .key = i ? "k" : NULL}, on_told, tally));
    engine.direct = false;
}

static void deliver(struct gw_handler *handler)
{
    static const uint8_t none[2];
    unsigned taken = 0, released = engine.released;
    for (unsigned i = 0; i < 70; i++) {
        const struct incoming incoming = {.exchange = bytes_of_text("events"), .routing_key = bytes_of_text("a.b"), .properties = bytes_of(none, 2), .body = bytes_of_text("x"),
                                          .memory = &engine, .tag = i, .attempt = 1};
        taken += handler_deliver(handler, &incoming);
    }
    for (unsigned i = 0; i < 10; i++)
        gw_loop_step(handler->bus->loop);
    assert_int_equal(engine.released - released, taken);
}

static void live(void)
{
    struct tally tally = {0};
    unsigned expected = 0, posts = 0, timers = 0;
    memset(&engine, 0, sizeof(engine));
    gw_loop *loop = gw_loop_new();
    gw_bus *bus = loop ? open_fake(loop) : NULL;
    gw_handler *handler = gw_on(bus, "a.*", on_event, &tally, &(gw_handler_options){.transient = 1, .concurrency = 200, .retry_delays_ms = (uint64_t[]){0}, .retry_delay_count = 1});
    if (bus) {
        timers += gw_timer_start(loop, 0, 0, on_timer, &tally) != NULL;
        posts += is_good(gw_loop_post(loop, on_post, &tally));
        publish(bus, &tally, &expected);
        bus_notice(bus, GW_NOTICE_INFO, "nobody listens");
        if (handler)
            deliver(handler);
        gw_off(handler);
        gw_loop_step(loop);
        assert_int_equal(tally.told, expected);
        assert_int_equal(tally.posts, posts);
        assert_int_equal(tally.timers, timers);
        assert_int_equal(gw_close(bus, 0, on_closed, &tally), GW_DONE);
        for (unsigned i = 0; i < 5 && !tally.closed; i++)
            gw_loop_step(loop);
        assert_int_equal(tally.closed, 1);
    }
    gw_loop_free(loop);
}

static void every_allocation_may_fail(void **state)
{
    unsigned count = 0;
    (void)state;
    do {
        plan.failed = false;
        plan.until = ++count;
        plan.armed = true;
        live();
        plan.armed = false;
    } while (plan.failed);
    assert_in_range(count, 20, 2000);
}

/* ---- a connection that is lost ------------------------------------------------------------------------------------------------------------------ */

static gw_event *held[4];
static void hold(gw_event *event, void *context) { held[(*(unsigned *)context)++] = event; }

static void what_was_in_hand_when_the_connection_was_lost_is_late(void **state)
{
    static const uint8_t none[2];
    unsigned count = 0;
    (void)state;
    memset(&engine, 0, sizeof(engine));
    plan.until = 0;
    gw_loop *loop = gw_loop_new();
    gw_bus *bus = open_fake(loop);
    gw_handler *handler = gw_on(bus, "#", hold, &count, &(gw_handler_options){.concurrency = 2});
    for (unsigned i = 0; i < 4; i++)
        assert_true(handler_deliver(handler, &(struct incoming){.exchange = bytes_of_text("events"), .routing_key = bytes_of_text("a"), .properties = bytes_of(none, 2),
                                                                .body = bytes_of_text("x"), .memory = &engine, .attempt = 1}));
    gw_loop_step(loop);
    assert_int_equal(count, 2);
    handler_lost(handler);
    assert_int_equal(engine.released, 2);        /* those that nobody had seen */
    assert_int_equal(gw_event_size(held[0]), 1); /* the others can still be read */
    gw_event_ack(held[0]);
    gw_event_retry_after(held[1], 5);
    assert_int_equal(engine.settled + engine.replaced, 0);   /* by that time they are somebody else's */
    assert_int_equal(engine.released, 4);
    assert_int_equal(bus->in_hand, 0);
    gw_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(what_was_in_hand_when_the_connection_was_lost_is_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
