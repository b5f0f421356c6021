#include "protocol/gateway/basic.h"

#include "base/base64.h"
#include "protocol/http/request.h"

bool basic_read(struct bytes authorization, uint8_t room[BASIC_MAX], struct bytes *user, struct bytes *password)
{
    struct bytes pair;
    if (authorization.size < 6 || authorization.size > BASIC_MAX || !http_name_is(bytes_of(authorization.data, 6), "basic "))
        return false;
    size_t at = 6;
    while (at < authorization.size && authorization.data[at] == ' ')
        at++;
    if (!base64_decode(bytes_of(authorization.data + at, authorization.size - at), room, &pair))
        return false;
    const uint8_t *colon = pair.size ? memchr(pair.data, ':', pair.size) : NULL;
    if (!colon)
        return false;
    *user = bytes_of(pair.data, (size_t)(colon - pair.data));
    *password = bytes_of(colon + 1, pair.size - user->size - 1);
    return true;
}
