/* How the broker's process dies, when the plan has it die, and how it is started again and ended in good order. */
#ifndef SIM_SIM_FATE_H
#define SIM_SIM_FATE_H

#include "sim/sim_broker.h"

/* `on`: from now on disks fail and the process dies as the plan says, at the disk's `crash_at`th operation from here (0: drawn). Otherwise nothing goes wrong. */
void sim_fate_trouble(struct sim_broker *broker, bool on, uint64_t crash_at);

/* Starts the process. With crashes in the plan it may die while it starts, again and again. That it does not start otherwise is a failure. `crash_at` as above. */
void sim_fate_start(struct sim_broker *broker, uint64_t crash_at);

/* Ends it in good order: errors, and files that are left open, are failures. False: an allocation failed, and it is as if it had died. */
bool sim_fate_close(struct sim_broker *broker);

#endif
