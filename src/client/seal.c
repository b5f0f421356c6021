#include "client/seal.h"

#include "client/dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct seal {
    SSL_CTX *context;
    SSL *ssl;
};

static const char *reason(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_error());
    return text ? text : "the other side hung up";
}

/* The certificate must be of the host, which may be an address. */
static bool expect_host(SSL *ssl, const char *host)
{
    unsigned char address[16];
    X509_VERIFY_PARAM *parameters = SSL_get0_param(ssl);
    if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(parameters, host) == 1;
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

static bool prepare(struct seal *seal, int fd, const struct seal_settings *settings)
{
    seal->context = SSL_CTX_new(TLS_client_method());
    if (!seal->context || SSL_CTX_set_min_proto_version(seal->context, TLS1_2_VERSION) != 1 ||
        (settings->ca ? SSL_CTX_load_verify_file(seal->context, settings->ca) : SSL_CTX_set_default_verify_paths(seal->context)) != 1)
        return false;
    SSL_CTX_set_mode(seal->context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(seal->context, settings->trusts_anybody ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    seal->ssl = SSL_new(seal->context);
    return seal->ssl && SSL_set_fd(seal->ssl, fd) == 1 && expect_host(seal->ssl, settings->host);
}

/* What SSL wants to be waited for: poll's events; 0: it is over. */
static short wanted(const struct seal *seal, int result)
{
    switch (SSL_get_error(seal->ssl, result)) {
    case SSL_ERROR_WANT_READ: return POLLIN;
    case SSL_ERROR_WANT_WRITE: return POLLOUT;
    default: return 0;
    }
}

static enum gw_err shake(struct seal *seal, int fd, uint32_t timeout_ms, char *complaint, size_t complaint_size)
{
    uint64_t deadline_ms = dial_now_ms() + timeout_ms;
    for (;;) {
        ERR_clear_error();
        int result = SSL_connect(seal->ssl);
        if (result == 1)
            return GW_OK;
        struct pollfd wait = {.fd = fd, .events = wanted(seal, result)};
        if (wait.events == 0)
            break;
        uint64_t now_ms = dial_now_ms();
        if (now_ms >= deadline_ms) {
            snprintf(complaint, complaint_size, "TLS was not agreed on in time");
            return GW_ERR_IO;
        }
        poll(&wait, 1, (int)(deadline_ms - now_ms));
    }
    long verdict = SSL_get_verify_result(seal->ssl);
    if (verdict != X509_V_OK && SSL_get_verify_mode(seal->ssl) != SSL_VERIFY_NONE) {
        snprintf(complaint, complaint_size, "the broker's certificate is not good: %s", X509_verify_cert_error_string(verdict));
        return GW_ERR_PERMISSION;
    }
    snprintf(complaint, complaint_size, "TLS could not be agreed on: %s", reason());
    return GW_ERR_IO;
}

enum gw_err seal_connect(int fd, const struct seal_settings *settings, struct seal **made, char *complaint, size_t complaint_size)
{
    struct seal *seal = calloc(1, sizeof *seal);
    enum gw_err err = GW_ERR_NOMEM;
    ERR_clear_error();
    snprintf(complaint, complaint_size, "out of memory");
    if (seal && !prepare(seal, fd, settings)) {
        err = GW_ERR_IO;
        snprintf(complaint, complaint_size, "TLS cannot be used with %s: %s", settings->ca ? settings->ca : "the system's authorities", reason());
    } else if (seal) {
        err = shake(seal, fd, settings->timeout_ms, complaint, complaint_size);
    }
    ERR_clear_error();
    if (err && seal) {
        SSL_free(seal->ssl);
        SSL_CTX_free(seal->context);
        free(seal);
    }
    *made = err ? NULL : seal;
    return err;
}

/* What a call that did not succeed means, in recv's and send's words. */
static ssize_t failed(struct seal *seal, int result)
{
    int error = SSL_get_error(seal->ssl, result);
    ERR_clear_error();
    if (error == SSL_ERROR_ZERO_RETURN)
        return 0;
    errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : error == SSL_ERROR_SYSCALL && errno ? errno : ECONNRESET;
    return -1;
}

ssize_t seal_send(struct seal *seal, const void *data, size_t size)
{
    ERR_clear_error();
    errno = 0;
    int sent = SSL_write(seal->ssl, data, size > INT_MAX ? INT_MAX : (int)size);
    return sent > 0 ? sent : failed(seal, sent);
}

ssize_t seal_recv(struct seal *seal, void *room, size_t size)
{
    ERR_clear_error();
    errno = 0;
    int got = SSL_read(seal->ssl, room, size > INT_MAX ? INT_MAX : (int)size);
    return got > 0 ? got : failed(seal, got);
}

void seal_free(struct seal *seal)
{
    if (!seal)
        return;
    SSL_shutdown(seal->ssl);
    ERR_clear_error();
    SSL_free(seal->ssl);
    SSL_CTX_free(seal->context);
    free(seal);
}
