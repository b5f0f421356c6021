/* Looking a host's addresses up without keeping anybody waiting. */
#ifndef RUNTIME_RESOLVER_H
#define RUNTIME_RESOLVER_H

#include <stdint.h>

struct addrinfo;
struct resolver;

/* Begins to look up. Addresses and "localhost" are there at once. NULL: out of memory or descriptors. */
struct resolver *resolver_new(const char *host, uint16_t port);

/* The end of a pipe or a counter that is readable when there is an answer. */
int resolver_fd(const struct resolver *resolver);

/* The answer, once resolver_fd is readable: valid until resolver_free. NULL: `why` (static storage) says why there is none. */
const struct addrinfo *resolver_answer(struct resolver *resolver, const char **why);

/* A lookup under way goes on, and nobody hears of it. */
void resolver_free(struct resolver *resolver);

#endif
