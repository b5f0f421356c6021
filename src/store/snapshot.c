/* A snapshot file, "snapshot-a" and "snapshot-b" alike:
 *
 *    0        4         8               16              24        28       32
 *   ┌────────┬─────────┬───────────────┬───────────────┬─────────┬────────┬─────────────┐
 *   │ magic  │ version │ generation    │ size          │ blob crc│ crc    │ blob …      │
 *   └────────┴─────────┴───────────────┴───────────────┴─────────┴────────┴─────────────┘
 *     size: of the blob, bytes. blob crc: CRC-32C of the blob. crc: CRC-32C of bytes 0…27. Little-endian.
 *
 * Each copy is written under a temporary name, synced and renamed, and the directory synced, before the other one is begun: at every instant
 * one whole copy is there. */
#include "store/snapshot.h"

#include "base/bugs.h"
#include "base/bytes.h"
#include "base/checksum.h"
#include "store/disk_call.h"

#include <inttypes.h>
#include <stdlib.h>

#define MAGIC 0x53534757u /* "GWSS" */
#define VERSION 1u
#define HEADER_SIZE 32u
#define WRITE_MAX (UINT64_C(64) << 20) /* bytes of blob in one write */

static const char *const copy_names[2] = {"snapshot-a", "snapshot-b"};

/* ---- saving ---- */

enum step { STEP_OPEN, STEP_CUT, STEP_WRITE, STEP_SYNC, STEP_CLOSE, STEP_RENAME, STEP_SYNC_DIR };

struct snapshot_writer {
    struct disk *disk;
    struct chunk_pool *pool;
    struct chunk *blob;
    uint64_t size, written;     /* bytes of the blob; those that are in the copy at work */
    unsigned copy;
    enum step step;
    int file;
    enum gw_err err;            /* why the writer only cleans up any more */
    struct disk_op op;
    struct iovec iov[2];
    void (*done)(void *owner, enum gw_err err);
    void *owner;
    char directory[DISK_NAME_SIZE], name[DISK_NAME_SIZE], temporary[DISK_NAME_SIZE];
    uint8_t header[HEADER_SIZE];
};

static enum gw_err begin_copy(struct snapshot_writer *writer)
{
    char entry[32] = "";
    memcpy(entry, copy_names[writer->copy], strlen(copy_names[writer->copy]) + 1);
    enum gw_err err = disk_path(writer->name, writer->directory, entry);
    strcat(entry, ".tmp");
    if (err == GW_OK)
        err = disk_path(writer->temporary, writer->directory, entry);
    writer->step = STEP_OPEN;
    writer->written = 0;
    return err;
}

static void prepare_write(struct snapshot_writer *writer, struct disk_op *op)
{
    uint64_t part = writer->size - writer->written < WRITE_MAX ? writer->size - writer->written : WRITE_MAX;
    unsigned used = 0;
    op->kind = DISK_WRITE;
    op->offset = writer->written == 0 ? 0 : HEADER_SIZE + writer->written;
    if (writer->written == 0)
        writer->iov[used++] = (struct iovec){writer->header, HEADER_SIZE};
    if (part > 0)
        writer->iov[used++] = (struct iovec){writer->blob->data + writer->written, part};
    op->iov = writer->iov;
    op->iov_count = used;
    writer->written += part;
}

/* Fills in the operation of the step that is due. */
static void prepare(struct snapshot_writer *writer)
{
    struct disk_op *op = &writer->op;
    *op = (struct disk_op){.file = writer->file, .name = writer->temporary, .done = op->done, .owner = writer};
    switch (writer->step) {
    case STEP_OPEN:
        op->kind = DISK_OPEN;
        op->flags = DISK_CREATE;
        break;
    case STEP_CUT:
        /* An attempt that a crash ended may have left a longer one. */
        op->kind = DISK_TRUNCATE;
        op->size = 0;
        break;
    case STEP_WRITE:
        prepare_write(writer, op);
        break;
    case STEP_SYNC:
        op->kind = DISK_SYNC;
        break;
    case STEP_CLOSE:
        op->kind = DISK_CLOSE;
        break;
    case STEP_RENAME:
        op->kind = DISK_RENAME;
        op->new_name = writer->name;
        break;
    case STEP_SYNC_DIR:
        op->kind = DISK_SYNC_DIR;
        op->name = writer->directory;
        break;
    }
}

