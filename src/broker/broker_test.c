#include "broker/test_broker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)

static struct test_broker test;

static struct test_event *consume(struct test_client *client, const char *queue, uint32_t number, uint32_t prefetch, unsigned flags)
{
    struct test_event *event = test_request(&test, client, (struct request){.kind = REQUEST_CONSUME, .name = TEXT(queue), .tag = number, .prefetch = prefetch, .flags = flags, .channel = 1});
    assert_non_null(event);
    return event;
}

static struct test_event *next_delivery(struct test_client *client)
{
    for (struct test_event *event; (event = test_next(client));)
        if (event->kind == EVENT_DELIVERY)
            return event;
    return NULL;
}

static void expect_bodies(struct test_client *client, const char *const *bodies)
{
    for (; *bodies; bodies++) {
        struct test_event *event = next_delivery(client);
        assert_non_null(event);
        assert_string_equal(event->body, *bodies);
    }
    assert_null(next_delivery(client));
}

static uint64_t confirmed_count(struct test_client *client, bool accepted)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < client->count; i++)
        if (client->events[i].kind == EVENT_CONFIRM && client->events[i].accepted == accepted)
            count += client->events[i].count;
    return count;
}

static void what_is_published_is_delivered_in_order(void **state)
{
    (void)state;
    for (unsigned workers = 1; workers <= 3; workers++) {
        test_broker_open(&test, workers, 4, NULL, 0);
        struct test_client *publisher = test_client_new(&test, workers - 1), *consumer = test_client_new(&test, 0);
        test_declare(&test, publisher, "q", REQUEST_DURABLE);
        consume(consumer, "q", 1, 0, REQUEST_NO_ACK);
        for (unsigned i = 0; i < 1000; i++) {
            char body[16];
            snprintf(body, sizeof(body), "%u", i);
            assert_int_equal(test_publish(publisher, "", "q", body, i + 1, i % 2, NULL), PUBLISH_ROUTED);
        }
        test_settle_down(&test);
        for (unsigned i = 0; i < 1000; i++) {
            struct test_event *event = next_delivery(consumer);
            assert_non_null(event);
            assert_int_equal(atoi(event->body), i);
        }
        assert_int_equal(confirmed_count(publisher, true), 1000);
        test_client_free(publisher);
        test_client_free(consumer);
        test_broker_close(&test);
    }
}

static void a_requeued_message_is_back_in_its_place(void **state)
{
    (void)state;
    test_broker_open(&test, 1, 1, NULL, 0);
    struct test_client *client = test_client_new(&test, 0);
    test_declare(&test, client, "q", 0);
    for (const char *const *body = (const char *const[]){"a", "b", "c", "d", NULL}; *body; body++)
        test_publish(client, "", "q", *body, 0, false, NULL);
    struct test_event *consumer = consume(client, "q", 7, 3, 0);
    assert_int_equal(consumer->reply.code, 0);
    struct test_event *a = next_delivery(client), *b = next_delivery(client), *c = next_delivery(client);
    assert_string_equal(b->body, "b");
    assert_null(next_delivery(client));   /* three are held: the prefetch */
    client_settle(&client->client, a->delivery.queue, SETTLE_REQUEUE, a->delivery.seq, 2, NULL);
    test_settle_down(&test);
    a = next_delivery(client);
    b = next_delivery(client);
    assert_string_equal(a->body, "a");
    assert_true(a->delivery.redelivered);
    assert_string_equal(b->body, "b");
    client_settle(&client->client, a->delivery.queue, SETTLE_ACK, a->delivery.seq, 3, NULL);
    test_settle_down(&test);
    expect_bodies(client, (const char *const[]){"d", NULL});
    (void)c;
    test_client_free(client);
    test_broker_close(&test);
}

static void what_a_lost_client_held_goes_to_the_next(void **state)
{
    (void)state;
    test_broker_open(&test, 2, 4, NULL, 0);
    struct test_client *first = test_client_new(&test, 0), *second = test_client_new(&test, 1);
    test_declare(&test, first, "q", 0);
    consume(first, "q", 1, 10, 0);
    test_publish(second, "", "q", "x", 0, false, NULL);
    test_settle_down(&test);
    struct test_event *x = next_delivery(first);
    client_settle(&first->client, x->delivery.queue, SETTLE_REQUEUE, x->delivery.seq, 1, NULL);
    test_client_free(first);
    consume(second, "q", 1, 0, 0);
    expect_bodies(second, (const char *const[]){"x", NULL});
    test_client_free(second);
    test_broker_close(&test);
}

