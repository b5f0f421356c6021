/* libcurl's sockets and timer on a libuv loop. One thread. */
#ifndef RUNTIME_CURL_LOOP_H
#define RUNTIME_CURL_LOOP_H

#include <curl/curl.h>
#include <uv.h>

struct curl_loop;

/* `done`: a transfer has ended, and was taken out. NULL: out of memory. */
struct curl_loop *curl_loop_new(uv_loop_t *loop, void (*done)(void *owner, CURL *easy, CURLcode code), void *owner);
CURLM *curl_loop_multi(struct curl_loop *curl);
/* No transfer is in it any more. Its memory goes when the loop has run again. NULL is fine. */
void curl_loop_free(struct curl_loop *curl);

#endif
