/* Credit that publishers wait for: they get it back as their messages enter, unless the queue that they fill has consumers which are keeping up, but not quite, or the
 * log is behind. */
#include "broker/shard.h"

#include "broker/relay.h"
#include "broker/worker_internal.h"

#include <stdlib.h>

#define CONGESTED_BYTES (2u << 20)        /* of ready contents in a queue whose consumers make progress */
#define LOG_BACKLOG_MAX (8u << 20)        /* appended and not committed, bytes */
#define PROGRESS_US 20000u                /* a consumer that made no room for so long is not waited for */

static bool congested(struct shard *shard, const struct queue *queue)
{
    if (!shard->log)
        return false;
    if (log_end(shard->log).offset - log_committed(shard->log).offset > LOG_BACKLOG_MAX && !shard->storage_failed)
        return true;
    if (UNLIKELY(shard->relay && relay_is_behind(shard)))
        return true;
    if (!queue || !queue->consumer_count || queue->stream)
        return false;
    const struct queue_totals totals = queue_totals(queue);
    return totals.ready_bytes + totals.ready * DELIVERY_OVERHEAD > CONGESTED_BYTES && shard->worker->now_us - queue->progress_us < PROGRESS_US;
}

static void flow(struct shard *shard, uint64_t client, uint64_t bytes)
{
    unsigned to = worker_of_client(client);
    struct command_flow *last = outbox_last(&shard->worker->outboxes[to], COMMAND_FLOW);
    if (last && last->client == client) {
        last->bytes += bytes;
        return;
    }
    struct command_flow *command = worker_command(shard->worker, to, COMMAND_FLOW, sizeof(*command), NULL);
    command->client = client;
    command->bytes = bytes;
}

void withheld_give_back(struct shard *shard, uint64_t client, uint64_t bytes, const struct queue *queue)
{
    if (!congested(shard, queue)) {
        flow(shard, client, bytes);
        return;
    }
    struct withheld *last = shard->withheld_count ? &shard->withheld[shard->withheld_count - 1] : NULL;
    uint64_t id = queue ? queue->id : 0;
    if (last && last->client == client && last->queue == id) {
        last->bytes += bytes;
        return;
    }
    if (shard->withheld_count == shard->withheld_capacity) {
        uint32_t capacity = shard->withheld_capacity ? shard->withheld_capacity * 2 : 16;
        struct withheld *grown = realloc(shard->withheld, capacity * sizeof(*grown));
        if (!grown) {
            flow(shard, client, bytes);
            return;
        }
        shard->withheld = grown;
        shard->withheld_capacity = capacity;
    }
    shard->withheld[shard->withheld_count++] = (struct withheld){client, bytes, id};
}

void withheld_release(struct shard *shard)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < shard->withheld_count; i++) {
        struct withheld *withheld = &shard->withheld[i];
        if (congested(shard, map_get(&shard->queues, withheld->queue)))
            shard->withheld[kept++] = *withheld;
        else
            flow(shard, withheld->client, withheld->bytes);
    }
    shard->withheld_count = kept;
}
