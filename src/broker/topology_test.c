#include "broker/topology.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)

static struct topology topology;

static void apply(struct topology_change change)
{
    assert_int_equal(topology_apply(&topology, &change), GW_OK);
}

static void put_vhost(uint32_t id, const char *name)
{
    apply((struct topology_change){.kind = CHANGE_VHOST_PUT, .vhost = id, .name = TEXT(name), .source = TEXT("a description")});
}

static void declare(uint32_t vhost, const char *queue, uint64_t number)
{
    apply((struct topology_change){.kind = CHANGE_QUEUE_DECLARE, .vhost = vhost, .name = TEXT(queue), .id = number << 8, .flags = TOPOLOGY_DURABLE});
}

static int set_up(void **state)
{
    (void)state;
    return topology_init(&topology, 1);
}

static int tear_down(void **state)
{
    (void)state;
    topology_deinit(&topology);
    return 0;
}

static void a_vhost_is_a_world_of_names_of_its_own(void **state)
{
    (void)state;
    put_vhost(2, "other");
    declare(VHOST_DEFAULT, "q", 1);
    declare(2, "q", 2);
    apply((struct topology_change){.kind = CHANGE_BIND, .vhost = 2, .source = TEXT("amq.fanout"), .name = TEXT("q"), .routing_key = TEXT("k")});
    struct vhost *slash = topology_vhost(&topology, TEXT("/")), *other = topology_vhost(&topology, TEXT("other"));
    assert_int_equal(topology_queue(slash, TEXT("q"))->id, 1 << 8);
    assert_int_equal(topology_queue(other, TEXT("q"))->id, 2 << 8);
    assert_ptr_equal(topology_queue(other, TEXT("q"))->vhost, other);
    assert_int_equal(slash->bindings.map.count, 0);
    assert_int_equal(other->bindings.map.count, 1);
    for (const char *const *name = (const char *const[]){"", "amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match", "amq.rabbitmq.trace", NULL}; *name; name++)
        assert_ptr_equal(topology_exchange(other, TEXT(*name))->vhost, other);
}

/* A snapshot may be newer than where the log is read from: what that says of a queue which was deleted since is not true of the one that has its name now. */
static void what_was_said_of_a_queue_goes_with_it_when_the_log_is_read_again(void **state)
{
    (void)state;
    const struct vhost *slash = topology_vhost(&topology, TEXT("/"));
    const struct topology_change old[] = {
        {.kind = CHANGE_QUEUE_DECLARE, .vhost = VHOST_DEFAULT, .name = TEXT("q"), .id = 1 << 8, .flags = TOPOLOGY_DURABLE},
        {.kind = CHANGE_BIND, .vhost = VHOST_DEFAULT, .source = TEXT("amq.topic"), .name = TEXT("q"), .routing_key = TEXT("old")},
        {.kind = CHANGE_BIND, .vhost = VHOST_DEFAULT, .source = TEXT("amq.topic"), .name = TEXT("q"), .routing_key = TEXT("both")},
        {.kind = CHANGE_QUEUE_ARGUMENTS, .vhost = VHOST_DEFAULT, .name = TEXT("q"), .arguments = bytes_of("\x0dx-max-length\x49\0\0\0\5", 18)},
        {.kind = CHANGE_QUEUE_DELETE, .vhost = VHOST_DEFAULT, .id = 1 << 8},
    };
    const struct topology_change new[] = {
        {.kind = CHANGE_QUEUE_DECLARE, .vhost = VHOST_DEFAULT, .name = TEXT("q"), .id = 2 << 8, .flags = TOPOLOGY_DURABLE},
        {.kind = CHANGE_BIND, .vhost = VHOST_DEFAULT, .source = TEXT("amq.topic"), .name = TEXT("q"), .routing_key = TEXT("new")},
        {.kind = CHANGE_BIND, .vhost = VHOST_DEFAULT, .source = TEXT("amq.topic"), .name = TEXT("q"), .routing_key = TEXT("both")},
    };
    const unsigned old_count = sizeof(old) / sizeof(old[0]), new_count = sizeof(new) / sizeof(new[0]);
    for (unsigned first = 0; first < old_count; first++) {   /* the snapshot, and the log from wherever */
        for (unsigned i = 0; i < new_count; i++)
            apply(new[i]);
        for (unsigned i = first; i < old_count; i++)
            (void)topology_apply(&topology, &old[i]);        /* the declaration is refused: the name is taken */
        for (unsigned i = 0; i < new_count; i++)
            apply(new[i]);
        const struct queue_entry *queue = topology_queue(slash, TEXT("q"));
        assert_int_equal(queue->id, 2 << 8);
        assert_int_equal(queue->arguments.size, 0);
        assert_int_equal(slash->bindings.map.count, 2);
        assert_null(topology_binding(slash, &old[1]));
        assert_non_null(topology_binding(slash, &new[1]));
        assert_non_null(topology_binding(slash, &new[2]));
        apply((struct topology_change){.kind = CHANGE_QUEUE_DELETE, .vhost = VHOST_DEFAULT, .id = 2 << 8});
    }
}

