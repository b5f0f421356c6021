#include "server/config.h"

#include "base/err.h"
#include "server/config_sources.h"
#include "server/nearest.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdbool.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define NAME_SIZE 64u
#define VARIABLE "GODWIT_"
#define VARIABLE_SIZE (sizeof(VARIABLE) - 1)
#define LINE_SIZE 8192u  /* bytes of a line in a file */
#define INIH_SIZE 190u   /* … and what inih takes at a time, at least */
#define SECTION_SIZE 100u

enum key_kind { KEY_TEXT, KEY_CHOICE, KEY_NUMBER, KEY_PORT /* a number, or off */ };

/* One row a key: it is NAME in a file, --NAME (with dashes) on the command line and GODWIT_NAME in the environment. */
struct key {
    const char *name;
    enum key_kind kind;
    size_t offset;
    uint64_t minimum, maximum;
    const char *value;      /* what help calls it; of a choice: its words, which | separates */
    const char *initial;    /* NULL: none */
    const char *help;
};

#define PLACE(field) offsetof(struct config, field)

static const struct key keys[] = {
    {"config", KEY_TEXT, PLACE(file), 0, 0, "FILE", NULL, "read settings from this file: lines of the form key = value, with the names below, dashes or underscores"},
    {"data_dir", KEY_TEXT, PLACE(data_dir), 0, 0, "DIR", NULL, "where messages are kept; made if missing. Default: /var/lib/godwit as root under a service manager, ./godwit-data otherwise"},
    {"amqp_port", KEY_PORT, PLACE(amqp_port), 0, 65535, "PORT|off", "5672", "TCP port of AMQP 0-9-1; 0: any free one; off: it is not listened for"},
    {"http_port", KEY_PORT, PLACE(http_port), 0, 65535, "PORT|off", "15672", "TCP port of HTTP; 0: any free one. The default one is done without when another program has it"},
    {"amqps_port", KEY_PORT, PLACE(amqps_port), 0, 65535, "PORT|off", "off", "TCP port of AMQP 0-9-1 with TLS, usually 5671; 0: any free one"},
    {"https_port", KEY_PORT, PLACE(https_port), 0, 65535, "PORT|off", "off", "TCP port of HTTP with TLS, such as 15671; 0: any free one"},
    {"tls_certificate", KEY_TEXT, PLACE(tls_certificate), 0, 0, "FILE", NULL, "the certificate, with those that lead up to its authority behind it (PEM)"},
    {"tls_key", KEY_TEXT, PLACE(tls_key), 0, 0, "FILE", NULL, "its key, not encrypted (PEM)"},
    {"tls_ca", KEY_TEXT, PLACE(tls_ca), 0, 0, "FILE", NULL, "the authorities whose certificates clients may show (PEM)"},
    {"tls_verify", KEY_CHOICE, PLACE(tls_verify), 0, 0, "none|optional|required", "none", "whether clients are asked for a certificate, and must show one"},
    {"http_guest", KEY_CHOICE, PLACE(http_guest), 0, 0, "on|off", "on", "a request by HTTP from this machine that says no user is guest, as long as its password is guest; off behind a proxy"},
    {"http_origins", KEY_TEXT, PLACE(http_origins), 0, 0, "ORIGINS", NULL, "pages of these origins may use HTTP, such as https://app.example, separated by commas; *: all. Default: none but its own"},
    {"http", KEY_CHOICE, PLACE(http), 0, 0, "on|off", "on", "listen for HTTP"},
    {"webhook_networks", KEY_TEXT, PLACE(webhook_networks), 0, 0, "NETWORKS", NULL,
     "addresses and networks (10.0.0.0/8) that webhooks may be posted to beside the public internet, separated by commas"},
    {"webhook_ca", KEY_TEXT, PLACE(webhook_ca), 0, 0, "FILE", NULL, "authorities (PEM) whose certificates https sinks of webhooks, and servers of sources, may have, beside the system's"},
    {"sources_local", KEY_CHOICE, PLACE(sources_local), 0, 0, "on|off", "off", "sources that are declared by HTTP may read files, start programs and listen on this machine"},
    {"listen", KEY_TEXT, PLACE(listen), 0, 0, "ADDRESSES", "0.0.0.0,::", "IPv4 and IPv6 addresses to listen on, separated by commas"},
    {"reactors", KEY_NUMBER, PLACE(reactors), 0, 64, "N", "0", "threads; 0: one for each processor but one"},
    {"shards", KEY_NUMBER, PLACE(shards), 0, 256, "N", "0", "units of order of a new data directory; 0: chosen; an existing one keeps its own"},
    {"log", KEY_CHOICE, PLACE(log), 0, 0, "file|memory", "file", "keep durable things in files, or keep nothing at all"},
    {"log_file_size", KEY_NUMBER, PLACE(log_file_size), 0, 16ull << 30, "BYTES", "0", "size of a log file, a multiple of 1Mi; 0: chosen"},
    {"log_file_count", KEY_NUMBER, PLACE(log_file_count), 0, 1024, "N", "0", "log files of a shard that are filled before what still waits is moved to segments; 0: chosen"},
    {"max_message_size", KEY_NUMBER, PLACE(max_message_size), 1, 4ull << 30, "BYTES", "128Mi", "longest body of a message"},
    {"consumer_timeout", KEY_NUMBER, PLACE(consumer_timeout_ms), 0, 1ull << 31, "MS", "1800000", "how long a delivery may wait for its acknowledgement before its channel is closed; 0: for ever"},
    {"frame_max", KEY_NUMBER, PLACE(frame_max), 4096, 16ull << 20, "BYTES", "131072", "longest frame, proposed to clients"},
    {"channel_max", KEY_NUMBER, PLACE(channel_max), 1, 65535, "N", "2047", "channels of a connection, proposed to clients"},
    {"heartbeat", KEY_NUMBER, PLACE(heartbeat_s), 0, 65535, "SECONDS", "60", "proposed to clients; 0: none"},
    {"memory_limit", KEY_NUMBER, PLACE(memory_limit), 0, 1ull << 50, "BYTES", "0", "message bodies kept in memory before queues page out; 0: chosen"},
    {"disk_free_limit", KEY_NUMBER, PLACE(disk_free_limit), 0, 1ull << 50, "BYTES", "50M", "free space below which publishers are blocked"},
    {"max_connections", KEY_NUMBER, PLACE(max_connections), 0, 10000000, "N", "0", "more wait until one closes; 0: as many as the limit on open files allows"},
    {"max_connections_per_address", KEY_NUMBER, PLACE(address_connections), 0, 10000000, "N", "0", "more of one address are closed at once; 0: any number"},
    {"http_rate_per_address", KEY_NUMBER, PLACE(http_address_rate), 0, 1000000, "N", "0", "requests a second of one address; 0: any number"},
    {"http_rate_per_user", KEY_NUMBER, PLACE(http_user_rate), 0, 1000000, "N", "0", "requests a second of one user; 0: any number"},
    {"http_failures_per_address", KEY_NUMBER, PLACE(http_failures), 0, 1000000, "N", "60", "passwords and tokens of one address that may be wrong in a minute, by HTTP and AMQP; 0: any number"},
    {"load_definitions", KEY_TEXT, PLACE(definitions), 0, 0, "FILE", NULL, "declare at every start what this file says, which is one that export_definitions writes"},
    {"disk", KEY_CHOICE, PLACE(disk), 0, 0, "auto|threads", "auto", "write with io_uring where the system lets us, or always with threads"},
    {"log_level", KEY_CHOICE, PLACE(log_level), 0, 0, "info|warning|error", "info", "least important lines to write to stderr"},
};

