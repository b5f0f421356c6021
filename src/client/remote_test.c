/* The client against a broker that does what a test tells it: a thread behind a loopback socket that plays a script. */
#include "client/remote.h"
#include "client/verbs.h"
#include "protocol/amqp/methods.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

struct broker {
    pthread_t thread;
    int listener, fd;
    size_t piece;                 /* bytes it sends at a time; 0: as they come */
    uint16_t heartbeat_s;
    unsigned heartbeats;          /* of the client's, heard */
    void (*script)(struct broker *broker);
    uint8_t in[1 << 16];
    size_t held;
};

/* The broker's side. */

static void say_bytes(struct broker *broker, const void *data, size_t size)
{
    const uint8_t *at = data;
    while (size > 0) {
        size_t part = broker->piece && broker->piece < size ? broker->piece : size;
        ssize_t sent = send(broker->fd, at, part, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        at += sent;
        size -= (size_t)sent;
    }
}

static void say(struct broker *broker, uint16_t channel, uint32_t id, const struct amqp_value *values)
{
    uint8_t room[4096];
    say_bytes(broker, room, amqp_method_frame(room, sizeof room, channel, id, values));
}

/* Reads frames until one has the method, or is a heartbeat where that is 0; false: the client hung up. */
static bool hear(struct broker *broker, uint32_t id)
{
    for (;;) {
        struct amqp_frame frame;
        size_t header = broker->held >= 8 && memcmp(broker->in, "AMQP", 4) == 0 ? 8 : 0;
        if (header) {
            memmove(broker->in, broker->in + header, broker->held - header);
            broker->held -= header;
        }
        while (amqp_frame_read(bytes_of(broker->in, broker->held), 0, &frame) == WIRE_OK) {
            bool met = id ? frame.type == AMQP_FRAME_METHOD && amqp_method_id_read(frame.payload.data) == id : frame.type == AMQP_FRAME_HEARTBEAT;
            broker->held -= frame.size;
            memmove(broker->in, broker->in + frame.size, broker->held);
            if (met)
                return true;
        }
        ssize_t size = recv(broker->fd, broker->in + broker->held, sizeof broker->in - broker->held, 0);
        if (size <= 0)
            return false;
        broker->held += (size_t)size;
    }
}

static void say_start(struct broker *broker)
{
    struct amqp_value values[AMQP_CONNECTION_START_COUNT] = {
        [AMQP_CONNECTION_START_VERSION_MINOR] = amqp_number(9),
        [AMQP_CONNECTION_START_SERVER_PROPERTIES] = amqp_bytes(bytes_of("\7productS\0\0\0\4Fake\7versionS\0\0\0\3""1.2", 33)),
        [AMQP_CONNECTION_START_MECHANISMS] = amqp_text("EXTERNAL PLAIN"),
        [AMQP_CONNECTION_START_LOCALES] = amqp_text("en_US"),
    };
    uint8_t header[8];
    for (size_t got = 0; got < sizeof header;) {
        ssize_t size = recv(broker->fd, header + got, sizeof header - got, 0);
        if (size <= 0)
            return;
        got += (size_t)size;
    }
    say(broker, 0, AMQP_CONNECTION_START, values);
}

static void say_tune(struct broker *broker)
{
    struct amqp_value values[AMQP_CONNECTION_TUNE_COUNT] = {
        [AMQP_CONNECTION_TUNE_FRAME_MAX] = amqp_number(4096),
        [AMQP_CONNECTION_TUNE_HEARTBEAT] = amqp_number(broker->heartbeat_s),
    };
    say(broker, 0, AMQP_CONNECTION_TUNE, values);
}

/* Everything until the channel is open. */
static void welcome(struct broker *broker)
{
    struct amqp_value nothing[AMQP_CONNECTION_OPEN_OK_COUNT] = {{{0}}};
    say_start(broker);
    hear(broker, AMQP_CONNECTION_START_OK);
    say_tune(broker);
    hear(broker, AMQP_CONNECTION_OPEN);
    say(broker, 0, AMQP_CONNECTION_OPEN_OK, nothing);
    hear(broker, AMQP_CHANNEL_OPEN);
    say(broker, 1, AMQP_CHANNEL_OPEN_OK, nothing);
}

static void goodbye(struct broker *broker)
{
    if (hear(broker, AMQP_CONNECTION_CLOSE))
        say(broker, 0, AMQP_CONNECTION_CLOSE_OK, NULL);
}

static void refuse(struct broker *broker, uint16_t channel, uint32_t id, unsigned code, const char *text)
{
    struct amqp_value values[AMQP_CHANNEL_CLOSE_COUNT] = {
        [AMQP_CHANNEL_CLOSE_REPLY_CODE] = amqp_number(code),
        [AMQP_CHANNEL_CLOSE_REPLY_TEXT] = amqp_text(text),
    };
    say(broker, channel, id, values);
}

static void *play(void *argument)
{
    struct broker *broker = argument;
    broker->fd = accept(broker->listener, NULL, NULL);
    broker->script(broker);
    close(broker->fd);
    return NULL;
}

/* The client's side. */

struct seen {
    unsigned delivered, returned, cancelled, blocked, unblocked;
    uint64_t confirmed, refused;
    uint64_t body_sizes[8];
    bool intact;
    char text[256];
};

static void on_delivered(void *owner, const struct remote_message *message)
{
    struct seen *seen = owner;
    if (seen->delivered < 8)
        seen->body_sizes[seen->delivered] = message->body.size;
    for (size_t i = 0; i < message->body.size; i++)
        seen->intact &= message->body.data[i] == (uint8_t)(i * 7);
    seen->intact &= message->delivery_tag == seen->delivered + 1 && bytes_equal(message->routing_key, bytes_of_text("key"));
    seen->delivered++;
}

static void on_returned(void *owner, const struct remote_message *message)
{
    struct seen *seen = owner;
    seen->returned++;
    snprintf(seen->text, sizeof seen->text, "%u %.*s %.*s", message->reply_code, (int)message->reply_text.size,
             (const char *)message->reply_text.data, (int)message->body.size, (const char *)message->body.data);
}

static void on_confirmed(void *owner, uint64_t number, bool multiple, bool accepted)
{
    struct seen *seen = owner;
    uint64_t count = multiple ? 100 + number : number;
    if (accepted)
        seen->confirmed += count;
    else
        seen->refused += count;
}

static void on_cancelled(void *owner, struct bytes consumer_tag)
{
    ((struct seen *)owner)->cancelled += bytes_equal(consumer_tag, bytes_of_text("tag"));
}

static void on_blocked(void *owner, bool blocked, struct bytes reason)
{
    struct seen *seen = owner;
    seen->blocked += blocked && bytes_equal(reason, bytes_of_text("low on disk"));
    seen->unblocked += !blocked;
}

static struct remote *meet(struct broker *broker, void (*script)(struct broker *), struct seen *seen)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    char text[128];
    const char *complaint;
    struct uri uri;
    memset(seen, 0, sizeof *seen);
    seen->intact = true;
    broker->script = script;
    broker->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(broker->listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(broker->listener, 1), 0);
    assert_int_equal(getsockname(broker->listener, (struct sockaddr *)&address, &size), 0);
    assert_int_equal(pthread_create(&broker->thread, NULL, play, broker), 0);
    snprintf(text, sizeof text, "amqp://me:secret@127.0.0.1:%u/v?connection_timeout=400", ntohs(address.sin_port));
    assert_int_equal(uri_parse(&uri, text, &complaint), GW_OK);
    struct remote_events events = {seen, on_delivered, on_returned, on_confirmed, on_cancelled, on_blocked};
    struct remote *remote = remote_new(&(struct remote_settings){.uri = &uri, .name = "test", .wake_fd = -1, .message_max = 100000}, &events);
    assert_non_null(remote);
    return remote;
}

