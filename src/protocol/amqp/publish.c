#include "protocol/amqp/publish.h"

#include "protocol/amqp/admit.h"
#include "protocol/amqp/channel.h"
#include "protocol/amqp/control.h"
#include "protocol/amqp/deliver.h"
#include "protocol/amqp/errors.h"
#include "protocol/amqp/tx.h"
#include "store/message.h"

#include <stdlib.h>

/* What no configuration allows (RabbitMQ's limit too). */
#define BODY_MAX (512ull * 1024 * 1024)

/* A body of less than this that does not arrive in one piece is gathered by the session: a place of the broker's that waits for it would take a chunk of its
 * own, which is worth it for large ones only. */
#define GATHER_MAX (64u * 1024)

/* A publish whose content has not arrived whole. */
struct content {
    struct publish publish;
    uint64_t left;             /* bytes of body to come */
    uint8_t *at;               /* where they go; NULL: nowhere */
    struct bytes copies[2];    /* of a small one, behind its properties */
    bool copied;
    uint8_t *gathered;         /* properties, copies and body of a small one; NULL: its body goes to the broker's place */
    enum publish_result result;
    bool has_header;
    bool begun;                /* the broker waits for the body: client_publish_end or _abort is owed */
    bool immediate;
    uint8_t names[];           /* exchange, then routing key */
};

/* ---- after the broker's first answer ------------------------------------------------------------------------------------------- */

/* The session itself knows how the publish ended. */
static void confirm_now(struct channel *channel, const struct publish *publish, bool accepted)
{
    if (!publish->confirm_tag)
        return;
    if (confirms_done(&channel->confirms, publish_sequence(publish->confirm_tag), 1, accepted))
        error_out_of_memory(channel->session);
    else
        channel_dirty(channel);
}

/* An unroutable mandatory message goes back, at once or with its transaction; a control request goes to the broker, which no transaction delays. */
static void return_message(struct channel *channel, struct publish *publish)
{
    struct message message;
    CHECK(message_read(publish->content, &message));
    if (UNLIKELY(control_is_request(&(struct publish){.exchange = message.exchange, .routing_key = message.routing_key}))) {
        control_ask(channel->session, publish->content);
        client_release(&channel->session->client, publish->chunk);
        return;
    }
    if (channel->tx) {
        if (!tx_return_later(channel, publish->content, publish->chunk)) {
            client_release(&channel->session->client, publish->chunk);
            error_out_of_memory(channel->session);
        }
        return;
    }
    deliver_return(channel, publish->content, publish->chunk);
    client_release(&channel->session->client, publish->chunk);
}

/* A publish that leads to no queue, or was refused. False after an exception. */
__attribute__((noinline))
static bool goes_on_unrouted(struct channel *channel, struct publish *publish, enum publish_result *result)
{
    if (*result == PUBLISH_UNROUTABLE && !publish->mandatory && control_is_request(publish)) {
        publish->mandatory = true;   /* so that the broker keeps its content for us */
        if (!publish->chunk)
            *result = client_publish_begin(&channel->session->client, publish);
    }
    bool refused_quietly = *result == PUBLISH_REFUSED && channel->confirming;
    if (*result <= PUBLISH_UNROUTABLE || refused_quietly)
        return true;
    admit_refuse_publish(channel, publish, *result);
    return false;
}

/* Routes the message, by its `copies` too unless that is NULL; false after an exception. On true the body goes to publish->body, unless that is NULL. */
static inline bool begin(struct channel *channel, struct publish *publish, const struct bytes *copies, enum publish_result *result)
{
    publish->channel = channel->number;
    if (UNLIKELY(channel->tx != NULL)) {
        publish->transaction = tx_transaction(channel);
        if (!publish->transaction) {
            error_out_of_memory(channel->session);
            return false;
        }
    }
    if (channel->confirming)
        publish->confirm_tag = publish_confirm_tag(channel->serial, channel->confirms.next);
    *result = copies ? client_publish_begin_copied(&channel->session->client, publish, copies) : client_publish_begin(&channel->session->client, publish);
    if (UNLIKELY(*result != PUBLISH_ROUTED) && !goes_on_unrouted(channel, publish, result))
        return false;
    if (channel->confirming)
        channel->confirms.next++;
    return true;
}

