/* What a shard's snapshot holds: the slots of its durable queues whose images are synced, the segment files, and in shard 0 the topology.
 * Little-endian; the whole lies in the blob that store/snapshot.h keeps, with its checksum.
 *
 *   version (4) · shards (4) · cutoff (8) · clean end (8): the log's end at a clean close, 0 otherwise
 *   files (4), each: number (4) · size (8) · live (8)
 *   lanes of queues (4), each: queue's id (8) · next_seq (8) · redelivered_below (8) · the same after a clean end (8) · blocks (4), each:
 *       block number (8) · file (4) · size (4) · offset (8) · released (4) · live (2) · has bits (1) · zero (1) · [bits (32)]
 *       in blocks the highest bit says that some of the messages expire by themselves
 *   changes (4), each: size (4) · a topology change (broker/topology_change.h)
 *   origins (4), each: queue's id (8) · sequence number (8) · reason (4) · targets (4), each: queue's id (8) · sequence number (8); see broker/origins.h
 *   streams (4), each: id (8) · first offset (8) · next offset (8) · files (4), each:
 *       base offset (8) · end offset (8) · size (8) · highest timestamp (8)
 *   returns (4), each: queue's id (8) · sequence number (8) · how often the message came back (8)
 *   schedules (4), each: queue's id (8) · block number (8) · when its first message is due, milliseconds since 1970 (8)
 *   ids: key of their hashes (16) · the log's end (8): those of publishes below it are all here · queues (4), each:
 *       queue's id (8) · ids (4) · ids of what was scheduled (4), of both each: hash (16) · since when it is known, milliseconds since 1970 (8); see broker/dedup.h
 * Versions 1 to 3 were never released.
 */
#ifndef BROKER_SHARD_SNAPSHOT_H
#define BROKER_SHARD_SNAPSHOT_H

#include "broker/shard.h"

struct snapshot_head {
    uint64_t cutoff, clean_end;
    uint32_t shards;
};

/* Writes the snapshot of `shard` into a new chunk. `files`: the segment files as they were when `mark` was taken; blocks spilled at or after it are left
 * out (the log still has them). Their `live` is counted anew. */
enum gw_err shard_snapshot_write(struct shard *shard, const struct snapshot_head *head, uint32_t mark, struct segment_file_info *files, unsigned file_count,
                                 struct chunk **blob, uint64_t *size);

/* Applies a snapshot to a shard that is being opened: topology first (shard 0), then segment files, then slots. */
enum gw_err shard_snapshot_read(struct shard *shard, struct bytes blob, struct snapshot_head *head);

#endif
