/* A file that is written to, line by line (a log). The position is which file it is, and how far it was read: its inode, the offset behind the last line that is on disk, and a hash of its
 * first bytes (those before the offset, FEED_HEAD_MAX at most), by which a file that has been written anew under the same inode is told from one that has grown.
 *
 *   rotated by a new name   what is left of the old one is read first, wherever it is in the same directory; then the new one from its beginning
 *   cut off                 (shorter than the offset, or with another beginning) it is read from its beginning
 *
 * Which file it is, counted from the first, is its generation: an event's id is the generation and the offset of its line. */
#include "base/bugs.h"
#include "sources/lines.h"
#include "sources/source_state.h"

#include <stdio.h>

struct place {
    uint64_t generation, inode, offset;
    uint64_t head_hash, head_size;
};

struct file_source {
    struct line_splitter lines;
    struct place at, settled;        /* behind the last line that was made an event of, and that is on disk */
    uint64_t base;                   /* the offset where the splitter began */
    uint8_t head[FEED_HEAD_MAX];
    uint64_t head_known;             /* bytes of it */
    uint64_t read;                   /* offset of what comes next */
    bool is_open, was_open;          /* was: ever, and there is a position */
};

static const struct template_name names[] = {{"data", false}, {"line", false}, {"path", false}, {"offset", false}, {"source", false}, {NULL, false}};

struct found_line {
    struct bytes line;
    const char *path;
    char offset[24];
};

static bool find(const void *owner, struct bytes name, struct bytes more, struct bytes *value)
{
    const struct found_line *found = owner;
    (void)more;
    *value = bytes_equal(name, bytes_of_text("line")) ? found->line : bytes_of_text(bytes_equal(name, bytes_of_text("path")) ? found->path : found->offset);
    return true;
}

static bool init(struct source *source)
{
    line_splitter_init(&((struct file_source *)source_own(source))->lines, source->declaration.line_max);
    return true;
}

static void deinit(struct source *source) { line_splitter_deinit(&((struct file_source *)source_own(source))->lines); }

static bool take_number(const json_t *position, const char *name, uint64_t *number)
{
    const json_t *value = json_object_get(position, name);
    *number = (uint64_t)json_integer_value(value);
    return json_is_integer(value) && json_integer_value(value) >= 0;
}

static bool restore(struct source *source, const json_t *position)
{
    struct file_source *own = source_own(source);
    struct place at;
    const char *hash = json_string_value(json_object_get(position, "head"));
    if (!take_number(position, "generation", &at.generation) || !take_number(position, "inode", &at.inode) || !take_number(position, "offset", &at.offset) ||
        !take_number(position, "head_size", &at.head_size) || !hash || at.head_size > FEED_HEAD_MAX || at.head_size > at.offset)
        return false;
    at.head_hash = strtoull(hash, NULL, 16);
    own->at = own->settled = at;
    own->was_open = true;
    return true;
}

static void begin(struct source *source)
{
    struct file_source *own = source_own(source);
    own->is_open = false;
    source_begin(source, &(struct feed_request){.kind = FEED_FILE, .address = source->declaration.address, .inode = own->was_open && !bug_enabled(BUG_SOURCE_ROTATED_LEFT) ? own->at.inode : 0});
}

/* Is what is open what was read before, with nothing but more of it? */
static bool is_known(const struct place *at, const struct feed_opening *opening)
{
    return opening->inode == at->inode && opening->size >= at->offset && opening->head.size >= at->head_size &&
           source_hash(bytes_of(opening->head.data, at->head_size)) == at->head_hash;
}

static bool take(struct source *source, const struct line *line)
{
    struct file_source *own = source_own(source);
    struct found_line found = {.line = line->text, .path = source->declaration.address};
    struct place next = own->at;
    char id[64];
    next.offset = bug_enabled(BUG_SOURCE_HALF_LINE) ? own->read : own->base + line->consumed;
    uint64_t head_size = next.offset < own->head_known ? next.offset : own->head_known;
    if (head_size != next.head_size) {
        next.head_size = head_size;
        next.head_hash = source_hash(bytes_of(own->head, head_size));
    }
    snprintf(found.offset, sizeof(found.offset), "%llu", (unsigned long long)own->at.offset);
    snprintf(id, sizeof(id), "%llu-%llu", (unsigned long long)own->at.generation, (unsigned long long)own->at.offset);
    if (!source_emit(source, &(struct source_item){.data = line->text, .find = find, .owner = &found, .id = bytes_of_text(id), .mark = bytes_of(&next, sizeof(next))}))
        return false;
    own->at = next;
    return true;
}

