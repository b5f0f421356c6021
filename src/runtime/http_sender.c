#include "runtime/http_sender.h"

#include "base/err.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define SPARE_MAX 64u                /* easy handles that are kept */
#define CONNECT_TIMEOUT_MS 10000u
#define CONNECTIONS_KEPT 256L
#define AUTHORITIES_KEPT_S 60L       /* then their file is read again */

struct http_sender {
    struct outgoing_sender outgoing; /* first */
    struct http_sender_config config;
    CURLM *multi;
    uv_timer_t *timer;
    struct transfer *spare;
    unsigned spare_count, under_way;
    struct watch **watches;          /* by socket; NULL: nobody looks at it */
    size_t watch_room;
};

/* A request under way, or one that is kept for the next with what does not change of it: curl's handle, set up, and room for headers. */
struct transfer {
    struct http_sender *sender;
    struct outgoing *outgoing;       /* NULL: it is kept */
    struct transfer *next;           /* among those */
    CURL *easy;
    char *url;                       /* as `easy` has it; NULL: it has none */
    uint64_t timeout_ms;             /* … */
    struct curl_slist *headers;      /* of this request, and their texts behind them */
    size_t header_room;
    size_t head_size, body_size;
    const char *const *asked;
    char found[OUTGOING_ASKED_MAX][OUTGOING_FOUND_MAX];
    bool is_forbidden, is_long;
    char why[OUTGOING_WHY_MAX];
    char error[CURL_ERROR_SIZE];
};

/* A socket of curl's on the loop. That of a connection is looked at on while curl has no use for it, since taking it off the loop and putting it there again is most of what a short
 * request would cost; when something happens to it then, it is taken off. */
struct watch {
    uv_poll_t poll;
    struct http_sender *sender;
    curl_socket_t socket;
    int events;                      /* that it is looked at for; 0: it is off the loop */
    bool is_connection;              /* of ours: we are told when it is closed */
    bool is_wanted;                  /* by curl */
};

bool http_sender_prepare(void) { return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK; }
struct outgoing_sender *http_sender_outgoing(struct http_sender *sender) { return &sender->outgoing; }

/* ---- transfers -------------------------------------------------------------------------------------------------------- */

static void transfer_free(struct transfer *transfer)
{
    curl_easy_cleanup(transfer->easy);
    free(transfer->url);
    free(transfer->headers);
    free(transfer);
}

/* It is over, whatever became of it. */
static void transfer_end(struct transfer *transfer)
{
    struct http_sender *sender = transfer->sender;
    sender->under_way--;
    transfer->outgoing = NULL;
    if (!transfer->url || sender->spare_count == SPARE_MAX) {
        transfer_free(transfer);
        return;
    }
    transfer->next = sender->spare;
    sender->spare = transfer;
    sender->spare_count++;
}

/* The watch of a socket, made if there is none. NULL: out of memory. */
static struct watch *watch_of(struct http_sender *sender, curl_socket_t socket)
{
    size_t at = (size_t)socket;
    if (at >= sender->watch_room) {
        size_t room = at + 64;
        struct watch **grown = realloc(sender->watches, room * sizeof(*grown));
        if (!grown)
            return NULL;
        memset(grown + sender->watch_room, 0, (room - sender->watch_room) * sizeof(*grown));
        sender->watches = grown;
        sender->watch_room = room;
    }
    struct watch *watch = sender->watches[at];
    if (watch)
        return watch;
    watch = calloc(1, sizeof(*watch));
    if (!watch || uv_poll_init_socket(sender->config.loop, &watch->poll, socket) != 0) {
        free(watch);
        return NULL;
    }
    watch->poll.data = watch;
    watch->sender = sender;
    watch->socket = socket;
    return sender->watches[at] = watch;
}

static void on_watch_closed(uv_handle_t *handle) { free(handle->data); }

static void watch_close(struct watch *watch)
{
    watch->sender->watches[watch->socket] = NULL;
    uv_poll_stop(&watch->poll);
    uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
}

static int on_close_socket(void *owner, curl_socket_t socket)
{
    struct http_sender *sender = owner;
    struct watch *watch = (size_t)socket < sender->watch_room ? sender->watches[socket] : NULL;
    if (watch)
        watch_close(watch);
    return close(socket);
}

