/* The hot path in: a message is routed, and laid out as a log record right where the shard's log will write it from. */
#include "broker/delay.h"
#include "broker/firehose.h"
#include "broker/half_message.h"
#include "broker/permissions.h"
#include "broker/worker_internal.h"
#include "base/bugs.h"

#include "protocol/amqp/properties.h"
#include "store/message.h"

#include <stdio.h>
#include <stdlib.h>

static struct stage *stage_of(struct worker *worker, unsigned shard, bool durable)
{
    return &worker->stages[shard * 2 + durable];
}

struct stage *publishing_stage(struct worker *worker, unsigned shard)
{
    return stage_of(worker, shard, false);
}

/* ---- slices -------------------------------------------------------------------------------------------------------- */

static void add_slice(struct worker *worker, unsigned shard, const struct stage *stage)
{
    struct command_slice *slice = worker_command(worker, worker_of_shard(worker, shard), COMMAND_SLICE, sizeof(*slice), stage->chunk);
    slice->chunk = stage->chunk;
    slice->begin = stage->begin;
    slice->size = (uint32_t)(stage->at - stage->begin);
    slice->count = stage->count;
    slice->shard = (uint16_t)shard;
}

/* Ends the slice being filled; the next one begins behind it, or in a new chunk. */
static void seal(struct worker *worker, unsigned shard, struct stage *stage)
{
    if (!stage->count)
        return;
    if (stage->durable)
        add_slice(worker, shard, stage);
    if (!stage_next_slice(stage))
        stage_drop(stage, worker->chunks);
}

void publishing_seal(struct worker *worker)
{
    for (unsigned shard = 0; shard < worker->broker->shards; shard++)
        seal(worker, shard, stage_of(worker, shard, true));
}

bool worker_is_sealed(const struct worker *worker)
{
    for (unsigned shard = 0; shard < worker->broker->shards; shard++)
        if (worker->stages[shard * 2 + true].count)
            return false;
    return true;
}

/* Where a record of `size` bytes for that shard may be laid out; NULL: out of memory. */
static uint8_t *room_for(struct worker *worker, unsigned shard, bool durable, uint64_t size)
{
    struct stage *stage = stage_of(worker, shard, durable);
    uint8_t *at = stage_room(stage, size);
    if (LIKELY(at))
        return at;
    seal(worker, shard, stage);
    if (!stage_renew(stage, worker->chunks, size))
        return NULL;
    return stage_room(stage, size);
}

/* ---- routes -------------------------------------------------------------------------------------------------------- */

/* Names of two vhosts have nothing to do with each other, nor what two users may do. */
static uint64_t scope_of(const struct client *client, struct bytes exchange)
{
    return client->scope << 8 | exchange.size;
}

static bool key_is(const struct cached_route *cached, uint64_t scope, struct bytes exchange, struct bytes routing_key)
{
    return cached->scope == scope && cached->key_size == exchange.size + routing_key.size &&
           memcmp(cached->key, exchange.data, exchange.size) == 0 && memcmp(cached->key + exchange.size, routing_key.data, routing_key.size) == 0;
}

static bool set_key(struct cached_route *cached, uint64_t scope, struct bytes exchange, struct bytes routing_key)
{
    uint32_t size = (uint32_t)(exchange.size + routing_key.size);
    cached->scope = 0;
    if (size > cached->key_room || !cached->key) {
        uint8_t *key = realloc(cached->key, size + 1);
        if (!key)
            return false;
        cached->key = key;
        cached->key_room = size + 1;
    }
    if (exchange.size)
        memcpy(cached->key, exchange.data, exchange.size);
    if (routing_key.size)
        memcpy(cached->key + exchange.size, routing_key.data, routing_key.size);
    cached->key_size = size;
    cached->scope = scope;
    return true;
}

/* The exchange that the publish names, if it may be published to. */
static enum publish_result find_exchange(struct worker *worker, const struct client *client, const struct publish *publish, struct exchange **exchange)
{
    const struct vhost *vhost = topology_vhost_by_id(&worker->topology, client->vhost);
    bool restricted = client->scope & SCOPE_RESTRICTED;
    if (restricted && vhost && permission_to_publish(client, vhost, publish))
        return PUBLISH_ACCESS_REFUSED;
    *exchange = vhost ? topology_exchange(vhost, publish->exchange) : NULL;
    if (!*exchange)
        return PUBLISH_NO_EXCHANGE;
    if ((*exchange)->flags & TOPOLOGY_INTERNAL)
        return PUBLISH_INTERNAL_EXCHANGE;
    return restricted ? permission_to_publish_key(client, *exchange, publish) : PUBLISH_ROUTED;
}

