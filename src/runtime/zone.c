#include "runtime/zone.h"

#include <glib.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NAME_MAX_SIZE 64u
#define FIRST_STEP_S 86400
#define LAST_STEP_S ((int64_t)4 * 366 * 86400)

struct system_zone {
    struct zone zone;                /* first */
    struct system_zone *next;
    char name[NAME_MAX_SIZE];
    GTimeZone *glib;
    struct zone_span last;           /* what was asked last is mostly asked again */
};

struct system_zones {
    struct zones io;                 /* first */
    struct system_zone *first;
};

/* GLib numbers the intervals of a zone, and does not say where they end. Two instants lie in the same one when the numbers are the same. */
static gint interval_at(const struct system_zone *zone, int64_t utc_s) { return g_time_zone_find_interval(zone->glib, G_TIME_TYPE_UNIVERSAL, utc_s); }

/* The first (or, backwards, the last) second of another interval; `none`: there is none for years. */
static int64_t find_change(const struct system_zone *zone, int64_t utc_s, gint interval, int direction, int64_t none)
{
    int64_t near = 0, far = 0;
    for (int64_t step = FIRST_STEP_S; interval_at(zone, utc_s + direction * (far = step)) == interval; step *= 2) {
        if (step > LAST_STEP_S)
            return none;
        near = step;
    }
    while (far - near > 1) {
        int64_t middle = near + (far - near) / 2;
        *(interval_at(zone, utc_s + direction * middle) == interval ? &near : &far) = middle;
    }
    return utc_s + direction * far;
}

static struct zone_span at(const struct zone *io, int64_t utc_s)
{
    struct system_zone *zone = (struct system_zone *)(uintptr_t)io;
    if (utc_s >= zone->last.since_s && utc_s < zone->last.until_s)
        return zone->last;
    gint interval = interval_at(zone, utc_s);
    int64_t before_s = find_change(zone, utc_s, interval, -1, ZONE_ALWAYS_SINCE);
    zone->last = (struct zone_span){
        .since_s = before_s == ZONE_ALWAYS_SINCE ? ZONE_ALWAYS_SINCE : before_s + 1,
        .until_s = find_change(zone, utc_s, interval, 1, ZONE_ALWAYS_UNTIL),
        .offset_s = g_time_zone_get_offset(zone->glib, interval),
    };
    return zone->last;
}

/* A name of the database and nothing else that GLib would take for a zone: no path, no rule in the text ("UTC+1" would be one, and an hour behind UTC). */
static bool is_possible(const char *name)
{
    size_t size = strlen(name);
    struct stat stat_;
    char path[PATH_MAX];
    const char *database = getenv("TZDIR");
    if (size == 0 || size >= NAME_MAX_SIZE || name[0] == '/' || strstr(name, "..") ||
        strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-/") != size)
        return false;
    /* Where GLib looks, too. */
    int length = snprintf(path, sizeof(path), "%s/%s", database ? database : "/usr/share/zoneinfo", name);
    return length > 0 && (size_t)length < sizeof(path) && stat(path, &stat_) == 0 && S_ISREG(stat_.st_mode);
}

static const struct zone *find(struct zones *io, const char *name)
{
    struct system_zones *zones = (struct system_zones *)io;
    if (strcmp(name, "UTC") == 0)
        return &zone_utc;
    for (struct system_zone *zone = zones->first; zone; zone = zone->next)
        if (strcmp(zone->name, name) == 0)
            return &zone->zone;
    GTimeZone *glib = is_possible(name) && (name[0] < '0' || name[0] > '9') ? g_time_zone_new_identifier(name) : NULL;
    struct system_zone *zone = glib ? calloc(1, sizeof(*zone)) : NULL;
    if (!zone) {
        if (glib)
            g_time_zone_unref(glib);
        return NULL;
    }
    *zone = (struct system_zone){.zone = {.at = at}, .next = zones->first, .glib = glib, .last = {.since_s = 0, .until_s = 0}};
    strcpy(zone->name, name);
    zones->first = zone;
    return &zone->zone;
}

struct system_zones *system_zones_new(void)
{
    struct system_zones *zones = calloc(1, sizeof(*zones));
    if (zones)
        zones->io.find = find;
    return zones;
}

void system_zones_free(struct system_zones *zones)
{
    for (struct system_zone *zone; zones && (zone = zones->first);) {
        zones->first = zone->next;
        g_time_zone_unref(zone->glib);
        free(zone);
    }
    free(zones);
}

struct zones *system_zones_io(struct system_zones *zones) { return &zones->io; }
