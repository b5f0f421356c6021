#include "protocol/amqp/lateness.h"

#include "protocol/amqp/errors.h"

#define CHECK_EVERY_MOST_US (60ull * 1000000)
#define CHECK_EVERY_LEAST_US 50000ull

struct looking {
    struct session *session;
    uint64_t shortest_ms;      /* of all queues that were met; 0: none has a limit */
};

static uint64_t limit_of(void *owner, uint64_t queue)
{
    struct looking *looking = owner;
    uint64_t limit_ms = client_consumer_timeout(&looking->session->client, queue, looking->session->config->consumer_timeout_ms);
    if (limit_ms && (!looking->shortest_ms || limit_ms < looking->shortest_ms))
        looking->shortest_ms = limit_ms;
    return limit_ms;
}

/* Microseconds until it is worth looking again. */
static uint64_t pause_for(uint64_t shortest_ms)
{
    uint64_t pause_us = shortest_ms * 1000 / 4;
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

void lateness_check(struct session *session)
{
    struct looking looking = {.session = session};
    for (uint32_t i = 0; i < session->channel_count; i++) {
        struct channel *channel = session->channels[i];
        uint64_t passed_ms;
        if (channel->state != CHANNEL_OPEN || session->phase != PHASE_RUNNING ||
            !unacked_is_late(&channel->unacked, session->now_us, limit_of, &looking, &passed_ms))
            continue;
        error_raise(session, channel, AMQP_PRECONDITION_FAILED, 0, "delivery acknowledgement on channel %u timed out. Timeout value used: %llu ms. "
                    "This timeout value can be configured, see consumers doc guide to learn more", channel->number, (unsigned long long)passed_ms);
    }
    for (uint32_t i = 0; i < session->consumer_capacity; i++)
        if (session->consumers[i] && session->consumers[i]->answered)
            limit_of(&looking, session->consumers[i]->queue);
    session->lateness_due_us = session->now_us + pause_for(looking.shortest_ms);
}
