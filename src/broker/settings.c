#include "broker/settings.h"

#include "broker/group_key.h"
#include "protocol/amqp/table.h"

#include <jansson.h>

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define SEGMENT_BYTES_MAX 3000000000ll
#define WINDOW_MAX_MS 315360000000ll     /* ten years */

/* Who counts when an argument and a policy both say something. */
enum precedence { NOT_THERE, LOWEST, OF_ARGUMENT, OF_POLICY, ARGUMENT_ONLY };

enum kind { KIND_NUMBER, KIND_AGE, KIND_TEXT, KIND_FLAG, KIND_BACKOFF };

/* What one key means. */
struct row {
    const char *key;                         /* of a policy; the argument has "x-" before it */
    enum kind kind;
    unsigned flag;                           /* of SETTINGS_…; 0: handled by name */
    size_t field;                            /* where a number goes */
    enum precedence of[3];                   /* by queue type */
};

#define FIELD(name) offsetof(struct queue_settings, name)

static const struct row rows[] = {
    {"message-ttl", KIND_NUMBER, SETTINGS_MESSAGE_TTL, FIELD(message_ttl_ms), {LOWEST, LOWEST, NOT_THERE}},
    {"expires", KIND_NUMBER, SETTINGS_EXPIRES, FIELD(expires_ms), {LOWEST, OF_POLICY, NOT_THERE}},
    {"max-length", KIND_NUMBER, SETTINGS_MAX_LENGTH, FIELD(max_length), {LOWEST, LOWEST, NOT_THERE}},
    {"max-length-bytes", KIND_NUMBER, SETTINGS_MAX_LENGTH_BYTES, FIELD(max_length_bytes), {LOWEST, LOWEST, OF_POLICY}},
    {"delivery-limit", KIND_NUMBER, SETTINGS_DELIVERY_LIMIT, FIELD(delivery_limit), {LOWEST, LOWEST, NOT_THERE}},
    {"retry-backoff", KIND_BACKOFF, SETTINGS_RETRY_BACKOFF, FIELD(retry_backoff), {OF_ARGUMENT, OF_ARGUMENT, NOT_THERE}},
    {"consumer-timeout", KIND_NUMBER, SETTINGS_CONSUMER_TIMEOUT, FIELD(consumer_timeout_ms), {LOWEST, LOWEST, NOT_THERE}},
    {"max-age", KIND_AGE, SETTINGS_MAX_AGE, FIELD(max_age_ms), {NOT_THERE, NOT_THERE, OF_POLICY}},
    {"stream-max-segment-size-bytes", KIND_NUMBER, SETTINGS_SEGMENT_BYTES, FIELD(segment_bytes), {NOT_THERE, NOT_THERE, OF_POLICY}},
    {"stream-filter-size-bytes", KIND_NUMBER, SETTINGS_FILTER_BYTES, FIELD(filter_bytes), {NOT_THERE, NOT_THERE, OF_POLICY}},
    {"single-active-consumer", KIND_FLAG, SETTINGS_SINGLE_ACTIVE, 0, {ARGUMENT_ONLY, ARGUMENT_ONLY, NOT_THERE}},
    {"dead-letter-exchange", KIND_TEXT, SETTINGS_DEAD_LETTER, FIELD(dead_letter_exchange), {OF_ARGUMENT, OF_ARGUMENT, NOT_THERE}},
    {"dead-letter-routing-key", KIND_TEXT, SETTINGS_DEAD_LETTER_KEY, FIELD(dead_letter_routing_key), {OF_ARGUMENT, OF_ARGUMENT, NOT_THERE}},
    {"group-key", KIND_TEXT, SETTINGS_GROUPS, FIELD(group_key), {OF_ARGUMENT, OF_ARGUMENT, NOT_THERE}},
    {"group-fair", KIND_FLAG, SETTINGS_GROUP_FAIR, 0, {OF_ARGUMENT, OF_ARGUMENT, NOT_THERE}},
    {"dedup-window", KIND_NUMBER, SETTINGS_DEDUP, FIELD(dedup_window_ms), {LOWEST, LOWEST, NOT_THERE}},
    {"dedup-max", KIND_NUMBER, 0, FIELD(dedup_max), {LOWEST, LOWEST, NOT_THERE}},
    {"dedup-header", KIND_TEXT, 0, FIELD(dedup_header), {OF_ARGUMENT, OF_ARGUMENT, NOT_THERE}},
};

