/* The records of a shard's log, and the batch that carries them to the disk. Little-endian.
 *
 *   batch, at a multiple of LOG_ALIGN from the start of the log:
 *    0        4        8               16              24       28       32
 *   ┌────────┬────────┬───────────────┬───────────────┬────────┬────────┬──────────────┬────────────────┐
 *   │ magic  │ crc    │ epoch         │ offset        │ size   │ count  │ records …    │ zeros to ALIGN │
 *   └────────┴────────┴───────────────┴───────────────┴────────┴────────┴──────────────┴────────────────┘
 *     crc: CRC-32C of bytes 8…31. offset: of this batch in the log (bytes since the shard was created).
 *     size: header and records, bytes, without the padding. count: records; its highest bit is set in the first batch of a write, which
 *     began after everything before it was durable: so what is unreadable before such a batch has rotted and was not torn.
 *
 *   record:
 *    0        4        8    9     10      12            16
 *   ┌────────┬────────┬────┬─────┬───────┬─────────────┬──────────┬───────────────┐
 *   │ size   │ crc    │type│flags│ count │ content_crc │ head …   │ content …     │
 *   └────────┴────────┴────┴─────┴───────┴─────────────┴──────────┴───────────────┘
 *     size: the whole record. crc: CRC-32C of bytes 8…16+head, going on from the size as if that were a checksum.
 *     content_crc: CRC-32C of the content alone, computed once where the content entered and kept with it for life. head: `count` targets
 *     (RECORD_PUBLISH, RECORD_SETTLE, RECORD_FORGET, RECORD_RETURN, RECORD_PARK), targets and an origin (RECORD_RELAYED), or nothing.
 *
 *   target of a publish (16 bytes): queue id (8), sequence number in that queue (8)
 *   target of a settle (24 bytes): queue id (8), first sequence number (8), how many follow each other from it (8)
 *   targets of a relayed message: those of a publish; one in another shard has the sequence number 0, and that shard logs it. Behind them its origin
 *   (24 bytes): queue id (8), sequence number (8), why it was given up there (1), zero (7)
 *   target of a forget (16 bytes): an origin that nobody will ask for any more: queue id (8), sequence number (8)
 *   target of a return (24 bytes): queue id (8), sequence number (8), how often the message came back so far (8)
 *   target of a park (40 bytes): that of a return, then when it is delivered again, milliseconds since 1970, 0: at once (8), why it came back (1), for how long it waits
 *       where its consumer said that, milliseconds, 0: as its queue says (7)
 *   content of a publish or a relayed message: the message, see message.h.  content of a topology command: see broker/topology.
 *   content of a transaction: whole publish and settle records, one after the other; all of them or none become true.
 */
#ifndef STORE_RECORD_H
#define STORE_RECORD_H

#include "base/bytes.h"
#include "base/checksum.h"

#define LOG_ALIGN 4096u
#define BATCH_MAGIC 0x42445747u /* "GWDB" */
#define BATCH_HEADER_SIZE 32u
#define BATCH_BEGINS_WRITE 0x80000000u /* in count */
#define RECORD_HEADER_SIZE 16u
#define PUBLISH_TARGET_SIZE 16u
#define SETTLE_TARGET_SIZE 24u
#define PARK_TARGET_SIZE 40u
#define ORIGIN_SIZE 24u
#define FORGET_TARGET_SIZE 16u

enum record_type {
    RECORD_VOID = 0,         /* refused after it was laid out: skipped by every reader */
    RECORD_PUBLISH = 1,
    RECORD_SETTLE = 2,
    RECORD_TOPOLOGY = 3,     /* shard 0 only */
    RECORD_TRANSACTION = 4,
    RECORD_RELAYED = 5,      /* a publish that the broker itself makes of a message in another shard, see broker/relay.h */
    RECORD_FORGET = 6,
    RECORD_RETURN = 7,       /* messages came back to their queue */
    RECORD_PARK = 8,         /* the same, where they wait before they are delivered again, see broker/retry.h */
};

/* Of a publish inside a transaction: it is not kept over a restart. */
#define RECORD_FLAG_TRANSIENT 1u
/* Of a publish: it is not due before the time that its message is stamped with. Its sequence numbers say so too. */
#define RECORD_FLAG_SCHEDULED 8u
/* Of a publish that the broker makes: its queue has had the message before, and the id is known. */
#define RECORD_FLAG_MOVED 16u
/* Of a publish: one of its queues was full and took it only to discard it. */
#define RECORD_FLAG_DISCARDED 32u
/* Of a publish that the broker makes of a dead letter: one of its queues may be where it died. */
#define RECORD_FLAG_LETTER 64u

/* A record's fields after decoding; head and content point into the record's bytes. */
struct record {
    uint32_t size;
    uint8_t type, flags;
    uint16_t count;
    uint32_t content_crc;
    struct bytes head, content;
};

/* Bytes of head for `type` with `count` targets. */
static inline uint32_t record_head_size(uint8_t type, uint16_t count)
{
    switch (type) {
    case RECORD_PUBLISH: return count * PUBLISH_TARGET_SIZE;
    case RECORD_SETTLE:
    case RECORD_RETURN: return count * SETTLE_TARGET_SIZE;
    case RECORD_PARK: return count * PARK_TARGET_SIZE;
    case RECORD_RELAYED: return count * PUBLISH_TARGET_SIZE + ORIGIN_SIZE;
    case RECORD_FORGET: return count * FORGET_TARGET_SIZE;
    default: return 0;
    }
}

/* Writes the header but for crc, which record_seal fills in once the head is final. */
static inline void record_begin(uint8_t *at, uint32_t size, uint8_t type, uint16_t count, uint32_t content_crc)
{
    store_le32(at, size);
    at[8] = type;
    at[9] = 0;
    store_le16(at + 10, count);
    store_le32(at + 12, content_crc);
}

static inline void record_seal(uint8_t *at)
{
    uint32_t head = record_head_size(at[8], load_le16(at + 10));
    store_le32(at + 4, crc32c(load_le32(at), at + 8, RECORD_HEADER_SIZE - 8 + head));
}

enum record_state {
    RECORD_OK,
    RECORD_BAD_HEADER,   /* its size cannot be trusted: what follows in this batch is unreadable */
    RECORD_BAD_CONTENT,  /* header and head are good, the content is not: `record` is filled in, go on after record->size */
};

/* Decodes the record at the start of `bytes` (what is left of the batch) and verifies both checksums. */
enum record_state record_read(struct bytes bytes, struct record *record);

#endif
