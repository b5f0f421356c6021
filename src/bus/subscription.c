#include "bus/subscription.h"

#include "broker/backoff.h"
#include "bus/event_type.h"
#include "bus/filter_text.h"
#include "protocol/amqp/table.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXT_MAX 255u

__attribute__((format(printf, 2, 3)))
static bool wrong(char why[SUBSCRIPTION_WHY_MAX], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, SUBSCRIPTION_WHY_MAX, format, arguments);
    va_end(arguments);
    return false;
}

void subscription_queue(const char *id, bool dead, char name[SUBSCRIPTION_QUEUE_MAX])
{
    snprintf(name, SUBSCRIPTION_QUEUE_MAX, "subscription.%.*s%s", (int)SUBSCRIPTION_ID_MAX, id, dead ? ".dead" : "");
}

struct bytes subscription_arguments(const struct subscription *s, uint8_t room[SUBSCRIPTION_ARGUMENTS_SIZE])
{
    char dead_queue[SUBSCRIPTION_QUEUE_MAX], key[SUBSCRIPTION_ID_MAX + 16];
    struct amqp_table_writer writer;
    struct bytes arguments;
    subscription_queue(s->id, true, dead_queue);
    amqp_table_begin(&writer, room, SUBSCRIPTION_ARGUMENTS_SIZE);
    amqp_table_put_text(&writer, "x-retry-backoff", bytes_of_text(s->retry));
    amqp_table_put_long(&writer, "x-delivery-limit", s->attempts - 1);
    amqp_table_put_text(&writer, "x-dead-letter-exchange", bytes_of_text(""));
    amqp_table_put_text(&writer, "x-dead-letter-routing-key", bytes_of_text(dead_queue));
    /* All events are of one version: with that as the key they are one group. */
    snprintf(key, sizeof(key), "cloudEvents_%s", s->order && strcmp(s->order, "*") != 0 ? s->order : "specversion");
    if (s->order)
        amqp_table_put_text(&writer, "x-group-key", bytes_of_text(key));
    CHECK(amqp_table_finish(&writer, &arguments));
    return arguments;
}

bool subscription_id_is_possible(const char *id)
{
    size_t size = strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");
    return size > 0 && size <= SUBSCRIPTION_ID_MAX && !id[size];
}

bool subscription_has_type(const struct subscription *s, struct bytes type)
{
    for (unsigned i = 0; i < s->type_count; i++)
        if (event_type_fits(type, bytes_of_text(s->types[i])))
            return true;
    return false;
}

/* The text of that name, or NULL when it is not there. False: it is something else. */
static bool text_of(const json_t *object, const char *name, size_t most, const char **text, char why[SUBSCRIPTION_WHY_MAX])
{
    const json_t *value = json_object_get(object, name);
    *text = json_is_string(value) ? json_string_value(value) : NULL;
    if (!value || (*text && (*text)[0] && json_string_length(value) <= most))
        return true;
    return wrong(why, "The subscription's %s must be a text of 1 to %zu bytes.", name, most);
}

static bool number_of(const json_t *object, const char *name, unsigned least, unsigned most, unsigned *number, char why[SUBSCRIPTION_WHY_MAX])
{
    const json_t *value = json_object_get(object, name);
    if (!value)
        return true;
    if (!json_is_integer(value) || json_integer_value(value) < (json_int_t)least || json_integer_value(value) > (json_int_t)most)
        return wrong(why, "The subscription's %s must be a whole number from %u to %u.", name, least, most);
    *number = (unsigned)json_integer_value(value);
    return true;
}

static bool flag_of(const json_t *object, const char *name, bool *flag, char why[SUBSCRIPTION_WHY_MAX])
{
    const json_t *value = json_object_get(object, name);
    if (value && !json_is_boolean(value))
        return wrong(why, "The subscription's %s must be true or false.", name);
    *flag = json_is_true(value);
    return true;
}

/* Nothing but these names, up to NULL. */
static bool has_only(const json_t *object, const char *const *names, char why[SUBSCRIPTION_WHY_MAX])
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, name, value) {
        unsigned i = 0;
        while (names[i] && strcmp(names[i], name) != 0)
            i++;
        if (!names[i])
            return wrong(why, "A subscription has no '%.60s'.", name);
    }
    return true;
}

