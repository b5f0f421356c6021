/* The lives of subscriptions in the model: what requests make of them. */
#include "sim/bus_model.h"

#include "base/err.h"
#include "sim/grown.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct bus_life *bus_create(struct bus_model *model, unsigned slot, const struct bus_terms *terms, const struct bus_wish *wish)
{
    struct bus_life *life = calloc(1, sizeof(*life));
    CHECK(life);
    model->changes[slot]++;
    model->lives = grown(model->lives, model->life_count, &model->life_room, sizeof(struct bus_life *));
    model->lives[model->life_count++] = life;
    *life = (struct bus_life){.slot = slot, .number = model->life_count, .terms = *terms, .now = *wish, .next = *wish, .doing = DOING_CREATE, .asked_us = model->trace->now_us,
                              .bound_us = BUS_NEVER, .leave_of = -1, .breaker_is_known = true};
    model->slots[slot] = life;
    return life;
}

void bus_change(struct bus_model *model, struct bus_life *life, const struct bus_wish *wish)
{
    model->changes[life->slot]++;
    life->doing = DOING_CHANGE;
    life->next = *wish;
    life->ended_meanwhile = false;
    life->sinks_named += wish->sink != life->now.sink;
    bus_replay_changes(life, wish);
    /* All that was counted begins anew when the bus sees it. */
    life->breaker_is_known = false;
    life->open_until_us = life->slow_until_us = 0;
    if (life->revives && life->ended)
        life->ended = ENDED_MAYBE;
    if (wish->patterns != life->now.patterns || life->ended)
        life->bound_us = BUS_NEVER;
    for (uint64_t i = 0; i < life->errand_count; i++) {
        const struct bus_event *event = bus_event(model, life->first + i);
        if ((life->errands[i].flags & ERRAND_MUST) && !(life->errands[i].flags & ERRAND_GIVEN_UP) && !bus_wish_has(wish, event->type, event->grade))
            life->errands[i].flags &= (uint16_t)~ERRAND_MUST;
    }
}

void bus_remove(struct bus_model *model, struct bus_life *life)
{
    model->changes[life->slot]++;
    life->doing = DOING_REMOVE;
    life->is_leaving = true;
    life->bound_us = BUS_NEVER;
}

static void be_gone(struct bus_model *model, struct bus_life *life)
{
    life->is_gone = true;
    life->doing = DOING_NOTHING;
    model->slots[life->slot] = NULL;
}

void bus_done(struct bus_model *model, struct bus_life *life)
{
    model->changes[life->slot]++;
    enum bus_doing doing = life->doing;
    life->doing = DOING_NOTHING;
    life->is_blurred = true;
    if (doing == DOING_REMOVE) {
        be_gone(model, life);
        return;
    }
    life->is_made = true;
    life->now = life->next;
    life->settled_us = model->trace->now_us;
    life->open_until_us = life->slow_until_us = 0;
    if (life->revives && life->ended) {
        life->ended = life->ended_meanwhile ? ENDED_MAYBE : ENDED_NOT;
        life->ended_is_kept = false;
    }
    life->revives = false;
    if (life->bound_us == BUS_NEVER && !life->ended)
        life->bound_us = model->trace->now_us;
    life->binds_at_rest |= life->ended == ENDED_MAYBE;
}

void bus_undone(struct bus_model *model, struct bus_life *life)
{
    model->changes[life->slot]++;
    if (life->doing == DOING_CREATE) {
        be_gone(model, life);
        return;
    }
    life->doing = DOING_NOTHING;
    life->next = life->now;
    life->revives = false;
    life->binds_at_rest |= life->bound_us == BUS_NEVER;
}

void bus_looked(struct bus_model *model, struct bus_life *life, const json_t *shown)
{
    model->changes[life->slot]++;
    if (!shown) {
        if (life->doing != DOING_CREATE && !life->is_leaving)
            trace_fail(model->trace, "what is made stays", "subscription s%u (life %u) is not there any more", life->slot, life->number);
        be_gone(model, life);
        return;
    }
    bool next = life->doing == DOING_CHANGE && bus_wish_is(&life->next, shown, life->number);
    if (!next && !bus_wish_is(&life->now, shown, life->number)) {
        char *text = json_dumps(shown, JSON_COMPACT);
        trace_fail(model->trace, "a subscription is what it was made", "s%u (life %u) is %.300s", life->slot, life->number, text ? text : "");
        free(text);
    }
    life->settled_us = life->doing == DOING_NOTHING ? life->settled_us : model->trace->now_us;
    life->now = next ? life->next : life->now;
    life->next = life->now;
    life->is_made = true;
    life->doing = DOING_NOTHING;
    life->revives = false;
    bool ended = json_object_get(shown, "ended");
    if (ended && life->ended == ENDED_NOT)
        trace_fail(model->trace, "410 alone ends it", "subscription s%u (life %u) has ended, and no sink said so", life->slot, life->number);
    else if (ended)
        life->ended = ENDED_FOR_SURE;
    else if (life->ended == ENDED_MAYBE && life->ended_epoch != model->epoch)
        life->ended = ENDED_NOT;
    life->binds_at_rest |= life->bound_us == BUS_NEVER && !life->ended;
}

void bus_unblur(struct bus_model *model)
{
    for (unsigned i = 0; i < model->life_count; i++)
        model->lives[i]->is_blurred = false;
}

/* ---- the log of attempts ------------------------------------------------------------------------------------------------------ */

void bus_check_log(struct bus_model *model, struct bus_life *life, const json_t *log)
{
    static const char *const outcomes[OUTGOING_OUTCOMES] = {"answered", "forbidden", "unresolved", "unreachable", "timed out", "broken", "untrusted", "refused", "busy"};
    uint64_t kept = life->attempt_count < BUS_ATTEMPTS_KEPT ? life->attempt_count : BUS_ATTEMPTS_KEPT;
    if (!kept && json_is_object(log))
        return;   /* it says how it goes, as there is nothing else to say */
    if (!json_is_array(log) || json_array_size(log) != kept) {
        trace_fail(model->trace, "the log is true", "subscription s%u (life %u) has %zu attempts in its log, there were %" PRIu64, life->slot, life->number, json_array_size(log), kept);
        return;
    }
    for (uint64_t i = 0; i < kept; i++) {
        const struct bus_attempt *was = &life->log[(life->attempt_count - 1 - i) % BUS_ATTEMPTS_KEPT];
        const json_t *said = json_array_get(log, i);
        const char *event = json_string_value(json_object_get(said, "event")), *outcome = json_string_value(json_object_get(said, "outcome"));
        if (!event || strtoull(event + 1, NULL, 10) != was->event || (uint64_t)json_integer_value(json_object_get(said, "time_ms")) != was->now_us / 1000 ||
            json_integer_value(json_object_get(said, "attempt")) != was->attempt ||
            json_integer_value(json_object_get(said, "status")) != was->status || !outcome || strcmp(outcome, outcomes[was->outcome]) != 0) {
            char *text = json_dumps(said, JSON_COMPACT);
            trace_fail(model->trace, "the log is true", "subscription s%u (life %u) says %.200s of attempt %u of event %" PRIu64 ", which was answered %u (%s)", life->slot, life->number,
                       text ? text : "nothing", was->attempt, was->event, was->status, outcomes[was->outcome]);
            free(text);
            return;
        }
    }
}
