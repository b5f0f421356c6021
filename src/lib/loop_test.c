/* The loop: who may call what from where, whoever runs it, and callbacks that do not come back. */
#include "lib/test_loop.h"

#include "lib/uvloop.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- timers and posts ------------------------------------------------------------------------------------------------------------------- */

struct ticking {
    gw_loop *loop;
    unsigned count, stop_at;
    char order[32];
    gw_timer *timer;
};

static void tick(gw_timer *timer, void *context)
{
    struct ticking *ticking = context;
    ticking->timer = timer;
    if (++ticking->count == ticking->stop_at)
        gw_loop_stop(ticking->loop);
}

static void a_loop_runs_until_it_is_stopped_or_has_nothing_left(void **state)
{
    struct ticking ticking = {.stop_at = 3};
    gw_loop *loop = ticking.loop = gw_loop_new();
    (void)state;
    assert_int_equal(gw_loop_run(loop), 0);   /* nothing at all */
    gw_timer *timer = gw_timer_start(loop, 1, 1, tick, &ticking);
    assert_int_equal(gw_loop_run(loop), 0);
    assert_int_equal(ticking.count, 3);
    assert_ptr_equal(ticking.timer, timer);
    gw_timer_stop(timer);
    gw_timer_stop(NULL);
    assert_int_equal(gw_loop_run(loop), 0);
    gw_timer_start(loop, 1, 0, tick, &ticking);
    assert_int_equal(gw_loop_run(loop), 0);   /* its only timer is over */
    assert_int_equal(ticking.count, 4);
    assert_null(gw_timer_start(loop, UINT64_MAX, 0, tick, NULL));
    assert_null(gw_timer_start(loop, 1, 0, NULL, NULL));
    gw_loop_free(loop);
}

/* Each of these stops the loop. */
static void stop_by_post(void *context) { tick(NULL, context); }
static void stop_when_published(void *context, int result)
{
    (void)result;
    tick(NULL, context);
}
static void stop_by_event(gw_event *event, void *context)
{
    gw_event_ack(event);
    tick(NULL, context);
}

static void nothing_is_called_after_a_stop(void **state)
{
    struct test_loop test = {0};
    (void)state;
    test_open(&test);
    struct ticking ticking = {.loop = test.loop};
    gw_on(test.bus, "durable", stop_by_event, &ticking, &(gw_handler_options){.concurrency = 10});
    gw_on(test.bus, "transient", stop_by_event, &ticking, &(gw_handler_options){.transient = 1, .concurrency = 10});
    for (unsigned i = 0; i < 3; i++) {
        gw_publish(test.bus, "durable", "x", 1, NULL, stop_when_published, &ticking);
        gw_publish(test.bus, "transient", "x", 1, &(gw_publish_options){.transient = 1}, stop_when_published, &ticking);
        gw_timer_start(test.loop, 0, 0, tick, &ticking);
        gw_loop_post(test.loop, stop_by_post, &ticking);
    }
    for (unsigned i = 1; i <= 18; i++) {
        ticking.stop_at = i;
        assert_int_equal(gw_loop_run(test.loop), 0);
        assert_int_equal(ticking.count, i);
    }
    test_end(&test);
}

static void run_and_stop_itself(gw_timer *timer, void *context)
{
    struct ticking *ticking = context;
    ticking->stop_at = ticking->count + 1;
    gw_timer_start(ticking->loop, 0, 0, tick, ticking);
    gw_loop_run(ticking->loop);
    gw_timer_stop(timer);
}

static void a_timer_that_fires_for_the_last_time_is_there_until_it_returns(void **state)
{
    struct ticking ticking = {.loop = gw_loop_new()};
    (void)state;
    gw_timer_start(ticking.loop, 0, 0, run_and_stop_itself, &ticking);
    assert_int_equal(gw_loop_run(ticking.loop), 0);
    assert_int_equal(ticking.count, 1);
    gw_loop_free(ticking.loop);
}

struct due {
    struct ticking *ticking;
    char name;
};

static void due(gw_timer *timer, void *context)
{
    struct due *own = context;
    own->ticking->order[own->ticking->count++] = own->name;
    if (own->name == 'c')
        gw_timer_stop(timer);
}

