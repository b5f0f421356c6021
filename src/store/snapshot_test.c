#include "store/snapshot.h"

#include "base/checksum.h"
#include "store/test_disk.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define DIRECTORY "shard-0"
#define COPY_A DIRECTORY "/snapshot-a"
#define COPY_B DIRECTORY "/snapshot-b"

struct kit {
    struct test_disk *disk;
    struct chunk_pool *pool;
    struct alarm_sink alarms;
    unsigned complaints;
    unsigned done;
    enum gw_err done_err;
};

static void complain(struct alarm_sink *sink, enum alarm_level level, const char *text)
{
    struct kit *kit = (struct kit *)((char *)sink - offsetof(struct kit, alarms));
    (void)text;
    kit->complaints += level == ALARM_ERROR;
}

static int set_up(void **state)
{
    struct kit *kit = calloc(1, sizeof(*kit));
    kit->disk = test_disk_new(5);
    kit->pool = chunk_pool_new(4);
    kit->alarms.raise = complain;
    *state = kit;
    return 0;
}

static int tear_down(void **state)
{
    struct kit *kit = *state;
    assert_int_equal(test_disk_open_handles(kit->disk), 0);
    chunk_pool_free(kit->pool);
    test_disk_free(kit->disk);
    free(kit);
    return 0;
}

static void on_done(void *owner, enum gw_err err)
{
    struct kit *kit = owner;
    kit->done++;
    kit->done_err = err;
}

/* A blob whose bytes follow from its generation. */
static enum gw_err save(struct kit *kit, uint64_t generation, uint64_t size, bool wait)
{
    struct chunk *blob = chunk_new(kit->pool, size);
    memset(blob->data, (int)generation, size);
    return snapshot_save(test_disk_face(kit->disk), kit->pool, DIRECTORY, generation, blob, size, wait, on_done, kit);
}

/* The generation that is loaded; its bytes are checked. */
static enum gw_err load(struct kit *kit, uint64_t *generation)
{
    struct chunk *blob;
    uint64_t size;
    kit->complaints = 0;
    enum gw_err err = snapshot_load(test_disk_face(kit->disk), kit->pool, DIRECTORY, &kit->alarms, &blob, &size, generation);
    if (err != GW_OK)
        return err;
    for (uint64_t i = 0; i < size; i++)
        assert_int_equal(blob->data[i], (uint8_t)*generation);
    assert_int_equal(size, 10 + *generation * 1000);
    chunk_release(blob, kit->pool);
    return GW_OK;
}

static void damage(struct kit *kit, const char *name, uint64_t at)
{
    uint8_t byte = (uint8_t)~test_disk_bytes(kit->disk, name).data[at];
    test_disk_put(kit->disk, name, at, &byte, 1);
}

static void a_new_directory_has_none(void **state)
{
    uint64_t generation;
    assert_int_equal(load(*state, &generation), GW_ERR_NOT_FOUND);
}

static void what_was_saved_is_loaded(void **state)
{
    struct kit *kit = *state;
    uint64_t generation;
    for (uint64_t i = 1; i < 20; i += 6) {
        assert_int_equal(save(kit, i, 10 + i * 1000, i % 4 == 1), GW_OK);
        test_disk_run(kit->disk);
        assert_int_equal(kit->done_err, GW_OK);
        assert_int_equal(load(kit, &generation), GW_OK);
        assert_int_equal(generation, i);
        assert_int_equal(kit->complaints, 0);
    }
    assert_int_equal(kit->done, 4);
}

static void an_empty_blob_is_a_snapshot_too(void **state)
{
    struct kit *kit = *state;
    struct chunk *blob = chunk_new(kit->pool, 1), *loaded;
    uint64_t size, generation;
    assert_int_equal(snapshot_save(test_disk_face(kit->disk), kit->pool, DIRECTORY, 1, blob, 0, true, NULL, NULL), GW_OK);
    assert_int_equal(snapshot_load(test_disk_face(kit->disk), kit->pool, DIRECTORY, &kit->alarms, &loaded, &size, &generation), GW_OK);
    assert_int_equal(size, 0);
    chunk_release(loaded, kit->pool);
}

static void a_blob_larger_than_one_write_is_whole(void **state)
{
    struct kit *kit = *state;
    uint64_t generation;
    assert_int_equal(save(kit, 70000, 10 + UINT64_C(70000) * 1000, true), GW_OK);
    assert_int_equal(load(kit, &generation), GW_OK);
}

