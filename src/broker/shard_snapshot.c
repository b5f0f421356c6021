#include "broker/shard_snapshot.h"

#include "broker/dedup.h"
#include "broker/rules.h"
#include "broker/schedule.h"
#include "broker/stream.h"
#include "broker/worker_internal.h"

#include <stdlib.h>

#define VERSION 5u
#define VERSION_BEFORE 4u           /* without the times of returns */
#define BLOCK_RECORD_SIZE 32u
#define ID_RECORD_SIZE 24u
#define LANE_EXPIRES 0x80000000u   /* in the count of a lane's blocks: some of its messages expire by themselves */

/* ---- writing ------------------------------------------------------------------------------------------------------- */

/* Bytes that grow. */
struct buffer {
    uint8_t *data;
    uint64_t size, room;
    bool failed;
};

static uint8_t *extend(struct buffer *buffer, uint64_t size)
{
    static uint8_t nowhere[64];
    if (buffer->failed)
        return size <= sizeof(nowhere) ? nowhere : NULL;
    if (buffer->room - buffer->size < size) {
        uint64_t room = (buffer->room + size) * 2;
        uint8_t *data = realloc(buffer->data, room);
        if (!data) {
            buffer->failed = true;
            return size <= sizeof(nowhere) ? nowhere : NULL;
        }
        buffer->data = data;
        buffer->room = room;
    }
    buffer->size += size;
    return buffer->data + buffer->size - size;
}

static void put32(struct buffer *buffer, uint32_t value) { store_le32(extend(buffer, 4), value); }
static void put64(struct buffer *buffer, uint64_t value) { store_le64(extend(buffer, 8), value); }

/* Which messages of the block are to be there after a restart: live and persistent. Answers how many. */
static unsigned lasting_bits(const struct block *block, uint64_t *bits)
{
    unsigned count = 0;
    memset(bits, 0, BLOCK_WORDS * sizeof(*bits));
    for (unsigned i = 0; i < BLOCK_SIZE; i++) {
        bool live = bit_get(block->ready, i) || bit_get(block->unacked, i);
        if (live && (!block->entries || (block->entries[i].flags & ENTRY_PERSISTENT))) {
            bit_set(bits, i);
            count++;
        }
    }
    return count;
}

/* Counts what the listed blocks hold of their files: that is what lives there after a restart. */
static void count_live(struct segment_file_info *files, unsigned count, const struct block_slot *slot)
{
    for (unsigned i = count; i-- > 0;)
        if (files[i].file == slot->location.file) {
            files[i].live += slot->location.size - slot->released;
            return;
        }
}

static bool put_block(struct buffer *buffer, const struct block_slot *slot, uint64_t number)
{
    uint64_t bits[BLOCK_WORDS];
    unsigned live = slot->block ? lasting_bits(slot->block, bits) : slot->live;
    if (!live)
        return false;
    uint8_t *at = extend(buffer, BLOCK_RECORD_SIZE);
    store_le64(at, number);
    store_le32(at + 8, slot->location.file);
    store_le32(at + 12, slot->location.size);
    store_le64(at + 16, slot->location.offset);
    store_le32(at + 24, slot->released);
    store_le16(at + 28, (uint16_t)live);
    at[30] = slot->block != NULL;
    at[31] = 0;
    if (slot->block)
        memcpy(extend(buffer, sizeof(bits)), bits, sizeof(bits));
    return true;
}

static void put_lane(struct buffer *buffer, const struct queue *queue, const struct lane *lane, uint32_t mark, struct segment_file_info *files, unsigned file_count)
{
    put64(buffer, queue->id);
    put64(buffer, lane->next_seq);
    put64(buffer, lane->asked_below > lane->redelivered_below ? lane->asked_below : lane->redelivered_below);
    put64(buffer, lane->delivered_below > lane->redelivered_below ? lane->delivered_below : lane->redelivered_below);
    uint64_t count_at = buffer->size;
    uint32_t count = 0;
    put32(buffer, 0);
    for (uint64_t number = lane->first_block; number < lane->end_block; number++) {
        const struct block_slot *slot = lane_slot(lane, number);
        if (slot->state == SLOT_SPILLED && (int32_t)(slot->spill_number - mark) < 0) {
            if (put_block(buffer, slot, number)) {
                count++;
                count_live(files, file_count, slot);
            }
        }
    }
    if (!buffer->failed)
        store_le32(buffer->data + count_at, count | (queue->ruled & RULED_BY_MESSAGES ? LANE_EXPIRES : 0));
}

