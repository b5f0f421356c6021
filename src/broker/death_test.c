#include "broker/death.h"

#include "protocol/amqp/properties.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)

/* ---- tables as text, with the types that RabbitMQ sends ------------------------------------------------------------ */

struct text {
    char at[4096];
    size_t size;
};

__attribute__((format(printf, 2, 3)))
static void say(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    text->size += (size_t)vsnprintf(text->at + text->size, sizeof(text->at) - text->size, format, arguments);
    va_end(arguments);
}

static void say_table(struct text *text, struct bytes table);

static void say_value(struct text *text, const struct amqp_field *field)
{
    say(text, "%c", field->type);
    if (field->type == 'S')
        say(text, "%.*s", (int)field->bytes.size, (const char *)field->bytes.data);
    else if (field->type == 'F')
        say_table(text, field->bytes);
    else if (field->type == 'A') {
        struct bytes rest = field->bytes;
        struct amqp_field element;
        say(text, "[");
        for (unsigned i = 0; amqp_array_next(&rest, &element) == WIRE_OK; i++) {
            say(text, i ? " " : "");
            say_value(text, &element);
        }
        say(text, "]");
    } else
        say(text, "%lld", (long long)field->integer);
}

static void say_table(struct text *text, struct bytes table)
{
    struct amqp_field field;
    say(text, "{");
    for (unsigned i = 0; amqp_table_next(&table, &field) == WIRE_OK; i++) {
        say(text, "%s%.*s:", i ? " " : "", (int)field.name.size, (const char *)field.name.data);
        say_value(text, &field);
    }
    say(text, "}");
}

/* ---- messages ------------------------------------------------------------------------------------------------------ */

struct built {
    uint8_t bytes[8192];
    struct bytes properties;
    struct message message;
};

static void build(struct built *built, const char *exchange, const char *key, struct amqp_properties properties)
{
    size_t size = amqp_properties_encode(&properties, built->bytes, sizeof(built->bytes));
    assert_true(size > 0);
    built->properties = bytes_of(built->bytes, size);
    built->message = (struct message){.exchange = TEXT(exchange), .routing_key = TEXT(key), .properties = built->properties};
}

/* Dies once; the answer's properties replace its own. */
static void die(struct built *built, const char *queue, const char *reason, const char *next_key)
{
    const struct death death = {.queue = TEXT(queue), .reason = TEXT(reason), .time_s = 1000, .rerouted = next_key};
    struct bytes properties;
    assert_int_equal(death_properties(&built->message, &death, &properties), GW_OK);
    memcpy(built->bytes, properties.data, properties.size);
    built->properties = built->message.properties = bytes_of(built->bytes, properties.size);
    if (next_key)
        built->message.routing_key = TEXT(next_key);
    free((void *)(uintptr_t)properties.data);
}

static void expect_headers(const struct built *built, const char *expected)
{
    struct amqp_properties properties;
    assert_true(amqp_properties_decode(built->properties, &properties));
    struct text text = {0};
    say_table(&text, properties.headers);
    assert_string_equal(text.at, expected);
}

/* x-death alone. */
static void expect_deaths(const struct built *built, const char *expected)
{
    struct amqp_properties properties;
    struct amqp_field field;
    assert_true(amqp_properties_decode(built->properties, &properties));
    assert_true(amqp_table_find(properties.headers, "x-death", &field));
    struct text text = {0};
    say_value(&text, &field);
    assert_string_equal(text.at, expected);
}

static size_t put_array(struct amqp_table_writer *writer, const char *name)
{
    uint8_t size[4] = {0};
    amqp_table_put_raw(writer, TEXT(name), 'A', bytes_of(size, 4));
    return (size_t)(writer->at - writer->begin) - 4;
}

static void put_text(struct amqp_table_writer *writer, const char *text)
{
    *writer->at++ = 'S';
    store_be32(writer->at, (uint32_t)strlen(text));
    memcpy(writer->at + 4, text, strlen(text));
    writer->at += 4 + strlen(text);
}

static size_t put_table(struct amqp_table_writer *writer)
{
    *writer->at++ = 'F';
    writer->at += 4;
    return (size_t)(writer->at - writer->begin) - 4;
}

static struct bytes finish(struct amqp_table_writer *writer)
{
    struct bytes table;
    assert_true(amqp_table_finish(writer, &table));
    return table;
}

