/* gw_open and what handlers may expect of it: everything through the header alone, on real directories. */
#include "lib/test_loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what handlers saw ------------------------------------------------------------------------------------------------------------- */

enum answer { ACK, RETRY, REJECT, LATER, RETRY_LATER };

struct seen {
    enum answer answer;              /* what it answers … */
    unsigned fails;                  /* … the first so many with RETRY */
    unsigned count, in_hand, most;
    unsigned wanted;
    char order[512];                 /* the data of what came, one after the other */
    gw_event *held[64];
    uint32_t attempt;
    int redelivered;
    char type[64], id[64], key[64], header[64];
};

static void note(struct seen *seen, gw_event *event)
{
    const char *key = gw_event_key(event), *header = gw_event_header(event, "tenant");
    seen->count++;
    snprintf(seen->order + strlen(seen->order), sizeof(seen->order) - strlen(seen->order), "%.*s ", (int)gw_event_size(event), (const char *)gw_event_data(event));
    seen->attempt = gw_event_attempt(event);
    seen->redelivered = gw_event_redelivered(event);
    snprintf(seen->type, sizeof(seen->type), "%s", gw_event_type(event));
    snprintf(seen->id, sizeof(seen->id), "%s", gw_event_id(event));
    snprintf(seen->key, sizeof(seen->key), "%s", key ? key : "");
    snprintf(seen->header, sizeof(seen->header), "%s", header ? header : "");
}

static void on_event(gw_event *event, void *context)
{
    struct seen *seen = context;
    note(seen, event);
    if (seen->count <= seen->fails) {
        gw_event_retry(event);
        return;
    }
    switch (seen->answer) {
    case ACK: gw_event_ack(event); break;
    case RETRY: gw_event_retry(event); break;
    case REJECT: gw_event_reject(event); break;
    case RETRY_LATER: gw_event_retry_after(event, 30); break;
    case LATER:
        seen->held[seen->in_hand++] = event;
        seen->most = seen->in_hand > seen->most ? seen->in_hand : seen->most;
    }
}

static bool has_all(void *context) { return ((struct seen *)context)->count >= ((struct seen *)context)->wanted; }

static void until(struct test_loop *test, struct seen *seen, unsigned count)
{
    seen->wanted = count;
    test_until(test, has_all, seen);
}

static void publish(gw_bus *bus, const char *type, const char *data, const gw_publish_options *options)
{
    assert_int_equal(gw_publish(bus, type, data, strlen(data), options, NULL, NULL), 0);
}

static const uint64_t soon[] = {20};
#define SOON .retry_delays_ms = soon, .retry_delay_count = 1

/* ---- events and their handlers -------------------------------------------------------------------------------------------------------- */

static void an_event_comes_with_all_that_was_said_of_it(void **state)
{
    struct test_loop test = {0};
    struct seen seen = {0};
    const gw_header headers[] = {{"tenant", "a"}};
    (void)state;
    test_open(&test);
    assert_non_null(gw_on(test.bus, "order.*", on_event, &seen, NULL));
    publish(test.bus, "order.created", "7", &(gw_publish_options){.id = "o-7", .source = "/shop", .subject = "7", .key = "k", .headers = headers, .header_count = 1});
    publish(test.bus, "invoice.created", "no", NULL);
    until(&test, &seen, 1);
    assert_string_equal(seen.type, "order.created");
    assert_string_equal(seen.id, "o-7");
    assert_string_equal(seen.key, "k");
    assert_string_equal(seen.header, "a");
    assert_int_equal(seen.attempt, 1);
    assert_false(seen.redelivered);
    publish(test.bus, "order.paid", "8", NULL);
    until(&test, &seen, 2);
    assert_string_equal(seen.type, "order.paid");
    assert_string_equal(seen.order, "7 8 ");
    test_end(&test);
}