enum publish_result client_publish_judge(struct client *client, const struct publish *publish)
{
    struct exchange *exchange;
    return permission_is_restricted(client, publish->exchange) ? PUBLISH_ACCESS_REFUSED : find_exchange(client->worker, client, publish, &exchange);
}

static enum publish_result find_route(struct worker *worker, const struct client *client, struct publish *publish, const struct bytes *copies,
                                      struct cached_route *cached)
{
    struct exchange *exchange;
    enum publish_result result = find_exchange(worker, client, publish, &exchange);
    if (result != PUBLISH_ROUTED)
        return result;
    struct routed_message message = {.routing_key = publish->routing_key, .properties = publish->properties, .random = worker_random(worker)};
    if (copies)
        memcpy(message.copies, copies, sizeof(message.copies));
    if (topology_route(&worker->topology, exchange, &message, &cached->route))
        return PUBLISH_NO_MEMORY;
    cached->route.decides = bytes_equal(publish->exchange, bytes_of_text(HALF_EXCHANGE));
    cached->route.asks |= cached->route.decides;
    if (UNLIKELY(cached->route.traced))
        publish->whole = false;   /* its content is kept until the firehose has seen it */
    cached->route.count -= bug_enabled(BUG_FANOUT_SKIPS_LAST) && cached->route.count > 1;
    if (!cached->route.cacheable || !set_key(cached, scope_of(client, publish->exchange), publish->exchange, publish->routing_key))
        cached->scope = 0;
    return PUBLISH_ROUTED;
}

static enum publish_result route(struct worker *worker, const struct client *client, struct client_place *place, struct publish *publish,
                                 const struct route **found)
{
    const struct cached_route *last = place->last_route;
    uint64_t scope = scope_of(client, publish->exchange);
    if (LIKELY(last && last->route.version == worker->topology.version && key_is(last, scope, publish->exchange, publish->routing_key))) {
        *found = &last->route;
        return PUBLISH_ROUTED;
    }
    uint64_t hash = bytes_hash(publish->routing_key, bytes_hash(publish->exchange, worker->topology.vhosts.seed ^ client->scope));
    struct cached_route *cached = &worker->routes[hash & (ROUTE_CACHE_SIZE - 1)];
    if (cached->hash != hash || cached->route.version != worker->topology.version || !key_is(cached, scope, publish->exchange, publish->routing_key)) {
        enum publish_result result = find_route(worker, client, publish, NULL, cached);
        if (result != PUBLISH_ROUTED) {
            cached->scope = 0;
            return result;
        }
        cached->hash = hash;
    }
    place->last_route = cached;
    *found = &cached->route;
    return PUBLISH_ROUTED;
}

/* ---- begin and end ------------------------------------------------------------------------------------------------- */

/* The run of the route's queues that begins at `first` and lies in one shard. */
static uint32_t group_end(const struct route *route, uint32_t first)
{
    uint32_t end = first + 1;
    while (end < route->count && queue_id_shard(route->queues[end]) == queue_id_shard(route->queues[first]))
        end++;
    return end;
}

static bool group_is_durable(const struct publish *publish, const struct route *route, uint32_t first, uint32_t end)
{
    for (uint32_t i = first; publish->persistent && i < end; i++)
        if (!(route->queues[i] & QUEUE_ID_TRANSIENT))
            return true;
    return false;
}

/* With shard 0's log the declarations have failed: a queue that was declared since will not be there after a restart, nor what was published to it. */
static bool storage_refuses(struct worker *worker, const struct publish *publish, const struct route *route)
{
    if (UNLIKELY(atomic_load_explicit(&worker->broker->log_states[0], memory_order_relaxed) == (int)GW_ERR_FAILED))
        return true;
    for (uint32_t first = 0, end; first < route->count; first = end) {
        end = group_end(route, first);
        if (group_is_durable(publish, route, first, end) &&
            atomic_load_explicit(&worker->broker->log_states[queue_id_shard(route->queues[first])], memory_order_relaxed))
            return true;
    }
    return false;
}

/* A chunk that holds this one record alone: it is large, or its body comes piece by piece, or nobody routes it. The route is remembered by copying its queues
 * into the record's targets. */
