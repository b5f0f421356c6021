#include "runtime/outbound.h"

#include "base/err.h"
#include "runtime/resolver.h"
#include "runtime/tls.h"
#include "runtime/tls_client.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#define READ_SIZE (64u * 1024u)      /* in one go, without TLS */

enum stage { LOOKING_UP, CONNECTING, SHAKING_HANDS, CONNECTED, BROKEN };

/* A descriptor that libuv looks at; libuv has it longer than anybody else. */
struct watch {
    uv_poll_t poll;
    struct outbound *outbound;
};

struct outbound {
    struct outbound_events events;
    uv_loop_t *loop;
    const char *(*refusal)(void *owner, const struct sockaddr *address);
    enum stage stage;
    struct resolver *resolver;
    const struct addrinfo *address;  /* that is tried; the next one follows it */
    struct watch *watch;
    int fd;                          /* the socket; -1: none yet */
    int interest;                    /* UV_READABLE, UV_WRITABLE */
    bool wants_room, is_paused;
    bool busy, freed;                /* inside an event; outbound_free was called there */
    struct ssl_ctx_st *tls_context;
    struct tls *tls;
    struct tls_pool pool;
    uint8_t *in;                     /* READ_SIZE, or what TLS needs */
    char host[256];
    char why[400];
};

static void look(struct outbound *outbound);

/* ---- watching -------------------------------------------------------------------------------------------------------------- */

static void on_watch_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void watch_end(struct outbound *outbound)
{
    struct watch *watch = outbound->watch;
    if (!watch)
        return;
    outbound->watch = NULL;
    watch->outbound = NULL;
    uv_poll_stop(&watch->poll);
    uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    (void)status, (void)events;      /* An error shows itself in what is done now. */
    if (watch->outbound)
        look(watch->outbound);
}

static bool watch_begin(struct outbound *outbound, int fd)
{
    struct watch *watch = malloc(sizeof(*watch));
    if (!watch)
        return false;
    watch->outbound = outbound;
    if (uv_poll_init(outbound->loop, &watch->poll, fd) != 0) {
        free(watch);
        return false;
    }
    watch->poll.data = watch;
    outbound->watch = watch;
    outbound->interest = 0;
    return true;
}

static void want(struct outbound *outbound, int interest)
{
    if (interest == outbound->interest || !outbound->watch)
        return;
    outbound->interest = interest;
    uv_poll_start(&outbound->watch->poll, interest, on_poll);
}

/* ---- life -------------------------------------------------------------------------------------------------------------------- */

static void hang_up(struct outbound *outbound)
{
    watch_end(outbound);
    if (outbound->fd >= 0)
        close(outbound->fd);
    outbound->fd = -1;
}

static void destroy(struct outbound *outbound)
{
    hang_up(outbound);
    resolver_free(outbound->resolver);
    tls_free(outbound->tls);
    tls_pool_deinit(&outbound->pool);
    free(outbound->in);
    free(outbound);
}

struct outbound *outbound_new(const struct outbound_settings *settings, const struct outbound_events *events)
{
    struct outbound *outbound = calloc(1, sizeof(*outbound));
    if (!outbound)
        return NULL;
    outbound->events = *events;
    outbound->loop = settings->loop;
    outbound->refusal = settings->refusal;
    outbound->fd = -1;
    outbound->tls_context = settings->tls;
    snprintf(outbound->host, sizeof(outbound->host), "%s", settings->host);
    outbound->in = malloc(settings->tls ? TLS_INPUT_SIZE + TLS_SLACK : READ_SIZE);
    outbound->resolver = outbound->in ? resolver_new(settings->host, settings->port) : NULL;
    if (!outbound->resolver || !watch_begin(outbound, resolver_fd(outbound->resolver)) || (settings->tls && !tls_pool_prepare(&outbound->pool))) {
        destroy(outbound);
        return NULL;
    }
    want(outbound, UV_READABLE);
    return outbound;
}

void outbound_free(struct outbound *outbound)
{
    if (!outbound)
        return;
    if (outbound->tls && outbound->stage == CONNECTED) {
        tls_say_end(outbound->tls);
        struct bytes sealed = tls_sealed(outbound->tls);
        ssize_t sent = send(outbound->fd, sealed.data, sealed.size, MSG_NOSIGNAL);   /* A courtesy. */
        (void)sent;
    }
    outbound->stage = BROKEN;
    hang_up(outbound);
    if (outbound->busy)
        outbound->freed = true;
    else
        destroy(outbound);
}

