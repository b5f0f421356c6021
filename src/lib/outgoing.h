/* An event as the message that it becomes: routing key and property `type` say its type, message-id its id; the other attributes are headers cloudEvents_…, once there is one that must be
 * said (docs/events.md, "As a message"). */
#ifndef LIB_OUTGOING_H
#define LIB_OUTGOING_H

#include "lib/engine.h"
#include "lib/event.h"

#define OUTGOING_HEADERS_MAX 48u
#define OUTGOING_BODY_MAX (UINT64_C(1) << 30)
#define ATTEMPT_HEADER "x-attempt"       /* of a copy that comes again: how often it was tried */

struct outgoing {
    /* What the program said; options may be NULL. */
    struct bytes exchange, type, body;
    const gw_publish_options *options;
    struct bytes reply_to, correlation_id;   /* of requests; empty: none */
    bool mandatory;

    /* What becomes of it. Its properties lie in the bus's room, or, where that is too small, in memory of their own. */
    struct engine_message message;
    uint8_t *memory;
};

/* Makes the message. `id`: for one that has none. < 0: a sentence was left in the bus's loop. */
int outgoing_make(struct gw_bus *bus, struct outgoing *outgoing, struct bytes id);
void outgoing_deinit(struct outgoing *outgoing);

/* Publishes it. `told` (may be NULL) is told what became of it; with `ticket` it is asked for in any case, under that number. */
int outgoing_publish(struct gw_bus *bus, struct outgoing *outgoing, gw_published_fn told, void *context, uint64_t *ticket);

/* A copy for the queue of the event's handler. False: out of memory. */
struct again {
    struct engine_message message;
    uint8_t *memory;
};
bool outgoing_again(struct gw_event *event, struct again *again);
void outgoing_again_deinit(struct again *again);

#endif
