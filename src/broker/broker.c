#include "broker/broker.h"

#include "broker/control.h"
#include "broker/relay.h"
#include "broker/users.h"
#include "broker/worker_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define SHARDS_DEFAULT 4u
#define MEMORY_DEFAULT (8u << 20)
#define CLIENTS_DEFAULT 1000000u
#define DISK_FREE_DEFAULT 50000000u
#define FORMAT_FILE "godwit"        /* names the format and the number of shards of a data directory */
#define FORMAT_MAGIC "godwit data 2, shards "

struct broker *broker_new(const struct broker_config *config)
{
    if (config->workers < 1 || config->workers > WORKERS_MAX || config->shards > SHARDS_MAX || config->shards_when_new > SHARDS_MAX)
        return NULL;
    struct broker *broker = calloc(1, sizeof(*broker));
    if (!broker)
        return NULL;
    broker->config = *config;
    memcpy(broker->random, config->random, sizeof(broker->random));
    broker->config.random = broker->random;
    snprintf(broker->node, sizeof(broker->node), "%s", config->node ? config->node : "godwit@localhost");
    broker->config.node = broker->node;
    broker->hash_seed = load_le64(broker->random + 24);
    if (!broker->config.memory_per_worker)
        broker->config.memory_per_worker = MEMORY_DEFAULT;
    if (!broker->config.disk_free_limit)
        broker->config.disk_free_limit = DISK_FREE_DEFAULT;
    if (!broker->config.max_clients)
        broker->config.max_clients = CLIENTS_DEFAULT;
    return broker;
}

void broker_free(struct broker *broker)
{
    if (!broker)
        return;
    for (unsigned i = 0; i < broker->config.workers; i++)
        worker_free(broker->workers[i]);
    free(broker);
}

/* ---- the format file ----------------------------------------------------------------------------------------------- */

static int disk_do(struct disk *disk, struct disk_op op, struct disk_op *result)
{
    int error = disk->call(disk, &op);
    if (result)
        *result = op;
    return error;
}

static enum gw_err parse_format(struct broker *broker, const char *text, char *why, unsigned room)
{
    unsigned shards = 0;
    char end = 0;
    if (strncmp(text, "godwit data ", 12) != 0) {
        snprintf(why, room, "the file 'godwit' in it is not one of a data directory; choose another directory");
        return GW_ERR_CORRUPT;
    }
    if (strncmp(text, FORMAT_MAGIC, strlen(FORMAT_MAGIC)) != 0) {
        snprintf(why, room, "it was written by another version of godwit (%.40s); use that version, or another directory", text);
        return GW_ERR_VERSION;
    }
    if (sscanf(text + strlen(FORMAT_MAGIC), "%u%c", &shards, &end) != 2 || end != '\n' || shards < 1 || shards > SHARDS_MAX) {
        snprintf(why, room, "the file 'godwit' in it is damaged; restore it from a copy");
        return GW_ERR_CORRUPT;
    }
    if (broker->config.shards && broker->config.shards != shards) {
        snprintf(why, room, "it was made with %u shards, which cannot be changed to %u; leave that setting out", shards, broker->config.shards);
        return GW_ERR_INVALID;
    }
    broker->shards = shards;
    return GW_OK;
}

static enum gw_err read_format(struct broker *broker, struct disk *disk, char *why, unsigned room)
{
    struct disk_op opened;
    int error = disk_do(disk, (struct disk_op){.kind = DISK_OPEN, .name = FORMAT_FILE, .file = -1}, &opened);
    if (error) {
        enum gw_err err = gw_err_from_errno(error);
        if (err != GW_ERR_NOT_FOUND)
            snprintf(why, room, "it cannot be read: %s", gw_err_text(err));
        return err;
    }
    char text[128] = {0};
    struct iovec iov = {text, sizeof(text) - 1};
    error = disk_do(disk, (struct disk_op){.kind = DISK_READ, .file = opened.file, .iov = &iov, .iov_count = 1}, NULL);
    disk_do(disk, (struct disk_op){.kind = DISK_CLOSE, .file = opened.file}, NULL);
    if (error) {
        snprintf(why, room, "it cannot be read: %s", gw_err_text(gw_err_from_errno(error)));
        return gw_err_from_errno(error);
    }
    return parse_format(broker, text, why, room);
}

