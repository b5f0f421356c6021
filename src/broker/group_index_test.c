/* The index of groups beside one that is as simple as can be. */
#include "broker/group_index.h"

#include "base/map.h"
#include "base/test_malloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- allocations that fail ------------------------------------------------------------------------------------------- */

static unsigned until_failure;   /* allocations left; 0: none fails */

static bool fails(void) { return until_failure && --until_failure == 0; }

/* ---- a simple one ---------------------------------------------------------------------------------------------------- */

#define MESSAGES 400u
#define KEYS 7u              /* 0: no key */
#define HOLDERS 4u           /* at a time */
#define HANDLES 400u         /* from 1; none is used again */

enum state { NOT_THERE, READY, HELD };

struct message {
    enum state state;
    unsigned key;
    uint32_t holder;
    bool blocks;             /* it came back while others of its key were in flight */
};

struct play {
    struct group_index *index;
    struct group_holder holders[HANDLES + 1];
    uint32_t oldest;         /* handles from this one on are there */
    struct message messages[MESSAGES + 1];   /* by sequence number */
    unsigned next;
    uint32_t owners[KEYS];   /* to whom a key sticks */
    uint64_t random;
};

static unsigned draw(struct play *play, unsigned below)
{
    play->random = play->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(play->random >> 33) % below;
}

static struct group_holder *find(void *owner, uint32_t handle)
{
    struct play *play = owner;
    return handle >= play->oldest ? &play->holders[handle] : NULL;
}

static unsigned in_flight(const struct play *play, unsigned key)
{
    unsigned count = 0;
    for (unsigned i = 1; key && i < play->next; i++)
        count += play->messages[i].key == key && play->messages[i].state == HELD;
    return count;
}

/* The oldest that the holder may have; 0: none. */
static unsigned first_for(const struct play *play, uint32_t holder)
{
    for (unsigned i = 1; i < play->next; i++) {
        const struct message *message = &play->messages[i];
        bool blocked = false;
        if (message->state != READY)
            continue;
        if (!in_flight(play, message->key))
            return i;
        for (unsigned j = 1; j < play->next; j++)
            blocked |= play->messages[j].key == message->key && play->messages[j].state == READY && play->messages[j].blocks;
        if (!blocked && holder && play->owners[message->key] == holder)
            return i;
    }
    return 0;
}

static void landed(struct play *play, unsigned key)
{
    if (in_flight(play, key))
        return;
    play->owners[key] = 0;
    for (unsigned i = 1; i < play->next; i++)
        if (play->messages[i].key == key)
            play->messages[i].blocks = false;
}

static void publish(struct play *play)
{
    unsigned key = draw(play, KEYS);
    uint64_t hash = key * 1000003u;
    if (play->next > MESSAGES || !group_index_add(play->index, play->next, key ? &hash : NULL, false))
        return;
    play->messages[play->next++] = (struct message){.state = READY, .key = key};
}

static void take(struct play *play)
{
    uint32_t holder = draw(play, 5) ? play->oldest + draw(play, HOLDERS) : 0, group;
    bool held = draw(play, 8) > 0;
    unsigned expected = first_for(play, holder);
    uint64_t seq = group_index_first(play->index, holder ? &play->holders[holder] : NULL, &group);
    assert_int_equal(seq, expected);
    if (!seq || (held && !group_index_will_hold(play->index, group)))
        return;
    struct message *message = &play->messages[seq];
    if (held && draw(play, 8) == 0) {
        group_index_not_held(play->index, group);
        return;
    }
    if (draw(play, 16) == 0 && !held) {
        group_index_drop(play->index, group);
        message->state = NOT_THERE;
        return;
    }
    group_index_gave(play->index, group, holder, held);
    message->state = held ? HELD : NOT_THERE;
    message->holder = holder;
    if (held && message->key)
        play->owners[message->key] = holder;
}

static void settle(struct play *play)
{
    unsigned seq = play->next > 1 ? 1 + draw(play, play->next - 1) : 1, what = draw(play, 5);
    struct message *message = &play->messages[seq];
    if (message->state != HELD) {
        assert_false(group_index_settled(play->index, seq));
        return;
    }
    if (what == 0) {
        assert_true(group_index_kept(play->index, seq));
        play->owners[message->key] = 0;
    } else if (what == 1) {
        assert_true(group_index_back(play->index, seq));
        message->state = READY;
        message->blocks = in_flight(play, message->key) > 0;
        landed(play, message->key);
    } else {
        assert_true(group_index_settled(play->index, seq));
        message->state = NOT_THERE;
        landed(play, message->key);
    }
}

