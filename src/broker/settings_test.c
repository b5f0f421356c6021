#include "broker/settings.h"

#include "protocol/amqp/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NONE ((struct bytes){0})

struct story {
    uint8_t room[512];
    struct amqp_table_writer writer;
    struct queue_settings *settings;
};

static void begin(struct story *story)
{
    *story = (struct story){0};
    amqp_table_begin(&story->writer, story->room, sizeof(story->room));
}

static const struct queue_settings *made(struct story *story, const char *policy, const char *operator_policy)
{
    struct bytes arguments;
    assert_true(amqp_table_finish(&story->writer, &arguments));
    assert_int_equal(settings_make(arguments, bytes_of_text(policy), bytes_of_text(operator_policy), &story->settings), GW_OK);
    memset(story->room, 0xAA, sizeof(story->room));   /* nothing may point into it */
    return story->settings;
}

static void a_plain_queue_has_none(void **state)
{
    (void)state;
    struct story story;
    begin(&story);
    assert_null(made(&story, "", ""));
    begin(&story);
    amqp_table_put_int(&story.writer, "x-something", 1);
    amqp_table_put_text(&story.writer, "x-queue-type", bytes_of_text("classic"));
    assert_null(made(&story, "{\"ha-mode\":\"all\"}", "no JSON"));
}

static void of_numbers_the_lowest_counts(void **state)
{
    (void)state;
    struct story story;
    begin(&story);
    amqp_table_put_int(&story.writer, "x-message-ttl", 500);
    amqp_table_put_int(&story.writer, "x-max-length", 0);
    const struct queue_settings *settings = made(&story, "{\"message-ttl\":700,\"max-length\":5,\"expires\":900}", "{\"message-ttl\":400,\"expires\":1000}");
    assert_int_equal(settings->flags, SETTINGS_MESSAGE_TTL | SETTINGS_EXPIRES | SETTINGS_MAX_LENGTH | SETTINGS_STAMPED);
    assert_int_equal(settings->message_ttl_ms, 400);
    assert_int_equal(settings->max_length, 0);
    assert_int_equal(settings->expires_ms, 900);
    settings_free(story.settings);
}

static void a_classic_queue_prefers_its_arguments(void **state)
{
    (void)state;
    struct story story;
    begin(&story);
    amqp_table_put_text(&story.writer, "x-dead-letter-exchange", bytes_of_text("dlx"));
    amqp_table_put_text(&story.writer, "x-overflow", bytes_of_text("reject-publish-dlx"));
    const struct queue_settings *settings = made(&story, "{\"dead-letter-exchange\":\"other\",\"dead-letter-routing-key\":\"k\",\"overflow\":\"drop-head\","
                                                 "\"delivery-limit\":3}", "");
    assert_int_equal(settings->flags, SETTINGS_DEAD_LETTER | SETTINGS_DEAD_LETTER_KEY);
    assert_true(bytes_equal(settings->dead_letter_exchange, bytes_of_text("dlx")));
    assert_true(bytes_equal(settings->dead_letter_routing_key, bytes_of_text("k")));
    assert_int_equal(settings->overflow, OVERFLOW_REJECT_PUBLISH_DLX);
    settings_free(story.settings);
}

static void the_default_exchange_is_a_dead_letter_exchange_too(void **state)
{
    (void)state;
    struct story story;
    begin(&story);
    amqp_table_put_text(&story.writer, "x-dead-letter-exchange", bytes_of_text(""));
    assert_int_equal(made(&story, "", "")->flags, SETTINGS_DEAD_LETTER);
    settings_free(story.settings);
    begin(&story);
    assert_null(made(&story, "{\"dead-letter-routing-key\":\"k\"}", ""));
}

static void a_quorum_queue_prefers_its_policy(void **state)
{
    (void)state;
    struct story story;
    begin(&story);
    amqp_table_put_text(&story.writer, "x-queue-type", bytes_of_text("quorum"));
    amqp_table_put_int(&story.writer, "x-expires", 100);
    amqp_table_put_int(&story.writer, "x-delivery-limit", 7);
    amqp_table_put_int(&story.writer, "x-max-priority", 7);
    amqp_table_put_text(&story.writer, "x-overflow", bytes_of_text("drop-head"));
    amqp_table_put_text(&story.writer, "x-dead-letter-exchange", bytes_of_text("dlx"));
    amqp_table_put_text(&story.writer, "x-dead-letter-strategy", bytes_of_text("at-least-once"));
    const struct queue_settings *settings = made(&story, "{\"expires\":900,\"overflow\":\"reject-publish\",\"delivery-limit\":5}", "");
    assert_int_equal(settings->type, QUEUE_QUORUM);
    assert_int_equal(settings->flags, SETTINGS_EXPIRES | SETTINGS_DELIVERY_LIMIT | SETTINGS_DEAD_LETTER | SETTINGS_AT_LEAST_ONCE);
    assert_int_equal(settings->expires_ms, 900);
    assert_int_equal(settings->delivery_limit, 5);
    assert_int_equal(settings->overflow, OVERFLOW_REJECT_PUBLISH);
    settings_free(story.settings);
}

