/* godwit transactions: lists transactions in two steps, and decides them. */
#include "cli/commands.h"

#include "cli/list.h"
#include "protocol/amqp/properties.h"

#include <string.h>

#define ID_MAX 255u

static const struct option options[] = {LIST_OPTIONS(list_settings)};

static const char *word(size_t index)
{
    static const char *const words[] = {"list", "commit", "rollback"};
    return index < sizeof words / sizeof words[0] ? words[index] : NULL;
}

struct decision {
    bool answered, accepted;
};

static void on_confirmed(void *owner, uint64_t number, bool multiple, bool accepted)
{
    struct decision *decision = owner;
    (void)number, (void)multiple;
    decision->answered = true;
    decision->accepted = accepted;
}

/* Publishes what is decided of one, and waits for the confirm. */
static int decide(struct visit *visit, struct decision *decision, const char *what, const char *id)
{
    uint8_t table[ID_MAX + 64], properties_room[ID_MAX + 128];
    struct amqp_table_writer writer;
    struct amqp_properties properties = {.flags = AMQP_HEADERS};
    unsigned ready;
    amqp_table_begin(&writer, table, sizeof table);
    amqp_table_put_text(&writer, "x-transaction", bytes_of_text(id));
    if (!*id || strlen(id) > ID_MAX || !amqp_table_finish(&writer, &properties.headers)) {
        console_complain(&visit->console, "a transaction's id has 1 to %u bytes", ID_MAX);
        return EXIT_USAGE;
    }
    struct bytes encoded = bytes_of(properties_room, amqp_properties_encode(&properties, properties_room, sizeof properties_room));
    *decision = (struct decision){0};
    enum gw_err err = remote_publish(visit->remote, bytes_of_text("amq.godwit.transactions"), bytes_of_text(what), false, encoded, (struct bytes){0});
    while (!err && !decision->answered && !visit_interrupted(visit))
        err = remote_wait(visit->remote, -1, REMOTE_FOREVER, &ready);
    if (err || !decision->answered)
        return err ? visit_failed(visit) : EXIT_FAILED;
    if (!decision->accepted) {
        console_complain(&visit->console, "no transaction '%s' waits for a %s: it is not known, or was decided otherwise", id, what);
        return EXIT_FAILED;
    }
    printf("%s: %s\n", id, strcmp(what, "commit") == 0 ? "committed" : "rolled back");
    return EXIT_DONE;
}

static int decide_all(const struct command *command, const struct list_settings *settings, char **operands, int operand_count)
{
    struct visit visit;
    struct decision decision;
    int code = visit_open(&visit, command, &settings->visit, &(struct remote_events){.owner = &decision, .confirmed = on_confirmed});
    if (code)
        return code;
    if (remote_confirm_select(visit.remote))
        code = visit_failed(&visit);
    for (int i = 1; i < operand_count && code == EXIT_DONE; i++)
        code = decide(&visit, &decision, operands[0], operands[i]);
    visit_close(&visit);
    return code;
}

static int run(const struct command *command, const void *settings, char **operands, int operand_count)
{
    static const struct listing listing = {
        "list_transactions", "id state messages age_ms check_queue checks check_limit next_check_ms",
        {{"ID", "id"}, {"STATE", "state"}, {"MESSAGES", "messages"}, {"AGE MS", "age_ms"}, {"CHECKS", "checks"}, {"LIMIT", "check_limit"},
         {"NEXT CHECK MS", "next_check_ms"}, {"CHECK QUEUE", "check_queue"}}, 8,
    };
    struct console console;
    console_init(&console, command->name);
    bool lists = strcmp(operands[0], "list") == 0, decides = strcmp(operands[0], "commit") == 0 || strcmp(operands[0], "rollback") == 0;
    if (lists && operand_count == 1)
        return list_run(command, settings, &listing);
    if (decides && operand_count > 1)
        return decide_all(command, settings, operands, operand_count);
    console_complain(&console, "say list, commit ID... or rollback ID...");
    return EXIT_USAGE;
}

const struct command transactions_command = {
    .name = "transactions",
    .operands = "list|commit|rollback [ID...]",
    .summary = "list transactions in two steps, and decide them",
    .text = "The messages of a transaction are those that were published with its id in the header x-transaction. Nobody gets them before it is committed; once it is rolled "
            "back, nobody ever does.",
    .table = {options, sizeof options / sizeof options[0]},
    .operands_min = 1,
    .operands_max = OPERANDS_ANY,
    .settings_size = sizeof(struct list_settings),
    .run = run,
    .word = word,
};
