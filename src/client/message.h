/* A message that a broker sent. */
#ifndef CLIENT_MESSAGE_H
#define CLIENT_MESSAGE_H

#include "base/bytes.h"

/* A delivered, fetched or returned message; valid until the function that received it returns. */
struct remote_message {
    struct bytes consumer_tag;             /* delivered */
    uint64_t delivery_tag;                 /* delivered, fetched */
    bool redelivered;
    uint32_t left;                         /* fetched: messages still in the queue */
    uint16_t reply_code;                   /* returned */
    struct bytes reply_text;
    struct bytes exchange, routing_key;
    struct bytes properties;               /* encoded: for amqp_properties_decode */
    struct bytes body;
};

#endif
