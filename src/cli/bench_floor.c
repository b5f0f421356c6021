#include "cli/bench_floor.h"

#include "cli/bench_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define ECHO_ROOM 65536u
#define SYNC_BLOCK 4096u
#define SYNC_FILE_SIZE (4u << 20)
#define SYNC_COUNT 400u
#define SYNC_MAX_NS 3000000000u

/* Both ends of a connection over loopback. */
static bool connect_loopback(int *client, int *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *server = -1;
    if (listener >= 0 && *client >= 0 && bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 1) == 0 &&
        getsockname(listener, (struct sockaddr *)&address, &size) == 0 &&
        connect(*client, (struct sockaddr *)&address, size) == 0)
        *server = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (listener >= 0)
        close(listener);
    if (*server >= 0) {
        setsockopt(*client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(*server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        return true;
    }
    if (*client >= 0)
        close(*client);
    return false;
}

/* Writes back what it reads, until the peer is done. */
static void *echo(void *argument)
{
    int fd = *(int *)argument, epoll = epoll_create1(EPOLL_CLOEXEC);
    char *room = malloc(ECHO_ROOM);
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll >= 0 && room && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0) {
        for (;;) {
            epoll_wait(epoll, &event, 1, -1);
            ssize_t size = recv(fd, room, ECHO_ROOM, 0);
            if (size < 0 && errno == EAGAIN)
                continue;
            if (size <= 0)
                break;
            for (ssize_t sent = 0; sent < size;) {
                ssize_t some = send(fd, room + sent, (size_t)(size - sent), MSG_NOSIGNAL);
                if (some > 0)
                    sent += some;
                else if (errno != EAGAIN)
                    break;
            }
        }
    }
    shutdown(fd, SHUT_RDWR);
    free(room);
    if (epoll >= 0)
        close(epoll);
    return NULL;
}

struct sender {
    int fd;
    size_t size;
    uint64_t rate, duration_ms;
};

static void *send_paced(void *argument)
{
    const struct sender *sender = argument;
    uint64_t start_ns = bench_now_ns(), count = sender->rate * sender->duration_ms / 1000;
    uint8_t *message = calloc(1, sender->size);
    prctl(PR_SET_TIMERSLACK, 1);
    for (uint64_t i = 0; message && i < count; i++) {
        uint64_t due_ns = start_ns + (uint64_t)((double)i * 1e9 / (double)sender->rate);
        for (uint64_t now = bench_now_ns(); now < due_ns; now = bench_now_ns()) {
            struct timespec wait = {.tv_sec = (time_t)((due_ns - now) / 1000000000u), .tv_nsec = (long)((due_ns - now) % 1000000000u)};
            ppoll(NULL, 0, &wait, NULL);
        }
        store_le64(message, bench_now_ns());
        size_t sent = 0;
        while (sent < sender->size) {
            ssize_t some = send(sender->fd, message + sent, sender->size - sent, MSG_NOSIGNAL);
            if (some < 0 && errno != EINTR)
                break;
            sent += some > 0 ? (size_t)some : 0;
        }
        if (sent < sender->size)
            break;
    }
    free(message);
    shutdown(sender->fd, SHUT_WR);
    return NULL;
}

/* Receives whole messages of `size` bytes, as a consumer does: reads, and waits where there is nothing. */
static void receive(int fd, size_t size, struct histogram *ages, uint8_t *room)
{
    size_t held = 0;
    for (;;) {
        ssize_t some = recv(fd, room + held, ECHO_ROOM + size - held, MSG_DONTWAIT);
        if (some < 0 && (errno == EAGAIN || errno == EINTR)) {
            struct pollfd wait = {.fd = fd, .events = POLLIN};
            poll(&wait, 1, 1000);
            continue;
        }
        if (some <= 0)
            return;
        held += (size_t)some;
        uint64_t now = bench_now_ns();
        size_t at = 0;
        for (; held - at >= size; at += size)
            histogram_add(ages, now - load_le64(room + at), 1);
        memmove(room, room + at, held - at);
        held -= at;
    }
}

