/* Thousands of listeners to events, and how long it takes until all of them have heard of one.
 *
 *   listeners_load --port N [--listeners 10000] [--rounds 9] [--size 100] [--pause-ms 500] [--path '/events?type=bench.%23']
 *
 * Prints {"listening": N} once all of them are, and goes on when a line comes on its standard input: then each round publishes an event over HTTP and waits for it on every
 * connection. What it took is printed as JSON, in microseconds from before the request is sent: until the answer, until half of the listeners have the event, and until all have.
 */
#include "load.h"

#include <getopt.h>
#include <strings.h>

#define PIECE 65536
#define ROUNDS_MAX 100
#define WAIT_MS 30000

struct hearer {
    int socket;
    bool listens;                    /* the answer has begun … */
    uint64_t heard;                  /* … and so many events have come whole */
    char last[4];                    /* the last bytes of what came */
};

struct load {
    unsigned port, count, rounds, pause_ms;
    size_t size;
    const char *path;
    int loop, publisher;
    struct hearer *hearers;
    uint64_t *arrived_us;            /* of a round, in the order of arrival */
};

static void open_hearer(struct load *load, struct hearer *hearer)
{
    char request[512];
    int size = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nAccept: text/event-stream\r\n\r\n", load->path, load->port);
    hearer->socket = connect_to(load->port);
    send_all(hearer->socket, request, (size_t)size);
    watch(load->loop, hearer->socket, hearer);
}

/* Reads what is there; the number of events that have come whole: an empty line ends each, and the one that says when to come again. */
static unsigned hear(struct hearer *hearer)
{
    static char room[PIECE + 4];
    unsigned events = 0;
    ssize_t got = recv(hearer->socket, room + 1, PIECE, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got <= 0)
        die(got ? "recv" : "the broker has closed a connection");
    room[0] = hearer->last[0];
    for (const char *at = room, *end = room + 1 + got; (at = memchr(at, '\n', (size_t)(end - at))); at++)
        events += at > room && at[-1] == '\n';
    hearer->last[0] = room[got];
    if (events && !hearer->listens) {
        hearer->listens = true;
        events--;
        hearer->heard = (uint64_t)-1;
    }
    return events;
}

static void await_answer(struct load *load)
{
    char answer[4096];
    size_t size = 0;
    while (!message_size(answer, size)) {
        ssize_t got = recv(load->publisher, answer + size, sizeof(answer) - 1 - size, 0);
        if (got <= 0)
            die("publishing");
        size += (size_t)got;
        answer[size] = 0;
    }
    if (answer[9] != '2') {
        fprintf(stderr, "publishing: %.*s\n", (int)size, answer);
        exit(1);
    }
}

/* Waits until so many listeners have said something more than they had. */
static void gather(struct load *load, unsigned count, uint64_t begin_ns, uint64_t *answered_us, char *answer, size_t *answer_size)
{
    struct epoll_event events[EVENTS];
    unsigned heard = 0;
    while (heard < count || (answered_us && !*answered_us)) {
        int ready = epoll_wait(load->loop, events, EVENTS, WAIT_MS);
        if (ready == 0) {
            fprintf(stderr, "listeners_load: %u of %u have heard nothing in 30 s\n", count - heard, count);
            exit(1);
        }
        for (int i = 0; i < ready; i++) {
            struct hearer *hearer = events[i].data.ptr;
            if (!hearer) {
                ssize_t got = recv(load->publisher, answer + *answer_size, 4095 - *answer_size, MSG_DONTWAIT);
                *answer_size += got > 0 ? (size_t)got : 0;
                answer[*answer_size] = 0;
                if (answered_us && message_size(answer, *answer_size))
                    *answered_us = (now_ns() - begin_ns) / 1000;
                continue;
            }
            bool listened = hearer->listens;
            unsigned told = hear(hearer);
            if (told || listened != hearer->listens)
                load->arrived_us[heard++] = (now_ns() - begin_ns) / 1000;
        }
    }
}