static void what_nobody_handled_is_there_when_it_is_opened_again(void **state)
{
    struct test_loop test = {0};
    struct seen seen = {.answer = LATER};
    (void)state;
    test_open(&test);
    gw_on(test.bus, "#", on_event, &seen, &(gw_handler_options){.name = "jobs"});
    publish(test.bus, "a", "1", NULL);
    publish(test.bus, "a", "2", NULL);
    until(&test, &seen, 1);
    test_close(&test);
    seen = (struct seen){.answer = ACK};
    test_open(&test);
    gw_on(test.bus, "#", on_event, &seen, &(gw_handler_options){.name = "jobs"});
    until(&test, &seen, 2);
    assert_string_equal(seen.order, "1 2 ");
    test_close(&test);
    seen = (struct seen){.answer = ACK};
    test_open(&test);
    gw_on(test.bus, "#", on_event, &seen, &(gw_handler_options){.name = "jobs"});
    test_for(&test, 50);
    assert_int_equal(seen.count, 0);
    test_end(&test);
}

static void what_failed_comes_again_and_is_given_up_in_the_end(void **state)
{
    struct test_loop test = {0};
    struct seen seen = {.answer = RETRY}, dead = {0};
    (void)state;
    test_open(&test);
    gw_on(test.bus, "job", on_event, &seen, &(gw_handler_options){.retries = 2, .dead_letter = "job.dead", SOON});
    gw_on(test.bus, "job.dead", on_event, &dead, NULL);
    publish(test.bus, "job", "1", &(gw_publish_options){.source = "/x"});
    until(&test, &dead, 1);
    assert_int_equal(seen.count, 3);
    assert_int_equal(seen.attempt, 3);
    assert_true(seen.redelivered);
    assert_string_equal(dead.type, "job");
    assert_string_equal(dead.order, "1 ");
    test_end(&test);
}

static void what_was_rejected_lies_in_a_queue_of_its_own(void **state)
{
    struct test_loop test = {0};
    struct seen seen = {.answer = REJECT};
    (void)state;
    test_open(&test);
    gw_on(test.bus, "job", on_event, &seen, &(gw_handler_options){.name = "jobs"});
    publish(test.bus, "job", "1", NULL);
    until(&test, &seen, 1);
    /* It is used while there is a handler, and the dead one's is another: nobody uses that. */
    assert_int_equal(gw_forget(test.bus, "jobs"), GW_E_REFUSED);
    assert_int_equal(gw_forget(test.bus, "jobs.dead"), 0);
    test_end(&test);
}

static void it_may_say_itself_when_it_comes_again(void **state)
{
    struct test_loop test = {0};
    struct seen seen = {.answer = RETRY_LATER}, dead = {0};
    (void)state;
    test_open(&test);
    gw_on(test.bus, "job", on_event, &seen, &(gw_handler_options){.retries = 2, .dead_letter = "dead"});
    gw_on(test.bus, "dead", on_event, &dead, NULL);
    publish(test.bus, "job", "1", NULL);
    until(&test, &dead, 1);
    assert_string_equal(seen.order, "1 1 1 ");
    assert_int_equal(seen.attempt, 3);
    assert_string_equal(seen.type, "job");
    test_end(&test);
}

static void no_more_are_in_hand_than_it_can_do_at_a_time(void **state)
{
    struct test_loop test = {0};
    struct seen seen = {.answer = LATER};
    (void)state;
    test_open(&test);
    gw_on(test.bus, "#", on_event, &seen, &(gw_handler_options){.concurrency = 3});
    for (unsigned i = 0; i < 10; i++)
        publish(test.bus, "a", "x", NULL);
    until(&test, &seen, 3);
    test_for(&test, 30);
    assert_int_equal(seen.count, 3);
    for (unsigned count = 3; count < 10; count++) {
        gw_event_ack(seen.held[--seen.in_hand]);
        until(&test, &seen, count + 1);
    }
    assert_int_equal(seen.most, 3);
    test_end(&test);
}

static void an_event_that_nobody_answers_comes_again(void **state)
{
    struct test_loop test = {0};
    struct seen seen = {.answer = LATER};
    (void)state;
    test_open(&test);
    gw_on(test.bus, "#", on_event, &seen, &(gw_handler_options){.timeout_ms = 50, SOON});
    publish(test.bus, "a", "1", NULL);
    until(&test, &seen, 2);
    assert_int_equal(seen.attempt, 2);
    /* The first is late: what is said of it now is of no effect, and it may still be read. */
    assert_int_equal(gw_event_size(seen.held[0]), 1);
    gw_event_reject(seen.held[0]);
    gw_event_ack(seen.held[1]);
    test_for(&test, 120);
    assert_int_equal(seen.count, 2);
    test_end(&test);
}

