/* godwit queue: single messages of a queue, looked at, counted off and sorted out while others use it. */
#include "cli/commands.h"

#include "cli/cell.h"
#include "cli/visit.h"
#include "client/control.h"
#include "client/dial.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAGE 1000                 /* messages that one request is about at most */

struct settings {
    struct visit_settings visit;
    const char *from, *id, *filter;
    struct option_list headers;
    uint64_t limit, body, rate;
    bool all, exchange, json;
};

static const struct option options[] = {
    VISIT_OPTIONS(settings, visit),
    {0, OPTION_TEXT, "from", "POSITION", "browse, scheduled: begin there", offsetof(struct settings, from), 0, 0},
    {'n', OPTION_NUMBER, "limit", "N", "no more than so many messages (default: browse and scheduled 100, otherwise all that fit)", offsetof(struct settings, limit), 1, 0},
    {0, OPTION_TEXT, "id", "ID", "messages with this message-id", offsetof(struct settings, id), 0, 0},
    {'H', OPTION_LIST, "header", "NAME=VALUE", "messages with this header; may be repeated", offsetof(struct settings, headers), 0, 0},
    {'f', OPTION_TEXT, "filter", "CONDITION", "messages for which this is true: type = 'order' AND weight > 10", offsetof(struct settings, filter), 0, 0},
    {'r', OPTION_NUMBER, "rate", "N", "move, copy, replay: no more than so many messages a second", offsetof(struct settings, rate), 1, 1000000},
    {0, OPTION_FLAG, "all", NULL, "delete, cancel: all messages are meant", offsetof(struct settings, all), 0, 0},
    {'b', OPTION_NUMBER, "body", "BYTES", "browse, scheduled: show so many bytes of the bodies (default: 0)", offsetof(struct settings, body), 0, 131072},
    {0, OPTION_FLAG, "exchange", NULL, "scheduled, cancel: what is named is an exchange of type x-delayed-message", offsetof(struct settings, exchange), 0, 0},
    {'j', OPTION_FLAG, "json", NULL, "print the broker's JSON", offsetof(struct settings, json), 0, 0},
};

enum kind { KIND_BROWSE, KIND_SCHEDULED, KIND_HOLDERS, KIND_DELETE, KIND_CANCEL, KIND_MOVE, KIND_COPY, KIND_REPLAY, KIND_TRACE, KIND_LIFE, KIND_COUNT };
enum takes { TAKES_PICK = 1, TAKES_POSITIONS = 2, TAKES_TARGET = 4, TAKES_ALL = 8 /* without being told */, TAKES_WORD = 16, TAKES_POSITION = 32 };

static const struct row {
    const char *name, *command;
    const char *done;             /* the field of the answer that counts, NULL: it lists */
    unsigned takes;
} rows[KIND_COUNT] = {
    [KIND_BROWSE] = {"browse", "queue_browse", NULL, TAKES_PICK},
    [KIND_SCHEDULED] = {"scheduled", "queue_browse", NULL, TAKES_PICK},
    [KIND_HOLDERS] = {"holders", "queue_holders", NULL, 0},
    [KIND_DELETE] = {"delete", "queue_delete_messages", "deleted", TAKES_PICK | TAKES_POSITIONS},
    [KIND_CANCEL] = {"cancel", "queue_cancel", "cancelled", TAKES_PICK | TAKES_POSITIONS},
    [KIND_MOVE] = {"move", "queue_move", "moved", TAKES_PICK | TAKES_TARGET | TAKES_ALL},
    [KIND_COPY] = {"copy", "queue_copy", "copied", TAKES_PICK | TAKES_TARGET | TAKES_ALL},
    [KIND_REPLAY] = {"replay", "queue_replay", "replayed", TAKES_PICK | TAKES_ALL},
    [KIND_TRACE] = {"trace", "queue_trace", NULL, TAKES_WORD},
    [KIND_LIFE] = {"life", "queue_life", NULL, TAKES_POSITION},
};

static const char *word(size_t index) { return index < KIND_COUNT ? rows[index].name : NULL; }

/* ---- asking --------------------------------------------------------------------------------------------------------- */

struct asking {
    struct visit *visit;
    const struct settings *settings;
    const struct row *row;
    json_t *request;
};

