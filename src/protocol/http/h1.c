/* HTTP/1: one request at a time, parsed by llhttp once http_head_look has found its head whole and of one meaning. */
#include "protocol/http/session_state.h"

#include "protocol/http/chunked.h"
#include "protocol/http/head.h"
#include "protocol/http/problem.h"

#include <llhttp.h>

#include <stdio.h>
#include <stdlib.h>

#define DISCARD_MAX 65536u   /* bytes of a body that nobody wants any more that are read all the same, so that the connection can go on */
#define LINE_ROOM 512u       /* for the lines of a head that are ours */

/* A head that is being parsed. */
struct parsing {
    llhttp_t parser;
    struct http_request *request;
    struct http_field *fields;
    unsigned count, room;
    struct bytes method, target;
    const char *why;                 /* what is wrong with it that the parser does not know */
};

/* ---- what the parser finds --------------------------------------------------------------------------------------------- */

static struct parsing *parsing_of(llhttp_t *parser) { return (struct parsing *)parser; }

static int on_method(llhttp_t *parser, const char *at, size_t size)
{
    parsing_of(parser)->method = bytes_of(at, size);
    return 0;
}

static int on_url(llhttp_t *parser, const char *at, size_t size)
{
    parsing_of(parser)->target = bytes_of(at, size);
    return 0;
}

static int on_field(llhttp_t *parser, const char *at, size_t size)
{
    struct parsing *parsing = parsing_of(parser);
    if (parsing->count == parsing->room) {
        parsing->why = "The request has more than 128 headers.";
        return -1;
    }
    parsing->fields[parsing->count++] = (struct http_field){.name = bytes_of(at, size)};
    return 0;
}

static int on_value(llhttp_t *parser, const char *at, size_t size)
{
    struct parsing *parsing = parsing_of(parser);
    while (size && (at[size - 1] == ' ' || at[size - 1] == '\t'))
        size--;
    parsing->fields[parsing->count - 1].value = bytes_of(at, size);
    return 0;
}

/* It knows heads; bodies are found here, and more strictly. */
static int on_head(llhttp_t *parser)
{
    (void)parser;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_method = on_method, .on_url = on_url, .on_header_field = on_field, .on_header_value = on_value, .on_headers_complete = on_head,
};

/* ---- input ------------------------------------------------------------------------------------------------------------ */

/* The peer cannot be understood: it is told why, and nothing more of it is read. */
static void refuse(struct http_session *session, struct http_call *call, unsigned status, const char *why)
{
    call = call ? call : http_call_new(session);
    session->draining = true;
    session->h1.keep = false;
    if (call) {
        call->state |= HTTP_COMPLETE;
        http_problem(call, status, "%s", why);
    }
    http_session_die(session);
}

static bool make_request(struct h1 *h1, const struct parsing *parsing, struct http_call *call)
{
    struct http_request *request = parsing->request;
    call->request = request;
    *request = (struct http_request){.method = parsing->method, .fields = parsing->fields, .field_count = parsing->count, .content_length = HTTP_UNKNOWN,
                                     .minor = parsing->parser.http_minor};
    for (unsigned i = 0; i < parsing->count; i++)
        request->names |= http_name_bit(parsing->fields[i].name.data, parsing->fields[i].name.size);
    struct bytes length;
    h1->is_chunked = false;
    if (http_field_find(request, "content-length", &length))
        http_number(length, &request->content_length);
    else if (!(h1->is_chunked = http_field_has(request, "transfer-encoding", "chunked")))
        request->content_length = 0;
    if (h1->is_chunked) {
        h1->chunked = (struct http_chunked *)(void *)(parsing->fields + parsing->room);
        *h1->chunked = (struct http_chunked){0};
    } else {
        h1->left = request->content_length;
    }
    h1->whole = !h1->is_chunked && !h1->left;
    http_field_find(request, "host", &request->authority);
    call->is_head = bytes_equal(request->method, bytes_of_text("HEAD"));
    h1->keep = !http_field_has(request, "connection", "close") && (request->minor || http_field_has(request, "connection", "keep-alive"));
    h1->streaming = false;
    if (http_field_has(request, "expect", "100-continue") && request->minor && request->content_length)
        call->state |= HTTP_CONTINUE;
    return http_target_split(parsing->target, &request->authority, &request->path, &request->query);
}

