#include "server/serve.h"

#include "host/host.h"
#include "runtime/listener.h"
#include "runtime/signals.h"
#include "runtime/tls_keys.h"
#include "server/address.h"
#include "server/config.h"
#include "server/log.h"
#include "server/notify.h"
#include "server/service.h"
#include "server/sources.h"
#include "server/visitors.h"
#include "server/webhooks.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#define REACTORS_MAX 64u
#define DESCRIPTORS_FOR_FILES 512u   /* kept from connections where there are many */
#define DEFINITIONS_MAX (64u << 20)   /* bytes of the file that --load-definitions names */

extern char **environ;

/* A protocol and where it is listened for. */
enum { DOOR_AMQP, DOOR_HTTP, DOOR_AMQPS, DOOR_HTTPS, DOOR_COUNT };
struct door {
    struct address_list addresses;   /* none: not at all */
    struct tls_keys *keys;           /* NULL: in the open */
};
/* "amqp", "--amqp-port", where its port is in the configuration, what it offers by ALPN where there is TLS. */
static const struct door_kind {
    const char *scheme, *option;
    size_t port;
    const struct connection_events *events;
    bool sealed;
    const char *protocols;
} door_kinds[DOOR_COUNT] = {
    [DOOR_AMQP] = {"amqp", "--amqp-port", offsetof(struct config, amqp_port), &service_amqp_events, false, NULL},
    [DOOR_HTTP] = {"http", "--http-port", offsetof(struct config, http_port), &service_http_events, false, NULL},
    [DOOR_AMQPS] = {"amqps", "--amqps-port", offsetof(struct config, amqps_port), &service_amqp_events, true, NULL},
    [DOOR_HTTPS] = {"https", "--https-port", offsetof(struct config, https_port), &service_http_events, true, "h2,http/1.1"},
};

struct server {
    struct config config;
    struct log_lines log;
    struct door doors[DOOR_COUNT];
    uint16_t taken_port;   /* of HTTP, which is off because of that; 0: it is not */
    struct host *host;
    struct session_config session_config;
    struct gateway_config gateway_config;
    struct visitors *visitors;
    struct gateway_users users;
    struct webhook_networks networks;
    struct connection_budget budget;
    struct shutdown shutdown;
    struct service services[REACTORS_MAX];
    char *definitions;    /* the text of what --load-definitions names, until the broker is open */
    size_t definitions_size;
    struct signals *signals;
    unsigned count;       /* reactors */
    unsigned started;     /* of their threads; the first reactor runs on ours */
};

/* One line for the operator, on an error that keeps the server from running. */
__attribute__((format(printf, 1, 2)))
static void complain(const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    /* What a damaged file says may be in it, and it is to stay one line. */
    for (char *c = text; *c; c++) {
        if ((unsigned char)*c < ' ')
            *c = '?';
    }
    fprintf(stderr, "godwit serve: %s\n", text);
}

static const char *data_dir(const struct config *config)
{
    if (config->data_dir)
        return config->data_dir;
    return geteuid() == 0 && (getenv("INVOCATION_ID") || getenv("NOTIFY_SOCKET")) ? "/var/lib/godwit" : "./godwit-data";
}

/* ---- Limits ---- */

static void set_budget(struct server *server)
{
    struct rlimit limit = {1024, 1024};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        getrlimit(RLIMIT_NOFILE, &limit);
    }
    uint64_t descriptors = limit.rlim_cur < 10000000 ? limit.rlim_cur : 10000000;
    uint64_t files = descriptors > 2 * DESCRIPTORS_FOR_FILES ? DESCRIPTORS_FOR_FILES : descriptors / 2;
    uint64_t most = descriptors - files;
    if (server->config.max_connections > most)
        alarm_raise(&server->log.sink, ALARM_WARNING, "max_connections is cut to %" PRIu64 ": only %" PRIu64 " files may be open (ulimit -n)", most,
                    descriptors);
    if (server->config.max_connections > 0 && server->config.max_connections < most)
        most = server->config.max_connections;
    server->budget.limit = (unsigned)most;
}

static void set_protocol_config(struct server *server)
{
    const struct config *config = &server->config;
    server->session_config = session_config_default;
    server->session_config.frame_max = (uint32_t)config->frame_max;
    server->session_config.channel_max = (uint16_t)config->channel_max;
    server->session_config.heartbeat_s = (uint16_t)config->heartbeat_s;
    server->session_config.max_message_size = config->max_message_size;
    server->session_config.consumer_timeout_ms = config->consumer_timeout_ms;
    server->session_config.version = GODWIT_VERSION;
    server->gateway_config = gateway_config_default;
    server->gateway_config.max_message_size = config->max_message_size;
    server->gateway_config.origins = config->http_origins;
    server->gateway_config.no_guest = strcmp(config->http_guest, "off") == 0;
}

