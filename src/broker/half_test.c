/* Transactions in two steps on a disk that fails: the machine goes down at any operation while one is decided. Its messages are there all or none, and once. */
#include "broker/half.h"

#include "broker/half_message.h"
#include "broker/test_broker.h"
#include "broker/worker_internal.h"
#include "protocol/amqp/properties.h"
#include "store/test_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)
#define QUEUES 3u      /* one in each shard */
#define MESSAGES 2u    /* of the transaction, each for all queues */

static struct test_broker test;
static struct test_disk *disk;
static struct test_client *client;
static char names[QUEUES][32];

static void open_broker(void)
{
    test_broker_open(&test, 2, QUEUES, test_disk_face(disk), 0);
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

static void ask(struct request request)
{
    unsigned before = client->count;
    client_request(&client->client, &request);
    go_on();
    for (unsigned i = before; i < client->count; i++)
        if (client->events[i].kind == EVENT_REPLY)
            assert_int_equal(client->events[i].reply.code, 0);
}

static struct bytes properties_of(const char *transaction, const char *more, int32_t value)
{
    static uint8_t room[256], encoded[512];
    struct amqp_table_writer writer;
    struct amqp_properties properties = {.flags = AMQP_HEADERS};
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "x-transaction", TEXT(transaction));
    if (more)
        amqp_table_put_int(&writer, more, value);
    assert_true(amqp_table_finish(&writer, &properties.headers));
    return bytes_of(encoded, amqp_properties_encode(&properties, encoded, sizeof(encoded)));
}

static void publish(const char *exchange, const char *key, struct bytes properties, uint64_t tag)
{
    struct publish publish = {.channel = 1, .whole = true, .confirm_tag = tag, .exchange = TEXT(exchange), .routing_key = TEXT(key), .properties = properties};
    assert_int_equal(client_publish_begin(&client->client, &publish), PUBLISH_ROUTED);
    client_publish_end(&client->client, &publish);
    go_on();
}

/* What the broker said of the publish: 1 yes, 0 no, -1 nothing. */
static int answer_to(uint64_t tag)
{
    for (unsigned i = 0; i < client->count; i++) {
        const struct test_event *event = &client->events[i];
        if (event->kind == EVENT_CONFIRM && tag >= event->first && tag < event->first + event->count)
            return event->accepted;
    }
    return -1;
}

static int decide(const char *decision, uint64_t tag)
{
    publish(HALF_EXCHANGE, decision, properties_of("t", NULL, 0), tag);
    return answer_to(tag);
}

/* Messages that a get finds; they are held until the client is gone. */
static unsigned count_in(const char *queue)
{
    unsigned count = 0, before;
    do {
        before = client->count;
        client_request(&client->client, &(struct request){.kind = REQUEST_GET, .name = TEXT(queue)});
        go_on();
        for (unsigned i = before; i < client->count; i++)
            count += client->events[i].kind == EVENT_DELIVERY;
    } while (client->count > before && client->events[client->count - 1].kind == EVENT_DELIVERY);
    return count;
}

/* How many messages each queue has: the same number. */
static unsigned count_all(void)
{
    unsigned first = count_in(names[0]);
    for (unsigned i = 1; i < QUEUES; i++)
        assert_int_equal(count_in(names[i]), first);
    return first;
}

static void set_scene(void)
{
    for (unsigned shard = 0; shard < QUEUES; shard++) {
        unsigned i = 0;
        do
            snprintf(names[shard], sizeof(names[shard]), "q%u", i++);
        while (bytes_hash(TEXT(names[shard]), 0) % QUEUES != shard);
        ask((struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_DURABLE, .name = TEXT(names[shard])});
        ask((struct request){.kind = REQUEST_QUEUE_BIND, .name = TEXT(names[shard]), .source = TEXT("amq.fanout")});
    }
    for (unsigned i = 0; i < MESSAGES; i++) {
        publish("amq.fanout", "", properties_of("t", NULL, 0), i + 1);
        assert_int_equal(answer_to(i + 1), 1);
    }
}

/* Answers how many operations the decision took. */
static uint64_t crash_in_story(const char *decision, uint64_t operation, enum test_disk_loss loss)
{
    bool commits = strcmp(decision, "commit") == 0;
    disk = test_disk_new(operation);
    open_broker();
    set_scene();
    assert_int_equal(count_all(), 0);
    uint64_t before = test_disk_operations(disk);
    if (operation)
        test_disk_crash_at(disk, before + operation);
    int said = decide(decision, 10);
    assert_true(operation || said == 1);
    uint64_t operations = test_disk_operations(disk) - before;
    crash(loss);
    go_on();
    unsigned found = count_all();
    assert_true(found == 0 || (commits && found == MESSAGES));
    assert_true(said != 1 || found == (commits ? MESSAGES : 0));
    assert_int_equal(decide(decision, 11), 1);   /* it is known, and may be decided still, or again */
    crash(LOSE_ALL);
    go_on();
    assert_int_equal(count_all(), commits ? MESSAGES : 0);
    assert_int_equal(decide(commits ? "rollback" : "commit", 12), 0);
    test_client_free(client);
    go_on();
    test_broker_close(&test);
    test_disk_free(disk);
    return operations;
}

