/* The program's entry: finds the command that the first word names, and runs it. */
#ifndef CLI_PROGRAM_H
#define CLI_PROGRAM_H

#include <stddef.h>

/* A command that lies above this layer. Its row (name, options, help) is in program_rows.c; its function gets the command's
 * own name and what follows it, reads its options itself, and returns the exit code. */
struct program_entry {
    const char *name;
    int (*main)(int argc, char **argv);
};

/* Returns the process's exit code. */
int program_main(int argc, char **argv, const struct program_entry *entries, size_t entry_count);

#endif