static const struct row priority_row = {"max-priority", KIND_NUMBER, 0, 0, {ARGUMENT_ONLY, NOT_THERE, NOT_THERE}};
static const struct row overflow_row = {"overflow", KIND_TEXT, 0, 0, {OF_ARGUMENT, OF_POLICY, NOT_THERE}};
static const struct row strategy_row = {"dead-letter-strategy", KIND_TEXT, 0, 0, {NOT_THERE, OF_ARGUMENT, NOT_THERE}};

static const char *const type_names[] = {"classic", "quorum", "stream"};

const char *queue_type_name(enum queue_type type) { return type_names[type]; }

bool queue_type_parse(struct bytes name, enum queue_type *type)
{
    for (unsigned i = 0; i < 3; i++)
        if (bytes_equal(name, bytes_of_text(type_names[i]))) {
            *type = i;
            return true;
        }
    return false;
}

enum queue_type settings_queue_type(struct bytes arguments)
{
    struct amqp_field field;
    enum queue_type type = QUEUE_CLASSIC;
    if (amqp_table_find(arguments, "x-queue-type", &field) && field.type == 'S')
        queue_type_parse(field.bytes, &type);
    return type;
}

bool settings_parse_age(struct bytes text, uint64_t *ms)
{
    static const struct { char unit; uint64_t ms; } units[] = {
        {'Y', 31536000000u}, {'M', 2592000000u}, {'D', 86400000u}, {'h', 3600000u}, {'m', 60000u}, {'s', 1000u},
    };
    uint64_t number = 0;
    size_t i = 0;
    for (; i < text.size && text.data[i] >= '0' && text.data[i] <= '9'; i++) {
        number = number * 10 + (text.data[i] - '0');
        if (number > UINT64_MAX / 31536000000u / 16)
            return false;
    }
    if (!number || i + 1 != text.size)
        return false;
    for (unsigned unit = 0; unit < 6; unit++)
        if (text.data[i] == units[unit].unit) {
            *ms = number * units[unit].ms;
            return true;
        }
    return false;
}

/* ---- one value ------------------------------------------------------------------------------------------------------- */

struct value {
    bool present;
    uint64_t number;         /* also of ages, in ms, and of flags */
    struct bytes text;
    struct backoff backoff;
};

static struct value of_number(long long number)
{
    return number < 0 ? (struct value){0} : (struct value){.present = true, .number = (uint64_t)number};
}

static struct value of_text(enum kind kind, struct bytes text)
{
    struct value value = {.present = kind == KIND_TEXT, .text = text};
    if (kind == KIND_AGE)
        value.present = settings_parse_age(text, &value.number);
    return value;
}

static struct value of_argument(const struct row *row, struct bytes arguments)
{
    char name[64];
    struct amqp_field field;
    snprintf(name, sizeof(name), "x-%s", row->key);
    if (!amqp_table_find(arguments, name, &field))
        return (struct value){0};
    if (row->kind == KIND_FLAG)
        return (struct value){.present = field.type == 't', .number = field.type == 't' && field.integer};
    if (row->kind == KIND_NUMBER)
        return amqp_field_is_integer(&field) ? of_number(field.integer) : (struct value){0};
    if (row->kind == KIND_BACKOFF) {
        struct value value = {0};
        value.present = backoff_of_field(&field, &value.backoff, NULL, 0);
        return value;
    }
    return field.type == 'S' ? of_text(row->kind, field.bytes) : (struct value){0};
}

static struct value of_definition(const struct row *row, const json_t *definition)
{
    const json_t *found = json_object_get(definition, row->key);
    if (row->kind == KIND_NUMBER)
        return json_is_integer(found) ? of_number(json_integer_value(found)) : (struct value){0};
    if (row->kind == KIND_FLAG)
        return (struct value){.present = json_is_boolean(found), .number = json_is_true(found)};
    if (row->kind == KIND_BACKOFF) {
        struct value value = {0};
        value.present = found && backoff_of_json(found, &value.backoff, NULL, 0);
        return value;
    }
    return json_is_string(found) ? of_text(row->kind, bytes_of(json_string_value(found), json_string_length(found))) : (struct value){0};
}

/* ---- all of them ----------------------------------------------------------------------------------------------------- */

struct sources {
    struct bytes arguments;
    json_t *policy, *operator_policy;        /* NULL: there is none */
};

static struct value lower(struct value a, struct value b)
{
    if (!a.present || !b.present)
        return a.present ? a : b;
    return a.number < b.number ? a : b;
}

