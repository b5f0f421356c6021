#include "store/log_file.h"
#include "store/log_test_kit.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define FIRST_FILE KIT_DIRECTORY "/log-0000000000000000"

static int set_up(void **state)
{
    struct log_kit *kit = malloc(sizeof(*kit));
    log_kit_init(kit, 7);
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

/* Inverts one byte of a file for good. */
static void damage(struct log_kit *kit, const char *name, uint64_t at)
{
    struct bytes bytes = test_disk_bytes(kit->disk, name);
    assert_true(at < bytes.size);
    uint8_t byte = (uint8_t)~bytes.data[at];
    test_disk_put(kit->disk, name, at, &byte, 1);
}

/* ---- the torn tail ---- */

static void a_new_log_is_empty(void **state)
{
    struct log_kit *kit = *state;
    assert_int_equal(kit->recovered, 0);
    assert_int_equal(log_end(kit->log).offset, 0);
    log_kit_close(kit);
    assert_int_equal(log_kit_open(kit, 0), GW_OK);
    assert_int_equal(kit->recovered, 0);
}

/* Two batches; of the second one only the first `kept` bytes reached the disk. What follows are zeros, or what a write of long ago left. */
static void check_torn(uint32_t kept, bool stale)
{
    struct log_kit kit;
    log_kit_init(&kit, kept);
    assert_int_equal(log_kit_open(&kit, 0), GW_OK);
    log_kit_commit(&kit, 0, 4, 50);
    log_kit_commit(&kit, 4, 4, 1500);
    assert_int_equal(log_kit_crash(&kit, LOSE_NOTHING, LOG_ALIGN), GW_OK);
    log_kit_close(&kit);

    uint32_t size = log_kit_batch_size(4, 1500), record = (size - BATCH_HEADER_SIZE) / 4;
    uint8_t *rest = malloc(3 * LOG_ALIGN);
    memset(rest, stale ? 0x5a : 0, 3 * LOG_ALIGN);
    test_disk_put(kit.disk, FIRST_FILE, 2 * LOG_ALIGN + kept, rest, 3 * LOG_ALIGN - kept);
    free(rest);

    uint32_t whole = kept < BATCH_HEADER_SIZE ? 0 : (kept - BATCH_HEADER_SIZE) / record;
    assert_int_equal(log_kit_open(&kit, 0), GW_OK);
    assert_true(log_kit_recovered(&kit, 0, 4 + whole));
    /* A header lies in one sector, which no crash tears: a part of one is taken for rot, and told. */
    if (kept == 0 || kept >= BATCH_HEADER_SIZE) {
        assert_int_equal(kit.errors, 0);
        assert_int_equal(kit.recovery.quarantined, 0);
    }
    if (kept >= BATCH_HEADER_SIZE && kept < size) {
        assert_int_equal(kit.warnings, 1);
        assert_int_equal(kit.recovery.truncated_bytes, 3 * LOG_ALIGN - LOG_ALIGN - BATCH_HEADER_SIZE - whole * record);
    }
    uint64_t end = whole == 0 ? LOG_ALIGN : LOG_ALIGN + (BATCH_HEADER_SIZE + whole * record + LOG_ALIGN - 1) / LOG_ALIGN * LOG_ALIGN;
    assert_int_equal(log_end(kit.log).offset, end);

    log_kit_commit(&kit, 4 + whole, 3, 20);
    assert_int_equal(log_kit_crash(&kit, LOSE_ALL, 0), GW_OK);
    assert_true(log_kit_recovered(&kit, 0, 4 + whole + 3));
    assert_int_equal(kit.warnings + kit.errors, 0);
    log_kit_deinit(&kit);
}

static void a_tail_torn_at_any_byte_keeps_the_whole_records_before_it(void **state)
{
    (void)state;
    for (uint32_t kept = 0; kept < log_kit_batch_size(4, 1500); kept += kept < 80 ? 1 : 7)
        for (unsigned stale = 0; stale < 2; stale++)
            check_torn(kept, stale);
}

static void a_torn_batch_does_not_come_back_when_the_log_has_grown_up_to_its_rest(void **state)
{
    struct log_kit *kit = *state;
    log_kit_commit(kit, 0, 1, 10);
    /* One write of four batches loses the first one's page; the others are whole. */
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(log_kit_append(kit, 90 + i, 1, 10, NULL), GW_OK);
    log_flush(kit->log);
    test_disk_run(kit->disk);
    assert_int_equal(log_kit_crash(kit, LOSE_NOTHING, LOG_ALIGN), GW_OK);
    log_kit_close(kit);
    uint8_t zeros[LOG_ALIGN] = {0};
    test_disk_put(kit->disk, FIRST_FILE, 2 * LOG_ALIGN, zeros, sizeof(zeros));
    test_disk_put(kit->disk, FIRST_FILE, 6 * LOG_ALIGN, zeros, sizeof(zeros)); /* the orderly close's last word, if it was written */

    assert_int_equal(log_kit_open(kit, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, 1));
    assert_int_equal(kit->recovery.truncated_bytes, 4 * LOG_ALIGN);
    for (uint32_t i = 1; i < 4; i++) {
        log_kit_commit(kit, i, 1, 10);
        assert_int_equal(log_kit_crash(kit, LOSE_ALL, 0), GW_OK);
        assert_true(log_kit_recovered(kit, 0, i + 1));
        assert_int_equal(log_end(kit->log).offset, (i + 1) * LOG_ALIGN);
    }
}

static void a_log_is_a_prefix_of_what_was_appended_after_any_crash(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct log_kit kit;
        log_kit_init(&kit, seed);
        assert_int_equal(log_kit_open(&kit, 0), GW_OK);
        uint32_t number = 0;
        for (unsigned turn = 0; turn < 6; turn++) {
            for (unsigned i = 0; i < 1 + seed % 5; i++, number += 3)
                assert_int_equal(log_kit_append(&kit, number, 3, 100 + (seed * 37 + i * 811) % 3000, NULL), GW_OK);
            log_flush(kit.log);
            if (turn % 2)
                test_disk_run(kit.disk);
            else
                test_disk_step(kit.disk);
            uint64_t committed = kit.committed.offset;
            if (log_kit_crash(&kit, LOSE_SOME, 0) != GW_OK)
                fail_msg("seed %lu does not open", (unsigned long)seed);
            if (!log_kit_recovered(&kit, 0, kit.recovered) || log_end(kit.log).offset < committed || kit.errors)
                fail_msg("seed %lu loses or invents records", (unsigned long)seed);
            number = kit.recovered;
        }
        log_kit_deinit(&kit);
    }
}