static void events_of_a_key_come_one_after_the_other(void **state)
{
    struct test_loop test = {0};
    struct seen seen = {.answer = LATER};
    const gw_publish_options a = {.key = "a"}, b = {.key = "b"};
    (void)state;
    test_open(&test);
    gw_on(test.bus, "#", on_event, &seen, &(gw_handler_options){.concurrency = 4, .order_by_key = 1, SOON});
    publish(test.bus, "t", "a1", &a);
    publish(test.bus, "t", "a2", &a);
    publish(test.bus, "t", "b1", &b);
    until(&test, &seen, 2);
    test_for(&test, 30);
    assert_string_equal(seen.order, "a1 b1 ");
    gw_event_retry(seen.held[0]);
    until(&test, &seen, 3);
    assert_string_equal(seen.order, "a1 b1 a1 ");
    gw_event_ack(seen.held[2]);
    until(&test, &seen, 4);
    assert_string_equal(seen.order, "a1 b1 a1 a2 ");
    test_end(&test);
}

/* With a delay of its own, too; meanwhile other keys go on. */
static void an_event_that_comes_later_keeps_the_order_of_its_key(void **state)
{
    struct test_loop test = {0};
    struct seen seen = {.answer = LATER};
    const gw_publish_options a = {.key = "a"}, b = {.key = "b"};
    const uint64_t never[] = {3600000};
    (void)state;
    test_open(&test);
    gw_on(test.bus, "#", on_event, &seen, &(gw_handler_options){.concurrency = 2, .order_by_key = 1, .retry_delays_ms = never, .retry_delay_count = 1});
    publish(test.bus, "t", "a1", &a);
    publish(test.bus, "t", "a2", &a);
    publish(test.bus, "t", "b1", &b);
    publish(test.bus, "t", "b2", &b);
    until(&test, &seen, 2);
    gw_event_retry_after(seen.held[0], 100);
    gw_event_ack(seen.held[1]);
    until(&test, &seen, 4);
    assert_string_equal(seen.order, "a1 b1 b2 a1 ");
    assert_int_equal(seen.attempt, 2);
    gw_event_ack(seen.held[3]);
    until(&test, &seen, 5);
    assert_string_equal(seen.order, "a1 b1 b2 a1 a2 ");
    test_end(&test);
}

static void those_that_matter_more_come_first(void **state)
{
    struct test_loop test = {0};
    struct seen seen = {0};
    (void)state;
    test_open(&test);
    const gw_handler_options options = {.name = "p", .priorities = 9};
    gw_off(gw_on(test.bus, "#", on_event, &seen, &options));
    publish(test.bus, "t", "low", &(gw_publish_options){.priority = 1});
    publish(test.bus, "t", "high", &(gw_publish_options){.priority = 9});
    assert_int_equal(gw_publish_wait(test.bus, "t", "mid", 3, &(gw_publish_options){.priority = 5}, 5000), 0);
    gw_on(test.bus, "#", on_event, &seen, &options);
    until(&test, &seen, 3);
    assert_string_equal(seen.order, "high mid low ");
    test_end(&test);
}

static void one_that_is_for_later_comes_later(void **state)
{
    struct test_loop test = {0};
    struct seen seen = {0};
    (void)state;
    test_open(&test);
    gw_on(test.bus, "#", on_event, &seen, NULL);
    test_for(&test, 20);
    publish(test.bus, "t", "later", &(gw_publish_options){.delay_ms = 60});
    publish(test.bus, "t", "now", NULL);
    test_for(&test, 40);
    assert_string_equal(seen.order, "now ");
    until(&test, &seen, 2);
    assert_string_equal(seen.order, "now later ");
    test_end(&test);
}

static void handlers_with_other_options_are_refused_the_queue(void **state)
{
    struct test_loop test = {0};
    struct seen seen = {0};
    (void)state;
    test_open(&test);
    assert_non_null(gw_on(test.bus, "a", on_event, &seen, &(gw_handler_options){.name = "q"}));
    assert_null(gw_on(test.bus, "a", on_event, &seen, &(gw_handler_options){.name = "q", .retries = 9}));
    assert_non_null(strstr(gw_error(test.loop), "x-delivery-limit"));
    test_end(&test);
}

