#include "broker/half.h"
#include "base/bugs.h"

#include "broker/half_index.h"
#include "broker/pending.h"
#include "broker/relay.h"
#include "broker/rules.h"
#include "broker/worker_internal.h"

#include <stdlib.h>

#define LOOK_MAX 1024u           /* messages that are dealt with in one look, … */
#define CHECKS_MAX 256u          /* … and check-backs sent */
#define RETRY_US 100000u         /* what the disk or the log did not give is asked for again */
#define LEAVING_US 20000u        /* so often it is looked whether the relay has moved what it holds */

struct half {
    struct half_index index;
    uint64_t *trash;             /* notes and decisions that nobody needs any more, to be removed: their blocks may have to be read for that */
    uint32_t trash_count, trash_capacity;
    uint64_t scan;               /* blocks below it are indexed */
    bool known;                  /* all are */
};

/* ---- what lies in the lane -------------------------------------------------------------------------------------------- */

enum finding { FOUND, GONE, PAGED };

struct lying {
    struct block_slot *slot;
    struct entry *entry;
    bool unacked;
};

/* PAGED: its block is being read. */
static enum finding find(struct shard *shard, struct queue *queue, uint64_t seq, struct lying *lying)
{
    lying->entry = lane_entry_at(&queue->lane, seq, &lying->slot, &lying->unacked);
    if (lying->entry)
        return FOUND;
    const struct block_slot *slot = lying->slot;
    if (!slot || (slot->block ? slot->block->entries || !bit_get(slot->block->ready, seq & (BLOCK_SIZE - 1)) : !slot->live))
        return GONE;
    shard_load_block(shard, queue, lying->slot, seq / BLOCK_SIZE);
    return PAGED;
}

static void throw_away(struct half *half, uint64_t seq)
{
    if (!seq)
        return;
    if (half->trash_count == half->trash_capacity) {
        uint32_t capacity = half->trash_capacity ? half->trash_capacity * 2 : 16;
        uint64_t *grown = realloc(half->trash, capacity * sizeof(*grown));
        CHECK(grown);   /* ending here loses nothing confirmed */
        half->trash = grown;
        half->trash_capacity = capacity;
    }
    half->trash[half->trash_count++] = seq;
}

/* The latest first: order means nothing here. False: a block is being read. */
static bool empty_trash(struct shard *shard, struct queue *queue)
{
    struct half *half = queue->half;
    for (unsigned i = 0; i < LOOK_MAX && half->trash_count; i++) {
        struct lying lying;
        uint64_t seq = half->trash[half->trash_count - 1];
        enum finding finding = find(shard, queue, seq, &lying);
        if (finding == PAGED)
            return false;
        if (finding == FOUND && !lying.unacked)
            shard_take_away(shard, queue, &queue->lane, seq, lying.slot, lying.entry, false);
        half->trash_count--;
    }
    return !half->trash_count;
}

static void forget(struct half *half, struct half_transaction *transaction)
{
    throw_away(half, transaction->note);
    throw_away(half, transaction->decision);
    half_index_remove(&half->index, transaction);
}

/* ---- after a restart: the lane is read -------------------------------------------------------------------------------- */

/* False: out of memory. */
static bool index_message(struct half *half, uint64_t seq, struct bytes content)
{
    struct message message;
    struct half_said said;
    char why[256];
    enum half_kind kind = message_read(content, &message)
                              ? half_read(message.exchange, message.routing_key, message.properties, 0, &said, why, sizeof(why))
                              : HALF_NONE;
    if (kind == HALF_NONE || kind == HALF_BAD)
        return true;
    struct half_transaction *transaction = half_index_make(&half->index, said.id, message.arrived_ms);
    if (!transaction)
        return false;
    if (kind == HALF_MESSAGE) {
        if (!half_index_reserve(&half->index, transaction, &said))
            return false;
        half_index_add(&half->index, transaction, seq, message.arrived_ms);
    } else if (kind == HALF_NOTE) {
        throw_away(half, transaction->note);
        transaction->note = seq;
        transaction->checks = said.checks;
        half_index_touch(transaction, message.arrived_ms);
    } else if (!transaction->decision) {
        transaction->decision = seq;
        transaction->commits = kind == HALF_COMMIT;
        transaction->state = HALF_GOING;
        transaction->decided_ms = message.arrived_ms;
        half_list_append(&half->index.going, transaction);
    } else {
        throw_away(half, seq);   /* a decision that the log refused, and has all the same */
    }
    return true;
}

