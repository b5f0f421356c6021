#include "protocol/amqp/guarded.h"
#include "protocol/amqp/methods.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* A value for argument `index` that depends on `round`, so that neighbours differ. */
static struct amqp_value sample(const struct amqp_method_row *row, unsigned index, unsigned round)
{
    static const uint8_t table[] = "\001kt\001\002no" "S\0\0\0\002hi";
    static const char text[] = "h\xC3\xA9llo, this is a text of several words";
    uint64_t number = 0x0123456789ABCDEFu * (round + 1) + index;
    switch (row->arguments[index].kind) {
    case AMQP_OCTET: return amqp_number(number & 0xFF);
    case AMQP_SHORT: return amqp_number(number & 0xFFFF);
    case AMQP_LONG: return amqp_number(number & 0xFFFFFFFF);
    case AMQP_BIT: return amqp_number(round >> index & 1);
    case AMQP_TABLE: return amqp_bytes(bytes_of(table, round % 2 ? sizeof(table) - 1 : 0));
    case AMQP_SHORTSTR: case AMQP_LONGSTR: return amqp_bytes(bytes_of(text, round % 3 ? 3 + (round + index) % 30 : 0));
    default: return amqp_number(number);
    }
}

static bool is_number(uint8_t kind)
{
    return kind <= AMQP_BIT;
}

static void expect_values(const struct amqp_method_row *row, const struct amqp_value *a, const struct amqp_value *b)
{
    for (unsigned i = 0; i < row->count; i++) {
        if (is_number(row->arguments[i].kind))
            assert_true(a[i].number == b[i].number);
        else
            assert_true(bytes_equal(a[i].bytes, b[i].bytes));
    }
}

static void every_method_goes_there_and_back_and_is_refused_when_cut(void **state)
{
    (void)state;
    struct guarded guarded;
    guarded_open(&guarded);
    unsigned count;
    const struct amqp_method_row *rows = amqp_method_rows(&count);
    assert_int_equal(count, 67);
    for (unsigned r = 0; r < count; r++) {
        const struct amqp_method_row *row = &rows[r];
        assert_true(row->count <= AMQP_ARGUMENTS_MAX);
        assert_ptr_equal(amqp_method_row(row->id), row);
        for (unsigned round = 0; round < 512; round += round < 32 ? 1 : 37) {
            struct amqp_value values[AMQP_ARGUMENTS_MAX];
            for (unsigned i = 0; i < row->count; i++)
                values[i] = sample(row, i, round);
            uint8_t bytes[2048];
            size_t size = amqp_method_encode(bytes, sizeof(bytes), row->id, values);
            assert_true(size >= 4);
            struct amqp_method method;
            assert_int_equal(amqp_method_decode(guarded_copy(&guarded, bytes_of(bytes, size)), &method), AMQP_DECODED);
            assert_ptr_equal(method.row, row);
            expect_values(row, values, method.values);
            for (size_t cut = 0; cut < size; cut++)
                assert_int_not_equal(amqp_method_decode(guarded_copy(&guarded, bytes_of(bytes, cut)), &method), AMQP_DECODED);
            bytes[size] = 0;
            assert_int_equal(amqp_method_decode(bytes_of(bytes, size + 1), &method), AMQP_MALFORMED);
            for (size_t room = 0; room < size; room++)
                assert_int_equal(amqp_method_encode(guarded_room(&guarded, room), room, row->id, values), 0);
        }
    }
    guarded_close(&guarded);
}

static void rows_agree_with_the_specification_where_it_is_easy_to_slip(void **state)
{
    (void)state;
    assert_int_equal(AMQP_EXCHANGE_UNBIND_OK, 40 << 16 | 51);
    assert_int_equal(AMQP_BASIC_NACK, 60 << 16 | 120);
    assert_int_equal(AMQP_CONFIRM_SELECT, 85 << 16 | 10);
    assert_int_equal(AMQP_CONNECTION_UPDATE_SECRET, 10 << 16 | 70);
    assert_int_equal(AMQP_CONNECTION_BLOCKED, 10 << 16 | 60);
    assert_int_equal(AMQP_QUEUE_DECLARE_ARGUMENTS, 7);
    assert_int_equal(AMQP_EXCHANGE_DECLARE_COUNT, 9);
    unsigned count, with_content = 0;
    const struct amqp_method_row *rows = amqp_method_rows(&count);
    for (unsigned r = 0; r < count; r++)
        with_content += rows[r].flags == AMQP_HAS_CONTENT;
    assert_int_equal(with_content, 4); /* publish, return, deliver, get-ok */
    assert_null(amqp_method_row(0));
    assert_null(amqp_method_row(60 << 16 | 99));
}

static void bad_text_and_bad_tables_are_told_apart(void **state)
{
    (void)state;
    struct amqp_method method;
    assert_int_equal(amqp_method_decode(bytes_of("\0\x32\0\x1E\0\0\001\xFF\0", 9), &method), AMQP_BAD_UTF8);
    assert_string_equal(method.row->name, "queue.purge");
    assert_int_equal(amqp_method_decode(bytes_of("\0\x32\0\x0A\0\0\001q\0\0\0\0\x03\001kt", 16), &method), AMQP_BAD_TABLE);
    assert_string_equal(method.row->name, "queue.declare");
    assert_int_equal(amqp_method_decode(bytes_of("\0\x32\0\x99", 4), &method), AMQP_UNKNOWN_METHOD);
    assert_null(method.row);
}

static void bits_share_an_octet_from_the_lowest(void **state)
{
    (void)state;
    uint8_t bytes[64];
    struct amqp_value values[AMQP_QUEUE_DECLARE_COUNT] = {
        [AMQP_QUEUE_DECLARE_QUEUE] = amqp_text("q"), [AMQP_QUEUE_DECLARE_DURABLE] = amqp_number(1), [AMQP_QUEUE_DECLARE_NO_WAIT] = amqp_number(1)};
    size_t size = amqp_method_frame(bytes, sizeof(bytes), 7, AMQP_QUEUE_DECLARE, values);
    assert_int_equal(size, 21);
    assert_memory_equal(bytes, "\x01\0\x07\0\0\0\x0D\0\x32\0\x0A\0\0\x01q\x12\0\0\0\0\xCE", size);
    assert_int_equal(amqp_method_frame(bytes, 20, 7, AMQP_QUEUE_DECLARE, values), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_method_goes_there_and_back_and_is_refused_when_cut),
        cmocka_unit_test(rows_agree_with_the_specification_where_it_is_easy_to_slip),
        cmocka_unit_test(bad_text_and_bad_tables_are_told_apart),
        cmocka_unit_test(bits_share_an_octet_from_the_lowest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
