/* Single disk operations that have run when the call returns: for opening and closing a store, never while it serves. */
#ifndef STORE_DISK_CALL_H
#define STORE_DISK_CALL_H

#include "base/err.h"
#include "io/disk.h"

#include <stddef.h>

#define DISK_NAME_SIZE 256u /* of a name with its NUL */

/* Writes "directory/name" to `path`. GW_ERR_LIMIT when it does not fit. */
enum gw_err disk_path(char path[DISK_NAME_SIZE], const char *directory, const char *name);

/* Each answers GW_OK or the operation's error. */
enum gw_err disk_call_open(struct disk *disk, const char *name, unsigned flags, int *file);
enum gw_err disk_call_close(struct disk *disk, int file);

/* Reads up to `size` bytes; what lies behind the end of the file becomes zeros. `got`, when not NULL: bytes that were there. */
enum gw_err disk_call_read(struct disk *disk, int file, void *data, uint64_t size, uint64_t offset, uint64_t *got);
enum gw_err disk_call_write(struct disk *disk, int file, const void *data, uint64_t size, uint64_t offset, bool sync);
enum gw_err disk_call_sync(struct disk *disk, int file);
enum gw_err disk_call_allocate(struct disk *disk, int file, uint64_t offset, uint64_t size);
enum gw_err disk_call_truncate(struct disk *disk, int file, uint64_t size);
enum gw_err disk_call_size(struct disk *disk, int file, uint64_t *size);
enum gw_err disk_call_rename(struct disk *disk, const char *name, const char *new_name);
enum gw_err disk_call_unlink(struct disk *disk, const char *name);
enum gw_err disk_call_sync_dir(struct disk *disk, const char *name);

/* Calls `entry` for each name in the directory; the first error that it answers is returned (the names after it are skipped). */
enum gw_err disk_call_list(struct disk *disk, const char *name, enum gw_err (*entry)(void *owner, const char *name), void *owner);

#endif