static inline void end(struct channel *channel, struct publish *publish, enum publish_result result)
{
    if (LIKELY(result == PUBLISH_ROUTED)) {
        client_publish_end(&channel->session->client, publish);
        return;
    }
    if (result == PUBLISH_UNROUTABLE && publish->chunk) {
        client_publish_end(&channel->session->client, publish);
        if (publish->chunk)
            return_message(channel, publish);
    }
    confirm_now(channel, publish, result == PUBLISH_UNROUTABLE);
}

/* ---- a publish that lies whole in the input -------------------------------------------------------------------------------------- */

/* The payload of the frame at the start of `in` if it is whole, of `type` and of `channel`; moves `in` past it. */
static inline bool next_frame(struct bytes *in, uint8_t type, uint16_t channel, uint32_t frame_max, struct bytes *payload)
{
    if (in->size < AMQP_FRAME_OVERHEAD)
        return false;
    struct amqp_frame_header header = amqp_frame_header_read(in->data);
    if (header.type != type || header.channel != channel || header.size > frame_max || in->size - AMQP_FRAME_OVERHEAD < header.size ||
        in->data[AMQP_FRAME_HEADER_SIZE + header.size] != AMQP_FRAME_END)
        return false;
    *payload = bytes_of(in->data + AMQP_FRAME_HEADER_SIZE, header.size);
    *in = bytes_of(in->data + header.size + AMQP_FRAME_OVERHEAD, in->size - header.size - AMQP_FRAME_OVERHEAD);
    return true;
}

/* One whose properties are more than a delivery mode. */
__attribute__((noinline))
static void publish_rich(struct channel *channel, struct publish *publish, struct bytes body)
{
    struct admitted admitted = {0};
    enum publish_result result;
    if (admit_properties(channel, publish, &admitted) && begin(channel, publish, admitted.copied ? admitted.copies : NULL, &result)) {
        if (publish->body && body.size)
            amqp_copy(publish->body, body.data, body.size);
        end(channel, publish, result);
    }
    free(admitted.rewritten);
}

size_t publish_whole(struct session *session, const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size), method, header_payload, body = {NULL, 0};
    uint16_t number = load_be16(data + 1);
    struct amqp_publish names;
    struct amqp_content_header header;
    if (!next_frame(&in, AMQP_FRAME_METHOD, number, session->frame_max, &method) ||
        !next_frame(&in, AMQP_FRAME_HEADER, number, session->frame_max, &header_payload) || !amqp_content_header_decode(header_payload, &header) ||
        header.class_id != AMQP_CLASS_BASIC || header.weight != 0 || header.body_size > session->frame_max)
        return 0;
    if (header.body_size && (!next_frame(&in, AMQP_FRAME_BODY, number, session->frame_max, &body) || body.size != header.body_size))
        return 0;
    struct channel *channel = channel_find(session, number);
    if (!channel || channel->state != CHANNEL_OPEN || channel->content || channel->waiting || channel->pipelined || !publish_allowed(session) ||
        amqp_publish_decode(method, &names) != AMQP_DECODED || (names.mandatory && session_is_choked(session)))
        return 0;

    enum publish_result result;
    /* Every build zeroes locals, and this one is large: the broker reads only what is set here or by itself. */
    struct publish publish __attribute__((uninitialized));
    publish.persistent = false;
    publish.mandatory = names.mandatory;
    publish.whole = true;
    publish.confirm_tag = 0;
    publish.exchange = names.exchange;
    publish.routing_key = names.routing_key;
    publish.properties = header.properties;
    publish.body_size = header.body_size;
    publish.transaction = NULL;
    publish.body = NULL;
    if (UNLIKELY(!admit(channel, &publish, names.immediate)))
        return size - in.size;
    if (UNLIKELY(!admit_has_plain_properties(&publish))) {
        publish_rich(channel, &publish, body);
    } else if (begin(channel, &publish, NULL, &result)) {
        if (LIKELY(publish.body && body.size))
            amqp_copy(publish.body, body.data, body.size);
        end(channel, &publish, result);
    }
    return size - in.size;
}

