#include "broker/test_broker.h"
#include "broker/topology_change.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)

static struct test_broker test;

static uint16_t change(struct test_client *client, struct topology_change change)
{
    struct test_event *event = test_request(&test, client, (struct request){.kind = REQUEST_CHANGE, .change = &change});
    assert_non_null(event);
    client->seen = client->count;
    return event->reply.code;
}

static struct test_client *client_in(const char *vhost, unsigned worker)
{
    struct test_client *client = test_client_new(&test, worker);
    assert_true(client_open(&client->client, TEXT(vhost)));
    return client;
}

static const char *get(struct test_client *client, const char *queue)
{
    struct request request = {.kind = REQUEST_GET, .name = TEXT(queue), .flags = REQUEST_NO_ACK, .channel = 1};
    client->seen = client->count;
    client_request(&client->client, &request);
    test_settle_down(&test);
    struct test_event *event = test_next(client);
    return event && event->kind == EVENT_DELIVERY ? event->body : NULL;
}

static void names_of_two_vhosts_have_nothing_to_do_with_each_other(void **state)
{
    (void)state;
    test_broker_open(&test, 2, 4, NULL, 0);
    struct test_client *admin = test_client_new(&test, 0);
    assert_int_equal(change(admin, (struct topology_change){.kind = CHANGE_VHOST_PUT, .name = TEXT("other")}), 0);
    struct test_client *other = client_in("other", 0);
    test_declare(&test, admin, "q", 0);
    test_declare(&test, other, "q", 0);
    test_declare(&test, other, "only here", 0);
    /* On one worker, so that they share its cache of routes. */
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(test_publish(admin, "", "q", "to /", 0, false, NULL), PUBLISH_ROUTED);
        assert_int_equal(test_publish(other, "", "q", "to other", 0, false, NULL), PUBLISH_ROUTED);
    }
    assert_int_equal(test_publish(admin, "", "only here", "x", 0, false, NULL), PUBLISH_UNROUTABLE);
    assert_int_equal(test_publish(other, "", "only here", "x", 0, false, NULL), PUBLISH_ROUTED);
    for (unsigned i = 0; i < 3; i++) {
        assert_string_equal(get(admin, "q"), "to /");
        assert_string_equal(get(other, "q"), "to other");
    }
    struct test_event *event = test_request(&test, other, (struct request){.kind = REQUEST_QUEUE_DECLARE, .name = TEXT("none"), .flags = REQUEST_PASSIVE});
    assert_string_equal(event->text, "NOT_FOUND - no queue 'none' in vhost 'other'");
    /* An administrator says where. */
    event = test_request(&test, admin, (struct request){.kind = REQUEST_QUEUE_PURGE, .name = TEXT("only here"), .vhost = TEXT("other")});
    assert_int_equal(event->reply.messages, 1);
    test_client_free(admin);
    test_client_free(other);
    test_broker_close(&test);
}

static void deleting_a_vhost_deletes_what_is_in_it_and_closes_its_connections(void **state)
{
    (void)state;
    test_broker_open(&test, 2, 4, NULL, 0);
    struct test_client *admin = test_client_new(&test, 0);
    assert_int_equal(change(admin, (struct topology_change){.kind = CHANGE_VHOST_PUT, .name = TEXT("other")}), 0);
    struct test_client *other = client_in("other", 1);
    for (const char *const *name = (const char *const[]){"a", "b", "c", "d", "e", NULL}; *name; name++)
        test_declare(&test, other, *name, REQUEST_DURABLE);
    assert_int_equal(test_request(&test, other, (struct request){.kind = REQUEST_CONSUME, .name = TEXT("a"), .tag = 1})->reply.code, 0);
    test_publish(other, "", "b", "x", 0, true, NULL);
    assert_int_equal(change(admin, (struct topology_change){.kind = CHANGE_VHOST_DELETE, .name = TEXT("other")}), 0);
    struct test_event *closed = NULL;
    for (struct test_event *event; (event = test_next(other));)
        if (event->kind == EVENT_CLOSED)
            closed = event;
    assert_non_null(closed);
    assert_int_equal(closed->reply.code, 320);
    assert_string_equal(closed->text, "CONNECTION_FORCED - vhost 'other' is deleted");
    assert_int_equal(test_publish(other, "", "b", "x", 0, true, NULL), PUBLISH_NO_EXCHANGE);
    assert_int_equal(test_request(&test, other, (struct request){.kind = REQUEST_QUEUE_DECLARE, .name = TEXT("a")})->reply.code, 530);
    test_client_free(other);
    assert_int_equal(change(admin, (struct topology_change){.kind = CHANGE_VHOST_DELETE, .name = TEXT("other")}), 404);
    /* A new one of that name is empty. */
    assert_int_equal(change(admin, (struct topology_change){.kind = CHANGE_VHOST_PUT, .name = TEXT("other")}), 0);
    other = client_in("other", 1);
    assert_int_equal(test_request(&test, other, (struct request){.kind = REQUEST_QUEUE_DECLARE, .name = TEXT("b"), .flags = REQUEST_PASSIVE})->reply.code, 404);
    test_client_free(other);
    test_client_free(admin);
    test_broker_close(&test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_two_vhosts_have_nothing_to_do_with_each_other),
        cmocka_unit_test(deleting_a_vhost_deletes_what_is_in_it_and_closes_its_connections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
