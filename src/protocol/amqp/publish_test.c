/* Publishing, confirms and transactions, over a broker that only writes down what it is asked; whole and byte by byte. */
#include "protocol/amqp/story.h"

/* ---- publishing ---- */

static void messages_arrive_whole_however_they_are_cut(void **state)
{
    (void)state;
    BOTH_WAYS(pieces) {
        peer_open_running(peer, pieces);
        peer_publish(peer, 1, "x", "key", "hello", false, true);
        peer_publish(peer, 1, "", "key", "", false, false);
        said("publish x key persistent \"hello\"\npublish  key \"\"\n");
        static char body[100001];
        memset(body, 'b', sizeof(body) - 1);
        uint8_t frames[200];
        size_t size = amqp_publish_frame(frames, sizeof(frames), 1, bytes_of_text("x"), bytes_of_text("big"), false);
        uint8_t *at = amqp_content_header_write(frames + size, 1, 100000, bytes_of("\0\0", 2));
        peer_feed(peer, frames, (size_t)(at - frames));
        for (int i = 0; i < 10; i++)
            peer_send_frame(peer, AMQP_FRAME_BODY, 1, body, 10000);
        said("publish of 100000 bytes\n");
        assert_memory_equal(peer->fake.body, body, 100000);
        heard("");
        peer_close(peer);
    }
}

static void contents_of_several_channels_may_be_interleaved(void **state)
{
    (void)state;
    BOTH_WAYS(pieces) {
        struct amqp_value open[] = {amqp_text("")};
        struct amqp_value publish[AMQP_BASIC_PUBLISH_COUNT] = {[AMQP_BASIC_PUBLISH_EXCHANGE] = amqp_text("x"), [AMQP_BASIC_PUBLISH_ROUTING_KEY] = amqp_text("k")};
        peer_open_running(peer, pieces);
        peer_send(peer, 2, AMQP_CHANNEL_OPEN, open);
        for (uint16_t channel = 1; channel <= 2; channel++)
            peer_send(peer, channel, AMQP_BASIC_PUBLISH, publish);
        for (uint16_t channel = 1; channel <= 2; channel++)
            peer_send_frame(peer, AMQP_FRAME_HEADER, channel, "\0\x3C\0\0\0\0\0\0\0\0\0\4\0\0", 14);
        peer_send_frame(peer, AMQP_FRAME_BODY, 1, "aa", 2);
        peer_send_frame(peer, AMQP_FRAME_BODY, 2, "bb", 2);
        peer_send_frame(peer, AMQP_FRAME_BODY, 1, "", 0);
        peer_send_frame(peer, AMQP_FRAME_BODY, 1, "AA", 2);
        peer_send_frame(peer, AMQP_FRAME_BODY, 2, "BB", 2);
        said("publish x k \"aaAA\"\npublish x k \"bbBB\"\n");
        peer_close(peer);
    }
}

static void bad_publishes_close_what_they_must(void **state)
{
    (void)state;
    static const struct {
        const char *exchange, *properties;
        size_t properties_size;
        uint64_t size;
        bool immediate;
        const char *heard;
    } cases[] = {
        {"missing", "\0\0", 2, 4, false, "1 channel.close 404 \"NOT_FOUND - no exchange 'missing' in vhost '/'\" 60 40\n"},
        {"internal", "\0\0", 2, 4, false, "1 channel.close 403 \"ACCESS_REFUSED - cannot publish to internal exchange 'internal' in vhost '/'\" 60 40\n"},
        {"x", "\0\0", 2, 134217729, false, "1 channel.close 406 \"PRECONDITION_FAILED - message size 134217729 is larger than configured max size 134217728\" 60 40\n"},
        {"x", "\0\0", 2, 1ull << 40, false, "0 connection.close 501 \"FRAME_ERROR - content body size 1099511627776 exceeds maximum allowed size 536870912\" 60 40\n"},
        {"x", "\0\0", 2, 4, true, "0 connection.close 540 \"NOT_IMPLEMENTED - immediate=true\" 60 40\n"},
        {"x", "\x01\0\3abc", 6, 4, false, "1 channel.close 406 \"PRECONDITION_FAILED - invalid expiration 'abc': no_integer\" 60 40\n"},
        {"x", "\0\x10\3bob", 6, 4, false, "1 channel.close 406 \"PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was 'guest'\" 60 40\n"},
        {"x", "\x02\0\x16" "amq.rabbitmq.reply-to", 24, 4, false, "0 connection.close 541 \"INTERNAL_ERROR\" 0 0\n"},
        {"x", "\x02\0\x15" "amq.rabbitmq.reply-to", 24, 4, false, "1 channel.close 406 \"PRECONDITION_FAILED - fast reply consumer does not exist\" 60 40\n"},
        {"x", "\x80\0", 2, 4, false, "0 connection.close 541 \"INTERNAL_ERROR\" 0 0\n"},
    };
    BOTH_WAYS(pieces) {
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            struct amqp_value publish[AMQP_BASIC_PUBLISH_COUNT] = {[AMQP_BASIC_PUBLISH_EXCHANGE] = amqp_text(cases[i].exchange),
                                                                   [AMQP_BASIC_PUBLISH_ROUTING_KEY] = amqp_text("k"),
                                                                   [AMQP_BASIC_PUBLISH_IMMEDIATE] = amqp_number(cases[i].immediate)};
            uint8_t header[64] = {0, 60};
            peer_open_running(peer, pieces);
            store_be64(header + 4, cases[i].size);
            memcpy(header + 12, cases[i].properties, cases[i].properties_size);
            peer_send(peer, 1, AMQP_BASIC_PUBLISH, publish);
            peer_send_frame(peer, AMQP_FRAME_HEADER, 1, header, 12 + cases[i].properties_size);
            peer_send_frame(peer, AMQP_FRAME_BODY, 1, "body", 4);
            heard(cases[i].heard);
            said("");
            peer_close(peer);
        }
    }
}

