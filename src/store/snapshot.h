/* A snapshot: one blob of bytes, replaced atomically, kept twice so that rot in one copy loses nothing.
 * The bytes inside are the shard's own (broker/shard_snapshot.c). */
#ifndef STORE_SNAPSHOT_H
#define STORE_SNAPSHOT_H

#include "base/chunk.h"
#include "base/err.h"
#include "io/alarm.h"
#include "io/disk.h"

struct snapshot_writer;

/* Writes the first `size` bytes of `blob` (takes the reference) as the snapshot number `generation` of `directory`: a temporary file, sync, rename, directory
 * sync; then the second copy alike. `done` runs when both are durable (or with the error: then the snapshot before is still whole).
 * With `wait`, synchronous. One at a time per directory. */
enum gw_err snapshot_save(struct disk *disk, struct chunk_pool *pool, const char *directory, uint64_t generation, struct chunk *blob, uint64_t size, bool wait,
                          void (*done)(void *owner, enum gw_err err), void *owner);

/* Reads the newest whole snapshot. GW_ERR_NOT_FOUND: there is none (a new directory); GW_ERR_CORRUPT: there were some and
 * every copy is bad (told through `alarms`, files left alone); GW_ERR_VERSION. One bad copy is alarmed and the other one used.
 * `blob` is the caller's reference; its first `size` bytes are what was saved. */
enum gw_err snapshot_load(struct disk *disk, struct chunk_pool *pool, const char *directory, struct alarm_sink *alarms,
                          struct chunk **blob, uint64_t *size, uint64_t *generation);

#endif
