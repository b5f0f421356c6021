#include "cli/bench_consumer.h"

#include "cli/bench_publisher.h"
#include "client/verbs.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define IN_CAPACITY (512u * 1024u)
#define ACKS_CAPACITY (64u * 1024u)
#define WAIT_NS 20000000u

static bool subscribe(struct bench_consumer *consumer)
{
    const struct bench_plan *plan = consumer->load->plan;
    struct bench_link *link = &consumer->link;
    struct amqp_table_writer writer;
    uint8_t table[64];
    struct bytes arguments = {0};
    amqp_table_begin(&writer, table, sizeof table);
    amqp_table_put_text(&writer, "x-stream-offset", bytes_of_text("first"));
    if (plan->is_stream)
        amqp_table_finish(&writer, &arguments);
    if (plan->manual_ack && plan->prefetch && remote_qos(link->remote, (uint16_t)plan->prefetch)) {
        bench_link_break(link, "%s", remote_error(link->remote));
        return false;
    }
    for (uint32_t i = 0; i < consumer->share.count; i++) {
        char name[256], tag[16];
        uint8_t room[1024];
        uint32_t queue = consumer->share.first + i * consumer->share.step;
        bench_queue_name(plan, queue, name);
        snprintf(tag, sizeof tag, "%u", queue);   /* A delivery's tag tells its queue. */
        struct amqp_value values[AMQP_BASIC_CONSUME_COUNT] = {
            [AMQP_BASIC_CONSUME_QUEUE] = amqp_text(name),
            [AMQP_BASIC_CONSUME_CONSUMER_TAG] = amqp_text(tag),
            [AMQP_BASIC_CONSUME_NO_ACK] = amqp_number(!plan->manual_ack),
            [AMQP_BASIC_CONSUME_NO_WAIT] = amqp_number(1),
            [AMQP_BASIC_CONSUME_ARGUMENTS] = amqp_bytes(arguments),
        };
        size_t size = amqp_method_frame(room, sizeof room, BENCH_CHANNEL, AMQP_BASIC_CONSUME, values);
        if (bench_link_write_all(link, room, size) == BENCH_BROKEN)
            return false;
    }
    return true;
}

bool bench_consumer_open(struct bench_consumer *consumer, struct bench_load *load, uint32_t index)
{
    const struct bench_plan *plan = load->plan;
    consumer->load = load;
    consumer->index = index;
    consumer->share = bench_share(index, plan->consumers, plan->queues);
    histogram_init(&consumer->ages);
    if (bench_link_open(&consumer->link, plan, "godwit bench consumer", IN_CAPACITY))
        return false;
    consumer->acks = malloc(ACKS_CAPACITY);
    if (!consumer->acks) {
        bench_link_break(&consumer->link, "out of memory");
        return false;
    }
    return subscribe(consumer);
}

void bench_consumer_close(struct bench_consumer *consumer)
{
    bench_link_close(&consumer->link);
    free(consumer->acks);
    consumer->acks = NULL;
}

static void finish_run(struct bench_consumer *consumer)
{
    if (consumer->run) {
        uint64_t age = consumer->now_ns > consumer->run_stamp ? consumer->now_ns - consumer->run_stamp : 0;
        if (consumer->run_stamp >= consumer->warm_ns)
            histogram_add(&consumer->ages, age, consumer->run);
    }
    consumer->run = 0;
}

static void unlock(struct bench_consumer *consumer)
{
    if (consumer->locked)
        pthread_mutex_unlock(&consumer->locked->lock);
    consumer->locked = NULL;
}

static enum bench_progress note_in_ledger(struct bench_consumer *consumer, uint32_t queue, uint64_t id, bool redelivered)
{
    struct bench_load *load = consumer->load;
    const struct bench_plan *plan = load->plan;
    struct bench_ledger *ledger = &load->ledgers[queue];
    uint32_t publisher = (uint32_t)(id >> BENCH_SEQUENCE_BITS);
    uint64_t sequence = id & ((UINT64_C(1) << BENCH_SEQUENCE_BITS) - 1), limit = UINT64_C(1) << 36;
    if (publisher < plan->publishers)
        limit = atomic_load_explicit(&load->publishers[publisher].issued, memory_order_acquire);
    if (ledger != consumer->locked) {
        unlock(consumer);
        pthread_mutex_lock(&ledger->lock);
        consumer->locked = ledger;
    }
    if (bench_ledger_note(ledger, publisher, sequence, limit, redelivered))
        return bench_link_break(&consumer->link, "out of memory");
    return BENCH_SOME;
}

