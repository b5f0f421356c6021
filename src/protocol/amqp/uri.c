#include "protocol/amqp/uri.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define DEFAULT_PORT 5672
#define DEFAULT_TLS_PORT 5671
#define DEFAULT_HEARTBEAT_S 60
#define DEFAULT_TIMEOUT_MS 10000

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool uri_decode(char part[URI_PART_MAX + 1], const char *text, size_t size)
{
    size_t length = 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (c == '%') {
            if (i + 2 >= size || hex_digit(text[i + 1]) < 0 || hex_digit(text[i + 2]) < 0)
                return false;
            c = (char)(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
            i += 2;
        }
        if (c == '\0' || length == URI_PART_MAX)
            return false;
        part[length++] = c;
    }
    part[length] = '\0';
    return true;
}

static bool number(const char *text, size_t size, uint32_t maximum, uint32_t *value)
{
    uint64_t sum = 0;
    if (size == 0 || size > 10)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        sum = sum * 10 + (uint64_t)(text[i] - '0');
    }
    if (sum > maximum)
        return false;
    *value = (uint32_t)sum;
    return true;
}

static const char *parse_host(struct uri *uri, const char *text, size_t size)
{
    const char *end = text + size;
    const char *host_end;
    if (size > 0 && text[0] == '[') {
        host_end = memchr(text, ']', size);
        if (!host_end)
            return "an IPv6 address needs its closing bracket";
        if (!uri_decode(uri->host, text + 1, (size_t)(host_end - text) - 1) || uri->host[0] == '\0')
            return "the host is malformed";
        host_end++;
    } else {
        host_end = memchr(text, ':', size);
        if (!host_end)
            host_end = end;
        if (host_end > text && !uri_decode(uri->host, text, (size_t)(host_end - text)))
            return "the host is malformed or too long";
    }
    if (host_end == end)
        return NULL;
    uint32_t port;
    if (*host_end != ':' || !number(host_end + 1, (size_t)(end - host_end) - 1, 65535, &port) || port == 0)
        return "the port is not a number from 1 to 65535";
    uri->port = (uint16_t)port;
    return NULL;
}

static const char *parse_user(struct uri *uri, const char *text, size_t size)
{
    const char *colon = memchr(text, ':', size);
    size_t user_size = colon ? (size_t)(colon - text) : size;
    if (!uri_decode(uri->user, text, user_size))
        return "the user is malformed or too long";
    if (colon && !uri_decode(uri->password, colon + 1, size - user_size - 1))
        return "the password is malformed or too long";
    return NULL;
}

static const char *parse_query(struct uri *uri, const char *query)
{
    while (*query) {
        size_t size = strcspn(query, "&");
        size_t name_size = strcspn(query, "=&");
        const char *value = query + name_size + 1;
        size_t value_size = name_size < size ? size - name_size - 1 : 0;
        if (name_size == 9 && strncmp(query, "heartbeat", 9) == 0) {
            if (!number(value, value_size, 65535, &uri->heartbeat_s))
                return "heartbeat is not a number of seconds up to 65535";
        } else if (name_size == 18 && strncmp(query, "connection_timeout", 18) == 0) {
            if (!number(value, value_size, 86400000, &uri->connection_timeout_ms) || uri->connection_timeout_ms == 0)
                return "connection_timeout is not a number of milliseconds from 1 to 86400000";
        } else if (name_size == 10 && strncmp(query, "cacertfile", 10) == 0) {
            if (!uri_decode(uri->ca, value, value_size))
                return "cacertfile is no path, or too long";
        } else if (name_size == 6 && strncmp(query, "verify", 6) == 0) {
            uri->trusts_anybody = value_size == 11 && strncmp(value, "verify_none", 11) == 0;
            if (!uri->trusts_anybody && (value_size != 11 || strncmp(value, "verify_peer", 11) != 0))
                return "verify is verify_peer or verify_none";
        } else {
            return "only the parameters heartbeat, connection_timeout, cacertfile and verify are known";
        }
        query += size;
        if (*query == '&')
            query++;
    }
    return NULL;
}

static const char *parse(struct uri *uri, const char *text)
{
    const char *scheme_end = strstr(text, "://");
    if (scheme_end) {
        size_t size = (size_t)(scheme_end - text);
        uri->tls = size == 5 && strncasecmp(text, "amqps", 5) == 0;
        if (!uri->tls && (size != 4 || strncasecmp(text, "amqp", 4) != 0))
            return "the scheme is not amqp";
        if (uri->tls)
            uri->port = DEFAULT_TLS_PORT;
        text = scheme_end + 3;
    }
    const char *path = text + strcspn(text, "/?");
    const char *host = text;
    for (const char *p = text; p < path; p++) {
        if (*p == '@')
            host = p + 1;
    }
    const char *complaint = NULL;
    if (host > text)
        complaint = parse_user(uri, text, (size_t)(host - text) - 1);
    if (!complaint)
        complaint = parse_host(uri, host, (size_t)(path - host));
    if (complaint)
        return complaint;

    const char *query = strchr(path, '?');
    size_t path_size = query ? (size_t)(query - path) : strlen(path);
    if (path_size > 1) {
        if (memchr(path + 1, '/', path_size - 1))
            return "a slash inside the vhost is written %2F";
        if (!uri_decode(uri->vhost, path + 1, path_size - 1))
            return "the vhost is malformed or too long";
    }
    return query ? parse_query(uri, query + 1) : NULL;
}

enum gw_err uri_parse(struct uri *uri, const char *text, const char **complaint)
{
    *uri = (struct uri){
        .host = "localhost",
        .user = "guest",
        .password = "guest",
        .vhost = "/",
        .port = DEFAULT_PORT,
        .heartbeat_s = DEFAULT_HEARTBEAT_S,
        .connection_timeout_ms = DEFAULT_TIMEOUT_MS,
    };
    *complaint = parse(uri, text);
    return *complaint ? GW_ERR_INVALID : GW_OK;
}
