/* An index of a queue's messages by the keys of their groups: whose turn is it? It knows sequence numbers and hashes of keys, nothing of queues and consumers.
 *
 *   key "a" ─ ready 3, 9, 12                 free: any consumer may have it
 *   key "b" ─ in flight 4, 5 │ ready 7       sticks to whoever has 4 and 5
 *   key "c" ─ in flight 6 │ came back 2      waits until 6 is settled; then 2 comes before all others
 *   no key  ─ ready 1, 8                     free, always
 *
 * Keys that are free and have something lie in one heap, those that stick to a holder in the holder's own; a heap's first is the one whose turn it is: the one with the
 * oldest message, or (fair) the one that has waited longest. The heaps are pairing heaps whose links lie in the keys, so that nothing that happens to a message in the
 * index needs memory.
 *
 * Two keys with the same 64-bit hash are one key: they keep each other's order too. A message that left its queue by another door is found to be gone when its turn
 * comes: group_index_drop. 16 bytes a message, and about 90 a key. */
#ifndef BROKER_GROUP_INDEX_H
#define BROKER_GROUP_INDEX_H

#include "base/bytes.h"

struct group_index;

/* Somebody whom keys stick to; zero-initialized it has none. The index knows it by its handle, and group_index_leave is said before it goes. */
struct group_holder {
    uint32_t root;           /* of its heap */
};

/* NULL: there is nobody of that handle (any more). */
typedef struct group_holder *group_holder_find(void *owner, uint32_t handle);

/* NULL: out of memory. */
struct group_index *group_index_new(bool fair, group_holder_find *find, void *owner);
void group_index_free(struct group_index *index);

/* Forgets everything, and gives the memory back. No holder has anything then: the caller resets them. */
void group_index_clear(struct group_index *index);

/* A ready message. `hash`: of its key; NULL: it has none. `late`: there may be higher numbers of its key already. False: out of memory. */
bool group_index_add(struct group_index *index, uint64_t seq, const uint64_t *hash, bool late);

/* One that is held already, by the handle `holder` (0: by somebody to whom nothing sticks). False: out of memory. */
bool group_index_add_held(struct group_index *index, uint64_t seq, const uint64_t *hash, uint32_t holder);

/* The message whose turn it is, among what is free and what sticks to `holder` (NULL: nobody). 0: there is none. `*group` is for gave and drop. */
uint64_t group_index_first(struct group_index *index, const struct group_holder *holder, uint32_t *group);

/* That message is about to be held by somebody. False: out of memory, do not. */
bool group_index_will_hold(struct group_index *index, uint32_t group);
/* It was not. */
void group_index_not_held(struct group_index *index, uint32_t group);

/* It was given to the handle `holder` (0: to somebody to whom nothing sticks). `held`: until it is settled; otherwise for good. */
void group_index_gave(struct group_index *index, uint32_t group, uint32_t holder, bool held);

/* It is not there any more. */
void group_index_drop(struct group_index *index, uint32_t group);

/* A message that was held is gone, is back, is kept by somebody to whom nothing sticks. False: none such was held. */
bool group_index_settled(struct group_index *index, uint64_t seq);
bool group_index_back(struct group_index *index, uint64_t seq);
bool group_index_kept(struct group_index *index, uint64_t seq);

/* The holder goes; what it holds is settled or comes back later. */
void group_index_leave(struct group_index *index, struct group_holder *holder);

/* Is anything free? How many ready messages are known, how many keys, how many of those are in flight? */
bool group_index_has_free(const struct group_index *index);
uint32_t group_index_ready(const struct group_index *index);
uint32_t group_index_keys(const struct group_index *index);
uint32_t group_index_held_keys(const struct group_index *index);
/* Bytes that it occupies. */
uint64_t group_index_memory(const struct group_index *index);
/* Most of them are of no use any more: it is worth while to clear it and to begin anew. */
bool group_index_is_sparse(const struct group_index *index);

#endif