/* ---- Who comes how often ---- */

static struct rate *user_enters(void *owner, struct bytes user, uint64_t now_us)
{
    struct visitor *visitor = visitors_enter_user(owner, user, now_us);
    return visitor ? &visitor->rates.requests : NULL;
}

/* The rate is the first of its visitor. */
static void user_leaves(void *owner, struct rate *rate, uint64_t now_us) { visitors_leave(owner, (struct visitor *)rate, now_us); }

static int make_visitors(struct server *server)
{
    const struct config *config = &server->config;
    struct gateway_config *gateway = &server->gateway_config;
    gateway->address_limit = (struct rate_limit){.count = (uint32_t)config->http_address_rate, .period_us = 1000000};
    gateway->user_limit = (struct rate_limit){.count = (uint32_t)config->http_user_rate, .period_us = 1000000};
    gateway->failure_limit = (struct rate_limit){.count = (uint32_t)config->http_failures, .period_us = 60000000};
    server->session_config.failure_limit = gateway->failure_limit;
    server->visitors = visitors_new((uint32_t)config->address_connections, &server->log.sink);
    server->users = (struct gateway_users){.owner = server->visitors, .enter = user_enters, .leave = user_leaves};
    if (!server->visitors)
        complain("out of memory, or of random numbers");
    return server->visitors ? 0 : 1;
}

/* ---- Listening ---- */

static int refuse_to_listen(const struct door_kind *door, const struct sockaddr_storage *address, enum gw_err err)
{
    char text[ADDRESS_TEXT_SIZE];
    address_text(address, text);
    switch (err) {
    case GW_ERR_EXISTS: complain("cannot listen on %s: another program does; stop it, or choose another port with %s", text, door->option); break;
    case GW_ERR_PERMISSION: complain("cannot listen on %s: permission denied; choose a port above 1023 with %s", text, door->option); break;
    case GW_ERR_INVALID: complain("cannot listen on %s: this machine does not have that address; choose others with --listen", text); break;
    case GW_ERR_NOT_FOUND: complain("cannot listen on %s: this machine does not speak that protocol; choose others with --listen", text); break;
    default: complain("cannot listen on %s: %s", text, gw_err_text(err)); break;
    }
    return 1;
}

/* Finds out what cannot be listened on before anything else is touched, and which port is free if any will do. */
static int probe_addresses(struct server *server, unsigned which)
{
    struct address_list *list = &server->doors[which].addresses;
    uint16_t port = list->count ? address_port(&list->items[0]) : 0;
    for (unsigned i = 0; i < list->count;) {
        address_set_port(&list->items[i], port);
        enum gw_err err = listener_probe((struct sockaddr *)&list->items[i]);
        bool missing = err == GW_ERR_NOT_FOUND || err == GW_ERR_INVALID;
        if (missing && server->config.listen_is_default && list->items[i].ss_family == AF_INET6) {
            /* A machine without IPv6 is nothing to complain of when nobody asked for it. */
            list->items[i] = list->items[--list->count];
            continue;
        }
        if (err == GW_ERR_EXISTS && which == DOOR_HTTP && server->config.http_port_is_default) {
            /* Nor is a port that nobody asked for. */
            server->taken_port = port;
            list->count = 0;
            return 0;
        }
        if (err != GW_OK)
            return refuse_to_listen(&door_kinds[which], &list->items[i], err);
        port = address_port(&list->items[i++]);
    }
    return 0;
}

static int find_addresses(struct server *server)
{
    const struct config *config = &server->config;
    char text[512];
    for (unsigned i = 0; i < DOOR_COUNT; i++) {
        struct door *door = &server->doors[i];
        uint64_t port;
        memcpy(&port, (const char *)config + door_kinds[i].port, sizeof(port));
        if (port == PORT_OFF || (i == DOOR_HTTP && strcmp(config->http, "off") == 0))
            continue;
        if (!address_list_parse(config->listen, (uint16_t)port, &door->addresses, text, sizeof(text))) {
            complain("--listen takes up to %u IPv4 and IPv6 addresses separated by commas; '%s' is none", ADDRESSES_MAX, text);
            return 2;
        }
        if (probe_addresses(server, i) != 0)
            return 1;
    }
    return 0;
}

/* ---- TLS ---- */

