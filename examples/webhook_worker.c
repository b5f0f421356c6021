/* Events posted to an address, by a curl for each: handlers that answer later, on a libuv loop of the program's own. What was not taken (2xx) is posted again, later each time.
 *
 *     webhook_worker BUS URL      until SIGTERM */
#include "bus.h"

#include <signal.h>
#include <stdlib.h>
#include <uv.h>

struct post {
    uv_process_t process;
    uv_pipe_t body;
    uv_write_t write;
    gw_event *event;
    unsigned open;                 /* handles */
};

static uv_loop_t uv;
static gw_loop *loop;
static gw_bus *bus;

static void on_closed(uv_handle_t *handle)
{
    struct post *post = handle->data;
    if (--post->open == 0)
        free(post);
}

static void on_exit_code(uv_process_t *process, int64_t code, int number)
{
    struct post *post = process->data;
    printf("%s %s: %s\n", gw_event_type(post->event), gw_event_id(post->event), code == 0 && number == 0 ? "taken" : "again later");
    fflush(stdout);
    if (code == 0 && number == 0)
        gw_event_ack(post->event);
    else
        gw_event_retry(post->event);
    uv_close((uv_handle_t *)process, on_closed);
}

static void on_written(uv_write_t *write, int status)
{
    (void)status;
    uv_close((uv_handle_t *)write->handle, on_closed);
}

static void on_event(gw_event *event, void *context)
{
    char type[300];
    snprintf(type, sizeof type, "ce-type: %s", gw_event_type(event));
    char *argv[] = {"curl", "-sf", "-o", "/dev/null", "--max-time", "10", "-H", type, "--data-binary", "@-", context, NULL};
    struct post *post = calloc(1, sizeof *post);
    uv_stdio_container_t stdio[] = {{.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&post->body}};
    uv_process_options_t options = {.file = "curl", .args = argv, .exit_cb = on_exit_code, .stdio = stdio, .stdio_count = 1};
    post->event = event;
    post->open = 2;
    post->process.data = post->body.data = post;
    uv_pipe_init(&uv, &post->body, 0);
    if (uv_spawn(&uv, &post->process, &options) != 0) {
        gw_event_retry(event);
        uv_close((uv_handle_t *)&post->process, on_closed);
        uv_close((uv_handle_t *)&post->body, on_closed);
        return;
    }
    uv_buf_t bytes = uv_buf_init((char *)gw_event_data(event), (unsigned)gw_event_size(event));
    uv_write(&post->write, (uv_stream_t *)&post->body, &bytes, 1, on_written);
}

static void on_signal(uv_signal_t *signal, int number)
{
    (void)number;
    gw_close(bus, 5000, NULL, NULL);       /* posts under way are waited for */
    uv_close((uv_handle_t *)signal, NULL);
}

int main(int argc, char **argv)
{
    uv_signal_t stop;
    if (argc != 3)
        return 2;
    uv_loop_init(&uv);
    loop = gw_loop_adopt(&uv);
    bus = open_bus(loop, argv[1]);
    const uint64_t delays_ms[] = {100, 1000, 10000};
    const gw_handler_options options = {.name = "webhooks", .concurrency = 8, .retries = 20, .retry_delays_ms = delays_ms, .retry_delay_count = 3};
    if (!gw_on(bus, "#", on_event, argv[2], &options))
        return 1;
    uv_signal_init(&uv, &stop);
    uv_signal_start(&stop, on_signal, SIGTERM);
    signal(SIGPIPE, SIG_IGN);
    uv_run(&uv, UV_RUN_DEFAULT);
    gw_loop_free(loop);
    uv_run(&uv, UV_RUN_DEFAULT);
    return uv_loop_close(&uv);
}
