/* Lines against the simulated broker: connections that are cut at any byte, brokers that are killed or lose their power, programs that die. What was confirmed is handled at least once by
 * every handler whose pattern matches, in the order of its publisher, and when all is calm everything that was published is confirmed.
 *
 *     line_sim_test [FIRST [LAST]]      these seeds; a failure prints its own */
#include "client/line.h"
#include "protocol/amqp/properties.h"
#include "sim/sim_broker.h"

#include <stdio.h>
#include <stdlib.h>

#define PROGRAMS 3u
#define MESSAGES_MAX 4096u
#define HELD_MAX 64u
#define STATIONS 2u               /* "all" of program 0, bound to #; "some" of programs 1 and 2, bound to a.* */

struct message {
    uint8_t publisher;
    bool is_some;                 /* its type is a.…: "some" gets it, too */
    bool told, refused, orphaned; /* orphaned: its program died before it was told */
    bool seen, handled[STATIONS];
};

struct run;

struct program {
    struct run *run;
    unsigned index;
    struct line *line;
    struct link *link;
    bool dialing, connected;
    bool disturbed;               /* it lost a connection or died: what the broker had sent over the old one may come after what it sends over the new one */
    struct station *station;
    struct line_delivery *held[HELD_MAX];
    unsigned held_count;
    uint32_t last_seen[PROGRAMS]; /* of "all": the last message of each publisher that came for the first time */
};

struct run {
    struct random random;
    struct trace trace;
    struct plan plan;
    struct sim_disk *disk;
    struct sim_broker broker;
    struct program programs[PROGRAMS];
    struct message messages[MESSAGES_MAX];
    uint32_t count, wanted;
    bool calm, bound;             /* bound: both queues have been made, and are durable */
    uint64_t cuts, crashes, deaths, duplicates, replaced;
};

static uint64_t now_ms(const struct run *run)
{
    return run->trace.now_us / 1000;
}

/* ---- what a line asks ---------------------------------------------------------------------------------------------------- */

static void on_dial(void *owner, const struct uri *uri)
{
    (void)uri;
    ((struct program *)owner)->dialing = true;
}

static void on_hang_up(void *owner)
{
    struct program *program = owner;
    program->dialing = false;
    if (!program->connected)
        return;
    struct bytes out = line_output(program->line);
    stream_write(&program->link->to_session, out.data, out.size);
    program->connected = false;
    program->link->client_gone = program->link->reset = true;
    program->link->gone_us = program->run->trace.now_us;
    sim_broker_orphan(&program->run->broker, program->link);
}

static void on_told(void *owner, uint64_t ticket, enum line_verdict verdict)
{
    struct program *program = owner;
    struct message *message = &program->run->messages[ticket - 1];
    if (message->told)
        trace_fail(&program->run->trace, "told once", "message %lu is told again", (unsigned long)ticket);
    message->told = true;
    message->refused = verdict != LINE_TAKEN;
}

static unsigned station_of(const struct program *program) { return program->index == 0 ? 0 : 1; }

static bool on_delivered(void *owner, void *context, struct line_delivery *delivery)
{
    struct program *program = owner;
    struct run *run = program->run;
    (void)context;
    uint32_t number;
    if (delivery->body.size < 4 || (memcpy(&number, delivery->body.data, 4), number == 0 || number > run->count)) {
        trace_fail(&run->trace, "intact", "a message that nobody published");
        return false;
    }
    struct message *message = &run->messages[number - 1];
    for (size_t i = 4; i < delivery->body.size; i++) {
        if (delivery->body.data[i] != (uint8_t)(number + i))
            trace_fail(&run->trace, "intact", "message %u differs at byte %zu", number, i);
    }
    if (program->index == 0 && !message->seen) {
        message->seen = true;
        if (number < program->last_seen[message->publisher] && !program->disturbed)
            trace_fail(&run->trace, "order", "message %u comes after %u of the same publisher", number, program->last_seen[message->publisher]);
        program->last_seen[message->publisher] = number;
    }
    run->duplicates += message->handled[station_of(program)];
    if (program->held_count == HELD_MAX)
        return false;
    program->held[program->held_count++] = delivery;
    return true;
}

static void on_lost(void *owner, void *context)
{
    struct program *program = owner;
    (void)context;
    while (program->held_count)
        line_release(program->held[--program->held_count]);
}