/* A hand-made death: only what is not NULL, and a count when it is not 0. */
static void put_death(struct amqp_table_writer *writer, const char *queue, const char *reason, int count)
{
    size_t mark = put_table(writer);
    if (count)
        amqp_table_put_int(writer, "count", count);
    if (queue)
        amqp_table_put_text(writer, "queue", TEXT(queue));
    if (reason)
        amqp_table_put_text(writer, "reason", TEXT(reason));
    amqp_table_nest_end(writer, mark);
}

/* ---- the first death ----------------------------------------------------------------------------------------------- */

static void the_first_death_says_where_and_why(void **state)
{
    (void)state;
    struct built built;
    build(&built, "amq.direct", "key", (struct amqp_properties){.flags = AMQP_DELIVERY_MODE | AMQP_EXPIRATION | AMQP_MESSAGE_ID, .delivery_mode = 2,
                                                                .expiration = TEXT("50"), .message_id = TEXT("m")});
    die(&built, "q", "expired", NULL);
    expect_headers(&built, "{x-death:A[F{count:l1 reason:Sexpired queue:Sq time:T1000 exchange:Samq.direct routing-keys:A[Skey] original-expiration:S50}] "
                           "x-first-death-exchange:Samq.direct x-first-death-queue:Sq x-first-death-reason:Sexpired "
                           "x-last-death-exchange:Samq.direct x-last-death-queue:Sq x-last-death-reason:Sexpired}");
    struct amqp_properties properties;
    assert_true(amqp_properties_decode(built.properties, &properties));
    assert_int_equal(properties.flags, AMQP_HEADERS | AMQP_DELIVERY_MODE | AMQP_MESSAGE_ID);   /* it does not expire again */
    assert_int_equal(properties.delivery_mode, 2);
    assert_true(bytes_equal(properties.message_id, TEXT("m")));
}

static void build_with_copies(struct built *built)
{
    static uint8_t room[512];
    struct amqp_table_writer writer;
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_int(&writer, "z", 1);
    size_t mark = put_array(&writer, "CC");
    put_text(&writer, "k1");
    put_text(&writer, "k2");
    amqp_table_nest_end(&writer, mark);
    mark = put_array(&writer, "BCC");
    put_text(&writer, "b1");
    amqp_table_nest_end(&writer, mark);
    amqp_table_put_text(&writer, "a", TEXT("b"));
    build(built, "x", "key", (struct amqp_properties){.flags = AMQP_HEADERS, .headers = finish(&writer)});
}

static void copies_go_on_with_the_keys_they_had(void **state)
{
    (void)state;
    struct built built;
    build_with_copies(&built);
    die(&built, "q", "rejected", NULL);
    expect_headers(&built, "{BCC:A[Sb1] CC:A[Sk1 Sk2] a:Sb "
                           "x-death:A[F{count:l1 reason:Srejected queue:Sq time:T1000 exchange:Sx routing-keys:A[Skey Sk1 Sk2]}] "
                           "x-first-death-exchange:Sx x-first-death-queue:Sq x-first-death-reason:Srejected "
                           "x-last-death-exchange:Sx x-last-death-queue:Sq x-last-death-reason:Srejected z:I1}");
}

static void another_routing_key_ends_the_copies(void **state)
{
    (void)state;
    struct built built;
    build_with_copies(&built);
    die(&built, "q", "rejected", "other");
    expect_headers(&built, "{a:Sb x-death:A[F{count:l1 reason:Srejected queue:Sq time:T1000 exchange:Sx routing-keys:A[Skey Sk1 Sk2]}] "
                           "x-first-death-exchange:Sx x-first-death-queue:Sq x-first-death-reason:Srejected "
                           "x-last-death-exchange:Sx x-last-death-queue:Sq x-last-death-reason:Srejected z:I1}");
    die(&built, "r", "rejected", "third");
    expect_deaths(&built, "A[F{count:l1 exchange:Sx queue:Sr reason:Srejected routing-keys:A[Sother] time:T1000} "
                          "F{count:l1 reason:Srejected queue:Sq time:T1000 exchange:Sx routing-keys:A[Skey Sk1 Sk2]}]");
}

/* ---- more deaths --------------------------------------------------------------------------------------------------- */

