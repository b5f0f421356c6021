/* A directory's files: which are new, changed, or gone. A file is told when it has stayed the same for a while, so that one that is still being written is told once. The position is what is
 * known: each file's inode, size and time of change, so that what happens while nothing runs is found out at the next start. Files that are there when it is declared are known, unless
 * `from` is "start". */
#include "sources/source_state.h"

#include <stdio.h>

#define FILES_MAX 10000u
#define STILL_US 300000u             /* a file that has stayed the same for so long is told */

struct seen {
    uint64_t inode, size, changed_ns;
    uint64_t still_us;               /* monotonic: when it was first seen like that; 0: it is told */
};

struct directory_source {
    json_t *told, *settled;          /* name → "inode size changed": what events were made of, and what is on disk */
    json_t *waiting;                 /* name → {seen}: what is to stay the same for a while */
    uint64_t look_us;
    bool was_listed;
};

static const struct template_name names[] = {{"data", false}, {"path", false}, {"name", false}, {"change", false}, {"size", false}, {"source", false}, {NULL, false}};

struct found_file {
    char path[4352];
    const char *name, *change;
    char size[24];
};

static bool find(const void *owner, struct bytes name, struct bytes more, struct bytes *value)
{
    const struct found_file *found = owner;
    (void)more;
    *value = bytes_of_text(bytes_equal(name, bytes_of_text("name")) ? found->name : bytes_equal(name, bytes_of_text("change")) ? found->change :
                           bytes_equal(name, bytes_of_text("size")) ? found->size : found->path);
    return true;
}

static bool init(struct source *source)
{
    struct directory_source *own = source_own(source);
    own->told = json_object();
    own->settled = json_object();
    own->waiting = json_object();
    return own->told && own->settled && own->waiting;
}

static void deinit(struct source *source)
{
    struct directory_source *own = source_own(source);
    json_decref(own->told);
    json_decref(own->settled);
    json_decref(own->waiting);
}

static bool restore(struct source *source, const json_t *position)
{
    struct directory_source *own = source_own(source);
    json_t *files = json_object_get(position, "files");
    if (!json_is_object(files) || json_object_size(files) > FILES_MAX)
        return false;
    own->was_listed = true;
    return json_object_update(own->told, files) == 0 && json_object_update(own->settled, files) == 0;
}

static void begin(struct source *source)
{
    ((struct directory_source *)source_own(source))->look_us = SOURCE_NEVER;
    source_begin(source, &(struct feed_request){.kind = FEED_DIRECTORY, .address = source->declaration.address});
}

static void print_state(const struct feed_file *file, char state[80])
{
    snprintf(state, 80, "%llu %llu %llu", (unsigned long long)file->inode, (unsigned long long)file->size, (unsigned long long)file->changed_ns);
}

/* A mark is the name, a zero, and what the file is like now; nothing: it is gone. */
static bool tell(struct source *source, const char *name, const char *change, const char *state, uint64_t size)
{
    struct directory_source *own = source_own(source);
    struct found_file found = {.name = name, .change = change};
    char mark[512], id[512];
    const char *folder = source->declaration.address;
    snprintf(found.path, sizeof(found.path), folder[strlen(folder) - 1] == '/' ? "%s%s" : "%s/%s", folder, name);
    snprintf(found.size, sizeof(found.size), "%llu", (unsigned long long)size);
    int mark_size = snprintf(mark, sizeof(mark), "%s%c%s", name, 0, strcmp(change, "removed") == 0 ? "" : state);
    snprintf(id, sizeof(id), "%s/%s/%s", name, change, state);
    json_t *item = json_pack("{s:s%, s:s, s:s}", "path", found.path, strlen(found.path), "name", name, "change", change);
    if (item && strcmp(change, "removed") != 0)
        json_object_set_new(item, "size", json_integer((json_int_t)size));
    char *data = item ? json_dumps(item, JSON_COMPACT) : NULL;
    json_decref(item);
    bool made = data && source_emit(source, &(struct source_item){.data = bytes_of_text(data), .find = find, .owner = &found, .id = bytes_of_text(id), .mark = bytes_of(mark, (size_t)mark_size)});
    free(data);
    if (!made)
        return false;
    return strcmp(change, "removed") == 0 ? json_object_del(own->told, name) == 0 : json_object_set_new(own->told, name, json_string(state)) == 0;
}

