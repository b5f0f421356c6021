#include "sim/source_run.h"

#include "base/err.h"
#include "bus/intakes.h"
#include "sim/sim_fate.h"
#include "sim/source_hand.h"

#include <inttypes.h>
#include <stdlib.h>

#define SECOND_US 1000000ull
#define DAY_US (86400 * SECOND_US)
#define IDLE_STEPS 64u
#define REST_STEPS_MAX 3000000u
#define REST_US (300 * SECOND_US)    /* everything that waits for time, a backoff too, is over */
#define ROUND_STEPS 20000u

struct source_run {
    const struct sim_options *options;
    struct random random;
    struct trace *trace;
    struct plan plan;
    struct sim_disk *disk;
    struct sim_broker broker;
    struct sim_lodgers lodgers;
    struct intakes *intakes[SIM_WORKERS_MAX];
    struct intake_fixed fixed[OUTSIDES_MAX];
    struct source_world world;
    struct source_hand hand;
    uint64_t epoch, jump_us;
    unsigned idle;
    bool was_ready;                  /* the handler's queue is there, and bound, for good */
};

/* ---- what lives beside the broker ----------------------------------------------------------------------------------------------- */

static uint64_t now(void *owner) { return ((struct source_run *)owner)->trace->now_us; }

static bool on_made(void *owner)
{
    struct source_run *run = owner;
    run->hand.attached = false;
    for (unsigned i = 0; i < run->broker.worker_count; i++) {
        run->intakes[i] = intakes_new(&(struct intakes_config){
            .worker = run->broker.workers[i].worker, .workers = run->broker.worker_count, .feeder = &run->world.feeder, .zones = &run->world.zones, .now = now, .owner = run,
            .random = random_next(&run->random), .fixed = run->fixed, .fixed_count = run->world.count});
        CHECK(run->intakes[i]);
    }
    return true;
}

static bool on_before_turn(void *owner, unsigned worker)
{
    struct source_run *run = owner;
    bool happened = false;
    if (worker == 0 && !run->hand.attached) {
        source_hand_begin(&run->hand, run->broker.workers[0].worker);
        happened = true;
    }
    /* Sources begin when somebody is there to handle what they bring: before that it would be nobody's. */
    run->was_ready |= run->hand.is_ready;
    if (!run->was_ready)
        return happened;
    happened |= intakes_deadline(run->intakes[worker]) <= run->trace->now_us;
    intakes_tick(run->intakes[worker], run->trace->now_us);
    return happened;
}

static bool on_after_turn(void *owner, unsigned worker)
{
    (void)owner, (void)worker;
    return false;
}

static uint64_t on_deadline(const void *owner)
{
    const struct source_run *run = owner;
    uint64_t earliest = UINT64_MAX;
    for (unsigned i = 0; i < run->broker.worker_count && run->was_ready; i++) {
        uint64_t deadline = intakes_deadline(run->intakes[i]);
        earliest = deadline < earliest ? deadline : earliest;
    }
    return earliest;
}

static bool on_at_rest(const void *owner)
{
    const struct source_run *run = owner;
    return run->hand.is_consuming && !run->hand.held_count && on_deadline(owner) > run->trace->now_us && source_world_is_idle(&run->world);
}

static void on_ending(void *owner)
{
    struct source_run *run = owner;
    source_hand_end(&run->hand);
    for (unsigned i = 0; i < run->broker.worker_count; i++) {
        if (random_chance(&run->random, 1, 2))
            intakes_stop(run->intakes[i]);
        intakes_free(run->intakes[i]);
        run->intakes[i] = NULL;
    }
}

static void on_ended(void *owner)
{
    struct source_run *run = owner;
    for (unsigned i = 0; i < run->broker.worker_count; i++) {
        intakes_free(run->intakes[i]);
        run->intakes[i] = NULL;
    }
}

/* ---- life and death --------------------------------------------------------------------------------------------------------------- */

/* At which operation of the disk the process is to die for the first time; 0: nobody says. */
static uint64_t crash_at(const struct source_run *run) { return run->epoch == 0 ? run->options->crash_at : 0; }

static void trouble(struct source_run *run, bool on)
{
    run->world.calm = !on;
    sim_fate_trouble(&run->broker, on, crash_at(run));
}

static void start(struct source_run *run)
{
    run->world.calm = true;
    sim_fate_start(&run->broker, crash_at(run));
}

static void crash(struct source_run *run)
{
    bool power = random_chance(&run->random, 1, 2);
    sim_disk_stop(run->disk);
    trace_event(run->trace, TRACE_BROKER_CRASH, power, 0, 0, 0);
    sim_broker_kill(&run->broker);
    run->epoch++;
    sim_disk_restart(run->disk, power);
    /* The broker may be away for days. */
    if (random_chance(&run->random, 1, 4))
        run->trace->now_us += random_size(&run->random, run->jump_us);
    start(run);
}

static void close_cleanly(struct source_run *run)
{
    sim_fate_close(&run->broker);
    run->epoch++;
    sim_disk_restart(run->disk, random_chance(&run->random, 1, 2));
}

/* ---- steps -------------------------------------------------------------------------------------------------------------------------- */

static void step(struct source_run *run)
{
    bool happened = false;
    run->trace->now_us += random_below(&run->random, 20);
    switch (random_below(&run->random, 8)) {
    case 0: case 1: case 2:
        happened = sim_broker_turn(&run->broker, (unsigned)random_below(&run->random, run->broker.worker_count));
        break;
    case 3: case 4:
        happened = sim_disk_step(run->disk);
        break;
    case 5:
        happened = source_hand_step(&run->hand);
        break;
    default:
        happened = source_world_step(&run->world);
    }
    run->idle = happened ? 0 : run->idle + 1;
}

