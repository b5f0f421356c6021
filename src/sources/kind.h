/* A kind of source: what is special about it. For the files of this folder.
 *
 * A kind has memory of its own (`size` bytes behind the source's, zeroed). Its functions are called by source.c; those from `opened` on are what its feed tells. It makes events with
 * source_emit, each with a mark: what `settled` needs to move the position on once the event is on disk. Marks are settled in the order of the events. */
#ifndef SOURCES_KIND_H
#define SOURCES_KIND_H

#include "sources/source.h"

enum kind_setting {
    SETTING_URL = 1, SETTING_HEADERS = 2, SETTING_IDLE = 4, SETTING_RETRY = 8, SETTING_EVERY = 16, SETTING_INTERVAL = 32, SETTING_CRON = 64, SETTING_MISSED = 128, SETTING_PATH = 256,
    SETTING_FROM = 512, SETTING_LINES = 1024, SETTING_ADDRESS = 2048, SETTING_COMMAND = 4096, SETTING_SIGNAL = 8192, SETTING_AMQP = 16384,
};

struct source_kind {
    const char *name;
    unsigned settings;               /* enum kind_setting, those that it has */
    const struct template_name *names;
    bool has_json;                   /* {{json:…}} */
    bool is_local;                   /* files, programs, listening */
    bool without_position;           /* what was read is gone: nothing is kept, unless source->keeps_position */
    bool comes_again;                /* what was not settled comes again over the next feed: nothing waits here behind one that is gone, and a pause waits for what is under way */
    const char *defaults[TEMPLATES]; /* NULL: the event has none; the source's is /sources/ID */
    uint64_t save_every_us;          /* a position that is long is not saved more often */
    const char *fallback;            /* the type of what its template makes no type of */
    size_t size;

    bool (*init)(struct source *source);                              /* false: out of memory; deinit is called */
    bool (*restore)(struct source *source, const json_t *position);   /* false: it makes no sense */
    void (*begin)(struct source *source);                             /* run: mostly source_begin */
    uint64_t (*tick)(struct source *source);                          /* when something is due; NULL: never */
    void (*opened)(struct source *source, struct feed_opening *opening);
    void (*came)(struct source *source, uint64_t stream, struct bytes data);
    void (*closed)(struct source *source, uint64_t stream);
    void (*listed)(struct source *source, const struct feed_file *files, unsigned count, bool whole);
    void (*signalled)(struct source *source, int number);
    void (*delivered)(struct source *source, const struct feed_message *message);
    void (*ended)(struct source *source, const struct feed_end *end); /* NULL: source_failed */
    void (*settled)(struct source *source, struct bytes mark);
    json_t *(*position)(const struct source *source);                 /* NULL: out of memory */
    void (*deinit)(struct source *source);
};

extern const struct source_kind kind_sse, kind_poll, kind_timer, kind_cron, kind_file, kind_directory, kind_tcp, kind_unix, kind_stdin, kind_process, kind_signal, kind_amqp;
extern const struct source_kind *const source_kinds[];   /* NULL behind the last */

#endif
