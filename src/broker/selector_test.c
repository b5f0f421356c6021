#include "broker/selector.h"

#include "protocol/amqp/properties.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)

static uint8_t table_room[1024], properties_room[2048];

/* An order: type, region, weight, ratio, urgent; message-id and priority. */
static struct message make_message(void)
{
    struct amqp_table_writer writer;
    struct amqp_properties properties = {.flags = AMQP_HEADERS | AMQP_MESSAGE_ID | AMQP_PRIORITY, .message_id = TEXT("m-7"), .priority = 5};
    uint8_t real[8];
    const double ratio = 0.5;
    uint64_t raw;
    memcpy(&raw, &ratio, 8);
    store_be64(real, raw);
    amqp_table_begin(&writer, table_room, sizeof(table_room));
    amqp_table_put_text(&writer, "type", TEXT("order"));
    amqp_table_put_text(&writer, "region", TEXT("eu"));
    amqp_table_put_text(&writer, "it's", TEXT("100%_sure"));
    amqp_table_put_int(&writer, "weight", 12);
    amqp_table_put_raw(&writer, TEXT("ratio"), 'd', bytes_of(real, 8));
    amqp_table_put_bool(&writer, "urgent", true);
    amqp_table_put_raw(&writer, TEXT("nothing"), 'V', (struct bytes){0});
    assert_true(amqp_table_finish(&writer, &properties.headers));
    return (struct message){.exchange = TEXT("shop"), .routing_key = TEXT("order.new"), .body = TEXT("0123456789"),
                            .properties = bytes_of(properties_room, amqp_properties_encode(&properties, properties_room, sizeof(properties_room)))};
}

static const struct { const char *text; bool matches; } cases[] = {
    {"type = 'order'", true}, {"type = 'other'", false}, {"type <> 'other'", true}, {"type != 'order'", false}, {"'order' = type", true},
    {"missing = 'x'", false}, {"missing <> 'x'", false}, {"NOT missing = 'x'", false}, {"missing IS NULL", true}, {"missing IS NOT NULL", false},
    {"type IS NOT NULL", true}, {"nothing IS NULL", true},
    {"weight > 11", true}, {"weight >= 12.0", true}, {"weight < 12", false}, {"weight = 12", true}, {"weight + 1 = 13", true}, {"weight * 2 - 4 = 20", true},
    {"weight / 5 = 2", true}, {"weight / 0 = 1", false}, {"-weight = -12", true}, {"- - weight = +12", true}, {"2 + 3 * 4 = 14", true}, {"(2 + 3) * 4 = 20", true},
    {"ratio = 0.5", true}, {"ratio * 2 = 1", true}, {"ratio < 1e0", true}, {".5 = ratio", true}, {"1.5E1 = 15", true},
    {"urgent = TRUE", true}, {"urgent", true}, {"NOT urgent", false}, {"urgent = false", false}, {"urgent > FALSE", false}, {"type", false}, {"weight", false},
    {"weight BETWEEN 10 AND 12", true}, {"weight BETWEEN 13 AND 20", false}, {"weight NOT BETWEEN 13 AND 20", true}, {"missing NOT BETWEEN 1 AND 2", false},
    {"weight BETWEEN missing AND 5", false}, {"weight NOT BETWEEN missing AND 5", true}, {"weight BETWEEN 1 AND missing", false},
    {"region IN ('uk', 'eu')", true}, {"region NOT IN ('uk', 'eu')", false}, {"region IN ('us')", false}, {"missing IN ('us')", false}, {"missing NOT IN ('us')", false},
    {"weight IN (1, -12, 12)", true}, {"-weight IN (1, -12)", true},
    {"type LIKE 'ord%'", true}, {"type LIKE '%der'", true}, {"type LIKE '_rder'", true}, {"type LIKE '_'", false}, {"type LIKE '%'", true}, {"type LIKE ''", false},
    {"type LIKE '%d%r'", true}, {"type NOT LIKE 'x%'", true}, {"missing LIKE '%'", false}, {"weight LIKE '1%'", false},
    {"`it's` LIKE '100!%!_%' ESCAPE '!'", true}, {"\"it's\" LIKE '100!%x%' ESCAPE '!'", false}, {"\"it's\" = '100%_sure'", true},
    {"type = 'order' AND weight = 12", true}, {"type = 'x' OR weight = 12", true}, {"type = 'x' AND missing = 1", false}, {"type = 'order' OR missing = 1", true},
    {"NOT (type = 'x' AND missing = 1)", true}, {"NOT (type = 'order' AND missing = 1)", false},
    {"type = 'x' OR type = 'y' OR type = 'order'", true}, {"type='order'and weight=12 and not region='uk'", true}, {"TRUE", true}, {"FALSE OR TRUE AND FALSE", false},
    {"type > 'a'", false}, {"type = 12", false}, {"weight = '12'", false},
    {"properties.message_id = 'm-7'", true}, {"properties.priority > 4", true}, {"properties.app_id IS NULL", true}, {"properties.exchange = 'shop'", true},
    {"properties.routing_key LIKE 'order.%'", true}, {"properties.body_size = 10", true}, {"message_id = 'm-7'", false},
    {"9223372036854775807 + 1 = 0", false}, {"9223372036854775807 > 9223372036854775806", true},
};

