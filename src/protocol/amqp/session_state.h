/* What a session is made of: for the files of this folder that make it up, for nobody else. */
#ifndef PROTOCOL_AMQP_SESSION_STATE_H
#define PROTOCOL_AMQP_SESSION_STATE_H

#include "broker/client.h"
#include "broker/worker.h"
#include "protocol/amqp/confirms.h"
#include "protocol/amqp/identity.h"
#include "protocol/amqp/methods.h"
#include "protocol/amqp/output.h"
#include "protocol/amqp/session.h"
#include "protocol/amqp/unacked.h"

enum session_phase {
    PHASE_HEADER,      /* waits for the protocol header */
    PHASE_STARTING,    /* for connection.start-ok */
    PHASE_TUNING,      /* for connection.tune-ok */
    PHASE_OPENING,     /* for connection.open */
    PHASE_RUNNING,
    PHASE_CLOSING,     /* the peer asked to close: connection.close-ok leaves once the broker has let go of everything */
    PHASE_CLOSED,      /* connection.close was sent: waits for connection.close-ok */
    PHASE_LEFT,        /* connection.close-ok was sent: waits for the peer to hang up, as clients expect to do that first */
    PHASE_DEAD,        /* nothing more is read; finished once the output has left */
};

/* What the client can do, from the capabilities in its properties. */
enum client_capability {
    CLIENT_AUTHENTICATION_FAILURE_CLOSE = 1,
    CLIENT_CONSUMER_CANCEL_NOTIFY = 2,
    CLIENT_CONNECTION_BLOCKED = 4,
};

/* One subscription. It outlives its channel until the broker has answered that it is cancelled. */
struct consumer {
    struct channel *channel;      /* NULL once the channel is closed */
    uint64_t queue;               /* the broker's id of its queue … */
    uint32_t handle;              /* … and of itself; both known once `answered` */
    uint32_t number;              /* its place in session->consumers */
    uint32_t serial;              /* of its channel */
    uint32_t owed;                /* bytes of credit to give back */
    uint16_t channel_number;
    bool no_ack, no_wait, exclusive;
    bool settle_here;             /* it wants no acks but its channel has a limit: the broker is acked as soon as a message was delivered */
    bool answered;                /* the broker knows it: queue and handle are set */
    bool cancelling;              /* a cancel is under way */
    bool cancel_no_wait;          /* its answer is not told */
    bool releasing;               /* counted in session->releases */
    bool refused;                 /* gets nothing until consume_resume, since the channel's limit is reached */
    bool owes;                    /* in session->owed_consumers */
    bool cancel_owed;             /* its queue is gone: told once the delete that the channel asked for is answered */
    bool reply_to;                /* of the pseudo queue amq.rabbitmq.reply-to */
    struct consumer *owed_next;
    uint32_t prefetch;            /* that it was made with; 0: no limit */
    uint32_t arguments_size;      /* of those it was made with, for lists; 0 too when they were very long */
    uint8_t tag_size;
    uint8_t tag[];                /* and then its arguments */
};

/* How far tags had come at moments of the past, the oldest first: what is held below that was delivered before. */
struct lateness {
    struct tag_mark {
        uint64_t tag, at_us;
    } *marks;
    uint32_t count, capacity;
};

enum channel_state {
    CHANNEL_OPEN,
    CHANNEL_ASKED,     /* the peer asked to close: channel.close-ok leaves once its consumers are cancelled */
    CHANNEL_FAILED,    /* channel.close was sent: everything but close and close-ok is passed over */
};

struct channel {
    struct session *session;
    uint32_t serial;              /* tells channels of one number apart */
    uint16_t number;
    uint8_t state;
    bool confirming, dirty;
    bool is_late;                 /* it is being closed because it holds a delivery for too long */
    uint16_t pipelined;           /* requests not answered yet that may be followed by others like them */
    uint16_t waiting;             /* those that nothing may follow */
    uint16_t deleting;            /* queue.deletes among them */
    uint32_t releases;            /* of CHANNEL_ASKED: cancels not answered yet */
    uint32_t prefetch;            /* of consumers to come; 0: no limit */
    uint32_t limit;               /* of the whole channel; 0: no limit */
    uint32_t consumer_count, refused_count;
    uint32_t resume_first;        /* number of the consumer that is first to go on, so that none is always last */
    struct content *content;      /* a publish of which not everything has arrived, see publish.c */
    struct tx *tx;                /* NULL: not transactional */
    char *last_queue;             /* the name declared last, NULL: none */
    char *reply_queue;            /* the queue behind amq.rabbitmq.reply-to; NULL: no such consumer */
    struct channel *dirty_next;   /* of session->dirty_channels */
    struct lateness lateness;
    struct unacked unacked;
    struct confirms confirms;
};

