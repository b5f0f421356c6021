/* HTTP/2 on nghttp2: its frames, flow control and header compression; here are its streams as calls, and the limits. */
#include "protocol/http/session_state.h"

#include "protocol/http/head.h"
#include "protocol/http/problem.h"

#include <nghttp2/nghttp2.h>

#include <stdio.h>
#include <stdlib.h>

#define WINDOW (1 << 20)             /* bytes that a peer may send of all bodies before it has to wait */
#define RESETS_MAX 200u              /* streams that a peer may reset, or have us reset … */
#define EMPTIES_MAX 2000u            /* … and frames of a body with nothing in them … */
#define RESETS_US 10000000u          /* … in so long */
#define ANSWER_FIELDS_MAX 128u
#define DISCARD_MAX (1u << 20)       /* bytes of a body that nobody wants any more; then its stream is reset */

struct h2 {
    nghttp2_session *nghttp2;
    uint64_t resets_us;
    unsigned resets, empties;
    int32_t newest;                  /* the highest stream that the peer has begun … */
    uint64_t begun;                  /* … and which of the 64 up to that it has, the lowest bit is the newest's */
};

/* The head of a request while it comes: bytes, and where names and values lie in them. Behind it, once it is whole, the fields as services want them. */
struct incoming {
    uint32_t size, count;
    bool too_long;
    struct { uint32_t name, name_size, value, value_size; } spans[HTTP_FIELDS_MAX];
    struct http_request request;
    struct http_field fields[HTTP_FIELDS_MAX];
    uint32_t room;
    uint8_t bytes[];
};

static struct incoming *incoming_of(struct http_call *call) { return (struct incoming *)call->head; }

/* ---- what comes -------------------------------------------------------------------------------------------------------- */

/* A stream cannot be begun once a later one was (RFC 9113 section 5.1.1): nghttp2 passes over that, since it may be the trailers of one that was reset. */
static int on_begin_frame(nghttp2_session *nghttp2, const nghttp2_frame_hd *frame, void *owner)
{
    struct h2 *h2 = ((struct http_session *)owner)->h2;
    if (frame->type != NGHTTP2_HEADERS || frame->stream_id % 2 == 0)
        return 0;
    if (frame->stream_id > h2->newest) {
        unsigned more = (unsigned)(frame->stream_id - h2->newest) / 2;
        h2->begun = (h2->newest && more < 64 ? h2->begun << more : 0) | 1;
        h2->newest = frame->stream_id;
        return 0;
    }
    unsigned less = (unsigned)(h2->newest - frame->stream_id) / 2;
    return less < 64 && !(h2->begun >> less & 1) ? nghttp2_session_terminate_session(nghttp2, NGHTTP2_PROTOCOL_ERROR) : 0;
}

