#include "sim/feature_run.h"

#include "sim/feature_client.h"
#include "sim/sim_fate.h"

#include <stdlib.h>

#define CALM_STEPS_MAX 3000000u
#define CALM_US_MAX (600u * 1000000u)
#define IDLE_STEPS 48u            /* fruitless ones in a row before time jumps */
#define SLACK_US 400000u          /* by which time jumps in the middle of work */

struct feature_run {
    const struct sim_options *options;
    struct random random;
    struct trace *trace;
    struct feature_plan plan;
    struct feature_model model;
    struct sim_disk *disk;
    struct sim_broker broker;
    struct feature_world world;
    struct feature_client clients[FEATURE_CLIENTS_MAX];   /* the last of plan.client_count + 1 counts */
    struct feature_client *admin;
    unsigned idle;
};

/* ---- life and death -------------------------------------------------------------------------------------------------- */

/* At which operation of the disk the process is to die for the first time; 0: nobody says. */
static uint64_t crash_at(const struct feature_run *run) { return run->model.epoch == 1 ? run->options->crash_at : 0; }

static void trouble(struct feature_run *run, bool on)
{
    run->world.calm = !on;
    sim_fate_trouble(&run->broker, on, crash_at(run));
}

static void start(struct feature_run *run)
{
    run->world.calm = true;
    sim_fate_start(&run->broker, crash_at(run));
}

static void forget_everything(struct feature_run *run)
{
    feature_restart(&run->model);
    for (unsigned i = 0; i <= run->plan.client_count; i++)
        if (run->clients[i].state != FEATURE_DOWN)
            feature_client_forget(&run->clients[i]);
}

static void crash(struct feature_run *run)
{
    bool power = random_chance(&run->random, 1, 2);
    sim_disk_stop(run->disk);
    trace_event(run->trace, TRACE_BROKER_CRASH, power, 0, 0, 0);
    forget_everything(run);
    sim_broker_kill(&run->broker);
    sim_disk_restart(run->disk, power);
    start(run);
}

static void close_cleanly(struct feature_run *run)
{
    sim_fate_close(&run->broker);
    forget_everything(run);
    sim_disk_restart(run->disk, random_chance(&run->random, 1, 2));
}

/* ---- steps -------------------------------------------------------------------------------------------------------------- */

static void step(struct feature_run *run)
{
    bool happened = false;
    run->trace->now_us += random_below(&run->random, 20);
    struct feature_client *client = &run->clients[random_below(&run->random, run->plan.client_count + 1)];
    switch (random_below(&run->random, 8)) {
    case 0: case 1: case 2:
        happened = sim_broker_turn(&run->broker, (unsigned)random_below(&run->random, run->broker.worker_count));
        break;
    case 3: case 4:
        happened = sim_disk_step(run->disk);
        break;
    case 5:
        feature_client_act(client);
        happened = !run->world.calm;
        break;
    default:
        happened = feature_client_read(client);
    }
    run->idle = happened ? 0 : run->idle + 1;
}

static void work(struct feature_run *run, uint64_t until_ops)
{
    trace_event(run->trace, TRACE_PHASE, 1, until_ops, 0, 0);
    trouble(run, true);
    for (uint64_t steps = 0; run->world.ops < until_ops && !run->trace->failed && steps < until_ops * 200; steps++) {
        step(run);
        if (sim_disk_stopped(run->disk)) {
            crash(run);
            if (!run->trace->failed)
                trouble(run, true);
        }
        if (random_below(&run->random, 4096) < run->plan.slack)
            run->trace->now_us += random_below(&run->random, SLACK_US);
    }
}

static bool everybody_gone(const struct feature_run *run)
{
    for (unsigned i = 0; i <= run->plan.client_count; i++)
        if (run->clients[i].state != FEATURE_DOWN)
            return false;
    return sim_broker_sessions(&run->broker) == 0;
}

static bool admin_waits(const struct feature_run *run)
{
    const struct feature_client *admin = run->admin;
    return admin->answers_due > 0 || (admin->state != FEATURE_DOWN && admin->state != FEATURE_UP);
}

/* Until nothing moves, everybody is gone or the admin has its answers, and `until_us` has passed. */
static void rest(struct feature_run *run, bool gone, uint64_t until_us)
{
    uint64_t begin = run->trace->now_us, steps = 0;
    unsigned jumps = 0;
    run->idle = 0;
    while (!run->trace->failed) {
        step(run);
        if (run->idle >= IDLE_STEPS && sim_broker_at_rest(&run->broker)) {
            bool done = gone ? everybody_gone(run) : !admin_waits(run);
            if (done && run->trace->now_us >= until_us && ++jumps > 3)
                return;
            sim_broker_jump(&run->broker);
            run->idle = 0;
        }
        if (++steps > CALM_STEPS_MAX || run->trace->now_us - begin > CALM_US_MAX) {
            trace_fail(run->trace, "progress", "after %lu steps and %lu us without faults %s", (unsigned long)steps, (unsigned long)(run->trace->now_us - begin),
                       gone ? "some client still waits" : "the counting client still waits");
            sim_broker_note(&run->broker);
            for (unsigned i = 0; i <= run->plan.client_count; i++)
                trace_note(run->trace, "client %u (role %d, state %d): %lu unconfirmed, %u answers due", i, (int)run->clients[i].part.role, (int)run->clients[i].state,
                           (unsigned long)run->clients[i].unconfirmed_left, run->clients[i].answers_due);
        }
    }
}

