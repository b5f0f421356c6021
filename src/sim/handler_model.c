#include "sim/handler_model.h"

#include "sim/grown.h"

#include <inttypes.h>
#include <string.h>

#define EARLY_US 4000u               /* the clock that handlers' times are taken from is behind by so much */

void handler_model_init(struct handler_model *model, const struct handler_plan *plan, struct trace *trace) { *model = (struct handler_model){.plan = plan, .trace = trace}; }

void handler_model_deinit(struct handler_model *model) { free(model->sent); }

/* ---- publishing -------------------------------------------------------------------------------------------------------------------- */

unsigned handler_published(struct handler_model *model, unsigned type, unsigned key, bool persistent, uint64_t delay_ms)
{
    model->sent = grown(model->sent, model->count, &model->room, sizeof(*model->sent));
    struct sent *sent = &model->sent[model->count];
    *sent = (struct sent){.type = type, .key = key, .persistent = persistent, .is_delayed = delay_ms > 0, .in_this_life = true, .changes = model->changes, .published_us = model->trace->now_us};
    sent->due_us = sent->published_us + delay_ms * 1000;
    for (unsigned i = 0; i < model->plan->count; i++) {
        const struct handler_state *handler = &model->handlers[i];
        const struct handler_terms *terms = &model->plan->list[i];
        if ((terms->types >> type & 1) && (terms->transient ? handler->is_on : handler->may_be_bound))
            sent->copies[i] = (struct copy){.state = COPY_QUEUED, .due_us = sent->due_us};
    }
    model->untold++;
    return model->count++;
}

void handler_unpublished(struct handler_model *model, unsigned number)
{
    struct sent *sent = &model->sent[number];
    if (model->is_dead)
        return;
    model->untold -= !sent->is_told;
    sent->is_told = sent->is_refused = true;
    for (unsigned i = 0; i < model->plan->count; i++)
        sent->copies[i] = (struct copy){0};
}

void handler_told(struct handler_model *model, unsigned number, bool accepted)
{
    struct sent *sent = &model->sent[number];
    if (model->is_dead)
        return;
    if (sent->is_told || !sent->in_this_life) {
        trace_fail(model->trace, "told once", "the publisher of event %u is told twice", number);
        return;
    }
    model->untold--;
    sent->is_told = true;
    sent->is_refused = !accepted;
    for (unsigned i = 0; i < model->plan->count && accepted; i++)
        if (sent->copies[i].state != COPY_NONE && (model->plan->list[i].transient ? model->handlers[i].is_on : model->handlers[i].is_bound))
            sent->copies[i].must = true;
}

void handler_asked(struct handler_model *model, unsigned number)
{
    struct sent *sent = &model->sent[number];
    sent->is_request = true;
    model->untold -= !sent->is_told;
    sent->is_told = true;
}

bool handler_is_wanted(const struct handler_model *model, unsigned type)
{
    for (unsigned i = 0; i < model->plan->count; i++)
        if ((model->plan->list[i].types >> type & 1) && (model->plan->list[i].transient ? model->handlers[i].is_on : model->handlers[i].is_bound))
            return true;
    return false;
}

/* ---- handlers come and go ------------------------------------------------------------------------------------------------------------- */

void handler_on_begins(struct handler_model *model, unsigned handler) { model->handlers[handler].may_be_bound = true; }

void handler_is_on(struct handler_model *model, unsigned handler)
{
    struct handler_state *state = &model->handlers[handler];
    state->is_on = state->is_bound = true;
    state->life++;
    state->in_hand = 0;
    state->last_first = 0;
    memset(state->last_direct, 0, sizeof(state->last_direct));
    model->changes++;
}

void handler_is_off(struct handler_model *model, unsigned handler)
{
    model->handlers[handler].is_on = false;
    model->changes++;
    /* The queue of a transient one goes with it. */
    for (unsigned i = 0; i < model->count && model->plan->list[handler].transient; i++) {
        struct copy *copy = &model->sent[i].copies[handler];
        if (copy->state == COPY_QUEUED)
            *copy = (struct copy){.is_final = true};
        copy->must = false;
    }
}

/* ---- what a handler gets ---------------------------------------------------------------------------------------------------------------- */

