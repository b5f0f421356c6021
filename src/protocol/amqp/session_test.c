/* Channels, requests, publishing, consuming and settling over a broker that only writes down what it is asked, whole and byte by byte. */
#include "protocol/amqp/peer.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct peer *peer;

static int open_peer(void **state)
{
    (void)state;
    peer = malloc(sizeof(*peer));
    return peer ? 0 : -1;
}

static int close_peer(void **state)
{
    (void)state;
    free(peer);
    return 0;
}

/* Runs what follows twice: fed in one piece and byte by byte. */
#define BOTH_WAYS(pieces) for (int pieces = 0; pieces < 2; pieces++)

#define heard(text) assert_string_equal(peer_heard(peer), text)
#define said(text) assert_string_equal(fake_said(&peer->fake), text)

static void declare(const char *name, bool passive, bool durable, bool exclusive, bool no_wait)
{
    struct amqp_value values[AMQP_QUEUE_DECLARE_COUNT] = {
        [AMQP_QUEUE_DECLARE_QUEUE] = amqp_text(name), [AMQP_QUEUE_DECLARE_PASSIVE] = amqp_number(passive),
        [AMQP_QUEUE_DECLARE_DURABLE] = amqp_number(durable), [AMQP_QUEUE_DECLARE_EXCLUSIVE] = amqp_number(exclusive),
        [AMQP_QUEUE_DECLARE_NO_WAIT] = amqp_number(no_wait)};
    peer_send(peer, 1, AMQP_QUEUE_DECLARE, values);
}

static void declared(const char *name, uint32_t messages, uint32_t consumers)
{
    fake_answer(&peer->fake, (struct reply){.name = bytes_of_text(name), .messages = messages, .consumers = consumers});
}

static void consume(const char *queue, const char *tag, bool no_ack, bool no_wait)
{
    struct amqp_value values[AMQP_BASIC_CONSUME_COUNT] = {
        [AMQP_BASIC_CONSUME_QUEUE] = amqp_text(queue), [AMQP_BASIC_CONSUME_CONSUMER_TAG] = amqp_text(tag),
        [AMQP_BASIC_CONSUME_NO_ACK] = amqp_number(no_ack), [AMQP_BASIC_CONSUME_NO_WAIT] = amqp_number(no_wait)};
    peer_send(peer, 1, AMQP_BASIC_CONSUME, values);
}

/* A consumer of queue 7 with handle 9 and tag "t". */
static void consume_well(bool no_ack)
{
    consume("q", "t", no_ack, false);
    fake_answer(&peer->fake, (struct reply){.queue = 7, .handle = 9});
    peer_heard(peer);
    fake_said(&peer->fake);
}

static void deliver(uint64_t seq, const char *body, bool no_ack, bool redelivered)
{
    struct chunk *chunk;
    struct delivery delivery = fake_delivery(&peer->fake, "x", "key", bytes_of_text(body), &chunk);
    delivery.seq = seq;
    delivery.no_ack = no_ack;
    delivery.redelivered = redelivered;
    peer->fake.ops->deliver(peer->fake.client, &delivery);
    chunk_release(chunk, peer->fake.chunks);
}

static void settle(enum amqp_method_id id, uint64_t tag, bool first, bool second)
{
    struct amqp_value values[] = {amqp_number(tag), amqp_number(first), amqp_number(second)};
    peer_send(peer, 1, id, values);
}

static void text_method(enum amqp_method_id id)
{
    struct amqp_value values[AMQP_ARGUMENTS_MAX] = {{.number = 0}};
    peer_send(peer, 1, id, values);
}

/* ---- channels ------------------------------------------------------------------------------------------------------------------------- */

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
    heard("0 connection.close 530 \"NOT_ALLOWED - number of channels opened (2047) has reached the negotiated channel_max (2047)\" 20 10\n");
    peer_close(peer);
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
        said("cancel 7/9\nrequeue 7 1+2\nundelivered 7 3+1\n");
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

