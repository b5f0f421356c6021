/* The sender over real sockets, at a broker of the test's own on the same loop that says what the story wants; then with every allocation failing in turn. */
#include "host/amqp_sender.h"

#include "base/test_malloc.h"
#include "client/talk_story.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <uv.h>

#include <cmocka.h>

#define ASKED_MAX 8u
#define IN_MAX 65536u

/* Process-wide, because malloc is. */
static struct {
    unsigned until;                  /* allocations left until one fails; 0: none fails */
    bool failed, armed;
} plan;

static bool fails(void)
{
    if (!plan.armed || plan.until == 0 || --plan.until > 0)
        return false;
    plan.failed = true;
    return true;
}

/* ---- the broker ------------------------------------------------------------------------------------------------------------- */

enum mood { CONFIRMS, RETURNS, CLOSES /* the channel, for "poison" */, REFUSES, LETS_NOBODY_IN, SAYS_NOTHING, IS_BLOCKED, HANGS_UP };

struct peer {
    uv_tcp_t tcp;
    struct peer *next;
    uint8_t in[IN_MAX];
    size_t size;
    uint64_t numbers[8];             /* of publishes, by channel */
    bool is_closed[8];
};

static struct world {
    uv_loop_t loop;
    uv_tcp_t listener;
    struct peer *peers;
    struct story story;
    enum mood mood;
    unsigned port, connections, published;
    const char *refusal;
    struct amqp_sender *sender;
    unsigned told;
} world;

static void say_return(uint16_t channel)
{
    struct amqp_value values[AMQP_BASIC_RETURN_COUNT] = {[AMQP_BASIC_RETURN_REPLY_CODE] = amqp_number(312), [AMQP_BASIC_RETURN_REPLY_TEXT] = amqp_text("NO_ROUTE"),
                                                         [AMQP_BASIC_RETURN_EXCHANGE] = amqp_text("x"), [AMQP_BASIC_RETURN_ROUTING_KEY] = amqp_text("key")};
    say_message(&world.story, channel, AMQP_BASIC_RETURN, values, 1);
}

/* The body of a publish has come. */
static void take_publish(struct peer *peer, uint16_t channel, struct bytes body)
{
    uint64_t number = ++peer->numbers[channel];
    world.published++;
    if (world.mood == CLOSES && bytes_equal(body, bytes_of_text("poison"))) {
        say_close(&world.story, channel, AMQP_CHANNEL_CLOSE, 406, "PRECONDITION_FAILED - it is poison");
        peer->is_closed[channel] = true;
    } else if (world.mood == RETURNS) {
        say_return(channel);
        say_confirm(&world.story, channel, AMQP_BASIC_ACK, number, false);
    } else if (world.mood == REFUSES) {
        say_confirm(&world.story, channel, AMQP_BASIC_NACK, number, false);
    } else if (world.mood == CONFIRMS || world.mood == CLOSES) {
        say_confirm(&world.story, channel, AMQP_BASIC_ACK, number, false);
    }
}

static void answer(struct peer *peer, uint16_t channel, uint32_t id)
{
    struct amqp_value nothing[AMQP_ARGUMENTS_MAX] = {{{0}}};
    switch (id) {
    case AMQP_CONNECTION_OPEN:
        if (world.mood == IS_BLOCKED)
            say(&world.story, 0, AMQP_CONNECTION_BLOCKED, (struct amqp_value[1]){amqp_text("low on memory")});
        break;
    case AMQP_CHANNEL_OPEN:
        peer->numbers[channel] = 0;
        peer->is_closed[channel] = false;
        say(&world.story, channel, AMQP_CHANNEL_OPEN_OK, nothing);
        break;
    case AMQP_CHANNEL_CLOSE: say(&world.story, channel, AMQP_CHANNEL_CLOSE_OK, NULL); break;
    case AMQP_CONFIRM_SELECT: say(&world.story, channel, AMQP_CONFIRM_SELECT_OK, NULL); break;
    case AMQP_CONNECTION_CLOSE: say(&world.story, 0, AMQP_CONNECTION_CLOSE_OK, NULL); break;
    default: break;
    }
}

