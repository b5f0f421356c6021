/* What there is to ask for: a row for each method of each path, from which requests are served and /openapi.json is written. */
#ifndef PROTOCOL_GATEWAY_RESOURCE_H
#define PROTOCOL_GATEWAY_RESOURCE_H

#include "base/bytes.h"

struct task;

enum resource_flags {
    RESOURCE_OPEN = 1,       /* needs no authentication */
    RESOURCE_BODY = 2,       /* takes a body */
    RESOURCE_STREAM = 8,     /* answers with events */
    RESOURCE_MESSAGE = 16,   /* answers with a message, of whatever type it has */
    RESOURCE_SECRET = 64,    /* its answer is kept nowhere, whoever asks again: see idempotency.h */
    RESOURCE_UPLOADS = 32,   /* takes a long body as it comes, see upload.h */
    RESOURCE_PUBLISHES = 4,  /* waits while the broker takes no messages */
};

/* A parameter of the query, or (in a path) of that name. */
struct resource_parameter {
    const char *name, *type, *help;  /* type: JSON schema's "string", "integer", "boolean" */
};

struct resource {
    const char *method;              /* "GET" */
    const char *path;                /* "/queues/{queue}/messages" */
    unsigned flags;
    void (*run)(struct task *task);  /* the body is whole, the member let in */
    const char *summary;
    const struct resource_parameter *parameters;   /* of the query, up to one without a name; NULL: none */
    const char *body_type;           /* media type of the body; NULL: any */
    const char *statuses;            /* those that it answers beside 400, 401, 403 …: "201 404" */
};

extern const struct resource resources[];
extern const unsigned resource_count;

/* The resource of that path and method. NULL: there is none; then *allow is what other methods there are, separated by commas, in `room`, or NULL: there is no such
 * path. `names` are the segments that stand for a {name}, percent-encoded, up to 2. */
const struct resource *resource_find(struct bytes method, struct bytes path, struct bytes names[2], char room[64], const char **allow);

/* The description of them all as OpenAPI 3.1, JSON; free() it. NULL: out of memory. */
char *resource_openapi(void);

#endif
