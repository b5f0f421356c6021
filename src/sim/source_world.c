#include "sim/source_world.h"

#include "base/err.h"
#include "sources/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SECOND_US 1000000ull
#define LINE 9u                      /* bytes of a number in a file, with its end */
#define MISSED_MAX 1000u             /* of times that each have an event */
#define ZONE_PERIOD_S (40 * 86400)

/* ---- a place where clocks are changed ------------------------------------------------------------------------------------------- */

static struct zone_span at_place(const struct zone *zone, int64_t utc_s)
{
    (void)zone;
    int64_t period = utc_s / ZONE_PERIOD_S;
    return (struct zone_span){period ? period * ZONE_PERIOD_S + 3600 : ZONE_ALWAYS_SINCE, (period + 1) * ZONE_PERIOD_S + 3600, period & 1 ? 7200 : 3600};
}

/* The spans begin an hour into their periods. */
static struct zone_span at_place_exactly(const struct zone *zone, int64_t utc_s) { return at_place(zone, utc_s >= 3600 ? utc_s - 3600 : 0); }

static const struct zone place = {.at = at_place_exactly};

static const struct zone *find_zone(struct zones *zones, const char *name)
{
    (void)zones;
    return strcmp(name, "Some/Place") == 0 ? &place : NULL;
}

/* ---- what there is ----------------------------------------------------------------------------------------------------------------- */

static void declare(struct outside *outside, struct random *random)
{
    static const char *const expressions[] = {"* * * * *", "*/7 * * * *", "30 2 * * *", "0 */5 * * *", "15,45 2,3 * * *", "*/20 * * * * *"};
    static const char *const policies[] = {"once", "skip", "all"};
    char id[16], more[128] = "", why[CRON_WHY_MAX];
    unsigned window = (unsigned)random_between(random, 1, random_chance(random, 1, 2) ? 4 : 64);
    outside->missed = (enum outside_missed)random_below(random, 3);
    outside->every_us = random_between(random, 1, random_chance(random, 1, 2) ? 60 : 7200) * SECOND_US;
    const char *expression = expressions[random_below(random, sizeof(expressions) / sizeof(expressions[0]))];
    switch (outside->kind) {
    case OUTSIDE_STREAM: snprintf(more, sizeof(more), "\"kind\":\"sse\",\"url\":\"http://sim.example/%u\"", outside->index); break;
    case OUTSIDE_FILE: snprintf(more, sizeof(more), "\"kind\":\"file\",\"path\":\"/sim/%u\",\"from\":\"start\"", outside->index); break;
    case OUTSIDE_QUEUE:
        snprintf(more, sizeof(more), "\"kind\":\"amqp\",\"uri\":\"amqp://sim.example/%u\",\"queue\":\"jobs\",\"prefetch\":%u,\"retry\":\"%ums\"", outside->index,
                 (unsigned)random_between(random, 1, random_chance(random, 1, 2) ? 5 : OTHER_PREFETCH_MAX), (unsigned)random_between(random, 10, random_chance(random, 1, 2) ? 12 : 1000));
        break;
    case OUTSIDE_TIMER: snprintf(more, sizeof(more), "\"kind\":\"timer\",\"every\":\"%" PRIu64 "ms\",\"missed\":\"%s\"", outside->every_us / 1000, policies[outside->missed]); break;
    default:
        CHECK(cron_read(bytes_of_text(expression), &outside->cron, why));
        snprintf(more, sizeof(more), "\"kind\":\"cron\",\"expression\":\"%s\",\"zone\":\"Some/Place\",\"missed\":\"%s\"", expression, policies[outside->missed]);
    }
    bool timed = outside->kind >= OUTSIDE_TIMER;
    memcpy(id, outside->id, sizeof(id));
    snprintf(outside->text, sizeof(outside->text), "{\"id\":\"%s\",%s,\"data\":\"%s\",\"window\":%u}", id, more, timed ? "{{time_ms}} {{missed}}" : "{{data}}", window);
}

