#include "protocol/amqp/consume.h"

#include "protocol/amqp/channel.h"
#include "protocol/amqp/deliver.h"
#include "protocol/amqp/errors.h"
#include "protocol/amqp/lateness.h"
#include "protocol/amqp/reply_to.h"
#include "protocol/amqp/requests.h"

#include <stdio.h>
#include <stdlib.h>

/* Bytes of a consumer's arguments that are kept for lists. */
#define ARGUMENTS_KEPT_MAX 4096u
/* How long a consumer that was told to go on has for it alone. */
#define RESUME_ALL_AFTER_US 5000u

/* ---- the session's consumers --------------------------------------------------------------------------------------------- */

static bool grow(struct session *session)
{
    uint32_t capacity = session->consumer_capacity ? session->consumer_capacity * 2 : 2;
    struct consumer **consumers = realloc(session->consumers, capacity * sizeof(struct consumer *));
    if (!consumers)
        return false;
    memset(consumers + session->consumer_capacity, 0, (capacity - session->consumer_capacity) * sizeof(struct consumer *));
    session->consumers = consumers;
    session->consumer_capacity = capacity;
    return true;
}

static struct consumer *consumer_new(struct channel *channel, struct bytes tag, struct bytes arguments)
{
    struct session *session = channel->session;
    uint32_t number = session->consumer_free;
    while (number < session->consumer_capacity && session->consumers[number])
        number++;
    if (number == session->consumer_capacity && !grow(session))
        return NULL;
    if (arguments.size > ARGUMENTS_KEPT_MAX)
        arguments.size = 0;
    struct consumer *consumer = calloc(1, sizeof(*consumer) + tag.size + arguments.size);
    if (!consumer)
        return NULL;
    consumer->channel = channel;
    consumer->number = number;
    consumer->serial = channel->serial;
    consumer->channel_number = channel->number;
    consumer->tag_size = (uint8_t)tag.size;
    memcpy(consumer->tag, tag.data, tag.size);
    consumer->arguments_size = (uint32_t)arguments.size;
    if (arguments.size)
        memcpy(consumer->tag + tag.size, arguments.data, arguments.size);
    session->consumers[number] = consumer;
    session->consumer_free = number + 1;
    channel->consumer_count++;
    return consumer;
}

static void tell(const struct consumer *consumer, struct session *session, enum client_event event)
{
    const struct client_news news = {.event = event, .channel = consumer->channel_number, .queue = consumer->queue,
                                     .tag = bytes_of(consumer->tag, consumer->tag_size), .no_ack = consumer->no_ack, .exclusive = consumer->exclusive,
                                     .prefetch = consumer->channel ? consumer->channel->prefetch : 0};
    client_tell(&session->client, &news);
}

static void consumer_free(struct session *session, struct consumer *consumer)
{
    if (consumer->answered && !consumer->reply_to && session->client.worker)
        tell(consumer, session, CLIENT_CONSUMER_DELETED);
    for (struct consumer **at = &session->owed_consumers; consumer->owes && *at; at = &(*at)->owed_next) {
        if (*at == consumer) {
            *at = consumer->owed_next;
            break;
        }
    }
    if (consumer->channel) {
        consumer->channel->consumer_count--;
        consumer->channel->refused_count -= consumer->refused;
    }
    session->consumers[consumer->number] = NULL;
    if (consumer->number < session->consumer_free)
        session->consumer_free = consumer->number;
    free(consumer);
}

void consume_tell_gone(struct session *session)
{
    for (uint32_t i = 0; i < session->consumer_capacity; i++)
        if (session->consumers[i] && session->consumers[i]->answered && !session->consumers[i]->reply_to)
            tell(session->consumers[i], session, CLIENT_CONSUMER_DELETED);
}

void consume_free_all(struct session *session)
{
    for (uint32_t i = 0; i < session->consumer_capacity; i++) {
        if (session->consumers[i])
            consumer_free(session, session->consumers[i]);
    }
    free(session->consumers);
    session->consumers = NULL;
    session->consumer_capacity = 0;
}

static struct consumer *find_tag(const struct channel *channel, struct bytes tag)
{
    const struct session *session = channel->session;
    for (uint32_t i = 0; i < session->consumer_capacity; i++) {
        struct consumer *consumer = session->consumers[i];
        if (consumer && consumer->channel == channel && !consumer->cancelling && bytes_equal(bytes_of(consumer->tag, consumer->tag_size), tag))
            return consumer;
    }
    return NULL;
}

