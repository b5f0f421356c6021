#include "protocol/gateway/uri_shown.h"

#include <string.h>

json_t *uri_shown(const char *uri)
{
    const char *scheme = uri ? strstr(uri, "://") : NULL, *begin = scheme ? scheme + 3 : uri, *at = NULL;
    size_t size = uri ? strcspn(begin, "/?") : 0;
    for (size_t i = 0; i < size; i++)
        if (begin[i] == '@')
            at = begin + i;
    const char *colon = at ? memchr(begin, ':', (size_t)(at - begin)) : NULL;
    return colon ? json_sprintf("%.*s:(hidden)%s", (int)(colon - uri), uri, at) : NULL;
}
