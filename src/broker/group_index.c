#include "broker/group_index.h"
#include "base/bugs.h"

#include "base/map.h"

#include <stdlib.h>

#define FIRST_CAPACITY 64u
#define KEYLESS 1u           /* the group of the messages without a key */
#define MEMORY_KEPT (1u << 20)
#define SPARSE 8u            /* so many times as much memory as is used */
#define LOOK_MAX 32u         /* places that a late message looks for its own at most */

struct node {
    uint64_t seq;
    uint32_t next, group;    /* next: in its group's list, in the list of free ones */
};

enum place { NOWHERE, FREE, STICKING };

struct group {
    uint64_t hash, rank;
    uint32_t holder;         /* a handle; 0: nobody, or nobody to whom it sticks */
    uint32_t first, last;    /* ready, in order */
    uint32_t back;           /* ready again, in any order, waiting until nothing is in flight */
    uint32_t in_flight;
    uint32_t child, sibling, before;   /* in a heap; before: its parent or elder sibling */
    uint8_t place;           /* enum place */
};

struct group_index {
    struct node *nodes;      /* from 1; 0 means none, as for groups */
    struct group *groups;
    uint32_t node_count, node_capacity, node_free;
    uint32_t group_count, group_capacity, group_free;
    uint32_t ready;
    uint32_t held_keys;      /* that have something in flight */
    uint32_t root;           /* of the heap of what is free */
    uint64_t turn;
    struct map keys;         /* hash → group */
    struct map held;         /* sequence number → node */
    bool fair;
    group_holder_find *find;
    void *owner;
};

static void *as_value(uint32_t number) { return (void *)(uintptr_t)number; }
static uint32_t as_number(const void *value) { return (uint32_t)(uintptr_t)value; }

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

struct group_index *group_index_new(bool fair, group_holder_find *find, void *owner)
{
    struct group_index *index = malloc(sizeof(*index));
    if (index)
        *index = (struct group_index){.fair = fair, .find = find, .owner = owner};
    return index;
}

void group_index_clear(struct group_index *index)
{
    free(index->nodes);
    free(index->groups);
    map_deinit(&index->keys);
    map_deinit(&index->held);
    *index = (struct group_index){.fair = index->fair, .find = index->find, .owner = index->owner};
}

void group_index_free(struct group_index *index)
{
    if (!index)
        return;
    group_index_clear(index);
    free(index);
}

/* Large arrays grow by less than they have. */
static void *grow(void *array, uint32_t *capacity, size_t size)
{
    uint64_t more = *capacity ? (uint64_t)*capacity + (*capacity < 65536 ? *capacity : *capacity / 4) : FIRST_CAPACITY;
    void *grown = more > UINT32_MAX / 2 ? NULL : realloc(array, more * size);
    if (grown)
        *capacity = (uint32_t)more;
    return grown;
}

static uint32_t node_new(struct group_index *index, uint64_t seq, uint32_t group)
{
    uint32_t at = index->node_free;
    if (at) {
        index->node_free = index->nodes[at].next;
    } else {
        if (index->node_count + 1 >= index->node_capacity) {
            struct node *grown = grow(index->nodes, &index->node_capacity, sizeof(*grown));
            if (!grown)
                return 0;
            index->nodes = grown;
        }
        at = ++index->node_count;
    }
    index->nodes[at] = (struct node){seq, 0, group};
    return at;
}

static void node_free(struct group_index *index, uint32_t at)
{
    index->nodes[at].next = index->node_free;
    index->node_free = at;
}

static uint32_t group_new(struct group_index *index, uint64_t hash)
{
    uint32_t at = index->group_free;
    if (at) {
        index->group_free = index->groups[at].sibling;
    } else {
        if (index->group_count + 1 >= index->group_capacity) {
            struct group *grown = grow(index->groups, &index->group_capacity, sizeof(*grown));
            if (!grown)
                return 0;
            index->groups = grown;
        }
        at = ++index->group_count;
    }
    index->groups[at] = (struct group){.hash = hash, .rank = ++index->turn};
    return at;
}

static void group_free(struct group_index *index, uint32_t at)
{
    index->groups[at].sibling = index->group_free;
    index->group_free = at;
}

