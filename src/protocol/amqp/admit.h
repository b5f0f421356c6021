/* What a message may say of itself: everything about a publish that can be judged without the broker, and in RabbitMQ's order. */
#ifndef PROTOCOL_AMQP_ADMIT_H
#define PROTOCOL_AMQP_ADMIT_H

#include "protocol/amqp/properties.h"
#include "protocol/amqp/session_state.h"

/* What properties say beyond a delivery mode. */
struct admitted {
    uint8_t *rewritten;        /* the properties as they are stored, where that differs from how they came; freed once the broker has them */
    struct bytes copies[2];    /* of CC and BCC, in the properties as they came */
    bool copied;
};

/* Looks at properties that are more than a delivery mode; sets publish->persistent, and publish->properties where they are stored otherwise than they came. False
 * after an exception. */
bool admit_properties(struct channel *channel, struct publish *publish, struct admitted *admitted);

/* A publish that asks for what no server of ours does, or is too large: raises that. */
void admit_refuse_immediate(struct channel *channel);
void admit_refuse_size(struct channel *channel, const struct publish *publish);

/* Judges everything that needs no look at the properties; false after an exception. */
static inline bool admit(struct channel *channel, const struct publish *publish, bool immediate)
{
    if (LIKELY(!immediate && publish->body_size <= channel->session->config->max_message_size))
        return true;
    if (immediate)
        admit_refuse_immediate(channel);
    else
        admit_refuse_size(channel, publish);
    return false;
}

/* Are the properties no more than a delivery mode? Sets publish->persistent when they are. */
static inline bool admit_has_plain_properties(struct publish *publish)
{
    const uint8_t *list = publish->properties.data;
    size_t size = publish->properties.size;
    if (size == 3 && load_be16(list) == AMQP_DELIVERY_MODE && (uint8_t)(list[2] - 1) <= 1) {
        publish->persistent = list[2] == 2;
        return true;
    }
    return size == 2 && load_be16(list) == 0;
}

/* What the broker found wrong with the exchange; raises that. */
void admit_refuse_publish(struct channel *channel, const struct publish *publish, enum publish_result result);

#endif