static void hear_all(struct peer *peer)
{
    size_t at = 0;
    for (struct amqp_frame frame; at < peer->size; at += frame.size) {
        struct bytes rest = bytes_of(peer->in + at, peer->size - at);
        if (amqp_protocol_header_read(rest) == WIRE_OK) {
            frame.size = AMQP_PROTOCOL_HEADER_SIZE;
            say_start(&world.story);
            if (world.mood == LETS_NOBODY_IN) {
                say_close(&world.story, 0, AMQP_CONNECTION_CLOSE, 403, "ACCESS_REFUSED - not you");
            } else {
                say_tune(&world.story, 10);
                say(&world.story, 0, AMQP_CONNECTION_OPEN_OK, (struct amqp_value[AMQP_CONNECTION_OPEN_OK_COUNT]){{{0}}});
            }
            continue;
        }
        if (amqp_frame_read(rest, 0, &frame) != WIRE_OK)
            break;
        if (frame.channel >= 8 || (peer->is_closed[frame.channel] && !(frame.type == AMQP_FRAME_METHOD && amqp_method_id_read(frame.payload.data) == AMQP_CHANNEL_OPEN)))
            continue;
        if (frame.type == AMQP_FRAME_BODY)
            take_publish(peer, frame.channel, frame.payload);
        else if (frame.type == AMQP_FRAME_METHOD)
            answer(peer, frame.channel, amqp_method_id_read(frame.payload.data));
    }
    memmove(peer->in, peer->in + at, peer->size - at);
    peer->size -= at;
}

static void on_peer_closed(uv_handle_t *handle) { free(handle->data); }

static void peer_close(struct peer *peer)
{
    struct peer **at = &world.peers;
    while (*at != peer)
        at = &(*at)->next;
    *at = peer->next;
    uv_close((uv_handle_t *)&peer->tcp, on_peer_closed);
}

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct peer *peer = handle->data;
    (void)suggested;
    *buffer = uv_buf_init((char *)peer->in + peer->size, (unsigned)(IN_MAX - peer->size));
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct peer *peer = stream->data;
    bool was_armed = plan.armed;
    (void)buffer;
    if (size < 0) {
        peer_close(peer);
        return;
    }
    plan.armed = false;
    peer->size += (size_t)size;
    unsigned before = world.published;
    hear_all(peer);
    uv_buf_t said = uv_buf_init((char *)world.story.said, (unsigned)world.story.said_size);
    if (said.len && !uv_is_closing((uv_handle_t *)stream))
        uv_try_write(stream, &said, 1);
    world.story.said_size = 0;
    if (world.mood == HANGS_UP && world.published > before)
        peer_close(peer);
    plan.armed = was_armed;
}

static void on_connection(uv_stream_t *listener, int status)
{
    bool was_armed = plan.armed;
    (void)status;
    plan.armed = false;
    struct peer *peer = calloc(1, sizeof(*peer));
    uv_tcp_init(&world.loop, &peer->tcp);
    peer->tcp.data = peer;
    peer->next = world.peers;
    world.peers = peer;
    world.connections++;
    assert_int_equal(uv_accept(listener, (uv_stream_t *)&peer->tcp), 0);
    uv_read_start((uv_stream_t *)&peer->tcp, on_room, on_read);
    plan.armed = was_armed;
}

/* ---- who asks ----------------------------------------------------------------------------------------------------------------- */

struct asker {
    struct outgoing outgoing;        /* first */
    struct outgoing_result result;
    unsigned done;
};

static void on_done(struct outgoing *outgoing, const struct outgoing_result *result)
{
    struct asker *asker = (struct asker *)outgoing;
    asker->result = *result;
    asker->done++;
}

static const char *on_refusal(void *owner, const struct sockaddr *address) { return (void)owner, (void)address, world.refusal; }
static void on_told(void *owner) { (void)owner, world.told++; }

static bool ask_of(struct asker *asker, unsigned port, const char *name, const char *body, uint64_t timeout_ms)
{
    char url[128];
    struct outgoing_sender *sender = amqp_sender_outgoing(world.sender);
    const struct outgoing_message message = {.name = name, .exchange = bytes_of_text("x"), .routing_key = bytes_of_text("key"), .properties = bytes_of("\x10\0\2", 3), .is_mandatory = true};
    snprintf(url, sizeof(url), "amqp://ann:sesame@127.0.0.1:%u/?exchange=x", port);
    *asker = (struct asker){.outgoing = {.done = on_done}};
    return sender->begin(sender, &asker->outgoing, &(struct outgoing_request){.url = url, .message = &message, .body = bytes_of_text(body), .timeout_ms = timeout_ms});
}

