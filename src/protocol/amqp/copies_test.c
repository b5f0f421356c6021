#include "protocol/amqp/copies.h"

#include "protocol/amqp/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Headers with a run of strings under a name: "CC a b" */
static struct bytes make(uint8_t *room, size_t size, const char *const *rows, unsigned count)
{
    struct amqp_table_writer writer;
    struct bytes table;
    amqp_table_begin(&writer, room, size);
    for (unsigned i = 0; i < count; i++) {
        char text[64], *rest = text, *name, *word;
        uint8_t array[128];
        uint32_t used = 4;
        snprintf(text, sizeof(text), "%s", rows[i]);
        name = strtok_r(rest, " ", &rest);
        while ((word = strtok_r(NULL, " ", &rest))) {
            array[used] = 'S';
            store_be32(array + used + 1, (uint32_t)strlen(word));
            memcpy(array + used + 5, word, strlen(word));
            used += 5 + (uint32_t)strlen(word);
        }
        store_be32(array, used - 4);
        amqp_table_put_raw(&writer, bytes_of_text(name), 'A', bytes_of(array, used));
    }
    assert_true(amqp_table_finish(&writer, &table));
    return table;
}

static void expect_keys(struct bytes copies, const char *const *keys)
{
    struct bytes key;
    for (; *keys; keys++) {
        assert_true(copies_next(&copies, &key));
        assert_int_equal(key.size, strlen(*keys));
        assert_memory_equal(key.data, *keys, key.size);
    }
    assert_false(copies_next(&copies, &key));
}

static void both_headers_are_found(void **state)
{
    (void)state;
    uint8_t room[512];
    char text[128];
    struct bytes copies[2];
    struct bytes headers = make(room, sizeof(room), (const char *const[]){"other z", "BCC three", "CC one two"}, 3);
    assert_int_equal(copies_find(headers, copies, text, sizeof(text)), COPIES_FOUND);
    expect_keys(copies[0], (const char *const[]){"one", "two", NULL});
    expect_keys(copies[1], (const char *const[]){"three", NULL});
    headers = make(room, sizeof(room), (const char *const[]){"cc one", "Bcc two", "CCC x"}, 3);
    assert_int_equal(copies_find(headers, copies, text, sizeof(text)), COPIES_NONE);
}

static void other_types_are_refused(void **state)
{
    (void)state;
    uint8_t room[128];
    char text[128];
    struct bytes copies[2], headers;
    struct amqp_table_writer writer;
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "BCC", bytes_of_text("one"));
    assert_true(amqp_table_finish(&writer, &headers));
    assert_int_equal(copies_find(headers, copies, text, sizeof(text)), COPIES_INVALID);
    assert_string_equal(text, "invalid message: {unacceptable_type_in_header,\"BCC\",longstr}");
}

static void elements_that_are_no_strings_mean_nothing(void **state)
{
    (void)state;
    const uint8_t array[] = {'I', 0, 0, 0, 1, 'S', 0, 0, 0, 1, 'k', 't', 1};
    expect_keys(bytes_of(array, sizeof(array)), (const char *const[]){"k", NULL});
}

static void bcc_is_taken_out(void **state)
{
    (void)state;
    uint8_t room[512], expected[512], left[512];
    struct bytes headers = make(room, sizeof(room), (const char *const[]){"CC one", "BCC two", "z 1"}, 3);
    struct bytes wanted = make(expected, sizeof(expected), (const char *const[]){"CC one", "z 1"}, 2);
    assert_int_equal(copies_without_bcc(headers, left), wanted.size);
    assert_memory_equal(left, wanted.data, wanted.size);
    headers = make(room, sizeof(room), (const char *const[]){"BCC two"}, 1);
    assert_int_equal(copies_without_bcc(headers, left), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_headers_are_found),
        cmocka_unit_test(other_types_are_refused),
        cmocka_unit_test(elements_that_are_no_strings_mean_nothing),
        cmocka_unit_test(bcc_is_taken_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
