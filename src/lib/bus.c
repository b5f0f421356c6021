#include "lib/bus.h"

#include "lib/direct.h"
#include "lib/handler.h"
#include "lib/loop.h"
#include "lib/request.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define TOLD_BUDGET 4096u            /* of publishes, in a turn */
#define EVENT_BUDGET 4096u           /* handled in a turn, before sockets and disks are looked at again */
#define NOTES_MAX 100u               /* not yet told; more are lost */

struct bus_note {
    struct bus_note *next;
    enum gw_notice_level level;
    char text[];
};

/* ---- life -------------------------------------------------------------------------------------------------------------------------- */

/* Seven letters and a dash: of all that ever published here, hardly two have the same. */
static void choose_prefix(struct gw_loop *loop, char prefix[12])
{
    static const char letters[] = "abcdefghijkmnopqrstuvwxyzABCDEFGHIJKLMNPQRSTUVWXYZ23456789-_.~+$";
    uint8_t random[7];
    loop->ops->random(loop, random, sizeof(random));
    for (unsigned i = 0; i < sizeof(random); i++)
        prefix[i] = letters[random[i] & 63];
    prefix[7] = '-';
    prefix[8] = 0;
}

unsigned bus_new_id(struct gw_bus *bus, char id[BUS_ID_MAX])
{
    static const char digits[] = "0123456789abcdef";
    char *at = id + 8;
    uint64_t number = ++bus->next_id;
    memcpy(id, bus->id_prefix, 8);
    for (int shift = number >> 32 ? 60 : 28, begun = 0; shift >= 0; shift -= 4) {
        unsigned digit = (number >> shift) & 15;
        begun |= digit != 0;
        if (begun)
            *at++ = digits[digit];
    }
    *at = 0;
    return (unsigned)(at - id);
}

struct gw_bus *bus_begin(struct gw_loop *loop, gw_notice_fn notice, void *notice_context)
{
    struct gw_bus *bus = calloc(1, sizeof(*bus));
    if (!bus) {
        loop_fail(loop, GW_E_MEMORY, "out of memory");
        return NULL;
    }
    *bus = (struct gw_bus){.loop = loop, .due_us = LOOP_NEVER, .notice = notice, .notice_context = notice_context, .next = loop->buses};
    bus->ready_last = &bus->ready;
    bus->notes_last = &bus->notes;
    tickets_init(&bus->tickets);
    choose_prefix(loop, bus->id_prefix);
    if (loop->buses)
        loop->buses->previous = bus;
    loop->buses = bus;
    loop_again_now(loop);
    return bus;
}

static void bus_free(struct gw_bus *bus)
{
    while (bus->handlers)
        handler_free(bus->handlers);
    direct_free(bus);
    for (struct bus_note *note; (note = bus->notes);) {
        bus->notes = note->next;
        free(note);
    }
    tickets_deinit(&bus->tickets);
    event_pool_deinit(&bus->events);
    if (bus->next)
        bus->next->previous = bus->previous;
    if (bus->previous)
        bus->previous->next = bus->next;
    else
        bus->loop->buses = bus->next;
    free(bus);
}

void bus_abandon(struct gw_bus *bus, int result)
{
    if (!bus->loop->failed)
        bus->loop->failed = result;
    bus_free(bus);
}

int bus_check(struct gw_bus *bus)
{
    int result = bus ? loop_check(bus->loop) : GW_E_INVALID;
    if (LIKELY(result == GW_DONE && bus->state == BUS_OPEN))
        return GW_DONE;
    if (result != GW_DONE)
        return result;
    if (bus->state == BUS_GIVEN_UP)
        return loop_fail(bus->loop, bus->result, "%s", bus->why);
    return loop_fail(bus->loop, GW_E_CLOSED, "the bus is being closed");
}

gw_loop *gw_bus_loop(const gw_bus *bus) { return bus ? bus->loop : NULL; }

int gw_forget(gw_bus *bus, const char *name)
{
    int result = bus_check(bus);
    if (result != GW_DONE)
        return result;
    if (!name || !name[0])
        return loop_fail(bus->loop, GW_E_INVALID, "which handlers' queue is to be forgotten is not said");
    if (!handler_name_is_possible(name))
        return loop_fail(bus->loop, GW_E_LIMIT, "a handler's name has 1 to 250 bytes of UTF-8");
    return bus->ops->forget(bus, name);
}

