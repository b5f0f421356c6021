/* requests BUS serve          replies to "square" with the square of a number, until SIGTERM
 * requests BUS ask TYPE DATA  asks, and says the reply */
#include <godwit.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static gw_loop *loop;
static gw_bus *bus;

static void on_square(gw_event *event, void *context)
{
    char text[32] = "", reply[64];
    memcpy(text, gw_event_data(event), gw_event_size(event) < sizeof text ? gw_event_size(event) : sizeof text - 1);
    long number = strtol(text, NULL, 10);
    int size = snprintf(reply, sizeof reply, "%ld", number * number);
    (void)context;
    if (gw_event_reply(event, reply, (size_t)size) == GW_DONE)
        return;
    printf("%s\n", gw_error(loop));
    fflush(stdout);
    gw_event_ack(event);
}

static void on_reply(void *context, int result, const void *data, size_t size)
{
    (void)context;
    if (result)
        printf("%s\n", gw_result_text(result));
    else
        printf("%.*s\n", (int)size, (const char *)data);
    gw_close(bus, 1000, NULL, NULL);
}

static void on_notice(void *context, int level, const char *sentence)
{
    (void)context;
    printf("notice %d: %s\n", level, sentence);
    fflush(stdout);
}

static void on_stop(int number)
{
    (void)number;
    gw_loop_stop(loop);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    loop = gw_loop_new();
    bus = strncmp(argv[1], "amqp", 4) == 0 ? gw_connect(loop, argv[1], &(gw_connect_options){.notice = on_notice}) : gw_open(loop, argv[1], NULL);
    if (strcmp(argv[2], "serve") == 0)
        gw_on(bus, "square", on_square, NULL, NULL);
    else
        gw_request(bus, argv[3], argv[4], strlen(argv[4]), &(gw_request_options){.timeout_ms = 10000}, on_reply, NULL);
    signal(SIGTERM, on_stop);
    int result = gw_loop_run(loop);
    gw_loop_free(loop);
    return result ? 1 : 0;
}
