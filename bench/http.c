/* A load generator for HTTP/1.1: connections that are kept, on each of them one request after the other. Prints what came of it as JSON.
 *
 *   http_load --port N [--path P] [--connections N] [--seconds S] [--warmup S] [--rate R] [--header 'NAME: VALUE']... [--size BYTES | --body TEXT] [--stamp]
 *
 * In a header, %N% is replaced by another number each time. --body: with %BYTES% replaced by as many bytes as --size says. --rate: requests a second of all together;
 * otherwise each connection asks as soon as it has its answer. --stamp: the body begins with the time at which it was sent, as 16 hexadecimal digits of nanoseconds.
 */
#include "load.h"

#include "cli/histogram.h"

#include <getopt.h>
#include <strings.h>

#define HEADERS_MAX 16
#define ANSWER_MAX 16384
#define MARK "%N%"

struct link {
    int socket;
    bool waits;
    uint64_t sent_ns;
    size_t size;
    char answer[ANSWER_MAX];
};

struct load {
    unsigned port, connections;
    double seconds, warmup, rate;
    const char *path, *body;
    const char *headers[HEADERS_MAX];
    unsigned header_count;
    size_t body_size;
    bool stamp;

    char *request;
    size_t request_size, stamp_at, mark_at;   /* 0: none */
    uint64_t number;
    struct link *links;
    uint64_t answers, refused, from_ns;
    char complaint[200];
    struct histogram latency;
};

/* ---- the request --------------------------------------------------------------------------------------------------------- */

/* The body; *size is how long it is. */
static char *make_body(const struct load *load, size_t *size)
{
    const char *text = load->body ? load->body : "%BYTES%", *mark = strstr(text, "%BYTES%");
    size_t before = mark ? (size_t)(mark - text) : strlen(text), after = mark ? strlen(mark + 7) : 0, filler = mark ? load->body_size : 0;
    char *body = malloc(before + filler + after + 1);
    if (!body)
        die("malloc");
    memcpy(body, text, before);
    memset(body + before, 'x', filler);
    if (after)
        memcpy(body + before + filler, mark + 7, after);
    *size = before + filler + after;
    return body;
}

