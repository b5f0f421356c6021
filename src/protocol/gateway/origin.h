/* Pages that a browser shows: which of them may use this server. Those of its own may; those of another origin when the configuration names it (the fetch standard's
 * CORS protocol). */
#ifndef PROTOCOL_GATEWAY_ORIGIN_H
#define PROTOCOL_GATEWAY_ORIGIN_H

#include "protocol/http/call.h"

/* `origins`: "https://a.example,http://b.example:8080", "*" or NULL. */
enum origin {
    ORIGIN_NONE,             /* the request does not come from a page of another origin */
    ORIGIN_ALLOWED,          /* it does, and that one is named */
    ORIGIN_ALLOWED_AS_ALL,   /* it does, and all are allowed, which none is trusted by */
    ORIGIN_FOREIGN,
};
enum origin origin_of(const struct http_request *request, const char *origins);

/* Has every answer of the call say that the page may read it. */
void origin_allow(struct http_call *call, enum origin origin);

/* Answers what a browser asks before it sends a request of another origin's page. */
void origin_answer_preflight(struct http_call *call, const char *methods);

#endif
