#include "server/receiver.h"

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/receiver.h"
#include "protocol/http/problem.h"
#include "protocol/http/session.h"
#include "protocol/webhook/signature.h"
#include "runtime/listener.h"
#include "runtime/reactor.h"
#include "runtime/signals.h"
#include "server/address.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SECRETS_KEPT 16u
#define BODY_MAX (64u << 20)
#define PIECE_SIZE 16384u            /* of a body that does not end */
#define FAREWELL_US 1000000u

enum mode { MODE_ANSWER, MODE_HANG, MODE_CLOSE, MODE_HALF, MODE_GARBAGE, MODE_ENDLESS, MODE_REDIRECT };
static const char *const mode_names[] = {"answer", "hang", "close", "half", "garbage", "endless", "redirect"};

struct receiver {
    struct receiver_settings settings;
    enum mode mode;
    struct webhook_secret secrets[SECRETS_KEPT];
    unsigned secret_count;
    struct reactor *reactor;
    struct http_host host;
    struct chunk_pool *pool;
    struct visitor *visitors;
    uint64_t seen, stop_us;
    bool stopping;
};

/* A connection. */
struct visitor {
    struct receiver *receiver;
    struct connection *connection;
    struct http_session *http;
    struct visitor *next, *previous;
    struct received *waiting;        /* for its answer's time */
    struct bytes raw;                /* is sent instead of what the session has to say */
    bool is_finished;
};

/* A request. */
struct received {
    struct visitor *visitor;
    struct http_call *call;
    struct received *next;
    uint64_t due_us;
    bool is_waiting, is_endless;
    unsigned status;
    uint8_t *body;
    size_t size, room;
};

/* ---- requests ----------------------------------------------------------------------------------------------------------- */

static void begun(struct http_call *call)
{
    struct received *received = calloc(1, sizeof(*received));
    if (!received) {
        http_problem(call, 503, "There is too little memory.");
        return;
    }
    received->visitor = http_session_owner(call->session);
    received->call = call;
    call->context = received;
}

static void body(struct http_call *call, struct bytes piece)
{
    struct received *received = call->context;
    if (!received || received->size > BODY_MAX)
        return;
    if (received->size + piece.size > received->room) {
        size_t room = (received->size + piece.size) * 2;
        uint8_t *grown = received->size + piece.size <= BODY_MAX ? realloc(received->body, room) : NULL;
        if (!grown) {
            http_problem(call, 413, "The body is longer than %u bytes.", BODY_MAX);
            received->size = BODY_MAX + 1;
            return;
        }
        received->body = grown;
        received->room = room;
    }
    memcpy(received->body + received->size, piece.data, piece.size);
    received->size += piece.size;
}

static struct bytes field(const struct http_request *request, const char *name)
{
    struct bytes value = {0};
    http_field_find(request, name, &value);
    return value;
}

static const char *verdict_of(const struct receiver *r, const struct http_request *request, struct bytes text)
{
    static const char *const words[] = {"genuine", "missing", "stale", "forged"};
    enum webhook_verdict best = WEBHOOK_FORGED;
    if (!r->secret_count)
        return NULL;
    for (unsigned i = 0; i < r->secret_count; i++) {
        enum webhook_verdict verdict = webhook_verify(&r->secrets[i], field(request, "webhook-id"), field(request, "webhook-timestamp"), field(request, "webhook-signature"), text,
                                                      (uint64_t)time(NULL));
        best = verdict < best ? verdict : best;
    }
    return words[best];
}

static void answer(struct received *received)
{
    const struct receiver_settings *settings = &received->visitor->receiver->settings;
    char retry_after[24];
    struct http_field fields[2];
    struct http_answer answer = {.status = received->status, .fields = fields};
    if (received->status == 302)
        fields[answer.field_count++] = (struct http_field){bytes_of_text("location"), bytes_of_text("/elsewhere")};
    if (received->status >= 300 && settings->retry_after_s) {
        snprintf(retry_after, sizeof(retry_after), "%" PRIu64, settings->retry_after_s);
        fields[answer.field_count++] = (struct http_field){bytes_of_text("retry-after"), bytes_of_text(retry_after)};
    }
    http_answer(received->call, &answer);
}

/* Its body does not end. */
static void go_on(struct http_call *call)
{
    static const uint8_t piece[PIECE_SIZE] = {'x'};
    const struct received *received = call->context;
    if (received && received->is_endless)
        http_stream_write(call, bytes_of(piece, sizeof(piece)));
}

static void misbehave(struct received *received, enum mode mode)
{
    struct visitor *visitor = received->visitor;
    switch (mode) {
    case MODE_HALF: visitor->raw = bytes_of_text("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"); break;
    case MODE_GARBAGE: visitor->raw = bytes_of_text("What would you like to hear?\r\n\r\n"); break;
    case MODE_CLOSE: connection_abort(visitor->connection); return;
    case MODE_ENDLESS:
        received->is_endless = true;
        http_stream_begin(received->call, &(struct http_answer){.status = 200, .type = "text/plain"});
        go_on(received->call);
        return;
    default: return;   /* for ever */
    }
    connection_has_output(visitor->connection);
}