static enum publish_result begin_private(struct worker *worker, struct publish *publish, uint32_t targets, const uint64_t *queues)
{
    uint64_t size = RECORD_HEADER_SIZE + (uint64_t)targets * PUBLISH_TARGET_SIZE + publish->place.content_size;
    if (size + BATCH_HEADER_SIZE > UINT32_MAX)
        return PUBLISH_NO_MEMORY;
    struct chunk *chunk = chunk_new(worker->chunks, stage_align(size + BATCH_HEADER_SIZE));
    if (!chunk)
        return PUBLISH_NO_MEMORY;
    publish->chunk = chunk;
    publish->place.record = chunk->data + BATCH_HEADER_SIZE;
    for (uint32_t i = 0; i < targets; i++)
        store_le64(publish->place.record + RECORD_HEADER_SIZE + i * PUBLISH_TARGET_SIZE, queues[i]);
    publish->place.content = publish->place.record + RECORD_HEADER_SIZE + targets * PUBLISH_TARGET_SIZE;
    publish->place.targets = targets;
    return PUBLISH_ROUTED;
}

/* Has the message a time to live of its own, or headers? */
static inline bool asks_by_itself(const struct publish *publish)
{
    return publish->properties.size > 2 && (publish->properties.data[0] & (AMQP_EXPIRATION | AMQP_HEADERS) >> 8);
}

static uint64_t now_ms(const struct worker *worker)
{
    return worker->wall_us >= 1000 ? worker->wall_us / 1000 : 1;   /* 0 would say that nobody wants to know */
}

/* What the properties say of the message's life here. Answers its stamp; 0: it need not have one; UINT64_MAX: it is to wait longer than anything may. */
static __attribute__((noinline)) uint64_t look_inside(struct worker *worker, struct publish *publish, const struct route *found)
{
    uint64_t due_ms = 0;
    bool expires = publish->properties.data[0] & AMQP_EXPIRATION >> 8;
    if ((publish->properties.data[0] & AMQP_HEADERS >> 8) && delay_due(publish->properties, worker->wall_us, &due_ms))
        return UINT64_MAX;
    publish->persistent |= due_ms && found->durable;
    publish->place.marks = (expires ? PUBLISH_EXPIRES : 0) | (due_ms ? PUBLISH_SCHEDULED : 0);
    return due_ms ? due_ms : expires ? now_ms(worker) : 0;
}

/* What the record of the message says in its flags. */
static inline uint8_t record_flags(const struct publish *publish)
{
    _Static_assert(PUBLISH_SCHEDULED == RECORD_FLAG_SCHEDULED, "one bit says it to the shard and in the log");
    return publish->place.marks & RECORD_FLAG_SCHEDULED;
}

/* Lays the message out for the queues that were found, of which there are some. */
static inline enum publish_result lay_out(struct worker *worker, struct publish *publish, const struct route *found, uint64_t arrived_ms)
{
    if (publish->persistent && found->durable && UNLIKELY(storage_refuses(worker, publish, found)))
        return PUBLISH_REFUSED;
    uint32_t end = group_end(found, 0);
    bool split = end < found->count;
    uint64_t size = RECORD_HEADER_SIZE + (uint64_t)end * PUBLISH_TARGET_SIZE + publish->place.content_size;
    if (UNLIKELY(!publish->whole || split || size >= PRIVATE_RECORD_MIN || publish->transaction || found->count > UINT16_MAX)) {
        enum publish_result result = begin_private(worker, publish, found->count, found->queues);
        if (result != PUBLISH_ROUTED)
            return result;
        publish->place.traced = found->traced;
    } else {
        unsigned shard = queue_id_shard(found->queues[0]);
        publish->place.durable = group_is_durable(publish, found, 0, end);
        publish->place.record = room_for(worker, shard, publish->place.durable, size);
        if (!publish->place.record)
            return PUBLISH_NO_MEMORY;
        uint8_t *target = publish->place.record + RECORD_HEADER_SIZE;
        for (uint32_t i = 0; i < end; i++, target += PUBLISH_TARGET_SIZE)
            store_le64(target, found->queues[i]);
        publish->place.content = target;
        publish->place.targets = end;
    }
    publish->body = message_begin(publish->place.content, publish->exchange, publish->routing_key, publish->properties, arrived_ms);
    return PUBLISH_ROUTED;
}

