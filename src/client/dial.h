/* Reaching a host over TCP within a time. */
#ifndef CLIENT_DIAL_H
#define CLIENT_DIAL_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Connects to the first of the host's addresses that answers. *fd is non-blocking, without Nagle's delay, with TCP
 * keep-alive. Errors: GW_ERR_IO, GW_ERR_NOT_FOUND, and then `complaint` says why. */
enum gw_err dial(const char *host, uint16_t port, uint32_t timeout_ms, int *fd, char *complaint, size_t complaint_size);

/* Milliseconds of a clock that only goes forward. */
uint64_t dial_now_ms(void);

#endif
