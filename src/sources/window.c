#include "sources/source_state.h"

#include "base/bugs.h"
#include "base/siphash.h"
#include "sources/json.h"

#include <stdio.h>

#define FIRST_CAPACITY 16u
#define AGAIN_US 1000000u            /* what was refused is published again after that */
#define ID_SUFFIX_MAX 160u

uint64_t source_hash(struct bytes bytes)
{
    static const struct siphash_key key = {0x676f647769742073u, 0x6f75726365206964u};
    return siphash128(&key, bytes, (struct bytes){0}).low;
}

static struct entry **place(const struct window *window, uint64_t ticket) { return &window->ring[ticket & (window->capacity - 1)]; }

bool window_is_empty(const struct window *window) { return window->first == window->end; }

void window_deinit(struct window *window)
{
    for (uint64_t ticket = window->first; ticket != window->end; ticket++)
        free(*place(window, ticket));
    free(window->ring);
    *window = (struct window){0};
}

void window_forget_waiting(struct window *window)
{
    while (window->end != window->first && (*place(window, window->end - 1))->state == ENTRY_WAITING) {
        struct entry *entry = *place(window, --window->end);
        window->bytes -= entry->size;
        free(entry);
    }
    if (window->next - window->first > window->end - window->first)
        window->next = window->end;
}

static bool make_room(struct window *window)
{
    if (window->end - window->first < window->capacity)
        return true;
    struct window grown = *window;
    grown.capacity = window->capacity ? 2 * window->capacity : FIRST_CAPACITY;
    if (!(grown.ring = calloc(grown.capacity, sizeof(*grown.ring))))
        return false;
    for (uint64_t ticket = window->first; ticket != window->end; ticket++)
        *place(&grown, ticket) = *place(window, ticket);
    free(window->ring);
    *window = grown;
    return true;
}

/* ---- making an event ------------------------------------------------------------------------------------------------------ */

/* What can stand in an attribute: UTF-8 without controls, not longer than a short string of AMQP. */
static bool is_attribute(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] < 0x20 || text.data[i] == 0x7f)
            return false;
    return text.size > 0 && text.size <= EVENT_TEXT_MAX && utf8_is_valid(text);
}

struct finder {
    const struct source *source;
    const struct source_item *item;
};

static bool find(const void *owner, struct bytes name, struct bytes more, struct bytes *value)
{
    const struct finder *finder = owner;
    if (bytes_equal(name, bytes_of_text("data")))
        *value = finder->item->data;
    else if (bytes_equal(name, bytes_of_text("source")))
        *value = bytes_of_text(finder->source->declaration.id);
    else
        return finder->item->find && finder->item->find(finder->item->owner, name, more, value);
    return true;
}

static bool looks_like_json(struct bytes data)
{
    size_t at = 0;
    while (at < data.size && strchr(" \t\r\n", data.data[at]) && data.data[at])
        at++;
    if (at == data.size || (data.data[at] != '{' && data.data[at] != '['))
        return false;
    json_t *json = json_read(data);
    json_decref(json);
    return json;
}

static const char *content_type_of(const struct source *source, const struct source_item *item, struct bytes data)
{
    if (source->declaration.content_type)
        return source->declaration.content_type;
    if (item->content_type && bytes_equal(data, item->data))
        return item->content_type;
    if (looks_like_json(data))
        return "application/json";
    return utf8_is_valid(data) ? "text/plain; charset=utf-8" : "application/octet-stream";
}

static void id_of(const struct source *source, const struct source_item *item, char id[EVENT_ID_MAX + 1])
{
    if (item->said && is_attribute(item->said->id))
        snprintf(id, EVENT_ID_MAX + 1, "%.*s", (int)item->said->id.size, (const char *)item->said->id.data);
    else if (item->id.size <= ID_SUFFIX_MAX && (!item->id.size || is_attribute(item->id)))
        snprintf(id, EVENT_ID_MAX + 1, "%s/%.*s", source->declaration.id, (int)item->id.size, (const char *)item->id.data);
    else
        snprintf(id, EVENT_ID_MAX + 1, "%s/%016llx", source->declaration.id, (unsigned long long)source_hash(item->id));
}

static struct bytes put(struct entry *entry, struct bytes text)
{
    struct bytes there = bytes_of(entry->texts + entry->size, text.size);
    if (text.size)
        memcpy(entry->texts + entry->size, text.data, text.size);
    entry->size += text.size;
    return there;
}

static struct entry *entry_new(const struct source_event *event, struct bytes mark, uint64_t time_ms)
{
    const struct bytes *from[] = {&event->id, &event->type, &event->source, &event->subject, &event->key, &event->content_type, &event->data, &event->carried};
    size_t size = mark.size;
    for (unsigned i = 0; i < sizeof(from) / sizeof(from[0]); i++)
        size += from[i]->size;
    struct entry *entry = malloc(sizeof(*entry) + size);
    if (!entry)
        return NULL;
    *entry = (struct entry){.state = ENTRY_WAITING};
    struct bytes *to[] = {&entry->event.id, &entry->event.type, &entry->event.source, &entry->event.subject, &entry->event.key, &entry->event.content_type, &entry->event.data,
                          &entry->event.carried};
    for (unsigned i = 0; i < sizeof(from) / sizeof(from[0]); i++)
        *to[i] = put(entry, *from[i]);
    entry->mark = put(entry, mark);
    entry->event.time_ms = time_ms;
    entry->event.keeps_time = event->keeps_time;
    entry->event.keeps_encoding = event->keeps_encoding;
    entry->size += sizeof(*entry);
    return entry;
}

