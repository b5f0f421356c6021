#include "sources/declaration.h"

#include "protocol/amqp/uri.h"
#include "protocol/webhook/url.h"
#include "sources/kind.h"
#include "sources/lines.h"

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#define TEXT_MAX 4096u
#define TIME_MAX_MS (366ull * 86400u * 1000u)
#define RETRY_MS 1000u
#define IDLE_MS 60000u
#define INTERVAL_MS 60000u
#define HEADER_MAX 4096u
#define PREFETCH 256u

/* While a declaration is read. */
struct reader {
    struct declaration *declaration;
    char *why;
    struct zones *zones;
};

/* A name that a declaration of the kinds with a setting may have, and what takes it in. */
struct row {
    const char *name;
    unsigned settings;               /* 0: every kind has it */
    bool (*take)(struct reader *reader, const json_t *value);
};

__attribute__((format(printf, 2, 3)))
static bool refuse(struct reader *reader, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reader->why, SOURCE_WHY_MAX, format, arguments);
    va_end(arguments);
    return false;
}

/* ---- values --------------------------------------------------------------------------------------------------------------- */

static bool take_text(struct reader *reader, const char *name, const json_t *value, const char **text)
{
    *text = json_string_value(value);
    if (*text && json_string_length(value) == strlen(*text) && **text && strlen(*text) <= TEXT_MAX)
        return true;
    return refuse(reader, "\"%s\" must be a text of at most %u bytes.", name, TEXT_MAX);
}

static bool take_flag(struct reader *reader, const char *name, const json_t *value, bool *flag)
{
    *flag = json_is_true(value);
    return json_is_boolean(value) || refuse(reader, "\"%s\" must be true or false.", name);
}

static bool take_number(struct reader *reader, const char *name, const json_t *value, uint64_t least, uint64_t most, uint64_t *number)
{
    json_int_t given = json_integer_value(value);
    *number = (uint64_t)given;
    if (json_is_integer(value) && given >= 0 && *number >= least && *number <= most)
        return true;
    return refuse(reader, "\"%s\" must be a whole number from %llu to %llu.", name, (unsigned long long)least, (unsigned long long)most);
}

static bool time_of(const json_t *value, uint64_t *ms)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    if (json_is_number(value)) {
        double s = json_number_value(value);
        *ms = s >= 0 && s <= (double)TIME_MAX_MS / 1000 ? (uint64_t)(s * 1000 + 0.5) : TIME_MAX_MS + 1;
        return true;
    }
    const char *text = json_string_value(value);
    size_t digits = text ? strspn(text, "0123456789") : 0;
    if (!digits || digits > 12)
        return false;
    /* Without a unit, as it comes from a configuration, it is a number of seconds all the same. */
    for (unsigned i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (strcmp(text[digits] ? text + digits : "s", units[i].name) == 0) {
            *ms = strtoull(text, NULL, 10) * units[i].ms;
            return true;
        }
    return false;
}

static bool take_time(struct reader *reader, const char *name, const json_t *value, uint64_t least_ms, uint64_t *ms)
{
    if (time_of(value, ms) && *ms >= least_ms && *ms <= TIME_MAX_MS)
        return true;
    return refuse(reader, "\"%s\" must be a time such as \"10s\" or \"5m\", from %llu ms to a year.", name, (unsigned long long)least_ms);
}

static bool take_choice(struct reader *reader, const char *name, const json_t *value, const char *const *choices, unsigned *choice)
{
    const char *text = json_string_value(value);
    char all[100] = "";
    for (*choice = 0; choices[*choice]; ++*choice) {
        if (text && strcmp(text, choices[*choice]) == 0)
            return true;
        size_t size = strlen(all);
        snprintf(all + size, sizeof(all) - size, "%s\"%s\"", *choice ? ", " : "", choices[*choice]);
    }
    return refuse(reader, "\"%s\" must be one of %s.", name, all);
}

/* ---- rows ------------------------------------------------------------------------------------------------------------------ */

static bool take_id(struct reader *reader, const json_t *value)
{
    reader->declaration->id = json_string_value(value);
    if (reader->declaration->id && json_string_length(value) == strlen(reader->declaration->id) && source_id_is_possible(reader->declaration->id))
        return true;
    return refuse(reader, "\"id\" must be a text of at most %u letters, digits, dots, dashes and underscores.", SOURCE_ID_MAX);
}

