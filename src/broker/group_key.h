/* What x-group-key says: where in a message the key of its group lies.
 *
 *   "customer"                  the header of that name: a text, or a number, which is the same key as its decimal text
 *   "property:routing-key"      the routing key; also correlation-id, reply-to, message-id, type, user-id, app-id
 *
 * A message without it, with an empty one, or with a table there is of no group. */
#ifndef BROKER_GROUP_KEY_H
#define BROKER_GROUP_KEY_H

#include "base/bytes.h"

#define GROUP_KEY_MAX 255u
#define GROUP_BY_HEADER 0u
#define GROUP_BY_ROUTING_KEY 1u          /* otherwise the bit of the property, see protocol/amqp/properties.h */
#define GROUP_KEY_ROOM 48u               /* bytes of a number's text */

/* False: it is empty, longer than GROUP_KEY_MAX, or names a property that there is not. */
bool group_key_parse(struct bytes text, unsigned *where);

/* The key of a message's content; it lies there or in `room` (GROUP_KEY_ROOM bytes). False: it has none. */
bool group_key_of(struct bytes content, struct bytes text, unsigned where, char *room, struct bytes *key);

#endif