static bool index_block(struct half *half, const struct lane *lane, uint64_t number)
{
    const struct block *block = lane_slot(lane, number)->block;
    for (unsigned i = 0; i < block->used; i++)
        if ((bit_get(block->ready, i) || bit_get(block->unacked, i)) && block->entries[i].chunk &&
            !index_message(half, number * BLOCK_SIZE + i, bytes_of(block->entries[i].chunk->data + block->entries[i].offset, block->entries[i].size)))
            return false;
    return true;
}

/* What was read says all that there is: notes without messages are of transactions that are over. */
static void finish_scan(struct shard *shard, struct queue *queue)
{
    struct half *half = queue->half;
    uint64_t last = half->index.next_number;
    half->known = true;
    for (uint64_t number = 1; number < last; number++) {
        struct half_transaction *transaction = half_index_number(&half->index, number);
        if (transaction->state != HALF_OPEN)
            continue;
        if (!transaction->count)
            forget(half, transaction);
        else
            CHECK(half_index_watch(&half->index, transaction));   /* as at a start without memory */
    }
    shard_mark_dirty(shard, queue);
}

/* Reads on, waiting for the disk (`now`), or asking it. */
static void scan(struct shard *shard, struct queue *queue, bool now)
{
    struct half *half = queue->half;
    const struct lane *lane = &queue->lane;
    if (half->scan < lane->first_block)
        half->scan = lane->first_block;
    for (; half->scan < lane->end_block; half->scan++) {
        struct block_slot *slot = lane_slot(lane, half->scan);
        bool lives = slot && (slot->block ? slot->block->ready_count || slot->block->unacked_count : slot->live);
        bool there = lives && slot->block && slot->block->entries && slot->block->bodies;
        if (!lives)
            continue;
        if (!there && now)
            there = shard_load_now(shard, queue, &queue->lane, half->scan);
        else if (!there && slot->state == SLOT_SPILLED)
            shard_load_block(shard, queue, slot, half->scan);
        slot = lane_slot(lane, half->scan);
        if (there ? !index_block(half, lane, half->scan) : slot != NULL) {
            shard_timer(shard, queue, shard->worker->now_us + RETRY_US);   /* nothing is taken in before all is known */
            return;
        }
        shard->page_us = 0;
        shard_page_out(shard);
    }
    finish_scan(shard, queue);
}

void half_open(struct shard *shard, struct queue *queue)
{
    queue->ruled = RULED_BY_TRANSACTIONS;
    if (queue->half)
        return;
    queue->half = calloc(1, sizeof(*queue->half));
    CHECK(queue->half);   /* ending here loses nothing confirmed */
    half_index_init(&queue->half->index, shard->worker->broker->hash_seed);
    scan(shard, queue, true);
}

void half_free(struct queue *queue)
{
    if (!queue->half)
        return;
    half_index_deinit(&queue->half->index);
    free(queue->half->trash);
    free(queue->half);
    queue->half = NULL;
}

/* ---- entering ----------------------------------------------------------------------------------------------------------- */

static uint64_t push(struct shard *shard, struct queue *queue, const struct content *content, uint64_t log_offset)
{
    uint64_t seq = lane_push(&queue->lane, content, log_offset, &shard->account, &shard->blocks);
    CHECK(seq);   /* no memory for 8 KiB: ending here loses nothing confirmed */
    return seq;
}

static uint64_t enter_message(struct shard *shard, struct queue *queue, const struct content *content, uint64_t log_offset, const struct half_said *said, uint64_t now_ms)
{
    struct half_index *index = &queue->half->index;
    struct half_transaction *transaction = half_index_find(index, said->id);
    bool is_new = !transaction;
    if ((transaction && transaction->state != HALF_OPEN) || index->messages >= HALF_MESSAGES_MAX || index->bytes >= HALF_INDEX_MAX)
        return 0;
    if (!transaction && !(transaction = half_index_make(index, said->id, now_ms)))
        return 0;
    uint64_t last_ms = transaction->last_ms;
    bool reserved = half_index_reserve(index, transaction, said);
    half_index_touch(transaction, now_ms);
    if (!reserved || !half_index_watch(index, transaction)) {
        transaction->last_ms = last_ms;
        if (is_new)
            half_index_remove(index, transaction);
        return 0;
    }
    uint64_t seq = push(shard, queue, content, log_offset);
    half_index_add(index, transaction, seq, now_ms);
    return seq;
}

