/* The settings of godwit sink, whose command lies above this layer (server/receiver.c). */
#ifndef CLI_RECEIVER_H
#define CLI_RECEIVER_H

#include "cli/option.h"

struct receiver_settings {
    uint64_t port, status, first, retry_after_s, delay_ms, count;
    const char *listen, *mode;
    struct option_list secrets;
    bool json;
};

extern const struct receiver_settings receiver_defaults;

#endif
