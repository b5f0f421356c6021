#include "protocol/amqp/requests.h"

#include "protocol/amqp/channel.h"
#include "protocol/amqp/consume.h"
#include "protocol/amqp/errors.h"
#include "protocol/amqp/reply_to.h"

#include <stdlib.h>

/* Which method a kind of request comes from, and which one answers it. */
static const struct kind_row {
    uint32_t method, ok;
} kinds[] = {
    [REQUEST_QUEUE_DECLARE] = {AMQP_QUEUE_DECLARE, AMQP_QUEUE_DECLARE_OK},
    [REQUEST_QUEUE_DELETE] = {AMQP_QUEUE_DELETE, AMQP_QUEUE_DELETE_OK},
    [REQUEST_QUEUE_PURGE] = {AMQP_QUEUE_PURGE, AMQP_QUEUE_PURGE_OK},
    [REQUEST_QUEUE_BIND] = {AMQP_QUEUE_BIND, AMQP_QUEUE_BIND_OK},
    [REQUEST_QUEUE_UNBIND] = {AMQP_QUEUE_UNBIND, AMQP_QUEUE_UNBIND_OK},
    [REQUEST_EXCHANGE_DECLARE] = {AMQP_EXCHANGE_DECLARE, AMQP_EXCHANGE_DECLARE_OK},
    [REQUEST_EXCHANGE_DELETE] = {AMQP_EXCHANGE_DELETE, AMQP_EXCHANGE_DELETE_OK},
    [REQUEST_EXCHANGE_BIND] = {AMQP_EXCHANGE_BIND, AMQP_EXCHANGE_BIND_OK},
    [REQUEST_EXCHANGE_UNBIND] = {AMQP_EXCHANGE_UNBIND, AMQP_EXCHANGE_UNBIND_OK},
    [REQUEST_CHANNEL] = {0, AMQP_CHANNEL_OPEN_OK},   /* one too many is nobody's fault in particular, as in RabbitMQ */
};

bool request_is_pipelined(const struct amqp_method *method)
{
    /* An empty queue name means the one declared last, which its answer tells. */
    const struct amqp_value *values = method->values;
    switch (method->row->id) {
    case AMQP_QUEUE_DECLARE: return !values[AMQP_QUEUE_DECLARE_PASSIVE].number;
    case AMQP_QUEUE_BIND: return values[AMQP_QUEUE_BIND_QUEUE].bytes.size > 0;
    case AMQP_QUEUE_UNBIND: return values[AMQP_QUEUE_UNBIND_QUEUE].bytes.size > 0;
    case AMQP_QUEUE_DELETE:
        return values[AMQP_QUEUE_DELETE_QUEUE].bytes.size > 0 && !values[AMQP_QUEUE_DELETE_IF_UNUSED].number && !values[AMQP_QUEUE_DELETE_IF_EMPTY].number;
    case AMQP_EXCHANGE_DECLARE: return !values[AMQP_EXCHANGE_DECLARE_PASSIVE].number;
    case AMQP_EXCHANGE_DELETE: return !values[AMQP_EXCHANGE_DELETE_IF_UNUSED].number;
    case AMQP_EXCHANGE_BIND: case AMQP_EXCHANGE_UNBIND: return true;
    default: return false;
    }
}

bool request_queue_name(struct channel *channel, uint32_t id, struct bytes *name)
{
    if (name->size)
        return true;
    if (!channel->last_queue) {
        error_raise(channel->session, channel, AMQP_NOT_FOUND, id, "no previously declared queue");
        return false;
    }
    *name = bytes_of_text(channel->last_queue);
    return true;
}

bool request_is_no_reply_queue(struct channel *channel, uint32_t id, struct bytes name)
{
    if (LIKELY(!reply_to_names(name)))
        return true;
    struct bytes vhost = client_vhost_name(&channel->session->client);
    error_raise(channel->session, channel, AMQP_NOT_FOUND, id, "no queue '%.*s' in vhost '%.*s'", (int)name.size, (const char *)name.data, (int)vhost.size,
                (const char *)vhost.data);
    return false;
}

