/* The sections [source NAME] of the configuration's file: a declaration of a source each (sources/declaration.h), with a line for each of its members.
 *
 *   [source prices]
 *   kind = sse
 *   url = https://example.com/events
 *   header = Authorization: Bearer …         several of them, if need be
 *   command = tail -F /var/log/messages      words, or an array in JSON
 *   vhost = /                                the virtual host that it belongs to */
#ifndef SERVER_CONFIG_SOURCES_H
#define SERVER_CONFIG_SOURCES_H

#include "server/config.h"

/* A section begins. As below. */
enum gw_err config_source_begin(struct config *config, const char *id, int line, char *why, unsigned room);

/* One line. GW_ERR_INVALID, GW_ERR_NOMEM: `why` says so in a sentence part. */
enum gw_err config_source_set(struct config *config, const char *id, int line, const char *name, const char *value, char *why, unsigned room);

/* All lines are read: is each of them a source? *wrong is the first that is none. */
enum gw_err config_sources_check(struct config *config, unsigned *wrong, char *why, unsigned room);

void config_sources_deinit(struct config *config);

#endif
