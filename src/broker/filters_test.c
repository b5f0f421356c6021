#include "broker/test_broker.h"

#include "broker/filters.h"
#include "broker/rules.h"
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

/* ---- a broker on a disk ---------------------------------------------------------------------------------------------- */

static struct test_broker test;
static struct test_disk *disk;
static struct test_client *client;

static void go_on(void)
{
    do
        test_settle_down(&test);
    while (disk && test_disk_step(disk));
}

static void open_broker(bool on_disk, uint64_t memory)
{
    disk = on_disk ? test_disk_new(1) : NULL;
    test_broker_open(&test, 1, 1, disk ? test_disk_face(disk) : NULL, memory);
    client = test_client_new(&test, 0);
    client_request(&client->client, &(struct request){.kind = REQUEST_QUEUE_DECLARE, .name = TEXT("q"), .flags = REQUEST_DURABLE});
    go_on();
    client->count = client->seen = 0;
}

static void close_broker(void)
{
    test_client_free(client);
    go_on();
    test_broker_close(&test);
    if (disk)
        test_disk_free(disk);
}

static struct queue *the_queue(void)
{
    uint32_t cursor = 0;
    return map_next(&test.workers[0]->shards[0]->queues, &cursor);
}

/* A message whose header "k" is that text. */
static void publish(const char *body, const char *key)
{
    uint8_t table[128], room[256];
    struct amqp_table_writer writer;
    struct amqp_properties properties = {.flags = AMQP_HEADERS};
    amqp_table_begin(&writer, table, sizeof(table));
    amqp_table_put_text(&writer, "k", bytes_of_text(key));
    assert_true(amqp_table_finish(&writer, &properties.headers));
    struct publish publish = {.channel = 1, .persistent = disk != NULL, .whole = true, .exchange = TEXT(""), .routing_key = TEXT("q"),
                              .properties = bytes_of(room, amqp_properties_encode(&properties, room, sizeof(room))), .body_size = strlen(body)};
    assert_int_equal(client_publish_begin(&client->client, &publish), PUBLISH_ROUTED);
    memcpy(publish.body, body, strlen(body));
    client_publish_end(&client->client, &publish);
}

/* So many, numbered, with `keys` different keys in turn: "0", "1", … */
static void publish_many(unsigned count, unsigned keys, unsigned size)
{
    char body[2048], key[16];
    assert_true(size < sizeof(body));
    for (unsigned i = 0; i < count; i++) {
        memset(body, '.', size);
        body[size] = 0;
        body[snprintf(body, size, "%u", i)] = '.';
        snprintf(key, sizeof(key), "%u", i % keys);
        publish(body, key);
        if (i % 500 == 499)
            go_on();
    }
    go_on();
}

/* A consumer's arguments; they last until the next. */
static struct bytes filter_argument(const char *filter)
{
    static uint8_t room[512];
    struct amqp_table_writer writer;
    struct bytes arguments;
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "x-filter", bytes_of_text(filter));
    assert_true(amqp_table_finish(&writer, &arguments));
    return arguments;
}

static void consume(uint32_t number, const char *filter, uint32_t prefetch, unsigned flags)
{
    client_request(&client->client, &(struct request){.kind = REQUEST_CONSUME, .name = TEXT("q"), .tag = number, .prefetch = prefetch, .channel = 1, .flags = flags,
                                                      .arguments = filter ? filter_argument(filter) : (struct bytes){0}});
    go_on();
}

static void cancel_consumer(uint32_t number)
{
    const struct consumer *consumer = the_queue()->consumers;
    while (consumer && consumer->number != number)
        consumer = consumer->all_next;
    assert_non_null(consumer);
    client_request(&client->client, &(struct request){.kind = REQUEST_CANCEL, .queue = the_queue()->id, .handle = consumer->handle, .channel = 1});
    go_on();
}

/* The numbers of the deliveries that came, of consumer `number`; 0: of any. Forgets all events. */
static unsigned take(uint32_t number, unsigned *numbers, uint64_t *seqs, unsigned most)
{
    unsigned count = 0;
    for (unsigned i = 0; i < client->count; i++) {
        const struct test_event *event = &client->events[i];
        if (event->kind != EVENT_DELIVERY || (number && event->delivery.consumer != number) || count == most)
            continue;
        seqs[count] = event->delivery.seq;
        numbers[count++] = (unsigned)atoi(event->body);
    }
    client->count = client->seen = 0;
    return count;
}

static void settle(enum settle_kind kind, const uint64_t *seqs, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        client_settle(&client->client, the_queue()->id, kind, seqs[i], 1, NULL);
    go_on();
}

static unsigned numbers[TEST_EVENTS];
static uint64_t seqs[TEST_EVENTS];

/* ---- stories --------------------------------------------------------------------------------------------------------- */

static void consumers_of_one_filter_share_it(void **state)
{
    (void)state;
    open_broker(false, 0);
    consume(1, "k = '1'", 0, 0);
    consume(2, "k = '1'", 0, 0);
    consume(3, "k = '2'", 0, 0);
    assert_int_equal(the_queue()->filters->count, 2);
    publish_many(300, 3, 20);
    unsigned first = 0, second = 0;
    for (unsigned i = 0; i < client->count; i++) {
        first += client->events[i].kind == EVENT_DELIVERY && client->events[i].delivery.consumer == 1;
        second += client->events[i].kind == EVENT_DELIVERY && client->events[i].delivery.consumer == 2;
    }
    assert_int_equal(first, 50);
    assert_int_equal(second, 50);
    unsigned third = take(3, numbers, seqs, TEST_EVENTS);
    assert_int_equal(third, 100);
    for (unsigned i = 0; i < third; i++)
        assert_int_equal(numbers[i], i * 3 + 2);
    assert_int_equal(the_queue()->lane.ready, 100);
    close_broker();
}

