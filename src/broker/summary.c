#include "broker/summary.h"

#include "broker/selector.h"
#include "protocol/amqp/properties.h"
#include "store/message.h"

#include <stdlib.h>

#define BITS_A_TERM 10u
#define SET_SIZE (SUMMARY_TERMS_MAX * 2u)

/* The terms of a block that differ. */
struct terms {
    uint64_t set[SET_SIZE];         /* open addressing; 0: free */
    unsigned count;
    bool many;
};

static void add(struct terms *terms, uint64_t term)
{
    uint64_t key = term ? term : 1;
    unsigned place = key % SET_SIZE;
    while (terms->set[place] && terms->set[place] != key)
        place = (place + 1) % SET_SIZE;
    if (terms->set[place])
        return;
    if (terms->count == SUMMARY_TERMS_MAX) {
        terms->many = true;
        return;
    }
    terms->set[place] = key;
    terms->count++;
}

static void add_message(struct terms *terms, struct bytes content)
{
    struct message message;
    struct amqp_properties properties;
    struct amqp_field field;
    if (!message_read(content, &message) || !amqp_properties_decode(message.properties, &properties) || !(properties.flags & AMQP_HEADERS))
        return;
    for (struct bytes rest = properties.headers; amqp_table_next(&rest, &field) == WIRE_OK;)
        if (field.type == 'S')
            add(terms, selector_term(field.name, field.bytes));
}

/* A hash's probes: its halves, the second one odd. */
static uint32_t probe(uint64_t key, unsigned i) { return (uint32_t)key + i * ((uint32_t)(key >> 32) | 1); }

struct summary *summary_make(const struct block *block)
{
    struct terms terms;
    memset(&terms, 0, sizeof(terms));
    for (unsigned i = 0; i < block->used && !terms.many; i++) {
        if (!bit_get(block->ready, i) && !bit_get(block->unacked, i))
            continue;
        const struct entry *entry = &block->entries[i];
        if (!entry->chunk)
            return NULL;
        add_message(&terms, bytes_of(entry->chunk->data + entry->offset, entry->size));
    }
    uint32_t bits = terms.many ? 0 : 64;
    while (bits && bits < terms.count * BITS_A_TERM)
        bits *= 2;
    struct summary *summary = calloc(1, sizeof(*summary) + bits / 8);
    if (!summary)
        return NULL;
    summary->bits = bits;
    for (unsigned at = 0; bits && at < SET_SIZE; at++)
        for (unsigned i = 0; terms.set[at] && i < SUMMARY_PROBES; i++)
            bit_set(summary->words, probe(terms.set[at], i) & (bits - 1));
    return summary;
}

size_t summary_size(const struct summary *summary) { return sizeof(*summary) + summary->bits / 8; }

bool summary_may_have(const struct summary *summary, const uint64_t *terms, unsigned count)
{
    for (unsigned at = 0; summary->bits && at < count; at++) {
        uint64_t key = terms[at] ? terms[at] : 1;
        for (unsigned i = 0; i < SUMMARY_PROBES; i++)
            if (!bit_get(summary->words, probe(key, i) & (summary->bits - 1)))
                return false;
    }
    return true;
}
