/* What a protocol session and the broker say to one another, on one reactor.
 *
 * A session embeds a `struct client`. It calls the verbs below while it parses its input; none of them blocks, calls back or makes a
 * system call: they append commands to the worker's batches. Answers come later, in worker_turn, through `ops`; an ops
 * function may call any verb but client_detach (say so with client_detach after the turn, see there).
 *
 * Order: commands of one client to one queue are done in the order of the calls. A request (declare, consume, get, …) is
 * answered when it is done; a session that must keep the order between a request and what follows on the channel waits for
 * the answer before it parses on. Requests about topology alone may be pipelined among themselves: their answers come in order. */
#ifndef BROKER_CLIENT_H
#define BROKER_CLIENT_H

#include "base/bytes.h"
#include "base/chunk.h"
#include "base/err.h"

struct access;
struct worker;
struct client;
struct client_listener;
struct topology_change;
struct transaction;

/* ---- answers, and what comes unasked -------------------------------------------------------------------------------- */

enum delivery_header {
    DELIVERY_ADDS_NOTHING, DELIVERY_ADDS_COUNT /* x-delivery-count */, DELIVERY_ADDS_OFFSET /* x-stream-offset */,
    DELIVERY_ADDS_RETRY,         /* x-delivery-count, the value's lower 56 bits, and x-retry-reason, those above: an enum retry_reason */
};
#define DELIVERY_REASON_SHIFT 56u

/* Why a message came back, where its queue has it wait for that; logs and snapshots say it with these numbers. */
enum retry_reason { RETRY_NONE, RETRY_REJECTED, RETRY_TIMEOUT, RETRY_CONNECTION_LOST, RETRY_CLOSED, RETRY_REASONS };
static inline struct bytes retry_reason_name(uint64_t reason)
{
    static const char *const names[RETRY_REASONS] = {"", "rejected", "timeout", "connection-lost", "closed"};
    return bytes_of_text(names[reason < RETRY_REASONS ? reason : RETRY_NONE]);
}

/* A message on its way to a consumer or as the answer to a get. Borrowed until the callback returns: copy what you need, or
 * chunk_retain(chunk) to keep `content` (see store/message.h for its layout). */
struct delivery {
    uint64_t queue;              /* id, for client_settle */
    uint64_t seq;                /* its place in that queue, for client_settle */
    struct bytes content;
    struct chunk *chunk;         /* what `content` lies in */
    uint32_t consumer;           /* the number that the session gave in its consume request; of a get: its request's tag */
    uint32_t handle;             /* the broker's own number of the consumer, for client_credit; 0 for a get */
    uint32_t messages_left;      /* of a get: ready messages still in the queue */
    uint16_t channel;
    bool redelivered;
    bool no_ack;                 /* already settled: nothing to keep */
    bool is_get;
    bool is_record;              /* `content` is a record of a stream's batch (store/stream_message.h) */
    enum delivery_header added;  /* a header that the consumer gets beside those that the message was published with … */
    uint64_t added_value;        /* … and its value */
    uint64_t arrived_ms;         /* of a stream: when it came, milliseconds since 1970; 0: not known */
};

enum request_kind {
    REQUEST_QUEUE_DECLARE,       /* passive too */
    REQUEST_QUEUE_DELETE,
    REQUEST_QUEUE_PURGE,
    REQUEST_QUEUE_BIND,
    REQUEST_QUEUE_UNBIND,
    REQUEST_EXCHANGE_DECLARE,
    REQUEST_EXCHANGE_DELETE,
    REQUEST_EXCHANGE_BIND,
    REQUEST_EXCHANGE_UNBIND,
    REQUEST_CONSUME,
    REQUEST_CANCEL,
    REQUEST_GET,                 /* answered by deliver (is_get) or by replied with `empty` */
    REQUEST_COMMIT,              /* a transaction: client_transaction_commit */
    REQUEST_OPEN,                /* `name`: the vhost, `source`: the user, `arguments`: what is known of the connection, see connections.h. 530: it may not; with REQUEST_TRUSTED: any may */
    REQUEST_CHANNEL,             /* a channel, when client_channel_opened says that one must be asked for */
    REQUEST_CLOSE,               /* of another connection, `name`, for the reason in `source` */
    REQUEST_CHANGE,              /* what administrators do: `change`, see administration.c. The asker has seen to it that the user may */
    REQUEST_CONTROL,             /* `arguments` is JSON, `source` the user who asks; the answer's text is JSON, its code 0 in any case; see control.h */
    REQUEST_INSPECT,             /* what becomes of such a one at a queue, `name`: `arguments` is the same JSON; see inspect.h. Not for sessions */
};

