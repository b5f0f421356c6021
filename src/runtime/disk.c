#include "runtime/disk.h"

#include "runtime/disk_perform.h"
#include "runtime/disk_worker.h"
#include "runtime/wake.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>

#define TURNS_NS 2000000u   /* how long the ring is waited for before the workers are looked at */
#define RING_SIZE 256u   /* operations that one loop turn may submit without a system call of its own */

/* Reads, writes and syncs go through the ring, or through `data` where there is none; the rest, which nobody waits for in
 * the hot path but which may take long, through `helper`. */
struct real_disk {
    struct disk disk;
    uv_loop_t *loop;
    int directory;
    bool uses_ring;
    bool closing;
    bool left;                             /* the loop: disk_leave_loop. Written once, under the mutex */

    struct io_uring ring;
    unsigned in_ring;                      /* submitted or prepared */
    unsigned prepared;                     /* not yet submitted to the kernel */
    struct disk_op *waiting, **waiting_last;   /* found the ring full */
    uv_poll_t ring_poll;
    uv_prepare_t prepare;                  /* submits before the loop sleeps */
    uv_idle_t unsent;                      /* active while something is prepared: who waits for the loop's descriptor runs it once more before */

    struct disk_worker helper, data;
    unsigned with_workers;
    uv_mutex_t mutex;
    uv_cond_t performed;
    struct disk_op *completed, **completed_last;   /* by the workers; guarded by mutex */
    struct wake wake;

    uint64_t finished;                     /* operations whose done was called */
    unsigned open_handles;
};

static struct real_disk *real(struct disk *disk)
{
    return (struct real_disk *)disk;
}

static struct real_disk *of_wake(struct wake *wake)
{
    return (struct real_disk *)((char *)wake - offsetof(struct real_disk, wake));
}

static bool is_transfer(const struct disk_op *op)
{
    return op->kind == DISK_READ || op->kind == DISK_WRITE || op->kind == DISK_WRITE_SYNC;
}

static void give_to_worker(struct real_disk *d, struct disk_op *op)
{
    if (d->with_workers++ == 0 && !d->left)
        wake_ref(&d->wake);
    bool is_data = is_transfer(op) || op->kind == DISK_SYNC;
    disk_worker_put(is_data && !d->uses_ring ? &d->data : &d->helper, op);
}

/* On a worker's thread. */
static void on_performed(void *owner, struct disk_op *op)
{
    struct real_disk *d = owner;
    op->next = NULL;
    uv_mutex_lock(&d->mutex);
    *d->completed_last = op;
    d->completed_last = &op->next;
    uv_cond_signal(&d->performed);
    bool left = d->left;
    uv_mutex_unlock(&d->mutex);
    if (!left)
        wake_send(&d->wake);
}

/* Waits for one for at most that many nanoseconds; NULL: there is none. */
static struct disk_op *take_completed(struct real_disk *d, uint64_t wait_ns)
{
    uv_mutex_lock(&d->mutex);
    while (wait_ns == UINT64_MAX && !d->completed)
        uv_cond_wait(&d->performed, &d->mutex);
    while (wait_ns && !d->completed && uv_cond_timedwait(&d->performed, &d->mutex, wait_ns) == 0)
        continue;
    struct disk_op *op = d->completed;
    if (op) {
        d->completed = op->next;
        if (!d->completed)
            d->completed_last = &d->completed;
    }
    uv_mutex_unlock(&d->mutex);
    return op;
}

static void finish_completed(struct real_disk *d, struct disk_op *op)
{
    if (--d->with_workers == 0 && !d->left)
        wake_unref(&d->wake);
    disk_tell_names(op);
    d->finished++;
    op->done(op);
}

static void on_wake(struct wake *wake)
{
    struct real_disk *d = of_wake(wake);
    struct disk_op *op;
    while (!d->closing && !d->left && (op = take_completed(d, 0)))
        finish_completed(d, op);
}

/* ---- The ring ---- */