static void deleting_a_vhost_takes_all_that_is_in_it_and_nothing_else(void **state)
{
    (void)state;
    put_vhost(2, "other");
    declare(VHOST_DEFAULT, "q", 1);
    declare(2, "q", 2);
    apply((struct topology_change){.kind = CHANGE_BIND, .vhost = 2, .source = TEXT("amq.topic"), .name = TEXT("q"), .routing_key = TEXT("a.#")});
    apply((struct topology_change){.kind = CHANGE_VHOST_DELETE, .vhost = 2});
    assert_null(topology_vhost(&topology, TEXT("other")));
    assert_null(topology_queue_by_id(&topology, 2 << 8));
    assert_non_null(topology_queue_by_id(&topology, 1 << 8));
    /* What the log says again of it is passed over. */
    const struct topology_change late = {.kind = CHANGE_QUEUE_DECLARE, .vhost = 2, .name = TEXT("late"), .id = 3 << 8};
    assert_int_equal(topology_apply(&topology, &late), GW_ERR_INVALID);
}

static enum gw_err copy(void *owner, const struct topology_change *change)
{
    uint32_t size = topology_change_size(change);
    uint8_t *bytes = malloc(size);
    struct topology_change read;
    assert_non_null(bytes);
    topology_change_write(change, bytes);
    assert_true(topology_change_read(bytes_of(bytes, size), &read));
    assert_false(topology_change_read(bytes_of(bytes, size - 1), &read));
    assert_true(topology_change_read(bytes_of(bytes, size), &read));
    enum gw_err err = topology_apply(owner, &read);
    free(bytes);
    return err;
}

