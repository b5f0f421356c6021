/* Every allocation of the store fails in turn: nothing may crash, leak, or lose what was told as durable. */
#include "base/test_malloc.h"
#include "store/log_test_kit.h"
#include "store/segment.h"
#include "store/record_batch.h"
#include "store/snapshot.h"
#include "store/stream_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

/* The linker sends every allocation of this program here. Process-wide, because malloc is. */
static struct {
    unsigned until;     /* allocations left until one fails; 0: none fails */
    bool failed;
} plan;

static bool fails(void)
{
    if (plan.until == 0 || --plan.until > 0)
        return false;
    plan.failed = true;
    return true;
}

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset);

void *__wrap_aligned_alloc(size_t alignment, size_t size) { return fails() ? NULL : __real_aligned_alloc(alignment, size); }

void *__wrap_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset)
{
    return fails() ? MAP_FAILED : __real_mmap(address, size, protection, flags, file, offset);
}

static void fail_at(unsigned number)
{
    plan.until = number;
    plan.failed = false;
}

static bool has_failed(void)
{
    plan.until = 0;
    return plan.failed;
}

/* ---- the log ---- */

/* Appends and checkpoints; the kit's own chunks are made while nothing fails. */
static uint32_t append_some(struct log_kit *kit, uint32_t number, unsigned turns, uint64_t *from)
{
    for (unsigned i = 0; i < turns; i++) {
        unsigned until = plan.until;
        plan.until = 0;
        struct chunk *chunk = chunk_new(kit->pool, 64 * 1024);
        uint32_t size = 4 + i % 7 * 3000, record = RECORD_HEADER_SIZE + PUBLISH_TARGET_SIZE + size;
        CHECK(chunk);
        uint8_t *at = chunk->data + BATCH_HEADER_SIZE, *content = at + RECORD_HEADER_SIZE + PUBLISH_TARGET_SIZE;
        memset(at, 0, record);
        store_le32(content, number);
        for (uint32_t j = 4; j < size; j++)
            content[j] = (uint8_t)(number + j);
        record_begin(at, record, RECORD_PUBLISH, 1, crc32c(0, content, size));
        record_seal(at);
        plan.until = until;
        uint64_t offset;
        if (log_append(kit->log, chunk, 0, BATCH_HEADER_SIZE + record, 1, &offset) == GW_OK)
            number++;
        chunk_release(chunk, kit->pool);
        if (i % 3 == 0)
            log_flush(kit->log);
        if (i % 2)
            test_disk_run(kit->disk);
        if (i == 30 && kit->wanted) {
            *from = kit->wanted;
            log_recycle(kit->log, *from);
        }
    }
    return number;
}

static void the_log_survives_any_allocation_that_fails(void **state)
{
    (void)state;
    bool failed = true;
    for (unsigned at = 1; failed; at++) {
        struct log_kit kit;
        uint64_t from = 0;
        log_kit_init(&kit, at);
        fail_at(at);
        enum gw_err err = log_kit_open(&kit, 0);
        uint32_t number = err == GW_OK ? append_some(&kit, 0, 80, &from) : 0;
        log_kit_close(&kit);
        enum gw_err again = from ? GW_ERR_NOMEM : log_kit_open(&kit, 0);
        log_kit_close(&kit);
        failed = has_failed();
        assert_true(failed || (err == GW_OK && (again == GW_OK || from)));
        assert_true(err == GW_OK || err == GW_ERR_NOMEM);
        assert_int_equal(log_kit_open(&kit, from), GW_OK);
        assert_int_equal(kit.recovered == 0 ? number : kit.numbers[kit.recovered - 1] + 1, number);
        assert_int_equal(kit.errors, 0);
        assert_int_equal(log_end(kit.log).offset, log_committed(kit.log).offset);
        log_kit_deinit(&kit);
    }
}

/* ---- segments and snapshots ---- */

static void on_written(void *owner, void *context, struct segment_location location, enum gw_err err)
{
    (void)owner;
    (void)context;
    (void)location;
    (void)err;
}

static void on_synced(void *owner, void *context, enum gw_err err)
{
    *(enum gw_err *)context = err;
    (void)owner;
}

static void on_read(void *owner, void *context, struct segment_location location, struct chunk *chunk, enum gw_err err)
{
    (void)owner;
    (void)context;
    (void)location;
    if (err == GW_OK)
        chunk_release(chunk, NULL);
}

static void segments_survive_any_allocation_that_fails(void **state)
{
    (void)state;
    bool failed = true;
    for (unsigned at = 1; failed; at++) {
        struct test_disk *disk = test_disk_new(at);
        struct chunk_pool *pool = chunk_pool_new(2);
        struct segment_config config = {.disk = test_disk_face(disk), .directory = "shard-0", .pool = pool, .file_size = 5000};
        struct segment_file_info files[64];
        unsigned count = 0;
        struct segment_store *store = NULL;
        struct segment_location location;
        fail_at(at);
        if (segment_store_open(&config, NULL, 0, &store) == GW_OK) {
            enum gw_err synced = GW_ERR_CLOSED;
            for (unsigned i = 0; i < 20; i++) {
                struct chunk *chunk = chunk_new(pool, 3000);
                if (chunk && segment_append(store, chunk, 3000, i % 4 == 0, on_written, NULL, &location) == GW_OK && i % 3 == 0)
                    segment_read(store, location, i % 2, on_read, NULL);
                if (i % 5 == 4)
                    segment_sync(store, i % 2, on_synced, &synced);
                test_disk_step(disk);
            }
            test_disk_run(disk);
            segment_sync(store, true, on_synced, &synced);
            if (synced == GW_OK)
                count = segment_files(store, files, 64);
            segment_store_close(store);
            if (segment_store_open(&config, files, count, &store) == GW_OK)
                segment_store_close(store);
        }
        failed = has_failed();
        assert_int_equal(segment_store_open(&config, files, count, &store), GW_OK);
        segment_store_close(store);
        chunk_pool_free(pool);
        test_disk_free(disk);
    }
}

