#include "base/map.h"
#include "client/line_state.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MIN_MS 100u
#define RETRY_MAX_MS 30000u
#define WINDOW_BYTES (16u << 20)
#define STEADY_MS 10000u               /* a connection that lasted so long was a good one */
#define GODWIT "Godwit "

struct line *line_new(const struct line_settings *settings, const struct line_events *events)
{
    struct line *line = calloc(1, sizeof *line);
    CHECK(settings->uri_count > 0 && settings->uri_count <= LINE_URIS_MAX);
    if (!line)
        return NULL;
    line->events = *events;
    memcpy(line->uris, settings->uris, settings->uri_count * sizeof *settings->uris);
    line->uri_count = settings->uri_count;
    line->retry_min_ms = settings->retry_min_ms ? settings->retry_min_ms : RETRY_MIN_MS;
    line->retry_max_ms = settings->retry_max_ms ? settings->retry_max_ms : RETRY_MAX_MS;
    if (line->retry_max_ms < line->retry_min_ms)
        line->retry_max_ms = line->retry_min_ms;
    line->window_bytes = settings->window_bytes ? settings->window_bytes : WINDOW_BYTES;
    line->seed = settings->seed | 1;
    line->bare = settings->bare;
    line->once = settings->once;
    line->refused_max = settings->refused_max;
    line->retry_ms = line->now_ms = settings->now_ms;
    outbox_init(&line->outbox);
    line->name = settings->name ? strdup(settings->name) : NULL;
    if (settings->name && !line->name) {
        free(line);
        return NULL;
    }
    return line;
}

void line_free(struct line *line)
{
    if (!line)
        return;
    CHECK(line->depth == 0);
    outbox_deinit(line);
    if (line->state == LINE_DIALING || line->talk)
        line->events.hang_up(line->events.owner);
    talk_free(line->talk);
    line->talk = NULL;
    errands_free(line);
    stations_free(line);
    free(line->name);
    free(line);
}

