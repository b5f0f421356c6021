#include "lib/uvloop.h"

#include "lib/bus.h"
#include "runtime/standard_files.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define ALIVE 0x60D317u
#define FAREWELL_MS 5000u            /* what gw_loop_free gives handlers to finish */

/* ---- what the library asks of it --------------------------------------------------------------------------------------------- */

static int check(const struct gw_loop *loop)
{
    const struct uvloop *u = uvloop_of(loop);
    if (UNLIKELY(*u->alive != ALIVE))
        return GW_E_FORKED;
    return LIKELY(pthread_equal(pthread_self(), u->thread)) ? GW_DONE : GW_E_THREAD;
}

static uint64_t clock_us(clockid_t which)
{
    struct timespec now;
    clock_gettime(which, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static uint64_t clock_now(const struct gw_loop *loop) { return (void)loop, clock_us(CLOCK_MONOTONIC); }
static uint64_t clock_roughly(const struct gw_loop *loop) { return (void)loop, clock_us(CLOCK_MONOTONIC_COARSE); }
static uint64_t wall_s(const struct gw_loop *loop) { return (void)loop, (uint64_t)time(NULL); }

static void draw(struct gw_loop *loop, void *to, size_t size)
{
    if (getrandom(to, size, 0) == (ssize_t)size)
        return;
    uint64_t clock = loop_clock(loop);
    memset(to, 0, size);
    memcpy(to, &clock, size < sizeof(clock) ? size : sizeof(clock));
}

/* ---- being awake ------------------------------------------------------------------------------------------------------------ */

static void on_again(uv_idle_t *idle) { (void)idle; }

static void keep_awake(struct gw_loop *loop)
{
    loop->again_is_on = true;
    uv_idle_start(&uvloop_of(loop)->again, on_again);
}

static const struct loop_ops ops = {.check = check, .clock = clock_now, .clock_roughly = clock_roughly, .wall_s = wall_s, .random = draw, .keep_awake = keep_awake};

static void may_sleep(struct uvloop *u)
{
    if (!u->loop.again_is_on)
        return;
    u->loop.again_is_on = false;
    uv_idle_stop(&u->again);
}

static void on_timer(uv_timer_t *timer)
{
    struct uvloop *u = timer->data;
    u->timer_us = LOOP_NEVER;
    loop_again_now(&u->loop);
}

static void set_timer(struct uvloop *u, uint64_t due_us)
{
    if (due_us == u->timer_us)
        return;
    u->timer_us = due_us;
    if (due_us == LOOP_NEVER) {
        uv_timer_stop(&u->timer);
        return;
    }
    uv_update_time(u->uv);
    uint64_t now_us = loop_clock(&u->loop);
    uv_timer_start(&u->timer, on_timer, due_us > now_us ? (due_us - now_us + 999) / 1000 : 0, 0);
}

static bool is_alive(struct uvloop *u)
{
    return buses_are_alive(&u->loop) || u->loop.timers.count || u->posted || posts_wait(u);
}

/* An adopted loop ends by itself when the library has nothing to wait for. */
static void keep_referenced(struct uvloop *u)
{
    bool alive = !u->adopted || is_alive(u);
    if (alive == u->referenced)
        return;
    u->referenced = alive;
    if (alive)
        wake_ref(&u->wake);
    else
        wake_unref(&u->wake);
}

/* ---- the turn ---------------------------------------------------------------------------------------------------------------- */

static void turn(struct uvloop *u)
{
    u->loop.now_us = loop_clock(&u->loop);
    /* What is called now may want another turn. */
    may_sleep(u);
    posts_turn(u);
    uint64_t due_us = loop_turn(&u->loop);
    if (due_us <= u->loop.now_us || u->posted)
        loop_again_now(&u->loop);
    if (!u->loop.again_is_on)
        set_timer(u, due_us);
    keep_referenced(u);
}

static void on_check(uv_check_t *check)
{
    turn(check->data);
}

static void on_heard(struct wake *wake)
{
    struct uvloop *u = (struct uvloop *)(void *)((char *)wake - offsetof(struct uvloop, wake));
    loop_again_now(&u->loop);
}

/* ---- running ------------------------------------------------------------------------------------------------------------------ */

/* One that leaves by longjmp leaves it set: whoever drives the loop otherwise takes it back. */
static void run_turn(struct uvloop *u)
{
    u->loop.is_run = true;
    turn(u);
    u->loop.is_run = false;
}

/* May the library run it itself? */
static int check_own(struct gw_loop *loop)
{
    int result = loop_check(loop);
    return result == GW_DONE && uvloop_of(loop)->adopted ? loop_fail(loop, GW_E_INVALID, "the loop was adopted: run it with uv_run") : result;
}

int gw_loop_run(gw_loop *loop)
{
    struct uvloop *u = uvloop_of(loop);
    int result = check_own(loop);
    if (result != GW_DONE)
        return result;
    run_turn(u);
    while (!atomic_exchange(&u->loop.stopping, false)) {
        if (!is_alive(u))
            return u->loop.failed;
        uv_run(u->uv, UV_RUN_ONCE);
        run_turn(u);
    }
    return GW_DONE;
}

void gw_loop_stop(gw_loop *loop)
{
    struct uvloop *u = uvloop_of(loop);
    if (!loop || loop_check(loop) == GW_E_FORKED)
        return;
    atomic_store(&u->loop.stopping, true);
    wake_send(&u->wake);
}

int gw_loop_fd(gw_loop *loop)
{
    int result = loop_check(loop);
    return result == GW_DONE ? uv_backend_fd(uvloop_of(loop)->uv) : result;
}

int gw_loop_timeout_ms(gw_loop *loop)
{
    struct uvloop *u = uvloop_of(loop);
    int result = loop_check(loop);
    if (result != GW_DONE)
        return result;
    keep_referenced(u);
    return uv_backend_timeout(u->uv);
}

int gw_loop_step(gw_loop *loop)
{
    struct uvloop *u = uvloop_of(loop);
    int result = check_own(loop);
    if (result != GW_DONE)
        return result;
    u->loop.is_run = false;
    uv_run(u->uv, UV_RUN_NOWAIT);
    turn(u);
    return is_alive(u);
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
    struct uvloop *u = calloc(1, sizeof(*u));
    if (!u)
        return NULL;
    u->loop.ops = &ops;
    u->adopted = uv;
    u->thread = pthread_self();
    u->timer_us = LOOP_NEVER;
    u->posts_last = &u->posts;
    u->alive = alive_new();
    if (!u->alive)
        goto err_after_alloc;
    if (pthread_mutex_init(&u->mutex, NULL) != 0)
        goto err_after_alive;
    u->uv = uv ? uv : &u->own;
    standard_files_keep();
    if (!uv && uv_loop_init(&u->own) != 0)
        goto err_after_mutex;
    if (wake_init(&u->wake, u->uv, on_heard) != GW_OK)
        goto err_after_loop;
    uv_check_init(u->uv, &u->check);
    uv_idle_init(u->uv, &u->again);
    uv_timer_init(u->uv, &u->timer);
    u->check.data = u->again.data = u->timer.data = u;
    u->handles = 4;
    u->referenced = true;
    if (uv) {
        uv_check_start(&u->check, on_check);
        uv_unref((uv_handle_t *)&u->check);
        uv_unref((uv_handle_t *)&u->timer);
        keep_referenced(u);
    }
    return &u->loop;

err_after_loop:
    if (!uv)
        uv_loop_close(&u->own);
err_after_mutex:
    pthread_mutex_destroy(&u->mutex);
err_after_alive:
    alive_free(u->alive);
err_after_alloc:
    free(u);
    return NULL;
}

gw_loop *gw_loop_new(void) { return loop_new(NULL); }
gw_loop *gw_loop_adopt(struct uv_loop_s *uv) { return uv ? loop_new(uv) : NULL; }

static void release(struct uvloop *u)
{
    pthread_mutex_destroy(&u->mutex);
    alive_free(u->alive);
    free(u);
}

/* The last handle that closes frees an adopted loop's memory: the caller's uv_run is what closes them. */
static void one_closed(struct uvloop *u)
{
    if (--u->handles == 0 && u->adopted)
        release(u);
}

static void on_handle_closed(uv_handle_t *handle) { one_closed(handle->data); }
static void on_wake_closed(struct wake *wake) { one_closed((struct uvloop *)(void *)((char *)wake - offsetof(struct uvloop, wake))); }

/* In a child of fork: the parent's epoll and files are shared with it, and stay as they are; the memory is the child's own, and what the descriptors are worth. */
static void leave_to_parent(struct uvloop *u)
{
    buses_forked(&u->loop);
    close(u->wake.event);
    if (!u->adopted)
        close(uv_backend_fd(u->uv));
}

void gw_loop_free(gw_loop *loop)
{
    struct uvloop *u = uvloop_of(loop);
    int result = loop_check(loop);
    if (result == GW_E_FORKED)
        leave_to_parent(u);
    if (result != GW_DONE || u->freeing)
        return;
    u->freeing = true;
    u->loop.is_run = false;
    buses_close(loop, FAREWELL_MS);
    while (u->loop.buses) {
        /* Where uv_run is the caller's to call, it is called here for this one purpose: what the buses wait for has to come in. */
        uv_run(u->uv, UV_RUN_ONCE);
        if (!u->adopted)
            turn(u);
    }
    loop_timers_deinit(&u->loop.timers);
    posts_free(u);
    may_sleep(u);
    uv_close((uv_handle_t *)&u->check, on_handle_closed);
    uv_close((uv_handle_t *)&u->again, on_handle_closed);
    uv_close((uv_handle_t *)&u->timer, on_handle_closed);
    wake_close(&u->wake, on_wake_closed);
    if (u->adopted)
        return;
    while (uv_run(u->uv, UV_RUN_DEFAULT) != 0)
        continue;
    CHECK(uv_loop_close(u->uv) == 0);
    release(u);
}