/* Puts what is left of `op` into a submission entry. Never a vector of our own making: the kernel reads vectors at submission,
 * which may be later, so what is left of a half-done vector goes as a plain buffer. */
static void prepare_entry(struct io_uring_sqe *entry, struct disk_op *op)
{
    struct iovec part;
    const struct iovec *rest;
    if (op->kind == DISK_SYNC) {
        io_uring_prep_fsync(entry, op->file, IORING_FSYNC_DATASYNC);
    } else {
        unsigned count = disk_rest(op, &part, &rest);
        uint64_t offset = op->offset + (uint64_t)op->result;
        if (count == 0)
            io_uring_prep_nop(entry);
        else if (op->kind == DISK_READ && count == 1)
            io_uring_prep_read(entry, op->file, rest->iov_base, (unsigned)rest->iov_len, offset);
        else if (op->kind == DISK_READ)
            io_uring_prep_readv(entry, op->file, rest, count, offset);
        else if (count == 1)
            io_uring_prep_write(entry, op->file, rest->iov_base, (unsigned)rest->iov_len, offset);
        else
            io_uring_prep_writev(entry, op->file, rest, count, offset);
        if (op->kind == DISK_WRITE_SYNC && count > 0)
            entry->rw_flags = RWF_DSYNC;
    }
    io_uring_sqe_set_data(entry, op);
}

static bool ring_submit(struct real_disk *d)
{
    if (d->prepared == 0)
        return true;
    int submitted = io_uring_submit(&d->ring);
    if (submitted > 0)
        d->prepared -= (unsigned)submitted < d->prepared ? (unsigned)submitted : d->prepared;
    return d->prepared == 0;
}

static void on_unsent(uv_idle_t *idle) { (void)idle; }

static void give_to_ring(struct real_disk *d, struct disk_op *op)
{
    struct io_uring_sqe *entry = d->waiting ? NULL : io_uring_get_sqe(&d->ring);
    if (!entry && !d->waiting && ring_submit(d))
        entry = io_uring_get_sqe(&d->ring);
    if (!entry) {
        op->next = NULL;
        *d->waiting_last = op;
        d->waiting_last = &op->next;
        return;
    }
    prepare_entry(entry, op);
    if (d->prepared++ == 0 && !d->left)
        uv_idle_start(&d->unsent, on_unsent);
    if (d->in_ring++ == 0 && !d->left)
        uv_ref((uv_handle_t *)&d->ring_poll);
}

static void give_waiting_to_ring(struct real_disk *d)
{
    struct disk_op *op = d->waiting;
    d->waiting = NULL;
    d->waiting_last = &d->waiting;
    while (op) {
        struct disk_op *next = op->next;
        give_to_ring(d, op);
        op = next;
    }
}

/* Answers by which the ring says "not like this" rather than "the disk failed": the thread's system call gets the last word. */
static bool is_for_worker(int answer)
{
    return answer == -EAGAIN || answer == -EINTR || answer == -EINVAL || answer == -EOPNOTSUPP || answer == -ECANCELED;
}

static void ring_answer(struct real_disk *d, struct disk_op *op, int answer)
{
    if (--d->in_ring == 0 && !d->left)
        uv_unref((uv_handle_t *)&d->ring_poll);
    if (is_for_worker(answer)) {
        give_to_worker(d, op);
        return;
    }
    if (op->kind == DISK_SYNC) {
        op->error = answer < 0 ? -answer : 0;
    } else if (disk_progress(op, answer)) {
        give_to_ring(d, op);
        return;
    }
    d->finished++;
    op->done(op);
}

static void ring_reap(struct real_disk *d)
{
    struct io_uring_cqe *completion;
    while (!d->closing && io_uring_peek_cqe(&d->ring, &completion) == 0) {
        struct disk_op *op = io_uring_cqe_get_data(completion);
        int answer = completion->res;
        io_uring_cqe_seen(&d->ring, completion);
        ring_answer(d, op, answer);
    }
    if (d->waiting && !d->closing)
        give_waiting_to_ring(d);
}

