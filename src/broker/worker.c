#include "broker/control.h"
#include "broker/firehose.h"
#include "broker/inspect.h"
#include "broker/permissions.h"
#include "broker/relay.h"
#include "broker/worker_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define CLOCK_SLACK_US 1000000   /* clocks that are kept in step go back by less */
#define PLACES_FIRST 64u
#define TURN_ROUNDS 8u          /* of local work in one turn, before the reactor looks for input again */
#define CHUNKS_KEPT 12u         /* free chunks a worker keeps, 256 KiB each */

/* ---- lifecycle ----------------------------------------------------------------------------------------------------- */

static void seed_random(struct worker *worker)
{
    memcpy(worker->random, worker->broker->random, sizeof(worker->random));
    worker->random[0] += worker->index * 0x9E3779B97F4A7C15u + 1;
}

/* xoshiro256**, by D. Blackman and S. Vigna: names need to be unlikely, not secret. */
uint64_t worker_random(struct worker *worker)
{
    uint64_t *s = worker->random, result = s[1] * 5;
    result = (result << 7 | result >> 57) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return result;
}

struct bytes worker_generate_name(struct worker *worker, const char *prefix, char text[GENERATED_NAME_SIZE])
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t size = strlen(prefix), end = size + 22;
    CHECK(end <= GENERATED_NAME_SIZE);
    memcpy(text, prefix, size);
    for (; size < end; size++)
        text[size] = alphabet[worker_random(worker) >> 58];
    return bytes_of(text, end);
}

struct worker *worker_new(struct broker *broker, unsigned index, struct disk *disk, struct worker_port *port)
{
    CHECK(index < broker->config.workers && !broker->workers[index]);
    struct worker *worker = calloc(1, sizeof(*worker));
    if (!worker)
        return NULL;
    worker->broker = broker;
    worker->index = index;
    worker->disk = disk;
    worker->port = port;
    worker->next_partial = 1;
    worker->free_place = UINT32_MAX;
    seed_random(worker);
    worker->chunks = chunk_pool_new(CHUNKS_KEPT);
    worker->outboxes = calloc(broker->config.workers, sizeof(*worker->outboxes));
    worker->arriving = calloc(broker->config.workers, sizeof(*worker->arriving));
    worker->routes = calloc(ROUTE_CACHE_SIZE, sizeof(*worker->routes));
    if (!worker->chunks || !worker->outboxes || !worker->arriving || !worker->routes || topology_init(&worker->topology, broker->hash_seed)) {
        chunk_pool_free(worker->chunks);
        free(worker->outboxes);
        free(worker->arriving);
        free(worker->routes);
        free(worker);
        return NULL;
    }
    broker->workers[index] = worker;
    return worker;
}

static void free_outbox(struct worker *worker, struct outbox *outbox)
{
    while (outbox->first) {
        struct batch *batch = outbox->first;
        outbox->first = batch->next;
        batch_free(batch, &worker->batches, worker->chunks);
    }
    outbox->last = NULL;
}

static void free_consumers(struct client_place *place)
{
    if (place->consumer_capacity)
        free(place->more);
    place->consumer_count = place->consumer_capacity = 0;
}

void worker_free(struct worker *worker)
{
    if (!worker)
        return;
    worker->broker->workers[worker->index] = NULL;
    for (unsigned i = 0; worker->shards && i < worker->broker->shards; i++)
        shard_free(worker->shards[i]);
    for (unsigned i = 0; i < worker->broker->config.workers; i++)
        free_outbox(worker, &worker->outboxes[i]);
    for (unsigned i = 0; i < worker->broker->config.workers; i++)
        free_outbox(worker, &worker->arriving[i]);
    free_outbox(worker, &worker->inbox);
    for (uint32_t i = 0; i < worker->place_count; i++) {
        requests_client_gone(worker, &worker->places[i]);
        free_consumers(&worker->places[i]);
    }
    publishing_deinit(worker);
    master_free(worker->master);
    topology_deinit(&worker->topology);
    batch_pool_deinit(&worker->batches);
    chunk_pool_free(worker->chunks);
    free(worker->places);
    free(worker->shards);
    free(worker->stages);
    free(worker->outboxes);
    free(worker->arriving);
    free(worker->routes);
    free(worker);
}

