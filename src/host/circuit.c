#include "host/circuit.h"

#include "runtime/outbound.h"
#include "runtime/tls_client.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

struct circuit {
    struct circuit_events events;
    struct uv_loop_s *loop;
    struct line *line;
    struct outbound *outbound;           /* NULL: no connection is there or wanted */
    struct ssl_ctx_st *tls;              /* of the connection; NULL: it is in the open */
    char *ca_file;                       /* NULL: none */
    bool ca_beside;
    bool connected;
    char dial_failed[300];               /* why there is not even an attempt; empty: there is */
    bool is_paused;
};

uint64_t circuit_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

struct line *circuit_line(struct circuit *circuit) { return circuit->line; }

/* ---- the connection ----------------------------------------------------------------------------------------------------------- */

static void hang_up(struct circuit *circuit)
{
    outbound_free(circuit->outbound);
    tls_client_free(circuit->tls);
    circuit->outbound = NULL;
    circuit->tls = NULL;
    circuit->connected = false;
}

static void on_connected(void *owner)
{
    struct circuit *circuit = owner;
    circuit->connected = true;
    line_connected(circuit->line, circuit_now_ms());
    circuit->events.wanted(circuit->events.owner);
}

/* Of a connection that was there the line hangs up in its turn. */
static void on_failed(void *owner, const char *why)
{
    struct circuit *circuit = owner;
    if (circuit->connected) {
        line_lost(circuit->line, why, circuit_now_ms());
    } else {
        line_unreachable(circuit->line, why ? why : "the connection was refused", circuit_now_ms());
        hang_up(circuit);
    }
    circuit->events.wanted(circuit->events.owner);
}

static void on_came(void *owner, struct bytes bytes)
{
    struct circuit *circuit = owner;
    line_feed(circuit->line, bytes, circuit_now_ms());
    circuit->events.wanted(circuit->events.owner);
}

static void on_room(void *owner)
{
    const struct circuit *circuit = owner;
    circuit->events.wanted(circuit->events.owner);
}

static const char *on_address(void *owner, const struct sockaddr *address)
{
    const struct circuit *circuit = owner;
    return circuit->events.refusal ? circuit->events.refusal(circuit->events.owner, address) : NULL;
}

/* ---- what the line wants ------------------------------------------------------------------------------------------------------ */

static struct ssl_ctx_st *open_tls(const struct uri *uri, const char *ca_file, bool ca_beside, char *why, size_t size)
{
    bool is_more = ca_file && ca_beside && !uri->ca[0];
    struct ssl_ctx_st *tls = tls_client_open(uri->ca[0] ? uri->ca : is_more ? NULL : ca_file, uri->trusts_anybody, why, size);
    if (!tls || !is_more || tls_client_trust(tls, ca_file, why, size))
        return tls;
    tls_client_free(tls);
    return NULL;
}

/* The authorities are read for each connection: they may have been renewed. The line is told in circuit_turn of what failed here, as it may not be told in the middle of what it asks. */
static void on_dial(void *owner, const struct uri *uri)
{
    struct circuit *circuit = owner;
    if (uri->tls && !(circuit->tls = open_tls(uri, circuit->ca_file, circuit->ca_beside, circuit->dial_failed, sizeof(circuit->dial_failed))))
        return;
    const struct outbound_settings settings = {.loop = circuit->loop, .host = uri->host, .port = uri->port, .tls = circuit->tls, .refusal = on_address};
    const struct outbound_events events = {circuit, on_connected, on_failed, on_came, on_room};
    circuit->outbound = outbound_new(&settings, &events);
    if (circuit->outbound) {
        outbound_pause(circuit->outbound, circuit->is_paused);
        return;
    }
    snprintf(circuit->dial_failed, sizeof(circuit->dial_failed), "out of memory or descriptors");
    hang_up(circuit);
}

