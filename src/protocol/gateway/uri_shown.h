/* A URI as it is shown: amqp://user:(hidden)@host. */
#ifndef PROTOCOL_GATEWAY_URI_SHOWN_H
#define PROTOCOL_GATEWAY_URI_SHOWN_H

#include <jansson.h>

/* Without its password: a new text. NULL: it has none, or `uri` is NULL, or out of memory. */
json_t *uri_shown(const char *uri);

/* The member of that name, if it has a password, is without it from now on; or it is gone, when memory is short. */
void uri_hide(json_t *object, const char *name);

#endif