/* A message of a transaction, or what is decided of one: it goes to the hidden queue of its vhost. It is on disk whatever its delivery mode is. */
static __attribute__((noinline)) enum publish_result begin_half(const struct client *client, struct publish *publish, const struct half_said *said)
{
    struct worker *worker = client->worker;
    const struct vhost *vhost = topology_vhost_by_id(&worker->topology, client->vhost);
    struct publish asking = {.exchange = {0}, .routing_key = said->check_queue};
    bool refused = (client->scope & SCOPE_RESTRICTED) && vhost && permission_to_publish(client, vhost, &asking);
    if (said->check_queue.size && (refused || permission_is_restricted(client, asking.exchange)))
        return PUBLISH_CHECK_REFUSED;
    if (!vhost || !vhost->half_queue)
        return PUBLISH_REFUSED;
    uint64_t queue = vhost->half_queue;
    const struct route route = {.count = 1, .durable = true, .queues = &queue};
    publish->persistent = true;
    publish->place.content_size += MESSAGE_STAMP_SIZE;
    return lay_out(worker, publish, &route, now_ms(worker));
}

/* One that has to do with transactions is laid out; -1: it goes its way like any other. */
static __attribute__((noinline)) int try_half(const struct client *client, struct publish *publish, const struct route *found)
{
    struct half_said said;
    char why[256];
    const struct half_asked asked = {publish->exchange, publish->routing_key, publish->properties, publish->body_size};
    if (half_judge(&asked, &said, why, sizeof(why)) == HALF_BAD)
        return PUBLISH_BAD_TRANSACTION;
    if (!found->count && !found->decides && publish->mandatory)
        return -1;   /* it is returned like any other */
    return (int)begin_half(client, publish, &said);
}

/* Lays the message out for the queues that were found, or for the vhost's half messages. */
static inline enum publish_result begin(const struct client *client, struct publish *publish, const struct route *found)
{
    struct worker *worker = client->worker;
    publish->place.content_size = message_size(publish->exchange.size, publish->routing_key.size, publish->properties.size, publish->body_size);
    uint64_t arrived_ms = 0;
    publish->place.marks = 0;
    bool asks = asks_by_itself(publish);
    if (UNLIKELY(found->asks || asks)) {
        int half = found->decides || (asks && half_is_asked(publish->properties)) ? try_half(client, publish, found) : -1;
        if (half >= 0)
            return (enum publish_result)half;
        publish->persistent |= found->keeps;
        arrived_ms = asks ? look_inside(worker, publish, found) : 0;
        if (arrived_ms == UINT64_MAX)
            return PUBLISH_BAD_DELAY;
        if (found->stamped && !arrived_ms)
            arrived_ms = now_ms(worker);
        if (arrived_ms)
            publish->place.content_size += MESSAGE_STAMP_SIZE;
    }
    if (LIKELY(found->count))
        return lay_out(worker, publish, found, arrived_ms);
    if (!publish->mandatory && !found->traced)
        return PUBLISH_UNROUTABLE;
    enum publish_result result = begin_private(worker, publish, 0, NULL);
    if (result != PUBLISH_ROUTED)
        return result;
    publish->place.traced = found->traced;
    publish->body = message_begin(publish->place.content, publish->exchange, publish->routing_key, publish->properties, arrived_ms);
    return PUBLISH_UNROUTABLE;
}

bool client_route(struct client *client, struct bytes exchange, struct bytes routing_key, const uint64_t **queues, uint32_t *count)
{
    struct publish asking = {.exchange = exchange, .routing_key = routing_key};
    const struct route *found;
    if (route(client->worker, client, &client->worker->places[(uint32_t)client->id], &asking, &found) != PUBLISH_ROUTED || !found->cacheable || found->traced)
        return false;
    *queues = found->queues;
    *count = found->count;
    return true;
}

uint64_t client_routes_version(const struct client *client) { return client->worker->topology.version; }

bool client_lacks_binding(const struct client *client, struct bytes exchange, struct bytes queue, struct bytes routing_key)
{
    const struct vhost *vhost = topology_vhost_by_id(&client->worker->topology, client->vhost);
    const struct topology_change binding = {.kind = CHANGE_BIND, .vhost = client->vhost, .name = queue, .source = exchange, .routing_key = routing_key};
    return vhost && topology_exchange(vhost, exchange) && topology_queue(vhost, queue) && !topology_binding(vhost, &binding);
}