static void part(struct broker *broker, struct remote *remote)
{
    remote_free(remote);
    pthread_join(broker->thread, NULL);
    close(broker->listener);
}

static void friendly(struct broker *broker)
{
    welcome(broker);
    goodbye(broker);
}

static void a_visit_works_however_the_bytes_are_cut(void **state)
{
    (void)state;
    static const size_t pieces[] = {0, 1, 3, 50};
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct broker broker = {.piece = pieces[i]};
        struct seen seen;
        struct remote *remote = meet(&broker, friendly, &seen);
        assert_int_equal(remote_connect(remote), GW_OK);
        assert_string_equal(remote_product(remote), "Fake 1.2");
        assert_int_equal(remote_frame_max(remote), 4096);
        assert_true(remote_channel_is_open(remote));
        assert_int_equal(remote_close(remote), GW_OK);
        assert_int_equal(remote_close(remote), GW_OK);
        part(&broker, remote);
    }
}

static void old_amqp(struct broker *broker) { say_bytes(broker, "AMQP\1\1\0\12", 8); }
static void web_server(struct broker *broker) { say_bytes(broker, "HTTP/1.1 400 Bad Request\r\n\r\n", 28); }
static void silent(struct broker *broker) { hear(broker, AMQP_CONNECTION_CLOSE); }
static void frame_without_end(struct broker *broker) { say_bytes(broker, "\1\0\0\0\0\0\4\0\12\0\12X", 12); }

