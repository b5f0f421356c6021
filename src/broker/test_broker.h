/* A broker with a memory log and clients that write down what they are told, for tests. One thread plays all workers. */
#ifndef BROKER_TEST_BROKER_H
#define BROKER_TEST_BROKER_H

#include "broker/broker.h"
#include "broker/client.h"

#define TEST_EVENTS 4096

struct test_event {
    enum { EVENT_DELIVERY, EVENT_REPLY, EVENT_CONFIRM, EVENT_CANCELLED, EVENT_RESUMED, EVENT_CLOSED } kind;
    struct delivery delivery;
    struct reply reply;
    char text[512], name[256], body[256];
    uint64_t first, count;
    bool accepted;
};

struct test_client {
    struct client client;    /* first */
    struct test_event events[TEST_EVENTS];
    unsigned count, seen;
};

struct test_broker {
    struct broker *broker;
    struct worker *workers[4];
    unsigned worker_count;
    struct test_port { struct worker_port port; struct test_broker *test; unsigned from; } ports[4];
    uint64_t now_us;
    bool posted;
};

/* Opens one in memory (disk NULL) or on a disk. */
void test_broker_open(struct test_broker *test, unsigned workers, unsigned shards, struct disk *disk, uint64_t memory);
void test_broker_close(struct test_broker *test);

/* Turns of all workers until nothing is left to do. */
void test_settle_down(struct test_broker *test);

/* One that has not opened a vhost yet. */
struct test_client *test_client_bare(struct test_broker *test, unsigned worker);

/* As guest, in the vhost "/". */
struct test_client *test_client_new(struct test_broker *test, unsigned worker);
void test_client_free(struct test_client *client);

/* Opens a vhost as a user (whose name outlives the client), one or again. Answers the reply's code. */
uint16_t test_client_open(struct test_broker *test, struct test_client *client, const char *user, const char *vhost);

/* Sends a request and answers its reply event, after settling down. */
struct test_event *test_request(struct test_broker *test, struct test_client *client, struct request request);
void test_declare(struct test_broker *test, struct test_client *client, const char *queue, unsigned flags);

/* Publishes without settling down. */
enum publish_result test_publish(struct test_client *client, const char *exchange, const char *key, const char *body, uint64_t tag, bool persistent,
                                 struct transaction *transaction);

/* The next event not yet seen; NULL when there is none. */
struct test_event *test_next(struct test_client *client);

#endif
