#include "broker/name_list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect(struct name_list *list, const char *expected)
{
    uint8_t room[UINT8_MAX];
    struct bytes name;
    assert_true(name_list_next(list, room, &name));
    assert_int_equal(name.size, strlen(expected));
    assert_memory_equal(name.data, expected, name.size);
}

static void names_come_in_their_order(void **state)
{
    (void)state;
    struct name_list list = {0};
    uint8_t room[UINT8_MAX];
    struct bytes name;
    assert_false(name_list_next(&list, room, &name));
    for (const char *const *next = (const char *const[]){"a", "bc", "bc", "", "bc", NULL}; *next; next++)
        assert_true(name_list_add(&list, bytes_of_text(*next)));
    expect(&list, "a");
    expect(&list, "bc");
    assert_true(name_list_add(&list, bytes_of_text("later")));
    expect(&list, "");
    expect(&list, "bc");
    expect(&list, "later");
    assert_false(name_list_next(&list, room, &name));
    /* What was taken out may come again. */
    assert_true(name_list_add(&list, bytes_of_text("later")));
    expect(&list, "later");
    name_list_deinit(&list);
}

static void many_names_fit(void **state)
{
    (void)state;
    struct name_list list = {0};
    char text[UINT8_MAX + 1];
    for (unsigned i = 0; i < 3000; i++) {
        snprintf(text, sizeof(text), "%0*u", (int)(i % UINT8_MAX) + 1, i);
        assert_true(name_list_add(&list, bytes_of_text(text)));
    }
    for (unsigned i = 0; i < 3000; i++) {
        snprintf(text, sizeof(text), "%0*u", (int)(i % UINT8_MAX) + 1, i);
        expect(&list, text);
    }
    name_list_deinit(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_come_in_their_order),
        cmocka_unit_test(many_names_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
