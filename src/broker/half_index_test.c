#include "broker/half_index.h"

#include "base/err.h"
#include "base/test_malloc.h"
#include "protocol/amqp/properties.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)

/* Allocations fail from the one with this number on; 0: none does. */
static unsigned failing, allocations;
static bool fails(void) { return failing && ++allocations >= failing; }

static struct half_index index_of(void)
{
    struct half_index index;
    half_index_init(&index, 1);
    return index;
}

static struct half_transaction *add(struct half_index *index, const char *id, uint64_t seq, uint64_t now_ms, struct half_said said)
{
    struct half_transaction *transaction = half_index_make(index, TEXT(id), now_ms);
    if (!transaction || !half_index_reserve(index, transaction, &said))
        return NULL;
    half_index_touch(transaction, now_ms);
    if (!half_index_watch(index, transaction))
        return NULL;
    half_index_add(index, transaction, seq, now_ms);
    return transaction;
}

static void messages_of_one_id_are_together(void **state)
{
    (void)state;
    struct half_index index = index_of();
    for (unsigned i = 0; i < 100; i++)
        assert_non_null(add(&index, i % 2 ? "odd" : "even", i + 1, 1000 + i, (struct half_said){.check_queue = TEXT("asks")}));
    const struct half_transaction *odd = half_index_find(&index, TEXT("odd"));
    assert_int_equal(odd->count, 50);
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(odd->seqs[i], 2 * i + 2);
    assert_int_equal(index.messages, 100);
    assert_null(half_index_find(&index, TEXT("neither")));
    half_index_deinit(&index);
}

static void the_first_that_is_due_comes_first_and_once(void **state)
{
    (void)state;
    struct half_index index = index_of();
    uint64_t next_ms;
    add(&index, "slow", 1, 1000, (struct half_said){.says_after = true, .check_after_ms = 500});
    add(&index, "fast", 2, 1100, (struct half_said){.says_after = true, .check_after_ms = 100});
    assert_null(half_index_due(&index, 1199, &next_ms));
    assert_int_equal(next_ms, 1200);
    assert_ptr_equal(half_index_due(&index, 1200, &next_ms), half_index_find(&index, TEXT("fast")));
    assert_null(half_index_due(&index, 1200, &next_ms));
    assert_int_equal(next_ms, 1500);
    add(&index, "slow", 3, 1400, (struct half_said){0});   /* its clock begins anew */
    assert_null(half_index_due(&index, 1899, &next_ms));
    assert_int_equal(next_ms, 1900);
    add(&index, "slow", 4, 1300, (struct half_said){0});   /* one that was long on its way */
    assert_null(half_index_due(&index, 1899, &next_ms));
    assert_ptr_equal(half_index_due(&index, 1900, &next_ms), half_index_find(&index, TEXT("slow")));
    half_index_deinit(&index);
}

static void what_is_decided_is_asked_about_no_more(void **state)
{
    (void)state;
    struct half_index index = index_of();
    uint64_t next_ms;
    struct half_transaction *transaction = add(&index, "t", 1, 1000, (struct half_said){.says_after = true, .check_after_ms = 500});
    transaction->state = HALF_GOING;
    assert_null(half_index_due(&index, 2000, &next_ms));
    assert_int_equal(next_ms, UINT64_MAX);
    half_index_done(&index, transaction);
    assert_int_equal(index.messages, 0);
    assert_ptr_equal(half_list_take(&index.done), transaction);
    half_index_remove(&index, transaction);
    assert_int_equal(index.bytes, 0);
    assert_null(half_index_find(&index, TEXT("t")));
    half_index_deinit(&index);
}

/* Whichever allocation fails: what was there is there, and it works again afterwards. */
static void without_memory_nothing_breaks(void **state)
{
    (void)state;
    for (failing = 1; failing < 12; failing++) {
        struct half_index index;
        allocations = 0;
        half_index_init(&index, 1);
        for (unsigned i = 0; i < 20; i++)
            add(&index, i % 3 ? "a" : "b", i + 1, 1000, (struct half_said){.check_queue = TEXT("asks")});
        unsigned before = failing;
        failing = 0;
        uint64_t messages = index.messages;
        assert_non_null(add(&index, "a", 100, 1000, (struct half_said){.check_queue = TEXT("others")}));
        assert_int_equal(index.messages, messages + 1);
        half_index_deinit(&index);
        failing = before;
    }
    failing = 0;
}