#define KEY_COUNT (sizeof(keys) / sizeof(keys[0]))

__attribute__((format(printf, 2, 3)))
static enum gw_err complain(struct config_complaint *complaint, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(complaint->text, sizeof(complaint->text), format, arguments);
    va_end(arguments);
    return GW_ERR_INVALID;
}

/* ---- Names ---- */

/* The key's name as it is spelled in a file (_), on the command line (-) or, in capitals, in the environment. */
static void spell(const char *name, char separator, bool capitals, char out[NAME_SIZE])
{
    unsigned i = 0;
    for (; name[i] && i < NAME_SIZE - 1; i++) {
        char c = name[i] == '_' || name[i] == '-' ? separator : name[i];
        out[i] = capitals ? (char)toupper((unsigned char)c) : c;
    }
    out[i] = '\0';
}

static const struct key *find_key(const char *name)
{
    char wanted[NAME_SIZE];
    spell(name, '_', false, wanted);
    for (size_t i = 0; i < KEY_COUNT && strlen(name) < NAME_SIZE; i++) {
        if (strcmp(keys[i].name, wanted) == 0)
            return &keys[i];
    }
    return NULL;
}

static const struct key *nearest_key(const char *name)
{
    const struct key *best = NULL;
    unsigned best_distance = 0;
    char wanted[NAME_SIZE];
    spell(name, '_', false, wanted);
    for (size_t i = 0; i < KEY_COUNT; i++) {
        unsigned distance = nearest_distance(wanted, keys[i].name);
        if (!best || distance < best_distance) {
            best = &keys[i];
            best_distance = distance;
        }
    }
    return best;
}

