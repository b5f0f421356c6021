#include "sim/bus_model.h"

#include "base/err.h"
#include "sim/grown.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SECOND_US 1000000ull
#define BREAKER_AFTER 5u             /* failures in a row, as docs/webhooks.md has it */
#define BREAKER_LONGEST_S 60u
#define SLOW_LONGEST_S 86400u
#define ORDER_LOOKS_BACK 300u        /* events of a publisher */
#define CLOCK_GRAIN_US 1000u         /* queues count in milliseconds */

void bus_model_init(struct bus_model *model, const struct bus_plan *plan, struct trace *trace)
{
    *model = (struct bus_model){.plan = plan, .trace = trace, .epoch = 1};
}

void bus_model_deinit(struct bus_model *model)
{
    for (unsigned i = 0; i < model->life_count; i++) {
        free(model->lives[i]->errands);
        free(model->lives[i]);
    }
    free(model->lives);
    free(model->events);
}

/* ---- publishing ------------------------------------------------------------------------------------------------------------ */

size_t bus_event_body(const struct bus_model *model, uint64_t number, char *room)
{
    uint64_t draw = random_mix(model->plan->base.seed ^ number);
    size_t pad = draw % model->plan->body_size;
    int size = sprintf(room, "{\"n\":%" PRIu64 ",\"pad\":\"", number);
    memset(room + size, 'a' + (int)(draw >> 32) % 26, pad);
    return (size_t)(size + (int)pad + sprintf(room + size + pad, "\"}"));
}

uint64_t bus_publish(struct bus_model *model, unsigned publisher, struct random *random)
{
    if (model->event_count == model->event_room) {
        model->event_room = model->event_room ? model->event_room * 2 : 256;
        model->events = realloc(model->events, model->event_room * sizeof(*model->events));
        CHECK(model->events);
    }
    struct bus_event *event = &model->events[model->event_count++];
    *event = (struct bus_event){.sent_us = model->trace->now_us, .known_us = BUS_NEVER, .before = model->last_of[publisher], .publisher = (uint8_t)publisher};
    event->type = (uint8_t)random_below(random, BUS_TYPES);
    event->grade = (uint8_t)random_below(random, BUS_GRADES);
    event->key = (uint8_t)random_below(random, BUS_KEYS);
    return model->last_of[publisher] = model->event_count;
}

struct bus_errand *bus_errand(struct bus_life *life, uint64_t event)
{
    return event >= life->first && event - life->first < life->errand_count ? &life->errands[event - life->first] : NULL;
}

struct bus_errand *bus_errand_for(struct bus_life *life, uint64_t event)
{
    if (!life->errand_count)
        life->first = event;
    if (event < life->first) {   /* one that was on its way when a later one came */
        uint64_t more = life->first - event;
        life->errands = realloc(life->errands, (life->errand_count + more) * sizeof(*life->errands));
        CHECK(life->errands);
        memmove(life->errands + more, life->errands, life->errand_count * sizeof(*life->errands));
        memset(life->errands, 0, more * sizeof(*life->errands));
        life->first = event;
        life->errand_count += more;
        life->errand_room = life->errand_count;
    }
    uint64_t wanted = event - life->first + 1;
    if (wanted > life->errand_room) {
        life->errand_room = wanted * 2;
        life->errands = realloc(life->errands, life->errand_room * sizeof(*life->errands));
        CHECK(life->errands);
    }
    if (wanted > life->errand_count) {
        memset(life->errands + life->errand_count, 0, (wanted - life->errand_count) * sizeof(*life->errands));
        life->errand_count = wanted;
    }
    return &life->errands[event - life->first];
}

static bool is_wanted(const struct bus_life *life, const struct bus_event *event, bool by_both)
{
    bool now = bus_wish_has(&life->now, event->type, event->grade);
    if (life->doing != DOING_CHANGE)
        return now;
    bool next = bus_wish_has(&life->next, event->type, event->grade);
    return by_both ? now && next : now || next;
}

