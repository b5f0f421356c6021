/* POST /exchanges/{exchange}/messages and /queues/{queue}/messages. */
#include "protocol/gateway/publish.h"

#include "protocol/amqp/expiration.h"
#include "protocol/amqp/reply_to.h"
#include "protocol/gateway/upload.h"
#include "protocol/gateway/work.h"

#include <stdio.h>
#include <stdlib.h>

#define TEXT(bytes) (int)(bytes).size, (const char *)(bytes).data
#define SHORT (UINT8_MAX + 1u)
#define PREFIX "message-"            /* of HTTP headers that become the message's */
#define PREFIX_SIZE (sizeof(PREFIX) - 1)

/* ---- a message ---------------------------------------------------------------------------------------------------------- */

enum publish_result publish_message(struct task *task, const struct outgoing *outgoing)
{
    struct member *member = task->member;
    size_t size = amqp_properties_size(outgoing->properties);
    uint8_t few[1024], *room = size <= sizeof(few) ? few : malloc(size);
    if (!room)
        return PUBLISH_NO_MEMORY;
    struct publish publish = {
        .channel = 1, .persistent = outgoing->properties->delivery_mode == 2, .mandatory = outgoing->mandatory, .whole = !task->upload, .confirm_tag = member->next_tag,
        .exchange = outgoing->exchange.size ? outgoing->exchange : bytes_of_text(""), .routing_key = outgoing->routing_key,
        .body_size = task->upload ? task->call->request->content_length : outgoing->body.size,
        .properties = bytes_of(room, amqp_properties_encode(outgoing->properties, room, size))};
    enum publish_result result = client_publish_begin(&member->client, &publish);
    if (task->upload) {
        upload_keep(task, &publish, result);
        publish.chunk = NULL;
    } else if (result == PUBLISH_ROUTED || (result == PUBLISH_UNROUTABLE && publish.chunk)) {
        if (publish.body && outgoing->body.size)
            memcpy(publish.body, outgoing->body.data, outgoing->body.size);
        client_publish_end(&member->client, &publish);
    }
    if (result == PUBLISH_UNROUTABLE && publish.chunk)
        client_release(&member->client, publish.chunk);
    if (result == PUBLISH_ROUTED) {
        task->first_tag = task->count ? task->first_tag : member->next_tag;
        member->next_tag++;
        task->count++;
        task->unconfirmed++;
        task->routed++;
    }
    if (room != few)
        free(room);
    return result;
}

static void refuse_transaction(struct task *task, const struct outgoing *outgoing)
{
    size_t size = amqp_properties_size(outgoing->properties);
    uint8_t *room = malloc(size);
    char why[400] = "what the message says of a transaction is wrong";
    const struct publish publish = {.exchange = outgoing->exchange, .routing_key = outgoing->routing_key, .body_size = outgoing->body.size,
                                    .properties = bytes_of(room, room ? amqp_properties_encode(outgoing->properties, room, size) : 0)};
    if (room)
        client_publish_fault(&publish, why, sizeof(why));
    free(room);
    task_problem(task, 422, "PRECONDITION_FAILED - %s", why);
}

void publish_refuse(struct task *task, enum publish_result result, const struct outgoing *outgoing)
{
    const struct member *member = task->member;
    struct bytes exchange = outgoing->exchange.size ? outgoing->exchange : bytes_of_text("amq.default");
    switch (result) {
    case PUBLISH_NO_EXCHANGE:
        task_problem(task, 404, "NOT_FOUND - no exchange '%.*s' in vhost '%.*s'", TEXT(exchange), TEXT(member_vhost(member)));
        break;
    case PUBLISH_UNROUTABLE:
        task_problem(task, 422, "NO_ROUTE - no queue is bound to exchange '%.*s' with routing key '%.*s'", TEXT(exchange), TEXT(outgoing->routing_key));
        break;
    case PUBLISH_INTERNAL_EXCHANGE:
        task_problem(task, 403, "ACCESS_REFUSED - cannot publish to internal exchange '%.*s' in vhost '%.*s'", TEXT(exchange), TEXT(member_vhost(member)));
        break;
    case PUBLISH_ACCESS_REFUSED:
        task_problem(task, 403, "ACCESS_REFUSED - access to exchange '%.*s' in vhost '%.*s' refused for user '%.*s'", TEXT(exchange), TEXT(member_vhost(member)),
                     TEXT(member->client.user));
        break;
    case PUBLISH_TOPIC_REFUSED:
        task_problem(task, 403, "ACCESS_REFUSED - access to topic '%.*s' in exchange '%.*s' in vhost '%.*s' refused for user '%.*s'", TEXT(outgoing->routing_key),
                     TEXT(exchange), TEXT(member_vhost(member)), TEXT(member->client.user));
        break;
    case PUBLISH_BAD_DELAY:
        task_problem(task, 422, "PRECONDITION_FAILED - the message's x-delay or x-deliver-at lies too far ahead");
        break;
    case PUBLISH_BAD_TRANSACTION:
        refuse_transaction(task, outgoing);
        break;
    case PUBLISH_CHECK_REFUSED:
        task_problem(task, 403, "ACCESS_REFUSED - access to exchange 'amq.default' in vhost '%.*s' refused for user '%.*s', who wants to be asked at a queue",
                     TEXT(member_vhost(member)), TEXT(member->client.user));
        break;
    case PUBLISH_REFUSED:
        task_problem(task, 503, "The message could not be stored: storage has failed or is full.");
        break;
    default:
        task_problem(task, 503, "There is too little memory.");
        break;
    }
}

