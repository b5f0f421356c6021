/* A broker at the other end of a socket: an AMQP 0-9-1 client that waits for its answers. One connection, one channel.
 *
 * Everything runs on the calling thread, inside these functions: heartbeats are sent and frames are read while one of them
 * waits, so a caller that has nothing to do calls remote_wait. What arrives unasked (deliveries, returns, confirms) is handed
 * to `events`; its functions may settle messages (remote_ack, remote_nack), and call nothing else of this file.
 *
 * Every function that returns an error leaves a sentence about it in remote_error. The broker's refusals become
 * GW_ERR_NOT_FOUND (404), GW_ERR_PERMISSION (403), GW_ERR_BUSY (405), GW_ERR_INVALID (every other reply code); then the
 * channel is closed, or the connection. GW_ERR_CLOSED: the connection was lost or the wait was interrupted.
 * GW_ERR_IO: no answer in time. */
#ifndef CLIENT_REMOTE_H
#define CLIENT_REMOTE_H

#include "base/bytes.h"
#include "base/err.h"
#include "client/message.h"
#include "protocol/amqp/uri.h"

struct remote;
struct amqp_value;
struct amqp_method;

/* Any of the functions may be NULL. */
struct remote_events {
    void *owner;
    void (*delivered)(void *owner, const struct remote_message *message);
    void (*returned)(void *owner, const struct remote_message *message);
    /* The broker confirmed (`accepted`) or refused the publish with this number, and all before it when `multiple`. */
    void (*confirmed)(void *owner, uint64_t number, bool multiple, bool accepted);
    void (*cancelled)(void *owner, struct bytes consumer_tag);
    /* The broker takes no publishes for now (`reason` is its own), or takes them again. */
    void (*blocked)(void *owner, bool blocked, struct bytes reason);
};

struct remote_settings {
    const struct uri *uri;             /* borrowed until remote_new returns */
    const char *name;                  /* what the broker calls the connection in its lists; may be NULL */
    int wake_fd;                       /* waiting ends when it becomes readable, e.g. a signalfd; -1: none */
    uint64_t message_max;              /* bytes of the largest body that is taken in; 0: 2 GiB */
};

/* NULL: out of memory. Nothing is sent yet. */
struct remote *remote_new(const struct remote_settings *settings, const struct remote_events *events);

/* Drops the connection as it is, if there is one. */
void remote_free(struct remote *remote);

/* Connects, logs in and opens the channel. */
enum gw_err remote_connect(struct remote *remote);

/* Says goodbye to the broker and waits a few seconds for its answer. */
enum gw_err remote_close(struct remote *remote);

/* Opens the channel again after a refusal closed it. */
enum gw_err remote_channel_open(struct remote *remote);

bool remote_channel_is_open(const struct remote *remote);

/* A sentence about the last error; static until the next call. */
const char *remote_error(const struct remote *remote);

/* The reply code of the last refusal, 0 when there was none. */
unsigned remote_reply_code(const struct remote *remote);

/* Bytes of the largest frame that both sides agreed on. */
uint32_t remote_frame_max(const struct remote *remote);

/* The socket, for who goes on by himself after the connection was made; it stays the remote's and is non-blocking. */
int remote_socket(const struct remote *remote);

/* What the broker calls itself and its version, e.g. "RabbitMQ 3.10.8"; "" before it said so. */
const char *remote_product(const struct remote *remote);

enum remote_ready {
    REMOTE_READY_INPUT = 1,    /* frames arrived and were handed on */
    REMOTE_READY_EXTRA = 2,    /* extra_fd is readable */
    REMOTE_READY_WAKE = 4,     /* wake_fd is readable */
};

#define REMOTE_FOREVER UINT64_MAX

/* Sends what is to be sent, then waits until something of enum remote_ready is true or the time is over; *ready may be 0
 * then. extra_fd: -1 for none. */
enum gw_err remote_wait(struct remote *remote, int extra_fd, uint64_t timeout_ms, unsigned *ready);

/* Sends what is to be sent, reading meanwhile what arrives. */
enum gw_err remote_flush(struct remote *remote);

/* Sends a heartbeat if one is due, without waiting: for who is busy elsewhere. */
enum gw_err remote_keep_alive(struct remote *remote);

/* Sends a method on the channel (or on 0 for class connection) and waits for `reply` or `other_reply` (0: none), whose
 * values are valid until the next call. */
enum gw_err remote_call(struct remote *remote, uint32_t method, const struct amqp_value *values, uint32_t reply,
                        uint32_t other_reply, struct amqp_method *answer);

/* Puts a method's frame into the output; it leaves with the next flush or wait. */
enum gw_err remote_send(struct remote *remote, uint32_t method, const struct amqp_value *values);

/* Puts a publish into the output and sends when much has gathered. `properties` is encoded. Publishes are numbered from 1
 * on since remote_confirm_select. */
enum gw_err remote_publish(struct remote *remote, struct bytes exchange, struct bytes routing_key, bool mandatory,
                           struct bytes properties, struct bytes body);

/* Settles one delivery, or all up to it; leaves with the next flush or wait. */
enum gw_err remote_ack(struct remote *remote, uint64_t delivery_tag, bool multiple);
enum gw_err remote_nack(struct remote *remote, uint64_t delivery_tag, bool multiple, bool requeue);

/* Takes one message out of a queue. *found: there was one, then *message is valid until the next call. */
enum gw_err remote_get(struct remote *remote, const char *queue, bool no_ack, struct remote_message *message, bool *found);

#endif