/* RabbitMQ 3.10.8 turns the older deaths around at each new one. */
static void five_queues_in_a_row_stand_in_rabbitmqs_order(void **state)
{
    (void)state;
    struct built built;
    build(&built, "", "c0", (struct amqp_properties){.flags = AMQP_EXPIRATION, .expiration = TEXT("5")});
    die(&built, "c0", "expired", "c1");
    die(&built, "c1", "expired", "c2");
    die(&built, "c2", "expired", "c3");
    die(&built, "c3", "expired", "c4");
    die(&built, "c4", "expired", "c5");
    expect_headers(&built, "{x-death:A[F{count:l1 exchange:S queue:Sc4 reason:Sexpired routing-keys:A[Sc4] time:T1000} "
                           "F{count:l1 exchange:S queue:Sc2 reason:Sexpired routing-keys:A[Sc2] time:T1000} "
                           "F{count:l1 reason:Sexpired queue:Sc0 time:T1000 exchange:S routing-keys:A[Sc0] original-expiration:S5} "
                           "F{count:l1 exchange:S queue:Sc1 reason:Sexpired routing-keys:A[Sc1] time:T1000} "
                           "F{count:l1 exchange:S queue:Sc3 reason:Sexpired routing-keys:A[Sc3] time:T1000}] "
                           "x-first-death-exchange:S x-first-death-queue:Sc0 x-first-death-reason:Sexpired "
                           "x-last-death-exchange:S x-last-death-queue:Sc4 x-last-death-reason:Sexpired}");
}

static void a_second_death_of_a_kind_counts(void **state)
{
    (void)state;
    struct built built;
    build(&built, "", "r0", (struct amqp_properties){0});
    die(&built, "r0", "rejected", "r1");
    die(&built, "r1", "expired", "r0");
    die(&built, "r0", "rejected", "r1");
    die(&built, "r1", "expired", "r0");
    expect_deaths(&built, "A[F{count:l2 exchange:S queue:Sr1 reason:Sexpired routing-keys:A[Sr1] time:T1000} "
                          "F{count:l2 exchange:S queue:Sr0 reason:Srejected routing-keys:A[Sr0] time:T1000}]");
}

/* ---- what clients make up ------------------------------------------------------------------------------------------ */

static void begin_by_hand(struct amqp_table_writer *writer, uint8_t *room, size_t size, size_t *mark)
{
    amqp_table_begin(writer, room, size);
    *mark = put_array(writer, "x-death");
}

static void build_by_hand(struct built *built, struct amqp_table_writer *writer, size_t mark)
{
    amqp_table_nest_end(writer, mark);
    build(built, "", "s0", (struct amqp_properties){.flags = AMQP_HEADERS, .headers = finish(writer)});
    die(built, "s0", "rejected", NULL);
}

static void deaths_made_by_hand_are_taken_as_they_are(void **state)
{
    (void)state;
    struct built built;
    struct amqp_table_writer writer;
    uint8_t room[1024];
    size_t mark;
    begin_by_hand(&writer, room, sizeof(room), &mark);
    build_by_hand(&built, &writer, mark);
    expect_headers(&built, "{x-death:A[F{count:l1 exchange:S queue:Ss0 reason:Srejected routing-keys:A[Ss0] time:T1000}] "
                           "x-last-death-exchange:S x-last-death-queue:Ss0 x-last-death-reason:Srejected}");
    begin_by_hand(&writer, room, sizeof(room), &mark);
    put_death(&writer, "s0", "rejected", 0);
    build_by_hand(&built, &writer, mark);
    expect_deaths(&built, "A[F{count:l1 queue:Ss0 reason:Srejected}]");
    begin_by_hand(&writer, room, sizeof(room), &mark);
    put_death(&writer, "s0", "rejected", 5);
    put_death(&writer, "u", "expired", 0);
    build_by_hand(&built, &writer, mark);
    expect_deaths(&built, "A[F{count:l6 queue:Ss0 reason:Srejected} F{count:l1 queue:Su reason:Sexpired}]");
    begin_by_hand(&writer, room, sizeof(room), &mark);
    put_death(&writer, "u", "rejected", 0);
    put_death(&writer, "u", "rejected", 0);
    put_death(&writer, "v", "rejected", 0);
    build_by_hand(&built, &writer, mark);
    expect_deaths(&built, "A[F{count:l1 exchange:S queue:Ss0 reason:Srejected routing-keys:A[Ss0] time:T1000} F{count:l1 queue:Sv reason:Srejected} "
                          "F{count:l2 queue:Su reason:Srejected}]");
}