void client_publish_fault(const struct publish *publish, char *why, size_t room)
{
    struct half_said said;
    const struct half_asked asked = {publish->exchange, publish->routing_key, publish->properties, publish->body_size};
    if (half_judge(&asked, &said, why, room) != HALF_BAD)
        snprintf(why, room, "a message of a transaction has no BCC");
}

static inline void begin_nothing(struct publish *publish)
{
    publish->body = NULL;
    publish->chunk = NULL;
    publish->place.record = NULL;
}

enum publish_result client_publish_begin(struct client *client, struct publish *publish)
{
    struct worker *worker = client->worker;
    struct client_place *place = &worker->places[(uint32_t)client->id];
    const struct route *found;
    begin_nothing(publish);
    if (permission_is_restricted(client, publish->exchange))
        return PUBLISH_ACCESS_REFUSED;
    enum publish_result result = route(worker, client, place, publish, &found);
    if (UNLIKELY(result != PUBLISH_ROUTED))
        return result;
    return begin(client, publish, found);
}

enum publish_result client_publish_begin_copied(struct client *client, struct publish *publish, const struct bytes copies[2])
{
    struct worker *worker = client->worker;
    begin_nothing(publish);
    if (permission_is_restricted(client, publish->exchange))
        return PUBLISH_ACCESS_REFUSED;
    enum publish_result result = find_route(worker, client, publish, copies, &worker->uncached);
    if (result != PUBLISH_ROUTED)
        return result;
    if (copies[1].size && half_is_asked(publish->properties))
        return PUBLISH_BAD_TRANSACTION;   /* a BCC is not kept, and so would not be there when it is committed */
    return begin(client, publish, &worker->uncached.route);
}

/* Tells the shard's worker of one record in `chunk`; joins it to the run before when it follows on. */
static void add_publish(struct client *client, const struct publish *publish, unsigned shard, struct chunk *chunk, uint64_t begin, uint64_t end,
                        bool durable, uint64_t tag, unsigned flags)
{
    struct worker *worker = client->worker;
    unsigned to = worker_of_shard(worker, shard);
    client->in_flight += end - begin;
    struct command_publish *last = outbox_last(&worker->outboxes[to], COMMAND_PUBLISH);
    flags |= publish->place.marks;
    if (LIKELY(last && last->client == client->id && last->chunk == chunk && last->end == begin && last->channel == publish->channel &&
               last->shard == shard && last->durable == durable && last->command.flags == flags && !(flags & CONFIRM_PARTIAL) &&
               (last->first_tag ? last->first_tag + last->count == tag : !tag))) {
        last->end = end;
        last->count++;
        return;
    }
    struct command_publish *command = worker_command(worker, to, COMMAND_PUBLISH, sizeof(*command), chunk);
    command->command.flags = (uint16_t)flags;
    command->client = client->id;
    command->first_tag = tag;
    command->chunk = chunk;
    command->begin = begin;
    command->end = end;
    command->count = 1;
    command->channel = publish->channel;
    command->shard = (uint16_t)shard;
    command->durable = durable;
}

static void end_staged(struct client *client, const struct publish *publish, uint64_t size, unsigned flags)
{
    struct worker *worker = client->worker;
    uint8_t *record = publish->place.record;
    unsigned shard = queue_id_shard(load_le64(record + RECORD_HEADER_SIZE));
    bool durable = publish->place.durable;
    struct stage *stage = stage_of(worker, shard, durable);
    uint32_t crc = durable ? crc32c(0, publish->place.content, publish->place.content_size) : 0;
    record_begin(record, (uint32_t)size, RECORD_PUBLISH, (uint16_t)publish->place.targets, crc);
    record[9] = record_flags(publish);
    uint64_t begin = (uint64_t)(record - stage->chunk->data);
    stage_advance(stage, size);
    add_publish(client, publish, shard, stage->chunk, begin, begin + size, durable, publish->confirm_tag, flags);
}

