#include "sim/seed_run.h"

#include "sim/nomem.h"
#include "sim/sim_client.h"

#include <stdlib.h>

#define CALM_STEPS_MAX 3000000u
#define CALM_US_MAX (120u * 1000000u)
#define IDLE_STEPS 48u            /* fruitless ones in a row before time jumps */

struct seed_run {
    const struct sim_options *options;
    struct random random;
    struct trace *trace;
    struct plan plan;
    struct model model;
    struct sim_disk *disk;
    struct sim_broker broker;
    struct sim_world world;
    struct sim_client clients[PLAN_CLIENTS_MAX + 1];   /* the last one drains */
    struct sim_client *admin;
    uint64_t errors_before;       /* the disk's when the broker was started */
    unsigned idle;
    bool over;                    /* rot was told and the broker does not start: the operator's turn */
};

/* ---- life and death ------------------------------------------------------------------------------------------------------------------ */

static void trouble(struct seed_run *run, bool on)
{
    const struct plan *plan = &run->plan;
    struct sim_disk_faults faults = {.names_any_order = plan->names_any_order};
    if (on && plan->disk_errors) {
        faults.read_error = plan->read_error;
        faults.write_error = plan->write_error;
        faults.sync_error = plan->sync_error;
    }
    sim_disk_set_faults(run->disk, &faults);
    sim_disk_set_capacity(run->disk, on ? plan->capacity : UINT64_MAX);
    nomem_pause(!on);
    run->broker.calm = !on;
    run->world.calm = !on;
    uint64_t soon = run->options->crash_at && run->model.epoch == 0 ? run->options->crash_at
                                                                    : random_between(&run->random, 1, plan->crash_every * 2);
    sim_disk_stop_at(run->disk, on && plan->crashes ? sim_disk_operations(run->disk) + soon : 0);
}

/* Starts the broker; with crashes in the plan it may die while it starts, again and again. */
static void start(struct seed_run *run)
{
    for (unsigned attempt = 0; !run->trace->failed; attempt++) {
        trouble(run, false);
        if (run->plan.crashes && attempt < 3 && random_chance(&run->random, 1, 4))
            sim_disk_stop_at(run->disk, sim_disk_operations(run->disk) + random_between(&run->random, 1, 60));
        enum gw_err err = sim_broker_start(&run->broker);
        if (sim_disk_stopped(run->disk)) {
            sim_broker_kill(&run->broker);
            sim_disk_restart(run->disk, random_chance(&run->random, 1, 2));
            continue;
        }
        sim_disk_stop_at(run->disk, 0);
        run->errors_before = sim_disk_errors(run->disk);
        run->world.topology_ready = false;
        if (err == GW_OK)
            return;
        run->over = true;
        if (nomem_failed() > 0)
            return;
        if (!run->model.rotten)
            trace_fail(run->trace, "progress", "the broker does not start: %s: %s", gw_err_text(err), run->broker.why);
        else if (run->broker.why[0] == 0 && run->broker.alarm_count == 0)
            trace_fail(run->trace, "rot", "the broker does not start and does not say why: %s", gw_err_text(err));
        return;
    }
}

/* What every client forgets with the broker's end, and the model is told. */
static void forget_everything(struct seed_run *run, bool clean)
{
    for (unsigned i = 0; i <= run->plan.clients; i++)
        for (unsigned k = 1; k <= CONTROL_CHANNEL; k++)
            sim_channel_crash(&run->clients[i].channels[k]);
    run->model.torn_log = sim_disk_errors(run->disk) != run->errors_before || nomem_failed() > 0;
    model_restart(&run->model, clean);
    for (unsigned i = 0; i <= run->plan.clients; i++)
        if (run->clients[i].state != CLIENT_DOWN)
            sim_client_forget(&run->clients[i]);
    for (unsigned queue = 0; queue < run->plan.queue_count; queue++)
        if (!run->plan.queues[queue].durable)
            run->world.queue_there[queue] = false;
    /* While storage fails, what is there already is declared with success, durable or not. */
    run->world.topology_lasting |= run->world.topology_ready && !run->model.torn_log;
}

