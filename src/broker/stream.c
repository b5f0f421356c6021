#include "broker/stream.h"
#include "base/bugs.h"

#include "broker/worker_internal.h"
#include "protocol/amqp/properties.h"
#include "store/stream_message.h"

#include <stdlib.h>

#define RETRY_US 100000u

/* ---- lifecycle ------------------------------------------------------------------------------------------------------ */

struct stream *stream_new(struct shard *shard, struct queue *queue)
{
    struct stream *stream = calloc(1, sizeof(*stream));
    if (!stream)
        return NULL;
    stream->shard = shard;
    stream->queue = queue;
    shard->stream_count++;
    return stream;
}

static void free_stream(struct stream *stream)
{
    free(stream->tail);
    free(stream);
}

static void drop_tail(struct stream *stream, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct tail_entry *entry = stream_tail_at(stream, 0);
        stream->tail_bytes -= entry->size;
        account_drop(&stream->shard->account, entry->chunk);
        stream->tail_first = (stream->tail_first + 1) & (stream->tail_capacity - 1);
        stream->tail_count--;
    }
}

static void let_go(struct stream *stream)
{
    struct shard *shard = stream->shard;
    stream_forget_extents(stream);
    drop_tail(stream, stream->tail_count);
    if (stream->batch)
        chunk_release(stream->batch, shard->worker->chunks);
    stream->batch = NULL;
    if (stream->spilling)
        shard->spilling--;
    stream->spilling = false;
    shard->stream_count--;
    stream->queue = NULL;
}

void stream_close(struct stream *stream)
{
    if (stream->store)
        stream_store_close(stream->store);
    stream->store = NULL;
    let_go(stream);
    free_stream(stream);
}

static void deleted(void *owner)
{
    struct stream *stream = owner;
    stream->shard->streams_dying--;
    free_stream(stream);
}

void stream_delete(struct stream *stream)
{
    let_go(stream);
    if (!stream->store) {
        free_stream(stream);
        return;
    }
    stream->shard->streams_dying++;
    stream_store_delete(stream->store);
}

/* ---- what there is --------------------------------------------------------------------------------------------------- */

static void count(struct stream *stream)
{
    uint64_t first = stream->store ? stream_store_first(stream->store) : 0, end = stream->store ? stream_store_end(stream->store) : 0;
    if (first == end)
        first = stream_tail_begin(stream);
    if (first > stream->first)
        stream->first = first;
    stream->queue->lane.ready = stream->next - stream->first;
}

static uint64_t segment_size(const struct stream *stream)
{
    const struct queue_settings *settings = stream->queue->settings;
    return settings && (settings->flags & SETTINGS_SEGMENT_BYTES) ? settings->segment_bytes : 0;
}

/* Whole segments go; of a stream that is only in memory, messages do. */
static void retain(struct stream *stream)
{
    const struct queue_settings *settings = stream->queue->settings;
    if (!settings || !(settings->flags & (SETTINGS_MAX_AGE | SETTINGS_MAX_LENGTH_BYTES)))
        return;
    uint64_t max_bytes = settings->flags & SETTINGS_MAX_LENGTH_BYTES ? settings->max_length_bytes : 0;
    if (stream->store) {
        int64_t before_ms = settings->flags & SETTINGS_MAX_AGE ? (int64_t)(stream->shard->worker->wall_us / 1000) - (int64_t)settings->max_age_ms : INT64_MIN;
        stream_store_retain(stream->store, before_ms, max_bytes);
    } else {
        while (max_bytes && stream->tail_bytes > max_bytes && stream->tail_count > 1)
            drop_tail(stream, 1);
    }
    count(stream);
}

bool stream_filter_value(const struct message *message, struct bytes *value)
{
    struct bytes headers;
    struct amqp_field field;
    if (!amqp_properties_get(message->properties, AMQP_HEADERS, &headers) || !amqp_table_find(headers, "x-stream-filter-value", &field) || field.type != 'S')
        return false;
    *value = field.bytes;
    return true;
}

/* ---- push ------------------------------------------------------------------------------------------------------------ */

static bool grow_tail(struct stream *stream)
{
    if (stream->tail_count < stream->tail_capacity)
        return true;
    uint32_t capacity = stream->tail_capacity ? stream->tail_capacity * 2 : 16;
    struct tail_entry *tail = malloc(capacity * sizeof(*tail));
    if (!tail)
        return false;
    for (uint32_t i = 0; i < stream->tail_count; i++)
        tail[i] = *stream_tail_at(stream, i);
    free(stream->tail);
    stream->tail = tail;
    stream->tail_first = 0;
    stream->tail_capacity = capacity;
    return true;
}

