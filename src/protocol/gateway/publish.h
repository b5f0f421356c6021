/* Publishing for a task. */
#ifndef PROTOCOL_GATEWAY_PUBLISH_H
#define PROTOCOL_GATEWAY_PUBLISH_H

#include "protocol/amqp/properties.h"
#include "protocol/gateway/task.h"

/* A message on its way into the broker; everything is borrowed. */
struct outgoing {
    struct bytes exchange, routing_key;
    const struct amqp_properties *properties;
    struct bytes body;
    bool mandatory;
};

/* Publishes it; its confirm is counted in task->unconfirmed, and task->routed says how many went somewhere. What is not ROUTED or UNROUTABLE was refused. */
enum publish_result publish_message(struct task *task, const struct outgoing *outgoing);

/* Answers with what the refusal means. */
void publish_refuse(struct task *task, enum publish_result result, const struct outgoing *outgoing);

/* All that the task publishes is on its way: `confirmed` is called once all of it is confirmed, perhaps at once. */
void publish_done(struct task *task, void (*confirmed)(struct task *task));

#endif
