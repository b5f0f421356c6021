/* Connections with TLS on the loopback: an echo service, OpenSSL as its client, and peers that behave badly. */
#include "runtime/listener.h"
#include "runtime/reactor.h"
#include "runtime/tls_keys.h"

#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <signal.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define OUT_LIMIT (1u << 20)

static char directory[] = "/tmp/godwit-tls-XXXXXX";

/* ---- certificates ----------------------------------------------------------------------------------------------------- */

static const char *path(const char *name)
{
    static char paths[8][96];
    static unsigned next;
    char *made = paths[next++ % 8];
    snprintf(made, sizeof(paths[0]), "%s/%s", directory, name);
    return made;
}

static FILE *create(const char *name)
{
    FILE *file = fopen(path(name), "w");
    assert_non_null(file);
    assert_int_equal(fchmod(fileno(file), 0600), 0);
    return file;
}

/* A certificate NAME.pem for `subject` with its key NAME.key, signed by `issuer` or by itself. */
static X509 *certify(const char *name, const char *subject, X509 *issuer, EVP_PKEY *issuer_key, EVP_PKEY **key, int days)
{
    char file_name[64];
    X509 *made = X509_new();
    *key = EVP_EC_gen("P-256");
    X509_set_version(made, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made), 7 + (long)strlen(subject));
    X509_gmtime_adj(X509_getm_notBefore(made), -3600 * 24 * 2);
    X509_gmtime_adj(X509_getm_notAfter(made), 3600 * 24 * days);
    X509_set_pubkey(made, *key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made), "CN", MBSTRING_UTF8, (const unsigned char *)subject, -1, -1, 0);
    X509_set_issuer_name(made, X509_get_subject_name(issuer ? issuer : made));
    if (!issuer)
        X509_add1_ext_i2d(made, NID_basic_constraints, &(BASIC_CONSTRAINTS){.ca = 1}, 1, 0);
    assert_true(X509_sign(made, issuer ? issuer_key : *key, EVP_sha256()) > 0);
    snprintf(file_name, sizeof(file_name), "%s.pem", name);
    FILE *file = create(file_name);
    PEM_write_X509(file, made);
    fclose(file);
    snprintf(file_name, sizeof(file_name), "%s.key", name);
    file = create(file_name);
    PEM_write_PrivateKey(file, *key, NULL, NULL, 0, NULL, NULL);
    fclose(file);
    return made;
}

static int make_certificates(void **state)
{
    (void)state;
    EVP_PKEY *ca_key, *key;
    assert_non_null(mkdtemp(directory));
    X509 *ca = certify("ca", "authority", NULL, NULL, &ca_key, 30);
    static const struct { const char *name, *subject; int days; } rows[] = {{"server", "localhost", 30}, {"renewed", "renewed", 30}, {"client", "carol", 30}, {"old", "old", -1}};
    for (unsigned i = 0; i < 4; i++) {
        X509_free(certify(rows[i].name, rows[i].subject, ca, ca_key, &key, rows[i].days));
        EVP_PKEY_free(key);
    }
    X509_free(certify("stranger", "carol", NULL, NULL, &key, 30));
    FILE *file = create("locked.key");
    PEM_write_PrivateKey(file, key, EVP_aes_128_cbc(), NULL, 0, NULL, (void *)(uintptr_t)"secret");
    fclose(file);
    EVP_PKEY_free(key);
    EVP_PKEY_free(ca_key);
    X509_free(ca);
    return 0;
}

static int remove_certificates(void **state)
{
    char command[64];
    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command);
}

struct told {
    struct alarm_sink sink;
    char text[600];
};

static void on_alarm(struct alarm_sink *sink, enum alarm_level level, const char *text)
{
    (void)level;
    snprintf(((struct told *)sink)->text, sizeof(((struct told *)sink)->text), "%s", text);
}

static struct tls_keys *keys_of(const char *name, enum tls_verify verify, const char *protocols)
{
    char why[512], certificate[64], key[64];
    snprintf(certificate, sizeof(certificate), "%s.pem", name);
    snprintf(key, sizeof(key), "%s.key", name);
    struct tls_keys *keys = tls_keys_open(&(struct tls_settings){.certificate = path(certificate), .key = path(key), .ca = path("ca.pem"), .verify = verify,
                                                                 .protocols = protocols}, NULL, why, sizeof(why));
    assert_non_null(keys);
    return keys;
}

