/* Who a connection is, as administrators see it: its addresses, what the client said of itself, what was agreed on. Gathered during the handshake, told to the
 * broker with connection.open as one table, and forgotten. */
#ifndef PROTOCOL_AMQP_IDENTITY_H
#define PROTOCOL_AMQP_IDENTITY_H

#include "protocol/amqp/session.h"

struct identity;

/* Clients may say as much as fits into a frame; of more than this (bytes) only the usual names are kept. */
#define IDENTITY_PROPERTIES_MAX 4096u
#define IDENTITY_TABLE_MAX (IDENTITY_PROPERTIES_MAX + 1536u)

struct identity_terms {
    uint32_t frame_max;
    uint16_t channel_max, heartbeat_s;
};

/* NULL: out of memory; then nothing is known, which every function here takes for an answer. */
struct identity *identity_new(struct session_address peer, struct session_address local);

/* What there is of TLS, and the name that the client may log in with by its certificate alone; empty: none. */
void identity_seal(struct identity *identity, const struct session_seal *seal);
const char *identity_peer_name(const struct identity *identity);

/* What connection.start-ok says: *identity may move. `properties`: a valid table. */
void identity_introduce(struct identity **identity, struct bytes mechanism, struct bytes properties);

/* "127.0.0.1:50000 -> 127.0.0.1:5672", by which a connection is called; empty when nothing is known. */
#define IDENTITY_NAME_MAX 160u
struct bytes identity_name(const struct identity *identity, char room[IDENTITY_NAME_MAX]);

/* The table without its leading size, in `room` of IDENTITY_TABLE_MAX bytes. Keys are RabbitMQ's: name, peer_host, peer_port, host, port, protocol, auth_mechanism,
 * frame_max, channel_max, timeout, client_properties; ssl, and with it ssl_protocol, ssl_cipher and peer_cert_subject. */
struct bytes identity_table(const struct identity *identity, const struct identity_terms *terms, uint8_t *room);

#endif
