/* What can be said of a queue's future: how fast messages come and go, how long handling one takes, when the backlog ends, how many consumers are needed. It all follows
 * from samples of what the queue counts anyway, so that a message costs nothing more.
 *
 *   samples, newest first:   0.1 s × 20      1 s × 20      10 s × 30      2 min × 30        thinned as they get older, an hour altogether
 *
 *   λ   arrivals a second               from the shortest span that has enough of them
 *   μ   messages done a second          the same
 *   S   seconds of a consumer that a message takes     = ∫ consumers that hold something dt ÷ messages done      (Little's law)
 *   ρ   utilisation                     = ∫ consumers that hold something dt ÷ ∫ consumers dt
 *   end of the backlog                  = N ÷ (departures − arrivals) a second, from a span that is long enough for the difference
 *   consumers for a target of T seconds = ⌈S · (λ + N ÷ T) ÷ ρ₀⌉
 *
 * What rests on too few events is not a number (NAN) rather than a wrong one. */
#ifndef BROKER_OUTLOOK_H
#define BROKER_OUTLOOK_H

#include "base/bytes.h"

#define OUTLOOK_SAMPLES 100u
#define OUTLOOK_TARGET_SECONDS 60.0
#define OUTLOOK_UTILISATION 0.8

/* Counted from some beginning on, so that only differences mean something. */
struct outlook_sample {
    uint64_t at_us;              /* monotonic; 0: none */
    uint64_t arrived, handled, lost;   /* messages; handled: taken or rejected by whoever got them. lost: expired, too many, purged */
    uint64_t next_seq;           /* of the queue's first lane */
    uint64_t busy_us, consumer_us;     /* of all consumers: time in which they held something; time in which they were there */
};

struct outlook {
    struct outlook_sample samples[OUTLOOK_SAMPLES];   /* a ring for each distance */
    uint8_t place[4];            /* in each ring, of the next one */
    struct outlook_sample last;
    uint32_t consumers;          /* when `last` was taken */
    uint64_t consumers_us;       /* since when there are so many */
    uint64_t used_us;            /* when something last moved */
};

/* What the queue counts now; what concerns consumers' time is added up here: so many of them hold something, and that stands for `weight_us` of time. */
void outlook_add(struct outlook *outlook, const struct outlook_sample *counts, uint32_t busy, uint32_t consumers, uint64_t weight_us);

struct outlook_numbers {
    double arrival_rate, settle_rate;      /* a second */
    double service_seconds, utilisation;
    double backlog_end_seconds;            /* 0: there is none; INFINITY: it grows */
    double backlog_error;                  /* of the end: standard error, as a share of it */
    double consumers_needed;
    double over_seconds;                   /* the span from which the settle rate comes */
};

/* `backlog`: messages that are ready or held. `target_s`: by when it is to be done with; `utilisation`: how busy consumers are to be, 0 … 1. */
struct outlook_numbers outlook_numbers(const struct outlook *outlook, uint64_t backlog, double target_s, double utilisation);

/* How long ago the message of that number came to the first lane, microseconds. *at_least: so long at least. False: nothing is known yet. */
bool outlook_age(const struct outlook *outlook, uint64_t seq, uint64_t *age_us, bool *at_least);

#endif
