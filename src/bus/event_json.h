/* A message as an event in JSON (CloudEvents' JSON event format 1.0.2): its headers cloudEvents_… are the attributes; what is no CloudEvent becomes one, by its properties. Data that are
 * JSON go as they came, text as a string, anything else as data_base64. */
#ifndef BUS_EVENT_JSON_H
#define BUS_EVENT_JSON_H

#include "protocol/amqp/properties.h"
#include "store/message.h"

/* One line: whatever line ends the data have are spaces in it. `id`: of an event that says none. The text is the caller's to free, with a zero behind it. NULL: out of memory. */
char *event_json(const struct message *message, const struct amqp_properties *properties, struct bytes id, size_t *size);

/* Does a media type say that its data is JSON? */
bool event_is_json(struct bytes content_type);

/* Is it an attribute's name, as CloudEvents has them? */
bool event_is_attribute(struct bytes name);

#endif