static void on_notice(void *owner, enum line_level level, const char *sentence)
{
    struct program *program = owner;
    trace_note(&program->run->trace, "program %u: %d %s", program->index, (int)level, sentence);
}

/* ---- programs -------------------------------------------------------------------------------------------------------------- */

static void be_born(struct program *program)
{
    struct uri uri;
    const char *complaint;
    struct run *run = program->run;
    CHECK(uri_parse(&uri, "amqp://guest:guest@broker?heartbeat=5", &complaint) == GW_OK);
    struct line_settings settings = {.uris = &uri, .uri_count = 1, .window_bytes = 20000, .retry_max_ms = 2000, .seed = random_next(&run->random), .now_ms = now_ms(run)};
    struct line_events events = {program, on_dial, on_hang_up, on_told, on_delivered, on_lost, on_notice};
    struct station_plan plan = {.queue = program->index ? "some" : "all", .pattern = program->index ? "a.*" : "#", .dead_queue = "", .durable = true,
                                .consumers = 1, .prefetch = (uint16_t)random_between(&run->random, 1, HELD_MAX)};
    program->line = line_new(&settings, &events);
    CHECK(program->line);
    program->station = line_subscribe(program->line, &plan, NULL);
    CHECK(program->station);
}

static void die(struct program *program)
{
    struct run *run = program->run;
    run->deaths++;
    program->disturbed = true;
    while (program->held_count)
        line_release(program->held[--program->held_count]);
    line_free(program->line);
    for (uint32_t i = 0; i < run->count; i++) {
        if (run->messages[i].publisher == program->index && !run->messages[i].told)
            run->messages[i].orphaned = true;
    }
    be_born(program);
}

static void publish(struct program *program)
{
    uint8_t body[6000], encoded[64];
    struct run *run = program->run;
    struct amqp_properties properties = {.flags = AMQP_DELIVERY_MODE, .delivery_mode = 2};
    run->bound |= station_is_ready(run->programs[0].station) && station_is_ready(run->programs[1].station);
    if (run->count == run->wanted || !run->bound)
        return;
    uint32_t number = run->count + 1;
    size_t size = 4 + random_size(&run->random, sizeof body - 4);
    for (size_t i = 4; i < size; i++)
        body[i] = (uint8_t)(number + i);
    memcpy(body, &number, 4);
    bool is_some = random_chance(&run->random, 1, 2);
    struct line_message message = {.exchange = bytes_of_text(LINE_EXCHANGE), .routing_key = bytes_of_text(is_some ? "a.b" : "b.c"), .body = bytes_of(body, size),
                                   .properties = bytes_of(encoded, amqp_properties_encode(&properties, encoded, sizeof encoded))};
    enum gw_err err = line_publish(program->line, &message, number);
    if (err == GW_OK)
        run->messages[run->count++] = (struct message){.publisher = (uint8_t)program->index, .is_some = is_some};
    else
        CHECK(err == GW_ERR_FULL);
}

static void settle_one(struct program *program)
{
    struct run *run = program->run;
    if (program->held_count == 0)
        return;
    unsigned which = (unsigned)random_below(&run->random, program->held_count);
    struct line_delivery *delivery = program->held[which];
    uint32_t number;
    program->held[which] = program->held[--program->held_count];
    memcpy(&number, delivery->body.data, 4);
    struct message *message = &run->messages[number - 1];
    if (random_chance(&run->random, 1, 8)) {
        line_settle(delivery, LINE_BACK);
    } else if (random_chance(&run->random, 1, 16)) {
        /* A copy in its stead, in the same queue: it is not handled yet. */
        struct line_message copy = {.routing_key = bytes_of_text(program->index ? "some" : "all"), .properties = delivery->properties, .body = delivery->body};
        CHECK(line_replace(program->line, delivery, &copy) == GW_OK);
        run->replaced++;
    } else {
        line_settle(delivery, LINE_ACK);
        message->handled[station_of(program)] = true;
    }
    line_release(delivery);
}

