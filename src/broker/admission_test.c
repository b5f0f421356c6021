#include "broker/test_broker.h"
#include "broker/topology_change.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)

static struct test_broker test;
static struct test_client *admin;

static int set_up(void **state)
{
    (void)state;
    test_broker_open(&test, 2, 4, NULL, 0);
    admin = test_client_new(&test, 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    test_client_free(admin);
    test_broker_close(&test);
    return 0;
}

static void change(struct topology_change change)
{
    assert_int_equal(test_request(&test, admin, (struct request){.kind = REQUEST_CHANGE, .change = &change})->reply.code, 0);
}

/* What a client is told that opens a vhost as guest; empty when it is in. It leaves again unless `kept` is given. */
static const char *opened(const char *user, const char *vhost, struct test_client **kept)
{
    static char text[512];
    struct test_client *client = test_client_bare(&test, 1);
    uint16_t code = test_client_open(&test, client, user, vhost);
    snprintf(text, sizeof(text), "%s", code ? test_next(client)->text : "");
    if (kept)
        *kept = client;
    else
        test_client_free(client);
    test_settle_down(&test);
    return text;
}

static void only_who_has_a_permission_gets_into_a_vhost(void **state)
{
    (void)state;
    assert_string_equal(opened("guest", "x", NULL), "NOT_ALLOWED - vhost x not found");
    change((struct topology_change){.kind = CHANGE_VHOST_PUT, .name = TEXT("x")});
    assert_string_equal(opened("guest", "x", NULL), "NOT_ALLOWED - access to vhost 'x' refused for user 'guest'");
    struct topology_change grant = {.kind = CHANGE_PERMISSION_PUT, .name = TEXT("guest")};
    assert_int_equal(test_request(&test, admin, (struct request){.kind = REQUEST_CHANGE, .change = &grant, .vhost = TEXT("x")})->reply.code, 0);
    assert_string_equal(opened("guest", "x", NULL), "");
}

static void a_vhost_holds_no_more_connections_than_it_may(void **state)
{
    (void)state;
    struct test_client *one;
    change((struct topology_change){.kind = CHANGE_VHOST_LIMITS, .vhost = 1, .id = 2, .owner = TOPOLOGY_UNLIMITED});
    assert_string_equal(opened("guest", "/", &one), "");
    assert_string_equal(opened("guest", "/", NULL), "NOT_ALLOWED - access to vhost '/' refused for user 'guest': connection limit (2) is reached");
    test_client_free(one);
    test_settle_down(&test);
    assert_string_equal(opened("guest", "/", NULL), "");
    change((struct topology_change){.kind = CHANGE_VHOST_LIMITS, .vhost = 1, .id = 0, .owner = TOPOLOGY_UNLIMITED});
    assert_string_equal(opened("guest", "/", NULL), "NOT_ALLOWED - access to vhost '/' refused for user 'guest': connection limit (0) is reached");
}

static void a_user_has_no_more_connections_than_he_may(void **state)
{
    (void)state;
    change((struct topology_change){.kind = CHANGE_USER_LIMITS, .name = TEXT("guest"), .id = 1, .owner = TOPOLOGY_UNLIMITED});
    assert_string_equal(opened("guest", "/", NULL), "NOT_ALLOWED - connection refused for user 'guest': user connection limit (1) is reached");
    change((struct topology_change){.kind = CHANGE_USER_LIMITS, .name = TEXT("guest"), .id = TOPOLOGY_UNLIMITED, .owner = TOPOLOGY_UNLIMITED});
    assert_string_equal(opened("guest", "/", NULL), "");
}

static uint16_t open_channel(struct test_client *client)
{
    return test_request(&test, client, (struct request){.kind = REQUEST_CHANNEL, .channel = 1})->reply.code;
}

static void channels_are_counted_over_all_connections_of_a_user(void **state)
{
    (void)state;
    struct test_client *other;
    assert_string_equal(opened("guest", "/", &other), "");
    assert_false(client_channel_opened(&admin->client));   /* nothing limits it yet, but it counts */
    change((struct topology_change){.kind = CHANGE_USER_LIMITS, .name = TEXT("guest"), .id = TOPOLOGY_UNLIMITED, .owner = 2});
    assert_true(client_channel_opened(&other->client));
    assert_int_equal(open_channel(other), 0);
    assert_int_equal(open_channel(other), 530);
    struct test_event *event = &other->events[other->count - 1];
    assert_string_equal(event->text, "NOT_ALLOWED - number of channels opened for user 'guest' has reached the maximum allowed user limit of (2)");
    client_channel_closed(&admin->client);
    assert_int_equal(open_channel(other), 0);
    test_client_free(other);
    test_settle_down(&test);
    assert_int_equal(open_channel(admin), 0);
    assert_int_equal(open_channel(admin), 0);
    assert_int_equal(open_channel(admin), 530);
}

static void an_administrator_closes_a_connection_by_its_name(void **state)
{
    (void)state;
    static const uint8_t facts[] = "\4nameS\0\0\0\4here";
    struct test_client *client = test_client_bare(&test, 1);
    client->client.user = TEXT("guest");
    struct request open = {.kind = REQUEST_OPEN, .name = TEXT("/"), .source = TEXT("guest"), .arguments = bytes_of(facts, sizeof(facts) - 1)};
    assert_int_equal(test_request(&test, client, open)->reply.code, 0);
    client->seen = client->count;
    assert_int_equal(test_request(&test, admin, (struct request){.kind = REQUEST_CLOSE, .name = TEXT("there")})->reply.code, 404);
    assert_int_equal(test_request(&test, admin, (struct request){.kind = REQUEST_CLOSE, .name = TEXT("here"), .source = TEXT("enough")})->reply.code, 0);
    struct test_event *event = test_next(client);
    assert_int_equal(event->kind, EVENT_CLOSED);
    assert_int_equal(event->reply.code, 320);
    assert_string_equal(event->text, "CONNECTION_FORCED - enough");
    test_client_free(client);
}

static void a_vhost_holds_no_more_queues_than_it_may(void **state)
{
    (void)state;
    change((struct topology_change){.kind = CHANGE_VHOST_LIMITS, .vhost = 1, .id = TOPOLOGY_UNLIMITED, .owner = 1});
    test_declare(&test, admin, "one", 0);
    test_declare(&test, admin, "one", 0);
    struct request hidden = {.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_HIDDEN | REQUEST_REPLY_QUEUE};
    assert_int_equal(test_request(&test, admin, hidden)->reply.code, 0);   /* the broker's own means count for nothing */
    struct test_event *event = test_request(&test, admin, (struct request){.kind = REQUEST_QUEUE_DECLARE, .name = TEXT("two")});
    assert_int_equal(event->reply.code, 406);
    assert_string_equal(event->text, "PRECONDITION_FAILED - cannot declare queue 'two': queue limit in vhost '/' (1) is reached");
    assert_int_equal(test_request(&test, admin, (struct request){.kind = REQUEST_QUEUE_DELETE, .name = TEXT("one")})->reply.code, 0);
    test_declare(&test, admin, "two", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_who_has_a_permission_gets_into_a_vhost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_vhost_holds_no_more_connections_than_it_may, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_user_has_no_more_connections_than_he_may, set_up, tear_down),
        cmocka_unit_test_setup_teardown(channels_are_counted_over_all_connections_of_a_user, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_administrator_closes_a_connection_by_its_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_vhost_holds_no_more_queues_than_it_may, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
