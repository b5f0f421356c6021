/* A borrowed run of bytes, and fixed-size integers in either byte order. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Points into memory that somebody else owns; may be empty, then data may be NULL. Not NUL-terminated. */
struct bytes {
    const uint8_t *data;
    size_t size;
};

static inline struct bytes bytes_of(const void *data, size_t size)
{
    return (struct bytes){data, size};
}

/* The characters of a C string without its NUL. */
static inline struct bytes bytes_of_text(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Little-endian: files. */
static inline uint16_t load_le16(const void *p) { uint16_t v; memcpy(&v, p, 2); return v; }
static inline uint32_t load_le32(const void *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static inline uint64_t load_le64(const void *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static inline void store_le16(void *p, uint16_t v) { memcpy(p, &v, 2); }
static inline void store_le32(void *p, uint32_t v) { memcpy(p, &v, 4); }
static inline void store_le64(void *p, uint64_t v) { memcpy(p, &v, 8); }

/* Big-endian: network protocols. */
static inline uint16_t load_be16(const void *p) { return __builtin_bswap16(load_le16(p)); }
static inline uint32_t load_be32(const void *p) { return __builtin_bswap32(load_le32(p)); }
static inline uint64_t load_be64(const void *p) { return __builtin_bswap64(load_le64(p)); }
static inline void store_be16(void *p, uint16_t v) { store_le16(p, __builtin_bswap16(v)); }
static inline void store_be32(void *p, uint32_t v) { store_le32(p, __builtin_bswap32(v)); }
static inline void store_be64(void *p, uint64_t v) { store_le64(p, __builtin_bswap64(v)); }

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the loads and stores above assume a little-endian machine");

/* The same bytes in memory of their own, with a zero behind them: free() it. NULL: out of memory. */
static inline char *bytes_to_text(struct bytes bytes)
{
    char *text = malloc(bytes.size + 1);
    if (!text)
        return NULL;
    if (bytes.size)
        memcpy(text, bytes.data, bytes.size);
    text[bytes.size] = 0;
    return text;
}

#endif