void publish_done(struct task *task, void (*confirmed)(struct task *task))
{
    task->confirmed = confirmed;
    if (task->upload)
        return;
    task->published = true;
    if (!task->unconfirmed)
        confirmed(task);
}

/* ---- what a request says of its message ---------------------------------------------------------------------------------- */

/* The texts of a message's properties. */
struct texts {
    char correlation_id[SHORT], reply_to[SHORT], message_id[SHORT], type[SHORT], app_id[SHORT], expiration[24];
};

static bool read_text(struct task *task, struct amqp_properties *properties, const char *name, char room[SHORT], uint16_t flag, struct bytes *property)
{
    bool bad;
    if (!task_parameter(task, name, room, SHORT, &bad))
        return !bad;
    properties->flags |= flag;
    *property = bytes_of_text(room);
    return true;
}

/* A request that may be repeated says so by its key, which is the message's id. */
static bool read_key(struct task *task, struct amqp_properties *properties, char room[SHORT])
{
    if (properties->flags & AMQP_MESSAGE_ID)
        return true;
    if (!task_idempotency_key(task, room))
        return false;
    if (room[0]) {
        properties->flags |= AMQP_MESSAGE_ID;
        properties->message_id = bytes_of_text(room);
    }
    return true;
}

static bool read_texts(struct task *task, struct amqp_properties *properties, struct texts *texts)
{
    return read_text(task, properties, "correlation_id", texts->correlation_id, AMQP_CORRELATION_ID, &properties->correlation_id) &&
           read_text(task, properties, "reply_to", texts->reply_to, AMQP_REPLY_TO, &properties->reply_to) &&
           read_text(task, properties, "message_id", texts->message_id, AMQP_MESSAGE_ID, &properties->message_id) &&
           read_text(task, properties, "type", texts->type, AMQP_TYPE, &properties->type) &&
           read_text(task, properties, "app_id", texts->app_id, AMQP_APP_ID, &properties->app_id) &&
           read_key(task, properties, texts->message_id);
}

static bool read_numbers(struct task *task, struct amqp_properties *properties, struct texts *texts)
{
    uint64_t none = UINT64_MAX, priority = none, expiration = none, timestamp = none;
    bool persistent = true;
    if (!task_boolean(task, "persistent", &persistent) || !task_number(task, "priority", UINT8_MAX, &priority) ||
        !task_number(task, "expiration", EXPIRATION_MAX_MS, &expiration) || !task_number(task, "timestamp", INT64_MAX, &timestamp))
        return false;
    properties->flags |= AMQP_DELIVERY_MODE;
    properties->delivery_mode = persistent ? 2 : 1;
    if (priority != none) {
        properties->flags |= AMQP_PRIORITY;
        properties->priority = (uint8_t)priority;
    }
    if (expiration != none) {
        snprintf(texts->expiration, sizeof(texts->expiration), "%llu", (unsigned long long)expiration);
        properties->flags |= AMQP_EXPIRATION;
        properties->expiration = bytes_of_text(texts->expiration);
    }
    if (timestamp != none) {
        properties->flags |= AMQP_MESSAGE_TIMESTAMP;
        properties->timestamp = timestamp;
    }
    return true;
}

/* Content-Type and Content-Encoding are the message's as they are. */
static bool read_content(struct task *task, struct amqp_properties *properties)
{
    static const struct { const char *name; uint16_t flag; size_t offset; } rows[] = {
        {"content-type", AMQP_CONTENT_TYPE, offsetof(struct amqp_properties, content_type)},
        {"content-encoding", AMQP_CONTENT_ENCODING, offsetof(struct amqp_properties, content_encoding)}};
    for (unsigned i = 0; i < 2; i++) {
        struct bytes value;
        if (!http_field_find(task->call->request, rows[i].name, &value))
            continue;
        if (value.size > UINT8_MAX) {
            task_problem(task, 400, "The header %s is longer than 255 bytes.", rows[i].name);
            return false;
        }
        properties->flags |= rows[i].flag;
        *(struct bytes *)((char *)properties + rows[i].offset) = value;
    }
    return true;
}

