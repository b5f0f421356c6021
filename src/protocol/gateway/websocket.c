#include "protocol/gateway/websocket.h"

#include "base/base64.h"
#include "protocol/gateway/origin.h"
#include "protocol/http/problem.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <wslay/wslay.h>

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#define KEY_SIZE 24u                 /* 16 bytes in base64 */

struct websocket {
    struct http_call *call;
    wslay_event_context_ptr context;
    struct bytes in;
    void (*heard)(void *owner, const char *text, size_t size);
    void *owner;
    bool feeding, over;
};

/* ---- what wslay asks for ------------------------------------------------------------------------------------------------ */

static ssize_t receive(wslay_event_context_ptr context, uint8_t *room, size_t size, int flags, void *owner)
{
    struct websocket *websocket = owner;
    (void)flags;
    if (!websocket->in.size) {
        wslay_event_set_error(context, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    size = size < websocket->in.size ? size : websocket->in.size;
    memcpy(room, websocket->in.data, size);
    websocket->in = bytes_of(websocket->in.data + size, websocket->in.size - size);
    return (ssize_t)size;
}

static ssize_t send_out(wslay_event_context_ptr context, const uint8_t *data, size_t size, int flags, void *owner)
{
    (void)context, (void)flags;
    http_stream_write(((struct websocket *)owner)->call, bytes_of(data, size));
    return (ssize_t)size;
}

static void message(wslay_event_context_ptr context, const struct wslay_event_on_msg_recv_arg *arg, void *owner)
{
    struct websocket *websocket = owner;
    char text[WEBSOCKET_MESSAGE_MAX + 1];
    (void)context;
    if (arg->opcode != WSLAY_TEXT_FRAME || arg->msg_length > WEBSOCKET_MESSAGE_MAX)
        return;
    memcpy(text, arg->msg, arg->msg_length);
    text[arg->msg_length] = 0;
    websocket->heard(websocket->owner, text, arg->msg_length);
}

/* Everything that waits leaves; the call is over once both have said goodbye, or nothing more can be said. */
static void flush(struct websocket *websocket)
{
    bool failed = wslay_event_send(websocket->context) != 0;
    bool done = failed || (!wslay_event_want_read(websocket->context) && !wslay_event_want_write(websocket->context));
    websocket->over |= done;
    if (websocket->over && !websocket->feeding)
        http_stream_end(websocket->call);
}

/* ---- the handshake ------------------------------------------------------------------------------------------------------ */

bool websocket_wanted(const struct http_call *call)
{
    return http_field_has(call->request, "upgrade", "websocket") && http_field_has(call->request, "connection", "upgrade");
}

static bool accept_key(struct bytes key, char accept[29])
{
    uint8_t text[KEY_SIZE + sizeof(GUID)], digest[EVP_MAX_MD_SIZE], decoded[KEY_SIZE];
    unsigned size = 0;
    struct bytes nonce;
    if (key.size != KEY_SIZE || !base64_decode(key, decoded, &nonce) || nonce.size != 16)
        return false;
    memcpy(text, key.data, KEY_SIZE);
    memcpy(text + KEY_SIZE, GUID, sizeof(GUID) - 1);
    if (!EVP_Digest(text, KEY_SIZE + sizeof(GUID) - 1, digest, &size, EVP_sha1(), NULL) || size != 20)
        return false;
    base64_encode(bytes_of(digest, size), accept);
    return true;
}

static struct websocket *websocket_new(struct http_call *call, void (*heard)(void *owner, const char *text, size_t size), void *owner)
{
    static const struct wslay_event_callbacks callbacks = {.recv_callback = receive, .send_callback = send_out, .on_msg_recv_callback = message};
    struct websocket *websocket = calloc(1, sizeof(*websocket));
    if (!websocket || wslay_event_context_server_init(&websocket->context, &callbacks, websocket)) {
        free(websocket);
        return NULL;
    }
    wslay_event_config_set_max_recv_msg_length(websocket->context, WEBSOCKET_MESSAGE_MAX);
    websocket->call = call;
    websocket->heard = heard;
    websocket->owner = owner;
    return websocket;
}

struct websocket *websocket_accept(struct http_call *call, const char *origins, void (*heard)(void *owner, const char *text, size_t size), void *owner)
{
    const struct http_request *request = call->request;
    struct bytes key = {0}, version = {0};
    char accept[29];
    http_field_find(request, "sec-websocket-key", &key);
    http_field_find(request, "sec-websocket-version", &version);
    const struct http_field thirteen = {bytes_of_text("sec-websocket-version"), bytes_of_text("13")};
    if (!bytes_equal(version, thirteen.value)) {
        http_answer(call, &(struct http_answer){.status = 426, .fields = &thirteen, .field_count = 1});
        return NULL;
    }
    if (!http_may_upgrade(call) || !accept_key(key, accept)) {
        http_problem(call, 400, "WebSocket needs HTTP/1.1, a GET and a Sec-WebSocket-Key of 16 bytes.");
        return NULL;
    }
    /* A page of somebody else's must not speak for a user whose password the browser remembers. */
    if (origin_of(request, origins) > ORIGIN_ALLOWED) {
        http_problem(call, 403, "A page of another origin may not listen.");
        return NULL;
    }
    struct websocket *websocket = websocket_new(call, heard, owner);
    if (!websocket) {
        http_problem(call, 503, "There is too little memory.");
        return NULL;
    }
    const struct http_field fields[] = {{bytes_of_text("upgrade"), bytes_of_text("websocket")}, {bytes_of_text("sec-websocket-accept"), bytes_of_text(accept)}};
    http_upgrade(call, &(struct http_answer){.status = 101, .fields = fields, .field_count = 2});
    return websocket;
}

void websocket_free(struct websocket *websocket)
{
    if (!websocket)
        return;
    wslay_event_context_free(websocket->context);
    free(websocket);
}

/* ---- messages ----------------------------------------------------------------------------------------------------------- */

void websocket_feed(struct websocket *websocket, struct bytes piece)
{
    websocket->in = piece;
    websocket->feeding = true;
    websocket->over |= wslay_event_recv(websocket->context) != 0;
    websocket->feeding = false;
    websocket->in = (struct bytes){0};
    flush(websocket);
}

bool websocket_say(struct websocket *websocket, struct bytes text)
{
    const struct wslay_event_msg said = {.opcode = WSLAY_TEXT_FRAME, .msg = text.data, .msg_length = text.size};
    /* The call is not ended from here: its listener has more to do. */
    if (websocket->over || wslay_event_queue_msg(websocket->context, &said) || wslay_event_send(websocket->context))
        return false;
    return true;
}

void websocket_ping(struct websocket *websocket)
{
    const struct wslay_event_msg ping = {.opcode = WSLAY_PING};
    if (!websocket->over && !wslay_event_queue_msg(websocket->context, &ping))
        wslay_event_send(websocket->context);
}

void websocket_close(struct websocket *websocket, unsigned status, const char *reason)
{
    if (!websocket->over)
        wslay_event_queue_close(websocket->context, (uint16_t)status, (const uint8_t *)reason, strlen(reason));
    wslay_event_send(websocket->context);
    websocket->over = true;
    if (!websocket->feeding)
        http_stream_end(websocket->call);
}
