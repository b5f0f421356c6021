/* A long body on its way into the broker: what says how long it is going to be, and need not be read to be published, is published before it is there, and lies down
 * where the log will write it from as it comes. Nothing of it is anywhere before the last byte is. */
#ifndef PROTOCOL_GATEWAY_UPLOAD_H
#define PROTOCOL_GATEWAY_UPLOAD_H

#include "protocol/gateway/task.h"

struct upload;

/* Is it time to begin one: is the body long enough, is more of it to come than these bytes, and may its sender publish? */
bool upload_is_due(struct task *task, size_t piece);

/* Runs the task's resource ahead of its body; what of it has come already is taken along. Afterwards the task has an upload, or was answered, or its body is to be
 * gathered after all. */
void upload_begin(struct task *task);

/* For publish_message: keeps what was begun, or gives it back where that was refused. */
void upload_keep(struct task *task, const struct publish *publish, enum publish_result result);

/* The next bytes. The task may be answered: too many bodies are coming. */
void upload_take(struct task *task, struct bytes piece);

/* The body is whole: the message is on its way. */
void upload_end(struct task *task);

/* It will never be whole. */
void upload_leave(struct task *task);

#endif
