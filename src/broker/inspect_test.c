/* Single messages looked at and deleted: by whom, which, and how an answer goes on. */
#include "broker/position.h"
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
    test_declare(&test, asker, "q", REQUEST_DURABLE);
    for (unsigned i = 0; i < 3; i++) {
        char body[16];
        snprintf(body, sizeof(body), "body %u", i);
        test_publish(asker, "", "q", body, 0, true, NULL);
    }
    test_settle_down(&test);
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
    return event->text;
}

static const char *ask(const char *json) { return ask_as("guest", json); }

#define said(json, expected) assert_string_equal(ask(json), expected)
#define says(json, part) assert_non_null(strstr(ask(json), part))

static void positions_are_text_and_back(void **state)
{
    static const struct { const char *text; uint64_t seq; } good[] = {
        {"256", 256}, {"5/256", 5ull << 55 | 256}, {"scheduled/300", 256ull << 55 | 300}, {"0", 0}, {"255/1", 255ull << 55 | 1}};
    static const char *const bad[] = {"", "x", "1x", "/", "5/", "256/1", "scheduled/", "scheduled/x", "-1", "99999999999999999999", "36028797018963968", "1/2/3", " 1"};
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        char text[POSITION_SIZE];
        uint64_t seq = 1;
        assert_true(position_parse(TEXT(good[i].text), &seq));
        assert_int_equal(seq, good[i].seq);
        assert_int_equal(position_write(seq, text).size, strlen(good[i].text));
        assert_string_equal(text, good[i].text);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint64_t seq;
        assert_false(position_parse(TEXT(bad[i]), &seq));
    }
}

static void a_walk_is_gone_on_with_by_its_cursor(void **state)
{
    (void)state;
    says("{\"command\":\"queue_browse\",\"name\":\"q\",\"limit\":1,\"body\":4}", "\"position\":\"256\",\"state\":\"ready\",\"redelivered\":false");
    assert_non_null(strstr(asker->events[0].text, "\"body\":\"body\""));
    assert_non_null(strstr(asker->events[0].text, "\"scanned\":1,\"next\":\"257|0:259\""));
    test_publish(asker, "", "q", "new", 0, true, NULL);   /* what comes later is not met */
    says("{\"command\":\"queue_browse\",\"name\":\"q\",\"limit\":1,\"from\":\"258|0:259\"}", "\"scanned\":1,\"next\":null");
    said("{\"command\":\"queue_browse\",\"name\":\"q\",\"from\":\"259|0:259\"}", "{\"ok\":{\"messages\":[],\"scanned\":0,\"next\":null}}");
    says("{\"command\":\"queue_browse\",\"name\":\"q\",\"from\":\"259\"}", "\"position\":\"259\"");
}

static void what_makes_no_sense_is_refused(void **state)
{
    static const char *const wrong[] = {
        "\"from\":\"x\"", "\"from\":\"1|\"", "\"from\":\"1|x\"", "\"from\":\"1|0:\"", "\"from\":\"|0:5\"", "\"from\":\"1|300:5\"", "\"from\":\"1|0:5,\"x\"", "\"filter\":\"(\"", "\"filter\":7",
        "\"id\":{}", "\"headers\":[]", "\"positions\":{}", "\"positions\":[1]", "\"positions\":[\"x\"]"};
    char json[200];
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        snprintf(json, sizeof(json), "{\"command\":\"queue_browse\",\"name\":\"q\",%s}", wrong[i]);
        const char *text = ask(json);
        if (strcmp(wrong[i], "\"from\":\"1|\"") != 0)   /* a cursor without lanes is at its end */
            assert_non_null(strstr(text, "{\"error\":{\"code\":\"bad_"));
    }
    says("{\"command\":\"queue_browse\",\"name\":\"none\"}", "NOT_FOUND - no queue 'none' in vhost '/'");
    says("{\"command\":\"queue_browse\",\"exchange\":\"amq.direct\"}", "no exchange 'amq.direct' of type x-delayed-message");
    says("{\"command\":\"queue_browse\"}", "the argument 'name' is missing");
    says("{\"command\":\"queue_delete_messages\",\"name\":\"q\"}", "say which messages");
}

