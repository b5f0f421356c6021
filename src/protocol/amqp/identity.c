#include "protocol/amqp/identity.h"

#include "protocol/amqp/table.h"

#include <stdio.h>
#include <stdlib.h>

#define HOST_SIZE 64u
#define PEER_NAME_SIZE 256u

struct identity {
    char peer_host[HOST_SIZE], host[HOST_SIZE], mechanism[16];
    char tls_version[16], tls_cipher[48], peer_name[PEER_NAME_SIZE];   /* empty: there is none */
    uint16_t peer_port, port;
    uint32_t properties_size;
    uint8_t properties[];
};

struct identity *identity_new(struct session_address peer, struct session_address local)
{
    struct identity *identity = calloc(1, sizeof(*identity));
    if (!identity)
        return NULL;
    snprintf(identity->peer_host, HOST_SIZE, "%s", peer.host);
    snprintf(identity->host, HOST_SIZE, "%s", local.host);
    identity->peer_port = peer.port;
    identity->port = local.port;
    return identity;
}

void identity_seal(struct identity *identity, const struct session_seal *seal)
{
    if (!identity)
        return;
    snprintf(identity->tls_version, sizeof(identity->tls_version), "%s", seal->version);
    snprintf(identity->tls_cipher, sizeof(identity->tls_cipher), "%s", seal->cipher);
    snprintf(identity->peer_name, PEER_NAME_SIZE, "%s", seal->peer_name);
}

const char *identity_peer_name(const struct identity *identity) { return identity ? identity->peer_name : ""; }

/* The texts that lists show, out of more than is kept. */
static struct bytes usual_properties(struct bytes properties, uint8_t *room, size_t size)
{
    static const char *const names[] = {"product", "version", "platform", "connection_name"};
    struct amqp_table_writer writer;
    struct bytes table;
    amqp_table_begin(&writer, room, size);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct amqp_field field;
        if (amqp_table_find(properties, names[i], &field) && field.type == 'S' && field.bytes.size <= UINT8_MAX)
            amqp_table_put_text(&writer, names[i], field.bytes);
    }
    return amqp_table_finish(&writer, &table) ? table : (struct bytes){0};
}

void identity_introduce(struct identity **identity, struct bytes mechanism, struct bytes properties)
{
    uint8_t room[2048];
    if (!*identity)
        return;
    if (properties.size > IDENTITY_PROPERTIES_MAX)
        properties = usual_properties(properties, room, sizeof(room));
    struct identity *grown = realloc(*identity, sizeof(*grown) + properties.size);
    if (!grown)
        return;
    *identity = grown;
    snprintf(grown->mechanism, sizeof(grown->mechanism), "%.*s", (int)mechanism.size, (const char *)mechanism.data);
    grown->properties_size = (uint32_t)properties.size;
    if (properties.size)
        memcpy(grown->properties, properties.data, properties.size);
}

struct bytes identity_name(const struct identity *identity, char room[IDENTITY_NAME_MAX])
{
    if (!identity)
        return (struct bytes){0};
    bool peer_is_6 = strchr(identity->peer_host, ':'), is_6 = strchr(identity->host, ':');
    int size = snprintf(room, IDENTITY_NAME_MAX, "%s%s%s:%u -> %s%s%s:%u", peer_is_6 ? "[" : "", identity->peer_host, peer_is_6 ? "]" : "", identity->peer_port,
                        is_6 ? "[" : "", identity->host, is_6 ? "]" : "", identity->port);
    return bytes_of(room, (size_t)size);
}

struct bytes identity_table(const struct identity *identity, const struct identity_terms *terms, uint8_t *room)
{
    struct amqp_table_writer writer;
    struct bytes table;
    char name[IDENTITY_NAME_MAX];
    if (!identity)
        return (struct bytes){0};
    amqp_table_begin(&writer, room, IDENTITY_TABLE_MAX);
    amqp_table_put_text(&writer, "name", identity_name(identity, name));
    amqp_table_put_text(&writer, "peer_host", bytes_of_text(identity->peer_host));
    amqp_table_put_int(&writer, "peer_port", identity->peer_port);
    amqp_table_put_text(&writer, "host", bytes_of_text(identity->host));
    amqp_table_put_int(&writer, "port", identity->port);
    amqp_table_put_text(&writer, "protocol", bytes_of_text("AMQP 0-9-1"));
    amqp_table_put_text(&writer, "auth_mechanism", bytes_of_text(identity->mechanism));
    amqp_table_put_long(&writer, "frame_max", terms->frame_max);
    amqp_table_put_int(&writer, "channel_max", terms->channel_max);
    amqp_table_put_int(&writer, "timeout", terms->heartbeat_s);
    amqp_table_put_bool(&writer, "ssl", identity->tls_version[0]);
    if (identity->tls_version[0]) {
        amqp_table_put_text(&writer, "ssl_protocol", bytes_of_text(identity->tls_version));
        amqp_table_put_text(&writer, "ssl_cipher", bytes_of_text(identity->tls_cipher));
    }
    if (identity->peer_name[0]) {
        char subject[PEER_NAME_SIZE + 3];
        amqp_table_put_text(&writer, "peer_cert_subject", bytes_of(subject, (size_t)snprintf(subject, sizeof(subject), "CN=%s", identity->peer_name)));
    }
    size_t mark = amqp_table_nest_begin(&writer, "client_properties");
    amqp_table_put_all(&writer, bytes_of(identity->properties, identity->properties_size), NULL, NULL);
    amqp_table_nest_end(&writer, mark);
    return amqp_table_finish(&writer, &table) ? table : (struct bytes){0};
}