static int open_keys(struct server *server)
{
    const struct config *config = &server->config;
    char why[512];
    const char *verify = config->tls_verify;
    for (unsigned i = 0; i < DOOR_COUNT; i++) {
        if (!door_kinds[i].sealed || server->doors[i].addresses.count == 0)
            continue;
        const struct tls_settings settings = {
            .certificate = config->tls_certificate, .key = config->tls_key, .ca = config->tls_ca, .protocols = door_kinds[i].protocols,
            .verify = strcmp(verify, "required") == 0 ? TLS_VERIFY_REQUIRED : strcmp(verify, "optional") == 0 ? TLS_VERIFY_OPTIONAL : TLS_VERIFY_NONE};
        /* The second one would warn of the same. */
        bool warns = i == DOOR_AMQPS || !server->doors[DOOR_AMQPS].keys;
        server->doors[i].keys = tls_keys_open(&settings, warns ? &server->log.sink : NULL, why, sizeof(why));
        if (!server->doors[i].keys) {
            complain("TLS is not possible: %s", why);
            return 2;
        }
        if (warns && config->tls_ca && strcmp(verify, "none") == 0)
            alarm_raise(&server->log.sink, ALARM_WARNING, "tls_ca is not used: clients are not asked for certificates (tls_verify = none)");
    }
    return 0;
}

static bool has_keys(const struct server *server) { return server->doors[DOOR_AMQPS].keys || server->doors[DOOR_HTTPS].keys; }

/* SIGHUP: certificates are renewed more often than brokers are restarted. */
static void on_reload_signal(void *owner)
{
    struct server *server = owner;
    char why[512];
    for (unsigned i = 0; i < DOOR_COUNT; i++) {
        bool warns = i == DOOR_AMQPS || !server->doors[DOOR_AMQPS].keys;
        if (server->doors[i].keys && !tls_keys_reload(server->doors[i].keys, warns ? &server->log.sink : NULL, why, sizeof(why))) {
            alarm_raise(&server->log.sink, ALARM_ERROR, "the old certificate stays in use: %s", why);
            return;
        }
    }
    alarm_raise(&server->log.sink, ALARM_INFO, "certificate and key were read again");
}

static int read_webhooks(struct server *server)
{
    struct bytes wrong;
    const struct door *http = &server->doors[server->doors[DOOR_HTTP].addresses.count ? DOOR_HTTP : DOOR_HTTPS];
    if (server->config.webhook_ca && !webhook_authorities_check(server->config.webhook_ca)) {
        complain("--webhook-ca takes a file with certificates (PEM); '%s' is none", server->config.webhook_ca);
        return 2;
    }
    if (webhook_networks_read(&server->networks, server->config.webhook_networks, &http->addresses, &wrong))
        return 0;
    complain("--webhook-networks takes up to %u addresses and networks such as 10.0.0.0/8 or fd00::/8, separated by commas; '%.*s' is none, or one too many", NETWORKS_MAX,
             (int)wrong.size, (const char *)wrong.data);
    return 2;
}

static int listen_everywhere(struct server *server)
{
    for (unsigned d = 0; d < DOOR_COUNT; d++) {
        struct door *door = &server->doors[d];
        for (unsigned a = 0; a < door->addresses.count; a++) {
            for (unsigned i = 0; i < server->count; i++) {
                struct service *service = &server->services[i];
                enum gw_err err = reactor_listen_sealed(service->reactor, (struct sockaddr *)&door->addresses.items[a], door->keys, door_kinds[d].events, service);
                if (err != GW_OK)
                    return refuse_to_listen(&door_kinds[d], &door->addresses.items[a], err);
            }
        }
    }
    return 0;
}

static void print_ready(const struct server *server)
{
    fputs("ready", stdout);
    for (unsigned d = 0; d < DOOR_COUNT; d++) {
        for (unsigned i = 0; i < server->doors[d].addresses.count; i++) {
            char text[ADDRESS_TEXT_SIZE];
            struct sockaddr_storage dial = address_to_dial(&server->doors[d].addresses.items[i]);
            address_text(&dial, text);
            printf(" %s://%s", door_kinds[d].scheme, text);
        }
    }
    fputc('\n', stdout);
    fflush(stdout);
}

/* ---- Making and unmaking ---- */

static int make_reactor(struct server *server, unsigned index)
{
    struct service *service = &server->services[index];
    service_init(service, index, &server->shutdown);
    service->reactor = reactor_new(&(struct reactor_config){
        .turn = service_turn, .owner = service, .enter = service_enter, .leave = service_leave, .budget = &server->budget, .alarms = &server->log.sink});
    if (!service->reactor) {
        complain("cannot make reactor %u: out of memory or file descriptors", index);
        return 1;
    }
    service->visitors = server->visitors;
    service->alarms = &server->log.sink;
    server->count = index + 1;
    wheel_init(&service->deadlines, reactor_now(service->reactor));
    return 0;
}