/* 0: out of memory. */
static uint32_t group_of(struct group_index *index, const uint64_t *hash)
{
    if (!index->group_count && group_new(index, 0) != KEYLESS)
        return 0;
    if (!hash)
        return KEYLESS;
    uint32_t at = as_number(map_get(&index->keys, *hash));
    if (at)
        return at;
    at = group_new(index, *hash);
    if (at && map_put(&index->keys, *hash, as_value(at))) {
        group_free(index, at);
        return 0;
    }
    return at;
}

/* ---- heaps ----------------------------------------------------------------------------------------------------------- */

/* Of two heaps, neither of whose roots has siblings. */
static uint32_t meld(struct group *groups, uint32_t a, uint32_t b)
{
    if (!a || !b)
        return a ? a : b;
    if (groups[b].rank < groups[a].rank) {
        uint32_t c = a;
        a = b;
        b = c;
    }
    groups[b].before = a;
    groups[b].sibling = groups[a].child;
    if (groups[a].child)
        groups[groups[a].child].before = b;
    groups[a].child = b;
    return a;
}

static void detach(struct group *group) { group->sibling = group->before = 0; }

/* Makes one heap of siblings: in pairs from the left, then all of them from the right. */
static uint32_t meld_siblings(struct group *groups, uint32_t first)
{
    uint32_t pairs = 0, root = 0;
    while (first) {
        uint32_t a = first, b = groups[a].sibling;
        first = b ? groups[b].sibling : 0;
        detach(&groups[a]);
        if (b)
            detach(&groups[b]);
        a = meld(groups, a, b);
        groups[a].sibling = pairs;
        pairs = a;
    }
    while (pairs) {
        uint32_t next = groups[pairs].sibling;
        detach(&groups[pairs]);
        root = meld(groups, root, pairs);
        pairs = next;
    }
    return root;
}

static void heap_remove(struct group *groups, uint32_t *root, uint32_t at)
{
    struct group *group = &groups[at];
    uint32_t rest = meld_siblings(groups, group->child);
    if (*root == at) {
        *root = rest;
    } else {
        struct group *before = &groups[group->before];
        if (before->child == at)
            before->child = group->sibling;
        else
            before->sibling = group->sibling;
        if (group->sibling)
            groups[group->sibling].before = group->before;
        *root = meld(groups, *root, rest);
    }
    group->child = 0;
    detach(group);
}

static uint32_t *root_of(struct group_index *index, const struct group *group)
{
    return group->place == STICKING ? &index->find(index->owner, group->holder)->root : &index->root;
}

static void take_out(struct group_index *index, uint32_t at)
{
    struct group *group = &index->groups[at];
    if (group->place != NOWHERE)
        heap_remove(index->groups, root_of(index, group), at);
    group->place = NOWHERE;
}

/* ---- where a key belongs --------------------------------------------------------------------------------------------- */

/* Two lists in order become one. */
static uint32_t merge(struct node *nodes, uint32_t a, uint32_t b)
{
    uint32_t first = 0, *end = &first;
    while (a && b) {
        uint32_t *least = nodes[b].seq < nodes[a].seq ? &b : &a;
        *end = *least;
        end = &nodes[*least].next;
        *least = *end;
    }
    *end = a ? a : b;
    return first;
}

static uint32_t sort(struct node *nodes, uint32_t list)
{
    uint32_t runs[32] = {0}, sorted = 0;
    while (list) {
        uint32_t run = list;
        unsigned i = 0;
        list = nodes[run].next;
        nodes[run].next = 0;
        for (; i < 31 && runs[i]; i++) {
            run = merge(nodes, runs[i], run);
            runs[i] = 0;
        }
        runs[i] = runs[i] ? merge(nodes, runs[i], run) : run;
    }
    for (unsigned i = 0; i < 32; i++)
        sorted = merge(nodes, runs[i], sorted);
    return sorted;
}

/* What came back goes before the rest. */
static void take_back(struct group_index *index, struct group *group)
{
    struct node *nodes = index->nodes;
    uint32_t back = sort(nodes, group->back);
    group->back = 0;
    if (bug_enabled(BUG_GROUP_RETURN_LATE) && group->first) {
        nodes[group->last].next = back;
    } else {
        bool behind = !group->first;
        group->first = merge(nodes, back, group->first);
        if (behind)
            group->last = group->first;
    }
    while (nodes[group->last].next)
        group->last = nodes[group->last].next;
}

