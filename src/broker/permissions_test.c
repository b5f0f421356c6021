#include "broker/test_broker.h"
#include "broker/topology_change.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)

static struct test_broker test;
static struct test_client *admin, *alice;

static void change(struct topology_change change)
{
    assert_int_equal(test_request(&test, admin, (struct request){.kind = REQUEST_CHANGE, .change = &change})->reply.code, 0);
}

static void allow(const char *configure, const char *write, const char *read)
{
    change((struct topology_change){.kind = CHANGE_PERMISSION_PUT, .name = TEXT("alice"), .source = TEXT(configure), .routing_key = TEXT(write),
                                    .arguments = TEXT(read)});
}

/* Both on one worker, so that they share its cache of routes. */
static int set_up(void **state)
{
    (void)state;
    test_broker_open(&test, 2, 4, NULL, 0);
    admin = test_client_new(&test, 1);
    change((struct topology_change){.kind = CHANGE_USER_PUT, .flags = TOPOLOGY_PASSWORD, .name = TEXT("alice"), .secret = TEXT("x")});
    allow("^a", "^a|amq.default", "^a");
    alice = test_client_new(&test, 1);
    assert_int_equal(test_client_open(&test, alice, "alice", "/"), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    test_client_free(alice);
    test_client_free(admin);
    test_broker_close(&test);
    return 0;
}

/* Empty when it was done. */
static const char *refusal(struct request request)
{
    struct test_event *event = test_request(&test, alice, request);
    return event->reply.code ? event->text : "";
}

#define REFUSED(what) "ACCESS_REFUSED - access to " what " in vhost '/' refused for user 'alice'"

static void declaring_needs_configure(void **state)
{
    (void)state;
    test_declare(&test, admin, "b", 0);
    assert_string_equal(refusal((struct request){.kind = REQUEST_QUEUE_DECLARE, .name = TEXT("a")}), "");
    assert_string_equal(refusal((struct request){.kind = REQUEST_QUEUE_DECLARE, .name = TEXT("b")}), REFUSED("queue 'b'"));
    assert_string_equal(refusal((struct request){.kind = REQUEST_QUEUE_DECLARE, .name = TEXT("b"), .flags = REQUEST_PASSIVE}), "");
    assert_string_equal(refusal((struct request){.kind = REQUEST_QUEUE_DELETE, .name = TEXT("b")}), REFUSED("queue 'b'"));
    assert_string_equal(refusal((struct request){.kind = REQUEST_QUEUE_DELETE, .name = TEXT("b"), .flags = REQUEST_TRUSTED}), "");
    assert_string_equal(refusal((struct request){.kind = REQUEST_QUEUE_DECLARE}), "");   /* ^a, as amq.gen-… */
    assert_string_equal(refusal((struct request){.kind = REQUEST_EXCHANGE_DECLARE, .name = TEXT("b"), .type = TEXT("topic")}), REFUSED("exchange 'b'"));
    assert_string_equal(refusal((struct request){.kind = REQUEST_EXCHANGE_DECLARE, .name = TEXT("a"), .type = TEXT("topic")}), "");
    assert_string_equal(refusal((struct request){.kind = REQUEST_EXCHANGE_DELETE, .name = TEXT("b")}), REFUSED("exchange 'b'"));
}

static void what_a_new_queue_or_exchange_names_is_written_to(void **state)
{
    (void)state;
    static const uint8_t to_b[] = "\x16x-dead-letter-exchangeS\0\0\0\1b", to_a[] = "\x16x-dead-letter-exchangeS\0\0\0\1a";
    static const uint8_t alternate[] = "\x12" "alternate-exchangeS\0\0\0\1b";
    struct request request = {.kind = REQUEST_QUEUE_DECLARE, .name = TEXT("aq"), .arguments = bytes_of(to_b, sizeof(to_b) - 1)};
    assert_string_equal(refusal(request), REFUSED("exchange 'b'"));
    request.arguments = bytes_of(to_a, sizeof(to_a) - 1);
    assert_string_equal(refusal(request), "");
    request = (struct request){.kind = REQUEST_EXCHANGE_DECLARE, .name = TEXT("ax"), .type = TEXT("fanout"), .arguments = bytes_of(alternate, sizeof(alternate) - 1)};
    assert_string_equal(refusal(request), REFUSED("exchange 'b'"));
    allow("^a", "", "");
    request.arguments = (struct bytes){0};
    assert_string_equal(refusal(request), "");
    request = (struct request){.kind = REQUEST_QUEUE_DECLARE, .name = TEXT("aq2"), .arguments = bytes_of(to_a, sizeof(to_a) - 1)};
    assert_string_equal(refusal(request), REFUSED("queue 'aq2'"));   /* it is read from */
}

static void binding_needs_both_ends(void **state)
{
    (void)state;
    test_declare(&test, admin, "a", 0);
    test_declare(&test, admin, "b", 0);
    struct request request = {.kind = REQUEST_QUEUE_BIND, .name = TEXT("b"), .source = TEXT("amq.topic"), .routing_key = TEXT("k")};
    assert_string_equal(refusal(request), REFUSED("queue 'b'"));
    request.name = TEXT("a");
    assert_string_equal(refusal(request), "");
    request.kind = REQUEST_EXCHANGE_BIND;
    request.name = TEXT("b");
    assert_string_equal(refusal(request), REFUSED("exchange 'b'"));
    allow("", ".*", "^b");
    request = (struct request){.kind = REQUEST_QUEUE_UNBIND, .name = TEXT("a"), .source = TEXT("amq.topic"), .routing_key = TEXT("k")};
    assert_string_equal(refusal(request), REFUSED("exchange 'amq.topic'"));
    allow("", ".*", ".*");
    change((struct topology_change){.kind = CHANGE_TOPIC_PERMISSION_PUT, .name = TEXT("alice"), .source = TEXT("amq.topic"), .routing_key = TEXT(".*"),
                                    .arguments = TEXT("^{username}\\.")});
    assert_string_equal(refusal(request), REFUSED("topic 'k' in exchange 'amq.topic'"));
    request.routing_key = TEXT("alice.k");
    assert_string_equal(refusal(request), "");
}

static void reading_needs_read(void **state)
{
    (void)state;
    static const enum request_kind kinds[] = {REQUEST_GET, REQUEST_CONSUME, REQUEST_QUEUE_PURGE};
    test_declare(&test, admin, "a", 0);
    test_declare(&test, admin, "b", 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_string_equal(refusal((struct request){.kind = kinds[i], .name = TEXT("b"), .channel = 1}), REFUSED("queue 'b'"));
        assert_string_equal(refusal((struct request){.kind = kinds[i], .name = TEXT("a"), .channel = 1}), "");
    }
}

static enum publish_result publish(struct test_client *client, const char *exchange, const char *key)
{
    return test_publish(client, exchange, key, "x", 0, false, NULL);
}

static void publishing_needs_write_and_nobody_profits_from_anothers_routes(void **state)
{
    (void)state;
    test_declare(&test, admin, "a", 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(publish(alice, "", "a"), PUBLISH_ROUTED);
        assert_int_equal(publish(admin, "amq.direct", "a"), PUBLISH_UNROUTABLE);
        assert_int_equal(publish(admin, "", "a"), PUBLISH_ROUTED);
    }
    allow("", "^amq.direct", "");
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(publish(admin, "", "a"), PUBLISH_ROUTED);
        assert_int_equal(publish(alice, "", "a"), PUBLISH_ACCESS_REFUSED);
        assert_int_equal(publish(alice, "amq.direct", "a"), PUBLISH_UNROUTABLE);
        assert_int_equal(publish(alice, "b", "a"), PUBLISH_ACCESS_REFUSED);
        assert_int_equal(publish(alice, "amq.directly", "a"), PUBLISH_NO_EXCHANGE);
    }
    allow("", ".*", "");
    assert_int_equal(publish(alice, "", "a"), PUBLISH_ROUTED);
    change((struct topology_change){.kind = CHANGE_PERMISSION_DELETE, .name = TEXT("alice")});
    assert_int_equal(publish(alice, "", "a"), PUBLISH_ACCESS_REFUSED);
    assert_int_equal(publish(admin, "", "a"), PUBLISH_ROUTED);
}

