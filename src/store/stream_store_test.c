#include "store/stream_store.h"

#include "store/record_batch.h"
#include "store/test_disk.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define DIRECTORY "shard-0"
#define SEGMENT_SIZE 4000u
#define FIRST_MS INT64_C(1700000000000)
#define FILES_MAX 64u

struct kit {
    struct test_disk *disk;
    struct chunk_pool *pool;
    struct alarm_sink alarms;
    unsigned complaints;
    struct stream_store *store;
    bool gone;
    uint64_t next;                /* offset */
    unsigned written, synced, loaded;
    enum gw_err last_err;
    struct stream_place place, next_place;
    struct stream_extent *extent;
    struct stream_file_info listed[FILES_MAX];   /* as of the last sync */
    unsigned listed_count;
    uint64_t listed_end;
};

static void complain(struct alarm_sink *sink, enum alarm_level level, const char *text)
{
    struct kit *kit = (struct kit *)((char *)sink - offsetof(struct kit, alarms));
    (void)text;
    kit->complaints += level != ALARM_INFO;
}

static void on_index(void *owner) { ((struct kit *)owner)->loaded++; }
static void on_deleted(void *owner) { ((struct kit *)owner)->gone = true; }

static enum gw_err open_store(struct kit *kit)
{
    const struct stream_store_config config = {.disk = test_disk_face(kit->disk), .directory = DIRECTORY, .pool = kit->pool, .alarms = &kit->alarms, .id = 0x1234,
                                               .segment_size = SEGMENT_SIZE, .owner = kit, .index_loaded = on_index, .deleted = on_deleted};
    kit->complaints = 0;
    return stream_store_open(&config, kit->listed, kit->listed_count, &kit->store);
}

static int set_up(void **state)
{
    struct kit *kit = calloc(1, sizeof(*kit));
    kit->disk = test_disk_new(3);
    kit->pool = chunk_pool_new(4);
    kit->alarms.raise = complain;
    *state = kit;
    return open_store(kit) == GW_OK ? 0 : -1;
}

static void drop_extent(struct kit *kit)
{
    if (kit->extent)
        stream_extent_free(kit->extent, kit->pool);
    kit->extent = NULL;
}

static int tear_down(void **state)
{
    struct kit *kit = *state;
    drop_extent(kit);
    if (kit->store && !kit->gone)
        stream_store_close(kit->store);
    assert_true(test_disk_crashed(kit->disk) || test_disk_open_handles(kit->disk) == 0);
    chunk_pool_free(kit->pool);
    test_disk_free(kit->disk);
    free(kit);
    return 0;
}

/* ---- verbs ---------------------------------------------------------------------------------------------------------- */

static void on_written(void *owner, struct stream_place place, struct stream_place next, enum gw_err err)
{
    struct kit *kit = owner;
    kit->written++;
    kit->last_err = err;
    kit->place = place;
    kit->next_place = next;
}

/* A batch of `count` messages of `size` bytes each; message n is at FIRST_MS + n seconds, and its bytes are all n. */
static enum gw_err append(struct kit *kit, unsigned count, uint32_t size, const char *value, bool wait)
{
    uint32_t room = RECORD_BATCH_HEADER_SIZE + count * (size + 64);
    struct chunk *chunk = chunk_new(kit->pool, room);
    struct record_batch_writer writer;
    struct stream_batch_info info = {.first = kit->next, .end = kit->next + count};
    uint8_t *body = malloc(size + 1);
    record_batch_begin(&writer, chunk->data, room);
    for (unsigned i = 0; i < count; i++) {
        uint64_t offset = kit->next + i;
        memset(body, (int)offset, size);
        info.highest_ms = FIRST_MS + (int64_t)offset * 1000;
        assert_true(record_batch_add(&writer, offset, info.highest_ms, (struct bytes){0}, bytes_of(body, size), NULL, 0));
    }
    free(body);
    if (value)
        stream_filter_add(&info.filter, stream_filter_hash(bytes_of_text(value)));
    info.filter.has_unfiltered = !value;
    kit->last_err = GW_OK;
    enum gw_err err = stream_store_append(kit->store, chunk, record_batch_finish(&writer), &info, wait, on_written);
    if (err == GW_OK && !wait && !test_disk_crashed(kit->disk))
        test_disk_run(kit->disk);
    if (err == GW_OK && kit->last_err == GW_OK)
        kit->next += count;
    return err ? err : kit->last_err;
}