/* ---- a publish frame by frame ------------------------------------------------------------------------------------------------------ */

void publish_method(struct channel *channel, const struct amqp_method *method)
{
    struct bytes exchange = method->values[AMQP_BASIC_PUBLISH_EXCHANGE].bytes, routing_key = method->values[AMQP_BASIC_PUBLISH_ROUTING_KEY].bytes;
    struct content *content = malloc(sizeof(*content) + exchange.size + routing_key.size);
    if (!content) {
        error_out_of_memory(channel->session);
        return;
    }
    memset(content, 0, sizeof(*content));
    memcpy(content->names, exchange.data, exchange.size);
    memcpy(content->names + exchange.size, routing_key.data, routing_key.size);
    content->publish.exchange = bytes_of(content->names, exchange.size);
    content->publish.routing_key = bytes_of(content->names + exchange.size, routing_key.size);
    content->publish.mandatory = method->values[AMQP_BASIC_PUBLISH_MANDATORY].number;
    content->immediate = method->values[AMQP_BASIC_PUBLISH_IMMEDIATE].number;
    channel->content = content;
}

/* A small content is there: it is published as if it had come in one piece. */
static void publish_gathered(struct channel *channel, struct content *content)
{
    struct publish *publish = &content->publish;
    enum publish_result result;
    publish->whole = true;
    if (!begin(channel, publish, content->copied ? content->copies : NULL, &result))
        return;
    if (publish->body && publish->body_size)
        amqp_copy(publish->body, content->at - publish->body_size, publish->body_size);
    end(channel, publish, result);
}

static void complete(struct channel *channel)
{
    struct content *content = channel->content;
    channel->content = NULL;
    if (content->gathered)
        publish_gathered(channel, content);
    else
        end(channel, &content->publish, content->result);
    free(content->gathered);
    free(content);
}

static struct bytes gather(uint8_t **at, struct bytes bytes)
{
    struct bytes gathered = bytes_of(*at, bytes.size);
    if (bytes.size)
        memcpy(*at, bytes.data, bytes.size);
    *at += bytes.size;
    return gathered;
}

/* Makes room for a small body behind a copy of the properties. */
static bool begin_gathering(struct channel *channel, const struct admitted *admitted)
{
    struct content *content = channel->content;
    struct bytes properties = content->publish.properties;
    content->gathered = malloc(properties.size + admitted->copies[0].size + admitted->copies[1].size + content->publish.body_size);
    if (!content->gathered) {
        error_out_of_memory(channel->session);
        return false;
    }
    content->at = content->gathered;
    content->publish.properties = gather(&content->at, properties);
    content->copied = admitted->copied;
    for (unsigned i = 0; i < 2; i++)
        content->copies[i] = gather(&content->at, admitted->copies[i]);
    return true;
}

/* Has the broker make a place for a large body. */
static bool begin_streaming(struct channel *channel, const struct admitted *admitted)
{
    struct content *content = channel->content;
    if (!begin(channel, &content->publish, admitted->copied ? admitted->copies : NULL, &content->result))
        return false;
    content->begun = content->result == PUBLISH_ROUTED || (content->result == PUBLISH_UNROUTABLE && content->publish.chunk);
    content->at = content->begun ? content->publish.body : NULL;
    return true;
}

