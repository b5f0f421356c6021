/* The verbs of godwit ctl that are more than a request and a list. */
#include "cli/ctl.h"

#include "client/dial.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PASSWORD_MAX 1024

/* ---- about the broker ---------------------------------------------------------------------------------------------- */

int ctl_run_version(struct ctl *ctl)
{
    (void)ctl;
    puts(GODWIT_VERSION);
    return EXIT_DONE;
}

int ctl_run_ping(struct ctl *ctl)
{
    int code = visit_open(&ctl->visit, ctl->command, &ctl->settings->visit, &(struct remote_events){0});
    if (code)
        return code == EXIT_USAGE ? CTL_USAGE : CTL_REFUSED;
    ctl->open = true;
    ctl_say(ctl, "Ping succeeded");
    return EXIT_DONE;
}

int ctl_run_await(struct ctl *ctl)
{
    struct console console;
    struct uri uri;
    char why[256];
    int fd;
    console_init(&console, ctl->command->name);
    int code = visit_uri(&console, &ctl->settings->visit, &uri);
    if (code)
        return CTL_USAGE;
    uint64_t deadline = dial_now_ms() + ctl->settings->timeout_s * 1000;
    while (dial(uri.host, uri.port, 1000, &fd, why, sizeof why)) {
        if (dial_now_ms() >= deadline)
            return ctl_fail(CTL_LATER, "%s", why);
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    close(fd);
    return ctl_run_ping(ctl);
}

/* Exit code 69 when there is an alarm. */
int ctl_run_alarms(struct ctl *ctl)
{
    json_t *ok = NULL, *request = json_pack("{s:s}", "command", "status");
    int code = ctl_ask(ctl, request, &ok);
    const json_t *alarms = json_object_get(ok, "alarms");
    for (size_t i = 0; !code && i < json_array_size(alarms); i++)
        code = ctl_fail(CTL_REFUSED, "alarm: low on %s; publishers are blocked", json_string_value(json_array_get(alarms, i)));
    if (!code)
        ctl_say(ctl, "The broker reported no alarms");
    json_decref(request);
    json_decref(ok);
    return code;
}

int ctl_run_status(struct ctl *ctl)
{
    json_t *ok = NULL, *request = json_pack("{s:s}", "command", "status");
    int code = ctl_ask(ctl, request, &ok);
    json_decref(request);
    if (code)
        return code;
    if (strcmp(ctl->settings->formatter, "json") == 0) {
        json_dumpf(ok, stdout, JSON_COMPACT);
        putchar('\n');
    } else {
        const char *key;
        json_t *value;
        ctl_say(ctl, "Status of the broker ...");
        json_object_foreach(ok, key, value) {
            char *text = json_is_string(value) ? strdup(json_string_value(value)) : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
            printf("%s: %s\n", key, text ? text : "");
            free(text);
        }
    }
    json_decref(ok);
    return EXIT_DONE;
}

/* ---- queues -------------------------------------------------------------------------------------------------------- */

int ctl_run_delete_queue(struct ctl *ctl)
{
    int code;
    bool empty = ctl->settings->if_empty, unused = ctl->settings->if_unused;
    ctl_say(ctl, empty && unused ? "Deleting queue '%1' on vhost '%p' if queue is empty and if queue is unused ..."
                 : empty         ? "Deleting queue '%1' on vhost '%p' if queue is empty ..."
                 : unused        ? "Deleting queue '%1' on vhost '%p' if queue is unused ..."
                                 : "Deleting queue '%1' on vhost '%p' ...");
    json_t *request = ctl_request(ctl, &code), *ok = NULL;
    if (request)
        code = ctl_ask(ctl, request, &ok);
    if (!code) {
        char text[100];
        snprintf(text, sizeof text, "Queue was successfully deleted with %lld ready messages", (long long)json_integer_value(json_object_get(ok, "messages")));
        ctl_say(ctl, text);
    }
    json_decref(ok);
    json_decref(request);
    return code;
}

/* ---- connections --------------------------------------------------------------------------------------------------- */

int ctl_run_close_all(struct ctl *ctl)
{
    int code;
    bool by_user = !(ctl->verb->carries & CTL_VHOST);
    if (!by_user)
        ctl_say(ctl, ctl->settings->global ? "Closing all connections to node (across all vhosts), reason: %1..." : "Closing all connections in vhost %p, reason: %1...");
    json_t *request = ctl_request(ctl, &code), *ok = NULL;
    if (request)
        code = ctl_ask(ctl, request, &ok);
    if (!code) {
        char text[64];
        snprintf(text, sizeof text, "Closed %lld connections", (long long)json_integer_value(json_object_get(ok, "closed")));
        ctl_say(ctl, text);
    }
    json_decref(ok);
    json_decref(request);
    return code;
}

/* ---- passwords ----------------------------------------------------------------------------------------------------- */

/* The operand, or a line of standard input where it is left out, so that it need not stand in a list of processes. */
static bool read_password(const struct ctl *ctl, int index, char *password, size_t room)
{
    if (index < ctl->operand_count)
        return (size_t)snprintf(password, room, "%s", ctl->operands[index]) < room;
    if (!fgets(password, (int)room, stdin))
        return false;
    password[strcspn(password, "\r\n")] = '\0';
    return true;
}

/* add_user, change_password, authenticate_user. */
int ctl_run_password(struct ctl *ctl)
{
    char password[PASSWORD_MAX];
    json_t *ok = NULL;
    if (!read_password(ctl, 1, password, sizeof password))
        return ctl_fail(CTL_DATA, "the password is missing, or longer than %d bytes", PASSWORD_MAX - 1);
    json_t *request = json_pack("{s:s, s:s, s:s}", "command", ctl->verb->name, "name", ctl->operands[0], "password", password);
    memset(password, 0, sizeof password);
    int code = request ? ctl_ask(ctl, request, &ok) : ctl_fail(CTL_DATA, "a name or password that is not UTF-8");
    json_decref(request);
    json_decref(ok);
    return code;
}

int ctl_run_hash_password(struct ctl *ctl)
{
    char password[PASSWORD_MAX];
    uint8_t salted[4 + PASSWORD_MAX], hash[4 + SHA256_DIGEST_LENGTH], text[64];
    if (!read_password(ctl, 0, password, sizeof password))
        return ctl_fail(CTL_DATA, "a password has at most %d bytes", PASSWORD_MAX - 1);
    size_t size = strlen(password);
    if (RAND_bytes(hash, 4) != 1)
        return ctl_fail(CTL_SOFTWARE, "the system gives no random numbers");
    memcpy(salted, hash, 4);
    memcpy(salted + 4, password, size);
    SHA256(salted, 4 + size, hash + 4);
    EVP_EncodeBlock(text, hash, sizeof hash);
    printf("%s\n", (const char *)text);
    return EXIT_DONE;
}

/* ---- permissions and limits ---------------------------------------------------------------------------------------- */

int ctl_run_clear_topic_permissions(struct ctl *ctl)
{
    ctl_say(ctl, ctl->operand_count > 1 ? "Clearing topic permissions on \"%2\" for user \"%1\" in vhost \"%p\" ..."
                                        : "Clearing topic permissions for user \"%1\" in vhost \"%p\" ...");
    return ctl_do(ctl);
}

int ctl_run_clear_user_limits(struct ctl *ctl)
{
    ctl_say(ctl, strcmp(ctl->operands[1], "all") == 0 ? "Clearing all limits for user \"%1\" ..." : "Clearing \"%2\" limit for user \"%1\" ...");
    return ctl_do(ctl);
}

/* Those of one vhost or user are JSON alone; those of all are a table. */
int ctl_run_list_limits(struct ctl *ctl)
{
    static const struct ctl_column vhost = {"vhost", NULL, false}, user = {"user", NULL, false}, limits = {"limits", NULL, true};
    bool of_users = ctl->verb->carries & CTL_USER, all = ctl->settings->global || (of_users && !ctl->settings->user);
    int code;
    ctl_say(ctl, of_users ? all ? "Listing limits for all users ..." : "Listing limits for user \"%u\" ..."
                          : all ? "Listing limits for all vhosts ..." : "Listing limits for vhost \"%p\" ...");
    json_t *request = ctl_request(ctl, &code), *ok = NULL;
    if (request)
        code = ctl_ask(ctl, request, &ok);
    if (!code && (all || json_array_size(ok) == 0)) {
        const struct ctl_column *const columns[] = {of_users ? &user : &vhost, &limits};
        code = ctl_print_rows(ctl, ok, columns, 2);
    } else if (!code) {
        json_dumpf(json_object_get(json_array_get(ok, 0), "limits"), stdout, JSON_COMPACT);
        putchar('\n');
    }
    json_decref(ok);
    json_decref(request);
    return code;
}

/* ---- definitions --------------------------------------------------------------------------------------------------- */

int ctl_run_export(struct ctl *ctl)
{
    json_t *ok = NULL, *request = json_pack("{s:s}", "command", "export_definitions");
    const char *path = ctl->operands[0];
    bool to_stdout = strcmp(path, "-") == 0;
    if (!to_stdout)
        ctl_say(ctl, "Exporting definitions in JSON to a file at \"%1\" ...");
    int code = ctl_ask(ctl, request, &ok);
    json_decref(request);
    if (code)
        return code;
    /* Hashes of passwords are in it: nobody else is to read them. */
    int fd = to_stdout ? -1 : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *file = to_stdout ? stdout : fd >= 0 ? fdopen(fd, "w") : NULL;
    bool written = file && json_dumpf(ok, file, JSON_INDENT(2)) == 0 && fputc('\n', file) != EOF && fflush(file) == 0;
    if (file && !to_stdout)
        written &= fclose(file) == 0;
    json_decref(ok);
    return written ? EXIT_DONE : ctl_fail(CTL_DATA, "cannot write to %s: %s", path, strerror(errno));
}

int ctl_run_import(struct ctl *ctl)
{
    const char *path = ctl->operand_count ? ctl->operands[0] : "-";
    bool from_stdin = strcmp(path, "-") == 0;
    json_error_t error;
    FILE *file = from_stdin ? stdin : fopen(path, "re");
    if (!file) {
        fprintf(stderr, "Error (argument validation): Bad argument: File %s %s\n", path, errno == ENOENT ? "does not exist" : "cannot be read");
        return CTL_DATA;
    }
    ctl_say(ctl, from_stdin ? "Importing definitions in JSON from standard input ..." : "Importing definitions in JSON from a file at \"%1\" ...");
    json_t *definitions = json_loadf(file, JSON_ALLOW_NUL, &error), *ok = NULL;
    if (!from_stdin)
        fclose(file);
    if (!definitions)
        return ctl_fail(CTL_DATA, "Failed to deserialise input (format: JSON) (error: line %d, column %d: %s)", error.line, error.column, error.text);
    json_t *request = json_pack("{s:s, s:o}", "command", "import_definitions", "definitions", definitions);
    int code = request ? ctl_ask(ctl, request, &ok) : ctl_fail(CTL_SOFTWARE, "out of memory");
    json_decref(request);
    json_decref(ok);
    return code;
}