/* More than a filter remembers come back, from the last to the first: all are found again, in their order. */
static void more_come_back_than_are_remembered(void **state)
{
    (void)state;
    enum { COUNT = 6000, BATCH = 1000 };
    static uint64_t held[COUNT];
    unsigned count = 0;
    open_broker(false, 0);
    consume(1, "k = '1'", 0, 0);
    for (unsigned batch = 0; batch < COUNT / BATCH; batch++) {
        publish_many(BATCH * 2, 2, 12);
        count += take(1, numbers, held + count, COUNT - count);
    }
    assert_int_equal(count, COUNT);
    publish("one more", "1");
    consume(2, "k = '1'", 1, 0);
    assert_int_equal(take(2, numbers, seqs, 1), 0);   /* the first one has it, which is unlimited */
    cancel_consumer(1);
    publish("the last", "1");
    go_on();
    assert_int_equal(take(2, numbers, seqs, 1), 1);
    for (unsigned i = COUNT; i-- > 0;)
        client_settle(&client->client, the_queue()->id, SETTLE_REQUEUE, held[i], 1, NULL);
    go_on();
    for (unsigned i = 0; i < COUNT; i++) {
        settle(SETTLE_ACK, seqs, 1);
        assert_int_equal(take(2, numbers, seqs, 1), 1);
        assert_int_equal(seqs[0], held[i]);
    }
    settle(SETTLE_ACK, seqs, 1);
    assert_int_equal(take(2, numbers, seqs, 1), 0);
    close_broker();
}

static void a_long_search_is_done_in_steps(void **state)
{
    (void)state;
    enum { COUNT = 40000 };
    open_broker(false, 0);
    publish_many(COUNT, 2, 12);
    client_request(&client->client, &(struct request){.kind = REQUEST_CONSUME, .name = TEXT("q"), .tag = 1, .channel = 1, .arguments = filter_argument("k LIKE 'nothing%'")});
    const struct queue *queue = the_queue();
    unsigned turns = 0;
    do
        worker_turn(test.workers[0], test.now_us += 10);
    while (++turns < 100 && (!queue->filters || !queue->filters->first || !queue->filters->first->cursor_count || queue->filters->first->cursors[0] < queue->lane.next_seq));
    assert_in_range(turns, 4, 20);
    publish("found", "nothing at all");
    go_on();
    assert_int_equal(take(1, numbers, seqs, 1), 1);
    close_broker();
}

/* Most of the queue is on disk: a search reads it once and lets go of it, the next one reads what it needs. */
static void the_next_search_passes_over_what_it_knows(void **state)
{
    (void)state;
    enum { COUNT = 20000, KEYS = 2000, MEMORY = 1 << 20 };
    unsigned reads[3];
    open_broker(true, MEMORY);
    publish_many(COUNT, KEYS, 300);
    client->count = 0;
    for (unsigned turn = 0; turn < 3; turn++) {
        char filter[32];
        snprintf(filter, sizeof(filter), turn == 2 ? "k LIKE '%u'" : "k = '%u'", 7 + turn);
        reads[turn] = test_disk_count(disk, DISK_READ);
        consume(turn + 1, filter, 0, 0);
        reads[turn] = test_disk_count(disk, DISK_READ) - reads[turn];
        assert_true(the_queue()->filters->visited_count <= FILTER_VISITED_MAX);
        cancel_consumer(turn + 1);
        assert_int_equal(take(turn + 1, numbers, seqs, TEST_EVENTS), COUNT / KEYS);
        for (unsigned i = 0; i < COUNT / KEYS; i++)
            assert_int_equal(numbers[i], i * KEYS + 7 + turn);
        settle(turn ? SETTLE_ACK : SETTLE_REQUEUE, seqs, COUNT / KEYS);
        assert_true(test.workers[0]->shards[0]->account.resident <= 2 * MEMORY);
    }
    assert_true(reads[0] > COUNT / BLOCK_SIZE * 3 / 4);
    assert_true(reads[1] * 3 < reads[0]);
    assert_true(reads[2] > reads[1]);
    assert_int_equal(the_queue()->lane.ready, COUNT - 2 * COUNT / KEYS);
    close_broker();
}

static void without_filters_the_queue_is_a_plain_one_again(void **state)
{
    (void)state;
    open_broker(false, 0);
    publish_many(10, 2, 12);
    consume(1, "k = '1'", 0, 0);
    assert_true(the_queue()->ruled);
    assert_int_equal(take(1, numbers, seqs, TEST_EVENTS), 5);
    settle(SETTLE_REQUEUE, seqs + 4, 1);
    settle(SETTLE_ACK, seqs, 4);
    assert_int_equal(take(1, numbers, seqs, TEST_EVENTS), 1);
    assert_int_equal(numbers[0], 9);
    cancel_consumer(1);
    settle(SETTLE_UNDELIVERED, seqs, 1);
    assert_false(the_queue()->ruled);
    consume(2, NULL, 0, 0);
    for (unsigned i = 0; i < client->count; i++)
        assert_int_equal(client->events[i].delivery.redelivered, client->events[i].kind == EVENT_DELIVERY && client->events[i].body[0] == '9');
    assert_int_equal(take(2, numbers, seqs, TEST_EVENTS), 6);
    close_broker();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(consumers_of_one_filter_share_it),
        cmocka_unit_test(more_come_back_than_are_remembered),
        cmocka_unit_test(a_long_search_is_done_in_steps),
        cmocka_unit_test(the_next_search_passes_over_what_it_knows),
        cmocka_unit_test(without_filters_the_queue_is_a_plain_one_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