/* ---- rot ---- */

/* Damages each byte of a batch in the middle, in turn, and expects all records but its own, or but those behind a bad header. */
static void check_rot(uint64_t at, bool last_file)
{
    struct log_kit kit;
    log_kit_init(&kit, at);
    assert_int_equal(log_kit_open(&kit, 0), GW_OK);
    log_kit_commit(&kit, 0, 2, 60);
    log_kit_commit(&kit, 2, 3, 60);
    log_kit_commit(&kit, 5, 2, 60);
    if (!last_file)
        for (uint32_t i = 0; i < 5; i++)
            log_kit_commit(&kit, 7 + i, 1, 4 * LOG_ALIGN);
    log_kit_close(&kit);
    damage(&kit, FIRST_FILE, 2 * LOG_ALIGN + at);

    uint32_t total = last_file ? 7 : 12, record = (log_kit_batch_size(3, 60) - BATCH_HEADER_SIZE) / 3;
    assert_int_equal(log_kit_open(&kit, 0), GW_OK);
    bool in_padding = at >= log_kit_batch_size(3, 60);
    if (in_padding) {
        assert_true(log_kit_recovered(&kit, 0, total));
        assert_int_equal(kit.errors, 0);
    } else {
        assert_int_equal(kit.errors, 1);
        assert_int_equal(kit.recovery.quarantined, 1);
        assert_non_null(test_disk_name(kit.disk, KIT_DIRECTORY "/quarantine-", 0));
        uint32_t which = at < BATCH_HEADER_SIZE ? 0 : (uint32_t)(at - BATCH_HEADER_SIZE) / record;
        bool header = at < BATCH_HEADER_SIZE || (at - BATCH_HEADER_SIZE) % record < RECORD_HEADER_SIZE + PUBLISH_TARGET_SIZE;
        uint32_t lost = header ? 3 - which : 1;
        assert_int_equal(kit.recovered, total - lost);
        for (uint32_t i = 0, number = 0; i < kit.recovered; i++, number++) {
            if (number == 2 + which)
                number += lost;
            assert_int_equal(kit.numbers[i], number);
        }
    }
    assert_int_equal(kit.recovery.truncated_bytes, 0);
    log_kit_deinit(&kit);
}

