/* An index that is read may be used: its entries rise and lie inside the segment, whatever the file holds. Byte 0, bit 0: the checksum is made right first. */
#include "store/stream_index.h"

#include "base/checksum.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    /* A copy of its own, so that a byte too far is noticed. */
    size_t rest = size - 1;
    uint8_t *copy = malloc(rest ? rest : 1);
    memcpy(copy, data + 1, rest);
    struct stream_index_head head = {0};
    if (rest >= STREAM_INDEX_HEADER_SIZE) {
        head = (struct stream_index_head){.base = load_le64(copy + 16), .end = load_le64(copy + 24), .size = load_le64(copy + 32)};
        if (data[0] & 1)
            store_le32(copy + 12, crc32c(0, copy + 16, rest - 16));
    }
    struct stream_index index = {0};
    if (stream_index_read(bytes_of(copy, rest), &head, &index) == GW_OK) {
        for (uint32_t i = 0; i < index.count; i++) {
            CHECK(index.entries[i].position < head.size && (!i || index.entries[i].offset > index.entries[i - 1].offset));
            CHECK(stream_index_find(&index, index.entries[i].offset) == i);
        }
        CHECK(stream_index_find_time(&index, INT64_MAX) <= index.count);
        uint8_t *again = malloc(stream_index_size(&index));
        stream_index_write(&index, &head, again);
        free(again);
        stream_index_deinit(&index);
    }
    free(copy);
    return 0;
}
