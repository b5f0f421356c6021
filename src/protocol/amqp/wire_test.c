#include "protocol/amqp/guarded.h"
#include "protocol/amqp/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void a_frame_is_read_whole_or_asked_for_more(void **state)
{
    (void)state;
    struct guarded guarded;
    guarded_open(&guarded);
    const uint8_t whole[] = {1, 0x12, 0x34, 0, 0, 0, 3, 'a', 'b', 'c', 0xCE};
    struct amqp_frame frame;
    for (size_t size = 0; size < sizeof(whole); size++)
        assert_int_equal(amqp_frame_read(guarded_copy(&guarded, bytes_of(whole, size)), 4096, &frame), WIRE_MORE);
    assert_int_equal(amqp_frame_read(guarded_copy(&guarded, bytes_of(whole, sizeof(whole))), 4096, &frame), WIRE_OK);
    assert_int_equal(frame.type, 1);
    assert_int_equal(frame.channel, 0x1234);
    assert_int_equal(frame.size, sizeof(whole));
    assert_memory_equal(frame.payload.data, "abc", 3);
    guarded_close(&guarded);
}

static void a_frame_that_is_too_large_or_ends_wrongly_is_bad(void **state)
{
    (void)state;
    struct amqp_frame frame;
    uint8_t bytes[16] = {3, 0, 1, 0, 0, 0x0F, 0xF9};
    assert_int_equal(amqp_frame_read(bytes_of(bytes, 7), 4096, &frame), WIRE_BAD);
    assert_int_equal(amqp_frame_read(bytes_of(bytes, 7), 4097, &frame), WIRE_MORE);
    assert_int_equal(amqp_frame_read(bytes_of(bytes, 7), 0, &frame), WIRE_MORE);
    const uint8_t wrong_end[] = {8, 0, 0, 0, 0, 0, 0, 0xCD};
    assert_int_equal(amqp_frame_read(bytes_of(wrong_end, sizeof(wrong_end)), 4096, &frame), WIRE_BAD);
    memset(bytes, 0xFF, sizeof(bytes));
    assert_int_equal(amqp_frame_read(bytes_of(bytes, sizeof(bytes)), 0, &frame), WIRE_MORE);
}

static void the_protocol_header_is_refused_at_its_first_wrong_byte(void **state)
{
    (void)state;
    for (size_t size = 0; size < 8; size++)
        assert_int_equal(amqp_protocol_header_read(bytes_of(amqp_protocol_header, size)), WIRE_MORE);
    assert_int_equal(amqp_protocol_header_read(bytes_of(amqp_protocol_header, 8)), WIRE_OK);
    assert_int_equal(amqp_protocol_header_read(bytes_of_text("AMQP\x01")), WIRE_BAD);
    assert_int_equal(amqp_protocol_header_read(bytes_of_text("G")), WIRE_BAD);
}

static void a_heartbeat_is_eight_bytes(void **state)
{
    (void)state;
    uint8_t bytes[8];
    assert_ptr_equal(amqp_heartbeat_write(bytes), bytes + 8);
    assert_memory_equal(bytes, "\x08\0\0\0\0\0\0\xCE", 8);
}

static void utf8_is_judged_by_the_standard(void **state)
{
    (void)state;
    static const char *const good[] = {"", "plain text of more than eight bytes", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x90\xA6", "\xEF\xBF\xBF", "\xF4\x8F\xBF\xBF"};
    static const char *const bad[] = {"\x80", "\xC0\x80", "\xC1\xBF", "\xC3", "\xE2\x82", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
                                      "\xF5\x80\x80\x80", "\xFF", "12345678\xFE", "\xE2\x28\xA1", "\xF0\x9F\x90"};
    struct guarded guarded;
    guarded_open(&guarded);
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(amqp_utf8_valid(guarded_copy(&guarded, bytes_of_text(good[i]))));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(amqp_utf8_valid(guarded_copy(&guarded, bytes_of_text(bad[i]))));
    guarded_close(&guarded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_is_read_whole_or_asked_for_more),
        cmocka_unit_test(a_frame_that_is_too_large_or_ends_wrongly_is_bad),
        cmocka_unit_test(the_protocol_header_is_refused_at_its_first_wrong_byte),
        cmocka_unit_test(a_heartbeat_is_eight_bytes),
        cmocka_unit_test(utf8_is_judged_by_the_standard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
