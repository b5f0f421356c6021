/* Messages as events in JSON: what is a CloudEvent, what becomes one, and data of every kind. */
#include "bus/event_json.h"

#include "base/test_malloc.h"
#include "protocol/amqp/wire.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static unsigned countdown;           /* allocations until one fails; 0: none does */
static bool fails(void) { return countdown && --countdown == 0; }

#define EVENT "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/shop\",\"type\":\"order.created\""
#define MADE "{\"specversion\":\"1.0\",\"id\":\"i\",\"source\":\"/amqp\",\"type\":\"a.b\""

struct given {
    uint8_t table[1024];
    struct amqp_properties properties;
    struct message message;
};

static void put_event(struct amqp_table_writer *writer)
{
    amqp_table_put_text(writer, "cloudEvents_specversion", bytes_of_text("1.0"));
    amqp_table_put_text(writer, "cloudEvents_id", bytes_of_text("7"));
    amqp_table_put_text(writer, "cloudEvents_source", bytes_of_text("/shop"));
    amqp_table_put_text(writer, "cloudEvents_type", bytes_of_text("order.created"));
}

static void give(struct given *given, bool is_event, const char *type, struct bytes body)
{
    struct amqp_table_writer writer;
    *given = (struct given){.properties = {.flags = is_event ? AMQP_HEADERS : 0}, .message = {.routing_key = bytes_of_text("a.b"), .body = body}};
    amqp_table_begin(&writer, given->table, sizeof(given->table));
    put_event(&writer);
    assert_true(amqp_table_finish(&writer, &given->properties.headers));
    if (type) {
        given->properties.flags |= AMQP_CONTENT_TYPE;
        given->properties.content_type = bytes_of_text(type);
    }
}

/* It is JSON, in one line. */
static void assert_json(const struct given *given, const char *expected)
{
    size_t size;
    char *text = event_json(&given->message, &given->properties, bytes_of_text("i"), &size);
    assert_non_null(text);
    assert_string_equal(text, expected);
    assert_int_equal(size, strlen(expected));
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
    assert_non_null(root);
    assert_null(strpbrk(text, "\r\n"));
    json_decref(root);
    free(text);
}

static void data_are_json_text_or_anything(void **state)
{
    (void)state;
    static const struct { bool is_event; const char *type, *body, *rest; } cases[] = {
        {true, "application/json", "{\"a\": 1.10, \"n\": 12345678901234567890}", ",\"datacontenttype\":\"application/json\",\"data\":{\"a\": 1.10, \"n\": 12345678901234567890}}"},
        {true, "application/json", "[1,\r\n 2]\n", ",\"datacontenttype\":\"application/json\",\"data\":[1,   2] }"},
        {true, "application/vnd.x+JSON ;charset=utf-8", "null", ",\"datacontenttype\":\"application/vnd.x+JSON ;charset=utf-8\",\"data\":null}"},
        {true, "application/json", "{nothing", ",\"datacontenttype\":\"application/json\",\"data_base64\":\"e25vdGhpbmc=\"}"},
        {true, "application/json", "1 2", ",\"datacontenttype\":\"application/json\",\"data_base64\":\"MSAy\"}"},
        {true, NULL, "7", ",\"data\":7}"},
        {true, NULL, "seven", ",\"data_base64\":\"c2V2ZW4=\"}"},
        {true, NULL, "", "}"},
        {true, "application/json", "", ",\"datacontenttype\":\"application/json\"}"},
        {true, "text/plain", "", ",\"datacontenttype\":\"text/plain\",\"data\":\"\"}"},
        {true, "Text/plain", "a\n\"b\"\xc3\xa4", ",\"datacontenttype\":\"Text/plain\",\"data\":\"a\\n\\\"b\\\"\xc3\xa4\"}"},
        {true, "text/plain", "\xff", ",\"datacontenttype\":\"text/plain\",\"data_base64\":\"/w==\"}"},
        {true, "image/png", "1", ",\"datacontenttype\":\"image/png\",\"data_base64\":\"MQ==\"}"},
        {true, "\xff/json", "1", ",\"data\":1}"},
        {false, NULL, "7", ",\"data_base64\":\"Nw==\"}"},
        {false, "application/json", "7", ",\"datacontenttype\":\"application/json\",\"data\":7}"},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct given given;
        char expected[512] = "";
        give(&given, cases[i].is_event, cases[i].type, bytes_of_text(cases[i].body));
        strcat(strcpy(expected, cases[i].is_event ? EVENT : MADE), cases[i].rest);
        assert_json(&given, expected);
    }
    struct given given;
    give(&given, true, "text/plain", bytes_of("a\0b", 3));
    assert_json(&given, EVENT ",\"datacontenttype\":\"text/plain\",\"data\":\"a\\u0000b\"}");
}

