#include "broker/route.h"

#include "broker/delayed.h"
#include "protocol/amqp/properties.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)

static struct topology topology;
static struct route found;

static int set_up(void **state)
{
    (void)state;
    found = (struct route){0};
    return topology_init(&topology, 1);
}

static int tear_down(void **state)
{
    (void)state;
    route_deinit(&found);
    topology_deinit(&topology);
    return 0;
}

/* ---- building ------------------------------------------------------------------------------------------------------ */

static void apply(struct topology_change change)
{
    change.vhost = VHOST_DEFAULT;
    assert_int_equal(topology_apply(&topology, &change), GW_OK);
}

static void queue(const char *name, uint64_t number)
{
    apply((struct topology_change){.kind = CHANGE_QUEUE_DECLARE, .name = TEXT(name), .id = number << 8, .flags = TOPOLOGY_DURABLE});
}

static struct bytes argument(uint8_t *room, size_t size, const char *name, const char *value)
{
    struct amqp_table_writer writer;
    struct bytes table;
    amqp_table_begin(&writer, room, size);
    amqp_table_put_text(&writer, name, TEXT(value));
    assert_true(amqp_table_finish(&writer, &table));
    return table;
}

/* `alternate` may be NULL. */
static void exchange(const char *name, enum exchange_type type, const char *alternate)
{
    uint8_t room[256];
    apply((struct topology_change){.kind = CHANGE_EXCHANGE_DECLARE, .name = TEXT(name), .type = type, .flags = TOPOLOGY_DURABLE,
                                   .arguments = alternate ? argument(room, sizeof(room), "alternate-exchange", alternate) : (struct bytes){0}});
}

static void bind(const char *source, const char *destination, const char *key, unsigned flags)
{
    apply((struct topology_change){.kind = CHANGE_BIND, .source = TEXT(source), .name = TEXT(destination), .routing_key = TEXT(key), .flags = flags});
}

static void route(const char *name, struct routed_message message)
{
    struct exchange *source = topology_exchange(topology_vhost_by_id(&topology, VHOST_DEFAULT), TEXT(name));
    assert_non_null(source);
    assert_int_equal(topology_route(&topology, source, &message, &found), GW_OK);
}

/* The numbers of the queues found, in order: "1 3" */
static const char *queues(void)
{
    static char text[256];
    size_t used = 0;
    text[0] = 0;
    for (uint64_t number = 1; number < 100; number++)
        for (uint32_t i = 0; i < found.count; i++)
            if (found.queues[i] >> 8 == number)
                used += (size_t)snprintf(text + used, sizeof(text) - used, used ? " %u" : "%u", (unsigned)number);
    return text;
}

static const char *routed(const char *name, const char *key)
{
    route(name, (struct routed_message){.routing_key = TEXT(key)});
    return queues();
}

/* ---- stories ------------------------------------------------------------------------------------------------------- */

static void what_matches_nothing_goes_to_the_alternate_exchange(void **state)
{
    (void)state;
    queue("one", 1), queue("two", 2);
    exchange("main", EXCHANGE_DIRECT, "rest");
    exchange("rest", EXCHANGE_FANOUT, NULL);
    bind("main", "one", "k", 0), bind("rest", "two", "", 0);
    assert_string_equal(routed("main", "k"), "1");
    assert_string_equal(routed("main", "other"), "2");
    assert_true(found.cacheable);
}

static void alternates_follow_each_other_until_one_matches(void **state)
{
    (void)state;
    queue("one", 1);
    exchange("a", EXCHANGE_DIRECT, "b"), exchange("b", EXCHANGE_TOPIC, "c"), exchange("c", EXCHANGE_DIRECT, "a");
    assert_string_equal(routed("a", "k"), "");
    bind("c", "one", "k", 0);
    assert_string_equal(routed("a", "k"), "1");
    assert_string_equal(routed("a", "z"), "");
}

static void an_alternate_that_is_missing_or_itself_is_none(void **state)
{
    (void)state;
    exchange("a", EXCHANGE_DIRECT, "nowhere"), exchange("self", EXCHANGE_DIRECT, "self");
    assert_string_equal(routed("a", "k"), "");
    assert_string_equal(routed("self", "k"), "");
}

/* A binding to another exchange counts as a match even when nothing is behind it; that exchange's own alternate is asked then. */
static void an_exchange_behind_has_its_own_alternate(void **state)
{
    (void)state;
    queue("one", 1), queue("two", 2);
    exchange("a", EXCHANGE_FANOUT, "for-a"), exchange("b", EXCHANGE_DIRECT, "for-b");
    exchange("for-a", EXCHANGE_FANOUT, NULL), exchange("for-b", EXCHANGE_FANOUT, NULL);
    bind("for-a", "one", "", 0), bind("for-b", "two", "", 0);
    bind("a", "b", "", TOPOLOGY_TO_EXCHANGE);
    assert_string_equal(routed("a", "k"), "2");
}