static struct consumer *find_reply_consumer(const struct channel *channel)
{
    const struct session *session = channel->session;
    for (uint32_t i = 0; i < session->consumer_capacity; i++) {
        struct consumer *consumer = session->consumers[i];
        if (consumer && consumer->channel == channel && consumer->reply_to)
            return consumer;
    }
    return NULL;
}

/* ---- basic.consume ------------------------------------------------------------------------------------------------------- */

static void consume_ok(struct consumer *consumer)
{
    struct amqp_value values[AMQP_BASIC_CONSUME_OK_COUNT] = {amqp_bytes(bytes_of(consumer->tag, consumer->tag_size))};
    if (!consumer->no_wait)
        session_send(consumer->channel->session, consumer->channel_number, AMQP_BASIC_CONSUME_OK, values);
}

/* Replies come to a queue of the broker's naming that nobody but this consumer reads. */
static void consume_reply_to(struct channel *channel, const struct amqp_value *values, struct consumer *consumer)
{
    if (!values[AMQP_BASIC_CONSUME_NO_ACK].number || find_reply_consumer(channel)) {
        consumer_free(channel->session, consumer);
        error_raise(channel->session, channel, AMQP_PRECONDITION_FAILED, AMQP_BASIC_CONSUME,
                    values[AMQP_BASIC_CONSUME_NO_ACK].number ? "reply consumer already set" : "reply consumer cannot acknowledge");
        return;
    }
    consumer->reply_to = true;
    struct request request = {.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_AUTO_DELETE | REQUEST_HIDDEN | REQUEST_REPLY_QUEUE | REQUEST_TRUSTED, .channel = channel->number,
                              .tag = request_tag(channel, REQUEST_TAG_REPLY_TO)};
    channel->waiting++;
    client_request(&channel->session->client, &request);
}

void consume_reply_queue(struct channel *channel, const struct reply *reply)
{
    struct consumer *consumer = find_reply_consumer(channel);
    if (reply->code || !consumer) {
        error_raise_text(channel->session, channel, reply->code ? reply->code : AMQP_INTERNAL_ERROR, AMQP_BASIC_CONSUME, reply->text);
        return;
    }
    char *name = malloc(reply->name.size + 1);
    if (!name) {
        error_out_of_memory(channel->session);
        return;
    }
    memcpy(name, reply->name.data, reply->name.size);
    name[reply->name.size] = 0;
    free(channel->reply_queue);
    channel->reply_queue = name;
    struct request request = {.kind = REQUEST_CONSUME, .flags = REQUEST_NO_ACK | REQUEST_EXCLUSIVE | REQUEST_TRUSTED, .channel = channel->number,
                              .tag = consumer->number, .name = reply->name};
    channel->waiting++;
    client_request(&channel->session->client, &request);
}

static void consume(struct channel *channel, const struct amqp_value *values)
{
    struct session *session = channel->session;
    struct bytes tag = values[AMQP_BASIC_CONSUME_CONSUMER_TAG].bytes, queue = values[AMQP_BASIC_CONSUME_QUEUE].bytes;
    char made[64];
    if (tag.size && find_tag(channel, tag)) {
        error_raise(session, channel, AMQP_NOT_ALLOWED, AMQP_BASIC_CONSUME, "attempt to reuse consumer tag '%.*s'", (int)tag.size, (const char *)tag.data);
        return;
    }
    if (!request_queue_name(channel, AMQP_BASIC_CONSUME, &queue) || !request_is_no_reply_queue(channel, AMQP_BASIC_CONSUME, queue))
        return;
    if (tag.size == 0) {
        session->next_serial = (session->next_serial + 1) & 0xFFFFFF;
        int size = snprintf(made, sizeof(made), "amq.ctag-%llx-%x", (unsigned long long)session->client.id, session->next_serial);
        tag = bytes_of(made, (size_t)size);
    }
    struct consumer *consumer = consumer_new(channel, tag, values[AMQP_BASIC_CONSUME_ARGUMENTS].bytes);
    if (!consumer) {
        error_out_of_memory(session);
        return;
    }
    consumer->no_ack = values[AMQP_BASIC_CONSUME_NO_ACK].number;
    consumer->settle_here = consumer->no_ack && channel->limit;
    consumer->no_wait = values[AMQP_BASIC_CONSUME_NO_WAIT].number;
    consumer->prefetch = consumer->no_ack ? 0 : channel->prefetch;
    consumer->exclusive = values[AMQP_BASIC_CONSUME_EXCLUSIVE].number;
    if (reply_to_is(queue)) {
        consume_reply_to(channel, values, consumer);
        return;
    }
    struct request request = {
        .kind = REQUEST_CONSUME, .channel = channel->number, .tag = consumer->number, .name = queue,
        .arguments = values[AMQP_BASIC_CONSUME_ARGUMENTS].bytes,
        .flags = (consumer->no_ack && !consumer->settle_here ? REQUEST_NO_ACK : 0u) | (values[AMQP_BASIC_CONSUME_EXCLUSIVE].number ? REQUEST_EXCLUSIVE : 0u) |
                 (values[AMQP_BASIC_CONSUME_NO_LOCAL].number ? REQUEST_NO_LOCAL : 0u) | (channel->limit ? REQUEST_CHANNEL_LIMITED : 0u),
        .prefetch = consumer->settle_here ? 0 : channel->prefetch};
    channel->waiting++;
    client_request(&session->client, &request);
}

