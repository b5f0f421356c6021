/* godwit sink: a program that webhooks can be posted to, for trying things out and for tests. It shows what comes, verifies signatures, and misbehaves if it is asked to. */
#ifndef SERVER_RECEIVER_H
#define SERVER_RECEIVER_H

#include "base/bytes.h"
#include "protocol/http/request.h"

int receiver_main(int argc, char **argv);

/* ---- receiver_print.c ---- */

/* Writes a request to standard output, as a few lines or as a JSON object in one. `verdict`: what is to be said of its signature; NULL: nobody wants to know. */
void receiver_print(const struct http_request *request, struct bytes body, const char *verdict, bool json);

#endif
