/* libgodwit: an event loop, durable events and their handlers, embedded in the process (gw_open) or at a broker elsewhere (gw_connect), with the same text.
 *
 *   static void on_order(gw_event *event, void *context) { …; gw_event_ack(event); }
 *
 *   gw_loop *loop = gw_loop_new();
 *   gw_bus  *bus  = gw_open(loop, "orders.gw", NULL);
 *   gw_on(bus, "order.*", on_order, NULL, &(gw_handler_options){ .retries = 5 });
 *   gw_publish(bus, "order.created", "{}", 2, NULL, NULL, NULL);
 *   return gw_loop_run(loop);
 *
 * Errors      A function that may fail returns NULL or a negative enum gw_result; gw_error says in a sentence what was wrong and what to do. A handle that is NULL is let through and
 *             answered with NULL or GW_E_INVALID, without touching that sentence: the first call that failed is the one that is told.
 * Threads     A loop and what was made on it belong to the thread that made the loop; calls from another one are answered with GW_E_THREAD and do nothing. Two loops may run in two
 *             threads. From any thread: gw_loop_post, gw_loop_stop (from a signal handler, too), gw_version, gw_result_text. To publish from another thread, post a function that does.
 * Callbacks   Everything that is called back is called by gw_loop_run or gw_loop_step (in an adopted loop: by uv_run), or by gw_loop_free while it closes buses; one at a time, never from
 *             inside another function of this library.
 *             A callback may call anything here. One that leaves by a C++ exception or by longjmp leaves all of it usable: with an exception the event has failed (gw_event_retry), after a
 *             longjmp it is in hand until it is answered or late. (In an adopted loop neither must be: libuv's own functions are below the callback then. Nor out of gw_loop_free, which has to get
 *             to its end.)
 * Memory      What is passed in is borrowed until the function returns, unless it says otherwise. Handles are the library's; each says what ends it. Texts are UTF-8 and end with a zero;
 *             others are refused (GW_E_INVALID, or NULL).
 * Options     A structure of options that is all zero, and NULL instead of one, mean the defaults. Fields `reserved` stay zero.
 * Forks       In a child of fork every call is answered with GW_E_FORKED and does nothing, but gw_loop_free, which closes the child's descriptors of the loop and of the data directory's
 *             lock, and leaves the parent alone. A child that goes on without exec should call it: as long as it has the lock open, nobody can open the directory after the parent was killed.
 * Versions    This header is C11 and C++11. Programs that were linked with a version of it run with all later ones. */
#ifndef GODWIT_H
#define GODWIT_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define GW_API __attribute__((visibility("default")))
#else
#define GW_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gw_loop gw_loop;
typedef struct gw_timer gw_timer;
typedef struct gw_bus gw_bus;
typedef struct gw_handler gw_handler;
typedef struct gw_event gw_event;
typedef struct gw_source gw_source;
struct uv_loop_s;

enum gw_result {
    GW_DONE = 0,
    GW_E_INVALID = -1,       /* a handle is NULL, or an argument makes no sense */
    GW_E_MEMORY = -2,        /* out of memory */
    GW_E_THREAD = -3,        /* the loop belongs to another thread */
    GW_E_FORKED = -4,        /* this process is a child of the one that made the loop */
    GW_E_CLOSED = -5,        /* the bus is being closed */
    GW_E_BUSY = -6,          /* the data directory is in use */
    GW_E_AGAIN = -7,         /* too much is under way: go on when some of it has been answered */
    GW_E_REFUSED = -8,       /* the broker refused it: a queue is full or has other arguments, a permission is missing */
    GW_E_FULL = -9,          /* the disk is full, or almost */
    GW_E_STORAGE = -10,      /* the disk failed; nothing durable is taken any more until the bus is opened again */
    GW_E_DAMAGED = -11,      /* the data directory is damaged, of another version, or something else */
    GW_E_PERMISSION = -12,   /* the system's files, the broker's user */
    GW_E_LIMIT = -13,        /* longer or more than is possible; too few descriptors or threads */
    GW_E_TIMEOUT = -14,      /* no answer in time */
    GW_E_UNREACHABLE = -15,  /* nobody listens there, or the connection was lost before there was an answer */
    GW_E_SYSTEM = -16        /* the system says something else: see gw_error */
};