static void timers_come_in_their_order(void **state)
{
    struct ticking ticking = {0};
    struct due dues[26];
    gw_timer *timers[26];
    gw_loop *loop = gw_loop_new();
    (void)state;
    for (unsigned i = 0; i < 26; i++) {
        unsigned at = (i * 7) % 26;   /* in another order than that of their times */
        dues[at] = (struct due){&ticking, (char)('a' + at)};
        timers[at] = gw_timer_start(loop, at * 2, at == 2 ? 1 : 0, due, &dues[at]);
    }
    gw_timer_stop(timers[25]);
    gw_timer_stop(timers[1]);
    assert_int_equal(gw_loop_run(loop), 0);
    assert_string_equal(ticking.order, "acdefghijklmnopqrstuvwxy");
    gw_loop_free(loop);
}

static void posted(void *context)
{
    struct ticking *ticking = context;
    ticking->order[ticking->count] = (char)('0' + ticking->count);
    if (++ticking->count == ticking->stop_at)
        gw_loop_stop(ticking->loop);
}

static void *post_some(void *context)
{
    struct ticking *ticking = context;
    for (unsigned i = 0; i < 5; i++)
        gw_loop_post(ticking->loop, posted, ticking);
    return NULL;
}

static void *call_from_elsewhere(void *context)
{
    struct test_loop *test = context;
    assert_int_equal(gw_publish(test->bus, "a", "x", 1, NULL, NULL, NULL), GW_E_THREAD);
    assert_int_equal(gw_loop_run(test->loop), GW_E_THREAD);
    assert_int_equal(gw_loop_step(test->loop), GW_E_THREAD);
    assert_int_equal(gw_loop_fd(test->loop), GW_E_THREAD);
    assert_null(gw_timer_start(test->loop, 1, 0, tick, NULL));
    assert_null(gw_open(test->loop, ":memory:", NULL));
    assert_int_equal(gw_close(test->bus, 0, NULL, NULL), GW_E_THREAD);
    gw_loop_free(test->loop);   /* does nothing */
    return NULL;
}

static void another_thread_may_post_and_nothing_else(void **state)
{
    struct ticking ticking = {.stop_at = 5};
    struct test_loop test = {0};
    pthread_t thread;
    (void)state;
    test_open(&test);
    ticking.loop = test.loop;
    pthread_create(&thread, NULL, post_some, &ticking);
    assert_int_equal(gw_loop_run(test.loop), 0);
    assert_string_equal(ticking.order, "01234");
    pthread_join(thread, NULL);
    pthread_create(&thread, NULL, call_from_elsewhere, &test);
    pthread_join(thread, NULL);
    assert_int_equal(gw_publish_wait(test.bus, "a", "x", 1, NULL, 1000), 0);
    test_end(&test);
}

/* ---- two of everything -------------------------------------------------------------------------------------------------------------------- */

struct counting {
    gw_loop *loop;
    unsigned count, stop_at;
};

static void count(gw_event *event, void *context)
{
    struct counting *counting = context;
    gw_event_ack(event);
    if (++counting->count == counting->stop_at)
        gw_loop_stop(counting->loop);
}

struct lives {
    pthread_mutex_t mutex;
    pthread_barrier_t barrier;
};

/* They run side by side, and are born and end one after the other: libuv and liburing close descriptors behind ThreadSanitizer's back, which takes the next ones of their numbers for the same. */
static void *a_whole_life(void *context)
{
    struct lives *lives = context;
    struct test_loop test = {0};
    pthread_mutex_lock(&lives->mutex);
    test_open(&test);
    pthread_mutex_unlock(&lives->mutex);
    pthread_barrier_wait(&lives->barrier);
    struct counting counting = {.loop = test.loop, .stop_at = 200};
    gw_on(test.bus, "#", count, &counting, NULL);
    for (unsigned i = 0; i < 200; i++)
        gw_publish(test.bus, "a.b", "x", 1, NULL, NULL, NULL);
    assert_int_equal(gw_loop_run(test.loop), 0);
    assert_int_equal(counting.count, 200);
    pthread_barrier_wait(&lives->barrier);
    pthread_mutex_lock(&lives->mutex);
    test_end(&test);
    pthread_mutex_unlock(&lives->mutex);
    return NULL;
}