static void crash(struct seed_run *run)
{
    bool power = random_chance(&run->random, 1, 2);
    sim_disk_stop(run->disk);
    trace_event(run->trace, TRACE_BROKER_CRASH, power, 0, 0, 0);
    forget_everything(run, false);
    sim_broker_kill(&run->broker);
    sim_disk_restart(run->disk, power);
    if (run->plan.rot && !run->model.rotten && random_chance(&run->random, 1, 4) && sim_disk_rot(run->disk, NULL)) {
        run->model.rotten = true;
        if (sim_disk_read_errors(run->disk) == 0)   /* what could not be read may be told already */
            run->broker.alarm_count = 0;
        run->world.topology_lasting = false;
    }
    start(run);
}

static void close_cleanly(struct seed_run *run)
{
    enum gw_err err = sim_broker_close(&run->broker);
    bool failed = sim_disk_errors(run->disk) != run->errors_before || nomem_failed() > 0;
    if (err != GW_OK && !failed)
        trace_fail(run->trace, "progress", "the broker does not close: %s", gw_err_text(err));
    if (sim_disk_open_handles(run->disk) > 0)
        trace_fail(run->trace, "leaks", "%u files are open after the broker was closed", sim_disk_open_handles(run->disk));
    forget_everything(run, true);
    sim_disk_restart(run->disk, random_chance(&run->random, 1, 2));
}

/* ---- steps --------------------------------------------------------------------------------------------------------------------------- */

/* One thing happens somewhere. */
static void step(struct seed_run *run)
{
    bool happened = false;
    run->trace->now_us += random_below(&run->random, 20);
    struct sim_client *client = &run->clients[random_below(&run->random, run->plan.clients + 1)];
    switch (random_below(&run->random, 8)) {
    case 0: case 1: case 2:
        happened = sim_broker_turn(&run->broker, (unsigned)random_below(&run->random, run->broker.worker_count));
        break;
    case 3: case 4:
        happened = sim_disk_step(run->disk);
        break;
    case 5:
        sim_client_act(client);
        happened = !run->world.calm;
        break;
    default:
        happened = sim_client_read(client);
    }
    run->model.alarms = run->broker.alarm_count;
    run->model.failing = sim_disk_errors(run->disk) != run->errors_before || nomem_failed() > 0;
    run->model.unreadable = sim_disk_read_errors(run->disk) > 0;
    run->idle = happened ? 0 : run->idle + 1;
}

static void work(struct seed_run *run, uint64_t until_ops)
{
    trace_event(run->trace, TRACE_PHASE, 1, until_ops, 0, 0);
    trouble(run, true);
    uint64_t steps = 0;
    while (run->world.ops < until_ops && !run->trace->failed && !run->over && steps++ < until_ops * 200) {
        step(run);
        if (sim_disk_stopped(run->disk)) {
            crash(run);
            if (run->model.rotten)
                return;
            if (!run->trace->failed && !run->over)
                trouble(run, true);
        }
        /* A clock that jumps, now and then. */
        if (random_chance(&run->random, 1, 20000))
            run->trace->now_us += random_below(&run->random, 3000000);
    }
}

static bool everybody_gone(const struct seed_run *run)
{
    for (unsigned i = 0; i < run->plan.clients; i++)
        if (run->clients[i].state != CLIENT_DOWN)
            return false;
    return sim_broker_sessions(&run->broker) == 0;
}

static bool admin_waits(const struct seed_run *run)
{
    const struct sim_client *admin = run->admin;
    if (admin->state != CLIENT_DOWN && admin->state != CLIENT_UP)
        return true;
    for (unsigned i = 1; i <= CONTROL_CHANNEL; i++)
        if (admin->channels[i].waiting || admin->channels[i].setup_left || admin->channels[i].state == CHANNEL_OPENING
            || admin->channels[i].state == CHANNEL_CLOSING)
            return true;
    return false;
}

