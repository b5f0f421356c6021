/* Channels, requests and the end of a session, over a broker that only writes down what it is asked; whole and byte by byte. */
#include "protocol/amqp/story.h"

/* ---- channels ---- */

static void a_channel_is_opened_once_and_before_all_else(void **state)
{
    (void)state;
    struct amqp_value values[] = {amqp_text("")};
    peer_open_running(peer, false);
    peer_send(peer, 2, AMQP_CHANNEL_OPEN, values);
    heard("2 channel.open-ok \"\"\n");
    peer_send(peer, 2, AMQP_CHANNEL_OPEN, values);
    heard("0 connection.close 504 \"CHANNEL_ERROR - second 'channel.open' seen\" 20 10\n");
    peer_close(peer);

    peer_open_running(peer, false);
    peer_send(peer, 3, AMQP_TX_SELECT, NULL);
    heard("0 connection.close 504 \"CHANNEL_ERROR - expected 'channel.open'\" 90 10\n");
    peer_close(peer);
}

static void channels_are_counted(void **state)
{
    (void)state;
    struct amqp_value values[] = {amqp_text("")};
    peer_open_running(peer, false);
    for (unsigned i = 2; i <= 2047; i++)
        peer_send(peer, (uint16_t)(i * 7), AMQP_CHANNEL_OPEN, values);
    peer_heard(peer);
    peer_send(peer, 3, AMQP_CHANNEL_OPEN, values);
    heard("0 connection.close 530 \"NOT_ALLOWED - number of channels opened (2047) has reached the negotiated channel_max (2047)\" 0 0\n");
    peer_close(peer);
}

static void channels_of_a_limited_user_are_asked_for(void **state)
{
    (void)state;
    struct amqp_value values[] = {amqp_text("")};
    BOTH_WAYS(pieces) {
        peer_open_running(peer, pieces);
        peer->fake.limits_channels = true;
        peer_send(peer, 2, AMQP_CHANNEL_OPEN, values);
        peer_publish(peer, 2, "", "q", "waits", false, false);
        heard("");
        said("channel \n");
        fake_answer(&peer->fake, (struct reply){0});
        heard("2 channel.open-ok \"\"\n");
        said("publish  q \"waits\"\n");
        peer_send(peer, 3, AMQP_CHANNEL_OPEN, values);
        fake_answer(&peer->fake, (struct reply){.code = 530, .text = bytes_of_text("NOT_ALLOWED - too many")});
        heard("0 connection.close 530 \"NOT_ALLOWED - too many\" 0 0\n");
        peer_close(peer);
    }
}

static void a_channel_that_failed_listens_to_its_end_alone(void **state)
{
    (void)state;
    BOTH_WAYS(pieces) {
        peer_open_running(peer, pieces);
        declare("q", true, false, false, false);
        said("declare q passive\n");
        fake_answer(&peer->fake, (struct reply){.code = 404, .text = bytes_of_text("NOT_FOUND - no queue 'q' in vhost '/'")});
        heard("1 channel.close 404 \"NOT_FOUND - no queue 'q' in vhost '/'\" 50 10\n");
        declare("r", false, false, false, false);
        peer_publish(peer, 1, "", "q", "ignored", false, false);
        settle(AMQP_BASIC_ACK, 5, false, false);
        heard("");
        said("");
        text_method(AMQP_CHANNEL_CLOSE);
        heard("1 channel.close-ok\n");
        text_method(AMQP_CHANNEL_CLOSE_OK);
        heard("");
        text_method(AMQP_CHANNEL_OPEN);
        heard("1 channel.open-ok \"\"\n");
        peer_close(peer);
    }
}

static void closing_gives_back_and_waits_for_the_consumers(void **state)
{
    (void)state;
    BOTH_WAYS(pieces) {
        peer_open_running(peer, pieces);
        consume_well(false);
        deliver(1, "one", false, false);
        deliver(2, "two", false, false);
        peer_heard(peer);
        fake_said(&peer->fake);
        text_method(AMQP_CHANNEL_CLOSE);
        text_method(AMQP_CHANNEL_OPEN);   /* Not before its time, but it may be on its way. */
        deliver(3, "late", false, false);
        said("cancel 7/9\nclosed 7 1+2\nundelivered 7 3+1\n");
        heard("");
        fake_answer(&peer->fake, (struct reply){0});
        heard("1 channel.close-ok\n1 channel.open-ok \"\"\n");
        peer_close(peer);
    }
}

