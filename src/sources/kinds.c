#include "sources/kind.h"

#include <stddef.h>

const struct source_kind *const source_kinds[] = {
    &kind_sse, &kind_poll, &kind_timer, &kind_cron, &kind_file, &kind_directory, &kind_tcp, &kind_unix, &kind_stdin, &kind_process, &kind_signal, &kind_amqp, NULL,
};
