/* A session from the protocol header to connection.close-ok, whole and byte by byte. */
#include "protocol/amqp/story.h"

#include <stdio.h>

static void tune_ok(unsigned channel_max, unsigned frame_max, unsigned heartbeat)
{
    struct amqp_value values[] = {amqp_number(channel_max), amqp_number(frame_max), amqp_number(heartbeat)};
    peer_send(peer, 0, AMQP_CONNECTION_TUNE_OK, values);
}

static void open_vhost(const char *name)
{
    struct amqp_value values[] = {amqp_text(name), amqp_text(""), amqp_number(0)};
    peer_send(peer, 0, AMQP_CONNECTION_OPEN, values);
}

static void up_to_tuning(bool pieces)
{
    peer_open(peer, pieces);
    peer_feed(peer, amqp_protocol_header, 8);
    peer_send_start_ok(peer, "guest", "guest", true);
    peer_heard(peer);
}

static void a_client_comes_in_and_goes_out(void **state)
{
    (void)state;
    BOTH_WAYS(pieces) {
        peer_open(peer, pieces);
        peer_feed(peer, amqp_protocol_header, 8);
        assert_string_equal(peer_heard(peer), "0 connection.start 0 9 \"PLAIN AMQPLAIN\" \"en_US\"\n");
        peer_send_start_ok(peer, "guest", "guest", true);
        assert_string_equal(peer_heard(peer), "0 connection.tune 2047 131072 60\n");
        tune_ok(100, 8192, 10);
        open_vhost("/");
        assert_string_equal(peer_heard(peer), "0 connection.open-ok \"\"\n");
        struct amqp_value values[] = {amqp_number(200), amqp_text("bye"), amqp_number(0), amqp_number(0)};
        peer_send(peer, 0, AMQP_CONNECTION_CLOSE, values);
        assert_false(session_finished(peer->session));
        assert_string_equal(peer_heard(peer), "0 connection.close-ok\n");
        /* Clients may well say it twice, and want to hang up first. */
        peer_send(peer, 0, AMQP_CONNECTION_CLOSE, values);
        assert_string_equal(peer_heard(peer), "0 connection.close-ok\n");
        assert_false(session_finished(peer->session));
        session_tick(peer->session, peer->now_us + 3000000);
        assert_true(session_finished(peer->session));
        peer_close(peer);
    }
}

static void what_is_no_amqp_is_told_what_is(void **state)
{
    (void)state;
    static const char *const headers[] = {"GET / HTTP/1.1\r\n", "AMQP\0\1\0\0", "AMQP\3\1\0\0", "\x16\x03\x01\x02"};
    static const size_t sizes[] = {16, 8, 8, 4};
    for (int i = 0; i < 4; i++) {
        peer_open(peer, false);
        peer_feed(peer, headers[i], sizes[i]);
        assert_string_equal(peer_heard(peer), "AMQP 0-9-1\n");
        assert_true(session_finished(peer->session));
        peer_close(peer);
    }
    peer_open(peer, false);
    peer_feed(peer, "AMQP\1\1\0\x09", 8);
    assert_string_equal(peer_heard(peer), "0 connection.start 0 9 \"PLAIN AMQPLAIN\" \"en_US\"\n");
    peer_close(peer);
}

static void a_wrong_password_is_told_to_who_wants_to_know(void **state)
{
    (void)state;
    BOTH_WAYS(pieces) {
        peer_open(peer, pieces);
        peer_feed(peer, amqp_protocol_header, 8);
        peer_heard(peer);
        peer_send_start_ok(peer, "guest", "wrong", true);
        assert_string_equal(peer_heard(peer), "0 connection.close 403 \"ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
                                              "For details see the broker logfile.\" 0 0\n");
        assert_false(session_finished(peer->session));
        peer_send(peer, 0, AMQP_CONNECTION_CLOSE_OK, NULL);
        assert_true(session_finished(peer->session));
        peer_close(peer);

        peer_open(peer, pieces);
        peer_feed(peer, amqp_protocol_header, 8);
        peer_heard(peer);
        peer_send_start_ok(peer, "guest", "wrong", false);
        assert_string_equal(peer_heard(peer), "");
        assert_true(session_finished(peer->session));
        peer_close(peer);
    }
}

static const char *logs_in(struct rate *failures, uint64_t now_us, const char *password, bool wants_to_know)
{
    peer_open(peer, false);
    peer->now_us = now_us;
    peer->config.failure_limit = (struct rate_limit){.count = 3, .period_us = 60000000};
    session_watched(peer->session, failures);
    peer_feed(peer, amqp_protocol_header, 8);
    peer_heard(peer);
    peer_send_start_ok(peer, "guest", password, wants_to_know);
    return peer_heard(peer);
}

