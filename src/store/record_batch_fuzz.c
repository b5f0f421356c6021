/* Whatever the bytes are, reading a batch stays inside them and comes to an end. */
#include "store/record_batch.h"
#include "store/stream_message.h"

#include "base/err.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(struct bytes outer, struct bytes inner)
{
    CHECK(!inner.size || (inner.data >= outer.data && inner.data + inner.size <= outer.data + outer.size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A copy of its own, so that a byte too far is noticed. */
    uint8_t *copy = malloc(size ? size : 1);
    if (size)
        memcpy(copy, data, size);
    struct bytes all = bytes_of(copy, size);
    struct record_batch batch;
    uint64_t needed;
    enum record_batch_answer answer = record_batch_read(all, &batch, &needed);
    CHECK(answer != RECORD_BATCH_MORE || needed > size);
    if (answer == RECORD_BATCH_OK) {
        CHECK(needed <= size);
        record_batch_verify(&batch);
        struct record_batch_cursor cursor = {0};
        struct batch_record record;
        uint32_t count = 0;
        while (record_batch_next(&batch, &cursor, &record) == RECORD_BATCH_OK) {
            struct message message;
            CHECK(++count <= batch.count && record.offset <= batch.last_offset);
            inside(all, record.whole);
            inside(record.whole, record.key);
            inside(record.whole, record.value);
            if (stream_message_of(&record, &message)) {
                inside(record.whole, message.exchange);
                CHECK(message.properties.size >= 2 && message.exchange.size <= 255 && message.routing_key.size <= 255);
            }
        }
    }
    free(copy);
    return 0;
}
