/* The message that a source's event is, as docs/events.md has it: the event's attributes are headers with the prefix cloudEvents_, and what AMQP has a property for is that, too.
 *
 * An event that was a message elsewhere stays as much of that one as it can: its other headers and attributes, priority, correlation-id, reply-to, expiration, app-id, and content-encoding. What
 * brokers say to each other and to themselves is left behind: where it died, how often it was delivered, what was to be copied to whom, and when; so are user-id, which a broker vouches for, and
 * cluster-id. Headers of more than 96 KiB are left out, as they might not fit into a frame with what is added. */
#ifndef SOURCES_EVENT_MESSAGE_H
#define SOURCES_EVENT_MESSAGE_H

#include "sources/source.h"

#define EVENT_MESSAGE_PREFIX "cloudEvents_"

/* Bytes of room that its properties need at most. */
size_t event_message_room(const struct source_event *event);

/* Its properties, encoded; they lie somewhere in `room`. */
struct bytes event_message_properties(const struct source_event *event, bool persistent, uint8_t *room, size_t size);

/* The attribute of that name of a message elsewhere: of either spelling that the AMQP binding of CloudEvents has, cloudEvents:id and cloudEvents_id. A text. False: there is none. `headers`: valid. */
bool event_message_attribute(struct bytes headers, const char *name, struct bytes *value);

/* A header that brokers wrote on a message, or that says where else and when it goes: it is of no use elsewhere, or would do once more what it did here. */
bool event_message_is_of_the_way(struct bytes name);

#endif
