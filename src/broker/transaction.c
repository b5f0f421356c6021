/* Transactions (AMQP class tx): publishes and settles that a client wants to become true together.
 *
 * Until the commit they are kept here. The commit makes one RECORD_TRANSACTION for each shard that has a part in it; each is atomic, on disk and in
 * memory, since it is one record with checksums. Across shards there is no atomicity, as there is none across queues in RabbitMQ. */
#include "broker/worker_internal.h"
#include "store/message.h"
#include "base/bugs.h"

#include <stdlib.h>

struct part {
    struct part *next;
    struct chunk *chunk;                /* of a publish: the private record's */
    uint8_t *content;
    uint64_t content_size;
    uint32_t targets;
    bool persistent, scheduled;
    enum settle_kind kind;              /* of a settle */
    uint64_t queue, first, count;
    uint64_t queues[];                  /* of a publish: by shard */
};

struct transaction {
    struct part *first, *last;
};

struct transaction *client_transaction_new(struct client *client)
{
    (void)client;
    return calloc(1, sizeof(struct transaction));
}

static struct part *part_add(struct transaction *transaction, uint32_t targets)
{
    struct part *part = calloc(1, sizeof(*part) + targets * sizeof(part->queues[0]));
    CHECK(part);
    part->targets = targets;
    if (transaction->last)
        transaction->last->next = part;
    else
        transaction->first = part;
    transaction->last = part;
    return part;
}

void transaction_publish(struct client *client, const struct publish *publish)
{
    (void)client;
    struct part *part = part_add(publish->transaction, publish->place.targets);
    part->chunk = chunk_retain(publish->chunk);
    part->content = publish->place.content;
    part->content_size = publish->place.content_size;
    part->persistent = publish->persistent;
    part->scheduled = publish->place.marks & PUBLISH_SCHEDULED;
    for (uint32_t i = 0; i < part->targets; i++)
        part->queues[i] = load_le64(publish->place.record + RECORD_HEADER_SIZE + i * PUBLISH_TARGET_SIZE);
}

void transaction_settle(struct client *client, struct transaction *transaction, uint64_t queue, enum settle_kind kind, uint64_t first, uint64_t count)
{
    (void)client;
    struct part *last = transaction->last;
    if (last && !last->chunk && last->queue == queue && last->kind == kind && last->first + last->count == first) {
        last->count += count;
        return;
    }
    struct part *part = part_add(transaction, 0);
    part->queue = queue;
    part->kind = kind;
    part->first = first;
    part->count = count;
}

static void free_parts(struct client *client, struct transaction *transaction)
{
    while (transaction->first) {
        struct part *part = transaction->first;
        transaction->first = part->next;
        if (part->chunk)
            chunk_release(part->chunk, client->worker->chunks);
        free(part);
    }
    free(transaction);
}

void client_transaction_rollback(struct client *client, struct transaction *transaction)
{
    free_parts(client, transaction);
}

/* The part's targets in `shard`: the first, and how many. */
static uint32_t targets_in(const struct part *part, unsigned shard, uint32_t *first)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < part->targets; i++)
        if (queue_id_shard(part->queues[i]) == shard && !count++)
            *first = i;
    return count;
}

/* One that the record can say: of a queue with a dead-letter exchange a rejection is more than that. */
static bool is_record_settle(const struct client *client, const struct part *part)
{
    if (part->chunk || (part->kind != SETTLE_ACK && part->kind != SETTLE_DISCARD) || bug_enabled(BUG_TX_HALF_APPLIED))
        return false;
    const struct queue_entry *queue = part->kind == SETTLE_DISCARD ? topology_queue_by_id(&client->worker->topology, part->queue) : NULL;
    return !queue || !queue->settings || !(queue->settings->flags & SETTINGS_DEAD_LETTER);
}

/* Bytes of the shard's records in the transaction; 0: it has no part. */
static uint64_t size_in(const struct client *client, const struct transaction *transaction, unsigned shard, bool *durable)
{
    uint64_t size = 0;
    for (const struct part *part = transaction->first; part; part = part->next) {
        uint32_t first = 0, count = part->chunk ? targets_in(part, shard, &first) : 0;
        if (count)
            size += RECORD_HEADER_SIZE + (uint64_t)count * PUBLISH_TARGET_SIZE + part->content_size;
        else if (is_record_settle(client, part) && queue_id_shard(part->queue) == shard)
            size += RECORD_HEADER_SIZE + SETTLE_TARGET_SIZE;
        else
            continue;
        for (uint32_t i = 0; i < count; i++)
            *durable |= part->persistent && !(part->queues[first + i] & QUEUE_ID_TRANSIENT);
        if (!count)
            *durable |= !(part->queue & QUEUE_ID_TRANSIENT);
    }
    return size;
}

