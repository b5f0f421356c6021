#include "runtime/wake.h"

#include <sys/eventfd.h>
#include <unistd.h>

static void on_event(uv_poll_t *poll, int status, int events)
{
    struct wake *wake = poll->data;
    uint64_t count;
    (void)status;
    (void)events;
    /* In this order: a send between the two is heard by what follows, one after them writes again. */
    (void)!read(wake->event, &count, sizeof(count));
    atomic_store(&wake->pending, false);
    if (wake->heard)
        wake->heard(wake);
}

enum gw_err wake_init(struct wake *wake, uv_loop_t *loop, void (*heard)(struct wake *wake))
{
    *wake = (struct wake){.heard = heard};
    wake->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wake->event < 0)
        return GW_ERR_LIMIT;
    if (uv_poll_init(loop, &wake->poll, wake->event) != 0) {
        close(wake->event);
        return GW_ERR_LIMIT;
    }
    wake->poll.data = wake;
    uv_poll_start(&wake->poll, UV_READABLE, on_event);
    return GW_OK;
}

void wake_send(struct wake *wake)
{
    uint64_t one = 1;
    if (!atomic_exchange(&wake->pending, true))
        (void)!write(wake->event, &one, sizeof(one));
}

static void on_closed(uv_handle_t *handle)
{
    struct wake *wake = handle->data;
    if (wake->closed)
        wake->closed(wake);
}

void wake_close(struct wake *wake, void (*closed)(struct wake *wake))
{
    wake->closed = closed;
    uv_close((uv_handle_t *)&wake->poll, on_closed);
    close(wake->event);
}
