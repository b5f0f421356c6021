/* For tests: what a broker says to a talk, as bytes, and what the talk's owner is told, as text. */
#ifndef CLIENT_TALK_STORY_H
#define CLIENT_TALK_STORY_H

#include "client/talk.h"

#include <stdarg.h>
#include <stdio.h>

struct story {
    uint8_t said[1 << 16];           /* by the broker, not fed yet */
    size_t said_size;
    char told[1 << 14];              /* a line for each event */
    size_t told_size;
    struct talk *talk;
    struct talk_channel *channel;
    bool settles;                    /* deliveries are acknowledged as they come, every third one is given back */
    uint64_t now_ms;
};

static inline void tell(struct story *story, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline void tell(struct story *story, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(story->told + story->told_size, sizeof story->told - story->told_size, format, arguments);
    va_end(arguments);
    if (size > 0 && (size_t)size < sizeof story->told - story->told_size)
        story->told_size += (size_t)size;
}

/* The broker's side. */

static inline void say(struct story *story, uint16_t channel, enum amqp_method_id id, const struct amqp_value *values)
{
    story->said_size += amqp_method_frame(story->said + story->said_size, sizeof story->said - story->said_size, channel, id, values);
}

static inline void say_start(struct story *story)
{
    struct amqp_value values[AMQP_CONNECTION_START_COUNT] = {
        [AMQP_CONNECTION_START_VERSION_MINOR] = amqp_number(9),
        [AMQP_CONNECTION_START_SERVER_PROPERTIES] = amqp_bytes(bytes_of("\7productS\0\0\0\4Fake\7versionS\0\0\0\3""1.2", 33)),
        [AMQP_CONNECTION_START_MECHANISMS] = amqp_text("EXTERNAL PLAIN"),
        [AMQP_CONNECTION_START_LOCALES] = amqp_text("en_US"),
    };
    say(story, 0, AMQP_CONNECTION_START, values);
}

static inline void say_tune(struct story *story, unsigned heartbeat_s)
{
    struct amqp_value values[AMQP_CONNECTION_TUNE_COUNT] = {
        [AMQP_CONNECTION_TUNE_CHANNEL_MAX] = amqp_number(3),
        [AMQP_CONNECTION_TUNE_FRAME_MAX] = amqp_number(4096),
        [AMQP_CONNECTION_TUNE_HEARTBEAT] = amqp_number(heartbeat_s),
    };
    say(story, 0, AMQP_CONNECTION_TUNE, values);
}

static inline void say_welcome(struct story *story)
{
    struct amqp_value nothing[AMQP_CONNECTION_OPEN_OK_COUNT] = {{{0}}};
    say_start(story);
    say_tune(story, 10);
    say(story, 0, AMQP_CONNECTION_OPEN_OK, nothing);
}

/* Method, header and body, in frames of at most 4096 bytes. */
static inline void say_message(struct story *story, uint16_t channel, enum amqp_method_id id, const struct amqp_value *values, size_t body_size)
{
    say(story, channel, id, values);
    uint8_t *at = amqp_content_header_write(story->said + story->said_size, channel, body_size, bytes_of("\x10\0\2", 3));
    for (size_t done = 0; done < body_size;) {
        size_t size = body_size - done < 4088 ? body_size - done : 4088;
        at = amqp_frame_begin(at, AMQP_FRAME_BODY, channel, (uint32_t)size);
        for (size_t i = 0; i < size; i++)
            *at++ = (uint8_t)('a' + (done + i) % 26);
        *at++ = AMQP_FRAME_END;
        done += size;
    }
    story->said_size = (size_t)(at - story->said);
}

static inline void say_delivery(struct story *story, uint16_t channel, const char *tag, uint64_t number, size_t body_size)
{
    struct amqp_value values[AMQP_BASIC_DELIVER_COUNT] = {
        [AMQP_BASIC_DELIVER_CONSUMER_TAG] = amqp_text(tag),
        [AMQP_BASIC_DELIVER_DELIVERY_TAG] = amqp_number(number),
        [AMQP_BASIC_DELIVER_EXCHANGE] = amqp_text("events"),
        [AMQP_BASIC_DELIVER_ROUTING_KEY] = amqp_text("order.created"),
    };
    say_message(story, channel, AMQP_BASIC_DELIVER, values, body_size);
}

static inline void say_confirm(struct story *story, uint16_t channel, enum amqp_method_id id, uint64_t number, bool multiple)
{
    struct amqp_value values[AMQP_BASIC_ACK_COUNT + 1] = {amqp_number(number), amqp_number(multiple)};
    say(story, channel, id, values);
}

static inline void say_close(struct story *story, uint16_t channel, enum amqp_method_id id, unsigned code, const char *text)
{
    struct amqp_value values[AMQP_CHANNEL_CLOSE_COUNT] = {
        [AMQP_CHANNEL_CLOSE_REPLY_CODE] = amqp_number(code),
        [AMQP_CHANNEL_CLOSE_REPLY_TEXT] = amqp_text(text),
    };
    say(story, channel, id, values);
}

/* The owner's side. */

static inline void on_opened(void *owner)
{
    struct story *story = owner;
    tell(story, "opened %s, frames of %u\n", talk_product(story->talk), talk_frame_max(story->talk));
}

static inline void on_blocked(void *owner, bool blocked, struct bytes reason)
{
    tell(owner, "%s %.*s\n", blocked ? "blocked:" : "unblocked", (int)reason.size, (const char *)reason.data);
}

static inline void on_delivered(void *owner, const struct remote_message *message)
{
    struct story *story = owner;
    unsigned sum = 0;
    for (size_t i = 0; i < message->body.size; i++)
        sum = sum * 31 + message->body.data[i];
    tell(story, "delivered %.*s %llu: %zu bytes, %08x\n", (int)message->consumer_tag.size, (const char *)message->consumer_tag.data,
         (unsigned long long)message->delivery_tag, message->body.size, sum);
    if (!story->settles)
        return;
    if (message->delivery_tag % 3)
        talk_ack(story->channel, message->delivery_tag);
    else
        (void)talk_nack(story->channel, message->delivery_tag, true);
}

static inline void on_returned(void *owner, const struct remote_message *message)
{
    tell(owner, "returned %u %.*s: %zu bytes\n", message->reply_code, (int)message->reply_text.size, (const char *)message->reply_text.data,
         message->body.size);
}

static inline void on_confirmed(void *owner, uint64_t first, uint64_t last, bool accepted)
{
    tell(owner, "%s %llu to %llu\n", accepted ? "confirmed" : "refused", (unsigned long long)first, (unsigned long long)last);
}

static inline void on_cancelled(void *owner, struct bytes consumer_tag)
{
    tell(owner, "cancelled %.*s\n", (int)consumer_tag.size, (const char *)consumer_tag.data);
}

static inline void on_closed(void *owner, unsigned code, struct bytes text)
{
    tell(owner, "channel closed: %u %.*s\n", code, (int)text.size, (const char *)text.data);
}

static inline void on_answered(void *context, const struct amqp_method *answer)
{
    tell(context, "answered: %s\n", answer ? answer->row->name : "nothing");
}

static inline void on_fetched(void *context, const struct remote_message *message, bool closed)
{
    if (message)
        tell(context, "fetched: %zu bytes, %u left\n", message->body.size, message->left);
    else
        tell(context, "fetched nothing%s\n", closed ? ": closed" : "");
}

static inline struct talk *story_talk(struct story *story)
{
    struct uri uri;
    const char *complaint;
    CHECK(uri_parse(&uri, "amqp://ada:secret@localhost/%2F?heartbeat=20", &complaint) == GW_OK);
    struct talk_settings settings = {.uri = &uri, .name = "a story", .body_max = 20000, .now_ms = story->now_ms};
    struct talk_events events = {.owner = story, .opened = on_opened, .blocked = on_blocked};
    return story->talk = talk_new(&settings, &events);
}

static inline struct talk_channel *story_channel(struct story *story)
{
    struct talk_channel_events events = {.owner = story, .delivered = on_delivered, .returned = on_returned, .confirmed = on_confirmed,
                                         .cancelled = on_cancelled, .closed = on_closed};
    return story->channel = talk_channel_open(story->talk, &events);
}

/* All that the broker has said so far arrives, `piece` bytes at a time (0: at once), the first piece `first` bytes. */
static inline void story_feed(struct story *story, size_t first, size_t piece)
{
    for (size_t done = 0; done < story->said_size;) {
        size_t size = done == 0 && first ? first : piece ? piece : story->said_size;
        if (size > story->said_size - done)
            size = story->said_size - done;
        talk_feed(story->talk, bytes_of(story->said + done, size), story->now_ms);
        done += size;
    }
    story->said_size = 0;
}

/* What was said, one line a frame. */
static inline void hear(struct story *story, struct bytes out)
{
    for (size_t at = 0; at < out.size;) {
        struct amqp_frame frame;
        struct amqp_method method = {0};
        struct bytes rest = bytes_of(out.data + at, out.size - at);
        if (amqp_protocol_header_read(rest) == WIRE_OK) {
            tell(story, "< AMQP\n");
            at += AMQP_PROTOCOL_HEADER_SIZE;
            continue;
        }
        CHECK(amqp_frame_read(rest, 0, &frame) == WIRE_OK);
        at += frame.size;
        if (frame.type == AMQP_FRAME_METHOD) {
            CHECK(amqp_method_decode(frame.payload, &method) == AMQP_DECODED);
            tell(story, "< %u %s", frame.channel, method.row->name);
            if (method.row->id == AMQP_BASIC_ACK || method.row->id == AMQP_BASIC_NACK)
                tell(story, " %llu%s", (unsigned long long)method.values[0].number, method.values[1].number ? " and before" : "");
            if (method.row->id == AMQP_BASIC_NACK_AFTER)
                tell(story, " %llu %llu", (unsigned long long)method.values[0].number, (unsigned long long)method.values[1].number);
            if (method.row->id == AMQP_QUEUE_DECLARE)
                tell(story, " %.*s%s%s", (int)method.values[AMQP_QUEUE_DECLARE_QUEUE].bytes.size, (const char *)method.values[AMQP_QUEUE_DECLARE_QUEUE].bytes.data,
                     method.values[AMQP_QUEUE_DECLARE_PASSIVE].number ? " passively" : "", method.values[AMQP_QUEUE_DECLARE_ARGUMENTS].bytes.size ? " with arguments" : "");
            tell(story, "\n");
        } else {
            tell(story, "< %u %s of %zu\n", frame.channel, frame.type == AMQP_FRAME_HEARTBEAT ? "heartbeat" : frame.type == AMQP_FRAME_BODY ? "body" : "header",
                 frame.payload.size);
        }
    }
}

/* What the talk has to say. */
static inline void story_hear(struct story *story)
{
    struct bytes out = talk_output(story->talk);
    hear(story, out);
    talk_sent(story->talk, out.size, story->now_ms);
}

#endif
