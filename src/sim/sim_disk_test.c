#include "sim/sim_disk.h"
#include "sim/sim_file.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

struct fixture {
    struct random random;
    struct trace trace;
    struct sim_disk *disk;
    struct disk *face;
};

static int setup(void **state)
{
    static struct fixture fixture;
    random_init(&fixture.random, 7);
    trace_init(&fixture.trace, false);
    fixture.disk = sim_disk_new(&fixture.random, &fixture.trace);
    fixture.face = sim_disk_face(fixture.disk);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    sim_disk_free(fixture->disk);
    return 0;
}

static int file_open(struct fixture *fixture, const char *name, unsigned flags)
{
    struct disk_op op = {.kind = DISK_OPEN, .name = name, .flags = flags};
    return fixture->face->call(fixture->face, &op) ? -1 : op.file;
}

static int transfer(struct fixture *fixture, enum disk_kind kind, int file, void *bytes, size_t size, uint64_t offset)
{
    struct iovec iov = {bytes, size};
    struct disk_op op = {.kind = kind, .file = file, .iov = &iov, .iov_count = 1, .offset = offset};
    int error = fixture->face->call(fixture->face, &op);
    return error ? -error : (int)op.result;
}

static int simple(struct fixture *fixture, enum disk_kind kind, int file, const char *name, const char *new_name)
{
    struct disk_op op = {.kind = kind, .file = file, .name = name, .new_name = new_name};
    return fixture->face->call(fixture->face, &op);
}

static int make(struct fixture *fixture, const char *name, const char *text)
{
    int file = file_open(fixture, name, DISK_CREATE);
    assert_int_equal(transfer(fixture, DISK_WRITE, file, (void *)(uintptr_t)text, strlen(text), 0), strlen(text));
    return file;
}

static void what_is_written_is_read(void **state)
{
    struct fixture *fixture = *state;
    char bytes[10000], back[20000];
    random_fill(&fixture->random, bytes, sizeof(bytes));
    int file = file_open(fixture, "a", DISK_CREATE);
    assert_int_equal(transfer(fixture, DISK_WRITE, file, bytes, sizeof(bytes), 3000), sizeof(bytes));
    assert_int_equal(transfer(fixture, DISK_READ, file, back, sizeof(back), 0), 13000);
    for (unsigned i = 0; i < 3000; i++)
        assert_int_equal(back[i], 0);
    assert_memory_equal(back + 3000, bytes, sizeof(bytes));
    assert_int_equal(file_open(fixture, "missing", 0), -1);
    assert_int_equal(file_open(fixture, "no/directory", DISK_CREATE), -1);
}

static void a_kill_keeps_what_was_written_and_power_only_what_was_synced(void **state)
{
    struct fixture *fixture = *state;
    unsigned lost = 0, kept = 0;
    for (unsigned round = 0; round < 100; round++) {
        char back[8] = {0};
        int file = make(fixture, "a", "old");
        assert_int_equal(simple(fixture, DISK_SYNC, file, NULL, NULL), 0);
        assert_int_equal(simple(fixture, DISK_SYNC_DIR, -1, ".", NULL), 0);
        file = make(fixture, "a", "new");
        sim_disk_stop(fixture->disk);
        assert_int_equal(transfer(fixture, DISK_READ, file, back, 3, 0), -EIO);
        bool power = round % 2;
        sim_disk_restart(fixture->disk, power);
        file = file_open(fixture, "a", 0);
        assert_int_equal(transfer(fixture, DISK_READ, file, back, 3, 0), 3);
        if (!power)
            assert_string_equal(back, "new");
        else if (strcmp(back, "old") == 0)
            lost++;
        else
            kept++;
    }
    assert_true(lost > 5 && kept > 5);
}

static void a_name_survives_power_only_after_its_directory_was_synced(void **state)
{
    struct fixture *fixture = *state;
    unsigned there = 0;
    simple(fixture, DISK_MAKE_DIR, -1, "d", NULL);
    simple(fixture, DISK_SYNC_DIR, -1, "", NULL);
    for (unsigned round = 0; round < 60; round++) {
        int file = make(fixture, "d/new", "x");
        simple(fixture, DISK_SYNC, file, NULL, NULL);
        assert_int_equal(simple(fixture, DISK_RENAME, -1, "d/new", "d/name"), 0);
        if (round == 0)
            simple(fixture, DISK_SYNC_DIR, -1, "d", NULL);
        else
            simple(fixture, DISK_UNLINK, -1, "d/name", NULL);
        sim_disk_stop(fixture->disk);
        sim_disk_restart(fixture->disk, true);
        bool found = file_open(fixture, "d/name", 0) >= 0;
        if (round == 0)
            assert_true(found);
        there += found;
        simple(fixture, DISK_UNLINK, -1, "d/new", NULL);
        make(fixture, "d/name", "x");
        simple(fixture, DISK_SYNC_DIR, -1, "d", NULL);
    }
    assert_true(there > 5 && there < 55);
}

