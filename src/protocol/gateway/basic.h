/* The Authorization header's scheme Basic (RFC 7617). */
#ifndef PROTOCOL_GATEWAY_BASIC_H
#define PROTOCOL_GATEWAY_BASIC_H

#include "base/bytes.h"

#define BASIC_MAX 1024u
/* User and password, decoded into `room`. False: it is another scheme, or no base64, or has no colon, or is too long. */
bool basic_read(struct bytes authorization, uint8_t room[BASIC_MAX], struct bytes *user, struct bytes *password);

#endif
