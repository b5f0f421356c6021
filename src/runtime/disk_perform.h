/* One disk operation carried out by plain system calls, on whatever thread calls. */
#ifndef RUNTIME_DISK_PERFORM_H
#define RUNTIME_DISK_PERFORM_H

#include "io/disk.h"

/* Carries out `op` below the directory of descriptor `directory`, blocking, and fills in error and result.
 * A read or write goes on after the op->result bytes that are done already (0 for a new one).
 * For DISK_LIST the names wait in memory until disk_tell_names. */
void disk_perform(int directory, struct disk_op *op);

/* After disk_perform of a DISK_LIST: calls op->entry for each name on this thread; result becomes their number. Others: nothing. */
void disk_tell_names(struct disk_op *op);

/* What is left of a read's or write's vector after op->result bytes, for one system call: answers how many vectors at *rest,
 * 0 when nothing is left. When one is left that is not a whole one of op's, it is put into *part. */
unsigned disk_rest(const struct disk_op *op, struct iovec *part, const struct iovec **rest);

/* Takes a system call's answer (bytes, or a negative errno) into account. True: there is more to do, call again with disk_rest.
 * False: op is done, with its result or its error. */
bool disk_progress(struct disk_op *op, int64_t answer);

#endif
