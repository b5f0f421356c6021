/* godwit completion: scripts with which a shell completes commands and options, made from the option tables. */
#include "cli/commands.h"

#include <string.h>

/* The words that a command's first operand may be. */
static void print_words(const struct command *command, const char *before, const char *after)
{
    const char *word;
    for (size_t i = 0; command->word && (word = command->word(i)); i++)
        printf("%s%s%s", before, word, after);
}

static int run_bash(void)
{
    size_t count;
    const struct command *const *commands = command_list(&count);
    puts("# bash completion for godwit\n"
         "_godwit() {\n"
         "    local word=\"${COMP_WORDS[COMP_CWORD]}\" before=\"${COMP_WORDS[COMP_CWORD-1]}\" command=\"${COMP_WORDS[1]}\" words=\n"
         "    if [ \"$COMP_CWORD\" -eq 1 ]; then");
    fputs("        words='help --help --version", stdout);
    for (size_t i = 0; i < count; i++)
        printf(" %s", commands[i]->name);
    puts("'\n    else\n        case \"$command $before\" in");
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < commands[i]->table.count; j++) {
            const struct option *option = &commands[i]->table.options[j];
            if (option->kind != OPTION_CHOICE)
                continue;
            printf("        '%s --%s') words='", commands[i]->name, option->name);
            for (const char *p = option->argument; *p; p++)
                putchar(*p == '|' ? ' ' : *p);
            puts("' ;;");
        }
    }
    puts("        *' --file'|*' --directory'|*' --data-dir'|*' --config'|*' --sync-floor') COMPREPLY=($(compgen -f -- \"$word\")); return ;;\n"
         "        *)\n            case \"$command\" in");
    fputs("            help) words='", stdout);
    for (size_t i = 0; i < count; i++)
        printf("%s ", commands[i]->name);
    puts("' ;;");
    for (size_t i = 0; i < count; i++) {
        printf("            %s) words='--help", commands[i]->name);
        print_words(commands[i], " ", "");
        for (size_t j = 0; j < commands[i]->table.count; j++)
            printf(" --%s", commands[i]->table.options[j].name);
        puts("' ;;");
    }
    puts("            esac ;;\n        esac\n    fi\n"
         "    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
         "}\n"
         "complete -F _godwit godwit");
    return EXIT_DONE;
}

/* A text between single quotes, where zsh gives meaning to `special` characters too. */
static void print_quoted(const char *text, const char *special)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else if (strchr(special, *text))
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

static int run_zsh(void)
{
    size_t count;
    const struct command *const *commands = command_list(&count);
    puts("#compdef godwit\n"
         "# zsh completion for godwit\n"
         "_godwit() {\n"
         "    local -a commands=(");
    for (size_t i = 0; i < count; i++) {
        printf("        '%s:", commands[i]->name);
        print_quoted(commands[i]->summary, "");
        puts("'");
    }
    puts("        'help:explain a command'\n"
         "    )\n"
         "    if (( CURRENT == 2 )); then\n"
         "        _describe command commands\n"
         "        return\n"
         "    fi\n"
         "    local command=$words[2]\n"
         "    shift words\n"
         "    (( CURRENT-- ))\n"
         "    case $command in\n"
         "    help) _describe command commands ;;");
    for (size_t i = 0; i < count; i++) {
        printf("    %s) _arguments", commands[i]->name);
        for (size_t j = 0; j < commands[i]->table.count; j++) {
            const struct option *option = &commands[i]->table.options[j];
            printf(" \\\n        '%s--%s%s[", option->kind == OPTION_LIST ? "*" : "", option->name, option->argument ? "=" : "");
            print_quoted(option->help, "[]:");
            putchar(']');
            if (option->kind == OPTION_CHOICE) {
                printf(":%s:(", option->name);
                for (const char *p = option->argument; *p; p++)
                    putchar(*p == '|' ? ' ' : *p);
                putchar(')');
            } else if (option->argument) {
                bool is_file = strcmp(option->argument, "FILE") == 0 || strcmp(option->argument, "DIR") == 0;
                printf(":%s:%s", option->argument, is_file ? "_files" : "");
            }
            putchar('\'');
        }
        if (commands[i]->word) {
            printf(" '1:%s:(", commands[i]->name);
            print_words(commands[i], "", " ");
            fputs(")'", stdout);
        }
        puts(" '--help[show help]' '*:' ;;");
    }
    puts("    esac\n"
         "}\n"
         "if [ \"$funcstack[1]\" = _godwit ]; then _godwit \"$@\"; else compdef _godwit godwit; fi");
    return EXIT_DONE;
}

static int run_fish(void)
{
    size_t count;
    const struct command *const *commands = command_list(&count);
    puts("# fish completion for godwit\n"
         "complete -c godwit -f\n"
         "complete -c godwit -n __fish_use_subcommand -a help -d 'explain a command'\n"
         "complete -c godwit -n __fish_use_subcommand -l version -d 'print the version'");
    for (size_t i = 0; i < count; i++) {
        const struct command *command = commands[i];
        printf("complete -c godwit -n __fish_use_subcommand -a %s -d '", command->name);
        print_quoted(command->summary, "");
        printf("'\ncomplete -c godwit -n '__fish_seen_subcommand_from help' -a %s\n", command->name);
        if (command->word) {
            printf("complete -c godwit -n '__fish_seen_subcommand_from %s' -a '", command->name);
            print_words(command, "", " ");
            puts("'");
        }
        for (size_t j = 0; j < command->table.count; j++) {
            const struct option *option = &command->table.options[j];
            printf("complete -c godwit -n '__fish_seen_subcommand_from %s' -l %s", command->name, option->name);
            if (option->letter)
                printf(" -s %c", option->letter);
            if (option->kind == OPTION_CHOICE) {
                fputs(" -xa '", stdout);
                for (const char *p = option->argument; *p; p++)
                    putchar(*p == '|' ? ' ' : *p);
                putchar('\'');
            } else if (option->argument) {
                fputs(" -r", stdout);
                if (strcmp(option->argument, "FILE") == 0 || strcmp(option->argument, "DIR") == 0)
                    fputs(" -F", stdout);
            }
            fputs(" -d '", stdout);
            print_quoted(option->help, "");
            puts("'");
        }
    }
    return EXIT_DONE;
}

static int run(const struct command *command, const void *settings, char **operands, int operand_count)
{
    (void)settings, (void)operand_count;
    if (strcmp(operands[0], "bash") == 0)
        return run_bash();
    if (strcmp(operands[0], "zsh") == 0)
        return run_zsh();
    if (strcmp(operands[0], "fish") == 0)
        return run_fish();
    fprintf(stderr, "godwit %s: the shell is one of bash, zsh, fish, not '%s'\n", command->name, operands[0]);
    return EXIT_USAGE;
}

static const char *shell(size_t index)
{
    static const char *const shells[] = {"bash", "zsh", "fish"};
    return index < sizeof shells / sizeof shells[0] ? shells[index] : NULL;
}

const struct command completion_command = {
    .name = "completion",
    .operands = "bash|zsh|fish",
    .summary = "print a script with which the shell completes godwit's commands",
    .text = "  source <(godwit completion bash)",
    .operands_min = 1,
    .operands_max = 1,
    .run = run,
    .word = shell,
};