static void rot_at_any_byte_costs_at_most_what_it_hit(void **state)
{
    (void)state;
    for (uint64_t at = 0; at < log_kit_batch_size(3, 60) + 20; at++) {
        check_rot(at, true);
        check_rot(at, false);
    }
}

static void the_quarantine_holds_the_rotten_bytes(void **state)
{
    struct log_kit *kit = *state;
    for (uint32_t i = 0; i < 3; i++)
        log_kit_commit(kit, i, 1, 300 * 1024);
    log_kit_close(kit);
    const char *second = test_disk_name(kit->disk, KIT_DIRECTORY "/log-", 1);
    damage(kit, second, 200 * 1024);
    assert_int_equal(log_kit_open(kit, 0), GW_OK);
    assert_int_equal(kit->recovered, 2);
    assert_int_equal(kit->recovery.quarantined, 1);
    struct bytes kept = test_disk_bytes(kit->disk, test_disk_name(kit->disk, KIT_DIRECTORY "/quarantine-", 0));
    struct bytes file = test_disk_bytes(kit->disk, second);
    assert_int_equal(kept.size, log_kit_batch_size(1, 300 * 1024) - BATCH_HEADER_SIZE);
    assert_memory_equal(kept.data, file.data + LOG_FILE_HEADER_SIZE + BATCH_HEADER_SIZE, kept.size);
}

static void rot_in_the_last_batch_is_known_after_an_orderly_close(void **state)
{
    struct log_kit *kit = *state;
    log_kit_commit(kit, 0, 1, 100);
    log_kit_commit(kit, 1, 2, 100);
    log_kit_close(kit);
    damage(kit, FIRST_FILE, 2 * LOG_ALIGN + BATCH_HEADER_SIZE + RECORD_HEADER_SIZE + PUBLISH_TARGET_SIZE + 50);
    assert_int_equal(log_kit_open(kit, 0), GW_OK);
    assert_int_equal(kit->recovered, 2);
    assert_int_equal(kit->numbers[1], 2);
    assert_int_equal(kit->recovery.quarantined, 1);
    assert_int_equal(kit->recovery.truncated_bytes, 0);
}

static void an_orderly_close_leaves_the_end_where_it_was(void **state)
{
    struct log_kit *kit = *state;
    for (uint32_t i = 0; i < 20; i++) {
        log_kit_commit(kit, i, 1, 100 + i * 400);
        uint64_t end = log_end(kit->log).offset;
        log_kit_close(kit);
        assert_int_equal(log_kit_open(kit, 0), GW_OK);
        assert_true(log_kit_recovered(kit, 0, i + 1));
        assert_int_equal(log_end(kit->log).offset, end);
        assert_int_equal(kit->warnings + kit->errors, 0);
    }
}

