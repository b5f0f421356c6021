#include "client/dial.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

uint64_t dial_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void set_options(int fd)
{
    int on = 1, idle_s = 30, interval_s = 10, probes = 4;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

/* Connects to one address; returns a socket, or -1 with errno set. */
static int try_address(const struct addrinfo *address, uint64_t deadline_ms)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int error = connect(fd, address->ai_addr, address->ai_addrlen) == 0 ? 0 : errno;
    while (error == EINPROGRESS || error == EINTR) {
        uint64_t now = dial_now_ms();
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        int count = poll(&wait, 1, now < deadline_ms ? (int)(deadline_ms - now) : 0);
        if (count < 0 && errno == EINTR)
            continue;
        socklen_t size = sizeof error;
        if (count == 0)
            error = ETIMEDOUT;
        else if (count < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
            error = errno;
    }
    if (error == 0) {
        set_options(fd);
        return fd;
    }
    close(fd);
    errno = error;
    return -1;
}

enum gw_err dial(const char *host, uint16_t port, uint32_t timeout_ms, int *fd, char *complaint, size_t complaint_size)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *addresses;
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    int failure = getaddrinfo(host, service, &hints, &addresses);
    if (failure && strcmp(host, "localhost") == 0)   /* a machine without /etc/hosts still has its loopback (RFC 6761, section 6.3) */
        failure = getaddrinfo("127.0.0.1", service, &hints, &addresses);
    if (failure) {
        snprintf(complaint, complaint_size, "cannot find the host %s: %s", host,
                 failure == EAI_SYSTEM ? strerror(errno) : gai_strerror(failure));
        return GW_ERR_NOT_FOUND;
    }
    uint64_t deadline_ms = dial_now_ms() + timeout_ms;
    *fd = -1;
    for (const struct addrinfo *address = addresses; address && *fd < 0; address = address->ai_next)
        *fd = try_address(address, deadline_ms);
    int error = errno;
    freeaddrinfo(addresses);
    if (*fd >= 0)
        return GW_OK;
    snprintf(complaint, complaint_size, "cannot connect to %s port %u: %s", host, port, strerror(error));
    return GW_ERR_IO;
}