static void fill(struct kit *kit, unsigned batches)
{
    for (unsigned i = 0; i < batches; i++)
        assert_int_equal(append(kit, 1 + i % 3, 300, NULL, i % 2), GW_OK);
}

static void on_synced(void *owner, enum gw_err err)
{
    struct kit *kit = owner;
    kit->synced++;
    kit->last_err = err;
}

static void sync_now(struct kit *kit)
{
    stream_store_sync(kit->store, true, on_synced);
    struct disk_op directory = {.kind = DISK_SYNC_DIR, .name = DIRECTORY, .file = -1};
    if (test_disk_face(kit->disk)->call(test_disk_face(kit->disk), &directory) || kit->last_err)
        return;
    kit->listed_count = stream_store_files(kit->store, kit->listed, FILES_MAX);
    kit->listed_end = kit->listed_count ? kit->listed[kit->listed_count - 1].end : 0;
}

static void on_read(void *owner, struct stream_place place, struct stream_extent *extent, enum gw_err err)
{
    struct kit *kit = owner;
    (void)place;
    drop_extent(kit);
    kit->extent = extent;
    kit->last_err = err;
}

static enum gw_err read_at(struct kit *kit, struct stream_place place)
{
    enum gw_err err = stream_store_read(kit->store, place, on_read);
    if (err)
        return err;
    test_disk_run(kit->disk);
    return kit->last_err;
}

static enum stream_seek seek(struct kit *kit, uint64_t offset, struct stream_place *place)
{
    enum stream_seek found = stream_store_seek(kit->store, offset, place);
    if (found != STREAM_SEEK_LATER)
        return found;
    test_disk_run(kit->disk);
    return stream_store_seek(kit->store, offset, place);
}

/* Reads from `offset` to the end; answers how many messages came, each of which must be itself. */
static uint64_t read_all(struct kit *kit, uint64_t offset)
{
    struct stream_place place;
    uint64_t count = 0, next = offset;
    if (seek(kit, offset, &place) != STREAM_SEEK_FOUND)
        return 0;
    while (read_at(kit, place) == GW_OK) {
        for (unsigned i = stream_extent_find(kit->extent, next); i < kit->extent->count; i++) {
            struct record_batch batch;
            uint64_t size;
            assert_int_equal(record_batch_read(bytes_of(kit->extent->chunk->data + kit->extent->batches[i].at, kit->extent->batches[i].size), &batch, &size), RECORD_BATCH_OK);
            struct record_batch_cursor cursor = {0};
            struct batch_record record;
            while (record_batch_next(&batch, &cursor, &record) == RECORD_BATCH_OK) {
                if (record.offset < next)
                    continue;
                assert_int_equal(record.timestamp_ms, FIRST_MS + (int64_t)record.offset * 1000);
                for (size_t byte = 0; byte < record.value.size; byte++)
                    assert_int_equal(record.value.data[byte], (uint8_t)record.offset);
                next = record.offset + 1;
                count++;
            }
        }
        assert_true(kit->extent->next.base != place.base || kit->extent->next.position > place.position);
        place = kit->extent->next;
    }
    return count;
}

static void reopen(struct kit *kit)
{
    stream_store_close(kit->store);
    assert_int_equal(open_store(kit), GW_OK);
}

/* ---- stories -------------------------------------------------------------------------------------------------------- */

static void what_is_appended_is_read_from_any_offset(void **state)
{
    struct kit *kit = *state;
    assert_int_equal(stream_store_end(kit->store), 0);
    fill(kit, 40);
    assert_true(test_disk_name(kit->disk, DIRECTORY "/stream-", 4) != NULL);
    assert_int_equal(stream_store_first(kit->store), 0);
    assert_int_equal(stream_store_end(kit->store), kit->next);
    for (uint64_t offset = 0; offset < kit->next; offset += 7)
        assert_int_equal(read_all(kit, offset), kit->next - offset);
    sync_now(kit);
    reopen(kit);
    for (uint64_t offset = 0; offset < kit->next; offset += 7)
        assert_int_equal(read_all(kit, offset), kit->next - offset);
    fill(kit, 5);
    assert_int_equal(read_all(kit, 0), kit->next);
    assert_int_equal(kit->complaints, 0);
}

