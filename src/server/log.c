#include "server/log.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_SIZE 1024

static const char *const names[] = {"info", "warning", "error"};

/* Bytes that came from a peer may be in the text: they do not get to start a line or to steer a terminal. */
static void make_printable(char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)text[i] < 32 || text[i] == 127)
            text[i] = '?';
    }
}

static void raise_line(struct alarm_sink *sink, enum alarm_level level, const char *text)
{
    struct log_lines *lines = (struct log_lines *)sink;
    char line[LINE_SIZE];
    struct timespec now;
    struct tm utc;
    if (level < lines->level)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t size = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &utc);
    int rest = snprintf(line + size, sizeof(line) - size - 1, ".%03ldZ %s: %s", now.tv_nsec / 1000000, names[level], text);
    if (rest < 0)
        return;
    size_t room = sizeof(line) - size - 2;
    size += (size_t)rest < room ? (size_t)rest : room;
    make_printable(line, size);
    line[size++] = '\n';
    /* One write a line, so that lines of several threads do not mix. Nobody could be told that it failed. */
    (void)!write(STDERR_FILENO, line, size);
}

void log_lines_init(struct log_lines *lines, enum alarm_level level)
{
    *lines = (struct log_lines){.sink = {.raise = raise_line}, .level = level};
}