/* Room for a head and its fields. False: out of memory. */
static bool head_room(struct http_call *call, size_t size)
{
    call->head = size <= CHUNK_BLOCK_SIZE ? chunk_block_take(call->session->output.pool) : malloc(size);
    if (size <= CHUNK_BLOCK_SIZE)
        call->state |= HTTP_BLOCK;
    return call->head;
}

/* The head at the beginning of `in` is whole: it is kept with its call, and parsed there. */
static struct http_call *begin(struct http_session *session, struct bytes in, const struct http_head *look)
{
    UNINITIALIZED struct parsing parsing;
    size_t fields_at = (look->size + 15) & ~(size_t)15;
    struct http_call *call = http_call_new(session);
    if (!call)
        return NULL;
    parsing.room = look->fields < HTTP_FIELDS_MAX ? look->fields : HTTP_FIELDS_MAX;
    if (!head_room(call, fields_at + sizeof(*parsing.request) + parsing.room * sizeof(struct http_field) + sizeof(struct http_chunked)))
        return NULL;
    memcpy(call->head, in.data, look->size);
    parsing.request = (struct http_request *)(void *)(call->head + fields_at);
    parsing.fields = (struct http_field *)(parsing.request + 1);
    parsing.count = 0;
    parsing.why = NULL;
    parsing.method = parsing.target = (struct bytes){0};
    llhttp_init(&parsing.parser, HTTP_REQUEST, &settings);
    enum llhttp_errno err = llhttp_execute(&parsing.parser, (const char *)call->head, look->size);
    if (err != HPE_PAUSED) {
        const char *why = parsing.why ? parsing.why : err == HPE_INVALID_METHOD ? "There is no such method." : llhttp_get_error_reason(&parsing.parser);
        refuse(session, call, parsing.why ? 431 : err == HPE_INVALID_METHOD ? 501 : 400, why);
        return NULL;
    }
    if (!make_request(&session->h1, &parsing, call)) {
        bool connects = bytes_equal(call->request->method, bytes_of_text("CONNECT"));
        refuse(session, call, connects ? 501 : 400, connects ? "This server connects to nobody." :
               "The target of a request must be a path, or a whole URL of this server, without a user or a fragment.");
        return NULL;
    }
    session->host->service->begun(call);
    if (!(call->state & HTTP_ANSWERED) && (call->state & HTTP_CONTINUE))
        http_session_say(session, bytes_of_text("HTTP/1.1 100 Continue\r\n\r\n"));
    call->state &= (uint8_t)~HTTP_CONTINUE;
    return call;
}

/* Ends the call that has come to its end. True: the next one may come. */
static bool settled(struct http_session *session, struct http_call *call)
{
    if ((call->state & (HTTP_COMPLETE | HTTP_ENDED)) != (HTTP_COMPLETE | HTTP_ENDED))
        return false;
    bool keep = session->h1.keep;
    http_call_end(call);
    session->h1.seen = 0;
    if (!keep || session->ended || session->draining)
        http_session_die(session);
    return keep;
}

static void give(struct http_session *session, struct http_call *call, struct bytes piece)
{
    if (piece.size && !(call->state & HTTP_ANSWERED))
        session->host->service->body(call, piece);
}

/* False: it was refused. */
static bool take_chunks(struct http_session *session, struct http_call *call, struct bytes *rest)
{
    struct h1 *h1 = &session->h1;
    struct bytes piece;
    enum http_chunked_found found;
    while ((found = http_chunked_next(h1->chunked, rest, &piece)) == HTTP_CHUNKED_DATA)
        give(session, call, piece);
    h1->whole = found == HTTP_CHUNKED_END;
    if (found == HTTP_CHUNKED_BAD)
        refuse(session, call, 400, h1->chunked->why);
    return found != HTTP_CHUNKED_BAD;
}

