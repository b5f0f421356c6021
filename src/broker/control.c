#include "broker/control.h"

#include "broker/json_read.h"
#include "protocol/amqp/table.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const struct json_limits usual = {1u << 20, 100000}, definitions = {64u << 20, 8000000};

/* ---- failing ------------------------------------------------------------------------------------------------------- */

void control_fail(struct control *control, const char *code, const char *format, ...)
{
    va_list arguments;
    if (control->error)
        return;
    va_start(arguments, format);
    vsnprintf(control->text, sizeof(control->text), format, arguments);
    va_end(arguments);
    control->error = code;
}

static void write_error(struct writer *writer, const char *code, struct bytes text)
{
    writer_open(writer, '{');
    writer_put_open(writer, "error", '{');
    writer_put_text(writer, "code", code);
    writer_put_string(writer, "text", text);
    writer_close(writer, '}');
    writer_close(writer, '}');
}

/* ---- arguments ----------------------------------------------------------------------------------------------------- */

static struct bytes text_of(const json_t *value)
{
    return json_is_string(value) ? bytes_of(json_string_value(value), json_string_length(value)) : (struct bytes){0};
}

bool control_text(struct control *control, const char *name, struct bytes *text)
{
    const json_t *value = json_object_get(control->arguments, name);
    *text = text_of(value);
    if (!json_is_string(value))
        control_fail(control, "bad_argument", "the argument '%s' is missing or no text", name);
    return json_is_string(value);
}

struct bytes control_optional(const struct control *control, const char *name) { return text_of(json_object_get(control->arguments, name)); }
bool control_flag(const struct control *control, const char *name) { return json_is_true(json_object_get(control->arguments, name)); }

static bool is_own(const struct control *control, const struct vhost *vhost)
{
    const struct access *access = topology_access(vhost, request_source(control->request));
    return access && access->granted;
}

struct vhost *control_vhost(struct control *control)
{
    struct bytes name = control_optional(control, "vhost");
    struct vhost *vhost = topology_vhost(control->topology, name.size ? name : bytes_of_text("/"));
    if (!vhost)
        control_fail(control, "no_such_vhost", "Virtual host '%.*s' does not exist", (int)name.size, (const char *)name.data);
    else if (control->right == CONTROL_MANAGER && !is_own(control, vhost))
        control_fail(control, "access_refused", "virtual host '%.*s' is not one that the user may enter", (int)name.size, (const char *)name.data);
    return control->error ? NULL : vhost;
}

/* ---- rows ---------------------------------------------------------------------------------------------------------- */

uint64_t control_columns(const struct control *control, const struct control_field *fields, size_t count)
{
    const json_t *names = json_object_get(control->arguments, "columns");
    uint64_t columns = 0;
    CHECK(count <= CONTROL_COLUMNS_MAX);
    for (size_t i = 0; i < json_array_size(names) && i < CONTROL_COLUMNS_MAX; i++)
        for (size_t k = 0; k < count; k++)
            if (bytes_equal(text_of(json_array_get(names, i)), bytes_of_text(fields[k].name)))
                columns |= 1ull << k;
    return json_array_size(names) ? columns : UINT64_MAX;
}

void control_write_row(struct control *control, const struct control_field *fields, size_t count, uint64_t columns, const void *row)
{
    writer_open(&control->answer, '{');
    for (size_t i = 0; i < count; i++)
        if (columns >> i & 1) {
            writer_key(&control->answer, bytes_of_text(fields[i].name));
            fields[i].write(&control->answer, row);
        }
    writer_close(&control->answer, '}');
}

void control_write_words(struct writer *writer, struct bytes words)
{
    writer_open(writer, '[');
    for (size_t begin = 0, i = 0; i <= words.size; i++)
        if (i == words.size || words.data[i] == ',') {
            if (i > begin)
                writer_string(writer, bytes_of(words.data + begin, i - begin));
            begin = i + 1;
        }
    writer_close(writer, ']');
}