void line_say(struct line *line, enum line_level level, const char *format, ...)
{
    char sentence[LINE_ERROR_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    if (level != LINE_INFO)
        memcpy(line->error, sentence, sizeof sentence);
    line->events.notice(line->events.owner, level, sentence);
}

bool line_is_closed(const struct line *line) { return line->state == LINE_CLOSED; }
bool line_is_up(const struct line *line) { return line->is_up; }
const char *line_error(const struct line *line) { return line->error; }
unsigned line_refusal_code(const struct line *line) { return line->refusal_code; }
bool line_is_blocked(const struct line *line) { return line->talk && talk_is_blocked(line->talk); }
enum line_cause line_cause(const struct line *line) { return line->cause; }

bool line_has_more(const struct line *line)
{
    return line->is_up && line->state == LINE_TALKING && talk_state(line->talk) == TALK_OPEN && outbox_may_send(line);
}

bool line_is_godwit(const struct line *line)
{
    return line->talk && strncmp(talk_product(line->talk), GODWIT, sizeof GODWIT - 1) == 0;
}

bool line_can_delay(const struct line *line) { return line->talk && talk_can_delay(line->talk); }

/* Trying again. */

/* xorshift64 */
static uint64_t random_number(struct line *line)
{
    line->seed ^= line->seed << 13;
    line->seed ^= line->seed >> 7;
    line->seed ^= line->seed << 17;
    return line->seed;
}

uint64_t line_backoff_ms(struct line *line, unsigned failures)
{
    uint64_t pause = line->retry_min_ms;
    for (unsigned i = 1; i < failures && pause < line->retry_max_ms; i++)
        pause *= 2;
    if (pause > line->retry_max_ms)
        pause = line->retry_max_ms;
    /* So that programs that lost the same broker do not come back together. */
    return pause - pause / 5 + random_number(line) % (pause / 5 * 2 + 1);
}

static void dial(struct line *line)
{
    line->state = LINE_DIALING;
    line->dialed_ms = line->now_ms;
    line->events.dial(line->events.owner, &line->uris[line->uri]);
}

/* The attempt or the connection is over, for a reason that is told. After an attempt in vain the next URI is tried at once; after the last one, and after a connection that was
 * lost, there is a pause. */
static void rest(struct line *line, enum line_cause cause, const char *why)
{
    const struct uri *uri = &line->uris[line->uri];
    uint64_t hash = bytes_hash(bytes_of_text(why), 1) | 1, *told = &line->told[line->uri];
    line->cause = cause;
    if (line->refused_max && line->refusals >= line->refused_max) {
        line->state = LINE_CLOSED;
        line_abandon(line);
        line_say(line, LINE_ERROR, "%s:%u: %s; giving up", uri->host, uri->port, why);
        return;
    }
    if (line->once && (line->was_up || line->attempts + 1 == line->uri_count)) {
        line->state = LINE_CLOSED;
        line_say(line, LINE_WARNING, "%s", why);
        return;
    }
    line->state = LINE_RESTING;
    line->retry_ms = line->now_ms;
    if (line->was_up && line->now_ms - line->up_ms >= STEADY_MS)
        line->rounds = 0;
    if (line->was_up || ++line->attempts == line->uri_count) {
        line->rounds++;
        line->retry_ms += line_backoff_ms(line, line->refused ? UINT_MAX : line->rounds);
        line->attempts = 0;
        line->refused = false;
    }
    /* The one that was lost may only have been restarted. */
    if (!line->was_up)
        line->uri = (line->uri + 1) % line->uri_count;
    line->was_up = false;
    /* A broker that is away for days is told of once, not with every attempt. */
    if (*told == hash)
        return;
    *told = hash;
    line_say(line, LINE_WARNING, "%s:%u: %s; trying again", uri->host, uri->port, why);
}

/* The password is wrong, or the virtual host is not there or not for this user. A broker that has no room, or has been asked too often, may say something else the next time. */
static bool is_refusal(const struct talk *talk)
{
    return talk_end(talk) == TALK_END_REFUSED && (talk_reply_code(talk) == 403 || talk_reply_code(talk) == 530);
}

/* The talk has ended: everything that it knew is forgotten. */
static void hung_up(struct line *line)
{
    char why[LINE_ERROR_MAX / 2];
    enum talk_end end = talk_end(line->talk);
    bool was_closing = line->state == LINE_CLOSING, wants_end = line->wants_end, is_final = wants_end || is_refusal(line->talk);
    snprintf(why, sizeof why, "%s", talk_error(line->talk));
    line->events.hang_up(line->events.owner);
    if (end == TALK_END_CLOSED && talk_reply_code(line->talk) >= 500)
        outbox_blamed(line);
    stations_lost(line);
    outbox_lost(line);
    errands_lost(line);
    talk_free(line->talk);
    line->talk = NULL;
    line->is_up = line->declared = line->wants_end = line->announced = false;
    line->declaring = NULL;
    bool not_let_in = end == TALK_END_REFUSED || wants_end;
    line->refused |= not_let_in;
    line->refusals += is_final;
    line->state = LINE_CLOSED;
    line->cause = LINE_LEFT;
    if (!was_closing)
        rest(line, not_let_in ? LINE_NOT_LET_IN : LINE_BROKEN, wants_end ? line->error : why);
}

/* The exchange. */

static void come_up(struct line *line)
{
    line->is_up = true;
    line->refusals = 0;
    if (line->was_up)
        return;
    line->was_up = true;
    line->up_ms = line->now_ms;
    memset(line->told, 0, sizeof line->told);
}

static void on_declared(void *context, const struct amqp_method *answer)
{
    struct line *line = context;
    if (!answer)
        return;
    talk_channel_close(line->declaring);
    line->declaring = NULL;
    come_up(line);
}

/* It is told when all queues are bound, so that who hears it can rely on them. */
static void announce(struct line *line)
{
    if (line->announced || stations_are_pending(line))
        return;
    line->announced = true;
    line_say(line, LINE_INFO, "connected to %s at %s:%u", talk_product(line->talk), line->uris[line->uri].host, line->uris[line->uri].port);
}

static void on_declaration_refused(void *owner, unsigned code, struct bytes text)
{
    struct line *line = owner;
    line->declaring = NULL;
    /* Who may not declare it may find it there. */
    if (code == 403 && !line->declares_passively) {
        line->declares_passively = true;
        line->declared = false;
        return;
    }
    line->declares_passively = false;
    line_say(line, LINE_ERROR, "the exchange %s cannot be had: %u %.*s", LINE_EXCHANGE, code, (int)text.size, (const char *)text.data);
    line->wants_end = line->refused = true;
}

static void declare(struct line *line)
{
    struct talk_channel_events events = {.owner = line, .closed = on_declaration_refused};
    struct amqp_value values[AMQP_EXCHANGE_DECLARE_COUNT] = {
        [AMQP_EXCHANGE_DECLARE_EXCHANGE] = amqp_text(LINE_EXCHANGE),
        [AMQP_EXCHANGE_DECLARE_TYPE] = amqp_text("topic"),
        [AMQP_EXCHANGE_DECLARE_DURABLE] = amqp_number(1),
        [AMQP_EXCHANGE_DECLARE_PASSIVE] = amqp_number(line->declares_passively),
    };
    line->declaring = talk_channel_open(line->talk, &events);
    if (!line->declaring)
        return;
    line->declared = true;
    if (talk_call(line->declaring, AMQP_EXCHANGE_DECLARE, values, AMQP_EXCHANGE_DECLARE_OK, on_declared, line)) {
        talk_channel_close(line->declaring);
        line->declaring = NULL;
        line->declared = false;
    }
}

/* The connection. */

static void on_blocked(void *owner, bool blocked, struct bytes reason)
{
    struct line *line = owner;
    if (blocked)
        line_say(line, LINE_WARNING, "the broker takes no publishes for now: %.*s", (int)reason.size, (const char *)reason.data);
    else
        line_say(line, LINE_INFO, "the broker takes publishes again");
}

void line_connected(struct line *line, uint64_t now_ms)
{
    struct talk_settings settings = {.uri = &line->uris[line->uri], .name = line->name, .now_ms = now_ms};
    struct talk_events events = {.owner = line, .blocked = on_blocked};
    if (line->state != LINE_DIALING)
        return;
    line->now_ms = now_ms;
    line->talk = talk_new(&settings, &events);
    line->state = LINE_TALKING;
    if (!line->talk) {
        line->events.hang_up(line->events.owner);
        rest(line, LINE_BROKEN, "out of memory");
    }
}

void line_unreachable(struct line *line, const char *why, uint64_t now_ms)
{
    if (line->state != LINE_DIALING)
        return;
    line->now_ms = now_ms;
    rest(line, LINE_UNREACHABLE, why);
}

void line_feed(struct line *line, struct bytes bytes, uint64_t now_ms)
{
    line->now_ms = now_ms;
    if (!line->talk)
        return;
    line->depth++;
    talk_feed(line->talk, bytes, now_ms);
    line->depth--;
}

void line_lost(struct line *line, const char *why, uint64_t now_ms)
{
    line->now_ms = now_ms;
    if (line->talk)
        talk_lost(line->talk, why);
}

struct bytes line_output(struct line *line)
{
    return line->talk ? talk_output(line->talk) : (struct bytes){0};
}

void line_sent(struct line *line, size_t size, uint64_t now_ms)
{
    if (line->talk)
        talk_sent(line->talk, size, now_ms);
}

void line_unheard(struct line *line, uint64_t now_ms)
{
    if (line->talk)
        talk_unheard(line->talk, now_ms);
}

static void give_up_dialing(struct line *line)
{
    char why[64];
    snprintf(why, sizeof why, "no connection within %u ms", line->uris[line->uri].connection_timeout_ms);
    line->events.hang_up(line->events.owner);
    rest(line, LINE_UNREACHABLE, why);
}

void line_turn(struct line *line, uint64_t now_ms)
{
    line->now_ms = now_ms;
    if (line->state == LINE_DIALING && now_ms - line->dialed_ms >= line->uris[line->uri].connection_timeout_ms)
        give_up_dialing(line);
    if (line->state == LINE_RESTING && now_ms >= line->retry_ms)
        dial(line);
    if (!line->talk)
        return;
    line->depth++;
    talk_tick(line->talk, now_ms);
    if (line->wants_end && talk_state(line->talk) == TALK_OPEN)
        talk_close(line->talk, now_ms);
    if (line->state == LINE_TALKING && talk_state(line->talk) == TALK_OPEN) {
        if (!line->declared && !line->bare)
            declare(line);
        if (line->bare && !line->is_up)
            come_up(line);
        if (line->is_up) {
            stations_turn(line);
            announce(line);
            outbox_turn(line);
            errands_turn(line);
        }
    }
    line->depth--;
    if (talk_state(line->talk) == TALK_ENDED)
        hung_up(line);
}

uint64_t line_deadline_ms(const struct line *line)
{
    if (line->state == LINE_RESTING)
        return line->retry_ms;
    if (line->state == LINE_DIALING)
        return line->dialed_ms + line->uris[line->uri].connection_timeout_ms;
    if (!line->talk)
        return UINT64_MAX;
    uint64_t talk = talk_state(line->talk) == TALK_ENDED ? line->now_ms : talk_deadline_ms(line->talk);
    uint64_t stations = line->is_up ? stations_deadline_ms(line) : UINT64_MAX;
    return talk < stations ? talk : stations;
}

void line_close(struct line *line, uint64_t now_ms)
{
    line->now_ms = now_ms;
    if (line->state == LINE_DIALING)
        line->events.hang_up(line->events.owner);
    if (line->state == LINE_TALKING) {
        line->state = LINE_CLOSING;
        talk_close(line->talk, now_ms);
    } else if (line->state != LINE_CLOSING) {
        line->state = LINE_CLOSED;
    }
}
