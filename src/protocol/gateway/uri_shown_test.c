#include "protocol/gateway/uri_shown.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static bool is_poor;

static void *allocate(size_t size) { return is_poor ? NULL : malloc(size); }

static void passwords_are_hidden(void **state)
{
    static const struct { const char *uri, *shown; } cases[] = {
        {"amqp://ann:sesame@there:5672/v?exchange=x", "amqp://ann:(hidden)@there:5672/v?exchange=x"}, {"amqp://ann:se@me@there", "amqp://ann:(hidden)@there"},
        {"amqp://ann:@there", "amqp://ann:(hidden)@there"}, {"ann:sesame@there", "ann:(hidden)@there"}, {"amqp://there:5672/a:b@c", NULL}, {"amqp://ann@there", NULL},
        {"http://there/?a:b@c", NULL}, {"", NULL}, {NULL, NULL}};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_t *shown = uri_shown(cases[i].uri), *object = json_pack("{s:s?, s:i}", "sink", cases[i].uri, "other", 1);
        uri_hide(object, "sink");
        const char *left = json_string_value(json_object_get(object, "sink"));
        if (cases[i].shown) {
            assert_string_equal(json_string_value(shown), cases[i].shown);
            assert_string_equal(left, cases[i].shown);
        } else {
            assert_null(shown);
            assert_true(left ? strcmp(left, cases[i].uri) == 0 : !cases[i].uri);
        }
        json_decref(shown);
        json_decref(object);
    }
}

static void what_cannot_be_hidden_is_not_shown_nomem(void **state)
{
    json_t *object = json_pack("{s:s, s:s}", "sink", "amqp://ann:sesame@there", "plain", "amqp://there");
    (void)state;
    is_poor = true;
    uri_hide(object, "sink");
    uri_hide(object, "plain");
    uri_hide(object, "none");
    is_poor = false;
    assert_null(json_object_get(object, "sink"));
    assert_string_equal(json_string_value(json_object_get(object, "plain")), "amqp://there");
    json_decref(object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(passwords_are_hidden), cmocka_unit_test(what_cannot_be_hidden_is_not_shown_nomem)};
    json_set_alloc_funcs(allocate, free);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