struct chunk_pool *worker_chunks(struct worker *worker) { return worker->chunks; }
unsigned worker_index(const struct worker *worker) { return worker->index; }
uint64_t worker_now(const struct worker *worker) { return worker->now_us; }
uint64_t worker_wall_us(const struct worker *worker) { return worker->wall_us; }
uint64_t worker_wall_at(const struct worker *worker, uint64_t now_us) { return now_us + (uint64_t)worker->wall_offset_us; }

/* ---- commands ------------------------------------------------------------------------------------------------------ */

void *worker_try_command(struct worker *worker, unsigned to, enum command_type type, uint32_t size, struct chunk *chunk)
{
    return outbox_add(&worker->outboxes[to], &worker->batches, worker->index, type, size, chunk);
}

void *worker_command(struct worker *worker, unsigned to, enum command_type type, uint32_t size, struct chunk *chunk)
{
    void *command = worker_try_command(worker, to, type, size, chunk);
    CHECK(command && "memory for a command");
    return command;
}

/* ---- clients ------------------------------------------------------------------------------------------------------- */

struct client_place *worker_client(struct worker *worker, uint64_t id)
{
    uint32_t slot = (uint32_t)id;
    if (slot >= worker->place_count)
        return NULL;
    struct client_place *place = &worker->places[slot];
    return place->client && place->client->id == id ? place : NULL;
}

static bool grow_places(struct worker *worker)
{
    if (worker->place_count == worker->place_room) {
        uint32_t room = worker->place_room ? worker->place_room * 2 : PLACES_FIRST;
        struct client_place *places = realloc(worker->places, room * sizeof(*places));
        if (!places)
            return false;
        worker->places = places;
        worker->place_room = room;
    }
    worker->places[worker->place_count] = (struct client_place){.next_free = UINT32_MAX};
    worker->free_place = worker->place_count++;
    return true;
}

enum gw_err client_attach(struct worker *worker, struct client *client, const struct client_ops *ops)
{
    if (worker->client_count >= worker->broker->config.max_clients)
        return GW_ERR_LIMIT;
    if (worker->free_place == UINT32_MAX && !grow_places(worker))
        return GW_ERR_NOMEM;
    uint32_t slot = worker->free_place;
    struct client_place *place = &worker->places[slot];
    worker->free_place = place->next_free;
    worker->client_count++;
    atomic_fetch_add_explicit(&worker->broker->clients, 1, memory_order_relaxed);
    worker->newcomers = true;
    place->generation = (place->generation + 1) & 0xFFFFFF;
    place->client = client;
    place->next_serial = 1;
    place->last_route = NULL;
    *client = (struct client){.ops = ops, .worker = worker,
                              .id = (uint64_t)place->generation << 40 | (uint64_t)worker->index << 32 | slot};
    return GW_OK;
}

static void cancel_consumer(struct worker *worker, uint64_t client, uint64_t queue, uint32_t handle)
{
    struct command_request *request = worker_command(worker, worker_of_shard(worker, queue_id_shard(queue)), COMMAND_SHARD_REQUEST,
                                                     sizeof(*request), NULL);
    request->client = client;
    request->queue = queue;
    request->handle = handle;
    request->kind = REQUEST_CANCEL;
}

void client_detach(struct client *client)
{
    struct worker *worker = client->worker;
    struct client_place *place = worker_client(worker, client->id);
    CHECK(place);
    for (uint32_t i = 0; i < place->consumer_count; i++)
        cancel_consumer(worker, client->id, place_consumers(place)[i].queue, place_consumers(place)[i].handle);
    free_consumers(place);
    requests_client_gone(worker, place);
    struct command_client *gone = worker_command(worker, 0, COMMAND_CLIENT_GONE, sizeof(*gone), NULL);
    gone->id = client->id;
    for (struct client **at = &worker->turned; *at; at = &(*at)->turned_next)
        if (*at == client) {
            *at = client->turned_next;
            break;
        }
    access_free(client->limits);
    client->limits = NULL;
    place->client = NULL;
    place->next_free = worker->free_place;
    worker->free_place = (uint32_t)client->id;
    worker->client_count--;
    atomic_fetch_sub_explicit(&worker->broker->clients, 1, memory_order_relaxed);
    client->worker = NULL;
}

struct bytes client_vhost_name(const struct client *client)
{
    const struct vhost *vhost = topology_vhost_by_id(&client->worker->topology, client->vhost);
    return vhost ? vhost->name : (struct bytes){0};
}

bool client_is_tagged(const struct client *client, const char *tag)
{
    const struct user *user = topology_user(&client->worker->topology, client->user);
    return user && !client->limits && user_is_tagged(user, tag);
}

