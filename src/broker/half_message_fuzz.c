/* What a message says of its transaction: whatever the properties are, it lies within them, and what goes on after a commit is no half message. The first byte says where it
 * was published and how. */
#include "broker/half_message.h"

#include "protocol/amqp/properties.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const keys[] = {"commit", "rollback", "check", "other"};
    struct amqp_properties decoded;
    struct bytes properties = bytes_of(data + 1, size ? size - 1 : 0), after;
    struct half_said said, again;
    char why[256];
    if (!size || !amqp_properties_decode(properties, &decoded))
        return 0;
    const struct half_asked asked = {bytes_of_text(data[0] & 4 ? HALF_EXCHANGE : "x"), bytes_of_text(keys[data[0] & 3]), properties, data[0] & 8 ? HALF_BODY_MAX + 1 : 0};
    enum half_kind kind = half_judge(&asked, &said, why, sizeof(why));
    CHECK(kind != HALF_NOTE && (kind != HALF_NONE || !(data[0] & 4)));
    if (kind == HALF_NONE || kind == HALF_BAD)
        return 0;
    CHECK(said.id.size && said.id.size <= HALF_ID_MAX && said.id.data >= properties.data && said.id.data + said.id.size <= properties.data + properties.size);
    CHECK(said.check_queue.size <= UINT8_MAX && said.check_limit <= HALF_LIMIT_MAX && said.check_after_ms && said.check_after_ms <= HALF_AFTER_MAX_MS);
    if (kind != HALF_MESSAGE || half_committed_properties(properties, &after))
        return 0;
    CHECK(amqp_properties_decode(after, &decoded) && !half_is_asked(after));
    CHECK(half_read(bytes_of_text("x"), (struct bytes){0}, after, 0, &again, why, sizeof(why)) == HALF_NONE);
    free((void *)(uintptr_t)after.data);
    return 0;
}