static bool read_some(struct program *program)
{
    struct run *run = program->run;
    struct bytes waiting = stream_bytes(&program->link->to_client);
    if (!program->connected)
        return false;
    if (waiting.size == 0) {
        if (!program->link->session_gone)
            return false;
        line_lost(program->line, NULL, now_ms(run));
        return true;
    }
    size_t size = run->calm ? waiting.size : net_piece(&run->random, waiting.size, run->plan.slow_net);
    uint8_t *copy = malloc(size);
    CHECK(copy);
    memcpy(copy, waiting.data, size);
    stream_read(&program->link->to_client, size);
    line_feed(program->line, bytes_of(copy, size), now_ms(run));
    free(copy);
    return true;
}

static bool write_some(struct program *program)
{
    struct run *run = program->run;
    struct bytes out = line_output(program->line);
    if (!program->connected || out.size == 0)
        return false;
    size_t size = run->calm ? out.size : net_piece(&run->random, out.size, run->plan.slow_net);
    stream_write(&program->link->to_session, out.data, size);
    line_sent(program->line, size, now_ms(run));
    return true;
}

static bool connect_some(struct program *program)
{
    struct run *run = program->run;
    struct link *link = program->link;
    if (!program->dialing)
        return false;
    program->dialing = false;
    stream_clear(&link->to_session);
    stream_clear(&link->to_client);
    link->client_gone = link->reset = link->session_gone = false;
    if ((!run->calm && random_chance(&run->random, 1, 3)) || !sim_broker_accept(&run->broker, link, program->index)) {
        line_unreachable(program->line, "nobody listens there", now_ms(run));
        return true;
    }
    program->connected = true;
    line_connected(program->line, now_ms(run));
    return true;
}

/* The connection breaks: of what was said the broker has got a part. */
static void cut(struct program *program)
{
    struct run *run = program->run;
    if (!program->connected)
        return;
    run->cuts++;
    program->disturbed = true;
    if (random_chance(&run->random, 1, 2))
        program->link->to_session.end -= random_between(&run->random, 0, stream_bytes(&program->link->to_session).size);
    line_lost(program->line, "cut", now_ms(run));
    program->connected = false;
    program->link->client_gone = true;
    program->link->reset = random_chance(&run->random, 3, 4);
    program->link->gone_us = run->trace.now_us;
    sim_broker_orphan(&run->broker, program->link);
}

/* ---- the broker --------------------------------------------------------------------------------------------------------------- */

static void trouble(struct run *run, bool on)
{
    const struct sim_disk_faults faults = {.names_any_order = run->plan.names_any_order};
    sim_disk_set_faults(run->disk, &faults);
    run->broker.calm = run->calm = !on;
    sim_disk_stop_at(run->disk, on ? sim_disk_operations(run->disk) + random_between(&run->random, 1, run->plan.crash_every) : 0);
}

static void start(struct run *run)
{
    sim_disk_stop_at(run->disk, 0);
    if (sim_broker_start(&run->broker))
        trace_fail(&run->trace, "progress", "the broker does not start: %s", run->broker.why);
}

static void crash(struct run *run)
{
    run->crashes++;
    sim_disk_stop(run->disk);
    for (unsigned i = 0; i < PROGRAMS; i++) {
        struct program *program = &run->programs[i];
        if (!program->connected)
            continue;
        program->connected = false;
        line_lost(program->line, "the broker died", now_ms(run));
    }
    sim_broker_kill(&run->broker);
    sim_disk_restart(run->disk, random_chance(&run->random, 1, 2));
    start(run);
}

/* ---- steps ------------------------------------------------------------------------------------------------------------------------ */

static bool step(struct run *run)
{
    struct program *program = &run->programs[random_below(&run->random, PROGRAMS)];
    run->trace.now_us += random_below(&run->random, 20);
    switch (random_below(&run->random, 10)) {
    case 0: case 1: return sim_broker_turn(&run->broker, (unsigned)random_below(&run->random, run->broker.worker_count));
    case 2: return sim_disk_step(run->disk);
    case 3: case 4: return read_some(program);
    case 5: case 6: return write_some(program);
    case 7: return connect_some(program);
    case 8:
        if (!run->calm && random_chance(&run->random, 1, 2))
            publish(program);
        bool had = program->held_count > 0;
        settle_one(program);
        return had;
    default:
        if (line_deadline_ms(program->line) <= now_ms(run)) {
            line_turn(program->line, now_ms(run));
            return true;
        }
        line_turn(program->line, now_ms(run));
        return false;
    }
}

