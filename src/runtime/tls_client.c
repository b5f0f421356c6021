#include "runtime/tls_client.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

static const char *cause(void)
{
    unsigned long error = ERR_peek_error();
    const char *reason = ERR_GET_LIB(error) == ERR_LIB_SYS ? strerror(ERR_GET_REASON(error)) : ERR_reason_error_string(error);
    return reason ? reason : "it has no certificates";
}

struct ssl_ctx_st *tls_client_open(const char *ca_file, bool trusts_anybody, char *why, size_t size)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (!context || !SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION)) {
        snprintf(why, size, "out of memory");
        SSL_CTX_free(context);
        return NULL;
    }
    if (trusts_anybody)
        return context;
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    int trusted = ca_file ? SSL_CTX_load_verify_file(context, ca_file) : SSL_CTX_set_default_verify_paths(context);
    if (!trusted) {
        snprintf(why, size, "the authorities in %s cannot be read: %s", ca_file ? ca_file : "the system's files", cause());
        SSL_CTX_free(context);
        context = NULL;
    }
    ERR_clear_error();
    return context;
}

bool tls_client_trust(struct ssl_ctx_st *context, const char *ca_file, char *why, size_t size)
{
    bool good = SSL_CTX_load_verify_file(context, ca_file);
    if (!good)
        snprintf(why, size, "the authorities in %s cannot be read: %s", ca_file, cause());
    ERR_clear_error();
    return good;
}

void tls_client_free(struct ssl_ctx_st *context)
{
    SSL_CTX_free(context);
}

/* RFC 6066, section 3: an address is no server name. */
static int set_host(SSL *ssl, const char *host)
{
    ASN1_OCTET_STRING *address = a2i_IPADDRESS(host);
    if (!address)
        return SSL_set1_host(ssl, host) && SSL_set_tlsext_host_name(ssl, host);
    ASN1_OCTET_STRING_free(address);
    return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host);
}

struct ssl_st *tls_client_connection(struct ssl_ctx_st *context, const char *host)
{
    SSL *ssl = SSL_new(context);
    if (ssl && !set_host(ssl, host)) {
        SSL_free(ssl);
        ssl = NULL;
    }
    if (ssl)
        SSL_set_connect_state(ssl);
    ERR_clear_error();
    return ssl;
}
