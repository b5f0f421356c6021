#include "server/config_sources.h"

#include "runtime/zone.h"
#include "sources/declaration.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static enum gw_err no_memory(char *why, unsigned room)
{
    snprintf(why, room, "out of memory");
    return GW_ERR_NOMEM;
}

static enum gw_err wrong_value(char *why, unsigned room, const char *value, const char *what)
{
    snprintf(why, room, "'%.60s' %s", value, what);
    return GW_ERR_INVALID;
}

/* The section's, new or known. NULL: out of memory. */
static struct config_source *find(struct config *config, const char *id, int line)
{
    for (unsigned i = 0; i < config->source_count; i++)
        if (strcmp(config->sources[i].id, id) == 0)
            return &config->sources[i];
    struct config_source *grown = realloc(config->sources, (config->source_count + 1) * sizeof(*grown));
    if (!grown)
        return NULL;
    config->sources = grown;
    struct config_source *source = &grown[config->source_count];
    *source = (struct config_source){.id = strdup(id), .vhost = strdup("/"), .root = json_pack("{s:s}", "id", id), .line = line};
    if (source->id && source->vhost && source->root) {
        config->source_count++;
        return source;
    }
    free(source->id);
    free(source->vhost);
    json_decref(source->root);
    return NULL;
}

/* "Name: value" among the headers. False: it is none. */
static bool put_header(json_t *root, const char *value)
{
    const char *colon = strchr(value, ':');
    char name[256];
    if (!colon || colon == value || (size_t)(colon - value) >= sizeof(name))
        return false;
    snprintf(name, sizeof(name), "%.*s", (int)(colon - value), value);
    for (colon++; *colon == ' ' || *colon == '\t';)
        colon++;
    if (!json_object_get(root, "headers"))
        json_object_set_new(root, "headers", json_object());
    return json_object_set_new(json_object_get(root, "headers"), name, json_string(colon)) == 0;
}

static json_t *read_command(const char *value)
{
    if (value[0] == '[')
        return json_loads(value, 0, NULL);
    json_t *words = json_array();
    for (const char *at = value; *at;) {
        size_t size = strcspn(at, " \t");
        if (size)
            json_array_append_new(words, json_stringn(at, size));
        at += size + (at[size] != 0);
    }
    return words;
}

static json_t *value_of(const char *name, const char *value)
{
    if (strcmp(name, "command") == 0)
        return read_command(value);
    if (strcmp(name, "paused") == 0 && (strcmp(value, "true") == 0 || strcmp(value, "false") == 0))
        return json_boolean(value[0] == 't');
    if ((strcmp(name, "window") == 0 || strcmp(name, "line_max") == 0 || strcmp(name, "prefetch") == 0) && value[0] && strspn(value, "0123456789") == strlen(value) && strlen(value) < 18)
        return json_integer(strtoll(value, NULL, 10));
    return json_string(value);
}

enum gw_err config_source_begin(struct config *config, const char *id, int line, char *why, unsigned room)
{
    if (!source_id_is_possible(id))
        return wrong_value(why, room, id, "is no name of a source: up to 64 letters, digits, dots, dashes and underscores");
    return find(config, id, line) ? GW_OK : no_memory(why, room);
}

enum gw_err config_source_set(struct config *config, const char *id, int line, const char *name, const char *value, char *why, unsigned room)
{
    struct config_source *source = find(config, id, line);
    if (!source)
        return no_memory(why, room);
    if (strcmp(name, "vhost") == 0) {
        char *copy = strdup(value);
        if (!copy)
            return no_memory(why, room);
        free(source->vhost);
        source->vhost = copy;
        return GW_OK;
    }
    if (strcmp(name, "header") == 0)
        return put_header(source->root, value) ? GW_OK : wrong_value(why, room, value, "is no header such as Accept: text/html");
    if (strcmp(name, "id") == 0 || json_object_get(source->root, name))
        return wrong_value(why, room, name, "is given twice");
    json_t *made = value_of(name, value);
    if (!made || json_object_set_new(source->root, name, made) != 0)
        return wrong_value(why, room, name, "has a value that is not understood");
    return GW_OK;
}

enum gw_err config_sources_check(struct config *config, unsigned *wrong, char *why, unsigned room)
{
    for (*wrong = 0; *wrong < config->source_count; ++*wrong) {
        struct config_source *source = &config->sources[*wrong];
        struct declaration declaration;
        char sentence[SOURCE_WHY_MAX];
        struct system_zones *zones = system_zones_new();
        bool good = zones && declaration_read(&declaration, source->root, system_zones_io(zones), sentence);
        system_zones_free(zones);
        if (!zones)
            return no_memory(why, room);
        if (!good) {
            snprintf(why, room, "[source %.64s]: %.200s", source->id, sentence);
            return GW_ERR_INVALID;
        }
        declaration_deinit(&declaration);
        source->text = json_dumps(source->root, JSON_COMPACT);
        if (!source->text)
            return no_memory(why, room);
    }
    return GW_OK;
}

void config_sources_deinit(struct config *config)
{
    for (unsigned i = 0; i < config->source_count; i++) {
        free(config->sources[i].id);
        free(config->sources[i].vhost);
        free(config->sources[i].text);
        json_decref(config->sources[i].root);
    }
    free(config->sources);
}
