#include "protocol/webhook/signature.h"
#include "protocol/webhook/url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define ID "msg_p5jXN8AQM9LWM0D4loKWxJek"
#define BODY "{\"test\": 2432232314}"
#define SIGNATURE "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

static struct bytes text(const char *text) { return bytes_of_text(text); }

static void the_specifications_example_is_signed(void **state)
{
    (void)state;
    struct webhook_secret secrets[2];
    char signature[SIGNATURE_MAX], again[SECRET_TEXT_MAX];
    assert_true(webhook_secret_read(text(SECRET), &secrets[0]));
    webhook_secret_write(secrets[0].key, secrets[0].size, again);
    assert_string_equal(again, SECRET);
    assert_true(webhook_sign(secrets, 1, text(ID), 1614265330, text(BODY), signature));
    assert_string_equal(signature, SIGNATURE);
    secrets[1] = secrets[0];
    assert_true(webhook_sign(secrets, 2, text(ID), 1614265330, text(BODY), signature));
    assert_string_equal(signature, SIGNATURE " " SIGNATURE);
}

static void signatures_are_verified(void **state)
{
    (void)state;
    const struct { const char *id, *time, *signature, *body; uint64_t now_s; enum webhook_verdict verdict; } cases[] = {
        {ID, "1614265330", SIGNATURE, BODY, 1614265330, WEBHOOK_GENUINE},
        {ID, "1614265330", "v1,AAAA v1a,xyz " SIGNATURE, BODY, 1614265330 + 300, WEBHOOK_GENUINE},
        {ID, "1614265330", SIGNATURE, BODY, 1614265330 - 300, WEBHOOK_GENUINE},
        {ID, "1614265330", SIGNATURE, BODY, 1614265330 + 301, WEBHOOK_STALE},
        {ID, "1614265330", SIGNATURE, BODY, 1614265330 - 301, WEBHOOK_STALE},
        {ID, "1614265330", SIGNATURE, "{\"test\": 2432232315}", 1614265330, WEBHOOK_FORGED},
        {ID "x", "1614265330", SIGNATURE, BODY, 1614265330, WEBHOOK_FORGED},
        {ID, "1614265331", SIGNATURE, BODY, 1614265330, WEBHOOK_FORGED},
        {ID, "1614265330", "v2" SIGNATURE, BODY, 1614265330, WEBHOOK_FORGED},
        {ID, "1614265330", SIGNATURE "=", BODY, 1614265330, WEBHOOK_FORGED},
        {ID, "1614265330", "", BODY, 1614265330, WEBHOOK_UNSIGNED},
        {ID, "", SIGNATURE, BODY, 1614265330, WEBHOOK_UNSIGNED},
        {ID, "16142653x0", SIGNATURE, BODY, 1614265330, WEBHOOK_UNSIGNED},
        {ID, "99999999999999999999", SIGNATURE, BODY, 1614265330, WEBHOOK_UNSIGNED},
        {"", "1614265330", SIGNATURE, BODY, 1614265330, WEBHOOK_UNSIGNED},
    };
    struct webhook_secret secret;
    assert_true(webhook_secret_read(text(SECRET), &secret));
    for (unsigned i = 0; i < COUNT(cases); i++)
        assert_int_equal(webhook_verify(&secret, text(cases[i].id), text(cases[i].time), text(cases[i].signature), text(cases[i].body), cases[i].now_s), cases[i].verdict);
}

