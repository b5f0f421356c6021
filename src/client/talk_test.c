#include "client/talk_story.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static struct story story;

static int begin(void **state)
{
    (void)state;
    memset(&story, 0, sizeof story);
    story.now_ms = 1000;
    assert_non_null(story_talk(&story));
    return 0;
}

static int end(void **state)
{
    (void)state;
    talk_free(story.talk);
    return 0;
}

static void is_told(const char *expected)
{
    assert_string_equal(story.told, expected);
    story.told_size = 0;
    story.told[0] = '\0';
}

/* Logged in, with an open channel, and nothing told yet. */
static void let_in(void)
{
    struct amqp_value nothing[AMQP_ARGUMENTS_MAX] = {{{0}}};
    say_welcome(&story);
    story_feed(&story, 0, 0);
    assert_int_equal(talk_state(story.talk), TALK_OPEN);
    assert_non_null(story_channel(&story));
    say(&story, 1, AMQP_CHANNEL_OPEN_OK, nothing);
    story_feed(&story, 0, 0);
    story_hear(&story);
    story.told_size = 0;
    story.told[0] = '\0';
}

static void logs_in_and_says_goodbye(void **state)
{
    (void)state;
    say_welcome(&story);
    story_feed(&story, 0, 1);
    talk_close(story.talk, story.now_ms);
    story_hear(&story);
    say(&story, 0, AMQP_CONNECTION_CLOSE_OK, NULL);
    story_feed(&story, 0, 0);
    is_told("opened Fake 1.2, frames of 4096\n"
            "< AMQP\n< 0 connection.start-ok\n< 0 connection.tune-ok\n< 0 connection.open\n< 0 connection.close\n");
    assert_int_equal(talk_end(story.talk), TALK_END_GOODBYE);
}

/* Everything that a channel may be told, once. */
static void say_everything(void)
{
    struct amqp_value nothing[AMQP_ARGUMENTS_MAX] = {{{0}}};
    struct amqp_value blocked[] = {amqp_text("low on disk")};
    struct amqp_value get[AMQP_BASIC_GET_OK_COUNT] = {[AMQP_BASIC_GET_OK_DELIVERY_TAG] = amqp_number(5), [AMQP_BASIC_GET_OK_MESSAGE_COUNT] = amqp_number(7)};
    struct amqp_value returned[AMQP_BASIC_RETURN_COUNT] = {[AMQP_BASIC_RETURN_REPLY_CODE] = amqp_number(312), [AMQP_BASIC_RETURN_REPLY_TEXT] = amqp_text("NO_ROUTE")};
    struct amqp_value cancel[AMQP_BASIC_CANCEL_COUNT] = {[AMQP_BASIC_CANCEL_CONSUMER_TAG] = amqp_text("c")};
    say_welcome(&story);
    say(&story, 1, AMQP_CHANNEL_OPEN_OK, nothing);
    say(&story, 1, AMQP_CONFIRM_SELECT_OK, NULL);
    say(&story, 1, AMQP_QUEUE_DECLARE_OK, nothing);
    say(&story, 1, AMQP_BASIC_CONSUME_OK, nothing);
    say_confirm(&story, 1, AMQP_BASIC_ACK, 2, false);
    say_delivery(&story, 1, "c", 1, 0);
    say_delivery(&story, 1, "c", 2, 100);
    say_confirm(&story, 1, AMQP_BASIC_NACK, 3, true);
    say_delivery(&story, 1, "c", 3, 5000);
    say_delivery(&story, 1, "c", 4, 1);
    say_message(&story, 1, AMQP_BASIC_GET_OK, get, 9);
    say(&story, 1, AMQP_BASIC_GET_EMPTY, nothing);
    say_message(&story, 1, AMQP_BASIC_RETURN, returned, 3);
    say_confirm(&story, 1, AMQP_BASIC_ACK, 0, true);
    say(&story, 0, AMQP_CONNECTION_BLOCKED, blocked);
    say(&story, 0, AMQP_CONNECTION_UNBLOCKED, NULL);
    say(&story, 1, AMQP_CHANNEL_FLOW, nothing);
    say(&story, 1, AMQP_BASIC_CANCEL, cancel);
    say_close(&story, 1, AMQP_CHANNEL_CLOSE, 404, "NOT_FOUND - no queue");
    say_close(&story, 0, AMQP_CONNECTION_CLOSE, 320, "CONNECTION_FORCED - so long");
}

