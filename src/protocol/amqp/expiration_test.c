#include "protocol/amqp/expiration.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void numbers(void **state)
{
    (void)state;
    static const struct { const char *text; uint64_t ms; } good[] = {
        {"0", 0}, {"5", 5}, {"+5", 5}, {"-0", 0}, {"007", 7}, {"315360000000", 315360000000u},
    };
    uint64_t ms;
    for (unsigned i = 0; i < 6; i++) {
        assert_true(amqp_expiration_read(bytes_of_text(good[i].text), &ms, NULL, 0));
        assert_int_equal(ms, good[i].ms);
    }
}

static void what_is_none(void **state)
{
    (void)state;
    static const struct { const char *text, *why; } bad[] = {
        {"", "no_integer"}, {"abc", "no_integer"}, {"-", "no_integer"}, {" 5", "no_integer"}, {"5x", "{leftover_string,\"x\"}"},
        {"1.5", "{leftover_string,\".5\"}"}, {"-1", "{value_negative,-1}"}, {"315360000001", "{value_too_large,315360000001}"},
        {"099999999999999999999999999", "{value_too_large,99999999999999999999999999}"},
    };
    uint64_t ms;
    char why[64];
    for (unsigned i = 0; i < 9; i++) {
        assert_false(amqp_expiration_read(bytes_of_text(bad[i].text), &ms, why, sizeof(why)));
        assert_string_equal(why, bad[i].why);
        assert_false(amqp_expiration_read(bytes_of_text(bad[i].text), &ms, NULL, 0));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(what_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