static void on_ring(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    ring_reap(poll->data);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct real_disk *d = prepare->data;
    uv_idle_stop(&d->unsent);
    /* The kernel was short of memory. A completion that is under way brings us back here; without any, we do it ourselves. */
    if (!ring_submit(d) && d->in_ring == d->prepared)
        wake_send(&d->wake);
}

/* ---- The interface ---- */

static void submit(struct disk *disk, struct disk_op *op)
{
    struct real_disk *d = real(disk);
    op->error = 0;
    op->result = 0;
    if (d->uses_ring && (is_transfer(op) || op->kind == DISK_SYNC))
        give_to_ring(d, op);
    else
        give_to_worker(d, op);
}

static bool wait_for_some(struct disk *disk)
{
    struct real_disk *d = real(disk);
    struct disk_op *op;
    if (d->in_ring == 0 && d->with_workers == 0)
        return false;
    for (uint64_t before = d->finished; d->finished == before;) {
        if (d->in_ring > 0) {
            int submitted = io_uring_submit_and_wait(&d->ring, 1);
            if (submitted > 0)
                d->prepared -= (unsigned)submitted < d->prepared ? (unsigned)submitted : d->prepared;
            ring_reap(d);
        }
        /* Everything is waited for in the end, so it does not matter that a worker may be ready before the ring is. */
        bool block = d->in_ring == 0 && d->finished == before;
        while (d->with_workers > 0 && (op = take_completed(d, block ? UINT64_MAX : 0))) {
            block = false;
            finish_completed(d, op);
        }
    }
    return true;
}

bool disk_is_idle(const struct disk *disk)
{
    const struct real_disk *d = (const struct real_disk *)disk;
    return d->in_ring == 0 && !d->waiting && d->with_workers == 0;
}

/* Where both are at work neither tells of the other: they are looked at in turn. */
static void wait_a_little(struct real_disk *d, uint64_t left_ns)
{
    if (d->in_ring == 0) {
        struct disk_op *op = take_completed(d, left_ns);
        if (op)
            finish_completed(d, op);
        return;
    }
    uint64_t most_ns = d->with_workers ? TURNS_NS : left_ns;
    struct pollfd ring = {.fd = d->ring.ring_fd, .events = POLLIN};
    (void)poll(&ring, 1, (int)((left_ns < most_ns ? left_ns : most_ns) / 1000000 + 1));
}

bool disk_wait_for(struct disk *disk, int timeout_ms)
{
    struct real_disk *d = real(disk);
    struct disk_op *op;
    if (timeout_ms < 0 || disk_is_idle(disk))
        return wait_for_some(disk);
    uint64_t before = d->finished, until_ns = uv_hrtime() + (uint64_t)timeout_ms * 1000000;
    for (uint64_t now_ns = 0; d->finished == before && now_ns < until_ns;) {
        if (d->in_ring > 0) {
            ring_submit(d);
            ring_reap(d);
        }
        while (d->with_workers > 0 && (op = take_completed(d, 0)))
            finish_completed(d, op);
        now_ns = uv_hrtime();
        if (d->finished == before && now_ns < until_ns)
            wait_a_little(d, until_ns - now_ns);
    }
    return d->finished != before;
}

static int call(struct disk *disk, struct disk_op *op)
{
    op->error = 0;
    op->result = 0;
    disk_perform(real(disk)->directory, op);
    disk_tell_names(op);
    return op->error;
}

/* ---- Its life ---- */

