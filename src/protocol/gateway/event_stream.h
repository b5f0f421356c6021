/* Events as they happen, as server-sent events (the HTML standard, section 9.2) or messages of a WebSocket: listeners to the stream `events` of their vhost. */
#ifndef PROTOCOL_GATEWAY_EVENT_STREAM_H
#define PROTOCOL_GATEWAY_EVENT_STREAM_H

#include "protocol/gateway/task.h"

/* A listener's own, from its request until it is gone. */
struct listener;

/* Of a task that has a listener: what its member's client is told, and what its connection is. */
void listener_delivered(struct task *task, const struct delivery *delivery);
/* What its peer sends behind a handshake. */
void listener_heard(struct task *task, struct bytes piece);
void listener_drained(struct task *task);
void listener_ended(struct task *task);
void listener_beat(struct task *task);
void listener_free(struct task *task);

/* The member's client has asked for a consumer of a task that is gone. */
void listener_cancel(struct member *member, uint64_t queue, uint32_t handle);

/* Rendered events that the listeners of a hall share. */
void listeners_forget(struct gateway_hall *hall);

#define LISTENER_BEAT_US 15000000u   /* a comment is sent when nothing was for so long */

#endif
