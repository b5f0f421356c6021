/* One file of a file log: its header block, its names, its place in the log. */
#ifndef STORE_LOG_FILE_H
#define STORE_LOG_FILE_H

#include "store/disk_call.h"
#include "store/record.h"

#define LOG_FILE_HEADER_SIZE LOG_ALIGN
#define LOG_FILE_VERSION 1u
#define LOG_OFFSET_MAX (UINT64_C(1) << 62) /* no log gets here; what claims to is rotten */

struct log_file {
    char name[DISK_NAME_SIZE];
    int handle;
    bool named_late;            /* waits for its name in log_chores */
    uint64_t start;             /* the offset of its first batch; meaningless while it is a spare */
    uint64_t capacity;          /* bytes for batches: its size less the header block */
    struct log_file *next;      /* in the log, or among spares */
    struct log_file *next_late;
};

/* The file that holds `size` bytes of batches; -1 as its handle. NULL: out of memory. */
struct log_file *log_file_new(uint64_t capacity);
void log_file_free(struct log_file *file);

/* "directory/log-<start, 16 hexadecimal digits>" and "directory/spare-<number, 8>". */
enum gw_err log_file_name(char name[DISK_NAME_SIZE], const char *directory, uint64_t start);
enum gw_err log_file_spare_name(char name[DISK_NAME_SIZE], const char *directory, uint32_t number);

enum log_file_kind { LOG_FILE_OTHER, LOG_FILE_NAMED, LOG_FILE_SPARE };

/* Which of them a directory's entry is; `value` is the start or the number. */
enum log_file_kind log_file_parse_name(const char *entry, uint64_t *value);

/* Writes the header block, LOG_FILE_HEADER_SIZE bytes. */
void log_file_write_header(uint8_t *block, uint64_t epoch, uint64_t start);

/* GW_ERR_CORRUPT: never written, or rotten; GW_ERR_VERSION: written by a later program. */
enum gw_err log_file_read_header(const uint8_t *block, uint64_t *epoch, uint64_t *start);

/* Where the batch at `offset` of the log lies in the file, bytes. */
static inline uint64_t log_file_place(const struct log_file *file, uint64_t offset)
{
    return LOG_FILE_HEADER_SIZE + (offset - file->start);
}

#endif
