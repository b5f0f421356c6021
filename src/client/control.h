/* Asks the broker itself something: a JSON request to amq.godwit.control, a JSON answer to the pseudo queue amq.rabbitmq.reply-to. Godwit answers such; other brokers return the
 * request. */
#ifndef CLIENT_CONTROL_H
#define CLIENT_CONTROL_H

#include "client/remote.h"

#define CONTROL_TIMEOUT_MS 60000u

/* Sends `request` (a JSON object with a field "command") and waits for the answer: {"ok": …} or {"error": {"code": …, "text": …}}, valid until the next call.
 * Errors: those of remote.h; GW_ERR_NOT_FOUND with remote_reply_code 312: the broker takes no control requests. */
enum gw_err remote_control(struct remote *remote, struct bytes request, uint64_t timeout_ms, struct bytes *answer);

/* A delivery or a return that belongs to this and not to the remote's events; remote_input.c asks. */
bool remote_control_takes(struct remote *remote, const struct remote_message *message);

#endif
