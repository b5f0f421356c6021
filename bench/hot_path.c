/* Messages through a session, a shard and a session, without a socket, a disk or a clock: for counting what a message costs. Prints nothing; count it with
 * bench/instructions.
 *
 *   hot_path MESSAGES plain|persistent|ack|ttl|priority|header|group|group-fair|dedup|dedup-again|retry|delay|half
 */
#include "broker/broker.h"
#include "broker/worker.h"
#include "protocol/amqp/methods.h"
#include "protocol/amqp/properties.h"
#include "protocol/amqp/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 500u
#define ROOM (256u * 1024u)

struct fixture {
    struct broker *broker;
    struct worker *worker;
    struct session_config config;
    struct session_host host;
    struct worker_port port;
    uint64_t now_us;
};

static void dirty(struct session_host *host, void *owner)
{
    (void)host;
    (void)owner;
}

static bool post(struct worker_port *port, unsigned to, struct batch *batch)
{
    (void)port;
    (void)to;
    (void)batch;
    return false;
}

static void open_broker(struct fixture *f)
{
    static const uint8_t chance[32] = {1, 2, 3};
    const struct broker_config config = {.workers = 1, .shards = 1, .log_body = LOG_MEMORY, .observes = true, .random = chance};
    char why[256];
    *f = (struct fixture){.config = session_config_default, .host = {dirty}, .port = {post}, .now_us = 1000000};
    f->broker = broker_new(&config);
    CHECK(f->broker);
    f->worker = worker_new(f->broker, 0, NULL, &f->port);
    CHECK(f->worker && !broker_open(f->broker, why, sizeof(why)));
}

/* A turn, and everything that the session has to say is thrown away. */
static void turn(struct fixture *f, struct session *session)
{
    struct iovec iov[64];
    f->now_us += 50;
    worker_turn(f->worker, f->now_us);
    for (unsigned count; (count = session_output(session, iov, 64)) > 0;) {
        size_t size = 0;
        for (unsigned i = 0; i < count; i++)
            size += iov[i].iov_len;
        session_sent(session, size, f->now_us);
    }
}

static void say(struct fixture *f, struct session *session, uint16_t channel, enum amqp_method_id id, const struct amqp_value *values)
{
    uint8_t frame[2048];
    size_t size = amqp_method_frame(frame, sizeof(frame), channel, id, values);
    CHECK(size > 0);
    session_feed(session, bytes_of(frame, size), f->now_us);
    for (unsigned i = 0; i < 4; i++)
        turn(f, session);
}

static struct session *connect(struct fixture *f)
{
    struct session *session;
    struct amqp_value start[AMQP_CONNECTION_START_OK_COUNT] = {
        [AMQP_CONNECTION_START_OK_MECHANISM] = amqp_text("PLAIN"), [AMQP_CONNECTION_START_OK_RESPONSE] = amqp_bytes(bytes_of("\0guest\0guest", 12)),
        [AMQP_CONNECTION_START_OK_LOCALE] = amqp_text("en_US")};
    struct amqp_value tune[] = {amqp_number(2047), amqp_number(131072), amqp_number(0)}, open[] = {amqp_text("/"), amqp_text(""), amqp_number(0)}, channel[] = {amqp_text("")};
    CHECK(!session_new(f->worker, &f->config, &f->host, NULL, true, f->now_us, &session));
    session_feed(session, bytes_of(amqp_protocol_header, AMQP_PROTOCOL_HEADER_SIZE), f->now_us);
    say(f, session, 0, AMQP_CONNECTION_START_OK, start);
    say(f, session, 0, AMQP_CONNECTION_TUNE_OK, tune);
    say(f, session, 0, AMQP_CONNECTION_OPEN, open);
    say(f, session, 1, AMQP_CHANNEL_OPEN, channel);
    return session;
}