/* ---- the service ------------------------------------------------------------------------------------------------------ */

struct server {
    struct reactor *reactor;
    struct tls_keys *keys;
    struct sockaddr_in address;
    struct told told;
    atomic_bool stop;
    atomic_uint accepted, ends[4];
    size_t finish_after;              /* bytes echoed; 0: never */
    bool narrow;                      /* its clients take little before they read */
    char name[256], version[16];
    bool is_http2;
};

struct echo {
    struct server *server;
    struct connection *connection;
    uint8_t out[OUT_LIMIT];
    size_t size, echoed;
};

static void *accepted(void *owner, struct connection *connection)
{
    struct server *s = owner;
    struct connection_tls tls;
    struct echo *e = calloc(1, sizeof(*e));
    e->server = s;
    e->connection = connection;
    assert_true(connection_tls(connection, &tls));
    snprintf(s->name, sizeof(s->name), "%s", tls.peer_name);
    snprintf(s->version, sizeof(s->version), "%s", tls.version);
    s->is_http2 = tls.is_http2;
    atomic_fetch_add(&s->accepted, 1);
    return e;
}

static size_t received(void *session, struct bytes input)
{
    struct echo *e = session;
    size_t take = input.size < OUT_LIMIT - e->size ? input.size : OUT_LIMIT - e->size;
    memcpy(e->out + e->size, input.data, take);
    e->size += take;
    if (take < input.size)
        connection_pause(e->connection);
    connection_has_output(e->connection);
    return take;
}

static unsigned output(void *session, struct iovec *iov, unsigned room)
{
    struct echo *e = session;
    unsigned count = 0;
    size_t piece = e->size / 400 + 1;
    for (size_t at = 0; at < e->size && count < room; at += piece)
        iov[count++] = (struct iovec){e->out + at, at + piece < e->size ? piece : e->size - at};
    return count;
}

static void sent(void *session, size_t size)
{
    struct echo *e = session;
    memmove(e->out, e->out + size, e->size - size);
    e->size -= size;
    e->echoed += size;
    connection_resume(e->connection);
    if (e->server->finish_after && e->echoed >= e->server->finish_after)
        connection_finish(e->connection);
}

static void closed(void *session, enum connection_end end)
{
    struct echo *e = session;
    atomic_fetch_add(&e->server->ends[end], 1);
    free(e);
}

static const struct connection_events events = {.accepted = accepted, .received = received, .output = output, .sent = sent, .closed = closed};

static uint64_t turn(void *owner, uint64_t now_us)
{
    struct server *s = owner;
    if (atomic_load(&s->stop))
        reactor_stop(s->reactor);
    return now_us + 10000000;
}

static struct server *server_start(struct tls_keys *keys)
{
    struct server *s = calloc(1, sizeof(*s));
    s->keys = keys;
    s->told.sink.raise = on_alarm;
    s->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    assert_int_equal(listener_probe((struct sockaddr *)&s->address), GW_OK);
    s->reactor = reactor_new(&(struct reactor_config){.turn = turn, .owner = s, .linger_ms = 500, .handshake_ms = 400, .alarms = &s->told.sink});
    assert_int_equal(reactor_listen_sealed(s->reactor, (struct sockaddr *)&s->address, keys, &events, s), GW_OK);
    assert_int_equal(reactor_start(s->reactor), GW_OK);
    return s;
}

static void server_stop(struct server *s)
{
    unsigned ends = 0;
    atomic_store(&s->stop, true);
    reactor_wake(s->reactor);
    reactor_join(s->reactor);
    assert_int_equal(reactor_connections(s->reactor), 0);
    reactor_free(s->reactor);
    for (unsigned i = 0; i < 4; i++)
        ends += atomic_load(&s->ends[i]);
    assert_int_equal(ends, atomic_load(&s->accepted));
    tls_keys_free(s->keys);
    free(s);
}

static void wait_until(atomic_uint *value, unsigned wanted)
{
    for (unsigned i = 0; i < 5000 && atomic_load(value) < wanted; i++)
        usleep(1000);
    assert_int_equal(atomic_load(value), wanted);
}

/* ---- clients ---------------------------------------------------------------------------------------------------------- */

static int dial(const struct server *s)
{
    int c = socket(AF_INET, SOCK_STREAM, 0), few = 4096;
    struct timeval limit = {.tv_sec = 10};
    if (s->narrow)
        setsockopt(c, SOL_SOCKET, SO_RCVBUF, &few, sizeof(few));
    assert_int_equal(connect(c, (const struct sockaddr *)&s->address, sizeof(s->address)), 0);
    setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return c;
}

