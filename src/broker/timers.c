#include "broker/timers.h"

#include <stdlib.h>

void timers_deinit(struct timers *timers)
{
    free(timers->heap);
    *timers = (struct timers){0};
}

static void put(struct timers *timers, uint32_t place, struct queue *queue)
{
    timers->heap[place] = queue;
    queue->timer_place = place;
}

static void sift_up(struct timers *timers, uint32_t place, struct queue *queue)
{
    for (; place > 1 && timers->heap[place / 2]->timer_us > queue->timer_us; place /= 2)
        put(timers, place, timers->heap[place / 2]);
    put(timers, place, queue);
}

static void sift_down(struct timers *timers, uint32_t place, struct queue *queue)
{
    for (uint32_t child; (child = place * 2) <= timers->count; place = child) {
        if (child < timers->count && timers->heap[child + 1]->timer_us < timers->heap[child]->timer_us)
            child++;
        if (timers->heap[child]->timer_us >= queue->timer_us)
            break;
        put(timers, place, timers->heap[child]);
    }
    put(timers, place, queue);
}

bool timers_set(struct timers *timers, struct queue *queue, uint64_t at_us)
{
    if (queue->timer_place) {
        if (at_us < queue->timer_us) {
            queue->timer_us = at_us;
            sift_up(timers, queue->timer_place, queue);
        }
        return true;
    }
    if (timers->count + 1 >= timers->capacity) {
        uint32_t capacity = timers->capacity ? timers->capacity * 2 : 16;
        struct queue **heap = realloc(timers->heap, capacity * sizeof(*heap));
        if (!heap)
            return false;
        timers->heap = heap;
        timers->capacity = capacity;
    }
    queue->timer_us = at_us;
    sift_up(timers, ++timers->count, queue);
    return true;
}

void timers_remove(struct timers *timers, struct queue *queue)
{
    uint32_t place = queue->timer_place;
    if (!place)
        return;
    queue->timer_place = 0;
    struct queue *last = timers->heap[timers->count--];
    if (last == queue)
        return;
    if (place > 1 && timers->heap[place / 2]->timer_us > last->timer_us)
        sift_up(timers, place, last);
    else
        sift_down(timers, place, last);
}

struct queue *timers_take(struct timers *timers, uint64_t now_us)
{
    if (timers_next(timers) > now_us)
        return NULL;
    struct queue *queue = timers->heap[1];
    timers_remove(timers, queue);
    return queue;
}