static bool check_attempt(struct handler_model *model, unsigned handler, unsigned number, uint32_t attempt)
{
    const struct copy *copy = &model->sent[number].copies[handler];
    uint32_t least = copy->was_restarted ? copy->fails_kept : copy->fails;
    if (model->lacks_memory)
        return true;
    if (attempt < least + 1 || attempt > copy->fails + 1)
        trace_fail(model->trace, "attempts", "handler %u gets event %u as attempt %" PRIu32 "; it has failed %" PRIu32 " times, at the least %" PRIu32, handler, number, attempt,
                   copy->fails, least);
    else if (attempt == copy->fails + 1 && model->trace->now_us + EARLY_US < copy->due_us)
        trace_fail(model->trace, "not before its time", "handler %u gets event %u %" PRIu64 " us too early, as attempt %" PRIu32, handler, number, copy->due_us - model->trace->now_us, attempt);
    else if (attempt <= copy->fails && model->trace->now_us + EARLY_US < model->sent[number].due_us)
        trace_fail(model->trace, "not before its time", "handler %u gets event %u before its delay is over", handler, number);
    return !model->trace->failed;
}

/* May this event come at all? */
static bool check_state(struct handler_model *model, unsigned handler, unsigned number)
{
    static const char *const states[] = {"is not for it", "is on its way", "is in its hands", "was acknowledged", "was given up", "is a dead letter"};
    const struct sent *sent = &model->sent[number];
    const struct copy *copy = &sent->copies[handler];
    bool is_undone = copy->was_restarted && !copy->is_final && copy->state > COPY_IN_HAND;
    /* Without memory for what it was given up to, or for its reply, it goes back to its queue. */
    bool is_back = model->lacks_memory && (copy->state == COPY_DEAD || (copy->state == COPY_DONE && sent->is_request));
    if (copy->state == COPY_QUEUED || is_undone || is_back)
        return true;
    trace_fail(model->trace, copy->state == COPY_IN_HAND ? "one owner" : copy->state == COPY_NONE ? "nothing else" : "what is settled stays away",
               "handler %u gets event %u, which %s%s", handler, number, states[copy->state], copy->is_final ? " for good" : "");
    return false;
}

static bool is_over(const struct copy *copy) { return copy->state == COPY_NONE || copy->state >= COPY_DONE; }

/* Of a handler that orders by key nothing comes before earlier events of its key, unless they came later by their own delay. What a crash may have taken is not waited for. */
static bool check_key(struct handler_model *model, unsigned handler, unsigned number)
{
    const struct sent *sent = &model->sent[number];
    if (!model->plan->list[handler].order_by_key || sent->key == HANDLER_KEYS || sent->is_delayed)
        return true;
    for (unsigned i = 0; i < number; i++) {
        const struct sent *earlier = &model->sent[i];
        const struct copy *copy = &earlier->copies[handler];
        bool is_there = copy->must || (copy->was_seen && !copy->was_restarted) || (earlier->in_this_life && !earlier->is_refused);
        if (earlier->key != sent->key || is_over(copy) || copy->may_be_dead || !is_there || earlier->is_delayed)
            continue;
        trace_fail(model->trace, "order by key", "handler %u gets event %u of key %u while event %u %s", handler, number, sent->key, i,
                   copy->state == COPY_IN_HAND ? "is in its hands" : copy->fails ? "waits to be tried again" : "waits");
        return false;
    }
    return true;
}

static bool check_first(struct handler_model *model, unsigned handler, unsigned number, bool redelivered)
{
    struct handler_state *state = &model->handlers[handler];
    const struct sent *sent = &model->sent[number];
    if (model->plan->list[handler].order_by_key || redelivered || sent->is_delayed || sent->copies[handler].was_restarted)
        return true;
    /* What goes from memory to memory may overtake what the broker has a hand in, or be overtaken: whether it does depends on who else wants its type. */
    bool is_direct = !sent->persistent && model->plan->list[handler].transient;
    if (is_direct && sent->is_request)
        return true;
    uint64_t *last = is_direct ? &state->last_direct[sent->type] : &state->last_first;
    if (is_direct && *last && model->sent[*last - 1].changes != sent->changes)
        *last = 0;
    if (number < *last) {
        trace_fail(model->trace, "order", "handler %u gets event %u after event %" PRIu64, handler, number, *last - 1);
        return false;
    }
    *last = number + 1;
    return true;
}

