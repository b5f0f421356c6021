/* A CloudEvent (CloudEvents 1.0.2): attributes and data, read from what HTTP brought (HTTP protocol binding, JSON event format) and written as a message's properties
 * (AMQP protocol binding, with the prefix cloudEvents_, which is a word in selectors too).
 *
 *   content-type  the data's        message-id  id, up to 255 bytes        type  type        timestamp  time's seconds
 *   headers       cloudEvents_specversion, cloudEvents_id, cloudEvents_source, cloudEvents_type, and all others
 */
#ifndef PROTOCOL_GATEWAY_CLOUD_EVENT_H
#define PROTOCOL_GATEWAY_CLOUD_EVENT_H

#include "protocol/amqp/properties.h"
#include "protocol/http/request.h"

#include <jansson.h>

#define EVENT_ATTRIBUTES_MAX 64u
#define EVENT_PREFIX "cloudEvents_"

enum attribute_kind { ATTRIBUTE_TEXT, ATTRIBUTE_NUMBER, ATTRIBUTE_BOOLEAN };

struct event_attribute {
    struct bytes name;               /* without any prefix; "datacontenttype" is not among them */
    enum attribute_kind kind;
    struct bytes text;
    int32_t number;
};

struct cloud_event {
    struct event_attribute attributes[EVENT_ATTRIBUTES_MAX];
    unsigned count;
    struct bytes content_type, data;
    uint8_t *owned;                  /* what some of that lies in; event_deinit */
};

/* An event without attributes or data; its memory need not be zeroed. */
static inline void event_init(struct cloud_event *event)
{
    event->count = 0;
    event->content_type = event->data = (struct bytes){0};
    event->owned = NULL;
}

/* A sentence that says what is wrong, in `why`. */
#define EVENT_WHY_MAX 256u

/* An event in JSON: `root` is what `text` says; both are borrowed while the event is used. */
bool event_read_json(struct cloud_event *event, json_t *root, struct bytes text, char why[EVENT_WHY_MAX]);

/* An event whose attributes are the request's headers ce-…, and its body is the data. */
bool event_read_binary(struct cloud_event *event, const struct http_request *request, struct bytes body, char why[EVENT_WHY_MAX]);

void event_deinit(struct cloud_event *event);

/* Adds or reads a text; empty: it is not there. False: there are too many. */
bool event_put(struct cloud_event *event, const char *name, struct bytes value);
struct bytes event_text(const struct cloud_event *event, const char *name);

/* Has it all that an event must have, and nothing that none may? */
bool event_check(const struct cloud_event *event, char why[EVENT_WHY_MAX]);

/* Its properties, whose headers take up to event_properties_size bytes, for which there is room … */
size_t event_properties_size(const struct cloud_event *event);
void event_properties_in(const struct cloud_event *event, struct amqp_properties *properties, uint8_t *room, size_t size);
/* … or lie in *room, which is the caller's to free. False: out of memory. */
bool event_properties(const struct cloud_event *event, struct amqp_properties *properties, uint8_t **room);

/* "2018-04-05T17:31:00Z" (RFC 3339) as seconds since 1970; false: it is none. */
bool event_time_read(struct bytes text, int64_t *seconds);

#endif
