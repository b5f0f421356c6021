/* What a hall keeps of requests with an Idempotency-Key: letters in, letters out, in time that the test makes pass. */
#include "protocol/gateway/idempotency.h"

#include "base/test_malloc.h"
#include "broker/worker.h"
#include "protocol/gateway/reception.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define HOUR 3600000000u

static unsigned countdown;           /* allocations until one fails; 0: none does */
static bool fails(void) { return countdown && --countdown == 0; }

/* As in idempotency.c: ask, number, kind, verdict, status, print. */
struct letter {
    uint64_t ask, number;
    uint8_t kind, verdict;
    uint16_t status;
    uint8_t print[32];
};
enum { GRANTED, SAME, BUSY, OTHER, FULL };

static struct {
    uint64_t now_us;
    struct letter letter;
    char behind[64];
    size_t size;                     /* of what came behind it */
} told;

/* ---- what the room needs of others ---- */

uint64_t worker_now(const struct worker *worker) { (void)worker; return told.now_us; }

void worker_send(struct worker *worker, unsigned to, struct bytes letter)
{
    (void)worker, (void)to;
    memcpy(&told.letter, letter.data, sizeof(told.letter));
    told.size = letter.size - sizeof(told.letter);
    snprintf(told.behind, sizeof(told.behind), "%.*s", (int)(told.size < 63 ? told.size : 63), (const char *)letter.data + sizeof(told.letter));
}

bool reception_expect(struct task *task) { (void)task; return true; }
struct task *reception_expected(struct gateway_hall *hall, uint64_t ask) { (void)hall, (void)ask; return NULL; }
bool task_idempotency_key(struct task *task, char room[IDEMPOTENCY_KEY_SIZE]) { (void)task; room[0] = 0; return true; }
void task_answer(struct task *task, unsigned status, const char *json) { (void)task, (void)status, (void)json; }
void task_problem(struct task *task, unsigned status, const char *format, ...) { (void)task, (void)status, (void)format; }
void client_time(struct client *client, uint64_t now_us) { (void)client, (void)now_us; }

/* ---- letters ---- */

static void tell(struct gateway_hall *hall, struct letter letter, const void *behind, size_t size)
{
    uint8_t *room = __real_malloc(sizeof(letter) + size);
    memcpy(room, &letter, sizeof(letter));
    if (size)
        memcpy(room + sizeof(letter), behind, size);
    idempotency_letter(hall, 1, bytes_of(room, sizeof(letter) + size));
    free(room);
}

static unsigned claim(struct gateway_hall *hall, const char *key, uint8_t print)
{
    tell(hall, (struct letter){.ask = 7, .kind = LETTER_CLAIM, .print = {print}}, key, strlen(key));
    assert_int_equal(told.letter.kind, LETTER_CLAIMED);
    assert_int_equal(told.letter.ask, 7);
    return told.letter.verdict;
}

static void keep(struct gateway_hall *hall, uint64_t number, unsigned status, const char *answer)
{
    tell(hall, (struct letter){.number = number, .kind = LETTER_KEEP, .status = (uint16_t)status}, answer, strlen(answer));
}

static void an_answer_is_told_again(void **state)
{
    struct gateway_hall hall = {.workers = 2};
    (void)state;
    told.now_us = 5;
    assert_int_equal(claim(&hall, "k", 1), GRANTED);
    uint64_t number = told.letter.number;
    assert_int_equal(claim(&hall, "k", 1), BUSY);
    assert_int_equal(claim(&hall, "k", 2), OTHER);
    keep(&hall, number, 201, "{\"id\":1}");
    assert_int_equal(claim(&hall, "k", 1), SAME);
    assert_int_equal(told.letter.status, 201);
    assert_string_equal(told.behind, "{\"id\":1}");
    assert_int_equal(claim(&hall, "k", 2), OTHER);
    assert_int_equal(claim(&hall, "other", 1), GRANTED);
    keep(&hall, told.letter.number, 0, "");                  /* it was refused: the key is free */
    assert_int_equal(claim(&hall, "other", 2), GRANTED);
    keep(&hall, 4711, 200, "nobody's");
    told.now_us += 23ull * HOUR;
    assert_int_equal(claim(&hall, "k", 1), SAME);
    told.now_us += 2ull * HOUR;
    assert_int_equal(claim(&hall, "k", 2), GRANTED);
    assert_int_equal(claim(&hall, "other", 2), BUSY);        /* what is being done is not forgotten */
    idempotency_free(&hall);
}

static void there_are_so_many_and_so_long_ones(void **state)
{
    struct gateway_hall hall = {.workers = 1};
    static char long_one[60001];
    char key[16];
    (void)state;
    memset(long_one, 'x', sizeof(long_one) - 1);
    for (unsigned i = 0; i < 12000; i++) {
        snprintf(key, sizeof(key), "k%u", i);
        assert_int_equal(claim(&hall, key, 1), GRANTED);
        keep(&hall, told.letter.number, 200, "{}");
    }
    assert_int_equal(claim(&hall, "k2001", 1), SAME);
    assert_int_equal(claim(&hall, "k1999", 1), GRANTED);
    for (unsigned i = 0; i < 400; i++) {                     /* 24 MB */
        snprintf(key, sizeof(key), "l%u", i);
        assert_int_equal(claim(&hall, key, 1), GRANTED);
        keep(&hall, told.letter.number, 200, long_one);
    }
    assert_int_equal(claim(&hall, "l200", 1), SAME);
    assert_int_equal(told.size, 60000);
    assert_int_equal(claim(&hall, "l1", 1), GRANTED);
    assert_int_equal(claim(&hall, "k1999", 1), BUSY);
    idempotency_free(&hall);
    for (unsigned i = 0; i < 10000; i++) {
        snprintf(key, sizeof(key), "k%u", i);
        assert_int_equal(claim(&hall, key, 1), GRANTED);
    }
    assert_int_equal(claim(&hall, "one more", 1), FULL);
    idempotency_free(&hall);
}

static void memory_may_run_out(void **state)
{
    (void)state;
    for (unsigned i = 1; i < 12; i++) {
        struct gateway_hall hall = {.workers = 1};
        static char long_one[2001];
        memset(long_one, 'x', sizeof(long_one) - 1);
        countdown = i;
        unsigned verdict = claim(&hall, "k", 1);
        assert_true(verdict == GRANTED || verdict == FULL);
        if (verdict == GRANTED) {
            keep(&hall, told.letter.number, 200, long_one);
            verdict = claim(&hall, "k", 1);                  /* kept, not kept, or kept and not told */
            assert_true(verdict == SAME || verdict == GRANTED || verdict == FULL);
            assert_int_equal(told.size, verdict == SAME ? 2000 : 0);
        }
        countdown = 0;
        idempotency_free(&hall);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(an_answer_is_told_again), cmocka_unit_test(there_are_so_many_and_so_long_ones), cmocka_unit_test(memory_may_run_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
