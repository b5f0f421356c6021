/* A message as a JSON object:
 *
 *   {"exchange": "", "routing_key": "hello", "redelivered": false, "properties": {"delivery_mode": 2, "headers": {…}, …},
 *    "body": "Hello World!"}
 *
 * A body that is no UTF-8 text is "body_base64" instead. Of a header's types, times become their seconds, and byte strings
 * that are no text become {"base64": …}. */
#ifndef CLI_MESSAGE_JSON_H
#define CLI_MESSAGE_JSON_H

#include "client/remote.h"

#include <jansson.h>

/* A new reference; NULL: out of memory, or properties that cannot be read. */
json_t *message_json(const struct remote_message *message);

#endif