/* The record as it is becomes its shard's: the private chunk is its slice. */
static void end_alone(struct client *client, const struct publish *publish, bool durable, uint64_t tag, unsigned flags)
{
    struct worker *worker = client->worker;
    struct chunk *chunk = publish->chunk;
    uint8_t *record = publish->place.record;
    uint64_t size = RECORD_HEADER_SIZE + (uint64_t)publish->place.targets * PUBLISH_TARGET_SIZE + publish->place.content_size;
    unsigned shard = queue_id_shard(load_le64(record + RECORD_HEADER_SIZE));
    record_begin(record, (uint32_t)size, RECORD_PUBLISH, (uint16_t)publish->place.targets,
                 durable ? crc32c(0, publish->place.content, publish->place.content_size) : 0);
    record[9] = record_flags(publish);
    if (durable)
        seal(worker, shard, stage_of(worker, shard, true));   /* the log keeps the order in which messages were published */
    add_publish(client, publish, shard, chunk, BATCH_HEADER_SIZE, BATCH_HEADER_SIZE + size, durable, tag, flags);
    if (durable) {
        struct stage slice = {.chunk = chunk, .begin = 0, .at = BATCH_HEADER_SIZE + size, .count = 1, .durable = true};
        add_slice(worker, shard, &slice);
    }
}

/* The queues of one shard get the message, copied into the shard's stage, or into a chunk of its own when it is large. False: out of memory. */
static bool end_copied(struct client *client, const struct publish *publish, const uint64_t *queues, uint32_t count, uint64_t tag, unsigned flags)
{
    struct worker *worker = client->worker;
    const struct route group = {.count = count, .queues = (uint64_t *)(uintptr_t)queues};
    bool durable = group_is_durable(publish, &group, 0, count);
    uint64_t size = RECORD_HEADER_SIZE + (uint64_t)count * PUBLISH_TARGET_SIZE + publish->place.content_size;
    struct publish part = *publish;
    part.place.durable = durable;
    part.place.targets = count;
    part.confirm_tag = tag;
    if (size >= PRIVATE_RECORD_MIN) {
        if (begin_private(worker, &part, count, queues) != PUBLISH_ROUTED)
            return false;
        memcpy(part.place.content, publish->place.content, publish->place.content_size);
        end_alone(client, &part, durable, tag, flags);
        chunk_release(part.chunk, worker->chunks);
        return true;
    }
    part.place.record = room_for(worker, queue_id_shard(queues[0]), durable, size);
    if (!part.place.record)
        return false;
    part.place.content = part.place.record + RECORD_HEADER_SIZE + count * PUBLISH_TARGET_SIZE;
    for (uint32_t i = 0; i < count; i++)
        store_le64(part.place.record + RECORD_HEADER_SIZE + i * PUBLISH_TARGET_SIZE, queues[i]);
    memcpy(part.place.content, publish->place.content, publish->place.content_size);
    end_staged(client, &part, size, flags);
    return true;
}

/* Goes through the shards that the private record's targets lie in. */
static void end_private(struct client *client, struct publish *publish)
{
    struct worker *worker = client->worker;
    uint32_t targets = publish->place.targets, groups = 0;
    uint64_t few[16], *queues = targets <= 16 ? few : malloc(targets * sizeof(*queues));
    CHECK(queues);
    for (uint32_t i = 0; i < targets; i++)
        queues[i] = load_le64(publish->place.record + RECORD_HEADER_SIZE + i * PUBLISH_TARGET_SIZE);
    const struct route all = {.count = targets, .queues = queues};
    for (uint32_t first = 0; first < targets; first = group_end(&all, first))
        groups++;
    struct partial *partial = NULL;
    uint64_t serial = worker->next_partial;
    if (publish->confirm_tag && groups > 1) {
        partial = malloc(sizeof(*partial));
        CHECK(partial);
        *partial = (struct partial){client->id, publish->confirm_tag, groups, publish->channel, true};
        enum gw_err err = map_put(&worker->partials, worker->next_partial++, partial);
        CHECK(!err);
    }
    uint64_t size = RECORD_HEADER_SIZE + (uint64_t)targets * PUBLISH_TARGET_SIZE + publish->place.content_size;
    if (groups == 1 && size >= PRIVATE_RECORD_MIN && targets <= UINT16_MAX)
        end_alone(client, publish, group_is_durable(publish, &all, 0, targets), publish->confirm_tag, 0);
    else
        for (uint32_t first = 0, end; first < targets; first = end) {
            end = group_end(&all, first);
            if (!end_copied(client, publish, queues + first, end - first, partial ? serial : publish->confirm_tag, partial ? CONFIRM_PARTIAL : 0)) {
                /* The shard never hears of it: it is confirmed as refused. */
                struct command_confirm *refused = worker_command(worker, worker->index, COMMAND_CONFIRM, sizeof(*refused), NULL);
                refused->command.flags = partial ? CONFIRM_PARTIAL : 0;
                refused->client = client->id;
                refused->first = partial ? serial : publish->confirm_tag;
                refused->count = publish->confirm_tag ? 1 : 0;
                refused->channel = publish->channel;
            }
        }
    if (queues != few)
        free(queues);
}

