/* reopen DIRECTORY COUNT: publishes that many events of 1 KiB, handles them but for the last three, closes the directory, opens it again, and says what was read for that and how many
 * events are there. */
#include <godwit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static gw_loop *loop;
static int left, handled;

static void on_event(gw_event *event, void *context)
{
    (void)context;
    gw_event_ack(event);
    if (++handled == left)
        gw_loop_stop(loop);
}

static void on_notice(void *context, int level, const char *sentence)
{
    (void)context, (void)level;
    puts(sentence);
}

static int handle(gw_bus *bus, int count)
{
    handled = 0;
    left = count;
    gw_handler *handler = gw_on(bus, "work", on_event, NULL, &(gw_handler_options){.name = "work", .prefetch = 1});
    int result = gw_loop_run(loop);
    gw_off(handler);
    return result;
}

int main(int argc, char **argv)
{
    static char data[1024];
    if (argc != 3)
        return 2;
    int count = atoi(argv[2]);
    const gw_open_options options = {.notice = on_notice};
    loop = gw_loop_new();
    gw_bus *bus = gw_open(loop, argv[1], &options);
    gw_off(gw_on(bus, "work", on_event, NULL, &(gw_handler_options){.name = "work", .prefetch = 1}));
    for (int i = 0; i < count; i++)
        if (gw_publish(bus, "work", data, sizeof data, NULL, NULL, NULL) < 0)
            return 3;
    if (gw_publish_wait(bus, "nobody", NULL, 0, NULL, 20000) < 0 || handle(bus, count - 3) < 0)
        return 4;
    gw_close(bus, 5000, NULL, NULL);
    gw_loop_run(loop);
    bus = gw_open(loop, argv[1], &options);
    if (!bus || handle(bus, 3) < 0)
        return 5;
    printf("%d were left\n", handled);
    gw_loop_free(loop);
    return 0;
}
