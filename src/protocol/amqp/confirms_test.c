#include "protocol/amqp/confirms.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static char text[8192];

static const char *told(struct confirms *confirms)
{
    uint64_t upto;
    bool multiple, accepted;
    size_t size = 0;
    text[0] = 0;
    while (confirms_tell(confirms, &upto, &multiple, &accepted))
        size += (size_t)snprintf(text + size, sizeof(text) - size, "%s %llu%s ", accepted ? "ack" : "nack", (unsigned long long)upto, multiple ? "+" : "");
    return text;
}

static void done(struct confirms *confirms, uint64_t first, uint64_t count, bool accepted)
{
    assert_int_equal(confirms_done(confirms, first, count, accepted), GW_OK);
}

static void what_is_in_order_is_one_ack(void **state)
{
    (void)state;
    struct confirms confirms;
    confirms_init(&confirms);
    confirms.next = 1001;
    assert_string_equal(told(&confirms), "");
    done(&confirms, 1, 1, true);
    assert_string_equal(told(&confirms), "ack 1 ");
    done(&confirms, 2, 998, true);
    done(&confirms, 1000, 1, true);
    assert_string_equal(told(&confirms), "ack 1000+ ");
    assert_null(confirms.done_bits);
    confirms_deinit(&confirms);
}

static void what_overtakes_waits(void **state)
{
    (void)state;
    struct confirms confirms;
    confirms_init(&confirms);
    confirms.next = 2000;
    done(&confirms, 500, 1000, true);
    assert_string_equal(told(&confirms), "");
    done(&confirms, 2, 498, true);
    assert_string_equal(told(&confirms), "");
    done(&confirms, 1, 1, true);
    assert_string_equal(told(&confirms), "ack 1499+ ");
    done(&confirms, 1, 100, true);
    done(&confirms, 5000, 1, true);
    assert_string_equal(told(&confirms), "");
    confirms_deinit(&confirms);
}

static void refusals_are_told_apart(void **state)
{
    (void)state;
    struct confirms confirms;
    confirms_init(&confirms);
    confirms.next = 2000;
    done(&confirms, 1, 3, true);
    done(&confirms, 4, 2, false);
    done(&confirms, 6, 300, true);
    done(&confirms, 306, 1, false);
    done(&confirms, 307, 1, true);
    assert_string_equal(told(&confirms), "ack 3+ nack 5+ ack 305+ nack 306 ack 307 ");
    assert_int_equal(confirms.refused, 0);
    done(&confirms, 310, 10, false);
    done(&confirms, 308, 2, true);
    assert_string_equal(told(&confirms), "ack 309+ nack 319+ ");
    done(&confirms, 320, 256, false);
    confirms.next = 5000;
    done(&confirms, 576, 1, true);
    assert_string_equal(told(&confirms), "nack 575+ ack 576 ");
    confirms_deinit(&confirms);
}

/* Every number is told once, in order, as it was answered, whatever the order of the answers. */
static void it_agrees_with_an_array(void **state)
{
    (void)state;
    enum { NUMBERS = 2000 };
    static signed char answers[NUMBERS + 1];
    for (unsigned seed = 1; seed <= 20; seed++) {
        struct confirms confirms;
        uint64_t expected = 1, upto;
        bool multiple, accepted;
        confirms_init(&confirms);
        memset(answers, 0, sizeof(answers));
        srand(seed);
        for (int step = 0; step < 40000; step++) {
            uint64_t number = expected + (uint64_t)rand() % 700;
            if (confirms.next <= NUMBERS && rand() % 3)
                confirms.next++;
            if (number < confirms.next && !answers[number]) {
                answers[number] = rand() % 5 ? 1 : -1;
                done(&confirms, number, 1, answers[number] > 0);
            }
            while (rand() % 10 == 0 && confirms_tell(&confirms, &upto, &multiple, &accepted)) {
                assert_int_equal(multiple, upto > expected);
                for (; expected <= upto; expected++)
                    assert_int_equal(answers[expected], accepted ? 1 : -1);
            }
        }
        confirms_deinit(&confirms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_in_order_is_one_ack),
        cmocka_unit_test(what_overtakes_waits),
        cmocka_unit_test(refusals_are_told_apart),
        cmocka_unit_test(it_agrees_with_an_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
