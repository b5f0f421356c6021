#include "lib/loop.h"

#include "lib/bus.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define ALIVE 0x60D317u
#define FAREWELL_MS 5000u            /* what gw_loop_free gives handlers to finish */

/* ---- what is told of errors ------------------------------------------------------------------------------------------------ */

int loop_fail(struct gw_loop *loop, int result, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(loop->error, sizeof(loop->error), format, arguments);
    va_end(arguments);
    return result;
}

int loop_result(enum gw_err err)
{
    switch (err) {
    case GW_OK: return GW_DONE;
    case GW_ERR_NOMEM: return GW_E_MEMORY;
    case GW_ERR_FULL: return GW_E_FULL;
    case GW_ERR_IO:
    case GW_ERR_FAILED: return GW_E_STORAGE;
    case GW_ERR_CORRUPT:
    case GW_ERR_VERSION: return GW_E_DAMAGED;
    case GW_ERR_BUSY: return GW_E_BUSY;
    case GW_ERR_PERMISSION: return GW_E_PERMISSION;
    case GW_ERR_LIMIT: return GW_E_LIMIT;
    case GW_ERR_CLOSED: return GW_E_CLOSED;
    case GW_ERR_INVALID:
    case GW_ERR_NOT_FOUND: return GW_E_INVALID;
    default: return GW_E_SYSTEM;
    }
}

const char *gw_error(const gw_loop *loop) { return loop ? loop->error : ""; }

const char *gw_version(void) { return GODWIT_VERSION; }

const char *gw_result_text(int result)
{
    static const char *const texts[] = {
        "done", "invalid argument", "out of memory", "the loop belongs to another thread", "this is a child of the process that made the loop", "closed", "in use",
        "too much is under way", "refused", "the disk is full", "the disk failed", "damaged", "permission denied", "beyond a limit", "no answer in time", "unreachable", "system error",
    };
    return result <= 0 && result > -(int)(sizeof(texts) / sizeof(texts[0])) ? texts[-result] : "unknown";
}

int loop_check(const struct gw_loop *loop)
{
    if (!loop)
        return GW_E_INVALID;
    if (UNLIKELY(*loop->alive != ALIVE))
        return GW_E_FORKED;
    return LIKELY(pthread_equal(pthread_self(), loop->thread)) ? GW_DONE : GW_E_THREAD;
}

uint64_t loop_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

