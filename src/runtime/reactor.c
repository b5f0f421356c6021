#include "runtime/reactor.h"

#include "runtime/listener.h"
#include "runtime/reactor_state.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ACCEPT_MAX 64u                 /* connections accepted in one go */
#define ACCEPT_RETRY_US 100000u        /* after running out of descriptors */
#define TAIL_MAX (256u * 1024u)
#define LINGER_MS 3000u
#define HANDSHAKE_MS 10000u
#define TELL_US 10000000u              /* a line about handshakes that fail at most once in so long */

/* ---- Time ---- */

uint64_t reactor_now(struct reactor *r)
{
    if (!r->now_is_fresh) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        r->now_us = (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
        r->now_is_fresh = true;
    }
    return r->now_us;
}

static void on_again(uv_idle_t *idle)
{
    (void)idle;
}

/* Keeps the loop from sleeping, or lets it. */
static void set_again(struct reactor *r, bool again)
{
    if (again == r->again_is_on)
        return;
    r->again_is_on = again;
    if (again)
        uv_idle_start(&r->again, on_again);
    else
        uv_idle_stop(&r->again);
}

static void on_timer(uv_timer_t *timer)
{
    struct reactor *r = timer->data;
    r->timer_us = UINT64_MAX;
    /* The turn that follows finds out what is due. libuv runs timers before it looks at the sockets, and must not sleep there. */
    set_again(r, true);
}

static void set_timer(struct reactor *r, uint64_t deadline_us)
{
    if (deadline_us == r->timer_us)
        return;
    r->timer_us = deadline_us;
    if (deadline_us == UINT64_MAX) {
        uv_timer_stop(&r->timer);
        return;
    }
    uint64_t wait_us = deadline_us > r->now_us ? deadline_us - r->now_us : 0;
    uv_timer_start(&r->timer, on_timer, (wait_us + 999) / 1000, 0);
}

/* ---- Accepting ---- */

static void on_listener(uv_poll_t *poll, int status, int events);

static void accept_pause(struct reactor *r)
{
    r->accept_paused = true;
    r->accept_retry_us = reactor_now(r) + ACCEPT_RETRY_US;
    for (struct listener *l = r->listeners; l; l = l->next)
        uv_poll_stop(&l->poll);
}

static void accept_resume(struct reactor *r)
{
    r->accept_paused = false;
    for (struct listener *l = r->listeners; l; l = l->next)
        uv_poll_start(&l->poll, UV_READABLE, on_listener);
}

static bool budget_take(struct reactor *r)
{
    struct connection_budget *budget = r->config.budget;
    if (!budget || atomic_fetch_add(&budget->used, 1) < budget->limit)
        return true;
    atomic_fetch_sub(&budget->used, 1);
    return false;
}

static void budget_give(struct reactor *r)
{
    if (r->config.budget)
        atomic_fetch_sub(&r->config.budget->used, 1);
}

/* New connections wait in the kernel's backlog; told once until accepting works again. */
static void accept_starved(struct reactor *r, const char *cause)
{
    if (!r->accept_told && r->config.alarms)
        alarm_raise(r->config.alarms, ALARM_WARNING, "new connections wait: %s; connections that are open go on", cause);
    r->accept_told = true;
    accept_pause(r);
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
    struct listener *l = poll->data;
    struct reactor *r = l->reactor;
    (void)events;
    if (status < 0) {
        accept_pause(r);
        return;
    }
    for (unsigned i = 0; i < ACCEPT_MAX; i++) {
        if (!budget_take(r)) {
            /* Only the first look is sure that somebody waits; polling brings us back when there is one more. */
            if (i == 0)
                accept_starved(r, "the limit on connections is reached");
            return;
        }
        struct sockaddr_storage peer = {0};
        socklen_t peer_size = sizeof(peer);
        void *place = NULL;
        int s = accept4(l->socket, (struct sockaddr *)&peer, &peer_size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (s < 0) {
            budget_give(r);
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                accept_starved(r, errno == EMFILE || errno == ENFILE ? "out of file descriptors" : "out of memory");
            if (errno == EAGAIN)
                r->accept_told = false;
            if (errno == EAGAIN || r->accept_paused)
                return;
            /* The others concern one connection that went away while it waited. */
            continue;
        }
        if (r->config.enter && !r->config.enter(r->config.owner, (struct sockaddr *)&peer, &place)) {
            close(s);
            budget_give(r);
            continue;
        }
        unsigned before = r->count;
        if (!connection_new(l, s, place) && r->count == before)
            budget_give(r);
    }
}

void reactor_connection_closed(struct reactor *r)
{
    r->count--;
    budget_give(r);
    if (r->accept_paused)
        r->accept_retry_us = 0;
}

void reactor_tell_failed_handshake(struct reactor *r, const struct connection *c, const char *cause)
{
    struct sockaddr_storage peer;
    char host[INET6_ADDRSTRLEN] = "somebody";
    uint64_t now_us = reactor_now(r);
    if (r->shake_told_us && now_us - r->shake_told_us < TELL_US) {
        r->shake_untold++;
        return;
    }
    if (connection_peer(c, &peer) && peer.ss_family == AF_INET)
        inet_ntop(AF_INET, &((struct sockaddr_in *)&peer)->sin_addr, host, sizeof(host));
    else if (peer.ss_family == AF_INET6)
        inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&peer)->sin6_addr, host, sizeof(host));
    alarm_raise(r->config.alarms, ALARM_INFO, "TLS could not be agreed on with %s: %s (%u more since this was last said)", host, cause, r->shake_untold);
    r->shake_told_us = now_us;
    r->shake_untold = 0;
}

