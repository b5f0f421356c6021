/* gw_forward between two buses whose engines do what the test says: in which order it sends, what it says of each event, and what is left when either bus ends or memory runs out. */
#include "base/test_malloc.h"
#include "lib/bus.h"
#include "lib/handler.h"
#include "lib/loop.h"
#include "protocol/amqp/properties.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* ---- engines --------------------------------------------------------------------------------------------------------------------------------- */

#define EVENTS_MAX 64u

struct fake {
    struct gw_bus *bus;
    struct gw_handler *handler;
    int answer;                      /* to publishes */
    uint64_t tickets[EVENTS_MAX];    /* not told */
    unsigned out, settled, released, cut;
    enum settlement last[EVENTS_MAX];   /* of each event, by its tag */
    char said[2000];                 /* what happened, in words */
};
static struct fake here, there;

static void note(struct fake *fake, const char *format, ...)
{
    va_list arguments;
    size_t size = strlen(fake->said);
    va_start(arguments, format);
    vsnprintf(fake->said + size, sizeof(fake->said) - size, format, arguments);
    va_end(arguments);
}

static int fake_publish(struct gw_bus *bus, const struct engine_message *message, uint64_t ticket)
{
    struct fake *fake = bus->engine;
    if (fake->answer < 0)
        return loop_fail(bus->loop, fake->answer, "no");
    assert_true(ticket);
    fake->tickets[fake->out++] = ticket;
    note(fake, "%.*s/%.*s%s%s %.*s|", (int)message->exchange.size, (const char *)message->exchange.data, (int)message->routing_key.size, (const char *)message->routing_key.data,
         message->persistent ? "" : " transient", message->mandatory ? " mandatory" : "", (int)message->body.size, (const char *)message->body.data);
    return GW_DONE;
}

static int fake_subscribe(struct gw_bus *bus, struct gw_handler *handler)
{
    struct fake *fake = bus->engine;
    fake->handler = handler;
    return GW_DONE;
}

static void fake_unsubscribe(struct gw_bus *bus, struct gw_handler *handler) { (void)handler, ((struct fake *)bus->engine)->cut++; }

static void fake_settle(struct gw_bus *bus, struct gw_event *event, enum settlement settlement)
{
    struct fake *fake = bus->engine;
    static const char *const words[] = {"ack", "retry", "timeout", "reject", "back"};
    fake->settled++;
    fake->last[event->tag] = settlement;
    note(fake, "%s %llu|", words[settlement], (unsigned long long)event->tag);
}

static void fake_release(struct gw_bus *bus, struct gw_event *event) { (void)event, ((struct fake *)bus->engine)->released++; }
static bool fake_turn(struct gw_bus *bus, uint64_t now_us, uint64_t *due_us) { return (void)bus, (void)now_us, (void)due_us, false; }
static void fake_close(struct gw_bus *bus) { bus_closed(bus, GW_DONE); }

static const struct engine_ops fake_ops = {.publish = fake_publish, .subscribe = fake_subscribe, .unsubscribe = fake_unsubscribe, .settle = fake_settle, .release = fake_release,
                                           .turn = fake_turn, .close = fake_close};

static bool open_fake(struct fake *fake, struct gw_loop *loop)
{
    *fake = (struct fake){.bus = bus_begin(loop, NULL, NULL)};
    if (!fake->bus)
        return false;
    fake->bus->ops = &fake_ops;
    fake->bus->engine = fake;
    return true;
}