bool client_channel_opened(struct client *client)
{
    const struct user *user = topology_user(&client->worker->topology, client->user);
    if (user && user->max_channels != TOPOLOGY_UNLIMITED)
        return true;
    struct command_client *opened = worker_command(client->worker, 0, COMMAND_CHANNEL, sizeof(*opened), NULL);
    opened->command.flags = 1;
    opened->id = client->id;
    return false;
}

void client_channel_closed(struct client *client)
{
    struct command_client *closed = worker_command(client->worker, 0, COMMAND_CHANNEL, sizeof(*closed), NULL);
    closed->id = client->id;
}

void worker_client_touched(struct worker *worker, struct client *client)
{
    if (client->turned_queued)
        return;
    client->turned_queued = true;
    client->turned_next = worker->turned;
    worker->turned = client;
}

void client_release(struct client *client, struct chunk *chunk)
{
    chunk_release(chunk, client->worker->chunks);
}

/* ---- what arrives for clients -------------------------------------------------------------------------------------- */

static void undelivered(struct worker *worker, const struct command_deliver *command)
{
    if (command->flags & DELIVER_NO_ACK)
        return;   /* gone with the connection, as it would have been a moment later */
    struct command_settle *settle = worker_command(worker, worker_of_shard(worker, queue_id_shard(command->queue)), COMMAND_SETTLE,
                                                   sizeof(*settle), NULL);
    settle->command.flags = SETTLE_UNDELIVERED;
    settle->queue = command->queue;
    settle->first = command->seq;
    settle->count = 1;
}

static void take_delivery(struct worker *worker, const struct command_deliver *command)
{
    struct client_place *place = worker_client(worker, command->client);
    if (UNLIKELY(!place)) {
        undelivered(worker, command);
        return;
    }
    struct delivery delivery = {
        .queue = command->queue,
        .seq = command->seq,
        .content = bytes_of(command->chunk->data + command->offset, command->size),
        .chunk = command->chunk,
        .consumer = command->consumer,
        .handle = command->handle,
        .messages_left = command->messages_left,
        .channel = command->channel,
        .redelivered = command->flags & DELIVER_REDELIVERED,
        .no_ack = command->flags & DELIVER_NO_ACK,
        .is_record = command->flags & DELIVER_RECORD,
        .is_get = command->flags & DELIVER_GET,
        .added = command->added,
        .added_value = command->added_value,
        .arrived_ms = command->command.size > sizeof(*command) ? ((const struct command_deliver_stamped *)command)->arrived_ms : 0,
    };
    worker_client_touched(worker, place->client);
    place->client->ops->deliver(place->client, &delivery);
}

static void take_cancelled(struct worker *worker, const struct command_cancelled *command)
{
    struct client_place *place = worker_client(worker, command->client);
    if (!place)
        return;
    for (uint32_t i = 0; i < place->consumer_count; i++)
        if (place_consumers(place)[i].handle == command->handle) {
            place_consumers(place)[i] = place_consumers(place)[place->consumer_count - 1];
            place->consumer_count--;
            break;
        }
    worker_client_touched(worker, place->client);
    place->client->ops->cancelled(place->client, command->channel, command->consumer);
}

static void declare_in_shard(struct worker *worker, struct shard *shard, const struct topology_change *change)
{
    const struct queue_entry *entry = topology_queue_by_id(&worker->topology, change->id);
    CHECK(!shard_queue_create(shard, change->id, change->flags & TOPOLOGY_AUTO_DELETE, settings_queue_type(change->arguments)));
    shard_queue_set(shard, change->id, entry ? entry->settings : NULL);
}

/* A queue's arguments have changed, and with them what it is to do. */
static void set_queue(struct worker *worker, const struct topology_change *change)
{
    const struct vhost *vhost = topology_vhost_by_id(&worker->topology, change->vhost);
    const struct queue_entry *entry = vhost ? topology_queue(vhost, change->name) : NULL;
    struct shard *shard = entry ? worker->shards[queue_id_shard(entry->id)] : NULL;
    if (shard)
        shard_queue_set(shard, entry->id, entry->settings);
}

void worker_settings(struct worker *worker)
{
    uint32_t cursor = 0;
    for (const struct queue_entry *entry; (entry = map_next(&worker->topology.queues_by_id, &cursor));) {
        struct shard *shard = worker->shards[queue_id_shard(entry->id)];
        if (shard)
            shard_queue_set(shard, entry->id, entry->settings);
    }
}

