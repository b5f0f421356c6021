#include "store/block_image.h"

#include "base/checksum.h"

#define MAGIC 0x49425747u /* "GWBI" */
#define VERSION 1u

void block_image_begin(struct block_image_writer *writer, uint8_t *image, uint64_t queue, uint64_t block_number, unsigned count)
{
    memset(image, 0, BLOCK_IMAGE_HEADER_SIZE);
    store_le32(image, MAGIC);
    store_le32(image + 4, VERSION);
    store_le64(image + 8, queue);
    store_le64(image + 16, block_number);
    store_le32(image + 24, count);
    *writer = (struct block_image_writer){image, count, 0, BLOCK_IMAGE_HEADER_SIZE + (uint64_t)count * BLOCK_IMAGE_ENTRY_SIZE};
}

void block_image_add(struct block_image_writer *writer, uint8_t index, uint8_t flags, uint32_t crc, struct bytes content)
{
    CHECK(writer->added < writer->count && writer->at + content.size <= UINT32_MAX);
    uint8_t *entry = writer->image + BLOCK_IMAGE_HEADER_SIZE + writer->added++ * BLOCK_IMAGE_ENTRY_SIZE;
    entry[0] = index;
    entry[1] = flags;
    store_le16(entry + 2, 0);
    store_le32(entry + 4, (uint32_t)content.size);
    store_le32(entry + 8, crc);
    store_le32(entry + 12, (uint32_t)writer->at);
    if (content.size)
        memcpy(writer->image + writer->at, content.data, content.size);
    writer->at += content.size;
}

static uint32_t header_crc(const uint8_t *image, unsigned count)
{
    return crc32c(crc32c(0, image, 32), image + BLOCK_IMAGE_HEADER_SIZE, (size_t)count * BLOCK_IMAGE_ENTRY_SIZE);
}

uint64_t block_image_finish(struct block_image_writer *writer)
{
    CHECK(writer->added == writer->count);
    store_le32(writer->image + 28, (uint32_t)writer->at);
    store_le32(writer->image + 32, header_crc(writer->image, writer->count));
    return writer->at;
}

struct block_image_entry block_image_entry(const struct block_image *image, unsigned i)
{
    const uint8_t *entry = image->bytes.data + BLOCK_IMAGE_HEADER_SIZE + i * BLOCK_IMAGE_ENTRY_SIZE;
    return (struct block_image_entry){entry[0], entry[1], load_le32(entry + 4), load_le32(entry + 8), load_le32(entry + 12)};
}

enum gw_err block_image_open(struct bytes bytes, struct block_image *image)
{
    if (bytes.size < BLOCK_IMAGE_HEADER_SIZE || load_le32(bytes.data) != MAGIC)
        return GW_ERR_CORRUPT;
    if (load_le32(bytes.data + 4) != VERSION)
        return GW_ERR_VERSION;
    unsigned count = load_le32(bytes.data + 24);
    uint32_t size = load_le32(bytes.data + 28);
    uint64_t contents = BLOCK_IMAGE_HEADER_SIZE + (uint64_t)count * BLOCK_IMAGE_ENTRY_SIZE;
    if (count > BLOCK_IMAGE_COUNT_MAX || size > bytes.size || size < contents || load_le32(bytes.data + 32) != header_crc(bytes.data, count))
        return GW_ERR_CORRUPT;
    *image = (struct block_image){bytes_of(bytes.data, size), load_le64(bytes.data + 8), load_le64(bytes.data + 16), count};
    for (unsigned i = 0; i < count; i++) {
        struct block_image_entry entry = block_image_entry(image, i);
        if (entry.offset < contents || entry.offset > size || entry.size > size - entry.offset ||
            (i && entry.index <= block_image_entry(image, i - 1).index))
            return GW_ERR_CORRUPT;
    }
    return GW_OK;
}

bool block_image_verify(const struct block_image *image, const struct block_image_entry *entry)
{
    return crc32c(0, image->bytes.data + entry->offset, entry->size) == entry->crc;
}