static bool begin(struct feeder *feeder, struct feed *feed, const struct feed_request *request);
static void pause_feed(struct feeder *feeder, struct feed *feed, bool paused) { (void)feeder, ((struct outside *)feed->transport)->is_paused = paused; }
static void look_again(struct feeder *feeder, struct feed *feed) { (void)feeder, (void)feed; }

static void settle(struct feeder *feeder, struct feed *feed, uint64_t number)
{
    struct outside *outside = feed->transport;
    (void)feeder;
    CHECK(outside->kind == OUTSIDE_QUEUE);
    other_queue_settle(&outside->queue, number);
}

/* The source has it no more. */
static void let_go(struct outside *outside)
{
    if (outside->kind == OUTSIDE_QUEUE)
        other_queue_end(&outside->queue, outside->world->random);
    outside->feed = NULL;
}

static void cancel(struct feeder *feeder, struct feed *feed)
{
    (void)feeder;
    let_go(feed->transport);
    feed->transport = NULL;
}

void source_world_init(struct source_world *world, struct random *random, struct trace *trace, uint64_t seed)
{
    struct random chance;
    random_init(&chance, seed ^ 0x736f7572636573);
    *world = (struct source_world){.feeder = {.begin = begin, .pause = pause_feed, .look_again = look_again, .settle = settle, .cancel = cancel},
                                    .zones = {.find = find_zone}, .random = random, .trace = trace};
    world->count = (unsigned)random_between(&chance, 1, OUTSIDES_MAX);
    for (unsigned i = 0; i < world->count; i++) {
        struct outside *outside = &world->list[i];
        outside->world = world;
        outside->index = i;
        outside->kind = (enum outside_kind)random_below(&chance, OUTSIDE_KINDS);
        snprintf(outside->id, sizeof(outside->id), "s%u", i);
        outside->generations[0] = (struct generation){.inode = 100, .first = 1};
        outside->generation_count = 1;
        outside->ids = calloc(NUMBERS_MAX + 1, sizeof(*outside->ids));
        CHECK(outside->ids);
        other_queue_init(&outside->queue, NUMBERS_MAX);
        declare(outside, &chance);
    }
}

void source_world_deinit(struct source_world *world)
{
    for (unsigned i = 0; i < world->count; i++) {
        free(world->list[i].ids);
        other_queue_deinit(&world->list[i].queue);
    }
}

void source_world_make(struct source_world *world)
{
    struct outside *outside = &world->list[random_below(world->random, world->count)];
    uint64_t more = random_size(world->random, 30);
    if (outside->kind >= OUTSIDE_TIMER)
        return;
    outside->made = outside->made + more < NUMBERS_MAX ? outside->made + more : NUMBERS_MAX;
}

/* ---- feeds ---------------------------------------------------------------------------------------------------------------------------- */

static bool begin(struct feeder *feeder, struct feed *feed, const struct feed_request *request)
{
    struct source_world *world = (struct source_world *)feeder;
    const char *digits = strrchr(request->address, '/');
    struct outside *outside = &world->list[strtoul(digits + 1, NULL, 10)];
    CHECK(!outside->feed && outside->index < world->count);
    if (!world->calm && random_chance(world->random, 1, 40))
        return false;
    outside->feed = feed;
    feed->transport = outside;
    outside->is_opened = outside->is_paused = false;
    outside->out_size = 0;
    outside->at = 1;
    for (unsigned i = 0; i < request->header_count; i++)
        if (strncmp(request->headers[i], "Last-Event-ID: ", 15) == 0)
            outside->at = strtoull(request->headers[i] + 15, NULL, 10) + 1;
    outside->generation = outside->generation_count - 1;
    for (unsigned i = 0; i < outside->generation_count; i++)
        if (request->kind == FEED_FILE && outside->generations[i].inode == request->inode)
            outside->generation = i;   /* the last that has it: the others are gone */
    if (outside->kind == OUTSIDE_QUEUE)
        other_queue_begin(&outside->queue, request->prefetch);
    return true;
}

static void end(struct outside *outside, enum feed_outcome outcome)
{
    struct feed *feed = outside->feed;
    let_go(outside);
    feed->transport = NULL;
    feed->events->ended(feed, &(struct feed_end){.outcome = outcome});
}

