#include "store/log_test_kit.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static int set_up(void **state)
{
    struct log_kit *kit = malloc(sizeof(*kit));
    log_kit_init(kit, 1);
    enum gw_err err = log_kit_open(kit, 0);
    *state = kit;
    return err == GW_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    log_kit_deinit(*state);
    free(*state);
    return 0;
}

/* ---- group commit ---- */

static void an_append_is_not_committed_before_its_write_is_done(void **state)
{
    struct log_kit *kit = *state;
    assert_int_equal(log_kit_append(kit, 0, 3, 100, NULL), GW_OK);
    log_flush(kit->log);
    while (test_disk_in_flight(kit->disk, DISK_WRITE_SYNC) == 0)
        assert_true(test_disk_step(kit->disk));
    assert_int_equal(kit->committed_calls, 0);
    assert_int_equal(log_committed(kit->log).offset, 0);
    test_disk_run(kit->disk);
    assert_int_equal(kit->committed_calls, 1);
    assert_int_equal(kit->committed.offset, LOG_ALIGN);
    assert_int_equal(kit->committed.epoch, 1);
}

static void nothing_runs_inside_append(void **state)
{
    struct log_kit *kit = *state;
    log_kit_commit(kit, 0, 1, 10);
    unsigned before = test_disk_count(kit->disk, DISK_WRITE_SYNC);
    assert_int_equal(log_kit_append(kit, 1, 1, 10, NULL), GW_OK);
    test_disk_run(kit->disk);
    assert_int_equal(test_disk_count(kit->disk, DISK_WRITE_SYNC), before);
    assert_int_equal(kit->committed_calls, 1);
}

static void what_gathers_during_one_write_leaves_in_the_next_one(void **state)
{
    struct log_kit *kit = *state;
    log_kit_commit(kit, 0, 1, 10);
    assert_int_equal(log_kit_append(kit, 1, 1, 10, NULL), GW_OK);
    log_flush(kit->log);
    assert_int_equal(test_disk_in_flight(kit->disk, DISK_WRITE_SYNC), 1);
    for (uint32_t i = 2; i < 8; i++) {
        assert_int_equal(log_kit_append(kit, i, 1, 10, NULL), GW_OK);
        log_flush(kit->log);
        assert_int_equal(test_disk_in_flight(kit->disk, DISK_WRITE_SYNC), 1);
    }
    unsigned before = test_disk_count(kit->disk, DISK_WRITE_SYNC);
    test_disk_run(kit->disk);
    assert_int_equal(test_disk_count(kit->disk, DISK_WRITE_SYNC), before + 2);
    assert_int_equal(kit->committed_calls, 3);
    assert_int_equal(kit->committed.offset, 8 * LOG_ALIGN);
}

static void commits_come_in_the_order_of_the_appends(void **state)
{
    struct log_kit *kit = *state;
    test_disk_shuffle(kit->disk, true);
    uint64_t offset, expected = 0;
    for (uint32_t i = 0; i < 200; i++) {
        uint32_t count = 1 + i % 7;
        while (log_kit_append(kit, i * 10, count, 700, &offset) != GW_OK)
            assert_true(test_disk_step(kit->disk));
        assert_int_equal(offset, expected);
        expected += (log_kit_batch_size(count, 700) + LOG_ALIGN - 1) / LOG_ALIGN * LOG_ALIGN;
        log_flush(kit->log);
        if (i % 3 == 0)
            test_disk_step(kit->disk);
    }
    test_disk_run(kit->disk);
    /* The kit checks that each commit is above the one before. */
    assert_int_equal(kit->committed.offset, expected);
    assert_int_equal(log_end(kit->log).offset, expected);
}

static void close_writes_what_was_only_appended(void **state)
{
    struct log_kit *kit = *state;
    assert_int_equal(log_kit_append(kit, 0, 5, 100, NULL), GW_OK);
    assert_int_equal(log_close(kit->log), GW_OK);
    kit->log = NULL;
    assert_int_equal(kit->committed.offset, LOG_ALIGN);
    assert_int_equal(log_kit_open(kit, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, 5));
}

/* ---- files ---- */

/* A content size that makes a batch of one record fill `blocks` blocks to the byte. */
static uint32_t filling(uint32_t blocks)
{
    return blocks * LOG_ALIGN - log_kit_batch_size(1, 0);
}