/* The next start reads no more than it must: spares are gone, and of the room in a large file a megabyte is left. */
static void an_orderly_close_gives_back_what_the_next_start_would_look_through(void **state)
{
    struct log_kit *kit = *state;
    uint32_t number = 0;
    log_kit_close(kit);
    kit->file_size = 8u << 20;
    assert_int_equal(log_kit_open(kit, 0), GW_OK);
    for (; number < 6; number++)
        log_kit_commit(kit, number, 1, 300000);   /* the first three fill the first megabyte */
    assert_non_null(test_disk_name(kit->disk, KIT_DIRECTORY "/spare-", 0));
    log_kit_close(kit);
    assert_null(test_disk_name(kit->disk, KIT_DIRECTORY "/spare-", 0));
    struct bytes last = test_disk_bytes(kit->disk, test_disk_name(kit->disk, KIT_DIRECTORY "/log-", 1));
    assert_true(last.size > 3 * 300000 && last.size <= 3 * 304000 + (1u << 20) + LOG_FILE_HEADER_SIZE);
    for (unsigned turn = 0; turn < 8; turn++, number++) {
        assert_int_equal(log_kit_open(kit, 0), GW_OK);
        assert_true(log_kit_recovered(kit, 0, number));
        assert_int_equal(kit->warnings + kit->errors, 0);
        log_kit_commit(kit, number, 1, 300000);
        log_kit_close(kit);
    }
    assert_int_equal(log_kit_open(kit, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, number));
    assert_int_equal(log_kit_crash(kit, LOSE_ALL, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, number));
}

static void a_write_torn_over_the_last_word_leaves_nothing(void **state)
{
    struct log_kit *kit = *state;
    log_kit_commit(kit, 0, 1, 10);
    log_kit_close(kit);
    uint8_t last_word[LOG_ALIGN];
    memcpy(last_word, test_disk_bytes(kit->disk, FIRST_FILE).data + 2 * LOG_ALIGN, LOG_ALIGN);
    assert_int_equal(log_kit_open(kit, 0), GW_OK);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(log_kit_append(kit, 90 + i, 1, 10, NULL), GW_OK);
    log_flush(kit->log);
    test_disk_run(kit->disk);
    log_kit_close(kit);
    uint8_t zeros[LOG_ALIGN] = {0};
    test_disk_put(kit->disk, FIRST_FILE, 2 * LOG_ALIGN, last_word, LOG_ALIGN);
    test_disk_put(kit->disk, FIRST_FILE, 5 * LOG_ALIGN, zeros, LOG_ALIGN);
    assert_int_equal(log_kit_open(kit, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, 1));
    assert_int_equal(kit->warnings, 1);
    for (uint32_t i = 1; i < 5; i++) {
        log_kit_commit(kit, i, 1, 10);
        assert_int_equal(log_kit_crash(kit, LOSE_ALL, 0), GW_OK);
        assert_true(log_kit_recovered(kit, 0, i + 1));
    }
}

static void rot_before_a_later_write_is_known_after_a_kill_too(void **state)
{
    struct log_kit *kit = *state;
    for (uint32_t i = 0; i < 3; i++)
        log_kit_commit(kit, i, 1, 100);
    log_kit_close(kit);
    uint8_t zeros[LOG_ALIGN] = {0};
    test_disk_put(kit->disk, FIRST_FILE, 4 * LOG_ALIGN, zeros, sizeof(zeros)); /* the last word of the orderly close */
    damage(kit, FIRST_FILE, 2 * LOG_ALIGN + 80);
    assert_int_equal(log_kit_open(kit, 0), GW_OK);
    assert_int_equal(kit->recovered, 2);
    assert_int_equal(kit->recovery.quarantined, 1);
    assert_int_equal(kit->recovery.truncated_bytes, 0);
}

