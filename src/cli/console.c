#include "cli/console.h"

#include "client/dial.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROGRESS_AFTER_MS 1000u
#define PROGRESS_EVERY_MS 200u

static bool colour_wanted(int fd)
{
    const char *no_colour = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(fd) && !(no_colour && *no_colour) && !(term && strcmp(term, "dumb") == 0);
}

void console_init(struct console *console, const char *command)
{
    *console = (struct console){
        .command = command,
        .colour_err = colour_wanted(STDERR_FILENO),
        .colour_out = colour_wanted(STDOUT_FILENO),
        .shows_progress = isatty(STDERR_FILENO),
        .started_ms = dial_now_ms(),
    };
}

void console_clear(struct console *console)
{
    if (!console->line_open)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    console->line_open = false;
}

void console_complain(struct console *console, const char *format, ...)
{
    va_list arguments;
    console_clear(console);
    fprintf(stderr, "%sgodwit%s%s:%s ", console->colour_err ? "\033[31m" : "", console->command ? " " : "",
            console->command ? console->command : "", console->colour_err ? "\033[0m" : "");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

void console_progress(struct console *console, uint64_t done, const char *what)
{
    if (!console->shows_progress)
        return;
    uint64_t now = dial_now_ms(), elapsed_ms = now - console->started_ms;
    if (elapsed_ms < PROGRESS_AFTER_MS || now - console->shown_ms < PROGRESS_EVERY_MS)
        return;
    console->shown_ms = now;
    console->line_open = true;
    fprintf(stderr, "\r%" PRIu64 " %s, %.0f/s\033[K", done, what, (double)done * 1000 / (double)elapsed_ms);
    fflush(stderr);
}
