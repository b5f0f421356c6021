/* Types of events against patterns, as a topic exchange matches them: words between dots; * is one word, # any number of them. */
#ifndef BUS_EVENT_TYPE_H
#define BUS_EVENT_TYPE_H

#include "base/bytes.h"

/* Takes no more steps than words times words, whatever the pattern. */
bool event_type_fits(struct bytes type, struct bytes pattern);

#endif
