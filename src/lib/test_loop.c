#include "lib/test_loop.h"

#include "base/err.h"

#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status, (void)kind, (void)walk;
    return remove(path);
}

void test_open_with(struct test_loop *test, const gw_open_options *options)
{
    if (!test->directory[0]) {
        snprintf(test->directory, sizeof(test->directory), "/tmp/godwit-lib-XXXX" "XX");
        CHECK(mkdtemp(test->directory));
    }
    test->loop = gw_loop_new();
    CHECK(test->loop);
    test->bus = gw_open(test->loop, test->directory, options);
    if (!test->bus)
        fprintf(stderr, "%s\n", gw_error(test->loop));
    CHECK(test->bus);
}

void test_open(struct test_loop *test) { test_open_with(test, NULL); }

void test_close(struct test_loop *test)
{
    if (test->bus)
        gw_close(test->bus, 0, NULL, NULL);
    gw_loop_free(test->loop);
    test->loop = NULL;
    test->bus = NULL;
}

void test_end(struct test_loop *test)
{
    if (test->loop)
        test_close(test);
    nftw(test->directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    test->directory[0] = 0;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void step(struct test_loop *test, uint64_t until_ms)
{
    int timeout = gw_loop_timeout_ms(test->loop);
    uint64_t left = until_ms - now_ms();
    struct pollfd descriptor = {.fd = gw_loop_fd(test->loop), .events = POLLIN};
    poll(&descriptor, 1, timeout < 0 || (uint64_t)timeout > left ? (int)left : timeout);
    CHECK(gw_loop_step(test->loop) >= 0);
}

void test_until(struct test_loop *test, bool (*done)(void *context), void *context)
{
    uint64_t until_ms = now_ms() + 10000;
    while (!done(context)) {
        CHECK(now_ms() < until_ms);
        step(test, until_ms);
    }
}

void test_for(struct test_loop *test, unsigned ms)
{
    for (uint64_t until_ms = now_ms() + ms; now_ms() < until_ms;)
        step(test, until_ms);
}
