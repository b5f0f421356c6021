#include "protocol/http/session_state.h"

#include "protocol/http/problem.h"

#include <stdio.h>
#include <stdlib.h>

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define MS 1000u
#define NEVER UINT64_MAX

const struct http_config http_config_default = {
    .streams_max = 128, .head_timeout_ms = 10000, .body_timeout_ms = 30000, .idle_timeout_ms = 60000, .output_timeout_ms = 30000, .output_limit = 1u << 20, .server = "Godwit",
};

enum gw_err http_session_new(struct http_host *host, void *owner, void *service_owner, struct chunk_pool *pool, uint64_t now_us, struct http_session **made)
{
    struct http_session *session = calloc(1, sizeof(*session));
    if (!session)
        return GW_ERR_NOMEM;
    session->service_owner = service_owner;
    session->host = host;
    session->owner = owner;
    session->now_us = session->heard_us = session->idle_us = now_us ? now_us : 1;
    output_init(&session->output, pool);
    *made = session;
    return GW_OK;
}

void http_session_free(struct http_session *session)
{
    if (!session)
        return;
    while (session->calls)
        http_call_end(session->calls);
    if (session->transport && session->transport->free)
        session->transport->free(session);
    output_deinit(&session->output);
    free(session);
}

void http_session_agreed_2(struct http_session *session) { session->agreed_2 = true; }

void *http_session_owner(const struct http_session *session) { return session->service_owner; }
void http_session_clock(struct http_session *session, uint64_t wall_ms) { session->host->wall_ms = wall_ms; }

void http_session_dirty(struct http_session *session)
{
    if (session->told_dirty)
        return;
    session->told_dirty = true;
    session->host->dirty(session->host, session->owner);
}

void http_session_die(struct http_session *session)
{
    session->dead = true;
    http_session_dirty(session);
}

void http_session_say(struct http_session *session, struct bytes bytes)
{
    uint8_t *at = bytes.size ? output_room(&session->output, bytes.size) : NULL;
    if (at) {
        memcpy(at, bytes.data, bytes.size);
        output_wrote(&session->output, at + bytes.size);
    }
    if (session->output.failed)
        session->dead = true;
    http_session_dirty(session);
}

/* ---- calls ----------------------------------------------------------------------------------------------------------- */

/* Of a call whose head was not read, or is not kept any more. */
static const struct http_request no_request = {.minor = 1};

struct http_call *http_call_new(struct http_session *session)
{
    struct http_call *call = session->has_own || KEEPS_NOTHING ? calloc(1, sizeof(*call)) : &session->own;
    if (!call)
        return NULL;
    if (call == &session->own) {
        *call = (struct http_call){0};
        session->has_own = true;
    }
    call->session = session;
    call->request = &no_request;
    call->next = session->calls;
    if (session->calls)
        session->calls->previous = call;
    session->calls = call;
    session->call_count++;
    session->idle_us = 0;
    return call;
}

static void head_free(struct http_call *call)
{
    if (call->state & HTTP_BLOCK)
        chunk_block_give(call->session->output.pool, call->head);
    else
        free(call->head);
}

void http_call_end(struct http_call *call)
{
    struct http_session *session = call->session;
    if (call->next)
        call->next->previous = call->previous;
    if (call->previous)
        call->previous->next = call->next;
    else
        session->calls = call->next;
    if (!--session->call_count)
        session->idle_us = session->now_us;
    session->host->service->gone(call);
    free(call->extra);
    head_free(call);
    free(call->waiting);
    if (call == &session->own)
        session->has_own = false;
    else
        free(call);
}

void http_call_forget_head(struct http_call *call)
{
    head_free(call);
    call->head = NULL;
    call->request = &no_request;
}

void http_answer(struct http_call *call, const struct http_answer *answer)
{
    if (!(call->state & HTTP_ANSWERED))
        call->session->transport->answer(call, answer, true);
}

void http_stream_begin(struct http_call *call, const struct http_answer *answer)
{
    if (!(call->state & HTTP_ANSWERED))
        call->session->transport->answer(call, answer, false);
}

bool http_may_upgrade(const struct http_call *call)
{
    return call->session->transport == &http_transport_1 && call->request->minor && bytes_equal(call->request->method, bytes_of_text("GET")) &&
           (call->state & (HTTP_COMPLETE | HTTP_ANSWERED)) == HTTP_COMPLETE;
}

void http_upgrade(struct http_call *call, const struct http_answer *answer)
{
    CHECK(http_may_upgrade(call));
    call->state |= HTTP_RAW;
    call->session->transport->answer(call, answer, false);
}

void http_stream_write(struct http_call *call, struct bytes piece)
{
    if ((call->state & HTTP_ANSWERED) && !(call->state & HTTP_ENDED) && piece.size && !call->is_head)
        call->session->transport->write(call, piece);
}