static void stop(struct receiver *r, uint64_t now_us)
{
    if (r->stopping)
        return;
    r->stopping = true;
    r->stop_us = now_us + FAREWELL_US;
    reactor_stop_accepting(r->reactor);
    for (struct visitor *visitor = r->visitors; visitor; visitor = visitor->next) {
        http_session_shutdown(visitor->http, now_us);
        connection_has_output(visitor->connection);
    }
}

static void complete(struct http_call *call)
{
    struct received *received = call->context;
    struct receiver *r = received ? received->visitor->receiver : NULL;
    if (!r || received->size > BODY_MAX)
        return;
    struct bytes text = bytes_of(received->body, received->size);
    const char *verdict = verdict_of(r, call->request, text);
    receiver_print(call->request, text, verdict, r->settings.json);
    bool as_told = !r->settings.first || r->seen < r->settings.first;
    uint64_t now_us = reactor_now(r->reactor);
    r->seen++;
    enum mode mode = as_told ? r->mode : MODE_ANSWER;
    bool forged = verdict && strcmp(verdict, "genuine") != 0;
    received->status = forged ? 401 : !as_told ? 204 : mode == MODE_REDIRECT ? 302 : (unsigned)r->settings.status;
    if (!forged && mode != MODE_ANSWER && mode != MODE_REDIRECT) {
        misbehave(received, mode);
    } else if (r->settings.delay_ms) {
        received->due_us = now_us + r->settings.delay_ms * 1000;
        received->is_waiting = true;
        received->next = received->visitor->waiting;
        received->visitor->waiting = received;
    } else {
        answer(received);
    }
    if (r->settings.count && r->seen >= r->settings.count)
        stop(r, now_us);
}

static void gone(struct http_call *call)
{
    struct received *received = call->context;
    if (!received)
        return;
    for (struct received **at = &received->visitor->waiting; received->is_waiting && *at; at = &(*at)->next)
        if (*at == received) {
            *at = received->next;
            break;
        }
    free(received->body);
    free(received);
}

static const struct http_service service = {.begun = begun, .body = body, .complete = complete, .drained = go_on, .gone = gone};

/* ---- connections ---------------------------------------------------------------------------------------------------------- */

static void follow(struct visitor *visitor)
{
    bool finished = visitor->raw.data ? !visitor->raw.size : http_session_finished(visitor->http);
    if (finished && !visitor->is_finished) {
        visitor->is_finished = true;
        connection_finish(visitor->connection);
    }
}

static void on_dirty(struct http_host *host, void *owner)
{
    (void)host;
    connection_has_output(((struct visitor *)owner)->connection);
}

static void *accepted(void *owner, struct connection *connection)
{
    struct receiver *r = owner;
    struct visitor *visitor = calloc(1, sizeof(*visitor));
    if (!visitor)
        return NULL;
    *visitor = (struct visitor){.receiver = r, .connection = connection};
    if (http_session_new(&r->host, visitor, visitor, r->pool, reactor_now(r->reactor), &visitor->http) != GW_OK) {
        free(visitor);
        return NULL;
    }
    visitor->next = r->visitors;
    if (r->visitors)
        r->visitors->previous = visitor;
    r->visitors = visitor;
    return visitor;
}

static size_t received(void *session, struct bytes input)
{
    struct visitor *visitor = session;
    http_session_clock(visitor->http, (uint64_t)time(NULL) * 1000);
    size_t taken = visitor->raw.data ? input.size : http_session_feed(visitor->http, input, reactor_now(visitor->receiver->reactor));
    connection_has_output(visitor->connection);
    return taken;
}

static void ended(void *session)
{
    struct visitor *visitor = session;
    http_session_ended(visitor->http, reactor_now(visitor->receiver->reactor));
    connection_has_output(visitor->connection);
    follow(visitor);
}

static unsigned output(void *session, struct iovec *iov, unsigned room)
{
    struct visitor *visitor = session;
    if (!visitor->raw.data)
        return http_session_output(visitor->http, iov, room);
    iov[0] = (struct iovec){.iov_base = (void *)(uintptr_t)visitor->raw.data, .iov_len = visitor->raw.size};
    return visitor->raw.size > 0;
}

static void sent(void *session, size_t size)
{
    struct visitor *visitor = session;
    if (visitor->raw.data)
        visitor->raw = bytes_of(visitor->raw.data + size, visitor->raw.size - size);
    else
        http_session_sent(visitor->http, size, reactor_now(visitor->receiver->reactor));
    follow(visitor);
    reactor_again(visitor->receiver->reactor);
}

static void closed(void *session, enum connection_end end)
{
    struct visitor *visitor = session;
    (void)end;
    if (visitor->next)
        visitor->next->previous = visitor->previous;
    if (visitor->previous)
        visitor->previous->next = visitor->next;
    else
        visitor->receiver->visitors = visitor->next;
    http_session_free(visitor->http);
    free(visitor);
}

