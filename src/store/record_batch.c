#include "store/record_batch.h"

#include "base/checksum.h"
#include "base/err.h"

#define CHECKED_FROM 21u
#define LENGTH_END 12u

/* ---- varints ------------------------------------------------------------------------------------------------------- */

static uint64_t zigzag(int64_t value) { return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63); }
static int64_t unzigzag(uint64_t value) { return (int64_t)(value >> 1) ^ -(int64_t)(value & 1); }

static uint8_t *put_varint(uint8_t *at, int64_t value)
{
    uint64_t rest = zigzag(value);
    while (rest >= 0x80) {
        *at++ = (uint8_t)(rest | 0x80);
        rest >>= 7;
    }
    *at++ = (uint8_t)rest;
    return at;
}

static unsigned varint_size(int64_t value)
{
    uint64_t rest = zigzag(value);
    unsigned size = 1;
    while (rest >>= 7)
        size++;
    return size;
}

/* Moves `rest` past a varint of at most `most` bytes. False: it is cut off or longer. */
static bool take_varint(struct bytes *rest, unsigned most, int64_t *value)
{
    uint64_t bits = 0;
    for (unsigned i = 0; i < most && i < rest->size; i++) {
        uint8_t byte = rest->data[i];
        bits |= (uint64_t)(byte & 0x7F) << (7 * i);
        if (byte & 0x80)
            continue;
        *value = unzigzag(bits);
        *rest = bytes_of(rest->data + i + 1, rest->size - i - 1);
        return true;
    }
    return false;
}

static bool take_varint32(struct bytes *rest, int64_t *value)
{
    return take_varint(rest, 5, value) && *value >= INT32_MIN && *value <= INT32_MAX;
}

/* A length and so many bytes. A length of -1 is null where that is allowed. */
static bool take_bytes(struct bytes *rest, bool may_be_null, struct bytes *value)
{
    int64_t size;
    if (!take_varint32(rest, &size) || size < (may_be_null ? -1 : 0) || (size > 0 && (uint64_t)size > rest->size))
        return false;
    *value = size < 0 ? (struct bytes){0} : bytes_of(rest->data, (size_t)size);
    if (size > 0)
        *rest = bytes_of(rest->data + size, rest->size - (size_t)size);
    return true;
}

/* ---- writing ------------------------------------------------------------------------------------------------------- */

void record_batch_begin(struct record_batch_writer *writer, uint8_t *memory, size_t room)
{
    CHECK(room >= RECORD_BATCH_HEADER_SIZE);
    *writer = (struct record_batch_writer){.begin = memory, .at = memory + RECORD_BATCH_HEADER_SIZE, .end = memory + room};
}

static int64_t length_of(struct bytes bytes) { return bytes.data ? (int64_t)bytes.size : -1; }

static uint8_t *put_bytes(uint8_t *at, struct bytes bytes)
{
    at = put_varint(at, length_of(bytes));
    if (bytes.size)
        memcpy(at, bytes.data, bytes.size);
    return at + bytes.size;
}

static size_t bytes_size(struct bytes bytes) { return varint_size(length_of(bytes)) + bytes.size; }

bool record_batch_add(struct record_batch_writer *writer, uint64_t offset, int64_t timestamp_ms, struct bytes key, struct bytes value,
                      const struct batch_header_field *headers, unsigned header_count)
{
    if (!writer->count) {
        writer->base_offset = offset;
        writer->first_ms = writer->highest_ms = timestamp_ms;
    }
    CHECK(!writer->count || offset > writer->base_offset + writer->last_delta);
    uint64_t offset_delta = offset - writer->base_offset;
    int64_t timestamp_delta = timestamp_ms - writer->first_ms;
    size_t size = 1 + varint_size(timestamp_delta) + varint_size((int64_t)offset_delta) + bytes_size(key) + bytes_size(value) + varint_size(header_count);
    for (unsigned i = 0; i < header_count; i++)
        size += bytes_size(headers[i].key) + bytes_size(headers[i].value);
    size_t room = (size_t)(writer->end - writer->at);
    if (offset_delta > INT32_MAX || size > INT32_MAX || size + varint_size((int64_t)size) > room || writer->count == INT32_MAX)
        return false;
    uint8_t *at = put_varint(writer->at, (int64_t)size);
    *at++ = 0;
    at = put_varint(at, timestamp_delta);
    at = put_varint(at, (int64_t)offset_delta);
    at = put_bytes(put_bytes(at, key), value);
    at = put_varint(at, header_count);
    for (unsigned i = 0; i < header_count; i++)
        at = put_bytes(put_bytes(at, headers[i].key), headers[i].value);
    writer->at = at;
    writer->count++;
    writer->last_delta = (uint32_t)offset_delta;
    if (timestamp_ms > writer->highest_ms)
        writer->highest_ms = timestamp_ms;
    return true;
}

