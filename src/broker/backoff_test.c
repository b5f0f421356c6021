#include "broker/backoff.h"

#include <jansson.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char why[200];

static struct backoff of_text(const char *text)
{
    struct backoff backoff;
    if (!backoff_of_text(bytes_of_text(text), &backoff, why, sizeof(why)))
        fail_msg("%s: %s", text, why);
    return backoff;
}

static struct backoff of_json(const char *text)
{
    struct backoff backoff;
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(json);
    if (!backoff_of_json(json, &backoff, why, sizeof(why)))
        fail_msg("%s: %s", text, why);
    json_decref(json);
    return backoff;
}

static void steps_repeat_the_last(void **state)
{
    (void)state;
    static const uint64_t waits[] = {250, 5000, 90000, 7200000, 86400000, 86400000, 86400000};
    struct backoff backoff = of_text("250, 5s 1.5m,2h\t1d");
    for (unsigned i = 0; i < 7; i++)
        assert_int_equal(backoff_ms(&backoff, i + 1, UINT64_MAX), waits[i]);
    assert_int_equal(backoff_ms(&backoff, UINT64_MAX, 0), 86400000);
    assert_int_equal(backoff_ms(&backoff, 0, 0), 250);
}

static void it_grows_up_to_the_most(void **state)
{
    (void)state;
    struct backoff backoff = of_text("initial=100ms multiplier=3 max=2s jitter=0");
    static const uint64_t waits[] = {100, 300, 900, 2000, 2000};
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(backoff_ms(&backoff, i + 1, 1), waits[i]);
    assert_int_equal(backoff_ms(&backoff, UINT64_MAX, 1), 2000);
    backoff = of_text("initial=1 multiplier=1 jitter=0");
    assert_int_equal(backoff_ms(&backoff, UINT64_MAX, 1), 1);
    backoff = of_text("initial=0 multiplier=1000 max=3650d jitter=0");
    assert_int_equal(backoff_ms(&backoff, UINT64_MAX, 1), 0);
    backoff = of_text("initial=1 multiplier=1.001 max=3650d jitter=0");
    assert_int_equal(backoff_ms(&backoff, 1001, 1), 3);   /* e, nearly */
    assert_int_equal(backoff_ms(&backoff, 1u << 20, 1), BACKOFF_MAX_MS);
}

static void jitter_goes_both_ways(void **state)
{
    (void)state;
    struct backoff backoff = of_text("initial=1000 jitter=0.2");
    assert_int_equal(backoff_ms(&backoff, 1, 0), 800);
    assert_int_equal(backoff_ms(&backoff, 1, 1ull << 63), 1000);
    assert_int_equal(backoff_ms(&backoff, 1, UINT64_MAX), 1200);
    backoff = of_text("initial=1s");
    assert_int_equal(backoff_ms(&backoff, 2, 0), 1800);   /* twice as long, a tenth less: what is not said */
    assert_int_equal(backoff_ms(&backoff, 30, 1ull << 63), 3600000);
}

/* A field as a client writes it. */
static struct backoff of_field(struct amqp_table_writer *writer)
{
    struct bytes table;
    struct amqp_field field;
    struct backoff backoff;
    assert_true(amqp_table_finish(writer, &table) && amqp_table_valid(table) && amqp_table_find(table, "b", &field));
    if (!backoff_of_field(&field, &backoff, why, sizeof(why)))
        fail_msg("%s", why);
    return backoff;
}

static void all_ways_say_the_same(void **state)
{
    (void)state;
    uint8_t room[256];
    struct amqp_table_writer writer;
    static const uint8_t array[] = {0, 0, 0, 15, 'I', 0, 0, 0x03, 0xE8, 'S', 0, 0, 0, 2, '5', 's', 's', 0, 9};
    struct backoff text = of_text("1s,5s,9"), json = of_json("[1000,\"5s\",9]"), field;
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_raw(&writer, bytes_of_text("b"), 'A', bytes_of(array, sizeof(array)));
    field = of_field(&writer);
    assert_true(backoff_equal(&text, &json) && backoff_equal(&text, &field));
    text = of_text("initial=1s multiplier=3 max=1m jitter=0.5");
    json = of_json("{\"jitter\": 0.5, \"max\": 60000, \"multiplier\": 3.0, \"initial\": \"1s\"}");
    amqp_table_begin(&writer, room, sizeof(room));
    size_t mark = amqp_table_nest_begin(&writer, "b");
    amqp_table_put_long(&writer, "initial", 1000);
    amqp_table_put_int(&writer, "multiplier", 3);
    amqp_table_put_text(&writer, "max", bytes_of_text("1m"));
    amqp_table_put_text(&writer, "jitter", bytes_of_text("0.5"));
    amqp_table_nest_end(&writer, mark);
    field = of_field(&writer);
    assert_true(backoff_equal(&text, &json) && backoff_equal(&text, &field));
    field.jitter = 0;
    assert_false(backoff_equal(&text, &field));
    json = of_json("\"1s 5s\"");
    assert_false(backoff_equal(&text, &json));
}

static void nonsense_has_a_reason(void **state)
{
    (void)state;
    static const struct { const char *text, *why; } wrong[] = {
        {"", "no times"}, {" , ", "no times"}, {"1s,x", "time 2 'x' is no time"}, {"1week", "time 1 '1week' is no time"}, {".", "time 1 '.' is no time"},
        {"-1", "time 1 '-1' is no time"}, {"3651d", "time 1 is not between 0 and ten years"}, {"99999999999999999", "time 1 '99999999999999999' is no time"},
        {"initial=1 2", "'2' is not of the form key=value"}, {"max=1", "initial is missing"}, {"initial=", "initial '' is no time"}, {"initial=5 max=4", "max is less than initial"},
        {"initial=1 multiplier=0.5", "multiplier is no number between 1 and 1000"}, {"initial=1 jitter=1.5", "jitter is no number between 0 and 1"},
        {"initial=1 jitter=x", "jitter is no number between 0 and 1"}, {"a=1", "unknown key 'a'"},
        {"1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "more than 32 times"},
    };
    struct backoff backoff;
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        assert_false(backoff_of_text(bytes_of_text(wrong[i].text), &backoff, why, sizeof(why)));
        assert_string_equal(why, wrong[i].why);
        assert_false(backoff_of_text(bytes_of_text(wrong[i].text), &backoff, NULL, 0));
    }
    json_t *json = json_pack("{s:s}", "initial", "1s"), *number = json_integer(5), *nested = json_pack("[[i]]", 5);
    assert_true(backoff_of_json(json, &backoff, why, sizeof(why)));
    assert_false(backoff_of_json(number, &backoff, why, sizeof(why)));
    assert_string_equal(why, "neither a list, an object nor a text");
    assert_false(backoff_of_json(nested, &backoff, why, sizeof(why)));
    assert_string_equal(why, "time 1 is no time");
    json_decref(json);
    json_decref(number);
    json_decref(nested);
    struct amqp_field field = {.type = 't', .integer = 1};
    assert_false(backoff_of_field(&field, &backoff, why, sizeof(why)));
    assert_string_equal(why, "{unacceptable_type,bool}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_repeat_the_last), cmocka_unit_test(it_grows_up_to_the_most), cmocka_unit_test(jitter_goes_both_ways),
        cmocka_unit_test(all_ways_say_the_same), cmocka_unit_test(nonsense_has_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
