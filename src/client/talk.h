/* A talk with a broker: an AMQP 0-9-1 client without a socket. Bytes in (talk_feed), bytes out (talk_output), time as an argument.
 *
 *     talk = talk_new(&settings, &events);
 *     while talk_state(talk) != TALK_ENDED:
 *         when there is something to read:    talk_feed(talk, bytes, now_ms)
 *         when there is room to write:        bytes = talk_output(talk); …; talk_sent(talk, size, now_ms)
 *         at talk_deadline_ms(talk):          talk_tick(talk, now_ms)
 *
 * What a channel's owner asks leaves in the order in which he asks it, without waiting for answers; the answers come in that order, too. Acknowledgements are gathered
 * until talk_output is asked and leave as few frames as they can. Events are called inside talk_feed and talk_tick, and may call everything here but these and talk_free.
 *
 * Functions that return an error have done nothing. Errors: GW_ERR_NOMEM; GW_ERR_CLOSED: the channel is closed, or the talk has ended; GW_ERR_INVALID: a name longer
 * than 255 bytes; GW_ERR_LIMIT: see the function. */
#ifndef CLIENT_TALK_H
#define CLIENT_TALK_H

#include "client/message.h"
#include "protocol/amqp/uri.h"
#include "protocol/amqp/methods.h"

struct talk;
struct talk_channel;

struct talk_settings {
    const struct uri *uri;             /* user, password, vhost, heartbeat and timeout; borrowed until talk_new returns */
    const char *name;                  /* what the broker calls the connection in its lists; may be NULL */
    uint64_t body_max;                 /* bytes of the largest body that is taken in; 0: 2 GiB */
    uint64_t now_ms;
};

/* Any of the functions may be NULL. */
struct talk_events {
    void *owner;
    void (*opened)(void *owner);
    /* The broker takes no publishes for now (`reason` is its own), or takes them again. */
    void (*blocked)(void *owner, bool blocked, struct bytes reason);
};

/* Any of the functions may be NULL. */
struct talk_channel_events {
    void *owner;
    void (*delivered)(void *owner, const struct remote_message *message);
    void (*returned)(void *owner, const struct remote_message *message);
    /* The publishes with the numbers first … last were confirmed (`accepted`) or refused; each number is told once. */
    void (*confirmed)(void *owner, uint64_t first, uint64_t last, bool accepted);
    /* The broker has ended a consumer, because its queue is gone, say. */
    void (*cancelled)(void *owner, struct bytes consumer_tag);
    /* The broker has closed the channel, because of what it refused: the channel is gone. Calls that wait are answered with NULL before. */
    void (*closed)(void *owner, unsigned reply_code, struct bytes reply_text);
};

/* The answer of a call; NULL: the channel was closed before. Valid until it returns. */
typedef void (*talk_answered_fn)(void *context, const struct amqp_method *answer);
/* What a basic.get found; NULL: the queue is empty, or the channel was closed before (`closed`). */
typedef void (*talk_fetched_fn)(void *context, const struct remote_message *message, bool closed);

enum talk_state {
    TALK_STARTING,   /* greets and logs in */
    TALK_OPEN,
    TALK_CLOSING,    /* has said goodbye */
    TALK_ENDED,      /* says and hears nothing any more: talk_end, talk_error */
};

enum talk_end {
    TALK_END_NONE,
    TALK_END_GOODBYE,    /* talk_close was answered */
    TALK_END_REFUSED,    /* the broker did not let us in: talk_reply_code, or 0 when it hung up at the password */
    TALK_END_CLOSED,     /* the broker closed the connection: talk_reply_code */
    TALK_END_LOST,       /* it hung up, or gave no sign of life */
    TALK_END_MALFORMED,  /* it does not keep to AMQP 0-9-1, or sent what is too large */
    TALK_END_MEMORY,
};

/* NULL: out of memory. */
struct talk *talk_new(const struct talk_settings *settings, const struct talk_events *events);

/* Its channels are gone with it, without an event. */
void talk_free(struct talk *talk);

/* Takes in what the broker said. */
void talk_feed(struct talk *talk, struct bytes bytes, uint64_t now_ms);

/* The broker hung up, or the socket failed: `why` is a sentence part, or NULL. */
void talk_lost(struct talk *talk, const char *why);

/* What is to be sent; valid until the next call of anything here. */
struct bytes talk_output(struct talk *talk);
/* The first `size` bytes of it were sent. */
void talk_sent(struct talk *talk, size_t size, uint64_t now_ms);
/* Bytes that wait to be sent, acknowledgements that are not written yet aside. */
size_t talk_output_size(const struct talk *talk);

/* Nothing is read for now: that nothing comes is no sign that the broker is dead. */
void talk_unheard(struct talk *talk, uint64_t now_ms);

/* Heartbeats and timeouts. */
void talk_tick(struct talk *talk, uint64_t now_ms);
uint64_t talk_deadline_ms(const struct talk *talk);

/* Says goodbye; what was asked before is sent before. */
void talk_close(struct talk *talk, uint64_t now_ms);

enum talk_state talk_state(const struct talk *talk);
enum talk_end talk_end(const struct talk *talk);
/* A sentence about the end. */
const char *talk_error(const struct talk *talk);
unsigned talk_reply_code(const struct talk *talk);
/* What the broker calls itself, e.g. "RabbitMQ 3.10.8"; "" before it said so. */
const char *talk_product(const struct talk *talk);
uint32_t talk_frame_max(const struct talk *talk);
bool talk_is_blocked(const struct talk *talk);
/* The broker knows talk_nack_after. */
bool talk_can_delay(const struct talk *talk);

/* Opens a channel; needs TALK_OPEN. NULL: out of memory, or of channels. */
struct talk_channel *talk_channel_open(struct talk *talk, const struct talk_channel_events *events);

/* No event of it comes any more, no call is answered; what is unacknowledged goes back to its queue. */
void talk_channel_close(struct talk_channel *channel);

/* Asks with a method of the channel that is answered by `reply`. `answered` may be NULL. GW_ERR_LIMIT: larger than a frame. */
enum gw_err talk_call(struct talk_channel *channel, enum amqp_method_id method, const struct amqp_value *values, enum amqp_method_id reply,
                      talk_answered_fn answered, void *context);

/* Asks that publishes be confirmed; they are numbered from 1 on then. */
enum gw_err talk_confirm_select(struct talk_channel *channel);

/* *number: the publish's, when they are confirmed; else 0. GW_ERR_LIMIT: the properties are larger than a frame. */
enum gw_err talk_publish(struct talk_channel *channel, struct bytes exchange, struct bytes routing_key, bool mandatory, struct bytes properties,
                         struct bytes body, uint64_t *number);
/* Publishes that were neither confirmed nor refused so far. */
uint64_t talk_unconfirmed(const struct talk_channel *channel);

/* Deliveries of this consumer need no acknowledgement when `no_ack`. */
enum gw_err talk_consume(struct talk_channel *channel, const char *queue, const char *consumer_tag, bool no_ack, bool exclusive, struct bytes arguments,
                         talk_answered_fn answered, void *context);
enum gw_err talk_get(struct talk_channel *channel, const char *queue, bool no_ack, talk_fetched_fn fetched, void *context);

/* Settles one delivery, which was not settled before. */
void talk_ack(struct talk_channel *channel, uint64_t delivery_tag);
enum gw_err talk_nack(struct talk_channel *channel, uint64_t delivery_tag, bool requeue);
/* Back to its queue, where it waits for so long. */
enum gw_err talk_nack_after(struct talk_channel *channel, uint64_t delivery_tag, uint64_t delay_ms);

#endif
