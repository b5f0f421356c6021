#include "store/segment.h"

#include "store/test_disk.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define DIRECTORY "shard-0"
#define FILE_SIZE 20000u
#define FILES_MAX 64u

struct kit {
    struct test_disk *disk;
    struct chunk_pool *pool;
    struct alarm_sink alarms;
    unsigned complaints;
    struct segment_store *store;
    unsigned written, refused;
    enum gw_err last_err;
    unsigned synced;
    enum gw_err sync_err;
    struct segment_file_info listed[FILES_MAX]; /* as of the last sync */
    unsigned listed_count;
    unsigned reads;
    uint8_t read_byte;
    uint32_t read_size;
    struct segment_location append_when_synced;
    bool want_append;
};

static void complain(struct alarm_sink *sink, enum alarm_level level, const char *text)
{
    struct kit *kit = (struct kit *)((char *)sink - offsetof(struct kit, alarms));
    (void)text;
    kit->complaints += level != ALARM_INFO;
}

static enum gw_err open_store(struct kit *kit, const struct segment_file_info *files, unsigned count)
{
    struct segment_config config = {.disk = test_disk_face(kit->disk), .directory = DIRECTORY, .pool = kit->pool, .alarms = &kit->alarms,
                                    .file_size = FILE_SIZE, .owner = kit};
    kit->complaints = 0;
    return segment_store_open(&config, files, count, &kit->store);
}

static int set_up(void **state)
{
    struct kit *kit = calloc(1, sizeof(*kit));
    kit->disk = test_disk_new(3);
    kit->pool = chunk_pool_new(4);
    kit->alarms.raise = complain;
    *state = kit;
    return open_store(kit, NULL, 0) == GW_OK ? 0 : -1;
}

static void close_store(struct kit *kit)
{
    if (kit->store)
        segment_store_close(kit->store);
    kit->store = NULL;
    assert_true(test_disk_crashed(kit->disk) || test_disk_open_handles(kit->disk) == 0);
}

static int tear_down(void **state)
{
    struct kit *kit = *state;
    close_store(kit);
    chunk_pool_free(kit->pool);
    test_disk_free(kit->disk);
    free(kit);
    return 0;
}

static void on_written(void *owner, void *context, struct segment_location location, enum gw_err err)
{
    struct kit *kit = owner;
    (void)context;
    assert_true(location.file > 0);
    kit->last_err = err;
    kit->written += err == GW_OK;
    kit->refused += err != GW_OK;
}

static struct segment_location append(struct kit *kit, uint8_t byte, uint32_t size, bool wait)
{
    struct chunk *chunk = chunk_new(kit->pool, size);
    struct segment_location location;
    memset(chunk->data, byte, size);
    assert_int_equal(segment_append(kit->store, chunk, size, wait, on_written, NULL, &location), GW_OK);
    assert_int_equal(location.size, size);
    return location;
}

static void on_read(void *owner, void *context, struct segment_location location, struct chunk *chunk, enum gw_err err)
{
    struct kit *kit = owner;
    (void)context;
    kit->reads++;
    kit->last_err = err;
    assert_true((err == GW_OK) == (chunk != NULL));
    if (!chunk)
        return;
    kit->read_byte = chunk->data[0];
    kit->read_size = location.size;
    for (uint32_t i = 0; i < location.size; i++)
        assert_int_equal(chunk->data[i], kit->read_byte);
    chunk_release(chunk, kit->pool);
}

static bool reads_back(struct kit *kit, struct segment_location location, uint8_t byte)
{
    if (segment_read(kit->store, location, true, on_read, NULL) != GW_OK)
        return false;
    return kit->last_err == GW_OK && kit->read_byte == byte && kit->read_size == location.size;
}

static void on_synced(void *owner, void *context, enum gw_err err)
{
    struct kit *kit = owner;
    (void)context;
    kit->synced++;
    kit->sync_err = err;
    kit->listed_count = segment_files(kit->store, kit->listed, FILES_MAX);
    if (kit->want_append)
        kit->append_when_synced = append(kit, 99, 100, false);
    kit->want_append = false;
}

static void sync_now(struct kit *kit)
{
    segment_sync(kit->store, true, on_synced, NULL);
}