#define GW_FOREVER UINT64_MAX

/* "0.1.0". Any thread. */
GW_API const char *gw_version(void);
/* A few words for an enum gw_result. Any thread. */
GW_API const char *gw_result_text(int result);

/* ---- the loop ------------------------------------------------------------------------------------------------------------- */

/* A loop of its own. NULL: out of memory or descriptors. Where the program was started without standard input, output or error, /dev/null is opened as that, so that nothing else is taken for it. */
GW_API gw_loop *gw_loop_new(void);

/* On a libuv loop of the caller's, which runs it with uv_run, on this thread. It must stay until gw_loop_free has returned and the loop has run once more (uv_run with UV_RUN_NOWAIT will
 * do), which closes what the library had on it. NULL: out of memory or descriptors. */
GW_API gw_loop *gw_loop_adopt(struct uv_loop_s *uv);

/* Ends everything on it: buses that are open are closed first, gracefully, for at most five seconds. Not from a callback. NULL is fine. */
GW_API void gw_loop_free(gw_loop *loop);

/* Runs until gw_loop_stop, or until there is nothing left to wait for: no bus, no timer, nothing posted. Answers 0; or, when there is nothing to run because gw_open or gw_connect failed, or a
 * bus gave up, what they failed with. May be called again afterwards. GW_E_INVALID in an adopted loop, which uv_run runs. */
GW_API int gw_loop_run(gw_loop *loop);

/* Has gw_loop_run return once the callback that is running has. Any thread, and from a signal handler. */
GW_API void gw_loop_stop(gw_loop *loop);

/* To drive it from another event loop: wait until the descriptor is readable or the time is over, then call gw_loop_step. Ask for the time again after every call of this library. */
GW_API int gw_loop_fd(gw_loop *loop);
/* Milliseconds until gw_loop_step must be called; 0: now; -1: not before the descriptor is readable. */
GW_API int gw_loop_timeout_ms(gw_loop *loop);
/* Does what there is to do, without waiting. 1: there is something left to wait for; 0: nothing (see gw_loop_run). */
GW_API int gw_loop_step(gw_loop *loop);

/* Has the loop call `call` with the context, soon, in the order of the posts. Any thread; it must not be after gw_loop_free. GW_E_MEMORY: it will not be called. */
GW_API int gw_loop_post(gw_loop *loop, void (*call)(void *context), void *context);

typedef void (*gw_timer_fn)(gw_timer *timer, void *context);

/* Calls `fire` after that many milliseconds, and then every `every_ms` (0: once only, and the timer is freed when it returns). A loop that was late calls once, not once for each time that
 * it missed. NULL: see gw_error. */
GW_API gw_timer *gw_timer_start(gw_loop *loop, uint64_t after_ms, uint64_t every_ms, gw_timer_fn fire, void *context);
/* Ends and frees it; from its own callback, too. NULL is fine. */
GW_API void gw_timer_stop(gw_timer *timer);

/* What went wrong last on this loop, in a sentence; empty: nothing yet. Valid until the next call that fails. */
GW_API const char *gw_error(const gw_loop *loop);

/* ---- a bus ---------------------------------------------------------------------------------------------------------------- */

/* What happens that nobody asked about: the disk is almost full, the connection was lost and is there again, a handler's queue was deleted, a source failed and is tried again. */
enum gw_notice_level { GW_NOTICE_INFO, GW_NOTICE_WARNING, GW_NOTICE_ERROR };
typedef void (*gw_notice_fn)(void *context, int level, const char *sentence);