static void a_batch_larger_than_a_read_is_read_whole(void **state)
{
    struct kit *kit = *state;
    fill(kit, 3);
    uint64_t before = kit->next;
    assert_int_equal(append(kit, 3, 400000, NULL, false), GW_OK);
    fill(kit, 3);
    assert_int_equal(read_all(kit, 0), kit->next);
    assert_int_equal(read_all(kit, before + 1), kit->next - before - 1);
}

static void times_are_found(void **state)
{
    struct kit *kit = *state;
    struct stream_place place;
    fill(kit, 40);
    for (uint64_t offset = 0; offset < kit->next; offset++) {
        assert_int_equal(stream_store_seek_time(kit->store, FIRST_MS + (int64_t)offset * 1000, &place), STREAM_SEEK_FOUND);
        assert_int_equal(read_at(kit, place), GW_OK);
        assert_true(kit->extent->first <= offset && kit->extent->end > offset);
    }
    assert_int_equal(stream_store_seek_time(kit->store, 0, &place), STREAM_SEEK_FOUND);
    assert_int_equal(place.position, 0);
    assert_int_equal(stream_store_seek_time(kit->store, FIRST_MS + (int64_t)kit->next * 1000, &place), STREAM_SEEK_NONE);
}

static void a_stream_without_its_indexes_is_read_all_the_same(void **state)
{
    struct kit *kit = *state;
    fill(kit, 40);
    sync_now(kit);
    stream_store_close(kit->store);
    for (unsigned i = 0; test_disk_name(kit->disk, DIRECTORY "/stream-", i); i++) {
        const char *name = test_disk_name(kit->disk, DIRECTORY "/stream-", i);
        if (strstr(name, ".index"))
            test_disk_put(kit->disk, name, 50, "?", 1);
    }
    assert_int_equal(open_store(kit), GW_OK);
    assert_int_equal(read_all(kit, 3), kit->next - 3);
    assert_int_equal(kit->complaints, 1);
}

static void runs_without_a_value_are_skipped(void **state)
{
    struct kit *kit = *state;
    stream_store_set_segment_size(kit->store, 300000);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(append(kit, 10, 7000, i == 9 ? "rare" : "common", false), GW_OK);
    struct stream_place place = {0};
    uint64_t offset = 0, rare = stream_filter_hash(bytes_of_text("rare")), none = stream_filter_hash(bytes_of_text("no such value"));
    assert_int_equal(stream_store_skip(kit->store, &rare, 1, false, &place, &offset), STREAM_SEEK_FOUND);
    assert_int_equal(offset, 90);
    assert_int_equal(read_at(kit, place), GW_OK);
    assert_int_equal(kit->extent->first, 90);
    place = kit->extent->next;
    if (kit->extent->count == 1)
        assert_int_equal(stream_store_skip(kit->store, &rare, 1, false, &place, &offset), STREAM_SEEK_NONE);
    place = (struct stream_place){0};
    assert_int_equal(stream_store_skip(kit->store, &none, 1, false, &place, &offset), STREAM_SEEK_NONE);
    place = (struct stream_place){0};
    assert_int_equal(stream_store_skip(kit->store, &none, 1, true, &place, &offset), STREAM_SEEK_NONE);
    assert_int_equal(append(kit, 10, 7000, NULL, false), GW_OK);
    place = (struct stream_place){0};
    assert_int_equal(stream_store_skip(kit->store, &none, 1, true, &place, &offset), STREAM_SEEK_FOUND);
    assert_int_equal(offset, 200);
}

static void retention_takes_whole_files_from_the_front(void **state)
{
    struct kit *kit = *state;
    fill(kit, 40);
    uint64_t bytes = stream_store_bytes(kit->store);
    assert_false(stream_store_retain(kit->store, INT64_MIN, 0));
    assert_false(stream_store_retain(kit->store, INT64_MIN, bytes));
    assert_true(stream_store_retain(kit->store, INT64_MIN, bytes - 1));
    test_disk_run(kit->disk);
    uint64_t first = stream_store_first(kit->store);
    assert_true(first > 0 && stream_store_bytes(kit->store) >= bytes - SEGMENT_SIZE);
    assert_int_equal(read_all(kit, 0), kit->next - first);
    struct stream_place gone = {0, 0};
    assert_int_equal(stream_store_read(kit->store, gone, on_read), GW_ERR_NOT_FOUND);
    assert_true(stream_store_retain(kit->store, FIRST_MS + (int64_t)(first + 30) * 1000, 0));
    assert_true(stream_store_first(kit->store) <= first + 30);
    assert_true(stream_store_retain(kit->store, INT64_MAX, 0));
    test_disk_run(kit->disk);
    assert_true(stream_store_end(kit->store) == kit->next && stream_store_first(kit->store) < kit->next);   /* the one being written stays */
    assert_null(test_disk_name(kit->disk, DIRECTORY "/stream-", 2));
    sync_now(kit);
    reopen(kit);
    fill(kit, 3);
    assert_int_equal(read_all(kit, 0), kit->next - stream_store_first(kit->store));
}

