/* The simulated directory tree: the names as programs see them, the names on the platter, and what lies between them: operations that no sync of
 * their directory has made durable yet. */
#ifndef SIM_NAMES_H
#define SIM_NAMES_H

#include "sim/sim_file.h"

#define SIM_NAME_SIZE 256u

struct sim_name {
    char text[SIM_NAME_SIZE];
    struct sim_file *file;       /* NULL: a directory */
};

struct sim_name_list {
    struct sim_name *names;
    unsigned count, room;
};

/* `from` goes (when not empty), then `to` names `file` (when not empty). */
struct sim_name_change {
    char from[SIM_NAME_SIZE], to[SIM_NAME_SIZE];
    struct sim_file *file;
    bool lost;               /* with the power */
};

struct sim_names {
    struct sim_name_list now, durable;
    struct sim_name_change *changes;    /* in the order they were made */
    unsigned change_count, change_room;
};

void sim_names_deinit(struct sim_names *names);

/* The entry, or NULL. */
struct sim_name *sim_names_find(const struct sim_names *names, const char *text);

/* Makes `to` name `file` (NULL: a directory) after taking `from` away; either may be NULL. Not durable. */
void sim_names_change(struct sim_names *names, const char *from, const char *to, struct sim_file *file);

/* What was changed in `directory` is durable. */
void sim_names_sync(struct sim_names *names, const char *directory);

/* The first changes that no sync covered survive; with `any_order` the first ones of each file. */
void sim_names_lose_power(struct sim_names *names, struct random *random, bool any_order);

/* Is `text` directly in `directory` ("" is the root)? Answers the last part of its name, or NULL. */
const char *sim_names_in(const char *text, const char *directory);

#endif