static bool come(unsigned tag, const char *exchange, const char *routing_key, struct bytes properties)
{
    static const char *const bodies[] = {"", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
    const struct incoming incoming = {.exchange = bytes_of_text(exchange), .routing_key = bytes_of_text(routing_key), .properties = properties, .body = bytes_of_text(bodies[tag % 10]),
                                      .memory = &here, .tag = tag, .attempt = 1};
    return handler_deliver(here.handler, &incoming);
}

/* Persistent, and nothing else. */
static struct bytes plain(void) { return bytes_of("\x10\0\2", 3); }

static void come_all(unsigned first, unsigned last)
{
    for (unsigned tag = first; tag <= last; tag++)
        assert_true(come(tag, "events", "a.b", plain()));
}

/* The other bus tells of the first that it has. */
static void tell(int result)
{
    assert_true(there.out > 0);
    tickets_told(&there.bus->tickets, there.tickets[0], 1, result);
    memmove(there.tickets, there.tickets + 1, --there.out * sizeof(there.tickets[0]));
}

static gw_loop *loop;

static void turn(void)
{
    for (unsigned i = 0; i < 4; i++)
        gw_loop_step(loop);
}

static void said(struct fake *fake, const char *expected)
{
    assert_string_equal(fake->said, expected);
    fake->said[0] = 0;
}

static int begin(void **state)
{
    (void)state;
    loop = gw_loop_new();
    assert_true(open_fake(&here, loop) && open_fake(&there, loop));
    return 0;
}

static int end(void **state)
{
    (void)state;
    gw_loop_free(loop);
    assert_int_equal(here.released, here.settled);
    return 0;
}

static void sleep_until(bool (*done)(void))
{
    for (unsigned i = 0; i < 5000 && !done(); i++) {
        usleep(1000);
        gw_loop_step(loop);
    }
    assert_true(done());
}

/* ---- stories ----------------------------------------------------------------------------------------------------------------------------------- */

static void an_event_is_acknowledged_when_the_other_bus_has_it(void **state)
{
    (void)state;
    assert_non_null(gw_forward(here.bus, "a.*", there.bus, &(gw_forward_options){.window = 2}));
    assert_string_equal(here.handler->plan.queue, "forward.a.*");
    come_all(1, 4);
    turn();
    said(&there, "events/a.b 1|events/a.b 2|");
    said(&here, "");
    tell(GW_DONE);
    turn();
    said(&here, "ack 1|");
    said(&there, "events/a.b 3|");
    tell(GW_E_REFUSED);
    tell(GW_DONE);
    turn();
    said(&here, "retry 2|ack 3|");
    said(&there, "events/a.b 4|");
    tell(GW_DONE);
    turn();
    said(&here, "ack 4|");
}

static bool all_sent(void) { return strstr(there.said, "3|") != NULL; }

static void what_there_is_no_room_for_waits_in_order(void **state)
{
    (void)state;
    gw_forward(here.bus, "#", there.bus, NULL);
    there.answer = GW_E_AGAIN;
    come_all(1, 2);
    turn();
    said(&there, "");
    come_all(3, 3);
    turn();
    there.answer = GW_DONE;
    sleep_until(all_sent);
    said(&there, "events/a.b 1|events/a.b 2|events/a.b 3|");
    /* What is told makes room at once. */
    there.answer = GW_E_AGAIN;
    come_all(4, 4);
    turn();
    there.answer = GW_DONE;
    tell(GW_DONE);
    turn();
    said(&there, "events/a.b 4|");
    said(&here, "ack 1|");
    there.answer = GW_E_LIMIT;
    come_all(5, 5);
    turn();
    said(&here, "reject 5|");
    there.answer = GW_E_REFUSED;
    come_all(6, 6);
    turn();
    said(&here, "retry 6|");
    for (unsigned i = 0; i < 3; i++)
        tell(GW_DONE);
    turn();
}

static void the_message_is_what_it_was(void **state)
{
    uint8_t room[600], table[300];
    struct amqp_table_writer writer;
    struct amqp_properties properties = {.flags = AMQP_HEADERS | AMQP_USER_ID | AMQP_MESSAGE_ID | AMQP_DELIVERY_MODE | AMQP_PRIORITY | AMQP_CORRELATION_ID, .delivery_mode = 1, .priority = 7,
                                         .user_id = bytes_of_text("ada"), .message_id = bytes_of_text("m-1"), .correlation_id = bytes_of_text("c")};
    (void)state;
    amqp_table_begin(&writer, table, sizeof(table));
    amqp_table_put_long(&writer, "x-delivery-count", 3);
    amqp_table_put_text(&writer, "cloudEvents_subject", bytes_of_text("s"));
    amqp_table_put_long(&writer, "x-delay", 5000);
    amqp_table_put_bool(&writer, "mine", true);
    assert_true(amqp_table_finish(&writer, &properties.headers));
    struct bytes encoded = bytes_of(room, amqp_properties_encode(&properties, room, sizeof(room)));
    gw_forward(here.bus, "#", there.bus, &(gw_forward_options){.name = "f", .exchange = "", .routing_key = "q"});
    assert_true(come(1, "events", "a.b", encoded));
    assert_true(come(2, "", "f", plain()));
    turn();
    said(&there, "/q transient mandatory 1|/q mandatory 2|");
    tell(GW_DONE);
    tell(GW_DONE);
    turn();
    said(&here, "ack 1|ack 2|");
}

static struct engine_message kept;
static uint8_t kept_properties[600];

static int keeping_publish(struct gw_bus *bus, const struct engine_message *message, uint64_t ticket)
{
    memcpy(kept_properties, message->properties.data, message->properties.size);
    kept = *message;
    kept.properties.data = kept_properties;
    return fake_publish(bus, message, ticket);
}

static void what_is_of_its_way_here_is_left_out(void **state)
{
    uint8_t room[600], table[300];
    struct amqp_table_writer writer;
    struct amqp_field field;
    struct amqp_properties properties = {.flags = AMQP_HEADERS | AMQP_USER_ID, .user_id = bytes_of_text("ada")}, passed;
    struct engine_ops ops = fake_ops;
    (void)state;
    ops.publish = keeping_publish;
    there.bus->ops = &ops;
    amqp_table_begin(&writer, table, sizeof(table));
    amqp_table_put_long(&writer, "x-delivery-count", 3);
    amqp_table_put_text(&writer, "cloudEvents_subject", bytes_of_text("s"));
    amqp_table_put_long(&writer, "x-delay", 5000);
    amqp_table_put_bool(&writer, "mine", true);
    assert_true(amqp_table_finish(&writer, &properties.headers));
    gw_forward(here.bus, "#", there.bus, &(gw_forward_options){.name = "f"});
    assert_true(come(7, "events", "a.b", bytes_of(room, amqp_properties_encode(&properties, room, sizeof(room)))));
    turn();
    assert_true(amqp_properties_decode(kept.properties, &passed));
    assert_int_equal(passed.flags, AMQP_HEADERS | AMQP_TYPE | AMQP_MESSAGE_ID);
    assert_true(bytes_equal(passed.type, bytes_of_text("a.b")));
    assert_true(bytes_equal(passed.message_id, bytes_of_text("f/7")));
    assert_true(amqp_table_find(passed.headers, "cloudEvents_subject", &field) && amqp_table_find(passed.headers, "mine", &field));
    assert_false(amqp_table_find(passed.headers, "x-delay", &field) || amqp_table_find(passed.headers, "x-delivery-count", &field));
    there.bus->ops = &fake_ops;
    tell(GW_DONE);
    turn();
}

static void when_the_other_bus_is_closed_what_it_has_not_goes_back(void **state)
{
    (void)state;
    gw_handler *handler = gw_forward(here.bus, "#", there.bus, NULL);
    come_all(1, 1);
    turn();
    there.answer = GW_E_AGAIN;
    come_all(2, 3);
    turn();
    assert_int_equal(gw_close(there.bus, 1000, NULL, NULL), GW_DONE);
    said(&here, "back 2|back 3|");
    assert_int_equal(here.cut, 1);
    tell(GW_DONE);
    turn();
    said(&here, "ack 1|");
    gw_off(handler);
    turn();
    assert_int_equal(here.cut, 1);
    assert_null(here.bus->handlers);
}

static void what_the_other_bus_never_tells_of_goes_back(void **state)
{
    (void)state;
    gw_forward(here.bus, "#", there.bus, NULL);
    come_all(1, 2);
    turn();
    assert_int_equal(gw_close(there.bus, 0, NULL, NULL), GW_DONE);
    turn();
    said(&here, "back 1|back 2|");
}

/* The other bus tells of it when there is nobody left to tell. */
static void when_this_bus_is_closed_nothing_is_left_behind(void **state)
{
    (void)state;
    gw_forward(here.bus, "#", there.bus, NULL);
    come_all(1, 2);
    turn();
    there.answer = GW_E_AGAIN;
    come_all(3, 3);
    turn();
    assert_int_equal(gw_close(here.bus, 0, NULL, NULL), GW_DONE);
    turn();
    assert_int_equal(here.settled, 3);
    assert_true(here.last[1] == SETTLED_BACK && here.last[2] == SETTLED_BACK && here.last[3] == SETTLED_BACK);
    there.said[0] = 0;
    there.answer = GW_DONE;
    tell(GW_DONE);
    tell(GW_DONE);
    turn();
    said(&there, "");
    assert_null(there.bus->parts);
}

static void events_whose_connection_was_lost_are_not_sent(void **state)
{
    (void)state;
    gw_forward(here.bus, "#", there.bus, NULL);
    come_all(1, 1);
    turn();
    there.answer = GW_E_AGAIN;
    come_all(2, 2);
    turn();
    handler_lost(here.handler);
    there.answer = GW_DONE;
    there.said[0] = 0;
    tell(GW_DONE);
    turn();
    said(&there, "");
    said(&here, "");
    assert_int_equal(here.released, 2);
    here.settled = here.released;   /* for the end: what was lost is released, and not settled */
}

static void what_makes_no_sense_is_refused_with_a_sentence(void **state)
{
    char name[300];
    (void)state;
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = 0;
    assert_null(gw_forward(here.bus, "#", here.bus, NULL));
    assert_string_equal(gw_error(loop), "events that are forwarded to their own bus would go round for ever");
    assert_null(gw_forward(here.bus, "#", NULL, NULL));
    assert_string_equal(gw_error(loop), "which bus the events are to go to is not said");
    assert_null(gw_forward(here.bus, "#", there.bus, &(gw_forward_options){.exchange = name}));
    assert_null(gw_forward(here.bus, "", there.bus, NULL));
    assert_null(gw_forward(NULL, "#", there.bus, NULL));
    gw_loop *other = gw_loop_new();
    struct fake elsewhere;
    assert_true(open_fake(&elsewhere, other));
    assert_null(gw_forward(here.bus, "#", elsewhere.bus, NULL));
    assert_string_equal(gw_error(loop), "both buses have to be on one loop");
    gw_loop_free(other);
    assert_int_equal(gw_close(there.bus, 0, NULL, NULL), GW_DONE);
    assert_null(gw_forward(here.bus, "#", there.bus, NULL));
    assert_null(here.bus->handlers);
}

/* ---- memory -------------------------------------------------------------------------------------------------------------------------------------- */

static void live(void)
{
    loop = gw_loop_new();
    if (loop && open_fake(&here, loop) && open_fake(&there, loop) && gw_forward(here.bus, "#", there.bus, &(gw_forward_options){.window = 3})) {
        unsigned taken = 0;
        for (unsigned tag = 1; tag <= 5; tag++) {
            there.answer = tag == 3 ? GW_E_AGAIN : GW_DONE;
            taken += come(tag, "events", "a.b", plain());
            turn();
        }
        while (there.out) {
            tell(GW_DONE);
            turn();
        }
        gw_close(here.bus, 0, NULL, NULL);
        turn();
        assert_int_equal(here.settled, taken);
        assert_int_equal(here.released, taken);
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
    assert_in_range(count, 10, 500);
}

int main(void)
{
#define STORY(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        STORY(an_event_is_acknowledged_when_the_other_bus_has_it),
        STORY(what_there_is_no_room_for_waits_in_order),
        STORY(the_message_is_what_it_was),
        STORY(what_is_of_its_way_here_is_left_out),
        STORY(when_the_other_bus_is_closed_what_it_has_not_goes_back),
        STORY(what_the_other_bus_never_tells_of_goes_back),
        STORY(when_this_bus_is_closed_nothing_is_left_behind),
        STORY(events_whose_connection_was_lost_are_not_sent),
        STORY(what_makes_no_sense_is_refused_with_a_sentence),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
