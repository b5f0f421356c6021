/* Signals that the process gets. Those that come before the one before was seen are one. */
#include "sources/source_state.h"

#include <stdio.h>

struct signal_source {
    uint64_t epoch_us, count;
};

static const struct template_name names[] = {{"data", false}, {"signal", false}, {"source", false}, {NULL, false}};

static const char *name_of(int number)
{
    switch (number) {
    case 1: return "HUP";
    case 10: return "USR1";
    case 12: return "USR2";
    case 14: return "ALRM";
    case 18: return "CONT";
    case 28: return "WINCH";
    default: return "OTHER";
    }
}

static bool find(const void *owner, struct bytes name, struct bytes more, struct bytes *value)
{
    (void)name, (void)more;
    *value = bytes_of_text(owner);
    return true;
}

static void begin(struct source *source)
{
    struct signal_source *own = source_own(source);
    own->epoch_us = source->wall_us;
    source_begin(source, &(struct feed_request){.kind = FEED_SIGNAL, .number = source->declaration.signal});
    if (source->feed.transport)
        source_runs(source);
}

static void signalled(struct source *source, int number)
{
    struct signal_source *own = source_own(source);
    char id[48], data[64];
    snprintf(id, sizeof(id), "%llx-%llu", (unsigned long long)own->epoch_us, (unsigned long long)++own->count);
    snprintf(data, sizeof(data), "{\"signal\":\"%s\"}", name_of(number));
    if (!source_emit(source, &(struct source_item){.data = bytes_of_text(data), .find = find, .owner = name_of(number), .id = bytes_of_text(id)}))
        source_error(source, "There was too little memory for a signal, which is lost.");
}

const struct source_kind kind_signal = {
    .name = "signal", .settings = SETTING_SIGNAL, .names = names, .has_json = true, .is_local = true, .without_position = true,
    .defaults = {[TEMPLATE_TYPE] = "signal.{{signal}}", [TEMPLATE_DATA] = "{{data}}"}, .fallback = "signal.other", .size = sizeof(struct signal_source), .begin = begin, .signalled = signalled,
};
