/* Outgoing HTTP (io/outgoing.h) by libcurl on a reactor's loop: HTTP/1.1, and HTTP/2 over TLS, with connections that are kept. No redirects, no proxy, no cookies, nothing from the
 * environment; every address is judged right before it is connected to. */
#ifndef RUNTIME_HTTP_SENDER_H
#define RUNTIME_HTTP_SENDER_H

#include "io/outgoing.h"

#include <sys/socket.h>
#include <uv.h>

#define ANSWER_HEAD_MAX 65536u       /* bytes of an answer's head; a longer one is none */
#define ANSWER_BODY_MAX 262144u      /* … of its body; what comes behind that is not waited for */

struct http_sender;

struct http_sender_config {
    uv_loop_t *loop;
    /* Why an address may not be connected to; NULL: it may. */
    const char *(*refusal)(void *owner, const struct sockaddr *address);
    /* A request is done: whoever was told may have said something to the broker, which wants a turn. */
    void (*told)(void *owner);
    void *owner;
    const char *authorities;         /* a file of certificates that peers' may come from, beside the system's; NULL: none. Borrowed */
};

/* Once in a process, before any thread is started. False: libcurl does not want to. */
bool http_sender_prepare(void);

/* NULL: out of memory. */
struct http_sender *http_sender_new(const struct http_sender_config *config);
struct outgoing_sender *http_sender_outgoing(struct http_sender *sender);
/* Nothing is under way any more. Its handles are closed when the loop has run again. */
void http_sender_free(struct http_sender *sender);

#endif
