/* Requests: events that ask for a reply. A bus has one queue for replies, made with its first request; a request is known by its number, which the reply's correlation id says. */
#ifndef LIB_REQUEST_H
#define LIB_REQUEST_H

#include "lib/bus.h"

struct requests;

/* How long a queue for replies outlives its connection. */
#define REPLIES_LAST_MS 300000u

/* There will be no replies any more: those who wait for one are told so, soon. */
void requests_give_up(struct gw_bus *bus, int result);

#endif
