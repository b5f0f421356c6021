#include "cli/program.h"

#include "cli/command.h"
#include "cli/console.h"

#include <string.h>

static void print_help(FILE *out)
{
    size_t count;
    const struct command *const *commands = command_list(&count);
    fputs("Usage: godwit COMMAND [OPTION...]\n\nA message broker that unmodified AMQP 0-9-1 clients speak to.\n\nCommands:\n", out);
    for (size_t i = 0; i < count; i++)
        fprintf(out, "  %-12s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(out, "  %-12s %s\n", "help", "explain a command: godwit help COMMAND");
    fputs("\nOptions:\n"
          "  -h, --help     show this text\n"
          "  -V, --version  print the version\n"
          "\nExit codes: 0 done, 1 failed, 2 wrong command line, 3 unroutable or refused, 4 no messages.\n", out);
}

static int unknown(const char *what, const char *word, const char *nearest)
{
    struct console console;
    console_init(&console, NULL);
    if (nearest)
        console_complain(&console, "unknown %s '%s'; did you mean '%s'?", what, word, nearest);
    else
        console_complain(&console, "unknown %s '%s'; 'godwit help' lists them", what, word);
    return EXIT_USAGE;
}

static int unknown_command(const char *word)
{
    const struct command *nearest = command_nearest(word);
    return unknown("command", word, nearest ? nearest->name : option_is_near(word, "help") ? "help" : NULL);
}

/* Runs a command that lies above this layer. */
static int run_entry(const struct command *command, int argc, char **argv, const struct program_entry *entries, size_t entry_count)
{
    for (size_t i = 0; i < entry_count; i++) {
        if (strcmp(entries[i].name, command->name) == 0)
            return entries[i].main(argc, argv);
    }
    struct console console;
    console_init(&console, command->name);
    console_complain(&console, "this program was built without it");
    return EXIT_FAILED;
}

static int run(int argc, char **argv, const struct program_entry *entries, size_t entry_count)
{
    const struct command *command = command_find(argv[0]);
    if (!command)
        return unknown_command(argv[0]);
    return command->is_entry ? run_entry(command, argc, argv, entries, entry_count) : command_run(command, argc, argv);
}

static int help(int argc, char **argv, const struct program_entry *entries, size_t entry_count)
{
    static char option[] = "--help";
    if (argc < 2) {
        print_help(stdout);
        return EXIT_DONE;
    }
    char *words[] = {argv[1], option, NULL};
    return run(2, words, entries, entry_count);
}

int program_main(int argc, char **argv, const struct program_entry *entries, size_t entry_count)
{
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "help") == 0)
        return help(argc - 1, argv + 1, entries, entry_count);
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        return help(1, argv, entries, entry_count);
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0 || strcmp(word, "version") == 0) {
        puts("godwit " GODWIT_VERSION);
        return EXIT_DONE;
    }
    if (word[0] == '-') {
        const char *bare = word + strspn(word, "-");
        return unknown("option", word, option_is_near(bare, "version") ? "--version" : option_is_near(bare, "help") ? "--help" : NULL);
    }
    return run(argc - 1, argv + 1, entries, entry_count);
}