struct client {
    SSL_CTX *context;
    SSL *ssl;
    int socket;
};

/* `name`: whose certificate it shows; NULL: none. */
static struct client client_new(const struct server *s, int version, const char *name)
{
    struct client c = {.context = SSL_CTX_new(TLS_client_method()), .socket = dial(s)};
    char file[64];
    SSL_CTX_set_min_proto_version(c.context, version);
    SSL_CTX_set_max_proto_version(c.context, version);
    SSL_CTX_load_verify_file(c.context, path("ca.pem"));
    SSL_CTX_set_verify(c.context, SSL_VERIFY_PEER, NULL);
    if (name) {
        snprintf(file, sizeof(file), "%s.pem", name);
        assert_int_equal(SSL_CTX_use_certificate_file(c.context, path(file), SSL_FILETYPE_PEM), 1);
        snprintf(file, sizeof(file), "%s.key", name);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(c.context, path(file), SSL_FILETYPE_PEM), 1);
    }
    c.ssl = SSL_new(c.context);
    SSL_set_fd(c.ssl, c.socket);
    return c;
}

static void client_free(struct client *c)
{
    close(c->socket);
    SSL_free(c->ssl);
    SSL_CTX_free(c->context);
    ERR_clear_error();
}

static void say(struct client *c, const char *text)
{
    char heard[64];
    int size = (int)strlen(text), got = 0;
    assert_int_equal(SSL_write(c->ssl, text, size), size);
    while (got < size) {
        int some = SSL_read(c->ssl, heard + got, size - got);
        assert_true(some > 0);
        got += some;
    }
    assert_memory_equal(heard, text, (size_t)size);
}

/* Is the socket closed, whatever alert comes before that? */
static void expect_end(int c)
{
    uint8_t bytes[256];
    ssize_t got;
    while ((got = recv(c, bytes, sizeof(bytes), 0)) > 0)
        ;
    assert_true(got == 0 || errno == ECONNRESET);
}

/* ---- stories ---------------------------------------------------------------------------------------------------------- */

/* Sends `size` bytes in pieces and reads the echo meanwhile. */
static void converse(struct client *c, size_t size, size_t piece, unsigned pause_us)
{
    uint8_t *out = malloc(size), *in = malloc(65536);
    size_t sent_size = 0, got_size = 0;
    for (size_t i = 0; i < size; i++)
        out[i] = (uint8_t)(i * 7 + i / 253);
    SSL_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    while (got_size < size) {
        if (sent_size < size && sent_size - got_size < 600000) {
            int n = SSL_write(c->ssl, out + sent_size, (int)(size - sent_size < piece ? size - sent_size : piece));
            assert_true(n > 0);
            sent_size += (size_t)n;
            struct pollfd ready = {c->socket, POLLIN, 0};
            if (sent_size < size && !SSL_pending(c->ssl) && poll(&ready, 1, 0) == 0)
                continue;
        }
        usleep(pause_us);
        int n = SSL_read(c->ssl, in, 65536);
        assert_true(n > 0);
        assert_memory_equal(in, out + got_size, (size_t)n);
        got_size += (size_t)n;
    }
    free(out);
    free(in);
}

static void it_echoes(void **state)
{
    (void)state;
    const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    for (unsigned i = 0; i < 2; i++) {
        struct server *s = server_start(keys_of("server", TLS_VERIFY_NONE, NULL));
        struct client c = client_new(s, versions[i], NULL);
        assert_int_equal(SSL_connect(c.ssl), 1);
        assert_int_equal(SSL_session_reused(c.ssl), 0);
        say(&c, "hello");
        assert_string_equal(s->version, i ? "TLSv1.3" : "TLSv1.2");
        converse(&c, 8u << 20, 1u << 20, 0);
        converse(&c, 5000, 1, 0);
        converse(&c, 1u << 20, 5000, 50);
        /* It is told that it is over, and tells so. */
        SSL_shutdown(c.ssl);
        assert_int_equal(SSL_shutdown(c.ssl), 1);
        wait_until(&s->ends[CONNECTION_FINISHED], 1);
        client_free(&c);
        server_stop(s);
    }
}

