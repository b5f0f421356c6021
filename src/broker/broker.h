/* A broker: the workers of one process and the data directory that they share. Two brokers may live in one process. */
#ifndef BROKER_BROKER_H
#define BROKER_BROKER_H

#include "broker/worker.h"
#include "store/log.h"

struct broker_config {
    unsigned workers;              /* reactors, 1 … 64 */
    unsigned shards;               /* for a new data directory, 1 … 256; an existing one keeps its own; 0: the default */
    unsigned shards_when_new;      /* of a new one when shards is 0; 0: the default */
    enum log_body log_body;        /* LOG_FILE; LOG_MEMORY: nothing is kept */
    uint64_t log_file_size;        /* bytes; 0: default */
    unsigned log_file_count;       /* 0: default */
    uint64_t memory_per_worker;    /* bytes of message bodies kept in memory before queues page out; 0: default */
    uint64_t disk_free_limit;      /* bytes; below it publishers are blocked; 0: default (50 MB) */
    uint64_t max_clients;          /* per worker; 0: default */
    const char *node;              /* what it calls itself in events and traces; copied; NULL: "godwit@localhost" */
    struct alarm_sink *alarms;     /* thread-safe; borrowed */
    struct bytes definitions;      /* what every start declares, see definitions_import.c; empty: nothing; borrowed until broker_open returns */
    bool observes;                 /* queues are looked at ten times a second, see observer.h */
    const uint8_t *random;         /* 32 bytes of randomness for generated names and salts; copied */
};

/* Workers are made by worker_new on it, one per index, then broker_open. NULL: out of memory. */
struct broker *broker_new(const struct broker_config *config);

/* Opens or creates the data directory: recovers topology and shards, in the calling thread, before any reactor runs. On an error one
 * sentence that says what to do is in `why` (`room` bytes). Errors: those of log_open, segment_store_open, snapshot_load; GW_ERR_VERSION for a directory of
 * another version; GW_ERR_INVALID for definitions that cannot be. Nothing is changed on disk when it fails before the first shard is recovered. */
enum gw_err broker_open(struct broker *broker, char *why, unsigned room);

/* All reactors have stopped and all clients are detached: writes what is pending, a last snapshot, and closes the files. Single-threaded again. */
enum gw_err broker_close(struct broker *broker);

/* Frees the broker and its workers. */
void broker_free(struct broker *broker);

#endif
