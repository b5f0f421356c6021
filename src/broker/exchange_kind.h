/* The types of exchanges as rows: how each keeps its bindings, and which of them a message matches. */
#ifndef BROKER_EXCHANGE_KIND_H
#define BROKER_EXCHANGE_KIND_H

#include "base/bytes.h"
#include "base/err.h"

struct binding;
struct exchange;
struct queue_entry;

/* The numbers are in the log. */
enum exchange_type {
    EXCHANGE_DIRECT, EXCHANGE_FANOUT, EXCHANGE_TOPIC, EXCHANGE_HEADERS,
    EXCHANGE_CONSISTENT_HASH, EXCHANGE_RANDOM, EXCHANGE_MODULUS_HASH,
    EXCHANGE_DELAYED,            /* routes as its argument x-delayed-type says, late */
    EXCHANGE_LOCAL_RANDOM,       /* of RabbitMQ 4: as x-random, to queues of this node, which are all */
    EXCHANGE_TYPE_COUNT,
};

/* A message as exchanges look at it; everything is borrowed. */
struct routed_message {
    struct bytes routing_key;
    struct bytes copies[2];      /* the values of the headers CC and BCC, see copies.h; empty: none */
    struct bytes properties;     /* AMQP's property bytes */
    uint64_t random;             /* for exchanges that choose by chance */
};

typedef void binding_found(void *owner, struct binding *binding);

struct exchange_kind {
    const char *name;
    bool by_key;                 /* where a message goes depends on the exchange and the routing key alone */
    void *(*index_new)(uint64_t seed);   /* NULL: it has no index, all bindings match */
    void (*index_free)(void *index);
    enum gw_err (*add)(void *index, struct binding *binding);
    void (*remove)(void *index, struct binding *binding);
    void (*match)(struct exchange *exchange, const struct routed_message *message, binding_found *found, void *owner);
};

/* The row of a type; of EXCHANGE_DELAYED use the one of the type it routes as. */
const struct exchange_kind *exchange_kind(enum exchange_type type);

/* "direct", "x-consistent-hash", … */
const char *exchange_type_name(enum exchange_type type);
bool exchange_type_parse(struct bytes name, enum exchange_type *type);

/* The type by which an exchange of `type` with these arguments (a valid table) chooses its bindings: its own, or the x-delayed-type. */
enum exchange_type exchange_type_routes_as(enum exchange_type type, struct bytes arguments);

/* May it be declared with these arguments (a valid table)? On false `code` and `text` say why not: text without the code's name. */
bool exchange_arguments_valid(enum exchange_type type, struct bytes arguments, uint16_t *code, char *text, size_t room);

/* May an exchange that routes as `type` have a binding like this? `queue`: its destination; NULL: that is an exchange. On false `text` says why not (406), without the
 * code's name. */
bool exchange_binding_valid(enum exchange_type type, const struct queue_entry *queue, struct bytes routing_key, struct bytes arguments, char *text, size_t room);

/* Is where a message goes known from the exchange and the routing key alone? */
bool exchange_is_by_key(enum exchange_type routes_as, struct bytes arguments);

#endif
