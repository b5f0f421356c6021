#include "cli/replay.h"

#include "cli/cell.h"

#include <stdlib.h>
#include <string.h>

#define LOOK_MS 200

static int print(struct web *web, const json_t *record, bool json)
{
    static const char *const names[] = {"state", "replayed", "read", "passed_over", "lost", "next", "end", "missing", "why"};
    char text[CELL];
    if (json) {
        json_dumpf(record, stdout, JSON_COMPACT);
        putchar('\n');
    }
    for (size_t i = 0; !json && i < sizeof names / sizeof names[0]; i++) {
        const json_t *value = json_object_get(record, names[i]);
        if (value && !(json_is_array(value) && !json_array_size(value)))
            printf("%-12s %s\n", names[i], cell(value, text));
    }
    if (fflush(stdout) == EOF) {
        console_complain(&web->console, "cannot write to stdout");
        return EXIT_FAILED;
    }
    const char *state = json_string_value(json_object_get(record, "state"));
    return state && strcmp(state, "failed") == 0 ? EXIT_FAILED : EXIT_DONE;
}

/* An offset is a number, anything else a text. */
static json_t *position(const char *text)
{
    return text[strspn(text, "0123456789")] || strlen(text) > 18 ? json_string(text) : json_integer((json_int_t)strtoull(text, NULL, 10));
}

static int begin(struct web *web, const struct replay_settings *settings, const char *id)
{
    json_t *wish = json_object(), *answer;
    if (settings->from)
        json_object_set_new(wish, "from", position(settings->from));
    if (settings->to)
        json_object_set_new(wish, "to", position(settings->to));
    if (settings->ids.count)
        json_object_set_new(wish, "ids", json_array());
    for (size_t i = 0; i < settings->ids.count; i++)
        json_array_append_new(json_object_get(wish, "ids"), json_string(settings->ids.items[i]));
    int code = web_ask_of(web, "POST", "/subscriptions/%s/replay", id, wish, NULL, &answer);
    json_decref(answer);
    return code;
}

static bool is_under_way(const json_t *record)
{
    const char *state = json_string_value(json_object_get(record, "state"));
    return state && (strcmp(state, "asked") == 0 || strcmp(state, "running") == 0);
}

int replay_subscription(struct web *web, const struct replay_settings *settings, const char *id, bool json)
{
    char path[WEB_URL_MAX] = "";
    json_t *record = NULL;
    bool begins = settings->from || settings->ids.count;
    int code = web_path(web, path, sizeof path, "/subscriptions/%s/replay", id) ? EXIT_DONE : EXIT_USAGE;
    if (settings->to && !begins) {
        console_complain(&web->console, "replay: from where? --from, or --event");
        return EXIT_USAGE;
    }
    if (settings->stop)
        return web_ask(web, &(struct web_request){.method = "DELETE", .path = path}, &record);
    if (begins)
        code = begin(web, settings, id);
    while (!code && !(code = web_ask(web, &(struct web_request){.method = "GET", .path = path}, &record)) && begins && !settings->no_wait && is_under_way(record)) {
        console_progress(&web->console, (uint64_t)json_integer_value(json_object_get(record, "replayed")), "events replayed");
        json_decref(record);
        record = NULL;
        if (!web_wait(web, LOOK_MS)) {
            console_complain(&web->console, "interrupted; the replay goes on, --stop stops it");
            return EXIT_FAILED;
        }
    }
    console_clear(&web->console);
    if (!code)
        code = print(web, record, json);
    json_decref(record);
    return code;
}
