/* Which exchange gets what an exchange matches nothing for. */
#ifndef BROKER_ALTERNATE_H
#define BROKER_ALTERNATE_H

#include "base/bytes.h"
#include "base/err.h"

/* What the exchange's arguments (a valid table) say, else what the policy's definition (JSON text; empty: none) does: its name, malloc'ed, which the caller frees;
 * NULL and size 0 when neither says any. GW_ERR_NOMEM. */
enum gw_err alternate_of(struct bytes arguments, struct bytes definition, uint8_t **name, size_t *size);

#endif
