#include "broker/half_index.h"

#include <stdlib.h>

#define OVERHEAD 96u   /* of one transaction in the maps and the heap, bytes */

static struct bytes id_of(const void *value)
{
    return ((const struct half_transaction *)value)->id;
}

void half_index_init(struct half_index *index, uint64_t seed)
{
    *index = (struct half_index){.next_number = 1};
    name_map_init(&index->by_id, id_of, seed);
}

static void free_transaction(struct half_transaction *transaction)
{
    free((void *)(uintptr_t)transaction->check_queue.data);
    free(transaction->seqs);
    free(transaction);
}

void half_index_deinit(struct half_index *index)
{
    uint32_t cursor = 0;
    for (struct half_transaction *transaction; (transaction = map_next(&index->by_number, &cursor));)
        free_transaction(transaction);
    map_deinit(&index->by_number);
    name_map_deinit(&index->by_id);
    delay_deinit(&index->due);
}

struct half_transaction *half_index_find(const struct half_index *index, struct bytes id)
{
    return name_map_get(&index->by_id, id);
}

struct half_transaction *half_index_number(const struct half_index *index, uint64_t number)
{
    return map_get(&index->by_number, number);
}

static uint64_t size_of(const struct half_transaction *transaction)
{
    return sizeof(*transaction) + OVERHEAD + transaction->id.size + transaction->check_queue.size + transaction->capacity * sizeof(*transaction->seqs);
}

struct half_transaction *half_index_make(struct half_index *index, struct bytes id, uint64_t now_ms)
{
    struct half_transaction *transaction = half_index_find(index, id);
    if (transaction)
        return transaction;
    transaction = calloc(1, sizeof(*transaction) + id.size);
    if (!transaction)
        return NULL;
    memcpy(transaction->bytes, id.data, id.size);
    transaction->id = bytes_of(transaction->bytes, id.size);
    transaction->number = index->next_number;
    transaction->after_ms = HALF_AFTER_DEFAULT_MS;
    transaction->limit = HALF_LIMIT_DEFAULT;
    transaction->since_ms = transaction->last_ms = now_ms;
    if (map_put(&index->by_number, transaction->number, transaction)) {
        free(transaction);
        return NULL;
    }
    if (name_map_put(&index->by_id, transaction)) {
        map_remove(&index->by_number, transaction->number);
        free(transaction);
        return NULL;
    }
    index->next_number++;
    index->bytes += size_of(transaction);
    return transaction;
}

void half_index_remove(struct half_index *index, struct half_transaction *transaction)
{
    index->bytes -= size_of(transaction);
    index->messages -= transaction->count;
    name_map_remove(&index->by_id, transaction->id);
    map_remove(&index->by_number, transaction->number);
    free_transaction(transaction);
}

bool half_index_reserve(struct half_index *index, struct half_transaction *transaction, const struct half_said *said)
{
    uint8_t *name = NULL;
    uint64_t before = size_of(transaction);
    bool asks_elsewhere = said->check_queue.size && !bytes_equal(said->check_queue, transaction->check_queue);
    if (asks_elsewhere && !(name = malloc(said->check_queue.size)))
        return false;
    if (transaction->count == transaction->capacity) {
        uint32_t capacity = transaction->capacity ? transaction->capacity * 2 : 2;
        uint64_t *grown = capacity > HALF_SEQS_MAX ? NULL : realloc(transaction->seqs, capacity * sizeof(*grown));
        if (!grown) {
            free(name);
            return false;
        }
        transaction->seqs = grown;
        transaction->capacity = capacity;
    }
    if (asks_elsewhere) {
        memcpy(name, said->check_queue.data, said->check_queue.size);
        free((void *)(uintptr_t)transaction->check_queue.data);
        transaction->check_queue = bytes_of(name, said->check_queue.size);
    }
    if (said->says_after)
        transaction->after_ms = said->check_after_ms;
    if (said->says_limit)
        transaction->limit = said->check_limit;
    index->bytes += size_of(transaction) - before;
    return true;
}

void half_index_add(struct half_index *index, struct half_transaction *transaction, uint64_t seq, uint64_t now_ms)
{
    transaction->seqs[transaction->count++] = seq;
    half_index_touch(transaction, now_ms);
    index->messages++;
}

/* ---- time ---------------------------------------------------------------------------------------------------------- */

bool half_index_watch(struct half_index *index, struct half_transaction *transaction)
{
    uint64_t due_ms = half_due_ms(transaction);
    if (transaction->queued_ms && transaction->queued_ms <= due_ms)
        return true;   /* it is looked at before, and then anew */
    if (!delay_push(&index->due, due_ms, transaction->number))
        return false;
    transaction->queued_ms = due_ms;
    return true;
}

struct half_transaction *half_index_due(struct half_index *index, uint64_t now_ms, uint64_t *next_ms)
{
    const struct due *first;
    while ((first = delay_first(&index->due)) && first->at_ms <= now_ms) {
        struct half_transaction *transaction = half_index_number(index, first->seq);
        bool current = transaction && transaction->queued_ms == first->at_ms;
        delay_pop(&index->due);
        if (!current)
            continue;
        transaction->queued_ms = 0;
        if (transaction->state == HALF_OPEN && half_due_ms(transaction) <= now_ms)
            return transaction;
        if (transaction->state == HALF_OPEN)
            CHECK(half_index_watch(index, transaction));   /* there is room: one was taken out */
    }
    *next_ms = first ? first->at_ms : UINT64_MAX;
    return NULL;
}

/* ---- lists --------------------------------------------------------------------------------------------------------- */

void half_list_append(struct half_list *list, struct half_transaction *transaction)
{
    transaction->next = NULL;
    if (list->last)
        list->last->next = transaction;
    else
        list->first = transaction;
    list->last = transaction;
    list->count++;
}

struct half_transaction *half_list_take(struct half_list *list)
{
    struct half_transaction *transaction = list->first;
    if (!transaction)
        return NULL;
    list->first = transaction->next;
    if (!list->first)
        list->last = NULL;
    list->count--;
    return transaction;
}

void half_index_done(struct half_index *index, struct half_transaction *transaction)
{
    index->bytes -= size_of(transaction);
    index->messages -= transaction->count;
    free(transaction->seqs);
    free((void *)(uintptr_t)transaction->check_queue.data);
    transaction->seqs = NULL;
    transaction->check_queue = (struct bytes){0};
    transaction->count = transaction->capacity = transaction->at = 0;
    transaction->state = HALF_DONE;
    index->bytes += size_of(transaction);
    half_list_append(&index->done, transaction);
}
