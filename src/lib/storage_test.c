/* A disk that fails under gw_open: what was confirmed is there afterwards, and of the rest it is told that it is not. The linker sends the library's writes here. */
#include "lib/test_loop.h"

#include "base/bytes.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_int failure;           /* an errno that writes and syncs answer with; 0: none. The disk has threads of its own */

ssize_t __real_pwritev64v2(int file, const struct iovec *iov, int count, off_t offset, int flags);
ssize_t __real_pwritev64(int file, const struct iovec *iov, int count, off_t offset);
int __real_fdatasync(int file);
ssize_t __wrap_pwritev64v2(int file, const struct iovec *iov, int count, off_t offset, int flags);
ssize_t __wrap_pwritev64(int file, const struct iovec *iov, int count, off_t offset);
int __wrap_fdatasync(int file);

static bool fails(void)
{
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sync_that_failed_is_never_taken_for_done),
        cmocka_unit_test(one_that_is_waited_for_is_told_too),
        cmocka_unit_test(a_full_disk_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
