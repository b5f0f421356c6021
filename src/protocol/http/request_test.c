#include "protocol/http/request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_text(struct bytes bytes, const char *text)
{
    assert_int_equal(bytes.size, strlen(text));
    if (bytes.size)
        assert_memory_equal(bytes.data, text, bytes.size);
}

static void a_target_is_split(void **state)
{
    (void)state;
    struct bytes authority = {0}, path, query;
    assert_true(http_target_split(bytes_of_text("/a/b?c=d?e"), &authority, &path, &query));
    assert_text(path, "/a/b");
    assert_text(query, "c=d?e");
    assert_text(authority, "");
    assert_true(http_target_split(bytes_of_text("HTTP://host:1/a"), &authority, &path, &query));
    assert_text(authority, "host:1");
    assert_text(path, "/a");
    assert_text(query, "");
    assert_true(http_target_split(bytes_of_text("http://host?x"), &authority, &path, &query));
    assert_text(path, "/");
    assert_text(query, "x");
    assert_true(http_target_split(bytes_of_text("*"), &authority, &path, &query));
    assert_false(http_target_split(bytes_of_text("a"), &authority, &path, &query));
    assert_false(http_target_split(bytes_of_text(""), &authority, &path, &query));
    static const char *const bad[] = {"http:///a", "http://u@host/a", "http://u:p@host/a", "/a#b", "http://host/#", "http://host:x/", "http://a b/"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(http_target_split(bytes_of_text(bad[i]), &authority, &path, &query));
}

static void hosts_are_told_from_what_is_none(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "localhost:15672", "127.0.0.1", "[::1]", "[::ffff:1.2.3.4]:80", "a_b.example.", "a:", "a%41"};
    static const char *const bad[] = {"", ":80", "a b", "a/b", "http://a", "u@a", "a:b",
                                      "a:65536", "a:99999999999999999999", "a:80:80", "[::1", "[::1]x", "[]", "[x]", "a,b", "a\\b", "a?", "a#", "\xc3\xa4",
                                      "::1", "[::1]:x", "a\"", "<a>"};
    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(http_is_authority(bytes_of_text(good[i])));
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(http_is_authority(bytes_of_text(bad[i])));
}

static void what_is_percent_encoded_is_decoded(void **state)
{
    (void)state;
    uint8_t room[64];
    struct bytes out;
    assert_true(http_decode(bytes_of_text("%2f+a%C3%a4%"), false, room, &out) == false);
    assert_true(http_decode(bytes_of_text("%2f+a%C3%a4"), false, room, &out));
    assert_text(out, "/+a\xc3\xa4");
    assert_true(http_decode(bytes_of_text("a+b%2B"), true, room, &out));
    assert_text(out, "a b+");
    assert_false(http_decode(bytes_of_text("%00"), false, room, &out));
    assert_false(http_decode(bytes_of_text("%4"), false, room, &out));
    assert_false(http_decode(bytes_of_text("%gg"), false, room, &out));
}

static void paths_and_queries_are_walked(void **state)
{
    (void)state;
    struct bytes rest = bytes_of_text("/queues//m"), name, value;
    assert_true(http_path_next(&rest, &name));
    assert_text(name, "queues");
    assert_true(http_path_next(&rest, &name));
    assert_text(name, "");
    assert_true(http_path_next(&rest, &name));
    assert_text(name, "m");
    assert_false(http_path_next(&rest, &name));
    rest = bytes_of_text("a=1&&b&c=x=y");
    assert_true(http_query_next(&rest, &name, &value));
    assert_text(name, "a");
    assert_text(value, "1");
    assert_true(http_query_next(&rest, &name, &value));
    assert_text(name, "b");
    assert_text(value, "");
    assert_true(http_query_next(&rest, &name, &value));
    assert_text(value, "x=y");
    assert_false(http_query_next(&rest, &name, &value));
}

static void fields_are_found(void **state)
{
    (void)state;
    const struct http_field fields[] = {
        {bytes_of_text("Connection"), bytes_of_text("Upgrade,  Keep-Alive;x=y")},
        {bytes_of_text("connection"), bytes_of_text("close")},
    };
    struct http_request request = {.fields = fields, .field_count = 2};
    struct bytes value;
    assert_true(http_field_find(&request, "connection", &value));
    assert_text(value, "Upgrade,  Keep-Alive;x=y");
    assert_true(http_field_has(&request, "connection", "keep-alive"));
    assert_true(http_field_has(&request, "connection", "close"));
    assert_false(http_field_has(&request, "connection", "keep"));
    assert_false(http_field_find(&request, "host", &value));
    uint64_t number;
    assert_true(http_number(bytes_of_text("18"), &number) && number == 18);
    assert_false(http_number(bytes_of_text(""), &number));
    assert_false(http_number(bytes_of_text("-1"), &number));
    assert_false(http_number(bytes_of_text("12345678901234567890"), &number));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_target_is_split),
        cmocka_unit_test(hosts_are_told_from_what_is_none),
        cmocka_unit_test(what_is_percent_encoded_is_decoded),
        cmocka_unit_test(paths_and_queries_are_walked),
        cmocka_unit_test(fields_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
