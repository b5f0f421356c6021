/* The methods written by hand must say what the rows say. */
#include "protocol/amqp/guarded.h"
#include "protocol/amqp/methods.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const char text[] = "some.routing.key.that.is.long.enough.for.every.size.tried.here";

static void publish_is_decoded_and_encoded_as_the_row_says(void **state)
{
    (void)state;
    struct guarded guarded;
    guarded_open(&guarded);
    for (unsigned round = 0; round < 400; round++) {
        struct bytes exchange = bytes_of(text, round % 20), key = bytes_of(text, round % 61);
        struct amqp_value values[AMQP_BASIC_PUBLISH_COUNT] = {
            [AMQP_BASIC_PUBLISH_EXCHANGE] = amqp_bytes(exchange), [AMQP_BASIC_PUBLISH_ROUTING_KEY] = amqp_bytes(key),
            [AMQP_BASIC_PUBLISH_MANDATORY] = amqp_number(round & 1), [AMQP_BASIC_PUBLISH_IMMEDIATE] = amqp_number(round >> 1 & 1)};
        uint8_t row[256], hand[256];
        size_t size = amqp_method_frame(row, sizeof(row), 3, AMQP_BASIC_PUBLISH, values);
        struct bytes payload = guarded_copy(&guarded, bytes_of(row + 7, size - 8));
        struct amqp_publish publish = {.mandatory = false};
        assert_int_equal(amqp_publish_decode(payload, &publish), AMQP_DECODED);
        assert_true(bytes_equal(publish.exchange, exchange) && bytes_equal(publish.routing_key, key));
        assert_int_equal(publish.mandatory, round & 1);
        assert_int_equal(publish.immediate, round >> 1 & 1);
        for (size_t cut = 4; cut < payload.size; cut++)
            assert_int_equal(amqp_publish_decode(guarded_copy(&guarded, bytes_of(row + 7, cut)), &publish), AMQP_MALFORMED);
        if (!(round >> 1 & 1)) {
            assert_int_equal(amqp_publish_frame(hand, size - 1, 3, exchange, key, round & 1), 0);
            assert_int_equal(amqp_publish_frame(hand, sizeof(hand), 3, exchange, key, round & 1), size);
            assert_memory_equal(row, hand, size);
        }
    }
    struct amqp_publish publish = {.mandatory = false};
    assert_int_equal(amqp_publish_decode(bytes_of("\0\x3C\0\x28\0\0\001\xFF\0\0", 10), &publish), AMQP_DECODED);
    assert_int_equal(amqp_publish_decode(bytes_of("\0\x3C\0\x28\0\0\0\0\0\0", 10), &publish), AMQP_MALFORMED);
    guarded_close(&guarded);
}

static void deliver_is_encoded_as_the_row_says(void **state)
{
    (void)state;
    struct guarded guarded;
    guarded_open(&guarded);
    for (unsigned round = 0; round < 400; round++) {
        struct bytes tag = bytes_of(text, round % 31), exchange = bytes_of(text, round % 20), key = bytes_of(text, round % 61);
        uint64_t delivery_tag = 0x9E3779B97F4A7C15u * round;
        struct amqp_value values[AMQP_BASIC_DELIVER_COUNT] = {
            [AMQP_BASIC_DELIVER_CONSUMER_TAG] = amqp_bytes(tag), [AMQP_BASIC_DELIVER_DELIVERY_TAG] = amqp_number(delivery_tag),
            [AMQP_BASIC_DELIVER_REDELIVERED] = amqp_number(round & 1), [AMQP_BASIC_DELIVER_EXCHANGE] = amqp_bytes(exchange),
            [AMQP_BASIC_DELIVER_ROUTING_KEY] = amqp_bytes(key)};
        uint8_t row[256];
        size_t size = amqp_method_frame(row, sizeof(row), (uint16_t)round, AMQP_BASIC_DELIVER, values);
        assert_int_equal(amqp_deliver_size(tag.size, exchange.size, key.size), size);
        uint8_t *hand = guarded_room(&guarded, size);
        assert_ptr_equal(amqp_deliver_write(hand, (uint16_t)round, tag, delivery_tag, round & 1, exchange, key), hand + size);
        assert_memory_equal(row, hand, size);
    }
    guarded_close(&guarded);
}

static void acks_are_decoded_and_encoded_as_the_rows_say(void **state)
{
    (void)state;
    struct guarded guarded;
    guarded_open(&guarded);
    for (unsigned round = 0; round < 64; round++) {
        uint64_t tag = 0x9E3779B97F4A7C15u * round;
        struct amqp_value values[3] = {amqp_number(tag), amqp_number(round & 1), amqp_number(round >> 1 & 1)};
        static const enum amqp_method_id ids[] = {AMQP_BASIC_ACK, AMQP_BASIC_NACK, AMQP_BASIC_REJECT};
        for (unsigned i = 0; i < 3; i++) {
            uint8_t row[32], *hand = guarded_room(&guarded, AMQP_ACK_FRAME_SIZE);
            assert_int_equal(amqp_method_frame(row, sizeof(row), 5, ids[i], values), AMQP_ACK_FRAME_SIZE);
            uint8_t flags = (uint8_t)(ids[i] == AMQP_BASIC_NACK ? round & 3 : round & 1);
            assert_ptr_equal(amqp_ack_write(hand, 5, ids[i], tag, flags), hand + AMQP_ACK_FRAME_SIZE);
            assert_memory_equal(row, hand, AMQP_ACK_FRAME_SIZE);
            assert_true(amqp_ack_tag(hand + 7) == tag);
            assert_int_equal(amqp_ack_flags(hand + 7), flags);
        }
    }
    guarded_close(&guarded);
}

static void the_content_header_goes_there_and_back(void **state)
{
    (void)state;
    struct guarded guarded;
    guarded_open(&guarded);
    struct bytes properties = bytes_of("\x10\0\x02", 3);
    uint8_t *at = guarded_room(&guarded, AMQP_FRAME_OVERHEAD + AMQP_CONTENT_HEADER_SIZE + 3);
    assert_ptr_equal(amqp_content_header_write(at, 9, 0x123456789A, properties), guarded.map + GUARDED_SIZE);
    assert_memory_equal(at, "\x02\0\x09\0\0\0\x0F\0\x3C\0\0\0\0\0\x12\x34\x56\x78\x9A\x10\0\x02\xCE", 23);
    struct amqp_content_header header;
    assert_true(amqp_content_header_decode(bytes_of(at + 7, 15), &header));
    assert_int_equal(header.class_id, 60);
    assert_int_equal(header.weight, 0);
    assert_true(header.body_size == 0x123456789A);
    assert_true(bytes_equal(header.properties, properties));
    assert_false(amqp_content_header_decode(bytes_of(at, 11), &header));
    guarded_close(&guarded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(publish_is_decoded_and_encoded_as_the_row_says),
        cmocka_unit_test(deliver_is_encoded_as_the_row_says),
        cmocka_unit_test(acks_are_decoded_and_encoded_as_the_rows_say),
        cmocka_unit_test(the_content_header_goes_there_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
