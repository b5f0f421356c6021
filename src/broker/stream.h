/* A stream: a queue that keeps what it was given (x-queue-type: stream). Its messages have offsets, counted from 0; consuming removes nothing, and every consumer has a
 * place of its own to read from.
 *
 *    first                        written                       next
 *   ┌────────────────┬───────────┬───────────┬─────────────────┐
 *   │ segment, full  │   …       │ segment   │ tail, in memory │ ← push      tail: messages in the log's chunks, not yet in a batch
 *   └────────────────┴───────────┴───────────┴─────────────────┘
 *
 * A message goes through the shard's log like any other; its sequence number there is its offset. The tail becomes record batches at the end of the stream's own
 * segments (store/stream_store.h) when there is enough of it, when a checkpoint wants the log back, or when memory is short. What the segments hold synced goes into the
 * snapshot; replaying the log puts what lies above it into the tail again.
 *
 *   stream.c           lifecycle, push, write, checkpoint, retention, recovery
 *   stream_reader.c    cursors of consumers, and the extents that they share
 *   stream_consume.c   what basic.consume says: offsets, filters, refusals
 *
 * The shard's thread owns it. */
#ifndef BROKER_STREAM_H
#define BROKER_STREAM_H

#include "broker/selector.h"
#include "broker/shard.h"
#include "store/message.h"
#include "store/stream_store.h"

#define STREAM_EXTENTS 16u          /* of about 256 KiB, that a stream's consumers share at most; fewer for few of them */
#define STREAM_WINDOW (256 << 10)    /* bytes on the way to one consumer … */
#define STREAM_ON_THE_WAY (1u << 20) /* … and to all of one stream, however many they are; … */
#define STREAM_LEAST (4 << 10)       /* … but so much to each, should others not take theirs in */
#define STREAM_BATCH_BYTES (CHUNK_SIZE - 16u * 1024u)

struct tail_entry {
    struct chunk *chunk;
    uint32_t offset, size;          /* the content in the chunk */
    uint64_t seq, log_offset;
};

/* A place for an extent that is there or being read. */
struct extent_slot {
    struct stream_extent *extent;   /* NULL: none, or it is being read */
    struct stream_place place;
    uint64_t first;                 /* the offset that it was read for */
    uint64_t used;                  /* the stream's clock when somebody last looked */
    uint32_t users;                 /* cursors that are in it */
    bool loading;
    bool visited;                   /* it has served, or nobody asked for it: reading ahead may take its place */
    bool goes_on;                   /* somebody in it reads everything: what follows is read ahead */
};

struct stream {
    struct shard *shard;
    struct queue *queue;            /* NULL: it is deleted, and its files are on their way out */
    struct stream_store *store;     /* NULL: the shard keeps nothing on disk, or it is not open yet */
    uint64_t first, next;           /* offsets: the first one there is; the next message's */
    const struct queue_settings *settings;   /* the queue's, when they were last looked at */

    struct tail_entry *tail;        /* ring */
    uint32_t tail_first, tail_count, tail_capacity;
    uint64_t tail_bytes;            /* of its contents */
    uint32_t writing;               /* its first entries are in the batch that is being written */
    uint64_t writing_bytes;
    struct chunk *batch;            /* that batch */
    uint32_t batch_size;
    struct stream_batch_info batch_info;
    uint64_t wanted_below;          /* what lies below is to be written now */
    bool spilling;                  /* a checkpoint waits for that: counted in shard->spilling */
    uint64_t retry_us;              /* when a write that failed is tried again */
    enum gw_err final_err;

    uint64_t on_the_way;            /* bytes to all consumers, not yet given back as credit */
    uint32_t turn;                  /* which consumer is served first, in turn */
    struct extent_slot extents[STREAM_EXTENTS];
    uint64_t clock;
};

