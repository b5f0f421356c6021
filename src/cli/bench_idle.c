#include "cli/bench_idle.h"

#include "client/remote.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* A connection's socket, or -1 with the reason in idle->error. */
static int open_one(struct bench_idle *idle, const struct bench_plan *plan)
{
    struct uri uri = plan->uri;
    uri.heartbeat_s = 0;
    struct remote *remote = remote_new(&(struct remote_settings){.uri = &uri, .name = "godwit bench idle", .wake_fd = -1},
                                       &(struct remote_events){0});
    if (!remote) {
        snprintf(idle->error, sizeof idle->error, "out of memory");
        return -1;
    }
    int socket = remote_connect(remote) == GW_OK ? fcntl(remote_socket(remote), F_DUPFD_CLOEXEC, 0) : -1;
    if (socket < 0)
        snprintf(idle->error, sizeof idle->error, "after %" PRIu64 " idle connections: %s", idle->count,
                 *remote_error(remote) ? remote_error(remote) : strerror(errno));
    snprintf(idle->broker, sizeof idle->broker, "%s", remote_product(remote));
    remote_free(remote);
    return socket;
}

bool bench_idle_open(struct bench_idle *idle, const struct bench_plan *plan, uint64_t count, struct console *console)
{
    *idle = (struct bench_idle){.sockets = calloc(count ? count : 1, sizeof(int))};
    if (!idle->sockets) {
        snprintf(idle->error, sizeof idle->error, "out of memory");
        return false;
    }
    raise_file_limit();
    while (idle->count < count) {
        int socket = open_one(idle, plan);
        if (socket < 0)
            break;
        idle->sockets[idle->count++] = socket;
        console_progress(console, idle->count, "connections");
    }
    console_clear(console);
    return idle->count == count;
}

void bench_idle_close(struct bench_idle *idle)
{
    for (uint64_t i = 0; i < idle->count; i++)
        close(idle->sockets[i]);
    free(idle->sockets);
    *idle = (struct bench_idle){0};
}
