#include "sim/bus_listener.h"

#include "base/err.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void answered(void *owner, struct bus_door *door, unsigned status, const char *body, size_t size)
{
    (void)door, (void)body, (void)size;
    CHECK(status == 0);   /* what is told is read otherwise */
    ((struct bus_listener *)owner)->is_answered = false;
}

void bus_listeners_init(struct bus_listeners *listeners, struct bus_model *model, struct random *random, struct bus_door *doors, unsigned count)
{
    *listeners = (struct bus_listeners){.model = model, .random = random, .trace = model->trace, .count = count};
    for (unsigned i = 0; i < count; i++) {
        struct bus_listener *listener = &listeners->list[i];
        *listener = (struct bus_listener){.listeners = listeners, .door = &doors[i]};
        listener->wish.patterns = (uint8_t)(i ? 1u << random_below(random, BUS_PATTERNS) : 4u /* all */);
        doors[i].answered = answered;
        doors[i].owner = listener;
        doors[i].is_patient = true;
    }
}

void bus_listeners_deinit(struct bus_listeners *listeners) { free(listeners->at); }

void bus_listener_act(struct bus_listener *listener)
{
    char head[256], last[64] = "";
    unsigned pattern = 0;
    if (listener->door->is_waiting) {
        if (random_chance(listener->listeners->random, 1, 4))
            bus_door_drop(listener->door);
        return;
    }
    while (!(listener->wish.patterns >> pattern & 1))
        pattern++;
    const char *text = bus_patterns[pattern];
    if (listener->has_last)
        snprintf(last, sizeof(last), "Last-Event-ID: %" PRIu64 "\r\n", listener->last);
    int prefix = strcspn(text, "#") < strlen(text) ? (int)strcspn(text, "#") : -1;   /* in a URL it is %23 */
    if (prefix < 0)
        snprintf(head, sizeof(head), "GET /events?from=first&type=%s HTTP/1.0\r\n%s", text, last);
    else
        snprintf(head, sizeof(head), "GET /events?from=first&type=%.*s%%23%s HTTP/1.0\r\n%s", prefix, text, text + prefix + 1, last);
    bus_door_ask(listener->door, head, NULL, 0);
}

/* ---- what it is told ------------------------------------------------------------------------------------------------------------- */

static bool wants(const struct bus_listener *listener, uint64_t number)
{
    const struct bus_event *event = bus_event(listener->listeners->model, number);
    return bus_wish_has(&listener->wish, event->type, event->grade);
}

/* Nothing that it wants lies at these offsets. */
static void check_between(struct bus_listener *listener, uint64_t from, uint64_t to)
{
    struct bus_listeners *listeners = listener->listeners;
    for (uint64_t offset = from; offset < to && offset < listeners->size; offset++)
        if (listeners->at[offset] && bus_event(listeners->model, listeners->at[offset])->confirmed && wants(listener, listeners->at[offset]))
            trace_fail(listeners->trace, "no gap unless told", "the listener at door %u was not told of event %" PRIu64 " at offset %" PRIu64 ", and of one behind it", listener->door->number,
                       listeners->at[offset], offset);
}

static void put_at(struct bus_listeners *listeners, uint64_t offset, uint64_t number)
{
    while (offset >= listeners->room) {
        uint64_t room = listeners->room ? listeners->room * 2 : 1024;
        listeners->at = realloc(listeners->at, room * sizeof(*listeners->at));
        CHECK(listeners->at);
        memset(listeners->at + listeners->room, 0, (room - listeners->room) * sizeof(*listeners->at));
        listeners->room = room;
    }
    listeners->size = offset >= listeners->size ? offset + 1 : listeners->size;
    uint64_t other = listeners->at[offset];
    if (other && other != number && bus_event(listeners->model, other)->confirmed)
        trace_fail(listeners->trace, "what is confirmed keeps its place", "event %" PRIu64 " was at offset %" PRIu64 ", and now event %" PRIu64 " is", other, offset, number);
    for (uint64_t i = 0; i < listeners->size && bus_event(listeners->model, number)->confirmed; i++)
        if (listeners->at[i] == number && i != offset)
            trace_fail(listeners->trace, "what is confirmed keeps its place", "event %" PRIu64 " is at offset %" PRIu64 " and at %" PRIu64, number, i, offset);
    listeners->at[offset] = number;
}

static void told(struct bus_listener *listener, const char *id, const char *data, bool is_gap)
{
    struct bus_listeners *listeners = listener->listeners;
    uint64_t offset = strtoull(id, NULL, 10), number = 0;
    const char *event = strstr(data, "\"id\":\"e");
    if (event)
        number = strtoull(event + 7, NULL, 10);
    if (listener->has_last && offset <= listener->last)
        trace_fail(listeners->trace, "listeners go forwards", "the listener at door %u is told of offset %" PRIu64 " after %" PRIu64, listener->door->number, offset, listener->last);
    if (is_gap) {   /* the stream is not full */
        trace_fail(listeners->trace, "no gap without a cause", "the listener at door %u is told of one up to %" PRIu64 ", after %" PRIu64, listener->door->number, offset, listener->last);
        return;
    }
    if (!number || number > listeners->model->event_count || !wants(listener, number)) {
        trace_fail(listeners->trace, "nothing appears", "the listener at door %u is told '%.100s'", listener->door->number, data);
        return;
    }
    trace_note(listeners->trace, "listener at door %u: offset %" PRIu64 ", event %" PRIu64, listener->door->number, offset, number);
    put_at(listeners, offset, number);
    check_between(listener, listener->has_last ? listener->last + 1 : 0, offset);
    listener->has_last = true;
    listener->last = offset;
    listener->told++;
}

/* One block, with a zero behind it. */
static void read_block(struct bus_listener *listener, char *block)
{
    const char *id = NULL, *data = NULL;
    bool is_gap = false;
    char *rest;
    for (char *line = strtok_r(block, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "id: ", 4) == 0)
            id = line + 4;
        else if (strncmp(line, "data: ", 6) == 0)
            data = line + 6;
        is_gap |= strcmp(line, "event: gap") == 0;
    }
    if (id && data)
        told(listener, id, data, is_gap);
}

static char *copy_of(const uint8_t *bytes, size_t size)
{
    char *copy = malloc(size + 1);
    CHECK(copy);
    memcpy(copy, bytes, size);
    copy[size] = 0;
    return copy;
}

bool bus_listener_read(struct bus_listener *listener)
{
    struct stream *stream = &listener->door->link.to_client;
    bool happened = false;
    for (;;) {
        struct bytes waiting = stream_bytes(stream);
        const char *mark = listener->is_answered ? "\n\n" : "\r\n\r\n";
        const uint8_t *end = waiting.size ? memmem(waiting.data, waiting.size, mark, strlen(mark)) : NULL;
        if (!end) {
            if (waiting.size && listener->door->gateway && gateway_finished(listener->door->gateway) && !listener->door->look)
                stream_clear(stream);   /* it will never be whole */
            return happened;
        }
        size_t size = (size_t)(end - waiting.data) + strlen(mark);
        char *block = copy_of(waiting.data, size);
        stream_read(stream, size);
        happened = true;
        if (listener->is_answered)
            read_block(listener, block);
        else if (strncmp(block + strcspn(block, " "), " 200", 4) != 0)
            trace_fail(listener->listeners->trace, "no error unasked", "the listener at door %u was answered %.100s", listener->door->number, block);
        listener->is_answered = true;
        free(block);
    }
}

void bus_listener_rested(struct bus_listener *listener)
{
    check_between(listener, listener->has_last ? listener->last + 1 : 0, listener->listeners->size);
}
