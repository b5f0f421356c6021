/* Who comes how often: for every address that has connections, and every user who asks by HTTP, what has been taken of the limits. Shared by all reactors: whoever enters
 * gets his entry, whose rates are taken from without a lock. Entries are kept while something of theirs is taken, whoever has left. */
#ifndef SERVER_VISITORS_H
#define SERVER_VISITORS_H

#include "base/bytes.h"
#include "base/rate.h"
#include "io/alarm.h"

#include <sys/socket.h>

struct visitors;

struct visitor {
    struct rates rates;               /* first */
    uint32_t inside;                 /* how often it has entered and not left: under the visitors' lock */
    uint32_t key_size;
    uint8_t key[];
};

/* `address_max`: connections that one address may have; 0: any number. `alarms` may be NULL. NULL: out of memory. */
struct visitors *visitors_new(uint32_t address_max, struct alarm_sink *alarms);
void visitors_free(struct visitors *visitors);

/* One more connection from that address (of IPv6: its first 64 bits, which are one customer's). NULL: it has too many, or there is no memory. */
struct visitor *visitors_enter(struct visitors *visitors, const struct sockaddr *address, uint64_t now_us);

/* One more who asks as that user. NULL: no memory. */
struct visitor *visitors_enter_user(struct visitors *visitors, struct bytes user, uint64_t now_us);

void visitors_leave(struct visitors *visitors, struct visitor *visitor, uint64_t now_us);

/* Entries that there are. */
unsigned visitors_count(struct visitors *visitors);

#endif
