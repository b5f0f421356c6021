#include "client/verbs.h"

#include "protocol/amqp/methods.h"

enum gw_err remote_queue_declare(struct remote *remote, const char *queue, unsigned flags, uint32_t *message_count)
{
    struct amqp_method answer;
    struct amqp_value values[AMQP_QUEUE_DECLARE_COUNT] = {
        [AMQP_QUEUE_DECLARE_QUEUE] = amqp_text(queue),
        [AMQP_QUEUE_DECLARE_PASSIVE] = amqp_number((flags & DECLARE_PASSIVE) != 0),
        [AMQP_QUEUE_DECLARE_DURABLE] = amqp_number((flags & DECLARE_DURABLE) != 0),
        [AMQP_QUEUE_DECLARE_EXCLUSIVE] = amqp_number((flags & DECLARE_EXCLUSIVE) != 0),
        [AMQP_QUEUE_DECLARE_AUTO_DELETE] = amqp_number((flags & DECLARE_AUTO_DELETE) != 0),
    };
    enum gw_err err = remote_call(remote, AMQP_QUEUE_DECLARE, values, AMQP_QUEUE_DECLARE_OK, 0, &answer);
    if (!err && message_count)
        *message_count = (uint32_t)answer.values[AMQP_QUEUE_DECLARE_OK_MESSAGE_COUNT].number;
    return err;
}

enum gw_err remote_queue_ensure(struct remote *remote, const char *queue)
{
    enum gw_err err = remote_queue_declare(remote, queue, DECLARE_PASSIVE, NULL);
    if (err != GW_ERR_NOT_FOUND || remote_reply_code(remote) != 404)
        return err;
    err = remote_channel_open(remote);
    return err ? err : remote_queue_declare(remote, queue, DECLARE_DURABLE, NULL);
}

enum gw_err remote_queue_purge(struct remote *remote, const char *queue, uint32_t *message_count)
{
    struct amqp_method answer;
    struct amqp_value values[AMQP_QUEUE_PURGE_COUNT] = {[AMQP_QUEUE_PURGE_QUEUE] = amqp_text(queue)};
    enum gw_err err = remote_call(remote, AMQP_QUEUE_PURGE, values, AMQP_QUEUE_PURGE_OK, 0, &answer);
    if (!err && message_count)
        *message_count = (uint32_t)answer.values[AMQP_QUEUE_PURGE_OK_MESSAGE_COUNT].number;
    return err;
}

enum gw_err remote_queue_delete(struct remote *remote, const char *queue)
{
    struct amqp_method answer;
    struct amqp_value values[AMQP_QUEUE_DELETE_COUNT] = {[AMQP_QUEUE_DELETE_QUEUE] = amqp_text(queue)};
    return remote_call(remote, AMQP_QUEUE_DELETE, values, AMQP_QUEUE_DELETE_OK, 0, &answer);
}

enum gw_err remote_queue_bind(struct remote *remote, const char *queue, const char *exchange, const char *routing_key)
{
    struct amqp_method answer;
    struct amqp_value values[AMQP_QUEUE_BIND_COUNT] = {
        [AMQP_QUEUE_BIND_QUEUE] = amqp_text(queue),
        [AMQP_QUEUE_BIND_EXCHANGE] = amqp_text(exchange),
        [AMQP_QUEUE_BIND_ROUTING_KEY] = amqp_text(routing_key),
    };
    return remote_call(remote, AMQP_QUEUE_BIND, values, AMQP_QUEUE_BIND_OK, 0, &answer);
}

enum gw_err remote_exchange_declare(struct remote *remote, const char *exchange, const char *type, unsigned flags)
{
    struct amqp_method answer;
    struct amqp_value values[AMQP_EXCHANGE_DECLARE_COUNT] = {
        [AMQP_EXCHANGE_DECLARE_EXCHANGE] = amqp_text(exchange),
        [AMQP_EXCHANGE_DECLARE_TYPE] = amqp_text(type),
        [AMQP_EXCHANGE_DECLARE_PASSIVE] = amqp_number((flags & DECLARE_PASSIVE) != 0),
        [AMQP_EXCHANGE_DECLARE_DURABLE] = amqp_number((flags & DECLARE_DURABLE) != 0),
        [AMQP_EXCHANGE_DECLARE_AUTO_DELETE] = amqp_number((flags & DECLARE_AUTO_DELETE) != 0),
    };
    return remote_call(remote, AMQP_EXCHANGE_DECLARE, values, AMQP_EXCHANGE_DECLARE_OK, 0, &answer);
}

enum gw_err remote_exchange_delete(struct remote *remote, const char *exchange)
{
    struct amqp_method answer;
    struct amqp_value values[AMQP_EXCHANGE_DELETE_COUNT] = {[AMQP_EXCHANGE_DELETE_EXCHANGE] = amqp_text(exchange)};
    return remote_call(remote, AMQP_EXCHANGE_DELETE, values, AMQP_EXCHANGE_DELETE_OK, 0, &answer);
}

enum gw_err remote_confirm_select(struct remote *remote)
{
    struct amqp_method answer;
    struct amqp_value values[AMQP_CONFIRM_SELECT_COUNT] = {[AMQP_CONFIRM_SELECT_NO_WAIT] = amqp_number(0)};
    return remote_call(remote, AMQP_CONFIRM_SELECT, values, AMQP_CONFIRM_SELECT_OK, 0, &answer);
}

enum gw_err remote_qos(struct remote *remote, uint16_t prefetch_count)
{
    struct amqp_method answer;
    struct amqp_value values[AMQP_BASIC_QOS_COUNT] = {[AMQP_BASIC_QOS_PREFETCH_COUNT] = amqp_number(prefetch_count)};
    return remote_call(remote, AMQP_BASIC_QOS, values, AMQP_BASIC_QOS_OK, 0, &answer);
}

enum gw_err remote_consume(struct remote *remote, const char *queue, const char *consumer_tag, unsigned flags)
{
    return remote_consume_with(remote, queue, consumer_tag, flags, (struct bytes){0});
}

enum gw_err remote_consume_with(struct remote *remote, const char *queue, const char *consumer_tag, unsigned flags, struct bytes arguments)
{
    struct amqp_method answer;
    struct amqp_value values[AMQP_BASIC_CONSUME_COUNT] = {
        [AMQP_BASIC_CONSUME_QUEUE] = amqp_text(queue),
        [AMQP_BASIC_CONSUME_CONSUMER_TAG] = amqp_text(consumer_tag),
        [AMQP_BASIC_CONSUME_NO_ACK] = amqp_number((flags & CONSUME_NO_ACK) != 0),
        [AMQP_BASIC_CONSUME_EXCLUSIVE] = amqp_number((flags & CONSUME_EXCLUSIVE) != 0),
        [AMQP_BASIC_CONSUME_ARGUMENTS] = amqp_bytes(arguments),
    };
    return remote_call(remote, AMQP_BASIC_CONSUME, values, AMQP_BASIC_CONSUME_OK, 0, &answer);
}

enum gw_err remote_cancel(struct remote *remote, const char *consumer_tag)
{
    struct amqp_method answer;
    struct amqp_value values[AMQP_BASIC_CANCEL_COUNT] = {[AMQP_BASIC_CANCEL_CONSUMER_TAG] = amqp_text(consumer_tag)};
    return remote_call(remote, AMQP_BASIC_CANCEL, values, AMQP_BASIC_CANCEL_OK, 0, &answer);
}