enum request_flags {
    REQUEST_PASSIVE = 1, REQUEST_DURABLE = 2, REQUEST_EXCLUSIVE = 4, REQUEST_AUTO_DELETE = 8, REQUEST_INTERNAL = 16,
    REQUEST_IF_UNUSED = 32, REQUEST_IF_EMPTY = 64, REQUEST_NO_ACK = 128, REQUEST_NO_LOCAL = 256,
    REQUEST_REPLY_QUEUE = 1 << 15,   /* queue.declare with an empty name: one for replies, "amq.rabbitmq.reply-to." and more */
    REQUEST_CHANNEL_LIMITED = 512,   /* consume: the channel has a limit of its own, see client_refuse */
    REQUEST_HIDDEN = 1024,           /* queue.declare: it is in no list, as it is the session's own means to an end */
    REQUEST_TRUSTED = 2048,          /* the session itself asks, or an administrator: no permission is needed */
};

/* Everything is borrowed until client_request returns. */
struct request {
    enum request_kind kind;
    unsigned flags;
    uint16_t channel;            /* given back in the answer */
    uint32_t tag;                /* given back in the answer; free for the session's use; of a consume: the consumer's number */
    struct bytes name;           /* the queue's or exchange's; of a bind: the destination's; queue.declare with an empty one: the broker makes one */
    struct bytes source;         /* bind, unbind: the source exchange's name */
    struct bytes routing_key;
    struct bytes type;           /* exchange.declare: "direct", … */
    struct bytes vhost;          /* by name; empty: the client's own */
    const struct topology_change *change;
    struct bytes arguments;      /* an AMQP field table's payload without its length, validated by the session */
    uint64_t queue;              /* cancel: its queue's id; handle: */
    uint32_t handle;             /* cancel: the consumer's handle */
    uint32_t prefetch;           /* consume: messages unacknowledged at most; 0: no limit */
};

struct reply {
    enum request_kind kind;
    uint16_t channel;
    uint32_t tag;
    uint16_t code;               /* 0: done. Otherwise the AMQP reply code (404, 405, 406, 403, …) … */
    struct bytes text;           /* … and the reply text, e.g. "NOT_FOUND - no queue 'x' in vhost '/'". Of a control request: the JSON */
    struct bytes name;           /* queue.declare: the queue's name */
    uint32_t messages, consumers;    /* declare, delete, purge */
    uint64_t queue;              /* consume: the queue's id */
    uint32_t handle;             /* consume: the consumer's handle */
    bool empty;                  /* get: nothing there */
};

/* NULL is allowed for confirmed, resumed, blocked and turned: the session does not care. */
struct client_ops {
    void (*deliver)(struct client *client, const struct delivery *delivery);
    void (*replied)(struct client *client, const struct reply *reply);
    /* The publishes first … first + count - 1 of `channel` are on disk (or need not be), or were refused (accepted false). In the
     * order of the tags per shard only: tags of publishes to different shards may overtake each other; one tag is told once. */
    void (*confirmed)(struct client *client, uint16_t channel, uint64_t first, uint64_t count, bool accepted);
    /* The consumer's queue is gone; nothing more comes for it, its unacknowledged messages too are gone. */
    void (*cancelled)(struct client *client, uint16_t channel, uint32_t consumer);
    /* client_may_publish is true again: parse on. */
    void (*resumed)(struct client *client);
    /* The broker lacks `reason` ("low on memory", "low on disk"); NULL: no more. While it does, client_may_publish is false. */
    void (*blocked)(struct client *client, const char *reason);
    /* The broker wants no more of the connection: it is to be closed with this code and text ("CONNECTION_FORCED - vhost 'x' is deleted"). */
    void (*closed)(struct client *client, uint16_t code, struct bytes text);
    /* End of a loop turn in which anything was called above: time to give credit back and to put confirms together. */
    void (*turned)(struct client *client);
    /* Tells the listener of the client's channels and consumers, for lists. NULL: it has none. */
    void (*describe)(struct client *client, const struct client_listener *listener);
};

