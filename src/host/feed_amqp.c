#include "host/feed_amqp.h"

#include "base/map.h"
#include "host/circuit.h"
#include "protocol/amqp/table.h"
#include "runtime/feeder_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEAVE_MS 2000u               /* for the other broker's goodbye: until then it may have more to do with what was acknowledged */

struct amqp_feeding {
    struct feeding feeding;          /* first */
    uv_timer_t turner;
    struct circuit *circuit;
    struct line *line;               /* the circuit's */
    struct station *station;
    struct map deliveries;           /* by their number; those that are not settled */
    uint64_t number;
    bool is_open, is_refused;
    bool is_lost;                    /* what had come cannot be settled any more */
    bool is_leaving;                 /* it is closed here, and says goodbye there */
    uint64_t leave_ms;               /* when there is no more waiting for the answer */
    enum feed_reach reach;
    char refused[FEED_WHY_MAX];      /* what the line cannot have at that broker */
};

static struct amqp_feeding *amqp_of(struct feeding *feeding) { return (struct amqp_feeding *)feeding; }

static void on_turn(uv_timer_t *timer);

static void turn_soon(struct amqp_feeding *a)
{
    if (!uv_is_closing((uv_handle_t *)&a->turner))
        uv_timer_start(&a->turner, on_turn, 0, 0);
}

/* ---- what the circuit tells --------------------------------------------------------------------------------------------------- */

static void on_wanted(void *owner) { turn_soon(owner); }

static const char *refusal(void *owner, const struct sockaddr *address)
{
    const struct amqp_feeding *a = owner;
    const struct feeder_config *config = &a->feeding.set->config;
    return config->refusal ? config->refusal(config->owner, a->reach, address) : NULL;
}