static void turn_off(gw_event *event, void *context)
{
    struct { struct seen seen; gw_handler *handler; } *own = context;
    note(&own->seen, event);
    gw_off(own->handler);
    gw_event_ack(event);
}

static void a_handler_may_end_itself_and_leaves_the_rest_to_the_next(void **state)
{
    struct test_loop test = {0};
    struct seen seen = {0};
    struct { struct seen seen; gw_handler *handler; } own = {0};
    const gw_handler_options options = {.name = "shared"};
    (void)state;
    test_open(&test);
    own.handler = gw_on(test.bus, "#", turn_off, &own, &options);
    publish(test.bus, "t", "1", NULL);
    publish(test.bus, "t", "2", NULL);
    until(&test, &own.seen, 1);
    test_for(&test, 30);
    assert_int_equal(own.seen.count, 1);
    gw_on(test.bus, "#", on_event, &seen, &options);
    until(&test, &seen, 1);
    assert_string_equal(seen.order, "2 ");
    assert_false(seen.redelivered);
    test_end(&test);
}

static void retry_a_little_later(gw_event *event, void *context)
{
    ((struct seen *)context)->count++;
    gw_event_retry_after(event, 1);
}

/* Its end waits for the disk, as what it said before does; meanwhile the queue must not send to and fro what nobody takes. */
static void a_handler_that_ends_while_the_disk_is_at_work_keeps_nothing_busy(void **state)
{
    struct test_loop test = {0};
    struct seen seen = {0}, next = {0};
    const gw_handler_options options = {.name = "q", .concurrency = 9};
    (void)state;
    test_open(&test);
    gw_handler *handler = gw_on(test.bus, "#", retry_a_little_later, &seen, &options);
    for (unsigned i = 0; i < 50; i++)
        publish(test.bus, "t", "x", NULL);
    until(&test, &seen, 9);
    gw_off(handler);
    assert_non_null(gw_on(test.bus, "other", on_event, &seen, NULL));
    gw_on(test.bus, "#", on_event, &next, &options);
    until(&test, &next, 50);
    test_end(&test);
}

/* ---- events that are not for the disk ---------------------------------------------------------------------------------------------------- */

static const gw_publish_options transient = {.transient = 1};

static void a_transient_event_reaches_those_that_are_there(void **state)
{
    struct test_loop test = {0};
    struct seen first = {0}, second = {0}, durable = {0};
    (void)state;
    test_open(&test);
    gw_handler *handler = gw_on(test.bus, "a.#", on_event, &first, &(gw_handler_options){.transient = 1});
    publish(test.bus, "a.x", "1", &transient);
    publish(test.bus, "a", "2", &(gw_publish_options){.transient = 1, .key = "k", .id = "i"});
    publish(test.bus, "b", "no", &transient);
    until(&test, &first, 2);
    assert_string_equal(first.order, "1 2 ");
    assert_string_equal(first.type, "a");
    assert_string_equal(first.id, "i");
    assert_string_equal(first.key, "k");
    /* Others that want it, in memory or on disk, get it, too. */
    gw_on(test.bus, "#", on_event, &second, &(gw_handler_options){.transient = 1});
    publish(test.bus, "a", "3", &transient);
    until(&test, &second, 1);
    gw_on(test.bus, "a", on_event, &durable, NULL);
    publish(test.bus, "a", "4", &transient);
    until(&test, &durable, 1);
    until(&test, &first, 4);
    until(&test, &second, 2);
    publish(test.bus, "a", "5", NULL);
    until(&test, &first, 5);
    until(&test, &second, 3);
    until(&test, &durable, 2);
    assert_string_equal(durable.order, "4 5 ");
    gw_off(handler);
    publish(test.bus, "a.y", "6", &transient);
    until(&test, &second, 4);
    assert_int_equal(first.count, 5);
    test_end(&test);
}