static void a_slice_may_fill_a_file_exactly(void **state)
{
    struct log_kit *kit = *state;
    for (uint32_t i = 0; i < 4; i++)
        log_kit_commit(kit, i, 1, filling(KIT_CAPACITY / LOG_ALIGN));
    assert_int_equal(kit->committed.offset, 4 * KIT_CAPACITY);
    assert_non_null(test_disk_name(kit->disk, KIT_DIRECTORY "/log-", 3));
    assert_int_equal(log_kit_crash(kit, LOSE_ALL, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, 4));
    assert_int_equal(log_end(kit->log).offset, 4 * KIT_CAPACITY);
    log_kit_commit(kit, 4, 1, 10);
    assert_int_equal(log_kit_crash(kit, LOSE_ALL, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, 5));
}

static void slices_never_span_files(void **state)
{
    struct log_kit *kit = *state;
    uint32_t number = 0;
    for (uint32_t blocks = 1; blocks <= 14; blocks++)
        for (uint32_t i = 0; i < 2; i++)
            log_kit_commit(kit, number++, 1, filling(blocks));
    assert_int_equal(log_kit_crash(kit, LOSE_ALL, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, number));
    assert_int_equal(kit->warnings + kit->errors, 0);
}

static void a_slice_larger_than_a_file_gets_a_file_of_its_own(void **state)
{
    struct log_kit *kit = *state;
    log_kit_commit(kit, 0, 1, 10);
    log_kit_commit(kit, 1, 1, 5 * KIT_FILE_SIZE);
    log_kit_commit(kit, 2, 1, 10);
    assert_int_equal(log_kit_crash(kit, LOSE_ALL, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, 3));
}

static void the_first_slice_may_be_larger_than_a_file(void **state)
{
    struct log_kit *kit = *state;
    log_kit_commit(kit, 0, 1, 3 * KIT_FILE_SIZE);
    log_kit_commit(kit, 1, 1, 10);
    assert_int_equal(log_kit_crash(kit, LOSE_ALL, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, 2));
}

static void a_slice_larger_than_a_write_is_committed_when_all_of_it_is_written(void **state)
{
    struct log_kit *kit = *state;
    assert_int_equal(log_kit_append(kit, 0, 1, 20u << 20, NULL), GW_OK);
    log_flush(kit->log);
    unsigned before = test_disk_count(kit->disk, DISK_WRITE_SYNC);
    while (kit->committed_calls == 0)
        assert_true(test_disk_step(kit->disk));
    assert_int_equal(test_disk_count(kit->disk, DISK_WRITE_SYNC), before + 3);
    log_kit_commit(kit, 1, 1, 10);
    assert_int_equal(log_kit_crash(kit, LOSE_ALL, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, 2));
}

static void many_small_slices_make_several_writes(void **state)
{
    struct log_kit *kit = *state;
    for (uint32_t i = 0; i < 2000; i++)
        assert_int_equal(log_kit_append(kit, i, 1, 10, NULL), GW_OK);
    log_flush(kit->log);
    test_disk_run(kit->disk);
    assert_int_equal(kit->committed.offset, 2000 * LOG_ALIGN);
    assert_int_equal(log_kit_crash(kit, LOSE_ALL, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, 2000));
}

static void the_next_file_is_ready_before_it_is_needed(void **state)
{
    struct log_kit *kit = *state;
    log_kit_commit(kit, 0, 1, filling(2));
    assert_non_null(test_disk_name(kit->disk, KIT_DIRECTORY "/spare-", 0));
}

static void recycled_files_are_used_again(void **state)
{
    struct log_kit *kit = *state;
    uint32_t number = 0;
    unsigned allocations = 0;
    for (unsigned turn = 0; turn < 40; turn++) {
        for (unsigned i = 0; i < 5; i++)
            log_kit_commit(kit, number++, 1, filling(3));
        if (kit->wanted)
            log_recycle(kit->log, kit->wanted);
        test_disk_run(kit->disk);
        if (turn == 20)
            allocations = test_disk_count(kit->disk, DISK_ALLOCATE);
    }
    assert_int_equal(test_disk_count(kit->disk, DISK_ALLOCATE), allocations);
    assert_true(log_disk_bytes(kit->log) <= 6 * KIT_FILE_SIZE);
}

