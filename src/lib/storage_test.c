/* A disk that fails under gw_open: what was confirmed is there afterwards, and of the rest it is told that it is not. The linker sends the library's writes here. */
#include "lib/test_loop.h"

#include "base/bytes.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_int failure;           /* an errno that writes and syncs answer with; 0: none. The disk has threads of its own */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t let_go = PTHREAD_COND_INITIALIZER;
static bool hangs;                   /* writes and syncs do not return; guarded by the mutex */

ssize_t __real_pwritev64v2(int file, const struct iovec *iov, int count, off_t offset, int flags);
ssize_t __real_pwritev64(int file, const struct iovec *iov, int count, off_t offset);
int __real_fdatasync(int file);
ssize_t __wrap_pwritev64v2(int file, const struct iovec *iov, int count, off_t offset, int flags);
ssize_t __wrap_pwritev64(int file, const struct iovec *iov, int count, off_t offset);
int __wrap_fdatasync(int file);

static void hang(bool begins)
{
    pthread_mutex_lock(&mutex);
    hangs = begins;
    pthread_cond_broadcast(&let_go);
    pthread_mutex_unlock(&mutex);
}

static bool fails(void)
{
    pthread_mutex_lock(&mutex);
    while (hangs)
        pthread_cond_wait(&let_go, &mutex);
    pthread_mutex_unlock(&mutex);
    errno = atomic_load(&failure);
    return errno != 0;
}

ssize_t __wrap_pwritev64v2(int file, const struct iovec *iov, int count, off_t offset, int flags) { return fails() ? -1 : __real_pwritev64v2(file, iov, count, offset, flags); }
ssize_t __wrap_pwritev64(int file, const struct iovec *iov, int count, off_t offset) { return fails() ? -1 : __real_pwritev64(file, iov, count, offset); }
int __wrap_fdatasync(int file) { return fails() ? -1 : __real_fdatasync(file); }

static const gw_open_options threads = {.without_uring = 1};

struct told {
    unsigned count;
    int result;
};

static void on_published(void *context, int result)
{
    struct told *told = context;
    told->count++;
    told->result = result;
}

static bool was_told(void *context) { return ((struct told *)context)->count > 0; }

static void on_event(gw_event *event, void *context)
{
    char *seen = context;
    strncat(seen, gw_event_data(event), gw_event_size(event));
    gw_event_ack(event);
}

static bool saw_both(void *context) { return strlen(context) == 2; }

/* A durable queue that gathers, and one event in it. */
static void begin(struct test_loop *test)
{
    char seen[8] = "";
    test_open_with(test, &threads);
    gw_off(gw_on(test->bus, "#", on_event, seen, &(gw_handler_options){.name = "q"}));
    assert_int_equal(gw_publish_wait(test->bus, "a", "1", 1, NULL, 5000), 0);
}

static void a_sync_that_failed_is_never_taken_for_done(void **state)
{
    struct test_loop test = {0};
    struct told told = {0};
    (void)state;
    begin(&test);
    atomic_store(&failure, EIO);
    assert_int_equal(gw_publish(test.bus, "a", "lost", 4, NULL, on_published, &told), 0);
    test_until(&test, was_told, &told);
    assert_int_equal(told.result, GW_E_STORAGE);
    /* It stays failed though the disk is well again. */
    atomic_store(&failure, 0);
    assert_int_equal(gw_publish(test.bus, "a", "x", 1, NULL, NULL, NULL), GW_E_STORAGE);
    assert_non_null(strstr(gw_error(test.loop), "the disk failed"));
    assert_int_equal(gw_publish_wait(test.bus, "a", "x", 1, NULL, 5000), GW_E_STORAGE);
    assert_null(gw_on(test.bus, "b", on_event, NULL, NULL));
    test_close(&test);
    char seen[8] = "";
    test_open_with(&test, &threads);
    gw_on(test.bus, "#", on_event, seen, &(gw_handler_options){.name = "q"});
    assert_int_equal(gw_publish_wait(test.bus, "a", "2", 1, NULL, 5000), 0);
    test_until(&test, saw_both, seen);
    assert_string_equal(seen, "12");
    test_end(&test);
}

