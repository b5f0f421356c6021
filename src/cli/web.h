/* A command's visit to a broker by HTTP: the options that say which one and who asks, requests and their answers, the signals that end it. */
#ifndef CLI_WEB_H
#define CLI_WEB_H

#include "base/bytes.h"
#include "cli/command.h"
#include "cli/console.h"
#include "client/remote_buffer.h"

#include <curl/curl.h>
#include <jansson.h>

#define WEB_URL_MAX 4096u

struct web_settings {
    const char *url;              /* NULL: $GODWIT_URL, or the broker of this machine */
    const char *user, *token, *vhost, *ca;   /* token NULL: $GODWIT_TOKEN, or none */
};

/* The rows of an option table that fill `member`, a struct web_settings inside struct `type`. */
#define WEB_OPTIONS(type, member) \
    {'u', OPTION_TEXT, "url", "URL", "the broker's HTTP, http://user:password@host:port (default: $GODWIT_URL, or http://localhost:15672)", offsetof(struct type, member.url), 0, 0}, \
    {0, OPTION_TEXT, "user", "NAME:PASSWORD", "who asks (default: the URL's user; otherwise whom the broker lets in without)", offsetof(struct type, member.user), 0, 0}, \
    {0, OPTION_TEXT, "token", "TOKEN", "an access token that stands for who asks (default: $GODWIT_TOKEN)", offsetof(struct type, member.token), 0, 0}, \
    {0, OPTION_TEXT, "vhost", "NAME", "the virtual host (default: /)", offsetof(struct type, member.vhost), 0, 0}, \
    {0, OPTION_TEXT, "ca", "FILE", "the authorities that the broker's certificate may come from (PEM; default: the system's)", offsetof(struct type, member.ca), 0, 0}

struct web {
    struct console console;
    const struct web_settings *settings;
    CURL *easy;
    CURLM *multi;
    int signal_fd;                /* readable after SIGINT or SIGTERM */
    bool interrupted;
    char base[WEB_URL_MAX];       /* without a slash at its end */
    char error[CURL_ERROR_SIZE];
    struct remote_buffer answer;
    long status;
};

/* Everything is borrowed. */
struct web_request {
    const char *method, *path;    /* with a query, both as they are sent; the vhost is added */
    const char *const *headers;   /* "name: value" */
    size_t header_count;
    struct bytes body;            /* data NULL: none */
    bool is_repeated;             /* it has an Idempotency-Key: without an answer it is sent again */
};

/* EXIT_DONE, or a complaint was made, and nothing is open. */
int web_open(struct web *web, const struct command *command, const struct web_settings *settings);
void web_close(struct web *web);

/* EXIT_DONE: it was answered with success; *answer is its JSON (json_decref), NULL: none. Otherwise a complaint was made. */
int web_ask(struct web *web, const struct web_request *request, json_t **answer);

/* The same, of one thing: `path` has a %s for its `id`, if there is one. Its body is `object` (taken), or `text`; NULL: there is none. A POST is JSON and has an Idempotency-Key; anything else is a
 * merge patch. */
int web_ask_of(struct web *web, const char *method, const char *path, const char *id, json_t *object, const char *text, json_t **answer);

/* Reads an answer that does not end. `take` gets its bytes, as long as the status is 200; `goes_on` is asked now and then. Either says false: it is over (EXIT_DONE). Ended by the broker or
 * the network, *is_lost: without a complaint, web->error says why. EXIT_FAILED: it was refused, and a complaint was made. */
struct web_stream {
    bool (*take)(void *owner, struct bytes piece);
    bool (*goes_on)(void *owner);
    void *owner;
    bool is_over, is_lost, has_begun;
};
int web_listen(struct web *web, const struct web_request *request, struct web_stream *stream);

/* Waits; false: interrupted. */
bool web_wait(struct web *web, uint64_t ms);

/* Appends `format` to a path of `room` bytes, with every %s percent-encoded. False: it is too long. */
bool web_path(struct web *web, char *path, size_t room, const char *format, const char *text);

/* 32 random hexadecimal digits. */
#define WEB_ID_SIZE 33u
void web_new_id(char id[WEB_ID_SIZE]);

#endif
