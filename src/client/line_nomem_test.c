/* Every allocation of a line's fails in turn, at a broker that answers all it is asked: nothing may crash or leak, and when there is memory again nothing is missing. */
#include "base/test_malloc.h"
#include "client/line.h"
#include "client/talk_story.h"

#include <setjmp.h>
#include <stddef.h>
#include <cmocka.h>

#define PUBLISHES 80u

/* Process-wide, because malloc is. */
static struct {
    unsigned until;     /* allocations left until one fails; 0: none fails */
    bool failed, armed;
} plan;

static bool fails(void)
{
    if (!plan.armed || plan.until == 0 || --plan.until > 0)
        return false;
    plan.failed = true;
    return true;
}

static struct story story;
static struct line *line;
static struct station *station;
static bool dialing, connected, recalled, replaced;
static unsigned taken[PUBLISHES + 1], delivered;
static uint64_t confirmed[4], tags[4];     /* by channel */

/* ---- a broker that answers ------------------------------------------------------------------------------------------------- */

static void answer(uint16_t channel, uint32_t id)
{
    struct amqp_value nothing[AMQP_ARGUMENTS_MAX] = {{{0}}}, got[AMQP_BASIC_GET_OK_COUNT] = {{{0}}};
    switch (id) {
    case AMQP_CHANNEL_OPEN:
        confirmed[channel] = tags[channel] = 0;
        say(&story, channel, AMQP_CHANNEL_OPEN_OK, nothing);
        break;
    case AMQP_CHANNEL_CLOSE: say(&story, channel, AMQP_CHANNEL_CLOSE_OK, NULL); break;
    case AMQP_EXCHANGE_DECLARE: say(&story, channel, AMQP_EXCHANGE_DECLARE_OK, NULL); break;
    case AMQP_CONFIRM_SELECT: say(&story, channel, AMQP_CONFIRM_SELECT_OK, NULL); break;
    case AMQP_QUEUE_DECLARE: say(&story, channel, AMQP_QUEUE_DECLARE_OK, nothing); break;
    case AMQP_QUEUE_BIND: say(&story, channel, AMQP_QUEUE_BIND_OK, NULL); break;
    case AMQP_BASIC_QOS: say(&story, channel, AMQP_BASIC_QOS_OK, NULL); break;
    case AMQP_BASIC_PUBLISH: say_confirm(&story, channel, AMQP_BASIC_ACK, ++confirmed[channel], false); break;
    case AMQP_BASIC_CONSUME:
        say(&story, channel, AMQP_BASIC_CONSUME_OK, nothing);
        for (unsigned i = 0; i < 3; i++)
            say_delivery(&story, channel, "godwit-0", ++tags[channel], 5000 * i);
        break;
    case AMQP_BASIC_GET:
        got[AMQP_BASIC_GET_OK_DELIVERY_TAG].number = ++tags[channel];
        say_message(&story, channel, AMQP_BASIC_GET_OK, got, 3);
        break;
    case AMQP_CONNECTION_CLOSE: say(&story, 0, AMQP_CONNECTION_CLOSE_OK, NULL); break;
    default: break;
    }
}

static void listen_to(struct bytes out)
{
    for (size_t at = 0; at < out.size;) {
        struct amqp_frame frame;
        struct bytes rest = bytes_of(out.data + at, out.size - at);
        if (amqp_protocol_header_read(rest) == WIRE_OK) {
            at += AMQP_PROTOCOL_HEADER_SIZE;
            say_welcome(&story);
            continue;
        }
        CHECK(amqp_frame_read(rest, 0, &frame) == WIRE_OK);
        at += frame.size;
        if (frame.type == AMQP_FRAME_METHOD)
            answer(frame.channel, amqp_method_id_read(frame.payload.data));
    }
}

/* ---- the line's owner ----------------------------------------------------------------------------------------------------------- */