/* The default exchange is nobody's to declare, delete or bind. */
static bool is_no_default_exchange(struct channel *channel, uint32_t id, struct bytes name)
{
    if (name.size == 0)
        error_raise(channel->session, channel, AMQP_ACCESS_REFUSED, id, "operation not permitted on the default exchange");
    return name.size != 0;
}

static unsigned flag(const struct amqp_value *value, unsigned flags)
{
    return value->number ? flags : 0;
}

static bool fill_exchange_declare(struct channel *channel, const struct amqp_value *values, struct request *request, bool *no_wait)
{
    request->kind = REQUEST_EXCHANGE_DECLARE;
    request->name = values[AMQP_EXCHANGE_DECLARE_EXCHANGE].bytes;
    request->type = values[AMQP_EXCHANGE_DECLARE_TYPE].bytes;
    request->arguments = values[AMQP_EXCHANGE_DECLARE_ARGUMENTS].bytes;
    request->flags = flag(&values[AMQP_EXCHANGE_DECLARE_PASSIVE], REQUEST_PASSIVE) | flag(&values[AMQP_EXCHANGE_DECLARE_DURABLE], REQUEST_DURABLE) |
                     flag(&values[AMQP_EXCHANGE_DECLARE_AUTO_DELETE], REQUEST_AUTO_DELETE) | flag(&values[AMQP_EXCHANGE_DECLARE_INTERNAL], REQUEST_INTERNAL);
    *no_wait = values[AMQP_EXCHANGE_DECLARE_NO_WAIT].number;
    return is_no_default_exchange(channel, AMQP_EXCHANGE_DECLARE, request->name);
}

static bool fill_exchange_delete(struct channel *channel, const struct amqp_value *values, struct request *request, bool *no_wait)
{
    request->kind = REQUEST_EXCHANGE_DELETE;
    request->name = values[AMQP_EXCHANGE_DELETE_EXCHANGE].bytes;
    request->flags = flag(&values[AMQP_EXCHANGE_DELETE_IF_UNUSED], REQUEST_IF_UNUSED);
    *no_wait = values[AMQP_EXCHANGE_DELETE_NO_WAIT].number;
    return is_no_default_exchange(channel, AMQP_EXCHANGE_DELETE, request->name);
}

/* exchange.bind and exchange.unbind, whose arguments lie in the same places. */
static bool fill_exchange_bind(struct channel *channel, uint32_t id, const struct amqp_value *values, struct request *request, bool *no_wait)
{
    request->kind = id == AMQP_EXCHANGE_BIND ? REQUEST_EXCHANGE_BIND : REQUEST_EXCHANGE_UNBIND;
    request->name = values[AMQP_EXCHANGE_BIND_DESTINATION].bytes;
    request->source = values[AMQP_EXCHANGE_BIND_SOURCE].bytes;
    request->routing_key = values[AMQP_EXCHANGE_BIND_ROUTING_KEY].bytes;
    request->arguments = values[AMQP_EXCHANGE_BIND_ARGUMENTS].bytes;
    *no_wait = values[AMQP_EXCHANGE_BIND_NO_WAIT].number;
    return is_no_default_exchange(channel, id, request->source) && is_no_default_exchange(channel, id, request->name);
}

/* queue.bind and queue.unbind: the latter has no no-wait. */
static bool fill_queue_bind(struct channel *channel, uint32_t id, const struct amqp_value *values, struct request *request, bool *no_wait)
{
    bool bind = id == AMQP_QUEUE_BIND;
    request->kind = bind ? REQUEST_QUEUE_BIND : REQUEST_QUEUE_UNBIND;
    request->name = values[AMQP_QUEUE_BIND_QUEUE].bytes;
    request->source = values[AMQP_QUEUE_BIND_EXCHANGE].bytes;
    request->routing_key = values[AMQP_QUEUE_BIND_ROUTING_KEY].bytes;
    request->arguments = values[bind ? (unsigned)AMQP_QUEUE_BIND_ARGUMENTS : (unsigned)AMQP_QUEUE_UNBIND_ARGUMENTS].bytes;
    *no_wait = bind && values[AMQP_QUEUE_BIND_NO_WAIT].number;
    bool both_empty = request->name.size == 0 && request->routing_key.size == 0;
    if (!request_queue_name(channel, id, &request->name))
        return false;
    if (both_empty)
        request->routing_key = request->name;
    return is_no_default_exchange(channel, id, request->source);
}