static const struct connection_events events = {.accepted = accepted, .received = received, .ended = ended, .output = output, .sent = sent, .closed = closed};

static uint64_t turn(void *owner, uint64_t now_us)
{
    struct receiver *r = owner;
    uint64_t next_us = r->stopping ? r->stop_us : UINT64_MAX;
    for (struct visitor *visitor = r->visitors; visitor; visitor = visitor->next) {
        for (struct received **at = &visitor->waiting, *due; (due = *at);) {
            if (due->due_us > now_us) {
                next_us = due->due_us < next_us ? due->due_us : next_us;
                at = &due->next;
                continue;
            }
            *at = due->next;
            due->is_waiting = false;
            answer(due);
            connection_has_output(visitor->connection);
        }
        uint64_t deadline_us = http_session_deadline(visitor->http);
        if (deadline_us <= now_us) {
            http_session_tick(visitor->http, now_us);
            connection_has_output(visitor->connection);
            deadline_us = http_session_deadline(visitor->http);
        }
        follow(visitor);
        next_us = deadline_us < next_us ? deadline_us : next_us;
    }
    if (r->stopping && (now_us >= r->stop_us || !r->visitors))
        reactor_stop(r->reactor);
    return next_us > now_us ? next_us : now_us + 1000;
}

/* ---- the program ------------------------------------------------------------------------------------------------------------ */

static void on_signal(void *owner, unsigned count)
{
    struct receiver *r = owner;
    (void)count;
    stop(r, reactor_now(r->reactor));
    reactor_wake(r->reactor);
}

static int listen_everywhere(struct receiver *r, struct console *console)
{
    struct address_list list = {0};
    char text[256];
    if (!address_list_parse(r->settings.listen, (uint16_t)r->settings.port, &list, text, sizeof(text))) {
        console_complain(console, "--listen takes addresses separated by commas; '%s' is none", text);
        return EXIT_USAGE;
    }
    for (unsigned i = 0; i < list.count; i++) {
        if (i)
            address_set_port(&list.items[i], address_port(&list.items[0]));
        enum gw_err err = listener_probe((struct sockaddr *)&list.items[i]);
        if (!err)
            err = reactor_listen(r->reactor, (struct sockaddr *)&list.items[i], &events, r);
        address_text(&list.items[i], text);
        if (err) {
            console_complain(console, "cannot listen on %s: %s", text, err == GW_ERR_EXISTS ? "another program does" : gw_err_text(err));
            return EXIT_FAILED;
        }
        printf("%s http://%s", i ? "" : "ready", text);
    }
    putchar('\n');
    fflush(stdout);
    return EXIT_DONE;
}

static int run(struct receiver *r, struct console *console)
{
    struct signals *signals = NULL;
    r->pool = chunk_pool_new(4);
    r->host = (struct http_host){.config = &http_config_default, .service = &service, .dirty = on_dirty};
    r->reactor = r->pool ? reactor_new(&(struct reactor_config){.turn = turn, .owner = r}) : NULL;
    int code = r->reactor ? listen_everywhere(r, console) : EXIT_FAILED;
    if (code == EXIT_DONE && signals_open(reactor_loop(r->reactor), on_signal, r, &signals) == GW_OK)
        reactor_run(r->reactor);
    signals_close(signals);
    if (r->reactor)
        reactor_free(r->reactor);
    if (r->pool)
        chunk_pool_free(r->pool);
    return code;
}

static bool read_settings(struct receiver *r, struct console *console)
{
    for (unsigned i = 0; i < sizeof(mode_names) / sizeof(mode_names[0]); i++)
        if (strcmp(r->settings.mode, mode_names[i]) == 0)
            r->mode = (enum mode)i;
    for (size_t i = 0; i < r->settings.secrets.count; i++) {
        if (r->secret_count == SECRETS_KEPT || !webhook_secret_read(bytes_of_text(r->settings.secrets.items[i]), &r->secrets[r->secret_count++])) {
            console_complain(console, "--secret takes up to %u of whsec_ and %u to %u bytes in base64", SECRETS_KEPT, SECRET_KEY_MIN, SECRET_KEY_MAX);
            return false;
        }
    }
    return true;
}

int receiver_main(int argc, char **argv)
{
    struct console console;
    char complaint[400];
    int operand_count = 0;
    bool help = false;
    struct receiver *r = calloc(1, sizeof(*r));
    console_init(&console, "sink");
    if (!r)
        return EXIT_FAILED;
    signals_ignore_those_that_are_errors();
    r->settings = receiver_defaults;
    int code = EXIT_USAGE;
    if (option_parse(&sink_command.table, &r->settings, argc - 1, argv + 1, &operand_count, &help, complaint, sizeof(complaint)))
        console_complain(&console, "%s\nTry 'godwit help sink'.", complaint);
    else if (operand_count)
        console_complain(&console, "one word too many: '%.200s'", argv[1]);
    else if (help)
        code = EXIT_DONE;
    else if (read_settings(r, &console))
        code = run(r, &console);
    if (help)
        command_print_help(&sink_command, stdout);
    free(r);
    return code;
}
