#include "protocol/amqp/admit.h"

#include "protocol/amqp/copies.h"
#include "protocol/amqp/errors.h"
#include "protocol/amqp/expiration.h"
#include "protocol/amqp/reply_to.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- refusing ---------------------------------------------------------------------------------------------------------------- */

static void refuse_transaction(struct channel *channel, const struct publish *publish)
{
    char why[400];
    client_publish_fault(publish, why, sizeof(why));
    error_raise(channel->session, channel, AMQP_PRECONDITION_FAILED, AMQP_BASIC_PUBLISH, "%s", why);
}

void admit_refuse_publish(struct channel *channel, const struct publish *publish, enum publish_result result)
{
    const char *exchange = (const char *)publish->exchange.data;
    int size = (int)publish->exchange.size;
    struct bytes vhost = client_vhost_name(&channel->session->client), user = channel->session->client.user, key = publish->routing_key;
    switch (result) {
    case PUBLISH_ACCESS_REFUSED:
        error_raise(channel->session, channel, AMQP_ACCESS_REFUSED, AMQP_BASIC_PUBLISH, "access to exchange '%.*s' in vhost '%.*s' refused for user '%.*s'",
                    size ? size : (int)sizeof("amq.default") - 1, size ? exchange : "amq.default", (int)vhost.size, (const char *)vhost.data, (int)user.size,
                    (const char *)user.data);
        break;
    case PUBLISH_TOPIC_REFUSED:
        error_raise(channel->session, channel, AMQP_ACCESS_REFUSED, AMQP_BASIC_PUBLISH,
                    "access to topic '%.*s' in exchange '%.*s' in vhost '%.*s' refused for user '%.*s'", (int)key.size, (const char *)key.data, size, exchange,
                    (int)vhost.size, (const char *)vhost.data, (int)user.size, (const char *)user.data);
        break;
    case PUBLISH_NO_EXCHANGE:
        error_raise(channel->session, channel, AMQP_NOT_FOUND, AMQP_BASIC_PUBLISH, "no exchange '%.*s' in vhost '%.*s'", size, exchange, (int)vhost.size,
                    (const char *)vhost.data);
        break;
    case PUBLISH_INTERNAL_EXCHANGE:
        error_raise(channel->session, channel, AMQP_ACCESS_REFUSED, AMQP_BASIC_PUBLISH, "cannot publish to internal exchange '%.*s' in vhost '%.*s'", size, exchange,
                    (int)vhost.size, (const char *)vhost.data);
        break;
    case PUBLISH_BAD_DELAY:
        error_raise(channel->session, channel, AMQP_PRECONDITION_FAILED, AMQP_BASIC_PUBLISH, "invalid header: x-delay and x-deliver-at reach at most 100 years ahead");
        break;
    case PUBLISH_BAD_TRANSACTION: refuse_transaction(channel, publish); break;
    case PUBLISH_CHECK_REFUSED:
        error_raise(channel->session, channel, AMQP_ACCESS_REFUSED, AMQP_BASIC_PUBLISH,
                    "access to exchange 'amq.default' in vhost '%.*s' refused for user '%.*s', who wants to be asked at a queue", (int)vhost.size,
                    (const char *)vhost.data, (int)user.size, (const char *)user.data);
        break;
    case PUBLISH_REFUSED:
        error_raise(channel->session, channel, AMQP_INTERNAL_ERROR, AMQP_BASIC_PUBLISH, "durable storage takes no messages");
        break;
    default:
        error_raise(channel->session, channel, AMQP_RESOURCE_ERROR, AMQP_BASIC_PUBLISH, "no memory for the message");
        break;
    }
}

/* Is the exchange one that may be published to? RabbitMQ complains of it before it looks at the message's properties. */
static bool exchange_is_good(struct channel *channel, const struct publish *publish)
{
    enum publish_result result = client_publish_judge(&channel->session->client, publish);
    if (result != PUBLISH_ROUTED)
        admit_refuse_publish(channel, publish, result);
    return result == PUBLISH_ROUTED;
}

/* A fault of the message, told unless the exchange has one. */
__attribute__((format(printf, 3, 4)))
static void refuse(struct channel *channel, const struct publish *publish, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    if (!exchange_is_good(channel, publish))
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    error_raise(channel->session, channel, AMQP_PRECONDITION_FAILED, AMQP_BASIC_PUBLISH, "%s", text);
}

void admit_refuse_immediate(struct channel *channel)
{
    error_raise(channel->session, channel, AMQP_NOT_IMPLEMENTED, AMQP_BASIC_PUBLISH, "immediate=true");
}