static void a_transient_event_is_tried_again_too(void **state)
{
    struct test_loop test = {0};
    struct seen seen = {.answer = RETRY}, dead = {0}, late = {.answer = LATER};
    (void)state;
    test_open(&test);
    gw_on(test.bus, "job", on_event, &seen, &(gw_handler_options){.transient = 1, .retries = 1, .dead_letter = "dead", SOON});
    gw_on(test.bus, "dead", on_event, &dead, &(gw_handler_options){.transient = 1});
    gw_on(test.bus, "late", on_event, &late, &(gw_handler_options){.transient = 1, .timeout_ms = 40, SOON});
    publish(test.bus, "job", "1", &transient);
    publish(test.bus, "late", "x", &transient);
    until(&test, &dead, 1);
    assert_string_equal(seen.order, "1 1 ");
    assert_string_equal(dead.type, "job");
    until(&test, &late, 2);
    assert_int_equal(late.attempt, 2);
    gw_event_ack(late.held[0]);
    gw_event_ack(late.held[1]);
    test_for(&test, 80);
    assert_int_equal(late.count, 2);
    test_end(&test);
}

static void those_that_nobody_had_are_gone_with_the_bus(void **state)
{
    struct test_loop test = {0};
    struct seen seen = {.answer = LATER};
    (void)state;
    test_open(&test);
    gw_on(test.bus, "a", on_event, &seen, &(gw_handler_options){.transient = 1, .timeout_ms = 10, SOON});
    publish(test.bus, "a", "1", &transient);
    until(&test, &seen, 1);
    test_for(&test, 20);   /* it is late, and rests */
    for (unsigned i = 0; i < 10; i++)
        publish(test.bus, "a", "2", &transient);
    test_end(&test);
}

static void no_more_of_them_are_kept_than_memory_was_given(void **state)
{
    struct test_loop test = {0};
    struct seen seen = {0};
    char data[60000] = {0};
    int result = 0;
    (void)state;
    test_open_with(&test, &(gw_open_options){.memory_bytes = 1 << 20});
    gw_on(test.bus, "a", on_event, &seen, &(gw_handler_options){.transient = 1});
    unsigned count = 0;
    while (!(result = gw_publish(test.bus, "a", data, sizeof(data), &transient, NULL, NULL)))
        count++;
    assert_int_equal(result, GW_E_AGAIN);
    assert_in_range(count, 10, 40);
    until(&test, &seen, count);
    publish(test.bus, "a", "1", &transient);
    until(&test, &seen, count + 1);
    test_end(&test);
}

/* ---- confirms ------------------------------------------------------------------------------------------------------------------------------ */

struct told {
    unsigned count;
    char order[32];
    struct told_one { struct told *told; char name; } one[8];
};

static void on_told(void *context, int result)
{
    struct told_one *one = context;
    one->told->order[one->told->count++] = result == GW_DONE ? one->name : '!';
}

static bool told_all(void *context) { return ((struct told *)context)->count == 4; }

static void it_is_told_in_order_that_events_are_on_disk(void **state)
{
    struct test_loop test = {0};
    struct told told = {0};
    struct seen seen = {0};
    (void)state;
    test_open_with(&test, &(gw_open_options){.shards = 4});
    gw_on(test.bus, "a", on_event, &seen, &(gw_handler_options){.name = "one"});
    gw_on(test.bus, "b", on_event, &seen, &(gw_handler_options){.name = "two"});
    for (unsigned i = 0; i < 4; i++) {
        told.one[i] = (struct told_one){&told, (char)('0' + i)};
        assert_int_equal(gw_publish(test.bus, i % 3 == 2 ? "nobody" : i % 2 ? "a" : "b", "x", 1, i == 1 ? &transient : NULL, on_told, &told.one[i]), 0);
    }
    assert_int_equal(told.count, 0);
    test_until(&test, told_all, &told);
    assert_string_equal(told.order, "0123");
    test_end(&test);
}