static void a_stream_knows_age_and_size(void **state)
{
    (void)state;
    struct story story;
    begin(&story);
    amqp_table_put_text(&story.writer, "x-queue-type", bytes_of_text("stream"));
    amqp_table_put_text(&story.writer, "x-max-age", bytes_of_text("2h"));
    amqp_table_put_long(&story.writer, "x-max-length-bytes", 1 << 20);
    amqp_table_put_int(&story.writer, "x-message-ttl", 5);
    const struct queue_settings *settings = made(&story, "{\"max-length-bytes\":5000000,\"stream-max-segment-size-bytes\":1000}", "");
    assert_int_equal(settings->flags, SETTINGS_MAX_AGE | SETTINGS_STAMPED | SETTINGS_MAX_LENGTH_BYTES | SETTINGS_SEGMENT_BYTES);
    assert_int_equal(settings->max_age_ms, 2 * 3600 * 1000);
    assert_int_equal(settings->max_length_bytes, 5000000);
    settings_free(story.settings);
}

static void ages(void **state)
{
    (void)state;
    static const struct { const char *text; uint64_t ms; } good[] = {
        {"1s", 1000}, {"2m", 120000}, {"1D", 86400000}, {"1M", 2592000000}, {"3Y", 94608000000},
    };
    static const char *const bad[] = {"", "5", "0s", "s", "1d", "1ss", "-1s", "99999999999999999999999Y"};
    uint64_t ms;
    for (unsigned i = 0; i < 5; i++) {
        assert_true(settings_parse_age(bytes_of_text(good[i].text), &ms));
        assert_int_equal(ms, good[i].ms);
    }
    for (unsigned i = 0; i < 8; i++)
        assert_false(settings_parse_age(bytes_of_text(bad[i]), &ms));
}

static void refused(const char *definition, bool is_operator, const char *expected)
{
    char why[512] = "";
    assert_false(settings_policy_valid(bytes_of_text(definition), is_operator, why, sizeof(why)));
    assert_string_equal(why, expected);
}

static void policies_are_checked(void **state)
{
    (void)state;
    char why[512];
    assert_true(settings_policy_valid(bytes_of_text("{\"message-ttl\":0,\"overflow\":\"reject-publish\",\"max-age\":\"5D\"}"), false, why, sizeof(why)));
    assert_true(settings_policy_valid(bytes_of_text("{\"max-length\":10}"), true, why, sizeof(why)));
    refused("{\"message-ttl\":-1}", false, "-1 is not a valid message TTL");
    refused("{\"expires\":0}", false, "0 is not a valid queue expiry");
    refused("{\"overflow\":\"drop\"}", false, "<<\"drop\">> is not a valid overflow value");
    refused("{\"max-age\":\"5d\"}", false, "<<\"5d\">> is not a valid max age");
    refused("{\"sideways\":1}", false, "[{<<\"sideways\">>,1}] are not recognised policy settings");
    refused("{\"dead-letter-exchange\":\"x\"}", true, "[{<<\"dead-letter-exchange\">>,<<\"x\">>}] are not recognised policy settings");
    refused("{}", false, "no policy provided");
    refused("[1]", false, "definition must be a dictionary");
}

static void policies_have_their_types_of_queues(void **state)
{
    (void)state;
    assert_true(settings_policy_applies(bytes_of_text("{\"max-length\":1}"), QUEUE_QUORUM));
    assert_false(settings_policy_applies(bytes_of_text("{\"max-length\":1}"), QUEUE_STREAM));
    assert_false(settings_policy_applies(bytes_of_text("{\"max-length\":1,\"delivery-limit\":1}"), QUEUE_CLASSIC));
    assert_true(settings_policy_applies(bytes_of_text("{\"max-age\":\"1D\"}"), QUEUE_STREAM));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_queue_has_none),
        cmocka_unit_test(of_numbers_the_lowest_counts),
        cmocka_unit_test(a_classic_queue_prefers_its_arguments),
        cmocka_unit_test(the_default_exchange_is_a_dead_letter_exchange_too),
        cmocka_unit_test(a_quorum_queue_prefers_its_policy),
        cmocka_unit_test(a_stream_knows_age_and_size),
        cmocka_unit_test(ages),
        cmocka_unit_test(policies_are_checked),
        cmocka_unit_test(policies_have_their_types_of_queues),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
