/* Control requests: who may ask what, and what is answered when. */
#include "broker/test_broker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)

static struct test_broker test;
static struct test_client *asker;

static int set_up(void **state)
{
    (void)state;
    test_broker_open(&test, 3, 4, NULL, 0);
    asker = test_client_new(&test, 2);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    test_client_free(asker);
    test_broker_close(&test);
    return 0;
}

static const char *ask_as(const char *user, const char *json)
{
    struct request request = {.kind = REQUEST_CONTROL, .source = TEXT(user), .arguments = TEXT(json), .tag = 7};
    asker->seen = asker->count = 0;
    struct test_event *event = test_request(&test, asker, request);
    assert_non_null(event);
    assert_int_equal(event->reply.code, 0);
    assert_int_equal(event->reply.tag, 7);
    return event->text;
}

static const char *ask(const char *json) { return ask_as("guest", json); }

#define said(json, expected) assert_string_equal(ask(json), expected)
#define refused(json, code) assert_non_null(strstr(ask(json), "{\"error\":{\"code\":\"" code "\""))

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "{", "[]", "17", "{\"command\":}", "\xff"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        refused(texts[i], "bad_request");
    refused("{}", "no_such_command");
    refused("{\"command\":3}", "no_such_command");
    refused("{\"command\":\"fly\"}", "no_such_command");
    refused("{\"command\":\"add_user\"}", "bad_argument");
    refused("{\"command\":\"add_user\",\"name\":3,\"password\":\"x\"}", "bad_argument");
    refused("{\"command\":\"list_queues\",\"vhost\":\"nowhere\"}", "no_such_vhost");
    refused("{\"command\":\"list_exchanges\",\"vhost\":\"nowhere\"}", "no_such_vhost");
    refused("{\"command\":\"import_definitions\",\"definitions\":[]}", "bad_argument");
}

static void only_tags_let_users_ask(void **state)
{
    (void)state;
    static const char list[] = "{\"command\":\"list_queues\"}", status[] = "{\"command\":\"status\"}", add[] = "{\"command\":\"add_vhost\",\"name\":\"v\"}";
    said("{\"command\":\"add_user\",\"name\":\"u\",\"password\":\"p\"}", "{\"ok\":{}}");
    assert_non_null(strstr(ask_as("u", list), "access_refused"));
    assert_non_null(strstr(ask_as("nobody", list), "access_refused"));
    assert_non_null(strstr(ask_as("", list), "access_refused"));
    said("{\"command\":\"set_user_tags\",\"name\":\"u\",\"tags\":[\"management\"]}", "{\"ok\":{}}");
    assert_non_null(strstr(ask_as("u", list), "access_refused"));   /* not before it may enter the vhost */
    said("{\"command\":\"set_permissions\",\"user\":\"u\",\"configure\":\"\",\"write\":\"\",\"read\":\"\"}", "{\"ok\":{}}");
    assert_string_equal(ask_as("u", list), "{\"ok\":[]}");
    assert_non_null(strstr(ask_as("u", status), "access_refused"));
    said("{\"command\":\"set_user_tags\",\"name\":\"u\",\"tags\":[\"monitoring\"]}", "{\"ok\":{}}");
    assert_non_null(strstr(ask_as("u", status), "{\"ok\":{\"product_name\":\"Godwit\""));
    assert_non_null(strstr(ask_as("u", add), "access_refused"));
    said("{\"command\":\"set_user_tags\",\"name\":\"u\",\"tags\":[\"administrator\"]}", "{\"ok\":{}}");
    assert_string_equal(ask_as("u", add), "{\"ok\":{}}");
}

static void every_workers_queues_are_in_the_list(void **state)
{
    (void)state;
    char name[16];
    for (unsigned i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "q%u", i);
        test_declare(&test, asker, name, REQUEST_DURABLE);
    }
    test_publish(asker, "", "q3", "body", 0, true, NULL);
    test_settle_down(&test);
    const char *text = ask("{\"command\":\"list_queues\",\"columns\":[\"name\"]}");
    unsigned count = 0;
    for (const char *at = text; (at = strstr(at, "{\"name\":")); at++)
        count++;
    assert_int_equal(count, 20);
    said("{\"command\":\"purge_queue\",\"name\":\"q3\"}", "{\"ok\":{\"messages\":1}}");
    said("{\"command\":\"delete_queue\",\"name\":\"q3\"}", "{\"ok\":{\"messages\":0}}");
    refused("{\"command\":\"delete_queue\",\"name\":\"q3\"}", "no_such_queue");
}