static curl_socket_t on_open_socket(void *owner, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct transfer *transfer = owner;
    const char *refusal = transfer->sender->config.refusal(transfer->sender->config.owner, &address->addr);
    (void)purpose;
    if (!refusal) {
        curl_socket_t made = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
        struct watch *watch = made >= 0 ? watch_of(transfer->sender, made) : NULL;
        if (watch)
            watch->is_connection = true;
        return made >= 0 ? made : CURL_SOCKET_BAD;
    }
    transfer->is_forbidden = true;
    snprintf(transfer->why, sizeof(transfer->why), "The sink's address is %s, and may not be connected to.", refusal);
    return CURL_SOCKET_BAD;
}

/* "Name: value\r\n" */
static void look_at_header(struct transfer *transfer, const char *line, size_t size)
{
    for (unsigned i = 0; i < OUTGOING_ASKED_MAX; i++) {
        size_t name = strlen(transfer->asked[i]);
        if (size <= name || strncasecmp(line, transfer->asked[i], name) != 0 || line[name] != ':')
            continue;
        size_t begin = name + 1, end = size;
        while (begin < end && strchr(" \t", line[begin]))
            begin++;
        while (end > begin && strchr(" \t\r\n", line[end - 1]))
            end--;
        snprintf(transfer->found[i], OUTGOING_FOUND_MAX, "%.*s", (int)(end - begin < OUTGOING_FOUND_MAX ? end - begin : OUTGOING_FOUND_MAX - 1), line + begin);
    }
}

static size_t on_head(char *data, size_t size, size_t count, void *owner)
{
    struct transfer *transfer = owner;
    if (transfer->asked)
        look_at_header(transfer, data, size * count);
    transfer->head_size += size * count;
    return transfer->head_size <= ANSWER_HEAD_MAX ? size * count : 0;
}

static size_t on_body(char *data, size_t size, size_t count, void *owner)
{
    struct transfer *transfer = owner;
    (void)data;
    transfer->body_size += size * count;
    transfer->is_long = transfer->body_size > ANSWER_BODY_MAX;
    return transfer->is_long ? 0 : size * count;
}

static enum outgoing_outcome outcome_of(const struct transfer *transfer, CURLcode code)
{
    switch (code) {
    case CURLE_OK: return OUTGOING_ANSWERED;
    case CURLE_WRITE_ERROR: return transfer->is_long ? OUTGOING_ANSWERED : OUTGOING_BROKEN;
    case CURLE_COULDNT_RESOLVE_HOST: return OUTGOING_UNRESOLVED;
    case CURLE_COULDNT_CONNECT: return transfer->is_forbidden ? OUTGOING_FORBIDDEN : OUTGOING_UNREACHABLE;
    case CURLE_OPERATION_TIMEDOUT: return OUTGOING_TIMED_OUT;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM: return OUTGOING_UNTRUSTED;
    default: return OUTGOING_BROKEN;
    }
}

static void finish(struct transfer *transfer, CURLcode code)
{
    struct outgoing *outgoing = transfer->outgoing;
    struct outgoing_result result = {.outcome = outcome_of(transfer, code), .retry_after_s = OUTGOING_NO_TIME, .now_us = uv_hrtime() / 1000u};
    curl_off_t retry_after_s = 0, duration_us = 0;
    long status = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_TOTAL_TIME_T, &duration_us);
    result.duration_us = (uint64_t)duration_us;
    if (result.outcome == OUTGOING_ANSWERED) {
        curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(transfer->easy, CURLINFO_RETRY_AFTER, &retry_after_s);
        result.status = (unsigned)status;
        if (retry_after_s > 0)
            result.retry_after_s = (uint64_t)retry_after_s;
        for (unsigned i = 0; i < OUTGOING_ASKED_MAX; i++)
            result.found[i] = transfer->found[i][0] ? transfer->found[i] : NULL;
    } else if (transfer->is_forbidden) {
        snprintf(result.why, sizeof(result.why), "%s", transfer->why);
    } else {
        snprintf(result.why, sizeof(result.why), "%.150s.", transfer->error[0] ? transfer->error : curl_easy_strerror(code));
    }
    curl_multi_remove_handle(transfer->sender->multi, transfer->easy);
    outgoing->transport = NULL;
    outgoing->done(outgoing, &result);
    transfer_end(transfer);
}

