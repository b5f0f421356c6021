/* Every allocation of a talk's fails in turn: nothing may crash or leak, and a talk that goes on has told all that it should. */
#include "base/test_malloc.h"
#include "client/talk_story.h"

#include <setjmp.h>
#include <stddef.h>
#include <cmocka.h>

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

static void feed(void)
{
    plan.armed = true;
    story_feed(&story, story.said_size / 2 + 1, 0);
    plan.armed = false;
}

/* False: the talk ended for want of memory, or refused to do something. */
static bool lives(void)
{
    struct amqp_value nothing[AMQP_ARGUMENTS_MAX] = {{{0}}};
    uint64_t number;
    plan.armed = true;
    if (!story_talk(&story))
        return false;
    say_welcome(&story);
    feed();
    plan.armed = true;
    struct talk_channel *channel = story_channel(&story);
    if (!channel || talk_confirm_select(channel) || talk_consume(channel, "q", "c", false, false, (struct bytes){0}, on_answered, &story))
        return false;
    for (unsigned i = 0; i < 70; i++) {
        if (talk_publish(channel, bytes_of_text(""), bytes_of_text("q"), false, bytes_of("\0\0", 2), bytes_of("body", 4), &number))
            return false;
        CHECK(number == i + 1);
    }
    say(&story, 1, AMQP_CHANNEL_OPEN_OK, nothing);
    say(&story, 1, AMQP_CONFIRM_SELECT_OK, NULL);
    say(&story, 1, AMQP_BASIC_CONSUME_OK, nothing);
    say_confirm(&story, 1, AMQP_BASIC_ACK, 70, true);
    for (unsigned i = 1; i <= 5; i++)
        say_delivery(&story, 1, "c", i, 3000 * (i % 3));
    feed();
    plan.armed = true;
    for (unsigned i = 0; i < 20 && talk_state(story.talk) == TALK_OPEN; i++) {
        if (talk_get(channel, "q", true, on_fetched, &story))
            return false;
    }
    if (talk_state(story.talk) == TALK_OPEN)
        talk_channel_close(channel);
    talk_close(story.talk, 0);
    say(&story, 0, AMQP_CONNECTION_CLOSE_OK, NULL);
    feed();
    return talk_end(story.talk) == TALK_END_GOODBYE;
}

static void each_allocation_fails_once(void **state)
{
    (void)state;
    for (unsigned nth = 1;; nth++) {
        memset(&story, 0, sizeof story);
        plan.until = nth;
        plan.failed = plan.armed = false;
        bool lived = lives();
        plan.armed = false;
        bool is_over = !plan.failed;
        assert_true(lived == !plan.failed);
        if (story.talk && talk_state(story.talk) == TALK_ENDED && plan.failed)
            assert_int_equal(talk_end(story.talk), TALK_END_MEMORY);
        talk_free(story.talk);
        if (is_over) {
            assert_true(nth > 10);
            return;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_allocation_fails_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