static void close_client(struct worker *worker, struct client *client, uint16_t code, struct bytes text)
{
    worker_client_touched(worker, client);
    client->ops->closed(client, code, text);
}

/* The vhost is about to go: with it the queues that are here, and the clients. */
static void leave_vhost(struct worker *worker, uint32_t id)
{
    const struct vhost *vhost = topology_vhost_by_id(&worker->topology, id);
    char text[320];
    uint32_t cursor = 0;
    if (!vhost)
        return;
    for (const struct queue_entry *queue; (queue = map_next(&vhost->queues.map, &cursor));)
        if (worker->shards[queue_id_shard(queue->id)])
            shard_queue_delete(worker->shards[queue_id_shard(queue->id)], queue->id);
    int size = snprintf(text, sizeof(text), "CONNECTION_FORCED - vhost '%.*s' is deleted", (int)vhost->name.size, (const char *)vhost->name.data);
    for (uint32_t i = 0; i < worker->place_count; i++) {
        struct client *client = worker->places[i].client;
        if (client && client->vhost == id)
            close_client(worker, client, 320, bytes_of(text, (size_t)size));
    }
}

static void leave_user(struct worker *worker, struct bytes user)
{
    char text[320];
    int size = snprintf(text, sizeof(text), "CONNECTION_FORCED - user '%.*s' is deleted", (int)user.size, (const char *)user.data);
    for (uint32_t i = 0; i < worker->place_count; i++) {
        struct client *client = worker->places[i].client;
        if (client && client->vhost && bytes_equal(client->user, user))
            close_client(worker, client, 320, bytes_of(text, (size_t)size));
    }
}

static void take_close(struct worker *worker, const struct command_close *command)
{
    struct client_place *place = worker_client(worker, command->client);
    if (place)
        close_client(worker, place->client, command->code, bytes_of(command->bytes, command->text_size));
}

void worker_change(struct worker *worker, const struct topology_change *change)
{
    bool of_queue = change->kind == CHANGE_QUEUE_DECLARE || change->kind == CHANGE_QUEUE_DELETE;
    struct shard *shard = of_queue ? worker->shards[queue_id_shard(change->id)] : NULL;
    /* Queues go before their settings, which the topology owns. */
    if (change->kind == CHANGE_VHOST_DELETE)
        leave_vhost(worker, change->vhost);
    if (change->kind == CHANGE_USER_DELETE)
        leave_user(worker, change->name);
    if (shard && change->kind == CHANGE_QUEUE_DELETE)
        shard_queue_delete(shard, change->id);
    enum gw_err err = topology_apply(&worker->topology, change);
    CHECK(err != GW_ERR_NOMEM);
    if (shard && change->kind == CHANGE_QUEUE_DECLARE)
        declare_in_shard(worker, shard, change);
    if (change->kind == CHANGE_POLICY_PUT || change->kind == CHANGE_POLICY_DELETE)
        worker_settings(worker);
    if (change->kind == CHANGE_QUEUE_ARGUMENTS)
        set_queue(worker, change);
    permissions_changed(worker, change);
    if (change->kind == CHANGE_VHOST_PUT)
        firehose_changed(worker);
}

static void take_change(struct worker *worker, const struct command_change *command)
{
    struct topology_change change;
    CHECK(topology_change_read(bytes_of(command->bytes, command->change_size), &change));
    worker_change(worker, &change);
    worker->applied_sequence = command->sequence;
}

/* ---- one command ----------------------------------------------------------------------------------------------------- */

static struct shard *shard_of(struct worker *worker, uint64_t queue)
{
    struct shard *shard = worker->shards[queue_id_shard(queue)];
    CHECK(shard);
    return shard;
}

static void take_forget(struct worker *worker, const struct command_forget *command)
{
    relay_forget(worker->shards[command->shard], command->queue, command->seq);
}

static void take_letter(struct worker *worker, const struct command_letter *command, unsigned from)
{
    if (worker->letters.take)
        worker->letters.take(worker->letters.owner, from, bytes_of(command->bytes, command->size));
}