typedef struct gw_open_options {
    uint64_t memory_bytes;       /* of messages that wait, before they go to the disk; 0: 64 MiB */
    uint64_t disk_free_bytes;    /* with less free than this nothing is published (GW_E_FULL); 0: 50 MB */
    uint64_t history_bytes;      /* of events that are kept in the stream `events` after they were handled; 0: none are, or what the directory already says */
    uint32_t shards;             /* of a new directory, 1 … 256; 0: one. More make sense when a broker with several threads is to serve the directory later */
    uint32_t without_uring;      /* 1: the disk is waited for in threads, never with io_uring */
    const char *vhost;           /* NULL: "/" */
    gw_notice_fn notice;         /* NULL: nobody is told */
    void *notice_context;
    uint64_t reserved[8];
} gw_open_options;

/* The durable broker itself, in this process and on this loop; only waiting for the disk uses threads of its own. Opens or makes the data directory, which is the same as that of
 * `godwit serve`: either may open it, one at a time. ":memory:" keeps nothing. Returns when everything that was in it is there again. Freed by gw_close.
 * NULL: see gw_error (GW_E_BUSY another process has it open, GW_E_DAMAGED, GW_E_FULL, GW_E_PERMISSION, …). */
GW_API gw_bus *gw_open(gw_loop *loop, const char *directory, const gw_open_options *options);

typedef struct gw_connect_options {
    const char *name;            /* what the broker calls the connection in its lists; NULL: the program's name */
    uint64_t retry_min_ms, retry_max_ms;   /* between attempts to connect, twice as long each time; 0: 100 and 30000 */
    uint64_t heartbeat_s;        /* 0: 20 */
    uint64_t window_bytes;       /* published and not confirmed, before gw_publish answers GW_E_AGAIN; 0: 16 MiB */
    gw_notice_fn notice;         /* NULL: nobody is told */
    void *notice_context;
    const char *ca_file;         /* amqps: whom to trust, instead of the system's authorities */
    uint32_t refused_max;        /* log-ins that the broker may refuse in a row (a wrong password, a virtual host that is not there or not for this user) before the bus gives up; 0: never */
    uint32_t padding;
    uint64_t reserved[7];
} gw_connect_options;

/* A bus at a broker: "amqp://user:password@host:5672/vhost", "amqps://…". Returns at once; connecting, and connecting again whenever the connection is lost, happens in the loop. Handlers
 * are restored, and what was not confirmed is sent again. Freed by gw_close. NULL: see gw_error (the URI is none).
 * One that gave up (refused_max) answers everything with GW_E_PERMISSION, what was published and not confirmed too, until it is closed; it is nothing to wait for, and gw_loop_run answers the same. */
GW_API gw_bus *gw_connect(gw_loop *loop, const char *uri, const gw_connect_options *options);

typedef void (*gw_closed_fn)(void *context, int result);

/* Takes no more: gw_publish is answered with GW_E_CLOSED, handlers get no more events, sources stop. Events in hand may be answered for up to grace_ms, then they go back to their queues; what was
 * published is waited for; then files and connections are closed, `done` (may be NULL) is told, and the bus with its handlers, sources and events is gone. The result is 0, or GW_E_STORAGE
 * when the last of it could not be written (what was confirmed is safe all the same), or GW_E_TIMEOUT (remote: something was not confirmed in time), or GW_E_PERMISSION (it had given up).
 * Happens in the loop; gw_loop_free waits for it. */
GW_API int gw_close(gw_bus *bus, uint64_t grace_ms, gw_closed_fn done, void *context);

GW_API gw_loop *gw_bus_loop(const gw_bus *bus);

/* ---- publishing ----------------------------------------------------------------------------------------------------------- */

typedef struct gw_header {
    const char *name, *value;
} gw_header;

