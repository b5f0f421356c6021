/* A libFuzzer target: a talk with a broker that says anything. The first octet says how far the log-in has come; then come steps: an octet below 200 is the number of bytes
 * that follow to be fed, the others make the owner do something. Nothing may crash, leak, or say what is no frame. */
#include "client/talk_story.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask(struct story *story, uint8_t what)
{
    struct amqp_value nothing[AMQP_ARGUMENTS_MAX] = {{{0}}};
    uint64_t number;
    if (what == 201)
        talk_close(story->talk, story->now_ms);
    if (what == 202) {
        story->now_ms += 4000;
        talk_tick(story->talk, story->now_ms);
    }
    if (what == 203)
        talk_lost(story->talk, NULL);
    if (what == 204)
        story_hear(story);
    if (!story->channel)
        return;
    switch (what) {
    case 205: (void)talk_confirm_select(story->channel); break;
    case 206: (void)talk_consume(story->channel, "q", "c", false, false, (struct bytes){0}, on_answered, story); break;
    case 207: (void)talk_get(story->channel, "q", true, on_fetched, story); break;
    case 208: (void)talk_get(story->channel, "q", false, on_fetched, story); break;
    case 209: (void)talk_call(story->channel, AMQP_QUEUE_DECLARE, nothing, AMQP_QUEUE_DECLARE_OK, on_answered, story); break;
    case 210: story->settles = !story->settles; break;
    case 211: talk_channel_close(story->channel); story->channel = NULL; break;
    default: (void)talk_publish(story->channel, bytes_of_text(""), bytes_of_text("q"), true, bytes_of("\0\0", 2), bytes_of("body", 4), &number);
    }
}

static void on_closed_and_gone(void *owner, unsigned code, struct bytes text)
{
    struct story *story = owner;
    on_closed(owner, code, text);
    story->channel = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct story *story = calloc(1, sizeof *story);
    if (size == 0 || !story || !story_talk(story)) {
        free(story);
        return 0;
    }
    if (data[0] & 1) {
        struct talk_channel_events events = {.owner = story, .delivered = on_delivered, .returned = on_returned, .confirmed = on_confirmed,
                                             .cancelled = on_cancelled, .closed = on_closed_and_gone};
        say_welcome(story);
        story_feed(story, 0, 0);
        story->channel = talk_channel_open(story->talk, &events);
    }
    for (size_t at = 1; at < size;) {
        uint8_t step = data[at++];
        if (step >= 200) {
            if (talk_state(story->talk) != TALK_ENDED)
                ask(story, step);
            continue;
        }
        size_t piece = step < size - at ? step : size - at;
        uint8_t *copy = malloc(piece + 1);   /* so that a byte too far is noticed */
        CHECK(copy);
        memcpy(copy, data + at, piece);
        talk_feed(story->talk, bytes_of(copy, piece), story->now_ms);
        free(copy);
        at += piece;
    }
    story_hear(story);
    CHECK(talk_state(story->talk) != TALK_ENDED || talk_error(story->talk)[0]);
    talk_free(story->talk);
    free(story);
    return 0;
}
