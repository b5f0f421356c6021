/* Which messages of a queue somebody means: by message-id, by headers, by a selector; all that are given must fit. */
#ifndef BROKER_PICK_H
#define BROKER_PICK_H

#include "broker/selector.h"

#include <jansson.h>

struct pick {
    struct bytes id;             /* the property message-id; empty: any */
    const json_t *headers;       /* an object: a header's text, number or boolean must read like the value; NULL: any */
    struct selector *selector;   /* NULL: any */
};

/* From the fields "id", "headers" and "filter" of a request, which outlives the pick. On failure `why` says what is wrong. Deinit in any case. */
bool pick_init(struct pick *pick, const json_t *request, char *why, size_t room);
void pick_deinit(struct pick *pick);

bool pick_takes(const struct pick *pick, const struct message *message);

#endif