static size_t make_event(const struct load *load, char *request, size_t room, unsigned number)
{
    int head = snprintf(request, room, "POST /events HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nContent-Type: text/plain\r\nce-specversion: 1.0\r\nce-id: %u-%llx\r\nce-source: /bench\r\n"
                        "ce-type: bench.told\r\nContent-Length: %zu\r\n\r\n", load->port, number, (unsigned long long)now_ns(), load->size);
    memset(request + head, 'x', load->size);
    return (size_t)head + load->size;
}

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static void print_median(const char *name, uint64_t *values, unsigned count, const char *end)
{
    qsort(values, count, sizeof(*values), compare);
    printf("\"%s\":%llu%s", name, (unsigned long long)values[count / 2], end);
}

static void drive(struct load *load)
{
    static uint64_t answered[ROUNDS_MAX], half[ROUNDS_MAX], all[ROUNDS_MAX];
    char *request = malloc(load->size + 1024), line[16], answer[4096];
    if (!request)
        die("malloc");
    load->publisher = connect_to(load->port);
    send_all(load->publisher, request, make_event(load, request, 1024, 0));   /* so that there is a stream */
    await_answer(load);
    for (unsigned i = 0; i < load->count; i++) {
        open_hearer(load, &load->hearers[i]);
        if (i % 256 == 255 || i + 1 == load->count)
            gather(load, i % 256 + 1, now_ns(), NULL, answer, &(size_t){0});
    }
    watch(load->loop, load->publisher, NULL);
    printf("{\"listening\":%u}\n", load->count);
    fflush(stdout);
    if (!fgets(line, sizeof(line), stdin))
        exit(1);
    for (unsigned round = 0; round < load->rounds; round++) {
        size_t size = make_event(load, request, 1024, round + 1), answer_size = 0;
        answered[round] = 0;
        usleep(load->pause_ms * 1000);
        uint64_t begin_ns = now_ns();
        send_all(load->publisher, request, size);
        gather(load, load->count, begin_ns, &answered[round], answer, &answer_size);
        half[round] = load->arrived_us[load->count / 2];
        all[round] = load->arrived_us[load->count - 1];
    }
    printf("{\"listeners\":%u,\"rounds\":%u,", load->count, load->rounds);
    print_median("answered_us", answered, load->rounds, ",");
    print_median("half_us", half, load->rounds, ",");
    print_median("all_us", all, load->rounds, ",");
    printf("\"best_us\":%llu,\"worst_us\":%llu}\n", (unsigned long long)all[0], (unsigned long long)all[load->rounds - 1]);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"port", 1, NULL, 'p'}, {"listeners", 1, NULL, 'n'}, {"rounds", 1, NULL, 'r'}, {"size", 1, NULL, 'z'}, {"pause-ms", 1, NULL, 'm'},
                                            {"path", 1, NULL, 'P'}, {0}};
    struct load load = {.count = 10000, .rounds = 9, .pause_ms = 500, .size = 100, .path = "/events?type=bench.%23"};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'p': load.port = (unsigned)atoi(optarg); break;
        case 'n': load.count = (unsigned)atoi(optarg); break;
        case 'r': load.rounds = (unsigned)atoi(optarg); break;
        case 'z': load.size = (size_t)atol(optarg); break;
        case 'm': load.pause_ms = (unsigned)atoi(optarg); break;
        case 'P': load.path = optarg; break;
        default: return 2;
        }
    }
    if (!load.port || !load.count || !load.rounds || load.rounds > ROUNDS_MAX || optind < argc) {
        fprintf(stderr, "listeners_load: --port says where to; up to %d rounds\n", ROUNDS_MAX);
        return 2;
    }
    load.loop = epoll_create1(EPOLL_CLOEXEC);
    load.hearers = calloc(load.count, sizeof(*load.hearers));
    load.arrived_us = calloc(load.count, sizeof(*load.arrived_us));
    if (load.loop < 0 || !load.hearers || !load.arrived_us)
        die("calloc");
    drive(&load);
    return 0;
}