/* ---- what is told unasked ------------------------------------------------------------------------------------------------------------ */

void bus_notice(struct gw_bus *bus, enum gw_notice_level level, const char *format, ...)
{
    char text[LOOP_ERROR_MAX];
    va_list arguments;
    unsigned count = 0;
    if (!bus->notice)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    for (struct bus_note *note = bus->notes; note; note = note->next)
        count++;
    struct bus_note *note = count < NOTES_MAX ? malloc(sizeof(*note) + strlen(text) + 1) : NULL;
    if (!note)
        return;
    note->next = NULL;
    note->level = level;
    strcpy(note->text, text);
    *bus->notes_last = note;
    bus->notes_last = &note->next;
    loop_again_now(bus->loop);
}

static void tell_notes(struct gw_bus *bus)
{
    for (struct bus_note *note; (note = bus->notes) && !loop_is_to_stop(bus->loop);) {
        char text[LOOP_ERROR_MAX];
        int level = (int)note->level;
        snprintf(text, sizeof(text), "%s", note->text);
        bus->notes = note->next;
        if (!bus->notes)
            bus->notes_last = &bus->notes;
        free(note);
        bus->notice(bus->notice_context, level, text);
    }
}

/* ---- closing ------------------------------------------------------------------------------------------------------------------------- */

void bus_part_add(struct gw_bus *bus, struct bus_part *part)
{
    part->previous = NULL;
    part->next = bus->parts;
    if (bus->parts)
        bus->parts->previous = part;
    bus->parts = part;
}

void bus_part_remove(struct gw_bus *bus, struct bus_part *part)
{
    if (part->next)
        part->next->previous = part->previous;
    if (part->previous)
        part->previous->next = part->next;
    else
        bus->parts = part->next;
    loop_again_now(bus->loop);
}

static void begin_close(struct gw_bus *bus, uint64_t grace_ms)
{
    uint64_t now_us = loop_clock(bus->loop);
    bus->state = BUS_CLOSING;
    bus->grace_us = grace_ms < (LOOP_NEVER - now_us) / 1000 ? now_us + grace_ms * 1000 : LOOP_NEVER;
    for (struct gw_handler *handler = bus->handlers; handler; handler = handler->next)
        handler_stop(handler);
    /* Any of them may take itself and others out. */
    for (struct bus_part *part = bus->parts, *next; part; part = next) {
        next = part->next;
        part->close(part);
    }
    loop_again_now(bus->loop);
}

int gw_close(gw_bus *bus, uint64_t grace_ms, gw_closed_fn done, void *context)
{
    int result = bus && bus->state == BUS_GIVEN_UP ? loop_check(bus->loop) : bus_check(bus);
    if (result != GW_DONE)
        return result;
    bus->closed = done;
    bus->closed_context = context;
    begin_close(bus, grace_ms);
    return GW_DONE;
}

void buses_close(struct gw_loop *loop, uint64_t grace_ms)
{
    for (struct gw_bus *bus = loop->buses; bus; bus = bus->next)
        if (bus->state == BUS_OPEN || bus->state == BUS_GIVEN_UP)
            begin_close(bus, grace_ms);
}

void buses_forked(struct gw_loop *loop)
{
    for (struct gw_bus *bus = loop->buses; bus; bus = bus->next)
        if (bus->engine)
            bus->ops->forked(bus);
}

void bus_give_up(struct gw_bus *bus, int result)
{
    snprintf(bus->why, sizeof(bus->why), "%s", bus->loop->error);
    if (bus->state == BUS_OPEN) {
        bus->state = BUS_GIVEN_UP;
        bus->result = result;
        bus->loop->failed = bus->loop->failed ? bus->loop->failed : result;
    }
    tickets_give_up(&bus->tickets, result);
    requests_give_up(bus, result);
    loop_again_now(bus->loop);
}

void bus_closed(struct gw_bus *bus, int result)
{
    bus->engine = NULL;
    bus->result = result;
    bus->state = BUS_CLOSED;
    tickets_give_up(&bus->tickets, result == GW_DONE ? GW_E_CLOSED : result);
    loop_again_now(bus->loop);
}

