/* Errors as values, and the check for our own mistakes. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdbool.h>

/* Every function that can fail returns one of these; GW_OK is 0. */
enum gw_err {
    GW_OK = 0,
    GW_ERR_NOMEM,         /* an allocation failed */
    GW_ERR_IO,            /* the disk answered an error that is no other one below */
    GW_ERR_FULL,          /* the disk, a pool or a ring has no room; trying later may work */
    GW_ERR_FAILED,        /* a write or sync failed earlier: nothing durable is accepted any more */
    GW_ERR_CORRUPT,       /* a checksum, length or magic number is wrong */
    GW_ERR_VERSION,       /* written by a version that this one does not read */
    GW_ERR_BUSY,          /* in use by another process or client */
    GW_ERR_NOT_FOUND,
    GW_ERR_EXISTS,
    GW_ERR_PERMISSION,
    GW_ERR_LIMIT,         /* a declared limit was reached */
    GW_ERR_INVALID,       /* the caller's or the peer's input makes no sense */
    GW_ERR_CLOSED,        /* the object was closed meanwhile */
};

/* A short lower-case sentence part for `err`, e.g. "no space left"; static storage. */
const char *gw_err_text(enum gw_err err);

/* The gw_err for a positive errno value. */
enum gw_err gw_err_from_errno(int error);

/* Prints the failed condition with its place to stderr and aborts. */
_Noreturn void check_failed(const char *condition, const char *file, int line);

/* Asserts what only our own mistake can break; stays on in release. Never for a peer's or a disk's input,
 * and never with a side effect inside. */
#define CHECK(condition) \
    do { \
        if (__builtin_expect(!(condition), 0)) \
            check_failed(#condition, __FILE__, __LINE__); \
    } while (0)

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Memory that is kept for its next use hides from AddressSanitizer that it is used too late: then nothing is kept. */
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define KEEPS_NOTHING true
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define KEEPS_NOTHING true
#endif
#ifndef KEEPS_NOTHING
#define KEEPS_NOTHING false
#endif

/* Of a large local: what is read of it was written before, and zeroing it all would cost more than what is done with it. */
#define UNINITIALIZED __attribute__((uninitialized))

#endif
