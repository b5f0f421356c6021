#include "cli/bench_ledger.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_WORDS 64u

enum gw_err bench_ledger_init(struct bench_ledger *ledger, uint32_t publishers, bool is_shared)
{
    *ledger = (struct bench_ledger){.publishers = publishers, .is_shared = is_shared};
    pthread_mutex_init(&ledger->lock, NULL);
    ledger->streams = calloc(publishers ? publishers : 1, sizeof *ledger->streams);
    return ledger->streams ? GW_OK : GW_ERR_NOMEM;
}

void bench_ledger_deinit(struct bench_ledger *ledger)
{
    for (uint32_t i = 0; ledger->streams && i < ledger->publishers; i++)
        free(ledger->streams[i].bits);
    free(ledger->streams);
    pthread_mutex_destroy(&ledger->lock);
}

static enum gw_err grow(struct bench_stream *stream, uint64_t sequence)
{
    uint64_t words = stream->words ? stream->words : FIRST_WORDS;
    while (words <= sequence / 64)
        words *= 2;
    if (words == stream->words)
        return GW_OK;
    uint64_t *bits = realloc(stream->bits, words * sizeof *bits);
    if (!bits)
        return GW_ERR_NOMEM;
    memset(bits + stream->words, 0, (words - stream->words) * sizeof *bits);
    stream->bits = bits;
    stream->words = words;
    return GW_OK;
}

enum gw_err bench_stream_note_slow(struct bench_ledger *ledger, struct bench_stream *stream, uint64_t sequence, bool redelivered)
{
    enum gw_err err = grow(stream, sequence);
    if (err)
        return err;
    uint64_t *word = &stream->bits[sequence / 64], bit = UINT64_C(1) << sequence % 64;
    if (*word & bit) {
        stream->doubled += !redelivered;   /* A redelivery may repeat a message whose acknowledgement was lost. */
        return GW_OK;
    }
    *word |= bit;
    stream->distinct++;
    if (sequence >= stream->next)
        stream->next = sequence + 1;
    else if (!redelivered && !ledger->is_shared)
        stream->reordered++;
    return GW_OK;
}
