/* What an event is at another broker. */
#include "bus/forward.h"

#include "base/err.h"
#include "protocol/amqp/properties.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static bool is_poor;
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) { return is_poor ? NULL : __real_malloc(size); }

static struct sink_uri sink_of(const char *text)
{
    struct sink_uri sink;
    char why[SINK_URI_WHY_MAX];
    assert_true(sink_uri_read(text, &sink, why));
    return sink;
}

/* Headers with an id and a type, either of which may be NULL. */
static struct bytes headers_of(uint8_t room[256], const char *id, const char *type)
{
    struct amqp_table_writer writer;
    struct bytes table;
    amqp_table_begin(&writer, room, 256);
    if (id)
        amqp_table_put_text(&writer, "cloudEvents_id", bytes_of_text(id));
    if (type)
        amqp_table_put_text(&writer, "cloudEvents_type", bytes_of_text(type));
    amqp_table_put_int(&writer, "grade", 3);
    assert_true(amqp_table_finish(&writer, &table));
    return table;
}

static struct message message_of(const char *exchange, const char *key, const struct amqp_properties *properties, uint8_t room[512])
{
    size_t size = amqp_properties_encode(properties, room, 512);
    assert_true(size);
    return (struct message){.exchange = bytes_of_text(exchange), .routing_key = bytes_of_text(key), .properties = bytes_of(room, size), .body = bytes_of_text("body")};
}

static void assert_text(struct bytes bytes, const char *text) { assert_true(bytes_equal(bytes, bytes_of_text(text))); }

static void a_message_that_has_an_id_goes_as_it_is(void **state)
{
    uint8_t table[256], room[512];
    struct sink_uri sink = sink_of("amqp://there/?exchange=x");
    struct amqp_properties properties = {.flags = AMQP_HEADERS | AMQP_MESSAGE_ID | AMQP_PRIORITY, .priority = 4, .message_id = bytes_of_text("7"), .headers = headers_of(table, NULL, "other")};
    struct message message = message_of("events", "order.made", &properties, room);
    struct forward forward;
    (void)state;
    assert_true(forward_init(&forward, &message, &sink, "1-1"));
    assert_null(forward.room);
    assert_ptr_equal(forward.message.properties.data, message.properties.data);
    assert_text(forward.message.exchange, "x");
    assert_text(forward.message.routing_key, "order.made");
    assert_true(forward.message.is_mandatory);
    assert_string_equal(forward.id, "7");
    forward_deinit(&forward);
}

static void users_stay_here_and_ids_are_made(void **state)
{
    static const struct { const char *id, *message_id, *wanted; } cases[] = {{"e7", NULL, "e7"}, {NULL, NULL, "1-1"}, {"e7", "m7", "m7"}, {NULL, "", "1-1"}};
    struct sink_uri sink = sink_of("amqp://there/?exchange=x&routing_key=always&mandatory=false");
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        uint8_t table[256], room[512];
        struct amqp_properties properties = {.flags = AMQP_HEADERS | AMQP_USER_ID | AMQP_APP_ID | AMQP_DELIVERY_MODE, .delivery_mode = 2, .user_id = bytes_of_text("guest"),
                                             .app_id = bytes_of_text("app"), .headers = headers_of(table, cases[i].id, NULL)}, after;
        if (cases[i].message_id) {
            properties.flags |= AMQP_MESSAGE_ID;
            properties.message_id = bytes_of_text(cases[i].message_id);
        }
        struct message message = message_of("events", "order.made", &properties, room);
        struct forward forward;
        assert_true(forward_init(&forward, &message, &sink, "1-1"));
        assert_true(amqp_properties_decode(forward.message.properties, &after));
        assert_int_equal(after.flags, AMQP_HEADERS | AMQP_APP_ID | AMQP_DELIVERY_MODE | AMQP_MESSAGE_ID);
        assert_text(after.message_id, cases[i].wanted);
        assert_true(bytes_equal(after.headers, properties.headers));
        assert_text(after.app_id, "app");
        assert_text(forward.message.routing_key, "always");
        assert_false(forward.message.is_mandatory);
        assert_string_equal(forward.id, cases[i].id ? cases[i].id : cases[i].wanted);
        forward_deinit(&forward);
        is_poor = true;
        assert_false(forward_init(&forward, &message, &sink, "1-1"));
        is_poor = false;
    }
}

