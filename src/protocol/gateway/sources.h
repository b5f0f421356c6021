/* The broker's sources by HTTP: declarations (sources/declaration.h) that are kept as parameters, which the intakes follow (bus/intakes.h). For administrators. */
#ifndef PROTOCOL_GATEWAY_SOURCES_H
#define PROTOCOL_GATEWAY_SOURCES_H

#include "protocol/gateway/task.h"

/* What another reactor's hall asks of a source, or answers. */
void sources_letter(struct gateway_hall *hall, unsigned from, struct bytes letter);

#endif