static void a_reader_who_stops_is_waited_for(void **state)
{
    (void)state;
    struct server *s = server_start(keys_of("server", TLS_VERIFY_NONE, NULL));
    struct client c = client_new(s, TLS1_3_VERSION, NULL);
    static uint8_t data[16384], heard[16384];
    size_t sent_size = 0, got_size = 0;
    assert_int_equal(SSL_connect(c.ssl), 1);
    /* Until nothing goes in any more: the service reads no further, and holds a bounded amount. */
    struct timeval limit = {.tv_usec = 300000};
    setsockopt(c.socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    int n = 1;
    while (sent_size < (256u << 20) && (n = SSL_write(c.ssl, data, sizeof(data))) > 0)
        sent_size += (size_t)n;
    assert_true(n <= 0 && sent_size < (64u << 20));
    while (got_size < sent_size) {
        n = SSL_read(c.ssl, heard, sizeof(heard));
        assert_true(n > 0);
        got_size += (size_t)n;
    }
    client_free(&c);
    server_stop(s);
}

static void who_speaks_no_tls_is_sent_away(void **state)
{
    (void)state;
    static const char *const words[] = {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "AMQP\x01\x01\x08\x09", "\x16\x03\x01\xff\xff\x01\xff\xff\xff", "\x15\x03\x01\x00\x02\x02\x28"};
    static const size_t sizes[] = {35, 8, 9, 7};
    struct server *s = server_start(keys_of("server", TLS_VERIFY_NONE, NULL));
    for (unsigned i = 0; i < 4; i++) {
        int c = dial(s);
        assert_int_equal(send(c, words[i], sizes[i], 0), sizes[i]);
        expect_end(c);
        close(c);
    }
    /* Nobody waits for ever for the rest, either. */
    int half = dial(s), silent = dial(s);
    assert_int_equal(send(half, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11, 0), 11);
    expect_end(half);
    expect_end(silent);
    close(half);
    close(silent);
    struct client old = client_new(s, TLS1_1_VERSION, NULL);
    SSL_set_cipher_list(old.ssl, "ALL:@SECLEVEL=0");
    assert_true(SSL_connect(old.ssl) <= 0);
    client_free(&old);
    assert_int_equal(atomic_load(&s->accepted), 0);
    server_stop(s);
}

static void an_end_that_is_not_said_is_a_loss(void **state)
{
    (void)state;
    struct server *s = server_start(keys_of("server", TLS_VERIFY_NONE, NULL));
    struct client c = client_new(s, TLS1_3_VERSION, NULL);
    assert_int_equal(SSL_connect(c.ssl), 1);
    say(&c, "one");
    client_free(&c);
    wait_until(&s->ends[CONNECTION_LOST], 1);
    /* Half a record, then the end. */
    c = client_new(s, TLS1_3_VERSION, NULL);
    assert_int_equal(SSL_connect(c.ssl), 1);
    say(&c, "two");
    assert_int_equal(send(c.socket, "\x17\x03\x03\x01\x00half", 9, 0), 9);
    client_free(&c);
    wait_until(&s->ends[CONNECTION_LOST], 2);
    server_stop(s);
}

static void a_record_that_was_changed_ends_it(void **state)
{
    (void)state;
    struct server *s = server_start(keys_of("server", TLS_VERIFY_NONE, NULL));
    struct client c = client_new(s, TLS1_3_VERSION, NULL);
    char byte;
    assert_int_equal(SSL_connect(c.ssl), 1);
    say(&c, "before");
    assert_int_equal(send(c.socket, "\x17\x03\x03\x00\x18" "012345678901234567890123", 29, 0), 29);
    /* An alert says so. */
    assert_true(SSL_read(c.ssl, &byte, 1) <= 0);
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_AD_BAD_RECORD_MAC + SSL_AD_REASON_OFFSET);
    wait_until(&s->ends[CONNECTION_FINISHED], 1);
    client_free(&c);
    server_stop(s);
}

static void the_service_says_its_end(void **state)
{
    (void)state;
    struct server *s = server_start(keys_of("server", TLS_VERIFY_NONE, NULL));
    struct client c = client_new(s, TLS1_3_VERSION, NULL);
    char byte;
    s->finish_after = 5;
    assert_int_equal(SSL_connect(c.ssl), 1);
    say(&c, "hello");
    assert_int_equal(SSL_read(c.ssl, &byte, 1), 0);
    assert_true(SSL_get_shutdown(c.ssl) & SSL_RECEIVED_SHUTDOWN);
    client_free(&c);
    server_stop(s);
}

