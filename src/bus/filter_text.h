/* Filters of the CloudEvents Subscriptions API as the text of a selector: {"exact": {"type": "x"}} is cloudEvents_type = 'x'; prefix, suffix, all, any, not, and sql, which is
 * the text of a selector as it is. */
#ifndef BUS_FILTER_TEXT_H
#define BUS_FILTER_TEXT_H

#include "base/bytes.h"
#include "broker/selector.h"

#include <jansson.h>

/* All of the array's filters must be true, and the source be this one (NULL: any). Without either the text is empty. Writes into `text`, with a zero behind it. False: `why` says what is wrong. */
bool filter_text(const json_t *filters, const char *source, char text[SELECTOR_SIZE_MAX + 1], char *why, size_t room);

#endif
