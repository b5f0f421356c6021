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

static void make_vhost(struct test_client *admin, const char *name)
{
    struct topology_change put = {.kind = CHANGE_VHOST_PUT, .flags = TOPOLOGY_NEW, .name = TEXT(name)};
    struct topology_change allow = {.kind = CHANGE_PERMISSION_PUT, .name = TEXT("guest"), .source = TEXT(".*"), .routing_key = TEXT(".*"), .arguments = TEXT(".*")};
    struct request requests[] = {{.kind = REQUEST_CHANGE, .change = &put}, {.kind = REQUEST_CHANGE, .change = &allow, .vhost = TEXT(name)}};
    for (unsigned i = 0; i < 2; i++)   /* together, so that the second names what only the master knows yet */
        client_request(&admin->client, &requests[i]);
    test_settle_down(&test);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(test_next(admin)->reply.code, 0);
}

static struct test_client *client_in(const char *vhost, unsigned worker)
{
    struct test_client *client = test_client_new(&test, worker);
    assert_int_equal(test_client_open(&test, client, "guest", vhost), 0);
    client->seen = client->count;
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
    make_vhost(admin, "other");
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
    make_vhost(admin, "other");
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
    make_vhost(admin, "other");
    other = client_in("other", 1);
    assert_int_equal(test_request(&test, other, (struct request){.kind = REQUEST_QUEUE_DECLARE, .name = TEXT("b"), .flags = REQUEST_PASSIVE})->reply.code, 404);
    test_client_free(other);
    test_client_free(admin);
    test_broker_close(&test);
}

static void a_user_logs_in_with_the_password_that_was_set_last(void **state)
{
    (void)state;
    test_broker_open(&test, 2, 4, NULL, 0);
    struct test_client *admin = test_client_new(&test, 1);
    struct topology_change user = {.kind = CHANGE_USER_PUT, .flags = TOPOLOGY_NEW | TOPOLOGY_PASSWORD, .name = TEXT("bob"), .arguments = TEXT("monitoring"),
                                   .secret = TEXT("one")};
    assert_int_equal(change(admin, user), 0);
    assert_int_equal(change(admin, user), 409);
    assert_true(client_authenticate(&admin->client, TEXT("bob"), TEXT("one"), false));
    assert_false(client_authenticate(&admin->client, TEXT("guest"), TEXT("guest"), false));
    user.flags = TOPOLOGY_PASSWORD | TOPOLOGY_KEEP_TAGS;
    user.secret = TEXT("two");
    user.arguments = TEXT("");
    assert_int_equal(change(admin, user), 0);
    assert_false(client_authenticate(&admin->client, TEXT("bob"), TEXT("one"), true));
    assert_true(client_authenticate(&admin->client, TEXT("bob"), TEXT("two"), true));
    admin->client.user = TEXT("bob");
    assert_true(client_is_tagged(&admin->client, "monitoring"));
    user.flags = TOPOLOGY_KEEP_SECRET;
    user.arguments = TEXT("impersonator");
    assert_int_equal(change(admin, user), 0);
    assert_true(client_authenticate(&admin->client, TEXT("bob"), TEXT("two"), true));
    assert_true(client_is_tagged(&admin->client, "impersonator") && !client_is_tagged(&admin->client, "monitoring"));
    assert_int_equal(change(admin, (struct topology_change){.kind = CHANGE_USER_DELETE, .name = TEXT("bob")}), 0);
    assert_false(client_authenticate(&admin->client, TEXT("bob"), TEXT("two"), true));
    assert_int_equal(change(admin, user), 404);
    test_client_free(admin);
    test_broker_close(&test);
}

static void what_is_malformed_is_refused(void **state)
{
    (void)state;
    test_broker_open(&test, 1, 1, NULL, 0);
    struct test_client *admin = test_client_new(&test, 0);
    struct topology_change policy = {.kind = CHANGE_POLICY_PUT, .name = TEXT("p"), .source = TEXT("("), .arguments = TEXT("{\"max-length\":1}"), .id = POLICY_ALL};
    struct test_event *event = test_request(&test, admin, (struct request){.kind = REQUEST_CHANGE, .change = &policy});
    assert_int_equal(event->reply.code, 400);
    assert_string_equal(event->text, "Validation failed\n\npattern should be regular expression but is invalid: {\"missing closing parenthesis\",1}\n");
    policy.source = TEXT("q");
    assert_int_equal(change(admin, policy), 0);
    policy.arguments = TEXT("{\"max-length\":-1}");
    assert_int_equal(change(admin, policy), 400);
    assert_int_equal(change(admin, (struct topology_change){.kind = CHANGE_POLICY_DELETE, .name = TEXT("p")}), 0);
    assert_int_equal(change(admin, (struct topology_change){.kind = CHANGE_POLICY_DELETE, .name = TEXT("p")}), 404);
    struct topology_change grant = {.kind = CHANGE_PERMISSION_PUT, .name = TEXT("nobody"), .source = TEXT(".*"), .routing_key = TEXT(".*"), .arguments = TEXT(".*")};
    assert_int_equal(change(admin, grant), 404);
    grant.name = TEXT("guest");
    grant.routing_key = TEXT("[");
    assert_int_equal(change(admin, grant), 400);
    struct topology_change parameter = {.kind = CHANGE_PARAMETER_PUT, .name = TEXT("n"), .source = TEXT("c"), .arguments = TEXT("{")};
    assert_int_equal(change(admin, parameter), 400);
    parameter.arguments = TEXT("{}");
    assert_int_equal(change(admin, parameter), 0);
    parameter.flags = TOPOLOGY_IF_SAME;
    parameter.secret = TEXT("{\"other\":1}");
    parameter.arguments = TEXT("{\"next\":1}");
    assert_int_equal(change(admin, parameter), 412);
    parameter.secret = TEXT("{}");
    assert_int_equal(change(admin, parameter), 0);
    assert_int_equal(change(admin, parameter), 412);
    parameter.name = TEXT("missing");
    assert_int_equal(change(admin, parameter), 412);
    parameter.secret = TEXT("");
    assert_int_equal(change(admin, parameter), 0);
    parameter.kind = CHANGE_PARAMETER_DELETE;
    assert_int_equal(change(admin, parameter), 412);
    parameter.secret = parameter.arguments;
    assert_int_equal(change(admin, parameter), 0);
    assert_int_equal(change(admin, (struct topology_change){.kind = CHANGE_QUEUE_DECLARE, .name = TEXT("q")}), 400);
    test_client_free(admin);
    test_broker_close(&test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_two_vhosts_have_nothing_to_do_with_each_other),
        cmocka_unit_test(a_user_logs_in_with_the_password_that_was_set_last),
        cmocka_unit_test(what_is_malformed_is_refused),
        cmocka_unit_test(deleting_a_vhost_deletes_what_is_in_it_and_closes_its_connections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