/* Those who have filters get what is there for them. */
static void linger(struct feature_run *run)
{
    bool any = false, more = true;
    for (unsigned i = 0; i < run->plan.chain_count; i++)
        any |= (run->plan.chains[i].features & CHAIN_FILTER) != 0;
    if (!any)
        return;
    run->world.lingering = true;
    while (more && !run->trace->failed) {
        rest(run, false, feature_due_us(&run->model) + 1000000u);
        more = false;
        for (unsigned i = 0; i < run->broker.worker_count; i++)   /* none of them has something to do of which it does not know yet */
            more |= sim_broker_turn(&run->broker, i);
        more |= !sim_broker_at_rest(&run->broker);
        for (unsigned i = 0; i < run->plan.client_count; i++)
            more |= feature_client_waits(&run->clients[i]) && run->clients[i].held_count;
    }
    run->world.lingering = false;
    for (unsigned i = 0; i < run->plan.client_count && !run->trace->failed; i++)
        if (feature_client_waits(&run->clients[i]))
            filters_rested(&run->model, i, run->clients[i].arrivals, run->clients[i].arrival_count);
}

/* ---- counting ------------------------------------------------------------------------------------------------------------- */

/* Everything that is ready in one queue comes to the admin, in order. */
static void count_queue(struct feature_run *run, unsigned chain, bool dead)
{
    struct feature_client *admin = run->admin;
    feature_client_count(admin, chain, dead);
    rest(run, false, 0);
    if (run->trace->failed)
        return;
    if (!dead && (run->plan.chains[chain].features & CHAIN_STREAM)) {
        feature_found_stream(&run->model, chain, admin->arrivals, admin->arrival_count);
        return;
    }
    uint64_t *numbers = calloc(admin->held_count + 1, sizeof(*numbers));
    CHECK(numbers);
    for (unsigned i = 0; i < admin->held_count; i++)
        numbers[i] = admin->held[i].number;
    feature_found(&run->model, chain, numbers, admin->held_count, dead);
    free(numbers);
}

static void count_chain(struct feature_run *run, unsigned chain)
{
    bool is_stream = run->plan.chains[chain].features & CHAIN_STREAM;
    if (!is_stream)
        feature_count_begin(&run->model, chain);
    for (unsigned dead = 0; dead < 2 && !run->trace->failed; dead++) {
        count_queue(run, chain, dead);
        if (run->trace->failed)
            return;
        /* The source is counted first: what expires meanwhile goes to the dead queue, never back. */
        bool keep = dead ? random_chance(&run->random, 1, 2) : random_chance(&run->random, 2, 3);
        if (dead && !is_stream)
            feature_count_end(&run->model, chain);
        feature_client_settle(run->admin, !keep);
        rest(run, false, 0);
    }
}

static void count(struct feature_run *run)
{
    trace_event(run->trace, TRACE_PHASE, 3, 0, 0, 0);
    feature_client_connect(run->admin);
    rest(run, false, 0);
    if (!run->trace->failed && run->admin->state != FEATURE_UP)
        trace_fail(run->trace, "progress", "the counting client could not connect");
    for (unsigned chain = 0; chain < run->plan.chain_count && !run->trace->failed; chain++)
        count_chain(run, chain);
    if (run->trace->failed)
        return;
    feature_client_close(run->admin);
    rest(run, true, 0);
    feature_quiet(&run->model);
}

/* ---- a seed ------------------------------------------------------------------------------------------------------------------ */

static void set_up(struct feature_run *run, const struct sim_options *options, uint64_t seed, struct trace *trace)
{
    run->options = options;
    run->trace = trace;
    random_init(&run->random, seed);
    feature_plan_make(&run->plan, options, seed);
    feature_model_init(&run->model, &run->plan, trace);
    run->disk = sim_disk_new(&run->random, trace);
    sim_broker_init(&run->broker, &run->plan.base, &run->random, trace, run->disk);
    run->world = (struct feature_world){.plan = &run->plan, .random = &run->random, .trace = trace, .model = &run->model, .broker = &run->broker};
    for (unsigned i = 0; i <= run->plan.client_count; i++)
        feature_client_init(&run->clients[i], &run->world, i);
    run->admin = &run->clients[run->plan.client_count];
}

static void tear_down(struct feature_run *run)
{
    if (run->broker.broker) {
        sim_disk_stop(run->disk);
        sim_broker_kill(&run->broker);
    }
    for (unsigned i = 0; i <= run->plan.client_count; i++)
        feature_client_deinit(&run->clients[i]);
    sim_disk_free(run->disk);
    feature_model_deinit(&run->model);
}

uint64_t feature_run(const struct sim_options *options, uint64_t seed, struct trace *trace)
{
    struct feature_run *run = calloc(1, sizeof(*run));
    CHECK(run);
    set_up(run, options, seed, trace);
    start(run);
    while (!trace->failed && run->world.ops < options->ops) {
        uint64_t left = options->ops - run->world.ops, round = random_between(&run->random, 100, 1500);
        work(run, run->world.ops + (round < left ? round : left));
        if (trace->failed)
            break;
        trouble(run, false);
        linger(run);
        rest(run, true, feature_due_us(&run->model) + 1000000u);   /* what is on its way has its time from when it comes */
        feature_quiet(&run->model);
        count(run);
        if (trace->failed)
            break;
        switch (random_below(&run->random, 3)) {
        case 0:
            close_cleanly(run);
            start(run);
            break;
        case 1:
            if (run->plan.base.crashes)
                crash(run);
            break;
        default: break;
        }
    }
    if (!trace->failed)
        close_cleanly(run);
    uint64_t ops = run->world.ops;
    tear_down(run);
    free(run);
    return ops;
}