static void a_change_is_answered_when_every_worker_has_it(void **state)
{
    (void)state;
    said("{\"command\":\"add_vhost\",\"name\":\"v\"}", "{\"ok\":{}}");
    said("{\"command\":\"set_permissions\",\"vhost\":\"v\",\"user\":\"guest\",\"configure\":\".*\",\"write\":\".*\",\"read\":\".*\"}", "{\"ok\":{}}");
    for (unsigned i = 0; i < 3; i++) {
        struct test_client *other = test_client_new(&test, i);
        struct request request = {.kind = REQUEST_CONTROL, .source = TEXT("guest"), .arguments = TEXT("{\"command\":\"list_vhosts\",\"columns\":[\"name\"]}")};
        assert_non_null(strstr(test_request(&test, other, request)->text, "{\"name\":\"v\"}"));
        test_client_free(other);
    }
}

static void requests_are_answered_in_their_order(void **state)
{
    (void)state;
    static const char *const texts[] = {"{\"command\":\"add_vhost\",\"name\":\"v\"}", "{\"command\":\"list_vhosts\",\"columns\":[\"name\"]}", "{\"command\":\"status\"}", "{"};
    for (uint32_t i = 0; i < 4; i++)
        client_request(&asker->client, &(struct request){.kind = REQUEST_CONTROL, .source = TEXT("guest"), .arguments = TEXT(texts[i]), .tag = i});
    asker->seen = asker->count = 0;
    test_settle_down(&test);
    for (uint32_t i = 0; i < 4; i++) {
        struct test_event *event = test_next(asker);
        assert_non_null(event);
        assert_int_equal(event->reply.tag, i);
        assert_true(i != 1 || strstr(event->text, "\"v\""));
    }
}

static void one_that_leaves_is_not_answered(void **state)
{
    (void)state;
    struct test_client *other = test_client_new(&test, 0);
    client_request(&other->client, &(struct request){.kind = REQUEST_CONTROL, .source = TEXT("guest"), .arguments = TEXT("{\"command\":\"list_queues\"}")});
    client_request(&other->client, &(struct request){.kind = REQUEST_CONTROL, .source = TEXT("guest"), .arguments = TEXT("{\"command\":\"add_vhost\",\"name\":\"v\"}")});
    test_client_free(other);
    test_settle_down(&test);
    said("{\"command\":\"list_queues\"}", "{\"ok\":[]}");
}

static void an_import_ends_at_what_cannot_be(void **state)
{
    (void)state;
    static const char good[] = "{\"command\":\"import_definitions\",\"definitions\":{\"vhosts\":[{\"name\":\"v\"}],\"queues\":[{\"name\":\"a\",\"vhost\":\"v\",\"durable\":true,"
                               "\"auto_delete\":false,\"arguments\":{\"x-max-length\":3}}]}}";
    static const char bad[] = "{\"command\":\"import_definitions\",\"definitions\":{\"queues\":[{\"name\":\"b\",\"vhost\":\"v\"},{\"name\":\"c\",\"vhost\":\"w\"}]}}";
    assert_non_null(strstr(ask(good), "{\"ok\":{\"users\":0,\"vhosts\":1"));
    const char *text = ask(bad);
    assert_non_null(strstr(text, "no_such_vhost"));
    assert_non_null(strstr(text, "(queue 'c' in vhost 'w')"));
    text = ask("{\"command\":\"list_queues\",\"vhost\":\"v\",\"columns\":[\"name\"]}");
    assert_non_null(strstr(text, "{\"name\":\"a\"}"));
    assert_non_null(strstr(text, "{\"name\":\"b\"}"));
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(what_makes_no_sense_is_refused),
        EACH(only_tags_let_users_ask),
        EACH(every_workers_queues_are_in_the_list),
        EACH(a_change_is_answered_when_every_worker_has_it),
        EACH(requests_are_answered_in_their_order),
        EACH(one_that_leaves_is_not_answered),
        EACH(an_import_ends_at_what_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
