/* JSON and field tables: what RabbitMQ's definitions say, and what must not pass. */
#include "broker/json_read.h"
#include "broker/table_json.h"
#include "protocol/amqp/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct json_limits limits = {1 << 20, 100000};

static json_t *read_text(const char *text)
{
    char why[200] = "";
    json_t *json = json_read_object(bytes_of_text(text), &limits, why, sizeof(why));
    if (!json)
        fail_msg("%s: %s", text, why);
    return json;
}

/* JSON → table → JSON. */
static char *there_and_back(const char *text)
{
    char why[200] = "";
    struct bytes table, out;
    json_t *json = read_text(text);
    if (!table_from_json(json, &table, why, sizeof(why)))
        fail_msg("%s: %s", text, why);
    assert_true(amqp_table_valid(table));
    struct writer writer;
    writer_init(&writer);
    table_write_json(table, &writer);
    assert_true(writer_text(&writer, &out));
    char *copy = bytes_to_text(out);
    writer_deinit(&writer);
    free((void *)(uintptr_t)table.data);
    json_decref(json);
    return copy;
}

static void what_definitions_say_comes_back(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{}", "{\"x-max-length\":10}", "{\"n\":-9223372036854775808}", "{\"r\":1.5,\"e\":1e+300,\"w\":2.0,\"t\":0.1}", "{\"b\":true,\"c\":false,\"v\":null}",
        "{\"t\":{\"u\":{\"l\":[1,\"x\",[true,{}],2.25]}}}", "{\"s\":\"quote \\\" back \\\\ line\\n nul \\u0000 ü €\"}", "{\"a\":[]}",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char *back = there_and_back(texts[i]);
        assert_string_equal(back, texts[i]);
        free(back);
    }
}

static void types_are_those_that_rabbitmq_gives(void **state)
{
    (void)state;
    static const struct { const char *name; uint8_t type; } fields[] = {{"i", 'l'}, {"r", 'd'}, {"s", 'S'}, {"b", 't'}, {"t", 'F'}, {"a", 'A'}, {"v", 'V'}};
    char why[200];
    struct bytes table;
    json_t *json = read_text("{\"i\":1,\"r\":1.0,\"s\":\"\",\"b\":true,\"t\":{},\"a\":[1],\"v\":null}");
    assert_true(table_from_json(json, &table, why, sizeof(why)));
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        struct amqp_field field;
        assert_true(amqp_table_find(table, fields[i].name, &field));
        assert_int_equal(field.type, fields[i].type);
    }
    free((void *)(uintptr_t)table.data);
    json_decref(json);
}

static void other_types_become_what_json_has(void **state)
{
    (void)state;
    static const uint8_t table[] = "\x01" "aI\xff\xff\xff\xfe" "\x01" "bT\0\0\0\0\0\0\0\x05" "\x01" "cD\x02\0\0\0\x7d" "\x01" "dx\0\0\0\x02\xff\x41";
    struct writer writer;
    struct bytes text;
    writer_init(&writer);
    assert_true(amqp_table_valid(bytes_of(table, sizeof(table) - 1)));
    table_write_json(bytes_of(table, sizeof(table) - 1), &writer);
    assert_true(writer_text(&writer, &text));
    static const char expected[] = "{\"a\":-2,\"b\":5,\"c\":1.25,\"d\":\"\xc3\xbf" "A\"}";
    assert_int_equal(text.size, sizeof(expected) - 1);
    assert_memory_equal(text.data, expected, text.size);
    writer_deinit(&writer);
}

static void an_empty_array_is_an_empty_table(void **state)
{
    (void)state;
    char why[200];
    struct bytes table;
    json_t *json = json_array();
    assert_true(table_from_json(json, &table, why, sizeof(why)));
    assert_int_equal(table.size, 0);
    free((void *)(uintptr_t)table.data);
    json_array_append_new(json, json_integer(1));
    assert_false(table_from_json(json, &table, why, sizeof(why)));
    json_decref(json);
}

static void what_is_too_much_is_refused(void **state)
{
    (void)state;
    char why[200], text[600];
    struct bytes table;
    /* One level more than a table may have. */
    int size = 0;
    for (unsigned i = 0; i < AMQP_TABLE_DEPTH_MAX; i++)
        size += sprintf(text + size, "{\"a\":");
    size += sprintf(text + size, "{}");
    for (unsigned i = 0; i < AMQP_TABLE_DEPTH_MAX; i++)
        size += sprintf(text + size, "}");
    json_t *json = read_text(text);
    assert_false(table_from_json(json, &table, why, sizeof(why)));
    json_decref(json);
    /* A name that has no room before its table's field. */
    memset(text, 'n', 300);
    memcpy(text, "{\"", 2);
    strcpy(text + 260, "\":1}");
    json = read_text(text);
    assert_false(table_from_json(json, &table, why, sizeof(why)));
    json_decref(json);
}

static void text_that_is_too_much_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "[]", "{", "{\"a\":}", "12345678901234567890", "{\"a\":123456789012345678901234567890}", "{\"a\":\"\xff\"}",
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", "{\"a\":[1,1,1,1,1,1,1,1,1,1,1]}", "{\"a\":\"0123456789012345678901234567890123456789012345678901234567890\"}",
    };
    static const struct json_limits small = {64, 10};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char why[200] = "";
        assert_null(json_read_object(bytes_of_text(texts[i]), &small, why, sizeof(why)));
        assert_true(why[0]);
    }
    char why[200];
    json_t *json = json_read_object(bytes_of_text("{\"a\":\"[[[,,,:::\\\"\"}"), &small, why, sizeof(why));
    assert_non_null(json);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_definitions_say_comes_back),
        cmocka_unit_test(types_are_those_that_rabbitmq_gives),
        cmocka_unit_test(other_types_become_what_json_has),
        cmocka_unit_test(an_empty_array_is_an_empty_table),
        cmocka_unit_test(what_is_too_much_is_refused),
        cmocka_unit_test(text_that_is_too_much_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
