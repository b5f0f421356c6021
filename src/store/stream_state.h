/* The stream store's own structs, for stream_*.c. */
#ifndef STORE_STREAM_STATE_H
#define STORE_STREAM_STATE_H

#include "store/disk_call.h"
#include "store/stream_index.h"
#include "store/stream_store.h"

#define STREAM_READ_SIZE CHUNK_SIZE

enum stream_index_state {
    INDEX_HERE,        /* in memory, and whole */
    INDEX_ON_DISK,     /* to be read when somebody asks */
    INDEX_LOADING,
    INDEX_MISSING,     /* cannot be read: the segment is gone through from its start */
};

struct stream_file {
    struct stream_store *store;
    uint64_t base, end;             /* offsets of what is written */
    uint64_t size;                  /* bytes written */
    uint64_t synced_end, synced_size;
    uint64_t syncing_end, syncing_size;
    int64_t highest_ms;
    int handle;                     /* -1: not open */
    bool opening, is_new;           /* new: no append has made it yet */
    bool sealed;                    /* takes no more batches */
    bool doomed;                    /* goes as soon as nothing is under way */
    bool sync_failed;
    uint64_t rot_told;              /* rot before this position was told */
    unsigned operations;
    struct stream_read *waiting;    /* for it to open */
    enum stream_index_state index_state;
    struct stream_index index;
    uint64_t index_used;            /* the store's clock when it was last looked at */
    struct disk_op op;              /* opens, syncs, unlinks */
    struct disk_op close_op;        /* it may be opened again meanwhile */
    char name[DISK_NAME_SIZE];
};

struct stream_read {
    struct stream_file *file;
    struct chunk *chunk;
    struct stream_place asked;
    uint64_t position, size;        /* of this try */
    uint64_t expected;              /* no batch here has a lower offset */
    stream_read_done *done;
    struct iovec iov;
    struct disk_op op;
    struct stream_read *next;
};

/* An index file being written or read. */
struct index_passage {
    struct stream_store *store;
    uint64_t base;
    struct chunk *chunk;
    uint64_t size;
    int handle;
    enum gw_err err;
    bool writes;
    struct iovec iov;
    struct disk_op op;
    char name[DISK_NAME_SIZE];
};

struct stream_store {
    struct disk *disk;
    struct chunk_pool *pool;
    struct alarm_sink *alarms;
    void *owner;
    void (*index_loaded)(void *owner);
    void (*deleted)(void *owner);
    uint64_t id, segment_size;
    char directory[DISK_NAME_SIZE];

    struct stream_file **files;     /* by rising base */
    unsigned count, room;
    unsigned doomed;                /* files on their way out, not among `files` any more */
    unsigned operations, open_handles;
    uint64_t size;                  /* bytes of `files` */
    uint64_t index_clock;
    bool is_deleted, missing_told;

    struct {
        struct stream_file *file;   /* NULL: none under way */
        struct chunk *chunk;
        uint32_t size;
        struct stream_batch_info info;
        stream_written *written;
        struct iovec iov;
        struct disk_op op;
    } append;

    void (*sync_done)(void *owner, enum gw_err err);
    unsigned syncs;
    bool sync_failed;
};

/* ---- stream_file.c ---- */

/* Adds a file behind all others. NULL: out of memory. */
struct stream_file *stream_file_add(struct stream_store *store, uint64_t base);
void stream_file_name(const char *directory, uint64_t id, uint64_t base, const char *suffix, char name[DISK_NAME_SIZE]);
/* Reads a name without its directory. */
bool stream_file_parse(const char *name, uint64_t *id, uint64_t *base);
struct stream_file *stream_file_find(const struct stream_store *store, uint64_t base);
/* The file that `offset` lies in or behind; NULL: before the first. */
struct stream_file *stream_file_of(const struct stream_store *store, uint64_t offset);
struct stream_file *stream_file_after(const struct stream_store *store, const struct stream_file *file);
/* Starts opening, unless it is open or being opened. What waits for it goes on. */
void stream_file_open(struct stream_file *file);
void stream_file_begin(struct stream_file *file, struct disk_op *op);
/* An operation of the file ended: it may close or go now. */
void stream_file_ended(struct stream_file *file);
/* Takes the file out of the stream and off the disk. */
void stream_file_doom(struct stream_file *file);

/* ---- stream_append.c ---- */

/* The file of the append is open, or cannot be opened. */
void stream_append_opened(struct stream_store *store, int error);

/* ---- stream_read.c ---- */

void stream_read_opened(struct stream_read *read, int error);

/* ---- stream_seek.c ---- */

/* A file took its last batch: its index goes to the disk. */
void stream_index_save(struct stream_file *file, bool wait);
/* At most this many entries stay in memory of files that are full. */
void stream_index_shed(struct stream_store *store);

/* ---- stream_store.c ---- */

/* Frees a store that is deleted once nothing is under way; true: it is gone. */
bool stream_store_finish(struct stream_store *store);

static inline void stream_wait_once(struct stream_store *store)
{
    bool waited = store->disk->wait(store->disk);
    CHECK(waited);
}

#endif
