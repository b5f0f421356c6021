#include "client/line.h"
#include "client/talk_story.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static struct story story;
static struct line *line;

/* What the line asks and tells. */

static void on_dial(void *owner, const struct uri *uri) { tell(owner, "dial %s\n", uri->host); }
static void on_hang_up(void *owner) { tell(owner, "hang up\n"); }
static void on_told(void *owner, uint64_t ticket, enum line_verdict verdict)
{
    static const char *const verdicts[] = {"taken", "refused", "no route"};
    tell(owner, "%llu %s\n", (unsigned long long)ticket, verdicts[verdict]);
}
static bool on_came(void *owner, void *context, struct line_delivery *delivery)
{
    tell(owner, "%s gets %.*s\n", (const char *)context, (int)delivery->body.size, (const char *)delivery->body.data);
    line_settle(delivery, LINE_ACK);
    line_release(delivery);
    return true;
}
static void on_lost(void *owner, void *context) { tell(owner, "%s lost its connection\n", (const char *)context); }
static void on_notice(void *owner, enum line_level level, const char *sentence) { tell(owner, "%d: %s\n", (int)level, sentence); }

/* What the next line is to be besides. */
static bool is_bare, is_once;
static unsigned refused_max;

static void open_line(const char *first, const char *second)
{
    struct uri uris[2];
    const char *complaint;
    assert_int_equal(uri_parse(&uris[0], first, &complaint), GW_OK);
    assert_int_equal(uri_parse(&uris[1], second ? second : first, &complaint), GW_OK);
    struct line_settings settings = {.uris = uris, .uri_count = second ? 2 : 1, .retry_min_ms = 1000, .retry_max_ms = 8000, .window_bytes = 1000, .bare = is_bare, .once = is_once,
                                     .refused_max = refused_max, .seed = 7, .now_ms = story.now_ms};
    struct line_events events = {&story, on_dial, on_hang_up, on_told, on_came, on_lost, on_notice};
    line = line_new(&settings, &events);
    assert_non_null(line);
}

static int begin(void **state)
{
    (void)state;
    memset(&story, 0, sizeof story);
    story.now_ms = 100000;
    is_bare = is_once = false;
    refused_max = 0;
    open_line("amqp://one", NULL);
    return 0;
}

static int end(void **state)
{
    (void)state;
    line_free(line);
    return 0;
}

static void is_told(const char *expected)
{
    assert_string_equal(story.told, expected);
    story.told_size = 0;
    story.told[0] = '\0';
}

static void forget_told(void)
{
    story.told_size = 0;
    story.told[0] = '\0';
}

/* What the broker said arrives, and what the line says to that is heard. */
static void turn(void)
{
    line_feed(line, bytes_of(story.said, story.said_size), story.now_ms);
    story.said_size = 0;
    line_turn(line, story.now_ms);
    struct bytes out = line_output(line);
    hear(&story, out);
    line_sent(line, out.size, story.now_ms);
}

static void log_in(void)
{
    line_connected(line, story.now_ms);
    say_welcome(&story);
    turn();
    say(&story, 1, AMQP_CHANNEL_OPEN_OK, (struct amqp_value[1]){{{0}}});
}

/* Connected, with the exchange, and nothing told yet. */
static void come_up(void)
{
    turn();
    log_in();
    say(&story, 1, AMQP_EXCHANGE_DECLARE_OK, NULL);
    turn();
    say(&story, 1, AMQP_CHANNEL_CLOSE_OK, NULL);
    turn();
    assert_true(line_is_up(line));
    forget_told();
}

static enum gw_err publish(const char *key, size_t size, bool mandatory, uint64_t ticket)
{
    static uint8_t body[2000];
    struct line_message message = {.exchange = bytes_of_text(LINE_EXCHANGE), .routing_key = bytes_of_text(key), .properties = bytes_of("\x10\0\2", 3), .body = bytes_of(body, size),
                                   .mandatory = mandatory};
    return line_publish(line, &message, ticket);
}

