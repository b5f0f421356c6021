/* Consuming, getting and settling, over a broker that only writes down what it is asked; whole and byte by byte. */
#include "protocol/amqp/story.h"

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

static void nack_after(uint64_t tag, uint64_t delay_ms)
{
    peer_send(peer, 1, AMQP_BASIC_NACK_AFTER, (struct amqp_value[]){amqp_number(tag), amqp_number(delay_ms)});
}

static void a_message_may_come_back_later(void **state)
{
    (void)state;
    BOTH_WAYS(pieces) {
        peer_open_running(peer, pieces);
        consume_well(false);
        for (uint64_t seq = 1; seq <= 3; seq++)
            deliver(seq, "m", false, false);
        peer_heard(peer);
        nack_after(2, 5000);
        nack_after(1, 0);
        said("credit 7/9 231\nrequeue 7 2+1 after 5000 ms\nrequeue 7 1+1 after 0 ms\n");
        nack_after(2, 1);
        heard("1 channel.close 406 \"PRECONDITION_FAILED - unknown delivery tag 2\" 60 130\n");
        peer_close(peer);
    }
    peer_open_running(peer, false);
    text_method(AMQP_TX_SELECT);
    heard("1 tx.select-ok\n");
    consume_well(false);
    deliver(1, "m", false, false);
    peer_heard(peer);
    nack_after(1, 5000);
    heard("0 connection.close 540 \"NOT_IMPLEMENTED - basic.nack-after in a transaction\" 60 130\n");
    peer_close(peer);
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

static void a_channels_limit_is_everybodys_but_no_gets(void **state)
{
    (void)state;
    struct amqp_value whole[] = {amqp_number(0), amqp_number(1), amqp_number(1)};
    struct amqp_value get[AMQP_BASIC_GET_COUNT] = {[AMQP_BASIC_GET_QUEUE] = amqp_text("q")};
    struct chunk *chunk;
    peer_open_running(peer, false);
    peer_send(peer, 1, AMQP_BASIC_QOS, whole);
    consume("q", "acks", false, true);
    fake_answer(&peer->fake, (struct reply){.queue = 7, .handle = 9});
    consume("q", "none", true, true);
    fake_answer(&peer->fake, (struct reply){.queue = 7, .handle = 10});
    peer_send(peer, 1, AMQP_BASIC_GET, get);
    struct delivery delivery = fake_delivery(&peer->fake, "x", "k", bytes_of_text("m"), &chunk);
    delivery.is_get = true;
    delivery.consumer = peer->fake.requests[peer->fake.first_request].tag;
    peer->fake.ops->deliver(peer->fake.client, &delivery);
    chunk_release(chunk, peer->fake.chunks);
    deliver(2, "m", false, false);
    said("consume q limited\nconsume q limited\nget q\n");
    for (uint32_t number = 0; number <= 1; number++) {
        delivery = fake_delivery(&peer->fake, "x", "k", bytes_of_text("m"), &chunk);
        delivery.consumer = number;
        delivery.seq = 3 + number;
        peer->fake.ops->deliver(peer->fake.client, &delivery);
        chunk_release(chunk, peer->fake.chunks);
    }
    said("refuse 7 3\nrefuse 7 4\n");
    settle(AMQP_BASIC_ACK, 1, false, false);
    said("ack 7 1+1\ncredit 7/9 77\n");
    /* One at a time, in turn; the others when that one has no message any more. */
    settle(AMQP_BASIC_ACK, 2, false, false);
    said("ack 7 2+1\nresume 7/10\n");
    assert_true(session_deadline(peer->session) == peer->now_us + 5000);
    session_tick(peer->session, peer->now_us + 5000);
    said("resume 7/9\n");
    assert_true(session_deadline(peer->session) > peer->now_us + 1000000);
    delivery = fake_delivery(&peer->fake, "x", "k", bytes_of_text("m"), &chunk);
    delivery.consumer = 1;
    delivery.seq = 5;
    peer->fake.ops->deliver(peer->fake.client, &delivery);
    chunk_release(chunk, peer->fake.chunks);
    said("ack 7 5+1\n");
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
        said("closed 7 1+1\n");
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
    said("declare  auto-delete hidden\n");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_consumer_gets_its_messages_and_settles_them),
        cmocka_unit_test(a_message_may_come_back_later),
        cmocka_unit_test(a_message_needs_no_ack_when_none_is_wanted),
        cmocka_unit_test(a_large_body_is_sent_from_where_it_lies),
        cmocka_unit_test(what_the_peer_does_not_take_stops_the_credit),
        cmocka_unit_test(prefetch_is_the_consumers_or_the_channels),
        cmocka_unit_test(a_channels_limit_is_everybodys_but_no_gets),
        cmocka_unit_test(consumers_end_in_three_ways),
        cmocka_unit_test(a_consumer_tag_is_used_once),
        cmocka_unit_test(a_get_is_answered_with_a_message_or_without),
        cmocka_unit_test(recovering_gives_everything_back),
        cmocka_unit_test(replies_come_directly),
    };
    return cmocka_run_group_tests(tests, open_peer, close_peer);
}
