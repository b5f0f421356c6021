#include "server/address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static bool parse_one(const char *text, size_t size, uint16_t port, struct sockaddr_storage *address)
{
    char copy[INET6_ADDRSTRLEN];
    struct sockaddr_in *v4 = (struct sockaddr_in *)address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
    if (size >= 2 && text[0] == '[' && text[size - 1] == ']') {
        text++;
        size -= 2;
    }
    if (size >= sizeof(copy))
        return false;
    memcpy(copy, text, size);
    copy[size] = '\0';
    memset(address, 0, sizeof(*address));
    if (inet_pton(AF_INET, copy, &v4->sin_addr) == 1)
        address->ss_family = AF_INET;
    else if (inet_pton(AF_INET6, copy, &v6->sin6_addr) == 1)
        address->ss_family = AF_INET6;
    else
        return false;
    address_set_port(address, port);
    return true;
}

bool address_list_parse(const char *text, uint16_t port, struct address_list *list, char *bad, size_t size)
{
    list->count = 0;
    for (;;) {
        text += strspn(text, " \t");
        size_t part = strcspn(text, ",");
        size_t trimmed = part;
        while (trimmed > 0 && (text[trimmed - 1] == ' ' || text[trimmed - 1] == '\t'))
            trimmed--;
        if (list->count == ADDRESSES_MAX || !parse_one(text, trimmed, port, &list->items[list->count])) {
            snprintf(bad, size, "%.*s", (int)(trimmed < 60 ? trimmed : 60), text);
            return false;
        }
        list->count++;
        text += part;
        if (*text == '\0')
            return true;
        text++;
    }
}

uint16_t address_port(const struct sockaddr_storage *address)
{
    return ntohs(address->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)address)->sin6_port
                                                : ((const struct sockaddr_in *)address)->sin_port);
}

void address_set_port(struct sockaddr_storage *address, uint16_t port)
{
    if (address->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)address)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)address)->sin_port = htons(port);
}

void address_host(const struct sockaddr_storage *address, char host[ADDRESS_TEXT_SIZE])
{
    const void *bytes = address->ss_family == AF_INET6 ? (const void *)&((const struct sockaddr_in6 *)address)->sin6_addr
                                                       : (const void *)&((const struct sockaddr_in *)address)->sin_addr;
    host[0] = 0;
    inet_ntop(address->ss_family, bytes, host, INET6_ADDRSTRLEN);
}

void address_text(const struct sockaddr_storage *address, char text[ADDRESS_TEXT_SIZE])
{
    char host[ADDRESS_TEXT_SIZE];
    address_host(address, host);
    snprintf(text, ADDRESS_TEXT_SIZE, address->ss_family == AF_INET6 ? "[%.45s]:%u" : "%.45s:%u", host, address_port(address));
}

struct sockaddr_storage address_to_dial(const struct sockaddr_storage *address)
{
    struct sockaddr_storage dial = *address;
    struct sockaddr_in *v4 = (struct sockaddr_in *)&dial;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&dial;
    if (dial.ss_family == AF_INET && v4->sin_addr.s_addr == htonl(INADDR_ANY))
        v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else if (dial.ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr))
        v6->sin6_addr = in6addr_loopback;
    return dial;
}