static void on_opened_and_asks(void *owner)
{
    struct amqp_value declare[AMQP_QUEUE_DECLARE_COUNT] = {[AMQP_QUEUE_DECLARE_QUEUE] = amqp_text("jobs")};
    struct amqp_value nothing[AMQP_QUEUE_DELETE_COUNT] = {{{0}}};
    uint64_t number;
    on_opened(owner);
    assert_non_null(story_channel(&story));
    assert_int_equal(talk_confirm_select(story.channel), GW_OK);
    assert_int_equal(talk_call(story.channel, AMQP_QUEUE_DECLARE, declare, AMQP_QUEUE_DECLARE_OK, on_answered, &story), GW_OK);
    assert_int_equal(talk_consume(story.channel, "jobs", "c", false, false, (struct bytes){0}, on_answered, &story), GW_OK);
    for (unsigned i = 1; i <= 5; i++) {
        assert_int_equal(talk_publish(story.channel, bytes_of_text("events"), bytes_of_text("a.b"), true, bytes_of("\0\0", 2), bytes_of("12345", i), &number), GW_OK);
        assert_int_equal(number, i);
    }
    assert_int_equal(talk_get(story.channel, "jobs", false, on_fetched, &story), GW_OK);
    assert_int_equal(talk_get(story.channel, "jobs", false, on_fetched, &story), GW_OK);
    assert_int_equal(talk_call(story.channel, AMQP_QUEUE_DELETE, nothing, AMQP_QUEUE_DELETE_OK, on_answered, &story), GW_OK);
}

static const char *everything =
    "opened Fake 1.2, frames of 4096\nanswered: queue.declare-ok\nanswered: basic.consume-ok\nconfirmed 2 to 2\n"
    "delivered c 1: 0 bytes, 00000000\ndelivered c 2: 100 bytes, 5054e072\nrefused 1 to 1\nrefused 3 to 3\n"
    "delivered c 3: 5000 bytes, f596f244\ndelivered c 4: 1 bytes, 00000061\n"
    "fetched: 9 bytes, 7 left\nfetched nothing\nreturned 312 NO_ROUTE: 3 bytes\nconfirmed 4 to 5\nblocked: low on disk\nunblocked \ncancelled c\n"
    "answered: nothing\nchannel closed: 404 NOT_FOUND - no queue\n"
    "< AMQP\n< 0 connection.start-ok\n< 0 connection.tune-ok\n< 0 connection.open\n"
    "< 1 channel.open\n< 1 confirm.select\n< 1 queue.declare jobs\n< 1 basic.consume\n"
    "< 1 basic.publish\n< 1 header of 14\n< 1 body of 1\n< 1 basic.publish\n< 1 header of 14\n< 1 body of 2\n< 1 basic.publish\n< 1 header of 14\n< 1 body of 3\n"
    "< 1 basic.publish\n< 1 header of 14\n< 1 body of 4\n< 1 basic.publish\n< 1 header of 14\n< 1 body of 5\n"
    "< 1 basic.get\n< 1 basic.get\n< 1 queue.delete\n< 1 basic.nack 3\n< 1 channel.flow-ok\n< 1 basic.cancel-ok\n< 1 channel.close-ok\n< 0 connection.close-ok\n";

/* The same story, cut in two at every byte, and arriving byte by byte, is the same story. */
static void bytes_arrive_in_any_pieces(void **state)
{
    (void)state;
    size_t size = 1;
    for (size_t cut = 0; cut <= size; cut++) {
        end(NULL);
        memset(&story, 0, sizeof story);
        struct uri uri;
        const char *complaint;
        assert_int_equal(uri_parse(&uri, "amqp://ada:secret@localhost", &complaint), GW_OK);
        struct talk_events events = {.owner = &story, .opened = on_opened_and_asks, .blocked = on_blocked};
        struct talk_settings settings = {.uri = &uri};
        story.talk = talk_new(&settings, &events);
        story.settles = true;
        say_everything();
        size = story.said_size;
        story_feed(&story, cut, cut == 0 ? 1 : 0);
        assert_int_equal(talk_end(story.talk), TALK_END_CLOSED);
        assert_int_equal(talk_reply_code(story.talk), 320);
        assert_string_equal(talk_error(story.talk), "the broker closed the connection: 320 CONNECTION_FORCED - so long");
        story_hear(&story);
        assert_string_equal(story.told, everything);
    }
}