/* A crash, then opening with what the last sync listed. */
static enum gw_err crash(struct kit *kit, enum test_disk_loss loss)
{
    test_disk_crash_at(kit->disk, test_disk_operations(kit->disk) + 1);
    close_store(kit);
    test_disk_run(kit->disk);
    test_disk_restart(kit->disk, loss);
    return open_store(kit, kit->listed, kit->listed_count);
}

/* ---- appends and reads ---- */

static void the_location_is_known_at_once_and_readable_when_told(void **state)
{
    struct kit *kit = *state;
    struct segment_location first = append(kit, 1, 1000, false), second = append(kit, 2, 500, false);
    assert_int_equal(first.file, second.file);
    assert_int_equal(second.offset, 1000);
    assert_int_equal(kit->written, 0);
    test_disk_run(kit->disk);
    assert_int_equal(kit->written, 2);
    assert_true(reads_back(kit, first, 1));
    assert_true(reads_back(kit, second, 2));
    assert_true(reads_back(kit, (struct segment_location){first.file, 10, 990}, 1));
}

static void a_read_that_does_not_wait_answers_later(void **state)
{
    struct kit *kit = *state;
    struct segment_location location = append(kit, 7, 3000, true);
    assert_int_equal(kit->written, 1);
    assert_int_equal(segment_read(kit->store, location, false, on_read, NULL), GW_OK);
    assert_int_equal(kit->reads, 0);
    test_disk_run(kit->disk);
    assert_int_equal(kit->reads, 1);
    assert_int_equal(kit->read_byte, 7);
}

static void a_file_that_is_full_is_followed_by_another(void **state)
{
    struct kit *kit = *state;
    uint32_t file = 0;
    for (unsigned i = 0; i < 10; i++) {
        struct segment_location location = append(kit, (uint8_t)i, 6000, i % 2);
        assert_true(location.file >= file);
        file = location.file;
        assert_true(location.offset + location.size <= FILE_SIZE);
    }
    assert_int_equal(file, 4);
    struct segment_location large = append(kit, 77, 3 * FILE_SIZE, false);
    test_disk_run(kit->disk);
    assert_true(reads_back(kit, large, 77));
    assert_int_equal(segment_disk_bytes(kit->store), 10 * 6000 + 3 * FILE_SIZE);
    assert_int_equal(segment_live_bytes(kit->store), 10 * 6000 + 3 * FILE_SIZE);
}

static void appends_complete_in_any_order(void **state)
{
    struct kit *kit = *state;
    test_disk_shuffle(kit->disk, true);
    struct segment_location locations[40];
    for (unsigned i = 0; i < 40; i++) {
        locations[i] = append(kit, (uint8_t)i, 100 + 37 * i, false);
        if (i % 5 == 4)
            test_disk_step(kit->disk);
    }
    test_disk_run(kit->disk);
    assert_int_equal(kit->written, 40);
    for (unsigned i = 0; i < 40; i++)
        assert_true(reads_back(kit, locations[i], (uint8_t)i));
}

static void what_was_never_written_is_not_found(void **state)
{
    struct kit *kit = *state;
    struct segment_location location = append(kit, 1, 100, true);
    assert_int_equal(segment_read(kit->store, (struct segment_location){9, 100, 0}, true, on_read, NULL), GW_ERR_NOT_FOUND);
    location.offset += 1;
    assert_int_equal(segment_read(kit->store, location, true, on_read, NULL), GW_ERR_NOT_FOUND);
}

static void a_failed_read_is_told(void **state)
{
    struct kit *kit = *state;
    struct segment_location location = append(kit, 1, 100, true);
    test_disk_fail(kit->disk, DISK_READ, 0, 1, EIO);
    assert_int_equal(segment_read(kit->store, location, false, on_read, NULL), GW_OK);
    test_disk_run(kit->disk);
    assert_int_equal(kit->last_err, GW_ERR_IO);
    assert_int_equal(kit->complaints, 1);
}