static void leave(struct play *play)
{
    if (play->oldest + HOLDERS > HANDLES)
        return;
    group_index_leave(play->index, &play->holders[play->oldest]);
    play->oldest++;
}

static void play_on(uint64_t seed, unsigned fail_at)
{
    struct play play = {.random = seed, .next = 1, .oldest = 1};
    play.index = group_index_new(false, find, &play);
    assert_non_null(play.index);
    until_failure = fail_at;
    for (unsigned i = 0; i < 3000; i++) {
        switch (draw(&play, 12)) {
        case 0: leave(&play); break;
        case 1: case 2: case 3: case 4: publish(&play); break;
        case 5: case 6: case 7: case 8: take(&play); break;
        default: settle(&play); break;
        }
        unsigned ready = 0;
        for (unsigned seq = 1; seq < play.next; seq++)
            ready += play.messages[seq].state == READY;
        assert_int_equal(group_index_ready(play.index), ready);
        unsigned held = 0;
        for (unsigned key = 1; key < KEYS; key++)
            held += in_flight(&play, key) > 0;
        assert_int_equal(group_index_held_keys(play.index), held);
    }
    until_failure = 0;
    group_index_free(play.index);
}

static void test_it_is_like_the_simple_one(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        print_message("seed %u\n", (unsigned)seed);
        play_on(seed, 0);
    }
}

static void test_without_memory_nothing_happens(void **state)
{
    (void)state;
    for (unsigned fail_at = 1; fail_at < 40; fail_at++)
        play_on(99, fail_at);
    until_failure = 1;
    assert_null(group_index_new(false, find, NULL));
    until_failure = 0;
}

/* ---- turns ----------------------------------------------------------------------------------------------------------- */

static struct group_holder *nobody(void *owner, uint32_t handle)
{
    (void)owner;
    (void)handle;
    return NULL;
}

static uint64_t take_one(struct group_index *index)
{
    uint32_t group;
    uint64_t seq = group_index_first(index, NULL, &group);
    if (seq)
        group_index_gave(index, group, 0, false);
    return seq;
}

static void test_fair_keys_take_turns(void **state)
{
    static const uint64_t keys[] = {1, 1, 1, 1, 2, 2, 3, 0, 0};
    static const uint64_t expected[] = {1, 5, 7, 8, 2, 6, 9, 3, 4, 0};
    struct group_index *index = group_index_new(true, nobody, NULL);
    (void)state;
    for (unsigned i = 0; i < 9; i++)
        assert_true(group_index_add(index, i + 1, keys[i] ? &keys[i] : NULL, false));
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(take_one(index), expected[i]);
    assert_int_equal(group_index_keys(index), 0);
    group_index_free(index);
}

static void test_late_ones_find_their_place(void **state)
{
    struct group_index *index = group_index_new(false, nobody, NULL);
    uint64_t key = 5;
    (void)state;
    for (uint64_t seq = 2; seq <= 200; seq += 2)
        assert_true(group_index_add(index, seq, &key, false));
    for (uint64_t seq = 199; seq <= 199; seq -= 2)
        assert_true(group_index_add(index, seq, &key, true));
    for (uint64_t seq = 1; seq <= 200; seq++)
        assert_int_equal(take_one(index), seq);
    group_index_free(index);
}

static void test_a_million_keys_have_room(void **state)
{
    struct group_index *index = group_index_new(false, nobody, NULL);
    (void)state;
    for (uint64_t seq = 1; seq <= 1000000; seq++) {
        uint64_t hash = bytes_hash(bytes_of(&seq, sizeof(seq)), 1);
        assert_true(group_index_add(index, seq, &hash, false));
    }
    print_message("%.1f MiB\n", (double)group_index_memory(index) / 1048576);
    assert_true(group_index_memory(index) < 200u << 20);
    assert_int_equal(group_index_keys(index), 1000000);
    assert_false(group_index_is_sparse(index));
    for (uint64_t seq = 1; seq <= 1000000; seq++)
        assert_int_equal(take_one(index), seq);
    assert_true(group_index_is_sparse(index));
    group_index_clear(index);
    assert_false(group_index_is_sparse(index));
    assert_true(group_index_memory(index) < 1024);
    group_index_free(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_like_the_simple_one),
        cmocka_unit_test(test_without_memory_nothing_happens),
        cmocka_unit_test(test_fair_keys_take_turns),
        cmocka_unit_test(test_late_ones_find_their_place),
        cmocka_unit_test(test_a_million_keys_have_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