/* An event is a CloudEvent: what is here that has a name there is that attribute. Texts of at most 255 bytes, but for headers. */
typedef struct gw_publish_options {
    const char *id;              /* NULL: one that no other event has */
    const char *source;          /* a URI or path that says where it comes from; NULL: "/amqp", as for any message without one */
    const char *subject;         /* NULL: none */
    const char *content_type;    /* NULL: none is said */
    const char *key;             /* partitionkey: handlers with order_by_key get events of one key one after the other; NULL: none */
    const gw_header *headers;    /* further attributes (names of small letters and digits, as CloudEvents has them, each once, and none that has a field here) … */
    size_t header_count;         /* … at most 48 */
    uint64_t time_ms;            /* when it happened, milliseconds since 1970; 0: now, to the second */
    uint64_t delay_ms;           /* handlers get it that much later, over restarts, too; 0: at once */
    uint8_t priority;            /* for handlers with priorities; higher ones first */
    uint8_t transient;           /* 1: not for the disk. Gone with the process; in an embedded bus between handlers in memory it is the fastest way */
    uint8_t padding[6];
    uint64_t reserved[8];
} gw_publish_options;

/* The event is on disk (or, transient, taken), or was refused: result < 0. */
typedef void (*gw_published_fn)(void *context, int result);

/* Publishes an event of a type: words between dots, such as "order.created", of at most 255 bytes. Every handler whose pattern matches gets it, in this process and in others; without any it is gone
 * (unless history is kept). At most 1 GiB of data; a broker elsewhere may take less. `published` (may be NULL) is told when it is durable. When nothing was published (< 0), it is not told.
 * GW_E_AGAIN (a remote bus with window_bytes unconfirmed; transient events in memory that handlers are too far behind with; otherwise an embedded bus waits for the disk, five seconds at most),
 * GW_E_CLOSED, GW_E_FULL, GW_E_STORAGE, GW_E_LIMIT, GW_E_REFUSED. */
GW_API int gw_publish(gw_bus *bus, const char *type, const void *data, size_t size, const gw_publish_options *options, gw_published_fn published, void *context);

/* The same, and returns when it is durable. Handlers and timers are not called meanwhile. timeout_ms < 0: for ever. GW_E_TIMEOUT: it is not known whether it is or will be.
 * GW_E_AGAIN: it was not published. */
GW_API int gw_publish_wait(gw_bus *bus, const char *type, const void *data, size_t size, const gw_publish_options *options, int timeout_ms);

/* ---- handlers ------------------------------------------------------------------------------------------------------------- */

typedef void (*gw_event_fn)(gw_event *event, void *context);

#define GW_NO_RETRIES (-1)
#define GW_RETRY_FOREVER INT32_MAX

typedef struct gw_handler_options {
    const char *name;            /* of the durable queue; NULL: "on.PATTERN". Handlers of one name share its events, in one process or in many */
    uint32_t concurrency;        /* events in hand at a time; 0: 1 */
    int32_t retries;             /* how often an event may come back before it is given up; 0: 5. GW_NO_RETRIES, GW_RETRY_FOREVER */
    const uint64_t *retry_delays_ms;   /* how long it waits before each; the last one repeats … */
    size_t retry_delay_count;    /* … at most 32; 0: 1 s, 5 s, 30 s, 2 min, 10 min */
    uint64_t timeout_ms;         /* for an answer, then the event comes back; 0: 5 min; GW_FOREVER: none */
    const char *dead_letter;     /* the type under which events that are given up are published again, for handlers whose patterns match that; what gw_event_type says of them stays what it
                                  * was. NULL: they are kept in the queue NAME.dead */
    uint8_t order_by_key;        /* 1: events of one key one after the other, in order, also when one comes back */
    uint8_t priorities;          /* the highest priority, 1 … 255; 0: they play no part */
    uint8_t transient;           /* 1: no durable queue: events of now, for this handler alone */
    uint8_t padding[5];
    uint32_t prefetch;           /* events that wait in this process for the handler; 0: a number that suits */
    uint32_t padding2;
    uint64_t reserved[8];
} gw_handler_options;

/* Has `handle` called with every event whose type the pattern matches: words between dots, `*` is one word, `#` any number of them. Its queue is made, and bound to the pattern, unless it is
 * there; it stays when the handler is gone, and gathers events for the next one. In an embedded bus everything that is published after this call is seen; in a remote one, too, by the same program.
 * NULL: see gw_error (GW_E_REFUSED: the queue is there with other options). */