void client_publish_end(struct client *client, struct publish *publish)
{
    if (LIKELY(!publish->chunk)) {
        uint64_t size = RECORD_HEADER_SIZE + (uint64_t)publish->place.targets * PUBLISH_TARGET_SIZE + publish->place.content_size;
        end_staged(client, publish, size, 0);
        return;
    }
    if (UNLIKELY(publish->place.traced))
        firehose_published(client, publish->channel, bytes_of(publish->place.content, publish->place.content_size),
                           publish->place.record + RECORD_HEADER_SIZE, publish->place.targets);
    if (!publish->place.targets && !publish->mandatory) {
        client_publish_abort(client, publish);
        return;
    }
    if (!publish->place.targets) {
        publish->content = bytes_of(publish->place.content, publish->place.content_size);
        return;   /* the caller returns it to its sender, and releases it */
    }
    if (publish->transaction)
        transaction_publish(client, publish);
    else
        end_private(client, publish);
    chunk_release(publish->chunk, client->worker->chunks);
    publish->chunk = NULL;
}

void worker_publish(struct worker *worker, struct exchange *exchange, const struct own_message *message)
{
    const struct routed_message routed = {.routing_key = message->routing_key, .properties = message->properties, .random = worker_random(worker)};
    struct publish publish = {.persistent = message->persistent, .exchange = exchange->name, .routing_key = message->routing_key,
                              .properties = message->properties, .body_size = message->body.size};
    struct route route = {0};
    bool routable = !topology_route(&worker->topology, exchange, &routed, &route) && route.count;
    uint64_t arrived_ms = routable && route.stamped ? worker->wall_us / 1000 : 0;
    publish.persistent |= routable && route.keeps;
    publish.place.content_size = message_size(exchange->name.size, message->routing_key.size, message->properties.size, message->body.size) +
                                 (arrived_ms ? MESSAGE_STAMP_SIZE : 0);
    if (routable && !(publish.persistent && route.durable && storage_refuses(worker, &publish, &route)) &&
        begin_private(worker, &publish, route.count, route.queues) == PUBLISH_ROUTED) {
        uint8_t *body = message_begin(publish.place.content, exchange->name, message->routing_key, message->properties, arrived_ms);
        if (message->body.size)
            memcpy(body, message->body.data, message->body.size);
        worker->self.worker = worker;
        end_private(&worker->self, &publish);
        chunk_release(publish.chunk, worker->chunks);
    }
    route_deinit(&route);
}

void client_publish_abort(struct client *client, struct publish *publish)
{
    if (publish->chunk)
        chunk_release(publish->chunk, client->worker->chunks);
    publish->chunk = NULL;
}

/* ---- what comes back ----------------------------------------------------------------------------------------------- */

bool client_may_publish(struct client *client)
{
    if (LIKELY(client->in_flight < CLIENT_IN_FLIGHT_MAX && !client->worker->blocked))
        return true;
    client->stalled = true;
    return false;
}

void publishing_flow(struct worker *worker, const struct command_flow *command)
{
    struct client_place *place = worker_client(worker, command->client);
    if (!place)
        return;
    struct client *client = place->client;
    CHECK(client->in_flight >= command->bytes);
    client->in_flight -= command->bytes;
    if (client->stalled && client->in_flight < CLIENT_IN_FLIGHT_MAX && !worker->blocked) {
        client->stalled = false;
        worker_client_touched(worker, client);
        if (client->ops->resumed)
            client->ops->resumed(client);
    }
}

static void tell_confirmed(struct worker *worker, uint64_t id, uint16_t channel, uint64_t first, uint64_t count, bool accepted)
{
    struct client_place *place = worker_client(worker, id);
    if (!place || !place->client->ops->confirmed)
        return;
    worker_client_touched(worker, place->client);
    place->client->ops->confirmed(place->client, channel, first, count, accepted);
}

