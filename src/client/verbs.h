/* What programs ask a broker for, one function each; all wait for the answer. See remote.h for the errors. */
#ifndef CLIENT_VERBS_H
#define CLIENT_VERBS_H

#include "client/remote.h"

enum declare_flags {
    DECLARE_PASSIVE = 1,       /* only if it exists */
    DECLARE_DURABLE = 2,
    DECLARE_EXCLUSIVE = 4,
    DECLARE_AUTO_DELETE = 8,
};

/* *message_count may be NULL. */
enum gw_err remote_queue_declare(struct remote *remote, const char *queue, unsigned flags, uint32_t *message_count);

/* Declares the queue durable unless it exists already, however it was declared. */
enum gw_err remote_queue_ensure(struct remote *remote, const char *queue);

enum gw_err remote_queue_purge(struct remote *remote, const char *queue, uint32_t *message_count);
enum gw_err remote_queue_delete(struct remote *remote, const char *queue);
enum gw_err remote_queue_bind(struct remote *remote, const char *queue, const char *exchange, const char *routing_key);
enum gw_err remote_exchange_declare(struct remote *remote, const char *exchange, const char *type, unsigned flags);
enum gw_err remote_exchange_delete(struct remote *remote, const char *exchange);
enum gw_err remote_confirm_select(struct remote *remote);
enum gw_err remote_qos(struct remote *remote, uint16_t prefetch_count);

enum consume_flags { CONSUME_NO_ACK = 1, CONSUME_EXCLUSIVE = 2 };

enum gw_err remote_consume(struct remote *remote, const char *queue, const char *consumer_tag, unsigned flags);
/* The same with arguments, a table's bytes without their size. */
enum gw_err remote_consume_with(struct remote *remote, const char *queue, const char *consumer_tag, unsigned flags, struct bytes arguments);

/* Deliveries that were already under way still reach remote_events before this returns. */
enum gw_err remote_cancel(struct remote *remote, const char *consumer_tag);

#endif
