#include "base/base64.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(base64_is_decoded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
