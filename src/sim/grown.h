/* Arrays of the simulation's own that grow; without memory for them there is no simulation. */
#ifndef SIM_GROWN_H
#define SIM_GROWN_H

#include "base/err.h"

#include <stdlib.h>

/* The array with room for one more than `count`; moves it, and *room along, when it is full. `size`: of an element, bytes. */
static inline void *grown(void *array, unsigned count, unsigned *room, size_t size)
{
    if (count < *room)
        return array;
    *room = *room ? *room * 2 : 16;
    array = realloc(array, *room * size);
    CHECK(array);
    return array;
}

#endif
