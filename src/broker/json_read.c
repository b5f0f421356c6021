#include "broker/json_read.h"

#include "base/err.h"

#include <stdio.h>

/* Is the text within the limits? It need not be JSON. */
static bool is_bounded(struct bytes text, size_t values_max)
{
    size_t values = 0, depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            values++;
            if (++depth > JSON_DEPTH_MAX)
                return false;
        } else if (c == '}' || c == ']') {
            depth -= depth > 0;
        } else if (c == ',' || c == ':') {
            values++;
        }
    }
    return values <= values_max;
}

json_t *json_read_object(struct bytes text, const struct json_limits *limits, char *why, size_t room)
{
    json_error_t error;
    if (text.size > limits->size_max) {
        snprintf(why, room, "it is longer than %zu bytes", limits->size_max);
        return NULL;
    }
    if (!is_bounded(text, limits->values_max)) {
        snprintf(why, room, "it is nested too deeply or has too many values");
        return NULL;
    }
    json_t *json = json_loadb(text.size ? (const char *)text.data : "", text.size, JSON_ALLOW_NUL, &error);
    if (!json) {
        snprintf(why, room, "it is not JSON: line %d, column %d: %s", error.line, error.column, error.text);
        return NULL;
    }
    if (json_is_object(json))
        return json;
    json_decref(json);
    snprintf(why, room, "it is no JSON object");
    return NULL;
}
