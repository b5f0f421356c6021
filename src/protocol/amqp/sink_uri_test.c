#include "protocol/amqp/sink_uri.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

static struct sink_uri read_one(const char *text)
{
    struct sink_uri sink;
    char why[SINK_URI_WHY_MAX] = "";
    assert_true(sink_uri_is(text));
    if (!sink_uri_read(text, &sink, why))
        fail_msg("%s: %s", text, why);
    return sink;
}

static void it_says_who_and_where(void **state)
{
    struct sink_uri sink = read_one("amqp://ann:s%2Fe@there.example:5679/a%2fb?exchange=orders%20x&heartbeat=7&routing_key=&verify=verify_none&mandatory=false");
    (void)state;
    assert_string_equal(sink.uri.user, "ann");
    assert_string_equal(sink.uri.password, "s/e");
    assert_string_equal(sink.uri.host, "there.example");
    assert_int_equal(sink.uri.port, 5679);
    assert_string_equal(sink.uri.vhost, "a/b");
    assert_int_equal(sink.uri.heartbeat_s, 7);
    assert_true(sink.uri.trusts_anybody);
    assert_string_equal(sink.exchange, "orders x");
    assert_true(sink.has_routing_key);
    assert_string_equal(sink.routing_key, "");
    assert_false(sink.is_mandatory);
    sink = read_one("AMQPS://[::1]");
    assert_true(sink.uri.tls);
    assert_int_equal(sink.uri.port, 5671);
    assert_string_equal(sink.uri.host, "::1");
    assert_string_equal(sink.exchange, "events");
    assert_false(sink.has_routing_key);
    assert_true(sink.is_mandatory);
    sink = read_one("amqp://there/?routing_key=jobs&exchange=");
    assert_string_equal(sink.exchange, "");
    assert_string_equal(sink.routing_key, "jobs");
    assert_string_equal(sink.uri.user, "guest");
}

static void what_is_wrong_is_said_without_the_password(void **state)
{
    static const struct { const char *text, *why; } cases[] = {
        {"http://there/", "amqp://"}, {"amqp:there", "amqp://"}, {"amqp://", "no host"}, {"amqp:///v", "no host"}, {"amqp://ann:sesame@", "no host"}, {"amqp://ann:sesame@:5672/", "no host"},
        {"amqp://ann:sesame@there/?exchange=", "needs a routing_key"}, {"amqp://ann:sesame@there/?exchange=%0", "exchange"}, {"amqp://ann:sesame@there/?routing_key=%zz", "routing_key"},
        {"amqp://ann:sesame@there/?mandatory=1", "mandatory"}, {"amqp://ann:sesame@there/?mandatory", "mandatory"}, {"amqp://ann:sesame@there/?queue=x", "only the parameters"},
        {"amqp://ann:sesame@there/?exchange=x&&verify=verify_peer", "only the parameters"}, {"amqp://ann:sesame@there/?exchangex=1", "only the parameters"},
        {"amqp://ann:sesame@there/?cacertfile=/etc/passwd", "webhook_ca"}, {"amqp://ann:sesame@there/?heartbeat=x", "heartbeat"}, {"amqp://ann:sesame@there:0/", "port"},
        {"amqp://ann:sesame@there/a/b", "%2F"}, {"amqp://ann:sesame@there/ x", "a space"}, {"amqp://ann:sesame@there/#x", "a fragment"}, {"amqp://ann:sesame@th\xc3\xa9re/", "ASCII"},
        {"amqp://ann:sesame@there/\\x", "a backslash"}};
    struct sink_uri sink;
    char why[SINK_URI_WHY_MAX], text[SINK_URI_SIZE_MAX + 64] = "amqp://ann:sesame@there/?routing_key=";
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        why[0] = 0;
        if (sink_uri_read(cases[i].text, &sink, why) || !strstr(why, cases[i].why) || strstr(why, "sesame"))
            fail_msg("%s: %s", cases[i].text, why);
    }
    size_t at = strlen(text);
    memset(text + at, 'k', 255);
    assert_true(sink_uri_read(text, &sink, why));
    assert_int_equal(strlen(sink.routing_key), 255);
    text[at + 255] = 'k';
    assert_false(sink_uri_read(text, &sink, why));
    memset(text + at, '&', SINK_URI_SIZE_MAX + 1 - at);
    assert_false(sink_uri_read(text, &sink, why));
    assert_non_null(strstr(why, "2048"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(it_says_who_and_where), cmocka_unit_test(what_is_wrong_is_said_without_the_password)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