enum gw_err reactor_listen(struct reactor *r, const struct sockaddr *address, const struct connection_events *events, void *owner)
{
    return reactor_listen_sealed(r, address, NULL, events, owner);
}

enum gw_err reactor_listen_sealed(struct reactor *r, const struct sockaddr *address, struct tls_keys *keys, const struct connection_events *events, void *owner)
{
    struct listener *l = !keys || tls_pool_prepare(&r->tls) ? calloc(1, sizeof(*l)) : NULL;
    if (!l)
        return GW_ERR_NOMEM;
    *l = (struct listener){.reactor = r, .events = events, .owner = owner, .keys = keys};
    enum gw_err err = listener_open(address, true, &l->socket);
    if (err != GW_OK)
        goto err_after_alloc;
    int error = uv_poll_init_socket(&r->loop, &l->poll, l->socket);
    if (error != 0) {
        err = gw_err_from_errno(-error);
        goto err_after_socket;
    }
    l->poll.data = l;
    l->next = r->listeners;
    r->listeners = l;
    if (!r->accept_paused)
        uv_poll_start(&l->poll, UV_READABLE, on_listener);
    return GW_OK;

err_after_socket:
    close(l->socket);
err_after_alloc:
    free(l);
    return err;
}

static void on_listener_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void reactor_stop_accepting(struct reactor *r)
{
    while (r->listeners) {
        struct listener *l = r->listeners;
        r->listeners = l->next;
        uv_close((uv_handle_t *)&l->poll, on_listener_closed);
        close(l->socket);
    }
}

/* ---- The turn ---- */

void reactor_list(struct reactor *r, struct connection *c)
{
    if (c->state & CONNECTION_LISTED)
        return;
    c->state |= CONNECTION_LISTED;
    c->listed_next = NULL;
    *r->listed_last = c;
    r->listed_last = &c->listed_next;
}

/* Resumed connections get what they had left over, before the owner's turn. */
static void feed_tails(struct reactor *r)
{
    for (struct connection *c = r->listed; c; c = c->listed_next) {
        if (c->state & CONNECTION_FEED) {
            c->state &= (uint16_t)~CONNECTION_FEED;
            connection_feed_tail(c);
        }
    }
}

static void settle_connections(struct reactor *r)
{
    struct connection *c = r->listed;
    r->listed = NULL;
    r->listed_last = &r->listed;
    while (c) {
        struct connection *next = c->listed_next;
        c->state &= (uint16_t)~CONNECTION_LISTED;
        /* Resumed during the owner's turn: it stays for the next one. */
        if (c->state & CONNECTION_FEED)
            reactor_list(r, c);
        connection_settle(c);
        c = next;
    }
}

static uint64_t kill_late_ones(struct reactor *r, struct connection_list *list)
{
    struct connection *c = list->first;
    while (c && c->deadline_us <= r->now_us) {
        if ((c->state & (CONNECTION_SHAKING | CONNECTION_FINISHING | CONNECTION_DEAD)) == CONNECTION_SHAKING)
            reactor_tell_failed_handshake(r, c, "it took too long");
        connection_kill(c, c->state & CONNECTION_LINGERING ? CONNECTION_FINISHED : CONNECTION_ABORTED);
        c = c->next;
    }
    while (c && (c->state & CONNECTION_DEAD))
        c = c->next;
    return c ? c->deadline_us : UINT64_MAX;
}

static void close_everything(struct reactor *r);

