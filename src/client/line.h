/* A line to a broker: a connection that comes back. What was published waits until it is confirmed, and is sent again over the next connection; queues, bindings and consumers are made
 * again; when nobody answers it is tried again, later each time. Without a socket: bytes in and out, time as an argument, and `dial` when it wants a connection.
 *
 *     line_turn(line, now)      at line_deadline_ms, and after anything else was called here; then line_output is to be sent
 *     line_connected, line_feed, line_lost      what became of `dial`, and what came
 *
 * Events are messages to a durable topic exchange, which is declared at the beginning of each connection, unless the line does without it. A station is a queue that is bound to it, and its
 * consumers, on a channel of its own. What is published leaves in its order, and only when all stations have been made: what a program publishes after it has subscribed, it gets.
 *
 * At least once: what was sent and not confirmed when the connection broke is sent again, with the same properties, whether the broker has it already or not. */
#ifndef CLIENT_LINE_H
#define CLIENT_LINE_H

#include "base/bytes.h"
#include "base/err.h"
#include "protocol/amqp/uri.h"

#define LINE_EXCHANGE "events"
#define LINE_TEXT_MAX 255u             /* bytes of an exchange's, queue's or routing key's name */

struct line;
struct station;

enum line_level { LINE_INFO, LINE_WARNING, LINE_ERROR };

/* What became of a publish. */
enum line_verdict {
    LINE_TAKEN,          /* confirmed */
    LINE_REFUSED,        /* the broker refused it, or would end the channel because of it: line_error says why */
    LINE_NO_ROUTE,       /* it was mandatory, and there is no queue for it */
};

/* A message that has come: settled once, or replaced, unless it was lost before; and released, then or later. */
struct line_delivery {
    struct line_delivery *next, *previous;   /* of its station, while it can be settled */
    struct station *station;                 /* NULL: it cannot be settled any more */
    uint64_t tag;
    unsigned references;
    bool redelivered;
    struct bytes exchange, routing_key, properties, body;
};

/* All of them are called inside the functions of this file, may call line_publish, line_settle, line_replace, line_release and line_subscribe, and nothing else here. */
struct line_events {
    void *owner;
    /* Wants a connection to the first part of a URI, or wants none any more (whatever was begun or is open). */
    void (*dial)(void *owner, const struct uri *uri);
    void (*hang_up)(void *owner);
    /* What became of the publish with this ticket; not of those with ticket 0. */
    void (*told)(void *owner, uint64_t ticket, enum line_verdict verdict);
    /* A message for a station. False: it cannot be taken now, goes back, and is released. */
    bool (*delivered)(void *owner, void *context, struct line_delivery *delivery);
    /* What a station has delivered cannot be settled any more, and comes again. It is to be released all the same. */
    void (*lost)(void *owner, void *context);
    void (*notice)(void *owner, enum line_level level, const char *sentence);
};

struct line_settings {
    const struct uri *uris;            /* tried one after the other; borrowed until line_new returns */
    unsigned uri_count;                /* 1 … LINE_URIS_MAX */
    const char *name;                  /* what the broker calls the connection in its lists; may be NULL */
    uint64_t retry_min_ms, retry_max_ms;   /* between two rounds of attempts, twice as long each time; 0: 100 and 30,000. A log-in that is refused is tried again after the longest */
    uint64_t window_bytes;             /* of publishes that wait to be confirmed; 0: 16 MiB */
    bool bare;                         /* LINE_EXCHANGE is not asked for: stations have no pattern, and what is published names what is there */
    unsigned refused_max;              /* log-ins that the broker may refuse in a row (403, 530) before it is closed: LINE_NOT_LET_IN; 0: never */
    bool once;                         /* with the end of its first connection, or the first round of attempts in vain, it is closed: line_cause */
    uint64_t seed;                     /* of the jitter */
    uint64_t now_ms;
};

#define LINE_URIS_MAX 16u

/* NULL: out of memory. It dials in its first turn. */
struct line *line_new(const struct line_settings *settings, const struct line_events *events);
/* Hangs up, without an event. What it delivered can still be released. */
void line_free(struct line *line);

/* ---- the connection ---- */

/* What was asked by `dial` is there, or not: `why` is a sentence part. */
void line_connected(struct line *line, uint64_t now_ms);
void line_unreachable(struct line *line, const char *why, uint64_t now_ms);
void line_feed(struct line *line, struct bytes bytes, uint64_t now_ms);
/* It broke; `why` may be NULL: the broker hung up. */
void line_lost(struct line *line, const char *why, uint64_t now_ms);

struct bytes line_output(struct line *line);
void line_sent(struct line *line, size_t size, uint64_t now_ms);

/* Nothing is read for now, on purpose: before each line_turn until it is again. */
void line_unheard(struct line *line, uint64_t now_ms);