static bool take_kind(struct reader *reader, const json_t *value)
{
    (void)reader, (void)value;   /* it was the first that was looked at; or is a mark of whoever made it */
    return true;
}

static bool take_owner(struct reader *reader, const json_t *value) { return take_text(reader, "owner", value, &reader->declaration->owner); }
static bool take_paused(struct reader *reader, const json_t *value) { return take_flag(reader, "paused", value, &reader->declaration->paused); }
static bool take_local(struct reader *reader, const json_t *value)
{
    bool is_local = false;
    if (!take_flag(reader, "local", value, &is_local))
        return false;
    reader->declaration->reach = is_local ? FEED_REACHES_MACHINE : FEED_REACHES_OUT;
    return true;
}


static bool take_template(struct reader *reader, const char *name, const json_t *value, enum source_template which)
{
    char why[TEMPLATE_WHY_MAX];
    struct template *template = &reader->declaration->templates[which];
    if (!json_is_string(value))
        return refuse(reader, "\"%s\" must be a text.", name);
    template_deinit(template);
    const struct source_kind *kind = reader->declaration->kind;
    return template_read(template, bytes_of(json_string_value(value), json_string_length(value)), kind->names, kind->has_json, why) || refuse(reader, "\"%s\": %s", name, why);
}

static bool take_type(struct reader *reader, const json_t *value) { return take_template(reader, "type", value, TEMPLATE_TYPE); }
static bool take_source(struct reader *reader, const json_t *value) { return take_template(reader, "source", value, TEMPLATE_SOURCE); }
static bool take_subject(struct reader *reader, const json_t *value) { return take_template(reader, "subject", value, TEMPLATE_SUBJECT); }
static bool take_key(struct reader *reader, const json_t *value) { return take_template(reader, "key", value, TEMPLATE_KEY); }
static bool take_data(struct reader *reader, const json_t *value) { return take_template(reader, "data", value, TEMPLATE_DATA); }

static bool take_content_type(struct reader *reader, const json_t *value)
{
    const char **text = &reader->declaration->content_type;
    if (!take_text(reader, "content_type", value, text))
        return false;
    for (const char *at = *text; *at; at++)
        if (*at < 0x20 || *at > 0x7e)
            return refuse(reader, "\"content_type\" is a media type, such as application/json.");
    return strlen(*text) <= UINT8_MAX || refuse(reader, "\"content_type\" has at most 255 bytes.");
}

static bool take_window(struct reader *reader, const json_t *value)
{
    uint64_t window;
    if (!take_number(reader, "window", value, 1, SOURCE_WINDOW_MAX, &window))
        return false;
    reader->declaration->window = (unsigned)window;
    return true;
}

static bool take_url(struct reader *reader, const json_t *value)
{
    struct sink_url url;
    char why[URL_WHY_MAX];
    if (!take_text(reader, "url", value, &reader->declaration->address))
        return false;
    return sink_url_read(bytes_of_text(reader->declaration->address), &url, why) || refuse(reader, "\"url\": %s", why);
}

/* A token of RFC 9110, and a value without controls. */
static bool is_header(const char *name, const char *value)
{
    if (!*name || strspn(name, "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") != strlen(name))
        return false;
    for (; *value; value++)
        if ((uint8_t)*value < 0x20 || *value == 0x7f)
            return false;
    return true;
}

