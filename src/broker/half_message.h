/* What a message says of the transaction that it belongs to (half.h), and the messages that the broker itself makes of one.
 *
 *   published to any exchange                        published to HALF_EXCHANGE with the key "commit" or "rollback"
 *     x-transaction   the transaction's id             x-transaction, or the property correlation-id
 *     x-check-after   milliseconds, HALF_AFTER_…     the broker's own notes in a transaction's queue
 *     x-check-queue   or the property reply-to         exchange HALF_EXCHANGE, key "check": x-transaction, x-check-count
 *     x-check-limit   at most HALF_LIMIT_MAX
 */
#ifndef BROKER_HALF_MESSAGE_H
#define BROKER_HALF_MESSAGE_H

#include "base/bytes.h"
#include "base/err.h"
#include "store/message.h"

#define HALF_EXCHANGE "amq.godwit.transactions"
#define HALF_ID_MAX 255u                       /* bytes */
#define HALF_AFTER_DEFAULT_MS 60000u
#define HALF_AFTER_MAX_MS 2592000000u          /* thirty days */
#define HALF_LIMIT_DEFAULT 15u
#define HALF_LIMIT_MAX 1000u
#define HALF_BODY_MAX 65536u                   /* of a decision, bytes */

enum half_kind {
    HALF_NONE,                                 /* it has nothing to do with transactions */
    HALF_BAD,                                  /* it wants to, and says something wrong */
    HALF_MESSAGE, HALF_COMMIT, HALF_ROLLBACK,
    HALF_NOTE,                                 /* the broker's own: a check-back was sent */
};

/* What it says; it points into the message. */
struct half_said {
    struct bytes id;
    struct bytes check_queue;                  /* empty: none */
    uint64_t check_after_ms;
    uint32_t check_limit;
    bool says_after, says_limit;
    uint32_t checks;                           /* of a note: check-backs so far */
};

/* Of HALF_BAD `why` says what is wrong, without the code's name. `properties` are valid. */
enum half_kind half_read(struct bytes exchange, struct bytes routing_key, struct bytes properties, uint64_t body_size, struct half_said *said, char *why, size_t room);

/* The same of what a client publishes, who may not make notes. */
struct half_asked {
    struct bytes exchange, routing_key, properties;
    uint64_t body_size;
};
enum half_kind half_judge(const struct half_asked *asked, struct half_said *said, char *why, size_t room);

/* Have the properties a header x-transaction? */
bool half_is_asked(struct bytes properties);

/* The properties with which a committed message goes on, in memory of their own (free properties->data): what it said of its transaction is gone but for the id,
 * which is in x-transaction-committed, so that it is no half message when somebody passes it on. GW_ERR_NOMEM; GW_ERR_INVALID: they cannot be read. */
enum gw_err half_committed_properties(struct bytes properties, struct bytes *after);

/* Properties of the broker's own messages, written into `room` (HALF_PROPERTIES_SIZE bytes). */
#define HALF_PROPERTIES_SIZE 1024u
struct half_check {
    struct bytes id;
    uint32_t count, limit;                     /* this is the check-back of that number, of so many */
    uint64_t messages;                         /* of the transaction */
    uint64_t now_s;
};
struct bytes half_check_properties(const struct half_check *check, uint8_t *room);
struct bytes half_note_properties(struct bytes id, uint32_t checks, uint8_t *room);

#endif
