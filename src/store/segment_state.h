/* The segment store's own structs, for segment.c, segment_file.c and segment_store.c. */
#ifndef STORE_SEGMENT_STATE_H
#define STORE_SEGMENT_STATE_H

#include "store/disk_call.h"
#include "store/segment.h"

struct segment {
    struct segment_store *store;
    uint32_t number;
    int handle;                 /* -1 until it is open */
    bool opening;
    bool sealed;                /* takes no more appends */
    bool unlisted;              /* dead, and the last listing did not name it: may be unlinked once that is durable */
    bool sync_failed;           /* what it holds may not be on the disk */
    bool unsynced;              /* written to since the last sync */
    uint64_t size;              /* where the next append goes */
    uint64_t written;           /* the highest end of an append that is written */
    uint64_t live, under_way;   /* bytes: still needed (those under way too), and not yet written */
    unsigned operations;        /* in flight */
    struct disk_op op;          /* opens, syncs, closes or unlinks it */
    char name[DISK_NAME_SIZE];
};

struct append_op {
    struct segment_store *store;
    struct segment *segment;
    struct chunk *image;
    segment_written *written;
    void *context;
    struct segment_location location;
    struct iovec iov;
    struct disk_op op;
    struct append_op *next;
};

struct read_op {
    struct segment_store *store;
    struct segment *segment;
    struct chunk *chunk;
    segment_read_done *done;
    void *context;
    struct segment_location location;
    struct iovec iov;
    struct disk_op op;
};

struct sync_request {
    void (*done)(void *owner, void *context, enum gw_err err);
    void *context;
    struct sync_request *next;
};

struct segment_store {
    struct disk *disk;
    struct chunk_pool *pool;
    struct alarm_sink *alarms;
    void *owner;
    uint64_t file_size;
    char directory[DISK_NAME_SIZE];

    struct segment **segments;  /* by rising number */
    unsigned count, room;
    struct segment *current;    /* where appends go; NULL: a new one is begun */
    uint32_t last_number;

    struct append_op *held, **held_end;     /* wait for their file to open */
    struct append_op *later, **later_end;   /* made since somebody asked for a sync: wait for it to end */
    unsigned appends;                       /* writes in flight */
    unsigned operations;                    /* of every kind in flight */
    uint64_t size, live;                    /* bytes, of all files */

    struct sync_request *requests, **requests_end;  /* answered by the sync at hand */
    struct sync_request *next_requests, **next_requests_end;
    unsigned syncs;                         /* in flight, once the writes are done, the directory's too */
    bool names_failed;                      /* syncing the directory failed: nothing will be durable any more */
    struct disk_op directory_op;
};

/* segment_file.c */

void segment_name(const struct segment_store *store, uint32_t number, char name[DISK_NAME_SIZE]);

/* The file with this number, or NULL. */
struct segment *segment_find(const struct segment_store *store, uint32_t number);

/* A file that is not on the disk yet; numbers rise. NULL: out of memory. */
struct segment *segment_add(struct segment_store *store, uint32_t number);

/* Ends its appends. */
void segment_seal(struct segment_store *store, struct segment *segment);

/* Nothing of it is needed, and nothing is under way. */
bool segment_is_dead(const struct segment *segment);

/* Forgets a dead file and unlinks it. */
void segment_dispose(struct segment_store *store, struct segment *segment);

/* Starts the segment's own operation, and counts that it ended. */
void segment_begin(struct segment *segment, struct disk_op op);
void segment_ended(struct segment *segment);

/* segment.c: starts the held appends whose files are open, and has the other files opened. */
void segment_start_held(struct segment_store *store);

/* segment_sync.c: takes the next step when somebody asked. */
void segment_go_on_syncing(struct segment_store *store);

static inline void segment_wait_once(struct segment_store *store)
{
    bool waited = store->disk->wait(store->disk);
    CHECK(waited);
}

#endif