static void stale_batches_of_a_recycled_file_are_never_taken_for_live_ones(void **state)
{
    struct log_kit *kit = *state;
    uint32_t number = 0;
    uint64_t from = 0;
    for (unsigned turn = 0; turn < 60; turn++) {
        log_kit_commit(kit, number++, 1, filling(1 + turn % 4));
        if (kit->wanted > from) {
            from = kit->wanted;
            log_recycle(kit->log, from);
            test_disk_run(kit->disk);
        }
        uint32_t first = number, end = number;
        assert_int_equal(log_kit_crash(kit, turn % 2 ? LOSE_ALL : LOSE_NOTHING, from), GW_OK);
        assert_true(kit->recovered > 0);
        first = kit->numbers[0];
        assert_true(log_kit_recovered(kit, first, end - first));
        assert_int_equal(kit->warnings + kit->errors, 0);
    }
}

static void a_checkpoint_is_wanted_when_the_files_run_short_and_frees_about_half(void **state)
{
    struct log_kit *kit = *state;
    kit->file_count = 6;
    log_kit_close(kit);
    assert_int_equal(log_kit_open(kit, 0), GW_OK);
    uint32_t number = 0;
    while (kit->wanted_calls == 0)
        log_kit_commit(kit, number++, 1, filling(5));
    assert_int_equal(log_committed(kit->log).offset / KIT_CAPACITY, 4);
    assert_int_equal(kit->wanted, 2 * KIT_CAPACITY);
    for (unsigned i = 0; i < 2; i++)
        log_kit_commit(kit, number++, 1, filling(5));
    assert_int_equal(kit->wanted_calls, 1);
    uint64_t before = log_disk_bytes(kit->log);
    log_recycle(kit->log, kit->wanted);
    test_disk_run(kit->disk);
    assert_true(log_disk_bytes(kit->log) <= before);
}

static void a_log_whose_checkpoint_is_slow_takes_more_files(void **state)
{
    struct log_kit *kit = *state;
    for (uint32_t i = 0; i < 40; i++)
        log_kit_commit(kit, i, 1, filling(10));
    assert_int_equal(kit->committed.offset, 400 * LOG_ALIGN);
    assert_true(kit->wanted_calls > 1);
    assert_int_equal(log_kit_crash(kit, LOSE_ALL, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, 40));
    log_flush(kit->log);
    assert_int_equal(kit->wanted_calls, 1);
}

/* ---- failures ---- */

static void a_failed_write_is_final(void **state)
{
    struct log_kit *kit = *state;
    log_kit_commit(kit, 0, 1, 10);
    test_disk_fail(kit->disk, DISK_WRITE_SYNC, 0, 1, EIO);
    assert_int_equal(log_kit_append(kit, 1, 1, 10, NULL), GW_OK);
    log_flush(kit->log);
    assert_int_equal(log_kit_append(kit, 2, 1, 10, NULL), GW_OK);
    test_disk_run(kit->disk);
    assert_int_equal(kit->failed_calls, 1);
    assert_int_equal(kit->errors, 1);
    assert_int_equal(kit->committed.offset, LOG_ALIGN);
    assert_int_equal(log_state(kit->log), GW_ERR_FAILED);
    assert_int_equal(log_kit_append(kit, 3, 1, 10, NULL), GW_ERR_FAILED);
    unsigned writes = test_disk_count(kit->disk, DISK_WRITE_SYNC);
    log_flush(kit->log);
    test_disk_run(kit->disk);
    assert_int_equal(test_disk_count(kit->disk, DISK_WRITE_SYNC), writes);
    assert_int_equal(log_close(kit->log), GW_ERR_FAILED);
    kit->log = NULL;
    test_disk_restart(kit->disk, LOSE_ALL);
    assert_int_equal(log_kit_open(kit, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, 1));
    log_kit_commit(kit, 1, 1, 10);
    assert_int_equal(kit->failed_calls, 0);
}

/* Whatever it is that keeps the next file from being made, a patient log does not look in every turn. */
static void who_is_patient_does_not_look_in_every_turn(void **state)
{
    struct log_kit *kit = *state;
    log_kit_commit(kit, 0, 1, 10);
    test_disk_fail(kit->disk, DISK_OPEN, 0, 1000, ENOENT);
    uint32_t number = 1;
    while (log_kit_append(kit, number, 1, filling(2), NULL) == GW_OK) {
        number++;
        log_flush(kit->log);
        test_disk_run(kit->disk);
    }
    assert_true(log_lacks_file(kit->log));
    log_set_patient(kit->log, true);
    uint64_t operations = test_disk_operations(kit->disk);
    for (unsigned turn = 0; turn < 10; turn++) {
        log_flush(kit->log);
        test_disk_run(kit->disk);
    }
    assert_int_equal(test_disk_operations(kit->disk), operations);
    assert_true(log_lacks_file(kit->log));
    log_set_patient(kit->log, false);
    log_flush(kit->log);
    test_disk_run(kit->disk);
    assert_true(test_disk_operations(kit->disk) > operations);
    test_disk_fail(kit->disk, DISK_OPEN, 0, 0, 0);
    log_flush(kit->log);
    test_disk_run(kit->disk);
    assert_false(log_lacks_file(kit->log));
    assert_int_equal(log_state(kit->log), GW_OK);
}

