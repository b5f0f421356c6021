#include "protocol/amqp/settle.h"
#include "base/bugs.h"

#include "protocol/amqp/consume.h"
#include "protocol/amqp/errors.h"
#include "protocol/amqp/tx.h"

struct settling {
    struct channel *channel;
    enum settle_kind kind;
    struct transaction *transaction;
    uint64_t delay_ms;           /* of a nack-after */
};

static void settle_run(void *owner, uint64_t queue, uint64_t seq, uint64_t count)
{
    const struct settling *settling = owner;
    /* Answers that the broker made up itself lie in no queue. */
    if (queue)
        client_settle(&settling->channel->session->client, queue, settling->kind, seq,
                      count + (settling->kind == SETTLE_REQUEUE && bug_enabled(BUG_REQUEUE_ONE_MORE)), settling->transaction);
}

static void settle_run_after(void *owner, uint64_t queue, uint64_t seq, uint64_t count)
{
    const struct settling *settling = owner;
    if (queue)
        client_settle_after(&settling->channel->session->client, queue, seq, count, settling->delay_ms);
}

/* The tag is of nothing that may be settled. */
static void unknown_tag(struct channel *channel, uint64_t tag, uint32_t id)
{
    error_raise(channel->session, channel, AMQP_PRECONDITION_FAILED, id, "unknown delivery tag %llu", (unsigned long long)tag);
}

void settle_tag(struct channel *channel, uint64_t tag, bool multiple, enum settle_kind kind, uint32_t id)
{
    struct settling settling = {.channel = channel, .kind = kind};
    if (channel->tx) {
        settling.transaction = tx_transaction(channel);
        if (!settling.transaction) {
            error_out_of_memory(channel->session);
            return;
        }
    }
    uint64_t count = unacked_take(&channel->unacked, tag, multiple, channel->tx != NULL, settle_run, &settling);
    if (UNLIKELY(count == 0 && !(multiple && tag == 0))) {
        unknown_tag(channel, tag, id);
        return;
    }
    if (UNLIKELY(channel->refused_count))
        consume_resume(channel);
}

static void nack_after(struct channel *channel, uint64_t tag, uint64_t delay_ms)
{
    struct settling settling = {.channel = channel, .delay_ms = delay_ms};
    if (channel->tx)
        error_raise(channel->session, channel, AMQP_NOT_IMPLEMENTED, AMQP_BASIC_NACK_AFTER, "basic.nack-after in a transaction");
    else if (unacked_take(&channel->unacked, tag, false, false, settle_run_after, &settling) == 0)
        unknown_tag(channel, tag, AMQP_BASIC_NACK_AFTER);
    else if (channel->refused_count)
        consume_resume(channel);
}

static void recover(struct channel *channel, const struct amqp_method *method)
{
    uint32_t id = method->row->id;
    if (!method->values[AMQP_BASIC_RECOVER_REQUEUE].number) {
        error_raise(channel->session, channel, AMQP_NOT_IMPLEMENTED, id, "requeue=false");
        return;
    }
    struct settling settling = {.channel = channel, .kind = SETTLE_REQUEUE};
    unacked_take(&channel->unacked, 0, true, false, settle_run, &settling);
    if (channel->refused_count)
        consume_resume(channel);
    if (id == AMQP_BASIC_RECOVER)
        session_send(channel->session, channel->number, AMQP_BASIC_RECOVER_OK, NULL);
}

void settle_method(struct channel *channel, const struct amqp_method *method)
{
    const struct amqp_value *values = method->values;
    switch (method->row->id) {
    case AMQP_BASIC_ACK:
        settle_tag(channel, values[AMQP_BASIC_ACK_DELIVERY_TAG].number, values[AMQP_BASIC_ACK_MULTIPLE].number, SETTLE_ACK, AMQP_BASIC_ACK);
        break;
    case AMQP_BASIC_NACK:
        settle_tag(channel, values[AMQP_BASIC_NACK_DELIVERY_TAG].number, values[AMQP_BASIC_NACK_MULTIPLE].number,
                   values[AMQP_BASIC_NACK_REQUEUE].number ? SETTLE_REQUEUE : SETTLE_DISCARD, AMQP_BASIC_NACK);
        break;
    case AMQP_BASIC_REJECT:
        settle_tag(channel, values[AMQP_BASIC_REJECT_DELIVERY_TAG].number, false,
                   values[AMQP_BASIC_REJECT_REQUEUE].number ? SETTLE_REQUEUE : SETTLE_DISCARD, AMQP_BASIC_REJECT);
        break;
    case AMQP_BASIC_NACK_AFTER: nack_after(channel, values[AMQP_BASIC_NACK_AFTER_DELIVERY_TAG].number, values[AMQP_BASIC_NACK_AFTER_DELAY].number); break;
    default: recover(channel, method); break;
    }
}

void settle_release(struct channel *channel, enum settle_kind kind)
{
    struct settling settling = {.channel = channel, .kind = bug_enabled(BUG_UNACKED_LOST_ON_CLOSE) ? SETTLE_ACK : kind};
    unacked_take(&channel->unacked, 0, true, false, settle_run, &settling);
}
