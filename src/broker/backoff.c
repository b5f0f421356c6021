#include "broker/backoff.h"

#include <jansson.h>

#include <stdarg.h>
#include <stdio.h>

#define DEFAULT_MAX_MS 3600000u
#define DEFAULT_MULTIPLIER 2.0
#define DEFAULT_JITTER 0.1
#define MULTIPLIER_MAX 1000.0
#define SHOWN 40                /* bytes of a text in a refusal */

/* One value, whichever way it was said. */
struct value {
    enum { VALUE_NUMBER, VALUE_TEXT, VALUE_OTHER } kind;
    double number;
    struct bytes text;
};

__attribute__((format(printf, 3, 4)))
static bool refuse(char *why, size_t room, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, room, format, arguments);
    va_end(arguments);
    return false;
}

static int shown(struct bytes text)
{
    return text.size > SHOWN ? SHOWN : (int)text.size;
}

/* ---- numbers and times --------------------------------------------------------------------------------------------- */

/* The decimal number that the text begins with; the text moves behind it. False: there is none. */
static bool read_number(struct bytes *text, double *number)
{
    double value = 0, place = 1;
    size_t at = 0, digits = 0;
    for (; at < text->size && text->data[at] >= '0' && text->data[at] <= '9'; at++, digits++)
        value = value * 10 + (text->data[at] - '0');
    if (at < text->size && text->data[at] == '.') {
        for (at++; at < text->size && text->data[at] >= '0' && text->data[at] <= '9'; at++, digits++)
            value += (text->data[at] - '0') * (place /= 10);
    }
    if (!digits || digits > 15)
        return false;
    *text = bytes_of(text->data + at, text->size - at);
    *number = value;
    return true;
}

static bool read_time(struct bytes text, double *ms)
{
    static const struct { const char *name; double ms; } units[] = {{"", 1}, {"ms", 1}, {"s", 1e3}, {"m", 6e4}, {"h", 36e5}, {"d", 864e5}};
    if (!read_number(&text, ms))
        return false;
    for (unsigned i = 0; i < sizeof(units) / sizeof(*units); i++)
        if (bytes_equal(text, bytes_of_text(units[i].name))) {
            *ms *= units[i].ms;
            return true;
        }
    return false;
}

static bool time_of(const struct value *value, const char *what, uint64_t *ms, char *why, size_t room)
{
    double number = value->number;
    if (value->kind == VALUE_OTHER || (value->kind == VALUE_TEXT && !read_time(value->text, &number)))
        return value->kind == VALUE_TEXT ? refuse(why, room, "%s '%.*s' is no time", what, shown(value->text), (const char *)value->text.data)
                                         : refuse(why, room, "%s is no time", what);
    if (!(number >= 0 && number <= (double)BACKOFF_MAX_MS))
        return refuse(why, room, "%s is not between 0 and ten years", what);
    *ms = (uint64_t)(number + 0.5);
    return true;
}

static bool number_of(const struct value *value, const char *what, double lowest, double highest, double *number, char *why, size_t room)
{
    struct bytes rest = value->text;
    double read = value->number;
    bool good = value->kind == VALUE_NUMBER || (value->kind == VALUE_TEXT && read_number(&rest, &read) && !rest.size);
    if (!good || !(read >= lowest && read <= highest))
        return refuse(why, room, "%s is no number between %g and %g", what, lowest, highest);
    *number = read;
    return true;
}

/* ---- putting it together ------------------------------------------------------------------------------------------- */

static void begin(struct backoff *backoff)
{
    *backoff = (struct backoff){.max_ms = DEFAULT_MAX_MS, .multiplier = DEFAULT_MULTIPLIER, .jitter = DEFAULT_JITTER};
}

static bool add_step(struct backoff *backoff, const struct value *value, char *why, size_t room)
{
    char what[16];
    if (backoff->count == BACKOFF_STEPS)
        return refuse(why, room, "more than %u times", BACKOFF_STEPS);
    snprintf(what, sizeof(what), "time %u", backoff->count + 1);
    return time_of(value, what, &backoff->steps_ms[backoff->count], why, room) && ++backoff->count;
}

