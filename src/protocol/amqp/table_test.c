#include "protocol/amqp/guarded.h"
#include "protocol/amqp/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define ONE_OF_EACH \
    "\001b" "b" "\xFF" \
    "\001B" "B" "\xFF" \
    "\001s" "s" "\xFF\xFE" \
    "\001u" "u" "\xFF\xFE" \
    "\001I" "I" "\xFF\xFF\xFF\xFD" \
    "\001i" "i" "\xFF\xFF\xFF\xFD" \
    "\001l" "l" "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFC" \
    "\001L" "L" "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFC" \
    "\001t" "t" "\x07" \
    "\001f" "f" "\x3F\xC0\0\0" \
    "\001d" "d" "\xC0\x04\0\0\0\0\0\0" \
    "\001D" "D" "\x02\0\0\x01\x3A" \
    "\001S" "S" "\0\0\0\x03xyz" \
    "\001x" "x" "\0\0\0\x02\0\xFF" \
    "\001T" "T" "\0\0\0\0\x5F\x5E\x10\0" \
    "\001V" "V" \
    "\001F" "F" "\0\0\0\x04\x01kt\x01" \
    "\001A" "A" "\0\0\0\x07t\x01I\0\0\0" /* the last octet of the array's integer is the string's NUL */

static struct bytes one_of_each(void)
{
    return bytes_of(ONE_OF_EACH, sizeof(ONE_OF_EACH));
}

static struct amqp_field find(const char *name)
{
    struct amqp_field field;
    assert_true(amqp_table_find(one_of_each(), name, &field));
    return field;
}

static void every_type_is_read_as_rabbitmq_means_it(void **state)
{
    (void)state;
    struct bytes table = one_of_each();
    assert_int_equal(find("b").integer, -1);
    assert_int_equal(find("B").integer, 255);
    assert_int_equal(find("s").integer, -2);
    assert_int_equal(find("u").integer, 65534);
    assert_int_equal(find("I").integer, -3);
    assert_int_equal(find("i").integer, 4294967293);
    assert_true(find("l").integer == -4);
    assert_true(find("L").integer == -4);
    assert_int_equal(find("t").integer, 1);
    assert_true(find("f").real == 1.5);
    assert_true(find("d").real == -2.5);
    assert_int_equal(find("D").scale, 2);
    assert_int_equal(find("D").integer, 314);
    assert_memory_equal(find("S").bytes.data, "xyz", 3);
    assert_int_equal(find("x").bytes.size, 2);
    assert_int_equal(find("T").integer, 1600000000);
    assert_int_equal(find("V").type, 'V');
    assert_true(amqp_table_flag(find("F").bytes, "k"));
    assert_true(amqp_table_flag(table, "t"));
    assert_false(amqp_table_flag(table, "I"));
    assert_false(amqp_table_flag(table, "missing"));
}

static void a_cut_table_is_no_table_at_any_byte(void **state)
{
    (void)state;
    struct guarded guarded;
    guarded_open(&guarded);
    struct bytes whole = one_of_each();
    unsigned good = 0;
    for (size_t size = 0; size <= whole.size; size++) {
        struct bytes part = guarded_copy(&guarded, bytes_of(whole.data, size));
        unsigned fields = 0;
        struct amqp_field field;
        struct bytes rest = part;
        while (amqp_table_next(&rest, &field) == WIRE_OK)
            fields++;
        bool valid = amqp_table_valid(part);
        assert_true(valid == (rest.size == 0) || !valid);
        good += valid;
    }
    /* It is one only where it ends after a field: at 0 and after each of 18. */
    assert_int_equal(good, 19);
    guarded_close(&guarded);
}

static void nesting_is_bounded(void **state)
{
    (void)state;
    uint8_t bytes[2048];
    for (int depth = 1; depth <= 64; depth++) {
        struct amqp_table_writer writer;
        size_t marks[64];
        struct bytes table;
        amqp_table_begin(&writer, bytes, sizeof(bytes));
        for (int i = 1; i < depth; i++)
            marks[i] = amqp_table_nest_begin(&writer, "n");
        for (int i = depth - 1; i >= 1; i--)
            amqp_table_nest_end(&writer, marks[i]);
        assert_true(amqp_table_finish(&writer, &table));
        assert_int_equal(amqp_table_valid(table), depth <= AMQP_TABLE_DEPTH_MAX);
    }
}

static void sizes_that_lie_are_refused(void **state)
{
    (void)state;
    assert_false(amqp_table_valid(bytes_of("\001SS\xFF\xFF\xFF\xFF", 7)));
    assert_false(amqp_table_valid(bytes_of("\xFFSS", 3)));
    assert_false(amqp_table_valid(bytes_of("\001F" "F\0\0\0\x05\001tt\001", 11)));
    assert_false(amqp_table_valid(bytes_of("\001?" "?\0", 4)));
    assert_false(amqp_table_valid(bytes_of("\001A" "A\0\0\0\001?", 8)));
    assert_true(amqp_table_valid(bytes_of("\0t\001", 3)));
    assert_true(amqp_table_valid(bytes_of(NULL, 0)));
}

static void what_is_built_is_read_back(void **state)
{
    (void)state;
    struct guarded guarded;
    guarded_open(&guarded);
    size_t needed = 0;
    for (size_t room = 0; room < 200; room++) {
        struct amqp_table_writer writer;
        struct bytes table;
        amqp_table_begin(&writer, guarded_room(&guarded, room), room);
        amqp_table_put_text(&writer, "product", bytes_of_text("Godwit"));
        size_t mark = amqp_table_nest_begin(&writer, "capabilities");
        amqp_table_put_bool(&writer, "basic.nack", true);
        amqp_table_nest_end(&writer, mark);
        amqp_table_put_int(&writer, "int", -5);
        amqp_table_put_long(&writer, "long", 1LL << 40);
        amqp_table_put_raw(&writer, bytes_of_text("void"), 'V', bytes_of(NULL, 0));
        if (!amqp_table_finish(&writer, &table))
            continue;
        if (!needed)
            needed = room;
        struct amqp_field field;
        assert_int_equal(load_be32(table.data - 4), table.size);
        assert_int_equal(table.size + 4, needed);
        assert_true(amqp_table_valid(table));
        assert_true(amqp_table_find(table, "capabilities", &field) && amqp_table_flag(field.bytes, "basic.nack"));
        assert_true(amqp_table_find(table, "int", &field) && field.integer == -5 && amqp_field_is_integer(&field));
        assert_true(amqp_table_find(table, "long", &field) && field.integer == 1LL << 40);
        assert_true(amqp_table_find(table, "void", &field) && !amqp_field_is_integer(&field));
    }
    assert_true(needed > 0);
    guarded_close(&guarded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_read_as_rabbitmq_means_it),
        cmocka_unit_test(a_cut_table_is_no_table_at_any_byte),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(sizes_that_lie_are_refused),
        cmocka_unit_test(what_is_built_is_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