static uint8_t *write_part(const struct client *client, uint8_t *at, const struct part *part, unsigned shard)
{
    if (is_record_settle(client, part)) {
        if (queue_id_shard(part->queue) != shard)
            return at;
        uint8_t *target = at + RECORD_HEADER_SIZE;
        store_le64(target, part->queue);
        store_le64(target + 8, part->first);
        store_le64(target + 16, part->count);
        record_begin(at, RECORD_HEADER_SIZE + SETTLE_TARGET_SIZE, RECORD_SETTLE, 1, 0);
        return target + SETTLE_TARGET_SIZE;
    }
    uint32_t first = 0, count = part->chunk ? targets_in(part, shard, &first) : 0;
    if (!count)
        return at;
    uint8_t *target = at + RECORD_HEADER_SIZE;
    for (uint32_t i = 0; i < count; i++, target += PUBLISH_TARGET_SIZE) {
        store_le64(target, part->queues[first + i]);
        store_le64(target + 8, 0);
    }
    memcpy(target, part->content, part->content_size);
    record_begin(at, (uint32_t)(target - at + part->content_size), RECORD_PUBLISH, (uint16_t)count, crc32c(0, part->content, part->content_size));
    if (!part->persistent)
        at[9] = RECORD_FLAG_TRANSIENT;
    at[9] |= part->scheduled ? RECORD_FLAG_SCHEDULED : 0;
    return target + part->content_size;
}

/* False: the transaction's part in that shard is larger than a record may be, or memory is short. */
static bool commit_shard(struct client *client, const struct transaction *transaction, unsigned shard, uint64_t serial, uint16_t channel)
{
    struct worker *worker = client->worker;
    bool durable = false;
    uint64_t size = size_in(client, transaction, shard, &durable) + RECORD_HEADER_SIZE;
    struct chunk *chunk = size + BATCH_HEADER_SIZE <= UINT32_MAX - LOG_ALIGN ? chunk_new(worker->chunks, stage_align(size + BATCH_HEADER_SIZE)) : NULL;
    if (!chunk)
        return false;
    uint8_t *record = chunk->data + BATCH_HEADER_SIZE, *at = record + RECORD_HEADER_SIZE;
    for (const struct part *part = transaction->first; part; part = part->next)
        at = write_part(client, at, part, shard);
    CHECK((uint64_t)(at - record) == size);
    record_begin(record, (uint32_t)size, RECORD_TRANSACTION, 0, 0);
    struct command_transaction *command = worker_command(worker, worker_of_shard(worker, shard), COMMAND_TRANSACTION, sizeof(*command), chunk);
    command->client = client->id;
    command->serial = serial;
    command->chunk = chunk;
    command->begin = 0;
    command->size = (uint32_t)(size + BATCH_HEADER_SIZE);
    command->channel = channel;
    command->shard = (uint16_t)shard;
    command->durable = durable;
    chunk_release(chunk, worker->chunks);
    return true;
}

static void settle_the_rest(struct client *client, const struct transaction *transaction)
{
    for (const struct part *part = transaction->first; part; part = part->next)
        if (!part->chunk && !is_record_settle(client, part))
            client_settle(client, part->queue, part->kind, part->first, part->count, NULL);
}

void client_transaction_commit(struct client *client, struct transaction *transaction, uint16_t channel)
{
    struct worker *worker = client->worker;
    struct pending_request *pending = request_begin(worker, client, REQUEST_COMMIT, channel);
    publishing_seal(worker);   /* what was published before comes before */
    /* A message arrives with its transaction: its time to live begins now. */
    for (struct part *part = transaction->first; part; part = part->next)
        if (part->chunk)
            message_restamp(part->content, worker->wall_us / 1000);
    for (unsigned shard = 0; shard < worker->broker->shards; shard++) {
        bool durable = false;
        if (size_in(client, transaction, shard, &durable) == 0)
            continue;
        if (commit_shard(client, transaction, shard, pending->serial, channel))
            pending->remaining++;
        else
            pending->code = 506;
    }
    settle_the_rest(client, transaction);
    free_parts(client, transaction);
    if (!pending->remaining)
        request_commit_done(worker, client, pending);
}
