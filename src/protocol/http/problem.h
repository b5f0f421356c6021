/* Errors as RFC 9457 says them: application/problem+json. */
#ifndef PROTOCOL_HTTP_PROBLEM_H
#define PROTOCOL_HTTP_PROBLEM_H

#include "protocol/http/call.h"

/* Answers {"type": "about:blank", "title": the status's reason, "status": …, "detail": …}. A 401 says how to authenticate, a 405 which methods there are where
 * `allow` names them. The details are cut at 1 KiB. */
__attribute__((format(printf, 3, 4)))
void http_problem(struct http_call *call, unsigned status, const char *format, ...);
/* The same of a bearer's token (RFC 6750 section 3.1): `error` is "invalid_token" (401) or "insufficient_scope" (403). NULL: like http_problem. */
__attribute__((format(printf, 4, 5)))
void http_problem_challenge(struct http_call *call, unsigned status, const char *error, const char *format, ...);
/* 429: not now. Says when (Retry-After), and how much there is in which time (RateLimit, RateLimit-Policy: draft-ietf-httpapi-ratelimit-headers). */
struct http_pace {
    const char *name;                /* of the policy: a token of lower-case letters */
    uint32_t count;                  /* requests … */
    uint64_t window_us, wait_us;     /* … in so long; until there is one again */
};
void http_problem_later(struct http_call *call, const struct http_pace *pace, const char *detail);
void http_problem_method(struct http_call *call, const char *allow);

#endif