static struct value find(const struct row *row, enum queue_type type, const struct sources *sources)
{
    enum precedence precedence = row->of[type];
    if (precedence == NOT_THERE)
        return (struct value){0};
    struct value argument = of_argument(row, sources->arguments);
    if (precedence == ARGUMENT_ONLY)
        return argument;
    struct value policy = of_definition(row, sources->policy), of_operator = of_definition(row, sources->operator_policy);
    if (row->kind == KIND_NUMBER)
        policy = lower(policy, of_operator);
    else if (of_operator.present)
        policy = of_operator;
    if (precedence == LOWEST)
        return lower(argument, policy);
    if (precedence == OF_ARGUMENT)
        return argument.present ? argument : policy;
    return policy.present ? policy : argument;
}

static bool text_is(const struct value *value, const char *text)
{
    return value->present && bytes_equal(value->text, bytes_of_text(text));
}

static void find_overflow(struct queue_settings *settings, const struct sources *sources)
{
    struct value overflow = find(&overflow_row, settings->type, sources);
    if (text_is(&overflow, "reject-publish"))
        settings->overflow = OVERFLOW_REJECT_PUBLISH;
    else if (text_is(&overflow, "reject-publish-dlx") && settings->type == QUEUE_CLASSIC)   /* quorum queues do not know it */
        settings->overflow = OVERFLOW_REJECT_PUBLISH_DLX;
}

/* Without an exchange the key and the strategy mean nothing; the stronger strategy needs a queue that refuses, not one that drops. */
static void find_dead_letter(struct queue_settings *settings, const struct sources *sources)
{
    struct value strategy = find(&strategy_row, settings->type, sources);
    if (!(settings->flags & SETTINGS_DEAD_LETTER)) {
        settings->flags &= ~(unsigned)SETTINGS_DEAD_LETTER_KEY;
        settings->dead_letter_routing_key = (struct bytes){0};
    } else if (text_is(&strategy, "at-least-once") && settings->overflow == OVERFLOW_REJECT_PUBLISH) {
        settings->flags |= SETTINGS_AT_LEAST_ONCE;
    }
}

/* Priorities and groups exclude each other: an argument says the former, so the latter are a policy's. */
static void find_groups(struct queue_settings *settings)
{
    unsigned where;
    if ((settings->flags & SETTINGS_GROUPS) && !(settings->flags & SETTINGS_MAX_PRIORITY) && group_key_parse(settings->group_key, &where))
        return;
    settings->flags &= ~(unsigned)(SETTINGS_GROUPS | SETTINGS_GROUP_FAIR);
    settings->group_key = (struct bytes){0};
}

/* Without a window the rest means nothing. */
static void find_dedup(struct queue_settings *settings)
{
    if ((settings->flags & SETTINGS_DEDUP) && settings->dedup_window_ms) {
        if (!settings->dedup_max || settings->dedup_max > SETTINGS_DEDUP_MAX)
            settings->dedup_max = settings->dedup_max ? SETTINGS_DEDUP_MAX : SETTINGS_DEDUP_MAX_DEFAULT;
        settings->flags |= SETTINGS_STAMPED;
        return;
    }
    settings->flags &= ~(unsigned)SETTINGS_DEDUP;
    settings->dedup_window_ms = settings->dedup_max = 0;
    settings->dedup_header = (struct bytes){0};
}

static void find_all(struct queue_settings *settings, const struct sources *sources)
{
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct value value = find(&rows[i], settings->type, sources);
        if (!value.present || (rows[i].kind == KIND_FLAG && !value.number))
            continue;
        settings->flags |= rows[i].flag;
        if (rows[i].kind == KIND_TEXT)
            *(struct bytes *)((char *)settings + rows[i].field) = value.text;
        else if (rows[i].kind == KIND_BACKOFF)
            *(struct backoff *)((char *)settings + rows[i].field) = value.backoff;
        else if (rows[i].kind != KIND_FLAG)
            *(uint64_t *)((char *)settings + rows[i].field) = value.number;
    }
    if ((settings->flags & SETTINGS_EXPIRES) && !settings->expires_ms)
        settings->flags &= ~(unsigned)SETTINGS_EXPIRES;
    if (settings->type == QUEUE_CLASSIC && !(settings->flags & SETTINGS_RETRY_BACKOFF)) {   /* by itself it is a quorum queue's, as in RabbitMQ */
        settings->flags &= ~(unsigned)SETTINGS_DELIVERY_LIMIT;
        settings->delivery_limit = 0;
    }
    struct value priority = find(&priority_row, settings->type, sources);
    if (priority.present && priority.number) {
        settings->max_priority = priority.number > 255 ? 255 : (unsigned)priority.number;
        settings->flags |= SETTINGS_MAX_PRIORITY;
    }
    find_groups(settings);
    find_overflow(settings, sources);
    find_dead_letter(settings, sources);
    find_dedup(settings);
    if ((settings->flags & SETTINGS_MESSAGE_TTL) || settings->type == QUEUE_STREAM)
        settings->flags |= SETTINGS_STAMPED;
}

