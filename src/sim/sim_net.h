/* A connection's two byte streams between a simulated client and a session: what one side has written arrives at the other in pieces of any size, late,
 * or never. */
#ifndef SIM_SIM_NET_H
#define SIM_SIM_NET_H

#include "base/bytes.h"
#include "sim/random.h"

struct stream {
    uint8_t *data;
    size_t begin, end, room;
};

struct link {
    struct stream to_session, to_client;
    bool client_gone;        /* it will neither read nor write any more … */
    bool reset;              /* … and the session's side learns of it; otherwise the connection is half open */
    bool session_gone;       /* the server has closed its side: what is on its way still arrives */
    uint64_t gone_us;        /* when the client went */
};

void link_init(struct link *link);
void link_deinit(struct link *link);

void stream_write(struct stream *stream, const void *bytes, size_t size);
static inline struct bytes stream_bytes(const struct stream *stream)
{
    return stream->data ? bytes_of(stream->data + stream->begin, stream->end - stream->begin) : (struct bytes){0};
}
void stream_read(struct stream *stream, size_t size);
void stream_clear(struct stream *stream);

/* How many of `size` bytes arrive now: with `slow` chances in 256 very few. */
size_t net_piece(struct random *random, size_t size, unsigned slow);

#endif