static void secrets_that_are_none_are_refused(void **state)
{
    (void)state;
    const char *const bad[] = {"", "whsec_", "whsec_AAAA", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa w", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaL===",
                               "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
    struct webhook_secret secret;
    for (unsigned i = 0; i < COUNT(bad); i++)
        assert_false(webhook_secret_read(text(bad[i]), &secret));
    assert_true(webhook_secret_read(text("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAA=="), &secret));
    assert_int_equal(secret.size, 25);
}

static const char *refusal(const char *address, const struct ip_networks *allowed)
{
    struct ip_address read;
    if (!ip_address_read(text(address), &read))
        return "none";
    const char *why = ip_address_refusal(&read, allowed);
    return why ? why : "public";
}

static void addresses_are_judged(void **state)
{
    (void)state;
    const struct { const char *address, *is; } cases[] = {
        {"8.8.8.8", "public"}, {"1.1.1.1", "public"}, {"172.15.255.255", "public"}, {"172.32.0.0", "public"}, {"100.63.255.255", "public"}, {"100.128.0.0", "public"},
        {"223.255.255.255", "public"}, {"198.17.0.1", "public"}, {"198.20.0.1", "public"}, {"2606:4700::1", "public"}, {"2a00:1450:4001::200e", "public"},
        {"127.0.0.1", "loopback"}, {"127.255.255.254", "loopback"}, {"0.0.0.0", "unspecified"}, {"0.1.2.3", "unspecified"}, {"10.1.2.3", "private"},
        {"172.16.0.1", "private"}, {"172.31.255.255", "private"}, {"192.168.0.1", "private"}, {"169.254.169.254", "link-local"}, {"100.64.0.1", "shared (carrier-grade NAT)"},
        {"100.127.255.255", "shared (carrier-grade NAT)"}, {"224.0.0.1", "multicast"}, {"239.1.1.1", "multicast"}, {"240.0.0.1", "reserved"}, {"255.255.255.255", "reserved"},
        {"192.0.0.8", "special"}, {"192.0.2.1", "for documentation"}, {"198.19.0.1", "for benchmarks"}, {"198.51.100.7", "for documentation"}, {"203.0.113.9", "for documentation"},
        {"::", "unspecified"}, {"::1", "loopback"}, {"fe80::1", "link-local"}, {"febf::1", "link-local"}, {"fc00::1", "private"}, {"fd12::1", "private"}, {"fec0::1", "private"},
        {"ff02::1", "multicast"}, {"2001:db8::1", "for documentation"}, {"2001:0:1::1", "special"}, {"4000::1", "reserved"}, {"100::1", "reserved"}, {"3fff:0fff::1", "for documentation"},
        {"::ffff:127.0.0.1", "loopback"}, {"::ffff:7f00:1", "loopback"}, {"::ffff:10.0.0.1", "private"}, {"::ffff:8.8.8.8", "public"}, {"::127.0.0.1", "loopback"},
        {"::ffff:0:127.0.0.1", "loopback"}, {"64:ff9b::a9fe:a9fe", "link-local"}, {"64:ff9b::8.8.8.8", "public"}, {"64:ff9b:1::1", "private"}, {"2002:7f00:1::", "loopback"},
        {"2002:c0a8:1::1", "private"}, {"2002:808:808::1", "public"}, {"2606:4700::5efe:10.0.0.1", "private"}, {"2606:4700::200:5efe:7f00:1", "loopback"},
        {"127.1", "none"}, {"2130706433", "none"}, {"0x7f.0.0.1", "none"}, {"0177.0.0.1", "none"}, {"127.0.0.01", "none"}, {"127.0.0.1.", "none"}, {"256.1.1.1", "none"},
        {"1.2.3.4.5", "none"}, {"1..2.3", "none"}, {"", "none"}, {":", "none"}, {":::", "none"}, {"1::2::3", "none"}, {"fe80::1%eth0", "none"}, {"12345::", "none"},
        {"1:2:3:4:5:6:7", "none"}, {"1:2:3:4:5:6:7:8:9", "none"}, {"1:2:3:4:5:6:7:", "none"}, {"::1:2:3:4:5:6:7:8", "none"}, {"::1.2.3", "none"}, {"1:2:3:4:5:6:7:1.2.3.4", "none"},
        {"1:2:3:4:5:6:1.2.3.4", "reserved"}, {"2606:2:3:4:5:6:7:8", "public"}, {"::1:2:3:4:5:6:7", "reserved"},
    };
    const struct ip_networks nobody = {.count = 0};
    for (unsigned i = 0; i < COUNT(cases); i++) {
        if (strcmp(refusal(cases[i].address, &nobody), cases[i].is) != 0)
            fail_msg("%s is %s, not %s", cases[i].address, refusal(cases[i].address, &nobody), cases[i].is);
    }
}

static void networks_are_allowed(void **state)
{
    (void)state;
    struct ip_networks networks = {0};
    struct bytes wrong;
    assert_true(ip_networks_read(text("127.0.0.0/8, ::1,10.8.0.0/13 ,fd00::/8"), &networks, &wrong));
    assert_int_equal(networks.count, 4);
    assert_string_equal(refusal("127.0.0.1", &networks), "public");
    assert_string_equal(refusal("::1", &networks), "public");
    assert_string_equal(refusal("::ffff:127.0.0.1", &networks), "public");
    assert_string_equal(refusal("10.15.255.255", &networks), "public");
    assert_string_equal(refusal("10.16.0.0", &networks), "private");
    assert_string_equal(refusal("fd01::1", &networks), "public");
    assert_string_equal(refusal("fc01::1", &networks), "private");
    assert_true(ip_networks_read(text("0.0.0.0/0"), &networks, &wrong));
    assert_string_equal(refusal("192.168.1.1", &networks), "public");
    assert_string_equal(refusal("fe80::1", &networks), "link-local");
    const char *const bad[] = {"", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/1x", "::/129", "localhost", "10.0.0.0/8,", "1.2.3.4/0001"};
    for (unsigned i = 0; i < COUNT(bad); i++) {
        networks.count = 0;
        assert_false(ip_networks_read(text(bad[i]), &networks, &wrong));
    }
    networks.count = NETWORKS_MAX;
    assert_false(ip_networks_read(text("10.0.0.1"), &networks, &wrong));
}

static void urls_are_read(void **state)
{
    (void)state;
    const struct { const char *url, *host; unsigned port; bool is_tls, is_address; const char *target; } cases[] = {
        {"http://127.0.0.1:9000/hook", "127.0.0.1", 9000, false, true, "/hook"}, {"https://Example.COM", "example.com", 443, true, false, ""},
        {"HTTP://a-b.c_d.example./?q=1:2@3", "a-b.c_d.example.", 80, false, false, "/?q=1:2@3"}, {"https://[2001:db8::1]:8443/x", "2001:db8::1", 8443, true, true, "/x"},
        {"http://localhost?x", "localhost", 80, false, false, "?x"}, {"http://1.2.3.example/", "1.2.3.example", 80, false, false, "/"}, {"http://[::1]", "::1", 80, false, true, ""},
    };
    const char *const bad[] = {
        "", "ftp://host/", "http:/host", "http://", "http:///x", "http://user@host/", "http://user:secret@host/", "http://host:0/", "http://host:65536/", "http://host:/", "http://host:1x/",
        "http://host:000080/", "http://ho st/", "http://host/a b", "http://host/#fragment", "http://host\\@evil/", "http://h\xc3\xb6st/", "http://%31.1.1.1/", "http://2130706433/",
        "http://0x7f.1/", "http://127.1/", "http://0177.0.0.1/", "http://127.0.0.1./", "http://0x7f000001/", "http://127.0.0.0x1",
        "http://[::1/", "http://[]/", "http://[1.2.3.4]/", "http://[fe80::1%25eth0]/",
        "http://[::1]x/", "http://.host/", "http://a..b/", "http://host/\n", "http://host:80:90/", "javascript:alert(1)", "file:///etc/passwd",
    };
    struct sink_url url;
    char why[URL_WHY_MAX];
    for (unsigned i = 0; i < COUNT(cases); i++) {
        assert_true(sink_url_read(text(cases[i].url), &url, why));
        assert_string_equal(url.host, cases[i].host);
        assert_int_equal(url.port, cases[i].port);
        assert_int_equal(url.is_tls, cases[i].is_tls);
        assert_int_equal(url.is_address, cases[i].is_address);
        assert_true(bytes_equal(url.target, text(cases[i].target)));
    }
    for (unsigned i = 0; i < COUNT(bad); i++) {
        why[0] = 0;
        if (sink_url_read(text(bad[i]), &url, why))
            fail_msg("%s was taken", bad[i]);
        assert_memory_equal(why, "The URL ", 8);
    }
    char long_one[URL_SIZE_MAX + 2];
    memset(long_one, 'a', sizeof(long_one));
    memcpy(long_one, "http://a/", 9);
    assert_true(sink_url_read(bytes_of(long_one, URL_SIZE_MAX), &url, why));
    assert_false(sink_url_read(bytes_of(long_one, URL_SIZE_MAX + 1), &url, why));
    long_one[8] = 'a';
    assert_false(sink_url_read(bytes_of(long_one, 7 + URL_HOST_MAX + 1), &url, why));
    assert_true(sink_url_read(bytes_of(long_one, 7 + URL_HOST_MAX), &url, why));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_specifications_example_is_signed), cmocka_unit_test(signatures_are_verified), cmocka_unit_test(secrets_that_are_none_are_refused),
        cmocka_unit_test(addresses_are_judged), cmocka_unit_test(networks_are_allowed), cmocka_unit_test(urls_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