static void rot_is_told_once_and_the_rest_is_read(void **state)
{
    struct kit *kit = *state;
    fill(kit, 1);
    uint64_t second = kit->next_place.position;
    fill(kit, 39);
    sync_now(kit);
    const char *name = test_disk_name(kit->disk, DIRECTORY "/stream-", 1);
    assert_non_null(strstr(name, ".log"));
    test_disk_put(kit->disk, name, second + 100, "???", 3);
    uint64_t left = read_all(kit, 0);
    assert_int_equal(kit->next - left, 1);
    assert_int_equal(kit->complaints, 1);
    assert_int_equal(read_all(kit, 0), left);
    assert_int_equal(kit->complaints, 1);
    test_disk_put(kit->disk, name, second + 8, "\x7f\xff\xff\xff", 4);   /* its length */
    assert_int_equal(read_all(kit, 0), left);
    test_disk_put(kit->disk, name, 0, "\xff\xff\xff\xff", 4);   /* the first batch's offset */
    assert_int_equal(read_all(kit, 0), left - 1);
    char zeros[SEGMENT_SIZE] = {0};
    test_disk_put(kit->disk, name, 0, zeros, test_disk_bytes(kit->disk, name).size);
    struct stream_place place;
    assert_int_equal(seek(kit, 0, &place), STREAM_SEEK_FOUND);
    assert_int_equal(read_at(kit, place), GW_OK);
    assert_int_equal(kit->extent->count, 0);
    assert_int_equal(read_all(kit, 0), kit->next - kit->extent->end);
}

static void a_file_that_is_cut_or_missing_is_told(void **state)
{
    struct kit *kit = *state;
    fill(kit, 40);
    sync_now(kit);
    stream_store_close(kit->store);
    struct disk *face = test_disk_face(kit->disk);
    struct disk_op cut = {.kind = DISK_OPEN, .name = test_disk_name(kit->disk, DIRECTORY "/stream-", 5), .file = -1};   /* the third .log */
    assert_int_equal(face->call(face, &cut), 0);
    struct disk_op truncate = {.kind = DISK_TRUNCATE, .file = cut.file, .size = 1000}, close = {.kind = DISK_CLOSE, .file = cut.file};
    face->call(face, &truncate);
    face->call(face, &close);
    assert_int_equal(open_store(kit), GW_OK);
    assert_int_equal(kit->complaints, 1);
    assert_true(read_all(kit, 0) > kit->next - 20);
    fill(kit, 3);
    stream_store_close(kit->store);
    struct disk_op unlink = {.kind = DISK_UNLINK, .name = test_disk_name(kit->disk, DIRECTORY "/stream-", 1), .file = -1};
    face->call(face, &unlink);
    assert_int_equal(open_store(kit), GW_OK);
    assert_int_equal(stream_store_first(kit->store), kit->listed[1].base);
}

static void a_write_that_fails_is_made_again(void **state)
{
    struct kit *kit = *state;
    fill(kit, 3);
    test_disk_fail(kit->disk, DISK_WRITE, 0, 1, ENOSPC);
    assert_int_equal(append(kit, 2, 300, NULL, false), GW_ERR_FULL);
    assert_int_equal(append(kit, 2, 300, NULL, false), GW_OK);
    test_disk_fail(kit->disk, DISK_OPEN, 0, 2, EIO);   /* the full file's index, and the next file */
    enum gw_err err = GW_OK;
    for (unsigned i = 0; i < 20 && !err; i++)
        err = append(kit, 2, 300, NULL, false);
    assert_int_equal(err, GW_ERR_IO);
    assert_int_equal(append(kit, 2, 300, NULL, true), GW_OK);
    assert_int_equal(read_all(kit, 0), kit->next);
    test_disk_fail(kit->disk, DISK_SYNC, 0, 1, EIO);
    sync_now(kit);
    assert_int_equal(kit->last_err, GW_ERR_FAILED);
    sync_now(kit);
    assert_int_equal(kit->last_err, GW_ERR_FAILED);
}

