/* Direct reply-to: the pseudo queue amq.rabbitmq.reply-to. A consumer of it gets a queue of its own, named by the broker behind that prefix, which anybody may publish
 * to and ask for by a declare, and which is no queue for anything else. */
#ifndef PROTOCOL_AMQP_REPLY_TO_H
#define PROTOCOL_AMQP_REPLY_TO_H

#include "base/bytes.h"

#include <stdbool.h>

#define REPLY_TO "amq.rabbitmq.reply-to"

static inline bool reply_to_is(struct bytes name)
{
    return bytes_equal(name, bytes_of_text(REPLY_TO));
}

/* The name of a queue that replies go to, whether it is there or not. */
static inline bool reply_to_names(struct bytes name)
{
    return name.size > sizeof(REPLY_TO) && memcmp(name.data, REPLY_TO ".", sizeof(REPLY_TO)) == 0;
}

#endif
