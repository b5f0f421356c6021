#include "broker/topic.h"

#include "base/map.h"
#include "broker/topology.h"

#include <stdlib.h>

/* A routing key is at most 255 bytes, so it has at most 256 words. */
#define WORDS_MAX 256u

struct topic_node {
    struct bytes word;              /* lies behind the struct; empty in the root */
    struct name_map children;
    struct topic_node *star, *hash; /* the children for * and # */
    struct binding *bindings;
    struct topic_node *parent;
};

static struct bytes word_of(const void *node)
{
    return ((const struct topic_node *)node)->word;
}

static struct topic_node *node_new(struct topic_node *parent, struct bytes word, uint64_t seed)
{
    struct topic_node *node = calloc(1, sizeof(*node) + word.size);
    if (!node)
        return NULL;
    if (word.size)
        memcpy(node + 1, word.data, word.size);
    node->word = bytes_of(node + 1, word.size);
    node->parent = parent;
    name_map_init(&node->children, word_of, seed);
    return node;
}

struct topic_node *topic_new(uint64_t seed)
{
    return node_new(NULL, (struct bytes){0}, seed);
}

void topic_free(struct topic_node *root)
{
    if (!root)
        return;
    uint32_t cursor = 0;
    for (struct topic_node *child; (child = map_next(&root->children.map, &cursor));)
        topic_free(child);
    topic_free(root->star);
    topic_free(root->hash);
    name_map_deinit(&root->children);
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

static struct topic_node *child_of(const struct topic_node *node, struct bytes word)
{
    if (is_word(word, '*'))
        return node->star;
    if (is_word(word, '#'))
        return node->hash;
    return name_map_get(&node->children, word);
}

static struct topic_node *add_child(struct topic_node *node, struct bytes word)
{
    struct topic_node *child = node_new(node, word, node->children.seed);
    if (!child)
        return NULL;
    if (is_word(word, '*'))
        node->star = child;
    else if (is_word(word, '#'))
        node->hash = child;
    else if (name_map_put(&node->children, child)) {
        free(child);
        return NULL;
    }
    return child;
}

/* Frees nodes that nothing needs any more, from `node` up to the root. */
static void prune(struct topic_node *node)
{
    while (node->parent && !node->bindings && !node->star && !node->hash && !node->children.map.count) {
        struct topic_node *parent = node->parent;
        if (parent->star == node)
            parent->star = NULL;
        else if (parent->hash == node)
            parent->hash = NULL;
        else
            name_map_remove(&parent->children, node->word);
        name_map_deinit(&node->children);
        free(node);
        node = parent;
    }
}

enum gw_err topic_add(struct topic_node *root, struct binding *binding)
{
    struct topic_node *node = root;
    struct bytes key = binding->routing_key, word;
    for (bool more = key.size > 0; next_word(&key, &more, &word);) {
        struct topic_node *child = child_of(node, word);
        if (!child)
            child = add_child(node, word);
        if (!child) {
            prune(node);
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
        node = child_of(node, word);
        CHECK(node);
    }
    struct binding **at = &node->bindings;
    while (*at != binding) {
        CHECK(*at);
        at = &(*at)->route_next;
    }
    *at = binding->route_next;
    prune(node);
}

struct topic_search {
    struct bytes words[WORDS_MAX];
    unsigned count;
    void (*found)(void *owner, struct binding *binding);
    void *owner;
};

static void report(const struct topic_node *node, const struct topic_search *search)
{
    for (struct binding *binding = node->bindings; binding; binding = binding->route_next)
        search->found(search->owner, binding);
}

static void match(const struct topic_node *node, unsigned at, const struct topic_search *search);

/* `node` is a #: it may stand for none of the remaining words, one, two, … */
static void match_any_number(const struct topic_node *node, unsigned at, const struct topic_search *search)
{
    bool leaf = !node->star && !node->hash && !node->children.map.count;
    if (leaf) {
        report(node, search);
        return;
    }
    for (unsigned from = at; from <= search->count; from++)
        match(node, from, search);
    /* match() reported the bindings of the node itself when it took all words: from == count. */
}

static void match(const struct topic_node *node, unsigned at, const struct topic_search *search)
{
    if (node->hash)
        match_any_number(node->hash, at, search);
    if (at == search->count) {
        report(node, search);
        return;
    }
    if (node->star)
        match(node->star, at + 1, search);
    struct topic_node *child = name_map_get(&node->children, search->words[at]);
    if (child)
        match(child, at + 1, search);
}

void topic_match(const struct topic_node *root, struct bytes routing_key, void (*found)(void *owner, struct binding *binding), void *owner)
{
    struct topic_search search = {.found = found, .owner = owner};
    struct bytes word;
    for (bool more = routing_key.size > 0; search.count < WORDS_MAX && next_word(&routing_key, &more, &word);)
        search.words[search.count++] = word;
    match(root, 0, &search);
}
