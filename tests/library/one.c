/* Opens a directory, publishes what it is told, handles what is there, and says how it went: one DIRECTORY [TYPE DATA]... */
#include <godwit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static gw_loop *loop;

static void on_event(gw_event *event, void *context)
{
    (void)context;
    printf("got %s %.*s from %s\n", gw_event_type(event), (int)gw_event_size(event), (const char *)gw_event_data(event), gw_event_source(event));
    gw_event_ack(event);
}

static void on_notice(void *context, int level, const char *sentence)
{
    (void)context;
    if (level != GW_NOTICE_INFO)
        printf("notice: %s\n", sentence);
}

static void stop(gw_timer *timer, void *context)
{
    (void)timer, (void)context;
    gw_loop_stop(loop);
}

int main(int argc, char **argv)
{
    const char *low = getenv("DISK_FREE"), *handles = getenv("HANDLES"), *history = getenv("HISTORY");
    loop = gw_loop_new();
    gw_bus *bus = gw_open(loop, argc > 1 ? argv[1] : NULL, &(gw_open_options){.notice = on_notice, .disk_free_bytes = low ? strtoull(low, NULL, 10) : 0,
                                                                                   .history_bytes = history ? strtoull(history, NULL, 10) : 0});
    if (!bus) {
        printf("%s: %s\n", gw_result_text(gw_loop_run(loop)), gw_error(loop));
        return 2;
    }
    gw_handler *handler = gw_on(bus, "#", on_event, NULL, &(gw_handler_options){.name = "all"});
    if (handles && strcmp(handles, "no") == 0)
        gw_off(handler);
    gw_timer_start(loop, 400, 0, stop, NULL);
    if (low)
        gw_loop_run(loop);   /* until the broker has looked at the disk */
    for (int i = 2; i + 1 < argc; i += 2) {
        int result = gw_publish_wait(bus, argv[i], argv[i + 1], strlen(argv[i + 1]), NULL, 5000);
        printf("%s %s: %s\n", argv[i], argv[i + 1], result == 0 ? "safe" : gw_error(loop));
    }
    if (!low)
        gw_loop_run(loop);
    gw_loop_free(loop);
    return 0;
}
