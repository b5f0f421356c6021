/* How long a message waits that came back, said as a text or as JSON: what is accepted is a time that grows with nothing but what was said, what is refused has a reason. */
#include "broker/backoff.h"

#include "base/err.h"

#include <jansson.h>

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct backoff *backoff)
{
    CHECK(backoff->count <= BACKOFF_STEPS && backoff->jitter >= 0 && backoff->jitter <= 1 && backoff_equal(backoff, backoff));
    for (uint64_t count = 0; count < 70; count++) {
        uint64_t least = backoff_ms(backoff, 1ull << (count & 63), 0), most = backoff_ms(backoff, 1ull << (count & 63), UINT64_MAX);
        CHECK(least <= most && most <= 2 * BACKOFF_MAX_MS + 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct backoff backoff;
    char why[60] = "";
    uint8_t *copy = malloc(size + 1);   /* so that a byte too far is noticed */
    CHECK(copy);
    memcpy(copy, data, size);
    if (backoff_of_text(bytes_of(copy, size), &backoff, why, sizeof(why)))
        use(&backoff);
    else
        CHECK(why[0]);
    json_t *json = json_loadb((const char *)copy, size, JSON_DECODE_ANY, NULL);
    if (json && backoff_of_json(json, &backoff, why, sizeof(why)))
        use(&backoff);
    json_decref(json);
    free(copy);
    return 0;
}
