/* The broker's own sources on a reactor: intakes, and what feeds them. */
#ifndef SERVER_SOURCES_H
#define SERVER_SOURCES_H

#include <stdbool.h>
#include <stdint.h>

struct config;
struct service;

/* Its reactor, worker and webhooks are there; the configuration is borrowed. False: out of memory. */
bool service_sources_init(struct service *service, const struct config *config, uint64_t random);
/* Its intakes are stopped, its reactor does not run any more. */
void service_sources_free(struct service *service);

#endif