/* ---- streams ---- */

struct stream_watch {
    struct chunk_pool *pool;
    enum gw_err written, synced;
    struct stream_place next;
};

static void on_batch(void *owner, struct stream_place place, struct stream_place next, enum gw_err err)
{
    struct stream_watch *watch = owner;
    (void)place;
    watch->written = err;
    watch->next = next;
}

static void on_stream_synced(void *owner, enum gw_err err) { ((struct stream_watch *)owner)->synced = err; }
static void on_index(void *owner) { (void)owner; }

static void on_extent(void *owner, struct stream_place place, struct stream_extent *extent, enum gw_err err)
{
    (void)place;
    if (err == GW_OK)
        stream_extent_free(extent, ((struct stream_watch *)owner)->pool);
}

/* Batches of one message each; answers how many were written. The chunks are made while nothing fails. */
static uint64_t append_batches(struct stream_store *store, struct stream_watch *watch, struct test_disk *disk)
{
    uint64_t offset = 0;
    uint8_t body[300] = {0};
    for (unsigned i = 0; i < 30; i++) {
        unsigned until = plan.until;
        plan.until = 0;
        struct chunk *chunk = chunk_new(watch->pool, 1000);
        struct record_batch_writer writer;
        record_batch_begin(&writer, chunk->data, 1000);
        record_batch_add(&writer, offset, 1000, (struct bytes){0}, bytes_of(body, sizeof(body)), NULL, 0);
        plan.until = until;
        const struct stream_batch_info info = {.first = offset, .end = offset + 1, .highest_ms = 1000};
        watch->written = GW_ERR_CLOSED;
        if (stream_store_append(store, chunk, record_batch_finish(&writer), &info, i % 2, on_batch) != GW_OK)
            continue;
        test_disk_run(disk);
        offset += watch->written == GW_OK;
        struct stream_place place = {0};
        if (stream_store_seek(store, offset / 2, &place) == STREAM_SEEK_FOUND)
            stream_store_read(store, place, on_extent);
        test_disk_run(disk);
    }
    return offset;
}

static void streams_survive_any_allocation_that_fails(void **state)
{
    (void)state;
    bool failed = true;
    for (unsigned at = 1; failed; at++) {
        struct test_disk *disk = test_disk_new(at);
        struct stream_watch watch = {.pool = chunk_pool_new(2), .synced = GW_ERR_CLOSED};
        const struct stream_store_config config = {.disk = test_disk_face(disk), .directory = "shard-0", .pool = watch.pool, .id = 7, .segment_size = 2000,
                                                   .owner = &watch, .index_loaded = on_index};
        struct stream_file_info files[32];
        unsigned count = 0;
        uint64_t end = 0;
        struct stream_store *store = NULL;
        fail_at(at);
        if (stream_store_open(&config, NULL, 0, &store) == GW_OK) {
            end = append_batches(store, &watch, disk);
            stream_store_sync(store, true, on_stream_synced);
            assert_int_equal(watch.synced, GW_OK);
            count = stream_store_files(store, files, 32);
            stream_store_close(store);
            if (stream_store_open(&config, files, count, &store) == GW_OK)
                stream_store_close(store);
        }
        failed = has_failed();
        assert_int_equal(stream_store_open(&config, files, count, &store), GW_OK);
        assert_int_equal(stream_store_end(store), end);
        stream_store_close(store);
        chunk_pool_free(watch.pool);
        test_disk_free(disk);
    }
}

static void snapshots_survive_any_allocation_that_fails(void **state)
{
    (void)state;
    bool failed = true;
    for (unsigned at = 1; failed; at++) {
        struct test_disk *disk = test_disk_new(at);
        struct chunk_pool *pool = chunk_pool_new(2);
        struct chunk *blob = chunk_new(pool, 100), *loaded = NULL;
        uint64_t size, generation;
        memset(blob->data, 1, 100);
        fail_at(at);
        enum gw_err saved = snapshot_save(test_disk_face(disk), pool, "shard-0", 1, blob, 100, true, NULL, NULL);
        enum gw_err err = snapshot_load(test_disk_face(disk), pool, "shard-0", NULL, &loaded, &size, &generation);
        failed = has_failed();
        assert_true(saved == GW_OK || saved == GW_ERR_NOMEM);
        assert_true(err == GW_OK || err == GW_ERR_NOMEM || (saved != GW_OK && err == GW_ERR_NOT_FOUND));
        if (err == GW_OK)
            chunk_release(loaded, pool);
        chunk_pool_free(pool);
        test_disk_free(disk);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_log_survives_any_allocation_that_fails),
        cmocka_unit_test(segments_survive_any_allocation_that_fails),
        cmocka_unit_test(streams_survive_any_allocation_that_fails),
        cmocka_unit_test(snapshots_survive_any_allocation_that_fails),
    };
    return cmocka_run_group_tests_name("no memory", tests, NULL, NULL);
}