/* A header's value as it was typed; the broker compares texts, numbers and booleans with it. False: it is no NAME=VALUE. */
static bool put_header(json_t *headers, const char *item)
{
    const char *equals = strchr(item, '=');
    char name[256];
    if (!equals || equals == item || (size_t)(equals - item) >= sizeof(name))
        return false;
    memcpy(name, item, (size_t)(equals - item));
    name[equals - item] = 0;
    return json_object_set_new(headers, name, json_string(equals + 1)) == 0;
}

/* Exit code; then a complaint was made. */
static int make_request(struct asking *asking, const char *vhost, char **operands, int count)
{
    const struct settings *settings = asking->settings;
    json_t *request = asking->request = json_pack("{s:s, s:s}", "command", asking->row->command, "vhost", vhost);
    json_object_set_new(request, settings->exchange ? "exchange" : "name", json_string(operands[0]));
    if (asking->row == &rows[KIND_SCHEDULED])
        json_object_set_new(request, "state", json_string("scheduled"));
    if (settings->id)
        json_object_set_new(request, "id", json_string(settings->id));
    if (settings->filter)
        json_object_set_new(request, "filter", json_string(settings->filter));
    if (settings->from)
        json_object_set_new(request, "from", json_string(settings->from));
    if (settings->all || (asking->row->takes & TAKES_ALL))
        json_object_set_new(request, "all", json_true());
    if (settings->body)
        json_object_set_new(request, "body", json_integer((json_int_t)settings->body));
    json_t *headers = settings->headers.count ? json_object() : NULL, *positions = count > 1 && (asking->row->takes & TAKES_POSITIONS) ? json_array() : NULL;
    for (size_t i = 0; i < settings->headers.count; i++)
        if (!put_header(headers, settings->headers.items[i])) {
            console_complain(&asking->visit->console, "--header: '%s' is not of the form NAME=VALUE", settings->headers.items[i]);
            json_decref(headers);
            return EXIT_USAGE;
        }
    for (int i = 1; i < count && positions; i++)
        json_array_append_new(positions, json_string(operands[i]));
    if (count > 1 && (asking->row->takes & TAKES_POSITION))
        json_object_set_new(request, "position", json_string(operands[1]));
    if (asking->row->takes & TAKES_WORD)
        json_object_set_new(request, "on", json_boolean(strcmp(operands[1], "on") == 0));
    if (asking->row->takes & TAKES_TARGET)
        json_object_set_new(request, "target", json_string(operands[1]));
    if (headers)
        json_object_set_new(request, "headers", headers);
    if (positions)
        json_object_set_new(request, "positions", positions);
    return EXIT_DONE;
}

/* What the broker says to the request, of which *ok is a part; json_decref the answer. NULL: a complaint was made. */
static json_t *ask(struct asking *asking, json_t **ok)
{
    struct bytes answer;
    char *text = json_dumps(asking->request, JSON_COMPACT);
    if (!text) {
        console_complain(&asking->visit->console, "out of memory");
        return NULL;
    }
    enum gw_err err = remote_control(asking->visit->remote, bytes_of_text(text), CONTROL_TIMEOUT_MS, &answer);
    free(text);
    if (err) {
        visit_failed(asking->visit);
        return NULL;
    }
    json_t *json = json_loadb((const char *)answer.data, answer.size, JSON_ALLOW_NUL, NULL);
    *ok = json_object_get(json, "ok");
    if (*ok)
        return json;
    const char *refusal = json_string_value(json_object_get(json_object_get(json, "error"), "text"));
    console_complain(&asking->visit->console, "%s", refusal ? refusal : "the broker's answer makes no sense");
    json_decref(json);
    return NULL;
}

/* ---- tables --------------------------------------------------------------------------------------------------------- */

static void print_message(const json_t *message, bool with_body)
{
    char position[CELL], state[CELL], due[CELL], id[CELL], key[CELL], size[CELL], body[CELL];
    const json_t *due_ms = json_object_get(message, "due"), *text = json_object_get(message, "body");
    json_t *time = cell_time(due_ms ? due_ms : json_object_get(message, "arrived"));
    printf("%-14s %-10s %-24s %-20s %-20s %8s", cell(json_object_get(message, "position"), position), cell(json_object_get(message, "state"), state), cell(time, due),
           cell(json_object_get(json_object_get(message, "properties"), "message_id"), id), cell(json_object_get(message, "routing_key"), key),
           cell(json_object_get(message, "body_size"), size));
    printf(with_body ? "  %s\n" : "\n", cell(text ? text : json_object_get(message, "body_base64"), body));
    json_decref(time);
}

