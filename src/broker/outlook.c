#include "broker/outlook.h"

#include <math.h>

#define SECOND_US 1000000u
#define RATE_EVENTS 400u         /* of which a rate is known to 5 %, … */
#define SERVICE_EVENTS 200u
#define SERVICE_BUSY_S 10.0      /* consumers are looked at ten times a second: they were at work in a hundred looks, … */
#define SERVICE_BUSY_MIN_S 2.5   /* … or 25, below which it is not told how long they take */
#define EVENTS_MIN 25u           /* … and to 20 %, below which it is not told */
#define SPAN_MIN_US (5u * SECOND_US)           /* what comes in heaps does not come at the heap's rate */
#define SPAN_SHORT_US SECOND_US                /* if there is no more */
#define CHANGE_SPAN_US (10u * SECOND_US)       /* from which on it is noticed that it was otherwise before, … */
#define CHANGE 6.0                             /* … by so many standard deviations */
#define SERVICE_SPAN_US (10u * SECOND_US)
#define SERVICE_SPAN_MIN_US (3u * SECOND_US)
#define SPAN_MAX_US (300u * SECOND_US)
#define SILENCE 8.0              /* so many mean gaps without an event: it has stopped */
#define SILENCE_MIN_US (10u * SECOND_US)       /* of what never was */
#define ERROR_GOOD 0.03          /* of the difference of departures and arrivals */
#define ERROR_MAX 0.5

static const struct { unsigned first, count; uint64_t every_us; } rings[] = {
    {0, 20, SECOND_US / 10}, {20, 20, SECOND_US}, {40, 30, 10ull * SECOND_US}, {70, 30, 120ull * SECOND_US},
};
#define RINGS (sizeof(rings) / sizeof(rings[0]))

/* ---- sampling -------------------------------------------------------------------------------------------------------- */

void outlook_add(struct outlook *outlook, const struct outlook_sample *counts, uint32_t busy, uint32_t consumers, uint64_t weight_us)
{
    struct outlook_sample *last = &outlook->last, now = *counts;
    bool first = !last->at_us, moved = first || now.arrived != last->arrived || now.handled != last->handled || now.lost != last->lost;
    now.busy_us = last->busy_us + busy * weight_us;
    now.consumer_us = last->consumer_us + consumers * weight_us;
    if (first || consumers != outlook->consumers)
        outlook->consumers_us = now.at_us;
    if (moved || busy)
        outlook->used_us = now.at_us;
    outlook->consumers = consumers;
    *last = now;
    for (unsigned i = 0; i < RINGS; i++) {
        struct outlook_sample *ring = &outlook->samples[rings[i].first];
        uint8_t place = outlook->place[i];
        const struct outlook_sample *newest = &ring[(place + rings[i].count - 1) % rings[i].count];
        if (newest->at_us && now.at_us - newest->at_us < rings[i].every_us)
            continue;
        ring[place] = now;
        outlook->place[i] = (uint8_t)((place + 1) % rings[i].count);
    }
}

/* ---- spans ----------------------------------------------------------------------------------------------------------- */

/* From a sample on to now. */
struct span {
    double seconds, arrived, handled, lost, busy_seconds, consumer_seconds;
};

static struct span span_from(const struct outlook *outlook, const struct outlook_sample *from)
{
    const struct outlook_sample *now = &outlook->last;
    return (struct span){
        (double)(now->at_us - from->at_us) / SECOND_US, (double)(now->arrived - from->arrived), (double)(now->handled - from->handled), (double)(now->lost - from->lost),
        (double)(now->busy_us - from->busy_us) / SECOND_US, (double)(now->consumer_us - from->consumer_us) / SECOND_US};
}

typedef bool is_enough(const struct span *span);

static bool enough_served(const struct span *span) { return span->handled >= SERVICE_EVENTS && span->busy_seconds >= SERVICE_BUSY_S; }

