/* The inside of a struct line: what line.c, line_outbox.c, line_station.c and line_errand.c share. */
#ifndef CLIENT_LINE_STATE_H
#define CLIENT_LINE_STATE_H

#include "client/line.h"
#include "client/talk.h"

#define LINE_ERROR_MAX 640u

enum line_state {
    LINE_RESTING,        /* until retry_ms */
    LINE_DIALING,
    LINE_TALKING,
    LINE_CLOSING,        /* has said goodbye */
    LINE_CLOSED,
};

/* A publish that is not confirmed. */
struct line_entry {
    struct line_entry *next;           /* in the outbox, not sent over this connection */
    struct line_delivery *replaces;    /* acknowledged when this is confirmed */
    uint64_t ticket;
    size_t size;                       /* bytes it counts for */
    bool mandatory, unroutable;
    uint16_t exchange_size, key_size;
    uint32_t properties_size;
    size_t body_size;
    uint8_t bytes[];                   /* one after the other */
};

struct line_outbox {
    struct line_entry *first, **last;  /* not sent over this connection */
    struct line_entry **sent;          /* a ring by the number of the publish; NULL: confirmed */
    size_t room;                       /* a power of two, or 0 */
    uint64_t sent_first, sent_next;
    uint64_t waiting_bytes;
    uint64_t mandatory_sent;
    uint64_t careful;                  /* so many are sent one at a time, as one of them ended the channel */
    struct talk_channel *channel;      /* NULL: not open */
};

struct station {
    struct line *line;
    struct station *next;
    void *context;
    char *queue, *pattern, *dead_queue;
    uint8_t *arguments, *plain_arguments, *consumer_arguments;
    size_t arguments_size, plain_arguments_size, consumer_arguments_size;
    bool durable, gone;                /* gone: unsubscribed, and freed when its queue has been made once and all that it delivered was settled */
    bool as_found;                     /* it is looked for first; and made when there is none */
    bool passively;                    /* it is only looked for this time */
    bool turned;                       /* what the other way said is known: the next refusal is one */
    bool made;
    bool pending;                      /* is being made: publishes wait for it */
    bool ready;
    unsigned consumers;
    uint16_t prefetch;
    struct talk_channel *channel;
    struct line_delivery *deliveries;  /* that can be settled */
    uint64_t retry_ms;                 /* not before */
    unsigned failures;
};

struct errand;

struct line {
    struct line_events events;
    struct uri uris[LINE_URIS_MAX];
    unsigned uri_count, uri;           /* that is tried, or talked to */
    unsigned attempts;                 /* of this round: URIs that were tried in vain */
    char *name;
    uint64_t retry_min_ms, retry_max_ms, window_bytes, seed;
    enum line_state state;
    struct talk *talk;
    bool declared, is_up;              /* the exchange was asked for; is there */
    bool was_up, announced;            /* in this connection */
    uint64_t up_ms;                    /* since when */
    struct talk_channel *declaring;
    bool declares_passively;
    bool bare, once;
    unsigned refusal_code;
    enum line_cause cause;
    bool wants_end;                    /* the connection is of no use as it is */
    bool refused;                      /* a log-in of this round was */
    unsigned refused_max, refusals;    /* refusals: in a row, of those that would be the same again */
    unsigned rounds;                   /* in vain */
    uint64_t retry_ms, dialed_ms, now_ms;
    struct line_outbox outbox;
    struct station *stations;
    struct errand *errands;
    unsigned depth;                    /* inside the talk: nothing is freed that it may use */
    uint64_t told[LINE_URIS_MAX];      /* the last complaint of each that was told, as a hash; 0: none since it was connected */
    char error[LINE_ERROR_MAX];
};

/* Notes a sentence, and tells it. */
__attribute__((format(printf, 3, 4)))
void line_say(struct line *line, enum line_level level, const char *format, ...);

/* Times 2 for each failure, a little earlier or later. */
uint64_t line_backoff_ms(struct line *line, unsigned failures);

/* ---- line_outbox.c ---- */
void outbox_init(struct line_outbox *outbox);
void outbox_deinit(struct line *line);
/* Sends what may be sent. */
void outbox_turn(struct line *line);
bool outbox_may_send(const struct line *line);
/* The connection is lost: what was sent is to be sent again. */
void outbox_lost(struct line *line);
/* The broker closed the whole connection because of something that was said. */
void outbox_blamed(struct line *line);

/* ---- line_station.c ---- */
/* Makes those that are not made. */
void stations_turn(struct line *line);
uint64_t stations_deadline_ms(const struct line *line);
bool stations_are_pending(const struct line *line);
void stations_lost(struct line *line);
void stations_free(struct line *line);

/* ---- line_errand.c ---- */
/* Begins those that have not begun. */
void errands_turn(struct line *line);
/* The connection is lost: those that may be done over the next one wait for it, the others have failed. */
void errands_lost(struct line *line);
void errands_free(struct line *line);

#endif
