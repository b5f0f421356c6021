#include "broker/users.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)

static bool matches(enum password_hash hash, const uint8_t *secret, size_t size, const char *password)
{
    const struct user user = {.hash = hash, .secret = bytes_of(secret, size)};
    return secret_matches(&user, TEXT(password));
}

/* The published example of RabbitMQ's hashes: test12 with the salt 908DC60A. */
static void a_hash_that_rabbitmq_made_is_understood(void **state)
{
    (void)state;
    static const uint8_t secret[36] = {0x90, 0x8d, 0xc6, 0x0a, 0xa5, 0xb9, 0x24, 0xb3, 0x09, 0x6b, 0x88, 0x97, 0xd6, 0x5a, 0x3b, 0x5f,
                                       0x80, 0xfa, 0x5d, 0xb6, 0x2a, 0x94, 0xb8, 0x31, 0x22, 0xcd, 0xf4, 0xf8, 0xfe, 0xad, 0x10, 0xd5,
                                       0x15, 0xd8, 0xf3, 0x91};
    uint8_t made[SECRET_SIZE];
    assert_true(secret_make(secret, TEXT("test12"), made));
    assert_memory_equal(made, secret, sizeof(secret));
    assert_true(matches(HASH_SHA256, made, sizeof(made), "test12"));
    assert_false(matches(HASH_SHA256, made, sizeof(made), "test13"));
    assert_false(matches(HASH_SHA512, made, sizeof(made), "test12"));
}

/* Made with another program: md5 and sha512 of the bytes 01 02 03 04 and "secret". */
static void older_and_longer_hashes_are_understood(void **state)
{
    (void)state;
    static const uint8_t md5[] = {1, 2, 3, 4, 0x38, 0x24, 0xf5, 0xc8, 0xbc, 0x2d, 0xf8, 0x7a, 0x08, 0xa1, 0x3d, 0x63, 0x40, 0x14, 0x7e, 0x65};
    static const uint8_t sha512[] = {1, 2, 3, 4, 0xf8, 0x53, 0x1f, 0x62, 0xf9, 0x1c, 0x66, 0x01, 0xd4, 0xb5, 0x8e, 0xae, 0x7f, 0x98, 0xa6, 0xfb,
                                              0x90, 0x99, 0x53, 0x97, 0x28, 0x6a, 0xa0, 0xb2, 0xe8, 0x89, 0x44, 0x86, 0x53, 0x20, 0xb4, 0x68,
                                              0x12, 0xf6, 0xe5, 0x48, 0x9a, 0x3f, 0x58, 0x0b, 0x32, 0x9b, 0x72, 0x19, 0x4d, 0xfb, 0x9a, 0x21,
                                              0xa2, 0xb9, 0x29, 0x1d, 0xa8, 0xe4, 0xac, 0x05, 0x7d, 0x3b, 0xfa, 0x2a, 0xcc, 0x5f, 0x30, 0x81};
    assert_true(matches(HASH_MD5, md5, sizeof(md5), "secret"));
    assert_false(matches(HASH_MD5, md5, sizeof(md5), "Secret"));
    assert_true(matches(HASH_SHA512, sha512, sizeof(sha512), "secret"));
    assert_false(matches(HASH_SHA512, sha512, sizeof(sha512) - 1, "secret"));
}

static void nobody_logs_in_without_a_password(void **state)
{
    (void)state;
    static const uint8_t salt[4] = {1, 2, 3, 4};
    uint8_t made[SECRET_SIZE];
    assert_true(secret_make(salt, TEXT(""), made));
    assert_false(matches(HASH_SHA256, made, sizeof(made), ""));
    assert_false(matches(HASH_SHA256, NULL, 0, ""));
    assert_false(matches(HASH_SHA256, NULL, 0, "x"));
    assert_false(matches(HASH_SHA256, salt, 4, "x"));
    assert_false(secret_matches(NULL, TEXT("x")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hash_that_rabbitmq_made_is_understood),
        cmocka_unit_test(older_and_longer_hashes_are_understood),
        cmocka_unit_test(nobody_logs_in_without_a_password),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
