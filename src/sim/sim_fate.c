#include "sim/sim_fate.h"

#include "base/err.h"

#define DEATHS_MAX 3u            /* of one start */
#define START_OPERATIONS 60u     /* a start that is to die does so within that many of the disk's */

void sim_fate_trouble(struct sim_broker *broker, bool on, uint64_t crash_at)
{
    const struct plan *plan = broker->plan;
    const struct sim_disk_faults faults = {.names_any_order = plan->names_any_order};
    uint64_t soon = crash_at ? crash_at : random_between(broker->random, 1, plan->crash_every * 2);
    sim_disk_set_faults(broker->disk, &faults);
    broker->calm = !on;
    sim_disk_stop_at(broker->disk, on && plan->crashes ? sim_disk_operations(broker->disk) + soon : 0);
}

void sim_fate_start(struct sim_broker *broker, uint64_t crash_at)
{
    struct sim_disk *disk = broker->disk;
    for (unsigned attempt = 0; !broker->trace->failed; attempt++) {
        sim_fate_trouble(broker, false, crash_at);
        if (broker->plan->crashes && attempt < DEATHS_MAX && random_chance(broker->random, 1, 4))
            sim_disk_stop_at(disk, sim_disk_operations(disk) + random_between(broker->random, 1, START_OPERATIONS));
        enum gw_err err = sim_broker_start(broker);
        if (err == GW_ERR_NOMEM)
            continue;   /* where allocations fail; the next attempt has more */
        if (!sim_disk_stopped(disk)) {
            sim_disk_stop_at(disk, 0);
            if (err)
                trace_fail(broker->trace, "progress", "the broker does not start: %s: %s", gw_err_text(err), broker->why);
            return;
        }
        sim_broker_kill(broker);
        sim_disk_restart(disk, random_chance(broker->random, 1, 2));
    }
}

bool sim_fate_close(struct sim_broker *broker)
{
    enum gw_err err = sim_broker_close(broker);
    if (err && err != GW_ERR_NOMEM)
        trace_fail(broker->trace, "progress", "the broker does not close: %s", gw_err_text(err));
    if (sim_disk_open_handles(broker->disk) > 0)
        trace_fail(broker->trace, "leaks", "%u files are open after the broker was closed", sim_disk_open_handles(broker->disk));
    return err == GW_OK;
}
