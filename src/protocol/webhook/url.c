#include "protocol/webhook/url.h"

#include <stdio.h>

static bool wrong(char why[URL_WHY_MAX], const char *what)
{
    snprintf(why, URL_WHY_MAX, "The URL %s.", what);
    return false;
}

static uint8_t lower(uint8_t c) { return c >= 'A' && c <= 'Z' ? c | 32 : c; }

static bool take_scheme(struct bytes *text, struct sink_url *url)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (unsigned i = 0; i < 2; i++) {
        size_t size = strlen(schemes[i]), at = 0;
        while (at < size && at < text->size && lower(text->data[at]) == (uint8_t)schemes[i][at])
            at++;
        if (at < size)
            continue;
        url->is_tls = i == 1;
        *text = bytes_of(text->data + size, text->size - size);
        return true;
    }
    return false;
}

/* Would anybody take a host like that for an IPv4 address? Its last label is a number then, in any of their notations. */
static bool looks_like_number(const char *host)
{
    size_t size = strlen(host);
    if (size && host[size - 1] == '.')
        size--;
    size_t begin = size;
    while (begin && host[begin - 1] != '.')
        begin--;
    if (begin == size)
        return false;
    bool decimal = true;
    for (size_t i = begin; i < size; i++)
        decimal &= host[i] >= '0' && host[i] <= '9';
    return decimal || (size - begin >= 2 && host[begin] == '0' && host[begin + 1] == 'x');
}

static bool read_host(struct bytes text, struct sink_url *url, char why[URL_WHY_MAX])
{
    if (!text.size)
        return wrong(why, "has no host");
    if (text.data[0] == '[') {
        struct bytes inside = bytes_of(text.data + 1, text.size - 2);
        if (text.size < 4 || text.data[text.size - 1] != ']' || !ip_address_read(inside, &url->address) || url->address.size != 16)
            return wrong(why, "has brackets without an IPv6 address in them");
        url->is_address = true;
        snprintf(url->host, sizeof(url->host), "%.*s", (int)inside.size, (const char *)inside.data);
        return true;
    }
    if (text.size > URL_HOST_MAX)
        return wrong(why, "has a host of more than 253 bytes");
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = lower(text.data[i]);
        bool dot = c == '.';
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_' && !dot)
            return wrong(why, "has a host with something else than letters, digits, dots and dashes");
        if (dot && (i == 0 || text.data[i - 1] == '.'))
            return wrong(why, "has a host with nothing before a dot");
        url->host[i] = (char)c;
    }
    url->host[text.size] = 0;
    url->is_address = ip_address_read(text, &url->address);
    if (!url->is_address && looks_like_number(url->host))
        return wrong(why, "has a host that could be taken for an address but is not four decimal numbers");
    return true;
}

static bool read_port(struct bytes digits, struct sink_url *url, char why[URL_WHY_MAX])
{
    unsigned port = 0;
    for (size_t i = 0; i < digits.size; i++) {
        if (digits.data[i] < '0' || digits.data[i] > '9' || i == 5)
            return wrong(why, "has a port that is no number from 1 to 65535");
        port = port * 10 + (digits.data[i] - '0');
    }
    if (!port || port > UINT16_MAX)
        return wrong(why, "has a port that is no number from 1 to 65535");
    url->port = (uint16_t)port;
    return true;
}

bool sink_url_read(struct bytes text, struct sink_url *url, char why[URL_WHY_MAX])
{
    *url = (struct sink_url){0};
    if (text.size > URL_SIZE_MAX)
        return wrong(why, "is longer than 2048 bytes");
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] <= ' ' || text.data[i] > '~' || text.data[i] == '\\' || text.data[i] == '#')
            return wrong(why, "has a space, a control, a backslash, a fragment or a byte that is not ASCII in it");
    if (!take_scheme(&text, url))
        return wrong(why, "does not begin with http:// or https://");
    size_t end = 0, colon = SIZE_MAX;
    bool bracket = false;
    for (; end < text.size && text.data[end] != '/' && text.data[end] != '?'; end++) {
        if (text.data[end] == '@')
            return wrong(why, "has a user in it; say who you are by a header or a secret");
        if (text.data[end] == '[' || text.data[end] == ']')
            bracket = text.data[end] == '[';
        else if (text.data[end] == ':' && !bracket)
            colon = colon == SIZE_MAX ? end : colon;
    }
    url->port = url->is_tls ? 443 : 80;
    url->target = bytes_of(text.data + end, text.size - end);
    if (colon != SIZE_MAX && !read_port(bytes_of(text.data + colon + 1, end - colon - 1), url, why))
        return false;
    return read_host(bytes_of(text.data, colon != SIZE_MAX ? colon : end), url, why);
}
