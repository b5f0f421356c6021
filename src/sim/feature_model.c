#include "sim/feature_model.h"

#include "base/err.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LATE_US 500000u   /* by which an expired message may still be on its way to a consumer that reads slowly */

void feature_model_init(struct feature_model *model, const struct feature_plan *plan, struct trace *trace)
{
    *model = (struct feature_model){.plan = plan, .trace = trace, .epoch = 1};
    for (unsigned i = 0; i < CHAINS_MAX; i++)
        model->active[i] = FEATURE_CLIENTS_MAX;
}

void feature_model_deinit(struct feature_model *model)
{
    free(model->messages);
    free(model->transactions);
}

/* ---- publishing ------------------------------------------------------------------------------------------------------ */

uint64_t feature_publish(struct feature_model *model, unsigned chain, uint32_t stream, uint32_t order, uint8_t priority, uint32_t ttl_ms, uint32_t delay_ms)
{
    const struct chain *of = &model->plan->chains[chain];
    if (model->count == model->room) {
        model->room = model->room ? model->room * 2 : 256;
        model->messages = realloc(model->messages, model->room * sizeof(*model->messages));
        CHECK(model->messages);
    }
    if ((of->features & CHAIN_TTL) && of->ttl_ms < ttl_ms)
        ttl_ms = of->ttl_ms;
    model->messages[model->count++] = (struct feature_message){
        .sent_us = model->trace->now_us, .offset = UINT64_MAX, .stream = stream, .order = order, .ttl_ms = ttl_ms, .delay_ms = delay_ms, .chain = (uint8_t)chain,
        .epoch = model->epoch, .retrier = FEATURE_CLIENTS_MAX,
        .priority = priority > of->max_priority ? of->max_priority : priority, .ender = FEATURE_CLIENTS_MAX, .holder = FEATURE_CLIENTS_MAX, .returner = FEATURE_CLIENTS_MAX};
    return model->count;
}

void feature_confirm(struct feature_model *model, uint64_t number, bool accepted)
{
    struct feature_message *message = feature_message(model, number);
    const struct chain *chain = &model->plan->chains[message->chain];
    message->answer = accepted ? ANSWER_ACCEPTED : ANSWER_REFUSED;
    message->known_us = model->trace->now_us;
    message->firm |= accepted && message->seen_us;
    if (accepted)
        halves_confirmed(model, message);
    if (!accepted && !(chain->features & CHAIN_REJECT_PUBLISH) && !halves_may_refuse(model, message))
        trace_fail(model->trace, "confirms", "message %" PRIu64 " to %s is refused, and nothing says why", number, chain->source);
}

/* ---- arriving --------------------------------------------------------------------------------------------------------- */

static struct feature_message *known(struct feature_model *model, unsigned chain, uint64_t number)
{
    if (number == 0 || number > model->count || feature_message(model, number)->chain != chain) {
        trace_fail(model->trace, "nothing appears", "message %" PRIu64 " in chain %u, where it was not published", number, chain);
        return NULL;
    }
    return feature_message(model, number);
}

/* A dead letter may be on disk in its new place before it was in the old one. */
static void seen(struct feature_model *model, struct feature_message *message, bool dead)
{
    if (!message->seen_us)
        message->seen_us = model->trace->now_us;
    message->firm |= message->answer == ANSWER_ACCEPTED || (!dead && message->epoch != model->epoch);
    halves_seen(model, (uint64_t)(message - model->messages) + 1);
}

static void check_single_active(struct feature_model *model, unsigned chain, unsigned client, uint64_t number)
{
    unsigned *active = &model->active[chain];
    if (!(model->plan->chains[chain].features & CHAIN_SINGLE_ACTIVE) || model->plan->parts[client].role != ROLE_CONSUMER)
        return;
    if (*active != FEATURE_CLIENTS_MAX && *active != client)
        trace_fail(model->trace, "single active consumer", "message %" PRIu64 " of chain %u comes to client %u while client %u is the active one", number, chain,
                   client, *active);
    *active = client;
}

