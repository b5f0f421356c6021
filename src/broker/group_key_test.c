#include "broker/group_key.h"

#include "protocol/amqp/properties.h"
#include "store/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)

/* The key of a message with these properties; NULL: it has none. */
static const char *key_of(const char *text, const struct amqp_properties *properties)
{
    static char answer[300];
    uint8_t content[1024], list[512];
    char room[GROUP_KEY_ROOM];
    struct bytes key;
    unsigned where;
    size_t size = amqp_properties_encode(properties, list, sizeof(list));
    uint8_t *end = message_begin(content, TEXT("x"), TEXT("route"), bytes_of(list, size), 0);
    assert_true(group_key_parse(TEXT(text), &where));
    if (!group_key_of(bytes_of(content, (size_t)(end - content)), TEXT(text), where, room, &key))
        return NULL;
    memcpy(answer, key.data, key.size);
    answer[key.size] = 0;
    return answer;
}

static const char *key_of_raw(uint8_t type, const void *value, size_t size)
{
    uint8_t room[256];
    struct amqp_table_writer writer;
    struct amqp_properties properties = {.flags = AMQP_HEADERS};
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "another", TEXT("no"));
    amqp_table_put_raw(&writer, TEXT("k"), type, bytes_of(value, size));
    assert_true(amqp_table_finish(&writer, &properties.headers));
    return key_of("k", &properties);
}

static void test_numbers_are_their_texts(void **state)
{
    uint8_t whole[8], half[8];
    uint64_t bits;
    double real = 5;
    (void)state;
    memcpy(&bits, &real, 8);
    store_be64(whole, bits);
    real = 5.5;
    memcpy(&bits, &real, 8);
    store_be64(half, bits);
    assert_string_equal(key_of_raw('S', "\0\0\0\1" "5", 5), "5");
    assert_string_equal(key_of_raw('I', "\0\0\0\5", 4), "5");
    assert_string_equal(key_of_raw('b', "\5", 1), "5");
    assert_string_equal(key_of_raw('l', "\377\377\377\377\377\377\377\377", 8), "-1");
    assert_string_equal(key_of_raw('d', whole, 8), "5");
    assert_string_equal(key_of_raw('d', half, 8), "5.5");
    assert_string_equal(key_of_raw('D', "\0\0\0\0\5", 5), "5");
    assert_string_equal(key_of_raw('D', "\2\0\0\0\5", 5), "5e-2");
    assert_string_equal(key_of_raw('t', "\1", 1), "true");
    assert_string_equal(key_of_raw('x', "\0\0\0\2" "ab", 6), "ab");
    real = 1.0 / 0.0;
    memcpy(&bits, &real, 8);
    store_be64(half, bits);
    assert_string_equal(key_of_raw('d', half, 8), "inf");
}

static void test_what_is_no_key(void **state)
{
    (void)state;
    assert_null(key_of_raw('S', "\0\0\0\0", 4));
    assert_null(key_of_raw('V', "", 0));
    assert_null(key_of_raw('F', "\0\0\0\0", 4));
    assert_null(key_of_raw('A', "\0\0\0\0", 4));
    assert_null(key_of("k", &(struct amqp_properties){0}));
    assert_null(key_of("k", &(struct amqp_properties){.flags = AMQP_HEADERS}));
    assert_null(key_of("property:type", &(struct amqp_properties){.flags = AMQP_HEADERS}));
    assert_null(key_of("property:type", &(struct amqp_properties){.flags = AMQP_TYPE}));
}

static void test_properties(void **state)
{
    const struct amqp_properties properties = {.flags = AMQP_CORRELATION_ID | AMQP_USER_ID | AMQP_HEADERS, .correlation_id = TEXT("c"), .user_id = TEXT("u")};
    (void)state;
    assert_string_equal(key_of("property:correlation-id", &properties), "c");
    assert_string_equal(key_of("property:user-id", &properties), "u");
    assert_string_equal(key_of("property:routing-key", &properties), "route");
}

static void test_what_a_queue_may_say(void **state)
{
    char longest[GROUP_KEY_MAX + 2];
    unsigned where;
    (void)state;
    memset(longest, 'k', sizeof(longest));
    assert_true(group_key_parse(bytes_of(longest, GROUP_KEY_MAX), &where));
    assert_int_equal(where, GROUP_BY_HEADER);
    assert_false(group_key_parse(bytes_of(longest, GROUP_KEY_MAX + 1), &where));
    assert_false(group_key_parse(TEXT(""), &where));
    assert_false(group_key_parse(TEXT("property:"), &where));
    assert_false(group_key_parse(TEXT("property:headers"), &where));
    assert_true(group_key_parse(TEXT("property"), &where));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_are_their_texts),
        cmocka_unit_test(test_what_is_no_key),
        cmocka_unit_test(test_properties),
        cmocka_unit_test(test_what_a_queue_may_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