static bool fill_queue_declare(struct channel *channel, const struct amqp_value *values, struct request *request, bool *no_wait)
{
    request->kind = REQUEST_QUEUE_DECLARE;
    request->name = values[AMQP_QUEUE_DECLARE_QUEUE].bytes;
    request->arguments = values[AMQP_QUEUE_DECLARE_ARGUMENTS].bytes;
    request->flags = flag(&values[AMQP_QUEUE_DECLARE_PASSIVE], REQUEST_PASSIVE) | flag(&values[AMQP_QUEUE_DECLARE_DURABLE], REQUEST_DURABLE) |
                     flag(&values[AMQP_QUEUE_DECLARE_EXCLUSIVE], REQUEST_EXCLUSIVE) | flag(&values[AMQP_QUEUE_DECLARE_AUTO_DELETE], REQUEST_AUTO_DELETE);
    *no_wait = values[AMQP_QUEUE_DECLARE_NO_WAIT].number;
    if ((request->flags & REQUEST_PASSIVE) && request->name.size == 0) {
        struct bytes vhost = client_vhost_name(&channel->session->client);
        error_raise(channel->session, channel, AMQP_NOT_FOUND, AMQP_QUEUE_DECLARE, "no queue '' in vhost '%.*s'", (int)vhost.size, (const char *)vhost.data);
        return false;
    }
    return true;
}

static bool fill_queue_delete(struct channel *channel, const struct amqp_value *values, struct request *request, bool *no_wait)
{
    request->kind = REQUEST_QUEUE_DELETE;
    request->name = values[AMQP_QUEUE_DELETE_QUEUE].bytes;
    request->flags = flag(&values[AMQP_QUEUE_DELETE_IF_UNUSED], REQUEST_IF_UNUSED) | flag(&values[AMQP_QUEUE_DELETE_IF_EMPTY], REQUEST_IF_EMPTY);
    *no_wait = values[AMQP_QUEUE_DELETE_NO_WAIT].number;
    return request_queue_name(channel, AMQP_QUEUE_DELETE, &request->name);
}

static bool fill_queue_purge(struct channel *channel, const struct amqp_value *values, struct request *request, bool *no_wait)
{
    request->kind = REQUEST_QUEUE_PURGE;
    request->name = values[AMQP_QUEUE_PURGE_QUEUE].bytes;
    *no_wait = values[AMQP_QUEUE_PURGE_NO_WAIT].number;
    return request_queue_name(channel, AMQP_QUEUE_PURGE, &request->name);
}

static bool fill(struct channel *channel, const struct amqp_method *method, struct request *request, bool *no_wait)
{
    switch (method->row->id) {
    case AMQP_EXCHANGE_DECLARE: return fill_exchange_declare(channel, method->values, request, no_wait);
    case AMQP_EXCHANGE_DELETE: return fill_exchange_delete(channel, method->values, request, no_wait);
    case AMQP_EXCHANGE_BIND: case AMQP_EXCHANGE_UNBIND: return fill_exchange_bind(channel, method->row->id, method->values, request, no_wait);
    case AMQP_QUEUE_BIND: case AMQP_QUEUE_UNBIND: return fill_queue_bind(channel, method->row->id, method->values, request, no_wait);
    case AMQP_QUEUE_DECLARE: return fill_queue_declare(channel, method->values, request, no_wait);
    case AMQP_QUEUE_DELETE: return fill_queue_delete(channel, method->values, request, no_wait);
    default: return fill_queue_purge(channel, method->values, request, no_wait);
    }
}