static void what_brokers_wrote_stays_here(void **state)
{
    uint8_t table[256], room[512];
    struct amqp_table_writer writer;
    struct sink_uri sink = sink_of("amqp://there/");
    struct amqp_properties properties = {.flags = AMQP_HEADERS | AMQP_MESSAGE_ID, .message_id = bytes_of_text("7")}, after;
    struct amqp_field field;
    struct forward forward;
    (void)state;
    amqp_table_begin(&writer, table, sizeof(table));
    amqp_table_put_int(&writer, "x-delay", 5000);
    amqp_table_put_text(&writer, "tenant", bytes_of_text("a"));
    amqp_table_put_long(&writer, "x-deliver-at", 1);
    amqp_table_put_bool(&writer, "x-mine", true);
    assert_true(amqp_table_finish(&writer, &properties.headers));
    struct message message = message_of("events", "order.made", &properties, room);
    assert_true(forward_init(&forward, &message, &sink, "1-1"));
    assert_true(amqp_properties_decode(forward.message.properties, &after));
    assert_false(amqp_table_find(after.headers, "x-delay", &field) || amqp_table_find(after.headers, "x-deliver-at", &field));
    assert_true(amqp_table_find(after.headers, "tenant", &field) && amqp_table_find(after.headers, "x-mine", &field));
    assert_text(after.message_id, "7");
    forward_deinit(&forward);
}

/* A test's event, or one that is played back, has the queue's name as the key. */
static void what_was_sent_to_the_queue_has_its_type_as_the_key(void **state)
{
    uint8_t table[256], room[512], bare_room[512];
    struct sink_uri sink = sink_of("amqp://there/");
    struct amqp_properties properties = {.flags = AMQP_HEADERS | AMQP_MESSAGE_ID, .message_id = bytes_of_text("7"), .headers = headers_of(table, "7", "godwit.test")};
    struct message message = message_of("", "subscription.s1", &properties, room);
    struct message bare = message_of("", "subscription.s1", &(struct amqp_properties){0}, bare_room);
    struct forward forward;
    (void)state;
    assert_true(forward_init(&forward, &message, &sink, "1-1"));
    assert_text(forward.message.exchange, "events");
    assert_text(forward.message.routing_key, "godwit.test");
    forward_deinit(&forward);
    assert_true(forward_init(&forward, &bare, &sink, "1-1"));
    assert_text(forward.message.routing_key, "subscription.s1");
    assert_string_equal(forward.id, "1-1");
    forward_deinit(&forward);
}

static void an_id_may_be_longer_than_a_message_s(void **state)
{
    uint8_t table[1024], room[2048];
    char id[400];
    struct amqp_table_writer writer;
    struct sink_uri sink = sink_of("amqp://there/");
    struct amqp_properties properties = {.flags = AMQP_HEADERS}, after;
    struct forward forward;
    (void)state;
    memset(id, 'i', sizeof(id) - 1);
    id[sizeof(id) - 1] = 0;
    amqp_table_begin(&writer, table, sizeof(table));
    amqp_table_put_text(&writer, "cloudEvents_id", bytes_of_text(id));
    assert_true(amqp_table_finish(&writer, &properties.headers));
    struct message message = {.exchange = bytes_of_text("events"), .properties = bytes_of(room, amqp_properties_encode(&properties, room, sizeof(room)))};
    assert_true(forward_init(&forward, &message, &sink, "1-1"));
    assert_true(amqp_properties_decode(forward.message.properties, &after));
    assert_text(after.message_id, "1-1");
    assert_int_equal(strlen(forward.id), HOOK_ID_MAX - 1);
    forward_deinit(&forward);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_that_has_an_id_goes_as_it_is), cmocka_unit_test(users_stay_here_and_ids_are_made),
        cmocka_unit_test(what_was_sent_to_the_queue_has_its_type_as_the_key), cmocka_unit_test(what_brokers_wrote_stays_here), cmocka_unit_test(an_id_may_be_longer_than_a_message_s),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
