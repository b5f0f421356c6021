/* Lines that are gone once they are read: of whoever connects by TCP or to a Unix socket, of the standard input, of a process. There is no position: what the process had read and not
 * published when it ended is lost, which is why a file is to be preferred where there may be one. An event's id is when the feed was started and which line of it it is. */
#include "base/map.h"
#include "sources/lines.h"
#include "sources/source_state.h"

#include <stdio.h>

#define CONNECTIONS_MAX 1000u
#define PEER_MAX 64u
#define STEADY_US (60ull * 1000000u) /* a process that ran for so long begins anew with its failures */

/* One connection, or the only stream. */
struct caller {
    struct line_splitter lines;
    char peer[PEER_MAX];
    uint64_t stream;
};

struct line_source {
    struct map callers;              /* by stream */
    uint64_t epoch_us, count;
    uint64_t begun_us;               /* monotonic: when it was started */
};

static const struct template_name names[] = {{"data", false}, {"line", false}, {"source", false}, {NULL, false}};
static const struct template_name names_of_callers[] = {{"data", false}, {"line", false}, {"peer", false}, {"source", false}, {NULL, false}};
static const struct template_name names_of_processes[] = {{"data", false}, {"line", false}, {"status", false}, {"source", false}, {NULL, false}};

/* What an event is found by: a line, or how a process ended. */
struct said {
    struct bytes line, peer, status;
};

static bool find(const void *owner, struct bytes name, struct bytes more, struct bytes *value)
{
    const struct said *said = owner;
    (void)more;
    *value = bytes_equal(name, bytes_of_text("line")) ? said->line : bytes_equal(name, bytes_of_text("peer")) ? said->peer : said->status;
    return true;
}

static void forget(struct source *source, struct caller *caller)
{
    struct line_source *own = source_own(source);
    map_remove(&own->callers, caller->stream);
    line_splitter_deinit(&caller->lines);
    free(caller);
}

static void forget_all(struct source *source)
{
    struct line_source *own = source_own(source);
    uint32_t cursor = 0;
    for (struct caller *caller; (caller = map_next(&own->callers, &cursor)); cursor = 0)
        forget(source, caller);
}

static void deinit(struct source *source)
{
    forget_all(source);
    map_deinit(&((struct line_source *)source_own(source))->callers);
}

static struct caller *caller_of(struct source *source, uint64_t stream)
{
    struct line_source *own = source_own(source);
    struct caller *caller = map_get(&own->callers, stream);
    if (caller)
        return caller;
    if (!(caller = calloc(1, sizeof(*caller))))
        return NULL;
    caller->stream = stream;
    line_splitter_init(&caller->lines, source->declaration.line_max);
    if (map_put(&own->callers, stream, caller) != GW_OK) {
        free(caller);
        return NULL;
    }
    return caller;
}

static enum feed_kind feed_of(const struct source *source)
{
    return source->kind == &kind_tcp ? FEED_TCP : source->kind == &kind_unix ? FEED_UNIX : source->kind == &kind_stdin ? FEED_STDIN : FEED_PROCESS;
}

static void begin(struct source *source)
{
    struct line_source *own = source_own(source);
    forget_all(source);
    own->epoch_us = source->wall_us;
    own->begun_us = source->now_us;
    own->count = 0;
    source_begin(source, &(struct feed_request){.kind = feed_of(source), .address = source->declaration.address, .argv = source->declaration.argv, .connections_max = CONNECTIONS_MAX});
}

/* That a process could be started, or says something, does not mean that it goes well: it may end the same way each time. */
static void runs(struct source *source)
{
    if (source->kind == &kind_process)
        source->state = SOURCE_RUNNING;
    else
        source_runs(source);
}

static void opened(struct source *source, struct feed_opening *opening)
{
    runs(source);
    struct caller *caller = opening->peer.size && opening->peer.size < PEER_MAX ? caller_of(source, opening->stream) : NULL;
    if (caller)
        snprintf(caller->peer, sizeof(caller->peer), "%.*s", (int)opening->peer.size, (const char *)opening->peer.data);
}

static bool take(struct source *source, const struct said *said, const char *type)
{
    struct line_source *own = source_own(source);
    char id[48];
    int size = snprintf(id, sizeof(id), "%llx-%llu", (unsigned long long)own->epoch_us, (unsigned long long)++own->count);
    return source_emit(source, &(struct source_item){.data = said->line, .find = find, .owner = said, .id = bytes_of(id, (size_t)size), .type = type});
}

