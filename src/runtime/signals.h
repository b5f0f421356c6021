/* The process's signals, told to one reactor. */
#ifndef RUNTIME_SIGNALS_H
#define RUNTIME_SIGNALS_H

#include "base/err.h"

#include <uv.h>

struct signals;

/* Ignores those that a broken pipe or a file's size limit would send: both come as errors of the call too. Once, at the program's start. */
void signals_ignore_those_that_are_errors(void);

/* Calls `stop` on the loop's thread at each SIGTERM or SIGINT; `count` is 1 for the first. */
enum gw_err signals_open(uv_loop_t *loop, void (*stop)(void *owner, unsigned count), void *owner, struct signals **signals);

/* Calls `reload` on the loop's thread at each SIGHUP, with the same owner; without it a SIGHUP ends the program. */
void signals_on_reload(struct signals *signals, void (*reload)(void *owner));

/* The memory goes when the loop, run once more, has closed the handles. NULL is fine. */
void signals_close(struct signals *signals);

#endif
