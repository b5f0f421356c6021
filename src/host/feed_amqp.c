#include "host/feed_amqp.h"

#include "base/map.h"
#include "client/line.h"
#include "runtime/feeder_state.h"
#include "runtime/outbound.h"
#include "runtime/tls_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct amqp_feeding {
    struct feeding feeding;          /* first */
    uv_timer_t turner;
    struct line *line;
    struct station *station;
    struct outbound *outbound;       /* NULL: no connection is there or wanted */
    struct ssl_ctx_st *tls;
    struct map deliveries;           /* by their number; those that are not settled */
    uint64_t number;
    bool is_local, connected, is_open, is_over;
    struct feed_end end;             /* once it is over */
    char notice[FEED_WHY_MAX];       /* what the line complained of last */
};

static struct amqp_feeding *amqp_of(struct feeding *feeding) { return (struct amqp_feeding *)feeding; }
static uint64_t now_ms(void) { return uv_hrtime() / 1000000; }

static void on_turn(uv_timer_t *timer);

static void turn_soon(struct amqp_feeding *a)
{
    if (!a->feeding.is_closed)
        uv_timer_start(&a->turner, on_turn, 0, 0);
}

/* It is told in a turn, as its user may not be told in the middle of what it asks for. */
static void over(struct amqp_feeding *a, enum feed_outcome outcome, const char *why)
{
    if (a->is_over)
        return;
    a->is_over = true;
    a->end.outcome = outcome;
    snprintf(a->end.why, sizeof(a->end.why), "%s", why);
    turn_soon(a);
}

/* ---- the socket ------------------------------------------------------------------------------------------------------------- */

static void on_connected(void *owner)
{
    struct amqp_feeding *a = owner;
    a->connected = true;
    line_connected(a->line, now_ms());
    turn_soon(a);
}

static void on_failed(void *owner, const char *why)
{
    struct amqp_feeding *a = owner;
    char sentence[FEED_WHY_MAX];
    snprintf(sentence, sizeof(sentence), a->connected ? "The connection to the other broker broke: %s." : "The other broker cannot be reached: %s.", why ? why : "it hung up");
    over(a, a->connected ? FEED_BROKEN : FEED_UNREACHABLE, sentence);
}

static void on_came(void *owner, struct bytes bytes)
{
    struct amqp_feeding *a = owner;
    line_feed(a->line, bytes, now_ms());
    turn_soon(a);
}

static void on_room(void *owner) { turn_soon(owner); }

static const char *refusal(void *owner, const struct sockaddr *address)
{
    const struct amqp_feeding *a = owner;
    const struct feeder_config *config = &a->feeding.set->config;
    return config->refusal ? config->refusal(config->owner, a->is_local, address) : NULL;
}

/* ---- what the line wants ----------------------------------------------------------------------------------------------------- */

static void hang_up(struct amqp_feeding *a)
{
    outbound_free(a->outbound);
    tls_client_free(a->tls);
    a->outbound = NULL;
    a->tls = NULL;
    a->connected = false;
}

static void on_dial(void *owner, const struct uri *uri)
{
    struct amqp_feeding *a = owner;
    char why[FEED_WHY_MAX];
    if (uri->tls && !(a->tls = tls_client_open(uri->ca[0] ? uri->ca : NULL, uri->trusts_anybody, why, sizeof(why)))) {
        over(a, FEED_UNREACHABLE, why);
        return;
    }
    const struct outbound_settings settings = {.loop = a->feeding.set->config.loop, .host = uri->host, .port = uri->port, .tls = a->tls, .refusal = refusal};
    const struct outbound_events events = {a, on_connected, on_failed, on_came, on_room};
    if (!(a->outbound = outbound_new(&settings, &events)))
        over(a, FEED_NO_MEMORY, "");
}

/* The line has found the connection to be of no use, and says why in a moment. */
static void on_hang_up(void *owner)
{
    struct amqp_feeding *a = owner;
    hang_up(a);
    over(a, FEED_BROKEN, "");
}

static void on_told(void *owner, uint64_t ticket, enum line_verdict verdict) { (void)owner, (void)ticket, (void)verdict; }

static bool on_delivered(void *owner, void *context, struct line_delivery *delivery)
{
    struct amqp_feeding *a = owner;
    (void)context;
    if (a->is_over || !feeding_is_heard(&a->feeding) || map_put(&a->deliveries, ++a->number, delivery) != GW_OK)
        return false;
    const struct feed_message message = {.number = a->number, .routing_key = delivery->routing_key, .properties = delivery->properties, .body = delivery->body};
    a->feeding.feed->events->delivered(a->feeding.feed, &message);
    return true;
}