static void say_publishing(uint16_t channel)
{
    say(&story, channel, AMQP_CHANNEL_OPEN_OK, (struct amqp_value[1]){{{0}}});
    say(&story, channel, AMQP_CONFIRM_SELECT_OK, NULL);
}

static void it_connects_and_declares_the_exchange(void **state)
{
    (void)state;
    turn();
    is_told("dial one\n");
    log_in();
    is_told("< AMQP\n< 0 connection.start-ok\n< 0 connection.tune-ok\n< 0 connection.open\n< 1 channel.open\n< 1 exchange.declare\n");
    assert_false(line_is_up(line));
    say(&story, 1, AMQP_EXCHANGE_DECLARE_OK, NULL);
    turn();
    is_told("0: connected to Fake 1.2 at one:5672\n< 1 channel.close\n");
    assert_true(line_is_up(line));
    assert_false(line_is_godwit(line));
    line_close(line, story.now_ms);
    turn();
    say(&story, 0, AMQP_CONNECTION_CLOSE_OK, NULL);
    turn();
    is_told("< 0 connection.close\nhang up\n");
    assert_true(line_is_closed(line));
}

/* One after the other, then a pause that doubles; the same complaint is told once. */
static void uris_are_tried_in_turn(void **state)
{
    (void)state;
    end(NULL);
    open_line("amqp://one", "amqp://two");
    turn();
    line_unreachable(line, "nobody is there", story.now_ms);
    turn();
    line_unreachable(line, "nobody is there", story.now_ms);
    turn();
    is_told("dial one\n1: one:5672: nobody is there; trying again\ndial two\n1: two:5672: nobody is there; trying again\n");
    for (unsigned pause_ms = 1000; pause_ms <= 8000; pause_ms *= 2) {
        uint64_t wait_ms = line_deadline_ms(line) - story.now_ms;
        assert_in_range(wait_ms, pause_ms * 4 / 5, pause_ms * 6 / 5);
        story.now_ms += wait_ms - 1;
        turn();
        is_told("");
        story.now_ms++;
        turn();
        line_unreachable(line, "nobody is there", story.now_ms);
        turn();
        line_unreachable(line, "nobody is there", story.now_ms);
        is_told("dial one\ndial two\n");
    }
    assert_in_range(line_deadline_ms(line) - story.now_ms, 6400, 9600);
}

static void a_connection_that_takes_too_long_is_given_up(void **state)
{
    (void)state;
    turn();
    assert_int_equal(line_deadline_ms(line), story.now_ms + 10000);
    story.now_ms += 10000;
    turn();
    is_told("dial one\nhang up\n1: one:5672: no connection within 10000 ms; trying again\n");
}

/* 10 s are agreed on: nothing from there for 20 s is the end, unless nobody listens. */
static void who_is_not_listened_to_is_not_dead(void **state)
{
    (void)state;
    come_up();
    for (unsigned i = 0; i < 5; i++) {
        story.now_ms += 19000;
        line_unheard(line, story.now_ms);
        line_turn(line, story.now_ms);
    }
    assert_true(line_is_up(line));
    story.now_ms += 20000;
    line_turn(line, story.now_ms);
    is_told("hang up\n1: one:5672: the broker gave no sign of life for 20 s; trying again\n");
}

static void a_wrong_password_is_tried_seldom(void **state)
{
    (void)state;
    turn();
    line_connected(line, story.now_ms);
    say_start(&story);
    say_close(&story, 0, AMQP_CONNECTION_CLOSE, 403, "ACCESS_REFUSED");
    turn();
    is_told("dial one\nhang up\n1: one:5672: the broker does not let us in: 403 ACCESS_REFUSED; trying again\n");
    assert_string_equal(line_error(line), "one:5672: the broker does not let us in: 403 ACCESS_REFUSED; trying again");
    assert_in_range(line_deadline_ms(line) - story.now_ms, 6400, 9600);
}

