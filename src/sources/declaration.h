/* A source as it is declared: an object in JSON, which is also what is kept of it (the parameter `source` of its virtual host).
 *
 *   {"id": "prices", "kind": "sse", "url": "https://example.com/events", "type": "price.{{event}}", "key": "{{json:/symbol}}", "paused": false}
 *
 *   id, kind, owner, paused                                  of every source; the owner is the user in whose name it publishes
 *   type, source, subject, key, data, content_type           templates (template.h); content_type is a text. Those that are not said are the kind's own
 *   url, headers, idle, interval, retry                      sse, poll
 *   every, expression, zone, missed                          timer, cron
 *   path, from, line_max                                     file; path: directory, unix; address: tcp; command, restart: process; signal: signal
 *   uri, queue, prefetch, from                               amqp
 *
 * A time is a number of seconds or a text: "250ms", "10s", "10", "5m", "2h", "1d". */
#ifndef SOURCES_DECLARATION_H
#define SOURCES_DECLARATION_H

#include "io/feed.h"
#include "sources/cron.h"
#include "sources/template.h"

#define SOURCE_COMPONENT "source"
#define SOURCE_ID_MAX 64u
#define SOURCE_WHY_MAX 512u
#define SOURCE_HEADERS_MAX 32u
#define SOURCE_ARGUMENTS_MAX 64u
#define SOURCE_WINDOW 256u           /* events under way at a time */
#define SOURCE_WINDOW_MAX 10000u
#define SOURCE_QUEUE_MAX (SOURCE_ID_MAX + 20u)

enum source_missed { MISSED_ONCE, MISSED_SKIP, MISSED_ALL };
enum source_restart { RESTART_ALWAYS, RESTART_FAILED, RESTART_NEVER };
enum source_template { TEMPLATE_TYPE, TEMPLATE_SOURCE, TEMPLATE_SUBJECT, TEMPLATE_KEY, TEMPLATE_DATA, TEMPLATES };

struct source_kind;

struct declaration {
    json_t *root;                    /* what the texts below lie in */
    const struct source_kind *kind;
    const char *id, *owner;          /* owner: NULL, or who declared it over HTTP */
    struct template templates[TEMPLATES];
    const char *content_type;        /* NULL: what the data looks like */
    const char *address;             /* url, uri, path or address, as the kind has it */
    char *headers[SOURCE_HEADERS_MAX];      /* "name: value"; memory of their own */
    unsigned header_count;
    const char *argv[SOURCE_ARGUMENTS_MAX + 1];
    struct cron cron;
    const char *zone;                /* "UTC", or a name in the tz database */
    enum source_missed missed;
    enum source_restart restart;
    uint64_t every_ms, idle_ms, retry_ms;
    int signal;
    const char *queue;
    uint16_t prefetch;
    bool reads_files;                /* its URI names a file of authorities on this machine */
    size_t line_max;
    unsigned window;
    bool from_start;
    bool paused;
    enum feed_reach reach;           /* of its URL or URI; `"local": true` is FEED_REACHES_MACHINE */
};

/* Reads and judges it; the root is kept. `zones`: NULL: names of zones are not looked up. False: a sentence in `why` says what is wrong, and nothing is to be freed. */
bool declaration_read(struct declaration *declaration, json_t *root, struct zones *zones, char why[SOURCE_WHY_MAX]);
void declaration_deinit(struct declaration *declaration);

/* Reads files, starts programs or listens on this machine: nothing that is declared from elsewhere. */
bool declaration_is_local(const struct declaration *declaration);
const char *declaration_kind(const struct declaration *declaration);

/* Is it the header of that name? Of any case. */
bool header_is(const char *line, const char *name);
bool declaration_has_header(const struct declaration *declaration, const char *name);

/* The queue that its position lies in. */
void source_queue(const char *id, char name[SOURCE_QUEUE_MAX]);

/* Letters, digits, dots, dashes and underscores. */
bool source_id_is_possible(const char *id);

#endif