/* Persistent, keyed, and acknowledged. */
static bool is_delayed(const char *kind) { return strcmp(kind, "delay") == 0; }
static bool has_header(const char *kind) { return strncmp(kind, "group", 5) == 0 || strcmp(kind, "header") == 0; }
/* The same with ids: all new ones, or every message twice. */
static bool has_ids(const char *kind) { return strncmp(kind, "dedup", 5) == 0; }
/* The same in transactions of a batch, each committed. */
static bool is_half(const char *kind) { return strcmp(kind, "half") == 0; }
static bool acknowledges(const char *kind) { return is_half(kind) || strcmp(kind, "ack") == 0 || strcmp(kind, "retry") == 0 || is_delayed(kind) || has_header(kind) || has_ids(kind); }

static void declare(struct fixture *f, struct session *session, const char *kind)
{
    uint8_t room[256];
    struct amqp_table_writer writer;
    struct bytes table;
    amqp_table_begin(&writer, room, sizeof(room));
    if (strcmp(kind, "ttl") == 0)
        amqp_table_put_int(&writer, "x-message-ttl", 600000);
    if (strcmp(kind, "priority") == 0)
        amqp_table_put_int(&writer, "x-max-priority", 10);
    if (has_ids(kind))
        amqp_table_put_int(&writer, "x-dedup-window", 600000);
    if (strcmp(kind, "retry") == 0)
        amqp_table_put_text(&writer, "x-retry-backoff", bytes_of_text("1s,5s,1m"));
    if (strncmp(kind, "group", 5) == 0)
        amqp_table_put_text(&writer, "x-group-key", bytes_of_text("tenant"));
    if (strcmp(kind, "group-fair") == 0)
        amqp_table_put_bool(&writer, "x-group-fair", true);
    CHECK(amqp_table_finish(&writer, &table));
    struct amqp_value declare[AMQP_QUEUE_DECLARE_COUNT] = {
        [AMQP_QUEUE_DECLARE_QUEUE] = amqp_text("hot"), [AMQP_QUEUE_DECLARE_DURABLE] = amqp_number(1), [AMQP_QUEUE_DECLARE_ARGUMENTS] = amqp_bytes(table)};
    struct amqp_value consume[AMQP_BASIC_CONSUME_COUNT] = {[AMQP_BASIC_CONSUME_QUEUE] = amqp_text("hot"), [AMQP_BASIC_CONSUME_NO_ACK] = amqp_number(!acknowledges(kind))};
    say(f, session, 1, AMQP_QUEUE_DECLARE, declare);
    say(f, session, 1, AMQP_BASIC_CONSUME, consume);
}

/* The header of a transaction, whose id are 8 digits at the end. */
static struct bytes transaction_header(uint8_t *room, size_t size)
{
    struct amqp_table_writer writer;
    struct bytes table;
    amqp_table_begin(&writer, room, size);
    amqp_table_put_text(&writer, "x-transaction", bytes_of_text("00000000"));
    CHECK(amqp_table_finish(&writer, &table));
    return table;
}

/* What ends the batch's transaction; *id is where its digits lie. */
static uint8_t *write_commit(uint8_t *at, uint8_t **id)
{
    uint8_t properties[64], room[64];
    struct amqp_properties values = {.flags = AMQP_HEADERS, .headers = transaction_header(room, sizeof(room))};
    size_t size = amqp_properties_encode(&values, properties, sizeof(properties));
    at += amqp_publish_frame(at, ROOM, 1, bytes_of_text("amq.godwit.transactions"), bytes_of_text("commit"), false);
    at = amqp_content_header_write(at, 1, 0, bytes_of(properties, size));
    *id = at - 1 - 8;
    return at;
}