/* ---- basic.cancel, and the end of a consumer ----------------------------------------------------------------------------- */

static void ask_cancel(struct session *session, struct consumer *consumer)
{
    consumer->cancelling = true;
    struct request request = {.kind = REQUEST_CANCEL, .channel = consumer->channel_number, .tag = consumer->number, .queue = consumer->queue,
                              .handle = consumer->handle};
    client_request(&session->client, &request);
}

static void cancel_ok(struct channel *channel, struct bytes tag)
{
    struct amqp_value values[AMQP_BASIC_CANCEL_OK_COUNT] = {amqp_bytes(tag)};
    session_send(channel->session, channel->number, AMQP_BASIC_CANCEL_OK, values);
}

static void cancel(struct channel *channel, struct bytes tag, bool no_wait)
{
    struct consumer *consumer = find_tag(channel, tag);
    if (!consumer) {
        if (!no_wait)
            cancel_ok(channel, tag);
        return;
    }
    consumer->cancel_no_wait = no_wait;
    channel->waiting++;
    ask_cancel(channel->session, consumer);
}

void consume_release(struct channel *channel)
{
    struct session *session = channel->session;
    for (uint32_t i = 0; i < session->consumer_capacity && channel->consumer_count; i++) {
        struct consumer *consumer = session->consumers[i];
        if (!consumer || consumer->channel != channel)
            continue;
        channel->consumer_count--;
        consumer->channel = NULL;
        consumer->releasing = true;
        session->releases++;
        if (channel->state == CHANNEL_ASKED)
            channel->releases++;
        /* One that the broker has not answered yet is cancelled when it has. */
        if (consumer->answered && !consumer->cancelling)
            ask_cancel(session, consumer);
    }
    channel->refused_count = 0;
}

static void end_consumer(struct session *session, struct consumer *consumer)
{
    bool releasing = consumer->releasing;
    struct channel *channel = releasing ? channel_find_serial(session, consumer->channel_number, consumer->serial) : NULL;
    consumer_free(session, consumer);
    if (!releasing)
        return;
    if (channel && channel->state == CHANNEL_ASKED)
        channel_released(channel);
    session_released(session);
}

void consume_cancelled(struct session *session, uint32_t number)
{
    struct consumer *consumer = consume_find(session, number);
    if (!consumer || consumer->cancelling)
        return;
    if (consumer->channel && consumer->channel->deleting) {
        consumer->cancel_owed = true;
        return;
    }
    if (consumer->channel && consumer->channel->state == CHANNEL_OPEN && (session->capabilities & CLIENT_CONSUMER_CANCEL_NOTIFY)) {
        struct amqp_value values[AMQP_BASIC_CANCEL_COUNT] = {
            [AMQP_BASIC_CANCEL_CONSUMER_TAG] = amqp_bytes(bytes_of(consumer->tag, consumer->tag_size)), [AMQP_BASIC_CANCEL_NO_WAIT] = amqp_number(1)};
        session_send(session, consumer->channel_number, AMQP_BASIC_CANCEL, values);
    }
    end_consumer(session, consumer);
}

