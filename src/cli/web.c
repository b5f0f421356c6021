#include "cli/web.h"

#include "client/dial.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define DEFAULT_URL "http://localhost:15672"
#define CONNECT_MS 10000L
#define ANSWER_MS 120000L
#define ANSWER_MAX (256u << 20)
#define ATTEMPTS 4u
#define LOOK_MS 100               /* whether an answer that does not end goes on */

static bool read_base(struct web *web, const char *url)
{
    size_t size = strlen(url);
    while (size && url[size - 1] == '/')
        size--;
    return snprintf(web->base, sizeof web->base, "%s%.*s", strstr(url, "://") ? "" : "http://", (int)size, url) < (int)sizeof web->base;
}

static bool watch_signals(struct web *web)
{
    sigset_t signals;
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    web->signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    return web->signal_fd >= 0;
}

int web_open(struct web *web, const struct command *command, const struct web_settings *settings)
{
    const char *url = settings->url ? settings->url : getenv("GODWIT_URL");
    *web = (struct web){.settings = settings, .signal_fd = -1};
    console_init(&web->console, command->name);
    if (!read_base(web, url && *url ? url : DEFAULT_URL)) {
        console_complain(&web->console, "the URL is too long");
        return EXIT_USAGE;
    }
    if (!watch_signals(web)) {
        console_complain(&web->console, "cannot wait for signals: %s", strerror(errno));
        return EXIT_FAILED;
    }
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(web->easy = curl_easy_init()) || !(web->multi = curl_multi_init())) {
        console_complain(&web->console, "out of memory");
        web_close(web);
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}

void web_close(struct web *web)
{
    console_clear(&web->console);
    if (web->easy)
        curl_easy_cleanup(web->easy);
    if (web->multi)
        curl_multi_cleanup(web->multi);
    curl_global_cleanup();
    remote_buffer_deinit(&web->answer);
    close(web->signal_fd);
}

/* ---- waiting -------------------------------------------------------------------------------------------------------- */

static bool is_interrupted(struct web *web)
{
    struct signalfd_siginfo info;
    while (read(web->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        web->interrupted = true;
    return web->interrupted;
}

/* Until something comes, a signal too, or the time is over. */
static void wait_for_any(struct web *web, int ms)
{
    struct curl_waitfd signals = {.fd = web->signal_fd, .events = CURL_WAIT_POLLIN};
    curl_multi_poll(web->multi, &signals, 1, ms, NULL);
}

bool web_wait(struct web *web, uint64_t ms)
{
    uint64_t end_ms = dial_now_ms() + ms;
    for (uint64_t now_ms; !is_interrupted(web) && (now_ms = dial_now_ms()) < end_ms;)
        wait_for_any(web, (int)(end_ms - now_ms));
    return !web->interrupted;
}

/* ---- one request ---------------------------------------------------------------------------------------------------- */

bool web_path(struct web *web, char *path, size_t room, const char *format, const char *text)
{
    size_t used = strlen(path);
    char *escaped = curl_easy_escape(web->easy, text, 0);
    int size = -1;
    if (escaped) {
        const char *at = strstr(format, "%s");
        size = at ? snprintf(path + used, room - used, "%.*s%s%s", (int)(at - format), format, escaped, at + 2) : snprintf(path + used, room - used, "%s", format);
    }
    curl_free(escaped);
    return size >= 0 && (size_t)size < room - used;
}

static bool make_url(struct web *web, const char *path, char *url, size_t room)
{
    if (snprintf(url, room, "%s%s", web->base, path) >= (int)room)
        return false;
    return !web->settings->vhost || web_path(web, url, room, strchr(path, '?') ? "&vhost=%s" : "?vhost=%s", web->settings->vhost);
}

static size_t take_answer(char *data, size_t size, size_t count, void *owner)
{
    struct web *web = owner;
    bool kept = remote_buffer_size(&web->answer) + size * count <= ANSWER_MAX && remote_buffer_add(&web->answer, bytes_of(data, size * count)) == GW_OK;
    return kept ? size * count : 0;
}

/* False: out of memory, or the URL is too long. */
static bool set_up(struct web *web, const struct web_request *request, struct curl_slist **headers)
{
    char url[2 * WEB_URL_MAX];
    CURL *easy = web->easy;
    *headers = NULL;
    if (!make_url(web, request->path, url, sizeof url))
        return false;
    curl_easy_reset(easy);
    for (size_t i = 0; i < request->header_count + 1; i++) {
        struct curl_slist *grown = curl_slist_append(*headers, i < request->header_count ? request->headers[i] : "Expect:");
        if (!grown)
            return false;
        *headers = grown;
    }
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, web->error);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, *headers);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "godwit/" GODWIT_VERSION);
    if (request->body.data) {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, (const char *)request->body.data);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.size);
    }
    if (strcmp(request->method, request->body.data ? "POST" : "GET") != 0)
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
    if (web->settings->user)
        curl_easy_setopt(easy, CURLOPT_USERPWD, web->settings->user);
    if (web->settings->ca)
        curl_easy_setopt(easy, CURLOPT_CAINFO, web->settings->ca);
    const char *token = web->settings->token ? web->settings->token : web->settings->user ? NULL : getenv("GODWIT_TOKEN");
    if (token && *token)
        curl_easy_setopt(easy, CURLOPT_XOAUTH2_BEARER, token);
    curl_easy_setopt(easy, CURLOPT_HTTPAUTH, token && *token ? (long)CURLAUTH_BEARER : (long)CURLAUTH_BASIC);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    return true;
}