/* ---- requests ---------------------------------------------------------------------------------------------------------------------------- */

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
    assert_true(session_finished(peer->session));
    peer_close(peer);
}

/* ---- publishing ------------------------------------------------------------------------------------------------------------------------------ */

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
        {"x", "\x02\0\x16" "amq.rabbitmq.reply-to", 24, 4, false, "0 connection.close 502 \"SYNTAX_ERROR - malformed content properties\" 60 40\n"},
        {"x", "\x02\0\x15" "amq.rabbitmq.reply-to", 24, 4, false, "1 channel.close 406 \"PRECONDITION_FAILED - fast reply consumer does not exist\" 60 40\n"},
        {"x", "\x80\0", 2, 4, false, "0 connection.close 502 \"SYNTAX_ERROR - malformed content properties\" 60 40\n"},
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
    static const uint8_t header[] = {0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0}, other_class[] = {0, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0};
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
        peer_send_frame(peer, AMQP_FRAME_HEADER, 1, header, sizeof(header));
        peer_send(peer, 1, AMQP_BASIC_PUBLISH, publish);
        heard("0 connection.close 505 \"UNEXPECTED_FRAME - expected content body, got non content body frame instead\" 60 40\n");
        said("abort\n");
        peer_close(peer);
        peer_open_running(peer, pieces);
        peer_send(peer, 1, AMQP_BASIC_PUBLISH, publish);
        peer_send_frame(peer, AMQP_FRAME_HEADER, 1, header, sizeof(header));
        peer_send_frame(peer, AMQP_FRAME_BODY, 1, "12345", 5);
        heard("0 connection.close 501 \"FRAME_ERROR - content body frame exceeds remaining content size\" 60 40\n");
        said("abort\n");
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

/* ---- confirms and transactions ------------------------------------------------------------------------------------------------------------------ */

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
    said("rollback\ncancel 7/9\nrequeue 7 2+1\n");
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

/* ---- consuming ------------------------------------------------------------------------------------------------------------------------------------ */

static void a_consumer_gets_its_messages_and_settles_them(void **state)
{
    (void)state;
    BOTH_WAYS(pieces) {
        peer_open_running(peer, pieces);
        consume("q", "t", false, false);
        said("consume q\n");
        fake_answer(&peer->fake, (struct reply){.queue = 7, .handle = 9});
        heard("1 basic.consume-ok \"t\"\n");
        deliver(1, "hello", false, false);
        deliver(2, "", false, true);
        heard("1 basic.deliver \"t\" 1 0 \"x\" \"key\"\n1 header 60 5\n1 body \"hello\"\n1 basic.deliver \"t\" 2 1 \"x\" \"key\"\n1 header 60 0\n");
        said("credit 7/9 157\n");
        for (uint64_t seq = 3; seq <= 10; seq++)
            deliver(seq, "m", false, false);
        peer_heard(peer);
        said("credit 7/9 616\n");
        settle(AMQP_BASIC_ACK, 2, true, false);
        settle(AMQP_BASIC_NACK, 4, true, true);
        settle(AMQP_BASIC_REJECT, 6, false, false);
        settle(AMQP_BASIC_ACK, 0, true, false);
        said("ack 7 1+2\nrequeue 7 3+2\ndiscard 7 6+1\nack 7 5+1\nack 7 7+4\n");
        settle(AMQP_BASIC_ACK, 0, true, false);
        settle(AMQP_BASIC_ACK, 6, false, false);
        heard("1 channel.close 406 \"PRECONDITION_FAILED - unknown delivery tag 6\" 60 80\n");
        said("cancel 7/9\n");
        peer_close(peer);
    }
}

static void a_message_needs_no_ack_when_none_is_wanted(void **state)
{
    (void)state;
    peer_open_running(peer, false);
    consume_well(true);
    deliver(1, "m", true, false);
    peer_heard(peer);
    settle(AMQP_BASIC_ACK, 1, false, false);
    heard("1 channel.close 406 \"PRECONDITION_FAILED - unknown delivery tag 1\" 60 80\n");
    peer_close(peer);
}

