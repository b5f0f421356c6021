#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

const char *gw_err_text(enum gw_err err)
{
    switch (err) {
    case GW_OK: return "ok";
    case GW_ERR_NOMEM: return "out of memory";
    case GW_ERR_IO: return "input/output error";
    case GW_ERR_FULL: return "no space left";
    case GW_ERR_FAILED: return "storage has failed";
    case GW_ERR_CORRUPT: return "corrupt data";
    case GW_ERR_VERSION: return "unsupported version";
    case GW_ERR_BUSY: return "in use";
    case GW_ERR_NOT_FOUND: return "not found";
    case GW_ERR_EXISTS: return "already exists";
    case GW_ERR_PERMISSION: return "permission denied";
    case GW_ERR_LIMIT: return "limit reached";
    case GW_ERR_INVALID: return "invalid";
    case GW_ERR_CLOSED: return "closed";
    }
    return "unknown error";
}

enum gw_err gw_err_from_errno(int error)
{
    switch (error) {
    case 0: return GW_OK;
    case ENOMEM: return GW_ERR_NOMEM;
    case ENOSPC:
    case EDQUOT: return GW_ERR_FULL;
    case ENOENT: return GW_ERR_NOT_FOUND;
    case EEXIST: return GW_ERR_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS: return GW_ERR_PERMISSION;
    case EBUSY:
    case EWOULDBLOCK: return GW_ERR_BUSY;
    case EMFILE:
    case ENFILE: return GW_ERR_LIMIT;
    case EINVAL: return GW_ERR_INVALID;
    default: return GW_ERR_IO;
    }
}

_Noreturn void check_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "godwit: internal error: %s is false at %s:%d\n", condition, file, line);
    abort();
}
