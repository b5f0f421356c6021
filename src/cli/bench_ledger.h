/* What arrived from one queue, by publisher and sequence: tells what was lost, doubled or out of order.
 *
 * Several consumers of one queue share its ledger; each locks it for a run of messages. */
#ifndef CLI_BENCH_LEDGER_H
#define CLI_BENCH_LEDGER_H

#include "base/err.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct bench_stream {
    uint64_t *bits;          /* which sequences arrived */
    uint64_t words;          /* of `bits` */
    uint64_t next;           /* one more than the highest sequence that arrived */
    uint64_t distinct, doubled, reordered;
};

struct bench_ledger {
    pthread_mutex_t lock;
    struct bench_stream *streams;     /* one a publisher */
    uint32_t publishers;
    bool is_shared;                   /* several consumers: each one's order says nothing about the queue's */
    uint64_t foreign;                 /* messages with an id that nobody gave */
};

/* Errors: GW_ERR_NOMEM. */
enum gw_err bench_ledger_init(struct bench_ledger *ledger, uint32_t publishers, bool is_shared);
void bench_ledger_deinit(struct bench_ledger *ledger);

/* For sequences other than the next one; see bench_ledger_note. */
enum gw_err bench_stream_note_slow(struct bench_ledger *ledger, struct bench_stream *stream, uint64_t sequence, bool redelivered);

/* Notes an arrival of a sequence below `limit`, the count that was sent so far. A redelivered message may be out of order.
 * Errors: GW_ERR_NOMEM. */
static inline enum gw_err bench_ledger_note(struct bench_ledger *ledger, uint32_t publisher, uint64_t sequence, uint64_t limit, bool redelivered)
{
    if (UNLIKELY(publisher >= ledger->publishers || sequence >= limit)) {
        ledger->foreign++;
        return GW_OK;
    }
    struct bench_stream *stream = &ledger->streams[publisher];
    if (LIKELY(sequence == stream->next && sequence / 64 < stream->words)) {
        stream->bits[sequence / 64] |= UINT64_C(1) << sequence % 64;
        stream->next++;
        stream->distinct++;
        return GW_OK;
    }
    return bench_stream_note_slow(ledger, stream, sequence, redelivered);
}

#endif