static bool end_steps(struct backoff *backoff, char *why, size_t room)
{
    backoff->jitter = 0;
    backoff->max_ms = 0;
    backoff->multiplier = 0;
    return backoff->count || refuse(why, room, "no times");
}

/* What was said of a table so far; that and the order of its keys do not matter. */
struct growth {
    struct backoff *backoff;
    bool has_initial, has_max;
};

static bool set(struct growth *growth, struct bytes key, const struct value *value, char *why, size_t room)
{
    struct backoff *backoff = growth->backoff;
    if (bytes_equal(key, bytes_of_text("initial")))
        return growth->has_initial = time_of(value, "initial", &backoff->initial_ms, why, room);
    if (bytes_equal(key, bytes_of_text("max")))
        return growth->has_max = time_of(value, "max", &backoff->max_ms, why, room);
    if (bytes_equal(key, bytes_of_text("multiplier")))
        return number_of(value, "multiplier", 1, MULTIPLIER_MAX, &backoff->multiplier, why, room);
    if (bytes_equal(key, bytes_of_text("jitter")))
        return number_of(value, "jitter", 0, 1, &backoff->jitter, why, room);
    return refuse(why, room, "unknown key '%.*s'", shown(key), (const char *)key.data);
}

static bool end_growth(const struct growth *growth, char *why, size_t room)
{
    struct backoff *backoff = growth->backoff;
    if (!growth->has_initial)
        return refuse(why, room, "initial is missing");
    if (backoff->max_ms < backoff->initial_ms && growth->has_max)
        return refuse(why, room, "max is less than initial");
    if (backoff->max_ms < backoff->initial_ms)
        backoff->max_ms = backoff->initial_ms;
    return true;
}

/* ---- the three ways ------------------------------------------------------------------------------------------------ */

