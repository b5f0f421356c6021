/* gw_event: an event on its way to a handler, in its hands, or late. */
#ifndef LIB_EVENT_H
#define LIB_EVENT_H

#include "base/bytes.h"

#include <godwit.h>
#include <stdbool.h>

struct amqp_properties;

enum event_state {
    EVENT_FREE,
    EVENT_WAITING,                   /* its handler has not seen it */
    EVENT_IN_HAND,
    EVENT_LATE,                      /* it has gone back: what the handler still has is the memory, until it answers */
    EVENT_RESTING,                   /* in memory alone: waits to be tried again */
};

struct gw_event {
    struct gw_event *next, *previous;        /* in the handler's list of its state */
    struct gw_handler *handler;
    struct bytes exchange, routing_key, properties, body;
    void *memory;                            /* what those lie in: the engine's, or direct.c's */
    uint64_t queue, tag;                     /* the engine's, to settle it */
    uint32_t consumer, size;
    uint64_t due_us;                         /* in hand: when it is late; resting: when it is tried again */
    struct amqp_properties *read;            /* of the properties, once somebody has asked; lies in `texts` */
    struct event_text *texts;                /* what was handed out */
    uint64_t serial;                         /* direct ones: what their id is made of when they have none */
    uint32_t attempt;
    uint8_t state;
    bool redelivered, is_direct;
};

/* What an engine hands over; borrowed until handler_deliver returns but for what `memory` keeps. */
struct incoming {
    struct bytes exchange, routing_key, properties, body;
    void *memory;                            /* the engine's: it keeps all of the above until ops->settle gives it back */
    uint64_t queue, tag;
    uint32_t consumer, size;
    uint32_t attempt;                        /* 1: the first, as far as the engine knows */
    bool redelivered;
};

struct event_list {
    struct gw_event *first, *last;
};

static inline void event_list_append(struct event_list *list, struct gw_event *event)
{
    event->next = NULL;
    event->previous = list->last;
    if (list->last)
        list->last->next = event;
    else
        list->first = event;
    list->last = event;
}

static inline void event_list_remove(struct event_list *list, struct gw_event *event)
{
    if (event->next)
        event->next->previous = event->previous;
    else
        list->last = event->previous;
    if (event->previous)
        event->previous->next = event->next;
    else
        list->first = event->next;
}

struct event_pool {
    struct gw_event *free;
    struct event_slab *slabs;
};

/* NULL: out of memory. */
struct gw_event *event_new(struct event_pool *pool);
/* Frees what was handed out, and it. It is in no list. */
void event_free(struct event_pool *pool, struct gw_event *event);
void event_pool_deinit(struct event_pool *pool);

/* Memory that is valid as long as the event is; NULL: there is none. */
void *event_room(struct gw_event *event, size_t size);
/* How often the message was tried before a copy of it took its place (remote_rest.c). */
uint32_t event_attempts_said(struct bytes properties);

/* A text that is valid as long as the event is; NULL: out of memory. */
const char *event_keep_text(struct gw_event *event, struct bytes text);

#endif
