/* WebSocket (RFC 6455) on a call of HTTP/1.1: the handshake, and messages both ways by wslay. */
#ifndef PROTOCOL_GATEWAY_WEBSOCKET_H
#define PROTOCOL_GATEWAY_WEBSOCKET_H

#include "protocol/http/call.h"

struct websocket;

#define WEBSOCKET_MESSAGE_MAX 4096u  /* bytes of a message that the peer sends */

/* Does the request ask for it? */
bool websocket_wanted(const struct http_call *call);

/* Answers with the handshake, unless it comes from a page of another origin than `origins` (see origin.h); `heard` is called with each text that the peer sends (a zero
 * behind it), `owner` borrowed. NULL: the call was answered with what is wrong. */
struct websocket *websocket_accept(struct http_call *call, const char *origins, void (*heard)(void *owner, const char *text, size_t size), void *owner);
void websocket_free(struct websocket *websocket);

/* What the peer has sent. The call may be over after it, and what belongs to it freed. */
void websocket_feed(struct websocket *websocket, struct bytes piece);

/* False: out of memory, or it is closing. */
bool websocket_say(struct websocket *websocket, struct bytes text);
void websocket_ping(struct websocket *websocket);
/* Says goodbye, with a status code and a reason. */
void websocket_close(struct websocket *websocket, unsigned status, const char *reason);

#endif
