#include "sim/sim_names.h"

#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *sim_names_in(const char *text, const char *directory)
{
    size_t size = strlen(directory);
    if (size > 0) {
        if (strncmp(text, directory, size) != 0 || text[size] != '/')
            return NULL;
        text += size + 1;
    }
    return *text && !strchr(text, '/') ? text : NULL;
}

static struct sim_name *list_find(const struct sim_name_list *list, const char *text)
{
    for (unsigned i = 0; i < list->count; i++)
        if (strcmp(list->names[i].text, text) == 0)
            return &list->names[i];
    return NULL;
}

static void retain(struct sim_file *file, bool visible)
{
    if (file) {
        file->references++;
        file->visible += visible;
    }
}

static void release(struct sim_file *file, bool visible)
{
    if (file) {
        file->references--;
        file->visible -= visible;
    }
}

static void list_remove(struct sim_name_list *list, const char *text, bool visible)
{
    struct sim_name *name = list_find(list, text);
    if (!name)
        return;
    release(name->file, visible);
    *name = list->names[--list->count];
}

static void list_set(struct sim_name_list *list, const char *text, struct sim_file *file, bool visible)
{
    retain(file, visible);
    list_remove(list, text, visible);
    if (list->count == list->room) {
        list->room = list->room ? list->room * 2 : 16;
        list->names = realloc(list->names, list->room * sizeof(*list->names));
        CHECK(list->names);
    }
    struct sim_name *name = &list->names[list->count++];
    snprintf(name->text, sizeof(name->text), "%s", text);
    name->file = file;
}

static void list_apply(struct sim_name_list *list, const struct sim_name_change *change, bool visible)
{
    struct sim_file *file = change->file;
    retain(file, false);
    if (change->from[0])
        list_remove(list, change->from, visible);
    if (change->to[0])
        list_set(list, change->to, file, visible);
    release(file, false);
}

void sim_names_deinit(struct sim_names *names)
{
    while (names->now.count)
        list_remove(&names->now, names->now.names[0].text, true);
    while (names->durable.count)
        list_remove(&names->durable, names->durable.names[0].text, false);
    for (unsigned i = 0; i < names->change_count; i++)
        release(names->changes[i].file, false);
    free(names->now.names);
    free(names->durable.names);
    free(names->changes);
}

struct sim_name *sim_names_find(const struct sim_names *names, const char *text)
{
    return list_find(&names->now, text);
}

void sim_names_change(struct sim_names *names, const char *from, const char *to, struct sim_file *file)
{
    if (names->change_count == names->change_room) {
        names->change_room = names->change_room ? names->change_room * 2 : 16;
        names->changes = realloc(names->changes, names->change_room * sizeof(*names->changes));
        CHECK(names->changes);
    }
    struct sim_name_change *change = &names->changes[names->change_count++];
    snprintf(change->from, sizeof(change->from), "%s", from ? from : "");
    snprintf(change->to, sizeof(change->to), "%s", to ? to : "");
    change->file = file;
    change->lost = false;
    retain(file, false);
    list_apply(&names->now, change, true);
}

static bool touches(const struct sim_name_change *change, const char *directory)
{
    return (change->from[0] && sim_names_in(change->from, directory)) || (change->to[0] && sim_names_in(change->to, directory));
}

void sim_names_sync(struct sim_names *names, const char *directory)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < names->change_count; i++) {
        struct sim_name_change *change = &names->changes[i];
        if (touches(change, directory)) {
            list_apply(&names->durable, change, false);
            release(change->file, false);
        } else {
            names->changes[kept++] = *change;
        }
    }
    names->change_count = kept;
}

/* Names below a directory that is not there are unreachable. */
static bool has_parent(const struct sim_name_list *list, const char *text)
{
    const char *slash = strrchr(text, '/');
    if (!slash)
        return true;
    char parent[SIM_NAME_SIZE];
    snprintf(parent, sizeof(parent), "%.*s", (int)(slash - text), text);
    const struct sim_name *name = list_find(list, parent);
    return name && !name->file;
}

static bool same_name(const char *a, const char *b)
{
    return a[0] && strcmp(a, b) == 0;
}

/* Was an earlier change of the same file or name lost? No file system keeps the later ones then. */
static bool lost_before(const struct sim_names *names, unsigned index)
{
    const struct sim_name_change *change = &names->changes[index];
    for (unsigned i = 0; i < index; i++) {
        const struct sim_name_change *before = &names->changes[i];
        if (before->lost && (before->file == change->file || same_name(before->from, change->from) || same_name(before->from, change->to)
                             || same_name(before->to, change->from) || same_name(before->to, change->to)))
            return true;
    }
    return false;
}

void sim_names_lose_power(struct sim_names *names, struct random *random, bool any_order)
{
    uint64_t first_lost = random_between(random, 0, names->change_count);
    for (unsigned i = 0; i < names->change_count; i++) {
        struct sim_name_change *change = &names->changes[i];
        if (any_order ? !lost_before(names, i) && random_chance(random, 1, 2) : i < first_lost)
            list_apply(&names->durable, change, false);
        else
            change->lost = true;
    }
    for (unsigned i = 0; i < names->change_count; i++)
        release(names->changes[i].file, false);
    names->change_count = 0;
    for (unsigned i = 0; i < names->durable.count;) {
        if (has_parent(&names->durable, names->durable.names[i].text)) {
            i++;
        } else {
            list_remove(&names->durable, names->durable.names[i].text, false);
            i = 0;
        }
    }
    while (names->now.count)
        list_remove(&names->now, names->now.names[0].text, true);
    for (unsigned i = 0; i < names->durable.count; i++)
        list_set(&names->now, names->durable.names[i].text, names->durable.names[i].file, true);
}