/* ---- Values ---- */

/* Digits, then perhaps k, M, G, T (thousands) or Ki, Mi, Gi, Ti. */
static bool parse_number(const char *text, uint64_t *value)
{
    static const struct { const char *suffix; uint64_t factor; } units[] = {
        {"", 1}, {"k", 1000}, {"M", 1000000}, {"G", 1000000000}, {"T", 1000000000000},
        {"Ki", 1ull << 10}, {"Mi", 1ull << 20}, {"Gi", 1ull << 30}, {"Ti", 1ull << 40},
    };
    uint64_t sum = 0;
    const char *p = text;
    for (; isdigit((unsigned char)*p); p++) {
        if (__builtin_mul_overflow(sum, 10, &sum) || __builtin_add_overflow(sum, (uint64_t)(*p - '0'), &sum))
            return false;
    }
    for (size_t i = 0; p > text && i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(p, units[i].suffix) == 0)
            return !__builtin_mul_overflow(sum, units[i].factor, value);
    }
    return false;
}

static bool is_choice(const char *choices, const char *text)
{
    size_t size = strlen(text);
    for (const char *word = choices;; word++) {
        size_t word_size = strcspn(word, "|");
        if (word_size == size && memcmp(word, text, size) == 0)
            return true;
        word += word_size;
        if (*word == '\0')
            return false;
    }
}

/* `where` is the setting as the operator wrote it. */
static enum gw_err assign(struct config *config, const struct key *key, const char *where, const char *text,
                          struct config_complaint *complaint)
{
    void *place = (char *)config + key->offset;
    if (key->kind == KEY_PORT && strcmp(text, "off") == 0) {
        *(uint64_t *)place = PORT_OFF;
        return GW_OK;
    }
    if (key->kind == KEY_NUMBER || key->kind == KEY_PORT) {
        uint64_t value;
        if (!parse_number(text, &value))
            return complain(complaint, "%s takes a number such as 1000, 64Ki or 5M, not '%.100s'", where, text);
        if (value < key->minimum || value > key->maximum)
            return complain(complaint, "%s is from %" PRIu64 " to %" PRIu64 ", not '%.100s'", where, key->minimum, key->maximum, text);
        *(uint64_t *)place = value;
        if (key->offset == PLACE(http_port))
            config->http_port_is_default = 0;
        return GW_OK;
    }
    if (key->kind == KEY_CHOICE && !is_choice(key->value, text))
        return complain(complaint, "%s is one of %s, not '%.100s'", where, key->value, text);
    if (text[0] == '\0')
        return complain(complaint, "%s has no value", where);
    char *copy = strdup(text);
    if (!copy) {
        complain(complaint, "out of memory");
        return GW_ERR_NOMEM;
    }
    free(*(char **)place);
    *(char **)place = copy;
    if (key->offset == PLACE(listen))
        config->listen_is_default = 0;
    return GW_OK;
}

/* ---- The file ---- */

struct reading {
    struct config *config;
    struct config_complaint *complaint;
    const char *path;
    FILE *file;
    int line;
    char text[LINE_SIZE + 2];        /* the line, whole */
    char section[SECTION_SIZE];      /* inih would cut its name off */
    const char *value;               /* in `text`, of a line that is too long for inih; NULL: what inih says */
    bool seen[KEY_COUNT];
    enum gw_err err;
};

/* "[section]": begins with its name, not with its first setting, of which there may be none. */
static enum gw_err begin_section(struct reading *r, const char *text)
{
    char why[300];
    size_t size = strcspn(text + 1, "]\r\n");
    if (size >= sizeof(r->section))
        return complain(r->complaint, "%s:%d: the name of a section has at most %u bytes", r->path, r->line, SECTION_SIZE - 1);
    memcpy(r->section, text + 1, size);
    r->section[size] = '\0';
    if (strncmp(r->section, "source ", 7) != 0)
        return complain(r->complaint, "%s:%d: there are no sections but [source NAME]; remove [%.50s]", r->path, r->line, r->section);
    enum gw_err err = config_source_begin(r->config, r->section + 7, r->line, why, sizeof(why));
    return err == GW_OK ? GW_OK : err == GW_ERR_NOMEM ? err : complain(r->complaint, "%s:%d: %s", r->path, r->line, why);
}