static const char *type_word(uint8_t type)
{
    static const struct { uint8_t type; const char *word; } words[] = {
        {'t', "bool"}, {'b', "byte"}, {'B', "unsignedbyte"}, {'s', "short"}, {'u', "unsignedshort"}, {'I', "signedint"}, {'i', "unsignedint"}, {'l', "long"},
        {'L', "long"}, {'f', "float"}, {'d', "double"}, {'D', "decimal"}, {'S', "longstr"}, {'T', "timestamp"}, {'A', "array"}, {'F', "table"}, {'x', "binary"},
    };
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (words[i].type == type)
            return words[i].word;
    return "void";
}

static void write_typed_value(struct writer *writer, const struct amqp_field *field)
{
    struct bytes rest = field->bytes;
    struct amqp_field item;
    writer_string(writer, bytes_of_text(type_word(field->type)));
    switch (field->type) {
    case 't': writer_boolean(writer, field->integer != 0); break;
    case 'f': case 'd': writer_real(writer, field->real); break;
    case 'S': case 'x': writer_string(writer, field->bytes); break;
    case 'F': control_write_typed_table(writer, field->bytes); break;
    case 'A':
        writer_open(writer, '[');
        while (amqp_array_next(&rest, &item) == WIRE_OK) {
            writer_open(writer, '[');
            write_typed_value(writer, &item);
            writer_close(writer, ']');
        }
        writer_close(writer, ']');
        break;
    case 'V': writer_string(writer, bytes_of_text("undefined")); break;
    default: writer_integer(writer, field->integer); break;
    }
}

void control_write_typed_table(struct writer *writer, struct bytes table)
{
    struct amqp_field field;
    writer_open(writer, '[');
    while (amqp_table_next(&table, &field) == WIRE_OK) {
        writer_open(writer, '[');
        writer_string(writer, field.name);
        write_typed_value(writer, &field);
        writer_close(writer, ']');
    }
    writer_close(writer, ']');
}

/* ---- asking the master --------------------------------------------------------------------------------------------- */

/* The codes of administration.c, and what the text is about. */
static const char *code_of(const struct refusal *refusal)
{
    bool missing = refusal->code == 404;
    if (missing && strncmp(refusal->text, "User ", 5) == 0)
        return "no_such_user";
    if (missing && strncmp(refusal->text, "Virtual host ", 13) == 0)
        return "no_such_vhost";
    return refusal->code == 409 ? "exists" : missing ? "not_found" : "refused";
}

bool control_request_of_master(struct control *control, const struct request *request, uint32_t vhost)
{
    struct refusal refusal = {.code = 0};
    struct command_request *nobody = request_of_nobody(request, vhost);
    if (!nobody) {
        control_fail(control, "internal_error", "out of memory");
        return false;
    }
    control->worker->refusal = &refusal;
    master_request(control->master, nobody);
    control->worker->refusal = NULL;
    free(nobody);
    if (refusal.code)
        control_fail(control, code_of(&refusal), "%s", refusal.text);
    return !refusal.code;
}

bool control_change(struct control *control, const struct topology_change *change)
{
    return control_request_of_master(control, &(struct request){.kind = REQUEST_CHANGE, .change = change}, change->vhost);
}

/* ---- one command --------------------------------------------------------------------------------------------------- */

/* What the user that the request names may do, by its tags. */
static void judge_user(struct control *control)
{
    const struct user *user = topology_user(&control->worker->topology, request_source(control->request));
    control->may_nothing = false;
    if (user && user_is_tagged(user, "administrator"))
        control->right = CONTROL_ADMINISTRATOR;
    else if (user && user_is_tagged(user, "monitoring"))
        control->right = CONTROL_MONITOR;
    else
        control->may_nothing = !user || !user_is_tagged(user, "management");
}

/* May the user give this command? */
static bool may(struct control *control, const struct control_verb *verb)
{
    static const char *const needed[] = {
        [CONTROL_MANAGER] = "management, monitoring or administrator", [CONTROL_MONITOR] = "monitoring or administrator", [CONTROL_ADMINISTRATOR] = "administrator"};
    struct bytes name = request_source(control->request);
    if (!control->may_nothing && control->right >= verb->right)
        return true;
    control_fail(control, "access_refused", "user '%.*s' needs the tag %s", (int)name.size, (const char *)name.data, needed[verb->right]);
    return false;
}

