/* For tests: one connection to a session, and a service that writes down what it is asked and answers as its path says.
 *
 *   /echo     answers with the body, once it is whole      /early    answers 403 at the head
 *   /wait     answers when fake_reply is called            /stream   three pieces, as a stream
 *   /nothing  204
 */
#ifndef PROTOCOL_HTTP_FAKE_SERVICE_H
#define PROTOCOL_HTTP_FAKE_SERVICE_H

#include "protocol/http/session.h"

struct fake {
    struct http_config config;
    struct http_host host;
    struct chunk_pool *chunks;
    struct http_session *session;
    struct http_call *waiting;       /* the last call to /wait */
    uint64_t now_us;
    bool dirty, is_paused;
    uint8_t *tail;                   /* what the session left of the input */
    size_t tail_size;
    uint8_t *heard;                  /* what it said, with a zero behind it */
    size_t heard_size;
    unsigned calls, gone;
};

void fake_open(struct fake *fake);
void fake_close(struct fake *fake);

/* Feeds in pieces of `step` bytes (0: whole) and takes the output. */
void fake_feed(struct fake *fake, const void *data, size_t size, size_t step);

/* Takes the output. */
void fake_turn(struct fake *fake);

void fake_reply(struct fake *fake, const char *body);

#endif
