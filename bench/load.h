/* What the load generators of this folder share: the clock, sockets, and HTTP/1.1 requests and answers as far as they need them. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 512

static inline uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

__attribute__((noreturn)) static inline void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

/* A connection to a port of this machine. */
static inline int connect_to(unsigned port)
{
    int on = 1, s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (s < 0 || connect(s, (struct sockaddr *)&address, sizeof(address)))
        die("connect");
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return s;
}

/* Tells the loop of what can be read, with `owner`. */
static inline void watch(int loop, int s, void *owner)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = owner};
    if (epoll_ctl(loop, EPOLL_CTL_ADD, s, &event))
        die("epoll_ctl");
}

static inline void send_all(int s, const char *data, size_t size)
{
    while (size) {
        ssize_t sent = send(s, data, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            die("send");
        if (sent > 0) {
            data += sent;
            size -= (size_t)sent;
        }
    }
}

/* The size of the first message in `text`, head and body of the length that it says (none: no body). 0: it is not whole. */
static inline size_t message_size(const char *text, size_t size)
{
    const char *end = memmem(text, size, "\r\n\r\n", 4), *at = text;
    if (!end)
        return 0;
    size_t head = (size_t)(end - text) + 4, length = 0;
    while ((at = memchr(at, '\n', (size_t)(end - at)))) {
        at++;
        if (strncasecmp(at, "content-length:", 15) == 0)
            length = strtoul(at + 15, NULL, 10);
    }
    return head + length <= size ? head + length : 0;
}

/* A number in place, of `digits` digits of base 16. */
static inline void put_hex(char *at, uint64_t number, unsigned digits)
{
    while (digits--) {
        at[digits] = "0123456789abcdef"[number & 15];
        number >>= 4;
    }
}

#endif