static void a_full_disk_refuses_until_there_is_room_again(void **state)
{
    struct log_kit *kit = *state;
    log_kit_commit(kit, 0, 1, 10);
    test_disk_limit(kit->disk, 2 * KIT_FILE_SIZE);
    uint32_t number = 1;
    while (log_kit_append(kit, number, 1, filling(2), NULL) == GW_OK) {
        number++;
        log_flush(kit->log);
        test_disk_run(kit->disk);
        assert_true(number < 100);
    }
    assert_int_equal(log_state(kit->log), GW_ERR_FULL);
    assert_int_equal(kit->failed_calls, 0);
    uint64_t committed = kit->committed.offset;
    log_flush(kit->log);
    test_disk_run(kit->disk);
    assert_int_equal(log_state(kit->log), GW_ERR_FULL);
    assert_int_equal(kit->committed.offset, committed);
    test_disk_limit(kit->disk, UINT64_MAX);
    log_flush(kit->log);
    test_disk_run(kit->disk);
    assert_int_equal(log_state(kit->log), GW_OK);
    log_kit_commit(kit, number++, 1, filling(2));
    assert_int_equal(kit->committed.offset, log_end(kit->log).offset);
    assert_int_equal(log_kit_crash(kit, LOSE_ALL, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, number));
}

static void a_log_may_be_closed_while_room_comes_back(void **state)
{
    struct log_kit *kit = *state;
    log_kit_close(kit);
    /* After each step of finding room again. */
    for (unsigned steps = 0; steps < 8; steps++) {
        struct log_kit own;
        log_kit_init(&own, 1);
        assert_int_equal(log_kit_open(&own, 0), GW_OK);
        for (uint32_t i = 0; i < 3; i++)
            log_kit_commit(&own, i, 1, filling(4));
        test_disk_limit(own.disk, 2 * KIT_FILE_SIZE);
        uint32_t number = 3;
        for (; number < 7; number++)
            assert_int_equal(log_kit_append(&own, number, 1, filling(4), NULL), GW_OK);
        log_flush(own.log);
        test_disk_run(own.disk);
        assert_true(own.committed.offset < log_end(own.log).offset);
        test_disk_limit(own.disk, UINT64_MAX);
        log_flush(own.log);
        for (unsigned i = 0; i < steps; i++)
            test_disk_step(own.disk);
        enum gw_err err = log_close(own.log);
        own.log = NULL;
        assert_true(err == GW_OK || err == GW_ERR_FULL);
        assert_false(test_disk_step(own.disk));
        uint64_t committed = own.committed.offset;
        assert_int_equal(test_disk_open_handles(own.disk), 0);
        assert_int_equal(log_kit_open(&own, 0), GW_OK);
        assert_true(log_kit_recovered(&own, 0, own.recovered));
        assert_int_equal(log_end(own.log).offset, committed);
        assert_true(err == GW_ERR_FULL || own.recovered == number);
        log_kit_deinit(&own);
    }
}

static void publishes_are_refused_before_settles_find_no_room(void **state)
{
    struct log_kit *kit = *state;
    test_disk_limit(kit->disk, KIT_FILE_SIZE);
    uint32_t number = 0;
    while (log_state(kit->log) == GW_OK) {
        log_kit_commit(kit, number++, 1, 10);
        assert_true(number < 16);
    }
    assert_int_equal(log_state(kit->log), GW_ERR_FULL);
    log_kit_commit(kit, number++, 1, 10);
    assert_int_equal(kit->committed.offset, log_end(kit->log).offset);
}

