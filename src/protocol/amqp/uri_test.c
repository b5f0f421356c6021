#include "protocol/amqp/uri.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static void expect(const char *text, const char *user, const char *password, const char *host, unsigned port, const char *vhost)
{
    struct uri uri;
    const char *complaint;
    assert_int_equal(uri_parse(&uri, text, &complaint), GW_OK);
    assert_null(complaint);
    assert_string_equal(uri.user, user);
    assert_string_equal(uri.password, password);
    assert_string_equal(uri.host, host);
    assert_int_equal(uri.port, port);
    assert_string_equal(uri.vhost, vhost);
}

static void whole_and_partial_uris_are_understood(void **state)
{
    (void)state;
    expect("amqp://user:pass@host:10000/vhost", "user", "pass", "host", 10000, "vhost");
    expect("amqp://user%61:%61pass@ho%61st:10000/v%2fhost", "usera", "apass", "hoast", 10000, "v/host");
    expect("amqp://", "guest", "guest", "localhost", 5672, "/");
    expect("amqp://user@", "user", "guest", "localhost", 5672, "/");
    expect("amqp://user:@", "user", "", "localhost", 5672, "/");
    expect("AMQP://host", "guest", "guest", "host", 5672, "/");
    expect("amqp://:10000", "guest", "guest", "localhost", 10000, "/");
    expect("amqp:///vhost", "guest", "guest", "localhost", 5672, "vhost");
    expect("amqp://host/", "guest", "guest", "host", 5672, "/");
    expect("amqp://host/%2f", "guest", "guest", "host", 5672, "/");
    expect("amqp://[::1]", "guest", "guest", "::1", 5672, "/");
    expect("amqp://a:b@[::1]:5679/x?heartbeat=5", "a", "b", "::1", 5679, "x");
    expect("amqp://mail@home:secret@host", "mail@home", "secret", "host", 5672, "/");
    expect("localhost:5679", "guest", "guest", "localhost", 5679, "/");
    expect("", "guest", "guest", "localhost", 5672, "/");
}

static void parameters_are_read(void **state)
{
    (void)state;
    struct uri uri;
    const char *complaint;
    assert_int_equal(uri_parse(&uri, "amqp://h/v?heartbeat=7&connection_timeout=250", &complaint), GW_OK);
    assert_int_equal(uri.heartbeat_s, 7);
    assert_int_equal(uri.connection_timeout_ms, 250);
    assert_int_equal(uri_parse(&uri, "amqp://h?heartbeat=0", &complaint), GW_OK);
    assert_int_equal(uri.heartbeat_s, 0);
    assert_int_equal(uri.connection_timeout_ms, 10000);
}

static void tls_is_for_those_who_speak_it(void **state)
{
    (void)state;
    struct uri uri;
    const char *complaint;
    assert_int_equal(uri_parse(&uri, "amqps://u:p@h/v", &complaint), GW_OK);
    assert_true(uri.tls);
    assert_int_equal(uri.port, 5671);
    assert_int_equal(uri_parse(&uri, "AMQPS://h:5679", &complaint), GW_OK);
    assert_int_equal(uri.port, 5679);
    assert_true(!uri.ca[0] && !uri.trusts_anybody);
    assert_int_equal(uri_parse(&uri, "amqps://h?cacertfile=%2Fetc/ca.pem&verify=verify_none&heartbeat=5", &complaint), GW_OK);
    assert_string_equal(uri.ca, "/etc/ca.pem");
    assert_true(uri.trusts_anybody && uri.heartbeat_s == 5);
    assert_int_equal(uri_parse(&uri, "amqps://h?verify=verify_peer", &complaint), GW_OK);
    assert_false(uri.trusts_anybody);
    assert_int_equal(uri_parse(&uri, "amqp://h", &complaint), GW_OK);
    assert_false(uri.tls);
    assert_int_equal(uri_parse(&uri, "amqpx://h", &complaint), GW_ERR_INVALID);
}

static void what_is_wrong_is_said(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "http://host", "amqps://host?verify=x", "amqps://host?cacertfile=%00", "amqp://host:0", "amqp://host:65536", "amqp://host:12x", "amqp://host:",
        "amqp://[::1", "amqp://[]", "amqp://[::1]x", "amqp://h/a/b", "amqp://h/%2", "amqp://h/%zz", "amqp://h/%00",
        "amqp://u%0:p@h", "amqp://h?heartbeat=", "amqp://h?heartbeat=-1", "amqp://h?heartbeat=99999", "amqp://h?x=1",
        "amqp://h?connection_timeout=0",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct uri uri;
        const char *complaint = NULL;
        if (uri_parse(&uri, bad[i], &complaint) != GW_ERR_INVALID)
            fail_msg("%s was accepted", bad[i]);
        assert_non_null(complaint);
    }
    char text[400] = "amqp://h/";
    memset(text + 9, 'v', 255);
    struct uri uri;
    const char *complaint;
    assert_int_equal(uri_parse(&uri, text, &complaint), GW_OK);
    text[9 + 255] = 'v';
    assert_int_equal(uri_parse(&uri, text, &complaint), GW_ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_and_partial_uris_are_understood),
        cmocka_unit_test(parameters_are_read),
        cmocka_unit_test(tls_is_for_those_who_speak_it),
        cmocka_unit_test(what_is_wrong_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
