/* An event as it is published at another broker: the message as it came, with all its properties and headers, but for a few.
 *
 *   headers      that brokers wrote, or that say where else and when it goes (sources/event_message.h), are left out
 *   user-id      is left out: it is a user of this broker, and the other one would refuse the message
 *   message-id   is put in where there is none: the event's id, or one that it keeps over all attempts, so that whoever gets it twice can know it */
#ifndef BUS_FORWARD_H
#define BUS_FORWARD_H

#include "bus/hook_request.h"
#include "io/outgoing.h"
#include "protocol/amqp/sink_uri.h"

struct forward {
    struct outgoing_message message; /* but for its name */
    char id[HOOK_ID_MAX];            /* of the event, as much of it as fits, with a zero behind it */
    uint8_t *room;                   /* what the properties lie in; NULL: in the message */
};

/* `message` and `sink` are borrowed until forward_deinit. `otherwise`: its id, if it has none. False: out of memory. */
bool forward_init(struct forward *forward, const struct message *message, const struct sink_uri *sink, const char *otherwise);
void forward_deinit(struct forward *forward);

#endif