static void after_too_many_wrong_passwords_none_is_looked_at(void **state)
{
    (void)state;
    struct rate failures = {0};
    const char *enters = "0 connection.tune 2047 131072 60\n";
    for (unsigned i = 0; i < 3; i++) {
        assert_non_null(strstr(logs_in(&failures, 1000, "wrong", true), "connection.close 403"));
        peer_close(peer);
        if (i < 2) {   /* one that is right takes nothing */
            assert_string_equal(logs_in(&failures, 1000, "guest", true), enters);
            peer_close(peer);
        }
    }
    static const char *const passwords[] = {"guest", "wrong", "guest"};
    for (unsigned i = 0; i < 3; i++) {   /* the right one is told apart from no other, and what was not looked at does not count */
        assert_string_equal(logs_in(&failures, 1000, passwords[i], true),
                            "0 connection.close 320 \"CONNECTION_FORCED - too many passwords from your address were wrong: log in again in 21 s\" 0 0\n");
        peer_close(peer);
        assert_string_equal(logs_in(&failures, 1000, passwords[i], false), "");
        assert_true(session_finished(peer->session));
        peer_close(peer);
    }
    assert_string_equal(logs_in(&failures, 20001000, "guest", true), enters);
    peer_close(peer);
    assert_non_null(strstr(logs_in(&failures, 20001000, "wrong", true), "connection.close 403"));
    peer_close(peer);
    assert_non_null(strstr(logs_in(&failures, 20001000, "guest", true), "connection.close 320"));
    peer_close(peer);
}

static void amqplain_is_a_table(void **state)
{
    (void)state;
    uint8_t room[128];
    struct amqp_table_writer writer;
    struct bytes table;
    peer_open(peer, false);
    peer_feed(peer, amqp_protocol_header, 8);
    peer_heard(peer);
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "LOGIN", bytes_of_text("guest"));
    amqp_table_put_text(&writer, "PASSWORD", bytes_of_text("guest"));
    assert_true(amqp_table_finish(&writer, &table));
    struct amqp_value values[AMQP_CONNECTION_START_OK_COUNT] = {
        [AMQP_CONNECTION_START_OK_MECHANISM] = amqp_text("AMQPLAIN"), [AMQP_CONNECTION_START_OK_RESPONSE] = amqp_bytes(table),
        [AMQP_CONNECTION_START_OK_LOCALE] = amqp_text("en_US")};
    peer_send(peer, 0, AMQP_CONNECTION_START_OK, values);
    assert_string_equal(peer_heard(peer), "0 connection.tune 2047 131072 60\n");
    peer_close(peer);
}

static void a_certificate_is_enough(void **state)
{
    (void)state;
    static const struct { const char *name, *mechanisms; bool enters; } rows[] = {
        {"guest", "EXTERNAL PLAIN AMQPLAIN", true}, {"nobody", "EXTERNAL PLAIN AMQPLAIN", false}, {"", "PLAIN AMQPLAIN", false}};
    BOTH_WAYS(pieces) {
        for (unsigned i = 0; i < 3; i++) {
            char start[128];
            struct amqp_value values[AMQP_CONNECTION_START_OK_COUNT] = {
                [AMQP_CONNECTION_START_OK_MECHANISM] = amqp_text("EXTERNAL"), [AMQP_CONNECTION_START_OK_LOCALE] = amqp_text("en_US")};
            peer_open(peer, pieces);
            session_addresses(peer->session, (struct session_address){"127.0.0.1", 1}, (struct session_address){"127.0.0.1", 2});
            session_sealed(peer->session, &(struct session_seal){.version = "TLSv1.3", .cipher = "C", .peer_name = rows[i].name});
            peer_feed(peer, amqp_protocol_header, 8);
            snprintf(start, sizeof(start), "0 connection.start 0 9 \"%s\" \"en_US\"\n", rows[i].mechanisms);
            assert_string_equal(peer_heard(peer), start);
            peer_send(peer, 0, AMQP_CONNECTION_START_OK, values);
            const char *heard = peer_heard(peer);
            assert_true(rows[i].enters == (strcmp(heard, "0 connection.tune 2047 131072 60\n") == 0));
            peer_close(peer);
        }
    }
}

