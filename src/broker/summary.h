/* What headers the messages of a block have, in a few bytes: a Bloom filter of the hashes of (name, text), as selector_terms() has them. A block that surely has none of what a
 * selector demands need not be read, nor looked at.
 *
 *   bits: a power of two, about 10 for each header that differs; a term has SUMMARY_PROBES of them set
 *
 * It says what the block had when it was made. A block that takes no new messages only ever loses some, so it stays true. */
#ifndef BROKER_SUMMARY_H
#define BROKER_SUMMARY_H

#include "broker/lane.h"

#define SUMMARY_TERMS_MAX 1024u     /* of a block whose headers differ more nothing is said */
#define SUMMARY_PROBES 4u

struct summary {
    uint32_t bits;                  /* 0: nothing is said */
    uint64_t words[];
};

/* Of all messages of a block whose contents are in memory. NULL: out of memory, or not all are. Free with free(). */
struct summary *summary_make(const struct block *block);
size_t summary_size(const struct summary *summary);

/* May the block have a message with all of these terms? */
bool summary_may_have(const struct summary *summary, const uint64_t *terms, unsigned count);

#endif
