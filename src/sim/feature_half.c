/* Half messages: what is published in a transaction is seen by nobody before somebody committed that, then all of it, once; never after it was rolled back. A transaction
 * that nobody decides is asked about, not early and not too often, and is over when all has been at rest for long enough. */
#include "sim/feature_model.h"

#include "base/err.h"

#include <inttypes.h>
#include <stdlib.h>

#define FRACTION_US 2000u   /* times are told in milliseconds */

static struct feature_transaction *transaction_of(struct feature_model *model, uint32_t number)
{
    return &model->transactions[number - 1];
}

uint32_t halves_begin(struct feature_model *model, unsigned chain)
{
    if (model->transaction_count == model->transaction_room) {
        model->transaction_room = model->transaction_room ? model->transaction_room * 2 : 64;
        model->transactions = realloc(model->transactions, model->transaction_room * sizeof(*model->transactions));
        CHECK(model->transactions);
    }
    model->transactions[model->transaction_count++] = (struct feature_transaction){.chain = (uint8_t)chain, .first_us = model->trace->now_us};
    return model->transaction_count;
}

/* When the broker may have given it up: its clock began no earlier than its first message was sent. */
static bool may_be_over(const struct feature_model *model, const struct feature_transaction *transaction)
{
    const struct chain *of = &model->plan->chains[transaction->chain];
    return transaction->over || model->trace->now_us + FRACTION_US >= transaction->first_us + (of->half_limit + 1ull) * of->half_ms * 1000;
}

bool halves_may_refuse(const struct feature_model *model, const struct feature_message *message)
{
    const struct feature_transaction *transaction = message->transaction ? &model->transactions[message->transaction - 1] : NULL;
    return transaction && (may_be_over(model, transaction) || transaction->decisions);
}

void halves_confirmed(struct feature_model *model, const struct feature_message *message)
{
    if (message->transaction)
        transaction_of(model, message->transaction)->confirmed++;
}

uint32_t halves_pick(const struct feature_model *model, unsigned chain, uint64_t draw)
{
    uint32_t number = model->transaction_count ? 1 + (uint32_t)(draw % model->transaction_count) : 0;
    return number && model->transactions[number - 1].chain == chain ? number : 0;
}

uint64_t halves_decide(struct feature_model *model, uint32_t number, bool commits)
{
    struct feature_transaction *transaction = transaction_of(model, number);
    bool certain = !transaction->decisions && transaction->confirmed;
    transaction->decisions++;
    transaction->commit_sent |= commits;
    return HALF_DECISION | (commits ? HALF_COMMITS : 0) | (certain ? HALF_CERTAIN : 0) | number;
}

void halves_answered(struct feature_model *model, uint64_t decision, bool accepted)
{
    uint32_t number = (uint32_t)decision;
    struct feature_transaction *transaction = transaction_of(model, number);
    bool commits = decision & HALF_COMMITS;
    /* Somebody else may have been quicker. */
    if (!accepted && (decision & HALF_CERTAIN) && transaction->decisions == 1 && !may_be_over(model, transaction))
        trace_fail(model->trace, "half decisions", "transaction %u is to be %s, which is refused though it is there", number, commits ? "committed" : "rolled back");
    if (!accepted)
        return;
    if (transaction->over && commits)
        trace_fail(model->trace, "half gives up", "transaction %u was never decided, and is committed long after it should be over", number);
    transaction->committed |= commits;
    transaction->rolled_back |= !commits;
    if (transaction->committed && transaction->rolled_back)
        trace_fail(model->trace, "half decisions", "transaction %u is committed, and it is rolled back", number);
}

void halves_seen(struct feature_model *model, uint64_t number)
{
    const struct feature_message *message = feature_message(model, number);
    if (!message->transaction)
        return;
    struct feature_transaction *transaction = transaction_of(model, message->transaction);
    transaction->seen = true;
    if (!transaction->commit_sent || transaction->rolled_back || transaction->over)
        trace_fail(model->trace, "half is hidden", "message %" PRIu64 " is there, and its transaction %u %s", number, message->transaction,
                   transaction->rolled_back ? "was rolled back" : "was never committed");
}

bool halves_must_be_there(const struct feature_model *model, const struct feature_message *message)
{
    const struct feature_transaction *transaction = message->transaction ? &model->transactions[message->transaction - 1] : NULL;
    return !transaction || transaction->committed || transaction->seen;
}

void halves_asked(struct feature_model *model, unsigned chain, uint32_t number, uint64_t count)
{
    const struct chain *of = &model->plan->chains[chain];
    if (!number || number > model->transaction_count || model->transactions[number - 1].chain != chain) {
        trace_fail(model->trace, "half check-backs", "somebody asks about transaction %u of chain %u, which there is none of", number, chain);
        return;
    }
    const struct feature_transaction *transaction = transaction_of(model, number);
    if (!count || count > of->half_limit)
        trace_fail(model->trace, "half check-backs", "transaction %u is asked about for the %" PRIu64 ". time, the limit is %u", number, count, of->half_limit);
    if (model->trace->now_us + count * FRACTION_US < transaction->first_us + count * of->half_ms * 1000)
        trace_fail(model->trace, "half check-backs", "transaction %u is asked about for the %" PRIu64 ". time %" PRIu64 " us after it began, every %u ms", number, count,
                   model->trace->now_us - transaction->first_us, of->half_ms);
}

void halves_quiet(struct feature_model *model)
{
    for (uint32_t i = 0; i < model->transaction_count; i++)
        model->transactions[i].over |= !model->transactions[i].decisions;
}

uint64_t halves_longest_us(const struct feature_plan *plan)
{
    uint64_t longest_ms = 0;
    for (unsigned i = 0; i < plan->chain_count; i++) {
        const struct chain *of = &plan->chains[i];
        uint64_t ms = of->features & CHAIN_HALF ? (of->half_limit + 2ull) * (of->half_ms + 2) : 0;
        longest_ms = ms > longest_ms ? ms : longest_ms;
    }
    return longest_ms * 1000;
}