static void a_failed_sync_loses_its_pages_though_the_next_one_succeeds(void **state)
{
    struct fixture *fixture = *state;
    unsigned lost = 0;
    for (unsigned round = 0; round < 40; round++) {
        char back[8] = {0};
        int file = make(fixture, "a", "old");
        simple(fixture, DISK_SYNC, file, NULL, NULL);
        simple(fixture, DISK_SYNC_DIR, -1, "", NULL);
        make(fixture, "a", "new");
        sim_disk_set_faults(fixture->disk, &(struct sim_disk_faults){.sync_error = 65536, .in_calls = true});
        assert_int_equal(simple(fixture, DISK_SYNC, file, NULL, NULL), EIO);
        sim_disk_set_faults(fixture->disk, &(struct sim_disk_faults){0});
        assert_int_equal(simple(fixture, DISK_SYNC, file, NULL, NULL), 0);
        assert_int_equal(transfer(fixture, DISK_READ, file, back, 3, 0), 3);
        assert_string_equal(back, "new");
        sim_disk_stop(fixture->disk);
        sim_disk_restart(fixture->disk, true);
        file = file_open(fixture, "a", 0);
        transfer(fixture, DISK_READ, file, back, 3, 0);
        lost += strcmp(back, "old") == 0;
    }
    assert_true(lost > 5);
}

static void torn_pages_mix_whole_sectors(void **state)
{
    struct fixture *fixture = *state;
    static char page[SIM_PAGE_SIZE];
    unsigned mixed = 0;
    for (unsigned round = 0; round < 60; round++) {
        int file = file_open(fixture, "a", DISK_CREATE);
        memset(page, 'o', sizeof(page));
        transfer(fixture, DISK_WRITE_SYNC, file, page, sizeof(page), 0);
        simple(fixture, DISK_SYNC_DIR, -1, "", NULL);
        memset(page, 'n', sizeof(page));
        transfer(fixture, DISK_WRITE, file, page, sizeof(page), 0);
        sim_disk_stop(fixture->disk);
        sim_disk_restart(fixture->disk, true);
        file = file_open(fixture, "a", 0);
        assert_int_equal(transfer(fixture, DISK_READ, file, page, sizeof(page), 0), sizeof(page));
        unsigned news = 0;
        for (unsigned sector = 0; sector < SIM_PAGE_SIZE; sector += SIM_SECTOR_SIZE) {
            for (unsigned i = 1; i < SIM_SECTOR_SIZE; i++)
                assert_int_equal(page[sector + i], page[sector]);
            news += page[sector] == 'n';
        }
        mixed += news > 0 && news < SIM_PAGE_SIZE / SIM_SECTOR_SIZE;
    }
    assert_true(mixed > 5);
}

static void a_full_disk_refuses_and_truncation_gives_room_back(void **state)
{
    struct fixture *fixture = *state;
    static char bytes[5 * SIM_PAGE_SIZE];
    sim_disk_set_capacity(fixture->disk, 4 * SIM_PAGE_SIZE);
    int file = file_open(fixture, "a", DISK_CREATE);
    assert_int_equal(transfer(fixture, DISK_WRITE, file, bytes, sizeof(bytes), 0), -ENOSPC);
    struct disk_op op = {.kind = DISK_TRUNCATE, .file = file, .size = 0};
    assert_int_equal(fixture->face->call(fixture->face, &op), 0);
    assert_int_equal(sim_disk_used(fixture->disk), 0);
    assert_int_equal(transfer(fixture, DISK_WRITE, file, bytes, 4 * SIM_PAGE_SIZE, 0), 4 * SIM_PAGE_SIZE);
    struct disk_op space = {.kind = DISK_FREE_SPACE};
    assert_int_equal(fixture->face->call(fixture->face, &space), 0);
    assert_int_equal(space.result, 0);
}

static void count_done(struct disk_op *op) { ++*(unsigned *)op->owner; }

static void the_crash_point_stops_everything_after_it(void **state)
{
    struct fixture *fixture = *state;
    int file = make(fixture, "a", "x");
    unsigned done = 0;
    char byte = 'y';
    struct iovec iov = {&byte, 1};
    struct disk_op ops[4];
    sim_disk_stop_at(fixture->disk, sim_disk_operations(fixture->disk) + 3);
    for (unsigned i = 0; i < 4; i++) {
        ops[i] = (struct disk_op){.kind = DISK_WRITE, .file = file, .iov = &iov, .iov_count = 1, .offset = i, .done = count_done, .owner = &done};
        fixture->face->submit(fixture->face, &ops[i]);
    }
    while (sim_disk_step(fixture->disk))
        ;
    unsigned failed = 0;
    for (unsigned i = 0; i < 4; i++)
        failed += ops[i].error == EIO;
    assert_int_equal(done, 4);
    assert_int_equal(failed, 2);
    assert_true(sim_disk_stopped(fixture->disk));
    sim_disk_restart(fixture->disk, false);
}

static void changing_bytes_in_flight_is_told(void **state)
{
    struct fixture *fixture = *state;
    int file = make(fixture, "a", "x");
    char byte = 'y';
    struct iovec iov = {&byte, 1};
    struct disk_op op = {.kind = DISK_WRITE, .file = file, .iov = &iov, .iov_count = 1};
    fixture->face->submit(fixture->face, &op);
    byte = 'z';
    assert_false(fixture->trace.failed);
    sim_disk_step(fixture->disk);
    assert_true(fixture->trace.failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_written_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(a_kill_keeps_what_was_written_and_power_only_what_was_synced, setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_survives_power_only_after_its_directory_was_synced, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_sync_loses_its_pages_though_the_next_one_succeeds, setup, teardown),
        cmocka_unit_test_setup_teardown(torn_pages_mix_whole_sectors, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_refuses_and_truncation_gives_room_back, setup, teardown),
        cmocka_unit_test_setup_teardown(the_crash_point_stops_everything_after_it, setup, teardown),
        cmocka_unit_test_setup_teardown(changing_bytes_in_flight_is_told, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