static void recycling_makes_room_on_a_full_disk(void **state)
{
    struct log_kit *kit = *state;
    test_disk_limit(kit->disk, 3 * KIT_FILE_SIZE);
    uint32_t number = 0;
    while (log_kit_append(kit, number, 1, filling(3), NULL) == GW_OK) {
        number++;
        log_flush(kit->log);
        test_disk_run(kit->disk);
        assert_true(number < 100);
    }
    assert_int_equal(log_state(kit->log), GW_ERR_FULL);
    log_recycle(kit->log, kit->wanted);
    log_flush(kit->log);
    test_disk_run(kit->disk);
    assert_int_equal(log_state(kit->log), GW_OK);
    assert_int_equal(log_kit_append(kit, number, 1, filling(3), NULL), GW_OK);
}

static void a_file_that_cannot_be_made_is_tried_again(void **state)
{
    struct log_kit *kit = *state;
    test_disk_fail(kit->disk, DISK_OPEN, 0, 1, EMFILE);
    assert_int_equal(log_kit_append(kit, 0, 1, 10, NULL), GW_OK);
    log_flush(kit->log);
    test_disk_run(kit->disk);
    assert_int_equal(kit->committed_calls, 0);
    assert_int_equal(log_state(kit->log), GW_ERR_FULL);
    log_flush(kit->log);
    test_disk_run(kit->disk);
    assert_int_equal(kit->committed.offset, LOG_ALIGN);
    assert_int_equal(log_state(kit->log), GW_OK);
}

static void nothing_is_committed_in_a_file_whose_name_is_not_durable(void **state)
{
    struct log_kit *kit = *state;
    test_disk_fail(kit->disk, DISK_SYNC_DIR, 0, 1, EIO);
    assert_int_equal(log_kit_append(kit, 0, 1, 10, NULL), GW_OK);
    log_flush(kit->log);
    test_disk_run(kit->disk);
    assert_int_equal(kit->committed_calls, 0);
}

/* ---- truncation ---- */

static void truncation_forgets_what_waits(void **state)
{
    struct log_kit *kit = *state;
    log_kit_commit(kit, 0, 2, 10);
    uint64_t cut;
    assert_int_equal(log_kit_append(kit, 2, 1, 10, NULL), GW_OK);
    assert_int_equal(log_kit_append(kit, 90, 1, 10, &cut), GW_OK);
    assert_int_equal(log_kit_append(kit, 91, 1, 10, NULL), GW_OK);
    assert_int_equal(log_truncate(kit->log, (struct log_position){1, cut}, false), GW_OK);
    assert_int_equal(log_end(kit->log).offset, cut);
    log_kit_commit(kit, 3, 1, 10);
    assert_int_equal(log_kit_crash(kit, LOSE_ALL, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, 4));
}

static void truncation_below_what_is_committed_needs_force(void **state)
{
    struct log_kit *kit = *state;
    log_kit_commit(kit, 0, 1, 10);
    log_kit_commit(kit, 1, 1, 10);
    assert_int_equal(log_truncate(kit->log, (struct log_position){1, LOG_ALIGN}, false), GW_ERR_INVALID);
    assert_int_equal(log_truncate(kit->log, (struct log_position){1, LOG_ALIGN}, true), GW_OK);
    assert_int_equal(log_committed(kit->log).offset, LOG_ALIGN);
}

static void truncation_inside_a_batch_is_refused(void **state)
{
    struct log_kit *kit = *state;
    log_kit_commit(kit, 0, 1, filling(3));
    log_kit_commit(kit, 1, 1, 10);
    assert_int_equal(log_kit_append(kit, 2, 1, filling(2), NULL), GW_OK);
    assert_int_equal(log_truncate(kit->log, (struct log_position){1, 2 * LOG_ALIGN}, true), GW_ERR_INVALID);
    assert_int_equal(log_truncate(kit->log, (struct log_position){1, 5 * LOG_ALIGN}, true), GW_ERR_INVALID);
    assert_int_equal(log_truncate(kit->log, (struct log_position){1, 100}, true), GW_ERR_INVALID);
    assert_int_equal(log_truncate(kit->log, (struct log_position){1, 9 * LOG_ALIGN}, true), GW_ERR_INVALID);
    log_flush(kit->log);
    test_disk_run(kit->disk);
    assert_int_equal(log_kit_crash(kit, LOSE_ALL, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, 3));
}