/* Something has changed: the key goes where it belongs now. One of which nothing is left is forgotten. */
static void settle_in(struct group_index *index, uint32_t at)
{
    struct group *group = &index->groups[at];
    enum place place = NOWHERE;
    if (group->back && !group->in_flight)
        take_back(index, group);
    if (group->first && !group->in_flight)
        place = FREE;
    else if (group->first && !group->back && group->holder && index->find(index->owner, group->holder))
        place = bug_enabled(BUG_GROUP_SHARED) ? FREE : STICKING;
    uint64_t rank = index->fair && !bug_enabled(BUG_GROUP_UNFAIR) ? group->rank : group->first ? index->nodes[group->first].seq : 0;
    if (group->place == place && (place == NOWHERE || rank == group->rank)) {
        if (at != KEYLESS && !group->first && !group->in_flight) {
            map_remove(&index->keys, group->hash);
            group_free(index, at);
        }
        return;
    }
    take_out(index, at);
    group->rank = index->fair && place == NOWHERE ? group->rank : rank;
    group->place = (uint8_t)place;
    if (place != NOWHERE) {
        uint32_t *root = root_of(index, group);
        *root = meld(index->groups, *root, at);
        return;
    }
    settle_in(index, at);   /* it may be one to forget */
}

/* ---- in -------------------------------------------------------------------------------------------------------------- */

/* A late message finds its place, or waits with those that came back. */
static void insert_late(struct group_index *index, struct group *group, uint32_t node)
{
    struct node *nodes = index->nodes;
    uint32_t *at = &group->first;
    if (nodes[group->last].seq < nodes[node].seq)
        at = &nodes[group->last].next;
    for (unsigned i = 0; *at && nodes[*at].seq < nodes[node].seq; at = &nodes[*at].next)
        if (i++ == LOOK_MAX) {
            nodes[node].next = group->back;
            group->back = node;
            return;
        }
    nodes[node].next = *at;
    *at = node;
    if (!nodes[node].next)
        group->last = node;
}

bool group_index_add(struct group_index *index, uint64_t seq, const uint64_t *hash, bool late)
{
    uint32_t at = group_of(index, hash), node = at ? node_new(index, seq, at) : 0;
    if (!node) {
        if (at)
            settle_in(index, at);   /* it may have been made for this one */
        return false;
    }
    struct group *group = &index->groups[at];
    index->ready++;
    if (at == KEYLESS && !group->first)
        group->rank = ++index->turn;   /* those without a key take their turns as one that has come just now */
    if (!group->first) {
        group->first = group->last = node;
    } else if (late) {
        insert_late(index, group, node);
    } else {
        index->nodes[group->last].next = node;
        group->last = node;
    }
    if (group->place == NOWHERE || late)
        settle_in(index, at);
    return true;
}

bool group_index_add_held(struct group_index *index, uint64_t seq, const uint64_t *hash, uint32_t holder)
{
    if (map_get(&index->held, seq))
        return true;
    uint32_t at = group_of(index, hash), node = at ? node_new(index, seq, at) : 0;
    if (!node || map_put(&index->held, seq, as_value(node))) {
        if (node)
            node_free(index, node);
        if (at)
            settle_in(index, at);
        return false;
    }
    if (at == KEYLESS)
        return true;
    struct group *group = &index->groups[at];
    /* It sticks to one holder alone, and not at all when an earlier message of it is back. */
    bool sticks = !group->first && (!group->in_flight || group->holder == holder);
    take_out(index, at);
    index->held_keys += !group->in_flight;
    group->in_flight++;
    group->holder = sticks ? holder : 0;
    settle_in(index, at);
    return true;
}

/* ---- out ------------------------------------------------------------------------------------------------------------- */

