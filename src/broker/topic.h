/* The index of a topic exchange: binding keys as a tree of words, where * stands for one word and # for any number of them
 * (AMQP 0-9-1, section 3.1.3.3). */
#ifndef BROKER_TOPIC_H
#define BROKER_TOPIC_H

#include "base/bytes.h"
#include "base/err.h"

struct binding;
struct topic_node;

struct topic_node *topic_new(uint64_t seed);
void topic_free(struct topic_node *root);

/* Adds the binding under binding->routing_key, or takes it out again. */
enum gw_err topic_add(struct topic_node *root, struct binding *binding);
void topic_remove(struct topic_node *root, struct binding *binding);

/* Calls `found` once for each binding whose key matches `routing_key`. Marks nodes on its way: not for two threads at a time. */
void topic_match(struct topic_node *root, struct bytes routing_key, void (*found)(void *owner, struct binding *binding), void *owner);

#endif