static bool find_header(const void *owner, struct bytes name, struct bytes *value)
{
    (void)owner;
    *value = bytes_of_text("text/event-stream");
    return bytes_equal(name, bytes_of_text("content-type"));
}

static uint64_t file_size(const struct outside *outside, unsigned generation)
{
    const struct generation *g = &outside->generations[generation];
    uint64_t last = g->last ? g->last : outside->made;
    return last >= g->first ? (last - g->first + 1) * LINE : 0;
}

/* Bytes of a file, as many as fit. */
static size_t read_file(const struct outside *outside, unsigned generation, uint64_t offset, uint8_t *room, size_t size)
{
    uint64_t end = file_size(outside, generation);
    size_t count = 0;
    for (; offset < end && count < size; offset++, count++) {
        char line[LINE + 1];
        snprintf(line, sizeof(line), "%08u\n", (unsigned)(outside->generations[generation].first + offset / LINE) % 100000000u);
        room[count] = (uint8_t)line[offset % LINE];
    }
    return count;
}

static void open_file(struct outside *outside)
{
    uint8_t head[FEED_HEAD_MAX];
    size_t head_size = read_file(outside, outside->generation, 0, head, sizeof(head));
    struct feed_opening opening = {.inode = outside->generations[outside->generation].inode, .size = file_size(outside, outside->generation), .head = bytes_of(head, head_size)};
    outside->is_opened = true;
    outside->feed->events->opened(outside->feed, &opening);
    outside->offset = opening.offset;
    if (outside->offset > opening.size)
        trace_fail(outside->world->trace, "positions", "source %s begins at %" PRIu64 " of a file of %" PRIu64 " bytes", outside->id, outside->offset, opening.size);
}

static void open_outside(struct outside *outside)
{
    struct source_world *world = outside->world;
    bool bad = !world->calm && random_chance(world->random, 1, 4);
    if (bad && random_chance(world->random, 1, 2)) {
        end(outside, FEED_UNREACHABLE);
        return;
    }
    if (outside->kind == OUTSIDE_FILE) {
        open_file(outside);
        return;
    }
    outside->is_opened = true;
    outside->feed->events->opened(outside->feed, &(struct feed_opening){.status = bad ? 503 : 200, .header = find_header});
}

/* One byte in three events has no id of its own: it belongs to the one before it. */
static void write_stream(struct outside *outside)
{
    while (outside->at <= outside->made && outside->out_size + 64 < OUT_ROOM) {
        char *at = (char *)outside->out + outside->out_size;
        int size = outside->at % 3 ? snprintf(at, 64, "id: %" PRIu64 "\ndata: %" PRIu64 "\n\n", outside->at, outside->at) : snprintf(at, 64, "data: %" PRIu64 "\r\n\r\n", outside->at);
        outside->out_size += (size_t)size;
        outside->at++;
    }
}

static bool bring_stream(struct outside *outside)
{
    struct source_world *world = outside->world;
    write_stream(outside);
    if (!outside->out_size)
        return false;
    size_t size = random_between(world->random, 1, outside->out_size);
    uint8_t piece[OUT_ROOM];
    memcpy(piece, outside->out, size);
    outside->out_size -= size;
    memmove(outside->out, outside->out + size, outside->out_size);
    outside->feed->events->came(outside->feed, 0, bytes_of(piece, size));
    return true;
}

static bool bring_file(struct outside *outside)
{
    uint8_t piece[300];
    size_t size = read_file(outside, outside->generation, outside->offset, piece, random_between(outside->world->random, 1, sizeof(piece)));
    if (size) {
        outside->offset += size;
        outside->feed->events->came(outside->feed, 0, bytes_of(piece, size));
        return true;
    }
    if (outside->generation + 1 == outside->generation_count)
        return false;
    /* Another inode: the old one is closed; the same: it was cut off. */
    bool is_cut = outside->generations[outside->generation].inode == outside->generations[outside->generation + 1].inode;
    outside->generation++;
    if (!is_cut)
        outside->feed->events->closed(outside->feed, 0);
    open_file(outside);
    return true;
}

