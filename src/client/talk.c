#include "client/talk_state.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BODY_MAX_DEFAULT (2ull << 30)
#define CLOSE_TIMEOUT_MS 5000u

/* Beginning and end. */

struct talk *talk_new(const struct talk_settings *settings, const struct talk_events *events)
{
    struct talk *talk = calloc(1, sizeof *talk);
    if (!talk)
        return NULL;
    talk->uri = *settings->uri;
    talk->events = *events;
    talk->body_max = settings->body_max ? settings->body_max : BODY_MAX_DEFAULT;
    talk->frame_max = AMQP_FRAME_MIN_SIZE;
    talk->expected = AMQP_CONNECTION_START;
    talk->began_ms = talk->sent_ms = talk->received_ms = settings->now_ms;
    talk->name = settings->name ? strdup(settings->name) : NULL;
    if ((settings->name && !talk->name) || remote_buffer_add(&talk->out, bytes_of(amqp_protocol_header, AMQP_PROTOCOL_HEADER_SIZE))) {
        talk_free(talk);
        return NULL;
    }
    return talk;
}

void talk_free(struct talk *talk)
{
    if (!talk)
        return;
    CHECK(talk->depth == 0);
    talk_channels_sweep(talk, true);
    remote_buffer_deinit(&talk->in);
    remote_buffer_deinit(&talk->out);
    free(talk->name);
    free(talk);
}

void talk_finish(struct talk *talk, enum talk_end end, const char *format, ...)
{
    va_list arguments;
    if (talk->state == TALK_ENDED)
        return;
    talk->state = TALK_ENDED;
    talk->end = end;
    va_start(arguments, format);
    vsnprintf(talk->error, sizeof talk->error, format, arguments);
    va_end(arguments);
}

void talk_lost(struct talk *talk, const char *why)
{
    if (talk->state == TALK_CLOSING)
        talk_finish(talk, TALK_END_GOODBYE, "the broker hung up after our goodbye");
    else if (talk->state == TALK_STARTING && talk->expected == AMQP_CONNECTION_TUNE)
        talk_finish(talk, TALK_END_REFUSED, "the broker hung up during log-in; is the password of user %s right?", talk->uri.user);
    else if (why)
        talk_finish(talk, TALK_END_LOST, "the connection to the broker was lost: %s", why);
    else
        talk_finish(talk, TALK_END_LOST, "the broker hung up");
}

void talk_close(struct talk *talk, uint64_t now_ms)
{
    struct amqp_value values[AMQP_CONNECTION_CLOSE_COUNT] = {
        [AMQP_CONNECTION_CLOSE_REPLY_CODE] = amqp_number(200),
        [AMQP_CONNECTION_CLOSE_REPLY_TEXT] = amqp_text("goodbye"),
    };
    if (talk->state == TALK_STARTING) {
        talk_finish(talk, TALK_END_GOODBYE, "closed before the log-in was over");
        return;
    }
    if (talk->state != TALK_OPEN)
        return;
    talk_write_acks(talk);
    talk_say_method(talk, 0, AMQP_CONNECTION_CLOSE, values);
    if (talk->state != TALK_OPEN)
        return;
    talk->state = TALK_CLOSING;
    talk->began_ms = now_ms;
}

enum talk_state talk_state(const struct talk *talk) { return talk->state; }
enum talk_end talk_end(const struct talk *talk) { return talk->end; }
const char *talk_error(const struct talk *talk) { return talk->error; }
unsigned talk_reply_code(const struct talk *talk) { return talk->reply_code; }
const char *talk_product(const struct talk *talk) { return talk->product; }
uint32_t talk_frame_max(const struct talk *talk) { return talk->frame_max; }
bool talk_is_blocked(const struct talk *talk) { return talk->blocked; }
bool talk_can_delay(const struct talk *talk) { return talk->can_delay; }

/* Bytes. */