/* A part of the request under way; answers how much was taken. */
static size_t body(struct http_session *session, struct http_call *call, struct bytes in)
{
    struct h1 *h1 = &session->h1;
    size_t taken = 0;
    if (!h1->whole && h1->is_chunked) {
        struct bytes rest = in;
        if (!take_chunks(session, call, &rest))
            return in.size;
        taken = in.size - rest.size;
    } else if (!h1->whole) {
        taken = h1->left < in.size ? (size_t)h1->left : in.size;
        h1->left -= taken;
        h1->whole = !h1->left;
        give(session, call, bytes_of(in.data, taken));
    }
    if (h1->whole && !(call->state & HTTP_COMPLETE)) {
        call->state |= HTTP_COMPLETE;
        if (!(call->state & HTTP_ANSWERED))
            session->host->service->complete(call);
    }
    return taken;
}

static size_t feed_all(struct http_session *session, struct bytes in)
{
    struct h1 *h1 = &session->h1;
    size_t taken = 0;
    while (taken < in.size && !session->dead) {
        struct http_call *call = session->calls;
        struct bytes rest = bytes_of(in.data + taken, in.size - taken);
        if (call && (call->state & HTTP_RAW)) {
            session->host->service->body(call, rest);
            taken = in.size;
            if (!session->dead)
                settled(session, call);
            break;
        }
        if (call && (call->state & HTTP_COMPLETE)) {   /* its answer is awaited */
            session->held = true;
            return taken;
        }
        if (!call && session->output.size > session->host->config->output_limit)   /* nothing new until its peer has taken something */
            return taken;
        if (!call) {
            struct http_head look = {.seen = h1->seen};
            enum http_head_state state = http_head_look(rest, &look);
            h1->seen = (uint32_t)look.seen;
            session->head_us = session->head_us ? session->head_us : session->now_us;
            if (state == HTTP_HEAD_MORE)
                return taken;
            session->head_us = 0;
            if (state == HTTP_HEAD_BAD) {
                refuse(session, NULL, look.status, look.why);
                break;
            }
            call = begin(session, rest, &look);
            taken += look.size;
            h1->seen = 0;
            if (!call) {
                http_session_die(session);
                break;
            }
            rest = bytes_of(in.data + taken, in.size - taken);
        }
        taken += body(session, call, rest);
        if (!session->dead)
            settled(session, call);
    }
    return session->dead ? in.size : taken;
}

static size_t h1_feed(struct http_session *session, struct bytes in)
{
    session->h1.busy = true;
    size_t taken = feed_all(session, in);
    session->h1.busy = false;
    return taken;
}

/* ---- output ----------------------------------------------------------------------------------------------------------- */

/* A body whose rest would have to be read before the next request can be. */
static bool must_close(const struct http_call *call)
{
    return !(call->state & HTTP_COMPLETE) && ((call->state & HTTP_CONTINUE) || call->request->content_length > DISCARD_MAX);
}

static void ended(struct http_call *call)
{
    struct http_session *session = call->session;
    call->state |= HTTP_ENDED;
    if (must_close(call))
        http_session_die(session);
    else if (!session->h1.busy)
        settled(session, call);
}

static uint8_t *put(uint8_t *at, struct bytes bytes)
{
    if (bytes.size)
        memcpy(at, bytes.data, bytes.size);
    return at + bytes.size;
}

static uint8_t *put_number(uint8_t *at, uint64_t number)
{
    uint8_t digits[20], *digit = digits + sizeof(digits);
    do
        *--digit = (uint8_t)('0' + number % 10);
    while (number /= 10);
    return put(at, bytes_of(digit, (size_t)(digits + sizeof(digits) - digit)));
}

/* Behind a line that has no end yet. */
static uint8_t *put_field(uint8_t *at, const char *name, const char *value)
{
    at = put(at, bytes_of_text("\r\n"));
    at = put(at, bytes_of_text(name));
    at = put(at, bytes_of_text(": "));
    return put(at, bytes_of_text(value));
}

