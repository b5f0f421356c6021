#include "host/amqp_sender.h"

#include "host/circuit.h"
#include "protocol/amqp/sink_uri.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#define IDLE_US 60000000u            /* then the connection is given up */
#define GOODBYE_US 5000000u          /* so long its goodbye may take */
#define NEVER UINT64_MAX
#define WINDOW UINT64_MAX            /* who asks bounds what is under way */

/* A message that was asked for, until the line says what became of it. */
struct letter {
    struct carrier *carrier;
    struct letter *next, *previous;
    struct outgoing *outgoing;       /* NULL: nobody asks any more */
    uint64_t begun_us, due_us;
    struct outgoing_result result;   /* once it is told */
};

struct letters { struct letter *first, *last; };

/* One connection, from the first message to its end. */
struct carrier {
    struct amqp_sender *sender;
    struct carrier *next;
    uv_timer_t turner;
    struct circuit *circuit;
    char *url, *name;
    struct letters sent, told;       /* told: those whose result is known, and nobody has heard it */
    uint64_t due_us;                 /* when the first of those that are sent is, at the earliest */
    unsigned waiting;                /* sent ones that somebody asks for */
    uint64_t idle_us;                /* since when there is none; 0: there is */
    uint64_t leaving_us;             /* since when it says goodbye; 0: it does not */
    bool is_over;                    /* it takes no more */
    bool is_forbidden;               /* an address may not be connected to */
};

struct amqp_sender {
    struct outgoing_sender outgoing; /* first */
    struct amqp_sender_config config;
    struct carrier *carriers;
};

struct outgoing_sender *amqp_sender_outgoing(struct amqp_sender *sender) { return &sender->outgoing; }

static uint64_t now_us(void) { return uv_hrtime() / 1000u; }
static struct line *line_of(const struct carrier *carrier) { return circuit_line(carrier->circuit); }

static void on_turn(uv_timer_t *timer);

static void turn_soon(void *owner)
{
    struct carrier *carrier = owner;
    uv_timer_start(&carrier->turner, on_turn, 0, 0);
}

/* ---- letters ---------------------------------------------------------------------------------------------------------------- */

static void put_last(struct letters *letters, struct letter *letter)
{
    letter->next = NULL;
    letter->previous = letters->last;
    if (letters->last)
        letters->last->next = letter;
    else
        letters->first = letter;
    letters->last = letter;
}

static void take_out(struct letters *letters, struct letter *letter)
{
    if (letter->next)
        letter->next->previous = letter->previous;
    else
        letters->last = letter->previous;
    if (letter->previous)
        letter->previous->next = letter->next;
    else
        letters->first = letter->next;
}

static void free_all(struct letters *letters)
{
    for (struct letter *letter; (letter = letters->first);) {
        take_out(letters, letter);
        free(letter);
    }
}

/* Nobody asks for it any more, but the line may still tell of it. */
static void forget(struct letter *letter)
{
    struct carrier *carrier = letter->carrier;
    letter->outgoing->transport = NULL;
    letter->outgoing = NULL;
    if (--carrier->waiting == 0)
        carrier->idle_us = now_us();
}

__attribute__((format(printf, 4, 5)))
static void know(struct letter *letter, enum outgoing_outcome outcome, unsigned status, const char *format, ...)
{
    va_list arguments;
    uint64_t time_us = now_us();
    letter->result = (struct outgoing_result){.outcome = outcome, .status = status, .retry_after_s = OUTGOING_NO_TIME, .duration_us = time_us - letter->begun_us, .now_us = time_us};
    va_start(arguments, format);
    vsnprintf(letter->result.why, sizeof(letter->result.why), format, arguments);
    va_end(arguments);
}

static void know_busy(struct letter *letter) { know(letter, OUTGOING_BUSY, 0, "The other broker takes no publishes for now."); }

/* In the line's words. */
static void know_refusal(struct letter *letter)
{
    const struct line *line = line_of(letter->carrier);
    unsigned code = line_refusal_code(line);
    know(letter, code ? OUTGOING_ANSWERED : OUTGOING_REFUSED, code, "%s", line_error(line));
}

/* The line has told of it for the last time. */
static void on_told(void *owner, uint64_t ticket, enum line_verdict verdict)
{
    struct carrier *carrier = owner;
    struct letter *letter = (struct letter *)(uintptr_t)ticket;
    take_out(&carrier->sent, letter);
    if (!letter->outgoing) {
        free(letter);
        return;
    }
    if (verdict == LINE_TAKEN)
        know(letter, OUTGOING_ANSWERED, 200, "%s", "");
    else if (verdict == LINE_NO_ROUTE)
        know(letter, OUTGOING_ANSWERED, 312, "No queue at the other broker takes it.");
    else
        know_refusal(letter);
    put_last(&carrier->told, letter);
}