uint64_t group_index_first(struct group_index *index, const struct group_holder *holder, uint32_t *group)
{
    if (index->group_count && index->groups[KEYLESS].back)
        settle_in(index, KEYLESS);
    uint32_t at = index->root, own = holder ? holder->root : 0;
    if (own && (!at || index->groups[own].rank < index->groups[at].rank))
        at = own;
    *group = at;
    return at ? index->nodes[index->groups[at].first].seq : 0;
}

bool group_index_will_hold(struct group_index *index, uint32_t group)
{
    uint32_t node = index->groups[group].first;
    return !map_put(&index->held, index->nodes[node].seq, as_value(node));
}

void group_index_not_held(struct group_index *index, uint32_t group)
{
    map_remove(&index->held, index->nodes[index->groups[group].first].seq);
}

/* The first message of the group leaves its list. */
static uint32_t pop(struct group_index *index, struct group *group)
{
    uint32_t node = group->first;
    group->first = index->nodes[node].next;
    index->nodes[node].next = 0;
    index->ready--;
    return node;
}

void group_index_gave(struct group_index *index, uint32_t at, uint32_t holder, bool held)
{
    struct group *group = &index->groups[at];
    take_out(index, at);
    uint32_t node = pop(index, group);
    if (!held) {
        node_free(index, node);
    } else if (at != KEYLESS) {
        index->held_keys += !group->in_flight;
        group->in_flight++;
        group->holder = holder;
    }
    if (index->fair)
        group->rank = ++index->turn;
    settle_in(index, at);
}

void group_index_drop(struct group_index *index, uint32_t at)
{
    take_out(index, at);
    node_free(index, pop(index, &index->groups[at]));
    settle_in(index, at);
}

/* ---- back ------------------------------------------------------------------------------------------------------------ */

/* One less is in flight. With the last one the key is nobody's. */
static void landed(struct group_index *index, uint32_t at)
{
    struct group *group = &index->groups[at];
    if (at == KEYLESS)
        return;
    if (--group->in_flight && !group->back)
        return;
    take_out(index, at);
    if (!group->in_flight) {
        group->holder = 0;
        index->held_keys--;
    }
    settle_in(index, at);
}

bool group_index_settled(struct group_index *index, uint64_t seq)
{
    uint32_t node = as_number(map_remove(&index->held, seq));
    if (!node)
        return false;
    node_free(index, node);
    landed(index, index->nodes[node].group);
    return true;
}

bool group_index_back(struct group_index *index, uint64_t seq)
{
    uint32_t node = as_number(map_remove(&index->held, seq));
    if (!node)
        return false;
    uint32_t at = index->nodes[node].group;
    struct group *group = &index->groups[at];
    index->nodes[node].next = group->back;
    group->back = node;
    index->ready++;
    landed(index, at);
    return true;
}

bool group_index_kept(struct group_index *index, uint64_t seq)
{
    uint32_t node = as_number(map_get(&index->held, seq)), at = node ? index->nodes[node].group : 0;
    if (!node || at == KEYLESS)
        return node != 0;
    take_out(index, at);
    index->groups[at].holder = 0;
    settle_in(index, at);
    return true;
}

void group_index_leave(struct group_index *index, struct group_holder *holder)
{
    while (holder->root) {
        uint32_t at = holder->root;
        take_out(index, at);
        index->groups[at].holder = 0;
    }
}

/* ---- what there is --------------------------------------------------------------------------------------------------- */

bool group_index_has_free(const struct group_index *index) { return index->root || (index->group_count && index->groups[KEYLESS].back); }
uint32_t group_index_ready(const struct group_index *index) { return index->ready; }
uint32_t group_index_keys(const struct group_index *index) { return index->keys.count; }
uint32_t group_index_held_keys(const struct group_index *index) { return index->held_keys; }

uint64_t group_index_memory(const struct group_index *index)
{
    return sizeof(*index) + index->node_capacity * sizeof(*index->nodes) + index->group_capacity * sizeof(*index->groups) +
           ((uint64_t)index->keys.capacity + index->held.capacity) * sizeof(struct map_slot);
}

bool group_index_is_sparse(const struct group_index *index)
{
    uint64_t used = (uint64_t)index->ready + index->held.count + index->keys.count, room = (uint64_t)index->node_capacity + index->group_capacity;
    return used * SPARSE < room && group_index_memory(index) > MEMORY_KEPT;
}
