#include "runtime/tls.h"

#include "base/err.h"
#include "runtime/tls_keys.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#define SPARE_SIZE (80u * 1024u)     /* a few records, with what surrounds them */
#define SEAL_AT_ONCE (4u * TLS_RECORD)
#define SEALED_MAX (256u * 1024u)    /* a peer that has answers made and does not take them is given up */
#define WASTE_MAX 4096u
#define UPDATES_MAX 32u              /* changes of keys that a peer may ask for … */
#define UPDATES_CONTENT 65536u       /* … before it has said so many bytes: each costs as much as a small handshake */

struct tls {
    SSL *ssl;
    struct tls_pool *pool;
    void *context;
    struct bytes in;                 /* of what is being taken in: the rest */
    uint8_t *out;                    /* sealed: [begin, end) of `room` bytes */
    size_t begin, end, room;
    const char *complaint;
    unsigned updates;                /* since … */
    size_t content;                  /* … so many bytes of content */
    bool ended, said_end, failed, unruly;
};

/* ---- buffers ---------------------------------------------------------------------------------------------------------- */

static void out_free(struct tls *tls)
{
    if (tls->room == SPARE_SIZE && !tls->pool->spare)
        tls->pool->spare = tls->out;
    else
        free(tls->out);
    tls->out = NULL;
    tls->begin = tls->end = tls->room = 0;
}

static bool out_reserve(struct tls *tls, size_t size)
{
    if (tls->end + size <= tls->room)
        return true;
    if (tls->end - tls->begin + size > SEALED_MAX)
        return false;
    if (!tls->out && tls->pool->spare && size <= SPARE_SIZE) {
        tls->out = tls->pool->spare;
        tls->pool->spare = NULL;
        tls->room = SPARE_SIZE;
        return true;
    }
    size_t kept = tls->end - tls->begin, wanted = kept + size, room = wanted > SPARE_SIZE ? 2 * wanted : SPARE_SIZE;
    uint8_t *grown = malloc(room);
    if (!grown)
        return false;
    if (kept)
        memcpy(grown, tls->out + tls->begin, kept);
    free(tls->out);
    tls->out = grown;
    tls->begin = 0;
    tls->end = kept;
    tls->room = room;
    return true;
}

/* What a peer does not take yet is kept in as little memory as it needs. */
static void out_shrink(struct tls *tls)
{
    size_t kept = tls->end - tls->begin;
    uint8_t *small = tls->room - kept > WASTE_MAX ? malloc(kept) : NULL;
    if (!small)
        return;
    memcpy(small, tls->out + tls->begin, kept);
    out_free(tls);
    tls->out = small;
    tls->end = tls->room = kept;
}

/* ---- OpenSSL's side of it: a BIO whose bytes are ours ------------------------------------------------------------------- */