void talk_feed(struct talk *talk, struct bytes bytes, uint64_t now_ms)
{
    if (talk->state == TALK_ENDED)
        return;
    talk->received_ms = now_ms;
    talk->depth++;
    if (remote_buffer_size(&talk->in) == 0) {
        size_t size = talk_read_frames(talk, bytes);
        bytes = bytes_of(bytes.data + size, bytes.size - size);
    } else {
        bool failed = remote_buffer_add(&talk->in, bytes) != GW_OK;
        bytes = (struct bytes){0};
        if (failed)
            talk_finish(talk, TALK_END_MEMORY, "out of memory");
        else
            remote_buffer_take(&talk->in, talk_read_frames(talk, remote_buffer_bytes(&talk->in)));
    }
    if (talk->state != TALK_ENDED && bytes.size && remote_buffer_add(&talk->in, bytes))
        talk_finish(talk, TALK_END_MEMORY, "out of memory");
    talk->depth--;
    talk_channels_sweep(talk, false);
}

struct bytes talk_output(struct talk *talk)
{
    talk_write_acks(talk);
    return remote_buffer_bytes(&talk->out);
}

void talk_sent(struct talk *talk, size_t size, uint64_t now_ms)
{
    remote_buffer_take(&talk->out, size);
    if (size)
        talk->sent_ms = now_ms;
}

size_t talk_output_size(const struct talk *talk)
{
    return remote_buffer_size(&talk->out);
}

void talk_say(struct talk *talk, const uint8_t *frame, size_t size)
{
    if (talk->state != TALK_ENDED && remote_buffer_add(&talk->out, bytes_of(frame, size)))
        talk_finish(talk, TALK_END_MEMORY, "out of memory");
}

void talk_say_method(struct talk *talk, uint16_t channel, enum amqp_method_id id, const struct amqp_value *values)
{
    uint8_t frame[TALK_SMALL_FRAME];
    talk_say(talk, frame, amqp_method_frame(frame, sizeof frame, channel, id, values));
}

/* Time. */

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t talk_deadline_ms(const struct talk *talk)
{
    uint64_t deadline = UINT64_MAX;
    if (talk->state == TALK_ENDED)
        return deadline;
    if (talk->state == TALK_STARTING)
        deadline = talk->began_ms + talk->uri.connection_timeout_ms;
    if (talk->state == TALK_CLOSING)
        deadline = talk->began_ms + CLOSE_TIMEOUT_MS;
    if (talk->heartbeat_ms) {
        deadline = sooner(deadline, talk->received_ms + 2ull * talk->heartbeat_ms);
        if (talk->state == TALK_OPEN && remote_buffer_size(&talk->out) == 0)
            deadline = sooner(deadline, talk->sent_ms + talk->heartbeat_ms / 2);
    }
    return deadline;
}

void talk_unheard(struct talk *talk, uint64_t now_ms)
{
    if (talk->state == TALK_OPEN)
        talk->received_ms = now_ms;
}

void talk_tick(struct talk *talk, uint64_t now_ms)
{
    if (talk->state == TALK_STARTING && now_ms - talk->began_ms >= talk->uri.connection_timeout_ms)
        talk_finish(talk, TALK_END_LOST, "the broker did not finish the log-in within %u ms", talk->uri.connection_timeout_ms);
    if (talk->state == TALK_CLOSING && now_ms - talk->began_ms >= CLOSE_TIMEOUT_MS)
        talk_finish(talk, TALK_END_GOODBYE, "the broker did not answer our goodbye");
    if (talk->state == TALK_ENDED || talk->heartbeat_ms == 0)
        return;
    if (now_ms - talk->received_ms >= 2ull * talk->heartbeat_ms) {
        talk_finish(talk, TALK_END_LOST, "the broker gave no sign of life for %u s", 2 * talk->heartbeat_ms / 1000);
        return;
    }
    /* What waits to be sent already is a better sign of life. */
    if (talk->state == TALK_OPEN && remote_buffer_size(&talk->out) == 0 && now_ms - talk->sent_ms >= talk->heartbeat_ms / 2) {
        uint8_t heartbeat[AMQP_FRAME_OVERHEAD];
        amqp_heartbeat_write(heartbeat);
        talk_say(talk, heartbeat, sizeof heartbeat);
    }
}