static void deleting_leaves_no_file(void **state)
{
    struct kit *kit = *state;
    fill(kit, 40);
    struct stream_place place = {0, 0};
    assert_int_equal(stream_store_read(kit->store, place, on_read), GW_OK);
    stream_store_delete(kit->store);
    assert_false(kit->gone);
    test_disk_run(kit->disk);
    assert_true(kit->gone);
    assert_null(kit->extent);
    assert_null(test_disk_name(kit->disk, DIRECTORY "/stream-", 0));
}

static bool nobody(void *owner, uint64_t id, uint64_t base)
{
    (void)base;
    return owner && id == 0x1234;
}

static void leftovers_are_unlinked(void **state)
{
    struct kit *kit = *state;
    fill(kit, 20);
    sync_now(kit);
    stream_store_close(kit->store);
    assert_int_equal(stream_store_tidy(test_disk_face(kit->disk), DIRECTORY, nobody, kit), GW_OK);
    assert_non_null(test_disk_name(kit->disk, DIRECTORY "/stream-", 0));
    assert_int_equal(stream_store_tidy(test_disk_face(kit->disk), DIRECTORY, nobody, NULL), GW_OK);
    assert_null(test_disk_name(kit->disk, DIRECTORY "/stream-", 0));
    kit->listed_count = 0;
    assert_int_equal(open_store(kit), GW_OK);
}

/* What happens until the machine stops. */
static void live(struct kit *kit)
{
    for (unsigned i = 0; i < 24 && !test_disk_crashed(kit->disk); i++) {
        append(kit, 1 + i % 3, 300, NULL, i % 2);
        if (i % 5 == 4)
            sync_now(kit);
        if (i == 17)
            stream_store_retain(kit->store, INT64_MIN, 6000);
        test_disk_run(kit->disk);
    }
}

static void a_crash_at_any_operation_loses_nothing_that_was_synced(void **state)
{
    struct kit *kit = *state;
    live(kit);
    stream_store_close(kit->store);
    uint64_t operations = test_disk_operations(kit->disk);
    assert_true(operations > 50);
    for (uint64_t at = 1; at <= operations; at++)
        for (enum test_disk_loss loss = LOSE_NOTHING; loss <= LOSE_SOME; loss++) {
            test_disk_free(kit->disk);
            kit->disk = test_disk_new(at * 3 + loss);
            kit->listed_count = 0;
            kit->listed_end = kit->next = 0;
            test_disk_crash_at(kit->disk, at);
            if (open_store(kit) == GW_OK) {
                live(kit);
                test_disk_run(kit->disk);
                stream_store_close(kit->store);
            }
            test_disk_restart(kit->disk, loss);
            assert_int_equal(open_store(kit), GW_OK);
            assert_int_equal(kit->complaints, 0);
            uint64_t first = stream_store_first(kit->store), end = stream_store_end(kit->store);
            assert_true(end == kit->listed_end || (kit->listed_end && end == 0));
            assert_int_equal(read_all(kit, 0), end - first);
            kit->next = kit->listed_end;
            fill(kit, 4);
            assert_int_equal(read_all(kit, 0), kit->next - stream_store_first(kit->store));
            drop_extent(kit);
            stream_store_close(kit->store);
        }
    kit->listed_count = 0;
    assert_int_equal(open_store(kit), GW_OK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_is_appended_is_read_from_any_offset),
        TEST(a_batch_larger_than_a_read_is_read_whole),
        TEST(times_are_found),
        TEST(a_stream_without_its_indexes_is_read_all_the_same),
        TEST(runs_without_a_value_are_skipped),
        TEST(retention_takes_whole_files_from_the_front),
        TEST(rot_is_told_once_and_the_rest_is_read),
        TEST(a_file_that_is_cut_or_missing_is_told),
        TEST(a_write_that_fails_is_made_again),
        TEST(deleting_leaves_no_file),
        TEST(leftovers_are_unlinked),
        TEST(a_crash_at_any_operation_loses_nothing_that_was_synced),
    };
    return cmocka_run_group_tests_name("stream store", tests, NULL, NULL);
}