static void a_rotten_file_header_is_written_anew(void **state)
{
    struct log_kit *kit = *state;
    for (uint32_t i = 0; i < 8; i++)
        log_kit_commit(kit, i, 1, 5 * LOG_ALIGN);
    log_kit_close(kit);
    for (unsigned file = 0; file < 3; file++) {
        damage(kit, test_disk_name(kit->disk, KIT_DIRECTORY "/log-", file), 10);
        assert_int_equal(log_kit_open(kit, 0), GW_OK);
        assert_true(log_kit_recovered(kit, 0, 8));
        assert_int_equal(kit->errors, 1);
        log_kit_close(kit);
        assert_int_equal(log_kit_open(kit, 0), GW_OK);
        assert_int_equal(kit->errors, 0);
        log_kit_close(kit);
    }
}

static void a_missing_file_in_the_middle_is_told_and_nothing_is_touched(void **state)
{
    struct log_kit *kit = *state;
    for (uint32_t i = 0; i < 12; i++)
        log_kit_commit(kit, i, 1, 5 * LOG_ALIGN);
    log_kit_close(kit);
    const char *names[3];
    for (unsigned i = 0; i < 3; i++)
        names[i] = test_disk_name(kit->disk, KIT_DIRECTORY "/log-", i);
    struct disk_op gone = {.kind = DISK_RENAME, .file = -1, .name = names[1], .new_name = "elsewhere"};
    assert_int_equal(test_disk_face(kit->disk)->call(test_disk_face(kit->disk), &gone), 0);
    assert_int_equal(log_kit_open(kit, 0), GW_ERR_CORRUPT);
    assert_int_equal(kit->errors, 1);
    assert_non_null(test_disk_name(kit->disk, KIT_DIRECTORY "/log-", 2));
}

static void a_log_that_lost_its_beginning_does_not_open(void **state)
{
    struct log_kit *kit = *state;
    for (uint32_t i = 0; i < 12; i++)
        log_kit_commit(kit, i, 1, 5 * LOG_ALIGN);
    uint64_t cutoff = kit->wanted;
    log_recycle(kit->log, cutoff);
    test_disk_run(kit->disk);
    log_kit_close(kit);
    assert_int_equal(log_kit_open(kit, 0), GW_ERR_CORRUPT);
    assert_int_equal(log_kit_open(kit, cutoff), GW_OK);
}

static void a_file_of_a_later_version_is_refused(void **state)
{
    struct log_kit *kit = *state;
    log_kit_commit(kit, 0, 1, 10);
    log_kit_close(kit);
    uint8_t header[28];
    memcpy(header, test_disk_bytes(kit->disk, FIRST_FILE).data, sizeof(header));
    store_le32(header + 4, LOG_FILE_VERSION + 1);
    store_le32(header + 24, crc32c(0, header, 24));
    test_disk_put(kit->disk, FIRST_FILE, 0, header, sizeof(header));
    assert_int_equal(log_kit_open(kit, 0), GW_ERR_VERSION);
}

/* ---- where to begin ---- */

static void only_what_the_snapshot_lacks_is_replayed(void **state)
{
    struct log_kit *kit = *state;
    uint64_t offsets[20];
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(log_kit_append(kit, i, 1, 2 * LOG_ALIGN, &offsets[i]), GW_OK);
        log_flush(kit->log);
        test_disk_run(kit->disk);
    }
    uint64_t end = log_end(kit->log).offset;
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(log_kit_crash(kit, LOSE_ALL, offsets[i]), GW_OK);
        assert_true(log_kit_recovered(kit, i, 20 - i));
        assert_int_equal(log_end(kit->log).offset, end);
    }
}

static void a_snapshot_ahead_of_the_log_goes_on_behind_it(void **state)
{
    struct log_kit *kit = *state;
    log_kit_commit(kit, 0, 1, 10);
    uint64_t ahead = 9 * KIT_FILE_SIZE;
    assert_int_equal(log_kit_crash(kit, LOSE_ALL, ahead), GW_OK);
    assert_int_equal(kit->recovered, 0);
    assert_int_equal(log_end(kit->log).offset, ahead);
    log_kit_commit(kit, 1, 1, 10);
    assert_int_equal(log_kit_crash(kit, LOSE_ALL, ahead), GW_OK);
    assert_true(log_kit_recovered(kit, 1, 1));
}