static bool is_space(uint8_t byte) { return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r'; }

/* The next word, between commas or spaces; empty at the end. `commas` is counted up. */
static struct bytes next_word(struct bytes *text)
{
    size_t from = 0, to;
    while (from < text->size && (is_space(text->data[from]) || text->data[from] == ','))
        from++;
    for (to = from; to < text->size && !is_space(text->data[to]) && text->data[to] != ',';)
        to++;
    struct bytes word = bytes_of(text->data + from, to - from);
    *text = bytes_of(text->data + to, text->size - to);
    return word;
}

bool backoff_of_text(struct bytes text, struct backoff *backoff, char *why, size_t room)
{
    struct growth growth = {.backoff = backoff};
    bool grows = text.size && memchr(text.data, '=', text.size);
    begin(backoff);
    for (struct bytes word; (word = next_word(&text)).size;) {
        const uint8_t *equals = memchr(word.data, '=', word.size);
        size_t size = equals ? (size_t)(equals - word.data) : 0;
        struct value value = {.kind = VALUE_TEXT, .text = grows && equals ? bytes_of(equals + 1, word.size - size - 1) : word};
        if (grows && !equals)
            return refuse(why, room, "'%.*s' is not of the form key=value", shown(word), (const char *)word.data);
        if (grows ? !set(&growth, bytes_of(word.data, size), &value, why, room) : !add_step(backoff, &value, why, room))
            return false;
    }
    return grows ? end_growth(&growth, why, room) : end_steps(backoff, why, room);
}

static struct value of_field(const struct amqp_field *field)
{
    if (amqp_field_is_integer(field))
        return (struct value){.kind = VALUE_NUMBER, .number = (double)field->integer};
    if (field->type == 'f' || field->type == 'd')
        return (struct value){.kind = VALUE_NUMBER, .number = field->real};
    if (field->type == 'S')
        return (struct value){.kind = VALUE_TEXT, .text = field->bytes};
    return (struct value){.kind = VALUE_OTHER};
}

bool backoff_of_field(const struct amqp_field *field, struct backoff *backoff, char *why, size_t room)
{
    struct growth growth = {.backoff = backoff};
    struct amqp_field part;
    struct bytes rest = field->bytes;
    if (field->type == 'S')
        return backoff_of_text(field->bytes, backoff, why, room);
    begin(backoff);
    if (field->type == 'A') {
        while (amqp_array_next(&rest, &part) == WIRE_OK) {
            struct value value = of_field(&part);
            if (!add_step(backoff, &value, why, room))
                return false;
        }
        return end_steps(backoff, why, room);
    }
    if (field->type != 'F')
        return refuse(why, room, "{unacceptable_type,%s}", amqp_field_type_name(field->type));
    while (amqp_table_next(&rest, &part) == WIRE_OK) {
        struct value value = of_field(&part);
        if (!set(&growth, part.name, &value, why, room))
            return false;
    }
    return end_growth(&growth, why, room);
}

static struct value of_json(const json_t *json)
{
    if (json_is_number(json))
        return (struct value){.kind = VALUE_NUMBER, .number = json_number_value(json)};
    if (json_is_string(json))
        return (struct value){.kind = VALUE_TEXT, .text = bytes_of(json_string_value(json), json_string_length(json))};
    return (struct value){.kind = VALUE_OTHER};
}

bool backoff_of_json(const struct json_t *json, struct backoff *backoff, char *why, size_t room)
{
    struct growth growth = {.backoff = backoff};
    const char *key;
    json_t *part;
    size_t index;
    if (json_is_string(json))
        return backoff_of_text(bytes_of(json_string_value(json), json_string_length(json)), backoff, why, room);
    begin(backoff);
    if (json_is_array(json)) {
        json_array_foreach (json, index, part) {
            struct value value = of_json(part);
            if (!add_step(backoff, &value, why, room))
                return false;
        }
        return end_steps(backoff, why, room);
    }
    if (!json_is_object(json))
        return refuse(why, room, "neither a list, an object nor a text");
    json_object_foreach ((json_t *)(uintptr_t)json, key, part) {
        struct value value = of_json(part);
        if (!set(&growth, bytes_of_text(key), &value, why, room))
            return false;
    }
    return end_growth(&growth, why, room);
}

bool backoff_equal(const struct backoff *a, const struct backoff *b)
{
    bool same = a->count == b->count && a->initial_ms == b->initial_ms && a->max_ms == b->max_ms && a->multiplier == b->multiplier && a->jitter == b->jitter;
    for (unsigned i = 0; same && i < a->count; i++)
        same = a->steps_ms[i] == b->steps_ms[i];
    return same;
}

/* ---- using it ------------------------------------------------------------------------------------------------------ */

/* initial · multiplier^times, at most max: by squaring, so that a count of any size costs little. */
static double grown(const struct backoff *backoff, uint64_t times)
{
    double delay = (double)backoff->initial_ms, factor = backoff->multiplier, max = (double)backoff->max_ms;
    for (; times && delay < max; times /= 2) {
        if (times & 1)
            delay *= factor;
        if (factor < max + 1)   /* beyond that it only grows out of what a number can be */
            factor *= factor;
    }
    return delay < max ? delay : max;
}

uint64_t backoff_ms(const struct backoff *backoff, uint64_t count, uint64_t random)
{
    uint64_t times = count ? count - 1 : 0;
    double delay = backoff->count ? (double)backoff->steps_ms[times < backoff->count ? times : backoff->count - 1] : grown(backoff, times);
    double part = (double)(random >> 11) / (double)(1ull << 53);   /* 0 ≤ part < 1 */
    delay *= 1 + backoff->jitter * (2 * part - 1);
    return (uint64_t)(delay + 0.5);
}

uint64_t backoff_most_ms(const struct backoff *backoff, uint64_t count) { return backoff_ms(backoff, count, UINT64_MAX) + 1; }