static void on_check(uv_check_t *check)
{
    struct reactor *r = check->data;
    uint64_t now_us = reactor_now(r);
    r->again_wanted = false;
    feed_tails(r);
    uint64_t deadline_us = r->config.turn ? r->config.turn(r->config.owner, now_us) : UINT64_MAX;
    uint64_t closing_us = kill_late_ones(r, &r->closing), shaking_us = kill_late_ones(r, &r->shaking);
    settle_connections(r);
    if (r->again_wanted && r->config.turn && !r->stopping) {
        /* At once rather than after another look at the sockets: mostly it is a word to the owner, with nothing to be sent. */
        r->again_wanted = false;
        deadline_us = r->config.turn(r->config.owner, now_us);
        settle_connections(r);
    }
    if (r->stopping) {
        close_everything(r);
        return;
    }
    if (r->accept_paused && r->accept_retry_us <= now_us)
        accept_resume(r);
    if (closing_us < deadline_us)
        deadline_us = closing_us;
    if (shaking_us < deadline_us)
        deadline_us = shaking_us;
    if (r->accept_paused && r->accept_retry_us < deadline_us)
        deadline_us = r->accept_retry_us;
    bool again = r->listed || r->again_wanted || deadline_us <= now_us;
    set_again(r, again);
    if (!again)
        set_timer(r, deadline_us);
    r->now_is_fresh = false;
}

/* ---- Life ---- */

struct reactor *reactor_new(const struct reactor_config *config)
{
    struct reactor *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->config = *config;
    if (r->config.tail_max == 0)
        r->config.tail_max = TAIL_MAX;
    if (r->config.linger_ms == 0)
        r->config.linger_ms = LINGER_MS;
    if (r->config.handshake_ms == 0)
        r->config.handshake_ms = HANDSHAKE_MS;
    r->listed_last = &r->listed;
    r->timer_us = UINT64_MAX;
    r->memory = malloc(r->config.tail_max + INPUT_SIZE);
    if (!r->memory)
        goto err_after_alloc;
    r->input = r->memory + r->config.tail_max;
    if (uv_loop_init(&r->loop) != 0)
        goto err_after_memory;
    if (wake_init(&r->wake, &r->loop, NULL) != GW_OK)
        goto err_after_loop;
    uv_check_init(&r->loop, &r->check);
    uv_idle_init(&r->loop, &r->again);
    uv_timer_init(&r->loop, &r->timer);
    r->check.data = r->timer.data = r;
    return r;

err_after_loop:
    uv_loop_close(&r->loop);
err_after_memory:
    free(r->memory);
err_after_alloc:
    free(r);
    return NULL;
}

/* What the disks and others have on the loop stays theirs to close. */
static void close_everything(struct reactor *r)
{
    reactor_stop_accepting(r);
    for (struct connection *c = r->open.first; c; c = c->next)
        connection_kill(c, CONNECTION_STOPPED);
    for (struct connection *c = r->closing.first; c; c = c->next)
        connection_kill(c, CONNECTION_STOPPED);
    for (struct connection *c = r->shaking.first; c; c = c->next)
        connection_kill(c, CONNECTION_STOPPED);
    /* Sessions that are told of their end may list others. */
    while (r->listed)
        settle_connections(r);
    set_again(r, false);
    uv_timer_stop(&r->timer);
    uv_check_stop(&r->check);
    uv_stop(&r->loop);
}

void reactor_run(struct reactor *r)
{
    uv_check_start(&r->check, on_check);
    /* A first turn at once: the owner has deadlines, and there may be mail. */
    set_again(r, true);
    uv_run(&r->loop, UV_RUN_DEFAULT);
}

void reactor_free(struct reactor *r)
{
    if (!r)
        return;
    reactor_stop_accepting(r);
    wake_close(&r->wake, NULL);
    uv_close((uv_handle_t *)&r->check, NULL);
    uv_close((uv_handle_t *)&r->again, NULL);
    uv_close((uv_handle_t *)&r->timer, NULL);
    while (uv_run(&r->loop, UV_RUN_DEFAULT) != 0)
        continue;
    CHECK(uv_loop_close(&r->loop) == 0);
    tls_pool_deinit(&r->tls);
    free(r->memory);
    free(r);
}

static void run_thread(void *argument)
{
    reactor_run(argument);
}

enum gw_err reactor_start(struct reactor *r)
{
    return uv_thread_create(&r->thread, run_thread, r) == 0 ? GW_OK : GW_ERR_LIMIT;
}

void reactor_join(struct reactor *r)
{
    uv_thread_join(&r->thread);
}

void reactor_wake(struct reactor *r)
{
    wake_send(&r->wake);
}

void reactor_again(struct reactor *r)
{
    r->again_wanted = true;
}

void reactor_stop(struct reactor *r)
{
    r->stopping = true;
}

unsigned reactor_connections(const struct reactor *r)
{
    return r->count;
}

uv_loop_t *reactor_loop(struct reactor *r)
{
    return &r->loop;
}

struct wake *reactor_wake_handle(struct reactor *r)
{
    return &r->wake;
}
