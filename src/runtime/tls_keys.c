#include "runtime/tls_keys.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PROTOCOLS_MAX 64u
#define SOON_S (7 * 86400)

/* What RFC 9113 (section 9.2) and RFC 9325 leave of TLS 1.2: forward secrecy and authenticated encryption. TLS 1.3 has nothing else. */
#define CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"

struct tls_keys {
    pthread_mutex_t mutex;           /* guards `context`; held once a connection */
    SSL_CTX *context;
    char *certificate, *key, *ca;
    enum tls_verify verify;
    unsigned char protocols[PROTOCOLS_MAX];   /* as ALPN has them: a length before each */
    unsigned protocols_size;         /* 0: ALPN is ignored */
};

/* ---- ALPN ------------------------------------------------------------------------------------------------------------- */

static bool put_protocols(struct tls_keys *keys, const char *names)
{
    while (*names) {
        size_t size = strcspn(names, ",");
        if (size == 0 || keys->protocols_size + 1 + size > PROTOCOLS_MAX)
            return false;
        keys->protocols[keys->protocols_size] = (unsigned char)size;
        memcpy(keys->protocols + keys->protocols_size + 1, names, size);
        keys->protocols_size += 1 + (unsigned)size;
        names += size + (names[size] == ',');
    }
    return true;
}

static int on_protocols(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_size, const unsigned char *offered, unsigned offered_size, void *owner)
{
    const struct tls_keys *keys = owner;
    (void)ssl;
    /* RFC 7301, section 3.2: with nothing in common the handshake fails. */
    return SSL_select_next_proto((unsigned char **)(uintptr_t)chosen, chosen_size, keys->protocols, keys->protocols_size, offered, offered_size) == OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* ---- reading the files ------------------------------------------------------------------------------------------------ */

/* What OpenSSL says, its first complaint being the cause of the others. */
static const char *cause(void)
{
    unsigned long error = ERR_peek_error();
    if (ERR_GET_LIB(error) == ERR_LIB_SYS)
        return strerror(ERR_GET_REASON(error));
    const char *reason = ERR_reason_error_string(error);
    return reason ? reason : "it cannot be read";
}

/* A key with a password would have it asked for on the terminal. */
static int on_password(char *room, int size, int writing, void *owner)
{
    (void)room, (void)size, (void)writing, (void)owner;
    return 0;
}

static bool wrong(char *why, size_t size, const char *what, const char *path)
{
    snprintf(why, size, "%s %s: %s", what, path, cause());
    return false;
}

static bool is_readable(const char *what, const char *path, struct stat *info, char *why, size_t size)
{
    FILE *file = fopen(path, "re");
    bool good = file && fstat(fileno(file), info) == 0;
    if (!good)
        snprintf(why, size, "%s %s: %s", what, path, strerror(errno));
    else if (!(good = S_ISREG(info->st_mode)))
        snprintf(why, size, "%s %s: it is no file", what, path);
    if (file)
        fclose(file);
    return good;
}

static void warn(const struct tls_keys *keys, const struct stat *key, SSL_CTX *context, struct alarm_sink *alarms)
{
    const X509 *certificate = SSL_CTX_get0_certificate(context);
    time_t soon = time(NULL) + SOON_S;
    if (key->st_mode & (S_IROTH | S_IWOTH))
        alarm_raise(alarms, ALARM_WARNING, "everybody on this machine may read the key %s: chmod 640", keys->key);
    if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0)
        alarm_raise(alarms, ALARM_WARNING, "the certificate %s is not valid yet", keys->certificate);
    else if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0)
        alarm_raise(alarms, ALARM_WARNING, "the certificate %s has expired: clients will refuse it", keys->certificate);
    else if (X509_cmp_time(X509_get0_notAfter(certificate), &soon) < 0)
        alarm_raise(alarms, ALARM_WARNING, "the certificate %s expires within a week", keys->certificate);
}

