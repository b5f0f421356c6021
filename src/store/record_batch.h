/* A record batch, as Kafka's log and protocol have it (version 2; KIP-98, Kafka's documentation, "Message format"). It is what a stream's segments hold,
 * byte for byte, so that Kafka clients can be given it and can give it. Numbers are big-endian; v: a zigzag varint.
 *
 *    0          8         12       16      17      21         23            27             35             43
 *   ┌──────────┬─────────┬────────┬───────┬───────┬──────────┬─────────────┬──────────────┬──────────────┬───…
 *   │ base     │ length  │ leader │ magic │ crc   │attributes│ last offset │ first        │ highest      │
 *   │ offset   │         │ epoch  │  = 2  │       │          │ delta       │ timestamp    │ timestamp    │
 *   └──────────┴─────────┴────────┴───────┴───────┴──────────┴─────────────┴──────────────┴──────────────┴───…
 *    43            51         53         57      61
 *   ┌─────────────┬──────────┬──────────┬───────┬───────────┐    length: of all that follows it.
 *   │ producer id │ producer │ base     │ count │ records … │    crc: CRC-32C of bytes 21 to the end.
 *   │             │ epoch    │ sequence │       │           │    attributes: 0…2 codec, 3 timestamps are the log's, 4 transactional, 5 control.
 *   └─────────────┴──────────┴──────────┴───────┴───────────┘
 *
 *   record:  length v · attributes (1) · timestamp delta v · offset delta v · key length v (-1: null) · key ·
 *            value length v (-1: null) · value · headers v · headers …
 *   header:  key length v · key · value length v (-1: null) · value
 *
 * Offsets inside a batch rise, and may leave some out. */
#ifndef STORE_RECORD_BATCH_H
#define STORE_RECORD_BATCH_H

#include "base/bytes.h"

#define RECORD_BATCH_HEADER_SIZE 61u
#define RECORD_BATCH_MAGIC 2

/* data NULL: null, which is not the same as empty. */
struct batch_header_field {
    struct bytes key, value;
};

/* ---- writing ------------------------------------------------------------------------------------------------------- */

struct record_batch_writer {
    uint8_t *begin, *at, *end;
    uint64_t base_offset;
    int64_t first_ms, highest_ms;
    uint32_t count, last_delta;
};

/* At most what a record takes beyond its key, value, and headers' keys and values. */
static inline size_t record_batch_overhead(unsigned headers) { return 5 + 1 + 10 + 5 + 5 + 5 + 5 + headers * 10u; }

/* `room` bytes at `memory`, at least RECORD_BATCH_HEADER_SIZE. */
void record_batch_begin(struct record_batch_writer *writer, uint8_t *memory, size_t room);

/* Appends a record; offsets rise. False: there may be no room for it, and nothing was written. */
bool record_batch_add(struct record_batch_writer *writer, uint64_t offset, int64_t timestamp_ms, struct bytes key, struct bytes value,
                      const struct batch_header_field *headers, unsigned header_count);

/* Fills in the header of a batch that has records: no producer, epoch 0. Returns the batch's size. */
uint32_t record_batch_finish(struct record_batch_writer *writer);

/* ---- reading ------------------------------------------------------------------------------------------------------- */

struct record_batch {
    struct bytes bytes;         /* the whole of it */
    uint64_t base_offset, last_offset;
    int64_t first_ms, highest_ms;
    uint32_t count, crc;
    uint16_t attributes;
};

enum record_batch_answer {
    RECORD_BATCH_OK,
    RECORD_BATCH_MORE,   /* cut off: `size` says how many bytes are needed, RECORD_BATCH_HEADER_SIZE when not even that is known */
    RECORD_BATCH_BAD,    /* no batch begins here */
};

/* Reads the header at the start of `bytes`. Nothing of the records is looked at, nor the checksum. */
enum record_batch_answer record_batch_read(struct bytes bytes, struct record_batch *batch, uint64_t *size);

/* Is the checksum right? */
bool record_batch_verify(const struct record_batch *batch);

/* Are the records as they are, not compressed? Only then may they be gone through. */
static inline bool record_batch_is_plain(const struct record_batch *batch) { return !(batch->attributes & 7); }

struct batch_record {
    uint64_t offset;
    int64_t timestamp_ms;
    struct bytes whole;         /* all of the record's bytes, length included */
    struct bytes key, value;
    struct bytes headers;       /* for batch_header_next */
    uint32_t header_count;
};

/* The place in a batch: begin at 0. */
struct record_batch_cursor {
    uint32_t at, passed;        /* bytes into the batch's records; records */
};

/* The next record. MORE: there is none left. BAD: these are no records (a checksum that is right proves nothing of who made it). */
enum record_batch_answer record_batch_next(const struct record_batch *batch, struct record_batch_cursor *cursor, struct batch_record *record);

/* Reads one record from its own bytes (`whole` above); its offset and timestamp are then the deltas. */
bool batch_record_read(struct bytes whole, struct batch_record *record);

/* The next header of a record. MORE: there is none left. BAD: it is cut off. */
enum record_batch_answer batch_header_next(struct bytes *rest, struct batch_header_field *header);

#endif
