/* The key of a group: whatever a message says there, it is found within its bytes, and is the same each time. The first byte says where to look. */
#include "broker/group_key.h"

#include "protocol/amqp/properties.h"
#include "store/message.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const texts[] = {"k", "property:routing-key", "property:correlation-id", "property:message-id", "property:app-id"};
    struct amqp_properties properties;
    struct bytes list = bytes_of(data + 1, size ? size - 1 : 0), key, again;
    char room[GROUP_KEY_ROOM], other[GROUP_KEY_ROOM];
    unsigned where;
    if (!size || !amqp_properties_decode(list, &properties))
        return 0;
    struct bytes text = bytes_of_text(texts[data[0] % 5]);
    CHECK(group_key_parse(text, &where));
    uint8_t *content = malloc(message_size(1, 1, list.size, 0));
    CHECK(content);
    uint8_t *end = message_begin(content, bytes_of_text("x"), bytes_of_text("r"), list, 0);
    struct bytes whole = bytes_of(content, (size_t)(end - content));
    if (group_key_of(whole, text, where, room, &key)) {
        CHECK(key.size > 0 && group_key_of(whole, text, where, other, &again) && bytes_equal(key, again));
        CHECK((key.data >= content && key.data + key.size <= end) || key.size < GROUP_KEY_ROOM);
    }
    free(content);
    return 0;
}
