/* Reactors with real sockets on the loopback: an echo service that consumes whole frames only, and clients that behave badly. */
#include "runtime/listener.h"
#include "runtime/reactor.h"
#include "runtime/signals.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#define REACTORS_MAX 2

struct server;

struct echo {
    struct server *server;
    struct connection *connection;
    uint8_t *out;
    size_t begin, end, capacity;
    bool paused, peer_ended, finishing;
};

struct side {
    struct server *server;
    struct reactor *reactor;
    unsigned turns, sessions, ticks;
    uint64_t due_us;
};

struct server {
    struct side sides[REACTORS_MAX];
    unsigned reactors;
    struct sockaddr_storage address;
    struct connection_budget budget;
    size_t frame_size;        /* only whole frames are consumed */
    size_t out_limit;         /* above it the session pauses */
    size_t finish_after;      /* bytes echoed; 0: never */
    uint64_t every_us;        /* a deadline of the owner's */
    bool refuse;
    bool keep_going_at_end;   /* answers everything before it finishes, when the peer has ended */
    atomic_bool stop;
    atomic_uint accepted, ends[4], paused, strangers;
    atomic_size_t echoed;
};

static void *accepted(void *owner, struct connection *connection)
{
    struct side *side = owner;
    if (side->server->refuse)
        return NULL;
    struct echo *e = calloc(1, sizeof(*e));
    e->server = side->server;
    e->connection = connection;
    struct sockaddr_storage peer;
    if (connection_peer(connection, &peer))
        atomic_fetch_add(&e->server->strangers, !connection_is_loopback(connection));
    atomic_fetch_add(&e->server->accepted, 1);
    side->sessions++;
    return e;
}

static size_t received(void *session, struct bytes input)
{
    struct echo *e = session;
    size_t take = input.size / e->server->frame_size * e->server->frame_size;
    assert_false(e->paused);
    if (e->end - e->begin + take > e->server->out_limit) {
        size_t room = e->server->out_limit - (e->end - e->begin);
        take = room / e->server->frame_size * e->server->frame_size;
        e->paused = true;
        atomic_fetch_add(&e->server->paused, 1);
        connection_pause(e->connection);
    }
    if (e->end + take > e->capacity && take > 0) {
        if (e->begin > 0)
            memmove(e->out, e->out + e->begin, e->end - e->begin);
        e->end -= e->begin;
        e->begin = 0;
        if (e->end + take > e->capacity) {
            e->capacity = e->end + take;
            e->out = realloc(e->out, e->capacity);
        }
    }
    if (take) {
        memcpy(e->out + e->end, input.data, take);
        e->end += take;
        connection_has_output(e->connection);
    }
    return take;
}

/* In small pieces, so that one write has many vectors and there may be more than it takes. */
static unsigned output(void *session, struct iovec *iov, unsigned room)
{
    struct echo *e = session;
    unsigned count = 0;
    size_t piece = (e->end - e->begin) / 300 + 1;
    for (size_t at = e->begin; at < e->end && count < room; at += piece)
        iov[count++] = (struct iovec){e->out + at, at + piece < e->end ? piece : e->end - at};
    return count;
}

static void finish_when_through(struct echo *e)
{
    bool enough = e->server->finish_after > 0 && atomic_load(&e->server->echoed) >= e->server->finish_after;
    if (enough || (e->peer_ended && e->begin == e->end && !e->paused))
        connection_finish(e->connection);
}

static void sent(void *session, size_t size)
{
    struct echo *e = session;
    e->begin += size;
    assert_true(e->begin <= e->end);
    atomic_fetch_add(&e->server->echoed, size);
    if (e->paused && e->end - e->begin <= e->server->out_limit / 2) {
        e->paused = false;
        connection_resume(e->connection);
    }
    finish_when_through(e);
}

static void ended(void *session)
{
    struct echo *e = session;
    e->peer_ended = true;
    if (!e->server->keep_going_at_end)
        connection_finish(e->connection);
    else
        finish_when_through(e);
}

static void closed(void *session, enum connection_end end)
{
    struct echo *e = session;
    atomic_fetch_add(&e->server->ends[end], 1);
    free(e->out);
    free(e);
}

