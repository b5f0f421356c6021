#include "sources/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void read_as(const char *text, const char *expected)
{
    json_t *json = json_read(bytes_of_text(text));
    char *dumped = json ? json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    if (expected)
        assert_string_equal(dumped, expected);
    else
        assert_null(json);
    free(dumped);
    json_decref(json);
}

static void numbers_that_do_not_fit_are_kept(void **state)
{
    (void)state;
    read_as("{\"id\":18446744073709551615,\"n\":-9223372036854775808}", "{\"id\":\"18446744073709551615\",\"n\":\"-9223372036854775808\"}");
    read_as("9223372036854775807", "9223372036854775807");
    read_as("[-12345678901234567890123456789, 1, 1e400, -1E+999, \"1e400 \\\" 99999999999999999999\"]",
            "[\"-12345678901234567890123456789\",1,\"1e400\",\"-1E+999\",\"1e400 \\\" 99999999999999999999\"]");
    read_as("{\"a\\\\\":99999999999999999999}", "{\"a\\\\\":\"99999999999999999999\"}");
    read_as("1e400", "\"1e400\"");
}

static void zeros_in_texts_are_kept(void **state)
{
    (void)state;
    read_as("[\"a\\u0000b\"]", "[\"a\\u0000b\"]");
}

static void what_is_none_stays_none(void **state)
{
    (void)state;
    read_as("", NULL);
    read_as("a line", NULL);
    read_as("[099999999999999999999]", NULL);
    read_as("[99999999999999999999.]", NULL);
    read_as("[99999999999999999999e]", NULL);
    read_as("[99999999999999999999", NULL);
    read_as("[-]", NULL);
    read_as("{99999999999999999999:1", NULL);
    read_as("[\"99999999999999999999", NULL);
    read_as("[99999999999999999999 \"\\", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(numbers_that_do_not_fit_are_kept), cmocka_unit_test(zeros_in_texts_are_kept), cmocka_unit_test(what_is_none_stays_none)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