/* HTTP's headers message-NAME are the message's headers NAME, in lower case: whole numbers as numbers, the rest as text. */
static bool read_headers(struct task *task, struct amqp_properties *properties, uint8_t **room)
{
    const struct http_request *request = task->call->request;
    size_t size = 16;
    unsigned count = 0;
    for (unsigned i = 0; i < request->field_count; i++) {
        const struct http_field *field = &request->fields[i];
        if (field->name.size <= PREFIX_SIZE || !http_name_is(bytes_of(field->name.data, PREFIX_SIZE), PREFIX))
            continue;
        size += field->name.size + field->value.size + 16;
        count++;
    }
    if (!count)
        return true;
    struct amqp_table_writer writer;
    *room = malloc(size);
    if (!*room) {
        task_problem(task, 503, "There is too little memory.");
        return false;
    }
    amqp_table_begin(&writer, *room, size);
    for (unsigned i = 0; i < request->field_count; i++) {
        const struct http_field *field = &request->fields[i];
        char name[SHORT];
        if (field->name.size <= PREFIX_SIZE || field->name.size - PREFIX_SIZE >= SHORT || !http_name_is(bytes_of(field->name.data, PREFIX_SIZE), PREFIX))
            continue;
        for (size_t k = PREFIX_SIZE; k < field->name.size; k++)
            name[k - PREFIX_SIZE] = (char)(field->name.data[k] >= 'A' && field->name.data[k] <= 'Z' ? field->name.data[k] | 32 : field->name.data[k]);
        name[field->name.size - PREFIX_SIZE] = 0;
        bool negative = field->value.size && field->value.data[0] == '-';
        uint64_t number;
        bool is_number = http_number(bytes_of(field->value.data + negative, field->value.size - negative), &number) && number <= INT64_MAX;
        if (is_number && number <= INT32_MAX)
            amqp_table_put_int(&writer, name, negative ? -(int32_t)number : (int32_t)number);
        else if (is_number)
            amqp_table_put_long(&writer, name, negative ? -(int64_t)number : (int64_t)number);
        else
            amqp_table_put_text(&writer, name, field->value);
    }
    if (amqp_table_finish(&writer, &properties->headers))
        properties->flags |= AMQP_HEADERS;
    return true;
}

static void answer_routed(struct task *task)
{
    if (task->refused)
        task_problem(task, 503, "The message was refused: its queue is full, or storage has failed.");
    else
        task_answer(task, task->routed ? 201 : 200, task->routed ? "{\"routed\":true}" : "{\"routed\":false}");
}

static void publish(struct task *task, struct outgoing *outgoing, bool to_queue)
{
    struct amqp_properties properties = {0};
    struct texts texts;
    uint8_t *headers = NULL;
    if (read_texts(task, &properties, &texts) && read_numbers(task, &properties, &texts) && read_content(task, &properties) &&
        read_headers(task, &properties, &headers)) {
        outgoing->properties = &properties;
        outgoing->body = bytes_of(task->body, task->size);
        enum publish_result result;
        if ((properties.flags & AMQP_REPLY_TO) && reply_to_is(properties.reply_to))
            task_problem(task, 422, "PRECONDITION_FAILED - fast reply consumer does not exist");
        else if ((result = publish_message(task, outgoing)) == PUBLISH_ROUTED || (result == PUBLISH_UNROUTABLE && !outgoing->mandatory))
            publish_done(task, answer_routed);
        else if (result == PUBLISH_UNROUTABLE && to_queue)
            task_problem(task, 404, "NOT_FOUND - no queue '%.*s' in vhost '%.*s'", TEXT(outgoing->routing_key), TEXT(member_vhost(task->member)));
        else
            publish_refuse(task, result, outgoing);
    }
    free(headers);
}

void publish_to_exchange(struct task *task)
{
    char key[SHORT] = "";
    bool bad;
    struct outgoing outgoing = {.exchange = task_name(task, 0)};
    if (bytes_equal(outgoing.exchange, bytes_of_text("amq.default")))
        outgoing.exchange = (struct bytes){0};
    if ((!task_parameter(task, "routing_key", key, sizeof(key), &bad) && bad) || !task_boolean(task, "mandatory", &outgoing.mandatory))
        return;
    outgoing.routing_key = bytes_of_text(key);
    publish(task, &outgoing, false);
}

void publish_to_queue(struct task *task)
{
    publish(task, &(struct outgoing){.routing_key = task_name(task, 0), .mandatory = true}, true);
}
