#include "protocol/amqp/output.h"

#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* What is written and referred to in pieces of random sizes leaves in order, in steps of random sizes. */
static void bytes_leave_in_the_order_in_which_they_came(void **state)
{
    (void)state;
    struct chunk_pool *pool = chunk_pool_new(4);
    struct chunk *body = chunk_new(pool, CHUNK_SIZE);
    for (size_t i = 0; i < CHUNK_SIZE; i++)
        body->data[i] = (uint8_t)(i * 7);
    for (unsigned seed = 1; seed <= 20; seed++) {
        struct output output;
        uint8_t next_in = 0, next_out = 0;
        output_init(&output, pool);
        srand(seed);
        for (int step = 0; step < 3000; step++) {
            if (rand() % 4) {
                size_t size = 1 + (size_t)(rand() % 50 ? rand() % 200 : rand() % 9000);
                uint8_t *at = output_room(&output, size), *end = at;
                assert_non_null(at);
                while (end < at + size)
                    *end++ = next_in++;
                output_wrote(&output, end);
            } else if (rand() % 3 == 0) {
                /* A stretch of the body whose bytes follow on: i * 7 is next_in at i = next_in * 183. */
                uint8_t *at = output_room(&output, 1);
                *at = next_in++;
                output_wrote(&output, at + 1);
                output_reference(&output, bytes_of(body->data + (uint8_t)(next_in * 183), 1), body);
                next_in++;
            }
            struct iovec iov[5];
            unsigned count = output_vectors(&output, iov, 5);
            size_t left = count && rand() % 5 == 0 ? (size_t)rand() % (output.size + 1) : 0, done = 0;
            for (unsigned i = 0; i < count && done < left; i++) {
                for (size_t j = 0; j < iov[i].iov_len && done < left; j++, done++)
                    assert_int_equal(((uint8_t *)iov[i].iov_base)[j], next_out++);
            }
            output_sent(&output, done);
        }
        output_deinit(&output);
    }
    assert_int_equal(atomic_load(&body->references), 1);
    chunk_release(body, pool);
    chunk_pool_free(pool);
}

static void nothing_is_kept_once_all_has_left(void **state)
{
    (void)state;
    struct output output;
    output_init(&output, NULL);
    output_wrote(&output, output_room(&output, 10) + 10);
    assert_non_null(output.small);
    output_wrote(&output, output_room(&output, 5000) + 5000);
    assert_non_null(output.block);
    output_sent(&output, 5010);
    assert_null(output.small);
    assert_null(output.block);
    assert_int_equal(output.size, 0);
    output_deinit(&output);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_leave_in_the_order_in_which_they_came),
        cmocka_unit_test(nothing_is_kept_once_all_has_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