/* Takes note of a whole message whose body begins with `head`. */
static inline enum bench_progress note(struct bench_consumer *consumer, uint32_t queue, uint64_t tag, bool redelivered,
                                       uint64_t size, const uint8_t *head, bool is_damaged)
{
    consumer->count++;
    consumer->redelivered += redelivered;
    consumer->damaged += is_damaged;
    consumer->last_tag = tag;
    consumer->unacked++;
    if (LIKELY(size >= BENCH_STAMP_SIZE)) {
        uint64_t stamp = load_le64(head + 8);
        if (stamp != consumer->run_stamp) {
            finish_run(consumer);
            consumer->run_stamp = stamp;
        }
        consumer->run++;
    }
    if (consumer->load->ledgers && size >= BENCH_ID_SIZE && !is_damaged)
        return note_in_ledger(consumer, queue, load_le64(head), redelivered);
    return BENCH_SOME;
}

/* The queue that a consumer tag names. */
static uint32_t queue_of_tag(const struct bench_consumer *consumer, const uint8_t *text, uint32_t size)
{
    uint32_t queue = 0;
    if (consumer->share.count == 1)
        return consumer->share.first;
    for (uint32_t i = 0; i < size && i < BENCH_QUEUE_DIGITS; i++)
        queue = queue * 10 + (uint32_t)(text[i] - '0');
    return queue < consumer->load->plan->queues ? queue : 0;
}

/* Whether a piece of a body is what was sent; the head is the ledger's to judge. */
static bool piece_is_intact(const struct bench_plan *plan, uint64_t offset, const uint8_t *data, uint64_t size)
{
    uint64_t head = bench_head_size(plan->size);
    if (offset < head) {
        uint64_t skip = head - offset < size ? head - offset : size;
        data += skip;
        size -= skip;
        offset += skip;
    }
    while (size > 0) {
        uint64_t part = size < BENCH_PATTERN_PERIOD ? size : BENCH_PATTERN_PERIOD;
        if (memcmp(data, bench_pattern(plan, offset), part) != 0)
            return false;
        data += part;
        size -= part;
        offset += part;
    }
    return true;
}

/* Takes in a delivery that is held whole in three frames (two without a body), as almost all are. BENCH_NONE: it is not. */
static inline enum bench_progress scan_delivery(struct bench_consumer *consumer)
{
    const struct bench_plan *plan = consumer->load->plan;
    const uint8_t *method = consumer->link.in + consumer->link.begin;
    uint64_t held = consumer->link.end - consumer->link.begin;
    /* class, method (4), tag's length (1), tag, delivery tag (8), redelivered (1), exchange, routing key */
    if (held < 12 || method[0] != AMQP_FRAME_METHOD || amqp_method_id_read(method + 7) != AMQP_BASIC_DELIVER)
        return BENCH_NONE;
    uint64_t method_size = load_be32(method + 3), tag_size = method[11];
    uint64_t header_at = method_size + AMQP_FRAME_OVERHEAD;
    if (method_size < 4 + 1 + tag_size + 9 + 2 || held < header_at + AMQP_FRAME_OVERHEAD + AMQP_CONTENT_HEADER_SIZE)
        return BENCH_NONE;
    const uint8_t *header = method + header_at;
    uint64_t header_size = load_be32(header + 3), body_size = load_be64(header + 11);
    uint64_t body_at = header_at + header_size + AMQP_FRAME_OVERHEAD;
    uint64_t total = body_at + (body_size ? body_size + AMQP_FRAME_OVERHEAD : 0);
    if (header[0] != AMQP_FRAME_HEADER || body_size > IN_CAPACITY || header_size > IN_CAPACITY || held < total)
        return BENCH_NONE;
    const uint8_t *body = method + body_at;
    if (method[header_at - 1] != AMQP_FRAME_END || method[body_at - 1] != AMQP_FRAME_END)
        return BENCH_NONE;
    if (body_size && (body[0] != AMQP_FRAME_BODY || load_be32(body + 3) != body_size || method[total - 1] != AMQP_FRAME_END))
        return BENCH_NONE;
    const uint8_t *tag = method + 12 + tag_size;
    bool is_damaged = body_size != plan->size ||
                      (plan->verify && !piece_is_intact(plan, 0, body + AMQP_FRAME_HEADER_SIZE, body_size));
    consumer->link.begin += total;
    return note(consumer, queue_of_tag(consumer, method + 12, (uint32_t)tag_size), load_be64(tag), tag[8] & 1, body_size,
                body + AMQP_FRAME_HEADER_SIZE, is_damaged);
}