void feature_deliver(struct feature_model *model, unsigned chain, unsigned client, bool leaving, const struct feature_arrival *arrival)
{
    struct feature_message *message = known(model, chain, arrival->number);
    const struct chain *of = &model->plan->chains[chain];
    if (!message)
        return;
    model->delivered++;
    seen(model, message, false);
    if (of->features & CHAIN_FILTER)
        filters_delivered(model, client, arrival);
    if (of->features & CHAIN_STREAM)
        return;
    if (of->features & CHAIN_INSIDE)
        inside_delivered(message);
    if (message->sure)
        trace_fail(model->trace, "settled stays away", "message %" PRIu64 " of %s was %s for good", arrival->number, of->source,
                   message->end == END_ACKED ? "acknowledged" : "rejected");
    if (message->dead)
        trace_fail(model->trace, "dead stays dead", "message %" PRIu64 " was in %s and comes from %s", arrival->number, of->dead, of->source);
    if (message->answer == ANSWER_REFUSED)
        trace_fail(model->trace, "overflow", "message %" PRIu64 " was refused, and comes from %s", arrival->number, of->source);
    if (model->trace->now_us < message->sent_us + message->delay_ms * 1000ull)
        trace_fail(model->trace, "delay never early", "message %" PRIu64 " comes %" PRIu64 " us before it is due", arrival->number,
                   (uint64_t)(message->sent_us + message->delay_ms * 1000ull - model->trace->now_us));
    if (arrival->has_count && (of->features & CHAIN_DELIVERY_LIMIT) && arrival->delivery_count > of->delivery_limit)
        trace_fail(model->trace, "delivery limit", "message %" PRIu64 " of %s comes with x-delivery-count %" PRIu64 ", the limit is %u", arrival->number, of->source,
                   arrival->delivery_count, of->delivery_limit);
    if ((of->features & CHAIN_DELIVERY_LIMIT) && message->returns > of->delivery_limit && !model->plan->drop && !model->plan->base.crashes)
        trace_fail(model->trace, "delivery limit", "message %" PRIu64 " of %s was given back %u times, the limit is %u", arrival->number, of->source, message->returns,
                   of->delivery_limit);
    /* At rest nothing keeps an expired message on its way. */
    if (model->plan->parts[client].role == ROLE_ADMIN && message->ttl_ms != NO_TTL && message->known_us && !message->delay_ms &&
        model->trace->now_us > message->known_us + message->ttl_ms * 1000ull + LATE_US)
        trace_fail(model->trace, "expired is gone", "%s gives message %" PRIu64 ", which expired %" PRIu64 " us ago", of->source, arrival->number,
                   (uint64_t)(model->trace->now_us - message->known_us - message->ttl_ms * 1000ull));
    if (!leaving)
        check_single_active(model, chain, client, arrival->number);
    if (!leaving && (of->features & CHAIN_GROUPS) && !of->regrouped)
        groups_delivered(model, client, arrival->number);
    if (!leaving && (of->features & CHAIN_RETRY))
        retry_delivered(model, client, arrival);
}

static void check_death(struct feature_model *model, const struct chain *of, struct feature_message *message, const struct feature_arrival *arrival)
{
    const char *reason = arrival->reason;
    bool expired = strcmp(reason, "expired") == 0, rejected = strcmp(reason, "rejected") == 0, maxlen = strcmp(reason, "maxlen") == 0;
    bool limit = strcmp(reason, "delivery_limit") == 0;
    uint64_t now = model->trace->now_us;
    if (expired && (message->ttl_ms == NO_TTL || now < message->sent_us + message->ttl_ms * 1000ull))
        trace_fail(model->trace, "expiry never early", "message %" PRIu64 " of %s expired %" PRIu64 " us after it was sent, its time is %u ms", arrival->number, of->source,
                   now - message->sent_us, message->ttl_ms);
    if (rejected && message->end != END_REJECTED)
        trace_fail(model->trace, "dead letters", "message %" PRIu64 " of %s is said to be rejected, which nobody did", arrival->number, of->source);
    if (maxlen && !(of->features & CHAIN_DROP_HEAD))
        trace_fail(model->trace, "dead letters", "message %" PRIu64 " of %s is said to be too much", arrival->number, of->source);
    if (limit && (!(of->features & CHAIN_DELIVERY_LIMIT) || message->returns + model->left[message->chain] <= of->delivery_limit))
        trace_fail(model->trace, "delivery limit", "message %" PRIu64 " of %s died after %u returns, the limit is %u", arrival->number, of->source, message->returns,
                   of->delivery_limit);
    if (!expired && !rejected && !maxlen && !limit)
        trace_fail(model->trace, "dead letters", "message %" PRIu64 " of %s died of '%s'", arrival->number, of->source, reason);
}