static void topics_may_be_restricted_by_key(void **state)
{
    (void)state;
    change((struct topology_change){.kind = CHANGE_TOPIC_PERMISSION_PUT, .name = TEXT("alice"), .source = TEXT("amq.topic"), .routing_key = TEXT("^{username}\\."),
                                    .arguments = TEXT(".*")});
    allow("", ".*", "");
    assert_int_equal(publish(alice, "amq.topic", "alice.x"), PUBLISH_UNROUTABLE);
    assert_int_equal(publish(alice, "amq.topic", "bob.x"), PUBLISH_TOPIC_REFUSED);
    assert_int_equal(publish(alice, "amq.direct", "bob.x"), PUBLISH_UNROUTABLE);
    change((struct topology_change){.kind = CHANGE_TOPIC_PERMISSION_DELETE, .name = TEXT("alice")});
    assert_int_equal(publish(alice, "amq.topic", "bob.x"), PUBLISH_UNROUTABLE);
}

static void deleting_a_user_closes_its_connections(void **state)
{
    (void)state;
    alice->seen = alice->count;
    change((struct topology_change){.kind = CHANGE_USER_DELETE, .name = TEXT("alice")});
    struct test_event *event = test_next(alice);
    assert_int_equal(event->kind, EVENT_CLOSED);
    assert_string_equal(event->text, "CONNECTION_FORCED - user 'alice' is deleted");
    assert_int_equal(publish(alice, "", "a"), PUBLISH_ACCESS_REFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(declaring_needs_configure, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_new_queue_or_exchange_names_is_written_to, set_up, tear_down),
        cmocka_unit_test_setup_teardown(binding_needs_both_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reading_needs_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(publishing_needs_write_and_nobody_profits_from_anothers_routes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(topics_may_be_restricted_by_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(deleting_a_user_closes_its_connections, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
