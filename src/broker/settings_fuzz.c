/* A queue's arguments and its policies: what is accepted has a meaning, what is refused has a reason. An expiration, a table of arguments (size in 2 bytes before it), and a policy. */
#include "broker/arguments.h"

#include "protocol/amqp/expiration.h"
#include "protocol/amqp/table.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy of its own, so that a byte too far is noticed. */
static struct bytes copy(const uint8_t *data, size_t size)
{
    uint8_t *bytes = malloc(size + 1);
    CHECK(bytes);
    memcpy(bytes, data, size);
    return bytes_of(bytes, size);
}

static void try_arguments(struct bytes arguments, struct bytes policy)
{
    char why[200];
    uint8_t *room = malloc(arguments.size + ARGUMENTS_ADDED);
    struct queue_settings *settings, *again;
    const struct queue_declaration declaration = {.arguments = arguments, .durable = true};
    CHECK(room);
    struct bytes with = arguments_with_default_type(&declaration, bytes_of_text("quorum"), room);
    CHECK(amqp_table_valid(with));
    CHECK(arguments_equivalent(arguments, arguments, ARGUMENTS_OF_QUEUE, "queue", why, sizeof(why)));
    arguments_equivalent(arguments, with, ARGUMENTS_OF_QUEUE, "queue", why, sizeof(why));
    arguments_valid(&declaration, "queue", why, sizeof(why));
    for (enum queue_type type = QUEUE_CLASSIC; type <= QUEUE_STREAM; type++)
        arguments_valid_for_consumer(arguments, type, "queue", why, sizeof(why));
    CHECK(!settings_make(arguments, policy, (struct bytes){0}, &settings) && !settings_make(arguments, policy, policy, &again));
    CHECK(settings_equal(settings, again));   /* an operator who says the same changes nothing */
    settings_free(settings);
    settings_free(again);
    free(room);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t part = load_le16(data) < size - 2 ? load_le16(data) : size - 2;
    struct bytes arguments = copy(data + 2, part), policy = copy(data + 2 + part, size - 2 - part);
    char why[200];
    uint64_t ms;
    settings_policy_valid(policy, false, why, sizeof(why));
    settings_policy_applies(policy, QUEUE_QUORUM);
    if (amqp_table_valid(arguments))
        try_arguments(arguments, policy);
    amqp_expiration_read(policy, &ms, why, sizeof(why));
    amqp_expiration_read(arguments, &ms, why, 4);
    free((void *)(uintptr_t)arguments.data);
    free((void *)(uintptr_t)policy.data);
    return 0;
}
