/* HTTP that is asked again and again: an event for each answer that is another one. The server is told what is known already (If-None-Match, If-Modified-Since) and may say 304; what it says
 * nothing of is compared by a hash of its body. 204 is no answer yet, or none any more: no event. The position is what is known. */
#include "sources/source_state.h"

#include <stdio.h>

#define TAG_MAX 512u
#define BODY_MAX (4u << 20)          /* bytes of an answer */

/* What an answer is known by. */
struct known {
    char etag[TAG_MAX], modified[TAG_MAX];
    uint64_t hash, count;            /* of the body; answers that were another one so far */
};

struct poll {
    struct known known, settled, coming;
    struct text body;
    unsigned status;
    char content_type[256];
    uint64_t retry_after_ms;         /* what the server asks for; 0: nothing */
};

static const struct template_name names[] = {{"data", false}, {"status", false}, {"etag", false}, {"count", false}, {"source", false}, {NULL, false}};

struct answer {
    const struct poll *poll;
    char status[16], count[24];
};

static bool find(const void *owner, struct bytes name, struct bytes more, struct bytes *value)
{
    const struct answer *answer = owner;
    (void)more;
    *value = bytes_of_text(bytes_equal(name, bytes_of_text("status")) ? answer->status : bytes_equal(name, bytes_of_text("count")) ? answer->count : answer->poll->coming.etag);
    return true;
}

static void deinit(struct source *source) { text_deinit(&((struct poll *)source_own(source))->body); }

static bool take_tag(const json_t *position, const char *name, char tag[TAG_MAX])
{
    const char *text = json_string_value(json_object_get(position, name));
    if (!text || strlen(text) >= TAG_MAX)
        return false;
    for (const char *at = text; *at; at++)
        if ((uint8_t)*at < 0x20 || *at == 0x7f)
            return false;
    memcpy(tag, text, strlen(text) + 1);
    return true;
}

static bool restore(struct source *source, const json_t *position)
{
    struct poll *poll = source_own(source);
    struct known known = {.count = (uint64_t)json_integer_value(json_object_get(position, "count"))};
    const char *hash = json_string_value(json_object_get(position, "hash"));
    if (!take_tag(position, "etag", known.etag) || !take_tag(position, "modified", known.modified) || !hash)
        return false;
    known.hash = strtoull(hash, NULL, 16);
    poll->known = poll->settled = known;
    return true;
}

static void begin(struct source *source)
{
    struct poll *poll = source_own(source);
    const struct declaration *declaration = &source->declaration;
    const char *headers[SOURCE_HEADERS_MAX + 2];
    char none_match[TAG_MAX + 20], since[TAG_MAX + 24];
    unsigned count = 0;
    for (; count < declaration->header_count; count++)
        headers[count] = declaration->headers[count];
    if (poll->known.etag[0] && !declaration_has_header(declaration, "If-None-Match")) {
        snprintf(none_match, sizeof(none_match), "If-None-Match: %s", poll->known.etag);
        headers[count++] = none_match;
    }
    if (poll->known.modified[0] && !declaration_has_header(declaration, "If-Modified-Since")) {
        snprintf(since, sizeof(since), "If-Modified-Since: %s", poll->known.modified);
        headers[count++] = since;
    }
    text_clear(&poll->body, 4096);
    poll->retry_after_ms = poll->status = 0;
    source_begin(source, &(struct feed_request){.kind = FEED_HTTP, .address = declaration->address, .headers = headers, .header_count = count, .idle_ms = declaration->idle_ms,
                                                .size_max = BODY_MAX, .reach = declaration->reach});
}

static void keep_header(const struct feed_opening *opening, const char *name, char *text, size_t room)
{
    struct bytes value;
    text[0] = 0;
    /* What is no UTF-8 (RFC 9110 lets an ETag have any bytes) can stand in no position and in no event: it is as if the server had not said it. */
    if (opening->header(opening->owner, bytes_of_text(name), &value) && value.size < room && utf8_is_valid(value)) {
        memcpy(text, value.data, value.size);
        text[value.size] = 0;
    }
}

