/* A disk in memory for the store's own tests: completions when the test says so, failures on demand, crashes that lose what was not synced. */
#ifndef STORE_TEST_DISK_H
#define STORE_TEST_DISK_H

#include "base/bytes.h"
#include "io/disk.h"

#define TEST_DISK_PAGE 4096u

struct test_disk;

/* What a crash leaves of the pages, sizes and names that were not synced. */
enum test_disk_loss {
    LOSE_NOTHING,      /* only the process died */
    LOSE_ALL,
    LOSE_SOME,         /* each page by chance, names up to some operation */
};

struct test_disk *test_disk_new(uint64_t seed);
void test_disk_free(struct test_disk *disk);
struct disk *test_disk_face(struct test_disk *disk);

/* Completes the oldest operation in flight, or any one when `shuffled`; false when there is none. */
bool test_disk_step(struct test_disk *disk);
void test_disk_shuffle(struct test_disk *disk, bool shuffled);
void test_disk_run(struct test_disk *disk);

/* Operations in flight of a kind; of a kind that ended well since the disk was made; and of all kinds that were begun. */
unsigned test_disk_in_flight(const struct test_disk *disk, enum disk_kind kind);
unsigned test_disk_count(const struct test_disk *disk, enum disk_kind kind);
uint64_t test_disk_operations(const struct test_disk *disk);
unsigned test_disk_open_handles(const struct test_disk *disk);

/* The `skip`th operation of `kind` from now on, and `count` from there, fail with `error`. */
void test_disk_fail(struct test_disk *disk, enum disk_kind kind, unsigned skip, unsigned count, int error);

/* Bytes that all files together may hold. */
void test_disk_limit(struct test_disk *disk, uint64_t bytes);

/* The operation with this number (from 1) is not done, or half done when it is a write; nothing after it is either. */
void test_disk_crash_at(struct test_disk *disk, uint64_t operation);
bool test_disk_crashed(const struct test_disk *disk);

/* The machine comes back: every handle is closed, what was in flight is forgotten (its done must have run already). */
void test_disk_restart(struct test_disk *disk, enum test_disk_loss loss);

/* The bytes of a file as they would be read now, for looking and for damage; empty when there is none. Valid until the next operation. */
struct bytes test_disk_bytes(struct test_disk *disk, const char *name);
void test_disk_put(struct test_disk *disk, const char *name, uint64_t offset, const void *data, size_t size);

/* The name of the `index`th file whose name begins with `prefix`, in alphabetical order; NULL: none. */
const char *test_disk_name(struct test_disk *disk, const char *prefix, unsigned index);

#endif