static bool read_types(struct subscription *s, char why[SUBSCRIPTION_WHY_MAX])
{
    const json_t *types = json_object_get(s->root, "types");
    if (!json_is_array(types) || !json_array_size(types) || json_array_size(types) > SUBSCRIPTION_TYPES_MAX)
        return wrong(why, "The subscription's types must be an array of 1 to %u texts, such as order.created, order.* or #.", SUBSCRIPTION_TYPES_MAX);
    for (size_t i = 0; i < json_array_size(types); i++) {
        const json_t *type = json_array_get(types, i);
        if (!json_is_string(type) || !json_string_length(type) || json_string_length(type) > TEXT_MAX)
            return wrong(why, "The subscription's types must be texts of 1 to %u bytes.", TEXT_MAX);
        s->types[s->type_count++] = json_string_value(type);
    }
    return true;
}

static bool read_secrets(struct subscription *s, const json_t *config, char why[SUBSCRIPTION_WHY_MAX])
{
    const json_t *secrets = json_object_get(config, "secrets");
    if (!secrets)
        return true;
    if (!json_is_array(secrets) || json_array_size(secrets) > SECRETS_MAX)
        return wrong(why, "The subscription's secrets must be an array of at most %u.", SECRETS_MAX);
    for (size_t i = 0; i < json_array_size(secrets); i++) {
        const json_t *secret = json_array_get(secrets, i);
        if (!json_is_string(secret) || !webhook_secret_read(bytes_of(json_string_value(secret), json_string_length(secret)), &s->secrets[s->secret_count]))
            return wrong(why, "A secret is whsec_ and %u to %u bytes in base64.", SECRET_KEY_MIN, SECRET_KEY_MAX);
        s->secret_count++;
    }
    return true;
}