bool source_world_step(struct source_world *world)
{
    struct outside *outside = &world->list[random_below(world->random, world->count)];
    /* What comes of a queue is bounded by its prefetch. */
    if (!outside->feed || (outside->is_paused && outside->kind != OUTSIDE_QUEUE))
        return false;
    if (!outside->is_opened) {
        open_outside(outside);
        return true;
    }
    if (!world->calm && random_chance(world->random, 1, outside->kind == OUTSIDE_QUEUE ? 15 : 60)) {
        end(outside, random_chance(world->random, 1, 2) ? FEED_OVER : FEED_BROKEN);
        return true;
    }
    if (outside->kind == OUTSIDE_QUEUE)
        return other_queue_step(&outside->queue, outside->made, outside->id, outside->feed, world->random, !world->calm);
    return outside->kind == OUTSIDE_FILE ? bring_file(outside) : bring_stream(outside);
}

bool source_world_is_idle(const struct source_world *world)
{
    for (unsigned i = 0; i < world->count; i++) {
        const struct outside *outside = &world->list[i];
        if (!outside->feed || (outside->is_paused && outside->kind != OUTSIDE_QUEUE))
            continue;
        if (!outside->is_opened || outside->out_size)
            return false;
        if (outside->kind == OUTSIDE_QUEUE) {
            if (!other_queue_is_idle(&outside->queue, outside->made))
                return false;
            continue;
        }
        if (outside->kind == OUTSIDE_STREAM ? outside->at <= outside->made
                                            : outside->generation + 1 < outside->generation_count || outside->offset < file_size(outside, outside->generation))
            return false;
    }
    return true;
}

void source_world_turn_over(struct source_world *world)
{
    for (unsigned i = 0; i < world->count; i++) {
        struct outside *outside = &world->list[i];
        struct generation *last = &outside->generations[outside->generation_count - 1];
        if (outside->kind != OUTSIDE_FILE || outside->generation_count == GENERATIONS_MAX || outside->made < last->first || random_chance(world->random, 1, 2))
            continue;
        bool is_cut = random_chance(world->random, 1, 3);
        last->last = outside->made;
        outside->generations[outside->generation_count++] = (struct generation){.inode = is_cut ? last->inode : last->inode + 1, .first = outside->made + 1};
        /* What is written to the old one before the program notices. A file that was cut off has no more. */
        if (!is_cut && outside->made + 3 < NUMBERS_MAX && random_chance(world->random, 1, 2)) {
            last->last += random_between(world->random, 1, 3);
            outside->made = last->last;
            last[1].first = outside->made + 1;
        }
    }
}

/* ---- what was handled ------------------------------------------------------------------------------------------------------------------ */

static void take_number(struct outside *outside, uint64_t number, uint64_t id)
{
    struct trace *trace = outside->world->trace;
    if (number == 0 || number > outside->made) {
        trace_fail(trace, "nothing else", "source %s tells of %" PRIu64 ", of %" PRIu64 " that there are", outside->id, number, outside->made);
    } else if (number <= outside->seen) {
        if (outside->kind != OUTSIDE_QUEUE && outside->ids[number] != id)
            trace_fail(trace, "ids", "source %s: %" PRIu64 " comes again, under another id", outside->id, number);
    } else if (number != outside->seen + 1) {
        trace_fail(trace, "nothing lost", "source %s: %" PRIu64 " comes after %" PRIu64, outside->id, number, outside->seen);
    } else {
        outside->seen = number;
        outside->ids[number] = id;
    }
}

static uint64_t next_time(const struct outside *outside, uint64_t at_us)
{
    if (outside->kind == OUTSIDE_TIMER)
        return at_us + outside->every_us;
    int64_t next_s = cron_next(&outside->cron, &place, (int64_t)(at_us / SECOND_US));
    return next_s == CRON_NEVER ? UINT64_MAX : (uint64_t)next_s * SECOND_US;
}

/* Times that lie between two; not more than can be of interest. */
static uint64_t times_between(const struct outside *outside, uint64_t from_us, uint64_t to_us)
{
    uint64_t count = 0;
    if (outside->kind == OUTSIDE_TIMER)
        return to_us < from_us + outside->every_us ? 0 : (to_us - from_us) / outside->every_us - 1;
    while ((from_us = next_time(outside, from_us)) < to_us && count < 200 * MISSED_MAX)
        count++;
    return count;
}

