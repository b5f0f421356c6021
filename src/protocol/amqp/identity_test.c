#include "protocol/amqp/identity.h"
#include "protocol/amqp/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static uint8_t room[IDENTITY_TABLE_MAX];
static const struct identity_terms terms = {.frame_max = 131072, .channel_max = 2047, .heartbeat_s = 60};

static void expect_text(struct bytes table, const char *name, const char *value)
{
    struct amqp_field field;
    assert_true(amqp_table_find(table, name, &field));
    assert_int_equal(field.type, 'S');
    assert_true(bytes_equal(field.bytes, bytes_of_text(value)));
}

static struct bytes client_properties(struct bytes table)
{
    struct amqp_field field;
    assert_true(amqp_table_valid(table));
    assert_true(amqp_table_find(table, "client_properties", &field));
    assert_int_equal(field.type, 'F');
    return field.bytes;
}

static void a_connection_is_called_by_its_addresses(void **state)
{
    (void)state;
    struct identity *v4 = identity_new((struct session_address){"127.0.0.1", 50000}, (struct session_address){"127.0.0.1", 5672});
    struct identity *v6 = identity_new((struct session_address){"::1", 50000}, (struct session_address){"::1", 5672});
    struct amqp_field field;
    struct bytes table = identity_table(v4, &terms, room);
    expect_text(table, "name", "127.0.0.1:50000 -> 127.0.0.1:5672");
    expect_text(table, "peer_host", "127.0.0.1");
    assert_true(amqp_table_find(table, "peer_port", &field) && field.integer == 50000);
    assert_true(amqp_table_find(table, "frame_max", &field) && field.integer == 131072);
    expect_text(identity_table(v6, &terms, room), "name", "[::1]:50000 -> [::1]:5672");
    free(v4);
    free(v6);
}

static void what_the_client_says_of_itself_is_kept(void **state)
{
    (void)state;
    static const uint8_t said[] = "\7productS\0\0\0\4Pika\5thingt\1";
    struct identity *identity = identity_new((struct session_address){"10.0.0.1", 1}, (struct session_address){"10.0.0.2", 2});
    identity_introduce(&identity, bytes_of_text("PLAIN"), bytes_of(said, sizeof(said) - 1));
    struct bytes table = identity_table(identity, &terms, room);
    expect_text(table, "auth_mechanism", "PLAIN");
    assert_true(bytes_equal(client_properties(table), bytes_of(said, sizeof(said) - 1)));
    free(identity);
}

static void of_too_much_the_usual_names_are_kept(void **state)
{
    (void)state;
    static uint8_t said[IDENTITY_PROPERTIES_MAX * 2], long_text[IDENTITY_PROPERTIES_MAX];
    struct amqp_table_writer writer;
    struct bytes properties;
    memset(long_text, 'x', sizeof(long_text));
    amqp_table_begin(&writer, said, sizeof(said));
    amqp_table_put_text(&writer, "long", bytes_of(long_text, sizeof(long_text)));
    amqp_table_put_text(&writer, "product", bytes_of_text("Pika"));
    assert_true(amqp_table_finish(&writer, &properties));
    struct identity *identity = identity_new((struct session_address){"10.0.0.1", 1}, (struct session_address){"10.0.0.2", 2});
    identity_introduce(&identity, bytes_of_text("PLAIN"), properties);
    struct bytes kept = client_properties(identity_table(identity, &terms, room));
    struct amqp_field field;
    expect_text(kept, "product", "Pika");
    assert_false(amqp_table_find(kept, "long", &field));
    free(identity);
}

static void nobody_has_an_empty_table(void **state)
{
    (void)state;
    struct identity *nobody = NULL;
    identity_introduce(&nobody, bytes_of_text("PLAIN"), (struct bytes){0});
    assert_null(nobody);
    assert_int_equal(identity_table(NULL, &terms, room).size, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_is_called_by_its_addresses),
        cmocka_unit_test(what_the_client_says_of_itself_is_kept),
        cmocka_unit_test(of_too_much_the_usual_names_are_kept),
        cmocka_unit_test(nobody_has_an_empty_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