void http_stream_share(struct http_call *call, const struct http_shared *shared)
{
    if (!call->session->transport->share)
        http_stream_write(call, shared->bytes);
    else if ((call->state & HTTP_ANSWERED) && !(call->state & HTTP_ENDED) && shared->bytes.size && !call->is_head)
        call->session->transport->share(call, shared);
}

void http_stream_end(struct http_call *call)
{
    if ((call->state & HTTP_ANSWERED) && !(call->state & HTTP_ENDED))
        call->session->transport->end(call);
}

size_t http_stream_waiting(const struct http_call *call)
{
    return call->session->output.size + (call->waiting ? call->waiting->size - call->waiting->at : 0);
}

void http_call_abort(struct http_call *call) { call->session->transport->abort(call); }

/* ---- input ----------------------------------------------------------------------------------------------------------- */

/* Enough of the first bytes to tell which version this is? */
static bool choose(struct http_session *session, struct bytes in)
{
    size_t size = sizeof(PREFACE) - 1, most = in.size < size ? in.size : size;
    bool is_preface = memcmp(in.data, PREFACE, most) == 0;
    if (is_preface && most < size)
        return false;
    bool is_2 = is_preface || session->agreed_2;
    enum gw_err err = is_2 ? h2_new(session) : GW_OK;
    session->transport = err ? NULL : is_2 ? &http_transport_2 : &http_transport_1;
    session->head_us = 0;
    if (err)
        http_session_die(session);
    return !err;
}

size_t http_session_feed(struct http_session *session, struct bytes in, uint64_t now_us)
{
    session->now_us = now_us;
    if (session->dead)
        return in.size;
    if (!in.size)
        return 0;
    session->heard_us = now_us;
    session->held = false;
    if (!session->transport && !choose(session, in)) {
        session->head_us = session->head_us ? session->head_us : now_us;
        return session->dead ? in.size : 0;
    }
    return session->transport->feed(session, in);
}

bool http_session_wants_input(const struct http_session *session)
{
    if (session->dead)
        return true;    /* it is discarded */
    if (session->output.size > session->host->config->output_limit)
        return false;
    /* HTTP/1 answers one request before it looks at the next. */
    return !session->held || !session->calls || !(session->calls->state & HTTP_COMPLETE);
}

void http_session_ended(struct http_session *session, uint64_t now_us)
{
    session->now_us = now_us;
    session->ended = true;
    /* What is whole is still answered; the rest never will be, and nobody listens to what would go on for ever. */
    for (struct http_call *call = session->calls, *next; call; call = next) {
        next = call->next;
        if (!(call->state & HTTP_COMPLETE) || (call->state & (HTTP_ANSWERED | HTTP_ENDED)) == HTTP_ANSWERED)
            http_call_end(call);
    }
    if (!session->calls)
        http_session_die(session);
}

/* ---- output ---------------------------------------------------------------------------------------------------------- */

unsigned http_session_output(struct http_session *session, struct iovec *iov, unsigned room)
{
    session->told_dirty = false;
    if (session->transport && session->transport->fill && session->output.size <= session->host->config->output_limit)
        session->transport->fill(session);
    unsigned count = output_vectors(&session->output, iov, room);
    if (count && !session->taken_us)
        session->taken_us = session->now_us;
    return count;
}

void http_session_sent(struct http_session *session, size_t size, uint64_t now_us)
{
    session->now_us = now_us;
    output_sent(&session->output, size);
    session->taken_us = session->output.size ? now_us : 0;
    if (session->output.size || !session->host->service->drained)
        return;
    for (struct http_call *call = session->calls, *next; call; call = next) {
        next = call->next;
        if ((call->state & HTTP_ANSWERED) && !(call->state & HTTP_ENDED))
            session->host->service->drained(call);
    }
}

bool http_session_finished(const struct http_session *session)
{
    return session->dead && (!session->output.size || session->output.failed);
}

/* ---- time ------------------------------------------------------------------------------------------------------------ */

static uint64_t after(uint64_t since_us, uint32_t ms) { return since_us + (uint64_t)ms * MS; }

/* A request of which something is still to come. */
static const struct http_call *unfinished(const struct http_session *session)
{
    for (const struct http_call *call = session->calls; call; call = call->next)
        if (!(call->state & HTTP_COMPLETE))
            return call;
    return NULL;
}

static uint64_t input_deadline(const struct http_session *session)
{
    if (session->dead)
        return NEVER;
    if (session->head_us)
        return after(session->head_us, session->host->config->head_timeout_ms);
    if (unfinished(session))
        return after(session->heard_us, session->host->config->body_timeout_ms);
    return session->idle_us ? after(session->idle_us, session->host->config->idle_timeout_ms) : NEVER;
}

static uint64_t output_deadline(const struct http_session *session)
{
    return session->taken_us ? after(session->taken_us, session->host->config->output_timeout_ms) : NEVER;
}

