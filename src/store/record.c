#include "store/record.h"

#include "base/bugs.h"

enum record_state record_read(struct bytes bytes, struct record *record)
{
    if (bytes.size < RECORD_HEADER_SIZE)
        return RECORD_BAD_HEADER;
    const uint8_t *at = bytes.data;
    record->size = load_le32(at);
    record->type = at[8];
    record->flags = at[9];
    record->count = load_le16(at + 10);
    record->content_crc = load_le32(at + 12);
    uint32_t head = record_head_size(record->type, record->count);
    if (record->size > bytes.size || record->size < RECORD_HEADER_SIZE + head)
        return RECORD_BAD_HEADER;
    if (load_le32(at + 4) != crc32c(record->size, at + 8, RECORD_HEADER_SIZE - 8 + head))
        return RECORD_BAD_HEADER;
    record->head = bytes_of(at + RECORD_HEADER_SIZE, head);
    record->content = bytes_of(at + RECORD_HEADER_SIZE + head, record->size - RECORD_HEADER_SIZE - head);
    if (record->type != RECORD_VOID && !bug_enabled(BUG_CONTENT_UNCHECKED) && record->content_crc != crc32c(0, record->content.data, record->content.size))
        return RECORD_BAD_CONTENT;
    return RECORD_OK;
}