/* How well the difference of departures and arrivals is known, as a share of it: they come by chance. */
static double error_of(const struct span *span)
{
    double fewer = fabs(span->handled + span->lost - span->arrived);
    return fewer > 0 ? sqrt(span->handled + span->lost + span->arrived) / fewer : INFINITY;
}

static bool enough_changed(const struct span *span) { return error_of(span) <= ERROR_GOOD; }

/* The shortest span of at least `least_us` that has enough; otherwise the longest of at most `most_us`. False: there is none. */
static bool choose(const struct outlook *outlook, uint64_t least_us, uint64_t most_us, is_enough *enough, struct span *chosen)
{
    uint64_t best_us = UINT64_MAX, longest_us = 0;
    for (unsigned i = 0; i < OUTLOOK_SAMPLES; i++) {
        const struct outlook_sample *sample = &outlook->samples[i];
        uint64_t age_us = sample->at_us ? outlook->last.at_us - sample->at_us : 0;
        if (!sample->at_us || age_us < least_us || age_us > most_us || !age_us)
            continue;
        struct span span = span_from(outlook, sample);
        bool has_enough = enough(&span);
        if (has_enough ? age_us >= best_us : best_us != UINT64_MAX || age_us <= longest_us)
            continue;
        *chosen = span;
        if (has_enough)
            best_us = age_us;
        else
            longest_us = age_us;
    }
    return best_us != UINT64_MAX || longest_us;
}

/* How long nothing of it has happened, seconds. */
static double silence(const struct outlook *outlook, bool handled)
{
    uint64_t longest_us = 0;
    for (unsigned i = 0; i < OUTLOOK_SAMPLES; i++) {
        const struct outlook_sample *sample = &outlook->samples[i];
        bool same = sample->at_us && (handled ? sample->handled == outlook->last.handled : sample->arrived == outlook->last.arrived);
        if (same && outlook->last.at_us - sample->at_us > longest_us)
            longest_us = outlook->last.at_us - sample->at_us;
    }
    return (double)longest_us / SECOND_US;
}

static double events_of(const struct span *span, bool handled) { return handled ? span->handled : span->arrived; }

/* Samples of at least `least_us` ago, the youngest first. Answers how many. */
static unsigned by_age(const struct outlook *outlook, uint64_t least_us, const struct outlook_sample **sorted)
{
    unsigned count = 0;
    for (unsigned i = 0; i < OUTLOOK_SAMPLES; i++) {
        const struct outlook_sample *sample = &outlook->samples[i];
        uint64_t age_us = outlook->last.at_us - sample->at_us;
        if (!sample->at_us || !age_us || age_us < least_us || age_us > SPAN_MAX_US)
            continue;
        unsigned place = count++;
        for (; place && sorted[place - 1]->at_us < sample->at_us; place--)
            sorted[place] = sorted[place - 1];
        sorted[place] = sample;
    }
    return count;
}

/* Was what came before `span`, in the rest of `longer`, so much or so little that the rate must have been another one? */
static bool was_otherwise(const struct span *span, const struct span *longer, bool handled)
{
    double events = events_of(span, handled), share = (longer->seconds - span->seconds) / span->seconds;
    double before = events_of(longer, handled) - events, expected = events * share, variance = expected + share * share * events;
    return events >= EVENTS_MIN && span->seconds * SECOND_US >= CHANGE_SPAN_US && (before - expected) * (before - expected) > CHANGE * CHANGE * variance;
}

/* The span from which a rate is told. False: there is none. */
static bool choose_for_rate(const struct outlook *outlook, bool handled, struct span *chosen)
{
    const struct outlook_sample *sorted[OUTLOOK_SAMPLES];
    unsigned count = by_age(outlook, SPAN_MIN_US, sorted);
    if (!count) {
        count = by_age(outlook, SPAN_SHORT_US, sorted);
        if (count)
            *chosen = span_from(outlook, sorted[count - 1]);
        return count != 0;
    }
    for (unsigned i = 0; i < count; i++) {
        struct span span = span_from(outlook, sorted[i]);
        if (i && was_otherwise(chosen, &span, handled))
            break;
        *chosen = span;
        if (events_of(&span, handled) >= RATE_EVENTS)
            break;
    }
    return true;
}

