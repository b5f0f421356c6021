/* What the broker's files share about a worker; nobody outside src/broker includes it. */
#ifndef BROKER_WORKER_INTERNAL_H
#define BROKER_WORKER_INTERNAL_H

#include "broker/batch.h"
#include "broker/broker_internal.h"
#include "broker/client.h"
#include "broker/route.h"
#include "broker/shard.h"
#include "broker/stage.h"
#include "broker/topology.h"
#include "broker/worker.h"
#include "broker/writer.h"

struct master;

#define ROUTE_CACHE_SIZE 1024u      /* entries, a power of two */
#define CLIENT_IN_FLIGHT_MAX (1u << 20)   /* bytes published that no shard has taken in yet, a client */
#define PRIVATE_RECORD_MIN (64u * 1024u)  /* records from this size on get a chunk of their own, bytes */

#define REFUSAL_MAX 1600u                 /* bytes of what is said of a refusal */

#define RESOURCE_LOCKED_FORMAT \
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '%.*s' in vhost '%.*s'. It could be originally declared on another " \
    "connection or the exclusive property value does not match that of the original declaration."

/* `step` of an answer: what is still to be done. */
enum answer_step { ANSWER_WHOLE, DECLARE_FOUND, DELETE_ALLOWED };

/* What a publish to this exchange with this routing key means in a vhost. */
struct cached_route {
    struct route route;
    uint64_t hash;
    uint64_t scope;            /* its clients' scope (7), exchange's size (1) */
    uint8_t *key;              /* exchange, routing key */
    uint32_t key_size, key_room;
};

/* A publish that several shards must confirm. */
struct partial {
    uint64_t client, tag;
    uint32_t remaining;
    uint16_t channel;
    bool accepted;
};

/* A request of a client whose answer is not out yet; answers leave in the order of the requests. */
struct pending_request {
    struct pending_request *next;
    uint64_t serial;
    struct command_request *deferred;   /* not begun: it waits for those before it */
    struct command_answer *answer;      /* what is known of it so far */
    bool done;                          /* the answer is whole; it leaves when all before it have */
    uint32_t remaining;                 /* of a commit: shards that have not answered; of such a list: workers */
    struct command_request *asked;      /* of a list that every worker has a part of: the request … */
    struct writer rows;                 /* … and what they have written so far */
    enum request_kind kind;
    uint32_t tag;
    uint16_t code, channel;
};

/* Why a request of nobody's was refused. */
struct refusal {
    uint16_t code;                      /* 0: it was not */
    char text[REFUSAL_MAX];
};

/* A client as its worker knows it. */
struct place_consumer {
    uint64_t queue;
    uint32_t handle;
};

struct client_place {
    struct client *client;              /* NULL: free */
    uint32_t generation, next_free;
    struct pending_request *first, *last;
    union {                             /* see place_consumers */
        struct place_consumer one, *more;
    };
    uint32_t consumer_count, consumer_capacity;   /* capacity 0: there is `one`, or none */
    uint64_t next_serial;
    const struct cached_route *last_route;
    bool alike;                         /* every request in the list may be under way with the others, see requests.c */
};

static inline struct place_consumer *place_consumers(struct client_place *place)
{
    return place->consumer_capacity ? place->more : &place->one;
}

/* What the sessions of a protocol give, and the same with the firehose's deliver. */
#define CLIENT_KINDS_MAX 8u
struct tap {
    const struct client_ops *ops;       /* NULL: free */
    struct client_ops tapped;
};