static void work(struct run *run)
{
    trouble(run, true);
    for (unsigned steps = 0; run->count < run->wanted && steps < 400000 && !run->trace.failed; steps++) {
        step(run);
        if (sim_disk_stopped(run->disk)) {
            crash(run);
            trouble(run, true);
        }
        struct program *program = &run->programs[random_below(&run->random, PROGRAMS)];
        if (random_chance(&run->random, 1, 700))
            cut(program);
        if (random_chance(&run->random, 1, 8000))
            die(program);
        if (random_chance(&run->random, 1, 256))
            run->trace.now_us += random_below(&run->random, 300000);
    }
    trouble(run, false);
    sim_disk_stop_at(run->disk, 0);
}

static bool all_is_done(const struct run *run)
{
    for (uint32_t i = 0; i < run->count; i++) {
        const struct message *message = &run->messages[i];
        if (!message->told && !message->orphaned)
            return false;
        if (message->told && (!message->handled[0] || (message->is_some && !message->handled[1])))
            return false;
    }
    return true;
}

static void rest(struct run *run)
{
    for (unsigned steps = 0, idle = 0; !run->trace.failed && !all_is_done(run); steps++) {
        idle = step(run) ? 0 : idle + 1;
        if (idle > 60) {
            run->trace.now_us += 100000;
            idle = 0;
        }
        if (steps < 3000000)
            continue;
        for (uint32_t i = 0; i < run->count; i++) {
            const struct message *message = &run->messages[i];
            if ((!message->told && !message->orphaned) || (message->told && (!message->handled[0] || (message->is_some && !message->handled[1]))))
                trace_fail(&run->trace, "nothing is lost", "message %u of program %u: told %d, handled %d, %d of %d", i + 1, message->publisher, message->told,
                           message->handled[0], message->handled[1], message->is_some);
        }
    }
    for (uint32_t i = 0; i < run->count; i++) {
        if (run->messages[i].refused)
            trace_fail(&run->trace, "nothing is refused", "message %u", i + 1);
    }
}

static bool run_seed(uint64_t seed, bool verbose)
{
    const struct sim_options options = {.ops = 1000, .faults = SIM_FAULTS_CRASH, .bug = -1};
    struct run *run = calloc(1, sizeof *run);
    CHECK(run);
    trace_init(&run->trace, verbose);
    random_init(&run->random, seed);
    plan_make(&run->plan, &options, seed);
    run->wanted = 300 + (uint32_t)random_below(&run->random, 700);
    run->disk = sim_disk_new(&run->random, &run->trace);
    sim_broker_init(&run->broker, &run->plan, &run->random, &run->trace, run->disk);
    start(run);
    for (unsigned i = 0; i < PROGRAMS; i++) {
        run->programs[i].run = run;
        run->programs[i].index = i;
        run->programs[i].link = calloc(1, sizeof(struct link));
        CHECK(run->programs[i].link);
        be_born(&run->programs[i]);
    }
    work(run);
    rest(run);
    bool passed = !run->trace.failed;
    printf("seed %lu: %u messages, %lu connections cut, %lu crashes, %lu programs died, %lu duplicates, %lu replaced%s%s%s%s\n", (unsigned long)seed, run->count,
           (unsigned long)run->cuts, (unsigned long)run->crashes, (unsigned long)run->deaths, (unsigned long)run->duplicates, (unsigned long)run->replaced,
           passed ? "" : ": ", run->trace.invariant, passed ? "" : ": ", run->trace.failure);
    for (unsigned i = 0; i < PROGRAMS; i++) {
        struct program *program = &run->programs[i];
        line_free(program->line);
        while (program->held_count)
            line_release(program->held[--program->held_count]);
    }
    sim_disk_stop(run->disk);
    sim_broker_kill(&run->broker);
    for (unsigned i = 0; i < PROGRAMS; i++) {
        link_deinit(run->programs[i].link);
        free(run->programs[i].link);
    }
    sim_disk_free(run->disk);
    free(run);
    return passed;
}

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1, last = argc > 2 ? strtoull(argv[2], NULL, 10) : argc > 1 ? first : 12;
    bool passed = true;
    for (uint64_t seed = first; seed <= last; seed++)
        passed &= run_seed(seed, argc > 3);
    return passed ? 0 : 1;
}