static void what_the_language_says(void **state)
{
    char why[200];
    (void)state;
    const struct message message = make_message();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct selector *selector;
        if (selector_compile(TEXT(cases[i].text), &selector, why, sizeof(why)))
            fail_msg("%s: %s", cases[i].text, why);
        if (selector_matches(selector, &message) != cases[i].matches)
            fail_msg("%s should be %s", cases[i].text, cases[i].matches ? "true" : "false");
        selector_free(selector);
    }
}

static const struct { const char *text, *why; } faults[] = {
    {"", "at character 1: something is missing at the end"},
    {"type =", "at character 7: something is missing at the end"},
    {"type = 'x", "at character 8: the text has no end"},
    {"type = 'x' weight", "at character 12: this comes after the end of the expression"},
    {"(type = 'x'", "at character 12: a closing parenthesis is missing"},
    {"type LIKE 5", "at character 11: LIKE is followed by a text"},
    {"type LIKE 'x' ESCAPE 'ab'", "at character 22: ESCAPE is followed by one character"},
    {"type IN 'x'", "at character 9: IN is followed by values in parentheses"},
    {"type IN (weight)", "at character 10: IN compares with texts and numbers"},
    {"type IS 5", "at character 9: IS is followed by NULL or NOT NULL"},
    {"type NOT = 5", "at character 10: NOT is followed here by BETWEEN, IN or LIKE"},
    {"weight BETWEEN 1 OR 2", "at character 18: BETWEEN is followed by two values with AND between them"},
    {"AND type", "at character 1: a name or a value is missing before AND"},
    {"type ; 5", "at character 6: this character means nothing here"},
    {"weight = 12abc", "at character 10: this is no number"},
    {"weight = 99999999999999999999", "at character 10: this is no number"},
    {"properties.colour = 'x'", "at character 1: messages have no such property"},
};

static void faults_are_told_with_their_place(void **state)
{
    char why[200];
    (void)state;
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        struct selector *selector;
        assert_int_equal(selector_compile(TEXT(faults[i].text), &selector, why, sizeof(why)), GW_ERR_INVALID);
        assert_string_equal(why, faults[i].why);
    }
}