/* ---- exclusive queues ------------------------------------------------------------------------------------------------ */

static void forget_exclusive(struct session *session, struct bytes name)
{
    for (struct exclusive_queue **at = &session->exclusive_queues; *at; at = &(*at)->next) {
        struct exclusive_queue *queue = *at;
        if (bytes_equal(bytes_of(queue->name, queue->size), name)) {
            *at = queue->next;
            free(queue);
            return;
        }
    }
}

static void remember_exclusive(struct session *session, struct bytes name)
{
    forget_exclusive(session, name);
    struct exclusive_queue *queue = malloc(sizeof(*queue) + name.size);
    if (!queue)
        return; /* The broker deletes it when the session is gone: a moment later than the peer could wish. */
    queue->size = (uint8_t)name.size;
    memcpy(queue->name, name.data, name.size);
    queue->next = session->exclusive_queues;
    session->exclusive_queues = queue;
}

void request_delete_exclusive(struct session *session)
{
    for (struct exclusive_queue *queue = session->exclusive_queues; queue; queue = queue->next) {
        struct request request = {.kind = REQUEST_QUEUE_DELETE, .flags = REQUEST_TRUSTED, .name = bytes_of(queue->name, queue->size)};
        session->releases++;
        client_request(&session->client, &request);
    }
    request_forget_exclusive(session);
}

void request_forget_exclusive(struct session *session)
{
    while (session->exclusive_queues) {
        struct exclusive_queue *queue = session->exclusive_queues;
        session->exclusive_queues = queue->next;
        free(queue);
    }
}

/* ---- asking -------------------------------------------------------------------------------------------------------------- */

static void declare_ok(struct channel *channel, struct bytes name, uint32_t messages, uint32_t consumers)
{
    struct amqp_value values[AMQP_QUEUE_DECLARE_OK_COUNT] = {
        [AMQP_QUEUE_DECLARE_OK_QUEUE] = amqp_bytes(name), [AMQP_QUEUE_DECLARE_OK_MESSAGE_COUNT] = amqp_number(messages),
        [AMQP_QUEUE_DECLARE_OK_CONSUMER_COUNT] = amqp_number(consumers)};
    session_send(channel->session, channel->number, AMQP_QUEUE_DECLARE_OK, values);
}

/* Names come without their line ends, as in RabbitMQ. `room` has UINT8_MAX bytes. */
static void strip_line_ends(struct bytes *name, uint8_t *room)
{
    if (!name->size || (!memchr(name->data, '\r', name->size) && !memchr(name->data, '\n', name->size)))
        return;
    size_t size = 0;
    for (size_t i = 0; i < name->size; i++) {
        if (name->data[i] != '\r' && name->data[i] != '\n')
            room[size++] = name->data[i];
    }
    *name = bytes_of(room, size);
}

/* A declare of the pseudo queue answers whether it is there, whatever else it says: with its one consumer. */
static void declare_reply_to(struct channel *channel, bool no_wait)
{
    if (!no_wait)
        declare_ok(channel, bytes_of_text(REPLY_TO), 0, 1);
}

/* A queue that replies go to is not there for deletes, unbinds, purges and binds. */
static void ask_reply_queue(struct channel *channel, const struct request *request, bool no_wait)
{
    struct amqp_value none = amqp_number(0);
    bool quiet = request->kind == REQUEST_QUEUE_DELETE || request->kind == REQUEST_QUEUE_UNBIND;
    if (!quiet)
        request_is_no_reply_queue(channel, kinds[request->kind].method, request->name);
    else if (!no_wait)
        session_send(channel->session, channel->number, kinds[request->kind].ok, &none);
}

