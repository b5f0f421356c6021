#include "runtime/curl_loop.h"

#include <stdlib.h>

struct curl_loop {
    CURLM *multi;
    uv_loop_t *loop;
    uv_timer_t timer;
    void (*done)(void *owner, CURL *easy, CURLcode code);
    void *owner;
};

/* A socket of curl's. */
struct socket_watch {
    uv_poll_t poll;
    struct curl_loop *curl;
    curl_socket_t socket;
};

CURLM *curl_loop_multi(struct curl_loop *curl) { return curl->multi; }

static void look_at_messages(struct curl_loop *curl)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(curl->multi, &left))) {
        if (message->msg != CURLMSG_DONE)
            continue;
        CURL *easy = message->easy_handle;
        CURLcode code = message->data.result;
        curl_multi_remove_handle(curl->multi, easy);
        curl->done(curl->owner, easy, code);
    }
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct socket_watch *watch = poll->data;
    struct curl_loop *curl = watch->curl;
    int flags = status < 0 ? CURL_CSELECT_ERR : (events & UV_READABLE ? CURL_CSELECT_IN : 0) | (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);
    int running;
    curl_multi_socket_action(curl->multi, watch->socket, flags, &running);
    look_at_messages(curl);
}

static void on_time(uv_timer_t *timer)
{
    struct curl_loop *curl = timer->data;
    int running;
    curl_multi_socket_action(curl->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    look_at_messages(curl);
}

static void on_watch_closed(uv_handle_t *handle) { free(handle->data); }
static void on_timer_closed(uv_handle_t *handle) { free(handle->data); }

static int on_socket(CURL *easy, curl_socket_t socket, int what, void *owner, void *known)
{
    struct curl_loop *curl = owner;
    struct socket_watch *watch = known;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (watch) {
            curl_multi_assign(curl->multi, socket, NULL);
            uv_poll_stop(&watch->poll);
            uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
        }
        return 0;
    }
    if (!watch) {
        watch = calloc(1, sizeof(*watch));
        if (!watch || uv_poll_init_socket(curl->loop, &watch->poll, socket) != 0) {
            free(watch);
            return -1;
        }
        watch->poll.data = watch;
        watch->curl = curl;
        watch->socket = socket;
        curl_multi_assign(curl->multi, socket, watch);
    }
    int events = (what != CURL_POLL_OUT ? UV_READABLE : 0) | (what != CURL_POLL_IN ? UV_WRITABLE : 0);
    return uv_poll_start(&watch->poll, events, on_ready) == 0 ? 0 : -1;
}

static int on_timer(CURLM *multi, long timeout_ms, void *owner)
{
    struct curl_loop *curl = owner;
    (void)multi;
    if (timeout_ms < 0)
        uv_timer_stop(&curl->timer);
    else
        uv_timer_start(&curl->timer, on_time, (uint64_t)timeout_ms, 0);
    return 0;
}

struct curl_loop *curl_loop_new(uv_loop_t *loop, void (*done)(void *owner, CURL *easy, CURLcode code), void *owner)
{
    struct curl_loop *curl = calloc(1, sizeof(*curl));
    if (!curl || !(curl->multi = curl_multi_init())) {
        free(curl);
        return NULL;
    }
    curl->loop = loop;
    curl->done = done;
    curl->owner = owner;
    uv_timer_init(loop, &curl->timer);
    curl->timer.data = curl;
    curl_multi_setopt(curl->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(curl->multi, CURLMOPT_SOCKETDATA, curl);
    curl_multi_setopt(curl->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(curl->multi, CURLMOPT_TIMERDATA, curl);
    return curl;
}

void curl_loop_free(struct curl_loop *curl)
{
    if (!curl)
        return;
    curl_multi_cleanup(curl->multi);
    uv_timer_stop(&curl->timer);
    uv_close((uv_handle_t *)&curl->timer, on_timer_closed);
}
