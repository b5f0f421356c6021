/* What a part of the broker tells the operator: logged with its cause, and raised as an alarm where it must not be missed. */
#ifndef IO_ALARM_H
#define IO_ALARM_H

enum alarm_level { ALARM_INFO, ALARM_WARNING, ALARM_ERROR };

/* Implemented by the server (log lines), the simulator (events) and tests. */
struct alarm_sink {
    void (*raise)(struct alarm_sink *sink, enum alarm_level level, const char *text);
};

__attribute__((format(printf, 3, 4)))
void alarm_raise(struct alarm_sink *sink, enum alarm_level level, const char *format, ...);

#endif
