#include "protocol/gateway/uri_shown.h"

#include <string.h>

/* The colon before the password, and in *end the sign behind it; NULL: there is none. */
static const char *find_password(const char *uri, const char **end)
{
    const char *scheme = uri ? strstr(uri, "://") : NULL, *begin = scheme ? scheme + 3 : uri;
    size_t size = uri ? strcspn(begin, "/?") : 0;
    *end = NULL;
    for (size_t i = 0; i < size; i++)
        if (begin[i] == '@')
            *end = begin + i;
    return *end ? memchr(begin, ':', (size_t)(*end - begin)) : NULL;
}

json_t *uri_shown(const char *uri)
{
    const char *end, *colon = find_password(uri, &end);
    return colon ? json_sprintf("%.*s:(hidden)%s", (int)(colon - uri), uri, end) : NULL;
}

void uri_hide(json_t *object, const char *name)
{
    const char *uri = json_string_value(json_object_get(object, name)), *end;
    if (!find_password(uri, &end))
        return;
    json_t *shown = uri_shown(uri);
    if (!shown || json_object_set_new(object, name, shown))
        json_object_del(object, name);
}