/* What a template makes of it goes first. */
static void take_what_is_said(const struct declaration *declaration, const struct source_item *item, struct source_event *event)
{
    const struct source_event *said = item->said;
    const struct { enum source_template template; const struct bytes *said; struct bytes *to; } rows[] = {
        {TEMPLATE_SOURCE, &said->source, &event->source}, {TEMPLATE_SUBJECT, &said->subject, &event->subject}, {TEMPLATE_KEY, &said->key, &event->key}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (!declaration->templates[rows[i].template].count && is_attribute(*rows[i].said))
            *rows[i].to = *rows[i].said;
    event->carried = said->carried;
    event->keeps_time = said->keeps_time;
    event->keeps_encoding = bytes_equal(event->data, item->data);
}

bool source_emit(struct source *source, const struct source_item *item)
{
    const struct declaration *declaration = &source->declaration;
    if (bug_enabled(BUG_SOURCE_HELD_LOST) && window_is_full(source))
        return true;
    struct text made[TEMPLATES] = {{0}};
    char id[EVENT_ID_MAX + 1], own_source[SOURCE_ID_MAX + 16];
    bool needs_json = false, good = make_room(&source->window);
    for (unsigned i = 0; i < TEMPLATES; i++)
        needs_json |= declaration->templates[i].needs_json;
    struct finder finder = {.source = source, .item = item};
    json_t *json = needs_json ? json_read(item->data) : NULL;
    struct template_values values = {.find = find, .owner = &finder, .json = json};
    for (unsigned i = 0; i < TEMPLATES && good; i++)
        good = template_fill(&declaration->templates[i], &values, &made[i]);
    json_decref(json);

    struct source_event event = {.type = text_bytes(&made[TEMPLATE_TYPE]), .source = text_bytes(&made[TEMPLATE_SOURCE]), .subject = text_bytes(&made[TEMPLATE_SUBJECT]),
                                 .key = text_bytes(&made[TEMPLATE_KEY]), .data = text_bytes(&made[TEMPLATE_DATA])};
    bool unmapped = false;
    if (item->said)
        take_what_is_said(declaration, item, &event);
    if (item->type)
        event.type = bytes_of_text(item->type);
    if (!is_attribute(event.type)) {
        event.type = bytes_of_text(source->kind->fallback);
        unmapped = true;
    }
    if (!is_attribute(event.source)) {
        snprintf(own_source, sizeof(own_source), "/sources/%s", declaration->id);
        unmapped |= event.source.size > 0;
        event.source = bytes_of_text(own_source);
    }
    struct bytes *const optional[] = {&event.subject, &event.key};
    for (unsigned i = 0; i < 2; i++)
        if (optional[i]->size && !is_attribute(*optional[i])) {
            *optional[i] = (struct bytes){0};
            unmapped = true;
        }
    id_of(source, item, id);
    event.id = bytes_of_text(id);
    event.content_type = bytes_of_text(content_type_of(source, item, event.data));
    struct entry *entry = good ? entry_new(&event, item->mark, item->time_ms ? item->time_ms : source->wall_us / 1000) : NULL;
    for (unsigned i = 0; i < TEMPLATES; i++)
        text_deinit(&made[i]);
    if (!entry)
        return false;
    struct window *window = &source->window;
    *place(window, window->end++) = entry;
    window->bytes += entry->size;
    source->read++;
    source->unmapped += unmapped;
    source->sink->due(source->sink);
    return true;
}

/* ---- publishing ----------------------------------------------------------------------------------------------------------- */

bool window_is_full(const struct source *source)
{
    const struct window *window = &source->window;
    return window->end - window->first >= 2 * (uint64_t)source->declaration.window || window->bytes >= SOURCE_ENTRIES_MAX_BYTES;
}

void window_publish(struct source *source)
{
    struct window *window = &source->window;
    if (source->now_us < window->again_us)
        return;
    for (; window->next != window->end && window->under_way < source->declaration.window; window->next++) {
        struct entry *entry = *place(window, window->next);
        if (entry->state != ENTRY_WAITING)
            continue;
        if (!source->sink->publish(source->sink, &entry->event, window->next))
            return;
        entry->state = ENTRY_UNDER_WAY;
        window->under_way++;
        if (bug_enabled(BUG_SOURCE_POSITION_EARLY) && source->kind->settled) {
            source->kind->settled(source, entry->mark);
            source->is_dirty = true;
        }
    }
}

static void settle_first_ones(struct source *source)
{
    struct window *window = &source->window;
    while (window->first != window->end && (*place(window, window->first))->state == ENTRY_CONFIRMED) {
        struct entry *entry = *place(window, window->first++);
        window->bytes -= entry->size;
        if (source->kind->settled)
            source->kind->settled(source, entry->mark);
        source->is_dirty |= source->keeps_position;
        free(entry);
    }
}

void window_confirmed(struct source *source, uint64_t ticket, bool accepted)
{
    struct window *window = &source->window;
    if (ticket - window->first >= window->end - window->first)
        return;
    struct entry *entry = *place(window, ticket);
    if (entry->state != ENTRY_UNDER_WAY)
        return;
    window->under_way--;
    if (accepted) {
        entry->state = ENTRY_CONFIRMED;
        source->published++;
        settle_first_ones(source);
        return;
    }
    entry->state = ENTRY_WAITING;
    window->next = ticket - window->first < window->next - window->first ? ticket : window->next;
    window->again_us = source->now_us + AGAIN_US;
    source_error(source, "The broker refused an event, which is published again.");
}

void window_lost(struct source *source)
{
    struct window *window = &source->window;
    for (uint64_t ticket = window->first; ticket != window->end; ticket++)
        if ((*place(window, ticket))->state == ENTRY_UNDER_WAY)
            (*place(window, ticket))->state = ENTRY_WAITING;
    window->under_way = 0;
    window->next = window->first;
}
