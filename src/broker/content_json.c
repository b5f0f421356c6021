#include "broker/content_json.h"

#include "broker/table_json.h"
#include "protocol/amqp/properties.h"

#include <openssl/evp.h>
#include <stdlib.h>

static void write_properties(struct writer *writer, struct bytes properties)
{
    struct amqp_properties decoded;
    if (!amqp_properties_decode(properties, &decoded))
        return;
    const struct { enum amqp_property flag; const char *name; struct bytes text; } texts[] = {
        {AMQP_CONTENT_TYPE, "content_type", decoded.content_type},
        {AMQP_CONTENT_ENCODING, "content_encoding", decoded.content_encoding},
        {AMQP_CORRELATION_ID, "correlation_id", decoded.correlation_id},
        {AMQP_REPLY_TO, "reply_to", decoded.reply_to},
        {AMQP_EXPIRATION, "expiration", decoded.expiration},
        {AMQP_MESSAGE_ID, "message_id", decoded.message_id},
        {AMQP_TYPE, "type", decoded.type},
        {AMQP_USER_ID, "user_id", decoded.user_id},
        {AMQP_APP_ID, "app_id", decoded.app_id},
        {AMQP_CLUSTER_ID, "cluster_id", decoded.cluster_id},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (decoded.flags & texts[i].flag)
            writer_put_string(writer, texts[i].name, texts[i].text);
    if (decoded.flags & AMQP_DELIVERY_MODE)
        writer_put_integer(writer, "delivery_mode", decoded.delivery_mode);
    if (decoded.flags & AMQP_PRIORITY)
        writer_put_integer(writer, "priority", decoded.priority);
    if (decoded.flags & AMQP_MESSAGE_TIMESTAMP)
        writer_put_integer(writer, "timestamp", (int64_t)decoded.timestamp);
    if (decoded.flags & AMQP_HEADERS) {
        writer_key(writer, bytes_of_text("headers"));
        table_write_json(decoded.headers, writer);
    }
}

static void write_base64(struct writer *writer, struct bytes bytes)
{
    char *text = malloc(bytes.size / 3 * 4 + 8);
    int size = text ? EVP_EncodeBlock((unsigned char *)text, bytes.data, (int)bytes.size) : 0;
    writer_put_string(writer, "body_base64", bytes_of(text ? text : "", (size_t)size));
    free(text);
}

/* Where a text is cut, no character is. */
static struct bytes cut(struct bytes body, uint64_t most)
{
    size_t size = body.size < most ? body.size : (size_t)most;
    for (unsigned i = 0; i < 3 && size && size < body.size && (body.data[size] & 0xC0) == 0x80; i++)
        size--;
    return bytes_of(body.data, size);
}

void content_write_json(struct writer *writer, const struct message *message, uint64_t body_max)
{
    writer_put_string(writer, "exchange", message->exchange);
    writer_put_string(writer, "routing_key", message->routing_key);
    writer_put_open(writer, "properties", '{');
    write_properties(writer, message->properties);
    writer_close(writer, '}');
    writer_put_integer(writer, "body_size", (int64_t)message->body.size);
    if (!body_max)
        return;
    struct bytes body = cut(message->body, body_max);
    if (amqp_utf8_valid(body))
        writer_put_string(writer, "body", body);
    else
        write_base64(writer, body);
}
