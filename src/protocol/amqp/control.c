#include "protocol/amqp/control.h"

#include "protocol/amqp/errors.h"
#include "protocol/amqp/properties.h"
#include "store/message.h"

#include <stdlib.h>

#define CONTENT_TYPE "application/json"
/* Properties of an answer: content type and a correlation-id of up to 255 bytes. */
#define PROPERTIES_MAX 320u

static const char busy[] = "{\"error\":{\"code\":\"busy\",\"text\":\"too many requests at once\"}}";

/* Whom the answer to a request is for. */
struct control {
    struct control *next;
    uint32_t tag;
    uint8_t reply_to_size, correlation_id_size;
    uint8_t bytes[];           /* reply-to, then correlation-id */
};

bool control_is_request(const struct publish *publish)
{
    return publish->exchange.size == 0 && bytes_equal(publish->routing_key, bytes_of_text(CONTROL_KEY));
}

bool control_is_request_method(const struct amqp_method *method)
{
    return method->values[AMQP_BASIC_PUBLISH_EXCHANGE].bytes.size == 0 &&
           bytes_equal(method->values[AMQP_BASIC_PUBLISH_ROUTING_KEY].bytes, bytes_of_text(CONTROL_KEY));
}

/* Publishes an answer in the session's name. A queue that is gone gets none. */
static void answer(struct session *session, struct bytes reply_to, struct bytes correlation_id, struct bytes json)
{
    uint8_t encoded[PROPERTIES_MAX];
    struct amqp_properties properties = {.flags = AMQP_CONTENT_TYPE, .content_type = bytes_of_text(CONTENT_TYPE)};
    if (correlation_id.size) {
        properties.flags |= AMQP_CORRELATION_ID;
        properties.correlation_id = correlation_id;
    }
    struct publish publish = {.whole = true, .exchange = bytes_of(NULL, 0), .routing_key = reply_to, .body_size = json.size,
                              .properties = bytes_of(encoded, amqp_properties_encode(&properties, encoded, sizeof(encoded)))};
    if (!reply_to.size || client_publish_begin(&session->client, &publish) != PUBLISH_ROUTED)
        return;
    memcpy(publish.body, json.data, json.size);
    client_publish_end(&session->client, &publish);
}

static struct control *remember(struct session *session, const struct amqp_properties *properties)
{
    struct bytes reply_to = properties->reply_to, correlation_id = properties->correlation_id;
    struct control *control = malloc(sizeof(*control) + reply_to.size + correlation_id.size);
    if (!control)
        return NULL;
    control->tag = ++session->next_control;
    control->reply_to_size = (uint8_t)reply_to.size;
    control->correlation_id_size = (uint8_t)correlation_id.size;
    if (reply_to.size)
        memcpy(control->bytes, reply_to.data, reply_to.size);
    if (correlation_id.size)
        memcpy(control->bytes + reply_to.size, correlation_id.data, correlation_id.size);
    control->next = session->controls;
    session->controls = control;
    session->control_count++;
    return control;
}

void control_ask(struct session *session, struct bytes content)
{
    struct message message;
    struct amqp_properties properties;
    CHECK(message_read(content, &message));
    CHECK(amqp_properties_decode(message.properties, &properties));
    if (!(properties.flags & AMQP_REPLY_TO))
        properties.reply_to = (struct bytes){0};
    if (!(properties.flags & AMQP_CORRELATION_ID))
        properties.correlation_id = (struct bytes){0};
    if (session->control_count >= CONTROL_PENDING_MAX) {
        answer(session, properties.reply_to, properties.correlation_id, bytes_of(busy, sizeof(busy) - 1));
        return;
    }
    const struct control *control = remember(session, &properties);
    if (!control) {
        error_out_of_memory(session);
        return;
    }
    struct request request = {.kind = REQUEST_CONTROL, .tag = control->tag, .source = bytes_of(session->user, session->user_size), .arguments = message.body};
    client_request(&session->client, &request);
}

void control_replied(struct session *session, const struct reply *reply)
{
    for (struct control **at = &session->controls; *at; at = &(*at)->next) {
        struct control *control = *at;
        if (control->tag != reply->tag)
            continue;
        *at = control->next;
        session->control_count--;
        answer(session, bytes_of(control->bytes, control->reply_to_size), bytes_of(control->bytes + control->reply_to_size, control->correlation_id_size),
               reply->text);
        free(control);
        return;
    }
}

void control_free_all(struct session *session)
{
    while (session->controls) {
        struct control *control = session->controls;
        session->controls = control->next;
        free(control);
    }
    session->control_count = 0;
}
