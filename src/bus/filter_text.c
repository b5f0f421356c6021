#include "bus/filter_text.h"

#include <stdarg.h>
#include <stdio.h>

#define DEPTH_MAX 8u

struct writing {
    char *text, *why;
    size_t size, room;
};

__attribute__((format(printf, 2, 3)))
static bool wrong(struct writing *writing, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(writing->why, writing->room, format, arguments);
    va_end(arguments);
    return false;
}

static bool put(struct writing *writing, const char *text)
{
    size_t size = strlen(text);
    if (writing->size + size > SELECTOR_SIZE_MAX)
        return wrong(writing, "The filters are too long.");
    memcpy(writing->text + writing->size, text, size + 1);
    writing->size += size;
    return true;
}

/* A text between quotes; of a pattern what would mean something is escaped. */
static bool put_literal(struct writing *writing, const char *before, const char *value, const char *behind, bool is_pattern)
{
    bool fits = put(writing, "'") && put(writing, before);
    for (const char *at = value; fits && *at; at++) {
        const char one[2] = {*at, 0};
        if (is_pattern && strchr("%_!", *at))
            fits = put(writing, "!");
        fits = fits && put(writing, *at == '\'' ? "''" : one);
    }
    return fits && put(writing, behind) && put(writing, "'");
}

static bool is_attribute(const char *name)
{
    size_t size = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789");
    return size > 0 && size <= 64 && !name[size];
}

/* {"type": "x", "source": "y"}: all of them. */
static bool put_comparisons(struct writing *writing, const char *dialect, const json_t *pairs)
{
    const char *name;
    json_t *value;
    bool first = true, is_exact = strcmp(dialect, "exact") == 0, is_prefix = strcmp(dialect, "prefix") == 0;
    if (!json_is_object(pairs) || !json_object_size(pairs))
        return wrong(writing, "The filter %s must be an object of attributes with texts.", dialect);
    json_object_foreach((json_t *)(uintptr_t)pairs, name, value) {
        if (!is_attribute(name) || !json_is_string(value) || !json_string_length(value))
            return wrong(writing, "The filter %s must be an object of attributes with texts.", dialect);
        /* What is not there is not equal, rather than unknown, so that `not` finds it. */
        if (!put(writing, first ? "cloudEvents_" : " AND cloudEvents_") || !put(writing, name) || !put(writing, " IS NOT NULL AND cloudEvents_") || !put(writing, name))
            return false;
        bool fits = is_exact ? put(writing, " = ") && put_literal(writing, "", json_string_value(value), "", false)
                             : put(writing, " LIKE ") && put_literal(writing, is_prefix ? "" : "%", json_string_value(value), is_prefix ? "%" : "", true) &&
                                   put(writing, " ESCAPE '!'");
        if (!fits)
            return false;
        first = false;
    }
    return true;
}

static bool put_filter(struct writing *writing, const json_t *filter, unsigned depth);

static bool put_list(struct writing *writing, const char *between, const json_t *list, unsigned depth)
{
    if (!json_is_array(list) || !json_array_size(list))
        return wrong(writing, "The filters all and any must be arrays of filters with something in them.");
    for (size_t i = 0; i < json_array_size(list); i++)
        if ((i && !put(writing, between)) || !put_filter(writing, json_array_get(list, i), depth))
            return false;
    return true;
}

static bool put_filter(struct writing *writing, const json_t *filter, unsigned depth)
{
    void *member = json_object_iter((json_t *)(uintptr_t)filter);
    if (json_object_size(filter) != 1 || depth == DEPTH_MAX)
        return wrong(writing, "A filter must be an object with one of exact, prefix, suffix, all, any, not and sql, in each other up to %u times.", DEPTH_MAX);
    const char *dialect = json_object_iter_key(member);
    const json_t *value = json_object_iter_value(member);
    if (!put(writing, "("))
        return false;
    bool done;
    if (strcmp(dialect, "exact") == 0 || strcmp(dialect, "prefix") == 0 || strcmp(dialect, "suffix") == 0)
        done = put_comparisons(writing, dialect, value);
    else if (strcmp(dialect, "all") == 0)
        done = put_list(writing, " AND ", value, depth + 1);
    else if (strcmp(dialect, "any") == 0)
        done = put_list(writing, " OR ", value, depth + 1);
    else if (strcmp(dialect, "not") == 0)
        done = put(writing, "NOT ") && put_filter(writing, value, depth + 1);
    else if (strcmp(dialect, "sql") == 0)
        done = json_is_string(value) ? put(writing, json_string_value(value)) : wrong(writing, "The filter sql must be a text.");
    else
        done = wrong(writing, "The filter '%.40s' is not known; there are exact, prefix, suffix, all, any, not and sql.", dialect);
    return done && put(writing, ")");
}

/* An sql filter is whole by itself: it cannot end the parenthesis that it stands in. */
static bool judge_sql(struct writing *writing, const json_t *filter)
{
    const char *name;
    json_t *value;
    size_t i;
    char why[256];
    if (json_is_array(filter)) {
        json_array_foreach((json_t *)(uintptr_t)filter, i, value)
            if (!judge_sql(writing, value))
                return false;
    }
    json_object_foreach((json_t *)(uintptr_t)filter, name, value) {
        struct selector *selector;
        if (strcmp(name, "sql") == 0 && json_is_string(value)) {
            enum gw_err err = selector_compile(bytes_of(json_string_value(value), json_string_length(value)), &selector, why, sizeof(why));
            if (err)
                return wrong(writing, "The filter sql: %s", err == GW_ERR_NOMEM ? "out of memory" : why);
            selector_free(selector);
        } else if ((strcmp(name, "all") == 0 || strcmp(name, "any") == 0 || strcmp(name, "not") == 0) && !judge_sql(writing, value)) {
            return false;
        }
    }
    return true;
}

bool filter_text(const json_t *filters, const char *source, char text[SELECTOR_SIZE_MAX + 1], char *why, size_t room)
{
    struct writing writing = {.text = text, .why = why, .room = room};
    text[0] = 0;
    if (source && (!put(&writing, "cloudEvents_source = ") || !put_literal(&writing, "", source, "", false)))
        return false;
    if (!filters || (json_is_array(filters) && !json_array_size(filters)))
        return true;
    if (!json_is_array(filters))
        return wrong(&writing, "The filters must be an array.");
    if (source && !put(&writing, " AND "))
        return false;
    return put_list(&writing, " AND ", filters, 0) && judge_sql(&writing, filters);
}
