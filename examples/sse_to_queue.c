#include <godwit.h>
#include <stdio.h>

static void on_event(gw_event *event, void *context) {
    (void)context;
    printf("%s: %.*s\n", gw_event_type(event), (int)gw_event_size(event), (const char *)gw_event_data(event));
    gw_event_ack(event);                                   /* or gw_event_retry, gw_event_reject, or answer later */
}

int main(void) {
    gw_loop *loop = gw_loop_new();
    gw_bus  *bus  = gw_open(loop, "example.gw", NULL);     /* embedded and durable; or gw_connect(loop, "amqp://localhost", NULL) */
    gw_source_sse(bus, "http://127.0.0.1:8080/events", NULL);
    gw_on(bus, "#", on_event, NULL, &(gw_handler_options){ .retries = 5 });
    return gw_loop_run(loop);
}
