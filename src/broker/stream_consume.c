/* What a consumer of a stream asks for: where to begin, which values it wants; and what RabbitMQ refuses. */
#include "broker/stream.h"

#include "broker/worker_internal.h"
#include "protocol/amqp/table.h"

#include <stdio.h>
#include <stdlib.h>

#define NAME(request) (int)request_name(request).size, (const char *)request_name(request).data
#define VHOST(shard, request) (int)request_vhost_name((shard)->worker, request).size, (const char *)request_vhost_name((shard)->worker, request).data

/* "5m" and the like: milliseconds. */
static bool parse_interval(struct bytes text, uint64_t *ms) { return settings_parse_age(text, ms); }

static bool is_text(const struct amqp_field *field, const char *text)
{
    return (field->type == 'S' || field->type == 'x') && bytes_equal(field->bytes, bytes_of_text(text));
}

static bool offset_is_valid(const struct amqp_field *field)
{
    uint64_t ms;
    return amqp_field_is_integer(field) || field->type == 'T' || is_text(field, "first") || is_text(field, "last") || is_text(field, "next") ||
           (field->type == 'S' && parse_interval(field->bytes, &ms));
}

static void refuse_offset(struct shard *shard, const struct command_request *request, const struct amqp_field *field)
{
    const char *type = field->type == 'S' ? "longstr" : field->type == 't' ? "bool" : field->type == 'F' ? "table" : field->type == 'A' ? "array" : field->type == 'V' ? "void" : "binary";
    char value[120];
    if (field->type == 'S' || field->type == 'x')
        snprintf(value, sizeof(value), "<<\"%.*s\">>", field->bytes.size > 60 ? 60 : (int)field->bytes.size, (const char *)field->bytes.data);
    else if (field->type == 't')
        snprintf(value, sizeof(value), "%s", field->integer ? "true" : "false");
    else
        snprintf(value, sizeof(value), "undefined");
    request_refuse(shard->worker, request, 406,
                   "PRECONDITION_FAILED - invalid arg 'x-stream-offset' for queue '%.*s' in vhost '%.*s': {invalid_stream_offset_arg,{%s,%s}}",
                   NAME(request), VHOST(shard, request), type, value);
}

bool stream_may_consume(struct shard *shard, const struct command_request *request)
{
    struct amqp_field offset;
    if (!request->prefetch) {
        request_refuse(shard->worker, request, 406, "PRECONDITION_FAILED - consumer prefetch count is not set for 'queue '%.*s' in vhost '%.*s''",
                       NAME(request), VHOST(shard, request));
    } else if (request->flags & REQUEST_NO_ACK) {
        request_refuse(shard->worker, request, 540, "NOT_IMPLEMENTED - automatic acknowledgement not supported by stream queues queue '%.*s' in vhost '%.*s'",
                       NAME(request), VHOST(shard, request));
    } else if (request->flags & REQUEST_CHANNEL_LIMITED) {
        request_refuse(shard->worker, request, 540, "NOT_IMPLEMENTED - queue '%.*s' in vhost '%.*s' does not support global qos", NAME(request), VHOST(shard, request));
    } else if (amqp_table_find(request_arguments(request), "x-stream-offset", &offset) && !offset_is_valid(&offset)) {
        refuse_offset(shard, request, &offset);
    } else {
        return true;
    }
    return false;
}

/* ---- the cursor ------------------------------------------------------------------------------------------------------- */

static void set_offset(struct stream *stream, struct stream_cursor *cursor, struct bytes arguments)
{
    struct amqp_field field;
    uint64_t ms, now_ms = stream->shard->worker->wall_us / 1000;
    cursor->offset = stream->next;
    cursor->from_ms = INT64_MIN;
    if (!amqp_table_find(arguments, "x-stream-offset", &field) || is_text(&field, "next"))
        return;
    if (is_text(&field, "first"))
        cursor->offset = stream->first;
    else if (is_text(&field, "last"))
        cursor->offset = stream->next > stream->first ? stream->next - 1 : stream->next;
    else if (amqp_field_is_integer(&field))
        cursor->offset = field.integer < 0 ? 0 : (uint64_t)field.integer;
    else if (field.type == 'T' || (field.type == 'S' && parse_interval(field.bytes, &ms))) {
        cursor->offset = stream->first;
        cursor->from_ms = field.type == 'T' ? (field.integer < 0 ? 0 : field.integer > INT64_MAX / 1000 ? INT64_MAX : field.integer * 1000)
                                            : ms < now_ms ? (int64_t)(now_ms - ms) : 0;
        if (cursor->from_ms > (int64_t)now_ms)   /* nothing is that new: what comes from now on */
            set_offset(stream, cursor, (struct bytes){0});
    }
}

static uint32_t count_values(const struct amqp_field *field)
{
    if (field->type == 'S')
        return 1;
    uint32_t count = 0;
    struct bytes rest = field->type == 'A' ? field->bytes : (struct bytes){0};
    for (struct amqp_field value; amqp_array_next(&rest, &value) == WIRE_OK;)
        count += value.type == 'S';
    return count;
}

static void add_value(struct stream_cursor *cursor, struct bytes *values, struct bytes value, uint8_t **at)
{
    if (value.size)
        memcpy(*at, value.data, value.size);
    values[cursor->filter_count] = bytes_of(*at, value.size);
    cursor->hashes[cursor->filter_count++] = stream_filter_hash(value);
    *at += value.size;
}

struct stream_cursor *stream_cursor_new(struct stream *stream, struct bytes arguments)
{
    struct amqp_field filter = {.type = 0};
    bool filtered = amqp_table_find(arguments, "x-stream-filter", &filter);
    uint32_t count = filtered ? count_values(&filter) : 0;
    /* One run of memory: the cursor, the hashes, the values' places, their bytes. */
    size_t size = sizeof(struct stream_cursor) + count * (sizeof(uint64_t) + sizeof(struct bytes)) + (count ? filter.bytes.size : 0);
    struct stream_cursor *cursor = calloc(1, size);
    if (!cursor)
        return NULL;
    char why[256];
    struct amqp_field selector;
    if (amqp_table_find(arguments, "x-filter", &selector) && selector_of_field(&selector, &cursor->selector, why, sizeof(why))) {
        free(cursor);
        return NULL;
    }
    set_offset(stream, cursor, arguments);
    if (!count)
        return cursor;
    cursor->hashes = (uint64_t *)(cursor + 1);
    struct bytes *values = (struct bytes *)(cursor->hashes + count);
    uint8_t *at = (uint8_t *)(values + count);
    if (filter.type == 'S')
        add_value(cursor, values, filter.bytes, &at);
    struct bytes rest = filter.type == 'A' ? filter.bytes : (struct bytes){0};
    for (struct amqp_field value; amqp_array_next(&rest, &value) == WIRE_OK;)
        if (value.type == 'S')
            add_value(cursor, values, value.bytes, &at);
    CHECK(cursor->filter_count == count);
    cursor->match_unfiltered = amqp_table_flag(arguments, "x-stream-match-unfiltered");
    return cursor;
}

void stream_cursor_free(struct stream_cursor *cursor)
{
    if (!cursor)
        return;
    stream_cursor_leave(cursor);
    selector_free(cursor->selector);
    free(cursor);
}

void stream_settle(struct shard *shard, struct stream *stream, uint64_t first, uint64_t count)
{
    struct consumer *consumer = shard_consumer(shard, (uint32_t)(first >> 32));
    if (!consumer || consumer->queue != stream->queue)
        return;
    consumer_settled_many(shard, consumer, count < consumer->unacked ? (uint32_t)count : consumer->unacked);
}