static void what_failed_may_wait_for_so_long(void **state)
{
    (void)state;
    let_in();
    assert_false(talk_can_delay(story.talk));
    for (unsigned i = 1; i <= 3; i++)
        say_delivery(&story, 1, "c", i, 1);
    story_feed(&story, 0, 0);
    story.told_size = 0;
    assert_int_equal(talk_nack_after(story.channel, 2, 86400000), GW_OK);
    talk_ack(story.channel, 3);
    talk_ack(story.channel, 1);
    story_hear(&story);
    is_told("< 1 basic.nack-after 2 86400000\n< 1 basic.ack 3 and before\n");
}

static void acknowledgements_leave_together(void **state)
{
    (void)state;
    let_in();
    for (unsigned i = 1; i <= 8; i++)
        say_delivery(&story, 1, "c", i, 1);
    story_feed(&story, 0, 0);
    story.told_size = 0;
    talk_ack(story.channel, 2);
    talk_ack(story.channel, 1);
    talk_ack(story.channel, 5);
    story_hear(&story);
    is_told("< 1 basic.ack 2 and before\n< 1 basic.ack 5\n");
    assert_int_equal(talk_nack(story.channel, 3, false), GW_OK);
    talk_ack(story.channel, 4);
    story_hear(&story);
    is_told("< 1 basic.nack 3\n< 1 basic.ack 4\n");
    talk_ack(story.channel, 6);
    talk_ack(story.channel, 7);
    talk_ack(story.channel, 8);
    talk_close(story.talk, story.now_ms);
    story_hear(&story);
    is_told("< 1 basic.ack 8 and before\n< 0 connection.close\n");
}

static void confirms_are_told_once(void **state)
{
    (void)state;
    uint64_t number;
    let_in();
    assert_int_equal(talk_confirm_select(story.channel), GW_OK);
    for (unsigned i = 1; i <= 200; i++)
        assert_int_equal(talk_publish(story.channel, bytes_of_text(""), bytes_of_text("q"), false, bytes_of("\0\0", 2), (struct bytes){0}, &number), GW_OK);
    say(&story, 1, AMQP_CONFIRM_SELECT_OK, NULL);
    say_confirm(&story, 1, AMQP_BASIC_ACK, 2, false);
    say_confirm(&story, 1, AMQP_BASIC_ACK, 2, false);
    say_confirm(&story, 1, AMQP_BASIC_NACK, 4, false);
    say_confirm(&story, 1, AMQP_BASIC_ACK, 6, true);
    say_confirm(&story, 1, AMQP_BASIC_ACK, 6, true);
    say_confirm(&story, 1, AMQP_BASIC_ACK, 150, true);
    story_feed(&story, 0, 0);
    is_told("confirmed 2 to 2\nrefused 4 to 4\nconfirmed 1 to 1\nconfirmed 3 to 3\nconfirmed 5 to 6\nconfirmed 7 to 150\n");
    assert_int_equal(talk_unconfirmed(story.channel), 50);
    say_confirm(&story, 1, AMQP_BASIC_ACK, 201, false);
    story_feed(&story, 0, 0);
    assert_int_equal(talk_end(story.talk), TALK_END_MALFORMED);
}

static void a_wrong_password_is_told(void **state)
{
    (void)state;
    say_start(&story);
    say_close(&story, 0, AMQP_CONNECTION_CLOSE, 403, "ACCESS_REFUSED - who are you");
    story_feed(&story, 0, 0);
    assert_int_equal(talk_end(story.talk), TALK_END_REFUSED);
    assert_int_equal(talk_reply_code(story.talk), 403);
    assert_string_equal(talk_error(story.talk), "the broker does not let us in: 403 ACCESS_REFUSED - who are you");
    story_hear(&story);
    is_told("< AMQP\n< 0 connection.start-ok\n< 0 connection.close-ok\n");

    end(NULL);
    begin(NULL);
    say_start(&story);
    story_feed(&story, 0, 0);
    talk_lost(story.talk, NULL);
    assert_int_equal(talk_end(story.talk), TALK_END_REFUSED);
    assert_string_equal(talk_error(story.talk), "the broker hung up during log-in; is the password of user ada right?");
}