void bus_published(struct bus_model *model, uint64_t number, bool confirmed)
{
    struct bus_event *event = bus_event(model, number);
    event->known_us = model->trace->now_us;
    event->confirmed = confirmed;
    for (unsigned i = 0; confirmed && i < model->life_count; i++) {
        struct bus_life *life = model->lives[i];
        if (life->is_gone || life->is_leaving || life->bound_us == BUS_NEVER || life->bound_us > event->sent_us || life->settled_us > event->sent_us || life->ended || !is_wanted(life, event, true))
            continue;
        bus_errand_for(life, number)->flags |= ERRAND_MUST;
    }
}

void bus_publish_lost(struct bus_model *model, uint64_t number) { bus_event(model, number)->known_us = model->trace->now_us; }

/* ---- what is posted ---------------------------------------------------------------------------------------------------------- */

/* May the broker still count what it counted before its last end? */
static bool is_known(const struct bus_model *model, uint32_t epoch, bool sure) { return sure || epoch == model->epoch; }

#define FAIL(invariant, format, ...) \
    trace_fail(model->trace, invariant, "event %" PRIu64 " for subscription s%u (life %u), attempt %u: " format, post->event, post->life->slot, post->life->number, post->attempt, __VA_ARGS__)

/* Those before it that have to come first. */
static void check_order(struct bus_model *model, const struct bus_post *post)
{
    struct bus_life *life = post->life;
    const struct bus_event *event = bus_event(model, post->event);
    uint64_t before = event->before;
    for (unsigned i = 0; before && i < ORDER_LOOKS_BACK; i++, before = bus_event(model, before)->before) {
        const struct bus_event *other = bus_event(model, before);
        const struct bus_errand *errand = bus_errand(life, before);
        if (!errand)
            return;
        if (!(errand->flags & ERRAND_MUST) || (life->terms.order == ORDER_SUBJECT && other->key != event->key))
            continue;
        if (!(errand->flags & (ERRAND_DONE | ERRAND_GIVEN_UP | ERRAND_DEAD)))
            FAIL("order", "event %" PRIu64 " was published before it and is not done", before);
        return;
    }
}

static void check_attempt(struct bus_model *model, const struct bus_post *post, struct bus_errand *errand)
{
    uint64_t now_us = model->trace->now_us;
    unsigned least = is_known(model, errand->failed_epoch, false) ? errand->attempts + 1u : errand->sure_attempts + 1u, most = errand->attempts + 1u;
    if (post->attempt < least || post->attempt > most)
        FAIL("attempts are counted", "it is attempt %u to %u", least, most);
    uint64_t due_us = errand->failed_us + bus_retry_least_us(&post->life->terms, errand->attempts);
    if (errand->attempts && post->attempt == most && now_us + CLOCK_GRAIN_US < due_us)
        FAIL("retries wait", "it failed at %" PRIu64 " and is due at %" PRIu64, errand->failed_us, due_us);
    if (post->attempt < most) {   /* what a crash has forgotten is known now */
        errand->attempts = (uint16_t)(post->attempt - 1);
        errand->failed_us = 0;
    }
    errand->sure_attempts = errand->sure_attempts < errand->attempts ? errand->sure_attempts : errand->attempts;
}

static void check_gates(struct bus_model *model, const struct bus_post *post)
{
    struct bus_life *life = post->life;
    uint64_t now_us = model->trace->now_us;
    bool changes = life->doing == DOING_CHANGE;
    if (life->under_way >= life->terms.concurrency)
        FAIL("concurrency", "%u are under way already", life->under_way);
    if (life->now.paused && (!changes || life->next.paused))
        FAIL("a pause is one", "it is paused since %s", "its PATCH was answered");
    if (life->ended == ENDED_FOR_SURE)
        FAIL("410 ends it", "the sink has said %u", 410);
    if (post->sink != life->now.sink && (!changes || post->sink != life->next.sink))
        FAIL("the sink is the subscription's", "it went to sink %u", post->sink);
    if (now_us < life->slow_until_us)
        FAIL("Retry-After is obeyed", "nothing is to be posted before %" PRIu64, life->slow_until_us);
    if (life->breaker_is_known && now_us < life->open_until_us)
        FAIL("the breaker is open", "nothing is to be posted before %" PRIu64, life->open_until_us);
    if (life->breaker_is_known && life->failures >= BREAKER_AFTER && life->under_way)
        FAIL("the breaker lets one through", "%u are under way", life->under_way);
    if (life->terms.origin && life->leave_of != (int)post->sink)
        FAIL("the origin needs leave", "sink %u has not given it", post->sink);
    if (life->terms.origin && !changes && !life->is_blurred && now_us < life->next_post_us)
        FAIL("the allowed rate is kept", "nothing is to be posted before %" PRIu64, life->next_post_us);
}