static void one_that_is_waited_for_is_told_too(void **state)
{
    struct test_loop test = {0};
    (void)state;
    begin(&test);
    atomic_store(&failure, EIO);
    assert_int_equal(gw_publish_wait(test.bus, "a", "x", 1, NULL, 5000), GW_E_STORAGE);
    assert_non_null(strstr(gw_error(test.loop), "the event was not taken"));
    /* A directory on such a disk is not opened anew, and that is told. */
    test_close(&test);
    test.loop = gw_loop_new();
    assert_null(gw_open(test.loop, test.directory, &threads));
    assert_true(strlen(gw_error(test.loop)) > 20);
    assert_int_equal(gw_loop_run(test.loop), GW_E_STORAGE);
    atomic_store(&failure, 0);
    test_end(&test);
}

static void a_full_disk_is_told(void **state)
{
    struct test_loop test = {0};
    int result = 0;
    (void)state;
    begin(&test);
    atomic_store(&failure, ENOSPC);
    for (unsigned i = 0; i < 10 && !result; i++)
        result = gw_publish_wait(test.bus, "a", "x", 1, NULL, 5000);
    assert_true(result == GW_E_FULL || result == GW_E_STORAGE);
    atomic_store(&failure, 0);
    test_close(&test);
    char seen[8] = "";
    test_open_with(&test, &threads);
    gw_on(test.bus, "#", on_event, seen, &(gw_handler_options){.name = "q"});
    assert_int_equal(gw_publish_wait(test.bus, "a", "2", 1, NULL, 5000), 0);
    test_until(&test, saw_both, seen);
    assert_string_equal(seen, "12");
    test_end(&test);
}

/* ---- a disk that does not answer -------------------------------------------------------------------------------------------------------------- */

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void one_that_is_waited_for_is_waited_for_no_longer_than_was_said(void **state)
{
    struct test_loop test = {0};
    struct told told = {0};
    static char large[4 << 20];
    char seen[8] = "";
    (void)state;
    begin(&test);
    hang(true);
    uint64_t began_ms = now_ms();
    assert_int_equal(gw_publish_wait(test.bus, "a", "2", 1, NULL, 200), GW_E_TIMEOUT);
    assert_in_range(now_ms() - began_ms, 200, 2000);
    assert_string_equal(gw_error(test.loop), "the event was not confirmed within 200 ms");
    assert_int_equal(gw_publish_wait(test.bus, "a", "", 0, NULL, 0), GW_E_TIMEOUT);
    /* Where there is no room left to wait in, it is not published at all, whether it is waited for or not. */
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(gw_publish(test.bus, "b", large, sizeof(large), &(gw_publish_options){.id = "b"}, on_published, &told), 0);
    began_ms = now_ms();
    assert_int_equal(gw_publish_wait(test.bus, "a", "no", 2, NULL, 200), GW_E_AGAIN);
    assert_in_range(now_ms() - began_ms, 200, 2000);
    assert_non_null(strstr(gw_error(test.loop), "wait for the disk, as they did 2"));
    began_ms = now_ms();
    assert_int_equal(gw_publish(test.bus, "a", "no", 2, NULL, NULL, NULL), GW_E_AGAIN);
    assert_in_range(now_ms() - began_ms, 5000, 9000);
    hang(false);
    test_until(&test, was_told, &told);
    assert_int_equal(told.result, 0);
    gw_on(test.bus, "#", on_event, seen, &(gw_handler_options){.name = "q"});
    test_until(&test, saw_both, seen);
    assert_string_equal(seen, "12");
    test_end(&test);
}

struct closing {
    unsigned ticks, closed;
    int result;
    uint64_t ticked_ms, longest_ms;   /* between two ticks */
};

static void on_tick(gw_timer *timer, void *context)
{
    struct closing *closing = context;
    uint64_t ms = now_ms();
    (void)timer;
    closing->ticks++;
    if (closing->ticked_ms && ms - closing->ticked_ms > closing->longest_ms)
        closing->longest_ms = ms - closing->ticked_ms;
    closing->ticked_ms = ms;
}

static void on_closed(void *context, int result)
{
    struct closing *closing = context;
    closing->closed++;
    closing->result = result;
}

