/* An image that opens may be read: every entry lies inside it, whatever it holds. Byte 0, bit 0: the checksum is made right first. */
#include "base/checksum.h"
#include "store/block_image.h"

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
    uint64_t index = rest >= BLOCK_IMAGE_HEADER_SIZE ? (uint64_t)load_le32(copy + 24) * BLOCK_IMAGE_ENTRY_SIZE : 0;
    if ((data[0] & 1) && rest >= BLOCK_IMAGE_HEADER_SIZE && index <= rest - BLOCK_IMAGE_HEADER_SIZE)
        store_le32(copy + 32, crc32c(crc32c(0, copy, 32), copy + BLOCK_IMAGE_HEADER_SIZE, index));
    struct block_image image;
    if (block_image_open(bytes_of(copy, rest), &image) == GW_OK) {
        CHECK(image.count <= BLOCK_IMAGE_COUNT_MAX);
        for (unsigned i = 0; i < image.count; i++) {
            struct block_image_entry entry = block_image_entry(&image, i);
            CHECK((uint64_t)entry.offset + entry.size <= rest);
            block_image_verify(&image, &entry);
        }
    }
    free(copy);
    return 0;
}
