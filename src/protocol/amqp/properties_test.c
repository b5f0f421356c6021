#include "protocol/amqp/guarded.h"
#include "protocol/amqp/properties.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct amqp_properties all(void)
{
    return (struct amqp_properties){
        .flags = 0xFFFC, .delivery_mode = 2, .priority = 9, .timestamp = 1600000000, .headers = bytes_of("\001kt\001", 4),
        .content_type = bytes_of_text("text/plain"), .content_encoding = bytes_of_text("gzip"), .correlation_id = bytes_of_text("c"),
        .reply_to = bytes_of_text("r"), .expiration = bytes_of_text("60000"), .message_id = bytes_of_text("m"), .type = bytes_of_text("t"),
        .user_id = bytes_of_text("guest"), .app_id = bytes_of_text("a"), .cluster_id = bytes_of_text(""),
    };
}

static void expect_same(const struct amqp_properties *a, const struct amqp_properties *b)
{
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->delivery_mode, b->delivery_mode);
    assert_int_equal(a->priority, b->priority);
    assert_int_equal(a->timestamp, b->timestamp);
    const struct bytes *x = &a->headers, *y = &b->headers;
    for (int i = 0; i < 11; i++)
        assert_true(bytes_equal(x[i], y[i]));
}

static void every_set_of_properties_goes_there_and_back(void **state)
{
    (void)state;
    struct guarded guarded;
    guarded_open(&guarded);
    for (uint32_t flags = 0; flags <= 0xFFFC; flags += 4) {
        struct amqp_properties in = all(), out;
        in.flags = (uint16_t)flags;
        size_t size = amqp_properties_size(&in);
        uint8_t *at = guarded_room(&guarded, size);
        assert_int_equal(amqp_properties_encode(&in, at, size - 1), 0);
        assert_int_equal(amqp_properties_encode(&in, at, size), size);
        assert_true(amqp_properties_decode(bytes_of(at, size), &out));
        struct amqp_properties expected = {.flags = in.flags};
        if (flags & AMQP_DELIVERY_MODE)
            expected.delivery_mode = 2;
        assert_int_equal(out.delivery_mode, expected.delivery_mode);
        if (flags == 0xFFFC)
            expect_same(&in, &out);
    }
    guarded_close(&guarded);
}

static void a_cut_or_longer_list_is_refused(void **state)
{
    (void)state;
    struct guarded guarded;
    guarded_open(&guarded);
    uint8_t bytes[256];
    struct amqp_properties in = all(), out;
    size_t size = amqp_properties_encode(&in, bytes, sizeof(bytes));
    for (size_t i = 0; i < size; i++)
        assert_false(amqp_properties_decode(guarded_copy(&guarded, bytes_of(bytes, i)), &out));
    assert_true(amqp_properties_decode(guarded_copy(&guarded, bytes_of(bytes, size)), &out));
    bytes[size] = 0;
    assert_false(amqp_properties_decode(bytes_of(bytes, size + 1), &out));
    guarded_close(&guarded);
}

static void bad_headers_and_long_strings_are_refused(void **state)
{
    (void)state;
    struct amqp_properties out;
    assert_false(amqp_properties_decode(bytes_of("\x20\0\0\0\0\x03\001kt", 9), &out));
    assert_true(amqp_properties_decode(bytes_of("\x20\0\0\0\0\0", 6), &out));
    assert_true(amqp_properties_decode(bytes_of("\x00\x03", 2), &out));
    char text[300];
    memset(text, 'x', sizeof(text));
    struct amqp_properties in = {.flags = AMQP_TYPE, .type = bytes_of(text, 256)};
    uint8_t bytes[512];
    assert_int_equal(amqp_properties_encode(&in, bytes, sizeof(bytes)), 0);
    in.type.size = 255;
    assert_int_equal(amqp_properties_encode(&in, bytes, sizeof(bytes)), 258);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_set_of_properties_goes_there_and_back),
        cmocka_unit_test(a_cut_or_longer_list_is_refused),
        cmocka_unit_test(bad_headers_and_long_strings_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