void consume_tell_cancelled(struct channel *channel)
{
    struct session *session = channel->session;
    for (uint32_t i = 0; i < session->consumer_capacity && channel->consumer_count; i++) {
        struct consumer *consumer = session->consumers[i];
        if (consumer && consumer->channel == channel && consumer->cancel_owed)
            consume_cancelled(session, i);
    }
}

/* ---- basic.qos ------------------------------------------------------------------------------------------------------------ */

/* Consumers that want no acks, and were there before the channel had a limit, are bound by it too. */
static void bind_to_limit(struct channel *channel)
{
    struct session *session = channel->session;
    for (uint32_t i = 0; i < session->consumer_capacity; i++) {
        struct consumer *consumer = session->consumers[i];
        if (!consumer || consumer->channel != channel || !consumer->no_ack || consumer->settle_here || consumer->reply_to || !consumer->answered)
            continue;
        consumer->settle_here = true;
        client_bind_to_limit(&session->client, consumer->queue, consumer->handle);
    }
}

static void qos(struct channel *channel, const struct amqp_value *values)
{
    if (values[AMQP_BASIC_QOS_PREFETCH_SIZE].number) {
        error_raise(channel->session, channel, AMQP_NOT_IMPLEMENTED, AMQP_BASIC_QOS, "prefetch_size!=0 (%llu)",
                    (unsigned long long)values[AMQP_BASIC_QOS_PREFETCH_SIZE].number);
        return;
    }
    uint32_t count = (uint32_t)values[AMQP_BASIC_QOS_PREFETCH_COUNT].number;
    if (values[AMQP_BASIC_QOS_GLOBAL].number) {
        channel->limit = count;
        if (count)
            bind_to_limit(channel);
    } else {
        /* RabbitMQ takes the channel's limit back with it. */
        channel->prefetch = count;
        channel->limit = 0;
    }
    session_send(channel->session, channel->number, AMQP_BASIC_QOS_OK, NULL);
    consume_resume(channel);
}

/* A consumer that was refused had a message waiting, so that as many go on as the limit has room for, in turn: were all of them told, those whose queues are
 * near would always come first. Should others have taken the message meanwhile, consume_resume_all makes up for it. */
static void resume(struct channel *channel, uint64_t most)
{
    struct session *session = channel->session;
    uint32_t first = channel->resume_first, capacity = session->consumer_capacity;
    for (uint32_t i = 0; i < capacity && most && channel->refused_count; i++) {
        struct consumer *consumer = session->consumers[(first + i) % capacity];
        if (!consumer || consumer->channel != channel || !consumer->refused)
            continue;
        most--;
        channel->resume_first = consumer->number + 1;
        consumer->refused = false;
        channel->refused_count--;
        client_resume(&session->client, consumer->queue, consumer->handle);
    }
}

void consume_resume(struct channel *channel)
{
    struct session *session = channel->session;
    if (!channel->refused_count || !consume_allowed(channel))
        return;
    resume(channel, channel->limit ? channel->limit - channel->unacked.counted : UINT64_MAX);
    if (channel->refused_count && !session->resume_due_us)
        session->resume_due_us = session->now_us + RESUME_ALL_AFTER_US;
}

void consume_resume_all(struct session *session)
{
    session->resume_due_us = 0;
    for (uint32_t i = 0; i < session->channel_count; i++) {
        if (consume_allowed(session->channels[i]))
            resume(session->channels[i], UINT64_MAX);
    }
}

/* ---- basic.get ------------------------------------------------------------------------------------------------------------- */

static void get(struct channel *channel, const struct amqp_value *values)
{
    struct bytes queue = values[AMQP_BASIC_GET_QUEUE].bytes;
    if (!request_queue_name(channel, AMQP_BASIC_GET, &queue) || !request_is_no_reply_queue(channel, AMQP_BASIC_GET, queue))
        return;
    struct request request = {.kind = REQUEST_GET, .channel = channel->number, .tag = request_tag(channel, 0), .name = queue,
                              .flags = values[AMQP_BASIC_GET_NO_ACK].number ? REQUEST_NO_ACK : 0};
    channel->waiting++;
    client_request(&channel->session->client, &request);
}

/* ---- answers --------------------------------------------------------------------------------------------------------------- */