static void a_large_body_is_sent_from_where_it_lies(void **state)
{
    (void)state;
    static char body[300001];
    struct chunk *chunk;
    memset(body, 'b', sizeof(body) - 1);
    peer_open_running(peer, false);
    consume_well(false);
    struct delivery delivery = fake_delivery(&peer->fake, "x", "k", bytes_of_text(body), &chunk);
    peer->fake.ops->deliver(peer->fake.client, &delivery);
    assert_int_equal(atomic_load(&chunk->references), 4);
    chunk_release(chunk, peer->fake.chunks);
    heard("1 basic.deliver \"t\" 1 0 \"x\" \"k\"\n1 header 60 300000\n1 body of 131064 bytes\n1 body of 131064 bytes\n1 body of 37872 bytes\n");
    peer_close(peer);
}

static void what_the_peer_does_not_take_stops_the_credit(void **state)
{
    (void)state;
    static char body[4001];
    memset(body, 'b', sizeof(body) - 1);
    peer_open_running(peer, false);
    consume_well(false);
    for (uint64_t seq = 1; seq <= 300; seq++)
        deliver(seq, body, false, false);
    fake_turn(&peer->fake);
    said("");
    peer_heard(peer);
    said("credit 7/9 1222800\n");
    deliver(301, "m", false, false);
    fake_turn(&peer->fake);
    said("credit 7/9 77\n");
    peer_close(peer);
}

static void prefetch_is_the_consumers_or_the_channels(void **state)
{
    (void)state;
    struct amqp_value each[] = {amqp_number(0), amqp_number(3), amqp_number(0)}, whole[] = {amqp_number(0), amqp_number(2), amqp_number(1)};
    struct amqp_value bytes[] = {amqp_number(9), amqp_number(0), amqp_number(0)};
    peer_open_running(peer, false);
    peer_send(peer, 1, AMQP_BASIC_QOS, each);
    peer_send(peer, 1, AMQP_BASIC_QOS, whole);
    heard("1 basic.qos-ok\n1 basic.qos-ok\n");
    consume("q", "t", false, true);
    said("consume q limited prefetch 3\n");
    fake_answer(&peer->fake, (struct reply){.queue = 7, .handle = 9});
    for (uint64_t seq = 1; seq <= 3; seq++)
        deliver(seq, "m", false, false);
    peer_heard(peer);
    said("refuse 7 3\ncredit 7/9 154\n");
    settle(AMQP_BASIC_ACK, 1, false, false);
    said("ack 7 1+1\nresume 7/9\n");
    peer_heard(peer);
    peer_send(peer, 1, AMQP_BASIC_QOS, bytes);
    heard("0 connection.close 540 \"NOT_IMPLEMENTED - prefetch_size!=0 (9)\" 60 10\n");
    peer_close(peer);
}

static void consumers_end_in_three_ways(void **state)
{
    (void)state;
    struct amqp_value cancel[] = {amqp_text("t"), amqp_number(0)};
    BOTH_WAYS(pieces) {
        peer_open_running(peer, pieces);
        peer_send(peer, 1, AMQP_BASIC_CANCEL, cancel);
        heard("1 basic.cancel-ok \"t\"\n");
        consume_well(false);
        peer_send(peer, 1, AMQP_BASIC_CANCEL, cancel);
        deliver(1, "m", false, false);
        said("cancel 7/9\n");
        fake_answer(&peer->fake, (struct reply){0});
        heard("1 basic.deliver \"t\" 1 0 \"x\" \"key\"\n1 header 60 1\n1 body \"m\"\n1 basic.cancel-ok \"t\"\n");
        consume_well(false);
        peer->fake.ops->cancelled(peer->fake.client, 1, 0);
        heard("1 basic.cancel \"t\" 1\n");
        consume("q", "t", false, false);
        fake_said(&peer->fake);
        fake_answer(&peer->fake, (struct reply){.code = 403, .text = bytes_of_text("ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use")});
        heard("1 channel.close 403 \"ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use\" 60 20\n");
        said("requeue 7 1+1\n");
        peer_close(peer);
    }
}

