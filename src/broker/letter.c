#include "broker/letter.h"

#include "broker/death.h"
#include "broker/delay.h"
#include "broker/delayed.h"
#include "broker/half_message.h"
#include "broker/replay.h"
#include "protocol/amqp/properties.h"

#include <stdlib.h>

static struct bytes reason_name(enum discard_reason reason)
{
    static const char *const names[] = {"rejected", "expired", "maxlen", "delivery_limit"};
    return bytes_of_text(names[reason]);
}

static enum gw_err make_dead(struct letter *letter, const struct message *message, const struct queue_entry *queue, enum discard_reason reason,
                             const struct returned *returned, uint64_t wall_us)
{
    const struct queue_settings *settings = queue->settings;
    if (!settings || !(settings->flags & SETTINGS_DEAD_LETTER))
        return GW_OK;
    letter->name = settings->dead_letter_exchange;
    letter->exchange = topology_exchange(queue->vhost, settings->dead_letter_exchange);
    const struct death death = {.queue = queue->name, .reason = reason_name(reason), .time_s = wall_us / 1000000,
                                .rerouted = settings->flags & SETTINGS_DEAD_LETTER_KEY,
                                .returns = returned ? returned->count : 0, .retry_reason = retry_reason_name(returned ? returned->reason : RETRY_NONE)};
    if (death.rerouted)
        letter->routing_key = settings->dead_letter_routing_key;
    enum gw_err err = death_properties(message, &death, &letter->properties);
    if (!err)
        letter->own = (uint8_t *)(uintptr_t)letter->properties.data;
    return err == GW_ERR_INVALID ? GW_OK : err;   /* what nobody can read goes on as it is */
}

/* Is it the hidden queue of a delayed exchange? Other queues keep what is due themselves. */
static bool is_delayed(const struct queue_entry *queue)
{
    return queue->settings && (queue->settings->flags & SETTINGS_DELAYED);
}

/* What was kept back goes on as it came, but for its x-delay. It was on disk whatever its delivery mode is. */
static enum gw_err make_due(struct letter *letter, const struct message *message, const struct queue_entry *queue)
{
    struct amqp_properties decoded;
    letter->stays = !is_delayed(queue);
    letter->exchange = letter->stays ? NULL : delayed_exchange(queue);
    letter->persistent = amqp_properties_decode(message->properties, &decoded) && (decoded.flags & AMQP_DELIVERY_MODE) && decoded.delivery_mode == 2;
    letter->expires = decoded.flags & AMQP_EXPIRATION;
    enum gw_err err = delay_served(message->properties, &letter->properties);
    if (!err)
        letter->own = (uint8_t *)(uintptr_t)letter->properties.data;
    return err == GW_ERR_INVALID ? GW_OK : err;
}

/* A message of a transaction goes on as it was published, and begins to live now. */
static enum gw_err make_committed(struct letter *letter, const struct message *message, const struct queue_entry *queue)
{
    struct bytes expiration;
    letter->exchange = topology_exchange(queue->vhost, message->exchange);
    letter->expires = amqp_properties_get(message->properties, AMQP_EXPIRATION, &expiration);
    letter->waits = true;
    enum gw_err err = half_committed_properties(message->properties, &letter->properties);
    if (!err)
        letter->own = (uint8_t *)(uintptr_t)letter->properties.data;
    return err == GW_ERR_INVALID ? GW_OK : err;
}

/* What somebody sends to another queue is as it was published; a dead letter that goes back, as it was when it first died. It begins to live anew. */
static enum gw_err make_sent(struct letter *letter, const struct message *message, bool goes_back)
{
    struct bytes expiration;
    struct replay replay;
    letter->sent = true;
    letter->expires = amqp_properties_get(message->properties, AMQP_EXPIRATION, &expiration);
    if (!goes_back || !replay_of(message->properties, &replay))
        return GW_OK;
    letter->name = replay.exchange;
    letter->routing_key = replay.routing_key;
    enum gw_err err = replay_properties(message->properties, &letter->properties);
    if (!err)
        letter->own = (uint8_t *)(uintptr_t)letter->properties.data;
    return err == GW_ERR_INVALID ? GW_OK : err;
}

enum gw_err letter_make(struct letter *letter, const struct message *message, const struct queue_entry *queue, enum discard_reason reason,
                        const struct returned *returned, uint64_t wall_us)
{
    *letter = (struct letter){.name = message->exchange, .routing_key = message->routing_key, .properties = message->properties, .body = message->body,
                              .persistent = true};
    if (reason >= DISCARD_MOVED)
        return make_sent(letter, message, reason == DISCARD_REPLAYED);
    if (reason == DISCARD_COMMITTED)
        return make_committed(letter, message, queue);
    return reason == DISCARD_DUE ? make_due(letter, message, queue) : make_dead(letter, message, queue, reason, returned, wall_us);
}

void letter_end(struct letter *letter)
{
    free(letter->own);
    *letter = (struct letter){0};
}

uint64_t letter_size(const struct letter *letter, bool stamped)
{
    return message_size(letter->name.size, letter->routing_key.size, letter->properties.size, letter->body.size) +
           (stamped ? MESSAGE_STAMP_SIZE : 0);
}

void letter_write(const struct letter *letter, uint8_t *at, uint64_t arrived_ms)
{
    uint8_t *body = message_begin(at, letter->name, letter->routing_key, letter->properties, arrived_ms);
    if (letter->body.size)
        memcpy(body, letter->body.data, letter->body.size);
}
