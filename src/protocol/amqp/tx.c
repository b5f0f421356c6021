#include "protocol/amqp/tx.h"

#include "protocol/amqp/consume.h"
#include "protocol/amqp/deliver.h"
#include "protocol/amqp/errors.h"

#include <stdlib.h>

/* A message to return when the transaction commits. */
struct tx_return {
    struct tx_return *next;
    struct bytes content;
    struct chunk *chunk;
};

struct tx {
    struct transaction *transaction;   /* NULL: nothing was done in it yet */
    struct tx_return *returns, **last_return;
};

void tx_select(struct channel *channel)
{
    if (channel->confirming) {
        error_raise(channel->session, channel, AMQP_PRECONDITION_FAILED, AMQP_TX_SELECT, "cannot switch from confirm to tx mode");
        return;
    }
    if (!channel->tx) {
        channel->tx = calloc(1, sizeof(*channel->tx));
        if (!channel->tx) {
            error_out_of_memory(channel->session);
            return;
        }
        channel->tx->last_return = &channel->tx->returns;
    }
    session_send(channel->session, channel->number, AMQP_TX_SELECT_OK, NULL);
}

struct transaction *tx_transaction(struct channel *channel)
{
    if (!channel->tx->transaction)
        channel->tx->transaction = client_transaction_new(&channel->session->client);
    return channel->tx->transaction;
}

bool tx_return_later(struct channel *channel, struct bytes content, struct chunk *chunk)
{
    struct tx_return *later = malloc(sizeof(*later));
    if (!later)
        return false;
    *later = (struct tx_return){.content = content, .chunk = chunk};
    *channel->tx->last_return = later;
    channel->tx->last_return = &later->next;
    return true;
}

/* Sends what is to be returned, or forgets it. */
static void end_returns(struct channel *channel, bool send)
{
    while (channel->tx->returns) {
        struct tx_return *first = channel->tx->returns;
        channel->tx->returns = first->next;
        if (send)
            deliver_return(channel, first->content, first->chunk);
        client_release(&channel->session->client, first->chunk);
        free(first);
    }
    channel->tx->last_return = &channel->tx->returns;
}

static bool is_transactional(struct channel *channel, uint32_t id)
{
    if (!channel->tx)
        error_raise(channel->session, channel, AMQP_PRECONDITION_FAILED, id, "channel is not transactional");
    return channel->tx != NULL;
}

void tx_commit(struct channel *channel)
{
    if (!is_transactional(channel, AMQP_TX_COMMIT))
        return;
    end_returns(channel, true);
    struct transaction *transaction = channel->tx->transaction;
    channel->tx->transaction = NULL;
    if (!transaction) {
        session_send(channel->session, channel->number, AMQP_TX_COMMIT_OK, NULL);
        return;
    }
    channel->waiting++;
    client_transaction_commit(&channel->session->client, transaction, channel->number);
}

void tx_committed(struct channel *channel, const struct reply *reply)
{
    if (reply->code) {
        /* Nothing became true: what was settled is still held, and goes back with the channel. */
        unacked_hold_parked(&channel->unacked);
        error_raise_text(channel->session, channel, reply->code, AMQP_TX_COMMIT, reply->text);
        return;
    }
    unacked_forget_parked(&channel->unacked);
    if (channel->refused_count)
        consume_resume(channel);
    session_send(channel->session, channel->number, AMQP_TX_COMMIT_OK, NULL);
}

static void roll_back(struct channel *channel)
{
    end_returns(channel, false);
    if (channel->tx->transaction)
        client_transaction_rollback(&channel->session->client, channel->tx->transaction);
    channel->tx->transaction = NULL;
    unacked_hold_parked(&channel->unacked);
}

void tx_rollback(struct channel *channel)
{
    if (!is_transactional(channel, AMQP_TX_ROLLBACK))
        return;
    roll_back(channel);
    session_send(channel->session, channel->number, AMQP_TX_ROLLBACK_OK, NULL);
}

void tx_abort(struct channel *channel)
{
    if (!channel->tx)
        return;
    /* What a commit under way has parked is no longer ours to give back. */
    if (channel->waiting && !channel->tx->transaction)
        unacked_forget_parked(&channel->unacked);
    roll_back(channel);
    free(channel->tx);
    channel->tx = NULL;
}
