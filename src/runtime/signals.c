#include "runtime/signals.h"

#include <signal.h>
#include <stdlib.h>

struct signals {
    uv_signal_t terminate, interrupt, hangup;
    void (*stop)(void *owner, unsigned count);
    void (*reload)(void *owner);
    void *owner;
    unsigned count;
    unsigned open_handles;
};

void signals_ignore_those_that_are_errors(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct signals *s = handle->data;
    (void)number;
    s->stop(s->owner, ++s->count);
}

enum gw_err signals_open(uv_loop_t *loop, void (*stop)(void *owner, unsigned count), void *owner, struct signals **signals)
{
    struct signals *s = calloc(1, sizeof(*s));
    if (!s)
        return GW_ERR_NOMEM;
    *s = (struct signals){.stop = stop, .owner = owner, .open_handles = 3};
    if (uv_signal_init(loop, &s->terminate) != 0) {
        free(s);
        return GW_ERR_LIMIT;
    }
    /* The loop has its signal pipe now: the rest cannot fail. */
    uv_signal_init(loop, &s->interrupt);
    uv_signal_init(loop, &s->hangup);
    s->terminate.data = s->interrupt.data = s->hangup.data = s;
    uv_signal_start(&s->terminate, on_signal, SIGTERM);
    uv_signal_start(&s->interrupt, on_signal, SIGINT);
    *signals = s;
    return GW_OK;
}

static void on_hangup(uv_signal_t *handle, int number)
{
    struct signals *s = handle->data;
    (void)number;
    s->reload(s->owner);
}

void signals_on_reload(struct signals *signals, void (*reload)(void *owner))
{
    signals->reload = reload;
    uv_signal_start(&signals->hangup, on_hangup, SIGHUP);
}

static void on_closed(uv_handle_t *handle)
{
    struct signals *s = handle->data;
    if (--s->open_handles == 0)
        free(s);
}

void signals_close(struct signals *signals)
{
    if (!signals)
        return;
    uv_close((uv_handle_t *)&signals->terminate, on_closed);
    uv_close((uv_handle_t *)&signals->interrupt, on_closed);
    uv_close((uv_handle_t *)&signals->hangup, on_closed);
}