static void jump(struct source_run *run)
{
    uint64_t deadline = sim_broker_deadline(&run->broker), now_us = run->trace->now_us;
    if (random_chance(&run->random, 2, 3) && deadline > now_us && deadline - now_us < run->jump_us)
        run->trace->now_us = deadline + random_below(&run->random, random_chance(&run->random, 1, 2) ? 10 : SECOND_US);
    else
        run->trace->now_us += random_size(&run->random, run->jump_us);
}

static void work(struct source_run *run, uint64_t until)
{
    trace_event(run->trace, TRACE_PHASE, 1, until, 0, 0);
    trouble(run, true);
    for (unsigned steps = 0; run->world.handled < until && !run->trace->failed && steps < ROUND_STEPS; steps++) {
        if (random_chance(&run->random, 1, 100))
            source_world_make(&run->world);
        step(run);
        if (sim_disk_stopped(run->disk)) {
            crash(run);
            if (!run->trace->failed)
                trouble(run, true);
        }
        if (random_chance(&run->random, 1, 150))
            jump(run);
        /* The machine is busy: what waits for a moment alone is due, and the disk has not answered yet. */
        else if (random_chance(&run->random, 1, 30))
            run->trace->now_us += random_below(&run->random, 30000);
    }
}

/* Without faults everything that there is comes to the handler. */
static void rest(struct source_run *run)
{
    uint64_t steps = 0, begun_us = run->trace->now_us;
    unsigned jumps = 0;
    trouble(run, false);
    run->idle = 0;
    while (!run->trace->failed) {
        step(run);
        if (run->idle >= IDLE_STEPS && sim_broker_at_rest(&run->broker)) {
            if (!source_world_is_owed(&run->world) ? ++jumps > 5 : run->trace->now_us - begun_us > REST_US)
                break;
            sim_broker_jump(&run->broker);
            run->idle = 0;
        } else if (run->idle >= 4 * IDLE_STEPS) {
            sim_broker_jump(&run->broker);
            run->idle = 0;
        }
        if (++steps > REST_STEPS_MAX) {
            trace_fail(run->trace, "progress", "after %" PRIu64 " steps without faults there is no rest", steps);
            sim_broker_note(&run->broker);
        }
    }
    for (unsigned i = 0; i < run->world.count && !run->trace->failed && source_world_is_owed(&run->world); i++) {
        char *text = NULL;
        for (unsigned k = 0; k < run->broker.worker_count && !text; k++)
            text = intakes_describe(run->intakes[k], bytes_of_text("/"), bytes_of_text(run->world.list[i].id));
        trace_note(run->trace, "source %s: %s", run->world.list[i].text, text ? text : "nobody runs it");
        free(text);
    }
    if (!run->trace->failed)
        source_world_check_end(&run->world);
}

/* ---- a seed ------------------------------------------------------------------------------------------------------------------------- */

static void set_up(struct source_run *run, const struct sim_options *options, uint64_t seed, struct trace *trace)
{
    run->options = options;
    run->trace = trace;
    trace->now_us = 1000 * DAY_US;   /* some day in 1972 */
    random_init(&run->random, seed);
    plan_make(&run->plan, options, seed);
    run->plan.disk_errors = run->plan.rot = run->plan.full_disk = false;
    run->plan.capacity = UINT64_MAX;
    run->jump_us = random_chance(&run->random, 1, 2) ? 20 * SECOND_US : random_chance(&run->random, 1, 2) ? 3600 * SECOND_US : 3 * DAY_US;
    run->disk = sim_disk_new(&run->random, trace);
    sim_broker_init(&run->broker, &run->plan, &run->random, trace, run->disk);
    run->lodgers = (struct sim_lodgers){.owner = run, .made = on_made, .before_turn = on_before_turn, .after_turn = on_after_turn, .at_rest = on_at_rest, .deadline = on_deadline,
                                        .ending = on_ending, .ended = on_ended};
    run->broker.lodgers = &run->lodgers;
    source_world_init(&run->world, &run->random, trace, seed);
    source_hand_init(&run->hand, &run->world);
    for (unsigned i = 0; i < run->world.count; i++)
        run->fixed[i] = (struct intake_fixed){.vhost = "/", .id = run->world.list[i].id, .text = run->world.list[i].text};
}

static void tear_down(struct source_run *run)
{
    if (run->broker.broker) {
        sim_disk_stop(run->disk);
        sim_broker_kill(&run->broker);
    }
    sim_disk_free(run->disk);
    source_world_deinit(&run->world);
}

uint64_t source_run(const struct sim_options *options, uint64_t seed, struct trace *trace)
{
    struct source_run *run = calloc(1, sizeof(*run));
    CHECK(run);
    set_up(run, options, seed, trace);
    start(run);
    /* Sources of times alone have little to tell. */
    for (unsigned rounds = 0; !trace->failed && run->world.handled < options->ops && rounds < 40; rounds++) {
        uint64_t left = options->ops - run->world.handled, more = random_between(&run->random, 20, 400);
        work(run, run->world.handled + (more < left ? more : left));
        if (!trace->failed)
            rest(run);
        if (trace->failed)
            break;
        source_world_turn_over(&run->world);
        switch (random_below(&run->random, 3)) {
        case 0:
            close_cleanly(run);
            start(run);
            break;
        case 1:
            if (run->plan.crashes)
                crash(run);
            break;
        default: break;
        }
    }
    if (!trace->failed)
        rest(run);
    if (!trace->failed)
        close_cleanly(run);
    uint64_t handled = run->world.handled;
    tear_down(run);
    free(run);
    return handled;
}
