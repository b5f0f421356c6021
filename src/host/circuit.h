/* A circuit: the connections of a line (client/line.h) to a broker elsewhere, on a libuv loop. It dials when the line wants to (runtime/outbound.h), with TLS where the URI says so, and carries the
 * bytes between the two; its owner publishes, subscribes and settles with the line itself, and turns them both:
 *
 *   circuit_open → line_subscribe, line_publish, … · circuit_turn (when `wanted`, after the line was asked for something, and at line_deadline_ms) → circuit_close
 *
 * Everything happens on the loop's thread. */
#ifndef HOST_CIRCUIT_H
#define HOST_CIRCUIT_H

#include "client/line.h"

struct circuit;
struct sockaddr;
struct uv_loop_s;

/* What client/line.h says of them is true here, too: called inside the functions of the line, and of this file but circuit_open. `wanted` and `refusal` are called from the loop. */
struct circuit_events {
    void *owner;
    /* Something has come, or there is room to write: a turn is wanted, soon. */
    void (*wanted)(void *owner);
    /* Why an address may not be connected to, asked right before it is; NULL: it may. NULL instead of a function: all may. */
    const char *(*refusal)(void *owner, const struct sockaddr *address);
    void (*told)(void *owner, uint64_t ticket, enum line_verdict verdict);   /* NULL: nobody asks */
    bool (*delivered)(void *owner, void *context, struct line_delivery *delivery);   /* NULL: nothing is subscribed to */
    void (*lost)(void *owner, void *context);                                /* NULL: the same */
    void (*notice)(void *owner, enum line_level level, const char *sentence);
};

struct circuit_settings {
    struct uv_loop_s *loop;
    const struct line_settings *line;    /* seed and now_ms are filled in; borrowed until circuit_open returns */
    const char *ca_file;                 /* the authorities where a URI names none; copied. NULL: the system's */
    bool ca_beside;                      /* the system's are trusted beside those of the file */
};

/* NULL: out of memory. It dials in its first turn. */
struct circuit *circuit_open(const struct circuit_settings *settings, const struct circuit_events *events);

struct line *circuit_line(struct circuit *circuit);

/* The clock that the line has its times from. */
uint64_t circuit_now_ms(void);

/* Has the line do what there is to do, and writes what it has to say. True: all of it. Calls no `wanted`. */
bool circuit_turn(struct circuit *circuit);

/* While it is paused nothing comes but what was read already: the broker has to wait with the rest. It is not taken for dead because of that. */
void circuit_pause(struct circuit *circuit, bool paused);

/* Waits for what the loop would wait for, at most that long, and does it: where the loop does not run. */
void circuit_wait(struct circuit *circuit, int timeout_ms);

/* Hangs up, and frees the line, without an event. What it delivered can still be released. Not from inside an event; NULL is fine. */
void circuit_close(struct circuit *circuit);

/* In a child of fork: closes the descriptor, and touches nothing else. */
void circuit_forked(struct circuit *circuit);

/* Reads the authorities as a connection would: what would fail with each of them is known before the first. NULL: no TLS is needed, or it will do; otherwise a sentence part in `why`. */
const char *circuit_complaint(const struct uri *uri, const char *ca_file, char *why, size_t size);

#endif