/* How often messages that are there came back, of all queues: how many there are, then queue id, sequence number, count, time, reason (and, above its byte, the wait of its own) of each. */
static void put_returns(struct buffer *buffer, const struct shard *shard)
{
    uint64_t count_at = buffer->size;
    uint32_t count = 0, cursor = 0;
    put32(buffer, 0);
    for (const struct queue *queue; (queue = map_next(&shard->queues, &cursor));) {
        uint32_t at = 0;
        if (!queue->durable || !queue->rules || !queue->settings)
            continue;
        for (const struct returned *returned; (returned = map_next(&queue->rules->returns, &at)); count++) {
            put64(buffer, queue->id);
            put64(buffer, returned->seq);
            put64(buffer, returned->count);
            put64(buffer, returned->due_ms);
            put64(buffer, returned_why(returned));
        }
    }
    if (!buffer->failed)
        store_le32(buffer->data + count_at, count);
}

/* When something of the blocks of schedules is due that may be paged out: how many there are, then queue id, block, time of each. */
static void put_schedules(struct buffer *buffer, const struct shard *shard)
{
    uint64_t count_at = buffer->size;
    uint32_t count = 0, cursor = 0;
    put32(buffer, 0);
    for (const struct queue *queue; (queue = map_next(&shard->queues, &cursor));) {
        const struct lane *lane = queue->durable && queue->schedule && queue->levels ? queue->levels->lanes[LEVEL_SCHEDULED] : NULL;
        for (uint64_t block = lane ? lane->first_block : 0; lane && block < lane->end_block; block++) {
            uint64_t due_ms = schedule_block_due(queue, block);
            if (due_ms == UINT64_MAX)
                continue;
            put64(buffer, queue->id);
            put64(buffer, block);
            put64(buffer, due_ms);
            count++;
        }
    }
    if (!buffer->failed)
        store_le32(buffer->data + count_at, count);
}

static void put_ids_of(struct buffer *buffer, const struct queue *queue)
{
    put64(buffer, queue->id);
    for (unsigned ring = 0; ring < ID_RINGS; ring++)
        put32(buffer, (uint32_t)queue->dedup->ids.rings[ring].live);
    for (unsigned ring = 0; ring < ID_RINGS; ring++) {
        uint64_t place = 0;
        for (const struct known_id *id; (id = id_window_next(&queue->dedup->ids, ring, &place));) {
            uint8_t *at = extend(buffer, ID_RECORD_SIZE);
            store_le64(at, id->hash.low);
            store_le64(at + 8, id->hash.high);
            store_le64(at + 16, id->at_ms);
        }
    }
}

/* The ids that queues know. All that has entered them is in the log by now, see checkpoint.c. */
static void put_ids(struct buffer *buffer, struct shard *shard)
{
    const struct siphash_key *key = shard->dedup.keyed ? dedup_key(shard) : &(struct siphash_key){0};
    put64(buffer, key->low);
    put64(buffer, key->high);
    put64(buffer, shard->log ? log_end(shard->log).offset : 0);
    uint64_t count_at = buffer->size;
    uint32_t count = 0, cursor = 0;
    put32(buffer, 0);
    for (const struct queue *queue; (queue = map_next(&shard->queues, &cursor));)
        if (queue->durable && queue->dedup && id_window_count(&queue->dedup->ids)) {
            put_ids_of(buffer, queue);
            count++;
        }
    if (!buffer->failed)
        store_le32(buffer->data + count_at, count);
}

