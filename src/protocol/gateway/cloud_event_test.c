#include "protocol/gateway/cloud_event.h"
#include "protocol/gateway/json_slice.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define NEEDED "\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\""

static void assert_text(struct bytes bytes, const char *text)
{
    assert_int_equal(bytes.size, strlen(text));
    if (bytes.size)
        assert_memory_equal(bytes.data, text, bytes.size);
}

static bool read_text(struct cloud_event *event, json_t **root, const char *text, char *why)
{
    *root = json_loads(text, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    assert_non_null(*root);
    return event_read_json(event, *root, bytes_of_text(text), why);
}

static void done(struct cloud_event *event, json_t *root)
{
    event_deinit(event);
    json_decref(root);
}

static void data_is_passed_on_as_it_came(void **state)
{
    (void)state;
    static const struct { const char *members, *type, *data; } cases[] = {
        {"\"data\": {\"a\" : 1.10, \"b\":[[1],\"]}\\\"\"]} ", "application/json", "{\"a\" : 1.10, \"b\":[[1],\"]}\\\"\"]}"},
        {"\"data\":1.0e3", "application/json", "1.0e3"},
        {"\"data\":null", "application/json", "null"},
        {"\"data\":\"text\"", "application/json", "\"text\""},
        {"\"data\":\"text\",\"datacontenttype\":\"application/vnd.x+json; charset=utf-8\"", "application/vnd.x+json; charset=utf-8", "\"text\""},
        {"\"data\":\"te\\u0078t\",\"datacontenttype\":\"text/plain\"", "text/plain", "text"},
        {"\"data_base64\":\"AQID\",\"datacontenttype\":\"image/png\"", "image/png", "\1\2\3"},
        {"\"data_base64\":\"AQID\"", "", "\1\2\3"},
        {"\"d\\u0061ta\":{ \"a\":1}", "application/json", "{\"a\":1}"},
        {"\"x\":\"data\"", "", ""},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[400], why[EVENT_WHY_MAX];
        struct cloud_event event;
        json_t *root;
        snprintf(text, sizeof(text), i % 2 ? "{" NEEDED ",%s}" : " { %s," NEEDED "}", cases[i].members);
        assert_true(read_text(&event, &root, text, why));
        assert_text(event.data, cases[i].data);
        assert_text(event.content_type, cases[i].type);
        done(&event, root);
    }
}

static void an_event_becomes_a_message(void **state)
{
    (void)state;
    struct cloud_event event;
    struct amqp_properties properties;
    struct amqp_field field;
    json_t *root;
    uint8_t *room;
    char why[EVENT_WHY_MAX];
    assert_true(read_text(&event, &root, "{" NEEDED ",\"time\":\"2018-04-05T17:31:00Z\",\"subject\":\"s\",\"number\":-5,\"yes\":true,\"none\":null,\"data\":1}", why));
    assert_true(event_properties(&event, &properties, &room));
    assert_text(properties.content_type, "application/json");
    assert_text(properties.message_id, "1");
    assert_text(properties.type, "t");
    assert_int_equal(properties.timestamp, 1522949460);
    assert_int_equal(properties.delivery_mode, 2);
    assert_true(amqp_table_find(properties.headers, "cloudEvents_source", &field));
    assert_text(field.bytes, "/s");
    assert_true(amqp_table_find(properties.headers, "cloudEvents_number", &field) && field.integer == -5);
    assert_true(amqp_table_find(properties.headers, "cloudEvents_yes", &field) && field.type == 't' && field.integer == 1);
    assert_true(amqp_table_find(properties.headers, "cloudEvents_specversion", &field));
    assert_false(amqp_table_find(properties.headers, "cloudEvents_none", &field));
    free(room);
    done(&event, root);
}

static void what_is_no_event_is_refused_in_words(void **state)
{
    (void)state;
    static const struct { const char *text, *why; } cases[] = {
        {"[]", "An event must be a JSON object."},
        {"{}", "The event has no specversion."},
        {"{\"specversion\":\"1.0\",\"id\":\"\",\"source\":\"/s\",\"type\":\"t\"}", "The event has no id."},
        {"{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"t\"}", "The event has no source."},
        {"{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\"}", "The event has no type."},
        {"{\"specversion\":\"0.3\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\"}", "The event's specversion is '0.3'; 1.0 is understood."},
        {"{\"specversion\":\"1.0\",\"id\":7,\"source\":\"/s\",\"type\":\"t\"}", "The event has no id."},
        {"{" NEEDED ",\"Upper\":\"x\"}", "An attribute's name consists of lower-case letters and digits, up to 64 of them."},
        {"{" NEEDED ",\"x\":[1]}", "The event's x must be a text, a boolean or a whole number of 32 bits."},
        {"{" NEEDED ",\"x\":3000000000}", "The event's x must be a text, a boolean or a whole number of 32 bits."},
        {"{" NEEDED ",\"subject\":\"\"}", "The event's subject must be a text that is not empty."},
        {"{" NEEDED ",\"time\":\"yesterday\"}", "The event's time must be like 2018-04-05T17:31:00Z (RFC 3339)."},
        {"{" NEEDED ",\"data\":1,\"data_base64\":\"AA==\"}", "An event must not have both data and data_base64."},
        {"{" NEEDED ",\"data_base64\":\"A\"}", "The event's data_base64 is not base64."},
        {"{" NEEDED ",\"data_base64\":7}", "The event's data_base64 is not base64."},
        {"{" NEEDED ",\"datacontenttype\":7}", "The event's datacontenttype must be a text that is not empty."},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cloud_event event;
        char why[EVENT_WHY_MAX];
        json_t *root;
        assert_false(read_text(&event, &root, cases[i].text, why));
        assert_string_equal(why, cases[i].why);
        done(&event, root);
    }
}

static void headers_are_attributes(void **state)
{
    (void)state;
    const struct http_field fields[] = {
        {bytes_of_text("Ce-Id"), bytes_of_text("1")}, {bytes_of_text("CE-SOURCE"), bytes_of_text("/s%20%C3%A4")}, {bytes_of_text("ce-type"), bytes_of_text("t")},
        {bytes_of_text("ce-specversion"), bytes_of_text("1.0")}, {bytes_of_text("content-type"), bytes_of_text("text/plain")},
        {bytes_of_text("ce-id"), bytes_of_text("2")}};
    struct http_request request = {.fields = fields, .field_count = 5};
    struct cloud_event event;
    char why[EVENT_WHY_MAX];
    assert_true(event_read_binary(&event, &request, bytes_of_text("body"), why));
    assert_text(event_text(&event, "source"), "/s \xc3\xa4");
    assert_text(event.content_type, "text/plain");
    assert_text(event.data, "body");
    assert_int_equal(event.count, 4);
    event_deinit(&event);
    request.field_count = 6;
    assert_false(event_read_binary(&event, &request, bytes_of_text("body"), why));
    assert_string_equal(why, "The event's id is there twice.");
    event_deinit(&event);
}

#define FIELD(name, value) {bytes_of_text(name), bytes_of_text(value)}

static void values_of_headers_are_decoded(void **state)
{
    (void)state;
    static const struct { const char *sent, *meant; } values[] = {
        {"a%20%C3%A4%25", "a \xc3\xa4%"}, {"\"a \\\"b\\\" \\\\ %41\"", "a \"b\" \\ A"}, {"\"\"x", "\"\"x"}, {"100%", "100%"}, {"50% \xc3\xa4 %zz %4", "50% \xc3\xa4 %zz %4"}, {"\"open", "\"open"},
        {"\"\\\"", "\\"}, {"\"", "\""}};
    for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        const struct http_field fields[] = {FIELD("ce-specversion", "1.0"), FIELD("ce-id", "1"), FIELD("ce-source", "/"), FIELD("ce-type", "t"),
                                            {bytes_of_text("ce-subject"), bytes_of_text(values[i].sent)}};
        struct http_request request = {.fields = fields, .field_count = 5};
        struct cloud_event event;
        char why[EVENT_WHY_MAX];
        assert_true(event_read_binary(&event, &request, (struct bytes){0}, why));
        assert_text(event_text(&event, "subject"), values[i].meant);
        event_deinit(&event);
    }
    const struct http_field fields[] = {FIELD("ce-specversion", "1.0"), FIELD("ce-id", "%00"), FIELD("ce-source", "/"), FIELD("ce-type", "t")};
    struct http_request request = {.fields = fields, .field_count = 4};
    struct cloud_event event;
    char why[EVENT_WHY_MAX];
    assert_false(event_read_binary(&event, &request, (struct bytes){0}, why));
    assert_string_equal(why, "The event's id has a control character in it.");
    event_deinit(&event);
}

