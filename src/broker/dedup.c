#include "broker/dedup.h"
#include "base/bugs.h"

#include "broker/death.h"
#include "broker/worker_internal.h"
#include "protocol/amqp/properties.h"
#include "store/message.h"
#include "store/record.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SLACK_MS 60000u         /* an id is kept so much longer than its window: what arrived within it may have been long on its way */
#define TIDY_MAX 64u            /* trims at a time */
#define WARN_US 60000000u       /* between two warnings of a queue */

/* ---- lifecycle ------------------------------------------------------------------------------------------------------- */

static struct dedup *dedup_of(struct queue *queue)
{
    if (!queue->dedup)
        queue->dedup = calloc(1, sizeof(*queue->dedup));
    return queue->dedup;
}

void dedup_free(struct queue *queue)
{
    if (!queue->dedup)
        return;
    id_window_deinit(&queue->dedup->ids);
    free(queue->dedup);
    queue->dedup = NULL;
}

void dedup_set(struct queue *queue)
{
    if (!dedup_wanted(queue))
        dedup_free(queue);
}

const struct siphash_key *dedup_key(struct shard *shard)
{
    if (!shard->dedup.keyed) {
        shard->dedup.key.low = worker_random(shard->worker);
        shard->dedup.key.high = worker_random(shard->worker);
        shard->dedup.keyed = true;
    }
    return &shard->dedup.key;
}

/* ---- ids ------------------------------------------------------------------------------------------------------------- */

/* A number is the same id as its text. */
static struct bytes text_of(const struct amqp_field *field, char *room, size_t size)
{
    if (field->type == 'S' || field->type == 'x')
        return field->bytes;
    if (!amqp_field_is_integer(field) && field->type != 'T')
        return (struct bytes){0};
    return bytes_of(room, (size_t)snprintf(room, size, "%" PRId64, (int64_t)field->integer));
}

static struct bytes header_of(struct bytes properties, struct bytes name, char *room, size_t size)
{
    struct bytes headers;
    struct amqp_field field;
    if (amqp_properties_get(properties, AMQP_HEADERS, &headers))
        while (amqp_table_next(&headers, &field) == WIRE_OK)
            if (bytes_equal(field.name, name))
                return text_of(&field, room, size);
    return (struct bytes){0};
}

/* The id of a message of such a queue, and its stamp. False: it has none, or no stamp, since it was routed before the queue asked for one. */
static bool id_of(struct shard *shard, const struct queue_settings *settings, struct bytes content, struct hash128 *hash, uint64_t *stamp_ms)
{
    struct message message;
    struct bytes id = {0}, name = settings->dedup_header;
    char number[24];
    if (!message_read(content, &message) || !message.arrived_ms || message.properties.size <= 2)
        return false;
    if (name.size)
        id = header_of(message.properties, name, number, sizeof(number));
    else
        amqp_properties_get(message.properties, AMQP_MESSAGE_ID, &id);
    if (!id.size)
        return false;
    *hash = siphash128(dedup_key(shard), name, id);
    *stamp_ms = message.arrived_ms;
    return true;
}

bool dedup_comes_back(unsigned record_flags, struct bytes content, struct bytes name)
{
    struct message message;
    if (record_flags & RECORD_FLAG_MOVED)
        return true;
    return (record_flags & RECORD_FLAG_LETTER) && message_read(content, &message) && message.properties.size > 2 && death_was_in(message.properties, name);
}

/* ---- entering -------------------------------------------------------------------------------------------------------- */

static uint64_t before(uint64_t now_ms, uint64_t span_ms) { return now_ms > span_ms ? now_ms - span_ms : 0; }

bool dedup_is_duplicate(struct shard *shard, struct queue *queue, const uint8_t *record, const struct content *content, struct dedup_look *look)
{
    uint64_t stamp_ms, at_ms, window_ms = queue->settings->dedup_window_ms;
    bool scheduled = record[9] & RECORD_FLAG_SCHEDULED;
    *look = (struct dedup_look){0};
    if ((queue->durable && !(content->flags & ENTRY_PERSISTENT)) ||
        !id_of(shard, queue->settings, bytes_of(content->chunk->data + content->offset, content->size), &look->hash, &stamp_ms))
        return false;
    look->at_ms = stamp_ms;
    look->ring = scheduled;
    uint64_t arrived_ms = scheduled ? shard->worker->wall_us / 1000 : stamp_ms;
    if (bug_enabled(BUG_DEDUP_HALF_WINDOW))
        window_ms /= 2;
    if (!queue->dedup || !id_window_find(&queue->dedup->ids, look->hash, &at_ms) || before(arrived_ms, window_ms) >= at_ms) {
        if (bug_enabled(BUG_DEDUP_REFUSED))
            dedup_admitted(shard, queue, look);
        return false;
    }
    queue->dedup->dropped++;
    shard->dedup.dropped++;
    return true;
}