static bool settled_down(const struct seed_run *run)
{
    return run->idle >= IDLE_STEPS && sim_broker_at_rest(&run->broker);
}

/* Without faults everything comes to its end in bounded time. `gone`: every session too. */
static void rest(struct seed_run *run, bool gone)
{
    uint64_t begin = run->trace->now_us, steps = 0;
    unsigned jumps = 0;
    run->idle = 0;
    while (!run->trace->failed) {
        step(run);
        steps++;
        if (settled_down(run)) {
            bool done = gone ? everybody_gone(run) : !admin_waits(run);
            /* A few more jumps, so that everything that waits for time is done too. */
            if (done && ++jumps > 3)
                return;
            sim_broker_jump(&run->broker);
            run->idle = 0;
        }
        if (steps > CALM_STEPS_MAX || run->trace->now_us - begin > CALM_US_MAX) {
            trace_fail(run->trace, "progress", "after %lu steps and %lu us without faults %s", (unsigned long)steps,
                       (unsigned long)(run->trace->now_us - begin), gone ? "some client still waits" : "the draining client still waits");
            sim_broker_note(&run->broker);
            for (unsigned i = 0; i <= run->plan.clients; i++)
                for (unsigned k = 1; k <= CONTROL_CHANNEL; k++) {
                    const struct sim_channel *channel = &run->clients[i].channels[k];
                    if (run->clients[i].state != CLIENT_DOWN && channel->state != CHANNEL_CLOSED)
                        trace_note(run->trace, "client %u (state %d) channel %u (state %d): waits for %u.%u, %u unconfirmed, %u to set up", i,
                                   (int)run->clients[i].state, k, (int)channel->state, channel->waiting >> 16, channel->waiting & 0xFFFF,
                                   channel->unconfirmed_left, channel->setup_left);
                }
        }
    }
}

static void calm(struct seed_run *run)
{
    trace_event(run->trace, TRACE_PHASE, 2, 0, 0, 0);
    trouble(run, false);
    if (sim_disk_errors(run->disk) != run->errors_before || nomem_failed() > 0)
        crash(run);     /* a log that failed takes nothing durable until the process is started again */
    if (run->over || run->trace->failed)
        return;
    trouble(run, false);
    rest(run, true);
    model_quiet(&run->model);
}

/* ---- draining -------------------------------------------------------------------------------------------------------------------------- */

static void ask_count(struct seed_run *run, unsigned queue)
{
    struct sim_channel *channel = &run->admin->channels[1];
    struct amqp_value values[AMQP_QUEUE_DECLARE_COUNT] = {
        [AMQP_QUEUE_DECLARE_QUEUE] = amqp_text(run->plan.queues[queue].name), [AMQP_QUEUE_DECLARE_PASSIVE] = amqp_number(1)};
    channel->waiting = AMQP_QUEUE_DECLARE_OK;
    channel->waiting_queue = (uint8_t)queue;
    sim_client_say(run->admin, 1, AMQP_QUEUE_DECLARE, values);
    rest(run, false);
}

/* What the model thinks is in a queue. */
static void note_queue(struct seed_run *run, unsigned queue)
{
    for (uint64_t number = run->model.first_open; number <= run->model.message_count; number++) {
        const struct instance *instance = model_instance(&run->model, number, queue);
        if (instance && (instance->flags & INSTANCE_MAY))
            trace_note(run->trace, "  message %lu%s%s%s%s", (unsigned long)number, instance->flags & INSTANCE_MUST ? " must be there" : "",
                       instance->flags & INSTANCE_CONFIRMED ? ", confirmed" : "", instance->flags & INSTANCE_SEEN ? ", seen" : "",
                       instance->flags & INSTANCE_HELD ? ", held" : "");
    }
}