static void lower_epochs_after_higher_ones_are_stale(void **state)
{
    struct log_kit *kit = *state;
    kit->epoch = 5;
    log_kit_commit(kit, 0, 1, 10);
    assert_int_equal(log_kit_crash(kit, LOSE_ALL, 0), GW_OK);
    log_kit_commit(kit, 1, 1, 10);
    assert_int_equal(kit->committed.epoch, 5);
    kit->epoch = 2;
    assert_int_equal(log_kit_crash(kit, LOSE_ALL, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, 2));
    log_kit_commit(kit, 2, 1, 10);
    assert_int_equal(kit->committed.epoch, 5);
}

static void a_batch_of_a_lower_epoch_ends_the_log(void **state)
{
    struct log_kit *kit = *state;
    log_kit_close(kit);
    kit->epoch = 5;
    assert_int_equal(log_kit_open(kit, 0), GW_OK);
    log_kit_commit(kit, 0, 1, 10);
    log_kit_commit(kit, 1, 1, 10);
    log_kit_close(kit);
    uint8_t page[LOG_ALIGN] = {0};
    test_disk_put(kit->disk, FIRST_FILE, 3 * LOG_ALIGN, page, sizeof(page));
    memcpy(page, test_disk_bytes(kit->disk, FIRST_FILE).data + 2 * LOG_ALIGN, sizeof(page));
    store_le64(page + 8, 4);
    store_le32(page + 4, crc32c(0, page + 8, BATCH_HEADER_SIZE - 8));
    test_disk_put(kit->disk, FIRST_FILE, 2 * LOG_ALIGN, page, sizeof(page));
    assert_int_equal(log_kit_open(kit, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, 1));
    assert_int_equal(kit->recovery.truncated_bytes, LOG_ALIGN);
}

static void files_that_are_no_part_of_the_log_are_cleared_away(void **state)
{
    struct log_kit *kit = *state;
    for (uint32_t i = 0; i < 12; i++)
        log_kit_commit(kit, i, 1, 5 * LOG_ALIGN);
    log_recycle(kit->log, kit->wanted);
    test_disk_run(kit->disk);
    assert_non_null(test_disk_name(kit->disk, KIT_DIRECTORY "/spare-", 0));
    assert_int_equal(log_kit_crash(kit, LOSE_ALL, kit->wanted), GW_OK);
    test_disk_run(kit->disk);
    assert_null(test_disk_name(kit->disk, KIT_DIRECTORY "/spare-", 0));
    unsigned files = 0;
    while (test_disk_name(kit->disk, KIT_DIRECTORY "/", files))
        files++;
    assert_int_equal(files * KIT_FILE_SIZE, log_disk_bytes(kit->log));
}

/* ---- a crash at every operation ---- */

/* A life of a log: appends, checkpoints, truncation. Answers how many records were committed at least, and from where a replay must begin. */
struct life {
    uint32_t appended, committed;
    uint64_t from;
    uint32_t first;             /* the number of the first record at or after `from` */
};

static void live(struct log_kit *kit, struct life *life)
{
    uint64_t offsets[64];
    uint32_t firsts[64];
    unsigned count = 0;
    while (life->appended < 60 && log_state(kit->log) == GW_OK) {
        uint32_t records = 1 + life->appended % 3;
        firsts[count] = life->appended;
        if (log_kit_append(kit, life->appended, records, 900 * (1 + life->appended % 5), &offsets[count]) != GW_OK)
            break;
        count++;
        life->appended += records;
        if (life->appended % 2)
            log_flush(kit->log);
        if (life->appended % 4)
            test_disk_step(kit->disk);
        for (unsigned i = 0; i < count; i++)
            if (offsets[i] < kit->committed.offset)
                life->committed = i + 1 < count ? firsts[i + 1] : life->appended;
        if (kit->wanted > life->from && !test_disk_crashed(kit->disk)) {
            life->from = kit->wanted;
            for (unsigned i = count; i-- > 0;)
                if (offsets[i] >= life->from)
                    life->first = firsts[i];
            log_recycle(kit->log, life->from);
        }
    }
}

