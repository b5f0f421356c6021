/* Somebody looks into the queues of a chain while it works, and sorts its messages out: from the source to the dead queue, back again, dead letters to where they died. Whatever
 * crashes in the middle, each message is in one of the two, once. */
#include "sim/feature_model.h"

#include <stdio.h>

void inside_request(const struct chain *chain, struct random *random, char *text, size_t room)
{
    unsigned limit = (unsigned)random_between(random, 1, random_chance(random, 1, 2) ? 5 : 300);
    switch (random_below(random, 8)) {
    case 0: case 1:
        snprintf(text, room, "{\"command\":\"queue_replay\",\"name\":\"%s\",\"all\":true}", chain->dead);
        break;
    case 2: case 3:
        snprintf(text, room, "{\"command\":\"queue_move\",\"name\":\"%s\",\"target\":\"%s\",\"all\":true,\"limit\":%u}", chain->source, chain->dead, limit);
        break;
    case 4: case 5:
        snprintf(text, room, "{\"command\":\"queue_move\",\"name\":\"%s\",\"target\":\"%s\",\"all\":true,\"limit\":%u}", chain->dead, chain->source, limit);
        break;
    case 6:
        snprintf(text, room, "{\"command\":\"queue_browse\",\"name\":\"%s\",\"limit\":%u,\"body\":10}", chain->source, limit);
        break;
    default:
        snprintf(text, room, "{\"command\":\"queue_holders\",\"name\":\"%s\"}", chain->source);
        break;
    }
}

void inside_delivered(struct feature_message *message)
{
    message->dead = false;
    if (message->end != END_REJECTED)
        return;
    /* It was rejected, and came back. */
    message->end = END_NONE;
    message->end_epoch = 0;
    message->ender = FEATURE_CLIENTS_MAX;
    message->sure = false;
}
