/* Time zones (io/zone.h) of the system's tz database, by GLib. */
#ifndef RUNTIME_ZONE_H
#define RUNTIME_ZONE_H

#include "io/zone.h"

struct system_zones;

/* NULL: out of memory. For one thread. */
struct system_zones *system_zones_new(void);
void system_zones_free(struct system_zones *zones);
struct zones *system_zones_io(struct system_zones *zones);

#endif