/* Takes the result of the step that ran; true when nothing is left to do. */
static bool advance(struct snapshot_writer *writer)
{
    enum gw_err err = gw_err_from_errno(writer->op.error);
    if (err != GW_OK) {
        if (writer->err == GW_OK)
            writer->err = err;
        /* The temporary file's leftovers are written over by the next snapshot. */
        if (writer->file < 0 || writer->step == STEP_CLOSE)
            return true;
        writer->step = STEP_CLOSE;
        return false;
    }
    switch (writer->step) {
    case STEP_OPEN:
        writer->file = writer->op.file;
        break;
    case STEP_WRITE:
        if (writer->written < writer->size)
            return false;
        break;
    case STEP_CLOSE:
        writer->file = -1;
        if (writer->err != GW_OK)
            return true;
        break;
    case STEP_SYNC_DIR:
        if (++writer->copy == 2)
            return true;
        writer->err = begin_copy(writer);
        return writer->err != GW_OK;
    case STEP_CUT:
    case STEP_SYNC:
    case STEP_RENAME:
        break;
    }
    writer->step++;
    if (writer->step == STEP_SYNC && bug_enabled(BUG_SNAPSHOT_WITHOUT_SYNC))
        writer->step++;
    return false;
}

static enum gw_err finish(struct snapshot_writer *writer)
{
    enum gw_err err = writer->err;
    void (*done)(void *, enum gw_err) = writer->done;
    void *owner = writer->owner;
    chunk_release(writer->blob, writer->pool);
    free(writer);
    if (done)
        done(owner, err);
    return err;
}

static void step_done(struct disk_op *op)
{
    struct snapshot_writer *writer = op->owner;
    if (advance(writer)) {
        finish(writer);
        return;
    }
    prepare(writer);
    writer->disk->submit(writer->disk, op);
}

enum gw_err snapshot_save(struct disk *disk, struct chunk_pool *pool, const char *directory, uint64_t generation, struct chunk *blob, uint64_t size, bool wait,
                          void (*done)(void *owner, enum gw_err err), void *owner)
{
    CHECK(size <= blob->capacity);
    struct snapshot_writer *writer = calloc(1, sizeof(*writer));
    enum gw_err err = writer ? disk_path(writer->directory, directory, "") : GW_ERR_NOMEM;
    if (err == GW_OK) {
        strcpy(writer->directory, directory);
        err = begin_copy(writer);
    }
    if (err != GW_OK) {
        free(writer);
        chunk_release(blob, pool);
        return err;
    }
    writer->disk = disk;
    writer->pool = pool;
    writer->blob = blob;
    writer->size = size;
    writer->file = -1;
    writer->done = done;
    writer->owner = owner;
    store_le32(writer->header, MAGIC);
    store_le32(writer->header + 4, VERSION);
    store_le64(writer->header + 8, generation);
    store_le64(writer->header + 16, size);
    store_le32(writer->header + 24, crc32c(0, blob->data, size));
    store_le32(writer->header + 28, crc32c(0, writer->header, HEADER_SIZE - 4));
    writer->op.done = step_done;
    prepare(writer);
    if (!wait) {
        disk->submit(disk, &writer->op);
        return GW_OK;
    }
    for (;;) {
        disk->call(disk, &writer->op);
        if (advance(writer))
            return finish(writer);
        prepare(writer);
    }
}

/* ---- loading ---- */

struct copy {
    char name[DISK_NAME_SIZE];
    enum gw_err err;            /* GW_ERR_NOT_FOUND, GW_ERR_CORRUPT, GW_ERR_VERSION, or what the disk said */
    uint64_t generation, size;
    uint32_t blob_crc;
};