static void put_origins(struct buffer *buffer, const struct origins *origins)
{
    put32(buffer, origins->count);
    for (const struct origin *origin = NULL; (origin = origins_next(origins, origin));) {
        put64(buffer, origin->queue);
        put64(buffer, origin->seq);
        put32(buffer, origin->reason);
        put32(buffer, origin->count);
        for (uint32_t i = 0; i < origin->count; i++) {
            put64(buffer, origin->targets[i].queue);
            put64(buffer, origin->targets[i].seq);
        }
    }
}

/* What is synced of a stream; the log has the rest. */
static void put_stream(struct buffer *buffer, const struct stream *stream)
{
    put64(buffer, stream->queue->id);
    put64(buffer, stream->first);
    put64(buffer, stream->next);
    unsigned count = stream->store ? stream_store_files(stream->store, NULL, 0) : 0;
    struct stream_file_info *files = count ? malloc(count * sizeof(*files)) : NULL;
    buffer->failed |= count && !files;
    if (count && files)
        stream_store_files(stream->store, files, count);
    put32(buffer, count);
    for (unsigned i = 0; i < count && !buffer->failed; i++) {
        put64(buffer, files[i].base);
        put64(buffer, files[i].end);
        put64(buffer, files[i].size);
        put64(buffer, (uint64_t)files[i].highest_ms);
    }
    free(files);
}

static void put_streams(struct buffer *buffer, struct shard *shard)
{
    uint32_t cursor = 0;
    put32(buffer, shard->stream_count);
    for (struct queue *queue; shard->stream_count && (queue = map_next(&shard->queues, &cursor));)
        if (queue->stream)
            put_stream(buffer, queue->stream);
}

static enum gw_err put_change(void *owner, const struct topology_change *change)
{
    struct buffer *buffer = owner;
    uint32_t size = topology_change_size(change);
    put32(buffer, size);
    uint8_t *at = extend(buffer, size);
    if (buffer->failed)
        return GW_ERR_NOMEM;
    topology_change_write(change, at);
    return GW_OK;
}

static enum gw_err count_change(void *owner, const struct topology_change *change)
{
    (void)change;
    ++*(uint32_t *)owner;
    return GW_OK;
}

enum gw_err shard_snapshot_write(struct shard *shard, const struct snapshot_head *head, uint32_t mark, struct segment_file_info *files, unsigned file_count,
                                 struct chunk **blob, uint64_t *size)
{
    struct buffer buffer = {0};
    put32(&buffer, VERSION);
    put32(&buffer, head->shards);
    put64(&buffer, head->cutoff);
    put64(&buffer, head->clean_end);
    put32(&buffer, file_count);
    uint64_t files_at = buffer.size;
    for (unsigned i = 0; i < file_count; i++) {
        put32(&buffer, files[i].file);
        put64(&buffer, files[i].size);
        put64(&buffer, 0);
        files[i].live = 0;   /* counted below */
    }
    uint32_t lanes = 0, cursor = 0;
    for (struct queue *queue; (queue = map_next(&shard->queues, &cursor));)
        lanes += queue->durable ? 1 + (queue->levels ? queue->levels->count : 0) : 0;
    put32(&buffer, lanes);
    cursor = 0;
    for (struct queue *queue; (queue = map_next(&shard->queues, &cursor));)
        if (queue->durable) {
            unsigned at = 0;
            for (const struct lane *lane; (lane = queue_next_lane(queue, &at));)
                put_lane(&buffer, queue, lane, mark, files, file_count);
        }
    for (unsigned i = 0; !buffer.failed && i < file_count; i++)
        store_le64(buffer.data + files_at + i * 20u + 12, files[i].live);
    uint32_t changes = 0;
    if (shard->index == 0) {
        const struct topology *topology = master_topology(shard->worker->master);
        topology_dump(topology, count_change, &changes);
        put32(&buffer, changes);
        topology_dump(topology, put_change, &buffer);
    } else {
        put32(&buffer, 0);
    }
    put_origins(&buffer, &shard->origins);
    put_streams(&buffer, shard);
    put_returns(&buffer, shard);
    put_schedules(&buffer, shard);
    put_ids(&buffer, shard);
    *blob = buffer.failed ? NULL : chunk_new(shard->worker->chunks, buffer.size);
    if (*blob)
        memcpy((*blob)->data, buffer.data, buffer.size);
    *size = buffer.size;
    free(buffer.data);
    return *blob ? GW_OK : GW_ERR_NOMEM;
}

