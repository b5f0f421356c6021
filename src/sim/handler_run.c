#include "sim/handler_run.h"

#include "base/err.h"
#include "sim/handler_hand.h"
#include "sim/sim_fate.h"

#include <inttypes.h>
#include <stdlib.h>

#define SECOND_US 1000000ull
#define DAY_US (86400 * SECOND_US)
#define IDLE_STEPS 32u               /* fruitless ones in a row: all is at rest */
#define REST_JUMPS 4u                /* in a row in which nothing is called: what is not urgent is written down, too */
#define REST_STEPS_MAX 1000000u
#define ROUND_STEPS 30000u
#define END_JUMPS_MAX 3000u          /* until everything must have been handled */
#define CLOSE_STEPS_MAX 200000u
#define LEFT_MAX (6u << 20)          /* bytes of a disk that will be full */
#define LOOKS_US (2 * SECOND_US)     /* after which the broker has seen that it is not full any more */

struct handler_run {
    const struct sim_options *options;
    struct random random;
    struct trace *trace;
    struct handler_plan plan;
    struct handler_model model;
    struct sim_disk *disk;
    struct sim_broker broker;
    struct handler_program program;
    uint64_t epoch;
    unsigned idle;
};

/* ---- life and death --------------------------------------------------------------------------------------------------------------- */

/* At which operation of the disk the process is to die for the first time; 0: nobody says. */
static uint64_t crash_at(const struct handler_run *run) { return run->epoch == 0 ? run->options->crash_at : 0; }

static void clear_up(struct handler_run *run)
{
    sim_disk_set_capacity(run->disk, UINT64_MAX);
    if (run->program.is_short)
        run->program.short_until_us = run->trace->now_us + LOOKS_US;
    run->program.is_short = false;
}

static void fill_up(struct handler_run *run)
{
    if (!run->plan.base.full_disk)
        return;
    sim_disk_set_capacity(run->disk, sim_disk_used(run->disk) + random_size(&run->random, LEFT_MAX));
    run->program.is_short = run->model.was_short = true;
}

static void trouble(struct handler_run *run, bool on)
{
    run->program.calm = !on;
    if (!on)
        clear_up(run);
    sim_fate_trouble(&run->broker, on, crash_at(run));
}

static void crash(struct handler_run *run);

/* The process may die before its program is ready, too. */
static void start(struct handler_run *run, bool with_trouble)
{
    sim_fate_start(&run->broker, crash_at(run));
    if (run->trace->failed)
        return;
    run->broker.calm = true;
    if (with_trouble && (crash_at(run) || random_chance(&run->random, 1, 4)))
        trouble(run, true);
    if (!handler_program_start(&run->program, run->broker.workers[0].worker, run->disk) && !run->trace->failed)
        crash(run);
}

static void crash(struct handler_run *run)
{
    bool power = random_chance(&run->random, 1, 2);
    clear_up(run);
    sim_disk_stop(run->disk);
    trace_event(run->trace, TRACE_BROKER_CRASH, power, 0, 0, 0);
    handler_program_die(&run->program);
    sim_broker_kill(&run->broker);
    run->epoch++;
    handler_restarted(&run->model, false);
    sim_disk_restart(run->disk, power);
    /* It may be away for days. */
    if (random_chance(&run->random, 1, 6))
        run->trace->now_us += random_size(&run->random, run->plan.jump_us);
    start(run, true);
}

/* The process has died, or is to. */
static bool is_over(const struct handler_run *run) { return sim_disk_stopped(run->disk) || run->program.has_failed; }

/* ---- steps -------------------------------------------------------------------------------------------------------------------------- */

static void step(struct handler_run *run)
{
    bool happened;
    run->trace->now_us += random_below(&run->random, 20);
    switch (random_below(&run->random, 8)) {
    case 0: case 1: case 2:
        happened = handler_program_turn(&run->program);
        break;
    case 3: case 4: case 5:
        happened = sim_disk_step(run->disk);
        break;
    default:
        happened = handler_program_answer(&run->program);
    }
    run->idle = happened ? 0 : run->idle + 1;
}

static uint64_t deadline(const struct handler_run *run) { return run->program.loop.due_us; }

static void jump(struct handler_run *run)
{
    uint64_t due_us = deadline(run), now_us = run->trace->now_us;
    if (random_chance(&run->random, 2, 3) && due_us > now_us && due_us - now_us < run->plan.jump_us)
        run->trace->now_us = due_us + random_below(&run->random, random_chance(&run->random, 1, 2) ? 10 : SECOND_US);
    else
        run->trace->now_us += random_size(&run->random, run->plan.jump_us);
}

static void act(struct handler_run *run)
{
    unsigned kind = (unsigned)random_below(&run->random, 4096);
    if (kind < run->plan.publish)
        handler_program_publish(&run->program);
    else if (kind < run->plan.publish + run->plan.change)
        handler_program_change(&run->program);
    else if (kind < run->plan.publish + run->plan.change + run->plan.ask)
        handler_program_ask(&run->program);
}

static void work(struct handler_run *run, uint64_t until)
{
    trace_event(run->trace, TRACE_PHASE, 1, until, 0, 0);
    trouble(run, true);
    fill_up(run);
    for (unsigned steps = 0; run->model.handled < until && !run->trace->failed && steps < ROUND_STEPS; steps++) {
        act(run);
        step(run);
        if (is_over(run)) {
            crash(run);
            if (!run->trace->failed)
                trouble(run, true);
        }
        if (random_below(&run->random, 4096) < run->plan.jump)
            jump(run);
    }
}

static void jump_to_deadline(struct handler_run *run, uint64_t most_us)
{
    uint64_t now_us = run->trace->now_us, due_us = deadline(run);
    run->trace->now_us = due_us > now_us && due_us - now_us < most_us ? due_us : now_us + most_us;
}

