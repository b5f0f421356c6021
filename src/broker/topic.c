#include "broker/topic.h"

#include "base/map.h"
#include "broker/topology.h"

#include <stdlib.h>

/* What matching looks at comes first: with many bindings, the memory that is touched is what takes time. */
struct topic_node {
    uint64_t reached_at[2];
    struct topic_node *link[2];     /* see topic_match */
    struct topic_node *star, *hash; /* the children for * and # */
    struct map children;            /* the hash of a child's word → the first child with it */
    struct binding *bindings;
    bool is_hash;
    struct bytes word;              /* lies behind the struct; empty in the root */
    struct topic_node *twin;        /* the next child whose word has the same hash */
    struct topic_node *parent;
    uint64_t steps, seed;           /* the root's */
};

static struct topic_node *node_new(struct topic_node *parent, struct bytes word)
{
    struct topic_node *node = calloc(1, sizeof(*node) + word.size);
    if (!node)
        return NULL;
    if (word.size)
        memcpy(node + 1, word.data, word.size);
    node->word = bytes_of(node + 1, word.size);
    node->parent = parent;
    return node;
}

struct topic_node *topic_new(uint64_t seed)
{
    struct topic_node *root = node_new(NULL, (struct bytes){0});
    if (root)
        root->seed = seed;
    return root;
}

void topic_free(struct topic_node *root)
{
    if (!root)
        return;
    uint32_t cursor = 0;
    for (struct topic_node *child; (child = map_next(&root->children, &cursor));)
        while (child) {
            struct topic_node *twin = child->twin;
            topic_free(child);
            child = twin;
        }
    topic_free(root->star);
    topic_free(root->hash);
    map_deinit(&root->children);
    free(root);
}

/* Cuts the next word off `key`; false at its end. An empty key has no words. */
static bool next_word(struct bytes *key, bool *more, struct bytes *word)
{
    if (!*more)
        return false;
    const uint8_t *dot = key->size ? memchr(key->data, '.', key->size) : NULL;
    if (dot) {
        *word = bytes_of(key->data, (size_t)(dot - key->data));
        *key = bytes_of(dot + 1, key->size - word->size - 1);
    } else {
        *word = *key;
        *more = false;
    }
    return true;
}

static bool is_word(struct bytes word, char wildcard)
{
    return word.size == 1 && word.data[0] == wildcard;
}

static struct topic_node *named_child(const struct topic_node *node, struct bytes word, uint64_t hash)
{
    struct topic_node *child = node->children.count ? map_get(&node->children, hash) : NULL;
    while (child && !bytes_equal(child->word, word))
        child = child->twin;
    return child;
}

static struct topic_node *child_of(const struct topic_node *node, struct bytes word, uint64_t seed)
{
    if (is_word(word, '*'))
        return node->star;
    if (is_word(word, '#'))
        return node->hash;
    return named_child(node, word, bytes_hash(word, seed));
}

static struct topic_node *add_child(struct topic_node *node, struct bytes word, uint64_t seed)
{
    struct topic_node *child = node_new(node, word);
    if (!child)
        return NULL;
    if (is_word(word, '*')) {
        node->star = child;
    } else if (is_word(word, '#')) {
        child->is_hash = true;
        node->hash = child;
    } else {
        uint64_t hash = bytes_hash(word, seed);
        child->twin = map_get(&node->children, hash);
        if (map_put(&node->children, hash, child)) {
            free(child);
            return NULL;
        }
    }
    return child;
}

static void remove_child(struct topic_node *node, struct topic_node *child, uint64_t seed)
{
    uint64_t hash = bytes_hash(child->word, seed);
    struct topic_node *first = map_remove(&node->children, hash), **at = &first;
    while (*at != child)
        at = &(*at)->twin;
    *at = child->twin;
    if (first)
        CHECK(!map_put(&node->children, hash, first));   /* its place is free again */
}

/* Frees nodes that nothing needs any more, from `node` up to the root. */
static void prune(struct topic_node *node, uint64_t seed)
{
    while (node->parent && !node->bindings && !node->star && !node->hash && !node->children.count) {
        struct topic_node *parent = node->parent;
        if (parent->star == node)
            parent->star = NULL;
        else if (parent->hash == node)
            parent->hash = NULL;
        else
            remove_child(parent, node, seed);
        map_deinit(&node->children);
        free(node);
        node = parent;
    }
}

enum gw_err topic_add(struct topic_node *root, struct binding *binding)
{
    struct topic_node *node = root;
    struct bytes key = binding->routing_key, word;
    for (bool more = key.size > 0; next_word(&key, &more, &word);) {
        struct topic_node *child = child_of(node, word, root->seed);
        if (!child)
            child = add_child(node, word, root->seed);
        if (!child) {
            prune(node, root->seed);
            return GW_ERR_NOMEM;
        }
        node = child;
    }
    binding->route_next = node->bindings;
    node->bindings = binding;
    return GW_OK;
}

void topic_remove(struct topic_node *root, struct binding *binding)
{
    struct topic_node *node = root;
    struct bytes key = binding->routing_key, word;
    for (bool more = key.size > 0; next_word(&key, &more, &word);) {
        node = child_of(node, word, root->seed);
        CHECK(node);
    }
    struct binding **at = &node->bindings;
    while (*at != binding) {
        CHECK(*at);
        at = &(*at)->route_next;
    }
    *at = binding->route_next;
    prune(node, root->seed);
}

/* The tree is gone through one word at a time, with the set of all nodes that the words so far lead to: each node is in it once, so that no key and no
 * set of bindings makes it cost more than words times nodes. A # leads to itself with every word, and its parent leads to it with none. */
struct topic_search {
    struct topic_node *reached[2];   /* lists of this step's and the next step's nodes, linked through node->link */
    uint64_t step;
};

static void reach(struct topic_search *search, struct topic_node *node, uint64_t step)
{
    for (; node && node->reached_at[step & 1] != step; node = node->hash) {
        node->reached_at[step & 1] = step;
        node->link[step & 1] = search->reached[step & 1];
        search->reached[step & 1] = node;
    }
}

void topic_match(struct topic_node *root, struct bytes routing_key, void (*found)(void *owner, struct binding *binding), void *owner)
{
    /* Steps go on counting from match to match, so that marks of earlier ones mean nothing. */
    struct topic_search search = {.step = root->steps + 2};
    struct bytes word;
    reach(&search, root, search.step);
    for (bool more = routing_key.size > 0; next_word(&routing_key, &more, &word); search.step++) {
        unsigned now = search.step & 1;
        uint64_t hash = bytes_hash(word, root->seed);
        search.reached[now ^ 1] = NULL;
        for (struct topic_node *node = search.reached[now]; node; node = node->link[now]) {
            if (node->is_hash)
                reach(&search, node, search.step + 1);
            if (node->star)
                reach(&search, node->star, search.step + 1);
            if (node->children.count)
                reach(&search, named_child(node, word, hash), search.step + 1);
        }
    }
    root->steps = search.step;
    unsigned last = search.step & 1;
    for (const struct topic_node *node = search.reached[last]; node; node = node->link[last])
        for (struct binding *binding = node->bindings; binding; binding = binding->route_next)
            found(owner, binding);
}