static void ask(struct asker *asker, const char *body) { assert_true(ask_of(asker, world.port, "shovel s1", body, 20000)); }

static void run_until(const struct asker *asker)
{
    uint64_t begun = uv_hrtime();
    while (!asker->done && uv_hrtime() - begun < 20000000000ull)
        uv_run(&world.loop, UV_RUN_ONCE);
    assert_int_equal(asker->done, 1);
}

static void expect(struct asker *asker, enum outgoing_outcome outcome, unsigned status, const char *why)
{
    run_until(asker);
    if (asker->result.outcome != outcome || asker->result.status != status || !strstr(asker->result.why, why))
        fail_msg("outcome %d, status %u: %s", asker->result.outcome, asker->result.status, asker->result.why);
    assert_true(asker->result.now_us > 0 && asker->result.retry_after_s == OUTGOING_NO_TIME && !strstr(asker->result.why, "sesame"));
    assert_null(asker->outgoing.transport);
}

static int set_up(void **state)
{
    struct sockaddr_in address;
    int size = sizeof(address);
    (void)state;
    memset(&world, 0, sizeof(world));
    uv_loop_init(&world.loop);
    uv_tcp_init(&world.loop, &world.listener);
    uv_ip4_addr("127.0.0.1", 0, &address);
    uv_tcp_bind(&world.listener, (struct sockaddr *)&address, 0);
    uv_listen((uv_stream_t *)&world.listener, 16, on_connection);
    uv_tcp_getsockname(&world.listener, (struct sockaddr *)&address, &size);
    world.port = ntohs(address.sin_port);
    world.sender = amqp_sender_new(&(struct amqp_sender_config){.loop = &world.loop, .refusal = on_refusal, .told = on_told});
    return world.sender ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    amqp_sender_free(world.sender);
    while (world.peers)
        peer_close(world.peers);
    uv_close((uv_handle_t *)&world.listener, NULL);
    uv_run(&world.loop, UV_RUN_DEFAULT);
    return uv_loop_close(&world.loop);
}

/* ---- stories ------------------------------------------------------------------------------------------------------------------ */

static void what_the_broker_says_is_told(void **state)
{
    static const struct { enum mood mood; enum outgoing_outcome outcome; unsigned status; const char *why; } cases[] = {
        {CONFIRMS, OUTGOING_ANSWERED, 200, ""}, {RETURNS, OUTGOING_ANSWERED, 312, "No queue"}, {REFUSES, OUTGOING_REFUSED, 0, "refused a publish"},
        {HANGS_UP, OUTGOING_BROKEN, 0, ""}, {LETS_NOBODY_IN, OUTGOING_REFUSED, 0, "not you"}, {CONFIRMS, OUTGOING_ANSWERED, 200, ""}};
    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct asker asker;
        world.mood = cases[i].mood;
        ask(&asker, "one");
        expect(&asker, cases[i].outcome, cases[i].status, cases[i].why);
    }
    assert_int_equal(world.connections, 3);   /* one was hung up, one let nobody in */
    assert_true(world.told > 0);
}

static void of_many_the_one_that_closes_the_channel_suffers(void **state)
{
    struct asker askers[ASKED_MAX];
    (void)state;
    world.mood = CLOSES;
    for (unsigned i = 0; i < ASKED_MAX; i++)
        ask(&askers[i], i == 3 ? "poison" : "good");
    for (unsigned i = 0; i < ASKED_MAX; i++)
        if (i == 3)
            expect(&askers[i], OUTGOING_ANSWERED, 406, "it is poison");
        else
            expect(&askers[i], OUTGOING_ANSWERED, 200, "");
    assert_int_equal(world.connections, 1);
}

static void nobody_there_and_nobody_allowed(void **state)
{
    struct asker asker;
    (void)state;
    assert_true(ask_of(&asker, 1, "shovel s1", "x", 20000));
    expect(&asker, OUTGOING_UNREACHABLE, 0, "refused");
    world.refusal = "private";
    ask(&asker, "x");
    expect(&asker, OUTGOING_FORBIDDEN, 0, "private");
    assert_int_equal(world.connections, 0);
}

