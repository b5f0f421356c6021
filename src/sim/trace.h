/* What happened in a simulation: every event goes into the hash that proves two runs equal, and the last ones are kept for the report of a
 * failure. The first failure is kept; the loops above stop on it. */
#ifndef SIM_TRACE_H
#define SIM_TRACE_H

#include <stdbool.h>
#include <stdint.h>

/* Name of the event, and the names of its arguments. */
#define TRACE_EVENTS(EVENT) \
    EVENT(DISK_SUBMIT, "disk submits", "kind file offset size") \
    EVENT(DISK_DONE, "disk answers", "kind file error result") \
    EVENT(DISK_DIES, "disk stops", "operation in_flight") \
    EVENT(DISK_RESTART, "disk is back", "power_lost pages_lost pages_kept pages_torn") \
    EVENT(DISK_ROT, "a bit rots", "file offset bit") \
    EVENT(LOG_APPEND, "log append", "offset size records") \
    EVENT(LOG_COMMIT, "log committed", "offset") \
    EVENT(LOG_OPEN, "log opened", "records truncated quarantined end") \
    EVENT(LOG_RECYCLE, "log recycled", "cutoff") \
    EVENT(LOG_TRUNCATE, "log truncated", "offset") \
    EVENT(LOG_FAILED, "log failed", "error") \
    EVENT(ALARM, "alarm", "level") \
    EVENT(BROKER_OPEN, "broker opens", "error workers shards") \
    EVENT(BROKER_CRASH, "broker dies", "power_lost") \
    EVENT(BROKER_CLOSE, "broker closes", "error") \
    EVENT(TURN, "turn", "worker") \
    EVENT(POST, "batch posted", "from to") \
    EVENT(CONNECT, "connect", "client worker") \
    EVENT(DISCONNECT, "disconnect", "client reason") \
    EVENT(FEED, "bytes to session", "client size") \
    EVENT(RECEIVED, "bytes to client", "client size") \
    EVENT(PUBLISH, "publish", "client channel message exchange") \
    EVENT(CONFIRM, "confirm", "client channel tag accepted") \
    EVENT(RETURN, "return", "client channel message") \
    EVENT(DELIVER, "deliver", "client channel queue message") \
    EVENT(GET_EMPTY, "get empty", "client channel queue") \
    EVENT(SETTLE, "settle", "client channel tag kind") \
    EVENT(METHOD_OUT, "client says", "client channel class method") \
    EVENT(METHOD_IN, "broker says", "client channel class method") \
    EVENT(COUNT, "queue counts", "queue messages model_least model_most") \
    EVENT(PHASE, "phase", "number") \
    EVENT(NOMEM, "allocation fails", "number size") \
    EVENT(DOOR_ASKS, "request", "door kind subject") \
    EVENT(DOOR_ANSWERED, "answer", "door status size") \
    EVENT(HOOK, "posted", "subscription event attempt sink") \
    EVENT(HOOK_DONE, "sink answers", "subscription event outcome status") \
    EVENT(HANDLER_ON, "handler on", "handler result") \
    EVENT(HANDLER_OFF, "handler off", "handler") \
    EVENT(HANDLED, "handler called", "handler event attempt redelivered") \
    EVENT(HANDLED_DEAD, "dead letter", "handler event redelivered") \
    EVENT(HANDLER_SAYS, "handler says", "handler event answer delay_ms") \
    EVENT(HANDLER_LATE, "handler is late", "handler event attempt") \
    EVENT(EVENT_PUBLISHED, "event published", "event type result key") \
    EVENT(EVENT_TOLD, "publisher is told", "event result") \
    EVENT(REQUESTED, "request", "request event result") \
    EVENT(REPLIED, "reply told", "request result")

enum trace_kind {
#define EVENT(name, text, arguments) TRACE_##name,
    TRACE_EVENTS(EVENT)
#undef EVENT
};

struct trace_event {
    uint64_t now_us, a, b, c, d;
    enum trace_kind kind;
};

#define TRACE_KEPT 64u   /* a power of two */

struct trace {
    uint64_t hash, count;
    uint64_t now_us;                 /* virtual; set by the loop */
    bool verbose;                    /* print every event */
    bool failed;
    char invariant[64], failure[512];
    struct trace_event kept[TRACE_KEPT];
};

void trace_init(struct trace *trace, bool verbose);
void trace_event(struct trace *trace, enum trace_kind kind, uint64_t a, uint64_t b, uint64_t c, uint64_t d);

/* Notes that `invariant` does not hold; only the first failure is kept. */
__attribute__((format(printf, 3, 4)))
void trace_fail(struct trace *trace, const char *invariant, const char *format, ...);

/* A line of text for --verbose only. */
__attribute__((format(printf, 2, 3)))
void trace_note(struct trace *trace, const char *format, ...);

/* Prints the last events, oldest first, to stderr. */
void trace_print_kept(const struct trace *trace);

#endif