static double rate(const struct outlook *outlook, bool handled, struct span *chosen)
{
    if (!choose_for_rate(outlook, handled, chosen))
        return NAN;
    const struct span span = *chosen;
    double events = events_of(&span, handled), silent = silence(outlook, handled);
    if (events == 0)
        return silent >= SILENCE_MIN_US / SECOND_US ? 0 : NAN;
    if (silent > 1 && silent < span.seconds && silent * events / (span.seconds - silent) > SILENCE)
        return 0;
    return events < EVENTS_MIN ? NAN : events / span.seconds;
}

/* ---- numbers ---------------------------------------------------------------------------------------------------------- */

static void find_end(const struct outlook *outlook, uint64_t backlog, struct outlook_numbers *numbers)
{
    struct span span = {0};
    uint64_t steady_us = outlook->last.at_us - outlook->consumers_us;   /* with other consumers it went another way */
    numbers->backlog_end_seconds = numbers->backlog_error = NAN;
    if (!backlog) {
        numbers->backlog_end_seconds = numbers->backlog_error = 0;
        return;
    }
    if (!choose(outlook, SPAN_MIN_US, steady_us < SPAN_MAX_US ? steady_us : SPAN_MAX_US, enough_changed, &span))
        return;
    double error = error_of(&span), fewer = span.handled + span.lost - span.arrived;
    if (error > ERROR_MAX)
        return;
    numbers->backlog_end_seconds = fewer > 0 ? (double)backlog * span.seconds / fewer : INFINITY;
    numbers->backlog_error = error;
}

struct outlook_numbers outlook_numbers(const struct outlook *outlook, uint64_t backlog, double target_s, double utilisation)
{
    struct outlook_numbers numbers = {.service_seconds = NAN, .utilisation = NAN, .consumers_needed = NAN};
    struct span span = {0};
    numbers.arrival_rate = rate(outlook, false, &span);
    numbers.settle_rate = rate(outlook, true, &span);
    numbers.over_seconds = span.seconds;
    if (span.consumer_seconds > 0)
        numbers.utilisation = span.busy_seconds / span.consumer_seconds;
    if ((choose(outlook, SERVICE_SPAN_US, SPAN_MAX_US, enough_served, &span) || choose(outlook, SERVICE_SPAN_MIN_US, SPAN_MAX_US, enough_served, &span)) &&
        span.handled >= EVENTS_MIN && span.busy_seconds >= SERVICE_BUSY_MIN_S)
        numbers.service_seconds = span.busy_seconds / span.handled;
    find_end(outlook, backlog, &numbers);
    if (target_s > 0 && utilisation > 0) {
        double work = numbers.arrival_rate + (double)backlog / target_s;   /* messages a second that are to be done */
        numbers.consumers_needed = work == 0 ? 0 : ceil(numbers.service_seconds * work / utilisation);
    }
    return numbers;
}

bool outlook_age(const struct outlook *outlook, uint64_t seq, uint64_t *age_us, bool *at_least)
{
    const struct outlook_sample *by = NULL, *before = NULL;   /* the earliest that knew it, and the last one that did not */
    if (!outlook->last.at_us)
        return false;
    for (unsigned i = 0; i < OUTLOOK_SAMPLES; i++) {
        const struct outlook_sample *sample = &outlook->samples[i];
        if (!sample->at_us)
            continue;
        if (sample->next_seq > seq && (!by || sample->at_us < by->at_us))
            by = sample;
        if (sample->next_seq <= seq && (!before || sample->at_us > before->at_us))
            before = sample;
    }
    *age_us = by ? outlook->last.at_us - by->at_us : 0;
    *at_least = by && !before;
    if (by && before && by->at_us > before->at_us)   /* as if they had come evenly between the two */
        *age_us += (uint64_t)((double)(by->at_us - before->at_us) * (double)(by->next_seq - 1 - seq) / (double)(by->next_seq - before->next_seq));
    return true;
}