static void refuse(unsigned code, const char *text)
{
    story.now_ms = line_deadline_ms(line) > story.now_ms && line_deadline_ms(line) != UINT64_MAX ? line_deadline_ms(line) : story.now_ms;
    turn();
    line_connected(line, story.now_ms);
    say_start(&story);
    say_close(&story, 0, AMQP_CONNECTION_CLOSE, code, text);
    turn();
    story.said_size = 0;
}

/* Only what would be the same again counts, and only in a row. */
static void it_gives_up_where_it_is_told_to(void **state)
{
    (void)state;
    end(NULL);
    refused_max = 2;
    open_line("amqp://one", NULL);
    line_publish(line, &(struct line_message){.exchange = bytes_of_text("events"), .routing_key = bytes_of_text("a"), .properties = bytes_of("\0\0", 2)}, 1);
    refuse(403, "ACCESS_REFUSED");
    refuse(320, "CONNECTION_FORCED - too many passwords");
    assert_false(line_is_closed(line));
    story.now_ms = line_deadline_ms(line);
    turn();
    log_in();
    say(&story, 1, AMQP_EXCHANGE_DECLARE_OK, NULL);
    turn();
    assert_true(line_is_up(line));
    line_lost(line, NULL, story.now_ms);
    turn();
    forget_told();
    refuse(530, "NOT_ALLOWED - vhost v not found");
    assert_false(line_is_closed(line));
    is_told("dial one\nhang up\n1: one:5672: the broker does not let us in: 530 NOT_ALLOWED - vhost v not found; trying again\n");
    refuse(403, "ACCESS_REFUSED");
    assert_true(line_is_closed(line));
    is_told("dial one\nhang up\n2: one:5672: the broker does not let us in: 403 ACCESS_REFUSED; giving up\n");
    assert_int_equal(line_cause(line), LINE_NOT_LET_IN);
    assert_int_equal(line_deadline_ms(line), UINT64_MAX);
    assert_int_equal(line_waiting(line) > 0, true);
}

static void who_may_not_declare_the_exchange_may_find_it(void **state)
{
    (void)state;
    turn();
    log_in();
    forget_told();
    say_close(&story, 1, AMQP_CHANNEL_CLOSE, 403, "ACCESS_REFUSED");
    turn();
    is_told("< 1 channel.close-ok\n< 2 channel.open\n< 2 exchange.declare\n");
    say(&story, 2, AMQP_CHANNEL_OPEN_OK, (struct amqp_value[1]){{{0}}});
    say_close(&story, 2, AMQP_CHANNEL_CLOSE, 404, "NOT_FOUND");
    turn();
    is_told("2: the exchange events cannot be had: 404 NOT_FOUND\n< 2 channel.close-ok\n< 0 connection.close\n");
    say(&story, 0, AMQP_CONNECTION_CLOSE_OK, NULL);
    turn();
    assert_in_range(line_deadline_ms(line) - story.now_ms, 6400, 9600);
}

/* It publishes to what is there: one that is missing refuses what was meant for it, and nothing else. */
static void a_bare_line_declares_nothing(void **state)
{
    (void)state;
    line_free(line);
    is_bare = true;
    open_line("amqp://one", NULL);
    publish("a", 0, false, 1);
    publish("b", 0, false, 2);
    turn();
    forget_told();
    line_connected(line, story.now_ms);
    say_welcome(&story);
    turn();
    assert_true(line_is_up(line));
    is_told("0: connected to Fake 1.2 at one:5672\n< AMQP\n< 0 connection.start-ok\n< 0 connection.tune-ok\n< 0 connection.open\n"
            "< 1 channel.open\n< 1 confirm.select\n< 1 basic.publish\n< 1 header of 15\n< 1 basic.publish\n< 1 header of 15\n");
    say_publishing(1);
    say_close(&story, 1, AMQP_CHANNEL_CLOSE, 404, "NOT_FOUND - no exchange");
    turn();
    assert_true(line_is_up(line));
    is_told("1: the broker refused a publish: 404 NOT_FOUND - no exchange\n< 1 channel.close-ok\n< 2 channel.open\n< 2 confirm.select\n< 2 basic.publish\n< 2 header of 15\n");
    say_publishing(2);
    say_close(&story, 2, AMQP_CHANNEL_CLOSE, 404, "NOT_FOUND - no exchange");
    turn();
    is_told("1: the broker refused a publish: 404 NOT_FOUND - no exchange\n1 refused\n< 2 channel.close-ok\n< 3 channel.open\n< 3 confirm.select\n< 3 basic.publish\n< 3 header of 15\n");
    assert_int_equal(line_refusal_code(line), 404);
    say_publishing(3);
    say_confirm(&story, 3, AMQP_BASIC_ACK, 1, false);
    turn();
    is_told("2 taken\n");
}

