/* What the server is told: a file, the environment and the command line, each stronger than the one before it. */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include "base/err.h"

#include <stdint.h>
#include <stdio.h>

#define PORT_OFF UINT64_MAX

/* Texts are the config's own. Numbers of bytes, of seconds or of things, see the keys in config.c; 0 means the default where it says so. */
/* A source of the configuration: config_sources.c. */
struct config_source {
    char *id, *vhost, *text;  /* text: the declaration in JSON, once all is read */
    void *root;
    int line;
};

struct config {
    char *file;               /* --config; NULL: none */
    char *data_dir;           /* NULL: the caller decides */
    char *listen;             /* addresses separated by commas */
    char *log;                /* "file" or "memory" */
    char *disk;               /* "auto" or "threads" */
    char *webhook_networks;   /* that webhooks may be posted to; NULL: none */
    char *webhook_ca;         /* a file of authorities that sinks' certificates may come from beside the system's; NULL: none */
    char *definitions;        /* --load-definitions: a file; NULL: none */
    char *sources_local;      /* "on" or "off" */
    struct config_source *sources;   /* of its sections [source NAME] */
    unsigned source_count;
    char *http_guest;         /* "on" or "off" */
    char *http_origins;       /* NULL: none */
    char *http;               /* "on" or "off" */
    char *log_level;          /* "info", "warning" or "error" */
    char *tls_certificate, *tls_key, *tls_ca;   /* files; NULL: none */
    char *tls_verify;         /* "none", "optional" or "required" */
    uint64_t amqp_port, http_port, amqps_port, https_port;   /* PORT_OFF: not at all */
    uint64_t reactors;        /* 0: one a processor, but one */
    uint64_t shards;          /* 0: the broker's default; of a new data directory only */
    uint64_t log_file_size, log_file_count;   /* 0: the log's default */
    uint64_t max_message_size, consumer_timeout_ms, frame_max, channel_max, heartbeat_s;
    uint64_t memory_limit;    /* 0: the broker's default */
    uint64_t disk_free_limit;
    uint64_t address_connections;    /* of one address; 0: any number */
    uint64_t http_address_rate, http_user_rate;   /* requests a second; 0: any number */
    uint64_t http_failures;   /* wrong passwords and tokens of one address in a minute; 0: any number */
    uint64_t max_connections; /* 0: as many as there are descriptors */
    int listen_is_default, http_port_is_default;
};

/* What went wrong, as one line for the operator. */
struct config_complaint {
    char text[400];
};

/* Reads all three. argv[0] is the command's name. *help: --help was given, nothing else matters.
 * On any error (GW_ERR_INVALID, GW_ERR_NOMEM; the file's own: GW_ERR_NOT_FOUND, GW_ERR_PERMISSION, GW_ERR_IO) the config is as config_deinit leaves it: a line
 * that is not understood is never passed over. A variable GODWIT_… that nobody knows is not an error (other programs and service managers set such), but
 * one that looks like a key's is named by config_strange_variable. */
enum gw_err config_read(struct config *config, int argc, char **argv, char **environment, int *help, struct config_complaint *complaint);

void config_deinit(struct config *config);

/* The variable in `environment` whose name is nearly that of a key, or NULL; *meant is that key's variable, in `name` (of `size` bytes). */
const char *config_strange_variable(char **environment, char *name, size_t size);

/* The text of godwit serve --help. */
void config_print_help(FILE *out);

#endif
