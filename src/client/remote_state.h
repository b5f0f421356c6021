/* What remote.c and handshake.c share: the inside of a struct remote. */
#ifndef CLIENT_REMOTE_STATE_H
#define CLIENT_REMOTE_STATE_H

#include "client/arrival.h"
#include "client/login.h"
#include "client/remote.h"

#define REMOTE_CHANNEL 1
#define REMOTE_CALL_TIMEOUT_MS 60000u   /* for an answer; a broker may sync thousands of declares before this one */

struct remote {
    struct uri uri;
    char *name;
    struct remote_events events;
    uint64_t message_max;
    int fd, wake_fd;
    struct seal *seal;           /* NULL: in the open */
    bool greeted;                /* the first bytes of the broker were seen to be AMQP frames */
    bool connected, channel_open;
    uint32_t frame_max;          /* 4096 until both sides agreed, as the specification (4.2.3) says; never 0 */
    uint32_t heartbeat_ms;       /* 0: none */
    uint64_t sent_ms, received_ms;   /* when something was last sent and received */
    struct remote_buffer in, out;

    /* The call that is waiting. */
    uint32_t awaited[2];
    bool answered;
    struct remote_buffer answer; /* the method's payload; a fetched message stays in `arriving` */

    struct message_arrival arriving;

    /* Of control.c: the request that waits for its answer, and the answer. */
    struct {
        bool consuming, waiting, answered, refused, failed;
        uint32_t number;
        struct remote_buffer answer;
    } control;

    unsigned reply_code;
    char product[LOGIN_PRODUCT_SIZE];
    char error[640];
};

/* Remembers the sentence and returns `err`. */
__attribute__((format(printf, 3, 4)))
enum gw_err remote_fail(struct remote *remote, enum gw_err err, const char *format, ...);

/* Like remote_call, on any channel and with a time limit. */
enum gw_err remote_call_on(struct remote *remote, uint16_t channel, uint32_t method, const struct amqp_value *values,
                           uint32_t reply, uint32_t other_reply, uint64_t timeout_ms, struct amqp_method *answer);

/* Waits until one of the awaited methods arrived. */
enum gw_err remote_await(struct remote *remote, uint32_t reply, uint32_t other_reply, uint64_t timeout_ms,
                         struct amqp_method *answer);

enum gw_err remote_send_on(struct remote *remote, uint16_t channel, uint32_t method, const struct amqp_value *values);

/* Sends as much as the socket takes now, like send. */
ssize_t remote_push(struct remote *remote, const void *data, size_t size);

/* Closes the socket as it is. */
void remote_lose(struct remote *remote);

/* Handles every whole frame that was read; stops early when one that a call waits for is among them. */
enum gw_err remote_handle_input(struct remote *remote);

/* Greets, logs in, agrees on limits and opens the vhost over remote->fd. */
enum gw_err remote_handshake(struct remote *remote);

#endif
