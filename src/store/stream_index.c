#include "store/stream_index.h"

#include "base/checksum.h"

#include <stdlib.h>

#define MAGIC 0x49535747u /* "GWSI" */
#define VERSION 1u
#define RUN_BYTES (64u * 1024u)
#define CHECKED_FROM 16u

void stream_index_deinit(struct stream_index *index)
{
    free(index->entries);
    *index = (struct stream_index){0};
}

bool stream_index_add(struct stream_index *index, uint64_t offset, uint64_t position, uint32_t size, int64_t highest_ms, const struct stream_filter *filter)
{
    bool grow = !index->count || index->run_bytes >= RUN_BYTES, grown = true;
    if (grow && index->count == index->capacity) {
        uint32_t capacity = index->capacity ? index->capacity * 2 : 4;
        struct stream_index_entry *entries = realloc(index->entries, capacity * sizeof(*entries));
        grown = entries;
        index->entries = entries ? entries : index->entries;
        index->capacity = entries ? capacity : index->capacity;
    }
    int64_t before = index->count ? index->entries[index->count - 1].highest_ms : INT64_MIN;
    if (grow && grown) {
        index->entries[index->count++] = (struct stream_index_entry){.offset = offset, .position = position};
        index->run_bytes = 0;
    }
    index->run_bytes += size;
    if (!index->count)
        return false;
    struct stream_index_entry *entry = &index->entries[index->count - 1];
    entry->highest_ms = highest_ms > before ? highest_ms : before;
    stream_filter_merge(&entry->filter, filter);
    return grown;
}

uint32_t stream_index_find(const struct stream_index *index, uint64_t offset)
{
    uint32_t low = 0, high = index->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (index->entries[middle].offset <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? low - 1 : 0;
}

uint32_t stream_index_find_time(const struct stream_index *index, int64_t timestamp_ms)
{
    uint32_t low = 0, high = index->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (index->entries[middle].highest_ms < timestamp_ms)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---- the file ------------------------------------------------------------------------------------------------------ */

uint64_t stream_index_size(const struct stream_index *index)
{
    return STREAM_INDEX_HEADER_SIZE + (uint64_t)index->count * STREAM_INDEX_ENTRY_SIZE;
}

void stream_index_write(const struct stream_index *index, const struct stream_index_head *head, uint8_t *at)
{
    store_le32(at, MAGIC);
    store_le32(at + 4, VERSION);
    store_le32(at + 8, index->count);
    store_le64(at + 16, head->base);
    store_le64(at + 24, head->end);
    store_le64(at + 32, head->size);
    uint8_t *to = at + STREAM_INDEX_HEADER_SIZE;
    for (uint32_t i = 0; i < index->count; i++, to += STREAM_INDEX_ENTRY_SIZE) {
        const struct stream_index_entry *entry = &index->entries[i];
        store_le64(to, entry->offset);
        store_le64(to + 8, entry->position);
        store_le64(to + 16, (uint64_t)entry->highest_ms);
        memcpy(to + 24, entry->filter.bits, 32);
        store_le64(to + 56, entry->filter.has_unfiltered);
    }
    store_le32(at + 12, crc32c(0, at + CHECKED_FROM, stream_index_size(index) - CHECKED_FROM));
}

enum gw_err stream_index_read(struct bytes bytes, const struct stream_index_head *head, struct stream_index *index)
{
    const uint8_t *at = bytes.data;
    if (bytes.size < STREAM_INDEX_HEADER_SIZE || load_le32(at) != MAGIC)
        return GW_ERR_CORRUPT;
    if (load_le32(at + 4) != VERSION)
        return GW_ERR_VERSION;
    uint32_t count = load_le32(at + 8);
    if (bytes.size != STREAM_INDEX_HEADER_SIZE + (uint64_t)count * STREAM_INDEX_ENTRY_SIZE || load_le64(at + 16) != head->base ||
        load_le64(at + 24) != head->end || load_le64(at + 32) != head->size ||
        load_le32(at + 12) != crc32c(0, at + CHECKED_FROM, bytes.size - CHECKED_FROM))
        return GW_ERR_CORRUPT;
    struct stream_index_entry *entries = malloc((count ? count : 1) * sizeof(*entries));
    if (!entries)
        return GW_ERR_NOMEM;
    const uint8_t *from = at + STREAM_INDEX_HEADER_SIZE;
    for (uint32_t i = 0; i < count; i++, from += STREAM_INDEX_ENTRY_SIZE) {
        entries[i] = (struct stream_index_entry){.offset = load_le64(from), .position = load_le64(from + 8), .highest_ms = (int64_t)load_le64(from + 16)};
        memcpy(entries[i].filter.bits, from + 24, 32);
        entries[i].filter.has_unfiltered = from[56];
        if (entries[i].position >= head->size || (i && (entries[i].position <= entries[i - 1].position || entries[i].offset <= entries[i - 1].offset))) {
            free(entries);
            return GW_ERR_CORRUPT;
        }
    }
    *index = (struct stream_index){.entries = entries, .count = count, .capacity = count ? count : 1, .run_bytes = RUN_BYTES};
    return GW_OK;
}
