/* refused URI TIMES: what becomes of a bus whose log-in is refused so often, one line each. */
#include <godwit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static gw_loop *loop;

static void on_notice(void *context, int level, const char *sentence)
{
    (void)context;
    printf("notice %d: %s\n", level, strrchr(sentence, ';') + 2);
}

static void on_published(void *context, int result) { printf("%s: %s\n", (const char *)context, gw_result_text(result)); }

static void on_reply(void *context, int result, const void *data, size_t size)
{
    (void)data, (void)size;
    on_published(context, result);
}

static void on_event(gw_event *event, void *context)
{
    (void)context;
    gw_event_ack(event);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    loop = gw_loop_new();
    gw_bus *bus = gw_connect(loop, argv[1], &(gw_connect_options){.refused_max = (uint32_t)atoi(argv[2]), .retry_max_ms = 100, .notice = on_notice});
    gw_handler *handler = gw_on(bus, "#", on_event, NULL, NULL);
    gw_source *source = gw_source_timer(bus, 20, NULL);
    gw_publish(bus, "a", "1", 1, NULL, on_published, "published");
    gw_request(bus, "b", "1", 1, NULL, on_reply, "requested");
    printf("run: %s\n", gw_result_text(gw_loop_run(loop)));
    printf("it says why: %s\n", strstr(gw_error(loop), "does not let us in") ? "yes" : gw_error(loop));
    printf("publish: %s\n", gw_result_text(gw_publish(bus, "a", "1", 1, NULL, NULL, NULL)));
    printf("wait: %s\n", gw_result_text(gw_publish_wait(bus, "a", "1", 1, NULL, 100)));
    printf("on: %s\n", gw_on(bus, "#", on_event, NULL, NULL) ? "done" : gw_error(loop) ? "refused" : "?");
    printf("forget: %s\n", gw_result_text(gw_forget(bus, "on.#")));
    printf("run: %s\n", gw_result_text(gw_loop_run(loop)));
    gw_off(handler);
    gw_source_stop(source);
    printf("close: %s\n", gw_result_text(gw_close(bus, 1000, on_published, "closed")));
    printf("run: %s\n", gw_result_text(gw_loop_run(loop)));
    gw_bus *waited = gw_connect(loop, argv[1], &(gw_connect_options){.refused_max = 1});
    printf("wait: %s\n", gw_result_text(gw_publish_wait(waited, "a", "1", 1, NULL, 10000)));
    gw_loop_free(loop);
    return 0;
}