static void nothing_is_agreed_on_twice(void **state)
{
    (void)state;
    struct server *s = server_start(keys_of("server", TLS_VERIFY_NONE, NULL));
    struct client c = client_new(s, TLS1_2_VERSION, NULL);
    assert_int_equal(SSL_connect(c.ssl), 1);
    say(&c, "first");
    SSL_renegotiate(c.ssl);
    assert_true(SSL_do_handshake(c.ssl) <= 0);
    client_free(&c);
    /* Keys that are to be changed again and again, by one who does not read the answers. */
    s->narrow = true;
    c = client_new(s, TLS1_3_VERSION, NULL);
    assert_int_equal(SSL_connect(c.ssl), 1);
    say(&c, "first");
    SSL_key_update(c.ssl, SSL_KEY_UPDATE_REQUESTED);
    say(&c, "second");
    for (unsigned i = 0; i < 100; i++)   /* as many as one may */
        if (i % 20 == 0)
            converse(&c, 100000, 50000, 0);
        else
            assert_true(SSL_key_update(c.ssl, SSL_KEY_UPDATE_REQUESTED) == 1 && SSL_do_handshake(c.ssl) == 1);
    say(&c, "third");
    bool gone = false;
    for (unsigned i = 0; i < 100000 && !gone; i++)
        gone = SSL_key_update(c.ssl, SSL_KEY_UPDATE_REQUESTED) != 1 || SSL_do_handshake(c.ssl) <= 0;
    assert_true(gone);
    client_free(&c);
    wait_until(&s->accepted, 2);
    server_stop(s);
}

static void alpn_is_chosen_or_refused(void **state)
{
    (void)state;
    static const struct { const char *offer; unsigned size; const char *chosen; } rows[] = {
        {"\x08http/1.1\x02h2", 12, "h2"}, {"\x08http/1.1", 9, "http/1.1"}, {"\x03xyz", 4, NULL}, {NULL, 0, ""}};
    struct server *s = server_start(keys_of("server", TLS_VERIFY_NONE, "h2,http/1.1"));
    unsigned accepted = 0;
    for (unsigned i = 0; i < 4; i++) {
        struct client c = client_new(s, TLS1_3_VERSION, NULL);
        const unsigned char *chosen;
        unsigned size;
        if (rows[i].offer)
            SSL_set_alpn_protos(c.ssl, (const unsigned char *)rows[i].offer, rows[i].size);
        assert_int_equal(SSL_connect(c.ssl) == 1, rows[i].chosen != NULL);
        SSL_get0_alpn_selected(c.ssl, &chosen, &size);
        if (rows[i].chosen) {
            assert_int_equal(size, strlen(rows[i].chosen));
            assert_true(size == 0 || memcmp(chosen, rows[i].chosen, size) == 0);
            wait_until(&s->accepted, ++accepted);
            assert_true(s->is_http2 == (strcmp(rows[i].chosen, "h2") == 0));
        }
        client_free(&c);
    }
    server_stop(s);
}

static void clients_show_certificates(void **state)
{
    (void)state;
    static const struct { enum tls_verify verify; const char *name; bool enters; const char *known; } rows[] = {
        {TLS_VERIFY_NONE, "client", true, ""}, {TLS_VERIFY_OPTIONAL, NULL, true, ""}, {TLS_VERIFY_OPTIONAL, "client", true, "carol"},
        {TLS_VERIFY_OPTIONAL, "stranger", false, ""}, {TLS_VERIFY_REQUIRED, NULL, false, ""}, {TLS_VERIFY_REQUIRED, "client", true, "carol"},
        {TLS_VERIFY_REQUIRED, "old", false, ""}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct server *s = server_start(keys_of("server", rows[i].verify, NULL));
        struct client c = client_new(s, TLS1_3_VERSION, rows[i].name);
        char byte;
        assert_int_equal(SSL_connect(c.ssl), 1);
        if (rows[i].enters) {
            say(&c, "hello");
            assert_string_equal(s->name, rows[i].known);
        } else {
            assert_true(SSL_read(c.ssl, &byte, 1) <= 0);
            assert_int_equal(atomic_load(&s->accepted), 0);
        }
        client_free(&c);
        server_stop(s);
    }
}

static void copy(const char *from, const char *to)
{
    char command[256];
    snprintf(command, sizeof(command), "cp %s %s", path(from), path(to));
    assert_int_equal(system(command), 0);
}