static void check_crash_at(uint64_t operation, enum test_disk_loss loss, bool *reached)
{
    struct log_kit kit;
    struct life life = {0};
    log_kit_init(&kit, operation);
    test_disk_crash_at(kit.disk, operation);
    if (log_kit_open(&kit, 0) == GW_OK)
        live(&kit, &life);
    log_kit_close(&kit);
    test_disk_run(kit.disk);
    *reached = test_disk_crashed(kit.disk);
    for (unsigned again = 0; again < 3; again++) {
        test_disk_restart(kit.disk, loss);
        /* The recovery itself is cut short, a little later each time, before it may finish. */
        test_disk_crash_at(kit.disk, again < 2 ? test_disk_operations(kit.disk) + 3 + 4 * again : 0);
        enum gw_err err = log_kit_open(&kit, life.from);
        if (err != GW_OK && !test_disk_crashed(kit.disk))
            fail_msg("after a crash at operation %lu the log does not open: %s", (unsigned long)operation, gw_err_text(err));
        if (err == GW_OK && (!log_kit_recovered(&kit, life.first, kit.recovered) || life.first + kit.recovered < life.committed))
            fail_msg("a crash at operation %lu lost or invented records: %u from %u on, %u were committed", (unsigned long)operation, kit.recovered,
                     life.first, life.committed);
        if (err == GW_OK)
            life.committed = life.first + kit.recovered;
        if (kit.errors)
            fail_msg("a crash at operation %lu looks like rot", (unsigned long)operation);
        log_kit_close(&kit);
        test_disk_run(kit.disk);
    }
    log_kit_deinit(&kit);
}

static void a_crash_at_any_operation_loses_nothing_committed(void **state)
{
    (void)state;
    for (unsigned loss = LOSE_NOTHING; loss <= LOSE_SOME; loss++) {
        bool reached = true;
        for (uint64_t operation = 1; reached; operation++)
            check_crash_at(operation, (enum test_disk_loss)loss, &reached);
    }
}

/* ---- the visitor ---- */

struct keeper {
    struct chunk *chunks[64];
    struct bytes contents[64];
    uint32_t numbers[64];
    unsigned count, stop_at;
};

static enum gw_err keep(void *owner, const struct record *record, struct chunk *chunk, uint64_t offset)
{
    struct keeper *keeper = owner;
    (void)offset;
    if (keeper->count == keeper->stop_at)
        return GW_ERR_LIMIT;
    keeper->chunks[keeper->count] = chunk_retain(chunk);
    keeper->contents[keeper->count] = record->content;
    keeper->numbers[keeper->count++] = load_le32(record->content.data);
    return GW_OK;
}

static void the_visitor_may_keep_the_chunk_and_may_stop_the_recovery(void **state)
{
    struct log_kit *kit = *state;
    for (uint32_t i = 0; i < 40; i++)
        log_kit_commit(kit, i, 1, 40000);
    log_kit_close(kit);
    struct log_config config = {.body = LOG_FILE, .disk = test_disk_face(kit->disk), .directory = KIT_DIRECTORY, .pool = kit->pool,
                                .file_size = KIT_FILE_SIZE, .file_count = 4};
    struct keeper keeper = {.stop_at = 64};
    assert_int_equal(log_open(&config, 0, 1, keep, &keeper, NULL, &kit->log), GW_OK);
    assert_int_equal(keeper.count, 40);
    for (uint32_t i = 0; i < 40; i++) {
        assert_int_equal(load_le32(keeper.contents[i].data), i);
        chunk_release(keeper.chunks[i], kit->pool);
    }
    log_kit_close(kit);
    keeper = (struct keeper){.stop_at = 10};
    assert_int_equal(log_open(&config, 0, 1, keep, &keeper, NULL, &kit->log), GW_ERR_LIMIT);
    for (uint32_t i = 0; i < 10; i++)
        chunk_release(keeper.chunks[i], kit->pool);
    assert_null(kit->log);
    assert_int_equal(test_disk_open_handles(kit->disk), 0);
}

