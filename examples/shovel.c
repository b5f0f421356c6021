/* Events of one bus go to another: each is acknowledged here when it is on disk there, so that nothing is lost whoever dies. (The other way round it is gw_source_amqp.)
 *
 *     shovel BUS PATTERN ELSEWHERE      until SIGTERM */
#include "bus.h"

#include <signal.h>

static gw_loop *loop;

static void on_signal(int number)
{
    (void)number;
    gw_loop_stop(loop);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    signal(SIGTERM, on_signal);
    loop = gw_loop_new();
    gw_bus *bus = open_bus(loop, argv[1]);
    gw_bus *elsewhere = open_bus(loop, argv[3]);
    gw_forward(bus, argv[2], elsewhere, &(gw_forward_options){ .name = "shovel" });
    int result = gw_loop_run(loop);
    if (result < 0)
        fprintf(stderr, "%s\n", gw_error(loop));
    gw_loop_free(loop);   /* what is on its way is confirmed and acknowledged first */
    return -result;
}
