/* Does a message's headers table satisfy a headers binding? (AMQP 0-9-1, section 3.1.3.4; RabbitMQ's x-match.) */
#ifndef BROKER_HEADERS_MATCH_H
#define BROKER_HEADERS_MATCH_H

#include "base/bytes.h"

/* Is the x-match of these arguments one that there is (or is it missing)? On false `value` is what it says. */
bool headers_mode_valid(struct bytes arguments, struct bytes *value);

/* `arguments`: the binding's table, valid. `properties`: the message's property bytes, valid. x-match is all (the default) or any; keys that begin
 * with x- do not take part, unless it is all-with-x or any-with-x. A value of type void asks only for the header's presence. */
bool headers_match(struct bytes arguments, struct bytes properties);

#endif