void bus_posted(struct bus_model *model, struct bus_post *post)
{
    struct bus_life *life = post->life;
    post->sinks_named = life->sinks_named;
    post->is_stale = life->doing == DOING_CHANGE || life->is_blurred;
    if (life->is_gone || (!life->is_made && life->doing != DOING_CREATE))
        FAIL("what is removed is posted no more", "it is gone since %s", "its DELETE was answered");
    if (post->is_question)
        return;
    trace_event(model->trace, TRACE_HOOK, life->number, post->event, post->attempt, post->sink);
    model->posted++;
    const struct bus_event *event = bus_event(model, post->event);
    bool again = bus_may_be_replayed(model, life, post->event);
    if (event->known_us < life->asked_us && !again)
        FAIL("nothing from before", "it was published before the subscription was made, at %" PRIu64, event->known_us);
    if (!is_wanted(life, event, false) && !again)
        FAIL("types and filters", "it is of the type %s and grade %u", bus_types[event->type], event->grade);
    check_gates(model, post);
    struct bus_errand *errand = bus_errand_for(life, post->event);
    errand->under_way++;
    life->under_way++;
    life->next_post_us = model->trace->now_us + life->interval_us;
    if (again)
        return;   /* which one it is cannot be told */
    if (errand->under_way > 1)
        FAIL("one at a time", "it is under %s already", "way");
    if ((errand->flags & ERRAND_DONE) && is_known(model, errand->done_epoch, errand->flags & ERRAND_DONE_SURE))
        FAIL("what is done stays done", "the sink has taken it in life %u", errand->done_epoch);
    if ((errand->flags & ERRAND_DEAD) || ((errand->flags & ERRAND_GIVEN_UP) && is_known(model, errand->failed_epoch, errand->flags & ERRAND_GIVEN_UP_SURE)))
        FAIL("what is given up stays so", "it had %u attempts", errand->attempts);
    check_attempt(model, post, errand);
    if (life->terms.order)
        check_order(model, post);
    errand->flags &= (uint16_t)~(ERRAND_GIVEN_UP | ERRAND_GIVEN_UP_SURE);
}

void bus_taken(struct bus_model *model, const struct bus_post *post)
{
    (void)model;
    bus_errand_for(post->life, post->event)->flags |= ERRAND_TAKEN;
}

/* ---- what sinks say ------------------------------------------------------------------------------------------------------------ */

/* Does it count for the subscription as it is? */
static bool counts(const struct bus_post *post) { return !post->is_stale && post->life->doing != DOING_CHANGE && !post->life->is_blurred && post->sinks_named == post->life->sinks_named; }

static void fail(struct bus_model *model, const struct bus_post *post, struct bus_errand *errand)
{
    struct bus_life *life = post->life;
    uint64_t now_us = model->trace->now_us;
    model->failed++;
    errand->attempts = (uint16_t)post->attempt;
    errand->failed_us = now_us;
    errand->failed_epoch = model->epoch;
    if (post->attempt >= life->terms.attempts) {
        errand->flags |= ERRAND_GIVEN_UP;
        errand->given_up++;
        model->given_up++;
        bus_check_copies(model, life, post->event);
    }
    life->breaker_is_known = life->breaker_is_known && counts(post);
    if (!life->breaker_is_known) {
        life->open_until_us = 0;
        return;
    }
    if (++life->failures < BREAKER_AFTER || now_us < life->open_until_us)
        return;
    uint64_t wait_s = life->opened < 6 ? 1ull << life->opened : BREAKER_LONGEST_S;
    life->opened++;
    life->open_until_us = now_us + wait_s * SECOND_US;
}

