/* remote_cases URI NOBODY: what the functions of a remote bus answer, one line each. Nobody listens at NOBODY. */
#include <godwit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static gw_loop *loop;

static void say(const char *what, int result)
{
    printf("%s: %s\n", what, gw_result_text(result));
}

static void on_closed(void *context, int result)
{
    say(context, result);
}

static void on_reply(void *context, int result, const void *data, size_t size)
{
    (void)data, (void)size;
    say(context, result);
}

static void on_event(gw_event *event, void *context)
{
    (void)context;
    gw_event_ack(event);
    gw_close(gw_event_bus(event), 1000, NULL, NULL);
}

static void without_a_broker(const char *uri)
{
    static char large[1 << 20];
    gw_bus *bus = gw_connect(loop, uri, &(gw_connect_options){.window_bytes = sizeof large});
    say("publish", gw_publish(bus, "a", large, sizeof large / 2, NULL, NULL, NULL));
    say("publish more", gw_publish(bus, "a", large, sizeof large, NULL, NULL, NULL));
    printf("it says why: %s\n", strstr(gw_error(loop), "wait to be confirmed") ? "yes" : gw_error(loop));
    say("wait", gw_publish_wait(bus, "a", "b", 1, NULL, 100));
    say("forget", gw_forget(bus, "nothing"));
    printf("it says why: %s\n", strstr(gw_error(loop), "Connection refused") ? "yes" : gw_error(loop));
    say("request", gw_request(bus, "ask", NULL, 0, NULL, on_reply, "reply after close"));
    /* A source, too, which waits for its position, is no reason to wait longer. */
    if (!gw_source_timer(bus, 1000, NULL))
        printf("source: %s\n", gw_error(loop));
    gw_close(bus, 100, on_closed, "close");
    say("publish after close", gw_publish(bus, "a", NULL, 0, NULL, NULL, NULL));
    say("run", gw_loop_run(loop));
}

static void with_a_broker(const char *uri)
{
    gw_bus *bus = gw_connect(loop, uri, NULL);
    gw_handler *handler = gw_on(bus, "job", on_event, NULL, &(gw_handler_options){.name = "jobs"});
    say("wait", gw_publish_wait(bus, "job", "1", 1, NULL, 10000));
    say("forget a queue in use", gw_forget(bus, "jobs"));
    gw_off(handler);
    say("forget", gw_forget(bus, "jobs"));
    /* A handler that is made again gets what is published from now on. */
    gw_on(bus, "job", on_event, NULL, &(gw_handler_options){.name = "jobs"});
    say("wait", gw_publish_wait(bus, "job", "2", 1, NULL, 10000));
    say("run", gw_loop_run(loop));
    /* All that is published before the loop runs at all arrives; so does what nobody waits for. */
    bus = gw_connect(loop, uri, NULL);
    for (int i = 0; i < 10000; i++)
        if (gw_publish(bus, "count", NULL, 0, NULL, NULL, NULL) < 0)
            printf("publish %d: %s\n", i, gw_error(loop));
    gw_close(bus, 10000, on_closed, "close");
    say("run", gw_loop_run(loop));
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    loop = gw_loop_new();
    without_a_broker(argv[2]);
    with_a_broker(argv[1]);
    gw_loop_free(loop);
    return 0;
}