static void a_failed_write_voids_its_location_and_begins_a_new_file(void **state)
{
    struct kit *kit = *state;
    struct segment_location before = append(kit, 1, 100, true);
    test_disk_fail(kit->disk, DISK_WRITE, 0, 1, ENOSPC);
    struct segment_location lost = append(kit, 2, 100, false);
    test_disk_run(kit->disk);
    assert_int_equal(kit->refused, 1);
    assert_int_equal(kit->last_err, GW_ERR_FULL);
    assert_int_equal(segment_live_bytes(kit->store), 100);
    assert_int_equal(segment_read(kit->store, lost, true, on_read, NULL), GW_ERR_NOT_FOUND);
    struct segment_location after = append(kit, 3, 100, true);
    assert_int_not_equal(after.file, before.file);
    assert_true(reads_back(kit, before, 1));
    assert_true(reads_back(kit, after, 3));
}

static void files_that_never_held_anything_do_not_pile_up(void **state)
{
    struct kit *kit = *state;
    for (unsigned i = 0; i < 20; i++) {
        test_disk_fail(kit->disk, i % 2 ? DISK_WRITE : DISK_OPEN, 0, 1, ENOSPC);
        append(kit, 1, 100, i % 3 == 0);
        test_disk_run(kit->disk);
    }
    assert_int_equal(kit->refused, 20);
    assert_int_equal(segment_disk_bytes(kit->store), 0);
    assert_int_equal(test_disk_open_handles(kit->disk), 0);
    assert_null(test_disk_name(kit->disk, DIRECTORY "/", 0));
}

/* ---- sync ---- */

static void what_was_synced_survives_a_crash(void **state)
{
    struct kit *kit = *state;
    struct segment_location kept[8];
    for (unsigned i = 0; i < 8; i++)
        kept[i] = append(kit, (uint8_t)i, 7000, false);
    segment_sync(kit->store, false, on_synced, NULL);
    assert_int_equal(kit->synced, 0);
    test_disk_run(kit->disk);
    assert_int_equal(kit->synced, 1);
    assert_int_equal(kit->sync_err, GW_OK);
    assert_int_equal(kit->written, 8);
    append(kit, 50, 7000, false);
    assert_int_equal(crash(kit, LOSE_ALL), GW_OK);
    for (unsigned i = 0; i < 8; i++)
        assert_true(reads_back(kit, kept[i], (uint8_t)i));
    assert_int_equal(segment_live_bytes(kit->store), 8 * 7000);
    assert_int_equal(kit->complaints, 0);
}

static void appends_during_a_sync_are_held_back_and_not_listed(void **state)
{
    struct kit *kit = *state;
    append(kit, 1, 100, true);
    segment_sync(kit->store, false, on_synced, NULL);
    append(kit, 2, 100, false);
    kit->want_append = true;
    while (kit->synced == 0)
        assert_true(test_disk_step(kit->disk));
    assert_int_equal(kit->listed_count, 1);
    assert_int_equal(kit->listed[0].size, 100);
    assert_int_equal(kit->listed[0].live, 100);
    test_disk_run(kit->disk);
    assert_int_equal(kit->written, 3);
    assert_true(reads_back(kit, kit->append_when_synced, 99));
}

static void several_who_ask_are_all_told(void **state)
{
    struct kit *kit = *state;
    append(kit, 1, 100, false);
    for (unsigned i = 0; i < 3; i++)
        segment_sync(kit->store, false, on_synced, NULL);
    test_disk_run(kit->disk);
    assert_int_equal(kit->synced, 3);
    sync_now(kit);
    assert_int_equal(kit->synced, 4);
}

static void files_that_were_not_written_to_are_not_synced_again(void **state)
{
    struct kit *kit = *state;
    append(kit, 1, 100, true);
    sync_now(kit);
    unsigned before = test_disk_count(kit->disk, DISK_SYNC);
    sync_now(kit);
    assert_int_equal(test_disk_count(kit->disk, DISK_SYNC), before);
}

static void a_failed_sync_is_not_forgotten_while_its_bytes_are_live(void **state)
{
    struct kit *kit = *state;
    struct segment_location location = append(kit, 1, 100, true);
    test_disk_fail(kit->disk, DISK_SYNC, 0, 1, EIO);
    sync_now(kit);
    assert_int_equal(kit->sync_err, GW_ERR_FAILED);
    sync_now(kit);
    assert_int_equal(kit->sync_err, GW_ERR_FAILED);
    struct segment_location moved = append(kit, 1, 100, true);
    assert_int_not_equal(moved.file, location.file);
    segment_release(kit->store, location, 100);
    sync_now(kit);
    assert_int_equal(kit->sync_err, GW_OK);
}