/* What --load-definitions names, whole; free() it. NULL: a complaint was made. */
static char *read_definitions(const char *path, size_t *size)
{
    FILE *file = fopen(path, "re");
    char *text = NULL;
    size_t room = 0;
    *size = 0;
    for (bool more = file != NULL; more;) {
        if (*size == room) {
            room = room ? room * 2 : 65536;
            char *grown = room <= DEFINITIONS_MAX * 2 ? realloc(text, room) : NULL;
            if (!grown) {
                complain("cannot load definitions from %s: it is too long", path);
                free(text);
                fclose(file);
                return NULL;
            }
            text = grown;
        }
        size_t got = fread(text + *size, 1, room - *size, file);
        *size += got;
        more = got > 0;
    }
    bool bad = !file || ferror(file);
    if (bad)
        complain("cannot load definitions from %s: %s", path, strerror(errno));
    if (file)
        fclose(file);
    if (bad)
        free(text);
    return bad ? NULL : text;
}

static int make_broker(struct server *server)
{
    const struct config *config = &server->config;
    struct host_loop loops[REACTORS_MAX];
    char why[1024];
    uint64_t seed;
    if (config->definitions && !(server->definitions = read_definitions(config->definitions, &server->definitions_size)))
        return 1;
    if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed)) {
        complain("the system gives no random numbers");
        return 1;
    }
    const struct broker_config broker = {
        .shards = (unsigned)config->shards,
        .log_body = strcmp(config->log, "memory") == 0 ? LOG_MEMORY : LOG_FILE,
        .log_file_size = config->log_file_size,
        .log_file_count = (unsigned)config->log_file_count,
        .memory_per_worker = config->memory_limit / server->count,
        .disk_free_limit = config->disk_free_limit,
        .max_clients = server->budget.limit,
        .alarms = &server->log.sink,
        .observes = true,
        .definitions = bytes_of(server->definitions, server->definitions_size),
    };
    for (unsigned i = 0; i < server->count; i++)
        loops[i] = (struct host_loop){reactor_loop(server->services[i].reactor), reactor_wake_handle(server->services[i].reactor)};
    const struct host_config host = {.directory = data_dir(config), .loops = loops, .count = server->count, .broker = &broker,
                                     .disk_mode = strcmp(config->disk, "threads") == 0 ? DISK_MODE_THREADS : DISK_MODE_AUTO};
    if (host_new(&host, why, sizeof(why), &server->host) != GW_OK) {
        complain("%s", why);
        return 1;
    }
    for (unsigned i = 0; i < server->count; i++) {
        struct service *service = &server->services[i];
        service->place = host_place(server->host, i);
        service->worker = service->place->worker;
        service_amqp_init(service, &server->session_config);
        service_http_init(service, &server->gateway_config, &server->users, seed + i);
        if (!service_webhooks_init(service, &server->networks, server->config.webhook_ca) || !service_sources_init(service, config, seed + i)) {
            complain("out of memory");
            return 1;
        }
    }
    return 0;
}

static int open_broker(struct server *server)
{
    char why[512] = "";
    enum gw_err err = host_open(server->host, why, sizeof(why));
    free(server->definitions);
    server->definitions = NULL;
    if (err == GW_OK)
        return 0;
    complain("cannot open data directory %s: %s", data_dir(&server->config), why[0] ? why : gw_err_text(err));
    return 1;
}

/* Everything that make_… has made, whatever of it there is. No reactor runs any more. */
static void unmake(struct server *server)
{
    /* A process that opened nothing has nothing to forget, and one that could not open everything leaves the files as they are. */
    for (unsigned i = 0; i < server->count; i++) {
        service_sources_free(&server->services[i]);
        service_webhooks_free(&server->services[i]);
    }
    host_end(server->host);
    for (unsigned i = 0; i < server->count; i++)
        hall_free(&server->services[i].http.hall);
    signals_close(server->signals);
    for (unsigned i = 0; i < server->count; i++)
        reactor_free(server->services[i].reactor);
    host_free(server->host);
    for (unsigned i = 0; i < DOOR_COUNT; i++)
        tls_keys_free(server->doors[i].keys);
    visitors_free(server->visitors);
    free(server->definitions);
}

/* ---- Running ---- */

static void on_stop_signal(void *owner, unsigned count)
{
    struct server *server = owner;
    if (count == 1) {
        notify_service_manager("STOPPING=1");
        alarm_raise(&server->log.sink, ALARM_INFO, "stopping: connections are closed and files written; once more stops at once");
    }
    shutdown_request(&server->shutdown);
}

