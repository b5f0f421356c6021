#include "protocol/amqp/lateness.h"

#include "protocol/amqp/errors.h"

#include <stdlib.h>

#define CHECK_EVERY_MOST_US (60ull * 1000000)
#define CHECK_EVERY_LEAST_US 20000ull

/* ---- notes ------------------------------------------------------------------------------------------------------------- */

void lateness_deinit(struct lateness *lateness)
{
    free(lateness->marks);
    *lateness = (struct lateness){.marks = NULL};
}

static void note(struct channel *channel, uint64_t now_us)
{
    struct lateness *lateness = &channel->lateness;
    if (lateness->count && lateness->marks[lateness->count - 1].tag == channel->unacked.next_tag)
        return;
    if (lateness->count == lateness->capacity) {
        uint32_t capacity = lateness->capacity ? lateness->capacity * 2 : 4;
        struct tag_mark *marks = realloc(lateness->marks, capacity * sizeof(*marks));
        if (!marks)
            return; /* Those until now are judged by the next note: later, but not wrongly. */
        lateness->marks = marks;
        lateness->capacity = capacity;
    }
    lateness->marks[lateness->count++] = (struct tag_mark){channel->unacked.next_tag, now_us};
}

/* Of the notes that are older than every limit, the newest says all that the others do. */
static void forget(struct lateness *lateness, uint64_t before_us)
{
    uint32_t gone = 0;
    while (gone + 1 < lateness->count && lateness->marks[gone + 1].at_us < before_us)
        gone++;
    if (!gone)
        return;
    lateness->count -= gone;
    memmove(lateness->marks, lateness->marks + gone, lateness->count * sizeof(*lateness->marks));
}

/* ---- looking ----------------------------------------------------------------------------------------------------------- */

struct looking {
    struct session *session;
    const struct channel *channel;
    uint64_t shortest_ms, longest_ms;   /* of the queues that were met; 0: none has a limit */
    uint64_t limit_ms;                  /* of the last one */
};

static uint64_t limit_of(struct looking *looking, uint64_t queue)
{
    uint64_t limit_ms = client_consumer_timeout(&looking->session->client, queue, looking->session->config->consumer_timeout_ms);
    if (limit_ms && (!looking->shortest_ms || limit_ms < looking->shortest_ms))
        looking->shortest_ms = limit_ms;
    if (limit_ms > looking->longest_ms)
        looking->longest_ms = limit_ms;
    return looking->limit_ms = limit_ms;
}

/* Tags below the answer were delivered longer ago than the queue allows. */
static uint64_t bound_of(void *owner, uint64_t queue)
{
    struct looking *looking = owner;
    const struct lateness *lateness = &looking->channel->lateness;
    uint64_t limit_us = limit_of(looking, queue) * 1000, bound = 0;
    for (uint32_t i = 0; limit_us && i < lateness->count && lateness->marks[i].at_us + limit_us < looking->session->now_us; i++)
        bound = lateness->marks[i].tag;
    return bound;
}

/* Microseconds until it is worth looking again. */
static uint64_t pause_for(uint64_t shortest_ms)
{
    uint64_t pause_us = shortest_ms * 1000 / 8;
    if (!shortest_ms || pause_us > CHECK_EVERY_MOST_US)
        return CHECK_EVERY_MOST_US;
    return pause_us < CHECK_EVERY_LEAST_US ? CHECK_EVERY_LEAST_US : pause_us;
}

void lateness_arm(struct session *session, uint64_t queue)
{
    struct looking looking = {.session = session};
    limit_of(&looking, queue);
    uint64_t due_us = session->now_us + pause_for(looking.shortest_ms);
    if (!session->lateness_due_us || due_us < session->lateness_due_us)
        session->lateness_due_us = due_us;
}

static void check_channel(struct session *session, struct channel *channel, struct looking *looking)
{
    looking->channel = channel;
    looking->longest_ms = 0;
    if (unacked_holds_below(&channel->unacked, bound_of, looking)) {
        channel->is_late = true;
        error_raise(session, channel, AMQP_PRECONDITION_FAILED, 0, "delivery acknowledgement on channel %u timed out. Timeout value used: %llu ms. "
                    "This timeout value can be configured, see consumers doc guide to learn more", channel->number, (unsigned long long)looking->limit_ms);
        return;
    }
    if (!channel->unacked.held) {
        channel->lateness.count = 0;
        return;
    }
    note(channel, session->now_us);
    if (session->now_us > looking->longest_ms * 1000)
        forget(&channel->lateness, session->now_us - looking->longest_ms * 1000);
}

void lateness_check(struct session *session)
{
    struct looking looking = {.session = session};
    for (uint32_t i = 0; i < session->channel_count; i++) {
        if (session->channels[i]->state == CHANNEL_OPEN && session->phase == PHASE_RUNNING)
            check_channel(session, session->channels[i], &looking);
    }
    for (uint32_t i = 0; i < session->consumer_capacity; i++) {
        if (session->consumers[i] && session->consumers[i]->answered)
            limit_of(&looking, session->consumers[i]->queue);
    }
    session->lateness_due_us = session->now_us + pause_for(looking.shortest_ms);
}

/* ---- lists ------------------------------------------------------------------------------------------------------------- */

/* A note says that what lies below it had been delivered by then. */
static uint64_t held_ms(const struct channel *channel, uint64_t tag)
{
    const struct lateness *lateness = &channel->lateness;
    for (uint32_t i = 0; i < lateness->count; i++)
        if (tag < lateness->marks[i].tag)
            return (channel->session->now_us - lateness->marks[i].at_us) / 1000;
    return 0;
}

void lateness_describe(const struct channel *channel, const struct client_listener *listener)
{
    const struct unacked *unacked = &channel->unacked;
    for (uint32_t place = unacked->first; place < unacked->first + unacked->count; place++) {
        const struct unacked_block *block = unacked->blocks[place];
        for (uint64_t bits = block->held | block->parked; bits; bits &= bits - 1) {
            unsigned index = (unsigned)__builtin_ctzll(bits);
            uint64_t tag = block->number * UNACKED_BLOCK + index;
            listener->held(listener->owner, &(struct client_held){.channel = channel->number, .delivery_tag = tag, .queue = block->entries[index].queue,
                                                                  .seq = block->entries[index].seq, .held_ms = held_ms(channel, tag)});
        }
    }
}
