/* A receiver of webhooks that costs as little as it can: it answers 204 and counts.
 *
 *   webhooks_sink
 *
 * Prints {"port": N}. Then it does what the lines on its standard input say, and prints JSON:
 *   await N     waits until N more deliveries have come: {"deliveries": N, "seconds": from the first of them to the last, "connections": how many brought them}
 *   times       of the deliveries since the last line whose bodies begin with the time at which they were sent (16 hexadecimal digits of nanoseconds of the monotonic clock):
 *               {"deliveries": N, "p50_us": …, "p99_us": …, "max_us": …}
 */
#include "load.h"

#include "cli/histogram.h"

#include <strings.h>

#define ROOM (256 * 1024)
#define ANSWER "HTTP/1.1 204 No Content\r\n\r\n"

struct visitor {
    int socket;
    size_t size, room;
    char *data;
    bool counted;
};

struct sink {
    int loop, listener;
    uint64_t count, first_ns, last_ns, connections;
    uint64_t awaited;                /* 0: nothing is */
    struct histogram times;
};

static uint64_t read_hex(const char *at)
{
    char text[17] = "";
    memcpy(text, at, 16);
    return strtoull(text, NULL, 16);
}

static void tell(struct sink *sink)
{
    if (!sink->awaited || sink->count < sink->awaited)
        return;
    printf("{\"deliveries\":%llu,\"seconds\":%.6f,\"connections\":%llu}\n", (unsigned long long)sink->count, (double)(sink->last_ns - sink->first_ns) / 1e9,
           (unsigned long long)sink->connections);
    fflush(stdout);
    sink->awaited = 0;
}

static void take(struct sink *sink, const char *message, size_t size)
{
    const char *body = (const char *)memmem(message, size, "\r\n\r\n", 4) + 4;
    sink->last_ns = now_ns();
    if (!sink->count++)
        sink->first_ns = sink->last_ns;
    if ((size_t)(message + size - body) >= 16) {
        uint64_t sent_ns = read_hex(body);
        if (sent_ns && sent_ns < sink->last_ns)
            histogram_add(&sink->times, sink->last_ns - sent_ns, 1);
    }
}

/* False: it has gone. */
static bool hear(struct sink *sink, struct visitor *visitor)
{
    if (visitor->size + 1 == visitor->room) {
        visitor->room *= 2;
        visitor->data = realloc(visitor->data, visitor->room);
        if (!visitor->data)
            die("realloc");
    }
    ssize_t got = recv(visitor->socket, visitor->data + visitor->size, visitor->room - 1 - visitor->size, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (got <= 0)
        return false;
    visitor->size += (size_t)got;
    visitor->data[visitor->size] = 0;
    size_t at = 0, size;
    while (at < visitor->size && (size = message_size(visitor->data + at, visitor->size - at))) {
        if (!visitor->counted)
            sink->connections++;
        visitor->counted = true;
        take(sink, visitor->data + at, size);
        send_all(visitor->socket, ANSWER, sizeof(ANSWER) - 1);
        at += size;
    }
    memmove(visitor->data, visitor->data + at, visitor->size - at);
    visitor->size -= at;
    return true;
}

static void let_in(struct sink *sink)
{
    int on = 1, s = accept4(sink->listener, NULL, NULL, SOCK_CLOEXEC);
    struct visitor *visitor = calloc(1, sizeof(*visitor));
    if (s < 0 || !visitor || !(visitor->data = malloc(ROOM)))
        die("accept");
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    visitor->socket = s;
    visitor->room = ROOM;
    watch(sink->loop, s, visitor);
}

static void obey(struct sink *sink)
{
    char line[128];
    ssize_t got = read(STDIN_FILENO, line, sizeof(line) - 1);
    if (got <= 0)
        exit(0);
    line[got] = 0;
    if (strncmp(line, "await ", 6) == 0) {
        sink->awaited = strtoull(line + 6, NULL, 10);
        sink->count = 0;
    } else if (strncmp(line, "times", 5) == 0) {
        printf("{\"deliveries\":%llu,\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f}\n", (unsigned long long)sink->times.count,
               (double)histogram_quantile(&sink->times, 0.5) / 1e3, (double)histogram_quantile(&sink->times, 0.99) / 1e3, (double)sink->times.maximum / 1e3);
        fflush(stdout);
        histogram_init(&sink->times);
    }
}

int main(void)
{
    static struct sink sink;
    static char of_stdin, of_listener;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    struct epoll_event events[EVENTS];
    histogram_init(&sink.times);
    sink.loop = epoll_create1(EPOLL_CLOEXEC);
    sink.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sink.loop < 0 || sink.listener < 0 || bind(sink.listener, (struct sockaddr *)&address, size) || listen(sink.listener, 1024) ||
        getsockname(sink.listener, (struct sockaddr *)&address, &size))
        die("listen");
    watch(sink.loop, sink.listener, &of_listener);
    watch(sink.loop, STDIN_FILENO, &of_stdin);
    printf("{\"port\":%u}\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(sink.loop, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            void *owner = events[i].data.ptr;
            if (owner == &of_listener) {
                let_in(&sink);
            } else if (owner == &of_stdin) {
                obey(&sink);
            } else if (!hear(&sink, owner)) {
                struct visitor *visitor = owner;
                close(visitor->socket);
                free(visitor->data);
                free(visitor);
            }
        }
        tell(&sink);
    }
}