static void heartbeats_go_both_ways(void **state)
{
    (void)state;
    let_in();                        /* 10 s are agreed on: a sign of life every 5 s, nothing from there for 20 s is the end */
    assert_int_equal(talk_deadline_ms(story.talk), 6000);
    story.now_ms = 5999;
    talk_tick(story.talk, story.now_ms);
    story_hear(&story);
    is_told("");
    story.now_ms = 6000;
    talk_tick(story.talk, story.now_ms);
    talk_tick(story.talk, story.now_ms);
    assert_int_equal(talk_deadline_ms(story.talk), 21000);
    story_hear(&story);
    is_told("< 0 heartbeat of 0\n");
    assert_int_equal(talk_deadline_ms(story.talk), 11000);
    talk_feed(story.talk, bytes_of("\x08\0\0\0\0\0\0\xCE", 8), 12000);
    talk_tick(story.talk, 31999);
    assert_int_equal(talk_state(story.talk), TALK_OPEN);
    talk_tick(story.talk, 32000);
    assert_int_equal(talk_end(story.talk), TALK_END_LOST);
    assert_string_equal(talk_error(story.talk), "the broker gave no sign of life for 20 s");
}

static void a_log_in_that_takes_for_ever_ends(void **state)
{
    (void)state;
    assert_int_equal(talk_deadline_ms(story.talk), 11000);
    talk_tick(story.talk, 11000);
    assert_int_equal(talk_end(story.talk), TALK_END_LOST);
}

static void a_channel_that_is_closed_hears_nothing(void **state)
{
    (void)state;
    struct amqp_value nothing[AMQP_ARGUMENTS_MAX] = {{{0}}};
    let_in();
    say_delivery(&story, 1, "c", 1, 1);
    story_feed(&story, 0, 0);
    story.told_size = 0;
    talk_ack(story.channel, 1);
    assert_int_equal(talk_call(story.channel, AMQP_QUEUE_DECLARE, nothing, AMQP_QUEUE_DECLARE_OK, on_answered, &story), GW_OK);
    struct talk_channel *closed = story.channel;
    talk_channel_close(closed);
    assert_int_equal(talk_call(closed, AMQP_QUEUE_DECLARE, nothing, AMQP_QUEUE_DECLARE_OK, on_answered, &story), GW_ERR_CLOSED);
    say(&story, 1, AMQP_QUEUE_DECLARE_OK, nothing);
    say_delivery(&story, 1, "c", 2, 1);
    say(&story, 1, AMQP_CHANNEL_CLOSE_OK, NULL);
    story_feed(&story, 0, 3);
    story_hear(&story);
    is_told("< 1 queue.declare \n< 1 basic.ack 1\n< 1 channel.close\n");
    assert_int_equal(talk_state(story.talk), TALK_OPEN);
    /* Three may be open at a time, and each gets a number that was not just in use. */
    struct talk_channel *channels[3];
    for (unsigned i = 0; i < 3; i++)
        assert_non_null(channels[i] = story_channel(&story));
    assert_null(story_channel(&story));
    story_hear(&story);
    is_told("< 2 channel.open\n< 3 channel.open\n< 1 channel.open\n");
}

