/* Names that are to be gone through, first in, first out; each is copied, since what it is the name of may be gone by then. */
#ifndef BROKER_NAME_LIST_H
#define BROKER_NAME_LIST_H

#include "base/bytes.h"

/* Zero-initialized is empty. */
struct name_list {
    uint8_t *bytes;          /* size (1), name; … */
    size_t used, room;
    size_t at, last;         /* where the next one begins, and the one that was added last */
};

/* A name of up to 255 bytes; the one that was added last is not added again. False: out of memory, it is not there. */
bool name_list_add(struct name_list *list, struct bytes name);

/* The next one, copied to `room` (255 bytes); false: there is none left. */
bool name_list_next(struct name_list *list, uint8_t *room, struct bytes *name);

void name_list_deinit(struct name_list *list);

#endif
