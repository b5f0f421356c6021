#include "cli/command.h"

#include "cli/commands.h"
#include "cli/console.h"

#include <stdlib.h>
#include <string.h>

const struct command *const *command_list(size_t *count)
{
    static const struct command *const commands[] = {
        &serve_command, &publish_command, &consume_command, &get_command, &queues_command, &exchanges_command, &bindings_command,
        &purge_command, &transactions_command, &tokens_command, &outlook_command, &queue_command, &events_command, &subscriptions_command, &sources_command,
        &ctl_command, &bench_command, &sink_command, &sim_command, &completion_command,
    };
    *count = sizeof commands / sizeof commands[0];
    return commands;
}

const struct command *command_find(const char *name)
{
    size_t count;
    const struct command *const *commands = command_list(&count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    }
    return NULL;
}

const struct command *command_nearest(const char *name)
{
    size_t count;
    const struct command *best = NULL, *const *commands = command_list(&count);
    for (size_t i = 0; i < count; i++) {
        if (!option_is_near(name, commands[i]->name))
            continue;
        if (!best || option_distance(name, commands[i]->name) < option_distance(name, best->name))
            best = commands[i];
    }
    return best;
}

void command_print_help(const struct command *command, FILE *out)
{
    fprintf(out, "Usage: godwit %s%s%s%s\n\n%c%s.\n", command->name, command->table.count ? " [OPTION...]" : "",
            *command->operands ? " " : "", command->operands, command->summary[0] - 'a' + 'A', command->summary + 1);
    if (command->text)
        fprintf(out, "\n%s\n", command->text);
    fputs("\nOptions:\n", out);
    option_print_help(&command->table, out);
}

static int usage(const struct command *command, const char *complaint)
{
    struct console console;
    console_init(&console, command->name);
    console_complain(&console, "%s\nTry 'godwit help %s'.", complaint, command->name);
    return EXIT_USAGE;
}

int command_run(const struct command *command, int argc, char **argv)
{
    char complaint[400];
    int operand_count;
    bool help;
    CHECK(!command->is_entry);
    void *settings = calloc(1, command->settings_size ? command->settings_size : 1);
    if (!settings)
        return usage(command, "out of memory");
    if (command->defaults)
        memcpy(settings, command->defaults, command->settings_size);
    int code;
    if (option_parse(&command->table, settings, argc - 1, argv + 1, &operand_count, &help, complaint, sizeof complaint)) {
        code = usage(command, complaint);
    } else if (help) {
        command_print_help(command, stdout);
        code = EXIT_DONE;
    } else if (operand_count < command->operands_min) {
        snprintf(complaint, sizeof complaint, "something is missing: %s", command->operands);
        code = usage(command, complaint);
    } else if (operand_count > command->operands_max) {
        snprintf(complaint, sizeof complaint, "one word too many: '%.200s'", argv[1 + command->operands_max]);
        code = usage(command, complaint);
    } else {
        code = command->run(command, settings, argv + 1, operand_count);
    }
    free(settings);
    return code;
}
