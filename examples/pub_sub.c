/* Publishing and subscribing: each handler gets every event that its pattern matches.
 *
 *     pub_sub [BUS]     BUS: amqp://…, or a directory */
#include "bus.h"

static unsigned left = 5;          /* calls of handlers that are to come */
static gw_bus *bus;

static void on_event(gw_event *event, void *context)
{
    printf("%s: %s %.*s\n", (const char *)context, gw_event_type(event), (int)gw_event_size(event), (const char *)gw_event_data(event));
    gw_event_ack(event);
    if (--left == 0)
        gw_close(bus, 1000, NULL, NULL);
}

static void publish(const char *type, const char *text)
{
    if (gw_publish(bus, type, text, strlen(text), NULL, NULL, NULL) < 0)
        fprintf(stderr, "%s\n", gw_error(gw_bus_loop(bus)));
}

int main(int argc, char **argv)
{
    gw_loop *loop = gw_loop_new();
    bus = open_bus(loop, argc > 1 ? argv[1] : NULL);
    gw_on(bus, "order.*", on_event, "orders", NULL);
    gw_on(bus, "#", on_event, "audit", NULL);
    publish("order.created", "7");
    publish("order.paid", "7");
    publish("customer.created", "ada");
    int result = gw_loop_run(loop);
    gw_loop_free(loop);
    return result;
}
