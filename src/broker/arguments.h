/* The optional arguments of queues and exchanges: are those of a second declaration the same as the first one's? */
#ifndef BROKER_ARGUMENTS_H
#define BROKER_ARGUMENTS_H

#include "base/bytes.h"

enum arguments_of { ARGUMENTS_OF_QUEUE, ARGUMENTS_OF_EXCHANGE };

/* Compares the arguments that mean something for a queue or an exchange; others may differ. `current` and `received`: valid tables. On false `difference` holds what
 * RabbitMQ says of the first one that differs; `what` names the thing:
 * "'x-max-length' for queue 'q' in vhost '/': received the value '2' of type 'signedint' but current is none". */
bool arguments_equivalent(struct bytes current, struct bytes received, enum arguments_of of, const char *what, char *difference, size_t room);

#endif