static void copies_add_keys(void **state)
{
    (void)state;
    static const uint8_t cc[] = {'S', 0, 0, 0, 3, 't', 'w', 'o', 'S', 0, 0, 0, 3, 'o', 'n', 'e'}, bcc[] = {'S', 0, 0, 0, 5, 't', 'h', 'r', 'e', 'e'};
    queue("one", 1), queue("two", 2), queue("three", 3);
    struct routed_message message = {.routing_key = TEXT("one"), .copies = {bytes_of(cc, sizeof(cc)), bytes_of(bcc, sizeof(bcc))}};
    route("", message);
    assert_string_equal(queues(), "1 2 3");
    assert_false(found.cacheable);
    bind("amq.topic", "three", "t*", 0), bind("amq.topic", "two", "two", 0);
    route("amq.topic", message);
    assert_string_equal(queues(), "2");
    bind("amq.direct", "three", "three", 0);
    route("amq.direct", message);
    assert_string_equal(queues(), "3");
}

static void one_of_the_bindings_is_chosen_by_chance(void **state)
{
    (void)state;
    queue("one", 1), queue("two", 2);
    exchange("r", EXCHANGE_RANDOM, NULL);
    assert_string_equal(routed("r", "k"), "");
    bind("r", "one", "x", 0), bind("r", "two", "y", 0);
    route("r", (struct routed_message){.random = 0});
    assert_string_equal(queues(), "1");
    route("r", (struct routed_message){.random = UINT64_MAX});
    assert_string_equal(queues(), "2");
    assert_false(found.cacheable);
}

static void a_modulus_is_taken_of_the_keys_hash(void **state)
{
    (void)state;
    /* erlang:phash2([<<"key-N">>], 134217728) rem 5 */
    static const unsigned places[10] = {1, 0, 4, 4, 4, 2, 1, 0, 2, 1};
    exchange("m", EXCHANGE_MODULUS_HASH, NULL);
    for (unsigned i = 0; i < 5; i++) {
        char name[8];
        snprintf(name, sizeof(name), "q%u", i);
        queue(name, i + 1);
        bind("m", name, "", 0);
    }
    for (unsigned i = 0; i < 10; i++) {
        char key[8], expected[8];
        snprintf(key, sizeof(key), "key-%u", i);
        snprintf(expected, sizeof(expected), "%u", places[i] + 1);
        assert_string_equal(routed("m", key), expected);
    }
    assert_true(found.cacheable);
}

static void a_delayed_exchange_routes_as_its_type_and_keeps_back_what_has_a_delay(void **state)
{
    (void)state;
    uint8_t room[256], name[DELAYED_NAME_MAX], bytes[256];
    queue("one", 1), queue("two", 2);
    apply((struct topology_change){.kind = CHANGE_QUEUE_DECLARE, .name = delayed_queue_name(TEXT("d"), name), .id = 3 << 8,
                                   .flags = TOPOLOGY_DURABLE | TOPOLOGY_HIDDEN | TOPOLOGY_DELAYED});
    apply((struct topology_change){.kind = CHANGE_EXCHANGE_DECLARE, .name = TEXT("d"), .type = EXCHANGE_DELAYED, .flags = TOPOLOGY_DURABLE,
                                   .arguments = argument(room, sizeof(room), "x-delayed-type", "topic")});
    bind("d", "one", "a.*", 0), bind("d", "two", "b.#", 0);
    assert_string_equal(routed("d", "a.x"), "1");
    assert_false(found.cacheable);
    bind("amq.fanout", "d", "", TOPOLOGY_TO_EXCHANGE);
    assert_string_equal(routed("amq.fanout", "b"), "2");
    assert_false(found.cacheable);
    const struct amqp_properties properties = {.flags = AMQP_HEADERS, .headers = argument(room, sizeof(room), "x-delay", "1000")};
    const struct bytes encoded = bytes_of(bytes, amqp_properties_encode(&properties, bytes, sizeof(bytes)));
    route("amq.fanout", (struct routed_message){.routing_key = TEXT("b"), .properties = encoded});
    assert_string_equal(queues(), "3");
    assert_true(found.count == 1 && found.stamped && found.durable);
    assert_string_equal(routed("amq.direct", "b"), "");
}

static void more_exchanges_than_fit_are_gone_through_all_the_same(void **state)
{
    (void)state;
    queue("one", 1);
    for (unsigned i = 0; i < 200; i++) {
        char name[8];
        snprintf(name, sizeof(name), "x%u", i);
        exchange(name, EXCHANGE_FANOUT, NULL);
        bind("amq.fanout", name, "", TOPOLOGY_TO_EXCHANGE);
    }
    bind("x0", "one", "", 0);
    assert_string_equal(routed("amq.fanout", ""), "1");
    bind("x199", "x0", "", TOPOLOGY_TO_EXCHANGE);
    assert_string_equal(routed("amq.fanout", ""), "1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_matches_nothing_goes_to_the_alternate_exchange, set_up, tear_down),
        cmocka_unit_test_setup_teardown(alternates_follow_each_other_until_one_matches, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_alternate_that_is_missing_or_itself_is_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_exchange_behind_has_its_own_alternate, set_up, tear_down),
        cmocka_unit_test_setup_teardown(copies_add_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_of_the_bindings_is_chosen_by_chance, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_modulus_is_taken_of_the_keys_hash, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_delayed_exchange_routes_as_its_type_and_keeps_back_what_has_a_delay, set_up, tear_down),
        cmocka_unit_test_setup_teardown(more_exchanges_than_fit_are_gone_through_all_the_same, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
