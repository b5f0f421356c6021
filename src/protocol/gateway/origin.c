#include "protocol/gateway/origin.h"

#define FIELD(name, value) {bytes_of_text(name), bytes_of_text(value)}
/* A request with credentials is not shown what only the asterisk stands for (the Fetch standard, section 3.3.4). */
#define EXPOSED \
    "*, etag, location, retry-after, www-authenticate, godwit-token, godwit-redelivered, godwit-exchange, godwit-routing-key, godwit-delivery-count, godwit-message-id, " \
    "godwit-correlation-id, godwit-reply-to, godwit-type, godwit-app-id, godwit-user-id, godwit-priority, godwit-timestamp"

static bool is_own(struct bytes origin, struct bytes authority)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (unsigned i = 0; i < 2; i++) {
        size_t size = strlen(schemes[i]);
        if (origin.size > size && http_name_is(bytes_of(origin.data, size), schemes[i]) &&
            bytes_equal(bytes_of(origin.data + size, origin.size - size), authority))
            return true;
    }
    return false;
}

enum origin origin_of(const struct http_request *request, const char *origins)
{
    struct bytes origin, rest = origins ? bytes_of_text(origins) : (struct bytes){0};
    if (!http_field_find(request, "origin", &origin) || is_own(origin, request->authority))
        return ORIGIN_NONE;
    enum origin found = ORIGIN_FOREIGN;
    while (rest.size) {
        const uint8_t *comma = memchr(rest.data, ',', rest.size);
        struct bytes one = bytes_of(rest.data, comma ? (size_t)(comma - rest.data) : rest.size);
        rest = comma ? bytes_of(comma + 1, rest.size - one.size - 1) : (struct bytes){0};
        while (one.size && one.data[0] == ' ')
            one = bytes_of(one.data + 1, one.size - 1);
        while (one.size && one.data[one.size - 1] == ' ')
            one.size--;
        if (bytes_equal(one, origin))
            return ORIGIN_ALLOWED;
        if (one.size == 1 && one.data[0] == '*')
            found = ORIGIN_ALLOWED_AS_ALL;
    }
    return found;
}

void origin_allow(struct http_call *call, enum origin origin)
{
    struct bytes value = bytes_of_text("*");
    if (origin != ORIGIN_ALLOWED && origin != ORIGIN_ALLOWED_AS_ALL)
        return;
    if (origin == ORIGIN_ALLOWED)
        http_field_find(call->request, "origin", &value);
    call->extra = calloc(HTTP_EXTRA_MAX, sizeof(*call->extra));
    if (!call->extra)
        return;   /* the browser will not show the page what is answered */
    call->extra[0] = (struct http_field){bytes_of_text("access-control-allow-origin"), value};
    call->extra[1] = (struct http_field)FIELD("vary", "origin");
    call->extra[2] = (struct http_field)FIELD("access-control-expose-headers", EXPOSED);
    call->extra_count = 3;
    /* A page that was named may have the browser say who its user is. */
    if (origin == ORIGIN_ALLOWED)
        call->extra[call->extra_count++] = (struct http_field)FIELD("access-control-allow-credentials", "true");
}

void origin_answer_preflight(struct http_call *call, const char *methods)
{
    struct http_field fields[] = {
        FIELD("allow", methods), FIELD("access-control-allow-methods", methods), FIELD("access-control-max-age", "600"),
        {bytes_of_text("access-control-allow-headers"), {0}}};
    bool asks = http_field_find(call->request, "access-control-request-headers", &fields[3].value);
    http_answer(call, &(struct http_answer){.status = 204, .fields = fields, .field_count = !call->extra_count ? 1 : asks ? 4 : 3});
}
