/* Replays in the model: how many there can be and must be of an event in a subscription's queue.
 *
 * What replays have added can not be told from what came by itself, nor one from another. So of an event that was replayed it is counted how often it came to an end, done or given up: at least
 * as often as there must be of it, and at most as often as there can be, and a crash made forget. */
#include "sim/bus_model.h"

#include <inttypes.h>
#include <stdlib.h>

#define SECOND_US 1000000ull

enum covers { COVERS_NOT, COVERS_MAYBE, COVERS };

/* Is the event one that the replay adds? */
static enum covers covers(struct bus_model *model, const struct bus_replay *replay, uint64_t number)
{
    const struct bus_event *event = bus_event(model, number);
    bool sure = number <= replay->last && event->confirmed && event->known_us <= replay->asked_us;
    bool any = false;
    for (unsigned i = 0; i < replay->wish_count; i++) {
        bool has = bus_wish_has(&replay->wishes[i], event->type, event->grade);
        any |= has;
        sure &= has;
    }
    if (!any)
        return COVERS_NOT;
    if (replay->what == REPLAY_IDS) {
        bool found = false;
        for (unsigned i = 0; i < 4; i++)
            found |= replay->ids[i] == number;
        return !found ? COVERS_NOT : sure ? COVERS : COVERS_MAYBE;
    }
    if (replay->what == REPLAY_SINCE) {   /* times are said in seconds, as long ago when the request arrives */
        uint64_t slack_us = 2 * SECOND_US + (replay->answered_us ? replay->answered_us : model->trace->now_us) - replay->asked_us;
        if ((event->known_us != BUS_NEVER && event->known_us + SECOND_US < replay->since_us) || (replay->until_us != BUS_NEVER && event->sent_us > replay->until_us + slack_us))
            return COVERS_NOT;
        sure &= event->sent_us > replay->since_us + slack_us && (replay->until_us == BUS_NEVER || event->known_us + SECOND_US < replay->until_us);
    }
    return sure ? COVERS : COVERS_MAYBE;
}

void bus_replay(struct bus_model *model, struct bus_life *life, const struct bus_replay *replay)
{
    life->replay = *replay;
    life->replay.is_asked = true;
    life->replay.asked_us = model->trace->now_us;
    life->replay.epoch = model->epoch;
    life->replay.wishes[0] = life->now;
    life->replay.wish_count = 1;
    life->replay.last = model->event_count;
}

void bus_replay_answered(struct bus_model *model, struct bus_life *life, bool is_known)
{
    life->replay.answered_us = is_known ? model->trace->now_us : 0;
    life->replay.is_unsure = !is_known;
}

void bus_replay_refused(struct bus_life *life) { life->replay.is_asked = false; }

void bus_replay_changes(struct bus_life *life, const struct bus_wish *wish)
{
    struct bus_replay *replay = &life->replay;
    if (!replay->is_asked)
        return;
    if (replay->wish_count == BUS_WISHES_MAX) {   /* too many to know: it may want anything, and nothing for sure */
        replay->wishes[0] = (struct bus_wish){0};
        replay->wishes[1] = (struct bus_wish){.patterns = (1u << BUS_PATTERNS) - 1};
    } else {
        replay->wishes[replay->wish_count++] = *wish;
    }
}

/* How many of each event it adds: one, and for each restart one more at most, since how far it had come is written down now and then only. */
static unsigned most_of(const struct bus_model *model, const struct bus_replay *replay) { return 1u + (unsigned)(model->epoch - replay->epoch); }

bool bus_may_be_replayed(struct bus_model *model, struct bus_life *life, uint64_t event)
{
    const struct bus_errand *errand = bus_errand(life, event);
    return (errand && errand->most) || (life->replay.is_asked && covers(model, &life->replay, event));
}

void bus_check_copies(struct bus_model *model, struct bus_life *life, uint64_t event)
{
    const struct bus_errand *errand = bus_errand_for(life, event);
    unsigned most = 1u + errand->most + errand->forgotten + (life->replay.is_asked && covers(model, &life->replay, event) ? most_of(model, &life->replay) : 0);
    if (most > 1 && (unsigned)errand->done + errand->given_up > most)
        trace_fail(model->trace, "a replay adds each event once", "event %" PRIu64 " was done %u times and given up %u times in subscription s%u (life %u), and there were %u of it at the most", event,
                   errand->done, errand->given_up, life->slot, life->number, most);
}

/* It is over: what came while it was under way may have been replayed, and what was there before was if it is done. */
static void be_over(struct bus_model *model, struct bus_life *life, const json_t *said, bool done)
{
    struct bus_replay *replay = &life->replay;
    json_int_t replayed = json_integer_value(json_object_get(said, "replayed"));
    uint64_t least = 0, most = 0;
    for (uint64_t number = 1; number <= model->event_count; number++) {
        enum covers how = covers(model, replay, number);
        if (!how)
            continue;
        most++;
        bus_errand_for(life, number)->most = (uint16_t)(bus_errand_for(life, number)->most + most_of(model, replay));
        if (how == COVERS && done) {
            bus_errand_for(life, number)->least++;
            least++;
        }
    }
    if (done && (replayed < (json_int_t)least || replayed > (json_int_t)most))
        trace_fail(model->trace, "replays are whole", "a replay of subscription s%u (life %u) is done with %" PRId64 " events, of at least %" PRIu64 " and at most %" PRIu64, life->slot,
                   life->number, (int64_t)replayed, least, most);
    replay->is_asked = false;
}

void bus_replay_looked(struct bus_model *model, struct bus_life *life, const json_t *said)
{
    const char *state = json_string_value(json_object_get(said, "state"));
    if (!life->replay.is_asked || (said && !state))
        return;
    /* One that a crash kept from being asked for leaves that of the one before it. */
    bool is_another = said && (uint64_t)json_integer_value(json_object_get(said, "asked_ms")) < life->replay.asked_us / 1000;
    if (!said || is_another) {
        if (life->replay.epoch == model->epoch && !life->replay.is_unsure)
            trace_fail(model->trace, "replays are whole", "the replay of subscription s%u (life %u) is not known any more", life->slot, life->number);
        be_over(model, life, said, false);
    } else if (strcmp(state, "done") == 0) {
        be_over(model, life, said, true);
    } else if (strcmp(state, "asked") != 0 && strcmp(state, "running") != 0) {
        trace_fail(model->trace, "replays are whole", "the replay of subscription s%u (life %u) is %s", life->slot, life->number, state);
    }
}
