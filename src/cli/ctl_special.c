/* The verbs of godwit ctl that are more than a request and a list. */
#include "cli/ctl.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

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
