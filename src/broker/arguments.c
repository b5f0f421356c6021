#include "broker/arguments.h"

#include "broker/group_key.h"
#include "broker/selector.h"
#include "protocol/amqp/table.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPIRY_MAX_MS 315360000000ll     /* ten years */
#define SEGMENT_BYTES_MAX 3000000000ll
#define PRIORITY_MAX 255
#define SHOWN_MAX 200                    /* bytes of a text in a refusal */

#define CLASSIC (1u << QUEUE_CLASSIC)
#define QUORUM (1u << QUEUE_QUORUM)
#define STREAM (1u << QUEUE_STREAM)
#define EVERY (CLASSIC | QUORUM | STREAM)

/* ---- values as RabbitMQ shows them -------------------------------------------------------------------------------------- */

/* The value alone; false: of a type that has no short form. */
static bool show(const struct amqp_field *field, char *text, size_t room)
{
    if (field->type == 'S' || field->type == 'x')
        snprintf(text, room, "%.*s", field->bytes.size > SHOWN_MAX ? SHOWN_MAX : (int)field->bytes.size, (const char *)field->bytes.data);
    else if (field->type == 't')
        snprintf(text, room, "%s", field->integer ? "true" : "false");
    else if (amqp_field_is_integer(field) || field->type == 'T')
        snprintf(text, room, "%lld", (long long)field->integer);
    else if (field->type == 'V')
        snprintf(text, room, "undefined");
    else
        return false;
    return true;
}

static void describe(bool present, const struct amqp_field *field, char *text, size_t room)
{
    char value[SHOWN_MAX + 8];
    if (!present)
        snprintf(text, room, "none");
    else if (show(field, value, sizeof(value)))
        snprintf(text, room, "the value '%s' of type '%s'", value, amqp_field_type_name(field->type));
    else
        snprintf(text, room, "a value of type '%s'", amqp_field_type_name(field->type));
}

/* ---- equivalence ------------------------------------------------------------------------------------------------------- */

/* What is compared, in RabbitMQ's order: that decides which difference a refusal names. */
static const char *const of_classic[] = {
    "x-expires", "x-message-ttl", "x-dead-letter-exchange", "x-dead-letter-routing-key", "x-max-length", "x-max-length-bytes", "x-max-priority", "x-overflow",
    "x-queue-mode", "x-queue-version", "x-single-active-consumer", "x-queue-type", "x-queue-master-locator", "x-consumer-timeout", "x-group-key", "x-group-fair",
    "x-dedup-window", "x-dedup-max", "x-dedup-header", "x-retry-backoff", "x-delivery-limit", NULL,
};
static const char *const of_quorum[] = {
    "x-dead-letter-exchange", "x-dead-letter-routing-key", "x-dead-letter-strategy", "x-expires", "x-max-length", "x-max-length-bytes",
    "x-max-in-memory-length", "x-max-in-memory-bytes", "x-overflow", "x-single-active-consumer", "x-queue-type", "x-quorum-initial-group-size",
    "x-delivery-limit", "x-message-ttl", "x-queue-leader-locator", "x-consumer-timeout", "x-group-key", "x-group-fair",
    "x-dedup-window", "x-dedup-max", "x-dedup-header", "x-retry-backoff", NULL,
};
static const char *const of_stream[] = {
    "x-max-length-bytes", "x-queue-type", "x-max-age", "x-stream-max-segment-size-bytes", "x-initial-cluster-size", "x-queue-leader-locator", NULL,
};
static const char *const *const of_queues[] = {of_classic, of_quorum, of_stream};
static const char *const of_exchange[] = {"alternate-exchange", NULL};

static bool same(const struct amqp_field *a, const struct amqp_field *b)
{
    if (amqp_field_is_integer(a) && amqp_field_is_integer(b))
        return a->integer == b->integer;
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case 't':
    case 'T': return a->integer == b->integer;
    case 'D': return a->integer == b->integer && a->scale == b->scale;
    case 'f':
    case 'd': return a->real == b->real || a->integer == b->integer;   /* what is no number is the same as itself */
    case 'V': return true;
    default: return bytes_equal(a->bytes, b->bytes);
    }
}

