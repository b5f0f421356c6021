/* Vhosts on a disk that fails: the machine goes down at any operation while one is deleted and made again. What is in it is there whole, or not at all. */
#include "broker/test_broker.h"
#include "broker/worker_internal.h"
#include "store/test_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)
#define QUEUES 8u

static struct test_broker test;
static struct test_disk *disk;
static struct test_client *client;

static void open_broker(void)
{
    test_broker_open(&test, 2, 3, test_disk_face(disk), 0);
    client = test_client_new(&test, 1);
}

/* Everybody does what there is to do, the disk too. A broken disk is asked for ever. */
static void go_on(void)
{
    unsigned broken = 0;
    do
        test_settle_down(&test);
    while (test_disk_step(disk) && (broken += test_disk_crashed(disk)) < 20);
}

static void crash(enum test_disk_loss loss)
{
    test_disk_run(disk);
    if (!test_disk_crashed(disk))
        test_disk_crash_at(disk, test_disk_operations(disk) + 1);
    test_client_free(client);
    broker_close(test.broker);
    broker_free(test.broker);
    test_disk_run(disk);
    test_disk_restart(disk, loss);
    open_broker();
}

/* Was it done? */
static bool ask(struct request request)
{
    unsigned before = client->count;
    client_request(&client->client, &request);
    go_on();
    for (unsigned i = before; i < client->count; i++)
        if (client->events[i].kind == EVENT_REPLY)
            return !client->events[i].reply.code;
    return false;
}

static bool change(struct topology_change change)
{
    return ask((struct request){.kind = REQUEST_CHANGE, .change = &change, .vhost = TEXT("v")});
}

static const struct topology *topology(void)
{
    return &test.workers[0]->topology;
}

static const char *queue_name(unsigned i)
{
    static char name[8];
    snprintf(name, sizeof(name), "q%u", i);
    return name;
}

static bool make_vhost(void)
{
    return change((struct topology_change){.kind = CHANGE_VHOST_PUT, .name = TEXT("v")}) &&
           change((struct topology_change){.kind = CHANGE_PERMISSION_PUT, .name = TEXT("guest"), .source = TEXT(".*"), .routing_key = TEXT(".*"),
                                           .arguments = TEXT(".*")});
}

/* A vhost with queues in all shards, a message in each, bindings and a policy. Answers its id. */
static uint32_t set_scene(void)
{
    assert_true(make_vhost());
    assert_int_equal(test_client_open(&test, client, "guest", "v"), 0);
    for (unsigned i = 0; i < QUEUES; i++) {
        assert_true(ask((struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_DURABLE, .name = TEXT(queue_name(i))}));
        assert_true(ask((struct request){.kind = REQUEST_QUEUE_BIND, .name = TEXT(queue_name(i)), .source = TEXT("amq.topic"), .routing_key = TEXT("#")}));
        assert_int_equal(test_publish(client, "", queue_name(i), "x", i + 1, true, NULL), PUBLISH_ROUTED);
    }
    assert_true(change((struct topology_change){.kind = CHANGE_POLICY_PUT, .name = TEXT("p"), .source = TEXT("^q"), .arguments = TEXT("{\"max-length\":9}"),
                                                .id = POLICY_QUEUES}));
    go_on();
    return topology_vhost(topology(), TEXT("v"))->id;
}

static void expect_whole(const struct vhost *vhost)
{
    assert_int_equal(vhost->queues.map.count - vhost->hidden_count, QUEUES);
    assert_true(vhost->half_queue);
    assert_int_equal(vhost->bindings.map.count, QUEUES);
    assert_true(topology_access(vhost, TEXT("guest"))->everything);
    assert_int_equal(test_client_open(&test, client, "guest", "v"), 0);
    for (unsigned i = 0; i < QUEUES; i++) {
        assert_int_equal(topology_queue(vhost, TEXT(queue_name(i)))->settings->max_length, 9);
        struct request get = {.kind = REQUEST_GET, .name = TEXT(queue_name(i)), .channel = 1};
        unsigned before = client->count;
        client_request(&client->client, &get);
        go_on();
        assert_true(client->count > before && client->events[before].kind == EVENT_DELIVERY);
    }
}

/* Answers how many operations the story took. */
static uint64_t crash_in_story(uint64_t operation, enum test_disk_loss loss)
{
    disk = test_disk_new(operation);
    open_broker();
    uint32_t id = set_scene();
    uint64_t before = test_disk_operations(disk);
    if (operation)
        test_disk_crash_at(disk, before + operation);
    bool deleted = change((struct topology_change){.kind = CHANGE_VHOST_DELETE, .name = TEXT("v")});
    bool made = deleted && make_vhost();
    uint64_t operations = test_disk_operations(disk) - before;
    for (unsigned round = 0; round < 2; round++) {
        crash(round ? LOSE_ALL : loss);   /* and it stays so */
        go_on();
        const struct vhost *vhost = topology_vhost(topology(), TEXT("v")), *old = topology_vhost_by_id(topology(), id);
        assert_true(!deleted || !old);
        assert_true(!made || vhost);
        if (old && !round)
            expect_whole(old);
        if (!old) {
            assert_int_equal(topology()->queues_by_id.count, topology()->vhosts.map.count);   /* each has the one for half messages */
            assert_true(!vhost || vhost->id > id);
            assert_true(topology()->next_vhost > id);
        }
    }
    test_client_free(client);
    go_on();
    test_broker_close(&test);
    test_disk_free(disk);
    return operations;
}

static void a_vhost_is_deleted_whole_or_not_at_all(void **state)
{
    (void)state;
    uint64_t operations = crash_in_story(0, LOSE_ALL);
    assert_true(operations > 0);
    for (uint64_t operation = 1; operation <= operations; operation++)
        for (enum test_disk_loss loss = LOSE_NOTHING; loss <= LOSE_SOME; loss++)
            crash_in_story(operation, loss);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_vhost_is_deleted_whole_or_not_at_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