static bool is_quiet(const struct handler_run *run) { return run->idle >= IDLE_STEPS && !sim_disk_in_flight(run->disk) && !handler_program_held(&run->program); }

/* Without faults everybody answers, until nothing moves any more but what waits for its time; and for long enough that what is not urgent is on disk, too. */
static void rest(struct handler_run *run)
{
    uint64_t acts = run->program.acts;
    unsigned jumps = 0;
    run->idle = 0;
    for (uint64_t steps = 0; !run->trace->failed; steps++) {
        step(run);
        if (is_over(run)) {
            crash(run);
            trouble(run, false);
        }
        if (is_quiet(run)) {
            jumps = run->program.acts == acts ? jumps + 1 : 0;
            acts = run->program.acts;
            if (jumps > REST_JUMPS)
                break;
            jump_to_deadline(run, SECOND_US);
            run->idle = 0;
        }
        if (steps > REST_STEPS_MAX)
            trace_fail(run->trace, "progress", "after %" PRIu64 " steps without faults there is no rest: %u events are held, %u operations of the disk under way", steps,
                       handler_program_held(&run->program), sim_disk_in_flight(run->disk));
    }
    handler_program_check_asked(&run->program);
    if (!run->trace->failed)
        handler_at_rest(&run->model);
}

/* The bus is closed in good order, with handlers that go on answering; unless the process dies meanwhile. */
static void close_cleanly(struct handler_run *run)
{
    bool hurried = random_chance(&run->random, 1, 2);
    clear_up(run);
    handler_program_close(&run->program, hurried ? 0 : random_below(&run->random, 5000));
    for (unsigned steps = 0; !run->program.is_closed && !run->trace->failed && !is_over(run); steps++) {
        step(run);
        if (run->idle >= IDLE_STEPS)
            jump_to_deadline(run, SECOND_US);
        if (steps > CLOSE_STEPS_MAX)
            trace_fail(run->trace, "progress", "gw_close does not come to its end");
    }
    if (run->trace->failed)
        return;
    if (is_over(run)) {
        crash(run);
        return;
    }
    sim_disk_stop_at(run->disk, 0);
    sim_loop_end(&run->program.loop);
    run->program.is_running = false;
    bool cleanly = sim_fate_close(&run->broker);
    run->epoch++;
    handler_restarted(&run->model, cleanly);
    sim_disk_restart(run->disk, random_chance(&run->random, 1, 2));
}

/* In days everything comes to its end. */
static void finish(struct handler_run *run, unsigned jumps_max)
{
    trouble(run, false);
    handler_program_all_on(&run->program);
    rest(run);
    for (unsigned jumps = 0; jumps < jumps_max && !run->trace->failed && handler_is_owed(&run->model); jumps++) {
        /* The broker looks at the disk's free space four times a second: its deadlines alone would take for ever. */
        run->trace->now_us += jumps < 16 ? SECOND_US << jumps : DAY_US;
        rest(run);
    }
}

/* ---- a seed ------------------------------------------------------------------------------------------------------------------------- */

static void set_up(struct handler_run *run, const struct sim_options *options, uint64_t seed, struct trace *trace)
{
    run->options = options;
    run->trace = trace;
    trace->now_us = 1000 * DAY_US;   /* some day in 1972 */
    random_init(&run->random, seed);
    handler_plan_make(&run->plan, options, seed);
    handler_plan_note(&run->plan, trace);
    handler_model_init(&run->model, &run->plan, trace);
    run->disk = sim_disk_new(&run->random, trace);
    sim_broker_init(&run->broker, &run->plan.base, &run->random, trace, run->disk);
    handler_program_init(&run->program, &run->plan, &run->model, &run->random, trace);
    run->program.lacks_memory = run->model.lacks_memory = options->nomem_at != 0;
}

static void tear_down(struct handler_run *run)
{
    if (run->program.is_running) {
        sim_disk_stop(run->disk);
        handler_program_die(&run->program);
    }
    if (run->broker.broker) {
        sim_disk_stop(run->disk);
        sim_broker_kill(&run->broker);
    }
    handler_program_deinit(&run->program);
    sim_disk_free(run->disk);
    handler_model_deinit(&run->model);
}

uint64_t handler_run(const struct sim_options *options, uint64_t seed, struct trace *trace)
{
    struct handler_run *run = calloc(1, sizeof(*run));
    CHECK(run);
    set_up(run, options, seed, trace);
    start(run, true);
    while (!trace->failed && run->model.handled < options->ops) {
        uint64_t left = options->ops - run->model.handled, more = random_between(&run->random, 20, 400);
        work(run, run->model.handled + (more < left ? more : left));
        if (!trace->failed && random_chance(&run->random, 1, 2)) {
            trouble(run, false);
            rest(run);
        }
        if (trace->failed)
            break;
        switch (random_below(&run->random, 3)) {
        case 0:
            close_cleanly(run);
            if (!trace->failed && !run->program.is_running)
                start(run, true);
            break;
        case 1:
            if (run->plan.base.crashes)
                crash(run);
            break;
        default: break;
        }
    }
    if (!trace->failed)
        finish(run, END_JUMPS_MAX);
    /* What was lost with an allocation is found when the bus is opened again. */
    if (!trace->failed && run->model.lacks_memory && handler_is_owed(&run->model)) {
        crash(run);
        finish(run, END_JUMPS_MAX);
    }
    if (!trace->failed)
        handler_check_end(&run->model);
    if (!trace->failed)
        close_cleanly(run);
    uint64_t handled = run->model.handled;
    tear_down(run);
    free(run);
    return handled;
}