static bool read_config(struct subscription *s, char why[SUBSCRIPTION_WHY_MAX])
{
    static const char *const names[] = {"secrets", "concurrency", "timeout", "retry", "attempts", "order", "origin", "mode", NULL};
    const char *mode;
    const json_t *config = json_object_get(s->root, "config");
    struct backoff backoff;
    char fault[256];
    unsigned timeout_s = SUBSCRIPTION_TIMEOUT_S;
    if (config && !json_is_object(config))
        return wrong(why, "The subscription's config must be an object.");
    if (!has_only(config, names, why) || !read_secrets(s, config, why) || !number_of(config, "concurrency", 1, SUBSCRIPTION_CONCURRENCY_MAX, &s->concurrency, why) ||
        !number_of(config, "timeout", 1, 300, &timeout_s, why) || !number_of(config, "attempts", 1, SUBSCRIPTION_ATTEMPTS_MAX, &s->attempts, why) ||
        !text_of(config, "retry", 1024, &s->retry, why) || !text_of(config, "order", SUBSCRIPTION_ID_MAX, &s->order, why) || !text_of(config, "origin", URL_HOST_MAX, &s->origin, why) ||
        !text_of(config, "mode", SUBSCRIPTION_ID_MAX, &mode, why))
        return false;
    s->is_structured = mode && strcmp(mode, "structured") == 0;
    if (mode && !s->is_structured && strcmp(mode, "binary") != 0)
        return wrong(why, "The subscription's mode must be binary or structured.");
    s->timeout_ms = timeout_s * 1000u;
    s->retry = s->retry ? s->retry : SUBSCRIPTION_RETRY;
    if (!backoff_of_text(bytes_of_text(s->retry), &backoff, fault, sizeof(fault)))
        return wrong(why, "The subscription's retry is %s.", fault);
    if (s->origin && s->origin[strspn(s->origin, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:")])
        return wrong(why, "The subscription's origin must be a host, such as shop.example.");
    if (s->order && strcmp(s->order, "*") != 0 && s->order[strspn(s->order, "abcdefghijklmnopqrstuvwxyz0123456789")])
        return wrong(why, "The subscription's order must be the name of an attribute, or *.");
    return true;
}

static bool read_filters(struct subscription *s, char why[SUBSCRIPTION_WHY_MAX])
{
    char text[SELECTOR_SIZE_MAX + 1], fault[256];
    const char *source;
    if (!text_of(s->root, "source", SELECTOR_SIZE_MAX, &source, why) || !filter_text(json_object_get(s->root, "filters"), source, text, why, SUBSCRIPTION_WHY_MAX))
        return false;
    if (!text[0])
        return true;
    enum gw_err err = selector_compile(bytes_of_text(text), &s->selector, fault, sizeof(fault));
    if (err)
        s->selector = NULL;
    return !err || wrong(why, "The subscription's filters: %s", err == GW_ERR_NOMEM ? "out of memory" : fault);
}

/* Another broker: its host is judged as that of a URL is. */
static bool read_broker(struct subscription *s, char why[SUBSCRIPTION_WHY_MAX])
{
    struct sink_uri sink;
    char fault[URL_WHY_MAX], url[URI_PART_MAX + 32];
    if (!sink_uri_read(s->sink, &sink, fault))
        return wrong(why, "The subscription's sink cannot be published at. %s", fault);
    snprintf(url, sizeof(url), strchr(sink.uri.host, ':') ? "%s://[%s]:%u" : "%s://%s:%u", sink.uri.tls ? "https" : "http", sink.uri.host, sink.uri.port);
    if (!sink_url_read(bytes_of_text(url), &s->url, fault))
        return wrong(why, "The subscription's sink cannot be published at. %s", fault);
    s->url.target = (struct bytes){0};
    if (s->origin || s->is_structured)
        return wrong(why, "The subscription's %s is for sinks that are posted to.", s->origin ? "origin" : "mode");
    if (!json_object_get(json_object_get(s->root, "config"), "concurrency"))
        s->concurrency = SUBSCRIPTION_CONCURRENCY_AMQP;
    s->broker = malloc(sizeof(*s->broker));
    if (!s->broker)
        return wrong(why, "There is too little memory.");
    *s->broker = sink;
    return true;
}

bool subscription_read(struct subscription *s, json_t *root, char why[SUBSCRIPTION_WHY_MAX])
{
    static const char *const names[] = {"id", "owner", "types", "source", "filters", "sink", "protocol", "config", "paused", "ended", "local", "made", "governs", NULL};
    const char *protocol;
    char fault[URL_WHY_MAX];
    *s = (struct subscription){.root = root, .concurrency = SUBSCRIPTION_CONCURRENCY, .attempts = SUBSCRIPTION_ATTEMPTS};
    if (!json_is_object(root))
        return wrong(why, "A subscription must be a JSON object.");
    if (!has_only(root, names, why) || !text_of(root, "id", SUBSCRIPTION_ID_MAX, &s->id, why) || !text_of(root, "owner", TEXT_MAX, &s->owner, why) ||
        !text_of(root, "sink", URL_SIZE_MAX, &s->sink, why) || !text_of(root, "protocol", TEXT_MAX, &protocol, why) || !text_of(root, "ended", TEXT_MAX, &s->ended, why) ||
        !flag_of(root, "paused", &s->paused, why) || !flag_of(root, "local", &s->local, why) || !flag_of(root, "governs", &s->governs, why) || !read_types(s, why) || !read_config(s, why))
        return false;
    if (!s->id || !subscription_id_is_possible(s->id))
        return wrong(why, "The subscription's id must be 1 to %u letters, digits, dots, dashes and underscores.", SUBSCRIPTION_ID_MAX);
    if (!s->owner || !s->sink)
        return wrong(why, "The subscription's %s is missing.", s->sink ? "owner" : "sink");
    bool is_broker = sink_uri_is(s->sink);
    if (protocol && strcmp(protocol, is_broker ? "AMQP" : "HTTP") != 0)
        return wrong(why, "The subscription's protocol must be %s.", is_broker ? "AMQP, as its sink is" : "HTTP");
    if (!is_broker && !sink_url_read(bytes_of_text(s->sink), &s->url, fault))
        return wrong(why, "The subscription's sink cannot be posted to. %s", fault);
    if (is_broker && !read_broker(s, why))
        return false;
    if (!read_filters(s, why)) {
        free(s->broker);
        return false;
    }
    json_incref(root);
    return true;
}

void subscription_deinit(struct subscription *s)
{
    selector_free(s->selector);
    free(s->broker);
    json_decref(s->root);
    *s = (struct subscription){0};
}