/* What says how a request is sent is not for who declares one. */
static bool is_of_transfer(const char *name)
{
    static const char *const names[] = {"Connection", "Content-Length", "Expect", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return false;
}

static bool take_headers(struct reader *reader, const json_t *value)
{
    struct declaration *declaration = reader->declaration;
    const char *name;
    json_t *each;
    if (!json_is_object(value) || json_object_size(value) > SOURCE_HEADERS_MAX)
        return refuse(reader, "\"headers\" must be an object of at most %u texts.", SOURCE_HEADERS_MAX);
    json_object_foreach((json_t *)(uintptr_t)value, name, each) {
        const char *text = json_string_value(each);
        char made[HEADER_MAX];
        if (!text || json_string_length(each) != strlen(text) || !is_header(name, text))
            return refuse(reader, "\"%.60s\" is no header with a text of its own.", name);
        if (is_of_transfer(name))
            return refuse(reader, "\"%s\" is said by the broker alone.", name);
        if ((size_t)snprintf(made, sizeof(made), "%s: %s", name, text) >= sizeof(made))
            return refuse(reader, "A header has at most %u bytes.", HEADER_MAX - 1);
        if (!(declaration->headers[declaration->header_count] = bytes_to_text(bytes_of_text(made))))
            return refuse(reader, "There is too little memory.");
        declaration->header_count++;
    }
    return true;
}

static bool take_idle(struct reader *reader, const json_t *value) { return take_time(reader, "idle", value, 0, &reader->declaration->idle_ms); }
static bool take_retry(struct reader *reader, const json_t *value) { return take_time(reader, "retry", value, 10, &reader->declaration->retry_ms); }
static bool take_every(struct reader *reader, const json_t *value) { return take_time(reader, "every", value, 1, &reader->declaration->every_ms); }
static bool take_interval(struct reader *reader, const json_t *value) { return take_time(reader, "interval", value, 100, &reader->declaration->every_ms); }

static bool take_expression(struct reader *reader, const json_t *value)
{
    const char *text;
    char why[CRON_WHY_MAX];
    if (!take_text(reader, "expression", value, &text))
        return false;
    return cron_read(bytes_of_text(text), &reader->declaration->cron, why) || refuse(reader, "\"expression\": %s", why);
}

static bool take_zone(struct reader *reader, const json_t *value)
{
    const char **zone = &reader->declaration->zone;
    if (!take_text(reader, "zone", value, zone))
        return false;
    if (strcmp(*zone, "UTC") == 0 || !reader->zones || reader->zones->find(reader->zones, *zone))
        return true;
    return refuse(reader, "\"%.60s\" is no time zone: say \"UTC\", or a name such as \"Europe/Berlin\".", *zone);
}

static bool take_missed(struct reader *reader, const json_t *value)
{
    unsigned choice;
    if (!take_choice(reader, "missed", value, (const char *const[]){"once", "skip", "all", NULL}, &choice))
        return false;
    reader->declaration->missed = (enum source_missed)choice;
    return true;
}

static bool take_restart(struct reader *reader, const json_t *value)
{
    unsigned choice;
    if (!take_choice(reader, "restart", value, (const char *const[]){"always", "failed", "never", NULL}, &choice))
        return false;
    reader->declaration->restart = (enum source_restart)choice;
    return true;
}

static bool take_path(struct reader *reader, const json_t *value) { return take_text(reader, "path", value, &reader->declaration->address); }

/* "127.0.0.1:9000", "[::1]:9000", "localhost:9000", ":9000" or "*:9000". */
static bool take_address(struct reader *reader, const json_t *value)
{
    if (!take_text(reader, "address", value, &reader->declaration->address))
        return false;
    const char *text = reader->declaration->address, *colon = strrchr(text, ':');
    size_t size = colon ? (size_t)(colon - text) : 0, digits = colon ? strspn(colon + 1, "0123456789") : 0;
    bool is_host = size == 0 || (size == 1 && text[0] == '*') || (size == 9 && strncmp(text, "localhost", 9) == 0) || strspn(text, "0123456789.") == size ||
                   (text[0] == '[' && text[size - 1] == ']' && strspn(text + 1, "0123456789abcdefABCDEF:.") == size - 2);
    if (colon && is_host && digits > 0 && digits <= 5 && !colon[1 + digits] && strtoul(colon + 1, NULL, 10) <= UINT16_MAX)
        return true;
    return refuse(reader, "\"address\" must be an address of this machine and a port, such as \"127.0.0.1:9000\" or \"[::1]:9000\".");
}


static bool take_from(struct reader *reader, const json_t *value)
{
    unsigned choice;
    if (!take_choice(reader, "from", value, (const char *const[]){"end", "start", NULL}, &choice))
        return false;
    reader->declaration->from_start = choice == 1;
    return true;
}

static bool take_line_max(struct reader *reader, const json_t *value)
{
    uint64_t size;
    if (!take_number(reader, "line_max", value, 1, LINE_SIZE_MAX, &size))
        return false;
    reader->declaration->line_max = size;
    return true;
}

static bool take_command(struct reader *reader, const json_t *value)
{
    struct declaration *declaration = reader->declaration;
    size_t count = json_array_size(value);
    if (!json_is_array(value) || count == 0 || count > SOURCE_ARGUMENTS_MAX)
        return refuse(reader, "\"command\" must be an array of one to %u texts: a program and its arguments.", SOURCE_ARGUMENTS_MAX);
    for (size_t i = 0; i < count; i++) {
        const json_t *word = json_array_get(value, i);
        declaration->argv[i] = json_string_value(word);
        if (!declaration->argv[i] || strlen(declaration->argv[i]) != json_string_length(word))
            return refuse(reader, "\"command\" must be an array of texts without zeros.");
    }
    return declaration->argv[0][0] || refuse(reader, "\"command\" names no program.");
}

static bool take_signal(struct reader *reader, const json_t *value)
{
    static const struct {
        const char *name;
        int number;
    } signals[] = {{"HUP", 1}, {"USR1", 10}, {"USR2", 12}, {"ALRM", 14}, {"CONT", 18}, {"WINCH", 28}};
    const char *text = json_string_value(value);
    if (text && strncmp(text, "SIG", 3) == 0)
        text += 3;
    for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        if (text ? strcmp(text, signals[i].name) == 0 : json_is_integer(value) && json_integer_value(value) == signals[i].number) {
            reader->declaration->signal = signals[i].number;
            return true;
        }
    return refuse(reader, "\"signal\" must be one of \"HUP\", \"USR1\", \"USR2\", \"ALRM\", \"CONT\" and \"WINCH\".");
}

static bool take_uri(struct reader *reader, const json_t *value)
{
    struct uri uri;
    const char *complaint;
    if (!take_text(reader, "uri", value, &reader->declaration->address))
        return false;
    if (uri_parse(&uri, reader->declaration->address, &complaint) != GW_OK)
        return refuse(reader, "\"uri\": %s", complaint);   /* Without the URI, which may have a password in it. */
    reader->declaration->reads_files = uri.ca[0];
    return true;
}

static bool take_queue(struct reader *reader, const json_t *value)
{
    return take_text(reader, "queue", value, &reader->declaration->queue) &&
           (strlen(reader->declaration->queue) <= UINT8_MAX || refuse(reader, "\"queue\" has at most 255 bytes."));
}

static bool take_prefetch(struct reader *reader, const json_t *value)
{
    uint64_t prefetch;
    if (!take_number(reader, "prefetch", value, 1, SOURCE_WINDOW_MAX, &prefetch))
        return false;
    reader->declaration->prefetch = (uint16_t)prefetch;
    return true;
}

static const struct row rows[] = {
    {"id", 0, take_id}, {"kind", 0, take_kind}, {"made", 0, take_kind},
    {"owner", 0, take_owner}, {"paused", 0, take_paused}, {"type", 0, take_type}, {"source", 0, take_source}, {"subject", 0, take_subject},
    {"key", 0, take_key}, {"data", 0, take_data}, {"content_type", 0, take_content_type}, {"window", 0, take_window}, {"url", SETTING_URL, take_url}, {"local", SETTING_URL | SETTING_AMQP, take_local},
    {"headers", SETTING_HEADERS, take_headers}, {"idle", SETTING_IDLE, take_idle}, {"retry", SETTING_RETRY, take_retry}, {"every", SETTING_EVERY, take_every},
    {"interval", SETTING_INTERVAL, take_interval}, {"expression", SETTING_CRON, take_expression}, {"zone", SETTING_CRON, take_zone}, {"missed", SETTING_MISSED, take_missed},
    {"path", SETTING_PATH, take_path}, {"from", SETTING_FROM, take_from}, {"line_max", SETTING_LINES, take_line_max}, {"address", SETTING_ADDRESS, take_address},
    {"command", SETTING_COMMAND, take_command}, {"restart", SETTING_COMMAND, take_restart}, {"signal", SETTING_SIGNAL, take_signal},
    {"uri", SETTING_AMQP, take_uri}, {"queue", SETTING_AMQP, take_queue}, {"prefetch", SETTING_AMQP, take_prefetch},
};

/* ---- the whole ------------------------------------------------------------------------------------------------------------ */

static bool find_kind(struct reader *reader, const json_t *root)
{
    const char *name = json_string_value(json_object_get(root, "kind"));
    char all[200] = "";
    for (const struct source_kind *const *kind = source_kinds; *kind; kind++) {
        if (name && strcmp(name, (*kind)->name) == 0) {
            reader->declaration->kind = *kind;
            return true;
        }
        size_t size = strlen(all);
        snprintf(all + size, sizeof(all) - size, "%s%s", size ? ", " : "", (*kind)->name);
    }
    return refuse(reader, "\"kind\" must be one of %s.", all);
}

static bool set_defaults(struct reader *reader)
{
    struct declaration *declaration = reader->declaration;
    char why[TEMPLATE_WHY_MAX];
    declaration->zone = "UTC";
    declaration->window = SOURCE_WINDOW;
    declaration->line_max = LINE_SIZE_MAX;
    declaration->retry_ms = RETRY_MS;
    declaration->idle_ms = IDLE_MS;
    declaration->every_ms = INTERVAL_MS;
    declaration->prefetch = PREFETCH;
    for (unsigned i = 0; i < TEMPLATES; i++) {
        const char *text = declaration->kind->defaults[i];
        if (!template_read(&declaration->templates[i], bytes_of_text(text ? text : ""), declaration->kind->names, declaration->kind->has_json, why))
            return refuse(reader, "%s", why);
    }
    return true;
}

/* What a kind cannot be without. */
static bool is_complete(struct reader *reader)
{
    static const char *const needed[] = {"id", "url", "every", "expression", "path", "address", "command", "signal", "uri", "queue"};
    const struct declaration *declaration = reader->declaration;
    for (unsigned i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
        for (unsigned k = 0; k < sizeof(rows) / sizeof(rows[0]); k++)
            if (strcmp(rows[k].name, needed[i]) == 0 && (!rows[k].settings || rows[k].settings & declaration->kind->settings) && !json_object_get(declaration->root, needed[i]))
                return refuse(reader, "A source of the kind \"%s\" needs \"%s\".", declaration->kind->name, needed[i]);
    return true;
}

static bool take_all(struct reader *reader)
{
    const char *name;
    json_t *value;
    json_object_foreach(reader->declaration->root, name, value) {
        const struct row *found = NULL;
        for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]) && !found; i++)
            if (strcmp(rows[i].name, name) == 0 && (!rows[i].settings || rows[i].settings & reader->declaration->kind->settings))
                found = &rows[i];
        if (!found)
            return refuse(reader, "A source of the kind \"%s\" has no \"%.60s\".", reader->declaration->kind->name, name);
        if (!found->take(reader, value))
            return false;
    }
    return true;
}

