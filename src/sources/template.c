#include "sources/template.h"

#include <stdio.h>

static struct bytes behind(struct bytes text, size_t size) { return bytes_of(text.data + size, text.size - size); }

static bool begins(struct bytes text, const char *with) { return text.size >= strlen(with) && memcmp(text.data, with, strlen(with)) == 0; }

/* "before "what" after", with no more of it than there is room for. */
static bool fail(char why[TEMPLATE_WHY_MAX], const char *before, struct bytes what, const char *after)
{
    snprintf(why, TEMPLATE_WHY_MAX, "%s%.*s%s", before, (int)(what.size < 60 ? what.size : 60), (const char *)what.data, after);
    return false;
}

/* ---- reading -------------------------------------------------------------------------------------------------------------- */

/* ~ stands before 0 or 1 only. */
static bool is_pointer(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] == '~' && (i + 1 == text.size || (text.data[i + 1] != '0' && text.data[i + 1] != '1')))
            return false;
    return text.size == 0 || text.data[0] == '/';
}

static bool is_known(struct bytes name, bool has_more, const struct template_name *names)
{
    for (; names && names->name; names++)
        if (bytes_equal(name, bytes_of_text(names->name)))
            return names->takes_more == has_more;
    return false;
}

/* What stands between the braces. */
static bool read_place(struct template *template, struct bytes inside, const struct template_name *names, bool has_json, char why[TEMPLATE_WHY_MAX])
{
    struct template_part *part = &template->parts[template->count];
    struct bytes name = inside;
    *part = (struct template_part){.kind = PART_VALUE};
    const uint8_t *bar = inside.size ? memchr(inside.data, '|', inside.size) : NULL;
    if (bar) {
        name.size = (size_t)(bar - inside.data);
        part->otherwise = behind(inside, name.size + 1);
    }
    if (begins(name, "quote:")) {
        part->is_quoted = true;
        name = behind(name, 6);
    }
    const uint8_t *colon = name.size ? memchr(name.data, ':', name.size) : NULL;
    if (colon) {
        part->more = behind(name, (size_t)(colon - name.data) + 1);
        name.size = (size_t)(colon - name.data);
    }
    if (has_json && colon && bytes_equal(name, bytes_of_text("json"))) {
        if (!is_pointer(part->more))
            return fail(why, "\"", part->more, "\" is no JSON pointer, such as /order/id.");
        part->kind = PART_JSON;
        name = part->more;
        template->needs_json = true;
    } else if (!is_known(name, colon && part->more.size, names)) {
        return fail(why, "There is nothing called {{", inside, "}} here.");
    }
    part->text = name;
    return true;
}

static size_t find_text(struct bytes text, const char *what)
{
    for (size_t at = 0; at < text.size; at++)
        if (begins(behind(text, at), what))
            return at;
    return text.size;
}

static bool read_parts(struct template *template, struct bytes left, const struct template_name *names, bool has_json, char why[TEMPLATE_WHY_MAX])
{
    while (left.size) {
        if (template->count == TEMPLATE_PARTS_MAX)
            return fail(why, "A template has too many parts, at \"", left, "\".");
        struct template_part *part = &template->parts[template->count];
        size_t used;
        if (begins(left, "{{{{")) {
            *part = (struct template_part){.kind = PART_TEXT, .text = bytes_of(left.data, 2)};
            used = 4;
        } else if (begins(left, "{{")) {
            struct bytes inside = behind(left, 2);
            inside.size = find_text(inside, "}}");
            used = inside.size + 4;
            if (used > left.size)
                return fail(why, "The braces of \"", left, "\" are not closed.");
            if (!read_place(template, inside, names, has_json, why))
                return false;
        } else {
            used = find_text(left, "{{");
            *part = (struct template_part){.kind = PART_TEXT, .text = bytes_of(left.data, used)};
        }
        template->count++;
        left = behind(left, used);
    }
    return true;
}

bool template_read(struct template *template, struct bytes text, const struct template_name *names, bool has_json, char why[TEMPLATE_WHY_MAX])
{
    *template = (struct template){0};
    if (text.size > TEMPLATE_TEXT_MAX || (text.size && memchr(text.data, 0, text.size)) || !utf8_is_valid(text)) {
        snprintf(why, TEMPLATE_WHY_MAX, "A template has at most %u bytes of UTF-8.", TEMPLATE_TEXT_MAX);
        return false;
    }
    if (!(template->text = bytes_to_text(text))) {
        snprintf(why, TEMPLATE_WHY_MAX, "There is too little memory.");
        return false;
    }
    if (read_parts(template, bytes_of(template->text, text.size), names, has_json, why))
        return true;
    template_deinit(template);
    return false;
}