static void check_count(struct seed_run *run, unsigned queue)
{
    uint64_t least, most;
    ask_count(run, queue);
    model_bounds(&run->model, queue, &least, &most);
    trace_event(run->trace, TRACE_COUNT, queue, run->world.counts[queue], least, most);
    bool good = run->world.counts[queue] >= least && run->world.counts[queue] <= most;
    if (!good)
        note_queue(run, queue);
    if (!good && !model_excuses(&run->model))
        trace_fail(run->trace, "counts", "queue %s counts %lu messages; the model says %lu to %lu", run->plan.queues[queue].name,
                   (unsigned long)run->world.counts[queue], (unsigned long)least, (unsigned long)most);
}

static void open_channel(struct seed_run *run)
{
    sim_channel_open(&run->admin->channels[1]);
    rest(run, false);
}

static void close_channel(struct seed_run *run)
{
    sim_channel_close(&run->admin->channels[1]);
    rest(run, false);
}

static void consume_all(struct seed_run *run, unsigned queue)
{
    struct sim_channel *channel = &run->admin->channels[1];
    channel->consumers[0] = (struct sim_consumer){.open = true, .queue = (uint8_t)queue, .number = 1, .progress = {.strict = true}};
    struct amqp_value values[AMQP_BASIC_CONSUME_COUNT] = {
        [AMQP_BASIC_CONSUME_QUEUE] = amqp_text(run->plan.queues[queue].name), [AMQP_BASIC_CONSUME_CONSUMER_TAG] = amqp_text("c1")};
    channel->waiting = AMQP_BASIC_CONSUME_OK;
    sim_client_say(run->admin, 1, AMQP_BASIC_CONSUME, values);
    rest(run, false);
}

/* Acknowledges none, some or all of what is held. */
static void acknowledge(struct seed_run *run)
{
    struct sim_channel *channel = &run->admin->channels[1];
    unsigned share = (unsigned)random_below(&run->random, 5);
    for (unsigned i = channel->held_count; i-- > 0;) {
        if (random_below(&run->random, 4) >= share)
            continue;
        uint8_t frame[AMQP_ACK_FRAME_SIZE];
        bool multiple = random_chance(&run->random, 1, 50);
        amqp_ack_write(frame, 1, AMQP_BASIC_ACK, channel->held[i].tag, multiple);
        stream_write(&run->admin->link->to_session, frame, sizeof(frame));
        for (unsigned first = multiple ? 0 : i;; i--) {
            sim_channel_settle(channel, i, SETTLED_ACK);
            if (i == first)
                break;
        }
    }
}

static void purge(struct seed_run *run, unsigned queue)
{
    struct sim_channel *channel = &run->admin->channels[1];
    uint64_t least, most;
    struct amqp_value values[AMQP_QUEUE_PURGE_COUNT] = {[AMQP_QUEUE_PURGE_QUEUE] = amqp_text(run->plan.queues[queue].name)};
    model_bounds(&run->model, queue, &least, &most);
    channel->waiting = AMQP_QUEUE_PURGE_OK;
    channel->waiting_queue = (uint8_t)queue;
    sim_client_say(run->admin, 1, AMQP_QUEUE_PURGE, values);
    rest(run, false);
    uint64_t count = run->world.counts[queue];
    if ((count < least || count > most) && !model_excuses(&run->model))
        trace_fail(run->trace, "counts", "the purge of queue %s counts %lu messages; the model says %lu to %lu", run->plan.queues[queue].name,
                   (unsigned long)count, (unsigned long)least, (unsigned long)most);
    model_drain_end(&run->model, queue);   /* nobody holds anything: all of it is gone for good */
}

