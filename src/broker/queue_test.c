/* Lanes of priorities, and the heap of queues by time. */
#include "broker/queue.h"
#include "broker/timers.h"

#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct fixture {
    struct chunk_account account;
    struct block_pool pool;
    struct chunk *chunk;
    struct queue queue;
};

static void open_fixture(struct fixture *f)
{
    *f = (struct fixture){.account.pool = chunk_pool_new(1)};
    f->chunk = chunk_new(f->account.pool, 4096);
    queue_init(&f->queue, 7);
}

static void close_fixture(struct fixture *f)
{
    queue_deinit(&f->queue, &f->account, &f->pool);
    block_pool_deinit(&f->pool);
    chunk_release(f->chunk, f->account.pool);
    chunk_pool_free(f->account.pool);
}

static uint64_t push(struct fixture *f, unsigned level)
{
    const struct content content = {.chunk = f->chunk, .size = 10};
    struct lane *lane = queue_lane_make(&f->queue, level);
    assert_non_null(lane);
    queue_occupied(&f->queue, level);
    return lane_push(lane, &content, UINT64_MAX, &f->account, &f->pool);
}

static uint64_t take(struct fixture *f, struct lane *lane)
{
    uint64_t seq;
    struct block_slot *slot;
    uint32_t release;
    struct entry *entry = lane_first(lane, &seq, &slot);
    if (!entry)
        return 0;
    lane_remove(lane, seq, slot, entry, false, &release, &f->account, &f->pool);
    return seq;
}

static void the_highest_priority_comes_first_and_each_in_its_order(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    static const unsigned levels[] = {0, 3, 255, 3, 0, 128, 255};
    uint64_t seqs[7];
    for (unsigned i = 0; i < 7; i++)
        seqs[i] = push(&f, levels[i]);
    assert_int_equal(queue_totals(&f.queue).ready, 7);
    assert_int_equal(seq_level(seqs[2]), 255);
    static const unsigned order[] = {2, 6, 5, 1, 3, 0, 4};
    for (unsigned i = 0; i < 7; i++)
        assert_int_equal(take(&f, queue_head_lane(&f.queue)), seqs[order[i]]);
    assert_int_equal(take(&f, queue_head_lane(&f.queue)), 0);
    assert_int_equal(queue_totals(&f.queue).ready, 0);
    close_fixture(&f);
}

static void a_full_queue_drops_from_the_lowest_priority(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    uint64_t high = push(&f, 9), low = push(&f, 1), lower = push(&f, 0);
    assert_int_equal(take(&f, queue_lowest(&f.queue)), lower);
    assert_int_equal(take(&f, queue_lowest(&f.queue)), low);
    assert_int_equal(take(&f, queue_lowest(&f.queue)), high);
    close_fixture(&f);
}

static void a_queue_without_priorities_has_one_lane(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    push(&f, 0);
    unsigned at = 0;
    assert_ptr_equal(queue_next_lane(&f.queue, &at), &f.queue.lane);
    assert_null(queue_next_lane(&f.queue, &at));
    assert_null(queue_lane(&f.queue, seq_base(4) + BLOCK_SIZE));
    assert_null(f.queue.levels);
    close_fixture(&f);
}

static void queues_come_out_of_the_heap_when_they_are_due(void **state)
{
    (void)state;
    struct timers timers = {0};
    static const uint64_t at_us[] = {50, 10, 40, 30, 20, 60};
    struct queue queues[6];
    for (unsigned i = 0; i < 6; i++) {
        queue_init(&queues[i], i + 1);
        assert_true(timers_set(&timers, &queues[i], at_us[i]));
    }
    assert_true(timers_set(&timers, &queues[5], 5));      /* earlier: moved */
    assert_true(timers_set(&timers, &queues[1], 1000));   /* later: stays */
    timers_remove(&timers, &queues[3]);
    assert_null(timers_take(&timers, 4));
    assert_int_equal(timers_next(&timers), 5);
    static const unsigned order[] = {5, 1, 4, 2, 0};
    for (unsigned i = 0; i < 5; i++)
        assert_ptr_equal(timers_take(&timers, 1000), &queues[order[i]]);
    assert_null(timers_take(&timers, UINT64_MAX - 1));
    assert_int_equal(timers_next(&timers), UINT64_MAX);
    timers_deinit(&timers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_highest_priority_comes_first_and_each_in_its_order),
        cmocka_unit_test(a_full_queue_drops_from_the_lowest_priority),
        cmocka_unit_test(a_queue_without_priorities_has_one_lane),
        cmocka_unit_test(queues_come_out_of_the_heap_when_they_are_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
