#include "sim/nomem.h"

#ifdef SIM_NOMEM

/* What the linker calls the real ones, and what it sends here. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *at, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
int __real_posix_memalign(void **at, size_t align, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *at, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
int __wrap_posix_memalign(void **at, size_t align, size_t size);

/* The simulator's own. */
void *sim_malloc(size_t size);
void *sim_calloc(size_t count, size_t size);
void *sim_realloc(void *at, size_t size);

/* Allocators have no argument that state could arrive by. */
static uint64_t fails_at, counted, failed;
static bool paused;

static int refuse(void)
{
    if (fails_at == 0 || paused || ++counted != fails_at)
        return 0;
    failed++;
    return 1;
}

void *__wrap_malloc(size_t size) { return refuse() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t count, size_t size) { return refuse() ? NULL : __real_calloc(count, size); }
void *__wrap_realloc(void *at, size_t size) { return refuse() ? NULL : __real_realloc(at, size); }
void *__wrap_aligned_alloc(size_t align, size_t size) { return refuse() ? NULL : __real_aligned_alloc(align, size); }
int __wrap_posix_memalign(void **at, size_t align, size_t size) { return refuse() ? 12 /* ENOMEM */ : __real_posix_memalign(at, align, size); }

void *sim_malloc(size_t size) { return __real_malloc(size); }
void *sim_calloc(size_t count, size_t size) { return __real_calloc(count, size); }
void *sim_realloc(void *at, size_t size) { return __real_realloc(at, size); }

void nomem_arm(uint64_t number)
{
    fails_at = number;
    counted = failed = 0;
}

void nomem_pause(bool pause) { paused = pause; }
uint64_t nomem_counted(void) { return counted; }
uint64_t nomem_failed(void) { return failed; }

#else

void nomem_arm(uint64_t number) { (void)number; }
void nomem_pause(bool pause) { (void)pause; }
uint64_t nomem_counted(void) { return 0; }
uint64_t nomem_failed(void) { return 0; }

#endif