static void drain_queue(struct seed_run *run, unsigned queue)
{
    struct sim_channel *channel = &run->admin->channels[1];
    open_channel(run);
    if (run->trace->failed)
        return;
    check_count(run, queue);
    uint64_t count = run->world.counts[queue];
    consume_all(run, queue);
    if (!run->trace->failed && channel->held_count != count && !model_excuses(&run->model))
        trace_fail(run->trace, "counts", "queue %s counted %lu messages and delivered %u", run->plan.queues[queue].name, (unsigned long)count,
                   channel->held_count);
    if (run->trace->failed)
        return;
    model_drain_end(&run->model, queue);
    if (random_chance(&run->random, 1, 4))
        check_count(run, queue);
    acknowledge(run);
    close_channel(run);
    if (run->trace->failed)
        return;
    open_channel(run);
    check_count(run, queue);
    if (random_chance(&run->random, 1, 8) && !run->trace->failed)
        purge(run, queue);
    if (!run->trace->failed)
        close_channel(run);
}

static void drain(struct seed_run *run)
{
    trace_event(run->trace, TRACE_PHASE, 3, 0, 0, 0);
    if (run->over || run->trace->failed)
        return;
    sim_client_connect(run->admin);
    rest(run, false);
    if (!run->trace->failed && run->admin->state != CLIENT_UP)
        trace_fail(run->trace, "progress", "the draining client could not connect");
    for (unsigned queue = 0; queue < run->plan.queue_count && !run->trace->failed; queue++)
        drain_queue(run, queue);
    if (run->trace->failed)
        return;
    sim_client_close(run->admin);
    rest(run, true);
    model_check_groups(&run->model);
}

/* ---- a seed ------------------------------------------------------------------------------------------------------------------------------ */

static void set_up(struct seed_run *run, const struct sim_options *options, uint64_t seed, struct trace *trace)
{
    run->options = options;
    run->trace = trace;
    random_init(&run->random, seed);
    plan_make(&run->plan, options, seed);
    model_init(&run->model, &run->plan, trace);
    run->model.refusals = run->plan.disk_errors || run->plan.full_disk || options->nomem_at;
    run->disk = sim_disk_new(&run->random, trace);
    sim_broker_init(&run->broker, &run->plan, &run->random, trace, run->disk);
    run->world = (struct sim_world){.plan = &run->plan, .random = &run->random, .trace = trace, .model = &run->model, .broker = &run->broker, .clients = run->clients};
    run->world.body = malloc(run->model.scratch_size);
    CHECK(run->world.body);
    for (unsigned i = 0; i <= run->plan.clients; i++)
        sim_client_init(&run->clients[i], &run->world, i);
    run->admin = &run->clients[run->plan.clients];
    run->admin->scripted = true;
}

static void tear_down(struct seed_run *run)
{
    if (run->broker.broker) {
        sim_disk_stop(run->disk);
        sim_broker_kill(&run->broker);
    }
    for (unsigned i = 0; i <= run->plan.clients; i++)
        sim_client_deinit(&run->clients[i]);
    sim_disk_free(run->disk);
    model_deinit(&run->model);
    free(run->world.body);
}

uint64_t seed_run(const struct sim_options *options, uint64_t seed, struct trace *trace)
{
    struct seed_run *run = calloc(1, sizeof(*run));
    CHECK(run);
    set_up(run, options, seed, trace);
    start(run);
    while (!trace->failed && !run->over && run->world.ops < options->ops && !run->model.rotten) {
        uint64_t left = options->ops - run->world.ops, round = random_between(&run->random, 300, 4000);
        work(run, run->world.ops + (round < left ? round : left));
        calm(run);
        drain(run);
        if (trace->failed || run->over)
            break;
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
    if (!trace->failed && !run->over && run->model.rotten) {
        calm(run);
        drain(run);
    }
    if (!trace->failed && !run->over)
        close_cleanly(run);
    uint64_t ops = run->world.ops;
    tear_down(run);
    free(run);
    return ops;
}
