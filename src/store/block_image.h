/* A block image: the messages of one block of a queue (256 consecutive sequence numbers), as they lie in a segment. Little-endian.
 *
 *    0       4        8           16             24      28     32      36     40
 *   ┌───────┬────────┬───────────┬──────────────┬───────┬──────┬───────┬──────┬───────────┬────────────┐
 *   │ magic │version │ queue id  │ block number │ count │ size │ crc   │ zero │ index …   │ contents … │
 *   └───────┴────────┴───────────┴──────────────┴───────┴──────┴───────┴──────┴───────────┴────────────┘
 *     count: messages. size: of the whole image, bytes. crc: CRC-32C of bytes 0…31 and of the index.
 *
 *   index entry (16 bytes), in the order of the sequence numbers:
 *     number in the block (1) · flags (1) · zero (2) · content size (4) · content's CRC-32C (4) · content's offset in the image (4)
 */
#ifndef STORE_BLOCK_IMAGE_H
#define STORE_BLOCK_IMAGE_H

#include "base/bytes.h"
#include "base/err.h"

#define BLOCK_IMAGE_HEADER_SIZE 40u
#define BLOCK_IMAGE_ENTRY_SIZE 16u
#define BLOCK_IMAGE_COUNT_MAX 256u

struct block_image_entry {
    uint8_t index, flags;          /* index: sequence number & 255 */
    uint32_t size, crc, offset;    /* of the content, in the image */
};

/* Bytes of an image of `count` messages. */
static inline uint64_t block_image_size(unsigned count, uint64_t content_bytes)
{
    return BLOCK_IMAGE_HEADER_SIZE + (uint64_t)count * BLOCK_IMAGE_ENTRY_SIZE + content_bytes;
}

/* Writes an image into memory of block_image_size bytes: begin, then add `count` times in the order of the index, then finish. */
struct block_image_writer {
    uint8_t *image;
    unsigned count, added;
    uint64_t at;
};
void block_image_begin(struct block_image_writer *writer, uint8_t *image, uint64_t queue, uint64_t block_number, unsigned count);
void block_image_add(struct block_image_writer *writer, uint8_t index, uint8_t flags, uint32_t crc, struct bytes content);
/* Returns the image's size. */
uint64_t block_image_finish(struct block_image_writer *writer);

struct block_image {
    struct bytes bytes;
    uint64_t queue, block_number;
    unsigned count;
};

/* Checks header and index; every entry that block_image_entry answers then lies inside the image. GW_ERR_CORRUPT, GW_ERR_VERSION. */
enum gw_err block_image_open(struct bytes bytes, struct block_image *image);
struct block_image_entry block_image_entry(const struct block_image *image, unsigned i);

/* Is the content what was written? */
bool block_image_verify(const struct block_image *image, const struct block_image_entry *entry);

#endif