static void one_rotten_copy_is_told_and_the_other_one_used(void **state)
{
    struct kit *kit = *state;
    uint64_t generation, size = 10 + 1000 + 32;
    for (uint64_t at = 0; at < size; at += at < 40 ? 1 : 97)
        for (unsigned which = 0; which < 2; which++) {
            assert_int_equal(save(kit, 1, 1010, true), GW_OK);
            damage(kit, which ? COPY_B : COPY_A, at);
            assert_int_equal(load(kit, &generation), GW_OK);
            assert_int_equal(generation, 1);
            /* Behind a whole copy of the same generation the other one's blob is not read. */
            assert_int_equal(kit->complaints, which && at >= 32 ? 0 : 1);
        }
}

static void two_rotten_copies_are_told_and_left_alone(void **state)
{
    struct kit *kit = *state;
    uint64_t generation;
    assert_int_equal(save(kit, 1, 1010, true), GW_OK);
    damage(kit, COPY_A, 500);
    damage(kit, COPY_B, 3);
    assert_int_equal(load(kit, &generation), GW_ERR_CORRUPT);
    assert_int_equal(kit->complaints, 2);
    assert_int_equal(test_disk_bytes(kit->disk, COPY_A).size, 1042);
    test_disk_put(kit->disk, COPY_A, 0, "", 0);
}

static void a_rotten_copy_alone_is_not_nothing(void **state)
{
    struct kit *kit = *state;
    uint64_t generation;
    test_disk_put(kit->disk, COPY_B, 0, "short", 5);
    assert_int_equal(load(kit, &generation), GW_ERR_CORRUPT);
}

static void a_later_programs_snapshot_is_not_passed_over(void **state)
{
    struct kit *kit = *state;
    uint64_t generation;
    assert_int_equal(save(kit, 1, 1010, true), GW_OK);
    uint8_t header[32];
    memcpy(header, test_disk_bytes(kit->disk, COPY_B).data, sizeof(header));
    store_le32(header + 4, 2);
    store_le32(header + 28, crc32c(0, header, 28));
    test_disk_put(kit->disk, COPY_B, 0, header, sizeof(header));
    assert_int_equal(load(kit, &generation), GW_ERR_VERSION);
}

static void an_error_leaves_the_snapshot_before_it_whole(void **state)
{
    struct kit *kit = *state;
    uint64_t generation;
    static const enum disk_kind kinds[] = {DISK_OPEN, DISK_TRUNCATE, DISK_WRITE, DISK_SYNC, DISK_CLOSE, DISK_RENAME, DISK_SYNC_DIR};
    assert_int_equal(save(kit, 1, 1010, true), GW_OK);
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        if (kinds[i] == DISK_CLOSE)
            continue;
        for (unsigned second = 0; second < 2; second++) {
            test_disk_fail(kit->disk, kinds[i], second, 1, ENOSPC);
            save(kit, 2, 2010, second);
            test_disk_run(kit->disk);
            assert_int_equal(kit->done_err, GW_ERR_FULL);
            assert_int_equal(load(kit, &generation), GW_OK);
            assert_true(generation == 1 || second || kinds[i] == DISK_SYNC_DIR);
            assert_int_equal(kit->complaints, 0);
            assert_int_equal(save(kit, 1, 1010, true), GW_OK);
        }
    }
}

static void a_crash_at_any_operation_leaves_the_old_or_the_new_one(void **state)
{
    struct kit *kit = *state;
    uint64_t generation;
    for (unsigned loss = LOSE_NOTHING; loss <= LOSE_SOME; loss++) {
        bool reached = true;
        for (uint64_t operation = 1; reached; operation++) {
            assert_int_equal(save(kit, 1, 1010, true), GW_OK);
            test_disk_crash_at(kit->disk, test_disk_operations(kit->disk) + operation);
            kit->done_err = GW_ERR_CLOSED;
            assert_int_equal(save(kit, 2, 2010, false), GW_OK);
            test_disk_run(kit->disk);
            reached = test_disk_crashed(kit->disk);
            test_disk_restart(kit->disk, (enum test_disk_loss)loss);
            assert_int_equal(load(kit, &generation), GW_OK);
            assert_true(kit->done_err == GW_OK ? generation == 2 : generation == 1 || generation == 2);
            assert_int_equal(kit->complaints, 0);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_new_directory_has_none),
        TEST(what_was_saved_is_loaded),
        TEST(an_empty_blob_is_a_snapshot_too),
        TEST(a_blob_larger_than_one_write_is_whole),
        TEST(one_rotten_copy_is_told_and_the_other_one_used),
        TEST(two_rotten_copies_are_told_and_left_alone),
        TEST(a_rotten_copy_alone_is_not_nothing),
        TEST(a_later_programs_snapshot_is_not_passed_over),
        TEST(an_error_leaves_the_snapshot_before_it_whole),
        TEST(a_crash_at_any_operation_leaves_the_old_or_the_new_one),
    };
    return cmocka_run_group_tests_name("snapshot", tests, NULL, NULL);
}