void request_method(struct channel *channel, const struct amqp_method *method)
{
    struct request request = {.channel = channel->number};
    uint8_t name[UINT8_MAX], source[UINT8_MAX];
    bool no_wait = false;
    if (!fill(channel, method, &request, &no_wait))
        return;
    strip_line_ends(&request.name, name);
    strip_line_ends(&request.source, source);
    if (request.kind == REQUEST_QUEUE_DECLARE && reply_to_is(request.name)) {
        declare_reply_to(channel, no_wait);
        return;
    }
    if (UNLIKELY(reply_to_names(request.name)) && request.kind == REQUEST_QUEUE_DECLARE) {
        request.flags = REQUEST_PASSIVE;
    } else if (UNLIKELY(reply_to_names(request.name)) && request.kind <= REQUEST_QUEUE_UNBIND) {
        ask_reply_queue(channel, &request, no_wait);
        return;
    }
    if (request.kind == REQUEST_QUEUE_DELETE) {
        forget_exclusive(channel->session, request.name);
        channel->deleting++;
    }
    bool exclusive = request.kind == REQUEST_QUEUE_DECLARE && (request.flags & (REQUEST_EXCLUSIVE | REQUEST_PASSIVE)) == REQUEST_EXCLUSIVE;
    bool pipelined = request_is_pipelined(method);
    request.tag = request_tag(channel, (no_wait ? REQUEST_TAG_NO_WAIT : 0) | (exclusive ? REQUEST_TAG_EXCLUSIVE : 0) | (pipelined ? REQUEST_TAG_PIPELINED : 0));
    if (pipelined)
        channel->pipelined++;
    else
        channel->waiting++;
    client_request(&channel->session->client, &request);
}

/* ---- answers ----------------------------------------------------------------------------------------------------------- */

static void send_ok(struct channel *channel, const struct reply *reply)
{
    struct amqp_value count = amqp_number(reply->messages);
    switch (reply->kind) {
    case REQUEST_QUEUE_DECLARE:
        if (UNLIKELY(reply_to_names(reply->name)))
            declare_ok(channel, reply->name, 0, 1);
        else
            declare_ok(channel, reply->name, reply->messages, reply->consumers);
        break;
    case REQUEST_QUEUE_DELETE: case REQUEST_QUEUE_PURGE:
        session_send(channel->session, channel->number, kinds[reply->kind].ok, &count);
        break;
    case REQUEST_CHANNEL: channel_opened(channel); break;
    default: session_send(channel->session, channel->number, kinds[reply->kind].ok, NULL); break;
    }
}

static void done(struct channel *channel, const struct reply *reply)
{
    if (reply->kind == REQUEST_QUEUE_DECLARE) {
        if (!channel_set_last_queue(channel, reply->name)) {
            error_out_of_memory(channel->session);
            return;
        }
        if (reply->tag & REQUEST_TAG_EXCLUSIVE)
            remember_exclusive(channel->session, reply->name);
    }
    if (!(reply->tag & REQUEST_TAG_NO_WAIT))
        send_ok(channel, reply);
}

void request_replied(struct session *session, const struct reply *reply)
{
    if (reply->channel == 0) {
        session_released(session);
        return;
    }
    struct channel *channel = channel_find_serial(session, reply->channel, reply->tag >> REQUEST_TAG_SHIFT);
    if (!channel)
        return;
    if (reply->kind == REQUEST_QUEUE_DELETE)
        channel->deleting--;
    uint16_t *waiting = reply->tag & REQUEST_TAG_PIPELINED ? &channel->pipelined : &channel->waiting;
    CHECK(*waiting > 0);
    --*waiting;
    if (channel->state != CHANNEL_OPEN || session->phase != PHASE_RUNNING)
        return;
    if (reply->tag & REQUEST_TAG_REPLY_TO)
        consume_reply_queue(channel, reply);
    else if (reply->code)
        error_raise_text(session, channel, reply->code, kinds[reply->kind].method, reply->text);
    else
        done(channel, reply);
    if (reply->kind == REQUEST_QUEUE_DELETE && !channel->deleting)
        consume_tell_cancelled(channel);
}
