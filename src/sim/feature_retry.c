/* What x-retry-backoff promises: what comes back is not delivered early, its returns are counted, and why is told; over restarts too, as far as it was on disk.
 *
 * A client counts as a message's holder from when it reads it. It gives it back when it says so or goes, which the broker learns later: so its time is never too late
 * here. That somebody else has had it meanwhile without reading it makes it come later, and count more. */
#include "sim/feature_model.h"

#include <inttypes.h>
#include <string.h>

/* The least time that the `count`-th return waits. */
static uint64_t least_delay_us(const struct chain *chain, uint64_t count)
{
    if (chain->retry_steps)
        return chain->retry_ms[count < chain->retry_steps ? count - 1 : chain->retry_steps - 1ull] * 1000ull;
    uint64_t ms = chain->retry_ms[0];
    for (uint64_t i = 1; i < count && ms < chain->retry_ms[1]; i++)
        ms *= RETRY_MULTIPLIER;
    if (ms > chain->retry_ms[1])
        ms = chain->retry_ms[1];
    return ms * 1000 * (100 - RETRY_JITTER_PERCENT) / 100 - 500;   /* it is whole milliseconds that wait */
}

/* The least time that one has waited which now comes. What its client said of that has not arrived where its connection broke before; then the queue's own time counted. */
static uint64_t waited_us(const struct feature_message *message, const struct chain *chain, const struct feature_arrival *arrival)
{
    uint64_t queue_us = least_delay_us(chain, arrival->delivery_count), own_us = message->own_ms * 1000ull;
    if (!message->own_ms)
        return queue_us;
    bool arrived = arrival->delivery_count == message->seen_count + 1ull && strcmp(arrival->retry_reason, "rejected") == 0;
    return arrived || own_us < queue_us ? own_us : queue_us;
}

uint64_t retry_longest_us(const struct feature_plan *plan)
{
    uint64_t longest_ms = 0;
    for (unsigned i = 0; i < plan->chain_count; i++) {
        const struct chain *chain = &plan->chains[i];
        for (unsigned k = 0; k < RETRY_STEPS_MAX && (chain->features & CHAIN_RETRY); k++)
            longest_ms = chain->retry_ms[k] > longest_ms ? chain->retry_ms[k] : longest_ms;
        longest_ms = chain->own_wait_ms > longest_ms ? chain->own_wait_ms : longest_ms;
    }
    return longest_ms * 1000 * (100 + RETRY_JITTER_PERCENT) / 100;
}

/* Does the broker know, or will it before anything else happens to the message, that it was given back? */
static bool is_back(const struct feature_model *model, const struct feature_message *message)
{
    return message->is_back && (message->back_epoch == model->epoch || message->back_sure);
}

void retry_delivered(struct feature_model *model, unsigned client, const struct feature_arrival *arrival)
{
    struct feature_message *message = feature_message(model, arrival->number);
    const struct chain *chain = &model->plan->chains[message->chain];
    uint64_t count = arrival->has_count ? arrival->delivery_count : 0, now_us = model->trace->now_us;
    uint32_t least = is_back(model, message) ? message->seen_count + 1 : message->least_count;
    if (count < least)
        trace_fail(model->trace, "retry counts", "message %" PRIu64 " of %s comes with x-delivery-count %" PRIu64 ", it came back at least %u times", arrival->number,
                   chain->source, count, least);
    else if (count > message->returns + model->left[message->chain])
        trace_fail(model->trace, "retry counts", "message %" PRIu64 " of %s comes with x-delivery-count %" PRIu64 ", and came back %u times", arrival->number, chain->source,
                   count, message->returns);
    else if (message->is_back && count > message->seen_count && now_us < message->back_us + waited_us(message, chain, arrival))   /* where a crash left the count, it left the time */
        trace_fail(model->trace, "retry never early", "message %" PRIu64 " of %s comes %" PRIu64 " us after its return number %" PRIu64 ", which waits for %" PRIu64,
                   arrival->number, chain->source, now_us - message->back_us, count, waited_us(message, chain, arrival));
    if (count && !arrival->retry_reason[0])
        trace_fail(model->trace, "retry reasons", "message %" PRIu64 " of %s came back, and nobody says why", arrival->number, chain->source);
    message->seen_count = (uint32_t)count;
    message->is_back = message->back_sure = false;
    message->retrier = (uint8_t)client;
}

void retry_let_go(struct feature_model *model, uint64_t number, bool returned)
{
    struct feature_message *message = feature_message(model, number);
    message->retrier = FEATURE_CLIENTS_MAX;
    if (!returned)
        return;
    message->is_back = true;
    message->own_ms = 0;
    message->back_us = model->trace->now_us;
    message->back_epoch = model->epoch;
}

void retry_own_wait(struct feature_model *model, uint64_t number, uint32_t ms) { feature_message(model, number)->own_ms = ms; }

void retry_gone(struct feature_model *model, unsigned client)
{
    for (uint64_t i = 0; i < model->count; i++)
        if (model->messages[i].retrier == client)
            retry_let_go(model, i + 1, true);
}

void retry_restart(struct feature_model *model)
{
    for (uint64_t i = 0; i < model->count; i++)
        model->messages[i].retrier = FEATURE_CLIENTS_MAX;   /* they are back, and nobody's fault */
}

void retry_quiet(struct feature_model *model)
{
    for (uint64_t i = 0; i < model->count; i++) {
        struct feature_message *message = &model->messages[i];
        if (!message->is_back || (message->back_epoch != model->epoch && !message->back_sure))
            continue;
        message->back_sure = true;
        message->least_count = message->seen_count + 1;
    }
}

void retry_died(struct feature_model *model, const struct feature_arrival *arrival)
{
    const struct feature_message *message = feature_message(model, arrival->number);
    const struct chain *chain = &model->plan->chains[message->chain];
    uint64_t count = arrival->has_count ? arrival->delivery_count : 0;
    if (strcmp(arrival->reason, "delivery_limit") == 0 && count != chain->delivery_limit + 1u)
        trace_fail(model->trace, "retry counts", "message %" PRIu64 " of %s died of its limit of %u with x-delivery-count %" PRIu64, arrival->number, chain->source,
                   chain->delivery_limit, count);
    if (count < message->least_count)
        trace_fail(model->trace, "retry counts", "message %" PRIu64 " of %s died with x-delivery-count %" PRIu64 ", it came back at least %u times", arrival->number,
                   chain->source, count, message->least_count);
}