/* Until it is done, or `stream` or a signal ends it (CURLE_ABORTED_BY_CALLBACK). */
static CURLcode perform(struct web *web, struct web_stream *stream)
{
    CURLcode code = CURLE_ABORTED_BY_CALLBACK;
    web->error[0] = 0;
    if (curl_multi_add_handle(web->multi, web->easy) != CURLM_OK)
        return CURLE_OUT_OF_MEMORY;
    for (int running = 1; !is_interrupted(web) && !(stream && (stream->is_over || (stream->goes_on && !stream->goes_on(stream->owner))));) {
        CURLMsg *message = NULL;
        int left;
        if (curl_multi_perform(web->multi, &running) == CURLM_OK && !running)
            message = curl_multi_info_read(web->multi, &left);
        if (message && message->msg == CURLMSG_DONE) {
            code = message->data.result;
            break;
        }
        if (!(stream && stream->is_over))
            wait_for_any(web, stream ? LOOK_MS : 1000);
    }
    curl_easy_getinfo(web->easy, CURLINFO_RESPONSE_CODE, &web->status);
    curl_multi_remove_handle(web->multi, web->easy);
    if (code && !web->error[0])
        snprintf(web->error, sizeof web->error, "%s", curl_easy_strerror(code));
    return code;
}

/* A problem's detail (RFC 9457), or the status alone. */
static int complain(struct web *web)
{
    struct bytes text = remote_buffer_bytes(&web->answer);
    json_t *problem = json_loadb((const char *)text.data, text.size, 0, NULL);
    const char *detail = json_string_value(json_object_get(problem, "detail"));
    console_complain(&web->console, "%s%s(%ld)", detail ? detail : "the broker refused", " ", web->status);
    json_decref(problem);
    return EXIT_FAILED;
}

static bool was_lost(CURLcode code) { return code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR || code == CURLE_PARTIAL_FILE; }

int web_ask(struct web *web, const struct web_request *request, json_t **answer)
{
    struct curl_slist *headers;
    CURLcode code = CURLE_OUT_OF_MEMORY;
    *answer = NULL;
    for (unsigned attempt = 1;; attempt++) {
        remote_buffer_take(&web->answer, remote_buffer_size(&web->answer));
        if (set_up(web, request, &headers)) {
            curl_easy_setopt(web->easy, CURLOPT_WRITEFUNCTION, take_answer);
            curl_easy_setopt(web->easy, CURLOPT_WRITEDATA, web);
            curl_easy_setopt(web->easy, CURLOPT_TIMEOUT_MS, ANSWER_MS);
            code = perform(web, NULL);
        }
        curl_slist_free_all(headers);
        bool again = request->is_repeated && (was_lost(code) || (!code && web->status == 409 && attempt > 1));
        if (!again || attempt == ATTEMPTS || !web_wait(web, 100u << attempt))
            break;
    }
    if (code) {
        console_complain(&web->console, "%s", web->interrupted ? "interrupted" : web->error[0] ? web->error : curl_easy_strerror(code));
        return EXIT_FAILED;
    }
    if (web->status < 200 || web->status >= 300)
        return complain(web);
    struct bytes text = remote_buffer_bytes(&web->answer);
    if (!text.size || (*answer = json_loadb((const char *)text.data, text.size, JSON_ALLOW_NUL, NULL)))
        return EXIT_DONE;
    console_complain(&web->console, "the answer is no JSON");
    return EXIT_FAILED;
}