static void a_consumer_tag_is_used_once(void **state)
{
    (void)state;
    peer_open_running(peer, false);
    consume_well(false);
    consume("r", "t", false, false);
    heard("0 connection.close 530 \"NOT_ALLOWED - attempt to reuse consumer tag 't'\" 60 20\n");
    peer_close(peer);
}

static void a_get_is_answered_with_a_message_or_without(void **state)
{
    (void)state;
    struct amqp_value get[AMQP_BASIC_GET_COUNT] = {[AMQP_BASIC_GET_QUEUE] = amqp_text("q")};
    BOTH_WAYS(pieces) {
        struct chunk *chunk;
        peer_open_running(peer, pieces);
        peer_send(peer, 1, AMQP_BASIC_GET, get);
        fake_answer(&peer->fake, (struct reply){.empty = true});
        heard("1 basic.get-empty \"\"\n");
        peer_send(peer, 1, AMQP_BASIC_GET, get);
        settle(AMQP_BASIC_ACK, 1, false, false);
        said("get q\nget q\n");
        struct delivery delivery = fake_delivery(&peer->fake, "x", "k", bytes_of_text("m"), &chunk);
        delivery.is_get = true;
        delivery.messages_left = 4;
        delivery.consumer = peer->fake.requests[peer->fake.first_request].tag;
        peer->fake.ops->deliver(peer->fake.client, &delivery);
        chunk_release(chunk, peer->fake.chunks);
        heard("1 basic.get-ok 1 0 \"x\" \"k\" 4\n1 header 60 1\n1 body \"m\"\n");
        said("ack 7 1+1\n");
        peer_close(peer);
    }
}

static void the_brokers_lists_are_got_as_messages(void **state)
{
    (void)state;
    struct amqp_value get[AMQP_BASIC_GET_COUNT] = {[AMQP_BASIC_GET_QUEUE] = amqp_text("amq.godwit.queues")};
    peer_open_running(peer, false);
    peer_send(peer, 1, AMQP_BASIC_GET, get);
    said("list queues\n");
    fake_answer(&peer->fake, (struct reply){.text = bytes_of_text("[]")});
    heard("1 basic.get-ok 1 0 \"\" \"\" 0\n1 header 60 2\n1 body \"[]\"\n");
    settle(AMQP_BASIC_ACK, 1, false, false);
    heard("");
    said("");
    peer_close(peer);
}

static void recovering_gives_everything_back(void **state)
{
    (void)state;
    struct amqp_value requeue[] = {amqp_number(1)}, same[] = {amqp_number(0)};
    peer_open_running(peer, false);
    consume_well(false);
    deliver(1, "m", false, false);
    peer_heard(peer);
    fake_said(&peer->fake);
    peer_send(peer, 1, AMQP_BASIC_RECOVER, requeue);
    said("requeue 7 1+1\n");
    heard("1 basic.recover-ok\n");
    peer_send(peer, 1, AMQP_BASIC_RECOVER, same);
    heard("0 connection.close 540 \"NOT_IMPLEMENTED - requeue=false\" 60 110\n");
    peer_close(peer);
}

static void replies_come_directly(void **state)
{
    (void)state;
    struct amqp_value publish[AMQP_BASIC_PUBLISH_COUNT] = {[AMQP_BASIC_PUBLISH_EXCHANGE] = amqp_text("x"), [AMQP_BASIC_PUBLISH_ROUTING_KEY] = amqp_text("k")};
    peer_open_running(peer, false);
    consume("amq.rabbitmq.reply-to", "t", true, false);
    said("declare  auto-delete\n");
    declared("amq.gen-7", 0, 0);
    said("consume amq.gen-7 exclusive no-ack\n");
    heard("");
    fake_answer(&peer->fake, (struct reply){.queue = 7, .handle = 9});
    heard("1 basic.consume-ok \"t\"\n");
    peer_send(peer, 1, AMQP_BASIC_PUBLISH, publish);
    peer_send_frame(peer, AMQP_FRAME_HEADER, 1, "\0\x3C\0\0\0\0\0\0\0\0\0\0\x02\0\x15" "amq.rabbitmq.reply-to", 36);
    said("publish x k \"\"\n");
    consume("amq.rabbitmq.reply-to", "u", true, false);
    heard("1 channel.close 406 \"PRECONDITION_FAILED - reply consumer already set\" 60 20\n");
    peer_close(peer);
}

