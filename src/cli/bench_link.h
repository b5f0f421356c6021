/* A connection whose frames the measurement reads and writes by itself, after the client library made it. */
#ifndef CLI_BENCH_LINK_H
#define CLI_BENCH_LINK_H

#include "cli/bench_plan.h"
#include "client/remote.h"
#include "protocol/amqp/methods.h"

#define BENCH_CHANNEL 1

struct bench_link {
    struct remote *remote;
    int fd;
    uint8_t *in;                 /* what was read: in[begin..end) */
    size_t begin, end, capacity;
    uint32_t frame_max;
    uint64_t blocked_ns, blocked_since_ns;   /* how long the broker took no publishes */
    char error[700];
};

/* Connects; `capacity` bytes for what is read, more than a frame. Errors: then link->error says why. */
enum gw_err bench_link_open(struct bench_link *link, const struct bench_plan *plan, const char *name, size_t capacity);

/* Says goodbye, waits for the answer, drops what else arrives. `link` may never have been opened if it is zeroed. */
void bench_link_close(struct bench_link *link);

enum bench_progress { BENCH_SOME, BENCH_NONE, BENCH_BROKEN };

/* Reads once without waiting. */
enum bench_progress bench_link_read(struct bench_link *link);

/* Writes what the socket takes now; moves *data and *size on. */
enum bench_progress bench_link_write(struct bench_link *link, const uint8_t **data, size_t *size);

/* Writes all, dropping nothing: what arrives meanwhile stays in the socket. For short texts only. */
enum bench_progress bench_link_write_all(struct bench_link *link, const uint8_t *data, size_t size);

/* Waits for POLLIN, POLLOUT or both, at most `timeout_ns`. */
void bench_link_wait(struct bench_link *link, short events, uint64_t timeout_ns);

static inline struct bytes bench_link_held(const struct bench_link *link)
{
    return bytes_of(link->in + link->begin, link->end - link->begin);
}

/* Takes note of a frame that is none of the expected ones: heartbeats, blocked, and what ends a connection.
 * BENCH_BROKEN: link->error says why it is over. */
enum bench_progress bench_link_other(struct bench_link *link, const struct amqp_frame *frame);

/* Formats link->error, returns BENCH_BROKEN. */
__attribute__((format(printf, 2, 3)))
enum bench_progress bench_link_break(struct bench_link *link, const char *format, ...);

#endif
