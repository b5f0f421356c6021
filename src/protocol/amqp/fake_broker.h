/* For tests: the broker's verbs, written down instead of done. Whoever links it answers for the broker by calling the session's ops.
 *
 * What was called is text, a line a call:
 *
 *     declare q durable exclusive          delete q     bind q <- x key     consume q no-ack prefetch 3     get q     cancel 7/9
 *     publish x key persistent "body"      abort        ack 7 1+3           requeue 7 4+1                   credit 7/9 84
 */
#ifndef PROTOCOL_AMQP_FAKE_BROKER_H
#define PROTOCOL_AMQP_FAKE_BROKER_H

#include "broker/client.h"
#include "broker/worker.h"

struct fake_request {
    enum request_kind kind;
    uint16_t channel;
    uint32_t tag;
};

#define FAKE_REQUESTS_MAX 4096u

struct worker {
    struct client *client;
    const struct client_ops *ops;
    struct chunk_pool *chunks;
    uint64_t now_us;
    bool may_not_publish;
    bool no_such_vhost;              /* … as the last request said */
    bool limits_channels;            /* a channel must be asked for */
    bool refuses;                    /* publishes, as if storage had failed */
    struct fake_request requests[FAKE_REQUESTS_MAX];   /* not answered yet */
    unsigned first_request, request_count;
    uint64_t last_confirm_tag;
    unsigned publishes, releases, transactions, attached;
    size_t said_size;
    char said[1 << 16];
    uint8_t body[1 << 20];           /* of the last publish */
};

void fake_open(struct worker *fake);
void fake_close(struct worker *fake);

/* What was called since the last time. */
const char *fake_said(struct worker *fake);

/* Answers the oldest request: done, or with `code` and text. */
void fake_answer(struct worker *fake, struct reply reply);

/* Answers connection.open, if that is the oldest request: there is the vhost "/" alone. */
bool fake_lets_in(struct worker *fake);

/* Ends a turn. */
void fake_turn(struct worker *fake);

/* A message on its way to consumer `number`: its content is made of these. The memory is the chunk's that *chunk is set to, with one reference. */
struct delivery fake_delivery(struct worker *fake, const char *exchange, const char *key, struct bytes body, struct chunk **chunk);

#endif
