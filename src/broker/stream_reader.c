/* Consumers of a stream: each has a cursor; what lies on disk is read in extents that all of them share. However many consumers there are, a stream keeps at most
 * STREAM_EXTENTS of them, and what is on the way to the consumers holds the chunks for as long as it needs. */
#include "broker/stream.h"
#include "base/bugs.h"

#include "broker/worker_internal.h"
#include "store/stream_message.h"

#include <stdlib.h>

#define READ_RETRY_US 100000u
#define EXTENTS_OF_SHARD 128u   /* of all streams together, before each is kept short */
#define EXTENTS_LEAST 2u
#define READ_AHEAD 2u           /* extents */
#define STEPS_A_TURN 8192u      /* messages that a consumer gets or passes over */

/* ---- extents --------------------------------------------------------------------------------------------------------- */

void stream_cursor_leave(struct stream_cursor *cursor)
{
    if (cursor->slot)
        cursor->slot->users--;
    cursor->slot = NULL;
    cursor->in_batch = false;
}

/* Nobody is in it any more; what was sent of it holds its chunk by itself. */
static void empty_slot(struct stream *stream, struct extent_slot *slot)
{
    for (struct consumer *consumer = slot->users ? stream->queue->consumers : NULL; consumer; consumer = consumer->all_next)
        if (consumer->cursor && consumer->cursor->slot == slot)
            stream_cursor_leave(consumer->cursor);
    if (slot->extent) {
        stream_extent_free(slot->extent, stream->shard->worker->chunks);
        stream->shard->stream_extents--;
    }
    bool loading = slot->loading;
    *slot = (struct extent_slot){.loading = loading, .place = slot->place, .first = slot->first};
}

void stream_forget_extents(struct stream *stream)
{
    for (unsigned i = 0; i < STREAM_EXTENTS; i++)
        empty_slot(stream, &stream->extents[i]);
}

/* So many extents may there be: some for each consumer, and few where many streams are read. */
static unsigned extents_allowed(const struct stream *stream)
{
    if (stream->shard->stream_extents > EXTENTS_OF_SHARD)
        return EXTENTS_LEAST;
    uint32_t wanted = EXTENTS_LEAST + 2 * stream->queue->consumer_count;
    return wanted < STREAM_EXTENTS ? wanted : STREAM_EXTENTS;
}

/* A place for another extent: a free one, or the one that was looked at longest ago. NULL: all are needed. */
static struct extent_slot *free_slot(struct stream *stream, bool even_if_used)
{
    struct extent_slot *oldest = NULL, *empty = NULL;
    unsigned taken = 0;
    for (unsigned i = 0; i < STREAM_EXTENTS; i++) {
        struct extent_slot *slot = &stream->extents[i];
        taken += slot->extent || slot->loading;
        if (slot->loading)
            continue;
        if (!slot->extent)
            empty = slot;
        else if ((even_if_used || (!slot->users && slot->visited)) &&
                 (!oldest || !slot->users > !oldest->users || (!slot->users == !oldest->users && slot->used < oldest->used)))
            oldest = slot;
    }
    if (empty && (taken < extents_allowed(stream) || (even_if_used && !oldest)))
        return empty;
    if (oldest)
        empty_slot(stream, oldest);
    return oldest;
}

static bool same_place(struct stream_place a, struct stream_place b) { return a.base == b.base && a.position == b.position; }

/* Of one that looks for a time, the offset says nothing yet. */
static bool seeks_time(const struct stream_cursor *cursor) { return cursor->from_ms != INT64_MIN; }

static struct extent_slot *slot_with(struct stream *stream, const struct stream_cursor *cursor)
{
    for (unsigned i = 0; i < STREAM_EXTENTS && !seeks_time(cursor); i++) {
        struct extent_slot *slot = &stream->extents[i];
        if (slot->extent && slot->first <= cursor->offset && cursor->offset < slot->extent->end)
            return slot;
    }
    for (unsigned i = 0; i < STREAM_EXTENTS && cursor->placed; i++) {
        struct extent_slot *slot = &stream->extents[i];
        if ((slot->extent || slot->loading) && same_place(slot->place, cursor->place))
            return slot;
    }
    return NULL;
}