struct worker {
    struct broker *broker;
    unsigned index;
    struct disk *disk;
    struct worker_port *port;
    uint64_t now_us;                    /* monotonic, of this turn */
    uint64_t wall_us;                   /* since 1970, of this turn */
    int64_t wall_offset_us;             /* from the one to the other */
    uint32_t set_back;                  /* how often it has become less, by more than CLOCK_SLACK_US */
    struct chunk_pool *chunks;
    struct batch_pool batches;
    struct outbox *outboxes;            /* one a worker, itself too */
    struct outbox *arriving;            /* one a worker: the parts of a turn that is not here whole */
    struct outbox inbox;
    struct topology topology;
    struct shard **shards;              /* by shard number; NULL: another worker's */
    struct stage *stages;               /* two a shard: volatile, durable */
    struct cached_route *routes;
    struct tap taps[CLIENT_KINDS_MAX];
    struct worker_letters letters;
    struct client self;                 /* that of the broker's own messages; nobody is told anything */
    struct cached_route uncached;       /* of the last message that went by more than its exchange and key */
    struct map partials;                /* serial → struct partial */
    uint64_t next_partial;
    struct client_place *places;
    uint32_t place_count, place_room, free_place, client_count;   /* places behind place_count were never used, and not written to */
    struct client *turned;              /* clients to be told of the end of the turn */
    uint64_t applied_sequence, acked_sequence;   /* topology changes */
    unsigned blocked;                   /* enum block_reason of any worker */
    bool newcomers;                     /* a client came since those that are here were told */
    uint64_t watch_us;                  /* when room is looked at again */
    struct disk_op free_space;          /* worker 0's question to the disk */
    bool asking_free_space, disk_is_low;
    struct master *master;              /* worker 0 only */
    struct refusal *refusal;            /* where request_refuse leaves what it says of a request of nobody's; NULL: nowhere */
    uint64_t random[4];
};

/* The last command of that type and size; never NULL: without memory for it the program ends, which loses nothing confirmed. */
void *worker_command(struct worker *worker, unsigned to, enum command_type type, uint32_t size, struct chunk *chunk);

/* The same, NULL when out of memory. */
void *worker_try_command(struct worker *worker, unsigned to, enum command_type type, uint32_t size, struct chunk *chunk);

static inline unsigned worker_of_shard(const struct worker *worker, unsigned shard) { return shard % worker->broker->config.workers; }
static inline unsigned worker_of_client(uint64_t client) { return (client >> 32) & 0xFF; }

/* The place of a client id, NULL when that client is gone. */
struct client_place *worker_client(struct worker *worker, uint64_t id);
void worker_client_touched(struct worker *worker, struct client *client);
uint64_t worker_random(struct worker *worker);
/* The broker's name: "godwit@host". */
static inline struct bytes worker_node(const struct worker *worker) { return bytes_of_text(worker->broker->node); }
/* `prefix` and 22 random characters of base64url, written into `text`. */
#define GENERATED_NAME_SIZE 48u
struct bytes worker_generate_name(struct worker *worker, const char *prefix, char text[GENERATED_NAME_SIZE]);
/* Does a change of the topology that the master made. */
void worker_change(struct worker *worker, const struct topology_change *change);
/* Tells the shards' queues what settings they have now: after recovery, and when policies have changed. */
void worker_settings(struct worker *worker);

/* ---- publishing.c ---- */
/* Where what is not logged as it lies is laid out for a shard: for each a chunk of its own, since a chunk's messages belong to one shard. */
struct stage *publishing_stage(struct worker *worker, unsigned shard);
void publishing_seal(struct worker *worker);                 /* slices of this turn become commands */
void publishing_confirmed(struct worker *worker, const struct command_confirm *command);
void publishing_flow(struct worker *worker, const struct command_flow *command);
void publishing_deinit(struct worker *worker);

/* A message that the broker itself publishes: nobody waits for it, and it is lost where there is no memory for it. */
struct own_message {
    struct bytes routing_key, properties, body;
    bool persistent;
};
void worker_publish(struct worker *worker, struct exchange *exchange, const struct own_message *message);

/* ---- transaction.c ---- */
void transaction_publish(struct client *client, const struct publish *publish);
void transaction_settle(struct client *client, struct transaction *transaction, uint64_t queue, enum settle_kind kind, uint64_t first, uint64_t count);

