#include "broker/arguments.h"

#include "protocol/amqp/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A table with one integer. */
static struct bytes table(uint8_t *room, size_t size, const char *name, int32_t value)
{
    struct amqp_table_writer writer;
    struct bytes bytes;
    amqp_table_begin(&writer, room, size);
    amqp_table_put_int(&writer, name, value);
    assert_true(amqp_table_finish(&writer, &bytes));
    return bytes;
}

static void a_vhost_may_say_the_type(void **state)
{
    (void)state;
    uint8_t first[64], room[64 + ARGUMENTS_ADDED];
    struct queue_declaration declaration = {.arguments = table(first, sizeof(first), "x-max-length", 5), .durable = true};
    struct amqp_field field;
    struct bytes with = arguments_with_default_type(&declaration, bytes_of_text("quorum"), room);
    assert_true(amqp_table_valid(with));
    assert_int_equal(settings_queue_type(with), QUEUE_QUORUM);
    assert_true(amqp_table_find(with, "x-max-length", &field) && field.integer == 5);
}

static void but_only_where_it_fits(void **state)
{
    (void)state;
    uint8_t room[64 + ARGUMENTS_ADDED];
    struct queue_declaration transient = {.durable = false}, exclusive = {.durable = true, .exclusive = true}, said = {.durable = true};
    assert_int_equal(arguments_with_default_type(&transient, bytes_of_text("quorum"), room).size, 0);
    assert_int_equal(arguments_with_default_type(&exclusive, bytes_of_text("stream"), room).size, 0);
    assert_int_equal(arguments_with_default_type(&said, bytes_of_text("nonsense"), room).size, 0);
    assert_int_equal(arguments_with_default_type(&said, (struct bytes){0}, room).size, 0);
    said.arguments = arguments_with_default_type(&said, bytes_of_text("classic"), room);
    assert_int_equal(settings_queue_type(arguments_with_default_type(&said, bytes_of_text("quorum"), room)), QUEUE_CLASSIC);
}

static void refusals_say_what_and_why(void **state)
{
    (void)state;
    uint8_t room[64];
    char why[256];
    struct queue_declaration declaration = {.arguments = table(room, sizeof(room), "x-message-ttl", -1)};
    assert_false(arguments_valid(&declaration, "queue 'q' in vhost '/'", why, sizeof(why)));
    assert_string_equal(why, "invalid arg 'x-message-ttl' for queue 'q' in vhost '/': {value_negative,-1}");
    declaration.arguments = table(room, sizeof(room), "x-delivery-limit", 1);
    assert_false(arguments_valid(&declaration, "queue 'q' in vhost '/'", why, sizeof(why)));
    assert_string_equal(why, "invalid arg 'x-delivery-limit' for queue 'q' in vhost '/' of queue type rabbit_classic_queue");
}

static void differences_name_both_sides(void **state)
{
    (void)state;
    uint8_t room[64];
    char why[256];
    struct bytes limited = table(room, sizeof(room), "x-max-length", 2);
    assert_true(arguments_equivalent(limited, limited, ARGUMENTS_OF_QUEUE, "queue 'q'", why, sizeof(why)));
    assert_false(arguments_equivalent((struct bytes){0}, limited, ARGUMENTS_OF_QUEUE, "queue 'q'", why, sizeof(why)));
    assert_string_equal(why, "'x-max-length' for queue 'q': received the value '2' of type 'signedint' but current is none");
    assert_true(arguments_equivalent((struct bytes){0}, limited, ARGUMENTS_OF_EXCHANGE, "exchange 'x'", why, sizeof(why)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vhost_may_say_the_type),
        cmocka_unit_test(but_only_where_it_fits),
        cmocka_unit_test(refusals_say_what_and_why),
        cmocka_unit_test(differences_name_both_sides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