static void release_all(struct amqp_feeding *a)
{
    uint32_t cursor = 0;
    for (struct line_delivery *delivery; (delivery = map_next(&a->deliveries, &cursor));)
        line_release(delivery);
    map_deinit(&a->deliveries);
    a->deliveries = (struct map){0};
}

/* The line makes the station again, over the same connection or not at all: what had come comes again, with other numbers. */
static void on_lost(void *owner, void *context)
{
    (void)context;
    release_all(owner);
}

static void on_notice(void *owner, enum line_level level, const char *sentence)
{
    struct amqp_feeding *a = owner;
    if (level != LINE_INFO)
        snprintf(a->notice, sizeof(a->notice), "%s", sentence);
    if (level == LINE_ERROR)
        over(a, FEED_BROKEN, sentence);
}

/* ---- turns -------------------------------------------------------------------------------------------------------------------- */

static void write_output(struct amqp_feeding *a)
{
    for (struct bytes out; a->connected && (out = line_output(a->line)).size;) {
        size_t size = outbound_write(a->outbound, out);
        line_sent(a->line, size, now_ms());
        if (size < out.size)
            return;
    }
}

static void on_turn(uv_timer_t *timer)
{
    struct amqp_feeding *a = timer->data;
    if (!a->is_over) {
        line_turn(a->line, now_ms());
        write_output(a);
    }
    if (a->is_over) {
        struct feed_end end = a->end;
        if (!end.why[0])
            snprintf(end.why, sizeof(end.why), "%s", a->notice);
        feeding_end(&a->feeding, &end);
        return;
    }
    if (!a->is_open && station_is_ready(a->station)) {
        a->is_open = true;
        feeding_opened(&a->feeding, &(struct feed_opening){0});
    }
    uint64_t deadline_ms = line_deadline_ms(a->line), time_ms = now_ms();
    if (deadline_ms != UINT64_MAX)
        uv_timer_start(timer, on_turn, deadline_ms > time_ms ? deadline_ms - time_ms : 0, 0);
    feeding_told(&a->feeding);
}

/* ---- what the set asks --------------------------------------------------------------------------------------------------------- */

static struct feeding *begin(struct feeder_set *set, const struct feed_request *request)
{
    struct amqp_feeding *a = calloc(1, sizeof(*a));
    struct uri uri;
    const char *complaint;
    if (!a || uri_parse(&uri, request->address, &complaint) != GW_OK) {
        free(a);
        return NULL;
    }
    a->feeding.set = set;
    a->is_local = request->is_local;
    const struct line_settings settings = {.uris = &uri, .uri_count = 1, .name = request->name, .seed = uv_hrtime(), .now_ms = now_ms()};
    const struct line_events events = {a, on_dial, on_hang_up, on_told, on_delivered, on_lost, on_notice};
    const struct station_plan plan = {.queue = request->queue, .pattern = "", .dead_queue = "", .durable = true, .as_found = true, .consumers = 1, .prefetch = request->prefetch};
    a->line = line_new(&settings, &events);
    a->station = a->line ? line_subscribe(a->line, &plan, a) : NULL;
    if (!a->station) {
        line_free(a->line);
        free(a);
        return NULL;
    }
    uv_timer_init(set->config.loop, &a->turner);
    a->turner.data = a;
    a->feeding.handles = 1;
    uv_timer_start(&a->turner, on_turn, 0, 0);
    return &a->feeding;
}

/* What comes is bounded by the prefetch, as nothing is settled that was not published. */
static void pause_amqp(struct feeding *feeding, bool paused) { (void)feeding, (void)paused; }

static void settle(struct feeding *feeding, uint64_t number)
{
    struct amqp_feeding *a = amqp_of(feeding);
    struct line_delivery *delivery = map_remove(&a->deliveries, number);
    if (!delivery)
        return;
    line_settle(delivery, LINE_ACK);
    line_release(delivery);
    turn_soon(a);
}

/* What is not acknowledged goes back to its queue as the connection ends. */
static void close_amqp(struct feeding *feeding)
{
    struct amqp_feeding *a = amqp_of(feeding);
    uv_timer_stop(&a->turner);
    line_free(a->line);
    a->line = NULL;
    release_all(a);
    hang_up(a);
    feeding_close_handle(feeding, (uv_handle_t *)&a->turner);
}

static void free_amqp(struct feeding *feeding) { free(feeding); }

const struct feeding_kind feeding_amqp = {.begin = begin, .pause = pause_amqp, .settle = settle, .close = close_amqp, .free = free_amqp};