/* Where a consumer is. */
struct stream_cursor {
    uint64_t offset;                /* it gets nothing below it */
    int64_t from_ms;                /* nor anything older, until something is not; INT64_MIN: any */
    struct stream_place place;      /* where `offset` is to be read */
    bool placed;
    bool lost;                      /* nothing was at that place */
    bool in_batch;
    bool match_unfiltered;
    uint32_t batch;                 /* of the extent that it is in */
    struct extent_slot *slot;       /* NULL: it is in none */
    struct record_batch header;     /* of the batch that it is in */
    struct record_batch_cursor at;
    uint32_t delivered;             /* counts its deliveries: with its handle, what they are settled by */
    uint32_t filter_count;          /* 0: it gets everything */
    uint64_t *hashes;               /* of the values; each with the bytes in stream_cursor_values */
    struct selector *selector;      /* x-filter, asked of what the above lets through; NULL: none */
    uint64_t steps;                 /* taken for it in the turn under way */
};

static inline struct bytes *stream_cursor_values(const struct stream_cursor *cursor)
{
    return (struct bytes *)(cursor->hashes + cursor->filter_count);
}

/* ---- stream.c ---- */

/* NULL: out of memory. Its store is opened by stream_open. */
struct stream *stream_new(struct shard *shard, struct queue *queue);

/* Opens the segments that a snapshot lists; of a stream that is in none, files is NULL. A shard without a disk: nothing happens. */
enum gw_err stream_open(struct stream *stream, uint64_t first, uint64_t next, const struct stream_file_info *files, unsigned count);

/* The shard ends: the stream's files stay as they are. Frees it. */
void stream_close(struct stream *stream);

/* The queue is deleted: so are the files. Frees it, at once or when they are gone. */
void stream_delete(struct stream *stream);

/* Appends a message; answers its offset. */
uint64_t stream_push(struct stream *stream, const struct content *content, uint64_t log_offset);

/* Puts a message back that the log holds. What the segments have already stays as it is. */
enum gw_err stream_restore(struct stream *stream, uint64_t seq, const struct content *content, uint64_t log_offset);

/* The log was replayed. */
void stream_recovered(struct stream *stream);

/* Writes the tail as far as it is wanted, or as there is enough for a batch; looks at what settings have changed. */
void stream_write_due(struct stream *stream);

/* Everything that lies in the log below `cutoff` is to be written; until it is, shard->spilling counts the stream. */
void stream_checkpoint(struct stream *stream, uint64_t cutoff);

/* Memory is short: the tail is to be written. */
void stream_page_out(struct stream *stream);

/* All of the tail, and synced, before it returns: at a clean end. */
enum gw_err stream_write_all(struct stream *stream);

/* The first offset that is in the tail. */
static inline uint64_t stream_tail_begin(const struct stream *stream)
{
    return stream->tail_count ? stream->tail[stream->tail_first].seq : stream->next;
}

static inline struct tail_entry *stream_tail_at(const struct stream *stream, uint32_t index)
{
    return &stream->tail[(stream->tail_first + index) & (stream->tail_capacity - 1)];
}

/* The value of the message's header x-stream-filter-value. False: it has none. */
bool stream_filter_value(const struct message *message, struct bytes *value);

/* ---- stream_reader.c ---- */

/* Gives the consumers what they may get. */
void stream_serve(struct stream *stream);

/* `bytes` have left for the consumer; all that is on its way to it will never be told of. */
void stream_credited(struct consumer *consumer, uint32_t bytes);
void stream_left(struct consumer *consumer);

/* A batch was written: those who have read the tail find it in memory. */
void stream_keep_batch(struct stream *stream, struct stream_place place, struct stream_place next);

void stream_forget_extents(struct stream *stream);
void stream_cursor_leave(struct stream_cursor *cursor);

/* ---- stream_consume.c ---- */

/* May the consumer come, as far as streams are concerned? False: it was refused. */
bool stream_may_consume(struct shard *shard, const struct command_request *request);

/* Where it begins. NULL: out of memory. Free it with stream_cursor_free. */
struct stream_cursor *stream_cursor_new(struct stream *stream, struct bytes arguments);
void stream_cursor_free(struct stream_cursor *cursor);

/* What a consumer holds was settled, however: it may get so many more. */
void stream_settle(struct shard *shard, struct stream *stream, uint64_t first, uint64_t count);

#endif