static void add_to_tail(struct stream *stream, uint64_t seq, const struct content *content, uint64_t log_offset)
{
    *stream_tail_at(stream, stream->tail_count++) = (struct tail_entry){content->chunk, content->offset, content->size, seq, log_offset};
    stream->tail_bytes += content->size;
    account_hold(&stream->shard->account, content->chunk);
}

uint64_t stream_push(struct stream *stream, const struct content *content, uint64_t log_offset)
{
    CHECK(grow_tail(stream));   /* ending here loses nothing confirmed */
    uint64_t seq = stream->next++;
    add_to_tail(stream, seq, content, log_offset);
    stream->queue->lane.ready++;
    return seq;
}

/* ---- write ----------------------------------------------------------------------------------------------------------- */

static bool add_entry(struct stream *stream, struct record_batch_writer *writer, const struct tail_entry *entry, struct stream_filter *filter)
{
    struct message message;
    struct bytes value;
    CHECK(message_read(bytes_of(entry->chunk->data + entry->offset, entry->size), &message));
    int64_t arrived_ms = (int64_t)(message.arrived_ms ? message.arrived_ms : stream->shard->worker->wall_us / 1000);
    if (!stream_message_add(writer, entry->seq, arrived_ms, &message))
        return false;
    if (stream_filter_value(&message, &value))
        stream_filter_add(filter, stream_filter_hash(value));
    else
        filter->has_unfiltered = true;
    return true;
}

/* The batch that the tail begins with. False: out of memory. */
static bool make_batch(struct stream *stream)
{
    const struct tail_entry *head = stream_tail_at(stream, 0);
    uint64_t least = RECORD_BATCH_HEADER_SIZE + record_batch_overhead(2) + 64 + head->size;
    uint64_t limit = segment_size(stream);
    struct chunk *chunk = chunk_new(stream->shard->worker->chunks, least > CHUNK_SIZE ? least : CHUNK_SIZE);
    if (!chunk)
        return false;
    uint64_t room = chunk->capacity;
    if (limit && limit < room)
        room = limit > least ? limit : least;   /* so that small segments hold what they are to hold */
    struct record_batch_writer writer;
    record_batch_begin(&writer, chunk->data, room);
    stream->batch_info = (struct stream_batch_info){.first = head->seq};
    stream->writing = 0;
    stream->writing_bytes = 0;
    while (stream->writing < stream->tail_count) {
        const struct tail_entry *entry = stream_tail_at(stream, stream->writing);
        if (!add_entry(stream, &writer, entry, &stream->batch_info.filter))
            break;
        stream->batch_info.end = entry->seq + 1;
        stream->writing_bytes += entry->size;
        stream->writing++;
    }
    CHECK(stream->writing);
    stream->batch = chunk;
    stream->batch_size = record_batch_finish(&writer);
    stream->batch_info.highest_ms = writer.highest_ms;
    return true;
}

static bool is_wanted(const struct stream *stream)
{
    return stream->tail_count && stream_tail_at(stream, 0)->seq < stream->wanted_below;
}

static void stop_spilling(struct stream *stream)
{
    if (!stream->spilling)
        return;
    stream->spilling = false;
    stream->shard->spilling--;
}

static void failed(struct stream *stream, enum gw_err err)
{
    struct shard *shard = stream->shard;
    alarm_raise(shard->alarms, ALARM_WARNING, "shard %u: messages of a stream stay in memory and in the log: %s", shard->index, gw_err_text(err));
    stream->writing = 0;
    stream->writing_bytes = 0;
    stream->retry_us = shard->worker->now_us + RETRY_US;
    if (stream->spilling)
        shard->spill_failed = true;
    stop_spilling(stream);
    shard_timer(shard, stream->queue, stream->retry_us);
}

static void written(void *owner, struct stream_place place, struct stream_place next, enum gw_err err)
{
    struct stream *stream = owner;
    if (!err)
        stream_keep_batch(stream, place, next);
    chunk_release(stream->batch, stream->shard->worker->chunks);
    stream->batch = NULL;
    if (err) {
        failed(stream, err);
        return;
    }
    drop_tail(stream, stream->writing);
    stream->writing = 0;
    stream->writing_bytes = 0;
    if (!is_wanted(stream))
        stop_spilling(stream);
    if (!place.position)
        retain(stream);
    shard_mark_dirty(stream->shard, stream->queue);
}

