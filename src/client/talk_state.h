/* The inside of a struct talk: what talk.c, talk_channel.c and talk_input.c share. */
#ifndef CLIENT_TALK_STATE_H
#define CLIENT_TALK_STATE_H

#include "client/arrival.h"
#include "client/login.h"
#include "client/tag_ring.h"
#include "client/talk.h"

/* A call that waits for its answer. */
struct talk_waiting {
    uint32_t reply;              /* AMQP_BASIC_GET_OK: or get-empty */
    bool no_ack;                 /* of a get */
    talk_answered_fn answered;
    talk_fetched_fn fetched;
    void *context;
};

enum talk_channel_state { TALK_CHANNEL_OPEN, TALK_CHANNEL_CLOSING, TALK_CHANNEL_GONE };

/* What a delivery tag is. */
enum { TALK_SETTLED = 0, TALK_HELD = 1, TALK_ACKED = 2 /* and the broker has not been told */ };

struct talk_channel {
    struct talk *talk;
    struct talk_channel *next;
    struct talk_channel_events events;
    uint16_t number;
    enum talk_channel_state state;
    struct message_arrival arriving;

    struct talk_waiting *waiting;    /* a ring, the oldest first */
    unsigned waiting_first, waiting_count, waiting_room;   /* the room is a power of two, or 0 */

    bool confirms;
    struct tag_ring publishes;       /* 1: neither confirmed nor refused */
    uint64_t unconfirmed;
    struct tag_ring deliveries;
    uint64_t acked;                  /* how many are TALK_ACKED */
    char no_ack_tag[64];             /* the consumers that need no acknowledgement: at most one a channel, whose tag this is */
};

struct talk {
    struct uri uri;
    char *name;
    uint64_t body_max;
    struct talk_events events;
    enum talk_state state;
    enum talk_end end;
    bool greeted;                    /* its first bytes were looked at */
    uint32_t expected;               /* while starting: the method that must come next */
    bool blocked;
    bool can_delay;                  /* the broker knows basic.nack-after */
    uint32_t frame_max;              /* AMQP_FRAME_MIN_SIZE until both sides agreed */
    uint32_t heartbeat_ms;           /* 0: none */
    uint16_t channel_max;            /* 0: as many as there are numbers */
    uint64_t began_ms;               /* of what must be over in time: the log-in, the goodbye */
    uint64_t sent_ms, received_ms;
    struct remote_buffer in, out;
    struct talk_channel *channels;
    uint32_t taken[(1u << 16) / 32];   /* channel numbers in use */
    uint16_t last_number;
    bool has_gone;                   /* channels are to be freed */
    unsigned depth;                  /* of talk_feed and talk_tick, in which channels stay where they are */
    unsigned reply_code;
    char product[LOGIN_PRODUCT_SIZE];
    char error[640];
};

/* The end, with a sentence. Does nothing when it came already. */
__attribute__((format(printf, 3, 4)))
void talk_finish(struct talk *talk, enum talk_end end, const char *format, ...);

/* Adds a frame that was made already. Ends the talk when there is no memory. */
void talk_say(struct talk *talk, const uint8_t *frame, size_t size);
/* Adds a method's frame of at most `TALK_SMALL_FRAME` bytes. */
#define TALK_SMALL_FRAME 600u
void talk_say_method(struct talk *talk, uint16_t channel, enum amqp_method_id id, const struct amqp_value *values);

/* Whole frames of `bytes`; returns how many bytes they were. */
size_t talk_read_frames(struct talk *talk, struct bytes bytes);

/* Writes what was acknowledged on all channels. */
void talk_write_acks(struct talk *talk);

struct talk_channel *talk_channel_find(const struct talk *talk, uint16_t number);
/* It neither hears nor says anything any more, and is freed once nobody walks over the channels. */
void talk_channel_end(struct talk_channel *channel);
/* Takes the oldest call out that waits; false: there is none. */
bool talk_channel_answered(struct talk_channel *channel, struct talk_waiting *waiting);
/* Frees those that are gone, or all. */
void talk_channels_sweep(struct talk *talk, bool all);

#endif