/* The one that is overdue is told; the other one's time is not over, and it may still be confirmed. What follows has another connection. */
static void a_broker_that_hangs(void **state)
{
    struct asker first, second, third;
    (void)state;
    world.mood = SAYS_NOTHING;
    assert_true(ask_of(&first, world.port, "shovel s1", "first", 100));
    assert_true(ask_of(&second, world.port, "shovel s1", "second", 20000));
    expect(&first, OUTGOING_TIMED_OUT, 0, "in time");
    assert_int_equal(second.done, 0);
    world.mood = CONFIRMS;
    ask(&third, "third");
    expect(&third, OUTGOING_ANSWERED, 200, "");
    assert_int_equal(world.connections, 2);
    struct outgoing_sender *sender = amqp_sender_outgoing(world.sender);
    sender->cancel(sender, &second.outgoing);
    sender->cancel(sender, &third.outgoing);   /* which is done: nothing happens */
    for (unsigned i = 0; i < 50; i++)
        uv_run(&world.loop, UV_RUN_NOWAIT);
    assert_int_equal(second.done, 0);
    assert_int_equal(third.done, 1);
}

static void a_broker_that_takes_nothing_for_now(void **state)
{
    struct asker asker;
    (void)state;
    world.mood = IS_BLOCKED;
    assert_true(ask_of(&asker, world.port, "shovel s1", "x", 200));
    expect(&asker, OUTGOING_BUSY, 0, "takes no publishes");
    unsigned published = world.published;
    for (unsigned i = 0; i < 3; i++) {       /* which are not even sent */
        assert_true(ask_of(&asker, world.port, "shovel s1", "x", 20000));
        expect(&asker, OUTGOING_BUSY, 0, "takes no publishes");
    }
    assert_int_equal(world.published, published);
    world.mood = CONFIRMS;
    say(&world.story, 0, AMQP_CONNECTION_UNBLOCKED, NULL);
    uv_buf_t said = uv_buf_init((char *)world.story.said, (unsigned)world.story.said_size);
    assert_true(uv_try_write((uv_stream_t *)&world.peers->tcp, &said, 1) > 0);
    world.story.said_size = 0;
    do {
        assert_true(ask_of(&asker, world.port, "shovel s1", "x", 20000));
        run_until(&asker);
    } while (asker.result.outcome == OUTGOING_BUSY);
    expect(&asker, OUTGOING_ANSWERED, 200, "");
    assert_int_equal(world.published, published + 1);
    assert_int_equal(world.connections, 1);
}

static void names_have_connections_of_their_own(void **state)
{
    struct asker one, other, again;
    (void)state;
    assert_true(ask_of(&one, world.port, "shovel s1", "x", 20000));
    assert_true(ask_of(&other, world.port, "shovel s2", "x", 20000));
    expect(&one, OUTGOING_ANSWERED, 200, "");
    expect(&other, OUTGOING_ANSWERED, 200, "");
    ask(&again, "x");
    expect(&again, OUTGOING_ANSWERED, 200, "");
    assert_int_equal(world.connections, 2);
}

/* Nothing may crash or leak, nobody may wait in vain, and what is told to be done has come. */
static void memory_runs_out(void **state)
{
    (void)state;
    for (unsigned until = 1, failed = 1; failed; until++) {
        struct asker askers[3];
        unsigned before = world.published, begun = 0;
        plan.until = until;
        plan.failed = false;
        plan.armed = true;
        for (unsigned i = 0; i < 3; i++) {
            char name[32];
            snprintf(name, sizeof(name), "shovel %u", until);   /* a connection of its own each time */
            if (!ask_of(&askers[i], world.port, name, "x", 20000))
                askers[i].done = 100;
            else
                begun++;
        }
        for (unsigned i = 0; i < 3; i++) {
            uint64_t since = uv_hrtime();
            while (!askers[i].done && uv_hrtime() - since < 20000000000ull)
                uv_run(&world.loop, UV_RUN_ONCE);
            assert_true(askers[i].done == 1 || askers[i].done == 100);
        }
        plan.armed = false;
        failed = plan.failed;
        unsigned good = 0;
        for (unsigned i = 0; i < 3; i++)
            good += askers[i].done == 1 && askers[i].result.status == 200;
        assert_true(world.published - before >= good);
        assert_true(failed || (begun == 3 && good == 3));
        assert_true(until < 1000);
    }
}

int main(void)
{
#define STORY(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {STORY(what_the_broker_says_is_told), STORY(of_many_the_one_that_closes_the_channel_suffers), STORY(nobody_there_and_nobody_allowed),
                                       STORY(a_broker_that_hangs), STORY(a_broker_that_takes_nothing_for_now), STORY(names_have_connections_of_their_own), STORY(memory_runs_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