static void print_event(const json_t *event)
{
    char time[CELL], what[CELL], position[CELL], channel[CELL];
    json_t *at = cell_time(json_object_get(event, "time"));
    printf("%-24s %-20s %-14s %s\n", cell(at, time), cell(json_object_get(event, "event"), what), cell(json_object_get(event, "position"), position),
           cell(json_object_get(event, "channel"), channel));
    json_decref(at);
}

static void print_holder(const json_t *holder)
{
    char position[CELL], connection[CELL], channel[CELL], tag[CELL], user[CELL], held[CELL];
    printf("%-14s %-34s %-34s %-28s %-10s %10s\n", cell(json_object_get(holder, "position"), position), cell(json_object_get(holder, "connection"), connection),
           cell(json_object_get(holder, "channel"), channel), cell(json_object_get(holder, "consumer_tag"), tag), cell(json_object_get(holder, "user"), user),
           cell(json_object_get(holder, "held_ms"), held));
}

/* ---- what is done --------------------------------------------------------------------------------------------------- */

static void print_heads(const struct asking *asking)
{
    if (asking->settings->json || asking->row == &rows[KIND_TRACE])
        return;
    if (asking->row == &rows[KIND_LIFE]) {
        printf("%-24s %-20s %-14s %s\n", "TIME", "EVENT", "POSITION", "CHANNEL");
        return;
    }
    if (asking->row == &rows[KIND_HOLDERS])
        printf("%-14s %-34s %-34s %-28s %-10s %10s\n", "POSITION", "CONNECTION", "CHANNEL", "CONSUMER", "USER", "HELD MS");
    else
        printf("%-14s %-10s %-24s %-20s %-20s %8s%s\n", "POSITION", "STATE", asking->row == &rows[KIND_SCHEDULED] ? "DUE" : "ARRIVED OR DUE", "MESSAGE-ID", "ROUTING KEY", "SIZE",
               asking->settings->body ? "  BODY" : "");
}

/* Prints the rows; takes none of them. */
static void print_rows(const struct asking *asking, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i);
        if (asking->settings->json) {
            json_dumpf(row, stdout, JSON_COMPACT);
            putchar('\n');
        } else if (asking->row == &rows[KIND_HOLDERS]) {
            print_holder(row);
        } else if (asking->row == &rows[KIND_LIFE]) {
            print_event(row);
        } else {
            print_message(row, asking->settings->body);
        }
    }
}

static void keep_to_rate(uint64_t rate, uint64_t done, uint64_t started_ms)
{
    uint64_t due_ms = rate ? done * 1000 / rate : 0, now_ms = dial_now_ms() - started_ms;
    if (due_ms > now_ms)
        nanosleep(&(struct timespec){.tv_sec = (time_t)((due_ms - now_ms) / 1000), .tv_nsec = (long)((due_ms - now_ms) % 1000 * 1000000)}, NULL);
}

/* Asks until nothing is left, or the limit is reached: each answer says where the next request goes on. */
static int go_through(struct asking *asking)
{
    const struct row *row = asking->row;
    uint64_t started_ms = dial_now_ms(), refused = 0, nowhere = 0, page = asking->settings->rate && asking->settings->rate < 10 * PAGE ? asking->settings->rate / 10 + 1 : PAGE;
    uint64_t left = asking->settings->limit ? asking->settings->limit : row->done ? UINT64_MAX : 100, done = 0;
    json_t *answer, *ok;
    for (bool more = true, first = true; more && left && !visit_interrupted(asking->visit);) {
        json_object_set_new(asking->request, "limit", json_integer((json_int_t)(left < page ? left : page)));
        if (!(answer = ask(asking, &ok)))
            return EXIT_FAILED;
        const json_t *list = json_is_array(ok) ? ok : json_object_get(ok, "messages");
        json_t *next = json_object_get(ok, "next");
        uint64_t count = row->done ? (uint64_t)json_integer_value(json_object_get(ok, row->done)) : json_array_size(list);
        if (first && !row->done)
            print_heads(asking);
        first = false;
        print_rows(asking, list);
        done += count;
        left -= count < left ? count : left;
        refused += (uint64_t)json_integer_value(json_object_get(ok, "refused"));
        nowhere += (uint64_t)json_integer_value(json_object_get(ok, "nowhere"));
        more = json_is_string(next) && !refused;
        json_object_set(asking->request, "from", more ? next : json_null());
        json_decref(answer);
        keep_to_rate(asking->settings->rate, done, started_ms);
    }
    if (nowhere)
        console_complain(&asking->visit->console, "%llu messages stay: they are no dead letters, or their queues are gone or may not be written to", (unsigned long long)nowhere);
    if (refused)
        console_complain(&asking->visit->console, "%llu messages stay: the queue that they were sent to does not take them", (unsigned long long)refused);
    if (row->done && asking->settings->json)
        printf("{\"%s\":%llu}\n", row->done, (unsigned long long)done);
    else if (row->done)
        printf("%llu messages %s\n", (unsigned long long)done, row->done);
    if (fflush(stdout) == EOF) {
        console_complain(&asking->visit->console, "cannot write to stdout");
        return EXIT_FAILED;
    }
    return refused ? EXIT_FAILED : EXIT_DONE;
}

