#include "base/chunk.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT 200u

static void a_chunk_that_is_released_is_used_again(void **state)
{
    (void)state;
    struct chunk_pool *pool = chunk_pool_new(2);
    struct chunk *first = chunk_new(pool, 1);
    assert_int_equal(first->capacity, CHUNK_SIZE);
    assert_int_equal((uintptr_t)first->data % CHUNK_ALIGN, 0);
    chunk_retain(first);
    chunk_release(first, pool);
    struct chunk *second = chunk_new(pool, 1);
    assert_ptr_not_equal(first, second);
    chunk_release(first, pool);
    assert_ptr_equal(chunk_new(pool, CHUNK_SIZE), first);
    chunk_release(first, pool);
    chunk_release(second, NULL);
    chunk_pool_free(pool);
}

static void a_large_chunk_is_as_large_as_asked(void **state)
{
    (void)state;
    struct chunk *chunk = chunk_new(NULL, CHUNK_SIZE + 1);
    assert_int_equal(chunk->capacity, CHUNK_SIZE + CHUNK_ALIGN);
    memset(chunk->data, 1, chunk->capacity);
    chunk_release(chunk, NULL);
    assert_null(chunk_new(NULL, UINT64_MAX));
}

static void *release_all(void *chunks)
{
    struct chunk_pool *own = chunk_pool_new(4);
    for (unsigned i = 0; i < COUNT; i++)
        chunk_release(((struct chunk **)chunks)[i], own);
    chunk_pool_free(own);
    return NULL;
}

static void chunks_released_on_another_thread_come_home(void **state)
{
    (void)state;
    struct chunk_pool *pool = chunk_pool_new(COUNT);
    struct chunk *chunks[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        chunks[i] = chunk_new(pool, 1);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, release_all, chunks), 0);
    struct chunk *meanwhile = chunk_new(pool, 1);   /* the owner goes on while they arrive */
    pthread_join(thread, NULL);
    struct chunk *again = chunk_new(pool, 1);
    bool known = again == meanwhile;
    for (unsigned i = 0; i < COUNT; i++)
        known |= again == chunks[i];
    assert_true(known);
    chunk_release(again, pool);
    chunk_release(meanwhile, pool);
    chunk_pool_free(pool);
}

static void a_chunk_may_outlive_its_pool(void **state)
{
    (void)state;
    struct chunk_pool *pool = chunk_pool_new(4);
    struct chunk *chunk = chunk_new(pool, 1);
    chunk_pool_free(pool);
    chunk->data[0] = 1;
    chunk_release(chunk, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chunk_that_is_released_is_used_again),
        cmocka_unit_test(a_large_chunk_is_as_large_as_asked),
        cmocka_unit_test(chunks_released_on_another_thread_come_home),
        cmocka_unit_test(a_chunk_may_outlive_its_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