/* ---- the end ------------------------------------------------------------------------------------------------------------------------------------- */

static void a_peer_that_vanishes_gives_back_what_it_held(void **state)
{
    (void)state;
    struct amqp_value publish[AMQP_BASIC_PUBLISH_COUNT] = {[AMQP_BASIC_PUBLISH_EXCHANGE] = amqp_text("x"), [AMQP_BASIC_PUBLISH_ROUTING_KEY] = amqp_text("k")};
    peer_open_running(peer, false);
    consume_well(false);
    for (uint64_t seq = 1; seq <= 200; seq++)
        deliver(seq, "m", false, false);
    peer_send(peer, 1, AMQP_BASIC_PUBLISH, publish);
    peer_send_frame(peer, AMQP_FRAME_HEADER, 1, "\0\x3C\0\0\0\0\0\0\0\0\0\4\0\0", 14);
    session_free(peer->session);
    said("credit 7/9 15400\nabort\nrequeue 7 1+200\ndetach\n");
    fake_close(&peer->fake);
    free(peer->received);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_channel_is_opened_once_and_before_all_else),
        cmocka_unit_test(channels_are_counted),
        cmocka_unit_test(a_channel_that_failed_listens_to_its_end_alone),
        cmocka_unit_test(closing_gives_back_and_waits_for_the_consumers),
        cmocka_unit_test(methods_of_servers_and_unknown_ones_are_invalid),
        cmocka_unit_test(topology_requests_follow_each_other_others_wait),
        cmocka_unit_test(an_empty_queue_name_is_the_one_declared_last),
        cmocka_unit_test(the_default_exchange_is_left_alone),
        cmocka_unit_test(exclusive_queues_are_gone_before_the_connection_is),
        cmocka_unit_test(messages_arrive_whole_however_they_are_cut),
        cmocka_unit_test(contents_of_several_channels_may_be_interleaved),
        cmocka_unit_test(bad_publishes_close_what_they_must),
        cmocka_unit_test(frames_in_the_wrong_place_of_a_content),
        cmocka_unit_test(a_blocked_broker_makes_publishers_wait_and_tells_them),
        cmocka_unit_test(confirms_are_told_in_order_and_together),
        cmocka_unit_test(what_cannot_be_routed_is_returned_then_confirmed),
        cmocka_unit_test(a_transaction_commits_all_or_rolls_back_all),
        cmocka_unit_test(confirms_and_transactions_exclude_each_other),
        cmocka_unit_test(a_consumer_gets_its_messages_and_settles_them),
        cmocka_unit_test(a_message_needs_no_ack_when_none_is_wanted),
        cmocka_unit_test(a_large_body_is_sent_from_where_it_lies),
        cmocka_unit_test(what_the_peer_does_not_take_stops_the_credit),
        cmocka_unit_test(prefetch_is_the_consumers_or_the_channels),
        cmocka_unit_test(consumers_end_in_three_ways),
        cmocka_unit_test(a_consumer_tag_is_used_once),
        cmocka_unit_test(a_get_is_answered_with_a_message_or_without),
        cmocka_unit_test(the_brokers_lists_are_got_as_messages),
        cmocka_unit_test(recovering_gives_everything_back),
        cmocka_unit_test(replies_come_directly),
        cmocka_unit_test(a_peer_that_vanishes_gives_back_what_it_held),
    };
    return cmocka_run_group_tests(tests, open_peer, close_peer);
}