static void start_write(struct stream *stream, bool wait)
{
    if (!make_batch(stream)) {
        failed(stream, GW_ERR_NOMEM);
        return;
    }
    stream_store_set_segment_size(stream->store, segment_size(stream));
    enum gw_err err = stream_store_append(stream->store, chunk_retain(stream->batch), stream->batch_size, &stream->batch_info, wait, written);
    if (err)
        written(stream, (struct stream_place){0}, (struct stream_place){0}, err);
}

void stream_write_due(struct stream *stream)
{
    struct shard *shard = stream->shard;
    uint64_t limit = segment_size(stream);
    if (stream->queue->settings != stream->settings) {
        stream->settings = stream->queue->settings;
        retain(stream);
    }
    if (!stream->store) {
        retain(stream);
        return;
    }
    if (stream->batch || !stream->tail_count || shard->recovering || shard->worker->now_us < stream->retry_us)
        return;
    uint64_t enough = limit && limit < STREAM_BATCH_BYTES ? limit : STREAM_BATCH_BYTES;
    if (stream->tail_bytes >= enough || is_wanted(stream))
        start_write(stream, false);
}

void stream_checkpoint(struct stream *stream, uint64_t cutoff)
{
    uint64_t below = 0;
    for (uint32_t i = stream->tail_count; stream->store && i-- > 0 && !below;)
        if (stream_tail_at(stream, i)->log_offset < cutoff)
            below = stream_tail_at(stream, i)->seq + 1;
    if (!below)
        return;
    if (below > stream->wanted_below)
        stream->wanted_below = below;
    if (!stream->spilling)
        stream->shard->spilling++;
    stream->spilling = true;
    stream->retry_us = 0;
    stream_write_due(stream);
}

void stream_page_out(struct stream *stream)
{
    if (!stream->store || !stream->tail_count)
        return;
    stream->wanted_below = stream->next;
    stream_write_due(stream);
}

static void all_synced(void *owner, enum gw_err err)
{
    struct stream *stream = owner;
    stream->final_err = err;
}

enum gw_err stream_write_all(struct stream *stream)
{
    struct disk *disk = stream->shard->worker->disk;
    if (!stream->store)
        return GW_OK;
    while (stream->batch && disk->wait(disk))
        ;
    stream->retry_us = 0;
    while (stream->tail_count && !stream->retry_us)   /* what cannot be written is in the log */
        start_write(stream, true);
    stream->final_err = GW_OK;
    stream_store_sync(stream->store, true, all_synced);
    return stream->final_err;
}

/* ---- recovery --------------------------------------------------------------------------------------------------------- */

static void index_loaded(void *owner)
{
    struct stream *stream = owner;
    shard_mark_dirty(stream->shard, stream->queue);
}

enum gw_err stream_open(struct stream *stream, uint64_t first, uint64_t next, const struct stream_file_info *files, unsigned file_count)
{
    struct shard *shard = stream->shard;
    stream->first = first;
    stream->next = next;
    if (shard->worker->broker->config.log_body != LOG_FILE || stream->store)
        return GW_OK;
    const struct stream_store_config config = {
        .disk = shard->worker->disk, .directory = shard->directory, .pool = shard->worker->chunks, .alarms = shard->alarms, .id = stream->queue->id,
        .owner = stream, .index_loaded = index_loaded, .deleted = deleted};
    enum gw_err err = stream_store_open(&config, files, file_count, &stream->store);
    if (!err && stream_store_end(stream->store) > stream->next)
        err = GW_ERR_CORRUPT;
    if (!err)
        count(stream);
    return err;
}

enum gw_err stream_restore(struct stream *stream, uint64_t seq, const struct content *content, uint64_t log_offset)
{
    if (stream->store && seq < stream_store_end(stream->store) + bug_enabled(BUG_STREAM_ONE_LOST))
        return GW_OK;
    if (!grow_tail(stream))
        return GW_ERR_NOMEM;
    /* The log's order is nearly that of the offsets. */
    uint32_t place = stream->tail_count;
    while (place && stream_tail_at(stream, place - 1)->seq > seq)
        place--;
    if (place && stream_tail_at(stream, place - 1)->seq == seq)
        return GW_OK;
    add_to_tail(stream, seq, content, log_offset);
    for (uint32_t i = stream->tail_count - 1; i > place; i--) {
        struct tail_entry entry = *stream_tail_at(stream, i);
        *stream_tail_at(stream, i) = *stream_tail_at(stream, i - 1);
        *stream_tail_at(stream, i - 1) = entry;
    }
    if (seq >= stream->next)
        stream->next = seq + 1;
    return GW_OK;
}

void stream_recovered(struct stream *stream)
{
    count(stream);
    shard_mark_dirty(stream->shard, stream->queue);
}
