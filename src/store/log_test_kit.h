/* A file log on a test disk, numbered records to append, and what it told: shared by the tests of the log. */
#ifndef STORE_LOG_TEST_KIT_H
#define STORE_LOG_TEST_KIT_H

#include "store/log.h"
#include "store/test_disk.h"

#define KIT_FILE_SIZE (64u * 1024u)             /* 15 blocks of batches */
#define KIT_CAPACITY (KIT_FILE_SIZE - LOG_ALIGN)
#define KIT_DIRECTORY "shard-0"
#define KIT_RECORDS_MAX 4096

struct log_kit {
    struct test_disk *disk;
    struct chunk_pool *pool;
    struct alarm_sink alarms;
    unsigned warnings, errors;      /* alarms since the last opening */
    struct log *log;
    uint64_t epoch;
    struct log_position committed;  /* as told */
    unsigned committed_calls, failed_calls, wanted_calls;
    uint64_t wanted;                /* the last cutoff that was asked for */
    struct log_recovery recovery;
    unsigned recovered;             /* records, and their numbers */
    uint32_t numbers[KIT_RECORDS_MAX];
    uint64_t file_size;
    unsigned file_count;
};

void log_kit_init(struct log_kit *kit, uint64_t seed);
void log_kit_deinit(struct log_kit *kit);

/* log_open; what is recovered is in the kit. */
enum gw_err log_kit_open(struct log_kit *kit, uint64_t from);
void log_kit_close(struct log_kit *kit);

/* Kills the process and starts it again, the disk having lost what it may. */
enum gw_err log_kit_crash(struct log_kit *kit, enum test_disk_loss loss, uint64_t from);

/* Lays out one batch of `count` publishes, numbered from `number`, with contents of `size` bytes (at least 4), and appends it. */
enum gw_err log_kit_append(struct log_kit *kit, uint32_t number, uint32_t count, uint32_t size, uint64_t *offset);

/* The same, then flushes and lets the disk run. */
void log_kit_commit(struct log_kit *kit, uint32_t number, uint32_t count, uint32_t size);

/* Bytes of the batch that log_kit_append lays out, without padding. */
uint32_t log_kit_batch_size(uint32_t count, uint32_t size);

/* Was exactly first … first + count - 1 recovered, in order? */
bool log_kit_recovered(const struct log_kit *kit, uint32_t first, uint32_t count);

#endif