/* Inlined, however many kinds there are: it is called for every message, in one place. */
static inline __attribute__((always_inline)) void execute(struct worker *worker, const struct command *command, unsigned from)
{
    const void *at = command;
    switch ((enum command_type)command->type) {
    case COMMAND_PUBLISH: shard_publish(worker->shards[((const struct command_publish *)at)->shard], at); break;
    case COMMAND_SLICE: shard_slice(worker->shards[((const struct command_slice *)at)->shard], at); break;
    case COMMAND_SETTLE: shard_settle(shard_of(worker, ((const struct command_settle *)at)->queue), at); break;
    case COMMAND_CREDIT: shard_credit(shard_of(worker, ((const struct command_credit *)at)->queue), at); break;
    case COMMAND_RESUME: shard_resume(shard_of(worker, ((const struct command_refuse *)at)->queue), at); break;
    case COMMAND_REFUSE: shard_refuse(shard_of(worker, ((const struct command_refuse *)at)->queue), at); break;
    case COMMAND_SHARD_REQUEST: shard_request(shard_of(worker, ((const struct command_request *)at)->queue), at); break;
    case COMMAND_TRANSACTION: shard_transaction(worker->shards[((const struct command_transaction *)at)->shard], at); break;
    case COMMAND_CONTROL: control_at_worker(worker, at); break;
    case COMMAND_RELAY: relay_arrived(worker->shards[((const struct command_relay *)at)->shard], at); break;
    case COMMAND_RELAYED: relay_answered(worker->shards[((const struct command_relayed *)at)->shard], at); break;
    case COMMAND_FORGET: take_forget(worker, at); break;
    case COMMAND_TOPOLOGY_REQUEST: master_request(worker->master, at); break;
    case COMMAND_CLIENT_GONE: master_client_gone(worker->master, ((const struct command_client *)at)->id); break;
    case COMMAND_CHANNEL: master_channel(worker->master, ((const struct command_client *)at)->id, command->flags); break;
    case COMMAND_QUEUE_UNUSED: master_queue_unused(worker->master, ((const struct command_client *)at)->id); break;
    case COMMAND_TOPOLOGY_ACK: master_ack(worker->master, from, ((const struct command_ack *)at)->sequence); break;
    case COMMAND_TOPOLOGY_CHANGE: take_change(worker, at); break;
    case COMMAND_DELIVER: take_delivery(worker, at); break;
    case COMMAND_CONFIRM: publishing_confirmed(worker, at); break;
    case COMMAND_FLOW: publishing_flow(worker, at); break;
    case COMMAND_ANSWER: requests_answered(worker, at); break;
    case COMMAND_CANCELLED: take_cancelled(worker, at); break;
    case COMMAND_CONTROL_ROWS: requests_rows(worker, at); break;
    case COMMAND_CLOSE: take_close(worker, at); break;
    case COMMAND_LETTER: take_letter(worker, at, from); break;
    }
}

static void execute_all(struct worker *worker, struct outbox *box)
{
    struct batch *batch = box->first;
    *box = (struct outbox){0};
    while (batch) {
        struct batch *next = batch->next;
        for (uint32_t at = 0; at < batch->used;) {
            const struct command *command = (const struct command *)(batch->data + at);
            at += command->size;
            execute(worker, command, batch->from);
        }
        batch_free(batch, &worker->batches, worker->chunks);
        batch = next;
    }
}

/* ---- letters ----------------------------------------------------------------------------------------------------------- */

void worker_set_letters(struct worker *worker, const struct worker_letters *letters) { worker->letters = *letters; }

void worker_send(struct worker *worker, unsigned to, struct bytes letter)
{
    struct command_letter *command = worker_command(worker, to, COMMAND_LETTER, (uint32_t)(sizeof(*command) + letter.size), NULL);
    command->size = (uint32_t)letter.size;
    memcpy(command->bytes, letter.data, letter.size);
}

/* ---- the turn ------------------------------------------------------------------------------------------------------ */

/* What one worker made in one turn is executed together: nothing of another's comes between a publish and the slice that logs it, so that a log's order is
 * that of the sequence numbers. */
void worker_receive(struct worker *worker, struct batch *batch)
{
    struct outbox *arriving = &worker->arriving[batch->from];
    batch->next = NULL;
    if (arriving->last)
        arriving->last->next = batch;
    else
        arriving->first = batch;
    arriving->last = batch;
    if (batch->more)
        return;
    if (worker->inbox.last)
        worker->inbox.last->next = arriving->first;
    else
        worker->inbox.first = arriving->first;
    worker->inbox.last = arriving->last;
    *arriving = (struct outbox){0};
}

static void tell_turned(struct worker *worker)
{
    while (worker->turned) {
        struct client *client = worker->turned;
        worker->turned = client->turned_next;
        client->turned_queued = false;
        if (client->ops->turned)
            client->ops->turned(client);
    }
}