bool handler_called(struct handler_model *model, unsigned handler, unsigned number, uint32_t attempt, bool redelivered)
{
    const struct handler_terms *terms = &model->plan->list[handler];
    struct handler_state *state = &model->handlers[handler];
    if (model->is_dead)
        return false;
    model->handled++;
    trace_event(model->trace, TRACE_HANDLED, handler, number, attempt, redelivered);
    if (number >= model->count) {
        trace_fail(model->trace, "nothing else", "handler %u gets event %u, which was never published", handler, number);
        return false;
    }
    struct copy *copy = &model->sent[number].copies[handler];
    bool was_restarted = copy->was_restarted;
    if (!state->is_on) {
        trace_fail(model->trace, "off is off", "handler %u gets event %u, and is off", handler, number);
        return false;
    }
    if (!check_state(model, handler, number) || !check_attempt(model, handler, number, attempt) || !check_key(model, handler, number) || !check_first(model, handler, number, redelivered))
        return false;
    if (copy->was_seen && !redelivered && !(was_restarted && model->was_short))
        trace_fail(model->trace, "redeliveries are flagged", "handler %u gets event %u once more, and is not told", handler, number);
    if (++state->in_hand > terms->concurrency)
        trace_fail(model->trace, "concurrency", "handler %u has %" PRIu32 " events in hand", handler, state->in_hand);
    copy->state = COPY_IN_HAND;
    copy->fails = attempt - 1;
    copy->fails_kept = copy->fails < copy->fails_kept ? copy->fails : copy->fails_kept;
    copy->was_seen = true;
    copy->was_restarted = copy->is_final = copy->may_be_dead = false;
    copy->due_us = copy->given_us = model->trace->now_us;
    copy->life = state->life;
    return !model->trace->failed;
}

/* ---- what it says ------------------------------------------------------------------------------------------------------------------------ */

static struct copy *taken_back(struct handler_model *model, unsigned handler, unsigned number)
{
    struct copy *copy = &model->sent[number].copies[handler];
    CHECK(copy->state == COPY_IN_HAND);
    if (copy->life == model->handlers[handler].life)
        model->handlers[handler].in_hand--;
    return copy;
}

void handler_acked(struct handler_model *model, unsigned handler, unsigned number)
{
    if (!model->is_dead)
        taken_back(model, handler, number)->state = COPY_DONE;
}

/* A transient handler's is gone; another one's becomes a dead letter. */
static void given_up(struct handler_model *model, unsigned handler, struct copy *copy)
{
    copy->state = model->plan->list[handler].transient ? COPY_BURIED : COPY_DEAD;
}

void handler_failed(struct handler_model *model, unsigned handler, unsigned number, uint64_t delay_ms)
{
    const struct handler_terms *terms = &model->plan->list[handler];
    if (model->is_dead)
        return;
    struct copy *copy = taken_back(model, handler, number);
    copy->fails++;
    copy->state = COPY_QUEUED;
    copy->due_us = model->trace->now_us + delay_ms * 1000;
    if (copy->fails <= terms->retries)
        return;
    /* A death that the end of the process interrupts is undone, and what it ends is not waited for. */
    copy->due_us = model->trace->now_us;
    given_up(model, handler, copy);
}

void handler_rejected(struct handler_model *model, unsigned handler, unsigned number)
{
    if (!model->is_dead)
        given_up(model, handler, taken_back(model, handler, number));
}

void handler_was_late(struct handler_model *model, unsigned handler, unsigned number)
{
    const struct handler_terms *terms = &model->plan->list[handler];
    struct copy *copy = &model->sent[number].copies[handler];
    if (model->is_dead)
        return;
    trace_event(model->trace, TRACE_HANDLER_LATE, handler, number, copy->fails + 1, 0);
    if (!terms->timeout_ms || model->trace->now_us + EARLY_US < copy->given_us + terms->timeout_ms * 1000)
        trace_fail(model->trace, "timeouts", "event %u is taken from handler %u %" PRIu64 " us after it got it", number, handler, model->trace->now_us - copy->given_us);
    handler_failed(model, handler, number, handler_terms_delay_ms(terms, copy->fails + 1));
}

void handler_given_back(struct handler_model *model, unsigned handler, unsigned number)
{
    if (!model->is_dead)
        taken_back(model, handler, number)->state = COPY_QUEUED;
}

void handler_buried(struct handler_model *model, unsigned handler, unsigned number, bool redelivered)
{
    if (model->is_dead)
        return;
    trace_event(model->trace, TRACE_HANDLED_DEAD, handler, number, redelivered, 0);
    struct copy *copy = number < model->count ? &model->sent[number].copies[handler] : NULL;
    /* A letter that was on its way when the process died may be written once more. */
    bool again = copy && copy->state == COPY_BURIED && (redelivered || (copy->was_restarted && !copy->is_final));
    if (!copy || (copy->state != COPY_DEAD && !again && !(copy->state == COPY_QUEUED && copy->may_be_dead)))
        trace_fail(model->trace, "dead letters", "event %u is a dead letter of handler %u, which has not given it up", number, handler);
    else
        copy->state = COPY_BURIED;
}

