/* That the process got a signal. */
#include "runtime/feeder_state.h"

#include <stdlib.h>

struct signal_feeding {
    struct feeding feeding;          /* first */
    uv_signal_t signal;
};

static struct signal_feeding *signal_of(struct feeding *feeding) { return (struct signal_feeding *)feeding; }

static void on_signal(uv_signal_t *signal, int number)
{
    struct signal_feeding *s = signal->data;
    if (s->feeding.feed)
        s->feeding.feed->events->signalled(s->feeding.feed, number);
    feeding_told(&s->feeding);
}

static struct feeding *begin(struct feeder_set *set, const struct feed_request *request)
{
    struct signal_feeding *s = calloc(1, sizeof(*s));
    if (!s || uv_signal_init(set->config.loop, &s->signal) != 0) {
        free(s);
        return NULL;
    }
    s->feeding.set = set;
    s->signal.data = s;
    s->feeding.handles = 1;
    uv_signal_start(&s->signal, on_signal, request->number);
    return &s->feeding;
}

/* They are few, and each is one event: what comes while it is paused is told all the same. */
static void pause_signal(struct feeding *feeding, bool paused) { (void)feeding, (void)paused; }

static void close_signal(struct feeding *feeding) { feeding_close_handle(feeding, (uv_handle_t *)&signal_of(feeding)->signal); }
static void free_signal(struct feeding *feeding) { free(feeding); }

const struct feeding_kind feeding_signal = {.begin = begin, .pause = pause_signal, .close = close_signal, .free = free_signal};