static void is_over(enum line_cause cause, const char *why)
{
    assert_true(line_is_closed(line));
    assert_int_equal(line_cause(line), cause);
    assert_string_equal(line_error(line), why);
    assert_true(line_deadline_ms(line) == UINT64_MAX);
    turn();
    assert_true(line_is_closed(line));
    line_free(line);
    open_line("amqp://one", NULL);
    forget_told();
}

static void a_line_for_once_is_closed_when_it_ends(void **state)
{
    (void)state;
    line_free(line);
    is_once = true;
    open_line("amqp://one", "amqp://two");
    turn();
    line_unreachable(line, "nobody is there", story.now_ms);
    assert_false(line_is_closed(line));
    turn();
    line_unreachable(line, "nobody is there, either", story.now_ms);
    is_over(LINE_UNREACHABLE, "nobody is there, either");

    turn();
    line_connected(line, story.now_ms);
    say_start(&story);
    say_close(&story, 0, AMQP_CONNECTION_CLOSE, 403, "ACCESS_REFUSED");
    turn();
    is_over(LINE_NOT_LET_IN, "the broker does not let us in: 403 ACCESS_REFUSED");

    come_up();
    line_lost(line, "reset", story.now_ms);
    turn();
    is_over(LINE_BROKEN, "the connection to the broker was lost: reset");

    come_up();
    line_close(line, story.now_ms);
    say(&story, 0, AMQP_CONNECTION_CLOSE_OK, NULL);
    turn();
    turn();
    assert_true(line_is_closed(line));
    assert_int_equal(line_cause(line), LINE_LEFT);
}

static void what_was_not_confirmed_is_sent_again(void **state)
{
    (void)state;
    assert_int_equal(publish("a", 1, false, 1), GW_OK);
    come_up();
    turn();
    assert_int_equal(publish("b", 2, false, 2), GW_OK);
    assert_int_equal(publish("c", 3, false, 3), GW_OK);
    forget_told();
    turn();
    is_told("< 2 basic.publish\n< 2 header of 15\n< 2 body of 2\n< 2 basic.publish\n< 2 header of 15\n< 2 body of 3\n");
    say_publishing(2);
    say_confirm(&story, 2, AMQP_BASIC_ACK, 2, false);
    turn();
    is_told("2 taken\n");
    line_lost(line, NULL, story.now_ms);
    turn();
    is_told("hang up\n1: one:5672: the broker hung up; trying again\n");
    assert_int_equal(publish("d", 4, false, 4), GW_OK);
    story.now_ms = line_deadline_ms(line);
    come_up();
    say_publishing(2);
    say_confirm(&story, 2, AMQP_BASIC_ACK, 3, true);
    turn();
    is_told("1 taken\n3 taken\n4 taken\n");
    assert_int_equal(line_waiting(line), 0);
}

static void as_much_waits_as_may(void **state)
{
    (void)state;
    assert_int_equal(publish("large", 2000, false, 1), GW_OK);      /* one that is too large for the window goes alone */
    assert_int_equal(publish("a", 1, false, 2), GW_ERR_FULL);
    come_up();
    turn();
    say_publishing(2);
    say_confirm(&story, 2, AMQP_BASIC_ACK, 1, false);
    turn();
    assert_int_equal(publish("a", 1, false, 2), GW_OK);
}