/* ---- the process's lives ------------------------------------------------------------------------------------------------------------------ */

/* In hand when the bus was closed: its time may have been over just before that, and whether it was is not told. */
static void close_in_hand(struct handler_model *model, const struct handler_terms *terms, struct copy *copy)
{
    if (!terms->timeout_ms || model->trace->now_us + EARLY_US < copy->given_us + terms->timeout_ms * 1000)
        return;
    copy->fails_kept = copy->fails++;
    copy->may_be_dead = copy->fails > terms->retries;
    copy->due_us = copy->may_be_dead ? 0 : copy->given_us + (terms->timeout_ms + handler_terms_delay_ms(terms, copy->fails)) * 1000;
}

static void restart_copy(struct handler_model *model, const struct sent *sent, unsigned handler, struct copy *copy, bool cleanly)
{
    const struct handler_terms *terms = &model->plan->list[handler];
    bool was_in_hand = copy->state == COPY_IN_HAND;
    if (copy->state == COPY_NONE)
        return;
    if (terms->transient) {
        *copy = (struct copy){.is_final = true};
        return;
    }
    copy->must &= sent->persistent;
    if (was_in_hand)
        copy->state = COPY_QUEUED;
    /* What a crash has put back before, and nobody has seen since, may be in the queue whatever was said of it. */
    if (cleanly && !copy->was_restarted && !model->was_short) {
        /* Dead letters are written before the bus is closed, too. */
        copy->is_final = copy->state >= COPY_DONE && (copy->state != COPY_DEAD || !model->lacks_memory);
        copy->fails_kept = copy->fails;
    }
    copy->was_restarted = true;
    if (cleanly && was_in_hand)
        close_in_hand(model, terms, copy);
}

void handler_restarted(struct handler_model *model, bool cleanly)
{
    for (unsigned i = 0; i < model->count; i++) {
        struct sent *sent = &model->sent[i];
        for (unsigned k = 0; k < model->plan->count; k++)
            restart_copy(model, sent, k, &sent->copies[k], cleanly);
        sent->in_this_life = false;
    }
    for (unsigned k = 0; k < model->plan->count; k++) {
        model->handlers[k].is_on = false;
        model->handlers[k].in_hand = 0;
    }
    model->untold = 0;
    model->is_dead = false;
}

void handler_at_rest(struct handler_model *model)
{
    if (model->untold)
        trace_fail(model->trace, "progress", "at rest %u publishers do not know yet what became of their events", model->untold);
    for (unsigned i = 0; i < model->count; i++)
        for (unsigned k = 0; k < model->plan->count; k++) {
            struct copy *copy = &model->sent[i].copies[k];
            /* With a handler that is there, what is in the queue would have come. */
            bool is_known = !model->was_short && (!copy->was_restarted || (model->handlers[k].is_on && !model->plan->list[k].order_by_key));
            copy->is_final |= copy->state >= COPY_DONE && copy->state != COPY_DEAD && is_known;
            copy->fails_kept = copy->was_restarted || model->was_short ? copy->fails_kept : copy->fails;
            /* What somebody has seen of this life, and is persistent, is on disk by now. */
            copy->must |= copy->state == COPY_QUEUED && copy->was_seen && !copy->was_restarted && model->sent[i].persistent && !model->plan->list[k].transient;
        }
}

static bool is_owed(const struct handler_model *model, unsigned handler, const struct copy *copy)
{
    return copy->must && (!copy->is_final || copy->state == COPY_DEAD) && (copy->state == COPY_DEAD || ((copy->state == COPY_QUEUED || copy->state == COPY_IN_HAND) && model->handlers[handler].is_on));
}

bool handler_is_owed(const struct handler_model *model)
{
    for (unsigned i = 0; i < model->count; i++)
        for (unsigned k = 0; k < model->plan->count; k++)
            if (is_owed(model, k, &model->sent[i].copies[k]))
                return true;
    return false;
}

void handler_check_end(struct handler_model *model)
{
    for (unsigned i = 0; i < model->count; i++)
        for (unsigned k = 0; k < model->plan->count; k++)
            if (is_owed(model, k, &model->sent[i].copies[k]))
                trace_fail(model->trace, "nothing is lost", "event %u was confirmed, and handler %u %s", i, k,
                           model->sent[i].copies[k].state == COPY_DEAD ? "has given it up: there is no dead letter" : "never finished it");
}