static enum gw_err read_header(struct disk *disk, int file, struct copy *copy)
{
    uint8_t header[HEADER_SIZE];
    uint64_t got, file_size;
    enum gw_err err = disk_call_read(disk, file, header, HEADER_SIZE, 0, &got);
    if (err == GW_OK)
        err = disk_call_size(disk, file, &file_size);
    if (err != GW_OK)
        return err;
    if (got < HEADER_SIZE || load_le32(header) != MAGIC || load_le32(header + 28) != crc32c(0, header, HEADER_SIZE - 4))
        return GW_ERR_CORRUPT;
    if (load_le32(header + 4) != VERSION)
        return GW_ERR_VERSION;
    copy->generation = load_le64(header + 8);
    copy->size = load_le64(header + 16);
    copy->blob_crc = load_le32(header + 24);
    return copy->size <= file_size - HEADER_SIZE ? GW_OK : GW_ERR_CORRUPT;
}

static enum gw_err read_blob(struct disk *disk, struct chunk_pool *pool, int file, const struct copy *copy, struct chunk **blob)
{
    struct chunk *chunk = chunk_new(pool, copy->size);
    if (!chunk)
        return GW_ERR_NOMEM;
    enum gw_err err = disk_call_read(disk, file, chunk->data, copy->size, HEADER_SIZE, NULL);
    if (err == GW_OK && crc32c(0, chunk->data, copy->size) != copy->blob_crc)
        err = GW_ERR_CORRUPT;
    if (err != GW_OK) {
        chunk_release(chunk, pool);
        return err;
    }
    chunk->used = copy->size;
    *blob = chunk;
    return GW_OK;
}

/* Opens a copy; reads its header, or, when `blob` is not NULL, all of it. */
static enum gw_err read_copy(struct disk *disk, struct chunk_pool *pool, struct copy *copy, struct chunk **blob)
{
    int file;
    enum gw_err err = disk_call_open(disk, copy->name, 0, &file);
    if (err != GW_OK)
        return err;
    err = read_header(disk, file, copy);
    if (err == GW_OK && blob)
        err = read_blob(disk, pool, file, copy, blob);
    disk_call_close(disk, file);
    return err;
}

static void tell_bad(struct alarm_sink *alarms, const struct copy *copy)
{
    if (copy->err != GW_OK && copy->err != GW_ERR_NOT_FOUND)
        alarm_raise(alarms, ALARM_ERROR, "%s cannot be used: %s", copy->name, gw_err_text(copy->err));
}

/* What to answer when neither copy can be used. One that is not there says less than one that is bad. */
static enum gw_err worse(enum gw_err a, enum gw_err b)
{
    if (a == GW_ERR_VERSION || b == GW_ERR_NOT_FOUND || b == GW_OK)
        return a;
    return b == GW_ERR_VERSION || a == GW_ERR_NOT_FOUND || a == GW_ERR_CORRUPT || a == GW_OK ? b : a;
}

enum gw_err snapshot_load(struct disk *disk, struct chunk_pool *pool, const char *directory, struct alarm_sink *alarms,
                          struct chunk **blob, uint64_t *size, uint64_t *generation)
{
    struct copy copies[2] = {0};
    for (unsigned i = 0; i < 2; i++) {
        enum gw_err err = disk_path(copies[i].name, directory, copy_names[i]);
        if (err != GW_OK)
            return err;
        copies[i].err = read_copy(disk, pool, &copies[i], NULL);
    }
    /* The newer one first; then the other, should the first be rotten further in. */
    unsigned newer = copies[1].err == GW_OK && (copies[0].err != GW_OK || copies[1].generation > copies[0].generation);
    for (unsigned i = 0; i < 2; i++) {
        struct copy *copy = &copies[i == 0 ? newer : !newer];
        /* A later program's snapshot is never passed over for an older one of ours. */
        if (copies[0].err == GW_ERR_VERSION || copies[1].err == GW_ERR_VERSION)
            break;
        if (copy->err == GW_OK)
            copy->err = read_copy(disk, pool, copy, blob);
        if (copy->err == GW_ERR_NOMEM)
            return GW_ERR_NOMEM;
        if (copy->err == GW_OK) {
            *size = copy->size;
            *generation = copy->generation;
            tell_bad(alarms, &copies[0]);
            tell_bad(alarms, &copies[1]);
            return GW_OK;
        }
    }
    tell_bad(alarms, &copies[0]);
    tell_bad(alarms, &copies[1]);
    return worse(copies[0].err, copies[1].err);
}