static void warn(struct shard *shard, struct queue *queue)
{
    struct dedup *dedup = queue->dedup;
    const struct queue_entry *entry = topology_queue_by_id(&shard->worker->topology, queue->id);
    uint64_t now_us = shard->worker->now_us;
    if (!entry || (dedup->warned_us && now_us - dedup->warned_us < WARN_US))
        return;
    dedup->warned_us = now_us ? now_us : 1;
    alarm_raise(shard->alarms, ALARM_WARNING, "queue '%.*s' in vhost '%.*s': ids are forgotten before their window is over, since more than %" PRIu64
                " came within it (x-dedup-max)", (int)entry->name.size, (const char *)entry->name.data, (int)entry->vhost->name.size,
                (const char *)entry->vhost->name.data, queue->settings->dedup_max);
}

void dedup_admitted(struct shard *shard, struct queue *queue, const struct dedup_look *look)
{
    uint64_t now_ms = shard->worker->wall_us / 1000, window_ms = queue->settings->dedup_window_ms;
    if (!look->at_ms)
        return;
    struct dedup *dedup = dedup_of(queue);
    CHECK(dedup && !id_window_add(&dedup->ids, look->ring, look->hash, look->at_ms));   /* no memory for some kilobytes: ending here loses nothing confirmed */
    unsigned early = id_window_trim(&dedup->ids, before(now_ms, window_ms + SLACK_MS), before(now_ms, window_ms) + 1, queue->settings->dedup_max);
    if (UNLIKELY(early)) {
        dedup->forgotten += early;
        warn(shard, queue);
    }
}

void dedup_tidy(struct shard *shard, struct queue *queue)
{
    uint64_t now_ms = shard->worker->wall_us / 1000;
    if (!dedup_wanted(queue))
        return;
    for (unsigned i = 0; i < TIDY_MAX && id_window_count(&queue->dedup->ids); i++) {
        uint64_t count = id_window_count(&queue->dedup->ids);
        id_window_trim(&queue->dedup->ids, before(now_ms, queue->settings->dedup_window_ms + SLACK_MS), UINT64_MAX, UINT64_MAX);
        if (id_window_count(&queue->dedup->ids) == count)
            return;
    }
}

/* ---- taking back ----------------------------------------------------------------------------------------------------- */

void dedup_take_back(struct shard *shard, struct queue *queue, struct bytes content)
{
    struct hash128 hash;
    uint64_t stamp_ms, at_ms;
    if (queue->dedup && dedup_wanted(queue) && id_of(shard, queue->settings, content, &hash, &stamp_ms) && id_window_find(&queue->dedup->ids, hash, &at_ms) &&
        at_ms == stamp_ms)   /* otherwise it is known from an earlier one */
        id_window_remove(&queue->dedup->ids, hash);
}

static void take_back_publish(struct shard *shard, const uint8_t *record)
{
    uint32_t head = RECORD_HEADER_SIZE + load_le16(record + 10) * PUBLISH_TARGET_SIZE;
    const struct bytes content = bytes_of(record + head, load_le32(record) - head);
    for (const uint8_t *target = record + RECORD_HEADER_SIZE; target < content.data; target += PUBLISH_TARGET_SIZE) {
        struct queue *queue = load_le64(target + 8) ? shard_queue(shard, load_le64(target)) : NULL;
        if (queue && queue->dedup)
            dedup_take_back(shard, queue, content);
    }
}

void dedup_take_back_record(struct shard *shard, const uint8_t *record)
{
    if (record[8] == RECORD_PUBLISH)
        take_back_publish(shard, record);
    if (record[8] != RECORD_TRANSACTION)
        return;
    const uint8_t *end = record + load_le32(record);
    for (const uint8_t *at = record + RECORD_HEADER_SIZE; at < end; at += load_le32(at))
        if (at[8] == RECORD_PUBLISH)
            take_back_publish(shard, at);
}

void dedup_take_back_slice(struct shard *shard, const struct command_slice *slice)
{
    const uint8_t *at = slice->chunk->data + slice->begin + BATCH_HEADER_SIZE;
    for (uint32_t i = 0; i < slice->count; i++, at += load_le32(at))
        dedup_take_back_record(shard, at);
}

/* ---- recovery -------------------------------------------------------------------------------------------------------- */

enum gw_err dedup_restore_id(struct queue *queue, unsigned ring, struct hash128 hash, uint64_t at_ms)
{
    struct dedup *dedup = dedup_of(queue);
    return dedup ? id_window_add(&dedup->ids, ring, hash, at_ms) : GW_ERR_NOMEM;
}

enum gw_err dedup_restore(struct shard *shard, struct queue *queue, const struct queue_entry *entry, const struct record *record, uint64_t offset)
{
    const struct queue_settings *settings = entry ? entry->settings : NULL;
    struct hash128 hash;
    uint64_t stamp_ms;
    if (bug_enabled(BUG_DEDUP_FORGOTTEN) || !settings || !(settings->flags & SETTINGS_DEDUP) || offset < shard->dedup.known_below || dedup_comes_back(record->flags, record->content, entry->name) ||
        ((record->flags & RECORD_FLAG_DISCARDED) && settings->overflow == OVERFLOW_REJECT_PUBLISH_DLX) ||
        !id_of(shard, settings, record->content, &hash, &stamp_ms))
        return GW_OK;
    enum gw_err err = dedup_restore_id(queue, (record->flags & RECORD_FLAG_SCHEDULED) != 0, hash, stamp_ms);
    if (!err)
        id_window_trim(&queue->dedup->ids, 0, UINT64_MAX, settings->dedup_max);
    return err;
}
