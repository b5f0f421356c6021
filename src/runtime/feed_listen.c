/* Bytes of those who connect: by TCP, or to a socket in the file system. */
#include "runtime/feeder_state.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 128
#define KEEPALIVE_S 60u

union stream {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
};

struct caller {
    union stream stream;             /* first */
    struct listen_feeding *listen;
    struct caller *previous, *next;
    uint64_t number;
};

struct listen_feeding {
    struct feeding feeding;          /* first */
    union stream stream;
    char *address;
    bool is_unix;
    struct caller *callers;
    unsigned count, count_max;
    uint64_t last_number;
};

static struct listen_feeding *listen_of(struct feeding *feeding) { return (struct listen_feeding *)feeding; }

/* ---- callers ---------------------------------------------------------------------------------------------------------------- */

static void on_caller_closed(uv_handle_t *handle)
{
    struct caller *caller = (struct caller *)(void *)handle;
    struct feeding *feeding = &caller->listen->feeding;
    free(caller);
    feeding->handles--;
    feeding_release(feeding);
}

static void hang_up(struct caller *caller)
{
    struct listen_feeding *l = caller->listen;
    *(caller->previous ? &caller->previous->next : &l->callers) = caller->next;
    if (caller->next)
        caller->next->previous = caller->previous;
    l->count--;
    uv_close(&caller->stream.handle, on_caller_closed);
}

static void on_room(uv_handle_t *handle, size_t wanted, uv_buf_t *buffer)
{
    struct caller *caller = (struct caller *)(void *)handle;
    (void)wanted;
    *buffer = uv_buf_init((char *)caller->listen->feeding.set->room, FEED_ROOM);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct caller *caller = (struct caller *)(void *)stream;
    struct feeding *feeding = &caller->listen->feeding;
    if (count > 0) {
        feeding_came(feeding, caller->number, bytes_of(buffer->base, (size_t)count));
    } else if (count < 0) {
        uint64_t number = caller->number;
        hang_up(caller);
        feeding_closed(feeding, number);
    }
    if (count != 0)
        feeding_told(feeding);
}

static void print_peer(struct caller *caller, char *peer, size_t room)
{
    struct sockaddr_storage address;
    int size = sizeof(address);
    char host[INET6_ADDRSTRLEN] = "";
    peer[0] = 0;
    if (caller->listen->is_unix || uv_tcp_getpeername(&caller->stream.tcp, (struct sockaddr *)&address, &size) != 0)
        return;
    bool is_six = address.ss_family == AF_INET6;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)(const void *)&address;
    const struct sockaddr_in *four = (const struct sockaddr_in *)(const void *)&address;
    inet_ntop(address.ss_family, is_six ? (const void *)&six->sin6_addr : (const void *)&four->sin_addr, host, sizeof(host));
    snprintf(peer, room, is_six ? "[%s]:%u" : "%s:%u", host, ntohs(is_six ? six->sin6_port : four->sin_port));
}

static void on_connection(uv_stream_t *server, int status)
{
    struct listen_feeding *l = server->data;
    struct caller *caller = status == 0 ? calloc(1, sizeof(*caller)) : NULL;
    char peer[INET6_ADDRSTRLEN + 16];
    if (!caller)
        return;
    caller->listen = l;
    if ((l->is_unix ? uv_pipe_init(l->feeding.set->config.loop, &caller->stream.pipe, 0) : uv_tcp_init(l->feeding.set->config.loop, &caller->stream.tcp)) != 0) {
        free(caller);
        return;
    }
    l->feeding.handles++;
    caller->next = l->callers;
    if (l->callers)
        l->callers->previous = caller;
    l->callers = caller;
    l->count++;
    caller->number = ++l->last_number;
    /* One too many is told so by being hung up on. */
    if (uv_accept(server, &caller->stream.stream) != 0 || l->count > l->count_max) {
        hang_up(caller);
        return;
    }
    /* Who goes without a word, with his machine, does not keep a place for ever. */
    if (!l->is_unix)
        uv_tcp_keepalive(&caller->stream.tcp, 1, KEEPALIVE_S);
    print_peer(caller, peer, sizeof(peer));
    feeding_opened(&l->feeding, &(struct feed_opening){.stream = caller->number, .peer = bytes_of_text(peer)});
    if (!l->feeding.is_paused)
        uv_read_start(&caller->stream.stream, on_room, on_read);
    feeding_told(&l->feeding);
}

/* ---- listening --------------------------------------------------------------------------------------------------------------- */