/* When the first answer has waited for too long to be framed. */
static uint64_t frame_deadline(const struct http_session *session)
{
    uint64_t since_us = NEVER;
    if (!session->transport || !session->transport->is_held_up)
        return NEVER;
    for (const struct http_call *call = session->calls; call; call = call->next)
        if (call->waiting && call->waiting->since_us < since_us)
            since_us = call->waiting->since_us;
    return since_us == NEVER ? NEVER : after(since_us, session->host->config->output_timeout_ms);
}

static void give_up_held_up(struct http_session *session)
{
    for (struct http_call *call = session->calls, *next; call; call = next) {
        next = call->next;
        if (!call->waiting || call->waiting->since_us == NEVER || session->now_us < after(call->waiting->since_us, session->host->config->output_timeout_ms))
            continue;
        bool is_held_up = session->transport->is_held_up(call);
        call->waiting->since_us = is_held_up ? NEVER : session->now_us;
        if (is_held_up)
            http_call_abort(call);
    }
}

uint64_t http_session_deadline(const struct http_session *session)
{
    uint64_t input_us = input_deadline(session), output_us = output_deadline(session), frame_us = frame_deadline(session);
    uint64_t first_us = input_us < output_us ? input_us : output_us;
    return first_us < frame_us ? first_us : frame_us;
}

void http_session_tick(struct http_session *session, uint64_t now_us)
{
    session->now_us = now_us;
    if (now_us >= output_deadline(session)) {   /* the peer does not read */
        output_clear(&session->output);
        session->taken_us = 0;
        http_session_die(session);
        return;
    }
    if (now_us >= frame_deadline(session))
        give_up_held_up(session);
    if (now_us < input_deadline(session))
        return;
    if (session->transport == &http_transport_1 && session->head_us && !session->calls) {
        struct http_call *call = http_call_new(session);
        session->head_us = 0;
        if (call) {
            call->state |= HTTP_COMPLETE;
            session->draining = true;
            http_problem(call, 408, "The request's head has not come in time.");
        }
        http_session_die(session);
        return;
    }
    struct http_call *call = (struct http_call *)unfinished(session);
    if (call && session->transport == &http_transport_2) {
        http_call_abort(call);
        session->heard_us = now_us;
        return;
    }
    session->draining = true;
    if (call)
        http_problem(call, 408, "The request's body has stopped coming.");
    else if (session->transport)
        session->transport->shutdown(session);
    http_session_die(session);
}

void http_session_shutdown(struct http_session *session, uint64_t now_us)
{
    session->now_us = now_us;
    if (session->draining)
        return;
    session->draining = true;
    if (session->transport)
        session->transport->shutdown(session);
    if (!session->calls)
        http_session_die(session);
}

/* ---- words ----------------------------------------------------------------------------------------------------------- */

/* Days since 1970 to a civil date, in eras of 400 years that begin in March. */
void http_date(uint64_t wall_ms, char text[30])
{
    static const char days[7][4] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};
    static const char months[12][4] = {"Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"};
    uint64_t seconds = wall_ms / 1000, day = seconds / 86400, second = seconds % 86400, shifted = day + 719468;
    uint64_t era = shifted / 146097, of_era = shifted % 146097;
    uint64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100), month = (5 * of_year + 2) / 153;
    unsigned year = (unsigned)(year_of_era + era * 400 + (month >= 10)) % 10000;
    snprintf(text, 30, "%s, %02u %s %04u %02u:%02u:%02u GMT", days[day % 7], (unsigned)(of_year - (153 * month + 2) / 5 + 1) % 100, months[month], year,
             (unsigned)(second / 3600) % 100, (unsigned)(second / 60 % 60), (unsigned)(second % 60));
}

const char *http_session_date(struct http_session *session)
{
    struct http_host *host = session->host;
    if (!host->date[0] || host->dated_s != host->wall_ms / 1000) {
        host->dated_s = host->wall_ms / 1000;
        http_date(host->wall_ms, host->date);
    }
    return host->date;
}

const char *http_reason(unsigned status)
{
    static const struct { unsigned status; const char *reason; } reasons[] = {
        {100, "Continue"}, {101, "Switching Protocols"}, {200, "OK"}, {201, "Created"}, {202, "Accepted"}, {204, "No Content"}, {206, "Partial Content"},
        {304, "Not Modified"}, {400, "Bad Request"}, {401, "Unauthorized"}, {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"},
        {406, "Not Acceptable"}, {408, "Request Timeout"}, {409, "Conflict"}, {410, "Gone"}, {411, "Length Required"}, {412, "Precondition Failed"},
        {413, "Content Too Large"}, {415, "Unsupported Media Type"}, {417, "Expectation Failed"}, {421, "Misdirected Request"}, {422, "Unprocessable Content"},
        {423, "Locked"}, {426, "Upgrade Required"}, {429, "Too Many Requests"}, {431, "Request Header Fields Too Large"}, {500, "Internal Server Error"},
        {501, "Not Implemented"}, {503, "Service Unavailable"}, {505, "HTTP Version Not Supported"}, {507, "Insufficient Storage"},
    };
    for (unsigned i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Unknown";
}