GW_API gw_handler *gw_on(gw_bus *bus, const char *pattern, gw_event_fn handle, void *context, const gw_handler_options *options);

/* The handler gets no more events. Those in hand may still be answered. Ends the handler; from its own callback, too. NULL is fine. */
GW_API void gw_off(gw_handler *handler);

/* Deletes the durable queue of handlers of that name, and what is in it (not that of dead letters). Nobody may be using it: GW_E_REFUSED. */
GW_API int gw_forget(gw_bus *bus, const char *name);

typedef struct gw_forward_options {
    const char *name;            /* of the durable queue from which they go; NULL: "forward.PATTERN" */
    const char *exchange;        /* at the other bus, such as "" for a queue; without a queue there it is tried again. NULL: its events' */
    const char *routing_key;     /* the same of each; NULL: the event's type */
    uint32_t window;             /* events that are there and not confirmed, at a time; 0: 256 */
    uint8_t order_by_key;        /* 1: events of one key one after the other, in order, also when one is refused */
    uint8_t padding[3];
    uint64_t reserved[8];
} gw_forward_options;

/* A handler that publishes every event whose type the pattern matches at another bus of the same loop, as it is: with its id and whatever else is said of it, in the order in which they come.
 * Each is acknowledged here when it is confirmed there, at least once; one that is refused there is tried again, later each time, for ever. It rests when the other bus is away,
 * and for good when that is closed. NULL: see gw_error. Ends with gw_off. */
GW_API gw_handler *gw_forward(gw_bus *bus, const char *pattern, gw_bus *to, const gw_forward_options *options);

/* Answers: one for each event, in the handler or later. An event that nobody answered stays in hand until timeout_ms; an answer that comes after that is of no effect. With the answer the event
 * is gone: nothing of it may be used afterwards. */
GW_API void gw_event_ack(gw_event *event);
GW_API void gw_event_retry(gw_event *event);      /* failed: again after a retry delay, or given up when it came back too often */
GW_API void gw_event_retry_after(gw_event *event, uint64_t ms);   /* the same with a delay of its own */
GW_API void gw_event_reject(gw_event *event);     /* given up at once */

/* What is asked of an event is valid until it is answered. NULL (or 0): it has no such thing. */
GW_API const char *gw_event_type(gw_event *event);
GW_API const char *gw_event_id(gw_event *event);
GW_API const char *gw_event_source(gw_event *event);
GW_API const char *gw_event_subject(gw_event *event);
GW_API const char *gw_event_content_type(gw_event *event);
GW_API const char *gw_event_key(gw_event *event);
GW_API const char *gw_event_header(gw_event *event, const char *name);   /* any other attribute or header; numbers and booleans as a text */
GW_API const void *gw_event_data(const gw_event *event);   /* not a text: no zero behind it */
GW_API size_t gw_event_size(const gw_event *event);
GW_API uint64_t gw_event_time_ms(gw_event *event);   /* since 1970, to the second unless the publisher said more */
GW_API uint32_t gw_event_attempt(const gw_event *event);   /* 1: the first */
GW_API int gw_event_redelivered(const gw_event *event);    /* it may have been handled before */
GW_API int gw_event_priority(gw_event *event);
GW_API gw_bus *gw_event_bus(const gw_event *event);

/* ---- request and reply ---------------------------------------------------------------------------------------------------- */

typedef struct gw_request_options {
    uint64_t timeout_ms;         /* for the reply; 0: 30 s */
    gw_publish_options publish;  /* as of any event; a request is transient unless `durable` is set */
    uint8_t durable;
    uint8_t padding[7];
    uint64_t reserved[8];
} gw_request_options;

/* `result` 0: the reply, borrowed until the function returns. GW_E_TIMEOUT, GW_E_REFUSED (no handler is there), GW_E_UNREACHABLE, GW_E_CLOSED: there will be none. Called once. */
typedef void (*gw_reply_fn)(void *context, int result, const void *data, size_t size);