static int run_reactors(struct server *server)
{
    for (server->started = 1; server->started < server->count; server->started++) {
        if (reactor_start(server->services[server->started].reactor) != GW_OK) {
            complain("cannot start a thread for each of %u reactors; choose fewer with --reactors", server->count);
            break;
        }
    }
    bool all = server->started == server->count;
    if (all) {
        print_ready(server);
        notify_service_manager("READY=1");
        reactor_run(server->services[0].reactor);
    } else {
        /* At once: those that never ran would be waited for otherwise. */
        shutdown_request(&server->shutdown);
        shutdown_request(&server->shutdown);
    }
    for (unsigned i = 1; i < server->started; i++)
        reactor_join(server->services[i].reactor);
    return all ? 0 : 1;
}

/* What the last connections left behind reaches its shards, in this one thread. */
static int close_broker(struct server *server)
{
    enum gw_err err = host_close(server->host, reactor_now(server->services[0].reactor));
    if (err == GW_OK)
        return 0;
    complain("the data directory could not be closed cleanly: %s; it will be recovered at the next start", gw_err_text(err));
    return 1;
}

/* One processor is left to the kernel's own work with network and disk, without which reactors wait for each other: on two processors one reactor has a third
 * less processor time for a durable message than two, and half the latency (docs/benchmarks.md). */
static uint64_t default_reactors(void)
{
    unsigned processors = uv_available_parallelism();
    return processors > 1 ? processors - 1 : 1;
}

static int serve(struct server *server)
{
    uint64_t count = server->config.reactors ? server->config.reactors : default_reactors();
    set_budget(server);
    set_protocol_config(server);
    int found = find_addresses(server);
    if (found == 0)
        found = read_webhooks(server);
    if (found == 0)
        found = make_visitors(server);
    if (found == 0)
        found = open_keys(server);
    if (found != 0)
        return found;
    if (!http_sender_prepare()) {
        complain("libcurl cannot be used");
        return 1;
    }
    for (unsigned i = 0; i < count && i < REACTORS_MAX; i++) {
        if (make_reactor(server, i) != 0)
            return 1;
    }
    server->shutdown.services = server->services;
    server->shutdown.count = server->count;
    if (make_broker(server) != 0 || open_broker(server) != 0)
        return 1;
    bool keeps = strcmp(server->config.log, "file") == 0;
    alarm_raise(&server->log.sink, ALARM_INFO, "godwit %s: data directory %s, %u reactors, %s", GODWIT_VERSION, data_dir(&server->config),
                server->count, !keeps ? "keeping nothing" : disk_uses_uring(server->services[0].place->disk) ? "writing with io_uring" : "writing with threads");
    if (server->taken_port)
        alarm_raise(&server->log.sink, ALARM_WARNING, "HTTP is off: another program listens on port %u; choose another one with --http-port", server->taken_port);
    int code = listen_everywhere(server);
    if (code == 0 && signals_open(reactor_loop(server->services[0].reactor), on_stop_signal, server, &server->signals) != GW_OK) {
        complain("out of file descriptors");
        code = 1;
    }
    if (code == 0 && has_keys(server))
        signals_on_reload(server->signals, on_reload_signal);
    if (code == 0)
        code = run_reactors(server);
    int close_code = close_broker(server);
    return code ? code : close_code;
}

static enum alarm_level level_of(const char *word)
{
    return strcmp(word, "error") == 0 ? ALARM_ERROR : strcmp(word, "warning") == 0 ? ALARM_WARNING : ALARM_INFO;
}

int serve_main(int argc, char **argv)
{
    struct config_complaint complaint;
    struct server *server = calloc(1, sizeof(*server));
    int help;
    if (!server) {
        complain("out of memory");
        return 1;
    }
    signals_ignore_those_that_are_errors();
    enum gw_err err = config_read(&server->config, argc, argv, environ, &help, &complaint);
    if (err != GW_OK) {
        complain("%s", complaint.text);
        free(server);
        return 2;
    }
    int code = 0;
    if (help) {
        config_print_help(stdout);
    } else {
        char meant[64];
        log_lines_init(&server->log, level_of(server->config.log_level));
        const char *strange = config_strange_variable(environ, meant, sizeof(meant));
        if (strange)
            alarm_raise(&server->log.sink, ALARM_WARNING, "the variable %.*s means nothing here; perhaps %s was meant",
                        (int)strcspn(strange, "="), strange, meant);
        code = serve(server);
        unmake(server);
    }
    config_deinit(&server->config);
    free(server);
    return code;
}