static void what_nobody_gets_is_told(void **state)
{
    (void)state;
    struct amqp_value returned[AMQP_BASIC_RETURN_COUNT] = {[AMQP_BASIC_RETURN_REPLY_CODE] = amqp_number(312), [AMQP_BASIC_RETURN_ROUTING_KEY] = amqp_text("b")};
    come_up();
    publish("a", 0, true, 1);
    publish("b", 0, false, 2);
    publish("b", 0, true, 3);
    turn();
    forget_told();
    say_publishing(2);
    say_message(&story, 2, AMQP_BASIC_RETURN, returned, 0);
    say_confirm(&story, 2, AMQP_BASIC_ACK, 3, true);
    turn();
    is_told("1 taken\n2 taken\n3 no route\n");
}

/* The broker does not say which publish it was: they go again, one at a time, until it is known. */
static void a_publish_that_ends_the_channel_is_found(void **state)
{
    (void)state;
    come_up();
    publish("a", 0, false, 1);
    publish("secret", 0, false, 2);
    publish("c", 0, false, 3);
    turn();
    forget_told();
    say_publishing(2);
    say_close(&story, 2, AMQP_CHANNEL_CLOSE, 403, "ACCESS_REFUSED");
    turn();
    say(&story, 3, AMQP_CHANNEL_OPEN_OK, (struct amqp_value[1]){{{0}}});
    say(&story, 3, AMQP_EXCHANGE_DECLARE_OK, NULL);
    turn();
    is_told("1: the broker refused a publish: 403 ACCESS_REFUSED\n< 2 channel.close-ok\n< 3 channel.open\n< 3 exchange.declare\n"
            "< 3 channel.close\n< 1 channel.open\n< 1 confirm.select\n< 1 basic.publish\n< 1 header of 15\n");
    say(&story, 3, AMQP_CHANNEL_CLOSE_OK, NULL);
    say_publishing(1);
    say_confirm(&story, 1, AMQP_BASIC_ACK, 1, false);
    turn();
    is_told("1 taken\n< 1 basic.publish\n< 1 header of 15\n");
    say_close(&story, 1, AMQP_CHANNEL_CLOSE, 403, "ACCESS_REFUSED");
    turn();
    is_told("1: the broker refused a publish: 403 ACCESS_REFUSED\n2 refused\n< 1 channel.close-ok\n< 2 channel.open\n< 2 exchange.declare\n");
    say(&story, 2, AMQP_CHANNEL_OPEN_OK, (struct amqp_value[1]){{{0}}});
    say(&story, 2, AMQP_EXCHANGE_DECLARE_OK, NULL);
    turn();
    say_publishing(3);
    say_confirm(&story, 3, AMQP_BASIC_ACK, 1, false);
    forget_told();
    turn();
    is_told("3 taken\n");
}

static struct station *subscribe_to(const char *queue, const char *pattern, bool as_found)
{
    struct station_plan plan = {.queue = queue, .pattern = pattern, .dead_queue = "", .durable = true, .as_found = as_found, .consumers = 1, .prefetch = 5, .arguments = bytes_of("\1xt\1", 4)};
    return line_subscribe(line, &plan, (void *)(uintptr_t)queue);
}

static struct station *subscribe(const char *queue, const char *pattern) { return subscribe_to(queue, pattern, false); }

static void say_station(uint16_t channel)
{
    struct amqp_value nothing[AMQP_ARGUMENTS_MAX] = {{{0}}};
    say(&story, channel, AMQP_CHANNEL_OPEN_OK, nothing);
    say(&story, channel, AMQP_QUEUE_DECLARE_OK, nothing);
    say(&story, channel, AMQP_QUEUE_BIND_OK, NULL);
    say(&story, channel, AMQP_BASIC_QOS_OK, NULL);
    say(&story, channel, AMQP_BASIC_CONSUME_OK, nothing);
}