static bool ticked(void *context) { return ((struct closing *)context)->ticks >= 30; }
static bool closed_and_ticked(void *context) { return ((struct closing *)context)->closed && ((struct closing *)context)->ticks >= 10; }

/* What was published is waited for, and then what the end writes: the loop goes on with everything else. */
static void closing_leaves_the_loop_to_others(void **state)
{
    (void)state;
    for (unsigned way = 0; way < 2; way++) {
        struct test_loop test = {0};
        struct closing closing = {0};
        struct told told = {0};
        begin(&test);
        gw_timer *timer = gw_timer_start(test.loop, 10, 10, on_tick, &closing);
        if (way == 0) {
            hang(true);
            assert_int_equal(gw_publish(test.bus, "a", "2", 1, NULL, on_published, &told), 0);
        }
        assert_int_equal(gw_close(test.bus, 1000, on_closed, &closing), 0);
        test.bus = NULL;
        if (way == 1)
            hang(true);
        test_until(&test, ticked, &closing);
        assert_int_equal(closing.closed, 0);
        assert_int_equal(told.count, 0);
        hang(false);
        closing.ticks = 0;
        test_until(&test, closed_and_ticked, &closing);
        assert_int_equal(closing.result, 0);
        assert_int_equal(told.count, way == 0);
        assert_in_range(closing.longest_ms, 1, 500);
        gw_timer_stop(timer);
        char seen[8] = "";
        test_close(&test);
        test_open_with(&test, &threads);
        gw_on(test.bus, "#", on_event, seen, &(gw_handler_options){.name = "q"});
        if (way)
            assert_int_equal(gw_publish_wait(test.bus, "a", "2", 1, NULL, 5000), 0);
        test_until(&test, saw_both, seen);
        assert_string_equal(seen, "12");
        test_end(&test);
    }
}

static void count_result(void *context, int result)
{
    int *results = context;
    results[-result]++;
}

/* Really full, to the last byte, which nobody has seen coming: nothing spins meanwhile, and closing ends. */
static void a_bus_on_a_full_disk_can_be_closed(void **state)
{
    static char data[100000];
    int results[20] = {0}, published = 0;
    char directory[] = "/tmp/godwit-full-XXXXXX";
    struct closing closing = {0};
    struct test_loop test = {.loop = gw_loop_new()};
    (void)state;
    assert_non_null(mkdtemp(directory));
    if (mount("godwit", directory, "tmpfs", 0, "size=40m") != 0) {
        rmdir(directory);
        gw_loop_free(test.loop);
        skip();
    }
    char path[64];
    snprintf(path, sizeof(path), "%s/bus", directory);
    test.bus = gw_open(test.loop, path, &(gw_open_options){.disk_free_bytes = 1});
    assert_non_null(test.bus);
    gw_off(gw_on(test.bus, "a", on_event, NULL, &(gw_handler_options){.name = "q"}));
    while (published < 1000 && gw_publish(test.bus, "a", data, sizeof(data), NULL, count_result, results) == GW_DONE)
        published++;
    assert_in_range(published, 50, 999);
    test_for(&test, 200);
    clock_t cpu = clock();
    test_for(&test, 1000);
    assert_in_range(clock() - cpu, 0, CLOCKS_PER_SEC / 3);
    assert_int_equal(gw_close(test.bus, 100, on_closed, &closing), 0);
    closing.ticks = 10;
    test_until(&test, closed_and_ticked, &closing);
    int told = 0;
    for (unsigned i = 0; i < 20; i++)
        told += results[i];
    assert_int_equal(told, published);
    assert_int_equal(closing.result, results[0] == published ? 0 : GW_E_FULL);
    gw_loop_free(test.loop);
    assert_int_equal(umount(directory), 0);
    rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bus_on_a_full_disk_can_be_closed),
        cmocka_unit_test(one_that_is_waited_for_is_waited_for_no_longer_than_was_said),
        cmocka_unit_test(closing_leaves_the_loop_to_others),
        cmocka_unit_test(a_sync_that_failed_is_never_taken_for_done),
        cmocka_unit_test(one_that_is_waited_for_is_told_too),
        cmocka_unit_test(a_full_disk_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