bool publish_header(struct channel *channel, struct bytes payload)
{
    struct session *session = channel->session;
    struct content *content = channel->content;
    struct amqp_content_header header;
    struct admitted admitted = {0};
    if (!content || content->has_header) {
        publish_unexpected_frame(channel);
        return false;
    }
    CHECK(amqp_content_header_decode(payload, &header));
    if (header.class_id != AMQP_CLASS_BASIC) {
        error_raise(session, NULL, AMQP_UNEXPECTED_FRAME, AMQP_BASIC_PUBLISH, "expected content header for class %u, got one for class %u instead",
                    AMQP_CLASS_BASIC, header.class_id);
        return false;
    }
    if (header.weight != 0) {
        publish_unexpected_frame(channel);
        return false;
    }
    if (header.body_size > BODY_MAX) {
        error_raise(session, NULL, AMQP_FRAME_ERROR, AMQP_BASIC_PUBLISH, "content body size %llu exceeds maximum allowed size %llu",
                    (unsigned long long)header.body_size, BODY_MAX);
        return false;
    }
    struct publish *publish = &content->publish;
    publish->properties = header.properties;
    publish->body_size = header.body_size;
    bool good = admit(channel, publish, content->immediate) && (admit_has_plain_properties(publish) || admit_properties(channel, publish, &admitted)) &&
                (header.body_size < GATHER_MAX ? begin_gathering(channel, &admitted) : begin_streaming(channel, &admitted));
    free(admitted.rewritten);
    if (!good)
        return false;
    content->has_header = true;
    content->left = header.body_size;
    if (content->left == 0)
        complete(channel);
    return true;
}

bool publish_body_begin(struct channel *channel, uint32_t size)
{
    struct content *content = channel->content;
    if (!content || !content->has_header) {
        publish_unexpected_frame(channel);
        return false;
    }
    if (size > content->left) {
        error_raise(channel->session, NULL, AMQP_FRAME_ERROR, AMQP_BASIC_PUBLISH, "content body frame exceeds remaining content size");
        return false;
    }
    return true;
}

void publish_body(struct channel *channel, struct bytes bytes, bool last)
{
    struct content *content = channel->content;
    if (content->at && bytes.size) {
        memcpy(content->at, bytes.data, bytes.size);
        content->at += bytes.size;
    }
    content->left -= bytes.size;
    if (last && content->left == 0)
        complete(channel);
}

void publish_unexpected_frame(struct channel *channel)
{
    const struct content *content = channel->content;
    if (!content)
        error_raise(channel->session, NULL, AMQP_UNEXPECTED_FRAME, 0, "expected method frame, got non method frame instead");
    else if (!content->has_header)
        error_raise(channel->session, NULL, AMQP_UNEXPECTED_FRAME, AMQP_BASIC_PUBLISH,
                    "expected content header for class %u, got non content header frame instead", AMQP_CLASS_BASIC);
    else
        error_raise(channel->session, NULL, AMQP_UNEXPECTED_FRAME, AMQP_BASIC_PUBLISH, "expected content body, got non content body frame instead");
}

void publish_abort(struct channel *channel)
{
    struct content *content = channel->content;
    if (!content)
        return;
    channel->content = NULL;
    if (content->begun)
        client_publish_abort(&channel->session->client, &content->publish);
    free(content->gathered);
    free(content);
}

/* ---- leave to publish ----------------------------------------------------------------------------------------------------------------- */

void publish_tell_blocked(struct session *session)
{
    if (session->phase != PHASE_RUNNING || !session->published || !(session->capabilities & CLIENT_CONNECTION_BLOCKED))
        return;
    if (session->blocked_reason && !session->told_blocked) {
        struct amqp_value values[AMQP_CONNECTION_BLOCKED_COUNT] = {amqp_text(session->blocked_reason)};
        session_send(session, 0, AMQP_CONNECTION_BLOCKED, values);
        session->told_blocked = true;
    } else if (!session->blocked_reason && session->told_blocked) {
        session_send(session, 0, AMQP_CONNECTION_UNBLOCKED, NULL);
        session->told_blocked = false;
    }
}

bool publish_allowed(struct session *session)
{
    session->published = true;
    if (LIKELY(client_may_publish(&session->client)))
        return true;
    publish_tell_blocked(session);
    return false;
}
