#include "cli/cell.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

const char *cell(const json_t *value, char text[CELL])
{
    char *dumped = json_is_string(value) || !value || json_is_null(value) ? NULL : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    snprintf(text, CELL, "%s", json_is_string(value) ? json_string_value(value) : dumped ? dumped : "-");
    free(dumped);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    return *text ? text : "-";
}

json_t *cell_time(const json_t *ms)
{
    char text[40];
    struct tm tm;
    if (!json_is_integer(ms))
        return json_null();
    time_t seconds = (time_t)(json_integer_value(ms) / 1000);
    if (!localtime_r(&seconds, &tm))
        return json_null();
    size_t size = strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
    snprintf(text + size, sizeof(text) - size, ".%03d", (int)(json_integer_value(ms) % 1000));
    return json_string(text);
}
