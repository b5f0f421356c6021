/* An event stream, whole and in two pieces: what is told is the same, and within its bounds. The first byte of the input says where it is split. */
#include "sources/sse_parser.h"

#include "base/err.h"

#define SIZE_MAX_HERE 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void listen_to(struct sse_parser *parser, struct bytes piece, struct text *heard)
{
    uint8_t *copy = malloc(piece.size + 1);   /* so that a byte too far is noticed */
    CHECK(copy);
    if (piece.size)
        memcpy(copy, piece.data, piece.size);
    struct bytes input = bytes_of(copy, piece.size);
    struct sse_event event;
    for (enum sse_result result; (result = sse_next(parser, &input, &event)) != SSE_MORE;) {
        uint8_t mark = (uint8_t)('0' + result);
        CHECK(result != SSE_NO_MEMORY && event.last_id.size <= 3 * SSE_ID_MAX && text_add(heard, bytes_of(&mark, 1)));
        if (result == SSE_EVENT) {
            CHECK(event.type.size && event.data.size <= 3 * SIZE_MAX_HERE && utf8_is_valid(event.data) && utf8_is_valid(event.type) && utf8_is_valid(event.last_id));
            CHECK(!memchr(event.last_id.data ? (const char *)event.last_id.data : "", 0, event.last_id.size));
            CHECK(text_add(heard, event.type) && text_add(heard, event.data) && text_add(heard, event.last_id));
        }
    }
    CHECK(input.size == 0 && parser->line.size <= SIZE_MAX_HERE);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct text heard[2] = {{0}};
    size_t split = data[0] % size;
    struct bytes stream = bytes_of(data + 1, size - 1);
    for (unsigned i = 0; i < 2; i++) {
        struct sse_parser parser;
        CHECK(sse_parser_init(&parser, SIZE_MAX_HERE, (struct bytes){0}));
        if (i == 1)
            listen_to(&parser, bytes_of(stream.data, split), &heard[i]);
        listen_to(&parser, bytes_of(stream.data + (i ? split : 0), stream.size - (i ? split : 0)), &heard[i]);
        sse_parser_deinit(&parser);
    }
    CHECK(bytes_equal(text_bytes(&heard[0]), text_bytes(&heard[1])));
    text_deinit(&heard[0]);
    text_deinit(&heard[1]);
    return 0;
}