/* Of its own: put in its place, gcc's sanitizers believe that a text which is not there could be copied behind the memory that was made for none. */
static __attribute__((noinline)) struct bytes keep_text(uint8_t **at, struct bytes from)
{
    struct bytes text = bytes_of(*at, from.size);
    if (from.size)
        memcpy(*at, from.data, from.size);
    *at += from.size;
    return text;
}

/* The texts move behind the settings that are kept. NULL: out of memory. */
static struct queue_settings *keep(const struct queue_settings *from)
{
    struct queue_settings *settings = malloc(sizeof(*settings) + from->dead_letter_exchange.size + from->dead_letter_routing_key.size + from->group_key.size +
                                             from->dedup_header.size);
    if (!settings)
        return NULL;
    *settings = *from;
    uint8_t *text = (uint8_t *)(settings + 1);
    settings->dead_letter_exchange = keep_text(&text, from->dead_letter_exchange);
    settings->dead_letter_routing_key = keep_text(&text, from->dead_letter_routing_key);
    settings->group_key = keep_text(&text, from->group_key);
    settings->dedup_header = keep_text(&text, from->dedup_header);
    return settings;
}

/* NULL for what is no JSON object. */
static json_t *load(struct bytes text)
{
    json_t *definition = text.size ? json_loadb((const char *)text.data, text.size, 0, NULL) : NULL;
    if (json_is_object(definition))
        return definition;
    json_decref(definition);
    return NULL;
}

enum gw_err settings_make(struct bytes arguments, struct bytes policy, struct bytes operator_policy, struct queue_settings **settings)
{
    struct queue_settings found = {.type = settings_queue_type(arguments)};
    *settings = NULL;
    if (!arguments.size && !policy.size && !operator_policy.size)
        return GW_OK;
    struct sources sources = {arguments, load(policy), load(operator_policy)};
    find_all(&found, &sources);
    bool needed = found.flags || found.type != QUEUE_CLASSIC;
    if (needed)
        *settings = keep(&found);
    json_decref(sources.policy);
    json_decref(sources.operator_policy);
    return needed && !*settings ? GW_ERR_NOMEM : GW_OK;
}

enum gw_err settings_make_own(unsigned flags, struct queue_settings **settings)
{
    const struct queue_settings found = {.flags = flags | SETTINGS_STAMPED};
    *settings = keep(&found);
    return *settings ? GW_OK : GW_ERR_NOMEM;
}

void settings_free(struct queue_settings *settings)
{
    free(settings);
}

bool settings_equal(const struct queue_settings *a, const struct queue_settings *b)
{
    if (!a || !b)
        return a == b;
    return a->type == b->type && a->flags == b->flags && a->overflow == b->overflow && a->max_priority == b->max_priority &&
           a->message_ttl_ms == b->message_ttl_ms && a->expires_ms == b->expires_ms && a->max_length == b->max_length &&
           a->max_length_bytes == b->max_length_bytes && a->delivery_limit == b->delivery_limit && a->consumer_timeout_ms == b->consumer_timeout_ms &&
           a->max_age_ms == b->max_age_ms && a->segment_bytes == b->segment_bytes && a->filter_bytes == b->filter_bytes &&
           backoff_equal(&a->retry_backoff, &b->retry_backoff) &&
           bytes_equal(a->dead_letter_exchange, b->dead_letter_exchange) && bytes_equal(a->dead_letter_routing_key, b->dead_letter_routing_key) &&
           bytes_equal(a->group_key, b->group_key) &&
           a->dedup_window_ms == b->dedup_window_ms && a->dedup_max == b->dedup_max && bytes_equal(a->dedup_header, b->dedup_header);
}

/* ---- policies ------------------------------------------------------------------------------------------------------- */