/* Clients write the same times in many ways. */
static bool same_backoff(const struct amqp_field *a, const struct amqp_field *b)
{
    struct backoff x, y;
    return backoff_of_field(a, &x, NULL, 0) && backoff_of_field(b, &y, NULL, 0) && backoff_equal(&x, &y);
}

/* A classic queue need not say that it is one. */
static bool says_classic(const char *name, bool had, const struct amqp_field *before, bool has, const struct amqp_field *now)
{
    const struct amqp_field *said = had ? before : now;
    return had != has && strcmp(name, "x-queue-type") == 0 && said->type == 'S' && bytes_equal(said->bytes, bytes_of_text("classic"));
}

static void tell_difference(const char *name, const char *what, bool had, const struct amqp_field *before, bool has, const struct amqp_field *now,
                            char *difference, size_t room)
{
    char before_text[SHOWN_MAX + 64], now_text[SHOWN_MAX + 64], before_value[SHOWN_MAX + 8], now_value[SHOWN_MAX + 8];
    if (had && has && now->type == 'V') {
        snprintf(now_text, sizeof(now_text), "none");
        snprintf(before_text, sizeof(before_text), "'%s'", show(before, before_value, sizeof(before_value)) ? before_value : "");
    } else if (had && has && show(before, before_value, sizeof(before_value)) && show(now, now_value, sizeof(now_value))) {
        snprintf(before_text, sizeof(before_text), "'%s'", before_value);   /* where both are there, RabbitMQ does not name the types */
        snprintf(now_text, sizeof(now_text), "'%s'", now_value);
    } else {
        describe(had, before, before_text, sizeof(before_text));
        describe(has, now, now_text, sizeof(now_text));
    }
    snprintf(difference, room, "'%s' for %s: received %s but current is %s", name, what, now_text, before_text);
}

bool arguments_equivalent(struct bytes current, struct bytes received, enum arguments_of of, const char *what, char *difference, size_t room)
{
    const char *const *names = of == ARGUMENTS_OF_QUEUE ? of_queues[settings_queue_type(current)] : of_exchange;
    for (const char *const *name = names; *name; name++) {
        struct amqp_field before = {0}, now = {0};
        bool had = amqp_table_find(current, *name, &before), has = amqp_table_find(received, *name, &now);
        if ((had == has && (!had || same(&before, &now))) || says_classic(*name, had, &before, has, &now))
            continue;
        if (had && has && strcmp(*name, "x-retry-backoff") == 0 && same_backoff(&before, &now))
            continue;
        tell_difference(*name, what, had, &before, has, &now, difference, room);
        return false;
    }
    return true;
}

/* ---- one argument ------------------------------------------------------------------------------------------------------- */

enum check {
    CHECK_NOTHING, CHECK_EXPIRES, CHECK_TTL, CHECK_TEXT, CHECK_DEAD_LETTER_KEY, CHECK_NUMBER, CHECK_POSITIVE, CHECK_PRIORITY, CHECK_INTEGER, CHECK_BOOL, CHECK_VERSION,
    CHECK_AGE, CHECK_MODE, CHECK_STRATEGY, CHECK_OVERFLOW, CHECK_LOCATOR, CHECK_TYPE, CHECK_GROUP_KEY, CHECK_GROUP_FAIR, CHECK_IDS, CHECK_FILTER,
    CHECK_BACKOFF,
};

struct argument {
    const char *name;
    enum check check;
    unsigned types;              /* of queues that have it: CLASSIC, … */
};