static void words_that_make_no_sense_are_refused_with_a_sentence(void **state)
{
    struct test_loop test = {0};
    char type[300];
    (void)state;
    memset(type, 'a', sizeof(type) - 1);
    type[299] = 0;
    test_open(&test);
    const gw_header bad[] = {{"Big", "x"}};
    assert_int_equal(gw_publish(test.bus, NULL, "x", 1, NULL, NULL, NULL), GW_E_INVALID);
    assert_int_equal(gw_publish(test.bus, "", "x", 1, NULL, NULL, NULL), GW_E_LIMIT);
    assert_int_equal(gw_publish(test.bus, type, "x", 1, NULL, NULL, NULL), GW_E_LIMIT);
    assert_int_equal(gw_publish(test.bus, "a", NULL, 1, NULL, NULL, NULL), GW_E_INVALID);
    assert_int_equal(gw_publish(test.bus, "a", "x", 1, &(gw_publish_options){.id = type}, NULL, NULL), GW_E_LIMIT);
    assert_int_equal(gw_publish(test.bus, "a", "x", 1, &(gw_publish_options){.headers = bad, .header_count = 1}, NULL, NULL), GW_E_INVALID);
    assert_int_equal(gw_publish(test.bus, "a", "x", 1, &(gw_publish_options){.delay_ms = UINT64_MAX}, NULL, NULL), GW_E_LIMIT);
    assert_true(strlen(gw_error(test.loop)) > 10);
    assert_int_equal(gw_publish(NULL, "a", "x", 1, NULL, NULL, NULL), GW_E_INVALID);
    assert_null(gw_on(test.bus, NULL, on_event, NULL, NULL));
    assert_null(gw_on(test.bus, "a", NULL, NULL, NULL));
    assert_null(gw_on(test.bus, type, on_event, NULL, NULL));
    assert_null(gw_on(test.bus, "a", on_event, NULL, &(gw_handler_options){.retries = -2}));
    assert_null(gw_on(test.bus, "a", on_event, NULL, &(gw_handler_options){.order_by_key = 1, .priorities = 3}));
    assert_null(gw_on(test.bus, "a", on_event, NULL, &(gw_handler_options){.retry_delay_count = 2}));
    assert_null(gw_on(NULL, "a", on_event, NULL, NULL));
    assert_int_equal(gw_forget(test.bus, ""), GW_E_INVALID);
    gw_off(NULL);
    gw_event_ack(NULL);
    assert_int_equal(gw_publish_wait(test.bus, "a", "x", 1, NULL, 1000), 0);
    test_end(&test);
}

/* ---- closing -------------------------------------------------------------------------------------------------------------------------------- */

struct closing {
    gw_bus *bus;
    bool closed;
    int result;
    struct seen seen;
};

static void on_closed(void *context, int result)
{
    struct closing *closing = context;
    closing->closed = true;
    closing->result = result;
}

static bool is_closed(void *context) { return ((struct closing *)context)->closed; }

static void close_it(gw_event *event, void *context)
{
    struct closing *closing = context;
    note(&closing->seen, event);
    assert_int_equal(gw_close(closing->bus, 5000, on_closed, closing), 0);
    assert_int_equal(gw_publish(closing->bus, "a", "x", 1, NULL, NULL, NULL), GW_E_CLOSED);
    assert_int_equal(gw_close(closing->bus, 0, NULL, NULL), GW_E_CLOSED);
    closing->seen.held[0] = event;
}

static void closing_waits_for_what_is_in_hand(void **state)
{
    struct test_loop test = {0};
    struct closing closing = {0};
    (void)state;
    test_open(&test);
    closing.bus = test.bus;
    gw_on(test.bus, "#", close_it, &closing, &(gw_handler_options){.name = "q"});
    publish(test.bus, "a", "1", NULL);
    publish(test.bus, "a", "2", NULL);
    until(&test, &closing.seen, 1);
    test_for(&test, 30);
    assert_false(closing.closed);
    gw_event_ack(closing.seen.held[0]);
    test_until(&test, is_closed, &closing);
    assert_int_equal(closing.result, 0);
    assert_int_equal(gw_loop_step(test.loop), 0);
    test.bus = NULL;
    test_close(&test);
    /* What it acknowledged is done with, what it had not seen is as new. */
    struct seen seen = {0};
    test_open(&test);
    gw_on(test.bus, "#", on_event, &seen, &(gw_handler_options){.name = "q"});
    until(&test, &seen, 1);
    assert_string_equal(seen.order, "2 ");
    assert_int_equal(seen.attempt, 1);
    test_end(&test);
}

static void what_is_still_in_hand_after_the_grace_has_not_failed(void **state)
{
    struct test_loop test = {0};
    struct closing closing = {0};
    struct seen seen = {.answer = LATER};
    (void)state;
    test_open(&test);
    gw_on(test.bus, "#", on_event, &seen, &(gw_handler_options){.name = "q"});
    publish(test.bus, "a", "1", NULL);
    until(&test, &seen, 1);
    assert_int_equal(gw_close(test.bus, 20, on_closed, &closing), 0);
    test_until(&test, is_closed, &closing);
    test.bus = NULL;
    test_close(&test);
    seen = (struct seen){0};
    test_open(&test);
    gw_on(test.bus, "#", on_event, &seen, &(gw_handler_options){.name = "q"});
    until(&test, &seen, 1);
    assert_int_equal(seen.attempt, 1);
    assert_true(seen.redelivered);
    test_end(&test);
}