/* A channel and a consumer as administrators see them. Borrowed until the listener returns. */
struct client_channel {
    uint16_t number;
    bool transactional, confirm;
    uint32_t consumers;
    uint64_t unacknowledged, acks_uncommitted, unconfirmed;
    uint32_t prefetch, limit;    /* of consumers to come, of the whole channel; 0: none */
};

struct client_consumer {
    uint16_t channel;
    uint32_t number;             /* the session's own */
    struct bytes tag;
    uint64_t queue;              /* its id */
    bool ack_required;
    uint32_t prefetch;
    struct bytes arguments;
};

/* A delivery that is not settled yet. */
struct client_held {
    uint16_t channel;
    uint64_t delivery_tag, queue, seq;
    uint64_t held_ms;            /* for at least so long; 0: not known to be longer */
};

/* Any function may be NULL. */
struct client_listener {
    void *owner;
    void (*channel)(void *owner, const struct client_channel *channel);
    void (*consumer)(void *owner, const struct client_consumer *consumer);
    void (*held)(void *owner, const struct client_held *held);
};

/* Embedded in the session; fields are the worker's but for ops. */
struct client {
    const struct client_ops *ops;
    struct worker *worker;
    uint64_t id;                 /* unique while the broker runs; its low 32 bits are the slot, see worker.c */
    uint64_t in_flight;          /* bytes published that shards have not yet taken in */
    struct bytes user, name;     /* the session's: its user, what its connection is called; set before REQUEST_OPEN, valid until client_detach */
    uint32_t vhost;              /* id of the vhost that it opened; 0: none yet */
    bool stalled;                /* resumed is owed */
    bool turned_queued;
    bool may_everything;         /* in that vhost, see permissions.h */
    bool trusted;                /* of the program in whose process the broker is: it may everything, whatever users there are. Set before REQUEST_OPEN, which is REQUEST_TRUSTED then */
    struct access *limits;       /* what it may do at most, whatever its user may; NULL: all of that */
    uint64_t scope;              /* of the routes that are cached for it */
    struct client *turned_next;
};

/* ---- lifecycle ----------------------------------------------------------------------------------------------------- */

/* GW_ERR_LIMIT: too many clients. */
enum gw_err client_attach(struct worker *worker, struct client *client, const struct client_ops *ops);

/* The session ends: the session has requeued what it held unacknowledged (client_settle) and cancelled nothing (its consumers and exclusive
 * queues go by themselves). No callback comes after this; what is on its way to it is requeued. Not from inside a callback. */
void client_detach(struct client *client);

/* Is this the password of `user`? Constant time. On false nothing tells which of the two is wrong. `from_loopback`: judged by the peer's
 * address; the user guest is refused otherwise. */
bool client_authenticate(struct client *client, struct bytes user, struct bytes password, bool from_loopback);

/* The same of one who has proven otherwise who he is (by a certificate): is there such a user? */
bool client_identify(struct client *client, struct bytes user, bool from_loopback);

/* Whatever its user may, this client may configure, write to and read from no more than what these regular expressions match (an empty one: nothing), and has none of its
 * tags. Once, before REQUEST_OPEN. GW_ERR_NOMEM, GW_ERR_INVALID: one of them does not compile. */
enum gw_err client_restrict(struct client *client, struct bytes configure, struct bytes write, struct bytes read);

/* Do these limits let it configure that queue, or read from it? For what is asked for on its behalf without a look at its permissions. */
bool client_limits_allow(const struct client *client, bool configure, struct bytes queue);

/* Has the client's user this tag ("administrator", "impersonator")? */
bool client_is_tagged(const struct client *client, const char *tag);

/* A channel was opened or closed; told before client_detach. Opened, true: the user's channels are limited, REQUEST_CHANNEL has to say whether it may be. */
bool client_channel_opened(struct client *client);
void client_channel_closed(struct client *client);

