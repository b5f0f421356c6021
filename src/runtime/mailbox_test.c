/* Two loops on two threads that sleep whenever they can: a lost wake-up hangs the test, a lost item fails it. */
#include "runtime/mailbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void order_and_bounds(void **state)
{
    (void)state;
    uv_loop_t loop;
    struct wake wake;
    uv_loop_init(&loop);
    assert_int_equal(wake_init(&wake, &loop, NULL), GW_OK);
    struct mailbox *m = mailbox_new(4, &wake, &wake);
    for (uintptr_t round = 0; round < 10; round++) {
        for (uintptr_t i = 1; i <= 4; i++)
            assert_true(mailbox_put(m, (void *)(round + i)));
        assert_false(mailbox_put(m, (void *)1));
        mailbox_post(m);
        assert_ptr_equal(mailbox_take(m), (void *)(round + 1));
        assert_true(mailbox_put(m, (void *)(round + 5)));
        for (uintptr_t i = 2; i <= 5; i++)
            assert_ptr_equal(mailbox_take(m), (void *)(round + i));
        assert_null(mailbox_take(m));
    }
    mailbox_free(m);
    wake_close(&wake, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
}

struct side {
    uv_loop_t loop;
    struct wake wake;
    uv_prepare_t turn;
    struct mailbox *mailbox;
    uintptr_t next, count;   /* items are 1 … count */
    unsigned burst;          /* at most so many a turn */
    uint32_t random;
    bool failed;
};

static uint32_t random_next(struct side *side)
{
    side->random = side->random * 1664525u + 1013904223u;
    return side->random >> 8;
}

static void end(struct side *side)
{
    uv_close((uv_handle_t *)&side->turn, NULL);
    wake_close(&side->wake, NULL);
}

/* A producer's turn: a few items or as many as there is room for, one post, and sleep only when it was refused. */
static void produce(uv_prepare_t *turn)
{
    struct side *side = turn->data;
    unsigned left = 1 + random_next(side) % side->burst;
    while (left-- > 0 && side->next <= side->count && mailbox_put(side->mailbox, (void *)side->next))
        side->next++;
    mailbox_post(side->mailbox);
    if (side->next > side->count)
        end(side);
    else if (left == UINT32_MAX)
        wake_send(&side->wake);
}

/* A consumer's turn: takes some, and sleeps only after it was answered NULL. */
static void consume(uv_prepare_t *turn)
{
    struct side *side = turn->data;
    unsigned left = 1 + random_next(side) % side->burst;
    while (left-- > 0) {
        void *item = mailbox_take(side->mailbox);
        if (!item) {
            if (side->next > side->count)
                end(side);
            return;
        }
        if (item != (void *)side->next)
            side->failed = true;
        side->next++;
    }
    wake_send(&side->wake);
}

static void side_init(struct side *side, uv_prepare_cb turn, uintptr_t count, unsigned burst, uint32_t seed)
{
    *side = (struct side){.next = 1, .count = count, .burst = burst, .random = seed};
    uv_loop_init(&side->loop);
    wake_init(&side->wake, &side->loop, NULL);
    uv_prepare_init(&side->loop, &side->turn);
    side->turn.data = side;
    uv_prepare_start(&side->turn, turn);
    wake_send(&side->wake);
}

static void run(void *side)
{
    uv_run(&((struct side *)side)->loop, UV_RUN_DEFAULT);
}

static void pass(unsigned capacity, unsigned put_burst, unsigned take_burst, uintptr_t count)
{
    struct side producer, consumer;
    side_init(&producer, produce, count, put_burst, 1);
    side_init(&consumer, consume, count, take_burst, 2);
    producer.mailbox = consumer.mailbox = mailbox_new(capacity, &consumer.wake, &producer.wake);
    uv_thread_t thread;
    uv_thread_create(&thread, run, &producer);
    run(&consumer);
    uv_thread_join(&thread);
    assert_false(consumer.failed);
    assert_int_equal(consumer.next, count + 1);
    uv_loop_close(&producer.loop);
    uv_loop_close(&consumer.loop);
    mailbox_free(producer.mailbox);
}

static void tiny_ring(void **state)
{
    (void)state;
    pass(1, 1, 1, 20000);
    pass(2, 7, 3, 100000);
    pass(4, 3, 50, 200000);
}

static void wide_ring(void **state)
{
    (void)state;
    pass(64, 100, 100, 1000000);
    pass(1024, 5, 5000, 1000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_and_bounds),
        cmocka_unit_test(tiny_ring),
        cmocka_unit_test(wide_ring),
    };
    return cmocka_run_group_tests_name("mailbox", tests, NULL, NULL);
}
