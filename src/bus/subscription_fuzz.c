/* A libFuzzer target: subscriptions in JSON. What is read keeps its bounds, and is read again from what it is written as. */
#include "bus/subscription.h"

#include "base/err.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool read_one(const char *text, size_t size, struct subscription *subscription)
{
    char why[SUBSCRIPTION_WHY_MAX] = "";
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
    bool good = root && subscription_read(subscription, root, why);
    CHECK(good || !root || why[0]);
    json_decref(root);
    return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct subscription subscription, again;
    char queue[SUBSCRIPTION_QUEUE_MAX];
    if (!read_one((const char *)data, size, &subscription))
        return 0;
    CHECK(subscription.type_count > 0 && subscription.type_count <= SUBSCRIPTION_TYPES_MAX && subscription.concurrency > 0 && subscription.attempts > 0);
    CHECK(subscription.secret_count <= SECRETS_MAX && subscription.url.port && subscription.timeout_ms > 0);
    subscription_queue(subscription.id, true, queue);
    char *text = json_dumps(subscription.root, JSON_COMPACT);
    CHECK(text && read_one(text, strlen(text), &again));
    CHECK(again.type_count == subscription.type_count && !again.selector == !subscription.selector);
    free(text);
    subscription_deinit(&again);
    subscription_deinit(&subscription);
    return 0;
}
