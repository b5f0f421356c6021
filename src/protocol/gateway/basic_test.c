#include "protocol/gateway/basic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void base64_is_decoded(void **state)
{
    (void)state;
    static const struct { const char *text, *is; } cases[] = {   /* RFC 4648 section 10 */
        {"", ""}, {"Zg==", "f"}, {"Zm8=", "fo"}, {"Zm9v", "foo"}, {"Zm9vYg==", "foob"}, {"Zm9vYmE=", "fooba"}, {"Zm9vYmFy", "foobar"}, {"+/+/", "\xfb\xff\xbf"}};
    static const char *const bad[] = {"Z", "Zg", "Zg=", "Z===", "====", "Zg==Zg==", "Zm9v\n", "Zm-v", "Zm=v"};
    uint8_t room[64];
    struct bytes out;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_true(base64_decode(bytes_of_text(cases[i].text), room, &out));
        assert_true(bytes_equal(out, bytes_of_text(cases[i].is)));
        char text[32];
        base64_encode(out, text);
        assert_string_equal(text, cases[i].text);
    }
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(base64_decode(bytes_of_text(bad[i]), room, &out));
}

static void credentials_are_read(void **state)
{
    (void)state;
    uint8_t room[BASIC_MAX];
    struct bytes user, password;
    assert_true(basic_read(bytes_of_text("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), room, &user, &password));   /* RFC 7617 section 2 */
    assert_true(bytes_equal(user, bytes_of_text("Aladdin")));
    assert_true(bytes_equal(password, bytes_of_text("open sesame")));
    assert_true(basic_read(bytes_of_text("bAsIc   YTpiOmM="), room, &user, &password));
    assert_true(bytes_equal(password, bytes_of_text("b:c")));
    assert_false(basic_read(bytes_of_text("Basic"), room, &user, &password));
    assert_false(basic_read(bytes_of_text("Basic YWJj"), room, &user, &password));
    assert_false(basic_read(bytes_of_text("Bearer YTpi"), room, &user, &password));
    char long_one[2000] = "Basic ";
    memset(long_one + 6, 'a', 1990);
    assert_false(basic_read(bytes_of_text(long_one), room, &user, &password));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(base64_is_decoded), cmocka_unit_test(credentials_are_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
