#include "sim/trace.h"

#include "sim/random.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *text, *arguments;
} event_names[] = {
#define EVENT(name, text, arguments) {text, arguments},
    TRACE_EVENTS(EVENT)
#undef EVENT
};

void trace_init(struct trace *trace, bool verbose)
{
    memset(trace, 0, sizeof(*trace));
    trace->verbose = verbose;
}

static void print_event(const struct trace_event *event)
{
    const uint64_t values[] = {event->a, event->b, event->c, event->d};
    const char *name = event_names[event->kind].arguments;
    fprintf(stderr, "%10" PRIu64 "  %s", event->now_us, event_names[event->kind].text);
    for (unsigned i = 0; i < 4 && *name; i++) {
        int size = (int)strcspn(name, " ");
        fprintf(stderr, " %.*s=%" PRIu64, size, name, values[i]);
        name += size + (name[size] == ' ');
    }
    fputc('\n', stderr);
}

void trace_event(struct trace *trace, enum trace_kind kind, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    struct trace_event *event = &trace->kept[trace->count++ % TRACE_KEPT];
    *event = (struct trace_event){trace->now_us, a, b, c, d, kind};
    uint64_t sum = a * 0x9e3779b97f4a7c15u + b * 0xc2b2ae3d27d4eb4fu + c * 0x165667b19e3779f9u + d * 0xd6e8feb86659fd93u + kind;
    trace->hash = random_mix(trace->hash ^ sum ^ (trace->now_us << 20));
    if (trace->verbose)
        print_event(event);
}

void trace_fail(struct trace *trace, const char *invariant, const char *format, ...)
{
    if (trace->failed)
        return;
    trace->failed = true;
    snprintf(trace->invariant, sizeof(trace->invariant), "%s", invariant);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(trace->failure, sizeof(trace->failure), format, arguments);
    va_end(arguments);
    if (trace->verbose)
        fprintf(stderr, "%10" PRIu64 "  FAILED %s: %s\n", trace->now_us, trace->invariant, trace->failure);
}

void trace_note(struct trace *trace, const char *format, ...)
{
    if (!trace->verbose)
        return;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%10" PRIu64 "  ", trace->now_us);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

void trace_print_kept(const struct trace *trace)
{
    uint64_t count = trace->count < TRACE_KEPT ? trace->count : TRACE_KEPT;
    for (uint64_t i = trace->count - count; i < trace->count; i++)
        print_event(&trace->kept[i % TRACE_KEPT]);
}