static void on_hang_up(void *owner)
{
    struct circuit *circuit = owner;
    struct bytes last = line_output(circuit->line);
    if (circuit->connected && last.size)
        (void)outbound_write(circuit->outbound, last);   /* A courtesy: that its goodbye was heard. */
    hang_up(circuit);
}

static void on_told(void *owner, uint64_t ticket, enum line_verdict verdict)
{
    const struct circuit *circuit = owner;
    if (circuit->events.told)
        circuit->events.told(circuit->events.owner, ticket, verdict);
}

static bool on_delivered(void *owner, void *context, struct line_delivery *delivery)
{
    const struct circuit *circuit = owner;
    return circuit->events.delivered && circuit->events.delivered(circuit->events.owner, context, delivery);
}

static void on_lost(void *owner, void *context)
{
    const struct circuit *circuit = owner;
    if (circuit->events.lost)
        circuit->events.lost(circuit->events.owner, context);
}

static void on_notice(void *owner, enum line_level level, const char *sentence)
{
    const struct circuit *circuit = owner;
    circuit->events.notice(circuit->events.owner, level, sentence);
}

/* ---- what its owner asks ------------------------------------------------------------------------------------------------------- */

struct circuit *circuit_open(const struct circuit_settings *settings, const struct circuit_events *events)
{
    struct line_settings line = *settings->line;
    struct circuit *circuit = calloc(1, sizeof(*circuit));
    if (!circuit)
        return NULL;
    circuit->events = *events;
    circuit->loop = settings->loop;
    line.now_ms = circuit_now_ms();
    if (getrandom(&line.seed, sizeof(line.seed), 0) != (ssize_t)sizeof(line.seed))
        line.seed = line.now_ms;
    circuit->ca_beside = settings->ca_beside;
    if (settings->ca_file && !(circuit->ca_file = strdup(settings->ca_file))) {
        free(circuit);
        return NULL;
    }
    const struct line_events line_events = {circuit, on_dial, on_hang_up, on_told, on_delivered, on_lost, on_notice};
    circuit->line = line_new(&line, &line_events);
    if (circuit->line)
        return circuit;
    free(circuit->ca_file);
    free(circuit);
    return NULL;
}

/* True: all of it. */
static bool write_output(struct circuit *circuit, uint64_t now_ms)
{
    for (struct bytes out; circuit->connected && (out = line_output(circuit->line)).size;) {
        size_t size = outbound_write(circuit->outbound, out);
        line_sent(circuit->line, size, now_ms);
        if (size < out.size)
            return false;
    }
    return true;
}

bool circuit_turn(struct circuit *circuit)
{
    uint64_t now_ms = circuit_now_ms();
    if (circuit->is_paused)
        line_unheard(circuit->line, now_ms);
    line_turn(circuit->line, now_ms);
    if (circuit->dial_failed[0]) {
        line_unreachable(circuit->line, circuit->dial_failed, now_ms);
        circuit->dial_failed[0] = 0;
    }
    return write_output(circuit, now_ms);
}

void circuit_pause(struct circuit *circuit, bool paused)
{
    circuit->is_paused = paused;
    if (circuit->outbound)
        outbound_pause(circuit->outbound, paused);
}

void circuit_wait(struct circuit *circuit, int timeout_ms)
{
    if (circuit->outbound)
        outbound_wait(circuit->outbound, timeout_ms);
    else
        (void)poll(NULL, 0, timeout_ms);
}

void circuit_close(struct circuit *circuit)
{
    if (!circuit)
        return;
    line_free(circuit->line);
    hang_up(circuit);
    free(circuit->ca_file);
    free(circuit);
}

void circuit_forked(struct circuit *circuit)
{
    if (circuit->outbound)
        outbound_forked(circuit->outbound);
}

const char *circuit_complaint(const struct uri *uri, const char *ca_file, char *why, size_t size)
{
    struct ssl_ctx_st *tls = uri->tls ? open_tls(uri, ca_file, false, why, size) : NULL;
    const char *complaint = uri->tls && !tls ? why : NULL;
    tls_client_free(tls);
    return complaint;
}