static void go_on_closing(struct gw_bus *bus, uint64_t now_us, uint64_t *due_us)
{
    bool over = now_us >= bus->grace_us;
    if (bus->parts || (!over && (bus->in_hand || tickets_are_out(&bus->tickets)))) {
        if (!over && bus->grace_us < *due_us)
            *due_us = bus->grace_us;
        if (over && bus->ops->abandon)
            bus->ops->abandon(bus);   /* what parts wait for, and what nobody may be there to answer */
        return;
    }
    bus->state = BUS_ENDING;
    for (struct gw_handler *handler = bus->handlers; handler; handler = handler->next)
        handler_give_back(handler, true);
    bus->ops->close(bus);
}

/* Everything about it has been told. */
static void end(struct gw_bus *bus)
{
    gw_closed_fn closed = bus->closed;
    void *context = bus->closed_context;
    int result = bus->result;
    bus_free(bus);
    if (closed)
        closed(context, result);
}

/* ---- the turn ------------------------------------------------------------------------------------------------------------------------ */

static void look_at_handlers(struct gw_bus *bus, uint64_t now_us)
{
    if (now_us >= bus->due_us) {
        bus->due_us = LOOP_NEVER;
        for (struct gw_handler *handler = bus->handlers; handler; handler = handler->next) {
            uint64_t due_us = handler_late(handler, now_us);
            bus->due_us = due_us < bus->due_us ? due_us : bus->due_us;
        }
    }
    if (!bus->reap)
        return;
    bus->reap = false;
    for (struct gw_handler *handler = bus->handlers, *next; handler; handler = next) {
        next = handler->next;
        if (handler_is_over(handler))
            handler_free(handler);
        else
            bus->reap |= handler->off && handler->is_ready;
    }
}

/* A handler is in the list while it is called: one that does not return does not keep its other events from coming. */
static void call_ready(struct gw_bus *bus, unsigned *budget, uint64_t turn)
{
    while (*budget && bus->ready && bus->loop->turns == turn) {
        struct gw_handler *handler = bus->ready;
        bus->ready = handler->ready_next;
        if (!bus->ready)
            bus->ready_last = &bus->ready;
        handler->is_ready = false;
        if (!handler_has_work(handler))
            continue;
        handler_is_ready(handler);
        handler_turn(handler, budget);
    }
}

static bool has_work(const struct gw_bus *bus)
{
    return bus->ready || bus->notes || bus->reap || direct_has_work(bus) || tickets_can_tell(&bus->tickets) || bus->state == BUS_CLOSED;
}

bool buses_are_alive(const struct gw_loop *loop)
{
    for (const struct gw_bus *bus = loop->buses; bus; bus = bus->next)
        if (bus->state != BUS_GIVEN_UP || has_work(bus))
            return true;
    return false;
}

static void bus_turn(struct gw_bus *bus, uint64_t now_us, uint64_t *due_us)
{
    struct gw_loop *loop = bus->loop;
    uint64_t turn = loop->turns;
    unsigned budget = EVENT_BUDGET;
    bool more = bus->engine && bus->ops->turn(bus, now_us, due_us);
    look_at_handlers(bus, now_us);
    tell_notes(bus);
    if (loop->turns == turn)
        tickets_turn(&bus->tickets, bus->loop, TOLD_BUDGET);
    if (loop_is_to_stop(loop))
        budget = 0;
    if (loop->turns == turn)
        direct_turn(bus, &budget);
    if (loop->turns == turn)
        call_ready(bus, &budget, turn);
    if (loop->turns != turn)
        return;   /* a callback ran the loop itself: what was looked at here may be gone */
    if (bus->state == BUS_CLOSING)
        go_on_closing(bus, now_us, due_us);
    if (more || has_work(bus))
        loop_again_now(loop);
    if (bus->due_us < *due_us)
        *due_us = bus->due_us;
    if (bus->state == BUS_CLOSED && !tickets_can_tell(&bus->tickets) && !bus->notes && !loop_is_to_stop(loop))
        end(bus);
}

uint64_t buses_turn(struct gw_loop *loop, uint64_t now_us)
{
    uint64_t turn = ++loop->turns, due_us = LOOP_NEVER;
    for (struct gw_bus *bus = loop->buses, *next; bus; bus = next) {
        next = bus->next;
        bus_turn(bus, now_us, &due_us);
        if (loop->turns != turn) {
            loop_again_now(loop);
            break;
        }
    }
    return due_us;
}