static void on_answer(gw_event *event, void *context)
{
    note(context, event);
    assert_int_equal(gw_event_reply(event, "so", 2), 0);
}

static void on_reply_of(void *context, int result, const void *data, size_t size)
{
    (void)data, (void)size;
    *(int *)context = result;
}

static void a_reply_to_somebody_who_is_gone_is_one_all_the_same(void **state)
{
    struct test_loop test = {0};
    struct seen seen = {0};
    int result = 1;
    (void)state;
    test_open(&test);
    gw_off(gw_on(test.bus, "ask", on_answer, &seen, &(gw_handler_options){.name = "asked", SOON}));
    assert_int_equal(gw_request(test.bus, "ask", "1", 1, &(gw_request_options){.durable = 1}, on_reply_of, &result), 0);
    test_for(&test, 20);
    test_close(&test);
    assert_int_equal(result, GW_E_CLOSED);
    test_open(&test);
    assert_non_null(gw_on(test.bus, "ask", on_answer, &seen, &(gw_handler_options){.name = "asked", SOON}));
    until(&test, &seen, 1);
    test_for(&test, 100);   /* the retry delay and more */
    assert_string_equal(seen.order, "1 ");
    test_end(&test);
}

static void a_bus_is_opened_and_closed_over_and_over(void **state)
{
    struct seen seen = {0};
    gw_loop *loop = gw_loop_new();
    (void)state;
    for (unsigned i = 0; i < 300; i++) {
        struct closing closing = {0};
        gw_bus *bus = gw_open(loop, ":memory:", NULL);
        assert_non_null(bus);
        gw_on(bus, "#", on_event, &seen, NULL);
        publish(bus, "a", "1", NULL);
        assert_int_equal(gw_close(bus, 1000, on_closed, &closing), 0);
        while (!closing.closed)
            gw_loop_step(loop);
    }
    gw_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_comes_with_all_that_was_said_of_it),
        cmocka_unit_test(what_nobody_handled_is_there_when_it_is_opened_again),
        cmocka_unit_test(what_failed_comes_again_and_is_given_up_in_the_end),
        cmocka_unit_test(what_was_rejected_lies_in_a_queue_of_its_own),
        cmocka_unit_test(it_may_say_itself_when_it_comes_again),
        cmocka_unit_test(no_more_are_in_hand_than_it_can_do_at_a_time),
        cmocka_unit_test(an_event_that_nobody_answers_comes_again),
        cmocka_unit_test(events_of_a_key_come_one_after_the_other),
        cmocka_unit_test(an_event_that_comes_later_keeps_the_order_of_its_key),
        cmocka_unit_test(those_that_matter_more_come_first),
        cmocka_unit_test(one_that_is_for_later_comes_later),
        cmocka_unit_test(handlers_with_other_options_are_refused_the_queue),
        cmocka_unit_test(a_handler_may_end_itself_and_leaves_the_rest_to_the_next),
        cmocka_unit_test(a_handler_that_ends_while_the_disk_is_at_work_keeps_nothing_busy),
        cmocka_unit_test(a_transient_event_reaches_those_that_are_there),
        cmocka_unit_test(a_transient_event_is_tried_again_too),
        cmocka_unit_test(those_that_nobody_had_are_gone_with_the_bus),
        cmocka_unit_test(no_more_of_them_are_kept_than_memory_was_given),
        cmocka_unit_test(it_is_told_in_order_that_events_are_on_disk),
        cmocka_unit_test(words_that_make_no_sense_are_refused_with_a_sentence),
        cmocka_unit_test(closing_waits_for_what_is_in_hand),
        cmocka_unit_test(what_is_still_in_hand_after_the_grace_has_not_failed),
        cmocka_unit_test(a_reply_to_somebody_who_is_gone_is_one_all_the_same),
        cmocka_unit_test(a_bus_is_opened_and_closed_over_and_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
