/* A thread that carries out disk operations one after the other, for everything that would block the loop. */
#ifndef RUNTIME_DISK_WORKER_H
#define RUNTIME_DISK_WORKER_H

#include "io/disk.h"

#include <uv.h>

struct disk_worker {
    uv_thread_t thread;
    uv_mutex_t mutex;
    uv_cond_t wanted;
    struct disk_op *first, **last;   /* waiting; guarded by mutex */
    bool stopping;                   /* guarded by mutex */
    int directory;                   /* descriptor, borrowed */
    void (*performed)(void *owner, struct disk_op *op);   /* on the worker's thread */
    void *owner;
};

/* Starts the thread. False: the system has no room for another one. */
bool disk_worker_init(struct disk_worker *worker, int directory, void (*performed)(void *owner, struct disk_op *op), void *owner);

/* Carries out what is still waiting, then ends the thread. */
void disk_worker_deinit(struct disk_worker *worker);

void disk_worker_put(struct disk_worker *worker, struct disk_op *op);

#endif