bool declaration_read(struct declaration *declaration, json_t *root, struct zones *zones, char why[SOURCE_WHY_MAX])
{
    struct reader reader = {.declaration = declaration, .why = why, .zones = zones};
    *declaration = (struct declaration){0};
    if (!json_is_object(root))
        return refuse(&reader, "A source is an object.");
    declaration->root = json_incref(root);
    if (find_kind(&reader, root) && set_defaults(&reader) && take_all(&reader) && is_complete(&reader))
        return true;
    declaration_deinit(declaration);
    return false;
}

void declaration_deinit(struct declaration *declaration)
{
    for (unsigned i = 0; i < TEMPLATES; i++)
        template_deinit(&declaration->templates[i]);
    for (unsigned i = 0; i < declaration->header_count; i++)
        free(declaration->headers[i]);
    json_decref(declaration->root);
    *declaration = (struct declaration){0};
}

const char *declaration_kind(const struct declaration *declaration) { return declaration->kind->name; }
bool declaration_is_local(const struct declaration *declaration) { return declaration->kind->is_local || declaration->reads_files; }

bool header_is(const char *line, const char *name) { return strncasecmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':'; }

bool declaration_has_header(const struct declaration *declaration, const char *name)
{
    for (unsigned i = 0; i < declaration->header_count; i++)
        if (header_is(declaration->headers[i], name))
            return true;
    return false;
}

void source_queue(const char *id, char name[SOURCE_QUEUE_MAX]) { snprintf(name, SOURCE_QUEUE_MAX, "source.%s.position", id); }

bool source_id_is_possible(const char *id)
{
    size_t size = strlen(id);
    return size > 0 && size <= SOURCE_ID_MAX && strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == size;
}