static bool ring_open(struct real_disk *d)
{
    /* Without it the kernel interrupts this thread for each completion, though the loop asks soon enough by itself. */
    if (io_uring_queue_init(RING_SIZE, &d->ring, IORING_SETUP_COOP_TASKRUN) != 0 && io_uring_queue_init(RING_SIZE, &d->ring, 0) != 0)
        return false;
    if (uv_poll_init(d->loop, &d->ring_poll, d->ring.ring_fd) != 0) {
        io_uring_queue_exit(&d->ring);
        return false;
    }
    d->ring_poll.data = d;
    uv_poll_start(&d->ring_poll, UV_READABLE, on_ring);
    uv_unref((uv_handle_t *)&d->ring_poll);
    uv_prepare_init(d->loop, &d->prepare);
    d->prepare.data = d;
    uv_prepare_start(&d->prepare, on_prepare);
    uv_unref((uv_handle_t *)&d->prepare);
    uv_idle_init(d->loop, &d->unsent);
    d->unsent.data = d;
    d->open_handles += 3;
    return true;
}

static void free_when_closed(struct real_disk *d)
{
    if (d->open_handles > 0)
        return;
    uv_cond_destroy(&d->performed);
    uv_mutex_destroy(&d->mutex);
    free(d);
}

static void on_closed(uv_handle_t *handle)
{
    struct real_disk *d = handle->data;
    d->open_handles--;
    free_when_closed(d);
}

static void on_wake_closed(struct wake *wake)
{
    struct real_disk *d = of_wake(wake);
    d->open_handles--;
    free_when_closed(d);
}

static void close_handles(struct real_disk *d)
{
    d->closing = true;
    if (d->uses_ring) {
        uv_close((uv_handle_t *)&d->ring_poll, on_closed);
        uv_close((uv_handle_t *)&d->prepare, on_closed);
        uv_close((uv_handle_t *)&d->unsent, on_closed);
        io_uring_queue_exit(&d->ring);
    }
    wake_close(&d->wake, on_wake_closed);
}

enum gw_err disk_open(uv_loop_t *loop, const struct directory *directory, enum disk_mode mode, struct disk **disk)
{
    struct real_disk *d = calloc(1, sizeof(*d));
    if (!d)
        return GW_ERR_NOMEM;
    *d = (struct real_disk){.disk = {.submit = submit, .call = call, .wait = wait_for_some}, .loop = loop, .directory = directory_descriptor(directory)};
    d->waiting_last = &d->waiting;
    d->completed_last = &d->completed;
    if (uv_mutex_init(&d->mutex) != 0)
        goto err_after_alloc;
    if (uv_cond_init(&d->performed) != 0)
        goto err_after_mutex;
    if (wake_init(&d->wake, loop, on_wake) != GW_OK)
        goto err_after_cond;
    wake_unref(&d->wake);
    d->open_handles = 1;
    d->uses_ring = mode == DISK_MODE_AUTO && ring_open(d);
    if (!disk_worker_init(&d->helper, d->directory, on_performed, d))
        goto err_after_handles;
    if (!d->uses_ring && !disk_worker_init(&d->data, d->directory, on_performed, d))
        goto err_after_helper;
    *disk = &d->disk;
    return GW_OK;

err_after_helper:
    disk_worker_deinit(&d->helper);
err_after_handles:
    close_handles(d);
    return GW_ERR_LIMIT;
err_after_cond:
    uv_cond_destroy(&d->performed);
err_after_mutex:
    uv_mutex_destroy(&d->mutex);
err_after_alloc:
    free(d);
    return GW_ERR_NOMEM;
}

bool disk_uses_uring(const struct disk *disk)
{
    return ((const struct real_disk *)disk)->uses_ring;
}

void disk_leave_loop(struct disk *disk)
{
    struct real_disk *d = real(disk);
    CHECK(disk_is_idle(disk));
    uv_mutex_lock(&d->mutex);
    d->left = true;
    uv_mutex_unlock(&d->mutex);
    if (!d->uses_ring)
        return;
    uv_poll_stop(&d->ring_poll);
    uv_prepare_stop(&d->prepare);
    uv_idle_stop(&d->unsent);
}

void disk_close(struct disk *disk)
{
    struct real_disk *d = real(disk);
    while (wait_for_some(disk))
        continue;
    disk_worker_deinit(&d->helper);
    if (!d->uses_ring)
        disk_worker_deinit(&d->data);
    close_handles(d);
}
