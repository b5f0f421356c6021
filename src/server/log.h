/* The server's log: what parts of the broker tell the operator, as timestamped lines on stderr. Thread-safe. */
#ifndef SERVER_LOG_H
#define SERVER_LOG_H

#include "io/alarm.h"

struct log_lines {
    struct alarm_sink sink;
    enum alarm_level level;   /* what is below it is not written */
};

void log_lines_init(struct log_lines *lines, enum alarm_level level);

#endif
