/* A libFuzzer target: CloudEvents in JSON, one or a batch. What is read is inside the input or owned, and is written as properties that can be read. */
#include "protocol/gateway/cloud_event.h"
#include "base/err.h"
#include "protocol/gateway/json_slice.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_one(json_t *root, struct bytes text)
{
    struct cloud_event event;
    char why[EVENT_WHY_MAX];
    if (event_read_json(&event, root, text, why)) {
        struct amqp_properties properties, again;
        uint8_t *room;
        CHECK(event_properties(&event, &properties, &room));
        size_t wanted = amqp_properties_size(&properties);
        uint8_t *bytes = malloc(wanted);
        CHECK(bytes && amqp_properties_encode(&properties, bytes, wanted) == wanted);
        CHECK(amqp_properties_decode(bytes_of(bytes, wanted), &again));
        unsigned sum = 0;
        for (size_t i = 0; i < event.data.size; i++)
            sum += event.data.data[i];
        CHECK(sum < UINT32_MAX);
        free(bytes);
        free(room);
    }
    event_deinit(&event);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_error_t error;
    uint8_t *copy = malloc(size);
    json_t *root = NULL;
    if (copy && size) {
        memcpy(copy, data, size);
        root = json_loadb((const char *)copy, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    }
    if (json_is_array(root)) {
        struct bytes rest = json_slice_open(bytes_of(copy, size)), text;
        size_t count = 0;
        while (json_slice_next(&rest, &text))
            read_one(json_array_get(root, count++), text);
        CHECK(count == json_array_size(root));
    } else if (root) {
        read_one(root, bytes_of(copy, size));
    }
    json_decref(root);
    free(copy);
    return 0;
}
