#include "protocol/amqp/sink_uri.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool wrong(char why[SINK_URI_WHY_MAX], const char *what)
{
    snprintf(why, SINK_URI_WHY_MAX, "The URI is not understood: %s.", what);
    return false;
}

bool sink_uri_is(const char *text) { return strncasecmp(text, "amqp://", 7) == 0 || strncasecmp(text, "amqps://", 8) == 0; }

static bool is_named(const char *parameter, size_t size, const char *name) { return strlen(name) == size && memcmp(parameter, name, size) == 0; }

/* One parameter, NAME=VALUE. *is_ours: it says where at the broker, and nothing of the connection. */
static bool read_parameter(struct sink_uri *sink, const char *text, size_t size, bool *is_ours, char why[SINK_URI_WHY_MAX])
{
    const char *equals = memchr(text, '=', size), *value = equals ? equals + 1 : text + size;
    size_t name_size = equals ? (size_t)(equals - text) : size, value_size = (size_t)(text + size - value);
    *is_ours = true;
    if (is_named(text, name_size, "exchange"))
        return uri_decode(sink->exchange, value, value_size) || wrong(why, "its exchange is malformed or too long");
    if (is_named(text, name_size, "routing_key")) {
        sink->has_routing_key = true;
        return uri_decode(sink->routing_key, value, value_size) || wrong(why, "its routing_key is malformed or too long");
    }
    if (is_named(text, name_size, "mandatory")) {
        sink->is_mandatory = is_named(value, value_size, "true");
        return sink->is_mandatory || is_named(value, value_size, "false") || wrong(why, "mandatory is true or false");
    }
    *is_ours = false;
    if (is_named(text, name_size, "cacertfile"))
        return wrong(why, "cacertfile is no part of a sink; webhook_ca in the broker's configuration names the authorities");
    return is_named(text, name_size, "heartbeat") || is_named(text, name_size, "connection_timeout") || is_named(text, name_size, "verify") ||
           wrong(why, "only the parameters exchange, routing_key, mandatory, heartbeat, connection_timeout and verify are known");
}

bool sink_uri_read(const char *text, struct sink_uri *sink, char why[SINK_URI_WHY_MAX])
{
    char rest[SINK_URI_SIZE_MAX + 1];
    const char *query = strchr(text, '?'), *complaint;
    size_t size = strlen(text), at = query ? (size_t)(query - text) : size;
    *sink = (struct sink_uri){.exchange = SINK_URI_EXCHANGE, .is_mandatory = true};
    if (size > SINK_URI_SIZE_MAX)
        return wrong(why, "it is longer than 2048 bytes");
    for (size_t i = 0; i < size; i++)
        if (text[i] <= ' ' || text[i] > '~' || text[i] == '\\' || text[i] == '#')
            return wrong(why, "it has a space, a control, a backslash, a fragment or a byte that is not ASCII in it");
    if (!sink_uri_is(text))
        return wrong(why, "it does not begin with amqp:// or amqps://");
    memcpy(rest, text, at);
    for (char before = '?'; query && query[1];) {
        const char *parameter = query + 1;
        size_t length = strcspn(parameter, "&");
        bool is_ours;
        query = parameter[length] ? parameter + length : NULL;
        if (!read_parameter(sink, parameter, length, &is_ours, why))
            return false;
        if (is_ours)
            continue;
        rest[at++] = before;
        memcpy(rest + at, parameter, length);
        at += length;
        before = '&';
    }
    rest[at] = 0;
    if (uri_parse(&sink->uri, rest, &complaint) != GW_OK)
        return wrong(why, complaint);
    const char *host = strstr(rest, "://") + 3, *end = host + strcspn(host, "/?");
    for (const char *c = host; c < end; c++)
        host = *c == '@' ? c + 1 : host;
    if (host == end || *host == ':')
        return wrong(why, "it has no host");
    if (!sink->exchange[0] && !sink->has_routing_key)
        return wrong(why, "the default exchange needs a routing_key, the name of a queue");
    return true;
}
