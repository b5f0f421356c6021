#include "base/checksum.h"

#include "base/bytes.h"

#include <isa-l/crc.h>
#ifdef __SSE4_2__
#include <nmmintrin.h>
#endif

/* ISA-L's folding code wins above this many bytes; below it the processor's own instruction does. */
#define FOLDING_MIN_BYTES 256
/* ISA-L counts bytes with an int. */
#define FOLDING_MAX_BYTES (1 << 30)

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
    const uint8_t *p = data;
#ifdef __SSE4_2__
    if (size < FOLDING_MIN_BYTES) {
        uint64_t c = ~crc;
        while (size >= 8) {
            c = _mm_crc32_u64(c, load_le64(p));
            p += 8;
            size -= 8;
        }
        if (size >= 4) {
            c = _mm_crc32_u32((uint32_t)c, load_le32(p));
            p += 4;
            size -= 4;
        }
        while (size--)
            c = _mm_crc32_u8((uint32_t)c, *p++);
        return ~(uint32_t)c;
    }
#endif
    while (size > FOLDING_MAX_BYTES) {
        crc = ~crc32_iscsi((unsigned char *)(uintptr_t)p, FOLDING_MAX_BYTES, ~crc);
        p += FOLDING_MAX_BYTES;
        size -= FOLDING_MAX_BYTES;
    }
    return ~crc32_iscsi((unsigned char *)(uintptr_t)p, (int)size, ~crc);
}