/* An exclusive queue that the session declared: deleted before connection.close-ok leaves. */
struct exclusive_queue {
    struct exclusive_queue *next;
    uint8_t size;
    uint8_t name[];
};

struct session {
    struct client client;
    const struct session_config *config;
    struct session_host *host;
    void *owner;
    uint64_t now_us, started_us, received_us, sent_us, closing_us;
    uint64_t resume_due_us;       /* when all refused consumers go on; 0: none wait */
    uint64_t lateness_due_us;     /* when deliveries are looked at that wait for their acks; 0: there was none yet */
    struct output output;

    uint8_t *pending;             /* input that could not be looked at yet: [pending_at, pending_size) */
    size_t pending_at, pending_size, pending_capacity;
    uint32_t body_left;           /* bytes of the current body frame that have not come yet … */
    bool is_forced;               /* it is closed because the broker ends, or somebody wants that */
    bool in_body;                 /* … of which the end octet is still to come */
    bool body_wanted;             /* its bytes go to the channel's content, otherwise nowhere */
    uint16_t body_channel;

    uint8_t phase;
    uint8_t capabilities;         /* enum client_capability */
    bool from_loopback;
    bool opening;                 /* connection.open is on its way to the broker: everything else waits */
    bool stalled;                 /* input waits: for an answer of the broker, or for leave to publish */
    bool choked;                  /* … or for the peer to take what was said */
    bool deaf;                    /* the input makes no sense any more: passed over */
    bool told_dirty;
    bool published;               /* a connection that publishes is told when the broker blocks */
    bool told_blocked;
    const char *blocked_reason;   /* NULL: not blocked */
    uint32_t before_login;        /* bytes fed before the peer was authenticated */
    uint32_t frame_max;
    uint16_t channel_max, heartbeat_s;
    uint32_t next_serial;
    uint32_t releases;            /* cancels and deletes that were not answered yet, while letting go */

    struct channel **channels;    /* by number */
    uint32_t channel_count, channel_capacity;
    struct channel *last_channel; /* the one found last */
    struct channel *dirty_channels;

    struct consumer **consumers;  /* by consumer->number; NULL: free */
    uint32_t consumer_capacity, consumer_free;   /* consumer_free: no free place below it */
    struct consumer *owed_consumers;

    struct rate *failures;        /* wrong passwords of its address; NULL: nobody counts */
    struct identity *identity;    /* what is told of it with connection.open; NULL then, or when nothing is known */
    struct exclusive_queue *exclusive_queues;
    struct control *controls;     /* requests of control.c that the broker has not answered */
    uint32_t control_count, next_control;
    uint8_t user_size;
    char *user;
};

static inline struct session *session_of(struct client *client)
{
    return (struct session *)((char *)client - offsetof(struct session, client));
}

/* Output above which nothing is done that adds to it, bytes. Acks and plain publishes go on: a peer may well send them before it reads. */
#define SESSION_CHOKE_SIZE (16u * 1024 * 1024)

/* Must the session wait until the peer has taken some of its output? Input goes on by itself then. */
static inline bool session_is_choked(struct session *session)
{
    if (LIKELY(session->output.size <= SESSION_CHOKE_SIZE))
        return false;
    session->choked = true;
    return true;
}

/* Encodes a method onto the output. Methods that are sent through it take at most SESSION_METHOD_MAX bytes. */
#define SESSION_METHOD_MAX 1500u
void session_send(struct session *session, uint16_t channel, enum amqp_method_id id, const struct amqp_value *values);

/* The host should look at the session after this turn. */
void session_dirty(struct session *session);

/* Writes the confirms that have gathered; gives credit back as far as the output allows. */
void session_flush(struct session *session);

/* Lets go of all that the session has in the broker: contents, transactions, unacknowledged messages, consumers. */
void session_release(struct session *session);

/* One of session->releases is done. */
void session_released(struct session *session);

/* Nothing more is read. */
void session_die(struct session *session);

#endif
