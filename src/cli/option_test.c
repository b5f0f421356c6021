#include "cli/option.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct settings {
    bool loud, quick;
    const char *name, *kind;
    uint64_t count, wait_ms;
    struct option_list headers;
};

static const struct option options[] = {
    {'l', OPTION_FLAG, "loud", NULL, "say more", offsetof(struct settings, loud), 0, 0},
    {'q', OPTION_FLAG, "quick", NULL, "hurry", offsetof(struct settings, quick), 0, 0},
    {'n', OPTION_TEXT, "name", "NAME", "who", offsetof(struct settings, name), 0, 0},
    {0, OPTION_CHOICE, "kind", "direct|fanout|topic", "which", offsetof(struct settings, kind), 0, 0},
    {'c', OPTION_NUMBER, "count", "N", "how many", offsetof(struct settings, count), 1, 5000},
    {0, OPTION_DURATION, "wait", "TIME", "how long", offsetof(struct settings, wait_ms), 10, 0},
    {'H', OPTION_LIST, "header", "K=V", "more", offsetof(struct settings, headers), 0, 0},
};
static const struct option_table table = {options, sizeof options / sizeof options[0]};

/* Splits a line into words and parses them; words stays alive through `storage`. */
static enum gw_err parse(struct settings *settings, const char *line, char *storage, char **words, int *operand_count, bool *help,
                         char *complaint)
{
    int count = 0;
    strcpy(storage, line);
    for (char *word = strtok(storage, " "); word; word = strtok(NULL, " "))
        words[count++] = word;
    memset(settings, 0, sizeof *settings);
    return option_parse(&table, settings, count, words, operand_count, help, complaint, 200);
}

static void options_and_operands_mix(void **state)
{
    (void)state;
    struct settings s;
    char storage[200], complaint[200], *words[20];
    int operands;
    bool help;
    const char *line = "first -lq --name=n=1 -c 5k second --wait 1.5 --kind topic -Ha=1 --header b=2 -- --name -x";
    assert_int_equal(parse(&s, line, storage, words, &operands, &help, complaint), GW_OK);
    assert_true(s.loud && s.quick && !help);
    assert_string_equal(s.name, "n=1");
    assert_string_equal(s.kind, "topic");
    assert_int_equal(s.count, 5000);
    assert_int_equal(s.wait_ms, 1500);
    assert_int_equal(s.headers.count, 2);
    assert_string_equal(s.headers.items[0], "a=1");
    assert_string_equal(s.headers.items[1], "b=2");
    assert_int_equal(operands, 4);
    assert_string_equal(words[0], "first");
    assert_string_equal(words[1], "second");
    assert_string_equal(words[2], "--name");
    assert_string_equal(words[3], "-x");
}

static void help_and_a_lone_dash(void **state)
{
    (void)state;
    struct settings s;
    char storage[200], complaint[200], *words[20];
    int operands;
    bool help;
    assert_int_equal(parse(&s, "- --help", storage, words, &operands, &help, complaint), GW_OK);
    assert_true(help);
    assert_int_equal(operands, 1);
    assert_int_equal(parse(&s, "-lh", storage, words, &operands, &help, complaint), GW_OK);
    assert_true(help && s.loud);
}

static void mistakes_are_named_with_the_nearest_option(void **state)
{
    (void)state;
    static const char *const lines[][2] = {
        {"--nmae x", "unknown option --nmae; did you mean --name?"},
        {"--cuont=4", "unknown option --cuont; did you mean --count?"},
        {"--head a=1", "unknown option --head; did you mean --header?"},
        {"--zzzzzzzz", "unknown option --zzzzzzzz"},
        {"-z", "unknown option -z"},
        {"-name x", "--name"},
        {"--name", "--name needs its argument NAME"},
        {"-c", "-c needs its argument N"},
        {"--loud=1", "--loud takes no argument"},
        {"-c 0", "-c is from 1 to 5000, not '0'"},
        {"--count 6k", "--count is from 1 to 5000, not '6k'"},
        {"--count 5x", "--count takes a number such as 1000, 10k or 64Ki, not '5x'"},
        {"--count 99999999999999999999", "--count takes a number"},
        {"--wait 5ms", "--wait is at least 10 ms, not '5ms'"},
        {"--wait soon", "--wait takes a time such as"},
        {"--kind top", "--kind is one of direct|fanout|topic, not 'top'"},
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct settings s;
        char storage[200], complaint[200] = "", *words[20];
        int operands;
        bool help;
        enum gw_err err = parse(&s, lines[i][0], storage, words, &operands, &help, complaint);
        if (strcmp(lines[i][0], "-name x") == 0) {
            assert_int_equal(err, GW_OK);   /* As everywhere, -name is -n with the argument "ame". */
            assert_string_equal(s.name, "ame");
            continue;
        }
        assert_int_equal(err, GW_ERR_INVALID);
        if (strncmp(complaint, lines[i][1], strlen(lines[i][1])) != 0)
            fail_msg("%s: %s", lines[i][0], complaint);
    }
}

static void numbers_and_durations(void **state)
{
    (void)state;
    uint64_t value;
    assert_true(option_number("64Ki", &value) && value == 65536);
    assert_true(option_number("18446744073709551615", &value) && value == UINT64_MAX);
    assert_false(option_number("18446744073709551616", &value));
    assert_false(option_number("18446744073709551615k", &value));
    assert_false(option_number("", &value) || option_number("-1", &value) || option_number("1kk", &value));
    assert_true(option_duration("250ms", &value) && value == 250);
    assert_true(option_duration(".5", &value) && value == 500);
    assert_true(option_duration("2m", &value) && value == 120000);
    assert_true(option_duration("1h", &value) && value == 3600000);
    assert_false(option_duration("1.2.3", &value) || option_duration(".", &value) || option_duration("", &value));
    assert_false(option_duration("-1", &value) || option_duration("1d", &value) || option_duration("99999999999h", &value));
}

static void the_list_is_bounded(void **state)
{
    (void)state;
    struct settings s = {0};
    char complaint[200] = "", *words[OPTION_LIST_MAX + 2];
    static char word[] = "-Ha=1";
    int operands;
    bool help;
    for (int i = 0; i <= OPTION_LIST_MAX; i++)
        words[i] = word;
    assert_int_equal(option_parse(&table, &s, OPTION_LIST_MAX, words, &operands, &help, complaint, sizeof complaint), GW_OK);
    memset(&s, 0, sizeof s);
    assert_int_equal(option_parse(&table, &s, OPTION_LIST_MAX + 1, words, &operands, &help, complaint, sizeof complaint),
                     GW_ERR_INVALID);
}

static void distances(void **state)
{
    (void)state;
    assert_int_equal(option_distance("", ""), 0);
    assert_int_equal(option_distance("abc", ""), 3);
    assert_int_equal(option_distance("publish", "publihs"), 1);
    assert_int_equal(option_distance("kitten", "sitting"), 3);
    assert_true(option_is_near("consmue", "consume"));
    assert_true(option_is_near("pub", "publish"));
    assert_false(option_is_near("x", "publish"));
    assert_false(option_is_near("bench", "purge"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_and_operands_mix),
        cmocka_unit_test(help_and_a_lone_dash),
        cmocka_unit_test(mistakes_are_named_with_the_nearest_option),
        cmocka_unit_test(numbers_and_durations),
        cmocka_unit_test(the_list_is_bounded),
        cmocka_unit_test(distances),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