static int visit_queue(const struct command *command, struct asking *asking, char **operands, int count)
{
    const struct settings *settings = asking->settings;
    struct uri uri;
    int code = visit_open(asking->visit, command, &settings->visit, &(struct remote_events){0});
    if (code)
        return code;
    code = visit_uri(&asking->visit->console, &settings->visit, &uri);
    if (!code)
        code = make_request(asking, uri.vhost, operands, count);
    if (!code)
        code = go_through(asking);
    json_decref(asking->request);
    visit_close(asking->visit);
    return code;
}

static int run(const struct command *command, const void *given, char **operands, int operand_count)
{
    const struct settings *settings = given;
    struct visit visit;
    struct asking asking = {.visit = &visit, .settings = settings};
    for (unsigned i = 0; i < KIND_COUNT; i++)
        if (strcmp(operands[0], rows[i].name) == 0)
            asking.row = &rows[i];
    console_init(&visit.console, command->name);
    int words = asking.row && (asking.row->takes & (TAKES_TARGET | TAKES_WORD | TAKES_POSITION)) ? 3 : 2;
    bool picks = settings->id || settings->filter || settings->headers.count;
    if (!asking.row)
        console_complain(&visit.console, "'%s' is nothing that can be done with a queue: browse, scheduled, holders, delete, cancel, move, copy, replay, trace or life", operands[0]);
    else if ((asking.row->takes & TAKES_TARGET) && operand_count < 3)
        console_complain(&visit.console, "which queue is to have the messages?");
    else if ((asking.row->takes & TAKES_WORD) && (operand_count < 3 || (strcmp(operands[2], "on") != 0 && strcmp(operands[2], "off") != 0)))
        console_complain(&visit.console, "on or off?");
    else if ((asking.row->takes & TAKES_POSITION) && operand_count < 3 && !settings->id)
        console_complain(&visit.console, "which message? Its position, or --id");
    else if (operand_count > words && !(asking.row->takes & TAKES_POSITIONS))
        console_complain(&visit.console, "one word too many: '%s'", operands[words]);
    else if (asking.row->done && !(asking.row->takes & TAKES_ALL) && operand_count < 3 && !picks && !settings->all)
        console_complain(&visit.console, "say which messages: by their positions, --id, --header or --filter, or --all");
    else
        return visit_queue(command, &asking, operands + 1, operand_count - 1);
    return EXIT_USAGE;
}

const struct command queue_command = {
    .name = "queue",
    .operands = "WHAT QUEUE [TARGET|POSITION...|on|off]",
    .summary = "look at single messages of a queue, delete, move, copy or replay them",
    .text = "WHAT is one of\n"
            "  browse      list the messages with their states; none is consumed\n"
            "  scheduled   list those that are not due yet\n"
            "  holders     list who holds which unacknowledged message\n"
            "  delete      delete messages that are ready or scheduled\n"
            "  cancel      delete messages that are scheduled, and no others\n"
            "  move        send ready messages to the queue TARGET, each exactly once\n"
            "  copy        the same, and they stay\n"
            "  replay      send dead letters back to the queues in which they died first\n"
            "  trace       from now on note what happens to the messages (on), or no more (off)\n"
            "  life        list what happened to a message of a traced queue",
    .table = {options, sizeof options / sizeof options[0]},
    .operands_min = 2,
    .operands_max = OPERANDS_ANY,
    .settings_size = sizeof(struct settings),
    .word = word,
    .run = run,
};