static void slow_down(struct bus_model *model, const struct bus_post *post, uint64_t retry_after_s)
{
    uint64_t wait_s = retry_after_s == OUTGOING_NO_TIME ? 1 : retry_after_s < SLOW_LONGEST_S ? retry_after_s : SLOW_LONGEST_S;
    uint64_t until_us = model->trace->now_us + (wait_s ? wait_s * SECOND_US : SECOND_US / 10);
    if (counts(post) && until_us > post->life->slow_until_us)
        post->life->slow_until_us = until_us;
}

static void end(struct bus_model *model, const struct bus_post *post)
{
    struct bus_life *life = post->life;
    bool sure = counts(post);
    model->changes[life->slot]++;
    life->bound_us = BUS_NEVER;
    life->binds_at_rest = !sure;
    life->ended_epoch = model->epoch;
    life->ended_is_kept = false;
    life->ended_meanwhile |= life->doing == DOING_CHANGE;
    if (life->ended != ENDED_FOR_SURE)
        life->ended = sure ? ENDED_FOR_SURE : ENDED_MAYBE;
}

static void answer_question(struct bus_post *post, const struct outgoing_result *result)
{
    struct bus_life *life = post->life;
    const char *allowed = result->found[0];
    if (result->status < 200 || result->status >= 300 || !allowed || (strcmp(allowed, "*") != 0 && strcmp(allowed, BUS_ORIGIN) != 0))
        return;
    unsigned long rate = result->found[1] ? strtoul(result->found[1], NULL, 10) : 0;
    life->leave_of = (int)post->sink;
    life->interval_us = rate ? 60 * SECOND_US / rate : 0;
    life->next_post_us = 0;
}

void bus_answered(struct bus_model *model, struct bus_post *post, const struct outgoing_result *result)
{
    struct bus_life *life = post->life;
    trace_event(model->trace, TRACE_HOOK_DONE, life->number, post->event, result->outcome, result->status);
    if (post->is_question) {
        answer_question(post, result);
        return;
    }
    struct bus_errand *errand = bus_errand_for(life, post->event);
    errand->under_way--;
    life->under_way--;
    life->log[life->attempt_count++ % BUS_ATTEMPTS_KEPT] = (struct bus_attempt){post->event, result->now_us, post->attempt, result->status, result->outcome};
    if (result->status >= 200 && result->status < 300) {
        model->delivered++;
        errand->flags |= ERRAND_DONE;
        errand->flags &= (uint16_t)~ERRAND_DONE_SURE;
        errand->done_epoch = model->epoch;
        errand->done++;
        bus_check_copies(model, life, post->event);
        life->breaker_is_known = life->breaker_is_known || counts(post);
        life->failures = life->opened = 0;
    } else if (result->status == 410) {
        end(model, post);
    } else if (result->outcome == OUTGOING_BUSY || result->status == 429 || (result->status == 503 && result->retry_after_s != OUTGOING_NO_TIME)) {
        slow_down(model, post, result->retry_after_s);
    } else {
        fail(model, post, errand);
    }
}

void bus_cancelled(struct bus_model *model, struct bus_post *post)
{
    (void)model;
    if (post->is_question)
        return;
    bus_errand_for(post->life, post->event)->under_way--;
    post->life->under_way--;
}

/* ---- life and death -------------------------------------------------------------------------------------------------------------- */

void bus_restart(struct bus_model *model)
{
    model->epoch++;
    for (unsigned i = 0; i < model->life_count; i++) {
        struct bus_life *life = model->lives[i];
        CHECK(life->under_way == 0);
        life->failures = life->opened = 0;
        life->open_until_us = life->slow_until_us = life->interval_us = life->next_post_us = 0;
        life->breaker_is_known = true;
        life->is_blurred = false;
        life->leave_of = -1;
        life->attempt_count = 0;
        for (uint64_t k = 0; k < life->errand_count; k++) {
            struct bus_errand *errand = &life->errands[k];
            errand->forgotten = (uint16_t)(errand->forgotten + errand->done + errand->given_up - errand->sure);
            errand->sure = (uint16_t)(errand->done + errand->given_up);
        }
        if (life->ended == ENDED_FOR_SURE && !life->ended_is_kept) {
            life->ended = ENDED_MAYBE;
            life->binds_at_rest = true;
        }
    }
}