/* ---- what messages say ------------------------------------------------------------------------------------------------ */

static struct bytes encode(struct amqp_properties properties, void (*fill)(struct amqp_table_writer *writer))
{
    static uint8_t room[512], encoded[1024];
    struct amqp_table_writer writer;
    amqp_table_begin(&writer, room, sizeof(room));
    fill(&writer);
    assert_true(amqp_table_finish(&writer, &properties.headers));
    properties.flags |= AMQP_HEADERS;
    return bytes_of(encoded, amqp_properties_encode(&properties, encoded, sizeof(encoded)));
}

static void full(struct amqp_table_writer *writer)
{
    amqp_table_put_text(writer, "before", TEXT("b"));
    amqp_table_put_text(writer, "x-transaction", TEXT("order 17"));
    amqp_table_put_long(writer, "x-check-after", 250);
    amqp_table_put_int(writer, "x-check-limit", 0);
    amqp_table_put_text(writer, "x-check-queue", TEXT("asks"));
    amqp_table_put_int(writer, "z", 26);
}

static void a_message_says_what_it_wants_and_goes_on_without_it(void **state)
{
    (void)state;
    struct half_said said;
    struct amqp_properties after;
    struct amqp_field field;
    struct bytes properties = encode((struct amqp_properties){.flags = AMQP_REPLY_TO, .reply_to = TEXT("replies")}, full), rest;
    char why[256];
    assert_int_equal(half_read(TEXT("x"), TEXT("k"), properties, 0, &said, why, sizeof(why)), HALF_MESSAGE);
    assert_true(bytes_equal(said.id, TEXT("order 17")) && bytes_equal(said.check_queue, TEXT("asks")));
    assert_true(said.says_after && said.says_limit && said.check_after_ms == 250 && said.check_limit == 0);
    assert_int_equal(half_committed_properties(properties, &rest), GW_OK);
    assert_true(amqp_properties_decode(rest, &after));
    assert_true(amqp_table_find(after.headers, "x-transaction-committed", &field) && bytes_equal(field.bytes, TEXT("order 17")));
    assert_true(amqp_table_find(after.headers, "before", &field) && amqp_table_find(after.headers, "z", &field) && field.integer == 26);
    for (const char *const *name = (const char *const[]){"x-transaction", "x-check-after", "x-check-limit", "x-check-queue", NULL}; *name; name++)
        assert_false(amqp_table_find(after.headers, *name, &field));
    assert_int_equal(half_read(TEXT("x"), TEXT("k"), rest, 0, &said, why, sizeof(why)), HALF_NONE);
    free((void *)(uintptr_t)rest.data);
    for (failing = 1; failing < 3; failing++) {
        allocations = 0;
        assert_int_equal(half_committed_properties(properties, &rest), GW_ERR_NOMEM);
    }
    failing = 0;
}

static void the_brokers_own_messages_are_read_by_itself_alone(void **state)
{
    (void)state;
    uint8_t room[HALF_PROPERTIES_SIZE];
    char longest[HALF_ID_MAX + 1], why[256];
    struct half_said said;
    struct amqp_properties decoded;
    memset(longest, 't', HALF_ID_MAX);
    longest[HALF_ID_MAX] = 0;
    struct bytes note = half_note_properties(TEXT(longest), 7, room);
    assert_int_equal(half_read(TEXT(HALF_EXCHANGE), TEXT("check"), note, 0, &said, why, sizeof(why)), HALF_NOTE);
    assert_true(bytes_equal(said.id, TEXT(longest)) && said.checks == 7);
    const struct half_asked asked = {TEXT(HALF_EXCHANGE), TEXT("check"), note, 0};
    assert_int_equal(half_judge(&asked, &said, why, sizeof(why)), HALF_BAD);
    const struct half_check check = {TEXT(longest), 3, 15, 2, 1000};
    assert_true(amqp_properties_decode(half_check_properties(&check, room), &decoded));
    assert_true(bytes_equal(decoded.correlation_id, TEXT(longest)) && bytes_equal(decoded.type, TEXT("transaction-check")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_of_one_id_are_together),
        cmocka_unit_test(the_first_that_is_due_comes_first_and_once),
        cmocka_unit_test(what_is_decided_is_asked_about_no_more),
        cmocka_unit_test(without_memory_nothing_breaks),
        cmocka_unit_test(a_message_says_what_it_wants_and_goes_on_without_it),
        cmocka_unit_test(the_brokers_own_messages_are_read_by_itself_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