/* ---- requests.c ---- */
struct pending_request *request_begin(struct worker *worker, struct client *client, enum request_kind kind, uint16_t channel);
/* Every part of a commit has answered, or it has none. */
void request_commit_done(struct worker *worker, struct client *client, struct pending_request *pending);
void requests_answered(struct worker *worker, const struct command_answer *answer);
void requests_rows(struct worker *worker, const struct command_rows *command);
void requests_client_gone(struct worker *worker, struct client_place *place);
/* Sends an answer to the client of `request`. text may be empty. */
struct command_answer *request_answer(struct worker *worker, const struct command_request *request, uint16_t code, struct bytes text);
/* The same with a text that is put together here. NULL: the request is nobody's. */
__attribute__((format(printf, 4, 5)))
struct command_answer *request_refuse(struct worker *worker, const struct command_request *request, uint16_t code, const char *format, ...);
/* A request that no client waits for: it is answered to nobody, and why it was refused is left in worker->refusal. free() it; NULL: out of memory. */
struct command_request *request_of_nobody(const struct request *request, uint32_t vhost);
/* Its vhost: the one that it names, or its client's. NULL: there is none. */
struct vhost *request_vhost(const struct topology *topology, const struct command_request *request);
/* The name of its vhost; empty when that is gone. Borrowed until the topology changes. */
struct bytes request_vhost_name(const struct worker *worker, const struct command_request *request);
struct bytes request_name(const struct command_request *request);
struct bytes request_source(const struct command_request *request);
struct bytes request_routing_key(const struct command_request *request);
struct bytes request_type(const struct command_request *request);
struct bytes request_arguments(const struct command_request *request);

/* ---- watch.c ---- */
void watch_turn(struct worker *worker);
/* What is short now on any worker, enum block_reason; this one may not have been told yet. */
unsigned watch_reasons(struct broker *broker);
uint64_t watch_deadline(const struct worker *worker);

/* ---- master.c ---- */
struct master *master_new(struct worker *worker);
void master_free(struct master *master);
void master_request(struct master *master, const struct command_request *request);
/* Nothing runs yet: changes reach the workers at once, instead of going through their turns. */
void master_set_opening(struct master *master, bool opening);
/* While opening: vhosts get what those of an earlier version do not have. */
void master_open_vhosts(struct master *master);
void master_client_gone(struct master *master, uint64_t client);
void master_channel(struct master *master, uint64_t client, bool opened);
struct connections *master_connections(struct master *master);
void master_queue_unused(struct master *master, uint64_t queue);
void master_ack(struct master *master, unsigned worker, uint64_t sequence);
void master_committed(struct master *master, uint64_t sequence, bool ok);
void master_turn_end(struct master *master);
/* Was a change committed that is not yet on its way to the workers? */
bool master_is_due(const struct master *master);
/* Recovery: the master copy as it was logged. */
enum gw_err master_restore(struct master *master, const struct topology_change *change);
struct topology *master_topology(struct master *master);
struct worker *master_worker(struct master *master);
/* Answers `request` that it is done, behind the changes that are on their way. */
struct command_answer *master_answer(struct master *master, const struct command_request *request);
/* The same with a text. */
void master_answer_text(struct master *master, const struct command_request *request, struct bytes text);
/* Logs and applies a change and sends it to all workers; `request` (may be NULL) is answered when they have it. False: the log refused; so was the request. */
bool master_apply(struct master *master, const struct topology_change *change, const struct command_request *request);

/* ---- admission.c ---- */
/* REQUEST_OPEN, REQUEST_CHANNEL, REQUEST_CLOSE. */
void master_open(struct master *master, const struct command_request *request);
void master_open_channel(struct master *master, const struct command_request *request);
void master_close(struct master *master, const struct command_request *request);
/* The same of a client that is connected. */
void master_close_client(struct master *master, uint64_t client, struct bytes reason);

/* ---- administration.c ---- */
/* REQUEST_CHANGE: checks what an administrator asks for, and does it. */
void master_change(struct master *master, const struct command_request *request);

#endif
