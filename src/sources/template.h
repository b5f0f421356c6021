/* What an event is made of: a text with places that what was read fills in.
 *
 *   order.{{json:/status}}            {{name}}       a value that the kind of source has: line, data, path, …; the kind says which
 *                                     {{name:more}}  … where it needs more: json:/pointer (RFC 6901, into `data` or the line), header:etag
 *                                     {{name|text}}  `text` where there is no such value, or it is empty; otherwise nothing is put there
 *                                     {{quote:name}} … as JSON: a text with its quotes and escapes, "" or (of json:/pointer) null where there is none; before any of those above
 *
 * `{{{{` is the text `{{`. All is found out when a template is read: one that is read fills in whatever comes. */
#ifndef SOURCES_TEMPLATE_H
#define SOURCES_TEMPLATE_H

#include "sources/text.h"

#include <jansson.h>

#define TEMPLATE_TEXT_MAX 1024u
#define TEMPLATE_PARTS_MAX 16u
#define TEMPLATE_WHY_MAX 200u

struct template_part {
    enum template_part_kind { PART_TEXT, PART_VALUE, PART_JSON } kind;
    struct bytes text;               /* PART_TEXT: it; PART_VALUE: the name; PART_JSON: the pointer */
    struct bytes more;               /* PART_VALUE: behind its colon */
    struct bytes otherwise;
    bool is_quoted;
};

struct template {
    char *text;                      /* what the parts lie in */
    struct template_part parts[TEMPLATE_PARTS_MAX];
    unsigned count;
    bool needs_json;
};

/* What a kind of source has: a row for each name. */
struct template_name {
    const char *name;                /* NULL: the last row */
    bool takes_more;                 /* must be followed by a colon and more; no other may */
};

/* Where values come from while one event is made. */
struct template_values {
    /* False: there is no such value. What is given lies there until the event is made. */
    bool (*find)(const void *owner, struct bytes name, struct bytes more, struct bytes *value);
    const void *owner;
    const json_t *json;              /* NULL: what was read is no JSON */
};

/* `names`: what there is; "json" is always understood where `has_json`. False: a sentence in `why`, and nothing is to be freed. */
bool template_read(struct template *template, struct bytes text, const struct template_name *names, bool has_json, char why[TEMPLATE_WHY_MAX]);
void template_deinit(struct template *template);

/* Adds what comes of it to `out`. False: out of memory. */
bool template_fill(const struct template *template, const struct template_values *values, struct text *out);

/* The value at a JSON pointer (RFC 6901); NULL: there is none. */
const json_t *json_at(const json_t *root, struct bytes pointer);

#endif