/* What time it is (monotonic microseconds) where verbs are called between turns: messages are stamped with the time at which they came, not with that of the last turn. */
void client_time(struct client *client, uint64_t now_us);

/* The name of the vhost that the client has opened, empty when it is gone. Borrowed until the next turn. */
struct bytes client_vhost_name(const struct client *client);

/* What those who listen to amq.rabbitmq.event hear of; costs next to nothing when nobody does. */
enum client_event { CLIENT_CHANNEL_CREATED, CLIENT_CHANNEL_CLOSED, CLIENT_CONSUMER_CREATED, CLIENT_CONSUMER_DELETED };
struct client_news {
    enum client_event event;
    uint16_t channel;
    uint64_t queue;              /* of a consumer: its queue's id … */
    struct bytes tag;            /* … and its tag, … */
    uint32_t prefetch;           /* … and of one that is created: */
    bool no_ack, exclusive;
};
void client_tell(const struct client *client, const struct client_news *news);

/* ---- publishing, the hot path in ----------------------------------------------------------------------------------- */

enum publish_result {
    PUBLISH_ROUTED,
    PUBLISH_UNROUTABLE,          /* no queue: the session answers a mandatory one with a return and confirms by itself */
    PUBLISH_NO_EXCHANGE,         /* 404 */
    PUBLISH_INTERNAL_EXCHANGE,   /* 403: clients may not publish to it */
    PUBLISH_ACCESS_REFUSED,      /* 403: the user may not publish to it */
    PUBLISH_TOPIC_REFUSED,       /* 403: … not with this routing key */
    PUBLISH_REFUSED,             /* durable storage has failed or is full: nack, or 541 where there are no confirms */
    PUBLISH_NO_MEMORY,           /* 506 */
    PUBLISH_BAD_DELAY,           /* 406: its x-delay or x-deliver-at lies too far ahead */
    PUBLISH_BAD_TRANSACTION,     /* 406: what it says of a transaction is wrong: client_publish_fault */
    PUBLISH_CHECK_REFUSED,       /* 403: the user may not publish to the default exchange, and the message names a queue to be asked at */
};

struct publish {
    /* the session fills in: */
    uint16_t channel;
    bool persistent, mandatory;
    bool whole;                  /* the body is written before anything else is called on this worker */
    uint64_t confirm_tag;        /* 0: not told through `confirmed` */
    struct bytes exchange, routing_key, properties;   /* borrowed until client_publish_begin returns */
    uint64_t body_size;          /* bytes */
    struct transaction *transaction;   /* NULL, or it becomes true with that */

    /* the worker fills in: */
    uint8_t *body;               /* where the session writes body_size bytes; NULL: they are not wanted */
    struct bytes content;        /* of an unroutable mandatory one, after client_publish_end: for the return. Valid while `chunk` is held */
    struct chunk *chunk;         /* of an unroutable one: where it is not NULL the broker wants to see the message, client_publish_end is owed */
    struct publish_place {       /* private to publishing.c */
        uint8_t *record, *content;
        uint64_t content_size;
        uint32_t targets;
        bool durable;
        uint8_t marks;               /* PUBLISH_EXPIRES, PUBLISH_SCHEDULED */
        bool traced;                 /* set with a chunk only */
    } place;
};

/* What client_publish_begin would answer because of the exchange alone; PUBLISH_ROUTED: nothing. For a session that refuses the message for another reason, which
 * is told only when there is none of these. */
enum publish_result client_publish_judge(struct client *client, const struct publish *publish);

/* Routes and makes room. On ROUTED (or UNROUTABLE with a chunk: mandatory ones, and those that are traced) write the body at publish->body, then call
 * client_publish_end; on anything else it is over.
 * Cheap when exchange and routing key are those of the channel's last publish. */
enum publish_result client_publish_begin(struct client *client, struct publish *publish);

/* After PUBLISH_BAD_TRANSACTION: what is wrong, without the code's name. */
void client_publish_fault(const struct publish *publish, char *why, size_t room);

/* The same for a message with CC or BCC headers: further routing keys, the payloads of their arrays. `publish` has the properties as they are stored: without BCC. */
enum publish_result client_publish_begin_copied(struct client *client, struct publish *publish, const struct bytes copies[2]);

