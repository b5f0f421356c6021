/* What the machine itself needs, for comparison in the same minute: a round trip over loopback, a synced write. */
#ifndef CLI_BENCH_FLOOR_H
#define CLI_BENCH_FLOOR_H

#include "base/err.h"
#include "cli/histogram.h"

#include <stddef.h>

/* Sends `size` bytes at `rate` a second over loopback to a thread that does nothing but epoll, read and write back, for
 * `duration_ms`; a third thread receives them. Adds the round trips in nanoseconds. Errors: GW_ERR_IO, GW_ERR_NOMEM. */
enum gw_err bench_floor_echo(size_t size, uint64_t rate, uint64_t duration_ms, struct histogram *ages);

/* Writes 4 KiB blocks to a file in `directory`, each of them synced, one after the other, and removes the file. Adds their
 * times in nanoseconds. `method` says how it was done (static storage). Errors: those of the file. */
enum gw_err bench_floor_sync(const char *directory, struct histogram *ages, const char **method);

#endif