static void look_at_messages(struct http_sender *sender)
{
    CURLMsg *message;
    int left;
    bool any = false;
    while ((message = curl_multi_info_read(sender->multi, &left))) {
        char *transfer;
        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
        finish((struct transfer *)(void *)transfer, code);
        any = true;
    }
    if (any)
        sender->config.told(sender->config.owner);
}

/* ---- the loop ----------------------------------------------------------------------------------------------------------- */

static void take_off(struct watch *watch)
{
    watch->events = 0;
    uv_poll_stop(&watch->poll);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    struct http_sender *sender = watch->sender;
    int flags = status < 0 ? CURL_CSELECT_ERR : (events & UV_READABLE ? CURL_CSELECT_IN : 0) | (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);
    int running;
    if (status < 0 || !watch->is_wanted) {
        /* libuv has stopped polling; or its peer has closed it, which curl finds out before it is used again. */
        take_off(watch);
    }
    if (!watch->is_wanted)
        return;
    curl_multi_socket_action(sender->multi, watch->socket, flags, &running);
    look_at_messages(sender);
}

static void on_time(uv_timer_t *timer)
{
    struct http_sender *sender = timer->data;
    int running;
    curl_multi_socket_action(sender->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    look_at_messages(sender);
}

static void on_timer_closed(uv_handle_t *handle) { free(handle); }

static int on_socket(CURL *easy, curl_socket_t socket, int what, void *owner, void *known)
{
    struct http_sender *sender = owner;
    (void)easy, (void)known;
    if (what == CURL_POLL_REMOVE) {
        struct watch *watch = (size_t)socket < sender->watch_room ? sender->watches[socket] : NULL;
        if (watch && !watch->is_connection) {
            watch_close(watch);
        } else if (watch) {
            watch->is_wanted = false;
            if (watch->events != UV_READABLE)   /* there is always room to write */
                take_off(watch);
        }
        return 0;
    }
    struct watch *watch = watch_of(sender, socket);
    int events = (what != CURL_POLL_OUT ? UV_READABLE : 0) | (what != CURL_POLL_IN ? UV_WRITABLE : 0);
    if (!watch)
        return -1;
    watch->is_wanted = true;
    if (events == watch->events)
        return 0;
    watch->events = events;
    return uv_poll_start(&watch->poll, events, on_ready) == 0 ? 0 : -1;
}

static int on_timer(CURLM *multi, long timeout_ms, void *owner)
{
    struct http_sender *sender = owner;
    (void)multi;
    if (timeout_ms < 0)
        uv_timer_stop(sender->timer);
    else
        uv_timer_start(sender->timer, on_time, (uint64_t)timeout_ms, 0);
    return 0;
}

/* ---- beginning ------------------------------------------------------------------------------------------------------------ */

/* What is the same for all requests. */
static bool set_up_once(struct transfer *transfer)
{
    CURL *easy = transfer->easy;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, transfer->sender);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_head);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* Who is given up while his name is being looked up is not waited for: the loop would stand still until the resolver answers. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    if (transfer->sender->config.authorities) {   /* the system's, by their hashes, are looked at all the same */
        curl_easy_setopt(easy, CURLOPT_CAINFO, transfer->sender->config.authorities);
        curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, AUTHORITIES_KEPT_S);
    }
    /* Whatever is in the environment. */
    return curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK && curl_easy_setopt(easy, CURLOPT_NOPROXY, "*") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
}

/* The headers as curl's list, which is ours: an array of nodes, and behind them the texts. */
static bool set_headers(struct transfer *transfer, const struct outgoing_request *request)
{
    static const char *const unwanted[] = {"Expect:", "Accept:"};
    unsigned count = request->header_count + 2;
    size_t size = count * sizeof(struct curl_slist);
    for (unsigned i = 0; i < count; i++)
        size += strlen(i < 2 ? unwanted[i] : request->headers[i - 2]) + 1;
    if (size > transfer->header_room) {
        free(transfer->headers);
        transfer->headers = malloc(2 * size);
        transfer->header_room = transfer->headers ? 2 * size : 0;
        if (!transfer->headers)
            return false;
    }
    char *at = (char *)(transfer->headers + count);
    for (unsigned i = 0; i < count; i++) {
        transfer->headers[i] = (struct curl_slist){.data = at, .next = i + 1 < count ? &transfer->headers[i + 1] : NULL};
        at = stpcpy(at, i < 2 ? unwanted[i] : request->headers[i - 2]) + 1;
    }
    return curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, transfer->headers) == CURLE_OK;
}

