/* Direct events: transient ones that only handlers in this process want stay in its memory and never see the engine.
 *
 *   gw_publish ─▶ route of the type ─▶ ring of blocks ─▶ handlers, in the loop's turn
 *
 * That nobody else wants them is known by asking the engine which queues a type leads to: when each is that of a transient handler of this bus, the event goes the direct way. */
#ifndef LIB_DIRECT_H
#define LIB_DIRECT_H

#include "lib/bus.h"
#include "lib/handler.h"

struct outgoing;

/* NULL: out of memory. At most `limit` bytes of events are kept. */
struct direct *direct_new(uint64_t limit);
void direct_free(struct gw_bus *bus);

/* False: it is not for the direct way. Otherwise *result is what to answer. */
bool direct_publish(struct gw_bus *bus, struct outgoing *outgoing, gw_published_fn told, void *context, int *result);

/* Calls handlers, at most `budget` times. */
void direct_turn(struct gw_bus *bus, unsigned *budget);
bool direct_has_work(const struct gw_bus *bus);

/* A handler came or went. */
void direct_handlers_changed(struct gw_bus *bus);

/* A direct event's answer, and the end of its memory. */
void direct_settle(struct gw_bus *bus, struct gw_event *event, enum settlement settlement, uint64_t delay_ms);
void direct_release(struct gw_bus *bus, struct gw_event *event);

/* Those that have rested wait for the handler again; answers when the next one has. */
uint64_t direct_rested(struct gw_handler *handler, uint64_t now_us);

#endif
