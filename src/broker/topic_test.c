#include "broker/topic.h"

#include "broker/topology.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void count(void *owner, struct binding *binding)
{
    (void)binding;
    ++*(unsigned *)owner;
}

static unsigned matches(const char *pattern, const char *key)
{
    struct topic_node *root = topic_new(1);
    struct binding binding = {.routing_key = bytes_of_text(pattern)};
    unsigned found = 0;
    assert_int_equal(topic_add(root, &binding), GW_OK);
    topic_match(root, bytes_of_text(key), count, &found);
    topic_remove(root, &binding);
    unsigned after = 0;
    topic_match(root, bytes_of_text(key), count, &after);
    assert_int_equal(after, 0);
    topic_free(root);
    return found;
}

static void words_and_wildcards_match_as_the_specification_says(void **state)
{
    static const struct { const char *pattern, *key; unsigned found; } cases[] = {
        {"a.b", "a.b", 1}, {"a.b", "a", 0}, {"a.b", "a.b.c", 0}, {"*", "a", 1}, {"*", "", 0}, {"*", "a.b", 0}, {"#", "", 1}, {"#", "a.b.c", 1},
        {"a.#", "a", 1}, {"a.#", "a.b.c", 1}, {"#.c", "a.b.c", 1}, {"#.c", "c", 1}, {"#.c", "a.b", 0}, {"a.*.c", "a.b.c", 1}, {"a.*.c", "a.c", 0},
        {"a.#.c", "a.c", 1}, {"a.#.c", "a.x.y.c", 1}, {"#.#", "", 1}, {"#.#.#", "a.b", 1}, {"*.#", "", 0}, {"*.#", "a", 1}, {"#.*", "a", 1},
        {"#.*", "", 0}, {"a..b", "a..b", 1}, {"a.*.b", "a..b", 1}, {"", "", 1}, {"", "a", 0}, {"#.b.#", "a.b.c", 1}, {"#.b.#", "a.c", 0},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        if (matches(cases[i].pattern, cases[i].key) != cases[i].found)
            fail_msg("%s against %s", cases[i].pattern, cases[i].key);
}

static void a_key_made_to_be_slow_is_not(void **state)
{
    (void)state;
    char pattern[256] = "", key[256] = "";
    for (unsigned i = 0; i < 60; i++)
        strcat(pattern, "#.a.");
    strcat(pattern, "b");
    for (unsigned i = 0; i < 120; i++)
        strcat(key, "a.");
    strcat(key, "c");
    assert_int_equal(matches(pattern, key), 0);   /* by trying all ways it would not end in this world's time */
}

static void every_binding_is_found_once(void **state)
{
    (void)state;
    struct topic_node *root = topic_new(1);
    struct binding bindings[] = {{.routing_key = bytes_of_text("a.#")}, {.routing_key = bytes_of_text("#.#.a.#")}, {.routing_key = bytes_of_text("a.*")},
                                 {.routing_key = bytes_of_text("a.*")}, {.routing_key = bytes_of_text("b")}};
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(topic_add(root, &bindings[i]), GW_OK);
    unsigned found = 0;
    topic_match(root, bytes_of_text("a.a"), count, &found);
    assert_int_equal(found, 4);
    for (unsigned i = 0; i < 5; i++)
        topic_remove(root, &bindings[i]);
    topic_free(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_and_wildcards_match_as_the_specification_says),
        cmocka_unit_test(a_key_made_to_be_slow_is_not),
        cmocka_unit_test(every_binding_is_found_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