static void on_dial(void *owner, const struct uri *uri) { (void)owner, (void)uri; dialing = true; }
static void on_hang_up(void *owner) { (void)owner; dialing = connected = false; }
static void on_told(void *owner, uint64_t ticket, enum line_verdict verdict)
{
    (void)owner;
    CHECK(verdict == LINE_TAKEN);
    taken[ticket]++;
}
static bool on_came(void *owner, void *context, struct line_delivery *delivery)
{
    (void)owner, (void)context;
    struct line_message copy = {.routing_key = bytes_of_text("jobs"), .properties = delivery->properties, .body = bytes_of("copy", 4)};
    delivered++;
    if (delivered % 2)
        replaced |= line_replace(line, delivery, &copy) == GW_OK;
    else
        line_settle(delivery, LINE_ACK);
    line_release(delivery);
    return true;
}
static void on_lost(void *owner, void *context) { (void)owner, (void)context; }
static void on_notice(void *owner, enum line_level level, const char *sentence) { (void)owner, (void)level, (void)sentence; }
static void on_told_position(void *context, enum gw_err err, const char *sentence, struct bytes body)
{
    (void)context, (void)sentence;
    recalled |= err == GW_OK && body.size == 3;
}

static void turn(void)
{
    story.now_ms += 50;
    plan.armed = true;
    if (dialing) {
        dialing = false;
        connected = true;
        line_connected(line, story.now_ms);
    }
    line_feed(line, bytes_of(story.said, story.said_size), story.now_ms);
    story.said_size = 0;
    line_turn(line, story.now_ms);
    struct bytes out = line_output(line);
    plan.armed = false;
    if (connected)
        listen_to(out);
    line_sent(line, out.size, story.now_ms);
}

static void open_line(void)
{
    struct uri uri;
    const char *complaint;
    CHECK(uri_parse(&uri, "amqp://broker", &complaint) == GW_OK);
    struct line_settings settings = {.uris = &uri, .uri_count = 1, .name = "a story", .retry_max_ms = 200, .seed = 7, .now_ms = story.now_ms};
    struct line_events events = {NULL, on_dial, on_hang_up, on_told, on_came, on_lost, on_notice};
    plan.armed = true;
    line = line_new(&settings, &events);
    plan.armed = false;
    if (!line)
        line = line_new(&settings, &events);
}

/* Each call that fails is made once more. */
static void ask_for_everything(void)
{
    struct station_plan jobs = {.queue = "jobs", .pattern = "job.*", .dead_queue = "jobs.dead", .durable = true, .consumers = 1, .prefetch = 5, .arguments = bytes_of("\1xt\1", 4)};
    plan.armed = true;
    station = line_subscribe(line, &jobs, NULL);
    if (!station)
        station = line_subscribe(line, &jobs, NULL);
    if (line_recall(line, "position", (struct bytes){0}, on_told_position, NULL) != GW_OK)
        CHECK(line_recall(line, "position", (struct bytes){0}, on_told_position, NULL) == GW_OK);
    for (unsigned ticket = 1; ticket <= PUBLISHES; ticket++) {
        struct line_message message = {.exchange = bytes_of_text(LINE_EXCHANGE), .routing_key = bytes_of_text("job.new"), .properties = bytes_of("\0\0", 2), .body = bytes_of("body", 4)};
        if (line_publish(line, &message, ticket) != GW_OK)
            CHECK(line_publish(line, &message, ticket) == GW_OK);
    }
    plan.armed = false;
}

static void each_allocation_fails_once(void **state)
{
    (void)state;
    for (unsigned nth = 1;; nth++) {
        memset(&story, 0, sizeof story);
        memset(taken, 0, sizeof taken);
        dialing = connected = recalled = replaced = false;
        delivered = 0;
        plan.until = nth;
        plan.failed = false;
        open_line();
        assert_non_null(line);
        ask_for_everything();
        for (unsigned i = 0; i < 40; i++)
            turn();
        line_lost(line, NULL, story.now_ms);
        for (unsigned i = 0; i < 400 && line_waiting(line); i++)
            turn();
        assert_int_equal(line_waiting(line), 0);
        for (unsigned ticket = 1; ticket <= PUBLISHES; ticket++)
            assert_int_equal(taken[ticket], 1);
        for (unsigned i = 0; i < 400 && !(station_is_ready(station) && (recalled || plan.failed)); i++)
            turn();
        assert_true(station_is_ready(station));
        assert_true(recalled || plan.failed);   /* one that failed was told so */
        assert_true(replaced);
        line_unsubscribe(station);
        line_close(line, story.now_ms);
        for (unsigned i = 0; i < 10; i++)
            turn();
        assert_true(line_is_closed(line));
        line_free(line);
        if (!plan.failed) {
            assert_true(nth > 100);
            return;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_allocation_fails_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