static int on_begin_headers(nghttp2_session *nghttp2, const nghttp2_frame *frame, void *owner)
{
    struct http_session *session = owner;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct http_call *call = http_call_new(session);
    if (!call)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    call->stream = frame->hd.stream_id;
    call->head = calloc(1, sizeof(struct incoming) + 1024);
    if (!call->head || nghttp2_session_set_stream_user_data(nghttp2, call->stream, call)) {
        http_call_end(call);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    incoming_of(call)->room = 1024;
    return 0;
}

static bool keep_field(struct http_call *call, struct bytes name, struct bytes value)
{
    struct incoming *in = incoming_of(call);
    size_t wanted = in->size + name.size + value.size;
    if (wanted > HTTP_HEAD_MAX || in->count == HTTP_FIELDS_MAX) {
        in->too_long = true;
        return true;
    }
    if (wanted > in->room) {
        uint32_t room = in->room * 2 > wanted ? in->room * 2 : (uint32_t)wanted;
        struct incoming *grown = realloc(in, sizeof(*in) + room);
        if (!grown)
            return false;
        in = grown;
        in->room = room;
        call->head = (uint8_t *)in;
    }
    uint32_t at = in->size;
    if (name.size)
        memcpy(in->bytes + at, name.data, name.size);
    if (value.size)
        memcpy(in->bytes + at + name.size, value.data, value.size);
    in->spans[in->count].name = at;
    in->spans[in->count].name_size = (uint32_t)name.size;
    in->spans[in->count].value = at + (uint32_t)name.size;
    in->spans[in->count++].value_size = (uint32_t)value.size;
    in->size = (uint32_t)wanted;
    return true;
}

static int on_header(nghttp2_session *nghttp2, const nghttp2_frame *frame, const uint8_t *name, size_t name_size, const uint8_t *value, size_t value_size,
                     uint8_t flags, void *owner)
{
    struct http_call *call = nghttp2_session_get_stream_user_data(nghttp2, frame->hd.stream_id);
    (void)flags, (void)owner;
    if (!call || frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;   /* trailers */
    return keep_field(call, bytes_of(name, name_size), bytes_of(value, value_size)) ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static bool make_request(struct http_call *call)
{
    struct incoming *in = incoming_of(call);
    struct http_request *request = &in->request;
    call->request = request;
    struct bytes target = {0}, length;
    *request = (struct http_request){.fields = in->fields, .content_length = HTTP_UNKNOWN, .minor = 1};
    for (uint32_t i = 0; i < in->count; i++) {
        struct bytes name = bytes_of(in->bytes + in->spans[i].name, in->spans[i].name_size);
        struct bytes value = bytes_of(in->bytes + in->spans[i].value, in->spans[i].value_size);
        if (http_name_is(name, ":method"))
            request->method = value;
        else if (http_name_is(name, ":path"))
            target = value;
        else if (http_name_is(name, ":authority") || (http_name_is(name, "host") && !request->authority.size))
            request->authority = value;
        if (name.size && name.data[0] != ':') {
            in->fields[request->field_count++] = (struct http_field){name, value};
            request->names |= http_name_bit(name.data, name.size);
        }
    }
    if (http_field_find(request, "content-length", &length))
        http_number(length, &request->content_length);
    call->is_head = bytes_equal(request->method, bytes_of_text("HEAD"));
    struct bytes ignored;
    return http_target_split(target, &ignored, &request->path, &request->query);
}

static void begun(struct http_session *session, struct http_call *call, bool whole)
{
    if (incoming_of(call)->too_long)
        http_problem(call, 431, "The request's headers are more than 128, or longer than 65536 bytes.");
    else if (!make_request(call))
        http_problem(call, bytes_equal(call->request->method, bytes_of_text("CONNECT")) ? 501 : 400, "The target of a request must be a path.");
    else
        session->host->service->begun(call);
    const nghttp2_nv status = {(uint8_t *)":status", (uint8_t *)"100", 7, 3, NGHTTP2_NV_FLAG_NONE};
    if (!whole && !(call->state & HTTP_ANSWERED) && http_field_has(call->request, "expect", "100-continue"))
        nghttp2_submit_headers(session->h2->nghttp2, NGHTTP2_FLAG_NONE, call->stream, NULL, &status, 1, NULL);
}

static void whole(struct http_session *session, struct http_call *call)
{
    if (call->state & HTTP_COMPLETE)
        return;
    call->state |= HTTP_COMPLETE;
    if (!(call->state & HTTP_ANSWERED))
        session->host->service->complete(call);
}

/* A peer that begins requests only to take them back, or to have them refused, makes work for nothing; so does one that sends frames with nothing in them. */
static int count_waste(struct http_session *session, bool is_reset)
{
    struct h2 *h2 = session->h2;
    if (session->now_us - h2->resets_us > RESETS_US) {
        h2->resets_us = session->now_us;
        h2->resets = h2->empties = 0;
    }
    h2->resets += is_reset;
    h2->empties += !is_reset;
    return h2->resets > RESETS_MAX || h2->empties > EMPTIES_MAX ? nghttp2_session_terminate_session(h2->nghttp2, NGHTTP2_ENHANCE_YOUR_CALM) : 0;
}

static int on_frame_sent(nghttp2_session *nghttp2, const nghttp2_frame *frame, void *owner)
{
    (void)nghttp2;
    return frame->hd.type == NGHTTP2_RST_STREAM && frame->rst_stream.error_code == NGHTTP2_PROTOCOL_ERROR ? count_waste(owner, true) : 0;
}

static int on_frame(nghttp2_session *nghttp2, const nghttp2_frame *frame, void *owner)
{
    struct http_session *session = owner;
    if (frame->hd.type == NGHTTP2_RST_STREAM)
        return count_waste(session, true);
    if (frame->hd.type == NGHTTP2_DATA && !frame->hd.length && !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) && count_waste(session, false))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    struct http_call *call = nghttp2_session_get_stream_user_data(nghttp2, frame->hd.stream_id);
    bool last = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    if (!call || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        begun(session, call, last);
    if (last)
        whole(session, call);
    return 0;
}

static int on_data(nghttp2_session *nghttp2, uint8_t flags, int32_t stream, const uint8_t *data, size_t size, void *owner)
{
    struct http_session *session = owner;
    struct http_call *call = nghttp2_session_get_stream_user_data(nghttp2, stream);
    (void)flags;
    if (call && !(call->state & HTTP_ANSWERED)) {
        if (size)
            session->host->service->body(call, bytes_of(data, size));
    } else if (call && (call->discarded += (uint32_t)size) > DISCARD_MAX) {
        return nghttp2_submit_rst_stream(nghttp2, NGHTTP2_FLAG_NONE, stream, NGHTTP2_NO_ERROR);
    }
    return 0;
}

static int on_close(nghttp2_session *nghttp2, int32_t stream, uint32_t code, void *owner)
{
    struct http_call *call = nghttp2_session_get_stream_user_data(nghttp2, stream);
    (void)code, (void)owner;
    if (call)
        http_call_end(call);
    return 0;
}

static size_t h2_feed(struct http_session *session, struct bytes in)
{
    ssize_t taken = nghttp2_session_mem_recv(session->h2->nghttp2, in.data, in.size);
    http_session_dirty(session);
    if (taken == NGHTTP2_ERR_BAD_CLIENT_MAGIC)
        nghttp2_session_terminate_session(session->h2->nghttp2, NGHTTP2_PROTOCOL_ERROR);
    if (taken < 0)   /* no memory, or no preface: what it had to say of that is in its queue */
        session->draining = true;
    if (taken < 0 || (!nghttp2_session_want_read(session->h2->nghttp2) && !nghttp2_session_want_write(session->h2->nghttp2)))
        http_session_die(session);
    return in.size;
}

/* ---- what leaves ------------------------------------------------------------------------------------------------------- */

static ssize_t read_body(nghttp2_session *nghttp2, int32_t stream, uint8_t *room, size_t size, uint32_t *flags, nghttp2_data_source *source, void *owner)
{
    struct http_call *call = source->ptr;
    (void)nghttp2, (void)stream, (void)owner;
    struct http_waiting *waiting = call->waiting;
    size_t left = waiting ? waiting->size - waiting->at : 0;
    size = size < left ? size : left;
    if (size) {
        memcpy(room, waiting->bytes + waiting->at, size);
        waiting->at += size;
        waiting->since_us = call->session->now_us;
    }
    if (size == left) {
        free(waiting);
        call->waiting = NULL;
        if (call->state & HTTP_ENDED)
            *flags |= NGHTTP2_DATA_FLAG_EOF;
        else if (!size)
            return NGHTTP2_ERR_DEFERRED;
    }
    return (ssize_t)size;
}

static bool wait_for(struct http_call *call, struct bytes piece)
{
    struct http_waiting *waiting = call->waiting;
    size_t size = (waiting ? waiting->size : 0) + piece.size;
    if (!waiting || size > waiting->room) {
        size_t room = waiting && waiting->room * 2 > size ? waiting->room * 2 : size;
        struct http_waiting *grown = realloc(waiting, sizeof(*waiting) + room);
        if (!grown)
            return false;
        if (!waiting)
            *grown = (struct http_waiting){.since_us = call->session->now_us};
        call->waiting = waiting = grown;
        waiting->room = room;
    }
    if (piece.size)
        memcpy(waiting->bytes + waiting->size, piece.data, piece.size);
    waiting->size = size;
    return true;
}

static nghttp2_nv pair(struct bytes name, struct bytes value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name.data, (uint8_t *)(uintptr_t)value.data, name.size, value.size, NGHTTP2_NV_FLAG_NONE};
}

static void h2_abort(struct http_call *call)
{
    struct http_session *session = call->session;
    if (nghttp2_submit_rst_stream(session->h2->nghttp2, NGHTTP2_FLAG_NONE, call->stream, NGHTTP2_INTERNAL_ERROR))
        http_session_die(session);
    http_session_dirty(session);
}

/* It has opened no window. Priorities may keep one stream behind another for as long as they like. */
static bool h2_is_held_up(struct http_call *call)
{
    nghttp2_session *nghttp2 = call->session->h2->nghttp2;
    return nghttp2_session_get_stream_remote_window_size(nghttp2, call->stream) <= 0 || nghttp2_session_get_remote_window_size(nghttp2) <= 0;
}

static void h2_answer(struct http_call *call, const struct http_answer *answer, bool is_whole)
{
    struct http_session *session = call->session;
    nghttp2_nv fields[ANSWER_FIELDS_MAX + HTTP_EXTRA_MAX + 5];
    size_t count = 0;
    char status[12], length[24];
    snprintf(status, sizeof(status), "%u", answer->status);
    snprintf(length, sizeof(length), "%zu", answer->body.size);
    CHECK(answer->field_count <= ANSWER_FIELDS_MAX);
    bool bodiless = call->is_head || answer->status < 200 || answer->status == 204 || answer->status == 304;
    fields[count++] = pair(bytes_of_text(":status"), bytes_of_text(status));
    fields[count++] = pair(bytes_of_text("server"), bytes_of_text(session->host->config->server));
    fields[count++] = pair(bytes_of_text("date"), bytes_of_text(http_session_date(session)));
    if (answer->type)
        fields[count++] = pair(bytes_of_text("content-type"), bytes_of_text(answer->type));
    if (is_whole && (!bodiless || call->is_head))
        fields[count++] = pair(bytes_of_text("content-length"), bytes_of_text(length));
    for (unsigned i = 0; i < call->extra_count; i++)
        fields[count++] = pair(call->extra[i].name, call->extra[i].value);
    for (unsigned i = 0; i < answer->field_count; i++)
        fields[count++] = pair(answer->fields[i].name, answer->fields[i].value);
    call->state |= HTTP_ANSWERED | (is_whole ? HTTP_ENDED : 0);
    bool empty = bodiless || (is_whole && !answer->body.size);
    nghttp2_data_provider provider = {.source = {.ptr = call}, .read_callback = read_body};
    if ((is_whole && !empty && !wait_for(call, answer->body)) ||
        nghttp2_submit_response(session->h2->nghttp2, call->stream, fields, count, empty ? NULL : &provider)) {
        h2_abort(call);
        return;
    }
    http_session_dirty(session);
}

static void h2_write(struct http_call *call, struct bytes piece)
{
    if (!wait_for(call, piece)) {
        h2_abort(call);
        return;
    }
    nghttp2_session_resume_data(call->session->h2->nghttp2, call->stream);
    http_session_dirty(call->session);
}

static void h2_end(struct http_call *call)
{
    call->state |= HTTP_ENDED;
    nghttp2_session_resume_data(call->session->h2->nghttp2, call->stream);
    http_session_dirty(call->session);
}

static void h2_fill(struct http_session *session)
{
    const uint8_t *data;
    ssize_t size = 0;
    while (session->output.size <= session->host->config->output_limit && (size = nghttp2_session_mem_send(session->h2->nghttp2, &data)) > 0) {
        uint8_t *at = output_room(&session->output, (size_t)size);
        if (!at)
            break;
        memcpy(at, data, (size_t)size);
        output_wrote(&session->output, at + size);
    }
    if (size < 0 || session->output.failed ||
        (!nghttp2_session_want_read(session->h2->nghttp2) && !nghttp2_session_want_write(session->h2->nghttp2)) || (session->draining && !session->calls))
        session->dead = true;
}

/* Requests that have come are answered; others are refused from now on. */
static void h2_shutdown(struct http_session *session)
{
    nghttp2_session *nghttp2 = session->h2->nghttp2;
    nghttp2_submit_goaway(nghttp2, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(nghttp2), NGHTTP2_NO_ERROR, NULL, 0);
    http_session_dirty(session);
}

/* ---- lifecycle --------------------------------------------------------------------------------------------------------- */

static void h2_free(struct http_session *session)
{
    if (session->h2)
        nghttp2_session_del(session->h2->nghttp2);
    free(session->h2);
}

static int make(struct http_session *session, nghttp2_session_callbacks *callbacks, nghttp2_option *option)
{
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_option_set_max_settings(option, 32);
    nghttp2_option_set_max_outbound_ack(option, 256);
    nghttp2_option_set_max_send_header_block_length(option, HTTP_HEAD_MAX);
    if (nghttp2_session_server_new2(&session->h2->nghttp2, callbacks, session, option))
        return -1;
    const nghttp2_settings_entry entries[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, session->host->config->streams_max},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP_HEAD_MAX},
    };
    return nghttp2_submit_settings(session->h2->nghttp2, NGHTTP2_FLAG_NONE, entries, sizeof(entries) / sizeof(entries[0])) ||
           nghttp2_session_set_local_window_size(session->h2->nghttp2, NGHTTP2_FLAG_NONE, 0, WINDOW);
}

enum gw_err h2_new(struct http_session *session)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    session->h2 = calloc(1, sizeof(*session->h2));
    bool made = session->h2 && !nghttp2_session_callbacks_new(&callbacks) && !nghttp2_option_new(&option) && !make(session, callbacks, option);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    if (made)
        return GW_OK;
    h2_free(session);
    session->h2 = NULL;
    return GW_ERR_NOMEM;
}

const struct http_transport http_transport_2 = {
    .feed = h2_feed, .fill = h2_fill, .answer = h2_answer, .write = h2_write, .end = h2_end, .abort = h2_abort, .is_held_up = h2_is_held_up, .shutdown = h2_shutdown, .free = h2_free,
};
