#include "cli/body_source.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* A file with this content; the caller unlinks and frees the name. */
static char *make_file(const char *content, size_t size)
{
    char *name = strdup("/tmp/body_source_test-XXXXXX");
    assert_non_null(name);
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, size), (ssize_t)size);
    close(fd);
    return name;
}

static void remove_file(char *name)
{
    unlink(name);
    free(name);
}

static void expect_next(struct body_source *source, const char *text)
{
    struct bytes body;
    enum body_answer answer = body_source_next(source, &body);
    if (!text) {
        assert_int_equal(answer, BODY_END);
        assert_int_equal(body_source_next(source, &body), BODY_END);
        return;
    }
    assert_int_equal(answer, BODY_READY);
    if (!bytes_equal(body, bytes_of_text(text)))
        fail_msg("'%.*s' is not '%s'", (int)body.size, (const char *)body.data, text);
}

static void words_are_bodies(void **state)
{
    (void)state;
    static char one[] = "one", empty[] = "";
    char *words[] = {one, empty};
    struct body_source source;
    body_source_init(&source, BODY_WORDS, words, 2);
    expect_next(&source, "one");
    expect_next(&source, "");
    expect_next(&source, NULL);
    body_source_deinit(&source);
}

static void lines_of_files_are_bodies(void **state)
{
    (void)state;
    char *files[] = {make_file("a\n\nb", 4), make_file("", 0), make_file("c\n", 2)};
    struct body_source source;
    body_source_init(&source, BODY_LINES, files, 3);
    expect_next(&source, "a");
    expect_next(&source, "");
    expect_next(&source, "b");
    expect_next(&source, "c");
    expect_next(&source, NULL);
    body_source_deinit(&source);
    for (int i = 0; i < 3; i++)
        remove_file(files[i]);
}

static void whole_files_are_bodies(void **state)
{
    (void)state;
    char *files[] = {make_file("a\nb\n", 4), make_file("", 0), make_file("c", 1)};
    struct body_source source;
    body_source_init(&source, BODY_WHOLE, files, 3);
    expect_next(&source, "a\nb\n");
    expect_next(&source, "");
    expect_next(&source, "c");
    expect_next(&source, NULL);
    body_source_deinit(&source);
    for (int i = 0; i < 3; i++)
        remove_file(files[i]);
}

static void a_line_longer_than_a_read_is_whole(void **state)
{
    (void)state;
    size_t size = 300000;
    char *text = malloc(size + 1);
    assert_non_null(text);
    memset(text, 'x', size);
    text[size - 1] = text[100000] = '\n';
    text[size] = '\0';
    char *files[] = {make_file(text, size)};
    struct body_source source;
    struct bytes body;
    body_source_init(&source, BODY_LINES, files, 1);
    assert_int_equal(body_source_next(&source, &body), BODY_READY);
    assert_int_equal(body.size, 100000);
    assert_int_equal(body_source_next(&source, &body), BODY_READY);
    assert_int_equal(body.size, size - 100002);
    expect_next(&source, NULL);
    body_source_deinit(&source);
    remove_file(files[0]);
    free(text);
}

/* A pipe that has nothing yet must not block: confirms are to be read meanwhile. */
static void a_slow_pipe_is_waited_for_elsewhere(void **state)
{
    (void)state;
    int ends[2];
    char name[64];
    char *names[] = {name};
    struct body_source source;
    struct bytes body;
    assert_int_equal(pipe(ends), 0);
    snprintf(name, sizeof name, "/dev/fd/%d", ends[0]);
    body_source_init(&source, BODY_LINES, names, 1);
    assert_int_equal(write(ends[1], "a\nhal", 5), 5);
    expect_next(&source, "a");
    assert_int_equal(body_source_next(&source, &body), BODY_WAIT);
    assert_true(body_source_fd(&source) >= 0);
    assert_int_equal(write(ends[1], "f", 1), 1);
    assert_int_equal(body_source_next(&source, &body), BODY_WAIT);
    close(ends[1]);
    expect_next(&source, "half");
    expect_next(&source, NULL);
    body_source_deinit(&source);
    close(ends[0]);
}

static void a_missing_file_is_named(void **state)
{
    (void)state;
    static char name[] = "/nonexistent/file";
    char *names[] = {name};
    struct body_source source;
    struct bytes body;
    body_source_init(&source, BODY_WHOLE, names, 1);
    assert_int_equal(body_source_next(&source, &body), BODY_FAILED);
    assert_string_equal(body_source_complaint(&source), "/nonexistent/file: No such file or directory");
    body_source_deinit(&source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_bodies),
        cmocka_unit_test(lines_of_files_are_bodies),
        cmocka_unit_test(whole_files_are_bodies),
        cmocka_unit_test(a_line_longer_than_a_read_is_whole),
        cmocka_unit_test(a_slow_pipe_is_waited_for_elsewhere),
        cmocka_unit_test(a_missing_file_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
