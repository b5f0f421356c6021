/* Where consume and get put messages: lines or JSON objects on stdout, or a file each in a directory. */
#ifndef CLI_SINK_H
#define CLI_SINK_H

#include "client/remote.h"
#include "client/remote_buffer.h"

enum sink_kind { SINK_LINES, SINK_JSON, SINK_DIRECTORY };

struct sink {
    enum sink_kind kind;
    const char *directory;
    int directory_fd;
    uint64_t number;               /* of the next file */
    bool is_dirty;                 /* files were written since the directory was synced */
    bool writes_pieces;            /* stdout is a pipe: never write more than it surely takes */
    struct remote_buffer held;     /* text for stdout */
    char complaint[400];
};

/* `directory` is borrowed. Errors: those of opening it, and then sink->complaint says which. */
enum gw_err sink_init(struct sink *sink, enum sink_kind kind, const char *directory);
void sink_deinit(struct sink *sink);

/* Takes one message in. */
enum gw_err sink_put(struct sink *sink, const struct remote_message *message);

/* Returns once everything put so far is out of this process: written to stdout, or synced to the disk. Keeps `remote`
 * alive while whoever reads stdout is slow. */
enum gw_err sink_flush(struct sink *sink, struct remote *remote);

#endif
