#include "client/control.h"

#include "client/dial.h"
#include "client/remote_state.h"
#include "client/verbs.h"
#include "protocol/amqp/properties.h"

#include <stdio.h>

#define CONTROL_KEY "amq.godwit.control"
#define REPLY_TO "amq.rabbitmq.reply-to"
#define CONSUMER_TAG "godwit.control"

static struct bytes correlation_id(const struct remote *remote, char *room, size_t size)
{
    int length = snprintf(room, size, "%u", remote->control.number);
    return bytes_of(room, (size_t)length);
}

bool remote_control_takes(struct remote *remote, const struct remote_message *message)
{
    char room[16];
    struct amqp_properties properties;
    if (message->reply_code) {
        if (!remote->control.waiting || message->exchange.size || !bytes_equal(message->routing_key, bytes_of_text(CONTROL_KEY)))
            return false;
        remote->reply_code = message->reply_code;
        remote->control.refused = true;
        return true;
    }
    if (!bytes_equal(message->consumer_tag, bytes_of_text(CONSUMER_TAG)))
        return false;
    /* An answer that came after its asker had given up is nobody's. */
    if (remote->control.waiting && amqp_properties_decode(message->properties, &properties) && (properties.flags & AMQP_CORRELATION_ID) &&
        bytes_equal(properties.correlation_id, correlation_id(remote, room, sizeof(room)))) {
        remote_buffer_clear(&remote->control.answer);
        remote->control.answered = remote_buffer_add(&remote->control.answer, message->body) == GW_OK;
        remote->control.failed = !remote->control.answered;
    }
    return true;
}

static enum gw_err send_request(struct remote *remote, struct bytes request)
{
    uint8_t encoded[128];
    char room[16];
    remote->control.number++;
    struct amqp_properties properties = {
        .flags = AMQP_CONTENT_TYPE | AMQP_CORRELATION_ID | AMQP_REPLY_TO, .content_type = bytes_of_text("application/json"),
        .correlation_id = correlation_id(remote, room, sizeof(room)), .reply_to = bytes_of_text(REPLY_TO)};
    struct bytes list = bytes_of(encoded, amqp_properties_encode(&properties, encoded, sizeof(encoded)));
    return remote_publish(remote, bytes_of(NULL, 0), bytes_of_text(CONTROL_KEY), true, list, request);
}

enum gw_err remote_control(struct remote *remote, struct bytes request, uint64_t timeout_ms, struct bytes *answer)
{
    if (!remote->control.consuming) {
        enum gw_err err = remote_consume(remote, REPLY_TO, CONSUMER_TAG, CONSUME_NO_ACK);
        if (err)
            return err;
        remote->control.consuming = true;
    }
    uint64_t deadline = dial_now_ms() + timeout_ms;
    remote->control.waiting = true;
    remote->control.answered = remote->control.refused = remote->control.failed = false;
    enum gw_err err = send_request(remote, request);
    while (!err && !remote->control.answered && !remote->control.refused) {
        unsigned ready = 0;
        uint64_t now = dial_now_ms();
        if (now >= deadline)
            err = remote_fail(remote, GW_ERR_IO, "the broker did not answer within %llu s", (unsigned long long)timeout_ms / 1000);
        else
            err = remote_wait(remote, -1, deadline - now, &ready);
        if (!err && remote->control.failed)
            err = remote_fail(remote, GW_ERR_NOMEM, "out of memory");
        else if (!err && !remote->control.answered && (ready & REMOTE_READY_WAKE))
            err = remote_fail(remote, GW_ERR_CLOSED, "interrupted");
    }
    remote->control.waiting = false;
    if (!err && remote->control.refused)
        err = remote_fail(remote, GW_ERR_NOT_FOUND, "this broker (%s) takes no control requests over AMQP", remote_product(remote));
    if (!err)
        *answer = remote_buffer_bytes(&remote->control.answer);
    return err;
}