/* What is published waits until the queues are bound; after a loss all of it is done again. */
static void stations_are_made_first(void **state)
{
    (void)state;
    struct station *station = subscribe("jobs", "job.*");
    publish("job.new", 0, false, 1);
    turn();
    log_in();
    say(&story, 1, AMQP_EXCHANGE_DECLARE_OK, NULL);
    forget_told();
    turn();
    is_told("< 1 channel.close\n< 2 channel.open\n< 2 queue.declare jobs\n< 2 queue.bind\n< 2 basic.qos\n< 2 basic.consume\n");
    say(&story, 1, AMQP_CHANNEL_CLOSE_OK, NULL);
    say_station(2);
    turn();
    assert_true(station_is_ready(station));
    is_told("0: connected to Fake 1.2 at one:5672\n< 3 channel.open\n< 3 confirm.select\n< 3 basic.publish\n< 3 header of 15\n");
    say_delivery(&story, 2, "godwit-0", 1, 3);
    turn();
    is_told("jobs gets abc\n< 2 basic.ack 1\n");
    line_lost(line, "reset", story.now_ms);
    turn();
    is_told("hang up\njobs lost its connection\n1: one:5672: the connection to the broker was lost: reset; trying again\n");
    assert_false(station_is_ready(station));
    story.now_ms = line_deadline_ms(line);
    turn();
    log_in();
    say(&story, 1, AMQP_EXCHANGE_DECLARE_OK, NULL);
    forget_told();
    turn();
    is_told("< 1 channel.close\n< 2 channel.open\n< 2 queue.declare jobs\n< 2 queue.bind\n< 2 basic.qos\n< 2 basic.consume\n");
}

/* A queue that is refused does not keep publishes waiting, and is tried again later. */
static void a_queue_that_is_refused_is_told(void **state)
{
    (void)state;
    come_up();
    subscribe("jobs", "job.*");
    publish("job.new", 0, false, 1);
    turn();
    say(&story, 2, AMQP_CHANNEL_OPEN_OK, (struct amqp_value[1]){{{0}}});
    say_close(&story, 2, AMQP_CHANNEL_CLOSE, 406, "PRECONDITION_FAILED - other arguments");
    forget_told();
    turn();
    is_told("2: the queue jobs cannot be had: 406 PRECONDITION_FAILED - other arguments\njobs lost its connection\n"
            "< 2 channel.close-ok\n< 3 channel.open\n< 3 confirm.select\n< 3 basic.publish\n< 3 header of 15\n");
    assert_in_range(line_deadline_ms(line) - story.now_ms, 800, 1200);
    story.now_ms = line_deadline_ms(line);
    turn();
    is_told("< 1 channel.open\n< 1 queue.declare jobs\n< 1 queue.bind\n< 1 basic.qos\n< 1 basic.consume\n");
}

/* One that is to be taken as it is, is looked for first, for which nobody needs a permission to make it; where there is none it is made, and no word is lost about it. */
static void a_queue_is_taken_as_it_is(void **state)
{
    (void)state;
    come_up();
    struct station *station = subscribe_to("jobs", "", true);
    turn();
    is_told("< 2 channel.open\n< 2 queue.declare jobs passively\n< 2 basic.qos\n< 2 basic.consume\n");
    say(&story, 2, AMQP_CHANNEL_OPEN_OK, (struct amqp_value[1]){{{0}}});
    say_close(&story, 2, AMQP_CHANNEL_CLOSE, 404, "NOT_FOUND - no queue");
    turn();
    is_told("jobs lost its connection\n< 2 channel.close-ok\n< 3 channel.open\n< 3 queue.declare jobs\n< 3 basic.qos\n< 3 basic.consume\n");
    say(&story, 3, AMQP_CHANNEL_OPEN_OK, (struct amqp_value[1]){{{0}}});
    say_close(&story, 3, AMQP_CHANNEL_CLOSE, 403, "ACCESS_REFUSED - you may not make it");
    turn();
    is_told("2: the queue jobs cannot be had: 403 ACCESS_REFUSED - you may not make it\njobs lost its connection\n< 3 channel.close-ok\n");
    story.now_ms = line_deadline_ms(line);
    turn();
    is_told("< 1 channel.open\n< 1 queue.declare jobs passively\n< 1 basic.qos\n< 1 basic.consume\n");
    assert_false(station_is_ready(station));
}