void feature_deliver_dead(struct feature_model *model, unsigned chain, const struct feature_arrival *arrival)
{
    struct feature_message *message = known(model, chain, arrival->number);
    const struct chain *of = &model->plan->chains[chain];
    if (!message)
        return;
    model->died++;
    seen(model, message, true);
    if (message->buried)
        trace_fail(model->trace, "dead letters", "message %" PRIu64 " was taken from %s for good, and comes again", arrival->number, of->dead);
    if (message->sure && message->end == END_ACKED)
        trace_fail(model->trace, "settled stays away", "message %" PRIu64 " of %s was acknowledged for good, and is in %s", arrival->number, of->source, of->dead);
    if (of->features & CHAIN_INSIDE)
        return;   /* it need not have died */
    if (!arrival->has_death)
        trace_fail(model->trace, "dead letters", "message %" PRIu64 " is in %s without x-death", arrival->number, of->dead);
    else
        check_death(model, of, message, arrival);
    if (of->features & CHAIN_RETRY)
        retry_died(model, arrival);
}

/* ---- ends -------------------------------------------------------------------------------------------------------------- */

void feature_end(struct feature_model *model, uint64_t number, enum feature_end end, unsigned client)
{
    struct feature_message *message = feature_message(model, number);
    groups_let_go(model, number, client, end == END_NONE);
    retry_let_go(model, number, end == END_NONE);
    if (end == END_NONE) {
        message->returns++;
        message->loose = true;
        return;
    }
    message->end = (uint8_t)end;
    message->end_epoch = model->epoch;
    message->ender = (uint8_t)client;
}

void feature_lost(struct feature_model *model, unsigned client)
{
    for (uint64_t i = 0; i < model->count; i++)
        if (model->messages[i].ender == client && !model->messages[i].sure)
            model->messages[i].end_epoch = 0;
}

void feature_gone(struct feature_model *model, unsigned client)
{
    const struct feature_part *part = &model->plan->parts[client];
    groups_gone(model, client);
    retry_gone(model, client);
    filters_gone(model, client);
    for (unsigned i = 0; i < CHAINS_MAX; i++)
        model->left[i] += part->role == ROLE_ADMIN || (part->role == ROLE_CONSUMER && part->chain == i);
    for (unsigned i = 0; i < CHAINS_MAX; i++)
        if (model->active[i] == client)
            model->active[i] = FEATURE_CLIENTS_MAX;
}

void feature_restart(struct feature_model *model)
{
    model->epoch++;
    retry_restart(model);
    for (unsigned i = 0; i < CHAINS_MAX; i++)
        model->active[i] = FEATURE_CLIENTS_MAX;
}

void feature_quiet(struct feature_model *model)
{
    for (uint64_t i = 0; i < model->count; i++) {
        struct feature_message *message = &model->messages[i];
        if (message->end && message->end_epoch == model->epoch)
            message->sure = true;
    }
    retry_quiet(model);
    halves_quiet(model);
}

/* ---- counting ----------------------------------------------------------------------------------------------------------- */

void feature_count_begin(struct feature_model *model, unsigned chain)
{
    for (uint64_t i = 0; i < model->count; i++)
        if (model->messages[i].chain == chain)
            model->messages[i].here = model->messages[i].there = model->messages[i].loose = 0;
}

/* Of two messages that follow each other out of a queue at rest, was the second to come first? */
static bool out_of_order(const struct chain *of, const struct feature_message *first, const struct feature_message *second)
{
    if ((of->features & CHAIN_PRIORITY) && first->priority != second->priority)
        return first->priority < second->priority;
    if ((of->features & CHAIN_GROUP_FAIR) || of->regrouped)
        return false;
    return !(of->features & CHAIN_DELAY) && first->transaction == second->transaction && first->stream == second->stream && first->order > second->order;
}

static void check_source(struct feature_model *model, const struct chain *of, const uint64_t *numbers, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const struct feature_message *message = feature_message(model, numbers[i]);
        if (i > 0 && !(of->features & CHAIN_INSIDE) && out_of_order(of, feature_message(model, numbers[i - 1]), message))
            trace_fail(model->trace, "priority order", "%s gives message %" PRIu64 " before %" PRIu64, of->source, numbers[i - 1], numbers[i]);
    }
    if ((of->features & CHAIN_GROUPS) && !of->regrouped)
        groups_found(model, (unsigned)(of - model->plan->chains), numbers, count);
    if ((of->features & CHAIN_DROP_HEAD) && count > of->max_length)
        trace_fail(model->trace, "overflow", "%s has %u messages, its length is %u", of->source, count, of->max_length);
}