static void methods_of_servers_and_unknown_ones_are_invalid(void **state)
{
    (void)state;
    peer_open_running(peer, false);
    text_method(AMQP_QUEUE_PURGE_OK);
    heard("0 connection.close 503 \"COMMAND_INVALID - unimplemented method\" 50 31\n");
    peer_close(peer);
    peer_open_running(peer, false);
    peer_send_frame(peer, 1, 1, "\0\x32\0\x63", 4);
    heard("0 connection.close 503 \"COMMAND_INVALID - unknown method 50/99\" 50 99\n");
    peer_close(peer);
    peer_open_running(peer, false);
    peer_send_frame(peer, 1, 1, "\0\x32\0\x1E\0\0", 6);
    heard("0 connection.close 501 \"FRAME_ERROR - cannot decode <<0,0>>\" 50 30\n");
    peer_close(peer);
    peer_open_running(peer, false);
    peer_send_frame(peer, 1, 1, "\0\x32\0\x1E\0\0\001\xFF\0", 9);
    heard("0 connection.close 501 \"FRAME_ERROR - Malformed UTF-8 in shortstr\" 0 0\n");
    peer_close(peer);
}

/* ---- requests ---- */

static void topology_requests_follow_each_other_others_wait(void **state)
{
    (void)state;
    BOTH_WAYS(pieces) {
        struct amqp_value bind[AMQP_QUEUE_BIND_COUNT] = {
            [AMQP_QUEUE_BIND_QUEUE] = amqp_text("b"), [AMQP_QUEUE_BIND_EXCHANGE] = amqp_text("x"), [AMQP_QUEUE_BIND_ROUTING_KEY] = amqp_text("key")};
        peer_open_running(peer, pieces);
        declare("a", false, true, false, false);
        declare("b", false, false, false, true);
        peer_send(peer, 1, AMQP_QUEUE_BIND, bind);
        peer_publish(peer, 1, "", "b", "after", false, true);
        said("declare a durable\ndeclare b\nbind b <- x key\n");
        assert_false(session_wants_input(peer->session));
        declared("a", 3, 1);
        declared("b", 0, 0);
        said("");
        fake_answer(&peer->fake, (struct reply){0});
        said("publish  b persistent \"after\"\n");
        assert_true(session_wants_input(peer->session));
        heard("1 queue.declare-ok \"a\" 3 1\n1 queue.bind-ok\n");
        peer_close(peer);
    }
}

static void nothing_follows_what_may_well_fail(void **state)
{
    (void)state;
    peer_open_running(peer, false);
    declare("a", true, false, false, false);
    declare("b", false, false, false, false);
    said("declare a passive\n");
    fake_answer(&peer->fake, (struct reply){.code = 404, .text = bytes_of_text("NOT_FOUND - no queue 'a' in vhost '/'")});
    said("");
    heard("1 channel.close 404 \"NOT_FOUND - no queue 'a' in vhost '/'\" 50 10\n");
    peer_close(peer);
}

static void an_empty_queue_name_is_the_one_declared_last(void **state)
{
    (void)state;
    struct amqp_value bind[AMQP_QUEUE_BIND_COUNT] = {
        [AMQP_QUEUE_BIND_QUEUE] = amqp_text(""), [AMQP_QUEUE_BIND_EXCHANGE] = amqp_text("x"), [AMQP_QUEUE_BIND_ROUTING_KEY] = amqp_text("")};
    peer_open_running(peer, false);
    declare("", false, false, true, false);
    peer_send(peer, 1, AMQP_QUEUE_BIND, bind);
    said("declare  exclusive\n");
    declared("amq.gen-1", 0, 0);
    said("bind amq.gen-1 <- x amq.gen-1\n");
    fake_answer(&peer->fake, (struct reply){0});
    heard("1 queue.declare-ok \"amq.gen-1\" 0 0\n1 queue.bind-ok\n");
    peer_close(peer);

    peer_open_running(peer, false);
    peer_send(peer, 1, AMQP_QUEUE_BIND, bind);
    heard("1 channel.close 404 \"NOT_FOUND - no previously declared queue\" 50 20\n");
    peer_close(peer);
}

static void names_come_without_line_ends(void **state)
{
    (void)state;
    peer_open_running(peer, false);
    declare("a\r\nb\n", false, false, false, false);
    said("declare ab\n");
    peer_close(peer);
}

