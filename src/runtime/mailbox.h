/* A mailbox: pointers from one thread's loop to another's, in order, bounded, without a lock.
 *
 * One producer and one consumer. The consumer's loop is woken at most once a turn of the producer, and only when the consumer
 * has seen its mailbox empty since; the producer's loop is woken when a full mailbox has room again. */
#ifndef RUNTIME_MAILBOX_H
#define RUNTIME_MAILBOX_H

#include "runtime/wake.h"

#include <stdbool.h>

struct mailbox;

/* Room for `capacity` items, a power of two. What wakes the two loops is borrowed until mailbox_free. NULL: out of memory. */
struct mailbox *mailbox_new(unsigned capacity, struct wake *consumer, struct wake *producer);

/* After both loops have ended. Items that are still in it are forgotten. */
void mailbox_free(struct mailbox *mailbox);

/* Producer: gives `item` (not NULL) away. False: the mailbox is full, the item is still the caller's, and the producer's loop
 * will be woken when there is room. Never blocks. */
bool mailbox_put(struct mailbox *mailbox, void *item);

/* Producer, at the end of a turn: wakes the consumer if it may be asleep and something was put since the last post. */
void mailbox_post(struct mailbox *mailbox);

/* Consumer: the oldest item, now the caller's; NULL when there is none. The consumer's loop may sleep only after it was answered
 * NULL: until then it is not woken. */
void *mailbox_take(struct mailbox *mailbox);

#endif
