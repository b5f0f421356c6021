/* Sources of all kinds, as their arguments say, and what comes of them: type, id and data in a line.
 *
 *     sources BUS KIND WHAT [OPTION=VALUE …] [-- KIND …]      until SIGTERM
 *     sources BUS many COUNT                                  timers */
#include <godwit.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 16

static gw_loop *loop;

static void on_event(gw_event *event, void *context)
{
    (void)context;
    printf("%s %s %.*s\n", gw_event_type(event), gw_event_id(event), (int)gw_event_size(event), (const char *)gw_event_data(event));
    fflush(stdout);
    gw_event_ack(event);
}

static void on_term(int number)
{
    (void)number;
    gw_loop_stop(loop);
}

static gw_source *begin(gw_bus *bus, const char *kind, char **words, int count)
{
    static char text[WORDS_MAX][256];
    const char *what[WORDS_MAX + 1] = {NULL};
    gw_source_options options = {0};
    int given = 0;
    for (int i = 0; i < count && i < WORDS_MAX; i++) {
        const char *equals = strncmp(words[i], "http", 4) == 0 || strncmp(words[i], "amqp:", 5) == 0 ? NULL : strchr(words[i], '=');
        if (!equals) {
            what[given++] = words[i];
            continue;
        }
        snprintf(text[i], sizeof text[i], "%s", equals + 1);
        if (strncmp(words[i], "name=", 5) == 0)
            options.name = text[i];
        else if (strncmp(words[i], "type=", 5) == 0)
            options.type = text[i];
        else if (strncmp(words[i], "data=", 5) == 0)
            options.data = text[i];
        else if (strncmp(words[i], "zone=", 5) == 0)
            options.zone = text[i];
        else if (strncmp(words[i], "interval=", 9) == 0)
            options.interval_ms = strtoull(text[i], NULL, 10);
        else if (strncmp(words[i], "from=", 5) == 0)
            options.from_start = 1;
    }
    if (strcmp(kind, "sse") == 0)
        return gw_source_sse(bus, what[0], &options);
    if (strcmp(kind, "poll") == 0)
        return gw_source_poll(bus, what[0], &options);
    if (strcmp(kind, "timer") == 0)
        return gw_source_timer(bus, what[0] ? strtoull(what[0], NULL, 10) : 0, &options);
    if (strcmp(kind, "cron") == 0)
        return gw_source_cron(bus, what[0], &options);
    if (strcmp(kind, "file") == 0)
        return gw_source_file(bus, what[0], &options);
    if (strcmp(kind, "directory") == 0)
        return gw_source_directory(bus, what[0], &options);
    if (strcmp(kind, "tcp") == 0)
        return gw_source_tcp(bus, what[0], &options);
    if (strcmp(kind, "unix") == 0)
        return gw_source_unix(bus, what[0], &options);
    if (strcmp(kind, "stdin") == 0)
        return gw_source_stdin(bus, &options);
    if (strcmp(kind, "process") == 0)
        return gw_source_process(bus, what, &options);
    if (strcmp(kind, "signal") == 0)
        return gw_source_signal(bus, what[0] ? atoi(what[0]) : 0, &options);
    return gw_source_amqp(bus, what[0], what[1], &options);
}

static void on_notice(void *context, int level, const char *sentence)
{
    (void)context;
    printf("notice %d %s\n", level, sentence);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    signal(SIGTERM, on_term);
    loop = gw_loop_new();
    gw_bus *bus = strncmp(argv[1], "amqp", 4) == 0 ? gw_connect(loop, argv[1], &(gw_connect_options){ .notice = on_notice }) : gw_open(loop, argv[1], &(gw_open_options){ .notice = on_notice });
    gw_on(bus, "#", on_event, NULL, &(gw_handler_options){ .name = "all" });
    if (strcmp(argv[2], "many") == 0)
        for (int i = 0; i < atoi(argv[3]); i++) {
            char name[32];
            snprintf(name, sizeof name, "t%d", i);
            if (!gw_source_timer(bus, 1000, &(gw_source_options){ .name = name, .type = "{{source}}" }))
                printf("error %s\n", gw_error(loop));
        }
    else
        for (int at = 2; at < argc; at++) {
            int end = at;
            while (end < argc && strcmp(argv[end], "--") != 0)
                end++;
            gw_source *source = begin(bus, argv[at], argv + at + 1, end - at - 1);
            if (!source)
                printf("error %s\n", gw_error(loop));
            at = end;
        }
    fflush(stdout);
    int result = gw_loop_run(loop);
    gw_loop_free(loop);
    puts("end");
    return -result;
}