static bool load(const struct tls_keys *keys, SSL_CTX *context, char *why, size_t size)
{
    if (SSL_CTX_use_certificate_chain_file(context, keys->certificate) != 1)
        return wrong(why, size, "the certificate", keys->certificate);
    if (SSL_CTX_use_PrivateKey_file(context, keys->key, SSL_FILETYPE_PEM) != 1) {
        unsigned long error = ERR_peek_error();
        if (ERR_GET_LIB(error) == ERR_LIB_X509 && ERR_GET_REASON(error) == X509_R_KEY_VALUES_MISMATCH) {
            snprintf(why, size, "the key %s is not that of the certificate %s", keys->key, keys->certificate);
            return false;
        }
        return wrong(why, size, "the key (which must not be encrypted)", keys->key);
    }
    if (SSL_CTX_check_private_key(context) != 1) {
        snprintf(why, size, "the key %s is not that of the certificate %s", keys->key, keys->certificate);
        return false;
    }
    if (keys->verify == TLS_VERIFY_NONE)
        return true;
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(keys->ca);
    if (!names || SSL_CTX_load_verify_file(context, keys->ca) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return wrong(why, size, "the authorities", keys->ca);
    }
    SSL_CTX_set_client_CA_list(context, names);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | (keys->verify == TLS_VERIFY_REQUIRED ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
    return true;
}

/* A context out of the files. NULL: `why`. */
static SSL_CTX *make(struct tls_keys *keys, struct alarm_sink *alarms, char *why, size_t size)
{
    struct stat certificate, key, ca;
    ERR_clear_error();
    if (!is_readable("the certificate", keys->certificate, &certificate, why, size) || !is_readable("the key", keys->key, &key, why, size) ||
        (keys->verify != TLS_VERIFY_NONE && !is_readable("the authorities", keys->ca, &ca, why, size)))
        return NULL;
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!context || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 || SSL_CTX_set_cipher_list(context, CIPHERS) != 1) {
        SSL_CTX_free(context);
        snprintf(why, size, "OpenSSL cannot be used: %s", cause());
        return NULL;
    }
    /* Nothing is kept of a connection for the next one: no tickets, whose keys would have to be changed for forward secrecy, and no cache. */
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_default_passwd_cb(context, on_password);
    if (keys->protocols_size)
        SSL_CTX_set_alpn_select_cb(context, on_protocols, keys);
    if (!load(keys, context, why, size)) {
        SSL_CTX_free(context);
        ERR_clear_error();
        return NULL;
    }
    warn(keys, &key, context, alarms);
    return context;
}

/* ---- verbs ------------------------------------------------------------------------------------------------------------ */

struct tls_keys *tls_keys_open(const struct tls_settings *settings, struct alarm_sink *alarms, char *why, size_t size)
{
    struct tls_keys *keys = calloc(1, sizeof(*keys));
    snprintf(why, size, "out of memory");
    if (!keys)
        return NULL;
    pthread_mutex_init(&keys->mutex, NULL);
    keys->verify = settings->verify;
    keys->certificate = strdup(settings->certificate);
    keys->key = strdup(settings->key);
    keys->ca = settings->ca ? strdup(settings->ca) : NULL;
    bool good = keys->certificate && keys->key && (keys->ca || !settings->ca) && (!settings->protocols || put_protocols(keys, settings->protocols));
    if (good && keys->verify != TLS_VERIFY_NONE && !keys->ca) {
        snprintf(why, size, "there are no authorities to verify clients' certificates with");
        good = false;
    }
    if (good)
        keys->context = make(keys, alarms, why, size);
    if (keys->context)
        return keys;
    tls_keys_free(keys);
    return NULL;
}

bool tls_keys_reload(struct tls_keys *keys, struct alarm_sink *alarms, char *why, size_t size)
{
    SSL_CTX *context = make(keys, alarms, why, size);
    if (!context)
        return false;
    pthread_mutex_lock(&keys->mutex);
    SSL_CTX *old = keys->context;
    keys->context = context;
    pthread_mutex_unlock(&keys->mutex);
    /* Connections that are open have their own reference. */
    SSL_CTX_free(old);
    return true;
}

SSL *tls_keys_connection(struct tls_keys *keys)
{
    pthread_mutex_lock(&keys->mutex);
    SSL *ssl = SSL_new(keys->context);
    pthread_mutex_unlock(&keys->mutex);
    if (ssl)
        SSL_set_accept_state(ssl);
    return ssl;
}

void tls_keys_free(struct tls_keys *keys)
{
    if (!keys)
        return;
    SSL_CTX_free(keys->context);
    pthread_mutex_destroy(&keys->mutex);
    free(keys->certificate);
    free(keys->key);
    free(keys->ca);
    free(keys);
}