/* A line that is too long for inih, which gets its name with another value. False: it has no name. */
static bool shorten(struct reading *r, char *line)
{
    char *equals = strpbrk(r->text, "=:");
    if (r->text[0] == '#' || r->text[0] == ';') {
        strcpy(line, "\n");
        return true;
    }
    if (!equals || (size_t)(equals - r->text) > INIH_SIZE / 2)
        return false;
    snprintf(line, INIH_SIZE, "%.*s= x\n", (int)(equals - r->text), r->text);
    char *value = equals + 1 + strspn(equals + 1, " \t"), *end = value + strlen(value);
    /* As inih has it, a comment begins with a semicolon behind a space. */
    for (char *at = value; *at; at++)
        if (*at == ';' && isspace((unsigned char)at[-1])) {
            end = at;
            break;
        }
    while (end > value && isspace((unsigned char)end[-1]))
        end--;
    *end = '\0';
    r->value = value;
    return true;
}

/* Hands inih a line at a time. It would cut a longer one than it has room for into two, of which the second could pass for another setting. */
static char *read_line(char *line, int room, void *stream)
{
    static const char mark[] = "\xef\xbb\xbf";
    struct reading *r = stream;
    CHECK(room > (int)INIH_SIZE);
    if (r->err != GW_OK || !fgets(r->text, sizeof(r->text), r->file))
        return NULL;
    r->line++;
    size_t size = strlen(r->text);
    const char *begin = r->line == 1 && strncmp(r->text, mark, 3) == 0 ? r->text + 3 : r->text;
    bool fits = size <= LINE_SIZE && (size == 0 || r->text[size - 1] == '\n' || feof(r->file));
    if (!fits)
        r->err = complain(r->complaint, "%s:%d: the line is longer than %u bytes, or has a zero byte in it", r->path, r->line, LINE_SIZE);
    else if (isspace((unsigned char)r->text[0]) && r->text[strspn(r->text, " \t\r\n")] != '\0')
        r->err = complain(r->complaint, "%s:%d: a setting begins at the start of its line", r->path, r->line);
    else if (size >= INIH_SIZE && !shorten(r, line))
        r->err = complain(r->complaint, "%s:%d: not of the form key = value", r->path, r->line);
    else if (begin[0] == '[')
        r->err = begin_section(r, begin);
    if (size < INIH_SIZE)
        memcpy(line, r->text, size + 1);
    return r->err == GW_OK ? line : NULL;
}

static int on_setting(void *user, const char *cut_section, const char *name, const char *inih_value)
{
    struct reading *r = user;
    const char *section = r->section, *value = r->value ? r->value : inih_value;
    (void)cut_section;
    r->value = NULL;
    char where[NAME_SIZE * 2 + 300];
    if (r->err != GW_OK)
        return 0;
    if (section[0] != '\0') {
        char why[300];
        r->err = config_source_set(r->config, section + 7, r->line, name, value, why, sizeof(why));
        if (r->err != GW_OK)
            complain(r->complaint, "%s:%d: %s", r->path, r->line, why);
        return r->err == GW_OK;
    }
    const struct key *key = find_key(name);
    snprintf(where, sizeof(where), "%.200s:%d: %.100s", r->path, r->line, name);
    if (!key)
        r->err = complain(r->complaint, "%s:%d: unknown key '%.60s'; the nearest is '%s'", r->path, r->line, name, nearest_key(name)->name);
    else if (key->offset == PLACE(file))
        r->err = complain(r->complaint, "%s:%d: a file cannot name another one", r->path, r->line);
    else if (r->seen[key - keys])
        r->err = complain(r->complaint, "%s is given twice", where);
    else
        r->err = assign(r->config, key, where, value, r->complaint);
    if (key)
        r->seen[key - keys] = true;
    return r->err == GW_OK;
}

