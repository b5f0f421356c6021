/* CRC-32C (Castagnoli, RFC 3720 appendix B.4): the checksum of every record on disk. */
#ifndef BASE_CHECKSUM_H
#define BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* The CRC-32C of `size` bytes, going on from `crc` (0 to start). crc32c(crc32c(0, a), b) is that of a followed by b.
 * The standard's check value: "123456789" gives 0xE3069283. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);

#endif
