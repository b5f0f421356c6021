/* What tests of the library share: a directory that goes away, a loop, and turns until something has happened. */
#ifndef LIB_TEST_LOOP_H
#define LIB_TEST_LOOP_H

#include <godwit.h>
#include <stdbool.h>

struct test_loop {
    gw_loop *loop;
    gw_bus *bus;
    char directory[64];
};

/* A loop with a bus on a directory of its own, which is made by the first of them and found by the next. */
void test_open(struct test_loop *test);
void test_open_with(struct test_loop *test, const gw_open_options *options);
/* Closes the bus, unless it is NULL by now, and frees the loop; the directory stays. */
void test_close(struct test_loop *test);
/* The same, and removes the directory. */
void test_end(struct test_loop *test);

/* Turns until `done` answers true; fails after ten seconds. */
void test_until(struct test_loop *test, bool (*done)(void *context), void *context);
/* Turns for so long. */
void test_for(struct test_loop *test, unsigned ms);

#endif