/* In the order in which RabbitMQ checks them. */
static const struct argument of_queue[] = {
    {"x-expires", CHECK_EXPIRES, CLASSIC | QUORUM},
    {"x-message-ttl", CHECK_TTL, CLASSIC | QUORUM},
    {"x-dead-letter-exchange", CHECK_TEXT, CLASSIC | QUORUM},
    {"x-dead-letter-routing-key", CHECK_DEAD_LETTER_KEY, CLASSIC | QUORUM},
    {"x-dead-letter-strategy", CHECK_STRATEGY, QUORUM},
    {"x-max-length", CHECK_NUMBER, CLASSIC | QUORUM},
    {"x-max-length-bytes", CHECK_NUMBER, EVERY},
    {"x-max-in-memory-length", CHECK_NUMBER, QUORUM},
    {"x-max-in-memory-bytes", CHECK_NUMBER, QUORUM},
    {"x-max-priority", CHECK_PRIORITY, CLASSIC},
    {"x-overflow", CHECK_OVERFLOW, CLASSIC | QUORUM},
    {"x-queue-mode", CHECK_MODE, CLASSIC},
    {"x-queue-version", CHECK_VERSION, CLASSIC},
    {"x-single-active-consumer", CHECK_BOOL, CLASSIC | QUORUM},
    {"x-consumer-timeout", CHECK_NUMBER, EVERY},
    {"x-quorum-initial-group-size", CHECK_POSITIVE, QUORUM},
    {"x-max-age", CHECK_AGE, STREAM},
    {"x-stream-max-segment-size-bytes", CHECK_NUMBER, STREAM},
    {"x-stream-filter-size-bytes", CHECK_NUMBER, EVERY},
    {"x-initial-cluster-size", CHECK_POSITIVE, STREAM},
    {"x-queue-leader-locator", CHECK_LOCATOR, EVERY},
    {"x-retry-backoff", CHECK_BACKOFF, CLASSIC | QUORUM},
    {"x-delivery-limit", CHECK_NOTHING, QUORUM},
    {"x-queue-master-locator", CHECK_NOTHING, CLASSIC},
    {"x-group-key", CHECK_GROUP_KEY, CLASSIC | QUORUM},
    {"x-group-fair", CHECK_GROUP_FAIR, CLASSIC | QUORUM},
    {"x-dedup-window", CHECK_EXPIRES, CLASSIC | QUORUM},
    {"x-dedup-max", CHECK_IDS, CLASSIC | QUORUM},
    {"x-dedup-header", CHECK_TEXT, CLASSIC | QUORUM},
    {NULL, CHECK_NOTHING, 0},
};
static const struct argument of_consumer[] = {
    {"x-priority", CHECK_INTEGER, CLASSIC | QUORUM},
    {"x-cancel-on-ha-failover", CHECK_BOOL, CLASSIC},
    {"x-stream-offset", CHECK_NOTHING, STREAM},
    {"x-filter", CHECK_FILTER, EVERY},
    {NULL, CHECK_NOTHING, 0},
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

static bool is_integer(const struct amqp_field *field, char *why, size_t room)
{
    return amqp_field_is_integer(field) || refuse(why, room, "\"expected integer, got %s\"", amqp_field_type_name(field->type));
}

static bool is_text(const struct amqp_field *field, char *why, size_t room)
{
    return field->type == 'S' || refuse(why, room, "{unacceptable_type,%s}", amqp_field_type_name(field->type));
}

static bool is_one_of(const struct amqp_field *field, const char *const *texts)
{
    for (; *texts; texts++)
        if (bytes_equal(field->bytes, bytes_of_text(*texts)))
            return true;
    return false;
}

/* An integer within the limits of its kind. */
static bool number_valid(const struct amqp_field *field, enum check check, char *why, size_t room)
{
    if (!is_integer(field, why, room))
        return false;
    long long value = field->integer;
    if (check == CHECK_INTEGER)
        return true;
    if (value < 0)
        return refuse(why, room, "{value_negative,%lld}", value);
    if (!value && (check == CHECK_EXPIRES || check == CHECK_POSITIVE || check == CHECK_IDS))
        return refuse(why, room, "{value_zero,0}");
    if (value > EXPIRY_MAX_MS && (check == CHECK_EXPIRES || check == CHECK_TTL))
        return refuse(why, room, "{value_too_large,%lld}", value);
    if ((value > PRIORITY_MAX && check == CHECK_PRIORITY) || (value > SETTINGS_DEDUP_MAX && check == CHECK_IDS))
        return refuse(why, room, "{max_value_exceeded,%lld}", value);
    if ((value < 1 || value > 2) && check == CHECK_VERSION)
        return refuse(why, room, "\"unsupported queue version '%lld'\"", value);
    return true;
}

/* A text of those that its kind knows. */
static bool text_valid(const struct amqp_field *field, enum check check, struct bytes arguments, char *why, size_t room)
{
    static const char *const overflows[] = {"drop-head", "reject-publish", "reject-publish-dlx", NULL};
    static const char *const strategies[] = {"at-most-once", "at-least-once", NULL};
    static const char *const modes[] = {"default", "lazy", NULL};
    static const char *const locators[] = {"client-local", "balanced", "random", "least-leaders", NULL};
    static const char *const types[] = {"classic", "quorum", "stream", NULL};
    if (!is_text(field, why, room))
        return false;
    int size = field->bytes.size > SHOWN_MAX ? SHOWN_MAX : (int)field->bytes.size;
    const char *shown = (const char *)field->bytes.data;
    struct amqp_field other;
    uint64_t ms;
    unsigned where;
    switch (check) {
    case CHECK_DEAD_LETTER_KEY: return amqp_table_find(arguments, "x-dead-letter-exchange", &other) || refuse(why, room, "routing_key_but_no_dlx_defined");
    case CHECK_AGE: return settings_parse_age(field->bytes, &ms) || refuse(why, room, "invalid_max_age");
    case CHECK_STRATEGY: return is_one_of(field, strategies) || refuse(why, room, "invalid_dlx_strategy");
    case CHECK_OVERFLOW: return is_one_of(field, overflows) || refuse(why, room, "invalid_overflow");
    case CHECK_LOCATOR: return is_one_of(field, locators) || refuse(why, room, "invalid_queue_locator_arg");
    case CHECK_MODE: return is_one_of(field, modes) || refuse(why, room, "\"unsupported queue mode '%.*s'\"", size, shown);
    case CHECK_GROUP_KEY:
        if (amqp_table_find(arguments, "x-max-priority", &other))
            return refuse(why, room, "\"a queue has groups or priorities, not both\"");
        return group_key_parse(field->bytes, &where) || refuse(why, room, "\"unsupported group key '%.*s'\"", size, shown);
    case CHECK_TYPE: return is_one_of(field, types) || refuse(why, room, "\"unsupported queue type '%.*s'\"", size, shown);
    default: return true;
    }
}

static bool fair_valid(const struct amqp_field *field, struct bytes arguments, char *why, size_t room)
{
    struct amqp_field key;
    if (field->type != 't')
        return refuse(why, room, "{unacceptable_type,%s}", amqp_field_type_name(field->type));
    return amqp_table_find(arguments, "x-group-key", &key) || refuse(why, room, "group_fair_but_no_group_key_defined");
}

/* Which messages a consumer wants. */
static bool filter_valid(const struct amqp_field *field, char *why, size_t room)
{
    struct selector *selector = NULL;
    if (field->type != 'S' && field->type != 'F')
        return refuse(why, room, "{unacceptable_type,%s}", amqp_field_type_name(field->type));
    enum gw_err err = selector_of_field(field, &selector, why, room);
    selector_free(selector);
    return !err || err == GW_ERR_NOMEM;   /* without memory it is refused later, for that */
}

static bool value_valid(const struct amqp_field *field, enum check check, struct bytes arguments, char *why, size_t room)
{
    struct backoff backoff;
    switch (check) {
    case CHECK_NOTHING: return true;
    case CHECK_BACKOFF: return backoff_of_field(field, &backoff, why, room);
    case CHECK_BOOL: return field->type == 't' || refuse(why, room, "{unacceptable_type,%s}", amqp_field_type_name(field->type));
    case CHECK_GROUP_FAIR: return fair_valid(field, arguments, why, room);
    case CHECK_EXPIRES:
    case CHECK_TTL:
    case CHECK_NUMBER:
    case CHECK_POSITIVE:
    case CHECK_PRIORITY:
    case CHECK_IDS:
    case CHECK_INTEGER:
    case CHECK_VERSION: return number_valid(field, check, why, room);
    case CHECK_FILTER: return filter_valid(field, why, room);
    default: return text_valid(field, check, arguments, why, room);
    }
}

static bool argument_valid(const struct argument *argument, struct bytes arguments, const char *what, char *why, size_t room)
{
    struct amqp_field field;
    char wrong[SHOWN_MAX + 64];
    if (!amqp_table_find(arguments, argument->name, &field) || value_valid(&field, argument->check, arguments, wrong, sizeof(wrong)))
        return true;
    return refuse(why, room, "invalid arg '%s' for %s: %s", argument->name, what, wrong);
}

/* ---- all of them --------------------------------------------------------------------------------------------------------- */

static const struct argument *find_argument(const struct argument *known, struct bytes name)
{
    for (; known->name; known++)
        if (bytes_equal(name, bytes_of_text(known->name)))
            return known;
    return NULL;
}

/* Where messages wait before they come back, a classic queue may limit how often they do. */
static bool is_limit_of_retries(const struct argument *argument, enum queue_type type, struct bytes arguments)
{
    struct amqp_field backoff;
    return type == QUEUE_CLASSIC && strcmp(argument->name, "x-delivery-limit") == 0 && amqp_table_find(arguments, "x-retry-backoff", &backoff);
}

/* First the values of those that the type has, then whether there are others: so RabbitMQ. */
static bool all_valid(struct bytes arguments, const struct argument *known, enum queue_type type, const char *what, char *why, size_t room)
{
    for (const struct argument *argument = known; argument->name; argument++)
        if ((argument->types & 1u << type) && !argument_valid(argument, arguments, what, why, room))
            return false;
    struct amqp_field field;
    for (struct bytes rest = arguments; amqp_table_next(&rest, &field) == WIRE_OK;) {
        const struct argument *argument = find_argument(known, field.name);
        if (!argument || (argument->types & 1u << type))
            continue;
        if (!is_limit_of_retries(argument, type, arguments))
            return refuse(why, room, "invalid arg '%s' for %s of queue type rabbit_%s_queue", argument->name, what, queue_type_name(type));
        const struct argument limit = {argument->name, CHECK_INTEGER, CLASSIC};
        if (!argument_valid(&limit, arguments, what, why, room))
            return false;
    }
    return true;
}

/* Quorum queues and streams are for good, and for all. */
static const char *wrong_property(const struct queue_declaration *declaration)
{
    return declaration->auto_delete ? "auto-delete" : declaration->exclusive ? "exclusive-owner" : declaration->durable ? NULL : "non-durable";
}

bool arguments_valid(const struct queue_declaration *declaration, const char *what, char *why, size_t room)
{
    static const struct argument of_type = {"x-queue-type", CHECK_TYPE, EVERY};
    struct bytes arguments = declaration->arguments;
    struct amqp_field field;
    if (amqp_table_find(arguments, "x-dead-letter-exchange", &field) && field.type != 'S')
        return refuse(why, room, "invalid type '%s' for arg 'x-dead-letter-exchange' in %s", amqp_field_type_name(field.type), what);
    if (!argument_valid(&of_type, arguments, what, why, room))
        return false;
    enum queue_type type = settings_queue_type(arguments);
    if (!all_valid(arguments, of_queue, type, what, why, room))
        return false;
    if (type != QUEUE_CLASSIC && wrong_property(declaration))
        return refuse(why, room, "invalid property '%s' for %s", wrong_property(declaration), what);
    if (type == QUEUE_STREAM && amqp_table_find(arguments, "x-stream-max-segment-size-bytes", &field) && field.integer > SEGMENT_BYTES_MAX)
        return refuse(why, room, "Exceeded max value for x-stream-max-segment-size-bytes");
    return true;
}

bool arguments_allow_generated_name(struct bytes arguments, char *why, size_t room)
{
    enum queue_type type = settings_queue_type(arguments);
    return type == QUEUE_CLASSIC || refuse(why, room, "Cannot declare a server-named queue for type rabbit_%s_queue", queue_type_name(type));
}

bool arguments_valid_for_consumer(struct bytes arguments, enum queue_type type, const char *what, char *why, size_t room)
{
    return all_valid(arguments, of_consumer, type, what, why, room);
}

struct bytes arguments_with_default_type(const struct queue_declaration *declaration, struct bytes name, uint8_t *room)
{
    static const char key[] = "x-queue-type";
    struct bytes arguments = declaration->arguments;
    struct amqp_field field;
    enum queue_type type;
    if (!queue_type_parse(name, &type) || amqp_table_find(arguments, key, &field) || (type != QUEUE_CLASSIC && wrong_property(declaration)))
        return arguments;
    uint8_t *at = room;
    *at++ = sizeof(key) - 1;
    memcpy(at, key, sizeof(key) - 1);
    at += sizeof(key) - 1;
    *at++ = 'S';
    store_be32(at, (uint32_t)name.size);
    memcpy(at + 4, name.data, name.size);
    at += 4 + name.size;
    if (arguments.size)
        memcpy(at, arguments.data, arguments.size);
    return bytes_of(room, (size_t)(at - room) + arguments.size);
}

/* ---- order ----------------------------------------------------------------------------------------------------------- */

struct span {
    struct bytes name, bytes;   /* the whole field; those of equal names keep their order */
};

static int by_name(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    size_t least = x->name.size < y->name.size ? x->name.size : y->name.size;
    int order = least ? memcmp(x->name.data, y->name.data, least) : 0;
    if (!order)
        order = (x->name.size > y->name.size) - (x->name.size < y->name.size);
    return order ? order : (x->bytes.data > y->bytes.data) - (x->bytes.data < y->bytes.data);
}

struct bytes arguments_in_order(struct bytes arguments, uint8_t **sorted)
{
    struct amqp_field field;
    struct span before = {0}, *spans;
    size_t count = 0, i = 0;
    bool ordered = true;
    *sorted = NULL;
    for (struct bytes rest = arguments, from = rest; amqp_table_next(&rest, &field) == WIRE_OK; from = rest, count++) {
        struct span span = {field.name, bytes_of(from.data, from.size - rest.size)};
        ordered &= !count || by_name(&before, &span) <= 0;
        before = span;
    }
    spans = ordered ? NULL : malloc(count * sizeof(*spans));
    *sorted = spans ? malloc(arguments.size) : NULL;
    if (!*sorted) {
        free(spans);
        return arguments;
    }
    for (struct bytes rest = arguments, from = rest; i < count && amqp_table_next(&rest, &field) == WIRE_OK; from = rest, i++)
        spans[i] = (struct span){field.name, bytes_of(from.data, from.size - rest.size)};
    qsort(spans, count, sizeof(*spans), by_name);
    uint8_t *at = *sorted;
    for (i = 0; i < count; i++) {
        memcpy(at, spans[i].bytes.data, spans[i].bytes.size);
        at += spans[i].bytes.size;
    }
    free(spans);
    return bytes_of(*sorted, (size_t)(at - *sorted));
}