/* BATCH publishes, one after the other. */
static size_t make_batch(uint8_t *at, const char *kind, uint8_t **ids)
{
    bool persistent = strcmp(kind, "persistent") == 0 || acknowledges(kind), priority = strcmp(kind, "priority") == 0;
    uint8_t *begin = at, properties[64], room[64];
    char key[16], id[64];
    for (unsigned i = 0; i < BATCH; i++) {
        struct amqp_properties values = {.flags = AMQP_DELIVERY_MODE | (priority ? AMQP_PRIORITY : 0), .delivery_mode = persistent ? 2 : 1, .priority = (uint8_t)(i % 11)};
        if (is_half(kind)) {
            values.headers = transaction_header(room, sizeof(room));
            values.flags |= AMQP_HEADERS;
        }
        if (has_header(kind)) {
            struct amqp_table_writer writer;
            snprintf(key, sizeof(key), "tenant-%u", i % 50);
            amqp_table_begin(&writer, room, sizeof(room));
            amqp_table_put_text(&writer, "tenant", bytes_of_text(key));
            CHECK(amqp_table_finish(&writer, &values.headers));
            values.flags |= AMQP_HEADERS;
        }
        if (is_delayed(kind)) {
            struct amqp_table_writer writer;
            amqp_table_begin(&writer, room, sizeof(room));
            amqp_table_put_int(&writer, "x-delay", 1);
            CHECK(amqp_table_finish(&writer, &values.headers));
            values.flags |= AMQP_HEADERS;
        }
        if (has_ids(kind)) {
            snprintf(id, sizeof(id), "%08x-0000-4000-8000-%012x", 0, i);
            values.message_id = bytes_of_text(id);
            values.flags |= AMQP_MESSAGE_ID;
        }
        size_t size = amqp_properties_encode(&values, properties, sizeof(properties));
        at += amqp_publish_frame(at, ROOM, 1, bytes_of_text(""), bytes_of_text("hot"), false);
        at = amqp_content_header_write(at, 1, 16, bytes_of(properties, size));
        /* The last property, before the frame's end; behind the headers is the delivery mode. */
        ids[i] = has_ids(kind) ? at - 1 - strlen(id) : is_half(kind) ? at - 2 - 8 : NULL;
        at = amqp_frame_begin(at, AMQP_FRAME_BODY, 1, 16);
        memset(at, 'x', 16);
        at[16] = AMQP_FRAME_END;
        at += 17;
    }
    return (size_t)((is_half(kind) ? write_commit(at, &ids[BATCH]) : at) - begin);
}

/* The first 8 digits of every id say which batch it is of. */
static void number_ids(uint8_t **ids, unsigned count, uint32_t number)
{
    uint8_t digits[8];
    for (unsigned i = 0; i < 8; i++)
        digits[i] = (uint8_t)"0123456789abcdef"[number >> (28 - 4 * i) & 15];
    for (unsigned i = 0; i < count; i++)
        memcpy(ids[i], digits, 8);
}

int main(int argc, char **argv)
{
    static uint8_t batch[ROOM];
    struct fixture f;
    if (argc != 3) {
        fprintf(stderr, "usage: hot_path MESSAGES plain|persistent|ack|ttl|priority|header|group|group-fair|dedup|dedup-again|retry|delay|half\n");
        return 2;
    }
    open_broker(&f);
    struct session *publisher = connect(&f), *consumer = connect(&f);
    declare(&f, consumer, argv[2]);
    uint8_t *ids[BATCH + 1];
    size_t size = make_batch(batch, argv[2], ids);
    for (long left = atol(argv[1]); left > 0; left -= BATCH) {
        if (is_half(argv[2]))
            number_ids(ids, BATCH + 1, (uint32_t)left / BATCH);
        if (has_ids(argv[2]))
            number_ids(ids, BATCH, strcmp(argv[2], "dedup") == 0 ? (uint32_t)left / BATCH : (uint32_t)left / BATCH / 2);
        session_feed(publisher, bytes_of(batch, size), f.now_us);
        for (unsigned i = 0; i < (is_half(argv[2]) ? 6 : 2); i++)
            turn(&f, consumer);
        if (acknowledges(argv[2])) {
            uint8_t ack[AMQP_ACK_FRAME_SIZE];
            amqp_ack_write(ack, 1, AMQP_BASIC_ACK, 0, 1);
            session_feed(consumer, bytes_of(ack, sizeof(ack)), f.now_us);
        }
    }
    session_free(publisher);
    session_free(consumer);
    worker_turn(f.worker, f.now_us);
    CHECK(!broker_close(f.broker));
    broker_free(f.broker);
    return 0;
}