enum gw_err bench_floor_echo(size_t size, uint64_t rate, uint64_t duration_ms, struct histogram *ages)
{
    int client, server;
    pthread_t echo_thread, send_thread;
    enum gw_err err = GW_OK;
    if (size < 8)
        size = 8;
    uint8_t *room = malloc(ECHO_ROOM + size);
    if (!room)
        return GW_ERR_NOMEM;
    if (!connect_loopback(&client, &server)) {
        free(room);
        return GW_ERR_IO;
    }
    struct sender sender = {client, size, rate, duration_ms};
    if (pthread_create(&echo_thread, NULL, echo, &server) != 0) {
        err = GW_ERR_NOMEM;
    } else {
        if (pthread_create(&send_thread, NULL, send_paced, &sender) == 0) {
            receive(client, size, ages, room);
            pthread_join(send_thread, NULL);
        } else {
            err = GW_ERR_NOMEM;
            shutdown(client, SHUT_RDWR);
        }
        pthread_join(echo_thread, NULL);
    }
    close(client);
    close(server);
    free(room);
    return err;
}

/* Writes one block at `offset` and makes it durable; returns false with errno set. */
static bool write_synced(int fd, const void *block, off_t offset, bool *by_flag)
{
    struct iovec iov = {(void *)(uintptr_t)block, SYNC_BLOCK};
    if (*by_flag) {
        if (pwritev2(fd, &iov, 1, offset, RWF_DSYNC) == SYNC_BLOCK)
            return true;
        if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)
            return false;
        *by_flag = false;
    }
    return pwrite(fd, block, SYNC_BLOCK, offset) == SYNC_BLOCK && fdatasync(fd) == 0;
}

enum gw_err bench_floor_sync(const char *directory, struct histogram *ages, const char **method)
{
    char path[4096];
    void *block;
    bool is_direct = true, by_flag = true;
    enum gw_err err = GW_OK;
    *method = "";
    snprintf(path, sizeof path, "%s/.godwit-bench-%d", directory, (int)getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT, 0600);
    if (fd < 0) {
        is_direct = false;
        fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    }
    if (fd < 0)
        return gw_err_from_errno(errno);
    if (posix_memalign(&block, SYNC_BLOCK, SYNC_BLOCK) != 0) {
        err = GW_ERR_NOMEM;
        goto done;
    }
    memset(block, 0, SYNC_BLOCK);
    /* As a log's file is: filled with zeros beforehand, so that a sync has no metadata to write. */
    for (off_t offset = 0; offset < SYNC_FILE_SIZE && !err; offset += SYNC_BLOCK) {
        if (pwrite(fd, block, SYNC_BLOCK, offset) != SYNC_BLOCK)
            err = gw_err_from_errno(errno);
    }
    if (!err && fsync(fd) < 0)
        err = gw_err_from_errno(errno);
    uint64_t begin_ns = bench_now_ns();
    for (uint32_t i = 0; i < SYNC_COUNT && !err && bench_now_ns() - begin_ns < SYNC_MAX_NS; i++) {
        uint64_t start_ns = bench_now_ns();
        if (!write_synced(fd, block, (off_t)(i * SYNC_BLOCK % SYNC_FILE_SIZE), &by_flag))
            err = gw_err_from_errno(errno);
        else
            histogram_add(ages, bench_now_ns() - start_ns, 1);
    }
    *method = by_flag ? (is_direct ? "pwritev2 with RWF_DSYNC, O_DIRECT" : "pwritev2 with RWF_DSYNC")
                      : (is_direct ? "pwrite and fdatasync, O_DIRECT" : "pwrite and fdatasync");
    free(block);
done:
    close(fd);
    unlink(path);
    return err;
}
