/* Messages of a queue at another broker. There is no position: a message stays there until its event is on disk here, and what was not acknowledged comes again. But in a stream nothing ever goes, and
 * who comes to it says where he was: its messages have their offset in a header, by which it is known for one. */
#include "base/bugs.h"
#include "protocol/amqp/properties.h"
#include "sources/event_message.h"
#include "sources/source_state.h"

#include <stdio.h>

struct amqp_source {
    uint64_t epoch;                  /* which feed it is: numbers of an earlier one mean nothing any more */
    uint64_t epoch_us;
    struct amqp_properties properties;   /* of the message that is being taken in */
    struct bytes routing_key, type, id;  /* type, id: as whoever sent it has them */
    uint64_t offset_next;            /* of a stream: the first that has not come by this feed; 0: none has */
    uint64_t next;                   /* … whose event is not on disk; 0: it is not known */
};

/* Which message an event was made of. */
struct amqp_mark {
    uint64_t epoch, number;
    uint64_t next;                   /* of a stream: the offset of the one after it; 0: it is none */
};

static const struct template_name names[] = {{"content_type", false}, {"data", false}, {"header", true}, {"id", false}, {"routing_key", false}, {"source", false}, {"type", false}, {NULL, false}};

static bool find(const void *owner, struct bytes name, struct bytes more, struct bytes *value)
{
    const struct amqp_source *own = owner;
    struct amqp_field field;
    char header[UINT8_MAX + 1];
    if (bytes_equal(name, bytes_of_text("header"))) {
        snprintf(header, sizeof(header), "%.*s", (int)more.size, (const char *)more.data);
        if (!amqp_table_find(own->properties.headers, header, &field) || field.type != 'S')
            return false;
        *value = field.bytes;
        return true;
    }
    *value = bytes_equal(name, bytes_of_text("routing_key")) ? own->routing_key
             : bytes_equal(name, bytes_of_text("type"))      ? own->type
             : bytes_equal(name, bytes_of_text("id"))        ? own->id
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
    own->offset_next = 0;
    if (window_is_full(source))
        source_again(source, declaration->retry_ms);
    else
        source_begin(source, &(struct feed_request){.kind = FEED_AMQP, .address = declaration->address, .name = declaration->id, .queue = declaration->queue, .prefetch = declaration->prefetch,
                                                    .offset = own->next ? &own->next : NULL, .from_start = declaration->from_start,
                                                    .reach = declaration->reach});
}

static void opened(struct source *source, struct feed_opening *opening)
{
    (void)opening;
    source_runs(source);
}

/* What its sender says of it: as an event, which the message is when it has the attributes of one, or else as a message. */
static struct bytes said(const struct amqp_source *own, const char *attribute, struct bytes otherwise)
{
    struct bytes value;
    return event_message_attribute(own->properties.headers, attribute, &value) ? value : otherwise;
}

/* Behind its offset, if this is a stream: where offsets do not go up, somebody has put them into the messages of another queue. */
static uint64_t next_offset(struct amqp_source *own)
{
    struct amqp_field offset;
    if (!amqp_table_find(own->properties.headers, "x-stream-offset", &offset) || !amqp_field_is_integer(&offset) || offset.integer < 0 || (uint64_t)offset.integer < own->offset_next)
        return 0;
    return own->offset_next = (uint64_t)offset.integer + 1;
}

/* Of one without an id. A stream's has its offset there, which is the same whenever it comes. Any other may be equal to another one, so that it gets a new one each time: twice is better than not
 * at all, where a queue takes each id once. */
static struct bytes made_id(const struct amqp_source *own, const struct feed_message *message, uint64_t next, char made[48])
{
    int size = next ? snprintf(made, 48, "%llu", (unsigned long long)next - 1)
                    : snprintf(made, 48, "%llx-%llu", bug_enabled(BUG_SOURCE_ID_SHARED) ? 0ull : (unsigned long long)own->epoch_us, (unsigned long long)message->number);
    return bytes_of(made, (size_t)size);
}

static void delivered(struct source *source, const struct feed_message *message)
{
    struct amqp_source *own = source_own(source);
    struct amqp_mark mark = {.epoch = own->epoch, .number = message->number};
    char made[48], content_type[UINT8_MAX + 1];
    struct source_event event = {.carried = message->properties};
    struct bytes time;
    if (!amqp_properties_decode(message->properties, &own->properties)) {
        own->properties = (struct amqp_properties){0};
        event.carried = (struct bytes){0};
    }
    mark.next = next_offset(own);
    own->routing_key = message->routing_key;
    own->type = said(own, "type", own->properties.type.size ? own->properties.type : own->routing_key);
    event.id = own->id = said(own, "id", own->properties.message_id);
    event.source = said(own, "source", event.source);
    event.subject = said(own, "subject", event.subject);
    event.key = said(own, "partitionkey", event.key);
    event.keeps_time = event_message_attribute(own->properties.headers, "time", &time);
    snprintf(content_type, sizeof(content_type), "%.*s", (int)own->properties.content_type.size, own->properties.content_type.size ? (const char *)own->properties.content_type.data : "");
    const struct source_item item = {.data = message->body, .find = find, .owner = own, .said = &event, .id = own->id.size ? own->id : made_id(own, message, mark.next, made),
                                     .mark = bytes_of(&mark, sizeof(mark)), .content_type = content_type[0] ? content_type : NULL,
                                     .time_ms = own->properties.timestamp < UINT64_MAX / 1000000 ? own->properties.timestamp * 1000 : 0};
    if (!source_emit(source, &item))
        source_failed(source, source->declaration.retry_ms, "There was too little memory for a message, which comes again.");
}

static void settled(struct source *source, struct bytes mark)
{
    struct amqp_source *own = source_own(source);
    struct amqp_mark of;
    memcpy(&of, mark.data, sizeof(of));
    if (of.next) {
        own->next = of.next;
        source->keeps_position = true;
    }
    if (bug_enabled(BUG_SOURCE_OLD_SETTLES))
        of.epoch = own->epoch;
    if (bug_enabled(BUG_SOURCE_NEVER_SETTLED) && of.number % 100 == 99)
        return;
    if (of.epoch == own->epoch && source->feed.transport)
        source->feeder->settle(source->feeder, &source->feed, of.number);
}

/* That of another queue, as the source had before it was changed, says nothing of this one. */
static bool restore(struct source *source, const json_t *position)
{
    struct amqp_source *own = source_own(source);
    const json_t *next = json_object_get(position, "offset");
    const char *queue = json_string_value(json_object_get(position, "queue"));
    if (!json_is_integer(next) || json_integer_value(next) <= 0 || !queue || strcmp(queue, source->declaration.queue) != 0)
        return false;
    own->next = (uint64_t)json_integer_value(next);
    return true;
}

static json_t *position(const struct source *source)
{
    const struct amqp_source *own = source_own(source);
    return own->next ? json_pack("{s:I, s:s}", "offset", (json_int_t)own->next, "queue", source->declaration.queue) : NULL;
}

const struct source_kind kind_amqp = {
    .name = "amqp", .settings = SETTING_AMQP | SETTING_RETRY | SETTING_FROM, .names = names, .has_json = true, .without_position = true, .comes_again = true,
    .defaults = {[TEMPLATE_TYPE] = "{{type}}", [TEMPLATE_DATA] = "{{data}}"}, .fallback = "amqp.message", .size = sizeof(struct amqp_source),
    .begin = begin, .opened = opened, .delivered = delivered, .settled = settled, .restore = restore, .position = position,
};
