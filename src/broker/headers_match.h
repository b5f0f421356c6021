/* Does a message's headers table satisfy a headers binding? (AMQP 0-9-1, section 3.1.3.4; RabbitMQ's x-match.) */
#ifndef BROKER_HEADERS_MATCH_H
#define BROKER_HEADERS_MATCH_H

#include "base/bytes.h"

struct amqp_field;

/* Is the x-match of these arguments one that there is (or is it missing)? On false `text` says what RabbitMQ says of it. */
bool headers_mode_valid(struct bytes arguments, char *text, size_t room);

/* Need all pairs match, or one? */
bool headers_mode_is_any(struct bytes arguments);

/* Goes through the pairs of a binding's arguments that take part: start with *rest = arguments, and `with_x` from headers_mode_takes_x. */
bool headers_mode_takes_x(struct bytes arguments);
bool headers_next_pair(struct bytes *rest, bool with_x, struct amqp_field *pair);

/* `arguments`: the binding's table, valid. `headers`: the message's, valid; empty: it has none. x-match is all (the default) or any; keys that begin
 * with x- do not take part, unless it is all-with-x or any-with-x. A value of type void asks only for the header's presence. Numbers are equal by value and
 * strings by their bytes, whatever their types. */
bool headers_match(struct bytes arguments, struct bytes headers);

/* The same for whoever knows the mode already. */
bool headers_match_in_mode(struct bytes arguments, struct bytes headers, bool any, bool with_x);

/* The headers table in a message's property bytes; empty: there is none. */
struct bytes headers_of(struct bytes properties);

/* Values that match hash alike; others hardly ever. */
uint64_t headers_value_hash(const struct amqp_field *value, uint64_t seed);

#endif