static void two_loops_live_in_two_threads(void **state)
{
    struct lives lives = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    pthread_t threads[2];
    (void)state;
    pthread_barrier_init(&lives.barrier, NULL, 2);
    for (unsigned i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, a_whole_life, &lives);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

static void two_buses_live_on_one_loop_and_not_in_one_directory(void **state)
{
    struct test_loop test = {0};
    (void)state;
    test_open(&test);
    gw_bus *memory = gw_open(test.loop, ":memory:", NULL);
    struct counting one = {.loop = test.loop, .stop_at = 99}, two = {.loop = test.loop, .stop_at = 1};
    gw_on(test.bus, "#", count, &one, NULL);
    gw_on(memory, "#", count, &two, NULL);
    gw_publish(memory, "a", "x", 1, NULL, NULL, NULL);
    assert_int_equal(gw_loop_run(test.loop), 0);
    assert_int_equal(one.count, 0);
    assert_ptr_equal(gw_bus_loop(memory), test.loop);
    assert_null(gw_open(test.loop, test.directory, NULL));
    assert_non_null(strstr(gw_error(test.loop), "in use by process"));
    test_end(&test);
}

static void a_directory_that_cannot_be_opened_is_told_by_the_loop(void **state)
{
    gw_loop *loop = gw_loop_new();
    (void)state;
    assert_null(gw_open(loop, "/proc/none/there", NULL));
    assert_non_null(strstr(gw_error(loop), "/proc/none/there"));
    assert_null(gw_on(NULL, "#", count, NULL, NULL));
    assert_true(gw_loop_run(loop) < 0);
    assert_null(gw_open(loop, "", NULL));
    assert_null(gw_open(loop, NULL, NULL));
    assert_null(gw_open(NULL, ":memory:", NULL));
    gw_loop_free(loop);
    gw_loop_free(NULL);
    assert_string_equal(gw_error(NULL), "");
    assert_string_equal(gw_result_text(GW_E_SYSTEM), "system error");
    assert_string_equal(gw_result_text(12), "unknown");
    assert_string_equal(gw_result_text(-1000), "unknown");
}

/* ---- somebody else's loop ------------------------------------------------------------------------------------------------------------------- */

static void stop_uv(gw_event *event, void *context)
{
    gw_event_ack(event);
    uv_stop(context);
}

static void an_adopted_loop_is_run_by_its_owner(void **state)
{
    uv_loop_t uv;
    (void)state;
    uv_loop_init(&uv);
    gw_loop *loop = gw_loop_adopt(&uv);
    assert_int_equal(uv_run(&uv, UV_RUN_DEFAULT), 0);   /* it is not kept alive by a loop without anything on it */
    gw_bus *bus = gw_open(loop, ":memory:", NULL);
    assert_int_equal(gw_loop_run(loop), GW_E_INVALID);
    gw_on(bus, "#", stop_uv, &uv, NULL);
    gw_publish(bus, "a", "x", 1, NULL, NULL, NULL);
    uv_run(&uv, UV_RUN_DEFAULT);
    gw_publish(bus, "a", "x", 1, &(gw_publish_options){.delay_ms = 20}, NULL, NULL);
    uv_run(&uv, UV_RUN_DEFAULT);
    gw_close(bus, 100, NULL, NULL);
    assert_int_equal(uv_run(&uv, UV_RUN_DEFAULT), 0);   /* closed: nothing is left */
    gw_open(loop, ":memory:", NULL);
    gw_loop_free(loop);
    uv_run(&uv, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&uv), 0);
    assert_null(gw_loop_adopt(NULL));
}

static void a_descriptor_says_when_there_is_something_to_do(void **state)
{
    struct test_loop test = {0};
    (void)state;
    test_open(&test);
    struct counting counting = {.loop = test.loop};
    gw_on(test.bus, "#", count, &counting, NULL);
    test_for(&test, 10);
    gw_publish(test.bus, "a", "x", 1, &(gw_publish_options){.delay_ms = 30}, NULL, NULL);
    unsigned turns = 0;
    for (; !counting.count && turns < 1000; turns++) {
        struct pollfd descriptor = {.fd = gw_loop_fd(test.loop), .events = POLLIN};
        poll(&descriptor, 1, gw_loop_timeout_ms(test.loop));
        assert_int_equal(gw_loop_step(test.loop), 1);
    }
    assert_int_equal(counting.count, 1);
    assert_in_range(turns, 1, 100);   /* it slept between them */
    test_end(&test);
}