void feature_found(struct feature_model *model, unsigned chain, const uint64_t *numbers, unsigned count, bool dead)
{
    const struct chain *of = &model->plan->chains[chain];
    for (unsigned i = 0; i < count; i++) {
        struct feature_message *message = feature_message(model, numbers[i]);
        if (dead ? message->there++ : message->here++)
            trace_fail(model->trace, "never doubled", "message %" PRIu64 " is in %s twice", numbers[i], dead ? of->dead : of->source);
        message->dead |= dead;
        seen(model, message, dead);
        message->firm |= !dead;
    }
    if (!dead)
        check_source(model, of, numbers, count);
}

void feature_count_end(struct feature_model *model, unsigned chain)
{
    const struct chain *of = &model->plan->chains[chain];
    for (uint64_t i = 0; i < model->count && !model->trace->failed; i++) {
        const struct feature_message *message = &model->messages[i];
        if (message->chain != chain)
            continue;
        bool somewhere = message->here || message->there;
        if (message->here && message->there && !message->loose)
            trace_fail(model->trace, "never doubled", "message %" PRIu64 " is in %s and in %s", i + 1, of->source, of->dead);
        bool roams = of->features & CHAIN_INSIDE;
        if (message->dead && !roams && !message->buried && !message->there)
            trace_fail(model->trace, "dead letters", "message %" PRIu64 " was in %s and is lost", i + 1, of->dead);
        bool dropped = ((of->features & CHAIN_DEDUP) && !message->seen_us) || !halves_must_be_there(model, message);   /* see feature_dedup.c, feature_half.c */
        if (message->answer == ANSWER_ACCEPTED && !dropped && message->end != END_ACKED && !message->buried && !somewhere)
            trace_fail(model->trace, "confirmed stays", "message %" PRIu64 " to %s was confirmed, and is neither there nor in %s", i + 1, of->source, of->dead);
        if (message->sure && !roams && message->end == END_REJECTED && !message->buried && !message->there)
            trace_fail(model->trace, "dead letters", "message %" PRIu64 " of %s was rejected and is not in %s", i + 1, of->source, of->dead);
    }
    if (of->features & CHAIN_DEDUP)
        feature_check_once(model, chain);
}

void feature_found_stream(struct feature_model *model, unsigned chain, const struct feature_arrival *arrivals, unsigned count)
{
    const struct chain *of = &model->plan->chains[chain];
    uint32_t last[FEATURE_CLIENTS_MAX * 64] = {0};
    feature_count_begin(model, chain);
    for (unsigned i = 0; i < count && !model->trace->failed; i++) {
        struct feature_message *message = known(model, chain, arrivals[i].number);
        if (!message)
            return;
        if (arrivals[i].offset != i)
            trace_fail(model->trace, "stream offsets", "%s gives offset %" PRIu64 " as its number %u", of->source, arrivals[i].offset, i);
        if (message->here++)
            trace_fail(model->trace, "never doubled", "message %" PRIu64 " is in %s twice", arrivals[i].number, of->source);
        if (message->offset != UINT64_MAX && message->offset != arrivals[i].offset && message->answer == ANSWER_ACCEPTED)
            trace_fail(model->trace, "stream offsets", "message %" PRIu64 " of %s was at offset %" PRIu64 " and is at %" PRIu64, arrivals[i].number, of->source,
                       message->offset, arrivals[i].offset);
        message->offset = arrivals[i].offset;
        uint32_t *order = &last[message->stream % (sizeof(last) / sizeof(*last))];
        if (*order > message->order + 1 && message->stream < sizeof(last) / sizeof(*last))
            trace_fail(model->trace, "stream order", "message %" PRIu64 " of %s comes after later ones of its publisher", arrivals[i].number, of->source);
        *order = message->order + 1;
    }
    for (uint64_t i = 0; i < model->count && !model->trace->failed; i++)
        if (model->messages[i].chain == chain && model->messages[i].answer == ANSWER_ACCEPTED && !model->messages[i].here)
            trace_fail(model->trace, "confirmed stays", "message %" PRIu64 " was confirmed, and is not in stream %s", i + 1, of->source);
}

uint64_t feature_due_us(const struct feature_model *model)
{
    uint32_t longest_ms = 0;
    for (uint64_t i = 0; i < model->count; i++)
        if (model->messages[i].delay_ms > longest_ms)
            longest_ms = model->messages[i].delay_ms;
    uint64_t longest_us = longest_ms * 1000ull, retry_us = 2 * retry_longest_us(model->plan);   /* what clients have is given back first */
    uint64_t half_us = halves_longest_us(model->plan);
    longest_us = retry_us > longest_us ? retry_us : longest_us;
    longest_us = half_us > longest_us ? half_us : longest_us;
    return longest_us ? model->trace->now_us + longest_us : 0;   /* one may have come just now, and nobody was told */
}