static void opened(struct source *source, struct feed_opening *opening)
{
    struct poll *poll = source_own(source);
    poll->status = opening->status;
    poll->coming = (struct known){.count = poll->known.count + 1};
    keep_header(opening, "etag", poll->coming.etag, TAG_MAX);
    keep_header(opening, "last-modified", poll->coming.modified, TAG_MAX);
    keep_header(opening, "content-type", poll->content_type, sizeof(poll->content_type));
    poll->retry_after_ms = source_retry_after_ms(opening);
}

static void came(struct source *source, uint64_t stream, struct bytes data)
{
    struct poll *poll = source_own(source);
    (void)stream;
    if (poll->status == 200 && !text_add(&poll->body, data))
        source_failed(source, source->declaration.every_ms, "There is too little memory.");
}

static bool take(struct source *source)
{
    struct poll *poll = source_own(source);
    struct answer answer = {.poll = poll};
    char id[64];
    poll->coming.hash = source_hash(text_bytes(&poll->body));
    if (poll->known.count && poll->coming.hash == poll->known.hash) {
        /* The same under another tag: the next request asks with that. */
        poll->coming.count = poll->known.count;
        poll->known = poll->coming;
        return true;
    }
    snprintf(answer.status, sizeof(answer.status), "%u", poll->status);
    snprintf(answer.count, sizeof(answer.count), "%llu", (unsigned long long)poll->coming.count);
    snprintf(id, sizeof(id), "%llu-%016llx", (unsigned long long)poll->coming.count, (unsigned long long)poll->coming.hash);
    if (!source_emit(source, &(struct source_item){.data = text_bytes(&poll->body), .find = find, .owner = &answer, .id = bytes_of_text(id), .mark = bytes_of(&poll->coming, sizeof(poll->coming)),
                                                   .content_type = poll->content_type[0] ? poll->content_type : NULL}))
        return false;
    poll->known = poll->coming;
    return true;
}

static void ended(struct source *source, const struct feed_end *end)
{
    struct poll *poll = source_own(source);
    uint64_t every_ms = source->declaration.every_ms;
    char why[80];
    if (end->outcome != FEED_OVER) {
        source_ended(source, end, every_ms, 0);
    } else if (poll->status == 204 || poll->status == 304 || (poll->status == 200 && take(source))) {
        source_runs(source);
        source_again(source, poll->retry_after_ms > every_ms ? poll->retry_after_ms : every_ms);
    } else if (poll->status == 200) {
        source_failed(source, every_ms, "There is too little memory.");
    } else {
        snprintf(why, sizeof(why), "The server answered %u.", poll->status);
        source_put_off(source, every_ms, poll->retry_after_ms, why);
    }
    text_clear(&poll->body, 4096);
}

static void settled(struct source *source, struct bytes mark) { memcpy(&((struct poll *)source_own(source))->settled, mark.data, sizeof(struct known)); }

static json_t *position(const struct source *source)
{
    const struct poll *poll = source_own(source);
    char hash[20];
    snprintf(hash, sizeof(hash), "%016llx", (unsigned long long)poll->settled.hash);
    return json_pack("{s:s, s:s, s:s, s:I}", "etag", poll->settled.etag, "modified", poll->settled.modified, "hash", hash, "count", (json_int_t)poll->settled.count);
}

const struct source_kind kind_poll = {
    .name = "poll", .settings = SETTING_URL | SETTING_HEADERS | SETTING_IDLE | SETTING_INTERVAL, .names = names, .has_json = true,
    .defaults = {[TEMPLATE_TYPE] = "poll.changed", [TEMPLATE_DATA] = "{{data}}"}, .fallback = "poll.changed", .size = sizeof(struct poll), .restore = restore, .begin = begin, .opened = opened,
    .came = came, .ended = ended, .settled = settled, .position = position, .deinit = deinit,
};