static enum gw_err read_file(struct config *config, const char *path, struct config_complaint *complaint)
{
    struct reading r = {.config = config, .complaint = complaint, .path = path};
    r.file = fopen(path, "re");
    if (!r.file) {
        enum gw_err err = gw_err_from_errno(errno);
        complain(complaint, "cannot read %.200s: %s", path, strerror(errno));
        return err;
    }
    int line = ini_parse_stream(read_line, &r, on_setting, &r);
    if (r.err == GW_OK && ferror(r.file)) {
        complain(complaint, "cannot read %.200s: %s", path, strerror(errno));
        r.err = GW_ERR_IO;
    }
    /* inih goes on after a line that it does not understand; ours is the first mistake only if it is not behind that one. */
    if (line > 0 && (r.err == GW_OK || line < r.line))
        r.err = complain(complaint, "%s:%d: not of the form key = value", path, line);
    else if (line < 0 && r.err == GW_OK)
        r.err = GW_ERR_NOMEM;
    char why[300];
    unsigned wrong = 0;
    if (r.err == GW_OK && (r.err = config_sources_check(config, &wrong, why, sizeof(why))) != GW_OK)
        complain(complaint, "%s:%d: %s", path, config->sources[wrong].line, why);
    fclose(r.file);
    return r.err;
}

/* ---- Environment and command line ---- */

static const char *find_variable(char **environment, const char *name)
{
    size_t size = strlen(name);
    for (char **variable = environment; *variable; variable++) {
        if (strncmp(*variable, name, size) == 0 && (*variable)[size] == '=')
            return *variable + size + 1;
    }
    return NULL;
}

static enum gw_err read_environment(struct config *config, char **environment, bool only_file, struct config_complaint *complaint)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        char name[VARIABLE_SIZE + NAME_SIZE] = VARIABLE;
        if ((keys[i].offset == PLACE(file)) != only_file)
            continue;
        spell(keys[i].name, '_', true, name + VARIABLE_SIZE);
        const char *value = find_variable(environment, name);
        enum gw_err err = value ? assign(config, &keys[i], name, value, complaint) : GW_OK;
        if (err != GW_OK)
            return err;
    }
    return GW_OK;
}

static enum gw_err read_arguments(struct config *config, int argc, char **argv, bool only_file, int *help, struct config_complaint *complaint)
{
    for (int i = 1; i < argc; i++) {
        char name[NAME_SIZE], option[NAME_SIZE];
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            *help = 1;
            return GW_OK;
        }
        if (strncmp(argv[i], "--", 2) != 0)
            return complain(complaint, "unexpected '%.100s'; options begin with --", argv[i]);
        size_t size = strcspn(argv[i] + 2, "=");
        snprintf(name, sizeof(name), "%.*s", (int)(size < NAME_SIZE ? size : NAME_SIZE - 1), argv[i] + 2);
        const struct key *key = size < NAME_SIZE ? find_key(name) : NULL;
        if (!key) {
            spell(nearest_key(name)->name, '-', false, option);
            return complain(complaint, "unknown option '--%s'; the nearest is '--%s'", name, option);
        }
        spell(key->name, '-', false, option);
        const char *value = argv[i][2 + size] == '=' ? argv[i] + 3 + size : i + 1 < argc ? argv[++i] : NULL;
        if (!value)
            return complain(complaint, "--%s takes a value: %s", option, key->value);
        char where[NAME_SIZE + 2];
        snprintf(where, sizeof(where), "--%s", option);
        if ((key->offset == PLACE(file)) != only_file)
            continue;
        enum gw_err err = assign(config, key, where, value, complaint);
        if (err != GW_OK)
            return err;
    }
    return GW_OK;
}

/* What no key's own range says. */
static enum gw_err check_whole(const struct config *config, struct config_complaint *complaint)
{
    if (config->log_file_size % (1u << 20) != 0)
        return complain(complaint, "log_file_size is a multiple of 1Mi, not '%" PRIu64 "'", config->log_file_size);
    if (config->log_file_count == 1)
        return complain(complaint, "log_file_count is at least 2, or 0 to have it chosen");
    bool sealed = config->amqps_port != PORT_OFF || config->https_port != PORT_OFF;
    if (sealed && (!config->tls_certificate || !config->tls_key))
        return complain(complaint, "%s needs tls_certificate and tls_key", config->amqps_port != PORT_OFF ? "amqps_port" : "https_port");
    if (strcmp(config->tls_verify, "none") != 0 && !config->tls_ca)
        return complain(complaint, "tls_verify = %s needs tls_ca", config->tls_verify);
    bool http = config->http_port != PORT_OFF && strcmp(config->http, "off") != 0;
    if (config->amqp_port == PORT_OFF && !http && !sealed)
        return complain(complaint, "every port is off");
    return GW_OK;
}

