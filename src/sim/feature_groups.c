/* What x-group-key promises: one consumer at a time for each key, the order of each key, and (x-group-fair) turns.
 *
 * A client counts as a message's holder from when it reads it until it says what becomes of it, which is within the time for which the broker knows it as that: two
 * holders here are two holders there. */
#include "sim/feature_model.h"

#include <inttypes.h>
#include <string.h>

#define SEEN_AHEAD 1000u   /* messages that a fair queue has looked at, at the least, before it gives something */

void groups_published(struct feature_model *model, uint64_t number, uint8_t key, uint64_t last)
{
    struct feature_message *message = feature_message(model, number);
    message->key = key;
    message->before = last;
}

/* Queues in which messages die of many causes tell less. */
static bool is_plain(const struct chain *chain)
{
    return !(chain->features & ~(unsigned)(CHAIN_GROUPS | CHAIN_GROUP_FAIR | CHAIN_SINGLE_ACTIVE | CHAIN_RETRY));
}

/* What was published before it with its key is settled, or the client has it, or has just given it back while this one was on its way. */
static void check_order(struct feature_model *model, unsigned client, uint64_t number)
{
    const struct feature_message *message = feature_message(model, number);
    for (uint64_t at = message->before; at; at = feature_message(model, at)->before) {
        const struct feature_message *earlier = feature_message(model, at);
        if (earlier->end != END_NONE || earlier->answer == ANSWER_REFUSED || earlier->holder == client || earlier->returner == client)
            continue;
        trace_fail(model->trace, "group order", "message %" PRIu64 " of key %u comes to client %u before %" PRIu64, number, message->key, client, at);
        return;
    }
}

void groups_delivered(struct feature_model *model, unsigned client, uint64_t number)
{
    struct feature_message *message = feature_message(model, number);
    unsigned *holding = model->holding[message->chain][message->key];
    if (model->plan->parts[client].role != ROLE_CONSUMER)
        return;
    for (unsigned other = 0; message->key && other < FEATURE_CLIENTS_MAX; other++)
        if (other != client && holding[other])
            trace_fail(model->trace, "one consumer a key", "message %" PRIu64 " of key %u comes to client %u while client %u has %u of it", number, message->key, client,
                       other, holding[other]);
    if (message->key && is_plain(&model->plan->chains[message->chain]))
        check_order(model, client, number);
    if (message->holder < FEATURE_CLIENTS_MAX)
        holding[message->holder]--;
    message->holder = (uint8_t)client;
    message->returner = FEATURE_CLIENTS_MAX;
    holding[client]++;
}

void groups_let_go(struct feature_model *model, uint64_t number, unsigned client, bool returned)
{
    struct feature_message *message = feature_message(model, number);
    if (message->holder < FEATURE_CLIENTS_MAX)
        model->holding[message->chain][message->key][message->holder]--;
    message->holder = FEATURE_CLIENTS_MAX;
    message->returner = returned ? (uint8_t)client : FEATURE_CLIENTS_MAX;
}

void groups_gone(struct feature_model *model, unsigned client)
{
    for (uint64_t i = 0; i < model->count; i++) {
        struct feature_message *message = &model->messages[i];
        if (message->holder == client)
            message->holder = FEATURE_CLIENTS_MAX;
        if (message->returner == client)
            message->returner = FEATURE_CLIENTS_MAX;
    }
    for (unsigned chain = 0; chain < CHAINS_MAX; chain++)
        for (unsigned key = 0; key < GROUP_KEYS_MAX; key++)
            model->holding[chain][key][client] = 0;
}

/* When a key has its nth turn, every other that still has something has had n - 1. */
static void check_turns(struct feature_model *model, const uint64_t *numbers, unsigned count)
{
    unsigned total[GROUP_KEYS_MAX] = {0}, had[GROUP_KEYS_MAX] = {0};
    for (unsigned i = 0; i < count; i++)
        total[feature_message(model, numbers[i])->key]++;
    for (unsigned i = 0; i < count; i++) {
        unsigned key = feature_message(model, numbers[i])->key;
        had[key]++;
        for (unsigned other = 0; other < GROUP_KEYS_MAX; other++)
            if (had[other] < total[other] && had[other] + 1 < had[key]) {
                trace_fail(model->trace, "fair turns", "message %" PRIu64 " is number %u of key %u, and key %u has had %u turns", numbers[i], had[key], key, other, had[other]);
                return;
            }
    }
}

void groups_found(struct feature_model *model, unsigned chain, const uint64_t *numbers, unsigned count)
{
    const struct chain *of = &model->plan->chains[chain];
    for (unsigned i = 0; i < count && !(of->features & CHAIN_DELAY); i++) {
        const struct feature_message *message = feature_message(model, numbers[i]);
        for (unsigned j = i + 1; message->key && j < count; j++) {
            const struct feature_message *later = feature_message(model, numbers[j]);
            if (later->key == message->key && later->stream == message->stream && later->order < message->order)
                trace_fail(model->trace, "group order", "%s gives message %" PRIu64 " before %" PRIu64, of->source, numbers[i], numbers[j]);
        }
    }
    if ((of->features & CHAIN_GROUP_FAIR) && is_plain(of) && count <= SEEN_AHEAD)
        check_turns(model, numbers, count);
}
