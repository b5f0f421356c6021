/* A batch: commands from one worker to another, in order, in one run of memory. Made during a loop turn, handed over whole at its end.
 *
 * A batch holds one reference to every chunk that its commands point into, taken once per run of commands, so that nothing per
 * message is counted between threads. */
#ifndef BROKER_BATCH_H
#define BROKER_BATCH_H

#include "base/chunk.h"
#include "base/bytes.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum command_type {
    /* to the owner of a shard */
    COMMAND_PUBLISH = 1,    /* a run of laid-out records for a shard's queues */
    COMMAND_SLICE,          /* those records are to be appended to the log now */
    COMMAND_SETTLE,
    COMMAND_CREDIT,
    COMMAND_RESUME,
    COMMAND_REFUSE,
    COMMAND_SHARD_REQUEST,  /* consume, cancel, get, purge, status, delete's conditions */
    COMMAND_TRANSACTION,
    COMMAND_CONTROL,        /* write this worker's rows of a list, see control.h */
    COMMAND_RELAY,          /* a message from another shard's queue, see relay.h; and the two that follow it */
    COMMAND_RELAYED,
    COMMAND_FORGET,
    /* to the master (worker 0) */
    COMMAND_TOPOLOGY_REQUEST,
    COMMAND_CLIENT_GONE,
    COMMAND_CHANNEL,        /* a client opened a channel (flags 1) or closed one */
    COMMAND_QUEUE_UNUSED,
    COMMAND_TOPOLOGY_ACK,
    /* from the master to everybody */
    COMMAND_TOPOLOGY_CHANGE,
    /* to the worker of a client */
    COMMAND_DELIVER,
    COMMAND_CONFIRM,
    COMMAND_FLOW,           /* bytes that the shard has taken in */
    COMMAND_ANSWER,
    COMMAND_CANCELLED,
    COMMAND_CONTROL_ROWS,
    COMMAND_CLOSE,          /* the connection is to be closed */
    /* to any worker */
    COMMAND_LETTER,         /* what its protocols say to those of another */
};

struct command {
    uint16_t type, flags;
    uint32_t size;          /* of the whole command, bytes, a multiple of 8 */
};

#define BATCH_SIZE (32u * 1024u)
#define BATCH_CHUNKS 32u

struct batch {
    struct batch *next;
    uint32_t used, room;            /* bytes of data */
    uint32_t chunk_count;
    unsigned from;                  /* the worker that made it */
    bool more;                      /* what was made in the same turn goes on in the next batch */
    uint32_t last;                  /* where the last command begins */
    struct chunk *chunks[BATCH_CHUNKS];
    uint8_t data[] __attribute__((aligned(8)));
};

/* Keeps a few free batches of BATCH_SIZE; one a worker. */
struct batch_pool {
    struct batch *free;
    unsigned count;
};

void batch_pool_deinit(struct batch_pool *pool);

/* A batch with room for a command of `size` bytes. NULL: out of memory. */
struct batch *batch_new(struct batch_pool *pool, uint32_t size, unsigned from);

/* Releases its chunks to `chunks` and keeps or frees its memory. */
void batch_free(struct batch *batch, struct batch_pool *pool, struct chunk_pool *chunks);

/* The batches that one worker is filling for another. */
struct outbox {
    struct batch *first, *last;
};

/* Appends a command of `size` bytes (rounded up to 8), header filled in, the rest zeroed; when it points into `chunk` (may be NULL), the batch holds that. NULL: out of memory. */
void *outbox_add(struct outbox *outbox, struct batch_pool *pool, unsigned from, enum command_type type, uint32_t size, struct chunk *chunk);

/* The command added last, when it is of `type` and still in the batch being filled; NULL otherwise. */
static inline void *outbox_last(struct outbox *outbox, enum command_type type)
{
    if (!outbox->last || !outbox->last->used)
        return NULL;
    struct command *command = (struct command *)(outbox->last->data + outbox->last->last);
    return command->type == type ? command : NULL;
}

/* ---- the commands ---------------------------------------------------------------------------------------------------- */

/* Records [begin, end) of `chunk`, `count` of them, one after the other, published on one channel. */
struct command_publish {
    struct command command;     /* flags: CONFIRM_PARTIAL or 0 */
    uint64_t client;
    uint64_t first_tag;         /* confirm tags first_tag, first_tag + 1, …; 0: no confirms */
    struct chunk *chunk;
    uint64_t begin, end;
    uint32_t count;
    uint16_t channel, shard;
    bool durable;               /* the records lie in a slice that is going to be logged */
};

struct command_slice {
    struct command command;
    struct chunk *chunk;
    uint64_t begin;
    uint32_t size, count;
    uint16_t shard;
};

