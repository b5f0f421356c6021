#include "runtime/disk_worker.h"

#include "runtime/disk_perform.h"

#include <signal.h>

#define STACK_SIZE (128u * 1024u)   /* bytes; nothing here recurses */

static void run(void *argument)
{
    struct disk_worker *worker = argument;
    uv_mutex_lock(&worker->mutex);
    for (;;) {
        struct disk_op *op = worker->first;
        if (!op) {
            if (worker->stopping)
                break;
            uv_cond_wait(&worker->wanted, &worker->mutex);
            continue;
        }
        worker->first = op->next;
        if (!worker->first)
            worker->last = &worker->first;
        uv_mutex_unlock(&worker->mutex);
        disk_perform(worker->directory, op);
        worker->performed(worker->owner, op);
        uv_mutex_lock(&worker->mutex);
    }
    uv_mutex_unlock(&worker->mutex);
}

bool disk_worker_init(struct disk_worker *worker, int directory, void (*performed)(void *owner, struct disk_op *op), void *owner)
{
    *worker = (struct disk_worker){.directory = directory, .performed = performed, .owner = owner};
    worker->last = &worker->first;
    if (uv_mutex_init(&worker->mutex) != 0)
        return false;
    if (uv_cond_init(&worker->wanted) != 0)
        goto err_after_mutex;
    /* Signals belong to the loops' threads: a thread that sits in a system call shall not be interrupted by them. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    uv_thread_options_t options = {.flags = UV_THREAD_HAS_STACK_SIZE, .stack_size = STACK_SIZE};
    int error = uv_thread_create_ex(&worker->thread, &options, run, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        goto err_after_cond;
    return true;

err_after_cond:
    uv_cond_destroy(&worker->wanted);
err_after_mutex:
    uv_mutex_destroy(&worker->mutex);
    return false;
}

void disk_worker_deinit(struct disk_worker *worker)
{
    uv_mutex_lock(&worker->mutex);
    worker->stopping = true;
    uv_cond_signal(&worker->wanted);
    uv_mutex_unlock(&worker->mutex);
    uv_thread_join(&worker->thread);
    uv_cond_destroy(&worker->wanted);
    uv_mutex_destroy(&worker->mutex);
}

void disk_worker_put(struct disk_worker *worker, struct disk_op *op)
{
    op->next = NULL;
    uv_mutex_lock(&worker->mutex);
    *worker->last = op;
    worker->last = &op->next;
    uv_cond_signal(&worker->wanted);
    uv_mutex_unlock(&worker->mutex);
}
