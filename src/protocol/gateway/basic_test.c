#include "protocol/gateway/basic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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
    const struct CMUnitTest tests[] = {cmocka_unit_test(credentials_are_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
