/* Chains that deduplicate. When a message arrived is known from two sides: not before it was sent, and not after its confirm came, or it was first seen. Whoever counted
 * all that is at rest has seen every message that was let in; so one that was confirmed and is nowhere was taken for a duplicate.
 * What was delivered before it was on disk may be lost with its id when the broker dies: only what is firm counts. */
#include "sim/feature_model.h"

#include <inttypes.h>

#define FRACTION_US 1000u   /* times are told in milliseconds */

static uint64_t arrived_by(const struct feature_message *message)
{
    uint64_t by = message->seen_us ? message->seen_us : UINT64_MAX;
    return message->known_us && message->known_us < by ? message->known_us : by;
}

/* Messages of the chain that may have been let in from the one on to the other. */
static uint64_t between(const struct feature_model *model, unsigned chain, const struct feature_message *first, const struct feature_message *last)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < model->count; i++) {
        const struct feature_message *message = &model->messages[i];
        count += message->chain == chain && message->sent_us <= arrived_by(last) && arrived_by(message) >= first->sent_us;
    }
    return count;
}

/* Both were let in. Was one of them the same as the other, whenever they arrived? */
static bool should_be_one(const struct feature_model *model, unsigned chain, const struct feature_message *a, const struct feature_message *b)
{
    const struct chain *of = &model->plan->chains[chain];
    uint64_t window_us = of->window_ms * 1000ull, end_a = arrived_by(a) + FRACTION_US, end_b = arrived_by(b) + FRACTION_US;
    const struct feature_message *first = a->sent_us < b->sent_us ? a : b;
    if ((end_a > b->sent_us && end_a - b->sent_us >= window_us) || (end_b > a->sent_us && end_b - a->sent_us >= window_us))
        return false;
    return between(model, chain, first, first == a ? b : a) < of->most_ids;
}

/* May `message` have been taken for the one that was let in? One that is scheduled is known until it was due so long ago. */
static bool excuses(const struct chain *of, const struct feature_message *let_in, const struct feature_message *message)
{
    uint64_t known_until_us = arrived_by(let_in) + (let_in->delay_ms + of->window_ms) * 1000ull + 2 * FRACTION_US;
    return let_in->seen_us && let_in->sent_us <= arrived_by(message) && message->sent_us < known_until_us;
}

static void check(struct feature_model *model, unsigned chain, struct feature_message *message, uint64_t number)
{
    const struct chain *of = &model->plan->chains[chain];
    bool excused = false;
    for (uint64_t i = 0; i < model->count && !model->trace->failed; i++) {
        const struct feature_message *other = &model->messages[i];
        if (other == message || other->chain != chain || other->id != message->id || !other->seen_us)
            continue;
        if (message->firm && other->firm && !message->paired && should_be_one(model, chain, message, other))
            trace_fail(model->trace, "once", "messages %" PRIu64 " and %" PRIu64 " to %s have the same id %u, came within %u ms, and both were let in", number, i + 1,
                       of->source, message->id, of->window_ms);
        excused |= excuses(of, other, message);
    }
    message->paired |= message->firm;
    if (!message->seen_us && !excused)
        trace_fail(model->trace, "confirmed stays", "message %" PRIu64 " to %s was confirmed, is nowhere, and is no duplicate", number, of->source);
    message->excused = true;
}

void feature_check_once(struct feature_model *model, unsigned chain)
{
    for (uint64_t i = 0; i < model->count && !model->trace->failed; i++) {
        struct feature_message *message = &model->messages[i];
        if (message->chain != chain || (message->seen_us ? message->paired : message->excused || message->answer != ANSWER_ACCEPTED))
            continue;
        check(model, chain, message, i + 1);
    }
}
