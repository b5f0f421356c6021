/* Dead letters that go back to where they died first: which queue that was, and what they look like there. */
#ifndef BROKER_REPLAY_H
#define BROKER_REPLAY_H

#include "base/bytes.h"
#include "base/err.h"

struct replay {
    struct bytes queue, exchange, routing_key;   /* they point into the properties */
};

/* What x-death and x-first-death-queue say of the first death. False: it is no dead letter. */
bool replay_of(struct bytes properties, struct replay *replay);

/* The properties with which it goes back, in memory of their own (free properties->data): x-replayed counts how often. GW_ERR_NOMEM; GW_ERR_INVALID: they cannot be read. */
enum gw_err replay_properties(struct bytes properties, struct bytes *after);

#endif
