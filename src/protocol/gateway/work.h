/* What resources do. A task whose body is whole and whose member is let in comes here; it is answered at once or later. */
#ifndef PROTOCOL_GATEWAY_WORK_H
#define PROTOCOL_GATEWAY_WORK_H

#include <stdbool.h>

struct http_request;
struct task;

#define EVENTS_NAME "events"         /* of the bus: an exchange, and a stream */

void work_about(struct task *task);
void work_health(struct task *task);
void work_openapi(struct task *task);

void publish_to_exchange(struct task *task);
void publish_to_queue(struct task *task);

void reception_get(struct task *task);
void reception_settle(struct task *task);

void events_publish(struct task *task);
/* May the body be published without having been looked at? */
bool events_are_opaque(const struct http_request *request);
void events_publish_plainly(struct task *task);
void events_listen(struct task *task);
/* Declares the bus of the task's vhost, then has the task done again. */
void events_declare(struct task *task);

void tokens_make(struct task *task);
void tokens_list(struct task *task);
void tokens_remove(struct task *task);

void subscriptions_make(struct task *task);
void subscriptions_make_plainly(struct task *task);
void subscriptions_list(struct task *task);
void subscriptions_get(struct task *task);
void subscriptions_attempts(struct task *task);
void subscriptions_change(struct task *task);
void subscriptions_remove(struct task *task);
void subscriptions_test(struct task *task);

void sources_make(struct task *task);
void sources_list(struct task *task);
void sources_get(struct task *task);
void sources_change(struct task *task);
void sources_remove(struct task *task);

void replays_begin(struct task *task);
void replays_get(struct task *task);
void replays_stop(struct task *task);

#endif