/* ---- callbacks that do not return -------------------------------------------------------------------------------------------------------------- */

static jmp_buf way_out;

static void jump(gw_event *event, void *context)
{
    struct counting *counting = context;
    counting->count++;
    if (memcmp(gw_event_data(event), "jump", 4) == 0 && gw_event_attempt(event) == 1)
        longjmp(way_out, 1);
    gw_event_ack(event);
    if (counting->count == counting->stop_at)
        gw_loop_stop(counting->loop);
}

static void jump_from_timer(gw_timer *timer, void *context)
{
    (void)timer, (void)context;
    longjmp(way_out, 2);
}

static void jump_from_post(void *context)
{
    (void)context;
    longjmp(way_out, 3);
}

static void a_callback_may_leave_by_longjmp(void **state)
{
    static struct test_loop test;
    static struct counting counting;
    static unsigned jumps[4];
    (void)state;
    test_open(&test);
    counting.loop = test.loop;
    counting.stop_at = 7;
    gw_on(test.bus, "d", jump, &counting, &(gw_handler_options){.concurrency = 9, .timeout_ms = 60, .retry_delays_ms = (uint64_t[]){10}, .retry_delay_count = 1});
    gw_on(test.bus, "t", jump, &counting, &(gw_handler_options){.concurrency = 9, .timeout_ms = 60, .transient = 1, .retry_delays_ms = (uint64_t[]){10}, .retry_delay_count = 1});
    gw_publish(test.bus, "d", "jump", 4, NULL, NULL, NULL);
    gw_publish(test.bus, "d", "stay", 4, NULL, NULL, NULL);
    gw_publish(test.bus, "t", "jump", 4, &(gw_publish_options){.transient = 1}, NULL, NULL);
    gw_publish(test.bus, "t", "stay", 4, &(gw_publish_options){.transient = 1}, NULL, NULL);
    gw_publish(test.bus, "d", "stay", 4, NULL, NULL, NULL);
    gw_timer_start(test.loop, 1, 0, jump_from_timer, NULL);
    gw_loop_post(test.loop, jump_from_post, NULL);
    gw_loop_post(test.loop, jump_from_post, NULL);
    int way = setjmp(way_out);
    jumps[way]++;
    assert_int_equal(gw_loop_run(test.loop), 0);   /* again after each jump */
    assert_int_equal(jumps[1], 2);
    assert_int_equal(jumps[2], 1);
    assert_int_equal(jumps[3], 2);
    assert_int_equal(counting.count, 7);   /* five events, and the two that jumped once more when they were late */
    test_end(&test);
}

static void run_again(gw_event *event, void *context)
{
    struct counting *counting = context;
    if (++counting->count == 1)
        assert_int_equal(gw_loop_run(counting->loop), 0);
    gw_event_ack(event);
    if (counting->count == 3)
        gw_loop_stop(counting->loop);
}

static void a_handler_may_run_the_loop(void **state)
{
    struct test_loop test = {0};
    (void)state;
    test_open(&test);
    struct counting counting = {.loop = test.loop};
    gw_on(test.bus, "#", run_again, &counting, &(gw_handler_options){.concurrency = 9});
    for (unsigned i = 0; i < 3; i++)
        gw_publish(test.bus, "a", "x", 1, NULL, NULL, NULL);
    assert_int_equal(gw_loop_run(test.loop), 0);
    assert_int_equal(counting.count, 3);
    test_end(&test);
}

/* ---- forks --------------------------------------------------------------------------------------------------------------------------------------- */

static void check_child(bool good, int *failed, int number)
{
    if (!good && !*failed)
        *failed = number;
}

static void never(void *context)
{
    (void)context;
    _exit(11);
}

