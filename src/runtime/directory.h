/* A data directory, made if it is missing and locked while it is open. One for the whole program, shared by the disks of all reactors. */
#ifndef RUNTIME_DIRECTORY_H
#define RUNTIME_DIRECTORY_H

#include "base/err.h"

#include <stddef.h>

/* Lies in the directory while nobody else may open it; holds the process id of whoever has it open. Hidden from the disks. */
#define DIRECTORY_LOCK_NAME "lock"

struct directory;

/* Makes (mode 0700; its parent must exist) and locks the directory. On an error, `why` holds one sentence for the operator that
 * says what to do. GW_ERR_BUSY: another process has it open; GW_ERR_PERMISSION, GW_ERR_NOT_FOUND, GW_ERR_FULL, GW_ERR_IO,
 * GW_ERR_INVALID (not a directory), GW_ERR_NOMEM. The lock is the open file's, so a crash releases it. */
enum gw_err directory_open(const char *path, char *why, size_t why_size, struct directory **directory);

/* Unlocks it. All its disks are closed before. NULL is fine. */
void directory_close(struct directory *directory);

/* The same in a child of fork, whose parent has it locked still. */
void directory_forked(struct directory *directory);

/* The descriptor that names are relative to; valid until directory_close. */
int directory_descriptor(const struct directory *directory);

#endif