/* Reads the request and finds its row. NULL: the control has failed. */
static const struct control_verb *control_init(struct control *control, struct worker *worker, struct master *master, const struct command_request *request)
{
    char why[300];
    *control = (struct control){.worker = worker, .master = master, .topology = master ? master_topology(master) : &worker->topology, .request = request};
    writer_init(&control->answer);
    judge_user(control);
    /* Nobody but an administrator has a large request read. */
    struct bytes text = request_arguments(request);
    control->arguments = json_read_object(text, control->right == CONTROL_ADMINISTRATOR ? &definitions : &usual, why, sizeof(why));
    if (!control->arguments) {
        control_fail(control, "bad_request", "the request cannot be read: %s", why);
        return NULL;
    }
    struct bytes name = control_optional(control, "command");
    const struct control_verb *verb = control_verb(name);
    if (!verb)
        control_fail(control, "no_such_command", "this broker knows no command '%.*s'", name.size > 100 ? 100 : (int)name.size, (const char *)name.data);
    else if (!verb->large && text.size > usual.size_max)
        control_fail(control, "bad_request", "the request is longer than %zu bytes", usual.size_max);
    return control->error ? NULL : verb;
}

static void control_deinit(struct control *control)
{
    json_decref(control->arguments);
    writer_deinit(&control->answer);
}

/* Puts "ok" around what was written, or the error in its place. False: out of memory. */
static bool finish(struct control *control, struct writer *writer)
{
    struct bytes text;
    writer_init(writer);
    if (!control->error && !writer_text(&control->answer, &text))
        control_fail(control, "internal_error", "out of memory");
    if (control->error) {
        write_error(writer, control->error, bytes_of_text(control->text));
    } else {
        writer_open(writer, '{');
        writer_put_json(writer, "ok", text.size ? text : bytes_of_text("{}"));
        writer_close(writer, '}');
    }
    return writer_text(writer, &text);
}

static void answer_now(struct control *control)
{
    struct writer writer;
    struct bytes text;
    if (finish(control, &writer) && writer_text(&writer, &text))
        request_answer(control->worker, control->request, 0, text);
    else
        request_answer(control->worker, control->request, 506, bytes_of_text("out of memory"));
    writer_deinit(&writer);
}

/* purge_queue, delete_queue: as clients do it, but in the vhost that the command names. Those that have a function of their own, which says whether the user may: inspections. */
static struct command_request *request_at_queue(struct control *control, const struct control_verb *verb)
{
    struct bytes name;
    const struct vhost *vhost = control_vhost(control);
    bool deletes = bytes_equal(control_optional(control, "command"), bytes_of_text("delete_queue"));
    if (!vhost || (!verb->run && !control_text(control, "name", &name)))
        return NULL;
    if (verb->run) {
        verb->run(control);
        return control->error ? NULL : control_inspection(control, vhost);
    }
    if (!topology_queue(vhost, name)) {
        control_fail(control, deletes ? "no_such_queue" : "refused", deletes ? "Queue not found" : "not_found");
        return NULL;
    }
    struct request request = {.kind = deletes ? REQUEST_QUEUE_DELETE : REQUEST_QUEUE_PURGE, .name = name, .tag = control->request->tag,
                              .flags = (control_flag(control, "if_empty") ? REQUEST_IF_EMPTY : 0u) | (control_flag(control, "if_unused") ? REQUEST_IF_UNUSED : 0u)};
    struct command_request *queued = request_of_nobody(&request, vhost->id);
    if (!queued) {
        control_fail(control, "internal_error", "out of memory");
        return NULL;
    }
    queued->client = control->request->client;
    queued->serial = control->request->serial;
    return queued;
}

enum control_next control_begin(struct worker *worker, const struct command_request *request, struct command_request **queued)
{
    struct control control;
    enum control_next next = CONTROL_ANSWERED;
    const struct control_verb *verb = control_init(&control, worker, NULL, request);
    if (verb && may(&control, verb)) {
        if (verb->place == CONTROL_HERE)
            verb->run(&control);
        else if (verb->place == CONTROL_MASTER)
            next = CONTROL_TO_MASTER;
        else if (verb->place == CONTROL_WORKERS)
            next = CONTROL_TO_WORKERS;
        else if ((*queued = request_at_queue(&control, verb)))
            next = CONTROL_TO_QUEUE;
    }
    if (next == CONTROL_ANSWERED)
        answer_now(&control);
    control_deinit(&control);
    return next;
}

