#include "protocol/http/fake_service.h"

#include "protocol/http/problem.h"

#include <stdlib.h>

struct body {
    struct fake *fake;
    uint8_t *data;
    size_t size;
};

static bool path_is(const struct http_call *call, const char *path) { return bytes_equal(call->request->path, bytes_of_text(path)); }

static void begun(struct http_call *call)
{
    struct body *body = calloc(1, sizeof(*body));
    CHECK(body);
    body->fake = http_session_owner(call->session);
    body->fake->calls++;
    call->context = body;
    /* A sanitizer sees whether the request lies where it says. */
    unsigned sum = 0;
    for (unsigned i = 0; i < call->request->field_count; i++)
        for (size_t at = 0; at < call->request->fields[i].value.size; at++)
            sum += call->request->fields[i].value.data[at];
    if (path_is(call, "/early"))
        http_problem(call, 403, "No body is wanted (%u).", sum ? 1 : 0);
}

static void body(struct http_call *call, struct bytes piece)
{
    struct body *gathered = call->context;
    gathered->data = realloc(gathered->data, gathered->size + piece.size);
    CHECK(gathered->data && piece.size);
    memcpy(gathered->data + gathered->size, piece.data, piece.size);
    gathered->size += piece.size;
}

static void complete(struct http_call *call)
{
    struct body *gathered = call->context;
    if (path_is(call, "/echo")) {
        http_answer(call, &(struct http_answer){.status = 200, .type = "text/plain", .body = bytes_of(gathered->data, gathered->size)});
    } else if (path_is(call, "/wait")) {
        gathered->fake->waiting = call;
    } else if (path_is(call, "/stream")) {
        http_stream_begin(call, &(struct http_answer){.status = 200, .type = "text/plain"});
        http_call_forget_head(call);
        for (unsigned i = 0; i < 3; i++)
            http_stream_write(call, bytes_of_text("piece"));
        http_stream_end(call);
    } else if (path_is(call, "/nothing")) {
        http_answer(call, &(struct http_answer){.status = 204});
    } else {
        http_problem(call, 404, "There is no '%.*s'.", (int)call->request->path.size, (const char *)call->request->path.data);
    }
}

static void gone(struct http_call *call)
{
    struct body *gathered = call->context;
    if (!gathered)
        return;
    gathered->fake->gone++;
    if (gathered->fake->waiting == call)
        gathered->fake->waiting = NULL;
    free(gathered->data);
    free(gathered);
}

static const struct http_service service = {.begun = begun, .body = body, .complete = complete, .gone = gone};

static void on_dirty(struct http_host *host, void *owner)
{
    (void)host;
    ((struct fake *)owner)->dirty = true;
}

void fake_open(struct fake *fake)
{
    memset(fake, 0, sizeof(*fake));
    fake->config = http_config_default;
    fake->host = (struct http_host){.config = &fake->config, .service = &service, .dirty = on_dirty};
    fake->now_us = 1000000;
    fake->chunks = chunk_pool_new(4);
    fake->heard = calloc(1, 1);
    CHECK(fake->chunks && fake->heard);
    CHECK(http_session_new(&fake->host, fake, fake, fake->chunks, fake->now_us, &fake->session) == GW_OK);
    http_session_clock(fake->session, 784111777000);
}

void fake_close(struct fake *fake)
{
    http_session_free(fake->session);
    CHECK(fake->calls == fake->gone);
    chunk_pool_free(fake->chunks);
    free(fake->tail);
    free(fake->heard);
}

static void present(struct fake *fake)
{
    while (fake->tail_size && http_session_wants_input(fake->session)) {
        uint8_t *copy = malloc(fake->tail_size);
        CHECK(copy);
        memcpy(copy, fake->tail, fake->tail_size);
        size_t taken = http_session_feed(fake->session, bytes_of(copy, fake->tail_size), fake->now_us);
        free(copy);
        CHECK(taken <= fake->tail_size);
        memmove(fake->tail, fake->tail + taken, fake->tail_size - taken);
        fake->tail_size -= taken;
        if (!taken)
            break;
    }
}

void fake_turn(struct fake *fake)
{
    struct iovec iov[4];
    unsigned count;
    do {
        while ((count = http_session_output(fake->session, iov, 4)) > 0) {
            size_t size = 0;
            for (unsigned i = 0; i < count; i++) {
                fake->heard = realloc(fake->heard, fake->heard_size + iov[i].iov_len + 1);
                CHECK(fake->heard);
                memcpy(fake->heard + fake->heard_size, iov[i].iov_base, iov[i].iov_len);
                fake->heard_size += iov[i].iov_len;
                size += iov[i].iov_len;
            }
            http_session_sent(fake->session, size, fake->now_us);
        }
        fake->heard[fake->heard_size] = 0;
        fake->dirty = false;
        present(fake);
    } while (fake->dirty);
}

void fake_feed(struct fake *fake, const void *data, size_t size, size_t step)
{
    step = step ? step : size;
    for (size_t at = 0; at < size; at += step) {
        size_t piece = size - at < step ? size - at : step;
        fake->tail = realloc(fake->tail, fake->tail_size + piece);
        CHECK(fake->tail);
        memcpy(fake->tail + fake->tail_size, (const uint8_t *)data + at, piece);
        fake->tail_size += piece;
        present(fake);
    }
    fake_turn(fake);
}

void fake_reply(struct fake *fake, const char *text)
{
    http_answer(fake->waiting, &(struct http_answer){.status = 200, .type = "text/plain", .body = bytes_of_text(text)});
    fake_turn(fake);
}