static bool set_url(struct transfer *transfer, const char *url)
{
    if (transfer->url && strcmp(transfer->url, url) == 0)
        return true;
    free(transfer->url);
    transfer->url = strdup(url);
    return transfer->url && curl_easy_setopt(transfer->easy, CURLOPT_URL, url) == CURLE_OK;
}

static bool set_up(struct transfer *transfer, const struct outgoing_request *request)
{
    CURL *easy = transfer->easy;
    uint64_t connect_ms = request->timeout_ms < CONNECT_TIMEOUT_MS ? request->timeout_ms : CONNECT_TIMEOUT_MS;
    if (!set_url(transfer, request->url) || !set_headers(transfer, request))
        return false;
    if (request->method) {
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
    } else {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, NULL);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body.size ? (const char *)request->body.data : "");
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.size);
    }
    if (request->timeout_ms != transfer->timeout_ms) {
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
        curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms);
        transfer->timeout_ms = request->timeout_ms;
    }
    return true;
}

/* NULL: out of memory. */
static struct transfer *transfer_new(struct http_sender *sender)
{
    struct transfer *transfer = calloc(1, sizeof(*transfer));
    if (!transfer)
        return NULL;
    transfer->sender = sender;
    transfer->easy = curl_easy_init();
    if (transfer->easy && set_up_once(transfer))
        return transfer;
    if (transfer->easy)
        curl_easy_cleanup(transfer->easy);
    free(transfer);
    return NULL;
}

static bool begin(struct outgoing_sender *outgoing_sender, struct outgoing *outgoing, const struct outgoing_request *request)
{
    struct http_sender *sender = (struct http_sender *)outgoing_sender;
    struct transfer *transfer = sender->spare;
    if (transfer) {
        sender->spare = transfer->next;
        sender->spare_count--;
    } else {
        transfer = transfer_new(sender);
    }
    if (!transfer)
        return false;
    transfer->outgoing = outgoing;
    transfer->asked = request->asked;
    transfer->head_size = transfer->body_size = 0;
    transfer->is_forbidden = transfer->is_long = false;
    transfer->why[0] = transfer->error[0] = 0;
    for (unsigned i = 0; i < OUTGOING_ASKED_MAX; i++)
        transfer->found[i][0] = 0;
    sender->under_way++;
    if (!set_up(transfer, request) || curl_multi_add_handle(sender->multi, transfer->easy) != CURLM_OK) {
        sender->under_way--;
        transfer_free(transfer);
        return false;
    }
    outgoing->transport = transfer;
    return true;
}

static void cancel(struct outgoing_sender *outgoing_sender, struct outgoing *outgoing)
{
    struct transfer *transfer = outgoing->transport;
    (void)outgoing_sender;
    if (!transfer)
        return;
    outgoing->transport = NULL;
    curl_multi_remove_handle(transfer->sender->multi, transfer->easy);
    transfer_end(transfer);
}

struct http_sender *http_sender_new(const struct http_sender_config *config)
{
    struct http_sender *sender = calloc(1, sizeof(*sender));
    if (!sender)
        return NULL;
    *sender = (struct http_sender){.outgoing = {.begin = begin, .cancel = cancel}, .config = *config, .multi = curl_multi_init(), .timer = malloc(sizeof(*sender->timer))};
    if (!sender->multi || !sender->timer || uv_timer_init(config->loop, sender->timer) != 0) {
        if (sender->multi)
            curl_multi_cleanup(sender->multi);
        free(sender->timer);
        free(sender);
        return NULL;
    }
    sender->timer->data = sender;
    curl_multi_setopt(sender->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(sender->multi, CURLMOPT_SOCKETDATA, sender);
    curl_multi_setopt(sender->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(sender->multi, CURLMOPT_TIMERDATA, sender);
    curl_multi_setopt(sender->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_KEPT);
    return sender;
}

void http_sender_free(struct http_sender *sender)
{
    if (!sender)
        return;
    CHECK(sender->under_way == 0);
    for (struct transfer *transfer = sender->spare, *next; transfer; transfer = next) {
        next = transfer->next;
        transfer_free(transfer);
    }
    curl_multi_cleanup(sender->multi);
    free(sender->watches);
    uv_timer_stop(sender->timer);
    uv_close((uv_handle_t *)sender->timer, on_timer_closed);
    free(sender);
}
