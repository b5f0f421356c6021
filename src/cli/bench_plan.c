#include "cli/bench_plan.h"

#include "protocol/amqp/table.h"

#include <stdio.h>
#include <stdlib.h>

void bench_pattern_fill(uint8_t *pattern)
{
    for (uint32_t i = 0; i < BENCH_PATTERN_SIZE; i++) {
        uint32_t place = i & (BENCH_PATTERN_PERIOD - 1);
        pattern[i] = (uint8_t)(' ' + (place * 2654435761u >> 16) % 95);   /* printable, so that a body can be looked at */
    }
}

/* One value of a text of `size` bytes. */
static void put_value(struct amqp_table_writer *writer, const char *name, const char *text, size_t size)
{
    char number[32], *end = NULL;
    snprintf(number, sizeof number, "%.*s", (int)size, text);
    long long value = strtoll(number, &end, 10);
    if (size && size < sizeof number && *end == '\0')
        amqp_table_put_long(writer, name, value);
    else if (strcmp(number, "true") == 0 || strcmp(number, "false") == 0)
        amqp_table_put_bool(writer, name, number[0] == 't');
    else
        amqp_table_put_text(writer, name, bytes_of(text, size));
}

bool bench_plan_arguments(struct bench_plan *plan, const char *text)
{
    struct amqp_table_writer writer;
    struct bytes table;
    amqp_table_begin(&writer, plan->arguments, sizeof plan->arguments);
    while (*text) {
        size_t size = strcspn(text, ","), key = strcspn(text, "=");
        char name[256];
        if (key == 0 || key >= size || key >= sizeof name)
            return false;
        snprintf(name, sizeof name, "%.*s", (int)key, text);
        put_value(&writer, name, text + key + 1, size - key - 1);
        plan->is_stream |= strcmp(name, "x-queue-type") == 0 && size - key - 1 == 6 && memcmp(text + key + 1, "stream", 6) == 0;
        text += size + (text[size] == ',');
    }
    if (!amqp_table_finish(&writer, &table))
        return false;
    memmove(plan->arguments, table.data, table.size);
    plan->arguments_size = (uint32_t)table.size;
    return true;
}

void bench_queue_name(const struct bench_plan *plan, uint32_t queue, char *name)
{
    snprintf(name, 256, "%.*s-%0*u", (int)BENCH_PREFIX_MAX, plan->prefix, (int)BENCH_QUEUE_DIGITS, queue);
}

void bench_exchange_name(const struct bench_plan *plan, char *name)
{
    if (strcmp(plan->exchange_type, "default") == 0)
        name[0] = '\0';
    else
        snprintf(name, 256, "%.*s", (int)BENCH_PREFIX_MAX, plan->prefix);
}

struct bench_share bench_share(uint32_t worker, uint32_t workers, uint32_t queues)
{
    if (queues <= workers)
        return (struct bench_share){worker % queues, 1, 1};
    return (struct bench_share){worker, workers, (queues - worker + workers - 1) / workers};
}
