/* A replay of a subscription, for the commands that begin one. */
#ifndef CLI_REPLAY_H
#define CLI_REPLAY_H

#include "cli/web.h"

struct replay_settings {
    const char *from, *to;
    struct option_list ids;
    bool no_wait, stop;
};

/* The rows of an option table that fill `member`, a struct replay_settings inside struct `type`, but for `from`. */
#define REPLAY_OPTIONS(type, member) \
    {0, OPTION_TEXT, "to", "POSITION", "replay: end there (default: the end of the stream)", offsetof(struct type, member.to), 0, 0}, \
    {0, OPTION_LIST, "event", "ID", "replay: the event with this id; may be repeated", offsetof(struct type, member.ids), 0, 0}, \
    {0, OPTION_FLAG, "no-wait", NULL, "replay: do not wait until it is done", offsetof(struct type, member.no_wait), 0, 0}, \
    {0, OPTION_FLAG, "stop", NULL, "replay: stop the one that is under way", offsetof(struct type, member.stop), 0, 0}

/* Begins one and waits for its end; without a position or an event shows how far the last one is. Exit code. */
int replay_subscription(struct web *web, const struct replay_settings *settings, const char *id, bool json);

#endif
