/* For tests: the client's end of a session over the fake broker. What the session says becomes text, a line a frame:
 *
 *     0 connection.tune 2047 131072 60          1 channel.close 404 "NOT_FOUND - no queue 'q' in vhost '/'" 50 10
 *     1 header 60 5                             1 body "hello"                   0 heartbeat
 */
#ifndef PROTOCOL_AMQP_PEER_H
#define PROTOCOL_AMQP_PEER_H

#include "protocol/amqp/fake_broker.h"
#include "protocol/amqp/methods.h"
#include "protocol/amqp/session.h"

struct peer {
    struct worker fake;
    struct session *session;
    struct session_config config;
    struct session_host host;
    bool byte_by_byte;           /* how bytes are fed */
    bool dirty;
    uint64_t now_us;
    size_t received_size;
    uint8_t *received;           /* what the session said and was not looked at */
    char text[1 << 16];
};

/* A session that nothing was said to. */
void peer_open(struct peer *peer, bool byte_by_byte);
void peer_close(struct peer *peer);

/* Up to connection.open-ok, with every capability, and channel 1 open; what was said is forgotten. */
void peer_open_running(struct peer *peer, bool byte_by_byte);

void peer_feed(struct peer *peer, const void *bytes, size_t size);
void peer_send(struct peer *peer, uint16_t channel, enum amqp_method_id id, const struct amqp_value *values);
void peer_send_frame(struct peer *peer, uint8_t type, uint16_t channel, const void *payload, size_t size);
void peer_send_start_ok(struct peer *peer, const char *user, const char *password, bool capabilities);

/* basic.publish and its content; the properties are an empty list, or a delivery mode of 2. */
void peer_publish(struct peer *peer, uint16_t channel, const char *exchange, const char *key, const char *body, bool mandatory, bool persistent);

/* Everything that the session has said since the last time. */
const char *peer_heard(struct peer *peer);

#endif