static void attributes_are_those_that_events_may_have(void **state)
{
    (void)state;
    struct given given;
    struct amqp_table_writer writer;
    give(&given, true, NULL, (struct bytes){0});
    amqp_table_begin(&writer, given.table, sizeof(given.table));
    put_event(&writer);
    amqp_table_put_text(&writer, "cloudEvents_Bad", bytes_of_text("1"));
    amqp_table_put_text(&writer, "cloudEvents_data", bytes_of_text("1"));
    amqp_table_put_text(&writer, "cloudEvents_datacontenttype", bytes_of_text("1"));
    amqp_table_put_text(&writer, "cloudEvents_latin", bytes_of_text("\xe4"));
    amqp_table_put_text(&writer, "cloudEvents_", bytes_of_text("1"));
    amqp_table_put_text(&writer, "cloudEvents_empty", bytes_of_text(""));
    amqp_table_put_text(&writer, "other", bytes_of_text("1"));
    amqp_table_put_text(&writer, "cloudEvents_text", bytes_of_text("\"\r\n\xc3\xa4"));
    amqp_table_put_bool(&writer, "cloudEvents_good", true);
    amqp_table_put_int(&writer, "cloudEvents_count", -7);
    assert_true(amqp_table_finish(&writer, &given.properties.headers));
    assert_json(&given, EVENT ",\"text\":\"\\\"\\r\\n\xc3\xa4\",\"good\":true,\"count\":-7}");
    given.properties.flags = 0;
    given.message.routing_key = (struct bytes){0};
    assert_json(&given, "{\"specversion\":\"1.0\",\"id\":\"i\",\"source\":\"/amqp\",\"type\":\"message\"}");
}

static void memory_may_run_out(void **state)
{
    (void)state;
    static const struct { const char *type, *body, *otherwise; } cases[] = {
        {"application/json", "{\"a\":[1,2]}", EVENT ",\"datacontenttype\":\"application/json\",\"data_base64\":\"eyJhIjpbMSwyXX0=\"}"}, {"text/plain", "a", ""}, {"image/png", "a", ""}};
    json_set_alloc_funcs(__wrap_malloc, free);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct given given;
        size_t size = 0;
        bool has_failed = true;
        give(&given, true, cases[i].type, bytes_of_text(cases[i].body));
        char *whole = event_json(&given.message, &given.properties, bytes_of_text("i"), &size);
        assert_non_null(whole);
        for (unsigned first = 1; has_failed; first++) {
            countdown = first;
            char *text = event_json(&given.message, &given.properties, bytes_of_text("i"), &size);
            has_failed = !countdown;
            countdown = 0;
            /* None, or the whole; never one that lacks something. */
            assert_true(has_failed || strcmp(text, whole) == 0);
            assert_true(!text || strcmp(text, whole) == 0 || strcmp(text, cases[i].otherwise) == 0);
            free(text);
        }
        free(whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(data_are_json_text_or_anything), cmocka_unit_test(attributes_are_those_that_events_may_have),
                                       cmocka_unit_test(memory_may_run_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
