/* Control requests: JSON in, the broker's verbs out, JSON back (protocol/amqp/control.h says how they travel).
 *
 *   {"command": "add_user", "name": "bob", "password": "…"}       → {"ok": {}}
 *   {"command": "list_queues", "vhost": "/", "columns": ["name", "messages"]}  → {"ok": [{"name": "q", "messages": 3}, …]}
 *   what cannot be                                                 → {"error": {"code": "no_such_user", "text": "User \"bob\" does not exist"}}
 *
 * A command is a row: who may give it, where it is done, and a function that does it.
 *
 *   CONTROL_HERE      on the client's worker, whose copy of the topology is all it needs
 *   CONTROL_MASTER    on worker 0: what changes the topology; answered when every worker has the change
 *   CONTROL_WORKERS   on every worker: each writes rows of what it has, which are put together on the client's
 *   CONTROL_QUEUE     at a queue's shard: becomes a request that clients make too
 */
#ifndef BROKER_CONTROL_H
#define BROKER_CONTROL_H

#include "broker/worker_internal.h"
#include "broker/writer.h"

#include <jansson.h>

#define CONTROL_TEXT_MAX 1600u
#define CONTROL_COLUMNS_MAX 64u

/* Whom a command is for, by the tags of users: management (in virtual hosts that the user may enter), monitoring, administrator; each may what those before it may. */
enum control_right { CONTROL_MANAGER, CONTROL_MONITOR, CONTROL_ADMINISTRATOR };
enum control_place { CONTROL_HERE, CONTROL_MASTER, CONTROL_WORKERS, CONTROL_QUEUE };

/* One command being done. */
struct control {
    struct worker *worker;
    struct master *master;             /* NULL unless this is the master's worker and the command is done there */
    const struct topology *topology;   /* the master's copy there, the worker's own elsewhere */
    const struct command_request *request;
    json_t *arguments;                 /* the whole object */
    struct writer answer;              /* what is written becomes "ok" */
    enum control_right right;          /* the highest that the user has */
    bool may_nothing;                  /* the user has none of the tags */
    const char *error;                 /* code; NULL: none */
    char text[CONTROL_TEXT_MAX];
};

struct control_verb {
    const char *name;
    enum control_right right;
    enum control_place place;
    /* CONTROL_QUEUE: says whether the user may, and the command becomes an inspection (inspect.h); NULL: it becomes a request that clients make too. */
    void (*run)(struct control *control);
    /* CONTROL_WORKERS: makes the answer of the rows that all workers wrote, separated by commas; NULL: an array of them. */
    void (*join)(struct control *control, struct bytes rows);
    bool large;                        /* its request may be as long as definitions are */
};

/* The row of a command; NULL: there is none. */
const struct control_verb *control_verb(struct bytes name);

/* ---- for who carries requests (requests.c, worker.c, master.c) ------------------------------------------------------ */

/* Begins a request on its client's worker; answers by itself what is done there, or tells the caller what else is to be done: */
enum control_next { CONTROL_ANSWERED, CONTROL_TO_MASTER, CONTROL_TO_WORKERS, CONTROL_TO_QUEUE };
/* Of CONTROL_TO_QUEUE *queued is the request that takes its place; free() it. */
enum control_next control_begin(struct worker *worker, const struct command_request *request, struct command_request **queued);

/* Worker 0 does what is the master's. */
void control_at_master(struct master *master, const struct command_request *request);

/* A worker writes its rows and sends them to the client's worker. */
void control_at_worker(struct worker *worker, const struct command_request *request);

/* All rows are there: the answer's text. free() it; NULL: out of memory. */
char *control_join(struct worker *worker, const struct command_request *request, struct bytes rows, size_t *size);

/* The answer to a request that took another kind's place, or that was refused, as JSON. free() it; NULL: out of memory. */
char *control_convert(const struct command_answer *answer, size_t *size);

/* Definitions that a broker has from its start: called while the master is opening (master_set_opening). False: `why` says what is wrong with them. */
bool control_load(struct master *master, struct bytes text, char *why, size_t room);

/* ---- for commands --------------------------------------------------------------------------------------------------- */

/* The command cannot be done: this is said instead of an answer. The first failure counts. */
__attribute__((format(printf, 3, 4)))
void control_fail(struct control *control, const char *code, const char *format, ...);

/* An argument that must be a text (failing otherwise), or may be left out (empty then). Borrowed from the request. */
bool control_text(struct control *control, const char *name, struct bytes *text);
struct bytes control_optional(const struct control *control, const char *name);
bool control_flag(const struct control *control, const char *name);

/* The vhost that "vhost" names ("/" when it is left out); NULL: there is none, or it is not the user's to look at, and the command has failed. */
struct vhost *control_vhost(struct control *control);

/* Does a change as administration.c does it. False: it was refused, and the command has failed. */
bool control_change(struct control *control, const struct topology_change *change);

/* Has the master do what a client of the vhost (its id) could request. False: it was refused; the command has failed with the reply's text. */
bool control_request_of_master(struct control *control, const struct request *request, uint32_t vhost);

/* A column of a list. */
struct control_field {
    const char *name;
    void (*write)(struct writer *writer, const void *row);
};