/* Calls whoever asked, who may ask for more, or for less, meanwhile. */
static bool tell(struct carrier *carrier)
{
    const struct letter *last = carrier->told.last;   /* of those that are known by now; what comes behind it has a turn of its own */
    bool any = false;
    for (struct letter *letter = last ? carrier->told.first : NULL, *next; letter; letter = next) {
        next = letter == last ? NULL : letter->next;
        struct outgoing *outgoing = letter->outgoing;
        take_out(&carrier->told, letter);
        if (outgoing) {
            forget(letter);
            outgoing->done(outgoing, &letter->result);
            any = true;
        }
        free(letter);
    }
    return any;
}

/* Those that were not confirmed in time. The broker may hang: it gets no more over this connection, but may still confirm the others. One that only takes nothing for now keeps the connection,
 * so that what has been sent is not sent over and over. True: there were some. */
static bool look_at_the_time(struct carrier *carrier, uint64_t time_us)
{
    bool is_blocked = line_is_blocked(line_of(carrier)), any = false;
    if (time_us < carrier->due_us)
        return false;
    carrier->due_us = NEVER;
    for (struct letter *letter = carrier->sent.first, *next; letter; letter = next) {
        next = letter->next;
        if (!letter->outgoing)
            continue;
        if (letter->due_us > time_us) {
            carrier->due_us = letter->due_us < carrier->due_us ? letter->due_us : carrier->due_us;
            continue;
        }
        /* It stays in the list, since the line still has it. */
        struct outgoing *outgoing = letter->outgoing;
        if (is_blocked)
            know_busy(letter);
        else
            know(letter, OUTGOING_TIMED_OUT, 0, "The other broker has not confirmed it in time.");
        carrier->is_over |= !is_blocked;
        any = true;
        forget(letter);
        outgoing->done(outgoing, &letter->result);
        next = letter->next;
    }
    return any;
}

/* ---- the connection ---------------------------------------------------------------------------------------------------------- */

static const char *refusal(void *owner, const struct sockaddr *address)
{
    struct carrier *carrier = owner;
    const struct amqp_sender_config *config = &carrier->sender->config;
    const char *why = config->refusal(config->owner, address);
    carrier->is_forbidden |= why != NULL;
    return why;
}

static void on_notice(void *owner, enum line_level level, const char *sentence) { (void)owner, (void)level, (void)sentence; }

