/* Tokens' texts, and what is kept of them. */
#include "protocol/token/token.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define HASH "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"   /* of "hello" */

static void a_text_is_made_and_read(void **state)
{
    (void)state;
    uint8_t random[TOKEN_RANDOM_SIZE];
    char text[TOKEN_SIZE + 1], hash[TOKEN_HASH_SIZE + 1];
    struct bytes id;
    for (unsigned i = 0; i < sizeof(random); i++)
        random[i] = (uint8_t)(i * 7);
    token_make(random, text);
    assert_string_equal(text, "gwt_00070e151c232a31_383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9e0e7eef5fc030a11");
    assert_true(token_read(bytes_of_text(text), &id));
    assert_memory_equal(id.data, "00070e151c232a31", id.size);
    for (unsigned i = 0; i < TOKEN_SIZE; i++) {
        char other = text[i];
        text[i] = 'G';
        assert_false(token_read(bytes_of_text(text), &id));
        text[i] = other;
    }
    assert_false(token_read(bytes_of(text, TOKEN_SIZE - 1), &id));
    assert_false(token_read((struct bytes){0}, &id));
    assert_true(token_hash(bytes_of_text("hello"), hash));
    assert_string_equal(hash, HASH);
}

static void what_is_kept_is_read_again(void **state)
{
    (void)state;
    const struct token_grant all = {.user = bytes_of_text("alice"), .hash = bytes_of_text(HASH), .expires_ms = 1234567890123, .restricted = true,
                                    .write = bytes_of_text("^orders"), .description = bytes_of_text("the till")};
    const struct token_grant few = {.user = bytes_of_text("bob"), .hash = bytes_of_text(HASH)};
    struct token_grant read;
    char *text = token_grant_write(&all);
    assert_string_equal(text, "{\"user\":\"alice\",\"hash\":\"" HASH "\",\"expires\":1234567890123,\"description\":\"the till\","
                              "\"permissions\":{\"configure\":\"\",\"write\":\"^orders\",\"read\":\"\"}}");
    assert_true(token_grant_read(bytes_of_text(text), &read));
    assert_true(read.restricted && read.expires_ms == all.expires_ms && bytes_equal(read.user, all.user) && bytes_equal(read.write, all.write) && !read.read.size);
    assert_true(token_matches(&read, bytes_of_text("hello")));
    assert_false(token_matches(&read, bytes_of_text("hellp")));
    token_grant_deinit(&read);
    free(text);
    text = token_grant_write(&few);
    assert_true(token_grant_read(bytes_of_text(text), &read));
    assert_true(!read.restricted && !read.expires_ms);
    token_grant_deinit(&read);
    free(text);
    char time[TOKEN_TIME_SIZE];
    assert_string_equal(token_time(1234567890123, time), "2009-02-13T23:31:30Z");
    assert_string_equal(token_time(1709210096000, time), "2024-02-29T12:34:56Z");
    assert_string_equal(token_time(946684799000, time), "1999-12-31T23:59:59Z");
    assert_null(token_grant_write(&(struct token_grant){.user = bytes_of_text("\xff"), .hash = bytes_of_text(HASH)}));
}

static void what_makes_no_sense_is_none(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "[]", "{}", "{\"user\":\"a\"}", "{\"user\":\"\",\"hash\":\"" HASH "\"}", "{\"user\":1,\"hash\":\"" HASH "\"}", "{\"user\":\"a\",\"hash\":\"12\"}",
        "{\"user\":\"a\",\"hash\":\"" HASH "\",\"expires\":0}", "{\"user\":\"a\",\"hash\":\"" HASH "\",\"expires\":\"1\"}",
        "{\"user\":\"a\",\"hash\":\"" HASH "\",\"permissions\":1}", "{\"user\":\"a\",\"hash\":\"" HASH "\",\"permissions\":{\"read\":1}}",
        "{\"user\":\"a\",\"user\":\"b\",\"hash\":\"" HASH "\"}"};
    struct token_grant read;
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_false(token_grant_read(bytes_of_text(texts[i]), &read));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_is_made_and_read), cmocka_unit_test(what_is_kept_is_read_again), cmocka_unit_test(what_makes_no_sense_is_none)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
