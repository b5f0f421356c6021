#include "broker/delay.h"

#include "protocol/amqp/properties.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)

static uint8_t room[1024], bytes[2048];

static struct bytes with_header(uint8_t type, struct bytes value)
{
    struct amqp_table_writer writer;
    struct amqp_properties properties = {.flags = AMQP_HEADERS | AMQP_DELIVERY_MODE, .delivery_mode = 2};
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "before", TEXT("b"));
    amqp_table_put_raw(&writer, TEXT("x-delay"), type, value);
    amqp_table_put_int(&writer, "z", 26);
    assert_true(amqp_table_finish(&writer, &properties.headers));
    return bytes_of(bytes, amqp_properties_encode(&properties, bytes, sizeof(bytes)));
}

static struct bytes number(uint64_t value, size_t size)
{
    static uint8_t at[8];
    store_be64(at, value << (64 - size * 8));
    return bytes_of(at, size);
}

static struct bytes text(const char *value)
{
    static uint8_t at[64];
    struct bytes from = TEXT(value);
    store_be32(at, (uint32_t)from.size);
    memcpy(at + 4, from.data, from.size);
    return bytes_of(at, 4 + from.size);
}

static void a_delay_is_any_number_of_milliseconds(void **state)
{
    (void)state;
    assert_int_equal(delay_of(with_header('I', number(1500, 4))), 1500);
    assert_int_equal(delay_of(with_header('l', number(DELAY_MAX_MS, 8))), DELAY_MAX_MS);
    assert_int_equal(delay_of(with_header('b', number(7, 1))), 7);
    assert_int_equal(delay_of(with_header('u', number(65535, 2))), 65535);
    assert_int_equal(delay_of(with_header('S', text("250"))), 250);
    const double real = 99.9;
    uint64_t raw;
    memcpy(&raw, &real, sizeof(raw));
    assert_int_equal(delay_of(with_header('d', number(raw, 8))), 99);
}

static void what_is_no_delay_holds_nothing_back(void **state)
{
    (void)state;
    assert_int_equal(delay_of(bytes_of("\0", 2)), 0);
    assert_int_equal(delay_of(with_header('I', number(0, 4))), 0);
    assert_int_equal(delay_of(with_header('I', number((uint32_t)-5, 4))), 0);
    assert_int_equal(delay_of(with_header('S', text("soon"))), 0);
    assert_int_equal(delay_of(with_header('S', text("-5"))), 0);
    assert_int_equal(delay_of(with_header('S', text(""))), 0);
    assert_int_equal(delay_of(with_header('t', number(1, 1))), 0);
}

static void a_century_is_the_longest(void **state)
{
    uint64_t due_ms;
    (void)state;
    assert_int_equal(delay_due(with_header('l', number(DELAY_MAX_MS, 8)), 5000, &due_ms), GW_OK);
    assert_int_equal(due_ms, 5 + DELAY_MAX_MS + 1);
    assert_int_equal(delay_due(with_header('l', number((uint64_t)DELAY_MAX_MS + 1, 8)), 0, &due_ms), GW_ERR_LIMIT);
    assert_int_equal(delay_due(with_header('L', number(UINT64_MAX, 8)), 0, &due_ms), GW_ERR_LIMIT);
}

static struct bytes at_time(uint8_t type, uint64_t value)
{
    struct amqp_table_writer writer;
    struct amqp_properties properties = {.flags = AMQP_HEADERS};
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_int(&writer, "x-delay", 100);
    amqp_table_put_raw(&writer, TEXT("x-deliver-at"), type, number(value, 8));
    assert_true(amqp_table_finish(&writer, &properties.headers));
    return bytes_of(bytes, amqp_properties_encode(&properties, bytes, sizeof(bytes)));
}

static void the_later_of_two_times_counts(void **state)
{
    uint64_t due_ms;
    (void)state;
    assert_int_equal(delay_due(at_time('l', 5000), 1000000, &due_ms), GW_OK);
    assert_int_equal(due_ms, 5000);
    assert_int_equal(delay_due(at_time('l', 1050), 1000999, &due_ms), GW_OK);
    assert_int_equal(due_ms, 1101);
    assert_int_equal(delay_due(at_time('l', 5), 1000000, &due_ms), GW_OK);
    assert_int_equal(due_ms, 1101);
    assert_int_equal(delay_due(at_time('T', 7), 1000000, &due_ms), GW_OK);
    assert_int_equal(due_ms, 7000);
    assert_int_equal(delay_due(at_time('l', (uint64_t)DELAY_MAX_MS + 1001), 1000000, &due_ms), GW_ERR_LIMIT);
    assert_int_equal(delay_due(bytes_of("\0", 2), 1000000, &due_ms), GW_OK);
    assert_int_equal(due_ms, 0);
}

static void expect_served(struct bytes before, uint8_t type, int64_t value)
{
    struct bytes after;
    struct amqp_properties properties;
    struct amqp_field field;
    assert_int_equal(delay_served(before, &after), GW_OK);
    assert_true(amqp_properties_decode(after, &properties));
    assert_int_equal(properties.delivery_mode, 2);
    assert_true(amqp_table_find(properties.headers, "x-delay", &field));
    assert_int_equal(field.type, type);
    assert_int_equal(field.integer, value);
    assert_true(amqp_table_find(properties.headers, "before", &field));
    assert_true(amqp_table_find(properties.headers, "z", &field));
    assert_int_equal(field.integer, 26);
    assert_int_equal(delay_of(after), 0);
    free((void *)(uintptr_t)after.data);
}

static void what_was_kept_back_says_so_and_is_not_kept_back_again(void **state)
{
    (void)state;
    expect_served(with_header('I', number(1500, 4)), 'I', -1500);
    expect_served(with_header('b', number(7, 1)), 'I', -7);
    expect_served(with_header('l', number(DELAY_MAX_MS, 8)), 'l', -(int64_t)DELAY_MAX_MS);
    expect_served(with_header('S', text("250")), 'I', -250);
    struct bytes after;
    assert_int_equal(delay_served(with_header('I', number(0, 4)), &after), GW_ERR_INVALID);
}

static void the_earliest_comes_first_and_equals_in_their_order(void **state)
{
    (void)state;
    struct delay delay = {0};
    uint32_t random = 1;
    assert_null(delay_first(&delay));
    for (uint64_t seq = 1; seq <= 5000; seq++) {
        random = random * 1664525u + 1013904223u;
        assert_true(delay_push(&delay, random >> 24, seq));
    }
    struct due last = {0, 0};
    for (unsigned i = 0; i < 5000; i++) {
        const struct due first = *delay_first(&delay);
        assert_true(first.at_ms > last.at_ms || (first.at_ms == last.at_ms && first.seq > last.seq));
        last = first;
        delay_pop(&delay);
    }
    assert_null(delay_first(&delay));
    delay_deinit(&delay);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_delay_is_any_number_of_milliseconds),
        cmocka_unit_test(what_is_no_delay_holds_nothing_back), cmocka_unit_test(a_century_is_the_longest),
        cmocka_unit_test(the_later_of_two_times_counts),
        cmocka_unit_test(what_was_kept_back_says_so_and_is_not_kept_back_again),
        cmocka_unit_test(the_earliest_comes_first_and_equals_in_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