static void every_shard_of_a_fanout_gets_one_and_the_confirm_comes_once(void **state)
{
    (void)state;
    test_broker_open(&test, 2, 4, NULL, 0);
    struct test_client *client = test_client_new(&test, 1);
    for (unsigned i = 0; i < 12; i++) {
        char name[16];
        snprintf(name, sizeof(name), "f%u", i);
        test_declare(&test, client, name, REQUEST_DURABLE);
        assert_int_equal(test_request(&test, client, (struct request){.kind = REQUEST_QUEUE_BIND, .name = TEXT(name), .source = TEXT("amq.fanout")})->reply.code, 0);
    }
    client->seen = client->count;
    test_publish(client, "amq.fanout", "", "hello", 1, true, NULL);
    test_settle_down(&test);
    assert_int_equal(confirmed_count(client, true), 1);
    for (unsigned i = 0; i < 12; i++) {
        char name[16];
        snprintf(name, sizeof(name), "f%u", i);
        test_request(&test, client, (struct request){.kind = REQUEST_GET, .name = TEXT(name), .flags = REQUEST_NO_ACK});
        expect_bodies(client, (const char *const[]){"hello", NULL});
    }
    test_client_free(client);
    test_broker_close(&test);
}

static void a_transaction_is_seen_whole_or_not_at_all(void **state)
{
    (void)state;
    test_broker_open(&test, 2, 4, NULL, 0);
    struct test_client *client = test_client_new(&test, 0);
    test_declare(&test, client, "q", REQUEST_DURABLE);
    struct transaction *transaction = client_transaction_new(&client->client);
    test_publish(client, "", "q", "rolled back", 0, true, transaction);
    client_transaction_rollback(&client->client, transaction);
    transaction = client_transaction_new(&client->client);
    test_publish(client, "", "q", "one", 0, true, transaction);
    test_publish(client, "", "q", "two", 0, false, transaction);
    consume(client, "q", 1, 0, 0);
    assert_null(next_delivery(client));
    client_transaction_commit(&client->client, transaction, 3);
    test_settle_down(&test);
    expect_bodies(client, (const char *const[]){"one", "two", NULL});
    bool answered = false;
    for (unsigned i = 0; i < client->count; i++)
        answered |= client->events[i].kind == EVENT_REPLY && client->events[i].reply.kind == REQUEST_COMMIT && !client->events[i].reply.code;
    assert_true(answered);
    test_client_free(client);
    test_broker_close(&test);
}

static void declaring_otherwise_is_refused_with_the_difference(void **state)
{
    (void)state;
    test_broker_open(&test, 2, 4, NULL, 0);
    struct test_client *client = test_client_new(&test, 1), *other = test_client_new(&test, 0);
    test_declare(&test, client, "q", REQUEST_DURABLE);
    struct test_event *event = test_request(&test, client, (struct request){.kind = REQUEST_QUEUE_DECLARE, .name = TEXT("q")});
    assert_int_equal(event->reply.code, 406);
    assert_string_equal(event->text, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'");
    event = test_request(&test, client, (struct request){.kind = REQUEST_QUEUE_DECLARE, .name = TEXT("nope"), .flags = REQUEST_PASSIVE});
    assert_int_equal(event->reply.code, 404);
    test_declare(&test, client, "mine", REQUEST_EXCLUSIVE);
    event = test_request(&test, other, (struct request){.kind = REQUEST_QUEUE_DECLARE, .name = TEXT("mine"), .flags = REQUEST_PASSIVE});
    assert_int_equal(event->reply.code, 405);
    test_client_free(client);
    test_settle_down(&test);
    event = test_request(&test, other, (struct request){.kind = REQUEST_QUEUE_DECLARE, .name = TEXT("mine"), .flags = REQUEST_PASSIVE});
    assert_int_equal(event->reply.code, 404);   /* it went with its connection */
    event = test_request(&test, other, (struct request){.kind = REQUEST_QUEUE_DECLARE});
    assert_int_equal(event->reply.code, 0);
    assert_memory_equal(event->name, "amq.gen-", 8);
    test_client_free(other);
    test_broker_close(&test);
}

static void requests_sent_together_are_answered_in_order(void **state)
{
    (void)state;
    test_broker_open(&test, 2, 4, NULL, 0);
    struct test_client *client = test_client_new(&test, 1);
    for (uint32_t i = 0; i < 20; i++) {
        static const enum request_kind kinds[] = {REQUEST_QUEUE_DECLARE, REQUEST_QUEUE_PURGE, REQUEST_QUEUE_DECLARE, REQUEST_QUEUE_DELETE};
        struct request request = {.kind = kinds[i % 4], .name = TEXT("q"), .tag = i};
        client_request(&client->client, &request);
    }
    test_settle_down(&test);
    assert_int_equal(client->count, 20);
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(client->events[i].reply.tag, i);
        assert_int_equal(client->events[i].reply.code, 0);
    }
    test_client_free(client);
    test_broker_close(&test);
}