static bool take_line(struct source *source, const struct caller *caller, const struct line *line)
{
    return take(source, &(struct said){.line = line->text, .peer = bytes_of_text(caller->peer)}, NULL);
}

static void came(struct source *source, uint64_t stream, struct bytes data)
{
    struct caller *caller = caller_of(source, stream);
    struct line line;
    enum line_result result = caller ? LINE_READY : LINE_NO_MEMORY;
    runs(source);
    while (result == LINE_READY)
        if ((result = line_next(&caller->lines, &data, &line)) == LINE_READY && !take_line(source, caller, &line))
            result = LINE_NO_MEMORY;
    if (result == LINE_NO_MEMORY) {
        source->lost++;
        source_error(source, "There was too little memory for a line, which is lost.");
    }
}

static void closed(struct source *source, uint64_t stream)
{
    struct line_source *own = source_own(source);
    struct caller *caller = map_get(&own->callers, stream);
    struct line line;
    if (!caller)
        return;
    if (line_last(&caller->lines, &line) == LINE_READY && !take_line(source, caller, &line))
        source_error(source, "There was too little memory for a line, which is lost.");
    forget(source, caller);
}

static void close_all(struct source *source)
{
    struct line_source *own = source_own(source);
    uint32_t cursor = 0;
    for (struct caller *caller; (caller = map_next(&own->callers, &cursor)); cursor = 0)
        closed(source, caller->stream);
}

static void ended_input(struct source *source, const struct feed_end *end)
{
    close_all(source);
    if (end->outcome == FEED_OVER)
        source_over(source, NULL);
    else
        source_ended(source, end, source->declaration.retry_ms, 0);
}

/* How it ended is an event, too. */
static void ended_process(struct source *source, const struct feed_end *end)
{
    char status[24], line[80], why[80];
    bool failed = end->status != 0 || end->signal != 0 || end->outcome != FEED_OVER;
    close_all(source);
    if (end->outcome != FEED_OVER) {
        source_ended(source, end, source->declaration.retry_ms, 0);
        return;
    }
    snprintf(status, sizeof(status), end->signal ? "signal %d" : "%d", end->signal ? end->signal : end->status);
    snprintf(line, sizeof(line), "{\"status\":%d,\"signal\":%d}", end->status, end->signal);
    if (!take(source, &(struct said){.line = bytes_of_text(line), .status = bytes_of_text(status)}, "process.exited"))
        source_error(source, "There was too little memory to say how the process ended.");
    if (!failed || source->now_us - ((struct line_source *)source_own(source))->begun_us >= STEADY_US)
        source->failures = 0;
    snprintf(why, sizeof(why), end->signal ? "The process was ended by signal %d." : "The process exited with %d.", end->signal ? end->signal : end->status);
    if (source->declaration.restart == RESTART_NEVER || (source->declaration.restart == RESTART_FAILED && !failed))
        source_over(source, failed ? why : NULL);
    else if (failed)
        source_failed(source, source->declaration.retry_ms, why);
    else
        source_again(source, source->declaration.retry_ms);
}

#define LINES .has_json = true, .is_local = true, .without_position = true, .size = sizeof(struct line_source), .begin = begin, .opened = opened, .came = came, .closed = closed, .deinit = deinit
#define DEFAULTS(type_) .defaults = {[TEMPLATE_TYPE] = type_, [TEMPLATE_DATA] = "{{data}}"}, .fallback = type_

const struct source_kind kind_tcp = {.name = "tcp", .settings = SETTING_ADDRESS | SETTING_LINES | SETTING_RETRY, .names = names_of_callers, DEFAULTS("tcp.line"), LINES};
const struct source_kind kind_unix = {.name = "unix", .settings = SETTING_PATH | SETTING_LINES | SETTING_RETRY, .names = names_of_callers, DEFAULTS("unix.line"), LINES};
const struct source_kind kind_stdin = {.name = "stdin", .settings = SETTING_LINES | SETTING_RETRY, .names = names, DEFAULTS("stdin.line"), LINES, .ended = ended_input};
const struct source_kind kind_process = {.name = "process", .settings = SETTING_COMMAND | SETTING_LINES | SETTING_RETRY, .names = names_of_processes, DEFAULTS("process.line"), LINES,
                                         .ended = ended_process};