static void tuning_beyond_what_was_offered_is_refused(void **state)
{
    (void)state;
    static const struct {
        unsigned channel_max, frame_max;
        const char *heard;
    } cases[] = {
        {4000, 131072, "negotiated channel_max = 4000 is higher than the maximum allowed value (2047)"},
        {0, 131072, "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)"},
        {10, 131073, "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)"},
        {10, 4095, "negotiated frame_max = 4095 is lower than the minimum allowed value (4096)"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char expected[256];
        up_to_tuning(false);
        tune_ok(cases[i].channel_max, cases[i].frame_max, 0);
        snprintf(expected, sizeof(expected), "0 connection.close 530 \"NOT_ALLOWED - %s\" 10 30\n", cases[i].heard);
        assert_string_equal(peer_heard(peer), expected);
        peer_close(peer);
    }
}

static void there_is_one_vhost(void **state)
{
    (void)state;
    up_to_tuning(false);
    tune_ok(10, 131072, 0);
    open_vhost("elsewhere");
    assert_string_equal(peer_heard(peer), "0 connection.close 530 \"NOT_ALLOWED - vhost elsewhere not found\" 10 40\n");
    peer_close(peer);
}

static void frames_out_of_turn_end_it_without_a_word_before_the_login(void **state)
{
    (void)state;
    struct amqp_value channel[] = {amqp_text("")};
    peer_open(peer, false);
    peer_feed(peer, amqp_protocol_header, 8);
    peer_heard(peer);
    peer_send(peer, 1, AMQP_CHANNEL_OPEN, channel);
    assert_string_equal(peer_heard(peer), "");
    assert_true(session_finished(peer->session));
    peer_close(peer);
}

static void a_stranger_has_64_kib_and_10_seconds(void **state)
{
    (void)state;
    static const uint8_t heartbeat[8] = {8, 0, 0, 0, 0, 0, 0, 0xCE};
    peer_open(peer, false);
    peer_feed(peer, amqp_protocol_header, 8);
    peer_heard(peer);
    for (int i = 0; i < 65536 / 8; i++)
        peer_feed(peer, heartbeat, 8);
    assert_false(session_finished(peer->session));
    peer_feed(peer, heartbeat, 8);
    assert_true(session_finished(peer->session));
    peer_close(peer);

    peer_open(peer, false);
    peer_feed(peer, amqp_protocol_header, 8);
    peer_heard(peer);
    peer_feed(peer, "\1\0\0\0\0\x10\1", 7);
    assert_string_equal(peer_heard(peer), "");
    assert_true(session_finished(peer->session));
    peer_close(peer);

    peer_open(peer, false);
    assert_true(session_deadline(peer->session) == peer->now_us + 10000000);
    session_tick(peer->session, peer->now_us + 9999999);
    assert_false(session_finished(peer->session));
    session_tick(peer->session, peer->now_us + 10000000);
    assert_true(session_finished(peer->session));
    peer_close(peer);
}

static void heartbeats_go_both_ways(void **state)
{
    (void)state;
    up_to_tuning(false);
    tune_ok(10, 131072, 10);
    open_vhost("/");
    peer_heard(peer);
    uint64_t start = peer->now_us;
    assert_true(session_deadline(peer->session) == start + 5000000);
    peer->now_us = start + 5000000;
    session_tick(peer->session, peer->now_us);
    assert_string_equal(peer_heard(peer), "0 heartbeat\n");
    assert_true(session_deadline(peer->session) == start + 10000000);
    peer->now_us = start + 15000000;
    session_tick(peer->session, peer->now_us);
    assert_string_equal(peer_heard(peer), "0 heartbeat\n");
    peer_feed(peer, "\x08\0\0\0\0\0\0\xCE", 8);
    assert_string_equal(peer_heard(peer), "");
    session_tick(peer->session, start + 34999999);
    assert_false(session_finished(peer->session));
    session_tick(peer->session, start + 35000000);
    assert_true(session_finished(peer->session));
    peer_close(peer);
}

static void methods_of_the_connection_out_of_turn(void **state)
{
    (void)state;
    struct amqp_value tune[] = {amqp_number(1), amqp_number(131072), amqp_number(60)};
    peer_open_running(peer, false);
    peer_send(peer, 0, AMQP_CONNECTION_TUNE_OK, tune);
    assert_string_equal(peer_heard(peer), "0 connection.close 504 \"CHANNEL_ERROR - unexpected method in connection state running\" 10 31\n");
    /* Nothing is listened to now but the end. */
    peer_send(peer, 0, AMQP_CONNECTION_TUNE_OK, tune);
    peer_publish(peer, 1, "", "q", "body", false, false);
    peer_send_frame(peer, 99, 7, "garbage", 7);
    assert_string_equal(peer_heard(peer), "");
    assert_string_equal(fake_said(&peer->fake), "");
    peer_send(peer, 0, AMQP_CONNECTION_CLOSE_OK, NULL);
    assert_true(session_finished(peer->session));
    peer_close(peer);
}

static void a_shutdown_is_announced(void **state)
{
    (void)state;
    peer_open_running(peer, false);
    session_shutdown(peer->session, peer->now_us);
    assert_true(peer->dirty);
    assert_string_equal(peer_heard(peer), "0 connection.close 320 \"CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'\" 0 0\n");
    session_tick(peer->session, peer->now_us + 10000000);
    assert_true(session_finished(peer->session));
    peer_close(peer);
}

static void frames_that_make_no_sense(void **state)
{
    (void)state;
    static const struct {
        uint8_t type;
        uint16_t channel;
        const char *payload;
        size_t size;
        const char *heard;
    } cases[] = {
        {4, 1, "xyz", 3, "501 \"FRAME_ERROR - type 4, all octets = <<\"xyz\">>: unknown_frame\""},
        {4, 0, "\1\2", 2, "501 \"FRAME_ERROR - type 4, all octets = <<1,2>>: unknown_frame\""},
        {8, 1, "", 0, "505 \"UNEXPECTED_FRAME - type 8, all octets = <<>>\""},
        {8, 0, "\1", 1, "501 \"FRAME_ERROR - type 8, all octets = <<1>>: unknown_frame\""},
        {1, 1, "\1\2", 2, "501 \"FRAME_ERROR - type 1, all octets = <<1,2>>: unknown_frame\""},
        {2, 1, "\0\x3C", 2, "501 \"FRAME_ERROR - type 2, all octets = <<0,60>>: unknown_frame\""},
        {3, 0, "0123456789abcdefg", 17, "505 \"UNEXPECTED_FRAME - type 3, first 16 octets = <<\"0123456789abcdef\">>\""},
        {3, 1, "body", 4, "505 \"UNEXPECTED_FRAME - expected method frame, got non method frame instead\""},
        {3, 9, "body", 4, "505 \"UNEXPECTED_FRAME - expected method frame, got non method frame instead\""},
        {2, 1, "\0\x3C\0\0\0\0\0\0\0\0\0\0\0\0", 14, "505 \"UNEXPECTED_FRAME - expected method frame, got non method frame instead\""},
    };
    BOTH_WAYS(pieces) {
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            char expected[256];
            peer_open_running(peer, pieces);
            peer_send_frame(peer, cases[i].type, cases[i].channel, cases[i].payload, cases[i].size);
            snprintf(expected, sizeof(expected), "0 connection.close %s 0 0\n", cases[i].heard);
            assert_string_equal(peer_heard(peer), expected);
            peer_send(peer, 0, AMQP_CONNECTION_CLOSE_OK, NULL);
            assert_true(session_finished(peer->session));
            peer_close(peer);
        }
    }
}