/* Stays until the parent has let the directory go, and opened it anew. */
static int in_child(struct test_loop *test, int said, int heard)
{
    int failed = 0;
    check_child(gw_publish(test->bus, "a", "x", 1, NULL, NULL, NULL) == GW_E_FORKED, &failed, 1);
    check_child(gw_publish_wait(test->bus, "a", "x", 1, NULL, 10) == GW_E_FORKED, &failed, 2);
    check_child(gw_loop_run(test->loop) == GW_E_FORKED, &failed, 3);
    check_child(gw_loop_step(test->loop) == GW_E_FORKED, &failed, 4);
    check_child(gw_close(test->bus, 0, NULL, NULL) == GW_E_FORKED, &failed, 5);
    check_child(!gw_open(test->loop, ":memory:", NULL), &failed, 6);
    check_child(gw_loop_post(test->loop, never, NULL) == GW_E_FORKED, &failed, 10);
    gw_loop_stop(test->loop);
    gw_loop_free(test->loop);
    /* A loop of its own works, and the parent has the directory. */
    gw_loop *own = gw_loop_new();
    check_child(own && !gw_open(own, test->directory, NULL) && strstr(gw_error(own), "in use"), &failed, 7);
    gw_bus *memory = own ? gw_open(own, ":memory:", NULL) : NULL;
    check_child(memory && gw_publish_wait(memory, "a", "x", 1, NULL, 1000) == 0, &failed, 8);
    char word = 0;
    check_child(write(said, "x", 1) == 1 && read(heard, &word, 1) == 1, &failed, 9);
    return failed;
}

static void a_child_does_its_parent_no_harm(void **state)
{
    struct test_loop test = {0};
    int from_child[2], to_child[2];
    char word = 0;
    (void)state;
    assert_int_equal(pipe(from_child) | pipe(to_child), 0);
    test_open(&test);
    struct counting counting = {.loop = test.loop, .stop_at = 50};
    gw_on(test.bus, "#", count, &counting, NULL);
    for (unsigned i = 0; i < 25; i++)
        gw_publish(test.bus, "a", "x", 1, NULL, NULL, NULL);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        _exit(in_child(&test, from_child[1], to_child[0]));
    assert_int_equal(read(from_child[0], &word, 1), 1);
    for (unsigned i = 0; i < 25; i++)
        gw_publish(test.bus, "a", "x", 1, NULL, NULL, NULL);
    assert_int_equal(gw_loop_run(test.loop), 0);
    assert_int_equal(gw_publish_wait(test.bus, "a", "x", 1, NULL, 1000), 0);
    test_close(&test);
    test_open(&test);
    int status = -1;
    assert_int_equal(write(to_child[1], "x", 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    test_end(&test);
    for (unsigned i = 0; i < 2; i++) {
        close(from_child[i]);
        close(to_child[i]);
    }
}

static gw_loop *signalled;
static void on_signal(int number)
{
    (void)number;
    gw_loop_stop(signalled);
}

static void raise_it(gw_timer *timer, void *context)
{
    (void)timer, (void)context;
    raise(SIGUSR1);
}

static void a_signal_handler_may_stop_it(void **state)
{
    struct test_loop test = {0};
    (void)state;
    test_open(&test);
    signalled = test.loop;
    signal(SIGUSR1, on_signal);
    gw_timer_start(test.loop, 5, 0, raise_it, NULL);
    assert_int_equal(gw_loop_run(test.loop), 0);
    signal(SIGUSR1, SIG_DFL);
    test_end(&test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loop_runs_until_it_is_stopped_or_has_nothing_left),
        cmocka_unit_test(nothing_is_called_after_a_stop),
        cmocka_unit_test(a_timer_that_fires_for_the_last_time_is_there_until_it_returns),
        cmocka_unit_test(timers_come_in_their_order),
        cmocka_unit_test(another_thread_may_post_and_nothing_else),
        cmocka_unit_test(two_loops_live_in_two_threads),
        cmocka_unit_test(two_buses_live_on_one_loop_and_not_in_one_directory),
        cmocka_unit_test(a_directory_that_cannot_be_opened_is_told_by_the_loop),
        cmocka_unit_test(an_adopted_loop_is_run_by_its_owner),
        cmocka_unit_test(a_descriptor_says_when_there_is_something_to_do),
        cmocka_unit_test(a_callback_may_leave_by_longjmp),
        cmocka_unit_test(a_handler_may_run_the_loop),
        cmocka_unit_test(a_child_does_its_parent_no_harm),
        cmocka_unit_test(a_signal_handler_may_stop_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
