#include "runtime/mailbox.h"

#include "base/err.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#define CACHE_LINE 64

/* head and tail count for ever; an item's place is its number modulo the capacity.
 *
 * Both ways of sleeping follow one pattern: the sleeper writes its flag, then looks once more; the other side writes the count,
 * then looks at the flag. All four are sequentially consistent, so that at least one of the two sees the other: with anything
 * weaker both may look too early, and the wake-up is lost. */
struct mailbox {
    _Alignas(CACHE_LINE) atomic_uint tail;   /* next to put */
    unsigned head_seen;                      /* the producer's copy: there is at least this much room */
    bool unposted;                           /* the producer's: put since the last post */

    _Alignas(CACHE_LINE) atomic_uint head;   /* next to take */
    unsigned tail_seen;                      /* the consumer's copy */

    _Alignas(CACHE_LINE) atomic_bool armed;  /* the consumer may sleep: wake it */
    atomic_bool room_wanted;                 /* the producer was refused: wake it */
    unsigned capacity;
    struct wake *consumer, *producer;
    void *items[];
};

struct mailbox *mailbox_new(unsigned capacity, struct wake *consumer, struct wake *producer)
{
    CHECK(capacity > 0 && (capacity & (capacity - 1)) == 0);
    size_t size = sizeof(struct mailbox) + capacity * sizeof(void *);
    size = (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    struct mailbox *m = aligned_alloc(CACHE_LINE, size);
    if (!m)
        return NULL;
    *m = (struct mailbox){.capacity = capacity, .consumer = consumer, .producer = producer};
    atomic_init(&m->armed, true);
    return m;
}

void mailbox_free(struct mailbox *mailbox)
{
    free(mailbox);
}

bool mailbox_put(struct mailbox *m, void *item)
{
    unsigned tail = atomic_load_explicit(&m->tail, memory_order_relaxed);
    if (tail - m->head_seen == m->capacity) {
        m->head_seen = atomic_load_explicit(&m->head, memory_order_acquire);
        if (tail - m->head_seen == m->capacity) {
            atomic_store(&m->room_wanted, true);
            m->head_seen = atomic_load(&m->head);
            if (tail - m->head_seen == m->capacity)
                return false;
            atomic_store_explicit(&m->room_wanted, false, memory_order_relaxed);
        }
    }
    m->items[tail & (m->capacity - 1)] = item;
    atomic_store(&m->tail, tail + 1);
    m->unposted = true;
    return true;
}

void mailbox_post(struct mailbox *m)
{
    if (!m->unposted)
        return;
    m->unposted = false;
    if (atomic_load(&m->armed) && atomic_exchange(&m->armed, false))
        wake_send(m->consumer);
}

/* Is there an item? Arms the mailbox when there is none. */
static bool has_item(struct mailbox *m, unsigned head)
{
    if (head != m->tail_seen)
        return true;
    m->tail_seen = atomic_load_explicit(&m->tail, memory_order_acquire);
    if (head != m->tail_seen)
        return true;
    /* Armed since an earlier look, so whatever is put from now on wakes us. */
    if (atomic_load_explicit(&m->armed, memory_order_relaxed))
        return false;
    atomic_store(&m->armed, true);
    m->tail_seen = atomic_load(&m->tail);
    return head != m->tail_seen;
}

void *mailbox_take(struct mailbox *m)
{
    unsigned head = atomic_load_explicit(&m->head, memory_order_relaxed);
    if (!has_item(m, head))
        return NULL;
    /* Awake, and it will look again before it sleeps: a wake-up meanwhile would be wasted. */
    if (atomic_load_explicit(&m->armed, memory_order_relaxed))
        atomic_store_explicit(&m->armed, false, memory_order_relaxed);
    void *item = m->items[head & (m->capacity - 1)];
    head++;
    atomic_store(&m->head, head);
    /* Not before half of it is free, or the two loops would wake each other for every single item. */
    if (atomic_load(&m->room_wanted) && m->tail_seen - head <= m->capacity / 2 && atomic_exchange(&m->room_wanted, false))
        wake_send(m->producer);
    return item;
}