/* Ours was deleted, and somebody else's is there by the time that we would make it again. */
static void a_queue_of_others_is_taken_instead(void **state)
{
    (void)state;
    struct amqp_value cancel[AMQP_BASIC_CANCEL_COUNT] = {[AMQP_BASIC_CANCEL_CONSUMER_TAG] = amqp_text("godwit-0"), [AMQP_BASIC_CANCEL_NO_WAIT] = amqp_number(1)};
    struct amqp_value nothing[AMQP_ARGUMENTS_MAX] = {{{0}}};
    come_up();
    subscribe_to("jobs", "", true);
    turn();
    say(&story, 2, AMQP_CHANNEL_OPEN_OK, nothing);
    say_close(&story, 2, AMQP_CHANNEL_CLOSE, 404, "NOT_FOUND - no queue");
    turn();
    say(&story, 3, AMQP_CHANNEL_OPEN_OK, nothing);
    say(&story, 3, AMQP_QUEUE_DECLARE_OK, nothing);
    say(&story, 3, AMQP_BASIC_QOS_OK, NULL);
    say(&story, 3, AMQP_BASIC_CONSUME_OK, nothing);
    turn();
    say(&story, 3, AMQP_BASIC_CANCEL, cancel);
    turn();
    say(&story, 1, AMQP_CHANNEL_OPEN_OK, nothing);
    say_close(&story, 1, AMQP_CHANNEL_CLOSE, 406, "PRECONDITION_FAILED - other arguments");
    forget_told();
    turn();
    is_told("jobs lost its connection\n< 1 channel.close-ok\n< 2 channel.open\n< 2 queue.declare jobs passively\n< 2 basic.qos\n< 2 basic.consume\n");
}

static void a_queue_that_was_deleted_is_made_again(void **state)
{
    (void)state;
    struct amqp_value cancel[AMQP_BASIC_CANCEL_COUNT] = {[AMQP_BASIC_CANCEL_CONSUMER_TAG] = amqp_text("godwit-0"), [AMQP_BASIC_CANCEL_NO_WAIT] = amqp_number(1)};
    come_up();
    subscribe("jobs", "job.*");
    turn();
    say_station(2);
    turn();
    forget_told();
    say(&story, 2, AMQP_BASIC_CANCEL, cancel);
    turn();
    is_told("1: the queue jobs was deleted; it is made again\njobs lost its connection\n< 2 channel.close\n"
            "< 3 channel.open\n< 3 queue.declare jobs\n< 3 queue.bind\n< 3 basic.qos\n< 3 basic.consume\n");
}

/* The queue of a handler that was given up before there was a connection is made, and gathers. */
static void a_queue_is_made_for_who_has_gone(void **state)
{
    (void)state;
    line_unsubscribe(subscribe("jobs", "job.*"));
    publish("job.new", 0, false, 1);
    come_up();
    say(&story, 2, AMQP_CHANNEL_OPEN_OK, (struct amqp_value[1]){{{0}}});
    say(&story, 2, AMQP_QUEUE_DECLARE_OK, (struct amqp_value[3]){{{0}}});
    turn();
    is_told("");
    say(&story, 2, AMQP_QUEUE_BIND_OK, NULL);
    turn();
    is_told("0: connected to Fake 1.2 at one:5672\n< 2 channel.close\n< 3 channel.open\n< 3 confirm.select\n< 3 basic.publish\n< 3 header of 15\n");
}

