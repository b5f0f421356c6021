#include "sim/sim_net.h"

#include "base/err.h"

#include <stdlib.h>

void link_init(struct link *link)
{
    memset(link, 0, sizeof(*link));
}

void link_deinit(struct link *link)
{
    free(link->to_session.data);
    free(link->to_client.data);
}

void stream_write(struct stream *stream, const void *bytes, size_t size)
{
    if (size == 0)
        return;
    if (stream->begin > 0 && stream->end + size > stream->room) {
        memmove(stream->data, stream->data + stream->begin, stream->end - stream->begin);
        stream->end -= stream->begin;
        stream->begin = 0;
    }
    if (stream->end + size > stream->room) {
        stream->room = (stream->end + size) * 2;
        stream->data = realloc(stream->data, stream->room);
        CHECK(stream->data);
    }
    memcpy(stream->data + stream->end, bytes, size);
    stream->end += size;
}

void stream_read(struct stream *stream, size_t size)
{
    stream->begin += size;
    if (stream->begin == stream->end)
        stream->begin = stream->end = 0;
}

void stream_clear(struct stream *stream)
{
    stream->begin = stream->end = 0;
}

size_t net_piece(struct random *random, size_t size, unsigned slow)
{
    if (size == 0)
        return 0;
    if (random_chance(random, slow, 256))
        return random_between(random, 1, size < 3 ? size : 3);
    return random_chance(random, 3, 4) ? size : random_between(random, 1, size);
}