/* Nothing more will be written to it: a last line needs no end. */
static void closed(struct source *source, uint64_t stream)
{
    struct file_source *own = source_own(source);
    struct line line;
    (void)stream;
    if (own->is_open && line_last(&own->lines, &line) == LINE_READY && !take(source, &line))
        source_failed(source, source->declaration.retry_ms, "There is too little memory.");
    own->is_open = false;
}

static void opened(struct source *source, struct feed_opening *opening)
{
    struct file_source *own = source_own(source);
    source_runs(source);
    bool known = own->was_open && is_known(&own->at, opening);
    /* Cut off: the rest of a line that was begun will never come, and it stands nowhere else. */
    if (!known && own->is_open)
        closed(source, 0);
    if (known) {
        opening->offset = own->at.offset;
    } else {
        bool is_first = !own->was_open;
        /* The first one is read from its end, unless all of it is wanted; what comes after it is new from its beginning. */
        opening->offset = is_first && !source->declaration.from_start ? opening->size : 0;
        own->at = (struct place){.generation = is_first ? source->wall_us / 1000 : own->at.generation + 1, .inode = opening->inode, .offset = opening->offset};
    }
    own->head_known = opening->head.size < FEED_HEAD_MAX ? opening->head.size : FEED_HEAD_MAX;
    if (own->head_known)
        memcpy(own->head, opening->head.data, own->head_known);
    if (!own->was_open) {
        own->at.head_size = own->at.offset < own->head_known ? own->at.offset : own->head_known;
        own->at.head_hash = source_hash(bytes_of(own->head, own->at.head_size));
        own->settled = own->at;
        own->was_open = true;
        source_moved(source);
    } else if (!own->at.offset) {
        own->at.head_hash = source_hash((struct bytes){0});
    }
    own->base = own->read = opening->offset;
    line_reset(&own->lines, 0);
    own->is_open = true;
}

/* The file's first bytes, where they were not there yet when it was opened. */
static void learn_head(struct file_source *own, struct bytes data)
{
    if (own->read > own->head_known || own->head_known >= FEED_HEAD_MAX || own->read + data.size <= own->head_known)
        return;
    size_t skip = (size_t)(own->head_known - own->read), size = data.size - skip;
    if (size > FEED_HEAD_MAX - own->head_known)
        size = (size_t)(FEED_HEAD_MAX - own->head_known);
    memcpy(own->head + own->head_known, data.data + skip, size);
    own->head_known += size;
}

static void came(struct source *source, uint64_t stream, struct bytes data)
{
    struct file_source *own = source_own(source);
    struct line line;
    (void)stream;
    if (!own->is_open)
        return;
    learn_head(own, data);
    own->read += data.size;
    for (;;) {
        switch (line_next(&own->lines, &data, &line)) {
        case LINE_READY:
            if (take(source, &line))
                continue;
            break;
        case LINE_MORE:
            return;
        case LINE_NO_MEMORY:
            break;
        }
        source_failed(source, source->declaration.retry_ms, "There is too little memory.");
        return;
    }
}

static void settled(struct source *source, struct bytes mark) { memcpy(&((struct file_source *)source_own(source))->settled, mark.data, sizeof(struct place)); }

static json_t *position(const struct source *source)
{
    const struct place *at = &((const struct file_source *)source_own(source))->settled;
    char hash[20];
    snprintf(hash, sizeof(hash), "%016llx", (unsigned long long)at->head_hash);
    return json_pack("{s:I, s:I, s:I, s:I, s:s}", "generation", (json_int_t)at->generation, "inode", (json_int_t)at->inode, "offset", (json_int_t)at->offset, "head_size",
                     (json_int_t)at->head_size, "head", hash);
}

const struct source_kind kind_file = {
    .name = "file", .settings = SETTING_PATH | SETTING_FROM | SETTING_LINES | SETTING_RETRY, .names = names, .has_json = true, .is_local = true,
    .defaults = {[TEMPLATE_TYPE] = "file.line", [TEMPLATE_SUBJECT] = "{{path}}", [TEMPLATE_DATA] = "{{data}}"}, .fallback = "file.line", .size = sizeof(struct file_source), .init = init,
    .restore = restore, .begin = begin, .opened = opened, .came = came, .closed = closed, .settled = settled, .position = position, .deinit = deinit,
};