struct command_settle {
    struct command command;     /* flags: enum settle_kind */
    uint64_t queue, first, count;
    uint64_t delay_ms;          /* instead of what the queue's backoff says … */
    bool delayed;               /* … if that is said */
};

struct command_credit {
    struct command command;
    uint64_t queue;
    uint32_t handle, bytes;
};

/* Of a resume: the consumer, which wants no acks, is bound by its channel's limit from now on. */
enum resume_flags { RESUME_BOUND = 1 };

struct command_refuse {         /* also of resume */
    struct command command;
    uint64_t queue, seq;
    uint32_t handle;
};

/* A request as it travels: the fixed part of struct request, then name, source, routing key, type, arguments, vhost. */
struct command_request {
    struct command command;
    uint64_t client;
    uint64_t queue;             /* id, where it is known */
    uint64_t serial;            /* which of the client's requests this is */
    uint32_t kind, flags, tag, handle, prefetch;
    uint32_t vhost;             /* id of the client's */
    uint16_t channel;
    uint16_t step;              /* of a deletion: see requests.c */
    uint32_t name_size, source_size, routing_key_size, type_size, arguments_size, vhost_size;
    uint8_t bytes[];
};

/* An answer as it travels: then text and name. */
struct command_answer {
    struct command command;
    uint64_t client, queue, serial;
    uint32_t kind, tag, messages, consumers, handle;
    uint16_t channel, code;
    uint32_t text_size, name_size;
    bool empty;
    uint8_t step;
    uint8_t bytes[];
};

struct command_transaction {
    struct command command;
    uint64_t client, serial;
    struct chunk *chunk;        /* the slice: one transaction record */
    uint64_t begin;
    uint32_t size;
    uint16_t channel, shard;
    bool durable;
};

struct command_client {         /* client gone, channel; queue unused (its id in `id`) */
    struct command command;
    uint64_t id;
};

struct command_close {
    struct command command;
    uint64_t client;
    uint32_t text_size;
    uint16_t code;
    uint8_t bytes[];
};

struct command_letter {
    struct command command;
    uint32_t size;
    uint8_t bytes[];
};

struct command_ack {
    struct command command;
    uint64_t sequence;
};

struct command_change {
    struct command command;
    uint64_t sequence;
    uint32_t change_size;
    uint8_t bytes[];
};

struct command_deliver {
    struct command command;
    uint64_t client, queue, seq;
    struct chunk *chunk;
    uint32_t offset, size;
    uint32_t consumer, handle;
    uint32_t messages_left;
    uint16_t channel;
    uint8_t flags;              /* enum deliver_flags */
    uint8_t added;              /* enum delivery_header */
    uint64_t added_value;
};
/* Of a stream: when the message arrived, too; the command's size says that it is one of these. */
struct command_deliver_stamped {
    struct command_deliver deliver;
    uint64_t arrived_ms;
};
enum deliver_flags { DELIVER_REDELIVERED = 1, DELIVER_NO_ACK = 2, DELIVER_GET = 4, DELIVER_RECORD = 8 };

/* A whole record: RECORD_RELAYED, which is to be logged and answered, or RECORD_PUBLISH, which is not. */
struct command_relay {
    struct command command;
    uint64_t serial;            /* given back in the answer */
    struct chunk *chunk;
    uint64_t begin;
    uint16_t shard;
    bool keep;                  /* a queue that takes nothing more does not let the message vanish */
};

struct command_relayed {
    struct command command;
    uint64_t serial;
    uint16_t shard, from;       /* the message's old one; the one that answers */
    bool ok;                    /* it is on disk there; false: refused, nothing is there */
};

struct command_forget {
    struct command command;
    uint64_t queue, seq;
    uint16_t shard;
};

/* Partial: `first` is the serial of a publish that several shards must confirm, see publishing.c. */
enum confirm_flags {
    CONFIRM_ACCEPTED = 1, CONFIRM_PARTIAL = 2,
    PUBLISH_EXPIRES = 4,        /* of a publish: its messages expire by themselves */
    PUBLISH_SCHEDULED = 8,      /* of a publish: its messages are not due yet; a record's RECORD_FLAG_SCHEDULED */
};

struct command_confirm {
    struct command command;     /* flags: enum confirm_flags */
    uint64_t client, first, count;
    uint16_t channel;
};

struct command_flow {
    struct command command;
    uint64_t client, bytes;
};

struct command_cancelled {
    struct command command;
    uint64_t client;
    uint32_t consumer, handle;
    uint16_t channel;
};

/* A worker's rows of a list: JSON values separated by commas; or, failed, the whole answer. */
struct command_rows {
    struct command command;
    uint64_t client, serial;
    uint32_t rows_size;
    bool failed;
    uint8_t bytes[];
};

#endif