/* Sorted by name. */
static bool is_there(const struct feed_file *files, unsigned count, const char *name)
{
    struct bytes wanted = bytes_of_text(name);
    unsigned low = 0, high = count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        struct bytes here = files[middle].name;
        int order = memcmp(here.data, wanted.data, here.size < wanted.size ? here.size : wanted.size);
        if (order == 0 && here.size == wanted.size)
            return true;
        if (order < 0 || (order == 0 && here.size < wanted.size))
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

static bool tell_removed(struct source *source, const struct feed_file *files, unsigned count)
{
    struct directory_source *own = source_own(source);
    const char *name;
    json_t *value;
    void *next;
    json_object_foreach_safe(own->told, next, name, value)
        if (!is_there(files, count, name)) {
            char state[80], copy[300];
            snprintf(state, sizeof(state), "%s", json_string_value(value) ? json_string_value(value) : "");
            snprintf(copy, sizeof(copy), "%s", name);
            if (!tell(source, copy, "removed", state, 0))
                return false;
        }
    json_object_foreach_safe(own->waiting, next, name, value)
        if (!is_there(files, count, name))
            json_object_del(own->waiting, name);
    return true;
}

/* True: it has been like that for long enough. */
static bool is_still(struct source *source, const char *name, const char *state)
{
    struct directory_source *own = source_own(source);
    json_t *waiting = json_object_get(own->waiting, name);
    const char *before = json_string_value(json_array_get(waiting, 0));
    if (!before || strcmp(before, state) != 0) {
        json_object_set_new(own->waiting, name, json_pack("[s, I]", state, (json_int_t)source->now_us));
        waiting = json_object_get(own->waiting, name);
    }
    uint64_t since_us = (uint64_t)json_integer_value(json_array_get(waiting, 1));
    if (waiting && source->now_us < since_us + STILL_US) {
        own->look_us = since_us + STILL_US < own->look_us ? since_us + STILL_US : own->look_us;
        return false;
    }
    return true;
}

static bool look_at(struct source *source, const struct feed_file *file)
{
    struct directory_source *own = source_own(source);
    char state[80], name[300];
    /* A name that is no UTF-8 cannot be told in JSON, and none is longer than 255 bytes. */
    if (!utf8_is_valid(file->name) || file->name.size >= sizeof(name))
        return true;
    snprintf(name, sizeof(name), "%.*s", (int)file->name.size, (const char *)file->name.data);
    print_state(file, state);
    const char *told = json_string_value(json_object_get(own->told, name));
    if (told && strcmp(told, state) == 0) {
        json_object_del(own->waiting, name);
        return true;
    }
    if (!is_still(source, name, state))
        return true;
    json_object_del(own->waiting, name);
    return tell(source, name, told ? "changed" : "new", state, file->size);
}

static bool learn(struct source *source, const struct feed_file *files, unsigned count)
{
    struct directory_source *own = source_own(source);
    for (unsigned i = 0; i < count; i++) {
        char state[80];
        if (!utf8_is_valid(files[i].name))
            continue;
        print_state(&files[i], state);
        if (json_object_setn_new(own->told, (const char *)files[i].name.data, files[i].name.size, json_string(state)) != 0)
            return false;
    }
    return json_object_update(own->settled, own->told) == 0;
}

static void listed(struct source *source, const struct feed_file *files, unsigned count, bool whole)
{
    struct directory_source *own = source_own(source);
    bool good = true;
    source_runs(source);
    if (!whole) {
        source_failed(source, 10000, "There are more than 10,000 files in the directory: it is not watched.");
        return;
    }
    own->look_us = SOURCE_NEVER;
    if (!own->was_listed) {
        good = source->declaration.from_start || learn(source, files, count);
        own->was_listed = good;
        source_moved(source);
    }
    good = good && tell_removed(source, files, count);
    for (unsigned i = 0; i < count && good; i++)
        good = look_at(source, &files[i]);
    if (!good)
        source_failed(source, 1000, "There is too little memory.");
    else if (own->look_us != SOURCE_NEVER)
        source->sink->due(source->sink);
}

static uint64_t tick(struct source *source)
{
    struct directory_source *own = source_own(source);
    if (source->now_us < own->look_us)
        return own->look_us;
    own->look_us = SOURCE_NEVER;
    source->feeder->look_again(source->feeder, &source->feed);
    return SOURCE_NEVER;
}

static void settled(struct source *source, struct bytes mark)
{
    struct directory_source *own = source_own(source);
    size_t size = strnlen((const char *)mark.data, mark.size);
    const char *name = (const char *)mark.data;
    if (size + 1 >= mark.size)
        json_object_deln(own->settled, name, size);
    else
        json_object_setn_new(own->settled, name, size, json_stringn(name + size + 1, mark.size - size - 1));
}

static json_t *position(const struct source *source)
{
    const struct directory_source *own = source_own(source);
    return json_pack("{s:O}", "files", own->settled);
}

const struct source_kind kind_directory = {
    .name = "directory", .settings = SETTING_PATH | SETTING_FROM | SETTING_RETRY, .names = names, .has_json = true, .is_local = true,
    .defaults = {[TEMPLATE_TYPE] = "directory.{{change}}", [TEMPLATE_SUBJECT] = "{{name}}", [TEMPLATE_DATA] = "{{data}}"}, .fallback = "directory.changed", .save_every_us = 1000000,
    .size = sizeof(struct directory_source), .init = init, .restore = restore, .begin = begin, .tick = tick, .listed = listed, .settled = settled, .position = position, .deinit = deinit,
};