static void what_is_no_amqp_is_told(void **state)
{
    (void)state;
    static const struct { const char *bytes; size_t size; const char *error; } cases[] = {
        {"HTTP/1.1 400 Bad Request\r\n", 26, "what answers there does not speak AMQP"},
        {"AMQP\0\1\0\0", 8, "the broker speaks AMQP 1-0-0 only, not 0-9-1"},
        {"\1\0\0\0\0\0\4\0\x0A\0\x1F\xCE", 12, "the broker does not keep to AMQP 0-9-1: connection.tune-ok"},
        {"\1\0\0\0\xFF\0\0\0\0", 9, "the broker does not keep to AMQP 0-9-1: a frame too large or without its end"},
        {"\1\0\1\0\0\0\4\0\x14\0\x0B\xCE", 12, "the broker does not keep to AMQP 0-9-1: channel.open-ok"},
        {"\1\0\0\0\0\0\4\0\x0A\0\x3D\xCE", 12, "the broker does not keep to AMQP 0-9-1: connection.unblocked"},
        {"\3\0\1\0\0\0\0\xCE", 8, "what answers there does not speak AMQP"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        end(NULL);
        begin(NULL);
        talk_feed(story.talk, bytes_of(cases[i].bytes, cases[i].size), 1000);
        assert_int_equal(talk_end(story.talk), TALK_END_MALFORMED);
        assert_string_equal(talk_error(story.talk), cases[i].error);
    }
}

static void a_broker_out_of_step_is_told(void **state)
{
    (void)state;
    struct amqp_value nothing[AMQP_ARGUMENTS_MAX] = {{{0}}};
    for (unsigned i = 0; i < 7; i++) {
        end(NULL);
        begin(NULL);
        let_in();
        switch (i) {
        case 0: say_delivery(&story, 1, "c", 2, 1); break;                       /* the first one is not 2 */
        case 1: say(&story, 1, AMQP_QUEUE_DECLARE_OK, nothing); break;           /* nobody asked */
        case 2: say(&story, 2, AMQP_CHANNEL_OPEN_OK, nothing); break;            /* nor there */
        case 3: say_message(&story, 1, AMQP_BASIC_GET_OK, nothing, 1); break;
        case 4: say_message(&story, 1, AMQP_BASIC_PUBLISH, nothing, 1); break;
        case 5: say_delivery(&story, 1, "c", 1, 20001); break;                   /* larger than body_max */
        case 6: say(&story, 1, AMQP_BASIC_DELIVER, nothing); say(&story, 1, AMQP_CHANNEL_CLOSE_OK, NULL); break;
        }
        story_feed(&story, 0, 0);
        assert_int_equal(talk_end(story.talk), TALK_END_MALFORMED);
        is_told("");
    }
}

static void what_cannot_be_said_is_refused(void **state)
{
    (void)state;
    uint64_t number;
    char name[300];
    static uint8_t properties[5000];
    memset(name, 'n', sizeof name);
    name[256] = '\0';
    struct amqp_value values[AMQP_QUEUE_DECLARE_COUNT] = {[AMQP_QUEUE_DECLARE_QUEUE] = amqp_text(name)};
    let_in();
    assert_int_equal(talk_call(story.channel, AMQP_QUEUE_DECLARE, values, AMQP_QUEUE_DECLARE_OK, NULL, NULL), GW_ERR_INVALID);
    values[AMQP_QUEUE_DECLARE_QUEUE] = amqp_text("q");
    values[AMQP_QUEUE_DECLARE_ARGUMENTS] = amqp_bytes(bytes_of(properties, sizeof properties));
    assert_int_equal(talk_call(story.channel, AMQP_QUEUE_DECLARE, values, AMQP_QUEUE_DECLARE_OK, NULL, NULL), GW_ERR_LIMIT);
    assert_int_equal(talk_publish(story.channel, bytes_of_text(name), bytes_of_text("q"), false, bytes_of("\0\0", 2), (struct bytes){0}, &number), GW_ERR_INVALID);
    assert_int_equal(talk_publish(story.channel, bytes_of_text(""), bytes_of_text("q"), false, bytes_of(properties, sizeof properties), (struct bytes){0}, &number),
                     GW_ERR_LIMIT);
    story_hear(&story);
    is_told("");
}

int main(void)
{
#define STORY(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        STORY(logs_in_and_says_goodbye),
        STORY(bytes_arrive_in_any_pieces),
        STORY(what_failed_may_wait_for_so_long),
        STORY(acknowledgements_leave_together),
        STORY(confirms_are_told_once),
        STORY(a_wrong_password_is_told),
        STORY(heartbeats_go_both_ways),
        STORY(a_log_in_that_takes_for_ever_ends),
        STORY(a_channel_that_is_closed_hears_nothing),
        STORY(what_is_no_amqp_is_told),
        STORY(a_broker_out_of_step_is_told),
        STORY(what_cannot_be_said_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