void control_at_master(struct master *master, const struct command_request *request)
{
    struct control control;
    struct writer writer;
    struct bytes text;
    const struct control_verb *verb = control_init(&control, master_worker(master), master, request);
    if (verb)
        verb->run(&control);
    if (finish(&control, &writer) && writer_text(&writer, &text))
        master_answer_text(master, request, text);
    else
        request_answer(control.worker, request, 506, bytes_of_text("out of memory"));
    writer_deinit(&writer);
    control_deinit(&control);
}

/* Line ends become spaces, several of them one. */
static void as_one_line(const char *text, char *line, size_t room)
{
    size_t size = 0;
    for (; *text && size + 1 < room; text++) {
        bool gap = *text == '\n' || *text == ' ';
        if (!gap || (size && line[size - 1] != ' '))
            line[size++] = gap ? ' ' : *text;
    }
    line[size] = 0;
}

bool control_load(struct master *master, struct bytes text, char *why, size_t room)
{
    const struct command_request nobody = {.kind = REQUEST_CONTROL};
    struct control control = {.worker = master_worker(master), .master = master, .topology = master_topology(master), .request = &nobody,
                              .right = CONTROL_ADMINISTRATOR};
    writer_init(&control.answer);
    control.arguments = json_read_object(text, &definitions, why, (unsigned)room);
    bool done = control.arguments && definitions_put(&control, control.arguments);
    if (control.error)
        as_one_line(control.text, why, room);
    control_deinit(&control);
    return done;
}

void control_at_worker(struct worker *worker, const struct command_request *request)
{
    struct control control;
    struct bytes rows = {0};
    const struct control_verb *verb = control_init(&control, worker, NULL, request);
    if (verb)
        verb->run(&control);
    struct writer failure;
    writer_init(&failure);
    if (!control.error && !writer_text(&control.answer, &rows))
        control_fail(&control, "internal_error", "out of memory");
    if (control.error) {
        write_error(&failure, control.error, bytes_of_text(control.text));
        writer_text(&failure, &rows);
    }
    struct command_rows *command = worker_command(worker, worker_of_client(request->client), COMMAND_CONTROL_ROWS, (uint32_t)(sizeof(*command) + rows.size), NULL);
    command->client = request->client;
    command->serial = request->serial;
    command->failed = control.error != NULL;
    command->rows_size = (uint32_t)rows.size;
    if (rows.size)
        memcpy(command->bytes, rows.data, rows.size);
    writer_deinit(&failure);
    control_deinit(&control);
}

static char *take_text(struct writer *writer, size_t *size)
{
    if (writer->failed) {
        writer_deinit(writer);
        return NULL;
    }
    *size = writer->size;
    return writer->text;
}

char *control_join(struct worker *worker, const struct command_request *request, struct bytes rows, size_t *size)
{
    struct control control;
    struct writer writer;
    const struct control_verb *verb = control_init(&control, worker, NULL, request);
    if (verb && verb->join) {
        verb->join(&control, rows);
    } else {
        writer_open(&control.answer, '[');
        writer_json(&control.answer, rows);
        writer_close(&control.answer, ']');
    }
    finish(&control, &writer);
    control_deinit(&control);
    return take_text(&writer, size);
}

char *control_convert(const struct command_answer *answer, size_t *size)
{
    struct bytes text = bytes_of(answer->bytes, answer->text_size);
    struct writer writer;
    writer_init(&writer);
    if (answer->code) {
        write_error(&writer, answer->code == 404 ? "not_found" : answer->code == 541 || answer->code == 506 ? "internal_error" : "refused", text);
    } else if (answer->kind == REQUEST_CONTROL || answer->kind == REQUEST_INSPECT) {
        writer_json(&writer, text.size ? text : bytes_of(answer->bytes, answer->name_size));
    } else {
        writer_open(&writer, '{');
        writer_put_open(&writer, "ok", '{');
        writer_put_integer(&writer, "messages", answer->messages);
        writer_close(&writer, '}');
        writer_close(&writer, '}');
    }
    return take_text(&writer, size);
}
