#include "broker/pending.h"

#include "broker/half.h"
#include "broker/inspect.h"
#include "broker/relay.h"
#include "broker/worker_internal.h"

#include <stdlib.h>

/* ---- what waits for the log ----------------------------------------------------------------------------------------- */

static struct pending_confirm *pending_at(struct shard *shard, uint32_t index)
{
    return &shard->pending[(shard->pending_first + index) & (shard->pending_capacity - 1)];
}

struct pending_confirm *pending_add(struct shard *shard)
{
    if (shard->pending_count == shard->pending_capacity) {
        uint32_t capacity = shard->pending_capacity ? shard->pending_capacity * 2 : 64;
        struct pending_confirm *pending = malloc(capacity * sizeof(*pending));
        CHECK(pending);   /* ending here loses nothing confirmed */
        for (uint32_t i = 0; i < shard->pending_count; i++)
            pending[i] = *pending_at(shard, i);
        free(shard->pending);
        shard->pending = pending;
        shard->pending_capacity = capacity;
        shard->pending_first = 0;
    }
    shard->pending_open++;
    return pending_at(shard, shard->pending_count++);
}

/* Entries whose slice is known are no longer open. */
static void shrink_open(struct shard *shard)
{
    while (shard->pending_open && pending_at(shard, shard->pending_count - shard->pending_open)->end != UINT64_MAX)
        shard->pending_open--;
}

/* A slice was appended, up to `end`, or refused: what waited for it now knows. Changes lie in slices of the shard's own, publishes in others. */
void pending_close(struct shard *shard, bool own, bool ok, uint64_t end)
{
    for (uint32_t i = shard->pending_count - shard->pending_open; i < shard->pending_count; i++) {
        struct pending_confirm *pending = pending_at(shard, i);
        if (pending->end == UINT64_MAX && (pending->kind >= PENDING_TOPOLOGY) == own)
            pending->end = ok ? end : 0;
    }
    shrink_open(shard);
}

void pending_close_from(struct shard *shard, uint32_t before, uint64_t end)
{
    for (uint32_t i = before; i < shard->pending_count; i++)
        if (pending_at(shard, i)->end == UINT64_MAX)
            pending_at(shard, i)->end = end;
    shrink_open(shard);
}

/* ---- confirms ------------------------------------------------------------------------------------------------------ */

void pending_confirm(struct shard *shard, uint64_t client, uint16_t channel, uint64_t first, uint64_t count, unsigned flags)
{
    struct command_confirm *last = outbox_last(&shard->worker->outboxes[worker_of_client(client)], COMMAND_CONFIRM);
    if (last && last->client == client && last->channel == channel && last->command.flags == flags && last->first + last->count == first &&
        !(flags & CONFIRM_PARTIAL)) {
        last->count += count;
        return;
    }
    struct command_confirm *command = worker_command(shard->worker, worker_of_client(client), COMMAND_CONFIRM, sizeof(*command), NULL);
    command->command.flags = (uint16_t)flags;
    command->client = client;
    command->channel = channel;
    command->first = first;
    command->count = count;
}

/* A confirm for publishes whose slice is about to be appended. */
void pending_confirm_later(struct shard *shard, const struct command_publish *command)
{
    unsigned flags = command->command.flags & CONFIRM_PARTIAL;
    if (shard->pending_open) {
        struct pending_confirm *last = pending_at(shard, shard->pending_count - 1);
        if (last->end == UINT64_MAX && last->kind == PENDING_CONFIRM && last->client == command->client && last->channel == command->channel &&
            last->first + last->count == command->first_tag && last->flags == flags && !(flags & CONFIRM_PARTIAL)) {
            last->count += command->count;
            return;
        }
    }
    *pending_add(shard) = (struct pending_confirm){.end = UINT64_MAX, .client = command->client, .first = command->first_tag,
                                                   .count = command->count, .channel = command->channel, .flags = (uint16_t)flags,
                                                   .kind = PENDING_CONFIRM};
}

/* Code 0: it is true. 541: the log refused it; 406: a full queue refused a part of it, the rest is true. What the client is told is the requests' affair. */
void pending_answer_commit(struct shard *shard, uint64_t client, uint64_t serial, uint16_t channel, uint16_t code)
{
    struct command_answer *answer = worker_command(shard->worker, worker_of_client(client), COMMAND_ANSWER, sizeof(*answer), NULL);
    answer->client = client;
    answer->serial = serial;
    answer->kind = REQUEST_COMMIT;
    answer->channel = channel;
    answer->code = code;
}

static void conclude(struct shard *shard, const struct pending_confirm *pending, bool ok)
{
    switch (pending->kind) {
    case PENDING_CONFIRM:
        pending_confirm(shard, pending->client, pending->channel, pending->first, pending->count, (pending->flags & CONFIRM_PARTIAL) | (ok ? CONFIRM_ACCEPTED : 0));
        break;
    case PENDING_ANSWER:
        pending_answer_commit(shard, pending->client, pending->first, pending->channel, ok ? pending->flags : 541);
        break;
    case PENDING_TOPOLOGY:
        master_committed(shard->worker->master, pending->first, ok);
        break;
    case PENDING_MARK:
        redelivery_committed(shard, pending->first, pending->count);   /* of a log that has failed too: nothing would come after it */
        break;
    case PENDING_RELAYED: relay_arrival_committed(shard, pending->first, pending->count, ok); break;
    case PENDING_MOVED: relay_moved(shard, pending->first, ok); break;
    case PENDING_SETTLED: relay_settled(shard, pending->count, ok); break;
    case PENDING_DECIDED:
    case PENDING_GIVEN_UP: half_decided(shard, pending->first, pending->count, ok); break;
    case PENDING_INSPECTED: inspect_committed(shard, pending->first, ok); break;
    }
}

void pending_conclude(struct shard *shard, uint64_t offset)
{
    while (shard->pending_count) {
        struct pending_confirm *pending = pending_at(shard, 0);
        if (pending->end > offset)
            break;
        struct pending_confirm copy = *pending;
        if (shard->pending_count == shard->pending_open)
            shard->pending_open--;
        shard->pending_first = (shard->pending_first + 1) & (shard->pending_capacity - 1);
        shard->pending_count--;
        conclude(shard, &copy, copy.end != 0);   /* 0: it was never appended */
    }
}

void shard_committed(void *owner, struct log_position upto)
{
    pending_conclude(owner, upto.offset);
}

void shard_log_failed(void *owner, enum gw_err err)
{
    struct shard *shard = owner;
    shard->storage_failed = true;
    alarm_raise(shard->alarms, ALARM_ERROR,
                "shard %u: the log cannot be written (%s): durable messages are refused until the broker is restarted on a sound disk",
                shard->index, gw_err_text(err));
    for (uint32_t i = 0; i < shard->pending_count; i++)
        pending_at(shard, i)->end = 0;
    pending_conclude(shard, 0);
}

void shard_own_pending(struct shard *shard, enum pending_kind kind, uint64_t first, uint64_t count)
{
    struct pending_confirm *last = shard->pending_open ? pending_at(shard, shard->pending_count - 1) : NULL;
    shard->own_urgent = true;
    if (kind == PENDING_SETTLED && last && last->end == UINT64_MAX && last->kind == PENDING_SETTLED)
        last->count += count;
    else
        *pending_add(shard) = (struct pending_confirm){.end = UINT64_MAX, .first = first, .count = count, .kind = (uint16_t)kind};
}
