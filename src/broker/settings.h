/* What a queue's arguments, the policy that applies to it and the operator policy say together of how it behaves.
 *
 *   argument x-message-ttl ─┐
 *   policy message-ttl ─────┼─ the lower one, or the one that has precedence ─→ settings->message_ttl_ms
 *   operator message-ttl ───┘
 *
 * Settings are made once, never changed, and belong to the topology's entry of the queue; a queue of which nothing is said has none (NULL), and pays nothing.
 * Policies are JSON objects with RabbitMQ's keys: {"message-ttl": 60000, "max-length": 1000}. What does not fit (a wrong type, a key of another type of queue)
 * says nothing: declarations and policies are checked where they are made (arguments.h, settings_policy_valid).
 *
 * Precedence is RabbitMQ's: of numbers the lowest counts; the operator's policy limits the user's; where a classic queue's argument and its policy differ in
 * something else, the argument counts; quorum queues take `overflow` and `expires`, and streams everything, from the policy. */
#ifndef BROKER_SETTINGS_H
#define BROKER_SETTINGS_H

#include "base/bytes.h"
#include "base/err.h"
#include "broker/backoff.h"

enum queue_type { QUEUE_CLASSIC, QUEUE_QUORUM, QUEUE_STREAM };

enum queue_overflow { OVERFLOW_DROP_HEAD, OVERFLOW_REJECT_PUBLISH, OVERFLOW_REJECT_PUBLISH_DLX };

/* Which of the fields below are set. */
enum settings_flags {
    SETTINGS_MESSAGE_TTL = 1, SETTINGS_EXPIRES = 2, SETTINGS_MAX_LENGTH = 4, SETTINGS_MAX_LENGTH_BYTES = 8,
    SETTINGS_DEAD_LETTER = 16,           /* there is a dead-letter exchange; its name may be empty (the default exchange) */
    SETTINGS_DEAD_LETTER_KEY = 32,
    SETTINGS_AT_LEAST_ONCE = 64,         /* x-dead-letter-strategy of a quorum queue whose overflow is reject-publish */
    SETTINGS_DELIVERY_LIMIT = 128, SETTINGS_MAX_PRIORITY = 256, SETTINGS_SINGLE_ACTIVE = 512, SETTINGS_CONSUMER_TIMEOUT = 1024,
    SETTINGS_MAX_AGE = 2048, SETTINGS_SEGMENT_BYTES = 4096, SETTINGS_FILTER_BYTES = 8192,
    SETTINGS_DELAYED = 32768,            /* it is the hidden queue of a delayed exchange, see delayed.h */
    SETTINGS_GROUPS = 1u << 17, SETTINGS_GROUP_FAIR = 1u << 18,
    SETTINGS_DEDUP = 1u << 19,           /* it takes messages with the same id once, see dedup.h */
    SETTINGS_HALF = 1u << 21,            /* it is the hidden queue of a vhost's half messages, see half.h */
    SETTINGS_STAMPED = 16384,            /* the arrival time of its messages is kept, see store/message.h */
    SETTINGS_RETRY_BACKOFF = 1u << 16,   /* what comes back waits before it is delivered again, see retry.h */
};

#define SETTINGS_DEDUP_MAX 10000000u     /* ids that a queue may remember; … */
#define SETTINGS_DEDUP_MAX_DEFAULT 1000000u
#define SETTINGS_LIMITED (SETTINGS_MAX_LENGTH | SETTINGS_MAX_LENGTH_BYTES)

struct queue_settings {
    enum queue_type type;
    unsigned flags;                      /* enum settings_flags */
    enum queue_overflow overflow;
    unsigned max_priority;               /* 0 … 255 */
    uint64_t message_ttl_ms, expires_ms;
    uint64_t max_length;                 /* ready messages */
    uint64_t max_length_bytes;           /* bytes of their bodies; of a stream: of its segments */
    uint64_t delivery_limit;             /* returns to the queue after which a message is dropped */
    uint64_t consumer_timeout_ms;        /* 0: never */
    uint64_t max_age_ms, segment_bytes;
    uint64_t filter_bytes;
    struct backoff retry_backoff;
    struct bytes dead_letter_exchange, dead_letter_routing_key, group_key;   /* they lie in the settings' own memory */
    uint64_t dedup_window_ms, dedup_max; /* how long ids are remembered, and how many */
    struct bytes dedup_header;           /* as well; empty: the id is the property message-id */
};

/* `arguments`: a valid AMQP table, borrowed. `policy`, `operator_policy`: JSON text, empty when there is none, borrowed. Answers settings (free them with
 * settings_free), or NULL for a queue that needs none. GW_ERR_NOMEM. */
enum gw_err settings_make(struct bytes arguments, struct bytes policy, struct bytes operator_policy, struct queue_settings **settings);
/* Those of the broker's own queues, to which no argument and no policy applies: `flags` are SETTINGS_DELAYED or SETTINGS_HALF. */
enum gw_err settings_make_own(unsigned flags, struct queue_settings **settings);
void settings_free(struct queue_settings *settings);
bool settings_equal(const struct queue_settings *a, const struct queue_settings *b);   /* either may be NULL */

/* What the arguments say of the type; classic when they say nothing. */
enum queue_type settings_queue_type(struct bytes arguments);
static inline enum queue_type settings_type(const struct queue_settings *settings) { return settings ? settings->type : QUEUE_CLASSIC; }

/* "classic", "quorum", "stream". */
const char *queue_type_name(enum queue_type type);
bool queue_type_parse(struct bytes name, enum queue_type *type);

/* "5D", "1h", … → milliseconds; false: not of that form, or 0. */
bool settings_parse_age(struct bytes text, uint64_t *ms);

/* Is the policy's definition for queues of this type? One with a key that such queues do not have is passed over as a whole, as in RabbitMQ. */
bool settings_policy_applies(struct bytes definition, enum queue_type type);

/* May a policy be set with this definition? On false `why` says what RabbitMQ says: "-1 is not a valid message TTL". */
bool settings_policy_valid(struct bytes definition, bool is_operator, char *why, size_t room);

#endif
