/* Memory that runs out: sends the allocations of a test's program here, when it is linked with -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc. The one file that
 * includes this says with fails() whether the allocation that is asked for has failed. Process-wide, because malloc is. */
#ifndef BASE_TEST_MALLOC_H
#define BASE_TEST_MALLOC_H

#include <stdbool.h>
#include <stddef.h>

static bool fails(void);

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *__wrap_malloc(size_t size) { return fails() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t count, size_t size) { return fails() ? NULL : __real_calloc(count, size); }
void *__wrap_realloc(void *old, size_t size) { return fails() ? NULL : __real_realloc(old, size); }

#endif