/* ---- what is live ---- */

static void dead_files_are_unlinked_only_after_a_listing_without_them(void **state)
{
    struct kit *kit = *state;
    struct segment_location dead = append(kit, 1, 15000, true), live = append(kit, 2, 15000, true);
    sync_now(kit);
    assert_int_equal(kit->listed_count, 2);
    segment_release(kit->store, dead, 9000);
    segment_release(kit->store, dead, 6000);
    segment_reclaim(kit->store);
    test_disk_run(kit->disk);
    assert_non_null(test_disk_name(kit->disk, DIRECTORY "/segment-", 1));
    assert_int_equal(crash(kit, LOSE_ALL), GW_OK);
    assert_true(reads_back(kit, dead, 1));
    segment_release(kit->store, dead, 15000);
    sync_now(kit);
    assert_int_equal(kit->listed_count, 1);
    assert_int_equal(kit->listed[0].file, live.file);
    segment_reclaim(kit->store);
    test_disk_run(kit->disk);
    assert_null(test_disk_name(kit->disk, DIRECTORY "/segment-", 1));
    assert_int_equal(segment_disk_bytes(kit->store), 15000);
}

static void a_file_that_died_while_appends_went_to_it_takes_no_more_once_unlisted(void **state)
{
    struct kit *kit = *state;
    struct segment_location first = append(kit, 1, 100, true);
    segment_release(kit->store, first, 100);
    sync_now(kit);
    assert_int_equal(kit->listed_count, 0);
    struct segment_location second = append(kit, 2, 100, true);
    assert_int_not_equal(second.file, first.file);
    segment_reclaim(kit->store);
    test_disk_run(kit->disk);
    assert_true(reads_back(kit, second, 2));
}

static void files_that_no_snapshot_names_are_cleared_away(void **state)
{
    struct kit *kit = *state;
    append(kit, 1, 100, true);
    sync_now(kit);
    struct segment_file_info listed = kit->listed[0];
    for (unsigned i = 0; i < 4; i++)
        append(kit, 2, 15000, true);
    close_store(kit);
    assert_int_equal(open_store(kit, &listed, 1), GW_OK);
    assert_null(test_disk_name(kit->disk, DIRECTORY "/segment-", 1));
    assert_int_equal(test_disk_bytes(kit->disk, DIRECTORY "/segment-00000001").size, 100);
    struct segment_location next = append(kit, 3, 100, true);
    assert_int_not_equal(next.file, 2);
    assert_true(reads_back(kit, next, 3));
}

static void a_missing_or_short_file_is_told(void **state)
{
    struct kit *kit = *state;
    append(kit, 1, 100, true);
    sync_now(kit);
    close_store(kit);
    struct segment_file_info wrong = kit->listed[0];
    wrong.size = wrong.live = 101;
    assert_int_equal(open_store(kit, &wrong, 1), GW_ERR_CORRUPT);
    assert_int_equal(kit->complaints, 1);
    wrong.file = 5;
    assert_int_equal(open_store(kit, &wrong, 1), GW_ERR_CORRUPT);
    assert_int_equal(open_store(kit, kit->listed, 1), GW_OK);
}

static void a_mostly_dead_store_offers_its_deadest_file(void **state)
{
    struct kit *kit = *state;
    close_store(kit);
    struct segment_config config = {.disk = test_disk_face(kit->disk), .directory = DIRECTORY, .pool = kit->pool, .file_size = 32u << 20, .owner = kit};
    assert_int_equal(segment_store_open(&config, NULL, 0, &kit->store), GW_OK);
    struct segment_location locations[12];
    for (unsigned i = 0; i < 12; i++)
        locations[i] = append(kit, (uint8_t)i, 8u << 20, true);
    assert_int_equal(segment_compaction_candidate(kit->store), 0);
    for (unsigned i = 0; i < 3; i++)
        segment_release(kit->store, locations[i], 8u << 20);
    segment_release(kit->store, locations[3], 1u << 20);
    for (unsigned i = 4; i < 7; i++)
        segment_release(kit->store, locations[i], 8u << 20);
    assert_int_equal(segment_compaction_candidate(kit->store), locations[3].file);
    struct segment_location moved = append(kit, 3, 7u << 20, true);
    segment_release(kit->store, locations[3], 7u << 20);
    assert_int_not_equal(segment_compaction_candidate(kit->store), locations[3].file);
    assert_true(reads_back(kit, moved, 3));
}

