#include "server/sources.h"

#include "bus/intakes.h"
#include "host/feed_amqp.h"
#include "runtime/feeder.h"
#include "runtime/zone.h"
#include "server/config.h"
#include "server/service.h"
#include "server/webhooks.h"

#include <stdlib.h>
#include <string.h>

/* The same addresses as webhooks may be posted to; who writes the configuration may send us anywhere. */
static const char *refusal(void *owner, enum feed_reach reach, const struct sockaddr *address)
{
    return reach == FEED_REACHES_ALL ? NULL : webhook_refusal(((struct service *)owner)->senders[reach == FEED_REACHES_MACHINE].networks, address);
}

static void told(void *owner) { reactor_again(((struct service *)owner)->reactor); }
static uint64_t now(void *owner) { return reactor_now(((struct service *)owner)->reactor); }

bool service_sources_init(struct service *s, const struct config *config, uint64_t random)
{
    s->zones = system_zones_new();
    s->feeders = feeder_set_new(&(struct feeder_config){.loop = reactor_loop(s->reactor), .refusal = refusal, .told = told, .owner = s, .authorities = config->webhook_ca, .amqp = &feeding_amqp});
    s->fixed_sources = calloc(config->source_count + 1, sizeof(*s->fixed_sources));
    if (!s->zones || !s->feeders || !s->fixed_sources)
        return false;
    for (unsigned i = 0; i < config->source_count; i++)
        s->fixed_sources[i] = (struct intake_fixed){.vhost = config->sources[i].vhost, .id = config->sources[i].id, .text = config->sources[i].text};
    s->intakes = intakes_new(&(struct intakes_config){
        .worker = s->worker, .workers = s->shutdown->count, .feeder = feeder_set_io(s->feeders), .zones = system_zones_io(s->zones), .now = now, .owner = s, .random = random,
        .fixed = s->fixed_sources, .fixed_count = config->source_count, .alarms = s->alarms, .allows_local = strcmp(config->sources_local, "on") == 0});
    s->http.hall.intakes = s->intakes;
    return s->intakes;
}

void service_sources_free(struct service *s)
{
    intakes_free(s->intakes);
    feeder_set_free(s->feeders);
    system_zones_free(s->zones);
    free(s->fixed_sources);
}