static uint64_t enter_decision(struct shard *shard, struct queue *queue, const struct content *content, uint64_t log_offset, const struct half_said *said, bool commits,
                               uint64_t now_ms, bool *refused)
{
    struct half_transaction *transaction = half_index_find(&queue->half->index, said->id);
    bool decided = transaction && transaction->state != HALF_OPEN, gives_up = decided && transaction->state == HALF_DECIDING && transaction->given_up;
    if (!transaction || (decided && (transaction->commits != commits || gives_up))) {
        *refused = true;
        return 0;
    }
    if (decided)
        return 0;   /* it was said before: that is in the log, or on its way there before this, which is confirmed after it */
    transaction->commits = commits;
    transaction->state = HALF_DECIDING;
    transaction->decided_ms = now_ms;
    if (!bug_enabled(BUG_HALF_DECISION_LOST))
        transaction->decision = push(shard, queue, content, log_offset);
    *pending_add(shard) = (struct pending_confirm){.end = UINT64_MAX, .first = queue->id, .count = transaction->number, .kind = PENDING_DECIDED};
    return transaction->decision;
}

uint64_t half_enter(struct shard *shard, struct queue *queue, const struct content *content, uint64_t log_offset, bool *refused)
{
    struct message message;
    struct half_said said;
    char why[256];
    uint64_t now_ms = shard->worker->wall_us / 1000, seq = 0;
    enum half_kind kind = message_read(bytes_of(content->chunk->data + content->offset, content->size), &message)
                              ? half_read(message.exchange, message.routing_key, message.properties, 0, &said, why, sizeof(why))
                              : HALF_NONE;
    *refused = !queue->half || !queue->half->known || kind == HALF_NONE || kind == HALF_BAD || kind == HALF_NOTE;
    if (*refused)
        return 0;
    if (kind != HALF_MESSAGE)
        return enter_decision(shard, queue, content, log_offset, &said, kind == HALF_COMMIT, now_ms, refused);
    seq = enter_message(shard, queue, content, log_offset, &said, message.arrived_ms ? message.arrived_ms : now_ms);
    *refused = !seq;
    return seq;
}

/* A message of the broker's own for the queue. 0: out of memory. */
static uint64_t enter_own(struct shard *shard, struct queue *queue, const char *key, struct bytes properties)
{
    struct bytes exchange = bytes_of_text(HALF_EXCHANGE), routing_key = bytes_of_text(key);
    uint32_t content_size = (uint32_t)message_size(exchange.size, routing_key.size, properties.size, 0) + MESSAGE_STAMP_SIZE;
    uint32_t head = RECORD_HEADER_SIZE + PUBLISH_TARGET_SIZE, size = head + content_size;
    uint8_t *record = shard_own_room(shard, size);
    if (!record)
        return 0;
    message_begin(record + head, exchange, routing_key, properties, shard->worker->wall_us / 1000);
    const struct content content = {.chunk = shard->own.chunk, .offset = (uint32_t)(record + head - shard->own.chunk->data), .size = content_size,
                                    .crc = crc32c(0, record + head, content_size), .flags = ENTRY_PERSISTENT};
    uint64_t seq = push(shard, queue, &content, log_end(shard->log).offset);
    store_le64(record + RECORD_HEADER_SIZE, queue->id);
    store_le64(record + RECORD_HEADER_SIZE + 8, seq);
    record_begin(record, size, RECORD_PUBLISH, 1, content.crc);
    record_seal(record);
    shard_own_made(shard, size);
    return seq;
}

/* ---- decided ------------------------------------------------------------------------------------------------------------ */

void half_decided(struct shard *shard, uint64_t id, uint64_t number, bool ok)
{
    struct queue *queue = shard_queue(shard, id);
    struct half *half = queue ? queue->half : NULL;
    struct half_transaction *transaction = half ? half_index_number(&half->index, number) : NULL;
    if (!transaction || transaction->state != HALF_DECIDING)
        return;
    if (ok) {
        transaction->state = HALF_GOING;
        half_list_append(&half->index.going, transaction);
    } else {   /* nobody was told that it is decided */
        throw_away(half, transaction->decision);
        transaction->decision = 0;
        transaction->given_up = false;
        transaction->state = HALF_OPEN;
        CHECK(half_index_watch(&half->index, transaction));
    }
    shard_mark_dirty(shard, queue);
}

