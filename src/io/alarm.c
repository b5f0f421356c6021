#include "io/alarm.h"

#include <stdarg.h>
#include <stdio.h>

void alarm_raise(struct alarm_sink *sink, enum alarm_level level, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (sink)
        sink->raise(sink, level, text);
}
