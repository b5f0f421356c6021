/* Visitors by address and by name: they are told apart, limited, forgotten when nothing of theirs is taken, and not before. */
#include "server/visitors.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct rate_limit two = {.count = 2, .period_us = 1000000};

static struct sockaddr_storage address(const char *text)
{
    struct sockaddr_storage made = {0};
    struct sockaddr_in *four = (struct sockaddr_in *)&made;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&made;
    made.ss_family = strchr(text, ':') ? AF_INET6 : AF_INET;
    assert_int_equal(inet_pton(made.ss_family, text, made.ss_family == AF_INET6 ? (void *)&six->sin6_addr : (void *)&four->sin_addr), 1);
    return made;
}

static struct visitor *from(struct visitors *v, const char *text, uint64_t now_us)
{
    struct sockaddr_storage made = address(text);
    return visitors_enter(v, (struct sockaddr *)&made, now_us);
}

static void neighbours_are_told_apart(void **state)
{
    (void)state;
    struct visitors *v = visitors_new(0, NULL);
    struct visitor *a = from(v, "192.0.2.1", 1), *b = from(v, "192.0.2.2", 1), *c = from(v, "2001:db8:1:2::1", 1), *d = from(v, "2001:db8:1:3::1", 1);
    assert_true(a && b && c && d && a != b && c != d);
    assert_ptr_equal(from(v, "192.0.2.1", 2), a);
    assert_ptr_equal(from(v, "2001:db8:1:2:ffff::9", 2), c);
    struct visitor *user = visitors_enter_user(v, bytes_of_text("alice"), 1);
    assert_ptr_equal(visitors_enter_user(v, bytes_of_text("alice"), 1), user);
    assert_int_equal(visitors_count(v), 5);
    for (unsigned i = 0; i < 2; i++) {
        visitors_leave(v, a, 3);
        visitors_leave(v, c, 3);
        visitors_leave(v, user, 3);
    }
    visitors_leave(v, b, 3);
    visitors_leave(v, d, 3);
    visitors_leave(v, NULL, 3);
    assert_int_equal(visitors_count(v), 0);
    visitors_free(v);
}

static void who_has_left_is_remembered_while_it_matters(void **state)
{
    (void)state;
    struct visitors *v = visitors_new(0, NULL);
    uint64_t wait_us;
    struct visitor *a = from(v, "192.0.2.1", 1);
    assert_true(rate_take(&a->rates.failures, &two, 1, &wait_us) && rate_take(&a->rates.failures, &two, 1, &wait_us));
    visitors_leave(v, a, 2);
    assert_ptr_equal(from(v, "192.0.2.1", 100), a);
    assert_false(rate_take(&a->rates.failures, &two, 100, &wait_us));
    visitors_leave(v, a, 2000000);
    assert_int_equal(visitors_count(v), 0);
    /* Many who came once are forgotten together. */
    for (unsigned i = 0; i < 5000; i++) {
        char text[32];
        snprintf(text, sizeof(text), "198.51.%u.%u", i / 250, i % 250 + 1);
        struct visitor *one = from(v, text, 3000000 + i * 1000);
        rate_take(&one->rates.requests, &two, 3000000 + i * 1000, &wait_us);
        visitors_leave(v, one, 3000000 + i * 1000);
    }
    assert_in_range(visitors_count(v), 500, 2500);
    visitors_free(v);
}

struct told {
    struct alarm_sink sink;
    unsigned count;
    char text[200];
};

static void on_alarm(struct alarm_sink *sink, enum alarm_level level, const char *text)
{
    struct told *told = (struct told *)sink;
    assert_int_equal(level, ALARM_WARNING);
    told->count++;
    snprintf(told->text, sizeof(told->text), "%s", text);
}

static void no_address_has_more_than_it_may(void **state)
{
    (void)state;
    struct told told = {.sink = {.raise = on_alarm}};
    struct visitors *v = visitors_new(2, &told.sink);
    struct visitor *a = from(v, "192.0.2.1", 1);
    assert_ptr_equal(from(v, "192.0.2.1", 1), a);
    for (unsigned i = 0; i < 3; i++)
        assert_null(from(v, "192.0.2.1", 2 + i));
    assert_int_equal(told.count, 1);
    assert_non_null(strstr(told.text, "192.0.2.1"));
    assert_non_null(from(v, "192.0.2.2", 2));
    visitors_leave(v, a, 3);
    assert_ptr_equal(from(v, "192.0.2.1", 4), a);
    /* Users are not addresses. */
    for (unsigned i = 0; i < 5; i++)
        assert_non_null(visitors_enter_user(v, bytes_of_text("alice"), 5));
    visitors_free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_are_told_apart), cmocka_unit_test(who_has_left_is_remembered_while_it_matters), cmocka_unit_test(no_address_has_more_than_it_may)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
