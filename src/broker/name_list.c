#include "broker/name_list.h"

#include <stdlib.h>

bool name_list_add(struct name_list *list, struct bytes name)
{
    size_t size = 1 + name.size;
    if (name.size > UINT8_MAX)
        return false;
    if (list->used > list->at && bytes_equal(bytes_of(list->bytes + list->last + 1, list->bytes[list->last]), name))
        return true;
    if (list->used + size > list->room) {
        size_t room = list->room ? list->room * 2 : 1024;
        uint8_t *grown = realloc(list->bytes, room);
        if (!grown)
            return false;
        list->bytes = grown;
        list->room = room;
    }
    list->last = list->used;
    list->bytes[list->used] = (uint8_t)name.size;
    if (name.size)
        memcpy(list->bytes + list->used + 1, name.data, name.size);
    list->used += size;
    return true;
}

bool name_list_next(struct name_list *list, uint8_t *room, struct bytes *name)
{
    if (list->at == list->used)
        return false;
    const uint8_t *at = list->bytes + list->at;
    memcpy(room, at + 1, at[0]);
    *name = bytes_of(room, at[0]);
    list->at += 1 + (size_t)at[0];
    return true;
}

void name_list_deinit(struct name_list *list)
{
    free(list->bytes);
    *list = (struct name_list){0};
}
