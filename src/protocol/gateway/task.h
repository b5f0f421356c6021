/* A task: one request that is being done, and the member for whom. For the files of this folder. */
#ifndef PROTOCOL_GATEWAY_TASK_H
#define PROTOCOL_GATEWAY_TASK_H

#include "broker/client.h"
#include "protocol/gateway/gateway.h"
#include "protocol/gateway/resource.h"

#define NAMES_MAX 2u                 /* in a path */
#define MEMBERS_MAX 8u               /* of a connection */

enum task_state {
    TASK_COMING,                     /* the body is */
    TASK_WAITING,                    /* for the member to be let in, or for leave to publish */
    TASK_DOING,                      /* for the broker's answers */
    TASK_ANSWERED,
};

struct task {
    struct task *next, *previous;    /* of its member's */
    struct gateway *gateway;
    struct http_call *call;
    struct member *member;           /* NULL: the resource is open to all */
    const struct resource *resource;
    uint8_t state;                   /* enum task_state */
    bool gathers;                    /* the body is, and always will be */
    bool published;                  /* all that it publishes: `confirmed` may be called */
    bool declared;                   /* the bus of events, on its account */
    uint8_t name_sizes[NAMES_MAX];   /* of the path's names, decoded, see task_name … */
    uint32_t events, request;
    uint8_t *texts;                  /* … which lie here, one behind the other */
    uint8_t *body;
    size_t size, room;
    struct upload *upload;           /* the body goes elsewhere; NULL: it is gathered */

    /* publishing: */
    uint64_t first_tag;              /* confirms of first_tag … first_tag + count - 1 are its */
    uint32_t count, unconfirmed, routed, refused;
    void (*confirmed)(struct task *task);   /* all have come */

    struct subscribing *subscribing; /* what is being put; NULL: nothing */
    struct poll *poll;               /* a message is being waited for */
    uint64_t ask;                    /* another hall is; 0: none */
    struct claim *claim;             /* on its Idempotency-Key; NULL: it has none */

    /* of events: */
    struct listener *listener;       /* to them; NULL: none */
    char *note;                      /* the id that is answered */

    /* asking, as `request`: */
    void (*replied)(struct task *task, const struct reply *reply);
};

/* One of the names in its path; empty: there is none. */
static inline struct bytes task_name(const struct task *task, unsigned index)
{
    return bytes_of(task->texts ? task->texts + (index ? task->name_sizes[0] : 0) : NULL, task->name_sizes[index]);
}

/* How a member came by a token: good until then (0: for ever), as far as the parameters of that version say. */
struct held_token {
    uint64_t expires_ms, version;
    struct bytes id;                 /* in the authorization */
};

/* A user in a vhost, on one connection: a client of the broker. */
struct member {
    struct client client;            /* first: see member_of */
    struct gateway *gateway;
    struct member *next;
    struct task *tasks;
    uint64_t used_us;                /* when it was last asked for */
    uint64_t next_tag;               /* of the next publish */
    uint64_t whole;                  /* the version of the topology, and one more, in which its vhost's bus is known to be whole */
    const char *blocked;             /* what the broker lacks; NULL: nothing */
    bool is_open, is_gone;
    struct held_token *token;        /* he came by one; it lies behind it. NULL: by a password, or by nothing */
    struct rate *requests;           /* of his user; NULL: nobody counts */
    uint16_t vhost_size, authorization_size;   /* they lie behind the client's names; both come from a head, which is shorter than 64 KiB */
    uint16_t refusal;                /* why it was not let in, or is gone */
    uint32_t next_request;
    char *why;                       /* its refusal in words; its own, NULL: there was no memory for them */
};

static inline struct bytes member_vhost(const struct member *member) { return bytes_of(member->client.user.data + member->client.user.size, member->vhost_size); }
static inline struct bytes member_authorization(const struct member *member) { return bytes_of(member_vhost(member).data + member->vhost_size, member->authorization_size); }

struct gateway {
    struct gateway_hall *hall;
    struct http_session *http;
    void *owner;
    struct member *members;
    uint64_t now_us;
    uint64_t beat_us;                /* when a listener wants to say that it is there; UINT64_MAX: there are none */
    bool from_loopback;
    bool gone_members;               /* there are some that are to be swept */
    uint16_t peer_port, local_port;
    const char *tls_version, *tls_cipher;   /* NULL: in the open */
    struct rates *rates;             /* of its address; NULL: nobody counts */
    char hosts[];                    /* the peer's and ours, each with its zero */
};

static inline const char *gateway_peer(const struct gateway *gateway) { return gateway->hosts; }
static inline const char *gateway_local(const struct gateway *gateway) { return gateway->hosts + strlen(gateway->hosts) + 1; }

/* ---- member.c ---- */

/* The member that the call's Authorization and the vhost name, new or known. NULL: the call was answered. */
struct member *member_for(struct gateway *gateway, struct http_call *call, struct bytes vhost);
void member_free(struct member *member);
/* Frees those that the broker has closed and that have no tasks. */
void members_sweep(struct gateway *gateway);

/* Puts the task among its member's. */
void member_take(struct member *member, struct task *task);
void member_forget(struct task *task);
/* The task is whole: it is done now, or when the member may. */
void member_begin(struct task *task);
/* Asks the broker for something; `replied` is called with the answer, unless the task is gone by then. Answers the request's tag. */
uint32_t member_ask(struct task *task, struct request *request, void (*replied)(struct task *task, const struct reply *reply));

/* Does the request come from this machine, from somebody who is not somebody else's page in a browser here? */
bool request_is_local(const struct gateway *gateway, const struct http_request *request);

/* ---- gateway.c ---- */

/* The value of a query parameter, decoded into `room` of `size` bytes, with a zero behind it. False: it is not there, or *bad (the call was answered): too long, or
 * no text. */
bool task_parameter(struct task *task, const char *name, char *room, size_t size, bool *bad);
/* The same of a boolean or a number up to `most`; *value stays when it is not there. False: the call was answered. */
bool task_boolean(struct task *task, const char *name, bool *value);
bool task_number(struct task *task, const char *name, uint64_t most, uint64_t *value);

/* The value of the header Idempotency-Key, with or without its quotes (a string of RFC 8941), with a zero behind it; empty: there is none. False: the call was answered. */
#define IDEMPOTENCY_KEY_SIZE 256u
bool task_idempotency_key(struct task *task, char room[IDEMPOTENCY_KEY_SIZE]);
/* The same of a duration: "30s", "500ms", "2m", "1h", or seconds. */
bool task_duration(struct task *task, const char *name, uint64_t most_ms, uint64_t *ms);

/* Gives the body's memory back. */
void task_forget_body(struct task *task);

/* Answers with this status and JSON. A task that was answered, here and below, may be gone. */
void task_answer(struct task *task, unsigned status, const char *json);
/* The same with a header field, whose name is in lower case. */
void task_answer_with(struct task *task, unsigned status, const char *json, const char *name, const char *value);
__attribute__((format(printf, 3, 4)))
void task_problem(struct task *task, unsigned status, const char *format, ...);
/* Answers with a problem that stands for AMQP's reply code and text. */
void task_refuse(struct task *task, unsigned code, struct bytes text);

#endif
