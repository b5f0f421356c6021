/* What a time zone says: the system's database, or the simulator's. Local time is UTC and an offset, which changes at certain instants. */
#ifndef IO_ZONE_H
#define IO_ZONE_H

#include <stdint.h>

#define ZONE_ALWAYS_SINCE INT64_MIN
#define ZONE_ALWAYS_UNTIL INT64_MAX

/* A run of time, seconds since 1970 (UTC), in which the offset is the same. */
struct zone_span {
    int64_t since_s, until_s;        /* until: the first second that does not belong to it */
    int32_t offset_s;                /* local time is UTC and this */
};

struct zone {
    /* The span that `utc_s` lies in. Spans that follow each other may have the same offset. */
    struct zone_span (*at)(const struct zone *zone, int64_t utc_s);
};

struct zones {
    /* By its name in the tz database ("Europe/Berlin"), or "UTC". Owned by the zones, and valid as long as they are. NULL: there is none, or out of memory. */
    const struct zone *(*find)(struct zones *zones, const char *name);
};

/* Universal time, which never changes. */
extern const struct zone zone_utc;

#endif