static void what_is_no_array_is_replaced(void **state)
{
    (void)state;
    struct built built;
    struct amqp_table_writer writer;
    uint8_t room[256];
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "x-death", TEXT("text"));
    build(&built, "", "s0", (struct amqp_properties){.flags = AMQP_HEADERS, .headers = finish(&writer)});
    die(&built, "s0", "rejected", NULL);
    expect_deaths(&built, "A[F{count:l1 reason:Srejected queue:Ss0 time:T1000 exchange:S routing-keys:A[Ss0]}]");
}

static void what_is_no_table_stays(void **state)
{
    (void)state;
    struct built built;
    struct amqp_table_writer writer;
    uint8_t room[256];
    size_t mark;
    begin_by_hand(&writer, room, sizeof(room), &mark);
    put_text(&writer, "odd");
    put_death(&writer, NULL, NULL, 0);
    build_by_hand(&built, &writer, mark);
    expect_deaths(&built, "A[F{count:l1 exchange:S queue:Ss0 reason:Srejected routing-keys:A[Ss0] time:T1000} F{count:l1} Sodd]");
    assert_false(death_is_cycle(built.properties, TEXT("other")));
}

static void a_heap_of_deaths_takes_no_time(void **state)
{
    (void)state;
    static uint8_t room[120000];
    struct amqp_table_writer writer;
    size_t mark;
    begin_by_hand(&writer, room, sizeof(room), &mark);
    for (unsigned i = 0; i < 20000; i++)
        amqp_table_nest_end(&writer, put_table(&writer));
    amqp_table_nest_end(&writer, mark);
    const struct amqp_properties properties = {.flags = AMQP_HEADERS, .headers = finish(&writer)};
    static uint8_t bytes[140000];
    size_t size = amqp_properties_encode(&properties, bytes, sizeof(bytes));
    const struct message message = {.properties = bytes_of(bytes, size)};
    const struct death death = {.queue = TEXT("q"), .reason = TEXT("rejected")};
    struct bytes after;
    assert_int_equal(death_properties(&message, &death, &after), GW_OK);
    assert_true(after.size < 1000);   /* they are all of one kind */
    free((void *)(uintptr_t)after.data);
}

static void properties_that_are_none_are_refused(void **state)
{
    (void)state;
    const uint8_t broken[] = {0x20, 0x00, 0, 0, 0, 9};
    const struct message message = {.properties = bytes_of(broken, sizeof(broken))};
    const struct death death = {.queue = TEXT("q"), .reason = TEXT("rejected")};
    struct bytes after;
    assert_int_equal(death_properties(&message, &death, &after), GW_ERR_INVALID);
    assert_false(death_is_cycle(message.properties, TEXT("q")));
}

/* ---- cycles -------------------------------------------------------------------------------------------------------- */

static void a_way_back_without_a_rejection_is_a_cycle(void **state)
{
    (void)state;
    struct built built;
    build(&built, "", "a", (struct amqp_properties){0});
    assert_false(death_is_cycle(built.properties, TEXT("a")));
    die(&built, "a", "expired", "b");
    assert_true(death_is_cycle(built.properties, TEXT("a")));
    assert_false(death_is_cycle(built.properties, TEXT("b")));
    die(&built, "b", "maxlen", "c");
    assert_true(death_is_cycle(built.properties, TEXT("a")));
    assert_true(death_is_cycle(built.properties, TEXT("b")));
    die(&built, "c", "rejected", "d");
    assert_false(death_is_cycle(built.properties, TEXT("a")));
    assert_false(death_is_cycle(built.properties, TEXT("c")));
    assert_true(death_was_in(built.properties, TEXT("a")) && death_was_in(built.properties, TEXT("b")) && death_was_in(built.properties, TEXT("c")));
    assert_false(death_was_in(built.properties, TEXT("d")) || death_was_in(built.properties, TEXT("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_death_says_where_and_why),
        cmocka_unit_test(copies_go_on_with_the_keys_they_had),
        cmocka_unit_test(another_routing_key_ends_the_copies),
        cmocka_unit_test(five_queues_in_a_row_stand_in_rabbitmqs_order),
        cmocka_unit_test(a_second_death_of_a_kind_counts),
        cmocka_unit_test(deaths_made_by_hand_are_taken_as_they_are),
        cmocka_unit_test(what_is_no_array_is_replaced),
        cmocka_unit_test(what_is_no_table_stays),
        cmocka_unit_test(a_heap_of_deaths_takes_no_time),
        cmocka_unit_test(properties_that_are_none_are_refused),
        cmocka_unit_test(a_way_back_without_a_rejection_is_a_cycle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