void outbound_forked(struct outbound *outbound)
{
    if (outbound->fd >= 0)
        close(outbound->fd);
    outbound->fd = -1;
}

/* Calls one of the owner's functions. False: it has freed it all. */
#define TELL(outbound, call) \
    do { \
        (outbound)->busy = true; \
        call; \
        (outbound)->busy = false; \
        if ((outbound)->freed) { \
            destroy(outbound); \
            return false; \
        } \
    } while (0)

static bool fail(struct outbound *outbound, const char *why)
{
    if (outbound->stage == BROKEN)
        return true;
    outbound->stage = BROKEN;
    hang_up(outbound);
    TELL(outbound, outbound->events.failed(outbound->events.owner, why));
    return true;
}

/* ---- bytes ------------------------------------------------------------------------------------------------------------------- */

/* Sends what TLS has sealed. */
static bool flush_sealed(struct outbound *outbound)
{
    for (struct bytes sealed; (sealed = tls_sealed(outbound->tls)).size;) {
        ssize_t size = send(outbound->fd, sealed.data, sealed.size, MSG_NOSIGNAL);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK;
        tls_sent(outbound->tls, (size_t)size);
    }
    return true;
}

static int interest_of(const struct outbound *outbound)
{
    bool sealed = outbound->tls && tls_sealed(outbound->tls).size;
    bool reads = !outbound->is_paused || outbound->stage != CONNECTED;
    return (reads ? UV_READABLE : 0) | (outbound->wants_room || sealed ? UV_WRITABLE : 0);
}

void outbound_pause(struct outbound *outbound, bool paused)
{
    outbound->is_paused = paused;
    if (outbound->stage == CONNECTED)
        want(outbound, interest_of(outbound));
}

size_t outbound_write(struct outbound *outbound, struct bytes bytes)
{
    size_t taken = 0;
    if (outbound->stage != CONNECTED)
        return 0;
    while (taken < bytes.size) {
        if (outbound->tls) {
            size_t some = 0;
            struct iovec iov = {(void *)(uintptr_t)(bytes.data + taken), bytes.size - taken};
            if (tls_sealed(outbound->tls).size || !tls_seal(outbound->tls, &iov, 1, &some) || !flush_sealed(outbound))
                break;               /* That it failed is found when it is read. */
            taken += some;
            continue;
        }
        ssize_t size = send(outbound->fd, bytes.data + taken, bytes.size - taken, MSG_NOSIGNAL);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            break;
        taken += (size_t)size;
    }
    outbound->wants_room = taken < bytes.size;
    want(outbound, interest_of(outbound));
    return taken;
}

/* What came out of the socket, in the open. */
static bool open_sealed(struct outbound *outbound, struct bytes sealed)
{
    size_t got = 0;
    enum tls_result result = tls_open(outbound->tls, sealed, outbound->in, TLS_INPUT_SIZE + TLS_SLACK, &got);
    bool was_ready = outbound->stage == CONNECTED;
    if (!flush_sealed(outbound) && result == TLS_OK)
        return fail(outbound, strerror(errno));
    if (!was_ready && tls_is_ready(outbound->tls) && result == TLS_OK) {
        outbound->stage = CONNECTED;
        TELL(outbound, outbound->events.connected(outbound->events.owner));
    }
    if (got && outbound->stage == CONNECTED)
        TELL(outbound, outbound->events.came(outbound->events.owner, bytes_of(outbound->in, got)));
    if (result == TLS_FAILED) {
        snprintf(outbound->why, sizeof(outbound->why), "%s: %s", was_ready ? "TLS" : "no TLS could be agreed on", tls_complaint(outbound->tls));
        return fail(outbound, outbound->why);
    }
    return result == TLS_ENDED ? fail(outbound, NULL) : true;
}

/* False: it is gone. */
static bool read_some(struct outbound *outbound)
{
    uint8_t *room = outbound->tls ? outbound->pool.input : outbound->in;
    ssize_t size = recv(outbound->fd, room, outbound->tls ? TLS_INPUT_SIZE : READ_SIZE, 0);
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return true;
    if (size < 0)
        return fail(outbound, strerror(errno));
    if (size == 0)
        return fail(outbound, NULL);
    if (outbound->tls)
        return open_sealed(outbound, bytes_of(room, (size_t)size));
    TELL(outbound, outbound->events.came(outbound->events.owner, bytes_of(room, (size_t)size)));
    return true;
}