static enum bench_progress finish_message(struct bench_consumer *consumer)
{
    consumer->state = AWAIT_METHOD;
    return note(consumer, consumer->queue, consumer->last_tag, consumer->is_redelivered, consumer->body_size, consumer->head,
                consumer->is_damaged);
}

static enum bench_progress on_body(struct bench_consumer *consumer, struct bytes piece)
{
    const struct bench_plan *plan = consumer->load->plan;
    if (piece.size > consumer->body_size - consumer->body_seen)
        return bench_link_break(&consumer->link, "the broker sent more of a body than it announced");
    for (uint64_t i = consumer->body_seen; i < BENCH_STAMP_SIZE && i - consumer->body_seen < piece.size; i++)
        consumer->head[i] = piece.data[i - consumer->body_seen];
    if (plan->verify && !consumer->is_damaged && !piece_is_intact(plan, consumer->body_seen, piece.data, piece.size))
        consumer->is_damaged = true;
    consumer->body_seen += piece.size;
    return consumer->body_seen == consumer->body_size ? finish_message(consumer) : BENCH_SOME;
}

/* One frame of a message that is not held whole, or of another kind. */
static enum bench_progress on_frame(struct bench_consumer *consumer, const struct amqp_frame *frame)
{
    if (frame->type == AMQP_FRAME_BODY && consumer->state == AWAIT_BODY)
        return on_body(consumer, frame->payload);
    if (frame->type == AMQP_FRAME_HEADER && consumer->state == AWAIT_HEADER) {
        struct amqp_content_header header;
        if (!amqp_content_header_decode(frame->payload, &header))
            return bench_link_break(&consumer->link, "the broker sent a malformed content header");
        consumer->state = AWAIT_BODY;
        consumer->body_size = header.body_size;
        consumer->body_seen = 0;
        consumer->is_damaged = header.body_size != consumer->load->plan->size;
        return header.body_size ? BENCH_SOME : finish_message(consumer);
    }
    struct amqp_method method;
    if (frame->type != AMQP_FRAME_METHOD || frame->payload.size < 4 || amqp_method_id_read(frame->payload.data) != AMQP_BASIC_DELIVER)
        return bench_link_other(&consumer->link, frame);
    if (consumer->state != AWAIT_METHOD || amqp_method_decode(frame->payload, &method) != AMQP_DECODED)
        return bench_link_break(&consumer->link, "the broker sent a delivery amid another one");
    struct bytes tag = method.values[AMQP_BASIC_DELIVER_CONSUMER_TAG].bytes;
    consumer->queue = queue_of_tag(consumer, tag.data, (uint32_t)tag.size);
    consumer->last_tag = method.values[AMQP_BASIC_DELIVER_DELIVERY_TAG].number;
    consumer->is_redelivered = method.values[AMQP_BASIC_DELIVER_REDELIVERED].number;
    consumer->state = AWAIT_HEADER;
    return BENCH_SOME;
}

