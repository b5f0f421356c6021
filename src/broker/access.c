#include "broker/access.h"

#include <stdlib.h>

struct access *access_new(struct bytes user)
{
    struct access *access = calloc(1, sizeof(*access) + user.size);
    if (!access)
        return NULL;
    if (user.size)
        memcpy(access + 1, user.data, user.size);
    access->user = bytes_of(access + 1, user.size);
    return access;
}

static void free_patterns(struct pattern *patterns[3])
{
    for (unsigned i = 0; i < 3; i++)
        pattern_free(patterns[i]);
}

static void topic_free(struct topic_access *topic)
{
    if (topic)
        free_patterns(topic->patterns);
    free(topic);
}

void access_free(struct access *access)
{
    if (!access)
        return;
    access_revoke_topic(access, (struct bytes){0});
    free_patterns(access->patterns);
    free(access->memory);
    free(access);
}

/* Keeps the shortcuts true. */
static void look_again(struct access *access)
{
    access->writes_everything = access->granted && !access->patterns[ACCESS_WRITE] && !access->topics;
    access->everything = access->writes_everything && !access->patterns[ACCESS_CONFIGURE] && !access->patterns[ACCESS_READ];
}

/* NULL for ".*". */
static enum gw_err compile(struct bytes text, struct pattern **pattern)
{
    *pattern = NULL;
    return pattern_is_all(text) ? GW_OK : pattern_new(text.size ? text : bytes_of_text("^$"), pattern, NULL, 0, NULL);
}

enum gw_err access_grant(struct access *access, const struct topology_change *change)
{
    const struct bytes texts[3] = {[ACCESS_CONFIGURE] = change->source, [ACCESS_WRITE] = change->routing_key, [ACCESS_READ] = change->arguments};
    struct pattern *patterns[3] = {NULL};
    enum gw_err err = GW_OK;
    uint8_t *memory = malloc(texts[0].size + texts[1].size + texts[2].size + 1), *at = memory;
    if (!memory)
        return GW_ERR_NOMEM;
    for (unsigned i = 0; !err && i < 3; i++)
        err = compile(texts[i], &patterns[i]);
    if (err) {
        free_patterns(patterns);
        free(memory);
        return err;
    }
    free_patterns(access->patterns);
    free(access->memory);
    access->memory = memory;
    access->granted = true;
    for (unsigned i = 0; i < 3; i++) {
        if (texts[i].size)
            memcpy(at, texts[i].data, texts[i].size);
        access->texts[i] = bytes_of(at, texts[i].size);
        at += texts[i].size;
        access->patterns[i] = patterns[i];
    }
    look_again(access);
    return GW_OK;
}

void access_revoke(struct access *access)
{
    free_patterns(access->patterns);
    free(access->memory);
    access->memory = NULL;
    access->granted = false;
    memset(access->patterns, 0, sizeof(access->patterns));
    memset(access->texts, 0, sizeof(access->texts));
    look_again(access);
}

/* ---- topics -------------------------------------------------------------------------------------------------------- */

static bool begins_with(struct bytes text, const char *prefix)
{
    size_t size = strlen(prefix);
    return text.size >= size && memcmp(text.data, prefix, size) == 0;
}

/* Compiles `text` with {username} and {vhost} replaced, letter for letter, so that a dot in a name matches any character: as RabbitMQ does. */
static enum gw_err compile_topic(struct bytes text, struct bytes user, struct bytes vhost, struct pattern **pattern)
{
    static const char username_mark[] = "{username}", vhost_mark[] = "{vhost}";
    size_t longest = user.size > vhost.size ? user.size : vhost.size, room = (text.size / (sizeof(vhost_mark) - 1) + 1) * longest + text.size + 1;
    uint8_t *expanded = malloc(room), *at = expanded;
    if (!expanded)
        return GW_ERR_NOMEM;
    while (text.size) {
        struct bytes with = bytes_of(text.data, 1);
        size_t taken = 1;
        if (begins_with(text, username_mark)) {
            with = user;
            taken = sizeof(username_mark) - 1;
        } else if (begins_with(text, vhost_mark)) {
            with = vhost;
            taken = sizeof(vhost_mark) - 1;
        }
        if (with.size)
            memcpy(at, with.data, with.size);
        at += with.size;
        text = bytes_of(text.data + taken, text.size - taken);
    }
    enum gw_err err = compile(bytes_of(expanded, (size_t)(at - expanded)), pattern);
    free(expanded);
    return err;
}

static struct topic_access *find_topic(const struct access *access, struct bytes exchange)
{
    struct topic_access *topic = access->topics;
    while (topic && !bytes_equal(topic->exchange, exchange))
        topic = topic->next;
    return topic;
}

enum gw_err access_grant_topic(struct access *access, struct bytes vhost, const struct topology_change *change)
{
    const struct bytes parts[3] = {change->source, change->routing_key, change->arguments};
    struct topic_access *topic = calloc(1, sizeof(*topic) + parts[0].size + parts[1].size + parts[2].size);
    if (!topic)
        return GW_ERR_NOMEM;
    struct bytes *kept[3] = {&topic->exchange, &topic->write, &topic->read};
    uint8_t *at = (uint8_t *)(topic + 1);
    for (unsigned i = 0; i < 3; i++) {
        if (parts[i].size)
            memcpy(at, parts[i].data, parts[i].size);
        *kept[i] = bytes_of(at, parts[i].size);
        at += parts[i].size;
    }
    enum gw_err err = compile_topic(topic->write, access->user, vhost, &topic->patterns[ACCESS_WRITE]);
    if (!err)
        err = compile_topic(topic->read, access->user, vhost, &topic->patterns[ACCESS_READ]);
    if (err) {
        topic_free(topic);
        return err;
    }
    if (find_topic(access, topic->exchange))
        access_revoke_topic(access, topic->exchange);
    topic->next = access->topics;
    access->topics = topic;
    look_again(access);
    return GW_OK;
}

void access_revoke_topic(struct access *access, struct bytes exchange)
{
    for (struct topic_access **at = &access->topics; *at;) {
        struct topic_access *topic = *at;
        if (exchange.size && !bytes_equal(topic->exchange, exchange)) {
            at = &topic->next;
            continue;
        }
        *at = topic->next;
        topic_free(topic);
    }
    look_again(access);
}

bool access_is_empty(const struct access *access)
{
    return !access->granted && !access->topics;
}

/* ---- asking -------------------------------------------------------------------------------------------------------- */

bool access_allows(const struct access *access, enum access_kind kind, struct bytes name)
{
    if (!access || !access->granted)
        return false;
    return !access->patterns[kind] || pattern_matches(access->patterns[kind], name.size ? name : bytes_of_text("amq.default"));
}

bool access_allows_key(const struct access *access, enum access_kind kind, struct bytes exchange, struct bytes routing_key)
{
    const struct topic_access *topic = access ? find_topic(access, exchange) : NULL;
    return !topic || !topic->patterns[kind] || pattern_matches(topic->patterns[kind], routing_key);
}
