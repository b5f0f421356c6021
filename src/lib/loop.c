#include "lib/loop.h"

#include "lib/bus.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- what is told of errors ------------------------------------------------------------------------------------------------ */

int loop_fail(struct gw_loop *loop, int result, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(loop->error, sizeof(loop->error), format, arguments);
    va_end(arguments);
    return result;
}

int loop_result(enum gw_err err)
{
    switch (err) {
    case GW_OK: return GW_DONE;
    case GW_ERR_NOMEM: return GW_E_MEMORY;
    case GW_ERR_FULL: return GW_E_FULL;
    case GW_ERR_IO:
    case GW_ERR_FAILED: return GW_E_STORAGE;
    case GW_ERR_CORRUPT:
    case GW_ERR_VERSION: return GW_E_DAMAGED;
    case GW_ERR_BUSY: return GW_E_BUSY;
    case GW_ERR_PERMISSION: return GW_E_PERMISSION;
    case GW_ERR_LIMIT: return GW_E_LIMIT;
    case GW_ERR_CLOSED: return GW_E_CLOSED;
    case GW_ERR_INVALID:
    case GW_ERR_NOT_FOUND: return GW_E_INVALID;
    default: return GW_E_SYSTEM;
    }
}

const char *gw_error(const gw_loop *loop) { return loop ? loop->error : ""; }

const char *gw_version(void) { return GODWIT_VERSION; }

const char *gw_result_text(int result)
{
    static const char *const texts[] = {
        "done", "invalid argument", "out of memory", "the loop belongs to another thread", "this is a child of the process that made the loop", "closed", "in use",
        "too much is under way", "refused", "the disk is full", "the disk failed", "damaged", "permission denied", "beyond a limit", "no answer in time", "unreachable", "system error",
    };
    return result <= 0 && result > -(int)(sizeof(texts) / sizeof(texts[0])) ? texts[-result] : "unknown";
}

/* ---- the turn ---------------------------------------------------------------------------------------------------------------- */

uint64_t loop_turn(struct gw_loop *loop)
{
    loop_timers_turn(loop, loop->now_us);
    uint64_t due_us = buses_turn(loop, loop->now_us);
    return loop_timers_due(&loop->timers) < due_us ? loop_timers_due(&loop->timers) : due_us;
}
