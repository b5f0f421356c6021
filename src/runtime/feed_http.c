/* The answer to a GET, as it comes. Redirects are followed, as fetch does it; every address is judged right before it is connected to, and no connection is used twice, so that none was judged
 * for somebody else. No proxy, no cookies, nothing from the environment. */
#include "runtime/curl_loop.h"
#include "runtime/feeder_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HEAD_MAX 65536u
#define CONNECT_TIMEOUT_MS 10000L
#define REDIRECTS_MAX 20L

struct multi {
    struct curl_loop *curl;
};

struct http_feeding {
    struct feeding feeding;          /* first */
    CURL *easy;
    struct curl_slist *headers;
    char *head;                      /* "name: value\n" of the answer's, names in lower case */
    size_t head_size, body_size, size_max;
    uv_timer_t idle;
    uint64_t idle_ms;                /* 0: whatever comes, and however late */
    bool is_in, is_opened, is_long;
    enum feed_reach reach;
    char why[FEED_WHY_MAX];
    char error[CURL_ERROR_SIZE];
};

static struct http_feeding *http_of(struct feeding *feeding) { return (struct http_feeding *)feeding; }

bool feeder_prepare(void) { return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK; }

/* ---- what does not come -------------------------------------------------------------------------------------------------- */

static void on_idle(uv_timer_t *timer)
{
    struct http_feeding *http = timer->data;
    feeding_fail(&http->feeding, FEED_TIMED_OUT, "Nothing came for %g s.", (double)http->idle_ms / 1000);
}

/* Any byte counts: a server that says nothing but ":" every now and then is there. */
static void something_came(struct http_feeding *http)
{
    if (http->idle_ms && !http->feeding.is_paused && !http->feeding.is_closed)
        uv_timer_start(&http->idle, on_idle, http->idle_ms, 0);
}

/* ---- the answer ---------------------------------------------------------------------------------------------------------- */

static bool find_header(const void *owner, struct bytes name, struct bytes *value)
{
    const struct http_feeding *http = owner;
    for (const char *line = http->head, *end = http->head + http->head_size; line < end;) {
        const char *next = memchr(line, '\n', (size_t)(end - line));
        if (!next)
            return false;
        if ((size_t)(next - line) > name.size && memcmp(line, name.data, name.size) == 0 && line[name.size] == ':') {
            *value = bytes_of(line + name.size + 1, (size_t)(next - line) - name.size - 1);
            return true;
        }
        line = next + 1;
    }
    return false;
}

static bool keep_line(struct http_feeding *http, const char *line, size_t size)
{
    const char *colon = memchr(line, ':', size);
    if (!colon)
        return true;
    if (http->head_size + size + 2 > HEAD_MAX)
        return false;
    char *grown = realloc(http->head, http->head_size + size + 2);
    if (!grown)
        return false;
    http->head = grown;
    const char *value = colon + 1;
    while (size && strchr(" \t\r\n", line[size - 1]))
        size--;
    while (value < line + size && (*value == ' ' || *value == '\t'))
        value++;
    for (const char *at = line; at <= colon; at++)
        http->head[http->head_size++] = (char)(*at >= 'A' && *at <= 'Z' ? *at | 0x20 : *at);
    for (; value < line + size; value++)
        http->head[http->head_size++] = *value == '\n' ? ' ' : *value;
    http->head[http->head_size++] = '\n';
    return true;
}

static void tell_opened(struct http_feeding *http)
{
    long status = 0;
    curl_off_t retry_after_s = 0;
    struct bytes location;
    curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &status);
    bool is_redirect = (status == 301 || status == 302 || status == 303 || status == 307 || status == 308) && find_header(http, bytes_of_text("location"), &location);
    if (status < 200 || is_redirect || http->is_opened)
        return;
    http->is_opened = true;
    curl_easy_getinfo(http->easy, CURLINFO_RETRY_AFTER, &retry_after_s);
    feeding_opened(&http->feeding, &(struct feed_opening){.status = (unsigned)status, .retry_after_s = retry_after_s > 0 ? (uint64_t)retry_after_s : 0, .header = find_header, .owner = http});
    feeding_told(&http->feeding);
}

static size_t on_head(char *data, size_t each, size_t count, void *owner)
{
    struct http_feeding *http = owner;
    size_t size = each * count;
    something_came(http);
    if (size >= 5 && strncasecmp(data, "HTTP/", 5) == 0) {
        http->head_size = 0;
    } else if (size <= 2) {
        tell_opened(http);
    } else if (!http->is_opened && !keep_line(http, data, size)) {
        snprintf(http->why, sizeof(http->why), "The head of the answer is too long.");
        return 0;
    }
    return size;
}

static size_t on_body(char *data, size_t each, size_t count, void *owner)
{
    struct http_feeding *http = owner;
    size_t size = each * count;
    something_came(http);
    /* The body of a redirect. */
    if (!http->is_opened)
        return size;
    http->body_size += size;
    http->is_long = http->size_max && http->body_size > http->size_max;
    if (http->is_long)
        return 0;
    feeding_came(&http->feeding, 0, bytes_of(data, size));
    feeding_told(&http->feeding);
    return size;
}

static curl_socket_t on_open_socket(void *owner, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct http_feeding *http = owner;
    const struct feeder_config *config = &http->feeding.set->config;
    const char *refusal = config->refusal ? config->refusal(config->owner, http->reach, &address->addr) : NULL;
    (void)purpose;
    if (!refusal)
        return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    snprintf(http->why, sizeof(http->why), "The address of the source is %s, and may not be connected to.", refusal);
    return CURL_SOCKET_BAD;
}

