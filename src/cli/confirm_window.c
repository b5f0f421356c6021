#include "cli/confirm_window.h"

#include <stdlib.h>

enum gw_err confirm_window_init(struct confirm_window *window, uint64_t capacity)
{
    uint64_t size = 1;
    CHECK(capacity > 0 && capacity <= UINT64_C(1) << 32);
    while (size < capacity)
        size *= 2;
    *window = (struct confirm_window){.stamps = calloc(size, sizeof *window->stamps), .mask = size - 1, .capacity = capacity, .first = 1, .next = 1};
    return window->stamps ? GW_OK : GW_ERR_NOMEM;
}

void confirm_window_deinit(struct confirm_window *window)
{
    free(window->stamps);
    window->stamps = NULL;
}

void confirm_window_add(struct confirm_window *window, uint64_t count, uint64_t stamp)
{
    CHECK(count <= confirm_window_room(window) && stamp != 0);
    for (uint64_t i = 0; i < count; i++)
        window->stamps[window->next++ & window->mask] = stamp;
}

static uint64_t age(uint64_t now, uint64_t stamp)
{
    return now > stamp ? now - stamp : 0;
}

uint64_t confirm_window_settle(struct confirm_window *window, uint64_t number, bool multiple, uint64_t now, struct histogram *ages)
{
    uint64_t settled = 0, run = 0, run_stamp = 0;
    if (number < window->first || number >= window->next)
        return 0;
    if (!multiple) {
        uint64_t *stamp = &window->stamps[number & window->mask];
        if (*stamp == 0)
            return 0;
        if (ages)
            histogram_add(ages, age(now, *stamp), 1);
        *stamp = 0;
        window->settled_ahead++;
        settled = 1;
    }
    /* Publishes that left together have the same stamp, and are counted together. */
    while (multiple && window->first <= number) {
        uint64_t stamp = window->stamps[window->first++ & window->mask];
        if (stamp == 0) {
            window->settled_ahead--;
            continue;
        }
        settled++;
        if (stamp != run_stamp) {
            if (ages && run)
                histogram_add(ages, age(now, run_stamp), run);
            run_stamp = stamp;
            run = 0;
        }
        run++;
    }
    if (ages && run)
        histogram_add(ages, age(now, run_stamp), run);
    while (window->first < window->next && window->stamps[window->first & window->mask] == 0) {
        window->first++;
        window->settled_ahead--;
    }
    return settled;
}
