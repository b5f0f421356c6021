/* Messages of a queue at another broker. There is no position: a message stays there until its event is on disk here, and what was not acknowledged comes again. */
#include "protocol/amqp/properties.h"
#include "sources/source_state.h"

#include <stdio.h>

struct amqp_source {
    uint64_t epoch;                  /* which feed it is: numbers of an earlier one mean nothing any more */
    uint64_t epoch_us;
    struct amqp_properties properties;   /* of the message that is being taken in */
    struct bytes routing_key;
};

/* Which message an event was made of. */
struct amqp_mark {
    uint64_t epoch, number;
};

static const struct template_name names[] = {{"content_type", false}, {"data", false}, {"id", false}, {"routing_key", false}, {"source", false}, {"type", false}, {NULL, false}};

static bool find(const void *owner, struct bytes name, struct bytes more, struct bytes *value)
{
    const struct amqp_source *own = owner;
    (void)more;
    *value = bytes_equal(name, bytes_of_text("routing_key")) ? own->routing_key
             : bytes_equal(name, bytes_of_text("type"))      ? own->properties.type
             : bytes_equal(name, bytes_of_text("id"))        ? own->properties.message_id
                                                             : own->properties.content_type;
    return value->size > 0;
}

/* What is in the window was not acknowledged, and comes again over the next connection: not more than twice as much as may be under way is taken in. */
static void begin(struct source *source)
{
    struct amqp_source *own = source_own(source);
    const struct declaration *declaration = &source->declaration;
    own->epoch++;
    own->epoch_us = source->wall_us;
    if (window_is_full(source))
        source_again(source, declaration->retry_ms);
    else
        source_begin(source, &(struct feed_request){.kind = FEED_AMQP, .address = declaration->address, .name = declaration->id, .queue = declaration->queue, .prefetch = declaration->prefetch,
                                                    .is_local = declaration->local});
}

static void opened(struct source *source, struct feed_opening *opening)
{
    (void)opening;
    source_runs(source);
}

static void delivered(struct source *source, const struct feed_message *message)
{
    struct amqp_source *own = source_own(source);
    const struct amqp_mark mark = {own->epoch, message->number};
    char made[48], content_type[UINT8_MAX + 1];
    if (!amqp_properties_decode(message->properties, &own->properties))
        own->properties = (struct amqp_properties){0};
    own->routing_key = message->routing_key;
    struct bytes id = own->properties.message_id, said = own->properties.content_type;
    /* One without an id may be equal to another one, so that it gets a new one each time it comes. */
    if (!id.size)
        id = bytes_of(made, (size_t)snprintf(made, sizeof(made), "%llx-%llu", (unsigned long long)own->epoch_us, (unsigned long long)message->number));
    snprintf(content_type, sizeof(content_type), "%.*s", (int)said.size, said.size ? (const char *)said.data : "");
    const struct source_item item = {.data = message->body, .find = find, .owner = own, .id = id, .mark = bytes_of(&mark, sizeof(mark)), .content_type = content_type[0] ? content_type : NULL,
                                     .time_ms = own->properties.timestamp < UINT64_MAX / 1000000 ? own->properties.timestamp * 1000 : 0};
    if (!source_emit(source, &item))
        source_failed(source, source->declaration.retry_ms, "There was too little memory for a message, which comes again.");
}

static void settled(struct source *source, struct bytes mark)
{
    struct amqp_source *own = source_own(source);
    struct amqp_mark of;
    memcpy(&of, mark.data, sizeof(of));
    if (of.epoch == own->epoch && source->feed.transport)
        source->feeder->settle(source->feeder, &source->feed, of.number);
}

const struct source_kind kind_amqp = {
    .name = "amqp", .settings = SETTING_AMQP | SETTING_RETRY, .names = names, .has_json = true, .without_position = true,
    .defaults = {[TEMPLATE_TYPE] = "{{routing_key}}", [TEMPLATE_DATA] = "{{data}}"}, .fallback = "amqp.message", .size = sizeof(struct amqp_source),
    .begin = begin, .opened = opened, .delivered = delivered, .settled = settled,
};