/* ---- getting there ------------------------------------------------------------------------------------------------------------ */

static bool there(struct outbound *outbound)
{
    int on = 1;
    setsockopt(outbound->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(outbound->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    if (outbound->tls_context) {
        outbound->stage = SHAKING_HANDS;
        outbound->tls = tls_over(tls_client_connection(outbound->tls_context, outbound->host), &outbound->pool, outbound);
        return outbound->tls ? open_sealed(outbound, (struct bytes){0}) : fail(outbound, "out of memory");
    }
    outbound->stage = CONNECTED;
    TELL(outbound, outbound->events.connected(outbound->events.owner));
    return true;
}

/* The next address, or none is left. */
static bool connect_next(struct outbound *outbound)
{
    for (; outbound->address; outbound->address = outbound->address->ai_next) {
        const struct addrinfo *address = outbound->address;
        const char *refusal = outbound->refusal ? outbound->refusal(outbound->events.owner, address->ai_addr) : NULL;
        hang_up(outbound);
        if (refusal) {
            snprintf(outbound->why, sizeof(outbound->why), "its address is %s, and may not be connected to", refusal);
            continue;
        }
        outbound->fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (outbound->fd < 0) {
            snprintf(outbound->why, sizeof(outbound->why), "%s", strerror(errno));
            continue;
        }
        int result = connect(outbound->fd, address->ai_addr, address->ai_addrlen);
        if (result != 0 && errno != EINPROGRESS) {
            snprintf(outbound->why, sizeof(outbound->why), "%s", strerror(errno));
            continue;
        }
        if (!watch_begin(outbound, outbound->fd))
            return fail(outbound, "out of memory");
        outbound->stage = CONNECTING;
        want(outbound, UV_WRITABLE);
        return true;
    }
    return fail(outbound, outbound->why);
}

static bool on_looked_up(struct outbound *outbound)
{
    const char *why;
    outbound->address = resolver_answer(outbound->resolver, &why);
    if (outbound->address)
        return connect_next(outbound);
    snprintf(outbound->why, sizeof(outbound->why), "the host is not found: %s", why);
    return fail(outbound, outbound->why);
}

static bool on_connecting(struct outbound *outbound)
{
    int error = 0;
    socklen_t size = sizeof(error);
    struct pollfd probe = {.fd = outbound->fd, .events = POLLOUT};
    if (poll(&probe, 1, 0) == 0)
        return true;
    getsockopt(outbound->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error == 0)
        return there(outbound);
    snprintf(outbound->why, sizeof(outbound->why), "%s", strerror(error));
    outbound->address = outbound->address->ai_next;
    return connect_next(outbound);
}

/* Something may be done now. */
static bool go_on(struct outbound *outbound)
{
    if (outbound->stage == LOOKING_UP)
        return on_looked_up(outbound);
    if (outbound->stage == CONNECTING)
        return on_connecting(outbound);
    if (outbound->stage == SHAKING_HANDS || outbound->stage == CONNECTED) {
        if (outbound->tls && !flush_sealed(outbound))
            return fail(outbound, strerror(errno));
        if (outbound->wants_room && outbound->stage == CONNECTED && !(outbound->tls && tls_sealed(outbound->tls).size)) {
            outbound->wants_room = false;
            TELL(outbound, outbound->events.room(outbound->events.owner));
        }
    }
    if (outbound->stage == SHAKING_HANDS || (outbound->stage == CONNECTED && !outbound->is_paused))
        return read_some(outbound);
    return true;
}

static void look(struct outbound *outbound)
{
    if (!go_on(outbound))
        return;
    if (outbound->stage == SHAKING_HANDS || outbound->stage == CONNECTED)
        want(outbound, interest_of(outbound));
}

void outbound_wait(struct outbound *outbound, int timeout_ms)
{
    struct pollfd waiting = {.fd = outbound->stage == LOOKING_UP ? resolver_fd(outbound->resolver) : outbound->fd,
                             .events = (short)((outbound->interest & UV_READABLE ? POLLIN : 0) | (outbound->interest & UV_WRITABLE ? POLLOUT : 0))};
    if (poll(&waiting, 1, timeout_ms) > 0 && outbound->stage != BROKEN)
        look(outbound);
}
