/* JSON as a cell of a table. */
#ifndef CLI_CELL_H
#define CLI_CELL_H

#include <jansson.h>

#define CELL 120                  /* bytes of a cell */

/* A text as it is, anything else as JSON, nothing as a dash; what would steer the terminal becomes a question mark. */
const char *cell(const json_t *value, char text[CELL]);

/* Milliseconds since 1970 as a local time; a new reference. */
json_t *cell_time(const json_t *ms);

#endif