int web_ask_of(struct web *web, const char *method, const char *path, const char *id, json_t *object, const char *text, json_t **answer)
{
    char sent[WEB_URL_MAX] = "", key[WEB_ID_SIZE], key_header[64];
    bool is_post = strcmp(method, "POST") == 0;
    const char *const headers[] = {is_post ? "content-type: application/json" : "content-type: application/merge-patch+json", key_header};
    char *dumped = object ? json_dumps(object, JSON_COMPACT) : NULL;
    bool is_whole = !object || dumped;
    json_decref(object);
    *answer = NULL;
    web_new_id(key);
    snprintf(key_header, sizeof key_header, "idempotency-key: %s", key);
    struct bytes body = dumped ? bytes_of_text(dumped) : text ? bytes_of_text(text) : is_post ? bytes_of_text("") : (struct bytes){0};
    int code = EXIT_USAGE;
    if (!is_whole)
        console_complain(&web->console, "there is too little memory");
    else if (!web_path(web, sent, sizeof sent, path, id))
        console_complain(&web->console, "the id is too long");
    else
        code = web_ask(web, &(struct web_request){.method = method, .path = sent, .headers = headers, .header_count = is_post ? 2 : body.data ? 1 : 0, .body = body, .is_repeated = is_post}, answer);
    free(dumped);
    return code;
}

/* ---- an answer that does not end ------------------------------------------------------------------------------------ */

struct listening {
    struct web *web;
    struct web_stream *stream;
};

static size_t take_piece(char *data, size_t size, size_t count, void *owner)
{
    struct listening *listening = owner;
    long status = 0;
    curl_easy_getinfo(listening->web->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200)
        return take_answer(data, size, count, listening->web);
    listening->stream->has_begun = true;
    if (!listening->stream->is_over)
        listening->stream->is_over = !listening->stream->take(listening->stream->owner, bytes_of(data, size * count));
    return size * count;
}

int web_listen(struct web *web, const struct web_request *request, struct web_stream *stream)
{
    struct curl_slist *headers;
    struct listening listening = {.web = web, .stream = stream};
    CURLcode code = CURLE_OUT_OF_MEMORY;
    remote_buffer_take(&web->answer, remote_buffer_size(&web->answer));
    stream->is_over = stream->is_lost = false;
    web->status = 0;
    if (set_up(web, request, &headers)) {
        curl_easy_setopt(web->easy, CURLOPT_WRITEFUNCTION, take_piece);
        curl_easy_setopt(web->easy, CURLOPT_WRITEDATA, &listening);
        /* The broker says something every 15 seconds. */
        curl_easy_setopt(web->easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(web->easy, CURLOPT_LOW_SPEED_TIME, 60L);
        code = perform(web, stream);
    }
    curl_slist_free_all(headers);
    if (stream->is_over || code == CURLE_ABORTED_BY_CALLBACK)
        return EXIT_DONE;
    if (web->status && web->status != 200 && web->status != 503)
        return complain(web);
    if (!code)
        snprintf(web->error, sizeof web->error, web->status == 503 ? "the broker cannot serve it now" : "the broker has ended it");
    stream->is_lost = true;
    return EXIT_DONE;
}

void web_new_id(char id[WEB_ID_SIZE])
{
    uint8_t random[16];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        memset(random, 0, sizeof random);
    for (unsigned i = 0; i < sizeof random; i++)
        snprintf(id + 2 * i, 3, "%02x", random[i]);
}