static void depth_and_size_are_bounded(void **state)
{
    char text[SELECTOR_SIZE_MAX + 10], why[200];
    struct selector *selector;
    (void)state;
    memset(text, '(', 100);
    assert_int_equal(selector_compile(bytes_of(text, 100), &selector, why, sizeof(why)), GW_ERR_LIMIT);
    memset(text, '-', sizeof(text));
    assert_int_equal(selector_compile(bytes_of(text, 4000), &selector, why, sizeof(why)), GW_ERR_LIMIT);
    for (size_t i = 0; i < 1000; i++)
        memcpy(text + i * 4, "NOT ", 4);
    assert_int_equal(selector_compile(bytes_of(text, 4000), &selector, why, sizeof(why)), GW_ERR_LIMIT);
    assert_int_equal(selector_compile(bytes_of(text, SELECTOR_SIZE_MAX + 1), &selector, why, sizeof(why)), GW_ERR_LIMIT);
    memset(text, 'a', SELECTOR_SIZE_MAX);   /* a long run that is slow to find */
    memcpy(text, "h LIKE '%_", 10);
    text[10 + SELECTOR_SLOW_MAX] = '\'';
    assert_int_equal(selector_compile(bytes_of(text, 11 + SELECTOR_SLOW_MAX), &selector, why, sizeof(why)), GW_ERR_LIMIT);
    text[9] = 'a';
    assert_int_equal(selector_compile(bytes_of(text, 11 + SELECTOR_SLOW_MAX), &selector, why, sizeof(why)), GW_OK);
    selector_free(selector);
    size_t size = 0;
    for (; size + 8 < SELECTOR_SIZE_MAX; size += 7)
        memcpy(text + size, "a=1 OR ", 7);
    memcpy(text + size, "TRUE", 4);
    assert_int_equal(selector_compile(bytes_of(text, size + 4 > SELECTOR_SIZE_MAX ? size - 3 : size + 4), &selector, why, sizeof(why)), GW_OK);
    selector_free(selector);
}

static void a_table_wants_every_header(void **state)
{
    uint8_t room[200];
    char why[200];
    struct amqp_table_writer writer;
    struct bytes table;
    struct selector *selector;
    (void)state;
    const struct message message = make_message();
    for (int weight = 12; weight < 14; weight++) {
        amqp_table_begin(&writer, room, sizeof(room));
        amqp_table_put_text(&writer, "type", TEXT("order"));
        amqp_table_put_bool(&writer, "urgent", true);
        amqp_table_put_long(&writer, "weight", weight);
        assert_true(amqp_table_finish(&writer, &table));
        assert_int_equal(selector_from_table(table, &selector, why, sizeof(why)), GW_OK);
        assert_int_equal(selector_matches(selector, &message), weight == 12);
        selector_free(selector);
    }
    assert_int_equal(selector_from_table((struct bytes){0}, &selector, why, sizeof(why)), GW_OK);
    assert_true(selector_matches(selector, &message));
    selector_free(selector);
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_raw(&writer, TEXT("odd"), 'V', (struct bytes){0});
    assert_true(amqp_table_finish(&writer, &table));
    assert_int_equal(selector_from_table(table, &selector, why, sizeof(why)), GW_ERR_INVALID);
    assert_string_equal(why, "the header 'odd' is neither a text nor a number nor a boolean");
}

static void terms_are_what_every_match_has(void **state)
{
    uint64_t hashes[SELECTOR_TERMS_MAX];
    char why[200];
    struct selector *selector;
    (void)state;
    assert_int_equal(selector_compile(TEXT("type = 'order' AND weight > 5 AND 'eu' = region"), &selector, why, sizeof(why)), GW_OK);
    assert_int_equal(selector_terms(selector, hashes), 2);
    assert_true(hashes[0] == selector_term(TEXT("type"), TEXT("order")) && hashes[1] == selector_term(TEXT("region"), TEXT("eu")));
    selector_free(selector);
    assert_int_equal(selector_compile(TEXT("type = 'order' OR region = 'eu'"), &selector, why, sizeof(why)), GW_OK);
    assert_int_equal(selector_terms(selector, hashes), 0);
    selector_free(selector);
    assert_int_equal(selector_compile(TEXT("type = 'order'"), &selector, why, sizeof(why)), GW_OK);
    assert_int_equal(selector_terms(selector, hashes), 1);
    selector_free(selector);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_language_says), cmocka_unit_test(faults_are_told_with_their_place), cmocka_unit_test(depth_and_size_are_bounded),
        cmocka_unit_test(a_table_wants_every_header), cmocka_unit_test(terms_are_what_every_match_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