/* The body is complete: the message is on its way. For an unroutable mandatory one: content and chunk are set, the caller releases
 * the chunk with client_release; of another unroutable one nothing is left. */
void client_publish_end(struct client *client, struct publish *publish);

/* The body will never be complete (the channel closed half-way). */
void client_publish_abort(struct client *client, struct publish *publish);

/* May the session parse further publishes now? False while too many bytes are in flight or the broker is blocked; then ops->resumed tells. */
bool client_may_publish(struct client *client);

void client_release(struct client *client, struct chunk *chunk);

/* The queues that a message without headers would go to, borrowed until the next verb. False: that is not known beforehand, or there is no such exchange. The answer is another one only when the
 * version is. */
bool client_route(struct client *client, struct bytes exchange, struct bytes routing_key, const uint64_t **queues, uint32_t *count);
uint64_t client_routes_version(const struct client *client);

/* Exchange and queue are there, and are not bound like that. Another one only when the version is. */
bool client_lacks_binding(const struct client *client, struct bytes exchange, struct bytes queue, struct bytes routing_key);

/* ---- consuming ------------------------------------------------------------------------------------------------------ */

enum settle_kind {
    SETTLE_ACK, SETTLE_REQUEUE, SETTLE_DISCARD /* reject without requeue */, SETTLE_UNDELIVERED /* requeue, never reached the peer */,
    SETTLE_TIMED_OUT, SETTLE_LOST, SETTLE_CLOSED,   /* like SETTLE_REQUEUE: it was late, its connection was lost, its channel or connection was closed … */
    SETTLE_FORCED,                                  /* … because the broker ends, or somebody told it to close the connection: where messages wait, that is no reason */
};

/* Settles `count` messages first_seq, first_seq + 1, … of `queue`, each of which this client holds unacknowledged. Unknown ones are
 * passed over (their queue may be gone). `transaction` NULL: at once. */
void client_settle(struct client *client, uint64_t queue, enum settle_kind kind, uint64_t first_seq, uint64_t count,
                   struct transaction *transaction);

/* They failed (SETTLE_REQUEUE), and wait for so long instead of for what their queue's backoff says; at most DELAY_MAX_MS of it counts. Where the queue has no backoff they do not wait. */
void client_settle_after(struct client *client, uint64_t queue, uint64_t first_seq, uint64_t count, uint64_t delay_ms);

/* How long a delivery from the queue may wait for its ack, milliseconds: what its settings say, otherwise `otherwise_ms`. 0: for ever. */
uint64_t client_consumer_timeout(struct client *client, uint64_t queue, uint64_t otherwise_ms);

/* `bytes` (content bytes plus DELIVERY_OVERHEAD a message) of deliveries to this consumer have left or are about to: more may come. */
#define DELIVERY_OVERHEAD 64u
void client_credit(struct client *client, uint64_t queue, uint32_t handle, uint32_t bytes);

/* A delivery to a consumer of REQUEST_CHANNEL_LIMITED that the channel's own limit does not allow now: it goes back to its place, and this consumer gets
 * nothing more until client_resume. */
void client_refuse(struct client *client, const struct delivery *delivery);
void client_resume(struct client *client, uint64_t queue, uint32_t handle);

/* A consumer that was asked for with REQUEST_NO_ACK and without REQUEST_CHANNEL_LIMITED gets a channel with a limit: from now on what is delivered to it (and does
 * not say no_ack) is to be settled, or may be refused. */
void client_bind_to_limit(struct client *client, uint64_t queue, uint32_t handle);

/* ---- requests -------------------------------------------------------------------------------------------------------- */

void client_request(struct client *client, const struct request *request);

/* Publishes and settles that become true together (per shard), or not at all. NULL: out of memory. */
struct transaction *client_transaction_new(struct client *client);
/* Takes the transaction; answered through `replied` (REQUEST_COMMIT, channel) once everything is on disk. */
void client_transaction_commit(struct client *client, struct transaction *transaction, uint16_t channel);
/* Takes the transaction: its publishes vanish; its settles are as if never said (the session still holds those messages). */
void client_transaction_rollback(struct client *client, struct transaction *transaction);

#endif