/* What a policy may hold: its key, what its value must be, and how RabbitMQ calls it in a refusal. */
struct policy_row {
    const char *key, *noun;
    enum { POLICY_TEXT, POLICY_NUMBER, POLICY_AGE, POLICY_CHOICE, POLICY_FLAG, POLICY_GROUP_KEY, POLICY_BACKOFF, POLICY_ANY } kind;
    long long lowest, highest;
    const char *choices;                     /* "a|b" */
    bool for_operator;
    bool of[3];                              /* do queues of that type have it? */
};

#define NO_LIMIT INT64_MAX

static const struct policy_row policy_rows[] = {
    {"alternate-exchange", "alternate exchange name", POLICY_TEXT, 0, 0, NULL, false, {true, true, true}},
    {"dead-letter-exchange", "dead letter exchange name", POLICY_TEXT, 0, 0, NULL, false, {true, true, false}},
    {"dead-letter-routing-key", "dead letter routing key", POLICY_TEXT, 0, 0, NULL, false, {true, true, false}},
    {"dead-letter-strategy", "dead letter strategy", POLICY_CHOICE, 0, 0, "at-most-once|at-least-once", false, {false, true, false}},
    {"message-ttl", "message TTL", POLICY_NUMBER, 0, NO_LIMIT, NULL, true, {true, true, false}},
    {"expires", "queue expiry", POLICY_NUMBER, 1, NO_LIMIT, NULL, true, {true, true, false}},
    {"max-length", "maximum length", POLICY_NUMBER, 0, NO_LIMIT, NULL, true, {true, true, false}},
    {"max-length-bytes", "maximum length in bytes", POLICY_NUMBER, 0, NO_LIMIT, NULL, true, {true, true, true}},
    {"max-in-memory-length", "maximum memory in bytes", POLICY_NUMBER, 0, NO_LIMIT, NULL, true, {true, true, false}},
    {"max-in-memory-bytes", "maximum memory in bytes", POLICY_NUMBER, 0, NO_LIMIT, NULL, true, {true, true, false}},
    {"queue-mode", "queue-mode value", POLICY_CHOICE, 0, 0, "default|lazy", false, {true, false, false}},
    {"queue-version", "queue-version value", POLICY_NUMBER, 1, 2, NULL, true, {true, true, true}},
    {"overflow", "overflow value", POLICY_CHOICE, 0, 0, "drop-head|reject-publish|reject-publish-dlx", true, {true, true, false}},
    {"delivery-limit", "delivery limit", POLICY_NUMBER, 0, NO_LIMIT, NULL, true, {false, true, false}},
    {"retry-backoff", "retry backoff", POLICY_BACKOFF, 0, 0, NULL, false, {true, true, false}},
    {"max-age", "max age", POLICY_AGE, 0, 0, NULL, false, {false, false, true}},
    {"group-key", "group key", POLICY_GROUP_KEY, 0, 0, NULL, false, {true, true, false}},
    {"group-fair", "group-fair value", POLICY_FLAG, 0, 0, NULL, false, {true, true, false}},
    {"queue-leader-locator", "queue leader locator value", POLICY_CHOICE, 0, 0, "client-local|balanced|random|least-leaders", false, {true, true, true}},
    {"initial-cluster-size", "cluster size", POLICY_NUMBER, 0, NO_LIMIT, NULL, false, {false, false, true}},
    {"stream-max-segment-size-bytes", "segment size", POLICY_NUMBER, 0, SEGMENT_BYTES_MAX, NULL, false, {false, false, true}},
    {"stream-filter-size-bytes", "filter size", POLICY_NUMBER, 16, 255, NULL, false, {false, false, true}},
    {"consumer-timeout", "consumer timeout", POLICY_NUMBER, 0, NO_LIMIT, NULL, false, {true, true, false}},
    {"dedup-window", "deduplication window", POLICY_NUMBER, 1, WINDOW_MAX_MS, NULL, true, {true, true, false}},
    {"dedup-max", "number of ids", POLICY_NUMBER, 1, SETTINGS_DEDUP_MAX, NULL, true, {true, true, false}},
    {"dedup-header", "header name", POLICY_TEXT, 0, 0, NULL, false, {true, true, false}},
    {"target-group-size", "target group size", POLICY_NUMBER, 1, NO_LIMIT, NULL, true, {false, true, false}},
    /* Mirrored queues were RabbitMQ's before 4.0: accepted, so that old definitions can be read, and without effect on one machine. */
    {"ha-mode", "ha-mode value", POLICY_CHOICE, 0, 0, "all|exactly|nodes", true, {true, false, false}},
    {"ha-params", "", POLICY_ANY, 0, 0, NULL, true, {true, false, false}},
    {"ha-sync-mode", "ha-sync-mode value", POLICY_CHOICE, 0, 0, "automatic|manual", true, {true, false, false}},
    {"ha-sync-batch-size", "ha-sync-batch-size value", POLICY_NUMBER, 1, NO_LIMIT, NULL, false, {true, false, false}},
    {"ha-promote-on-shutdown", "ha-promote-on-shutdown value", POLICY_CHOICE, 0, 0, "always|when-synced", false, {true, false, false}},
    {"ha-promote-on-failure", "ha-promote-on-failure value", POLICY_CHOICE, 0, 0, "always|when-synced", false, {true, false, false}},
    {"queue-master-locator", "queue master locator value", POLICY_CHOICE, 0, 0, "client-local|min-masters|random", false, {true, false, false}},
};