static void a_frame_that_is_too_large_or_has_no_end_leaves_the_session_deaf(void **state)
{
    (void)state;
    BOTH_WAYS(pieces) {
        peer_open_running(peer, pieces);
        peer_feed(peer, "\1\0\1\0\2\0\1", 7);
        assert_string_equal(peer_heard(peer), "0 connection.close 501 \"FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,131073,131064}\" 0 0\n");
        peer_send(peer, 0, AMQP_QUEUE_PURGE_OK, (struct amqp_value[]){amqp_number(1)});
        assert_false(session_finished(peer->session));
        if (pieces)
            session_tick(peer->session, peer->now_us + 3000000);
        else
            peer_send(peer, 0, AMQP_CONNECTION_CLOSE_OK, NULL);
        assert_true(session_finished(peer->session));
        peer_close(peer);

        peer_open_running(peer, pieces);
        peer_feed(peer, "\1\0\0\0\0\0\4\0\x0A\0\x32\x07", 12);
        assert_string_equal(peer_heard(peer), "0 connection.close 501 \"FRAME_ERROR - type 1, all octets = <<0,10,0,50>>: {invalid_frame_end_marker,7}\" 0 0\n");
        peer_close(peer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_comes_in_and_goes_out),
        cmocka_unit_test(what_is_no_amqp_is_told_what_is),
        cmocka_unit_test(a_wrong_password_is_told_to_who_wants_to_know),
        cmocka_unit_test(after_too_many_wrong_passwords_none_is_looked_at),
        cmocka_unit_test(amqplain_is_a_table),
        cmocka_unit_test(a_certificate_is_enough),
        cmocka_unit_test(tuning_beyond_what_was_offered_is_refused),
        cmocka_unit_test(there_is_one_vhost),
        cmocka_unit_test(frames_out_of_turn_end_it_without_a_word_before_the_login),
        cmocka_unit_test(a_stranger_has_64_kib_and_10_seconds),
        cmocka_unit_test(heartbeats_go_both_ways),
        cmocka_unit_test(methods_of_the_connection_out_of_turn),
        cmocka_unit_test(a_shutdown_is_announced),
        cmocka_unit_test(frames_that_make_no_sense),
        cmocka_unit_test(a_frame_that_is_too_large_or_has_no_end_leaves_the_session_deaf),
    };
    return cmocka_run_group_tests(tests, open_peer, close_peer);
}