static void deleting_a_queue_cancels_its_consumers(void **state)
{
    (void)state;
    test_broker_open(&test, 2, 4, NULL, 0);
    struct test_client *client = test_client_new(&test, 0), *other = test_client_new(&test, 1);
    test_declare(&test, client, "q", 0);
    consume(client, "q", 5, 0, 0);
    test_publish(other, "", "q", "x", 0, false, NULL);
    test_settle_down(&test);
    struct test_event *event = test_request(&test, other, (struct request){.kind = REQUEST_QUEUE_DELETE, .name = TEXT("q"), .flags = REQUEST_IF_UNUSED});
    assert_int_equal(event->reply.code, 406);
    event = test_request(&test, other, (struct request){.kind = REQUEST_QUEUE_DELETE, .name = TEXT("q")});
    assert_int_equal(event->reply.code, 0);
    bool cancelled = false;
    for (unsigned i = 0; i < client->count; i++)
        cancelled |= client->events[i].kind == EVENT_CANCELLED && client->events[i].first == 5;
    assert_true(cancelled);
    assert_int_equal(test_publish(other, "", "q", "x", 0, false, NULL), PUBLISH_UNROUTABLE);
    test_client_free(client);
    test_client_free(other);
    test_broker_close(&test);
}

static void a_consumer_of_higher_priority_comes_first(void **state)
{
    (void)state;
    test_broker_open(&test, 1, 1, NULL, 0);
    struct test_client *low = test_client_new(&test, 0), *high = test_client_new(&test, 0);
    static const uint8_t five[] = "\x0ax-priorityI\0\0\0\5";
    test_declare(&test, low, "q", 0);
    consume(low, "q", 1, 1, 0);
    struct request request = {.kind = REQUEST_CONSUME, .name = TEXT("q"), .tag = 2, .prefetch = 2, .channel = 1, .arguments = bytes_of(five, sizeof(five) - 1)};
    assert_int_equal(test_request(&test, high, request)->reply.code, 0);
    for (const char *const *body = (const char *const[]){"a", "b", "c", NULL}; *body; body++)
        test_publish(low, "", "q", *body, 0, false, NULL);
    test_settle_down(&test);
    expect_bodies(high, (const char *const[]){"a", "b", NULL});
    expect_bodies(low, (const char *const[]){"c", NULL});   /* once the other has its fill */
    test_client_free(low);
    test_client_free(high);
    test_broker_close(&test);
}

static void a_get_takes_nothing_from_a_waiting_consumer(void **state)
{
    (void)state;
    test_broker_open(&test, 1, 1, NULL, 0);
    struct test_client *client = test_client_new(&test, 0), *consumer = test_client_new(&test, 0);
    test_declare(&test, client, "q", 0);
    consume(consumer, "q", 1, 0, 0);
    test_publish(client, "", "q", "x", 0, false, NULL);
    struct test_event *event = test_request(&test, client, (struct request){.kind = REQUEST_GET, .name = TEXT("q")});
    assert_non_null(event);
    assert_true(event->reply.empty);
    expect_bodies(consumer, (const char *const[]){"x", NULL});
    test_client_free(client);
    test_client_free(consumer);
    test_broker_close(&test);
}

static void a_list_names_every_queue_with_its_counts(void **state)
{
    (void)state;
    test_broker_open(&test, 3, 4, NULL, 0);
    struct test_client *client = test_client_new(&test, 2);
    test_declare(&test, client, "numbers", REQUEST_DURABLE);
    test_publish(client, "", "numbers", "1", 0, true, NULL);
    test_settle_down(&test);
    struct request request = {.kind = REQUEST_CONTROL, .source = TEXT("guest"),
                              .arguments = TEXT("{\"command\":\"list_queues\",\"columns\":[\"name\",\"messages_ready\"]}")};
    struct test_event *event = test_request(&test, client, request);
    assert_int_equal(event->reply.code, 0);
    assert_string_equal(event->text, "{\"ok\":[{\"name\":\"numbers\",\"messages_ready\":1}]}");
    test_client_free(client);
    test_broker_close(&test);
}

/* It alone looks at the disk. */
static void the_first_worker_watches_for_clients_of_others(void **state)
{
    (void)state;
    test_broker_open(&test, 2, 2, NULL, 0);
    struct test_client *client = test_client_new(&test, 1);
    assert_true(worker_deadline(test.workers[0]) != UINT64_MAX);
    test_client_free(client);
    assert_true(worker_deadline(test.workers[0]) == UINT64_MAX);
    test_broker_close(&test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_published_is_delivered_in_order),
        cmocka_unit_test(a_requeued_message_is_back_in_its_place),
        cmocka_unit_test(what_a_lost_client_held_goes_to_the_next),
        cmocka_unit_test(every_shard_of_a_fanout_gets_one_and_the_confirm_comes_once),
        cmocka_unit_test(a_transaction_is_seen_whole_or_not_at_all),
        cmocka_unit_test(declaring_otherwise_is_refused_with_the_difference),
        cmocka_unit_test(requests_sent_together_are_answered_in_order),
        cmocka_unit_test(deleting_a_queue_cancels_its_consumers),
        cmocka_unit_test(a_consumer_of_higher_priority_comes_first),
        cmocka_unit_test(a_get_takes_nothing_from_a_waiting_consumer),
        cmocka_unit_test(the_first_worker_watches_for_clients_of_others),
        cmocka_unit_test(a_list_names_every_queue_with_its_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
