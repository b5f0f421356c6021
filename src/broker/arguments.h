/* The optional arguments of queues, exchanges and consumers: do they make sense, and are those of a second declaration the same as the first one's?
 * What they then mean is settings.h's. Refusals say what RabbitMQ says, values in Erlang's notation included. */
#ifndef BROKER_ARGUMENTS_H
#define BROKER_ARGUMENTS_H

#include "base/bytes.h"
#include "broker/settings.h"

enum arguments_of { ARGUMENTS_OF_QUEUE, ARGUMENTS_OF_EXCHANGE };

/* Compares the arguments that mean something for a queue of the current one's type, or for an exchange; others may differ. `current` and `received`: valid
 * tables. On false `difference` holds what RabbitMQ says of the first one that differs; `what` names the thing:
 * "'x-max-length' for queue 'q' in vhost '/': received the value '2' of type 'signedint' but current is none". */
bool arguments_equivalent(struct bytes current, struct bytes received, enum arguments_of of, const char *what, char *difference, size_t room);

/* How a queue is declared, besides its name. */
struct queue_declaration {
    struct bytes arguments;      /* a valid table */
    bool durable, exclusive, auto_delete;
};

/* May a queue that is not there yet be declared like that? On false `why` holds the refusal, all of them 406:
 * "invalid arg 'x-message-ttl' for queue 'q' in vhost '/': {value_negative,-1}". */
bool arguments_valid(const struct queue_declaration *declaration, const char *what, char *why, size_t room);

/* May the broker make up the name of a queue with these arguments? On false `why` holds the refusal (406). */
bool arguments_allow_generated_name(struct bytes arguments, char *why, size_t room);

/* Is a consumer with these arguments one for a queue of that type? On false `why` holds the refusal (406). x-stream-offset is looked at by those who use it. */
bool arguments_valid_for_consumer(struct bytes arguments, enum queue_type type, const char *what, char *why, size_t room);

/* The arguments of a declaration in a vhost whose queues are of type `name` when nothing else is said: with x-queue-type added, at `room` (ARGUMENTS_ADDED bytes
 * more than they have), where a queue of that type may be declared like that; otherwise as they are. `name` may be empty: nothing is added. */
#define ARGUMENTS_ADDED 64u
struct bytes arguments_with_default_type(const struct queue_declaration *declaration, struct bytes name, uint8_t *room);

/* The table's fields in the order of their names, as RabbitMQ keeps the arguments of bindings: which came first makes no other binding. `arguments` itself when they are
 * in order; otherwise a copy in *sorted, which the caller frees (NULL: none was made, or memory was short). */
struct bytes arguments_in_order(struct bytes arguments, uint8_t **sorted);

#endif
