#include "broker/connections.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)

static struct connections connections;

static int set_up(void **state)
{
    (void)state;
    connections_init(&connections, 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    connections_deinit(&connections);
    return 0;
}

static void add(uint64_t client, const char *user, uint32_t vhost)
{
    static const uint8_t facts[] = "\4nameS\0\0\0\4here";
    assert_int_equal(connections_add(&connections, client, TEXT(user), vhost, 5, bytes_of(facts, sizeof(facts) - 1)), GW_OK);
}

static void they_are_counted_by_vhost_and_by_user(void **state)
{
    (void)state;
    add(1, "alice", 1);
    add(2, "alice", 2);
    add(3, "bob", 2);
    assert_int_equal(connections_in(&connections, 1), 1);
    assert_int_equal(connections_in(&connections, 2), 2);
    assert_int_equal(connections_of(&connections, TEXT("alice")).connections, 2);
    connections_remove(&connections, 2);
    connections_remove(&connections, 2);   /* it is gone already */
    connections_remove(&connections, 4);   /* it never got in */
    assert_int_equal(connections_in(&connections, 2), 1);
    assert_int_equal(connections_of(&connections, TEXT("alice")).connections, 1);
    connections_remove(&connections, 1);
    assert_int_equal(connections_of(&connections, TEXT("alice")).connections, 0);
    assert_int_equal(connections.users.map.count, 1);
}

static void channels_go_with_their_connection(void **state)
{
    (void)state;
    add(1, "alice", 1);
    add(2, "alice", 1);
    connections_channel(&connections, 1, true);
    connections_channel(&connections, 1, true);
    connections_channel(&connections, 2, true);
    connections_channel(&connections, 2, false);
    connections_channel(&connections, 2, false);   /* one that was never told */
    connections_channel(&connections, 9, true);
    assert_int_equal(connections_of(&connections, TEXT("alice")).channels, 2);
    assert_int_equal(connections_find(&connections, 1)->channels, 2);
    connections_remove(&connections, 1);
    assert_int_equal(connections_of(&connections, TEXT("alice")).channels, 0);
}

static void one_is_found_by_its_name(void **state)
{
    (void)state;
    assert_null(connections_named(&connections, TEXT("here")));
    add(1, "alice", 1);
    assert_int_equal(connections_named(&connections, TEXT("here"))->client, 1);
    assert_int_equal(connections_named(&connections, TEXT("here"))->connected_ms, 5);
    assert_null(connections_named(&connections, TEXT("there")));
}

static void a_client_that_comes_again_counts_once(void **state)
{
    (void)state;
    add(1, "alice", 1);
    add(1, "bob", 2);
    assert_int_equal(connections_in(&connections, 1), 0);
    assert_int_equal(connections_in(&connections, 2), 1);
    assert_int_equal(connections_of(&connections, TEXT("alice")).connections, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(they_are_counted_by_vhost_and_by_user, set_up, tear_down),
        cmocka_unit_test_setup_teardown(channels_go_with_their_connection, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_is_found_by_its_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_client_that_comes_again_counts_once, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