/* ---- reading ------------------------------------------------------------------------------------------------------- */

struct reader {
    struct bytes rest;
    bool bad;
};

static const uint8_t *take(struct reader *reader, size_t size)
{
    static const uint8_t zeros[64];
    if (reader->bad || reader->rest.size < size) {
        reader->bad = true;
        return zeros;
    }
    const uint8_t *at = reader->rest.data;
    reader->rest = bytes_of(at + size, reader->rest.size - size);
    return at;
}

static uint32_t take32(struct reader *reader) { return load_le32(take(reader, 4)); }
static uint64_t take64(struct reader *reader) { return load_le64(take(reader, 8)); }

static enum gw_err open_segments(struct shard *shard, struct reader *reader)
{
    uint32_t count = take32(reader);
    if (reader->bad || count > reader->rest.size / 20)
        return GW_ERR_CORRUPT;
    struct segment_file_info *files = calloc(count + 1, sizeof(*files));
    if (!files)
        return GW_ERR_NOMEM;
    for (uint32_t i = 0; i < count; i++) {
        files[i].file = take32(reader);
        files[i].size = take64(reader);
        files[i].live = take64(reader);
    }
    enum gw_err err = shard_open_segments(shard, files, count);
    free(files);
    return err;
}

static enum gw_err read_block(struct shard *shard, struct lane *lane, struct reader *reader)
{
    const uint8_t *at = take(reader, BLOCK_RECORD_SIZE);
    if (reader->bad)
        return GW_ERR_CORRUPT;
    uint64_t number = load_le64(at), bits[BLOCK_WORDS];
    struct segment_location location = {.file = load_le32(at + 8), .size = load_le32(at + 12), .offset = load_le64(at + 16)};
    uint32_t released = load_le32(at + 24);
    uint16_t live = load_le16(at + 28);
    bool has_bits = at[30];
    if (has_bits)
        memcpy(bits, take(reader, sizeof(bits)), sizeof(bits));
    if (reader->bad || !number || released > location.size || live > BLOCK_SIZE || (!has_bits && live != BLOCK_SIZE))
        return GW_ERR_CORRUPT;
    if (!lane) {   /* deleted after the snapshot */
        segment_released(shard, location, location.size - released);
        return GW_OK;
    }
    struct block_slot *slot = lane_restore_slot(lane, number);
    if (!slot)
        return GW_ERR_NOMEM;
    *slot = (struct block_slot){.location = location, .released = released, .state = SLOT_SPILLED, .live = has_bits ? 0 : live};
    if (has_bits) {
        slot->block = block_new(&shard->blocks, 0);
        if (!slot->block)
            return GW_ERR_NOMEM;
        memcpy(slot->block->ready, bits, sizeof(bits));
        slot->block->ready_count = live;
        slot->block->bodies = false;
    }
    lane->ready += live;
    return GW_OK;
}

