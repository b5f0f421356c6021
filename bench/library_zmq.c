/* Messages of 16 bytes through ZeroMQ's inproc transport within one thread (PAIR to PAIR), as they go through a handler of libgodwit: library_zmq COUNT */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <zmq.h>

#define AT_A_TIME 900                /* ZeroMQ keeps 1,000 by default, for each side */

static double clock_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    long count = argc > 1 ? atol(argv[1]) : 0, sent = 0, received = 0;
    char data[16] = {0};
    void *context = zmq_ctx_new(), *from = zmq_socket(context, ZMQ_PAIR), *to = zmq_socket(context, ZMQ_PAIR);
    if (zmq_bind(to, "inproc://events") != 0 || zmq_connect(from, "inproc://events") != 0)
        return 1;
    double begin = clock_of(CLOCK_MONOTONIC), cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    while (received < count) {
        for (int i = 0; i < AT_A_TIME && sent < count; i++, sent++)
            if (zmq_send(from, data, sizeof data, 0) != sizeof data)
                return 1;
        while (received < sent && zmq_recv(to, data, sizeof data, ZMQ_DONTWAIT) == sizeof data)
            received++;
    }
    printf("{\"what\": \"zmq\", \"count\": %ld, \"seconds\": %.6f, \"cpu\": %.6f}\n", count, clock_of(CLOCK_MONOTONIC) - begin, clock_of(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    zmq_close(from);
    zmq_close(to);
    zmq_ctx_destroy(context);
    return 0;
}
