#include "broker/access.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)

static struct access *access_of(const char *configure, const char *write, const char *read)
{
    struct access *access = access_new(TEXT("alice"));
    assert_non_null(access);
    const struct topology_change change = {.kind = CHANGE_PERMISSION_PUT, .source = TEXT(configure), .routing_key = TEXT(write), .arguments = TEXT(read)};
    assert_int_equal(access_grant(access, &change), GW_OK);
    return access;
}

static enum gw_err topic(struct access *access, const char *exchange, const char *write, const char *read)
{
    const struct topology_change change = {.kind = CHANGE_TOPIC_PERMISSION_PUT, .source = TEXT(exchange), .routing_key = TEXT(write), .arguments = TEXT(read)};
    return access_grant_topic(access, TEXT("v.1"), &change);
}

static void patterns_match_anywhere_unless_they_say_where(void **state)
{
    (void)state;
    struct access *access = access_of("^mine-", "b", "");
    assert_true(access_allows(access, ACCESS_CONFIGURE, TEXT("mine-1")));
    assert_false(access_allows(access, ACCESS_CONFIGURE, TEXT("not mine-1")));
    assert_true(access_allows(access, ACCESS_WRITE, TEXT("abc")));
    assert_false(access_allows(access, ACCESS_WRITE, TEXT("acc")));
    assert_false(access_allows(access, ACCESS_READ, TEXT("abc")));
    assert_false(access->everything);
    assert_false(access->writes_everything);
    access_free(access);
}

static void the_default_exchange_is_called_amq_default(void **state)
{
    (void)state;
    struct access *access = access_of("", "^amq\\.default$", "");
    assert_true(access_allows(access, ACCESS_WRITE, TEXT("")));
    assert_false(access_allows(access, ACCESS_READ, TEXT("")));
    access_free(access);
}

static void who_was_granted_nothing_may_do_nothing(void **state)
{
    (void)state;
    struct access *access = access_of(".*", ".*", ".*");
    assert_true(access->everything);
    access_revoke(access);
    assert_false(access->everything);
    assert_false(access_allows(access, ACCESS_READ, TEXT("q")));
    assert_false(access_allows(NULL, ACCESS_READ, TEXT("q")));
    assert_true(access_is_empty(access));
    access_free(access);
}

static void topic_permissions_stand_for_user_and_vhost(void **state)
{
    (void)state;
    struct access *access = access_of(".*", ".*", ".*");
    assert_int_equal(topic(access, "amq.topic", "^{username}\\.{vhost}\\.", ".*"), GW_OK);
    assert_false(access->writes_everything);
    assert_true(access_allows_key(access, ACCESS_WRITE, TEXT("amq.topic"), TEXT("alice.v.1.x")));
    assert_false(access_allows_key(access, ACCESS_WRITE, TEXT("amq.topic"), TEXT("bob.v.1.x")));
    assert_true(access_allows_key(access, ACCESS_READ, TEXT("amq.topic"), TEXT("bob")));
    assert_true(access_allows_key(access, ACCESS_WRITE, TEXT("other"), TEXT("bob")));
    assert_int_equal(topic(access, "amq.topic", "", ".*"), GW_OK);   /* in place of the one before */
    assert_false(access_allows_key(access, ACCESS_WRITE, TEXT("amq.topic"), TEXT("alice.v.1.x")));
    access_revoke_topic(access, TEXT("other"));
    assert_false(access->everything);
    access_revoke_topic(access, TEXT(""));
    assert_true(access->everything);
    access_free(access);
}

static void what_does_not_compile_changes_nothing(void **state)
{
    (void)state;
    struct access *access = access_of("a", "a", "a");
    const struct topology_change change = {.kind = CHANGE_PERMISSION_PUT, .source = TEXT("b"), .routing_key = TEXT("("), .arguments = TEXT("b")};
    assert_int_equal(access_grant(access, &change), GW_ERR_INVALID);
    assert_int_equal(topic(access, "x", "b", "["), GW_ERR_INVALID);
    assert_true(access_allows(access, ACCESS_CONFIGURE, TEXT("a")));
    assert_null(access->topics);
    access_free(access);
}

static void a_pattern_that_takes_for_ever_does_not_match(void **state)
{
    (void)state;
    struct access *access = access_of("^(a+)+$", ".*", ".*");
    assert_false(access_allows(access, ACCESS_CONFIGURE, TEXT("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab")));
    access_free(access);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_match_anywhere_unless_they_say_where),
        cmocka_unit_test(the_default_exchange_is_called_amq_default),
        cmocka_unit_test(who_was_granted_nothing_may_do_nothing),
        cmocka_unit_test(topic_permissions_stand_for_user_and_vhost),
        cmocka_unit_test(what_does_not_compile_changes_nothing),
        cmocka_unit_test(a_pattern_that_takes_for_ever_does_not_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
