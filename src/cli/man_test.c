/* The manual page and the program's tables of options name the same options, and so do the commands that read theirs
 * themselves. Arguments: the manual page, the program. */
#include "cli/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define NAMES_MAX 64
#define NAME_SIZE 64

struct names {
    char names[NAMES_MAX][NAME_SIZE];
    char letters[NAMES_MAX];
    size_t count;
};


static const char *const *paths_of(void **state)
{
    return (const char *const *)*state;
}

static bool has(const struct names *names, const char *name, char letter)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->names[i], name) == 0)
            return letter == '?' || names->letters[i] == letter;
    }
    return false;
}

/* Adds the first --name of a line, and the -l before it. */
static void add_option(struct names *names, const char *line)
{
    const char *name = strstr(line, "--");
    if (!name || names->count == NAMES_MAX)
        return;
    size_t size = strspn(name + 2, "abcdefghijklmnopqrstuvwxyz0123456789-");
    if (size == 0 || size >= NAME_SIZE)
        return;
    memcpy(names->names[names->count], name + 2, size);
    names->names[names->count][size] = '\0';
    const char *dash = strchr(line, '-');
    names->letters[names->count++] = dash < name ? dash[1] : '\0';
}

/* Takes the backslashes out of \- and the like. */
static void unescape(char *line)
{
    char *to = line;
    for (const char *from = line; *from; from++) {
        if (*from != '\\')
            *to++ = *from;
    }
    *to = '\0';
}

/* The options of a command's section of the page; false: there is no such section. */
static bool read_section(const char *page, const char *command, struct names *names)
{
    char line[1000], heading[64];
    bool inside = false, found = false, after_tp = false;
    FILE *file = fopen(page, "re");
    assert_non_null(file);
    names->count = 0;
    snprintf(heading, sizeof heading, ".SS godwit %s ", command);
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = ' ';
        if (strncmp(line, ".SS", 3) == 0 || strncmp(line, ".SH", 3) == 0) {
            inside = strncmp(line, heading, strlen(heading)) == 0;
            found |= inside;
        }
        unescape(line);
        if (inside && after_tp)
            add_option(names, line);
        after_tp = strncmp(line, ".TP", 3) == 0;
    }
    fclose(file);
    return found;
}

static void compare(const char *where, const struct command *command, const struct names *names, bool with_letters)
{
    for (size_t i = 0; i < command->table.count; i++) {
        const struct option *option = &command->table.options[i];
        if (!has(names, option->name, with_letters ? option->letter : '?'))
            fail_msg("%s does not have --%s of godwit %s, or another letter for it", where, option->name, command->name);
    }
    for (size_t i = 0; i < names->count; i++) {
        bool known = strcmp(names->names[i], "help") == 0;
        for (size_t j = 0; j < command->table.count; j++)
            known |= strcmp(command->table.options[j].name, names->names[i]) == 0;
        if (!known)
            fail_msg("%s has --%s, which godwit %s does not know", where, names->names[i], command->name);
    }
}

static void the_page_has_every_option_and_no_other(void **state)
{
    size_t count;
    const struct command *const *commands = command_list(&count);
    for (size_t i = 0; i < count; i++) {
        struct names names;
        if (!read_section(paths_of(state)[1], commands[i]->name, &names))
            fail_msg("the page has no section about godwit %s", commands[i]->name);
        compare("the page", commands[i], &names, true);
    }
}

/* Whoever reads its options itself prints them with --help, one a line. */
static void commands_from_above_know_the_options_of_their_rows(void **state)
{
    size_t count;
    const struct command *const *commands = command_list(&count);
    const char *program = paths_of(state)[2];
    if (!program || access(program, X_OK) != 0)
        skip();
    for (size_t i = 0; i < count; i++) {
        struct names names = {.count = 0};
        char line[1000];
        if (!commands[i]->is_entry)
            continue;
        snprintf(line, sizeof line, "'%s' %s --help", program, commands[i]->name);
        FILE *output = popen(line, "re");
        assert_non_null(output);
        while (fgets(line, sizeof line, output)) {
            if (strspn(line, " ") <= 6 && line[strspn(line, " ")] == '-')
                add_option(&names, line);
        }
        assert_int_equal(pclose(output), 0);
        compare("its --help", commands[i], &names, false);
    }
}

static void letters_and_names_are_unique(void **state)
{
    size_t count;
    const struct command *const *commands = command_list(&count);
    (void)state;
    for (size_t c = 0; c < count; c++) {
        const struct option_table *table = &commands[c]->table;
        for (size_t i = 0; i < table->count; i++) {
            assert_string_not_equal(table->options[i].name, "help");
            for (size_t j = 0; j < i; j++) {
                assert_string_not_equal(table->options[i].name, table->options[j].name);
                if (table->options[i].letter)
                    assert_int_not_equal(table->options[i].letter, table->options[j].letter);
            }
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: man_test PAGE [PROGRAM]\n");
        return 2;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(the_page_has_every_option_and_no_other, argv),
        cmocka_unit_test_prestate(commands_from_above_know_the_options_of_their_rows, argv),
        cmocka_unit_test(letters_and_names_are_unique),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