static void acknowledge_changes(struct worker *worker)
{
    if (worker->acked_sequence == worker->applied_sequence)
        return;
    worker->acked_sequence = worker->applied_sequence;
    struct command_ack *ack = worker_command(worker, 0, COMMAND_TOPOLOGY_ACK, sizeof(*ack), NULL);
    ack->sequence = worker->applied_sequence;
}

static bool has_local_work(const struct worker *worker)
{
    return worker->outboxes[worker->index].first || worker->inbox.first;
}

/* Hands batches to the other workers; what their mailboxes have no room for stays for the next turn. False: something stayed. */
static bool post_all(struct worker *worker)
{
    bool all = true;
    for (unsigned to = 0; to < worker->broker->config.workers; to++) {
        struct outbox *outbox = &worker->outboxes[to];
        if (to == worker->index)
            continue;
        while (outbox->first) {
            struct batch *batch = outbox->first, *next = batch->next;
            batch->next = NULL;
            batch->more = next != NULL;
            if (!worker->port->post(worker->port, to, batch)) {
                batch->next = next;
                all = false;
                break;
            }
            outbox->first = next;
        }
        if (!outbox->first)
            outbox->last = NULL;
    }
    return all;
}

/* Has a log that commits while it is flushed left something to do? */
static bool has_awakened(const struct worker *worker)
{
    for (unsigned i = 0; i < worker->broker->shards; i++)
        if (worker->shards[i] && (worker->shards[i]->dirty || (worker->shards[i]->relay && relay_is_due(worker->shards[i])) || inspect_is_due(worker->shards[i])))
            return true;
    return worker->master && master_is_due(worker->master);
}

void worker_set_clock(struct worker *worker, uint64_t wall_us, uint64_t now_us)
{
    int64_t offset_us = (int64_t)(wall_us - now_us);
    worker->set_back += offset_us + CLOCK_SLACK_US < worker->wall_offset_us;
    worker->wall_offset_us = offset_us;
    worker->wall_us = wall_us;
}

void client_time(struct client *client, uint64_t now_us)
{
    struct worker *worker = client->worker;
    if (worker)
        worker->wall_us = now_us + (uint64_t)worker->wall_offset_us;
}

bool worker_turn(struct worker *worker, uint64_t now_us)
{
    worker->now_us = now_us;
    worker->wall_us = now_us + (uint64_t)worker->wall_offset_us;
    for (unsigned i = 0; i < worker->broker->shards; i++) {
        struct shard *shard = worker->shards[i];
        if (!shard)
            continue;
        if (shard->observer.next_us <= now_us)
            observer_look(shard);
        if (timers_next(&shard->timers) <= now_us)
            shard_timers(shard);
    }
    watch_turn(worker);   /* publishers that it lets go on publish at once */
    for (unsigned round = 0; round < TURN_ROUNDS; round++) {
        publishing_seal(worker);
        execute_all(worker, &worker->inbox);
        execute_all(worker, &worker->outboxes[worker->index]);
        for (unsigned i = 0; i < worker->broker->shards; i++)
            if (worker->shards[i] && worker->shards[i]->dirty)
                shard_dispatch(worker->shards[i]);
        for (unsigned i = 0; i < worker->broker->shards; i++)
            if (worker->shards[i] && UNLIKELY(worker->shards[i]->relay != NULL))
                relay_turn(worker->shards[i]);
        for (unsigned i = 0; i < worker->broker->shards; i++)
            if (worker->shards[i] && UNLIKELY(worker->shards[i]->inspects != NULL))
                inspect_turn(worker->shards[i]);
        tell_turned(worker);
        acknowledge_changes(worker);
        if (worker->master)
            master_turn_end(worker->master);
        if (!has_local_work(worker))
            break;
    }
    publishing_seal(worker);    /* nothing is published after this in the turn: every publish leaves together with its slice */
    for (unsigned i = 0; i < worker->broker->shards; i++)
        if (worker->shards[i])
            shard_turn_end(worker->shards[i]);
    bool posted = post_all(worker);
    return has_local_work(worker) || has_awakened(worker) || !posted;
}

uint64_t worker_deadline(const struct worker *worker)
{
    uint64_t deadline = watch_deadline(worker);
    for (unsigned i = 0; i < worker->broker->shards; i++) {
        uint64_t of_shard = worker->shards[i] ? shard_deadline(worker->shards[i]) : UINT64_MAX;
        if (of_shard < deadline)
            deadline = of_shard;
    }
    return deadline;
}
