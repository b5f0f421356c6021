#include "cli/bench_ledger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static void note(struct bench_ledger *ledger, uint32_t publisher, uint64_t sequence, bool redelivered)
{
    assert_int_equal(bench_ledger_note(ledger, publisher, sequence, 100000, redelivered), GW_OK);
}

static void in_order_is_good(void **state)
{
    (void)state;
    struct bench_ledger ledger;
    assert_int_equal(bench_ledger_init(&ledger, 2, false), GW_OK);
    for (uint64_t i = 0; i < 70000; i++)
        note(&ledger, i % 2, i / 2, false);
    for (int p = 0; p < 2; p++) {
        assert_int_equal(ledger.streams[p].distinct, 35000);
        assert_int_equal(ledger.streams[p].next, 35000);
        assert_int_equal(ledger.streams[p].doubled + ledger.streams[p].reordered, 0);
    }
    assert_int_equal(ledger.foreign, 0);
    bench_ledger_deinit(&ledger);
}

static void every_fault_is_told_from_the_others(void **state)
{
    (void)state;
    struct bench_ledger ledger;
    assert_int_equal(bench_ledger_init(&ledger, 1, false), GW_OK);
    struct bench_stream *stream = &ledger.streams[0];
    note(&ledger, 0, 0, false);
    note(&ledger, 0, 2, false);       /* 1 is missing so far */
    assert_int_equal(stream->distinct, 2);
    assert_int_equal(stream->next, 3);
    note(&ledger, 0, 1, false);       /* late */
    assert_int_equal(stream->reordered, 1);
    assert_int_equal(stream->distinct, 3);
    note(&ledger, 0, 1, false);       /* twice */
    assert_int_equal(stream->doubled, 1);
    note(&ledger, 0, 2, true);        /* twice, but it says so */
    assert_int_equal(stream->doubled, 1);
    note(&ledger, 0, 5000, false);    /* 3 to 4999 are lost */
    assert_int_equal(stream->next - stream->distinct, 5001 - 4);
    note(&ledger, 0, 4000, true);     /* late, but redelivered */
    assert_int_equal(stream->reordered, 1);
    note(&ledger, 1, 0, false);       /* no such publisher */
    note(&ledger, 0, 100000, false);  /* never sent */
    assert_int_equal(ledger.foreign, 2);
    bench_ledger_deinit(&ledger);
}

static void consumers_that_share_a_queue_have_no_order(void **state)
{
    (void)state;
    struct bench_ledger ledger;
    assert_int_equal(bench_ledger_init(&ledger, 1, true), GW_OK);
    note(&ledger, 0, 1, false);
    note(&ledger, 0, 0, false);
    assert_int_equal(ledger.streams[0].reordered, 0);
    assert_int_equal(ledger.streams[0].distinct, 2);
    bench_ledger_deinit(&ledger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order_is_good),
        cmocka_unit_test(every_fault_is_told_from_the_others),
        cmocka_unit_test(consumers_that_share_a_queue_have_no_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
