/* Allocations that fail on purpose, in the program that is linked for it (godwit-sim-nomem): the linker sends the broker's calls of malloc and the
 * like here (--wrap), while the simulator's own go straight to the system. In any other program nothing ever fails. */
#ifndef SIM_NOMEM_H
#define SIM_NOMEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* From now on the allocation `number`, counted from 1, fails; 0: none. */
void nomem_arm(uint64_t number);

/* While the faults pause, allocations neither fail nor count. */
void nomem_pause(bool pause);

/* Allocations since nomem_arm, and how many of them failed. */
uint64_t nomem_counted(void);
uint64_t nomem_failed(void);

#endif
