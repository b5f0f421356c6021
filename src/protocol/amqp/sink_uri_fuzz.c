/* A libFuzzer target: URIs of sinks that are brokers. What is read keeps its bounds and names a host; what is not is told why. */
#include "protocol/amqp/sink_uri.h"

#include "base/err.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sink_uri sink;
    char why[SINK_URI_WHY_MAX] = "";
    char *text = malloc(size + 1);
    CHECK(text);
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    if (sink_uri_read(text, &sink, why)) {
        CHECK(sink_uri_is(text) && sink.uri.host[0] && sink.uri.port && !sink.uri.ca[0]);
        CHECK(sink.exchange[0] || sink.has_routing_key);
        CHECK(strlen(sink.exchange) <= URI_PART_MAX && strlen(sink.routing_key) <= URI_PART_MAX);
    } else {
        CHECK(why[0] && strlen(why) < SINK_URI_WHY_MAX);
    }
    free(text);
    return 0;
}