/* Truncates to every boundary of three files, appends behind it and starts again. */
static void what_was_truncated_never_comes_back(void **state)
{
    struct log_kit *kit = *state;
    log_kit_close(kit);
    for (unsigned keep = 0; keep <= 12; keep++) {
        struct log_kit own;
        log_kit_init(&own, keep + 1);
        assert_int_equal(log_kit_open(&own, 0), GW_OK);
        uint64_t offsets[13];
        for (uint32_t i = 0; i < 12; i++) {
            assert_int_equal(log_kit_append(&own, i < keep ? i : 100 + i, 1, filling(3), &offsets[i]), GW_OK);
            log_flush(own.log);
            test_disk_run(own.disk);
        }
        offsets[12] = log_end(own.log).offset;
        assert_int_equal(log_truncate(own.log, (struct log_position){1, offsets[keep]}, true), GW_OK);
        assert_int_equal(log_end(own.log).offset, offsets[keep]);
        assert_int_equal(log_kit_crash(&own, keep % 2 ? LOSE_ALL : LOSE_SOME, 0), GW_OK);
        assert_true(log_kit_recovered(&own, 0, keep));
        log_kit_commit(&own, keep, 1, filling(3));
        assert_int_equal(log_kit_crash(&own, LOSE_ALL, 0), GW_OK);
        assert_true(log_kit_recovered(&own, 0, keep + 1));
        for (uint32_t i = keep + 1; i < 16; i++)
            log_kit_commit(&own, i, 1, filling(3));
        assert_int_equal(log_kit_crash(&own, LOSE_ALL, 0), GW_OK);
        assert_true(log_kit_recovered(&own, 0, 16));
        assert_int_equal(own.errors, 0);
        log_kit_deinit(&own);
    }
}

/* ---- memory ---- */

static void a_memory_log_commits_at_the_flush(void **state)
{
    struct log_kit *kit = *state;
    log_kit_close(kit);
    struct log_config config = {.body = LOG_MEMORY, .pool = kit->pool};
    struct log_recovery recovery;
    assert_int_equal(log_open(&config, 0, 7, NULL, NULL, &recovery, &kit->log), GW_OK);
    uint64_t first, second;
    assert_int_equal(log_kit_append(kit, 0, 1, 10, &first), GW_OK);
    assert_int_equal(log_kit_append(kit, 1, 1, 5000, &second), GW_OK);
    assert_int_equal(first, 0);
    assert_int_equal(second, LOG_ALIGN);
    assert_int_equal(log_committed(kit->log).offset, 0);
    log_flush(kit->log);
    assert_int_equal(log_committed(kit->log).offset, 3 * LOG_ALIGN);
    assert_int_equal(log_committed(kit->log).epoch, 7);
    assert_int_equal(log_state(kit->log), GW_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_append_is_not_committed_before_its_write_is_done),
        TEST(nothing_runs_inside_append),
        TEST(what_gathers_during_one_write_leaves_in_the_next_one),
        TEST(commits_come_in_the_order_of_the_appends),
        TEST(close_writes_what_was_only_appended),
        TEST(a_slice_may_fill_a_file_exactly),
        TEST(slices_never_span_files),
        TEST(a_slice_larger_than_a_file_gets_a_file_of_its_own),
        TEST(the_first_slice_may_be_larger_than_a_file),
        TEST(a_slice_larger_than_a_write_is_committed_when_all_of_it_is_written),
        TEST(many_small_slices_make_several_writes),
        TEST(the_next_file_is_ready_before_it_is_needed),
        TEST(recycled_files_are_used_again),
        TEST(stale_batches_of_a_recycled_file_are_never_taken_for_live_ones),
        TEST(a_checkpoint_is_wanted_when_the_files_run_short_and_frees_about_half),
        TEST(a_log_whose_checkpoint_is_slow_takes_more_files),
        TEST(a_failed_write_is_final),
        TEST(who_is_patient_does_not_look_in_every_turn),
        TEST(a_full_disk_refuses_until_there_is_room_again),
        TEST(a_log_may_be_closed_while_room_comes_back),
        TEST(publishes_are_refused_before_settles_find_no_room),
        TEST(recycling_makes_room_on_a_full_disk),
        TEST(a_file_that_cannot_be_made_is_tried_again),
        TEST(nothing_is_committed_in_a_file_whose_name_is_not_durable),
        TEST(truncation_forgets_what_waits),
        TEST(truncation_below_what_is_committed_needs_force),
        TEST(truncation_inside_a_batch_is_refused),
        TEST(what_was_truncated_never_comes_back),
        TEST(a_memory_log_commits_at_the_flush),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
