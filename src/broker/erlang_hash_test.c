#include "broker/erlang_hash.h"

#include "protocol/amqp/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Every number here was printed by Erlang/OTP 25: erlang:phash2(Term, 1 bsl 32), rand:seed_s(exs1024, {Seed, Seed, Seed}). */

static void binaries_hash_as_in_erlang(void **state)
{
    (void)state;
    assert_int_equal(erlang_hash_binary(0, bytes_of_text("")), 147926629);
    assert_int_equal(erlang_hash_binary(0, bytes_of_text("a")), 1589197455);
    assert_int_equal(erlang_hash_binary(0, bytes_of_text("hello, world and more")) & (ERLANG_HASH_RANGE - 1), 102245814);
}

static void lists_of_binaries_hash_as_in_erlang(void **state)
{
    (void)state;
    uint32_t one = erlang_hash_binary(0, bytes_of_text("a")), two = erlang_hash_binary(one, bytes_of_text("b"));
    assert_int_equal(erlang_hash_nil(0), 3468870702u);
    assert_int_equal(erlang_hash_nil(one), 3543352798u);
    assert_int_equal(erlang_hash_nil(two), 3761191278u);
}

static void fields_hash_as_in_erlang(void **state)
{
    (void)state;
    const struct { struct amqp_field field; uint32_t hash; } cases[] = {
        {{.type = 'S', .bytes = bytes_of_text("a")}, 2750066019u},
        {{.type = 'l', .integer = 5}, 3216387852u},
        {{.type = 'l', .integer = -5}, 1128392733u},
        {{.type = 'I', .integer = 5}, 1517234593u},
        {{.type = 't', .integer = 1}, 568901355u},
        {{.type = 'T', .integer = 1600000000}, 1087702984u},
        {{.type = 'd', .real = 1.5}, 1994368889u},
        {{.type = 'D', .integer = 2, .scale = 1}, 2238720280u},
        {{.type = 'V'}, 2711431757u},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_int_equal(erlang_hash_field(&cases[i].field), cases[i].hash);
}

static void integers_of_every_size_hash_as_in_erlang(void **state)
{
    (void)state;
    const struct { int64_t value; uint32_t hash; } cases[] = {
        {1, 539485162u}, {-5, 517668864u}, {134217727, 4273352567u}, {134217728, 2562491755u}, {-134217728, 874979335u},
        {-134217729, 1418916782u}, {1099511627776, 282329375u},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_int_equal(erlang_hash_integer(0, cases[i].value), cases[i].hash);
}

static void the_generator_is_erlangs(void **state)
{
    (void)state;
    struct exs1024 generator;
    exs1024_seed(&generator, 12345);
    assert_true(exs1024_uniform(&generator) == 3.7522836103473421e-2);
    assert_true(exs1024_uniform(&generator) == 0.85070780498889098);
    for (unsigned i = 2; i < 39; i++)
        exs1024_uniform(&generator);
    assert_true(exs1024_uniform(&generator) == 0.21302329554675367);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(binaries_hash_as_in_erlang),
        cmocka_unit_test(lists_of_binaries_hash_as_in_erlang),
        cmocka_unit_test(fields_hash_as_in_erlang),
        cmocka_unit_test(integers_of_every_size_hash_as_in_erlang),
        cmocka_unit_test(the_generator_is_erlangs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
