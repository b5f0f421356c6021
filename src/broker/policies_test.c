#include "broker/policies.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)

static struct policies policies;

static enum gw_err put(const char *name, const char *pattern, const char *definition, unsigned apply_to, int64_t priority)
{
    const struct topology_change change = {.kind = CHANGE_POLICY_PUT, .name = TEXT(name), .source = TEXT(pattern), .arguments = TEXT(definition), .id = apply_to,
                                           .owner = (uint64_t)priority};
    return policies_put(&policies, &change);
}

static void expect(const char *queue, enum policy_target target, const char *policy)
{
    const struct policy *found = policies_match(policies.first, TEXT(queue), target);
    assert_true(policy ? found && bytes_equal(found->name, TEXT(policy)) : !found);
}

static int tear_down(void **state)
{
    (void)state;
    policies_deinit(&policies);
    return 0;
}

static void the_highest_priority_counts_then_the_first_name(void **state)
{
    (void)state;
    put("b", "^q", "{}", POLICY_ALL, 0);
    put("a", "^q", "{}", POLICY_ALL, 0);
    put("low", ".*", "{}", POLICY_ALL, -1);
    expect("q1", POLICY_CLASSIC_QUEUES, "a");
    put("high", "1$", "{}", POLICY_QUEUES, 7);
    expect("q1", POLICY_CLASSIC_QUEUES, "high");
    expect("q1", POLICY_EXCHANGES, "a");
    expect("other", POLICY_STREAMS, "low");
    put("high", "2$", "{}", POLICY_QUEUES, 7);   /* in place of the one before */
    expect("q1", POLICY_CLASSIC_QUEUES, "a");
    assert_int_equal(policies.count, 4);
    assert_true(policies_delete(&policies, TEXT("a")));
    assert_false(policies_delete(&policies, TEXT("a")));
    expect("q1", POLICY_CLASSIC_QUEUES, "b");
}

static void a_definition_that_is_not_for_the_type_is_passed_over(void **state)
{
    (void)state;
    put("quorum only", ".*", "{\"delivery-limit\":3}", POLICY_QUEUES, 9);
    put("any", ".*", "{\"max-length\":3}", POLICY_QUEUES, 1);
    expect("q", POLICY_CLASSIC_QUEUES, "any");
    expect("q", POLICY_QUORUM_QUEUES, "quorum only");
    expect("q", POLICY_EXCHANGES, NULL);
}

static void a_pattern_that_does_not_compile_is_no_policy(void **state)
{
    (void)state;
    assert_int_equal(put("p", "*", "{}", POLICY_ALL, 0), GW_ERR_INVALID);
    assert_int_equal(policies.count, 0);
    assert_int_equal(put("p", "", "{}", POLICY_ALL, 0), GW_OK);
    expect("anything", POLICY_EXCHANGES, "p");
}

static void parameters_are_found_by_component_and_name(void **state)
{
    (void)state;
    struct parameter *first = NULL;
    const struct topology_change one = {.source = TEXT("shovel"), .name = TEXT("n"), .arguments = TEXT("1")};
    const struct topology_change two = {.source = TEXT("federation"), .name = TEXT("n"), .arguments = TEXT("2")};
    const struct topology_change again = {.source = TEXT("shovel"), .name = TEXT("n"), .arguments = TEXT("3")};
    assert_int_equal(parameter_put(&first, &one) || parameter_put(&first, &two) || parameter_put(&first, &again), 0);
    assert_true(bytes_equal(parameter_find(first, TEXT("shovel"), TEXT("n"))->value, TEXT("3")));
    assert_true(bytes_equal(parameter_find(first, TEXT("federation"), TEXT("n"))->value, TEXT("2")));
    assert_true(parameter_delete(&first, TEXT("shovel"), TEXT("n")));
    assert_null(parameter_find(first, TEXT("shovel"), TEXT("n")));
    parameters_free(first);
}

static void names_of_targets_read_as_they_are_written(void **state)
{
    (void)state;
    for (const char *const *name = (const char *const[]){"all", "queues", "exchanges", "classic_queues", "quorum_queues", "streams", NULL}; *name; name++) {
        unsigned apply_to;
        assert_true(policy_target_parse(TEXT(*name), &apply_to));
        assert_string_equal(policy_target_name(apply_to), *name);
    }
    unsigned none;
    assert_false(policy_target_parse(TEXT("nothing"), &none));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_highest_priority_counts_then_the_first_name, tear_down),
        cmocka_unit_test_teardown(a_definition_that_is_not_for_the_type_is_passed_over, tear_down),
        cmocka_unit_test_teardown(a_pattern_that_does_not_compile_is_no_policy, tear_down),
        cmocka_unit_test(parameters_are_found_by_component_and_name),
        cmocka_unit_test(names_of_targets_read_as_they_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
