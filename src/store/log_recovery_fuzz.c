/* Whatever the files of a log hold, opening it must neither crash, leak nor read out of bounds; and a log that opens must go on: what is
 * appended then is found, after all that was found before, at the next opening.
 *
 * Input: byte 0: how many files (1 to 3, modulo), bit 7: the checksums are made right first. Byte 1: where the replay begins, blocks. Byte 2: epoch.
 * Byte 3: blocks by which a file begins after the one before it. The rest is cut into the files' contents in equal parts. */
#include "store/log_file.h"
#include "store/log_test_kit.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX (256u * 1024u)

static enum gw_err count(void *owner, const struct record *record, struct chunk *chunk, uint64_t offset)
{
    unsigned *records = owner;
    uint8_t sum = 0;
    (void)chunk;
    (void)offset;
    for (size_t i = 0; i < record->head.size; i++)
        sum = (uint8_t)(sum + record->head.data[i]);
    for (size_t i = 0; i < record->content.size; i++)
        sum = (uint8_t)(sum + record->content.data[i]);
    *records += 1 + (sum & 0);
    return GW_OK;
}

/* Makes the checksums of a header block, of batches and of their records right, so that what lies behind them is reached. */
static void repair(uint8_t *bytes, size_t size)
{
    if (size >= LOG_FILE_HEADER_SIZE)
        store_le32(bytes + 24, crc32c(0, bytes, 24));
    for (size_t at = LOG_ALIGN; at + LOG_ALIGN <= size; at += LOG_ALIGN) {
        uint8_t *batch = bytes + at;
        if (load_le32(batch) != BATCH_MAGIC)
            continue;
        store_le32(batch + 4, crc32c(0, batch + 8, BATCH_HEADER_SIZE - 8));
        size_t left = load_le32(batch + 24) < size - at ? load_le32(batch + 24) : size - at;
        uint8_t *record = batch + BATCH_HEADER_SIZE;
        for (left -= left < BATCH_HEADER_SIZE ? left : BATCH_HEADER_SIZE; left >= RECORD_HEADER_SIZE;) {
            uint32_t bytes_here = load_le32(record), head = record_head_size(record[8], load_le16(record + 10));
            if (bytes_here > left || bytes_here < RECORD_HEADER_SIZE + head)
                break;
            store_le32(record + 12, crc32c(0, record + RECORD_HEADER_SIZE + head, bytes_here - RECORD_HEADER_SIZE - head));
            record_seal(record);
            record += bytes_here;
            left -= bytes_here;
        }
    }
}

static void put_files(struct test_disk *disk, const uint8_t *options, const uint8_t *data, size_t size)
{
    unsigned files = 1 + (options[0] & 0x7f) % 3;
    size_t part = size / files;
    for (unsigned i = 0; i < files; i++) {
        char name[DISK_NAME_SIZE];
        snprintf(name, sizeof(name), KIT_DIRECTORY "/log-%016lx", (unsigned long)i * options[3] * LOG_ALIGN);
        uint8_t *copy = malloc(part + 1);
        memcpy(copy, data + i * part, part);
        if (options[0] & 0x80)
            repair(copy, part);
        test_disk_put(disk, name, 0, copy, part);
        free(copy);
    }
}

static enum gw_err open_log(struct log_kit *kit, uint64_t from, unsigned *records)
{
    struct log_config config = {.body = LOG_FILE, .disk = test_disk_face(kit->disk), .directory = KIT_DIRECTORY, .pool = kit->pool,
                                .file_size = KIT_FILE_SIZE, .file_count = 3};
    *records = 0;
    return log_open(&config, from, kit->epoch, count, records, NULL, &kit->log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4 || size > INPUT_MAX)
        return 0;
    struct log_kit kit;
    log_kit_init(&kit, 1);
    kit.epoch = data[2];
    put_files(kit.disk, data, data + 4, size - 4);
    uint64_t from = (uint64_t)data[1] * LOG_ALIGN;
    unsigned before, after;
    if (open_log(&kit, from, &before) == GW_OK) {
        enum gw_err err = log_kit_append(&kit, 1, 2, 100, NULL);
        CHECK(err == GW_OK);
        log_kit_close(&kit);
        err = open_log(&kit, from, &after);
        CHECK(err == GW_OK && after == before + 2);
    }
    log_kit_deinit(&kit);
    return 0;
}