static bool on_delivered(void *owner, void *context, struct line_delivery *delivery)
{
    struct amqp_feeding *a = owner;
    (void)context;
    if (a->is_refused || a->is_lost || a->is_leaving || !feeding_is_heard(&a->feeding) || map_put(&a->deliveries, ++a->number, delivery) != GW_OK)
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

/* The line would make the station again, over the same connection. But where to begin is for the feed's user to say. */
static void on_lost(void *owner, void *context)
{
    struct amqp_feeding *a = owner;
    (void)context;
    a->is_lost |= a->is_open;
    release_all(a);
}

/* What the broker refuses it refuses the next time, too, which is for its user to come to. */
static void on_notice(void *owner, enum line_level level, const char *sentence)
{
    struct amqp_feeding *a = owner;
    if (level != LINE_ERROR || a->is_refused)
        return;
    a->is_refused = true;
    snprintf(a->refused, sizeof(a->refused), "The other broker: %s.", sentence);
}

/* ---- turns -------------------------------------------------------------------------------------------------------------------- */

static void end(struct amqp_feeding *a)
{
    struct feed_end end = {.outcome = FEED_BROKEN};
    const char *why = line_error(a->line);
    if (a->is_refused) {
        memcpy(end.why, a->refused, sizeof(end.why));
    } else if (!line_is_closed(a->line)) {
        snprintf(end.why, sizeof(end.why), "The other broker: %s.", why);
    } else if (line_cause(a->line) == LINE_UNREACHABLE) {
        end.outcome = FEED_UNREACHABLE;
        snprintf(end.why, sizeof(end.why), "The other broker cannot be reached: %s.", why);
    } else {
        snprintf(end.why, sizeof(end.why), line_cause(a->line) == LINE_NOT_LET_IN ? "At the other broker: %s." : "The connection to the other broker broke: %s.", why);
    }
    feeding_end(&a->feeding, &end);
}

static void hang_up(struct amqp_feeding *a)
{
    feeding_lingered(&a->feeding);
    circuit_close(a->circuit);
    a->circuit = NULL;
    a->line = NULL;
    feeding_close_handle(&a->feeding, (uv_handle_t *)&a->turner);
}

static void sleep_until(struct amqp_feeding *a, uint64_t deadline_ms)
{
    uint64_t now_ms = circuit_now_ms();
    if (deadline_ms != UINT64_MAX)
        uv_timer_start(&a->turner, on_turn, deadline_ms > now_ms ? deadline_ms - now_ms : 0, 0);
}

static void go_on_leaving(struct amqp_feeding *a)
{
    circuit_turn(a->circuit);
    if (line_is_closed(a->line) || circuit_now_ms() >= a->leave_ms)
        hang_up(a);
    else
        sleep_until(a, a->leave_ms);
}

static void on_turn(uv_timer_t *timer)
{
    struct amqp_feeding *a = timer->data;
    if (a->is_leaving) {
        go_on_leaving(a);
        return;
    }
    if (!a->is_refused)
        circuit_turn(a->circuit);
    if (a->is_refused || a->is_lost || line_is_closed(a->line)) {
        end(a);
        return;
    }
    if (!a->is_open && station_is_ready(a->station)) {
        a->is_open = true;
        feeding_opened(&a->feeding, &(struct feed_opening){0});
    }
    sleep_until(a, line_deadline_ms(a->line));
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
    a->reach = request->reach;
    const struct line_settings line = {.uris = &uri, .uri_count = 1, .name = request->name, .bare = true, .once = true};
    const struct circuit_settings settings = {.loop = set->config.loop, .line = &line, .ca_file = set->config.authorities, .ca_beside = true};
    const struct circuit_events events = {.owner = a, .wanted = on_wanted, .refusal = refusal, .delivered = on_delivered, .lost = on_lost, .notice = on_notice};
    uint8_t room[64];
    struct amqp_table_writer writer;
    struct bytes arguments;
    amqp_table_begin(&writer, room, sizeof(room));
    if (request->offset)
        amqp_table_put_long(&writer, "x-stream-offset", (int64_t)*request->offset);
    else if (request->from_start)
        amqp_table_put_text(&writer, "x-stream-offset", bytes_of_text("first"));
    CHECK(amqp_table_finish(&writer, &arguments));
    const struct station_plan plan = {.queue = request->queue, .pattern = "", .dead_queue = "", .durable = true, .as_found = true, .consumers = 1, .prefetch = request->prefetch,
                                      .consumer_arguments = arguments};
    a->circuit = circuit_open(&settings, &events);
    a->line = a->circuit ? circuit_line(a->circuit) : NULL;
    a->station = a->line ? line_subscribe(a->line, &plan, a) : NULL;
    if (!a->station) {
        circuit_close(a->circuit);
        free(a);
        return NULL;
    }
    uv_timer_init(set->config.loop, &a->turner);
    a->turner.data = a;
    a->feeding.handles = 1;
    uv_timer_start(&a->turner, on_turn, 0, 0);
    return &a->feeding;
}

/* How many messages come is bounded by the prefetch, but not how large they are. */
static void pause_amqp(struct feeding *feeding, bool paused) { circuit_pause(amqp_of(feeding)->circuit, paused); }

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

/* What was settled is still said, and goodbye; what is not acknowledged goes back to its queue as the connection ends. A broker that is hung up on may not get to what it was told last. */
static void close_amqp(struct feeding *feeding)
{
    struct amqp_feeding *a = amqp_of(feeding);
    release_all(a);
    uv_timer_stop(&a->turner);
    a->is_leaving = true;
    circuit_pause(a->circuit, false);
    if (line_is_up(a->line)) {
        (void)circuit_turn(a->circuit);
        line_close(a->line, circuit_now_ms());
        (void)circuit_turn(a->circuit);
    }
    if (!line_is_up(a->line) || line_is_closed(a->line)) {
        hang_up(a);
        return;
    }
    a->leave_ms = circuit_now_ms() + LEAVE_MS;
    feeding_lingers(feeding);
    sleep_until(a, a->leave_ms);
}

static void abandon_amqp(struct feeding *feeding) { hang_up(amqp_of(feeding)); }

static void free_amqp(struct feeding *feeding) { free(feeding); }

const struct feeding_kind feeding_amqp = {.begin = begin, .pause = pause_amqp, .settle = settle, .close = close_amqp, .abandon = abandon_amqp, .free = free_amqp};