static enum bench_progress acknowledge(struct bench_consumer *consumer)
{
    consumer->unacked = 0;
    if (consumer->acks_size + AMQP_ACK_FRAME_SIZE > ACKS_CAPACITY) {
        if (bench_link_write_all(&consumer->link, consumer->acks, consumer->acks_size) == BENCH_BROKEN)
            return BENCH_BROKEN;
        consumer->acks_size = 0;
    }
    amqp_ack_write(consumer->acks + consumer->acks_size, BENCH_CHANNEL, AMQP_BASIC_ACK, consumer->last_tag, 1);
    consumer->acks_size += AMQP_ACK_FRAME_SIZE;
    return BENCH_SOME;
}

enum bench_progress bench_consumer_scan(struct bench_consumer *consumer)
{
    const struct bench_plan *plan = consumer->load->plan;
    struct bench_link *link = &consumer->link;
    uint64_t ack_every = plan->manual_ack ? plan->ack_every : UINT64_MAX;
    enum bench_progress progress;
    for (;;) {
        progress = consumer->state == AWAIT_METHOD ? scan_delivery(consumer) : BENCH_NONE;
        if (progress == BENCH_NONE) {
            struct amqp_frame frame;
            enum wire_answer answer = amqp_frame_read(bench_link_held(link), link->frame_max, &frame);
            if (answer == WIRE_MORE)
                break;
            if (answer == WIRE_BAD) {
                progress = bench_link_break(link, "the broker sent a malformed frame");
                break;
            }
            link->begin += frame.size;
            progress = on_frame(consumer, &frame);
        }
        if (UNLIKELY(progress == BENCH_BROKEN))
            break;
        if (UNLIKELY(consumer->unacked >= ack_every) && consumer->state == AWAIT_METHOD && acknowledge(consumer) == BENCH_BROKEN) {
            progress = BENCH_BROKEN;
            break;
        }
    }
    finish_run(consumer);
    unlock(consumer);
    return progress == BENCH_BROKEN ? BENCH_BROKEN : BENCH_SOME;
}

static enum bench_progress send_acks(struct bench_consumer *consumer)
{
    if (consumer->acks_size == 0)
        return BENCH_SOME;
    size_t size = consumer->acks_size;
    consumer->acks_size = 0;
    return bench_link_write_all(&consumer->link, consumer->acks, size);
}

static enum bench_progress consume(struct bench_consumer *consumer)
{
    const struct bench_plan *plan = consumer->load->plan;
    struct bench_link *link = &consumer->link;
    while (!atomic_load_explicit(&consumer->load->stop, memory_order_relaxed)) {
        enum bench_progress progress = bench_link_read(link);
        if (progress == BENCH_NONE) {
            bench_link_wait(link, POLLIN, WAIT_NS);
            progress = bench_link_read(link);
        }
        if (progress == BENCH_BROKEN)
            return progress;
        if (progress == BENCH_NONE) {
            /* All is quiet: what is left below --ack-every must not keep the rest back. */
            if (plan->manual_ack && consumer->unacked && consumer->state == AWAIT_METHOD &&
                (acknowledge(consumer) == BENCH_BROKEN || send_acks(consumer) == BENCH_BROKEN))
                return BENCH_BROKEN;
            continue;
        }
        consumer->now_ns = bench_now_ns();
        uint64_t before = consumer->count;
        if (bench_consumer_scan(consumer) == BENCH_BROKEN || send_acks(consumer) == BENCH_BROKEN)
            return BENCH_BROKEN;
        if (consumer->count == before)
            continue;
        if (before == 0)
            consumer->first_ns = consumer->now_ns;
        consumer->last_ns = consumer->now_ns;
        atomic_store_explicit(&consumer->consumed, consumer->count, memory_order_release);
    }
    return BENCH_SOME;
}

void *bench_consumer_run(void *argument)
{
    struct bench_consumer *consumer = argument;
    struct bench_load *load = consumer->load;
    bench_load_await_start(load);
    double cpu_s = bench_thread_cpu_s();
    consumer->warm_ns = load->plan->warmup_ms ? bench_now_ns() + load->plan->warmup_ms * 1000000 : 0;
    if (consume(consumer) == BENCH_BROKEN)
        atomic_fetch_add(&load->failures, 1);
    consumer->cpu_s = bench_thread_cpu_s() - cpu_s;
    return NULL;
}