void bus_quiet(struct bus_model *model)
{
    for (unsigned i = 0; i < model->life_count; i++) {
        struct bus_life *life = model->lives[i];
        for (uint64_t k = 0; k < life->errand_count; k++) {
            struct bus_errand *errand = &life->errands[k];
            errand->sure = (uint16_t)(errand->done + errand->given_up);
            if (errand->failed_epoch == model->epoch) {
                errand->sure_attempts = errand->attempts;
                if (errand->flags & ERRAND_GIVEN_UP)
                    errand->flags |= ERRAND_GIVEN_UP_SURE;
            }
            if ((errand->flags & ERRAND_DONE) && errand->done_epoch == model->epoch)
                errand->flags |= ERRAND_DONE_SURE;
        }
        life->ended_epoch = 0;
        life->ended_is_kept = life->ended == ENDED_FOR_SURE;
        if (life->binds_at_rest && !life->ended && life->doing == DOING_NOTHING && !life->is_leaving && !life->is_gone) {
            life->bound_us = model->trace->now_us;
            life->binds_at_rest = false;
        }
    }
}

/* ---- the end ------------------------------------------------------------------------------------------------------------------------ */

bool bus_is_owed(const struct bus_model *model, const struct bus_life *life)
{
    (void)model;
    if (life->is_gone || life->is_leaving || life->ended)
        return false;
    for (uint64_t i = 0; i < life->errand_count; i++) {
        const struct bus_errand *errand = &life->errands[i];
        bool must = errand->flags & ERRAND_MUST;
        if (errand->least ? errand->done + errand->given_up < must + errand->least : must && !(errand->flags & (ERRAND_DONE | ERRAND_GIVEN_UP)))
            return true;
    }
    return false;
}

void bus_check_end(struct bus_model *model, struct bus_life *life, const uint64_t *dead, unsigned dead_count)
{
    for (unsigned i = 0; i < dead_count; i++) {
        struct bus_errand *errand = bus_errand(life, dead[i]);
        if (errand && errand->dead++ < errand->given_up && errand->most)
            errand->flags |= ERRAND_DEAD;
        else if (!errand || !(errand->flags & ERRAND_GIVEN_UP))
            trace_fail(model->trace, "what is given up had its attempts", "event %" PRIu64 " of subscription s%u (life %u) is in the dead queue after %u attempts", dead[i], life->slot,
                       life->number, errand ? errand->attempts : 0);
        else if (errand->flags & ERRAND_DEAD)
            trace_fail(model->trace, "once in the dead queue", "event %" PRIu64 " of subscription s%u (life %u) is there twice", dead[i], life->slot, life->number);
        else
            errand->flags |= ERRAND_DEAD;
    }
    for (uint64_t i = 0; i < life->errand_count && !life->ended; i++) {
        unsigned flags = life->errands[i].flags;
        if (life->errands[i].most) {
            const struct bus_errand *errand = &life->errands[i];
            unsigned least = errand->least + ((flags & ERRAND_MUST) != 0);
            if ((unsigned)errand->done + errand->dead < least)
                trace_fail(model->trace, "replays are whole", "event %" PRIu64 " came to subscription s%u (life %u) %u times and was given up %u times, of %u", life->first + i, life->slot,
                           life->number, errand->done, errand->dead, least);
            continue;
        }
        if ((flags & ERRAND_MUST) && !(flags & (ERRAND_TAKEN | ERRAND_DEAD)))
            trace_fail(model->trace, "nothing is lost", "event %" PRIu64 " was confirmed, and never came to subscription s%u (life %u), which wants it; %u attempts", life->first + i,
                       life->slot, life->number, life->errands[i].attempts);
        if ((flags & (ERRAND_MUST | ERRAND_GIVEN_UP | ERRAND_DEAD)) == (ERRAND_MUST | ERRAND_GIVEN_UP))
            trace_fail(model->trace, "what is given up is kept", "event %" PRIu64 " of subscription s%u (life %u) had its attempts, and is not in the dead queue", life->first + i,
                       life->slot, life->number);
    }
}
