/* What a command says to whoever started it: complaints, progress, colour. All on stderr, so that stdout stays data. */
#ifndef CLI_CONSOLE_H
#define CLI_CONSOLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct console {
    const char *command;        /* whose complaints these are, e.g. "publish" */
    bool colour_err, colour_out;
    bool shows_progress;        /* stderr is a terminal */
    uint64_t started_ms, shown_ms;
    bool line_open;             /* a progress line is on the screen */
};

/* Colours only where the stream is a terminal, NO_COLOR is unset or empty, and TERM is not "dumb". */
void console_init(struct console *console, const char *command);

/* "godwit publish: " and the sentence. */
__attribute__((format(printf, 2, 3)))
void console_complain(struct console *console, const char *format, ...);

/* Shows `done` `what` and their rate, at most five times a second and only when the work has lasted a second. */
void console_progress(struct console *console, uint64_t done, const char *what);

/* Takes the progress line off the screen. */
void console_clear(struct console *console);

#endif