uint64_t loop_clock_roughly(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

/* ---- being awake ------------------------------------------------------------------------------------------------------------ */

static void on_again(uv_idle_t *idle) { (void)idle; }

void loop_keep_awake(struct gw_loop *loop)
{
    loop->again_is_on = true;
    uv_idle_start(&loop->again, on_again);
}

static void may_sleep(struct gw_loop *loop)
{
    if (!loop->again_is_on)
        return;
    loop->again_is_on = false;
    uv_idle_stop(&loop->again);
}

static void on_timer(uv_timer_t *timer)
{
    struct gw_loop *loop = timer->data;
    loop->timer_us = LOOP_NEVER;
    loop_again_now(loop);
}

static void set_timer(struct gw_loop *loop, uint64_t due_us)
{
    if (due_us == loop->timer_us)
        return;
    loop->timer_us = due_us;
    if (due_us == LOOP_NEVER) {
        uv_timer_stop(&loop->timer);
        return;
    }
    uv_update_time(loop->uv);
    uint64_t now_us = loop_clock();
    uv_timer_start(&loop->timer, on_timer, due_us > now_us ? (due_us - now_us + 999) / 1000 : 0, 0);
}

static bool is_alive(struct gw_loop *loop)
{
    return loop->buses || loop->timers.count || loop->posted || posts_wait(loop);
}

/* An adopted loop ends by itself when the library has nothing to wait for. */
static void keep_referenced(struct gw_loop *loop)
{
    bool alive = !loop->adopted || is_alive(loop);
    if (alive == loop->referenced)
        return;
    loop->referenced = alive;
    if (alive)
        wake_ref(&loop->wake);
    else
        wake_unref(&loop->wake);
}

/* ---- the turn ---------------------------------------------------------------------------------------------------------------- */

static void loop_turn(struct gw_loop *loop)
{
    uint64_t now_us = loop->now_us = loop_clock();
    /* What is called now may want another turn. */
    may_sleep(loop);
    posts_turn(loop);
    loop_timers_turn(&loop->timers, now_us);
    uint64_t due_us = buses_turn(loop, now_us);
    if (loop_timers_due(&loop->timers) < due_us)
        due_us = loop_timers_due(&loop->timers);
    if (due_us <= now_us || loop->posted)
        loop_again_now(loop);
    if (!loop->again_is_on)
        set_timer(loop, due_us);
    keep_referenced(loop);
}

static void on_check(uv_check_t *check)
{
    loop_turn(check->data);
}

static void on_heard(struct wake *wake)
{
    loop_again_now((struct gw_loop *)(void *)((char *)wake - offsetof(struct gw_loop, wake)));
}

/* ---- running ------------------------------------------------------------------------------------------------------------------ */

int gw_loop_run(gw_loop *loop)
{
    int result = loop_check(loop);
    if (result != GW_DONE)
        return result;
    if (loop->adopted)
        return loop_fail(loop, GW_E_INVALID, "the loop was adopted: run it with uv_run");
    loop_turn(loop);
    while (!atomic_exchange(&loop->stopping, false)) {
        if (!is_alive(loop))
            return loop->failed;
        uv_run(loop->uv, UV_RUN_ONCE);
        loop_turn(loop);
    }
    return GW_DONE;
}

void gw_loop_stop(gw_loop *loop)
{
    if (!loop)
        return;
    atomic_store(&loop->stopping, true);
    wake_send(&loop->wake);
}

int gw_loop_fd(gw_loop *loop)
{
    int result = loop_check(loop);
    return result == GW_DONE ? uv_backend_fd(loop->uv) : result;
}

int gw_loop_timeout_ms(gw_loop *loop)
{
    int result = loop_check(loop);
    if (result != GW_DONE)
        return result;
    keep_referenced(loop);
    return uv_backend_timeout(loop->uv);
}

int gw_loop_step(gw_loop *loop)
{
    int result = loop_check(loop);
    if (result != GW_DONE)
        return result;
    if (loop->adopted)
        return loop_fail(loop, GW_E_INVALID, "the loop was adopted: run it with uv_run");
    uv_run(loop->uv, UV_RUN_NOWAIT);
    loop_turn(loop);
    return is_alive(loop);
}

/* ---- life ---------------------------------------------------------------------------------------------------------------------- */

static const volatile uint32_t *alive_new(void)
{
    uint32_t *page = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return NULL;
    *page = ALIVE;
    /* A kernel older than 4.14 cannot; there a child has to know by itself. */
    (void)!madvise(page, (size_t)sysconf(_SC_PAGESIZE), MADV_WIPEONFORK);
    return page;
}

static void alive_free(const volatile uint32_t *alive) { munmap((void *)(uintptr_t)alive, (size_t)sysconf(_SC_PAGESIZE)); }

static gw_loop *loop_new(uv_loop_t *uv)
{
    struct gw_loop *loop = calloc(1, sizeof(*loop));
    if (!loop)
        return NULL;
    loop->adopted = uv;
    loop->thread = pthread_self();
    loop->timer_us = LOOP_NEVER;
    loop->posts_last = &loop->posts;
    loop->alive = alive_new();
    if (!loop->alive)
        goto err_after_alloc;
    if (pthread_mutex_init(&loop->mutex, NULL) != 0)
        goto err_after_alive;
    loop->uv = uv ? uv : &loop->own;
    if (!uv && uv_loop_init(&loop->own) != 0)
        goto err_after_mutex;
    if (wake_init(&loop->wake, loop->uv, on_heard) != GW_OK)
        goto err_after_loop;
    uv_check_init(loop->uv, &loop->check);
    uv_idle_init(loop->uv, &loop->again);
    uv_timer_init(loop->uv, &loop->timer);
    loop->check.data = loop->again.data = loop->timer.data = loop;
    loop->handles = 4;
    loop->referenced = true;
    if (uv) {
        uv_check_start(&loop->check, on_check);
        uv_unref((uv_handle_t *)&loop->check);
        uv_unref((uv_handle_t *)&loop->timer);
        keep_referenced(loop);
    }
    return loop;

err_after_loop:
    if (!uv)
        uv_loop_close(&loop->own);
err_after_mutex:
    pthread_mutex_destroy(&loop->mutex);
err_after_alive:
    alive_free(loop->alive);
err_after_alloc:
    free(loop);
    return NULL;
}

gw_loop *gw_loop_new(void) { return loop_new(NULL); }
gw_loop *gw_loop_adopt(struct uv_loop_s *uv) { return uv ? loop_new(uv) : NULL; }

static void release(struct gw_loop *loop)
{
    pthread_mutex_destroy(&loop->mutex);
    alive_free(loop->alive);
    free(loop);
}

/* The last handle that closes frees an adopted loop's memory: the caller's uv_run is what closes them. */
static void one_closed(struct gw_loop *loop)
{
    if (--loop->handles == 0 && loop->adopted)
        release(loop);
}

static void on_handle_closed(uv_handle_t *handle) { one_closed(handle->data); }
static void on_wake_closed(struct wake *wake) { one_closed((struct gw_loop *)(void *)((char *)wake - offsetof(struct gw_loop, wake))); }

/* In a child of fork: the parent's epoll and files are shared with it, and stay as they are; the memory is the child's own, and what the descriptors are worth. */
static void leave_to_parent(struct gw_loop *loop)
{
    buses_forked(loop);
    close(loop->wake.event);
    if (!loop->adopted)
        close(uv_backend_fd(loop->uv));
}

void gw_loop_free(gw_loop *loop)
{
    int result = loop_check(loop);
    if (result == GW_E_FORKED)
        leave_to_parent(loop);
    if (result != GW_DONE || loop->freeing)
        return;
    loop->freeing = true;
    buses_close(loop, FAREWELL_MS);
    while (loop->buses) {
        /* Where uv_run is the caller's to call, it is called here for this one purpose: what the buses wait for has to come in. */
        uv_run(loop->uv, UV_RUN_ONCE);
        if (!loop->adopted)
            loop_turn(loop);
    }
    loop_timers_deinit(&loop->timers);
    posts_free(loop);
    may_sleep(loop);
    uv_close((uv_handle_t *)&loop->check, on_handle_closed);
    uv_close((uv_handle_t *)&loop->again, on_handle_closed);
    uv_close((uv_handle_t *)&loop->timer, on_handle_closed);
    wake_close(&loop->wake, on_wake_closed);
    if (loop->adopted)
        return;
    while (uv_run(loop->uv, UV_RUN_DEFAULT) != 0)
        continue;
    CHECK(uv_loop_close(loop->uv) == 0);
    release(loop);
}