static void crash_everywhere(const char *decision)
{
    uint64_t operations = crash_in_story(decision, 0, LOSE_ALL);
    assert_true(operations > 0);
    for (uint64_t operation = 1; operation <= operations; operation++)
        for (enum test_disk_loss loss = LOSE_NOTHING; loss <= LOSE_SOME; loss++)
            crash_in_story(decision, operation, loss);
}

static void a_commit_becomes_true_whole_or_not_at_all(void **state)
{
    (void)state;
    crash_everywhere("commit");
}

static void a_rollback_does_too(void **state)
{
    (void)state;
    crash_everywhere("rollback");
}

/* ---- without a disk -------------------------------------------------------------------------------------------------- */

static enum publish_result try(const char *exchange, const char *key, struct bytes properties, const char *why)
{
    char text[256];
    struct publish publish = {.channel = 1, .whole = true, .exchange = TEXT(exchange), .routing_key = TEXT(key), .properties = properties};
    enum publish_result result = client_publish_begin(&client->client, &publish);
    if (result == PUBLISH_ROUTED)
        client_publish_abort(&client->client, &publish);
    if (result == PUBLISH_BAD_TRANSACTION) {
        client_publish_fault(&publish, text, sizeof(text));
        assert_string_equal(text, why);
    }
    return result;
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    static const uint8_t none[2];
    test_broker_open(&test, 2, 2, NULL, 0);
    client = test_client_new(&test, 1);
    assert_int_equal(try("amq.fanout", "", properties_of("", NULL, 0), "invalid header 'x-transaction': a text of 1 to 255 bytes is needed"), PUBLISH_BAD_TRANSACTION);
    assert_int_equal(try("amq.fanout", "", properties_of("t", "x-check-limit", 1001), "invalid header 'x-check-limit': a number from 0 to 1000 is needed"),
                     PUBLISH_BAD_TRANSACTION);
    assert_int_equal(try("amq.fanout", "", properties_of("t", "x-delay", 1), "invalid header 'x-delay': a message of a transaction is routed when that is committed"),
                     PUBLISH_BAD_TRANSACTION);
    assert_int_equal(try(HALF_EXCHANGE, "maybe", properties_of("t", NULL, 0),
                         "invalid routing key 'maybe' for exchange 'amq.godwit.transactions': it is 'commit' or 'rollback'"), PUBLISH_BAD_TRANSACTION);
    assert_int_equal(try(HALF_EXCHANGE, "commit", bytes_of(none, 2), "no transaction is named: the header 'x-transaction' or the property correlation-id is needed"),
                     PUBLISH_BAD_TRANSACTION);
    test_client_free(client);
    test_settle_down(&test);
    test_broker_close(&test);
}

static void silence_is_asked_about_and_ends(void **state)
{
    (void)state;
    test_broker_open(&test, 2, 2, NULL, 0);
    client = test_client_new(&test, 1);
    const struct vhost *vhost = topology_vhost_by_id(&test.workers[0]->topology, VHOST_DEFAULT);
    unsigned index = queue_id_shard(vhost->half_queue);
    struct shard *shard = test.workers[index % 2]->shards[index];
    struct half_row row;
    struct publish half = {.channel = 1, .whole = true, .confirm_tag = 1, .exchange = TEXT("amq.fanout"), .properties = properties_of("t", "x-check-limit", 2)};
    assert_int_equal(client_publish_begin(&client->client, &half), PUBLISH_ROUTED);
    client_publish_end(&client->client, &half);
    test_settle_down(&test);
    for (unsigned checks = 0; checks <= 2; checks++) {
        uint32_t cursor = 0;
        assert_true(half_next(shard_queue(shard, vhost->half_queue), &cursor, test.now_us, &row));
        assert_int_equal(row.checks, checks);
        assert_int_equal(row.messages, 1);
        assert_string_equal(row.state, "open");
        test.now_us += 60001000;
        test_settle_down(&test);
    }
    uint32_t cursor = 0;
    assert_false(half_next(shard_queue(shard, vhost->half_queue), &cursor, test.now_us, &row));
    test_client_free(client);
    test_settle_down(&test);
    test_broker_close(&test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_commit_becomes_true_whole_or_not_at_all),
        cmocka_unit_test(a_rollback_does_too),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(silence_is_asked_about_and_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