static void times_are_read(void **state)
{
    (void)state;
    static const struct { const char *text; int64_t seconds; } good[] = {
        {"1970-01-01T00:00:00Z", 0}, {"2000-02-29t12:00:00.123456789+01:00", 951822000}, {"1969-12-31T23:59:59Z", -1}, {"2026-11-26T13:00:00-05:30", 1795717800}};
    static const char *const bad[] = {"", "2018", "2018-04-05", "2018-04-05T17:31:00", "2018-13-05T17:31:00Z", "2018-00-05T17:31:00Z", "2018-04-05T24:31:00Z",
                                      "2018-04-05T17:31:00.Z", "2018-04-05T17:31:00Zx", "2018-04-05T17:31:00+1:00"};
    int64_t seconds;
    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(event_time_read(bytes_of_text(good[i].text), &seconds));
        assert_int_equal(seconds, good[i].seconds);
    }
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(event_time_read(bytes_of_text(bad[i]), &seconds));
}

static void arrays_are_sliced(void **state)
{
    (void)state;
    static const char *const expected[] = {"[1, [2]]", "{\"a\":[3]}", "\"x,]\"", "4", "true", "[]"};
    struct bytes rest = json_slice_open(bytes_of_text(" [ [1, [2]],{\"a\":[3]} , \"x,]\",4, true,[] ] ")), element;
    for (unsigned i = 0; i < 6; i++) {
        assert_true(json_slice_next(&rest, &element));
        assert_text(element, expected[i]);
    }
    assert_false(json_slice_next(&rest, &element));
    rest = json_slice_open(bytes_of_text("[]"));
    assert_false(json_slice_next(&rest, &element));
    element = bytes_of_text("kept");
    assert_false(json_slice_member(bytes_of_text("{\"a\":1,\"b\":{\"c\":2}}"), "c", &element));
    assert_text(element, "kept");
    assert_true(json_slice_member(bytes_of_text("{\"a\":1,\"b\" : {\"c\":2}}"), "b", &element));
    assert_text(element, "{\"c\":2}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_is_passed_on_as_it_came), cmocka_unit_test(an_event_becomes_a_message), cmocka_unit_test(what_is_no_event_is_refused_in_words),
        cmocka_unit_test(headers_are_attributes), cmocka_unit_test(values_of_headers_are_decoded), cmocka_unit_test(times_are_read), cmocka_unit_test(arrays_are_sliced)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