static void on_forgotten(void *context, enum gw_err err, const char *sentence) { tell(context, "forgotten: %d %s\n", (int)err, sentence); }
static void on_recalled(void *context, enum gw_err err, const char *sentence, struct bytes body)
{
    tell(context, "recalled: %d %s%.*s\n", (int)err, sentence, (int)body.size, (const char *)body.data);
}

static void queues_are_deleted_and_recalled(void **state)
{
    (void)state;
    struct amqp_value nothing[AMQP_ARGUMENTS_MAX] = {{{0}}}, got[AMQP_BASIC_GET_OK_COUNT] = {[AMQP_BASIC_GET_OK_DELIVERY_TAG] = amqp_number(1)};
    assert_int_equal(line_forget(line, "jobs", on_forgotten, &story), GW_ERR_CLOSED);
    assert_int_equal(line_recall(line, "position", (struct bytes){0}, on_recalled, &story), GW_OK);
    come_up();
    say(&story, 2, AMQP_CHANNEL_OPEN_OK, nothing);
    say(&story, 2, AMQP_QUEUE_DECLARE_OK, nothing);
    say_message(&story, 2, AMQP_BASIC_GET_OK, got, 3);
    turn();
    is_told("recalled: 0 abc\n< 2 basic.nack 1\n< 2 channel.close\n");
    assert_int_equal(line_forget(line, "jobs", on_forgotten, &story), GW_OK);
    turn();
    say(&story, 3, AMQP_CHANNEL_OPEN_OK, nothing);
    say_close(&story, 3, AMQP_CHANNEL_CLOSE, 406, "in use");
    turn();
    is_told("< 3 channel.open\n< 3 queue.delete\nforgotten: 7 the queue jobs: 406 in use\n< 3 channel.close-ok\n");
    assert_int_equal(line_forget(line, "jobs", on_forgotten, &story), GW_OK);
    turn();
    line_lost(line, NULL, story.now_ms);
    forget_told();
    turn();
    is_told("hang up\nforgotten: 13 the connection was lost before there was an answer\n1: one:5672: the broker hung up; trying again\n");
}

static void a_broker_that_is_short_of_something_gets_nothing(void **state)
{
    (void)state;
    struct amqp_value reason[] = {amqp_text("low on disk")};
    come_up();
    say(&story, 0, AMQP_CONNECTION_BLOCKED, reason);
    publish("a", 0, false, 1);
    turn();
    is_told("1: the broker takes no publishes for now: low on disk\n");
    assert_false(line_has_more(line));
    say(&story, 0, AMQP_CONNECTION_UNBLOCKED, NULL);
    turn();
    is_told("0: the broker takes publishes again\n< 2 channel.open\n< 2 confirm.select\n< 2 basic.publish\n< 2 header of 15\n");
}

int main(void)
{
#define STORY(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        STORY(it_connects_and_declares_the_exchange),
        STORY(uris_are_tried_in_turn),
        STORY(a_connection_that_takes_too_long_is_given_up),
        STORY(who_is_not_listened_to_is_not_dead),
        STORY(a_wrong_password_is_tried_seldom),
        STORY(it_gives_up_where_it_is_told_to),
        STORY(who_may_not_declare_the_exchange_may_find_it),
        STORY(a_bare_line_declares_nothing),
        STORY(a_line_for_once_is_closed_when_it_ends),
        STORY(what_was_not_confirmed_is_sent_again),
        STORY(as_much_waits_as_may),
        STORY(what_nobody_gets_is_told),
        STORY(a_publish_that_ends_the_channel_is_found),
        STORY(stations_are_made_first),
        STORY(a_queue_that_is_refused_is_told),
        STORY(a_queue_is_taken_as_it_is),
        STORY(a_queue_of_others_is_taken_instead),
        STORY(a_queue_that_was_deleted_is_made_again),
        STORY(a_queue_is_made_for_who_has_gone),
        STORY(queues_are_deleted_and_recalled),
        STORY(a_broker_that_is_short_of_something_gets_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