static const struct policy_row *policy_row_of(const char *key)
{
    for (unsigned i = 0; i < sizeof(policy_rows) / sizeof(policy_rows[0]); i++)
        if (strcmp(policy_rows[i].key, key) == 0)
            return &policy_rows[i];
    return NULL;
}

bool settings_policy_applies(struct bytes definition, enum queue_type type)
{
    json_t *object = load(definition);
    const char *key;
    json_t *value;
    bool applies = true;
    json_object_foreach (object, key, value) {
        const struct policy_row *row = policy_row_of(key);
        bool with_backoff = type == QUEUE_CLASSIC && strcmp(key, "delivery-limit") == 0 && json_object_get(object, "retry-backoff");
        applies &= !row || row->of[type] || with_backoff;
    }
    json_decref(object);
    return applies;
}

static bool is_choice(const char *choices, const char *text)
{
    size_t size = strlen(text);
    for (const char *at = choices; size; at = strchr(at, '|') + 1) {
        if (strncmp(at, text, size) == 0 && (at[size] == '|' || !at[size]))
            return true;
        if (!strchr(at, '|'))
            return false;
    }
    return false;
}

static bool policy_value_valid(const struct policy_row *row, const json_t *value)
{
    struct backoff backoff;
    uint64_t ms;
    unsigned where;
    switch (row->kind) {
    case POLICY_TEXT: return json_is_string(value);
    case POLICY_NUMBER: return json_is_integer(value) && json_integer_value(value) >= row->lowest && json_integer_value(value) <= row->highest;
    case POLICY_AGE: return json_is_string(value) && settings_parse_age(bytes_of(json_string_value(value), json_string_length(value)), &ms);
    case POLICY_FLAG: return json_is_boolean(value);
    case POLICY_GROUP_KEY: return json_is_string(value) && group_key_parse(bytes_of(json_string_value(value), json_string_length(value)), &where);
    case POLICY_CHOICE: return json_is_string(value) && is_choice(row->choices, json_string_value(value));
    case POLICY_BACKOFF: return backoff_of_json(value, &backoff, NULL, 0);
    default: return true;
    }
}

/* A JSON value as RabbitMQ's refusals show it: texts are Erlang binaries there. */
static void describe(const json_t *value, char *text, size_t room)
{
    if (json_is_string(value)) {
        snprintf(text, room, "<<\"%s\">>", json_string_value(value));
        return;
    }
    size_t size = json_dumpb(value, text, room - 1, JSON_ENCODE_ANY | JSON_COMPACT);
    if (size < room)
        text[size] = 0;
    else
        snprintf(text, room, "this");
}

bool settings_policy_valid(struct bytes definition, bool is_operator, char *why, size_t room)
{
    json_t *object = load(definition);
    if (!json_object_size(object)) {
        snprintf(why, room, object ? "no policy provided" : "definition must be a dictionary");
        json_decref(object);
        return false;
    }
    char unknown[400] = "", shown[200];
    size_t used = 0;
    const char *key;
    json_t *value;
    json_object_foreach (object, key, value) {
        const struct policy_row *row = policy_row_of(key);
        describe(value, shown, sizeof(shown));
        if (row && (row->for_operator || !is_operator) && !policy_value_valid(row, value)) {
            snprintf(why, room, "%s is not a valid %s", shown, row->noun);
            json_decref(object);
            return false;
        }
        if ((!row || (is_operator && !row->for_operator)) && used < sizeof(unknown))
            used += (size_t)snprintf(unknown + used, sizeof(unknown) - used, "%s{<<\"%s\">>,%s}", used ? "," : "", key, shown);
    }
    json_decref(object);
    if (used)
        snprintf(why, room, "[%s] are not recognised policy settings", unknown);
    return !used;
}
