/* A regular expression of an administrator's: in permissions and policies. Perl's dialect, as RabbitMQ takes it, on bytes; it matches where any part of the
 * subject does. Not for several threads. */
#ifndef BROKER_PATTERN_H
#define BROKER_PATTERN_H

#include "base/bytes.h"
#include "base/err.h"

#include <stdbool.h>

struct pattern;

/* GW_ERR_INVALID: it does not compile; `why` (may be NULL) says so and `offset` where. GW_ERR_NOMEM. */
enum gw_err pattern_new(struct bytes text, struct pattern **pattern, char *why, size_t room, size_t *offset);
void pattern_free(struct pattern *pattern);

/* `pattern` NULL matches nothing. One that takes too long to tell does not match. */
bool pattern_matches(const struct pattern *pattern, struct bytes subject);

/* Is it ".*", which needs no looking? */
bool pattern_is_all(struct bytes text);

#endif