static void messages_are_deleted_once(void **state)
{
    (void)state;
    said("{\"command\":\"queue_delete_messages\",\"name\":\"q\",\"positions\":[\"257\",\"257\",\"999\",\"7/256\"]}", "{\"ok\":{\"deleted\":1,\"scanned\":1,\"next\":null}}");
    said("{\"command\":\"queue_delete_messages\",\"name\":\"q\",\"filter\":\"properties.body_size = 6\",\"limit\":1}", "{\"ok\":{\"deleted\":1,\"scanned\":1,\"next\":\"257|0:259\"}}");
    said("{\"command\":\"queue_cancel\",\"name\":\"q\",\"all\":true}", "{\"ok\":{\"cancelled\":0,\"scanned\":0,\"next\":null}}");
    said("{\"command\":\"queue_cancel\",\"name\":\"q\",\"positions\":[\"258\"]}", "{\"ok\":{\"cancelled\":0,\"scanned\":1,\"next\":null}}");
    said("{\"command\":\"queue_delete_messages\",\"name\":\"q\",\"all\":true}", "{\"ok\":{\"deleted\":1,\"scanned\":1,\"next\":null}}");
    said("{\"command\":\"queue_browse\",\"name\":\"q\"}", "{\"ok\":{\"messages\":[],\"scanned\":0,\"next\":null}}");
}

static void what_is_held_stays(void **state)
{
    (void)state;
    struct request get = {.kind = REQUEST_GET, .name = TEXT("q"), .channel = 1};
    client_request(&asker->client, &get);
    test_settle_down(&test);
    says("{\"command\":\"queue_browse\",\"name\":\"q\",\"limit\":1}", "\"state\":\"unacked\"");
    said("{\"command\":\"queue_delete_messages\",\"name\":\"q\",\"positions\":[\"256\"]}", "{\"ok\":{\"deleted\":0,\"scanned\":1,\"next\":null}}");
    said("{\"command\":\"queue_holders\",\"name\":\"q\"}", "{\"ok\":[{\"position\":\"256\",\"consumer_tag\":null}]}");
}

static void who_may_read_the_queue_may_look(void **state)
{
    static const char browse[] = "{\"command\":\"queue_browse\",\"name\":\"q\"}";
    (void)state;
    ask("{\"command\":\"add_user\",\"name\":\"u\",\"password\":\"p\"}");
    ask("{\"command\":\"set_permissions\",\"user\":\"u\",\"configure\":\".*\",\"write\":\".*\",\"read\":\"other\"}");
    assert_non_null(strstr(ask_as("u", browse), "needs the tag management"));
    ask("{\"command\":\"set_user_tags\",\"name\":\"u\",\"tags\":[\"management\"]}");
    assert_non_null(strstr(ask_as("u", browse), "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'u'"));
    assert_non_null(strstr(ask_as("u", "{\"command\":\"queue_holders\",\"name\":\"q\"}"), "ACCESS_REFUSED"));
    ask("{\"command\":\"set_permissions\",\"user\":\"u\",\"configure\":\"\",\"write\":\"\",\"read\":\"q\"}");
    assert_non_null(strstr(ask_as("u", browse), "{\"ok\":{\"messages\":[{"));
}

static void messages_are_sent_where_the_user_may_write(void **state)
{
    static const char move[] = "{\"command\":\"queue_move\",\"name\":\"q\",\"target\":\"t\",\"all\":true,\"limit\":1}";
    (void)state;
    says("{\"command\":\"queue_move\",\"name\":\"q\",\"all\":true}", "the argument 'target' is missing");
    says(move, "NOT_FOUND - there is no queue 't'");
    test_declare(&test, asker, "t", REQUEST_DURABLE);
    says("{\"command\":\"queue_move\",\"name\":\"q\",\"target\":\"q\",\"all\":true}", "already");
    ask("{\"command\":\"add_user\",\"name\":\"u\",\"password\":\"p\"}");
    ask("{\"command\":\"set_user_tags\",\"name\":\"u\",\"tags\":[\"management\"]}");
    ask("{\"command\":\"set_permissions\",\"user\":\"u\",\"configure\":\"\",\"write\":\"\",\"read\":\"q\"}");
    assert_non_null(strstr(ask_as("u", move), "ACCESS_REFUSED - access to queue 't'"));
    ask("{\"command\":\"set_permissions\",\"user\":\"u\",\"configure\":\"\",\"write\":\"t\",\"read\":\"q\"}");
    assert_string_equal(ask_as("u", move), "{\"ok\":{\"moved\":1,\"refused\":0,\"scanned\":1,\"next\":\"257|0:259\"}}");
    said("{\"command\":\"queue_copy\",\"name\":\"q\",\"target\":\"t\",\"all\":true}", "{\"ok\":{\"copied\":2,\"refused\":0,\"scanned\":2,\"next\":null}}");
    said("{\"command\":\"queue_replay\",\"name\":\"t\",\"all\":true}", "{\"ok\":{\"replayed\":0,\"refused\":0,\"nowhere\":3,\"scanned\":3,\"next\":null}}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(positions_are_text_and_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_walk_is_gone_on_with_by_its_cursor, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_makes_no_sense_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(messages_are_deleted_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_held_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(messages_are_sent_where_the_user_may_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_may_read_the_queue_may_look, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