static void on_done(void *owner, CURL *easy, CURLcode code)
{
    char *private;
    (void)owner;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
    struct http_feeding *http = (struct http_feeding *)(void *)private;
    struct feed_end end = {.outcome = FEED_BROKEN};
    long status = 0;
    http->is_in = false;
    switch (code) {
    case CURLE_OK:
        /* It led nowhere, or ended in its head: nothing of it was told. */
        end.outcome = http->is_opened ? FEED_OVER : FEED_BROKEN;
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        if (!http->is_opened)
            snprintf(http->why, sizeof(http->why), "The server answered %ld, and nothing that could be read.", status);
        break;
    case CURLE_WRITE_ERROR: end.outcome = http->is_long ? FEED_TOO_LONG : FEED_BROKEN; break;
    case CURLE_COULDNT_CONNECT: end.outcome = http->why[0] ? FEED_FORBIDDEN : FEED_UNREACHABLE; break;
    case CURLE_COULDNT_RESOLVE_HOST: end.outcome = FEED_UNREACHABLE; break;
    case CURLE_OPERATION_TIMEDOUT: end.outcome = FEED_TIMED_OUT; break;
    case CURLE_OUT_OF_MEMORY:
        /* libcurl says so of a line of the head without an end, too. */
        end.outcome = http->is_opened ? FEED_NO_MEMORY : FEED_BROKEN;
        if (!http->is_opened)
            snprintf(http->why, sizeof(http->why), "The head of the answer is too long, or there is too little memory.");
        break;
    default: break;
    }
    if (http->why[0])
        snprintf(end.why, sizeof(end.why), "%s", http->why);
    else if (code != CURLE_OK && !http->is_long)
        snprintf(end.why, sizeof(end.why), "%.180s.", http->error[0] ? http->error : curl_easy_strerror(code));
    feeding_end(&http->feeding, &end);
}

/* ---- beginning and ending ------------------------------------------------------------------------------------------------ */

/* One without a value has to be said otherwise: "Name:" would have curl leave it out. */
static bool add_header(struct http_feeding *http, const char *line)
{
    char *copy = strdup(line);
    char *colon = copy ? strchr(copy, ':') : NULL;
    if (colon && strspn(colon + 1, " \t") == strlen(colon + 1))
        strcpy(colon, ";");
    struct curl_slist *grown = copy ? curl_slist_append(http->headers, copy) : NULL;
    free(copy);
    if (grown)
        http->headers = grown;
    return grown;
}

static bool set_up(struct http_feeding *http, const struct feed_request *request)
{
    CURL *easy = http->easy;
    for (unsigned i = 0; i < request->header_count; i++) {
        if (!add_header(http, request->headers[i]))
            return false;
    }
    bool fits = curl_easy_setopt(easy, CURLOPT_URL, request->address) == CURLE_OK;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, http);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, http->error);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, http->headers);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "godwit/" GODWIT_VERSION);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(easy, CURLOPT_MAXREDIRS, REDIRECTS_MAX);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* Who is given up while his name is being looked up is not waited for: the loop would stand still until the resolver answers. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    if (http->feeding.set->config.authorities)   /* the system's, by their hashes, are looked at all the same */
        curl_easy_setopt(easy, CURLOPT_CAINFO, http->feeding.set->config.authorities);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_2TLS);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_head);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, http);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, http);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, http);
    /* Who does not say that he takes no coding may be sent any (RFC 9110, 12.5.3); and some send one all the same. */
    curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
    return fits;
}

static void free_http(struct feeding *feeding)
{
    struct http_feeding *http = http_of(feeding);
    curl_slist_free_all(http->headers);
    curl_easy_cleanup(http->easy);
    free(http->head);
    free(http);
}

static struct multi *multi_of(struct feeder_set *set)
{
    if (!set->multi && (set->multi = calloc(1, sizeof(*set->multi))) && !(set->multi->curl = curl_loop_new(set->config.loop, on_done, set))) {
        free(set->multi);
        set->multi = NULL;
    }
    return set->multi;
}

static struct feeding *begin(struct feeder_set *set, const struct feed_request *request)
{
    struct multi *multi = multi_of(set);
    struct http_feeding *http = multi ? calloc(1, sizeof(*http)) : NULL;
    if (!http)
        return NULL;
    http->feeding.set = set;
    http->easy = curl_easy_init();
    http->size_max = request->size_max;
    http->reach = request->reach;
    if (!http->easy || !set_up(http, request) || curl_multi_add_handle(curl_loop_multi(multi->curl), http->easy) != CURLM_OK) {
        free_http(&http->feeding);
        return NULL;
    }
    http->is_in = true;
    http->idle_ms = request->idle_ms;
    uv_timer_init(set->config.loop, &http->idle);
    http->idle.data = http;
    http->feeding.handles = 1;
    something_came(http);
    return &http->feeding;
}

static void pause_http(struct feeding *feeding, bool paused)
{
    struct http_feeding *http = http_of(feeding);
    uv_timer_stop(&http->idle);
    something_came(http);
    curl_easy_pause(http->easy, paused ? CURLPAUSE_RECV : CURLPAUSE_CONT);
}

static void close_http(struct feeding *feeding)
{
    struct http_feeding *http = http_of(feeding);
    if (http->is_in)
        curl_multi_remove_handle(curl_loop_multi(feeding->set->multi->curl), http->easy);
    http->is_in = false;
    uv_timer_stop(&http->idle);
    feeding_close_handle(feeding, (uv_handle_t *)&http->idle);
}

void multi_free(struct multi *multi)
{
    if (multi)
        curl_loop_free(multi->curl);
    free(multi);
}

const struct feeding_kind feeding_http = {.begin = begin, .pause = pause_http, .close = close_http, .free = free_http};