static void frames_in_the_wrong_place_of_a_content(void **state)
{
    (void)state;
    static const uint8_t header[] = {0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0}, large[] = {0, 60, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}, other_class[] = {0, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0};
    struct amqp_value publish[AMQP_BASIC_PUBLISH_COUNT] = {[AMQP_BASIC_PUBLISH_EXCHANGE] = amqp_text("x"), [AMQP_BASIC_PUBLISH_ROUTING_KEY] = amqp_text("k")};
    BOTH_WAYS(pieces) {
        peer_open_running(peer, pieces);
        peer_send(peer, 1, AMQP_BASIC_PUBLISH, publish);
        peer_send(peer, 1, AMQP_BASIC_PUBLISH, publish);
        heard("0 connection.close 505 \"UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead\" 60 40\n");
        peer_close(peer);
        peer_open_running(peer, pieces);
        peer_send(peer, 1, AMQP_BASIC_PUBLISH, publish);
        peer_send_frame(peer, AMQP_FRAME_BODY, 1, "body", 4);
        heard("0 connection.close 505 \"UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead\" 60 40\n");
        peer_close(peer);
        peer_open_running(peer, pieces);
        peer_send(peer, 1, AMQP_BASIC_PUBLISH, publish);
        peer_send_frame(peer, AMQP_FRAME_HEADER, 1, other_class, sizeof(other_class));
        heard("0 connection.close 505 \"UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead\" 60 40\n");
        peer_close(peer);
        peer_open_running(peer, pieces);
        peer_send(peer, 1, AMQP_BASIC_PUBLISH, publish);
        peer_send_frame(peer, AMQP_FRAME_HEADER, 1, large, sizeof(large));
        peer_send(peer, 1, AMQP_BASIC_PUBLISH, publish);
        heard("0 connection.close 505 \"UNEXPECTED_FRAME - expected content body, got non content body frame instead\" 60 40\n");
        said("abort\n");
        peer_close(peer);
        peer_open_running(peer, pieces);
        peer_send(peer, 1, AMQP_BASIC_PUBLISH, publish);
        peer_send_frame(peer, AMQP_FRAME_HEADER, 1, header, sizeof(header));
        peer_send_frame(peer, AMQP_FRAME_BODY, 1, "12345", 5);
        heard("0 connection.close 501 \"FRAME_ERROR - content body frame exceeds remaining content size\" 60 40\n");
        said("");
        peer_close(peer);
    }
}

static void a_blocked_broker_makes_publishers_wait_and_tells_them(void **state)
{
    (void)state;
    BOTH_WAYS(pieces) {
        peer_open_running(peer, pieces);
        peer->fake.ops->blocked(peer->fake.client, "low on disk");
        peer->fake.may_not_publish = true;
        heard("");
        peer_publish(peer, 1, "x", "k", "wait", false, false);
        heard("0 connection.blocked \"low on disk\"\n");
        said("");
        assert_false(session_wants_input(peer->session));
        peer->fake.may_not_publish = false;
        peer->fake.ops->blocked(peer->fake.client, NULL);
        peer->fake.ops->resumed(peer->fake.client);
        heard("0 connection.unblocked\n");
        said("publish x k \"wait\"\n");
        peer_close(peer);
    }
}

/* ---- confirms and transactions ---- */