static void expect_subject(const struct server *s, const char *subject)
{
    struct client c = client_new(s, TLS1_3_VERSION, NULL);
    char name[64];
    assert_int_equal(SSL_connect(c.ssl), 1);
    X509_NAME_get_text_by_NID(X509_get_subject_name(SSL_get0_peer_certificate(c.ssl)), NID_commonName, name, sizeof(name));
    assert_string_equal(name, subject);
    client_free(&c);
}

static void certificates_are_renewed(void **state)
{
    (void)state;
    char why[512];
    copy("server.pem", "live.pem");
    copy("server.key", "live.key");
    struct server *s = server_start(keys_of("live", TLS_VERIFY_NONE, NULL));
    struct client early = client_new(s, TLS1_3_VERSION, NULL);
    assert_int_equal(SSL_connect(early.ssl), 1);
    copy("renewed.pem", "live.pem");
    /* Half of it: the old one stays. */
    assert_false(tls_keys_reload(s->keys, NULL, why, sizeof(why)));
    assert_non_null(strstr(why, "is not that of the certificate"));
    expect_subject(s, "localhost");
    copy("renewed.key", "live.key");
    assert_true(tls_keys_reload(s->keys, NULL, why, sizeof(why)));
    expect_subject(s, "renewed");
    say(&early, "still here");
    client_free(&early);
    server_stop(s);
}

static void bad_files_are_refused(void **state)
{
    (void)state;
    static const struct { const char *certificate, *key, *ca; enum tls_verify verify; const char *why; } rows[] = {
        {"none.pem", "server.key", "ca.pem", TLS_VERIFY_NONE, "No such file"}, {"server.pem", "none.key", "ca.pem", TLS_VERIFY_NONE, "No such file"},
        {"server.key", "server.key", "ca.pem", TLS_VERIFY_NONE, "the certificate"}, {"server.pem", "server.pem", "ca.pem", TLS_VERIFY_NONE, "the key"},
        {"server.pem", "client.key", "ca.pem", TLS_VERIFY_NONE, "is not that of the certificate"}, {"server.pem", "locked.key", "ca.pem", TLS_VERIFY_NONE, "must not be encrypted"},
        {"server.pem", "server.key", "server.key", TLS_VERIFY_REQUIRED, "the authorities"}, {"server.pem", "server.key", "none", TLS_VERIFY_OPTIONAL, "No such file"},
        {"server.pem", "server.key", NULL, TLS_VERIFY_OPTIONAL, "no authorities"}, {".", "server.key", NULL, TLS_VERIFY_NONE, "it is no file"}};
    char why[512];
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct tls_settings settings = {.certificate = path(rows[i].certificate), .key = path(rows[i].key), .ca = rows[i].ca ? path(rows[i].ca) : NULL,
                                              .verify = rows[i].verify};
        assert_null(tls_keys_open(&settings, NULL, why, sizeof(why)));
        if (!strstr(why, rows[i].why))
            fail_msg("'%s' does not say '%s'", why, rows[i].why);
    }
    struct told told = {.sink = {.raise = on_alarm}};
    const struct tls_settings expired = {.certificate = path("old.pem"), .key = path("old.key")}, open = {.certificate = path("server.pem"), .key = path("server.key")};
    tls_keys_free(tls_keys_open(&expired, &told.sink, why, sizeof(why)));
    assert_non_null(strstr(told.text, "has expired"));
    assert_int_equal(chmod(path("server.key"), 0644), 0);
    tls_keys_free(tls_keys_open(&open, &told.sink, why, sizeof(why)));
    assert_non_null(strstr(told.text, "everybody on this machine may read the key"));
    assert_int_equal(chmod(path("server.key"), 0600), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_echoes),
        cmocka_unit_test(a_reader_who_stops_is_waited_for),
        cmocka_unit_test(who_speaks_no_tls_is_sent_away),
        cmocka_unit_test(an_end_that_is_not_said_is_a_loss),
        cmocka_unit_test(a_record_that_was_changed_ends_it),
        cmocka_unit_test(the_service_says_its_end),
        cmocka_unit_test(nothing_is_agreed_on_twice),
        cmocka_unit_test(alpn_is_chosen_or_refused),
        cmocka_unit_test(clients_show_certificates),
        cmocka_unit_test(certificates_are_renewed),
        cmocka_unit_test(bad_files_are_refused),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
