/* Control requests, as a session carries them. */
#include "protocol/amqp/control.h"
#include "protocol/amqp/story.h"

/* reply-to "answers", correlation-id "c7" */
static const uint8_t properties[] = "\x06\0\x02" "c7\x07" "answers";
#define PROPERTIES bytes_of(properties, sizeof(properties) - 1)

static void ask(struct bytes list, const char *body, bool mandatory)
{
    uint8_t bytes[4096];
    size_t body_size = strlen(body);
    size_t size = amqp_publish_frame(bytes, sizeof(bytes), 1, bytes_of_text(""), bytes_of_text(CONTROL_KEY), mandatory);
    uint8_t *at = amqp_content_header_write(bytes + size, 1, body_size, list);
    at = amqp_frame_begin(at, AMQP_FRAME_BODY, 1, (uint32_t)body_size);
    memcpy(at, body, body_size);
    at += body_size;
    *at++ = AMQP_FRAME_END;
    peer_feed(peer, bytes, (size_t)(at - bytes));
}

static void a_request_is_asked_and_its_answer_published(void **state)
{
    (void)state;
    BOTH_WAYS(pieces) {
        for (int mandatory = 0; mandatory < 2; mandatory++) {
            peer_open_running(peer, pieces);
            ask(PROPERTIES, "{}", mandatory);
            said("publish  amq.godwit.control \"{}\"\ncontrol  <- guest \n");
            assert_int_equal(peer->fake.releases, 1);
            fake_answer(&peer->fake, (struct reply){.text = bytes_of_text("{\"ok\":1}")});
            said("publish  answers \"{\"ok\":1}\"\n");
            heard("");
            peer_close(peer);
        }
    }
}

static void one_without_a_reply_to_is_done_and_not_answered(void **state)
{
    (void)state;
    peer_open_running(peer, false);
    ask(bytes_of("\0\0", 2), "{}", false);
    said("publish  amq.godwit.control \"{}\"\ncontrol  <- guest \n");
    fake_answer(&peer->fake, (struct reply){.text = bytes_of_text("{\"ok\":1}")});
    said("");
    peer_close(peer);
}

static void it_is_confirmed_at_once_and_never_returned(void **state)
{
    (void)state;
    peer_open_running(peer, false);
    text_method(AMQP_CONFIRM_SELECT);
    heard("1 confirm.select-ok\n");
    ask(PROPERTIES, "{}", true);
    fake_turn(&peer->fake);
    heard("1 basic.ack 1 0\n");
    peer_close(peer);
}

static void it_is_taken_while_publishers_are_blocked(void **state)
{
    (void)state;
    BOTH_WAYS(pieces) {
        peer_open_running(peer, pieces);
        peer->fake.ops->blocked(peer->fake.client, "low on disk");
        peer->fake.may_not_publish = true;
        ask(PROPERTIES, "{}", false);
        said("publish  amq.godwit.control \"{}\"\ncontrol  <- guest \n");
        assert_true(session_wants_input(peer->session));
        peer_close(peer);
    }
}

static void no_more_than_some_are_under_way(void **state)
{
    (void)state;
    peer_open_running(peer, false);
    for (unsigned i = 0; i < CONTROL_PENDING_MAX; i++)
        ask(PROPERTIES, "{}", false);
    fake_said(&peer->fake);
    ask(PROPERTIES, "{}", false);
    said("publish  amq.godwit.control \"{}\"\npublish  answers \"{\"error\":{\"code\":\"busy\",\"text\":\"too many requests at once\"}}\"\n");
    fake_answer(&peer->fake, (struct reply){.text = bytes_of_text("{\"ok\":1}")});
    fake_said(&peer->fake);
    ask(PROPERTIES, "{}", false);
    said("publish  amq.godwit.control \"{}\"\ncontrol  <- guest \n");
    peer_close(peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_asked_and_its_answer_published),
        cmocka_unit_test(one_without_a_reply_to_is_done_and_not_answered),
        cmocka_unit_test(it_is_confirmed_at_once_and_never_returned),
        cmocka_unit_test(it_is_taken_while_publishers_are_blocked),
        cmocka_unit_test(no_more_than_some_are_under_way),
    };
    return cmocka_run_group_tests(tests, open_peer, close_peer);
}