static uint8_t *put_fields(uint8_t *at, const struct http_field *fields, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        at = put(at, fields[i].name);
        at = put(at, bytes_of_text(": "));
        at = put(at, fields[i].value);
        at = put(at, bytes_of_text("\r\n"));
    }
    return at;
}

static void h1_answer(struct http_call *call, const struct http_answer *answer, bool whole)
{
    struct http_session *session = call->session;
    struct h1 *h1 = &session->h1;
    bool bodiless = answer->status < 200 || answer->status == 204 || answer->status == 304;
    size_t size = LINE_ROOM + strlen(session->host->config->server) + (answer->type ? strlen(answer->type) : 0) + (whole ? answer->body.size : 0);
    for (unsigned i = 0; i < call->extra_count; i++)
        size += call->extra[i].name.size + call->extra[i].value.size + 4;
    for (unsigned i = 0; i < answer->field_count; i++)
        size += answer->fields[i].name.size + answer->fields[i].value.size + 4;
    uint8_t *begin = output_room(&session->output, size), *at = begin;
    if (!begin) {
        http_session_die(session);
        return;
    }
    call->state |= HTTP_ANSWERED;
    if (must_close(call) || session->draining)
        h1->keep = false;
    at = put(at, bytes_of_text("HTTP/1.1 "));
    at = put_number(at, answer->status);
    *at++ = ' ';
    at = put(at, bytes_of_text(http_reason(answer->status)));
    at = put_field(at, "server", session->host->config->server);
    at = put_field(at, "date", http_session_date(session));
    if (answer->type)
        at = put_field(at, "content-type", answer->type);
    at = put(at, bytes_of_text("\r\n"));
    at = put_fields(at, call->extra, call->extra_count);
    at = put_fields(at, answer->fields, answer->field_count);
    if (whole && !bodiless) {
        at = put(at, bytes_of_text("content-length: "));
        at = put_number(at, answer->body.size);
        at = put(at, bytes_of_text("\r\n"));
    }
    if (call->state & HTTP_RAW) {
        h1->keep = false;
        at = put(at, bytes_of_text("connection: Upgrade\r\n\r\n"));
        output_wrote(&session->output, at);
        http_session_dirty(session);
        return;
    }
    if (!whole) {
        h1->streaming = call->request->minor > 0;
        h1->keep &= h1->streaming;
        if (h1->streaming)
            at = put(at, bytes_of_text("transfer-encoding: chunked\r\n"));
    }
    at = put(at, bytes_of_text(h1->keep ? call->request->minor ? "\r\n" : "connection: keep-alive\r\n\r\n" : "connection: close\r\n\r\n"));
    if (whole && !bodiless && !call->is_head)
        at = put(at, answer->body);
    output_wrote(&session->output, at);
    http_session_dirty(session);
    if (whole)
        ended(call);
}

static void h1_write(struct http_call *call, struct bytes piece)
{
    struct http_session *session = call->session;
    char line[24];
    if (session->h1.streaming)
        http_session_say(session, bytes_of(line, (size_t)sprintf(line, "%zx\r\n", piece.size)));
    http_session_say(session, piece);
    if (session->h1.streaming)
        http_session_say(session, bytes_of_text("\r\n"));
}

static void h1_share(struct http_call *call, const struct http_shared *shared)
{
    struct http_session *session = call->session;
    output_reference(&session->output, session->h1.streaming ? shared->framed : shared->bytes, shared->chunk);
    if (session->output.failed)
        session->dead = true;
    http_session_dirty(session);
}

static void h1_end(struct http_call *call)
{
    if (call->session->h1.streaming && !call->is_head)
        http_session_say(call->session, bytes_of_text("0\r\n\r\n"));
    ended(call);
}

static void h1_abort(struct http_call *call)
{
    http_session_die(call->session);
}

/* The answer under way says that it is the last one. */
static void h1_shutdown(struct http_session *session)
{
    session->h1.keep = false;
}

const struct http_transport http_transport_1 = {
    .feed = h1_feed, .answer = h1_answer, .write = h1_write, .share = h1_share, .end = h1_end, .abort = h1_abort, .shutdown = h1_shutdown,
};
