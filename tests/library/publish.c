/* publish BUS TYPE FIRST LAST: publishes an event for each number, waits until all are safe, and says what became of those that are not. Notices are lines, too. */
#include <godwit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static gw_bus *bus;
static int left, failed;

static void on_notice(void *context, int level, const char *sentence)
{
    (void)context;
    printf("notice %d: %s\n", level, sentence);
    fflush(stdout);
}

static void on_published(void *context, int result)
{
    if (result < 0) {
        printf("%d: %s\n", (int)(intptr_t)context, gw_result_text(result));
        failed++;
    }
    if (--left == 0)
        gw_close(bus, 1000, NULL, NULL);
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    gw_loop *loop = gw_loop_new();
    if (strncmp(argv[1], "amqp", 4) == 0)
        bus = gw_connect(loop, argv[1], &(gw_connect_options){.notice = on_notice, .retry_max_ms = 500, .ca_file = getenv("CA_FILE")});
    else
        bus = gw_open(loop, argv[1], NULL);
    if (!bus) {
        printf("%s\n", gw_error(loop));
        gw_loop_free(loop);
        return 1;
    }
    for (int number = atoi(argv[3]); number <= atoi(argv[4]); number++) {
        char text[16];
        int size = snprintf(text, sizeof text, "%d", number);
        int result = gw_publish(bus, argv[2], text, (size_t)size, NULL, on_published, (void *)(intptr_t)number);
        if (result < 0) {
            printf("%d: %s: %s\n", number, gw_result_text(result), gw_error(loop));
            failed++;
        } else {
            left++;
        }
    }
    int result = left ? gw_loop_run(loop) : 0;
    gw_loop_free(loop);
    return result ? 1 : failed ? 3 : 0;
}