/* Deals with messages of a decided transaction. False: not all of them now, and *waits when it is not only that it was enough. */
static bool go_on_with(struct shard *shard, struct queue *queue, struct half_transaction *transaction, unsigned *dealt, bool *waits)
{
    uint32_t count = transaction->count - (bug_enabled(BUG_HALF_LAST_LOST) && transaction->commits && transaction->count > 1);
    for (; transaction->at < count; transaction->at++, ++*dealt) {
        struct lying lying;
        uint64_t seq = transaction->seqs[transaction->at];
        if (*dealt >= LOOK_MAX)
            return false;
        enum finding finding = find(shard, queue, seq, &lying);
        *waits = finding == PAGED;
        if (*waits || (transaction->commits && !relay_has_room(shard, queue)))
            return false;
        if (finding == GONE || lying.unacked)
            continue;   /* the relay has it since before a restart */
        if (transaction->commits)
            relay_take(shard, queue, &queue->lane, seq, lying.slot, lying.entry, false, DISCARD_COMMITTED);
        else
            shard_take_away(shard, queue, &queue->lane, seq, lying.slot, lying.entry, false);
    }
    return true;
}

/* False: something is to be waited for. */
static bool go_on(struct shard *shard, struct queue *queue)
{
    struct half_index *index = &queue->half->index;
    unsigned dealt = 0;
    bool waits = false;
    for (struct half_transaction *transaction; (transaction = index->going.first);) {
        if (!go_on_with(shard, queue, transaction, &dealt, &waits)) {
            if (dealt >= LOOK_MAX)
                shard_timer(shard, queue, shard->worker->now_us);
            return !waits;   /* without room in the relay the queue is marked when there is some */
        }
        half_list_take(&index->going);
        transaction->state = HALF_LEAVING;
        transaction->at = 0;
        half_list_append(&index->leaving, transaction);
    }
    return true;
}

/* Has the relay moved all of it? */
static bool has_left(struct shard *shard, struct queue *queue, struct half_transaction *transaction)
{
    for (; transaction->at < transaction->count; transaction->at++) {
        struct lying lying;
        if (find(shard, queue, transaction->seqs[transaction->at], &lying) != GONE && !bug_enabled(BUG_HALF_LAST_LOST))
            return false;
    }
    return true;
}

static void see_off(struct shard *shard, struct queue *queue)
{
    struct half *half = queue->half;
    for (struct half_transaction *transaction; (transaction = half->index.leaving.first) && has_left(shard, queue, transaction);) {
        half_list_take(&half->index.leaving);
        throw_away(half, transaction->note);
        transaction->note = 0;
        half_index_done(&half->index, transaction);
    }
    uint64_t now_ms = shard->worker->wall_us / 1000;
    for (struct half_transaction *oldest; (oldest = half->index.done.first);) {
        if (half->index.done.count <= HALF_DONE_MAX && oldest->decided_ms + HALF_DONE_US / 1000 > now_ms)
            break;
        half_list_take(&half->index.done);
        forget(half, oldest);
    }
}

/* ---- check-backs ---------------------------------------------------------------------------------------------------------- */

static void ask(struct shard *shard, const struct queue *queue, const struct half_transaction *transaction)
{
    const struct queue_entry *entry = topology_queue_by_id(&shard->worker->topology, queue->id);
    struct exchange *exchange = entry ? topology_exchange(entry->vhost, (struct bytes){0}) : NULL;
    uint8_t room[HALF_PROPERTIES_SIZE];
    const struct half_check check = {transaction->id, transaction->checks, transaction->limit, transaction->count, shard->worker->wall_us / 1000000};
    const struct own_message message = {.routing_key = transaction->check_queue, .properties = half_check_properties(&check, room), .persistent = true};
    if (exchange && transaction->check_queue.size)
        worker_publish(shard->worker, exchange, &message);
}