enum gw_err config_read(struct config *config, int argc, char **argv, char **environment, int *help, struct config_complaint *complaint)
{
    enum gw_err err = GW_OK;
    *config = (struct config){0};
    *help = 0;
    for (size_t i = 0; i < KEY_COUNT && err == GW_OK; i++) {
        if (keys[i].initial)
            err = assign(config, &keys[i], keys[i].name, keys[i].initial, complaint);
    }
    config->listen_is_default = config->http_port_is_default = 1;
    /* Where the file is must be known before it is read, and it is weaker than the rest. */
    if (err == GW_OK)
        err = read_environment(config, environment, true, complaint);
    if (err == GW_OK)
        err = read_arguments(config, argc, argv, true, help, complaint);
    if (err == GW_OK && *help)
        return GW_OK;
    if (err == GW_OK && config->file)
        err = read_file(config, config->file, complaint);
    if (err == GW_OK)
        err = read_environment(config, environment, false, complaint);
    if (err == GW_OK)
        err = read_arguments(config, argc, argv, false, help, complaint);
    if (err == GW_OK)
        err = check_whole(config, complaint);
    if (err != GW_OK)
        config_deinit(config);
    return err;
}

void config_deinit(struct config *config)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (keys[i].kind != KEY_NUMBER && keys[i].kind != KEY_PORT)
            free(*(char **)((char *)config + keys[i].offset));
    }
    config_sources_deinit(config);
    *config = (struct config){0};
}

const char *config_strange_variable(char **environment, char *name, size_t size)
{
    for (char **variable = environment; *variable; variable++) {
        char lower[NAME_SIZE], spelled[VARIABLE_SIZE + NAME_SIZE] = VARIABLE;
        size_t length = strcspn(*variable, "=");
        if (strncmp(*variable, VARIABLE, VARIABLE_SIZE) != 0 || length == VARIABLE_SIZE ||
            length - VARIABLE_SIZE >= NAME_SIZE)
            continue;
        for (size_t i = VARIABLE_SIZE; i < length; i++)
            lower[i - VARIABLE_SIZE] = (char)tolower((unsigned char)(*variable)[i]);
        lower[length - VARIABLE_SIZE] = '\0';
        const struct key *key = nearest_key(lower);
        unsigned distance = nearest_distance(lower, key->name);
        if (distance == 0 || distance > 2)
            continue;
        spell(key->name, '_', true, spelled + VARIABLE_SIZE);
        snprintf(name, size, "%s", spelled);
        return *variable;
    }
    return NULL;
}

static void print_wrapped(FILE *out, const char *text, unsigned column)
{
    const unsigned width = 100;
    unsigned at = column;
    while (*text) {
        unsigned word = (unsigned)strcspn(text, " ");
        if (at > column && at + word >= width) {
            fprintf(out, "\n%*s", (int)column, "");
            at = column;
        }
        fprintf(out, "%s%.*s", at > column ? " " : "", (int)word, text);
        at += word + (at > column);
        text += word;
        text += *text == ' ';
    }
}

void config_print_help(FILE *out)
{
    fputs("Usage: godwit serve [OPTION...]\n\n"
          "Runs the broker until it is told to stop (SIGTERM, SIGINT). Prints 'ready' and its addresses once it accepts connections.\n"
          "Each option is also a key of the configuration file (--data-dir is data_dir = ...) and an environment variable\n"
          "(GODWIT_DATA_DIR). The command line is stronger than the environment, and that than the file.\n\nOptions:\n", out);
    for (size_t i = 0; i < KEY_COUNT; i++) {
        char option[NAME_SIZE], both[NAME_SIZE * 2];
        spell(keys[i].name, '-', false, option);
        snprintf(both, sizeof(both), "--%s %s", option, keys[i].value);
        fprintf(out, "  %-30s ", both);
        if (strlen(both) > 30)
            fprintf(out, "\n%33s", "");
        print_wrapped(out, keys[i].help, 33);
        if (keys[i].initial)
            fprintf(out, " [%s]", keys[i].initial);
        fputc('\n', out);
    }
    fputs("\nExit codes: 0 stopped when asked to, 1 cannot run or had to stop, 2 wrong option or configuration.\n", out);
}