static void mute_at_login(struct broker *broker)
{
    say_start(broker);
    hear(broker, AMQP_CONNECTION_START_OK);
}

static void no_such_vhost(struct broker *broker)
{
    say_start(broker);
    hear(broker, AMQP_CONNECTION_START_OK);
    say_tune(broker);
    hear(broker, AMQP_CONNECTION_OPEN);
    refuse(broker, 0, AMQP_CONNECTION_CLOSE, 530, "NOT_ALLOWED - vhost v not found");
    hear(broker, AMQP_CONNECTION_CLOSE_OK);
}

static void what_stops_a_login_is_said(void **state)
{
    (void)state;
    static const struct { void (*script)(struct broker *); enum gw_err err; const char *text; } cases[] = {
        {old_amqp, GW_ERR_VERSION, "the broker speaks AMQP 1-0-10 only, not 0-9-1"},
        {web_server, GW_ERR_INVALID, "what answers there does not speak AMQP"},
        {silent, GW_ERR_IO, "the broker did not answer within"},
        {frame_without_end, GW_ERR_CLOSED, "the broker does not keep to AMQP 0-9-1"},
        {mute_at_login, GW_ERR_PERMISSION, "the broker hung up during log-in; is the password of user me right?"},
        {no_such_vhost, GW_ERR_INVALID, "the broker closed the connection: 530 NOT_ALLOWED - vhost v not found"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct broker broker = {0};
        struct seen seen;
        struct remote *remote = meet(&broker, cases[i].script, &seen);
        assert_int_equal(remote_connect(remote), cases[i].err);
        if (strncmp(remote_error(remote), cases[i].text, strlen(cases[i].text)) != 0)
            fail_msg("case %zu: %s", i, remote_error(remote));
        assert_int_not_equal(remote_queue_purge(remote, "q", NULL), GW_OK);
        part(&broker, remote);
    }
}

static void no_queue(struct broker *broker)
{
    struct amqp_value values[AMQP_QUEUE_DECLARE_OK_COUNT] = {
        [AMQP_QUEUE_DECLARE_OK_QUEUE] = amqp_text("q"),
        [AMQP_QUEUE_DECLARE_OK_MESSAGE_COUNT] = amqp_number(7),
    };
    welcome(broker);
    hear(broker, AMQP_QUEUE_DECLARE);
    refuse(broker, 1, AMQP_CHANNEL_CLOSE, 404, "NOT_FOUND - no queue 'q'");
    hear(broker, AMQP_CHANNEL_CLOSE_OK);
    hear(broker, AMQP_CHANNEL_OPEN);
    say(broker, 1, AMQP_CHANNEL_OPEN_OK, values);
    hear(broker, AMQP_QUEUE_DECLARE);
    say(broker, 1, AMQP_QUEUE_DECLARE_OK, values);
    hear(broker, AMQP_QUEUE_DECLARE);
    say(broker, 1, AMQP_QUEUE_DECLARE_OK, values);
    hear(broker, AMQP_QUEUE_PURGE);
    refuse(broker, 1, AMQP_CHANNEL_CLOSE, 405, "RESOURCE_LOCKED");
    goodbye(broker);
}

static void a_refusal_closes_the_channel_only(void **state)
{
    (void)state;
    struct broker broker = {0};
    struct seen seen;
    uint32_t count;
    struct remote *remote = meet(&broker, no_queue, &seen);
    assert_int_equal(remote_connect(remote), GW_OK);
    assert_int_equal(remote_queue_ensure(remote, "q"), GW_OK);   /* not there, then declared */
    assert_int_equal(remote_queue_declare(remote, "q", DECLARE_PASSIVE, &count), GW_OK);
    assert_int_equal(count, 7);
    assert_int_equal(remote_queue_purge(remote, "q", &count), GW_ERR_BUSY);
    assert_int_equal(remote_reply_code(remote), 405);
    assert_false(remote_channel_is_open(remote));
    assert_int_equal(remote_queue_purge(remote, "q", &count), GW_ERR_CLOSED);
    assert_int_equal(remote_ack(remote, 1, false), GW_ERR_CLOSED);
    assert_int_equal(remote_close(remote), GW_OK);
    part(&broker, remote);
}

/* Sends a message's header and body in frames of up to 4096 bytes. */
static void say_content(struct broker *broker, uint64_t size)
{
    uint8_t room[4096 + 8], *end;
    end = amqp_content_header_write(room, 1, size, bytes_of("\0\0", 2));
    say_bytes(broker, room, (size_t)(end - room));
    for (uint64_t offset = 0; offset < size;) {
        uint64_t part_size = size - offset < 4088 ? size - offset : 4088;
        uint8_t *at = amqp_frame_begin(room, AMQP_FRAME_BODY, 1, (uint32_t)part_size);
        for (uint64_t i = 0; i < part_size; i++)
            *at++ = (uint8_t)((offset + i) * 7);
        *at++ = AMQP_FRAME_END;
        say_bytes(broker, room, (size_t)(at - room));
        offset += part_size;
    }
}

static const uint64_t body_sizes[] = {0, 1, 4088, 4089, 60000};

static void lively(struct broker *broker)
{
    uint8_t room[256], *end;
    welcome(broker);
    struct amqp_value values[AMQP_BASIC_CONSUME_OK_COUNT] = {[AMQP_BASIC_CONSUME_OK_CONSUMER_TAG] = amqp_text("tag")};
    hear(broker, AMQP_BASIC_CONSUME);
    say(broker, 1, AMQP_BASIC_CONSUME_OK, values);
    for (uint64_t i = 0; i < 5; i++) {
        end = amqp_deliver_write(room, 1, bytes_of_text("tag"), i + 1, false, bytes_of_text(""), bytes_of_text("key"));
        say_bytes(broker, room, (size_t)(end - room));
        say_content(broker, body_sizes[i]);
        end = amqp_heartbeat_write(room);
        say_bytes(broker, room, (size_t)(end - room));
    }
    struct amqp_value blocked[AMQP_CONNECTION_BLOCKED_COUNT] = {[AMQP_CONNECTION_BLOCKED_REASON] = amqp_text("low on disk")};
    say(broker, 0, AMQP_CONNECTION_BLOCKED, blocked);
    say(broker, 0, AMQP_CONNECTION_UNBLOCKED, NULL);
    struct amqp_value returned[AMQP_BASIC_RETURN_COUNT] = {
        [AMQP_BASIC_RETURN_REPLY_CODE] = amqp_number(312),
        [AMQP_BASIC_RETURN_REPLY_TEXT] = amqp_text("NO_ROUTE"),
    };
    say(broker, 1, AMQP_BASIC_RETURN, returned);
    end = amqp_content_header_write(room, 1, 2, bytes_of("\0\0", 2));
    end = amqp_frame_begin(end, AMQP_FRAME_BODY, 1, 2);
    memcpy(end, "hi\xCE", 3);
    say_bytes(broker, room, (size_t)(end + 3 - room));
    end = amqp_ack_write(room, 1, AMQP_BASIC_ACK, 3, 1);
    end = amqp_ack_write(end, 1, AMQP_BASIC_NACK, 4, 0);
    say_bytes(broker, room, (size_t)(end - room));
    struct amqp_value cancel[AMQP_BASIC_CANCEL_COUNT] = {[AMQP_BASIC_CANCEL_CONSUMER_TAG] = amqp_text("tag")};
    say(broker, 1, AMQP_BASIC_CANCEL, cancel);
    hear(broker, AMQP_BASIC_CANCEL_OK);
    hear(broker, AMQP_BASIC_GET);
    struct amqp_value got[AMQP_BASIC_GET_OK_COUNT] = {
        [AMQP_BASIC_GET_OK_DELIVERY_TAG] = amqp_number(9),
        [AMQP_BASIC_GET_OK_ROUTING_KEY] = amqp_text("key"),
        [AMQP_BASIC_GET_OK_MESSAGE_COUNT] = amqp_number(5),
    };
    say(broker, 1, AMQP_BASIC_GET_OK, got);
    say_content(broker, 5000);
    hear(broker, AMQP_BASIC_GET);
    struct amqp_value empty[AMQP_BASIC_GET_EMPTY_COUNT] = {[AMQP_BASIC_GET_EMPTY_CLUSTER_ID] = amqp_text("")};
    say(broker, 1, AMQP_BASIC_GET_EMPTY, empty);
    goodbye(broker);
}

static void what_arrives_unasked_reaches_its_function(void **state)
{
    (void)state;
    static const size_t pieces[] = {0, 1, 1000};
    for (size_t p = 0; p < sizeof pieces / sizeof pieces[0]; p++) {
        struct broker broker = {.piece = pieces[p]};
        struct seen seen;
        struct remote_message message;
        bool found;
        unsigned ready;
        struct remote *remote = meet(&broker, lively, &seen);
        assert_int_equal(remote_connect(remote), GW_OK);
        assert_int_equal(remote_consume(remote, "q", "tag", 0), GW_OK);
        while (seen.cancelled == 0)
            assert_int_equal(remote_wait(remote, -1, 2000, &ready), GW_OK);
        assert_int_equal(seen.delivered, 5);
        for (int i = 0; i < 5; i++)
            assert_int_equal(seen.body_sizes[i], body_sizes[i]);
        assert_true(seen.intact);
        assert_int_equal(seen.returned, 1);
        assert_string_equal(seen.text, "312 NO_ROUTE hi");
        assert_int_equal(seen.confirmed, 103);
        assert_int_equal(seen.refused, 4);
        assert_int_equal(seen.blocked, 1);
        assert_int_equal(seen.unblocked, 1);
        assert_int_equal(remote_get(remote, "q", false, &message, &found), GW_OK);
        assert_true(found);
        assert_int_equal(message.delivery_tag, 9);
        assert_int_equal(message.left, 5);
        assert_int_equal(message.body.size, 5000);
        assert_int_equal(message.body.data[4999], (uint8_t)(4999 * 7));
        assert_int_equal(remote_get(remote, "q", false, &message, &found), GW_OK);
        assert_false(found);
        assert_int_equal(remote_close(remote), GW_OK);
        part(&broker, remote);
    }
}

static void too_large(struct broker *broker)
{
    uint8_t room[256], *end;
    welcome(broker);
    end = amqp_deliver_write(room, 1, bytes_of_text("tag"), 1, false, bytes_of_text(""), bytes_of_text("key"));
    end = amqp_content_header_write(end, 1, 100001, bytes_of("\0\0", 2));
    say_bytes(broker, room, (size_t)(end - room));
    goodbye(broker);
}

static void body_too_long(struct broker *broker)
{
    uint8_t room[256], *end;
    welcome(broker);
    end = amqp_deliver_write(room, 1, bytes_of_text("tag"), 1, false, bytes_of_text(""), bytes_of_text("key"));
    end = amqp_content_header_write(end, 1, 1, bytes_of("\0\0", 2));
    end = amqp_frame_begin(end, AMQP_FRAME_BODY, 1, 2);
    memcpy(end, "hi\xCE", 3);
    say_bytes(broker, room, (size_t)(end + 3 - room));
    goodbye(broker);
}

static void body_without_header(struct broker *broker)
{
    uint8_t room[16], *end;
    welcome(broker);
    end = amqp_frame_begin(room, AMQP_FRAME_BODY, 1, 2);
    memcpy(end, "hi\xCE", 3);
    say_bytes(broker, room, (size_t)(end + 3 - room));
    goodbye(broker);
}

static void hang_up(struct broker *broker) { welcome(broker); }

static void a_broker_that_breaks_the_rules_is_left(void **state)
{
    (void)state;
    static const struct { void (*script)(struct broker *); enum gw_err err; const char *text; } cases[] = {
        {too_large, GW_ERR_LIMIT, "a message of 100001 bytes is too large"},
        {body_too_long, GW_ERR_CLOSED, "the broker does not keep to AMQP 0-9-1: a body longer than announced"},
        {body_without_header, GW_ERR_CLOSED, "the broker does not keep to AMQP 0-9-1: a body out of place"},
        {hang_up, GW_ERR_CLOSED, "the broker hung up"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct broker broker = {0};
        struct seen seen;
        unsigned ready;
        enum gw_err err = GW_OK;
        struct remote *remote = meet(&broker, cases[i].script, &seen);
        assert_int_equal(remote_connect(remote), GW_OK);
        while (err == GW_OK)
            err = remote_wait(remote, -1, 2000, &ready);
        assert_int_equal(err, cases[i].err);
        if (strncmp(remote_error(remote), cases[i].text, strlen(cases[i].text)) != 0)
            fail_msg("case %zu: %s", i, remote_error(remote));
        assert_int_equal(seen.delivered, 0);
        part(&broker, remote);
    }
}

static void quiet(struct broker *broker)
{
    welcome(broker);
    broker->heartbeats = 0;
    while (hear(broker, 0))   /* and not answered */
        broker->heartbeats++;
}

static void silence_is_noticed(void **state)
{
    (void)state;
    struct broker broker = {.heartbeat_s = 1};
    struct seen seen;
    unsigned ready;
    enum gw_err err = GW_OK;
    struct remote *remote = meet(&broker, quiet, &seen);
    assert_int_equal(remote_connect(remote), GW_OK);
    while (err == GW_OK)
        err = remote_wait(remote, -1, REMOTE_FOREVER, &ready);
    assert_int_equal(err, GW_ERR_CLOSED);
    assert_string_equal(remote_error(remote), "the broker gave no sign of life for 2 s");
    part(&broker, remote);
    assert_in_range(broker.heartbeats, 2, 6);
}

static void a_wait_ends_in_time(void **state)
{
    (void)state;
    struct broker broker = {0};
    struct seen seen;
    unsigned ready;
    int pipe_fds[2];
    struct remote *remote = meet(&broker, friendly, &seen);
    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_equal(remote_connect(remote), GW_OK);
    assert_int_equal(remote_wait(remote, pipe_fds[0], 50, &ready), GW_OK);
    assert_int_equal(ready, 0);
    assert_int_equal(write(pipe_fds[1], "x", 1), 1);
    assert_int_equal(remote_wait(remote, pipe_fds[0], REMOTE_FOREVER, &ready), GW_OK);
    assert_int_equal(ready, REMOTE_READY_EXTRA);
    assert_int_equal(remote_close(remote), GW_OK);
    part(&broker, remote);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_visit_works_however_the_bytes_are_cut),
        cmocka_unit_test(what_stops_a_login_is_said),
        cmocka_unit_test(a_refusal_closes_the_channel_only),
        cmocka_unit_test(what_arrives_unasked_reaches_its_function),
        cmocka_unit_test(a_broker_that_breaks_the_rules_is_left),
        cmocka_unit_test(silence_is_noticed),
        cmocka_unit_test(a_wait_ends_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