static void take_time(struct outside *outside, uint64_t at_ms, uint64_t missed)
{
    struct trace *trace = outside->world->trace;
    /* Times are known to the millisecond, and those that are too many are passed over. */
    uint64_t at_us = at_ms * 1000;
    if (at_us > trace->now_us + 1000)
        trace_fail(trace, "times", "source %s tells of a time that is still to come", outside->id);
    if (!outside->last_us) {
        outside->last_us = at_us;
        return;
    }
    if (at_us <= outside->last_us)
        return;
    uint64_t between = outside->kind == OUTSIDE_TIMER ? (at_us - outside->last_us + outside->every_us / 2) / outside->every_us - 1 : times_between(outside, outside->last_us, at_us);
    bool good = outside->missed == OUTSIDE_SKIP || (outside->missed == OUTSIDE_ALL && (between == 0 || times_between(outside, at_us, trace->now_us) >= MISSED_MAX - 2)) ||
                (outside->missed == OUTSIDE_ONCE && missed >= between);
    if (outside->missed == OUTSIDE_ONCE && between >= 100 * MISSED_MAX - 2)
        good = true;
    if (!good)
        trace_fail(trace, "times", "source %s: %" PRIu64 " times lie between %" PRIu64 " ms and %" PRIu64 " ms, which says that it stands for %" PRIu64, outside->id, between,
                   outside->last_us / 1000, at_ms, missed);
    outside->last_us = at_us;
}

void source_world_handled(struct source_world *world, struct bytes id, struct bytes body)
{
    char text[64];
    snprintf(text, sizeof(text), "%.*s", (int)(body.size < 60 ? body.size : 60), (const char *)body.data);
    if (id.size < 4 || id.data[0] != 's' || id.data[1] < '0' || id.data[1] >= '0' + world->count || id.data[2] != '/') {
        trace_fail(world->trace, "nothing else", "an event has the id '%.*s'", (int)id.size, (const char *)id.data);
        return;
    }
    struct outside *outside = &world->list[id.data[1] - '0'];
    char *rest;
    uint64_t number = strtoull(text, &rest, 10);
    world->handled++;
    if (outside->kind == OUTSIDE_QUEUE && number <= outside->made)
        other_queue_handled(&outside->queue, outside->id, number, id, world->trace);
    if (outside->kind < OUTSIDE_TIMER)
        take_number(outside, number, source_hash(id));
    else
        take_time(outside, number, strtoull(rest, NULL, 10));
}

bool source_world_is_owed(const struct source_world *world)
{
    for (unsigned i = 0; i < world->count; i++) {
        const struct outside *outside = &world->list[i];
        if (outside->kind < OUTSIDE_TIMER && (outside->seen < outside->made || (outside->kind == OUTSIDE_QUEUE && outside->queue.gone < outside->made)))
            return true;
    }
    return false;
}

void source_world_check_end(struct source_world *world)
{
    uint64_t now_us = world->trace->now_us;
    for (unsigned i = 0; i < world->count; i++) {
        const struct outside *outside = &world->list[i];
        if (outside->kind == OUTSIDE_QUEUE && outside->seen == outside->made && outside->queue.gone < outside->made)
            trace_fail(world->trace, "acknowledged", "source %s: of %" PRIu64 " messages that were handled only %" PRIu64 " were acknowledged", outside->id, outside->made, outside->queue.gone);
        if (outside->kind < OUTSIDE_TIMER && outside->seen < outside->made)
            trace_fail(world->trace, "nothing lost", "source %s: of %" PRIu64 " the last that was handled is %" PRIu64, outside->id, outside->made, outside->seen);
        else if (outside->kind >= OUTSIDE_TIMER && outside->last_us && outside->missed != OUTSIDE_SKIP && next_time(outside, outside->last_us) + 90 * SECOND_US < now_us)
            trace_fail(world->trace, "times", "source %s: nothing came since %" PRIu64 " ms", outside->id, outside->last_us / 1000);
    }
}