void admit_refuse_size(struct channel *channel, const struct publish *publish)
{
    error_raise(channel->session, channel, AMQP_PRECONDITION_FAILED, AMQP_BASIC_PUBLISH, "message size %llu is larger than configured max size %llu",
                (unsigned long long)publish->body_size, (unsigned long long)channel->session->config->max_message_size);
}

/* ---- expiration ---------------------------------------------------------------------------------------------------------------- */

static bool admit_expiration(struct channel *channel, const struct publish *publish, struct bytes text)
{
    uint64_t ms;
    char why[400];
    if (amqp_expiration_read(text, &ms, why, sizeof(why)))
        return true;
    refuse(channel, publish, "invalid expiration '%.*s': %s", (int)text.size, (const char *)text.data, why);
    return false;
}

/* ---- the rest ------------------------------------------------------------------------------------------------------------------ */

/* Properties are stored otherwise than they came: `headers` has room for the table without BCC, NULL when that stays. */
static bool rewrite(struct channel *channel, struct publish *publish, struct amqp_properties *properties, uint8_t *headers, struct admitted *admitted)
{
    if (headers)
        properties->headers = bytes_of(headers, copies_without_bcc(properties->headers, headers));
    size_t size = amqp_properties_size(properties);
    admitted->rewritten = malloc(size);
    if (!admitted->rewritten) {
        error_out_of_memory(channel->session);
        return false;
    }
    publish->properties = bytes_of(admitted->rewritten, amqp_properties_encode(properties, admitted->rewritten, size));
    return true;
}

static bool admit_user(struct channel *channel, const struct publish *publish, struct bytes user)
{
    struct session *session = channel->session;
    if (bytes_equal(user, session->client.user) || client_is_tagged(&session->client, "impersonator"))
        return true;
    refuse(channel, publish, "user_id property set to '%.*s' but authenticated user was '%.*s'", (int)user.size, (const char *)user.data, session->user_size,
           session->user);
    return false;
}

static bool admit_copies(struct channel *channel, const struct publish *publish, const struct amqp_properties *properties, struct admitted *admitted)
{
    char text[128];
    switch (copies_find(properties->headers, admitted->copies, text, sizeof(text))) {
    case COPIES_NONE:
        return true;
    case COPIES_FOUND:
        admitted->copied = true;
        return true;
    case COPIES_INVALID:
        break;
    }
    refuse(channel, publish, "%s", text);
    return false;
}

/* In RabbitMQ's order. */
static bool judge_properties(struct channel *channel, struct publish *publish, const struct amqp_properties *properties, bool replies, struct admitted *admitted)
{
    if (replies && !channel->reply_queue) {
        refuse(channel, publish, "fast reply consumer does not exist");
        return false;
    }
    if ((properties->flags & AMQP_USER_ID) && !admit_user(channel, publish, properties->user_id))
        return false;
    if ((properties->flags & AMQP_EXPIRATION) && !admit_expiration(channel, publish, properties->expiration))
        return false;
    if ((properties->flags & AMQP_DELIVERY_MODE) && properties->delivery_mode != 1 && properties->delivery_mode != 2) {
        refuse(channel, publish, "invalid message: {delivery_mode_unknown,%u}", properties->delivery_mode);
        return false;
    }
    return !(properties->flags & AMQP_HEADERS) || admit_copies(channel, publish, properties, admitted);
}

bool admit_properties(struct channel *channel, struct publish *publish, struct admitted *admitted)
{
    struct amqp_properties properties;
    if (!amqp_properties_decode(publish->properties, &properties)) {
        if (exchange_is_good(channel, publish))
            error_raise_text(channel->session, NULL, AMQP_INTERNAL_ERROR, 0, bytes_of_text("INTERNAL_ERROR"));
        return false;
    }
    publish->persistent = (properties.flags & AMQP_DELIVERY_MODE) && properties.delivery_mode == 2;
    bool replies = (properties.flags & AMQP_REPLY_TO) && reply_to_is(properties.reply_to);
    if (!judge_properties(channel, publish, &properties, replies, admitted))
        return false;
    if (!replies && !admitted->copies[1].data)
        return true;
    if (replies)
        properties.reply_to = bytes_of_text(channel->reply_queue);
    uint8_t *headers = admitted->copies[1].data ? malloc(properties.headers.size) : NULL;
    if (admitted->copies[1].data && !headers) {
        error_out_of_memory(channel->session);
        return false;
    }
    bool rewritten = rewrite(channel, publish, &properties, headers, admitted);
    free(headers);
    return rewritten;
}
