/* Processes of our own: what they write, how they end, and that none is left behind. */
#include "runtime/child.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static unsigned endings;
static void on_ended(struct child *child) { (void)child, endings++; }

static int start(struct child *child, const char *const *argv, int *output) { return child_start(child, (char *const *)(uintptr_t)argv, on_ended, output); }

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static void read_all(int output, char *text, size_t size)
{
    size_t read_ = 0;
    for (ssize_t count; read_ < size - 1 && (count = read(output, text + read_, size - 1 - read_)) > 0;)
        read_ += (size_t)count;
    text[read_] = 0;
    close(output);
}

static void what_it_writes_and_how_it_ends(void **state)
{
    (void)state;
    static const struct { const char *script, *written; int status, signal; } cases[] = {
        {"cat; echo $(ps -o pgid= -p $$) $$ | awk '{print $1 == $2}'; exit 7", "1\n", 7, 0},     /* no input; a group of its own */
        {"trap", "", 0, 0},                                                                      /* nothing of our signals */
        {"kill -9 $$", "", 0, SIGKILL},
    };
    uv_loop_t loop;
    uv_loop_init(&loop);
    signal(SIGUSR1, SIG_IGN);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct child child;
        int output;
        char text[100];
        endings = 0;
        assert_int_equal(child_init(&child, &loop), 0);
        assert_int_equal(start(&child, (const char *[]){"sh", "-c", cases[i].script, NULL}, &output), 0);
        assert_true(child.is_running);
        read_all(output, text, sizeof(text));
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_string_equal(text, cases[i].written);
        assert_int_equal(endings, 1);
        assert_false(child.is_running);
        assert_int_equal(child.status, cases[i].status);
        assert_int_equal(child.signal, cases[i].signal);
        uv_close((uv_handle_t *)&child.watcher, NULL);
        uv_run(&loop, UV_RUN_DEFAULT);
    }
    signal(SIGUSR1, SIG_DFL);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void what_cannot_be_started_leaves_nothing(void **state)
{
    (void)state;
    uv_loop_t loop;
    uv_loop_init(&loop);
    struct child child;
    int output = -1;
    assert_int_equal(child_init(&child, &loop), 0);
    unsigned before = open_descriptors();
    assert_int_equal(start(&child, (const char *[]){"/nowhere/program", NULL}, &output), UV_ENOENT);
    assert_int_equal(start(&child, (const char *[]){"/etc/passwd", NULL}, &output), UV_EACCES);
    assert_int_equal(child.pid, 0);
    assert_int_equal(waitpid(-1, NULL, 0), -1);
    /* With so many descriptors as there are, and each one more up to what it takes. */
    struct rlimit limit, little;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    unsigned failed = 0;
    for (little = limit, little.rlim_cur = 3; failed < 30; little.rlim_cur++) {
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &little), 0);
        int error = start(&child, (const char *[]){"true", NULL}, &output);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        if (!error)
            break;
        assert_int_equal(error, UV_EMFILE);
        assert_int_equal(open_descriptors(), before);
        failed++;
    }
    assert_in_range(failed, 5, 29);
    close(output);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_close((uv_handle_t *)&child.watcher, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* Whoever starts one may be killed at any instant: it ends, too. */
static void it_ends_with_who_started_it(void **state)
{
    (void)state;
    int told[2];
    assert_int_equal(pipe(told), 0);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);               /* so that it is ours to wait for */
    pid_t parent = fork();
    if (parent == 0) {
        uv_loop_t loop;
        struct child child;
        int output;
        if (uv_loop_init(&loop) == 0 && child_init(&child, &loop) == 0 && start(&child, (const char *[]){"sleep", "300", NULL}, &output) == 0 &&
            write(told[1], &child.pid, sizeof(child.pid)) == sizeof(child.pid))
            kill(getpid(), SIGKILL);
        _exit(1);
    }
    pid_t orphan = 0;
    int status = 0;
    assert_int_equal(read(told[0], &orphan, sizeof(orphan)), sizeof(orphan));
    assert_int_equal(waitpid(parent, &status, 0), parent);
    assert_int_equal(WTERMSIG(status), SIGKILL);
    alarm(30);                                                           /* it may not be waited for for ever */
    assert_int_equal(waitpid(orphan, &status, 0), orphan);
    alarm(0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    close(told[0]);
    close(told[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_it_writes_and_how_it_ends), cmocka_unit_test(what_cannot_be_started_leaves_nothing), cmocka_unit_test(it_ends_with_who_started_it)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
