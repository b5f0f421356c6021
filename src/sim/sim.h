/* The simulator's entry. */
#ifndef SIM_SIM_H
#define SIM_SIM_H

/* `godwit sim …`: argv[0] is the command's name. Returns the exit code: 0 when every seed kept every invariant, 1 when one did not, 2 for a
 * mistake on the command line. */
int sim_main(int argc, char **argv);

#endif