uint32_t record_batch_finish(struct record_batch_writer *writer)
{
    uint8_t *at = writer->begin;
    uint64_t size = (uint64_t)(writer->at - at);
    CHECK(writer->count && size - LENGTH_END <= INT32_MAX);
    store_be64(at, writer->base_offset);
    store_be32(at + 8, (uint32_t)(size - LENGTH_END));
    store_be32(at + 12, 0);
    at[16] = RECORD_BATCH_MAGIC;
    store_be16(at + 21, 0);
    store_be32(at + 23, writer->last_delta);
    store_be64(at + 27, (uint64_t)writer->first_ms);
    store_be64(at + 35, (uint64_t)writer->highest_ms);
    store_be64(at + 43, UINT64_MAX);
    store_be16(at + 51, UINT16_MAX);
    store_be32(at + 53, UINT32_MAX);
    store_be32(at + 57, writer->count);
    store_be32(at + 17, crc32c(0, at + CHECKED_FROM, size - CHECKED_FROM));
    return (uint32_t)size;
}

/* ---- reading ------------------------------------------------------------------------------------------------------- */

enum record_batch_answer record_batch_read(struct bytes bytes, struct record_batch *batch, uint64_t *size)
{
    *size = RECORD_BATCH_HEADER_SIZE;
    if (bytes.size < RECORD_BATCH_HEADER_SIZE)
        return RECORD_BATCH_MORE;
    const uint8_t *at = bytes.data;
    uint32_t length = load_be32(at + 8), last_delta = load_be32(at + 23), count = load_be32(at + 57);
    uint64_t base = load_be64(at);
    if (at[16] != RECORD_BATCH_MAGIC || length > INT32_MAX || length < RECORD_BATCH_HEADER_SIZE - LENGTH_END || last_delta > INT32_MAX ||
        base > INT64_MAX - (uint64_t)INT32_MAX || !count || count > INT32_MAX || count - 1 > last_delta)
        return RECORD_BATCH_BAD;
    *size = (uint64_t)length + LENGTH_END;
    *batch = (struct record_batch){
        .bytes = bytes_of(at, *size < bytes.size ? *size : bytes.size), .base_offset = base, .last_offset = base + last_delta,
        .first_ms = (int64_t)load_be64(at + 27), .highest_ms = (int64_t)load_be64(at + 35), .count = count, .crc = load_be32(at + 17),
        .attributes = load_be16(at + 21),
    };
    return *size > bytes.size ? RECORD_BATCH_MORE : RECORD_BATCH_OK;
}

bool record_batch_verify(const struct record_batch *batch)
{
    return crc32c(0, batch->bytes.data + CHECKED_FROM, batch->bytes.size - CHECKED_FROM) == batch->crc;
}

bool batch_record_read(struct bytes whole, struct batch_record *record)
{
    struct bytes rest = whole;
    int64_t size, timestamp, offset, headers;
    if (!take_varint32(&rest, &size) || size < 1 || (uint64_t)size != rest.size)
        return false;
    rest = bytes_of(rest.data + 1, rest.size - 1);   /* attributes: none is in use */
    if (!take_varint(&rest, 10, &timestamp) || !take_varint32(&rest, &offset) || offset < 0 || !take_bytes(&rest, true, &record->key) ||
        !take_bytes(&rest, true, &record->value) || !take_varint32(&rest, &headers) || headers < 0 || (uint64_t)headers > rest.size / 2)
        return false;
    record->offset = (uint64_t)offset;
    record->timestamp_ms = timestamp;
    record->whole = whole;
    record->headers = rest;
    record->header_count = (uint32_t)headers;
    return true;
}

enum record_batch_answer record_batch_next(const struct record_batch *batch, struct record_batch_cursor *cursor, struct batch_record *record)
{
    if (cursor->passed == batch->count)
        return RECORD_BATCH_MORE;
    const uint8_t *at = batch->bytes.data + RECORD_BATCH_HEADER_SIZE + cursor->at;
    struct bytes rest = bytes_of(at, batch->bytes.size - RECORD_BATCH_HEADER_SIZE - cursor->at), after = rest;
    int64_t size;
    if (!take_varint32(&after, &size) || size < 1 || (uint64_t)size > after.size)
        return RECORD_BATCH_BAD;
    size_t whole = (size_t)(after.data - at) + (size_t)size;
    if (!batch_record_read(bytes_of(at, whole), record))
        return RECORD_BATCH_BAD;
    record->offset += batch->base_offset;
    /* Wraps where a peer's numbers are absurd. */
    record->timestamp_ms = batch->attributes & 8 ? batch->highest_ms : (int64_t)((uint64_t)batch->first_ms + (uint64_t)record->timestamp_ms);
    if (record->offset > batch->last_offset)
        return RECORD_BATCH_BAD;
    cursor->at += (uint32_t)whole;
    cursor->passed++;
    return RECORD_BATCH_OK;
}

enum record_batch_answer batch_header_next(struct bytes *rest, struct batch_header_field *header)
{
    if (!rest->size)
        return RECORD_BATCH_MORE;
    return take_bytes(rest, false, &header->key) && take_bytes(rest, true, &header->value) ? RECORD_BATCH_OK : RECORD_BATCH_BAD;
}