static int bio_read(BIO *bio, char *room, int size)
{
    struct tls *tls = BIO_get_data(bio);
    size_t some = tls->in.size < (size_t)size ? tls->in.size : (size_t)size;
    BIO_clear_retry_flags(bio);
    if (tls->unruly)
        return -1;
    if (some == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(room, tls->in.data, some);
    tls->in = bytes_of(tls->in.data + some, tls->in.size - some);
    return (int)some;
}

static int bio_write(BIO *bio, const char *bytes, int size)
{
    struct tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (size <= 0 || tls->unruly || !out_reserve(tls, (size_t)size))
        return -1;
    memcpy(tls->out + tls->end, bytes, (size_t)size);
    tls->end += (size_t)size;
    return size;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

/* OpenSSL has no limit of its own on TLS 1.3's changes of keys. */
static void on_message(int written, int version, int type, const void *bytes, size_t size, SSL *ssl, void *owner)
{
    struct tls *tls = owner;
    (void)version, (void)ssl;
    if (!written && type == SSL3_RT_HANDSHAKE && size > 0 && *(const uint8_t *)bytes == SSL3_MT_KEY_UPDATE && ++tls->updates > UPDATES_MAX)
        tls->unruly = true;
}

static BIO_METHOD *methods_make(void)
{
    BIO_METHOD *made = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "godwit");
    if (made && BIO_meth_set_read(made, bio_read) && BIO_meth_set_write(made, bio_write) && BIO_meth_set_ctrl(made, bio_control) &&
        BIO_meth_set_create(made, bio_create))
        return made;
    BIO_meth_free(made);
    return NULL;
}

/* ---- what connections share ------------------------------------------------------------------------------------------- */

bool tls_pool_prepare(struct tls_pool *pool)
{
    pool->methods = pool->methods ? pool->methods : methods_make();
    pool->input = pool->input ? pool->input : malloc(TLS_INPUT_SIZE);
    pool->record = pool->record ? pool->record : malloc(TLS_RECORD);
    return pool->methods && pool->input && pool->record;
}

void tls_pool_deinit(struct tls_pool *pool)
{
    BIO_meth_free(pool->methods);
    free(pool->spare);
    free(pool->input);
    free(pool->record);
    *pool = (struct tls_pool){0};
}

/* ---- life ------------------------------------------------------------------------------------------------------------- */

struct tls *tls_over(SSL *ssl, struct tls_pool *pool, void *context)
{
    struct tls *tls = ssl ? calloc(1, sizeof(*tls)) : NULL;
    BIO *bio = tls ? BIO_new(pool->methods) : NULL;
    if (!bio) {
        SSL_free(ssl);
        free(tls);
        ERR_clear_error();
        return NULL;
    }
    *tls = (struct tls){.ssl = ssl, .pool = pool, .context = context};
    BIO_set_data(bio, tls);
    SSL_set_msg_callback(tls->ssl, on_message);
    SSL_set_msg_callback_arg(tls->ssl, tls);
    SSL_set_bio(tls->ssl, bio, bio);
    return tls;
}

struct tls *tls_new(struct tls_keys *keys, struct tls_pool *pool, void *context)
{
    return tls_over(tls_keys_connection(keys), pool, context);
}

void tls_free(struct tls *tls)
{
    if (!tls)
        return;
    SSL_free(tls->ssl);
    out_free(tls);
    free(tls);
}

void *tls_context(const struct tls *tls) { return tls->context; }

/* ---- what comes ------------------------------------------------------------------------------------------------------- */

static const char *reason(int error)
{
    const char *text = error == SSL_ERROR_SSL ? ERR_reason_error_string(ERR_peek_error()) : NULL;
    return text ? text : "the connection broke";
}

/* Who speaks HTTP in the open is told so in the same words; OpenSSL has no alert for that. */
static void answer_plainly(struct tls *tls)
{
    static const char words[] = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 38\r\nconnection: close\r\n\r\nThis port speaks TLS: ask with https.\n";
    if (!out_reserve(tls, sizeof(words) - 1))
        return;
    memcpy(tls->out + tls->end, words, sizeof(words) - 1);
    tls->end += sizeof(words) - 1;
}

enum tls_result tls_open(struct tls *tls, struct bytes sealed, uint8_t *room, size_t size, size_t *got)
{
    *got = 0;
    tls->in = sealed;
    while (!tls->failed && !tls->ended) {
        size_t some = 0;
        ERR_clear_error();
        if (SSL_read_ex(tls->ssl, room + *got, size - *got, &some)) {
            *got += some;
            tls->content += some;
            if (tls->content >= UPDATES_CONTENT)
                tls->updates = 0, tls->content = 0;
            continue;
        }
        int error = SSL_get_error(tls->ssl, 0);
        if (error == SSL_ERROR_WANT_READ)
            break;
        if (error == SSL_ERROR_ZERO_RETURN) {
            tls->ended = true;
        } else {
            tls->failed = true;
            tls->complaint = tls->unruly ? "it has keys changed without end" : reason(error);
            if (error == SSL_ERROR_SSL && ERR_GET_REASON(ERR_peek_error()) == SSL_R_HTTP_REQUEST)
                answer_plainly(tls);
        }
    }
    ERR_clear_error();
    tls->in = (struct bytes){0};
    return tls->failed ? TLS_FAILED : tls->ended ? TLS_ENDED : TLS_OK;
}

const char *tls_complaint(const struct tls *tls) { return tls->complaint ? tls->complaint : "the connection broke"; }
bool tls_is_ready(const struct tls *tls) { return SSL_is_init_finished(tls->ssl) && !tls->failed; }
bool tls_has_ended(const struct tls *tls) { return tls->ended; }

/* ---- what leaves ------------------------------------------------------------------------------------------------------ */

static bool seal(struct tls *tls, const uint8_t *data, size_t size)
{
    while (size > 0) {
        size_t some = 0;
        ERR_clear_error();
        if (!SSL_write_ex(tls->ssl, data, size, &some)) {
            tls->failed = true;
            tls->complaint = reason(SSL_get_error(tls->ssl, 0));
            ERR_clear_error();
            return false;
        }
        data += some;
        size -= some;
    }
    return true;
}

bool tls_seal(struct tls *tls, const struct iovec *iov, unsigned count, size_t *taken)
{
    size_t gathered = 0, sealed = 0;
    *taken = 0;
    if (tls->failed || tls->said_end)
        return false;
    for (unsigned i = 0; i < count && sealed + gathered < SEAL_AT_ONCE; i++) {
        const uint8_t *data = iov[i].iov_base;
        size_t left = iov[i].iov_len;
        while (left > 0 && sealed + gathered < SEAL_AT_ONCE) {
            if (gathered == 0 && left >= TLS_RECORD) {   /* a record of its own */
                if (!seal(tls, data, TLS_RECORD))
                    return false;
                sealed += TLS_RECORD;
                data += TLS_RECORD;
                left -= TLS_RECORD;
                continue;
            }
            size_t some = left < TLS_RECORD - gathered ? left : TLS_RECORD - gathered;
            memcpy(tls->pool->record + gathered, data, some);
            gathered += some;
            data += some;
            left -= some;
            if (gathered == TLS_RECORD) {
                if (!seal(tls, tls->pool->record, gathered))
                    return false;
                sealed += gathered;
                gathered = 0;
            }
        }
    }
    if (gathered && !seal(tls, tls->pool->record, gathered))
        return false;
    *taken = sealed + gathered;
    return true;
}

void tls_say_end(struct tls *tls)
{
    if (tls->said_end || tls->failed || !SSL_is_init_finished(tls->ssl))
        return;
    tls->said_end = true;
    ERR_clear_error();
    SSL_shutdown(tls->ssl);
    ERR_clear_error();
}

struct bytes tls_sealed(const struct tls *tls)
{
    return tls->out ? bytes_of(tls->out + tls->begin, tls->end - tls->begin) : (struct bytes){0};
}

void tls_sent(struct tls *tls, size_t size)
{
    CHECK(size <= tls->end - tls->begin);
    tls->begin += size;
    if (tls->begin == tls->end)
        out_free(tls);
    else
        out_shrink(tls);
}

/* ---- what was agreed on ----------------------------------------------------------------------------------------------- */

const char *tls_version(const struct tls *tls) { return SSL_get_version(tls->ssl); }
const char *tls_cipher(const struct tls *tls) { return SSL_get_cipher_name(tls->ssl); }

bool tls_is_http2(const struct tls *tls)
{
    const unsigned char *name;
    unsigned size;
    SSL_get0_alpn_selected(tls->ssl, &name, &size);
    return size == 2 && memcmp(name, "h2", 2) == 0;
}

void tls_peer_name(const struct tls *tls, char name[TLS_NAME_SIZE])
{
    X509 *certificate = SSL_get0_peer_certificate(tls->ssl);
    name[0] = '\0';
    if (!certificate || SSL_get_verify_result(tls->ssl) != X509_V_OK || !(SSL_get_verify_mode(tls->ssl) & SSL_VERIFY_PEER))
        return;
    const X509_NAME *subject = X509_get_subject_name(certificate);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    /* Two names would be a choice, which is not ours to make. */
    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
        return;
    unsigned char *text = NULL;
    int size = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    if (size > 0 && (unsigned)size < TLS_NAME_SIZE && !memchr(text, '\0', (size_t)size)) {
        memcpy(name, text, (size_t)size);
        name[size] = '\0';
    }
    OPENSSL_free(text);
    ERR_clear_error();
}