void stream_keep_batch(struct stream *stream, struct stream_place place, struct stream_place next)
{
    struct extent_slot *slot = stream->queue->consumer_count ? free_slot(stream, false) : NULL;
    if (!slot)
        return;
    slot->extent = stream_extent_of_batch(stream->batch, stream->batch_size, &stream->batch_info, place, next);
    stream->shard->stream_extents += slot->extent != NULL;
    slot->visited = true;
    slot->place = place;
    slot->first = stream->batch_info.first;
    slot->used = ++stream->clock;
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */

static void read_done(void *owner, struct stream_place place, struct stream_extent *extent, enum gw_err err);

/* False: nothing is there (any more). */
static bool start_read(struct stream *stream, struct stream_place place, uint64_t offset, bool ahead)
{
    struct extent_slot *slot = free_slot(stream, !ahead);
    if (!slot)
        return true;
    slot->place = place;
    slot->first = offset;
    enum gw_err err = stream_store_read(stream->store, place, read_done);
    slot->loading = !err;
    if (err == GW_ERR_NOMEM)
        shard_timer(stream->shard, stream->queue, stream->shard->worker->now_us + READ_RETRY_US);
    return err != GW_ERR_NOT_FOUND;
}

/* Has what follows an extent read, so that the disk works while the extent is sent. What was read ahead and has not served yet is not given up for it: readers would
 * take the room from each other for ever. */
static void read_ahead(struct stream *stream, const struct stream_extent *extent)
{
    for (unsigned depth = 0; depth < READ_AHEAD && extent->end < stream_tail_begin(stream); depth++) {
        const struct stream_extent *next = NULL;
        for (unsigned i = 0; i < STREAM_EXTENTS && !next; i++) {
            const struct extent_slot *slot = &stream->extents[i];
            if (slot->loading && same_place(slot->place, extent->next))
                return;
            if (slot->extent && slot->first <= extent->end && extent->end < slot->extent->end)
                next = slot->extent;
        }
        if (!next) {
            start_read(stream, extent->next, extent->end, true);
            return;
        }
        extent = next;
    }
}

static void read_done(void *owner, struct stream_place place, struct stream_extent *extent, enum gw_err err)
{
    struct stream *stream = owner;
    struct extent_slot *slot = stream->extents;
    while (slot < stream->extents + STREAM_EXTENTS && !(slot->loading && same_place(slot->place, place)))
        slot++;
    CHECK(slot < stream->extents + STREAM_EXTENTS);
    slot->loading = false;
    if (err) {
        if (err == GW_ERR_IO)
            alarm_raise(stream->shard->alarms, ALARM_WARNING, "shard %u: a stream cannot be read now: %s", stream->shard->index, gw_err_text(err));
        shard_timer(stream->shard, stream->queue, stream->shard->worker->now_us + READ_RETRY_US);
        slot->place = (struct stream_place){UINT64_MAX, 0};
        return;
    }
    slot->extent = extent;
    stream->shard->stream_extents++;
    if (extent->first < slot->first)
        slot->first = extent->first;
    slot->used = ++stream->clock;
    if (!stream->queue->consumers)
        empty_slot(stream, slot);
    for (unsigned i = 0; i < STREAM_EXTENTS; i++)
        if (stream->extents[i].users && stream->extents[i].goes_on)
            read_ahead(stream, stream->extents[i].extent);
    shard_mark_dirty(stream->shard, stream->queue);
}

/* Finds out where to read for the cursor. False: not now; or the cursor has moved, and is looked at anew. */
static bool find_place(struct stream *stream, struct stream_cursor *cursor)
{
    if (cursor->placed)
        return true;
    enum stream_seek seek = seeks_time(cursor) ? stream_store_seek_time(stream->store, cursor->from_ms, &cursor->place)
                                               : stream_store_seek(stream->store, cursor->offset, &cursor->place);
    if (seek == STREAM_SEEK_NONE)
        cursor->offset = stream_tail_begin(stream);
    cursor->placed = seek == STREAM_SEEK_FOUND;
    return cursor->placed;
}

static bool skip_runs(struct stream *stream, struct stream_cursor *cursor)
{
    uint64_t offset = cursor->offset;
    enum stream_seek seek = stream_store_skip(stream->store, cursor->hashes, cursor->filter_count, cursor->match_unfiltered, &cursor->place, &offset);
    if (seek == STREAM_SEEK_NONE)
        offset = stream_tail_begin(stream);
    if (offset > cursor->offset)
        cursor->offset = offset;
    return seek == STREAM_SEEK_FOUND;
}

/* The place is gone, by retention. When that happens twice, there is nothing to be read before the tail. */
static void look_again(struct stream *stream, struct stream_cursor *cursor)
{
    cursor->placed = false;
    if (cursor->lost || cursor->offset >= stream_store_end(stream->store))
        cursor->offset = stream_tail_begin(stream);
    cursor->lost = !cursor->lost;
    shard_mark_dirty(stream->shard, stream->queue);
}

/* Puts the cursor into the extent that its offset lies in. False: it has to wait (and will be served again), or has moved. */
static bool enter_extent(struct stream *stream, struct stream_cursor *cursor)
{
    struct extent_slot *slot = slot_with(stream, cursor);
    if (!slot) {
        if (!find_place(stream, cursor) || (cursor->filter_count && !skip_runs(stream, cursor)))
            return false;
        slot = slot_with(stream, cursor);
    }
    if (!slot) {
        /* Of what a time leads to, nobody knows yet with which offset it begins. */
        if (!start_read(stream, cursor->place, seeks_time(cursor) ? UINT64_MAX : cursor->offset, false))
            look_again(stream, cursor);
        return false;
    }
    if (slot->loading)
        return false;
    cursor->lost = false;
    slot->used = ++stream->clock;
    slot->users++;
    cursor->slot = slot;
    cursor->batch = stream_extent_find(slot->extent, cursor->offset);
    cursor->in_batch = false;
    cursor->place = slot->place;   /* where it is to be read again, should others need the room meanwhile */
    cursor->placed = true;
    slot->visited = true;
    slot->goes_on |= !cursor->filter_count;
    if (!cursor->filter_count)
        read_ahead(stream, slot->extent);
    return true;
}

/* The next record of the extent at or behind the cursor's offset. False: there is none left. */
static bool next_record(struct stream_cursor *cursor, struct batch_record *record)
{
    const struct stream_extent *extent = cursor->slot->extent;
    for (; cursor->batch < extent->count; cursor->batch++, cursor->in_batch = false) {
        if (!cursor->in_batch) {
            const struct extent_batch *batch = &extent->batches[cursor->batch];
            uint64_t size;
            if (record_batch_read(bytes_of(extent->chunk->data + batch->at, batch->size), &cursor->header, &size) != RECORD_BATCH_OK ||
                !record_batch_is_plain(&cursor->header))
                continue;
            cursor->at = (struct record_batch_cursor){0};
            cursor->in_batch = true;
        }
        while (record_batch_next(&cursor->header, &cursor->at, record) == RECORD_BATCH_OK)
            if (record->offset >= cursor->offset)
                return true;
    }
    return false;
}

/* ---- who gets what --------------------------------------------------------------------------------------------------- */

static bool value_is_wanted(const struct stream_cursor *cursor, const struct message *message)
{
    struct bytes value;
    if (!stream_filter_value(message, &value))
        return cursor->match_unfiltered;
    for (uint32_t i = 0; i < cursor->filter_count; i++)
        if (bytes_equal(stream_cursor_values(cursor)[i], value))
            return true;
    return false;
}

/* Does it depend on a message whether it wants it? */
static bool looks_at_messages(const struct stream_cursor *cursor)
{
    return cursor->filter_count || cursor->from_ms != INT64_MIN || cursor->selector;
}

static bool is_wanted(struct stream_cursor *cursor, const struct message *message, int64_t timestamp_ms)
{
    if (cursor->from_ms != INT64_MIN && timestamp_ms < cursor->from_ms)
        return false;
    cursor->from_ms = INT64_MIN;
    if (cursor->filter_count && !value_is_wanted(cursor, message))
        return false;
    if (!cursor->selector || bug_enabled(BUG_FILTER_IGNORED))
        return true;
    cursor->steps += selector_cost(cursor->selector, message) - 1;
    return selector_matches(cursor->selector, message);
}

/* False: no memory for the command; nothing happened. */
static bool deliver(struct stream *stream, struct consumer *consumer, uint64_t offset, struct chunk *chunk, struct bytes content, bool is_record, int64_t arrived_ms)
{
    struct shard *shard = stream->shard;
    struct command_deliver_stamped *stamped = worker_try_command(shard->worker, worker_of_client(consumer->client), COMMAND_DELIVER, sizeof(*stamped), chunk);
    if (!stamped)
        return false;
    struct command_deliver *command = &stamped->deliver;
    stamped->arrived_ms = arrived_ms > 0 ? (uint64_t)arrived_ms : 0;
    command->client = consumer->client;
    command->queue = stream->queue->id;
    command->seq = (uint64_t)consumer->handle << 32 | consumer->cursor->delivered++;
    command->chunk = chunk;
    command->offset = (uint32_t)(content.data - chunk->data);
    command->size = (uint32_t)content.size;
    command->consumer = consumer->number;
    command->handle = consumer->handle;
    command->channel = consumer->channel;
    command->flags = is_record ? DELIVER_RECORD : 0;
    command->added = DELIVERY_ADDS_OFFSET;
    command->added_value = offset;
    consumer->window -= (int64_t)content.size + DELIVERY_OVERHEAD;
    stream->on_the_way += content.size + DELIVERY_OVERHEAD;
    consumer->unacked++;
    return true;
}

/* From the tail; false: no memory now. */
static bool serve_from_tail(struct stream *stream, struct consumer *consumer)
{
    struct stream_cursor *cursor = consumer->cursor;
    uint64_t first = stream_tail_begin(stream);
    stream_cursor_leave(cursor);
    cursor->placed = false;
    uint64_t index = cursor->offset - first;
    if (index >= stream->tail_count)
        index = stream->tail_count - 1;
    while (index > 0 && stream_tail_at(stream, (uint32_t)index - 1)->seq >= cursor->offset)   /* where offsets are missing */
        index--;
    const struct tail_entry *entry = stream_tail_at(stream, (uint32_t)index);
    if (entry->seq < cursor->offset) {
        cursor->offset = stream->next;
        return true;
    }
    struct bytes content = bytes_of(entry->chunk->data + entry->offset, entry->size);
    struct message message;
    CHECK(message_read(content, &message));
    bool wanted = !looks_at_messages(cursor) || is_wanted(cursor, &message, message.arrived_ms ? (int64_t)message.arrived_ms : INT64_MAX);
    if (wanted && !deliver(stream, consumer, entry->seq, entry->chunk, content, false, (int64_t)message.arrived_ms))
        return false;
    cursor->offset = entry->seq + 1;
    return true;
}

/* From an extent; false: not now. */
static bool serve_from_disk(struct stream *stream, struct consumer *consumer)
{
    struct stream_cursor *cursor = consumer->cursor;
    if (!cursor->slot) {
        uint64_t before = cursor->offset;
        return enter_extent(stream, cursor) || cursor->offset != before;
    }
    struct batch_record record;
    if (!next_record(cursor, &record)) {
        uint64_t end = cursor->slot->extent->end;
        cursor->place = cursor->slot->extent->next;
        stream_cursor_leave(cursor);
        if (end > cursor->offset)
            cursor->offset = end;
        return true;
    }
    bool wanted = true;
    if (looks_at_messages(cursor)) {
        struct message message;
        wanted = stream_message_of(&record, &message) && is_wanted(cursor, &message, record.timestamp_ms);
    }
    if (wanted && !deliver(stream, consumer, record.offset, cursor->slot->extent->chunk, record.whole, true, record.timestamp_ms)) {
        stream_cursor_leave(cursor);
        cursor->placed = false;
        return false;
    }
    cursor->offset = record.offset + 1;
    return true;
}

void stream_credited(struct consumer *consumer, uint32_t bytes)
{
    uint64_t *on_the_way = &consumer->queue->stream->on_the_way;
    *on_the_way -= bytes < *on_the_way ? bytes : *on_the_way;
}

void stream_left(struct consumer *consumer)
{
    int64_t bytes = STREAM_WINDOW - consumer->window;
    stream_credited(consumer, bytes > 0 ? (uint32_t)bytes : 0);
    stream_cursor_free(consumer->cursor);
}

/* Many consumers hold no more memory than some. */
static bool has_share(const struct stream *stream, const struct consumer *consumer)
{
    return stream->on_the_way < STREAM_ON_THE_WAY || STREAM_WINDOW - consumer->window < STREAM_LEAST;
}

static void serve_consumer(struct stream *stream, struct consumer *consumer)
{
    struct stream_cursor *cursor = consumer->cursor;
    cursor->steps = 0;
    while (consumer_may_get_more(consumer) && has_share(stream, consumer) && cursor->offset < stream->next) {
        if (cursor->offset < stream->first) {   /* retention was faster */
            stream_cursor_leave(cursor);
            cursor->placed = false;
            cursor->offset = stream->first;
        }
        bool served = cursor->offset >= stream_tail_begin(stream) ? serve_from_tail(stream, consumer)
                      : stream->store                             ? serve_from_disk(stream, consumer)
                                                                  : (cursor->offset = stream_tail_begin(stream), true);
        if (!served)
            return;
        if (++cursor->steps >= STEPS_A_TURN) {   /* of those that want few there may be many: others have their turn */
            shard_timer(stream->shard, stream->queue, stream->shard->worker->now_us);
            return;
        }
    }
}

void stream_serve(struct stream *stream)
{
    struct queue *queue = stream->queue;
    struct consumer *first = queue->consumers;
    for (uint32_t i = queue->consumer_count ? stream->turn++ % queue->consumer_count : 0; i && first->all_next; i--)
        first = first->all_next;
    for (struct consumer *consumer = first; consumer; consumer = consumer->all_next)
        serve_consumer(stream, consumer);
    for (struct consumer *consumer = queue->consumers; consumer != first; consumer = consumer->all_next)
        serve_consumer(stream, consumer);
}