/* The line is closed: what it has not told of, it never will. */
static void be_over(struct carrier *carrier)
{
    const struct line *line = line_of(carrier);
    enum line_cause cause = line_cause(line);
    enum outgoing_outcome outcome = cause == LINE_NOT_LET_IN ? OUTGOING_REFUSED : cause != LINE_UNREACHABLE ? OUTGOING_BROKEN : carrier->is_forbidden ? OUTGOING_FORBIDDEN : OUTGOING_UNREACHABLE;
    carrier->is_over = true;
    for (struct letter *letter; (letter = carrier->sent.first);) {
        take_out(&carrier->sent, letter);
        if (letter->outgoing) {
            know(letter, outcome, 0, "%s", line_error(line));
            put_last(&carrier->told, letter);
        } else {
            free(letter);
        }
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct carrier *carrier = handle->data;
    free(carrier->url);
    free(carrier->name);
    free(carrier);
}

static void carrier_close(struct carrier *carrier)
{
    struct carrier **at = &carrier->sender->carriers;
    while (*at != carrier)
        at = &(*at)->next;
    *at = carrier->next;
    circuit_close(carrier->circuit);
    free_all(&carrier->sent);
    free_all(&carrier->told);
    uv_timer_stop(&carrier->turner);
    uv_close((uv_handle_t *)&carrier->turner, on_closed);
}

/* Nobody waits for anything. True: it is gone. */
static bool rest(struct carrier *carrier)
{
    uint64_t time_us = now_us();     /* which is not before any that was noted meanwhile */
    bool is_tired = carrier->is_over || time_us - carrier->idle_us >= IDLE_US;
    if (line_is_closed(line_of(carrier)) || (carrier->leaving_us && time_us - carrier->leaving_us >= GOODBYE_US)) {
        carrier_close(carrier);
        return true;
    }
    if (is_tired && !carrier->leaving_us) {
        carrier->is_over = true;
        carrier->leaving_us = time_us;
        line_close(line_of(carrier), time_us / 1000);
        turn_soon(carrier);
    }
    return false;
}

static uint64_t deadline_of(const struct carrier *carrier)
{
    uint64_t line_ms = line_deadline_ms(line_of(carrier)), deadline_us = line_ms == UINT64_MAX ? NEVER : line_ms * 1000;
    uint64_t own_us = carrier->waiting ? carrier->due_us : carrier->leaving_us ? carrier->leaving_us + GOODBYE_US : carrier->idle_us + IDLE_US;
    return own_us < deadline_us ? own_us : deadline_us;
}

static void on_turn(uv_timer_t *timer)
{
    struct carrier *carrier = timer->data;
    const struct amqp_sender_config config = carrier->sender->config;
    bool wrote_all = circuit_turn(carrier->circuit);
    if (line_is_closed(line_of(carrier)))
        be_over(carrier);
    bool any = look_at_the_time(carrier, now_us());
    any |= tell(carrier);
    bool is_gone = !carrier->waiting && rest(carrier);
    if (!is_gone && !uv_is_active((uv_handle_t *)timer)) {
        /* What became possible by what was told, and what waits for room in the output, goes at once. */
        uint64_t deadline_us = wrote_all && line_has_more(line_of(carrier)) ? 0 : deadline_of(carrier);
        uint64_t time_us = now_us();
        if (deadline_us != NEVER)
            uv_timer_start(timer, on_turn, deadline_us > time_us ? (deadline_us - time_us + 999) / 1000 : 0, 0);
    }
    if (any)
        config.told(config.owner);
}

/* ---- what is asked ------------------------------------------------------------------------------------------------------------ */

static struct carrier *carrier_new(struct amqp_sender *sender, const struct outgoing_request *request)
{
    struct sink_uri sink;
    char why[SINK_URI_WHY_MAX];
    struct carrier *carrier = calloc(1, sizeof(*carrier));
    if (!carrier)
        return NULL;
    *carrier = (struct carrier){.sender = sender, .due_us = NEVER, .idle_us = now_us(), .url = strdup(request->url), .name = strdup(request->message->name)};
    if (carrier->url && carrier->name && sink_uri_read(carrier->url, &sink, why)) {
        /* The exchange of events is made, as libgodwit does it; any other is somebody else's. */
        const struct line_settings line = {.uris = &sink.uri, .uri_count = 1, .name = carrier->name, .window_bytes = WINDOW, .bare = strcmp(sink.exchange, LINE_EXCHANGE) != 0, .once = true};
        const struct circuit_settings settings = {.loop = sender->config.loop, .line = &line, .ca_file = sender->config.authorities, .ca_beside = true};
        const struct circuit_events events = {.owner = carrier, .wanted = turn_soon, .refusal = refusal, .told = on_told, .notice = on_notice};
        carrier->circuit = circuit_open(&settings, &events);
    }
    if (!carrier->circuit) {
        free(carrier->url);
        free(carrier->name);
        free(carrier);
        return NULL;
    }
    uv_timer_init(sender->config.loop, &carrier->turner);
    carrier->turner.data = carrier;
    carrier->next = sender->carriers;
    return sender->carriers = carrier;
}

static struct carrier *carrier_for(struct amqp_sender *sender, const struct outgoing_request *request)
{
    struct carrier *carrier = sender->carriers;
    while (carrier && (carrier->is_over || strcmp(carrier->url, request->url) != 0 || strcmp(carrier->name, request->message->name) != 0))
        carrier = carrier->next;
    return carrier ? carrier : carrier_new(sender, request);
}

static bool begin(struct outgoing_sender *outgoing_sender, struct outgoing *outgoing, const struct outgoing_request *request)
{
    struct amqp_sender *sender = (struct amqp_sender *)outgoing_sender;
    const struct outgoing_message *asked = request->message;
    struct letter *letter = calloc(1, sizeof(*letter));
    struct carrier *carrier = letter ? carrier_for(sender, request) : NULL;
    const struct line_message message = {.exchange = asked->exchange, .routing_key = asked->routing_key, .properties = asked->properties, .body = request->body, .mandatory = asked->is_mandatory};
    bool is_blocked = carrier && line_is_blocked(line_of(carrier));
    if (carrier)
        turn_soon(carrier);
    if (!carrier || (!is_blocked && line_publish(line_of(carrier), &message, (uint64_t)(uintptr_t)letter))) {
        free(letter);
        return false;
    }
    uint64_t time_us = now_us();
    *letter = (struct letter){.carrier = carrier, .outgoing = outgoing, .begun_us = time_us, .due_us = time_us + request->timeout_ms * 1000};
    carrier->waiting++;
    carrier->idle_us = 0;
    outgoing->transport = letter;
    if (is_blocked) {
        know_busy(letter);
        put_last(&carrier->told, letter);
        return true;
    }
    carrier->due_us = letter->due_us < carrier->due_us ? letter->due_us : carrier->due_us;
    put_last(&carrier->sent, letter);
    return true;
}

/* What was sent cannot be taken back. When nobody else waits for anything, what was not sent is not. */
static void cancel(struct outgoing_sender *sender, struct outgoing *outgoing)
{
    struct letter *letter = outgoing->transport;
    (void)sender;
    if (!letter)
        return;
    struct carrier *carrier = letter->carrier;
    forget(letter);
    carrier->is_over |= !carrier->waiting;
    turn_soon(carrier);
}

struct amqp_sender *amqp_sender_new(const struct amqp_sender_config *config)
{
    struct amqp_sender *sender = calloc(1, sizeof(*sender));
    if (sender)
        *sender = (struct amqp_sender){.outgoing = {.begin = begin, .cancel = cancel}, .config = *config};
    return sender;
}

void amqp_sender_free(struct amqp_sender *sender)
{
    if (!sender)
        return;
    for (struct carrier *carrier; (carrier = sender->carriers);) {
        CHECK(carrier->waiting == 0);
        line_close(line_of(carrier), circuit_now_ms());   /* which circuit_close says, if it can be said at once */
        carrier_close(carrier);
    }
    free(sender);
}