/* Publishes an event and waits, in the loop, for the first reply of a handler. < 0: `reply` is not called. */
GW_API int gw_request(gw_bus *bus, const char *type, const void *data, size_t size, const gw_request_options *options, gw_reply_fn reply, void *context);

/* Replies to a request and acknowledges it: the event is gone then. GW_E_INVALID: nobody waits for a reply; it is not answered, say what becomes of it.
 * GW_E_TIMEOUT: the answer comes too late, as any other would have; the event is gone. */
GW_API int gw_event_reply(gw_event *event, const void *data, size_t size);

/* ---- sources -------------------------------------------------------------------------------------------------------------- */

enum gw_missed { GW_MISSED_ONCE, GW_MISSED_SKIP, GW_MISSED_ALL };

/* Templates say what becomes of what was read: text with places such as {{data}} or {{json:/order/id}}; see docs/sources.md. */
typedef struct gw_source_options {
    const char *name;            /* its identity, with which its position is kept over restarts; NULL: made of the kind and what it reads */
    const char *type;            /* template of the events' type; NULL: the kind's own, such as "sse.message" */
    const char *event_source;    /* template of their source; NULL: "/sources/NAME" */
    const char *subject, *key, *data;   /* templates; NULL: the kind's own */
    const char *content_type;    /* NULL: what was said of it, or what it looks like */
    const char *zone;            /* cron: "Europe/Berlin"; NULL: UTC */
    enum gw_missed missed;       /* timer, cron: runs that were missed while nothing ran */
    uint32_t padding;
    uint64_t interval_ms;        /* poll: between two looks; otherwise: before it is started again; 0: the kind's own */
    const gw_header *headers;    /* of requests by HTTP */
    size_t header_count;
    uint64_t line_max;           /* bytes of a line, longer ones come in pieces, or of an event, longer ones are passed over; 0: 1 MiB, which is the most */
    uint8_t from_start;          /* file, directory, a stream elsewhere: what is there already, too */
    uint8_t transient;           /* 1: its events are not for the disk */
    uint8_t padding2[6];
    uint64_t reserved[8];
} gw_source_options;

/* Each turns what it reads into events, from now on and, by its position, over restarts: supervised, tried again with a backoff, never giving up. Freed by gw_source_stop and by gw_close.
 * NULL: see gw_error. */
GW_API gw_source *gw_source_sse(gw_bus *bus, const char *url, const gw_source_options *options);
GW_API gw_source *gw_source_poll(gw_bus *bus, const char *url, const gw_source_options *options);
GW_API gw_source *gw_source_timer(gw_bus *bus, uint64_t every_ms, const gw_source_options *options);
GW_API gw_source *gw_source_cron(gw_bus *bus, const char *expression, const gw_source_options *options);
GW_API gw_source *gw_source_file(gw_bus *bus, const char *path, const gw_source_options *options);
GW_API gw_source *gw_source_directory(gw_bus *bus, const char *path, const gw_source_options *options);
GW_API gw_source *gw_source_tcp(gw_bus *bus, const char *address, const gw_source_options *options);
GW_API gw_source *gw_source_unix(gw_bus *bus, const char *path, const gw_source_options *options);
GW_API gw_source *gw_source_stdin(gw_bus *bus, const gw_source_options *options);
GW_API gw_source *gw_source_process(gw_bus *bus, const char *const *argv, const gw_source_options *options);
GW_API gw_source *gw_source_signal(gw_bus *bus, int number, const gw_source_options *options);
/* Messages of a queue at another broker, which are acknowledged there when their events are on disk here. What is an event there stays the same one; docs/sources.md says what becomes of others. */
GW_API gw_source *gw_source_amqp(gw_bus *bus, const char *uri, const char *queue, const gw_source_options *options);
/* Stops and frees it; its position stays. NULL is fine. */
GW_API void gw_source_stop(gw_source *source);

#ifdef __cplusplus
}
#endif
#endif
