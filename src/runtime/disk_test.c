/* The real disk on real files, with io_uring and with threads, on a disk and on tmpfs. */
#include "runtime/disk.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE 4096u

struct fixture {
    const char *parent;      /* the file system to try */
    enum disk_mode mode;
    char path[128];
    uv_loop_t loop;
    struct directory *directory;
    struct disk *disk;
};

static int set_up(void **state)
{
    struct fixture *f = *state;
    char why[512];
    snprintf(f->path, sizeof(f->path), "%s/godwit-disk-XXXXXX", f->parent);
    assert_non_null(mkdtemp(f->path));
    assert_int_equal(uv_loop_init(&f->loop), 0);
    assert_int_equal(directory_open(f->path, why, sizeof(why), &f->directory), GW_OK);
    assert_int_equal(disk_open(&f->loop, f->directory, f->mode, &f->disk), GW_OK);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    char command[1100];
    disk_close(f->disk);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    directory_close(f->directory);
    snprintf(command, sizeof(command), "rm -rf %s", f->path);
    return system(command);
}

struct waiter {
    struct disk_op op;
    bool done;
};

static void on_done(struct disk_op *op)
{
    ((struct waiter *)op)->done = true;
}

static void start(struct fixture *f, struct waiter *w)
{
    w->done = false;
    w->op.done = on_done;
    f->disk->submit(f->disk, &w->op);
    assert_false(w->done);
}

static int wait_for(struct fixture *f, struct waiter *w)
{
    while (!w->done)
        uv_run(&f->loop, UV_RUN_ONCE);
    return w->op.error;
}

static int run(struct fixture *f, struct waiter *w)
{
    start(f, w);
    return wait_for(f, w);
}

static int open_file(struct fixture *f, const char *name, unsigned flags)
{
    struct waiter w = {.op = {.kind = DISK_OPEN, .name = name, .flags = flags, .file = -1}};
    int error = run(f, &w);
    return error ? -error : w.op.file;
}

static int64_t run_at(struct fixture *f, enum disk_kind kind, int file, uint64_t offset, uint64_t size)
{
    struct waiter w = {.op = {.kind = kind, .file = file, .offset = offset, .size = size}};
    int error = run(f, &w);
    return error ? -error : w.op.result;
}

static int64_t run_named(struct fixture *f, enum disk_kind kind, const char *name, const char *new_name)
{
    struct waiter w = {.op = {.kind = kind, .name = name, .new_name = new_name}};
    int error = run(f, &w);
    return error ? -error : w.op.result;
}

static int64_t transfer(struct fixture *f, enum disk_kind kind, int file, uint64_t offset, void *memory, size_t size)
{
    struct iovec iov = {memory, size};
    struct waiter w = {.op = {.kind = kind, .file = file, .offset = offset, .iov = &iov, .iov_count = 1}};
    int error = run(f, &w);
    return error ? -error : w.op.result;
}

static void fill(uint8_t *memory, size_t size, unsigned seed)
{
    for (size_t i = 0; i < size; i++)
        memory[i] = (uint8_t)((i * 31 + i / 251 + seed) & 255);
}

static void what_is_written_is_read_back(void **state)
{
    struct fixture *f = *state;
    const unsigned flags[] = {DISK_CREATE, DISK_CREATE | DISK_DIRECT};
    uint8_t *out = aligned_alloc(PAGE, 64 * PAGE), *in = aligned_alloc(PAGE, 64 * PAGE);
    fill(out, 64 * PAGE, 7);
    for (unsigned i = 0; i < 2; i++) {
        int file = open_file(f, i ? "direct" : "buffered", flags[i]);
        assert_true(file >= 0);
        assert_int_equal(transfer(f, DISK_WRITE_SYNC, file, 0, out, 32 * PAGE), 32 * PAGE);
        assert_int_equal(transfer(f, DISK_WRITE, file, 32 * PAGE, out + 32 * PAGE, 32 * PAGE), 32 * PAGE);
        assert_int_equal(run_at(f, DISK_SYNC, file, 0, 0), 0);
        memset(in, 0, 64 * PAGE);
        assert_int_equal(transfer(f, DISK_READ, file, 0, in, 64 * PAGE), 64 * PAGE);
        assert_memory_equal(in, out, 64 * PAGE);
        assert_int_equal(run_at(f, DISK_SIZE, file, 0, 0), 64 * PAGE);
        assert_int_equal(transfer(f, DISK_READ, file, 60 * PAGE, in, 64 * PAGE), 4 * PAGE);
        assert_int_equal(transfer(f, DISK_READ, file, 80 * PAGE, in, 64 * PAGE), 0);
        assert_int_equal(run_at(f, DISK_TRUNCATE, file, 0, 5000), 0);
        assert_int_equal(transfer(f, DISK_READ, file, 0, in, 64 * PAGE), 5000);
        assert_memory_equal(in, out, 5000);
        assert_int_equal(run_at(f, DISK_CLOSE, file, 0, 0), 0);
    }
    free(out);
    free(in);
}

