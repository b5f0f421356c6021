/* What one user may do in one vhost: which names it may configure (declare, delete), write to and read from; and, of topic exchanges, which routing keys it
 * may publish and bind with. Patterns are compiled once.
 *
 * An empty pattern allows the empty name only. A topic permission restricts one exchange; without one every key is allowed. In it {username} and {vhost}
 * stand for these. */
#ifndef BROKER_ACCESS_H
#define BROKER_ACCESS_H

#include "broker/pattern.h"
#include "broker/topology_change.h"

enum access_kind { ACCESS_CONFIGURE, ACCESS_WRITE, ACCESS_READ };

/* Numbers that go into the scope of a cached route, see permissions.h. */
#define ACCESS_NUMBER_MASK 0x7FFFFFu

struct topic_access {
    struct topic_access *next;
    struct bytes exchange, write, read;    /* the patterns as they were given */
    struct pattern *patterns[3];           /* by enum access_kind; as they are after what stands for the user and the vhost was put in */
};

struct access {
    struct bytes user;
    uint32_t number;                       /* tells those of one vhost apart; not 0 */
    bool granted;                          /* false: there are topic permissions, but no others: nothing is allowed */
    bool everything;                       /* every pattern is ".*" and there are no topic permissions: nothing needs to be looked at */
    bool writes_everything;                /* the same of publishing */
    struct bytes texts[3];                 /* by enum access_kind */
    struct pattern *patterns[3];           /* NULL: ".*" */
    uint8_t *memory;                       /* what `texts` point into */
    struct topic_access *topics;
};

struct access *access_new(struct bytes user);
void access_free(struct access *access);

/* PERMISSION_PUT, and TOPIC_PERMISSION_PUT in that vhost. GW_ERR_NOMEM, GW_ERR_INVALID (a pattern does not compile): nothing changed. */
enum gw_err access_grant(struct access *access, const struct topology_change *change);
enum gw_err access_grant_topic(struct access *access, struct bytes vhost, const struct topology_change *change);
void access_revoke(struct access *access);
/* `exchange` empty: of all exchanges. */
void access_revoke_topic(struct access *access, struct bytes exchange);
/* Nothing is left of it. */
bool access_is_empty(const struct access *access);

/* `access` NULL: nothing is allowed. The empty name is the default exchange's; a permission calls that amq.default. */
bool access_allows(const struct access *access, enum access_kind kind, struct bytes name);
bool access_allows_key(const struct access *access, enum access_kind kind, struct bytes exchange, struct bytes routing_key);

#endif
