#include "store/log_test_kit.h"

#include <stdlib.h>

static void raise(struct alarm_sink *sink, enum alarm_level level, const char *text)
{
    struct log_kit *kit = (struct log_kit *)((char *)sink - offsetof(struct log_kit, alarms));
    (void)text;
    kit->warnings += level == ALARM_WARNING;
    kit->errors += level == ALARM_ERROR;
}

static void committed(void *owner, struct log_position upto)
{
    struct log_kit *kit = owner;
    CHECK(upto.offset > kit->committed.offset);
    kit->committed = upto;
    kit->committed_calls++;
}

static void failed(void *owner, enum gw_err err)
{
    struct log_kit *kit = owner;
    CHECK(err == GW_ERR_FAILED);
    kit->failed_calls++;
}

static void checkpoint_wanted(void *owner, uint64_t cutoff)
{
    struct log_kit *kit = owner;
    kit->wanted = cutoff;
    kit->wanted_calls++;
}

static enum gw_err visit(void *owner, const struct record *record, struct chunk *chunk, uint64_t offset)
{
    struct log_kit *kit = owner;
    CHECK(kit->recovered < KIT_RECORDS_MAX && offset % LOG_ALIGN == 0);
    CHECK(record->content.data >= chunk->data && record->content.data + record->content.size <= chunk->data + chunk->used);
    uint32_t number = load_le32(record->content.data);
    for (size_t i = 4; i < record->content.size; i++)
        CHECK(record->content.data[i] == (uint8_t)(number + i));
    kit->numbers[kit->recovered++] = number;
    return GW_OK;
}

void log_kit_init(struct log_kit *kit, uint64_t seed)
{
    memset(kit, 0, sizeof(*kit));
    kit->disk = test_disk_new(seed);
    kit->pool = chunk_pool_new(4);
    CHECK(kit->pool);
    kit->alarms.raise = raise;
    kit->epoch = 1;
    kit->file_size = KIT_FILE_SIZE;
    kit->file_count = 4;
}

void log_kit_deinit(struct log_kit *kit)
{
    log_kit_close(kit);
    chunk_pool_free(kit->pool);
    test_disk_free(kit->disk);
}

enum gw_err log_kit_open(struct log_kit *kit, uint64_t from)
{
    struct log_config config = {
        .body = LOG_FILE, .disk = test_disk_face(kit->disk), .directory = KIT_DIRECTORY, .pool = kit->pool, .alarms = &kit->alarms,
        .file_size = kit->file_size, .file_count = kit->file_count, .events = {committed, failed, checkpoint_wanted, kit},
    };
    kit->warnings = kit->errors = kit->recovered = 0;
    kit->committed_calls = kit->failed_calls = kit->wanted_calls = 0;
    enum gw_err err = log_open(&config, from, kit->epoch, visit, kit, &kit->recovery, &kit->log);
    if (err == GW_OK)
        kit->committed = log_committed(kit->log);
    return err;
}

void log_kit_close(struct log_kit *kit)
{
    if (kit->log) {
        log_close(kit->log);
        bool in_flight = test_disk_step(kit->disk);
        CHECK(!in_flight);
    }
    kit->log = NULL;
    CHECK(test_disk_crashed(kit->disk) || test_disk_open_handles(kit->disk) == 0);
}

enum gw_err log_kit_crash(struct log_kit *kit, enum test_disk_loss loss, uint64_t from)
{
    test_disk_crash_at(kit->disk, test_disk_operations(kit->disk) + 1);
    log_kit_close(kit);
    test_disk_run(kit->disk);
    test_disk_restart(kit->disk, loss);
    return log_kit_open(kit, from);
}

uint32_t log_kit_batch_size(uint32_t count, uint32_t size)
{
    return BATCH_HEADER_SIZE + count * (RECORD_HEADER_SIZE + PUBLISH_TARGET_SIZE + size);
}

enum gw_err log_kit_append(struct log_kit *kit, uint32_t number, uint32_t count, uint32_t size, uint64_t *offset)
{
    uint32_t bytes = log_kit_batch_size(count, size), record_size = RECORD_HEADER_SIZE + PUBLISH_TARGET_SIZE + size;
    struct chunk *chunk = chunk_new(kit->pool, bytes + LOG_ALIGN);
    CHECK(chunk && size >= 4);
    uint8_t *at = chunk->data + BATCH_HEADER_SIZE;
    for (uint32_t i = 0; i < count; i++, at += record_size) {
        uint8_t *content = at + RECORD_HEADER_SIZE + PUBLISH_TARGET_SIZE;
        memset(at + RECORD_HEADER_SIZE, 0, PUBLISH_TARGET_SIZE);
        store_le32(content, number + i);
        for (uint32_t j = 4; j < size; j++)
            content[j] = (uint8_t)(number + i + j);
        record_begin(at, record_size, RECORD_PUBLISH, 1, crc32c(0, content, size));
        record_seal(at);
    }
    uint64_t ignored;
    enum gw_err err = log_append(kit->log, chunk, 0, bytes, count, offset ? offset : &ignored);
    chunk_release(chunk, kit->pool);
    return err;
}

void log_kit_commit(struct log_kit *kit, uint32_t number, uint32_t count, uint32_t size)
{
    enum gw_err err = log_kit_append(kit, number, count, size, NULL);
    CHECK(err == GW_OK);
    log_flush(kit->log);
    test_disk_run(kit->disk);
}

bool log_kit_recovered(const struct log_kit *kit, uint32_t first, uint32_t count)
{
    if (kit->recovered != count)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (kit->numbers[i] != first + i)
            return false;
    return true;
}