void line_turn(struct line *line, uint64_t now_ms);
uint64_t line_deadline_ms(const struct line *line);

/* Says goodbye, or gives up trying. Nothing is told of what was not confirmed so far. */
void line_close(struct line *line, uint64_t now_ms);
bool line_is_closed(const struct line *line);

/* Logged in, with the exchange made. */
bool line_is_up(const struct line *line);
/* The broker is Godwit: it has retries, groups and delays. */
bool line_is_godwit(const struct line *line);
/* The broker knows line_settle_after. */
bool line_can_delay(const struct line *line);
/* A sentence about what went wrong last; "" nothing did. */
const char *line_error(const struct line *line);
/* Of a publish that was refused last: the reply code with which the broker closed the channel; 0: it said basic.nack, or the publish could not be said. */
unsigned line_refusal_code(const struct line *line);
/* The broker takes no publishes for now. */
bool line_is_blocked(const struct line *line);

/* Why it has no connection. */
enum line_cause {
    LINE_LEFT,           /* nobody tried, or we said goodbye */
    LINE_UNREACHABLE,    /* no connection could be made */
    LINE_NOT_LET_IN,     /* the broker refused the log-in, or what a line needs to be of any use */
    LINE_BROKEN,         /* there was a connection, and it broke */
};

/* Of the last attempt or connection that ended. */
enum line_cause line_cause(const struct line *line);

/* ---- messages ---- */

struct line_message {
    struct bytes exchange, routing_key;
    struct bytes properties;           /* encoded */
    struct bytes body;
    bool mandatory;
};

/* Errors: GW_ERR_FULL: as much waits as may, GW_ERR_NOMEM, GW_ERR_INVALID: a name is too long, GW_ERR_CLOSED. */
enum gw_err line_publish(struct line *line, const struct line_message *message, uint64_t ticket);
/* Bytes that wait to be confirmed. */
uint64_t line_waiting(const struct line *line);
/* Something waits that could be sent if there were room in the output. */
bool line_has_more(const struct line *line);

enum line_settlement {
    LINE_ACK,
    LINE_BACK,           /* to the queue */
    LINE_REJECT,         /* given up */
};

/* Settles it, unless it was lost or settled meanwhile. */
void line_settle(struct line_delivery *delivery, enum line_settlement settlement);
/* Back to the queue, where it waits for so long. Only while line_can_delay. */
void line_settle_after(struct line_delivery *delivery, uint64_t delay_ms);
/* Publishes a message in its stead and acknowledges it when that is confirmed. On an error it goes back to its queue. */
enum gw_err line_replace(struct line *line, struct line_delivery *delivery, const struct line_message *message);
void line_release(struct line_delivery *delivery);

/* ---- stations ---- */

/* Everything is borrowed until line_subscribe returns. */
struct station_plan {
    const char *queue;
    const char *pattern;               /* empty: it is not bound */
    const char *dead_queue;            /* declared before, durable, without arguments; empty: none */
    struct bytes arguments;            /* the queue's, a table without its size */
    struct bytes plain_arguments;      /* the same for a broker that is not Godwit */
    bool durable;                      /* otherwise: exclusive, and gone with the station or the connection */
    bool as_found;                     /* a queue that is there already is taken as it is, whatever its arguments are */
    unsigned consumers;
    uint16_t prefetch;                 /* of each */
    struct bytes consumer_arguments;   /* a table without its size; empty: none */
};

/* NULL: out of memory, or a name is too long. */
struct station *line_subscribe(struct line *line, const struct station_plan *plan, void *context);
/* Nothing is delivered to it any more. What it delivered may still be settled. */
void line_unsubscribe(struct station *station);
/* It has its consumers. */
bool station_is_ready(const struct station *station);

/* ---- queues ---- */

/* What was asked of queues and is not answered will not be: that is told. */
void line_abandon(struct line *line);

/* Inside a later call of this file; on an error with a sentence. */
typedef void (*line_forgotten_fn)(void *context, enum gw_err err, const char *sentence);
/* Deletes a queue that nobody consumes. Only while line_is_up: GW_ERR_CLOSED. */
enum gw_err line_forget(struct line *line, const char *queue, line_forgotten_fn done, void *context);

/* `body` is borrowed; empty: the queue is. On an error with a sentence instead. */
typedef void (*line_recalled_fn)(void *context, enum gw_err err, const char *sentence, struct bytes body);
/* Makes a durable queue with these arguments (borrowed until this returns) unless it is there, and looks at its first message, which stays in it. Waits for a connection, if there is none,
 * and is told when the line gives up. Not called when the line is freed before. */
enum gw_err line_recall(struct line *line, const char *queue, struct bytes arguments, line_recalled_fn recalled, void *context);

#endif