static unsigned shards_of_new(const struct broker *broker)
{
    const struct broker_config *config = &broker->config;
    return config->shards ? config->shards : config->shards_when_new ? config->shards_when_new : SHARDS_DEFAULT;
}

/* Written under another name and renamed, so that it is there whole or not at all. */
static enum gw_err write_format(struct broker *broker, struct disk *disk, char *why, unsigned room)
{
    char text[128];
    broker->shards = shards_of_new(broker);
    int size = snprintf(text, sizeof(text), FORMAT_MAGIC "%u\n", broker->shards);
    struct iovec iov = {text, (size_t)size};
    struct disk_op opened;
    int error = disk_do(disk, (struct disk_op){.kind = DISK_OPEN, .flags = DISK_CREATE, .name = FORMAT_FILE ".new", .file = -1}, &opened);
    if (!error) {
        error = disk_do(disk, (struct disk_op){.kind = DISK_WRITE_SYNC, .file = opened.file, .iov = &iov, .iov_count = 1}, NULL);
        disk_do(disk, (struct disk_op){.kind = DISK_CLOSE, .file = opened.file}, NULL);
    }
    if (!error)
        error = disk_do(disk, (struct disk_op){.kind = DISK_RENAME, .name = FORMAT_FILE ".new", .new_name = FORMAT_FILE, .file = -1}, NULL);
    if (!error)
        error = disk_do(disk, (struct disk_op){.kind = DISK_SYNC_DIR, .name = ".", .file = -1}, NULL);
    if (error)
        snprintf(why, room, "it cannot be written: %s", gw_err_text(gw_err_from_errno(error)));
    return gw_err_from_errno(error);
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

static enum gw_err prepare_worker(struct broker *broker, struct worker *worker)
{
    worker->shards = calloc(broker->shards, sizeof(*worker->shards));
    worker->stages = calloc(broker->shards * 2, sizeof(*worker->stages));
    if (!worker->shards || !worker->stages)
        return GW_ERR_NOMEM;
    for (unsigned i = 0; i < broker->shards; i++)
        worker->stages[i * 2 + 1].durable = true;
    if (worker->index == 0 && !(worker->master = master_new(worker)))
        return GW_ERR_NOMEM;
    unsigned owned = (broker->shards + broker->config.workers - 1) / broker->config.workers;
    for (unsigned i = worker->index; i < broker->shards; i += broker->config.workers) {
        const struct shard_config config = {worker, i, broker->config.memory_per_worker / owned, broker->config.alarms};
        worker->shards[i] = shard_new(&config);
        if (!worker->shards[i])
            return GW_ERR_NOMEM;
    }
    return GW_OK;
}

struct copying {
    struct topology *to;
};

static enum gw_err copy_change(void *owner, const struct topology_change *change)
{
    struct copying *copying = owner;
    return topology_apply(copying->to, change);
}

/* Definitions from the configuration are declared as if an administrator did it. */
static enum gw_err load_definitions(struct broker *broker, char *why, unsigned room)
{
    if (!broker->config.definitions.size)
        return GW_OK;
    char said[600] = "";
    bool done = control_load(broker->workers[0]->master, broker->config.definitions, said, sizeof(said));
    if (!done)
        snprintf(why, room, "the definitions cannot be loaded: %s", said);
    return done ? GW_OK : GW_ERR_INVALID;
}

/* Where there are no users, there is guest, who may do everything in the vhost "/", and connect from this machine only. */
static enum gw_err add_guest(struct broker *broker)
{
    struct bytes guest = bytes_of_text("guest"), all = bytes_of_text(".*");
    uint8_t secret[SECRET_SIZE];
    if (!secret_make(broker->random, guest, secret))
        return GW_ERR_IO;
    const struct topology_change user = {.kind = CHANGE_USER_PUT, .name = guest, .arguments = bytes_of_text("administrator"),
                                         .secret = bytes_of(secret, sizeof(secret)), .id = HASH_SHA256};
    const struct topology_change permission = {.kind = CHANGE_PERMISSION_PUT, .vhost = VHOST_DEFAULT, .name = guest, .source = all, .routing_key = all, .arguments = all};
    struct master *master = broker->workers[0]->master;
    return master_apply(master, &user, NULL) && master_apply(master, &permission, NULL) ? GW_OK : GW_ERR_FAILED;
}

/* Each worker gets its copy of what shard 0 recovered. */
static enum gw_err copy_topology(struct broker *broker)
{
    enum gw_err err = GW_OK;
    for (unsigned i = 0; !err && i < broker->config.workers; i++) {
        struct copying copying = {&broker->workers[i]->topology};
        err = topology_dump(master_topology(broker->workers[0]->master), copy_change, &copying);
    }
    return err;
}

enum gw_err broker_open(struct broker *broker, char *why, unsigned room)
{
    struct worker *first = broker->workers[0];
    bool fresh = true;
    enum gw_err err = GW_ERR_NOT_FOUND;
    snprintf(why, room, "out of memory");
    if (broker->config.log_body == LOG_FILE)
        err = read_format(broker, first->disk, why, room);
    fresh = err == GW_ERR_NOT_FOUND;
    if (fresh && broker->config.log_body == LOG_FILE) {
        err = write_format(broker, first->disk, why, room);
    } else if (fresh) {
        broker->shards = shards_of_new(broker);
        err = GW_OK;
    }
    for (unsigned i = 0; !err && i < broker->config.workers; i++)
        err = prepare_worker(broker, broker->workers[i]);
    if (!err)
        err = shard_open(first->shards[0], why, room);
    if (!err)
        err = copy_topology(broker);
    for (unsigned i = 1; !err && i < broker->shards; i++)
        err = shard_open(broker->workers[i % broker->config.workers]->shards[i], why, room);
    if (!err && (err = relay_reconcile(broker)))
        snprintf(why, room, "messages between two queues cannot be put together: %s", gw_err_text(err));
    for (unsigned i = 0; !err && i < broker->config.workers; i++)
        worker_settings(broker->workers[i]);
    if (!err) {
        master_set_opening(first->master, true);
        master_open_vhosts(first->master);
        err = load_definitions(broker, why, room);
        if (!err && !master_topology(first->master)->users.map.count)
            err = add_guest(broker);
        master_set_opening(first->master, false);
    }
    for (unsigned i = 0; !err && i < broker->shards; i++)
        atomic_store(&broker->log_states[i], (int)log_state(broker->workers[i % broker->config.workers]->shards[i]->log));
    return err;
}

enum gw_err broker_close(struct broker *broker)
{
    enum gw_err err = GW_OK;
    /* What is still between the workers is done before the shards close: they must not miss a message that was taken. */
    for (unsigned i = 0; i < broker->config.workers; i++)
        if (broker->workers[i] && broker->workers[i]->shards)
            worker_turn(broker->workers[i], broker->workers[i]->now_us);
    while (broker->workers[0] && broker->workers[0]->asking_free_space && broker->workers[0]->disk->wait(broker->workers[0]->disk))
        ;
    for (unsigned i = 0; i < broker->shards; i++) {
        struct worker *worker = broker->workers[i % broker->config.workers];
        enum gw_err closed = worker && worker->shards && worker->shards[i] ? shard_close(worker->shards[i]) : GW_OK;
        err = err ? err : closed;
    }
    return err;
}