static void consume_answered(struct session *session, struct consumer *consumer, const struct reply *reply)
{
    struct channel *channel = consumer->channel;
    if (channel)
        channel->waiting--;
    if (reply->code) {
        end_consumer(session, consumer);
        if (channel && channel->state == CHANNEL_OPEN)
            error_raise_text(session, channel, reply->code, AMQP_BASIC_CONSUME, reply->text);
        return;
    }
    consumer->answered = true;
    consumer->queue = reply->queue;
    if (!consumer->no_ack)
        lateness_arm(session, reply->queue);
    consumer->handle = reply->handle;
    if (!consumer->reply_to)
        tell(consumer, session, CLIENT_CONSUMER_CREATED);
    if (channel)
        consume_ok(consumer);
    else
        ask_cancel(session, consumer);
}

static void cancel_answered(struct session *session, struct consumer *consumer)
{
    struct channel *channel = consumer->channel;
    if (channel) {
        channel->waiting--;
        if (consumer->reply_to) {
            free(channel->reply_queue);
            channel->reply_queue = NULL;
        }
        if (!consumer->cancel_no_wait)
            cancel_ok(channel, bytes_of(consumer->tag, consumer->tag_size));
    }
    end_consumer(session, consumer);
}

static void get_answered(struct channel *channel, const struct reply *reply)
{
    struct amqp_value values[AMQP_BASIC_GET_EMPTY_COUNT] = {amqp_text("")};
    channel->waiting--;
    if (channel->state != CHANNEL_OPEN || channel->session->phase != PHASE_RUNNING)
        return;
    if (reply->code)
        error_raise_text(channel->session, channel, reply->code, AMQP_BASIC_GET, reply->text);
    else
        session_send(channel->session, channel->number, AMQP_BASIC_GET_EMPTY, values);
}

void consume_replied(struct session *session, const struct reply *reply)
{
    if (reply->kind == REQUEST_GET) {
        struct channel *channel = channel_find_serial(session, reply->channel, reply->tag >> REQUEST_TAG_SHIFT);
        if (channel)
            get_answered(channel, reply);
        return;
    }
    struct consumer *consumer = consume_find(session, reply->tag);
    CHECK(consumer);
    if (reply->kind == REQUEST_CONSUME)
        consume_answered(session, consumer, reply);
    else
        cancel_answered(session, consumer);
}

/* ---- lists ------------------------------------------------------------------------------------------------------------------ */

void consume_describe(const struct session *session, const struct client_listener *listener)
{
    for (uint32_t i = 0; i < session->consumer_capacity; i++) {
        const struct consumer *consumer = session->consumers[i];
        if (!consumer || !consumer->answered || consumer->cancelling || consumer->reply_to)
            continue;
        listener->consumer(listener->owner, &(struct client_consumer){
            .channel = consumer->channel_number, .number = consumer->number, .tag = bytes_of(consumer->tag, consumer->tag_size), .queue = consumer->queue, .ack_required = !consumer->no_ack,
            .prefetch = consumer->prefetch, .arguments = bytes_of(consumer->tag + consumer->tag_size, consumer->arguments_size)});
    }
}

/* ---- credit ------------------------------------------------------------------------------------------------------------------ */

void consume_owe(struct consumer *consumer, uint32_t bytes)
{
    consumer->owed += bytes;
    if (consumer->owes || !consumer->channel)
        return;
    struct session *session = consumer->channel->session;
    consumer->owes = true;
    consumer->owed_next = session->owed_consumers;
    session->owed_consumers = consumer;
}

void consume_give_credit(struct session *session)
{
    while (session->owed_consumers) {
        struct consumer *consumer = session->owed_consumers;
        session->owed_consumers = consumer->owed_next;
        consumer->owes = false;
        if (consumer->answered)
            client_credit(&session->client, consumer->queue, consumer->handle, consumer->owed);
        consumer->owed = 0;
    }
}

/* ---- sending methods on --------------------------------------------------------------------------------------------------------- */

void consume_method(struct channel *channel, const struct amqp_method *method)
{
    const struct amqp_value *values = method->values;
    switch (method->row->id) {
    case AMQP_BASIC_CONSUME: consume(channel, values); break;
    case AMQP_BASIC_CANCEL: cancel(channel, values[AMQP_BASIC_CANCEL_CONSUMER_TAG].bytes, values[AMQP_BASIC_CANCEL_NO_WAIT].number); break;
    case AMQP_BASIC_QOS: qos(channel, values); break;
    default: get(channel, values); break;
    }
}
