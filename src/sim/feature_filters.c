/* What x-filter promises: a consumer gets what it wants and nothing else, in the order in which it was published; and when all is at rest, what somebody wants who has room
 * for it is not there any more.
 *
 * A message's header "k" is its key as a text, or is missing (key 0); what a consumer wants is a set of keys. */
#include "sim/feature_model.h"

#include "base/err.h"
#include "protocol/amqp/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void filter_argument(const struct feature_part *part, unsigned client, struct amqp_table_writer *writer)
{
    char text[128];
    unsigned one = (unsigned)__builtin_ctz(part->wants);
    if (one && part->wants == 1u << one && client % 2) {
        size_t mark = amqp_table_nest_begin(writer, "x-filter");
        amqp_table_put_text(writer, "k", bytes_of(&"01234567"[one], 1));
        amqp_table_nest_end(writer, mark);
        return;
    }
    if (one && part->wants == 1u << one) {
        snprintf(text, sizeof(text), "k = '%u'", one);
        amqp_table_put_text(writer, "x-filter", bytes_of_text(text));
        return;
    }
    int size = snprintf(text, sizeof(text), "%sk IN ('none'", part->wants & 1 ? "k IS NULL OR " : "");
    for (unsigned key = 1; key < GROUP_KEYS_MAX; key++)
        if (part->wants >> key & 1)
            size += snprintf(text + size, sizeof(text) - (size_t)size, ", '%u'", key);
    snprintf(text + size, sizeof(text) - (size_t)size, ")");
    amqp_table_put_text(writer, "x-filter", bytes_of_text(text));
}

static bool is_wanted(const struct feature_model *model, unsigned client, const struct feature_message *message)
{
    unsigned wants = model->plan->parts[client].wants;
    return !wants || (wants >> message->key & 1);
}

/* In these nothing but a consumer takes a message away. */
static bool is_plain(const struct chain *chain)
{
    return !(chain->features & ~(unsigned)(CHAIN_FILTER | CHAIN_PRIORITY | CHAIN_STREAM | CHAIN_DELAY));
}

void filters_delivered(struct feature_model *model, unsigned client, const struct feature_arrival *arrival)
{
    const struct feature_message *message = feature_message(model, arrival->number);
    const struct chain *of = &model->plan->chains[message->chain];
    if (model->plan->parts[client].role != ROLE_CONSUMER)
        return;
    if (!is_wanted(model, client, message))
        trace_fail(model->trace, "filter", "message %" PRIu64 " of %s has key %u, which client %u does not want", arrival->number, of->source, message->key, client);
    if (!is_plain(of) || (of->features & CHAIN_DELAY) || arrival->redelivered)
        return;
    for (unsigned i = 0; i < FILTER_STREAMS; i++) {
        struct filter_order *order = &model->orders[client][i];
        if (order->stream != message->stream || order->priority != message->priority) {
            if (order->next)
                continue;
            *order = (struct filter_order){.stream = message->stream, .priority = message->priority};
        }
        if (message->order + 1 < order->next)
            trace_fail(model->trace, "filter order", "message %" PRIu64 " of %s comes to client %u after later ones of its publisher", arrival->number, of->source, client);
        order->next = message->order + 1;
        return;
    }
}

void filters_gone(struct feature_model *model, unsigned client)
{
    memset(model->orders[client], 0, sizeof(model->orders[client]));
}

void filters_rested(struct feature_model *model, unsigned client, const struct feature_arrival *arrivals, unsigned count)
{
    unsigned chain = model->plan->parts[client].chain;
    const struct chain *of = &model->plan->chains[chain];
    if (!(of->features & CHAIN_FILTER) || !is_plain(of))
        return;
    uint8_t *had = calloc(model->count + 1, 1);
    CHECK(had);
    for (unsigned i = 0; i < count; i++)
        had[arrivals[i].number] = 1;
    for (uint64_t i = 0; i < model->count && !model->trace->failed; i++) {
        const struct feature_message *message = &model->messages[i];
        bool taken = of->features & CHAIN_STREAM ? had[i + 1] : message->end != END_NONE;
        if (message->chain == chain && message->answer == ANSWER_ACCEPTED && !taken && is_wanted(model, client, message))
            trace_fail(model->trace, "filter finds", "message %" PRIu64 " of %s has key %u, client %u wants it and waits", i + 1, of->source, message->key, client);
    }
    free(had);
}