/* More vectors than one system call takes, some of them empty, and one operation for each page at once. */
static void vectors_and_many_at_once(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 2500, AT_ONCE = 1000 };
    struct iovec *iov = calloc(COUNT, sizeof(*iov));
    uint8_t *out = malloc(COUNT * 3), *in = malloc(COUNT * 3);
    fill(out, COUNT * 3, 1);
    size_t total = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        iov[i] = (struct iovec){out + total, i % 4};
        total += i % 4;
    }
    int file = open_file(f, "vectors", DISK_CREATE);
    struct waiter w = {.op = {.kind = DISK_WRITE_SYNC, .file = file, .offset = 11, .iov = iov, .iov_count = COUNT}};
    assert_int_equal(run(f, &w), 0);
    assert_int_equal(w.op.result, total);
    assert_int_equal(transfer(f, DISK_READ, file, 11, in, COUNT * 3), total);
    assert_memory_equal(in, out, total);

    struct waiter *many = calloc(AT_ONCE, sizeof(*many));
    for (unsigned i = 0; i < AT_ONCE; i++) {
        iov[i] = (struct iovec){out + i, 1};
        many[i].op = (struct disk_op){.kind = DISK_WRITE, .file = file, .offset = 100000 + i, .iov = &iov[i], .iov_count = 1};
        start(f, &many[i]);
    }
    for (unsigned i = 0; i < AT_ONCE; i++)
        assert_int_equal(wait_for(f, &many[i]), 0);
    assert_int_equal(transfer(f, DISK_READ, file, 100000, in, AT_ONCE), AT_ONCE);
    assert_memory_equal(in, out, AT_ONCE);
    assert_int_equal(run_at(f, DISK_CLOSE, file, 0, 0), 0);
    free(many);
    free(iov);
    free(out);
    free(in);
}

static void count_name(struct disk_op *op, const char *name)
{
    assert_true(strcmp(name, "b") == 0 || strcmp(name, "sub") == 0);
    ++*(int *)op->owner;
}

