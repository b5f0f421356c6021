/* A file of the log: one header block, then batches (record.h) back to back.
 *
 *    0        4         8               16              24       28         4096
 *   ┌────────┬─────────┬───────────────┬───────────────┬────────┬──────────┬─────────┬─────────┬───┬──────────────────┐
 *   │ magic  │ version │ epoch         │ start         │ crc    │ zeros …  │ batch   │ batch   │ … │ zeros or stale   │
 *   └────────┴─────────┴───────────────┴───────────────┴────────┴──────────┴─────────┴─────────┴───┴──────────────────┘
 *     epoch: of the log when the file was begun. start: the log offset of the first batch; the batch at log offset o begins at byte
 *     4096 + o - start. crc: CRC-32C of bytes 0…23. Little-endian.
 *
 * The header is written together with the file's first batches, in one synced write, after everything in the file before it is
 * durable: so a file with a header proves that the files before it were complete. The header alone says where a file belongs; its
 * name (log-<start> in hexadecimal) follows a moment later, and until then it has the name it had as a spare.
 *
 * A recycled file still holds the batches of its earlier life. Their offsets are lower than those that belong at their
 * places now, and no file is ever used again at the same start, so they cannot be taken for live ones. */
#include "store/log_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define MAGIC 0x464c5747u /* "GWLF" */
#define HEADER_BYTES 28u

struct log_file *log_file_new(uint64_t capacity)
{
    struct log_file *file = calloc(1, sizeof(*file));
    if (!file)
        return NULL;
    file->handle = -1;
    file->capacity = capacity;
    return file;
}

void log_file_free(struct log_file *file)
{
    free(file);
}

enum gw_err log_file_name(char name[DISK_NAME_SIZE], const char *directory, uint64_t start)
{
    char entry[32];
    snprintf(entry, sizeof(entry), "log-%016" PRIx64, start);
    return disk_path(name, directory, entry);
}

enum gw_err log_file_spare_name(char name[DISK_NAME_SIZE], const char *directory, uint32_t number)
{
    char entry[32];
    snprintf(entry, sizeof(entry), "spare-%08" PRIx32, number);
    return disk_path(name, directory, entry);
}

static bool parse_hex(const char *text, unsigned digits, uint64_t *value)
{
    *value = 0;
    for (unsigned i = 0; i < digits; i++) {
        char c = text[i];
        unsigned digit;
        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (unsigned)(c - 'a') + 10;
        else
            return false;
        *value = *value << 4 | digit;
    }
    return text[digits] == 0;
}

enum log_file_kind log_file_parse_name(const char *entry, uint64_t *value)
{
    if (strncmp(entry, "log-", 4) == 0 && parse_hex(entry + 4, 16, value))
        return LOG_FILE_NAMED;
    if (strncmp(entry, "spare-", 6) == 0 && parse_hex(entry + 6, 8, value))
        return LOG_FILE_SPARE;
    return LOG_FILE_OTHER;
}

void log_file_write_header(uint8_t *block, uint64_t epoch, uint64_t start)
{
    memset(block, 0, LOG_FILE_HEADER_SIZE);
    store_le32(block, MAGIC);
    store_le32(block + 4, LOG_FILE_VERSION);
    store_le64(block + 8, epoch);
    store_le64(block + 16, start);
    store_le32(block + 24, crc32c(0, block, HEADER_BYTES - 4));
}

enum gw_err log_file_read_header(const uint8_t *block, uint64_t *epoch, uint64_t *start)
{
    if (load_le32(block) != MAGIC || load_le32(block + 24) != crc32c(0, block, HEADER_BYTES - 4))
        return GW_ERR_CORRUPT;
    if (load_le32(block + 4) != LOG_FILE_VERSION)
        return GW_ERR_VERSION;
    *epoch = load_le64(block + 8);
    *start = load_le64(block + 16);
    return *start % LOG_ALIGN == 0 && *start <= LOG_OFFSET_MAX ? GW_OK : GW_ERR_CORRUPT;
}