static enum gw_err read_lane(struct shard *shard, struct reader *reader)
{
    struct queue *queue = map_get(&shard->queues, take64(reader));
    uint64_t next_seq = take64(reader), redelivered_below = take64(reader), clean_below = take64(reader);
    uint32_t blocks = take32(reader);
    if (queue && (blocks & LANE_EXPIRES))
        queue->ruled |= RULED_BY_MESSAGES;
    blocks &= ~LANE_EXPIRES;
    if (reader->bad || seq_level(next_seq) >= QUEUE_LEVELS)
        return GW_ERR_CORRUPT;
    struct lane *lane = queue ? queue_lane_make(queue, seq_level(next_seq)) : NULL;
    if (queue && (!lane || (seq_level(next_seq) == LEVEL_SCHEDULED && !schedule_lane(queue))))
        return GW_ERR_NOMEM;
    if (lane) {
        lane->next_seq = next_seq;
        lane->redelivered_below = redelivered_below;
        lane->clean_below = clean_below;
    }
    enum gw_err err = reader->bad ? GW_ERR_CORRUPT : GW_OK;
    for (uint32_t i = 0; !err && i < blocks; i++)
        err = read_block(shard, lane, reader);
    return err;
}

static enum gw_err read_origins(struct shard *shard, struct reader *reader)
{
    uint32_t count = take32(reader);
    for (uint32_t i = 0; !reader->bad && i < count; i++) {
        uint64_t queue = take64(reader), seq = take64(reader);
        uint32_t reason = take32(reader), targets = take32(reader);
        if (reader->bad || targets > reader->rest.size / 16 || origins_find(&shard->origins, queue, seq))
            return GW_ERR_CORRUPT;
        struct origin *origin = origins_add(&shard->origins, queue, seq, targets);
        if (!origin)
            return GW_ERR_NOMEM;
        origin->reason = (uint8_t)reason;
        origin->committed = true;
        for (uint32_t k = 0; k < targets; k++) {
            origin->targets[k].queue = take64(reader);
            origin->targets[k].seq = take64(reader);
        }
    }
    return reader->bad ? GW_ERR_CORRUPT : GW_OK;
}

static enum gw_err read_stream(struct shard *shard, struct reader *reader)
{
    uint64_t id = take64(reader), first = take64(reader), next = take64(reader);
    uint32_t count = take32(reader);
    if (reader->bad || count > reader->rest.size / 32)
        return GW_ERR_CORRUPT;
    struct stream_file_info *files = malloc((count + 1) * sizeof(*files));
    if (!files)
        return GW_ERR_NOMEM;
    for (uint32_t i = 0; i < count; i++) {
        files[i] = (struct stream_file_info){.base = take64(reader)};
        files[i].end = take64(reader);
        files[i].size = take64(reader);
        files[i].highest_ms = (int64_t)take64(reader);
    }
    struct queue *queue = map_get(&shard->queues, id);
    enum gw_err err = queue && queue->stream ? stream_open(queue->stream, first, next, files, count) : GW_OK;   /* or it was deleted since */
    free(files);
    return err;
}

static enum gw_err read_streams(struct shard *shard, struct reader *reader)
{
    uint32_t count = take32(reader);
    enum gw_err err = GW_OK;
    for (uint32_t i = 0; !err && i < count; i++)
        err = read_stream(shard, reader);
    return err ? err : reader->bad ? GW_ERR_CORRUPT : GW_OK;
}

static enum gw_err read_changes(struct shard *shard, struct reader *reader)
{
    uint32_t count = take32(reader);
    enum gw_err err = GW_OK;
    for (uint32_t i = 0; !err && i < count; i++) {
        uint32_t size = take32(reader);
        struct topology_change change;
        const uint8_t *at = reader->bad || size > reader->rest.size ? NULL : take(reader, size);
        if (!at || !topology_change_read(bytes_of(at, size), &change))
            return GW_ERR_CORRUPT;
        err = shard_restore_change(shard, &change);
    }
    return reader->bad ? GW_ERR_CORRUPT : err;
}

static enum gw_err read_returns(struct shard *shard, struct reader *reader, uint32_t version)
{
    uint32_t count = take32(reader);
    enum gw_err err = GW_OK;
    for (uint32_t i = 0; !err && !reader->bad && i < count; i++) {
        struct queue *queue = map_get(&shard->queues, take64(reader));
        uint64_t seq = take64(reader), times = take64(reader), due_ms = 0, why = RETRY_NONE;
        if (version > VERSION_BEFORE) {
            due_ms = take64(reader);
            why = take64(reader);
        }
        if (queue && !reader->bad)
            err = returns_restore(queue, seq, times, due_ms, why);
    }
    return reader->bad ? GW_ERR_CORRUPT : err;
}

