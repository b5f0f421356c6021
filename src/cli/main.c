/* godwit: finds the command and runs it. */
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

static int help(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stdout);
        return EXIT_DONE;
    }
    const struct command *command = command_find(argv[1]);
    if (!command)
        return unknown_command(argv[1]);
    command_print_help(command, stdout);
    return EXIT_DONE;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "help") == 0)
        return help(argc - 1, argv + 1);
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        return help(1, argv);
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0 || strcmp(word, "version") == 0) {
        puts("godwit " GODWIT_VERSION);
        return EXIT_DONE;
    }
    if (word[0] == '-')
        return unknown("option", word, option_is_near(word + strspn(word, "-"), "version") ? "--version" :
                       option_is_near(word + strspn(word, "-"), "help") ? "--help" : NULL);
    const struct command *command = command_find(word);
    return command ? command_run(command, argc - 1, argv + 1) : unknown_command(word);
}