static void make_request(struct load *load)
{
    size_t body_size, room = 65536;
    char *body = make_body(load, &body_size);
    load->request = malloc(room + body_size);
    if (!load->request)
        die("malloc");
    size_t size = (size_t)snprintf(load->request, room, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nContent-Length: %zu\r\n", load->path, load->port, body_size);
    for (unsigned i = 0; i < load->header_count && size < room; i++)
        size += (size_t)snprintf(load->request + size, room - size, "%s\r\n", load->headers[i]);
    if (size + 2 >= room) {
        fprintf(stderr, "http_load: the headers are too long\n");
        exit(2);
    }
    memcpy(load->request + size, "\r\n", 2);
    size += 2;
    char *mark = memmem(load->request, size, MARK, sizeof(MARK) - 1);
    if (mark) {   /* it becomes 16 digits */
        size_t at = (size_t)(mark - load->request), end = at + sizeof(MARK) - 1;
        memmove(load->request + at + 16, load->request + end, size - end);
        size += 16 - (sizeof(MARK) - 1);
        load->mark_at = at;
    }
    memcpy(load->request + size, body, body_size);
    load->stamp_at = load->stamp && body_size >= 16 ? size : 0;
    load->request_size = size + body_size;
    free(body);
}

static void ask(struct load *load, struct link *link)
{
    link->sent_ns = now_ns();
    link->waits = true;
    link->size = 0;
    if (load->mark_at)
        put_hex(load->request + load->mark_at, load->from_ns + ++load->number, 16);
    if (load->stamp_at)
        put_hex(load->request + load->stamp_at, link->sent_ns, 16);
    send_all(link->socket, load->request, load->request_size);
}

/* ---- the answers ---------------------------------------------------------------------------------------------------------- */

static void count(struct load *load, const struct link *link, size_t size)
{
    uint64_t now = now_ns();
    load->answers++;
    histogram_add(&load->latency, now - link->sent_ns, 1);
    if (size < 12 || link->answer[9] != '2') {
        if (!load->refused++)
            snprintf(load->complaint, sizeof(load->complaint), "%.*s", (int)(size < 150 ? size : 150), link->answer);
    }
}

/* True: the answer is whole. */
static bool hear(struct load *load, struct link *link)
{
    ssize_t got = recv(link->socket, link->answer + link->size, ANSWER_MAX - 1 - link->size, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (got <= 0)
        die(got ? "recv" : "the peer has closed the connection");
    link->size += (size_t)got;
    link->answer[link->size] = 0;
    size_t size = message_size(link->answer, link->size);
    if (!size)
        return false;
    count(load, link, size);
    link->waits = false;
    return true;
}

/* ---- the run --------------------------------------------------------------------------------------------------------------- */

/* Runs for so long. */
static void run(struct load *load, int loop, double seconds)
{
    struct epoll_event events[EVENTS];
    uint64_t begin = now_ns(), end = begin + (uint64_t)(seconds * 1e9), step = load->rate ? (uint64_t)(1e9 / load->rate) : 0, next = begin;
    for (;;) {
        uint64_t now = now_ns();
        if (now >= end)
            break;
        int wait_ms = (int)((end - now) / 1000000) + 1;
        for (unsigned i = 0; step && next <= now && i < load->connections; i++)
            if (!load->links[i].waits) {
                ask(load, &load->links[i]);
                next += step;
            }
        if (step)
            wait_ms = next > now ? (int)((next - now) / 1000000) : 1;
        int count = epoll_wait(loop, events, EVENTS, wait_ms);
        for (int i = 0; i < count; i++)
            if (hear(load, events[i].data.ptr) && !step)
                ask(load, events[i].data.ptr);
    }
}

static void finish(struct load *load, int loop)
{
    struct epoll_event events[EVENTS];
    for (unsigned i = 0; i < load->connections; i++)
        while (load->links[i].waits) {
            int count = epoll_wait(loop, events, EVENTS, 10000);
            if (count == 0) {
                fprintf(stderr, "http_load: an answer has not come in 10 s\n");
                exit(1);
            }
            for (int k = 0; k < count; k++)
                hear(load, events[k].data.ptr);
        }
}

static void drive(struct load *load)
{
    int loop = epoll_create1(EPOLL_CLOEXEC);
    load->links = calloc(load->connections, sizeof(*load->links));
    if (loop < 0 || !load->links)
        die("epoll_create1");
    load->from_ns = now_ns();
    for (unsigned i = 0; i < load->connections; i++) {
        load->links[i].socket = connect_to(load->port);
        watch(loop, load->links[i].socket, &load->links[i]);
        if (!load->rate)
            ask(load, &load->links[i]);
    }
    if (load->warmup > 0)
        run(load, loop, load->warmup);
    /* Who measures the broker's processor time reads it when these lines come. */
    printf("{\"begin\":true}\n");
    fflush(stdout);
    histogram_init(&load->latency);
    load->answers = load->refused = 0;
    uint64_t begin = now_ns();
    run(load, loop, load->seconds);
    uint64_t answers = load->answers, refused = load->refused;
    double seconds = (double)(now_ns() - begin) / 1e9;
    for (char *c = load->complaint; *c; c++)
        if (*c < ' ' || *c == '"' || *c == '\\')
            *c = ' ';
    printf("{\"answers\":%llu,\"refused\":%llu,\"seconds\":%.6f,\"rate\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,\"complaint\":\"%s\"}\n", (unsigned long long)answers,
           (unsigned long long)refused, seconds, (double)answers / seconds, (double)histogram_quantile(&load->latency, 0.5) / 1e3,
           (double)histogram_quantile(&load->latency, 0.99) / 1e3, (double)load->latency.maximum / 1e3, load->complaint);
    fflush(stdout);
    finish(load, loop);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"port", 1, NULL, 'p'}, {"path", 1, NULL, 'P'}, {"connections", 1, NULL, 'c'}, {"seconds", 1, NULL, 's'}, {"warmup", 1, NULL, 'w'},
                                            {"rate", 1, NULL, 'r'}, {"header", 1, NULL, 'h'}, {"size", 1, NULL, 'z'}, {"body", 1, NULL, 'b'}, {"stamp", 0, NULL, 't'}, {0}};
    static struct load load = {.connections = 64, .seconds = 3, .warmup = 0.5, .path = "/events", .body_size = 1024};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'p': load.port = (unsigned)atoi(optarg); break;
        case 'P': load.path = optarg; break;
        case 'c': load.connections = (unsigned)atoi(optarg); break;
        case 's': load.seconds = atof(optarg); break;
        case 'w': load.warmup = atof(optarg); break;
        case 'r': load.rate = atof(optarg); break;
        case 'h':
            if (load.header_count < HEADERS_MAX)
                load.headers[load.header_count++] = optarg;
            break;
        case 'z': load.body_size = (size_t)atol(optarg); break;
        case 'b': load.body = optarg; break;
        case 't': load.stamp = true; break;
        default: return 2;
        }
    }
    if (!load.port || !load.connections || optind < argc) {
        fprintf(stderr, "http_load: --port says where to\n");
        return 2;
    }
    histogram_init(&load.latency);
    make_request(&load);
    drive(&load);
    return 0;
}