void template_deinit(struct template *template)
{
    free(template->text);
    *template = (struct template){0};
}

/* ---- filling -------------------------------------------------------------------------------------------------------------- */

/* One step of a pointer: an index of an array has no sign and no zero in front. */
static const json_t *step(const json_t *at, struct bytes token)
{
    char name[TEMPLATE_TEXT_MAX];
    size_t size = 0;
    for (size_t i = 0; i < token.size && size < sizeof(name); i++) {
        bool escaped = token.data[i] == '~' && i + 1 < token.size;
        name[size++] = !escaped ? (char)token.data[i] : token.data[i + 1] == '1' ? '/' : '~';
        i += escaped;
    }
    if (json_is_object(at))
        return json_object_getn(at, name, size);
    if (!json_is_array(at) || size == 0 || size > 9 || (size > 1 && name[0] == '0'))
        return NULL;
    size_t index = 0;
    for (size_t i = 0; i < size; i++) {
        if (name[i] < '0' || name[i] > '9')
            return NULL;
        index = index * 10 + (size_t)(name[i] - '0');
    }
    return json_array_get(at, index);
}

const json_t *json_at(const json_t *root, struct bytes pointer)
{
    while (root && pointer.size) {
        struct bytes token = behind(pointer, 1);
        const uint8_t *end = token.size ? memchr(token.data, '/', token.size) : NULL;
        if (end)
            token.size = (size_t)(end - token.data);
        root = step(root, token);
        pointer = behind(pointer, token.size + 1);
    }
    return root;
}

static bool add_as_json(const json_t *value, struct text *out)
{
    char *made = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    bool added = made && text_add(out, bytes_of_text(made));
    free(made);
    return added;
}

/* A text as it is, anything else as JSON; null is nothing. */
static bool add_json(const json_t *value, struct text *out)
{
    if (json_is_null(value))
        return true;
    if (json_is_string(value))
        return text_add(out, bytes_of(json_string_value(value), json_string_length(value)));
    return add_as_json(value, out);
}

/* A text with its quotes. What is no UTF-8 in it is replaced. */
static bool add_quoted(struct bytes value, struct text *out)
{
    struct text clean = {0};
    json_t *json = text_add_utf8(&clean, value) ? json_stringn_nocheck(clean.size ? (const char *)clean.data : "", clean.size) : NULL;
    char *made = json ? json_dumps(json, JSON_ENCODE_ANY) : NULL;
    bool added = made && text_add(out, bytes_of_text(made));
    free(made);
    json_decref(json);
    text_deinit(&clean);
    return added;
}

/* As JSON, whatever there is. */
static bool fill_quoted(const struct template_part *part, const struct template_values *values, struct text *out)
{
    struct bytes value = {0};
    if (part->kind == PART_JSON) {
        const json_t *found = json_at(values->json, part->text);
        return found && !json_is_null(found) ? add_as_json(found, out) : text_add(out, part->otherwise.size ? part->otherwise : bytes_of_text("null"));
    }
    bool found = values->find(values->owner, part->text, part->more, &value) && value.size;
    return !found && part->otherwise.size ? text_add(out, part->otherwise) : add_quoted(value, out);
}

bool template_fill(const struct template *template, const struct template_values *values, struct text *out)
{
    for (unsigned i = 0; i < template->count; i++) {
        const struct template_part *part = &template->parts[i];
        size_t before = out->size;
        struct bytes value = {0};
        bool added = true;
        if (part->is_quoted) {
            if (!fill_quoted(part, values, out))
                return false;
            continue;
        }
        if (part->kind == PART_TEXT) {
            added = text_add(out, part->text);
        } else if (part->kind == PART_JSON) {
            const json_t *found = json_at(values->json, part->text);
            added = !found || add_json(found, out);
        } else if (values->find(values->owner, part->text, part->more, &value)) {
            added = text_add(out, value);
        }
        if (added && out->size == before && part->kind != PART_TEXT)
            added = text_add(out, part->otherwise);
        if (!added)
            return false;
    }
    return true;
}