static void confirms_are_told_in_order_and_together(void **state)
{
    (void)state;
    BOTH_WAYS(pieces) {
        peer_open_running(peer, pieces);
        text_method(AMQP_CONFIRM_SELECT);
        heard("1 confirm.select-ok\n");
        for (int i = 0; i < 6; i++)
            peer_publish(peer, 1, "x", "k", "m", false, true);
        uint64_t first = peer->fake.last_confirm_tag - 5;
        peer->fake.ops->confirmed(peer->fake.client, 1, first + 2, 2, true);
        fake_turn(&peer->fake);
        heard("");
        peer->fake.ops->confirmed(peer->fake.client, 1, first, 2, true);
        fake_turn(&peer->fake);
        heard("1 basic.ack 4 1\n");
        peer->fake.ops->confirmed(peer->fake.client, 1, first + 4, 1, false);
        peer->fake.ops->confirmed(peer->fake.client, 1, first + 5, 1, true);
        fake_turn(&peer->fake);
        heard("1 basic.nack 5 0 0\n1 basic.ack 6 0\n");
        peer_close(peer);
    }
}

static void what_cannot_be_routed_is_returned_then_confirmed(void **state)
{
    (void)state;
    BOTH_WAYS(pieces) {
        peer_open_running(peer, pieces);
        text_method(AMQP_CONFIRM_SELECT);
        peer_heard(peer);
        peer_publish(peer, 1, "x", "nowhere", "back", true, false);
        heard("1 basic.return 312 \"NO_ROUTE\" \"x\" \"nowhere\"\n1 header 60 4\n1 body \"back\"\n1 basic.ack 1 0\n");
        assert_int_equal(peer->fake.releases, 1);
        peer_publish(peer, 1, "x", "nowhere", "gone", false, false);
        heard("1 basic.ack 2 0\n");
        peer->fake.refuses = true;
        peer_publish(peer, 1, "x", "k", "refused", false, true);
        heard("1 basic.nack 3 0 0\n");
        peer_close(peer);
    }
}

static void a_transaction_commits_all_or_rolls_back_all(void **state)
{
    (void)state;
    peer_open_running(peer, false);
    consume_well(false);
    deliver(1, "one", false, false);
    deliver(2, "two", false, false);
    text_method(AMQP_TX_SELECT);
    peer_heard(peer);
    fake_said(&peer->fake);
    peer_publish(peer, 1, "x", "k", "m", false, true);
    peer_publish(peer, 1, "x", "nowhere", "back", true, true);
    settle(AMQP_BASIC_ACK, 1, false, false);
    said("publish x k persistent \"m\" in transaction\npublish x nowhere persistent \"back\" in transaction\nack 7 1+1 in transaction\n");
    heard("");
    text_method(AMQP_TX_COMMIT);
    heard("1 basic.return 312 \"NO_ROUTE\" \"x\" \"nowhere\"\n1 header 60 4\n1 body \"back\"\n");
    settle(AMQP_BASIC_ACK, 2, false, false);
    said("commit\n");
    fake_answer(&peer->fake, (struct reply){0});
    heard("1 tx.commit-ok\n");
    said("ack 7 2+1 in transaction\n");
    text_method(AMQP_TX_ROLLBACK);
    said("rollback\n");
    heard("1 tx.rollback-ok\n");
    settle(AMQP_BASIC_ACK, 2, true, false);
    said("ack 7 2+1 in transaction\n");
    settle(AMQP_BASIC_ACK, 2, false, false);
    heard("1 channel.close 406 \"PRECONDITION_FAILED - unknown delivery tag 2\" 60 80\n");
    said("rollback\ncancel 7/9\nclosed 7 2+1\n");
    peer_close(peer);
}

static void confirms_and_transactions_exclude_each_other(void **state)
{
    (void)state;
    peer_open_running(peer, false);
    text_method(AMQP_TX_SELECT);
    text_method(AMQP_CONFIRM_SELECT);
    heard("1 tx.select-ok\n1 channel.close 406 \"PRECONDITION_FAILED - cannot switch from tx to confirm mode\" 85 10\n");
    peer_close(peer);
    peer_open_running(peer, false);
    text_method(AMQP_CONFIRM_SELECT);
    text_method(AMQP_TX_SELECT);
    heard("1 confirm.select-ok\n1 channel.close 406 \"PRECONDITION_FAILED - cannot switch from confirm to tx mode\" 90 10\n");
    peer_close(peer);
    peer_open_running(peer, false);
    text_method(AMQP_TX_COMMIT);
    heard("1 channel.close 406 \"PRECONDITION_FAILED - channel is not transactional\" 90 20\n");
    peer_close(peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_arrive_whole_however_they_are_cut),
        cmocka_unit_test(contents_of_several_channels_may_be_interleaved),
        cmocka_unit_test(bad_publishes_close_what_they_must),
        cmocka_unit_test(frames_in_the_wrong_place_of_a_content),
        cmocka_unit_test(a_blocked_broker_makes_publishers_wait_and_tells_them),
        cmocka_unit_test(confirms_are_told_in_order_and_together),
        cmocka_unit_test(what_cannot_be_routed_is_returned_then_confirmed),
        cmocka_unit_test(a_transaction_commits_all_or_rolls_back_all),
        cmocka_unit_test(confirms_and_transactions_exclude_each_other),
    };
    return cmocka_run_group_tests(tests, open_peer, close_peer);
}