/* ---- a crash at every operation ---- */

static void a_crash_at_any_operation_keeps_what_the_last_snapshot_lists(void **state)
{
    struct kit *unused = *state;
    close_store(unused);
    for (unsigned loss = LOSE_NOTHING; loss <= LOSE_SOME; loss++) {
        bool reached = true;
        for (uint64_t operation = 1; reached; operation++) {
            void *own;
            assert_int_equal(set_up(&own), 0);
            struct kit *kit = own;
            struct segment_location locations[12], listed[12];
            unsigned listed_count = 0, first = 0, listed_first = 0;
            test_disk_crash_at(kit->disk, operation);
            for (unsigned i = 0; i < 12; i++) {
                locations[i] = append(kit, (uint8_t)(i + 1), 3000 + 500 * i, false);
                if (i % 3 != 2)
                    continue;
                segment_sync(kit->store, false, on_synced, NULL);
                test_disk_run(kit->disk);
                if (kit->sync_err != GW_OK || test_disk_crashed(kit->disk))
                    break;
                memcpy(listed, locations, sizeof(listed));
                listed_count = i + 1;
                listed_first = first;
                segment_reclaim(kit->store);
                /* Two are consumed before the next snapshot. */
                for (unsigned j = 0; j < 2; j++, first++)
                    segment_release(kit->store, locations[first], locations[first].size);
                test_disk_step(kit->disk);
            }
            struct segment_file_info files[FILES_MAX];
            unsigned count = kit->listed_count;
            memcpy(files, kit->listed, sizeof(files));
            close_store(kit);
            test_disk_run(kit->disk);
            reached = test_disk_crashed(kit->disk);
            test_disk_restart(kit->disk, (enum test_disk_loss)loss);
            /* A listing that was made while the sync had failed is no snapshot. */
            if (kit->sync_err == GW_OK) {
                if (open_store(kit, files, listed_count ? count : 0) != GW_OK)
                    fail_msg("after a crash at operation %lu the store does not open", (unsigned long)operation);
                for (unsigned i = listed_first; i < listed_count; i++)
                    if (!reads_back(kit, listed[i], (uint8_t)(i + 1)))
                        fail_msg("after a crash at operation %lu image %u is lost", (unsigned long)operation, i);
            }
            assert_int_equal(tear_down(&own), 0);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_location_is_known_at_once_and_readable_when_told),
        TEST(a_read_that_does_not_wait_answers_later),
        TEST(a_file_that_is_full_is_followed_by_another),
        TEST(appends_complete_in_any_order),
        TEST(what_was_never_written_is_not_found),
        TEST(a_failed_read_is_told),
        TEST(a_failed_write_voids_its_location_and_begins_a_new_file),
        TEST(files_that_never_held_anything_do_not_pile_up),
        TEST(what_was_synced_survives_a_crash),
        TEST(appends_during_a_sync_are_held_back_and_not_listed),
        TEST(several_who_ask_are_all_told),
        TEST(files_that_were_not_written_to_are_not_synced_again),
        TEST(a_failed_sync_is_not_forgotten_while_its_bytes_are_live),
        TEST(dead_files_are_unlinked_only_after_a_listing_without_them),
        TEST(a_file_that_died_while_appends_went_to_it_takes_no_more_once_unlisted),
        TEST(files_that_no_snapshot_names_are_cleared_away),
        TEST(a_missing_or_short_file_is_told),
        TEST(a_mostly_dead_store_offers_its_deadest_file),
        TEST(a_crash_at_any_operation_keeps_what_the_last_snapshot_lists),
    };
    return cmocka_run_group_tests_name("segment", tests, NULL, NULL);
}