/* Which of the fields the request's "columns" name; all when it names none. At most CONTROL_COLUMNS_MAX fields. */
uint64_t control_columns(const struct control *control, const struct control_field *fields, size_t count);

/* Writes one row as an object. */
void control_write_row(struct control *control, const struct control_field *fields, size_t count, uint64_t columns, const void *row);

/* Writes a field table with its types as rabbitmqctl shows them: [["x-max-length", "signedint", 5], …]. */
void control_write_typed_table(struct writer *writer, struct bytes table);

/* Words separated by commas as an array of texts. */
void control_write_words(struct writer *writer, struct bytes words);

/* ---- the commands, by the file that they are in ---------------------------------------------------------------------- */

/* control_topology.c */
void control_list_queues(struct control *control);
void control_list_exchanges(struct control *control);
void control_list_bindings(struct control *control);
void control_status(struct control *control);
void control_status_join(struct control *control, struct bytes rows);

/* control_outlook.c */
void control_queue_outlook(struct control *control);
void control_queue_outlook_join(struct control *control, struct bytes rows);

/* control_vhosts.c */
void control_add_vhost(struct control *control);
void control_delete_vhost(struct control *control);
void control_list_vhosts(struct control *control);
void control_trace_on(struct control *control);
void control_trace_off(struct control *control);

/* control_users.c */
void control_add_user(struct control *control);
void control_delete_user(struct control *control);
void control_change_password(struct control *control);
void control_clear_password(struct control *control);
void control_set_user_tags(struct control *control);
void control_authenticate_user(struct control *control);
void control_list_users(struct control *control);
void control_set_user_limits(struct control *control);
void control_clear_user_limits(struct control *control);
void control_list_user_limits(struct control *control);
/* {"max-connections": 5, …}, what is limited. */
void control_write_limits(struct writer *writer, const struct user *user);
/* Changes the limits that the object names. False: the command has failed. */
bool control_change_user_limits(struct control *control, const struct user *user, json_t *object);
/* An array of words as they are kept: separated by commas. Deinit `joined` in any case. False: the command has failed. */
bool control_join_words(struct control *control, const json_t *words, struct writer *joined);

/* control_permissions.c */
void control_set_permissions(struct control *control);
void control_clear_permissions(struct control *control);
void control_list_permissions(struct control *control);
void control_list_user_permissions(struct control *control);
void control_set_topic_permissions(struct control *control);
void control_clear_topic_permissions(struct control *control);
void control_list_topic_permissions(struct control *control);
void control_list_user_topic_permissions(struct control *control);

/* control_parameters.c */
void control_set_policy(struct control *control);
void control_clear_policy(struct control *control);
void control_list_policies(struct control *control);
void control_set_operator_policy(struct control *control);
void control_clear_operator_policy(struct control *control);
void control_list_operator_policies(struct control *control);
void control_set_parameter(struct control *control);
void control_clear_parameter(struct control *control);
void control_list_parameters(struct control *control);
void control_set_global_parameter(struct control *control);
void control_clear_global_parameter(struct control *control);
void control_list_global_parameters(struct control *control);
void control_set_vhost_limits(struct control *control);
void control_clear_vhost_limits(struct control *control);
void control_list_vhost_limits(struct control *control);
/* Sets a policy as an object with name, pattern, definition, priority and apply-to says it; `flags`: TOPOLOGY_OPERATOR or 0. False: the command has failed. */
bool control_put_policy(struct control *control, const struct vhost *vhost, const json_t *policy, unsigned flags);
/* `vhost` NULL: a global one. False: the command has failed. */
bool control_put_parameter(struct control *control, const struct vhost *vhost, struct bytes component, struct bytes name, const json_t *value);
void control_write_policy(struct control *control, const struct vhost *vhost, const struct policy *policy, uint64_t columns);
/* Rows of all parameters of a vhost: its operator policies and its limits are such too. */
void control_write_parameters(struct writer *writer, const struct vhost *vhost);
void control_write_global_parameters(struct writer *writer, const struct topology *topology);
/* A value as compact text, its fields sorted by name. free() it; NULL: the command has failed. */
char *control_json_text(struct control *control, const json_t *value);

/* control_connections.c */
void control_list_connections(struct control *control);
void control_close_connection(struct control *control);
void control_close_all_connections(struct control *control);
void control_close_all_user_connections(struct control *control);
void control_list_channels(struct control *control);
void control_list_consumers(struct control *control);

/* control_transactions.c */
void control_list_transactions(struct control *control);

/* control_inside.c */
void control_inside_reads(struct control *control);
void control_inside_sends(struct control *control);
void control_inside_traces(struct control *control);
void control_list_holders(struct control *control);
void control_list_holders_join(struct control *control, struct bytes rows);
/* The command as a request for its queue, or for that of a delayed exchange; free() it. NULL: it has failed. */
struct command_request *control_inspection(struct control *control, const struct vhost *vhost);

/* definitions_export.c, definitions_import.c */
void control_export_definitions(struct control *control);
void control_import_definitions(struct control *control);
/* Puts everything that the definitions say. False: the command has failed at one thing; what came before it was put. */
bool definitions_put(struct control *control, const json_t *definitions);

#endif
