#include "server/visitors.h"

#include "base/map.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#define KEY_MAX 257u
#define SWEEP_FIRST 1024u            /* entries from which on those are looked for that nobody needs */
#define ENTRIES_MAX 200000u          /* of those that are not inside; more share one */
#define TELL_US 10000000u

struct visitors {
    pthread_mutex_t mutex;
    struct name_map map;
    uint32_t address_max;
    unsigned sweep_at;
    uint64_t told_us;
    struct alarm_sink *alarms;
    struct visitor *crowd;           /* everybody for whom there is no room */
};

static struct bytes key_of(const void *value)
{
    const struct visitor *visitor = value;
    return bytes_of(visitor->key, visitor->key_size);
}

static struct visitor *visitor_new(struct bytes key)
{
    struct visitor *visitor = calloc(1, sizeof(*visitor) + key.size);
    if (!visitor)
        return NULL;
    visitor->key_size = (uint32_t)key.size;
    if (key.size)
        memcpy(visitor->key, key.data, key.size);
    return visitor;
}

struct visitors *visitors_new(uint32_t address_max, struct alarm_sink *alarms)
{
    struct visitors *v = calloc(1, sizeof(*v));
    uint64_t seed = 0;
    if (!v || !(v->crowd = visitor_new((struct bytes){0})) || getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed)) {
        free(v ? v->crowd : NULL);
        free(v);
        return NULL;
    }
    pthread_mutex_init(&v->mutex, NULL);
    name_map_init(&v->map, key_of, seed);
    v->address_max = address_max;
    v->sweep_at = SWEEP_FIRST;
    v->alarms = alarms;
    return v;
}

void visitors_free(struct visitors *v)
{
    uint32_t cursor = 0;
    if (!v)
        return;
    for (struct visitor *visitor; (visitor = map_next(&v->map.map, &cursor));)
        free(visitor);
    name_map_deinit(&v->map);
    pthread_mutex_destroy(&v->mutex);
    free(v->crowd);
    free(v);
}

/* ---- under the lock ---------------------------------------------------------------------------------------------------- */

static bool is_needed(const struct visitor *visitor, uint64_t now_us)
{
    return visitor->inside || !rate_is_full(&visitor->rates.requests, now_us) || !rate_is_full(&visitor->rates.failures, now_us);
}

static void forget(struct visitors *v, struct visitor *visitor)
{
    name_map_remove(&v->map, key_of(visitor));
    free(visitor);
}

/* Now and then, and so that each entry pays for being looked at once. */
static void sweep(struct visitors *v, uint64_t now_us)
{
    struct visitor **all = malloc(v->map.map.count * sizeof(*all)), *visitor;
    uint32_t cursor = 0;
    unsigned count = 0;
    while (all && (visitor = map_next(&v->map.map, &cursor)))
        if (!is_needed(visitor, now_us))
            all[count++] = visitor;
    for (unsigned i = 0; i < count; i++)
        forget(v, all[i]);
    free(all);
    v->sweep_at = v->map.map.count * 2 > SWEEP_FIRST ? v->map.map.count * 2 : SWEEP_FIRST;
}

static struct visitor *enter(struct visitors *v, struct bytes key, uint64_t now_us)
{
    struct visitor *visitor = name_map_get(&v->map, key);
    if (!visitor && v->map.map.count >= v->sweep_at)
        sweep(v, now_us);
    if (!visitor && v->map.map.count >= ENTRIES_MAX)
        visitor = v->crowd;
    if (!visitor) {
        visitor = visitor_new(key);
        if (visitor && name_map_put(&v->map, visitor)) {
            free(visitor);
            visitor = NULL;
        }
    }
    if (visitor)
        visitor->inside++;
    return visitor;
}

/* ---- verbs ------------------------------------------------------------------------------------------------------------ */

/* One line for however many are sent away. */
static void tell(struct visitors *v, const struct sockaddr *address, uint64_t now_us)
{
    char host[INET6_ADDRSTRLEN] = "somewhere";
    if (v->told_us && now_us - v->told_us < TELL_US)
        return;
    v->told_us = now_us;
    if (address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, host, sizeof(host));
    else if (address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, host, sizeof(host));
    alarm_raise(v->alarms, ALARM_WARNING, "connections from %s are closed at once: it has %u (max_connections_per_address)", host, v->address_max);
}

struct visitor *visitors_enter(struct visitors *v, const struct sockaddr *address, uint64_t now_us)
{
    uint8_t key[9] = {(uint8_t)address->sa_family};
    size_t size = 1;
    if (address->sa_family == AF_INET) {
        memcpy(key + 1, &((const struct sockaddr_in *)address)->sin_addr, 4);
        size += 4;
    } else if (address->sa_family == AF_INET6) {
        memcpy(key + 1, &((const struct sockaddr_in6 *)address)->sin6_addr, 8);
        size += 8;
    }
    pthread_mutex_lock(&v->mutex);
    struct visitor *visitor = enter(v, bytes_of(key, size), now_us);
    if (visitor && visitor != v->crowd && v->address_max && visitor->inside > v->address_max) {
        visitor->inside--;
        visitor = NULL;
        tell(v, address, now_us);
    }
    pthread_mutex_unlock(&v->mutex);
    return visitor;
}

struct visitor *visitors_enter_user(struct visitors *v, struct bytes user, uint64_t now_us)
{
    uint8_t key[KEY_MAX] = {UINT8_MAX};   /* no address family */
    size_t size = user.size < KEY_MAX - 1 ? user.size : KEY_MAX - 1;
    if (size)
        memcpy(key + 1, user.data, size);
    pthread_mutex_lock(&v->mutex);
    struct visitor *visitor = enter(v, bytes_of(key, size + 1), now_us);
    pthread_mutex_unlock(&v->mutex);
    return visitor;
}

void visitors_leave(struct visitors *v, struct visitor *visitor, uint64_t now_us)
{
    if (!visitor)
        return;
    pthread_mutex_lock(&v->mutex);
    visitor->inside--;
    if (visitor != v->crowd && !is_needed(visitor, now_us))
        forget(v, visitor);
    pthread_mutex_unlock(&v->mutex);
}

unsigned visitors_count(struct visitors *v)
{
    pthread_mutex_lock(&v->mutex);
    unsigned count = v->map.map.count;
    pthread_mutex_unlock(&v->mutex);
    return count;
}
