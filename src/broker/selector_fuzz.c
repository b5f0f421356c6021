/* Selectors: what is accepted can be evaluated, and says the same each time. A text (size in 2 bytes before it), then a table of headers. */
#include "broker/selector.h"

#include "protocol/amqp/properties.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_selector(struct selector *selector, const struct message *message)
{
    uint64_t hashes[SELECTOR_TERMS_MAX];
    bool matches = selector_matches(selector, message);
    CHECK(selector_matches(selector, message) == matches);
    CHECK(selector_terms(selector, hashes) <= SELECTOR_TERMS_MAX);
    selector_free(selector);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t part = load_le16(data) < size - 2 ? load_le16(data) : size - 2;
    struct bytes text = bytes_of(data + 2, part), table = bytes_of(data + 2 + part, size - 2 - part);
    struct amqp_properties properties = {.flags = AMQP_HEADERS | AMQP_MESSAGE_ID, .message_id = bytes_of_text("m")};
    struct selector *selector;
    char why[200];
    if (amqp_table_valid(table))
        properties.headers = table;
    uint8_t *room = malloc(table.size + 64);
    CHECK(room);
    const struct message message = {.exchange = bytes_of_text("x"), .properties = bytes_of(room, amqp_properties_encode(&properties, room, table.size + 64))};
    CHECK(message.properties.size);
    if (!selector_compile(text, &selector, why, sizeof(why)))
        try_selector(selector, &message);
    if (!selector_from_table(properties.headers, &selector, why, sizeof(why)))
        try_selector(selector, &message);
    free(room);
    return 0;
}