static void the_default_exchange_is_left_alone(void **state)
{
    (void)state;
    struct amqp_value values[AMQP_EXCHANGE_DECLARE_COUNT] = {[AMQP_EXCHANGE_DECLARE_EXCHANGE] = amqp_text(""), [AMQP_EXCHANGE_DECLARE_TYPE] = amqp_text("direct")};
    peer_open_running(peer, false);
    peer_send(peer, 1, AMQP_EXCHANGE_DECLARE, values);
    heard("1 channel.close 403 \"ACCESS_REFUSED - operation not permitted on the default exchange\" 40 10\n");
    said("");
    peer_close(peer);
}

static void exclusive_queues_are_gone_before_the_connection_is(void **state)
{
    (void)state;
    struct amqp_value values[] = {amqp_number(200), amqp_text("bye"), amqp_number(0), amqp_number(0)};
    peer_open_running(peer, false);
    declare("mine", false, false, true, false);
    declared("mine", 0, 0);
    peer_heard(peer);
    fake_said(&peer->fake);
    peer_send(peer, 0, AMQP_CONNECTION_CLOSE, values);
    said("delete mine\n");
    heard("");
    fake_answer(&peer->fake, (struct reply){0});
    heard("0 connection.close-ok\n");
    peer_close(peer);

    peer_open_running(peer, false);
    declare("mine", false, false, true, false);
    declared("mine", 0, 0);
    text_method(AMQP_CHANNEL_OPEN);
    said("declare mine exclusive\ndelete mine\n");
    peer_close(peer);
}

/* ---- too much output ---- */

static void who_does_not_listen_is_not_answered(void **state)
{
    (void)state;
    static char body[100001];
    struct amqp_value qos[] = {amqp_number(0), amqp_number(0), amqp_number(0)};
    memset(body, 'b', sizeof(body) - 1);
    peer_open_running(peer, false);
    consume_well(false);
    for (uint64_t seq = 1; seq <= 170; seq++)
        deliver(seq, body, false, false);
    fake_said(&peer->fake);
    settle(AMQP_BASIC_ACK, 1, false, false);
    peer_publish(peer, 1, "x", "k", "m", false, false);
    said("ack 7 1+1\npublish x k \"m\"\n");
    assert_true(session_wants_input(peer->session));
    peer_send(peer, 1, AMQP_BASIC_QOS, qos);
    peer_publish(peer, 1, "x", "k", "after", false, false);
    assert_false(session_wants_input(peer->session));
    said("");
    assert_non_null(strstr(peer_heard(peer), "1 basic.qos-ok\n"));
    assert_non_null(strstr(fake_said(&peer->fake), "publish x k \"after\"\n"));
    assert_true(session_wants_input(peer->session));
    peer_close(peer);
}

/* ---- the end ---- */

static void a_peer_that_vanishes_gives_back_what_it_held(void **state)
{
    (void)state;
    struct amqp_value publish[AMQP_BASIC_PUBLISH_COUNT] = {[AMQP_BASIC_PUBLISH_EXCHANGE] = amqp_text("x"), [AMQP_BASIC_PUBLISH_ROUTING_KEY] = amqp_text("k")};
    peer_open_running(peer, false);
    consume_well(false);
    for (uint64_t seq = 1; seq <= 200; seq++)
        deliver(seq, "m", false, false);
    peer_send(peer, 1, AMQP_BASIC_PUBLISH, publish);
    peer_send_frame(peer, AMQP_FRAME_HEADER, 1, "\0\x3C\0\0\0\0\0\0\0\1\0\0\0\0", 14);
    session_free(peer->session);
    said("credit 7/9 15400\nabort\nlost 7 1+200\ndetach\n");
    fake_close(&peer->fake);
    free(peer->received);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_channel_is_opened_once_and_before_all_else),
        cmocka_unit_test(channels_are_counted),
        cmocka_unit_test(channels_of_a_limited_user_are_asked_for),
        cmocka_unit_test(a_channel_that_failed_listens_to_its_end_alone),
        cmocka_unit_test(closing_gives_back_and_waits_for_the_consumers),
        cmocka_unit_test(methods_of_servers_and_unknown_ones_are_invalid),
        cmocka_unit_test(topology_requests_follow_each_other_others_wait),
        cmocka_unit_test(nothing_follows_what_may_well_fail),
        cmocka_unit_test(an_empty_queue_name_is_the_one_declared_last),
        cmocka_unit_test(names_come_without_line_ends),
        cmocka_unit_test(the_default_exchange_is_left_alone),
        cmocka_unit_test(exclusive_queues_are_gone_before_the_connection_is),
        cmocka_unit_test(who_does_not_listen_is_not_answered),
        cmocka_unit_test(a_peer_that_vanishes_gives_back_what_it_held),
    };
    return cmocka_run_group_tests(tests, open_peer, close_peer);
}