static enum gw_err read_schedules(struct shard *shard, struct reader *reader)
{
    uint32_t count = take32(reader);
    enum gw_err err = GW_OK;
    for (uint32_t i = 0; !err && !reader->bad && i < count; i++) {
        struct queue *queue = map_get(&shard->queues, take64(reader));
        uint64_t block = take64(reader), due_ms = take64(reader);
        if (queue && !reader->bad)
            err = block_level(block) == LEVEL_SCHEDULED ? schedule_note_block(queue, block, due_ms) : GW_ERR_CORRUPT;
    }
    return reader->bad ? GW_ERR_CORRUPT : err;
}

static enum gw_err read_ids_of(struct shard *shard, struct reader *reader)
{
    struct queue *queue = map_get(&shard->queues, take64(reader));
    uint32_t counts[ID_RINGS];
    for (unsigned ring = 0; ring < ID_RINGS; ring++)
        counts[ring] = take32(reader);
    enum gw_err err = GW_OK;
    for (unsigned ring = 0; ring < ID_RINGS; ring++)
        for (uint32_t i = 0; !err && !reader->bad && i < counts[ring]; i++) {
            const uint8_t *at = take(reader, ID_RECORD_SIZE);
            if (queue && !reader->bad)
                err = load_le64(at + 16) ? dedup_restore_id(queue, ring, (struct hash128){load_le64(at), load_le64(at + 8)}, load_le64(at + 16)) : GW_ERR_CORRUPT;
        }
    return err;
}

static enum gw_err read_ids(struct shard *shard, struct reader *reader)
{
    shard->dedup.key.low = take64(reader);
    shard->dedup.key.high = take64(reader);
    shard->dedup.keyed = shard->dedup.key.low || shard->dedup.key.high;
    shard->dedup.known_below = take64(reader);
    uint32_t count = take32(reader);
    enum gw_err err = GW_OK;
    for (uint32_t i = 0; !err && !reader->bad && i < count; i++)
        err = read_ids_of(shard, reader);
    return reader->bad ? GW_ERR_CORRUPT : err;
}

/* Passes over the queues, to the changes behind them, which must be applied first. */
static void skip_queues(struct reader *reader)
{
    uint32_t queues = take32(reader);
    for (uint32_t i = 0; !reader->bad && i < queues; i++) {
        take(reader, 32);
        uint32_t blocks = take32(reader) & ~LANE_EXPIRES;
        for (uint32_t k = 0; !reader->bad && k < blocks; k++)
            if (take(reader, BLOCK_RECORD_SIZE)[30])
                take(reader, BLOCK_WORDS * 8);
    }
}

enum gw_err shard_snapshot_read(struct shard *shard, struct bytes blob, struct snapshot_head *head)
{
    struct reader reader = {.rest = blob};
    uint32_t version = take32(&reader);
    if (version != VERSION && version != VERSION_BEFORE)
        return GW_ERR_VERSION;
    head->shards = take32(&reader);
    head->cutoff = take64(&reader);
    head->clean_end = take64(&reader);
    enum gw_err err = open_segments(shard, &reader);
    if (err)
        return err;
    struct reader behind = reader;
    skip_queues(&behind);
    err = behind.bad ? GW_ERR_CORRUPT : read_changes(shard, &behind);
    if (!err)
        err = read_origins(shard, &behind);
    uint32_t queues = take32(&reader);
    for (uint32_t i = 0; !err && i < queues; i++)
        err = read_lane(shard, &reader);
    if (!err)
        err = read_streams(shard, &behind);
    if (!err)
        err = read_returns(shard, &behind, version);
    if (!err)
        err = read_schedules(shard, &behind);
    if (!err && (version > VERSION_BEFORE || behind.rest.size))   /* not all of that version had ids */
        err = read_ids(shard, &behind);
    return err;
}