/* Its producer is asked, or, if that was done often enough, it is rolled back. False: out of memory. */
static bool check(struct shard *shard, struct queue *queue, struct half_transaction *transaction, bool *given_up)
{
    uint8_t room[HALF_PROPERTIES_SIZE];
    *given_up = transaction->checks >= transaction->limit;
    if (*given_up) {
        transaction->commits = bug_enabled(BUG_HALF_SILENT_COMMITTED);
        struct bytes properties = half_note_properties(transaction->id, transaction->checks ? transaction->checks : 1, room);
        uint64_t seq = enter_own(shard, queue, transaction->commits ? "commit" : "rollback", properties);
        if (!seq)
            return false;
        transaction->decision = seq;
        transaction->given_up = true;
        transaction->decided_ms = shard->worker->wall_us / 1000;
        transaction->state = HALF_DECIDING;
        shard_own_pending(shard, PENDING_GIVEN_UP, queue->id, transaction->number);
        return true;
    }
    uint64_t note = enter_own(shard, queue, "check", half_note_properties(transaction->id, transaction->checks + 1, room));
    if (!note)
        return false;
    throw_away(queue->half, transaction->note);
    transaction->note = note;
    transaction->checks++;
    half_index_touch(transaction, shard->worker->wall_us / 1000);
    ask(shard, queue, transaction);
    return true;
}

/* Answers when it must be done again, milliseconds since 1970. */
static uint64_t check_all(struct shard *shard, struct queue *queue)
{
    struct half_index *index = &queue->half->index;
    uint64_t now_ms = shard->worker->wall_us / 1000, next_ms = UINT64_MAX;
    unsigned given_up = 0;
    bool failed = log_state(shard->log) != GW_OK;
    char last[HALF_ID_MAX + 1] = "";
    struct half_transaction *transaction;
    for (unsigned i = 0; !failed && (transaction = half_index_due(index, now_ms, &next_ms)); i++) {
        bool gives_up = false;
        failed = !check(shard, queue, transaction, &gives_up);
        if (gives_up && !failed) {
            given_up++;
            memcpy(last, transaction->id.data, transaction->id.size);
            last[transaction->id.size] = 0;
        }
        if (transaction->state == HALF_OPEN)
            CHECK(half_index_watch(index, transaction));   /* there is room: its entry was taken out */
        if (i + 1 == CHECKS_MAX) {
            next_ms = now_ms;
            break;
        }
    }
    if (given_up)
        alarm_raise(shard->alarms, ALARM_WARNING, "%u transactions that nobody decided are rolled back, the last of them '%s'", given_up, last);
    return failed ? now_ms + RETRY_US / 1000 : next_ms;
}

/* ---- looking ------------------------------------------------------------------------------------------------------------- */

void half_look(struct shard *shard, struct queue *queue)
{
    struct half *half = queue->half;
    uint64_t now_us = shard->worker->now_us, wall_us = shard->worker->wall_us;
    if (!half->known)
        scan(shard, queue, false);
    if (!half->known)
        return;
    bool done = go_on(shard, queue);
    see_off(shard, queue);
    uint64_t next_ms = check_all(shard, queue);
    done &= empty_trash(shard, queue);
    if (!done)
        shard_timer(shard, queue, now_us + (half->trash_count > 1 ? RETRY_US / 10 : RETRY_US));   /* a block that is read marks the queue, too */
    if (half->index.leaving.first)
        shard_timer(shard, queue, now_us + LEAVING_US);
    if (half->index.done.first && half->index.done.first->decided_ms + HALF_DONE_US / 1000 < next_ms)
        next_ms = half->index.done.first->decided_ms + HALF_DONE_US / 1000;
    if (next_ms != UINT64_MAX)
        shard_timer(shard, queue, now_us + (next_ms * 1000 > wall_us ? next_ms * 1000 - wall_us : 0));
}

/* ---- telling -------------------------------------------------------------------------------------------------------------- */

static const char *state_of(const struct half_transaction *transaction)
{
    if (transaction->state < HALF_GOING)
        return transaction->state == HALF_OPEN ? "open" : "deciding";
    return transaction->commits ? "committing" : "rolling back";
}

bool half_next(const struct queue *queue, uint32_t *cursor, uint64_t wall_us, struct half_row *row)
{
    const struct half_transaction *transaction;
    do {
        transaction = queue->half ? map_next(&queue->half->index.by_number, cursor) : NULL;
    } while (transaction && transaction->state == HALF_DONE);
    if (!transaction)
        return false;
    uint64_t now_ms = wall_us / 1000, due_ms = half_due_ms(transaction);
    *row = (struct half_row){.id = transaction->id, .check_queue = transaction->check_queue, .state = state_of(transaction), .messages = transaction->count,
                             .checks = transaction->checks, .check_limit = transaction->limit,
                             .age_ms = now_ms > transaction->since_ms ? now_ms - transaction->since_ms : 0, .due_in_ms = due_ms > now_ms ? due_ms - now_ms : 0};
    return true;
}
