#include "store/block_image.h"

#include "base/checksum.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* An image of `count` messages, message i of i * 7 bytes and at number 255 - count + 1 + i. */
static uint8_t *make(unsigned count, size_t *size)
{
    uint8_t content[256 * 7];
    uint64_t contents = 0;
    for (unsigned i = 0; i < count; i++)
        contents += i * 7;
    uint8_t *image = malloc(block_image_size(count, contents));
    struct block_image_writer writer;
    block_image_begin(&writer, image, 77, 1234, count);
    for (unsigned i = 0; i < count; i++) {
        memset(content, (int)i, i * 7);
        block_image_add(&writer, (uint8_t)(256 - count + i), (uint8_t)(i % 3), crc32c(0, content, i * 7), bytes_of(content, i * 7));
    }
    *size = block_image_finish(&writer);
    assert_int_equal(*size, block_image_size(count, contents));
    return image;
}

static void what_was_added_is_read_back(void **state)
{
    (void)state;
    static const unsigned counts[] = {0, 1, 2, 100, 256};
    for (unsigned c = 0; c < 5; c++) {
        size_t size;
        uint8_t *bytes = make(counts[c], &size);
        struct block_image image;
        assert_int_equal(block_image_open(bytes_of(bytes, size), &image), GW_OK);
        assert_int_equal(image.queue, 77);
        assert_int_equal(image.block_number, 1234);
        assert_int_equal(image.count, counts[c]);
        for (unsigned i = 0; i < counts[c]; i++) {
            struct block_image_entry entry = block_image_entry(&image, i);
            assert_int_equal(entry.index, 256 - counts[c] + i);
            assert_int_equal(entry.flags, i % 3);
            assert_int_equal(entry.size, i * 7);
            assert_true(block_image_verify(&image, &entry));
            for (unsigned j = 0; j < entry.size; j++)
                assert_int_equal(bytes[entry.offset + j], (uint8_t)i);
        }
        free(bytes);
    }
}

static void a_shorter_image_is_corrupt(void **state)
{
    (void)state;
    size_t size;
    uint8_t *bytes = make(20, &size);
    struct block_image image;
    for (size_t shorter = 0; shorter < size; shorter++) {
        uint8_t *copy = malloc(shorter ? shorter : 1);
        memcpy(copy, bytes, shorter);
        assert_int_equal(block_image_open(bytes_of(copy, shorter), &image), GW_ERR_CORRUPT);
        free(copy);
    }
    free(bytes);
}

static void every_damaged_byte_is_noticed(void **state)
{
    (void)state;
    size_t size;
    uint8_t *bytes = make(20, &size);
    for (size_t at = 0; at < size; at++) {
        bytes[at] ^= 0x10;
        struct block_image image;
        enum gw_err err = block_image_open(bytes_of(bytes, size), &image);
        unsigned bad = 0;
        for (unsigned i = 0; err == GW_OK && i < image.count; i++) {
            struct block_image_entry entry = block_image_entry(&image, i);
            bad += !block_image_verify(&image, &entry);
        }
        /* Bytes 36 to 39 are not used. */
        assert_true(err != GW_OK || bad == 1 || (at >= 36 && at < 40));
        bytes[at] ^= 0x10;
    }
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_added_is_read_back),
        cmocka_unit_test(a_shorter_image_is_corrupt),
        cmocka_unit_test(every_damaged_byte_is_noticed),
    };
    return cmocka_run_group_tests_name("block image", tests, NULL, NULL);
}
