/* How often somebody may ask: an address, before anybody knows who it is; a user; and an address whose passwords and tokens were wrong. Who is over it is answered 429, with
 * when to come again. */
#ifndef PROTOCOL_GATEWAY_PACE_H
#define PROTOCOL_GATEWAY_PACE_H

#include "protocol/gateway/task.h"

/* May the connection's address ask once more? False: the call was answered. */
bool pace_admits(struct gateway *gateway, struct http_call *call);

/* The same of the member's user. */
bool pace_admits_member(struct member *member, struct http_call *call);

/* May somebody from that address say who he is, after all those that were not? False: the call was answered. */
bool pace_lets_try(struct gateway *gateway, struct http_call *call);
/* He was not. */
void pace_failed(struct gateway *gateway);

#endif