/* "127.0.0.1:9000", "[::1]:9000", ":9000" or "*:9000". */
static bool read_address(const char *text, struct sockaddr_storage *address)
{
    char host[64] = "0.0.0.0";
    const char *colon = strrchr(text, ':');
    bool is_number = colon && colon[1] && strspn(colon + 1, "0123456789") == strlen(colon + 1);
    unsigned long port = is_number ? strtoul(colon + 1, NULL, 10) : 0;
    if (!is_number || port > UINT16_MAX || (size_t)(colon - text) >= sizeof(host))
        return false;
    if (colon > text && strncmp(text, "*", (size_t)(colon - text)) != 0)
        snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
    if (strcmp(host, "localhost") == 0)
        strcpy(host, "127.0.0.1");
    size_t size = strlen(host);
    if (host[0] == '[' && host[size - 1] == ']') {
        host[size - 1] = 0;
        return uv_ip6_addr(host + 1, (int)port, (struct sockaddr_in6 *)(void *)address) == 0;
    }
    return uv_ip4_addr(host, (int)port, (struct sockaddr_in *)(void *)address) == 0;
}

/* A socket that nobody listens at any more is in the way. */
static void remove_old(const char *path)
{
    struct stat stat;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (lstat(path, &stat) != 0 || !S_ISSOCK(stat.st_mode) || strlen(path) >= sizeof(address.sun_path))
        return;
    strcpy(address.sun_path, path);
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s >= 0 && connect(s, (struct sockaddr *)&address, sizeof(address)) != 0 && errno == ECONNREFUSED)
        unlink(path);
    if (s >= 0)
        close(s);
}

static int listen_at(struct listen_feeding *l)
{
    const char *address = l->address;
    struct sockaddr_storage read;
    int error;
    if (l->is_unix) {
        if (strlen(address) >= sizeof(((struct sockaddr_un *)0)->sun_path))
            return UV_ENAMETOOLONG;
        remove_old(address);
        error = uv_pipe_bind(&l->stream.pipe, address);
        /* libuv says so of a folder that is not there, too. */
        const char *slash = strrchr(address, '/');
        if (error == UV_EACCES && slash > address) {
            char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
            snprintf(folder, sizeof(folder), "%.*s", (int)(slash - address), address);
            error = access(folder, F_OK) == 0 ? error : uv_translate_sys_error(errno);
        }
    } else {
        error = read_address(address, &read) ? uv_tcp_bind(&l->stream.tcp, (struct sockaddr *)&read, 0) : UV_EINVAL;
    }
    return error ? error : uv_listen(&l->stream.stream, BACKLOG, on_connection);
}

static struct feeding *begin(struct feeder_set *set, const struct feed_request *request)
{
    struct listen_feeding *l = calloc(1, sizeof(*l));
    if (!l)
        return NULL;
    l->feeding.set = set;
    l->is_unix = request->kind == FEED_UNIX;
    l->count_max = request->connections_max;
    l->address = strdup(request->address);
    if (!l->address || (l->is_unix ? uv_pipe_init(set->config.loop, &l->stream.pipe, 0) : uv_tcp_init(set->config.loop, &l->stream.tcp)) != 0) {
        free(l->address);
        free(l);
        return NULL;
    }
    l->stream.handle.data = l;
    l->feeding.handles = 1;
    return &l->feeding;
}

static void start(struct feeding *feeding)
{
    struct listen_feeding *l = listen_of(feeding);
    int error = listen_at(l);
    if (error) {
        feeding_fail(feeding, FEED_UNREACHABLE, "%.100s cannot be listened at: %s.", l->address, uv_strerror(error));
        return;
    }
    feeding_opened(feeding, &(struct feed_opening){0});
    feeding_told(feeding);
}

static void pause_callers(struct feeding *feeding, bool paused)
{
    for (struct caller *caller = listen_of(feeding)->callers; caller; caller = caller->next)
        if (paused)
            uv_read_stop(&caller->stream.stream);
        else
            uv_read_start(&caller->stream.stream, on_room, on_read);
}

static void close_listen(struct feeding *feeding)
{
    struct listen_feeding *l = listen_of(feeding);
    while (l->callers)
        hang_up(l->callers);
    feeding_close_handle(feeding, &l->stream.handle);
}

static void free_listen(struct feeding *feeding)
{
    free(listen_of(feeding)->address);
    free(feeding);
}

const struct feeding_kind feeding_listen = {.begin = begin, .start = start, .pause = pause_callers, .close = close_listen, .free = free_listen};