static const struct connection_events echo_events = {accepted, received, ended, output, sent, closed};

static uint64_t turn(void *owner, uint64_t now_us)
{
    struct side *side = owner;
    side->turns++;
    if (side->server->every_us) {
        if (now_us < side->due_us)
            return side->due_us;
        side->ticks++;
        side->due_us = now_us + side->server->every_us;
        if (side->ticks == 100)
            reactor_stop(side->reactor);
        return side->due_us;
    }
    if (atomic_load(&side->server->stop))
        reactor_stop(side->reactor);
    return now_us + 10000000;
}

struct told {
    struct alarm_sink sink;
    atomic_uint count;
};

static void on_alarm(struct alarm_sink *sink, enum alarm_level level, const char *text)
{
    (void)text;
    assert_int_equal(level, ALARM_WARNING);
    atomic_fetch_add(&((struct told *)sink)->count, 1);
}

static void server_start(struct server *s, unsigned reactors, int family, struct alarm_sink *alarms)
{
    struct sockaddr *address = (struct sockaddr *)&s->address;
    if (s->frame_size == 0)
        s->frame_size = 1;
    if (s->out_limit == 0)
        s->out_limit = 4u << 20;
    if (s->budget.limit == 0)
        s->budget.limit = 100000;
    s->reactors = reactors;
    s->address.ss_family = (sa_family_t)family;
    if (family == AF_INET6)
        ((struct sockaddr_in6 *)address)->sin6_addr = in6addr_loopback;
    else
        ((struct sockaddr_in *)address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(listener_probe(address), GW_OK);
    for (unsigned i = 0; i < reactors; i++) {
        struct side *side = &s->sides[i];
        side->server = s;
        side->reactor = reactor_new(&(struct reactor_config){
            .turn = turn, .owner = side, .linger_ms = 500, .budget = &s->budget, .alarms = alarms});
        assert_non_null(side->reactor);
        assert_int_equal(reactor_listen(side->reactor, address, &echo_events, side), GW_OK);
    }
    assert_int_equal(listener_probe(address), GW_ERR_EXISTS);
    for (unsigned i = 0; i < reactors; i++)
        assert_int_equal(reactor_start(s->sides[i].reactor), GW_OK);
}

static void server_stop(struct server *s)
{
    unsigned ends = 0;
    atomic_store(&s->stop, true);
    for (unsigned i = 0; i < s->reactors; i++)
        reactor_wake(s->sides[i].reactor);
    for (unsigned i = 0; i < s->reactors; i++) {
        reactor_join(s->sides[i].reactor);
        assert_int_equal(reactor_connections(s->sides[i].reactor), 0);
        reactor_free(s->sides[i].reactor);
    }
    for (unsigned i = 0; i < 4; i++)
        ends += atomic_load(&s->ends[i]);
    assert_int_equal(ends, atomic_load(&s->accepted));
    assert_int_equal(atomic_load(&s->budget.used), 0);
    assert_int_equal(atomic_load(&s->strangers), 0);
}

static void wait_until(atomic_uint *value, unsigned wanted)
{
    for (unsigned i = 0; i < 5000 && atomic_load(value) < wanted; i++)
        usleep(1000);
    assert_int_equal(atomic_load(value), wanted);
}

/* ---- Clients ---- */

static int dial(const struct server *s)
{
    int c = socket(s->address.ss_family, SOCK_STREAM, 0);
    assert_true(c >= 0);
    assert_int_equal(connect(c, (const struct sockaddr *)&s->address, listener_address_size((const struct sockaddr *)&s->address)), 0);
    return c;
}

static uint8_t byte_at(size_t offset)
{
    return (uint8_t)(offset * 7 + offset / 253);
}

/* Sends `size` bytes at most `piece` at a time and reads the echo meanwhile, at most `gulp` at a time; `pause_us` before each read. */
static void converse(int c, size_t size, size_t piece, size_t gulp, unsigned pause_us)
{
    uint8_t *out = malloc(size), *in = malloc(gulp);
    size_t sent_size = 0, got_size = 0;
    for (size_t i = 0; i < size; i++)
        out[i] = byte_at(i);
    while (got_size < size) {
        struct pollfd p = {c, (short)(POLLIN | (sent_size < size ? POLLOUT : 0)), 0};
        assert_int_equal(poll(&p, 1, 10000), 1);
        if (p.revents & POLLOUT) {
            size_t part = size - sent_size < piece ? size - sent_size : piece;
            ssize_t n = send(c, out + sent_size, part, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (n > 0)
                sent_size += (size_t)n;
        }
        if (p.revents & (POLLIN | POLLHUP | POLLERR)) {
            usleep(pause_us);
            ssize_t n = recv(c, in, gulp, 0);
            assert_true(n > 0);
            assert_memory_equal(in, out + got_size, (size_t)n);
            got_size += (size_t)n;
        }
    }
    free(out);
    free(in);
}

static void expect_end(int c)
{
    uint8_t byte;
    assert_int_equal(recv(c, &byte, 1, 0), 0);
    close(c);
}

static void big_pipelined_writes_both_ways(void **state)
{
    (void)state;
    const int families[] = {AF_INET, AF_INET6};
    for (unsigned i = 0; i < 2; i++) {
        struct server s = {.frame_size = 1000, .out_limit = 1u << 20};
        server_start(&s, 1, families[i], NULL);
        int c = dial(&s);
        converse(c, 64000000, 1u << 20, 1u << 20, 0);
        close(c);
        wait_until(&s.ends[CONNECTION_FINISHED], 1);
        server_stop(&s);
    }
}

static void large_frames(void **state)
{
    (void)state;
    struct server s = {.frame_size = 128 * 1024, .out_limit = 300 * 1024};
    server_start(&s, 1, AF_INET, NULL);
    int c = dial(&s);
    converse(c, 16u << 20, 100000, 1u << 20, 0);
    close(c);
    server_stop(&s);
}

static void a_writer_of_single_bytes(void **state)
{
    (void)state;
    struct server s = {.frame_size = 20000};
    server_start(&s, 1, AF_INET, NULL);
    int c = dial(&s);
    converse(c, 60000, 1, 4096, 0);
    close(c);
    server_stop(&s);
}

static void a_slow_reader_is_not_read_from(void **state)
{
    (void)state;
    struct server s = {.out_limit = 64 * 1024, .frame_size = 10};
    server_start(&s, 1, AF_INET, NULL);
    int c = dial(&s);
    int small = 65536;
    setsockopt(c, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    converse(c, 4000000, 1u << 20, 50000, 1000);
    assert_true(atomic_load(&s.paused) > 0);
    close(c);
    server_stop(&s);
}

static void a_reset_harms_nobody_else(void **state)
{
    (void)state;
    struct server s = {0};
    server_start(&s, 1, AF_INET, NULL);
    int good = dial(&s);
    for (unsigned i = 0; i < 20; i++) {
        int bad = dial(&s);
        struct linger now = {1, 0};
        setsockopt(bad, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        uint8_t *much = calloc(1, 100000);
        assert_true(send(bad, much, 100000, 0) > 0);
        free(much);
        if (i % 2)
            usleep(2000);
        close(bad);
    }
    converse(good, 100000, 1000, 1000, 0);
    wait_until(&s.ends[CONNECTION_LOST], 20);
    close(good);
    server_stop(&s);
}

static void a_half_open_peer_gets_all_its_answers(void **state)
{
    (void)state;
    struct server s = {.keep_going_at_end = true, .out_limit = 100000};
    server_start(&s, 1, AF_INET, NULL);
    int c = dial(&s);
    uint8_t *out = malloc(50000), *in = malloc(50000);
    for (size_t i = 0; i < 50000; i++)
        out[i] = byte_at(i);
    assert_int_equal(send(c, out, 50000, 0), 50000);
    shutdown(c, SHUT_WR);
    assert_int_equal(recv(c, in, 50000, MSG_WAITALL), 50000);
    assert_memory_equal(in, out, 50000);
    expect_end(c);
    wait_until(&s.ends[CONNECTION_FINISHED], 1);
    server_stop(&s);
    free(out);
    free(in);
}

/* The server closes while the peer still sends: its last words arrive, and no reset overtakes them. */
static void last_words_arrive(void **state)
{
    (void)state;
    struct server s = {.finish_after = 300000, .out_limit = 300000};
    server_start(&s, 1, AF_INET, NULL);
    int c = dial(&s);
    uint8_t *much = calloc(1, 1000000), *in = malloc(300000);
    assert_int_equal(send(c, much, 300000, 0), 300000);
    wait_until(&s.ends[CONNECTION_FINISHED], 1);
    for (unsigned i = 0; i < 3; i++)
        assert_true(send(c, much, 1000000, MSG_NOSIGNAL | MSG_DONTWAIT) > 0);
    assert_int_equal(recv(c, in, 300000, MSG_WAITALL), 300000);
    expect_end(c);
    server_stop(&s);
    free(much);
    free(in);
}

/* A peer that neither reads nor closes does not keep a finished connection for ever. */
static void lingering_ends(void **state)
{
    (void)state;
    struct server s = {.finish_after = 1};
    server_start(&s, 1, AF_INET, NULL);
    int c = dial(&s);
    assert_int_equal(send(c, "x", 1, 0), 1);
    wait_until(&s.ends[CONNECTION_FINISHED], 1);
    for (unsigned i = 0; i < 3000 && atomic_load(&s.budget.used) > 0; i++)
        usleep(1000);
    assert_int_equal(atomic_load(&s.budget.used), 0);
    close(c);
    server_stop(&s);
}

static void refused_connections_are_closed(void **state)
{
    (void)state;
    struct server s = {.refuse = true};
    server_start(&s, 1, AF_INET, NULL);
    for (unsigned i = 0; i < 5; i++)
        expect_end(dial(&s));
    server_stop(&s);
}

struct conversation {
    const struct server *server;
    size_t size;
};

static void converse_in_thread(void *argument)
{
    struct conversation *conversation = argument;
    for (unsigned i = 0; i < 20; i++) {
        int c = dial(conversation->server);
        converse(c, conversation->size, 3000, 3000, 0);
        close(c);
    }
}

static void two_reactors_share_the_connections(void **state)
{
    (void)state;
    struct server s = {.frame_size = 7};
    struct conversation conversation = {&s, 70000};
    uv_thread_t threads[4];
    server_start(&s, 2, AF_INET, NULL);
    for (unsigned i = 0; i < 4; i++)
        uv_thread_create(&threads[i], converse_in_thread, &conversation);
    for (unsigned i = 0; i < 4; i++)
        uv_thread_join(&threads[i]);
    wait_until(&s.ends[CONNECTION_FINISHED], 80);
    server_stop(&s);
    assert_int_equal(s.sides[0].sessions + s.sides[1].sessions, 80);
    assert_true(s.sides[0].sessions > 0 && s.sides[1].sessions > 0);
}

static void a_full_budget_makes_new_ones_wait(void **state)
{
    (void)state;
    struct told told = {.sink = {on_alarm}};
    struct server s = {.budget = {.limit = 2}};
    server_start(&s, 1, AF_INET, &told.sink);
    int one = dial(&s), two = dial(&s), three = dial(&s);
    wait_until(&told.count, 1);
    converse(one, 1000, 100, 100, 0);
    assert_int_equal(send(three, "x", 1, 0), 1);
    struct pollfd p = {three, POLLIN, 0};
    assert_int_equal(poll(&p, 1, 300), 0);
    close(two);
    assert_int_equal(poll(&p, 1, 5000), 1);
    assert_int_equal(atomic_load(&told.count), 1);
    close(one);
    close(three);
    server_stop(&s);
}

static void out_of_descriptors(void **state)
{
    (void)state;
    struct told told = {.sink = {on_alarm}};
    struct server s = {0};
    struct rlimit before, limit;
    server_start(&s, 1, AF_INET, &told.sink);
    int old = dial(&s), waiting = socket(AF_INET, SOCK_STREAM, 0);
    wait_until(&s.accepted, 1);
    getrlimit(RLIMIT_NOFILE, &before);
    limit = (struct rlimit){(rlim_t)waiting + 1, before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &limit);
    /* Descriptors below the limit that happen to be free would let it in. */
    int fill[64], filled = 0;
    while (filled < 64 && (fill[filled] = dup(old)) >= 0)
        filled++;
    assert_int_equal(connect(waiting, (struct sockaddr *)&s.address, sizeof(struct sockaddr_in)), 0);
    wait_until(&told.count, 1);
    converse(old, 100000, 1000, 1000, 0);
    assert_int_equal(atomic_load(&s.accepted), 1);
    usleep(250000);
    assert_int_equal(atomic_load(&told.count), 1);
    setrlimit(RLIMIT_NOFILE, &before);
    converse(waiting, 1000, 100, 100, 0);
    while (filled > 0)
        close(fill[--filled]);
    close(old);
    close(waiting);
    server_stop(&s);
}

static void stopping_closes_everything(void **state)
{
    (void)state;
    struct server s = {0};
    server_start(&s, 2, AF_INET, NULL);
    int c[10];
    for (unsigned i = 0; i < 10; i++)
        c[i] = dial(&s);
    wait_until(&s.accepted, 10);
    server_stop(&s);
    assert_int_equal(atomic_load(&s.ends[CONNECTION_STOPPED]), 10);
    for (unsigned i = 0; i < 10; i++)
        expect_end(c[i]);
}

static void an_idle_reactor_sleeps(void **state)
{
    (void)state;
    struct server s = {0};
    server_start(&s, 1, AF_INET, NULL);
    int c = dial(&s);
    converse(c, 1000, 1000, 1000, 0);
    usleep(300000);
    server_stop(&s);
    assert_true(s.sides[0].turns < 100);
    close(c);
}

static void deadlines_are_kept(void **state)
{
    (void)state;
    struct server s = {.every_us = 1700};
    struct side *side = &s.sides[0];
    side->server = &s;
    side->reactor = reactor_new(&(struct reactor_config){.turn = turn, .owner = side});
    side->due_us = reactor_now(side->reactor);
    reactor_run(side->reactor);
    assert_int_equal(side->ticks, 100);
    assert_true(side->turns < 500);
    reactor_free(side->reactor);
}

static void on_stop(void *owner, unsigned count)
{
    struct server *s = owner;
    if (count == 2)
        atomic_store(&s->stop, true);
}

static void signals_stop_it(void **state)
{
    (void)state;
    struct server s = {0};
    struct signals *signals;
    struct side *side = &s.sides[0];
    side->server = &s;
    side->reactor = reactor_new(&(struct reactor_config){.turn = turn, .owner = side});
    assert_int_equal(signals_open(reactor_loop(side->reactor), on_stop, &s, &signals), GW_OK);
    raise(SIGTERM);
    raise(SIGINT);
    reactor_run(side->reactor);
    assert_true(atomic_load(&s.stop));
    signals_close(signals);
    reactor_free(side->reactor);
}

int main(int count, char **arguments)
{
    if (count > 1)
        cmocka_set_test_filter(arguments[1]);
    signals_ignore_those_that_are_errors();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(big_pipelined_writes_both_ways),
        cmocka_unit_test(large_frames),
        cmocka_unit_test(a_writer_of_single_bytes),
        cmocka_unit_test(a_slow_reader_is_not_read_from),
        cmocka_unit_test(a_reset_harms_nobody_else),
        cmocka_unit_test(a_half_open_peer_gets_all_its_answers),
        cmocka_unit_test(last_words_arrive),
        cmocka_unit_test(lingering_ends),
        cmocka_unit_test(refused_connections_are_closed),
        cmocka_unit_test(two_reactors_share_the_connections),
        cmocka_unit_test(a_full_budget_makes_new_ones_wait),
        cmocka_unit_test(out_of_descriptors),
        cmocka_unit_test(stopping_closes_everything),
        cmocka_unit_test(an_idle_reactor_sleeps),
        cmocka_unit_test(deadlines_are_kept),
        cmocka_unit_test(signals_stop_it),
    };
    return cmocka_run_group_tests_name("reactor", tests, NULL, NULL);
}