static void a_dump_rebuilds_it(void **state)
{
    (void)state;
    struct topology again;
    put_vhost(2, "other");
    put_vhost(3, "third");
    put_vhost(4, "fourth");
    declare(3, "q", 7);
    apply((struct topology_change){.kind = CHANGE_BIND, .vhost = 3, .source = TEXT("amq.topic"), .name = TEXT("q"), .routing_key = TEXT("a.#")});
    apply((struct topology_change){.kind = CHANGE_VHOST_DELETE, .vhost = VHOST_DEFAULT});
    apply((struct topology_change){.kind = CHANGE_VHOST_DELETE, .vhost = 4});
    apply((struct topology_change){.kind = CHANGE_USER_PUT, .name = TEXT("alice"), .arguments = TEXT("monitoring,policymaker"), .secret = TEXT("1234abc"),
                                   .id = HASH_MD5});
    apply((struct topology_change){.kind = CHANGE_USER_LIMITS, .name = TEXT("alice"), .id = 5, .owner = TOPOLOGY_UNLIMITED});
    apply((struct topology_change){.kind = CHANGE_VHOST_LIMITS, .vhost = 3, .id = TOPOLOGY_UNLIMITED, .owner = 9});
    apply((struct topology_change){.kind = CHANGE_PERMISSION_PUT, .vhost = 3, .name = TEXT("alice"), .source = TEXT("c"), .routing_key = TEXT("w"),
                                   .arguments = TEXT("r")});
    apply((struct topology_change){.kind = CHANGE_TOPIC_PERMISSION_PUT, .vhost = 3, .name = TEXT("alice"), .source = TEXT("amq.topic"),
                                   .routing_key = TEXT("^{vhost}"), .arguments = TEXT("r")});
    apply((struct topology_change){.kind = CHANGE_POLICY_PUT, .vhost = 3, .name = TEXT("p"), .source = TEXT("^q"), .arguments = TEXT("{\"max-length\":5}"),
                                   .id = POLICY_QUEUES, .owner = (uint64_t)-2});
    apply((struct topology_change){.kind = CHANGE_POLICY_PUT, .vhost = 3, .flags = TOPOLOGY_OPERATOR, .name = TEXT("p"), .source = TEXT("^q"),
                                   .arguments = TEXT("{\"max-length\":3}"), .id = POLICY_ALL});
    apply((struct topology_change){.kind = CHANGE_PARAMETER_PUT, .vhost = 3, .name = TEXT("n"), .source = TEXT("shovel"), .arguments = TEXT("{}")});
    apply((struct topology_change){.kind = CHANGE_PARAMETER_PUT, .name = TEXT("cluster_name"), .arguments = TEXT("\"x\"")});
    assert_int_equal(topology_init(&again, 2), GW_OK);
    assert_int_equal(topology_dump(&topology, copy, &again), GW_OK);
    assert_null(topology_vhost(&again, TEXT("/")));
    struct vhost *third = topology_vhost(&again, TEXT("third"));
    assert_int_equal(third->id, 3);
    assert_true(bytes_equal(third->description, TEXT("a description")));
    assert_int_equal(third->bindings.map.count, 1);
    assert_int_equal(topology_queue(third, TEXT("q"))->id, 7 << 8);
    assert_int_equal(topology_queue(third, TEXT("q"))->settings->max_length, 3);
    const struct user *alice = topology_user(&again, TEXT("alice"));
    assert_true(user_is_tagged(alice, "monitoring") && user_is_tagged(alice, "policymaker") && !user_is_tagged(alice, "monitor"));
    assert_int_equal(alice->hash, HASH_MD5);
    assert_int_equal(alice->max_connections, 5);
    assert_true(alice->max_channels == TOPOLOGY_UNLIMITED);
    assert_int_equal(third->max_queues, 9);
    const struct access *access = topology_access(third, TEXT("alice"));
    assert_true(access_allows(access, ACCESS_WRITE, TEXT("w")) && !access_allows(access, ACCESS_WRITE, TEXT("r")));
    assert_true(access_allows_key(access, ACCESS_WRITE, TEXT("amq.topic"), TEXT("third.x")) && !access_allows_key(access, ACCESS_WRITE, TEXT("amq.topic"), TEXT("x")));
    assert_int_equal(third->policies.first->priority, -2);
    assert_non_null(parameter_find(third->parameters, TEXT("shovel"), TEXT("n")));
    assert_non_null(parameter_find(again.parameters, TEXT(""), TEXT("cluster_name")));
    assert_int_equal(again.next_vhost, 5);   /* that of the deleted one is not used again */
    topology_deinit(&again);
}

static void policies_change_the_settings_of_queues_that_are_there(void **state)
{
    (void)state;
    declare(VHOST_DEFAULT, "q", 1);
    declare(VHOST_DEFAULT, "other", 2);
    const struct vhost *slash = topology_vhost(&topology, TEXT("/"));
    assert_null(topology_queue(slash, TEXT("q"))->settings);
    apply((struct topology_change){.kind = CHANGE_POLICY_PUT, .vhost = VHOST_DEFAULT, .name = TEXT("p"), .source = TEXT("^q"),
                                   .arguments = TEXT("{\"max-length\":5}"), .id = POLICY_QUEUES});
    assert_int_equal(topology_queue(slash, TEXT("q"))->settings->max_length, 5);
    assert_null(topology_queue(slash, TEXT("other"))->settings);
    apply((struct topology_change){.kind = CHANGE_POLICY_DELETE, .vhost = VHOST_DEFAULT, .name = TEXT("p")});
    assert_null(topology_queue(slash, TEXT("q"))->settings);
}

static void with_a_user_go_its_permissions(void **state)
{
    (void)state;
    apply((struct topology_change){.kind = CHANGE_USER_PUT, .name = TEXT("bob")});
    apply((struct topology_change){.kind = CHANGE_PERMISSION_PUT, .vhost = VHOST_DEFAULT, .name = TEXT("bob"), .source = TEXT(".*"), .routing_key = TEXT(".*"),
                                   .arguments = TEXT(".*")});
    apply((struct topology_change){.kind = CHANGE_USER_DELETE, .name = TEXT("bob")});
    assert_null(topology_access(topology_vhost(&topology, TEXT("/")), TEXT("bob")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_vhost_is_a_world_of_names_of_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_said_of_a_queue_goes_with_it_when_the_log_is_read_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(deleting_a_vhost_takes_all_that_is_in_it_and_nothing_else, set_up, tear_down),
        cmocka_unit_test_setup_teardown(policies_change_the_settings_of_queues_that_are_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(with_a_user_go_its_permissions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_dump_rebuilds_it, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