static void names(void **state)
{
    struct fixture *f = *state;
    const char *bad[] = {"", "/etc/passwd", "..", "../x", "sub/../../x", "sub/..", "lock", NULL};
    for (unsigned i = 0; bad[i]; i++) {
        assert_int_equal(open_file(f, bad[i], DISK_CREATE), -EINVAL);
        assert_int_equal(run_named(f, DISK_UNLINK, bad[i], NULL), -EINVAL);
        assert_int_equal(run_named(f, DISK_RENAME, "b", bad[i]), -EINVAL);
    }
    assert_int_equal(open_file(f, "missing", 0), -ENOENT);
    int file = open_file(f, "a", DISK_CREATE);
    struct stat status;
    assert_int_equal(fstat(file, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_int_equal(run_at(f, DISK_CLOSE, file, 0, 0), 0);
    assert_int_equal(run_named(f, DISK_MAKE_DIR, "sub", NULL), 0);
    assert_int_equal(run_named(f, DISK_MAKE_DIR, "sub", NULL), 0);
    assert_int_equal(run_named(f, DISK_MAKE_DIR, "a", NULL), -ENOTDIR);
    assert_int_equal(run_named(f, DISK_RENAME, "a", "b"), 0);
    assert_int_equal(run_named(f, DISK_SYNC_DIR, ".", NULL), 0);
    assert_int_equal(run_named(f, DISK_SYNC_DIR, "sub", NULL), 0);
    char link[160];
    snprintf(link, sizeof(link), "%s/sub/link", f->path);
    assert_int_equal(symlink("/etc/passwd", link), 0);
    assert_int_equal(open_file(f, "sub/link", 0), -ELOOP);

    int count = 0;
    struct waiter w = {.op = {.kind = DISK_LIST, .name = ".", .entry = count_name, .owner = &count}};
    assert_int_equal(run(f, &w), 0);
    assert_int_equal(count, 2);
    assert_int_equal(f->disk->call(f->disk, &w.op), 0);
    assert_int_equal(count, 4);
    assert_int_equal(run_named(f, DISK_UNLINK, "b", NULL), 0);
    assert_int_equal(run_named(f, DISK_UNLINK, "b", NULL), -ENOENT);
    assert_true(run_at(f, DISK_FREE_SPACE, -1, 0, 0) > 0);
}

static void allocated_is_zero(void **state)
{
    struct fixture *f = *state;
    uint8_t *in = aligned_alloc(PAGE, 4u << 20);
    int file = open_file(f, "zeros", DISK_CREATE | DISK_DIRECT);
    assert_int_equal(run_at(f, DISK_ALLOCATE, file, PAGE, 3u << 20), 0);
    assert_int_equal(transfer(f, DISK_READ, file, 0, in, 4u << 20), (3u << 20) + PAGE);
    for (size_t i = 0; i < (3u << 20) + PAGE; i++)
        assert_int_equal(in[i], 0);
    struct stat status;
    assert_int_equal(fstat(file, &status), 0);
    assert_true(status.st_blocks * 512 >= 3 << 20);
    assert_int_equal(run_at(f, DISK_CLOSE, file, 0, 0), 0);
    free(in);
}

static void errors_are_told(void **state)
{
    struct fixture *f = *state;
    uint8_t byte = 0, many[8192] = {0};
    assert_int_equal(transfer(f, DISK_WRITE, -1, 0, &byte, 1), -EBADF);
    assert_int_equal(transfer(f, DISK_READ, -1, 0, &byte, 1), -EBADF);
    assert_int_equal(run_at(f, DISK_SYNC, -1, 0, 0), -EBADF);

    struct rlimit before, limit;
    getrlimit(RLIMIT_FSIZE, &before);
    limit = (struct rlimit){6000, before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    int file = open_file(f, "limited", DISK_CREATE);
    setrlimit(RLIMIT_FSIZE, &limit);
    assert_int_equal(transfer(f, DISK_WRITE_SYNC, file, 0, many, sizeof(many)), -EFBIG);
    assert_int_equal(transfer(f, DISK_WRITE_SYNC, file, 0, many, 6000), 6000);
    assert_int_equal(run_at(f, DISK_ALLOCATE, file, 0, 8192), -EFBIG);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(run_at(f, DISK_CLOSE, file, 0, 0), 0);
}

static void wait_runs_what_is_under_way(void **state)
{
    struct fixture *f = *state;
    uint8_t out[100];
    memset(out, 9, sizeof(out));
    struct iovec iov = {out, sizeof(out)};
    assert_false(f->disk->wait(f->disk));
    int file = open_file(f, "file", DISK_CREATE);
    struct waiter write = {.op = {.kind = DISK_WRITE_SYNC, .file = file, .iov = &iov, .iov_count = 1}};
    struct waiter allocate = {.op = {.kind = DISK_ALLOCATE, .file = file, .offset = 100, .size = 100}};
    start(f, &write);
    start(f, &allocate);
    assert_true(f->disk->wait(f->disk));
    assert_true(write.done || allocate.done);
    while (f->disk->wait(f->disk))
        continue;
    assert_true(write.done && allocate.done);
    struct waiter size = {.op = {.kind = DISK_SIZE, .file = file}};
    assert_int_equal(f->disk->call(f->disk, &size.op), 0);
    assert_int_equal(size.op.result, 200);
    struct waiter close_op = {.op = {.kind = DISK_CLOSE, .file = file}};
    assert_int_equal(f->disk->call(f->disk, &close_op.op), 0);
}

static void waiting_may_be_for_a_time(void **state)
{
    struct fixture *f = *state;
    uint8_t out[100];
    memset(out, 9, sizeof(out));
    struct iovec iov = {out, sizeof(out)};
    assert_true(disk_is_idle(f->disk));
    assert_false(disk_wait_for(f->disk, 1000));
    int file = open_file(f, "file", DISK_CREATE);
    for (unsigned i = 0; i < 20; i++) {
        struct waiter write = {.op = {.kind = DISK_WRITE_SYNC, .file = file, .iov = &iov, .iov_count = 1}};
        struct waiter allocate = {.op = {.kind = DISK_ALLOCATE, .file = file, .offset = 100, .size = 100}};
        start(f, &write);
        if (i % 2)
            start(f, &allocate);
        assert_false(disk_is_idle(f->disk));
        for (unsigned round = 0; !(write.done && (allocate.done || i % 2 == 0)); round++) {
            assert_true(round < 10000);
            if (!disk_wait_for(f->disk, i % 3 ? 100 : 0))
                usleep(100);
        }
        assert_true(disk_is_idle(f->disk));
    }
    assert_int_equal(run_at(f, DISK_CLOSE, file, 0, 0), 0);
}

static void *write_elsewhere(void *argument)
{
    struct fixture *f = argument;
    static uint8_t out[100];
    struct iovec iov = {out, sizeof(out)};
    struct waiter size = {.op = {.kind = DISK_SIZE}};
    struct waiter opened = {.op = {.kind = DISK_OPEN, .name = "file", .flags = DISK_CREATE}};
    f->disk->call(f->disk, &opened.op);
    size.op.file = (int)opened.op.result;
    for (unsigned i = 0; i < 50; i++) {
        struct waiter write = {.op = {.kind = DISK_WRITE_SYNC, .file = size.op.file, .iov = &iov, .iov_count = 1, .offset = i * 100}};
        struct waiter truncate = {.op = {.kind = DISK_TRUNCATE, .file = size.op.file, .size = (i + 1) * 100}};
        start(f, &write);
        while (f->disk->wait(f->disk))
            continue;
        start(f, &truncate);
        while (f->disk->wait(f->disk))
            continue;
    }
    f->disk->call(f->disk, &size.op);
    struct waiter closed = {.op = {.kind = DISK_CLOSE, .file = size.op.file}};
    f->disk->call(f->disk, &closed.op);
    return (void *)(intptr_t)size.op.result;
}

/* Meanwhile the loop runs, and hears nothing of it. */
static void another_thread_may_have_it_in_the_end(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;
    void *size;
    int file = open_file(f, "before", DISK_CREATE);
    assert_int_equal(run_at(f, DISK_CLOSE, file, 0, 0), 0);
    disk_leave_loop(f->disk);
    assert_int_equal(pthread_create(&thread, NULL, write_elsewhere, f), 0);
    for (unsigned i = 0; i < 100; i++)
        uv_run(&f->loop, UV_RUN_NOWAIT);
    assert_int_equal(pthread_join(thread, &size), 0);
    assert_int_equal((intptr_t)size, 5000);
}

/* Somebody else's event loop waits for the descriptor, and runs this one when that is readable or the time is over: what was asked for since the last run must not lie there. */
static void its_loop_may_be_driven_by_descriptor(void **state)
{
    struct fixture *f = *state;
    uint8_t *page = aligned_alloc(PAGE, PAGE);
    struct iovec iov = {page, PAGE};
    memset(page, 1, PAGE);
    int file = open_file(f, "driven", DISK_CREATE);
    for (unsigned i = 0; i < 20; i++) {
        struct waiter w = {.op = {.kind = DISK_WRITE_SYNC, .file = file, .offset = i * PAGE, .iov = &iov, .iov_count = 1}};
        uv_run(&f->loop, UV_RUN_NOWAIT);
        start(f, &w);
        while (!w.done) {
            struct pollfd descriptor = {.fd = uv_backend_fd(&f->loop), .events = POLLIN};
            int timeout_ms = uv_backend_timeout(&f->loop);
            if (poll(&descriptor, 1, timeout_ms >= 0 && timeout_ms < 10000 ? timeout_ms : 10000) == 0)
                assert_int_equal(timeout_ms, 0);
            uv_run(&f->loop, UV_RUN_NOWAIT);
        }
        assert_int_equal(w.op.error, 0);
    }
    assert_int_equal(run_at(f, DISK_CLOSE, file, 0, 0), 0);
    free(page);
}

static void full_file_system(void **state)
{
    struct fixture *outer = *state;
    struct fixture f = {.parent = outer->path, .mode = outer->mode};
    void *inner = &f;
    uint8_t *out = calloc(1, 2u << 20);
    if (mount("godwit", outer->path, "tmpfs", 0, "size=1m") != 0) {
        free(out);
        skip();
    }
    set_up(&inner);
    int file = open_file(&f, "big", DISK_CREATE);
    assert_int_equal(transfer(&f, DISK_WRITE_SYNC, file, 0, out, 2u << 20), -ENOSPC);
    assert_int_equal(run_at(&f, DISK_TRUNCATE, file, 0, 0), 0);
    assert_int_equal(run_at(&f, DISK_ALLOCATE, file, 0, 2u << 20), -ENOSPC);
    assert_int_equal(run_at(&f, DISK_CLOSE, file, 0, 0), 0);
    tear_down(&inner);
    assert_int_equal(umount(outer->path), 0);
    free(out);
}

static void directory_is_locked(void **state)
{
    struct fixture *f = *state;
    struct directory *second;
    char why[512], path[160], expected[32];
    assert_int_equal(directory_open(f->path, why, sizeof(why), &second), GW_ERR_BUSY);
    snprintf(expected, sizeof(expected), "process %ld", (long)getpid());
    assert_non_null(strstr(why, expected));
    snprintf(path, sizeof(path), "%s/no/such", f->path);
    assert_int_equal(directory_open(path, why, sizeof(why), &second), GW_ERR_NOT_FOUND);
    assert_int_equal(directory_open("/dev/null", why, sizeof(why), &second), GW_ERR_INVALID);
    snprintf(path, sizeof(path), "%s/made", f->path);
    assert_int_equal(directory_open(path, why, sizeof(why), &second), GW_OK);
    directory_close(second);
    assert_int_equal(directory_open(path, why, sizeof(why), &second), GW_OK);
    directory_close(second);
}

static void mode_is_kept(void **state)
{
    struct fixture *f = *state;
    if (f->mode == DISK_MODE_THREADS)
        assert_false(disk_uses_uring(f->disk));
    else if (!disk_uses_uring(f->disk))
        print_message("io_uring is closed here: both modes are tried with threads\n");
}

static int run_all(const char *parent, enum disk_mode mode)
{
    struct fixture f = {.parent = parent, .mode = mode};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate_setup_teardown(mode_is_kept, set_up, tear_down, &f),
        cmocka_unit_test_prestate_setup_teardown(what_is_written_is_read_back, set_up, tear_down, &f),
        cmocka_unit_test_prestate_setup_teardown(vectors_and_many_at_once, set_up, tear_down, &f),
        cmocka_unit_test_prestate_setup_teardown(names, set_up, tear_down, &f),
        cmocka_unit_test_prestate_setup_teardown(allocated_is_zero, set_up, tear_down, &f),
        cmocka_unit_test_prestate_setup_teardown(errors_are_told, set_up, tear_down, &f),
        cmocka_unit_test_prestate_setup_teardown(wait_runs_what_is_under_way, set_up, tear_down, &f),
        cmocka_unit_test_prestate_setup_teardown(waiting_may_be_for_a_time, set_up, tear_down, &f),
        cmocka_unit_test_prestate_setup_teardown(another_thread_may_have_it_in_the_end, set_up, tear_down, &f),
        cmocka_unit_test_prestate_setup_teardown(its_loop_may_be_driven_by_descriptor, set_up, tear_down, &f),
        cmocka_unit_test_prestate_setup_teardown(full_file_system, set_up, tear_down, &f),
        cmocka_unit_test_prestate_setup_teardown(directory_is_locked, set_up, tear_down, &f),
    };
    return cmocka_run_group_tests_name(mode == DISK_MODE_AUTO ? "disk, io_uring" : "disk, threads", tests, NULL, NULL);
}

int main(void)
{
    return run_all("/tmp", DISK_MODE_AUTO) + run_all("/tmp", DISK_MODE_THREADS) + run_all("/dev/shm", DISK_MODE_AUTO) +
           run_all("/dev/shm", DISK_MODE_THREADS);
}