static void what_only_the_system_has_is_made_durable_before_it_counts(void **state)
{
    struct log_kit *kit = *state;
    log_kit_commit(kit, 0, 1, 10);
    assert_int_equal(log_kit_append(kit, 1, 1, 10, NULL), GW_OK);
    log_flush(kit->log);
    log_kit_crash(kit, LOSE_NOTHING, 0);
    unsigned found = kit->recovered;
    assert_true(found >= 1);
    assert_int_equal(log_committed(kit->log).offset, log_end(kit->log).offset);
    assert_int_equal(log_kit_crash(kit, LOSE_ALL, 0), GW_OK);
    assert_int_equal(kit->recovered, found);
    log_kit_commit(kit, found, 1, 10);
    assert_int_equal(log_kit_crash(kit, LOSE_ALL, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, found + 1));
    assert_int_equal(kit->errors, 0);
}

static void the_disks_errors_while_opening_are_told(void **state)
{
    struct log_kit *kit = *state;
    for (uint32_t i = 0; i < 8; i++)
        log_kit_commit(kit, i, 1, 5 * LOG_ALIGN);
    log_kit_close(kit);
    static const enum disk_kind kinds[] = {DISK_LIST, DISK_OPEN, DISK_SIZE, DISK_READ, DISK_WRITE_SYNC};
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        test_disk_fail(kit->disk, kinds[i], 0, 1, EIO);
        assert_int_equal(log_kit_open(kit, 0), GW_ERR_IO);
        assert_null(kit->log);
        assert_int_equal(test_disk_open_handles(kit->disk), 0);
    }
    assert_int_equal(log_kit_open(kit, 0), GW_OK);
    assert_true(log_kit_recovered(kit, 0, 8));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_new_log_is_empty),
        cmocka_unit_test(a_tail_torn_at_any_byte_keeps_the_whole_records_before_it),
        TEST(a_torn_batch_does_not_come_back_when_the_log_has_grown_up_to_its_rest),
        cmocka_unit_test(a_log_is_a_prefix_of_what_was_appended_after_any_crash),
        cmocka_unit_test(rot_at_any_byte_costs_at_most_what_it_hit),
        TEST(the_quarantine_holds_the_rotten_bytes),
        TEST(rot_in_the_last_batch_is_known_after_an_orderly_close),
        TEST(an_orderly_close_leaves_the_end_where_it_was),
        TEST(an_orderly_close_gives_back_what_the_next_start_would_look_through),
        TEST(a_write_torn_over_the_last_word_leaves_nothing),
        TEST(rot_before_a_later_write_is_known_after_a_kill_too),
        TEST(a_rotten_file_header_is_written_anew),
        TEST(a_missing_file_in_the_middle_is_told_and_nothing_is_touched),
        TEST(a_log_that_lost_its_beginning_does_not_open),
        TEST(a_file_of_a_later_version_is_refused),
        TEST(only_what_the_snapshot_lacks_is_replayed),
        TEST(a_snapshot_ahead_of_the_log_goes_on_behind_it),
        TEST(lower_epochs_after_higher_ones_are_stale),
        TEST(a_batch_of_a_lower_epoch_ends_the_log),
        TEST(files_that_are_no_part_of_the_log_are_cleared_away),
        cmocka_unit_test(a_crash_at_any_operation_loses_nothing_committed),
        TEST(the_visitor_may_keep_the_chunk_and_may_stop_the_recovery),
        TEST(what_only_the_system_has_is_made_durable_before_it_counts),
        TEST(the_disks_errors_while_opening_are_told),
    };
    return cmocka_run_group_tests_name("log recovery", tests, NULL, NULL);
}
