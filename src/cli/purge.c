/* godwit purge: empties queues. */
#include "cli/commands.h"

#include "cli/visit.h"

struct settings {
    struct visit_settings visit;
};

static const struct option options[] = {VISIT_OPTIONS(settings, visit)};

static int run(const struct command *command, const void *given, char **operands, int operand_count)
{
    const struct settings *settings = given;
    struct visit visit;
    int code = visit_open(&visit, command, &settings->visit, &(struct remote_events){0});
    if (code)
        return code;
    for (int i = 0; i < operand_count && code == EXIT_DONE; i++) {
        uint32_t count;
        if (remote_queue_purge(visit.remote, operands[i], &count))
            code = visit_failed(&visit);
        else
            printf("%u messages removed from %s\n", count, operands[i]);
    }
    visit_close(&visit);
    return code;
}

const struct command purge_command = {
    .name = "purge",
    .operands = "QUEUE...",
    .summary = "remove all ready messages from queues",
    .text = "Messages that were delivered and are not acknowledged yet stay. There is no way back.",
    .table = {options, sizeof options / sizeof options[0]},
    .operands_min = 1,
    .operands_max = OPERANDS_ANY,
    .settings_size = sizeof(struct settings),
    .run = run,
};
