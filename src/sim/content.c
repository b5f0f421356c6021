#include "sim/content.h"

#include "base/err.h"
#include "protocol/amqp/properties.h"

#include <stdio.h>

static uint64_t body_size(const struct content_taste *taste, struct random *random)
{
    switch (random_below(random, 64)) {
    case 0: return 0;
    case 1: return random_below(random, taste->largest + 1);
    default: return random_size(random, taste->usual);
    }
}

static struct bytes headers(struct content *content, struct random *random, uint8_t *room, size_t size)
{
    struct amqp_table_writer writer;
    struct bytes table;
    amqp_table_begin(&writer, room, size);
    amqp_table_put_int(&writer, "colour", (int32_t)content->colour);
    if (random_chance(random, 1, 4)) {
        amqp_table_put_long(&writer, "time", (int64_t)random_next(random));
        size_t mark = amqp_table_nest_begin(&writer, "within");
        amqp_table_put_bool(&writer, "yes", true);
        amqp_table_put_text(&writer, "text", bytes_of_text("h\xc3\xa9"));
        amqp_table_nest_end(&writer, mark);
    }
    CHECK(amqp_table_finish(&writer, &table));
    return table;
}

void content_make(const struct content_taste *taste, uint64_t number, struct content *content)
{
    struct random random;
    random_init(&random, random_mix(taste->seed) ^ number);
    char id[17];
    uint8_t room[256];
    snprintf(id, sizeof(id), "%016lx", (unsigned long)number);
    content->persistent = random_below(&random, 16) < taste->persistent;
    content->colour = (unsigned)random_below(&random, CONTENT_COLOURS);
    content->body_size = body_size(taste, &random);
    content->body_seed = random_next(&random);
    struct amqp_properties properties = {
        .flags = AMQP_MESSAGE_ID | AMQP_HEADERS | AMQP_DELIVERY_MODE,
        .message_id = bytes_of(id, 16),
        .headers = headers(content, &random, room, sizeof(room)),
        .delivery_mode = content->persistent ? 2 : 1,
    };
    uint64_t more = random_next(&random);
    if (more & 1) {
        properties.flags |= AMQP_CONTENT_TYPE | AMQP_PRIORITY;
        properties.content_type = bytes_of_text("text/plain");
        properties.priority = (uint8_t)(more >> 8);
    }
    if (more & 2) {
        properties.flags |= AMQP_CORRELATION_ID | AMQP_REPLY_TO | AMQP_MESSAGE_TIMESTAMP;
        properties.correlation_id = bytes_of(id + 8, (size_t)(more >> 16 & 7));
        properties.reply_to = bytes_of_text("somewhere");
        properties.timestamp = more;
    }
    if (more & 4) {
        properties.flags |= AMQP_TYPE | AMQP_APP_ID | AMQP_CONTENT_ENCODING;
        properties.type = bytes_of_text("");
        properties.app_id = bytes_of_text("sim");
        properties.content_encoding = bytes_of_text("identity");
    }
    size_t size = amqp_properties_encode(&properties, content->properties, sizeof(content->properties));
    CHECK(size > 0);
    content->properties_size = (uint16_t)size;
}

void content_body(const struct content *content, uint8_t *to)
{
    struct random random;
    random_init(&random, content->body_seed);
    random_fill(&random, to, content->body_size);
}

uint64_t content_number(struct bytes bytes)
{
    struct amqp_properties properties;
    uint64_t number = 0;
    if (!amqp_properties_decode(bytes, &properties) || properties.message_id.size != 16)
        return 0;
    for (unsigned i = 0; i < 16; i++) {
        char c = (char)properties.message_id.data[i];
        if ((c < '0' || c > '9') && (c < 'a' || c > 'f'))
            return 0;
        number = number << 4 | (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return number;
}