void publishing_confirmed(struct worker *worker, const struct command_confirm *command)
{
    bool accepted = command->command.flags & CONFIRM_ACCEPTED;
    if (LIKELY(!(command->command.flags & CONFIRM_PARTIAL))) {
        tell_confirmed(worker, command->client, command->channel, command->first, command->count, accepted);
        return;
    }
    struct partial *partial = map_get(&worker->partials, command->first);
    if (!partial)
        return;
    partial->accepted &= accepted;
    if (--partial->remaining && !bug_enabled(BUG_CONFIRM_EARLY))
        return;
    map_remove(&worker->partials, command->first);
    tell_confirmed(worker, partial->client, partial->channel, partial->tag, 1, partial->accepted);
    free(partial);
}

void publishing_deinit(struct worker *worker)
{
    for (unsigned i = 0; worker->stages && i < worker->broker->shards * 2; i++)
        stage_drop(&worker->stages[i], worker->chunks);
    route_deinit(&worker->uncached.route);
    free(worker->uncached.key);
    for (unsigned i = 0; i < ROUTE_CACHE_SIZE; i++) {
        route_deinit(&worker->routes[i].route);
        free(worker->routes[i].key);
    }
    uint32_t cursor = 0;
    for (void *partial; (partial = map_next(&worker->partials, &cursor));)
        free(partial);
    map_deinit(&worker->partials);
}

/* ---- settling ------------------------------------------------------------------------------------------------------ */

void client_settle(struct client *client, uint64_t queue, enum settle_kind kind, uint64_t first_seq, uint64_t count, struct transaction *transaction)
{
    struct worker *worker = client->worker;
    if (transaction) {
        transaction_settle(client, transaction, queue, kind, first_seq, count);
        return;
    }
    unsigned to = worker_of_shard(worker, queue_id_shard(queue));
    struct command_settle *last = outbox_last(&worker->outboxes[to], COMMAND_SETTLE);
    if (last && last->queue == queue && last->command.flags == kind && last->first + last->count == first_seq && !last->delayed) {
        last->count += count;
        return;
    }
    struct command_settle *command = worker_command(worker, to, COMMAND_SETTLE, sizeof(*command), NULL);
    command->command.flags = (uint16_t)kind;
    command->queue = queue;
    command->first = first_seq;
    command->count = count;
}

void client_settle_after(struct client *client, uint64_t queue, uint64_t first_seq, uint64_t count, uint64_t delay_ms)
{
    struct command_settle *command = worker_command(client->worker, worker_of_shard(client->worker, queue_id_shard(queue)), COMMAND_SETTLE, sizeof(*command), NULL);
    command->command.flags = SETTLE_REQUEUE;
    command->queue = queue;
    command->first = first_seq;
    command->count = count;
    command->delay_ms = delay_ms;
    command->delayed = true;
}

uint64_t client_consumer_timeout(struct client *client, uint64_t queue, uint64_t otherwise_ms)
{
    const struct queue_entry *entry = topology_queue_by_id(&client->worker->topology, queue);
    return entry && entry->settings && (entry->settings->flags & SETTINGS_CONSUMER_TIMEOUT) ? entry->settings->consumer_timeout_ms : otherwise_ms;
}

void client_credit(struct client *client, uint64_t queue, uint32_t handle, uint32_t bytes)
{
    struct command_credit *command = worker_command(client->worker, worker_of_shard(client->worker, queue_id_shard(queue)), COMMAND_CREDIT,
                                                    sizeof(*command), NULL);
    command->queue = queue;
    command->handle = handle;
    command->bytes = bytes;
}

static struct command_refuse *send_refuse(struct client *client, enum command_type type, uint64_t queue, uint64_t seq, uint32_t handle)
{
    struct command_refuse *command = worker_command(client->worker, worker_of_shard(client->worker, queue_id_shard(queue)), type,
                                                    sizeof(*command), NULL);
    command->queue = queue;
    command->seq = seq;
    command->handle = handle;
    return command;
}

void client_refuse(struct client *client, const struct delivery *delivery)
{
    send_refuse(client, COMMAND_REFUSE, delivery->queue, delivery->seq, delivery->handle);
}

void client_resume(struct client *client, uint64_t queue, uint32_t handle)
{
    send_refuse(client, COMMAND_RESUME, queue, 0, handle);
}

void client_bind_to_limit(struct client *client, uint64_t queue, uint32_t handle)
{
    send_refuse(client, COMMAND_RESUME, queue, 0, handle)->command.flags = RESUME_BOUND;
}
