#include "broker/alternate.h"

#include "protocol/amqp/table.h"

#include <jansson.h>
#include <stdlib.h>

#define KEY "alternate-exchange"

static enum gw_err copy(const void *text, size_t text_size, uint8_t **name, size_t *size)
{
    *name = malloc(text_size + 1);
    if (!*name)
        return GW_ERR_NOMEM;
    memcpy(*name, text, text_size);
    *size = text_size;
    return GW_OK;
}

enum gw_err alternate_of(struct bytes arguments, struct bytes definition, uint8_t **name, size_t *size)
{
    struct amqp_field field;
    *name = NULL;
    *size = 0;
    if (amqp_table_find(arguments, KEY, &field))
        return field.type == 'S' && field.bytes.size ? copy(field.bytes.data, field.bytes.size, name, size) : GW_OK;
    json_t *object = definition.size ? json_loadb((const char *)definition.data, definition.size, 0, NULL) : NULL;
    const json_t *value = json_object_get(object, KEY);
    enum gw_err err = json_is_string(value) && json_string_length(value) ? copy(json_string_value(value), json_string_length(value), name, size) : GW_OK;
    json_decref(object);
    return err;
}
